package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"drover/internal/engine"
	"drover/internal/store"
)

// readiness says whether the server can do its work now, and if not, what is in the way. Anybody may
// ask, as often as he likes: it is looked at once for all who wait.
type readiness struct {
	log    *slog.Logger
	checks []readyCheck
	looks  singleflight.Group

	mu   sync.Mutex
	why  string // not, whatever the checks say; "" if only they count
	last string // what was found, for the log
}

// readyCheck is something that the server cannot do without. What the error says is for the log
// alone: whoever asks has not shown who he is.
type readyCheck struct {
	lack string // what is wrong if it is not there
	look func(context.Context) error
}

const (
	// readyPatience bounds how long it takes to look: less than load balancers wait.
	readyPatience = 3 * time.Second
	// unpublishedPatience is for how long something may be committed and not told.
	unpublishedPatience = 30 * time.Second
)

// newReadiness returns the readiness of a server that starts.
func newReadiness(kept *store.Observed, ping func(context.Context) error, e *engine.Engine, log *slog.Logger) *readiness {
	return &readiness{log: log, why: "starting", checks: []readyCheck{
		{"the database does not answer", ping},
		{"the database takes no changes", kept.Writable},
		{"other nodes may take this one for dead", func(ctx context.Context) error {
			select {
			case <-kept.Lost():
				return store.ErrFenced
			default:
				return kept.Hold(ctx)
			}
		}},
		{"what has been committed is not published", func(context.Context) error {
			if records, age := e.Unpublished(); age > unpublishedPatience {
				return fmt.Errorf("%d records wait, the oldest for %s", records, age.Round(time.Second))
			}
			return nil
		}},
	}}
}

// set says why the server is not ready; "" leaves that to the checks.
func (r *readiness) set(why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.why = why
}

// look returns what is in the way.
func (r *readiness) look() (lacks []string) {
	r.mu.Lock()
	why := r.why
	r.mu.Unlock()
	if why != "" {
		return []string{why}
	}
	looks := make([]<-chan singleflight.Result, len(r.checks))
	for i, c := range r.checks {
		looks[i] = r.looks.DoChan(c.lack, func() (any, error) {
			ctx, cancel := context.WithTimeout(context.Background(), readyPatience)
			defer cancel()
			return nil, c.look(ctx)
		})
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyPatience)
	defer cancel()
	var reasons []string
	for i, c := range r.checks {
		if err := await(ctx, looks[i]); err != nil {
			lacks = append(lacks, c.lack)
			reasons = append(reasons, err.Error())
		}
	}
	r.note(lacks, reasons)
	return lacks
}

// await returns the error of a look, and that of ctx if it takes longer.
func await(ctx context.Context, look <-chan singleflight.Result) error {
	select {
	case res := <-look:
		return res.Err
	case <-ctx.Done():
	}
	select {
	case res := <-look:
		return res.Err
	default:
		return ctx.Err()
	}
}

// note tells the log when something has changed.
func (r *readiness) note(lacks, reasons []string) {
	now := strings.Join(lacks, "; ")
	r.mu.Lock()
	before := r.last
	r.last = now
	r.mu.Unlock()
	switch {
	case now == before:
	case now == "":
		r.log.Info("ready again")
	default:
		r.log.Error("not ready", "why", now, "err", strings.Join(reasons, "; "))
	}
}

// ServeHTTP implements http.Handler.
func (r *readiness) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if lacks := r.look(); len(lacks) > 0 {
		writeText(w, http.StatusServiceUnavailable, "not ready: "+strings.Join(lacks, "; "))
		return
	}
	writeText(w, http.StatusOK, "ok")
}
