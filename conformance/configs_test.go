package conformance

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// Configurations and templates of jobs, as far as no time has to pass.

// configRefused sends requests that each differ from a good one and must be refused with a
// message that names the member.
func configRefused(t *testing.T, cases map[string]func(*iot.CreateJobInput)) {
	t.Helper()
	f := newFleet(t)
	f.thing("t")
	for member, change := range cases {
		member, _, _ = strings.Cut(member, " ")
		if message := f.refused(f.createFails(change), "InvalidRequestException", 400); !strings.Contains(message, member) {
			t.Errorf("the message does not name %s: %s", member, message)
		}
	}
	if !f.gone(f.name("bad")) {
		t.Error("a refused job exists")
	}
}

func exponential(base int32, factor float64) func(*iot.CreateJobInput) {
	return func(in *iot.CreateJobInput) {
		in.JobExecutionsRolloutConfig = &types.JobExecutionsRolloutConfig{ExponentialRate: &types.ExponentialRolloutRate{
			BaseRatePerMinute: &base, IncrementFactor: &factor,
			RateIncreaseCriteria: &types.RateIncreaseCriteria{NumberOfNotifiedThings: aws.Int32(10)}}}
	}
}

func TestS067S068RolloutConfigLimits(t *testing.T) {
	configRefused(t, map[string]func(*iot.CreateJobInput){
		"incrementFactor 1.05":   exponential(50, 1.05),
		"incrementFactor 6":      exponential(50, 6),
		"incrementFactor 1.55":   exponential(50, 1.55),
		"baseRatePerMinute 0":    exponential(0, 2),
		"baseRatePerMinute 1001": exponential(1001, 2),
		"maximumPerMinute 1001": func(in *iot.CreateJobInput) {
			in.JobExecutionsRolloutConfig = &types.JobExecutionsRolloutConfig{MaximumPerMinute: aws.Int32(1001)}
		},
	})
}

func abort(action types.AbortAction, threshold float64) func(*iot.CreateJobInput) {
	return func(in *iot.CreateJobInput) {
		in.AbortConfig = &types.AbortConfig{CriteriaList: []types.AbortCriteria{{Action: action, FailureType: types.JobExecutionFailureTypeAll,
			ThresholdPercentage: &threshold, MinNumberOfExecutedThings: aws.Int32(1)}}}
	}
}

func TestS079S085AbortConfigLimits(t *testing.T) {
	configRefused(t, map[string]func(*iot.CreateJobInput){
		"thresholdPercentage 10.999": abort("CANCEL", 10.999),
		"thresholdPercentage 101":    abort("CANCEL", 101),
		"action":                     abort("PAUSE", 10),
	})
}

func TestS083AbortIsTold(t *testing.T) {
	f := newFleet(t)
	a, b := f.thing("a"), f.thing("b")
	id := f.job("job", []string{f.thingARN(a), f.thingARN(b)}, abort("CANCEL", 50))
	f.finish(a, id, "FAILED")
	f.eventually("the job is aborted", func() bool { return f.describe(id).Status == types.JobStatusCanceled })
	j := f.describe(id)
	if aws.ToString(j.ReasonCode) == "" || aws.ToString(j.Comment) == "" || aws.ToBool(j.ForceCanceled) {
		t.Errorf("reasonCode %q, comment %q, forceCanceled %v", aws.ToString(j.ReasonCode), aws.ToString(j.Comment), aws.ToBool(j.ForceCanceled))
	}
	f.eventually("what waited is canceled", func() bool { return f.execution(b, id).Status == types.JobExecutionStatusCanceled })
}

func TestS095S096SecondsBeforeTimedOut(t *testing.T) {
	f := newFleet(t)
	a := f.thing("a")
	id := f.job("job", []string{f.thingARN(a)}, func(in *iot.CreateJobInput) {
		in.TimeoutConfig = &types.TimeoutConfig{InProgressTimeoutInMinutes: aws.Int64(20)}
	})
	if e := f.execution(a, id); e.ApproximateSecondsBeforeTimedOut != nil {
		t.Errorf("while queued: %d", *e.ApproximateSecondsBeforeTimedOut)
	}
	x := path(f.startNext(a), "execution", "approximateSecondsBeforeTimedOut")
	if seconds, ok := x.(float64); !ok || seconds > 1200 || seconds < 1100 {
		t.Errorf("start-next: %v", x)
	}
	if s := f.execution(a, id).ApproximateSecondsBeforeTimedOut; s == nil || *s > 1200 || *s < 1100 {
		t.Errorf("in progress: %v", s)
	}
	f.finish(a, id, "SUCCEEDED")
	if e := f.execution(a, id); e.ApproximateSecondsBeforeTimedOut != nil {
		t.Errorf("at its end: %d", *e.ApproximateSecondsBeforeTimedOut)
	}
}

func retries(criteria ...types.RetryCriteria) func(*iot.CreateJobInput) {
	return func(in *iot.CreateJobInput) {
		in.JobExecutionsRetryConfig = &types.JobExecutionsRetryConfig{CriteriaList: criteria}
	}
}

func TestS100RetryAttempt(t *testing.T) {
	f := newFleet(t)
	a := f.thing("a")
	id := f.job("job", []string{f.thingARN(a)}, retries(types.RetryCriteria{FailureType: "FAILED", NumberOfRetries: aws.Int32(2)}))
	f.finish(a, id, "FAILED")
	out, err := f.api.ListJobExecutionsForThing(f.ctx, &iot.ListJobExecutionsForThingInput{ThingName: &a, JobId: &id})
	f.must(err)
	if len(out.ExecutionSummaries) != 2 {
		t.Fatalf("%d executions", len(out.ExecutionSummaries))
	}
	for i, want := range []struct {
		status          types.JobExecutionStatus
		number, attempt int64
	}{{types.JobExecutionStatusQueued, 2, 1}, {types.JobExecutionStatusFailed, 1, 0}} {
		s := out.ExecutionSummaries[i].JobExecutionSummary
		if s.Status != want.status || aws.ToInt64(s.ExecutionNumber) != want.number || int64(aws.ToInt32(s.RetryAttempt)) != want.attempt {
			t.Errorf("execution %d: %+v", i, s)
		}
	}
}

func TestS107TooManyRetries(t *testing.T) {
	configRefused(t, map[string]func(*iot.CreateJobInput){"criteriaList": retries(
		types.RetryCriteria{FailureType: "FAILED", NumberOfRetries: aws.Int32(6)}, types.RetryCriteria{FailureType: "TIMED_OUT", NumberOfRetries: aws.Int32(6)})})
}

func scheduling(c types.SchedulingConfig) func(*iot.CreateJobInput) {
	return func(in *iot.CreateJobInput) { in.SchedulingConfig = &c }
}

func TestS110ToS113S117ToS119ScheduleLimits(t *testing.T) {
	in := func(d string) *string { return aws.String(fromNow(d)) }
	window := func(cron string, minutes int32) []types.MaintenanceWindow {
		return []types.MaintenanceWindow{{StartTime: &cron, DurationInMinutes: &minutes}}
	}
	continuousWith := func(c types.SchedulingConfig) func(*iot.CreateJobInput) {
		return func(in *iot.CreateJobInput) { continuous(in); in.SchedulingConfig = &c }
	}
	configRefused(t, map[string]func(*iot.CreateJobInput){
		"startTime too soon":                scheduling(types.SchedulingConfig{StartTime: in("10m")}),
		"startTime too late":                scheduling(types.SchedulingConfig{StartTime: in("9500h")}),
		"endTime after 20 min":              scheduling(types.SchedulingConfig{StartTime: in("2h"), EndTime: in("2h20m")}),
		"endBehavior alone":                 scheduling(types.SchedulingConfig{EndBehavior: types.JobEndBehaviorCancel}),
		"maintenanceWindows of a snapshot":  scheduling(types.SchedulingConfig{MaintenanceWindows: window("cron(0 2 * * ? *)", 60)}),
		"durationInMinutes":                 continuousWith(types.SchedulingConfig{MaintenanceWindows: window("cron(0 2 * * ? *)", 1431)}),
		"startTime with both days":          continuousWith(types.SchedulingConfig{MaintenanceWindows: window("cron(0 2 * * * *)", 60)}),
		"startTime that is no cron of ours": continuousWith(types.SchedulingConfig{MaintenanceWindows: window("0 2 * * *", 60)}),
	})
}

func TestS016CancelScheduledJob(t *testing.T) {
	f := newFleet(t)
	id := f.job("job", []string{f.thingARN(f.thing("t"))}, scheduling(types.SchedulingConfig{StartTime: aws.String(fromNow("1h"))}))
	if j := f.jobStatus(id, types.JobStatusScheduled); aws.ToBool(j.IsConcurrent) {
		t.Error("a scheduled job is concurrent")
	}
	f.cancel(id)
	f.jobStatus(id, types.JobStatusCanceled)
	f.wantExecutions(id)
}

func TestS124ScheduledRollouts(t *testing.T) {
	f := newFleet(t)
	id := f.job("job", []string{f.groupARN(f.group("g", ""))}, continuous, func(in *iot.CreateJobInput) {
		in.SchedulingConfig = &types.SchedulingConfig{MaintenanceWindows: []types.MaintenanceWindow{{StartTime: aws.String("cron(0 2 * * ? *)"), DurationInMinutes: aws.Int32(1)}}}
	})
	j := f.describe(id)
	if len(j.ScheduledJobRollouts) != 7 {
		t.Fatalf("%d scheduled rollouts", len(j.ScheduledJobRollouts))
	}
	last := ""
	for _, r := range j.ScheduledJobRollouts {
		if s := aws.ToString(r.StartTime); s <= last || !strings.HasSuffix(s, " 02:00") {
			t.Errorf("%q after %q", s, last)
		} else {
			last = s
		}
	}
	if w := j.SchedulingConfig.MaintenanceWindows; len(w) != 1 || aws.ToString(w[0].StartTime) != "cron(0 2 * * ? *)" {
		t.Errorf("windows %+v", w)
	}
}

func TestS134ManagedTemplateWithoutParameter(t *testing.T) {
	f := newFleet(t)
	f.thing("t")
	managed := func(name string) string { return "arn:aws:iot:" + f.region + "::jobtemplate/" + name + ":1.0" }
	f.refused(f.createFails(func(in *iot.CreateJobInput) {
		in.Document, in.JobTemplateArn = nil, aws.String(managed("AWS-Download-File"))
	}), "InvalidRequestException", 400)
	id := f.job("job", []string{f.thingARN(f.name("t"))}, func(in *iot.CreateJobInput) {
		in.Document, in.JobTemplateArn = nil, aws.String(managed("AWS-Download-File"))
		in.DocumentParameters = map[string]string{"downloadUrl": "https://example.com/f", "filePath": "/tmp/f"}
	})
	out, err := f.api.GetJobDocument(f.ctx, &iot.GetJobDocumentInput{JobId: &id})
	f.must(err)
	if d := aws.ToString(out.Document); !strings.Contains(d, `"args":["https://example.com/f","/tmp/f"]`) || strings.Contains(d, "${") {
		t.Errorf("document %s", d)
	}
	if j := f.describe(id); aws.ToString(j.JobTemplateArn) != managed("AWS-Download-File") || j.DocumentParameters["filePath"] != "/tmp/f" {
		t.Errorf("%+v", j)
	}
	list, err := f.api.ListManagedJobTemplates(f.ctx, &iot.ListManagedJobTemplatesInput{MaxResults: aws.Int32(3)})
	f.must(err)
	if len(list.ManagedJobTemplates) != 3 || list.NextToken == nil {
		t.Errorf("%d templates, token %v", len(list.ManagedJobTemplates), list.NextToken)
	}
	described, err := f.api.DescribeManagedJobTemplate(f.ctx, &iot.DescribeManagedJobTemplateInput{TemplateName: aws.String("AWS-Reboot")})
	f.must(err)
	if len(described.DocumentParameters) != 2 || !described.DocumentParameters[0].Optional {
		t.Errorf("%+v", described.DocumentParameters)
	}
}

func TestS150ToS152Templates(t *testing.T) {
	f := newFleet(t)
	a, id := f.thing("a"), f.name("template")
	in := &iot.CreateJobTemplateInput{JobTemplateId: &id, Document: aws.String(document)}
	code, _, _ := f.call("iot", "PUT", "/job-templates/"+id, `{"document":"{}"}`)
	if code != 400 {
		t.Errorf("without a description: %d", code)
	}
	in.Description = aws.String("a template")
	in.TimeoutConfig = &types.TimeoutConfig{InProgressTimeoutInMinutes: aws.Int64(5)}
	in.JobExecutionsRolloutConfig = &types.JobExecutionsRolloutConfig{MaximumPerMinute: aws.Int32(7)}
	created, err := f.api.CreateJobTemplate(f.ctx, in)
	f.must(err)
	_, err = f.api.CreateJobTemplate(f.ctx, in)
	f.refused(err, "ConflictException", 409)

	job := f.job("job", []string{f.thingARN(a)}, func(in *iot.CreateJobInput) {
		in.Document, in.JobTemplateArn = nil, created.JobTemplateArn
		in.TimeoutConfig = &types.TimeoutConfig{InProgressTimeoutInMinutes: aws.Int64(9)}
	})
	check := func() {
		t.Helper()
		j := f.describe(job)
		if aws.ToInt64(j.TimeoutConfig.InProgressTimeoutInMinutes) != 9 || aws.ToInt32(j.JobExecutionsRolloutConfig.MaximumPerMinute) != 7 ||
			aws.ToString(j.Description) != "a template" || aws.ToString(j.JobTemplateArn) != aws.ToString(created.JobTemplateArn) {
			t.Errorf("%+v", j)
		}
	}
	check()
	_, err = f.api.DeleteJobTemplate(f.ctx, &iot.DeleteJobTemplateInput{JobTemplateId: &id})
	f.must(err)
	check()
	_, err = f.api.DescribeJobTemplate(f.ctx, &iot.DescribeJobTemplateInput{JobTemplateId: &id})
	f.refused(err, "ResourceNotFoundException", 404)
}

// fromNow is the time so long from now, as a schedule has it.
func fromNow(d string) string {
	in, err := time.ParseDuration(d)
	if err != nil {
		panic(err)
	}
	return time.Now().UTC().Add(in).Format("2006-01-02 15:04")
}
