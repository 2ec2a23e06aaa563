package console

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"drover/internal/iot"
)

// Point is how the things of a job stood at a time.
type Point struct {
	At     iot.Time
	Counts iot.Counts
}

const (
	samplePeriod = 2 * time.Second
	maxPoints    = 240 // of a series; then every other one is forgotten
	maxSeries    = 500 // jobs that are remembered; the ones that ended first are forgotten first
	maxRebuilt   = 5000
	sampledPage  = 100
	sampledJobs  = 1000 // jobs in progress that are watched
)

// series is how a job went over time: the further back a job goes the coarser.
type series struct {
	points []Point
	every  iot.Time // least time between two points
	ended  bool     // nothing will change any more
	seen   int64    // of the round in which it was last active
	// Since is set if the series begins later than the job.
	since iot.Time
}

func (s *series) add(p Point) {
	n := len(s.points)
	if n > 0 && s.points[n-1].Counts == p.Counts {
		// A line that stays level needs its two ends only.
		if n > 1 && s.points[n-2].Counts == p.Counts {
			s.points[n-1].At = p.At
		} else {
			s.points = append(s.points, p)
		}
	} else if n > 1 && p.At-s.points[n-2].At < s.every {
		s.points[n-1] = p
	} else {
		s.points = append(s.points, p)
	}
	if len(s.points) > maxPoints {
		last := s.points[len(s.points)-1]
		kept := s.points[:0]
		for i, p := range s.points {
			if i%2 == 0 {
				kept = append(kept, p)
			}
		}
		if kept[len(kept)-1] != last {
			kept = append(kept, last)
		}
		s.points, s.every = kept, 2*max(s.every, iot.Time(samplePeriod/time.Millisecond))
	}
}

// perMinute is how many executions have ended a minute, lately: over the last minute, or less
// if less is known.
func perMinute(points []Point, now iot.Time) float64 {
	if len(points) < 2 {
		return 0
	}
	last := points[len(points)-1]
	first := points[0]
	for _, p := range points {
		if p.At > now-60_000 {
			break
		}
		first = p
	}
	span := now - first.At
	if span < 1000 {
		return 0
	}
	return max(0, float64(last.Counts.Ended()-first.Counts.Ended())) * 60_000 / float64(span)
}

// history remembers how jobs went. It looks at all that are in progress now and then, which costs
// one query, and knows nothing of the time before the server started but what executions tell.
type history struct {
	jobs Jobs
	now  func() iot.Time

	mu     sync.Mutex
	round  int64
	series map[iot.JobID]*series
	ids    map[iot.JobID]int64 // internal: a name can be used again
	fleet  []rateOf            // of the whole server, the last ten minutes
}

// rateOf is what happened in all jobs together in a sample period.
type rateOf struct {
	At            iot.Time
	Ended, Failed int64
}

func newHistory(jobs Jobs, now func() iot.Time) *history {
	return &history{jobs: jobs, now: now, series: make(map[iot.JobID]*series), ids: make(map[iot.JobID]int64)}
}

func (h *history) run(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(samplePeriod)
	defer tick.Stop()
	for {
		if err := h.once(ctx); err != nil && ctx.Err() == nil {
			log.WarnContext(ctx, "console cannot look at jobs", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// once takes a sample of every job in progress, and the last one of those that have just ended.
func (h *history) once(ctx context.Context) error {
	var active []*iot.Job
	for cursor := ""; len(active) < sampledJobs; {
		jobs, next, err := h.jobs.Jobs(ctx, iot.JobQuery{Status: iot.JobInProgress}, iot.Page{Cursor: cursor, Limit: sampledPage})
		if err != nil {
			return err
		}
		active = append(active, jobs...)
		if cursor = next; next == "" {
			break
		}
	}
	h.mu.Lock()
	h.round++
	round := h.round
	var gone []iot.JobID
	seen := make(map[iot.JobID]bool, len(active))
	for _, j := range active {
		seen[j.JobID] = true
	}
	for id, s := range h.series {
		if !s.ended && !seen[id] {
			gone = append(gone, id)
		}
	}
	h.mu.Unlock()
	for _, id := range gone {
		j, err := h.jobs.Job(ctx, id)
		if iot.ErrorCode(err) == iot.NotFound {
			h.mu.Lock()
			delete(h.series, id)
			h.mu.Unlock()
			continue
		}
		if err != nil {
			return err
		}
		active = append(active, j)
	}
	now := h.now()
	total := rateOf{At: now}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, j := range active {
		ended, failed := h.sample(j, now)
		total.Ended, total.Failed = total.Ended+ended, total.Failed+failed
		if s := h.series[j.JobID]; s != nil {
			s.seen = round
		}
	}
	h.fleet = append(h.fleet, total)
	if len(h.fleet) > int(10*time.Minute/samplePeriod) {
		h.fleet = slices.Delete(h.fleet, 0, 1)
	}
	h.forget()
	return nil
}

// failures is how many things have failed, in whatever way.
func failures(c iot.Counts) int64 { return c[iot.Failed] + c[iot.Rejected] + c[iot.TimedOut] }

// sample adds a point and returns what has ended since the last one. mu is held.
func (h *history) sample(j *iot.Job, now iot.Time) (ended, failed int64) {
	s := h.series[j.JobID]
	if s == nil || h.ids[j.JobID] != j.ID {
		s = &series{since: now}
		if now-j.CreatedAt < 3*iot.Time(samplePeriod/time.Millisecond) { // known from its beginning
			s.since = 0
			s.add(Point{At: j.CreatedAt})
		}
		h.series[j.JobID], h.ids[j.JobID] = s, j.ID
	} else if n := len(s.points); n > 0 {
		before := s.points[n-1].Counts
		ended = max(0, j.Counts.Ended()-before.Ended())
		failed = max(0, failures(j.Counts)-failures(before))
	}
	at := now
	s.ended = settled(j)
	if s.ended && j.UpdatedAt < now { // it was over before anybody looked
		at = max(j.UpdatedAt, lastAt(s))
	}
	s.add(Point{At: at, Counts: j.Counts})
	return ended, failed
}

func lastAt(s *series) iot.Time {
	if len(s.points) == 0 {
		return 0
	}
	return s.points[len(s.points)-1].At
}

// settled reports whether nothing of the job will change by itself any more.
func settled(j *iot.Job) bool {
	return (j.Status == iot.JobCompleted || j.Status == iot.JobCanceled) && j.Phase == iot.PhaseNone && j.Counts.Pending() == 0
}

// forget keeps the number of series bounded. mu is held.
func (h *history) forget() {
	for len(h.series) > maxSeries {
		var oldest iot.JobID
		at := iot.Time(1<<62 - 1)
		for id, s := range h.series {
			if s.ended && lastAt(s) < at {
				oldest, at = id, lastAt(s)
			}
		}
		if oldest == "" {
			return
		}
		delete(h.series, oldest)
		delete(h.ids, oldest)
	}
}

// of returns the series of a job up to now, and since when it is known if that is later than the
// job's beginning.
func (h *history) of(ctx context.Context, j *iot.Job) (points []Point, since iot.Time, err error) {
	h.mu.Lock()
	s := h.series[j.JobID]
	known := s != nil && h.ids[j.JobID] == j.ID
	rebuild := (!known || s.since != 0) && j.Counts.Ended()+j.Counts.Pending() <= maxRebuilt
	h.mu.Unlock()
	if rebuild {
		points, err := h.rebuild(ctx, j)
		if err != nil {
			return nil, 0, err
		}
		h.mu.Lock()
		fresh := &series{}
		for _, p := range points {
			fresh.add(p)
		}
		h.series[j.JobID], h.ids[j.JobID] = fresh, j.ID
		h.mu.Unlock()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sample(j, h.now())
	s = h.series[j.JobID]
	return slices.Clone(s.points), s.since, nil
}

// rebuild finds out from the executions of a job how it went. Each says when it was queued, when it
// began and when it changed last.
func (h *history) rebuild(ctx context.Context, j *iot.Job) ([]Point, error) {
	type step struct {
		at       iot.Time
		from, to iot.ExecutionStatus
	}
	var steps []step
	for cursor, n := "", 0; ; {
		list, next, err := h.jobs.JobExecutions(ctx, j.JobID, iot.NoStatus, iot.Page{Cursor: cursor, Limit: 1000})
		if err != nil {
			return nil, err
		}
		for i := range list {
			x := &list[i]
			from := iot.NoStatus
			if x.RetryAttempt > 0 { // takes the place of a failure, as which it may well have been counted
				from = x.Before
			}
			steps = append(steps, step{x.QueuedAt, from, iot.Queued})
			last := iot.Queued
			if x.StartedAt != 0 && (x.Status == iot.InProgress || x.StartedAt < x.UpdatedAt) {
				steps = append(steps, step{x.StartedAt, iot.Queued, iot.InProgress})
				last = iot.InProgress
			}
			if x.Status.Terminal() {
				steps = append(steps, step{x.UpdatedAt, last, x.Status})
			}
		}
		if n += len(list); next == "" || n > maxRebuilt {
			break
		}
		cursor = next
	}
	slices.SortStableFunc(steps, func(a, b step) int { return int(max(-1, min(1, a.at-b.at))) })
	points := []Point{{At: j.CreatedAt}}
	var counts iot.Counts
	for i, s := range steps {
		if s.from != iot.NoStatus {
			counts[s.from]--
		}
		counts[s.to]++
		if i+1 == len(steps) || steps[i+1].at != s.at {
			points = append(points, Point{At: s.at, Counts: counts})
		}
	}
	return points, nil
}

// rates returns what ended lately in all jobs, per sample period.
func (h *history) rates() []rateOf {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.fleet)
}

// known returns the points that there are of a job, without looking at it.
func (h *history) known(j *iot.Job) []Point {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.series[j.JobID]; s != nil && h.ids[j.JobID] == j.ID {
		return slices.Clone(s.points)
	}
	return nil
}
