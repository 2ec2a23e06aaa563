package gate

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"drover/internal/auth"
	"drover/internal/iot"
	"drover/internal/pki"
)

const patience = 20 * time.Second

var discard = slog.New(slog.DiscardHandler)

// registry is one that knows every certificate, with the status that it is told.
type registry struct {
	mu     sync.Mutex
	status map[iot.CertificateID]iot.CertificateStatus
	claim  time.Duration // what is left of the claim that every certificate is; 0: they are none
}

func (r *registry) Holder(_ context.Context, id iot.CertificateID) (*iot.Holder, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	status := r.status[id]
	if status == "" {
		status = iot.CertificateActive
	}
	if r.claim > 0 {
		return &iot.Holder{ID: id, Status: status, NotAfter: iot.At(time.Now().Add(r.claim)), Claim: "template"}, nil
	}
	return &iot.Holder{ID: id, Status: status, NotAfter: iot.At(pki.Expiry)}, nil
}

func (r *registry) Introducible(context.Context, *x509.Certificate) error { return errors.New("no") }
func (r *registry) Introduce(context.Context, *x509.Certificate) error    { return errors.New("no") }

func (r *registry) set(id iot.CertificateID, status iot.CertificateStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status[id] = status
}

// rig is a gate at work.
type rig struct {
	testing.TB
	gate      *Gate
	metrics   *prometheus.Registry
	devices   *auth.Devices
	registry  *registry
	live      *Live
	authority *pki.Authority
	to        *Listener
	addr      string
	client    tls.Certificate
}

func newRig(t testing.TB, change func(*Config)) *rig {
	t.Helper()
	r := &rig{TB: t, authority: pki.Open(t.TempDir()), to: NewListener(), live: NewLive(), metrics: prometheus.NewRegistry(),
		registry: &registry{status: make(map[iot.CertificateID]iot.CertificateStatus)}}
	made, err := Make(r.authority, []string{"drover.test", "127.0.0.1"}, time.Now)
	r.must(err)
	r.devices = auth.NewDevices(auth.DevicesConfig{Certificates: r.registry, Logger: discard, Gone: r.live.Drop})
	cfg := Config{Routes: map[string]Route{"": {Certificate: true, To: r.to}}, Certificates: made, Devices: r.devices, Metrics: NewMetrics(r.metrics), Logger: discard}
	if change != nil {
		change(&cfg)
	}
	r.gate = New(cfg, r.live)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	r.must(err)
	r.addr = l.Addr().String()
	ended := make(chan error, 1)
	go func() { ended <- r.gate.Serve(l) }()
	t.Cleanup(func() {
		r.gate.Close()
		r.must(l.Close())
		r.must(r.to.Close())
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	r.must(err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	r.must(err)
	csr, err := pki.ParseRequest(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})))
	r.must(err)
	issued, err := r.authority.SignDevice(csr, time.Now())
	r.must(err)
	r.client = tls.Certificate{Certificate: [][]byte{issued.Certificate.Raw}, PrivateKey: key, Leaf: issued.Certificate}
	return r
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) config() *tls.Config {
	roots, err := r.authority.Roots(false, time.Now())
	r.must(err)
	pool := x509.NewCertPool()
	for _, root := range roots {
		pool.AddCert(root)
	}
	return &tls.Config{RootCAs: pool, ServerName: "drover.test", Certificates: []tls.Certificate{r.client}}
}

func (r *rig) accept() *Conn {
	r.Helper()
	conn, err := r.to.Accept()
	r.must(err)
	return conn.(*Conn)
}

// count returns how many handshakes ended so.
func (r *rig) count(result string) float64 {
	r.Helper()
	families, err := r.metrics.Gather()
	r.must(err)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			for _, label := range m.GetLabel() {
				if family.GetName() == "drover_tls_handshakes_total" && label.GetValue() == result {
					return m.GetCounter().GetValue()
				}
			}
		}
	}
	r.Fatalf("%s is not counted", result)
	return 0
}

// connect returns both ends of a connection.
func (r *rig) connect(cfg *tls.Config) (client *tls.Conn, server *Conn) {
	r.Helper()
	client, err := tls.Dial("tcp", r.addr, cfg)
	r.must(err)
	return client, r.accept()
}

// closed waits until the other end has closed the connection.
func closed(t testing.TB, conn net.Conn) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	_, err := io.Copy(io.Discard, conn)
	if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		t.Error("not closed")
	}
}

func TestGateKnowsTheCertificate(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	client, server := r.connect(r.config())
	if want := pki.ID(r.client.Leaf); server.CertificateID() != want || !server.Certificate().Equal(r.client.Leaf) {
		t.Errorf("id %s, want %s", server.CertificateID(), want)
	}
	if server.TLS().Version != tls.VersionTLS13 {
		t.Errorf("version %x", server.TLS().Version)
	}
	r.must(client.Close())
	r.must(server.Close())
	if len(r.live.conns) != 0 {
		t.Errorf("connections that are closed are remembered: %v", r.live.conns)
	}
}

func TestGateSilentClientIsClosed(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.Handshake = 50 * time.Millisecond })
	silent, err := net.Dial("tcp", r.addr)
	r.must(err)
	closed(t, silent)
	// One byte at a time is no better.
	slow, err := net.Dial("tcp", r.addr)
	r.must(err)
	_, err = slow.Write([]byte{0x16})
	r.must(err)
	closed(t, slow)
	r.must(errors.Join(silent.Close(), slow.Close()))
}

// TestGateHalfOpen: whoever opens connections and says nothing does not keep others out, and
// costs a bounded number of handshakes.
func TestGateHalfOpen(t *testing.T) {
	t.Parallel()
	const bound = 20
	r := newRig(t, func(c *Config) { c.HalfOpen, c.Handshake = bound, time.Hour })
	var silent []net.Conn
	for range 10 * bound {
		conn, err := net.Dial("tcp", r.addr)
		r.must(err)
		silent = append(silent, conn)
	}
	client, server := r.connect(r.config())
	r.must(errors.Join(client.Close(), server.Close()))
	for _, conn := range silent[:9*bound] {
		closed(t, conn)
	}
	r.gate.mu.Lock()
	open := r.gate.halfOpen.Len()
	r.gate.mu.Unlock()
	if open > bound {
		t.Errorf("%d half open; the bound is %d", open, bound)
	}
	for _, conn := range silent {
		r.must(conn.Close())
	}
	if through, pushed := r.count(done), r.count(crowded); through > 1 || pushed < 9*bound {
		t.Errorf("counted: %v done, %v crowded out", through, pushed)
	}
}

// TestGateManyOfOneSource: who opens many makes room for himself, and not at the cost of others.
func TestGateManyOfOneSource(t *testing.T) {
	t.Parallel()
	const bound = 16
	r := newRig(t, func(c *Config) { c.HalfOpen, c.Handshake = bound, time.Hour })
	from := func(address string) net.Conn {
		t.Helper()
		conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}).Dial("tcp", r.addr)
		r.must(err)
		return conn
	}
	entered := func(n int) {
		t.Helper()
		for deadline := time.Now().Add(patience); ; {
			r.gate.mu.Lock()
			open := r.gate.halfOpen.Len()
			r.gate.mu.Unlock()
			if open == n {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d half open, want %d", open, n)
			}
			<-time.After(time.Millisecond)
		}
	}
	slow := from("127.0.0.3") // it is the oldest
	entered(1)
	var many []net.Conn
	for range 5 * bound {
		many = append(many, from("127.0.0.2"))
	}
	for _, conn := range many[:4*bound+1] {
		closed(t, conn)
	}
	entered(bound)
	client := tls.Client(slow, r.config())
	r.must(client.HandshakeContext(t.Context()))
	server := r.accept()
	r.must(errors.Join(client.Close(), server.Close()))
	for _, conn := range many {
		r.must(conn.Close())
	}
}

// elsewhere accepts connections as from an address that is not of this machine.
type elsewhere struct{ net.Listener }

func (l elsewhere) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return remote{conn}, err
}

type remote struct{ net.Conn }

func (remote) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 4711} }

// TestGateTurnsAwayWhoFails: who has failed too often is closed before the handshake, for a while.
func TestGateTurnsAwayWhoFails(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var clock sync.Mutex
	failures := prometheus.NewRegistry()
	r := newRig(t, func(c *Config) {
		c.Failures = auth.NewFailures(1, func() time.Time { clock.Lock(); defer clock.Unlock(); return now }, failures)
	})
	// noted counts what attempts have led to, two things each, after the client knows.
	noted := func() (n float64) {
		families, err := failures.Gather()
		r.must(err)
		for _, family := range families {
			for _, m := range family.GetMetric() {
				n += m.GetCounter().GetValue()
			}
		}
		return n + r.count(refused) + r.count(turnedAway)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	r.must(err)
	r.addr = l.Addr().String()
	ended := make(chan error, 1)
	go func() { ended <- r.gate.Serve(elsewhere{l}) }()
	id := pki.ID(r.client.Leaf)
	r.registry.set(id, iot.CertificateRevoked)
	attempts := func(n int) {
		t.Helper()
		for range n {
			before := noted()
			conn, err := tls.Dial("tcp", r.addr, r.config())
			if err == nil {
				closed(t, conn)
				r.must(conn.Close())
			}
			for deadline := time.Now().Add(patience); noted() < before+2; {
				if time.Now().After(deadline) {
					t.Fatal("an attempt had no consequence")
				}
				runtime.Gosched()
			}
		}
	}
	attempts(30)
	if failed, away := r.count(refused), r.count(turnedAway); failed != 10 || away != 20 {
		t.Errorf("%v refused, %v turned away", failed, away)
	}
	r.registry.set(id, iot.CertificateActive)
	r.devices.CertificateChanged(id, true)
	attempts(1)
	if away := r.count(turnedAway); away != 21 {
		t.Errorf("%v turned away", away)
	}
	clock.Lock()
	now = now.Add(2 * time.Second)
	clock.Unlock()
	client, server := r.connect(r.config())
	r.gate.Close()
	r.must(errors.Join(client.Close(), server.Close(), l.Close(), <-ended))
}

func TestGateDropsWhatIsNoGoodAnyMore(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	id := pki.ID(r.client.Leaf)
	change := func(status iot.CertificateStatus) {
		r.registry.set(id, status)
		r.devices.CertificateChanged(id, status == iot.CertificateActive)
	}
	client, server := r.connect(r.config())
	other, otherServer := r.connect(r.config())
	told := make(chan struct{})
	otherServer.OnDrop(func() { close(told) })
	change(iot.CertificateInactive)
	closed(t, client)
	<-told
	if _, err := server.Read(make([]byte, 1)); err == nil {
		t.Error("the server can read")
	}
	late := make(chan struct{})
	server.OnDrop(func() { close(late) }) // who asks late is told at once
	<-late
	r.must(otherServer.Close())
	_ = errors.Join(client.Close(), server.Close(), other.Close()) // sockets that are closed already

	again, err := tls.Dial("tcp", r.addr, r.config())
	if err == nil { // in TLS 1.3 the client has done its part when the server refuses
		closed(t, again)
		r.must(again.Close())
	}
	for r.count(refused) == 0 {
		runtime.Gosched() // the client may know before it is counted
	}
	change(iot.CertificateActive)
	client, server = r.connect(r.config())
	r.must(errors.Join(client.Close(), server.Close()))
}

// TestGateEndsWithTheCertificate: a connection ends when its certificate does, or its claim, and no other.
func TestGateEndsWithTheCertificate(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	forGood, forGoodServer := r.connect(r.config())
	id := pki.ID(r.client.Leaf)
	r.registry.claim = time.Minute
	r.devices.CertificateChanged(id, true)
	client, server := r.connect(r.config())
	now := time.Now()
	r.live.Expire(iot.At(now))
	r.live.Expire(iot.At(now.Add(30 * time.Second)))
	if server.dropped {
		t.Error("ended too early")
	}
	r.live.Expire(iot.At(now.Add(2 * time.Minute)))
	closed(t, client)
	if forGoodServer.dropped {
		t.Error("another connection has ended")
	}
	if want := iot.At(pki.Expiry); r.live.next != want {
		t.Errorf("the next one ends at %d, want %d", r.live.next, want)
	}
	_ = errors.Join(client.Close(), server.Close(), forGood.Close(), forGoodServer.Close()) // of which some are closed already
}

func TestGateSocketIsForgotten(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	client, server := r.connect(r.config())
	r.must(server.NetConn().Close())
	closed(t, client)
	r.live.mu.Lock()
	defer r.live.mu.Unlock()
	if len(r.live.conns) != 0 {
		t.Errorf("%d are remembered", len(r.live.conns))
	}
	_ = client.Close() // closed already
}

func TestGateProtocols(t *testing.T) {
	t.Parallel()
	api := NewListener()
	t.Cleanup(func() { _ = api.Close() })
	r := newRig(t, func(c *Config) {
		c.Routes = map[string]Route{MQTTCertificate: c.Routes[""], HTTP: {To: api}, "": {To: api}}
	})
	for name, want := range map[string]struct {
		offered    []string
		negotiated string
		api        bool
		alert      string
	}{
		"none":              {nil, "", true, ""},
		"HTTP":              {[]string{"h2", HTTP}, HTTP, true, ""},
		"MQTT":              {[]string{MQTTCertificate}, MQTTCertificate, false, ""},
		"MQTT before HTTP":  {[]string{HTTP, MQTTCertificate}, MQTTCertificate, false, ""},
		"unknown":           {[]string{"spdy"}, "", false, "no application protocol"},
		"HTTP/2 alone":      {[]string{"h2"}, "", false, "no application protocol"},
		"nobody can say it": {[]string{MQTTPassword}, "", false, "no application protocol"},
	} {
		cfg := r.config()
		cfg.NextProtos = want.offered
		client, err := tls.Dial("tcp", r.addr, cfg)
		if want.alert != "" {
			if err == nil || !strings.Contains(err.Error(), want.alert) {
				t.Errorf("%s: %v, want %q", name, err, want.alert)
			}
			continue
		}
		r.must(err)
		from := r.to
		if want.api {
			from = api
		}
		server, err := from.Accept()
		r.must(err)
		if got := client.ConnectionState().NegotiatedProtocol; got != want.negotiated {
			t.Errorf("%s: negotiated %q, want %q", name, got, want.negotiated)
		}
		if got := server.(*Conn).CertificateID() != ""; got == want.api {
			t.Errorf("%s: a certificate was asked for: %v", name, got)
		}
		r.must(errors.Join(client.Close(), server.Close()))
	}
}

func TestMadeIsMadeAnew(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	authority := pki.Open(dir)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	made, err := Make(authority, []string{"drover.test"}, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	serial := func() string {
		c, err := made.Certificate()
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf.SerialNumber.String()
	}
	first := serial()
	now = now.Add(pki.ServerLifetime / 3)
	if serial() != first {
		t.Error("made anew with most of its life before it")
	}
	now = now.Add(pki.ServerLifetime / 2)
	second := serial()
	if second == first {
		t.Error("not made anew towards its end")
	}
	if err := pki.Open(dir).Rotate(now); err != nil { // another process
		t.Fatal(err)
	}
	now = now.Add(lookAgain)
	if serial() == second {
		t.Error("not made anew with another root")
	}
	if c, err := made.Certificate(); err != nil || len(c.Certificate) != 2 {
		t.Errorf("the link to the old root is not sent: %v", err)
	}
}

func TestFilesAreReadAgain(t *testing.T) {
	t.Parallel()
	authority, dir := pki.Open(t.TempDir()), t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write := func(name string) {
		t.Helper()
		c, err := authority.IssueServer([]string{name}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		for path, block := range map[string]*pem.Block{
			cert: {Type: "CERTIFICATE", Bytes: c.Certificate[0]},
			key:  {Type: "PRIVATE KEY", Bytes: der},
		} {
			if err := errors.Join(os.WriteFile(path+".new", pem.EncodeToMemory(block), 0o600), os.Rename(path+".new", path)); err != nil {
				t.Fatal(err)
			}
		}
	}
	name := func(f *Files) string {
		t.Helper()
		f.looked = time.Time{} // as if a second had passed
		c, err := f.Certificate()
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf.DNSNames[0]
	}
	if _, err := LoadFiles(cert, key, discard); err == nil {
		t.Error("files that are not there")
	}
	write("one.test")
	f, err := LoadFiles(cert, key, discard)
	if err != nil {
		t.Fatal(err)
	}
	if got := name(f); got != "one.test" {
		t.Errorf("shows %s", got)
	}
	write("two.test")
	if got := name(f); got != "two.test" {
		t.Errorf("shows %s after a change", got)
	}
	if err := os.WriteFile(cert, []byte("half of it"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := name(f); got != "two.test" {
		t.Errorf("shows %s while the file is broken", got)
	}
	write("three.test")
	if got := name(f); got != "three.test" {
		t.Errorf("shows %s after the repair", got)
	}
}

// BenchmarkHandshake is a handshake of both ends, with the certificate of a client that is
// looked up, in both versions of TLS.
func BenchmarkHandshake(b *testing.B) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		b.Run(tls.VersionName(version), func(b *testing.B) {
			r := newRig(b, nil)
			cfg := r.config()
			cfg.MinVersion, cfg.MaxVersion = version, version
			for b.Loop() {
				client, server := r.connect(cfg)
				r.must(errors.Join(client.Close(), server.Close()))
			}
		})
	}
}

// BenchmarkRefused is what a refused certificate costs.
func BenchmarkRefused(b *testing.B) {
	r := newRig(b, nil)
	r.registry.set(pki.ID(r.client.Leaf), iot.CertificateRevoked)
	cfg := r.config()
	for b.Loop() {
		if client, err := tls.Dial("tcp", r.addr, cfg); err == nil {
			closed(b, client)
			r.must(client.Close())
		}
	}
}

// BenchmarkIdle reports what an idle connection with a client certificate holds, both ends being
// in this process: the client's half is measured against a connection that only it remembers.
func BenchmarkIdle(b *testing.B) {
	const n = 500
	r := newRig(b, nil)
	cfg := r.config()
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for b.Loop() {
		before := heap()
		clients, servers := make([]*tls.Conn, n), make([]*Conn, n)
		for i := range n {
			clients[i], servers[i] = r.connect(cfg)
		}
		both := heap()
		for i := range n {
			// The sockets stay; the client's half of TLS goes.
			r.must(clients[i].NetConn().Close())
			clients[i] = nil
		}
		server := heap()
		b.ReportMetric(float64(both-before)/n, "B/both")
		b.ReportMetric(float64(server-before)/n, "B/server")
		for _, s := range servers {
			_ = s.Close() // its client has gone
		}
	}
}
