package controlplane_test

import (
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsiot "github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

func TestThingType(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	ctx := t.Context()
	name := aws.String("light")
	in := &awsiot.CreateThingTypeInput{
		ThingTypeName: name,
		ThingTypeProperties: &types.ThingTypeProperties{
			ThingTypeDescription: aws.String("gives light"),
			SearchableAttributes: []string{"color"},
		},
		Tags: []types.Tag{{Key: aws.String("team"), Value: aws.String("a")}},
	}
	created := call(t, f.CreateThingType, in)
	if *created.ThingTypeArn != "arn:aws:iot:eu-west-1:123456789012:thingtype/light" || *created.ThingTypeName != "light" {
		t.Errorf("created %s %s", *created.ThingTypeName, *created.ThingTypeArn)
	}
	if again := call(t, f.CreateThingType, in); *again.ThingTypeId != *created.ThingTypeId {
		t.Error("creating it again gave another id")
	}
	_, err := f.CreateThingType(ctx, &awsiot.CreateThingTypeInput{ThingTypeName: name})
	wantRefusal[*types.ResourceAlreadyExistsException](t, err, "light")
	_, err = f.CreateThingType(ctx, &awsiot.CreateThingTypeInput{ThingTypeName: aws.String("x"),
		ThingTypeProperties: &types.ThingTypeProperties{SearchableAttributes: []string{"1", "2", "3", "4"}}})
	wantRefusal[*types.InvalidRequestException](t, err, "searchableAttributes")

	propagate := func(a types.PropagatingAttribute) error {
		_, err := f.UpdateThingType(ctx, &awsiot.UpdateThingTypeInput{ThingTypeName: name, ThingTypeProperties: &types.ThingTypeProperties{
			Mqtt5Configuration: &types.Mqtt5Configuration{PropagatingAttributes: []types.PropagatingAttribute{a}},
		}})
		return err
	}
	if err := propagate(types.PropagatingAttribute{UserPropertyKey: aws.String("id"), ConnectionAttribute: aws.String("iot:ClientId")}); err != nil {
		t.Fatal(err)
	}
	both := types.PropagatingAttribute{UserPropertyKey: aws.String("id"), ConnectionAttribute: aws.String("iot:ClientId"), ThingAttribute: aws.String("color")}
	wantRefusal[*types.InvalidRequestException](t, propagate(both), "either")

	d := call(t, f.DescribeThingType, &awsiot.DescribeThingTypeInput{ThingTypeName: name})
	p, m := d.ThingTypeProperties, d.ThingTypeMetadata
	if *d.ThingTypeId != *created.ThingTypeId || *p.ThingTypeDescription != "gives light" || !slices.Equal(p.SearchableAttributes, []string{"color"}) ||
		m.Deprecated || m.DeprecationDate != nil || time.Since(*m.CreationDate) > time.Minute {
		t.Errorf("described as %+v %+v", p, m)
	}
	if a := p.Mqtt5Configuration.PropagatingAttributes; len(a) != 1 || *a[0].UserPropertyKey != "id" || *a[0].ConnectionAttribute != "iot:ClientId" || a[0].ThingAttribute != nil {
		t.Errorf("propagates %+v", a)
	}

	remove := func() error {
		_, err := f.DeleteThingType(ctx, &awsiot.DeleteThingTypeInput{ThingTypeName: name})
		return err
	}
	wantRefusal[*types.InvalidRequestException](t, remove(), "deprecate")
	for undo, want := range map[bool]bool{false: true, true: false} {
		if _, err := f.DeprecateThingType(ctx, &awsiot.DeprecateThingTypeInput{ThingTypeName: name, UndoDeprecate: undo}); err != nil {
			t.Fatal(err)
		}
		list := call(t, f.ListThingTypes, &awsiot.ListThingTypesInput{ThingTypeName: name})
		if m := list.ThingTypes[0].ThingTypeMetadata; m.Deprecated != want || (m.DeprecationDate != nil) != want {
			t.Errorf("undo %v: %+v", undo, m)
		}
	}
	if _, err := f.DeprecateThingType(ctx, &awsiot.DeprecateThingTypeInput{ThingTypeName: name}); err != nil {
		t.Fatal(err)
	}
	wantRefusal[*types.InvalidRequestException](t, remove(), "minutes after deprecation and then retry")
	_, err = f.CreateThing(ctx, &awsiot.CreateThingInput{ThingName: aws.String("lamp"), ThingTypeName: name})
	wantRefusal[*types.InvalidRequestException](t, err, "depreated thing type:light")
}

func TestListThingTypes(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for _, name := range []string{"c", "a", "b"} {
		call(t, f.CreateThingType, &awsiot.CreateThingTypeInput{ThingTypeName: &name})
	}
	var names []string
	for p := awsiot.NewListThingTypesPaginator(f, &awsiot.ListThingTypesInput{MaxResults: aws.Int32(2)}); p.HasMorePages(); {
		for _, tt := range next(t, p.NextPage).ThingTypes {
			names = append(names, *tt.ThingTypeName)
		}
	}
	if !slices.Equal(names, []string{"a", "b", "c"}) {
		t.Errorf("got %v", names)
	}
	none := call(t, f.ListThingTypes, &awsiot.ListThingTypesInput{ThingTypeName: aws.String("none")})
	if len(none.ThingTypes) != 0 {
		t.Errorf("got %+v", none.ThingTypes)
	}
}
