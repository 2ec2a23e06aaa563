package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"drover/internal/broker"
	"drover/internal/cluster"
	"drover/internal/faulttest"
	"drover/internal/iot"
	. "drover/internal/mqtttest"
	"drover/internal/pki"
	"drover/internal/store"
	"drover/internal/store/sqlstore"
)

// open is a broker.Handler that lets everything pass.
type open struct{ ended chan broker.DisconnectReason }

func (open) Connected(*broker.Client)                                   {}
func (o open) Disconnected(_ *broker.Client, r broker.DisconnectReason) { o.ended <- r }
func (open) AllowSubscribe(*broker.Client, string) bool                 { return true }
func (open) Publish(*broker.Client, broker.Message) broker.Verdict      { return broker.Route }
func (open) Subscribed(*broker.Client, []string)                        {}
func (open) Unsubscribed(*broker.Client, []string)                      {}

// brokers is some nodes in one process, on one database.
type brokers struct {
	testing.TB
	db    *sqlstore.DB
	nodes []*oneBroker

	mu   sync.Mutex
	live []int64
}

type oneBroker struct {
	*broker.Broker
	peers *peers
	addr  string
	ended chan broker.DisconnectReason
	stop  func()
}

func startBrokers(t testing.TB, n int) *brokers {
	t.Helper()
	return startBrokersBehind(t, n, nil)
}

// startBrokersBehind starts nodes that find those before them by what behind makes of their
// addresses, and in no other way.
func startBrokersBehind(t testing.TB, n int, behind func(addr string) string) *brokers {
	t.Helper()
	s := openStore(t, t.TempDir())
	c := &brokers{TB: t, db: s.store.(*sqlstore.DB)}
	shared := pki.Open(t.TempDir()).Nodes(time.Now)
	var known []string
	advertised := ""
	if behind != nil {
		advertised = "127.0.0.1:1" // where nobody is
	}
	for i := range n {
		number := int64(i + 1)
		c.mu.Lock()
		c.live = append(c.live, number)
		c.mu.Unlock()
		log := slog.New(slog.DiscardHandler)
		if os.Getenv("DROVER_TEST_LOG") != "" {
			log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", number)
		}
		p := newPeers(log)
		node, err := cluster.Start(t.Context(), cluster.Config{Name: fmt.Sprint("n", number), Handler: p, Logger: log,
			Embedded: cluster.Embedded{Listen: "127.0.0.1:0", Peers: known, TLS: shared, Advertise: advertised}})
		if err != nil {
			t.Fatal(err)
		}
		p.node = node
		if behind != nil {
			known = append(known, behind(node.Addr()))
		} else {
			known = append(known, node.Addr())
		}
		b := &oneBroker{peers: p, ended: make(chan broker.DisconnectReason, 100)}
		b.Broker, err = broker.New(broker.Config{Handler: open{b.ended}, Logger: log, Peers: peerBrokers{node}, Adopted: p.adopted, Roamed: p.roam,
			Store: sharedStore{brokerStore{c.db, number}, func(store.Reader) ([]int64, error) {
				c.mu.Lock()
				defer c.mu.Unlock()
				return slices.Clone(c.live), nil
			}}})
		if err != nil {
			t.Fatal(err)
		}
		p.here.Store(&hearing{broker: b.Broker, journal: noJournal{}})
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		b.addr = l.Addr().String()
		served := make(chan error, 1)
		go func() { served <- b.Serve(l) }()
		b.stop = sync.OnceFunc(func() {
			c.mu.Lock()
			c.live = slices.DeleteFunc(c.live, func(n int64) bool { return n == number })
			c.mu.Unlock()
			ctx, cancel := context.WithTimeout(context.Background(), Patience)
			defer cancel()
			if err := b.Close(ctx); err != nil {
				t.Error(err)
			}
			if err := <-served; err != nil {
				t.Error(err)
			}
			p.close()
		})
		t.Cleanup(b.stop)
		c.nodes = append(c.nodes, b)
	}
	for _, b := range c.nodes {
		until(c, "the nodes know each other", func() bool { return len(b.peers.node.Peers()) == n-1 })
	}
	return c
}

// settle waits until all nodes have had what each has sent.
func (c *brokers) settle() {
	for _, n := range c.nodes {
		n.peers.node.Fence(c.Context())
	}
}

// join connects a client to a node.
func (c *brokers) join(node int, p Connect) *Client {
	c.Helper()
	return Dial(c.TB, c.nodes[node].addr).Join(p)
}

// plain connects a client with nothing special.
func (c *brokers) plain(node int, id string) *Client {
	c.Helper()
	return c.join(node, Connect{Version: 5, ID: id})
}

func persistent(id string) Connect {
	return Connect{Version: 5, ID: id, Persistent: true, Props: Prop(SessionExpiry, 3600)}
}

func TestMessagesCrossNodes(t *testing.T) {
	t.Parallel()
	c := startBrokers(t, 3)
	sub := c.plain(1, "sub")
	sub.Granted(1, "a/b/c/d", "a/+/c/#", "plain") // overlapping: one copy
	local := c.plain(0, "local")
	local.Granted(1, "a/#")
	pub := c.plain(0, "pub")
	props := slices.Concat(Prop(PayloadFormat, 1), Prop(MessageExpiry, 100), Prop(ContentType, "text"), Prop(ResponseTopic, "r"),
		Prop(CorrelationData, "\x00\xff"), User("k", "1"), User("k", "2"))
	pub.Publish(Publish{QoS: 1, Topic: "a/b/c/d", Payload: "1", Props: props})
	m, got := sub.Message()
	if m.Topic != "a/b/c/d" || m.Payload != "1" || m.QoS != 1 || got.Int(MessageExpiry) != 100 || got.Text(ContentType) != "text" ||
		got.Text(ResponseTopic) != "r" || got.Text(CorrelationData) != "\x00\xff" || got.Int(PayloadFormat) != 1 {
		t.Errorf("got %+v with %+v", m, got)
	}
	local.Receive("a/b/c/d", "1")
	pub.Publish(Publish{Topic: "plain", Payload: "2"})
	sub.Receive("plain", "2")
	c.settle()
	sub.Silent()
	if n := c.nodes[2].peers.node.Stats().Received; n != 0 {
		t.Errorf("a node whose clients want nothing has got %d messages", n)
	}
	// What the server publishes goes the same way, and it knows that somebody wants it.
	if !c.nodes[2].HasSubscribers("a/b/c/d") {
		t.Error("a subscriber at another node is one")
	}
	c.nodes[2].Publish(broker.Message{Topic: "a/b/c/d", Payload: []byte("3"), QoS: 1})
	sub.Receive("a/b/c/d", "3")
	local.Receive("a/b/c/d", "3")
	sub.Unsubscribe("a/b/c/d", "a/+/c/#", "plain")
	local.Leave()
	until(c, "nobody wants it any more", func() bool { return !c.nodes[2].HasSubscribers("a/b/c/d") })
}

func TestOrderAcrossNodes(t *testing.T) {
	t.Parallel()
	c := startBrokers(t, 2)
	sub, pub := c.plain(1, "sub"), c.plain(0, "pub")
	sub.Granted(1, "t/#")
	for i := range 500 {
		pub.Publish(Publish{QoS: 1, Topic: fmt.Sprint("t/", i%3), Payload: fmt.Sprint(i), Retain: i%7 == 0})
	}
	for i := range 500 {
		sub.Receive(fmt.Sprint("t/", i%3), fmt.Sprint(i))
	}
}

func TestClientMovesToAnotherNode(t *testing.T) {
	t.Parallel()
	c := startBrokers(t, 3)
	first := c.join(0, persistent("x"))
	first.Granted(1, "t")
	second := c.join(1, persistent("x"))
	first.Dismissed(0x8E)
	if r := <-c.nodes[0].ended; r != broker.DuplicateClientID {
		t.Errorf("the first connection ended for %s", r)
	}
	if !second.Connack.Present {
		t.Error("the session did not come along")
	}
	pub := c.plain(2, "pub")
	pub.Publish(Publish{QoS: 1, Topic: "t", Payload: "1"})
	second.Receive("t", "1")
	// Not acknowledged, and then missed: both wait where the client was last, until it is elsewhere.
	pub.Publish(Publish{QoS: 1, Topic: "t", Payload: "2"})
	if m, _ := second.Unacked(); m.Payload != "2" {
		t.Errorf("got %+v", m)
	}
	second.Cut()
	<-c.nodes[1].ended
	pub.Publish(Publish{QoS: 1, Topic: "t", Payload: "3"})
	if err := c.nodes[0].Accept(t.Context(), broker.Message{Topic: "t", Payload: []byte("4"), QoS: 1}); err != nil {
		t.Error(err)
	}
	until(c, "they are kept once", func() bool { return c.nodes[1].Stats().Queued == 3 })
	<-c.nodes[1].Settled()
	third := c.join(2, persistent("x"))
	for _, payload := range []string{"2", "3", "4"} {
		third.Receive("t", payload)
	}
	c.settle()
	third.Silent()
	for i, want := range []int{0, 0, 2} { // with pub
		if n := c.nodes[i].Stats().Sessions; n != want {
			t.Errorf("node %d has %d sessions, want %d", i, n, want)
		}
	}
	third.Cut()
	<-c.nodes[2].ended
	// A client that wants a clean start gets it, and the old one leaves nothing behind.
	clean := c.join(0, Connect{Version: 5, ID: "x"})
	if clean.Connack.Present {
		t.Error("a clean start begins with the old session")
	}
	pub.Publish(Publish{QoS: 1, Topic: "t", Payload: "5"})
	c.settle()
	clean.Silent()
	until(c, "nothing is left in the store", func() bool {
		var k *store.MQTTKept
		err := c.db.View(t.Context(), func(r store.Reader) (err error) {
			k, err = r.MQTT()
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return len(k.Sessions)+len(k.Entries)+len(k.Messages) == 0
	})
}

// TestManyConnectsAtOnce: whatever connections of one client do at all nodes, one is left.
func TestManyConnectsAtOnce(t *testing.T) {
	t.Parallel()
	c := startBrokers(t, 3)
	var all sync.WaitGroup
	for i := range 30 {
		all.Go(func() {
			conn, err := net.Dial("tcp", c.nodes[i%3].addr)
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
			if err := New(conn).TrySend(persistent("x").Encode()); err != nil && !Gone(err) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	until(c, "one connection and one session is left", func() bool {
		clients, sessions := 0, 0
		for _, n := range c.nodes {
			s := n.Stats()
			clients, sessions = clients+s.Connections, sessions+s.Sessions
		}
		return clients == 1 && sessions == 1
	})
}

// TestClientMovesWhileNodesAreCutOff: a client that connects to a node while the one that has its old
// connection cannot be asked has its session at once, and one connection when the nodes are together
// again; of two that were made meanwhile the later one.
func TestClientMovesWhileNodesAreCutOff(t *testing.T) {
	t.Parallel()
	var cut *faulttest.Proxy
	c := startBrokersBehind(t, 2, func(addr string) string {
		p := faulttest.NewProxy(t, "tcp", addr)
		if cut == nil {
			cut = p
		}
		return p.Addr
	})
	apart := func(want bool) {
		t.Helper()
		cut.Down(want)
		until(c, fmt.Sprintf("nodes are apart: %v", want), func() bool { return c.nodes[0].peers.node.Apart() == want && c.nodes[1].peers.node.Apart() == want })
	}
	x := c.join(0, persistent("x"))
	x.Granted(1, "t")
	<-c.nodes[0].Settled()
	apart(true)
	moved := c.join(1, persistent("x"))
	if !moved.Connack.Present {
		t.Error("the session did not come along")
	}
	first := c.join(1, persistent("y"))
	second := c.join(0, persistent("y"))
	apart(false)
	for _, n := range c.nodes {
		if err := n.ClaimAgain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	x.Dismissed(0x8E)
	first.Dismissed(0x8E)
	c.settle()
	c.plain(0, "pub").Publish(Publish{QoS: 1, Topic: "t", Payload: "1"})
	moved.Receive("t", "1")
	second.Granted(1, "u")
	until(c, "one session is left of each", func() bool { return c.nodes[0].Stats().Sessions == 2 && c.nodes[1].Stats().Sessions == 1 })
}

func TestRetainedMessagesAreEverywhere(t *testing.T) {
	t.Parallel()
	c := startBrokers(t, 2)
	pub := c.plain(0, "pub")
	pub.Publish(Publish{QoS: 1, Topic: "r", Payload: "1", Retain: true})
	until(c, "the other node has it", func() bool { return c.nodes[1].Stats().Retained == 1 })
	sub := c.plain(1, "sub")
	sub.Granted(1, "r")
	if m := sub.Receive("r", "1"); !m.Retain {
		t.Error("it is not marked as retained")
	}
	c.plain(1, "other").Publish(Publish{QoS: 1, Topic: "r", Payload: "2", Retain: true})
	sub.Receive("r", "2")
	until(c, "the first node has the new one", func() bool {
		r, ok := c.nodes[0].RetainedAt("r")
		return ok && string(r.Message.Payload) == "2"
	})
	// Missed: the store knows.
	err := c.db.Update(t.Context(), func(tx store.Tx) error {
		return tx.SaveMQTT(&store.MQTTChanges{Node: 9, EndedRetained: []string{"r"}, MQTTKept: store.MQTTKept{
			Retained: []store.MQTTRetained{{Message: store.MQTTMessage{Topic: "unheard", Payload: []byte("3")}, Modified: 1}}}})
	})
	if err != nil {
		t.Fatal(err)
	}
	until(c, "what was missed is known", func() bool {
		if err := c.nodes[1].Missed(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, gone := c.nodes[1].RetainedAt("r")
		_, there := c.nodes[1].RetainedAt("unheard")
		return there && !gone
	})
}

func TestSharedSubscriptionsAcrossNodes(t *testing.T) {
	t.Parallel()
	c := startBrokers(t, 3)
	members := []*Client{c.plain(0, "m0"), c.plain(1, "m1"), c.plain(1, "m2")}
	for _, m := range members {
		m.Granted(1, "$share/g/t/#")
	}
	witness := c.plain(2, "witness")
	witness.Granted(1, "t/#")
	pub := c.plain(2, "pub")
	const count = 120
	for i := range count {
		pub.Publish(Publish{QoS: 1, Topic: "t/x", Payload: fmt.Sprint(i)})
	}
	c.settle()
	var got []string
	for i, m := range members {
		n := 0
		for _, p := range m.Settle() {
			message, _, err := p.Publish(5)
			if err != nil {
				t.Fatal(err)
			}
			m.Send(Puback(message.ID))
			got, n = append(got, message.Payload), n+1
		}
		if n < 10 {
			t.Errorf("member %d has got %d of %d messages", i, n, count)
		}
	}
	slices.Sort(got)
	if len(slices.Compact(got)) != count || len(got) != count {
		t.Errorf("%d messages were delivered, of %d", len(got), count)
	}
	for i := range count {
		witness.Receive("t/x", fmt.Sprint(i))
	}
	// Members that have gone get nothing.
	members[0].Leave()
	members[1].Leave()
	until(c, "they are gone", func() bool { return c.nodes[0].Stats().Sessions+c.nodes[1].Stats().Sessions == 1 })
	c.settle()
	for i := range 20 {
		pub.Publish(Publish{QoS: 1, Topic: "t/x", Payload: fmt.Sprint("later ", i)})
	}
	for i := range 20 {
		members[2].Receive("t/x", fmt.Sprint("later ", i))
	}
}

// TestGroupsMoveWithTheirMembers: what waits for a group goes along with its last member.
func TestGroupsMoveWithTheirMembers(t *testing.T) {
	t.Parallel()
	c := startBrokers(t, 2)
	m := c.join(0, persistent("m"))
	m.Granted(1, "$share/g/t")
	m.Cut()
	<-c.nodes[0].ended
	pub := c.plain(1, "pub")
	c.settle()
	for i := range 5 {
		pub.Publish(Publish{QoS: 1, Topic: "t", Payload: fmt.Sprint(i)})
	}
	until(c, "they are kept", func() bool { return c.nodes[0].Stats().Queued == 5 })
	m = c.join(1, persistent("m"))
	var got []string
	for range 5 {
		message, _ := m.Message()
		got = append(got, message.Payload)
	}
	if strings.Join(got, "") != "01234" {
		t.Errorf("got %q", got)
	}
}

// TestSessionsOfANodeThatLeaves: another has them at once, with their wills and groups.
func TestSessionsOfANodeThatLeaves(t *testing.T) {
	t.Parallel()
	c := startBrokers(t, 2)
	watcher := c.plain(1, "watcher")
	watcher.Granted(1, "will")
	x := c.join(0, persistent("x"))
	x.Granted(1, "t")
	x.Cut()
	<-c.nodes[0].ended
	pub := c.plain(1, "pub")
	pub.Publish(Publish{QoS: 1, Topic: "t", Payload: "1"})
	until(c, "it is kept", func() bool { return c.nodes[0].Stats().Queued == 1 })
	w := persistent("w")
	w.Will = &Publish{Topic: "will", Payload: "gone", Props: Prop(WillDelay, 1)}
	c.join(0, w).Cut()
	<-c.nodes[0].ended
	c.nodes[0].stop()
	until(c, "the other node has them", func() bool { return c.nodes[1].Stats().Sessions == 4 })
	watcher.Receive("will", "gone")
	pub.Publish(Publish{QoS: 1, Topic: "t", Payload: "2"})
	x = c.join(1, persistent("x"))
	x.Receive("t", "1")
	x.Receive("t", "2")
	x.Silent()
}

func TestConnectionsOfOtherNodes(t *testing.T) {
	t.Parallel()
	c := startBrokers(t, 2)
	x := c.join(0, persistent("x"))
	x.Granted(1, "t")
	state, ok := c.nodes[1].Client(t.Context(), "x")
	if !ok || !state.Connected || state.RemoteAddr.String() != x.Conn.LocalAddr().String() || len(state.Subscriptions) != 1 {
		t.Errorf("got %+v, %v", state, ok)
	}
	if !c.nodes[1].End(t.Context(), "x", broker.EndOptions{}) {
		t.Error("there was nothing to end")
	}
	x.Dismissed(0x98)
	if state, ok = c.nodes[1].Client(t.Context(), "x"); !ok || state.Connected || state.Reason != broker.APIInitiated {
		t.Errorf("got %+v, %v", state, ok)
	}
	if !c.nodes[1].End(t.Context(), "x", broker.EndOptions{Clean: true}) {
		t.Error("there was no session to end")
	}
	if _, ok = c.nodes[1].Client(t.Context(), "x"); ok || c.nodes[1].End(t.Context(), "x", broker.EndOptions{}) {
		t.Error("it is still there")
	}
}

// TestSingleStoreBecomesShared: what a server alone has kept is kept by a node.
func TestSingleStoreBecomesShared(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: filepath.Join(dir, "drover.db")})
	if err != nil {
		t.Fatal(err)
	}
	message := broker.Message{Topic: "t", Payload: []byte("x"), QoS: 1}
	sessions := []broker.StoredSession{
		{Key: 1, Client: "a", Version: 5, Expiry: time.Hour, Subscriptions: []broker.StoredSubscription{{Filter: "t", QoS: 1}}},
		{Key: 2, Client: "b", Version: 5, Expiry: time.Hour, Subscriptions: []broker.StoredSubscription{{Filter: "t", QoS: 1}}},
	}
	err = brokerStore{db, 1}.Save(t.Context(), &broker.Changes{Sessions: sessions, Messages: []broker.StoredMessage{{Key: 3, Message: message}},
		Entries: []broker.StoredEntry{{Seq: 4, Owner: 1, Message: 3}, {Seq: 5, Owner: 2, Message: 3}}})
	if err != nil {
		t.Fatal(err)
	}
	shared := func(node int64) sharedStore {
		return sharedStore{brokerStore{db, node}, func(store.Reader) ([]int64, error) { return []int64{node}, nil }}
	}
	for node := int64(7); node < 10; node++ {
		b, err := broker.New(broker.Config{Handler: open{make(chan broker.DisconnectReason, 1)}, Store: shared(node), Peers: nobody{}})
		if err != nil {
			t.Fatal(err)
		}
		if s := b.Stats(); s.Sessions != 2 || s.Queued != 2 {
			t.Errorf("node %d has %+v", node, s)
		}
		<-b.Settled()
		if err := b.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		err = db.View(t.Context(), func(r store.Reader) error {
			k, err := r.MQTT()
			if len(k.Entries) != 2 || len(k.Messages) != 2 { // one each
				t.Errorf("kept are %+v", k)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

type noJournal struct{}

func (noJournal) LastRecord(context.Context) (int64, error) { return 0, nil }
func (noJournal) Recall(context.Context, int64, bool, func(context.Context, []iot.Record) error) (int64, error) {
	return 0, nil
}

// nobody is broker.Peers of a node without others.
type nobody struct{}

func (nobody) Want(string) bool                             { return false }
func (nobody) Unwant(string)                                {}
func (nobody) Wanted(string) bool                           { return false }
func (nobody) Fence(context.Context)                        {}
func (nobody) Publish(string, []byte)                       {}
func (nobody) Announce([]byte)                              {}
func (nobody) Tell([]byte)                                  {}
func (nobody) Ask(context.Context, []byte) ([][]byte, bool) { return nil, true }
func (nobody) Self() string                                 { return "n" }

// TestNobodyInsistsWhenTheServerEnds: what waits for something that does not come any more does not
// keep a server that has to end.
func TestNobodyInsistsWhenTheServerEnds(t *testing.T) {
	t.Parallel()
	p := newPeers(slog.New(slog.DiscardHandler))
	began := time.Now()
	p.insist("nothing", func(ctx context.Context) error {
		close(p.stop)
		<-ctx.Done()
		return ctx.Err()
	})
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

// TestANewNodeRecallsNothingOld: who has only begun, and misses something, does not tell its clients
// all that has ever happened.
func TestANewNodeRecallsNothingOld(t *testing.T) {
	t.Parallel()
	j := &shortJournal{last: 1000}
	n := startBrokers(t, 1).nodes[0]
	p := n.peers
	p.here.Store(&hearing{broker: n.Broker, journal: j})
	for _, do := range []func(context.Context) error{p.recall, p.mark, p.recall} {
		if err := do(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(j.recalled, []int64{1000}) {
		t.Errorf("recalled what came after %v", j.recalled)
	}
}

// TestWhoComesFromANodeThatIsNoMore: what is published while a session is nowhere is told again when its
// client comes, also what the node to which it comes has published; to who only comes back, comes from a node
// that lives, or has no session, it is not.
func TestWhoComesFromANodeThatIsNoMore(t *testing.T) {
	t.Parallel()
	c := startBrokers(t, 3)
	told := make(chan bool, 10)
	for _, n := range c.nodes {
		p := n.peers
		p.here.Store(&hearing{broker: n.Broker, journal: toldJournal(told)})
		if err := p.mark(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.running.Go(p.welcome)
	}
	session := Connect{Version: 5, ID: "away", Persistent: true, Props: Prop(SessionExpiry, 3600)}
	c.join(0, session).Leave()
	for _, node := range []int{0, 1, 0} {
		c.plain(node, "new").Leave()
		back := c.join(node, session)
		if !back.Connack.Present {
			t.Fatal("no session")
		}
		back.Leave()
	}
	select {
	case <-told:
		t.Error("told again to who has been nowhere else, or comes from a node that lives")
	default:
	}
	c.nodes[0].stop()
	moved := c.join(1, session)
	if !moved.Connack.Present {
		t.Fatal("no session")
	}
	select {
	case own := <-told:
		if !own {
			t.Error("what this node has published is left out")
		}
	case <-time.After(Patience):
		t.Error("not told again")
	}
	moved.Leave()
}

// toldJournal is a journal that says when it is recalled, and whether with what is the node's own.
type toldJournal chan bool

func (toldJournal) LastRecord(context.Context) (int64, error) { return 1, nil }

func (j toldJournal) Recall(_ context.Context, _ int64, own bool, _ func(context.Context, []iot.Record) error) (int64, error) {
	j <- own
	return 1, nil
}

// shortJournal notes after which positions it is recalled.
type shortJournal struct {
	last     int64
	recalled []int64
}

func (j *shortJournal) LastRecord(context.Context) (int64, error) { return j.last, nil }

func (j *shortJournal) Recall(_ context.Context, after int64, _ bool, _ func(context.Context, []iot.Record) error) (int64, error) {
	j.recalled = append(j.recalled, after)
	return j.last, nil
}

// TestEndedSessionIsNowhereElse: a client that has ended its session finds none at another node, however quick it is.
func TestEndedSessionIsNowhereElse(t *testing.T) {
	t.Parallel()
	c := startBrokers(t, 2)
	for i := range 40 {
		id := fmt.Sprint("x", i)
		first := c.join(0, persistent(id))
		first.Send(Disconnect(5, 0, Prop(SessionExpiry, 0)))
		first.Closed()
		if c.join(1, persistent(id)).Connack.Present {
			t.Fatalf("the session of %s is there", id)
		}
		<-c.nodes[0].ended
	}
}
