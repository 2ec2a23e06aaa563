package controlplane_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsiot "github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/google/uuid"
)

// wantRefusal fails the test unless err is the SDK's typed error E and its message holds the text.
func wantRefusal[E interface {
	error
	ErrorMessage() string
}](t *testing.T, err error, text string) {
	t.Helper()
	refusal, ok := errors.AsType[E](err)
	if !ok || !strings.Contains(refusal.ErrorMessage(), text) {
		t.Fatalf("got %v, want %T with %q", err, refusal, text)
	}
}

// call calls an operation that must succeed.
func call[In, Out any](t *testing.T, operation func(context.Context, *In, ...func(*awsiot.Options)) (*Out, error), in *In) *Out {
	t.Helper()
	out, err := operation(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// next returns the next page of a paginator.
func next[Out any](t *testing.T, page func(context.Context, ...func(*awsiot.Options)) (*Out, error)) *Out {
	t.Helper()
	out, err := page(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func values(n int) *types.AttributePayload {
	m := make(map[string]string, n)
	for i := range n {
		m[fmt.Sprintf("a%d", i)] = "v"
	}
	return &types.AttributePayload{Attributes: m}
}

func TestThing(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	ctx := t.Context()
	call(t, f.CreateThingType, &awsiot.CreateThingTypeInput{ThingTypeName: aws.String("light")})
	in := &awsiot.CreateThingInput{
		ThingName: aws.String("hall:lamp"), ThingTypeName: aws.String("light"),
		AttributePayload: &types.AttributePayload{Attributes: map[string]string{"color": "red"}},
	}
	created := call(t, f.CreateThing, in)
	if _, err := uuid.Parse(*created.ThingId); err != nil || *created.ThingArn != "arn:aws:iot:eu-west-1:123456789012:thing/hall:lamp" || *created.ThingName != "hall:lamp" {
		t.Errorf("created %s %s %s", *created.ThingName, *created.ThingArn, *created.ThingId)
	}
	if again := call(t, f.CreateThing, in); *again.ThingId != *created.ThingId {
		t.Error("creating it again gave another id")
	}
	_, err := f.CreateThing(ctx, &awsiot.CreateThingInput{ThingName: in.ThingName})
	wantRefusal[*types.ResourceAlreadyExistsException](t, err, "hall:lamp")
	exists, _ := errors.AsType[*types.ResourceAlreadyExistsException](err)
	if aws.ToString(exists.ResourceId) != *created.ThingId || aws.ToString(exists.ResourceArn) != *created.ThingArn {
		t.Errorf("the error names %q %q", aws.ToString(exists.ResourceId), aws.ToString(exists.ResourceArn))
	}

	_, err = f.UpdateThing(ctx, &awsiot.UpdateThingInput{
		ThingName: in.ThingName, ExpectedVersion: aws.Int64(1),
		AttributePayload: &types.AttributePayload{Merge: true, Attributes: map[string]string{"color": "", "size": "3"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.UpdateThing(ctx, &awsiot.UpdateThingInput{ThingName: in.ThingName, ExpectedVersion: aws.Int64(1)})
	wantRefusal[*types.VersionConflictException](t, err, "The version for thing hall:lamp does not match the expected version.")
	_, err = f.UpdateThing(ctx, &awsiot.UpdateThingInput{ThingName: in.ThingName, ThingTypeName: aws.String("light"), RemoveThingType: true})
	wantRefusal[*types.InvalidRequestException](t, err, "removeThingType")

	d := call(t, f.DescribeThing, &awsiot.DescribeThingInput{ThingName: in.ThingName})
	if *d.DefaultClientId != "hall:lamp" || d.Version != 2 || *d.ThingTypeName != "light" || *d.ThingId != *created.ThingId ||
		*d.ThingArn != *created.ThingArn || !maps.Equal(d.Attributes, map[string]string{"size": "3"}) || d.BillingGroupName != nil {
		t.Errorf("described as %+v", d)
	}

	_, err = f.UpdateThing(ctx, &awsiot.UpdateThingInput{ThingName: in.ThingName, RemoveThingType: true, AttributePayload: values(0)})
	if err != nil {
		t.Fatal(err)
	}
	d = call(t, f.DescribeThing, &awsiot.DescribeThingInput{ThingName: in.ThingName})
	if d.Version != 3 || d.ThingTypeName != nil || d.Attributes == nil || len(d.Attributes) != 0 {
		t.Errorf("described as %+v", d)
	}

	_, err = f.DeleteThing(ctx, &awsiot.DeleteThingInput{ThingName: in.ThingName, ExpectedVersion: aws.Int64(2)})
	wantRefusal[*types.VersionConflictException](t, err, "hall:lamp")
	for range 2 {
		if _, err := f.DeleteThing(ctx, &awsiot.DeleteThingInput{ThingName: in.ThingName}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = f.DescribeThing(ctx, &awsiot.DescribeThingInput{ThingName: in.ThingName})
	wantRefusal[*types.ResourceNotFoundException](t, err, "hall:lamp")
	_, err = f.UpdateThing(ctx, &awsiot.UpdateThingInput{ThingName: in.ThingName})
	wantRefusal[*types.ResourceNotFoundException](t, err, "hall:lamp")
}

func TestCreateThingRefused(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	name := aws.String("lamp")
	for text, in := range map[string]*awsiot.CreateThingInput{
		"'a.b' at 'thingName'":  {ThingName: aws.String("a.b")},
		"less than or equal":    {ThingName: aws.String(strings.Repeat("a", 129))},
		"limit is 3":            {ThingName: name, AttributePayload: values(4)},
		"[a-zA-Z0-9_.,@/:#-]+":  {ThingName: name, AttributePayload: &types.AttributePayload{Attributes: map[string]string{"a b": "c"}}},
		"[a-zA-Z0-9_.,@/:#=\\[": {ThingName: name, AttributePayload: &types.AttributePayload{Attributes: map[string]string{"a": "b c"}}},
	} {
		_, err := f.CreateThing(t.Context(), in)
		wantRefusal[*types.InvalidRequestException](t, err, text)
	}
	_, err := f.CreateThing(t.Context(), &awsiot.CreateThingInput{ThingName: name, ThingTypeName: aws.String("none")})
	wantRefusal[*types.ResourceNotFoundException](t, err, "none")
}

func TestListThings(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	ctx := t.Context()
	call(t, f.CreateThingType, &awsiot.CreateThingTypeInput{ThingTypeName: aws.String("light")})
	for i, color := range []string{"red", "reddish", "blue"} {
		call(t, f.CreateThing, &awsiot.CreateThingInput{
			ThingName: aws.String(fmt.Sprintf("lamp-%d", i)), ThingTypeName: aws.String("light"),
			AttributePayload: &types.AttributePayload{Attributes: map[string]string{"color": color}},
		})
	}
	f.thing(t, "bell")
	for name, c := range map[string]struct {
		in   awsiot.ListThingsInput
		want []string
	}{
		"all":     {awsiot.ListThingsInput{}, []string{"bell", "lamp-0", "lamp-1", "lamp-2"}},
		"type":    {awsiot.ListThingsInput{ThingTypeName: aws.String("light")}, []string{"lamp-0", "lamp-1", "lamp-2"}},
		"no type": {awsiot.ListThingsInput{ThingTypeName: aws.String("none")}, nil},
		"exact":   {awsiot.ListThingsInput{AttributeName: aws.String("color"), AttributeValue: aws.String("red")}, []string{"lamp-0"}},
		"prefix":  {awsiot.ListThingsInput{AttributeName: aws.String("color"), AttributeValue: aws.String("red"), UsePrefixAttributeValue: true}, []string{"lamp-0", "lamp-1"}},
	} {
		t.Run(name, func(t *testing.T) {
			c.in.MaxResults = aws.Int32(1)
			var names []string
			for p := awsiot.NewListThingsPaginator(f, &c.in); p.HasMorePages(); {
				page := next(t, p.NextPage)
				for _, thing := range page.Things {
					names = append(names, *thing.ThingName)
					if thing.Version != 1 || *thing.ThingArn != "arn:aws:iot:eu-west-1:123456789012:thing/"+*thing.ThingName || thing.Attributes == nil {
						t.Errorf("got %+v", thing)
					}
				}
			}
			if !slices.Equal(names, c.want) {
				t.Errorf("got %v, want %v", names, c.want)
			}
		})
	}
	for _, n := range []int32{0, 251} {
		_, err := f.ListThings(ctx, &awsiot.ListThingsInput{MaxResults: &n})
		wantRefusal[*types.InvalidRequestException](t, err, "maxResults")
	}
	page := call(t, f.ListThings, &awsiot.ListThingsInput{MaxResults: aws.Int32(1)})
	_, err := f.ListThings(ctx, &awsiot.ListThingsInput{NextToken: page.NextToken, ThingTypeName: aws.String("light")})
	wantRefusal[*types.InvalidRequestException](t, err, "nextToken")
	_, err = f.ListThings(ctx, &awsiot.ListThingsInput{AttributeName: aws.String("color")})
	wantRefusal[*types.InvalidRequestException](t, err, "attributeValue")
}
