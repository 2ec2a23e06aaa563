package storetest

import (
	"strings"

	"drover/internal/iot"
	"drover/internal/store"
)

var queues = []testCase{
	{"are returned in the order asked for", func(f *fixture) {
		th := f.things("a", "b", "c")
		j := f.job("j")
		e := f.execution(j, th[1], 1)
		f.update(func(tx store.Tx) error {
			return tx.SaveQueues([]iot.Queue{{ThingID: th[1].ID, Thing: "b", Entries: []iot.Execution{e}}})
		})
		f.view(func(r store.Reader) error {
			have, err := r.Queues([]iot.ThingName{"c", "b", "nobody", "b", "a"})
			f.must(err)
			b := iot.Queue{ThingID: th[1].ID, Thing: "b", Entries: []iot.Execution{e}}
			f.equal(have, []iot.Queue{{ThingID: th[2].ID, Thing: "c"}, b, {Thing: "nobody"}, b, {ThingID: th[0].ID, Thing: "a"}})
			have, err = r.QueuesByID([]int64{th[1].ID, th[0].ID, th[1].ID})
			f.must(err)
			f.equal(have, []iot.Queue{b, {ThingID: th[0].ID, Thing: "a"}, b})
			have, err = r.QueuesOf([]iot.Member{{ThingID: th[1].ID, Thing: "b"}, {ThingID: th[0].ID, Thing: "a"}, {ThingID: th[1].ID, Thing: "b"}})
			f.equal(have, []iot.Queue{b, {ThingID: th[0].ID, Thing: "a"}, b})
			return err
		})
	}},
	{"of nobody", func(f *fixture) {
		f.view(func(r store.Reader) error {
			have, err := r.Queues(nil)
			f.must(err)
			f.equal(len(have), 0)
			have, err = r.QueuesByID(nil)
			f.must(err)
			f.equal(len(have), 0)
			have, err = r.QueuesOf(nil)
			f.equal(len(have), 0)
			return err
		})
	}},
	{"keep everything of their entries", func(f *fixture) {
		th := f.things("a")[0]
		entries := []iot.Execution{
			{Seq: 3, Job: 5, JobID: "first", Number: 1, Status: iot.Queued, Version: 1, QueuedAt: t0, UpdatedAt: t0},
			{
				Seq: 1 << 40, Job: 6, JobID: iot.JobID(strings.Repeat("j", 64)), Namespace: "ns", Number: 3, RetryAttempt: 2,
				Status: iot.InProgress, Version: 1 << 20, ForceCanceled: true, QueuedAt: t0, StartedAt: t0 + 5, UpdatedAt: t0 + 9,
				Details: iot.Details{"z": "1", "a": strings.Repeat("ä", 1024), "m:_-": "\t\r\n"},
			},
		}
		for i := range entries {
			entries[i].ThingID, entries[i].Thing = th.ID, th.Name
		}
		f.update(func(tx store.Tx) error {
			f.must(tx.SaveQueues([]iot.Queue{{ThingID: th.ID, Thing: th.Name, Entries: entries[:1]}}))
			f.must(tx.SaveQueues([]iot.Queue{{ThingID: th.ID, Thing: th.Name, Entries: entries}}))
			have, err := tx.Queues([]iot.ThingName{th.Name})
			f.equal(have[0].Entries, entries)
			return err
		})
		f.reopen()
		have := read(f, func(r store.Reader) ([]iot.Queue, error) { return r.Queues([]iot.ThingName{th.Name}) })
		f.equal(have[0].Entries, entries)
	}},
	{"can be emptied and filled again", func(f *fixture) {
		th := f.things("a")[0]
		full := iot.Queue{ThingID: th.ID, Thing: th.Name, Entries: []iot.Execution{f.execution(f.job("j"), th, 1)}}
		empty := iot.Queue{ThingID: th.ID, Thing: th.Name}
		for _, q := range []iot.Queue{empty, full, empty, full} {
			f.update(func(tx store.Tx) error { return tx.SaveQueues([]iot.Queue{q}) })
			have := read(f, func(r store.Reader) ([]iot.Queue, error) { return r.Queues([]iot.ThingName{"a"}) })
			f.equal(have, []iot.Queue{q})
		}
	}},
	{"are saved in any number", func(f *fixture) {
		th := f.things(numbered(2100)...)
		j := f.job("j")
		queues := make([]iot.Queue, len(th))
		for i, t := range th {
			queues[i] = iot.Queue{ThingID: t.ID, Thing: t.Name, Entries: []iot.Execution{f.execution(j, t, 1)}}
		}
		for _, n := range []int{1, 31, 32, 33, 1000, 2100} {
			saved := names(queues[:n], func(q iot.Queue) iot.Queue {
				q.Entries = []iot.Execution{q.Entries[0]}
				q.Entries[0].Version += int64(n)
				return q
			})
			f.update(func(tx store.Tx) error { return tx.SaveQueues(saved) })
			have := read(f, func(r store.Reader) ([]iot.Queue, error) {
				return r.Queues(names(saved, func(q iot.Queue) iot.ThingName { return q.Thing }))
			})
			f.equal(have, saved)
		}
	}},
	{"refuse what is not pending and who is not registered", func(f *fixture) {
		th := f.things("a")[0]
		ended := f.execution(f.job("j"), th, 1)
		ended.Status, ended.StartedAt = iot.Succeeded, t0
		for _, q := range []iot.Queue{{Thing: "nobody"}, {ThingID: th.ID, Thing: th.Name, Entries: []iot.Execution{ended}}} {
			if f.Update(f.Context(), func(tx store.Tx) error { return tx.SaveQueues([]iot.Queue{q}) }) == nil {
				f.Errorf("saved %+v", q)
			}
		}
	}},
	{"of a deleted thing are found by id only", func(f *fixture) {
		th := f.things("a")[0]
		e := f.execution(f.job("j"), th, 1)
		e.Status = iot.Removed
		f.insert(e)
		f.update(func(tx store.Tx) error { return tx.DeleteThing(th) })
		f.view(func(r store.Reader) error {
			have, err := r.Queues([]iot.ThingName{"a"})
			f.must(err)
			f.equal(have, []iot.Queue{{Thing: "a"}})
			have, err = r.QueuesByID([]int64{th.ID})
			f.equal(have, []iot.Queue{{ThingID: th.ID, Thing: "a"}})
			return err
		})
	}},
}

var executions = []testCase{
	{"are found by number and as the latest", func(f *fixture) {
		th, j := f.things("a", "b"), f.job("j")
		first, second := f.execution(j, th[0], 1), f.execution(j, th[0], 2)
		first.Status = iot.Removed
		other := f.execution(j, th[1], 1)
		f.insert(first, second, other)
		f.view(func(r store.Reader) error {
			for _, c := range []struct {
				thing, number int64
				want          iot.Execution
			}{{th[0].ID, 1, first}, {th[0].ID, 2, second}, {th[0].ID, 0, second}, {th[1].ID, 0, other}} {
				have, err := r.Execution(j.ID, c.thing, c.number)
				f.must(err)
				f.equal(have, c.want)
			}
			_, err := r.Execution(j.ID, th[0].ID, 3)
			f.fails(store.ErrNotFound, err)
			_, err = r.Execution(j.ID+1, th[0].ID, 0)
			f.fails(store.ErrNotFound, err)
			latest, err := r.LatestExecutions(j.ID, []int64{th[0].ID, th[1].ID, 999, th[1].ID})
			f.equal(latest, map[int64]iot.Execution{th[0].ID: second, th[1].ID: other})
			return err
		})
	}},
	{"have numbers of their own", func(f *fixture) {
		th, j := f.things("a")[0], f.job("j")
		f.insert(f.execution(j, th, 1))
		f.refused(store.ErrExists, func(tx store.Tx) error {
			return tx.InsertExecutions([]iot.Execution{f.execution(j, th, 2), f.execution(j, th, 1)})
		})
		list := read(f, func(r store.Reader) ([]iot.Execution, error) { return r.ExecutionsOfJob(j.ID, iot.NoStatus, 0, 10) })
		f.equal(len(list), 1)
	}},
	{"of a job are listed in the order of creation, by status", func(f *fixture) {
		th, j, k := f.things("a", "b", "c", "d", "e"), f.job("j"), f.job("k")
		var all, failed []iot.Execution
		for i, t := range scattered(th) {
			e := f.execution(j, t, 1)
			if i%2 == 1 {
				e.Status, e.StartedAt = iot.Failed, t0+1
				failed = append(failed, e)
			}
			all = append(all, e)
			f.insert(e, f.execution(k, t, 1))
		}
		list := func(s iot.ExecutionStatus) []iot.Execution {
			var list []iot.Execution
			for after := int64(0); ; {
				page := read(f, func(r store.Reader) ([]iot.Execution, error) { return r.ExecutionsOfJob(j.ID, s, after, 2) })
				if list = append(list, page...); len(page) < 2 {
					return list
				}
				after = page[1].Seq
			}
		}
		f.equal(list(iot.NoStatus), all)
		f.equal(list(iot.Failed), failed)
		f.equal(len(list(iot.TimedOut)), 0)
	}},
	{"of a thing are listed from the newest, filtered", func(f *fixture) {
		th := f.things("a", "b")
		var list []iot.Execution
		for i, ns := range []string{"", "ns", "", "ns", ""} {
			j := newJob("j" + string(rune('0'+i)))
			j.Namespace = ns
			f.update(func(tx store.Tx) error { return tx.InsertJob(j) })
			e := f.execution(j, th[0], 1)
			if i < 2 {
				e.Status = iot.Canceled
			}
			f.insert(e, f.execution(j, th[1], 1))
			list = append([]iot.Execution{e}, list...)
		}
		get := func(q store.ThingFilter, before int64, limit int) []iot.Execution {
			return read(f, func(r store.Reader) ([]iot.Execution, error) { return r.ExecutionsOfThing(th[0].ID, q, before, limit) })
		}
		ns, none := "ns", ""
		f.equal(get(store.ThingFilter{}, 0, 10), list)
		f.equal(get(store.ThingFilter{}, 0, 2), list[:2])
		f.equal(get(store.ThingFilter{}, list[1].Seq, 2), list[2:4])
		f.equal(get(store.ThingFilter{Status: iot.Canceled}, 0, 10), list[3:])
		f.equal(get(store.ThingFilter{Job: list[2].Job}, 0, 10), list[2:3])
		f.equal(get(store.ThingFilter{Namespace: &ns}, 0, 10), []iot.Execution{list[1], list[3]})
		f.equal(get(store.ThingFilter{Namespace: &none}, 0, 10), []iot.Execution{list[0], list[2], list[4]})
		f.equal(get(store.ThingFilter{Namespace: &ns, Status: iot.Canceled, Job: list[3].Job}, 0, 10), list[3:4])
		f.equal(len(get(store.ThingFilter{Status: iot.Failed}, 0, 10)), 0)
	}},
	{"pages stay the same while rows are added", func(f *fixture) {
		th, j := f.things("a", "b", "c", "d"), f.job("j")
		f.insert(f.execution(j, th[0], 1), f.execution(j, th[1], 1))
		page := read(f, func(r store.Reader) ([]iot.Execution, error) { return r.ExecutionsOfJob(j.ID, iot.NoStatus, 0, 1) })
		f.insert(f.execution(j, th[2], 1))
		rest := read(f, func(r store.Reader) ([]iot.Execution, error) {
			return r.ExecutionsOfJob(j.ID, iot.NoStatus, page[0].Seq, 10)
		})
		f.equal(names(rest, func(e iot.Execution) iot.ThingName { return e.Thing }), []iot.ThingName{"b", "c"})
	}},
	{"take what is newer from the queue", func(f *fixture) {
		th, j := f.things("a", "b"), f.job("j")
		e, other := f.execution(j, th[0], 1), f.execution(j, th[1], 1)
		e.Status, e.StartedAt = iot.InProgress, t0+1
		f.insert(e, other)
		progress := e
		progress.Version, progress.UpdatedAt, progress.Details = 5, t0+7, iot.Details{"at": "50%"}
		f.update(func(tx store.Tx) error {
			return tx.SaveQueues([]iot.Queue{
				{ThingID: th[0].ID, Thing: "a", Entries: []iot.Execution{progress}},
				{ThingID: th[1].ID, Thing: "b", Entries: []iot.Execution{other}},
			})
		})
		f.view(func(r store.Reader) error {
			have, err := r.Execution(j.ID, th[0].ID, 1)
			f.must(err)
			f.equal(have, progress)
			latest, err := r.LatestExecutions(j.ID, []int64{th[0].ID})
			f.must(err)
			f.equal(latest[th[0].ID], progress)
			list, err := r.ExecutionsOfJob(j.ID, iot.NoStatus, 0, 10)
			f.must(err)
			f.equal(list, []iot.Execution{progress, other})
			list, err = r.ExecutionsOfJob(j.ID, iot.InProgress, 0, 10)
			f.must(err)
			f.equal(list, []iot.Execution{progress})
			list, err = r.ExecutionsOfThing(th[0].ID, store.ThingFilter{}, 0, 10)
			f.equal(list, []iot.Execution{progress})
			return err
		})
	}},
	{"keep what changes with the status", func(f *fixture) {
		th, j := f.things("a")[0], f.job("j")
		e := f.execution(j, th, 1)
		f.insert(e)
		e.Status, e.Version, e.StartedAt, e.UpdatedAt, e.ForceCanceled = iot.Canceled, 4, t0+1, t0+2, true
		e.Details = iot.Details{"b": "2", "a": "1"}
		f.update(func(tx store.Tx) error { return tx.UpdateExecutions([]iot.Execution{e}) })
		have := read(f, func(r store.Reader) (iot.Execution, error) { return r.Execution(j.ID, th.ID, 0) })
		f.equal(have, e)
		e.Seq = 99
		f.refused(store.ErrNotFound, func(tx store.Tx) error { return tx.UpdateExecutions([]iot.Execution{e}) })
	}},
	{"cannot contradict themselves", func(f *fixture) {
		th, j := f.things("a")[0], f.job("j")
		for _, bad := range []func(e *iot.Execution){
			func(e *iot.Execution) { e.StartedAt = t0 },
			func(e *iot.Execution) { e.Status = iot.InProgress },
			func(e *iot.Execution) { e.Status = iot.Succeeded },
			func(e *iot.Execution) { e.Status = iot.NoStatus },
			func(e *iot.Execution) { e.Version = 0 },
			func(e *iot.Execution) { e.Number = 0 },
		} {
			e := f.execution(j, th, 1)
			bad(&e)
			if f.Update(f.Context(), func(tx store.Tx) error { return tx.InsertExecutions([]iot.Execution{e}) }) == nil {
				f.Errorf("stored %+v", e)
			}
		}
	}},
	{"can be deleted", func(f *fixture) {
		th, j := f.things("a", "b"), f.job("j")
		e, other := f.execution(j, th[0], 1), f.execution(j, th[1], 1)
		f.insert(e, other)
		f.equal(read(f, func(r store.Reader) (bool, error) { return r.HasExecutions(th[0].ID) }), true)
		f.update(func(tx store.Tx) error {
			return tx.DeleteExecutions([]store.ExecutionKey{{Job: j.ID, Seq: e.Seq}, {Job: j.ID, Seq: 999}, {Job: 999, Seq: other.Seq}})
		})
		f.equal(read(f, func(r store.Reader) (bool, error) { return r.HasExecutions(th[0].ID) }), false)
		f.equal(read(f, func(r store.Reader) (bool, error) { return r.HasExecutions(th[1].ID) }), true)
	}},
}
