package iot

import (
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

// ended makes the counts of things by how they have executed a job.
func ended(succeeded, failed, rejected, timedOut int64) (c Counts) {
	c[Succeeded], c[Failed], c[Rejected], c[TimedOut] = succeeded, failed, rejected, timedOut
	return c
}

func TestS078AbortArithmetic(t *testing.T) {
	failed := AbortCriterion{FailureFailed, 20_00, 100}
	tests := []struct {
		name     string
		criteria []AbortCriterion
		executed Counts
		want     int // the criterion that is met; -1 for none
	}{
		{"S075: 20 of 100", []AbortCriterion{failed}, ended(80, 20, 0, 0), 0},
		{"S076: 19 of 100", []AbortCriterion{failed}, ended(81, 19, 0, 0), -1},
		{"S077: 99 of 99", []AbortCriterion{failed}, ended(0, 99, 0, 0), -1},
		{"S078: 110 of 1000 at 10.99", []AbortCriterion{{FailureFailed, 10_99, 100}}, ended(890, 110, 0, 0), 0},
		{"S078: 109 of 1000 at 10.99", []AbortCriterion{{FailureFailed, 10_99, 100}}, ended(891, 109, 0, 0), -1},
		{"S080: one REJECTED and one SUCCEEDED at 50 % of all kinds", []AbortCriterion{{FailureAll, 50_00, 2}}, ended(1, 0, 1, 0), 0},
		{"every kind counts for ALL", []AbortCriterion{{FailureAll, 100_00, 3}}, ended(0, 1, 1, 1), 0},
		{"S081: nothing was REJECTED", []AbortCriterion{{FailureRejected, 1, 1}}, ended(0, 50, 0, 50), -1},
		{"the first of two", []AbortCriterion{failed, {FailureAll, 1, 1}}, ended(80, 20, 0, 0), 0},
		{"S084: the second of two", []AbortCriterion{failed, {FailureAll, 1, 1}}, ended(81, 19, 0, 0), 1},
		{"§5: neither is armed and met", []AbortCriterion{failed, {FailureTimedOut, 50_00, 200}}, ended(60, 19, 0, 120), -1},
		{"§5: both are armed, the second is met", []AbortCriterion{failed, {FailureTimedOut, 50_00, 200}}, ended(61, 19, 0, 120), 1},
		{"§5: half of 200 is at least 50 %", []AbortCriterion{{FailureTimedOut, 50_00, 200}}, ended(100, 0, 0, 100), 0},
		{"§5: less than half is not", []AbortCriterion{{FailureTimedOut, 50_00, 200}}, ended(101, 0, 0, 99), -1},
		{"nothing has ended", []AbortCriterion{{FailureAll, 1, 1}}, Counts{}, -1},
		{"CANCELED and REMOVED count for nothing", []AbortCriterion{{FailureAll, 1, 1}}, Counts{Canceled: 5, Removed: 5, Queued: 5, InProgress: 5}, -1},
		{"no criteria", nil, ended(0, 100, 100, 100), -1},
	}
	for _, test := range tests {
		j := &Job{Config: JobConfig{Abort: test.criteria}, Executed: test.executed}
		for _, j.Status = range JobStatuses() {
			want := test.want >= 0 && (j.Status == JobInProgress || j.Status == JobScheduled)
			got, met := j.ShouldAbort()
			if met != want {
				t.Errorf("%s, %s: %v", test.name, j.Status, met)
			}
			if met && got != test.criteria[test.want] {
				t.Errorf("%s: %+v", test.name, got)
			}
		}
	}
}

// TestAbortProperties compares the decision with fractions: F/E is at least the threshold.
func TestAbortProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := AbortCriterion{
			Failure:             rapid.SampledFrom([]FailureType{FailureFailed, FailureRejected, FailureTimedOut, FailureAll}).Draw(t, "failure"),
			ThresholdHundredths: rapid.Int64Range(1, 100_00).Draw(t, "threshold"),
			MinExecuted:         rapid.Int64Range(1, 1000).Draw(t, "minimum"),
		}
		if err := CheckAbort([]AbortCriterion{c}); err != nil {
			t.Fatal(err)
		}
		j := &Job{Status: JobInProgress, Config: JobConfig{Abort: []AbortCriterion{c}}}
		for s := Queued; s < statusCount; s++ {
			j.Executed[s] = rapid.OneOf(rapid.Int64Range(0, 10), rapid.Int64Range(0, 10_000_000)).Draw(t, s.String())
		}
		kinds := map[FailureType][]ExecutionStatus{
			FailureFailed: {Failed}, FailureRejected: {Rejected}, FailureTimedOut: {TimedOut}, FailureAll: {Failed, Rejected, TimedOut},
		}
		var failures int64
		for _, s := range kinds[c.Failure] {
			failures += j.Executed[s]
		}
		all := j.Executed[Succeeded] + j.Executed[Failed] + j.Executed[Rejected] + j.Executed[TimedOut]
		want := all >= c.MinExecuted && big.NewRat(failures, all).Cmp(big.NewRat(c.ThresholdHundredths, 100_00)) >= 0
		if _, met := j.ShouldAbort(); met != want {
			t.Fatalf("%+v of %v: %v, want %v", c, j.Executed, met, want)
		}
	})
}

func TestS083AbortComment(t *testing.T) {
	c := AbortCriterion{FailureAll, 10_99, 100}
	const want = "Canceled by abort criteria: 30 of 130 executed things are ALL; the threshold is 10.99% of at least 100."
	if got := c.Comment(ended(100, 10, 15, 5)); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	c.Failure, c.ThresholdHundredths = FailureTimedOut, 20_00
	if got, want := c.Comment(ended(75, 10, 15, 25)), "Canceled by abort criteria: 25 of 125 executed things are TIMED_OUT; the threshold is 20% of at least 100."; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestAbortErrors(t *testing.T) {
	const (
		second    = "abortConfig.criteriaList.2.member."
		threshold = "Member must have a value greater than 0 and at most 100, with at most two decimals"
	)
	for _, test := range []struct {
		name string
		c    AbortCriterion
		want string
	}{
		{"least", AbortCriterion{FailureRejected, 1, 1}, ""},
		{"most", AbortCriterion{FailureTimedOut, 100_00, 1 << 31}, ""},
		{"type", AbortCriterion{"SUCCEEDED", 1, 1}, constraint(second+"failureType", "SUCCEEDED", "Member must satisfy enum value set: [FAILED, REJECTED, TIMED_OUT, ALL]")},
		{"0 %", AbortCriterion{FailureAll, 0, 1}, constraint(second+"thresholdPercentage", "0", threshold)},
		{"100.01 %", AbortCriterion{FailureAll, 100_01, 1}, constraint(second+"thresholdPercentage", "100.01", threshold)},
		{"of none", AbortCriterion{FailureAll, 1, 0}, constraint(second+"minNumberOfExecutedThings", "0", "Member must have value greater than or equal to 1")},
	} {
		c := JobConfig{Abort: []AbortCriterion{{FailureFailed, 20_00, 100}, test.c}}
		checkError(t, test.name, c.Check(), test.want)
	}
}
