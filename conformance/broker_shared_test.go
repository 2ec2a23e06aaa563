package conformance

import (
	"fmt"
	"strings"
	"testing"

	mq "drover/internal/mqtttest"
)

func share(group, filter string) string { return "$share/" + group + "/" + filter }

// payloads are those of the messages that have come to a client, each acknowledged.
func payloads(f *fleet, c *mq.Client) (all []string) {
	f.t.Helper()
	for _, p := range c.Settle() {
		m, _, err := p.Publish(c.Version)
		f.must(err)
		if m.QoS == 1 {
			c.Send(mq.Puback(m.ID))
		}
		all = append(all, m.Payload)
	}
	return all
}

func TestB122ToB125B128SharedSubscriptions(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		member := func(n, filter string) *mq.Client {
			c := f.client(v, n)
			c.Granted(1, filter)
			return c
		}
		a, b := member("a", share("g", f.topic("x"))), member("b", share("g", f.topic("x")))
		other := member("other", share("h", f.topic("x")))
		wild := member("wild", share("g", f.topic("+")))
		plain := member("plain", f.topic("x"))
		from := f.client(9-v, "from")
		const messages = 60
		for n := range messages {
			from.Publish(mq.Publish{Topic: f.topic("x"), Payload: fmt.Sprint(n), QoS: 1})
		}
		one, two := payloads(f, a), payloads(f, b)
		seen := map[string]int{}
		for _, p := range append(one, two...) {
			seen[p]++
		}
		if len(one)+len(two) != messages || len(seen) != messages || len(one) == 0 || len(two) == 0 {
			f.t.Errorf("members got %d and %d messages, %d different", len(one), len(two), len(seen))
		}
		for name, c := range map[string]*mq.Client{"another share name": other, "another filter": wild, "a plain subscription": plain} {
			if got := payloads(f, c); len(got) != messages {
				f.t.Errorf("%s got %d messages", name, len(got))
			}
		}
		b.Unsubscribe(share("g", f.topic("x")))
		from.Publish(mq.Publish{Topic: f.topic("x"), Payload: "last", QoS: 1})
		a.Receive(f.topic("x"), "last")
		b.Silent()
	})
}

func TestB114NothingRetainedForShared(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		from := f.client(v, "from")
		from.Publish(mq.Publish{Topic: f.topic("x"), Payload: "kept", QoS: 1, Retain: true})
		w := f.client(v, "w")
		w.Granted(1, share("g", f.topic("x")))
		w.Silent()
		from.Publish(mq.Publish{Topic: f.topic("x"), QoS: 1, Retain: true})
		w.Receive(f.topic("x"), "")
	})
}

func TestB126B127SharedFilters(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		for _, filter := range []string{share("a+b", f.topic("x")), share("+", f.topic("x")), share("a#", f.topic("x")), "$share//" + f.topic("x"), "$share/g", "$share/g/", "$share/", share("g", f.topic("#/x"))} {
			w := f.client(v, "w")
			if v == 5 {
				if got := w.Subscribe(mq.Filter{Filter: filter, Options: 1}); got[0] != 0x8F {
					f.t.Errorf("%q: % x", filter, got)
				}
				w.Leave()
				continue
			}
			w.Send(mq.Subscribe(v, 1, nil, mq.Filter{Filter: filter, Options: 1}))
			if p, err := w.TryNext(patience); !mq.Gone(err) { // or told by the code
				if ack, wrong := p.Ack(v); err != nil || wrong != nil || p.Type != mq.SUBACK || ack.Codes[0] != 0x80 {
					f.t.Errorf("%q: %v %v", filter, p, err)
				}
			}
		}
		w := f.client(v, "w")
		deepest := f.prefix + "/1/2/3/4/5/6/7"
		longest := f.prefix + "/" + strings.Repeat("x", 255-len(f.prefix))
		w.Granted(1, share("g", deepest), share("g", longest), share(strings.Repeat("n", 128), f.topic("x")))
		for _, filter := range []string{share("g", deepest+"/8"), share("g", longest+"x"), share(strings.Repeat("n", 129), f.topic("x"))} {
			if got := w.Subscribe(mq.Filter{Filter: filter, Options: 1}); got[0] != code(v, 0x8F, 0x80) {
				f.t.Errorf("%q: % x", filter, got)
			}
		}
		if v == 5 { // no local is none for a group
			w.Send(mq.Subscribe(v, 77, nil, mq.Filter{Filter: share("g", f.topic("x")), Options: 1 | 4}))
			w.Dismissed(0x82)
		}
	})
}

func TestB129SharedQueueOfPersistentMembers(t *testing.T) {
	oneServer(t, "the order of a shared queue")
	onBroker(t, func(f *fleet, v byte) {
		filter := share("g", f.topic("x"))
		for _, n := range []string{"a", "b"} {
			c := f.client(v, n, persistent)
			c.Granted(1, filter)
			c.Leave()
		}
		from := f.client(v, "from")
		for n := range 10 {
			from.Publish(mq.Publish{Topic: f.topic("x"), Payload: fmt.Sprint(n), QoS: 1})
		}
		b := f.client(v, "b", persistent)
		for n := range 10 {
			b.Receive(f.topic("x"), fmt.Sprint(n))
		}
		b.Settle()
		a := f.client(v, "a", persistent)
		a.Silent()
	})
}

func TestB130SharedOfCleanMembersIsDropped(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		filter := share("g", f.topic("x"))
		c := f.client(v, "a")
		c.Granted(1, filter)
		c.Leave()
		f.client(v, "from").Publish(mq.Publish{Topic: f.topic("x"), Payload: "lost", QoS: 1})
		c = f.client(v, "a")
		c.Granted(1, filter)
		c.Silent()
	})
}

// What a member has not acknowledged when its connection ends goes to another.
func TestSharedUnacknowledgedGoesOn(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		filter := share("g", f.topic("x"))
		a, b := f.client(v, "a", persistent), f.client(v, "b", persistent)
		a.Granted(1, filter)
		b.Granted(1, filter)
		from := f.client(v, "from")
		for n := range 20 {
			from.Publish(mq.Publish{Topic: f.topic("x"), Payload: fmt.Sprint(n), QoS: 1})
		}
		seen := map[string]bool{}
		for _, p := range payloads(f, b) {
			seen[p] = true
		}
		a.Cut()
		f.eventually("the other member gets the rest", func() bool {
			for _, p := range payloads(f, b) {
				seen[p] = true
			}
			return len(seen) == 20
		})
	})
}
