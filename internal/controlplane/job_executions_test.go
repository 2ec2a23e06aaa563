package controlplane

import (
	"net/http"
	"reflect"
	"strings"
	"testing"

	"drover/internal/iot"
)

var anExecution = iot.Execution{
	JobID: "j", Thing: "a:b", Number: 2, RetryAttempt: 1, Status: iot.InProgress, Version: 3,
	Details: iot.Details{"k": "v"}, QueuedAt: 1500, StartedAt: 2500, UpdatedAt: 3500,
}

func TestListJobExecutionsForJob(t *testing.T) {
	t.Parallel()
	queued := iot.Execution{JobID: "j", Thing: "c", Number: 1, Status: iot.Queued, Version: 1, QueuedAt: 1500, UpdatedAt: 1500}
	e := &engine{executions: []iot.Execution{anExecution, queued}}
	got := send(t, newServer(e), "GET /jobs/j/things?status=IN_PROGRESS&maxResults=5", "")
	sameJSON(t, got.Body, `{"executionSummaries":[
		{"thingArn":"arn:aws:iot:eu-west-1:123456789012:thing/a:b","jobExecutionSummary":{"status":"IN_PROGRESS","queuedAt":1.5,
			"startedAt":2.5,"lastUpdatedAt":3.5,"executionNumber":2,"retryAttempt":1}},
		{"thingArn":"arn:aws:iot:eu-west-1:123456789012:thing/c","jobExecutionSummary":{"status":"QUEUED","queuedAt":1.5,
			"lastUpdatedAt":1.5,"executionNumber":1,"retryAttempt":0}}]}`)
	if want := (jobExecutionsCall{"j", iot.InProgress}); e.asked != want || e.page != (iot.Page{Limit: 5}) {
		t.Errorf("the engine was asked for %+v %+v", e.asked, e.page)
	}
}

func TestListJobExecutionsForThing(t *testing.T) {
	t.Parallel()
	e := &engine{executions: []iot.Execution{anExecution}}
	got := send(t, newServer(e), "GET /things/a%3Ab/jobs?status=IN_PROGRESS&namespaceId=ns&jobId=j", "")
	sameJSON(t, got.Body, `{"executionSummaries":[{"jobId":"j","jobExecutionSummary":{"status":"IN_PROGRESS","queuedAt":1.5,
		"startedAt":2.5,"lastUpdatedAt":3.5,"executionNumber":2,"retryAttempt":1}}]}`)
	ns := "ns"
	want := thingExecutionsCall{"a:b", iot.ExecutionQuery{Status: iot.InProgress, JobID: "j", Namespace: &ns}}
	if !reflect.DeepEqual(e.asked, want) || e.page != (iot.Page{Limit: 50}) {
		t.Errorf("the engine was asked for %+v %+v, want %+v", e.asked, e.page, want)
	}
}

func TestDescribeJobExecution(t *testing.T) {
	t.Parallel()
	t.Run("the latest", func(t *testing.T) {
		t.Parallel()
		e := &engine{executions: []iot.Execution{anExecution}}
		got := send(t, newServer(e), "GET /things/a%3Ab/jobs/j", "")
		sameJSON(t, got.Body, `{"execution":{"jobId":"j","status":"IN_PROGRESS","forceCanceled":false,
			"statusDetails":{"detailsMap":{"k":"v"}},"thingArn":"arn:aws:iot:eu-west-1:123456789012:thing/a:b",
			"queuedAt":1.5,"startedAt":2.5,"lastUpdatedAt":3.5,"executionNumber":2,"versionNumber":3}}`)
		if e.asked != (executionCall{"a:b", "j", 0}) {
			t.Errorf("the engine was asked for %+v", e.asked)
		}
	})
	t.Run("by number", func(t *testing.T) {
		t.Parallel()
		e := &engine{executions: []iot.Execution{{JobID: "j", Thing: "a", Status: iot.Canceled, ForceCanceled: true, Number: 7, Version: 2, QueuedAt: 1, UpdatedAt: 1}}}
		got := send(t, newServer(e), "GET /things/a/jobs/j?executionNumber=7", "")
		sameJSON(t, got.Body, `{"execution":{"jobId":"j","status":"CANCELED","forceCanceled":true,
			"thingArn":"arn:aws:iot:eu-west-1:123456789012:thing/a",
			"queuedAt":0.001,"lastUpdatedAt":0.001,"executionNumber":7,"versionNumber":2}}`)
		if e.asked != (executionCall{"a", "j", 7}) {
			t.Errorf("the engine was asked for %+v", e.asked)
		}
	})
	for query, want := range map[string]string{
		"executionNumber=0":  "ResourceNotFoundException",
		"executionNumber=-1": "ResourceNotFoundException",
		"executionNumber=x":  "InvalidRequestException",
	} {
		t.Run(query, func(t *testing.T) {
			t.Parallel()
			e := &engine{executions: []iot.Execution{anExecution}}
			if got := send(t, newServer(e), "GET /things/a/jobs/j?"+query, ""); got.Error != want || e.asked != nil {
				t.Errorf("%+v, want %s; the engine was asked for %+v", got, want, e.asked)
			}
		})
	}
}

func TestCancelJobExecution(t *testing.T) {
	t.Parallel()
	version := int64(3)
	for _, c := range []struct {
		name, query, body string
		want              iot.ExecutionCancellation
	}{
		{"without a body", "", "", iot.ExecutionCancellation{}},
		{"with all there is", "?force=true", `{"expectedVersion":3,"statusDetails":{"k":"v"}}`,
			iot.ExecutionCancellation{Force: true, ExpectedVersion: &version, Details: iot.Details{"k": "v"}}},
		{"version as text", "", `{"expectedVersion":"3"}`, iot.ExecutionCancellation{ExpectedVersion: &version}},
		{"force in the body", "", `{"force":true}`, iot.ExecutionCancellation{Force: true}},
		{"the query wins", "?force=false", `{"force":true}`, iot.ExecutionCancellation{}},
		{"empty details", "", `{"statusDetails":{}}`, iot.ExecutionCancellation{Details: iot.Details{}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := &engine{}
			got := send(t, newServer(e), "PUT /things/a/jobs/j/cancel"+c.query, c.body)
			if got.Status != http.StatusOK || strings.TrimSpace(got.Body) != "{}" && got.Body != "" {
				t.Errorf("%+v", got)
			}
			c.want.Thing, c.want.JobID, c.want.Actor = "a", "j", "key:AKIATEST"
			if !reflect.DeepEqual(e.asked, c.want) {
				t.Errorf("the engine was asked for %+v, want %+v", e.asked, c.want)
			}
		})
	}
	for _, body := range []string{`{"expectedVersion":"x"}`, `{"expectedVersion":1.5}`, `{"expectedVersion":true}`, `{"statusDetails":{"k":1}}`, `{"statusDetails":[]}`} {
		t.Run("refuses "+body, func(t *testing.T) {
			t.Parallel()
			e := &engine{}
			if got := send(t, newServer(e), "PUT /things/a/jobs/j/cancel", body); got.Error != "InvalidRequestException" || e.asked != nil {
				t.Errorf("%+v; the engine was asked for %+v", got, e.asked)
			}
		})
	}
}

func TestDeleteJobExecution(t *testing.T) {
	t.Parallel()
	e := &engine{}
	s := newServer(e)
	if got := send(t, s, "DELETE /things/a/jobs/j/executionNumber/4?force=true&namespaceId=ns", ""); got.Status != http.StatusOK {
		t.Errorf("%+v", got)
	}
	ns := "ns"
	want := iot.ExecutionDeletion{Thing: "a", JobID: "j", Number: 4, Namespace: &ns, Force: true, Actor: "key:AKIATEST"}
	if !reflect.DeepEqual(e.asked, want) {
		t.Errorf("the engine was asked for %+v, want %+v", e.asked, want)
	}
	for _, number := range []string{"x", "1.5", "99999999999999999999"} {
		if got := send(t, s, "DELETE /things/a/jobs/j/executionNumber/"+number, ""); got.Error != "InvalidRequestException" {
			t.Errorf("number %s: %+v", number, got)
		}
	}
}
