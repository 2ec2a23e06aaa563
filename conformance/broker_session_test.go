package conformance

import (
	"encoding/json"
	"testing"

	mq "drover/internal/mqtttest"
)

func TestB044B045PersistentAndCleanSessions(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		present := func(want bool, options ...func(*mq.Connect)) {
			f.t.Helper()
			w := f.client(v, "s", options...)
			if w.Connack.Present != want {
				f.t.Fatalf("session present %v, want %v", w.Connack.Present, want)
			}
			w.Leave()
		}
		present(false, persistent)
		present(true, persistent)
		present(true, persistent)
		present(false) // erases it
		present(false, persistent)
	})
}

func TestB047B048B050OfflineMessages(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		for _, leave := range []func(*mq.Client){(*mq.Client).Leave, (*mq.Client).Cut} {
			w := f.client(v, "away", persistent)
			w.Granted(1, f.topic("one"))
			w.Granted(0, f.topic("zero"))
			gone := f.watch("$aws/events/presence/disconnected/" + f.name("away"))
			leave(w)
			event(f.t, gone)
			from := f.client(9-v, "from")
			for _, p := range []string{"1", "2", "3"} {
				from.Publish(mq.Publish{Topic: f.topic("one"), Payload: "q0-" + p}) // QoS 0
				from.Publish(mq.Publish{Topic: f.topic("one"), Payload: p, QoS: 1})
				from.Publish(mq.Publish{Topic: f.topic("zero"), Payload: p, QoS: 1})
			}
			w = f.client(v, "away", persistent)
			if !w.Connack.Present {
				f.t.Fatal("the session is not present")
			}
			for _, p := range []string{"1", "2", "3"} {
				w.Receive(f.topic("one"), p)
			}
			w.Silent()
			from.Publish(mq.Publish{Topic: f.topic("zero"), Payload: "live", QoS: 1})
			w.Receive(f.topic("zero"), "live")
			w.Leave()
			f.client(v, "away").Leave() // clean again
		}
	})
}

func TestB049UnacknowledgedIsRedelivered(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		w := f.client(v, "w", persistent)
		w.Granted(1, f.topic("a"))
		from := f.client(v, "from")
		for _, p := range []string{"1", "2", "3"} {
			from.Publish(mq.Publish{Topic: f.topic("a"), Payload: p, QoS: 1})
		}
		first, _ := w.Unacked()
		w.Unacked()
		w.Unacked()
		w.Send(mq.Puback(first.ID))
		w.Settle()
		w.Cut()
		from.Publish(mq.Publish{Topic: f.topic("a"), Payload: "4", QoS: 1})

		w = f.client(v, "w", persistent)
		for _, p := range []string{"2", "3", "4"} {
			w.Receive(f.topic("a"), p)
		}
		w.Settle()
		w.Leave()
		w = f.client(v, "w", persistent)
		w.Silent()
	})
}

func TestB051B052ExpiryAtDisconnect(t *testing.T) {
	f := newFleet(t)
	w := f.client(5, "s", persistent)
	w.Send(mq.Disconnect(5, 0, mq.Prop(mq.SessionExpiry, 0)))
	w.Closed()
	if f.client(5, "s", persistent).Connack.Present {
		t.Error("expiry 0 did not end the session")
	}
	w = f.client(5, "t", func(p *mq.Connect) { p.Persistent = true })
	w.Send(mq.Disconnect(5, 0, mq.Prop(mq.SessionExpiry, 60)))
	w.Dismissed(0x82)
	w = f.client(5, "u", persistent)
	w.Send(mq.Disconnect(5, 0, mq.Prop(mq.SessionExpiry, 1200)))
	w.Closed()
	if !f.client(5, "u", persistent).Connack.Present {
		t.Error("a longer expiry ended the session")
	}
}

func TestB053SessionsDoNotCrossVersions(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		w := f.client(v, "s", persistent)
		w.Granted(1, f.topic("a"))
		w.Leave()
		w = f.client(9-v, "s", persistent)
		if w.Connack.Present {
			f.t.Error("session present")
		}
		f.client(v, "from").Publish(mq.Publish{Topic: f.topic("a"), Payload: "x", QoS: 1})
		w.Silent()
		w.Leave()
		if f.client(v, "s", persistent).Connack.Present {
			f.t.Error("the old session is still there")
		}
	})
}

// Taking over one's own session loses nothing, whoever is quicker.
func TestTakeOverKeepsTheSession(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		w := f.client(v, "s", persistent)
		w.Granted(1, f.topic("a"))
		from := f.client(v, "from")
		for range 20 {
			from.Publish(mq.Publish{Topic: f.topic("a"), Payload: "x", QoS: 1})
			next := f.client(v, "s", persistent)
			if !next.Connack.Present {
				f.t.Fatal("session not present")
			}
			next.Receive(f.topic("a"), "x") // w never acknowledged it
			next.Settle()
			w = next
		}
		w.Silent()
	})
}

func TestB061B062Will(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		seen := f.watch(f.topic("will"))
		events := f.watch("$aws/events/presence/disconnected/" + f.name("w"))
		f.client(v, "w", will(f.topic("will"), "cut")).Cut()
		seen.Receive(f.topic("will"), "cut")
		event(f.t, events)
		f.client(v, "w", will(f.topic("will"), "left")).Leave()
		event(f.t, events)
		seen.Silent()
		// A protocol error is no goodbye.
		w := f.client(v, "w", will(f.topic("will"), "error"))
		w.Send(mq.Frame(0x60, mq.Two(1)))
		w.Closed()
		seen.Receive(f.topic("will"), "error")
		if v == 5 {
			w = f.client(v, "w", will(f.topic("will"), "asked for"))
			w.Send(mq.Disconnect(5, 4, nil))
			w.Closed()
			seen.Receive(f.topic("will"), "asked for")
		}
	})
}

func TestB067WillIsRetained(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		seen := f.watch(f.topic("will"))
		f.client(v, "w", will(f.topic("will"), "gone", func(m *mq.Publish) { m.Retain = true })).Cut()
		if m := seen.Receive(f.topic("will"), "gone"); m.Retain {
			f.t.Error("live delivery has RETAIN")
		}
		late := f.client(v, "late")
		late.Granted(1, f.topic("will"))
		if m := late.Receive(f.topic("will"), "gone"); !m.Retain {
			f.t.Error("not retained")
		}
		late.Publish(mq.Publish{Topic: f.topic("will"), Retain: true, QoS: 0})
	})
}

func TestB068B069WillsThatAreRefused(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		for name, c := range map[string]struct {
			topic string
			qos   byte
			code  byte
		}{
			"QoS 2":    {f.topic("will"), 2, 0x9B},
			"wildcard": {f.topic("+"), 1, 0x90},
			"hash":     {f.topic("#"), 0, 0x90},
			"reserved": {"$aws/things/x/jobs/get", 1, 0x90},
			"events":   {"$aws/events/presence/connected/x", 1, 0x90},
			"slashes":  {f.prefix + "/1/2/3/4/5/6/7/8", 1, 0x90},
			"empty":    {"", 1, 0x90},
		} {
			w := f.dial()
			w.Version = v
			w.Send(mq.Connect{Version: v, ID: f.name("w"), Will: &mq.Publish{Topic: c.topic, Payload: "x", QoS: c.qos}}.Encode())
			got := w.Closed()
			if v == 4 {
				for _, p := range got {
					if ack, err := p.Connack(4); err != nil || ack.Code == 0 {
						f.t.Errorf("%s: %v", name, p)
					}
				}
				continue
			}
			if len(got) != 1 {
				f.t.Errorf("%s: %v", name, got)
			} else if ack, err := got[0].Connack(5); err != nil || ack.Code != c.code && !(name == "empty" && ack.Code >= 0x80) {
				f.t.Errorf("%s: %v %v", name, got, err)
			}
		}
	})
}

func TestWillDelayAndProperties(t *testing.T) {
	f := newFleet(t)
	seen := f.watch(f.topic("will"))
	delayed := func(seconds int) func(*mq.Connect) {
		return will(f.topic("will"), "late", func(m *mq.Publish) {
			m.Props = append(mq.Prop(mq.WillDelay, seconds), mq.User("k", "v")...)
			m.Props = append(m.Props, mq.Prop(mq.ContentType, "text/plain")...)
		})
	}
	f.client(5, "w", persistent, delayed(600)).Cut()
	f.client(5, "w", persistent).Leave() // came back in time
	seen.Silent()
	f.client(5, "x", delayed(600)).Cut() // its session ends, and with it the delay
	m, props := seen.Message()
	if m.Payload != "late" || props.Text(mq.ContentType) != "text/plain" || len(props[mq.UserProperty]) != 1 {
		t.Errorf("%+v %v", m, props)
	}
}

// event is the next lifecycle event that a client hears of.
func event(t testing.TB, c *mq.Client) (e map[string]any) {
	t.Helper()
	m, _ := c.Message()
	if err := json.Unmarshal([]byte(m.Payload), &e); err != nil {
		t.Fatal(err)
	}
	return e
}
