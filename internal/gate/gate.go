// Package gate is the doors of the server that speak TLS. A Gate performs the handshakes of one
// address, asks for client certificates where a protocol needs them, and hands each connection
// to who speaks its protocol, which the client names by ALPN (identity spec §1.3).
//
//	accept ── half open ── ClientHello: server name, ALPN ── handshake ── certificate ── Conn
//	             │                    │                         │            │
//	     the oldest makes room   unrecognized_name,        bad_certificate   closed: registered
//	     when there are many     no_application_protocol                     just now, or changed
//
// Nobody waits for anybody: each connection has a goroutine until its handshake has ended, and a
// limited time for it.
package gate

import (
	"cmp"
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"drover/internal/auth"
	"drover/internal/iot"
	"drover/internal/pki"
)

// The protocols that a client can name (identity spec §1.3).
const (
	MQTTCertificate = "x-amzn-mqtt-ca" // MQTT, the client has a certificate
	MQTTPassword    = "mqtt"           // MQTT, it shows who it is by what it sends
	HTTPCertificate = "x-amzn-http-ca" // HTTPS for devices that have a certificate
	HTTP            = "http/1.1"
)

// Route is what becomes of connections of a protocol.
type Route struct {
	Certificate bool      // the client must show one
	To          *Listener // who gets the connection
}

// Config says what a Gate does. Routes and Certificates are required, and Devices for routes
// that need a certificate.
type Config struct {
	// Routes is by the protocol that the client names; "", which must be there, is for clients
	// that name none. If it is the only route, names that clients send all the same are ignored.
	Routes       map[string]Route
	Certificates Certificates
	Devices      *auth.Devices
	RequireName  bool // refuse clients that do not name the server

	Handshake time.Duration // how long a client may take; default 10 s
	HalfOpen  int           // how many handshakes at once; the oldest makes room for the next. Default 2,000
	// Failures bounds who fails: turned away is before the handshake.
	Failures *auth.Failures

	Metrics *Metrics     // nil: nothing is counted
	Logger  *slog.Logger // nil = slog.Default()
}

// Metrics counts handshakes, of all gates of a server.
type Metrics struct {
	ended    *prometheus.CounterVec // by result
	halfOpen prometheus.Gauge
}

// The results of handshakes.
const (
	done       = "done"
	failed     = "failed"  // by the client, or it took too long
	refused    = "refused" // for its certificate
	introduced = "introduced"
	crowded    = "crowded_out"
	turnedAway = "turned_away"
)

// NewMetrics registers the metrics of gates.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "drover_tls_handshakes_total", Help: "TLS handshakes that have ended, by result.",
		}, []string{"result"}),
		halfOpen: prometheus.NewGauge(prometheus.GaugeOpts{Name: "drover_tls_half_open", Help: "TLS handshakes that are going on."}),
	}
	reg.MustRegister(m.ended, m.halfOpen)
	for _, result := range []string{done, failed, refused, introduced, crowded, turnedAway} {
		m.ended.WithLabelValues(result)
	}
	return m
}

// Certificates is what a server shows.
type Certificates interface {
	// Certificate returns the current certificate. Its Leaf is set.
	Certificate() (*tls.Certificate, error)
}

// Gate performs the handshakes of an address.
type Gate struct {
	cfg     Config
	hello   *tls.Config            // until the client has said what it wants
	configs map[string]*tls.Config // by protocol

	handshakes sync.WaitGroup
	live       *Live
	mu         sync.Mutex
	halfOpen   *list.List         // of knock, the oldest first
	sources    map[netip.Addr]int // how many of them are from where
	closed     bool
}

// knock is a connection whose handshake is going on.
type knock struct {
	net.Conn
	from netip.Addr // invalid if it is not known without waiting
}

// New returns a Gate. Connections that are through are noted in live until they end.
func New(cfg Config, live *Live) *Gate {
	cfg.Handshake = cmp.Or(cfg.Handshake, 10*time.Second)
	cfg.HalfOpen = cmp.Or(cfg.HalfOpen, 2000)
	cfg.Logger = cmp.Or(cfg.Logger, slog.Default())
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(prometheus.NewRegistry())
	}
	g := &Gate{cfg: cfg, configs: make(map[string]*tls.Config), live: live, halfOpen: list.New(), sources: make(map[netip.Addr]int)}
	g.hello = &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: g.route}
	for protocol, route := range cfg.Routes {
		g.configs[protocol] = g.config(protocol, route)
	}
	return g
}

// suites are those of TLS 1.2; those of 1.3 are Go's (identity spec §1.4).
var suites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// config is what a handshake for a protocol goes by.
func (g *Gate) config(protocol string, route Route) *tls.Config {
	c := &tls.Config{
		MinVersion:             tls.VersionTLS12,
		CipherSuites:           suites,
		SessionTicketsDisabled: true, // as with AWS; a resumed session would show an old certificate
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return g.cfg.Certificates.Certificate()
		},
	}
	if protocol != "" {
		c.NextProtos = []string{protocol}
	}
	if route.Certificate {
		// Any issuer will do: a registered certificate is known by itself. Who it is and whether
		// it may come in is decided by Devices.
		c.ClientAuth = tls.RequireAnyClientCert
		c.VerifyConnection = func(state tls.ConnectionState) error {
			ctx, cancel := context.WithTimeout(context.Background(), g.cfg.Handshake)
			defer cancel()
			return g.cfg.Devices.Check(ctx, state)
		}
	}
	return c
}

// nobody is for server names that are not ours: a handshake without a certificate ends with the
// alert unrecognized_name.
var nobody = &tls.Config{MinVersion: tls.VersionTLS12}

// route chooses by what the client says first.
func (g *Gate) route(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if hello.ServerName == "" && g.cfg.RequireName {
		return nobody, nil
	}
	if hello.ServerName != "" {
		cert, err := g.cfg.Certificates.Certificate()
		if err != nil {
			return nil, err
		}
		if cert.Leaf.VerifyHostname(hello.ServerName) != nil {
			return nobody, nil
		}
	}
	for _, name := range []string{MQTTCertificate, HTTPCertificate, MQTTPassword, HTTP} {
		if config := g.configs[name]; config != nil && slices.Contains(hello.SupportedProtos, name) {
			return config, nil
		}
	}
	if len(hello.SupportedProtos) > 0 && len(g.configs) > 1 {
		// None that we know: with one that the client did not name the handshake ends with the
		// alert no_application_protocol.
		c := g.configs[""].Clone()
		c.NextProtos = []string{HTTP}
		return c, nil
	}
	return g.configs[""], nil
}

// Serve accepts connections on l until it is closed, and returns when the last handshake has
// ended. It returns nil after Close, otherwise why l failed.
func (g *Gate) Serve(l net.Listener) error {
	defer g.handshakes.Wait()
	wait := 5 * time.Millisecond
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			wait = 5 * time.Millisecond
		case errors.Is(err, net.ErrClosed):
			return g.ended(err)
		default:
			// Out of file descriptors, or a connection that has gone: nothing that ends a server.
			g.cfg.Logger.Warn("connection not accepted", "addr", l.Addr(), "err", err, "retry", wait)
			time.Sleep(wait) // not for long, and nothing to do meanwhile
			wait = min(2*wait, time.Second)
			continue
		}
		place := g.enter(conn)
		if place == nil {
			continue
		}
		g.handshakes.Go(func() {
			from := address(conn) // may wait for what a proxy says
			if !g.cfg.Failures.May(auth.ByCertificate, from, "") {
				_ = conn.Close() // nothing has been said on it
				g.leave(place, turnedAway)
				return
			}
			c, to, result := g.shake(conn)
			if g.leave(place, result) && (result == failed || result == refused) {
				g.cfg.Failures.Failed(auth.ByCertificate, from)
			}
			if c != nil {
				to.hand(c)
			}
		})
	}
}

func (g *Gate) ended(err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil
	}
	return err
}

// Close ends the handshakes that are going on. The listener is closed by its owner, after.
func (g *Gate) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for e := g.halfOpen.Front(); e != nil; e = e.Next() {
		_ = e.Value.(knock).Close() // its handshake tells
	}
}

// enter notes a connection as half open. It returns nil if there is no Gate any more.
func (g *Gate) enter(conn net.Conn) *list.Element {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		_ = conn.Close() // nothing has been said on it
		return nil
	}
	k := knock{Conn: conn}
	if _, direct := conn.(*net.TCPConn); direct {
		k.from = address(conn)
	}
	for g.halfOpen.Len() >= g.cfg.HalfOpen {
		// A client that means it is through in a moment: the oldest is the one to give up. Whoever
		// has opened many makes room for himself.
		victim := g.halfOpen.Front()
		if g.sources[k.from] > g.cfg.HalfOpen/8 {
			for victim.Value.(knock).from != k.from {
				victim = victim.Next()
			}
		}
		_ = victim.Value.(knock).Close() // its handshake tells
		g.remove(victim, crowded)
	}
	g.cfg.Metrics.halfOpen.Inc()
	g.sources[k.from]++
	return g.halfOpen.PushBack(k)
}

// leave takes a connection out of the half open ones. It reports false if that had to make room.
func (g *Gate) leave(place *list.Element, result string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.remove(place, result)
}

// remove takes an element out, if it is in, which it reports, and counts how its handshake ended.
func (g *Gate) remove(place *list.Element, result string) bool {
	before := g.halfOpen.Len()
	g.halfOpen.Remove(place)
	if g.halfOpen.Len() == before {
		return false
	}
	from := place.Value.(knock).from
	if g.sources[from]--; g.sources[from] == 0 {
		delete(g.sources, from)
	}
	g.cfg.Metrics.halfOpen.Dec()
	g.cfg.Metrics.ended.WithLabelValues(result).Inc()
	return true
}

// address returns that of the other end.
func address(conn net.Conn) netip.Addr {
	a, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr()
}

// shake performs a handshake. It returns nil if nothing came of it, and how it ended.
func (g *Gate) shake(raw net.Conn) (_ *Conn, _ *Listener, result string) {
	ctx, cancel := context.WithTimeout(context.Background(), g.cfg.Handshake)
	defer cancel()
	conn := tls.Server(raw, g.hello)
	if err := conn.HandshakeContext(ctx); err != nil {
		g.cfg.Logger.Debug("handshake failed", "remote", raw.RemoteAddr(), "err", err)
		_ = raw.Close() // the failure has been told
		if errors.Is(err, auth.ErrRefused) {
			return nil, nil, refused
		}
		return nil, nil, failed
	}
	state := conn.ConnectionState()
	route := g.cfg.Routes[state.NegotiatedProtocol] // what was agreed on is one of them
	c := &Conn{Conn: conn, live: g.live}
	if route.Certificate {
		if err := g.admit(ctx, c, state); err != nil {
			g.cfg.Logger.Debug("client refused", "remote", raw.RemoteAddr(), "err", err)
			_ = c.Close() // the refusal has been told
			if errors.Is(err, auth.ErrIntroduced) {
				return nil, nil, introduced
			}
			return nil, nil, refused
		}
	}
	return c, route.To, done
}

// admit finds out who is at the other end. The connection is noted first: a certificate that
// changes at this moment is found either here or there.
func (g *Gate) admit(ctx context.Context, c *Conn, state tls.ConnectionState) error {
	c.certificate = state.PeerCertificates[0]
	c.id = pki.ID(c.certificate)
	g.live.add(c)
	h, err := g.cfg.Devices.Admit(ctx, state)
	if err == nil {
		g.live.until(c, h.NotAfter)
	}
	return err
}

// Live is the connections of clients that showed a certificate. None outlives it.
type Live struct {
	mu    sync.Mutex
	conns map[iot.CertificateID]map[*Conn]struct{}
	next  iot.Time // no certificate of a connection ends before
}

const never iot.Time = math.MaxInt64

// NewLive returns a Live without connections.
func NewLive() *Live {
	return &Live{conns: make(map[iot.CertificateID]map[*Conn]struct{}), next: never}
}

func (l *Live) add(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns[c.id] == nil {
		l.conns[c.id] = make(map[*Conn]struct{}, 1)
	}
	l.conns[c.id][c] = struct{}{}
}

func (l *Live) remove(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns[c.id], c)
	if len(l.conns[c.id]) == 0 {
		delete(l.conns, c.id)
	}
}

// until notes when the certificate of a connection ends, or the claim that it is.
func (l *Live) until(c *Conn, end iot.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.end = end
	l.next = min(l.next, end)
}

// Expire ends the connections whose certificates are past their end. Nearly always it only looks at
// one number, so that it can be called often.
func (l *Live) Expire(now iot.Time) {
	l.mu.Lock()
	var ended []*Conn
	if now > l.next {
		l.next = never
		for _, conns := range l.conns {
			for c := range conns {
				switch {
				case c.end == 0: // not known yet
				case now > c.end:
					ended = append(ended, c)
				default:
					l.next = min(l.next, c.end)
				}
			}
		}
	}
	l.mu.Unlock()
	for _, c := range ended {
		c.drop()
	}
}

// Drop ends the connections of a certificate. It does not wait.
func (l *Live) Drop(id iot.CertificateID) {
	l.mu.Lock()
	conns := make([]*Conn, 0, len(l.conns[id]))
	for c := range l.conns[id] {
		conns = append(conns, c)
	}
	l.mu.Unlock()
	for _, c := range conns {
		c.drop()
	}
}
