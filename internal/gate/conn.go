package gate

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"sync"

	"drover/internal/iot"
)

// Conn is a connection whose handshake has ended.
type Conn struct {
	net.Conn // a *tls.Conn, which net/http shall not see: it has opinions about ALPN
	live     *Live

	// Of a client that showed a certificate; constant.
	id          iot.CertificateID
	certificate *x509.Certificate

	end iot.Time // of the certificate; of the lock of live

	mu      sync.Mutex
	dropped bool
	onDrop  func()
}

// CertificateID returns the id of the certificate that the client showed, "" if it was not
// asked for one.
func (c *Conn) CertificateID() iot.CertificateID { return c.id }

// Certificate returns the certificate that the client showed, nil if it was not asked for one.
func (c *Conn) Certificate() *x509.Certificate { return c.certificate }

// TLS returns what was agreed on.
func (c *Conn) TLS() tls.ConnectionState { return c.Conn.(*tls.Conn).ConnectionState() }

// OnDrop sets what ends the connection when its certificate is no good any more, instead of
// closing it. It must not block. If that is so already, f is called at once.
func (c *Conn) OnDrop(f func()) {
	c.mu.Lock()
	c.onDrop = f
	dropped := c.dropped
	c.mu.Unlock()
	if dropped {
		f()
	}
}

func (c *Conn) drop() {
	c.mu.Lock()
	f := c.onDrop
	c.dropped = true
	c.mu.Unlock()
	if f != nil {
		f()
		return
	}
	_ = c.NetConn().Close() // who reads from it tells
}

// Close closes the connection in good form, for which it may have to wait some seconds.
func (c *Conn) Close() error {
	c.forget()
	return c.Conn.Close()
}

// NetConn returns the socket under TLS. To close that ends the connection without a word and
// without waiting.
func (c *Conn) NetConn() net.Conn { return socket{c.Conn.(*tls.Conn).NetConn(), c} }

// socket is the socket of a Conn.
type socket struct {
	net.Conn
	of *Conn
}

func (s socket) Close() error {
	s.of.forget()
	return s.Conn.Close()
}

// forget takes the connection out of the live ones. It may be called again.
func (c *Conn) forget() {
	if c.id != "" {
		c.live.remove(c)
	}
}

// Listener hands out connections that came through gates. It is a net.Listener, so that a
// server of HTTP or MQTT can be run on it.
type Listener struct {
	conns  chan *Conn
	closed chan struct{}
	once   sync.Once
}

// NewListener returns a Listener.
func NewListener() *Listener {
	return &Listener{conns: make(chan *Conn), closed: make(chan struct{})}
}

func (l *Listener) hand(c *Conn) {
	select {
	case l.conns <- c:
	case <-l.closed:
		_ = c.Close() // nobody has read from it
	}
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. The gates that hand connections to it stay open.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener: there is no address of its own.
func (l *Listener) Addr() net.Addr { return addr{} }

type addr struct{}

func (addr) Network() string { return "tls" }
func (addr) String() string  { return "gate" }
