package auth

import (
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Way is how somebody shows who he is. What is known of failures is kept for each by itself, so that
// who fails at one stands in nobody's way at another.
type Way uint8

// The ways.
const (
	ByCertificate Way = iota
	BySignature
	ByFunction // of a custom authorizer
)

var ways = [...]string{ByCertificate: "certificate", BySignature: "signature", ByFunction: "function"}

// Failures bounds how often one source may fail to show who it is. A source, an IPv4 address or an
// IPv6 /64, has a credit of failures that grows again at a constant rate. While it has none, further
// attempts from there are turned away before anything is worked out; nobody waits, and nothing is kept
// of them.
//
// Several people can share an address. So credit is taken for failures only; an attempt that comes
// when a little has grown again is looked at whoever makes it; and a proof, something of the
// credential that has been shown from this source before, lets attempts with it pass regardless.
//
// Addresses of the machine itself are not bounded: whoever is behind a proxy that does not say for
// whom it speaks would be one with all others. A nil *Failures bounds nobody. The methods may be called
// concurrently.
type Failures struct {
	each    time.Duration // after which one failure is forgiven
	credit  time.Duration // of failures that are not forgiven yet
	now     func() time.Time
	counter *prometheus.CounterVec

	mu     sync.Mutex
	owed   map[source]time.Time // when all failures will be forgiven
	proven map[proof]struct{}
}

type source struct {
	way  Way
	from netip.Prefix
}

type proof struct {
	source
	credential string
}

const (
	// maxSources and maxProven bound the memory, to about 10 MB each.
	maxSources = 100_000
	maxProven  = 50_000
	// burst is for how many seconds the failures may come at once.
	burst = 10
)

// NewFailures returns a Failures that forgives so many a second, and takes ten times as many at once;
// nil, which bounds nobody, for 0.
func NewFailures(perSecond int, now func() time.Time, reg prometheus.Registerer) *Failures {
	if perSecond <= 0 {
		return nil
	}
	f := &Failures{each: time.Second / time.Duration(perSecond), credit: burst * time.Second, now: now,
		owed: make(map[source]time.Time), proven: make(map[proof]struct{}),
		counter: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "drover_authentication_failures_total", Help: "Attempts to show who one is that failed, and those that were turned away unseen because too many had.",
		}, []string{"way", "result"})}
	reg.MustRegister(f.counter)
	for _, way := range ways {
		f.counter.WithLabelValues(way, "failed")
		f.counter.WithLabelValues(way, "turned_away")
	}
	return f
}

// sourceOf reports false for an address that is not bounded.
func sourceOf(way Way, from netip.Addr) (source, bool) {
	from = from.Unmap()
	if !from.IsValid() || from.IsLoopback() {
		return source{}, false
	}
	bits := 32
	if from.Is6() {
		bits = 64
	}
	prefix, err := from.WithZone("").Prefix(bits)
	return source{way, prefix}, err == nil
}

// May reports whether an attempt is to be looked at. The credential is what a proof was kept for, ""
// if it is not known yet.
func (f *Failures) May(way Way, from netip.Addr, credential string) bool {
	if f == nil {
		return true
	}
	s, ok := sourceOf(way, from)
	if !ok {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	owed, ok := f.owed[s]
	if !ok || owed.Sub(f.now()) <= f.credit-f.each {
		return true
	}
	if _, proven := f.proven[proof{s, credential}]; proven {
		return true
	}
	f.counter.WithLabelValues(ways[way], "turned_away").Inc()
	return false
}

// Failed takes a failure into account.
func (f *Failures) Failed(way Way, from netip.Addr) {
	if f == nil {
		return
	}
	f.counter.WithLabelValues(ways[way], "failed").Inc()
	s, ok := sourceOf(way, from)
	if !ok {
		return
	}
	now := f.now()
	f.mu.Lock()
	defer f.mu.Unlock()
	owed := f.owed[s]
	if owed.Before(now) {
		owed = now
	}
	// Many that were looked at together shall not take more than there is.
	if owed = owed.Add(f.each); owed.Sub(now) > f.credit {
		owed = now.Add(f.credit)
	}
	if _, known := f.owed[s]; !known && len(f.owed) >= maxSources {
		f.makeRoom(now)
	}
	f.owed[s] = owed
}

// makeRoom forgets sources that owe nothing, and one that does if all do. It looks at a few at a time,
// in the random order of a map, so that an attempt costs no more when there are many. mu is held.
func (f *Failures) makeRoom(now time.Time) {
	looked := 0
	for s, owed := range f.owed {
		if looked++; !owed.After(now) || looked == 16 && len(f.owed) >= maxSources {
			delete(f.owed, s)
		}
		if looked == 16 {
			break
		}
	}
}

// Succeeded remembers a proof: attempts with this credential from there pass from now on, however many
// others fail. It must be something that who has not got the credential does not know, or cannot make
// use of.
func (f *Failures) Succeeded(way Way, from netip.Addr, credential string) {
	if f == nil || credential == "" {
		return
	}
	s, ok := sourceOf(way, from)
	if !ok {
		return
	}
	p := proof{s, credential}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, known := f.proven[p]; known {
		return
	}
	if len(f.proven) >= maxProven {
		for old := range f.proven { // any: it can be shown again
			delete(f.proven, old)
			break
		}
	}
	f.proven[p] = struct{}{}
}
