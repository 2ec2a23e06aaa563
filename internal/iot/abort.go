package iot

import "fmt"

// AbortReason is the reasonCode of a job that its abort criteria have canceled (spec A-46).
const AbortReason = "ABORT_CRITERIA_MET"

// CheckAbort returns an InvalidRequest error for the first criterion that breaks a rule of
// spec §5.
func CheckAbort(criteria []AbortCriterion) error {
	for i, c := range criteria {
		member := fmt.Sprintf("abortConfig.criteriaList.%d.member.", i+1)
		switch c.Failure {
		case FailureFailed, FailureRejected, FailureTimedOut, FailureAll:
		default:
			return Invalid(member+"failureType", c.Failure, "Member must satisfy enum value set: [FAILED, REJECTED, TIMED_OUT, ALL]")
		}
		switch {
		case c.ThresholdHundredths < 1 || c.ThresholdHundredths > 100_00:
			return Invalid(member+"thresholdPercentage", float64(c.ThresholdHundredths)/100, "Member must have a value greater than 0 and at most 100, with at most two decimals")
		case c.MinExecuted < 1:
			return Invalid(member+"minNumberOfExecutedThings", c.MinExecuted, "Member must have value greater than or equal to 1")
		}
	}
	return nil
}

// failures and executed are the F and E of spec §5.
func (c AbortCriterion) failures(n Counts) int64 {
	switch c.Failure {
	case FailureFailed:
		return n[Failed]
	case FailureRejected:
		return n[Rejected]
	case FailureTimedOut:
		return n[TimedOut]
	}
	return n[Failed] + n[Rejected] + n[TimedOut]
}

func executed(n Counts) int64 { return n[Succeeded] + n[Failed] + n[Rejected] + n[TimedOut] }

// met is the arithmetic of spec §5, in integers.
func (c AbortCriterion) met(n Counts) bool {
	e := executed(n)
	return e >= c.MinExecuted && c.failures(n)*100_00 >= c.ThresholdHundredths*e
}

// Comment says for people why c has canceled a job.
func (c AbortCriterion) Comment(n Counts) string {
	return fmt.Sprintf("Canceled by abort criteria: %d of %d executed things are %s; the threshold is %g%% of at least %d.",
		c.failures(n), executed(n), c.Failure, float64(c.ThresholdHundredths)/100, c.MinExecuted)
}

// ShouldAbort returns the first criterion that j has met, if j can still be aborted.
func (j *Job) ShouldAbort() (AbortCriterion, bool) {
	if j.Status != JobInProgress && j.Status != JobScheduled {
		return AbortCriterion{}, false
	}
	for _, c := range j.Config.Abort {
		if c.met(j.Executed) {
			return c, true
		}
	}
	return AbortCriterion{}, false
}
