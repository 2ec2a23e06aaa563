package broker

// retain stores a message for those who will subscribe to its topic, or forgets
// the stored one if the payload is empty. It reports false if there is no room.
func (b *Broker) retain(m Message) bool {
	b.retainedMu.Lock()
	defer b.retainedMu.Unlock()
	if len(m.Payload) == 0 {
		delete(b.retained, m.Topic)
		return true
	}
	if _, have := b.retained[m.Topic]; !have && len(b.retained) >= b.cfg.MaxRetained {
		return false
	}
	kept := m
	b.retained[m.Topic] = &kept
	return true
}

// retainedAt returns the message stored for a topic, or nil.
func (b *Broker) retainedAt(topic string) *Message {
	b.retainedMu.RLock()
	m := b.retained[topic]
	b.retainedMu.RUnlock()
	if m == nil || !m.expired(b.cfg.Now()) {
		return m
	}
	b.retainedMu.Lock()
	defer b.retainedMu.Unlock()
	if b.retained[topic] == m {
		delete(b.retained, topic)
	}
	return nil
}
