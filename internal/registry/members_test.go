package registry

import (
	"fmt"
	"slices"
	"testing"

	"drover/internal/iot"
)

// commits counts the commits with records from now on, and tells of their sizes.
func (f *fixture) commits(size func(records int)) *int {
	n := 0
	f.store.OnCommit(func(records []iot.Record) {
		n++
		size(len(records))
	})
	return &n
}

func TestJoinAndLeave(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{})
	f.thing("lamp")
	f.group("hall", "")
	f.news()
	f.must(f.join("lamp", "hall"))
	first := membershipIDs(f, iot.MemberAdded)["hall"]
	f.must(f.join("lamp", "hall"))
	f.must(f.join("lamp", "hall", "hall"))
	f.wantNews()
	if calls := f.jobs.take(); !slices.Equal(calls, []string{"joined lamp true"}) {
		t.Errorf("jobs were told %q", calls)
	}
	f.must(f.leave("lamp", "hall"))
	if calls := f.jobs.take(); !slices.Equal(calls, []string{"leaving lamp hall", "left lamp, now in []"}) {
		t.Errorf("jobs were told %q", calls)
	}
	if gone := membershipIDs(f, iot.MemberGone)["hall"]; gone != first || gone == "" {
		t.Errorf("the membership %q ended as %q", first, gone)
	}
	f.must(f.leave("lamp", "hall"))
	f.wantNews()
	if calls := f.jobs.take(); calls != nil {
		t.Errorf("jobs were told %q", calls)
	}
	f.must(f.join("lamp", "hall"))
	if again := membershipIDs(f, iot.MemberAdded)["hall"]; again == first {
		t.Error("two memberships have one id")
	}
	if lamp, err := f.Thing(t.Context(), "lamp"); err != nil || lamp.Version != 1 {
		t.Errorf("memberships changed the version: %+v, %v", lamp, err)
	}
}

func TestJoinRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{})
	f.thing("lamp")
	f.group("house", "")
	f.group("hall", "house")
	f.group("roof", "house")
	f.must(f.join("lamp", "hall"))
	f.news()
	f.refused(f.join("lamp", "roof"), iot.InvalidRequest, "hall")  // siblings
	f.refused(f.join("lamp", "house"), iot.InvalidRequest, "hall") // ancestor
	f.refused(f.join("none", "hall"), iot.NotFound, "Thing none")
	f.refused(f.join("lamp", "none"), iot.NotFound, "Thing group none")
	f.refused(f.leave("none", "hall"), iot.NotFound, "Thing none")
	f.refused(f.leave("lamp", "none"), iot.NotFound, "Thing group none")
	f.refused(f.ChangeGroups(t.Context(), iot.MembershipChange{Thing: "lamp", Add: []iot.GroupName{"hall"}, Remove: []iot.GroupName{"hall"}}), iot.InvalidRequest, "hall")
	f.wantNews()
}

func TestGroupsPerThing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{})
	f.thing("lamp")
	var names []iot.GroupName
	for i := range 11 {
		names = append(names, iot.GroupName(fmt.Sprintf("g%02d", i)))
		f.group(names[i], "")
	}
	f.news()
	f.refused(f.join("lamp", names...), iot.InvalidRequest, "10 groups")
	if groups := f.groupsOf("lamp"); groups != nil {
		t.Fatalf("half done: %v", groups)
	}
	f.wantNews()
	f.must(f.join("lamp", names[:10]...))
	f.refused(f.join("lamp", names[10]), iot.InvalidRequest, "10 groups")
	f.must(f.ChangeGroups(t.Context(), iot.MembershipChange{Thing: "lamp", Add: names[10:], Remove: names[:1], Actor: "test"}))
	if groups := f.groupsOf("lamp"); !slices.Equal(groups, names[1:]) {
		t.Errorf("lamp is in %v", groups)
	}
	page, next, err := f.GroupsOfThing(t.Context(), "lamp", iot.Page{Limit: 6})
	f.must(err)
	rest, end, err := f.GroupsOfThing(t.Context(), "lamp", iot.Page{Limit: 6, Cursor: next})
	f.must(err)
	if got := groupNames(append(page, rest...)); len(page) != 6 || end != "" || !slices.Equal(got, names[1:]) {
		t.Errorf("in pages: %v", got)
	}
	_, _, err = f.GroupsOfThing(t.Context(), "none", iot.Page{Limit: 6})
	f.refused(err, iot.NotFound)
}

func TestMoveInsideHierarchy(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{})
	f.thing("lamp")
	f.group("house", "")
	f.group("hall", "house")
	f.group("roof", "house")
	f.must(f.join("lamp", "hall"))
	f.jobs.take()
	f.news()
	f.must(f.ChangeGroups(t.Context(), iot.MembershipChange{
		Thing: "lamp", Add: []iot.GroupName{"roof"}, Remove: []iot.GroupName{"hall", "house"}, Actor: "test",
	}))
	f.wantNews("member.added lamp in roof", "member.removed lamp in hall")
	if groups := f.groupsOf("lamp"); !slices.Equal(groups, []iot.GroupName{"roof"}) {
		t.Errorf("lamp is in %v", groups)
	}
	// Jobs see the new membership while the old one stands, so that it is no coming back.
	if calls := f.jobs.take(); !slices.Equal(calls, []string{"joined lamp true", "leaving lamp hall", "left lamp, now in [roof]"}) {
		t.Errorf("jobs were told %q", calls)
	}
}
