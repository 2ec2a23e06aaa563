package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"drover/internal/audit"
	"drover/internal/auth"
	"drover/internal/console"
	"drover/internal/objects"
	"drover/internal/wire"
)

// auditFolder is where the audit log is, in the data folder.
const auditFolder = "audit"

// auditor notes what is asked of the API. Requests of devices are not among it: what they do is in
// the journal, and must cost nothing more.
type auditor struct {
	next      http.Handler
	entries   *audit.Log
	operation func(*http.Request) string
	owner     func(accessKeyID string) (auth.Owner, bool)
	log       *slog.Logger
	counter   *prometheus.CounterVec
}

func newAuditCounter(metrics prometheus.Registerer) *prometheus.CounterVec {
	counter := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "drover_audit_entries_total", Help: "Requests to the API by who is known or not, allowed or not.",
	}, []string{"caller", "allowed"})
	metrics.MustRegister(counter)
	return counter
}

func (a *auditor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/healthz", "/readyz", "/metrics", "/mqtt":
		a.next.ServeHTTP(w, r)
		return
	}
	if strings.HasPrefix(r.URL.Path, console.Path) && r.URL.Path != console.SSOCallback && (r.Method != http.MethodPost || r.URL.Path != console.SignIn && r.URL.Path != console.Account) {
		a.next.ServeHTTP(w, r) // what pages ask of the API is noted there
		return
	}
	trail := &auth.Trail{}
	answer := &recorder{ResponseWriter: w, status: http.StatusOK}
	a.next.ServeHTTP(answer, r.WithContext(auth.WithTrail(r.Context(), trail)))
	a.note(r, trail, answer)
}

func (a *auditor) note(r *http.Request, trail *auth.Trail, answer *recorder) {
	refused := answer.status == http.StatusUnauthorized || answer.status == http.StatusForbidden
	device := jobsHost(r.Host) || trail.Identity != nil && trail.Identity.Service == "iot-jobs-data"
	if device && trail.Operation == "" || trail.Identity == nil && !refused {
		return
	}
	s3 := auth.IsS3(r) || objects.IsHost(r.Host)
	if s3 && !refused && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		return // downloads, mostly of devices: the store of objects counts them
	}
	e := audit.Entry{
		RequestID: answer.Header().Get("X-Amzn-Requestid"), Who: audit.Anonymous, From: r.RemoteAddr, Operation: trail.Operation,
		Targets: trail.Targets, Allowed: !refused, Status: answer.status, Error: answer.Header().Get("X-Amzn-Errortype"),
	}
	caller := "anonymous"
	if trail.Identity != nil {
		e.Who, caller = trail.Identity.Principal.Actor(), "known"
		if owner, ok := a.owner(trail.Identity.Principal.AccessKeyID); ok {
			e.Name = owner.Name
		}
		if p := trail.Identity.Principal.Person; p != nil {
			e.Name = p.Subject // people can have the same name, and choose it
		}
	}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		e.From = host
	}
	if s3 {
		e.Operation = "s3:" + r.Method
	}
	if e.Operation == "" {
		if r.URL.Path == console.SignIn || r.URL.Path == console.SSOCallback {
			e.Operation = "drover:SignIn"
		} else if r.URL.Path == console.Account {
			e.Operation = "drover:Account"
		} else if own, ok := strings.CutPrefix(r.URL.Path, "/_drover/"); ok {
			own, _, _ = strings.Cut(own, "/")
			e.Operation = "drover:" + shorten(own)
		} else if e.Operation = a.operation(r); e.Operation == "" {
			e.Operation = "Unknown"
		}
	}
	if e.Targets == nil {
		e.Targets = []string{shorten(r.URL.Path)}
	}
	a.counter.WithLabelValues(caller, strconv.FormatBool(e.Allowed)).Inc()
	written, err := a.entries.Add(e)
	if err != nil {
		// The request has been answered; that nobody can look it up later is an operator's business.
		a.log.ErrorContext(r.Context(), "audit entry not written", "err", err)
	}
	level := slog.LevelInfo
	if e.Allowed && r.Method == http.MethodGet || !written && err == nil {
		level = slog.LevelDebug // who only looks, and what is too much
	}
	a.log.Log(r.Context(), level, "audit", "who", e.Who, "name", e.Name, "from", e.From, "op", e.Operation, "targets", e.Targets, "allowed", e.Allowed,
		"status", e.Status, "error", e.Error)
}

// shorten keeps what a caller has chosen from filling the log.
func shorten(s string) string {
	const most = 300
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
	wrote  bool
}

func (r *recorder) WriteHeader(status int) {
	if !r.wrote && status >= 200 {
		r.status, r.wrote = status, true
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	r.wrote = true
	return r.ResponseWriter.Write(b)
}

// ReadFrom lets files go from the disk to the socket as they would without a recorder.
func (r *recorder) ReadFrom(src io.Reader) (int64, error) {
	r.wrote = true
	return io.Copy(r.ResponseWriter, src)
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// What the tool and the server say to each other.
const auditPath = "/_drover/audit"

type auditPage struct {
	Entries []audit.Entry `json:"entries"` // the oldest first
}

// maxAudit is how many entries one answer can have.
const maxAudit = 10_000

// auditService answers the tool.
type auditService struct {
	entries *audit.Log
	log     *slog.Logger
}

func (s *auditService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		wire.WriteError(w, &wire.Error{Code: "MethodNotAllowedException", Status: http.StatusMethodNotAllowed, Message: r.Method + " is not for " + auditPath})
		return
	}
	q, err := readAuditQuery(r.URL.Query())
	if err != nil {
		wire.WriteError(w, &wire.Error{Code: "InvalidRequestException", Status: http.StatusBadRequest, Message: err.Error()})
		return
	}
	found, err := s.entries.Read(q)
	if err != nil {
		s.log.ErrorContext(r.Context(), "audit log cannot be read", "err", err)
		wire.WriteError(w, &wire.Error{Code: "InternalFailureException", Status: http.StatusInternalServerError, Message: "The audit log cannot be read"})
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	// Whoever asked has gone if this fails.
	_ = json.NewEncoder(w).Encode(auditPage{found})
}

// readAuditQuery reads a query; the error names the member.
func readAuditQuery(v url.Values) (q audit.Query, err error) {
	q = audit.Query{Who: v.Get("who"), Operation: v.Get("operation"), Target: v.Get("target")}
	var errs []error
	for name, to := range map[string]*time.Time{"since": &q.Since, "until": &q.Until} {
		if text := v.Get(name); text != "" {
			if *to, err = time.Parse(time.RFC3339Nano, text); err != nil {
				errs = append(errs, fmt.Errorf("%s: %q is not a time such as 2026-01-31T12:00:00Z", name, text))
			}
		}
	}
	if text := v.Get("allowed"); text != "" {
		b, err := strconv.ParseBool(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("allowed: %q is neither true nor false", text))
		}
		q.Allowed = &b
	}
	if text := v.Get("limit"); text != "" {
		if q.Limit, err = strconv.Atoi(text); err != nil || q.Limit < 1 || q.Limit > maxAudit {
			errs = append(errs, fmt.Errorf("limit: %q is not a number from 1 to %d", text, maxAudit))
		}
	}
	return q, errors.Join(errs...)
}

type auditCmd struct {
	apiFlags
	Since     string `help:"From this time on: 2026-01-31T12:00:00Z, or a duration such as 24h for so long ago." placeholder:"TIME"`
	Until     string `help:"Before this time, in the same forms." placeholder:"TIME"`
	Who       string `help:"Part of the caller: an access key id, anonymous; or the name of an API key." placeholder:"TEXT"`
	Operation string `help:"Name of the operation, such as CreateJob." placeholder:"NAME"`
	Target    string `help:"Part of the ARN of what it was about." placeholder:"TEXT"`
	Allowed   *bool  `help:"Only what was allowed." negatable:"denied"`
	Limit     int    `help:"The newest so many entries, at most 10000." default:"100"`
	JSON      bool   `help:"Print lines of JSON."`
}

func (c *auditCmd) Run(ctx context.Context, s *streams) error {
	a, err := c.api()
	if err != nil {
		return err
	}
	query := url.Values{"limit": {strconv.Itoa(c.Limit)}}
	for name, text := range map[string]string{"since": c.Since, "until": c.Until} {
		if text == "" {
			continue
		}
		if ago, err := time.ParseDuration(text); err == nil {
			text = time.Now().Add(-ago).UTC().Format(time.RFC3339Nano)
		}
		query.Set(name, text)
	}
	for name, text := range map[string]string{"who": c.Who, "operation": c.Operation, "target": c.Target} {
		if text != "" {
			query.Set(name, text)
		}
	}
	if c.Allowed != nil {
		query.Set("allowed", strconv.FormatBool(*c.Allowed))
	}
	var page auditPage
	if err := a.call(ctx, http.MethodGet, auditPath+"?"+query.Encode(), nil, &page); err != nil {
		return err
	}
	if c.JSON {
		lines := json.NewEncoder(s.out)
		for _, e := range page.Entries {
			if err := lines.Encode(e); err != nil {
				return err
			}
		}
		return nil
	}
	table := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	say(table, "TIME\tWHO\tFROM\tOPERATION\tRESULT\tTARGET\n")
	for _, e := range page.Entries {
		result := "ok"
		switch {
		case !e.Allowed:
			result = "DENIED"
		case e.Error != "":
			result = e.Error
		}
		say(table, "%s\t%s\t%s\t%s\t%s\t%s\n", e.Time.Format("2006-01-02T15:04:05.000Z"), strings.TrimSpace(e.Who+" "+e.Name), e.From, e.Operation, result, strings.Join(e.Targets, " "))
	}
	return table.Flush()
}
