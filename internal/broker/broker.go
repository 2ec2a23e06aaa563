package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/time/rate"
)

// Config says how a broker behaves. The zero value of a field, except Handler,
// means the default, which is what AWS IoT Core does (spec §2.20).
type Config struct {
	Handler       Handler       // required
	Authenticator Authenticator // default: everybody may connect
	Authorizer    Authorizer    // default: what Handler allows is allowed
	Logger        *slog.Logger  // default: discard
	// Origin reports whether the page that opens a WebSocket, of which the header Origin tells, may do
	// so. Default: pages of the same host.
	Origin func(*http.Request) bool

	MaxPayload       int // bytes of one message; default 128 KiB
	MaxTopic         int // bytes of a topic or filter; default 256
	MaxSlashes       int // in a topic or filter; default 7
	MaxFilters       int // in one SUBSCRIBE; default 8
	MaxSubscriptions int // of one session; default 50
	MaxInflight      int // unacknowledged QoS 1 messages to one client; default 100, at most 65,000

	MaxShared int // members of one shared subscription; default 250

	// Store keeps persistent sessions with their messages, retained messages and
	// wills; New takes over what is in it. Without one they are in memory only and
	// end with the process.
	Store Store

	// Peers are the brokers of the other nodes of a cluster, and Store, if there is one, is then
	// a SharedStore. nil: this broker is alone.
	Peers Peers
	// Adopted, which may be nil, is called when sessions of nodes that are no more have come here.
	// What was published meanwhile has not come to them, and can be published again.
	Adopted func(context.Context)
	// Roamed, which may be nil, is called when a client has come here and its session with it, from
	// a node that is no more. It must not wait.
	Roamed func()

	// MaxRetained and MaxRetainedBytes bound the retained messages, which are held
	// in memory: how many topics have one, and the bytes of topics and payloads.
	// Defaults 10,000 and 64 MiB.
	MaxRetained      int
	MaxRetainedBytes int

	// QueueMessages and QueueBytes bound what is held for one client: packets
	// not yet written to its connection and, on top of them, QoS 1 messages that
	// wait for acknowledgements or for the return of a persistent session. A
	// connected client that exceeds a bound is cut off; for one that is away, and
	// for a shared subscription, the newest messages are dropped. Defaults 1,024
	// and 8 MiB.
	QueueMessages int
	QueueBytes    int
	// MaxQueued and MaxQueuedBytes bound what is held for all persistent sessions
	// together; a message for many counts its bytes once. Beyond, what cannot be
	// sent at once is dropped. Defaults 1,000,000 and 256 MiB.
	MaxQueued      int
	MaxQueuedBytes int
	QueueAge       time.Duration // a message that waits is dropped after this; default 7 days
	// ReplayRate is how many of the messages that waited for a client it gets in a
	// second when it comes back, beside live ones, which then may overtake them.
	// Default: as many as it takes, in order.
	ReplayRate  int
	MaxSessions int // with more than that, CONNECTs that want another persistent one are refused; default 1,000,000

	SessionExpiry  time.Duration // of a persistent session after its connection, also the most an MQTT 5 client gets; default 1 h
	MinKeepAlive   time.Duration // default 30 s; whole seconds
	MaxKeepAlive   time.Duration // also for clients that ask for none; default 1200 s; whole seconds
	ConnectTimeout time.Duration // from accept to CONNECT, TLS handshake included; default 10 s
	PacketTimeout  time.Duration // from the first byte of a packet to its last; default 1 min

	// AcceptRate is how many connections a second each listener takes, and ServeWebSocket,
	// so that a fleet that comes back at once does not starve the devices that are there. The
	// others wait in the listener's backlog. Default 500; negative: as many as come.
	AcceptRate int

	// Per second, 0: as many as come. ConnectRate bounds the CONNECTs of all clients, and
	// ClientConnectRate those of one client id; more are refused. PublishRate bounds the
	// PUBLISHes of one connection, TotalPublishRate those of all; more are discarded.
	// ByteRate bounds what one connection publishes; who sends more is not read for a while.
	// DeliverRate bounds the messages that one connection gets, TotalDeliverRate those of all:
	// more with QoS 0 are dropped, with QoS 1 they wait (spec §2.7, §2.20).
	ConnectRate       int
	ClientConnectRate int
	PublishRate       int
	TotalPublishRate  int
	ByteRate          int // bytes
	DeliverRate       int
	TotalDeliverRate  int

	Now func() time.Time // default time.Now; for expiries and ConnectedAt, not for timers
}

// Handler is what the owner of the broker decides and does. Its methods are
// called on the goroutine of the client's connection, one at a time; while one
// runs, nothing more is read from that client.
type Handler interface {
	// Connected is called when a client has been accepted, before anything else
	// it sends is looked at.
	Connected(c *Client)
	// Disconnected is called once for every Connected, after the last other call
	// for that connection.
	Disconnected(c *Client, reason DisconnectReason)
	// AllowSubscribe decides about one well-formed filter of a SUBSCRIBE. A
	// refused filter is answered 0x80, or 0x87 in MQTT 5 (spec §2.8).
	AllowSubscribe(c *Client, filter string) bool
	// Publish decides about a client's PUBLISH that keeps the broker's limits, or
	// about its will. The payload is part of the connection's buffer and gone when
	// Publish returns.
	Publish(c *Client, m Message) Verdict
	// Subscribed is called after the answer to a SUBSCRIBE with the filters that
	// were granted, if any.
	Subscribed(c *Client, filters []string)
	// Unsubscribed is called after the answer to an UNSUBSCRIBE. A session's end
	// is not one.
	Unsubscribed(c *Client, filters []string)
}

// A Batcher is a Handler that gathers requests that come together.
type Batcher interface {
	// EndBatch is called after a client's messages that Publish has answered with Handled,
	// once those that came in the same read have been too, and before anything else is done
	// for the client.
	EndBatch()
}

// Verdict is a Handler's answer to a PUBLISH.
type Verdict int

const (
	// Route sends the message to its subscribers.
	Route Verdict = iota
	// Handled acknowledges the message and routes it to nobody.
	Handled
	// Refuse: clients may not publish to this topic (spec §2.6). MQTT 3.1.1: the
	// connection is closed. MQTT 5: PUBACK 0x90, or DISCONNECT 0x90 for QoS 0.
	Refuse
	// Deny is Refuse for lack of permission: code 0x87, reason AUTH_ERROR.
	Deny
)

// DisconnectReason is why a connection ended, in the words of the lifecycle
// events (spec §3.3).
type DisconnectReason string

const (
	AuthError         DisconnectReason = "AUTH_ERROR"
	ClientInitiated   DisconnectReason = "CLIENT_INITIATED_DISCONNECT"
	ClientError       DisconnectReason = "CLIENT_ERROR"
	ConnectionLost    DisconnectReason = "CONNECTION_LOST"
	DuplicateClientID DisconnectReason = "DUPLICATE_CLIENTID"
	KeepAliveTimeout  DisconnectReason = "MQTT_KEEP_ALIVE_TIMEOUT"
	ServerInitiated   DisconnectReason = "SERVER_INITIATED_DISCONNECT"
	APIInitiated      DisconnectReason = "API_INITIATED_DISCONNECT"
	ForbiddenAccess   DisconnectReason = "FORBIDDEN_ACCESS"
	AuthorizerExpired DisconnectReason = "CUSTOMAUTH_TTL_EXPIRATION" // of Identity
	WebSocketExpired  DisconnectReason = "WEBSOCKET_TTL_EXPIRATION"
	Throttled         DisconnectReason = "THROTTLED" // the client did not read what it was sent
)

// Message is an application message. It and all it refers to must not be
// changed once it has been handed over, in either direction.
type Message struct {
	Topic   string
	Payload []byte
	QoS     byte // 0 or 1; a greater one is taken as 1
	Retain  bool
	// Expires is when the message is worthless to who has not got it yet; zero:
	// never.
	Expires time.Time
	// Properties are those of MQTT 5 and are dropped on the way to a 3.1.1
	// client; nil if there are none.
	Properties *Properties
}

// Properties are the MQTT 5 properties that travel with a message.
type Properties struct {
	UTF8            bool // Payload Format Indicator 1
	ContentType     string
	ResponseTopic   string
	CorrelationData []byte // nil if absent
	User            []UserProperty
}

// UserProperty is one pair of an ordered list in which names may repeat.
type UserProperty struct{ Key, Value string }

// size is what the message counts for where bytes are bounded.
func (m *Message) size() int { return len(m.Topic) + len(m.Payload) }

func (m *Message) expired(now time.Time) bool { return !m.Expires.IsZero() && !now.Before(m.Expires) }

// Stats is what a broker has done since it was made, and what it holds.
type Stats struct {
	Connections   int // live
	Sessions      int // live, and stored ones of clients that are away
	Subscriptions int
	Retained      int
	RetainedBytes int // topics and payloads
	Queued        int // QoS 1 messages that are held for persistent sessions
	QueuedBytes   int // of them, each message once

	Accepted    uint64 // connections that got a CONNACK with success
	Refused     uint64 // CONNECTs, PUBLISHes and filters that were refused
	MessagesIn  uint64 // PUBLISH packets received
	MessagesOut uint64 // PUBLISH packets queued to connections
	Dropped     uint64 // messages lost because a queue was full, or to a client's packet limit
	Expired     uint64 // messages that waited for a client until they were worthless
	CutOff      uint64 // connections ended because the client fell behind
	Stored      uint64 // messages for persistent sessions that were written to the Store
	StoreFails  uint64 // writes to the Store that failed, and are tried again
}

type counters struct {
	accepted, refused, in, out, dropped, expired, cutOff atomic.Uint64
}

// Broker is an MQTT server. Its methods may be called from any goroutine.
type Broker struct {
	cfg    Config
	log    *slog.Logger
	index  *index
	keeper *keeper
	stats  counters
	wheel  *wheel
	poll   sync.Once // for poller
	poller *poller   // nil: every connection waits by itself

	handshakes *rate.Limiter // of WebSockets
	upgrader   *websocket.Upgrader
	turnstile  *turnstile
	publishes  *rate.Limiter // of all clients together; nil: any
	deliveries *rate.Limiter

	reconsidered atomic.Uint64 // how often all permissions have been taken back

	elsewhere elsewhere
	arrivals  arrivals
	asking    sync.WaitGroup // goroutines that ask other nodes
	contested atomic.Bool    // a client may be

	// adopting is held while sessions that belonged to nobody are on their way from the store
	// into the maps below.
	adopting sync.Mutex

	connections sync.WaitGroup // goroutines of connections, and the wheel's
	polling     sync.WaitGroup // the poller's
	closed      chan struct{}  // closed by Close

	mu        sync.Mutex
	turning   bool // the wheel
	listeners map[net.Listener]struct{}
	sockets   map[*Client]struct{} // every accepted connection
	clients   map[string]*Client   // those that are or are about to be connected, by client id
	sessions  map[string]*session
	parted    map[string]*session    // those that have gone to other nodes and pass on what comes, by client id
	awaited   map[string]*[]lateWord // what has come for those that are on their way here, by client id
	wills     map[string]*will       // delayed, by client id

	retainedMu    sync.RWMutex
	retained      map[string]retained
	retainedBytes int
	retainedSwept time.Time
}

// New returns a broker that serves nobody yet. It fails on a Config without
// Handler or with a negative limit, and if the Store cannot be read. With a Store
// it must be closed.
func New(cfg Config) (*Broker, error) {
	if cfg.Handler == nil {
		return nil, errors.New("broker: no Handler")
	}
	for _, limit := range []struct {
		name     string
		value    *int
		standard int
		most     int
	}{
		{"MaxPayload", &cfg.MaxPayload, 128 << 10, 200 << 20},
		{"MaxTopic", &cfg.MaxTopic, 256, math.MaxUint16},
		{"MaxSlashes", &cfg.MaxSlashes, 7, math.MaxUint16},
		{"MaxFilters", &cfg.MaxFilters, 8, math.MaxInt32},
		{"MaxSubscriptions", &cfg.MaxSubscriptions, 50, math.MaxInt32},
		{"MaxInflight", &cfg.MaxInflight, 100, 65_000},
		{"MaxShared", &cfg.MaxShared, 250, math.MaxInt32},
		{"MaxRetained", &cfg.MaxRetained, 10_000, math.MaxInt32},
		{"MaxRetainedBytes", &cfg.MaxRetainedBytes, 64 << 20, math.MaxInt},
		{"MaxQueued", &cfg.MaxQueued, 1_000_000, math.MaxInt},
		{"MaxQueuedBytes", &cfg.MaxQueuedBytes, 256 << 20, math.MaxInt},
		{"MaxSessions", &cfg.MaxSessions, 1_000_000, math.MaxInt},
		{"ReplayRate", &cfg.ReplayRate, 0, math.MaxInt32},
		{"QueueMessages", &cfg.QueueMessages, 1024, math.MaxInt32},
		{"QueueBytes", &cfg.QueueBytes, 8 << 20, math.MaxInt32},
	} {
		*limit.value = cmp.Or(*limit.value, limit.standard)
		if *limit.value < 0 || *limit.value > limit.most {
			return nil, fmt.Errorf("broker: %s is %d; it must be between 1 and %d", limit.name, *limit.value, limit.most)
		}
	}
	cfg.SessionExpiry = cmp.Or(cfg.SessionExpiry, time.Hour)
	cfg.QueueAge = cmp.Or(cfg.QueueAge, 7*24*time.Hour)
	cfg.MinKeepAlive = cmp.Or(cfg.MinKeepAlive, 30*time.Second)
	cfg.MaxKeepAlive = cmp.Or(cfg.MaxKeepAlive, 1200*time.Second)
	cfg.ConnectTimeout = cmp.Or(cfg.ConnectTimeout, 10*time.Second)
	cfg.PacketTimeout = cmp.Or(cfg.PacketTimeout, time.Minute)
	cfg.AcceptRate = cmp.Or(cfg.AcceptRate, 500)
	if cfg.SessionExpiry < 0 || cfg.QueueAge < 0 || cfg.ConnectTimeout < 0 || cfg.PacketTimeout < 0 || cfg.MinKeepAlive < time.Second ||
		cfg.MaxKeepAlive < cfg.MinKeepAlive || cfg.MaxKeepAlive > math.MaxUint16*time.Second {
		return nil, errors.New("broker: a duration is out of range")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if _, shared := cfg.Store.(SharedStore); cfg.Peers != nil && cfg.Store != nil && !shared {
		return nil, errors.New("broker: with Peers, the Store must be a SharedStore")
	}
	b := &Broker{
		cfg:        cfg,
		log:        cfg.Logger,
		wheel:      newWheel(),
		handshakes: newPace(cfg.AcceptRate),
		upgrader:   newUpgrader(cfg.Origin),
		turnstile:  newTurnstile(cfg.ConnectRate, cfg.ClientConnectRate),
		publishes:  perSecond(cfg.TotalPublishRate),
		deliveries: perSecond(cfg.TotalDeliverRate),
		index:      newIndex(cfg.Peers),
		keeper:     newKeeper(cfg.Store, cfg.Logger, cfg.MaxQueued, cfg.MaxQueuedBytes),
		closed:     make(chan struct{}),
		listeners:  map[net.Listener]struct{}{},
		sockets:    map[*Client]struct{}{},
		clients:    map[string]*Client{},
		sessions:   map[string]*session{},
		parted:     map[string]*session{},
		awaited:    map[string]*[]lateWord{},
		wills:      map[string]*will{},
		retained:   map[string]retained{},
	}
	if shared := b.shared(); shared != nil {
		b.keeper.node = shared.Node()
	}
	if cfg.Store != nil {
		if err := b.restore(context.Background()); err != nil {
			return nil, fmt.Errorf("broker: restore sessions: %w", err)
		}
		go b.keeper.run()
	}
	return b, nil
}

// Publish sends a message to all its subscribers, and stores it if it is to be
// retained and there is room. It never waits for a client, nor for the Store:
// Settled tells when the message is safe.
func (b *Broker) Publish(m Message) {
	if !b.publish(m, "", nil) {
		b.stats.refused.Add(1)
	}
}

// PublishHere is Publish for the clients of this node alone.
func (b *Broker) PublishHere(m Message) { b.route(&m, "", &relayed{message: m}, nil) }

// HasSubscribersHere is HasSubscribers for the clients of this node.
func (b *Broker) HasSubscribersHere(topic string) bool { return b.index.has(topic) }

// Settled returns a channel that is closed when every QoS 1 message that has been
// published so far is safe with the persistent sessions that it goes to:
// acknowledged by the client, or in the Store. That goes for the sessions of other
// nodes, too, as far as these are in touch.
func (b *Broker) Settled() <-chan struct{} {
	here := b.keeper.settled()
	if b.cfg.Peers == nil {
		return here
	}
	all := make(chan struct{})
	go func() {
		<-here
		b.whenElsewhere(func() { close(all) })
	}()
	return all
}

// matches are lists that subscribers of a topic are gathered in.
var matches = sync.Pool{New: func() any { return new([]subscriber) }}

// publish delivers a message to its subscribers. from is the client id that
// published it, for the subscriptions that do not want their own; empty if it
// was the server. It reports false, and has not delivered it, if the message is
// to be retained and there is no room. done, which may be nil, is called once the
// message is safe wherever it has to be: before publish returns, or later, from
// another goroutine; it must not block.
func (b *Broker) publish(m Message, from string, done func()) bool {
	return b.route(&m, from, nil, done)
}

// route is publish, also for what another node has relayed: that does not go on from here, and
// to the members here of the shared subscriptions only that the other node has chosen.
func (b *Broker) route(m *Message, from string, relayed *relayed, done func()) bool {
	buf := matches.Get().(*[]subscriber)
	subs, groups := b.index.match(m.Topic, *buf)
	defer func() {
		clear(subs)
		*buf = subs
		matches.Put(buf)
	}()
	if b.cfg.Peers != nil && relayed == nil {
		if m.Retain {
			done = twice(done)
		} else {
			var there []place
			groups, there = b.placed(groups)
			if b.relay(m, from, time.Time{}, there) && m.QoS > 0 && done != nil {
				done = twice(done)
				b.whenElsewhere(done)
			}
		}
	}
	if len(subs)+len(groups) == 0 && !m.Retain {
		call(done)
		return true
	}
	kept := *m // only what is delivered costs memory
	e := b.copiesOf(&kept, true, done)
	defer e.finish()
	switch {
	case relayed != nil:
		groups = b.chosen(groups, relayed.groups)
		if !relayed.modified.IsZero() {
			b.retainedElsewhere(&kept, relayed.modified)
		}
	case m.Retain:
		modified, ok := b.retain(&kept, e)
		if !ok {
			e.done = nil
			return false
		}
		if b.cfg.Peers != nil {
			var there []place
			groups, there = b.placed(groups)
			b.relay(m, from, modified, there)
			b.whenElsewhere(done)
		}
	}
	if m.expired(e.now) {
		return true
	}
	for _, sub := range subs {
		if sub.options.noLocal && from != "" && sub.session.id == from {
			continue
		}
		// What the queue could not take has been counted where it happened.
		_ = sub.session.deliver(e, min(m.QoS, sub.options.qos), m.Retain && sub.options.retainAsPublished && sub.session.version == 5, nil)
	}
	for _, g := range groups {
		g.deliver(e, m)
	}
	return true
}

// HasSubscribers reports whether a message on topic would go to anybody, stored
// sessions of clients that are away included. It may be mistaken about other nodes, and
// says yes then.
func (b *Broker) HasSubscribers(topic string) bool {
	return b.index.has(topic) || b.cfg.Peers != nil && b.cfg.Peers.Wanted(topic)
}

// Clients returns how many clients are connected.
func (b *Broker) Clients() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.clients)
}

// Stats returns the counters of this moment.
func (b *Broker) Stats() Stats {
	s := Stats{
		Subscriptions: b.index.subscriptions(),
		Accepted:      b.stats.accepted.Load(),
		Refused:       b.stats.refused.Load(),
		MessagesIn:    b.stats.in.Load(),
		MessagesOut:   b.stats.out.Load(),
		Dropped:       b.stats.dropped.Load(),
		Expired:       b.stats.expired.Load(),
		CutOff:        b.stats.cutOff.Load(),
	}
	b.keeper.mu.Lock()
	s.Queued, s.QueuedBytes, s.Stored, s.StoreFails = b.keeper.entries, b.keeper.bytes, b.keeper.written, b.keeper.fails
	b.keeper.mu.Unlock()
	b.mu.Lock()
	s.Connections, s.Sessions = len(b.clients), len(b.sessions)
	b.mu.Unlock()
	b.retainedMu.RLock()
	s.Retained, s.RetainedBytes = len(b.retained), b.retainedBytes
	b.retainedMu.RUnlock()
	return s
}

// Close ends the listeners, then every connection: what is queued is written,
// MQTT 5 clients get DISCONNECT 0x8B, sockets are closed. It returns when all
// connections have ended and all Handler calls have returned, or, with ctx's
// error, when ctx is done; sockets are then closed whatever they hold. What the
// Store keeps is brought up to date. Close may be called again.
func (b *Broker) Close(ctx context.Context) error {
	b.mu.Lock()
	if !b.closing() {
		close(b.closed)
	}
	for l := range b.listeners {
		// Serve, which shares the closing, reports what goes wrong.
		_ = l.Close()
	}
	sockets := make([]*Client, 0, len(b.sockets))
	for c := range b.sockets {
		sockets = append(sockets, c)
	}
	for id, w := range b.wills {
		w.timer.Stop() // the Store has it
		delete(b.wills, id)
	}
	b.mu.Unlock()

	for _, c := range sockets {
		c.end(ServerInitiated, codeShuttingDown)
	}
	ended := make(chan struct{})
	go func() {
		b.connections.Wait()
		close(ended)
	}()
	var err error
	select {
	case <-ended:
	case <-ctx.Done():
		err = ctx.Err()
		for _, c := range sockets {
			c.close()
		}
	}
	b.mu.Lock()
	sessions := b.sessions
	b.sessions = map[string]*session{}
	b.mu.Unlock()
	for _, s := range sessions {
		s.suspend()
	}
	b.poll.Do(func() {}) // too late to begin
	if b.poller != nil {
		err = errors.Join(err, b.poller.close())
		b.polling.Wait()
	}
	b.asking.Wait()
	err = errors.Join(err, b.keeper.close())
	if shared := b.shared(); shared != nil {
		err = errors.Join(err, shared.Release(ctx))
	}
	if b.cfg.Peers != nil {
		b.cfg.Peers.Tell((&word{Leave: &leaveWord{b.cfg.Peers.Self()}}).encode())
	}
	return err
}
