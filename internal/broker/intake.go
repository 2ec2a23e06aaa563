package broker

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
)

// readBuffer is how much is read at once. Greater packets get a buffer of their own.
const readBuffer = 4 << 10

var readBuffers = sync.Pool{New: func() any { return new([readBuffer]byte) }}

// errDrained is no error: there is nothing to read.
var errDrained = errors.New("broker: nothing to read")

// intake is the way into a connection: packets as they come, out of a buffer that it
// holds only while there are bytes in it. A fleet is quiet most of the time, and a
// connection that waits costs no buffer.
//
// A plain socket is asked by its descriptor, so that waiting needs no memory at all.
// Any other connection (TLS, WebSocket, a pipe) is waited for with a read of the two
// bytes that every packet has.
type intake struct {
	conn  net.Conn
	raw   syscall.RawConn       // nil: not a plain socket
	read  func(fd uintptr) bool // what raw calls when there may be bytes
	limit int                   // bytes of a packet

	pooled     *[readBuffer]byte // what buf is part of, if it is from the pool
	buf        []byte            // nil while idle
	start, end int               // what is there and not yet taken
	size       int               // of the packet that it begins with; 0 = not known yet
	probe      [2]byte
	polled     bool  // somebody else waits: fill returns errDrained instead
	drained    bool  // the last read took all there was
	again      bool  // of the last read by descriptor: there was nothing
	err        error // of the last read by descriptor
}

func (in *intake) init(conn net.Conn, limit int) {
	in.conn, in.limit = conn, limit
	if in.raw = socket(conn); in.raw != nil {
		in.read = in.readDescriptor
	}
}

// take returns the next packet if all of it is there. Its body is valid until the
// following call of fill or release. The error is a protocolError.
func (in *intake) take() (f frame, ok bool, err error) {
	have := in.end - in.start
	f, in.size, err = parseFrame(in.buf[in.start:in.end], in.limit)
	if err != nil || in.size == 0 || in.size > have {
		return f, false, err
	}
	in.start += in.size
	return f, true, nil
}

// partial reports whether the beginning of a packet is there.
func (in *intake) partial() bool { return in.start < in.end }

// fill waits for bytes and reads them, after take has found too few. Errors are those of
// the connection, io.EOF at its end.
func (in *intake) fill() error {
	if !in.partial() {
		in.release()
		return in.wait()
	}
	if in.start > 0 {
		in.end = copy(in.buf, in.buf[in.start:in.end])
		in.start = 0
	}
	if in.end == len(in.buf) {
		// What has come is doubled; what has been announced need not ever come.
		grown := make([]byte, min(2*len(in.buf), max(in.size, readBuffer)))
		in.end = copy(grown, in.buf[:in.end])
		in.free()
		in.buf = grown
	}
	n, err := in.conn.Read(in.buf[in.end:])
	in.end += n
	in.drained = in.end < len(in.buf)
	if n > 0 {
		return nil
	}
	return err
}

// wait waits for bytes without holding a buffer, then reads them.
func (in *intake) wait() error {
	if in.raw != nil {
		err := in.raw.Read(in.read)
		switch {
		case err != nil:
			return err
		case in.again:
			in.drained = true
			return errDrained
		case in.end == 0:
			in.release()
			return in.err
		}
		return nil
	}
	n, err := in.conn.Read(in.probe[:])
	if n == 0 {
		return err
	}
	in.acquire()
	in.end = copy(in.buf, in.probe[:n])
	return nil
}

// readDescriptor reads what the socket has. It returns false to be called again when
// there is something.
func (in *intake) readDescriptor(fd uintptr) bool {
	in.acquire()
	n, again, err := readSocket(fd, in.buf)
	if in.again = again; again {
		in.release()
		return in.polled
	}
	in.end, in.err, in.drained = n, err, n < len(in.buf)
	if n == 0 && err == nil {
		in.err = io.EOF
	}
	return true
}

func (in *intake) acquire() {
	if in.buf == nil {
		in.pooled = readBuffers.Get().(*[readBuffer]byte)
		in.buf = in.pooled[:]
	}
}

// release gives the buffer back; nothing that is in it may be needed any more.
func (in *intake) release() {
	in.free()
	in.buf, in.start, in.end = nil, 0, 0
}

func (in *intake) free() {
	if in.pooled != nil {
		readBuffers.Put(in.pooled)
		in.pooled = nil
	}
}
