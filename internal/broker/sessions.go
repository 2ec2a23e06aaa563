package broker

import (
	"context"
	"time"
)

// claim makes c the connection of its client id, here and at all nodes. It ends the one that
// has it and waits until that has said good-bye to the Handler.
func (b *Broker) claim(c *Client) error {
	if err := b.claimHere(c); err != nil {
		return err
	}
	err := b.takeOver(c)
	if err != nil {
		b.release(c, false)
	}
	return err
}

func (b *Broker) claimHere(c *Client) error {
	for {
		b.mu.Lock()
		if b.closing() {
			b.mu.Unlock()
			return &protocolError{codeShuttingDown, ServerInitiated, "server is shutting down"}
		}
		old := b.clients[c.id]
		if old == nil {
			b.clients[c.id] = c
			c.stamp, c.claiming = b.cfg.Now().UnixNano(), b.cfg.Peers != nil
			b.mu.Unlock()
			return nil
		}
		b.mu.Unlock()
		old.end(DuplicateClientID, codeTakenOver)
		<-old.done
	}
}

// open returns the session of a client that holds its client id, and whether
// it is one that was there before. It fails if there are too many.
func (b *Broker) open(c *Client, clean bool, expiry time.Duration) (present bool, err error) {
	b.mu.Lock()
	old := b.sessions[c.id]
	if old != nil && !clean && old.version == c.version && b.cfg.Now().Before(old.until()) {
		b.forgetWill(c.id)
		b.mu.Unlock()
		c.session = old
		return true, nil
	}
	if old == nil && expiry > 0 && len(b.sessions) >= b.cfg.MaxSessions {
		b.mu.Unlock()
		return false, &protocolError{codeQuotaExceeded, Throttled, "too many sessions"}
	}
	c.session = &session{broker: b, id: c.id, version: c.version, expiry: expiry}
	if expiry > 0 {
		c.session.key = b.keeper.key()
	}
	b.sessions[c.id] = c.session
	will := b.takeWill(c.id)
	b.mu.Unlock()
	if will != nil { // its session ends here
		b.publishWill(*will)
	}
	if old != nil {
		old.finish()
	}
	c.session.save(time.Time{}) // no will without its session, whose end may be when it is due
	// What the client is about to be told is gone must not come back.
	if old != nil && old.key != 0 {
		b.keeper.sync(b.closed)
	}
	return false, nil
}

// release gives back what claim and open took. The session is forgotten if it
// is over.
func (b *Broker) release(c *Client, over bool) {
	if over && c.session != nil {
		c.session.finish()
	}
	b.mu.Lock()
	if over && b.sessions[c.id] == c.session {
		delete(b.sessions, c.id)
	}
	delete(b.clients, c.id)
	b.mu.Unlock()
	close(c.done)
}

// expire ends a stored session at the end of an absence, unless its client has
// come back meanwhile.
func (b *Broker) expire(s *session, expires time.Time) {
	b.mu.Lock()
	if b.sessions[s.id] != s || b.clients[s.id] != nil || !s.stale(expires) {
		b.mu.Unlock()
		return
	}
	delete(b.sessions, s.id)
	b.mu.Unlock()
	s.finish()
}

// restore takes over what a former process has left in the store. Sessions whose
// clients were connected when it ended wait for them from now on; wills of those
// connections are published, after their delays.
func (b *Broker) restore(ctx context.Context) error {
	kept, err := b.cfg.Store.Load(ctx)
	if err != nil {
		return err
	}
	for i := range kept.Retained {
		v := &kept.Retained[i]
		b.retained[v.Message.Topic] = retained{&v.Message, v.Modified}
		b.retainedBytes += v.Message.size()
	}
	b.adopt(kept)
	if len(kept.Sessions)+len(kept.Retained)+len(kept.Wills) > 0 {
		b.log.Info("sessions restored", "sessions", len(b.sessions), "messages", b.keeper.entries, "retained", len(b.retained), "wills", len(kept.Wills))
	}
	return nil
}

// heir is where messages of the store go: a session, or the group of a shared subscription.
type heir struct {
	session *session
	cut     bool // its connection ended with the process
	group   *group
	list    []outgoing
}

// adopt takes over sessions, groups and wills that the store had for nobody, or for another node.
// What is stored for a client that has a session here is dropped.
func (b *Broker) adopt(kept *Kept) {
	now, k := b.cfg.Now(), b.keeper
	k.pass(kept)
	owners := map[int64]*heir{}
	var sessions []*heir
	for _, v := range kept.Sessions {
		expires := v.Expires
		if expires.IsZero() {
			expires = now.Add(v.Expiry)
		}
		s := &session{broker: b, id: v.Client, key: v.Key, version: v.Version, expiry: v.Expiry, expires: expires}
		if !now.Before(expires) {
			s.finish()
			continue
		}
		for _, sub := range v.Subscriptions {
			s.subs = append(s.subs, subscription{sub.Filter, options{sub.QoS, sub.NoLocal, sub.RetainAsPublished}})
		}
		h := &heir{session: s, cut: v.Expires.IsZero()}
		owners[s.key], sessions = h, append(sessions, h)
	}
	for _, v := range kept.Groups {
		owners[v.Key] = &heir{}
	}
	for _, o := range k.adopt(kept, func(owner int64) bool { return owners[owner] != nil }) {
		h := owners[o.entry.owner]
		h.list = append(h.list, o)
	}
	for _, h := range sessions {
		b.admit(h)
	}
	for _, v := range kept.Groups {
		h := owners[v.Key]
		if name, inner, ok := cutShare(v.Filter); ok {
			h.group = b.index.group(name, inner)
		}
		if h.group != nil {
			h.group.adopt(v.Key, h.list)
			continue
		}
		for _, o := range h.list {
			k.drop(o.entry)
		}
		k.endGroup(v.Key)
	}
	for _, w := range kept.Wills {
		if w.Due.IsZero() { // the connection ended with the process
			b.mu.Lock()
			s := b.sessions[w.Client]
			b.mu.Unlock()
			if s == nil {
				w.Delay = 0
			} else {
				w.Delay = min(w.Delay, s.keptFor())
			}
			w.Due = now.Add(w.Delay)
			k.putWill(w)
		}
		if !now.Before(w.Due) { // before its client, which may be coming back right now, calls it off
			b.publishWill(w)
			continue
		}
		b.delayWill(w)
	}
}

// admit makes a session of the store one of this broker.
func (b *Broker) admit(h *heir) {
	s := h.session
	b.mu.Lock()
	if b.sessions[s.id] != nil {
		b.mu.Unlock()
		for _, o := range h.list {
			b.keeper.drop(o.entry)
		}
		b.keeper.endSession(s.key, s.id)
		return
	}
	b.sessions[s.id] = s
	b.mu.Unlock()
	s.mu.Lock()
	s.waiting = h.list
	for _, o := range h.list {
		s.bytes += o.message.size()
	}
	subs := s.subs
	s.await(s.expires)
	if h.cut {
		s.save(s.expires)
	}
	s.mu.Unlock()
	for _, sub := range subs {
		name, inner, ok := cutShare(sub.filter)
		if !ok {
			b.index.add(sub.filter, s, sub.options)
			continue
		}
		if g, _, ok := b.index.join(name, inner, s, sub.options, b.cfg.MaxShared); ok {
			s.mu.Lock()
			s.groups = append(s.groups, g)
			s.mu.Unlock()
		}
	}
}
