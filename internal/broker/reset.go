package broker

import (
	"context"
)

// Reset ends every connection, with DISCONNECT 0x98 for MQTT 5, and forgets all sessions,
// retained messages and wills; the listeners stay. It returns when those connections have
// ended, or with ctx's error. It is for servers that are there to be tested against.
func (b *Broker) Reset(ctx context.Context) error {
	b.mu.Lock()
	clients := make([]*Client, 0, len(b.clients))
	for _, c := range b.clients {
		clients = append(clients, c)
	}
	b.mu.Unlock()
	for _, c := range clients {
		c.Disconnect()
	}
	for _, c := range clients {
		select {
		case <-c.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}

	b.mu.Lock()
	for id := range b.wills {
		b.forgetWill(id)
	}
	var stored []*session
	for id, s := range b.sessions {
		if b.clients[id] == nil { // nobody has come back meanwhile
			stored = append(stored, s)
			delete(b.sessions, id)
		}
	}
	b.mu.Unlock()
	for _, s := range stored {
		s.finish()
	}
	b.retainedMu.Lock()
	for topic := range b.retained {
		b.keeper.putRetained(topic, nil, nil)
	}
	b.retained, b.retainedBytes = make(map[string]retained), 0
	b.retainedMu.Unlock()
	b.keeper.sync(ctx.Done())
	return ctx.Err()
}
