package broker

import (
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/time/rate"
)

// Serve accepts connections on l until Close, then returns nil, or until l
// fails for good. It closes l. Several listeners may be served at once, each at no more
// than Config.AcceptRate.
func (b *Broker) Serve(l net.Listener) error {
	b.mu.Lock()
	if b.closing() {
		b.mu.Unlock()
		return l.Close()
	}
	b.listeners[l] = struct{}{}
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		delete(b.listeners, l)
		b.mu.Unlock()
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			b.log.Warn("listener did not close", "addr", l.Addr(), "err", err)
		}
	}()
	pace := newPace(b.cfg.AcceptRate)
	const shortest = 5 * time.Millisecond
	wait := shortest
	for {
		if !b.pause(pace.Reserve().Delay()) {
			return nil
		}
		conn, err := l.Accept()
		switch {
		case err == nil:
			wait = shortest
			go b.ServeConn(conn)
		case b.closing():
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept: %w", err)
		default:
			// Out of file descriptors, or a connection that was gone before it
			// was accepted: nothing that ends a server.
			b.log.Warn("connection not accepted", "addr", l.Addr(), "err", err, "retry", wait)
			b.pause(wait)
			wait = min(2*wait, time.Second)
		}
	}
}

// newPace lets n connections a second through, all if n is negative.
func newPace(n int) *rate.Limiter {
	if n < 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(n), 1+n/10)
}

// pause waits; it returns false at once when the broker is closed.
func (b *Broker) pause(d time.Duration) bool {
	if d <= 0 {
		return !b.closing()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-b.closed:
		return false
	}
}

// ServeConn serves one connection, whoever accepted it, and closes it in the end. It
// may return earlier: a *net.TCPConn costs a goroutine only while there is something to
// do for it. Any other net.Conn does too, if its deadlines work; it costs one all the time.
func (b *Broker) ServeConn(conn net.Conn) {
	c := newClient(b, conn)
	b.mu.Lock()
	if b.closing() {
		b.mu.Unlock()
		c.close()
		return
	}
	if !b.turning {
		b.turning = true
		b.connections.Go(func() { b.wheel.run(b.closed) })
	}
	b.sockets[c] = struct{}{}
	b.connections.Add(1)
	b.mu.Unlock()
	c.run()
}

// startPoller has quiet sockets waited for, where that is possible.
func (b *Broker) startPoller() {
	p, err := newPoller()
	if err != nil {
		b.log.Warn("every connection gets a goroutine", "err", err)
	}
	if p == nil {
		return
	}
	b.poller = p
	b.polling.Go(func() {
		if err := p.run(); err != nil {
			b.log.Error("connections are not heard any more", "err", err)
		}
	})
}

// forget is the end of ServeConn's work, whoever did the rest of it.
func (b *Broker) forget(c *Client) {
	b.mu.Lock()
	delete(b.sockets, c)
	b.mu.Unlock()
	b.connections.Done()
}

func (b *Broker) closing() bool {
	select {
	case <-b.closed:
		return true
	default:
		return false
	}
}
