package storetest

import (
	"context"
	"errors"
	"sync"

	"drover/internal/iot"
	"drover/internal/store"
)

var transactions = []testCase{
	{"update reads its own writes", func(f *fixture) {
		f.update(func(tx store.Tx) error {
			if err := tx.InsertThings([]*iot.Thing{newThing("a")}); err != nil {
				return err
			}
			_, err := tx.ThingByName("a")
			return err
		})
	}},
	{"an error rolls back and is returned as it is", func(f *fixture) {
		called := false
		f.OnCommit(func([]iot.Record) { called = true })
		want := errors.New("no")
		err := f.Update(f.Context(), func(tx store.Tx) error {
			tx.AfterCommit(func() { called = true })
			f.must(tx.InsertThings([]*iot.Thing{newThing("a")}))
			f.must(tx.PutTags("arn", []iot.Tag{{Key: "k"}}))
			f.must(tx.Append(iot.Record{Kind: iot.ThingCreated}))
			return want
		})
		if err != want {
			f.Fatalf("got %v", err)
		}
		if called {
			f.Fatal("something left a transaction that was rolled back")
		}
		f.view(func(r store.Reader) error {
			_, err := r.ThingByName("a")
			f.fails(store.ErrNotFound, err)
			tags, err := r.Tags("arn")
			f.must(err)
			f.equal(len(tags), 0)
			records, err := r.Records(0, 0, 10)
			f.equal(len(records), 0)
			return err
		})
	}},
	{"a panic rolls back and goes on", func(f *fixture) {
		func() {
			defer func() { f.equal(recover(), "oh") }()
			f.must(f.Update(f.Context(), func(tx store.Tx) error {
				f.must(tx.InsertThings([]*iot.Thing{newThing("a")}))
				panic("oh")
			}))
		}()
		f.things("a") // would exist, or the writer be locked
	}},
	{"a transaction with a failed write is not committed", func(f *fixture) {
		f.things("b")
		f.refused(store.ErrExists, func(tx store.Tx) error {
			f.fails(store.ErrExists, tx.InsertThings([]*iot.Thing{newThing("a"), newThing("b"), newThing("c")}))
			return nil
		})
		found := read(f, func(r store.Reader) (map[iot.ThingName]*iot.Thing, error) {
			return r.ThingsByName([]iot.ThingName{"a", "b", "c"})
		})
		f.equal(len(found), 1)
	}},
	{"a view is a snapshot", func(f *fixture) {
		f.things("a")
		f.view(func(r store.Reader) error {
			_, err := r.ThingByName("a")
			f.must(err)
			f.things("b")
			_, err = r.ThingByName("b")
			f.fails(store.ErrNotFound, err)
			return nil
		})
	}},
	{"a view does not see what is not committed", func(f *fixture) {
		f.update(func(tx store.Tx) error {
			f.must(tx.InsertThings([]*iot.Thing{newThing("a")}))
			return f.View(f.Context(), func(r store.Reader) error {
				_, err := r.ThingByName("a")
				f.fails(store.ErrNotFound, err)
				return nil
			})
		})
	}},
	{"an error of a view is returned as it is", func(f *fixture) {
		want := errors.New("no")
		if err := f.View(f.Context(), func(store.Reader) error { return want }); err != want {
			f.Fatalf("got %v", err)
		}
	}},
	{"a canceled context does not start a transaction", func(f *fixture) {
		ctx, cancel := context.WithCancel(f.Context())
		cancel()
		f.fails(context.Canceled, f.Update(ctx, func(store.Tx) error { panic("started") }))
		f.fails(context.Canceled, f.View(ctx, func(store.Reader) error { panic("started") }))
	}},
	{"a context canceled in the queue gives up", func(f *fixture) {
		ctx, cancel := context.WithCancel(f.Context())
		f.update(func(store.Tx) error {
			waiting := make(chan error)
			go func() { waiting <- f.Update(ctx, func(store.Tx) error { panic("started") }) }()
			cancel()
			f.fails(context.Canceled, <-waiting)
			return nil
		})
	}},
	{"a context canceled inside does not matter", func(f *fixture) {
		ctx, cancel := context.WithCancel(f.Context())
		f.must(f.Update(ctx, func(tx store.Tx) error {
			cancel()
			return tx.InsertThings([]*iot.Thing{newThing("a")})
		}))
		read(f, func(r store.Reader) (*iot.Thing, error) { return r.ThingByName("a") })
	}},
	{"updates are serial and lose nothing", func(f *fixture) {
		thing := f.things("a")[0]
		var records []int64
		f.OnCommit(func(rs []iot.Record) {
			for _, r := range rs {
				records = append(records, r.ID)
			}
		})
		const workers, rounds = 8, 20
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for range rounds {
					err := f.Update(f.Context(), func(tx store.Tx) error {
						have, err := tx.ThingByName(thing.Name)
						if err != nil {
							return err
						}
						have.Version++
						if err := tx.Append(iot.Record{Kind: iot.ThingUpdated}); err != nil {
							return err
						}
						return tx.SaveThings([]*iot.Thing{have})
					})
					if err != nil {
						f.Error(err)
					}
					err = f.View(f.Context(), func(r store.Reader) error {
						_, err := r.ThingByName(thing.Name)
						return err
					})
					if err != nil {
						f.Error(err)
					}
				}
			})
		}
		wg.Wait()
		have := read(f, func(r store.Reader) (*iot.Thing, error) { return r.ThingByName(thing.Name) })
		f.equal(have.Version, int64(1+workers*rounds))
		f.equal(len(records), workers*rounds)
		for i, id := range records {
			if id <= 0 || i > 0 && id <= records[i-1] {
				f.Fatalf("record %d of the commits has the id %d", i, id)
			}
		}
	}},
	{"sequence numbers are taken once", func(f *fixture) {
		last := int64(0)
		take := func(tx store.Tx, n int) {
			first, err := tx.Sequence(n)
			f.must(err)
			if first <= last {
				f.Fatalf("got %d after %d", first, last)
			}
			last = first + int64(n) - 1
		}
		f.update(func(tx store.Tx) error {
			take(tx, 1)
			take(tx, 1000)
			take(tx, 1)
			return nil
		})
		no := errors.New("no")
		f.refused(no, func(tx store.Tx) error {
			take(tx, 5)
			return no
		})
		f.update(func(tx store.Tx) error {
			take(tx, 1)
			return nil
		})
		f.reopen()
		f.update(func(tx store.Tx) error {
			take(tx, 1)
			return nil
		})
	}},
	{"everything survives closing", func(f *fixture) {
		thing := f.things("a")[0]
		j := f.job("j", iot.Target{ARN: "arn", ThingID: thing.ID})
		e := f.execution(j, thing, 1)
		f.insert(e)
		f.update(func(tx store.Tx) error {
			f.must(tx.SaveQueues([]iot.Queue{{ThingID: thing.ID, Thing: thing.Name, Entries: []iot.Execution{e}}}))
			return tx.Append(iot.Record{At: t0, Kind: iot.ExecutionChanged, JobID: e.JobID, Execution: &e})
		})
		f.reopen()
		f.view(func(r store.Reader) error {
			have, err := r.ThingByName("a")
			f.must(err)
			f.equal(have, thing)
			q, err := r.Queues([]iot.ThingName{"a"})
			f.must(err)
			f.equal(q[0].Entries, []iot.Execution{e})
			x, err := r.Execution(j.ID, thing.ID, 1)
			f.must(err)
			f.equal(x, e)
			records, err := r.Records(0, 0, 10)
			f.equal(len(records), 1)
			return err
		})
	}},
	{"a closed store refuses", func(f *fixture) {
		f.must(f.Close())
		if f.Update(f.Context(), func(store.Tx) error { return nil }) == nil {
			f.Error("Update after Close")
		}
		if f.View(f.Context(), func(store.Reader) error { return nil }) == nil {
			f.Error("View after Close")
		}
		f.must(f.Close())
	}},
	{"close waits for what runs", func(f *fixture) {
		closing := make(chan error, 1)
		f.update(func(tx store.Tx) error {
			go func() { closing <- f.Close() }()
			return tx.InsertThings([]*iot.Thing{newThing("a")})
		})
		f.must(<-closing)
		f.reopen()
		read(f, func(r store.Reader) (*iot.Thing, error) { return r.ThingByName("a") })
	}},
}

// fails checks that err is the wanted one.
func (f *fixture) fails(want, err error) {
	f.Helper()
	if !errors.Is(err, want) {
		f.Fatalf("got error %v, want %v", err, want)
	}
}
