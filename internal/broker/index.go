package broker

import (
	"slices"
	"strings"
	"sync"
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
// wildcards, nearly all of a fleet's, are one entry of a map; the others are a
// tree of levels.
type index struct {
	mu    sync.RWMutex
	exact map[string][]subscriber
	wild  node
	count int // subscriptions of both kinds
}

// node is one level of the filters with wildcards.
type node struct {
	children map[string]*node
	ends     []subscriber // of filters that end at this level
	below    []subscriber // of filters that end in "#" below this level
}

// add subscribes s to filter, or replaces the options that it had.
func (x *index) add(filter string, s *session, o options) {
	x.mu.Lock()
	defer x.mu.Unlock()
	var list []subscriber
	var added bool
	if !hasWildcard(filter) {
		list, added = with(x.exact[filter], s, o)
		x.exact[filter] = list
	} else {
		n, hash := x.wild.reach(filter)
		if hash {
			n.below, added = with(n.below, s, o)
		} else {
			n.ends, added = with(n.ends, s, o)
		}
	}
	if added {
		x.count++
	}
}

// remove takes back what add did.
func (x *index) remove(filter string, s *session) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if hasWildcard(filter) {
		if x.wild.remove(filter, s) {
			x.count--
		}
		return
	}
	list, removed := without(x.exact[filter], s)
	if !removed {
		return
	}
	x.count--
	if len(list) == 0 {
		delete(x.exact, filter)
	} else {
		x.exact[filter] = list
	}
}

// has reports whether anybody is subscribed to topic.
func (x *index) has(topic string) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if len(x.exact[topic]) > 0 {
		return true
	}
	found := false
	x.wild.match(topic, true, func([]subscriber) bool {
		found = true
		return false
	})
	return found
}

// match returns who is subscribed to topic, each session once: overlapping
// filters of one session give one copy at the highest QoS granted (spec §2.7).
func (x *index) match(topic string) []subscriber {
	x.mu.RLock()
	defer x.mu.RUnlock()
	found := slices.Clone(x.exact[topic])
	var at map[*session]int
	x.wild.match(topic, true, func(list []subscriber) bool {
		if len(found) == 0 {
			found = append(found, list...)
			return true
		}
		if at == nil {
			at = make(map[*session]int, len(found)+len(list))
			for i, sub := range found {
				at[sub.session] = i
			}
		}
		for _, sub := range list {
			i, twice := at[sub.session]
			if !twice {
				at[sub.session] = len(found)
				found = append(found, sub)
				continue
			}
			o := &found[i].options
			o.qos = max(o.qos, sub.options.qos)
			o.noLocal = o.noLocal && sub.options.noLocal
			o.retainAsPublished = o.retainAsPublished || sub.options.retainAsPublished
		}
		return true
	})
	return found
}

// subscriptions returns how many there are.
func (x *index) subscriptions() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.count
}

// reach returns the node of a filter, making it where it lacks, and whether
// the filter ends in "#" below it.
func (n *node) reach(filter string) (end *node, hash bool) {
	for more := true; more; {
		var level string
		level, filter, more = strings.Cut(filter, "/")
		if level == "#" {
			return n, true
		}
		next := n.children[level]
		if next == nil {
			next = new(node)
			if n.children == nil {
				n.children = make(map[string]*node, 1)
			}
			n.children[level] = next
		}
		n = next
	}
	return n, false
}

// remove takes s out of filter, and the nodes that are empty then.
func (n *node) remove(filter string, s *session) (removed bool) {
	level, rest, more := strings.Cut(filter, "/")
	if level == "#" {
		n.below, removed = without(n.below, s)
		return removed
	}
	next := n.children[level]
	if next == nil {
		return false
	}
	if more {
		removed = next.remove(rest, s)
	} else {
		next.ends, removed = without(next.ends, s)
	}
	if len(next.children)+len(next.ends)+len(next.below) == 0 {
		delete(n.children, level)
	}
	return removed
}

// match calls yield with every list of subscribers whose filter matches topic,
// until it returns false; match then returns false too.
//
// A wildcard at the first level does not match a topic that begins with "$"
// (spec §2.18), and "a/#" does not match "a" (spec §2.2, difference 5).
func (n *node) match(topic string, first bool, yield func([]subscriber) bool) bool {
	wildcards := !first || !strings.HasPrefix(topic, "$")
	if wildcards && len(n.below) > 0 && !yield(n.below) {
		return false
	}
	if len(n.children) == 0 {
		return true
	}
	level, rest, more := strings.Cut(topic, "/")
	visit := func(next *node) bool {
		switch {
		case next == nil:
			return true
		case more:
			return next.match(rest, false, yield)
		case len(next.ends) > 0:
			return yield(next.ends)
		}
		return true
	}
	// Topics hold no "+", so the two are never the same node.
	return visit(n.children[level]) && (!wildcards || visit(n.children["+"]))
}

func with(list []subscriber, s *session, o options) (_ []subscriber, added bool) {
	for i := range list {
		if list[i].session == s {
			list[i].options = o
			return list, false
		}
	}
	return append(list, subscriber{s, o}), true
}

func without(list []subscriber, s *session) (_ []subscriber, removed bool) {
	for i := range list {
		if list[i].session == s {
			last := len(list) - 1
			list[i] = list[last]
			list[last] = subscriber{}
			return list[:last], true
		}
	}
	return list, false
}
