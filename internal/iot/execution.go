package iot

import (
	"slices"
	"unicode"
	"unicode/utf8"
)

// ExecutionStatus is the state of an execution; its text is AWS's own.
type ExecutionStatus uint8

// The statuses, in the order in which Counts holds them. The numbers are stored: never reorder.
const (
	NoStatus ExecutionStatus = iota
	Queued
	InProgress
	Succeeded
	Failed
	TimedOut
	Rejected
	Removed
	Canceled
	statusCount
)

var statusText = [statusCount]string{"", "QUEUED", "IN_PROGRESS", "SUCCEEDED", "FAILED", "TIMED_OUT", "REJECTED", "REMOVED", "CANCELED"}

func (s ExecutionStatus) String() string {
	if s < statusCount {
		return statusText[s]
	}
	return ""
}

// ParseExecutionStatus returns the status of AWS's text, and NoStatus for any other text.
func ParseExecutionStatus(text string) ExecutionStatus {
	if i := slices.Index(statusText[:], text); i > 0 {
		return ExecutionStatus(i)
	}
	return NoStatus
}

// ExecutionStatuses lists the texts of all statuses.
func ExecutionStatuses() []string { return slices.Clone(statusText[1:]) }

// Pending reports whether an execution in s still waits for its device.
func (s ExecutionStatus) Pending() bool { return s == Queued || s == InProgress }

// Terminal reports whether s is final (spec §3.1).
func (s ExecutionStatus) Terminal() bool { return s > InProgress && s < statusCount }

// SetByDevice reports whether a device may report s.
func (s ExecutionStatus) SetByDevice() bool {
	return s == InProgress || s == Succeeded || s == Failed || s == Rejected
}

// Counts holds one number of executions per status.
type Counts [statusCount]int64

// Executed reports whether s counts as a completed execution for abort criteria (spec §5).
func (s ExecutionStatus) Executed() bool {
	return s == Succeeded || s == Failed || s == TimedOut || s == Rejected
}

// Class is how the thing of e is counted among those that have executed the job.
func (e *Execution) Class() ExecutionStatus {
	if e.Status.Executed() {
		return e.Status
	}
	return e.Before
}

// Pending returns how many have not ended.
func (c *Counts) Pending() int64 { return c[Queued] + c[InProgress] }

// Ended returns how many have ended.
func (c *Counts) Ended() (n int64) {
	for _, of := range c[NoStatus+1:] {
		n += of
	}
	return n - c.Pending()
}

// Add adds d to c, status by status.
func (c *Counts) Add(d Counts) {
	for i := range c {
		c[i] += d[i]
	}
}

// Details is the statusDetails of an execution. A Details is never changed once it is
// part of an execution, only replaced, so that copies of executions can share it.
type Details map[string]string

// AppendKeys appends the keys to list and sorts it all.
func (d Details) AppendKeys(list []string) []string {
	for k := range d {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}

// Limits of statusDetails (spec §1.4).
const (
	maxDetails      = 10
	maxDetailsKey   = 128
	maxDetailsValue = 1024
)

// Check returns an InvalidRequest error that names the pair and the limit it breaks:
// at most 10 pairs, keys of 1 to 128 [a-zA-Z0-9:_-], values of 1 to 1024 characters
// without control characters other than tab, CR and LF (spec A-26).
func (d Details) Check() error {
	if len(d) > maxDetails {
		return Invalid("statusDetails", len(d), "Map must have length less than or equal to 10")
	}
	var keys [maxDetails]string
	for _, k := range d.AppendKeys(keys[:0]) {
		switch {
		case k == "":
			return Invalid("statusDetails", k, "Map keys must satisfy constraint: [Member must have length greater than or equal to 1]")
		case utf8.RuneCountInString(k) > maxDetailsKey:
			return Invalid("statusDetails", k, "Map keys must satisfy constraint: [Member must have length less than or equal to 128]")
		case !nameChars(k, true):
			return Invalid("statusDetails", k, "Map keys must satisfy constraint: [Member must satisfy regular expression pattern: [a-zA-Z0-9:_-]+]")
		}
		v := d[k]
		switch n := utf8.RuneCountInString(v); {
		case n == 0:
			return Invalid("statusDetails."+k, v, "Map value must satisfy constraint: [Member must have length greater than or equal to 1]")
		case n > maxDetailsValue:
			return Invalid("statusDetails."+k, v, "Map value must satisfy constraint: [Member must have length less than or equal to 1024]")
		case !printable(v):
			return Invalid("statusDetails."+k, v, `Map value must satisfy constraint: [Member must satisfy regular expression pattern: [^\p{C}]+]`)
		}
	}
	return nil
}

func printable(s string) bool {
	for _, r := range s {
		if r != '\t' && r != '\r' && r != '\n' && unicode.Is(unicode.C, r) {
			return false
		}
	}
	return true
}

// Execution is one run of one job on one thing.
type Execution struct {
	Seq       int64 // position in the order of creation over all executions; unique
	Job       int64 // internal id of the job
	JobID     JobID
	Namespace string // of the job
	ThingID   int64  // internal id of the thing
	Thing     ThingName

	Number       int64 // among the executions of this job on this thing, from 1
	RetryAttempt int64 // retries before this one; 0 for a first attempt
	Status       ExecutionStatus
	Version      int64 // 1 when queued, +1 on every accepted change (spec A-8)
	Details      Details

	// Of the attempts before this one, for retries and abort: how many retries each
	// criterion has spent (a criterion of ALL counts in both), and how the thing is counted
	// among those that have executed the job, NoStatus if it is not.
	FailedRetries   int64
	TimedOutRetries int64
	Before          ExecutionStatus

	// Windowed says that the job has maintenance windows: the execution may be hidden.
	Windowed bool
	// Deadline and StepDeadline are when the execution times out, zero for never; both only
	// while it is IN_PROGRESS (spec §6).
	Deadline     Time
	StepDeadline Time

	ForceCanceled bool
	QueuedAt      Time
	StartedAt     Time // zero until the device began
	UpdatedAt     Time
}

// ExecutionState is what a device is told when its update does not fit (spec §11.4).
type ExecutionState struct {
	Status  ExecutionStatus
	Details Details
	Version int64
}

// State returns the part of e that a device needs in order to correct itself.
func (e *Execution) State() *ExecutionState {
	return &ExecutionState{Status: e.Status, Details: e.Details, Version: e.Version}
}

// To moves e to status at now. It is the only place where an execution changes its status.
func (e *Execution) To(status ExecutionStatus, now Time) {
	// A device that reports an end without a start has started now (spec A-23).
	if e.StartedAt == 0 && status.SetByDevice() {
		e.StartedAt = now
	}
	if status.Terminal() {
		e.Deadline, e.StepDeadline = 0, 0
	}
	e.Status = status
	e.Version++
	e.UpdatedAt = now
}

// DueAt returns when e times out: the earlier of its two deadlines, zero for never.
func (e *Execution) DueAt() Time {
	if e.Deadline == 0 || e.StepDeadline != 0 && e.StepDeadline < e.Deadline {
		return e.StepDeadline
	}
	return e.Deadline
}

// less orders a pending list: what runs before what waits, then as queued (spec §13.1).
func (e *Execution) less(o *Execution) int {
	if e.Status != o.Status {
		if e.Status == InProgress {
			return -1
		}
		return 1
	}
	if e.QueuedAt != o.QueuedAt {
		return int(max(-1, min(1, e.QueuedAt-o.QueuedAt)))
	}
	return int(max(-1, min(1, e.Seq-o.Seq)))
}
