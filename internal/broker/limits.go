package broker

import (
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// What clients may do in a second (spec §2.20, §15.3). None of it costs anything unless it
// is limited.

const codeReceiveMaximum = 0x93

// errThrottled ends a CONNECT that comes too early: 0x97, and 3 (server unavailable) in
// MQTT 3.1.1 (spec §2.3).
var errThrottled = &protocolError{codeQuotaExceeded, Throttled, "too many connects"}

// turnstile bounds how often clients connect.
type turnstile struct {
	all  *rate.Limiter // nil: any
	each int           // of one client id a second; 0 = any

	mu     sync.Mutex
	ids    map[string]*rate.Limiter
	pruned int // size of ids after it was pruned
}

func newTurnstile(all, each int) *turnstile {
	t := &turnstile{each: each, ids: map[string]*rate.Limiter{}}
	if all > 0 {
		t.all = rate.NewLimiter(rate.Limit(all), all)
	}
	return t
}

// admit takes one connect of a client id into account, and refuses it with errThrottled.
// Who is refused has not used up a turn of the others.
func (t *turnstile) admit(id string, now time.Time) error {
	if t.each > 0 && !strings.HasPrefix(id, generatedID) && !t.of(id, now).AllowN(now, 1) {
		return errThrottled
	}
	if t.all != nil && !t.all.AllowN(now, 1) {
		return errThrottled
	}
	return nil
}

func (t *turnstile) of(id string, now time.Time) *rate.Limiter {
	t.mu.Lock()
	defer t.mu.Unlock()
	// Pruned whenever it has doubled, the map costs constant time a connect. What is full
	// again is as good as new.
	if len(t.ids) > 2*t.pruned+1000 {
		for id, l := range t.ids {
			if l.TokensAt(now) >= float64(l.Burst()) {
				delete(t.ids, id)
			}
		}
		t.pruned = len(t.ids)
	}
	l := t.ids[id]
	if l == nil {
		l = rate.NewLimiter(rate.Limit(t.each), t.each)
		t.ids[id] = l
	}
	return l
}

// allowance is what a connection may still send; it is of the connection's goroutine.
type allowance struct {
	publishes *rate.Limiter // nil until the first PUBLISH, and if they are not limited
	bytes     *rate.Limiter
	pending   *pending // nil until the first message that is routed with QoS 1
}

// perSecond lets n events pass in a second, and as many at once; nil if n is 0: any.
func perSecond(n int) *rate.Limiter {
	if n <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(n), n)
}

// mayPublish reports whether another PUBLISH is within Config.PublishRate and
// Config.TotalPublishRate.
func (c *Client) mayPublish() bool {
	if c.allowance.publishes == nil {
		c.allowance.publishes = perSecond(c.broker.cfg.PublishRate)
	}
	return within(c.allowance.publishes, c.broker.publishes)
}

// mayDeliver reports whether another message to the client is within Config.DeliverRate and
// Config.TotalDeliverRate. It is called with the client's session locked.
func (c *Client) mayDeliver() bool {
	if c.deliveries == nil {
		c.deliveries = perSecond(c.broker.cfg.DeliverRate)
	}
	return within(c.deliveries, c.broker.deliveries)
}

// within takes a turn of both, of which each may be nil.
func within(own, all *rate.Limiter) bool {
	return (own == nil || own.Allow()) && (all == nil || all.Allow())
}

// throttle discards a PUBLISH. MQTT 5 has a word for it; a 3.1.1 client sees no
// acknowledgement (spec §2.6).
func (c *Client) throttle(p *publish) error {
	c.broker.stats.refused.Add(1)
	if c.version == 5 && p.message.QoS == 1 {
		return c.acknowledge(p.id, codeQuotaExceeded)
	}
	return nil
}

// slowDown takes n bytes that have come into account. A client that exceeds
// Config.ByteRate is not read for a while.
func (c *Client) slowDown(n int) error {
	cfg := &c.broker.cfg
	if cfg.ByteRate <= 0 {
		return nil
	}
	if c.allowance.bytes == nil {
		c.allowance.bytes = rate.NewLimiter(rate.Limit(cfg.ByteRate), max(cfg.ByteRate, cfg.MaxPayload+headerAllowance))
	}
	now := time.Now()
	if d := c.allowance.bytes.ReserveN(now, n).DelayFrom(now); d > 0 {
		return c.pauseReading(d, nil)
	}
	return nil
}

// pauseReading lets d pass, or until ready tells if that is not nil, without reading from
// the client. What has been gathered for the client leaves before. It returns ErrOffline if
// the connection has ended meanwhile.
func (c *Client) pauseReading(d time.Duration, ready <-chan struct{}) error {
	c.endBatch()
	const slice = 100 * time.Millisecond // in which the end of the connection is noticed
	for until := time.Now().Add(d); ; {
		c.flush()
		wait := slice
		if ready == nil {
			wait = min(slice, time.Until(until))
		}
		told := false
		select {
		case <-ready:
			told = true
		case <-time.After(wait):
		}
		c.broker.wheel.heard(c) // it is us who are silent, not the client
		switch {
		case !c.hold():
			return ErrOffline
		case told, ready == nil && !time.Now().Before(until):
			return nil
		}
	}
}

// pending are the PUBLISHes of a client that are not acknowledged, in their order. It is
// also that of the acknowledgements (MQTT 3.1.1 and 5, 4.6), though some messages are safe
// sooner than others.
type pending struct {
	room chan struct{} // told when one has been acknowledged

	mu    sync.Mutex
	first int // number of the first in queue, of all in it from the beginning
	queue []acknowledgement
}

type acknowledgement struct {
	id    uint16
	code  byte
	known bool // may leave once those before it have left
}

// beginMessage makes room for another QoS 1 message of the client's, to be acknowledged by
// end with the number that it returns. More than Config.MaxInflight at a time are an error in
// MQTT 5, and wait in MQTT 3.1.1 (spec §2.6).
func (c *Client) beginMessage(id uint16) (number int, err error) {
	if c.allowance.pending == nil {
		c.allowance.pending = &pending{room: make(chan struct{}, 1)}
	}
	p := c.allowance.pending
	for p.len() >= c.broker.cfg.MaxInflight {
		if c.version == 5 {
			return 0, misuse(codeReceiveMaximum, "receive maximum exceeded")
		}
		if err := c.pauseReading(0, p.room); err != nil {
			return 0, err
		}
	}
	return p.add(acknowledgement{id: id}), nil
}

// acknowledge answers a PUBLISH, behind those that are not acknowledged yet.
func (c *Client) acknowledge(id uint16, code byte) error {
	p := c.allowance.pending
	if p == nil || p.len() == 0 {
		return c.puback(id, code)
	}
	p.end(c, p.add(acknowledgement{id: id}), code)
	return nil
}

func (p *pending) len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.queue)
}

func (p *pending) add(a acknowledgement) (number int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue = append(p.queue, a)
	return p.first + len(p.queue) - 1
}

// end says how a PUBLISH is acknowledged. It may be called by any goroutine.
func (p *pending) end(c *Client, number int, code byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := &p.queue[number-p.first]
	a.code, a.known = code, true
	n := 0
	for n < len(p.queue) && p.queue[n].known {
		if a := p.queue[n]; a.code == codeSuccess || c.version == 5 { // 3.1.1 has no word for a refusal
			_ = c.puback(a.id, a.code) // the connection may be gone
		}
		n++
	}
	if n == 0 {
		return
	}
	p.first += n
	if p.queue = p.queue[:copy(p.queue, p.queue[n:])]; len(p.queue) == 0 && cap(p.queue) > 8 {
		p.queue = nil // a quiet client holds no memory for it
	}
	select {
	case p.room <- struct{}{}:
	default:
	}
}
