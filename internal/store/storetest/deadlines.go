package storetest

import (
	"fmt"
	"slices"

	"drover/internal/iot"
	"drover/internal/store"
)

// running makes an execution in progress with its deadlines and stores it, in the thing's
// queue, too, as its only entry.
func (f *fixture) running(j *iot.Job, thing *iot.Thing, deadline, step iot.Time) iot.Execution {
	f.Helper()
	e := f.execution(j, thing, 1)
	e.Status, e.Version, e.StartedAt, e.Deadline, e.StepDeadline = iot.InProgress, 2, t0, deadline, step
	f.insert(e)
	f.queue(e)
	return e
}

// queue makes the execution the only entry of its thing's queue.
func (f *fixture) queue(e iot.Execution) {
	f.Helper()
	f.update(func(tx store.Tx) error {
		return tx.SaveQueues([]iot.Queue{{ThingID: e.ThingID, Thing: e.Thing, Entries: []iot.Execution{e}}})
	})
}

func (f *fixture) due(now iot.Time, limit int) []iot.Execution {
	f.Helper()
	return read(f, func(r store.Reader) ([]iot.Execution, error) { return r.DueExecutions(now, limit) })
}

func (f *fixture) nextDue() iot.Time {
	f.Helper()
	return read(f, store.Reader.NextDueExecution)
}

var deadlines = []testCase{
	{"come the earliest first", func(f *fixture) {
		th, j, k := f.things("a", "b", "c", "d", "e", "f"), f.job("j"), f.job("k")
		f.running(j, th[0], 0, 0)
		f.equal(f.nextDue(), iot.Time(0))
		f.equal(len(f.due(t0+1<<40, 10)), 0)
		last := f.running(j, th[1], t0+30, 0)
		first := f.running(k, th[2], t0+40, t0+10) // the earlier one counts
		second := f.running(j, th[3], t0+20, 0)
		third := f.running(k, th[4], 0, t0+20)
		f.running(k, th[5], t0+50, 0)
		f.equal(f.nextDue(), t0+10)
		f.equal(len(f.due(t0+9, 10)), 0)
		f.equal(f.due(t0+10, 10), []iot.Execution{first})
		f.equal(f.due(t0+49, 10), []iot.Execution{first, second, third, last})
		f.equal(f.due(t0+49, 2), []iot.Execution{first, second})
	}},
	{"move with the step timer", func(f *fixture) {
		th, j := f.things("a")[0], f.job("j")
		e := f.running(j, th, t0+100, 0)
		for _, c := range []struct{ step, next iot.Time }{{t0 + 10, t0 + 10}, {t0 + 60, t0 + 60}, {t0 + 200, t0 + 100}, {0, t0 + 100}} {
			e.StepDeadline = c.step
			e.Version++
			f.queue(e)
			f.update(func(tx store.Tx) error { return tx.UpdateExecutions([]iot.Execution{e}) })
			f.equal(f.nextDue(), c.next)
			f.equal(len(f.due(c.next-1, 10)), 0)
			f.equal(f.due(c.next, 10), []iot.Execution{e})
		}
		e.Deadline = 0
		f.queue(e)
		f.update(func(tx store.Tx) error { return tx.UpdateExecutions([]iot.Execution{e}) })
		f.equal(f.nextDue(), iot.Time(0))
	}},
	{"begin with the start and go with the end", func(f *fixture) {
		th, j := f.things("a", "b"), f.job("j")
		e := f.execution(j, th[0], 1)
		f.insert(e)
		f.equal(f.nextDue(), iot.Time(0))
		e.To(iot.InProgress, t0+1)
		e.Deadline = t0 + 10
		f.queue(e)
		f.update(func(tx store.Tx) error { return tx.UpdateExecutions([]iot.Execution{e}) })
		f.equal(f.due(t0+10, 10), []iot.Execution{e})
		e.To(iot.Succeeded, t0+2)
		f.update(func(tx store.Tx) error {
			f.must(tx.SaveQueues([]iot.Queue{{ThingID: th[0].ID, Thing: th[0].Name}}))
			return tx.UpdateExecutions([]iot.Execution{e})
		})
		f.equal(f.nextDue(), iot.Time(0))
		gone := f.running(j, th[1], t0+5, 0)
		f.update(func(tx store.Tx) error { return tx.DeleteExecutions([]store.ExecutionKey{{Job: j.ID, Seq: gone.Seq}}) })
		f.equal(f.nextDue(), iot.Time(0))
		f.equal(len(f.due(t0+1<<40, 10)), 0)
	}},
	{"are dealt with in chunks", func(f *fixture) {
		j := f.job("j")
		things := make([]string, 10)
		for i := range things {
			things[i] = fmt.Sprint("t", i)
		}
		var all, have []int64
		for i, th := range f.things(things...) {
			all = append(all, f.running(j, th, t0+iot.Time(i/4), 0).Seq)
		}
		for {
			chunk := f.due(t0+99, 3)
			if len(chunk) == 0 {
				break
			}
			for i := range chunk {
				have = append(have, chunk[i].Seq)
				chunk[i].To(iot.TimedOut, t0+99)
			}
			f.update(func(tx store.Tx) error { return tx.UpdateExecutions(chunk) })
		}
		f.equal(have, all)
		f.equal(f.nextDue(), iot.Time(0))
	}},
	{"and earlier attempts are kept while pending", func(f *fixture) {
		th, j := f.things("a")[0], f.job("j")
		e := f.execution(j, th, 4)
		e.RetryAttempt, e.FailedRetries, e.TimedOutRetries, e.Before, e.Windowed = 3, 2, 1, iot.TimedOut, true
		e.To(iot.InProgress, t0+1)
		e.Deadline, e.StepDeadline, e.Details = t0+100, t0+50, iot.Details{"a": "1"}
		plain := f.execution(f.job("k"), th, 1)
		f.insert(e, plain)
		f.update(func(tx store.Tx) error {
			return tx.SaveQueues([]iot.Queue{{ThingID: th.ID, Thing: th.Name, Entries: []iot.Execution{e, plain}}})
		})
		f.reopen()
		f.view(func(r store.Reader) error {
			have, err := r.Execution(j.ID, th.ID, 0)
			f.must(err)
			f.equal(have, e)
			queues, err := r.QueuesByID([]int64{th.ID})
			f.must(err)
			f.equal(queues[0].Entries, []iot.Execution{e, plain})
			due, err := r.DueExecutions(t0+50, 10)
			f.equal(due, []iot.Execution{e})
			return err
		})
	}},
	{"end with the execution, earlier attempts stay known", func(f *fixture) {
		th, j := f.things("a", "b"), f.job("j")
		e := f.execution(j, th[0], 3)
		e.RetryAttempt, e.FailedRetries, e.TimedOutRetries, e.Before, e.Windowed = 2, 2, 2, iot.Failed, true
		other := f.execution(j, th[1], 1)
		f.insert(e, other)
		e.To(iot.Canceled, t0+1)
		f.update(func(tx store.Tx) error { return tx.UpdateExecutions([]iot.Execution{e}) })
		list := read(f, func(r store.Reader) ([]iot.Execution, error) { return r.ExecutionsOfJob(j.ID, iot.NoStatus, 0, 10) })
		f.equal(list, []iot.Execution{e, other})
	}},
	{"and earlier attempts are in the journal", func(f *fixture) {
		th, j := f.things("a")[0], f.job("j")
		e := f.execution(j, th, 2)
		e.RetryAttempt, e.FailedRetries, e.Before, e.Windowed = 1, 1, iot.Failed, true
		e.To(iot.InProgress, t0+1)
		e.StepDeadline = t0 + 9
		f.update(func(tx store.Tx) error {
			return tx.Append(iot.Record{At: t0, Kind: iot.ExecutionChanged, JobID: j.JobID, Execution: &e})
		})
		list := read(f, func(r store.Reader) ([]iot.Record, error) { return r.Records(0, 0, 10) })
		f.equal(*list[0].Execution, e)
	}},
	{"and earlier attempts cannot contradict the status", func(f *fixture) {
		th, j := f.things("a")[0], f.job("j")
		for _, bad := range []func(e *iot.Execution){
			func(e *iot.Execution) { e.Deadline = t0 },
			func(e *iot.Execution) { e.StepDeadline = t0 },
			func(e *iot.Execution) { e.Status, e.StartedAt, e.Deadline = iot.Succeeded, t0, t0 },
			func(e *iot.Execution) { e.Status, e.StartedAt, e.Deadline = iot.InProgress, t0, -1 },
			func(e *iot.Execution) { e.Before = iot.Canceled },
			func(e *iot.Execution) { e.Before = iot.InProgress },
			func(e *iot.Execution) { e.FailedRetries = -1 },
			func(e *iot.Execution) { e.TimedOutRetries = -1 },
		} {
			e := f.execution(j, th, 1)
			bad(&e)
			if f.Update(f.Context(), func(tx store.Tx) error { return tx.InsertExecutions([]iot.Execution{e}) }) == nil {
				f.Errorf("stored %+v", e)
			}
		}
	}},
}

// schedules are cases of jobs that have to do with time.
var schedules = []testCase{
	{"make jobs due, in a phase or not", func(f *fixture) {
		f.job("idle")
		for _, c := range []struct {
			name   iot.JobID
			status iot.JobStatus
			phase  iot.Phase
			due    iot.Time
		}{
			{"starts later", iot.JobScheduled, iot.PhaseNone, t0 + 20},
			{"ends later", iot.JobInProgress, iot.PhaseNone, t0 + 30},
			{"window closes", iot.JobScheduled, iot.PhaseWindow, t0 + 10},
			{"end", iot.JobInProgress, iot.PhaseEnd, t0 + 10},
		} {
			j := newJob(string(c.name))
			j.Status, j.Phase, j.DueAt = c.status, c.phase, c.due
			f.update(func(tx store.Tx) error { return tx.InsertJob(j) })
		}
		due := func(now iot.Time) []iot.JobID {
			return names(read(f, func(r store.Reader) ([]*iot.Job, error) { return r.DueJobs(now, 10) }), jobName)
		}
		f.equal(read(f, store.Reader.NextDue), t0+10)
		f.equal(due(t0+9), []iot.JobID{})
		f.equal(due(t0+10), []iot.JobID{"window closes", "end"})
		f.equal(due(t0+99), []iot.JobID{"window closes", "end", "starts later", "ends later"})
		j := read(f, func(r store.Reader) (*iot.Job, error) { return r.JobByName("end") })
		j.Phase, j.DueAt = iot.PhaseNone, 0
		f.update(func(tx store.Tx) error { return tx.SaveJob(j) })
		f.equal(due(t0+99), []iot.JobID{"window closes", "starts later", "ends later"})
		f.update(func(tx store.Tx) error { return tx.HastenJobs(t0 + 15) })
		f.equal(read(f, store.Reader.NextDue), t0+10) // what is due already, and what waits for its time, stays
		f.update(func(tx store.Tx) error { return tx.HastenJobs(t0 + 5) })
		f.equal(due(t0+5), []iot.JobID{"window closes"})
		f.equal(due(t0+99), []iot.JobID{"window closes", "starts later", "ends later"})
	}},
	{"cannot contradict the status", func(f *fixture) {
		for _, bad := range []func(j *iot.Job){
			func(j *iot.Job) { j.DueAt = -1 },
			func(j *iot.Job) { j.Phase = iot.PhaseWindow },
			func(j *iot.Job) { j.Status, j.Phase, j.DueAt = iot.JobCanceled, iot.PhaseWindow, t0 },
			func(j *iot.Job) { j.Status, j.Phase, j.DueAt = iot.JobCanceled, iot.PhaseEnd, t0 },
			func(j *iot.Job) { j.Status, j.CompletedAt, j.DueAt = iot.JobCompleted, t0, t0 },
			func(j *iot.Job) { j.Phase, j.DueAt = "odd", t0 },
		} {
			j := newJob("j")
			bad(j)
			if f.Update(f.Context(), func(tx store.Tx) error { return tx.InsertJob(j) }) == nil {
				f.Errorf("stored %+v", j)
			}
		}
	}},
	{"and configurations may be absent", func(f *fixture) {
		for i, s := range []*iot.Schedule{nil, {}, {EndBehavior: iot.StopRollout}} {
			j := newJob(fmt.Sprint(i))
			j.Schedule = s
			f.update(func(tx store.Tx) error { return tx.InsertJob(j) })
			have := read(f, func(r store.Reader) (*iot.Job, error) { return r.JobByName(j.JobID) })
			f.equal(have.Schedule, s)
			f.equal(have.Config, iot.JobConfig{})
			f.equal(have.Pace, iot.Pace{})
			f.equal(have.Parameters == nil, true)
		}
	}},
	{"end, and the jobs that ended long ago are found", func(f *fixture) {
		add := func(name string, status iot.JobStatus, updated iot.Time, phase iot.Phase) {
			j := newJob(name)
			j.Status, j.UpdatedAt, j.Phase = status, updated, phase
			if phase != iot.PhaseNone {
				j.DueAt = t0
			}
			if status == iot.JobCompleted {
				j.CompletedAt = updated
			}
			f.update(func(tx store.Tx) error { return tx.InsertJob(j) })
		}
		add("completed", iot.JobCompleted, t0+3, iot.PhaseNone)
		add("canceled", iot.JobCanceled, t0+1, iot.PhaseNone)
		add("being canceled", iot.JobCanceled, t0+1, iot.PhaseCancel)
		add("being deleted", iot.JobDeletionInProgress, t0+1, iot.PhaseDelete)
		add("active", iot.JobInProgress, t0+1, iot.PhaseNone)
		add("scheduled", iot.JobScheduled, t0+1, iot.PhaseNone)
		add("same time", iot.JobCompleted, t0+3, iot.PhaseNone)
		add("later", iot.JobCompleted, t0+9, iot.PhaseNone)
		ended := func(before iot.Time, limit int) []iot.JobID {
			return names(read(f, func(r store.Reader) ([]*iot.Job, error) { return r.EndedJobs(before, limit) }), jobName)
		}
		f.equal(ended(t0+1, 10), []iot.JobID{})
		f.equal(ended(t0+9, 10), []iot.JobID{"canceled", "completed", "same time"})
		f.equal(ended(t0+9, 2), []iot.JobID{"canceled", "completed"})
		f.equal(read(f, store.Reader.CountActive), 2)
		f.equal(read(f, store.Reader.CountConcurrent), 1) // "being canceled"
	}},
}

var templates = []testCase{
	{"are kept as they are", func(f *fixture) {
		full := &iot.Template{
			TemplateID: "t", Description: "d", Document: `{"a": "ä"}`, DocumentSource: "https://s3/x", CreatedAt: t0,
			Config: iot.JobConfig{
				Presigned: &iot.PresignedURLConfig{RoleARN: "role", ExpiresInSec: 60}, Rollout: &iot.RolloutConfig{MaximumPerMinute: 5},
				Abort: []iot.AbortCriterion{{Failure: iot.FailureFailed, ThresholdHundredths: 10000, MinExecuted: 1}}, TimeoutMinutes: 3,
				Retry: []iot.RetryCriterion{{Failure: iot.FailureAll, Retries: 0}},
			},
			Windows: []iot.Window{{Cron: "cron(0 1 * * ? *)", Minutes: 60}}, PackageVersions: []string{"p"},
		}
		least := &iot.Template{TemplateID: "least", Description: "l", Document: "{}", CreatedAt: t0}
		f.update(func(tx store.Tx) error {
			f.must(tx.InsertTemplate(full))
			return tx.InsertTemplate(least)
		})
		if full.ID <= 0 || least.ID <= full.ID {
			f.Fatalf("ids %d, %d", full.ID, least.ID)
		}
		f.reopen()
		for _, want := range []*iot.Template{full, least} {
			have := read(f, func(r store.Reader) (*iot.Template, error) { return r.TemplateByID(want.TemplateID) })
			f.equal(have, want)
		}
		f.view(func(r store.Reader) error {
			_, err := r.TemplateByID("T")
			f.fails(store.ErrNotFound, err)
			return nil
		})
		f.refused(store.ErrExists, func(tx store.Tx) error { return tx.InsertTemplate(&iot.Template{TemplateID: "t"}) })
	}},
	{"are listed from the newest, without documents", func(f *fixture) {
		var want []string
		for i := range 5 {
			t := &iot.Template{TemplateID: awkward[i], Document: "{}", CreatedAt: t0}
			f.update(func(tx store.Tx) error { return tx.InsertTemplate(t) })
			want = append(want, t.TemplateID)
		}
		slices.Reverse(want)
		for limit := 1; limit <= len(want)+1; limit++ {
			var have []string
			for before := int64(0); ; {
				page := read(f, func(r store.Reader) ([]*iot.Template, error) { return r.Templates(before, limit) })
				for _, t := range page {
					have = append(have, t.TemplateID)
					f.equal(t.Document, "")
				}
				if len(page) < limit {
					break
				}
				before = page[len(page)-1].ID
			}
			f.equal(have, want)
		}
		f.equal(read(f, store.Reader.CountTemplates), 5)
	}},
	{"can be deleted and named again", func(f *fixture) {
		t := &iot.Template{TemplateID: "t", CreatedAt: t0}
		f.update(func(tx store.Tx) error { return tx.InsertTemplate(t) })
		f.update(func(tx store.Tx) error { return tx.DeleteTemplate(t) })
		f.equal(read(f, store.Reader.CountTemplates), 0)
		again := &iot.Template{TemplateID: "t", CreatedAt: t0}
		f.update(func(tx store.Tx) error {
			f.must(tx.DeleteTemplate(t)) // absent by now
			return tx.InsertTemplate(again)
		})
		if again.ID <= t.ID {
			f.Fatalf("id %d after %d", again.ID, t.ID)
		}
	}},
}
