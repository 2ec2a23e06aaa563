package iot

import "slices"

// Op is what a device asks for (spec §11.1).
type Op uint8

// The operations of the device plane.
const (
	OpGetPending Op = iota + 1
	OpStartNext
	OpDescribe
	OpUpdate
)

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
	WantDocument    bool // includeJobDocument; implied by OpStartNext
	WantState       bool // includeJobExecutionState

	Actor string // who asks, for the journal
}

// Answer is what a device gets. Executions are copies.
type Answer struct {
	Execution  *Execution      // start-next, describe; nil: nothing pending
	Document   string          // JSON text of the job document, if asked for
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
	return r.Details.Check()
}

// MaxPending is how many executions a device is shown at a time, in a list of the pending
// or in a notice (spec §11.5, §13.2).
const MaxPending = 10

// Queue is the pending executions of one thing, in the order of their creation.
type Queue struct {
	ThingID int64
	Thing   ThingName
	Entries []Execution
}

// List returns the pending executions of a namespace as a device sees them: those in
// progress first, each in the order queued (spec §13.1).
func (q *Queue) List(namespace string) []Execution {
	var list []Execution
	for i := range q.Entries {
		if q.Entries[i].Namespace == namespace {
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
		if e.Namespace == namespace && (next == nil || e.less(next) < 0) {
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

// Pending splits the first MaxPending of the pending list by status (spec §11.5).
func (q *Queue) Pending(namespace string) (inProgress, queued []Execution) {
	list := q.List(namespace)
	list = list[:min(len(list), MaxPending)]
	n := slices.IndexFunc(list, func(e Execution) bool { return e.Status != InProgress })
	if n < 0 {
		n = len(list)
	}
	return list[:n], list[n:]
}

// Change is what an accepted change did to one execution of a queue, and which notices
// it causes (spec §13.2, §13.3).
type Change struct {
	Execution  Execution       // as it is now
	From       ExecutionStatus // as it was; NoStatus for a new one
	List       bool            // the set of pending executions changed: notify
	Next       bool            // another execution is first: notify-next
	Queue      []Execution     // the namespace's pending list after the change, if List or Next
	Reposition bool            // status changed, not only progress
}

// change applies f to q, f returning the execution it changed and its former status, and
// finds out which notices follow.
func (q *Queue) change(namespace string, f func() (Execution, ExecutionStatus)) Change {
	before := q.Next(namespace).identity()
	e, from := f()
	c := Change{Execution: e, From: from, Reposition: e.Status != from}
	c.List = from.Pending() != e.Status.Pending()
	c.Next = c.Reposition && before != q.Next(namespace).identity()
	if c.List || c.Next {
		c.Queue = q.List(namespace)
	}
	return c
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
	return q.change(e.Namespace, func() (Execution, ExecutionStatus) {
		e.Thing, e.ThingID = q.Thing, q.ThingID
		q.Entries = append(q.Entries, e)
		return e, NoStatus
	})
}

// Move takes the pending execution seq to status, with new details unless they are nil.
// A terminal status takes it out of the queue. It panics if seq is not in the queue.
func (q *Queue) Move(now Time, seq int64, status ExecutionStatus, details Details, force bool) Change {
	e := q.BySeq(seq)
	if e == nil {
		panic("iot: Move of an execution that is not pending")
	}
	return q.change(e.Namespace, func() (Execution, ExecutionStatus) {
		from := e.Status
		e.To(status, now)
		e.ForceCanceled = e.ForceCanceled || force
		if details != nil {
			e.Details = details
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
	c := q.change(e.Namespace, func() (Execution, ExecutionStatus) {
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

// StartNext begins the head of the pending list (spec §11.6). The Change is nil when
// nothing changes: nothing is pending, or the head is in progress already and is
// returned as it is.
func (q *Queue) StartNext(now Time, r *Request) (*Execution, *Change) {
	next := q.Next(r.Namespace)
	if next == nil || next.Status == InProgress {
		return clone(next), nil
	}
	c := q.Move(now, next.Seq, InProgress, r.Details, false)
	return clone(&c.Execution), &c
}

// Update carries out a device's report on a pending execution (spec §11.8). A nil Change
// without an error says that no pending execution fits the request: the answer is the
// caller's, from the execution's history (Refuse), or ResourceNotFound.
func (q *Queue) Update(now Time, r *Request) (*Change, error) {
	e := q.Find(r.JobID, r.Number)
	if e == nil || e.Namespace != r.Namespace {
		return nil, nil
	}
	if err := e.expect(r.ExpectedVersion); err != nil {
		return nil, err
	}
	c := q.Move(now, e.Seq, r.Status, r.Details, false)
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
