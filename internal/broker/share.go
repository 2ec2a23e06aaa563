package broker

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// The members of a shared subscription may be at several nodes. Each node tells the others how
// many it has, and how many of them are connected. Where a message is published, one node is
// chosen for each group, by the numbers of connected members, or of all if nobody is there; that
// node gives it to one of its own, or keeps it for them.

// shares is what nodes know of each other's groups.
type shares struct {
	mu    sync.Mutex
	here  map[string]*group // with members here, by the filter as members say it
	there map[string]*group // with members at other nodes
}

// tell tells the other nodes how many members a group has here.
func (x *index) tell(g *group) {
	x.shares.mu.Lock()
	defer x.shares.mu.Unlock()
	w := g.census(x.peers.Self())
	if w.Members > 0 {
		if x.shares.here == nil {
			x.shares.here = map[string]*group{}
		}
		x.shares.here[w.Filter] = g
	} else if x.shares.here[w.Filter] == g {
		delete(x.shares.here, w.Filter)
	}
	x.peers.Tell((&word{Group: &w}).encode())
}

// memberships returns the groups that have members here.
func (x *index) memberships(self string) []groupWord {
	x.shares.mu.Lock()
	defer x.shares.mu.Unlock()
	list := []groupWord{}
	for _, g := range x.shares.here {
		list = append(list, g.census(self))
	}
	return list
}

// census counts the members here.
func (g *group) census(self string) groupWord {
	g.mu.Lock()
	members := g.members
	g.mu.Unlock()
	w := groupWord{Node: self, Filter: g.full(), Members: len(members)}
	for _, m := range members {
		m.session.mu.Lock()
		if m.session.client != nil {
			w.Online++
		}
		m.session.mu.Unlock()
	}
	return w
}

// tellGroups tells the other nodes that a member of the session's groups has come or gone.
func (s *session) tellGroups() {
	if s.broker.cfg.Peers == nil {
		return
	}
	s.mu.Lock()
	groups := slices.Clone(s.groups)
	s.mu.Unlock()
	for _, g := range groups {
		s.broker.index.tell(g)
		g.handOver()
	}
}

// handOver lets members that are connected at other nodes have what waits while none is connected here.
func (g *group) handOver() {
	self := g.broker.cfg.Peers.Self()
	g.mu.Lock()
	waits := len(g.queue) > 0 && slices.ContainsFunc(g.there, func(w groupWord) bool { return w.Online > 0 })
	g.mu.Unlock()
	if !waits || g.census(self).Online > 0 {
		return
	}
	g.mu.Lock()
	queue := g.queue
	g.queue, g.bytes = nil, 0
	g.mu.Unlock()
	var stays []outgoing
	for _, o := range queue {
		if node := g.choose(self); node != "" {
			g.broker.relay(o.message, "", time.Time{}, []place{{g.full(), node}})
			g.broker.keeper.drop(o.entry)
		} else {
			stays = append(stays, o)
		}
	}
	if len(stays) > 0 {
		g.put(stays, true)
	}
}

// peer notes how many members a group has at another node.
func (x *index) peer(b *Broker, w groupWord) {
	name, filter, ok := cutShare(w.Filter)
	if !ok {
		return
	}
	x.shares.mu.Lock()
	defer x.shares.mu.Unlock()
	x.change(filter, func(l *list) int {
		if w.Members == 0 && l.group(name) == nil {
			return 0
		}
		g := l.makeGroup(b, name, filter)
		if left, over := g.peer(w); over {
			l.drop(g)
			delete(x.shares.there, w.Filter)
		} else if left {
			if x.shares.there == nil {
				x.shares.there = map[string]*group{}
			}
			x.shares.there[w.Filter] = g
		} else {
			delete(x.shares.there, w.Filter)
		}
		return 0
	})
}

// peer reports whether the group has members at other nodes, and whether it has none at all.
func (g *group) peer(w groupWord) (there, over bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	others := slices.DeleteFunc(slices.Clone(g.there), func(o groupWord) bool { return o.Node == w.Node })
	if w.Members > 0 {
		others = append(others, w)
	}
	g.there = others
	g.ended = g.ended || len(others)+len(g.members) == 0
	return len(others) > 0, g.ended
}

// forgetPeers forgets the members of nodes that are gone.
func (x *index) forgetPeers(b *Broker, gone func(node string) bool) {
	var over []groupWord
	x.shares.mu.Lock()
	for _, g := range x.shares.there {
		g.mu.Lock()
		for _, w := range g.there {
			if gone(w.Node) {
				over = append(over, groupWord{Node: w.Node, Filter: w.Filter})
			}
		}
		g.mu.Unlock()
	}
	x.shares.mu.Unlock()
	for _, w := range over {
		x.peer(b, w)
	}
}

// choose returns the node whose members get the next message, "" for those here.
func (g *group) choose(self string) string {
	g.mu.Lock()
	there, members := g.there, len(g.members)
	g.mu.Unlock()
	if len(there) == 0 {
		return ""
	}
	if members > 0 {
		there = append(slices.Clip(there), g.census(self))
	}
	for _, weight := range []func(groupWord) int{func(w groupWord) int { return w.Online }, func(w groupWord) int { return w.Members }} {
		sum := 0
		for _, w := range there {
			sum += weight(w)
		}
		if sum == 0 {
			continue
		}
		for n := rand.IntN(sum); ; there = there[1:] {
			if n -= weight(there[0]); n >= 0 {
				continue
			}
			if there[0].Node == self {
				return ""
			}
			return there[0].Node
		}
	}
	return ""
}

// placed tells the groups whose members here get a message from those where it goes elsewhere.
func (b *Broker) placed(groups []*group) (here []*group, there []place) {
	for _, g := range groups {
		if node := g.choose(b.cfg.Peers.Self()); node == "" {
			here = append(here, g)
		} else {
			there = append(there, place{g.full(), node})
		}
	}
	return here, there
}

// chosen returns the groups whose members here get a message of another node.
func (b *Broker) chosen(groups []*group, places []place) (here []*group) {
	self := b.cfg.Peers.Self()
	for _, p := range places {
		if p.node != self {
			continue
		}
		i := slices.IndexFunc(groups, func(g *group) bool { return g.full() == p.filter })
		if i < 0 { // the last member has just left
			b.stats.dropped.Add(1)
			continue
		}
		here = append(here, groups[i])
	}
	return here
}

// abandon lets members at other nodes have what waited for those here, if there are any.
func (g *group) abandon(queue []outgoing) {
	for _, o := range queue {
		if g.broker.cfg.Peers != nil {
			if node := g.choose(g.broker.cfg.Peers.Self()); node != "" {
				g.broker.relay(o.message, "", time.Time{}, []place{{g.full(), node}})
			}
		}
		g.broker.keeper.drop(o.entry)
	}
}

// maxParting bounds what one answer carries, bytes.
const maxParting = 512 << 10

// pack takes what waited for members here along with the last of them, as much as an answer carries.
func (g *group) pack(queue []outgoing) parting {
	p := parting{Filter: g.full()}
	size := 0
	for _, o := range queue {
		if size += o.message.size(); size <= maxParting {
			r := relayed{message: *o.message}
			p.Messages = append(p.Messages, r.encode())
		} else {
			g.broker.stats.dropped.Add(1)
		}
		g.broker.keeper.drop(o.entry)
	}
	return p
}

// adopt takes what the store had for a group under a key. Who has members elsewhere only, or keeps
// messages under another key already, gets the messages as if they came now.
func (g *group) adopt(key int64, list []outgoing) {
	g.mu.Lock()
	members := len(g.members)
	if members > 0 && g.key == 0 {
		g.key = key
		for i := range list {
			list[i].group = g
			g.bytes += list[i].message.size()
		}
		g.queue = append(list, g.queue...)
		g.mu.Unlock()
		return
	}
	g.mu.Unlock()
	g.broker.keeper.endGroup(key)
	if members == 0 {
		g.abandon(list)
		return
	}
	for _, o := range list {
		e := g.broker.copiesOf(o.message, true, nil)
		g.deliver(e, o.message)
		e.finish()
		g.broker.keeper.drop(o.entry)
	}
}
