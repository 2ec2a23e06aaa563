package iot

import (
	"slices"
	"time"
)

// Op is what a device asks for (spec §11.1).
type Op uint8

// The operations of the device plane.
const (
	OpGetPending Op = iota + 1
	OpStartNext
	OpDescribe
	OpUpdate
)

var opText = [...]string{"Unknown", "GetPendingJobExecutions", "StartNextPendingJobExecution", "DescribeJobExecution", "UpdateJobExecution"}

// Ops lists the operations.
func Ops() []Op { return []Op{OpGetPending, OpStartNext, OpDescribe, OpUpdate} }

// String returns AWS's name of the operation.
func (o Op) String() string {
	if int(o) < len(opText) {
		return opText[o]
	}
	return opText[0]
}

// Request is a device's request about its own queue, whichever way it came.
type Request struct {
	Op        Op
	Thing     ThingName
	Namespace string
	JobID     JobID // of OpDescribe and OpUpdate; NextJob for the head of the queue

	Number          int64 // executionNumber; 0 = latest
	Status          ExecutionStatus
	Details         Details // nil = unchanged
	ExpectedVersion *int64
	StepTimeout     *int64 // minutes; -1 discards the step timer; nil: as it is
	WantDocument    bool   // includeJobDocument; implied by OpStartNext
	WantState       bool   // includeJobExecutionState

	Actor string // who asks, for the journal
}

// Answer is what a device gets. Executions are copies.
type Answer struct {
	Execution  *Execution      // start-next, describe; nil: nothing pending
	Document   Delivery        // of the job, if asked for
	State      *ExecutionState // update, if asked for
	InProgress []Execution     // get-pending
	Queued     []Execution     // get-pending
}

// Check returns an InvalidRequest error for a request that no state could satisfy.
func (r *Request) Check() error {
	if !r.Thing.Valid() {
		return Invalid("thingName", r.Thing, "Member must satisfy regular expression pattern: [a-zA-Z0-9:_-]+ and have a length of 1 to 128")
	}
	if !ValidNamespace(r.Namespace) {
		return Invalid("namespaceId", r.Namespace, "Member must satisfy regular expression pattern: [a-zA-Z0-9_-]+")
	}
	switch r.Op {
	case OpDescribe, OpUpdate:
		if !r.JobID.Valid() && !(r.JobID == NextJob && r.Op == OpDescribe) {
			return Invalid("jobId", r.JobID, "Member must satisfy regular expression pattern: [a-zA-Z0-9_-]+ and have a length of 1 to 64")
		}
	}
	if r.Op == OpUpdate && !r.Status.SetByDevice() {
		if r.Status == NoStatus {
			return Invalid("status", nil, "Member must not be null")
		}
		return Invalid("status", r.Status, "Member must satisfy enum value set: [IN_PROGRESS, SUCCEEDED, FAILED, REJECTED]")
	}
	if r.StepTimeout != nil {
		if err := CheckStepTimeout(*r.StepTimeout); err != nil {
			return err
		}
	}
	return r.Details.Check()
}

// MaxPending is how many executions a device is shown at a time, in a list of the pending
// or in a notice; MaxPendingWindowed is how many if jobs with maintenance windows are among
// them (spec §11.5, §13.2).
const (
	MaxPending         = 10
	MaxPendingWindowed = 15
)

// Visible returns the head of a pending list that a device is shown.
func Visible(list []Execution) []Execution {
	head := list[:min(len(list), MaxPendingWindowed)]
	if !slices.ContainsFunc(head, func(e Execution) bool { return e.Windowed }) {
		head = head[:min(len(head), MaxPending)]
	}
	return head
}

// Queue is the pending executions of one thing, in the order of their creation.
type Queue struct {
	ThingID int64
	Thing   ThingName
	Entries []Execution
	// Hidden holds the jobs outside of their maintenance windows (internal ids): their
	// executions are not in the pending list and cannot be started (spec §8.4).
	Hidden map[int64]bool
}

func (q *Queue) lists(e *Execution, namespace string) bool {
	return e.Namespace == namespace && !q.Hidden[e.Job]
}

// List returns the pending executions of a namespace as a device sees them: those in
// progress first, each in the order queued (spec §13.1).
func (q *Queue) List(namespace string) []Execution {
	var list []Execution
	for i := range q.Entries {
		if q.lists(&q.Entries[i], namespace) {
			if list == nil {
				list = make([]Execution, 0, len(q.Entries)-i)
			}
			list = append(list, q.Entries[i])
		}
	}
	slices.SortFunc(list, func(a, b Execution) int { return a.less(&b) })
	return list
}

// Next returns the head of the pending list, nil if nothing is pending.
func (q *Queue) Next(namespace string) *Execution {
	var next *Execution
	for i := range q.Entries {
		e := &q.Entries[i]
		if q.lists(e, namespace) && (next == nil || e.less(next) < 0) {
			next = e
		}
	}
	return next
}

// Find returns the pending execution of the job, nil if there is none or if number is
// not zero and another.
func (q *Queue) Find(job JobID, number int64) *Execution {
	for i := range q.Entries {
		if e := &q.Entries[i]; e.JobID == job && (number == 0 || e.Number == number) {
			return e
		}
	}
	return nil
}

// BySeq returns the pending execution with that sequence number, nil if there is none.
func (q *Queue) BySeq(seq int64) *Execution {
	for i := range q.Entries {
		if q.Entries[i].Seq == seq {
			return &q.Entries[i]
		}
	}
	return nil
}

// Pending splits what a device is shown of the pending list by status (spec §11.5).
func (q *Queue) Pending(namespace string) (inProgress, queued []Execution) {
	list := Visible(q.List(namespace))
	n := slices.IndexFunc(list, func(e Execution) bool { return e.Status != InProgress })
	if n < 0 {
		n = len(list)
	}
	return list[:n], list[n:]
}

// Change is what an accepted change did to one execution of a queue, and which notices
// it causes (spec §13.2, §13.3).
type Change struct {
	Execution Execution       // as it is now
	From      ExecutionStatus // as it was; NoStatus for a new one
	Timer     bool            // it times out at another time than before
	List      bool            // the set of pending executions changed: notify
	Next      bool            // another execution is first: notify-next
	Queue     []Execution     // the namespace's pending list after the change, if List or Next

	head int64 // identity of the first execution before the change
}

// Reposition reports whether the status changed, and not only the progress.
func (c *Change) Reposition() bool { return c.Execution.Status != c.From }

// Progress reports whether the execution has another version than before: a timer alone
// makes none.
func (c *Change) Progress(version int64) bool { return c.Execution.Version != version }

// change applies f to q, f returning the execution it changed and its former status, and
// finds out which notices follow.
func (q *Queue) change(e *Execution, f func() (Execution, ExecutionStatus)) Change {
	namespace, hidden, due := e.Namespace, q.Hidden[e.Job], e.DueAt()
	c := Change{head: q.Next(namespace).identity()}
	c.Execution, c.From = f()
	c.Timer = c.Execution.DueAt() != due
	c.List = !hidden && c.From.Pending() != c.Execution.Status.Pending()
	q.tell(&c, namespace)
	return c
}

// tell completes c with what the device has to be told after it.
func (q *Queue) tell(c *Change, namespace string) {
	c.Next = c.Reposition() && c.head != q.Next(namespace).identity()
	if c.List || c.Next {
		c.Queue = q.List(namespace)
	}
}

// identity tells executions apart for notify-next; the order of creation is as good as
// (jobId, executionNumber).
func (e *Execution) identity() int64 {
	if e == nil {
		return 0
	}
	return e.Seq
}

// Add queues a new execution.
func (q *Queue) Add(e Execution) Change {
	return q.change(&e, func() (Execution, ExecutionStatus) { return q.add(e), NoStatus })
}

func (q *Queue) add(e Execution) Execution {
	e.Thing, e.ThingID = q.Thing, q.ThingID
	q.Entries = append(q.Entries, e)
	return e
}

// Retry queues the retry of the execution that c ended, before anybody has been told of c:
// the device hears of both at once, as the notices of c (spec §13.4). The Change that it
// returns causes none.
func (q *Queue) Retry(c *Change, e Execution) Change {
	e = q.add(e)
	q.tell(c, e.Namespace)
	return Change{Execution: e}
}

// Move takes the pending execution seq to status, with new details unless they are nil.
// A terminal status takes it out of the queue. It panics if seq is not in the queue.
func (q *Queue) Move(now Time, seq int64, status ExecutionStatus, details Details, force bool) Change {
	return q.move(now, seq, status, details, force, nil)
}

// timers sets the timers of an execution that is in progress.
type timers func(*Execution)

func (q *Queue) move(now Time, seq int64, status ExecutionStatus, details Details, force bool, set timers) Change {
	e := q.BySeq(seq)
	if e == nil {
		panic("iot: Move of an execution that is not pending")
	}
	return q.change(e, func() (Execution, ExecutionStatus) {
		from := e.Status
		e.To(status, now)
		e.ForceCanceled = e.ForceCanceled || force
		if details != nil {
			e.Details = details
		}
		if set != nil && status == InProgress {
			set(e)
		}
		moved := *e
		if status.Terminal() {
			q.remove(seq)
		}
		return moved, from
	})
}

// Drop deletes the pending execution seq. It panics if seq is not in the queue.
func (q *Queue) Drop(seq int64) Change {
	e := q.BySeq(seq)
	if e == nil {
		panic("iot: Drop of an execution that is not pending")
	}
	dropped := *e
	c := q.change(e, func() (Execution, ExecutionStatus) {
		q.remove(seq)
		gone := dropped
		gone.Status = NoStatus
		return gone, dropped.Status
	})
	c.Execution = dropped
	return c
}

func (q *Queue) remove(seq int64) {
	// A new slice: former states of the queue may be on their way to devices.
	q.Entries = slices.DeleteFunc(slices.Clone(q.Entries), func(e Execution) bool { return e.Seq == seq })
}

// timers returns what a request does to the timers of an execution at now: entering
// IN_PROGRESS starts the in-progress timer of timeout minutes, 0 for none (spec §6.1); a
// step timeout replaces or discards the step timer (spec §6.2).
func (r *Request) timers(now Time, starts bool, timeout int64) timers {
	return func(e *Execution) {
		if starts && timeout > 0 {
			e.Deadline = now.Add(time.Duration(timeout) * time.Minute)
		}
		switch {
		case r.StepTimeout == nil:
		case *r.StepTimeout < 0:
			e.StepDeadline = 0
		default:
			e.StepDeadline = now.Add(time.Duration(*r.StepTimeout) * time.Minute)
		}
	}
}

// StartNext begins the head of the pending list (spec §11.6). timeout is how many minutes
// an execution of its job may be in progress, 0 for ever. The Change is nil when nothing
// changes: nothing is pending, or the head is in progress already and is returned as it is.
func (q *Queue) StartNext(now Time, r *Request, timeout int64) (*Execution, *Change) {
	next := q.Next(r.Namespace)
	switch {
	case next == nil:
		return nil, nil
	case next.Status == InProgress && r.StepTimeout == nil:
		return clone(next), nil
	case next.Status == InProgress:
		// Nothing but the step timer (spec A-27).
		c := q.change(next, func() (Execution, ExecutionStatus) {
			r.timers(now, false, 0)(next)
			return *next, InProgress
		})
		return clone(&c.Execution), &c
	}
	c := q.move(now, next.Seq, InProgress, r.Details, false, r.timers(now, true, timeout))
	return clone(&c.Execution), &c
}

// Update carries out a device's report on a pending execution (spec §11.8). timeout is as
// for StartNext. A nil Change without an error says that no pending execution fits the
// request: the answer is the caller's, from the execution's history (RefuseUpdate), or
// ResourceNotFound.
func (q *Queue) Update(now Time, r *Request, timeout int64) (*Change, error) {
	e := q.Find(r.JobID, r.Number)
	if e == nil || e.Namespace != r.Namespace {
		return nil, nil
	}
	if err := e.expect(r.ExpectedVersion); err != nil {
		return nil, err
	}
	if e.Status == Queued && q.Hidden[e.Job] {
		err := Errorf(InvalidStateTransition, "Job %s is outside of its maintenance windows: the execution cannot be started now", e.JobID)
		err.State = e.State()
		return nil, err
	}
	c := q.move(now, e.Seq, r.Status, r.Details, false, r.timers(now, e.Status == Queued, timeout))
	return &c, nil
}

// expect checks the version a caller has in mind (spec §3.3).
func (e *Execution) expect(version *int64) error {
	if version == nil || *version == e.Version {
		return nil
	}
	err := Errorf(VersionMismatch, "Expected version %d but the execution has version %d", *version, e.Version)
	err.State = e.State()
	return err
}

// RefuseUpdate says why a device cannot update an execution that has ended: the version
// is looked at before the state (spec A-13).
func (e *Execution) RefuseUpdate(r *Request) error {
	if err := e.expect(r.ExpectedVersion); err != nil {
		return err
	}
	err := Errorf(InvalidStateTransition, "Execution %d of job %s has ended as %s and cannot become %s", e.Number, e.JobID, e.Status, r.Status)
	err.State = e.State()
	return err
}

// CheckCancel says whether CancelJobExecution may cancel e (spec §10.12).
func (e *Execution) CheckCancel(force bool, expectedVersion *int64) error {
	if err := e.expect(expectedVersion); err != nil {
		return err
	}
	switch {
	case e.Status.Terminal():
		return Errorf(InvalidStateTransition, "Execution %d of job %s on thing %s has ended as %s", e.Number, e.JobID, e.Thing, e.Status)
	case e.Status == InProgress && !force:
		return Errorf(InvalidStateTransition, "Execution %d of job %s on thing %s is IN_PROGRESS: cancel it with force", e.Number, e.JobID, e.Thing)
	}
	return nil
}

// CheckDelete says whether DeleteJobExecution may delete e (spec §10.13).
func (e *Execution) CheckDelete(force bool) error {
	if e.Status == InProgress && !force {
		return Errorf(InvalidStateTransition, "Execution %d of job %s on thing %s is IN_PROGRESS: delete it with force", e.Number, e.JobID, e.Thing)
	}
	return nil
}

func clone(e *Execution) *Execution {
	if e == nil {
		return nil
	}
	c := *e
	return &c
}
