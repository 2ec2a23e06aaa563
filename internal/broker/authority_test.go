package broker

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
)

// guard authenticates by password and allows what its rules do not forbid.
type guard struct {
	asked     atomic.Int32
	forbidden atomic.Pointer[string] // "action topic" lines
}

func (g *guard) Authenticate(_ context.Context, l Login) (Identity, error) {
	switch string(l.Password) {
	case "wrong":
		return Identity{}, ErrBadCredentials
	case "nobody knows":
		return Identity{}, ErrUnavailable
	case "stranger":
		return Identity{}, errors.New("policy denies iot:Connect")
	}
	return Identity{Principal: "principal of " + l.ClientID, Value: l.Username}, nil
}

func (g *guard) Authorize(c *Client, a Action, topic string) bool {
	g.asked.Add(1)
	rule := map[Action]string{MayPublish: "publish", MayRetain: "retain", MaySubscribe: "subscribe", MayReceive: "receive"}[a]
	return !strings.Contains(*g.forbidden.Load(), rule+" "+topic+"\n")
}

func (g *guard) forbid(rules ...string) {
	text := strings.Join(rules, "\n") + "\n"
	g.forbidden.Store(&text)
}

func guarded(t *testing.T) (b *Broker, o *owner, g *guard, addr string) {
	o, g = newOwner(), &guard{}
	g.forbid()
	b, _, addr = serve(t, Config{Handler: o, Authenticator: g, Authorizer: g})
	return b, o, g, addr
}

func TestAuthenticator(t *testing.T) {
	eachVersion(t, func(t *testing.T, version byte) {
		_, o, _, addr := guarded(t)
		first, _ := join(t, addr, connectPacket{version: version, id: "x", username: "u", password: "right"})
		c := receive(t, o.connected)
		if id := c.Identity(); id.Principal != "principal of x" || id.Value != "u" {
			t.Errorf("identity is %+v", id)
		}
		for password, codes := range map[string][2]byte{"wrong": {4, 0x86}, "nobody knows": {3, 0x88}, "stranger": {5, 0x87}} {
			w := dial(t, addr)
			w.send(connectPacket{version: version, id: "x", username: "u", password: password}.encode())
			if f := w.next(); f.kind != typeConnack || f.body[1] != codes[version-4] {
				t.Errorf("%s: %+v", password, f)
			}
			w.closed()
		}
		first.quiet() // who is refused displaces nobody (spec §2.12)
	})
}

// The owner of an identity ends its connection, for a reason of his own.
func TestEndForAReason(t *testing.T) {
	t.Parallel()
	for _, reason := range []DisconnectReason{AuthorizerExpired, WebSocketExpired} {
		_, o, _, addr := guarded(t)
		w, _ := join(t, addr, connectPacket{version: 5, id: "x"})
		receive(t, o.connected).End(reason)
		w.dismissed(codeMaximumTime)
		if e := receive(t, o.disconnected); e.reason != reason {
			t.Errorf("reason is %s", e.reason)
		}
	}
}

func TestAuthorizer(t *testing.T) {
	eachVersion(t, func(t *testing.T, version byte) {
		b, o, g, addr := guarded(t)
		w, _ := join(t, addr, connectPacket{version: version, id: "x"})
		client := receive(t, o.connected)

		g.forbid("subscribe a/2")
		denied := byte(0x80)
		if version == 5 {
			denied = codeNotAuthorized
		}
		if got := w.subscribe("a/1", "a/2"); got[0] != 1 || got[1] != denied {
			t.Errorf("SUBACK % x", got)
		}

		// An answer is remembered until it is taken back.
		w.publish(Message{Topic: "a/1", QoS: 1})
		w.message()
		w.puback(0)
		for remembered := false; !remembered; { // but in another second
			before := g.asked.Load()
			w.publish(Message{Topic: "a/1", QoS: 1})
			w.message()
			w.puback(0)
			remembered = g.asked.Load() == before
		}
		g.forbid("receive a/1")
		b.Reconsider()
		w.publish(Message{Topic: "a/1", QoS: 1})
		w.puback(0)
		w.quiet()
		g.forbid()
		receive(t, o.subscribed)
		client.Reconsider()
		w.publish(Message{Topic: "a/1", QoS: 1})
		w.message()
		w.puback(0)

		g.forbid("publish a/1", "retain a/3")
		b.Reconsider()
		if version == 5 {
			for _, m := range []Message{{Topic: "a/1", QoS: 1}, {Topic: "a/3", QoS: 1, Retain: true}} {
				w.publish(m)
				w.puback(codeNotAuthorized)
			}
			w.publish(Message{Topic: "a/1"})
			w.dismissed(codeNotAuthorized)
		} else {
			w.publish(Message{Topic: "a/1", QoS: 1})
			w.closed()
		}
		if e := receive(t, o.disconnected); e.reason != AuthError {
			t.Errorf("reason is %s", e.reason)
		}
	})
}

// What a client may not receive when it comes back is not kept for it any longer (spec
// §11, 54), nor is a will accepted that could not be published.
func TestAuthorizerAtReturn(t *testing.T) {
	t.Parallel()
	b, o, g, addr := guarded(t)
	keep := connectPacket{version: 4, id: "x", keep: true}
	w, _ := join(t, addr, keep)
	w.subscribe("a", "b")
	if err := w.conn.Close(); err != nil {
		t.Fatal(err)
	}
	receive(t, o.disconnected)
	b.Publish(Message{Topic: "a", QoS: 1})
	b.Publish(Message{Topic: "b", QoS: 1})
	g.forbid("receive a", "publish w", "retain v")
	b.Reconsider()
	w, _ = join(t, addr, keep)
	if p := w.message(); p.message.Topic != "b" {
		t.Errorf("got %s", p.message.Topic)
	}
	w.quiet()

	for _, will := range []*Message{{Topic: "w"}, {Topic: "v", Retain: true}} {
		w := dial(t, addr)
		w.send(connectPacket{version: 5, id: "y", will: will}.encode())
		if f := w.next(); f.body[1] != codeNotAuthorized {
			t.Errorf("will %+v: %+v", will, f)
		}
	}
	w, _ = join(t, addr, connectPacket{version: 5, id: "y", will: &Message{Topic: "v"}})
	w.quiet()
}

// Nothing is decided by an answer that was taken back while it was given.
func TestReconsiderWhileAsking(t *testing.T) {
	t.Parallel()
	asking, answer := make(chan bool, 9), make(chan bool, 9)
	b, err := New(Config{Handler: indifferent{}, Authorizer: authorizerFunc(func(*Client, Action, string) bool {
		asking <- true
		return <-answer
	})})
	if err != nil {
		t.Fatal(err)
	}
	c := &Client{broker: b}
	done := make(chan bool)
	go func() { done <- c.may(MayPublish, "t") }()
	<-asking
	b.Reconsider()
	answer <- true
	if !<-done {
		t.Error("the answer is not what was said")
	}
	answer <- false
	if c.may(MayPublish, "t") {
		t.Error("an answer outlived its being taken back")
	}
	if c.may(MayPublish, "t") || len(asking) != 1 {
		t.Error("an answer is not remembered")
	}
}

type authorizerFunc func(*Client, Action, string) bool

func (f authorizerFunc) Authorize(c *Client, a Action, topic string) bool { return f(c, a, topic) }
