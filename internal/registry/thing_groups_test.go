package registry

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"drover/internal/iot"
	"drover/internal/store"
)

// membershipIDs returns the membershipId by group of the records of a kind since the last look.
func membershipIDs(f *fixture, kind iot.Kind) map[iot.GroupName]string {
	f.t.Helper()
	ids := make(map[iot.GroupName]string)
	for _, rec := range f.records() {
		if rec.Kind == kind {
			var ev iot.MemberEvent
			f.must(json.Unmarshal(rec.Data, &ev))
			ids[ev.Group.Name] = ev.MembershipID
		}
	}
	return ids
}

// lastRecord returns the position of the newest record.
func lastRecord(f *fixture) int64 {
	f.t.Helper()
	last := f.seen
	f.must(f.store.View(f.t.Context(), func(rd store.Reader) error {
		records, err := rd.Records(0, last, 100_000)
		if n := len(records); n > 0 {
			last = records[n-1].ID
		}
		return err
	}))
	return last
}

func TestCreateGroup(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{})
	ctx := t.Context()
	house := f.group("house", "")
	if house.Version != 1 || house.Parent != 0 || house.UUID == "" {
		t.Errorf("got %+v", house)
	}
	f.group("floor", "house")
	n := iot.NewGroup{Name: "hall", Parent: "floor", Description: "d", Attributes: map[string]string{"a": "1"}, Actor: "test"}
	hall, err := f.CreateGroup(ctx, n)
	f.must(err)
	f.wantNews("group.created house v1", "group.created floor v1", "group.child_added floor of house",
		"group.created hall v1", "group.child_added hall of floor")
	_, ancestors, err := f.Group(ctx, "hall")
	f.must(err)
	if names := groupNames(ancestors); !slices.Equal(names, []iot.GroupName{"house", "floor"}) {
		t.Errorf("from the root to the parent: %v", names)
	}

	again, err := f.CreateGroup(ctx, n)
	f.must(err)
	if again.UUID != hall.UUID {
		t.Errorf("got %+v", again)
	}
	f.wantNews()
	for name, change := range map[string]func(*iot.NewGroup){
		"description":  func(n *iot.NewGroup) { n.Description = "" },
		"attributes":   func(n *iot.NewGroup) { n.Attributes = nil },
		"parent":       func(n *iot.NewGroup) { n.Parent = "house" },
		"no parent":    func(n *iot.NewGroup) { n.Parent = "" },
		"other parent": func(n *iot.NewGroup) { n.Parent = "none" },
	} {
		other := n
		change(&other)
		_, err := f.CreateGroup(ctx, other)
		f.refused(err, iot.AlreadyExists, "Thing Group hall already exists in current account with different properties")
		if e := err.(*iot.Error); e.ResourceID != hall.UUID || e.ResourceARN != "arn:aws:iot:us-east-1:123456789012:thinggroup/hall" {
			t.Errorf("%s: got %+v", name, e)
		}
	}
	_, err = f.CreateGroup(ctx, iot.NewGroup{Name: "other", Parent: "none"})
	f.refused(err, iot.NotFound, "none")
	for name, bad := range map[string]iot.NewGroup{
		"name":            {Name: "a.b"},
		"51 attributes":   {Name: "a", Attributes: attributes(51)},
		"attribute":       {Name: "a", Attributes: map[string]string{"a b": "c"}},
		"attribute empty": {Name: "a", Attributes: map[string]string{"a": ""}},
		"tags":            {Name: "a", Tags: []iot.Tag{{Key: "k"}, {Key: "k"}}},
	} {
		t.Run(name, func(t *testing.T) {
			f := f.on(t)
			_, err := f.CreateGroup(t.Context(), bad)
			f.refused(err, iot.InvalidRequest)
		})
	}
	_, err = f.CreateGroup(ctx, iot.NewGroup{Name: "fifty", Attributes: attributes(50)})
	f.must(err)
}

func TestHierarchyLimits(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{})
	parent := iot.GroupName("")
	for level := 1; level <= 7; level++ {
		name := iot.GroupName(fmt.Sprintf("level-%d", level))
		f.group(name, parent)
		parent = name
	}
	_, err := f.CreateGroup(t.Context(), iot.NewGroup{Name: "level-8", Parent: parent})
	f.refused(err, iot.InvalidRequest, "level 7")
	for i := range 99 {
		f.group(iot.GroupName(fmt.Sprintf("child-%d", i)), "level-1")
	}
	_, err = f.CreateGroup(t.Context(), iot.NewGroup{Name: "child-100", Parent: "level-1"})
	f.refused(err, iot.InvalidRequest, "100 child groups")
}

func TestUpdateGroup(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{})
	ctx := t.Context()
	f.group("house", "")
	_, err := f.CreateGroup(ctx, iot.NewGroup{Name: "hall", Parent: "house", Description: "d", Attributes: map[string]string{"a": "1", "b": "2"}, Actor: "test"})
	f.must(err)
	f.news()
	version := int64(1)
	update := func(u iot.GroupUpdate, description string, attributes map[string]string) {
		t.Helper()
		u.Name, u.ExpectedVersion, u.Actor = "hall", &version, "test"
		got, err := f.UpdateGroup(ctx, u)
		f.must(err)
		g, _, err := f.Group(ctx, "hall")
		f.must(err)
		if got != version+1 || g.Version != got || g.Description != description || !maps.Equal(g.Attributes, attributes) {
			t.Errorf("version %d, group %+v", got, g)
		}
		f.wantNews(fmt.Sprintf("group.updated hall v%d", got))
		version = got
	}
	update(iot.GroupUpdate{}, "d", map[string]string{"a": "1", "b": "2"})
	update(iot.GroupUpdate{Attributes: &iot.AttributeUpdate{Values: map[string]string{"a": "", "c": "3"}, Merge: true}}, "d", map[string]string{"b": "2", "c": "3"})
	update(iot.GroupUpdate{Description: ptr(""), Attributes: &iot.AttributeUpdate{Values: map[string]string{"d": "4"}}}, "", map[string]string{"d": "4"})

	_, err = f.UpdateGroup(ctx, iot.GroupUpdate{Name: "hall", ExpectedVersion: ptr(int64(1))})
	f.refused(err, iot.VersionMismatch, "thing group hall")
	_, err = f.UpdateGroup(ctx, iot.GroupUpdate{Name: "none", ExpectedVersion: ptr(int64(1))})
	f.refused(err, iot.NotFound)
	_, err = f.UpdateGroup(ctx, iot.GroupUpdate{Name: "hall", Attributes: &iot.AttributeUpdate{Values: attributes(51)}})
	f.refused(err, iot.InvalidRequest, "limit is 50")
	_, err = f.UpdateGroup(ctx, iot.GroupUpdate{Name: "hall", Attributes: &iot.AttributeUpdate{Values: map[string]string{"a b": "1"}}})
	f.refused(err, iot.InvalidRequest, "pattern")
	f.wantNews()
}

func TestDeleteGroup(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{})
	ctx := t.Context()
	remove := func(name iot.GroupName, version *int64) error {
		return f.DeleteGroup(ctx, iot.GroupDeletion{Name: name, ExpectedVersion: version, Actor: "test"})
	}
	f.must(remove("none", nil))
	f.must(remove("none", ptr(int64(3))))
	f.group("house", "")
	f.group("hall", "house")
	f.group("roof", "")
	f.thing("lamp")
	f.thing("bell")
	f.must(f.join("lamp", "hall", "roof"))
	f.must(f.join("bell", "hall"))
	f.must(f.Tag(ctx, iot.Tagging{ARN: realm.ARN(iot.KindGroup, "hall"), Tags: tagList(1)}))
	f.news()
	f.jobs.take()
	f.refused(remove("house", nil), iot.InvalidRequest, "Cannot delete thing group : house when there are still child groups attached to it.")
	f.refused(remove("hall", ptr(int64(2))), iot.VersionMismatch)
	f.wantNews()

	f.must(remove("hall", ptr(int64(1))))
	f.wantNews("group.child_removed hall of house", "member.removed bell in hall", "member.removed lamp in hall", "group.deleted hall v1")
	if calls := f.jobs.take(); !slices.Equal(calls, []string{"left bell, now in []", "left lamp, now in [roof]"}) {
		t.Errorf("jobs were told %q", calls)
	}
	if groups := f.groupsOf("lamp"); !slices.Equal(groups, []iot.GroupName{"roof"}) {
		t.Errorf("lamp is in %v", groups)
	}
	_, _, err := f.Group(ctx, "hall")
	f.refused(err, iot.NotFound)
	f.group("hall", "")
	tags, _, err := f.Tags(ctx, realm.ARN(iot.KindGroup, "hall"), iot.Page{Limit: 50})
	f.must(err)
	if len(tags) > 0 {
		t.Errorf("the new group has the tags of the old: %v", tags)
	}
	f.must(remove("house", nil))
}

func TestDeleteLargeGroup(t *testing.T) {
	t.Parallel()
	for _, n := range []int{deletionChunk - 1, deletionChunk, 2*deletionChunk + 5} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, Limits{})
			lines := make([]iot.ImportLine, n)
			for i := range lines {
				lines[i] = iot.ImportLine{Thing: iot.ThingName(fmt.Sprintf("t%04d", i)), Groups: []iot.GroupName{"all"}}
			}
			f.imports(true, lines...)
			f.jobs.take()
			f.records()
			largest := 0
			commits := f.commits(func(records int) { largest = max(largest, records) })
			f.must(f.DeleteGroup(t.Context(), iot.GroupDeletion{Name: "all", Actor: "test"}))
			if want := n/deletionChunk + 1; *commits != want {
				t.Errorf("%d transactions, want %d", *commits, want)
			}
			if largest > deletionChunk+1 {
				t.Errorf("a transaction had %d records", largest)
			}
			if got := len(f.jobs.take()); got != n {
				t.Errorf("jobs were told of %d things, want %d", got, n)
			}
			news := f.news()
			if len(news) != n+1 || news[n] != "group.deleted all v1" {
				t.Errorf("%d records, the last is %q", len(news), news[len(news)-1])
			}
		})
	}
}

func TestGroups(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{})
	for _, g := range [][2]iot.GroupName{{"a", ""}, {"b", ""}, {"a-2", "a"}, {"a-1", "a"}, {"a-1-x", "a-1"}, {"z", "a-1-x"}} {
		f.group(g[0], g[1])
	}
	for name, c := range map[string]struct {
		query iot.GroupQuery
		want  string
	}{
		"all":                    {iot.GroupQuery{}, "a a-1 a-1-x a-2 b z"},
		"recursive":              {iot.GroupQuery{Recursive: ptr(true)}, "a a-1 a-1-x a-2 b z"},
		"roots":                  {iot.GroupQuery{Recursive: ptr(false)}, "a b"},
		"children":               {iot.GroupQuery{Parent: "a"}, "a-1 a-2"},
		"children, not below":    {iot.GroupQuery{Parent: "a", Recursive: ptr(false)}, "a-1 a-2"},
		"descendants":            {iot.GroupQuery{Parent: "a", Recursive: ptr(true)}, "a-1 a-1-x a-2 z"},
		"no children":            {iot.GroupQuery{Parent: "b"}, ""},
		"no descendants":         {iot.GroupQuery{Parent: "b", Recursive: ptr(true)}, ""},
		"prefix":                 {iot.GroupQuery{Prefix: "a-"}, "a-1 a-1-x a-2"},
		"prefix, case":           {iot.GroupQuery{Prefix: "A"}, ""},
		"prefix and roots":       {iot.GroupQuery{Prefix: "a", Recursive: ptr(false)}, "a"},
		"prefix and descendants": {iot.GroupQuery{Prefix: "a-1", Parent: "a", Recursive: ptr(true)}, "a-1 a-1-x"},
	} {
		for _, limit := range []int{1, 2, 250} {
			t.Run(fmt.Sprintf("%s by %d", name, limit), func(t *testing.T) {
				f := f.on(t)
				var names []string
				for page := (iot.Page{Limit: limit}); ; {
					groups, next, err := f.Groups(t.Context(), c.query, page)
					f.must(err)
					for _, g := range groups {
						names = append(names, string(g.Name))
					}
					if next == "" {
						break
					}
					if len(groups) != limit {
						t.Fatalf("a page of %d before the last", len(groups))
					}
					page.Cursor = next
				}
				if got := strings.Join(names, " "); got != c.want {
					t.Errorf("got %q, want %q", got, c.want)
				}
			})
		}
	}
	_, _, err := f.Groups(t.Context(), iot.GroupQuery{Parent: "none"}, iot.Page{Limit: 1})
	f.refused(err, iot.NotFound, "none")
}

func TestMembers(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{})
	f.group("house", "")
	f.group("empty", "house")
	f.group("hall", "house")
	f.group("stairs", "hall")
	for _, m := range []struct {
		thing iot.ThingName
		group iot.GroupName
	}{{"d", "house"}, {"b:1", "hall"}, {"a", "hall"}, {"c", "stairs"}} {
		f.thing(m.thing)
		f.must(f.join(m.thing, m.group))
	}
	for name, c := range map[string]struct {
		group     iot.GroupName
		recursive bool
		want      string
	}{
		"direct":         {"hall", false, "a b:1"},
		"direct, empty":  {"empty", false, ""},
		"recursive":      {"house", true, "d a b:1 c"},
		"recursive part": {"hall", true, "a b:1 c"},
		"recursive leaf": {"stairs", true, "c"},
	} {
		for _, limit := range []int{1, 2, 3, 4, 250} {
			t.Run(fmt.Sprintf("%s by %d", name, limit), func(t *testing.T) {
				f := f.on(t)
				var names []string
				for page := (iot.Page{Limit: limit}); ; {
					things, next, err := f.Members(t.Context(), c.group, c.recursive, page)
					f.must(err)
					for _, n := range things {
						names = append(names, string(n))
					}
					if next == "" {
						break
					}
					if len(things) != limit {
						t.Fatalf("a page of %d before the last", len(things))
					}
					page.Cursor = next
				}
				if got := strings.Join(names, " "); got != c.want {
					t.Errorf("got %q, want %q", got, c.want)
				}
			})
		}
	}
	_, _, err := f.Members(t.Context(), "none", false, iot.Page{Limit: 1})
	f.refused(err, iot.NotFound, "none")
	for _, cursor := range []string{"x", "1", "x/a"} {
		_, _, err := f.Members(t.Context(), "house", true, iot.Page{Limit: 1, Cursor: cursor})
		f.refused(err, iot.InvalidRequest, "nextToken")
	}
}

// A hierarchy of many empty groups is looked at in pieces: pages may be empty before the last.
func TestMembersOfManyEmptyGroups(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{})
	root := f.group("root", "")
	f.must(f.store.Update(t.Context(), func(tx store.Tx) error {
		for i := range 2*groupsPerPage + 1 {
			name := fmt.Sprintf("g%04d", i)
			if err := tx.InsertGroup(&iot.Group{Name: iot.GroupName(name), UUID: name, Parent: root.ID, Version: 1, CreatedAt: 1}); err != nil {
				return err
			}
		}
		return nil
	}))
	f.thing("lamp")
	f.must(f.join("lamp", iot.GroupName(fmt.Sprintf("g%04d", 2*groupsPerPage))))
	pages, things := 0, 0
	for page := (iot.Page{Limit: 10}); ; pages++ {
		names, next, err := f.Members(t.Context(), "root", true, page)
		f.must(err)
		things += len(names)
		if next == "" {
			break
		}
		page.Cursor = next
	}
	if pages < 2 || things != 1 {
		t.Errorf("%d things after %d pages", things, pages)
	}
}
