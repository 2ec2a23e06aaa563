package conformance

import (
	"reflect"
	"slices"
	"testing"
	"time"

	mq "drover/internal/mqtttest"
)

func TestB132B134B143PresenceEvents(t *testing.T) {
	oneServer(t, "the count of a client's connections")
	onBroker(t, func(f *fleet, v byte) {
		id := f.name("a/b") // a slash is part of the topic, as it is
		events := f.watch("$aws/events/presence/+/" + id)
		for n := range 3 {
			began := time.Now()
			w := f.dial().Join(mq.Connect{Version: v, ID: id})
			connected := event(f.t, events)
			if got := members(connected); !slices.Equal(got, []string{"clientId", "eventType", "ipAddress", "principalIdentifier", "sessionIdentifier", "timestamp", "versionNumber"}) {
				f.t.Errorf("members %v", got)
			}
			at, _ := connected["timestamp"].(float64)
			if connected["clientId"] != id || connected["eventType"] != "connected" || connected["ipAddress"] != "127.0.0.1" || connected["versionNumber"] != float64(n) ||
				int64(at) < began.UnixMilli()-1 || int64(at) > time.Now().UnixMilli()+1 || connected["sessionIdentifier"] == "" {
				f.t.Errorf("%v", connected)
			}
			w.Leave()
			gone := event(f.t, events)
			if got := members(gone); !slices.Equal(got, []string{"clientId", "clientInitiatedDisconnect", "disconnectReason", "eventType", "principalIdentifier", "sessionIdentifier", "timestamp", "versionNumber"}) {
				f.t.Errorf("members %v", got)
			}
			if gone["eventType"] != "disconnected" || gone["sessionIdentifier"] != connected["sessionIdentifier"] || gone["versionNumber"] != connected["versionNumber"] {
				f.t.Errorf("%v after %v", gone, connected)
			}
		}
	})
}

func TestB135B136WhoParted(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		events := f.watch("$aws/events/presence/disconnected/" + f.name("w"))
		for _, c := range []struct {
			part   func(*mq.Client)
			reason string
			own    bool
		}{
			{(*mq.Client).Leave, "CLIENT_INITIATED_DISCONNECT", true},
			{(*mq.Client).Cut, "CONNECTION_LOST", false},
			{func(w *mq.Client) { w.Send([]byte{0x30, 0x20}); w.Cut() }, "CONNECTION_LOST", false}, // in a packet
			{func(w *mq.Client) { w.Send(mq.Frame(0x00)); w.Closed() }, "CLIENT_ERROR", false},
		} {
			c.part(f.client(v, "w"))
			if e := event(f.t, events); e["disconnectReason"] != c.reason || e["clientInitiatedDisconnect"] != c.own {
				f.t.Errorf("want %s: %v", c.reason, e)
			}
		}
	})
}

func TestB141NoEventsOfWildcardIDs(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		events := f.watch("$aws/events/presence/#", "$aws/events/subscriptions/#")
		for _, n := range []string{"a+b", "a#"} {
			w := f.client(v, n)
			w.Granted(0, f.topic("a"))
			w.Leave()
		}
		for _, p := range events.Settle() {
			m, _, err := p.Publish(5)
			f.must(err)
			for _, n := range []string{"a+b", "a#"} {
				if m.Topic == "$aws/events/presence/connected/"+f.name(n) || m.Topic == "$aws/events/subscriptions/subscribed/"+f.name(n) {
					f.t.Errorf("%+v", m)
				}
			}
		}
	})
}

func TestB144SubscriptionEvents(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		events := f.watch("$aws/events/subscriptions/+/" + f.name("w"))
		w := f.client(v, "w")
		w.Subscribe(mq.Filter{Filter: f.topic("a"), Options: 1}, mq.Filter{Filter: "$SYS/refused"}, mq.Filter{Filter: f.topic("+/b")})
		w.Subscribe(mq.Filter{Filter: "$SYS/refused"}) // none granted, no event
		w.Unsubscribe(f.topic("a"), f.topic("+/b"))
		for _, c := range []struct {
			kind   string
			topics []any
		}{{"subscribed", []any{f.topic("a"), f.topic("+/b")}}, {"unsubscribed", []any{f.topic("a"), f.topic("+/b")}}} {
			e := event(f.t, events)
			if e["eventType"] != c.kind || !reflect.DeepEqual(e["topics"], c.topics) || e["clientId"] != f.name("w") || e["sessionIdentifier"] == nil {
				f.t.Errorf("want %s: %v", c.kind, e)
			}
		}
		w.Leave() // no unsubscribing
		events.Silent()
	})
}
