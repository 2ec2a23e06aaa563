package sqlstore_test

import (
	"fmt"
	"testing"

	"drover/internal/iot"
	"drover/internal/store"
)

const (
	timeout     = 60 // minutes, of the executions in the benchmarks of timers
	stepTimeout = 5
)

// operateTimed is operate for executions with a timeout, the progress of which replaces the
// step timer and so changes when they are due.
func (f *fleet) operateTimed(op operation, things []*iot.Thing) {
	f.b.Helper()
	names := make([]iot.ThingName, len(things))
	for i, t := range things {
		names[i] = t.Name
	}
	step := int64(stepTimeout)
	f.update(func(tx store.Tx) error {
		queues, err := tx.Queues(names)
		if err != nil {
			return err
		}
		w := &work{deltas: make(map[int64]*iot.Counts)}
		for i := range queues {
			r := &iot.Request{JobID: queues[i].Next("").JobID, Status: op.status, Details: op.details}
			if op.status == iot.InProgress && op.details != nil {
				r.StepTimeout = &step
			}
			c, err := queues[i].Update(start+1, r, timeout)
			if err != nil {
				return err
			}
			w.apply(*c, "thing:"+string(names[i]))
			if c.Timer && !c.Reposition() {
				w.updates = append(w.updates, c.Execution)
			}
		}
		return w.save(tx, queues)
	})
}

// BenchmarkTimers is BenchmarkHotPath/mixed where every execution has a timeout, and its
// progress a step timer.
func BenchmarkTimers(b *testing.B) {
	f := newFleet(b, *fleetSize)
	cycle(b, f.shuffled(), f.fill, f.operateTimed, nil)
}

// BenchmarkDue looks for what is due, and when something will be, while executions are in
// progress of which none is: it costs the same however many there are, with timeouts or
// without.
func BenchmarkDue(b *testing.B) {
	for _, c := range []struct {
		name    string
		size    int
		operate func(f *fleet, op operation, things []*iot.Thing)
	}{
		{"timed", 1000, (*fleet).operateTimed},
		{"timed", *fleetSize, (*fleet).operateTimed},
		{"untimed", *fleetSize, (*fleet).operate},
	} {
		b.Run(fmt.Sprintf("%s=%d", c.name, c.size), func(b *testing.B) {
			f := newFleet(b, c.size)
			f.fill()
			for from := 0; from < c.size; from += 2000 {
				c.operate(f, startNext, f.things[from:min(from+2000, c.size)])
			}
			b.ReportAllocs()
			for b.Loop() {
				f.must(f.db.View(b.Context(), func(r store.Reader) error {
					due, err := r.DueExecutions(start+1, 1000)
					if err == nil && len(due) > 0 {
						b.Fatalf("%d executions are due", len(due))
					}
					if err == nil {
						_, err = r.NextDueExecution()
					}
					return err
				}))
			}
		})
	}
}

// BenchmarkTimeouts takes executions whose time is up to their end, in chunks of 1,000.
func BenchmarkTimeouts(b *testing.B) {
	const chunk = 1000
	f := newFleet(b, max(chunk, *fleetSize))
	var now iot.Time
	b.ReportAllocs()
	ended := 0
	for b.Loop() {
		var due []iot.Execution
		f.must(f.db.View(b.Context(), func(r store.Reader) (err error) {
			due, err = r.DueExecutions(now, chunk)
			return err
		}))
		if len(due) == 0 {
			b.StopTimer()
			f.fill()
			for from := 0; from < len(f.things); from += 2000 {
				f.operateTimed(startNext, f.things[from:min(from+2000, len(f.things))])
			}
			now = start + 1 + timeout*60_000
			b.StartTimer()
			continue
		}
		ids := make([]int64, len(due))
		for i := range due {
			ids[i] = due[i].ThingID
		}
		f.update(func(tx store.Tx) error {
			queues, err := tx.QueuesByID(ids)
			if err != nil {
				return err
			}
			w := &work{deltas: make(map[int64]*iot.Counts)}
			for i := range due {
				w.apply(queues[i].Move(now, due[i].Seq, iot.TimedOut, nil, false), "drover")
			}
			return w.save(tx, queues)
		})
		ended += len(due)
	}
	b.ReportMetric(float64(ended)/b.Elapsed().Seconds(), "executions/s")
}
