package faulttest

import (
	"fmt"
	"testing"
)

// good is a history in which all is well: three devices with two jobs, one of which was canceled.
func good() (*History, *State) {
	h, s := NewHistory(), &State{Pending: map[string][]string{}}
	var position int64
	row := func(r Row) {
		position++
		r.ID = position
		s.Journal = append(s.Journal, r)
		if e, ok := r.Expected(); ok {
			h.Heard(e)
		}
	}
	var things []string
	for i := range 3 {
		things = append(things, fmt.Sprint("thing", i))
	}
	for _, job := range []string{"a", "b"} {
		order := h.Order(Order{Job: job, Things: things})
		row(Row{Kind: "job.created", Job: job})
		order(func(o *Order) { o.Created = Done })
		status, steps := "SUCCEEDED", 3
		if job == "b" {
			order(func(o *Order) { o.Canceled, o.Asked = Done, true })
			status, steps = "CANCELED", 0
			row(Row{Kind: "job.cancellation_in_progress", Job: job})
		}
		for _, thing := range things {
			e := Execution{Job: job, Thing: thing, Number: 1, Status: "QUEUED", Version: 1}
			add := func() {
				row(Row{Kind: "execution.changed", Job: job, Thing: thing, Number: 1, Status: e.Status, Version: e.Version, Step: e.Step})
			}
			add()
			for n := range steps {
				e.Step, e.Version, e.Status = n+1, e.Version+1, "IN_PROGRESS"
				if n == steps-1 {
					e.Status = status
				}
				op := Op{Thing: thing, Job: job, Step: e.Step, Status: e.Status}
				answered := h.Ask(op)
				add()
				op.Outcome, op.Version = Done, e.Version
				answered(op)
			}
			if !terminal(e.Status) {
				e.Status, e.Version = status, e.Version+1
				add()
			}
			s.Executions = append(s.Executions, e)
			h.Notice(thing, nil)
			s.Pending[thing] = nil
		}
		end := map[string]string{"SUCCEEDED": "COMPLETED", "CANCELED": "CANCELED"}[status]
		row(Row{Kind: map[string]string{"COMPLETED": "job.completed", "CANCELED": "job.canceled"}[end], Job: job})
		s.Jobs = append(s.Jobs, Job{ID: job, Status: end, Counts: map[string]int{status: len(things)}})
	}
	h.Receiver("watcher")
	for i, thing := range things {
		m := Message{thing, i}
		acknowledged := h.Publish(m)
		h.Receive("watcher", m)
		acknowledged()
	}
	return h, s
}

func TestCheckFindsNothingWhereNothingIs(t *testing.T) {
	t.Parallel()
	h, s := good()
	// What was not answered may be done or not, and what was refused is not.
	h.Ask(Op{Thing: "thing0", Step: 77, Status: "IN_PROGRESS"})
	h.Ask(Op{Thing: "thing1", Job: "b", Step: 78, Status: "IN_PROGRESS", Outcome: Refused})
	h.Publish(Message{"thing0", 9})
	h.Order(Order{Job: "never"})
	h.Order(Order{Job: "refused", Created: Refused})
	// A start-next that finds what was begun says so as often as it is asked.
	h.Ask(Op{Thing: "thing0", Job: "a", Step: 1, Status: "IN_PROGRESS", Outcome: Done, Version: 2, Found: true})
	h.Heard(Event{"a", "thing0", "SUCCEEDED"}) // at least once
	for _, wrong := range Check(h, s) {
		t.Error(wrong)
	}
}

func TestCheckFindsWhatWasPlanted(t *testing.T) {
	t.Parallel()
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			h, s := good()
			f.check(t, h, s, false)
		})
	}
}

// A checker that finds nothing is found out.
func TestPlantBites(t *testing.T) {
	t.Parallel()
	silent := &counting{TB: t}
	h, s := good()
	s.Jobs, s.Executions, s.Journal = nil, nil, nil
	Plant(silent, NewHistory(), s, false)
	if silent.errors == 0 || len(Check(h, s)) == 0 {
		t.Error("nothing to spoil, and nobody said so")
	}
}

type counting struct {
	testing.TB
	errors int
}

func (c *counting) Errorf(string, ...any) { c.errors++ }
