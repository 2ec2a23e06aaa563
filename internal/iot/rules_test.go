package iot

import (
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func mustCron(t testing.TB, form string) Cron {
	t.Helper()
	c, err := ParseCron(form)
	if err != nil {
		t.Fatalf("%s: %v", form, err)
	}
	return c
}

func TestCronNext(t *testing.T) {
	const layout = "2006-01-02 15:04"
	tests := []struct{ form, after, want string }{
		{"cron(0 10 * * ? *)", "2026-11-22 10:00", "2026-11-23 10:00"},
		{"cron(0 10 * * ? *)", "2026-11-22 09:59", "2026-11-22 10:00"},
		{"cron(0 18 ? * MON-FRI *)", "2026-11-20 18:00", "2026-11-23 18:00"}, // Friday to Monday
		{"cron(0 18 ? * 2-6 *)", "2026-11-20 18:00", "2026-11-23 18:00"},
		{"cron(0 8 1 * ? *)", "2026-11-22 00:00", "2026-12-01 08:00"},
		{"cron(0/15 * * * ? *)", "2026-11-22 10:31", "2026-11-22 10:45"},
		{"cron(5,50 23 31 12 ? 2030)", "2026-11-22 10:31", "2030-12-31 23:05"},
		{"cron(0 0 L * ? *)", "2027-02-01 00:00", "2027-02-28 00:00"},
		{"cron(0 0 L 2 ? *)", "2027-03-01 00:00", "2028-02-29 00:00"},
		{"cron(0 0 LW * ? *)", "2026-10-01 00:00", "2026-10-30 00:00"},  // the 31st is a Saturday
		{"cron(0 0 15W * ? *)", "2026-11-01 00:00", "2026-11-16 00:00"}, // the 15th is a Sunday
		{"cron(0 0 1W * ? *)", "2026-07-31 00:00", "2026-08-03 00:00"},  // the 1st is a Saturday
		{"cron(0 0 ? * 3#2 *)", "2026-11-01 00:00", "2026-11-10 00:00"}, // the second Tuesday
		{"cron(0 0 ? * TUE#5 *)", "2026-11-01 00:00", "2026-12-29 00:00"},
		{"cron(0 0 ? * 6L *)", "2026-11-01 00:00", "2026-11-27 00:00"}, // the last Friday
		{"cron(0 0 ? * L *)", "2026-11-22 00:00", "2026-11-28 00:00"},  // Saturday
		{"cron(0 0 ? JAN,jul SUN *)", "2026-11-22 00:00", "2027-01-03 00:00"},
		{"cron(0 0 29 2 ? *)", "2026-11-22 00:00", "2028-02-29 00:00"},
		{"cron(0 0 30 2 ? *)", "2026-11-22 00:00", ""},
		{"cron(0 0 1 1 ? 2020)", "2026-11-22 00:00", ""},
		{"cron(59 23 31 12 ? 2199)", "2026-11-22 00:00", "2199-12-31 23:59"},
	}
	for _, test := range tests {
		after, err := time.Parse(layout, test.after)
		if err != nil {
			t.Fatal(err)
		}
		c := mustCron(t, test.form)
		got := ""
		if next, ok := c.Next(At(after)); ok {
			got = next.Std().Format(layout)
		}
		if got != test.want {
			t.Errorf("%s after %s: %q, want %q", test.form, test.after, got, test.want)
		}
	}
}

func TestCronErrors(t *testing.T) {
	for form, want := range map[string]string{
		"":                            "must have the form",
		"0 10 * * ? *":                "must have the form",
		"cron(0 10 * * ?)":            "has 5 fields",
		"cron(0 10 * * ? * *)":        "has 7 fields",
		"cron(60 10 * * ? *)":         "minutes",
		"cron(0 24 * * ? *)":          "hours",
		"cron(0 0 32 * ? *)":          "day-of-month",
		"cron(0 0 0 * ? *)":           "day-of-month",
		"cron(0 0 * 13 ? *)":          "month",
		"cron(0 0 ? * 8 *)":           "day-of-week",
		"cron(0 0 ? * 0 *)":           "day-of-week",
		"cron(0 0 * * ? 1969)":        "year",
		"cron(0 0 * * ? 2200)":        "year",
		"cron(0 0 * * * *)":           "exactly one",
		"cron(0 0 ? * ? *)":           "exactly one",
		"cron(0 0 ? * 2#1,3#2 *)":     "only one #",
		"cron(0 0 ? * 2#6 *)":         "day-of-week",
		"cron(0 0 32W * ? *)":         "day-of-month",
		"cron(5-1 0 * * ? *)":         "minutes",
		"cron(*/0 0 * * ? *)":         "minutes",
		"cron(1, 0 * * ? *)":          "minutes",
		"cron(-1 0 * * ? *)":          "minutes",
		"cron(99999999999 0 * * ? *)": "minutes",
	} {
		if _, err := ParseCron(form); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", form, err, want)
		}
	}
}

// TestCronProperties: the next firing is after the time asked for, fits all fields, and no
// minute between fits.
func TestCronProperties(t *testing.T) {
	forms := []string{
		"cron(0 10 * * ? *)", "cron(*/7 3,4 * * ? *)", "cron(0 0 ? * MON#1 *)", "cron(30 2 L * ? *)", "cron(0 1 10W * ? *)",
		"cron(15 0/6 ? * SAT,SUN *)", "cron(0 0 1 1/3 ? 2020-2040)", "cron(59 23 ? * 6L *)",
	}
	rapid.Check(t, func(t *rapid.T) {
		c := mustCron(&testing.T{}, rapid.SampledFrom(forms).Draw(t, "form"))
		after := Time(rapid.Int64Range(1_600_000_000_000, 2_100_000_000_000).Draw(t, "after"))
		next, ok := c.Next(after)
		if !ok {
			t.Fatal("never fires")
		}
		if next <= after || next%60_000 != 0 {
			t.Fatalf("%d after %d", next, after)
		}
		// Whoever asks from any moment before next, but not before after, gets next.
		between := after + Time(rapid.Int64Range(0, int64(next-after-1)).Draw(t, "between"))
		if again, _ := c.Next(between); again != next {
			t.Fatalf("from %d: %d, want %d", between, again, next)
		}
		at := next.Std()
		if c.minutes>>at.Minute()&1 == 0 || c.hours>>at.Hour()&1 == 0 || c.months>>at.Month()&1 == 0 || !c.firesOn(at) {
			t.Fatalf("%s does not fit", at)
		}
	})
}

func FuzzCron(f *testing.F) {
	f.Add("cron(0 10 ? * MON#2 *)", int64(0))
	f.Add("cron(0/5 1-3 LW 2 ? 2028)", int64(1_800_000_000_000))
	f.Fuzz(func(t *testing.T, form string, after int64) {
		c, err := ParseCron(form)
		if err != nil {
			return
		}
		at := Time(after % 7_000_000_000_000)
		if next, ok := c.Next(at); ok && next <= at {
			t.Errorf("%q: %d after %d", form, next, at)
		}
	})
}

func FuzzScheduleTime(f *testing.F) {
	f.Add("2026-12-24 23:00")
	f.Add("1766620800.5")
	f.Add("2026-12-24T23:00:00+01:00")
	f.Fuzz(func(t *testing.T, text string) {
		s := Schedule{Start: text}
		if err := s.Check(At(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)), Snapshot); err != nil && ErrorCode(err) != InvalidRequest {
			t.Errorf("%q: %v", text, err)
		}
	})
}

func FuzzFillParameters(f *testing.F) {
	f.Add(`a "quoted" \ text`, "b")
	f.Fuzz(func(t *testing.T, packages, user string) {
		for _, m := range ManagedTemplates() {
			given := map[string]string{"runAsUser": user}
			for _, p := range m.Parameters {
				if !p.Optional {
					given[p.Key] = packages
				}
			}
			doc, err := FillParameters(m.Document, m.Parameters, given)
			if err != nil {
				t.Fatal(err)
			}
			if err := CheckDocument(doc); err != nil && len(doc) <= MaxDocument && !strings.Contains(packages+user, "${aws:iot:") {
				t.Errorf("%s with %q: %v", m.Name, packages, err)
			}
		}
	})
}

func TestScheduleCheck(t *testing.T) {
	now := At(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	window := []Window{{Cron: "cron(0 0 * * ? *)", Minutes: 60}}
	tests := []struct {
		name      string
		s         Schedule
		selection Selection
		want      string
	}{
		{"nothing", Schedule{}, Snapshot, ""},
		{"start", Schedule{Start: "2026-01-01 00:30"}, Snapshot, ""},
		{"start too soon", Schedule{Start: "2026-01-01 00:29"}, Snapshot, "startTime"},
		{"start too late", Schedule{Start: "2027-01-01 00:01"}, Snapshot, "at most 1 year"},
		{"start unreadable", Schedule{Start: "tomorrow"}, Snapshot, "is not a time"},
		{"zone", Schedule{Start: "2026-01-01T01:30:00+01:00"}, Snapshot, ""},
		{"epoch seconds", Schedule{Start: "1767228000"}, Snapshot, ""},
		{"end", Schedule{Start: "2026-01-01 01:00", End: "2026-01-01 01:30"}, Snapshot, ""},
		{"end too near the start", Schedule{Start: "2026-01-01 01:00", End: "2026-01-01 01:20"}, Snapshot, "30 minutes after startTime"},
		{"end too soon", Schedule{End: "2026-01-01 00:20"}, Snapshot, "endTime"},
		{"end too late", Schedule{End: "2028-01-01 00:01"}, Snapshot, "at most 2 years"},
		{"behavior without end", Schedule{EndBehavior: EndCancel}, Snapshot, "endBehavior"},
		{"unknown behavior", Schedule{End: "2026-02-01 00:00", EndBehavior: "STOP"}, Snapshot, "enum value set"},
		{"windows", Schedule{Windows: window}, Continuous, ""},
		{"windows of a snapshot", Schedule{Windows: window}, Snapshot, "CONTINUOUS"},
		{"window too long", Schedule{Windows: []Window{{Cron: "cron(0 0 * * ? *)", Minutes: 1431}}}, Continuous, "durationInMinutes"},
		{"bad cron", Schedule{Windows: []Window{{Cron: "cron(0 0 * * * *)", Minutes: 60}}}, Continuous, "exactly one"},
	}
	for _, test := range tests {
		err := test.s.Check(now, test.selection)
		if (err == nil) != (test.want == "") || err != nil && (!strings.Contains(err.Error(), test.want) || ErrorCode(err) != InvalidRequest) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
	s := Schedule{End: "2026-02-01 00:00"}
	if err := s.Check(now, Snapshot); err != nil || s.EndBehavior != StopRollout {
		t.Errorf("default end behavior: %v %s", err, s.EndBehavior)
	}
}

func TestWindowAt(t *testing.T) {
	day := func(hour, minute int) Time { return At(time.Date(2026, 1, 1, hour, minute, 0, 0, time.UTC)) }
	s := Schedule{Windows: []Window{{Cron: "cron(0 2 * * ? *)", Minutes: 60}, {Cron: "cron(30 2 * * ? *)", Minutes: 60}, {Cron: "cron(0 23 * * ? *)", Minutes: 120}}}
	tests := []struct {
		at      Time
		open    bool
		changes Time
	}{
		{day(0, 59), true, day(1, 0)}, // since 23:00 of the day before
		{day(1, 0), false, day(2, 0)},
		{day(2, 0), true, day(3, 30)}, // two that overlap are one
		{day(3, 29), true, day(3, 30)},
		{day(3, 30), false, day(23, 0)},
		{day(23, 30), true, day(25, 0)},
	}
	for _, test := range tests {
		if open, changes := s.WindowAt(test.at); open != test.open || changes != test.changes {
			t.Errorf("at %s: %v until %s, want %v until %s", test.at.Std(), open, changes.Std(), test.open, test.changes.Std())
		}
	}
	s.StartAt, s.EndAt = day(2, 15), day(2, 45)
	if open, changes := s.WindowAt(day(2, 20)); open || changes != day(2, 30) {
		t.Errorf("a window from before the start counts: %v %s", open, changes.Std())
	}
	if open, changes := s.WindowAt(day(2, 40)); !open || changes != day(2, 45) {
		t.Errorf("the end does not close the window: %v %s", open, changes.Std())
	}
	if got := s.NextWindows(day(0, 0), 7); len(got) != 1 || got[0] != day(2, 30) {
		t.Errorf("windows between start and end: %v", got)
	}
	always := Schedule{Windows: []Window{{Cron: "cron(* * * * ? *)", Minutes: 2}}}
	if open, _ := always.WindowAt(day(5, 5)); !open {
		t.Error("windows that never end are closed")
	}
}

// TestRolloutProperties: in no minute more executions than its rate, and the rate never falls.
func TestRolloutProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &RolloutConfig{MaximumPerMinute: rapid.Int64Range(0, MaxRate).Draw(t, "maximum")}
		if rapid.Bool().Draw(t, "exponential") {
			c.Exponential = &ExponentialRate{
				BasePerMinute: rapid.Int64Range(1, MaxRate).Draw(t, "base"), FactorTenths: rapid.Int64Range(11, 50).Draw(t, "factor"),
				NotifiedThings: rapid.Int64Range(0, 50).Draw(t, "notified"), SucceededThings: rapid.Int64Range(1, 50).Draw(t, "succeeded"),
			}
		}
		if err := c.Check(); err != nil {
			t.Fatal(err)
		}
		j := &Job{Config: JobConfig{Rollout: c}}
		now := Time(1_700_000_000_123)
		began := now
		perMinute := make(map[int64]int64)
		var last int64
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			plan := j.PlanRollout(now, 0)
			if rate := c.rate(j.Pace.Step); rate < last {
				t.Fatalf("the rate falls from %d to %d", last, rate)
			} else {
				last = rate
			}
			n := rapid.Int64Range(0, plan.Create).Draw(t, "create")
			j.Created(n)
			minute := int64(now-began) / 60_000
			if perMinute[minute] += n; perMinute[minute] > last {
				t.Fatalf("%d executions in a minute at a rate of %d", perMinute[minute], last)
			}
			if n == plan.Create && plan.LookAgainAt <= now {
				t.Fatal("nothing is left and the rollout is looked at again at once")
			}
			j.Counts[Succeeded] += rapid.Int64Range(0, n).Draw(t, "succeed")
			now += Time(rapid.Int64Range(0, 90_000).Draw(t, "ms"))
		}
	})
}

// TestS064RateExample is the table of spec §4.2.
func TestS064RateExample(t *testing.T) {
	c := &RolloutConfig{Exponential: &ExponentialRate{BasePerMinute: 50, FactorTenths: 20, NotifiedThings: 1000, SucceededThings: 1000}}
	for _, test := range []struct{ notified, succeeded, want int64 }{
		{0, 0, 50}, {999, 999, 50}, {1000, 0, 100}, {0, 1000, 100}, {1999, 0, 100}, {2000, 0, 200}, {3000, 0, 400}, {9000, 0, 1000}, {math.MaxInt32, 0, 1000},
	} {
		if got := c.rate(c.Exponential.step(test.notified, test.succeeded)); got != test.want {
			t.Errorf("%d notified, %d succeeded: %d a minute, want %d", test.notified, test.succeeded, got, test.want)
		}
	}
	c.MaximumPerMinute = 150
	if got := c.rate(3); got != 150 {
		t.Errorf("with a maximum of 150: %d", got)
	}
}

func TestS078AbortArithmetic(t *testing.T) {
	tests := []struct {
		name                                  string
		c                                     AbortCriterion
		succeeded, failed, rejected, timedOut int64
		want                                  bool
	}{
		{"20 of 100", AbortCriterion{FailureFailed, 2000, 100}, 80, 20, 0, 0, true},
		{"19 of 100", AbortCriterion{FailureFailed, 2000, 100}, 81, 19, 0, 0, false},
		{"99 of 99", AbortCriterion{FailureFailed, 2000, 100}, 0, 99, 0, 0, false},
		{"110 of 1000 at 10.99", AbortCriterion{FailureFailed, 1099, 100}, 890, 110, 0, 0, true},
		{"109 of 1000 at 10.99", AbortCriterion{FailureFailed, 1099, 100}, 891, 109, 0, 0, false},
		{"all kinds", AbortCriterion{FailureAll, 5000, 2}, 1, 0, 1, 0, true},
		{"another kind", AbortCriterion{FailureRejected, 1, 1}, 0, 50, 0, 50, false},
		{"timed out, not armed", AbortCriterion{FailureTimedOut, 5000, 200}, 60, 19, 0, 120, false},
		{"timed out, armed", AbortCriterion{FailureTimedOut, 5000, 200}, 61, 19, 0, 120, true},
	}
	for _, test := range tests {
		j := &Job{Status: JobInProgress, Config: JobConfig{Abort: []AbortCriterion{test.c}}}
		j.Executed[Succeeded], j.Executed[Failed], j.Executed[Rejected], j.Executed[TimedOut] = test.succeeded, test.failed, test.rejected, test.timedOut
		if _, met := j.ShouldAbort(); met != test.want {
			t.Errorf("%s: %v", test.name, met)
		}
		j.Status = JobCanceled
		if _, met := j.ShouldAbort(); met {
			t.Errorf("%s: a canceled job is aborted", test.name)
		}
	}
}

// TestRetryProperties: a thing never gets more retries than its criteria allow.
func TestRetryProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		criteria := rapid.SampledFrom([][]RetryCriterion{
			{{FailureFailed, 3}}, {{FailureTimedOut, 2}}, {{FailureAll, 4}}, {{FailureFailed, 3}, {FailureTimedOut, 7}}, {{FailureAll, 0}},
		}).Draw(t, "criteria")
		if err := CheckRetry(criteria); err != nil {
			t.Fatal(err)
		}
		var allowed int64
		for _, c := range criteria {
			allowed += c.Retries
		}
		j := &Job{Status: JobInProgress, Config: JobConfig{Retry: criteria}}
		e := Execution{Number: 1}
		for range 30 {
			e.Status = rapid.SampledFrom([]ExecutionStatus{Failed, TimedOut, Rejected, Succeeded}).Draw(t, "status")
			if !j.Retry(&e) {
				break
			}
			if e.Status != Failed && e.Status != TimedOut {
				t.Fatalf("%s is tried again", e.Status)
			}
			next := e.Next()
			if next.Number != e.Number+1 || next.RetryAttempt != e.RetryAttempt+1 || next.Status != Queued || next.Before != e.Status {
				t.Fatalf("%+v after %+v", next, e)
			}
			e = next
		}
		if e.RetryAttempt > allowed {
			t.Fatalf("%d retries, %d allowed", e.RetryAttempt, allowed)
		}
	})
}

func TestConfigErrors(t *testing.T) {
	rollout := func(e ExponentialRate) JobConfig { return JobConfig{Rollout: &RolloutConfig{Exponential: &e}} }
	for name, test := range map[string]struct {
		c    JobConfig
		want string
	}{
		"rate":           {JobConfig{Rollout: &RolloutConfig{MaximumPerMinute: 1001}}, "jobExecutionsRolloutConfig.maximumPerMinute"},
		"base":           {rollout(ExponentialRate{0, 20, 1, 1}), "baseRatePerMinute"},
		"factor 1.0":     {rollout(ExponentialRate{1, 10, 1, 1}), "incrementFactor"},
		"factor 5.1":     {rollout(ExponentialRate{1, 51, 1, 1}), "incrementFactor"},
		"no criterion":   {rollout(ExponentialRate{1, 20, 0, 0}), "rateIncreaseCriteria"},
		"notified":       {rollout(ExponentialRate{1, 20, -1, 1}), "numberOfNotifiedThings"},
		"succeeded":      {rollout(ExponentialRate{1, 20, 1, -1}), "numberOfSucceededThings"},
		"abort type":     {JobConfig{Abort: []AbortCriterion{{"SUCCEEDED", 1, 1}}}, "failureType"},
		"abort 0 %":      {JobConfig{Abort: []AbortCriterion{{FailureAll, 0, 1}}}, "thresholdPercentage"},
		"abort 100.01 %": {JobConfig{Abort: []AbortCriterion{{FailureAll, 10001, 1}}}, "thresholdPercentage"},
		"abort of none":  {JobConfig{Abort: []AbortCriterion{{FailureAll, 1, 0}}}, "minNumberOfExecutedThings"},
		"timeout":        {JobConfig{TimeoutMinutes: 10081}, "inProgressTimeoutInMinutes"},
		"retry type":     {JobConfig{Retry: []RetryCriterion{{FailureRejected, 1}}}, "failureType"},
		"11 retries":     {JobConfig{Retry: []RetryCriterion{{FailureAll, 11}}}, "numberOfRetries"},
		"6 and 6":        {JobConfig{Retry: []RetryCriterion{{FailureFailed, 6}, {FailureTimedOut, 6}}}, "sum"},
		"twice":          {JobConfig{Retry: []RetryCriterion{{FailureFailed, 1}, {FailureFailed, 1}}}, "once only"},
		"all and one":    {JobConfig{Retry: []RetryCriterion{{FailureFailed, 1}, {FailureAll, 1}}}, "cannot be combined"},
	} {
		if err := test.c.Check(); ErrorCode(err) != InvalidRequest || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	for _, minutes := range []int64{0, -2, 10081} {
		if err := CheckStepTimeout(minutes); ErrorCode(err) != InvalidRequest {
			t.Errorf("step timeout %d: %v", minutes, err)
		}
	}
	for _, minutes := range []int64{-1, 1, 10080} {
		if err := CheckStepTimeout(minutes); err != nil {
			t.Errorf("step timeout %d: %v", minutes, err)
		}
	}
}

func TestFillParameters(t *testing.T) {
	for _, m := range ManagedTemplates() {
		given := make(map[string]string)
		for _, p := range m.Parameters {
			if !p.Optional {
				given[p.Key] = `x"y\z`
			}
		}
		doc, err := FillParameters(m.Document, m.Parameters, given)
		if err != nil || CheckDocument(doc) != nil || strings.Contains(doc, "${") {
			t.Errorf("%s: %v %s", m.Name, err, doc)
		}
		if len(given) > 0 {
			if _, err := FillParameters(m.Document, m.Parameters, nil); ErrorCode(err) != InvalidRequest {
				t.Errorf("%s without its parameters: %v", m.Name, err)
			}
		}
		given["other"] = "x"
		if _, err := FillParameters(m.Document, m.Parameters, given); ErrorCode(err) != InvalidRequest {
			t.Errorf("%s with a parameter it does not have: %v", m.Name, err)
		}
	}
}
