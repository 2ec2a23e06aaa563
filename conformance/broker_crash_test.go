package conformance

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	mq "drover/internal/mqtttest"
)

// restart ends the server, by a power cut or as an operator would, and starts it again on
// the same data.
func (f *fleet) restart(kill bool) {
	f.t.Helper()
	if kill {
		f.kill(f.t)
	} else {
		f.must(f.terminate())
	}
	s, err := start(f.data)
	f.must(err)
	f.t.Cleanup(func() {
		if s.process.ProcessState == nil {
			if err := s.terminate(); err != nil {
				f.t.Errorf("stop the server: %v", err)
			}
		}
	})
	f.server, f.api = s, s.client()
}

// What the broker has acknowledged survives the end of its process, whatever ends it:
// sessions with their subscriptions and messages, retained messages, wills.
func TestSessionsSurviveTheProcess(t *testing.T) {
	t.Parallel()
	for name, kill := range map[string]bool{"power cut": true, "stop": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			versions(t, func(t *testing.T, version int) {
				t.Parallel()
				f, v := fleetOn(t, ownServer(t)), byte(version)
				sessionsSurvive(f, v, kill)
			})
		})
	}
}

func sessionsSurvive(f *fleet, v byte, kill bool) {
	away := func(n string, filters ...string) {
		w := f.client(v, n, persistent)
		for _, filter := range filters {
			w.Granted(1, filter)
		}
		w.Leave()
	}
	away("away", f.topic("a"), f.topic("wild/+"))
	away("group", "$share/g/"+f.topic("shared"))
	away("heir", f.topic("will"))
	away("unsubscribed", f.topic("a"))
	w := f.client(v, "unsubscribed", persistent)
	w.Unsubscribe(f.topic("a"))
	w.Leave()
	away("cleaned", f.topic("a"))
	f.client(v, "cleaned").Leave()

	live := f.client(v, "live", persistent)
	live.Granted(1, f.topic("a"))
	// Of connected clients' wills: one that is sent, one that its client has taken back.
	f.client(v, "testator", will(f.topic("will"), "testament"))
	f.client(v, "parted", will(f.topic("will"), "never")).Leave()

	from := f.client(v, "from")
	from.Publish(mq.Publish{Topic: f.topic("kept"), Payload: "old", QoS: 1, Retain: true})
	from.Publish(mq.Publish{Topic: f.topic("kept"), Payload: "new", QoS: 1, Retain: true})
	from.Publish(mq.Publish{Topic: f.topic("gone"), Payload: "old", QoS: 1, Retain: true})
	from.Publish(mq.Publish{Topic: f.topic("gone"), QoS: 1, Retain: true})
	const n = 50
	for i := range n {
		from.Publish(mq.Publish{Topic: f.topic("a"), Payload: fmt.Sprint(i), QoS: 1})
	}
	from.Publish(mq.Publish{Topic: f.topic("wild/x"), Payload: "wild", QoS: 1})
	from.Publish(mq.Publish{Topic: f.topic("shared"), Payload: "shared", QoS: 1})
	for range 10 { // of the 50; the rest is not acknowledged
		live.Message()
	}
	live.Settle()

	f.restart(kill)

	receive := func(n string, first int) *mq.Client {
		w := f.client(v, n, persistent)
		if !w.Connack.Present {
			f.t.Fatalf("the session of %s is gone", n)
		}
		for i := first; i < 50; i++ {
			w.Receive(f.topic("a"), fmt.Sprint(i))
		}
		return w
	}
	w = receive("away", 0)
	w.Receive(f.topic("wild/x"), "wild")
	w.Settle()
	w.Leave()
	w = f.client(v, "group", persistent)
	w.Receive(f.topic("shared"), "shared")
	w.Silent()
	w = f.client(v, "heir", persistent)
	w.Receive(f.topic("will"), "testament")
	w.Silent()
	w = f.client(v, "unsubscribed", persistent)
	if !w.Connack.Present {
		f.t.Error("the session without subscriptions is gone")
	}
	w.Silent()
	if w = f.client(v, "cleaned", persistent); w.Connack.Present {
		f.t.Error("the session that was cleaned is back")
	}
	// After a power cut acknowledgements of the last moment may be lost: at least once.
	live = f.client(v, "live", persistent)
	next := 50
	for next == 50 {
		m, _ := live.Message()
		if _, err := fmt.Sscan(m.Payload, &next); err != nil {
			f.t.Fatal(err)
		}
	}
	if next > 10 {
		f.t.Fatalf("message 10 is lost, %d comes first", next)
	}
	for i := next + 1; i < n; i++ {
		live.Receive(f.topic("a"), fmt.Sprint(i))
	}
	live.Silent()

	reader := f.client(v, "reader")
	reader.Granted(1, f.topic("gone"))
	reader.Silent()
	reader.Granted(1, f.topic("kept"))
	if m := reader.Receive(f.topic("kept"), "new"); !m.Retain {
		f.t.Error("RETAIN is not set")
	}

	// What has been acknowledged does not come back, what is new is kept again.
	f.client(v, "from").Publish(mq.Publish{Topic: f.topic("a"), Payload: "again", QoS: 1})
	f.restart(!kill)
	w = f.client(v, "away", persistent)
	w.Receive(f.topic("a"), "again")
	w.Silent()
}

// A notice to a device with a persistent session survives the end of the server that sent
// it, whether the device was away or had not acknowledged it; whatever the moment.
func TestNoticesSurviveTheProcess(t *testing.T) {
	t.Parallel()
	versions(t, func(t *testing.T, version int) {
		t.Parallel()
		f, v := fleetOn(t, ownServer(t)), byte(version)
		join := func(thing string) *mq.Client {
			w := f.dial().Join(mq.Connect{Version: v, ID: thing, Persistent: true, Props: mq.Prop(mq.SessionExpiry, 600)})
			return w
		}
		for round := range 3 {
			away, silent := f.thing(fmt.Sprint("away", round)), f.thing(fmt.Sprint("silent", round))
			for _, thing := range []string{away, silent} {
				w := join(thing)
				w.Granted(1, "$aws/things/"+thing+"/jobs/notify-next")
				if thing == away {
					w.Leave()
				}
			}
			job := f.job(fmt.Sprint("job", round), []string{f.thingARN(away), f.thingARN(silent)})
			if round > 0 { // the notices have been published
				f.eventually("both have an execution", func() bool {
					return aws.ToInt32(f.describe(job).JobProcessDetails.NumberOfQueuedThings) == 2
				})
			}
			if round > 1 { // and their place in the journal saved, now and then behind later ones
				began := time.Now()
				other := []string{f.thingARN(f.thing("other"))}
				f.eventually("the place is saved", func() bool {
					f.job(fmt.Sprint("other", time.Since(began).Nanoseconds()), other)
					return time.Since(began) > 2500*time.Millisecond
				})
			}
			f.restart(true)
			for _, thing := range []string{away, silent} {
				w := join(thing)
				if !w.Connack.Present {
					t.Fatal("no session")
				}
				m, _ := w.Message()
				if m.Topic != "$aws/things/"+thing+"/jobs/notify-next" || !strings.Contains(m.Payload, job) {
					t.Errorf("%s got %s on %s", thing, m.Payload, m.Topic)
				}
				w.Cut()
			}
		}
	})
}
