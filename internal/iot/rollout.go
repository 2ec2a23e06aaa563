package iot

import (
	"math"
	"time"
)

// Limits of rollout rates (spec §4.2).
const (
	MaxRate         = 1000 // executions per minute; what a rollout config without a maximum means
	minFactorTenths = 11
	maxFactorTenths = 50
)

const rolloutMember = "jobExecutionsRolloutConfig"

// Check returns an InvalidRequest error for the first member that breaks its limits.
func (c *RolloutConfig) Check() error {
	if c.MaximumPerMinute < 0 || c.MaximumPerMinute > MaxRate {
		return Invalid(rolloutMember+".maximumPerMinute", c.MaximumPerMinute, "Member must have a value between 1 and 1000")
	}
	e := c.Exponential
	if e == nil {
		return nil
	}
	const member = rolloutMember + ".exponentialRate"
	switch {
	case e.BasePerMinute < 1 || e.BasePerMinute > MaxRate:
		return Invalid(member+".baseRatePerMinute", e.BasePerMinute, "Member must have a value between 1 and 1000")
	case e.FactorTenths < minFactorTenths || e.FactorTenths > maxFactorTenths:
		return Invalid(member+".incrementFactor", float64(e.FactorTenths)/10, "Member must have a value between 1.1 and 5, with at most one decimal")
	case e.NotifiedThings < 0:
		return Invalid(member+".rateIncreaseCriteria.numberOfNotifiedThings", e.NotifiedThings, "Member must have value greater than or equal to 1")
	case e.SucceededThings < 0:
		return Invalid(member+".rateIncreaseCriteria.numberOfSucceededThings", e.SucceededThings, "Member must have value greater than or equal to 1")
	case e.NotifiedThings == 0 && e.SucceededThings == 0:
		return Invalid(member+".rateIncreaseCriteria", nil, "Member must hold numberOfNotifiedThings or numberOfSucceededThings")
	}
	return nil
}

// maximum is the rate that is never exceeded.
func (c *RolloutConfig) maximum() int64 {
	if c.MaximumPerMinute == 0 {
		return MaxRate
	}
	return c.MaximumPerMinute
}

// step is how often the rate has grown after so many notified and succeeded things: the
// criterion that is further on counts (spec A-17).
func (e *ExponentialRate) step(notified, succeeded int64) int64 {
	var k int64
	if e.NotifiedThings > 0 {
		k = notified / e.NotifiedThings
	}
	if e.SucceededThings > 0 {
		k = max(k, succeeded/e.SucceededThings)
	}
	return k
}

// rate is how many executions may be created per minute at a step.
func (c *RolloutConfig) rate(step int64) int64 {
	e := c.Exponential
	if e == nil {
		return c.maximum()
	}
	// Beyond some steps every rate is above the maximum, and the power beyond any float.
	rate := float64(e.BasePerMinute) * math.Pow(float64(e.FactorTenths)/10, float64(min(step, 1000)))
	// What should be a whole number may be a little below it.
	return int64(min(math.Floor(rate+1e-9), float64(c.maximum())))
}

// Plan is what a rollout may do now.
type Plan struct {
	Create      int64 // executions that may be created now; math.MaxInt64 for no limit
	LookAgainAt Time  // when more may be created
}

// PlanRollout says how many executions of j may be created at now. Minutes are counted from
// the beginning of the rollout. Each has one rate, which is found when it begins and never
// falls, and no more executions than that are created in it (spec §4.2); when the clock is set
// back it begins anew, with what is left of it. What was found out is noted in j.Pace. standard
// is the rate of a job that names none, 0 for as fast as can be.
func (j *Job) PlanRollout(now Time, standard int64) Plan {
	p := &j.Pace
	c := j.Config.Rollout
	if c == nil && standard > 0 {
		c = &RolloutConfig{MaximumPerMinute: standard}
	}
	first := p.Began == 0
	if first {
		p.Began = now
	}
	if c == nil {
		return Plan{Create: math.MaxInt64, LookAgainAt: now}
	}
	const minute = Time(time.Minute / time.Millisecond)
	p.Began = min(p.Began, now-Time(p.Minute)*minute) // a clock that is set back begins the minute anew
	m := int64((now - p.Began) / minute)
	if first || m > p.Minute {
		p.Minute, p.Created = m, 0
		if c.Exponential != nil {
			p.Step = max(p.Step, c.Exponential.step(p.Notified, j.Counts[Succeeded]))
		}
	}
	return Plan{Create: max(0, c.rate(p.Step)-p.Created), LookAgainAt: p.Began + Time(p.Minute+1)*minute}
}

// UpdateRollout replaces the rollout config of j (spec §10.5). The steps of the new one are
// counted afresh from all that was notified and succeeded: a rate that is lowered by hand
// must not be raised again by the steps of the old thresholds.
func (j *Job) UpdateRollout(c *RolloutConfig) {
	j.Config.Rollout, j.Pace.Step = c, 0
	if c != nil && c.Exponential != nil {
		j.Pace.Step = c.Exponential.step(j.Pace.Notified, j.Counts[Succeeded])
	}
}

// Rate returns how many executions of j may be created in the minute that PlanRollout spoke
// of last; zero for no limit.
func (j *Job) Rate() int64 {
	if j.Config.Rollout == nil {
		return 0
	}
	return j.Config.Rollout.rate(j.Pace.Step)
}

// Created notes that n executions were created in the minute that PlanRollout spoke of.
func (j *Job) Created(n int64) {
	j.Pace.Notified += n
	j.Pace.Created += n
}
