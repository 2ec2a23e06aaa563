package broker

import (
	"cmp"
	"context"
	"errors"
	"net"
	"slices"
	"time"
)

// ClientState is what is known of a client that is connected or has a session.
type ClientState struct {
	ID        string
	Connected bool
	Since     time.Time // when it connected, or when its last connection ended
	// Reason is why its last connection ended; "" while it is connected, and when
	// that was in a former process.
	Reason          DisconnectReason
	ProtocolVersion byte          // 4 for MQTT 3.1.1, 5
	Expiry          time.Duration // how long the session outlives the connection; 0: not at all
	KeepAlive       time.Duration // 0 unless connected
	RemoteAddr      net.Addr      // nil unless connected
	LocalAddr       net.Addr      // nil unless connected
	Waiting         int           // QoS 1 messages that it has not acknowledged
	Subscriptions   []Subscription
}

// Subscription is a filter with the QoS that was granted.
type Subscription struct {
	Filter string
	QoS    byte
}

// Client returns the state of a client, at whatever node; ok is false if it is neither connected
// nor has a session.
func (b *Broker) Client(ctx context.Context, id string) (state ClientState, ok bool) {
	state, ok = b.client(id)
	if b.cfg.Peers == nil || state.Connected {
		return state, ok
	}
	others, _ := ask[peerState](ctx, b, word{State: &id})
	for _, other := range others {
		if s := other.state(); !ok || newer(s, state) {
			state, ok = s, true
		}
	}
	return state, ok
}

// client is Client for this node.
func (b *Broker) client(id string) (_ ClientState, ok bool) {
	b.mu.Lock()
	s := b.sessions[id]
	b.mu.Unlock()
	if s == nil {
		return ClientState{}, false
	}
	return s.state(), true
}

// ClientsAfter lists clients of this node by their ids, at most limit of those after an id ("":
// from the first).
func (b *Broker) ClientsAfter(id string, limit int) []ClientState {
	b.mu.Lock()
	var found []*session
	for other, s := range b.sessions {
		if other > id {
			found = append(found, s)
		}
	}
	b.mu.Unlock()
	slices.SortFunc(found, func(x, y *session) int { return cmp.Compare(x.id, y.id) })
	states := make([]ClientState, 0, min(limit, len(found)))
	for _, s := range found[:min(limit, len(found))] {
		states = append(states, s.state())
	}
	return states
}

func (s *session) state() ClientState {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := ClientState{ID: s.id, ProtocolVersion: s.version, Expiry: s.expiry, Waiting: len(s.inflight) + len(s.waiting)}
	if c := s.client; c != nil {
		state.Connected, state.Since, state.KeepAlive = true, c.connectedAt, c.keepAlive
		state.RemoteAddr, state.LocalAddr = c.conn.RemoteAddr(), c.conn.LocalAddr()
	} else {
		state.Since, state.Reason = s.expires.Add(-s.expiry), s.reason
	}
	for _, sub := range s.subs {
		state.Subscriptions = append(state.Subscriptions, Subscription{sub.filter, sub.options.qos})
	}
	return state
}

// EndOptions say what else goes when a connection is ended.
type EndOptions struct {
	Clean  bool // the session, with its subscriptions and messages
	NoWill bool // the will: it is not published
}

// End ends the connection of a client by request of an operator, which an MQTT 5
// client learns as DISCONNECT 0x98, and waits for its end. It reports false if the
// client is neither connected nor has a session. It must not be called from a
// Handler's method.
func (b *Broker) End(ctx context.Context, id string, o EndOptions) (found bool) {
	found = b.end(id, o)
	if b.cfg.Peers == nil {
		return found
	}
	others, _ := ask[bool](ctx, b, word{End: &endWord{id, o}})
	return slices.Contains(others, true) || found
}

// end is End for this node.
func (b *Broker) end(id string, o EndOptions) (found bool) {
	b.mu.Lock()
	c, s := b.clients[id], b.sessions[id]
	if o.NoWill {
		b.forgetWill(id)
	}
	b.mu.Unlock()
	if c == nil && s == nil {
		return false
	}
	if c != nil {
		if o.NoWill {
			c.noWill.Store(true)
		}
		c.end(APIInitiated, codeAdministrative)
		<-c.done
	}
	if !o.Clean {
		return true
	}
	b.mu.Lock()
	if s = b.sessions[id]; s == nil || b.clients[id] != nil { // it has come back
		b.mu.Unlock()
		return true
	}
	delete(b.sessions, id)
	w := b.wills[id]
	if w != nil { // a will waits no longer than its session lives
		w.timer.Stop()
		delete(b.wills, id)
	}
	b.mu.Unlock()
	if w != nil {
		b.publishWill(w.stored)
	}
	s.finish()
	b.keeper.sync(b.closed)
	return true
}

// Errors of Accept.
var (
	// ErrTopic: clients may not publish to such a topic, or it is beyond the limits.
	ErrTopic = errors.New("broker: topic not allowed")
	// ErrPayload: the payload is larger than messages may be.
	ErrPayload = errors.New("broker: payload too large")
	// ErrRetainedFull: there is no room for another retained message.
	ErrRetainedFull = errors.New("broker: too many retained messages")
)

// Accept publishes a message for somebody who is no MQTT client, under the limits
// of clients, and returns when it is safe with the persistent sessions that it goes
// to. Reserved topics are refused. Returns ErrTopic, ErrPayload, ErrRetainedFull, or
// ctx's error: the message is on its way then.
func (b *Broker) Accept(ctx context.Context, m Message) error {
	switch {
	case !validTopic(m.Topic), reserved(m.Topic), !withinLimits(m.Topic, b.cfg.MaxTopic, b.cfg.MaxSlashes):
		return ErrTopic
	case len(m.Payload) > b.cfg.MaxPayload:
		return ErrPayload
	}
	safe := make(chan struct{})
	b.stats.in.Add(1)
	if !b.publish(m, "", func() { close(safe) }) {
		b.stats.refused.Add(1)
		return ErrRetainedFull
	}
	if m.QoS == 0 && !m.Retain {
		return nil
	}
	select {
	case <-safe:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
