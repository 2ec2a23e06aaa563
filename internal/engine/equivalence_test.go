package engine_test

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"drover/internal/engine"
	"drover/internal/iot"
	"drover/internal/store"
	"drover/internal/store/sqlstore"
)

// deed is one thing that happens in a history: time passes, and devices report.
type deed struct {
	wait    time.Duration
	reports []report
	cancel  bool // of the first job
}

type report struct {
	thing  int
	start  bool
	status iot.ExecutionStatus
}

// manner is how a history is carried out. It must not matter.
type manner struct {
	chunk   int
	single  bool // each report in a batch of its own, the last one first
	restart bool // the process ends and begins again after every deed
}

const historyThings = 7

// history carries out deeds on a fleet with three jobs and returns what is left of them.
func history(t *rapid.T, dir string, deeds []deed, aborts bool, m manner) string {
	ctx := context.Background()
	db, err := sqlstore.Open(ctx, sqlstore.Config{Path: filepath.Join(dir, uuid.NewString()), Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	now := time.Date(2030, 1, 7, 1, 0, 0, 0, time.UTC)
	realm := iot.Realm{Account: "123456789012", Region: "us-east-1"}
	var e *engine.Engine
	begin := func() {
		if e, err = engine.New(engine.Config{Store: db, Realm: realm, Now: func() time.Time { return now }, ChunkSize: m.chunk}); err != nil {
			t.Fatal(err)
		}
	}
	step := func(requests ...*iot.Request) {
		replies, _, err := e.Step(ctx, requests)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range replies {
			// From 02:00 to 03:30; what was begun then may still be the next one, but not be begun.
			if r.Err == nil && r.Answer.Execution != nil && r.Answer.Execution.JobID == "window" && r.Answer.Execution.StartedAt == iot.At(now) {
				if at := now.Hour()*60 + now.Minute(); at < 120 || at >= 210 {
					t.Fatalf("an execution starts outside of its window, at %s", now)
				}
			}
		}
	}
	begin()
	err = db.Update(ctx, func(tx store.Tx) error {
		g := &iot.Group{Name: "g", UUID: uuid.NewString(), Version: 1}
		if err := tx.InsertGroup(g); err != nil {
			return err
		}
		for i := range historyThings {
			thing := &iot.Thing{Name: historyThing(i), UUID: uuid.NewString(), Version: 1}
			if err := tx.InsertThings([]*iot.Thing{thing}); err != nil {
				return err
			}
			seq, err := tx.Sequence(1)
			if err != nil {
				return err
			}
			if _, err := tx.InsertMembers([]iot.Member{{Seq: seq, GroupID: g.ID, ThingID: thing.ID, Thing: thing.Name}}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	targets := []string{realm.ARN(iot.KindGroup, "g")}
	for _, job := range []iot.NewJob{
		{JobID: "rate", Config: iot.JobConfig{Rollout: &iot.RolloutConfig{MaximumPerMinute: 2}, TimeoutMinutes: 5,
			Retry: []iot.RetryCriterion{{Failure: iot.FailureAll, Retries: 2}}}},
		{JobID: "abort", Config: iot.JobConfig{Abort: []iot.AbortCriterion{{Failure: iot.FailureFailed, ThresholdHundredths: 5000, MinExecuted: 3}}}},
		{JobID: "window", Selection: iot.Continuous, Schedule: &iot.Schedule{Windows: []iot.Window{{Cron: "cron(0 2 * * ? *)", Minutes: 90}}},
			Config: iot.JobConfig{Retry: []iot.RetryCriterion{{Failure: iot.FailureFailed, Retries: 1}}}},
	} {
		if !aborts {
			job.Config.Abort = nil
		}
		job.Document, job.Targets = "{}", targets
		if _, err := e.CreateJob(ctx, job); err != nil {
			t.Fatal(err)
		}
	}
	step()
	for _, d := range deeds {
		// From one due time to the next, as a clock does.
		until := now.Add(d.wait)
		for {
			due, err := e.NextDue(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if due == 0 || due.Std().After(until) {
				break
			}
			now = due.Std()
			step()
		}
		now = until
		if d.cancel {
			if _, err := e.CancelJob(ctx, iot.JobCancellation{JobID: "rate"}); err != nil && iot.ErrorCode(err) != iot.InvalidRequest {
				t.Fatal(err)
			}
			step() // what a device does while a cancellation goes on is a race by nature
		}
		var requests []*iot.Request
		for _, r := range d.reports {
			request := &iot.Request{Op: iot.OpStartNext, Thing: historyThing(r.thing)}
			if !r.start {
				request = &iot.Request{Op: iot.OpUpdate, Thing: historyThing(r.thing), JobID: "rate", Status: r.status}
				if r.thing%3 > 0 {
					request.JobID = []iot.JobID{"abort", "window"}[r.thing%3-1]
				}
			}
			requests = append(requests, request)
		}
		if m.single {
			for _, r := range slices.Backward(requests) {
				step(r)
			}
		} else {
			step(requests...)
		}
		if m.restart {
			begin()
		}
	}
	return remains(t, ctx, e)
}

func historyThing(i int) iot.ThingName { return iot.ThingName(fmt.Sprint("t", i)) }

// remains describes everything but the order in which executions were created.
func remains(t *rapid.T, ctx context.Context, e *engine.Engine) string {
	jobs, _, err := e.Jobs(ctx, iot.JobQuery{}, iot.Page{Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, j := range jobs {
		lines = append(lines, fmt.Sprint(describeJob(j), " ", j.Executed, j.Pace.Created, j.Pace.Minute))
		all, _, err := e.JobExecutions(ctx, j.JobID, iot.NoStatus, iot.Page{Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range all {
			lines = append(lines, fmt.Sprint(j.JobID, " ", x.Thing, " ", short(&x), " ", x.RetryAttempt, x.QueuedAt, x.StartedAt, x.UpdatedAt))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// TestManner: the same history comes out whatever the size of chunks and batches, the
// order of independent requests, and however often the process ends and begins again.
func TestManner(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// A history costs some tens of milliseconds, and ten times that under the race detector.
	// -rapid.checks=1000 looks longer.
	if f := flag.Lookup("rapid.checks"); f != nil && f.Value.String() == f.DefValue {
		if err := f.Value.Set("25"); err != nil {
			t.Fatal(err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		deeds := make([]deed, rapid.IntRange(1, 4).Draw(t, "deeds"))
		// With an abort the order of requests matters: who comes after it is too late.
		aborts := rapid.Bool().Draw(t, "aborts")
		for i := range deeds {
			d := &deeds[i]
			d.wait = time.Duration(rapid.IntRange(0, 90).Draw(t, "minutes")) * time.Minute
			d.cancel = rapid.IntRange(0, 9).Draw(t, "cancel") == 0
			// Independent: each thing at most once.
			for _, thing := range rapid.Permutation([]int{0, 1, 2, 3, 4, 5, 6}).Draw(t, "things")[:rapid.IntRange(0, historyThings).Draw(t, "n")] {
				d.reports = append(d.reports, report{thing, rapid.Bool().Draw(t, "start"),
					rapid.SampledFrom([]iot.ExecutionStatus{iot.InProgress, iot.Succeeded, iot.Failed, iot.Rejected}).Draw(t, "status")})
			}
		}
		want := history(t, dir, deeds, aborts, manner{chunk: 2000})
		others := []manner{{chunk: 1}, {chunk: 3, restart: true}}
		if !aborts {
			others = append(others, manner{chunk: 2, single: true})
		}
		for _, m := range others {
			if got := history(t, dir, deeds, aborts, m); got != want {
				t.Fatalf("%+v:\n%s\nwant\n%s", m, got, want)
			}
		}
	})
}
