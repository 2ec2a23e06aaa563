package broker

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// inTime runs a test on a virtual clock; dial connects to the broker.
func inTime(t *testing.T, cfg Config, test func(t *testing.T, dial func() *wire)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		if cfg.Handler == nil {
			cfg.Handler = indifferent{}
		}
		b, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := b.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}()
		test(t, func() *wire {
			server, client := net.Pipe()
			go b.ServeConn(server)
			t.Cleanup(func() { _ = client.Close() })
			w := newWire(t, client)
			if err := client.SetDeadline(time.Time{}); err != nil {
				t.Fatal(err)
			}
			return w
		})
	})
}

func TestB042ConnectRates(t *testing.T) {
	for name, c := range map[string]struct {
		cfg    Config
		second string // client id
	}{
		"one client id": {Config{ClientConnectRate: 1}, "a"},
		"all":           {Config{ConnectRate: 1}, "b"},
	} {
		t.Run(name, func(t *testing.T) {
			inTime(t, c.cfg, func(t *testing.T, dial func() *wire) {
				connect := func(version byte, id string, code byte) {
					t.Helper()
					w := dial()
					w.send(connectPacket{version: version, id: id}.encode())
					if f := w.next(); f.kind != typeConnack || f.body[1] != code {
						t.Fatalf("got %+v, want code %#x", f, code)
					}
					if code != 0 {
						w.closed()
					}
				}
				connect(5, "a", 0)
				connect(5, c.second, codeQuotaExceeded)
				connect(4, c.second, 3)
				<-time.After(time.Second)
				connect(4, c.second, 0)
				connect(4, c.second, 3)
			})
		})
	}
}

// Clients that come once do not stay in memory.
func TestTurnstileForgets(t *testing.T) {
	t.Parallel()
	s, now := newTurnstile(0, 1), time.Now()
	for i := range 100_000 {
		now = now.Add(time.Millisecond)
		if err := s.admit(string(appendLength(nil, i)), now); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.ids) > 5000 {
		t.Errorf("%d are remembered", len(s.ids))
	}
}

func TestPublishRate(t *testing.T) {
	for _, version := range []byte{4, 5} {
		inTime(t, Config{PublishRate: 2}, func(t *testing.T, dial func() *wire) {
			w := dial()
			w.version = version
			w.send(connectPacket{version: version, id: "w"}.encode())
			w.next()
			for range 2 {
				w.publish(Message{Topic: "t", QoS: 1})
				w.puback(codeSuccess)
			}
			w.publish(Message{Topic: "t", QoS: 1})
			if version == 5 {
				w.puback(codeQuotaExceeded)
			}
			w.publish(Message{Topic: "t"})
			w.quiet()
			<-time.After(time.Second)
			w.publish(Message{Topic: "t", QoS: 1})
			w.puback(codeSuccess)
		})
	}
}

// A client that sends too much is read later, and not thought silent meanwhile.
func TestByteRate(t *testing.T) {
	inTime(t, Config{ByteRate: 1000, MaxPayload: 10_000}, func(t *testing.T, dial func() *wire) {
		w := dial()
		w.send(connectPacket{version: 4, id: "w", keepAlive: 30}.encode())
		w.next()
		m := Message{Topic: "t", QoS: 1, Payload: bytes.Repeat([]byte("x"), 10_000)}
		start := time.Now()
		burst := 10_000 + headerAllowance
		for sent := 0; sent < burst+100_000; sent += len(m.Payload) {
			w.version = 4
			w.publish(m)
			w.puback(codeSuccess)
		}
		if took := time.Since(start); took < 90*time.Second || took > 120*time.Second {
			t.Errorf("100 kB at 1 kB/s took %v", took)
		}
	})
}

// slowStore is a Store that forgets, and that waits before it does.
type slowStore struct{ until chan struct{} }

func (slowStore) Load(context.Context) (*Kept, error) { return new(Kept), nil }

func (s slowStore) Save(context.Context, *Changes) error {
	<-s.until
	return nil
}

// What a client publishes before the last is safe is bounded (spec §2.6).
func TestUnacknowledgedFromClient(t *testing.T) {
	for _, version := range []byte{4, 5} {
		store := slowStore{}
		inTime(t, Config{MaxInflight: 2, Store: &store}, func(t *testing.T, dial func() *wire) {
			store.until = make(chan struct{})
			w := dial()
			w.version = version
			w.send(connectPacket{version: version, id: "w"}.encode())
			w.next()
			var all []byte
			for id := range uint16(3) {
				m := Message{Topic: "t", QoS: 1, Retain: true, Payload: []byte("x")}
				packet, _ := encodePublish(&m, version, 1, true, false, id+1, time.Now())
				all = append(all, packet...)
			}
			w.send(all)
			synctest.Wait()
			if version == 5 {
				w.dismissed(codeReceiveMaximum)
				close(store.until)
				return
			}
			received := make(chan byte, 3)
			go func() {
				for range 3 {
					received <- w.next().kind
				}
			}()
			<-time.After(time.Minute) // the third is not looked at, nor is the client thought silent
			if len(received) > 0 {
				t.Error("acknowledged before it was safe")
			}
			close(store.until)
			for range 3 {
				if kind := <-received; kind != typePuback {
					t.Errorf("got packet type %d", kind)
				}
			}
		})
	}
}

// What a client gets beyond the rate waits with QoS 1, in order, and is dropped with QoS 0.
func TestDeliverRate(t *testing.T) {
	for _, cfg := range []Config{{DeliverRate: 2}, {TotalDeliverRate: 2}} {
		inTime(t, cfg, func(t *testing.T, dial func() *wire) {
			from, to := dial(), dial()
			for _, w := range []*wire{from, to} {
				w.send(connectPacket{version: 4, id: fmt.Sprintf("%p", w)}.encode())
				w.next()
			}
			to.send(subscribePacket(4, 1, "t"))
			to.next()
			for i := range 5 {
				from.publish(Message{Topic: "t", QoS: 1, Payload: []byte{'1' + byte(i)}})
				from.puback(codeSuccess)
			}
			from.publish(Message{Topic: "t", Payload: []byte("lost")})
			var got string
			hear := func(n int) {
				for range n {
					p, err := decodePublish(to.next(), 4, time.Time{})
					if err != nil {
						t.Fatal(err)
					}
					got += string(p.message.Payload)
					to.send(encodePuback(p.id, 0))
				}
			}
			start := time.Now()
			hear(2)
			to.quiet()
			if d := time.Since(start); d > 0 {
				t.Errorf("the first ones took %v", d)
			}
			hear(3)
			if d := time.Since(start); d < time.Second || d > 2*time.Second {
				t.Errorf("5 messages at 2 a second, 2 at once, took %v", d)
			}
			if got != "12345" {
				t.Errorf("got %s", got)
			}
			to.quiet()
		})
	}
}

// What all clients together publish beyond the rate is discarded.
func TestTotalPublishRate(t *testing.T) {
	inTime(t, Config{TotalPublishRate: 2}, func(t *testing.T, dial func() *wire) {
		for i := range 3 {
			w := dial()
			w.send(connectPacket{version: 4, id: fmt.Sprint(i)}.encode())
			w.next()
			w.publish(Message{Topic: "t", QoS: 1})
			if i < 2 {
				w.puback(codeSuccess)
			} else {
				w.quiet()
			}
		}
	})
}
