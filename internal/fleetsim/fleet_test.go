package fleetsim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"crypto/tls"
	"crypto/x509"
)

// quick is a configuration with which a test takes milliseconds.
func quick(b *broker, things ...string) Config {
	return Config{
		Endpoint:       b.endpoint,
		Things:         things,
		Duration:       time.Millisecond,
		Steps:          2,
		ConnectRate:    100_000,
		RequestTimeout: 5 * time.Second,
		Backoff:        time.Millisecond,
		Seed:           1,
	}
}

// play runs a fleet that has to stop by itself.
func play(t *testing.T, cfg Config) Summary {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	f, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s, err := f.Run(ctx)
	if err != nil {
		t.Fatalf("%v\n%s", err, s)
	}
	return s
}

func TestLife(t *testing.T) {
	t.Parallel()
	for _, version := range []int{4, 5} {
		t.Run(fmt.Sprintf("MQTT version %d", version), func(t *testing.T) {
			t.Parallel()
			b := newBroker(t, nil)
			b.queue("a", "j1")
			b.queue("a", "j2")
			cfg := quick(b, "a")
			cfg.ProtocolVersion = version
			cfg.Idle = 10 * time.Millisecond
			s := play(t, cfg)
			eventually(t, func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.goodbyes == 1 })
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.unacked != 0 {
				t.Errorf("%d messages are not acknowledged", b.unacked)
			}

			wantRequests := []string{
				"start-next", "j1/update IN_PROGRESS", "j1/update IN_PROGRESS", "j1/update SUCCEEDED",
				"start-next", "j2/update IN_PROGRESS", "j2/update IN_PROGRESS", "j2/update SUCCEEDED",
				"start-next",
			}
			// The notify-next after the end of j1 may arrive while start-next is under
			// way, and the one after j2 names nothing: no further request.
			if got := b.logLocked(); !slices.Equal(got, wantRequests) {
				t.Errorf("requests:\n%q, want\n%q", got, wantRequests)
			}
			wantFilters := []string{
				"$aws/things/a/jobs/notify-next",
				"$aws/things/a/jobs/start-next/accepted", "$aws/things/a/jobs/start-next/rejected",
				"$aws/things/a/jobs/+/update/accepted", "$aws/things/a/jobs/+/update/rejected",
			}
			if !slices.Equal(b.filters, wantFilters) {
				t.Errorf("subscriptions %q, want %q", b.filters, wantFilters)
			}
			details := b.requests[1].body["statusDetails"]
			if want := map[string]any{"progress": "33%", "step": "downloading"}; fmt.Sprint(details) != fmt.Sprint(want) {
				t.Errorf("first report has details %v, want %v", details, want)
			}
			if s.Succeeded != 2 || s.Ended() != 2 || s.Requests != 9 || s.Rejected != 0 || s.Errors != 0 || s.Working != 0 {
				t.Errorf("summary:\n%s", s)
			}
			if s.StartNext.Count != 3 || s.Update.Count != 6 || s.StartNext.Max <= 0 {
				t.Errorf("latencies: %+v, %+v", s.StartNext, s.Update)
			}
		})
	}
}

func TestIdleDeviceStartsWhatIsAnnounced(t *testing.T) {
	t.Parallel()
	b := newBroker(t, nil)
	cfg := quick(b, "a", "b")
	cfg.Executions = 1
	f, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := f.Run(t.Context())
		ended <- err
	}()
	eventually(t, func() bool { return f.Progress().Idle == 2 })
	if got := b.log(); !slices.Equal(got, []string{"start-next", "start-next"}) {
		t.Errorf("idle devices have sent %q", got)
	}
	b.queue("b", "j")
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if p := f.Progress(); p.Succeeded != 1 || p.Connected != 0 || p.Idle != 0 {
		t.Errorf("progress after the end: %+v", p)
	}
}

func TestFailure(t *testing.T) {
	t.Parallel()
	b := newBroker(t, nil)
	b.queue("a", "j")
	cfg := quick(b, "a")
	cfg.Success = -1
	cfg.Executions = 1
	if s := play(t, cfg); s.Failed != 1 || s.Succeeded != 0 {
		t.Errorf("summary:\n%s", s)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	last := b.requests[3] // after start-next and two reports
	if details, ok := last.body["statusDetails"].(map[string]any); last.body["status"] != "FAILED" || !ok || details["reason"] == nil {
		t.Errorf("result: %v", last.body)
	}
}

// TestTrouble lets one thing go wrong and looks at what the device does then.
func TestTrouble(t *testing.T) {
	t.Parallel()
	const (
		start    = "start-next"
		progress = "j/update IN_PROGRESS"
		success  = "j/update SUCCEEDED"
	)
	tests := []struct {
		name     string
		request  int // counted from 0, which the fault befalls
		fault    fault
		requests []string
		connects int
		outcome  string // of j
		code     string // in the summary
	}{
		{"throttled start-next is repeated", 0, throttle, []string{start, start, progress, success, start}, 1, "SUCCEEDED", "RequestThrottled"},
		{"internal error in update is repeated", 1, internal, []string{start, progress, progress, success, start}, 1, "SUCCEEDED", "InternalError"},
		{"cancelled while working", 1, withdraw, []string{start, progress, start}, 1, "CANCELED", "InvalidStateTransition"},
		{"cancelled before the end", 2, withdraw, []string{start, progress, success, start}, 1, "CANCELED", "InvalidStateTransition"},
		{"deleted while working", 1, remove, []string{start, progress, start}, 1, "REMOVED", "ResourceNotFound"},
		{"updated by somebody else", 1, touch, []string{start, progress, progress, success, start}, 1, "SUCCEEDED", "VersionMismatch"},
		{"connection lost with start-next", 0, loseIt, []string{start, start, progress, success, start}, 2, "SUCCEEDED", "ConnectionLost"},
		{"connection lost after start-next", 0, loseReply, []string{start, start, progress, success, start}, 2, "SUCCEEDED", "ConnectionLost"},
		{"connection lost with progress", 1, loseIt, []string{start, progress, start, progress, success, start}, 2, "SUCCEEDED", "ConnectionLost"},
		{"connection lost with result", 2, loseIt, []string{start, progress, success, success, start}, 2, "SUCCEEDED", "ConnectionLost"},
		{"connection lost after result", 2, loseReply, []string{start, progress, success, success, start}, 2, "SUCCEEDED", "ConnectionLost"},
		{"result not answered", 2, mute, []string{start, progress, success, success, start}, 1, "SUCCEEDED", "Timeout"},
		{"start-next not answered", 0, mute, []string{start, start, progress, success, start}, 1, "SUCCEEDED", "Timeout"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBroker(t, nil)
			var n int
			b.fault = func(request) fault {
				if n++; n-1 == test.request {
					return test.fault
				}
				return none
			}
			b.queue("a", "j")
			cfg := quick(b, "a")
			cfg.Steps = 1
			cfg.Idle = 10 * time.Millisecond
			cfg.Seed = carefulSeed(cfg)
			if test.fault == mute {
				cfg.RequestTimeout = 200 * time.Millisecond
			}
			s := play(t, cfg)
			b.mu.Lock()
			defer b.mu.Unlock()
			if got := b.logLocked(); !slices.Equal(got, test.requests) {
				t.Errorf("requests:\n%q, want\n%q", got, test.requests)
			}
			if b.connects != test.connects {
				t.Errorf("%d connections, want %d", b.connects, test.connects)
			}
			if got := b.all[0].status; got != test.outcome {
				t.Errorf("ended as %s, want %s", got, test.outcome)
			}
			if s.Ended() != 1 || (s.Succeeded == 1) != (test.outcome == "SUCCEEDED") {
				t.Errorf("summary:\n%s", s)
			}
			if s.Codes[test.code] == 0 {
				t.Errorf("codes %v lack %s", s.Codes, test.code)
			}
		})
	}
}

// carefulSeed returns a seed with which the first device names the expected
// version in its first report.
func carefulSeed(cfg Config) uint64 {
	f := &Fleet{cfg: cfg}
	for seed := uint64(1); ; seed++ {
		f.cfg.Seed = seed
		f.cfg.Success = 1
		d := newDevice(f, "a", 0)
		d.plan("j", 1, 1)
		if _, careful := d.rand.IntN(8), d.rand.IntN(4) == 0; careful {
			return seed
		}
	}
}

// TestEveryExecutionEndsOnce plays many devices against a broker that does
// every wrong thing it can.
func TestEveryExecutionEndsOnce(t *testing.T) {
	t.Parallel()
	const devices, each = 40, 8
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	faults := []fault{throttle, internal, withdraw, remove, touch, loseIt, loseReply, mute}

	b := newBroker(t, nil)
	b.fault = func(request) fault { // one at a time: the broker holds its lock
		if random.IntN(5) > 0 {
			return none
		}
		return faults[random.IntN(len(faults))]
	}
	things := Names("press", devices)
	for _, thing := range things {
		for n := range each {
			b.queue(thing, fmt.Sprintf("%s-%d", thing, n))
		}
	}
	cfg := quick(b, things...)
	cfg.Success = 0.7
	cfg.Steps = 0
	cfg.Seed = seed
	cfg.RequestTimeout = 300 * time.Millisecond
	cfg.Idle = 700 * time.Millisecond
	s := play(t, cfg)
	b.mu.Lock()
	defer b.mu.Unlock()

	var succeeded, failed, neverStarted int64
	for _, e := range b.all {
		switch e.status {
		case "SUCCEEDED":
			succeeded++
		case "FAILED":
			failed++
		case "CANCELED", "REMOVED":
			if e.version == 1 {
				neverStarted++
			}
		default:
			t.Errorf("%s is left %s", e.job, e.status)
		}
		if want := map[string]int{"SUCCEEDED": 1, "FAILED": 1}[e.status]; e.ends != want {
			t.Errorf("%s is %s after %d results", e.job, e.status, e.ends)
		}
	}
	// What the broker withdrew while only it knew that it was started (a lost
	// answer to start-next) is no execution to the device: hence only a bound.
	withdrawn := devices*each - succeeded - failed
	if s.Succeeded != succeeded || s.Failed != failed || s.Withdrawn > withdrawn-neverStarted || s.Working != 0 {
		t.Errorf("broker: %d succeeded, %d failed, %d withdrawn (%d never started); fleet:\n%s", succeeded, failed, withdrawn, neverStarted, s)
	}
	if s.Rejected == 0 || s.Errors == 0 {
		t.Errorf("no trouble in\n%s", s)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	depot := &depot{content: []byte("firmware")}
	certificates := httptest.NewUnstartedServer(http.HandlerFunc(depot.serve))
	certificates.StartTLS()
	defer certificates.Close()
	b := newBroker(t, &tls.Config{Certificates: certificates.TLS.Certificates})
	b.document = map[string]any{"url": certificates.URL, "sha256": fmt.Sprintf("%x", sha256.Sum256(depot.content))}
	b.queue("a", "j")
	roots := x509.NewCertPool()
	roots.AddCert(certificates.Certificate())
	cfg := quick(b, "a")
	cfg.TLS = &tls.Config{RootCAs: roots}
	cfg.Duration = 20 * time.Millisecond // so that reads time out and go on
	cfg.Executions = 1
	if s := play(t, cfg); s.Succeeded != 1 || s.Errors != 0 || s.Downloads.Files != 1 {
		t.Errorf("summary:\n%s", s)
	}
	if cfg.TLS.NextProtos != nil {
		t.Errorf("MQTT would offer %q", cfg.TLS.NextProtos)
	}
}

func TestNothingListens(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	cfg := Config{
		Endpoint:    "mqtt://device.invalid",
		Things:      []string{"a"},
		Backoff:     time.Millisecond,
		ConnectRate: 1000,
		Executions:  1,
		Logger:      slog.New(slog.NewTextHandler(&log, nil)),
	}
	refused := errors.New("refused")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	dials := 0
	cfg.Dial = func(context.Context) (net.Conn, error) {
		if dials++; dials == 3 {
			cancel()
		}
		return nil, refused
	}
	f, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s, err := f.Run(ctx)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
	if s.Errors != 2 || s.Codes["ConnectFailed"] != 2 {
		t.Errorf("summary:\n%s", s)
	}
	if n := strings.Count(log.String(), "ConnectFailed"); n != 1 {
		t.Errorf("logged %d times, want once:\n%s", n, &log)
	}
}

func TestRunWithoutEndIsNoError(t *testing.T) {
	t.Parallel()
	b := newBroker(t, nil)
	f, err := New(quick(b, "a"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := f.Run(ctx)
		ended <- err
	}()
	eventually(t, func() bool { return f.Progress().Idle == 1 })
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]Config{
		"no things":   {Endpoint: "mqtt://localhost"},
		"no endpoint": {Things: []string{"a"}},
		"no host":     {Things: []string{"a"}, Endpoint: "mqtt://:1883"},
		"scheme":      {Things: []string{"a"}, Endpoint: "http://localhost"},
		"version":     {Things: []string{"a"}, Endpoint: "mqtt://localhost", ProtocolVersion: 3},
		"probability": {Things: []string{"a"}, Endpoint: "mqtt://localhost", Success: 97},
		"rate":        {Things: []string{"a"}, Endpoint: "mqtt://localhost", ConnectRate: -1},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	f, err := New(Config{Things: Names("x", 2), Endpoint: "mqtts://localhost"})
	if err != nil {
		t.Fatal(err)
	}
	if f.cfg.Seed == 0 || f.cfg.Success != 1 || f.cfg.ProtocolVersion != 4 {
		t.Errorf("defaults: %+v", f.cfg)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	if got := Names("press", 2); !slices.Equal(got, []string{"press-0001", "press-0002"}) {
		t.Errorf("got %q", got)
	}
	if got := Names("p", 12_345); got[0] != "p-00001" || got[12_344] != "p-12345" {
		t.Errorf("got %q … %q", got[0], got[12_344])
	}
}

func TestSummaryText(t *testing.T) {
	t.Parallel()
	s := Summary{
		Progress: Progress{Devices: 3, Succeeded: 8, Failed: 1, Withdrawn: 1, Requests: 40, Rejected: 2},
		Seed:     7,
		Duration: 2 * time.Second,
		Update:   Latency{Count: 30, P50: 1234 * time.Microsecond, P90: 20 * time.Millisecond, P99: time.Second, Max: time.Minute},
		Codes:    map[string]int64{"RequestThrottled": 2},
	}
	want := `3 devices, seed 7, 2s
executions  10 ended: 8 succeeded, 1 failed, 1 withdrawn (5.0/s)
requests    40 sent, 2 rejected
start-next  none
update      p50 1.23ms, p90 20ms, p99 1s, max 1m0s
            RequestThrottled: 2`
	if got := s.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	want = `{"devices":3,"seed":7,"seconds":2,"executions":{"ended":10,"failed":1,"succeeded":8,"withdrawn":1},` +
		`"requests":40,"rejected":2,"errors":0,"codes":{"RequestThrottled":2},` +
		`"startNext":{"count":0,"p50Ms":0,"p90Ms":0,"p99Ms":0,"maxMs":0},` +
		`"update":{"count":30,"p50Ms":1.234,"p90Ms":20,"p99Ms":1000,"maxMs":60000},"downloads":{"bytes":0,"failed":0,"files":0,"resumed":0,"seconds":0,"waited":0}}`
	if string(text) != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
}

// eventually waits until a condition holds.
func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal("not in time")
		}
	}
}
