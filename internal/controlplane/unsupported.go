package controlplane

import "drover/internal/iot"

// Members of requests that drover does not have yet. They are declared with all their
// constraints, so that a request that is wrong anyway is told so; a request that is right is
// refused by name instead of being half obeyed. Structures that ask for nothing are accepted.

// asked is a member of a request that may not be served yet.
type asked struct {
	member  string
	feature string // what it needs, in the plural
	given   bool   // the request asks for it
}

// refuse returns an InvalidRequest error for the first member that the request asks for.
func refuse(members ...asked) error {
	for _, m := range members {
		if m.given {
			return iot.Errorf(iot.InvalidRequest, "drover does not have %s yet (member '%s')", m.feature, m.member)
		}
	}
	return nil
}

// jobConfigs are the members that CreateJob and UpdateJob share and that need a part of the
// service which drover does not have yet.
type jobConfigs struct {
	JobExecutionsRolloutConfig *jobExecutionsRolloutConfig `json:"jobExecutionsRolloutConfig"`
	AbortConfig                *abortConfig                `json:"abortConfig"`
	TimeoutConfig              *timeoutConfig              `json:"timeoutConfig"`
	JobExecutionsRetryConfig   *jobExecutionsRetryConfig   `json:"jobExecutionsRetryConfig"`
}

func (c *jobConfigs) check() error {
	return refuse(
		asked{"jobExecutionsRolloutConfig", "rollout rates", c.JobExecutionsRolloutConfig != nil && *c.JobExecutionsRolloutConfig != jobExecutionsRolloutConfig{}},
		asked{"abortConfig", "abort criteria", c.AbortConfig != nil},
		asked{"timeoutConfig", "timeouts", c.TimeoutConfig != nil && *c.TimeoutConfig != timeoutConfig{}},
		asked{"jobExecutionsRetryConfig", "retries", c.JobExecutionsRetryConfig != nil},
	)
}

// jobExecutionsRolloutConfig is JobExecutionsRolloutConfig (spec §4.2).
type jobExecutionsRolloutConfig struct {
	MaximumPerMinute *int32                  `json:"maximumPerMinute" range:"1,"`
	ExponentialRate  *exponentialRolloutRate `json:"exponentialRate"`
}

type exponentialRolloutRate struct {
	BaseRatePerMinute    *int32                `json:"baseRatePerMinute" required:"true" range:"1,1000"`
	IncrementFactor      *float64              `json:"incrementFactor" required:"true" range:"1.1,5"`
	RateIncreaseCriteria *rateIncreaseCriteria `json:"rateIncreaseCriteria" required:"true"`
}

type rateIncreaseCriteria struct {
	NumberOfNotifiedThings  *int32 `json:"numberOfNotifiedThings" range:"1,"`
	NumberOfSucceededThings *int32 `json:"numberOfSucceededThings" range:"1,"`
}

// abortConfig is AbortConfig (spec §5).
type abortConfig struct {
	CriteriaList []abortCriteria `json:"criteriaList" required:"true" size:"1,"`
}

type abortCriteria struct {
	FailureType               string   `json:"failureType" required:"true" enum:"FAILED,REJECTED,TIMED_OUT,ALL"`
	Action                    string   `json:"action" required:"true" enum:"CANCEL"`
	ThresholdPercentage       *float64 `json:"thresholdPercentage" required:"true" range:",100"`
	MinNumberOfExecutedThings *int32   `json:"minNumberOfExecutedThings" required:"true" range:"1,"`
}

// timeoutConfig is TimeoutConfig (spec §6.1).
type timeoutConfig struct {
	InProgressTimeoutInMinutes *int64 `json:"inProgressTimeoutInMinutes"`
}

// jobExecutionsRetryConfig is JobExecutionsRetryConfig (spec §7).
type jobExecutionsRetryConfig struct {
	CriteriaList []retryCriteria `json:"criteriaList" required:"true" size:"1,2"`
}

type retryCriteria struct {
	FailureType     string `json:"failureType" required:"true" enum:"FAILED,TIMED_OUT,ALL"`
	NumberOfRetries *int32 `json:"numberOfRetries" required:"true" range:"0,10"`
}

// schedulingConfig is SchedulingConfig (spec §8.1).
type schedulingConfig struct {
	StartTime          *string             `json:"startTime" len:"1,64"`
	EndTime            *string             `json:"endTime" len:"1,64"`
	EndBehavior        string              `json:"endBehavior" enum:"STOP_ROLLOUT,CANCEL,FORCE_CANCEL"`
	MaintenanceWindows []maintenanceWindow `json:"maintenanceWindows"`
}

type maintenanceWindow struct {
	StartTime         string `json:"startTime" required:"true" len:"1,256"`
	DurationInMinutes *int32 `json:"durationInMinutes" required:"true" range:"1,1430"`
}

func (c *schedulingConfig) empty() bool {
	return c == nil || c.StartTime == nil && c.EndTime == nil && c.EndBehavior == "" && len(c.MaintenanceWindows) == 0
}
