package engine

import (
	"context"
	"fmt"
	"time"

	"drover/internal/iot"
	"drover/internal/store"
)

// runJobs does what is due on jobs until ctx ends.
func (e *Engine) runJobs(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.wake:
		case <-timer.C:
		}
		more, err := e.jobsOnce(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			e.log.ErrorContext(ctx, "work on jobs failed, trying again", "err", err)
		case more:
			e.wakeUp()
		}
		timer.Reset(e.poll)
	}
}

// dueJobs is how many jobs get one chunk of work each in a round, the longest due first.
const dueJobs = 16

// jobsOnce does one chunk of work on each due job and reports whether any was due.
func (e *Engine) jobsOnce(ctx context.Context) (bool, error) {
	var due []*iot.Job
	err := e.view(ctx, func(tx store.Reader) (err error) {
		due, err = tx.DueJobs(e.now(), dueJobs)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("look for due jobs: %w", err)
	}
	var failed error
	for _, j := range due {
		// One job's trouble is not another's: the rest of the round goes on.
		if err := e.jobOnce(ctx, j); err != nil {
			failed = fmt.Errorf("%s of job %s: %w", j.Phase, j.JobID, err)
		}
	}
	return len(due) > 0, failed
}

// jobOnce does one chunk of work on a job, in one transaction.
func (e *Engine) jobOnce(ctx context.Context, due *iot.Job) error {
	return e.update(ctx, "drover", func(w *work) error {
		jobs, err := w.tx.JobsByID([]int64{due.ID})
		if err != nil {
			return err
		}
		j := jobs[due.ID]
		if j == nil {
			return nil // deleted since
		}
		var n int
		switch j.Phase {
		case iot.PhaseRollout:
			n, err = e.rolloutSome(w, j)
		case iot.PhaseCancel:
			n, err = e.cancelSome(w, j)
		case iot.PhaseDelete:
			n, err = e.deleteSome(w, j)
		}
		if err != nil {
			return err
		}
		e.metrics.loops.WithLabelValues(string(due.Phase)).Add(float64(n))
		return nil
	})
}

// rolloutSome creates the next chunk of executions of j, from its cursor on, in the
// order of its targets (spec §4.1).
func (e *Engine) rolloutSome(w *work, j *iot.Job) (int, error) {
	created := 0
	for taken := 0; taken < e.chunk; {
		members, done, err := e.nextMembers(w.tx, j, e.chunk-taken)
		if err != nil {
			return 0, err
		}
		n, err := e.enlist(w, j, members)
		if err != nil {
			return 0, err
		}
		created += n
		taken += max(1, len(members))
		if done {
			j.Phase, j.DueAt = iot.PhaseNone, 0
			e.log.Info("job rolled out", "job", j.JobID)
			break
		}
	}
	w.save(j)
	return created, nil
}

// nextMembers takes the things after the cursor of j, at most limit of one group at a
// time, moves the cursor behind them, and reports whether nothing comes after.
func (e *Engine) nextMembers(tx store.Reader, j *iot.Job, limit int) (members []iot.Member, done bool, err error) {
	c := &j.Cursor
	if c.Target >= len(j.Targets) {
		return nil, true, nil
	}
	t := j.Targets[c.Target]
	if t.GroupID == 0 {
		_, name, err := e.realm.ParseARN(t.ARN)
		if err != nil {
			return nil, false, err
		}
		*c = iot.Cursor{Target: c.Target + 1}
		return []iot.Member{{ThingID: t.ThingID, Thing: iot.ThingName(name)}}, c.Target >= len(j.Targets), nil
	}
	groups, err := tx.Descendants(t.GroupID)
	if err != nil {
		return nil, false, err
	}
	// The groups are in the order of their ids, so that one added meanwhile comes last.
	for _, g := range groups {
		if g < c.Group {
			continue
		}
		if g > c.Group {
			c.Group, c.After = g, ""
		}
		page, err := tx.Members(g, c.After, limit)
		if err != nil {
			return nil, false, err
		}
		if len(page) == 0 {
			continue
		}
		c.After = page[len(page)-1].Thing
		for _, m := range page {
			if j.Selection == iot.Continuous || m.Seq <= j.Members {
				members = append(members, m)
			}
		}
		return members, false, nil
	}
	*c = iot.Cursor{Target: c.Target + 1}
	return nil, c.Target >= len(j.Targets), nil
}

// enlist queues executions of j for those things that exist and have not had their turn.
func (e *Engine) enlist(w *work, j *iot.Job, members []iot.Member) (int, error) {
	if len(members) == 0 {
		return 0, nil
	}
	names := make([]iot.ThingName, len(members))
	ids := make([]int64, len(members))
	for i, m := range members {
		names[i], ids[i] = m.Thing, m.ThingID
	}
	latest, err := w.tx.LatestExecutions(j.ID, ids)
	if err != nil {
		return 0, err
	}
	queues, err := w.tx.Queues(names)
	if err != nil {
		return 0, err
	}
	var todo []*iot.Queue
	seen := make(map[int64]bool, len(queues))
	for i := range queues {
		q := &queues[i]
		last, had := latest[q.ThingID]
		// A thing that several targets cover runs the job once; one that was removed
		// and is covered again runs it anew.
		if q.ThingID == 0 || seen[q.ThingID] || had && last.Status != iot.Removed {
			continue
		}
		seen[q.ThingID] = true
		if changed := w.queues[q.ThingID]; changed != nil {
			q = changed
			if q.Find(j.JobID, 0) != nil {
				continue
			}
		}
		todo = append(todo, q)
	}
	return len(todo), w.createAll(j, todo, latest)
}

// createAll queues an execution of j in each of the queues.
func (w *work) createAll(j *iot.Job, queues []*iot.Queue, latest map[int64]iot.Execution) error {
	if len(queues) == 0 {
		return nil
	}
	seq, err := w.tx.Sequence(len(queues))
	if err != nil {
		return err
	}
	for i, q := range queues {
		var last *iot.Execution
		if x, ok := latest[q.ThingID]; ok {
			last = &x
		}
		w.create(j, q, seq+int64(i), last)
	}
	return nil
}

// cancelSome cancels the next chunk of executions of j.
func (e *Engine) cancelSome(w *work, j *iot.Job) (int, error) {
	var some []iot.Execution
	for _, status := range j.CancelStatuses() {
		list, err := w.tx.ExecutionsOfJob(j.ID, status, 0, e.chunk-len(some))
		if err != nil {
			return 0, err
		}
		some = append(some, list...)
	}
	queues, err := w.queuesOf(some)
	if err != nil {
		return 0, err
	}
	for i, x := range some {
		w.move(queues[i], x.Seq, iot.Canceled, nil, j.ForceCanceled)
	}
	if len(some) < e.chunk {
		j.Phase, j.DueAt = iot.PhaseNone, 0
		if err := w.tell(iot.JobCancelDone, j); err != nil {
			return 0, err
		}
	}
	w.save(j)
	return len(some), nil
}

// deleteSome deletes the next chunk of executions of j, and j with the last one.
func (e *Engine) deleteSome(w *work, j *iot.Job) (int, error) {
	some, err := w.tx.ExecutionsOfJob(j.ID, iot.NoStatus, 0, e.chunk)
	if err != nil {
		return 0, err
	}
	queues, err := w.queuesOf(some)
	if err != nil {
		return 0, err
	}
	for i, x := range some {
		// The counts go with the job.
		w.remove(queues[i], x, false, nil)
	}
	if len(some) == e.chunk {
		return len(some), nil
	}
	if err := w.tell(iot.JobDeleted, j); err != nil {
		return 0, err
	}
	if err := w.flush(); err != nil {
		return 0, err
	}
	*w = *e.work(w.tx, w.now, w.actor)
	if err := w.tx.DeleteTags(e.realm.ARN(iot.KindJob, string(j.JobID)), nil); err != nil {
		return 0, err
	}
	e.log.Info("job deleted", "job", j.JobID)
	return len(some), w.tx.DeleteJob(j)
}

// queuesOf loads the queue of each execution's thing. Executions of one thing share it.
func (w *work) queuesOf(executions []iot.Execution) ([]*iot.Queue, error) {
	ids := make([]int64, len(executions))
	for i, x := range executions {
		ids[i] = x.ThingID
	}
	queues, err := w.tx.QueuesByID(ids)
	if err != nil {
		return nil, err
	}
	shared := make(map[int64]*iot.Queue, len(queues))
	result := make([]*iot.Queue, len(queues))
	for i := range queues {
		id := queues[i].ThingID
		if w.queues[id] != nil {
			shared[id] = w.queues[id]
		} else if shared[id] == nil {
			shared[id] = &queues[i]
		}
		result[i] = shared[id]
	}
	return result, nil
}
