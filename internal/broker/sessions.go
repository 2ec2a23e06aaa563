package broker

import "time"

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
			if timer := b.wills[c.id]; timer != nil {
				timer.Stop()
				delete(b.wills, c.id)
			}
			b.mu.Unlock()
			return nil
		}
		b.mu.Unlock()
		old.end(DuplicateClientID, codeTakenOver)
		<-old.done
	}
}

// open returns the session of a client that holds its client id, and whether
// it is one that was there before.
func (b *Broker) open(id string, version byte, clean bool) (s *session, present bool) {
	b.mu.Lock()
	old := b.sessions[id]
	if old != nil && !clean && old.version == version && b.cfg.Now().Before(old.expires) {
		b.mu.Unlock()
		return old, true
	}
	s = &session{broker: b, id: id, version: version}
	b.sessions[id] = s
	b.mu.Unlock()
	if old != nil {
		old.finish()
	}
	return s, false
}

// release gives back what claim and open took. The session is forgotten if it
// is over.
func (b *Broker) release(c *Client, over bool) {
	if over {
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
