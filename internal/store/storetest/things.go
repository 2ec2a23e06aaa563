package storetest

import (
	"slices"

	"drover/internal/iot"
	"drover/internal/store"
)

func thingName(t *iot.Thing) string { return string(t.Name) }

// allThings reads all pages of a query and returns the names, and how many pages.
func allThings(f *fixture, q store.ThingQuery, limit int) (all []string, pages int) {
	f.Helper()
	all = []string{}
	after, more := iot.ThingName(""), true
	for more {
		pages++
		f.view(func(r store.Reader) error {
			page, next, m, err := r.Things(q, after, limit)
			if len(page) > limit {
				f.Fatalf("a page of %d", len(page))
			}
			all = append(all, names(page, thingName)...)
			after, more = next, m
			return err
		})
	}
	return all, pages
}

var things = []testCase{
	{"are kept as they are", func(f *fixture) {
		full := &iot.Thing{Name: "full", UUID: "u1", Type: "t", Attributes: map[string]string{"a": "1", "b": ""}, Version: 3, CreatedAt: t0}
		least := &iot.Thing{Name: "least", UUID: "u2", Version: 1, CreatedAt: t0 + 1}
		f.update(func(tx store.Tx) error { return tx.InsertThings([]*iot.Thing{full, least}) })
		f.update(func(tx store.Tx) error { return tx.InsertThings(nil) })
		if full.ID <= 0 || least.ID <= 0 || full.ID == least.ID {
			f.Fatalf("ids %d, %d", full.ID, least.ID)
		}
		f.reopen()
		f.view(func(r store.Reader) error {
			for _, want := range []*iot.Thing{full, least} {
				have, err := r.ThingByName(want.Name)
				f.must(err)
				f.equal(have, want)
				id, err := r.ThingID(want.Name)
				f.must(err)
				f.equal(id, want.ID)
			}
			have, err := r.ThingsByName([]iot.ThingName{"least", "Full", "full", "full"})
			f.must(err)
			f.equal(have, map[iot.ThingName]*iot.Thing{"full": full, "least": least})
			_, err = r.ThingByName("nobody")
			f.fails(store.ErrNotFound, err)
			_, err = r.ThingID("nobody")
			f.fails(store.ErrNotFound, err)
			return nil
		})
		f.refused(store.ErrExists, func(tx store.Tx) error { return tx.InsertThings([]*iot.Thing{newThing("full")}) })
		f.refused(store.ErrExists, func(tx store.Tx) error { return tx.InsertThings([]*iot.Thing{newThing("twice"), newThing("twice")}) })
	}},
	{"keep what changes", func(f *fixture) {
		th := f.things("a", "b")
		th[0].Type, th[0].Attributes, th[0].Version = "t", nil, 2
		th[1].Attributes, th[1].Version = map[string]string{"x": "y"}, 9
		f.update(func(tx store.Tx) error { return tx.SaveThings(th) })
		f.view(func(r store.Reader) error {
			for _, want := range th {
				have, err := r.ThingByName(want.Name)
				f.must(err)
				f.equal(have, want)
			}
			return nil
		})
		f.refused(store.ErrNotFound, func(tx store.Tx) error { return tx.SaveThings([]*iot.Thing{{ID: 999, Version: 1}}) })
	}},
	{"are listed by name, bytewise", func(f *fixture) {
		f.things(scattered(awkward)...)
		for limit := 1; limit <= len(awkward)+1; limit++ {
			have, _ := allThings(f, store.ThingQuery{}, limit)
			f.equal(have, awkward)
		}
	}},
	{"are listed by type", func(f *fixture) {
		var list []*iot.Thing
		var want []string
		for i, n := range awkward {
			th := newThing(n)
			if i%3 == 0 {
				th.Type = "t"
				want = append(want, n)
			} else if i%3 == 1 {
				th.Type = "T"
			}
			list = append(list, th)
		}
		f.update(func(tx store.Tx) error { return tx.InsertThings(scattered(list)) })
		for limit := 1; limit <= len(want)+1; limit++ {
			have, _ := allThings(f, store.ThingQuery{Type: "t"}, limit)
			f.equal(have, want)
		}
		f.view(func(r store.Reader) error {
			for name, want := range map[string]bool{"t": true, "T": true, "x": false, "": false} {
				used, err := r.TypeInUse(name)
				f.must(err)
				f.equal(used, want)
			}
			return nil
		})
	}},
	{"are listed by attribute", func(f *fixture) {
		f.update(func(tx store.Tx) error {
			return tx.InsertThings([]*iot.Thing{
				{Name: "1", Version: 1, Attributes: map[string]string{"a": "x", "b": "y"}},
				{Name: "2", Version: 1, Attributes: map[string]string{"a": "xx"}, Type: "t"},
				{Name: "3", Version: 1, Attributes: map[string]string{"b": "x"}},
				{Name: "4", Version: 1},
				{Name: "5", Version: 1, Attributes: map[string]string{"a": "x"}, Type: "t"},
			})
		})
		x, none := "x", ""
		for _, c := range []struct {
			q    store.ThingQuery
			want []string
		}{
			{store.ThingQuery{AttributeName: "a"}, []string{"1", "2", "5"}},
			{store.ThingQuery{AttributeName: "a", AttributeValue: &x}, []string{"1", "5"}},
			{store.ThingQuery{AttributeName: "a", AttributeValue: &x, Prefix: true}, []string{"1", "2", "5"}},
			{store.ThingQuery{AttributeName: "a", AttributeValue: &x, Type: "t"}, []string{"5"}},
			{store.ThingQuery{AttributeName: "a", AttributeValue: &none}, []string{}},
			{store.ThingQuery{AttributeName: "A"}, []string{}},
		} {
			for limit := 1; limit <= 4; limit++ {
				have, _ := allThings(f, c.q, limit)
				f.equal(have, c.want)
			}
		}
	}},
	{"a search by attribute ends its page early and goes on", func(f *fixture) {
		all := numbered(25_000)
		f.things(all...)
		last := all[len(all)-1]
		have, pages := allThings(f, store.ThingQuery{AttributeName: "name", AttributeValue: &last}, 10)
		f.equal(have, []string{last})
		if pages < 2 {
			f.Fatal("one page looked at all the things")
		}
	}},
	{"pages stay the same while things are added", func(f *fixture) {
		f.things("b", "d", "f")
		var first []*iot.Thing
		var next iot.ThingName
		f.view(func(r store.Reader) (err error) {
			first, next, _, err = r.Things(store.ThingQuery{}, "", 2)
			return err
		})
		f.things("a", "c", "e")
		f.view(func(r store.Reader) error {
			rest, _, more, err := r.Things(store.ThingQuery{}, next, 10)
			f.equal(names(slices.Concat(first, rest), thingName), []string{"b", "d", "e", "f"})
			f.equal(more, false)
			return err
		})
	}},
	{"that are deleted are gone if nothing is kept of them", func(f *fixture) {
		th := f.things("a", "b")
		g := f.group("g", 0)
		f.update(func(tx store.Tx) error {
			_, err := tx.InsertMembers([]iot.Member{{Seq: 1, GroupID: g.ID, ThingID: th[0].ID, Thing: "a"}, {Seq: 2, GroupID: g.ID, ThingID: th[1].ID, Thing: "b"}})
			f.must(err)
			return tx.DeleteThing(th[0])
		})
		f.view(func(r store.Reader) error {
			_, err := r.ThingByName("a")
			f.fails(store.ErrNotFound, err)
			_, err = r.ThingID("a")
			f.fails(store.ErrNotFound, err)
			members, err := r.Members(g.ID, "", 10)
			f.must(err)
			f.equal(members, []iot.Member{{Seq: 2, GroupID: g.ID, ThingID: th[1].ID, Thing: "b"}})
			return nil
		})
		f.refused(store.ErrNotFound, func(tx store.Tx) error { return tx.DeleteThing(th[0]) })
		if again := f.things("a")[0]; again.ID <= th[1].ID {
			f.Fatalf("id %d was given again", again.ID)
		}
	}},
	{"that are deleted keep their id while executions are kept", func(f *fixture) {
		th, j := f.things("a")[0], f.job("j")
		e := f.execution(j, th, 1)
		e.Status = iot.Removed
		f.insert(e)
		f.update(func(tx store.Tx) error { return tx.DeleteThing(th) })
		f.view(func(r store.Reader) error {
			_, err := r.ThingByName("a")
			f.fails(store.ErrNotFound, err)
			found, err := r.ThingsByName([]iot.ThingName{"a"})
			f.must(err)
			f.equal(len(found), 0)
			id, err := r.ThingID("a")
			f.must(err)
			f.equal(id, th.ID)
			list, err := r.ExecutionsOfJob(j.ID, iot.NoStatus, 0, 10)
			f.must(err)
			f.equal(list, []iot.Execution{e})
			page, _, more, err := r.Things(store.ThingQuery{}, "", 10)
			f.equal(len(page), 0)
			f.equal(more, false)
			return err
		})
		f.refused(store.ErrNotFound, func(tx store.Tx) error { return tx.SaveThings([]*iot.Thing{th}) })

		again := &iot.Thing{Name: "a", UUID: "new", Type: "t", Version: 1, CreatedAt: t0 + 5}
		other := newThing("b")
		f.update(func(tx store.Tx) error { return tx.InsertThings([]*iot.Thing{other, again}) })
		f.equal(again.ID, th.ID)
		f.equal(read(f, func(r store.Reader) (*iot.Thing, error) { return r.ThingByName("a") }), again)
		f.refused(store.ErrExists, func(tx store.Tx) error { return tx.InsertThings([]*iot.Thing{newThing("a")}) })
	}},
	{"that are deleted are forgotten with their last execution", func(f *fixture) {
		th, j := f.things("a", "b")[0], f.job("j")
		first, second := f.execution(j, th, 1), f.execution(j, th, 2)
		first.Status, second.Status = iot.Removed, iot.Removed
		f.insert(first, second)
		f.update(func(tx store.Tx) error { return tx.DeleteThing(th) })
		id := func() (int64, error) {
			var id int64
			return id, f.View(f.Context(), func(r store.Reader) (err error) {
				id, err = r.ThingID("a")
				return err
			})
		}
		f.update(func(tx store.Tx) error { return tx.DeleteExecutions([]store.ExecutionKey{{Job: j.ID, Seq: first.Seq}}) })
		_, err := id()
		f.must(err)
		f.update(func(tx store.Tx) error {
			return tx.DeleteExecutions([]store.ExecutionKey{{Job: j.ID, Seq: second.Seq}})
		})
		_, err = id()
		f.fails(store.ErrNotFound, err)
		read(f, func(r store.Reader) (int64, error) { return r.ThingID("b") })
	}},
	{"have types", func(f *fixture) {
		full := &iot.ThingType{
			Name: "full", UUID: "u", Description: "d", Searchable: []string{"b", "a"},
			Propagating: []iot.PropagatingAttribute{{UserPropertyKey: "k", ThingAttribute: "a"}, {ConnectionAttribute: "iot:ClientId"}},
			CreatedAt:   t0, DeprecatedAt: t0 + 1,
		}
		least := &iot.ThingType{Name: "least", UUID: "v", CreatedAt: t0}
		f.update(func(tx store.Tx) error {
			f.must(tx.InsertThingType(full))
			return tx.InsertThingType(least)
		})
		if full.ID <= 0 || least.ID <= full.ID {
			f.Fatalf("ids %d, %d", full.ID, least.ID)
		}
		get := func(name string) *iot.ThingType {
			return read(f, func(r store.Reader) (*iot.ThingType, error) { return r.ThingTypeByName(name) })
		}
		f.equal(get("full"), full)
		f.equal(get("least"), least)
		least.Description, least.Searchable, least.Propagating, least.DeprecatedAt = "x", []string{"s"}, full.Propagating, t0+2
		f.update(func(tx store.Tx) error { return tx.SaveThingType(least) })
		f.equal(get("least"), least)
		f.refused(store.ErrExists, func(tx store.Tx) error { return tx.InsertThingType(&iot.ThingType{Name: "full"}) })
		f.update(func(tx store.Tx) error { return tx.DeleteThingType(full) })
		f.view(func(r store.Reader) error {
			_, err := r.ThingTypeByName("full")
			f.fails(store.ErrNotFound, err)
			return nil
		})
		f.refused(store.ErrNotFound, func(tx store.Tx) error { return tx.SaveThingType(full) })
	}},
	{"have types, listed by name, bytewise", func(f *fixture) {
		f.update(func(tx store.Tx) error {
			for _, n := range scattered(awkward) {
				f.must(tx.InsertThingType(&iot.ThingType{Name: n, UUID: n, CreatedAt: t0}))
			}
			return nil
		})
		var have []string
		for after := ""; ; {
			page := read(f, func(r store.Reader) ([]*iot.ThingType, error) { return r.ThingTypes(after, 4) })
			have = append(have, names(page, func(t *iot.ThingType) string { return t.Name })...)
			if len(page) < 4 {
				break
			}
			after = have[len(have)-1]
		}
		f.equal(have, awkward)
	}},
}
