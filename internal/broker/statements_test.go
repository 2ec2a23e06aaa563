package broker_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"drover/internal/broker"
	mq "drover/internal/mqtttest"
)

// Statements about time, TestBnnn…, on a clock that stands still while something happens. A
// bubble ends only when every goroutine in it has: nothing here leaves one behind.

// bubble is a broker in a bubble of virtual time.
type bubble struct {
	t *testing.T
	*broker.Broker
	*mq.Listener

	mu      sync.Mutex
	reasons map[string]broker.DisconnectReason // of the last connection, by client id
}

// inBubble runs a test for either version against a broker.
func inBubble(t *testing.T, test func(b *bubble, version byte)) {
	t.Helper()
	t.Parallel()
	for version, name := range map[byte]string{4: "3.1.1", 5: "5"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := &bubble{t: t, Listener: mq.NewListener(), reasons: map[string]broker.DisconnectReason{}}
				var err error
				if b.Broker, err = broker.New(broker.Config{Handler: owner{b}}); err != nil {
					t.Fatal(err)
				}
				served := make(chan error, 1)
				go func() { served <- b.Serve(b.Listener) }()
				defer func() {
					ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
					defer cancel()
					if err := b.Broker.Close(ctx); err != nil {
						t.Errorf("close: %v", err)
					}
					if err := <-served; err != nil {
						t.Errorf("serve: %v", err)
					}
				}()
				test(b, version)
			})
		})
	}
}

// owner is the Handler of a bubble: everything is allowed.
type owner struct{ b *bubble }

func (owner) Connected(*broker.Client)                              {}
func (owner) Subscribed(*broker.Client, []string)                   {}
func (owner) Unsubscribed(*broker.Client, []string)                 {}
func (owner) AllowSubscribe(*broker.Client, string) bool            { return true }
func (owner) Publish(*broker.Client, broker.Message) broker.Verdict { return broker.Route }
func (o owner) Disconnected(c *broker.Client, reason broker.DisconnectReason) {
	o.b.mu.Lock()
	defer o.b.mu.Unlock()
	o.b.reasons[c.ID()] = reason
}

func (b *bubble) join(p mq.Connect) *mq.Client { b.t.Helper(); return b.Dial(b.t).Join(p) }

// pass lets time pass, and what is due then happen.
func pass(d time.Duration) { <-time.After(d); synctest.Wait() }

func (b *bubble) publish(topic, payload string, options ...func(*broker.Message)) {
	m := broker.Message{Topic: topic, Payload: []byte(payload), QoS: 1}
	for _, o := range options {
		o(&m)
	}
	b.Publish(m)
	synctest.Wait()
}

// ends waits for the end of a silent connection and returns how long it took.
func ends(c *mq.Client, within time.Duration) (time.Duration, []mq.Packet) {
	c.T.Helper()
	began := time.Now()
	var before []mq.Packet
	for {
		p, err := c.TryNext(within)
		if mq.Gone(err) {
			return time.Since(began), before
		}
		if err != nil {
			c.T.Fatalf("still connected after %s: %v", time.Since(began), err)
		}
		before = append(before, p)
	}
}

func TestB031B032B033B034B064B137KeepAlive(t *testing.T) {
	inBubble(t, func(b *bubble, v byte) {
		for asked, used := range map[int]int{10: 30, 30: 30, 100: 100, 0: 1200, 1200: 1200, 5000: 1200} {
			seen := b.join(mq.Connect{Version: v, ID: "seen"})
			seen.Granted(1, "will")
			c := b.join(mq.Connect{Version: v, ID: "silent", KeepAlive: asked, Will: &mq.Publish{Topic: "will", Payload: "silent"}})
			limit := time.Duration(used) * 1500 * time.Millisecond
			go func() { // who talks stays
				<-time.After(limit / 2)
				_ = seen.TrySend(mq.Pingreq)
			}()
			took, before := ends(c, limit+time.Minute)
			if took < limit || took > limit+2*time.Second {
				b.t.Errorf("asked for %d s: dropped after %s, want %s", asked, took, limit)
			}
			if v == 5 {
				if len(before) != 1 {
					b.t.Fatalf("before the end: %v", before)
				}
				if ack, err := before[0].Ack(5); err != nil || before[0].Type != mq.DISCONNECT || ack.Codes[0] != 0x8D {
					b.t.Errorf("before the end: %v %v", before, err)
				}
			}
			p := seen.Next()
			for p.Type == mq.PINGRESP {
				p = seen.Next()
			}
			if m, _, err := p.Publish(v); err != nil || m.Topic != "will" || m.Payload != "silent" {
				b.t.Errorf("asked for %d s: %v instead of the will", asked, p)
			}
			seen.Leave()
			b.mu.Lock()
			if got := b.reasons["silent"]; got != "MQTT_KEEP_ALIVE_TIMEOUT" {
				b.t.Errorf("reason %s", got)
			}
			b.mu.Unlock()
		}
	})
}

func TestB035PacketsResetTheKeepAlive(t *testing.T) {
	inBubble(t, func(b *bubble, v byte) {
		c := b.join(mq.Connect{Version: v, ID: "c", KeepAlive: 30})
		c.Granted(1, "t")
		var unacked []int
		for range 5 {
			b.publish("t", "x")
			m, _ := c.Unacked()
			unacked = append(unacked, m.ID)
		}
		for _, id := range unacked { // a PUBACK now and then, and nothing else
			pass(40 * time.Second)
			c.Send(mq.Puback(id))
			synctest.Wait()
		}
		for range 3 {
			pass(40 * time.Second)
			c.Publish(mq.Publish{Topic: "other", QoS: 1})
			pass(40 * time.Second)
			c.Granted(1, "t2")
			pass(40 * time.Second)
			c.Silent() // PINGREQ
		}
		// What the server sends is no sign of life.
		began := time.Now()
		for range 4 {
			b.publish("t", "x")
			pass(10 * time.Second)
		}
		if took, _ := ends(c, time.Hour); time.Since(began) > 48*time.Second {
			b.t.Errorf("lived for %s more (%s)", time.Since(began), took)
		}
	})
}

func persistent(v byte, id string, seconds int) mq.Connect {
	p := mq.Connect{Version: v, ID: id, Persistent: true, KeepAlive: 1200}
	if v == 5 {
		p.Props = mq.Prop(mq.SessionExpiry, seconds)
	}
	return p
}

func TestB046SessionsExpire(t *testing.T) {
	inBubble(t, func(b *bubble, v byte) {
		for _, leave := range []func(*mq.Client){(*mq.Client).Leave, (*mq.Client).Cut} {
			for _, seconds := range []int{60, 3600, 100_000} {
				if v == 4 {
					seconds = 3600
				}
				kept := time.Duration(min(seconds, 3600)) * time.Second
				come := func(want bool) {
					b.t.Helper()
					c := b.join(persistent(v, "s", seconds))
					if c.Connack.Present != want {
						b.t.Fatalf("%d s: session present %v, want %v", seconds, c.Connack.Present, want)
					}
					leave(c)
					synctest.Wait()
				}
				come(false)
				pass(kept - time.Second)
				come(true)
				pass(kept + 2*time.Second)
				if n := b.Stats().Sessions; n != 0 {
					b.t.Errorf("%d sessions are left", n)
				}
				come(false)
				pass(2 * time.Hour)
			}
		}
	})
}

func TestB071WillWithExpiry(t *testing.T) {
	inBubble(t, func(b *bubble, v byte) {
		for after, want := range map[time.Duration]int{0: 1, 2 * time.Second: 0} {
			c := b.join(persistent(v, "away", 600))
			c.Granted(1, "will")
			c.Leave()
			b.join(mq.Connect{Version: 5, ID: "w", Will: &mq.Publish{Topic: "will", Payload: "x", QoS: 1, Props: mq.Prop(mq.MessageExpiry, 1)}}).Cut()
			synctest.Wait()
			pass(after)
			c = b.join(persistent(v, "away", 600))
			if got := c.Settle(); len(got) != want {
				b.t.Errorf("after %s: %v", after, got)
			}
			c.Leave()
			b.join(mq.Connect{Version: v, ID: "away"}).Leave()
		}
	})
}

func TestB091B092B094MessageExpiry(t *testing.T) {
	inBubble(t, func(b *bubble, v byte) {
		from := b.join(mq.Connect{Version: 5, ID: "from"})
		for _, c := range []struct {
			expiry int
			after  time.Duration
			want   int // the expiry that arrives, -1: no message
		}{
			{30, 20 * time.Second, 10},
			{30, 20*time.Second + 500*time.Millisecond, 10},
			{30, 29*time.Second + 100*time.Millisecond, 0},
			{30, 31 * time.Second, -1},
			{0, 0, 1},
			{0, 500 * time.Millisecond, 0},
			{0, 1100 * time.Millisecond, -1},
		} {
			to := b.join(persistent(v, "to", 3600))
			to.Granted(1, "t")
			to.Leave()
			from.Publish(mq.Publish{Topic: "t", Payload: "x", QoS: 1, Props: mq.Prop(mq.MessageExpiry, c.expiry)})
			pass(c.after)
			to = b.join(persistent(v, "to", 3600))
			got := to.Settle()
			if c.want == -1 {
				if len(got) > 0 {
					b.t.Errorf("%+v: %v", c, got)
				}
			} else if len(got) != 1 {
				b.t.Errorf("%+v: %v", c, got)
			} else if m, props, err := got[0].Publish(v); err != nil || m.Payload != "x" || v == 5 && props.Int(mq.MessageExpiry) != c.want {
				b.t.Errorf("%+v: %v %v", c, props, err)
			}
			to.Leave()
			b.join(mq.Connect{Version: v, ID: "to"}).Leave()
		}
	})
}

func TestB121RetainedExpires(t *testing.T) {
	inBubble(t, func(b *bubble, v byte) {
		from := b.join(mq.Connect{Version: 5, ID: "from", KeepAlive: 1200})
		from.Publish(mq.Publish{Topic: "t", Payload: "x", QoS: 1, Retain: true, Props: mq.Prop(mq.MessageExpiry, 60)})
		for after, want := range []int{1, 0} {
			pass(time.Duration(after) * time.Minute)
			c := b.join(mq.Connect{Version: v, ID: "late"})
			c.Granted(1, "t")
			if got := c.Settle(); len(got) != want {
				b.t.Errorf("after %d minutes: %v", after, got)
			}
			c.Leave()
		}
	})
}

// A will that is delayed comes when its time has come, or when the session ends.
func TestWillDelay(t *testing.T) {
	t.Parallel()
	inBubble5(t, func(b *bubble) {
		seen := b.join(mq.Connect{Version: 5, ID: "seen", KeepAlive: 1200})
		seen.Granted(1, "will")
		for _, c := range []struct {
			delay, expiry int
			want          time.Duration
		}{{30, 600, 30 * time.Second}, {300, 60, time.Minute}, {0, 600, 0}, {30, 0, 0}} {
			p := persistent(5, "w", c.expiry)
			p.Persistent = false
			p.Will = &mq.Publish{Topic: "will", Payload: "x", QoS: 1, Props: mq.Prop(mq.WillDelay, c.delay)}
			b.join(p).Cut()
			began := time.Now()
			if _, err := seen.TryNext(time.Hour); err != nil {
				b.t.Fatal(err)
			}
			if took := time.Since(began); took < c.want || took > c.want+time.Second {
				b.t.Errorf("%+v: came after %s", c, took)
			}
			pass(time.Hour / 4)
			_ = seen.TrySend(mq.Pingreq)
			seen.Next()
		}
	})
}

// The client that comes back to its session while its will is delayed takes it back; the one
// that wants a new session ends the old one, and its will is due.
func TestWillDelayAndReturn(t *testing.T) {
	t.Parallel()
	inBubble5(t, func(b *bubble) {
		seen := b.join(mq.Connect{Version: 5, ID: "seen", KeepAlive: 1200})
		seen.Granted(1, "will")
		for _, clean := range []bool{false, true} {
			p := persistent(5, "w", 600)
			p.Will = &mq.Publish{Topic: "will", Payload: "x", QoS: 1, Props: mq.Prop(mq.WillDelay, 60)}
			b.join(p).Cut()
			pass(10 * time.Second)
			back := persistent(5, "w", 600)
			back.Persistent = !clean
			c := b.join(back)
			if got := seen.Settle(); len(got) == 1 != clean {
				b.t.Errorf("clean start %t: %v", clean, got)
			}
			pass(10 * time.Minute)
			if got := seen.Settle(); len(got) != 0 {
				b.t.Errorf("clean start %t: later %v", clean, got)
			}
			c.Leave()
		}
	})
}

func inBubble5(t *testing.T, test func(b *bubble)) {
	t.Helper()
	t.Run("5", func(t *testing.T) {
		inBubble(t, func(b *bubble, v byte) {
			if v == 5 {
				test(b)
			}
		})
	})
}

// Who says nothing, or too slowly, is not waited for.
func TestSlowStart(t *testing.T) {
	inBubble(t, func(b *bubble, v byte) {
		quiet := b.Dial(b.t)
		if took, _ := ends(quiet, time.Minute); took < 9*time.Second || took > 12*time.Second {
			b.t.Errorf("a connection without CONNECT lived for %s", took)
		}
		// A byte a second of a CONNECT.
		slow := b.Dial(b.t)
		began := time.Now()
		for _, one := range (mq.Connect{Version: v, ID: "slow-slow-slow"}).Encode() {
			if slow.TrySend([]byte{one}) != nil {
				break
			}
			pass(time.Second)
		}
		if _, err := slow.TryNext(time.Minute); !mq.Gone(err) || time.Since(began) > 40*time.Second {
			b.t.Errorf("a slow CONNECT lived for %s: %v", time.Since(began), err)
		}
	})
}

// One that announces 256 MB and sends a byte a minute is refused at once for its size; one
// that announces what is allowed may not take for ever over it: bytes that are no packet are no
// sign of life.
func TestByteAMinute(t *testing.T) {
	inBubble(t, func(b *bubble, v byte) {
		huge := b.join(mq.Connect{Version: v, ID: "huge", KeepAlive: 60})
		huge.Send([]byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F})
		if took, _ := ends(huge, time.Hour); took > time.Second {
			b.t.Errorf("256 MB were waited for, %s", took)
		}
		slow := b.join(mq.Connect{Version: v, ID: "slow", KeepAlive: 60})
		began := time.Now()
		slow.Send([]byte{0x30}, mq.Length(100_000))
		for time.Since(began) < time.Hour {
			if slow.TrySend([]byte{0}) != nil {
				break
			}
			pass(time.Minute)
		}
		if lived := time.Since(began); lived > 3*time.Minute {
			b.t.Errorf("a byte a minute was read for %s", lived)
		}
	})
}
