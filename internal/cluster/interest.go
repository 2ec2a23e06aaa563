package cluster

import (
	"sync"

	"github.com/nats-io/nats.go"
)

// interest is what the clients of this node want, by subject.
type interest struct {
	mu       sync.Mutex
	subjects map[string]*wanted
}

type wanted struct {
	count int // how often it is wanted
	sub   *nats.Subscription
}

// Want asks for the messages on topics that match a filter, until Unwant has been called as
// often. It reports whether that was news to the other nodes: then they know after a Fence.
func (n *Node) Want(filter string) (news bool) {
	s, x := subject(n.prefix, filter), &n.interest
	x.mu.Lock()
	defer x.mu.Unlock()
	w := x.subjects[s]
	if w == nil {
		w = new(wanted)
		x.subjects[s] = w
	}
	if w.count++; w.count > 1 {
		return false
	}
	var err error
	if w.sub, err = n.conn.ChanSubscribe(s, n.inbox); err != nil { // the connection is closed for good
		n.dropped("subscription", err)
	}
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
	if w.sub != nil {
		if err := w.sub.Unsubscribe(); err != nil {
			n.dropped("end of a subscription", err)
		}
	}
}

// Wanted reports whether another node may want the topic. Without a server in this process it
// cannot tell, and says yes.
func (n *Node) Wanted(topic string) bool {
	if n.server == nil {
		return true
	}
	s := subject(n.prefix, topic)
	return n.server.GlobalAccount().Interest(s) > 0
}
