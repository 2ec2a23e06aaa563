// Package webhook calls the functions of an operator: what stands behind an HTTP address where
// AWS has a Lambda function. A function is given JSON and answers JSON.
//
// A function has little time and little to say: an answer later than the timeout, longer than
// the limit, or with another status than 200 is a failure. Redirects are not followed. How many
// calls run at once is bounded; one more is refused at once, because who waits for it is a device
// that can come again.
//
// Each request is signed: the header X-Signature is "t=SECONDS,v1=HEX" where HEX is the HMAC-SHA256
// of SECONDS, a full stop and the body, by the secret that the function shares with drover.
package webhook

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"drover/internal/iot"
)

// ErrBusy is returned for a call that is one too many.
var ErrBusy = errors.New("too many functions are being called at the moment")

// Config says which functions there are. Zero fields have a sensible meaning.
type Config struct {
	// Functions is the URLs of functions by the ARN that stands for them.
	Functions map[string]string
	Secret    []byte        // of the signature; nil: no signature
	Timeout   time.Duration // of a call; default 5 s
	// MaxAnswer is the longest answer in bytes, default 256 KiB; Concurrency how many calls may
	// run at once, default 100.
	MaxAnswer   int64
	Concurrency int
	Transport   http.RoundTripper     // default: ones of its own
	Metrics     prometheus.Registerer // nil: none
	Now         func() time.Time      // nil = time.Now
}

// Caller calls functions. Its methods may be called concurrently.
type Caller struct {
	cfg     Config
	known   http.Client // of functions that the operator has given
	foreign http.Client // of those that are named by their URL
	slots   chan struct{}
	calls   *prometheus.CounterVec
	seconds prometheus.Histogram
}

// New returns a Caller. It fails on a URL that cannot be called.
func New(cfg Config) (*Caller, error) {
	for function, address := range cfg.Functions {
		if err := checkURL(address); err != nil {
			return nil, fmt.Errorf("function %s: %w", function, err)
		}
	}
	cfg.Timeout = cmp.Or(cfg.Timeout, 5*time.Second)
	cfg.MaxAnswer = cmp.Or(cfg.MaxAnswer, 256<<10)
	cfg.Concurrency = cmp.Or(cfg.Concurrency, 100)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	known, foreign := cfg.Transport, cfg.Transport
	if standard, ok := http.DefaultTransport.(*http.Transport); ok && known == nil {
		// All calls may go to one function: its connections are kept.
		transport := standard.Clone()
		transport.MaxIdleConnsPerHost = cfg.Concurrency
		known = transport
		transport = transport.Clone()
		transport.Proxy = nil // behind which the address says nothing
		transport.DialContext = (&net.Dialer{Timeout: cfg.Timeout, ControlContext: public}).DialContext
		foreign = transport
	}
	client := func(t http.RoundTripper) http.Client {
		return http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	c := &Caller{
		cfg:     cfg,
		slots:   make(chan struct{}, cfg.Concurrency),
		known:   client(known),
		foreign: client(foreign),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "drover_function_calls_total", Help: "Calls of functions of the operator, by result: ok, failed, busy.",
		}, []string{"result"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "drover_function_call_seconds", Help: "Time that functions of the operator took to answer.",
			Buckets: []float64{.01, .03, .1, .3, 1, 3, 5},
		}),
	}
	for _, result := range []string{"ok", "failed", "busy"} {
		c.calls.WithLabelValues(result)
	}
	if cfg.Metrics != nil {
		cfg.Metrics.MustRegister(c.calls, c.seconds)
	}
	return c, nil
}

func checkURL(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("%q is not a URL with http:// or https://", address)
	}
	return nil
}

// Call tells the function event, in JSON, and returns its answer. A function is named by its
// ARN, or by its URL, which then must be https and lead to the internet: who may define authorizers
// shall not reach what the server can. ErrBusy; every other error says what is wrong
// with the function.
func (c *Caller) Call(ctx context.Context, function string, event any) (answer []byte, err error) {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	default:
		c.calls.WithLabelValues("busy").Inc()
		return nil, ErrBusy
	}
	began := time.Now()
	defer func() {
		result := "ok"
		if err != nil {
			result = "failed"
			err = fmt.Errorf("function %s: %w", function, err)
		}
		c.calls.WithLabelValues(result).Inc()
		c.seconds.Observe(time.Since(began).Seconds())
	}()
	address, client, err := c.address(function)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(event)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.Timeout, fmt.Errorf("no answer within %s", c.cfg.Timeout))
	defer cancel()
	answer, err = c.post(ctx, client, address, body)
	if errors.Is(err, syscall.ECONNREFUSED) {
		// It restarts, perhaps; nothing has been done.
		answer, err = c.post(ctx, client, address, body)
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return answer, err
}

func (c *Caller) address(function string) (string, *http.Client, error) {
	if address, ok := c.cfg.Functions[function]; ok {
		return address, &c.known, nil
	}
	if strings.HasPrefix(function, "https://") {
		return function, &c.foreign, checkURL(function)
	}
	return "", nil, errors.New("this server knows no URL for it; say --function ARN=URL")
}

// public refuses addresses that only the operator may send the server to. It is decided by what a name
// has resolved to, when the connection is made.
func public(_ context.Context, _, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err == nil && !iot.Public(at.Addr()) {
		err = fmt.Errorf("%s is not an address of the internet; the operator can name this function by --function", at.Addr())
	}
	return err
}

func (c *Caller) post(ctx context.Context, client *http.Client, address string, body []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	if c.cfg.Secret != nil {
		r.Header.Set("X-Signature", Sign(c.cfg.Secret, c.cfg.Now(), body))
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answered with the status %d", resp.StatusCode)
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, c.cfg.MaxAnswer+1))
	if err != nil {
		return nil, err
	}
	if int64(len(answer)) > c.cfg.MaxAnswer {
		return nil, fmt.Errorf("its answer has more than %d bytes", c.cfg.MaxAnswer)
	}
	return answer, nil
}

// Sign returns the value of X-Signature for a body.
func Sign(secret []byte, now time.Time, body []byte) string {
	t := strconv.FormatInt(now.Unix(), 10)
	mac := hmac.New(sha256.New, secret)
	// Writing to a hash never fails.
	_, _ = io.WriteString(mac, t+".")
	_, _ = mac.Write(body)
	return "t=" + t + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}
