package broker

import (
	"sync/atomic"
	"time"
)

// A client on a plain socket has a goroutine only while it has something to say. When it
// has been heard out it is parked: the poller waits for its socket, and wakes it up with
// a new goroutine, as does the end of the connection. One that is woken up again and again
// keeps its goroutine, which then waits by itself, until it has been quiet for a while.
// Clients on other connections keep theirs for good.
const (
	awake  = iota // a goroutine is at it
	rushed        // the same, and something has come since it last looked
	parked        // no goroutine
)

const (
	busyWakes = 4               // in one second make a client a busy one
	busyFor   = 2 * time.Second // without a word end that
)

// rest is what parking needs to know.
type rest struct {
	state  atomic.Int32
	hungUp atomic.Bool // the poller has seen the end of the stream, since toEnd was set
	toEnd  bool        // it is among what there is to read, unless that was of another socket
	fd     int32
	wakes  int32 // in the second that is
	tick   int32 // that second
	busy   bool
}

// watch has the poller wait for the client's socket, if it can.
func (c *Client) watch() {
	if c.in.raw == nil {
		return
	}
	c.broker.poll.Do(c.broker.startPoller)
	p := c.broker.poller
	if p == nil {
		return
	}
	if err := p.add(c); err != nil {
		c.broker.log.Debug("socket not watched", "client", c.id, "err", err)
		return
	}
	c.in.polled = true
}

// park leaves the client to the poller. It returns false if something has come
// meanwhile, or if the poller would not say what is still to be read.
func (c *Client) park() bool {
	// Taken before the reading that it causes: one that comes meanwhile is not forgotten.
	if c.rest.hungUp.Swap(false) {
		c.rest.toEnd = true
	}
	if c.rest.toEnd {
		c.in.drained = false
		return false
	}
	c.in.release()
	if c.rest.state.CompareAndSwap(awake, parked) {
		return true
	}
	c.rest.state.Store(awake)
	c.in.drained = false
	return false
}

// wake makes sure that the client looks at its socket, and at its end.
func (c *Client) wake() {
	for {
		switch {
		case c.rest.state.CompareAndSwap(parked, awake):
			go c.resume()
			return
		case c.rest.state.CompareAndSwap(awake, rushed), c.rest.state.Load() == rushed:
			return
		}
	}
}

// woken takes note of a wake-up, and takes a busy client away from the poller.
func (c *Client) woken() {
	c.in.drained = false
	if tick := int32(c.broker.wheel.tick.Load()); tick != c.rest.tick {
		c.rest.tick, c.rest.wakes = tick, 0
	}
	if c.rest.wakes++; c.rest.wakes < busyWakes {
		return
	}
	if c.expect(busyFor) {
		c.broker.poller.remove(c)
		c.rest.busy, c.in.polled = true, false
	}
}

// calm ends the busy time of a client that has been waited for in vain. It returns false
// if the connection has ended.
func (c *Client) calm() bool {
	if c.spoke.seen.Load() >= c.broker.wheel.tick.Load()-int64(busyFor/time.Second) {
		return c.expect(busyFor)
	}
	if !c.expect(0) {
		return false
	}
	c.rest.busy, c.rest.wakes = false, 0
	c.watch()
	return true
}

// relax takes back the deadline of a packet.
func (c *Client) relax() {
	if c.rest.busy {
		c.expect(busyFor)
	} else {
		c.expect(0)
	}
}
