package faulttest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// fault spoils something; it returns false if there is nothing to spoil. want is what Check has to
// say, in part.
type fault struct {
	name, want string
	plant      func(h *History, s *State) bool
}

// first changes the first that matches.
func first[T any](list []T, matches func(T) bool, change func(*T)) bool {
	i := slices.IndexFunc(list, matches)
	if i < 0 {
		return false
	}
	change(&list[i])
	return true
}

// remove drops the first that matches.
func remove[T any](list *[]T, matches func(T) bool) bool {
	i := slices.IndexFunc(*list, matches)
	if i < 0 {
		return false
	}
	*list = slices.Delete(*list, i, i+1)
	return true
}

func done(op Op) bool { return op.Outcome == Done && !op.Found }

func rowOf(op Op) func(Row) bool {
	return func(r Row) bool { return r.Job == op.Job && r.Thing == op.Thing && r.Version == op.Version }
}

func progress(r Row) bool { return r.Thing != "" && r.Status == "IN_PROGRESS" && r.Step != 0 }

// faults are all ways to go wrong that Check knows.
var faults = []fault{
	{"a lost acknowledgement", "acknowledged and lost: step", func(h *History, s *State) bool {
		i := slices.IndexFunc(h.Ops, done)
		return i >= 0 && remove(&s.Journal, rowOf(h.Ops[i]))
	}},
	{"an acknowledgement of something else", "acknowledged and lost: step", func(h *History, s *State) bool {
		return first(h.Ops, done, func(op *Op) { op.Version += 1000 })
	}},
	{"a lost job", "acknowledged and lost: job", func(h *History, s *State) bool {
		i := slices.IndexFunc(h.Orders, func(o Order) bool { return o.Created == Done })
		return i >= 0 && remove(&s.Jobs, func(j Job) bool { return j.ID == h.Orders[i].Job })
	}},
	{"a lost cancellation", "acknowledged and lost: the cancellation", func(h *History, s *State) bool {
		return first(s.Jobs, func(j Job) bool { return j.Status == "COMPLETED" }, func(j *Job) {
			first(h.Orders, func(o Order) bool { return o.Job == j.ID }, func(o *Order) { o.Canceled, o.Asked = Done, true })
		})
	}},
	{"a step taken twice", "ran twice: step", func(h *History, s *State) bool {
		i := slices.IndexFunc(s.Journal, progress)
		if i < 0 {
			return false
		}
		again := s.Journal[i]
		again.ID, again.Version = -1, again.Version+1000
		s.Journal = append(s.Journal, again)
		return true
	}},
	{"one version for two requests", "ran twice at one version", func(h *History, s *State) bool {
		i := slices.IndexFunc(h.Ops, done)
		if i < 0 {
			return false
		}
		again := h.Ops[i]
		again.Step += 1_000_000
		h.Ops = append(h.Ops, again)
		return true
	}},
	{"a version that goes back", "version went back", func(h *History, s *State) bool {
		i := slices.IndexFunc(h.Ops, done)
		if i < 0 {
			return false
		}
		again := h.Ops[i]
		again.Version--
		again.Step += 1_000_000
		h.Ops = slices.Insert(h.Ops, i+1, again)
		return true
	}},
	{"something refused and done", "done though refused: step", func(h *History, s *State) bool {
		return first(h.Ops, done, func(op *Op) { op.Outcome = Refused })
	}},
	{"something done that nobody asked for", "nobody asked for step", func(h *History, s *State) bool {
		return first(s.Journal, progress, func(r *Row) { r.Step += 1_000_000 })
	}},
	{"a job that was refused", "done though refused: job", func(h *History, s *State) bool {
		return first(h.Orders, func(o Order) bool { return o.Created == Done }, func(o *Order) { o.Created = Refused })
	}},
	{"a job of nobody", "nobody asked for job", func(h *History, s *State) bool {
		return remove(&h.Orders, func(o Order) bool { return o.Created == Done })
	}},
	{"a cancellation of nobody", "nobody asked", func(h *History, s *State) bool {
		i := slices.IndexFunc(s.Jobs, func(j Job) bool { return j.Status == "COMPLETED" })
		return i >= 0 && first(h.Orders, func(o Order) bool { return o.Job == s.Jobs[i].ID && !o.Asked }, func(*Order) { s.Jobs[i].Status = "CANCELED" })
	}},
	{"a missing row", "and", func(h *History, s *State) bool {
		return remove(&s.Journal, func(r Row) bool { return r.Thing != "" && r.Status == "QUEUED" })
	}},
	{"a row twice", "journal: position", func(h *History, s *State) bool {
		i := slices.IndexFunc(s.Journal, progress)
		if i < 0 {
			return false
		}
		s.Journal = append(s.Journal, s.Journal[i])
		return true
	}},
	{"a transition twice", "where", func(h *History, s *State) bool {
		i := slices.IndexFunc(s.Journal, func(r Row) bool { return r.Thing != "" && r.Status == "QUEUED" })
		if i < 0 {
			return false
		}
		again := s.Journal[i]
		again.ID = -1
		s.Journal = append(s.Journal, again)
		return true
	}},
	{"rows in another order", "where", func(h *History, s *State) bool {
		i := slices.IndexFunc(s.Journal, progress)
		if i < 0 {
			return false
		}
		s.Journal[i].ID = -1
		return true
	}},
	{"an execution that the journal does not know", "has no row", func(h *History, s *State) bool {
		if len(s.Executions) == 0 {
			return false
		}
		e := s.Executions[0]
		s.Journal = slices.DeleteFunc(s.Journal, func(r Row) bool { return r.Job == e.Job && r.Thing == e.Thing })
		return true
	}},
	{"an execution that has gone", "which is not there", func(h *History, s *State) bool {
		return remove(&s.Executions, func(Execution) bool { return true })
	}},
	{"an execution that is behind its journal", "its last row says", func(h *History, s *State) bool {
		return first(s.Executions, func(e Execution) bool { return e.Status == "SUCCEEDED" }, func(e *Execution) { e.Status = "FAILED" })
	}},
	{"an execution that goes on after its end", "goes on after", func(h *History, s *State) bool {
		return first(s.Journal, progress, func(r *Row) { r.Status = "SUCCEEDED" })
	}},
	{"an execution twice", "execution twice", func(h *History, s *State) bool {
		if len(s.Executions) == 0 {
			return false
		}
		s.Executions = append(s.Executions, s.Executions[0])
		return true
	}},
	{"an execution with a second turn", "execution twice", func(h *History, s *State) bool {
		if len(s.Executions) == 0 {
			return false
		}
		again := s.Executions[0]
		again.Number++
		s.Executions = append(s.Executions, again)
		return true
	}},
	{"a missing execution", "has no execution of", func(h *History, s *State) bool {
		i := slices.IndexFunc(s.Jobs, func(j Job) bool { return j.Status == "COMPLETED" })
		return i >= 0 && remove(&s.Executions, func(e Execution) bool { return e.Job == s.Jobs[i].ID })
	}},
	{"an execution of somebody else", "is no target", func(h *History, s *State) bool {
		return first(h.Orders, func(o Order) bool { return o.Created == Done && len(o.Things) > 0 && !o.Asked }, func(o *Order) { o.Things = o.Things[1:] })
	}},
	{"a missing event of an execution", "no event", func(h *History, s *State) bool {
		return forget(h, func(e Event) bool { return e.Thing != "" })
	}},
	{"a missing event of a job", "no event", func(h *History, s *State) bool {
		return forget(h, func(e Event) bool { return e.Thing == "" })
	}},
	{"an event of nothing", "event of nothing", func(h *History, s *State) bool {
		h.Events[Event{"none", "nobody", "SUCCEEDED"}]++
		return true
	}},
	{"a job that ended twice", "times", func(h *History, s *State) bool {
		i := slices.IndexFunc(s.Journal, func(r Row) bool { return r.Kind == "job.completed" })
		if i < 0 {
			return false
		}
		again := s.Journal[i]
		again.ID = -1
		s.Journal = append(s.Journal, again)
		return true
	}},
	{"a lost message", "acknowledged and lost: message", func(h *History, s *State) bool {
		for m, acknowledged := range h.Published {
			for _, got := range h.Received {
				if acknowledged {
					delete(got, m)
					return true
				}
			}
		}
		return false
	}},
	{"a message of nobody", "nobody published", func(h *History, s *State) bool {
		for _, got := range h.Received {
			got[Message{"nobody", 1}] = true
			return true
		}
		return false
	}},
	{"a wrong count", "counts of", func(h *History, s *State) bool {
		return first(s.Jobs, func(j Job) bool { return len(j.Counts) > 0 }, func(j *Job) { j.Counts["SUCCEEDED"]++ })
	}},
	{"a job that does not end", "that are not over", func(h *History, s *State) bool {
		return first(s.Jobs, func(j Job) bool { return j.Status == "COMPLETED" }, func(j *Job) { j.Status = "IN_PROGRESS" })
	}},
	{"a stuck queue", "stuck", func(h *History, s *State) bool {
		for thing := range s.Pending {
			s.Pending[thing] = []string{"job"}
			return true
		}
		return false
	}},
	{"a device that was not told the end", "the last that", func(h *History, s *State) bool {
		for thing := range s.Pending {
			h.Told[thing] = []string{"job"}
			return !h.Overtaken
		}
		return false
	}},
}

func forget(h *History, matches func(Event) bool) bool {
	for e := range maps.Keys(h.Events) {
		if matches(e) {
			delete(h.Events, e)
			return true
		}
	}
	return false
}

// Plant spoils copies of a history and a state that are good, in every way there is, and fails the
// test where Check does not find it. What is not there to be spoiled is left out if partly.
func Plant(t testing.TB, h *History, s *State, partly bool) {
	t.Helper()
	for _, f := range faults {
		f.check(t, h.clone(), s.clone(), partly)
	}
}

func (f *fault) check(t testing.TB, h *History, s *State, partly bool) {
	t.Helper()
	if !f.plant(h, s) {
		if !partly {
			t.Errorf("%s: nothing to spoil", f.name)
		}
		return
	}
	if found := strings.Join(Check(h, s), "\n"); !strings.Contains(found, f.want) {
		t.Errorf("%s was not found: %q does not say %q", f.name, shorten(found), f.want)
	}
}

func shorten(s string) string {
	if len(s) > 1000 {
		return fmt.Sprintf("%s… (%d bytes)", s[:1000], len(s))
	}
	return s
}
