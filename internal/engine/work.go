package engine

import (
	"fmt"
	"slices"

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

	queues  map[int64]*iot.Queue // changed, by thing
	order   []int64              // of queues
	inserts []iot.Execution
	updates []iot.Execution
	updated map[int64]int // Seq to index in updates
	deletes []store.ExecutionKey
	deltas  map[int64]*iot.Counts // by job
	jobs    map[int64]*iot.Job    // loaded
	dirty   map[int64]bool        // of jobs
	records []iot.Record
}

func (e *Engine) work(tx store.Tx, now iot.Time, actor string) *work {
	return &work{
		tx: tx, e: e, now: now, actor: actor,
		queues:  make(map[int64]*iot.Queue),
		updated: make(map[int64]int),
		deltas:  make(map[int64]*iot.Counts),
		jobs:    make(map[int64]*iot.Job),
		dirty:   make(map[int64]bool),
	}
}

// count changes the counts of a job.
func (w *work) count(job int64, status iot.ExecutionStatus, n int64) {
	d := w.deltas[job]
	if d == nil {
		d = new(iot.Counts)
		w.deltas[job] = d
	}
	d[status] += n
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
		w.count(e.Job, e.Status, 1)
	case c.Reposition:
		w.update(e)
		w.count(e.Job, c.From, -1)
		w.count(e.Job, e.Status, 1)
	}
	w.records = append(w.records, iot.Record{
		At: w.now, Kind: iot.ExecutionChanged, Actor: actor, JobID: e.JobID, Execution: &e,
		List: c.List, Next: c.Next, Queue: c.Queue,
	})
}

// update notes the last state of an execution in this transaction.
func (w *work) update(e iot.Execution) {
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
		Number: 1, Status: iot.Queued, Version: 1, QueuedAt: w.now, UpdatedAt: w.now,
	}
	if last != nil {
		e.Number = last.Number + 1
		// The counts are of the latest execution of each thing (spec §4.5).
		w.count(j.ID, last.Status, -1)
	}
	w.apply(q, q.Add(e), w.actor)
}

// remove deletes an execution, pending in q or ended. latest says whether it is the
// latest of its job on its thing; before is the one that is the latest then, if any.
func (w *work) remove(q *iot.Queue, e iot.Execution, latest bool, before *iot.Execution) {
	r := iot.Record{At: w.now, Kind: iot.ExecutionDeleted, Actor: w.actor, JobID: e.JobID, Execution: &e}
	if q != nil && q.BySeq(e.Seq) != nil {
		c := q.Drop(e.Seq)
		w.touch(q)
		r.List, r.Next, r.Queue = c.List, c.Next, c.Queue
	}
	w.deletes = append(w.deletes, store.ExecutionKey{Job: e.Job, Seq: e.Seq})
	if latest {
		w.count(e.Job, e.Status, -1)
		if before != nil {
			w.count(e.Job, before.Status, 1)
		}
	}
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

// settle brings the counts of jobs up to date and ends those that are complete.
func (w *work) settle() error {
	var deltas []store.CountDelta
	for id, d := range w.deltas {
		if *d != (iot.Counts{}) {
			deltas = append(deltas, store.CountDelta{Job: id, Delta: *d})
		}
	}
	// Always in the same order, so that no two transactions wait for each other.
	slices.SortFunc(deltas, func(a, b store.CountDelta) int { return int(max(-1, min(1, a.Job-b.Job))) })
	var drained []int64
	if len(deltas) > 0 {
		counts, err := w.tx.AddCounts(deltas)
		if err != nil {
			return fmt.Errorf("add counts: %w", err)
		}
		for i, d := range deltas {
			if j := w.jobs[d.Job]; j != nil {
				j.Counts = counts[i]
			} else if counts[i].Pending() == 0 {
				drained = append(drained, d.Job)
			}
		}
	}
	if len(drained) > 0 {
		loaded, err := w.tx.JobsByID(drained)
		if err != nil {
			return fmt.Errorf("load jobs: %w", err)
		}
		for id, j := range loaded {
			w.jobs[id] = j
		}
	}
	for _, id := range sortedKeys(w.jobs) {
		j := w.jobs[id]
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
