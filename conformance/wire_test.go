package conformance

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// The control plane on the wire: errors, filters, pages, times.

func TestS136UnknownJob(t *testing.T) {
	f := newFleet(t)
	_, err := f.api.DescribeJob(f.ctx, &iot.DescribeJobInput{JobId: aws.String(f.name("nobody"))})
	f.refused(err, "ResourceNotFoundException", 404)
	status, header, answer := f.call("iot", "GET", "/jobs/"+f.name("nobody"), "")
	if status != 404 || header.Get("X-Amzn-ErrorType") != "ResourceNotFoundException" || header.Get("X-Amzn-RequestId") == "" {
		t.Errorf("%d %v", status, header)
	}
	if message, _ := answer["message"].(string); !strings.Contains(message, f.name("nobody")) {
		t.Errorf("the message does not say which job: %v", answer)
	}
}

func TestS137JobExists(t *testing.T) {
	f := newFleet(t)
	a := f.thing("a")
	id := f.job("job", []string{f.thingARN(a)})
	_, err := f.api.CreateJob(f.ctx, &iot.CreateJobInput{JobId: &id, Document: aws.String(document), Targets: []string{f.thingARN(a)}})
	f.refused(err, "ResourceAlreadyExistsException", 409)
	var exists *types.ResourceAlreadyExistsException
	if !errors.As(err, &exists) || aws.ToString(exists.ResourceId) != id || aws.ToString(exists.ResourceArn) != f.arn("job", id) {
		t.Errorf("%+v", exists)
	}
}

func TestS138BadJobID(t *testing.T) {
	f := newFleet(t)
	target := f.thingARN(f.thing("t"))
	for _, id := range []string{"a:b", "a.b", "a b", "ä", strings.Repeat("j", 65)} {
		_, err := f.api.CreateJob(f.ctx, &iot.CreateJobInput{JobId: &id, Document: aws.String(document), Targets: []string{target}})
		f.refused(err, "InvalidRequestException", 400)
	}
	f.job(strings.Repeat("j", 64-len(f.name(""))), []string{target})
}

// jobs lists the jobs that a request finds, page by page, with the ids of this test alone.
func (f *fleet) jobs(in *iot.ListJobsInput) (all []types.JobSummary, ours []string) {
	f.t.Helper()
	pages := iot.NewListJobsPaginator(f.api, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(f.ctx)
		f.must(err)
		all = append(all, page.Jobs...)
	}
	for _, j := range all {
		if id := aws.ToString(j.JobId); strings.HasPrefix(id, f.prefix) {
			ours = append(ours, strings.TrimPrefix(id, f.name("")))
		}
	}
	return all, ours
}

func TestS139ListJobsByStatus(t *testing.T) {
	f := newFleet(t)
	target := []string{f.thingARN(f.thing("t"))}
	f.job("active", target)
	f.cancel(f.job("canceled", target))
	all, ours := f.jobs(&iot.ListJobsInput{Status: types.JobStatusCanceled, MaxResults: aws.Int32(250)})
	for _, j := range all {
		if j.Status != types.JobStatusCanceled {
			t.Errorf("%s is %s", aws.ToString(j.JobId), j.Status)
		}
	}
	if !slices.Equal(ours, []string{"canceled"}) {
		t.Errorf("canceled jobs: %v", ours)
	}
}

func TestS140Pages(t *testing.T) {
	f := newFleet(t)
	group := f.group("g", "")
	for _, n := range []string{"a", "b", "c"} {
		f.job(n, []string{f.groupARN(group)}, continuous)
	}
	in := &iot.ListJobsInput{ThingGroupName: &group, MaxResults: aws.Int32(2)}
	first, err := f.api.ListJobs(f.ctx, in)
	f.must(err)
	if len(first.Jobs) != 2 || aws.ToString(first.NextToken) == "" {
		t.Fatalf("first page: %d jobs, token %q", len(first.Jobs), aws.ToString(first.NextToken))
	}
	in.NextToken = first.NextToken
	second, err := f.api.ListJobs(f.ctx, in)
	f.must(err)
	if len(second.Jobs) != 1 || second.NextToken != nil {
		t.Errorf("second page: %d jobs, token %q", len(second.Jobs), aws.ToString(second.NextToken))
	}
	if _, ours := f.jobs(&iot.ListJobsInput{ThingGroupName: &group, MaxResults: aws.Int32(2)}); !slices.Equal(ours, []string{"c", "b", "a"}) {
		t.Errorf("not newest first: %v", ours)
	}

	in.NextToken = aws.String(*first.NextToken + "x")
	_, err = f.api.ListJobs(f.ctx, in)
	f.refused(err, "InvalidRequestException", 400)
}

func TestS141PageSizes(t *testing.T) {
	f := newFleet(t)
	thing := f.thing("t")
	id := f.job("job", []string{f.thingARN(thing)})
	for _, n := range []int32{0, -1, 251} {
		_, err := f.api.ListJobs(f.ctx, &iot.ListJobsInput{MaxResults: &n})
		f.refused(err, "InvalidRequestException", 400)
		_, err = f.api.ListJobExecutionsForJob(f.ctx, &iot.ListJobExecutionsForJobInput{JobId: &id, MaxResults: &n})
		f.refused(err, "InvalidRequestException", 400)
		_, err = f.api.ListJobExecutionsForThing(f.ctx, &iot.ListJobExecutionsForThingInput{ThingName: &thing, MaxResults: &n})
		f.refused(err, "InvalidRequestException", 400)
	}
}

func TestS142ListJobsOfGroup(t *testing.T) {
	f := newFleet(t)
	g, other := f.group("g", ""), f.group("other", "")
	f.job("of-g", []string{f.groupARN(g)}, continuous)
	f.job("of-both", []string{f.groupARN(other), f.groupARN(g)}, continuous)
	f.job("of-other", []string{f.groupARN(other)}, continuous)
	all, ours := f.jobs(&iot.ListJobsInput{ThingGroupName: &g})
	if len(all) != 2 || !slices.Equal(ours, []string{"of-both", "of-g"}) {
		t.Errorf("jobs of the group: %v", ours)
	}
	_, err := f.api.ListJobs(f.ctx, &iot.ListJobsInput{ThingGroupName: aws.String(f.name("nobody"))})
	f.refused(err, "ResourceNotFoundException", 404)
}

func TestS143ListExecutionsOfThingAndJob(t *testing.T) {
	f := newFleet(t)
	thing := f.thing("t")
	id := f.job("a", []string{f.thingARN(thing)})
	f.job("b", []string{f.thingARN(thing)})
	out, err := f.api.ListJobExecutionsForThing(f.ctx, &iot.ListJobExecutionsForThingInput{ThingName: &thing, JobId: &id})
	f.must(err)
	if len(out.ExecutionSummaries) != 1 || aws.ToString(out.ExecutionSummaries[0].JobId) != id {
		t.Errorf("%+v", out.ExecutionSummaries)
	}
	out, err = f.api.ListJobExecutionsForThing(f.ctx, &iot.ListJobExecutionsForThingInput{ThingName: &thing})
	f.must(err)
	if len(out.ExecutionSummaries) != 2 {
		t.Errorf("without the filter: %+v", out.ExecutionSummaries)
	}
}

func TestS144S145DescribeExecution(t *testing.T) {
	f := newFleet(t)
	thing := f.thing("t")
	id := f.job("job", []string{f.thingARN(thing)})
	update := "/things/" + thing + "/jobs/" + id
	for _, status := range []string{"IN_PROGRESS", "SUCCEEDED"} {
		code, _, answer := f.call("iot-jobs-data", "POST", update, `{"status":"`+status+`","statusDetails":{"step":"`+status+`"}}`)
		if code != 200 {
			t.Fatalf("update: %d %v", code, answer)
		}
		code, _, answer = f.call("iot", "GET", update, "")
		if code != 200 || path(answer, "execution", "status") != status || path(answer, "execution", "statusDetails", "detailsMap", "step") != status {
			t.Errorf("%d %v", code, answer)
		}
	}
}

func TestS146TimesAreSeconds(t *testing.T) {
	f := newFleet(t)
	thing := f.thing("t")
	id := f.job("job", []string{f.thingARN(thing)})
	f.finish(thing, id, "SUCCEEDED")
	_, _, job := f.call("iot", "GET", "/jobs/"+id, "")
	_, _, execution := f.call("iot", "GET", "/things/"+thing+"/jobs/"+id, "")
	for name, v := range map[string]any{
		"createdAt":           path(job, "job", "createdAt"),
		"job's lastUpdatedAt": path(job, "job", "lastUpdatedAt"),
		"completedAt":         path(job, "job", "completedAt"),
		"queuedAt":            path(execution, "execution", "queuedAt"),
		"startedAt":           path(execution, "execution", "startedAt"),
		"lastUpdatedAt":       path(execution, "execution", "lastUpdatedAt"),
	} {
		seconds, ok := v.(float64)
		if !ok || seconds < 1e9 || seconds >= 1e11 {
			t.Errorf("%s is %v", name, v)
		}
		if ms := seconds * 1000; math.Abs(ms-math.Round(ms)) > 1e-3 {
			t.Errorf("%s is finer than a millisecond: %v", name, v)
		}
	}
}

func (f *fleet) associate(id string, targets ...string) error {
	_, err := f.api.AssociateTargetsWithJob(f.ctx, &iot.AssociateTargetsWithJobInput{JobId: &id, Targets: targets})
	return err
}

func TestS147S148AssociateTargets(t *testing.T) {
	f := newFleet(t)
	a, b := f.thing("a"), f.thing("b")
	g, h := f.group("g", "", a), f.group("h", "", b)
	snapshot := f.job("snapshot", []string{f.groupARN(g)})
	f.refused(f.associate(snapshot, f.groupARN(h)), "InvalidRequestException", 400)
	f.wantExecutions(snapshot, a)

	id := f.job("continuous", []string{f.groupARN(g)}, continuous)
	f.must(f.associate(id, f.groupARN(h)))
	if targets := f.describe(id).Targets; !slices.Equal(targets, []string{f.groupARN(g), f.groupARN(h)}) {
		t.Errorf("targets %v", targets)
	}
	f.eventually("the new members have executions", func() bool { return len(f.executions(id)) == 2 })
	f.executionStatus(b, id, types.JobExecutionStatusQueued)
}

func TestS149TooManyTargets(t *testing.T) {
	f := newFleet(t)
	targets := make([]string, 99)
	for i := range targets {
		targets[i] = f.thingARN(f.thing("t" + itoa(i)))
	}
	g, h := f.groupARN(f.group("g", "")), f.groupARN(f.group("h", ""))
	id := f.job("job", targets, continuous)
	f.refused(f.associate(id, g, h), "LimitExceededException", 410)
	if n := len(f.describe(id).Targets); n != 99 {
		t.Errorf("%d targets after the refusal", n)
	}
	f.must(f.associate(id, g))
	f.refused(f.associate(id, h), "LimitExceededException", 410)
}

func TestS153UpdateCompletedJob(t *testing.T) {
	f := newFleet(t)
	thing := f.thing("t")
	id := f.job("job", []string{f.thingARN(thing)})
	update := func(description string) error {
		_, err := f.api.UpdateJob(f.ctx, &iot.UpdateJobInput{JobId: &id, Description: &description})
		return err
	}
	f.must(update("first"))
	f.finish(thing, id, "SUCCEEDED")
	f.refused(update("second"), "InvalidRequestException", 400)
	if d := aws.ToString(f.describe(id).Description); d != "first" {
		t.Errorf("description %q", d)
	}
}
