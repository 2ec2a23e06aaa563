package storetest

import (
	"drover/internal/iot"
	"drover/internal/store"
)

var downloads = []testCase{
	{"are summed up by job, each device once", func(f *fixture) {
		a, b := f.job("a"), f.job("b")
		of := func(j *iot.Job) iot.Downloads {
			return read(f, func(r store.Reader) (iot.Downloads, error) { return r.Downloads(j.ID) })
		}
		f.equal(of(a), iot.Downloads{})
		f.update(func(tx store.Tx) error { return tx.AddDownloads(a.ID, nil) })
		f.equal(of(a), iot.Downloads{})
		f.update(func(tx store.Tx) error {
			f.must(tx.AddDownloads(b.ID, []iot.Download{{Thing: "one", Bytes: 1 << 40, Requests: 1}}))
			return tx.AddDownloads(a.ID, []iot.Download{
				{Thing: "one", Bytes: 10, Requests: 1}, {Thing: "two", Bytes: 20, Requests: 2, Completed: true},
				{Thing: "refused", Refused: 3}, {Bytes: 5, Requests: 1, Completed: true},
			})
		})
		f.equal(of(a), iot.Downloads{Bytes: 35, Requests: 4, Refused: 3, Started: 2, Completed: 1})
		f.reopen()
		f.update(func(tx store.Tx) error {
			return tx.AddDownloads(a.ID, []iot.Download{
				{Thing: "one", Bytes: 10, Requests: 1, Completed: true}, {Thing: "two", Bytes: 20, Requests: 1, Completed: true},
				{Thing: "ONE", Requests: 1},
			})
		})
		f.equal(of(a), iot.Downloads{Bytes: 65, Requests: 7, Refused: 3, Started: 3, Completed: 2})
		f.equal(of(b), iot.Downloads{Bytes: 1 << 40, Requests: 1, Started: 1})
	}},
	{"are forgotten in steps", func(f *fixture) {
		a, b := f.job("a"), f.job("b")
		for _, j := range []*iot.Job{a, b} {
			f.update(func(tx store.Tx) error {
				return tx.AddDownloads(j.ID, []iot.Download{{Thing: "1", Bytes: 1}, {Thing: "2", Bytes: 1}, {Thing: "3", Bytes: 1}})
			})
		}
		for _, want := range []int{2, 1, 0} {
			f.update(func(tx store.Tx) error {
				n, err := tx.DeleteDownloads(a.ID, 2)
				f.must(err)
				f.equal(n, want)
				return nil
			})
		}
		f.equal(read(f, func(r store.Reader) (iot.Downloads, error) { return r.Downloads(a.ID) }), iot.Downloads{})
		f.equal(read(f, func(r store.Reader) (iot.Downloads, error) { return r.Downloads(b.ID) }), iot.Downloads{Bytes: 3, Started: 3})
		f.update(func(tx store.Tx) error { // nothing is left that would be counted already
			return tx.AddDownloads(a.ID, []iot.Download{{Thing: "1", Bytes: 1}})
		})
		f.equal(read(f, func(r store.Reader) (iot.Downloads, error) { return r.Downloads(a.ID) }), iot.Downloads{Bytes: 1, Started: 1})
	}},
}
