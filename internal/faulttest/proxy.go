package faulttest

import (
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy passes on what comes to a TCP port of this machine, and spoils it when told to.
type Proxy struct {
	// Addr is where it listens, host:port.
	Addr string

	listener net.Listener
	network  string
	running  sync.WaitGroup

	mu       sync.Mutex
	target   string
	pairs    map[*pair]bool
	delay    time.Duration // in each direction
	down     bool
	silent   bool
	chance   float64 // that a piece ends its connection
	closed   bool
	awakened chan struct{} // closed when silent ends
}

// pair is a connection and the one that it goes on in.
type pair struct{ client, server net.Conn }

func (p *pair) close() { _, _ = p.client.Close(), p.server.Close() } // what is open is not anymore

// NewProxy starts one in front of a target, of the network "tcp" or "unix". It ends with the test.
func NewProxy(t testing.TB, network, target string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Addr: listener.Addr().String(), listener: listener, network: network, target: target, pairs: map[*pair]bool{}, awakened: make(chan struct{})}
	p.running.Go(p.accept)
	t.Cleanup(func() {
		_ = listener.Close() // nobody listens any more
		p.set(func() { p.closed = true })
		p.Silence(false)
		p.Cut()
		p.running.Wait()
	})
	return p
}

func (p *Proxy) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

// Target changes where new connections go on.
func (p *Proxy) Target(addr string) { p.set(func() { p.target = addr }) }

// Delay makes everything late, in each direction.
func (p *Proxy) Delay(d time.Duration) { p.set(func() { p.delay = d }) }

// Down cuts all connections and refuses new ones, until it is told otherwise.
func (p *Proxy) Down(down bool) {
	p.set(func() { p.down = down })
	if down {
		p.Cut()
	}
}

// Chance makes each piece that passes end its connection with that probability: before it has got
// there, or after it.
func (p *Proxy) Chance(c float64) { p.set(func() { p.chance = c }) }

// Silence keeps connections open and lets nothing through, as a cable that is pulled, until it is
// told otherwise.
func (p *Proxy) Silence(silent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.silent && !silent {
		close(p.awakened)
		p.awakened = make(chan struct{})
	}
	p.silent = silent
}

// Cut ends all connections.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.pairs {
		c.close()
	}
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	server, err := net.DialTimeout(p.network, target, 5*time.Second)
	if err != nil {
		_ = client.Close() // nothing was said
		return
	}
	c := &pair{client, server}
	p.mu.Lock()
	refused := p.down || p.closed
	if !refused {
		p.pairs[c] = true
	}
	p.mu.Unlock()
	if refused {
		c.close()
		return
	}
	p.running.Go(func() { p.pass(c, client, server) })
	p.pass(c, server, client)
}

// pass copies in one direction, in the order of the pieces.
func (p *Proxy) pass(c *pair, from, to net.Conn) {
	type piece struct {
		data []byte
		at   time.Time // when it may leave
		end  bool      // the connection, behind it
	}
	pieces := make(chan piece, 1024)
	p.running.Go(func() {
		defer func() {
			c.close()
			p.set(func() { delete(p.pairs, c) })
			for range pieces { // until the reader has noticed
			}
		}()
		for piece := range pieces {
			if wait := time.Until(piece.at); wait > 0 {
				<-time.After(wait)
			}
			p.hold()
			if _, err := to.Write(piece.data); err != nil || piece.end {
				return
			}
		}
	})
	defer close(pieces)
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		p.mu.Lock()
		delay, cut := p.delay, n > 0 && p.chance > 0 && rand.Float64() < p.chance
		p.mu.Unlock()
		next := piece{data: append([]byte(nil), buffer[:n]...), at: time.Now().Add(delay), end: cut || err != nil}
		if cut && rand.IntN(2) == 0 {
			next.data = nil
		}
		pieces <- next
		if next.end {
			return
		}
	}
}

// hold waits while nothing is let through.
func (p *Proxy) hold() {
	for {
		p.mu.Lock()
		silent, awakened := p.silent, p.awakened
		p.mu.Unlock()
		if !silent {
			return
		}
		<-awakened
	}
}
