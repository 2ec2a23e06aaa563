package cluster

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"drover/internal/pki"
)

// said is a Handler that writes down what it is told, and echoes questions.
type said struct {
	mu     sync.Mutex
	all    []string
	missed int
	more   chan struct{} // something has come
	mute   bool          // questions get no answer
}

func newSaid() *said { return &said{more: make(chan struct{}, 1)} }

func (s *said) add(f func()) {
	s.mu.Lock()
	f()
	s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
}

func (s *said) Message(body []byte) { s.add(func() { s.all = append(s.all, string(body)) }) }

func (s *said) Control(from string, body []byte, answer func([]byte)) {
	s.add(func() { s.all = append(s.all, from+":"+string(body)) })
	if !s.mute {
		answer([]byte("yes " + string(body)))
	}
}

func (s *said) Missed() { s.add(func() { s.missed++ }) }

// until waits until what has been said is as wanted.
func (s *said) until(t *testing.T, what string, wanted func(all []string, missed int) bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		s.mu.Lock()
		all, missed := append([]string(nil), s.all...), s.missed
		s.mu.Unlock()
		if wanted(all, missed) {
			return
		}
		select {
		case <-s.more:
		case <-deadline:
			t.Fatalf("not %s: %q, missed %d", what, all, missed)
		}
	}
}

func (s *said) exactly(t *testing.T, want ...string) {
	t.Helper()
	s.until(t, fmt.Sprintf("exactly %q", want), func(all []string, _ int) bool { return len(all) >= len(want) })
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.Join(s.all, "\n") != strings.Join(want, "\n") {
		t.Fatalf("got %q, want %q", s.all, want)
	}
	s.all = nil
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for tick := time.NewTicker(5 * time.Millisecond); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("it never came that %s", what)
		}
	}
}

func logger(t testing.TB) *slog.Logger {
	if os.Getenv("DROVER_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// start starts a node that knows the others by the address of one.
func start(t testing.TB, name string, tls *tls.Config, h Handler, peer string) *Node {
	t.Helper()
	cfg := Config{Name: name, Embedded: Embedded{Listen: "127.0.0.1:0", TLS: tls}, Handler: h, Logger: logger(t),
		beat: 50 * time.Millisecond, away: 400 * time.Millisecond}
	if peer != "" {
		cfg.Peers = []string{peer}
	}
	n, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

// three starts three nodes that know each other.
func three(t testing.TB) (nodes [3]*Node, heard [3]*said) {
	shared := pki.Open(t.TempDir()).Nodes(time.Now)
	peer := ""
	for i := range nodes {
		heard[i] = newSaid()
		nodes[i] = start(t, fmt.Sprintf("n%d", i), shared, heard[i], peer)
		peer = nodes[0].Addr()
	}
	for _, n := range nodes {
		eventually(t, "all nodes are there", func() bool { return len(n.Peers()) == 2 })
	}
	return nodes, heard
}

func TestMessagesGoToWhoWantsThem(t *testing.T) {
	t.Parallel()
	n, heard := three(t)
	if !n[1].Want("$aws/things/x/jobs/#") || n[1].Want("$aws/things/x/shadow/+") {
		t.Error("the first filter of a thing is news, the second is not")
	}
	n[1].Want("$aws/things/+/jobs/notify") // overlaps: still one copy
	n[2].Want("#")
	n[1].Fence(t.Context())
	n[2].Fence(t.Context())
	if !n[0].Wanted("$aws/things/x/jobs/notify") || n[0].Wanted("$aws/events/job/1/completed") {
		t.Error("wanted are the topics that somebody wants")
	}
	n[0].Publish("$aws/things/x/jobs/notify", []byte("1"))
	n[0].Publish("$aws/events/job/1/completed", []byte("2"))
	if n[0].Want("$aws/rules/y/#"); n[2].Wanted("$aws/rules/z/x") {
		t.Error("nobody wants that")
	}
	eventually(t, "a node knows what it alone wants", func() bool { return !n[0].Wanted("$aws/rules/y/jobs") })
	n[1].Want("$aws/rules/y/jobs/get")
	n[1].Fence(t.Context())
	if !n[0].Wanted("$aws/rules/y/jobs/get") {
		t.Error("another node wants it, too")
	}
	n[0].Publish("plain topic/*/>", []byte("3"))
	n[0].Announce([]byte("4"))
	n[0].Fence(t.Context())
	heard[1].exactly(t, "1", "4")
	heard[2].exactly(t, "3", "4")
	heard[0].exactly(t)

	n[1].Unwant("$aws/things/+/jobs/notify")
	n[1].Unwant("$aws/things/x/jobs/#")
	n[1].Fence(t.Context())
	n[0].Publish("$aws/things/x/jobs/notify", []byte("5")) // by the other filter
	n[0].Fence(t.Context())
	n[1].Unwant("$aws/things/x/shadow/+")
	n[1].Fence(t.Context())
	n[0].Publish("$aws/things/x/jobs/notify", []byte("6"))
	n[0].Fence(t.Context())
	heard[1].exactly(t, "5")
}

func TestOrder(t *testing.T) {
	t.Parallel()
	n, heard := three(t)
	n[1].Want("a/#")
	n[1].Fence(t.Context())
	var want []string
	for i := range 300 {
		switch text := fmt.Sprint(i); i % 3 {
		case 0:
			n[0].Publish("a/"+text, []byte(text))
			want = append(want, text)
		case 1:
			n[0].Announce([]byte(text))
			want = append(want, text)
		case 2:
			n[0].Tell([]byte(text))
			want = append(want, "n0:"+text)
		}
	}
	n[0].Fence(t.Context())
	heard[1].exactly(t, want...)
}

func TestQuestions(t *testing.T) {
	t.Parallel()
	n, heard := three(t)
	answers, complete := n[0].Ask(t.Context(), []byte("?"))
	if len(answers) != 2 || !complete || string(answers[0].Body) != "yes ?" {
		t.Errorf("got %q, %v", answers, complete)
	}
	heard[2].mute = true
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		heard[2].until(t, "asked", func(all []string, _ int) bool { return len(all) == 2 })
		cancel()
	}()
	if answers, complete = n[0].Ask(ctx, []byte("!")); complete {
		t.Errorf("complete without the answer of one: %q", answers)
	}
	asked := make(chan bool)
	go func() {
		_, complete := n[0].Ask(t.Context(), []byte("!"))
		asked <- complete
	}()
	heard[2].until(t, "asked again", func(all []string, _ int) bool { return len(all) == 3 })
	n[2].Close() // who leaves is not waited for
	if !<-asked {
		t.Error("the one that left was waited for")
	}
	if peers := n[0].Peers(); len(peers) != 1 || n[0].Apart() {
		t.Errorf("peers are %q, apart %v", peers, n[0].Apart())
	}
}

// cut is a proxy that can be cut.
type cut struct {
	net.Listener
	to    string
	mu    sync.Mutex
	conns []net.Conn
	off   bool
}

func newCut(t *testing.T, to string) *cut {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cut{Listener: l, to: to}
	go c.serve()
	t.Cleanup(func() { c.set(true); _ = l.Close() })
	return c
}

func (c *cut) serve() {
	for {
		in, err := c.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", c.to)
		c.mu.Lock()
		if err != nil || c.off {
			_ = in.Close()
			if out != nil {
				_ = out.Close()
			}
			c.mu.Unlock()
			continue
		}
		c.conns = append(c.conns, in, out)
		c.mu.Unlock()
		go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
		go func() { _, _ = io.Copy(in, out); _ = in.Close() }()
	}
}

func (c *cut) set(off bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off = off
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
}

func TestWhoWasCutOffIsTold(t *testing.T) {
	t.Parallel()
	shared := pki.Open(t.TempDir()).Nodes(time.Now)
	heard := [2]*said{newSaid(), newSaid()}
	a := start(t, "a", shared, heard[0], "")
	// Both ways between the nodes lead through the proxy, because b tells of no address that
	// can be reached.
	proxy := newCut(t, a.Addr())
	b, err := Start(t.Context(), Config{Name: "b", Handler: heard[1], Logger: logger(t), beat: 50 * time.Millisecond, away: 400 * time.Millisecond,
		Embedded: Embedded{Listen: "127.0.0.1:0", TLS: shared, Peers: []string{proxy.Addr().String()}, Advertise: "127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	eventually(t, "both are there", func() bool { return len(a.Peers()) == 1 && len(b.Peers()) == 1 })
	// What a node told before it was there may be missed.
	before := func(s *said) int { s.mu.Lock(); defer s.mu.Unlock(); return s.missed }
	a.Fence(t.Context())
	b.Fence(t.Context())
	first := [2]int{before(heard[0]), before(heard[1])}
	proxy.set(true)
	a.Tell([]byte("lost"))
	eventually(t, "they are apart", func() bool { return a.Apart() && b.Apart() })
	heard[0].until(t, "told", func(_ []string, missed int) bool { return missed > first[0] })
	heard[1].until(t, "told", func(_ []string, missed int) bool { return missed > first[1] })
	if answers, complete := a.Ask(t.Context(), nil); len(answers) > 0 || complete {
		t.Errorf("who is away is not waited for: %q, %v", answers, complete)
	}
	second := [2]int{before(heard[0]), before(heard[1])}
	proxy.set(false)
	eventually(t, "they are together", func() bool { return !a.Apart() && !b.Apart() })
	heard[0].until(t, "told", func(_ []string, missed int) bool { return missed > second[0] })
	heard[1].until(t, "told", func(_ []string, missed int) bool { return missed > second[1] })
	b.Want("x")
	b.Fence(t.Context())
	a.Publish("x", []byte("again"))
	heard[1].exactly(t, "again")
	proxy.set(true)
	eventually(t, "they are apart", func() bool { return a.Apart() && b.Apart() })
	a.Forget(func(name string) bool { return name == "b" })
	if a.Apart() {
		t.Error("a node that is gone for good is out of touch")
	}
}

// TestOnlyNodesAreLetIn: a device, a server and a stranger have certificates, too.
func TestOnlyNodesAreLetIn(t *testing.T) {
	t.Parallel()
	authority := pki.Open(t.TempDir())
	a := start(t, "a", authority.Nodes(time.Now), newSaid(), "")
	try := func(what string, cfg *tls.Config, welcome bool) {
		t.Helper()
		conn, err := net.Dial("tcp", a.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		client := tls.Client(conn, cfg)
		err = client.HandshakeContext(t.Context())
		if err == nil { // with TLS 1.3 the refusal comes after it
			_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
			_, err = client.Read(make([]byte, 4096))
		}
		if welcome != (err == nil) {
			t.Errorf("%s: %v", what, err)
		}
	}
	showing := func(c *tls.Certificate) *tls.Config {
		return &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{*c}}
	}
	try("a node", authority.Nodes(time.Now), true)
	try("nobody", &tls.Config{InsecureSkipVerify: true}, false)
	named, err := authority.IssueServer([]string{"node.drover.internal"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	try("a server", showing(named), false)
	device, keys, err := authority.IssueDevice(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	shown, err := tls.X509KeyPair([]byte(pki.Encode(device.Certificate)), []byte(keys.Private))
	if err != nil {
		t.Fatal(err)
	}
	try("a device", showing(&shown), false)
	try("a node of another authority", pki.Open(t.TempDir()).Nodes(time.Now), false)
	if err := authority.Rotate(time.Now()); err != nil {
		t.Fatal(err)
	}
	try("a node after a rotation", authority.Nodes(time.Now), true)
}

func TestExternalNATS(t *testing.T) {
	t.Parallel()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true, Username: "u", Password: "p"})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(s.Shutdown)
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("NATS does not start")
	}
	url := func(password string) string { return fmt.Sprintf("nats://u:%s@%s", password, s.Addr()) }
	var heard [2]*said
	var n [2]*Node
	for i := range n {
		heard[i] = newSaid()
		n[i], err = Start(t.Context(), Config{Name: fmt.Sprint(i), Handler: heard[i], External: External{URL: url("p")}, beat: 50 * time.Millisecond, Logger: logger(t)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(n[i].Close)
	}
	eventually(t, "both are there", func() bool { return len(n[0].Peers()) == 1 && len(n[1].Peers()) == 1 })
	n[1].Want("a/+")
	n[1].Want("a/b")
	n[1].Fence(t.Context())
	n[0].Publish("a/b", []byte("1"))
	heard[1].exactly(t, "1")
	if _, err := Start(t.Context(), Config{Name: "x", Handler: newSaid(), External: External{URL: url("wrong")}}); err == nil || strings.Contains(err.Error(), "wrong") {
		t.Errorf("wrong password: %v", err)
	}
}

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]Config{
		"no handler":     {Name: "a", External: External{URL: "nats://127.0.0.1:1"}},
		"no name":        {Handler: newSaid(), External: External{URL: "nats://127.0.0.1:1"}},
		"name with dots": {Name: "a.b", Handler: newSaid(), External: External{URL: "nats://127.0.0.1:1"}},
		"nothing":        {Name: "a", Handler: newSaid()},
		"both":           {Name: "a", Handler: newSaid(), Embedded: Embedded{Listen: "127.0.0.1:0"}, External: External{URL: "nats://127.0.0.1:1"}},
		"no TLS":         {Name: "a", Handler: newSaid(), Embedded: Embedded{Listen: "127.0.0.1:0"}},
		"no trust":       {Name: "a", Handler: newSaid(), Embedded: Embedded{Listen: "127.0.0.1:0", TLS: &tls.Config{InsecureSkipVerify: true}}},
		"no port":        {Name: "a", Handler: newSaid(), Embedded: Embedded{Listen: "127.0.0.1", TLS: new(tls.Config)}},
		"bad peer":       {Name: "a", Handler: newSaid(), Embedded: Embedded{Listen: "127.0.0.1:0", TLS: new(tls.Config), Peers: []string{"x"}}},
		"nobody there":   {Name: "a", Handler: newSaid(), External: External{URL: "nats://127.0.0.1:1"}},
	} {
		if n, err := Start(t.Context(), cfg); err == nil {
			n.Close()
			t.Errorf("%s: started", name)
		}
	}
}
