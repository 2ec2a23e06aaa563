package dataplane

import (
	"strings"
	"sync"
	"time"

	"drover/internal/iot"
)

// Connection is an MQTT connection as lifecycle events tell of it.
type Connection struct {
	ClientID  string
	Session   string // sessionIdentifier: unique for the life of the connection
	Principal string // principalIdentifier
	Address   string // IP address of the client, without port
	Thing     string // that its certificate is attached to exclusively; "" for none
}

// ClientInitiated is the disconnectReason of a client that said goodbye. The others are
// free text to this package.
const ClientInitiated = "CLIENT_INITIATED_DISCONNECT"

// lifecycleEvent is the payload of all four events (identity spec §3); times are in milliseconds.
type lifecycleEvent struct {
	ClientID  string   `json:"clientId"`
	Thing     string   `json:"thingName,omitempty"`
	Timestamp iot.Time `json:"timestamp"`
	EventType string   `json:"eventType"`
	Session   string   `json:"sessionIdentifier"`
	Principal string   `json:"principalIdentifier"`
	Address   string   `json:"ipAddress,omitempty"`
	Initiated *bool    `json:"clientInitiatedDisconnect,omitempty"`
	Reason    string   `json:"disconnectReason,omitempty"`
	Topics    []string `json:"topics,omitempty"`
	Version   *int64   `json:"versionNumber,omitempty"`
	Failure   string   `json:"connectFailureReason,omitempty"`
}

// Connected tells that a client has connected. Lifecycle events cannot be switched off; they
// may be told from many goroutines, a client's Connected before its other events.
func (p *Publisher) Connected(c Connection) {
	version := p.presence.connected(c, p.now())
	p.lifecycle("presence", "connected", c, lifecycleEvent{Address: c.Address, Version: &version})
}

// ConnectFailed tells that a client may not connect, or may not publish its will.
func (p *Publisher) ConnectFailed(c Connection) {
	p.lifecycle("presence", "connect_failed", c, lifecycleEvent{Address: c.Address, Failure: "AUTHORIZATION_FAILED"})
}

// Disconnected tells that a connection that Connected told of has ended, and why.
func (p *Publisher) Disconnected(c Connection, reason string) {
	version := p.presence.disconnected(c, p.now())
	initiated := reason == ClientInitiated
	p.lifecycle("presence", "disconnected", c, lifecycleEvent{Initiated: &initiated, Reason: reason, Version: &version})
}

// Subscribed tells that a client was granted the filters with one packet.
func (p *Publisher) Subscribed(c Connection, filters []string) {
	if len(filters) > 0 {
		p.lifecycle("subscriptions", "subscribed", c, lifecycleEvent{Topics: filters})
	}
}

// Unsubscribed tells that a client gave up the filters with one packet.
func (p *Publisher) Unsubscribed(c Connection, filters []string) {
	if len(filters) > 0 {
		p.lifecycle("subscriptions", "unsubscribed", c, lifecycleEvent{Topics: filters})
	}
}

func (p *Publisher) lifecycle(family, eventType string, c Connection, e lifecycleEvent) {
	// Such an id cannot be part of a topic.
	if c.ClientID == "" || strings.ContainsAny(c.ClientID, "#+") {
		return
	}
	topic := eventsRoot + family + "/" + eventType + "/" + c.ClientID
	if !p.broker.HasSubscribers(topic) {
		return
	}
	e.ClientID, e.Timestamp, e.EventType = c.ClientID, p.now(), eventType
	e.Session, e.Principal, e.Thing = c.Session, c.Principal, c.Thing
	p.send(topic, e)
}

// presence numbers the connections of each client id, so that applications can put events in
// order: from 0, and from 0 again after an hour of absence (identity spec §3.2).
type presence struct {
	mu     sync.Mutex
	last   map[string]visit // by client id
	live   map[string]int64 // version by session
	pruned int              // size of last after it was pruned
}

// visit is the last connection of a client id.
type visit struct {
	session string
	version int64
	began   iot.Time
	ended   iot.Time // zero while connected
}

// forgetAfter is how long the number of a client that has gone is kept.
const forgetAfter = time.Hour

func (v visit) forgotten(now iot.Time) bool { return v.ended != 0 && v.ended.Add(forgetAfter) <= now }

// Presence is what lifecycle events have told of a client last.
type Presence struct {
	Connected bool
	Session   string    // of the last connection
	Version   int64     // of the last connection
	Ended     time.Time // when that ended; zero while connected
}

// Presence returns what is known of a client: false if it is not connected and has not been for
// an hour.
func (p *Publisher) Presence(clientID string) (Presence, bool) {
	now := p.now()
	p.presence.mu.Lock()
	defer p.presence.mu.Unlock()
	v, ok := p.presence.last[clientID]
	if !ok || v.forgotten(now) {
		return Presence{}, false
	}
	return Presence{Connected: v.ended == 0, Session: v.session, Version: v.version, Ended: v.ended.Std()}, true
}

// Present gives who is connected to f: the client id, the session and since when.
func (p *Publisher) Present(f func(clientID, session string, since iot.Time)) {
	p.presence.mu.Lock()
	defer p.presence.mu.Unlock()
	for id, v := range p.presence.last {
		if v.ended == 0 {
			f(id, v.session, v.began)
		}
	}
}

// PresentClient returns the session of a client and since when it is connected; false if it is not.
func (p *Publisher) PresentClient(clientID string) (session string, since iot.Time, ok bool) {
	p.presence.mu.Lock()
	defer p.presence.mu.Unlock()
	v, ok := p.presence.last[clientID]
	return v.session, v.began, ok && v.ended == 0
}

func (p *presence) connected(c Connection, now iot.Time) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == nil {
		p.last, p.live = make(map[string]visit), make(map[string]int64)
	}
	// Pruned whenever it has doubled, the map costs constant time per connection.
	if len(p.last) > 2*p.pruned+1000 {
		for id, v := range p.last {
			if v.forgotten(now) {
				delete(p.last, id)
			}
		}
		p.pruned = len(p.last)
	}
	version := int64(0)
	if v, ok := p.last[c.ClientID]; ok && !v.forgotten(now) {
		version = v.version + 1
	}
	p.last[c.ClientID] = visit{session: c.Session, version: version, began: now}
	p.live[c.Session] = version
	return version
}

func (p *presence) disconnected(c Connection, now iot.Time) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	version := p.live[c.Session]
	delete(p.live, c.Session)
	// A connection that was displaced ends after its successor has begun.
	if v, ok := p.last[c.ClientID]; ok && v.session == c.Session {
		v.ended = now
		p.last[c.ClientID] = v
	}
	return version
}
