package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/google/uuid"

	"drover/internal/access"
	"drover/internal/auth"
	"drover/internal/auth/policy"
	"drover/internal/authorizer"
	"drover/internal/broker"
	"drover/internal/dataplane"
	"drover/internal/gate"
	"drover/internal/iot"
)

// guard is who the broker asks about its clients (broker.Authenticator, broker.Authorizer). Who
// comes by a listener that asks nobody who he is may do what is not reserved; anybody else what
// policies allow: those of a certificate, of the key that signed a WebSocket's handshake, or those
// that a custom authorizer gave.
type guard struct {
	access      *access.Decider
	authorizers *authorizer.Authenticator
	publisher   *dataplane.Publisher
	problems    *dataplane.Problems
	devices     *dataplane.Handler
	failures    *auth.Failures
	now         func() time.Time
	afterFunc   func(time.Duration, func()) (stop func() bool)
	log         *slog.Logger
	signed      sync.Map // *broker.Client -> auth.Identity, of live clients whose handshake was signed
}

// visitor is what the guard knows of a client (broker.Identity.Value).
type visitor struct {
	session *access.Session
	conn    *gate.Conn    // nil without TLS
	thing   iot.ThingName // of lifecycle events
	key     auth.Identity // who signed the handshake of a WebSocket, if somebody did

	admission *admission // by a custom authorizer, which is asked again now and then

	// How long the connection may last, and what it ends as; 0: for ever.
	life   time.Duration
	lifeAs broker.DisconnectReason
	unset  func() bool // of the timer
	stop   func()      // of the asking again; nil: there is none
}

// visitorOf returns what is known of a client, nil for one that came by an open listener.
func visitorOf(c *broker.Client) *visitor {
	v, _ := c.Identity().Value.(*visitor)
	return v
}

var errNotAllowed = errors.New("no policy allows it to connect")

// Authenticate implements broker.Authenticator.
func (g *guard) Authenticate(ctx context.Context, l broker.Login) (broker.Identity, error) {
	who := access.Client{MQTT: true, ClientID: l.ClientID}
	address := l.Conn.RemoteAddr().String()
	if a, err := netip.ParseAddrPort(address); err == nil {
		who.SourceIP = a.Addr()
	}
	v := &visitor{}
	id := broker.Identity{Value: v}
	conn := gateConn(l)
	v.conn = conn
	var upgrade auth.Identity // of a WebSocket
	if l.Request != nil {
		upgrade, _ = auth.IdentityFrom(l.Request.Context())
	}
	var handed *admission // by the handshake
	if l.Request != nil {
		handed, _ = l.Request.Context().Value(admissionKey{}).(*admission)
	}
	switch {
	case conn != nil && conn.CertificateID() != "":
		who.Certificate, who.Secure, who.DomainName = conn.CertificateID(), true, conn.TLS().ServerName
		id.Principal = string(who.Certificate)
	case upgrade.Principal.AccessKeyID != "":
		name, ok := g.access.Key(upgrade, &who)
		if !ok {
			return id, errNotAllowed // revoked since the handshake
		}
		v.key = upgrade
		id.Principal, v.life, v.lifeAs = name, webSocketLife, broker.WebSocketExpired
	case conn != nil, handed != nil:
		a, err := g.admission(ctx, l, conn, who.SourceIP)
		if err != nil {
			return id, err
		}
		v.admission, v.life, v.lifeAs = a, a.left(g.now()), broker.AuthorizerExpired
		who.Policies, who.Secure, id.Principal = a.policies, conn != nil, a.decision.Principal
	default: // a listener that asks nobody
		return broker.Identity{Principal: l.ClientID}, nil
	}
	v.session = g.access.Session(who)
	wish := access.Connect{Persistent: l.Persistent}
	if l.Will != nil {
		wish.Will, wish.WillTopic, wish.WillRetain = true, l.Will.Topic, l.Will.Retain
	}
	decision := v.session.Connect(ctx, wish)
	var err error
	if v.thing, err = v.session.ExclusiveThing(ctx); err != nil {
		return id, fmt.Errorf("%w: %w", broker.ErrUnavailable, err)
	}
	switch {
	case decision.Err != nil:
		return id, fmt.Errorf("%w: %w", broker.ErrUnavailable, decision.Err)
	case !decision.Allowed():
		g.log.Debug("device denied", "client", l.ClientID, "action", "connect", "why", decision)
		if host, _, err := net.SplitHostPort(address); err == nil {
			address = host
		}
		g.publisher.ConnectFailed(dataplane.Connection{ClientID: l.ClientID, Session: uuid.NewString(), Principal: id.Principal, Address: address, Thing: string(v.thing)})
		return id, errNotAllowed
	}
	return id, nil
}

// webSocketLife is how long a WebSocket whose handshake was signed may be open (identity spec §8.3).
const webSocketLife = 24 * time.Hour

func parsePolicies(documents []string) ([]*policy.Policy, error) {
	var policies []*policy.Policy
	for _, document := range documents {
		p, err := policy.Parse(document, policy.DeviceLimit)
		if err != nil {
			return nil, err
		}
		policies = append(policies, p)
	}
	return policies, nil
}

// connected begins to look after a client: one whose certificate does not count any more, or whose
// time is over, is disconnected, and an authorizer is asked again when it said so.
func (g *guard) connected(c *broker.Client) {
	v := visitorOf(c)
	if v == nil {
		return
	}
	if v.conn != nil {
		v.conn.OnDrop(func() { c.End(broker.AuthError) })
	}
	if v.key.Principal.AccessKeyID != "" {
		g.signed.Store(c, v.key)
		if !g.access.KeyCounts(v.key) { // revoked since
			c.End(broker.AuthError)
		}
	}
	if v.life > 0 {
		v.unset = g.afterFunc(v.life, func() { c.End(v.lifeAs) })
	}
	if v.admission == nil || v.admission.decision.Refresh <= 0 {
		return
	}
	renew := func(d authorizer.Decision) {
		policies, err := parsePolicies(d.Policies)
		if err != nil {
			g.log.Warn("policies of an authorizer are not in order", "client", c, "err", err)
			c.End(broker.AuthError)
			return
		}
		v.session.Renew(policies)
		c.Reconsider()
	}
	v.stop = g.authorizers.Watch(v.admission.request, v.admission.decision, renew, func(err error) {
		g.log.Info("client is not let stay", "client", c, "err", err)
		c.End(broker.AuthError)
	})
}

func (g *guard) disconnected(c *broker.Client) {
	g.signed.Delete(c)
	v := visitorOf(c)
	if v == nil {
		return
	}
	if v.unset != nil {
		v.unset()
	}
	if v.stop != nil {
		v.stop()
	}
}

// keysChanged ends the connections of clients whose keys are no more.
func (g *guard) keysChanged() {
	g.signed.Range(func(c, key any) bool {
		if !g.access.KeyCounts(key.(auth.Identity)) {
			c.(*broker.Client).End(broker.AuthError)
		}
		return true
	})
}

// Authorize implements broker.Authorizer. What is reserved is refused by the data plane, whatever a
// policy says (identity spec A-33).
func (g *guard) Authorize(c *broker.Client, a broker.Action, topic string) bool {
	v := visitorOf(c)
	if v == nil || a == broker.MayPublish && !g.devices.AllowPublish(topic) {
		return true
	}
	if v.key.Principal.AccessKeyID != "" && !g.access.KeyCounts(v.key) {
		return false // revoked: the end is near
	}
	ctx := context.Background()
	var d access.Decision
	var what string
	switch a {
	case broker.MayPublish:
		what, d = "publish", v.session.Publish(ctx, topic, false)
	case broker.MayRetain:
		what, d = "retain", v.session.Publish(ctx, topic, true)
	case broker.MaySubscribe:
		what, d = "subscribe", v.session.Subscribe(ctx, topic)
	case broker.MayReceive:
		what, d = "receive", v.session.Receive(ctx, topic)
	}
	if d.Allowed() {
		return true
	}
	g.log.Debug("device denied", "client", c, "action", what, "topic", topic, "why", d)
	switch a {
	case broker.MayPublish, broker.MayRetain:
		g.problems.Note(c.ID(), dataplane.PublishDenied, topic)
	case broker.MaySubscribe:
		g.problems.Note(c.ID(), dataplane.SubscribeRefused, topic)
	}
	return false
}

// gateConn returns the connection with TLS that a client came by, nil for none.
func gateConn(l broker.Login) *gate.Conn {
	if l.Request != nil {
		if c, ok := l.Request.Context().Value(httpConnKey{}).(*httpConn); ok {
			return c.tls
		}
		return nil
	}
	conn, _ := l.Conn.(*gate.Conn)
	return conn
}
