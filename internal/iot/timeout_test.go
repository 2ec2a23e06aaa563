package iot

import (
	"fmt"
	"testing"
	"time"
)

func TestTimeoutErrors(t *testing.T) {
	for minutes, valid := range map[int64]bool{1: true, 10080: true, -1: false, 10081: false} {
		want := ""
		if !valid {
			want = constraint("timeoutConfig.inProgressTimeoutInMinutes", fmt.Sprint(minutes), "Member must have a value between 1 and 10080")
		}
		checkError(t, fmt.Sprint(minutes), CheckTimeout(minutes), want)
		c := JobConfig{TimeoutMinutes: minutes}
		checkError(t, fmt.Sprint(minutes), c.Check(), want)
	}
	checkError(t, "0", CheckTimeout(0), constraint("timeoutConfig.inProgressTimeoutInMinutes", "0", "Member must have a value between 1 and 10080"))
}

func TestS093StepTimeoutErrors(t *testing.T) {
	for minutes, valid := range map[int64]bool{-1: true, 1: true, 10080: true, 0: false, -2: false, 10081: false} {
		want := ""
		if !valid {
			want = constraint("stepTimeoutInMinutes", fmt.Sprint(minutes), "Member must have a value between 1 and 10080, or be -1")
		}
		r := Request{Op: OpStartNext, Thing: "t", StepTimeout: &minutes}
		checkError(t, fmt.Sprint(minutes), r.Check(), want)
	}
}

// TestS088ToS092StepTimers is the worked example of spec §6.3, and what follows: 20 minutes
// in progress from 12:00.
func TestS088ToS092StepTimers(t *testing.T) {
	noon := At(time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC))
	minute := func(n int64) Time { return noon.Add(time.Duration(n) * time.Minute) }
	q := &Queue{ThingID: 1, Thing: "t"}
	q.Add(Execution{Seq: 1, Job: 1, JobID: "j", Number: 1, Status: Queued, Version: 1, QueuedAt: noon})
	if q.Entries[0].DueAt() != 0 {
		t.Error("S087: one that waits times out")
	}
	if _, c := q.StartNext(noon, &Request{Op: OpStartNext, Thing: "t"}, 20); c == nil || c.Execution.DueAt() != minute(20) || !c.Timer {
		t.Fatalf("the start: %+v", c)
	}
	for _, test := range []struct {
		name    string
		at      int64
		step    int64 // 0: not given
		timeout int64 // of the job by now
		due     int64
	}{
		{"S088: step 7 at +5", 5, 7, 20, 12},
		{"S089: step 5 at +10 replaces it", 10, 5, 20, 15},
		{"S092: an update without a step timeout", 12, 0, 20, 15},
		{"S090: step 9 at +13 is capped", 13, 9, 20, 20},
		{"S097: the timeout of the job is raised", 14, 0, 60, 20},
		{"step 1 at +14", 14, 1, 60, 15},
		{"S091: discarded", 14, -1, 60, 20},
		{"S091: discarded again, which does nothing", 14, -1, 60, 20},
	} {
		r := &Request{Op: OpUpdate, Thing: "t", JobID: "j", Status: InProgress}
		if test.step != 0 {
			r.StepTimeout = &test.step
		}
		c, err := q.Update(minute(test.at), r, test.timeout)
		if err != nil || c == nil || c.Execution.DueAt() != minute(test.due) {
			t.Fatalf("%s: %+v %v, want +%d", test.name, c, err, test.due)
		}
		if left, ok := c.Execution.Remaining(minute(test.at)); !ok || left != (test.due-test.at)*60 {
			t.Errorf("%s: %d s left %v", test.name, left, ok)
		}
	}
}

func TestS095S096Remaining(t *testing.T) {
	for _, test := range []struct {
		name string
		e    Execution
		want int64
		ok   bool
	}{
		{"in-progress timer", Execution{Status: InProgress, Deadline: 61_000}, 60, true},
		{"step timer", Execution{Status: InProgress, StepDeadline: 61_000}, 60, true},
		{"the earlier one, the step timer", Execution{Status: InProgress, Deadline: 61_000, StepDeadline: 31_000}, 30, true},
		{"the earlier one, the in-progress timer", Execution{Status: InProgress, Deadline: 31_000, StepDeadline: 61_000}, 30, true},
		{"rounded down", Execution{Status: InProgress, Deadline: 60_999}, 59, true},
		{"less than a second", Execution{Status: InProgress, Deadline: 1_999}, 0, true},
		{"expired", Execution{Status: InProgress, Deadline: 500}, 0, true},
		{"no timer", Execution{Status: InProgress}, 0, false},
		{"queued", Execution{Status: Queued, Deadline: 61_000}, 0, false},
		{"ended", Execution{Status: TimedOut, Deadline: 61_000}, 0, false},
	} {
		if got, ok := test.e.Remaining(1000); got != test.want || ok != test.ok {
			t.Errorf("%s: %d %v, want %d %v", test.name, got, ok, test.want, test.ok)
		}
	}
	late := Execution{Status: InProgress, Deadline: 61_000}
	if got, ok := late.Remaining(65_000); got != 0 || !ok {
		t.Errorf("seconds after the deadline: %d %v", got, ok)
	}
}
