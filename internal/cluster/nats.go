package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Embedded is a server of NATS in this process, for this node alone. It finds the servers of the
// other nodes.
type Embedded struct {
	Listen string   // HOST:PORT for the other nodes; port 0 picks a free one
	Peers  []string // HOST:PORT of some of them, which may include this one: they tell of the others
	// Advertise is the HOST:PORT by which others find this node; default: where they see it come from.
	Advertise string
	TLS       *tls.Config // both sides show a certificate; required
}

const startTimeout = 10 * time.Second

// start starts the server, which takes clients that have the token.
func (e *Embedded) start(ctx context.Context, cfg *Config, token string) (*server.Server, error) {
	if e.TLS == nil {
		return nil, errors.New("cluster: nodes talk with TLS")
	}
	if e.TLS.InsecureSkipVerify && e.TLS.VerifyConnection == nil {
		return nil, errors.New("cluster: TLS verifies nobody")
	}
	host, text, err := net.SplitHostPort(e.Listen)
	if err != nil {
		return nil, err
	}
	port, err := strconv.Atoi(text)
	if err != nil || port < 0 || port > 65535 {
		return nil, fmt.Errorf("%s: %q is not the number of a port", e.Listen, text)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	options := &server.Options{
		// Without a door for clients the one for servers stays shut, too. Nobody has the token.
		ServerName: cfg.Name, Host: "127.0.0.1", Port: server.RANDOM_PORT, Authorization: token,
		NoSigs: true, NoLog: true, MaxPayload: MaxBody + 64, NoSystemAccount: true, WriteDeadline: writeTimeout,
		Cluster: server.ClusterOpts{
			Name: cfg.Cluster, Host: host, Port: port, Advertise: e.Advertise, TLSConfig: e.TLS, TLSTimeout: 5,
			PingInterval: 2 * time.Second, MaxPingsOut: 2, WriteDeadline: writeTimeout,
			// One connection, so that all that a node sends stays in order.
			PoolSize: -1, Compression: server.CompressionOpts{Mode: server.CompressionOff},
		},
	}
	for _, peer := range e.Peers {
		if _, _, err := net.SplitHostPort(peer); err != nil {
			return nil, fmt.Errorf("peer: %w", err)
		}
		options.Routes = append(options.Routes, &url.URL{Scheme: "nats-route", Host: peer})
	}
	s, err := server.NewServer(options)
	if err != nil {
		return nil, err
	}
	s.SetLoggerV2(natsLog{cfg.Logger}, false, false, false)
	s.Start()
	for deadline := time.Now().Add(startTimeout); !s.ReadyForConnections(100 * time.Millisecond); {
		if err := ctx.Err(); err != nil || time.Now().After(deadline) {
			s.Shutdown()
			return nil, errors.Join(err, fmt.Errorf("NATS does not start on %s", e.Listen))
		}
	}
	return s, nil
}

// natsLog writes what the server has to say to our log.
type natsLog struct{ log *slog.Logger }

func (l natsLog) line(level slog.Level, format string, v []any) {
	l.log.Log(context.Background(), level, "NATS", "says", fmt.Sprintf(format, v...))
}

func (l natsLog) Noticef(format string, v ...any) { l.line(slog.LevelDebug, format, v) }
func (l natsLog) Fatalf(format string, v ...any)  { l.line(slog.LevelError, format, v) }
func (l natsLog) Errorf(format string, v ...any)  { l.line(slog.LevelWarn, format, v) }
func (l natsLog) Debugf(format string, v ...any)  {}
func (l natsLog) Tracef(format string, v ...any)  {}

func (l natsLog) Warnf(format string, v ...any) {
	if strings.Contains(format, "will not be verified") { // by the server; a VerifyConnection does it
		return
	}
	l.line(slog.LevelWarn, format, v)
}

// External is a NATS that runs elsewhere.
type External struct {
	URL         string      // nats://HOST:PORT or tls://HOST:PORT, several with commas; may have USER:PASSWORD@ or TOKEN@
	Credentials string      // file of NATS (.creds), "" for none
	Trust       *tls.Config // nil: the system's roots, where the URL says tls
}

func (e *External) options() []nats.Option {
	var list []nats.Option
	if e.Credentials != "" {
		list = append(list, nats.UserCredentials(e.Credentials))
	}
	if e.Trust != nil {
		list = append(list, nats.Secure(e.Trust))
	}
	return list
}
