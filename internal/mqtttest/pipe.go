package mqtttest

import (
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// Listener hands out connections in memory, for servers in a testing/synctest bubble: unlike
// those of net.Pipe they hold what was written, as the network does.
type Listener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// NewListener returns a listener that nobody has dialled yet.
func NewListener() *Listener {
	return &Listener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// Dial is a client on a new connection that the server has accepted.
func (l *Listener) Dial(t testing.TB) *Client {
	t.Helper()
	there, back := newLine(), newLine()
	select {
	case l.conns <- &end{in: there, out: back}:
	case <-l.closed:
		t.Fatal("dialled a listener that is closed")
	}
	return On(t, &end{in: back, out: there})
}

// Accept waits for Dial.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (l *Listener) Close() error { l.once.Do(func() { close(l.closed) }); return nil }

// Addr is not an address.
func (l *Listener) Addr() net.Addr { return address{} }

type address struct{}

func (address) Network() string { return "memory" }
func (address) String() string  { return "192.0.2.1:1" }

// line carries bytes in one direction.
type line struct {
	mu       sync.Mutex
	held     []byte
	ended    bool          // by either side
	deadline time.Time     // of the reader
	change   chan struct{} // closed and replaced when one of the others changes
}

func newLine() *line { return &line{change: make(chan struct{})} }

func (l *line) update(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	close(l.change)
	l.change = make(chan struct{})
}

func (l *line) read(b []byte) (n int, err error) {
	for {
		l.mu.Lock()
		held, ended, deadline, change := l.held, l.ended, l.deadline, l.change
		wait := time.Until(deadline)
		switch {
		case len(b) == 0:
		case !deadline.IsZero() && wait <= 0:
			err = os.ErrDeadlineExceeded
		case len(held) > 0:
			n = copy(b, held)
			l.held = held[n:]
		case ended:
			err = io.EOF
		}
		l.mu.Unlock()
		if n > 0 || err != nil || len(b) == 0 {
			return n, err
		}
		var over <-chan time.Time
		if !deadline.IsZero() {
			timer := time.NewTimer(wait)
			defer timer.Stop()
			over = timer.C
		}
		select {
		case <-change:
		case <-over:
		}
	}
}

// end is one end of a connection.
type end struct{ in, out *line }

func (e *end) Read(b []byte) (int, error) { return e.in.read(b) }

func (e *end) Write(b []byte) (n int, err error) {
	e.out.update(func() {
		if e.out.ended {
			err = io.ErrClosedPipe
			return
		}
		n, e.out.held = len(b), append(e.out.held, b...)
	})
	return n, err
}

func (e *end) Close() error {
	e.out.update(func() { e.out.ended = true })
	e.in.update(func() { e.in.ended = true })
	return nil
}

func (e *end) LocalAddr() net.Addr  { return address{} }
func (e *end) RemoteAddr() net.Addr { return address{} }

func (e *end) SetReadDeadline(t time.Time) error {
	e.in.update(func() { e.in.deadline = t })
	return nil
}

// SetWriteDeadline does nothing: no write waits.
func (e *end) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline is SetReadDeadline.
func (e *end) SetDeadline(t time.Time) error { return e.SetReadDeadline(t) }
