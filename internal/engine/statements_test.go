package engine_test

import (
	"path/filepath"
	"strings"
	"testing"

	"drover/internal/store/sqlstore"
)

// The statements of the behavioural specification that need time to pass, each a scenario
// in testdata/statements under virtual time.

func statement(t *testing.T) {
	t.Helper()
	t.Parallel()
	number := strings.TrimPrefix(t.Name(), "Test")[:4]
	runScenario(t, "testdata/statements/"+number+".txt", sqlstore.Config{Path: filepath.Join(t.TempDir(), "db")})
}

func TestS002ScheduledJobHasNoExecutions(t *testing.T) { statement(t) }

func TestS003StartTimePasses(t *testing.T) { statement(t) }

func TestS007ContinuousJobCompletesAfterItsEnd(t *testing.T) { statement(t) }

func TestS023DeleteScheduledJobWithoutForce(t *testing.T) { statement(t) }

func TestS048DeleteTimedOutExecution(t *testing.T) { statement(t) }

func TestS054TargetsInOrder(t *testing.T) { statement(t) }

func TestS061TenAMinute(t *testing.T) { statement(t) }

func TestS063RateDoublesAfterAThousandNotified(t *testing.T) { statement(t) }

func TestS065MaximumCapsTheRate(t *testing.T) { statement(t) }

func TestS066RateGrowsWithSuccess(t *testing.T) { statement(t) }

func TestS069JoiningIsNotRateLimited(t *testing.T) { statement(t) }

func TestS075AbortAtTwentyPercent(t *testing.T) { statement(t) }

func TestS076NoAbortBelowTwentyPercent(t *testing.T) { statement(t) }

func TestS077NoAbortBelowTheMinimum(t *testing.T) { statement(t) }

func TestS080AbortOnAllKinds(t *testing.T) { statement(t) }

func TestS081FailedIsNotRejected(t *testing.T) { statement(t) }

func TestS082AbortCancelsWhatWaits(t *testing.T) { statement(t) }

func TestS084SecondCriterionIsEnough(t *testing.T) { statement(t) }

func TestS086InProgressTimeout(t *testing.T) { statement(t) }

func TestS087QueuedNeverTimesOut(t *testing.T) { statement(t) }

func TestS088StepTimerBeforeInProgressTimer(t *testing.T) { statement(t) }

func TestS089StepTimerReplaced(t *testing.T) { statement(t) }

func TestS090StepTimerCapped(t *testing.T) { statement(t) }

func TestS091StepTimerDiscarded(t *testing.T) { statement(t) }

func TestS092StepTimerHolds(t *testing.T) { statement(t) }

func TestS094StepTimerWithoutTimeoutConfig(t *testing.T) { statement(t) }

func TestS097RunningExecutionKeepsItsDeadline(t *testing.T) { statement(t) }

func TestS098TimedOutIsTold(t *testing.T) { statement(t) }

func TestS099FailedIsRetried(t *testing.T) { statement(t) }

func TestS101RetriesEnd(t *testing.T) { statement(t) }

func TestS102TimedOutIsNotFailed(t *testing.T) { statement(t) }

func TestS103AllCountsBoth(t *testing.T) { statement(t) }

func TestS104RejectedIsNotRetried(t *testing.T) { statement(t) }

func TestS105CancelTakesTheRetry(t *testing.T) { statement(t) }

func TestS106RetryKeepsTheJobOpen(t *testing.T) { statement(t) }

func TestS108RejoinCountsFromZero(t *testing.T) { statement(t) }

func TestS109RetriesCanOnlyBeSwitchedOff(t *testing.T) { statement(t) }

func TestS114StopRolloutIsTheDefault(t *testing.T) { statement(t) }

func TestS115EndCancels(t *testing.T) { statement(t) }

func TestS116EndForceCancels(t *testing.T) { statement(t) }

func TestS120ClosedWindowHides(t *testing.T) { statement(t) }

func TestS121NextWindowShows(t *testing.T) { statement(t) }

func TestS122ReportOutsideAWindow(t *testing.T) { statement(t) }

func TestS123RetryWaitsForTheWindow(t *testing.T) { statement(t) }
