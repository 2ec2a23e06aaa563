package broker

import (
	"fmt"
	"testing"
)

func TestB114B122B123B124B125B127B128Shared(t *testing.T) {
	eachVersion(t, func(t *testing.T, version byte) {
		b, _, addr := serve(t, Config{Handler: indifferent{}})
		b.Publish(Message{Topic: "t/x", Payload: []byte("retained"), Retain: true})
		member := func(id string, filters ...string) *wire {
			w, _ := join(t, addr, connectPacket{version: version, id: id})
			for _, code := range w.subscribe(filters...) {
				if code > 1 {
					t.Fatalf("refused with %#x", code)
				}
			}
			return w
		}
		members := []*wire{
			member("a", "$share/one/t/x", "$share/1/t/1/2/3/4/5/6/7"), member("b", "$share/one/t/x"),
			member("c", "$share/two/t/x"), member("d", "$share/one/t/+"), member("e", "t/x"),
		}
		from, _ := join(t, addr, connectPacket{version: version, id: "from"})
		const n = 40
		for i := range n {
			from.publish(Message{Topic: "t/x", Payload: fmt.Append(nil, i), QoS: 1})
			from.puback(0)
		}
		got := make([]int, len(members))
		for i, w := range members {
			w.send([]byte{typePingreq << 4, 0})
			for f := w.next(); f.kind != typePingresp; f = w.next() {
				if f.flags&1 != 0 && i == 4 {
					continue // retained: for the plain subscription alone
				}
				got[i]++
			}
		}
		if got[0]+got[1] != n || got[0] == 0 || got[1] == 0 || got[2] != n || got[3] != n || got[4] != n {
			t.Errorf("members got %d", got)
		}
		if n := b.Stats().Subscriptions; n != 6 {
			t.Errorf("%d subscriptions", n)
		}
		for i, filter := range []string{"$share/one/t/x", "$share/one/t/x", "$share/two/t/x", "$share/one/t/+", "t/x"} {
			body := appendString([]byte{0, 5}, filter)
			if version == 5 {
				body = append([]byte{0, 5, 0}, body[2:]...)
			}
			w := members[i]
			w.send(appendPacket(nil, typeUnsubscribe<<4|2, body))
			for w.next().kind != typeUnsuback {
			}
		}
		if b.HasSubscribers("t/x") {
			t.Error("t/x still has subscribers")
		}
	})
}

func TestB126SharedRefused(t *testing.T) {
	eachVersion(t, func(t *testing.T, version byte) {
		_, _, addr := serve(t, Config{Handler: indifferent{}, MaxShared: 1})
		w, _ := join(t, addr, connectPacket{version: version, id: "x"})
		codes := w.subscribe("$share/g/t", "$share//t", "$share/g/", "$share/g", "$share/g/$share/h/t", "$share/h/1/2/3/4/5/6/7/8/9", "$share/h/t")
		for i, code := range codes {
			if ok := i == 0 || i == 6; ok != (code == 1) {
				t.Errorf("filter %d is answered %#x", i, code)
			}
		}
		other, _ := join(t, addr, connectPacket{version: version, id: "y"})
		if codes := other.subscribe("$share/g/t"); codes[0] == 1 {
			t.Error("more members than a group may have")
		}
	})
}

// TestB129B130SharedQueue: what no member takes waits for the first that has room, in order.
func TestB129B130SharedQueue(t *testing.T) {
	eachVersion(t, func(t *testing.T, version byte) {
		b, o, addr := serve(t, Config{})
		expiry := []byte{propSessionExpiry, 0, 0, 0x0e, 0x10}
		if version == 4 {
			expiry = nil
		}
		from, _ := join(t, addr, connectPacket{version: version, id: "from"})
		publish := func(payload string) {
			from.publish(Message{Topic: "t", Payload: []byte(payload), QoS: 1})
			from.puback(0)
		}
		leave := func(w *wire) {
			for len(o.disconnected) > 0 {
				<-o.disconnected
			}
			_ = w.conn.Close()
			receive(t, o.disconnected)
		}

		// A clean member alone: nothing is kept once it has gone.
		w, _ := join(t, addr, connectPacket{version: version, id: "clean"})
		w.subscribe("$share/g/t")
		leave(w)
		publish("lost")

		w, _ = join(t, addr, connectPacket{version: version, id: "kept", keep: true, props: expiry})
		w.subscribe("$share/g/t")
		publish("1")
		w.unacknowledged()
		leave(w) // the message goes back
		publish("2")
		publish("3")
		if n := b.Stats().Queued; n != 3 {
			t.Errorf("%d messages queued, want 3", n)
		}
		other, _ := join(t, addr, connectPacket{version: version, id: "other"})
		other.send(subscribePacket(version, 1, "$share/g/t"))
		var got string
		for len(got) < 3 {
			f := other.next()
			if f.kind == typeSuback {
				continue
			}
			p, err := decodePublish(f, version, b.cfg.Now())
			if err != nil {
				t.Fatal(err)
			}
			got += string(p.message.Payload)
			other.send(encodePuback(p.id, 0))
		}
		if got != "123" {
			t.Errorf("the newcomer got %q", got)
		}
		other.quiet()
		if n := b.Stats().Queued; n != 0 {
			t.Errorf("%d messages still queued", n)
		}
	})
}

// deaf is an Authorizer that lets one client receive nothing.
type deaf string

func (d deaf) Authorize(c *Client, a Action, _ string) bool {
	return a != MayReceive || c.ID() != string(d)
}

// TestSharedReceive: a member that may not have a message leaves it to the others, live and
// out of the queue.
func TestSharedReceive(t *testing.T) {
	eachVersion(t, func(t *testing.T, version byte) {
		b, _, addr := serve(t, Config{Handler: indifferent{}, Authorizer: deaf("denied")})
		member := func(id string) *wire {
			w, _ := join(t, addr, connectPacket{version: version, id: id})
			w.subscribe("$share/g/t")
			return w
		}
		denied := member("denied")
		b.Publish(Message{Topic: "t", Payload: []byte("queued"), QoS: 1})
		denied.quiet()
		allowed, _ := join(t, addr, connectPacket{version: version, id: "allowed"})
		allowed.send(subscribePacket(version, 1, "$share/g/t"))
		if f := allowed.next(); f.kind != typeSuback {
			t.Fatalf("got %+v, want SUBACK", f)
		}
		if m := allowed.message().message; string(m.Payload) != "queued" {
			t.Errorf("got %q", m.Payload)
		}
		for range 10 {
			b.Publish(Message{Topic: "t", Payload: []byte("live"), QoS: 1})
			allowed.message()
		}
		denied.quiet()
	})
}
