package cluster

import (
	"context"
	"encoding/binary"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	beat   = 500 * time.Millisecond
	away   = 3 * time.Second  // without a sign of life
	forget = 10 * time.Minute // a node that went without a word
	remind = 10 * time.Second // how often Missed is called while somebody is away
	// patience is how long an answer is waited for.
	patience = 2 * time.Second
)

// What is told, and to one node: kind, number, question, from, body.
type kind byte

const (
	kindBeat kind = iota + 1
	kindHello
	kindBye
	kindTold
	kindFence
	kindAnswer // to one node, without a number
)

type told struct {
	kind     kind
	number   uint64 // of what its sender has told to all; 0 for an answer
	question uint64 // 0: none
	from     string
	body     []byte
}

func (t *told) encode() []byte {
	b := make([]byte, 0, 1+3*binary.MaxVarintLen64+len(t.from)+len(t.body))
	b = append(b, byte(t.kind))
	b = binary.AppendUvarint(b, t.number)
	b = binary.AppendUvarint(b, t.question)
	b = binary.AppendUvarint(b, uint64(len(t.from)))
	return append(append(b, t.from...), t.body...)
}

func decodeTold(b []byte) (t told, ok bool) {
	if len(b) == 0 {
		return t, false
	}
	t.kind, b = kind(b[0]), b[1:]
	var length uint64
	for _, v := range []*uint64{&t.number, &t.question, &length} {
		value, size := binary.Uvarint(b)
		if size <= 0 {
			return t, false
		}
		*v, b = value, b[size:]
	}
	if length > uint64(len(b)) {
		return t, false
	}
	t.from, t.body = string(b[:length]), b[length:]
	return t, true
}

// peers is who else there is.
type peers struct {
	mu    sync.Mutex
	known map[string]*peer
	asked map[uint64]*question
	last  uint64 // question
}

type peer struct {
	heard  time.Time
	number uint64 // of the last that it told
	away   bool
}

// question waits for the answers of nodes.
type question struct {
	missing map[string]struct{}
	answers []Answer
	all     chan struct{} // closed when nobody is missing
}

// Answer is what a node said to a question.
type Answer struct {
	From string
	Body []byte
}

// Peers returns the names of the other nodes that are in touch, in order.
func (n *Node) Peers() []string {
	n.peers.mu.Lock()
	defer n.peers.mu.Unlock()
	var list []string
	for name, p := range n.peers.known {
		if !p.away {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

// Apart reports whether this node may be without what others say: a node is out of touch that has
// not taken its leave, or NATS itself is.
func (n *Node) Apart() bool {
	n.peers.mu.Lock()
	defer n.peers.mu.Unlock()
	for _, p := range n.peers.known {
		if p.away {
			return true
		}
	}
	return !n.conn.IsConnected()
}

// Tell tells every node, which handles it in order with everything else that this node sends.
func (n *Node) Tell(body []byte) { n.tell(kindTold, 0, "", body) }

// Ask asks every node that is in touch, and returns the answers that come within two seconds, or
// until ctx is done. complete says that these are all, and no node is out of touch.
func (n *Node) Ask(ctx context.Context, body []byte) (answers []Answer, complete bool) {
	return n.ask(ctx, kindTold, body)
}

func (n *Node) ask(ctx context.Context, k kind, body []byte) (answers []Answer, complete bool) {
	p := &n.peers
	q := &question{missing: map[string]struct{}{}, all: make(chan struct{})}
	p.mu.Lock()
	apart := !n.conn.IsConnected()
	for name, other := range p.known {
		if other.away {
			apart = true
		} else {
			q.missing[name] = struct{}{}
		}
	}
	if len(q.missing) == 0 {
		p.mu.Unlock()
		n.tell(k, 0, "", body) // somebody may be there all the same
		return nil, !apart
	}
	p.last++
	id := p.last
	p.asked[id] = q
	p.mu.Unlock()
	n.tell(k, id, "", body)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-q.all:
	case <-timer.C:
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.asked, id)
	if len(q.missing) > 0 {
		n.log.Debug("nodes did not answer", "nodes", slices.Sorted(maps.Keys(q.missing)))
	}
	return q.answers, len(q.missing) == 0 && !apart
}

// tell sends to every node, or to one.
func (n *Node) tell(k kind, question uint64, to string, body []byte) {
	t := told{kind: k, question: question, from: n.cfg.Name, body: body}
	subject := n.prefix + controlRoot
	n.sending.Lock()
	defer n.sending.Unlock()
	if to != "" {
		subject = n.prefix + nodeRoot + to
	} else {
		n.told++
		t.number = n.told
	}
	if err := n.conn.Publish(subject, t.encode()); err != nil {
		n.dropped("word", err)
	}
}

// hear handles what another node tells. It is called in order.
func (n *Node) hear(data []byte) {
	t, ok := decodeTold(data)
	if !ok {
		n.log.Warn("another node sent what is not understood", "bytes", len(data))
		return
	}
	if t.kind == kindAnswer {
		n.peers.answer(t)
		return
	}
	if n.note(t) {
		n.miss()
	}
	switch t.kind {
	case kindHello: // tells who is there without waiting for the next beat
		n.tell(kindBeat, 0, "", nil)
	case kindFence:
		n.answer(t, nil)
	case kindTold:
		n.cfg.Handler.Control(t.from, t.body, func(body []byte) { n.answer(t, body) })
	}
}

func (n *Node) answer(t told, body []byte) {
	if t.question != 0 {
		n.tell(kindAnswer, t.question, t.from, body)
	}
}

// note notes a sign of life, and reports whether something that the node told before is missing.
func (n *Node) note(t told) (missing bool) {
	p := &n.peers
	p.mu.Lock()
	defer p.mu.Unlock()
	other := p.known[t.from]
	if t.kind == kindBye {
		delete(p.known, t.from)
		for _, q := range p.asked {
			q.without(t.from)
		}
		n.log.Info("node has left", "node", t.from)
		return false
	}
	if other == nil {
		other = new(peer)
		p.known[t.from] = other
		n.log.Info("node has come", "node", t.from)
	} else if other.away {
		n.log.Info("node is back", "node", t.from)
	}
	missing = other.away || t.number != other.number+1
	other.heard, other.number, other.away = time.Now(), t.number, false
	return missing
}

func (p *peers) answer(t told) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.asked[t.question]
	if q == nil {
		return // too late
	}
	q.answers = append(q.answers, Answer{t.from, t.body})
	q.without(t.from)
}

// without does not wait for a node any more.
func (q *question) without(name string) {
	if _, waits := q.missing[name]; !waits {
		return
	}
	if delete(q.missing, name); len(q.missing) == 0 {
		close(q.all)
	}
}

func (p *peers) answerAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range p.asked {
		for name := range q.missing {
			q.without(name)
		}
	}
}

// beats sends signs of life and looks for those of others.
func (n *Node) beats() {
	n.tell(kindHello, 0, "", nil)
	ticker := time.NewTicker(n.cfg.beat)
	defer ticker.Stop()
	var reminded time.Time
	for {
		select {
		case <-ticker.C:
			n.tell(kindBeat, 0, "", nil)
			n.look(time.Now())
			n.settle()
			if n.Apart() && time.Since(reminded) >= remind {
				reminded = time.Now()
				n.miss()
			}
		case <-n.stop:
			return
		}
	}
}

// Forget forgets nodes that are out of touch and gone for good.
func (n *Node) Forget(gone func(name string) bool) {
	n.peers.mu.Lock()
	defer n.peers.mu.Unlock()
	for name, other := range n.peers.known {
		if other.away && gone(name) {
			delete(n.peers.known, name)
			n.log.Info("node is gone", "node", name)
			n.miss() // what waited for it need not any more
		}
	}
}

// look finds out who is away.
func (n *Node) look(now time.Time) {
	p := &n.peers
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, other := range p.known {
		switch silent := now.Sub(other.heard); {
		case silent > n.cfg.forget:
			delete(p.known, name)
		case silent > n.cfg.away && !other.away:
			other.away = true
			n.log.Warn("node is out of touch", "node", name, "since", other.heard)
			n.counts.interruptions.Add(1)
			for _, q := range p.asked {
				q.without(name)
			}
		}
	}
}

// fence gathers calls of Fence: those that come while one goes around share the next.
type fence struct {
	mu      sync.Mutex
	running bool
	next    chan struct{}
}

// Fence returns when every node that is in touch has had all that this one has sent before, and
// knows what it wants; after two seconds at most.
func (n *Node) Fence(ctx context.Context) {
	f := &n.fence
	f.mu.Lock()
	passed := f.next
	if passed == nil {
		passed = make(chan struct{})
		f.next = passed
	}
	if !f.running {
		f.running = true
		n.running.Go(n.fences)
	}
	f.mu.Unlock()
	select {
	case <-passed:
	case <-ctx.Done():
	}
}

func (n *Node) fences() {
	for f := &n.fence; ; {
		f.mu.Lock()
		passed := f.next
		f.next = nil
		f.running = passed != nil
		f.mu.Unlock()
		if passed == nil {
			return
		}
		n.ask(context.Background(), kindFence, nil)
		close(passed)
	}
}
