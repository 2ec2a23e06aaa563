package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"drover/internal/auth"
	"drover/internal/authorizer"
	"drover/internal/gate"
	"drover/internal/iot"
	"drover/internal/pki"
	"drover/internal/wire"
)

// tlsSide is what a server has for its listeners with TLS.
type tlsSide struct {
	cfg          *serveConfig
	log          *slog.Logger
	certificates gate.Certificates
	name         string // by which clients know the server

	holders  *auth.Devices
	live     *gate.Live
	metrics  *gate.Metrics
	failures *auth.Failures
	// Where connections come out after their handshakes.
	api, mqtt, devices *gate.Listener

	gates        []*gate.Gate
	stopExpiring func()
	running      sync.WaitGroup // of gates
}

func newTLSSide(cfg *serveConfig, authority *pki.Authority, log *slog.Logger) (*tlsSide, error) {
	t := &tlsSide{cfg: cfg, log: log, api: gate.NewListener(), mqtt: gate.NewListener(), devices: gate.NewListener()}
	names := serverNames(cfg.TLSName)
	t.name = names[0]
	var err error
	if cfg.TLS {
		t.certificates, err = gate.Make(authority, names, machineTime) // whatever a clock for tests shows: clients go by their own
	} else {
		t.certificates, err = gate.LoadFiles(cfg.TLSCert, cfg.TLSKey, log)
	}
	return t, err
}

// serverNames returns the names that a server may be known by: those given, then those of the
// machine.
func serverNames(given []string) []string {
	names := slices.Clone(given)
	if host, err := os.Hostname(); err == nil && host != "" {
		names = append(names, host)
	}
	names = append(names, "localhost", "127.0.0.1", "::1")
	if addrs, err := net.InterfaceAddrs(); err == nil { // without them it goes by its names
		for _, a := range addrs {
			if ip, ok := a.(*net.IPNet); ok && !ip.IP.IsLoopback() && !ip.IP.IsLinkLocalUnicast() {
				names = append(names, ip.IP.String())
			}
		}
	}
	seen := make(map[string]bool)
	return slices.DeleteFunc(names, func(n string) bool {
		twice := seen[n]
		seen[n] = true
		return twice
	})
}

// routes says what is spoken behind a door (identity spec §1.3). Who comes to the broker without a
// certificate is the custom authorizers' matter.
func (t *tlsSide) routes(speaks protocol) map[string]gate.Route {
	api := gate.Route{To: t.api}
	mqtt := gate.Route{To: t.mqtt, Certificate: true}
	devices := gate.Route{To: t.devices, Certificate: true}
	switch speaks {
	case tlsMQTT:
		return map[string]gate.Route{"": mqtt}
	case tlsDevices:
		return map[string]gate.Route{"": devices}
	case tlsByALPN:
		return map[string]gate.Route{gate.MQTTCertificate: mqtt, gate.MQTTPassword: {To: t.mqtt}, gate.HTTPCertificate: devices, gate.HTTP: api, "": api}
	}
	return map[string]gate.Route{"": api}
}

// serve runs a gate on a door.
func (t *tlsSide) serve(d door, run func(net.Addr, func() error)) {
	g := gate.New(gate.Config{
		Routes: t.routes(d.speaks), Certificates: t.certificates, Devices: t.holders, RequireName: t.cfg.RequireSNI,
		Failures: t.failures, Metrics: t.metrics, Logger: t.log,
	}, t.live)
	t.gates = append(t.gates, g)
	t.running.Add(1)
	run(d.Addr(), func() error {
		defer t.running.Done()
		return g.Serve(d)
	})
}

// expireEvery is how long a connection may outlive its certificate.
const expireEvery = time.Second

// expire ends connections when their certificates end, until stop is called.
func (t *tlsSide) expire(c *clock) (stop func()) {
	var mu sync.Mutex
	var unset func() bool
	stopped := false
	var again func()
	again = func() {
		t.live.Expire(iot.At(c.now()))
		mu.Lock()
		defer mu.Unlock()
		if !stopped {
			unset = c.afterFunc(expireEvery, again)
		}
	}
	again()
	return func() {
		mu.Lock()
		defer mu.Unlock()
		stopped = true
		unset()
	}
}

// close ends what is on its way in. The listeners are closed by who opened them.
func (t *tlsSide) close() {
	if t.stopExpiring != nil {
		t.stopExpiring()
	}
	for _, g := range t.gates {
		g.Close()
	}
}

// deviceFront serves devices that show a certificate.
type deviceFront struct {
	devices, messages, mqtt http.Handler
	counts                  *frontMetrics
	holders                 *auth.Devices
	now                     func() time.Time
}

func (f *deviceFront) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, _ := auth.IdentityFrom(r.Context())
	// The connection may be older than the certificate's end.
	h, err := f.holders.Holder(r.Context(), id.Principal.Certificate)
	if err == nil {
		err = h.Admissible(iot.At(f.now()))
	}
	if err != nil {
		f.counts.refuse(planeDevice, "certificate")
		wire.WriteError(w, &wire.Error{Code: "ForbiddenException", Status: http.StatusForbidden, Message: auth.ErrRefused.Error()})
		return
	}
	first, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case r.URL.Path == webSocketPath:
		f.mqtt.ServeHTTP(w, r)
	case rest != "" && first == "topics", first == "retainedMessage", first == "connections":
		f.messages.ServeHTTP(w, r)
	default:
		f.devices.ServeHTTP(w, r)
	}
}

// httpConn is what is known of a connection over which HTTP is spoken.
type httpConn struct {
	tls       *gate.Conn // nil without TLS
	decisions authorizer.Cache
}

type httpConnKey struct{}

// withConnection puts what a connection says of its other end into the context of its requests: the
// certificate, if one was shown. It must not ask for the address, for which it might have to wait.
func withConnection(ctx context.Context, c net.Conn) context.Context {
	conn, ok := c.(*gate.Conn)
	ctx = context.WithValue(ctx, httpConnKey{}, &httpConn{tls: conn})
	if !ok {
		return ctx
	}
	return auth.WithIdentity(ctx, auth.Identity{Secure: true, Principal: auth.Principal{Certificate: conn.CertificateID()}})
}

// withSource adds the address of the other end, and an id to the request and its answer.
func withSource(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, _ := auth.IdentityFrom(r.Context())
		if address, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
			id.Source = address.Addr()
		}
		next.ServeHTTP(w, wire.Identify(w, r.WithContext(auth.WithIdentity(r.Context(), id))))
	})
}
