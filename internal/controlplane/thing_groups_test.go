package controlplane_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsiot "github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// child creates a group below another.
func (f *fleet) child(t *testing.T, name, parent string) {
	t.Helper()
	call(t, f.CreateThingGroup, &awsiot.CreateThingGroupInput{ThingGroupName: &name, ParentGroupName: &parent})
}

func TestThingGroup(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	ctx := t.Context()
	f.group(t, "house")
	f.child(t, "floor", "house")
	in := &awsiot.CreateThingGroupInput{
		ThingGroupName: aws.String("hall"), ParentGroupName: aws.String("floor"),
		ThingGroupProperties: &types.ThingGroupProperties{ThingGroupDescription: aws.String("d"), AttributePayload: &types.AttributePayload{Attributes: map[string]string{"a": "1"}}},
	}
	created := call(t, f.CreateThingGroup, in)
	if *created.ThingGroupArn != "arn:aws:iot:eu-west-1:123456789012:thinggroup/hall" {
		t.Errorf("created %s", *created.ThingGroupArn)
	}
	if again := call(t, f.CreateThingGroup, in); *again.ThingGroupId != *created.ThingGroupId {
		t.Error("creating it again gave another id")
	}
	_, err := f.CreateThingGroup(ctx, &awsiot.CreateThingGroupInput{ThingGroupName: in.ThingGroupName})
	wantRefusal[*types.ResourceAlreadyExistsException](t, err, "Thing Group hall already exists in current account with different properties")

	d := call(t, f.DescribeThingGroup, &awsiot.DescribeThingGroupInput{ThingGroupName: in.ThingGroupName})
	var ancestors []string
	for _, a := range d.ThingGroupMetadata.RootToParentThingGroups {
		ancestors = append(ancestors, *a.GroupName+" "+*a.GroupArn)
	}
	if want := []string{"house arn:aws:iot:eu-west-1:123456789012:thinggroup/house", "floor arn:aws:iot:eu-west-1:123456789012:thinggroup/floor"}; !slices.Equal(ancestors, want) {
		t.Errorf("from the root to the parent: %q", ancestors)
	}
	p := d.ThingGroupProperties
	if d.Version != 1 || *d.ThingGroupMetadata.ParentGroupName != "floor" || d.ThingGroupMetadata.CreationDate == nil || *p.ThingGroupDescription != "d" ||
		!maps.Equal(p.AttributePayload.Attributes, map[string]string{"a": "1"}) || d.IndexName != nil || d.QueryString != nil || d.Status != "" {
		t.Errorf("described as %+v", d)
	}
	root := call(t, f.DescribeThingGroup, &awsiot.DescribeThingGroupInput{ThingGroupName: aws.String("house")})
	if root.ThingGroupMetadata.ParentGroupName != nil || len(root.ThingGroupMetadata.RootToParentThingGroups) != 0 {
		t.Errorf("the root is described as %+v", root.ThingGroupMetadata)
	}

	u := call(t, f.UpdateThingGroup, &awsiot.UpdateThingGroupInput{
		ThingGroupName: in.ThingGroupName, ExpectedVersion: aws.Int64(1),
		ThingGroupProperties: &types.ThingGroupProperties{ThingGroupDescription: aws.String("")},
	})
	d = call(t, f.DescribeThingGroup, &awsiot.DescribeThingGroupInput{ThingGroupName: in.ThingGroupName})
	if u.Version != 2 || d.Version != 2 || d.ThingGroupProperties.ThingGroupDescription != nil || d.ThingGroupProperties.AttributePayload.Attributes["a"] != "1" {
		t.Errorf("version %d, described as %+v", u.Version, d.ThingGroupProperties)
	}
	_, err = f.UpdateThingGroup(ctx, &awsiot.UpdateThingGroupInput{ThingGroupName: in.ThingGroupName, ExpectedVersion: aws.Int64(1), ThingGroupProperties: &types.ThingGroupProperties{}})
	wantRefusal[*types.VersionConflictException](t, err, "hall")
	_, err = f.UpdateThingGroup(ctx, &awsiot.UpdateThingGroupInput{ThingGroupName: aws.String("none"), ThingGroupProperties: &types.ThingGroupProperties{}})
	wantRefusal[*types.ResourceNotFoundException](t, err, "none")

	remove := func(name string, version *int64) error {
		_, err := f.DeleteThingGroup(ctx, &awsiot.DeleteThingGroupInput{ThingGroupName: &name, ExpectedVersion: version})
		return err
	}
	wantRefusal[*types.InvalidRequestException](t, remove("floor", nil), "Cannot delete thing group : floor when there are still child groups attached to it.")
	wantRefusal[*types.VersionConflictException](t, remove("hall", aws.Int64(1)), "hall")
	for range 2 {
		if err := remove("hall", nil); err != nil {
			t.Fatal(err)
		}
	}
	_, err = f.DescribeThingGroup(ctx, &awsiot.DescribeThingGroupInput{ThingGroupName: in.ThingGroupName})
	wantRefusal[*types.ResourceNotFoundException](t, err, "hall")
}

func TestListThingGroups(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.group(t, "a")
	f.group(t, "b")
	f.child(t, "a-1", "a")
	f.child(t, "a-1-x", "a-1")
	for name, c := range map[string]struct {
		in   awsiot.ListThingGroupsInput
		want []string
	}{
		"all":         {awsiot.ListThingGroupsInput{}, []string{"a", "a-1", "a-1-x", "b"}},
		"recursive":   {awsiot.ListThingGroupsInput{Recursive: aws.Bool(true)}, []string{"a", "a-1", "a-1-x", "b"}},
		"roots":       {awsiot.ListThingGroupsInput{Recursive: aws.Bool(false)}, []string{"a", "b"}},
		"children":    {awsiot.ListThingGroupsInput{ParentGroup: aws.String("a")}, []string{"a-1"}},
		"descendants": {awsiot.ListThingGroupsInput{ParentGroup: aws.String("a"), Recursive: aws.Bool(true)}, []string{"a-1", "a-1-x"}},
		"prefix":      {awsiot.ListThingGroupsInput{NamePrefixFilter: aws.String("a-")}, []string{"a-1", "a-1-x"}},
	} {
		t.Run(name, func(t *testing.T) {
			c.in.MaxResults = aws.Int32(1)
			var names []string
			for p := awsiot.NewListThingGroupsPaginator(f, &c.in); p.HasMorePages(); {
				for _, g := range next(t, p.NextPage).ThingGroups {
					names = append(names, *g.GroupName)
				}
			}
			if !slices.Equal(names, c.want) {
				t.Errorf("got %v, want %v", names, c.want)
			}
		})
	}
	_, err := f.ListThingGroups(t.Context(), &awsiot.ListThingGroupsInput{ParentGroup: aws.String("none")})
	wantRefusal[*types.ResourceNotFoundException](t, err, "none")
}

func TestMembership(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	ctx := t.Context()
	f.group(t, "house")
	f.child(t, "hall", "house")
	f.child(t, "roof", "house")
	lamp, hall := f.thing(t, "lamp"), testRealm.ARN("thinggroup", "hall")
	f.thing(t, "bell")
	f.join(t, "bell", "house")

	add := func(in awsiot.AddThingToThingGroupInput) error {
		_, err := f.AddThingToThingGroup(ctx, &in)
		return err
	}
	for range 2 {
		if err := add(awsiot.AddThingToThingGroupInput{ThingArn: &lamp, ThingGroupArn: &hall, OverrideDynamicGroups: true}); err != nil {
			t.Fatal(err)
		}
	}
	if err := add(awsiot.AddThingToThingGroupInput{ThingArn: &lamp, ThingName: aws.String("lamp"), ThingGroupArn: &hall, ThingGroupName: aws.String("hall")}); err != nil {
		t.Fatal(err)
	}
	for text, in := range map[string]awsiot.AddThingToThingGroupInput{
		"Both thingGroupArn and thingGroupName are empty. Need to specify at least one of them": {ThingArn: &lamp},
		"Both thingArn and thingName are empty. Need to specify at least one of them":           {ThingGroupArn: &hall},
		"thingGroupName roof":            {ThingArn: &lamp, ThingGroupArn: &hall, ThingGroupName: aws.String("roof")},
		"thingName bell":                 {ThingArn: &lamp, ThingName: aws.String("bell"), ThingGroupArn: &hall},
		"thingGroupArn":                  {ThingArn: &lamp, ThingGroupArn: &lamp},
		"region \"us-east-1\"":           {ThingArn: aws.String("arn:aws:iot:us-east-1:123456789012:thing/lamp"), ThingGroupArn: &hall},
		"Invalid ARN":                    {ThingArn: aws.String("lamp"), ThingGroupArn: &hall},
		"member of hall in the same":     {ThingArn: &lamp, ThingGroupName: aws.String("house")},
		"'a.b' at 'thingGroupName' fail": {ThingArn: &lamp, ThingGroupName: aws.String("a.b")},
	} {
		wantRefusal[*types.InvalidRequestException](t, add(in), text)
	}
	wantRefusal[*types.ResourceNotFoundException](t, add(awsiot.AddThingToThingGroupInput{ThingName: aws.String("none"), ThingGroupArn: &hall}), "none")
	wantRefusal[*types.ResourceNotFoundException](t, add(awsiot.AddThingToThingGroupInput{ThingName: aws.String("lamp"), ThingGroupName: aws.String("none")}), "none")

	var things []string
	for p := awsiot.NewListThingsInThingGroupPaginator(f, &awsiot.ListThingsInThingGroupInput{
		ThingGroupName: aws.String("house"), Recursive: true, MaxResults: aws.Int32(1),
	}); p.HasMorePages(); {
		things = append(things, next(t, p.NextPage).Things...)
	}
	if !slices.Equal(things, []string{"bell", "lamp"}) {
		t.Errorf("house holds %v", things)
	}
	direct := call(t, f.ListThingsInThingGroup, &awsiot.ListThingsInThingGroupInput{ThingGroupName: aws.String("house")})
	if !slices.Equal(direct.Things, []string{"bell"}) {
		t.Errorf("house holds directly %v", direct.Things)
	}

	_, err := f.UpdateThingGroupsForThing(ctx, &awsiot.UpdateThingGroupsForThingInput{
		ThingName: aws.String("lamp"), ThingGroupsToAdd: []string{"roof"}, ThingGroupsToRemove: []string{"hall"},
	})
	if err != nil {
		t.Fatal(err)
	}
	groups := call(t, f.ListThingGroupsForThing, &awsiot.ListThingGroupsForThingInput{ThingName: aws.String("lamp")})
	if len(groups.ThingGroups) != 1 || *groups.ThingGroups[0].GroupName != "roof" || *groups.ThingGroups[0].GroupArn != testRealm.ARN("thinggroup", "roof") {
		t.Errorf("lamp is in %+v", groups.ThingGroups)
	}
	_, err = f.UpdateThingGroupsForThing(ctx, &awsiot.UpdateThingGroupsForThingInput{ThingGroupsToAdd: []string{"roof"}})
	wantRefusal[*types.InvalidRequestException](t, err, "thingName")
	_, err = f.UpdateThingGroupsForThing(ctx, &awsiot.UpdateThingGroupsForThingInput{
		ThingName: aws.String("lamp"), ThingGroupsToAdd: []string{"roof"}, ThingGroupsToRemove: []string{"roof"},
	})
	wantRefusal[*types.InvalidRequestException](t, err, "roof")

	for range 2 {
		_, err := f.RemoveThingFromThingGroup(ctx, &awsiot.RemoveThingFromThingGroupInput{ThingName: aws.String("lamp"), ThingGroupName: aws.String("roof")})
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err = f.RemoveThingFromThingGroup(ctx, &awsiot.RemoveThingFromThingGroupInput{ThingGroupName: aws.String("roof")})
	wantRefusal[*types.InvalidRequestException](t, err, "Both thingArn and thingName are empty.")
	groups = call(t, f.ListThingGroupsForThing, &awsiot.ListThingGroupsForThingInput{ThingName: aws.String("lamp")})
	if len(groups.ThingGroups) != 0 {
		t.Errorf("lamp is in %+v", groups.ThingGroups)
	}
	_, err = f.ListThingGroupsForThing(ctx, &awsiot.ListThingGroupsForThingInput{ThingName: aws.String("none")})
	wantRefusal[*types.ResourceNotFoundException](t, err, "none")
	_, err = f.ListThingsInThingGroup(ctx, &awsiot.ListThingsInThingGroupInput{ThingGroupName: aws.String("none")})
	wantRefusal[*types.ResourceNotFoundException](t, err, "none")
}
