package iot

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"
)

// JobStatus is the state of a job in AWS's own words.
type JobStatus string

// The statuses that exist until schedules do.
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

// The phases. A job is concurrent (isConcurrent) in the first two.
const (
	PhaseNone    Phase = ""
	PhaseRollout Phase = "rollout" // executions are created
	PhaseCancel  Phase = "cancel"  // executions are canceled
	PhaseDelete  Phase = "delete"  // executions are deleted, then the job
)

// Target is one entry of a job's targets: a thing or a group.
type Target struct {
	ARN     string
	ThingID int64 // internal; zero for a group
	GroupID int64 // internal; zero for a thing
}

// Cursor says how far a rollout has come: everything before it has its execution.
type Cursor struct {
	Target int       `json:"target"`          // index into the job's targets
	Group  int64     `json:"group,omitempty"` // group of that target's hierarchy being expanded
	After  ThingName `json:"after,omitempty"` // last member of Group that was taken
}

// PresignedURLConfig is kept and echoed.
type PresignedURLConfig struct {
	RoleARN      string `json:"roleArn,omitempty"`
	ExpiresInSec int64  `json:"expiresInSec,omitempty"`
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
	DueAt   Time   // when the loop shall look at the job again; of use only in a phase
	Cursor  Cursor // of the rollout
	Pace    Pace   // of the rollout
	Members int64  // the last membership that a snapshot covers; later joins are not its business
	Counts  Counts // things by the status of their latest execution of this job
	// Executed counts things by their most recent execution that ended as SUCCEEDED, FAILED,
	// TIMED_OUT or REJECTED, also while a retry waits. Abort criteria look at it (spec §5).
	Executed Counts
	Document string // only where asked for
}

// Concurrent is isConcurrent of spec §2.5.
func (j *Job) Concurrent() bool { return j.Phase == PhaseRollout || j.Phase == PhaseCancel }

// RolledOut reports whether every target has been reached.
func (j *Job) RolledOut() bool { return j.Phase != PhaseRollout }

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

// Complete moves a snapshot job that has nothing left to do to COMPLETED and reports
// whether it did (spec §2.3).
func (j *Job) Complete(now Time) bool {
	if j.Status != JobInProgress || j.Selection != Snapshot || !j.RolledOut() || j.Counts.Pending() > 0 {
		return false
	}
	j.Status = JobCompleted
	j.UpdatedAt, j.CompletedAt = now, now
	return true
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
	MaxDocument  = 32768 // bytes
	MaxTargets   = 100   // per job
	MaxDeletions = 10    // jobs in DELETION_IN_PROGRESS at a time
)

// CheckDocument returns an InvalidRequest error unless doc is a JSON object in UTF-8 of
// at most 32,768 bytes, without placeholders, which need parts of the service that
// drover does not have yet.
func CheckDocument(doc string) error {
	switch {
	case len(doc) > MaxDocument:
		return Errorf(InvalidRequest, "The job document has %d bytes; the limit is %d", len(doc), MaxDocument)
	case !utf8.ValidString(doc):
		return Errorf(InvalidRequest, "The job document is not valid UTF-8")
	case !json.Valid([]byte(doc)):
		return Errorf(InvalidRequest, "The job document is not valid JSON")
	case bytes.TrimLeft([]byte(doc), " \t\r\n")[0] != '{':
		return Errorf(InvalidRequest, "The job document must be a JSON object")
	}
	if i := strings.Index(doc, "${aws:iot:"); i >= 0 {
		return Errorf(InvalidRequest, "The job document holds the placeholder %q; drover does not substitute placeholders yet", shorten(doc[i:min(len(doc), i+60)]))
	}
	return nil
}

// HasGroup reports whether one of ids is a target of j.
func (j *Job) HasGroup(ids []int64) bool {
	return slices.ContainsFunc(j.Targets, func(t Target) bool { return t.GroupID != 0 && slices.Contains(ids, t.GroupID) })
}

// HasThing reports whether the thing is a target of j by itself.
func (j *Job) HasThing(id int64) bool {
	return slices.ContainsFunc(j.Targets, func(t Target) bool { return t.ThingID == id })
}
