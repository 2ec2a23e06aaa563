package objects

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"drover/internal/iot"
)

// The parameters of a presigned URL that say for which job and thing it was made. The
// signature covers them. Without them a download is nobody's.
const (
	JobParameter   = "x-drover-job"
	ThingParameter = "x-drover-thing"
)

// device is who downloads, as its URL says.
type device struct {
	job   iot.JobID
	thing iot.ThingName
}

func (c *call) device() device {
	return device{iot.JobID(c.query.Get(JobParameter)), iot.ThingName(c.query.Get(ThingParameter))}
}

// name is by what the device's rate is limited.
func (d device) name(r *http.Request) string {
	if d.thing != "" {
		return "thing " + string(d.thing)
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	return "address " + host
}

// Recorder keeps what devices fetched. It must not keep the slice.
type Recorder interface {
	RecordDownloads(ctx context.Context, downloads []iot.Download) error
}

// tallyEvery is how often what was counted is recorded: so much of it is lost in a crash.
const tallyEvery = time.Second

// maxTally bounds what is counted between two records; from there on it is recorded at once.
const maxTally = 10_000

// tally counts what devices fetch, and hands it to the Recorder from time to time.
type tally struct {
	recorder Recorder
	log      *slog.Logger

	mu     sync.Mutex
	counts map[device]*iot.Download
	full   chan struct{}
}

func newTally(r Recorder, log *slog.Logger) *tally {
	return &tally{recorder: r, log: log, counts: make(map[device]*iot.Download), full: make(chan struct{}, 1)}
}

func (t *tally) add(d device, change func(*iot.Download)) {
	if d.job == "" || t.recorder == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	count := t.counts[d]
	if count == nil {
		count = &iot.Download{Job: d.job, Thing: d.thing}
		t.counts[d] = count
	}
	change(count)
	if len(t.counts) >= maxTally {
		select {
		case t.full <- struct{}{}:
		default:
		}
	}
}

func (t *tally) request(d device)       { t.add(d, func(c *iot.Download) { c.Requests++ }) }
func (t *tally) refused(d device)       { t.add(d, func(c *iot.Download) { c.Refused++ }) }
func (t *tally) sent(d device, n int64) { t.add(d, func(c *iot.Download) { c.Bytes += n }) }
func (t *tally) completed(d device)     { t.add(d, func(c *iot.Download) { c.Completed = true }) }

// run records until ctx ends, and then the rest.
func (t *tally) run(ctx context.Context) error {
	tick := time.NewTicker(tallyEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return t.record(context.WithoutCancel(ctx))
		case <-tick.C:
		case <-t.full:
		}
		if err := t.record(ctx); err != nil && ctx.Err() == nil {
			t.log.ErrorContext(ctx, "downloads could not be recorded", "err", err)
		}
	}
}

// record hands over what has been counted. What cannot be recorded is counted on.
func (t *tally) record(ctx context.Context) error {
	t.mu.Lock()
	counts := t.counts
	t.counts = make(map[device]*iot.Download)
	t.mu.Unlock()
	if len(counts) == 0 {
		return nil
	}
	list := make([]iot.Download, 0, len(counts))
	for _, c := range counts {
		list = append(list, *c)
	}
	err := t.recorder.RecordDownloads(ctx, list)
	if err != nil {
		for d, c := range counts {
			t.add(d, func(have *iot.Download) { have.Add(*c) })
		}
	}
	return err
}
