package iot

import (
	"fmt"
	"slices"
)

// maxRetries is how many retries the criteria of a job may allow together (spec §7).
const maxRetries = 10

// CheckRetry returns an InvalidRequest error for criteria that break a rule of spec §7.
func CheckRetry(criteria []RetryCriterion) error {
	const list = "jobExecutionsRetryConfig.criteriaList"
	var sum int64
	seen := make(map[FailureType]bool)
	for i, c := range criteria {
		member := fmt.Sprintf("%s.%d.member.", list, i+1)
		switch c.Failure {
		case FailureFailed, FailureTimedOut, FailureAll:
		default:
			return Invalid(member+"failureType", c.Failure, "Member must satisfy enum value set: [FAILED, TIMED_OUT, ALL]")
		}
		switch {
		case c.Retries < 0 || c.Retries > maxRetries:
			return Invalid(member+"numberOfRetries", c.Retries, "Member must have a value between 0 and 10")
		case seen[c.Failure]:
			return Invalid(member+"failureType", c.Failure, "Member must be given once only")
		}
		seen[c.Failure] = true
		sum += c.Retries
	}
	switch {
	case len(criteria) > 2:
		return Invalid(list, len(criteria), "Member must have length less than or equal to 2")
	case seen[FailureAll] && len(criteria) > 1:
		return Invalid(list, FailureAll, "ALL cannot be combined with another failureType")
	case sum > maxRetries:
		return Invalid(list, sum, "The numbers of retries must have a sum less than or equal to 10")
	}
	return nil
}

// UpdateRetry switches retries of j off, which is all that can be done to them once a job
// exists: a number of 0 (spec §10.5). What criteria do not mention stays. It returns an
// InvalidRequest error for any other number, and for what CheckRetry refuses.
func (j *Job) UpdateRetry(criteria []RetryCriterion) error {
	if err := CheckRetry(criteria); err != nil {
		return err
	}
	for i, c := range criteria {
		if c.Retries != 0 {
			return Invalid(fmt.Sprintf("jobExecutionsRetryConfig.criteriaList.%d.member.numberOfRetries", i+1), c.Retries,
				"The number of retries of a job can only be changed to 0")
		}
	}
	kept := slices.Clone(j.Config.Retry)
	for _, c := range criteria {
		for i := range kept {
			if kept[i].Failure == c.Failure || c.Failure == FailureAll {
				kept[i].Retries = 0
			}
		}
	}
	j.Config.Retry = kept
	return nil
}

// Retry reports whether e, which has just become FAILED or TIMED_OUT, is to be tried
// again: a criterion of its kind has retries left, each counting its own, ALL counting
// both (spec §7).
func (j *Job) Retry(e *Execution) bool {
	if j.Status != JobInProgress && j.Status != JobScheduled || j.Pace.Over {
		return false
	}
	for _, c := range j.Config.Retry {
		var spent int64
		switch {
		case c.Failure == FailureAll && (e.Status == Failed || e.Status == TimedOut):
			spent = e.FailedRetries + e.TimedOutRetries
		case c.Failure == FailureFailed && e.Status == Failed:
			spent = e.FailedRetries
		case c.Failure == FailureTimedOut && e.Status == TimedOut:
			spent = e.TimedOutRetries
		default:
			continue
		}
		if spent < c.Retries {
			return true
		}
	}
	return false
}

// Next returns the retry of e, which has ended: a new execution without details or timers.
// Its Seq and its times are the caller's.
func (e *Execution) Next() Execution {
	next := Execution{
		Job: e.Job, JobID: e.JobID, Namespace: e.Namespace, ThingID: e.ThingID, Thing: e.Thing, Windowed: e.Windowed,
		Number: e.Number + 1, RetryAttempt: e.RetryAttempt + 1, Status: Queued, Version: 1,
		FailedRetries: e.FailedRetries, TimedOutRetries: e.TimedOutRetries, Before: e.Class(),
	}
	if e.Status == TimedOut {
		next.TimedOutRetries++
	} else {
		next.FailedRetries++
	}
	return next
}
