package sqlstore

import (
	"encoding/binary"
	"errors"
	"fmt"

	"drover/internal/iot"
)

// The encoding of a queue:
//
//	queue     = version count entry…
//	entry     = seq job number retry exec-version queued started updated status job-id namespace details timers? retries?
//	details   = count (key value)…, by key
//	timers    = deadline step-deadline
//	retries   = failed-retries timed-out-retries before
//	text      = length bytes
//
// Numbers are unsigned varints, shortest form; status and before are one byte, status
// with flags: timers and retries are there if their flag is set, and are not all zero. The
// thing is not in it: it is the row's key. A journal row's execution is version and
// entry, with thing and text of the thing's name before the entry.

const (
	encodingVersion = 1
	minEntry        = 12 // bytes; bounds what a count can make us allocate

	statusMask   = 0x0f
	windowedFlag = 0x10
	retriesFlag  = 0x20
	timersFlag   = 0x40
	forceFlag    = 0x80
)

var errCorrupt = errors.New("corrupt encoding")

// appendQueue appends the encoding of the entries. It fails for an entry that a queue
// cannot hold.
func appendQueue(b []byte, entries []iot.Execution) ([]byte, error) {
	b = append(b, encodingVersion)
	b = binary.AppendUvarint(b, uint64(len(entries)))
	for i := range entries {
		e := &entries[i]
		if !e.Status.Pending() || e.Version < 1 || e.Number < 1 || e.Seq < 1 || e.Job < 1 {
			return b, fmt.Errorf("sqlstore: not a pending execution: %+v", *e)
		}
		var err error
		if b, err = appendExecution(b, e, e.JobID); err != nil {
			return b, err
		}
	}
	return b, nil
}

// decodeQueue decodes the entries of the thing's queue, which share body. It accepts
// exactly what appendQueue makes.
func decodeQueue(body string, id int64, thing iot.ThingName) ([]iot.Execution, error) {
	d := decoder{s: body}
	d.version()
	n := d.count(minEntry)
	entries := make([]iot.Execution, 0, n)
	for range n {
		e := iot.Execution{ThingID: id, Thing: thing}
		d.execution(&e)
		if d.bad || !e.Status.Pending() || e.Version < 1 || e.Number < 1 || e.Seq < 1 || e.Job < 1 {
			return nil, errCorrupt
		}
		entries = append(entries, e)
	}
	if !d.done() {
		return nil, errCorrupt
	}
	return entries, nil
}

// appendRecord appends the encoding of a record's execution. The job's name is not in
// it: the row has it.
func appendRecord(b []byte, e *iot.Execution) ([]byte, error) {
	b = append(b, encodingVersion)
	if e.ThingID < 0 {
		return b, negative(e)
	}
	b = binary.AppendUvarint(b, uint64(e.ThingID))
	b = appendText(b, string(e.Thing))
	return appendExecution(b, e, "")
}

// decodeRecord is the inverse of appendRecord.
func decodeRecord(body string, job iot.JobID) (*iot.Execution, error) {
	d := decoder{s: body}
	d.version()
	var e iot.Execution
	e.ThingID = d.number()
	e.Thing = iot.ThingName(d.text())
	d.execution(&e)
	if !d.done() || e.JobID != "" {
		return nil, errCorrupt
	}
	e.JobID = job
	return &e, nil
}

func appendExecution(b []byte, e *iot.Execution, job iot.JobID) ([]byte, error) {
	for _, v := range [...]int64{e.Seq, e.Job, e.Number, e.RetryAttempt, e.Version, int64(e.QueuedAt), int64(e.StartedAt), int64(e.UpdatedAt)} {
		if v < 0 {
			return b, negative(e)
		}
		b = binary.AppendUvarint(b, uint64(v))
	}
	timers := e.Deadline != 0 || e.StepDeadline != 0
	retries := e.FailedRetries != 0 || e.TimedOutRetries != 0 || e.Before != iot.NoStatus
	status := byte(e.Status)
	for _, f := range [...]struct {
		set  bool
		flag byte
	}{{e.ForceCanceled, forceFlag}, {timers, timersFlag}, {retries, retriesFlag}, {e.Windowed, windowedFlag}} {
		if f.set {
			status |= f.flag
		}
	}
	b = append(b, status)
	b = appendText(b, string(job))
	b = appendText(b, e.Namespace)
	b = appendDetails(b, e.Details)
	if timers {
		if e.Deadline < 0 || e.StepDeadline < 0 {
			return b, negative(e)
		}
		b = binary.AppendUvarint(b, uint64(e.Deadline))
		b = binary.AppendUvarint(b, uint64(e.StepDeadline))
	}
	if retries {
		if e.FailedRetries < 0 || e.TimedOutRetries < 0 {
			return b, negative(e)
		}
		b = binary.AppendUvarint(b, uint64(e.FailedRetries))
		b = binary.AppendUvarint(b, uint64(e.TimedOutRetries))
		b = append(b, byte(e.Before))
	}
	return b, nil
}

func negative(e *iot.Execution) error {
	return fmt.Errorf("sqlstore: negative number in execution %+v", *e)
}

// appendDetails appends the encoding of details, which are also encoded by themselves in
// a row of executions. No details at all are one byte.
func appendDetails(b []byte, details iot.Details) []byte {
	b = binary.AppendUvarint(b, uint64(len(details)))
	if len(details) == 0 {
		return b
	}
	var keys [10]string // on the stack
	for _, k := range details.AppendKeys(keys[:0]) {
		b = appendText(b, k)
		b = appendText(b, details[k])
	}
	return b
}

func decodeDetails(body string) (iot.Details, error) {
	if body == "" {
		return nil, nil
	}
	d := decoder{s: body}
	details := d.details()
	if !d.done() {
		return nil, errCorrupt
	}
	return details, nil
}

func appendText(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// decoder reads s from the front. After an error it is bad, and everything reads as zero.
type decoder struct {
	s   string
	bad bool
}

func (d *decoder) done() bool { return !d.bad && d.s == "" }

func (d *decoder) fail() {
	d.s, d.bad = "", true
}

func (d *decoder) byte() byte {
	if d.s == "" {
		d.fail()
		return 0
	}
	v := d.s[0]
	d.s = d.s[1:]
	return v
}

func (d *decoder) version() {
	if d.byte() != encodingVersion {
		d.fail()
	}
}

// number reads a number of at most 63 bits in its shortest form.
func (d *decoder) number() int64 {
	var v uint64
	for i := range min(len(d.s), 9) {
		c := d.s[i]
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			if c == 0 && i > 0 {
				break
			}
			d.s = d.s[i+1:]
			return int64(v)
		}
	}
	d.fail()
	return 0
}

// count reads how many items follow that take at least size bytes each.
func (d *decoder) count(size int) int {
	n := d.number()
	if n > int64(len(d.s)/size) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) text() string {
	n := d.count(1)
	v := d.s[:n]
	d.s = d.s[n:]
	return v
}

func (d *decoder) execution(e *iot.Execution) {
	e.Seq, e.Job, e.Number, e.RetryAttempt, e.Version = d.number(), d.number(), d.number(), d.number(), d.number()
	e.QueuedAt, e.StartedAt, e.UpdatedAt = iot.Time(d.number()), iot.Time(d.number()), iot.Time(d.number())
	flags := d.byte()
	e.Status = d.known(flags & statusMask)
	e.ForceCanceled, e.Windowed = flags&forceFlag != 0, flags&windowedFlag != 0
	e.JobID, e.Namespace = iot.JobID(d.text()), d.text()
	e.Details = d.details()
	if flags&timersFlag != 0 {
		e.Deadline, e.StepDeadline = iot.Time(d.number()), iot.Time(d.number())
		if e.Deadline == 0 && e.StepDeadline == 0 {
			d.fail()
		}
	}
	if flags&retriesFlag != 0 {
		e.FailedRetries, e.TimedOutRetries, e.Before = d.number(), d.number(), d.known(d.byte())
		if e.FailedRetries == 0 && e.TimedOutRetries == 0 && e.Before == iot.NoStatus {
			d.fail()
		}
	}
}

// known returns the status of the number.
func (d *decoder) known(number byte) iot.ExecutionStatus {
	s := iot.ExecutionStatus(number)
	if s != iot.NoStatus && s.String() == "" {
		d.fail()
	}
	return s
}

// details reads details; none are nil.
func (d *decoder) details() iot.Details {
	n := d.count(2)
	if n == 0 {
		return nil
	}
	details := make(iot.Details, n)
	last := ""
	for i := range n {
		k, v := d.text(), d.text()
		if i > 0 && k <= last {
			d.fail()
		}
		last = k
		details[k] = v
	}
	return details
}
