package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"drover/internal/auth"
	"drover/internal/console"
	"drover/internal/objects"
	"drover/internal/wire"
)

// front is the one door of HTTP: it checks signatures and sends each request to the
// plane it is for.
type front struct {
	control, devices   http.Handler
	messages           http.Handler // the MQTT broker over HTTP
	bulk, downloads    http.Handler
	audit              http.Handler
	clients            http.Handler // by their ids
	test               http.Handler // nil unless in test mode
	objects            http.Handler // nil if there is no object store here
	mqtt               http.Handler // devices that speak MQTT over WebSocket
	guard              *guard
	verify, verifyBulk *auth.Verifier
	keys, users        http.Handler
	console            http.Handler // nil if it is switched off
	permit             func(ctx context.Context, action string, resources ...string) error
	metrics            prometheus.Gatherer
	counts             *frontMetrics
	ready              *readiness
	log                *slog.Logger
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == webSocketPath && r.Header.Get("Upgrade") != "" {
		f.mqtt.ServeHTTP(w, r)
		return
	}
	// Who signs for S3 means S3, whatever the path: any may be that of an object.
	if auth.IsS3(r) {
		f.s3(w, r)
		return
	}
	if f.console != nil {
		if strings.HasPrefix(r.URL.Path, console.Path) || r.URL.Path+"/" == console.Path {
			f.console.ServeHTTP(w, r)
			return
		}
		if r.URL.Path == "/" && r.Header.Get("Authorization") == "" && strings.Contains(r.Header.Get("Accept"), "text/html") {
			http.Redirect(w, r, console.Path, http.StatusFound) // somebody with a browser
			return
		}
	}
	switch r.URL.Path {
	case "/healthz":
		writeText(w, http.StatusOK, "ok")
	case "/readyz":
		f.ready.ServeHTTP(w, r)
	case "/metrics":
		promhttp.HandlerFor(f.metrics, promhttp.HandlerOpts{}).ServeHTTP(w, r)
	case "/_drover/import":
		f.guarded(w, r, f.verifyBulk, "drover:Import", f.bulk)
	case "/_drover/clock", "/_drover/reset":
		if f.test == nil {
			f.unknown(w, r)
		} else {
			f.guarded(w, r, f.verify, "drover:Test", f.test)
		}
	case "/_drover/keys":
		f.guarded(w, r, f.verify, "drover:ManageKeys", f.keys)
	case usersPath:
		f.guarded(w, r, f.verify, "drover:ManageUsers", f.users)
	case auditPath:
		f.guarded(w, r, f.verify, "drover:Audit", f.audit)
	default:
		if strings.HasPrefix(r.URL.Path, clientsPath) {
			f.guarded(w, r, f.verify, "drover:ReadClients", f.clients)
			return
		}
		if strings.HasPrefix(r.URL.Path, "/_drover/") {
			f.own(w, r)
			return
		}
		if objects.IsHost(r.Host) {
			f.s3(w, r)
			return
		}
		f.api(w, r)
	}
}

// guarded serves an operation of drover's own, which takes a permission of its own.
func (f *front) guarded(w http.ResponseWriter, r *http.Request, v *auth.Verifier, action string, handler http.Handler) {
	r, _, ok := f.authenticate(w, r, v)
	if !ok {
		return
	}
	if err := f.permit(r.Context(), action, "*"); err != nil {
		f.refuse(w, r, err)
		return
	}
	f.counts.own(action, handler).ServeHTTP(w, r)
}

// s3 serves the object store.
func (f *front) s3(w http.ResponseWriter, r *http.Request) {
	if f.objects == nil {
		wire.WriteError(w, &wire.Error{Code: "NotImplementedException", Status: http.StatusNotImplemented,
			Message: "the object store of this drover is switched off (--no-objects)"})
		return
	}
	f.objects.ServeHTTP(w, r)
}

// own serves the operations of drover's own that have a name in the path.
func (f *front) own(w http.ResponseWriter, r *http.Request) {
	id, ok := strings.CutPrefix(r.URL.Path, "/_drover/jobs/")
	id, isDownloads := strings.CutSuffix(id, "/downloads")
	if !ok || !isDownloads || id == "" || r.Method != http.MethodGet {
		f.unknown(w, r)
		return
	}
	r.SetPathValue("jobId", id)
	f.guarded(w, r, f.verify, "drover:ReadDownloads", f.downloads)
}

func (f *front) unknown(w http.ResponseWriter, r *http.Request) {
	wire.WriteError(w, &wire.Error{Code: "UnknownOperationException", Status: http.StatusNotFound, Message: "drover has no " + r.URL.Path})
}

// api serves both planes of the API, which share paths: the signing name tells them
// apart, and the host where a client signs for neither by name.
func (f *front) api(w http.ResponseWriter, r *http.Request) {
	if isGuests(r) {
		r, err := f.guard.guest(r)
		if err != nil {
			f.counts.refuse(planeAPI, "authorizer")
			f.guard.turnAway(w, r, err)
			return
		}
		f.messages.ServeHTTP(w, r)
		return
	}
	r, id, ok := f.authenticate(w, r, f.verify)
	if !ok {
		return
	}
	switch {
	case id.Service == "iot-jobs-data", jobsHost(r.Host):
		f.devices.ServeHTTP(w, r)
	case id.Service == "iotdata":
		f.messages.ServeHTTP(w, r)
	default:
		f.control.ServeHTTP(w, r)
	}
}

// jobsHost reports whether the request was sent to a host that is named like one of
// AWS's jobs endpoints: PREFIX.jobs.iot.REGION.…, also data.jobs.iot.REGION.….
func jobsHost(host string) bool {
	_, rest, ok := strings.Cut(host, ".")
	return ok && (strings.HasPrefix(rest, "jobs.iot.") || strings.HasPrefix(rest, "jobs.iot-fips."))
}

// authenticate checks the signature and puts the caller into the request's context.
func (f *front) authenticate(w http.ResponseWriter, r *http.Request, v *auth.Verifier) (*http.Request, auth.Identity, bool) {
	connection, _ := auth.IdentityFrom(r.Context())
	if connection.Service == auth.Inside {
		return r.WithContext(auth.WithIdentity(r.Context(), connection)), connection, true
	}
	id, err := v.Verify(r)
	if err == nil {
		id.Source, id.Secure = connection.Source, connection.Secure
		return r.WithContext(auth.WithIdentity(r.Context(), id)), id, true
	}
	reason := "internal"
	if refused, ok := errors.AsType[*auth.Error](err); ok {
		reason = refused.Code
	}
	f.counts.refuse(planeAPI, reason)
	f.refuse(w, r, err)
	return nil, auth.Identity{}, false
}

// refuse answers a caller who is not known, or may not do what he asks for.
func (f *front) refuse(w http.ResponseWriter, r *http.Request, err error) {
	answer := &wire.Error{Code: "InternalFailureException", Status: http.StatusInternalServerError, Message: "The request could not be authenticated"}
	if refused, ok := errors.AsType[*auth.Error](err); ok {
		answer = &wire.Error{Code: refused.Code, Status: refused.Status, Message: refused.Message}
	}
	f.log.DebugContext(r.Context(), "request refused", "method", r.Method, "path", r.URL.Path, "remote", r.RemoteAddr, "err", err)
	wire.WriteError(w, answer)
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	// Whoever asked has gone if this fails.
	_, _ = fmt.Fprintln(w, text)
}
