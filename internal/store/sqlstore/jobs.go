package sqlstore

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"drover/internal/iot"
	"drover/internal/store"
)

// maxID is above every id and position.
const maxID int64 = math.MaxInt64

// rank returns the number that stands for the status in the database: its place in a
// list of jobs, from 1. Zero if there is no such status.
func rank(s iot.JobStatus) int64 { return int64(slices.Index(iot.JobStatuses(), s)) + 1 }

const selectJobs = `SELECT j.id, j.job_id, j.status, j.selection, j.namespace, j.description, j.comment, j.reason_code, j.force_canceled,
	j.config, j.schedule, j.package_versions, j.template_arn, j.parameters, j.created_at, j.updated_at, j.completed_at,
	j.phase, j.due_at, j.rollout_cursor, j.pace, j.members, j.document_source,
	c.queued, c.in_progress, c.succeeded, c.failed, c.timed_out, c.rejected, c.removed, c.canceled,
	c.executed_succeeded, c.executed_failed, c.executed_timed_out, c.executed_rejected
	FROM jobs j JOIN job_counts c ON c.job = j.id `

const (
	jobByName  = selectJobs + `WHERE j.job_id = $1`
	jobByID    = selectJobs + `WHERE j.id = $1`
	jobsOfRank = selectJobs + `WHERE j.status = $1 AND j.id < $2 AND ($3 = '' OR j.selection = $3) AND ($4 = 0 OR j.namespace = $5)
		AND ($6 = 0 OR EXISTS (SELECT 1 FROM job_targets g WHERE g.group_id = $6 AND g.group_id <> 0 AND g.job = j.id))
		ORDER BY j.id DESC LIMIT $7`
	dueJobs        = selectJobs + `WHERE j.due_at > 0 AND j.due_at <= $1 ORDER BY j.due_at, j.id LIMIT $2`
	hastenJobs     = `UPDATE jobs SET due_at = $1 WHERE due_at > 0 AND due_at > $1 AND phase <> ''`
	nextDueJob     = `SELECT due_at FROM jobs WHERE due_at > 0 ORDER BY due_at LIMIT 1`
	endedJobs      = selectJobs + `WHERE +j.status IN (3, 4) AND j.phase = '' AND j.updated_at < $1 ORDER BY j.updated_at, j.id LIMIT $2`
	continuousJobs = selectJobs + `JOIN job_targets g ON g.job = j.id
		WHERE g.group_id = $1 AND g.group_id <> 0 AND j.status = 1 AND j.selection = 'CONTINUOUS'`
	snapshotRollouts = selectJobs + `JOIN job_targets g ON g.job = j.id
		WHERE g.group_id = $1 AND g.group_id <> 0 AND j.phase = 'rollout' AND j.selection = 'SNAPSHOT'`

	jobTotals = `SELECT j.id, j.status, c.queued, c.in_progress, c.succeeded, c.failed, c.timed_out, c.rejected, c.removed, c.canceled
		FROM jobs j JOIN job_counts c ON c.job = j.id WHERE j.id > $1 ORDER BY j.id LIMIT $2`

	targetsOfJob = `SELECT arn, thing_id, group_id FROM job_targets WHERE job = $1 ORDER BY position`
	insertTarget = `INSERT INTO job_targets (job, position, arn, thing_id, group_id) VALUES ($1, $2, $3, $4, $5)`

	insertJob = `INSERT INTO jobs (id, job_id, status, selection, namespace, description, comment, reason_code, force_canceled,
		config, schedule, package_versions, template_arn, parameters, created_at, updated_at, completed_at,
		phase, due_at, rollout_cursor, pace, members, document_source)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)`
	saveJob = `UPDATE jobs SET status = $1, description = $2, comment = $3, reason_code = $4, force_canceled = $5, config = $6,
		updated_at = $7, completed_at = $8, phase = $9, due_at = $10, rollout_cursor = $11, pace = $12, members = $13 WHERE id = $14`
	addCounts = `UPDATE job_counts SET queued = queued + $1, in_progress = in_progress + $2, succeeded = succeeded + $3,
		failed = failed + $4, timed_out = timed_out + $5, rejected = rejected + $6, removed = removed + $7,
		canceled = canceled + $8 WHERE job = $9`
	addExecuted = `UPDATE job_counts SET executed_succeeded = executed_succeeded + $1, executed_failed = executed_failed + $2,
		executed_timed_out = executed_timed_out + $3, executed_rejected = executed_rejected + $4 WHERE job = $5`
	countsOfJob = `SELECT queued, in_progress, succeeded, failed, timed_out, rejected, removed, canceled,
		executed_succeeded, executed_failed, executed_timed_out, executed_rejected FROM job_counts WHERE job = $1`
)

// unrank is the inverse of rank, for the job with the id.
func unrank(job, status int64) (iot.JobStatus, error) {
	statuses := iot.JobStatuses()
	if status < 1 || status > int64(len(statuses)) {
		return "", fmt.Errorf("sqlstore: job %d has the unknown status %d", job, status)
	}
	return statuses[status-1], nil
}

func scanJob(r *row) (*iot.Job, error) {
	j := &iot.Job{ID: r.int(), JobID: iot.JobID(r.text())}
	var err error
	if j.Status, err = unrank(j.ID, r.int()); err != nil {
		return nil, err
	}
	j.Selection, j.Namespace = iot.Selection(r.text()), r.text()
	j.Description, j.Comment, j.ReasonCode, j.ForceCanceled = r.text(), r.text(), r.text(), r.bool()
	for _, into := range []any{&j.Config, &j.Schedule, &j.PackageVersions} {
		if err := fromJSON(r.text(), into); err != nil {
			return nil, err
		}
	}
	j.TemplateARN = r.text()
	if err := fromJSON(r.text(), &j.Parameters); err != nil {
		return nil, err
	}
	j.CreatedAt, j.UpdatedAt, j.CompletedAt = r.time(), r.time(), r.time()
	j.Phase, j.DueAt = iot.Phase(r.text()), r.time()
	for _, into := range []any{&j.Cursor, &j.Pace} {
		if err := fromJSON(r.text(), into); err != nil {
			return nil, err
		}
	}
	j.Members, j.DocumentSource = r.int(), r.text()
	j.Counts, j.Executed = scanCounts(r), scanExecuted(r)
	return j, nil
}

// scanCounts reads the counts of the eight statuses, in the order of iot.Counts.
func scanCounts(r *row) (c iot.Counts) {
	for s := range c[iot.Queued:] {
		c[iot.Queued:][s] = r.int()
	}
	return c
}

// executed lists the statuses that are kept of Executed, in the order of the columns.
var executed = [...]iot.ExecutionStatus{iot.Succeeded, iot.Failed, iot.TimedOut, iot.Rejected}

// scanExecuted reads the counts of the statuses in executed.
func scanExecuted(r *row) (c iot.Counts) {
	for _, s := range executed {
		c[s] = r.int()
	}
	return c
}

// fromJSON decodes a column that is "" for the zero value.
func fromJSON(text string, into any) error {
	if text == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(text), into); err != nil {
		return fmt.Errorf("sqlstore: stored JSON: %w", err)
	}
	return nil
}

// toJSON encodes a value for a column; what JSON calls null, the column calls "".
func toJSON(v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil || string(b) == "null" {
		return "", err
	}
	return string(b), nil
}

// allJSON encodes values for columns, as toJSON does.
func allJSON(values ...any) ([]string, error) {
	columns := make([]string, len(values))
	for i, v := range values {
		var err error
		if columns[i], err = toJSON(v); err != nil {
			return nil, err
		}
	}
	return columns, nil
}

// option splits an optional text into whether it is given, and what it is.
func option(s *string) (given bool, text string) {
	if s == nil {
		return false, ""
	}
	return true, *s
}

// jobs reads jobs by running a query n times, and then their targets.
func (r reader) jobs(query string, n int, bind func(i int, a *args)) ([]*iot.Job, error) {
	var jobs []*iot.Job
	err := r.c.read(query, n, bind, func(_ int, row *row) error {
		j, err := scanJob(row)
		jobs = append(jobs, j)
		return err
	})
	if err != nil {
		return nil, err
	}
	err = r.c.read(targetsOfJob, len(jobs),
		func(i int, a *args) { a.int(jobs[i].ID) },
		func(i int, row *row) error {
			jobs[i].Targets = append(jobs[i].Targets, iot.Target{ARN: row.text(), ThingID: row.int(), GroupID: row.int()})
			return nil
		})
	return jobs, err
}

// JobByName implements store.JobReader.
func (r reader) JobByName(id iot.JobID) (*iot.Job, error) {
	jobs, err := r.jobs(jobByName, 1, bindAll([]any{string(id)}))
	if err != nil {
		return nil, err
	}
	if len(jobs) == 0 {
		return nil, store.ErrNotFound
	}
	return jobs[0], nil
}

// JobsByID implements store.JobReader.
func (r reader) JobsByID(ids []int64) (map[int64]*iot.Job, error) {
	jobs, err := r.jobs(jobByID, len(ids), func(i int, a *args) { a.int(ids[i]) })
	found := make(map[int64]*iot.Job, len(jobs))
	for _, j := range jobs {
		found[j.ID] = j
	}
	return found, err
}

// JobDocument implements store.JobReader.
func (r reader) JobDocument(job int64) (document string, err error) {
	err = r.c.one(`SELECT document FROM job_documents WHERE job = $1`, func(row *row) error {
		document = row.text()
		return nil
	}, job)
	return document, err
}

// Jobs implements store.JobReader.
func (r reader) Jobs(f store.JobFilter, after store.JobKey, limit int) ([]*iot.Job, error) {
	given, namespace := option(f.Namespace)
	var list []*iot.Job
	for status := range int64(len(iot.JobStatuses())) {
		status++
		if status < rank(after.Status) || f.Status != "" && status != rank(f.Status) {
			continue
		}
		before := maxID
		if status == rank(after.Status) {
			before = after.ID
		}
		jobs, err := r.jobs(jobsOfRank, 1, bindAll([]any{status, before, string(f.Selection), given, namespace, f.Group, limit - len(list)}))
		if err != nil {
			return nil, err
		}
		if list = append(list, jobs...); len(list) >= limit {
			break
		}
	}
	return list, nil
}

// CountJobs implements store.JobReader.
func (r reader) CountJobs(status iot.JobStatus) (int, error) {
	n, err := r.c.number(`SELECT count(*) FROM jobs WHERE status = $1`, rank(status))
	return int(n), err
}

// DueJobs implements store.JobReader.
func (r reader) DueJobs(now iot.Time, limit int) ([]*iot.Job, error) {
	return r.jobs(dueJobs, 1, bindAll([]any{now, limit}))
}

// NextDue implements store.JobReader.
func (r reader) NextDue() (iot.Time, error) {
	at, err := r.c.number(nextDueJob)
	return iot.Time(at), err
}

// countConcurrent looks at the jobs that are due only, which every job in a phase is.
const countConcurrent = `SELECT count(*) FROM jobs WHERE due_at > 0 AND phase IN ('rollout', 'cancel')`

// CountConcurrent implements store.JobReader.
func (r reader) CountConcurrent() (int, error) {
	n, err := r.c.number(countConcurrent)
	return int(n), err
}

// CountActive implements store.JobReader.
func (r reader) CountActive() (int, error) {
	n, err := r.c.number(`SELECT count(*) FROM jobs WHERE status IN (1, 2)`)
	return int(n), err
}

// EndedJobs implements store.JobReader.
func (r reader) EndedJobs(before iot.Time, limit int) ([]*iot.Job, error) {
	return r.jobs(endedJobs, 1, bindAll([]any{before, limit}))
}

// JobTotals implements store.JobReader.
func (r reader) JobTotals(after int64, limit int) (totals []store.JobTotal, err error) {
	err = r.c.list(jobTotals, func(row *row) (err error) {
		t := store.JobTotal{ID: row.int()}
		if t.Status, err = unrank(t.ID, row.int()); err != nil {
			return err
		}
		t.Counts = scanCounts(row)
		totals = append(totals, t)
		return nil
	}, after, limit)
	return totals, err
}

// ContinuousJobs implements store.JobReader.
func (r reader) ContinuousJobs(groups []int64) ([]*iot.Job, error) {
	return r.jobsOfGroups(continuousJobs, groups)
}

// SnapshotRollouts implements store.JobReader.
func (r reader) SnapshotRollouts(groups []int64) ([]*iot.Job, error) {
	return r.jobsOfGroups(snapshotRollouts, groups)
}

func (r reader) jobsOfGroups(query string, groups []int64) ([]*iot.Job, error) {
	jobs, err := r.jobs(query, len(groups), func(i int, a *args) { a.int(groups[i]) })
	slices.SortFunc(jobs, func(a, b *iot.Job) int { return int(max(-1, min(1, a.ID-b.ID))) })
	return slices.CompactFunc(jobs, func(a, b *iot.Job) bool { return a.ID == b.ID }), err
}

// InsertJob implements store.JobWriter.
func (t *tx) InsertJob(job *iot.Job) (err error) {
	columns, err := allJSON(job.Config, job.Schedule, job.PackageVersions, job.Parameters, job.Cursor, job.Pace)
	if err != nil {
		return t.failing(err)
	}
	id, err := t.Sequence(1)
	if err != nil {
		return err
	}
	_, err = t.exec(insertJob, id, string(job.JobID), rank(job.Status), string(job.Selection), job.Namespace,
		job.Description, job.Comment, job.ReasonCode, job.ForceCanceled, columns[0], columns[1], columns[2], job.TemplateARN, columns[3],
		job.CreatedAt, job.UpdatedAt, job.CompletedAt, string(job.Phase), job.DueAt, columns[4], columns[5], job.Members, job.DocumentSource)
	if err != nil {
		return err
	}
	if _, err := t.exec(`INSERT INTO job_documents (job, document) VALUES ($1, $2)`, id, job.Document); err != nil {
		return err
	}
	if _, err := t.exec(`INSERT INTO job_counts (job) VALUES ($1)`, id); err != nil {
		return err
	}
	if job.Counts != (iot.Counts{}) || job.Executed != (iot.Counts{}) {
		if _, err := t.AddCounts([]store.CountDelta{{Job: id, Delta: job.Counts, Executed: job.Executed}}); err != nil {
			return err
		}
	}
	job.ID = id
	return t.insertTargets(job, 0)
}

// insertTargets stores the targets of the job from the given position on.
func (t *tx) insertTargets(job *iot.Job, from int) error {
	return t.later(insertTarget, len(job.Targets)-from, func(i int, a *args) {
		target := job.Targets[from+i]
		a.int(job.ID)
		a.int(int64(from + i))
		a.text(target.ARN)
		a.int(target.ThingID)
		a.int(target.GroupID)
	})
}

// SaveJob implements store.JobWriter. store.ErrNotFound if the job is absent.
func (t *tx) SaveJob(job *iot.Job) error {
	columns, err := allJSON(job.Config, job.Cursor, job.Pace)
	if err != nil {
		return t.failing(err)
	}
	err = t.change(saveJob, rank(job.Status), job.Description, job.Comment, job.ReasonCode, job.ForceCanceled, columns[0],
		job.UpdatedAt, job.CompletedAt, string(job.Phase), job.DueAt, columns[1], columns[2], job.Members, job.ID)
	if err != nil {
		return err
	}
	n, err := t.c.number(`SELECT count(*) FROM job_targets WHERE job = $1`, job.ID)
	if err != nil || int(n) >= len(job.Targets) {
		return err
	}
	return t.insertTargets(job, int(n))
}

// HastenJobs implements store.JobWriter.
func (t *tx) HastenJobs(now iot.Time) error {
	_, err := t.exec(hastenJobs, now)
	return err
}

// AddCounts implements store.JobWriter. The first of the counts, of no status, is not
// kept. store.ErrNotFound if a job is absent; a count that would fall below zero is an error.
func (t *tx) AddCounts(deltas []store.CountDelta) ([]store.JobCounts, error) {
	err := t.later(addCounts, len(deltas), func(i int, a *args) {
		for _, d := range deltas[i].Delta[iot.Queued:] {
			a.int(d)
		}
		a.int(deltas[i].Job)
	})
	if err != nil {
		return nil, err
	}
	if err := t.addExecuted(deltas); err != nil {
		return nil, err
	}
	counts := make([]store.JobCounts, len(deltas))
	found := 0
	err = t.c.read(countsOfJob, len(deltas),
		func(i int, a *args) { a.int(deltas[i].Job) },
		func(i int, row *row) error {
			counts[i] = store.JobCounts{Counts: scanCounts(row), Executed: scanExecuted(row)}
			found++
			return nil
		})
	if err == nil && found < len(deltas) {
		err = store.ErrNotFound
	}
	return counts, t.failing(err)
}

// addExecuted applies the deltas of Executed that change something.
func (t *tx) addExecuted(deltas []store.CountDelta) error {
	var changes []*store.CountDelta
	for i := range deltas {
		if deltas[i].Executed != (iot.Counts{}) {
			changes = append(changes, &deltas[i])
		}
	}
	return t.later(addExecuted, len(changes), func(i int, a *args) {
		for _, s := range executed {
			a.int(changes[i].Executed[s])
		}
		a.int(changes[i].Job)
	})
}

// DeleteJob implements store.JobWriter.
func (t *tx) DeleteJob(job *iot.Job) error {
	for _, query := range []string{
		`DELETE FROM job_targets WHERE job = $1`,
		`DELETE FROM job_documents WHERE job = $1`,
		`DELETE FROM deployments WHERE job = $1`,
		`DELETE FROM job_counts WHERE job = $1`,
		`DELETE FROM jobs WHERE id = $1`,
	} {
		if _, err := t.exec(query, job.ID); err != nil {
			return err
		}
	}
	return nil
}
