package conformance

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// Job lifecycle.

func (f *fleet) cancel(id string, options ...func(*iot.CancelJobInput)) {
	f.t.Helper()
	in := &iot.CancelJobInput{JobId: &id}
	for _, o := range options {
		o(in)
	}
	_, err := f.api.CancelJob(f.ctx, in)
	f.must(err)
}

func forced(in *iot.CancelJobInput) { in.Force = true }

func (f *fleet) deleteJob(id string, force bool) error {
	_, err := f.api.DeleteJob(f.ctx, &iot.DeleteJobInput{JobId: &id, Force: force})
	return err
}

func (f *fleet) gone(id string) bool {
	_, err := f.api.DescribeJob(f.ctx, &iot.DescribeJobInput{JobId: &id})
	return err != nil && strings.Contains(err.Error(), "ResourceNotFoundException")
}

// finish lets the thing's device carry out the job with a result.
func (f *fleet) finish(thing, id, status string) {
	f.t.Helper()
	code, _, answer := f.call("iot-jobs-data", "POST", "/things/"+thing+"/jobs/"+id, `{"status":"`+status+`"}`)
	if code != 200 {
		f.t.Fatalf("update to %s: %d %v", status, code, answer)
	}
}

func (f *fleet) startNext(thing string) map[string]any {
	f.t.Helper()
	code, _, answer := f.call("iot-jobs-data", "PUT", "/things/"+thing+"/jobs/$next", `{}`)
	if code != 200 {
		f.t.Fatalf("start-next: %d %v", code, answer)
	}
	return answer
}

func (f *fleet) jobStatus(id string, want types.JobStatus) *types.Job {
	f.t.Helper()
	j := f.describe(id)
	if j.Status != want {
		f.t.Fatalf("job is %s, want %s", j.Status, want)
	}
	return j
}

func (f *fleet) executionStatus(thing, id string, want types.JobExecutionStatus) *types.JobExecution {
	f.t.Helper()
	e := f.execution(thing, id)
	if e.Status != want {
		f.t.Fatalf("execution on %s is %s, want %s", thing, e.Status, want)
	}
	return e
}

func TestS001CreatedJobIsInProgress(t *testing.T) {
	f := newFleet(t)
	id := f.name("job")
	out, err := f.api.CreateJob(f.ctx, &iot.CreateJobInput{JobId: &id, Document: aws.String(document),
		Targets: []string{f.thingARN(f.thing("t"))}, Description: aws.String("a job")})
	f.must(err)
	if aws.ToString(out.JobId) != id || aws.ToString(out.JobArn) != f.arn("job", id) || aws.ToString(out.Description) != "a job" {
		t.Errorf("answer: %+v", out)
	}
	f.jobStatus(id, types.JobStatusInProgress)
}

func TestS004SnapshotCompletesWhenAllSucceeded(t *testing.T) {
	f := newFleet(t)
	a, b := f.thing("a"), f.thing("b")
	id := f.job("job", []string{f.thingARN(a), f.thingARN(b)})
	f.finish(a, id, "SUCCEEDED")
	if j := f.jobStatus(id, types.JobStatusInProgress); j.CompletedAt != nil {
		t.Errorf("completedAt before the end: %v", j.CompletedAt)
	}
	f.finish(b, id, "SUCCEEDED")
	if j := f.jobStatus(id, types.JobStatusCompleted); j.CompletedAt == nil || !j.CompletedAt.Equal(*j.LastUpdatedAt) {
		t.Errorf("completedAt %v, lastUpdatedAt %v", j.CompletedAt, j.LastUpdatedAt)
	}
}

func TestS005SnapshotCompletesWithFailedAndCanceled(t *testing.T) {
	f := newFleet(t)
	a, b := f.thing("a"), f.thing("b")
	id := f.job("job", []string{f.thingARN(a), f.thingARN(b)})
	f.finish(a, id, "FAILED")
	_, err := f.api.CancelJobExecution(f.ctx, &iot.CancelJobExecutionInput{JobId: &id, ThingName: &b})
	f.must(err)
	f.jobStatus(id, types.JobStatusCompleted)
}

func TestS006ContinuousStaysInProgress(t *testing.T) {
	f := newFleet(t)
	a := f.thing("a")
	id := f.job("job", []string{f.thingARN(a)}, continuous)
	f.finish(a, id, "SUCCEEDED")
	f.jobStatus(id, types.JobStatusInProgress)
}

func TestS008EmptyGroupCompletes(t *testing.T) {
	f := newFleet(t)
	id := f.job("job", []string{f.groupARN(f.group("g", ""))})
	j := f.jobStatus(id, types.JobStatusCompleted)
	if counters(j) != [8]int32{} {
		t.Errorf("counters: %v", counters(j))
	}
}

// counters returns the eight counters in the order of the model, -1 for an absent one.
func counters(j *types.Job) [8]int32 {
	d := j.JobProcessDetails
	var c [8]int32
	for i, p := range []*int32{d.NumberOfQueuedThings, d.NumberOfInProgressThings, d.NumberOfSucceededThings, d.NumberOfFailedThings,
		d.NumberOfRejectedThings, d.NumberOfTimedOutThings, d.NumberOfCanceledThings, d.NumberOfRemovedThings} {
		c[i] = -1
		if p != nil {
			c[i] = *p
		}
	}
	return c
}

// bulk registers many things in one group, through drover's own import.
func (f *fleet) bulk(group string, n int) string {
	f.t.Helper()
	for from := 0; from < n; from += 5000 {
		var lines strings.Builder
		for i := from; i < min(n, from+5000); i++ {
			lines.WriteString(`{"thingName":"` + f.name("bulk-"+itoa(i)) + `","groups":["` + f.name(group) + `"]}` + "\n")
		}
		code, _, answer := f.call("iot", "POST", "/_drover/import?create=true", lines.String())
		if code != 200 || len(asList(answer["errors"])) > 0 {
			f.t.Fatalf("import: %d %v", code, answer)
		}
	}
	return f.name(group)
}

func TestS009S010RolloutIsConcurrentUntilFinished(t *testing.T) {
	f := fleetOn(t, ownServer(t))
	group := f.bulk("g", 40_000)
	id := f.name("job")
	_, err := f.api.CreateJob(f.ctx, &iot.CreateJobInput{JobId: &id, Document: aws.String(document), Targets: []string{f.groupARN(group)}})
	f.must(err)
	j := f.describe(id)
	if !aws.ToBool(j.IsConcurrent) || len(j.JobProcessDetails.ProcessingTargets) != 1 || j.JobProcessDetails.ProcessingTargets[0] != f.groupARN(group) {
		t.Errorf("while rolling out: isConcurrent %v, processingTargets %v", aws.ToBool(j.IsConcurrent), j.JobProcessDetails.ProcessingTargets)
	}
	f.eventually("the rollout ends", func() bool { return !aws.ToBool(f.describe(id).IsConcurrent) })
	j = f.describe(id)
	if j.JobProcessDetails.ProcessingTargets != nil {
		t.Errorf("after the rollout: processingTargets %v", j.JobProcessDetails.ProcessingTargets)
	}
	if c := counters(j); c != [8]int32{40_000} {
		t.Errorf("counters: %v", c)
	}
}

func TestS011CancelJob(t *testing.T) {
	f := newFleet(t)
	id := f.job("job", []string{f.thingARN(f.thing("a"))})
	out, err := f.api.CancelJob(f.ctx, &iot.CancelJobInput{JobId: &id})
	f.must(err)
	if aws.ToString(out.JobId) != id || aws.ToString(out.JobArn) != f.arn("job", id) {
		t.Errorf("answer: %+v", out)
	}
	if j := f.jobStatus(id, types.JobStatusCanceled); aws.ToBool(j.ForceCanceled) {
		t.Error("forceCanceled without force")
	}
}

func TestS012CancelReasonAndComment(t *testing.T) {
	f := newFleet(t)
	id := f.job("job", []string{f.thingARN(f.thing("a"))})
	f.cancel(id, func(in *iot.CancelJobInput) {
		in.ReasonCode, in.Comment = aws.String("USER_REQUEST_1"), aws.String("a comment")
	})
	if j := f.describe(id); aws.ToString(j.ReasonCode) != "USER_REQUEST_1" || aws.ToString(j.Comment) != "a comment" {
		t.Errorf("reasonCode %q, comment %q", aws.ToString(j.ReasonCode), aws.ToString(j.Comment))
	}
}

func TestS013LowerCaseReasonCode(t *testing.T) {
	f := newFleet(t)
	id := f.job("job", []string{f.thingARN(f.thing("a"))})
	_, err := f.api.CancelJob(f.ctx, &iot.CancelJobInput{JobId: &id, ReasonCode: aws.String("abc")})
	if message := f.refused(err, "InvalidRequestException", 400); !strings.Contains(message, "'reasonCode'") {
		t.Errorf("the message does not name the member: %s", message)
	}
	f.jobStatus(id, types.JobStatusInProgress)
}

func TestS014CancelWithForce(t *testing.T) {
	f := newFleet(t)
	id := f.job("job", []string{f.thingARN(f.thing("a"))})
	f.cancel(id, forced)
	if j := f.jobStatus(id, types.JobStatusCanceled); !aws.ToBool(j.ForceCanceled) {
		t.Error("not forceCanceled")
	}
}

func TestS015CancelCompletedJob(t *testing.T) {
	f := newFleet(t)
	a := f.thing("a")
	id := f.job("job", []string{f.thingARN(a)})
	f.finish(a, id, "SUCCEEDED")
	_, err := f.api.CancelJob(f.ctx, &iot.CancelJobInput{JobId: &id})
	f.refused(err, "InvalidRequestException", 400)
	f.jobStatus(id, types.JobStatusCompleted)
}

func TestS017DeleteActiveJobWithoutForce(t *testing.T) {
	f := newFleet(t)
	id := f.job("job", []string{f.thingARN(f.thing("a"))})
	f.refused(f.deleteJob(id, false), "InvalidStateTransitionException", 409)
	f.jobStatus(id, types.JobStatusInProgress)
}

func TestS018DeleteActiveJobWithForce(t *testing.T) {
	f := fleetOn(t, ownServer(t))
	id := f.job("job", []string{f.groupARN(f.bulk("g", 20_000))})
	f.must(f.deleteJob(id, true))
	f.jobStatus(id, types.JobStatusDeletionInProgress)
	f.eventually("the job is gone", func() bool { return f.gone(id) })
}

func TestS019DeleteCompletedJob(t *testing.T) {
	f := newFleet(t)
	a := f.thing("a")
	id := f.job("job", []string{f.thingARN(a)})
	f.finish(a, id, "SUCCEEDED")
	f.must(f.deleteJob(id, false))
	f.eventually("the job is gone", func() bool { return f.gone(id) })
}

func TestS020S021Deletions(t *testing.T) {
	f := fleetOn(t, ownServer(t))
	group := f.bulk("g", 20_000)
	var ids []string
	for i := range 11 {
		ids = append(ids, f.job("job-"+itoa(i), []string{f.groupARN(group)}))
	}
	for _, id := range ids[:10] {
		f.must(f.deleteJob(id, true))
	}
	// Statement 21 first: it needs all ten to be on their way.
	f.refused(f.deleteJob(ids[10], true), "LimitExceededException", 410)
	f.refused(f.deleteJob(ids[9], true), "InvalidStateTransitionException", 409)
	f.jobStatus(ids[10], types.JobStatusInProgress)
	f.eventually("all are gone", func() bool { return f.gone(ids[0]) && f.gone(ids[9]) })
	f.must(f.deleteJob(ids[10], true))
	f.eventually("the last is gone", func() bool { return f.gone(ids[10]) })
}

func TestS022JobIDIsFreeAfterDeletion(t *testing.T) {
	f := newFleet(t)
	a := f.thing("a")
	id := f.job("job", []string{f.thingARN(a)})
	f.must(f.deleteJob(id, true))
	f.eventually("the job is gone", func() bool { return f.gone(id) })
	f.job("job", []string{f.thingARN(a)})
	if e := f.execution(a, id); aws.ToInt64(e.ExecutionNumber) != 1 || e.Status != types.JobExecutionStatusQueued {
		t.Errorf("execution of the new job: %+v", e)
	}
}
