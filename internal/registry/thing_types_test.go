package registry

import (
	"slices"
	"testing"
	"time"

	"drover/internal/iot"
)

func TestCreateThingType(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{})
	ctx := t.Context()
	n := iot.NewThingType{
		Name: "light", Description: "gives light", Searchable: []string{"color", "size"},
		Propagating: []iot.PropagatingAttribute{{UserPropertyKey: "k", ThingAttribute: "color"}, {UserPropertyKey: "c", ConnectionAttribute: "iot:ClientId"}},
		Tags:        []iot.Tag{{Key: "a", Value: "1"}}, Actor: "test",
	}
	light, err := f.CreateThingType(ctx, n)
	f.must(err)
	f.wantNews("type.created light")

	repeat := n
	repeat.Searchable, repeat.Tags = []string{"size", "color"}, []iot.Tag{{Key: "b"}}
	again, err := f.CreateThingType(ctx, repeat)
	f.must(err)
	if again.UUID != light.UUID || !slices.Equal(again.Propagating, n.Propagating) {
		t.Errorf("got %+v", again)
	}
	f.wantNews()
	tags, _, err := f.Tags(ctx, realm.ARN(iot.KindThingType, "light"), iot.Page{Limit: 50})
	f.must(err)
	if !slices.Equal(tags, n.Tags) {
		t.Errorf("the repeated creation changed the tags to %v", tags)
	}

	for name, change := range map[string]func(*iot.NewThingType){
		"description": func(n *iot.NewThingType) { n.Description = "" },
		"searchable":  func(n *iot.NewThingType) { n.Searchable = []string{"color"} },
		"mqtt5":       func(n *iot.NewThingType) { n.Propagating = nil },
	} {
		other := n
		change(&other)
		_, err := f.CreateThingType(ctx, other)
		f.refused(err, iot.AlreadyExists, "Thing Type light already exists in current account with different properties")
		if e := err.(*iot.Error); e.ResourceID != light.UUID || e.ResourceARN == "" {
			t.Errorf("%s: got %+v", name, e)
		}
	}
}

func TestCreateThingTypeRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{})
	for name, n := range map[string]iot.NewThingType{
		"name":                {Name: "a b"},
		"4 searchable":        {Name: "a", Searchable: []string{"1", "2", "3", "4"}},
		"searchable twice":    {Name: "a", Searchable: []string{"1", "1"}},
		"searchable empty":    {Name: "a", Searchable: []string{""}},
		"21 propagating":      {Name: "a", Propagating: slices.Repeat([]iot.PropagatingAttribute{{UserPropertyKey: "k", ThingAttribute: "t"}}, 21)},
		"propagating both":    {Name: "a", Propagating: []iot.PropagatingAttribute{{UserPropertyKey: "k", ThingAttribute: "t", ConnectionAttribute: "iot:ClientId"}}},
		"propagating neither": {Name: "a", Propagating: []iot.PropagatingAttribute{{UserPropertyKey: "k"}}},
		"propagating no key":  {Name: "a", Propagating: []iot.PropagatingAttribute{{ThingAttribute: "t"}}},
		"propagating what":    {Name: "a", Propagating: []iot.PropagatingAttribute{{UserPropertyKey: "k", ConnectionAttribute: "iot:Other"}}},
		"reserved tag":        {Name: "a", Tags: []iot.Tag{{Key: "aws:x"}}},
		"51 tags":             {Name: "a", Tags: tagList(51)},
	} {
		t.Run(name, func(t *testing.T) {
			f := f.on(t)
			_, err := f.CreateThingType(t.Context(), n)
			f.refused(err, iot.InvalidRequest)
		})
	}
	f.wantNews()
}

func TestUpdateThingTypeProperties(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{})
	ctx := t.Context()
	_, err := f.CreateThingType(ctx, iot.NewThingType{Name: "light", Description: "d", Searchable: []string{"a", "b"}, Actor: "test"})
	f.must(err)
	f.deprecate("light") // is no hindrance
	f.news()
	update := func(u iot.ThingTypeUpdate) error {
		u.Name, u.Actor = "light", "test"
		return f.UpdateThingType(ctx, u)
	}
	propagating := []iot.PropagatingAttribute{{UserPropertyKey: "k", ThingAttribute: "t"}}
	f.must(update(iot.ThingTypeUpdate{Description: ptr("d"), Searchable: []string{"b", "a"}, Propagating: propagating}))
	f.wantNews("type.updated light")
	f.must(update(iot.ThingTypeUpdate{}))
	f.must(update(iot.ThingTypeUpdate{Propagating: propagating}))
	f.wantNews()
	f.refused(update(iot.ThingTypeUpdate{Description: ptr("")}), iot.InvalidRequest, "thingTypeDescription")
	f.refused(update(iot.ThingTypeUpdate{Searchable: []string{}}), iot.InvalidRequest, "searchableAttributes")
	f.refused(update(iot.ThingTypeUpdate{Propagating: []iot.PropagatingAttribute{{}}}), iot.InvalidRequest)
	f.refused(f.UpdateThingType(ctx, iot.ThingTypeUpdate{Name: "none"}), iot.NotFound)
	light, err := f.ThingType(ctx, "light")
	f.must(err)
	if !slices.Equal(light.Propagating, propagating) {
		t.Errorf("got %+v", light)
	}
	f.must(update(iot.ThingTypeUpdate{Propagating: []iot.PropagatingAttribute{}}))
	if light, err = f.ThingType(ctx, "light"); err != nil || len(light.Propagating) != 0 {
		t.Errorf("got %+v, %v", light, err)
	}
}

func TestDeprecateThingType(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{})
	ctx := t.Context()
	f.thingType("light")
	f.news()
	since := iot.At(f.clock)
	f.deprecate("light")
	f.wantNews("type.updated light")
	f.clock = f.clock.Add(time.Minute)
	f.deprecate("light")
	f.wantNews()
	light, err := f.ThingType(ctx, "light")
	f.must(err)
	if light.DeprecatedAt != since {
		t.Errorf("deprecated at %d, want %d", light.DeprecatedAt, since)
	}
	undo := iot.ThingTypeDeprecation{Name: "light", Undo: true, Actor: "test"}
	f.must(f.DeprecateThingType(ctx, undo))
	f.wantNews("type.updated light")
	f.must(f.DeprecateThingType(ctx, undo))
	f.wantNews()
	if light, err = f.ThingType(ctx, "light"); err != nil || light.DeprecatedAt != 0 {
		t.Errorf("got %+v, %v", light, err)
	}
	f.refused(f.DeprecateThingType(ctx, iot.ThingTypeDeprecation{Name: "none"}), iot.NotFound)
}

func TestDeleteThingType(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{})
	ctx := t.Context()
	f.thingType("light")
	_, err := f.CreateThing(ctx, iot.NewThing{Name: "lamp", Type: "light", Actor: "test"})
	f.must(err)
	f.must(f.Tag(ctx, iot.Tagging{ARN: realm.ARN(iot.KindThingType, "light"), Tags: tagList(1)}))
	remove := func() error { return f.DeleteThingType(ctx, iot.ThingTypeDeletion{Name: "light", Actor: "test"}) }

	f.refused(remove(), iot.InvalidRequest, "deprecate")
	f.deprecate("light")
	f.clock = f.clock.Add(5*time.Minute - time.Millisecond)
	f.refused(remove(), iot.InvalidRequest, "Cannot delete thing type : light. Please wait for 5 minutes after deprecation and then retry")

	// Undoing and deprecating again starts anew.
	f.must(f.DeprecateThingType(ctx, iot.ThingTypeDeprecation{Name: "light", Undo: true, Actor: "test"}))
	f.deprecate("light")
	f.clock = f.clock.Add(5*time.Minute - time.Millisecond)
	f.refused(remove(), iot.InvalidRequest, "minutes after deprecation and then retry")
	f.clock = f.clock.Add(time.Millisecond)
	f.refused(remove(), iot.InvalidRequest, "still things")
	f.must(f.DeleteThing(ctx, iot.ThingDeletion{Name: "lamp", Actor: "test"}))
	f.seen = lastRecord(f)
	f.must(remove())
	f.wantNews("type.deleted light")
	_, err = f.ThingType(ctx, "light")
	f.refused(err, iot.NotFound, "light")
	f.refused(remove(), iot.NotFound)
	f.thingType("light")
	tags, _, err := f.Tags(ctx, realm.ARN(iot.KindThingType, "light"), iot.Page{Limit: 50})
	f.must(err)
	if len(tags) > 0 {
		t.Errorf("the new type has the tags of the old: %v", tags)
	}
}

func TestDeleteThingTypeWithoutWait(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{TypeDeletionWait: -1})
	f.thingType("light")
	f.deprecate("light")
	f.must(f.DeleteThingType(t.Context(), iot.ThingTypeDeletion{Name: "light", Actor: "test"}))
}

func TestThingTypes(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{})
	ctx := t.Context()
	for _, name := range []string{"b", "c", "a"} {
		f.thingType(name)
	}
	var names []string
	for page := (iot.Page{Limit: 1}); ; {
		types, next, err := f.ThingTypes(ctx, "", page)
		f.must(err)
		for _, tt := range types {
			names = append(names, tt.Name)
		}
		if next == "" {
			break
		}
		page.Cursor = next
	}
	if !slices.Equal(names, []string{"a", "b", "c"}) {
		t.Errorf("got %v", names)
	}
	for name, want := range map[string]int{"a": 1, "none": 0} {
		types, next, err := f.ThingTypes(ctx, name, iot.Page{Limit: 1})
		if err != nil || len(types) != want || next != "" {
			t.Errorf("%s: got %v, %q, %v", name, types, next, err)
		}
	}
}
