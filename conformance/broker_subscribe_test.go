package conformance

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	mq "drover/internal/mqtttest"
)

func TestB095FiltersInOneSubscribe(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		filters := make([]mq.Filter, 9)
		for i := range filters {
			filters[i] = mq.Filter{Filter: f.topic(fmt.Sprint(i)), Options: byte(i % 2)}
		}
		w := f.client(v, "w")
		if got := w.Subscribe(filters[:8]...); !bytes.Equal(got, []byte{0, 1, 0, 1, 0, 1, 0, 1}) {
			f.t.Errorf("% x", got)
		}
		w.Send(mq.Subscribe(v, 99, nil, filters...))
		w.Dismissed(0x97)
	})
}

func TestB096SubscriptionsOfAConnection(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		w := f.client(v, "w")
		for n := range 50 {
			w.Granted(1, f.topic(fmt.Sprint(n)))
		}
		if got := w.Subscribe(mq.Filter{Filter: f.topic("51st")}); got[0] != code(v, 0x97, 0x80) {
			f.t.Errorf("% x", got)
		}
		w.Granted(0, f.topic("7")) // one that is there
		w.Unsubscribe(f.topic("7"))
		w.Granted(1, f.topic("51st"))
		f.client(v, "from").Publish(mq.Publish{Topic: f.topic("51st"), Payload: "x", QoS: 1})
		w.Receive(f.topic("51st"), "x")
	})
}

func TestB097B098Wildcards(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		from := f.client(v, "from")
		for filter, c := range map[string]struct{ match, other string }{
			"sensor/#":   {"sensor/ sensor/a sensor/a/b", "sensor sensors/a"},
			"sensor/+":   {"sensor/ sensor/a", "sensor sensor/a/b"},
			"+/a":        {"sensor/a /a", "sensor/b sensor/a/b"},
			"sensor/+/b": {"sensor/a/b sensor//b", "sensor/b sensor/a/c"},
			"+/+/+":      {"sensor/a/b // sensor//", "sensor/a sensor/a/b/c"},
		} {
			w := f.client(v, "w")
			w.Granted(1, f.topic(filter))
			for _, topic := range append(strings.Fields(c.other), strings.Fields(c.match)...) {
				from.Publish(mq.Publish{Topic: f.topic(topic), Payload: filter, QoS: 1})
			}
			for _, topic := range strings.Fields(c.match) {
				w.Receive(f.topic(topic), filter)
			}
			w.Silent()
		}
	})
}

func TestB099WildcardsDoNotSeeReservedTopics(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		w := f.client(v, "w")
		w.Granted(1, "#", "+/events/presence/connected/"+f.name("x"), "+/+/presence/#")
		seen := f.watch("$aws/events/presence/connected/" + f.name("x"))
		f.client(v, "x")
		event(f.t, seen)
		for _, p := range w.Settle() {
			if m, _, err := p.Publish(v); err != nil || strings.HasPrefix(m.Topic, "$") {
				f.t.Errorf("%v %v", p, err)
			}
		}
	})
}

func TestB100BadFilters(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		for _, filter := range []string{f.topic("#/a"), f.topic("a#"), f.topic("a+"), f.topic("+a/b"), f.topic("##"), "#/"} {
			w := f.client(v, "w")
			if v == 5 {
				if got := w.Subscribe(mq.Filter{Filter: f.topic("good"), Options: 1}, mq.Filter{Filter: filter, Options: 1}); !bytes.Equal(got, []byte{1, 0x8F}) {
					f.t.Errorf("%q: % x", filter, got)
				}
				w.Leave()
				continue
			}
			w.Send(mq.Subscribe(v, 1, nil, mq.Filter{Filter: filter, Options: 1}))
			w.Dismissed(0)
		}
		for _, filter := range []string{"", f.topic("\x00"), f.topic("\xff"), f.topic("\xed\xa0\x80")} {
			w := f.client(v, "w")
			w.Send(mq.Subscribe(v, 1, nil, mq.Filter{Filter: filter, Options: 1}))
			p, err := w.TryNext(patience)
			if v == 5 && err == nil && p.Type == mq.SUBACK {
				if ack, err := p.Ack(v); err != nil || ack.Codes[0] != 0x8F {
					f.t.Errorf("%q: %v %v", filter, ack, err)
				}
				continue
			}
			if v == 4 && err == nil || err != nil && !mq.Gone(err) {
				f.t.Errorf("%q: %v %v", filter, p, err)
			} else if ack, err := p.Ack(v); v == 5 && (err != nil || p.Type != mq.DISCONNECT || !slices.Contains([]byte{0x81, 0x82, 0x8F}, ack.Codes[0])) {
				f.t.Errorf("%q: %v", filter, p)
			}
		}
		// Too long or too deep: known by the code, the connection stays.
		w := f.client(v, "w")
		for _, filter := range []string{f.prefix + "/" + strings.Repeat("x", 256-len(f.prefix)), f.prefix + "/1/2/3/4/5/6/7/8", f.prefix + "/1/2/3/4/5/6/7/#"} {
			if got := w.Subscribe(mq.Filter{Filter: filter, Options: 1}); got[0] != code(v, 0x8F, 0x80) {
				f.t.Errorf("%q: % x", filter, got)
			}
		}
		w.Granted(1, f.prefix+"/"+strings.Repeat("x", 255-len(f.prefix)), f.prefix+"/1/2/3/4/5/6/#")
	})
}

func TestB104SubscriptionIdentifier(t *testing.T) {
	f := newFleet(t)
	w := f.client(5, "w")
	w.Send(mq.Subscribe(5, 1, mq.Prop(mq.SubscriptionID, 7), mq.Filter{Filter: f.topic("a")}))
	w.Dismissed(0xA1)
}

// A subscription that asks for QoS 2 gets 1 in MQTT 5, as the standard wants (broker spec A-06).
func TestSubscribeQoS2(t *testing.T) {
	f := newFleet(t)
	w := f.client(5, "w")
	if got := w.Subscribe(mq.Filter{Filter: f.topic("a"), Options: 2}); got[0] != 1 {
		t.Errorf("% x", got)
	}
}

func TestB107B108Unsubscribe(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		w, from := f.client(v, "w"), f.client(v, "from")
		w.Granted(1, f.topic("a"), f.topic("b"), f.topic("+"))
		got := w.Unsubscribe(f.topic("+"), f.topic("a"), f.topic("never"))
		if v == 5 && (len(got) != 3 || got[0] != 0 || got[1] != 0 || got[2] != 0) || v == 4 && len(got) > 0 {
			f.t.Errorf("UNSUBACK % x", got)
		}
		from.Publish(mq.Publish{Topic: f.topic("a"), Payload: "x", QoS: 1})
		from.Publish(mq.Publish{Topic: f.topic("b"), Payload: "y", QoS: 1})
		w.Receive(f.topic("b"), "y")
		w.Silent()
	})
}

func TestB109OutboundWindow(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		for _, c := range []struct{ asked, want int }{{0, 100}, {3, 3}, {500, 100}} {
			if v == 4 && c.asked > 0 {
				continue
			}
			w := f.client(v, "w", func(p *mq.Connect) {
				if c.asked > 0 {
					p.Props = mq.Prop(mq.ReceiveMaximum, c.asked)
				}
			})
			w.Granted(1, f.topic("a"))
			from := f.client(v, "from")
			for n := range 120 {
				from.Publish(mq.Publish{Topic: f.topic("a"), Payload: fmt.Sprint(n), QoS: 1})
			}
			next, held := 0, w.Settle()
			if len(held) != c.want {
				f.t.Fatalf("%d unacknowledged, want %d", len(held), c.want)
			}
			ids := map[int]bool{}
			for next < 120 { // each acknowledgement lets one more out, in order
				m, _, err := held[0].Publish(v)
				f.must(err)
				if m.Payload != fmt.Sprint(next) || m.ID == 0 || next < c.want && ids[m.ID] {
					f.t.Fatalf("message %d: %+v", next, m)
				}
				ids[m.ID] = true
				next++
				w.Send(mq.Puback(m.ID))
				if held = append(held[1:], w.Settle()...); len(held) > c.want {
					f.t.Fatalf("%d unacknowledged", len(held))
				}
			}
			// QoS 0 needs no window.
			from.Publish(mq.Publish{Topic: f.topic("a"), Payload: "0"})
			w.Receive(f.topic("a"), "0")
			w.Leave()
		}
	})
}

func TestB110ClientsMaximumPacketSize(t *testing.T) {
	f := newFleet(t)
	w := f.client(5, "w", func(p *mq.Connect) { p.Props = mq.Prop(mq.MaximumPacketSize, 100) })
	w.Granted(1, f.topic("a"))
	from := f.client(4, "from")
	from.Publish(mq.Publish{Topic: f.topic("a"), Payload: strings.Repeat("x", 100), QoS: 1})
	fits := 100 - len(mq.Publish{Topic: f.topic("a"), QoS: 1, ID: 1}.Encode(5))
	from.Publish(mq.Publish{Topic: f.topic("a"), Payload: strings.Repeat("y", fits), QoS: 1})
	w.Receive(f.topic("a"), strings.Repeat("y", fits))
	w.Silent()
}

func TestB111WildcardsBelowJobs(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		thing := f.thing("t")
		w := f.client(v, "w")
		w.Granted(1, "$aws/things/"+thing+"/jobs/#", "$aws/things/+/jobs/+/update/accepted", "$aws/events/#")
		f.job("j", []string{f.thingARN(thing)})
		m, _ := w.Message()
		for strings.HasPrefix(m.Topic, "$aws/events/") {
			m, _ = w.Message()
		}
		if !strings.HasPrefix(m.Topic, "$aws/things/"+thing+"/jobs/notify") {
			f.t.Errorf("%+v", m)
		}
	})
}

// Overlapping subscriptions of a client are one delivery, of the best QoS (broker spec A-37).
func TestOverlappingSubscriptions(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		w := f.client(v, "w")
		w.Granted(0, f.topic("a"), f.topic("+"))
		w.Granted(1, f.topic("#"))
		f.client(v, "from").Publish(mq.Publish{Topic: f.topic("a"), Payload: "x", QoS: 1})
		if m := w.Receive(f.topic("a"), "x"); m.QoS != 1 {
			f.t.Errorf("QoS %d", m.QoS)
		}
		w.Silent()
	})
}

func TestSubscriptionOptions(t *testing.T) {
	f := newFleet(t)
	w := f.client(5, "w")
	w.Subscribe(mq.Filter{Filter: f.topic("own"), Options: 1 | 4}, mq.Filter{Filter: f.topic("as"), Options: 1 | 8})
	w.Publish(mq.Publish{Topic: f.topic("own"), Payload: "mine", QoS: 1})
	from := f.client(5, "from")
	from.Publish(mq.Publish{Topic: f.topic("own"), Payload: "yours", QoS: 1})
	w.Receive(f.topic("own"), "yours")
	from.Publish(mq.Publish{Topic: f.topic("as"), Payload: "kept", QoS: 1, Retain: true})
	if m := w.Receive(f.topic("as"), "kept"); !m.Retain {
		t.Error("Retain As Published is not heeded")
	}
	for _, c := range []struct {
		handling byte
		times    int // of two subscriptions, how many bring the retained message
	}{{0, 2}, {1, 1}, {2, 0}} {
		w := f.client(5, "late")
		for range 2 {
			w.Subscribe(mq.Filter{Filter: f.topic("as"), Options: 1 | c.handling<<4})
		}
		if got := len(w.Settle()); got != c.times {
			t.Errorf("Retain Handling %d: %d messages", c.handling, got)
		}
	}
	bad := f.client(5, "bad")
	bad.Send(mq.Subscribe(5, 1, nil, mq.Filter{Filter: f.topic("as"), Options: 3 << 4}))
	parted(f, bad, "Retain Handling 3", 0x81, 0x82)
	from.Publish(mq.Publish{Topic: f.topic("as"), Retain: true, QoS: 1})
}

func TestB112B113B115B116Retained(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		live := f.watch(f.topic("a"))
		from := f.client(9-v, "from")
		for _, qos := range []byte{0, 1} {
			from.Publish(mq.Publish{Topic: f.topic("a"), Payload: "kept", QoS: qos, Retain: true})
			if m := live.Receive(f.topic("a"), "kept"); m.Retain {
				f.t.Error("live delivery has RETAIN")
			}
			for _, want := range []byte{0, 1} {
				w := f.client(v, "late")
				w.Subscribe(mq.Filter{Filter: f.topic("a"), Options: want})
				if m := w.Receive(f.topic("a"), "kept"); !m.Retain || m.QoS != min(qos, want) {
					f.t.Errorf("%+v", m)
				}
				w.Granted(1, f.topic("a")) // once more: sent again
				w.Receive(f.topic("a"), "kept")
				w.Granted(1, f.topic("+"), f.topic("#"))
				w.Silent()
			}
		}
		from.Publish(mq.Publish{Topic: f.topic("a"), Payload: "newer", QoS: 1, Retain: true})
		live.Receive(f.topic("a"), "newer")
		w := f.client(v, "late")
		w.Granted(1, f.topic("a"))
		w.Receive(f.topic("a"), "newer")
		from.Publish(mq.Publish{Topic: f.topic("a"), QoS: 1, Retain: true})
		live.Receive(f.topic("a"), "")
		w.Receive(f.topic("a"), "")
		w = f.client(v, "later")
		w.Granted(1, f.topic("a"))
		w.Silent()
	})
}

// One client may not fill the store: beyond its limit it hears of the quota, and what is there stays.
func TestBadRetainedFlood(t *testing.T) {
	t.Parallel()
	f := fleetOn(t, ownServer(t))
	w := f.client(5, "flood")
	refused, stored := 0, 0
	for n := range 10_100 {
		id := n%60_000 + 1
		w.Send(mq.Publish{Topic: fmt.Sprintf("flood/%d", n), Payload: "x", QoS: 1, ID: id, Retain: true}.Encode(5))
		if n%50 != 49 {
			continue
		}
		for m := n - 49; m <= n; m++ {
			switch got := w.Acked(mq.PUBACK, m+1).Codes[0]; got {
			case 0:
				stored++
			case 0x97:
				refused++
			default:
				t.Fatalf("PUBACK %#x", got)
			}
		}
	}
	t.Logf("%d stored, %d refused", stored, refused)
	if stored < 1000 {
		t.Errorf("%d stored", stored)
	}
	other := f.client(4, "other")
	other.Granted(1, "flood/7")
	if m := other.Receive("flood/7", "x"); !m.Retain {
		t.Errorf("%+v", m)
	}
	w.Publish(mq.Publish{Topic: "flood/7", QoS: 1, Retain: true}) // always possible
	other.Receive("flood/7", "")
}
