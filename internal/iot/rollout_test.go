package iot

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// rollOut creates what the plan of a minute allows and returns how much that is.
func rollOut(j *Job, now Time) int64 {
	n := j.PlanRollout(now, 0).Create
	j.Created(n)
	return n
}

func TestS061RateBoundsEveryMinute(t *testing.T) {
	const begin = Time(1_700_000_000_123)
	j := &Job{Config: JobConfig{Rollout: &RolloutConfig{MaximumPerMinute: 10}}}
	tests := []struct {
		name            string
		at              Time // since the beginning
		create, planned int64
		again           Time
	}{
		{"the whole minute is open", 0, 4, 10, 60_000},
		{"what is left of it", 30_000, 6, 6, 60_000},
		{"nothing is left", 59_999, 0, 0, 60_000},
		{"the next one", 60_000, 3, 10, 120_000},
		{"what was not used is not made up for", 300_001, 10, 10, 360_000},
		{"nothing is left again", 300_002, 0, 0, 360_000},
		{"a clock that is set back opens no minute twice", 10_000, 0, 0, 70_000},
		{"nothing is left once more", 69_999, 0, 0, 70_000},
		{"and it goes on from there", 70_000, 3, 10, 130_000},
	}
	for _, test := range tests {
		plan := j.PlanRollout(begin+test.at, 0)
		if plan.Create != test.planned || plan.LookAgainAt != begin+test.again {
			t.Errorf("%s: %d, look again at +%d, want %d at +%d", test.name, plan.Create, plan.LookAgainAt-begin, test.planned, test.again)
		}
		j.Created(test.create)
	}
	if j.Pace.Notified != 26 {
		t.Errorf("%+v", j.Pace)
	}
}

func TestRolloutWithoutConfigHasNoLimit(t *testing.T) {
	j := &Job{}
	plan := j.PlanRollout(5, 0)
	if plan.Create != math.MaxInt64 || plan.LookAgainAt != 5 || j.Pace.Began != 5 || j.Rate() != 0 {
		t.Errorf("%+v %+v %d", plan, j.Pace, j.Rate())
	}
}

// TestS063Example is the worked example of spec §4.2: 50 → 100 → 200 → 400.
func TestS063Example(t *testing.T) {
	j := &Job{Config: JobConfig{Rollout: &RolloutConfig{
		MaximumPerMinute: 1000, Exponential: &ExponentialRate{BasePerMinute: 50, FactorTenths: 20, NotifiedThings: 1000, SucceededThings: 1000},
	}}}
	now := Time(1_700_000_000_000)
	minutes := make(map[int64]int) // how many minutes each rate took
	for j.Pace.Notified < 4000 {
		rate := rollOut(j, now)
		if rate != j.Rate() {
			t.Fatalf("%d created at a rate of %d", rate, j.Rate())
		}
		minutes[rate]++
		now += 60_000
	}
	for rate, want := range map[int64]int{50: 20, 100: 10, 200: 5, 400: 3} {
		if minutes[rate] != want {
			t.Errorf("%d a minute for %d minutes, want %d", rate, minutes[rate], want)
		}
	}
	if len(minutes) != 4 {
		t.Errorf("rates: %v", minutes)
	}
}

// TestS064RateExample is the table of spec §4.2.
func TestS064RateExample(t *testing.T) {
	c := &RolloutConfig{Exponential: &ExponentialRate{BasePerMinute: 50, FactorTenths: 20, NotifiedThings: 1000, SucceededThings: 1000}}
	for _, test := range []struct{ notified, succeeded, want int64 }{
		{0, 0, 50}, {999, 999, 50}, {1000, 0, 100}, {0, 1000, 100}, {1999, 0, 100}, {2000, 0, 200}, {2000, 3000, 400},
		{3000, 0, 400}, {9000, 0, 1000}, {math.MaxInt32, 0, 1000},
	} {
		if got := c.rate(c.Exponential.step(test.notified, test.succeeded)); got != test.want {
			t.Errorf("%d notified, %d succeeded: %d a minute, want %d", test.notified, test.succeeded, got, test.want)
		}
	}
}

func TestS065MaximumBoundsTheExponentialRate(t *testing.T) {
	c := &RolloutConfig{MaximumPerMinute: 150, Exponential: &ExponentialRate{BasePerMinute: 50, FactorTenths: 20, NotifiedThings: 1000}}
	for step, want := range []int64{50, 100, 150, 150} {
		if got := c.rate(int64(step)); got != want {
			t.Errorf("step %d: %d, want %d", step, got, want)
		}
	}
}

func TestS066RateGrowsBySuccessOnly(t *testing.T) {
	c := &RolloutConfig{Exponential: &ExponentialRate{BasePerMinute: 20, FactorTenths: 15, SucceededThings: 100}}
	for _, test := range []struct{ notified, succeeded, want int64 }{{5000, 99, 20}, {5000, 100, 30}, {5000, 299, 45}, {5000, 300, 67}} {
		if got := c.rate(c.Exponential.step(test.notified, test.succeeded)); got != test.want {
			t.Errorf("%d succeeded: %d, want %d", test.succeeded, got, test.want)
		}
	}
}

func TestRateNeverFalls(t *testing.T) {
	j := &Job{Config: JobConfig{Rollout: &RolloutConfig{Exponential: &ExponentialRate{BasePerMinute: 10, FactorTenths: 20, SucceededThings: 5}}}}
	now := Time(1_700_000_000_000)
	for _, test := range []struct{ succeeded, want int64 }{{0, 10}, {5, 20}, {10, 40}, {4, 40}, {0, 40}, {14, 40}, {15, 80}} {
		j.Counts[Succeeded] = test.succeeded // executions that have succeeded may be deleted
		if got := rollOut(j, now); got != test.want {
			t.Errorf("%d succeeded: %d, want %d", test.succeeded, got, test.want)
		}
		now += 60_000
	}
}

// Every rate is the floor of the decimal product, which is found here in whole numbers.
func TestRateIsExact(t *testing.T) {
	for factor := int64(minFactorTenths); factor <= maxFactorTenths; factor++ {
		for base := int64(1); base <= MaxRate; base++ {
			c := &RolloutConfig{Exponential: &ExponentialRate{BasePerMinute: base, FactorTenths: factor, NotifiedThings: 1}}
			num, den := base, int64(1)
			for step := int64(0); num/den < MaxRate && step < 10; step++ {
				if got := c.rate(step); got != num/den {
					t.Fatalf("%d·(%d/10)^%d: %d, want %d", base, factor, step, got, num/den)
				}
				num, den = num*factor, den*10
			}
		}
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
		began := Time(rapid.Int64Range(1, 2_000_000_000_000).Draw(t, "began"))
		now := began
		perMinute := make(map[int64]int64)
		var last int64
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			plan := j.PlanRollout(now, 0)
			rate := j.Rate()
			if rate < last || rate > c.maximum() {
				t.Fatalf("the rate goes from %d to %d, the maximum is %d", last, rate, c.maximum())
			}
			last = rate
			n := rapid.Int64Range(0, plan.Create).Draw(t, "create")
			j.Created(n)
			minute := int64(now-began) / 60_000
			if perMinute[minute] += n; perMinute[minute] > rate {
				t.Fatalf("%d executions in a minute at a rate of %d", perMinute[minute], rate)
			}
			if again := began + Time(minute+1)*60_000; plan.LookAgainAt != again {
				t.Fatalf("look again at %d, want the end of the minute at %d", plan.LookAgainAt, again)
			}
			// Executions that succeed may be deleted, too.
			j.Counts[Succeeded] = max(0, j.Counts[Succeeded]+rapid.Int64Range(-5, n).Draw(t, "succeed"))
			now += Time(rapid.Int64Range(0, 90_000).Draw(t, "ms"))
		}
	})
}

func TestUpdateRollout(t *testing.T) {
	const begin = Time(1_700_000_000_000)
	j := &Job{Config: JobConfig{Rollout: &RolloutConfig{Exponential: &ExponentialRate{BasePerMinute: 100, FactorTenths: 20, NotifiedThings: 100}}}}
	if first, second := rollOut(j, begin), rollOut(j, begin+60_000); first != 100 || second != 200 {
		t.Fatalf("%d, then %d", first, second)
	}
	j.Counts[Succeeded] = 20
	j.UpdateRollout(&RolloutConfig{Exponential: &ExponentialRate{BasePerMinute: 210, FactorTenths: 11, SucceededThings: 10}})
	// 210·1.1² is 254.1; 200 of this minute are gone.
	if plan := j.PlanRollout(begin+61_000, 0); plan.Create != 54 {
		t.Errorf("more in the same minute: %+v", plan)
	}
	j.UpdateRollout(&RolloutConfig{Exponential: &ExponentialRate{BasePerMinute: 5, FactorTenths: 20, NotifiedThings: 1000}})
	if plan := j.PlanRollout(begin+62_000, 0); plan.Create != 0 {
		t.Errorf("slowed down, in a minute that has had more: %+v", plan)
	}
	if n := rollOut(j, begin+120_000); n != 5 {
		t.Errorf("slowed down: %d", n)
	}
	j.UpdateRollout(&RolloutConfig{MaximumPerMinute: 7})
	if n := rollOut(j, begin+180_000); n != 7 {
		t.Errorf("a constant rate: %d", n)
	}
	j.UpdateRollout(nil)
	if n := j.PlanRollout(begin+180_001, 0).Create; n != math.MaxInt64 {
		t.Errorf("no limit: %d", n)
	}
}

func TestS067S068RolloutErrors(t *testing.T) {
	const (
		exponential = "jobExecutionsRolloutConfig.exponentialRate."
		criteria    = exponential + "rateIncreaseCriteria"
		toThousand  = "Member must have a value between 1 and 1000"
		factor      = "Member must have a value between 1.1 and 5, with at most one decimal"
		atLeastOne  = "Member must have value greater than or equal to 1"
	)
	tests := []struct {
		name    string
		maximum int64
		e       *ExponentialRate
		want    string
	}{
		{"nothing", 0, nil, ""},
		{"slowest", 1, nil, ""},
		{"fastest", 1000, nil, ""},
		{"above", 1001, nil, constraint("jobExecutionsRolloutConfig.maximumPerMinute", "1001", toThousand)},
		{"below", -1, nil, constraint("jobExecutionsRolloutConfig.maximumPerMinute", "-1", toThousand)},
		{"exponential", 1000, &ExponentialRate{1, 11, 1, 1}, ""},
		{"by notified", 0, &ExponentialRate{1000, 50, 1, 0}, ""},
		{"by succeeded", 0, &ExponentialRate{1000, 50, 0, 1}, ""},
		{"base 0", 0, &ExponentialRate{0, 20, 1, 1}, constraint(exponential+"baseRatePerMinute", "0", toThousand)},
		{"base 1001", 0, &ExponentialRate{1001, 20, 1, 1}, constraint(exponential+"baseRatePerMinute", "1001", toThousand)},
		{"factor 1", 0, &ExponentialRate{1, 10, 1, 1}, constraint(exponential+"incrementFactor", "1", factor)},
		{"factor 5.1", 0, &ExponentialRate{1, 51, 1, 1}, constraint(exponential+"incrementFactor", "5.1", factor)},
		{"notified", 0, &ExponentialRate{1, 20, -1, 1}, constraint(criteria+".numberOfNotifiedThings", "-1", atLeastOne)},
		{"succeeded", 0, &ExponentialRate{1, 20, 1, -1}, constraint(criteria+".numberOfSucceededThings", "-1", atLeastOne)},
		{"no criterion", 0, &ExponentialRate{1, 20, 0, 0}, "1 validation error detected: Value null at '" + criteria +
			"' failed to satisfy constraint: Member must hold numberOfNotifiedThings or numberOfSucceededThings"},
	}
	for _, test := range tests {
		c := JobConfig{Rollout: &RolloutConfig{MaximumPerMinute: test.maximum, Exponential: test.e}}
		checkError(t, test.name, c.Check(), test.want)
	}
}
