package iot

const maxTimeout = 10080 // minutes: seven days (spec §6)

// CheckTimeout returns an InvalidRequest error unless minutes can be the in-progress
// timeout of a job: 1 to 10,080.
func CheckTimeout(minutes int64) error {
	if minutes < 1 || minutes > maxTimeout {
		return Invalid("timeoutConfig.inProgressTimeoutInMinutes", minutes, "Member must have a value between 1 and 10080")
	}
	return nil
}

// CheckStepTimeout returns an InvalidRequest error unless minutes can be the step timeout
// of a request: 1 to 10,080, or -1 to discard the timer.
func CheckStepTimeout(minutes int64) error {
	if minutes != -1 && (minutes < 1 || minutes > maxTimeout) {
		return Invalid("stepTimeoutInMinutes", minutes, "Member must have a value between 1 and 10080, or be -1")
	}
	return nil
}

// Remaining returns approximateSecondsBeforeTimedOut: whole seconds, not below zero, for an
// execution that is IN_PROGRESS and has a timer (spec §6.5).
func (e *Execution) Remaining(now Time) (seconds int64, ok bool) {
	due := e.DueAt()
	if e.Status != InProgress || due == 0 {
		return 0, false
	}
	return max(0, int64(due-now)/1000), true
}
