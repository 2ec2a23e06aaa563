package broker

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// sharePrefix begins the filters of shared subscriptions: "$share/NAME/FILTER".
const sharePrefix = "$share/"

const maxShareName = 128 // characters (spec §2.15)

// cutShare returns the parts of a shared subscription's filter. ok is false if
// it is none, or not a valid one.
func cutShare(filter string) (name, inner string, ok bool) {
	rest, ok := strings.CutPrefix(filter, sharePrefix)
	if !ok {
		return "", "", false
	}
	name, inner, ok = strings.Cut(rest, "/")
	ok = ok && name != "" && len([]rune(name)) <= maxShareName && !strings.ContainsAny(name, "+#") &&
		validFilter(inner) && !shared(inner)
	return name, inner, ok
}

func validShare(filter string) bool {
	_, _, ok := cutShare(filter)
	return ok
}

// group is a shared subscription: all who have subscribed to one filter under
// one name. Each message goes to one of them (spec §2.15).
//
// A QoS 1 message that no member takes waits in the group's queue, and so does
// one that a member has not acknowledged when its connection ends. Members take
// from the queue when they have room in their windows.
//
// Its lock is taken after that of a session.
type group struct {
	broker       *Broker
	name, filter string

	mu      sync.Mutex
	key     int64        // in the store; 0 until it has had a message there
	ended   bool         // the last member of all has left
	members []subscriber // never changed in place
	there   []groupWord  // members at other nodes; never changed in place
	queue   []outgoing
	bytes   int // of queue
}

// full returns the filter as members say it.
func (g *group) full() string { return sharePrefix + g.name + "/" + g.filter }

// add returns 1 if s is new to the group, else 0; ok is false if there is no room.
func (g *group) add(s *session, o options, limit int) (delta int, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	members := append([]subscriber(nil), g.members...)
	if i, have := placeOf(members, nil, s); have {
		members[i].options = o
		g.members = members
		return 0, true
	}
	if len(members) >= limit {
		return 0, false
	}
	g.members = append(members, subscriber{s, o})
	return 1, true
}

// remove returns what waits if no member is left here, and whether the group is over.
func (g *group) remove(s *session) (queue []outgoing, removed, over bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	i, removed := placeOf(g.members, nil, s)
	if removed {
		members := append([]subscriber(nil), g.members[:i]...)
		g.members = append(members, g.members[i+1:]...)
	}
	if len(g.members) == 0 && !g.ended {
		queue, g.queue, g.bytes = g.queue, nil, 0
		if g.key != 0 {
			g.broker.keeper.endGroup(g.key)
			g.key = 0
		}
		g.ended = len(g.there) == 0
	}
	return queue, removed, g.ended
}

// owner returns the key under which the store keeps messages of the group, 0 if
// there is no persistent member to keep them for.
func (g *group) owner() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		return 0
	}
	if g.key == 0 {
		for _, m := range g.members {
			if m.session.key != 0 {
				g.key = g.broker.keeper.key()
				g.broker.keeper.putGroup(StoredGroup{g.key, g.full()})
				break
			}
		}
	}
	return g.key
}

// deliver sends a message to one member, or queues it.
func (g *group) deliver(e *copies, m *Message) {
	g.mu.Lock()
	members := g.members
	g.mu.Unlock()
	if len(members) == 0 {
		// The last one here has just left, and the node that chose this one did not know.
		if b := g.broker; b.cfg.Peers == nil {
			return
		} else if node := g.choose(b.cfg.Peers.Self()); node != "" {
			b.relay(m, "", time.Time{}, []place{{g.full(), node}})
		} else {
			b.stats.dropped.Add(1)
		}
		return
	}
	qos := byte(0)
	var owner int64
	if m.QoS > 0 {
		owner = g.owner()
	}
	start := rand.IntN(len(members))
	for i := range members {
		member := members[(start+i)%len(members)]
		if member.session.offer(e, g, owner, member.options) {
			return
		}
		qos = max(qos, min(m.QoS, member.options.qos))
	}
	if qos == 0 {
		return
	}
	o := outgoing{message: e.message, group: g, until: e.until}
	if owner != 0 {
		if o.entry = e.keep(owner, false, false); o.entry == nil {
			g.broker.stats.dropped.Add(1)
			return
		}
	}
	g.put([]outgoing{o}, false)
}

// put queues messages, in front of the others or behind them, and lets members
// that have room take them.
func (g *group) put(list []outgoing, front bool) {
	cfg := &g.broker.cfg
	g.mu.Lock()
	for _, o := range list {
		size := o.message.size()
		if g.ended || len(g.queue) >= cfg.QueueMessages && !front || g.bytes+size > cfg.QueueBytes && len(g.queue) > 0 && !front {
			g.broker.keeper.drop(o.entry)
			g.broker.stats.dropped.Add(1)
			continue
		}
		g.bytes += size
		if !front {
			g.queue = append(g.queue, o)
		}
	}
	if front && !g.ended {
		g.queue = append(append([]outgoing(nil), list...), g.queue...)
	}
	members := g.members
	g.mu.Unlock()
	for _, m := range members {
		m.session.pull()
	}
}

// take returns the oldest message of the queue that the client may have. What has
// expired before it is dropped.
func (g *group) take(c *Client, now time.Time) (o outgoing, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.queue = slices.DeleteFunc(g.queue, func(v outgoing) bool {
		switch {
		case ok:
			return false
		case v.expired(now):
			g.broker.stats.expired.Add(1)
			g.broker.keeper.drop(v.entry)
		case c.may(MayReceive, v.message.Topic):
			o, ok = v, true
		default:
			return false
		}
		g.bytes -= v.message.size()
		return true
	})
	if len(g.queue) == 0 {
		g.queue = nil
	}
	return o, ok
}
