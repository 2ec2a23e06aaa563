package broker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// ProxyListener returns a listener behind proxies that say, in front of what they pass on,
// for whom they speak: the PROXY protocol of HAProxy, version 1 or 2, which load balancers
// and AWS NLB speak, too. A connection from one of the trusted networks must begin with such
// a header, and its RemoteAddr is what the header says; any other connection is as it is.
// Under TLS, the header comes before the handshake. The listener may be of HTTP as well.
func ProxyListener(l net.Listener, trusted []netip.Prefix) net.Listener {
	return &proxyListener{l, trusted}
}

type proxyListener struct {
	net.Listener
	trusted []netip.Prefix
}

func (l *proxyListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	tcp, ok := conn.(*net.TCPConn)
	if err != nil || !ok {
		return conn, err
	}
	from := tcp.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	for _, network := range l.trusted {
		if network.Contains(from) {
			return &proxied{TCPConn: tcp}, nil
		}
	}
	return tcp, nil
}

// proxied is a connection from a proxy. The header is read by whoever needs what it says or
// what follows it, and nothing beyond it: from then on the socket is that of the client.
type proxied struct {
	*net.TCPConn

	once   sync.Once
	remote net.Addr // nil: the proxy's own connection
	err    error
}

// proxyTimeout bounds how long the header may take if who asks has set no deadline.
const proxyTimeout = 10 * time.Second

var errProxy = errors.New("broker: no PROXY header from a trusted proxy")

func (c *proxied) header() error {
	c.once.Do(func() {
		if c.remote, c.err = readProxyHeader(c.TCPConn); c.err != nil {
			c.err = fmt.Errorf("%w: %w", errProxy, c.err)
		}
	})
	return c.err
}

func (c *proxied) Read(p []byte) (int, error) {
	if err := c.header(); err != nil {
		return 0, err
	}
	return c.TCPConn.Read(p)
}

// RemoteAddr returns the client's address, waiting for the header.
func (c *proxied) RemoteAddr() net.Addr {
	c.once.Do(func() {
		if c.err = c.SetReadDeadline(time.Now().Add(proxyTimeout)); c.err == nil {
			c.remote, c.err = readProxyHeader(c.TCPConn)
			c.err = errors.Join(c.err, c.SetReadDeadline(time.Time{}))
		}
	})
	if c.remote == nil {
		return c.TCPConn.RemoteAddr()
	}
	return c.remote
}

const (
	proxySignature = "\r\n\r\n\x00\r\nQUIT\n" // version 2
	maxProxyLine   = 107                      // version 1, with CRLF
)

// readProxyHeader reads a header and not a byte more. It returns nil if the header says
// nothing of the client, such as for the health checks of a proxy.
func readProxyHeader(r io.Reader) (net.Addr, error) {
	var start [len(proxySignature)]byte // either version is longer
	if _, err := io.ReadFull(r, start[:]); err != nil {
		return nil, err
	}
	if string(start[:]) == proxySignature {
		return readProxyBinary(r)
	}
	line := append(make([]byte, 0, maxProxyLine), start[:]...)
	if !strings.HasPrefix(string(line), "PROXY ") {
		return nil, errors.New("no signature")
	}
	for line[len(line)-1] != '\n' {
		if len(line) == maxProxyLine {
			return nil, errors.New("line too long")
		}
		if _, err := io.ReadFull(r, line[len(line):len(line)+1]); err != nil {
			return nil, err
		}
		line = line[:len(line)+1]
	}
	return parseProxyLine(string(line))
}

// parseProxyLine takes "PROXY TCP4 source destination source-port destination-port\r\n".
func parseProxyLine(line string) (net.Addr, error) {
	text, ok := strings.CutSuffix(line, "\r\n")
	fields := strings.Split(text, " ")
	if !ok {
		return nil, errors.New("line without CRLF")
	}
	if len(fields) >= 2 && fields[1] == "UNKNOWN" {
		return nil, nil
	}
	if len(fields) != 6 || fields[1] != "TCP4" && fields[1] != "TCP6" {
		return nil, fmt.Errorf("%q is not understood", text)
	}
	var ends [2]netip.AddrPort
	for i := range ends {
		end, err := netip.ParseAddrPort(net.JoinHostPort(fields[2+i], fields[4+i]))
		if err != nil {
			return nil, err
		}
		if end.Addr().Is4() != (fields[1] == "TCP4") {
			return nil, fmt.Errorf("%q has an address of another family", text)
		}
		ends[i] = end
	}
	return net.TCPAddrFromAddrPort(ends[0]), nil
}

// readProxyBinary reads what follows the signature of version 2.
func readProxyBinary(r io.Reader) (net.Addr, error) {
	var head [4]byte // version and command, family, length
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint16(head[2:]))
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	const local, proxy, tcp4, tcp6 = 0x20, 0x21, 0x11, 0x21
	size := 0 // of an address
	switch {
	case head[0] == local:
		return nil, nil
	case head[0] != proxy:
		return nil, fmt.Errorf("version and command %#x", head[0])
	case head[1] == tcp4:
		size = 4
	case head[1] == tcp6:
		size = 16
	default:
		return nil, nil // not of TCP: there is nothing to say of the client
	}
	if len(body) < 2*size+4 {
		return nil, errors.New("addresses cut off")
	}
	source, _ := netip.AddrFromSlice(body[:size])
	// What follows the addresses is not for us.
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, binary.BigEndian.Uint16(body[2*size:]))), nil
}
