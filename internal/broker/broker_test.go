package broker

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var versions = []byte{4, 5}

func eachVersion(t *testing.T, test func(t *testing.T, version byte)) {
	t.Parallel()
	for _, v := range versions {
		t.Run(map[byte]string{4: "3.1.1", 5: "5"}[v], func(t *testing.T) {
			t.Parallel()
			test(t, v)
		})
	}
}

func TestConnectRefused(t *testing.T) {
	t.Parallel()
	b, _, addr := serve(t, Config{})
	long := strings.Repeat("x", 129)
	good := Message{Topic: "w", Payload: []byte("p")}
	for name, test := range map[string]struct {
		packet  connectPacket
		connack int // -1: closed without an answer
	}{
		"3.1":                          {connectPacket{version: 3, name: "MQIsdp", id: "x"}, 1},
		"level 3":                      {connectPacket{version: 3, id: "x"}, 1},
		"level 6":                      {connectPacket{version: 6, id: "x"}, 0x84},
		"other protocol":               {connectPacket{version: 4, name: "HTTP", id: "x"}, -1},
		"3.1.1 long id":                {connectPacket{version: 4, id: long}, 2},
		"5 long id":                    {connectPacket{version: 5, id: long}, 0x85},
		"3.1.1 reserved id":            {connectPacket{version: 4, id: "$x"}, 2},
		"5 reserved id":                {connectPacket{version: 5, id: "$x"}, 0x85},
		"3.1.1 empty id, not clean":    {connectPacket{version: 4, keep: true}, 2},
		"5 enhanced authentication":    {connectPacket{version: 5, id: "x", props: []byte{propAuthMethod, 0, 1, 'm'}}, 0x8C},
		"5 receive maximum 0":          {connectPacket{version: 5, id: "x", props: []byte{propReceiveMaximum, 0, 0}}, 0x82},
		"5 property twice":             {connectPacket{version: 5, id: "x", props: []byte{propReceiveMaximum, 0, 1, propReceiveMaximum, 0, 1}}, 0x82},
		"3.1.1 will QoS 2":             {connectPacket{version: 4, id: "x", will: &Message{Topic: "w", QoS: 2}}, -1},
		"5 will QoS 2":                 {connectPacket{version: 5, id: "x", will: &Message{Topic: "w", QoS: 2}}, 0x9B},
		"5 will on reserved topic":     {connectPacket{version: 5, id: "x", will: &Message{Topic: "$aws/x"}}, 0x90},
		"3.1.1 will on reserved topic": {connectPacket{version: 4, id: "x", will: &Message{Topic: "$aws/x"}}, -1},
		"5 will with wildcard":         {connectPacket{version: 5, id: "x", will: &Message{Topic: "w/#"}}, 0x90},
		"5 id with NUL":                {connectPacket{version: 5, id: "a\x00", will: &good}, 0x81},
		"3.1.1 id not UTF-8":           {connectPacket{version: 4, id: "a\xff"}, -1},
	} {
		t.Run(name, func(t *testing.T) {
			w := dial(t, addr)
			w.send(test.packet.encode())
			if test.connack >= 0 {
				if f := w.next(); f.kind != typeConnack || int(f.body[1]) != test.connack {
					t.Fatalf("got %+v, want CONNACK %#x", f, test.connack)
				}
			}
			w.closed()
		})
	}
	if s := b.Stats(); s.Connections != 0 || s.Sessions != 0 || s.Refused == 0 {
		t.Errorf("stats are %+v", s)
	}
}

func TestClientID(t *testing.T) {
	eachVersion(t, func(t *testing.T, version byte) {
		_, o, addr := serve(t, Config{})
		id := strings.Repeat("é", 64) // 128 bytes
		join(t, addr, connectPacket{version: version, id: id})
		if c := receive(t, o.connected); c.ID() != id || c.ProtocolVersion() != version {
			t.Errorf("client is %q, version %d", c.ID(), c.ProtocolVersion())
		}
		_, ack := join(t, addr, connectPacket{version: version})
		join(t, addr, connectPacket{version: version})
		one, two := receive(t, o.connected), receive(t, o.connected)
		if !strings.HasPrefix(one.ID(), "$GEN/") || one.ID() == two.ID() || one.SessionID() == two.SessionID() {
			t.Errorf("generated ids are %q and %q", one.ID(), two.ID())
		}
		if version == 5 && !bytes.Contains(ack.body, appendString([]byte{propAssignedClientID}, one.ID())) {
			t.Errorf("CONNACK does not tell the client id: % x", ack.body)
		}
	})
}

func TestConnackProperties(t *testing.T) {
	t.Parallel()
	_, _, addr := serve(t, Config{})
	_, ack := join(t, addr, connectPacket{version: 5, id: "x", keepAlive: 5000, props: []byte{propSessionExpiry, 0xff, 0xff, 0xff, 0xff}})
	want := []byte{propSessionExpiry, 0, 0, 0x0e, 0x10, propServerKeepAlive, 0x04, 0xb0, propReceiveMaximum, 0, 100,
		propMaximumPacketSize, 0, 2, 0x48, 0, propTopicAliasMaximum, 0, 8, propMaximumQoS, 1, propRetainAvailable, 1,
		propWildcardAvailable, 1, propSubIDAvailable, 0, propSharedAvailable, 1}
	if got := ack.body[3:]; !bytes.Equal(got, want) {
		t.Errorf("CONNACK properties are\n% x, want\n% x", got, want)
	}
}

func TestServerKeepAlive(t *testing.T) {
	t.Parallel()
	_, _, addr := serve(t, Config{})
	for asked, want := range map[uint16]uint16{0: 1200, 10: 30, 29: 30, 30: 30, 100: 100, 1200: 1200, 5000: 1200} {
		_, ack := join(t, addr, connectPacket{version: 5, keepAlive: asked, id: "x"})
		at := bytes.IndexByte(ack.body[3:], propServerKeepAlive) + 4
		if got := binary.BigEndian.Uint16(ack.body[at:]); got != want {
			t.Errorf("keep-alive %d becomes %d, want %d", asked, got, want)
		}
	}
}

func TestSilenceEndsTheConnection(t *testing.T) {
	eachVersion(t, func(t *testing.T, version byte) {
		_, o, addr := serve(t, Config{MinKeepAlive: time.Second, ConnectTimeout: 100 * time.Millisecond})
		w, _ := join(t, addr, connectPacket{version: version, id: "x", keepAlive: 1})
		start := time.Now()
		if version == 5 {
			w.dismissed(codeKeepAliveTimeout)
		} else {
			w.closed()
		}
		if e := receive(t, o.disconnected); e.reason != KeepAliveTimeout {
			t.Errorf("reason is %s", e.reason)
		}
		if after := time.Since(start); after < 1400*time.Millisecond {
			t.Errorf("ended after %v, want 1.5 s", after)
		}
		dial(t, addr).closed() // no CONNECT at all
	})
}

func TestMisuse(t *testing.T) {
	t.Parallel()
	_, o, addr := serve(t, Config{})
	raw := func(version byte, m Message) []byte {
		p, _ := encodePublish(&m, version, m.QoS, m.Retain, false, 1, time.Now())
		return p
	}
	alias := func(n byte) []byte {
		return appendPacket(nil, typePublish<<4, []byte{0, 0}, propertyList([]byte{propTopicAlias, 0, n}))
	}
	big := make([]byte, 128<<10+1)
	for _, test := range []struct {
		name    string
		version byte // 0: both
		packet  func(version byte) []byte
		code    byte
		reason  DisconnectReason
	}{
		{"second CONNECT", 0, func(v byte) []byte { return connectPacket{version: v, id: "again"}.encode() }, 0x82, ClientError},
		{"QoS 2", 0, func(v byte) []byte { return raw(v, Message{Topic: "t", QoS: 2}) }, 0x9B, ClientError},
		{"QoS 3", 0, func(v byte) []byte { return raw(v, Message{Topic: "t", QoS: 3}) }, 0x81, ClientError},
		{"+ in topic", 0, func(v byte) []byte { return raw(v, Message{Topic: "a/+"}) }, 0x90, ClientError},
		{"# in topic", 0, func(v byte) []byte { return raw(v, Message{Topic: "#", QoS: 1}) }, 0x90, ClientError},
		{"NUL in topic", 0, func(v byte) []byte { return raw(v, Message{Topic: "a\x00"}) }, 0x81, ClientError},
		{"topic not UTF-8", 0, func(v byte) []byte { return raw(v, Message{Topic: "a\xff"}) }, 0x81, ClientError},
		{"no topic", 0, func(v byte) []byte { return raw(v, Message{}) }, 0x82, ClientError},
		{"long topic, QoS 0", 0, func(v byte) []byte { return raw(v, Message{Topic: strings.Repeat("x", 257)}) }, 0x90, ClientError},
		{"deep topic, QoS 0", 0, func(v byte) []byte { return raw(v, Message{Topic: "1/2/3/4/5/6/7/8/9"}) }, 0x90, ClientError},
		{"big payload", 0, func(v byte) []byte { return raw(v, Message{Topic: "t", QoS: 1, Payload: big}) }, 0x95, ClientError},
		{"big packet", 0, func(v byte) []byte { return raw(v, Message{Topic: "t", Payload: make([]byte, 1<<20)}) }, 0x95, ClientError},
		{"refused topic", 0, func(v byte) []byte { return raw(v, Message{Topic: "forbidden/x"}) }, 0x90, ClientError},
		{"denied topic", 0, func(v byte) []byte { return raw(v, Message{Topic: "denied/x"}) }, 0x87, AuthError},
		{"9 filters", 0, func(v byte) []byte { return subscribePacket(v, 1, "1", "2", "3", "4", "5", "6", "7", "8", "9") }, 0x97, ClientError},
		{"malformed filter", 4, func(v byte) []byte { return subscribePacket(v, 1, "a/#/b") }, 0, ClientError},
		{"no filter", 0, func(v byte) []byte { return subscribePacket(v, 1) }, 0x82, ClientError},
		{"SUBSCRIBE flags", 0, func(v byte) []byte { p := subscribePacket(v, 1, "a"); p[0] = typeSubscribe << 4; return p }, 0x81, ClientError},
		{"subscription id", 5, func(byte) []byte {
			return appendPacket(nil, typeSubscribe<<4|2, []byte{0, 1}, propertyList([]byte{propSubscriptionID, 1}), []byte{0, 1, 'a', 0})
		}, 0xA1, ClientError},
		{"alias 0", 5, func(byte) []byte { return alias(0) }, 0x94, ClientError},
		{"alias 9", 5, func(byte) []byte { return alias(9) }, 0x94, ClientError},
		{"unknown alias", 5, func(byte) []byte { return alias(8) }, 0x82, ClientError},
		{"PUBREL", 0, func(byte) []byte { return []byte{6<<4 | 2, 2, 0, 1} }, 0x82, ClientError},
		{"AUTH", 0, func(byte) []byte { return []byte{15 << 4, 0} }, 0x82, ClientError},
		{"type 0", 0, func(byte) []byte { return []byte{0, 0} }, 0x82, ClientError},
		{"endless length", 0, func(byte) []byte { return []byte{typePublish << 4, 0xff, 0xff, 0xff, 0xff, 1} }, 0x81, ClientError},
		{"session expiry raised", 5, func(byte) []byte {
			return appendPacket(nil, typeDisconnect<<4, []byte{0}, propertyList([]byte{propSessionExpiry, 0, 0, 0, 1}))
		}, 0x82, ClientError},
	} {
		for _, version := range versions {
			if test.version != 0 && test.version != version {
				continue
			}
			t.Run(fmt.Sprintf("%s/%d", test.name, version), func(t *testing.T) {
				w, _ := join(t, addr, connectPacket{version: version, id: "x"})
				receive(t, o.connected)
				// A great packet may be cut short by the closing of the connection.
				_, _ = w.conn.Write(test.packet(version))
				if version == 5 {
					w.dismissed(test.code)
				} else {
					w.closed()
				}
				if e := receive(t, o.disconnected); e.reason != test.reason {
					t.Errorf("reason is %s, want %s", e.reason, test.reason)
				}
			})
		}
	}
	w, _ := join(t, addr, connectPacket{version: 4, id: "x"})
	w.quiet()
}

// Every packet, cut off and with one byte changed at every offset: whatever
// becomes of the connection, the server lives.
func TestBrokenPackets(t *testing.T) {
	eachVersion(t, func(t *testing.T, version byte) {
		_, _, addr := serve(t, Config{Handler: indifferent{}})
		attempt := func(first bool, packet []byte) {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			if !first {
				packet = append(connectPacket{version: version, id: "x"}.encode(), packet...)
			}
			if _, err := conn.Write(packet); err != nil {
				t.Fatal(err)
			}
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			w := newWire(t, conn)
			w.discard()
		}
		for _, packet := range corpus(version) {
			first := packet[0]>>4 == typeConnect
			for i := range packet {
				attempt(first, packet[:i])
				for _, change := range []byte{0xff, 0x80, 0x01} {
					broken := bytes.Clone(packet)
					broken[i] ^= change
					attempt(first, broken)
				}
			}
		}
		w, _ := join(t, addr, connectPacket{version: version, id: "alive"})
		w.quiet()
	})
}

func TestFirstPacketIsNotConnect(t *testing.T) {
	t.Parallel()
	_, _, addr := serve(t, Config{})
	for _, packet := range corpus(5)[1:] {
		w := dial(t, addr)
		w.send(packet)
		w.closed()
	}
}

func TestLimitsThatHold(t *testing.T) {
	eachVersion(t, func(t *testing.T, version byte) {
		_, o, addr := serve(t, Config{})
		w, _ := join(t, addr, connectPacket{version: version, id: "x"})
		for _, topic := range []string{strings.Repeat("x", 256), "1/2/3/4/5/6/7/8", "$aws/rules/name/1/2/3/4/5/6/7/8"} {
			w.publish(Message{Topic: topic, QoS: 1, Payload: make([]byte, 128<<10)})
			w.puback(0)
			if m := receive(t, o.published); m.Topic != topic || len(m.Payload) != 128<<10 {
				t.Errorf("topic %q arrives with %d bytes", m.Topic, len(m.Payload))
			}
		}
	})
}

func TestRefusedPublishKeepsAnMQTT5Connection(t *testing.T) {
	t.Parallel()
	b, _, addr := serve(t, Config{})
	w, _ := join(t, addr, connectPacket{version: 5, id: "x"})
	for topic, code := range map[string]byte{"forbidden/x": 0x90, "denied/x": 0x87, strings.Repeat("x", 257): 0x90} {
		w.publish(Message{Topic: topic, QoS: 1})
		w.puback(code)
	}
	w.quiet()
	if s := b.Stats(); s.Refused != 3 {
		t.Errorf("%d refused", s.Refused)
	}
}

func TestTopicAlias(t *testing.T) {
	t.Parallel()
	_, o, addr := serve(t, Config{})
	w, _ := join(t, addr, connectPacket{version: 5, id: "x"})
	props := propertyList([]byte{propTopicAlias, 0, 8})
	w.send(appendPacket(nil, typePublish<<4, appendString(nil, "a/b"), props, []byte("1")))
	w.send(appendPacket(nil, typePublish<<4, appendString(nil, ""), props, []byte("2")))
	for _, payload := range []string{"1", "2"} {
		if m := receive(t, o.published); m.Topic != "a/b" || string(m.Payload) != payload {
			t.Errorf("got %q on %q", m.Payload, m.Topic)
		}
	}
}

func TestSubscribeAnswers(t *testing.T) {
	eachVersion(t, func(t *testing.T, version byte) {
		b, o, addr := serve(t, Config{MaxSubscriptions: 3})
		w, _ := join(t, addr, connectPacket{version: version, id: "x"})
		deep := "1/2/3/4/5/6/7/8/9"
		got := w.subscribe("a", "forbidden/x", deep, "b/#", "$share//a", "c", "d", "a")
		want := []byte{1, codeNotAuthorized, codeFilterInvalid, 1, codeFilterInvalid, 1, codeQuotaExceeded, 1}
		if version == 4 {
			for i := range want {
				if want[i] > 1 {
					want[i] = codeUnspecified
				}
			}
		}
		if !bytes.Equal(got, want) {
			t.Errorf("SUBACK is % x, want % x", got, want)
		}
		if filters := receive(t, o.subscribed); fmt.Sprint(filters) != "[a b/# c a]" {
			t.Errorf("Subscribed(%q)", filters)
		}
		if n := b.Stats().Subscriptions; n != 3 {
			t.Errorf("%d subscriptions", n)
		}
		if version == 5 {
			if got := w.subscribe("a/#/b"); got[0] != codeFilterInvalid {
				t.Errorf("SUBACK for a malformed filter is %#x", got[0])
			}
		}
		w.send(subscribePacket(version, 2, "c")) // QoS 2 is granted as 1
		if f := w.next(); f.body[len(f.body)-1] != 1 {
			t.Errorf("SUBACK for QoS 2 is % x", f.body)
		}
		receive(t, o.subscribed)

		body := []byte{0, 1}
		if version == 5 {
			body = append(body, 0)
		}
		w.send(appendPacket(nil, typeUnsubscribe<<4|2, appendString(appendString(body, "a"), "unknown")))
		want = []byte{0, 1}
		if version == 5 {
			want = []byte{0, 1, 0, 0, 0}
		}
		if f := w.next(); f.kind != typeUnsuback || !bytes.Equal(f.body, want) {
			t.Errorf("UNSUBACK is %+v", f)
		}
		if filters := receive(t, o.unsubscribed); fmt.Sprint(filters) != "[a unknown]" {
			t.Errorf("Unsubscribed(%q)", filters)
		}
		b.Publish(Message{Topic: "a"})
		w.quiet()
	})
}

func TestRoute(t *testing.T) {
	eachVersion(t, func(t *testing.T, version byte) {
		b, _, addr := serve(t, Config{})
		sub, _ := join(t, addr, connectPacket{version: version, id: "sub"})
		pub, _ := join(t, addr, connectPacket{version: version, id: "pub"})
		sub.subscribe("a/#", "a/b", "a/+") // overlapping: one copy
		low, _ := join(t, addr, connectPacket{version: version, id: "low"})
		low.send(subscribePacket(version, 0, "a/b"))
		low.next()
		for qos := range byte(2) {
			pub.publish(Message{Topic: "a/b", Payload: []byte{qos}, QoS: qos})
			if qos == 1 {
				pub.puback(0)
			}
			if p := sub.message(); p.message.QoS != qos || p.message.Payload[0] != qos || p.message.Topic != "a/b" {
				t.Errorf("got %+v", p.message)
			}
			if p := low.message(); p.message.QoS != 0 || p.message.Payload[0] != qos {
				t.Errorf("QoS 0 subscriber got %+v", p.message)
			}
		}
		b.Publish(Message{Topic: "a", QoS: 1})
		b.Publish(Message{Topic: "other", QoS: 1})
		sub.quiet()
		pub.quiet()
	})
}

func TestLeadingWildcardsDoNotSeeReservedTopics(t *testing.T) {
	t.Parallel()
	b, _, addr := serve(t, Config{})
	w, _ := join(t, addr, connectPacket{version: 4, id: "x"})
	w.subscribe("#", "+/events/x")
	b.Publish(Message{Topic: "$aws/events/x", QoS: 1})
	w.quiet()
	w.subscribe("$aws/events/#")
	b.Publish(Message{Topic: "$aws/events/x", QoS: 1})
	w.message()
	w.quiet()
}

func TestPropertiesAcrossVersions(t *testing.T) {
	t.Parallel()
	b, _, addr := serve(t, Config{})
	five, _ := join(t, addr, connectPacket{version: 5, id: "five"})
	four, _ := join(t, addr, connectPacket{version: 4, id: "four"})
	five.subscribe("t")
	four.subscribe("t")
	b.Publish(Message{Topic: "t", Payload: []byte("p"), Expires: time.Now().Add(time.Hour), Properties: &Properties{
		CorrelationData: []byte("c"), User: []UserProperty{{"k", "2"}, {"k", "1"}}}})
	if m := five.message().message; string(m.Properties.CorrelationData) != "c" || fmt.Sprint(m.Properties.User) != "[{k 2} {k 1}]" || time.Until(m.Expires) < 59*time.Minute {
		t.Errorf("MQTT 5 got %+v, %+v", m, m.Properties)
	}
	if m := four.message().message; string(m.Payload) != "p" {
		t.Errorf("MQTT 3.1.1 got %+v", m)
	}
}

func TestDeliver(t *testing.T) {
	eachVersion(t, func(t *testing.T, version byte) {
		_, _, addr := serve(t, Config{})
		asker, _ := join(t, addr, connectPacket{version: version, id: "asker"})
		subscribed, _ := join(t, addr, connectPacket{version: version, id: "subscribed"})
		other, _ := join(t, addr, connectPacket{version: version, id: "other"})
		subscribed.subscribe("#", "x/ask/accepted", "x/+/accepted")
		other.subscribe("#")
		for _, w := range []*wire{asker, subscribed} {
			for qos := range byte(2) {
				w.publish(Message{Topic: "x/ask", Payload: []byte("hello"), QoS: qos})
				if p := w.message(); p.message.Topic != "x/ask/accepted" || p.message.QoS != qos || string(p.message.Payload) != "hello" {
					t.Errorf("got %+v", p.message)
				}
				if qos == 1 {
					w.puback(0)
				}
				w.quiet()
			}
		}
		other.quiet()
	})
}

func TestDeliverAfterTheEnd(t *testing.T) {
	eachVersion(t, func(t *testing.T, version byte) {
		_, o, addr := serve(t, Config{})
		keep := connectPacket{version: version, id: "keeps", keep: true, props: []byte{propSessionExpiry, 0, 0, 1, 0}}
		for _, p := range []connectPacket{{version: version, id: "clean"}, keep} {
			w, _ := join(t, addr, p)
			c := receive(t, o.connected)
			w.send([]byte{typeDisconnect << 4, 0})
			receive(t, o.disconnected)
			want := ErrOffline
			if p.keep {
				want = nil
			}
			if err := c.Deliver(Message{Topic: "t", QoS: 0}); !errors.Is(err, ErrOffline) {
				t.Errorf("%s: QoS 0: %v", p.id, err)
			}
			if err := c.Deliver(Message{Topic: "t", QoS: 1, Payload: []byte("kept")}); !errors.Is(err, want) {
				t.Errorf("%s: QoS 1: %v, want %v", p.id, err, want)
			}
		}
		w, _ := join(t, addr, keep)
		if p := w.message(); string(p.message.Payload) != "kept" {
			t.Errorf("got %+v", p.message)
		}
	})
}

func TestOrder(t *testing.T) {
	eachVersion(t, func(t *testing.T, version byte) {
		const n = 500
		b, o, addr := serve(t, Config{})
		w, _ := join(t, addr, connectPacket{version: version, id: "x"})
		c := receive(t, o.connected)
		w.subscribe("t")
		for i := range n {
			m := Message{Topic: "t", QoS: 1, Payload: binary.BigEndian.AppendUint32(nil, uint32(i))}
			if i%2 == 0 {
				b.Publish(m)
			} else if err := c.Deliver(m); err != nil {
				t.Fatal(err)
			}
		}
		ids := map[uint16]bool{}
		for i := range n {
			p := w.unacknowledged()
			if got := binary.BigEndian.Uint32(p.message.Payload); got != uint32(i) {
				t.Fatalf("message %d comes at %d", got, i)
			}
			if ids[p.id] = true; len(ids) != min(i+1, 100) && i < 100 {
				t.Fatalf("packet id %d is used twice", p.id)
			}
			if i >= 99 { // what is in flight has reached its limit
				w.send(encodePuback(p.id-99, 0))
			}
		}
	})
}

func TestReceiveMaximum(t *testing.T) {
	t.Parallel()
	b, _, addr := serve(t, Config{})
	w, _ := join(t, addr, connectPacket{version: 5, id: "x", props: []byte{propReceiveMaximum, 0, 2}})
	w.subscribe("t")
	for i := range byte(4) {
		b.Publish(Message{Topic: "t", QoS: 1, Payload: []byte{i}})
	}
	one, two := w.unacknowledged(), w.unacknowledged()
	w.quiet()
	w.send(encodePuback(two.id, 0))
	if p := w.unacknowledged(); p.message.Payload[0] != 2 || p.id == one.id {
		t.Errorf("got %+v", p)
	}
	w.quiet()
}

func TestMaximumPacketSize(t *testing.T) {
	t.Parallel()
	b, _, addr := serve(t, Config{})
	w, _ := join(t, addr, connectPacket{version: 5, id: "x", props: []byte{propMaximumPacketSize, 0, 0, 0, 100}})
	w.subscribe("t")
	for qos := range byte(2) {
		b.Publish(Message{Topic: "t", QoS: qos, Payload: make([]byte, 100)})
		b.Publish(Message{Topic: "t", QoS: qos, Payload: []byte("small")})
		if p := w.message(); string(p.message.Payload) != "small" {
			t.Errorf("got %d bytes", len(p.message.Payload))
		}
	}
	if s := b.Stats(); s.Dropped != 2 {
		t.Errorf("%d dropped", s.Dropped)
	}
}

func TestSlowClientIsCutOff(t *testing.T) {
	eachVersion(t, func(t *testing.T, version byte) {
		b, o, addr := serve(t, Config{QueueMessages: 20})
		slow, _ := join(t, addr, connectPacket{version: version, id: "slow"})
		slow.subscribe("t")
		receive(t, o.connected)
		payload := make([]byte, 100<<10)
		deadline := time.Now().Add(patience)
		for b.Stats().CutOff == 0 { // nobody reads; Publish returns all the same
			if time.Now().After(deadline) {
				t.Fatal("client is not cut off")
			}
			b.Publish(Message{Topic: "t", Payload: payload})
		}
		if e := receive(t, o.disconnected); e.client.ID() != "slow" || e.reason != Throttled {
			t.Errorf("%s: %s", e.client.ID(), e.reason)
		}
		slow.discard()
		if s := b.Stats(); s.Dropped == 0 || s.CutOff != 1 {
			t.Errorf("stats are %+v", s)
		}
	})
}

func TestClientThatNeverAcknowledgesIsCutOff(t *testing.T) {
	t.Parallel()
	b, o, addr := serve(t, Config{QueueMessages: 5, MaxInflight: 2})
	w, _ := join(t, addr, connectPacket{version: 4, id: "x", keep: true})
	w.subscribe("t")
	for range 8 {
		b.Publish(Message{Topic: "t", QoS: 1})
	}
	if e := receive(t, o.disconnected); e.reason != Throttled {
		t.Errorf("reason is %s", e.reason)
	}
	again, _ := join(t, addr, connectPacket{version: 4, id: "x", keep: true})
	for range 7 {
		again.message()
	}
	again.quiet()
}

func TestNewcomerWins(t *testing.T) {
	eachVersion(t, func(t *testing.T, version byte) {
		b, o, addr := serve(t, Config{})
		watch, _ := join(t, addr, connectPacket{version: version, id: "watch"})
		watch.subscribe("will")
		receive(t, o.connected)
		old, _ := join(t, addr, connectPacket{version: version, id: "x", will: &Message{Topic: "will", Payload: []byte("gone")}})
		first := receive(t, o.connected)
		refused := dial(t, addr) // one that is refused disturbs nobody
		refused.send(connectPacket{version: version, id: "x", will: &Message{Topic: "$aws/x"}}.encode())
		refused.discard()
		old.quiet()
		newer, _ := join(t, addr, connectPacket{version: version, id: "x"})
		if version == 5 {
			old.dismissed(codeTakenOver)
		} else {
			old.closed()
		}
		if e := receive(t, o.disconnected); e.client != first || e.reason != DuplicateClientID {
			t.Errorf("%v: %s", e.client, e.reason)
		}
		if c := receive(t, o.connected); c == first || c.ID() != "x" {
			t.Errorf("newcomer is %v", c)
		}
		if p := watch.message(); string(p.message.Payload) != "gone" {
			t.Errorf("will is %+v", p.message)
		}
		newer.quiet()
		if n := b.Clients(); n != 2 {
			t.Errorf("%d clients", n)
		}
	})
}

func TestManyNewcomers(t *testing.T) {
	t.Parallel()
	var log alternation
	b, _, addr := serve(t, Config{Handler: &log})
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Error(err)
				return
			}
			w := newWire(t, conn)
			w.send(connectPacket{version: 5, id: "x"}.encode())
			// CONNACK, or nothing if another one was quicker.
			if f, err := readFrame(w.r, 1000); err == nil && f.kind != typeConnack {
				t.Errorf("got %+v", f)
			}
		})
	}
	all.Wait()
	join(t, addr, connectPacket{version: 5, id: "x"})
	if n := b.Clients(); n != 1 {
		t.Errorf("%d clients", n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := b.Close(ctx); err != nil {
		t.Fatal(err)
	}
	last := len(log.events) - 1
	for i := 0; i <= last; i += 2 {
		begin, end := log.events[i], log.events[min(i+1, last)]
		want := DuplicateClientID
		if i+1 == last {
			want = ServerInitiated
		}
		if begin.reason != "" || end.client != begin.client || end.reason != want {
			t.Errorf("event %d of %d: %q, then %q of the same client: %v", i, last, begin.reason, end.reason, end.client == begin.client)
		}
	}
}

// alternation records connections and their ends in the order of the calls.
type alternation struct {
	indifferent
	mu     sync.Mutex
	events []ended // reason "" for Connected
}

func (a *alternation) Connected(c *Client) { a.Disconnected(c, "") }
func (a *alternation) Disconnected(c *Client, r DisconnectReason) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events = append(a.events, ended{c, r})
}

func TestPersistentSession(t *testing.T) {
	eachVersion(t, func(t *testing.T, version byte) {
		b, o, addr := serve(t, Config{})
		keep := connectPacket{version: version, id: "x", keep: true, props: []byte{propSessionExpiry, 0, 0, 1, 0}}
		present := func(ack frame) bool { return ack.body[0] == 1 }
		w, ack := join(t, addr, keep)
		if present(ack) {
			t.Error("a new session is present")
		}
		w.subscribe("t", "wild/+")
		b.Publish(Message{Topic: "t", QoS: 1, Payload: []byte("unacknowledged")})
		w.unacknowledged()
		if err := w.conn.Close(); err != nil {
			t.Fatal(err)
		}
		if e := receive(t, o.disconnected); e.reason != ConnectionLost {
			t.Errorf("reason is %s", e.reason)
		}
		if !b.HasSubscribers("t") || !b.HasSubscribers("wild/x") || b.Clients() != 0 || b.Stats().Sessions != 1 {
			t.Errorf("the session is not kept: %+v", b.Stats())
		}
		var want []string
		for i := range 150 { // more than may be in flight
			want = append(want, fmt.Sprint(i))
			b.Publish(Message{Topic: "t", QoS: 1, Payload: []byte(want[i])})
		}
		b.Publish(Message{Topic: "t", QoS: 0, Payload: []byte("lost")})
		b.Publish(Message{Topic: "t", QoS: 1, Payload: []byte("late"), Expires: time.Now().Add(-time.Second)})
		w, ack = join(t, addr, keep)
		if !present(ack) {
			t.Error("the session is not present")
		}
		for _, payload := range append([]string{"unacknowledged"}, want...) {
			if p := w.message(); string(p.message.Payload) != payload {
				t.Fatalf("got %q, want %q", p.message.Payload, payload)
			}
		}
		w.quiet()
		b.Publish(Message{Topic: "wild/x", QoS: 1})
		w.message()

		other := keep
		other.version = 9 - version // the other version starts afresh
		if _, ack = join(t, addr, other); present(ack) {
			t.Error("the session of the other version is present")
		}
		if b.HasSubscribers("t") {
			t.Error("the session of the other version is kept")
		}
		if _, ack = join(t, addr, keep); present(ack) {
			t.Error("the old session is back")
		}
		join(t, addr, connectPacket{version: version, id: "x"})
		if _, ack = join(t, addr, keep); present(ack) {
			t.Error("a clean session was kept")
		}
	})
}

func TestSessionExpiry(t *testing.T) {
	eachVersion(t, func(t *testing.T, version byte) {
		var mu sync.Mutex
		now := time.Now()
		clock := func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return now
		}
		_, o, addr := serve(t, Config{Now: clock})
		keep := connectPacket{version: version, id: "x", keep: true, props: []byte{propSessionExpiry, 0, 1, 0, 0}}
		leave := func(w *wire) {
			w.send([]byte{typeDisconnect << 4, 0})
			if e := receive(t, o.disconnected); e.reason != ClientInitiated {
				t.Errorf("reason is %s", e.reason)
			}
			w.closed()
		}
		w, _ := join(t, addr, keep)
		for _, step := range []struct {
			away    time.Duration
			present byte
		}{{59 * time.Minute, 1}, {time.Hour, 0}, {0, 1}} {
			leave(w)
			mu.Lock()
			now = now.Add(step.away)
			mu.Unlock()
			var ack frame
			if w, ack = join(t, addr, keep); ack.body[0] != step.present {
				t.Errorf("after %v session present is %d", step.away, ack.body[0])
			}
		}
	})
}

func TestStoredSessionIsForgotten(t *testing.T) {
	t.Parallel()
	b, _, addr := serve(t, Config{SessionExpiry: 50 * time.Millisecond})
	w, _ := join(t, addr, connectPacket{version: 4, id: "x", keep: true})
	w.subscribe("t")
	w.send([]byte{typeDisconnect << 4, 0})
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	deadline := time.Now().Add(patience)
	for b.HasSubscribers("t") || b.Stats().Sessions > 0 {
		if time.Now().After(deadline) {
			t.Fatal("the session is still there")
		}
		<-poll.C
	}
}

func TestDisconnectEndsTheSession(t *testing.T) {
	t.Parallel()
	b, o, addr := serve(t, Config{})
	w, _ := join(t, addr, connectPacket{version: 5, id: "x", props: []byte{propSessionExpiry, 0, 0, 1, 0}})
	w.subscribe("t")
	w.send(appendPacket(nil, typeDisconnect<<4, []byte{0}, propertyList([]byte{propSessionExpiry, 0, 0, 0, 0})))
	w.closed()
	receive(t, o.disconnected)
	w, ack := join(t, addr, connectPacket{version: 5, id: "x", keep: true})
	if ack.body[0] != 0 || b.HasSubscribers("t") {
		t.Error("the session outlived a DISCONNECT with expiry 0")
	}
	w.quiet()
}

func TestHasSubscribers(t *testing.T) {
	t.Parallel()
	b, o, addr := serve(t, Config{})
	w, _ := join(t, addr, connectPacket{version: 4, id: "x"})
	w.subscribe("a", "b/+", "c/#")
	for topic, want := range map[string]bool{"a": true, "a/x": false, "b": false, "b/x": true, "c": false, "c/x/y": true, "d": false} {
		if got := b.HasSubscribers(topic); got != want {
			t.Errorf("HasSubscribers(%q) is %v", topic, got)
		}
	}
	w.send([]byte{typeDisconnect << 4, 0})
	w.closed()
	receive(t, o.disconnected)
	if _, ack := join(t, addr, connectPacket{version: 4, id: "x"}); ack.body[0] != 0 { // the old one has ended for good
		t.Error("session present")
	}
	if b.HasSubscribers("a") || b.HasSubscribers("b/x") || b.Stats().Subscriptions != 0 {
		t.Error("a session that has ended is still subscribed")
	}
}

func TestRetained(t *testing.T) {
	eachVersion(t, func(t *testing.T, version byte) {
		b, _, addr := serve(t, Config{MaxRetained: 1})
		pub, _ := join(t, addr, connectPacket{version: version, id: "pub"})
		live, _ := join(t, addr, connectPacket{version: version, id: "live"})
		live.subscribe("r")
		pub.publish(Message{Topic: "r", Payload: []byte("kept"), QoS: 1, Retain: true})
		pub.puback(0)
		if p := live.message(); p.message.Retain {
			t.Error("live message has RETAIN")
		}
		sub, _ := join(t, addr, connectPacket{version: version, id: "sub"})
		sub.subscribe("+", "#")
		sub.quiet()
		sub.subscribe("r")
		if p := sub.message(); !p.message.Retain || string(p.message.Payload) != "kept" {
			t.Errorf("got %+v", p.message)
		}
		if version == 5 {
			pub.publish(Message{Topic: "more", Payload: []byte("x"), QoS: 1, Retain: true})
			pub.puback(codeQuotaExceeded)
		}
		pub.publish(Message{Topic: "r", QoS: 1, Retain: true}) // forget
		pub.puback(0)
		live.message()
		if n := b.Stats().Retained; n != 0 {
			t.Errorf("%d retained", n)
		}
		b.Publish(Message{Topic: "late", Payload: []byte("x"), Retain: true, Expires: time.Now().Add(-time.Second)})
		live.subscribe("late")
		live.quiet()
	})
}

func TestSubscriptionOptions(t *testing.T) {
	t.Parallel()
	b, _, addr := serve(t, Config{})
	b.Publish(Message{Topic: "r", Payload: []byte("kept"), Retain: true})
	w, _ := join(t, addr, connectPacket{version: 5, id: "x"})
	subscribe := func(options byte) {
		w.send(subscribePacket(5, options, "r"))
		w.next()
	}
	subscribe(1 | 2<<4) // retain handling 2: never
	w.quiet()
	subscribe(1 | 1<<4) // 1: only if new
	w.quiet()
	subscribe(1 | 4 | 8) // no local, retain as published
	w.message()
	w.publish(Message{Topic: "r"})
	w.quiet()
	b.Publish(Message{Topic: "r", Payload: []byte("x"), Retain: true})
	if p := w.message(); !p.message.Retain {
		t.Error("retain is not as published")
	}
}

func TestWill(t *testing.T) {
	eachVersion(t, func(t *testing.T, version byte) {
		b, o, addr := serve(t, Config{})
		watch, _ := join(t, addr, connectPacket{version: version, id: "watch"})
		watch.subscribe("will", "forbidden/will")
		with := connectPacket{version: version, id: "x", will: &Message{Topic: "will", Payload: []byte("w"), QoS: 1, Retain: true}}
		w, _ := join(t, addr, with)
		w.send([]byte{typeDisconnect << 4, 0})
		w.closed()
		receive(t, o.disconnected)
		watch.quiet()
		w, _ = join(t, addr, with)
		if err := w.conn.Close(); err != nil {
			t.Fatal(err)
		}
		if p := watch.message(); string(p.message.Payload) != "w" || p.message.QoS != 1 {
			t.Errorf("will is %+v", p.message)
		}
		receive(t, o.disconnected)
		if n := b.Stats().Retained; n != 1 {
			t.Errorf("%d retained", n)
		}
		with.will.Topic = "forbidden/will"
		w, _ = join(t, addr, with)
		if err := w.conn.Close(); err != nil {
			t.Fatal(err)
		}
		receive(t, o.disconnected)
		watch.quiet()
		if version == 5 {
			with.will.Topic = "will"
			w, _ = join(t, addr, with)
			w.send(encodeDisconnect(codeDisconnectWithWill))
			watch.message()
		}
	})
}

func TestDelayedWill(t *testing.T) {
	t.Parallel()
	_, o, addr := serve(t, Config{})
	watch, _ := join(t, addr, connectPacket{version: 5, id: "watch"})
	watch.subscribe("will")
	with := connectPacket{version: 5, id: "x", keep: true, props: []byte{propSessionExpiry, 0, 0, 1, 0},
		will: &Message{Topic: "will"}, willProps: []byte{propWillDelay, 0, 0, 0, 1}}
	lose := func(p connectPacket) {
		w, _ := join(t, addr, p)
		if err := w.conn.Close(); err != nil {
			t.Fatal(err)
		}
		receive(t, o.disconnected)
	}
	lose(with)
	start := time.Now()
	watch.quiet()
	watch.message()
	if after := time.Since(start); after < 900*time.Millisecond {
		t.Errorf("will comes after %v", after)
	}
	lose(with)
	back, _ := join(t, addr, with) // in time: no will
	back.send([]byte{typeDisconnect << 4, 0})
	receive(t, o.disconnected)
	with.props = nil
	lose(with) // the session ends at once, and so does the delay
	watch.message()
	watch.quiet()
}

func TestServerDisconnects(t *testing.T) {
	eachVersion(t, func(t *testing.T, version byte) {
		_, o, addr := serve(t, Config{})
		w, _ := join(t, addr, connectPacket{version: version, id: "x"})
		c := receive(t, o.connected)
		if err := c.Deliver(Message{Topic: "last"}); err != nil {
			t.Fatal(err)
		}
		c.Disconnect()
		w.message() // what was said before is heard
		if version == 5 {
			w.dismissed(codeAdministrative)
		} else {
			w.closed()
		}
		if e := receive(t, o.disconnected); e.reason != ServerInitiated {
			t.Errorf("reason is %s", e.reason)
		}
		if err := c.Deliver(Message{Topic: "later"}); !errors.Is(err, ErrOffline) {
			t.Errorf("Deliver: %v", err)
		}
	})
}

func TestClose(t *testing.T) {
	t.Parallel()
	b, o, addr := serve(t, Config{})
	four, _ := join(t, addr, connectPacket{version: 4, id: "four"})
	five, _ := join(t, addr, connectPacket{version: 5, id: "five"})
	early := dial(t, addr) // has not said CONNECT
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	closed := make(chan error, 1)
	go func() { closed <- b.Close(ctx) }()
	five.dismissed(codeShuttingDown)
	four.closed()
	early.closed()
	for _, w := range []*wire{four, five, early} {
		if err := w.conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := receive(t, closed); err != nil {
		t.Error(err)
	}
	for range 2 {
		if e := receive(t, o.disconnected); e.reason != ServerInitiated {
			t.Errorf("reason is %s", e.reason)
		}
	}
	if conn, err := net.Dial("tcp", addr); err == nil {
		_ = conn.Close()
		t.Error("the listener is open")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Serve(l); err != nil {
		t.Errorf("Serve after Close: %v", err)
	}
}

func TestCloseInAHurry(t *testing.T) {
	t.Parallel()
	b, _, addr := serve(t, Config{})
	join(t, addr, connectPacket{version: 5, id: "x"}) // does not hang up
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Close(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Close: %v", err)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	b, o, _ := serve(t, Config{})
	server, client := testTLS(t)
	l, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	listen(t, b, l)
	conn, err := tls.Dial("tcp", l.Addr().String(), client)
	if err != nil {
		t.Fatal(err)
	}
	w := newWire(t, conn)
	w.version = 5
	w.send(connectPacket{version: 5, id: "x"}.encode())
	w.next()
	c := receive(t, o.connected)
	if _, ok := c.Conn().(*tls.Conn); !ok {
		t.Errorf("Conn is a %T", c.Conn())
	}
	w.subscribe("t")
	b.Publish(Message{Topic: "t", QoS: 1, Payload: make([]byte, 100<<10)})
	if p := w.message(); len(p.message.Payload) != 100<<10 {
		t.Errorf("got %d bytes", len(p.message.Payload))
	}
	c.Disconnect()
	w.dismissed(codeAdministrative)
}

func TestNewRefusesConfigs(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]Config{
		"no handler":     {},
		"negative limit": {Handler: newOwner(), MaxFilters: -1},
		"great inflight": {Handler: newOwner(), MaxInflight: 65_536},
		"keep-alives":    {Handler: newOwner(), MinKeepAlive: 2 * time.Minute, MaxKeepAlive: time.Minute},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// batches counts what comes together.
type batches struct {
	indifferent
	open, done chan int
}

func (b *batches) Publish(*Client, Message) Verdict {
	b.open <- <-b.open + 1
	return Handled
}

func (b *batches) EndBatch() {
	n := <-b.open
	b.done <- n
	b.open <- 0
}

// Requests of one read are one batch, which ends before anything else is done.
func TestBatches(t *testing.T) {
	t.Parallel()
	h := &batches{open: make(chan int, 1), done: make(chan int, 9)}
	h.open <- 0
	_, _, addr := serve(t, Config{Handler: h})
	w, _ := join(t, addr, connectPacket{version: 4, id: "x"})
	ask, _ := encodePublish(&Message{Topic: "t"}, 4, 0, false, false, 0, time.Time{})
	ping := []byte{typePingreq << 4, 0}
	w.send(slices.Concat(ask, ask, ask, ping, ask, ask, ping))
	for _, want := range []int{3, 2} {
		if got := receive(t, h.done); got != want {
			t.Errorf("a batch of %d, want %d", got, want)
		}
	}
	w.send(slices.Concat(ask, []byte{typeConnect << 4, 0})) // the last one, too
	if got := receive(t, h.done); got != 1 {
		t.Errorf("a batch of %d at the end", got)
	}
}
