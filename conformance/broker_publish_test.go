package conformance

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	mq "drover/internal/mqtttest"
)

func TestB072B101B102DeliveredQoS(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		for _, c := range []struct{ subscribed, published byte }{{0, 0}, {0, 1}, {1, 0}, {1, 1}} {
			to := f.client(9-v, "to")
			to.Granted(c.subscribed, f.topic("a"))
			f.client(v, "from").Publish(mq.Publish{Topic: f.topic("a"), Payload: "hello", QoS: c.published})
			if m := to.Receive(f.topic("a"), "hello"); m.QoS != min(c.subscribed, c.published) || m.Retain || m.Dup {
				f.t.Errorf("%+v: %+v", c, m)
			}
		}
	})
}

func TestB073NoSubscribers(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		if got := f.client(v, "from").Publish(mq.Publish{Topic: f.topic("nobody"), Payload: "x", QoS: 1}); got != 0 {
			f.t.Errorf("PUBACK %#x", got)
		}
	})
}

func TestB074QoS2(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		seen := f.watch(f.topic("a"))
		w := f.client(v, "from")
		w.Publish(mq.Publish{Topic: f.topic("a"), Payload: "x", QoS: 2})
		w.Dismissed(0x9B)
		w = f.client(v, "from")
		w.Publish(mq.Publish{Topic: f.topic("a"), Payload: "x", QoS: 3})
		w.Dismissed(0x81)
		for _, kind := range []byte{mq.PUBREC << 4, mq.PUBREL<<4 | 2, mq.PUBCOMP << 4} {
			w = f.client(v, "from")
			w.Send(mq.Frame(kind, mq.Two(1)))
			w.Dismissed(0x82)
		}
		seen.Silent()
	})
}

func TestB075B139SizeOfPayload(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		seen := f.watch(f.topic("big"))
		events := f.watch("$aws/events/presence/disconnected/" + f.name("from"))
		w := f.client(v, "from")
		largest := strings.Repeat("x", 128<<10)
		w.Publish(mq.Publish{Topic: f.topic("big"), Payload: largest, QoS: 1})
		seen.Receive(f.topic("big"), largest)
		w.Publish(mq.Publish{Topic: f.topic("big"), Payload: largest + "x", QoS: 0})
		w.Dismissed(0x95)
		if e := event(f.t, events); e["disconnectReason"] != "CLIENT_ERROR" {
			f.t.Errorf("%v", e)
		}
		seen.Silent()
	})
}

func TestB076B077LimitsOfTopics(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		seen := f.watch(f.prefix + "/#")
		longest := f.prefix + "/" + strings.Repeat("é", (256-len(f.prefix)-1)/2)
		longest += strings.Repeat("x", 256-len(longest))
		deepest := f.prefix + "/1/2/3/4/5/6/7"
		w := f.client(v, "from")
		for _, topic := range []string{longest, deepest} {
			if got := w.Publish(mq.Publish{Topic: topic, Payload: "x", QoS: 1}); got != 0 {
				f.t.Errorf("%q: %#x", topic, got)
			}
			seen.Receive(topic, "x")
		}
		for _, topic := range []string{longest + "x", deepest + "/8", deepest + "/"} {
			w := f.client(v, "bad")
			if v == 5 { // which can say so without parting
				if got := w.Publish(mq.Publish{Topic: topic, Payload: "x", QoS: 1}); got != 0x90 {
					f.t.Errorf("%q: %#x", topic, got)
				}
				w.Publish(mq.Publish{Topic: topic, Payload: "x", QoS: 0})
			} else {
				w.Send(mq.Publish{Topic: topic, Payload: "x", QoS: 1, ID: 1}.Encode(v))
			}
			w.Dismissed(0x90)
		}
		seen.Silent()
	})
}

func TestB078BadTopics(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		seen := f.watch(f.prefix + "/#")
		for topic, codes := range map[string][]byte{
			f.topic("+"):                      {0x90},
			f.topic("#"):                      {0x90},
			f.topic("a+b"):                    {0x90},
			f.topic("a#"):                     {0x90},
			"":                                {0x81, 0x82, 0x90},
			f.topic("nul\x00"):                {0x81, 0x90},
			f.topic("\xff"):                   {0x81, 0x90},
			f.topic("\xc0\xaf"):               {0x81, 0x90}, // overlong
			f.topic("\xed\xa0\x80"):           {0x81, 0x90}, // surrogate
			f.topic("\xf4\x90\x80\x80"):       {0x81, 0x90}, // beyond Unicode
			f.topic("cut in a rune \xe2\x82"): {0x81, 0x90},
		} {
			for _, qos := range []byte{0, 1} {
				w := f.client(v, "bad")
				w.Send(mq.Publish{Topic: topic, Payload: "x", QoS: qos, ID: 1}.Encode(v))
				parted(f, w, topic, codes...)
			}
		}
		seen.Silent()
	})
}

// parted waits for the end; MQTT 5 must say one of the codes, 3.1.1 nothing.
func parted(f *fleet, w *mq.Client, what string, codes ...byte) {
	f.t.Helper()
	got := w.Closed()
	if w.Version == 4 {
		if len(got) > 0 {
			f.t.Errorf("%q: %v", what, got)
		}
		return
	}
	if len(got) == 1 {
		if ack, err := got[0].Ack(5); err == nil && got[0].Type == mq.DISCONNECT && slices.Contains(codes, ack.Codes[0]) {
			return
		}
	}
	f.t.Errorf("%q: %v, want DISCONNECT with one of % x", what, got, codes)
}

func TestB079B080TopicAliases(t *testing.T) {
	f := newFleet(t)
	alias := func(n int) []byte { return mq.Prop(mq.TopicAlias, n) }
	seen := f.watch(f.prefix + "/#")
	w := f.client(5, "from")
	for n := 1; n <= 8; n++ {
		w.Publish(mq.Publish{Topic: f.topic(string(rune('a' + n))), Payload: "set", QoS: 1, Props: alias(n)})
		seen.Receive(f.topic(string(rune('a'+n))), "set")
	}
	w.Publish(mq.Publish{Topic: f.topic("other"), Payload: "changed", QoS: 1, Props: alias(1)})
	seen.Receive(f.topic("other"), "changed")
	for _, c := range []struct {
		alias int
		topic string
	}{{1, f.topic("other")}, {8, f.topic("i")}, {2, f.topic("c")}} {
		w.Publish(mq.Publish{Payload: "used", QoS: 1, Props: alias(c.alias)})
		if _, props := f.received(seen, c.topic, "used"); props.Int(mq.TopicAlias) != -1 {
			t.Errorf("an alias came: %v", props)
		}
	}
	for bad, codes := range map[int][]byte{0: {0x94}, 9: {0x94}, 65535: {0x94}} {
		w := f.client(5, "bad")
		w.Send(mq.Publish{Topic: f.topic("a"), Payload: "x", Props: alias(bad)}.Encode(5))
		parted(f, w, "alias", codes...)
	}
	w = f.client(5, "bad") // another connection knows none
	w.Send(mq.Publish{Payload: "x", Props: alias(1)}.Encode(5))
	w.Dismissed(0x82)
	w = f.client(5, "bad")
	w.Send(mq.Publish{Topic: f.topic("a"), Props: append(alias(1), alias(2)...)}.Encode(5))
	parted(f, w, "two aliases", 0x82, 0x81)
	seen.Silent()
}

// received is the next message, whose topic and payload are given.
func (f *fleet) received(c *mq.Client, topic, payload string) (mq.Publish, mq.Props) {
	f.t.Helper()
	m, props := c.Message()
	if m.Topic != topic || m.Payload != payload {
		f.t.Fatalf("got %.60q on %q, want %.60q on %q", m.Payload, m.Topic, payload, topic)
	}
	return m, props
}

func TestB084B085B118ReservedTopics(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		f.thing("t")
		jobs := "$aws/things/" + f.name("t") + "/jobs/"
		for _, m := range []mq.Publish{
			{Topic: "$aws/foo"},
			{Topic: jobs + "notify"},
			{Topic: jobs + "notify-next"},
			{Topic: jobs + "get/accepted"},
			{Topic: "$aws/events/presence/connected/x"},
			{Topic: "$SYS/uptime"},
			{Topic: "$"},
			{Topic: "$share/g/" + f.topic("a")},
			{Topic: jobs + "get", Retain: true},
		} {
			m.Payload, m.QoS, m.ID = "{}", 1, 1
			seen := f.client(v, "seen")
			if !strings.HasPrefix(m.Topic, "$share/") && m.Topic != "$" && !strings.HasPrefix(m.Topic, "$SYS/") {
				seen.Granted(1, m.Topic, jobs+"get/rejected")
			}
			w := f.client(v, "w")
			w.Send(m.Encode(v))
			if v == 5 {
				if ack := w.Acked(mq.PUBACK, 1); ack.Codes[0] != 0x90 {
					f.t.Errorf("%s: PUBACK %#x", m.Topic, ack.Codes[0])
				}
				w.Silent() // no answer of jobs
				m.QoS = 0
				w.Send(m.Encode(v))
			}
			w.Dismissed(0x90)
			seen.Silent()
		}
	})
}

func TestB086RulesReachNoSubscriber(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		seen := f.watch("#", "+/rules/#")
		w := f.client(v, "w")
		w.Send(mq.Publish{Topic: "$aws/rules/r/" + f.prefix, Payload: f.prefix, QoS: 1, ID: 1}.Encode(v))
		if v == 5 {
			w.Acked(mq.PUBACK, 1)
			w.Silent()
		} else {
			w.Closed() // there are no rules to take it
		}
		for _, p := range seen.Settle() {
			if bytes.Contains(p.Body, []byte(f.prefix)) {
				f.t.Errorf("%v", p)
			}
		}
	})
}

func TestB088B089B090B093PropertiesOfMessages(t *testing.T) {
	f := newFleet(t)
	five, three := f.watch(f.topic("a")), f.client(4, "three")
	three.Granted(1, f.topic("a"))
	w := f.client(5, "from")
	sent := slices.Concat(mq.User("k", "1"), mq.Prop(mq.PayloadFormat, 1), mq.User("k", "1"), mq.Prop(mq.ContentType, "text/plain"),
		mq.User("", ""), mq.Prop(mq.ResponseTopic, f.topic("answer")), mq.Prop(mq.CorrelationData, "\x00\xff"), mq.User("a", "2"), mq.Prop(mq.MessageExpiry, 700_000))
	w.Publish(mq.Publish{Topic: f.topic("a"), Payload: "x", QoS: 1, Props: sent})
	_, props := f.received(five, f.topic("a"), "x")
	want := []any{[2]string{"k", "1"}, [2]string{"k", "1"}, [2]string{"", ""}, [2]string{"a", "2"}}
	if !slices.Equal(props[mq.UserProperty], want) {
		t.Errorf("user properties %q", props[mq.UserProperty])
	}
	if props.Int(mq.PayloadFormat) != 1 || props.Text(mq.ContentType) != "text/plain" || props.Text(mq.ResponseTopic) != f.topic("answer") || props.Text(mq.CorrelationData) != "\x00\xff" {
		t.Errorf("%v", props)
	}
	if got := props.Int(mq.MessageExpiry); got > 604_800 || got < 604_700 {
		t.Errorf("message expiry %d", got)
	}
	three.Receive(f.topic("a"), "x")
	three.Silent()
}

func TestBadPublishProperties(t *testing.T) {
	f := newFleet(t)
	seen := f.watch(f.topic("a"))
	for name, c := range map[string]struct {
		props []byte
		codes []byte
	}{
		"unknown":                   {[]byte{0x7F, 1}, []byte{0x81, 0x82}},
		"of CONNECT":                {mq.Prop(mq.SessionExpiry, 1), []byte{0x81, 0x82}},
		"subscription identifier":   {mq.Prop(mq.SubscriptionID, 1), []byte{0x81, 0x82}},
		"twice":                     {append(mq.Prop(mq.ContentType, "a"), mq.Prop(mq.ContentType, "a")...), []byte{0x82, 0x81}},
		"payload format 2":          {mq.Prop(mq.PayloadFormat, 2), []byte{0x81, 0x82}},
		"wildcard response topic":   {mq.Prop(mq.ResponseTopic, f.topic("+")), []byte{0x82, 0x81, 0x90}},
		"bad UTF-8 in content type": {mq.Prop(mq.ContentType, "\xff"), []byte{0x81}},
		"bad UTF-8 in user key":     {mq.User("\xff", ""), []byte{0x81}},
		"NUL in user value":         {mq.User("a", "\x00"), []byte{0x81}},
		"cut":                       {[]byte{mq.MessageExpiry, 0, 0}, []byte{0x81}},
		"cut in a user value":       {[]byte{mq.UserProperty, 0, 1, 'a', 0, 9, 'b'}, []byte{0x81}},
	} {
		w := f.client(5, "bad")
		w.Send(mq.Publish{Topic: f.topic("a"), Payload: "x", Props: c.props}.Encode(5))
		parted(f, w, name, c.codes...)
	}
	// Longer than the packet.
	w := f.client(5, "bad")
	w.Send(mq.Frame(0x30, mq.String(f.topic("a")), []byte{0x7F, 0x26}))
	w.Dismissed(0x81)
	seen.Silent()
}

// A packet full of properties is refused or carried through, but costs no more than its size.
func TestBadPropertyBombs(t *testing.T) {
	f := newFleet(t)
	seen := f.watch(f.topic("a"))
	for _, one := range [][]byte{mq.User("", ""), mq.User("k", strings.Repeat("v", 1000))} {
		w := f.client(5, "bomb")
		w.Send(mq.Publish{Topic: f.topic("a"), Payload: "x", QoS: 1, ID: 1, Props: bytes.Repeat(one, 100_000/len(one))}.Encode(5))
		p, err := w.TryNext(patience)
		if err != nil {
			t.Fatalf("no answer: %v", err)
		}
		if ack, err := p.Ack(5); err != nil || p.Type == mq.PUBACK && !slices.Contains([]byte{0, 0x97, 0x99}, ack.Codes[0]) || p.Type == mq.DISCONNECT && ack.Codes[0] < 0x80 {
			t.Errorf("%v", p)
		} else if p.Type == mq.PUBACK && ack.Codes[0] == 0 {
			if _, props := f.received(seen, f.topic("a"), "x"); len(props[mq.UserProperty]) != 100_000/len(one) {
				t.Errorf("%d properties", len(props[mq.UserProperty]))
			}
		}
		w.Cut()
	}
	seen.Silent()
}

func TestBadPacketIdentifiers(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		for name, packet := range map[string][]byte{
			"PUBLISH":     mq.Publish{Topic: f.topic("a"), QoS: 1}.Encode(v),
			"SUBSCRIBE":   mq.Subscribe(v, 0, nil, mq.Filter{Filter: f.topic("a")}),
			"UNSUBSCRIBE": mq.Unsubscribe(v, 0, nil, f.topic("a")),
			"PUBACK":      mq.Puback(0),
		} {
			w := f.client(v, "zero")
			w.Send(packet)
			parted(f, w, name+" 0", 0x81, 0x82)
		}
		// One that is used again and again is a new message each time: each was acknowledged
		// before the next was looked at.
		seen := f.watch(f.topic("a"))
		w := f.client(v, "reuse")
		for _, p := range []string{"1", "2", "3"} {
			w.Publish(mq.Publish{Topic: f.topic("a"), Payload: p, QoS: 1, ID: 7})
			seen.Receive(f.topic("a"), p)
		}
		// An acknowledgement of what was never sent is no reason to part.
		w.Send(mq.Puback(99))
		w.Silent()
	})
}

// Flags and lengths that a packet type does not have.
func TestBadFlagsAndLengths(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		for name, packet := range map[string][]byte{
			"PUBACK with flags":              mq.Frame(0x41, mq.Two(1)),
			"PUBACK too short":               mq.Frame(0x40, []byte{0}),
			"SUBSCRIBE with flags 0":         mq.Frame(0x80, mq.Subscribe(v, 1, nil, mq.Filter{Filter: f.topic("a")})[2:]),
			"SUBSCRIBE without filters":      mq.Subscribe(v, 1, nil),
			"SUBSCRIBE with filter cut":      mq.Frame(0x82, mq.Two(1), v5(v, []byte{0}), mq.Two(9), []byte("abc")),
			"SUBSCRIBE without options":      mq.Frame(0x82, mq.Two(1), v5(v, []byte{0}), mq.String("abc")),
			"SUBSCRIBE with reserved bits":   mq.Subscribe(v, 1, nil, mq.Filter{Filter: f.topic("a"), Options: 0x41}),
			"SUBSCRIBE with QoS 3":           mq.Subscribe(v, 1, nil, mq.Filter{Filter: f.topic("a"), Options: 3}),
			"UNSUBSCRIBE with flags 0":       mq.Frame(0xA0, mq.Unsubscribe(v, 1, nil, f.topic("a"))[2:]),
			"UNSUBSCRIBE without filters":    mq.Unsubscribe(v, 1, nil),
			"PINGREQ with flags":             mq.Frame(0xC1),
			"PINGREQ with a body":            mq.Frame(0xC0, []byte{0}),
			"DISCONNECT with flags":          mq.Frame(0xE1),
			"packet type 0":                  mq.Frame(0x00),
			"CONNACK of a client":            mq.Frame(0x20, []byte{0, 0}),
			"SUBACK of a client":             mq.Frame(0x90, mq.Two(1), []byte{0}),
			"PINGRESP of a client":           mq.Frame(0xD0),
			"PUBLISH without a topic":        mq.Frame(0x30),
			"PUBLISH with its topic cut":     mq.Frame(0x30, mq.Two(9), []byte("abc")),
			"PUBLISH without its identifier": mq.Frame(0x32, mq.String(f.topic("a"))),
		} {
			w := f.client(v, "bad")
			w.Send(packet)
			parted(f, w, name, 0x81, 0x82)
		}
	})
}

// Acknowledgements leave in the order of the messages (MQTT-4.6.0-2), though the first has to wait
// until it is safe for who is slow, and the others need not.
func TestAcknowledgementsInOrder(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		slow := f.client(v, "slow", persistent)
		slow.Granted(1, f.topic("slow"))
		root := "$aws/things/" + f.thing("t") + "/jobs/"
		w := f.client(v, "t")
		for range 10 {
			w.Send(mq.Publish{Topic: f.topic("slow"), Payload: "x", QoS: 1, ID: 1}.Encode(v),
				mq.Publish{Topic: f.topic("nobody"), Payload: "x", QoS: 1, ID: 2}.Encode(v),
				mq.Publish{Topic: root + "get", Payload: `{}`, QoS: 1, ID: 3}.Encode(v),
				mq.Publish{Topic: f.topic("slow"), Payload: "x", QoS: 1, ID: 4}.Encode(v))
			for id := 1; id <= 4; id++ {
				w.Acked(mq.PUBACK, id)
			}
		}
	})
}
