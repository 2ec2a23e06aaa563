package objects

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"drover/internal/auth"
)

// Config is what a Server works with.
type Config struct {
	Store    *Store
	Verify   *auth.Verifier
	Region   string
	Recorder Recorder // told what devices fetch; nil: nobody
	// Permit says whether the caller, whose [auth.Identity] is in the context, may carry out an
	// action of AWS's policies (s3:GetObject) on a resource (arn:aws:s3:::BUCKET/KEY). A presigned
	// URL may what its signer may. nil: everything.
	Permit  func(ctx context.Context, action string, resources ...string) error
	Limits  Limits
	Logger  *slog.Logger
	Metrics prometheus.Registerer
}

// Server speaks S3's protocol in front of a Store. Every request must be signed.
type Server struct {
	store    *Store
	verify   *auth.Verifier
	region   string
	permit   func(ctx context.Context, action string, resources ...string) error
	log      *slog.Logger
	metrics  *metrics
	traffic  *traffic
	tally    *tally
	transfer transfers
}

// New makes a Server. Run it, or nothing is recorded and nothing expires.
func New(cfg Config) *Server {
	m := newMetrics(cfg.Metrics)
	if cfg.Permit == nil {
		cfg.Permit = func(context.Context, string, ...string) error { return nil }
	}
	return &Server{
		permit: cfg.Permit,
		store:  cfg.Store, verify: cfg.Verify, region: cfg.Region, log: cfg.Logger, metrics: m,
		transfer: transfers{patience: progressTime}, traffic: newTraffic(cfg.Limits, m), tally: newTally(cfg.Recorder, cfg.Logger),
	}
}

// Run records what devices fetch and forgets multipart uploads that nobody completes,
// until ctx ends. Then it records the rest.
func (s *Server) Run(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- s.tally.run(ctx) }()
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		if err := s.store.Expire(ctx); err != nil {
			s.log.ErrorContext(ctx, "multipart uploads could not be expired", "err", err)
		}
		select {
		case <-tick.C:
		case err := <-done:
			return err
		}
	}
}

// Cut ends the uploads and downloads that are running. Clients go on from where they are
// with another server, or with this one after it has started again.
func (s *Server) Cut() { s.transfer.cut() }

// call is a request that is being answered.
type call struct {
	*Server
	w           http.ResponseWriter
	r           *http.Request
	query       url.Values
	bucket, key string
}

// target finds bucket and key of a request: in the path, or the bucket in the host if that
// is BUCKET.s3.… or BUCKET.localhost. A host of the latter kind may also be a name of this
// machine; it is a bucket if there is one of that name, or somebody makes one.
func (s *Server) target(r *http.Request) (bucket, key string) {
	path := strings.TrimPrefix(r.URL.Path, "/")
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if i := strings.LastIndex(host, ".s3."); i >= 0 {
		return host[:i], path
	}
	if bucket, ok := strings.CutSuffix(host, ".localhost"); ok && bucket != "s3" {
		if _, err := s.store.Bucket(bucket); err == nil || path == "" && r.Method == http.MethodPut {
			return bucket, path
		}
	}
	bucket, key, _ = strings.Cut(path, "/")
	return bucket, key
}

// IsHost reports whether a host is named like one of S3's: s3.…, BUCKET.s3.….
func IsHost(host string) bool {
	return strings.HasPrefix(host, "s3.") || strings.Contains(host, ".s3.")
}

// ServeHTTP answers a request for S3.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Amz-Request-Id", strings.ToUpper(newID()[:16]))
	began := time.Now()
	c := &call{Server: s, w: w, r: r}
	c.bucket, c.key = s.target(r)
	op, err := c.serve()
	if err == nil {
		s.metrics.answered(op, "", began)
		return
	}
	if errors.Is(err, errCut) {
		s.metrics.answered(op, "Cut", began)
		return
	}
	answer, ours := answerTo(err)
	s.metrics.answered(op, answer.Code, began)
	level := slog.LevelDebug
	if ours && r.Context().Err() == nil {
		level = slog.LevelError
	}
	s.log.Log(r.Context(), level, "object request refused", "op", op, "bucket", c.bucket, "remote", r.RemoteAddr, "err", err)
	writeError(w, r, answer)
}

// serve verifies the request and carries out the operation that it asks for.
func (c *call) serve() (op string, err error) {
	end := c.transfer.begin(c.w)
	defer end()
	c.r.Body = &patientBody{body: c.r.Body, control: http.NewResponseController(c.w), transfers: &c.transfer}
	id, _ := auth.IdentityFrom(c.r.Context())
	if id.Service != auth.Inside {
		signer, err := c.verify.VerifyS3(c.r)
		if err != nil {
			return "", err
		}
		signer.Source, signer.Secure = id.Source, id.Secure
		id = signer
	}
	c.r = c.r.WithContext(auth.WithIdentity(c.r.Context(), id))
	if c.query, err = url.ParseQuery(c.r.URL.RawQuery); err != nil {
		return "", errorf("InvalidURI", 400, "Couldn't parse the specified URI: the query cannot be decoded.")
	}
	for name, values := range c.query {
		if len(values) > 1 { // two readers of such a request would not agree about it
			return "", errorf("InvalidArgument", 400, "The query has more than one %s.", clip(name))
		}
	}
	if c.key != "" {
		if err := checkKey(c.key); err != nil {
			return "", err
		}
	}
	name, run := c.operation()
	if run == nil {
		return name, notImplemented(name)
	}
	if name != "DeleteObjects" { // asks for each
		if err := c.may(action(name), c.bucket, c.key, c.query.Get("versionId")); err != nil {
			return name, err
		}
	}
	for header, accepted := range unsupportedHeaders {
		if v := c.r.Header.Get(header); v != "" && !slices.Contains(accepted, v) {
			return name, notImplemented(header + ": " + clip(v))
		}
	}
	return name, run(c)
}

// unsupportedHeaders ask for what is not here, except with the values that ask for nothing.
var unsupportedHeaders = map[string][]string{
	"X-Amz-Acl":                                       {"private", "bucket-owner-full-control", "bucket-owner-read"},
	"X-Amz-Grant-Full-Control":                        nil,
	"X-Amz-Grant-Read":                                nil,
	"X-Amz-Grant-Read-Acp":                            nil,
	"X-Amz-Grant-Write":                               nil,
	"X-Amz-Grant-Write-Acp":                           nil,
	"X-Amz-Storage-Class":                             {"STANDARD"},
	"X-Amz-Tagging":                                   nil,
	"X-Amz-Website-Redirect-Location":                 nil,
	"X-Amz-Server-Side-Encryption":                    nil,
	"X-Amz-Server-Side-Encryption-Customer-Algorithm": nil,
	"X-Amz-Copy-Source-Server-Side-Encryption-Customer-Algorithm": nil,
	"X-Amz-Object-Lock-Mode":              nil,
	"X-Amz-Object-Lock-Retain-Until-Date": nil,
	"X-Amz-Object-Lock-Legal-Hold":        {"OFF"},
	"X-Amz-Bucket-Object-Lock-Enabled":    {"false", "False"},
	"X-Amz-Object-Ownership":              {"BucketOwnerEnforced"},
	"X-Amz-Mfa":                           nil,
	"X-Amz-Write-Offset-Bytes":            nil,
}

func clip(s string) string {
	const limit = 100
	if len(s) > limit {
		return s[:limit] + "..."
	}
	return s
}

// readXML reads a small document in the body.
func (c *call) readXML(v any) error {
	const limit = 4 << 20 // 10,000 parts with checksums
	text, err := io.ReadAll(io.LimitReader(c.r.Body, limit+1))
	if err != nil {
		return err
	}
	if len(text) > limit {
		return errMalformedXML
	}
	e, err := expected(c.r)
	if err != nil {
		return err
	}
	if err := e.checkText(c.r, text); err != nil {
		return err
	}
	if err := xml.Unmarshal(text, v); err != nil {
		return errMalformedXML
	}
	return nil
}

// answer sends a document.
func (c *call) answer(v any) error {
	writeXML(c.w, http.StatusOK, v)
	return nil
}

func (c *call) noContent() error {
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// drain reads what is left of a body, so that its signature is checked.
func (c *call) drain() error {
	n, err := io.Copy(io.Discard, io.LimitReader(c.r.Body, 1<<20))
	if err == nil && n == 1<<20 {
		err = errorf("EntityTooLarge", 400, "This request takes no body.")
	}
	return err
}

// errCut is a download that ended before its end, behind a status that said otherwise.
var errCut = errors.New("cut off")

func quote(etag string) string { return `"` + etag + `"` }

func httpTime(t time.Time) string { return t.UTC().Format(http.TimeFormat) }

func xmlTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func unquote(etag string) string { return strings.Trim(strings.TrimSpace(etag), `"`) }
