package storetest

import (
	"drover/internal/iot"
	"drover/internal/store"
)

func groupName(g *iot.Group) string { return string(g.Name) }

func memberName(m iot.Member) string { return string(m.Thing) }

var groups = []testCase{
	{"dynamic ones are known by their queries", func(f *fixture) {
		make := func(name, query string) *iot.Group {
			g := &iot.Group{Name: iot.GroupName(name), UUID: name, Version: 1, CreatedAt: t0, Query: query}
			if query != "" {
				g.Status = iot.IndexBuilding
			}
			f.update(func(tx store.Tx) error { return tx.InsertGroup(g) })
			return g
		}
		z := make("z", "attributes.a:1")
		make("static", "")
		a := make("a", "*")
		dynamic := func() []*iot.Group { return read(f, store.Reader.DynamicGroups) }
		f.equal(dynamic(), []*iot.Group{z, a})
		z.Query, z.Status = "attributes.b:2", iot.IndexActive
		f.update(func(tx store.Tx) error { return tx.SaveGroup(z) })
		f.update(func(tx store.Tx) error { return tx.DeleteGroup(a) })
		f.equal(dynamic(), []*iot.Group{z})
	}},
	{"are kept as they are", func(f *fixture) {
		root := f.group("root", 0)
		g := &iot.Group{Name: "g", UUID: "u", Parent: root.ID, Description: "d", Attributes: map[string]string{"a": "1"}, Version: 4, CreatedAt: t0}
		f.update(func(tx store.Tx) error { return tx.InsertGroup(g) })
		if root.ID <= 0 || g.ID <= root.ID {
			f.Fatalf("ids %d, %d", root.ID, g.ID)
		}
		f.reopen()
		f.view(func(r store.Reader) error {
			have, err := r.GroupByName("g")
			f.must(err)
			f.equal(have, g)
			have, err = r.GroupByUUID("u")
			f.must(err)
			f.equal(have, g)
			byID, err := r.GroupsByID([]int64{g.ID, 999, root.ID})
			f.must(err)
			f.equal(byID, map[int64]*iot.Group{g.ID: g, root.ID: root})
			_, err = r.GroupByName("G")
			f.fails(store.ErrNotFound, err)
			_, err = r.GroupByUUID("U")
			f.fails(store.ErrNotFound, err)
			return nil
		})
		f.refused(store.ErrExists, func(tx store.Tx) error { return tx.InsertGroup(&iot.Group{Name: "g", UUID: "v", Version: 1}) })
		g.Description, g.Attributes, g.Version = "new", nil, 5
		f.update(func(tx store.Tx) error { return tx.SaveGroup(g) })
		f.equal(read(f, func(r store.Reader) (*iot.Group, error) { return r.GroupByName("g") }), g)
		f.refused(store.ErrNotFound, func(tx store.Tx) error { return tx.SaveGroup(&iot.Group{ID: 999, Version: 1}) })
	}},
	{"form hierarchies", func(f *fixture) {
		root := f.group("root", 0)
		b, a := f.group("b", root.ID), f.group("a", root.ID)
		leaf := f.group("leaf", b.ID)
		other := f.group("other", 0)
		f.view(func(r store.Reader) error {
			above, err := r.Ancestors(leaf.ID)
			f.must(err)
			f.equal(above, []*iot.Group{b, root})
			above, err = r.Ancestors(root.ID)
			f.must(err)
			f.equal(len(above), 0)
			below, err := r.Descendants(root.ID)
			f.must(err)
			f.equal(below, []int64{root.ID, b.ID, a.ID, leaf.ID})
			below, err = r.Descendants(other.ID)
			f.must(err)
			f.equal(below, []int64{other.ID})
			children, err := r.Children(root.ID)
			f.must(err)
			f.equal(children, []*iot.Group{a, b})
			children, err = r.Children(leaf.ID)
			f.equal(len(children), 0)
			return err
		})
	}},
	{"are listed by name, bytewise, filtered", func(f *fixture) {
		ids := make(map[string]int64)
		for i, n := range scattered(awkward) {
			parent := int64(0)
			if i%2 == 1 {
				parent = ids[scattered(awkward)[0]]
			}
			ids[n] = f.group(n, parent).ID
		}
		roots := names(read(f, func(r store.Reader) ([]*iot.Group, error) {
			return r.Groups(store.GroupQuery{Roots: true}, "", 100)
		}), groupName)
		f.equal(len(roots), (len(awkward)+1)/2)
		within := []int64{ids["ab"], ids["a-b"], ids["Z"], ids["ab"], 999}
		for _, c := range []struct {
			q    store.GroupQuery
			want []string
		}{
			{store.GroupQuery{}, awkward},
			{store.GroupQuery{Prefix: "a"}, []string{"a", "a-b", "a:b", "aB", "a_b", "ab"}},
			{store.GroupQuery{Prefix: "a_"}, []string{"a_b"}},
			{store.GroupQuery{Prefix: "x"}, []string{}},
			{store.GroupQuery{Roots: true}, roots},
			{store.GroupQuery{Within: within}, []string{"Z", "a-b", "ab"}},
			{store.GroupQuery{Within: within, Prefix: "a"}, []string{"a-b", "ab"}},
			{store.GroupQuery{Within: []int64{}}, []string{}},
		} {
			for limit := 1; limit <= len(c.want)+1; limit++ {
				have := []string{}
				for after := iot.GroupName(""); ; {
					page := names(read(f, func(r store.Reader) ([]*iot.Group, error) { return r.Groups(c.q, after, limit) }), groupName)
					if have = append(have, page...); len(page) < limit {
						break
					}
					after = iot.GroupName(page[limit-1])
				}
				f.equal(have, c.want)
			}
		}
	}},
	{"have members", func(f *fixture) {
		g, h, th := f.group("g", 0), f.group("h", 0), f.things("a", "b", "c")
		member := func(g *iot.Group, t *iot.Thing) iot.Member {
			f.seq++
			return iot.Member{Seq: f.seq, GroupID: g.ID, ThingID: t.ID, Thing: t.Name}
		}
		first := []iot.Member{member(g, th[1]), member(g, th[0]), member(h, th[0])}
		f.update(func(tx store.Tx) error {
			added, err := tx.InsertMembers(first)
			f.equal(added, first)
			return err
		})
		third := member(g, th[2])
		f.update(func(tx store.Tx) error {
			added, err := tx.InsertMembers([]iot.Member{member(g, th[0]), third, third})
			f.equal(added, []iot.Member{third})
			return err
		})
		f.view(func(r store.Reader) error {
			have, err := r.Member(g.ID, th[0].ID)
			f.must(err)
			f.equal(have, first[1]) // not what came later
			_, err = r.Member(h.ID, th[1].ID)
			f.fails(store.ErrNotFound, err)
			list, err := r.Members(g.ID, "", 2)
			f.must(err)
			f.equal(list, []iot.Member{first[1], first[0]})
			list, err = r.Members(g.ID, "b", 2)
			f.must(err)
			f.equal(list, []iot.Member{third})
			groups, err := r.GroupsOfThing(th[0].ID)
			f.must(err)
			f.equal(groups, []*iot.Group{g, h})
			groups, err = r.GroupsOfThing(999)
			f.equal(len(groups), 0)
			return err
		})
		f.update(func(tx store.Tx) error {
			ended, err := tx.DeleteMember(g.ID, th[0].ID)
			f.must(err)
			f.equal(ended, true)
			ended, err = tx.DeleteMember(g.ID, th[0].ID)
			f.equal(ended, false)
			return err
		})
		f.equal(read(f, func(r store.Reader) ([]*iot.Group, error) { return r.GroupsOfThing(th[0].ID) }), []*iot.Group{h})
	}},
	{"have members, listed by name, bytewise, while others join", func(f *fixture) {
		g := f.group("g", 0)
		join := func(names ...string) {
			var members []iot.Member
			for _, t := range f.things(names...) {
				f.seq++
				members = append(members, iot.Member{Seq: f.seq, GroupID: g.ID, ThingID: t.ID, Thing: t.Name})
			}
			f.update(func(tx store.Tx) error {
				_, err := tx.InsertMembers(members)
				return err
			})
		}
		join(scattered(awkward)...)
		var have []string
		for after := iot.ThingName(""); ; {
			page := names(read(f, func(r store.Reader) ([]iot.Member, error) { return r.Members(g.ID, after, 5) }), memberName)
			if have = append(have, page...); len(page) < 5 {
				break
			}
			if after == "" {
				join("-0") // before what has been read
			}
			after = iot.ThingName(page[4])
		}
		f.equal(have, awkward)
	}},
	{"that are deleted have no members", func(f *fixture) {
		g, h, th := f.group("g", 0), f.group("h", 0), f.things("a")[0]
		f.update(func(tx store.Tx) error {
			_, err := tx.InsertMembers([]iot.Member{{Seq: 1, GroupID: g.ID, ThingID: th.ID, Thing: "a"}, {Seq: 2, GroupID: h.ID, ThingID: th.ID, Thing: "a"}})
			return err
		})
		f.update(func(tx store.Tx) error { return tx.DeleteGroup(g) })
		f.view(func(r store.Reader) error {
			_, err := r.GroupByName("g")
			f.fails(store.ErrNotFound, err)
			members, err := r.Members(g.ID, "", 10)
			f.must(err)
			f.equal(len(members), 0)
			groups, err := r.GroupsOfThing(th.ID)
			f.equal(groups, []*iot.Group{h})
			return err
		})
		if again := f.group("g", 0); again.ID <= h.ID {
			f.Fatalf("id %d was given again", again.ID)
		}
	}},
}
