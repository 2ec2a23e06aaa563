package engine

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"drover/internal/iot"
	"drover/internal/store"
)

// JobExecutions lists the executions of a job in the order of their creation. NotFound.
func (e *Engine) JobExecutions(ctx context.Context, id iot.JobID, status iot.ExecutionStatus, page iot.Page) (list []iot.Execution, next string, err error) {
	after, err := parseSeq(page.Cursor)
	if err != nil {
		return nil, "", err
	}
	err = e.view(ctx, func(tx store.Reader) error {
		j, err := job(tx, id)
		if err != nil {
			return err
		}
		list, err = tx.ExecutionsOfJob(j.ID, status, after, page.Limit+1)
		return err
	})
	list, next = cut(list, page.Limit)
	return list, next, err
}

// ThingExecutions lists the executions on a thing, the newest first. NotFound for an
// unregistered thing; a job that does not exist has no executions.
func (e *Engine) ThingExecutions(ctx context.Context, name iot.ThingName, q iot.ExecutionQuery, page iot.Page) (list []iot.Execution, next string, err error) {
	before, err := parseSeq(page.Cursor)
	if err != nil {
		return nil, "", err
	}
	err = e.view(ctx, func(tx store.Reader) error {
		t, err := thing(tx, name)
		if err != nil {
			return err
		}
		f := store.ThingFilter{Status: q.Status, Namespace: q.Namespace}
		if q.JobID != "" {
			j, err := tx.JobByName(q.JobID)
			if errors.Is(err, store.ErrNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			f.Job = j.ID
		}
		list, err = tx.ExecutionsOfThing(t.ID, f, before, page.Limit+1)
		return err
	})
	list, next = cut(list, page.Limit)
	return list, next, err
}

func parseSeq(cursor string) (int64, error) {
	if cursor == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(cursor, 10, 64)
	if err != nil || n < 0 {
		return 0, errCursor
	}
	return n, nil
}

// cut takes the one item off that was asked for beyond the page, and says where the next
// page begins if there was one.
func cut(list []iot.Execution, limit int) ([]iot.Execution, string) {
	if len(list) <= limit {
		return list, ""
	}
	list = list[:limit]
	return list, strconv.FormatInt(list[limit-1].Seq, 10)
}

// Execution returns one execution, the latest of the job on the thing if number is zero.
// NotFound. A deleted thing's executions are found as long as they are kept.
func (e *Engine) Execution(ctx context.Context, name iot.ThingName, id iot.JobID, number int64) (x iot.Execution, err error) {
	err = e.view(ctx, func(tx store.Reader) error {
		x, _, err = find(tx, name, id, nil, number)
		return err
	})
	return x, err
}

// find looks an execution up by names.
func find(tx store.Reader, name iot.ThingName, id iot.JobID, namespace *string, number int64) (iot.Execution, *iot.Job, error) {
	j, err := jobIn(tx, id, namespace)
	if iot.ErrorCode(err) == iot.NotFound {
		return iot.Execution{}, nil, noExecution(name, id, number)
	}
	if err != nil {
		return iot.Execution{}, nil, err
	}
	thing, err := tx.ThingID(name)
	if errors.Is(err, store.ErrNotFound) {
		return iot.Execution{}, nil, noExecution(name, id, number)
	}
	if err != nil {
		return iot.Execution{}, nil, err
	}
	x, err := tx.Execution(j.ID, thing, number)
	if errors.Is(err, store.ErrNotFound) {
		return iot.Execution{}, nil, noExecution(name, id, number)
	}
	return x, j, err
}

// CancelExecution cancels the latest execution of a job on a thing. NotFound;
// InvalidStateTransition for one that has ended, or is in progress and force is false;
// VersionMismatch.
func (e *Engine) CancelExecution(ctx context.Context, in iot.ExecutionCancellation) error {
	if err := in.Details.Check(); err != nil {
		return err
	}
	return e.update(ctx, in.Actor, func(w *work) error {
		x, _, err := find(w.tx, in.Thing, in.JobID, nil, 0)
		if err != nil {
			return err
		}
		if err := x.CheckCancel(in.Force, in.ExpectedVersion); err != nil {
			return err
		}
		q, err := w.queue(x.ThingID)
		if err != nil {
			return err
		}
		w.move(q, x.Seq, iot.Canceled, in.Details, in.Force)
		return nil
	})
}

// DeleteExecution forgets an execution. NotFound; InvalidStateTransition for one in
// progress if force is false.
func (e *Engine) DeleteExecution(ctx context.Context, in iot.ExecutionDeletion) error {
	if in.Number < 1 {
		return noExecution(in.Thing, in.JobID, in.Number)
	}
	return e.update(ctx, in.Actor, func(w *work) error {
		x, j, err := find(w.tx, in.Thing, in.JobID, in.Namespace, in.Number)
		if err != nil {
			return err
		}
		if err := x.CheckDelete(in.Force); err != nil {
			return err
		}
		q, err := w.queue(x.ThingID)
		if err != nil {
			return err
		}
		if err := w.forget(q, j, x); err != nil {
			return err
		}
		w.remove(q, x)
		return nil
	})
}

// maxAttempts bounds how many executions of one job on one thing are looked at when one of
// them is deleted; there are more only after hundreds of re-joins.
const maxAttempts = 1000

// forget takes x out of the counts of j, where the execution before it takes its place,
// and out of what later attempts remember of it.
func (w *work) forget(q *iot.Queue, j *iot.Job, x iot.Execution) error {
	attempts, err := w.tx.ExecutionsOfThing(x.ThingID, store.ThingFilter{Job: j.ID}, 0, maxAttempts)
	if err != nil || len(attempts) == 0 {
		return err
	}
	latest := attempts[0]
	rest := slices.DeleteFunc(attempts, func(a iot.Execution) bool { return a.Seq == x.Seq })
	class := iot.NoStatus
	if i := slices.IndexFunc(rest, func(a iot.Execution) bool { return a.Status.Executed() }); i >= 0 {
		class = rest[i].Status
	}
	w.classify(j.ID, latest.Class(), class)
	if latest.Seq != x.Seq {
		if !latest.Status.Executed() && latest.Before != class {
			latest.Before = class
			if p := q.BySeq(latest.Seq); p != nil {
				p.Before = class
				w.touch(q)
			}
			w.update(latest)
		}
		return nil
	}
	d := w.delta(j.ID)
	d.Delta[x.Status]--
	if len(rest) > 0 {
		d.Delta[rest[0].Status]++
	}
	return nil
}

// queue loads the queue of one thing.
func (w *work) queue(thing int64) (*iot.Queue, error) {
	if q := w.queues[thing]; q != nil {
		return q, nil
	}
	queues, err := w.tx.QueuesByID([]int64{thing})
	if err != nil {
		return nil, err
	}
	return &queues[0], w.hide(queues)
}
