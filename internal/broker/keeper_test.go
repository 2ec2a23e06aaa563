package broker_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"drover/internal/broker"
	mq "drover/internal/mqtttest"
)

// disk is a Store that takes its time and can be cut off.
type disk struct {
	latency time.Duration

	mu       sync.Mutex
	dead     bool
	saves    int
	sessions map[int64]broker.StoredSession
	groups   map[int64]broker.StoredGroup
	messages map[int64]broker.StoredMessage
	entries  map[int64]broker.StoredEntry
	retained map[string]broker.StoredRetained
	wills    map[int64]broker.StoredWill
}

func newDisk() *disk {
	return &disk{
		latency: 3 * time.Millisecond, sessions: map[int64]broker.StoredSession{}, groups: map[int64]broker.StoredGroup{},
		messages: map[int64]broker.StoredMessage{}, entries: map[int64]broker.StoredEntry{},
		retained: map[string]broker.StoredRetained{}, wills: map[int64]broker.StoredWill{},
	}
}

var errDead = errors.New("no power")

func (d *disk) Save(_ context.Context, c *broker.Changes) error {
	<-time.After(d.latency)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return errDead
	}
	d.saves++
	change(d.sessions, c.EndedSessions, c.Sessions, func(v broker.StoredSession) int64 { return v.Key })
	change(d.groups, c.EndedGroups, c.Groups, func(v broker.StoredGroup) int64 { return v.Key })
	change(d.entries, c.EndedEntries, c.Entries, func(v broker.StoredEntry) int64 { return v.Seq })
	change(d.messages, c.EndedMessages, c.Messages, func(v broker.StoredMessage) int64 { return v.Key })
	change(d.retained, c.EndedRetained, c.Retained, func(v broker.StoredRetained) string { return v.Message.Topic })
	change(d.wills, c.EndedWills, c.Wills, func(v broker.StoredWill) int64 { return v.Key })
	for _, e := range d.entries {
		if _, have := d.messages[e.Message]; !have {
			return fmt.Errorf("entry %d without its message", e.Seq)
		}
	}
	clients := map[string]bool{}
	for _, s := range d.sessions {
		if clients[s.Client] {
			return fmt.Errorf("two sessions of %s", s.Client)
		}
		clients[s.Client] = true
	}
	return nil
}

func change[K comparable, V any](m map[K]V, ended []K, list []V, key func(V) K) {
	for _, k := range ended {
		delete(m, k)
	}
	for _, v := range list {
		m[key(v)] = v
	}
}

func (d *disk) Load(context.Context) (*broker.Kept, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &broker.Kept{
		Sessions: slices.Collect(maps.Values(d.sessions)), Groups: slices.Collect(maps.Values(d.groups)),
		Messages: slices.Collect(maps.Values(d.messages)),
		Entries:  slices.SortedFunc(maps.Values(d.entries), func(a, b broker.StoredEntry) int { return cmp.Compare(a.Seq, b.Seq) }),
		Retained: slices.Collect(maps.Values(d.retained)), Wills: slices.Collect(maps.Values(d.wills)),
	}, nil
}

// rows returns how much is stored of what belongs to messages.
func (d *disk) rows() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.messages) + len(d.entries)
}

// pull takes the power away and returns the disk as it is found afterwards.
func (d *disk) pull() *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead = true
	return &disk{
		latency: d.latency, sessions: maps.Clone(d.sessions), groups: maps.Clone(d.groups), messages: maps.Clone(d.messages),
		entries: maps.Clone(d.entries), retained: maps.Clone(d.retained), wills: maps.Clone(d.wills),
	}
}

// machine is a broker in a bubble whose power can be cut.
type machine struct {
	t *testing.T
	*bubble
	disk   *disk
	cfg    broker.Config
	served chan error
}

func newMachine(t *testing.T, cfg broker.Config) *machine {
	m := &machine{t: t, disk: newDisk(), cfg: cfg}
	m.start()
	return m
}

func (m *machine) start() {
	m.t.Helper()
	m.bubble = &bubble{t: m.t, Listener: mq.NewListener(), reasons: map[string]broker.DisconnectReason{}}
	m.cfg.Handler, m.cfg.Store, m.cfg.AcceptRate = owner{m.bubble}, m.disk, -1
	var err error
	if m.Broker, err = broker.New(m.cfg); err != nil {
		m.t.Fatal(err)
	}
	m.served = make(chan error, 1)
	go func(b *bubble) { m.served <- b.Serve(b.Listener) }(m.bubble)
}

func (m *machine) stop(want error) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := m.Broker.Close(ctx); !errors.Is(err, want) {
		m.t.Errorf("close: %v", err)
	}
	if err := <-m.served; err != nil {
		m.t.Errorf("serve: %v", err)
	}
}

// cut ends the process without a good-bye and starts the next.
func (m *machine) cut() {
	m.t.Helper()
	left := m.disk.pull()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_ = m.Broker.Close(ctx) // its goroutines must end; what it writes is lost
	<-m.served
	m.disk = left
	m.start()
}

// onMachine runs a test for either version of MQTT.
func onMachine(t *testing.T, cfg broker.Config, test func(m *machine, version byte)) {
	t.Helper()
	t.Parallel()
	for version, name := range map[byte]string{4: "3.1.1", 5: "5"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t, cfg)
				defer func() { m.stop(nil) }()
				test(m, version)
			})
		})
	}
}

func (m *machine) persistent(version byte, id string, props ...byte) *mq.Client {
	m.t.Helper()
	p := mq.Connect{Version: version, ID: id, Persistent: true}
	if version == 5 {
		p.Props = append(mq.Prop(mq.SessionExpiry, 3600), props...)
	}
	return m.join(p)
}

// TestAcknowledgedInTimeIsNeverWritten: messages to connected clients that acknowledge at
// once cost the store nothing, nor do clean sessions.
func TestAcknowledgedInTimeIsNeverWritten(t *testing.T) {
	onMachine(t, broker.Config{}, func(m *machine, v byte) {
		t := m.t
		w := m.persistent(v, "w")
		w.Granted(1, "t")
		clean := m.join(mq.Connect{Version: v, ID: "clean"})
		clean.Granted(1, "t")
		pass(time.Second)
		saves := m.disk.saves
		from := m.join(mq.Connect{Version: v, ID: "from"})
		for i := range 20 {
			began := time.Now()
			from.Send(mq.Publish{Topic: "t", Payload: fmt.Sprint(i), QoS: 1, ID: i + 1}.Encode(v))
			w.Receive("t", fmt.Sprint(i))
			clean.Unacked()
			from.Acked(mq.PUBACK, i+1)
			if waited := time.Since(began); waited != 0 {
				t.Errorf("the publisher waited for %s", waited)
			}
		}
		pass(time.Second)
		if m.disk.saves != saves || m.Stats().Stored != 0 || m.Stats().Queued != 0 {
			t.Errorf("%d saves, %+v", m.disk.saves-saves, m.Stats())
		}
	})
}

// TestPubackWaits: for the store if the client is away, for the grace and the store if it
// is there and silent.
func TestPubackWaits(t *testing.T) {
	onMachine(t, broker.Config{}, func(m *machine, v byte) {
		t := m.t
		away := m.persistent(v, "away")
		away.Granted(1, "a")
		away.Leave()
		silent := m.persistent(v, "silent")
		silent.Granted(1, "s")
		pass(time.Second)
		from := m.join(mq.Connect{Version: v, ID: "from"})
		for topic, want := range map[string]time.Duration{"a": m.disk.latency, "s": 25*time.Millisecond + m.disk.latency, "nobody": 0} {
			began := time.Now()
			from.Publish(mq.Publish{Topic: topic, QoS: 1, Payload: "x"})
			if waited := time.Since(began); waited != want {
				t.Errorf("topic %s: PUBACK after %s, want %s", topic, waited, want)
			}
		}
		if got := m.disk.rows(); got != 4 {
			t.Errorf("%d rows are stored", got)
		}
		began := time.Now()
		m.publish("s", "y")
		<-m.Settled()
		if waited := time.Since(began); waited != 25*time.Millisecond+m.disk.latency {
			t.Errorf("settled after %s", waited)
		}
		silent.Message()
		silent.Message()
		away = m.persistent(v, "away")
		away.Message()
		away.Settle()
		silent.Settle()
		pass(time.Second)
		if got := m.disk.rows(); got != 0 {
			t.Errorf("%d rows are left", got)
		}
	})
}

// TestStoreFails: nothing is acknowledged that is not safe, and all of it once it is.
func TestStoreFails(t *testing.T) {
	onMachine(t, broker.Config{}, func(m *machine, v byte) {
		t := m.t
		away := m.persistent(v, "away")
		away.Granted(1, "a")
		away.Leave()
		pass(time.Second)
		m.disk.mu.Lock()
		m.disk.dead = true
		m.disk.mu.Unlock()
		from := m.join(mq.Connect{Version: v, ID: "from"})
		from.Send(mq.Publish{Topic: "a", QoS: 1, ID: 1}.Encode(v))
		pass(5 * time.Second)
		from.Silent()
		if m.Stats().StoreFails == 0 {
			t.Error("no failure is counted")
		}
		m.disk.mu.Lock()
		m.disk.dead = false
		m.disk.mu.Unlock()
		pass(10 * time.Second)
		from.Acked(mq.PUBACK, 1)
	})
}

// TestBounds: what does not fit is dropped, the newest first, and counted.
func TestBounds(t *testing.T) {
	onMachine(t, broker.Config{MaxInflight: 1, QueueMessages: 3, MaxQueued: 5, MaxSessions: 2, MaxRetained: 2, MaxRetainedBytes: 10, QueueAge: time.Hour / 2}, func(m *machine, v byte) {
		t := m.t
		for _, id := range []string{"a", "b"} {
			w := m.persistent(v, id)
			w.Granted(1, id, "both")
			w.Leave()
		}
		if ack := m.Dial(t).Hello(mq.Connect{Version: v, ID: "c", Persistent: true, Props: mq.Prop(mq.SessionExpiry, 1)}); ack.Code == 0 {
			t.Error("a session too many")
		}
		m.join(mq.Connect{Version: v, ID: "clean"}) // is none that is kept

		for i := range 4 {
			m.publish("a", fmt.Sprint(i))
		}
		m.publish("both", "x") // full for a
		m.publish("b", "y")
		m.publish("b", "z") // full for all
		s := m.Stats()
		if s.Dropped != 3 || s.Queued != 5 {
			t.Errorf("%d dropped, %d queued", s.Dropped, s.Queued)
		}
		pass(time.Second)
		w := m.persistent(v, "a")
		for i := range 3 {
			w.Receive("a", fmt.Sprint(i))
		}
		w.Silent()

		pass(29 * time.Minute)
		m.publish("b", "late")
		pass(2 * time.Minute)
		w = m.persistent(v, "b")
		w.Receive("b", "late")
		w.Silent()
		if s := m.Stats(); s.Expired != 2 || s.Queued != 0 || s.QueuedBytes != 0 {
			t.Errorf("%+v", s)
		}

		from := m.join(mq.Connect{Version: v, ID: "from"})
		retain := func(topic, payload string) byte {
			return from.Publish(mq.Publish{Topic: topic, Payload: payload, QoS: 1, Retain: true})
		}
		retain("r", "1234")
		retain("r", "12345678")
		if v == 5 && (retain("q", "x") != 0x97 || retain("r", "1234567890") != 0x97 || retain("r", "1") != 0 || retain("q", "") != 0) {
			t.Error("retained messages beyond their bounds")
		}
		// What has expired makes room, here and in a queue.
		m.publish("r", "", func(m *broker.Message) { m.Retain = true })
		for _, topic := range []string{"x", "y", "z"} {
			m.publish(topic, "x", func(m *broker.Message) { m.Retain, m.Expires = true, time.Now().Add(time.Minute) })
		}
		if _, ok := m.RetainedAt("z"); ok {
			t.Error("a third retained message")
		}
		w.Leave()
		for range 3 {
			m.publish("b", "short", func(m *broker.Message) { m.Expires = time.Now().Add(time.Minute) })
		}
		pass(time.Minute)
		m.publish("z", "z", func(m *broker.Message) { m.Retain = true })
		m.publish("b", "lives")
		if r, ok := m.RetainedAt("z"); !ok || string(r.Message.Payload) != "z" || m.Stats().Retained != 1 || m.Stats().RetainedBytes != 2 {
			t.Errorf("no room was made: %+v", m.Stats())
		}
		m.persistent(v, "b").Receive("b", "lives")
	})
}

// TestPowerCuts: whatever happens, in any order, an acknowledged message reaches the
// persistent sessions that were subscribed, in order per topic; and in the end nothing is
// left in the store.
func TestPowerCuts(t *testing.T) {
	t.Parallel()
	seeds := 60
	if testing.Short() {
		seeds = 10
	}
	for range seeds {
		seed := rand.Uint64()
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { powerCuts(t, rand.New(rand.NewPCG(seed, 0))) })
		})
	}
}

func powerCuts(t *testing.T, r *rand.Rand) {
	m := newMachine(t, broker.Config{MaxInflight: 1 + r.IntN(5)})
	defer func() { m.stop(nil) }()
	v := byte(4 + r.IntN(2))
	topics := []string{"a", "b"}
	readers := make([]*reader, 3) // the last two share
	filters := [][]string{{"a", "+"}, {"$share/g/a", "$share/g/b"}, {"$share/g/a", "$share/g/b"}}
	join := func(i int) {
		readers[i].Client = m.persistent(v, fmt.Sprint("reader", i))
		readers[i].unacked = nil
	}
	for i := range readers {
		readers[i] = &reader{got: map[string][]string{}}
		join(i)
		readers[i].Granted(1, filters[i]...)
	}
	// read takes what has come; acknowledgements are sent late, or never.
	read := func(w *reader, all bool) {
		synctest.Wait()
		if all {
			w.ack(len(w.unacked))
			synctest.Wait()
		}
		for w.Client != nil {
			p, err := w.TryNext(time.Nanosecond)
			if err != nil {
				break
			}
			if p.Type == mq.PUBLISH {
				got, _, err := p.Publish(v)
				if err != nil {
					t.Fatal(err)
				}
				w.got[got.Topic] = append(w.got[got.Topic], got.Payload)
				w.unacked = append(w.unacked, got.ID)
				if len(w.unacked) > m.cfg.MaxInflight {
					t.Fatalf("%d unacknowledged messages", len(w.unacked))
				}
			}
			if all {
				w.ack(len(w.unacked))
				synctest.Wait()
			}
		}
	}
	from, sent := m.join(mq.Connect{Version: v, ID: "from"}), 0
	pending, acked := map[int]string{}, map[string]bool{}
	confirm := func() {
		synctest.Wait()
		for {
			p, err := from.TryNext(time.Nanosecond)
			if err != nil {
				return
			}
			ack, err := p.Ack(v)
			if err != nil {
				t.Fatal(err)
			}
			acked[pending[ack.ID]] = true
			delete(pending, ack.ID)
		}
	}
	for range 150 {
		switch i := r.IntN(len(readers)); r.IntN(12) {
		case 0, 1, 2, 3:
			if len(pending) == m.cfg.MaxInflight { // as many as the broker takes
				confirm()
				break
			}
			sent++
			topic := topics[r.IntN(2)]
			pending[sent] = topic + fmt.Sprintf("%05d", sent)
			from.Send(mq.Publish{Topic: topic, Payload: fmt.Sprintf("%05d", sent), QoS: 1, ID: sent}.Encode(v))
		case 4:
			confirm()
		case 5, 6:
			read(readers[i], false)
			if w := readers[i]; w.Client != nil {
				w.ack(r.IntN(len(w.unacked) + 1))
			}
		case 7:
			if w := readers[i]; w.Client != nil {
				read(w, false)
				w.Cut()
				w.Client = nil
				synctest.Wait()
			}
		case 8:
			if readers[i].Client == nil {
				join(i)
			}
		case 9:
			confirm()
			for _, w := range readers {
				read(w, false)
				w.Client = nil
			}
			m.cut()
			from, pending = m.join(mq.Connect{Version: v, ID: "from"}), map[int]string{}
		default:
			pass(time.Duration(r.IntN(40)) * time.Millisecond)
		}
	}
	pass(time.Second)
	confirm()
	for i := range readers {
		if readers[i].Client == nil {
			join(i)
		}
	}
	for range 100 {
		for _, w := range readers {
			read(w, true)
		}
	}
	for name, got := range map[string][]map[string][]string{
		"reader 0": {readers[0].got}, "the group": {readers[1].got, readers[2].got},
	} {
		have := map[string]bool{}
		for _, g := range got {
			for topic, payloads := range g {
				last := ""
				for _, p := range payloads {
					if !have[topic+p] && p < last && len(got) == 1 {
						t.Errorf("%s got %s on %s after %s", name, p, topic, last)
					}
					last = max(last, p)
					have[topic+p] = true
				}
			}
		}
		for what := range acked {
			if !have[what] {
				t.Errorf("%s did not get %s", name, what)
			}
		}
	}
	pass(time.Second)
	if n := m.disk.rows(); n != 0 || m.Stats().Queued != 0 || m.Stats().QueuedBytes != 0 {
		t.Errorf("%d rows are left, %+v", n, m.Stats())
	}
	for _, w := range readers {
		w.Cut()
	}
	from.Cut()
}

// reader is a subscriber of powerCuts.
type reader struct {
	*mq.Client
	unacked []int               // packet ids
	got     map[string][]string // payloads by topic
}

// ack acknowledges the first n messages that are not.
func (w *reader) ack(n int) {
	for _, id := range w.unacked[:n] {
		w.Send(mq.Puback(id))
	}
	w.unacked = w.unacked[n:]
}

// TestTimesSurvive: expiries of sessions and messages and delays of wills go on while
// there is no power.
func TestTimesSurvive(t *testing.T) {
	onMachine(t, broker.Config{}, func(m *machine, v byte) {
		t := m.t
		outage := func(d time.Duration) {
			t.Helper()
			m.disk = m.disk.pull()
			left := m.disk
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			_ = m.Broker.Close(ctx)
			<-m.served
			pass(d)
			m.disk = left
			m.start()
		}
		present := func(id string, want bool) *mq.Client {
			t.Helper()
			w := m.persistent(v, id)
			if w.Connack.Present != want {
				t.Errorf("%s: session present %v", id, !want)
			}
			return w
		}
		m.persistent(v, "away").Leave()
		m.persistent(v, "connected")
		expiring := m.persistent(v, "expiring")
		expiring.Granted(1, "t")
		expiring.Cut()
		pass(10 * time.Minute)
		m.publish("t", "short", func(m *broker.Message) { m.Expires = time.Now().Add(20 * time.Minute) })
		m.publish("t", "long", func(m *broker.Message) { m.Expires = time.Now().Add(45 * time.Minute) })
		pass(20 * time.Minute)

		outage(20 * time.Minute) // 50 minutes now
		w := present("expiring", true)
		w.Receive("t", "long")
		w.Silent()
		w.Leave()
		pass(11 * time.Minute)
		present("away", false)
		pass(48 * time.Minute)
		present("connected", true) // it waits from the restart on

		if v == 4 {
			return
		}
		watch := m.persistent(5, "watch")
		watch.Granted(1, "will/+")
		testator := func(id string, props ...byte) *mq.Client {
			return m.join(mq.Connect{Version: 5, ID: id, Persistent: true, Props: mq.Prop(mq.SessionExpiry, 3600),
				Will: &mq.Publish{Topic: "will/" + id, Payload: id, QoS: 1, Props: append(props, mq.Prop(mq.WillDelay, 600)...)}})
		}
		testator("died").Cut() // due in ten minutes
		testator("back")
		testator("late", mq.Prop(mq.MessageExpiry, 1)...)
		outage(5 * time.Minute)
		watch = present("watch", true)
		testator("back").Leave()
		watch.Silent()
		pass(4 * time.Minute)
		watch.Silent()
		pass(2 * time.Minute)
		watch.Receive("will/died", "died")
		watch.Silent()
		pass(5 * time.Minute)
		watch.Silent() // that of late was worthless when it was due
	})
}

// TestReplayRate: what waited comes at a pace, live messages beside it.
func TestReplayRate(t *testing.T) {
	onMachine(t, broker.Config{ReplayRate: 10}, func(m *machine, v byte) {
		w := m.persistent(v, "w")
		w.Granted(1, "t")
		w.Leave()
		for i := range 5 {
			m.publish("t", fmt.Sprint(i))
		}
		w = m.persistent(v, "w")
		m.publish("t", "live")
		w.Receive("t", "live")
		for i := range 5 {
			w.Silent()
			pass(100 * time.Millisecond)
			w.Receive("t", fmt.Sprint(i))
		}
		m.publish("t", "live")
		w.Receive("t", "live")
	})
}
