package storetest

import (
	"fmt"
	"slices"

	"drover/internal/iot"
	"drover/internal/store"
)

func jobName(j *iot.Job) iot.JobID { return j.JobID }

var jobs = []testCase{
	{"are kept as they are", func(f *fixture) {
		th, g := f.things("a")[0], f.group("g", 0)
		j := &iot.Job{
			JobID: "j", Status: iot.JobInProgress, Selection: iot.Continuous, Namespace: "ns",
			Targets:     []iot.Target{{ARN: "arn:g", GroupID: g.ID}, {ARN: "arn:a", ThingID: th.ID}},
			Description: "d", Comment: "c", ReasonCode: "r", ForceCanceled: true,
			Config: iot.JobConfig{
				Presigned:      &iot.PresignedURLConfig{RoleARN: "role", ExpiresInSec: 60},
				Rollout:        &iot.RolloutConfig{MaximumPerMinute: 7, Exponential: &iot.ExponentialRate{BasePerMinute: 1, FactorTenths: 11, NotifiedThings: 2, SucceededThings: 3}},
				Abort:          []iot.AbortCriterion{{Failure: iot.FailureAll, ThresholdHundredths: 1, MinExecuted: 2}},
				TimeoutMinutes: 10080,
				Retry:          []iot.RetryCriterion{{Failure: iot.FailureFailed, Retries: 10}},
			},
			Schedule: &iot.Schedule{
				Start: "2023-11-15 00:00", End: "2023-11-16 00:00", StartAt: t0 + 5, EndAt: t0 + 6, EndBehavior: iot.ForceCancel,
				Windows: []iot.Window{{Cron: "cron(0 0 * * ? *)", Minutes: 1430}},
			},
			PackageVersions: []string{"p1", "p2"}, TemplateARN: "arn:t", DocumentSource: "s3://b/k", Parameters: map[string]string{"k": "v", "ä": ""},
			CreatedAt: t0, UpdatedAt: t0 + 1, Phase: iot.PhaseRollout, DueAt: t0 + 2,
			Cursor: iot.Cursor{Target: 1, Group: g.ID, After: "a", Status: iot.Queued, Seq: 3}, Members: 77,
			Pace:   iot.Pace{Notified: 1, Step: 2, Began: t0, Minute: 3, Created: 4, Over: true},
			Counts: iot.Counts{0, 1, 2, 3, 4, 5, 6, 7, 8}, Executed: iot.Counts{iot.Succeeded: 9, iot.Failed: 10, iot.TimedOut: 11, iot.Rejected: 12},
			Document: `{"a": "ä"}`,
		}
		f.update(func(tx store.Tx) error { return tx.InsertJob(j) })
		least := f.job("least")
		if j.ID <= 0 || least.ID <= j.ID {
			f.Fatalf("ids %d, %d", j.ID, least.ID)
		}
		f.reopen()
		want, wantLeast := *j, *least
		want.Document, wantLeast.Document = "", ""
		f.view(func(r store.Reader) error {
			have, err := r.JobByName("j")
			f.must(err)
			f.equal(have, &want)
			byID, err := r.JobsByID([]int64{least.ID, 999, j.ID})
			f.must(err)
			f.equal(byID, map[int64]*iot.Job{j.ID: &want, least.ID: &wantLeast})
			document, err := r.JobDocument(j.ID)
			f.must(err)
			f.equal(document, j.Document)
			_, err = r.JobByName("J")
			f.fails(store.ErrNotFound, err)
			_, err = r.JobDocument(999)
			f.fails(store.ErrNotFound, err)
			return nil
		})
		f.refused(store.ErrExists, func(tx store.Tx) error { return tx.InsertJob(newJob("j")) })
	}},
	{"keep what changes", func(f *fixture) {
		g, h := f.group("g", 0), f.group("h", 0)
		j := f.job("j", iot.Target{ARN: "arn:g", GroupID: g.ID})
		f.update(func(tx store.Tx) error {
			_, err := tx.AddCounts([]store.CountDelta{{Job: j.ID, Delta: iot.Counts{iot.Queued: 3}}})
			return err
		})
		j.Targets = append(j.Targets, iot.Target{ARN: "arn:h", GroupID: h.ID})
		j.Status, j.Phase, j.DueAt = iot.JobCanceled, iot.PhaseCancel, t0+9
		j.Description, j.Comment, j.ReasonCode, j.ForceCanceled = "d", "c", "r", true
		j.Config = iot.JobConfig{Presigned: &iot.PresignedURLConfig{RoleARN: "role"}, TimeoutMinutes: 5}
		j.Pace = iot.Pace{Notified: 5, Began: t0}
		j.UpdatedAt, j.CompletedAt, j.Cursor, j.Members = t0+1, t0+2, iot.Cursor{Target: 1}, 5
		f.update(func(tx store.Tx) error { return tx.SaveJob(j) })
		f.update(func(tx store.Tx) error { return tx.SaveJob(j) }) // targets are not doubled
		want := *j
		want.Document, want.Counts = "", iot.Counts{iot.Queued: 3}
		f.equal(read(f, func(r store.Reader) (*iot.Job, error) { return r.JobByName("j") }), &want)
		f.refused(store.ErrNotFound, func(tx store.Tx) error {
			absent := want
			absent.ID = 999
			return tx.SaveJob(&absent)
		})
	}},
	{"cannot contradict themselves", func(f *fixture) {
		for _, bad := range []func(j *iot.Job){
			func(j *iot.Job) { j.Status = "ODD" },
			func(j *iot.Job) { j.Status = iot.JobCompleted },
			func(j *iot.Job) { j.CompletedAt = t0 },
			func(j *iot.Job) { j.Phase = iot.PhaseRollout },
			func(j *iot.Job) { j.Phase, j.DueAt = iot.PhaseDelete, t0 },
			func(j *iot.Job) { j.Phase, j.DueAt = iot.PhaseCancel, t0 },
			func(j *iot.Job) { j.Selection = "" },
		} {
			j := newJob("j")
			bad(j)
			if f.Update(f.Context(), func(tx store.Tx) error { return tx.InsertJob(j) }) == nil {
				f.Errorf("stored %+v", j)
			}
		}
	}},
	{"count by deltas", func(f *fixture) {
		j, k := f.job("j"), f.job("k")
		f.update(func(tx store.Tx) error {
			counts, err := tx.AddCounts([]store.CountDelta{
				{Job: k.ID, Delta: iot.Counts{iot.Queued: 5}},
				{Job: j.ID, Delta: iot.Counts{iot.Queued: 2, iot.Canceled: 1}, Executed: iot.Counts{iot.TimedOut: 4}},
			})
			f.must(err)
			f.equal(counts, []store.JobCounts{
				{Counts: iot.Counts{iot.Queued: 5}},
				{Counts: iot.Counts{iot.Queued: 2, iot.Canceled: 1}, Executed: iot.Counts{iot.TimedOut: 4}},
			})
			counts, err = tx.AddCounts([]store.CountDelta{{Job: k.ID, Delta: iot.Counts{iot.Queued: -1, iot.InProgress: 1}}})
			f.equal(counts, []store.JobCounts{{Counts: iot.Counts{iot.Queued: 4, iot.InProgress: 1}}})
			return err
		})
		f.equal(read(f, func(r store.Reader) (*iot.Job, error) { return r.JobByName("k") }).Counts, iot.Counts{iot.Queued: 4, iot.InProgress: 1})
		f.refused(store.ErrNotFound, func(tx store.Tx) error {
			_, err := tx.AddCounts([]store.CountDelta{{Job: 999}})
			return err
		})
		for _, bad := range []store.CountDelta{
			{Job: j.ID, Delta: iot.Counts{iot.Failed: -1}},
			{Job: j.ID, Executed: iot.Counts{iot.Failed: -1}},
		} {
			if f.Update(f.Context(), func(tx store.Tx) error {
				_, err := tx.AddCounts([]store.CountDelta{bad})
				return err
			}) == nil {
				f.Errorf("a count below zero: %+v", bad)
			}
		}
	}},
	{"are summed up by id", func(f *fixture) {
		var want []store.JobTotal
		for i, status := range iot.JobStatuses() {
			j := newJob(string(status))
			if j.Status = status; status == iot.JobCompleted {
				j.CompletedAt = t0
			} else if status == iot.JobDeletionInProgress {
				j.Phase, j.DueAt = iot.PhaseDelete, t0
			}
			counts := iot.Counts{iot.Queued: int64(i), iot.Canceled: 7}
			f.update(func(tx store.Tx) error {
				f.must(tx.InsertJob(j))
				_, err := tx.AddCounts([]store.CountDelta{{Job: j.ID, Delta: counts}})
				return err
			})
			want = append(want, store.JobTotal{ID: j.ID, Status: status, Counts: counts})
		}
		page := func(after int64, limit int) []store.JobTotal {
			return read(f, func(r store.Reader) ([]store.JobTotal, error) { return r.JobTotals(after, limit) })
		}
		f.equal(page(0, 3), want[:3])
		f.equal(page(want[2].ID, 3), want[3:])
		f.equal(len(page(want[4].ID, 3)), 0)
	}},
	{"count what has been executed apart from the rest", func(f *fixture) {
		j := f.job("j")
		f.update(func(tx store.Tx) error {
			// A thing fails and is tried again: it is queued, and stays among the failed
			// until the retry ends. What cannot be executed is not kept.
			counts, err := tx.AddCounts([]store.CountDelta{{
				Job: j.ID, Delta: iot.Counts{iot.Queued: 1},
				Executed: iot.Counts{iot.NoStatus: -1, iot.Failed: 1, iot.Queued: 7, iot.Canceled: 7},
			}})
			f.must(err)
			f.equal(counts, []store.JobCounts{{Counts: iot.Counts{iot.Queued: 1}, Executed: iot.Counts{iot.Failed: 1}}})
			counts, err = tx.AddCounts([]store.CountDelta{{Job: j.ID, Executed: iot.Counts{iot.Failed: -1, iot.Rejected: 1}}})
			f.equal(counts, []store.JobCounts{{Counts: iot.Counts{iot.Queued: 1}, Executed: iot.Counts{iot.Rejected: 1}}})
			return err
		})
		have := read(f, func(r store.Reader) (*iot.Job, error) { return r.JobByName("j") })
		f.equal(have.Executed, iot.Counts{iot.Rejected: 1})
		have.Executed = iot.Counts{iot.Succeeded: 3} // SaveJob does not look at it
		f.update(func(tx store.Tx) error { return tx.SaveJob(have) })
		f.equal(read(f, func(r store.Reader) (*iot.Job, error) { return r.JobByName("j") }).Executed, iot.Counts{iot.Rejected: 1})
	}},
	{"are listed by status, the newest first", func(f *fixture) {
		// In the order of iot.JobStatuses, each with two jobs.
		var want []iot.JobID
		for _, status := range iot.JobStatuses() {
			for i := range 2 {
				j := newJob(fmt.Sprintf("%s-%d", status, i))
				if j.Status = status; status == iot.JobCompleted {
					j.CompletedAt = t0
				} else if status == iot.JobDeletionInProgress {
					j.Phase, j.DueAt = iot.PhaseDelete, t0
				}
				f.update(func(tx store.Tx) error { return tx.InsertJob(j) })
			}
			want = append(want, iot.JobID(status+"-1"), iot.JobID(status+"-0"))
		}
		for limit := 1; limit <= len(want)+1; limit++ {
			var have []iot.JobID
			for after := (store.JobKey{}); ; {
				page := read(f, func(r store.Reader) ([]*iot.Job, error) { return r.Jobs(store.JobFilter{}, after, limit) })
				if have = append(have, names(page, jobName)...); len(page) < limit {
					break
				}
				last := page[len(page)-1]
				after = store.JobKey{Status: last.Status, ID: last.ID}
			}
			f.equal(have, want)
		}
		f.view(func(r store.Reader) error {
			for _, status := range iot.JobStatuses() {
				n, err := r.CountJobs(status)
				f.must(err)
				f.equal(n, 2)
				list, err := r.Jobs(store.JobFilter{Status: status}, store.JobKey{}, 10)
				f.must(err)
				f.equal(names(list, jobName), []iot.JobID{iot.JobID(status + "-1"), iot.JobID(status + "-0")})
				list, err = r.Jobs(store.JobFilter{Status: status}, store.JobKey{Status: status, ID: list[0].ID}, 10)
				f.must(err)
				f.equal(names(list, jobName), []iot.JobID{iot.JobID(status + "-0")})
			}
			return nil
		})
	}},
	{"are listed by what they are about", func(f *fixture) {
		g, h, ns, none := f.group("g", 0), f.group("h", 0), "ns", ""
		add := func(name, namespace string, s iot.Selection, targets ...iot.Target) {
			j := newJob(name, targets...)
			j.Namespace, j.Selection = namespace, s
			f.update(func(tx store.Tx) error { return tx.InsertJob(j) })
		}
		add("1", "", iot.Snapshot, iot.Target{ARN: "g", GroupID: g.ID}, iot.Target{ARN: "h", GroupID: h.ID})
		add("2", "ns", iot.Continuous, iot.Target{ARN: "g", GroupID: g.ID})
		add("3", "ns", iot.Snapshot, iot.Target{ARN: "a", ThingID: 999})
		for _, c := range []struct {
			filter store.JobFilter
			want   []iot.JobID
		}{
			{store.JobFilter{Group: g.ID}, []iot.JobID{"2", "1"}},
			{store.JobFilter{Group: h.ID}, []iot.JobID{"1"}},
			{store.JobFilter{Namespace: &ns}, []iot.JobID{"3", "2"}},
			{store.JobFilter{Namespace: &none}, []iot.JobID{"1"}},
			{store.JobFilter{Selection: iot.Snapshot}, []iot.JobID{"3", "1"}},
			{store.JobFilter{Selection: iot.Snapshot, Group: g.ID, Status: iot.JobInProgress}, []iot.JobID{"1"}},
			{store.JobFilter{Status: iot.JobCompleted}, []iot.JobID{}},
			{store.JobFilter{Group: 999}, []iot.JobID{}},
		} {
			list := read(f, func(r store.Reader) ([]*iot.Job, error) { return r.Jobs(c.filter, store.JobKey{}, 10) })
			f.equal(names(list, jobName), c.want)
		}
	}},
	{"are due when their time has come", func(f *fixture) {
		f.equal(read(f, store.Reader.NextDue), iot.Time(0))
		f.job("idle")
		for i, due := range []iot.Time{t0 + 30, t0 + 10, t0 + 20, t0 + 10} {
			j := newJob(fmt.Sprint(i))
			j.Phase, j.DueAt = iot.PhaseRollout, due
			f.update(func(tx store.Tx) error { return tx.InsertJob(j) })
		}
		due := func(now iot.Time, limit int) []iot.JobID {
			return names(read(f, func(r store.Reader) ([]*iot.Job, error) { return r.DueJobs(now, limit) }), jobName)
		}
		f.equal(read(f, store.Reader.NextDue), t0+10)
		f.equal(due(t0+9, 10), []iot.JobID{})
		f.equal(due(t0+20, 10), []iot.JobID{"1", "3", "2"})
		f.equal(due(t0+99, 2), []iot.JobID{"1", "3"})
	}},
	{"wait for members of groups", func(f *fixture) {
		g, h := f.group("g", 0), f.group("h", 0)
		both := []iot.Target{{ARN: "g", GroupID: g.ID}, {ARN: "h", GroupID: h.ID}}
		add := func(name string, s iot.Selection, change func(j *iot.Job)) {
			j := newJob(name, both...)
			j.Selection, j.Phase, j.DueAt = s, iot.PhaseRollout, t0
			change(j)
			f.update(func(tx store.Tx) error { return tx.InsertJob(j) })
		}
		keep := func(*iot.Job) {}
		idle := func(j *iot.Job) { j.Phase, j.DueAt = iot.PhaseNone, 0 }
		canceled := func(j *iot.Job) { j.Phase, j.Status = iot.PhaseCancel, iot.JobCanceled }
		add("continuous", iot.Continuous, keep)
		add("continuous idle", iot.Continuous, idle)
		add("continuous canceled", iot.Continuous, canceled)
		add("snapshot", iot.Snapshot, keep)
		add("snapshot idle", iot.Snapshot, idle)
		add("snapshot canceled", iot.Snapshot, canceled)
		f.job("other", iot.Target{ARN: "a", ThingID: g.ID}) // a thing with the group's number
		f.view(func(r store.Reader) error {
			list, err := r.ContinuousJobs([]int64{h.ID, g.ID})
			f.must(err)
			f.equal(names(list, jobName), []iot.JobID{"continuous", "continuous idle"})
			f.equal(list[0].Targets, both)
			list, err = r.SnapshotRollouts([]int64{h.ID, g.ID})
			f.must(err)
			f.equal(names(list, jobName), []iot.JobID{"snapshot"})
			for _, groups := range [][]int64{nil, {999}, {0}} {
				list, err = r.ContinuousJobs(groups)
				f.must(err)
				f.equal(len(list), 0)
			}
			return nil
		})
	}},
	{"can be deleted and named again", func(f *fixture) {
		g := f.group("g", 0)
		j := f.job("j", iot.Target{ARN: "g", GroupID: g.ID})
		f.update(func(tx store.Tx) error { return tx.DeleteJob(j) })
		f.view(func(r store.Reader) error {
			_, err := r.JobByName("j")
			f.fails(store.ErrNotFound, err)
			_, err = r.JobDocument(j.ID)
			f.fails(store.ErrNotFound, err)
			return nil
		})
		again := f.job("j", iot.Target{ARN: "g", GroupID: g.ID})
		if again.ID <= j.ID {
			f.Fatalf("id %d after %d", again.ID, j.ID)
		}
		f.equal(again.Counts, iot.Counts{})
	}},
	{"pages stay the same while jobs are added", func(f *fixture) {
		for _, n := range []string{"1", "2", "3"} {
			f.job(n)
		}
		first := read(f, func(r store.Reader) ([]*iot.Job, error) { return r.Jobs(store.JobFilter{}, store.JobKey{}, 2) })
		f.job("4")
		rest := read(f, func(r store.Reader) ([]*iot.Job, error) {
			return r.Jobs(store.JobFilter{}, store.JobKey{Status: first[1].Status, ID: first[1].ID}, 2)
		})
		f.equal(names(slices.Concat(first, rest), jobName), []iot.JobID{"3", "2", "1"})
	}},
}
