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

// Dynamic thing groups (registry spec §4, statements 71 to 88), on servers of their own.

func (f *fleet) dynamic(name, query string) error {
	f.t.Helper()
	_, err := f.api.CreateDynamicThingGroup(f.ctx, &iot.CreateDynamicThingGroupInput{ThingGroupName: &name, QueryString: &query})
	return err
}

// filled waits until a group has all of its members.
func (f *fleet) filled(name string) {
	f.t.Helper()
	f.eventually("group is filled", func() bool {
		out, err := f.api.DescribeThingGroup(f.ctx, &iot.DescribeThingGroupInput{ThingGroupName: &name})
		f.must(err)
		return out.Status == types.DynamicGroupStatusActive
	})
}

func (f *fleet) members(group string) string {
	f.t.Helper()
	out, err := f.api.ListThingsInThingGroup(f.ctx, &iot.ListThingsInThingGroupInput{ThingGroupName: &group})
	f.must(err)
	slices.Sort(out.Things)
	return strings.Join(out.Things, " ")
}

func (f *fleet) attribute(thing, name, value string) {
	f.t.Helper()
	_, err := f.api.UpdateThing(f.ctx, &iot.UpdateThingInput{ThingName: &thing, AttributePayload: &types.AttributePayload{Merge: true, Attributes: map[string]string{name: value}}})
	f.must(err)
}

// TestR071ToR080DynamicGroups: a group is what its query finds.
func TestR071ToR080DynamicGroups(t *testing.T) {
	f := fleetOn(t, ownServer(t))
	f.typed("old", map[string]string{"color": "red"})
	if err := f.dynamic("early", "attributes.color:red"); failure(err) != "InvalidRequestException" {
		t.Errorf("without an index: %v", err)
	}
	if _, err := f.api.DescribeThingGroup(f.ctx, &iot.DescribeThingGroupInput{ThingGroupName: aws.String("early")}); failure(err) != "ResourceNotFoundException" {
		t.Errorf("it exists: %v", err)
	}
	f.indexed()
	made, err := f.api.CreateDynamicThingGroup(f.ctx, &iot.CreateDynamicThingGroupInput{ThingGroupName: aws.String("red"), QueryString: aws.String("attributes.color:red")})
	f.must(err)
	again, err := f.api.CreateDynamicThingGroup(f.ctx, &iot.CreateDynamicThingGroupInput{ThingGroupName: aws.String("red"), QueryString: aws.String("attributes.color:red")})
	f.must(err)
	if aws.ToString(made.IndexName) != "AWS_Things" || aws.ToString(made.QueryVersion) != "2017-09-30" || aws.ToString(made.ThingGroupId) != aws.ToString(again.ThingGroupId) {
		t.Errorf("%+v, %+v", made, again)
	}
	if err := f.dynamic("red", "attributes.color:blue"); failure(err) != "ResourceAlreadyExistsException" {
		t.Error(err)
	}
	f.filled("red")
	f.typed("new", map[string]string{"color": "red"})
	f.typed("blue", map[string]string{"color": "blue"})
	if got := f.members("red"); got != "new old" {
		t.Errorf("members: %s", got)
	}
	f.attribute("old", "color", "blue")
	if got := f.members("red"); got != "new" {
		t.Errorf("members: %s", got)
	}
	_, err = f.api.DeleteThing(f.ctx, &iot.DeleteThingInput{ThingName: aws.String("new")})
	f.must(err)
	if got := f.members("red"); got != "" {
		t.Errorf("members: %s", got)
	}

	// Nothing is put into it, below it or onto it.
	name := aws.String("red")
	_, add := f.api.AddThingToThingGroup(f.ctx, &iot.AddThingToThingGroupInput{ThingGroupName: name, ThingName: aws.String("blue")})
	_, remove := f.api.RemoveThingFromThingGroup(f.ctx, &iot.RemoveThingFromThingGroupInput{ThingGroupName: name, ThingName: aws.String("blue")})
	_, child := f.api.CreateThingGroup(f.ctx, &iot.CreateThingGroupInput{ThingGroupName: aws.String("child"), ParentGroupName: name})
	_, err = f.api.CreatePolicy(f.ctx, &iot.CreatePolicyInput{PolicyName: aws.String("p"), PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}`)})
	f.must(err)
	_, policy := f.api.AttachPolicy(f.ctx, &iot.AttachPolicyInput{PolicyName: aws.String("p"), Target: made.ThingGroupArn})
	_, update := f.api.UpdateThingGroup(f.ctx, &iot.UpdateThingGroupInput{ThingGroupName: name, ThingGroupProperties: &types.ThingGroupProperties{}})
	_, erase := f.api.DeleteThingGroup(f.ctx, &iot.DeleteThingGroupInput{ThingGroupName: name})
	for what, err := range map[string]error{"add": add, "remove": remove, "child": child, "policy": policy, "update": update, "delete": erase} {
		if failure(err) != "InvalidRequestException" || !strings.Contains(err.Error(), "dynamic") {
			t.Errorf("%s: %v", what, err)
		}
	}

	change := func(query string, version *int64) (int64, error) {
		out, err := f.api.UpdateDynamicThingGroup(f.ctx, &iot.UpdateDynamicThingGroupInput{ThingGroupName: name, ThingGroupProperties: &types.ThingGroupProperties{}, QueryString: &query, ExpectedVersion: version})
		if err != nil {
			return 0, err
		}
		return out.Version, nil
	}
	if _, err := change("attributes.color:(", nil); failure(err) != "InvalidQueryException" {
		t.Error(err)
	}
	if _, err := change("attributes.color:blue", aws.Int64(7)); failure(err) != "VersionConflictException" {
		t.Error(err)
	}
	if v, err := change("attributes.color:blue", aws.Int64(1)); err != nil || v != 2 {
		t.Errorf("version %d, %v", v, err)
	}
	f.filled("red")
	if got := f.members("red"); got != "blue old" {
		t.Errorf("members: %s", got)
	}
	if got := f.found("thingGroupNames:red"); got != "blue old" {
		t.Errorf("in the index: %s", got)
	}
}

// TestR081ToR085TenGroups: a thing is in ten groups at most; older dynamic groups go before younger ones.
func TestR081ToR085TenGroups(t *testing.T) {
	f := fleetOn(t, ownServer(t))
	f.indexed()
	f.typed("t", map[string]string{"a": "0", "b": "0"})
	f.must(f.dynamic("older", "attributes.a:1"))
	f.must(f.dynamic("younger", "attributes.b:1"))
	join := func(group string, override bool) error {
		_, err := f.api.AddThingToThingGroup(f.ctx, &iot.AddThingToThingGroupInput{ThingGroupName: &group, ThingName: aws.String("t"), OverrideDynamicGroups: override})
		return err
	}
	for i := range 9 {
		f.must(join(f.group(fmt.Sprint("g", i), ""), false))
	}
	is := func(older, younger string) {
		t.Helper()
		if got := f.members("older"); got != older {
			t.Errorf("in the older group: %q", got)
		}
		if got := f.members("younger"); got != younger {
			t.Errorf("in the younger group: %q", got)
		}
	}
	f.attribute("t", "b", "1")
	is("", "t")
	f.attribute("t", "a", "1") // the older one matches now, too
	is("t", "")
	f.attribute("t", "b", "2")
	f.attribute("t", "b", "1") // a younger candidate
	is("t", "")
	g := f.group("g10", "")
	if err := join(g, false); failure(err) != "InvalidRequestException" {
		t.Error(err)
	}
	f.must(join(g, true))
	is("", "")
	f.attribute("t", "a", "1") // in ten static groups
	is("", "")
	_, err := f.api.RemoveThingFromThingGroup(f.ctx, &iot.RemoveThingFromThingGroupInput{ThingGroupName: &g, ThingName: aws.String("t")})
	f.must(err)
	is("t", "") // a place is free

	for i := range 98 {
		f.must(f.dynamic(fmt.Sprint("d", i), "attributes.never:x"))
	}
	if err := f.dynamic("d98", "attributes.never:x"); failure(err) != "LimitExceededException" {
		t.Error(err)
	}
}

// TestR086R087Deleted: the index cannot go before the groups; groups go with their memberships.
func TestR086R087Deleted(t *testing.T) {
	f := fleetOn(t, ownServer(t))
	f.indexed()
	f.typed("t", nil)
	f.must(f.dynamic("all", "*"))
	f.filled("all")
	off := func() error {
		_, err := f.api.UpdateIndexingConfiguration(f.ctx, &iot.UpdateIndexingConfigurationInput{ThingIndexingConfiguration: &types.ThingIndexingConfiguration{ThingIndexingMode: types.ThingIndexingModeOff}})
		return err
	}
	if err := off(); failure(err) != "InvalidRequestException" || !strings.Contains(err.Error(), "all") {
		t.Error(err)
	}
	erase := func(name string, version *int64) error {
		_, err := f.api.DeleteDynamicThingGroup(f.ctx, &iot.DeleteDynamicThingGroupInput{ThingGroupName: &name, ExpectedVersion: version})
		return err
	}
	if err := erase("all", aws.Int64(9)); failure(err) != "VersionConflictException" {
		t.Error(err)
	}
	if err := erase(f.group("static", ""), nil); failure(err) != "InvalidRequestException" {
		t.Error(err)
	}
	f.must(erase("all", aws.Int64(1)))
	f.must(erase("all", nil))
	groups, err := f.api.ListThingGroupsForThing(f.ctx, &iot.ListThingGroupsForThingInput{ThingName: aws.String("t")})
	f.must(err)
	if len(groups.ThingGroups) > 0 || f.found("thingGroupNames:all") != "" {
		t.Errorf("%v", groups.ThingGroups)
	}
	f.must(off())
}

// TestR088JobOnDynamicGroup: a continuous job follows a dynamic group, and ends for who leaves it.
func TestR088JobOnDynamicGroup(t *testing.T) {
	f := fleetOn(t, ownServer(t))
	f.indexed()
	f.typed("a", map[string]string{"model": "x"})
	f.typed("b", map[string]string{"model": "y"})
	f.must(f.dynamic("x", "attributes.model:x"))
	f.filled("x")
	_, err := f.api.CreateJob(f.ctx, &iot.CreateJobInput{JobId: aws.String("j"), Targets: []string{f.groupARN("x")}, Document: aws.String("{}"), TargetSelection: types.TargetSelectionContinuous})
	f.must(err)
	f.eventually("a has the job", func() bool { return fmt.Sprint(f.executions("j")) == "[a]" })
	f.attribute("b", "model", "x")
	f.eventually("b has the job", func() bool { return len(f.executions("j")) == 2 })
	f.attribute("a", "model", "y")
	f.eventually("a is removed", func() bool {
		out, err := f.api.DescribeJobExecution(f.ctx, &iot.DescribeJobExecutionInput{JobId: aws.String("j"), ThingName: aws.String("a")})
		return err == nil && out.Execution.Status == types.JobExecutionStatusRemoved
	})
}
