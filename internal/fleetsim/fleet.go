package fleetsim

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// Config says which fleet to play. Endpoint and Things are required.
type Config struct {
	Endpoint string      // mqtt://host[:1883] or mqtts://host[:8883]; on port 443, TLS asks for MQTT by ALPN (spec §11.12); or ws:// or wss:// with a path
	TLS      *tls.Config // for mqtts and wss: roots, client certificate; nil for the system's roots and no certificate

	Things          []string // thing names, each one device whose client id it is; see Names
	ProtocolVersion int      // of MQTT: 4 (3.1.1, the default) or 5

	Success  float64       // probability that an execution ends as SUCCEEDED, else FAILED; 0 means 1, negative means never
	Duration time.Duration // work on one execution, ±20 %; default 2 s, negative for none
	Steps    int           // progress reports during the work; 0 draws 2 to 4 for each execution, negative for none

	ConnectRate    int           // connections opened per second, reconnections included; default 500
	RequestTimeout time.Duration // for an answer, and for a connection to open; default 10 s
	Backoff        time.Duration // first pause after a failure, doubled up to 64 times, each drawn from ±50 %; default 500 ms

	Executions int           // stop when so many executions have ended; 0: do not stop for this reason
	Idle       time.Duration // stop when all devices were connected with nothing pending for so long; 0: do not stop for this reason

	Seed   uint64           // of every random choice; 0 draws one
	Logger *slog.Logger     // default: nothing is logged
	Now    func() time.Time // clock of measured durations; default time.Now

	// Dial opens a connection to the endpoint; default: what Endpoint says.
	Dial func(ctx context.Context) (net.Conn, error)
}

// Names returns n thing names: the prefix, "-", and a number from 1 on with
// zeros before it so that all have the same length, at least four digits.
func Names(prefix string, n int) []string {
	width := max(len(fmt.Sprint(n)), 4)
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%0*d", prefix, width, i+1)
	}
	return names
}

// Fleet is a number of simulated devices.
type Fleet struct {
	cfg  Config
	pace pacer
	end  context.CancelCauseFunc // set by Run

	connected, idle, working     atomic.Int64
	succeeded, failed, withdrawn atomic.Int64
	requests, rejected, errors   atomic.Int64
	busier                       atomic.Int64  // how often a device stopped being idle
	quiet                        chan struct{} // told when the last device becomes idle

	startNext, update latencies
	downloads         *downloader

	mu    sync.Mutex
	codes map[string]int64
}

// The reasons why a run stops by itself.
var (
	errEnoughEnded = errors.New("enough executions have ended")
	errAllIdle     = errors.New("nothing was pending for long enough")
)

// New returns a fleet ready to Run. It returns an error if the configuration
// makes no sense.
func New(cfg Config) (*Fleet, error) {
	switch {
	case len(cfg.Things) == 0:
		return nil, errors.New("fleetsim: no things to play")
	case cfg.Success > 1:
		return nil, fmt.Errorf("fleetsim: probability of success %v is above 1", cfg.Success)
	case cfg.ConnectRate < 0 || cfg.Executions < 0 || cfg.Idle < 0:
		return nil, errors.New("fleetsim: connect rate, number of executions and idle time must not be negative")
	}
	cfg.ProtocolVersion = cmp.Or(cfg.ProtocolVersion, 4)
	if cfg.ProtocolVersion != 4 && cfg.ProtocolVersion != 5 {
		return nil, fmt.Errorf("fleetsim: MQTT protocol version must be 4 or 5, not %d", cfg.ProtocolVersion)
	}
	if cfg.Dial == nil {
		dial, err := dialer(cfg.Endpoint, cfg.TLS)
		if err != nil {
			return nil, err
		}
		cfg.Dial = dial
	}
	cfg.Success = cmp.Or(cfg.Success, 1)
	cfg.Duration = cmp.Or(cfg.Duration, 2*time.Second)
	cfg.ConnectRate = cmp.Or(cfg.ConnectRate, 500)
	cfg.RequestTimeout = cmp.Or(cfg.RequestTimeout, 10*time.Second)
	cfg.Backoff = cmp.Or(cfg.Backoff, 500*time.Millisecond)
	for cfg.Seed == 0 {
		cfg.Seed = rand.Uint64()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	f := &Fleet{
		cfg:   cfg,
		pace:  pacer{interval: time.Second / time.Duration(cfg.ConnectRate)},
		quiet: make(chan struct{}, 1),
		codes: make(map[string]int64),
	}
	f.downloads = newDownloader(&f.cfg)
	return f, nil
}

// dialer returns how to open a connection to an endpoint.
func dialer(endpoint string, config *tls.Config) (func(context.Context) (net.Conn, error), error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, fmt.Errorf("fleetsim: endpoint: %w", err)
	}
	if u.Hostname() == "" {
		return nil, fmt.Errorf("fleetsim: endpoint %q names no host", endpoint)
	}
	// The keep-alive of TCP would be a second one under that of MQTT.
	plain := &net.Dialer{KeepAlive: -1}
	switch u.Scheme {
	case "mqtt":
		address := net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "1883"))
		return func(ctx context.Context) (net.Conn, error) { return plain.DialContext(ctx, "tcp", address) }, nil
	case "mqtts":
		port := cmp.Or(u.Port(), "8883")
		if config == nil {
			config = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		if port == "443" && len(config.NextProtos) == 0 {
			config = config.Clone()
			config.NextProtos = []string{"x-amzn-mqtt-ca"}
		}
		secure := &tls.Dialer{NetDialer: plain, Config: config}
		address := net.JoinHostPort(u.Hostname(), port)
		return func(ctx context.Context) (net.Conn, error) { return secure.DialContext(ctx, "tcp", address) }, nil
	case "ws", "wss":
		return dialWebSocket(endpoint, plain, config), nil
	default:
		return nil, fmt.Errorf("fleetsim: endpoint %q is none of mqtt://, mqtts://, ws://, wss://", endpoint)
	}
}

// Run plays the fleet until Executions or Idle stop it or ctx ends, and returns
// when every device has left. It is an error if ctx ends before Executions or
// Idle, where set, have stopped the fleet; the summary is valid nonetheless. A
// fleet runs once.
func (f *Fleet) Run(ctx context.Context) (Summary, error) {
	started := f.cfg.Now()
	ctx, f.end = context.WithCancelCause(ctx)
	defer f.end(nil)
	defer f.downloads.client.CloseIdleConnections()

	var running sync.WaitGroup
	for i, thing := range f.cfg.Things {
		running.Go(func() { newDevice(f, thing, uint64(i)).run(ctx) })
	}
	if f.cfg.Idle > 0 {
		running.Go(func() { f.stopWhenIdle(ctx) })
	}
	f.cfg.Logger.InfoContext(ctx, "fleet started", "devices", len(f.cfg.Things), "seed", f.cfg.Seed)
	running.Wait()

	s := Summary{
		Progress:  f.Progress(),
		Seed:      f.cfg.Seed,
		Duration:  f.cfg.Now().Sub(started),
		StartNext: f.startNext.summary(),
		Update:    f.update.summary(),
		Downloads: f.downloads.summary(),
	}
	f.mu.Lock()
	s.Codes = maps.Clone(f.codes)
	f.mu.Unlock()

	cause := context.Cause(ctx)
	if errors.Is(cause, errEnoughEnded) || errors.Is(cause, errAllIdle) || f.cfg.Executions == 0 && f.cfg.Idle == 0 {
		return s, nil
	}
	return s, fmt.Errorf("fleetsim: stopped early, after %d executions: %w", s.Ended(), cause)
}

// Progress may be called at any time from any goroutine.
func (f *Fleet) Progress() Progress {
	return Progress{
		Devices:   len(f.cfg.Things),
		Connected: int(f.connected.Load()),
		Idle:      int(f.idle.Load()),
		Working:   int(f.working.Load()),
		Succeeded: f.succeeded.Load(),
		Failed:    f.failed.Load(),
		Withdrawn: f.withdrawn.Load(),
		Requests:  f.requests.Load(),
		Rejected:  f.rejected.Load(),
		Errors:    f.errors.Load(),
	}
}

// stopWhenIdle ends the run when all devices have been idle for cfg.Idle.
func (f *Fleet) stopWhenIdle(ctx context.Context) {
	timer := time.NewTimer(f.cfg.Idle)
	timer.Stop()
	defer timer.Stop()
	var since int64
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.quiet:
			since = f.busier.Load()
			timer.Reset(f.cfg.Idle)
		case <-timer.C:
			if f.busier.Load() == since && f.allIdle() {
				f.end(errAllIdle)
				return
			}
		}
	}
}

func (f *Fleet) allIdle() bool { return f.idle.Load() == int64(len(f.cfg.Things)) }

func (f *Fleet) becameIdle() {
	if f.idle.Add(1); f.allIdle() {
		select {
		case f.quiet <- struct{}{}:
		default: // it is already to be told
		}
	}
}

func (f *Fleet) becameBusy() {
	f.busier.Add(1)
	f.idle.Add(-1)
}

// ended counts an execution that ended with a status, and ends the run if it
// was the last one wanted.
func (f *Fleet) ended(status string) {
	switch status {
	case statusSucceeded:
		f.succeeded.Add(1)
	case statusFailed:
		f.failed.Add(1)
	default:
		f.withdrawn.Add(1)
	}
	f.working.Add(-1)
	if want := int64(f.cfg.Executions); want > 0 && f.succeeded.Load()+f.failed.Load()+f.withdrawn.Load() >= want {
		f.end(errEnoughEnded)
	}
}

// refused counts a request that was answered on a rejected topic.
func (f *Fleet) refused(ctx context.Context, thing string, a answer) {
	f.rejected.Add(1)
	f.log(ctx, cmp.Or(a.Code, "NoCode"), "thing", thing, "message", a.Message)
}

// trouble counts a failure of a connection or a request left unanswered.
func (f *Fleet) trouble(ctx context.Context, thing string, err error) {
	f.errors.Add(1)
	f.log(ctx, codeOf(err), "thing", thing, "err", err)
}

// codeOf names what failed, for Summary.Codes.
func codeOf(err error) string {
	switch {
	case errors.Is(err, errDial):
		return "ConnectFailed"
	case errors.Is(err, errRefused):
		return "ConnectionRefused"
	case errors.Is(err, errSubscribe):
		return "SubscriptionRefused"
	case errors.Is(err, errPublish):
		return "RequestRefused"
	case errors.Is(err, errSilent):
		return "Timeout"
	case errors.Is(err, errAnswer):
		return "BadAnswer"
	default:
		return "ConnectionLost"
	}
}

// log counts a code, and logs its first occurrence as a warning: with thousands
// of devices the rest would say the same thousands of times.
func (f *Fleet) log(ctx context.Context, code string, args ...any) {
	f.mu.Lock()
	f.codes[code]++
	first := f.codes[code] == 1
	f.mu.Unlock()
	level := slog.LevelDebug
	if first {
		level = slog.LevelWarn
	}
	f.cfg.Logger.Log(ctx, level, "a device met trouble", append([]any{"code", code}, args...)...)
}

// pacer spreads connections in time.
type pacer struct {
	interval time.Duration
	mu       sync.Mutex
	next     time.Time
}

// wait returns when it is the caller's turn, or with ctx's error.
func (p *pacer) wait(ctx context.Context) error {
	p.mu.Lock()
	now := time.Now()
	turn := now
	if p.next.After(now) {
		turn = p.next
	}
	p.next = turn.Add(p.interval)
	p.mu.Unlock()
	return pause(ctx, turn.Sub(now))
}

// pause waits for d, or returns ctx's error if it ends earlier.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
