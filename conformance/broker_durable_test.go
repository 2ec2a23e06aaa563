package conformance

import (
	"fmt"
	"testing"

	mq "drover/internal/mqtttest"
)

// What the broker has acknowledged outlives the process, and what has ended does not come back.
func TestSessionsSurvivePowerCut(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	run := func() *fleet {
		t.Helper()
		s, err := start(data)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if s.process.ProcessState == nil {
				if err := s.terminate(); err != nil {
					t.Error(err)
				}
			}
		})
		return fleetOn(t, s)
	}
	versions := []byte{4, 5}
	name := func(n string, v byte) string { return fmt.Sprint(n, v) }
	join := func(f *fleet, n string, v byte, options ...func(*mq.Connect)) *mq.Client {
		t.Helper()
		p := mq.Connect{Version: v, ID: name(n, v)}
		for _, o := range options {
			o(&p)
		}
		return f.dial().Join(p)
	}

	f := run()
	from := f.client(5, "from")
	for _, v := range versions {
		away := join(f, "away", v, persistent)
		away.Granted(1, "d/a", "d/+/b")
		away.Granted(0, "d/zero")
		away.Unsubscribe("d/a")
		away.Granted(1, "d/a")
		away.Leave()
		ended := join(f, "ended", v, persistent) // and then is no more
		ended.Granted(1, "d/a")
		ended.Leave()
		join(f, "ended", v).Leave()
		there := join(f, "there", v, persistent) // connected when it happens
		there.Granted(1, "d/a")
		mortal := join(f, "mortal", v, persistent, will("d/will/b", fmt.Sprint("of ", v)))
		mortal.Silent()
	}
	for n := range 20 {
		from.Publish(mq.Publish{Topic: "d/a", Payload: fmt.Sprint(n), QoS: 1, Props: mq.User("n", fmt.Sprint(n))})
	}
	from.Publish(mq.Publish{Topic: "d/zero", Payload: "x", QoS: 1})
	from.Publish(mq.Publish{Topic: "d/kept", Payload: "kept", QoS: 1, Retain: true, Props: mq.Prop(mq.ContentType, "text/plain")})
	from.Publish(mq.Publish{Topic: "d/deleted", Payload: "x", QoS: 1, Retain: true})
	from.Publish(mq.Publish{Topic: "d/deleted", QoS: 1, Retain: true})
	f.kill(t)

	f = run()
	seen := f.watch("d/kept", "d/deleted")
	m, props := seen.Message()
	if m.Topic != "d/kept" || m.Payload != "kept" || !m.Retain || props.Text(mq.ContentType) != "text/plain" {
		t.Errorf("retained: %+v %v", m, props)
	}
	seen.Silent()
	for _, v := range versions {
		for _, n := range []string{"away", "there"} {
			c := join(f, n, v, persistent)
			if !c.Connack.Present {
				t.Fatalf("%s %d: no session", n, v)
			}
			wills := map[string]bool{}
			for want := 0; want < 20 || n == "away" && len(wills) < 2; {
				m, props := c.Message()
				if m.Topic == "d/will/b" {
					wills[m.Payload] = true
					continue
				}
				if m.Topic != "d/a" || m.Payload != fmt.Sprint(want) || v == 5 && len(props[mq.UserProperty]) != 1 {
					t.Fatalf("%s %d: %+v %v, want number %d", n, v, m, props, want)
				}
				want++
			}
			c.Settle()
			c.Leave()
		}
		if join(f, "ended", v, persistent).Connack.Present {
			t.Errorf("%d: an ended session is back", v)
		}
	}
	// What was acknowledged just before a cut may come again after it, but not after an orderly
	// stop.
	f.kill(t)
	f = run()
	for _, v := range versions {
		c := join(f, "away", v, persistent)
		if !c.Connack.Present {
			t.Fatalf("%d: no session", v)
		}
		for _, p := range c.Settle() {
			m, _, err := p.Publish(v)
			f.must(err)
			c.Send(mq.Puback(m.ID))
		}
		f.client(5, "from").Publish(mq.Publish{Topic: "d/1/b", Payload: "live", QoS: 1})
		c.Receive("d/1/b", "live")
		c.Silent()
		c.Leave()
	}
	if err := f.terminate(); err != nil {
		t.Fatal(err)
	}
	f = run()
	for _, v := range versions {
		c := join(f, "away", v, persistent)
		if !c.Connack.Present {
			t.Errorf("%d: no session after an orderly stop", v)
		}
		// The first was away when the second heard its message. Wills that were published just before a
		// cut may come again, too, as late as they like.
		var got []string
		for _, p := range c.Settle() {
			if m, _, err := p.Publish(v); err != nil || m.Topic != "d/will/b" {
				got = append(got, fmt.Sprint(p, err))
			}
		}
		if len(got) != 5-int(v) {
			t.Errorf("%d: %v", v, got)
		}
	}
}
