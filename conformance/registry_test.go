package conformance

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/google/uuid"
)

// Things, types and static groups (registry spec §1 to §3, statements 1 to 70), tags (146 to 149) and events (150 to 156).

const (
	invalid  = "InvalidRequestException"
	notFound = "ResourceNotFoundException"
	taken    = "ResourceAlreadyExistsException"
	mismatch = "VersionConflictException"
)

// fails checks the code of an error, "" for none.
func (f *fleet) fails(code string, err error, what string, args ...any) {
	f.t.Helper()
	got := ""
	if err != nil {
		got = failure(err)
	}
	if got != code {
		f.t.Errorf("%s: %v, want %q", fmt.Sprintf(what, args...), err, code)
	}
}

func payload(attributes map[string]string, merge bool) *types.AttributePayload {
	return &types.AttributePayload{Attributes: attributes, Merge: merge}
}

func attributes(n int) map[string]string {
	m := map[string]string{}
	for i := range n {
		m[fmt.Sprint("a", i)] = "v"
	}
	return m
}

func (f *fleet) describeThing(name string) *iot.DescribeThingOutput {
	f.t.Helper()
	out, err := f.api.DescribeThing(f.ctx, &iot.DescribeThingInput{ThingName: &name})
	f.must(err)
	return out
}

// thingType creates a type and returns its full name.
func (f *fleet) thingType(n string) string {
	f.t.Helper()
	_, err := f.api.CreateThingType(f.ctx, &iot.CreateThingTypeInput{ThingTypeName: aws.String(f.name(n))})
	f.must(err)
	return f.name(n)
}

func (f *fleet) deprecate(name string, undo bool) {
	f.t.Helper()
	_, err := f.api.DeprecateThingType(f.ctx, &iot.DeprecateThingTypeInput{ThingTypeName: &name, UndoDeprecate: undo})
	f.must(err)
}

func (f *fleet) updateThing(name string, change func(*iot.UpdateThingInput)) error {
	in := &iot.UpdateThingInput{ThingName: &name}
	change(in)
	_, err := f.api.UpdateThing(f.ctx, in)
	return err
}

func TestR001ToR010CreateThing(t *testing.T) {
	f := fleetOn(t, ownServer(t))
	f.must(f.events(true, types.EventTypeThing))
	watch := f.connect("watch")
	f.must(watch.subscribe("$aws/events/thing/#", 1))
	in := &iot.CreateThingInput{ThingName: aws.String("lamp"), AttributePayload: payload(map[string]string{"color": "red"}, false)}
	made, err := f.api.CreateThing(f.ctx, in)
	f.must(err)
	if _, err := uuid.Parse(*made.ThingId); err != nil || *made.ThingArn != f.thingARN("lamp") || f.describeThing("lamp").Version != 1 {
		t.Errorf("%+v", made)
	}
	again, err := f.api.CreateThing(f.ctx, in)
	f.must(err)
	if *again.ThingId != *made.ThingId {
		t.Error("another thing")
	}
	in.AttributePayload.Attributes["color"] = "blue"
	_, err = f.api.CreateThing(f.ctx, in)
	exists := new(types.ResourceAlreadyExistsException)
	if !errors.As(err, &exists) || aws.ToString(exists.ResourceId) != *made.ThingId || aws.ToString(exists.ResourceArn) != *made.ThingArn {
		t.Errorf("%v", err)
	}
	f.must(f.updateThing("lamp", func(*iot.UpdateThingInput) {}))
	if _, err := watch.wait(0, func(m message) bool { return strings.HasSuffix(m.topic, "/updated") }); err != nil {
		t.Fatal(err)
	}
	if n := watch.count(func(m message) bool { return strings.HasSuffix(m.topic, "/created") }); n != 1 {
		t.Errorf("%d events of a creation", n)
	}

	old, current := f.thingType("old"), f.thingType("current")
	f.deprecate(old, false)
	create := func(name, kind string, attributes map[string]string) error {
		in := &iot.CreateThingInput{ThingName: &name, AttributePayload: payload(attributes, false)}
		if kind != "" {
			in.ThingTypeName = &kind
		}
		_, err := f.api.CreateThing(f.ctx, in)
		return err
	}
	f.fails(notFound, create("a", "missing", nil), "an unknown type")
	f.fails(invalid, create("a", old, nil), "a deprecated type")
	f.fails(invalid, create("a", "", attributes(4)), "4 attributes without a type")
	f.fails("", create("a", "", attributes(3)), "3 attributes without a type")
	f.fails(invalid, create("b", current, attributes(51)), "51 attributes")
	f.fails("", create("b", current, attributes(50)), "50 attributes")
	f.fails(invalid, create("c", "", map[string]string{strings.Repeat("n", 129): "v"}), "a name of 129")
	f.fails(invalid, create("c", "", map[string]string{"n": strings.Repeat("v", 801)}), "a value of 801")
	f.fails("", create("c", "", map[string]string{strings.Repeat("n", 128): strings.Repeat("v", 800)}), "a name of 128 and a value of 800")
	f.fails(invalid, create("d", "", map[string]string{"n": "a b"}), "a value with a space")
	f.fails(invalid, create(strings.Repeat("n", 129), "", nil), "a thing's name of 129")
	f.fails(invalid, create("a.b", "", nil), "a thing's name with a dot")
	f.fails("", create(strings.Repeat("n", 128), "", nil), "a thing's name of 128")
}

func TestR011ToR021UpdateThing(t *testing.T) {
	f := newFleet(t)
	thing := f.thing("t")
	version := int64(1)
	is := func(want map[string]string) {
		t.Helper()
		version++
		if d := f.describeThing(thing); !maps.Equal(d.Attributes, want) || d.Version != version {
			t.Errorf("%v, version %d; want %v, %d", d.Attributes, d.Version, want, version)
		}
	}
	set := func(attributes map[string]string, merge bool) {
		t.Helper()
		f.must(f.updateThing(thing, func(in *iot.UpdateThingInput) { in.AttributePayload = payload(attributes, merge) }))
	}
	set(map[string]string{"a": "1", "b": "2"}, false)
	is(map[string]string{"a": "1", "b": "2"})
	set(map[string]string{"c": "3"}, false)
	is(map[string]string{"c": "3"})
	set(map[string]string{"d": "4"}, true)
	is(map[string]string{"c": "3", "d": "4"})
	set(map[string]string{"c": ""}, true)
	is(map[string]string{"d": "4"})
	f.must(f.updateThing(thing, func(*iot.UpdateThingInput) {}))
	is(map[string]string{"d": "4"})
	f.must(f.updateThing(thing, func(in *iot.UpdateThingInput) { in.ExpectedVersion = &version }))
	is(map[string]string{"d": "4"})
	f.fails(mismatch, f.updateThing(thing, func(in *iot.UpdateThingInput) {
		in.ExpectedVersion, in.AttributePayload = aws.Int64(version-1), payload(map[string]string{"x": "y"}, false)
	}), "a former version")
	version--
	is(map[string]string{"d": "4"})

	kind, old := f.thingType("kind"), f.thingType("old")
	f.deprecate(old, false)
	remove := func(in *iot.UpdateThingInput) { in.RemoveThingType = true }
	f.fails(invalid, f.updateThing(thing, func(in *iot.UpdateThingInput) { in.RemoveThingType, in.ThingTypeName = true, &kind }), "a type to remove and to have")
	f.fails("", f.updateThing(thing, remove), "no type to remove")
	f.must(f.updateThing(thing, func(in *iot.UpdateThingInput) {
		in.ThingTypeName, in.AttributePayload = &kind, payload(attributes(10), false)
	}))
	f.fails(invalid, f.updateThing(thing, remove), "10 attributes without a type")
	if d := f.describeThing(thing); aws.ToString(d.ThingTypeName) != kind {
		t.Errorf("%+v", d)
	}
	f.fails(invalid, f.updateThing(thing, func(in *iot.UpdateThingInput) { in.ThingTypeName = &old }), "a deprecated type")
	f.fails(notFound, f.updateThing(thing, func(in *iot.UpdateThingInput) { in.ThingTypeName = aws.String(f.name("missing")) }), "an unknown type")
	f.fails(notFound, f.updateThing(f.name("missing"), func(*iot.UpdateThingInput) {}), "an unknown thing")
}

func TestR022ToR026DeleteThing(t *testing.T) {
	f := newFleet(t)
	remove := func(name string, version *int64) error {
		_, err := f.api.DeleteThing(f.ctx, &iot.DeleteThingInput{ThingName: &name, ExpectedVersion: version})
		return err
	}
	f.fails("", remove(f.name("missing"), nil), "a thing that is not there")
	thing := f.thing("t")
	group := f.group("g", "", thing)
	first := f.describeThing(thing)
	if aws.ToString(first.DefaultClientId) != thing || first.BillingGroupName != nil {
		t.Errorf("%+v", first)
	}
	c := f.newCertificate(true)
	f.must(f.attach(thing, c.id, ""))
	err := remove(thing, nil)
	f.fails(invalid, err, "with a principal")
	if !strings.Contains(fmt.Sprint(err), "still attached to one or more principals") {
		t.Error(err)
	}
	f.must(f.detach(thing, c.id))
	f.fails(mismatch, remove(thing, aws.Int64(2)), "another version")
	f.fails("", remove(thing, aws.Int64(1)), "its version")
	f.thing("t")
	groups, err := f.api.ListThingGroupsForThing(f.ctx, &iot.ListThingGroupsForThingInput{ThingName: &thing})
	f.must(err)
	if d := f.describeThing(thing); *d.ThingId == *first.ThingId || d.Version != 1 || len(groups.ThingGroups) != 0 {
		t.Errorf("%+v, groups %v", d, groups.ThingGroups)
	}
	if got := f.inGroup(group, false); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

// inGroup lists the members of a group, sorted.
func (f *fleet) inGroup(group string, recursive bool) []string {
	f.t.Helper()
	out, err := f.api.ListThingsInThingGroup(f.ctx, &iot.ListThingsInThingGroupInput{ThingGroupName: &group, Recursive: recursive})
	f.must(err)
	slices.Sort(out.Things)
	return out.Things
}

func TestR027ToR033ListThings(t *testing.T) {
	f := newFleet(t)
	kind := f.thingType("kind")
	value := f.name("v")
	for n, v := range map[string]string{"a": value, "b": value + "x", "c": "other"} {
		in := &iot.CreateThingInput{ThingName: aws.String(f.name(n)), AttributePayload: payload(map[string]string{f.prefix: v}, false)}
		if n != "c" {
			in.ThingTypeName = &kind
		}
		_, err := f.api.CreateThing(f.ctx, in)
		f.must(err)
	}
	list := func(in iot.ListThingsInput) (names []string, pages int) {
		t.Helper()
		p := iot.NewListThingsPaginator(f.api, &in)
		for p.HasMorePages() {
			page, err := p.NextPage(f.ctx)
			f.must(err)
			pages++
			for _, thing := range page.Things {
				names = append(names, strings.TrimPrefix(*thing.ThingName, f.prefix+"-"))
			}
		}
		slices.Sort(names)
		return names, pages
	}
	for want, in := range map[string]iot.ListThingsInput{
		"[a b]": {ThingTypeName: &kind}, "[a]": {AttributeName: &f.prefix, AttributeValue: &value},
		"[]": {ThingTypeName: aws.String(f.name("missing"))},
	} {
		if got, _ := list(in); fmt.Sprint(got) != want {
			t.Errorf("%+v: %v, want %s", in, got, want)
		}
	}
	if got, _ := list(iot.ListThingsInput{AttributeName: &f.prefix, AttributeValue: &value, UsePrefixAttributeValue: true}); fmt.Sprint(got) != "[a b]" {
		t.Errorf("by prefix: %v", got)
	}
	third := f.name("third")
	_, err := f.api.CreateThing(f.ctx, &iot.CreateThingInput{ThingName: &third, ThingTypeName: &kind})
	f.must(err)
	if got, pages := list(iot.ListThingsInput{ThingTypeName: &kind, MaxResults: aws.Int32(1)}); fmt.Sprint(got) != "[a b third]" || pages != 3 {
		t.Errorf("%v on %d pages", got, pages)
	}
	for _, n := range []int32{0, 251} {
		_, err := f.api.ListThings(f.ctx, &iot.ListThingsInput{MaxResults: &n})
		f.fails(invalid, err, "a page of %d", n)
	}

	c := f.newCertificate(true)
	f.must(f.attach(f.name("a"), c.id, ""))
	f.must(f.attach(f.name("a"), c.id, ""))
	principals, err := f.api.ListThingPrincipals(f.ctx, &iot.ListThingPrincipalsInput{ThingName: aws.String(f.name("a"))})
	f.must(err)
	if len(principals.Principals) != 1 {
		t.Errorf("%v", principals.Principals)
	}
	if err := f.attach(f.name("b"), c.id, types.ThingPrincipalTypeExclusiveThing); err == nil {
		t.Error("exclusive on a second thing")
	}
}

func TestR034ToR043ThingTypes(t *testing.T) {
	f := fleetOn(t, ownServer(t, "--test"))
	create := func(name, description string, searchable ...string) (string, error) {
		out, err := f.api.CreateThingType(f.ctx, &iot.CreateThingTypeInput{ThingTypeName: &name, ThingTypeProperties: &types.ThingTypeProperties{ThingTypeDescription: &description, SearchableAttributes: searchable}})
		if err != nil {
			return "", err
		}
		return *out.ThingTypeId, nil
	}
	describe := func(name string) *iot.DescribeThingTypeOutput {
		t.Helper()
		out, err := f.api.DescribeThingType(f.ctx, &iot.DescribeThingTypeInput{ThingTypeName: &name})
		f.must(err)
		return out
	}
	remove := func(name string) error {
		_, err := f.api.DeleteThingType(f.ctx, &iot.DeleteThingTypeInput{ThingTypeName: &name})
		return err
	}
	first, err := create("kind", "words", "a", "b", "c")
	f.must(err)
	if again, err := create("kind", "words", "a", "b", "c"); err != nil || again != first {
		t.Errorf("%s, %v", again, err)
	}
	_, err = create("kind", "other words", "a", "b", "c")
	f.fails(taken, err, "another description")
	_, err = create("other", "", "a", "b", "c", "d")
	f.fails(invalid, err, "4 searchable attributes")

	_, err = f.api.CreateThing(f.ctx, &iot.CreateThingInput{ThingName: aws.String("t"), ThingTypeName: aws.String("kind")})
	f.must(err)
	f.fails(invalid, remove("kind"), "not deprecated")
	f.deprecate("kind", false)
	if m := describe("kind").ThingTypeMetadata; !m.Deprecated || m.DeprecationDate == nil {
		t.Errorf("%+v", m)
	}
	f.fails("", f.updateThing("t", func(in *iot.UpdateThingInput) { in.AttributePayload = payload(attributes(9), false) }), "attributes of a thing of a deprecated type")
	if d := f.describeThing("t"); aws.ToString(d.ThingTypeName) != "kind" || len(d.Attributes) != 9 {
		t.Errorf("%+v", d)
	}
	f.deprecate("kind", true)
	if m := describe("kind").ThingTypeMetadata; m.Deprecated || m.DeprecationDate != nil {
		t.Errorf("%+v", m)
	}
	f.deprecate("kind", false)
	err = remove("kind")
	if f.fails(invalid, err, "before 5 minutes"); !strings.Contains(fmt.Sprint(err), "minutes after deprecation and then retry") {
		t.Error(err)
	}
	if status, _, answer := f.call("iot", "POST", "/_drover/clock", `{"advance":"5m1s"}`); status != 200 {
		t.Fatal(answer)
	}
	f.fails(invalid, remove("kind"), "in use")
	_, err = f.api.DeleteThing(f.ctx, &iot.DeleteThingInput{ThingName: aws.String("t")})
	f.must(err)
	f.fails("", remove("kind"), "after 5 minutes")
	_, err = f.api.DescribeThingType(f.ctx, &iot.DescribeThingTypeInput{ThingTypeName: aws.String("kind")})
	f.fails(notFound, err, "deleted")

	f.thingType("p")
	propagate := func(p types.PropagatingAttribute) error {
		_, err := f.api.UpdateThingType(f.ctx, &iot.UpdateThingTypeInput{ThingTypeName: aws.String(f.name("p")), ThingTypeProperties: &types.ThingTypeProperties{
			Mqtt5Configuration: &types.Mqtt5Configuration{PropagatingAttributes: []types.PropagatingAttribute{p}},
		}})
		return err
	}
	f.fails("", propagate(types.PropagatingAttribute{UserPropertyKey: aws.String("k"), ThingAttribute: aws.String("a")}), "a thing's attribute")
	if p := describe(f.name("p")).ThingTypeProperties; p.Mqtt5Configuration == nil || aws.ToString(p.Mqtt5Configuration.PropagatingAttributes[0].ThingAttribute) != "a" {
		t.Errorf("%+v", p)
	}
	f.fails(invalid, propagate(types.PropagatingAttribute{UserPropertyKey: aws.String("k"), ThingAttribute: aws.String("a"), ConnectionAttribute: aws.String("iot:ClientId")}), "both")
}

func (f *fleet) createGroup(name, parent, description string, attributes map[string]string) (*iot.CreateThingGroupOutput, error) {
	in := &iot.CreateThingGroupInput{ThingGroupName: &name, ThingGroupProperties: &types.ThingGroupProperties{ThingGroupDescription: &description, AttributePayload: payload(attributes, false)}}
	if parent != "" {
		in.ParentGroupName = &parent
	}
	return f.api.CreateThingGroup(f.ctx, in)
}

func (f *fleet) describeGroup(name string) *iot.DescribeThingGroupOutput {
	f.t.Helper()
	out, err := f.api.DescribeThingGroup(f.ctx, &iot.DescribeThingGroupInput{ThingGroupName: &name})
	f.must(err)
	return out
}

func (f *fleet) deleteGroup(name string) error {
	_, err := f.api.DeleteThingGroup(f.ctx, &iot.DeleteThingGroupInput{ThingGroupName: &name})
	return err
}

func TestR044ToR055Groups(t *testing.T) {
	f := newFleet(t)
	root := f.group("root", "")
	if g := f.describeGroup(root); g.Version != 1 || g.ThingGroupMetadata.ParentGroupName != nil || len(g.ThingGroupMetadata.RootToParentThingGroups) != 0 {
		t.Errorf("%+v", g)
	}
	parent := root
	for level := 2; level <= 8; level++ {
		_, err := f.createGroup(f.name(fmt.Sprint("level", level)), parent, "", nil)
		if f.fails(map[bool]string{true: invalid}[level == 8], err, "level %d", level); level < 8 {
			parent = f.name(fmt.Sprint("level", level))
		}
	}
	var chain []string
	for _, g := range f.describeGroup(f.name("level4")).ThingGroupMetadata.RootToParentThingGroups {
		chain = append(chain, *g.GroupName)
	}
	if want := []string{root, f.name("level2"), f.name("level3")}; !slices.Equal(chain, want) {
		t.Errorf("%v, want %v", chain, want)
	}
	for i := range 101 {
		_, err := f.createGroup(f.name(fmt.Sprint("child", i)), f.name("level2"), "", nil)
		f.fails(map[bool]string{true: invalid}[i >= 99], err, "child %d", i) // level 3 is one, too
	}
	made, err := f.createGroup(f.name("g"), "", "words", nil)
	f.must(err)
	if again, err := f.createGroup(f.name("g"), "", "words", nil); err != nil || *again.ThingGroupId != *made.ThingGroupId {
		t.Errorf("%v", err)
	}
	_, err = f.createGroup(f.name("g"), "", "other words", nil)
	f.fails(taken, err, "another description")
	_, err = f.createGroup(f.name("h"), "", "", attributes(51))
	f.fails(invalid, err, "51 attributes")

	update := func(attributes map[string]string, merge bool, expected *int64) (int64, error) {
		out, err := f.api.UpdateThingGroup(f.ctx, &iot.UpdateThingGroupInput{ThingGroupName: aws.String(f.name("g")), ExpectedVersion: expected,
			ThingGroupProperties: &types.ThingGroupProperties{AttributePayload: payload(attributes, merge)}})
		if err != nil {
			return 0, err
		}
		return out.Version, nil
	}
	for i, c := range []struct {
		attributes map[string]string
		merge      bool
		want       map[string]string
	}{
		{map[string]string{"a": "1", "b": "2"}, false, map[string]string{"a": "1", "b": "2"}},
		{map[string]string{"c": "3"}, true, map[string]string{"a": "1", "b": "2", "c": "3"}},
		{map[string]string{"a": ""}, true, map[string]string{"b": "2", "c": "3"}},
	} {
		if v, err := update(c.attributes, c.merge, nil); err != nil || v != int64(i+2) {
			t.Errorf("version %d, %v", v, err)
		}
		if got := f.describeGroup(f.name("g")).ThingGroupProperties.AttributePayload.Attributes; !maps.Equal(got, c.want) {
			t.Errorf("%v, want %v", got, c.want)
		}
	}
	_, err = update(nil, true, aws.Int64(1))
	f.fails(mismatch, err, "a former version")
	_, err = f.api.UpdateThingGroup(f.ctx, &iot.UpdateThingGroupInput{ThingGroupName: aws.String(f.name("missing")), ThingGroupProperties: &types.ThingGroupProperties{}})
	f.fails(notFound, err, "a group that is not there")

	err = f.deleteGroup(root)
	if f.fails(invalid, err, "with a child"); !strings.Contains(fmt.Sprint(err), "child groups attached") {
		t.Error(err)
	}
	thing := f.thing("t")
	f.join(f.name("g"), thing)
	f.fails("", f.deleteGroup(f.name("g")), "with members")
	groups, err := f.api.ListThingGroupsForThing(f.ctx, &iot.ListThingGroupsForThingInput{ThingName: &thing})
	f.must(err)
	if len(groups.ThingGroups) != 0 {
		t.Errorf("%v", groups.ThingGroups)
	}
	f.fails("", f.deleteGroup(f.name("g")), "a group that is not there")
}

func TestR056ToR064Memberships(t *testing.T) {
	f := newFleet(t)
	thing, group := f.thing("t"), f.group("g", "")
	add := func(in iot.AddThingToThingGroupInput) error {
		_, err := f.api.AddThingToThingGroup(f.ctx, &in)
		return err
	}
	f.join(group, thing)
	f.join(group, thing)
	if got := f.inGroup(group, false); !slices.Equal(got, []string{thing}) {
		t.Errorf("%v", got)
	}
	f.leave(group, thing)
	f.fails("", add(iot.AddThingToThingGroupInput{ThingArn: aws.String(f.thingARN(thing)), ThingGroupArn: aws.String(f.groupARN(group))}), "by ARNs")
	if got := f.inGroup(group, false); len(got) != 1 {
		t.Errorf("%v", got)
	}
	f.fails(invalid, add(iot.AddThingToThingGroupInput{ThingName: &thing}), "no group")
	f.fails(invalid, add(iot.AddThingToThingGroupInput{ThingName: &thing, ThingGroupName: &group, ThingGroupArn: aws.String(f.groupARN("other"))}), "a name and another's ARN")
	f.fails(notFound, add(iot.AddThingToThingGroupInput{ThingName: aws.String(f.name("missing")), ThingGroupName: &group}), "an unknown thing")
	f.fails(notFound, add(iot.AddThingToThingGroupInput{ThingName: &thing, ThingGroupName: aws.String(f.name("missing"))}), "an unknown group")
	f.leave(group, thing)
	f.leave(group, thing) // is no member

	root := f.group("root", "")
	one, two := f.group("one", root), f.group("two", root)
	f.join(one, thing)
	f.fails(invalid, add(iot.AddThingToThingGroupInput{ThingName: &thing, ThingGroupName: &two}), "two groups below one root")
	_, err := f.api.UpdateThingGroupsForThing(f.ctx, &iot.UpdateThingGroupsForThingInput{ThingName: &thing, ThingGroupsToAdd: []string{two}, ThingGroupsToRemove: []string{one}})
	f.must(err)
	if len(f.inGroup(one, false)) != 0 || len(f.inGroup(two, false)) != 1 {
		t.Errorf("%v and %v", f.inGroup(one, false), f.inGroup(two, false))
	}
	for i := range 10 { // with that below the root
		name := f.group(fmt.Sprint("n", i), "")
		f.fails(map[bool]string{true: invalid}[i == 9], add(iot.AddThingToThingGroupInput{ThingName: &thing, ThingGroupName: &name}), "group %d", i+2)
	}
}

func TestR065ToR070GroupLists(t *testing.T) {
	f := newFleet(t)
	root := f.group("root", "", f.thing("a"))
	child := f.group("child", root, f.thing("b"))
	below := f.group("below", child, f.thing("c"))
	beside := f.group("beside", "", f.name("b"))
	if got := f.inGroup(root, true); !slices.Equal(got, []string{f.name("a"), f.name("b"), f.name("c")}) {
		t.Errorf("%v", got)
	}
	if got := f.inGroup(root, false); !slices.Equal(got, []string{f.name("a")}) {
		t.Errorf("%v", got)
	}
	out, err := f.api.ListThingGroupsForThing(f.ctx, &iot.ListThingGroupsForThingInput{ThingName: aws.String(f.name("b"))})
	f.must(err)
	var direct []string
	for _, g := range out.ThingGroups {
		direct = append(direct, *g.GroupName)
	}
	slices.Sort(direct)
	if !slices.Equal(direct, []string{beside, child}) {
		t.Errorf("%v", direct)
	}
	list := func(in iot.ListThingGroupsInput) (names []string) {
		t.Helper()
		pages := iot.NewListThingGroupsPaginator(f.api, &in)
		for pages.HasMorePages() {
			page, err := pages.NextPage(f.ctx)
			f.must(err)
			for _, g := range page.ThingGroups {
				if strings.HasPrefix(*g.GroupName, f.prefix) {
					names = append(names, *g.GroupName)
				}
			}
		}
		slices.Sort(names)
		return names
	}
	for _, c := range []struct {
		in   iot.ListThingGroupsInput
		want []string
	}{
		{iot.ListThingGroupsInput{Recursive: aws.Bool(false)}, []string{beside, root}},
		{iot.ListThingGroupsInput{ParentGroup: &root, Recursive: aws.Bool(false)}, []string{child}},
		{iot.ListThingGroupsInput{ParentGroup: &root, Recursive: aws.Bool(true)}, []string{below, child}},
		{iot.ListThingGroupsInput{NamePrefixFilter: aws.String(f.name("be"))}, []string{below, beside}},
	} {
		if got := list(c.in); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v, want %v", c.in, got, c.want)
		}
	}
	_, err = f.api.ListThingGroups(f.ctx, &iot.ListThingGroupsInput{ParentGroup: aws.String(f.name("missing"))})
	f.fails(notFound, err, "an unknown parent")
}

// TestR099BuildingIndex: an index that is not built yet says so, and then has everything.
func TestR099BuildingIndex(t *testing.T) {
	f := fleetOn(t, ownServer(t))
	const things = 20_000
	for from := 0; from < things; from += 5000 {
		var lines strings.Builder
		for i := range 5000 {
			fmt.Fprintf(&lines, `{"thingName":"t%d"}`+"\n", from+i)
		}
		if status, _, answer := f.call("iot", "POST", "/_drover/import", lines.String()); status != 200 {
			t.Fatal(answer)
		}
	}
	_, err := f.api.UpdateIndexingConfiguration(f.ctx, &iot.UpdateIndexingConfigurationInput{
		ThingIndexingConfiguration: &types.ThingIndexingConfiguration{ThingIndexingMode: types.ThingIndexingModeRegistry},
	})
	f.must(err)
	all := aws.String("*")
	_, err = f.api.SearchIndex(f.ctx, &iot.SearchIndexInput{QueryString: all})
	f.refused(err, "IndexNotReadyException", 400)
	var found *iot.GetStatisticsOutput
	f.eventually("the index is built", func() bool {
		found, err = f.api.GetStatistics(f.ctx, &iot.GetStatisticsInput{QueryString: all})
		return failure(err) != "IndexNotReadyException"
	})
	f.must(err)
	if found.Statistics.Count != things {
		t.Errorf("%d things", found.Statistics.Count)
	}
}

func TestR146ToR149Tags(t *testing.T) {
	f := newFleet(t)
	name := f.group("g", "")
	arn := f.groupARN(name)
	tag := func(arn string, pairs ...string) error {
		in := &iot.TagResourceInput{ResourceArn: &arn}
		for i := 0; i < len(pairs); i += 2 {
			in.Tags = append(in.Tags, types.Tag{Key: &pairs[i], Value: &pairs[i+1]})
		}
		_, err := f.api.TagResource(f.ctx, in)
		return err
	}
	list := func() string {
		t.Helper()
		out, err := f.api.ListTagsForResource(f.ctx, &iot.ListTagsForResourceInput{ResourceArn: &arn})
		f.must(err)
		var all []string
		for _, v := range out.Tags {
			all = append(all, *v.Key+"="+*v.Value)
		}
		slices.Sort(all)
		return strings.Join(all, " ")
	}
	f.must(tag(arn, "a", "1", "b", "2"))
	f.must(tag(arn, "a", "3"))
	if got := list(); got != "a=3 b=2" {
		t.Error(got)
	}
	_, err := f.api.UntagResource(f.ctx, &iot.UntagResourceInput{ResourceArn: &arn, TagKeys: []string{"b", "missing"}})
	f.must(err)
	if got := list(); got != "a=3" {
		t.Error(got)
	}
	var many []string
	for i := range 50 {
		many = append(many, fmt.Sprint("k", i), "v")
	}
	err = tag(arn, many...)
	f.refused(err, "LimitExceededException", 410)
	if got := list(); got != "a=3" {
		t.Error(got)
	}
	f.fails(invalid, tag(arn, "aws:x", "v"), "a key of AWS")
	f.fails(invalid, tag(f.thingARN(f.thing("t")), "k", "v"), "a thing")
	f.must(f.deleteGroup(name))
	f.group("g", "")
	if got := list(); got != "" {
		t.Errorf("of a group that is another one: %s", got)
	}
}

func TestR150ToR156RegistryEvents(t *testing.T) {
	f := fleetOn(t, ownServer(t))
	watch := f.connect("watch")
	f.must(watch.subscribe("$aws/events/#", 1))
	seen := 0
	// next returns the next events, of which the last one ends in a word.
	next := func(word string) (events []message) {
		t.Helper()
		for {
			m, err := watch.wait(seen, func(m message) bool {
				return !strings.Contains(m.topic, "/presence/") && !strings.Contains(m.topic, "/subscriptions/")
			})
			f.must(err)
			seen++
			at, ok := m.json["timestamp"].(float64)
			if !ok || len(fmt.Sprintf("%.0f", at)) != 13 {
				t.Errorf("%s: timestamp %v", m.topic, m.json["timestamp"])
			}
			if events = append(events, m); strings.HasSuffix(m.topic, word) {
				return events
			}
		}
	}
	// Off: nothing. On for things: no others.
	f.thing("quiet")
	f.must(f.events(true, types.EventTypeThing))
	f.group("quiet", "")
	thing := f.thing("t")
	f.must(f.updateThing(thing, func(*iot.UpdateThingInput) {}))
	_, err := f.api.DeleteThing(f.ctx, &iot.DeleteThingInput{ThingName: aws.String(f.name("quiet"))})
	f.must(err)
	events := next("/deleted")
	var topics []string
	for _, m := range events {
		topics = append(topics, strings.TrimPrefix(m.topic, "$aws/events/thing/"))
	}
	if want := []string{thing + "/created", thing + "/updated", f.name("quiet") + "/deleted"}; !slices.Equal(topics, want) {
		t.Fatalf("%v, want %v", topics, want)
	}
	if v := events[1].json["versionNumber"]; v != float64(f.describeThing(thing).Version) {
		t.Errorf("version %v", v)
	}

	f.must(f.events(false, types.EventTypeThing))
	f.must(f.events(true, types.EventTypeThingTypeAssociation, types.EventTypeThingGroupHierarchy, types.EventTypeThingGroupMembership))
	one, two := f.thingType("one"), f.thingType("two")
	for _, kind := range []string{one, two} {
		f.must(f.updateThing(thing, func(in *iot.UpdateThingInput) { in.ThingTypeName = &kind }))
	}
	switched := append(next("/"+one+"/added"), next("/"+two+"/added")...)
	if len(switched) != 3 || !strings.HasSuffix(switched[1].topic, "/"+one+"/removed") {
		t.Errorf("%v", switched)
	}
	root := f.group("root", "")
	child := f.group("child", root)
	if m := next("/added")[0]; m.topic != "$aws/events/thingGroupHierarchy/thingGroup/"+root+"/childThingGroup/"+child+"/added" {
		t.Errorf("%s", m.topic)
	}
	f.join(root, thing)
	f.leave(root, thing)
	joined := next("/removed")
	if len(joined) != 2 || joined[0].json["membershipId"] == nil || joined[0].json["membershipId"] != joined[1].json["membershipId"] {
		t.Errorf("%v", joined)
	}
}
