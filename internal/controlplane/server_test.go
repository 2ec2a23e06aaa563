package controlplane

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"drover/internal/auth"
	"drover/internal/iot"
)

var realm = iot.Realm{Account: "123456789012", Region: "eu-west-1"}

// engine records what it is asked for and answers with what a test has put into it. What the
// real engine does with a request is tested in package engine and in the black-box tests here.
type engine struct {
	template *iot.Template
	asked    any // the last request
	page     iot.Page

	job        *iot.Job
	document   string
	jobs       []*iot.Job
	executions []iot.Execution
	next       string
	err        error
}

type jobExecutionsCall struct {
	Job    iot.JobID
	Status iot.ExecutionStatus
}

type thingExecutionsCall struct {
	Thing iot.ThingName
	Query iot.ExecutionQuery
}

type executionCall struct {
	Thing  iot.ThingName
	Job    iot.JobID
	Number int64
}

func (e *engine) CreateJob(_ context.Context, in iot.NewJob) (*iot.Job, error) {
	e.asked = in
	return e.job, e.err
}

func (e *engine) Job(_ context.Context, id iot.JobID) (*iot.Job, error) {
	e.asked = id
	return e.job, e.err
}

func (e *engine) JobDocument(_ context.Context, id iot.JobID) (string, error) {
	e.asked = id
	return e.document, e.err
}

func (e *engine) Deployment(_ context.Context, id iot.JobID) (iot.Deployment, error) {
	e.asked = id
	return iot.Deployment{}, e.err
}

func (e *engine) Downloads(_ context.Context, id iot.JobID) (iot.Downloads, error) {
	e.asked = id
	return iot.Downloads{}, e.err
}

func (e *engine) Jobs(_ context.Context, q iot.JobQuery, page iot.Page) ([]*iot.Job, string, error) {
	e.asked, e.page = q, page
	return e.jobs, e.next, e.err
}

func (e *engine) UpdateJob(_ context.Context, in iot.JobUpdate) error {
	e.asked = in
	return e.err
}

func (e *engine) CancelJob(_ context.Context, in iot.JobCancellation) (*iot.Job, error) {
	e.asked = in
	return e.job, e.err
}

func (e *engine) DeleteJob(_ context.Context, in iot.JobDeletion) error {
	e.asked = in
	return e.err
}

func (e *engine) AssociateTargets(_ context.Context, in iot.NewTargets) (*iot.Job, error) {
	e.asked = in
	return e.job, e.err
}

func (e *engine) JobExecutions(_ context.Context, id iot.JobID, status iot.ExecutionStatus, page iot.Page) ([]iot.Execution, string, error) {
	e.asked, e.page = jobExecutionsCall{id, status}, page
	return e.executions, e.next, e.err
}

func (e *engine) ThingExecutions(_ context.Context, thing iot.ThingName, q iot.ExecutionQuery, page iot.Page) ([]iot.Execution, string, error) {
	e.asked, e.page = thingExecutionsCall{thing, q}, page
	return e.executions, e.next, e.err
}

func (e *engine) Execution(_ context.Context, thing iot.ThingName, job iot.JobID, number int64) (iot.Execution, error) {
	e.asked = executionCall{thing, job, number}
	if e.err != nil {
		return iot.Execution{}, e.err
	}
	return e.executions[0], nil
}

func (e *engine) CancelExecution(_ context.Context, in iot.ExecutionCancellation) error {
	e.asked = in
	return e.err
}

func (e *engine) DeleteExecution(_ context.Context, in iot.ExecutionDeletion) error {
	e.asked = in
	return e.err
}

func (e *engine) CreateTemplate(_ context.Context, in iot.NewTemplate) (*iot.Template, error) {
	e.asked = in
	return e.template, e.err
}

func (e *engine) Template(_ context.Context, id string) (*iot.Template, error) {
	e.asked = id
	return e.template, e.err
}

func (e *engine) Templates(_ context.Context, page iot.Page) ([]*iot.Template, string, error) {
	e.asked = page
	return []*iot.Template{e.template}, e.next, e.err
}

func (e *engine) DeleteTemplate(_ context.Context, id, _ string) error {
	e.asked = id
	return e.err
}

// newServer returns a server over e.
func newServer(e *engine) *Server {
	return New(Config{Jobs: e, Realm: realm, Logger: slog.New(slog.DiscardHandler)})
}

// answer is what a server said.
type answer struct {
	Status int
	Error  string // x-amzn-ErrorType
	Body   string
}

// send sends a request, "METHOD /path?query", to s.
func send(t *testing.T, s *Server, request, body string) answer {
	t.Helper()
	method, target, _ := strings.Cut(request, " ")
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, target, reader)
	r = r.WithContext(auth.WithIdentity(r.Context(), auth.Identity{Principal: auth.Principal{AccessKeyID: "AKIATEST"}, Service: "iot", Region: realm.Region}))
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if w.Header().Get("X-Amzn-Requestid") == "" {
		t.Error("no x-amzn-RequestId")
	}
	return answer{Status: w.Code, Error: w.Header().Get("X-Amzn-Errortype"), Body: w.Body.String()}
}

// sameJSON compares two JSON texts as values.
func sameJSON(t *testing.T, got, want string) {
	t.Helper()
	var g, w any
	decode := func(text string, v *any) {
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		if err := d.Decode(v); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
	}
	decode(got, &g)
	decode(want, &w)
	if !reflect.DeepEqual(g, w) {
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, []byte(got), "", "  "); err != nil {
			t.Fatal(err)
		}
		t.Errorf("got %s\nwant %s", pretty.String(), want)
	}
}

func TestUnknownOperations(t *testing.T) {
	t.Parallel()
	s := newServer(&engine{})
	for request, c := range map[string]answer{
		"POST /rules/r":      {http.StatusNotImplemented, "NotImplementedException", "CreateTopicRule"},
		"GET /fleet-metrics": {http.StatusNotImplemented, "NotImplementedException", "ListFleetMetrics"},
		"GET /nowhere":       {http.StatusNotFound, "UnknownOperationException", "/nowhere"},
		"POST /jobs/j":       {http.StatusMethodNotAllowed, "MethodNotAllowedException", "POST"},
	} {
		t.Run(request, func(t *testing.T) {
			t.Parallel()
			got := send(t, s, request, "{}")
			if got.Status != c.Status || got.Error != c.Error {
				t.Errorf("%d %s, want %d %s", got.Status, got.Error, c.Status, c.Error)
			}
			var body struct{ Message string }
			if err := json.Unmarshal([]byte(got.Body), &body); err != nil || !strings.Contains(body.Message, c.Body) {
				t.Errorf("body %s, want JSON with a message that names %s (%v)", got.Body, c.Body, err)
			}
		})
	}
}

func TestActor(t *testing.T) {
	t.Parallel()
	if got := actor(t.Context()); got != "anonymous" {
		t.Errorf("without an identity: %q", got)
	}
	ctx := auth.WithIdentity(t.Context(), auth.Identity{Principal: auth.Principal{AccessKeyID: "AKIA1"}})
	if got := actor(ctx); got != "key:AKIA1" {
		t.Errorf("with an identity: %q", got)
	}
}

// unmarshal reads a JSON body.
func unmarshal(t *testing.T, body string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), v); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
}
