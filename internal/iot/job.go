package iot

import (
	"slices"
)

// JobStatus is the state of a job in AWS's own words.
type JobStatus string

// The statuses.
const (
	JobInProgress         JobStatus = "IN_PROGRESS"
	JobScheduled          JobStatus = "SCHEDULED"
	JobCompleted          JobStatus = "COMPLETED"
	JobCanceled           JobStatus = "CANCELED"
	JobDeletionInProgress JobStatus = "DELETION_IN_PROGRESS"
)

// JobStatuses lists all statuses in the order in which ListJobs shows them (spec §10.0).
func JobStatuses() []JobStatus {
	return []JobStatus{JobInProgress, JobScheduled, JobCompleted, JobCanceled, JobDeletionInProgress}
}

// Selection says whether a job ends with the members it started with.
type Selection string

// The selections.
const (
	Snapshot   Selection = "SNAPSHOT"
	Continuous Selection = "CONTINUOUS"
)

// Phase is the work on a job's executions that a background loop still has to do.
type Phase string

// The phases.
const (
	PhaseNone    Phase = ""
	PhaseRollout Phase = "rollout" // executions are created
	PhaseCancel  Phase = "cancel"  // executions are canceled
	PhaseDelete  Phase = "delete"  // executions are deleted, then the job
	PhaseWindow  Phase = "window"  // devices are told that executions are shown or hidden; a rollout may follow
	PhaseEnd     Phase = "end"     // executions are canceled because the end time has come
)

// Target is one entry of a job's targets: a thing or a group.
type Target struct {
	ARN     string
	ThingID int64 // internal; zero for a group
	GroupID int64 // internal; zero for a thing
}

// Cursor says how far a phase has come. Of a rollout, everything before it has its
// execution; of a window, everything before it has been told.
type Cursor struct {
	Target int       `json:"target"`          // index into the job's targets
	Group  int64     `json:"group,omitempty"` // group of that target's hierarchy being expanded
	After  ThingName `json:"after,omitempty"` // last member of Group that was taken

	Status ExecutionStatus `json:"status,omitempty"` // of a window: the executions being told
	Seq    int64           `json:"seq,omitempty"`    // of a window: the last one that was
}

// PresignedURLConfig is how the presigned URLs of a job's document are made (spec §9.3).
type PresignedURLConfig struct {
	RoleARN      string `json:"roleArn,omitempty"`
	ExpiresInSec int64  `json:"expiresInSec,omitempty"` // 60 to 3,600; 0: 3,600
}

// Job is a job as it is stored, without its document.
type Job struct {
	ID        int64 // internal; JobID can be used again after a deletion, ID never
	JobID     JobID
	Status    JobStatus
	Selection Selection
	Namespace string
	Targets   []Target

	Description   string
	Comment       string
	ReasonCode    string
	ForceCanceled bool

	Config          JobConfig
	Schedule        *Schedule         // nil: at once, without end
	PackageVersions []string          // destinationPackageVersions, echoed
	TemplateARN     string            // "" if none
	Parameters      map[string]string // documentParameters

	CreatedAt   Time
	UpdatedAt   Time
	CompletedAt Time

	Phase   Phase
	DueAt   Time   // when the loop shall look at the job again, zero for never
	Cursor  Cursor // of the phase
	Pace    Pace   // of the rollout
	Members int64  // the last membership that a snapshot covers; later joins are not its business
	Counts  Counts // things by the status of their latest execution of this job
	// Executed counts things by their most recent execution that ended as SUCCEEDED, FAILED,
	// TIMED_OUT or REJECTED, also while a retry waits. Abort criteria look at it (spec §5).
	Executed       Counts
	DocumentSource string // URL that the document was read from, "" if it was given
	Document       string // only where asked for
}

// Concurrent is isConcurrent of spec §2.5.
func (j *Job) Concurrent() bool {
	return j.Phase == PhaseRollout || j.Phase == PhaseCancel || j.Phase == PhaseWindow && j.RollsOut()
}

// RollsOut reports whether executions may be created now.
func (j *Job) RollsOut() bool { return j.Status == JobInProgress && !j.Pace.Over }

// Hidden reports whether the executions of j cannot be seen or started now: it is outside
// of its maintenance windows (spec §8.4).
func (j *Job) Hidden() bool { return j.Windowed() && j.Status == JobScheduled && !j.Pace.Over }

// Windowed reports whether j has maintenance windows.
func (j *Job) Windowed() bool { return j.Schedule != nil && len(j.Schedule.Windows) > 0 }

// Processing returns the ARNs of the targets that are still being rolled out (spec §4.5).
func (j *Job) Processing() []string {
	if j.Phase != PhaseRollout {
		return nil
	}
	var arns []string
	for _, t := range j.Targets[min(j.Cursor.Target, len(j.Targets)):] {
		arns = append(arns, t.ARN)
	}
	return arns
}

// Complete moves a job that has nothing left to do to COMPLETED and reports whether it
// did: a snapshot job that is rolled out, or any job whose end time has come, when all
// executions have ended (spec §2.3).
func (j *Job) Complete(now Time) bool {
	switch {
	case j.Phase != PhaseNone || j.Counts.Pending() > 0:
		return false
	case j.Pace.Over && (j.Status == JobInProgress || j.Status == JobScheduled):
	case j.Status == JobInProgress && j.Selection == Snapshot:
	default:
		return false
	}
	j.Status, j.DueAt = JobCompleted, 0
	j.UpdatedAt, j.CompletedAt = now, now
	return true
}

// Advance brings j in line with its schedule at now: it starts, stops for the time between
// two windows, goes on, or comes to its end (spec §2.2 T4, T5, §2.4). started says that
// the job starts for the first time, so that its members are those of now.
func (j *Job) Advance(now Time) (started bool) {
	s := j.Schedule
	if s == nil || j.Pace.Over || j.Status != JobScheduled && j.Status != JobInProgress {
		return false
	}
	if s.EndAt != 0 && now >= s.EndAt {
		j.end(now)
		return false
	}
	open := now >= s.StartAt
	if j.Windowed() {
		open, _ = s.WindowAt(now)
	}
	switch {
	case open && j.Status == JobScheduled:
		started = j.Pace.Began == 0
		j.Status, j.UpdatedAt = JobInProgress, now
		j.Phase, j.Cursor = PhaseRollout, Cursor{}
		if j.Windowed() && !started {
			j.Phase = PhaseWindow
		}
	case !open && j.Status == JobInProgress:
		j.Status, j.UpdatedAt = JobScheduled, now
		j.Phase, j.Cursor = PhaseWindow, Cursor{}
	}
	return started
}

// end applies the end behaviour (spec §2.4). What goes on after the end is visible, in a
// window or not: there will be none.
func (j *Job) end(now Time) {
	hidden := j.Hidden()
	j.Pace.Over, j.Status, j.UpdatedAt = true, JobInProgress, now
	j.Phase, j.Cursor = PhaseNone, Cursor{Target: len(j.Targets)}
	switch {
	case j.Schedule.EndBehavior == EndCancel, j.Schedule.EndBehavior == ForceCancel:
		j.Phase = PhaseEnd
	case hidden:
		j.Phase, j.Cursor = PhaseWindow, Cursor{}
	}
}

// LookAgain sets when the loop shall look at j next: at work, zero for never, and at the
// next edge of its schedule.
func (j *Job) LookAgain(now, work Time) {
	j.DueAt = work
	if edge := j.edge(now); edge != 0 && (j.DueAt == 0 || edge < j.DueAt) {
		j.DueAt = edge
	}
}

// edge returns when the schedule of j next asks for something after now, zero for never.
func (j *Job) edge(now Time) (next Time) {
	s := j.Schedule
	if s == nil || j.Pace.Over || j.Status != JobScheduled && j.Status != JobInProgress {
		return 0
	}
	earliest := func(t Time) {
		if t > now && (next == 0 || t < next) {
			next = t
		}
	}
	earliest(s.StartAt)
	earliest(s.EndAt)
	if j.Windowed() {
		_, changes := s.WindowAt(now)
		earliest(changes)
	}
	return next
}

// Cancel moves j to CANCELED and starts the phase that cancels its executions: those
// in QUEUED, and with force those IN_PROGRESS, too. It reports whether there is
// anything to do: canceling twice without force changes nothing (spec §10.6).
// InvalidRequest if the job has ended otherwise.
func (j *Job) Cancel(now Time, force bool, reasonCode, comment string) (bool, error) {
	switch j.Status {
	case JobInProgress, JobScheduled:
	case JobCanceled:
		if !force {
			return false, nil
		}
	default:
		return false, Errorf(InvalidRequest, "Job %s cannot be canceled: it is %s", j.JobID, j.Status)
	}
	j.Status = JobCanceled
	j.ForceCanceled = j.ForceCanceled || force
	if reasonCode != "" {
		j.ReasonCode = reasonCode
	}
	if comment != "" {
		j.Comment = comment
	}
	j.Phase, j.DueAt, j.UpdatedAt = PhaseCancel, now, now
	return true, nil
}

// CancelStatuses returns the statuses that a cancellation of j ends (spec §3.5).
func (j *Job) CancelStatuses() []ExecutionStatus {
	if j.ForceCanceled {
		return []ExecutionStatus{Queued, InProgress}
	}
	return []ExecutionStatus{Queued}
}

// EndStatuses returns the statuses that the end behaviour of j cancels (spec §2.4).
func (j *Job) EndStatuses() []ExecutionStatus {
	if j.Schedule.EndBehavior == ForceCancel {
		return []ExecutionStatus{Queued, InProgress}
	}
	return []ExecutionStatus{Queued}
}

// Delete starts the deletion of j. InvalidStateTransition if it is being deleted
// already, or still active and force is false (spec §10.7).
func (j *Job) Delete(now Time, force bool) error {
	switch {
	case j.Status == JobDeletionInProgress:
		return Errorf(InvalidStateTransition, "Job %s is being deleted already", j.JobID)
	case !force && (j.Status == JobInProgress || j.Status == JobScheduled):
		return Errorf(InvalidStateTransition, "Job %s is %s: cancel it first, or delete it with force", j.JobID, j.Status)
	}
	j.Status = JobDeletionInProgress
	j.Phase, j.DueAt, j.UpdatedAt = PhaseDelete, now, now
	return nil
}

// Limits of jobs (spec §15.1).
const (
	MaxTargets   = 100 // per job
	MaxDeletions = 10  // jobs in DELETION_IN_PROGRESS at a time
)

// HasGroup reports whether one of ids is a target of j.
func (j *Job) HasGroup(ids []int64) bool {
	return slices.ContainsFunc(j.Targets, func(t Target) bool { return t.GroupID != 0 && slices.Contains(ids, t.GroupID) })
}

// HasThing reports whether the thing is a target of j by itself.
func (j *Job) HasThing(id int64) bool {
	return slices.ContainsFunc(j.Targets, func(t Target) bool { return t.ThingID == id })
}
