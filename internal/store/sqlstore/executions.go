package sqlstore

import (
	"cmp"
	"fmt"
	"slices"

	"drover/internal/iot"
	"drover/internal/store"
)

// selectExecutions reads what scanExecution scans. The queue is joined for pending
// executions only (statuses 1 and 2).
const selectExecutions = `SELECT e.job, e.seq, e.thing_id, e.number, e.retry_attempt, e.status, e.version, e.force_canceled,
	e.queued_at, e.started_at, e.updated_at, e.failed_retries, e.timed_out_retries, e.status_before, e.windowed, e.details, j.job_id, j.namespace, t.name, q.body
	FROM executions e JOIN jobs j ON j.id = e.job JOIN things t ON t.id = e.thing_id
	LEFT JOIN queues q ON q.thing_id = e.thing_id AND e.status <= 2 `

const (
	executionByNumber  = selectExecutions + `WHERE e.thing_id = $1 AND e.job = $2 AND e.number = $3`
	latestExecution    = selectExecutions + `WHERE e.thing_id = $1 AND e.job = $2 ORDER BY e.number DESC LIMIT 1`
	executionsOfJob    = selectExecutions + `WHERE e.job = $1 AND e.seq > $2 ORDER BY e.seq LIMIT $3`
	executionsByStatus = selectExecutions + `WHERE e.job = $1 AND e.status = $2 AND e.seq > $3 ORDER BY e.seq LIMIT $4`
	// The order is made by sorting the thing's entries of the index: there are as many as
	// the thing has had jobs, and one index less on the largest table is worth more.
	executionsOfThing = selectExecutions + `WHERE e.thing_id = $1 AND e.seq < $2 AND ($3 = 0 OR e.status = $3)
		AND ($4 = 0 OR e.job = $4) AND ($5 = 0 OR j.namespace = $6) ORDER BY e.seq DESC LIMIT $7`

	insertExecution = `INSERT INTO executions (job, seq, thing_id, number, retry_attempt, status, version, force_canceled,
		queued_at, started_at, updated_at, failed_retries, timed_out_retries, status_before, windowed, due_at, details)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)`
	updateExecution = `UPDATE executions SET status = $1, version = $2, force_canceled = $3, started_at = $4, updated_at = $5,
		details = $6, due_at = $7 WHERE job = $8 AND seq = $9`
	deleteExecution = `DELETE FROM executions WHERE job = $1 AND seq = $2`
)

func scanExecution(r *row) (iot.Execution, error) {
	e := iot.Execution{
		Job: r.int(), Seq: r.int(), ThingID: r.int(), Number: r.int(), RetryAttempt: r.int(),
		Status: iot.ExecutionStatus(r.int()), Version: r.int(), ForceCanceled: r.bool(),
		QueuedAt: r.time(), StartedAt: r.time(), UpdatedAt: r.time(),
		FailedRetries: r.int(), TimedOutRetries: r.int(), Before: iot.ExecutionStatus(r.int()), Windowed: r.bool(),
	}
	var err error
	if e.Details, err = decodeDetails(r.blob()); err != nil {
		return e, fmt.Errorf("sqlstore: details of execution %d of job %d: %w", e.Seq, e.Job, err)
	}
	e.JobID, e.Namespace, e.Thing = iot.JobID(r.text()), r.text(), iot.ThingName(r.text())
	if !e.Status.Pending() {
		return e, nil
	}
	queue, err := queueBody(r.blob(), e.ThingID, e.Thing)
	if i := slices.IndexFunc(queue, func(q iot.Execution) bool { return q.Seq == e.Seq }); i >= 0 {
		e = queue[i]
	}
	return e, err
}

// Execution implements store.ExecutionReader.
func (r reader) Execution(job, thing, number int64) (e iot.Execution, err error) {
	scan := func(row *row) (err error) {
		e, err = scanExecution(row)
		return err
	}
	if number == 0 {
		err = r.c.one(latestExecution, scan, thing, job)
	} else {
		err = r.c.one(executionByNumber, scan, thing, job, number)
	}
	return e, err
}

// LatestExecutions implements store.ExecutionReader.
func (r reader) LatestExecutions(job int64, things []int64) (map[int64]iot.Execution, error) {
	latest := make(map[int64]iot.Execution)
	err := r.c.read(latestExecution, len(things),
		func(i int, a *args) {
			a.int(things[i])
			a.int(job)
		},
		func(i int, row *row) (err error) {
			latest[things[i]], err = scanExecution(row)
			return err
		})
	return latest, err
}

// ExecutionsOfJob implements store.ExecutionReader.
func (r reader) ExecutionsOfJob(job int64, status iot.ExecutionStatus, after int64, limit int) ([]iot.Execution, error) {
	if status == iot.NoStatus {
		return r.executions(executionsOfJob, job, after, limit)
	}
	return r.executions(executionsByStatus, job, int64(status), after, limit)
}

// ExecutionsOfThing implements store.ExecutionReader.
func (r reader) ExecutionsOfThing(thing int64, f store.ThingFilter, before int64, limit int) ([]iot.Execution, error) {
	given, namespace := option(f.Namespace)
	return r.executions(executionsOfThing, thing, cmp.Or(before, maxID), int64(f.Status), f.Job, given, namespace, limit)
}

func (r reader) executions(query string, values ...any) (list []iot.Execution, err error) {
	err = r.c.list(query, func(row *row) error {
		e, err := scanExecution(row)
		list = append(list, e)
		return err
	}, values...)
	return list, err
}

// HasExecutions implements store.ExecutionReader.
func (r reader) HasExecutions(thing int64) (bool, error) {
	n, err := r.c.number(`SELECT 1 FROM executions WHERE thing_id = $1 LIMIT 1`, thing)
	return n == 1, err
}

// InsertExecutions implements store.ExecutionWriter.
func (t *tx) InsertExecutions(executions []iot.Execution) error {
	return t.insert(insertExecution, len(executions), func(i int, a *args) {
		e := &executions[i]
		a.int(e.Job)
		a.int(e.Seq)
		a.int(e.ThingID)
		a.int(e.Number)
		a.int(e.RetryAttempt)
		a.int(int64(e.Status))
		a.int(e.Version)
		a.bool(e.ForceCanceled)
		a.time(e.QueuedAt)
		a.time(e.StartedAt)
		a.time(e.UpdatedAt)
		a.int(e.FailedRetries)
		a.int(e.TimedOutRetries)
		a.int(int64(e.Before))
		a.bool(e.Windowed)
		a.time(e.DueAt())
		a.blob(t.details(e))
	})
}

// UpdateExecutions implements store.ExecutionWriter. store.ErrNotFound if one is absent.
func (t *tx) UpdateExecutions(executions []iot.Execution) error {
	changed, err := t.bulk(updateExecution, len(executions), func(i int, a *args) {
		e := &executions[i]
		a.int(int64(e.Status))
		a.int(e.Version)
		a.bool(e.ForceCanceled)
		a.time(e.StartedAt)
		a.time(e.UpdatedAt)
		a.blob(t.details(e))
		a.time(e.DueAt())
		a.int(e.Job)
		a.int(e.Seq)
	})
	if err == nil && changed < len(executions) {
		err = t.failing(store.ErrNotFound)
	}
	return err
}

// details encodes the details of e for its row; none are no bytes.
func (t *tx) details(e *iot.Execution) []byte {
	t.buf = t.buf[:0]
	if len(e.Details) > 0 {
		t.buf = appendDetails(t.buf, e.Details)
	}
	return t.buf
}

// DeleteExecutions implements store.ExecutionWriter.
func (t *tx) DeleteExecutions(keys []store.ExecutionKey) error {
	things, err := t.ghostsOf(keys)
	if err != nil {
		return err
	}
	err = t.later(deleteExecution, len(keys), func(i int, a *args) {
		a.int(keys[i].Job)
		a.int(keys[i].Seq)
	})
	if err != nil {
		return err
	}
	return t.dropGhosts(things)
}

// ghostsOf returns the deleted things that the executions are of.
func (t *tx) ghostsOf(keys []store.ExecutionKey) ([]int64, error) {
	any, err := t.c.number(`SELECT 1 FROM things WHERE deleted = 1 LIMIT 1`)
	if err != nil || any == 0 {
		return nil, err
	}
	var ghosts []int64
	// The + keeps planners from looking at all ghosts for one thing.
	err = t.c.read(`SELECT t.id FROM executions e JOIN things t ON t.id = e.thing_id WHERE e.job = $1 AND e.seq = $2 AND +t.deleted = 1`,
		len(keys),
		func(i int, a *args) {
			a.int(keys[i].Job)
			a.int(keys[i].Seq)
		},
		func(_ int, row *row) error {
			ghosts = append(ghosts, row.int())
			return nil
		})
	slices.Sort(ghosts)
	return slices.Compact(ghosts), err
}

// dropGhosts forgets the ghosts of which no execution is left: nothing needs their names.
func (t *tx) dropGhosts(ghosts []int64) error {
	id := func(i int, a *args) { a.int(ghosts[i]) }
	err := t.later(`DELETE FROM things WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM executions e WHERE e.thing_id = things.id)`, len(ghosts), id)
	if err != nil {
		return err
	}
	return t.later(`DELETE FROM queues WHERE thing_id = $1 AND NOT EXISTS (SELECT 1 FROM things t WHERE t.id = queues.thing_id)`, len(ghosts), id)
}
