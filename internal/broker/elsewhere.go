package broker

import (
	"context"
	"sync"
	"sync/atomic"
)

// A QoS 1 message that goes to other nodes is acknowledged to its publisher when it is safe there,
// too: whoever publishes asks the others, once for all that was published meanwhile, and these
// answer when what has come before the question is safe with them.

// elsewhere is what waits until other nodes have messages safe.
type elsewhere struct {
	mu      sync.Mutex
	waiting []func()
	asking  bool
}

// whenElsewhere calls f, which may be nil and must not block, when what has been sent to the other
// nodes is safe there: as far as they are in touch, and answer in time.
func (b *Broker) whenElsewhere(f func()) {
	if f == nil {
		return
	}
	e := &b.elsewhere
	e.mu.Lock()
	defer e.mu.Unlock()
	e.waiting = append(e.waiting, f)
	if !e.asking {
		e.asking = true
		b.asking.Go(b.askElsewhere)
	}
}

func (b *Broker) askElsewhere() {
	question := (&word{Safe: true}).encode()
	for e := &b.elsewhere; ; {
		e.mu.Lock()
		waiting := e.waiting
		e.waiting = nil
		e.asking = len(waiting) > 0
		e.mu.Unlock()
		if len(waiting) == 0 {
			return
		}
		b.cfg.Peers.Ask(context.Background(), question)
		for _, f := range waiting {
			f()
		}
	}
}

// twice returns what calls f the second time that it is called; nil if f is.
func twice(f func()) func() {
	if f == nil {
		return nil
	}
	var calls atomic.Int32
	return func() {
		if calls.Add(1) == 2 {
			f()
		}
	}
}

// arrivals are the QoS 1 messages of other nodes that are not safe here yet, in rounds that
// questions end.
type arrivals struct {
	mu     sync.Mutex
	rounds []*round
}

type round struct {
	missing  int
	question func() // nil: the last round, which goes on
}

// begin notes a message, and returns what is to be called when it is safe.
func (a *arrivals) begin() (done func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.last()
	r.missing++
	return func() {
		a.mu.Lock()
		r.missing--
		over := a.over()
		a.mu.Unlock()
		for _, f := range over {
			f()
		}
	}
}

// settled calls f when all messages so far are safe.
func (a *arrivals) settled(f func()) {
	a.mu.Lock()
	a.last().question = f
	over := a.over()
	a.mu.Unlock()
	for _, f := range over {
		f()
	}
}

func (a *arrivals) last() *round {
	if n := len(a.rounds); n > 0 && a.rounds[n-1].question == nil {
		return a.rounds[n-1]
	}
	r := new(round)
	a.rounds = append(a.rounds, r)
	return r
}

// over takes out the rounds that are, with all before them, and returns their questions.
func (a *arrivals) over() (questions []func()) {
	for len(a.rounds) > 0 && a.rounds[0].missing == 0 && a.rounds[0].question != nil {
		questions = append(questions, a.rounds[0].question)
		a.rounds = a.rounds[1:]
	}
	return questions
}
