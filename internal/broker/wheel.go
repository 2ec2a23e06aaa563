package broker

import (
	"sync"
	"sync/atomic"
	"time"
)

// A wheel ends connections whose clients have been silent for too long. It has a slot
// for every second ahead, and in it the clients that are to be looked at then: one timer
// for all of them, and a packet costs one store. A client that has sent something
// meanwhile moves on to the slot of its new deadline. Silence is noticed within two
// seconds of its end.
type wheel struct {
	started time.Time
	tick    atomic.Int64 // seconds since started

	mu    sync.Mutex
	slots [wheelSlots]*Client // heads of lists
}

// wheelSlots is how many seconds ahead the wheel reaches; longer deadlines are looked at
// and moved on.
const wheelSlots = 2048

// spoke is a client's place in the wheel.
type spoke struct {
	seen       atomic.Int64 // tick of the last packet
	limit      int64        // seconds of silence
	slot       int
	watched    bool
	prev, next *Client
}

func newWheel() *wheel { return &wheel{started: time.Now()} }

// run turns the wheel until stop is closed.
func (w *wheel) run(stop <-chan struct{}) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case now := <-ticker.C:
			w.turn(int64(now.Sub(w.started) / time.Second))
		}
	}
}

// turn ends everybody whose time has run out up to a tick.
func (w *wheel) turn(to int64) {
	for tick := w.tick.Load() + 1; tick <= to; tick++ {
		w.tick.Store(tick)
		for _, c := range w.silent(tick) {
			c.end(KeepAliveTimeout, codeKeepAliveTimeout)
		}
	}
}

// silent takes out who is due at a tick and has not been heard of.
func (w *wheel) silent(tick int64) (silent []*Client) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := w.slots[tick%wheelSlots]; c != nil; {
		next := c.spoke.next
		w.unlink(c)
		if due := c.spoke.seen.Load() + c.spoke.limit; due > tick {
			w.link(c, due)
		} else {
			silent = append(silent, c)
		}
		c = next
	}
	return silent
}

// add watches c from now on.
func (w *wheel) add(c *Client, limit time.Duration) {
	now := w.tick.Load()
	c.spoke.limit = int64((limit+time.Second-1)/time.Second) + 1 // the running second does not count
	c.spoke.seen.Store(now)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.link(c, now+c.spoke.limit)
}

// remove forgets c.
func (w *wheel) remove(c *Client) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.spoke.watched {
		w.unlink(c)
	}
}

// heard notes that c has sent something.
func (w *wheel) heard(c *Client) { c.spoke.seen.Store(w.tick.Load()) }

func (w *wheel) link(c *Client, due int64) {
	// A slot that is more than a turn away would be met too early, which does no harm.
	now := w.tick.Load()
	due = min(max(due, now+1), now+wheelSlots-1)
	c.spoke.slot = int(due % wheelSlots)
	head := &w.slots[c.spoke.slot]
	c.spoke.prev, c.spoke.next = nil, *head
	if *head != nil {
		(*head).spoke.prev = c
	}
	*head, c.spoke.watched = c, true
}

func (w *wheel) unlink(c *Client) {
	switch {
	case c.spoke.prev != nil:
		c.spoke.prev.spoke.next = c.spoke.next
	default:
		w.slots[c.spoke.slot] = c.spoke.next
	}
	if c.spoke.next != nil {
		c.spoke.next.spoke.prev = c.spoke.prev
	}
	c.spoke.prev, c.spoke.next, c.spoke.watched = nil, nil, false
}
