package broker

import (
	"context"
	"time"
)

// claim makes c the connection of its client id. It ends the one that has it
// and waits until that has said good-bye to the Handler.
func (b *Broker) claim(c *Client) error {
	for {
		b.mu.Lock()
		if b.closing() {
			b.mu.Unlock()
			return &protocolError{codeShuttingDown, ServerInitiated, "server is shutting down"}
		}
		old := b.clients[c.id]
		if old == nil {
			b.clients[c.id] = c
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
	if old != nil && !clean && old.version == c.version && b.cfg.Now().Before(old.expires) {
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
	if b.cfg.Store == nil {
		return nil
	}
	kept, err := b.cfg.Store.Load(ctx)
	if err != nil {
		return err
	}
	now, k := b.cfg.Now(), b.keeper
	owners := map[int64]func(outgoing){}
	for _, v := range kept.Sessions {
		k.last = max(k.last, v.Key)
		expires := v.Expires
		if expires.IsZero() {
			expires = now.Add(v.Expiry)
		}
		s := &session{broker: b, id: v.Client, key: v.Key, version: v.Version, expiry: v.Expiry}
		if !now.Before(expires) {
			s.finish()
			continue
		}
		for _, sub := range v.Subscriptions {
			o := options{sub.QoS, sub.NoLocal, sub.RetainAsPublished}
			s.subs = append(s.subs, subscription{sub.Filter, o})
			if name, inner, ok := cutShare(sub.Filter); ok {
				if g, ok := b.index.join(name, inner, s, o, b.cfg.MaxShared); ok {
					s.groups = append(s.groups, g)
				}
			} else {
				b.index.add(sub.Filter, s, o)
			}
		}
		s.await(expires)
		if v.Expires.IsZero() {
			s.save(expires)
		}
		b.sessions[s.id] = s
		owners[s.key] = func(o outgoing) {
			s.waiting = append(s.waiting, o)
			s.bytes += o.message.size()
		}
	}
	for _, v := range kept.Groups {
		k.last = max(k.last, v.Key)
		if name, inner, ok := cutShare(v.Filter); ok {
			if g := b.index.group(name, inner); g != nil {
				g.key = v.Key
				owners[v.Key] = func(o outgoing) {
					o.group = g
					g.queue = append(g.queue, o)
					g.bytes += o.message.size()
				}
				continue
			}
		}
		k.endGroup(v.Key)
	}
	parcels := make(map[int64]*parcel, len(kept.Messages))
	for i := range kept.Messages {
		v := &kept.Messages[i]
		k.last = max(k.last, v.Key)
		parcels[v.Key] = &parcel{message: &v.Message, key: v.Key, bytes: v.Message.size(), refs: 1, stored: true}
		k.bytes += v.Message.size()
	}
	for _, v := range kept.Entries {
		k.last = max(k.last, v.Seq)
		p := parcels[v.Message]
		if p == nil || owners[v.Owner] == nil {
			k.next.EndedEntries = append(k.next.EndedEntries, v.Seq)
			continue
		}
		p.refs++
		k.entries++
		e := &entry{parcel: p, seq: v.Seq, owner: v.Owner, until: v.Until, retain: v.Retain, state: entryStored}
		owners[v.Owner](outgoing{message: p.message, entry: e, until: v.Until, retain: v.Retain})
	}
	for _, p := range parcels {
		k.unref(p) // deletes those that nobody waits for
	}
	for i := range kept.Retained {
		v := &kept.Retained[i]
		b.retained[v.Message.Topic] = retained{&v.Message, v.Modified}
		b.retainedBytes += v.Message.size()
	}
	for _, w := range kept.Wills {
		k.last = max(k.last, w.Key)
	}
	for _, w := range kept.Wills {
		if w.Due.IsZero() { // the connection ended with the process
			s := b.sessions[w.Client]
			if s == nil {
				w.Delay = 0
			} else {
				w.Delay = min(w.Delay, s.expiry)
			}
			w.Due = now.Add(w.Delay)
			k.putWill(w)
		}
		b.delayWill(w)
	}
	if len(kept.Sessions)+len(kept.Retained)+len(kept.Wills) > 0 {
		b.log.Info("sessions restored", "sessions", len(b.sessions), "messages", k.entries, "retained", len(b.retained), "wills", len(kept.Wills))
	}
	return nil
}
