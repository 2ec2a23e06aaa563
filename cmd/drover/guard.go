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
	now         func() time.Time
	log         *slog.Logger
	signed      sync.Map // *broker.Client -> auth.Identity, of live clients whose handshake was signed
}

// visitor is what the guard knows of a client (broker.Identity.Value).
type visitor struct {
	session *access.Session
	conn    *gate.Conn    // nil without TLS
	key     auth.Identity // who signed the handshake of a WebSocket, if somebody did

	// Of a client of a custom authorizer, which is asked again now and then.
	request  authorizer.Request
	decision authorizer.Decision
	stop     func() // nil: it is not
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
		id.Principal, id.Expires, id.ExpiresAs = name, g.now().Add(webSocketLife), broker.WebSocketExpired
	case conn != nil:
		if err := g.ask(ctx, l, v); err != nil {
			return id, err
		}
		policies, err := parsePolicies(v.decision.Policies)
		if err != nil {
			return id, err
		}
		who.Policies, who.Secure, id.Principal = policies, true, v.decision.Principal
		if v.decision.Disconnect > 0 {
			id.Expires = g.now().Add(v.decision.Disconnect)
		}
	default: // a listener that asks nobody
		return broker.Identity{Principal: l.ClientID}, nil
	}
	v.session = g.access.Session(who)
	wish := access.Connect{Persistent: l.Persistent}
	if l.Will != nil {
		wish.Will, wish.WillTopic, wish.WillRetain = true, l.Will.Topic, l.Will.Retain
	}
	decision := v.session.Connect(ctx, wish)
	switch {
	case decision.Err != nil:
		return id, fmt.Errorf("%w: %w", broker.ErrUnavailable, decision.Err)
	case !decision.Allowed():
		g.log.Debug("device denied", "client", l.ClientID, "action", "connect", "why", decision)
		if host, _, err := net.SplitHostPort(address); err == nil {
			address = host
		}
		g.publisher.ConnectFailed(dataplane.Connection{ClientID: l.ClientID, Session: uuid.NewString(), Principal: id.Principal, Address: address})
		return id, errNotAllowed
	}
	return id, nil
}

// webSocketLife is how long a WebSocket whose handshake was signed may be open (identity spec §8.3).
const webSocketLife = 24 * time.Hour

// ask has a custom authorizer decide.
func (g *guard) ask(ctx context.Context, l broker.Login, v *visitor) error {
	v.request = authorizer.Request{
		Connection: uuid.NewString(),
		MQTT:       &iot.MQTTData{Username: l.Username, Password: l.Password, ClientID: l.ClientID},
		TLS:        &iot.TLSData{},
	}
	if conn := v.conn; conn != nil {
		v.request.TLS.ServerName = conn.TLS().ServerName
	}
	if r := l.Request; r != nil {
		v.request.Header, v.request.Query = r.Header, r.URL.RawQuery
	}
	var err error
	v.decision, err = g.authorizers.Authorize(ctx, v.request)
	var refused *authorizer.Refusal
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &refused), refused.Reason == authorizer.Busy:
		return fmt.Errorf("%w: %w", broker.ErrUnavailable, err)
	case refused.Reason == authorizer.Denied:
		return fmt.Errorf("%w: %w", broker.ErrBadCredentials, err)
	}
	return err
}

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

// connected begins to look after a client: one whose certificate does not count any more is
// disconnected, and an authorizer is asked again when it said so.
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
	if v.decision.Refresh <= 0 {
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
	v.stop = g.authorizers.Watch(v.request, v.decision, renew, func(err error) {
		g.log.Info("client is not let stay", "client", c, "err", err)
		c.End(broker.AuthError)
	})
}

func (g *guard) disconnected(c *broker.Client) {
	g.signed.Delete(c)
	if v := visitorOf(c); v != nil && v.stop != nil {
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

type gateConnKey struct{}

// gateConn returns the connection with TLS that a client came by, nil for none.
func gateConn(l broker.Login) *gate.Conn {
	if l.Request != nil {
		conn, _ := l.Request.Context().Value(gateConnKey{}).(*gate.Conn)
		return conn
	}
	conn, _ := l.Conn.(*gate.Conn)
	return conn
}
