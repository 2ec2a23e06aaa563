package dataplane

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"drover/internal/auth"
	"drover/internal/iot"
	"drover/internal/wire"
)

// do sends a request over HTTPS and returns the status, the exception and the body. What is
// published besides is kept for want.
func (r *rig) do(method, path, body string) (status int, exception, answer string) {
	r.t.Helper()
	r.sent = nil
	w := httptest.NewRecorder()
	r.h.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	if !json.Valid(w.Body.Bytes()) {
		r.t.Errorf("%s %s: not JSON: %s", method, path, w.Body)
	}
	return w.Code, w.Header().Get("X-Amzn-Errortype"), w.Body.String()
}

func (r *rig) ok(method, path, body, want string) {
	r.t.Helper()
	if status, _, got := r.do(method, path, body); status != http.StatusOK || got != want {
		r.t.Errorf("%s %s: %d\n got %s\nwant %s", method, path, status, got, want)
	}
}

// fails checks the status and the exception, and that all parts are in the body.
func (r *rig) fails(method, path, body string, status int, exception string, parts ...string) {
	r.t.Helper()
	gotStatus, gotException, got := r.do(method, path, body)
	if gotStatus != status || gotException != exception {
		r.t.Errorf("%s %s %s: %d %s %s, want %d %s", method, path, body, gotStatus, gotException, got, status, exception)
	}
	for _, p := range parts {
		if !strings.Contains(got, p) {
			r.t.Errorf("%s %s %s: %s lacks %s", method, path, body, got, p)
		}
	}
	r.want()
}

func TestS179_GetPendingOverHTTPS(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.ok("GET", "/things/t1/jobs", "", `{"inProgressJobs":[],"queuedJobs":[]}`)
	r.queue("j1")
	r.queue("j2")
	r.at += 1999
	r.ask("j2/update", `{"status":"IN_PROGRESS"}`)
	r.ok("GET", "/things/t1/jobs", "", `{"inProgressJobs":[`+pending("j2", 0, 1, 2)+`],"queuedJobs":[`+pending("j1", 0, -1, 1)+`]}`)
}

func TestS180_StartNextWithBothSpellings(t *testing.T) {
	t.Parallel()
	for _, next := range []string{"$next", "%24next"} {
		r := newRig(t)
		r.queue("j1")
		r.ok("PUT", "/things/t1/jobs/"+next, `{"statusDetails":{"k":"v"},"stepTimeoutInMinutes":-1}`, `{"execution":{"jobId":"j1","thingName":"t1",`+
			`"status":"IN_PROGRESS","statusDetails":{"k":"v"},"queuedAt":1700000000,"startedAt":1700000000,"lastUpdatedAt":1700000000,`+
			`"versionNumber":2,"executionNumber":1,"jobDocument":"{\"operation\":\"j1\"}"}}`)
		r.want()
	}
}

func TestS181_DescribeOverHTTPS(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.queue("j1")
	const head = `{"execution":{"jobId":"j1","thingName":"t1","status":"QUEUED","queuedAt":1700000000,"lastUpdatedAt":1700000000,"versionNumber":1,"executionNumber":1`
	with := head + `,"jobDocument":"{\"operation\":\"j1\"}"}}`
	for path, want := range map[string]string{
		"j1": with, "$next": with, "%24next": with,
		"j1?includeJobDocument=true&executionNumber=1": with, "j1?includeJobDocument=false": head + `}}`,
	} {
		r.ok("GET", "/things/t1/jobs/"+path, "", want)
	}
	r.fails("GET", "/things/t1/jobs/j1?executionNumber=2", "", 404, "ResourceNotFoundException")
	r.fails("GET", "/things/t1/jobs/j1?executionNumber=0", "", 400, "InvalidRequestException", "executionNumber")
	r.fails("GET", "/things/t1/jobs/j1?executionNumber=x", "", 400, "InvalidRequestException", "executionNumber")
	r.fails("GET", "/things/t1/jobs/a:b", "", 400, "InvalidRequestException", "jobId")
	r.fails("GET", "/things/nobody/jobs/j1", "", 404, "ResourceNotFoundException")
	r.fails("GET", "/things/no%20body/jobs/j1", "", 400, "InvalidRequestException", "thingName")
	r.ok("GET", "/things/t2/jobs/$next", "", `{}`)
}

func TestS182_DescribeOfATerminalExecutionOverHTTPS(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.queue("j1")
	r.ask("j1/update", `{"status":"SUCCEEDED"}`)
	r.fails("GET", "/things/t1/jobs/j1", "", 410, "TerminalStateException")
}

func TestS183_UpdateOfATerminalExecutionOverHTTPS(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.queue("j1")
	r.ask("j1/update", `{"status":"SUCCEEDED","statusDetails":{"k":"v"}}`)
	r.fails("POST", "/things/t1/jobs/j1", `{"status":"FAILED"}`, 409, "InvalidStateTransitionException",
		`"message":"Execution 1 of job j1 has ended as SUCCEEDED and cannot become FAILED"`,
		`"executionState":{"status":"SUCCEEDED","statusDetails":{"k":"v"},"versionNumber":2}`)
}

func TestS184_UpdateOverHTTPSInformsSubscribers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.queue("j1")
	r.ok("POST", "/things/t1/jobs/j1", `{"status":"SUCCEEDED"}`, `{}`)
	r.want(`B/notify {"timestamp":1700000000,"jobs":{}}`, `B/notify-next {"timestamp":1700000000}`)
}

func TestS185_StartNextOverHTTPSWithNothingPending(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.ok("PUT", "/things/t1/jobs/$next", `{}`, `{}`)
	r.ok("PUT", "/things/t1/jobs/$next", ``, `{}`)
}

func TestUpdateOverHTTPS(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.queue("j1")
	const path = "/things/t1/jobs/j1"
	r.ok("POST", path, `{"status":"IN_PROGRESS","statusDetails":{"k":"v"},"expectedVersion":1,"executionNumber":1,"includeJobExecutionState":true,"includeJobDocument":true}`,
		`{"executionState":{"status":"IN_PROGRESS","statusDetails":{"k":"v"},"versionNumber":2},"jobDocument":"{\"operation\":\"j1\"}"}`)
	r.ok("POST", path, `{"status":"IN_PROGRESS","expectedVersion":"2","includeJobExecutionState":true}`,
		`{"executionState":{"status":"IN_PROGRESS","statusDetails":{"k":"v"},"versionNumber":3}}`)
	r.ok("POST", path, `{"status":"IN_PROGRESS","statusDetails":{},"includeJobExecutionState":true,"stepTimeoutInMinutes":-1}`,
		`{"executionState":{"status":"IN_PROGRESS","statusDetails":{},"versionNumber":4}}`)

	r.fails("POST", path, `{"status":"SUCCEEDED","expectedVersion":"7"}`, 409, "InvalidStateTransitionException",
		`"message":"VersionMismatch: Expected version 7`, `"executionState":{"status":"IN_PROGRESS","statusDetails":{},"versionNumber":4}`)
	r.fails("POST", path, `{"status":"SUCCEEDED","executionNumber":2}`, 404, "ResourceNotFoundException")
	for body, part := range map[string]string{
		`{bad`:                  "",
		`[1]`:                   "",
		`{}`:                    "Value null at 'status' failed to satisfy constraint: Member must not be null",
		`{"status":"SUCCESS"}`:  "Value 'SUCCESS' at 'status'",
		`{"status":"QUEUED"}`:   "'status'",
		`{"status":"CANCELED"}`: "'status'",
		`{"status":7}`:          "status",
		`{"status":"FAILED","expectedVersion":"x"}`:                "expectedVersion",
		`{"status":"FAILED","executionNumber":0}`:                  "executionNumber",
		`{"status":"FAILED","statusDetails":{"k":1}}`:              "statusDetails",
		`{"status":"FAILED","statusDetails":{"":"v"}}`:             "statusDetails",
		`{"status":"FAILED","stepTimeoutInMinutes":0}`:             "stepTimeoutInMinutes",
		`{"status":"FAILED","includeJobExecutionState":"perhaps"}`: "includeJobExecutionState",
	} {
		r.fails("POST", path, body, 400, "InvalidRequestException", part)
	}
	r.fails("PUT", "/things/t1/jobs/$next", `{"stepTimeoutInMinutes":10081}`, 400, "InvalidRequestException", "stepTimeoutInMinutes")
	r.fails("POST", "/things/t1/jobs/$next", `{"status":"SUCCEEDED"}`, 400, "InvalidRequestException", "jobId")
}

func TestNamespaceOverHTTPS(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.queueIn("t1", "gg", "ns")
	r.ok("GET", "/things/t1/jobs", "", `{"inProgressJobs":[],"queuedJobs":[]}`)
	r.ok("GET", "/things/t1/jobs?namespaceId=ns", "", `{"inProgressJobs":[],"queuedJobs":[`+pending("gg", 0, -1, 1)+`]}`)
	r.fails("GET", "/things/t1/jobs?namespaceId=a:b", "", 400, "InvalidRequestException", "namespaceId")
	r.fails("POST", "/things/t1/jobs/gg", `{"status":"SUCCEEDED"}`, 404, "ResourceNotFoundException")
	r.ok("POST", "/things/t1/jobs/gg?namespaceId=ns", `{"status":"SUCCEEDED"}`, `{}`)
}

func TestOurOwnFaultOverHTTPS(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.fail = errors.New("disk /var/lib/drover is full")
	_, _, body := r.do("GET", "/things/t1/jobs", "")
	if strings.Contains(body, "disk") {
		t.Errorf("the caller is told %s", body)
	}
	r.fails("GET", "/things/t1/jobs", "", 503, "ServiceUnavailableException")
	r.fail = iot.Errorf(iot.Unavailable, "The server is shutting down")
	r.fails("GET", "/things/t1/jobs", "", 503, "ServiceUnavailableException", "shutting down")
	r.fail = iot.Errorf(iot.LimitExceeded, "Slowly")
	r.fails("GET", "/things/t1/jobs", "", 429, "ThrottlingException")
}

func TestCommandsAreNotServed(t *testing.T) {
	t.Parallel()
	newRig(t).fails("POST", "/command-executions", `{}`, 501, "NotImplementedException", "StartCommandExecution")
}

func TestTheActorIsTheKey(t *testing.T) {
	t.Parallel()
	var actor string
	h := New(Config{Engine: submit(func(q *iot.Request, reply func(*iot.Answer, error)) {
		actor = q.Actor
		reply(new(iot.Answer), nil)
	})})
	req := httptest.NewRequest("PUT", "/things/t1/jobs/$next", nil)
	h.ServeHTTP(httptest.NewRecorder(), req)
	if actor != "thing:t1" {
		t.Errorf("actor without an identity: %q", actor)
	}
	ctx := auth.WithIdentity(req.Context(), auth.Identity{Principal: auth.Principal{AccessKeyID: "AKIA1"}})
	h.ServeHTTP(httptest.NewRecorder(), req.WithContext(ctx))
	if actor != "key:AKIA1" {
		t.Errorf("actor with an identity: %q", actor)
	}
}

func TestServedOperations(t *testing.T) {
	t.Parallel()
	h := New(Config{Engine: newRig(t)})
	for _, op := range h.https.Operations() {
		if want := op.Name != "StartCommandExecution"; op.Served != want {
			t.Errorf("%s: served %v", op.Name, op.Served)
		}
	}
}

func TestExceptionOfAForeignError(t *testing.T) {
	t.Parallel()
	s := wire.NewJobsData(wire.Config{})
	e := exception(s, iot.Errorf("NeverHeardOf", "secret"))
	if e.Code != "ServiceUnavailableException" || strings.Contains(e.Message, "secret") {
		t.Errorf("exception %+v", e)
	}
}
