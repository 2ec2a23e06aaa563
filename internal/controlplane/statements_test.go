package controlplane_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsiot "github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"drover/internal/iot"
)

// Tests called TestS… show the statement of that number in the checklist of the specification
// (spec §17) at the API, over a real engine whose clock stands still at noon.

// noon is when these tests take place.
var noon = time.Date(2027, 1, 1, 12, 0, 0, 0, time.UTC)

func newFleetAtNoon(t *testing.T) *fleet {
	t.Helper()
	return newFleetAt(t, func() time.Time { return noon })
}

// at is so long after noon, as a schedule has it.
func at(d time.Duration) *string { return aws.String(noon.Add(d).Format("2006-01-02 15:04")) }

type change = func(*awsiot.CreateJobInput)

// create creates the job "j" on the thing "t", which it registers, or is refused.
func (f *fleet) create(t *testing.T, changes ...change) error {
	t.Helper()
	in := &awsiot.CreateJobInput{JobId: aws.String("j"), Targets: []string{testRealm.ARN(iot.KindThing, "t")}, Document: aws.String("{}")}
	for _, c := range changes {
		c(in)
	}
	_, err := f.CreateJob(t.Context(), in)
	return err
}

// mustCreate creates the job "j".
func (f *fleet) mustCreate(t *testing.T, changes ...change) {
	t.Helper()
	if err := f.create(t, changes...); err != nil {
		t.Fatal(err)
	}
}

// refuses checks that each request is refused with a message about the member, and that
// nothing of it is kept.
func refuses(t *testing.T, member string, requests ...change) {
	t.Helper()
	f := newFleetAtNoon(t)
	f.thing(t, "t")
	for i, c := range requests {
		err := f.create(t, c)
		wantError(t, err, "InvalidRequestException", 400)
		if !strings.Contains(err.Error(), member) {
			t.Errorf("request %d: %v says nothing of %s", i+1, err, member)
		}
	}
	out, err := f.ListJobs(t.Context(), &awsiot.ListJobsInput{})
	if err != nil || len(out.Jobs) != 0 {
		t.Errorf("afterwards there are %+v, %v", out, err)
	}
}

func exponential(base int32, factor float64, criteria types.RateIncreaseCriteria) change {
	return func(in *awsiot.CreateJobInput) {
		in.JobExecutionsRolloutConfig = &types.JobExecutionsRolloutConfig{ExponentialRate: &types.ExponentialRolloutRate{
			BaseRatePerMinute: &base, IncrementFactor: &factor, RateIncreaseCriteria: &criteria}}
	}
}

func abort(action types.AbortAction, threshold float64) change {
	return func(in *awsiot.CreateJobInput) {
		in.AbortConfig = &types.AbortConfig{CriteriaList: []types.AbortCriteria{
			{Action: "CANCEL", FailureType: "FAILED", ThresholdPercentage: aws.Float64(1), MinNumberOfExecutedThings: aws.Int32(1)},
			{Action: action, FailureType: "ALL", ThresholdPercentage: &threshold, MinNumberOfExecutedThings: aws.Int32(1)},
		}}
	}
}

func retry(criteria ...types.RetryCriteria) *types.JobExecutionsRetryConfig {
	return &types.JobExecutionsRetryConfig{CriteriaList: criteria}
}

func criterion(kind types.RetryableFailureType, n int32) types.RetryCriteria {
	return types.RetryCriteria{FailureType: kind, NumberOfRetries: &n}
}

func retries(criteria ...types.RetryCriteria) change {
	return func(in *awsiot.CreateJobInput) { in.JobExecutionsRetryConfig = retry(criteria...) }
}

func timeout(minutes int64) change {
	return func(in *awsiot.CreateJobInput) {
		in.TimeoutConfig = &types.TimeoutConfig{InProgressTimeoutInMinutes: &minutes}
	}
}

func schedule(c types.SchedulingConfig) change {
	return func(in *awsiot.CreateJobInput) { in.SchedulingConfig = &c }
}

// window is a continuous job with a maintenance window.
func window(cron string, minutes int32) change {
	return func(in *awsiot.CreateJobInput) {
		in.TargetSelection = types.TargetSelectionContinuous
		in.SchedulingConfig = &types.SchedulingConfig{MaintenanceWindows: []types.MaintenanceWindow{{StartTime: &cron, DurationInMinutes: &minutes}}}
	}
}

// fromTemplate takes the document from a template, not from the request.
func fromTemplate(arn string, parameters map[string]string) change {
	return func(in *awsiot.CreateJobInput) {
		in.Document, in.JobTemplateArn, in.DocumentParameters = nil, &arn, parameters
	}
}

func managed(name string) string { return "arn:aws:iot:eu-west-1::jobtemplate/" + name + ":1.0" }

func TestS002_JobThatStartsLater(t *testing.T) {
	t.Parallel()
	f := newFleetAtNoon(t)
	f.thing(t, "t")
	given := types.SchedulingConfig{StartTime: aws.String("2027-01-01T14:00+01:00"), EndTime: at(5 * time.Hour), EndBehavior: types.JobEndBehaviorCancel}
	f.mustCreate(t, schedule(given))
	j := f.describe(t, "j")
	if j.Status != types.JobStatusScheduled || *j.IsConcurrent {
		t.Errorf("it is %s, isConcurrent %t", j.Status, *j.IsConcurrent)
	}
	if c := j.SchedulingConfig; *c.StartTime != *given.StartTime || *c.EndTime != *given.EndTime || c.EndBehavior != given.EndBehavior || c.MaintenanceWindows != nil {
		t.Errorf("schedulingConfig is %+v", c)
	}
	if j.ScheduledJobRollouts != nil {
		t.Errorf("a job without windows has scheduledJobRollouts: %+v", j.ScheduledJobRollouts)
	}
	out, err := f.ListJobExecutionsForJob(t.Context(), &awsiot.ListJobExecutionsForJobInput{JobId: aws.String("j")})
	if err != nil || len(out.ExecutionSummaries) != 0 {
		t.Errorf("it has executions: %+v, %v", out, err)
	}
}

func TestS067_IncrementFactor(t *testing.T) {
	t.Parallel()
	some := types.RateIncreaseCriteria{NumberOfNotifiedThings: aws.Int32(1)}
	refuses(t, "incrementFactor", exponential(1, 1.05, some), exponential(1, 6, some), exponential(1, 1.55, some), exponential(1, 1.10000001, some))
	refuses(t, "rateIncreaseCriteria", exponential(1, 1.5, types.RateIncreaseCriteria{}))
}

func TestS068_BaseRatePerMinute(t *testing.T) {
	t.Parallel()
	some := types.RateIncreaseCriteria{NumberOfSucceededThings: aws.Int32(1)}
	refuses(t, "baseRatePerMinute", exponential(0, 2, some), exponential(1001, 2, some))
	refuses(t, "maximumPerMinute", func(in *awsiot.CreateJobInput) {
		in.JobExecutionsRolloutConfig = &types.JobExecutionsRolloutConfig{MaximumPerMinute: aws.Int32(1001)}
	})
}

func TestS079_ThresholdPercentage(t *testing.T) {
	t.Parallel()
	refuses(t, "abortConfig.criteriaList.2.member.thresholdPercentage",
		abort("CANCEL", 10.999), abort("CANCEL", 0), abort("CANCEL", -1e300), abort("CANCEL", 100.01))
}

func TestS085_AbortAction(t *testing.T) {
	t.Parallel()
	refuses(t, "action", abort("PAUSE", 10))
}

// TestEdgesOfConfigs: the values next to those that are refused are kept as they are.
func TestEdgesOfConfigs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		base, most int32
		factor     float64
		threshold  float64
		minutes    int64
	}{
		{1, 1, 1.1, 0.01, 1},
		{1000, 1000, 5, 100, 10080},
		{7, 70, 2.3, 10.99, 90},
		{7, 70, 4.9, 0.29, 90}, // 0.29 × 100 is 28.999999999999996
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			t.Parallel()
			f := newFleetAtNoon(t)
			f.thing(t, "t")
			f.mustCreate(t, exponential(c.base, c.factor, types.RateIncreaseCriteria{NumberOfNotifiedThings: aws.Int32(3)}), abort("CANCEL", c.threshold), timeout(c.minutes),
				func(in *awsiot.CreateJobInput) { in.JobExecutionsRolloutConfig.MaximumPerMinute = &c.most })
			j := f.describe(t, "j")
			r := j.JobExecutionsRolloutConfig
			if *r.MaximumPerMinute != c.most || *r.ExponentialRate.BaseRatePerMinute != c.base || *r.ExponentialRate.IncrementFactor != c.factor ||
				*r.ExponentialRate.RateIncreaseCriteria.NumberOfNotifiedThings != 3 || r.ExponentialRate.RateIncreaseCriteria.NumberOfSucceededThings != nil {
				t.Errorf("jobExecutionsRolloutConfig is %+v with %+v", r, r.ExponentialRate)
			}
			if got := *j.AbortConfig.CriteriaList[1].ThresholdPercentage; got != c.threshold {
				t.Errorf("thresholdPercentage is %v", got)
			}
			if got := *j.TimeoutConfig.InProgressTimeoutInMinutes; got != c.minutes {
				t.Errorf("inProgressTimeoutInMinutes is %d", got)
			}
		})
	}
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		refuses(t, "inProgressTimeoutInMinutes", timeout(0), timeout(10081), timeout(-1))
	})
}

func TestS095_SecondsBeforeTimedOut(t *testing.T) {
	t.Parallel()
	var passed atomic.Int64 // since noon
	f := newFleetAt(t, func() time.Time { return noon.Add(time.Duration(passed.Load())) })
	f.thing(t, "t")
	f.mustCreate(t, timeout(20))
	f.eventually(t, "it is rolled out", func() bool { return !*f.describe(t, "j").IsConcurrent })
	left := func(want any) {
		t.Helper()
		var got any
		if s := f.execution(t, "t", "j").ApproximateSecondsBeforeTimedOut; s != nil {
			got = *s
		}
		if got != want {
			t.Errorf("%v after noon approximateSecondsBeforeTimedOut is %v, want %v", time.Duration(passed.Load()), got, want)
		}
	}
	left(nil)
	f.report(t, "t", "j", iot.InProgress)
	left(int64(20 * 60))
	passed.Store(int64(5*time.Minute + time.Millisecond)) // whole seconds, rounded down
	left(int64(15*60 - 1))
	_, err := f.engine.Do(t.Context(), &iot.Request{Op: iot.OpUpdate, Thing: "t", JobID: "j", Status: iot.InProgress, StepTimeout: aws.Int64(7)})
	if err != nil {
		t.Fatal(err)
	}
	left(int64(7 * 60))
}

func TestS096_NoSecondsAtTheEnd(t *testing.T) {
	t.Parallel()
	f := newFleetAtNoon(t)
	f.thing(t, "t")
	f.mustCreate(t, timeout(20))
	f.eventually(t, "it is rolled out", func() bool { return !*f.describe(t, "j").IsConcurrent })
	f.report(t, "t", "j", iot.InProgress)
	f.report(t, "t", "j", iot.Succeeded)
	if x := f.execution(t, "t", "j"); x.Status != types.JobExecutionStatusSucceeded || x.ApproximateSecondsBeforeTimedOut != nil {
		t.Errorf("it is %+v", x)
	}
}

func TestS107_TooManyRetries(t *testing.T) {
	t.Parallel()
	refuses(t, "jobExecutionsRetryConfig",
		retries(criterion("FAILED", 6), criterion("TIMED_OUT", 6)),
		retries(criterion("FAILED", 1), criterion("FAILED", 1)),
		retries(criterion("ALL", 1), criterion("FAILED", 1)),
		retries(criterion("ALL", 11)),
		retries(criterion("REJECTED", 1)))
}

func TestS109_RetriesCanOnlyBeSwitchedOff(t *testing.T) {
	t.Parallel()
	f := newFleetAtNoon(t)
	f.thing(t, "t")
	f.mustCreate(t, retries(criterion("FAILED", 2)))
	f.eventually(t, "it is rolled out", func() bool { return !*f.describe(t, "j").IsConcurrent })
	update := func(n int32) error {
		_, err := f.UpdateJob(t.Context(), &awsiot.UpdateJobInput{JobId: aws.String("j"), JobExecutionsRetryConfig: retry(criterion("FAILED", n))})
		return err
	}
	wantError(t, update(5), "InvalidRequestException", 400)
	if got := *f.describe(t, "j").JobExecutionsRetryConfig.CriteriaList[0].NumberOfRetries; got != 2 {
		t.Errorf("after the refusal numberOfRetries is %d", got)
	}
	f.report(t, "t", "j", iot.Failed)
	if x := f.execution(t, "t", "j"); x.Status != types.JobExecutionStatusQueued || *x.ExecutionNumber != 2 {
		t.Fatalf("the retry is %+v", x)
	}
	if err := update(0); err != nil {
		t.Fatal(err)
	}
	if got := *f.describe(t, "j").JobExecutionsRetryConfig.CriteriaList[0].NumberOfRetries; got != 0 {
		t.Errorf("numberOfRetries is %d", got)
	}
	f.report(t, "t", "j", iot.Failed)
	if x := f.execution(t, "t", "j"); x.Status != types.JobExecutionStatusFailed || *x.ExecutionNumber != 2 {
		t.Errorf("afterwards it is %+v", x)
	}
	out, err := f.ListJobExecutionsForThing(t.Context(), &awsiot.ListJobExecutionsForThingInput{ThingName: aws.String("t")})
	if err != nil {
		t.Fatal(err)
	}
	var attempts []int32
	for _, x := range out.ExecutionSummaries {
		attempts = append(attempts, *x.JobExecutionSummary.RetryAttempt)
	}
	slices.Sort(attempts)
	if !slices.Equal(attempts, []int32{0, 1}) {
		t.Errorf("retryAttempt are %v, want 0 and 1", attempts)
	}
}

func TestS110_StartTooSoon(t *testing.T) {
	t.Parallel()
	refuses(t, "startTime", schedule(types.SchedulingConfig{StartTime: at(10 * time.Minute)}), schedule(types.SchedulingConfig{StartTime: at(29 * time.Minute)}))
}

func TestS111_StartTooLate(t *testing.T) {
	t.Parallel()
	thirteenMonths := noon.AddDate(0, 13, 0).Sub(noon)
	refuses(t, "startTime", schedule(types.SchedulingConfig{StartTime: at(thirteenMonths)}), schedule(types.SchedulingConfig{StartTime: aws.String("tomorrow")}))
}

func TestS112_EndTooSoonAfterStart(t *testing.T) {
	t.Parallel()
	refuses(t, "endTime", schedule(types.SchedulingConfig{StartTime: at(time.Hour), EndTime: at(80 * time.Minute)}), schedule(types.SchedulingConfig{EndTime: at(20 * time.Minute)}))
}

func TestS113_EndBehaviorWithoutEnd(t *testing.T) {
	t.Parallel()
	refuses(t, "endBehavior", schedule(types.SchedulingConfig{EndBehavior: types.JobEndBehaviorCancel}))
}

func TestS117_WindowsOfASnapshot(t *testing.T) {
	t.Parallel()
	refuses(t, "maintenanceWindows", func(in *awsiot.CreateJobInput) {
		window("cron(0 2 * * ? *)", 60)(in)
		in.TargetSelection = types.TargetSelectionSnapshot
	})
}

func TestS118_WindowTooLong(t *testing.T) {
	t.Parallel()
	refuses(t, "durationInMinutes", window("cron(0 2 * * ? *)", 1431))
}

func TestS119_CronWithBothDays(t *testing.T) {
	t.Parallel()
	refuses(t, "maintenanceWindows.1.member.startTime", window("cron(0 2 * * * *)", 60), window("cron(0 2 ? * ? *)", 60), window("0 2 * * *", 60))
}

func TestS124_ScheduledRollouts(t *testing.T) {
	t.Parallel()
	f := newFleetAtNoon(t)
	f.thing(t, "t")
	f.mustCreate(t, window("cron(30 2 * * ? *)", 60))
	j := f.describe(t, "j")
	var got, want []string
	for _, r := range j.ScheduledJobRollouts {
		got = append(got, *r.StartTime)
	}
	for day := 2; day <= 8; day++ {
		want = append(want, fmt.Sprintf("2027-01-%02d 02:30", day))
	}
	if !slices.Equal(got, want) {
		t.Errorf("scheduledJobRollouts are %q, want %q", got, want)
	}
	if w := j.SchedulingConfig.MaintenanceWindows; len(w) != 1 || *w[0].StartTime != "cron(30 2 * * ? *)" || *w[0].DurationInMinutes != 60 {
		t.Errorf("maintenanceWindows are %+v", w)
	}
	if j.Status != types.JobStatusScheduled {
		t.Errorf("outside of its windows it is %s", j.Status)
	}
}

func TestScheduledRolloutsEndWithTheJob(t *testing.T) {
	t.Parallel()
	f := newFleetAtNoon(t)
	f.thing(t, "t")
	f.mustCreate(t, window("cron(30 2 * * ? *)", 60), func(in *awsiot.CreateJobInput) { in.SchedulingConfig.EndTime = at(48 * time.Hour) })
	if got := f.describe(t, "j").ScheduledJobRollouts; len(got) != 2 || *got[1].StartTime != "2027-01-03 02:30" {
		t.Errorf("they are %+v", got)
	}
}

func TestS133_ParametersWithoutAManagedTemplate(t *testing.T) {
	t.Parallel()
	parameters := map[string]string{"k": "v"}
	refuses(t, "documentParameters", func(in *awsiot.CreateJobInput) { in.DocumentParameters = parameters })

	f := newFleetAtNoon(t)
	f.thing(t, "t")
	out, err := f.CreateJobTemplate(t.Context(), &awsiot.CreateJobTemplateInput{JobTemplateId: aws.String("own"), Description: aws.String("d"), Document: aws.String("{}")})
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, f.create(t, fromTemplate(*out.JobTemplateArn, parameters)), "InvalidRequestException", 400)
}

func TestS134_RequiredParameterIsMissing(t *testing.T) {
	t.Parallel()
	download := managed("AWS-Download-File")
	refuses(t, "downloadUrl", fromTemplate(download, map[string]string{"filePath": "/f"}))
	refuses(t, "unknown", fromTemplate(download, map[string]string{"filePath": "/f", "downloadUrl": "u", "unknown": "v"}))
}

func TestManagedTemplates(t *testing.T) {
	t.Parallel()
	f := newFleetAtNoon(t)
	ctx := t.Context()
	t.Run("are listed page by page", func(t *testing.T) {
		t.Parallel()
		var names []string
		pages := awsiot.NewListManagedJobTemplatesPaginator(f.Client, &awsiot.ListManagedJobTemplatesInput{MaxResults: aws.Int32(3)})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if len(page.ManagedJobTemplates) > 3 {
				t.Errorf("a page of %d", len(page.ManagedJobTemplates))
			}
			for _, m := range page.ManagedJobTemplates {
				names = append(names, *m.TemplateName)
				if *m.TemplateArn != managed(*m.TemplateName) || *m.TemplateVersion != "1.0" || *m.Description == "" || !slices.Equal(m.Environments, []string{"LINUX"}) {
					t.Errorf("%+v", m)
				}
			}
		}
		want := []string{"AWS-Download-File", "AWS-Install-Application", "AWS-Reboot", "AWS-Remove-Application", "AWS-Restart-Application", "AWS-Start-Application", "AWS-Stop-Application"}
		if !slices.Equal(names, want) {
			t.Errorf("got %q, want %q", names, want)
		}
	})
	t.Run("are listed by name", func(t *testing.T) {
		t.Parallel()
		out, err := f.ListManagedJobTemplates(ctx, &awsiot.ListManagedJobTemplatesInput{TemplateName: aws.String("AWS-Reboot")})
		if err != nil || len(out.ManagedJobTemplates) != 1 || *out.ManagedJobTemplates[0].TemplateName != "AWS-Reboot" || out.NextToken != nil {
			t.Errorf("got %+v, %v", out, err)
		}
		_, err = f.ListManagedJobTemplates(ctx, &awsiot.ListManagedJobTemplatesInput{TemplateName: aws.String("AWS-Nothing")})
		wantError(t, err, "ResourceNotFoundException", 404)
	})
	t.Run("are described", func(t *testing.T) {
		t.Parallel()
		out, err := f.DescribeManagedJobTemplate(ctx, &awsiot.DescribeManagedJobTemplateInput{TemplateName: aws.String("AWS-Download-File"), TemplateVersion: aws.String("1.0")})
		if err != nil {
			t.Fatal(err)
		}
		var parameters []string
		for _, p := range out.DocumentParameters {
			parameters = append(parameters, fmt.Sprintf("%s optional=%t", *p.Key, p.Optional))
			if *p.Description == "" || *p.Example == "" {
				t.Errorf("%s says nothing about itself", *p.Key)
			}
		}
		want := []string{"downloadUrl optional=false", "filePath optional=false", "pathToHandler optional=true", "runAsUser optional=true"}
		if !slices.Equal(parameters, want) || *out.TemplateArn != managed("AWS-Download-File") || !strings.Contains(*out.Document, "${aws:iot:parameter:downloadUrl}") {
			t.Errorf("got %q, %s, %s", parameters, *out.TemplateArn, *out.Document)
		}
		for name, version := range map[string]string{"AWS-Download-File": "2.0", "AWS-Nothing": "1.0"} {
			_, err = f.DescribeManagedJobTemplate(ctx, &awsiot.DescribeManagedJobTemplateInput{TemplateName: &name, TemplateVersion: &version})
			wantError(t, err, "ResourceNotFoundException", 404)
		}
		_, err = f.DescribeManagedJobTemplate(ctx, &awsiot.DescribeManagedJobTemplateInput{TemplateName: aws.String("AWS-Reboot"), TemplateVersion: aws.String("one")})
		wantError(t, err, "InvalidRequestException", 400)
	})
	t.Run("make jobs", func(t *testing.T) {
		t.Parallel()
		f.thing(t, "t")
		parameters := map[string]string{"downloadUrl": `https://h/"q"`, "filePath": "/f"}
		f.mustCreate(t, fromTemplate(managed("AWS-Download-File"), parameters))
		j := f.describe(t, "j")
		if *j.JobTemplateArn != managed("AWS-Download-File") || len(j.DocumentParameters) != 2 || j.DocumentParameters["filePath"] != "/f" || *j.Description == "" {
			t.Errorf("it is %+v", j)
		}
		for before, want := range map[bool]string{
			false: `"input":{"handler":"download-file.sh","args":["https://h/\"q\"","/f"],"path":""},"runAsUser":""`,
			true:  `"args":["${aws:iot:parameter:downloadUrl}","${aws:iot:parameter:filePath}"],"path":"${aws:iot:parameter:pathToHandler}"`,
		} {
			out, err := f.GetJobDocument(ctx, &awsiot.GetJobDocumentInput{JobId: aws.String("j"), BeforeSubstitution: before})
			if err != nil || !strings.Contains(*out.Document, want) {
				t.Errorf("beforeSubstitution %t: %v, %v, want %s in it", before, out, err, want)
			}
		}
	})
}

// put sends a body that the SDK would not.
func (f *fleet) put(t *testing.T, path, body string) (status int, exception, answer string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, f.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header.Get("X-Amzn-Errortype"), string(text)
}

func TestS150_CreateJobTemplate(t *testing.T) {
	t.Parallel()
	f := newFleetAtNoon(t)
	ctx := t.Context()
	for body, member := range map[string]string{
		`{"document":"{}"}`:                                    "description",
		`{"document":"{}","description":""}`:                   "description",
		`{"description":"d"}`:                                  "jobArn, document and documentSource",
		`{"description":"d","document":"{"}`:                   "JSON",
		`{"description":"d","document":"{}","jobArn":"j"}`:     "ARN",
		`{"description":"d","documentSource":"https://h/doc"}`: "documentSource",
		`{"description":"d","document":"{}","maintenanceWindows":[{"startTime":"daily","durationInMinutes":1}]}`: "startTime",
		`{"description":"d","document":"{}","tags":[{"Key":"aws:k"}]}`:                                           "reserved",
	} {
		if status, exception, answer := f.put(t, "/job-templates/t", body); status != 400 || exception != "InvalidRequestException" || !strings.Contains(answer, member) {
			t.Errorf("%s: %d %s %s, want an InvalidRequestException about %s", body, status, exception, answer, member)
		}
	}

	in := &awsiot.CreateJobTemplateInput{JobTemplateId: aws.String("t"), Description: aws.String("d"), Document: aws.String("{}"), Tags: []types.Tag{{Key: aws.String("k"), Value: aws.String("v")}}}
	out, err := f.CreateJobTemplate(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	arn := "arn:aws:iot:eu-west-1:123456789012:jobtemplate/t"
	if *out.JobTemplateArn != arn || *out.JobTemplateId != "t" {
		t.Errorf("answered %s %s", *out.JobTemplateArn, *out.JobTemplateId)
	}
	tags, err := f.ListTagsForResource(ctx, &awsiot.ListTagsForResourceInput{ResourceArn: &arn})
	if err != nil || len(tags.Tags) != 1 || *tags.Tags[0].Key != "k" {
		t.Errorf("tags: %+v, %v", tags, err)
	}

	_, err = f.CreateJobTemplate(ctx, in)
	wantError(t, err, "ConflictException", 409)
	var conflict *types.ConflictException
	if !errors.As(err, &conflict) || aws.ToString(conflict.ResourceId) != "t" {
		t.Errorf("got %v", err)
	}
}

func TestS151_JobFromATemplate(t *testing.T) {
	t.Parallel()
	f := newFleetAtNoon(t)
	ctx := t.Context()
	f.thing(t, "t")
	template, err := f.CreateJobTemplate(ctx, &awsiot.CreateJobTemplateInput{
		JobTemplateId: aws.String("base"), Description: aws.String("of the template"), Document: aws.String(`{"from":"template"}`),
		TimeoutConfig:              &types.TimeoutConfig{InProgressTimeoutInMinutes: aws.Int64(5)},
		JobExecutionsRolloutConfig: &types.JobExecutionsRolloutConfig{MaximumPerMinute: aws.Int32(7)},
		JobExecutionsRetryConfig:   retry(criterion("ALL", 3)),
	})
	if err != nil {
		t.Fatal(err)
	}
	f.mustCreate(t, fromTemplate(*template.JobTemplateArn, nil), timeout(9))
	j := f.describe(t, "j")
	if *j.TimeoutConfig.InProgressTimeoutInMinutes != 9 || *j.JobExecutionsRolloutConfig.MaximumPerMinute != 7 ||
		*j.JobExecutionsRetryConfig.CriteriaList[0].NumberOfRetries != 3 || *j.Description != "of the template" || *j.JobTemplateArn != *template.JobTemplateArn {
		t.Errorf("the job is %+v", j)
	}
	if doc, err := f.GetJobDocument(ctx, &awsiot.GetJobDocumentInput{JobId: aws.String("j")}); err != nil || *doc.Document != `{"from":"template"}` {
		t.Errorf("its document is %v, %v", doc, err)
	}

	// And a template from that job, of which the retries are others.
	arn := testRealm.ARN(iot.KindJob, "j")
	_, err = f.CreateJobTemplate(ctx, &awsiot.CreateJobTemplateInput{
		JobTemplateId: aws.String("copy"), Description: aws.String("of a job"), JobArn: &arn, JobExecutionsRetryConfig: retry(criterion("FAILED", 1)),
	})
	if err != nil {
		t.Fatal(err)
	}
	copied, err := f.DescribeJobTemplate(ctx, &awsiot.DescribeJobTemplateInput{JobTemplateId: aws.String("copy")})
	if err != nil {
		t.Fatal(err)
	}
	if *copied.Document != `{"from":"template"}` || *copied.Description != "of a job" || *copied.TimeoutConfig.InProgressTimeoutInMinutes != 9 ||
		*copied.JobExecutionsRetryConfig.CriteriaList[0].NumberOfRetries != 1 || !copied.CreatedAt.Equal(noon) {
		t.Errorf("the template is %+v", copied)
	}
	arn += "-not"
	_, err = f.CreateJobTemplate(ctx, &awsiot.CreateJobTemplateInput{JobTemplateId: aws.String("none"), Description: aws.String("d"), JobArn: &arn})
	wantError(t, err, "ResourceNotFoundException", 404)
}

func TestS152_DeleteJobTemplate(t *testing.T) {
	t.Parallel()
	f := newFleetAtNoon(t)
	ctx := t.Context()
	f.thing(t, "t")
	var last string
	for _, id := range []string{"a", "b", "c"} {
		out, err := f.CreateJobTemplate(ctx, &awsiot.CreateJobTemplateInput{
			JobTemplateId: &id, Description: aws.String(id), Document: aws.String(`{"v":1}`),
			TimeoutConfig: &types.TimeoutConfig{InProgressTimeoutInMinutes: aws.Int64(5)},
		})
		if err != nil {
			t.Fatal(err)
		}
		last = *out.JobTemplateArn
	}
	f.mustCreate(t, fromTemplate(last, nil))
	if _, err := f.DeleteJobTemplate(ctx, &awsiot.DeleteJobTemplateInput{JobTemplateId: aws.String("c")}); err != nil {
		t.Fatal(err)
	}

	j := f.describe(t, "j")
	doc, err := f.GetJobDocument(ctx, &awsiot.GetJobDocumentInput{JobId: aws.String("j")})
	if err != nil || *doc.Document != `{"v":1}` || *j.TimeoutConfig.InProgressTimeoutInMinutes != 5 || *j.JobTemplateArn != last || *j.Description != "c" {
		t.Errorf("the job is %+v with %v, %v", j, doc, err)
	}
	_, err = f.DescribeJobTemplate(ctx, &awsiot.DescribeJobTemplateInput{JobTemplateId: aws.String("c")})
	wantError(t, err, "ResourceNotFoundException", 404)
	_, err = f.DeleteJobTemplate(ctx, &awsiot.DeleteJobTemplateInput{JobTemplateId: aws.String("c")})
	wantError(t, err, "ResourceNotFoundException", 404)
	wantError(t, f.create(t, fromTemplate(last, nil), func(in *awsiot.CreateJobInput) { in.JobId = aws.String("k") }), "ResourceNotFoundException", 404)

	// The others are listed, the newest first.
	var ids []string
	pages := awsiot.NewListJobTemplatesPaginator(f.Client, &awsiot.ListJobTemplatesInput{MaxResults: aws.Int32(1)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range page.JobTemplates {
			ids = append(ids, *s.JobTemplateId)
			if *s.JobTemplateArn != testRealm.ARN(iot.KindTemplate, *s.JobTemplateId) || *s.Description != *s.JobTemplateId || !s.CreatedAt.Equal(noon) {
				t.Errorf("summary %+v", s)
			}
		}
	}
	if !slices.Equal(ids, []string{"b", "a"}) {
		t.Errorf("templates are listed as %q", ids)
	}
	_, err = f.ListJobTemplates(ctx, &awsiot.ListJobTemplatesInput{NextToken: aws.String("nonsense")})
	wantError(t, err, "InvalidRequestException", 400)
}

// TestUpdateJobReplaces: what is given takes the place of what was, the rest stays (spec §10.5).
func TestUpdateJobReplaces(t *testing.T) {
	t.Parallel()
	f := newFleetAtNoon(t)
	f.thing(t, "t")
	f.mustCreate(t, abort("CANCEL", 50), timeout(5), exponential(5, 2, types.RateIncreaseCriteria{NumberOfNotifiedThings: aws.Int32(9)}))
	update := func(in awsiot.UpdateJobInput) *types.Job {
		t.Helper()
		in.JobId = aws.String("j")
		if _, err := f.UpdateJob(t.Context(), &in); err != nil {
			t.Fatal(err)
		}
		return f.describe(t, "j")
	}
	j := update(awsiot.UpdateJobInput{JobExecutionsRolloutConfig: &types.JobExecutionsRolloutConfig{MaximumPerMinute: aws.Int32(3)}})
	if r := j.JobExecutionsRolloutConfig; *r.MaximumPerMinute != 3 || r.ExponentialRate != nil || len(j.AbortConfig.CriteriaList) != 2 || *j.TimeoutConfig.InProgressTimeoutInMinutes != 5 {
		t.Errorf("with another rate it is %+v", j)
	}
	j = update(awsiot.UpdateJobInput{AbortConfig: &types.AbortConfig{CriteriaList: []types.AbortCriteria{
		{Action: "CANCEL", FailureType: "REJECTED", ThresholdPercentage: aws.Float64(12.5), MinNumberOfExecutedThings: aws.Int32(4)},
	}}})
	if c := j.AbortConfig.CriteriaList; len(c) != 1 || c[0].FailureType != "REJECTED" || *c[0].ThresholdPercentage != 12.5 || *c[0].MinNumberOfExecutedThings != 4 {
		t.Errorf("with other criteria it is %+v", c)
	}
	if j = update(awsiot.UpdateJobInput{TimeoutConfig: &types.TimeoutConfig{InProgressTimeoutInMinutes: aws.Int64(8)}}); *j.TimeoutConfig.InProgressTimeoutInMinutes != 8 {
		t.Errorf("with another timeout it is %+v", j.TimeoutConfig)
	}
	if j = update(awsiot.UpdateJobInput{TimeoutConfig: &types.TimeoutConfig{}}); j.TimeoutConfig != nil || len(j.AbortConfig.CriteriaList) != 1 {
		t.Errorf("without a timeout it is %+v", j)
	}
	_, err := f.UpdateJob(t.Context(), &awsiot.UpdateJobInput{JobId: aws.String("j"), TimeoutConfig: &types.TimeoutConfig{InProgressTimeoutInMinutes: aws.Int64(10081)}})
	wantError(t, err, "InvalidRequestException", 400)
}
