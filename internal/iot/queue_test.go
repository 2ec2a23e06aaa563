package iot

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestQueueProperties states what can never happen to a queue, whatever is done to it.
func TestQueueProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := &Queue{ThingID: 1, Thing: "T"}
		var seq int64
		now := Time(1_700_000_000_000)
		namespace := rapid.SampledFrom([]string{"", "", "", "gg"})
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			// Several changes in one millisecond happen.
			now += Time(rapid.IntRange(0, 2).Draw(t, "ms"))
			ns := namespace.Draw(t, "namespace")
			before := map[string][]Execution{"": q.List(""), "gg": q.List("gg")}
			var c *Change
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0, 1:
				seq++
				got := q.Add(Execution{Seq: seq, Job: seq, JobID: JobID(fmt.Sprint("j", seq)), Namespace: ns, Number: 1,
					Status: Queued, Version: 1, QueuedAt: now, UpdatedAt: now})
				c = &got
			case 2:
				_, c = q.StartNext(now, &Request{Op: OpStartNext, Namespace: ns, Details: Details{"a": "b"}}, 0)
			case 3, 4:
				if len(q.Entries) == 0 {
					continue
				}
				e := rapid.SampledFrom(q.Entries).Draw(t, "execution")
				status := rapid.SampledFrom([]ExecutionStatus{InProgress, Succeeded, Failed, Rejected}).Draw(t, "status")
				wrong := e.Version + 1
				r := &Request{Op: OpUpdate, JobID: e.JobID, Namespace: e.Namespace, Status: status, ExpectedVersion: &wrong}
				if _, err := q.Update(now, r, 0); ErrorCode(err) != VersionMismatch {
					t.Fatalf("a wrong version is accepted: %v", err)
				}
				r.ExpectedVersion = &e.Version
				var err error
				if c, err = q.Update(now, r, 0); err != nil {
					t.Fatal(err)
				}
				if c.Execution.Version != e.Version+1 {
					t.Fatalf("version %d after %d", c.Execution.Version, e.Version)
				}
				if c.Execution.StartedAt == 0 {
					t.Fatal("a device has reported and nothing has started")
				}
			case 5:
				if len(q.Entries) == 0 {
					continue
				}
				got := q.Drop(rapid.SampledFrom(q.Entries).Draw(t, "execution").Seq)
				c = &got
			}
			checkQueue(t, q)
			if c != nil {
				checkNotices(t, q, c, before)
			}
		}
	})
}

func checkQueue(t *rapid.T, q *Queue) {
	for _, e := range q.Entries {
		if !e.Status.Pending() {
			t.Fatalf("%s is in the queue", e.Status)
		}
		if (e.Status == InProgress) != (e.StartedAt != 0) {
			t.Fatalf("%s started at %d", e.Status, e.StartedAt)
		}
	}
	for _, ns := range []string{"", "gg"} {
		list := q.List(ns)
		if !slices.IsSortedFunc(list, func(a, b Execution) int { return a.less(&b) }) {
			t.Fatal("the pending list is not in order")
		}
		next := q.Next(ns)
		if (next == nil) != (len(list) == 0) || next != nil && next.Seq != list[0].Seq {
			t.Fatal("the next execution is not the first of the pending list")
		}
		inProgress, queued := q.Pending(ns)
		if len(inProgress)+len(queued) != min(len(list), MaxPending) {
			t.Fatal("the shown part of the pending list is not its head")
		}
	}
}

// checkNotices compares the notices of a change with the lists before and after it.
func checkNotices(t *rapid.T, q *Queue, c *Change, before map[string][]Execution) {
	seqs := func(list []Execution) []int64 {
		var s []int64
		for _, e := range list {
			s = append(s, e.Seq)
		}
		slices.Sort(s)
		return s
	}
	head := func(list []Execution) int64 {
		if len(list) == 0 {
			return 0
		}
		return list[0].Seq
	}
	for ns, was := range before {
		is := q.List(ns)
		listChanged, nextChanged := !slices.Equal(seqs(was), seqs(is)), head(was) != head(is)
		if ns != c.Execution.Namespace {
			if listChanged || nextChanged {
				t.Fatal("a change reached another namespace")
			}
			continue
		}
		if c.List != listChanged {
			t.Fatalf("notify is %v, the set of pending executions changed: %v", c.List, listChanged)
		}
		if c.Next != nextChanged {
			t.Fatalf("notify-next is %v, the first execution changed: %v", c.Next, nextChanged)
		}
		if (c.List || c.Next) && len(c.Queue) != len(is) {
			t.Fatal("the notice does not carry the list after the change")
		}
	}
}

func TestStartNextReturnsWhatIsInProgressUnchanged(t *testing.T) {
	q := &Queue{Thing: "T", ThingID: 1}
	q.Add(Execution{Seq: 1, JobID: "a", Number: 1, Status: Queued, Version: 1, QueuedAt: 10})
	q.Add(Execution{Seq: 2, JobID: "b", Number: 1, Status: Queued, Version: 1, QueuedAt: 20})
	if _, err := q.Update(30, &Request{Op: OpUpdate, JobID: "b", Status: InProgress}, 0); err != nil {
		t.Fatal(err)
	}
	e, change := q.StartNext(40, &Request{Op: OpStartNext, Details: Details{"k": "v"}}, 0)
	if change != nil || e.JobID != "b" || e.Version != 2 || e.Details != nil {
		t.Errorf("got %+v, change %v", e, change)
	}
}

func TestRequestCheck(t *testing.T) {
	tests := []struct {
		name string
		r    Request
		code Code
	}{
		{"update", Request{Op: OpUpdate, Thing: "t:1", JobID: "j", Status: Succeeded}, ""},
		{"update of $next", Request{Op: OpUpdate, Thing: "t", JobID: NextJob, Status: Succeeded}, InvalidRequest},
		{"describe of $next", Request{Op: OpDescribe, Thing: "t", JobID: NextJob}, ""},
		{"no status", Request{Op: OpUpdate, Thing: "t", JobID: "j"}, InvalidRequest},
		{"status of the service", Request{Op: OpUpdate, Thing: "t", JobID: "j", Status: Canceled}, InvalidRequest},
		{"bad thing", Request{Op: OpGetPending, Thing: "a b"}, InvalidRequest},
		{"bad job", Request{Op: OpDescribe, Thing: "t", JobID: "a:b"}, InvalidRequest},
		{"bad namespace", Request{Op: OpGetPending, Thing: "t", Namespace: "a/b"}, InvalidRequest},
		{"bad details", Request{Op: OpUpdate, Thing: "t", JobID: "j", Status: Failed, Details: Details{"a b": "c"}}, InvalidRequest},
	}
	for _, test := range tests {
		if got := ErrorCode(test.r.Check()); got != test.code {
			t.Errorf("%s: %q, want %q", test.name, got, test.code)
		}
	}
}
