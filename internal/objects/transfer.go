package objects

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Transfers may take hours, but not for nothing: who neither takes nor gives this much in
// this time is cut off. That is about 2 kB a second.
const (
	progress     = 128 << 10
	progressTime = time.Minute
)

// transfers are the connections that are in use, so that they can be ended.
type transfers struct {
	patience time.Duration // how long one may take for the next bytes

	mu       sync.Mutex
	active   map[*http.ResponseController]bool
	stopping bool
}

func (t *transfers) begin(w http.ResponseWriter) (end func()) {
	control := http.NewResponseController(w)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.active == nil {
		t.active = make(map[*http.ResponseController]bool)
	}
	t.active[control] = true
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.active, control)
		if !t.stopping {
			// The next request on the connection has all the time; net/http sets its own
			// for reading. It fails where the connection is gone.
			_ = control.SetWriteDeadline(time.Time{})
		}
	}
}

// cut makes whatever reads or writes fail from now on.
func (t *transfers) cut() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopping = true
	for control := range t.active {
		// A connection that has no deadlines is not one of a network.
		_ = control.SetReadDeadline(time.Unix(1, 0))
		_ = control.SetWriteDeadline(time.Unix(1, 0))
	}
}

// extend gives a reader or a writer its time.
func (t *transfers) extend(set func(time.Time) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopping {
		return net.ErrClosed
	}
	return set(time.Now().Add(t.patience))
}

// patientBody is a body that may take as long as it makes progress.
type patientBody struct {
	body      io.ReadCloser
	control   *http.ResponseController
	transfers *transfers
	left      int // bytes until the deadline moves
}

func (b *patientBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		if err := b.transfers.extend(b.control.SetReadDeadline); err != nil {
			return 0, err
		}
		b.left = progress
	}
	n, err := b.body.Read(p)
	b.left -= n
	if err == io.EOF {
		// From here on net/http reads, to see the client go, and a deadline would look like that.
		// A connection that is gone is seen where the answer is written.
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

func (b *patientBody) Close() error { return b.body.Close() }

// Limits bound what downloads take. Zero is no limit.
type Limits struct {
	Downloads  int // at a time
	Rate       int // bytes a second, of all together
	DeviceRate int // bytes a second, of one device, or one address that names no device
}

// maxChunk is how much is sent at a time. It bounds how long a deadline must last.
const maxChunk = progress

// traffic lets downloads through.
type traffic struct {
	limits  Limits
	metrics *metrics
	active  atomic.Int64
	all     *rate.Limiter // nil: no limit

	mu      sync.Mutex
	devices map[string]*shared
}

// shared is the limiter of one device, as long as it has downloads.
type shared struct {
	limiter *rate.Limiter
	users   int
}

func newTraffic(l Limits, m *metrics) *traffic {
	return &traffic{limits: l, metrics: m, all: newLimiter(l.Rate), devices: make(map[string]*shared)}
}

// newLimiter makes a limiter of bytes a second, nil for no limit. It lets a tenth of a second's
// through at once, and never less than a packet.
func newLimiter(bytes int) *rate.Limiter {
	if bytes <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(bytes), min(max(bytes/10, 1<<10), maxChunk))
}

// download is one download's share.
type download struct {
	chunk   int64 // most bytes to send at a time
	waits   []*rate.Limiter
	release func()
}

// begin lets a download begin. SlowDown if there are too many.
func (t *traffic) begin(d device, r *http.Request) (*download, error) {
	if n := t.active.Add(1); t.limits.Downloads > 0 && n > int64(t.limits.Downloads) {
		t.active.Add(-1)
		t.metrics.refused.Inc()
		return nil, errorf("SlowDown", http.StatusServiceUnavailable, "Please reduce your request rate: %d downloads are running, which is the limit.", t.limits.Downloads)
	}
	t.metrics.downloads.Inc()
	down := &download{chunk: maxChunk, release: func() {}}
	// The device's own limit first: who waits there takes nothing of what is for all.
	if t.limits.DeviceRate > 0 {
		name := d.name(r)
		down.waits = append(down.waits, t.join(name))
		down.release = func() { t.leave(name) }
	}
	if t.all != nil {
		down.waits = append(down.waits, t.all)
	}
	for _, l := range down.waits {
		down.chunk = min(down.chunk, int64(l.Burst()))
	}
	release := down.release
	down.release = func() {
		release()
		t.active.Add(-1)
		t.metrics.downloads.Dec()
	}
	return down, nil
}

func (t *traffic) join(name string) *rate.Limiter {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.devices[name]
	if s == nil {
		s = &shared{limiter: newLimiter(t.limits.DeviceRate)}
		t.devices[name] = s
	}
	s.users++
	return s.limiter
}

func (t *traffic) leave(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.devices[name]; s != nil {
		if s.users--; s.users == 0 {
			delete(t.devices, name)
		}
	}
}

// wait waits until n bytes may be sent.
func (d *download) wait(ctx context.Context, n int64) error {
	for _, l := range d.waits {
		if err := l.WaitN(ctx, int(n)); err != nil {
			return err
		}
	}
	return nil
}

func (d *download) end() { d.release() }

// retryAfter is when who was refused should come again, in seconds: not all at once.
func retryAfter() int { return 5 + rand.IntN(11) }
