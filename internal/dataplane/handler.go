package dataplane

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"drover/internal/iot"
	"drover/internal/wire"
)

// Engine carries out requests.
type Engine interface {
	// Queue joins r to the next batch, which need not begin before Flush. It calls reply
	// exactly once and may block while too much is waiting.
	Queue(r *iot.Request, reply func(*iot.Answer, error))
	// Flush begins a batch of what has been queued.
	Flush()
	// Do carries out r for callers that wait.
	Do(ctx context.Context, r *iot.Request) (*iot.Answer, error)
}

// Signer makes the presigned URLs that documents ask for.
type Signer interface {
	// Presign returns a fresh URL. It may have to fetch credentials, and gives up after a few
	// seconds.
	Presign(iot.ObjectURL) (string, error)
}

// render returns a document as the device is to get it, with fresh URLs.
func render(d iot.Delivery, s Signer) (string, error) {
	return d.Render(func(o iot.ObjectURL) (string, error) {
		if s == nil {
			return "", errors.New("there is no S3 store")
		}
		return s.Presign(o)
	})
}

// Client is the connection, or the session of a client that has gone, from which a message
// came.
type Client interface {
	// ID is its client id.
	ID() string
	// Certificate is what it showed in its handshake, "" for nothing.
	Certificate() iot.CertificateID
	// Granted is the QoS of the client's subscription to a topic, false if it has none.
	Granted(topic string) (qos byte, subscribed bool)
	// Backlog is how many bytes the client has been sent that it has not taken yet, false if its
	// connection has ended.
	Backlog() (bytes int, connected bool)
	// Deliver sends a message to this client alone, subscribed or not, and keeps payload. It
	// does not block; what cannot be delivered is dropped.
	Deliver(topic string, payload []byte, qos byte)
	// Expect says that an answer is on its way, for which the acknowledgement of the request
	// may wait, and Answered that it has been delivered, with all that comes with it.
	Expect()
	Answered()
}

// Config is what a Handler needs. Engine is required, and Signer if there are documents with
// placeholders.
type Config struct {
	Engine      Engine
	Signer      Signer
	Provisioner Provisioner // nil: the topics of provisioning are not there
	Streams     Streams     // nil: the topics of streams are not there
	Commands    Commands    // nil: there are no commands
	Shadows     Shadows     // nil: the topics of shadows are not there
	Realm       iot.Realm   // of the targets of commands
	// Problems remembers what clients do in vain; nil: nobody does. Heard reports whether somebody
	// subscribes to a topic; nil: that is not looked at.
	Problems *Problems
	Heard    func(topic string) bool
	Now      func() time.Time      // default time.Now
	Logger   *slog.Logger          // nil: none
	Metrics  prometheus.Registerer // nil: none
	// Reads and Writes are how many requests a second all devices together may make, over
	// MQTT and HTTPS: describe and get-pending, and start-next and update (spec §15.2). 0 is
	// any number.
	Reads, Writes int
	// Registrations is how many certificates a second devices can ask for; 0 is any number.
	Registrations int
	// Permit returns nil if who sent a request over HTTPS may do the operation on the thing, and
	// otherwise an error, an *auth.Error for a refusal. nil: that has been decided before.
	Permit func(ctx context.Context, operation string, thing iot.ThingName) error
	// PermitStart is Permit for an action on resources, by their ARNs: who starts commands is no device.
	PermitStart func(ctx context.Context, action string, resources ...string) error
}

// Handler answers devices, over MQTT (HandlePublish) and HTTPS (ServeHTTP). Its methods may
// be called from many goroutines.
type Handler struct {
	engine  Engine
	signer  Signer
	clock   func() time.Time
	log     *slog.Logger
	metrics requestMetrics
	https   *wire.Service
	permit  func(context.Context, string, iot.ThingName) error // may be nil
	reads   *rate.Limiter                                      // nil: any number
	writes  *rate.Limiter

	provisioning provisioning
	files        *files
	shadows      shadows
	commands     Commands // may be nil
	realm        iot.Realm
	permitStart  func(context.Context, string, ...string) error // may be nil
	problems     *Problems
	heard        func(topic string) bool

	mu       sync.Mutex
	answered []Client // that have their answers, and not yet what comes with them
}

// New returns a Handler for cfg.
func New(cfg Config) *Handler {
	h := &Handler{engine: cfg.Engine, signer: cfg.Signer, clock: cfg.Now, log: cfg.Logger, metrics: newRequestMetrics(cfg.Metrics), permit: cfg.Permit}
	if h.clock == nil {
		h.clock = time.Now
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	h.reads, h.writes = newLimiter(cfg.Reads), newLimiter(cfg.Writes)
	h.commands, h.realm, h.permitStart = cfg.Commands, cfg.Realm, cfg.PermitStart
	h.https = h.newHTTPS()
	h.files = newFiles(&cfg, h.log, h.metrics)
	h.problems, h.heard = cfg.Problems, cfg.Heard
	h.shadows = shadows{keeper: cfg.Shadows, slots: make(chan struct{}, shadowsAtOnce)}
	h.provisioning = provisioning{provisioner: cfg.Provisioner, slots: make(chan struct{}, provisionAtOnce), created: newLimiter(cfg.Registrations)}
	return h
}

func newLimiter(perSecond int) *rate.Limiter {
	if perSecond <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(perSecond), perSecond)
}

// admit refuses a request that comes too fast.
func (h *Handler) admit(op iot.Op) error {
	l := h.reads
	if op == iot.OpStartNext || op == iot.OpUpdate {
		l = h.writes
	}
	if l != nil && !l.AllowN(h.clock(), 1) {
		return iot.Errorf(iot.Throttled, "More than %g requests of this kind a second", float64(l.Limit()))
	}
	return nil
}

func (h *Handler) now() iot.Time { return iot.At(h.clock()) }
