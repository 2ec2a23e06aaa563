package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"drover/internal/iot"
	"drover/internal/store"
)

// loop is background work.
type loop struct {
	name string
	once func(context.Context) (more bool, err error) // does one chunk of what is due
	next func(store.Reader) (iot.Time, error)         // earliest due time, zero for none; nil if the table does not say
	wake <-chan struct{}                              // a hint that something may be due earlier than it was; nil for none
	rest time.Duration                                // longest pause, because a hint can be lost and another process may have written
}

// run works until ctx ends: as long as there is work, when somebody wakes it, when the
// earliest due time comes, and every now and then.
func (l loop) run(ctx context.Context, e *Engine) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.wake:
		case <-timer.C:
		}
		more, err := l.once(ctx)
		pause := l.rest
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errElsewhere):
		case err != nil:
			e.metrics.failures.WithLabelValues(l.name).Inc()
			e.log.ErrorContext(ctx, "loop failed, trying again", "loop", l.name, "err", err)
			pause = min(pause, time.Second)
		case more:
			pause = 0
		case l.next != nil:
			pause = l.untilDue(ctx, e)
		}
		if err == nil {
			e.metrics.succeeded.WithLabelValues(l.name).SetToCurrentTime()
		}
		timer.Reset(pause)
	}
}

// untilDue returns how long the loop may pause.
func (l loop) untilDue(ctx context.Context, e *Engine) time.Duration {
	var due iot.Time
	err := e.view(ctx, func(tx store.Reader) (err error) {
		due, err = l.next(tx)
		return err
	})
	if err != nil || due == 0 {
		return l.rest // an error shows up again in the loop's own work
	}
	return min(l.rest, max(0, time.Duration(due-e.now())*time.Millisecond))
}

// dueJobs is how many jobs get one chunk of work each in a round, the longest due first.
const dueJobs = 16

// errElsewhere is the error of a loop that finds its work done by another node each time it comes to
// it. Looking again at once would only be in the way of that one.
var errElsewhere = errors.New("engine: another node is at it")

// jobsOnce does one chunk of work on each due job and reports whether any was due.
func (e *Engine) jobsOnce(ctx context.Context) (bool, error) {
	if err := e.followClock(ctx); err != nil {
		return false, fmt.Errorf("look at all jobs again: %w", err)
	}
	var due []*iot.Job
	err := e.view(ctx, func(tx store.Reader) (err error) {
		due, err = tx.DueJobs(e.now(), dueJobs)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("look for due jobs: %w", err)
	}
	var since iot.Time
	if len(due) > 0 {
		since = due[0].DueAt
	}
	e.metrics.late("jobs", e.now(), since)
	var failed error
	elsewhere := 0
	for _, j := range due {
		// One job's trouble is not another's: the rest of the round goes on.
		switch err := e.jobOnce(ctx, j); {
		case err == errElsewhere:
			elsewhere++
		case err != nil:
			failed = fmt.Errorf("%s of job %s: %w", j.Phase, j.JobID, err)
		}
	}
	if elsewhere > 0 && elsewhere == len(due) {
		failed = errElsewhere
	}
	return len(due) > 0, failed
}

// followClock makes all jobs in a phase due when the clock has been set back, as it may have been while
// nothing ran: they would wait for a time that is not to come soon. Those whose time it is not say so again.
func (e *Engine) followClock(ctx context.Context) error {
	now := e.now()
	if now < e.latest {
		if err := e.store.Update(ctx, func(tx store.Tx) error { return tx.HastenJobs(now) }); err != nil {
			return err
		}
	}
	e.latest = now
	return nil
}

// crowded is how many executions a loop takes at once while devices ask, which wait as long.
const crowded = 250

// share returns how many executions a loop may take on in its next transaction.
func (e *Engine) share() int {
	if e.inbox.used() {
		return min(e.chunk, crowded)
	}
	return e.chunk
}

// jobOnce brings a job in line with its schedule and does one chunk of the work of its
// phase, in one transaction.
func (e *Engine) jobOnce(ctx context.Context, due *iot.Job) error {
	return e.update(ctx, serviceActor, func(w *work) error {
		w.chunk = e.share()
		j, err := w.job(due.ID)
		if err != nil || j == nil {
			return err // deleted since
		}
		if e.shared && j.DueAt != due.DueAt {
			return errElsewhere
		}
		if err := e.advance(w, j); err != nil {
			return err
		}
		phase, n := j.Phase, 0
		again := w.now // most phases go on at once
		switch phase {
		case iot.PhaseNone:
			again = 0
		case iot.PhaseRollout:
			n, again, err = e.rolloutSome(w, j)
		case iot.PhaseCancel:
			n, err = e.cancelSome(w, j, j.CancelStatuses(), j.ForceCanceled)
			if err == nil && j.Phase == iot.PhaseNone {
				err = w.tell(iot.JobCancelDone, j)
			}
		case iot.PhaseEnd:
			n, err = e.cancelSome(w, j, j.EndStatuses(), j.Schedule.EndBehavior == iot.ForceCancel)
		case iot.PhaseWindow:
			n, err = e.windowSome(w, j)
		case iot.PhaseDelete:
			n, err = e.deleteSome(w, j)
			if err == nil && n < w.chunk {
				return nil // the job is gone
			}
		}
		if err != nil {
			return err
		}
		if j.Phase == iot.PhaseNone {
			again = 0
		}
		j.LookAgain(w.now, again)
		w.save(j)
		e.metrics.loops.WithLabelValues(string(phase)).Add(float64(n))
		return nil
	})
}

// advance brings a job in line with its schedule.
func (e *Engine) advance(w *work, j *iot.Job) (err error) {
	before, over := j.Status, j.Pace.Over
	if before == iot.JobScheduled && e.limits.ConcurrentJobs > 0 {
		// One that would start now and cannot is canceled (spec §2.2 T3).
		probe := *j
		if probe.Advance(w.now); probe.Status == iot.JobInProgress && !probe.Pace.Over {
			if err := e.roomForOne(w.tx); err != nil {
				if iot.ErrorCode(err) != iot.LimitExceeded {
					return err
				}
				e.log.Warn("job cannot start and is canceled", "job", j.JobID, "err", err)
				if _, err := j.Cancel(w.now, false, "CONCURRENT_JOB_LIMIT", "The limit of concurrent jobs was reached when the job was to start."); err != nil {
					return err
				}
				return w.tell(iot.JobCancelStarted, j)
			}
		}
	}
	if before == iot.JobScheduled && len(j.PackageVersions) > 0 {
		if canceled, err := e.deployScheduled(w, j); canceled || err != nil {
			return err
		}
	}
	if j.Advance(w.now) {
		if j.Members, err = w.tx.Sequence(1); err != nil {
			return err
		}
	}
	if j.Status == before && j.Pace.Over == over {
		return nil
	}
	e.log.Info("job moves with its schedule", "job", j.JobID, "status", j.Status, "over", j.Pace.Over)
	return w.tell(iot.JobScheduleMoved, j)
}

// rolloutSome creates the next chunk of executions of j, as many as its rate allows, from
// its cursor on, in the order of its targets (spec §4.1, §4.2). It says when to go on.
func (e *Engine) rolloutSome(w *work, j *iot.Job) (created int, again iot.Time, err error) {
	plan := j.PlanRollout(w.now, e.limits.RolloutRate)
	limit := int(min(int64(w.chunk), plan.Create))
	if limit == 0 {
		return 0, plan.LookAgainAt, nil
	}
	again = w.now
	// Members that have had their turn, such as all of before when a window opens again, cost
	// nothing of the rate.
	for taken := 0; created < limit && taken < w.chunk; {
		members, done, err := e.nextMembers(w.tx, j, limit-created)
		if err != nil {
			return 0, 0, err
		}
		n, err := e.enlist(w, j, members)
		if err != nil {
			return 0, 0, err
		}
		created += n
		taken += max(1, len(members))
		if done {
			j.Phase, again = iot.PhaseNone, 0
			e.log.Info("job rolled out", "job", j.JobID)
			break
		}
	}
	j.Created(int64(created))
	return created, again, nil
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
	ids := make([]int64, len(members))
	for i, m := range members {
		ids[i] = m.ThingID
	}
	// Executions that are pending are in the queues, and those that have ended are counted.
	var latest map[int64]iot.Execution
	if j.Counts.Ended() > 0 {
		var err error
		if latest, err = w.tx.LatestExecutions(j.ID, ids); err != nil {
			return 0, err
		}
	}
	queues, err := w.memberQueues(members)
	if err != nil {
		return 0, err
	}
	if err := w.hide(queues); err != nil {
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
		}
		if q.Find(j.JobID, 0) != nil {
			continue
		}
		todo = append(todo, q)
	}
	return len(todo), w.createAll(j, todo, latest)
}

// memberQueues reads the queues of members of a group, which are registered, or of one thing that is a target
// by its name and may not be, or not any more.
func (w *work) memberQueues(members []iot.Member) ([]iot.Queue, error) {
	if members[0].GroupID == 0 {
		return w.tx.Queues([]iot.ThingName{members[0].Thing})
	}
	return w.tx.QueuesOf(members)
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

// cancelSome cancels the next chunk of executions of j in one of the statuses, and ends
// the phase with the last of them.
func (e *Engine) cancelSome(w *work, j *iot.Job, statuses []iot.ExecutionStatus, force bool) (int, error) {
	var some []iot.Execution
	for _, status := range statuses {
		list, err := w.tx.ExecutionsOfJob(j.ID, status, 0, w.chunk-len(some))
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
		w.move(queues[i], x.Seq, iot.Canceled, nil, force)
	}
	if len(some) < w.chunk {
		j.Phase = iot.PhaseNone
	}
	return len(some), nil
}

// deleteSome deletes the next chunk of executions of j, and j with the last one.
func (e *Engine) deleteSome(w *work, j *iot.Job) (int, error) {
	some, err := w.tx.ExecutionsOfJob(j.ID, iot.NoStatus, 0, w.chunk)
	if err != nil {
		return 0, err
	}
	queues, err := w.queuesOf(some)
	if err != nil {
		return 0, err
	}
	for i, x := range some {
		w.remove(queues[i], x) // the counts go with the job
	}
	counted, err := w.tx.DeleteDownloads(j.ID, w.chunk)
	if err != nil {
		return 0, err
	}
	if n := max(len(some), counted); n == w.chunk {
		return n, nil
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

// windowStatuses are the executions that a window is about, in the order in which they are
// told: those that are shown or hidden, and when it opens those whose retry has waited.
var windowStatuses = []iot.ExecutionStatus{iot.Queued, iot.InProgress, iot.Failed, iot.TimedOut}

// windowSome tells the devices of the next chunk of executions of j that they are shown or
// hidden, and creates the retries that have waited for the window (spec §8.4).
func (e *Engine) windowSome(w *work, j *iot.Job) (int, error) {
	c := &j.Cursor
	c.Status = max(c.Status, windowStatuses[0])
	some, err := w.tx.ExecutionsOfJob(j.ID, c.Status, c.Seq, w.chunk)
	if err != nil {
		return 0, err
	}
	queues, err := w.queuesOf(some)
	if err != nil {
		return 0, err
	}
	for i, x := range some {
		if x.Status.Pending() {
			w.show(queues[i], j, x)
		} else if err := w.retryLate(queues[i], j, x); err != nil {
			return 0, err
		}
		c.Seq = x.Seq
	}
	if len(some) == w.chunk {
		return len(some), nil
	}
	next := slices.Index(windowStatuses, c.Status) + 1
	switch {
	case next < len(windowStatuses) && (windowStatuses[next].Pending() || j.RollsOut()):
		c.Status, c.Seq = windowStatuses[next], 0
	case j.RollsOut():
		// From the start: things may have joined between the windows.
		j.Phase, j.Cursor = iot.PhaseRollout, iot.Cursor{}
	default:
		j.Phase = iot.PhaseNone
	}
	return len(some), nil
}

// show tells a device that an execution is shown or hidden.
func (w *work) show(q *iot.Queue, j *iot.Job, x iot.Execution) {
	head := func(hidden bool) (seq int64) {
		was := q.Hidden
		q.Hidden = maps.Clone(was)
		if q.Hidden == nil {
			q.Hidden = make(map[int64]bool)
		}
		q.Hidden[j.ID] = hidden
		if next := q.Next(x.Namespace); next != nil {
			seq = next.Seq
		}
		q.Hidden = was
		return seq
	}
	hidden := j.Hidden()
	w.records = append(w.records, iot.Record{
		At: w.now, Kind: iot.ExecutionWindow, Actor: w.actor, JobID: x.JobID, Execution: &x,
		List: true, Next: head(hidden) != head(!hidden), Queue: q.List(x.Namespace),
	})
}

// retryLate creates the retry of an execution that failed outside of a window.
func (w *work) retryLate(q *iot.Queue, j *iot.Job, x iot.Execution) error {
	latest, err := w.tx.LatestExecutions(j.ID, []int64{x.ThingID})
	if err != nil {
		return err
	}
	if latest[x.ThingID].Seq != x.Seq || q.Find(j.JobID, 0) != nil || !j.Retry(&x) {
		return nil
	}
	retry, err := w.retry(x)
	if err != nil {
		return err
	}
	w.delta(j.ID).Delta[x.Status]--
	w.apply(q, q.Add(retry), w.actor)
	return nil
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
	if err := w.hide(queues); err != nil {
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
