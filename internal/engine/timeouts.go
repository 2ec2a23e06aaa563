package engine

import (
	"context"
	"fmt"
	"time"

	"drover/internal/iot"
	"drover/internal/store"
)

// timeoutsOnce ends the next chunk of executions whose time is up (spec §6.4) and reports
// whether there was any.
func (e *Engine) timeoutsOnce(ctx context.Context) (bool, error) {
	// Nothing is locked to find out that nothing is due, which is nearly always.
	var due []iot.Execution
	err := e.view(ctx, func(tx store.Reader) (err error) {
		due, err = tx.DueExecutions(e.now(), 1)
		return err
	})
	if err != nil {
		return false, err
	}
	if len(due) == 0 {
		e.metrics.late("timeouts", 0, 0)
		return false, nil
	}
	e.metrics.late("timeouts", e.now(), due[0].DueAt())
	err = e.update(ctx, serviceActor, func(w *work) error {
		w.chunk = e.share()
		if due, err = w.tx.DueExecutions(w.now, w.chunk); err != nil {
			return err
		}
		queues, err := w.queuesOf(due)
		if err != nil {
			return err
		}
		for i, x := range due {
			if p := queues[i].BySeq(x.Seq); p == nil || p.DueAt() == 0 || p.DueAt() > w.now {
				// Cannot be; but if it is, one such row must not stand in the way of all others.
				e.log.ErrorContext(ctx, "execution is due in the table and not in its queue", "job", x.JobID, "thing", x.Thing, "execution", x.Number)
				if p != nil {
					x = *p
				}
				w.update(x)
				continue
			}
			if err := w.end(queues[i], queues[i].Move(w.now, x.Seq, iot.TimedOut, nil, false), w.actor); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("time out executions: %w", err)
	}
	e.metrics.loops.WithLabelValues("timeout").Add(float64(len(due)))
	return true, nil
}

// retentionPeriod is how often the engine looks for jobs that have been kept long enough.
const retentionPeriod = 10 * time.Minute

// retainedJobs is how many jobs whose time is over are handed to deletion at a time.
const retainedJobs = 4

// retentionOnce forgets what has been kept long enough, some of it, and reports whether there
// was any.
func (e *Engine) retentionOnce(ctx context.Context) (bool, error) {
	jobs, err := e.retireJobs(ctx)
	if err != nil {
		return false, err
	}
	n, err := e.trimJournal(ctx)
	return jobs || n > 0, err
}

// trimJournal forgets the oldest records of the journal.
func (e *Engine) trimJournal(ctx context.Context) (n int, err error) {
	before := e.now().Add(-e.remember)
	// Nothing is locked to find out that there is nothing to forget.
	var oldest []iot.Record
	err = e.view(ctx, func(tx store.Reader) (err error) {
		oldest, err = tx.Records(0, 0, 1)
		return err
	})
	if err == nil && len(oldest) > 0 && oldest[0].At < before {
		err = e.update(ctx, serviceActor, func(w *work) (err error) {
			n, err = w.tx.TrimJournal(before, e.share())
			return err
		})
	}
	if err != nil {
		return 0, fmt.Errorf("forget old records of the journal: %w", err)
	}
	return n, nil
}

// retireJobs starts the deletion of jobs that ended long ago and reports whether there
// was any. The deletion itself is the phase of each job, in chunks.
func (e *Engine) retireJobs(ctx context.Context) (bool, error) {
	before := e.now().Add(-e.retain)
	var old []*iot.Job
	err := e.view(ctx, func(tx store.Reader) (err error) {
		old, err = tx.EndedJobs(before, retainedJobs)
		return err
	})
	if err != nil || len(old) == 0 {
		return false, err
	}
	err = e.update(ctx, serviceActor, func(w *work) error {
		for _, j := range old {
			j, err := w.job(j.ID)
			if err != nil {
				return err
			}
			if j == nil || j.Status != iot.JobCompleted && j.Status != iot.JobCanceled {
				continue // somebody was faster
			}
			if err := j.Delete(w.now, false); err != nil {
				return err
			}
			w.save(j)
			if err := w.tell(iot.JobDeletionStarted, j); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("delete jobs after their retention: %w", err)
	}
	for _, j := range old {
		e.log.InfoContext(ctx, "job has been kept long enough and is deleted", "job", j.JobID, "ended", j.UpdatedAt.Std())
	}
	e.wakeUp()
	return true, nil
}

// Settle does everything that is due by the engine's clock and returns when nothing is due
// any more and all of it has been published. It is for clocks under control; a running
// engine does the same by itself.
func (e *Engine) Settle(ctx context.Context) error {
	if err := e.doDue(ctx, func(context.Context) error { return nil }); err != nil {
		return err
	}
	return e.publisher.idle(ctx)
}

// doDue does what is due, calling between after each chunk.
func (e *Engine) doDue(ctx context.Context, between func(context.Context) error) error {
	for {
		busy := false
		for _, once := range []func(context.Context) (bool, error){e.timeoutsOnce, e.jobsOnce, e.retentionOnce} {
			more, err := once(ctx)
			if err != nil && err != errElsewhere {
				return err
			}
			busy = busy || more
			if err := between(ctx); err != nil {
				return err
			}
		}
		if !busy {
			return nil
		}
	}
}

// NextDue returns when something will be due, zero if nothing will.
func (e *Engine) NextDue(ctx context.Context) (next iot.Time, err error) {
	err = e.view(ctx, func(tx store.Reader) error {
		if next, err = tx.NextDue(); err != nil {
			return err
		}
		execution, err := tx.NextDueExecution()
		if execution != 0 && (next == 0 || execution < next) {
			next = execution
		}
		return err
	})
	return next, err
}

// Step is Settle for an engine that does not Run: it first carries out the requests as one
// batch. replies[i] is what Submit would have answered to requests[i]; next is when
// something will be due, zero if nothing will. Retention is left out. Everything happens in
// the caller's goroutine, so that the same calls have the same effects in the same order.
func (e *Engine) Step(ctx context.Context, requests []*iot.Request) (replies []Reply, next iot.Time, err error) {
	replies = make([]Reply, len(requests))
	batch := make([]*ask, 0, len(requests))
	for i, r := range requests {
		if err := r.Check(); err != nil {
			replies[i].Err = err
			continue
		}
		batch = append(batch, &ask{Request: r, reply: func(a *iot.Answer, err error) { replies[i] = Reply{a, err} }})
	}
	if len(batch) > 0 {
		e.batchOnce(ctx, batch)
		if err := e.publisher.drain(ctx); err != nil {
			return replies, 0, err
		}
	}
	for {
		if next, err = e.NextDue(ctx); err != nil || next == 0 || next > e.now() {
			return replies, next, err
		}
		// Nobody else takes what is published, and writers wait when it is too much.
		if err := e.doDue(ctx, e.publisher.drain); err != nil {
			return replies, 0, err
		}
	}
}

// Reply is the answer to a request, or why there is none.
type Reply struct {
	Answer *iot.Answer
	Err    error
}
