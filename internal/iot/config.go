package iot

// JobConfig is how a job is to be carried out. The zero value asks for nothing: as fast
// as can be, no abort, no timeout, no retry, at once.
type JobConfig struct {
	Presigned *PresignedURLConfig `json:"presigned,omitempty"`
	Rollout   *RolloutConfig      `json:"rollout,omitempty"`
	Abort     []AbortCriterion    `json:"abort,omitempty"`
	// TimeoutMinutes is how long an execution may be IN_PROGRESS, 1 to 10,080; 0: for ever.
	TimeoutMinutes int64            `json:"timeoutMinutes,omitempty"`
	Retry          []RetryCriterion `json:"retry,omitempty"`
}

// Check returns an InvalidRequest error for the first part that breaks a rule.
func (c *JobConfig) Check() error {
	if c.Rollout != nil {
		if err := c.Rollout.Check(); err != nil {
			return err
		}
	}
	if err := CheckAbort(c.Abort); err != nil {
		return err
	}
	if c.TimeoutMinutes != 0 {
		if err := CheckTimeout(c.TimeoutMinutes); err != nil {
			return err
		}
	}
	return CheckRetry(c.Retry)
}

// Over returns c with the parts that it does not set taken from base.
func (c JobConfig) Over(base JobConfig) JobConfig {
	if c.Presigned == nil {
		c.Presigned = base.Presigned
	}
	if c.Rollout == nil {
		c.Rollout = base.Rollout
	}
	if c.Abort == nil {
		c.Abort = base.Abort
	}
	if c.TimeoutMinutes == 0 {
		c.TimeoutMinutes = base.TimeoutMinutes
	}
	if c.Retry == nil {
		c.Retry = base.Retry
	}
	return c
}

// RolloutConfig limits how many executions are created per minute (spec §4.2).
type RolloutConfig struct {
	MaximumPerMinute int64            `json:"maximumPerMinute,omitempty"` // 1 to 1,000; 0: 1,000
	Exponential      *ExponentialRate `json:"exponential,omitempty"`
}

// ExponentialRate lets the rate grow with success.
type ExponentialRate struct {
	BasePerMinute   int64 `json:"basePerMinute"`             // 1 to 1,000
	FactorTenths    int64 `json:"factorTenths"`              // incrementFactor times ten: 11 to 50
	NotifiedThings  int64 `json:"notifiedThings,omitempty"`  // a step per so many; 0: not by them
	SucceededThings int64 `json:"succeededThings,omitempty"` // a step per so many; 0: not by them
}

// FailureType is what a criterion of abort or retry looks at.
type FailureType string

// The failure types. FailureAll is every kind that the criterion can look at.
const (
	FailureFailed   FailureType = "FAILED"
	FailureRejected FailureType = "REJECTED"
	FailureTimedOut FailureType = "TIMED_OUT"
	FailureAll      FailureType = "ALL"
)

// AbortCriterion cancels a job that fails too often (spec §5).
type AbortCriterion struct {
	Failure             FailureType `json:"failure"`
	ThresholdHundredths int64       `json:"thresholdHundredths"` // percent times 100: 1 to 10,000
	MinExecuted         int64       `json:"minExecuted"`         // at least 1
}

// RetryCriterion lets failed executions be tried again (spec §7).
type RetryCriterion struct {
	Failure FailureType `json:"failure"` // FAILED, TIMED_OUT or ALL
	Retries int64       `json:"retries"` // 0 to 10
}

// EndBehavior is what happens to executions when a job's end time comes (spec §2.4).
type EndBehavior string

// The behaviours.
const (
	StopRollout EndBehavior = "STOP_ROLLOUT"
	EndCancel   EndBehavior = "CANCEL"
	ForceCancel EndBehavior = "FORCE_CANCEL"
)

// Schedule is when a job runs (spec §8). Times and cron forms are kept as they were
// given, too, because they are echoed.
type Schedule struct {
	Start       string      `json:"start,omitempty"`
	End         string      `json:"end,omitempty"`
	StartAt     Time        `json:"startAt,omitempty"` // zero: at once, or when a window opens
	EndAt       Time        `json:"endAt,omitempty"`   // zero: never
	EndBehavior EndBehavior `json:"endBehavior,omitempty"`
	Windows     []Window    `json:"windows,omitempty"`
}

// Window is a recurring time in which a continuous job rolls out and its executions can
// be seen and started.
type Window struct {
	Cron    string `json:"cron"`    // cron(minutes hours day-of-month month day-of-week year), UTC
	Minutes int64  `json:"minutes"` // 1 to 1,430
}

// Pace is how far the rollout of a job has come; it is kept with the job.
type Pace struct {
	Notified int64 `json:"notified,omitempty"` // things whose execution the rollout has created
	Step     int64 `json:"step,omitempty"`     // the highest step of the exponential rate that was reached
	Began    Time  `json:"began,omitempty"`    // when the rollout began; minutes are counted from here
	Minute   int64 `json:"minute,omitempty"`   // the minute, from 0, that Created is about
	Created  int64 `json:"created,omitempty"`  // executions created in Minute
	Over     bool  `json:"over,omitempty"`     // the end time has come
}

// Template is a job template: custom, or managed by the service.
type Template struct {
	ID              int64
	TemplateID      string
	Description     string
	Document        string
	DocumentSource  string
	Config          JobConfig
	Windows         []Window
	PackageVersions []string
	CreatedAt       Time
}
