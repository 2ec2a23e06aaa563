package controlplane

import (
	"fmt"
	"math"

	"drover/internal/iot"
)

// The configurations of a job, as requests and answers have them. Each shape becomes the
// words of package iot by config, and is made from them by a function new…. One that is given
// empty is given: its members have their defaults, and an update replaces what was.

// jobConfigs are the members that CreateJob, UpdateJob and CreateJobTemplate share.
type jobConfigs struct {
	PresignedURLConfig         *presignedURLConfig         `json:"presignedUrlConfig,omitempty"`
	JobExecutionsRolloutConfig *jobExecutionsRolloutConfig `json:"jobExecutionsRolloutConfig,omitempty"`
	AbortConfig                *abortConfig                `json:"abortConfig,omitempty"`
	TimeoutConfig              *timeoutConfig              `json:"timeoutConfig,omitempty"`
	JobExecutionsRetryConfig   *jobExecutionsRetryConfig   `json:"jobExecutionsRetryConfig,omitempty"`
}

func (c *jobConfigs) config() (out iot.JobConfig, err error) {
	out.Presigned = c.PresignedURLConfig.config()
	if out.Rollout, err = c.JobExecutionsRolloutConfig.config(); err != nil {
		return out, err
	}
	if out.Abort, err = c.AbortConfig.config(); err != nil {
		return out, err
	}
	out.Retry = c.JobExecutionsRetryConfig.config()
	minutes, err := c.TimeoutConfig.minutes()
	out.TimeoutMinutes = value(minutes)
	return out, err
}

func newJobConfigs(c iot.JobConfig) jobConfigs {
	return jobConfigs{
		PresignedURLConfig:         newPresignedURLConfig(c.Presigned),
		JobExecutionsRolloutConfig: newRolloutConfig(c.Rollout),
		AbortConfig:                newAbortConfig(c.Abort),
		TimeoutConfig:              newTimeoutConfig(c.TimeoutMinutes),
		JobExecutionsRetryConfig:   newRetryConfig(c.Retry),
	}
}

// jobExecutionsRolloutConfig is JobExecutionsRolloutConfig (spec §4.2).
type jobExecutionsRolloutConfig struct {
	MaximumPerMinute *int32                  `json:"maximumPerMinute,omitempty" range:"1,1000"`
	ExponentialRate  *exponentialRolloutRate `json:"exponentialRate,omitempty"`
}

type exponentialRolloutRate struct {
	BaseRatePerMinute    *int32                `json:"baseRatePerMinute,omitempty" required:"true" range:"1,1000"`
	IncrementFactor      *float64              `json:"incrementFactor,omitempty" required:"true" range:"1.1,5"`
	RateIncreaseCriteria *rateIncreaseCriteria `json:"rateIncreaseCriteria,omitempty" required:"true"`
	// MaximumPerMinute stands here in examples of AWS's guide; the model has it one level
	// up, where it is answered (spec §4.2).
	MaximumPerMinute *int32 `json:"maximumPerMinute,omitempty" range:"1,1000"`
}

type rateIncreaseCriteria struct {
	NumberOfNotifiedThings  *int32 `json:"numberOfNotifiedThings,omitempty" range:"1,"`
	NumberOfSucceededThings *int32 `json:"numberOfSucceededThings,omitempty" range:"1,"`
}

func (c *jobExecutionsRolloutConfig) config() (*iot.RolloutConfig, error) {
	if c == nil {
		return nil, nil
	}
	out := &iot.RolloutConfig{MaximumPerMinute: int64(value(c.MaximumPerMinute))}
	if e := c.ExponentialRate; e != nil {
		tenths, ok := decimal(*e.IncrementFactor, 1)
		if !ok {
			return nil, iot.Invalid("jobExecutionsRolloutConfig.exponentialRate.incrementFactor", *e.IncrementFactor, "Member must have at most one decimal")
		}
		out.Exponential = &iot.ExponentialRate{
			BasePerMinute:   int64(*e.BaseRatePerMinute),
			FactorTenths:    tenths,
			NotifiedThings:  int64(value(e.RateIncreaseCriteria.NumberOfNotifiedThings)),
			SucceededThings: int64(value(e.RateIncreaseCriteria.NumberOfSucceededThings)),
		}
		if c.MaximumPerMinute == nil {
			out.MaximumPerMinute = int64(value(e.MaximumPerMinute))
		}
	}
	return out, nil
}

// decimal returns v times ten to the places, if v has no more decimals than that. v must be
// small enough for the product to be exact; the limits of the members see to it.
func decimal(v float64, places int) (int64, bool) {
	scale := math.Pow10(places)
	whole := math.Round(v * scale)
	// The quotient of two whole numbers is the float64 next to the decimal, as v is.
	return int64(whole), whole/scale == v
}

func newRolloutConfig(c *iot.RolloutConfig) *jobExecutionsRolloutConfig {
	if c == nil {
		return nil
	}
	out := &jobExecutionsRolloutConfig{MaximumPerMinute: optional(int32(c.MaximumPerMinute))}
	if e := c.Exponential; e != nil {
		factor := float64(e.FactorTenths) / 10
		base := int32(e.BasePerMinute)
		out.ExponentialRate = &exponentialRolloutRate{
			BaseRatePerMinute: &base,
			IncrementFactor:   &factor,
			RateIncreaseCriteria: &rateIncreaseCriteria{
				NumberOfNotifiedThings:  optional(int32(e.NotifiedThings)),
				NumberOfSucceededThings: optional(int32(e.SucceededThings)),
			},
		}
	}
	return out
}

// abortConfig is AbortConfig (spec §5).
type abortConfig struct {
	CriteriaList []abortCriteria `json:"criteriaList" required:"true" size:"1,"`
}

type abortCriteria struct {
	FailureType               string   `json:"failureType" required:"true" enum:"FAILED,REJECTED,TIMED_OUT,ALL"`
	Action                    string   `json:"action" required:"true" enum:"CANCEL"`
	ThresholdPercentage       *float64 `json:"thresholdPercentage" required:"true" range:"0.01,100"` // more than 0, with two decimals
	MinNumberOfExecutedThings *int32   `json:"minNumberOfExecutedThings" required:"true" range:"1,"`
}

func (c *abortConfig) config() ([]iot.AbortCriterion, error) {
	if c == nil {
		return nil, nil
	}
	out := make([]iot.AbortCriterion, len(c.CriteriaList))
	for i, k := range c.CriteriaList {
		hundredths, ok := decimal(*k.ThresholdPercentage, 2)
		if !ok {
			member := fmt.Sprintf("abortConfig.criteriaList.%d.member.thresholdPercentage", i+1)
			return nil, iot.Invalid(member, *k.ThresholdPercentage, "Member must have at most two decimals")
		}
		out[i] = iot.AbortCriterion{
			Failure: iot.FailureType(k.FailureType), ThresholdHundredths: hundredths, MinExecuted: int64(*k.MinNumberOfExecutedThings),
		}
	}
	return out, nil
}

func newAbortConfig(criteria []iot.AbortCriterion) *abortConfig {
	if len(criteria) == 0 {
		return nil
	}
	out := &abortConfig{CriteriaList: make([]abortCriteria, len(criteria))}
	for i, c := range criteria {
		threshold, minimum := float64(c.ThresholdHundredths)/100, int32(c.MinExecuted)
		out.CriteriaList[i] = abortCriteria{
			FailureType: string(c.Failure), Action: "CANCEL", ThresholdPercentage: &threshold, MinNumberOfExecutedThings: &minimum,
		}
	}
	return out
}

// timeoutConfig is TimeoutConfig (spec §6.1). One without a number asks for no timeout.
type timeoutConfig struct {
	InProgressTimeoutInMinutes *int64 `json:"inProgressTimeoutInMinutes,omitempty"`
}

// minutes returns the timeout that is asked for, 0 for none, and nil if nothing is said.
func (c *timeoutConfig) minutes() (*int64, error) {
	if c == nil {
		return nil, nil
	}
	if c.InProgressTimeoutInMinutes == nil {
		return new(int64), nil
	}
	return c.InProgressTimeoutInMinutes, iot.CheckTimeout(*c.InProgressTimeoutInMinutes)
}

func newTimeoutConfig(minutes int64) *timeoutConfig {
	if minutes == 0 {
		return nil
	}
	return &timeoutConfig{InProgressTimeoutInMinutes: &minutes}
}

// jobExecutionsRetryConfig is JobExecutionsRetryConfig (spec §7).
type jobExecutionsRetryConfig struct {
	CriteriaList []retryCriteria `json:"criteriaList" required:"true" size:"1,2"`
}

type retryCriteria struct {
	FailureType     string `json:"failureType" required:"true" enum:"FAILED,TIMED_OUT,ALL"`
	NumberOfRetries *int32 `json:"numberOfRetries" required:"true" range:"0,10"`
}

func (c *jobExecutionsRetryConfig) config() []iot.RetryCriterion {
	if c == nil {
		return nil
	}
	out := make([]iot.RetryCriterion, len(c.CriteriaList))
	for i, k := range c.CriteriaList {
		out[i] = iot.RetryCriterion{Failure: iot.FailureType(k.FailureType), Retries: int64(*k.NumberOfRetries)}
	}
	return out
}

func newRetryConfig(criteria []iot.RetryCriterion) *jobExecutionsRetryConfig {
	if len(criteria) == 0 {
		return nil
	}
	out := &jobExecutionsRetryConfig{CriteriaList: make([]retryCriteria, len(criteria))}
	for i, c := range criteria {
		n := int32(c.Retries)
		out.CriteriaList[i] = retryCriteria{FailureType: string(c.Failure), NumberOfRetries: &n}
	}
	return out
}

// schedulingConfig is SchedulingConfig (spec §8.1).
type schedulingConfig struct {
	StartTime          *string             `json:"startTime,omitempty" len:"1,64"`
	EndTime            *string             `json:"endTime,omitempty" len:"1,64"`
	EndBehavior        string              `json:"endBehavior,omitempty" enum:"STOP_ROLLOUT,CANCEL,FORCE_CANCEL"`
	MaintenanceWindows []maintenanceWindow `json:"maintenanceWindows,omitempty"`
}

type maintenanceWindow struct {
	StartTime         string `json:"startTime" required:"true" len:"1,256"`
	DurationInMinutes *int32 `json:"durationInMinutes" required:"true" range:"1,1430"`
}

func (c *schedulingConfig) schedule() *iot.Schedule {
	if c == nil || c.StartTime == nil && c.EndTime == nil && c.EndBehavior == "" && len(c.MaintenanceWindows) == 0 {
		return nil
	}
	return &iot.Schedule{
		Start: value(c.StartTime), End: value(c.EndTime), EndBehavior: iot.EndBehavior(c.EndBehavior), Windows: windows(c.MaintenanceWindows),
	}
}

func windows(in []maintenanceWindow) []iot.Window {
	var out []iot.Window
	for _, w := range in {
		out = append(out, iot.Window{Cron: w.StartTime, Minutes: int64(*w.DurationInMinutes)})
	}
	return out
}

func newWindows(in []iot.Window) []maintenanceWindow {
	var out []maintenanceWindow
	for _, w := range in {
		minutes := int32(w.Minutes)
		out = append(out, maintenanceWindow{StartTime: w.Cron, DurationInMinutes: &minutes})
	}
	return out
}

func newSchedulingConfig(s *iot.Schedule) *schedulingConfig {
	if s == nil {
		return nil
	}
	return &schedulingConfig{
		StartTime: optional(s.Start), EndTime: optional(s.End), EndBehavior: string(s.EndBehavior), MaintenanceWindows: newWindows(s.Windows),
	}
}

// scheduledJobRollout is ScheduledJobRollout: when a window starts.
type scheduledJobRollout struct {
	StartTime string `json:"startTime"`
}

// shownRollouts is how many window starts DescribeJob tells (spec §8.3).
const shownRollouts = 7

func (s *Server) scheduledRollouts(j *iot.Job) []scheduledJobRollout {
	if !j.Windowed() {
		return nil
	}
	starts := j.Schedule.NextWindows(iot.At(s.now()), shownRollouts)
	out := make([]scheduledJobRollout, len(starts))
	for i, t := range starts {
		out[i].StartTime = t.Std().Format("2006-01-02 15:04")
	}
	return out
}
