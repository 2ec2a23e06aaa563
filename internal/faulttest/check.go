package faulttest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// key is an execution; device is what devices know of it: retries are not part of what is tested.
type key struct {
	job, thing string
	number     int64
}

// Check returns what is wrong, in words; nothing if all is well.
//
//   - What was acknowledged is there: jobs, cancellations, and each step of an execution, in the journal with
//     the version and the status of the answer.
//   - No step was taken twice, no version was reached twice, and what was refused was not done.
//   - The journal has each version of each execution once, from the first to the last, in order, and
//     nothing of others.
//   - What ends a job or an execution was told by at least one event, and nothing else was.
//   - Counts are those of the executions; a job is over if and only if its executions are.
//   - A message that was acknowledged has come to all receivers, and nothing else has.
//   - Devices that are online have nothing left to do, and the last that they were told is that,
//     unless notices may overtake each other.
func Check(h *History, s *State) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := &checker{h: h, s: s, executions: map[key]Execution{}, rows: map[key][]Row{}, jobs: map[string]Job{}}
	c.index()
	c.operations()
	c.journal()
	c.events()
	c.counts()
	c.orders()
	c.queues()
	c.messages()
	slices.Sort(c.wrong)
	return slices.Compact(c.wrong)
}

type checker struct {
	h          *History
	s          *State
	executions map[key]Execution
	rows       map[key][]Row // of an execution, in the order of the journal
	jobs       map[string]Job
	wrong      []string
}

func (c *checker) say(format string, args ...any) {
	c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
}

func (k key) String() string { return fmt.Sprintf("%s on %s, number %d", k.job, k.thing, k.number) }

func (c *checker) index() {
	for _, j := range c.s.Jobs {
		c.jobs[j.ID] = j
	}
	for _, e := range c.s.Executions {
		k := key{e.Job, e.Thing, e.Number}
		if _, ok := c.executions[k]; ok {
			c.say("execution twice: %s", k)
		}
		c.executions[k] = e
	}
	ids := map[int64]bool{}
	for _, r := range slices.SortedFunc(slices.Values(c.s.Journal), func(a, b Row) int { return cmp.Compare(a.ID, b.ID) }) {
		if ids[r.ID] {
			c.say("journal: position %d twice", r.ID)
		}
		ids[r.ID] = true
		if r.Thing != "" {
			k := key{r.Job, r.Thing, r.Number}
			c.rows[k] = append(c.rows[k], r)
		}
	}
}

// byDevice reports whether a status is one that devices report.
func byDevice(status string) bool {
	return status == "IN_PROGRESS" || status == "SUCCEEDED" || status == "FAILED" || status == "REJECTED"
}

func terminal(status string) bool { return status != "QUEUED" && status != "IN_PROGRESS" }

// operations compares what devices were answered with the journal.
func (c *checker) operations() {
	type step struct {
		thing string
		n     int
	}
	taken := map[step][]Row{} // by the devices themselves
	for k, rows := range c.rows {
		for _, r := range rows {
			if byDevice(r.Status) && r.Step != 0 {
				taken[step{k.thing, r.Step}] = append(taken[step{k.thing, r.Step}], r)
			}
		}
	}
	for s, rows := range taken {
		if len(rows) > 1 {
			c.say("ran twice: step %d of %s, as versions %d and %d of %s", s.n, s.thing, rows[0].Version, rows[1].Version, rows[1].Job)
		}
	}
	type version struct {
		job, thing string
		n          int64
	}
	reached := map[version]int{} // by which step
	last := map[version]int64{}  // n = 0: of the execution
	asked := map[step]bool{}
	for _, op := range c.h.Ops {
		asked[step{op.Thing, op.Step}] = true
		rows := taken[step{op.Thing, op.Step}]
		switch op.Outcome {
		case Refused:
			if len(rows) > 0 {
				c.say("done though refused: step %d of %s, version %d of %s", op.Step, op.Thing, rows[0].Version, rows[0].Job)
			}
		case Done:
			if !slices.ContainsFunc(rows, func(r Row) bool { return r.Job == op.Job && r.Version == op.Version && r.Status == op.Status }) {
				c.say("acknowledged and lost: step %d of %s, %s version %d of %s; the journal has %v", op.Step, op.Thing, op.Status, op.Version, op.Job, rows)
			}
			if op.Found {
				continue
			}
			v := version{op.Job, op.Thing, op.Version}
			if other, ok := reached[v]; ok {
				c.say("ran twice at one version: %s on %s reached version %d by steps %d and %d", op.Job, op.Thing, op.Version, other, op.Step)
			}
			reached[v] = op.Step
			v.n = 0
			if op.Version <= last[v] {
				c.say("version went back: %s on %s from %d to %d", op.Job, op.Thing, last[v], op.Version)
			}
			last[v] = op.Version
		}
	}
	for s := range taken {
		if !asked[s] {
			c.say("nobody asked for step %d of %s", s.n, s.thing)
		}
	}
}

// journal compares the journal with the executions.
func (c *checker) journal() {
	for k, e := range c.executions {
		rows := c.rows[k]
		for i, r := range rows {
			if want := int64(i + 1); r.Version != want {
				c.say("journal: %s has a row of version %d where %d comes", k, r.Version, want)
				break
			}
		}
		if e.Version != 0 && int64(len(rows)) != e.Version {
			c.say("journal: %s has version %d, and %d rows", k, e.Version, len(rows))
		}
		if len(rows) == 0 {
			c.say("journal: %s has no row", k)
			continue
		}
		if last := rows[len(rows)-1]; last.Status != e.Status || e.Version != 0 && last.Step != e.Step {
			c.say("journal: %s is %s at step %d, its last row says %s at step %d", k, e.Status, e.Step, last.Status, last.Step)
		}
		for i, r := range rows {
			if terminal(r.Status) && i != len(rows)-1 {
				c.say("journal: %s goes on after %s", k, r.Status)
			}
		}
	}
	for k := range c.rows {
		if _, ok := c.executions[k]; !ok {
			c.say("journal: rows about %s, which is not there", k)
		}
	}
}

// jobEvents are what is told of the kinds of rows about jobs.
var jobEvents = map[string]string{
	"job.cancellation_in_progress": "CANCELLATION_IN_PROGRESS", "job.canceled": "CANCELED", "job.completed": "COMPLETED",
}

// Expected returns the events that a row is told by.
func (r Row) Expected() (e Event, ok bool) {
	if r.Thing == "" {
		status, ok := jobEvents[r.Kind]
		return Event{Job: r.Job, Status: status}, ok
	}
	return Event{r.Job, r.Thing, r.Status}, terminal(r.Status)
}

func (c *checker) events() {
	expected := map[Event]int{}
	for _, r := range c.s.Journal {
		if e, ok := r.Expected(); ok {
			expected[e]++
			if c.h.Events[e] == 0 {
				c.say("no event: %s of %s %s", e.Status, e.Job, e.Thing)
			}
		}
	}
	for e, n := range expected {
		if n > 1 {
			c.say("journal: %s of %s %s %d times", e.Status, e.Job, e.Thing, n)
		}
	}
	for e := range c.h.Events {
		if expected[e] == 0 {
			c.say("event of nothing: %s of %s %s", e.Status, e.Job, e.Thing)
		}
	}
}

func (c *checker) counts() {
	counts, open := map[string]map[string]int{}, map[string]int{}
	for k, e := range c.executions {
		if counts[k.job] == nil {
			counts[k.job] = map[string]int{}
		}
		counts[k.job][e.Status]++
		if !terminal(e.Status) {
			open[k.job]++
		}
		if _, ok := c.jobs[k.job]; !ok {
			c.say("execution without a job: %s", k)
		}
	}
	for id, j := range c.jobs {
		if len(j.Counts)+len(counts[id]) > 0 && !maps.Equal(j.Counts, counts[id]) {
			c.say("counts of %s are %v, its executions %v", id, j.Counts, counts[id])
		}
		if over := j.Status == "COMPLETED" || j.Status == "CANCELED"; over != (open[id] == 0) {
			c.say("%s is %s with %d executions that are not over", id, j.Status, open[id])
		}
	}
}

func (c *checker) orders() {
	things := map[string]map[string]bool{}
	for k := range c.executions {
		if things[k.job] == nil {
			things[k.job] = map[string]bool{}
		}
		things[k.job][k.thing] = true
		if k.number != 1 {
			c.say("execution twice: %s", k)
		}
	}
	ordered := map[string]bool{}
	for _, o := range c.h.Orders {
		ordered[o.Job] = true
		j, there := c.jobs[o.Job]
		switch {
		case !there && o.Created == Done:
			c.say("acknowledged and lost: job %s", o.Job)
		case there && o.Created == Refused:
			c.say("done though refused: job %s", o.Job)
		case there && o.Canceled == Done && j.Status != "CANCELED":
			c.say("acknowledged and lost: the cancellation of %s, which is %s", o.Job, j.Status)
		case there && !o.Asked && j.Status == "CANCELED":
			c.say("%s is canceled, and nobody asked", o.Job)
		}
		if !there {
			continue
		}
		for _, thing := range o.Things {
			if !things[o.Job][thing] && j.Status != "CANCELED" {
				c.say("%s has no execution of %s", thing, o.Job)
			}
			delete(things[o.Job], thing)
		}
		for thing := range things[o.Job] {
			c.say("%s has an execution of %s, and is no target", thing, o.Job)
		}
	}
	for id := range c.jobs {
		if !ordered[id] {
			c.say("nobody asked for job %s", id)
		}
	}
}

func (c *checker) queues() {
	for thing, pending := range c.s.Pending {
		if len(pending) > 0 {
			c.say("stuck: %s has %v to do", thing, pending)
		}
		if told := c.h.Told[thing]; len(told) > 0 && !c.h.Overtaken {
			c.say("the last that %s was told is that it has %v to do", thing, told)
		}
	}
}

func (c *checker) messages() {
	for m, acknowledged := range c.h.Published {
		for id, got := range c.h.Received {
			if acknowledged && !got[m] {
				c.say("acknowledged and lost: message %d of %s, which has not come to %s", m.N, m.From, id)
			}
		}
	}
	for id, got := range c.h.Received {
		for m := range got {
			if _, ok := c.h.Published[m]; !ok {
				c.say("nobody published message %d of %s, which %s got", m.N, m.From, id)
			}
		}
	}
}
