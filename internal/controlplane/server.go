// Package controlplane is the HTTPS API of AWS IoT: jobs, things, groups and what belongs to
// them, as the AWS CLI and the SDKs speak it. It binds and validates requests, calls the job
// engine and the registry, and renders their answers and refusals; it decides nothing itself.
//
// A file holds the operations on one resource: the shapes of their requests and responses, as
// in the service's public model, and one handler for each. routes.go lists them all. Members
// that ask for what drover does not have yet are declared, validated and then refused by name
// (unsupported.go): nothing is accepted and ignored.
package controlplane

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"time"

	"golang.org/x/time/rate"

	"drover/internal/auth"
	"drover/internal/iot"
	"drover/internal/wire"
)

// Config says what a Server serves. Jobs, Registry, Streams, OTAUpdates, Commands, Packages, Permissions and Realm are required;
// without Sources documents must be given.
type Config struct {
	Jobs        Jobs
	Registry    Registry
	Streams     Streams
	OTAUpdates  OTAUpdates
	Commands    Commands
	Packages    Packages
	Permissions Permissions
	Sources     Sources
	// Authorizers tries custom authorizers out; nil: that is refused.
	Authorizers Authorizers
	Realm       iot.Realm // of the ARNs in answers
	// Permit returns nil if the caller may do the action on all of the resources, and otherwise an
	// error, an *auth.Error for a refusal. nil: who may do what has been decided before.
	Permit func(ctx context.Context, action string, resources ...string) error
	// Endpoints are what DescribeEndpoint answers.
	Endpoints Endpoints
	Now       func() time.Time // nil = time.Now
	Logger    *slog.Logger     // nil = slog.Default()
	// Throttle is how many requests a second each operation on jobs and templates takes;
	// 0 = any number (spec §15.2).
	Throttle int
	// Observe is called once for each request that has been answered, with the operation's
	// name ("Unknown" if there is none) and the error, if any. It may be nil.
	Observe func(operation string, e *wire.Error, took time.Duration)
}

// Server answers the requests of the control plane. It expects the caller's identity in the
// context of a request (auth.WithIdentity).
type Server struct {
	jobs        Jobs
	registry    Registry
	streams     Streams
	updates     OTAUpdates
	commands    Commands
	packages    Packages
	permissions Permissions
	sources     Sources
	asks        Authorizers
	realm       iot.Realm
	permit      func(context.Context, string, ...string) error
	endpoints   Endpoints
	now         func() time.Time
	log         *slog.Logger
	throttles   map[string]*rate.Limiter // by operation; nil entries let everything through
	service     *wire.Service
}

// New returns a Server for cfg.
func New(cfg Config) *Server {
	s := &Server{
		jobs:        cfg.Jobs,
		registry:    cfg.Registry,
		streams:     cfg.Streams,
		updates:     cfg.OTAUpdates,
		commands:    cfg.Commands,
		packages:    cfg.Packages,
		permissions: cfg.Permissions,
		sources:     cfg.Sources,
		asks:        cfg.Authorizers,
		realm:       cfg.Realm,
		permit:      cfg.Permit,
		endpoints:   cfg.Endpoints,
		now:         cfg.Now,
		throttles:   newThrottles(cfg.Throttle),
		log:         cmp.Or(cfg.Logger, slog.Default()),
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.service = wire.NewIoT(wire.Config{Logger: s.log, MapError: s.mapError, Observe: cfg.Observe})
	for _, op := range operations() {
		op.register(s)
	}
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.service.ServeHTTP(w, r) }

// Operation returns the name of the operation that a request is for, "" if there is none.
func (s *Server) Operation(r *http.Request) string {
	return s.service.Lookup(r.Method, r.URL.EscapedPath())
}

// actor names who asks, for the journal.
func actor(ctx context.Context) string {
	if id, ok := auth.IdentityFrom(ctx); ok {
		return id.Principal.Actor()
	}
	return "anonymous"
}
