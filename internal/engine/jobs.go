package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"drover/internal/iot"
	"drover/internal/store"
)

// CreateJob stores a job and answers; its executions are created in the background.
//
// Errors: InvalidRequest for a document, target, namespace or package version that cannot be; NotFound
// for a target or package version that does not exist; AlreadyExists for a job id in use, also by a job
// that is being deleted; LimitExceeded for more than 100 targets.
func (e *Engine) CreateJob(ctx context.Context, in iot.NewJob) (*iot.Job, error) {
	if !in.JobID.Valid() {
		return nil, iot.Invalid("jobId", in.JobID, "Member must satisfy regular expression pattern: [a-zA-Z0-9_-]+ and have a length of 1 to 64")
	}
	if !iot.ValidNamespace(in.Namespace) {
		return nil, iot.Invalid("namespaceId", in.Namespace, "Member must satisfy regular expression pattern: [a-zA-Z0-9_-]+")
	}
	if len(in.Targets) == 0 {
		return nil, iot.Invalid("targets", "[]", "Member must have length greater than or equal to 1")
	}
	j := &iot.Job{JobID: in.JobID, Status: iot.JobInProgress, Namespace: in.Namespace, Phase: iot.PhaseRollout}
	err := e.update(ctx, in.Actor, func(w *work) error {
		_, err := w.tx.JobByName(in.JobID)
		if err == nil {
			return e.jobExists(in.JobID)
		}
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err := e.configure(w, j, in); err != nil {
			return err
		}
		if err := e.roomFor(w.tx, j); err != nil {
			return err
		}
		if j.Targets, err = e.targets(w.tx, nil, in.Targets, true); err != nil {
			return err
		}
		// Who joins a group after this number is not of a snapshot. One that starts later
		// gets a later number then.
		if j.Members, err = w.tx.Sequence(1); err != nil {
			return err
		}
		j.CreatedAt, j.UpdatedAt, j.DueAt = w.now, w.now, w.now
		if err := w.tx.InsertJob(j); err != nil {
			if errors.Is(err, store.ErrExists) {
				return e.jobExists(in.JobID)
			}
			return err
		}
		if j.Status == iot.JobInProgress {
			if err := e.deploy(w.tx, j, j.Document); err != nil {
				return err
			}
		}
		if len(in.Tags) > 0 {
			if err := w.tx.PutTags(e.realm.ARN(iot.KindJob, string(j.JobID)), in.Tags); err != nil {
				return err
			}
		}
		return w.tell(iot.JobCreated, j)
	})
	if err != nil {
		return nil, err
	}
	e.log.InfoContext(ctx, "job created", "job", j.JobID, "targets", len(j.Targets), "selection", j.Selection)
	e.wakeUp()
	return j, nil
}

// configure completes a new job from the request and the template that it names, and
// checks the whole.
func (e *Engine) configure(w *work, j *iot.Job, in iot.NewJob) error {
	if err := e.applyTemplate(w.tx, &in); err != nil {
		return err
	}
	doc, err := iot.ParseDocument(in.Document, e.documents.objects)
	if err != nil {
		return err
	}
	if err := doc.CheckPresigned(in.Config.Presigned); err != nil {
		return err
	}
	if err := e.checkDestinations(doc, in.PackageVersions); err != nil {
		return err
	}
	if err := in.Config.Check(); err != nil {
		return err
	}
	j.Selection = cmp.Or(in.Selection, iot.Snapshot)
	j.Description, j.Document, j.Config, j.PackageVersions = in.Description, in.Document, in.Config, in.PackageVersions
	j.DocumentSource = in.DocumentSource
	j.TemplateARN, j.Parameters = in.TemplateARN, in.Parameters
	if in.Schedule == nil {
		return nil
	}
	if err := in.Schedule.Check(w.now, j.Selection); err != nil {
		return err
	}
	j.Schedule = in.Schedule
	if j.Schedule.StartAt != 0 || j.Windowed() {
		j.Status, j.Phase = iot.JobScheduled, iot.PhaseNone
	}
	return nil
}

// roomFor returns LimitExceeded if there are as many jobs as there may be.
func (e *Engine) roomFor(tx store.Reader, j *iot.Job) error {
	if limit := e.limits.ActiveJobs; limit > 0 {
		n, err := tx.CountActive()
		if err != nil {
			return err
		}
		if n >= limit {
			return iot.Errorf(iot.LimitExceeded, "There are %d active jobs, which is the limit", n)
		}
	}
	if j.Status == iot.JobScheduled {
		return nil
	}
	return e.roomForOne(tx)
}

// roomForOne returns LimitExceeded if no further job may be concurrent.
func (e *Engine) roomForOne(tx store.Reader) error {
	limit := e.limits.ConcurrentJobs
	if limit <= 0 {
		return nil
	}
	n, err := tx.CountConcurrent()
	if err == nil && n >= limit {
		return iot.Errorf(iot.LimitExceeded, "There are %d concurrent jobs, which is the limit", n)
	}
	return err
}

func (e *Engine) jobExists(id iot.JobID) error {
	err := iot.Errorf(iot.AlreadyExists, "Job %s already exists", id)
	err.ResourceID, err.ResourceARN = string(id), e.realm.ARN(iot.KindJob, string(id))
	return err
}

// targets resolves ARNs to things and groups that exist, after those that are targets
// already. An ARN that is given again is no second target.
func (e *Engine) targets(tx store.Reader, have []iot.Target, arns []string, things bool) ([]iot.Target, error) {
	all := slices.Clone(have)
	for _, arn := range arns {
		if slices.ContainsFunc(all, func(t iot.Target) bool { return t.ARN == arn }) {
			continue
		}
		kind, name, err := e.realm.ParseARN(arn)
		if err != nil {
			return nil, err
		}
		t := iot.Target{ARN: arn}
		switch {
		case kind == iot.KindThing && things:
			found, err := thing(tx, iot.ThingName(name))
			if err != nil {
				return nil, err
			}
			t.ThingID = found.ID
		case kind == iot.KindGroup:
			found, err := tx.GroupByName(iot.GroupName(name))
			if errors.Is(err, store.ErrNotFound) {
				return nil, iot.Errorf(iot.NotFound, "Thing group %s cannot be found", name)
			}
			if err != nil {
				return nil, err
			}
			t.GroupID = found.ID
		case things:
			return nil, iot.Errorf(iot.InvalidRequest, "Target %s is neither a thing nor a thing group", arn)
		default:
			return nil, iot.Errorf(iot.InvalidRequest, "Target %s is not a thing group", arn)
		}
		all = append(all, t)
	}
	if len(all) > iot.MaxTargets {
		return nil, iot.Errorf(iot.LimitExceeded, "A job can have at most %d targets; these are %d", iot.MaxTargets, len(all))
	}
	return all, nil
}

// Job returns a job without its document. NotFound.
func (e *Engine) Job(ctx context.Context, id iot.JobID) (j *iot.Job, err error) {
	err = e.view(ctx, func(tx store.Reader) error {
		j, err = job(tx, id)
		return err
	})
	return j, err
}

// JobDocument returns the document of a job as it was submitted. NotFound.
func (e *Engine) JobDocument(ctx context.Context, id iot.JobID) (doc string, err error) {
	err = e.view(ctx, func(tx store.Reader) error {
		j, err := job(tx, id)
		if err != nil {
			return err
		}
		doc, err = tx.JobDocument(j.ID)
		return err
	})
	return doc, err
}

// Jobs lists jobs by status as iot.JobStatuses has them, inside one status the newest
// first. NotFound if the query names a group that does not exist.
func (e *Engine) Jobs(ctx context.Context, q iot.JobQuery, page iot.Page) (jobs []*iot.Job, next string, err error) {
	after, err := parseJobKey(page.Cursor)
	if err != nil {
		return nil, "", err
	}
	err = e.view(ctx, func(tx store.Reader) error {
		f := store.JobFilter{Status: q.Status, Selection: q.Selection, Namespace: q.Namespace}
		if q.GroupName != "" || q.GroupUUID != "" {
			g, err := group(tx, q.GroupName, q.GroupUUID)
			if err != nil {
				return err
			}
			f.Group = g.ID
		}
		jobs, err = tx.Jobs(f, after, page.Limit+1)
		return err
	})
	if err != nil {
		return nil, "", err
	}
	if len(jobs) > page.Limit {
		jobs = jobs[:page.Limit]
		last := jobs[len(jobs)-1]
		next = fmt.Sprintf("%s %d", last.Status, last.ID)
	}
	return jobs, next, nil
}

func parseJobKey(cursor string) (store.JobKey, error) {
	if cursor == "" {
		return store.JobKey{}, nil
	}
	status, id, _ := strings.Cut(cursor, " ")
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil || !slices.Contains(iot.JobStatuses(), iot.JobStatus(status)) {
		return store.JobKey{}, errCursor
	}
	return store.JobKey{Status: iot.JobStatus(status), ID: n}, nil
}

var errCursor = iot.Errorf(iot.InvalidRequest, "Invalid nextToken")

// group finds a group by name, by UUID, or by both, which must agree then.
func group(tx store.Reader, name iot.GroupName, uuid string) (*iot.Group, error) {
	var g *iot.Group
	var err error
	if name != "" {
		g, err = tx.GroupByName(name)
	} else {
		g, err = tx.GroupByUUID(uuid)
	}
	if errors.Is(err, store.ErrNotFound) || err == nil && uuid != "" && g.UUID != uuid {
		return nil, iot.Errorf(iot.NotFound, "Thing group %s cannot be found", strings.TrimSpace(string(name)+" "+uuid))
	}
	return g, err
}

// UpdateJob changes the given members of an active job. NotFound; InvalidRequest for a
// job that has ended.
func (e *Engine) UpdateJob(ctx context.Context, in iot.JobUpdate) error {
	return e.update(ctx, in.Actor, func(w *work) error {
		j, err := jobIn(w.tx, in.JobID, in.Namespace)
		if err != nil {
			return err
		}
		if j.Status != iot.JobInProgress && j.Status != iot.JobScheduled {
			return iot.Errorf(iot.InvalidRequest, "Job %s cannot be updated: it is %s", j.JobID, j.Status)
		}
		if in.Description != nil {
			j.Description = *in.Description
		}
		if err := e.reconfigure(w.tx, j, in); err != nil {
			return err
		}
		j.UpdatedAt = w.now
		if j.Phase == iot.PhaseRollout {
			j.LookAgain(w.now, w.now) // another rate may allow more at once
			w.tx.AfterCommit(e.wakeUp)
		}
		w.save(j)
		return w.tell(iot.JobUpdated, j)
	})
}

// reconfigure replaces the parts of a job's configuration that are given (spec §10.5).
func (e *Engine) reconfigure(tx store.Tx, j *iot.Job, in iot.JobUpdate) error {
	if in.Presigned != nil {
		tx.AfterCommit(func() { e.documents.drop(j.ID) })
		doc, err := e.documents.get(tx, j.ID)
		if err != nil {
			return err
		}
		if err := doc.CheckPresigned(in.Presigned); err != nil {
			return err
		}
		j.Config.Presigned = in.Presigned
	}
	if in.Rollout != nil {
		j.UpdateRollout(in.Rollout)
	}
	if in.Abort != nil {
		j.Config.Abort = in.Abort
	}
	if in.Timeout != nil {
		j.Config.TimeoutMinutes = *in.Timeout
	}
	if in.Retry != nil {
		if err := j.UpdateRetry(in.Retry); err != nil {
			return err
		}
	}
	return j.Config.Check()
}

// CancelJob ends a job: no more executions are created, those that wait become CANCELED,
// with force also those in progress. A small job's are canceled with the answer, a large
// one's in the background. NotFound; InvalidRequest for a job that has ended otherwise.
func (e *Engine) CancelJob(ctx context.Context, in iot.JobCancellation) (*iot.Job, error) {
	var j *iot.Job
	err := e.update(ctx, in.Actor, func(w *work) (err error) {
		if j, err = job(w.tx, in.JobID); err != nil {
			return err
		}
		if !j.Concurrent() {
			if err := e.roomForOne(w.tx); err != nil {
				return err
			}
		}
		todo, err := j.Cancel(w.now, in.Force, in.ReasonCode, in.Comment)
		if err != nil || !todo {
			return err
		}
		w.save(j)
		if err := w.tell(iot.JobCancelStarted, j); err != nil {
			return err
		}
		if _, err = e.cancelSome(w, j, j.CancelStatuses(), j.ForceCanceled); err != nil {
			return err
		}
		if j.Phase == iot.PhaseNone {
			j.DueAt = 0
			return w.tell(iot.JobCancelDone, j)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	e.log.InfoContext(ctx, "job canceled", "job", in.JobID, "force", in.Force, "actor", in.Actor)
	e.wakeUp()
	return j, nil
}

// DeleteJob starts the deletion of a job and of all its executions, which goes on in the
// background. NotFound; InvalidStateTransition for an active job without force and for a
// job that is being deleted; LimitExceeded while ten jobs are.
func (e *Engine) DeleteJob(ctx context.Context, in iot.JobDeletion) error {
	err := e.update(ctx, in.Actor, func(w *work) error {
		j, err := jobIn(w.tx, in.JobID, in.Namespace)
		if err != nil {
			return err
		}
		if err := j.Delete(w.now, in.Force); err != nil {
			return err
		}
		n, err := w.tx.CountJobs(iot.JobDeletionInProgress)
		if err != nil {
			return err
		}
		if n >= iot.MaxDeletions {
			return iot.Errorf(iot.LimitExceeded, "%d jobs are being deleted; the limit is %d: try again when one is gone", n, iot.MaxDeletions)
		}
		w.save(j)
		return w.tell(iot.JobDeletionStarted, j)
	})
	if err != nil {
		return err
	}
	e.log.InfoContext(ctx, "job is being deleted", "job", in.JobID, "force", in.Force, "actor", in.Actor)
	e.wakeUp()
	return nil
}

// AssociateTargets adds groups to a continuous job. NotFound; InvalidRequest for another
// kind of job, of target, or a job that is not IN_PROGRESS; LimitExceeded for more than
// 100 targets.
func (e *Engine) AssociateTargets(ctx context.Context, in iot.NewTargets) (*iot.Job, error) {
	var j *iot.Job
	err := e.update(ctx, in.Actor, func(w *work) (err error) {
		if j, err = jobIn(w.tx, in.JobID, in.Namespace); err != nil {
			return err
		}
		switch {
		case j.Selection != iot.Continuous:
			return iot.Errorf(iot.InvalidRequest, "Job %s is not CONTINUOUS: targets cannot be added", j.JobID)
		case j.Status != iot.JobInProgress:
			return iot.Errorf(iot.InvalidRequest, "Job %s is %s: targets can be added to a job IN_PROGRESS only", j.JobID, j.Status)
		}
		targets, err := e.targets(w.tx, j.Targets, in.Targets, false)
		if err != nil {
			return err
		}
		if len(targets) > len(j.Targets) {
			// The rollout goes on where it ended: behind the old targets.
			j.Targets = targets
			j.Phase, j.DueAt = iot.PhaseRollout, w.now
		}
		if in.Comment != "" {
			j.Comment = in.Comment
		}
		j.UpdatedAt = w.now
		w.save(j)
		return w.tell(iot.JobTargetsAdded, j)
	})
	if err != nil {
		return nil, err
	}
	e.wakeUp()
	return j, nil
}
