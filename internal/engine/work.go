package engine

import (
	"fmt"

	"drover/internal/iot"
	"drover/internal/store"
)

// work is what one transaction changes about jobs and executions. Changes are collected
// and written in bulk by flush.
type work struct {
	tx    store.Tx
	e     *Engine
	now   iot.Time
	actor string
	chunk int // executions that may be worked on, at most

	queues  map[int64]*iot.Queue // changed, by thing
	order   []int64              // of queues
	inserts []iot.Execution
	updates []iot.Execution
	updated map[int64]int // Seq to index in updates
	deletes []store.ExecutionKey
	deltas  map[int64]*store.CountDelta // by job
	jobs    map[int64]*iot.Job          // loaded
	dirty   map[int64]bool              // of jobs
	records []iot.Record
	timed   bool // an execution got a timer
	// What jobs have brought to things, which their shadows are to say.
	installs []store.Install
	packages *iot.PackageConfiguration // nil: not read yet
}

func (e *Engine) work(tx store.Tx, now iot.Time, actor string) *work {
	return &work{
		tx: tx, e: e, now: now, actor: actor, chunk: e.chunk,
		queues:  make(map[int64]*iot.Queue),
		updated: make(map[int64]int),
		deltas:  make(map[int64]*store.CountDelta),
		jobs:    make(map[int64]*iot.Job),
		dirty:   make(map[int64]bool),
	}
}

// expecting makes room for the changes of so many executions.
func (w *work) expecting(n int) *work {
	w.order = make([]int64, 0, n)
	w.updates = make([]iot.Execution, 0, n)
	w.records = make([]iot.Record, 0, n)
	return w
}

// delta is what this transaction adds to the counts of a job.
func (w *work) delta(job int64) *store.CountDelta {
	d := w.deltas[job]
	if d == nil {
		d = &store.CountDelta{Job: job}
		w.deltas[job] = d
	}
	return d
}

// classify moves a thing from one class to another among those that have executed a job.
func (w *work) classify(job int64, from, to iot.ExecutionStatus) {
	if from == to {
		return
	}
	d := w.delta(job)
	if from != iot.NoStatus {
		d.Executed[from]--
	}
	if to != iot.NoStatus {
		d.Executed[to]++
	}
}

// job loads a job once; nil if it is gone.
func (w *work) job(id int64) (*iot.Job, error) {
	if j, ok := w.jobs[id]; ok {
		return j, nil
	}
	loaded, err := w.tx.JobsByID([]int64{id})
	if err != nil {
		return nil, fmt.Errorf("load job: %w", err)
	}
	if j := loaded[id]; j != nil {
		w.jobs[id] = j
		return j, nil
	}
	return nil, nil
}

// timeout returns how many minutes an execution of the job may be in progress.
func (w *work) timeout(e *iot.Execution) (int64, error) {
	if e == nil || e.Status != iot.Queued {
		return 0, nil
	}
	j, err := w.job(e.Job)
	if err != nil || j == nil {
		return 0, err
	}
	return j.Config.TimeoutMinutes, nil
}

// hide tells queues which of their executions are outside of their windows.
func (w *work) hide(queues []iot.Queue) error {
	for i := range queues {
		q := &queues[i]
		for _, e := range q.Entries {
			if !e.Windowed {
				continue
			}
			j, err := w.job(e.Job)
			if err != nil {
				return err
			}
			if j == nil || !j.Hidden() {
				continue
			}
			if q.Hidden == nil {
				q.Hidden = make(map[int64]bool)
			}
			q.Hidden[e.Job] = true
		}
	}
	return nil
}

// touch marks q as changed.
func (w *work) touch(q *iot.Queue) {
	if w.queues[q.ThingID] == nil {
		w.order = append(w.order, q.ThingID)
	}
	w.queues[q.ThingID] = q
}

// apply takes over what happened to an execution in q.
func (w *work) apply(q *iot.Queue, c iot.Change, actor string) {
	w.touch(q)
	e := c.Execution
	switch {
	case c.From == iot.NoStatus:
		w.inserts = append(w.inserts, e)
		w.delta(e.Job).Delta[e.Status]++
	case c.Reposition():
		w.update(e)
		d := w.delta(e.Job)
		d.Delta[c.From]--
		d.Delta[e.Status]++
		if e.Status.Executed() {
			w.classify(e.Job, e.Before, e.Status)
		}
	case c.Timer:
		w.update(e)
	}
	w.records = append(w.records, iot.Record{
		At: w.now, Kind: iot.ExecutionChanged, Actor: actor, JobID: e.JobID, Execution: &e,
		List: c.List, Next: c.Next, Queue: c.Queue,
	})
}

// end takes over an execution that has come to its end by c, and queues its retry if it
// has one (spec §7). Outside of a window the retry waits for the next one.
func (w *work) end(q *iot.Queue, c iot.Change, actor string) error {
	e := c.Execution
	if e.Status != iot.Failed && e.Status != iot.TimedOut {
		w.apply(q, c, actor)
		if e.Status != iot.Succeeded {
			return nil
		}
		return w.installed(q.ThingID, e.Job)
	}
	j, err := w.job(e.Job)
	if err != nil {
		return err
	}
	if j == nil || j.Hidden() || !j.Retry(&e) || j.Schedule != nil && j.Schedule.EndAt != 0 && w.now >= j.Schedule.EndAt {
		w.apply(q, c, actor)
		return nil
	}
	retry, err := w.retry(e)
	if err != nil {
		return err
	}
	again := q.Retry(&c, retry)
	w.apply(q, c, actor)
	w.delta(e.Job).Delta[e.Status]-- // it is not the latest any more
	w.apply(q, again, w.service())
	return nil
}

// retry makes the execution that follows e.
func (w *work) retry(e iot.Execution) (iot.Execution, error) {
	next := e.Next()
	var err error
	next.Seq, err = w.tx.Sequence(1)
	next.QueuedAt, next.UpdatedAt = w.now, w.now
	return next, err
}

// service is the actor of what nobody asked for in particular.
func (w *work) service() string { return serviceActor }

const serviceActor = "drover"

// update notes the last state of an execution in this transaction.
func (w *work) update(e iot.Execution) {
	w.timed = w.timed || e.DueAt() != 0
	if i, ok := w.updated[e.Seq]; ok {
		w.updates[i] = e
		return
	}
	w.updated[e.Seq] = len(w.updates)
	w.updates = append(w.updates, e)
}

// move takes a pending execution to a status, on behalf of the service.
func (w *work) move(q *iot.Queue, seq int64, status iot.ExecutionStatus, details iot.Details, force bool) {
	w.apply(q, q.Move(w.now, seq, status, details, force), w.actor)
}

// create queues a new execution of j on the thing of q. last is the thing's latest
// execution of j, nil if it never had one.
func (w *work) create(j *iot.Job, q *iot.Queue, seq int64, last *iot.Execution) {
	e := iot.Execution{
		Seq: seq, Job: j.ID, JobID: j.JobID, Namespace: j.Namespace,
		Number: 1, Status: iot.Queued, Version: 1, QueuedAt: w.now, UpdatedAt: w.now, Windowed: j.Windowed(),
	}
	if last != nil {
		e.Number, e.Before = last.Number+1, last.Class()
		// The counts are of the latest execution of each thing (spec §4.5).
		w.delta(j.ID).Delta[last.Status]--
	}
	w.apply(q, q.Add(e), w.actor)
}

// remove deletes an execution, pending in q or ended. The counts are the caller's.
func (w *work) remove(q *iot.Queue, e iot.Execution) {
	r := iot.Record{At: w.now, Kind: iot.ExecutionDeleted, Actor: w.actor, JobID: e.JobID, Execution: &e}
	if q != nil && q.BySeq(e.Seq) != nil {
		c := q.Drop(e.Seq)
		w.touch(q)
		r.List, r.Next, r.Queue = c.List, c.Next, c.Queue
	}
	w.deletes = append(w.deletes, store.ExecutionKey{Job: e.Job, Seq: e.Seq})
	w.records = append(w.records, r)
}

// save marks a job as changed and keeps it, so that flush works on the same copy.
func (w *work) save(j *iot.Job) {
	w.jobs[j.ID] = j
	w.dirty[j.ID] = true
}

// tell appends a record about a job as it is now.
func (w *work) tell(kind iot.Kind, j *iot.Job) error {
	r, err := iot.NewJobRecord(kind, j, w.now, w.actor)
	if err != nil {
		return err
	}
	w.records = append(w.records, r)
	return nil
}

// ended finds an execution that came to its end earlier in this same transaction.
func (w *work) ended(thing int64, id iot.JobID, number int64) *iot.Execution {
	for i := len(w.updates) - 1; i >= 0; i-- {
		e := &w.updates[i]
		if e.ThingID == thing && e.JobID == id && e.Status.Terminal() && (number == 0 || e.Number == number) {
			return e
		}
	}
	return nil
}

// flush writes everything and completes the jobs that have nothing left to do.
func (w *work) flush() error {
	queues := make([]iot.Queue, len(w.order))
	for i, id := range w.order {
		queues[i] = *w.queues[id]
	}
	if err := w.writeAll(queues); err != nil {
		return err
	}
	if err := w.settle(); err != nil {
		return err
	}
	if len(w.installs) > 0 {
		if err := w.tx.AddInstalls(w.installs); err != nil {
			return fmt.Errorf("add installs: %w", err)
		}
		w.tx.AfterCommit(w.e.installed)
	}
	if w.timed {
		w.tx.AfterCommit(func() { hint(w.e.timers) })
	}
	if len(w.records) > 0 {
		if err := w.tx.Append(w.records...); err != nil {
			return fmt.Errorf("append records: %w", err)
		}
	}
	return nil
}

func (w *work) writeAll(queues []iot.Queue) error {
	if len(queues) > 0 {
		if err := w.tx.SaveQueues(queues); err != nil {
			return fmt.Errorf("save queues: %w", err)
		}
	}
	if len(w.inserts) > 0 {
		if err := w.tx.InsertExecutions(w.inserts); err != nil {
			return fmt.Errorf("insert executions: %w", err)
		}
	}
	if len(w.updates) > 0 {
		if err := w.tx.UpdateExecutions(w.updates); err != nil {
			return fmt.Errorf("update executions: %w", err)
		}
	}
	if len(w.deletes) > 0 {
		if err := w.tx.DeleteExecutions(w.deletes); err != nil {
			return fmt.Errorf("delete executions: %w", err)
		}
	}
	return nil
}

// settle brings the counts of jobs up to date, aborts those that fail too often, and ends
// those that are complete.
func (w *work) settle() error {
	if err := w.addCounts(); err != nil {
		return err
	}
	for _, id := range sortedKeys(w.jobs) {
		j := w.jobs[id]
		if j == nil {
			continue
		}
		if criterion, met := j.ShouldAbort(); met {
			if err := w.abort(j, criterion); err != nil {
				return err
			}
		}
		if j.Complete(w.now) {
			w.dirty[id] = true
			if err := w.tell(iot.JobDone, j); err != nil {
				return err
			}
		}
		if w.dirty[id] {
			if err := w.tx.SaveJob(j); err != nil {
				return fmt.Errorf("save job: %w", err)
			}
		}
	}
	return nil
}

// addCounts writes the deltas and loads the jobs whose counts may end them.
func (w *work) addCounts() error {
	var deltas []store.CountDelta
	for _, id := range sortedKeys(w.deltas) { // in order, so that no two transactions wait for each other
		if d := w.deltas[id]; d.Delta != (iot.Counts{}) || d.Executed != (iot.Counts{}) {
			deltas = append(deltas, *d)
		}
	}
	if len(deltas) == 0 {
		return nil
	}
	counts, err := w.tx.AddCounts(deltas)
	if err != nil {
		return fmt.Errorf("add counts: %w", err)
	}
	for i, d := range deltas {
		if w.jobs[d.Job] == nil && counts[i].Counts.Pending() > 0 && d.Executed == (iot.Counts{}) {
			continue // neither complete nor failing more than before
		}
		j, err := w.job(d.Job)
		if err != nil {
			return err
		}
		if j != nil {
			j.Counts, j.Executed = counts[i].Counts, counts[i].Executed
		}
	}
	return nil
}

// abort cancels a job that has met a criterion, as CancelJob without force does (spec §5).
func (w *work) abort(j *iot.Job, c iot.AbortCriterion) error {
	todo, err := j.Cancel(w.now, false, iot.AbortReason, c.Comment(j.Executed))
	if err != nil || !todo {
		return err
	}
	w.dirty[j.ID] = true
	w.e.log.Warn("job aborted", "job", j.JobID, "criterion", c.Failure, "comment", j.Comment)
	w.tx.AfterCommit(w.e.wakeUp)
	return w.tell(iot.JobCancelStarted, j)
}
