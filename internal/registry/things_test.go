package registry

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"drover/internal/iot"
)

func TestCreateThing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{})
	ctx := t.Context()
	f.thingType("light")
	f.news()
	lamp, err := f.CreateThing(ctx, iot.NewThing{Name: "lamp", Type: "light", Attributes: map[string]string{"color": "red"}, Actor: "test"})
	f.must(err)
	if _, err := uuid.Parse(lamp.UUID); err != nil || lamp.Version != 1 || lamp.CreatedAt != iot.At(f.clock) {
		t.Fatalf("got %+v, %v", lamp, err)
	}
	f.wantNews("thing.created lamp v1", "type.associated lamp is light")

	again, err := f.CreateThing(ctx, iot.NewThing{Name: "lamp", Type: "light", Attributes: map[string]string{"color": "red"}, Actor: "test"})
	f.must(err)
	if again.UUID != lamp.UUID || again.Version != 1 {
		t.Errorf("repeated: got %+v, want %+v", again, lamp)
	}
	f.wantNews()

	for _, other := range []iot.NewThing{
		{Name: "lamp", Type: "light", Attributes: map[string]string{"color": "blue"}},
		{Name: "lamp", Type: "light"},
		{Name: "lamp", Attributes: map[string]string{"color": "red"}},
	} {
		_, err := f.CreateThing(ctx, other)
		f.refused(err, iot.AlreadyExists, "Thing lamp already exists")
		if e := err.(*iot.Error); e.ResourceID != lamp.UUID || e.ResourceARN != "arn:aws:iot:us-east-1:123456789012:thing/lamp" {
			t.Errorf("got resource %q %q", e.ResourceID, e.ResourceARN)
		}
	}

	// The comparison is with the thing as it is now, and comes before the type's state.
	f.must(f.UpdateThing(ctx, iot.ThingUpdate{Name: "lamp", Attributes: &iot.AttributeUpdate{Values: map[string]string{"color": "blue"}}, Actor: "test"}))
	f.deprecate("light")
	again, err = f.CreateThing(ctx, iot.NewThing{Name: "lamp", Type: "light", Attributes: map[string]string{"color": "blue"}})
	f.must(err)
	if again.Version != 2 {
		t.Errorf("got %+v", again)
	}
}

func TestCreateThingRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{})
	f.thingType("light")
	f.thingType("old")
	f.deprecate("old")
	f.news()
	for name, c := range map[string]struct {
		new  iot.NewThing
		code iot.Code
		text string
	}{
		"unknown type":             {iot.NewThing{Name: "a", Type: "none"}, iot.NotFound, "none"},
		"deprecated type":          {iot.NewThing{Name: "a", Type: "old"}, iot.InvalidRequest, "Can not create new thing with depreated thing type:old"},
		"4 attributes, no type":    {iot.NewThing{Name: "a", Attributes: attributes(4)}, iot.InvalidRequest, "limit is 3"},
		"51 attributes, type":      {iot.NewThing{Name: "a", Type: "light", Attributes: attributes(51)}, iot.InvalidRequest, "limit is 50"},
		"attribute name too long":  {iot.NewThing{Name: "a", Attributes: map[string]string{strings.Repeat("n", 129): "v"}}, iot.InvalidRequest, "128"},
		"attribute name pattern":   {iot.NewThing{Name: "a", Attributes: map[string]string{"a=b": "v"}}, iot.InvalidRequest, "pattern"},
		"attribute value too long": {iot.NewThing{Name: "a", Attributes: map[string]string{"n": strings.Repeat("v", 801)}}, iot.InvalidRequest, "800"},
		"attribute value pattern":  {iot.NewThing{Name: "a", Attributes: map[string]string{"n": "a b"}}, iot.InvalidRequest, "pattern"},
		"attribute value empty":    {iot.NewThing{Name: "a", Attributes: map[string]string{"n": ""}}, iot.InvalidRequest, "length"},
		"name too long":            {iot.NewThing{Name: iot.ThingName(strings.Repeat("a", 129))}, iot.InvalidRequest, "thingName"},
		"name pattern":             {iot.NewThing{Name: "a.b"}, iot.InvalidRequest, "thingName"},
		"no name":                  {iot.NewThing{}, iot.InvalidRequest, "thingName"},
	} {
		t.Run(name, func(t *testing.T) {
			f := f.on(t)
			_, err := f.CreateThing(t.Context(), c.new)
			f.refused(err, c.code, c.text)
		})
	}
	f.wantNews()
	for _, good := range []iot.NewThing{
		{Name: "three", Attributes: attributes(3), Actor: "test"},
		{Name: "fifty", Type: "light", Attributes: attributes(50), Actor: "test"},
		{Name: iot.ThingName(strings.Repeat("a", 128)), Attributes: map[string]string{"aZ09_.,@/:#-": "aZ09_.,@/:#=[]-"}, Actor: "test"},
	} {
		if _, err := f.CreateThing(t.Context(), good); err != nil {
			t.Errorf("%s: %v", good.Name, err)
		}
	}
}

func TestUpdateThingAttributes(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{})
	for name, c := range map[string]struct {
		update *iot.AttributeUpdate
		want   map[string]string
	}{
		"absent":                     {nil, map[string]string{"a": "1", "b": "2"}},
		"absent map":                 {&iot.AttributeUpdate{}, map[string]string{"a": "1", "b": "2"}},
		"replaced":                   {&iot.AttributeUpdate{Values: map[string]string{"c": "3"}}, map[string]string{"c": "3"}},
		"replaced, empty is dropped": {&iot.AttributeUpdate{Values: map[string]string{"a": "", "c": "3"}}, map[string]string{"c": "3"}},
		"cleared":                    {&iot.AttributeUpdate{Values: map[string]string{}}, nil},
		"merged":                     {&iot.AttributeUpdate{Values: map[string]string{"b": "5", "c": "3"}, Merge: true}, map[string]string{"a": "1", "b": "5", "c": "3"}},
		"merged, empty removes":      {&iot.AttributeUpdate{Values: map[string]string{"a": "", "x": ""}, Merge: true}, map[string]string{"b": "2"}},
		"merged with nothing":        {&iot.AttributeUpdate{Values: map[string]string{}, Merge: true}, map[string]string{"a": "1", "b": "2"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := f.on(t)
			thing := iot.ThingName(uuid.NewString())
			f.thing(thing, "a", "1", "b", "2")
			f.news()
			f.must(f.UpdateThing(t.Context(), iot.ThingUpdate{Name: thing, Attributes: c.update, Actor: "test"}))
			got, err := f.Thing(t.Context(), thing)
			f.must(err)
			if !maps.Equal(got.Attributes, c.want) || got.Version != 2 {
				t.Errorf("got %+v", got)
			}
			f.wantNews(fmt.Sprintf("thing.updated %s v2", thing))
		})
	}
}

func TestUpdateThingType(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{})
	f.thingType("light")
	f.thingType("bulb")
	f.thing("lamp")
	f.news()
	update := func(u iot.ThingUpdate) error {
		u.Name, u.Actor = "lamp", "test"
		return f.UpdateThing(t.Context(), u)
	}
	f.must(update(iot.ThingUpdate{Type: "light", Attributes: &iot.AttributeUpdate{Values: attributes(10)}}))
	f.wantNews("thing.updated lamp v2", "type.associated lamp is light")
	f.must(update(iot.ThingUpdate{Type: "bulb"}))
	f.wantNews("thing.updated lamp v3", "type.dissociated lamp is light", "type.associated lamp is bulb")
	f.deprecate("bulb")
	f.deprecate("light")
	f.news()
	f.must(update(iot.ThingUpdate{Type: "bulb", Attributes: &iot.AttributeUpdate{Values: attributes(9)}}))
	f.wantNews("thing.updated lamp v4")

	f.refused(update(iot.ThingUpdate{Type: "light"}), iot.InvalidRequest, "Can not update a thing to use deprecated thing type: light")
	f.refused(update(iot.ThingUpdate{Type: "none"}), iot.NotFound)
	f.refused(update(iot.ThingUpdate{Type: "bulb", RemoveType: true}), iot.InvalidRequest)
	f.refused(update(iot.ThingUpdate{RemoveType: true}), iot.InvalidRequest, "limit is 3")
	f.refused(update(iot.ThingUpdate{Attributes: &iot.AttributeUpdate{Values: map[string]string{"a b": "c"}}}), iot.InvalidRequest, "pattern")
	f.wantNews()
	lamp, err := f.Thing(t.Context(), "lamp")
	f.must(err)
	if lamp.Type != "bulb" || lamp.Version != 4 || len(lamp.Attributes) != 9 {
		t.Errorf("refused updates changed the thing: %+v", lamp)
	}

	f.must(update(iot.ThingUpdate{RemoveType: true, Attributes: &iot.AttributeUpdate{Values: attributes(3)}}))
	f.wantNews("thing.updated lamp v5", "type.dissociated lamp is bulb")
	f.must(update(iot.ThingUpdate{RemoveType: true}))
	f.wantNews("thing.updated lamp v6")
}

func TestExpectedVersionOfThing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{})
	ctx := t.Context()
	f.thing("lamp")
	f.must(f.UpdateThing(ctx, iot.ThingUpdate{Name: "lamp", ExpectedVersion: ptr(int64(1)), Actor: "test"}))
	for _, v := range []int64{1, 3, 0, -2} {
		// The version is looked at before the type.
		f.refused(f.UpdateThing(ctx, iot.ThingUpdate{Name: "lamp", Type: "none", ExpectedVersion: &v}), iot.VersionMismatch,
			"The version for thing lamp does not match the expected version.")
		f.refused(f.DeleteThing(ctx, iot.ThingDeletion{Name: "lamp", ExpectedVersion: &v}), iot.VersionMismatch)
	}
	f.refused(f.UpdateThing(ctx, iot.ThingUpdate{Name: "none", ExpectedVersion: ptr(int64(1))}), iot.NotFound, "none")
	f.must(f.DeleteThing(ctx, iot.ThingDeletion{Name: "lamp", ExpectedVersion: ptr(int64(2)), Actor: "test"}))
	_, err := f.Thing(ctx, "lamp")
	f.refused(err, iot.NotFound, "lamp")
}

func TestDeleteThing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{})
	ctx := t.Context()
	f.thingType("light")
	lamp, err := f.CreateThing(ctx, iot.NewThing{Name: "lamp", Type: "light", Actor: "test"})
	f.must(err)
	f.group("hall", "")
	f.group("roof", "")
	f.must(f.join("lamp", "hall", "roof"))
	added := membershipIDs(f, iot.MemberAdded)
	f.jobs.take()

	f.must(f.DeleteThing(ctx, iot.ThingDeletion{Name: "lamp", Actor: "test"}))
	if calls := f.jobs.take(); !slices.Equal(calls, []string{"deleted lamp, in [hall roof]"}) {
		t.Errorf("jobs were told %q", calls)
	}
	seen := f.seen
	f.wantNews("member.removed lamp in hall", "member.removed lamp in roof", "type.dissociated lamp is light", "thing.deleted lamp v1")
	f.seen = seen
	if removed := membershipIDs(f, iot.MemberGone); !maps.Equal(removed, added) {
		t.Errorf("memberships %v ended as %v", added, removed)
	}

	f.must(f.DeleteThing(ctx, iot.ThingDeletion{Name: "lamp", Actor: "test"})) // missing: no error
	f.must(f.DeleteThing(ctx, iot.ThingDeletion{Name: "none", ExpectedVersion: ptr(int64(1)), Actor: "test"}))
	f.wantNews()
	if calls := f.jobs.take(); calls != nil {
		t.Errorf("jobs were told %q", calls)
	}

	again := f.thing("lamp")
	if again.UUID == lamp.UUID || again.Version != 1 || again.Type != "" {
		t.Errorf("created again: %+v", again)
	}
	if groups := f.groupsOf("lamp"); groups != nil {
		t.Errorf("created again, it is in %v", groups)
	}
}

func TestThings(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{})
	ctx := t.Context()
	f.thingType("light")
	for _, n := range []iot.NewThing{
		{Name: "a", Type: "light", Attributes: map[string]string{"color": "red"}},
		{Name: "b", Type: "light", Attributes: map[string]string{"color": "reddish"}},
		{Name: "B", Attributes: map[string]string{"color": "red"}},
		{Name: "c", Type: "light", Attributes: map[string]string{"colour": "red"}},
	} {
		_, err := f.CreateThing(ctx, n)
		f.must(err)
	}
	for name, c := range map[string]struct {
		query iot.ThingQuery
		want  string
	}{
		"all":              {iot.ThingQuery{}, "B a b c"},
		"type":             {iot.ThingQuery{Type: "light"}, "a b c"},
		"unknown type":     {iot.ThingQuery{Type: "none"}, ""},
		"attribute":        {iot.ThingQuery{AttributeName: "color", AttributeValue: ptr("red")}, "B a"},
		"prefix":           {iot.ThingQuery{AttributeName: "color", AttributeValue: ptr("red"), Prefix: true}, "B a b"},
		"case":             {iot.ThingQuery{AttributeName: "color", AttributeValue: ptr("RED"), Prefix: true}, ""},
		"and":              {iot.ThingQuery{Type: "light", AttributeName: "color", AttributeValue: ptr("red")}, "a"},
		"prefix, no value": {iot.ThingQuery{Prefix: true}, "B a b c"},
	} {
		for _, limit := range []int{1, 2, 4, 250} {
			t.Run(fmt.Sprintf("%s by %d", name, limit), func(t *testing.T) {
				f := f.on(t)
				var names []string
				for page := (iot.Page{Limit: limit}); ; {
					things, next, err := f.Things(t.Context(), c.query, page)
					f.must(err)
					if len(things) > limit {
						t.Fatalf("a page of %d", len(things))
					}
					for _, thing := range things {
						names = append(names, string(thing.Name))
					}
					if next == "" {
						break
					}
					page.Cursor = next
				}
				if got := strings.Join(names, " "); got != c.want {
					t.Errorf("got %q, want %q", got, c.want)
				}
			})
		}
	}
	things, next, err := f.Things(ctx, iot.ThingQuery{}, iot.Page{Limit: 4})
	f.must(err)
	if len(things) != 4 || next != "" {
		t.Errorf("a full last page has the cursor %q", next)
	}
	_, _, err = f.Things(ctx, iot.ThingQuery{AttributeName: "color"}, iot.Page{Limit: 1})
	f.refused(err, iot.InvalidRequest, "attributeValue")
	_, _, err = f.Things(ctx, iot.ThingQuery{AttributeValue: ptr("red")}, iot.Page{Limit: 1})
	f.refused(err, iot.InvalidRequest, "attributeName")
}
