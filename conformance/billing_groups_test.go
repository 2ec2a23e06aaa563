package conformance

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

func (f *fleet) billingGroup(n, description string) error {
	in := &iot.CreateBillingGroupInput{BillingGroupName: aws.String(f.name(n)), Tags: []types.Tag{{Key: aws.String("k"), Value: aws.String("v")}}}
	if description != "" {
		in.BillingGroupProperties = &types.BillingGroupProperties{BillingGroupDescription: &description}
	}
	_, err := f.api.CreateBillingGroup(f.ctx, in)
	return err
}

// TestR142ToR145BillingGroups: groups for which somebody pays, of which a thing is in one.
func TestR142ToR145BillingGroups(t *testing.T) {
	f := newFleet(t)
	f.must(f.billingGroup("a", "words"))
	f.must(f.billingGroup("a", "words"))
	f.fails(taken, f.billingGroup("a", "other words"), "another description")
	f.must(f.billingGroup("b", ""))
	name, other := f.name("a"), f.name("b")
	describe := func() *iot.DescribeBillingGroupOutput {
		t.Helper()
		out, err := f.api.DescribeBillingGroup(f.ctx, &iot.DescribeBillingGroupInput{BillingGroupName: &name})
		f.must(err)
		return out
	}
	if g := describe(); g.Version != 1 || aws.ToString(g.BillingGroupArn) != f.arn("billinggroup", name) || aws.ToString(g.BillingGroupProperties.BillingGroupDescription) != "words" || g.BillingGroupMetadata.CreationDate == nil || aws.ToString(g.BillingGroupId) == "" {
		t.Errorf("%+v", g)
	}
	update := func(description *string, expected *int64) (int64, error) {
		out, err := f.api.UpdateBillingGroup(f.ctx, &iot.UpdateBillingGroupInput{BillingGroupName: &name, ExpectedVersion: expected, BillingGroupProperties: &types.BillingGroupProperties{BillingGroupDescription: description}})
		if err != nil {
			return 0, err
		}
		return out.Version, nil
	}
	if v, err := update(nil, nil); err != nil || v != 2 || aws.ToString(describe().BillingGroupProperties.BillingGroupDescription) != "words" {
		t.Errorf("%d, %v", v, err)
	}
	_, err := update(aws.String("x"), aws.Int64(1))
	f.fails(mismatch, err, "a former version")
	if v, err := update(aws.String(""), aws.Int64(2)); err != nil || v != 3 || describe().BillingGroupProperties.BillingGroupDescription != nil {
		t.Errorf("%d, %v", v, err)
	}

	join := func(in iot.AddThingToBillingGroupInput) error {
		_, err := f.api.AddThingToBillingGroup(f.ctx, &in)
		return err
	}
	thing := f.thing("t")
	in := func(want string) {
		t.Helper()
		if got := aws.ToString(f.describeThing(thing).BillingGroupName); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	in("")
	f.must(join(iot.AddThingToBillingGroupInput{ThingName: &thing, BillingGroupName: &name}))
	f.must(join(iot.AddThingToBillingGroupInput{ThingArn: aws.String(f.thingARN(thing)), BillingGroupArn: aws.String(f.arn("billinggroup", name))}))
	in(name)
	f.fails(invalid, join(iot.AddThingToBillingGroupInput{ThingName: &thing, BillingGroupName: &other}), "a second billing group")
	f.fails(invalid, join(iot.AddThingToBillingGroupInput{ThingName: &thing}), "none")
	f.fails(notFound, join(iot.AddThingToBillingGroupInput{ThingName: &thing, BillingGroupName: aws.String(f.name("missing"))}), "an unknown one")
	f.fails(notFound, join(iot.AddThingToBillingGroupInput{ThingName: aws.String(f.name("missing")), BillingGroupName: &name}), "an unknown thing")
	for _, group := range []string{other, name, name} { // the first and the last are none of its
		_, err := f.api.RemoveThingFromBillingGroup(f.ctx, &iot.RemoveThingFromBillingGroupInput{ThingName: &thing, BillingGroupName: &group})
		f.must(err)
		in(map[bool]string{true: name}[group == other])
	}
	for i := range 3 {
		_, err := f.api.CreateThing(f.ctx, &iot.CreateThingInput{ThingName: aws.String(f.name(fmt.Sprint("m", i))), BillingGroupName: &name})
		f.must(err)
	}
	thing = f.name("m1")
	in(name)
	_, err = f.api.CreateThing(f.ctx, &iot.CreateThingInput{ThingName: &thing, BillingGroupName: &other})
	f.fails(taken, err, "the thing with another billing group")
	_, err = f.api.CreateThing(f.ctx, &iot.CreateThingInput{ThingName: aws.String(f.name("n")), BillingGroupName: aws.String(f.name("missing"))})
	f.fails(notFound, err, "an unknown one")
	var members []string
	pages := iot.NewListThingsInBillingGroupPaginator(f.api, &iot.ListThingsInBillingGroupInput{BillingGroupName: &name, MaxResults: aws.Int32(1)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(f.ctx)
		f.must(err)
		members = append(members, page.Things...)
	}
	if want := []string{f.name("m0"), f.name("m1"), f.name("m2")}; !slices.Equal(members, want) {
		t.Errorf("%v, want %v", members, want)
	}
	list, err := f.api.ListBillingGroups(f.ctx, &iot.ListBillingGroupsInput{NamePrefixFilter: &f.prefix})
	f.must(err)
	if len(list.BillingGroups) != 2 || aws.ToString(list.BillingGroups[1].GroupName) != other {
		t.Errorf("%+v", list.BillingGroups)
	}

	remove := func(version *int64) error {
		_, err := f.api.DeleteBillingGroup(f.ctx, &iot.DeleteBillingGroupInput{BillingGroupName: &name, ExpectedVersion: version})
		return err
	}
	f.fails(mismatch, remove(aws.Int64(1)), "a former version")
	f.fails("", remove(aws.Int64(3)), "its version")
	f.fails("", remove(nil), "gone")
	in("")
	_, err = f.api.ListTagsForResource(f.ctx, &iot.ListTagsForResourceInput{ResourceArn: aws.String(f.arn("billinggroup", name))})
	f.fails(notFound, err, "its tags")
}

// TestR026R131BillingGroupsOfThings: where things are shown, and found.
func TestR026R131BillingGroupsOfThings(t *testing.T) {
	f := fleetOn(t, ownServer(t))
	f.indexed()
	f.must(f.billingGroup("paid", ""))
	name := f.name("paid")
	thing := f.thing("t")
	group := f.group("g", "", thing)
	_, err := f.api.AddThingToBillingGroup(f.ctx, &iot.AddThingToBillingGroupInput{ThingName: &thing, BillingGroupName: &name})
	f.must(err)
	if d := f.describeThing(thing); aws.ToString(d.BillingGroupName) != name || aws.ToString(d.DefaultClientId) != thing {
		t.Errorf("%+v", d)
	}
	out, err := f.api.SearchIndex(f.ctx, &iot.SearchIndexInput{QueryString: aws.String("thingGroupNames:" + name)})
	f.must(err)
	if len(out.Things) != 1 || strings.Join(out.Things[0].ThingGroupNames, " ") != group+" "+name {
		t.Errorf("%+v", out.Things)
	}
	_, err = f.api.DeleteBillingGroup(f.ctx, &iot.DeleteBillingGroupInput{BillingGroupName: &name})
	f.must(err)
	if got := f.found("thingGroupNames:" + name); got != "" {
		t.Error(got)
	}
	if got := f.found("thingGroupNames:" + group); got != thing {
		t.Error(got)
	}
}
