package cluster

import (
	"sync"

	"github.com/nats-io/nats-server/v2/server/gsl"
	"github.com/nats-io/nats.go"
)

// interest is what the clients of this node want, by subject.
type interest struct {
	mu       sync.Mutex
	subjects map[string]*wanted
	// The server in this process knows what all nodes want together. Of that this is certainly what
	// this node wants.
	own   *gsl.SimpleSublist
	fresh []*wanted // not in own yet
}

type wanted struct {
	subject string
	count   int // how often it is wanted
	sub     *nats.Subscription
	own     bool
}

// Want asks for the messages on topics that match a filter, until Unwant has been called as
// often. It reports whether that was news to the other nodes: then they know after a Fence.
func (n *Node) Want(filter string) (news bool) {
	s, x := subject(n.prefix, filter), &n.interest
	x.mu.Lock()
	defer x.mu.Unlock()
	w := x.subjects[s]
	if w == nil {
		w = &wanted{subject: s}
		x.subjects[s] = w
	}
	if w.count++; w.count > 1 {
		return false
	}
	var err error
	if w.sub, err = n.conn.ChanSubscribe(s, n.inbox); err != nil { // the connection is closed for good
		n.dropped("subscription", err)
	}
	x.fresh = append(x.fresh, w)
	return true
}

// Unwant takes back a Want.
func (n *Node) Unwant(filter string) {
	s, x := subject(n.prefix, filter), &n.interest
	x.mu.Lock()
	defer x.mu.Unlock()
	w := x.subjects[s]
	if w == nil {
		return
	}
	if w.count--; w.count > 0 {
		return
	}
	delete(x.subjects, s)
	x.disown(w)
	if w.sub != nil {
		if err := w.sub.Unsubscribe(); err != nil {
			n.dropped("end of a subscription", err)
		}
	}
}

// Wanted reports whether another node may want the topic. It may be mistaken, and say yes, for a
// second after this node has begun to want it. Without a server in this process it cannot tell, and
// says yes.
func (n *Node) Wanted(topic string) bool {
	if n.server == nil {
		return true
	}
	s := subject(n.prefix, topic)
	own := n.interest.own.NumInterest(s) // what comes to an end meanwhile counts as another's
	return n.server.GlobalAccount().Interest(s) > own
}

// settle makes what this node wants its own once the server knows it.
func (n *Node) settle() {
	x := &n.interest
	x.mu.Lock()
	fresh := x.fresh
	x.fresh = nil
	x.mu.Unlock()
	if len(fresh) == 0 {
		return
	}
	err := n.conn.FlushTimeout(writeTimeout)
	x.mu.Lock()
	defer x.mu.Unlock()
	if err != nil {
		x.fresh = append(x.fresh, fresh...)
		return
	}
	for _, w := range fresh {
		if x.subjects[w.subject] == w && !w.own {
			w.own = x.own.Insert(w.subject, struct{}{}) == nil
		}
	}
}

func (x *interest) disown(w *wanted) {
	if w.own {
		w.own = x.own.Remove(w.subject, struct{}{}) != nil
	}
}

// unsettle says that the server may not know what this node wants.
func (x *interest) unsettle() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.fresh = x.fresh[:0]
	for _, w := range x.subjects {
		x.disown(w)
		x.fresh = append(x.fresh, w)
	}
}
