package controlplane

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"drover/internal/iot"
)

// arnA is a target.
const arnA = "arn:aws:iot:eu-west-1:123456789012:thing/a"

// withMember returns a valid body of CreateJob with a further member.
func withMember(member string) string {
	return `{"targets":["` + arnA + `"],"document":"{}",` + member + `}`
}

func TestCreateJob(t *testing.T) {
	t.Parallel()
	e := &engine{job: &iot.Job{JobID: "j1", Description: "d"}}
	got := send(t, newServer(e), "PUT /jobs/j1", `{"targets":["`+arnA+`"],"document":"{\"a\":1}","description":"d","targetSelection":"CONTINUOUS",
		"namespaceId":"ns","presignedUrlConfig":{"roleArn":"arn:aws:iam::123456789012:role/r","expiresInSec":60},
		"destinationPackageVersions":["arn:aws:iot:eu-west-1:123456789012:package/p/version/1"],"tags":[{"Key":"k","Value":"v"},{"Key":"e"}],
		"jobExecutionsRolloutConfig":{},"timeoutConfig":{},"schedulingConfig":{"maintenanceWindows":[]},"documentParameters":{}}`)
	if got.Status != http.StatusOK {
		t.Fatalf("%+v", got)
	}
	sameJSON(t, got.Body, `{"jobArn":"arn:aws:iot:eu-west-1:123456789012:job/j1","jobId":"j1","description":"d"}`)
	want := iot.NewJob{
		JobID: "j1", Targets: []string{arnA}, Document: `{"a":1}`, Description: "d", Selection: iot.Continuous, Namespace: "ns",
		Config: iot.JobConfig{
			Presigned: &iot.PresignedURLConfig{RoleARN: "arn:aws:iam::123456789012:role/r", ExpiresInSec: 60},
			Rollout:   &iot.RolloutConfig{},
		},
		Parameters:      map[string]string{},
		PackageVersions: []string{"arn:aws:iot:eu-west-1:123456789012:package/p/version/1"},
		Tags:            []iot.Tag{{Key: "k", Value: "v"}, {Key: "e"}},
		Actor:           "key:AKIATEST",
	}
	if !reflect.DeepEqual(e.asked, want) {
		t.Errorf("the engine was asked for %+v, want %+v", e.asked, want)
	}
}

func TestCreateJobRefusals(t *testing.T) {
	t.Parallel()
	items := func(n int, item string) string { return strings.TrimSuffix(strings.Repeat(item+",", n), ",") }
	const validID = "PUT /jobs/j"
	for _, c := range []struct{ name, request, body, want string }{
		{"job id with a colon", "PUT /jobs/a%3Ab", withMember(`"comment":""`), "jobId"},
		{"job id of 65 characters", "PUT /jobs/" + strings.Repeat("a", 65), withMember(`"comment":""`), "jobId"},
		{"no body", validID, "", "targets"},
		{"no targets", validID, `{"document":"{}"}`, "targets"},
		{"empty targets", validID, `{"document":"{}","targets":[]}`, "targets"},
		{"target too long", validID, `{"document":"{}","targets":["` + strings.Repeat("a", 2049) + `"]}`, "targets"},
		{"not JSON", validID, `{`, "JSON"},
		{"member of a wrong type", validID, withMember(`"description":1`), "description"},
		{"document too long", validID, `{"targets":["` + arnA + `"],"document":"` + strings.Repeat("a", 32769) + `"}`, "document"},
		{"no document", validID, `{"targets":["` + arnA + `"]}`, "Either document or documentSource is required"},
		{"two documents", validID, withMember(`"documentSource":"https://s3.amazonaws.com/b/k"`), "not both"},
		{"description with a control character", validID, withMember(`"description":"a\u0000b"`), "description"},
		{"description too long", validID, withMember(`"description":"` + strings.Repeat("a", 2029) + `"`), "description"},
		{"unknown selection", validID, withMember(`"targetSelection":"SOME"`), "enum value set"},
		{"namespace with a slash", validID, withMember(`"namespaceId":"a/b"`), "namespaceId"},
		{"empty namespace", validID, withMember(`"namespaceId":""`), "namespaceId"},
		{"URLs that expire too soon", validID, withMember(`"presignedUrlConfig":{"expiresInSec":59}`), "presignedUrlConfig.expiresInSec"},
		{"URLs that expire too late", validID, withMember(`"presignedUrlConfig":{"expiresInSec":3601}`), "presignedUrlConfig.expiresInSec"},
		{"short role", validID, withMember(`"presignedUrlConfig":{"roleArn":"arn:aws:iam::1:r"}`), "presignedUrlConfig.roleArn"},
		{"26 package versions", validID, withMember(`"destinationPackageVersions":[` + items(26, `"arn:aws:iot:::package"`) + `]`), "destinationPackageVersions"},
		{"package version that is no ARN", validID, withMember(`"destinationPackageVersions":["p"]`), "destinationPackageVersions"},
		{"tag without a key", validID, withMember(`"tags":[{"Value":"v"}]`), "tags"},
		{"the same tag twice", validID, withMember(`"tags":[{"Key":"k","Value":"v"},{"Key":"k","Value":"w"}]`), "twice"},
		{"reserved tag", validID, withMember(`"tags":[{"Key":"aws:k","Value":"v"}]`), "reserved"},
		{"parameters without a template", validID, withMember(`"documentParameters":{"k":"v"}`), "documentParameters"},
		{"parameter with a bad key", validID, withMember(`"documentParameters":{"k ":"v"}`), "documentParameters"},

		// Configurations.
		{"rate of zero", validID, withMember(`"jobExecutionsRolloutConfig":{"maximumPerMinute":0}`), "maximumPerMinute"},
		{"base rate of zero", validID, withMember(`"jobExecutionsRolloutConfig":{"exponentialRate":{"baseRatePerMinute":0,"incrementFactor":2,"rateIncreaseCriteria":{}}}`), "baseRatePerMinute"},
		{"base rate of 1001", validID, withMember(`"jobExecutionsRolloutConfig":{"exponentialRate":{"baseRatePerMinute":1001,"incrementFactor":2,"rateIncreaseCriteria":{}}}`), "baseRatePerMinute"},
		{"factor of 1.05", validID, withMember(`"jobExecutionsRolloutConfig":{"exponentialRate":{"baseRatePerMinute":1,"incrementFactor":1.05,"rateIncreaseCriteria":{}}}`), "incrementFactor"},
		{"factor of 6", validID, withMember(`"jobExecutionsRolloutConfig":{"exponentialRate":{"baseRatePerMinute":1,"incrementFactor":6,"rateIncreaseCriteria":{}}}`), "incrementFactor"},
		{"rate without criteria", validID, withMember(`"jobExecutionsRolloutConfig":{"exponentialRate":{"baseRatePerMinute":1,"incrementFactor":2}}`), "rateIncreaseCriteria"},
		{"abort without criteria", validID, withMember(`"abortConfig":{}`), "abortConfig.criteriaList"},
		{"abort action", validID, withMember(`"abortConfig":{"criteriaList":[{"failureType":"FAILED","action":"PAUSE","thresholdPercentage":1,"minNumberOfExecutedThings":1}]}`), "action"},
		{"seven retries is fine, eleven is not", validID, withMember(`"jobExecutionsRetryConfig":{"criteriaList":[{"failureType":"FAILED","numberOfRetries":11}]}`), "numberOfRetries"},
		{"three retry criteria", validID, withMember(`"jobExecutionsRetryConfig":{"criteriaList":[` + items(3, `{"failureType":"FAILED","numberOfRetries":1}`) + `]}`), "criteriaList"},
		{"window of 1431 minutes", validID, withMember(`"schedulingConfig":{"maintenanceWindows":[{"startTime":"cron(0 0 * * ? *)","durationInMinutes":1431}]}`), "durationInMinutes"},
		{"template that is no ARN", validID, withMember(`"jobTemplateArn":"t"`), "jobTemplateArn"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := &engine{job: &iot.Job{JobID: "j"}}
			got := send(t, newServer(e), c.request, c.body)
			if got.Status != http.StatusBadRequest || got.Error != "InvalidRequestException" || !strings.Contains(got.Body, c.want) {
				t.Errorf("%+v, want an InvalidRequestException about %s", got, c.want)
			}
			if e.asked != nil {
				t.Errorf("the engine was asked for %+v", e.asked)
			}
		})
	}
}

// shelf has documents by source.
type shelf map[string]string

func (s shelf) Fetch(_ context.Context, source string) (string, error) {
	document, ok := s[source]
	if !ok {
		return "", iot.Errorf(iot.InvalidRequest, "nothing at %s", source)
	}
	return document, nil
}

// TestDocumentSource: a document is fetched before the engine is asked, and the engine gets
// both it and where it came from.
func TestDocumentSource(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ request, body string }{
		{"PUT /jobs/j", `{"targets":["` + arnA + `"],"documentSource":"s3://jobs/%s"}`},
		{"PUT /job-templates/t", `{"description":"d","documentSource":"s3://jobs/%s"}`},
		{"PUT /job-templates/t", `{"description":"d","jobArn":"arn","documentSource":"s3://jobs/%s"}`},
	} {
		e := &engine{job: &iot.Job{JobID: "j"}, template: &iot.Template{TemplateID: "t"}}
		s := New(Config{Jobs: e, Realm: realm, Sources: shelf{"s3://jobs/1": `{"v":1}`}, Logger: slog.New(slog.DiscardHandler)})
		if got := send(t, s, c.request, fmt.Sprintf(c.body, "1")); got.Status != http.StatusOK {
			t.Errorf("%s: %+v", c.request, got)
		}
		var document, source string
		switch in := e.asked.(type) {
		case iot.NewJob:
			document, source = in.Document, in.DocumentSource
		case iot.NewTemplate:
			document, source = in.Document, in.DocumentSource
		}
		if document != `{"v":1}` || source != "s3://jobs/1" {
			t.Errorf("%s: the engine was asked for %+v", c.request, e.asked)
		}
		e.asked = nil
		if got := send(t, s, c.request, fmt.Sprintf(c.body, "2")); got.Status != http.StatusBadRequest || !strings.Contains(got.Body, "nothing at s3://jobs/2") || e.asked != nil {
			t.Errorf("%s: %+v, the engine was asked for %+v", c.request, got, e.asked)
		}
		if got := send(t, newServer(e), c.request, fmt.Sprintf(c.body, "1")); got.Status != http.StatusBadRequest || !strings.Contains(got.Body, "no S3 store") || e.asked != nil {
			t.Errorf("%s without a store: %+v", c.request, got)
		}
	}
	e := &engine{job: &iot.Job{JobID: "j", DocumentSource: "s3://jobs/1"}, template: &iot.Template{TemplateID: "t", DocumentSource: "s3://jobs/1"}}
	for _, request := range []string{"GET /jobs/j", "GET /job-templates/t"} {
		if got := send(t, newServer(e), request, ""); !strings.Contains(got.Body, `"documentSource":"s3://jobs/1"`) {
			t.Errorf("%s: %+v", request, got)
		}
	}
}

const allConfigs = `"presignedUrlConfig":{"roleArn":"arn:aws:iam::123456789012:role/r","expiresInSec":60},
	"jobExecutionsRolloutConfig":{"maximumPerMinute":100,"exponentialRate":{"baseRatePerMinute":50,"incrementFactor":1.5,
		"rateIncreaseCriteria":{"numberOfNotifiedThings":10,"numberOfSucceededThings":5}}},
	"abortConfig":{"criteriaList":[{"failureType":"ALL","action":"CANCEL","thresholdPercentage":10.99,"minNumberOfExecutedThings":7}]},
	"timeoutConfig":{"inProgressTimeoutInMinutes":5},
	"jobExecutionsRetryConfig":{"criteriaList":[{"failureType":"TIMED_OUT","numberOfRetries":2}]}`

var allConfig = iot.JobConfig{
	Presigned: &iot.PresignedURLConfig{RoleARN: "arn:aws:iam::123456789012:role/r", ExpiresInSec: 60},
	Rollout: &iot.RolloutConfig{MaximumPerMinute: 100, Exponential: &iot.ExponentialRate{
		BasePerMinute: 50, FactorTenths: 15, NotifiedThings: 10, SucceededThings: 5}},
	Abort:          []iot.AbortCriterion{{Failure: iot.FailureAll, ThresholdHundredths: 1099, MinExecuted: 7}},
	TimeoutMinutes: 5,
	Retry:          []iot.RetryCriterion{{Failure: iot.FailureTimedOut, Retries: 2}},
}

// TestConfigs: every configuration reaches the engine, and comes back as it was given.
func TestConfigs(t *testing.T) {
	t.Parallel()
	e := &engine{job: &iot.Job{JobID: "j"}, template: &iot.Template{TemplateID: "t"}}
	s := newServer(e)
	schedule := `"schedulingConfig":{"startTime":"2027-01-01 10:00","endTime":"2027-02-01 10:00","endBehavior":"CANCEL",
		"maintenanceWindows":[{"startTime":"cron(0 2 * * ? *)","durationInMinutes":60}]}`
	wantSchedule := &iot.Schedule{Start: "2027-01-01 10:00", End: "2027-02-01 10:00", EndBehavior: iot.EndCancel,
		Windows: []iot.Window{{Cron: "cron(0 2 * * ? *)", Minutes: 60}}}

	if got := send(t, s, "PUT /jobs/j", withMember(allConfigs+","+schedule)); got.Status != http.StatusOK {
		t.Fatalf("%+v", got)
	}
	asked := e.asked.(iot.NewJob)
	if !reflect.DeepEqual(asked.Config, allConfig) || !reflect.DeepEqual(asked.Schedule, wantSchedule) {
		t.Errorf("CreateJob: %+v %+v", asked.Config, asked.Schedule)
	}
	if got := send(t, s, "PATCH /jobs/j", "{"+allConfigs+"}"); got.Status != http.StatusOK {
		t.Fatalf("%+v", got)
	}
	update := e.asked.(iot.JobUpdate)
	got := iot.JobConfig{Presigned: update.Presigned, Rollout: update.Rollout, Abort: update.Abort, TimeoutMinutes: *update.Timeout, Retry: update.Retry}
	if !reflect.DeepEqual(got, allConfig) {
		t.Errorf("UpdateJob: %+v", got)
	}
	if got := send(t, s, "PUT /job-templates/t", `{"description":"d","document":"{}",`+allConfigs+`}`); got.Status != http.StatusOK {
		t.Fatalf("%+v", got)
	}
	if asked := e.asked.(iot.NewTemplate); !reflect.DeepEqual(asked.Config, allConfig) || asked.Description != "d" {
		t.Errorf("CreateJobTemplate: %+v", asked)
	}

	e.job = &iot.Job{JobID: "j", Config: allConfig, Schedule: wantSchedule, Status: iot.JobScheduled}
	e.template = &iot.Template{TemplateID: "t", Config: allConfig, Windows: wantSchedule.Windows}
	for request, within := range map[string]string{"GET /jobs/j": "job", "GET /job-templates/t": ""} {
		var body map[string]any
		unmarshal(t, send(t, s, request, "").Body, &body)
		if within != "" {
			body = body[within].(map[string]any)
		}
		var want map[string]any
		unmarshal(t, "{"+allConfigs+"}", &want)
		for member, value := range want {
			if !reflect.DeepEqual(body[member], value) {
				t.Errorf("%s: %s is %v, want %v", request, member, body[member], value)
			}
		}
	}
}

// TestRateAlias: AWS's guide has maximumPerMinute inside exponentialRate, its model beside it.
func TestRateAlias(t *testing.T) {
	t.Parallel()
	e := &engine{job: &iot.Job{JobID: "j"}}
	got := send(t, newServer(e), "PUT /jobs/j", withMember(`"jobExecutionsRolloutConfig":{"exponentialRate":{"maximumPerMinute":7,
		"baseRatePerMinute":5,"incrementFactor":2,"rateIncreaseCriteria":{"numberOfNotifiedThings":1}}}`))
	if asked := e.asked.(iot.NewJob); got.Status != http.StatusOK || asked.Config.Rollout.MaximumPerMinute != 7 {
		t.Errorf("%+v, %+v", got, asked.Config.Rollout)
	}
}

func TestDescribeJob(t *testing.T) {
	t.Parallel()
	j := &iot.Job{
		JobID: "j", Status: iot.JobInProgress, Selection: iot.Snapshot,
		Targets: []iot.Target{{ARN: "t1"}, {ARN: "t2"}}, Phase: iot.PhaseRollout, Cursor: iot.Cursor{Target: 1},
		CreatedAt: 1486687079743, UpdatedAt: 1486687080000,
	}
	t.Run("while it is rolled out", func(t *testing.T) {
		t.Parallel()
		e := &engine{job: j}
		got := send(t, newServer(e), "GET /jobs/j?beforeSubstitution=true", "")
		sameJSON(t, got.Body, `{"job":{"jobArn":"arn:aws:iot:eu-west-1:123456789012:job/j","jobId":"j","targetSelection":"SNAPSHOT",
			"status":"IN_PROGRESS","forceCanceled":false,"targets":["t1","t2"],"createdAt":1486687079.743,"lastUpdatedAt":1486687080,
			"isConcurrent":true,"jobProcessDetails":{"processingTargets":["t2"],"numberOfQueuedThings":0,"numberOfInProgressThings":0,
			"numberOfSucceededThings":0,"numberOfFailedThings":0,"numberOfRejectedThings":0,"numberOfTimedOutThings":0,
			"numberOfCanceledThings":0,"numberOfRemovedThings":0}}}`)
		if e.asked != iot.JobID("j") {
			t.Errorf("the engine was asked for %v", e.asked)
		}
	})
	t.Run("after a forced cancellation, with all there is", func(t *testing.T) {
		t.Parallel()
		full := *j
		full.Status, full.Phase, full.Selection, full.ForceCanceled = iot.JobCanceled, iot.PhaseNone, iot.Continuous, true
		full.ReasonCode, full.Comment, full.Description, full.Namespace = "R_1", "c", "d", "ns"
		full.Config.Presigned = &iot.PresignedURLConfig{RoleARN: "r", ExpiresInSec: 60}
		full.PackageVersions = []string{"p"}
		full.CompletedAt = 1486687081001
		full.Counts = iot.Counts{iot.Queued: 1, iot.InProgress: 2, iot.Succeeded: 3, iot.Failed: 4, iot.TimedOut: 5, iot.Rejected: 6, iot.Removed: 7, iot.Canceled: 8}
		got := send(t, newServer(&engine{job: &full}), "GET /jobs/j", "")
		sameJSON(t, got.Body, `{"job":{"jobArn":"arn:aws:iot:eu-west-1:123456789012:job/j","jobId":"j","targetSelection":"CONTINUOUS",
			"status":"CANCELED","forceCanceled":true,"reasonCode":"R_1","comment":"c","description":"d","namespaceId":"ns",
			"presignedUrlConfig":{"roleArn":"r","expiresInSec":60},"destinationPackageVersions":["p"],
			"targets":["t1","t2"],"createdAt":1486687079.743,"lastUpdatedAt":1486687080,"completedAt":1486687081.001,
			"isConcurrent":false,"jobProcessDetails":{"numberOfQueuedThings":1,"numberOfInProgressThings":2,
			"numberOfSucceededThings":3,"numberOfFailedThings":4,"numberOfTimedOutThings":5,"numberOfRejectedThings":6,
			"numberOfRemovedThings":7,"numberOfCanceledThings":8}}}`)
	})
}

func TestGetJobDocument(t *testing.T) {
	t.Parallel()
	e := &engine{job: &iot.Job{JobID: "j"}, document: "{ \"a\": \"<ü>\" }\n"}
	got := send(t, newServer(e), "GET /jobs/j/job-document?beforeSubstitution=true", "")
	sameJSON(t, got.Body, `{"document":"{ \"a\": \"<ü>\" }\n"}`)
	if got := send(t, newServer(e), "GET /jobs/j/job-document?beforeSubstitution=maybe", ""); got.Status != http.StatusBadRequest {
		t.Errorf("a flag that is none: %+v", got)
	}
}

func TestListJobs(t *testing.T) {
	t.Parallel()
	jobs := []*iot.Job{{JobID: "j", Status: iot.JobCompleted, Selection: iot.Snapshot, CreatedAt: 1500, UpdatedAt: 2000, CompletedAt: 2000}}
	const summary = `{"jobArn":"arn:aws:iot:eu-west-1:123456789012:job/j","jobId":"j","targetSelection":"SNAPSHOT",
		"status":"COMPLETED","createdAt":1.5,"lastUpdatedAt":2,"completedAt":2,"isConcurrent":false}`

	t.Run("without filters", func(t *testing.T) {
		t.Parallel()
		e := &engine{jobs: jobs}
		got := send(t, newServer(e), "GET /jobs", "")
		sameJSON(t, got.Body, `{"jobs":[`+summary+`]}`)
		if !reflect.DeepEqual(e.asked, iot.JobQuery{}) || e.page != (iot.Page{Limit: 50}) {
			t.Errorf("the engine was asked for %+v %+v", e.asked, e.page)
		}
	})
	t.Run("an empty list is a list", func(t *testing.T) {
		t.Parallel()
		sameJSON(t, send(t, newServer(&engine{}), "GET /jobs", "").Body, `{"jobs":[]}`)
	})
	t.Run("with all filters", func(t *testing.T) {
		t.Parallel()
		e := &engine{jobs: jobs}
		got := send(t, newServer(e), "GET /jobs?status=COMPLETED&targetSelection=SNAPSHOT&maxResults=250&thingGroupName=g&thingGroupId=id-1&namespaceId=ns", "")
		sameJSON(t, got.Body, `{"jobs":[`+strings.Replace(summary, `"jobId"`, `"thingGroupId":"id-1","jobId"`, 1)+`]}`)
		ns := "ns"
		want := iot.JobQuery{Status: iot.JobCompleted, Selection: iot.Snapshot, GroupName: "g", GroupUUID: "id-1", Namespace: &ns}
		if !reflect.DeepEqual(e.asked, want) || e.page.Limit != 250 {
			t.Errorf("the engine was asked for %+v %+v, want %+v", e.asked, e.page, want)
		}
	})
	for _, query := range []string{"maxResults=0", "maxResults=251", "maxResults=-1", "maxResults=x", "status=SUCCEEDED", "targetSelection=x",
		"thingGroupName=a/b", "thingGroupId=a_b", "namespaceId=", "nextToken=x", "nextToken="} {
		t.Run("refuses "+query, func(t *testing.T) {
			t.Parallel()
			e := &engine{}
			got := send(t, newServer(e), "GET /jobs?"+query, "")
			if got.Status != http.StatusBadRequest || got.Error != "InvalidRequestException" || e.asked != nil {
				t.Errorf("%+v; the engine was asked for %+v", got, e.asked)
			}
		})
	}
}

// TestPaging walks two pages of every list over the wire.
func TestPaging(t *testing.T) {
	t.Parallel()
	for _, request := range []string{"GET /jobs?maxResults=1", "GET /jobs/j/things?maxResults=1", "GET /things/t/jobs?maxResults=1"} {
		t.Run(request, func(t *testing.T) {
			t.Parallel()
			e := &engine{next: "cursor of the engine"}
			s := newServer(e)
			first := send(t, s, request, "")
			var page struct{ NextToken string }
			unmarshal(t, first.Body, &page)
			if page.NextToken == "" || strings.Contains(page.NextToken, "cursor") {
				t.Fatalf("nextToken %q is not opaque", page.NextToken)
			}
			e.next = ""
			second := send(t, s, request+"&nextToken="+page.NextToken, "")
			if e.page != (iot.Page{Cursor: "cursor of the engine", Limit: 1}) {
				t.Errorf("the engine was asked for %+v", e.page)
			}
			if strings.Contains(second.Body, "nextToken") {
				t.Errorf("the last page has a token: %s", second.Body)
			}
			if got := send(t, s, request+"&status=CANCELED&nextToken="+page.NextToken, ""); got.Error != "InvalidRequestException" {
				t.Errorf("the token with another filter: %+v", got)
			}
		})
	}
}

func TestUpdateJob(t *testing.T) {
	t.Parallel()
	description, ns := "d", "ns"
	for _, c := range []struct {
		name, request, body string
		want                iot.JobUpdate
	}{
		{"nothing", "PATCH /jobs/j", `{}`, iot.JobUpdate{JobID: "j", Actor: "key:AKIATEST"}},
		{"all", "PATCH /jobs/j?namespaceId=ns", `{"description":"d","presignedUrlConfig":{"expiresInSec":60},"timeoutConfig":{},"jobExecutionsRolloutConfig":{}}`,
			iot.JobUpdate{JobID: "j", Namespace: &ns, Description: &description, Presigned: &iot.PresignedURLConfig{ExpiresInSec: 60},
				Timeout: new(int64), Rollout: &iot.RolloutConfig{}, Actor: "key:AKIATEST"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := &engine{}
			if got := send(t, newServer(e), c.request, c.body); got.Status != http.StatusOK {
				t.Errorf("%+v", got)
			}
			if !reflect.DeepEqual(e.asked, c.want) {
				t.Errorf("the engine was asked for %+v, want %+v", e.asked, c.want)
			}
		})
	}
}

func TestCancelJob(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, request, body string
		want                iot.JobCancellation
	}{
		{"without a body", "PUT /jobs/j/cancel", "", iot.JobCancellation{}},
		{"force in the query", "PUT /jobs/j/cancel?force=true", `{"reasonCode":"R_1","comment":"c"}`, iot.JobCancellation{Force: true, ReasonCode: "R_1", Comment: "c"}},
		{"force in the body", "PUT /jobs/j/cancel", `{"force":true}`, iot.JobCancellation{Force: true}},
		{"the query wins", "PUT /jobs/j/cancel?force=false", `{"force":true}`, iot.JobCancellation{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := &engine{job: &iot.Job{JobID: "j"}}
			got := send(t, newServer(e), c.request, c.body)
			sameJSON(t, got.Body, `{"jobArn":"arn:aws:iot:eu-west-1:123456789012:job/j","jobId":"j"}`)
			c.want.JobID, c.want.Actor = "j", "key:AKIATEST"
			if e.asked != c.want {
				t.Errorf("the engine was asked for %+v, want %+v", e.asked, c.want)
			}
		})
	}
	for _, body := range []string{`{"reasonCode":"abc"}`, `{"reasonCode":""}`, `{"comment":"a\u0007"}`, `{"force":"yes"}`} {
		t.Run("refuses "+body, func(t *testing.T) {
			t.Parallel()
			e := &engine{}
			if got := send(t, newServer(e), "PUT /jobs/j/cancel", body); got.Error != "InvalidRequestException" || e.asked != nil {
				t.Errorf("%+v; the engine was asked for %+v", got, e.asked)
			}
		})
	}
}

func TestDeleteJob(t *testing.T) {
	t.Parallel()
	e := &engine{}
	if got := send(t, newServer(e), "DELETE /jobs/j?force=true&namespaceId=ns", ""); got.Status != http.StatusOK {
		t.Errorf("%+v", got)
	}
	ns := "ns"
	if want := (iot.JobDeletion{JobID: "j", Namespace: &ns, Force: true, Actor: "key:AKIATEST"}); !reflect.DeepEqual(e.asked, want) {
		t.Errorf("the engine was asked for %+v, want %+v", e.asked, want)
	}
}

func TestAssociateTargetsWithJob(t *testing.T) {
	t.Parallel()
	e := &engine{job: &iot.Job{JobID: "j", Description: "d"}}
	s := newServer(e)
	got := send(t, s, "POST /jobs/j/targets?namespaceId=ns", `{"targets":["g"],"comment":"c"}`)
	sameJSON(t, got.Body, `{"jobArn":"arn:aws:iot:eu-west-1:123456789012:job/j","jobId":"j","description":"d"}`)
	ns := "ns"
	want := iot.NewTargets{JobID: "j", Namespace: &ns, Targets: []string{"g"}, Comment: "c", Actor: "key:AKIATEST"}
	if !reflect.DeepEqual(e.asked, want) {
		t.Errorf("the engine was asked for %+v, want %+v", e.asked, want)
	}
	if got := send(t, s, "POST /jobs/j/targets", `{"comment":"c"}`); got.Error != "InvalidRequestException" {
		t.Errorf("without targets: %+v", got)
	}
}
