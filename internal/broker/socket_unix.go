//go:build unix

package broker

import (
	"errors"
	"net"
	"syscall"
)

// socket returns the descriptor of a plain TCP or Unix socket, nil for any other
// connection.
func socket(conn net.Conn) syscall.RawConn {
	var c syscall.Conn
	switch conn := conn.(type) {
	case *net.TCPConn:
		c = conn
	case *net.UnixConn:
		c = conn
	case *proxied:
		if conn.remote == nil { // as long as the header has not been read, there is more to it
			return nil
		}
		c = conn.TCPConn
	default:
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil // closed already: whoever reads it will be told
	}
	return raw
}

// readSocket reads without waiting; again says that there is nothing yet.
func readSocket(fd uintptr, b []byte) (n int, again bool, err error) {
	for {
		n, err = syscall.Read(int(fd), b)
		switch {
		case err == nil:
			return n, false, nil
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			return 0, true, nil
		default:
			return 0, false, err
		}
	}
}

// writeSocket writes what the socket takes without waiting.
func writeSocket(fd uintptr, b []byte) (n int, err error) {
	for n < len(b) {
		wrote, err := syscall.Write(int(fd), b[n:])
		switch {
		case err == nil:
			n += wrote
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			return n, nil
		default:
			return n, err
		}
	}
	return n, nil
}
