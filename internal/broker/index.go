package broker

import (
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// subscriber is one session's wish for what a filter matches.
type subscriber struct {
	session *session
	options options
}

// options are what a SUBSCRIBE says about a filter besides its text.
type options struct {
	qos               byte // granted, 0 or 1
	noLocal           bool
	retainAsPublished bool
}

// index finds the sessions that are subscribed to a topic. Filters without
// wildcards, nearly all of a fleet's, are entries of maps, which share the load
// by the topic's hash; the others are a tree of levels. Who looks something up
// gets a copy: no lock is held while messages are sent.
type index struct {
	seed   maphash.Seed
	shards [64]shard
	count  atomic.Int64 // subscriptions of all kinds

	mu   sync.RWMutex // of wild
	wild node

	peers  Peers // nil: nobody else is told
	shares shares
}

type shard struct {
	mu    sync.RWMutex
	lists map[string]list
}

// node is one level of the filters with wildcards. Nearly all have one child: every
// device has filters of its own.
type node struct {
	level    string // of the only child
	only     *node  // nil if there is none, or more than one
	children map[string]*node
	ends     *list // of filters that end at this level; nil if there are none
	below    *list // of filters that end in "#" below this level; nil if there are none
}

func (n *node) child(level string) *node {
	if n.only != nil && n.level == level {
		return n.only
	}
	return n.children[level]
}

// make returns the child of a level, a new one if there is none.
func (n *node) make(level string) *node {
	next := n.child(level)
	if next != nil {
		return next
	}
	next = new(node)
	switch {
	case n.children != nil:
		n.children[level] = next
	case n.only != nil:
		n.children = map[string]*node{n.level: n.only, level: next}
		n.level, n.only = "", nil
	default:
		n.level, n.only = level, next
	}
	return next
}

func (n *node) remove(level string) {
	if n.only != nil {
		n.level, n.only = "", nil
		return
	}
	delete(n.children, level)
	if len(n.children) == 0 {
		n.children = nil
	}
}

func (n *node) empty() bool {
	return n.only == nil && n.children == nil && n.ends == nil && n.below == nil
}

// list is who is subscribed to one filter.
type list struct {
	subs []subscriber
	more *crowd // nil for nearly all
}

// crowd is what only lists that are long, or shared, need.
type crowd struct {
	at     map[*session]int // places in subs, once they are too many to look through
	groups []*group         // shared subscriptions with this filter
}

// lookThrough is how many subscribers are looked through rather than kept in a map.
const lookThrough = 32

func newIndex(peers Peers) *index {
	x := &index{seed: maphash.MakeSeed(), peers: peers}
	for i := range x.shards {
		x.shards[i].lists = map[string]list{}
	}
	return x
}

func (x *index) shard(topic string) *shard {
	return &x.shards[maphash.String(x.seed, topic)%uint64(len(x.shards))]
}

// change lets f change the list of a filter; a list that is empty then is removed. f returns how
// many subscriptions have come, or gone.
func (x *index) change(filter string, f func(l *list) (delta int)) (delta int) {
	if hasWildcard(filter) {
		x.mu.Lock()
		defer x.mu.Unlock()
		delta = x.wild.change(filter, f)
		x.count.Add(int64(delta))
		return delta
	}
	s := x.shard(filter)
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lists[filter]
	delta = f(&l)
	x.count.Add(int64(delta))
	if l.empty() {
		delete(s.lists, filter)
	} else {
		s.lists[filter] = l
	}
	return delta
}

// add subscribes s to filter, or replaces the options that it had. It reports whether that is
// news to other nodes.
func (x *index) add(filter string, s *session, o options) (news bool) {
	delta := x.change(filter, func(l *list) int { return l.add(s, o) })
	return delta > 0 && x.peers != nil && x.peers.Want(filter)
}

// remove takes back what add did.
func (x *index) remove(filter string, s *session) {
	if x.change(filter, func(l *list) int { return l.remove(s) }) < 0 && x.peers != nil {
		x.peers.Unwant(filter)
	}
}

// join makes s a member of the group that shares filter under a name, or
// replaces the options that it had. ok is false if the group has no room for
// another one; news says that other nodes do not know of it yet.
func (x *index) join(name, filter string, s *session, o options, limit int) (g *group, news, ok bool) {
	delta := x.change(filter, func(l *list) (delta int) {
		g = l.makeGroup(s.broker, name, filter)
		delta, ok = g.add(s, o, limit)
		return delta
	})
	if delta > 0 && x.peers != nil {
		x.peers.Want(filter)
		x.tell(g)
		news = true
	}
	return g, news, ok
}

// leave takes back what join did. With the last member, and if there is none at other nodes, the
// group goes. It returns what waited for the members if none is left here.
func (x *index) leave(g *group, s *session) (queue []outgoing) {
	delta := x.change(g.filter, func(l *list) int {
		var removed, over bool
		if queue, removed, over = g.remove(s); over {
			l.drop(g)
		}
		if removed {
			return -1
		}
		return 0
	})
	if delta < 0 && x.peers != nil {
		x.tell(g)
		// Who has chosen a member here, and does not know yet, is still heard; deliver passes it on.
		time.AfterFunc(lingering, func() {
			select {
			case <-g.broker.closed:
			default:
				x.peers.Unwant(g.filter)
			}
		})
	}
	return queue
}

// has reports whether anybody is subscribed to topic.
func (x *index) has(topic string) bool {
	s := x.shard(topic)
	s.mu.RLock()
	l, found := s.lists[topic]
	s.mu.RUnlock()
	if found && !l.empty() {
		return true
	}
	found = false
	x.mu.RLock()
	defer x.mu.RUnlock()
	x.wild.match(topic, true, func(*list) bool {
		found = true
		return false
	})
	return found
}

// matched is who is subscribed to a topic.
type matched struct {
	subs   []subscriber
	groups []*group
	at     map[*session]int // places in subs, once they are too many to look through
}

// match returns who is subscribed to topic, each session once: overlapping
// filters of one session give one copy at the highest QoS granted (spec §2.7).
// Each group gets a copy of its own (spec §2.15). subs are appended to buf.
func (x *index) match(topic string, buf []subscriber) ([]subscriber, []*group) {
	m := matched{subs: buf[:0]}
	s := x.shard(topic)
	s.mu.RLock()
	if l, ok := s.lists[topic]; ok {
		m.add(&l)
	}
	s.mu.RUnlock()
	x.mu.RLock()
	defer x.mu.RUnlock()
	x.wild.match(topic, true, func(l *list) bool {
		m.add(l)
		return true
	})
	return m.subs, m.groups
}

func (m *matched) add(l *list) {
	if l.more != nil {
		m.groups = append(m.groups, l.more.groups...)
	}
	if len(m.subs) == 0 {
		m.subs = append(m.subs, l.subs...)
		return
	}
	if m.at == nil && len(m.subs)+len(l.subs) > lookThrough {
		m.at = make(map[*session]int, len(m.subs)+len(l.subs))
		for i, sub := range m.subs {
			m.at[sub.session] = i
		}
	}
	for _, sub := range l.subs {
		i, twice := placeOf(m.subs, m.at, sub.session)
		if !twice {
			if m.at != nil {
				m.at[sub.session] = len(m.subs)
			}
			m.subs = append(m.subs, sub)
			continue
		}
		o := &m.subs[i].options
		o.qos = max(o.qos, sub.options.qos)
		o.noLocal = o.noLocal && sub.options.noLocal
		o.retainAsPublished = o.retainAsPublished || sub.options.retainAsPublished
	}
}

// subscriptions returns how many there are.
func (x *index) subscriptions() int { return int(x.count.Load()) }

// change is index.change below n.
func (n *node) change(filter string, f func(l *list) int) (delta int) {
	level, rest, more := strings.Cut(filter, "/")
	if level == "#" {
		return changeList(&n.below, f)
	}
	next := n.make(level)
	if more {
		delta = next.change(rest, f)
	} else {
		delta = changeList(&next.ends, f)
	}
	if next.empty() {
		n.remove(level)
	}
	return delta
}

func changeList(at **list, f func(l *list) int) (delta int) {
	l := *at
	if l == nil {
		l = new(list)
	}
	delta = f(l)
	if *at = l; l.empty() {
		*at = nil
	}
	return delta
}

// match calls yield with every list of subscribers whose filter matches topic,
// until it returns false; match then returns false too.
//
// A wildcard at the first level does not match a topic that begins with "$"
// (spec §2.18), and "a/#" does not match "a" (spec §2.2, difference 5).
func (n *node) match(topic string, first bool, yield func(*list) bool) bool {
	wildcards := !first || !strings.HasPrefix(topic, "$")
	if wildcards && n.below != nil && !yield(n.below) {
		return false
	}
	if n.only == nil && n.children == nil {
		return true
	}
	level, rest, more := strings.Cut(topic, "/")
	visit := func(next *node) bool {
		switch {
		case next == nil:
			return true
		case more:
			return next.match(rest, false, yield)
		case next.ends != nil:
			return yield(next.ends)
		}
		return true
	}
	// Topics hold no "+", so the two are never the same node.
	return visit(n.child(level)) && (!wildcards || visit(n.child("+")))
}

func (l *list) empty() bool { return len(l.subs) == 0 && (l.more == nil || len(l.more.groups) == 0) }

// add returns 1 if s is new to the list, else 0.
func (l *list) add(s *session, o options) int {
	var at map[*session]int
	if l.more != nil {
		at = l.more.at
	}
	if i, have := placeOf(l.subs, at, s); have {
		l.subs[i].options = o
		return 0
	}
	if at != nil {
		at[s] = len(l.subs)
	} else if len(l.subs) >= lookThrough {
		at = make(map[*session]int, 2*lookThrough)
		for i, sub := range l.subs {
			at[sub.session] = i
		}
		at[s] = len(l.subs)
		if l.more == nil {
			l.more = new(crowd)
		}
		l.more.at = at
	}
	l.subs = append(l.subs, subscriber{s, o})
	return 1
}

// remove returns -1 if s was in the list, else 0.
func (l *list) remove(s *session) int {
	var at map[*session]int
	if l.more != nil {
		at = l.more.at
	}
	i, have := placeOf(l.subs, at, s)
	if !have {
		return 0
	}
	last := len(l.subs) - 1
	l.subs[i] = l.subs[last]
	l.subs[last] = subscriber{}
	l.subs = l.subs[:last]
	if at != nil {
		delete(at, s)
		if i < last {
			at[l.subs[i].session] = i
		}
	}
	return -1
}

func (l *list) group(name string) *group {
	if l.more != nil {
		for _, g := range l.more.groups {
			if g.name == name {
				return g
			}
		}
	}
	return nil
}

// makeGroup returns the group of a name, a new one if there is none.
func (l *list) makeGroup(b *Broker, name, filter string) *group {
	g := l.group(name)
	if g == nil {
		g = &group{broker: b, name: name, filter: filter}
		if l.more == nil {
			l.more = new(crowd)
		}
		l.more.groups = append(l.more.groups[:len(l.more.groups):len(l.more.groups)], g)
	}
	return g
}

// drop removes a group. Those that have been found by match keep their list.
func (l *list) drop(g *group) {
	var kept []*group
	for _, other := range l.more.groups {
		if other != g {
			kept = append(kept, other)
		}
	}
	l.more.groups = kept
}

// placeOf returns where s is in subs, by the map if there is one.
func placeOf(subs []subscriber, at map[*session]int, s *session) (i int, found bool) {
	if at != nil {
		i, found = at[s]
		return i, found
	}
	for i := range subs {
		if subs[i].session == s {
			return i, true
		}
	}
	return 0, false
}

// group returns the group that shares filter under a name, nil if there is none.
func (x *index) group(name, filter string) (g *group) {
	x.change(filter, func(l *list) int {
		g = l.group(name)
		return 0
	})
	return g
}
