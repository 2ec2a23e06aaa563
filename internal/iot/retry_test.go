package iot

import (
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// attempts lets an execution end with one status after another and returns how many
// executions there are at the end.
func attempts(j *Job, ends ...ExecutionStatus) int64 {
	e := Execution{Number: 1}
	for _, e.Status = range ends {
		if !j.Retry(&e) {
			return e.Number
		}
		e = e.Next()
	}
	return e.Number
}

func TestRetry(t *testing.T) {
	failed := func(n int64) []RetryCriterion { return []RetryCriterion{{FailureFailed, n}} }
	timedOut := func(n int64) []RetryCriterion { return []RetryCriterion{{FailureTimedOut, n}} }
	all := func(n int64) []RetryCriterion { return []RetryCriterion{{FailureAll, n}} }
	both := append(failed(1), timedOut(2)...)
	for _, test := range []struct {
		name     string
		criteria []RetryCriterion
		ends     []ExecutionStatus
		want     int64
	}{
		{"S099: a failed one is followed by number 2", failed(2), []ExecutionStatus{Failed}, 2},
		{"S101: the second failure is the last with one retry", failed(1), []ExecutionStatus{Failed, Failed}, 2},
		{"S102: FAILED does not retry what timed out", failed(1), []ExecutionStatus{TimedOut}, 1},
		{"TIMED_OUT does not retry what failed", timedOut(1), []ExecutionStatus{Failed}, 1},
		{"S103: ALL has one number for both", all(2), []ExecutionStatus{Failed, TimedOut, Failed}, 3},
		{"S103: whatever comes first", all(2), []ExecutionStatus{TimedOut, Failed, TimedOut}, 3},
		{"each criterion has its own number", both, []ExecutionStatus{TimedOut, Failed, TimedOut, TimedOut}, 4},
		{"and is not spent by the other", both, []ExecutionStatus{TimedOut, TimedOut, Failed, Failed}, 4},
		{"S104: REJECTED", all(10), []ExecutionStatus{Rejected}, 1},
		{"SUCCEEDED", all(10), []ExecutionStatus{Succeeded}, 1},
		{"CANCELED", all(10), []ExecutionStatus{Canceled}, 1},
		{"REMOVED", all(10), []ExecutionStatus{Removed}, 1},
		{"S109: switched off", all(0), []ExecutionStatus{Failed}, 1},
		{"no criteria", nil, []ExecutionStatus{Failed}, 1},
	} {
		j := &Job{Status: JobInProgress, Config: JobConfig{Retry: test.criteria}}
		if got := attempts(j, test.ends...); got != test.want {
			t.Errorf("%s: %d executions, want %d", test.name, got, test.want)
		}
	}
}

// Jobs that are canceled, aborted, deleted or past their end start no retries (spec §7).
func TestRetryNeedsALivingJob(t *testing.T) {
	e := &Execution{Number: 1, Status: Failed}
	j := &Job{Config: JobConfig{Retry: []RetryCriterion{{FailureFailed, 1}}}}
	for _, j.Status = range JobStatuses() {
		if want := j.Status == JobInProgress || j.Status == JobScheduled; j.Retry(e) != want {
			t.Errorf("%s: %v", j.Status, !want)
		}
	}
	j.Status, j.Pace.Over = JobInProgress, true
	if j.Retry(e) {
		t.Error("a retry after the end time")
	}
}

func TestS100NextExecution(t *testing.T) {
	e := Execution{
		Seq: 7, Job: 1, JobID: "j", Namespace: "n", ThingID: 2, Thing: "t", Windowed: true,
		Number: 3, RetryAttempt: 1, Status: TimedOut, Version: 9, Details: Details{"k": "v"}, FailedRetries: 1, Before: Failed,
		Deadline: 5, StepDeadline: 6, ForceCanceled: true, QueuedAt: 1, StartedAt: 2, UpdatedAt: 3,
	}
	want := Execution{
		Job: 1, JobID: "j", Namespace: "n", ThingID: 2, Thing: "t", Windowed: true,
		Number: 4, RetryAttempt: 2, Status: Queued, Version: 1, FailedRetries: 1, TimedOutRetries: 1, Before: TimedOut,
	}
	if got := e.Next(); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestRetryProperties: a thing never gets more retries than its criteria allow, of each
// kind and together, and all of them if it keeps failing.
func TestRetryProperties(t *testing.T) {
	number := rapid.Int64Range(0, maxRetries)
	rapid.Check(t, func(t *rapid.T) {
		allowed := make(map[FailureType]int64)
		var criteria []RetryCriterion
		for _, kind := range rapid.SampledFrom([][]FailureType{
			{FailureFailed}, {FailureTimedOut}, {FailureAll}, {FailureFailed, FailureTimedOut},
		}).Draw(t, "kinds") {
			allowed[kind] = number.Draw(t, string(kind))
			criteria = append(criteria, RetryCriterion{kind, allowed[kind]})
		}
		valid := allowed[FailureFailed]+allowed[FailureTimedOut]+allowed[FailureAll] <= maxRetries
		if err := CheckRetry(criteria); (err == nil) != valid {
			t.Fatalf("%v: %v", criteria, err)
		}
		j := &Job{Status: JobInProgress, Config: JobConfig{Retry: criteria}}
		e := Execution{Number: 1}
		retried := make(map[ExecutionStatus]int64)
		for {
			e.Status = rapid.SampledFrom([]ExecutionStatus{Failed, TimedOut, Rejected, Succeeded, Failed, TimedOut}).Draw(t, "status")
			left := e.Status == Failed && retried[Failed] < allowed[FailureFailed] ||
				e.Status == TimedOut && retried[TimedOut] < allowed[FailureTimedOut] ||
				(e.Status == Failed || e.Status == TimedOut) && retried[Failed]+retried[TimedOut] < allowed[FailureAll]
			if got := j.Retry(&e); got != left {
				t.Fatalf("%s with %v of %v retried: %v", e.Status, retried, criteria, got)
			}
			if !left {
				break
			}
			retried[e.Status]++
			e = e.Next()
		}
		if n := retried[Failed] + retried[TimedOut]; e.RetryAttempt != n || e.Number != n+1 {
			t.Fatalf("execution %d, attempt %d after %d retries", e.Number, e.RetryAttempt, n)
		}
	})
}

const retryList = "jobExecutionsRetryConfig.criteriaList"

func TestS107RetryErrors(t *testing.T) {
	for _, test := range []struct {
		name     string
		criteria []RetryCriterion
		want     string
	}{
		{"none", nil, ""},
		{"off", []RetryCriterion{{FailureAll, 0}}, ""},
		{"most", []RetryCriterion{{FailureAll, 10}}, ""},
		{"3 and 7", []RetryCriterion{{FailureFailed, 3}, {FailureTimedOut, 7}}, ""},
		{"6 and 6", []RetryCriterion{{FailureFailed, 6}, {FailureTimedOut, 6}}, constraint(retryList, "12", "The numbers of retries must have a sum less than or equal to 10")},
		{"11", []RetryCriterion{{FailureAll, 11}}, constraint(retryList+".1.member.numberOfRetries", "11", "Member must have a value between 0 and 10")},
		{"-1", []RetryCriterion{{FailureFailed, 1}, {FailureTimedOut, -1}}, constraint(retryList+".2.member.numberOfRetries", "-1", "Member must have a value between 0 and 10")},
		{"type", []RetryCriterion{{FailureRejected, 1}}, constraint(retryList+".1.member.failureType", "REJECTED", "Member must satisfy enum value set: [FAILED, TIMED_OUT, ALL]")},
		{"twice", []RetryCriterion{{FailureFailed, 1}, {FailureFailed, 1}}, constraint(retryList+".2.member.failureType", "FAILED", "Member must be given once only")},
		{"ALL and one", []RetryCriterion{{FailureFailed, 1}, {FailureAll, 1}}, constraint(retryList, "ALL", "ALL cannot be combined with another failureType")},
		{"three", []RetryCriterion{{FailureFailed, 1}, {FailureTimedOut, 1}, {FailureAll, 1}}, constraint(retryList, "3", "Member must have length less than or equal to 2")},
	} {
		c := JobConfig{Retry: test.criteria}
		checkError(t, test.name, c.Check(), test.want)
	}
}

func TestS109UpdateRetry(t *testing.T) {
	before := []RetryCriterion{{FailureFailed, 3}, {FailureTimedOut, 2}}
	onlyZero := func(n string) string {
		return constraint(retryList+".1.member.numberOfRetries", n, "The number of retries of a job can only be changed to 0")
	}
	for _, test := range []struct {
		name   string
		update []RetryCriterion
		after  []RetryCriterion
		want   string
	}{
		{"one off", []RetryCriterion{{FailureFailed, 0}}, []RetryCriterion{{FailureFailed, 0}, {FailureTimedOut, 2}}, ""},
		{"the other off", []RetryCriterion{{FailureTimedOut, 0}}, []RetryCriterion{{FailureFailed, 3}, {FailureTimedOut, 0}}, ""},
		{"all off", []RetryCriterion{{FailureAll, 0}}, []RetryCriterion{{FailureFailed, 0}, {FailureTimedOut, 0}}, ""},
		{"more", []RetryCriterion{{FailureFailed, 5}}, before, onlyZero("5")},
		{"fewer", []RetryCriterion{{FailureFailed, 2}}, before, onlyZero("2")},
		{"as before", []RetryCriterion{{FailureFailed, 3}}, before, onlyZero("3")},
		{"of no kind that can be retried", []RetryCriterion{{FailureRejected, 0}}, before, constraint(retryList+".1.member.failureType", "REJECTED", "Member must satisfy enum value set: [FAILED, TIMED_OUT, ALL]")},
	} {
		j := &Job{Status: JobInProgress, Config: JobConfig{Retry: slices.Clone(before)}}
		stored := j.Config.Retry
		checkError(t, test.name, j.UpdateRetry(test.update), test.want)
		if !slices.Equal(j.Config.Retry, test.after) || !slices.Equal(stored, before) {
			t.Errorf("%s: %v, want %v; the criteria from before became %v", test.name, j.Config.Retry, test.after, stored)
		}
	}
	j := &Job{Config: JobConfig{}}
	if err := j.UpdateRetry([]RetryCriterion{{FailureAll, 0}}); err != nil || len(j.Config.Retry) != 0 {
		t.Errorf("a job without retries: %v, %v", err, j.Config.Retry)
	}
}
