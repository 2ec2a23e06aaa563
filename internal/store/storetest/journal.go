package storetest

import (
	"errors"

	"encoding/json"
	"slices"

	"drover/internal/iot"
	"drover/internal/store"
)

var journal = []testCase{
	{"records are read as they were appended", func(f *fixture) {
		e := iot.Execution{
			Seq: 7, Job: 8, JobID: "j", Namespace: "ns", ThingID: 9, Thing: "a", Number: 2, RetryAttempt: 1,
			Status: iot.Failed, Version: 3, Details: iot.Details{"b": "2", "a": "ä\n"}, ForceCanceled: true,
			QueuedAt: t0, StartedAt: t0 + 1, UpdatedAt: t0 + 2,
		}
		least := iot.Execution{Status: iot.Queued}
		records := []iot.Record{
			{At: t0, Kind: iot.ExecutionChanged, Actor: "thing:a", JobID: "j", Execution: &e, List: true, Next: true},
			{At: t0, Kind: iot.ExecutionDeleted, Actor: "key:K", Execution: &least},
			{At: t0 + 1, Kind: iot.ExecutionChanged, JobID: "j", Execution: &e, Next: true},
			{At: t0 + 1, Kind: iot.JobCreated, Actor: "drover", JobID: "j", Data: json.RawMessage(`{"jobId":"j"}`)},
			{At: t0 + 2, Kind: iot.EventsConfigured},
		}
		f.update(func(tx store.Tx) error { return tx.Append(records...) })
		have := read(f, func(r store.Reader) ([]iot.Record, error) { return r.Records(0, 0, 100) })
		for i := range records {
			records[i].ID = have[min(i, len(have)-1)].ID
		}
		f.equal(have, records)
	}},
	{"pages follow the position", func(f *fixture) {
		for range 3 {
			f.update(func(tx store.Tx) error {
				f.must(tx.Append())
				return tx.Append(iot.Record{Kind: iot.ThingCreated}, iot.Record{Kind: iot.ThingUpdated})
			})
		}
		all := read(f, func(r store.Reader) ([]iot.Record, error) { return r.Records(0, 0, 100) })
		f.equal(len(all), 6)
		var paged []iot.Record
		for after := int64(0); ; {
			page := read(f, func(r store.Reader) ([]iot.Record, error) { return r.Records(0, after, 4) })
			paged = append(paged, page...)
			if len(page) < 4 {
				break
			}
			after = page[3].ID
		}
		f.equal(paged, all)
	}},
	{"the hook gets the records of each commit with their positions", func(f *fixture) {
		var told [][]iot.Record
		f.OnCommit(func(rs []iot.Record) { told = append(told, slices.Clone(rs)) })
		pending := []iot.Execution{{Seq: 1, Status: iot.Queued}}
		f.update(func(tx store.Tx) error {
			f.must(tx.Append(iot.Record{Kind: iot.ThingCreated}))
			return tx.Append(iot.Record{Kind: iot.ExecutionChanged, Execution: &pending[0], List: true, Queue: pending}, iot.Record{Kind: iot.ThingUpdated})
		})
		f.update(func(tx store.Tx) error { return nil })
		f.update(func(tx store.Tx) error { return tx.Append(iot.Record{Kind: iot.ThingDeleted}) })
		f.equal(len(told), 3)
		f.equal(len(told[1]), 0)
		f.equal(names(told[0], func(r iot.Record) iot.Kind { return r.Kind }), []iot.Kind{iot.ThingCreated, iot.ExecutionChanged, iot.ThingUpdated})
		f.equal(told[0][1].Queue, pending) // not stored, but told
		stored := read(f, func(r store.Reader) ([]iot.Record, error) { return r.Records(0, 0, 10) })
		id := func(r iot.Record) int64 { return r.ID }
		ids := names(slices.Concat(told...), id)
		f.equal(names(stored, id), ids)
		if !slices.IsSorted(ids) || ids[0] < 1 || len(slices.Compact(ids)) != 4 {
			f.Fatalf("positions %v", ids)
		}
	}},
	{"what is done after the commit comes before the hook", func(f *fixture) {
		var order []string
		f.OnCommit(func(rs []iot.Record) { order = append(order, "hook") })
		f.update(func(tx store.Tx) error {
			tx.AfterCommit(func() { order = append(order, "first") })
			tx.AfterCommit(func() { order = append(order, "second") })
			order = append(order, "inside")
			return tx.Append(iot.Record{Kind: iot.ThingCreated})
		})
		f.equal(order, []string{"inside", "first", "second", "hook"})
	}},
	{"positions go on after a rollback and after closing", func(f *fixture) {
		appendOne := func(tx store.Tx) error { return tx.Append(iot.Record{Kind: iot.ThingCreated}) }
		f.update(appendOne)
		f.refused(store.ErrExists, func(tx store.Tx) error {
			f.must(appendOne(tx))
			return store.ErrExists
		})
		f.update(appendOne)
		f.reopen()
		f.update(appendOne)
		all := read(f, func(r store.Reader) ([]iot.Record, error) { return r.Records(0, 0, 10) })
		f.equal(len(all), 3)
		if all[0].ID >= all[1].ID || all[1].ID >= all[2].ID {
			f.Fatalf("positions %d %d %d", all[0].ID, all[1].ID, all[2].ID)
		}
	}},
	{"the published position is kept", func(f *fixture) {
		published := func() int64 {
			return read(f, func(r store.Reader) (int64, error) { return r.Published(f.Node()) })
		}
		f.equal(published(), int64(0))
		f.update(func(tx store.Tx) error { return tx.SetPublished(f.Node(), 41) })
		f.equal(published(), int64(41))
		f.refused(store.ErrNotFound, func(tx store.Tx) error { return tx.SetPublished(f.Node()+1, 41) })
	}},
	{"old records are forgotten, the oldest first, when they have been published", func(f *fixture) {
		for at := range 5 {
			f.update(func(tx store.Tx) error {
				return tx.Append(iot.Record{At: iot.Time(10 * (at + 1)), Kind: iot.ThingCreated})
			})
		}
		trim := func(before iot.Time, limit, want int) {
			f.T.Helper()
			f.update(func(tx store.Tx) error {
				n, err := tx.TrimJournal(before, limit)
				f.equal(n, want)
				return err
			})
		}
		left := func() []iot.Time {
			list := read(f, func(r store.Reader) ([]iot.Record, error) { return r.Records(0, 0, 10) })
			return names(list, func(r iot.Record) iot.Time { return r.At })
		}
		trim(100, 10, 0) // nothing is published
		f.update(func(tx store.Tx) error { return tx.SetPublished(f.Node(), 4) })
		trim(10, 10, 0) // nothing is so old
		trim(35, 2, 2)
		f.equal(left(), []iot.Time{30, 40, 50})
		trim(35, 2, 1)
		trim(100, 10, 1)
		f.equal(left(), []iot.Time{50})
		f.update(func(tx store.Tx) error { return tx.SetPublished(f.Node(), 5) })
		trim(100, 10, 0) // the latest
		f.update(func(tx store.Tx) error { return tx.Append(iot.Record{At: 60, Kind: iot.ThingCreated}) })
		trim(100, 10, 1)
		f.equal(left(), []iot.Time{60})
		// The clock was set back: what is young keeps what comes after it.
		f.update(func(tx store.Tx) error {
			f.must(tx.SetPublished(f.Node(), 7))
			return tx.Append(iot.Record{At: 5, Kind: iot.ThingCreated})
		})
		trim(60, 10, 0)
	}},
	{"records name their node", func(f *fixture) {
		count := func(node int64) int {
			return len(read(f, func(r store.Reader) ([]iot.Record, error) { return r.Records(node, 0, 10) }))
		}
		f.update(func(tx store.Tx) error {
			return tx.Append(iot.Record{Kind: iot.ThingCreated}, iot.Record{Kind: iot.ThingCreated})
		})
		f.equal(count(f.Node()), 2)
		f.equal(count(f.Node()+1), 0)
		f.equal(count(0), 2)
		f.equal(read(f, store.Reader.LastRecord), int64(2))
	}},
	{"announcements are for others", func(f *fixture) {
		f.update(func(tx store.Tx) error {
			f.must(tx.Announce("a"))
			return tx.Announce("b")
		})
		f.refused(store.ErrExists, func(tx store.Tx) error {
			f.must(tx.Announce("c"))
			return store.ErrExists
		})
		list := read(f, func(r store.Reader) ([]store.Announcement, error) { return r.Announcements(f.Node(), 10) })
		if f.Node() == store.FirstNode {
			f.equal(len(list), 0)
		} else {
			f.equal(names(list, func(a store.Announcement) string { return a.Text }), []string{"a", "b"})
			f.equal(list[0].Node, f.Node())
			f.equal(len(read(f, func(r store.Reader) ([]store.Announcement, error) { return r.Announcements(list[0].ID, 10) })), 1)
		}
		f.update(store.Tx.ForgetAnnouncements) // these are too young
		f.equal(len(read(f, func(r store.Reader) ([]store.Announcement, error) { return r.Announcements(0, 10) })), len(list))
	}},
	{"what nodes have agreed on stays, and can be changed", func(f *fixture) {
		f.update(func(tx store.Tx) error {
			_, err := tx.Agreement()
			f.equal(errors.Is(err, store.ErrNotFound), true)
			f.must(tx.SaveAgreement("a"))
			return tx.SaveAgreement("b")
		})
		f.reopen()
		f.equal(read(f, store.Reader.Agreement), "b")
	}},
	{"a node that lives is not taken over, not even by itself", func(f *fixture) {
		f.must(f.Hold(f.Context()))
		f.update(func(tx store.Tx) error {
			mine, err := tx.TakeOver(f.Node())
			f.equal(mine, false)
			return err
		})
		nodes := read(f, store.Reader.Nodes)
		own := nodes[len(nodes)-1]
		f.equal(own, store.Node{ID: f.Node(), Name: own.Name, Owner: f.Node()})
	}},
}
