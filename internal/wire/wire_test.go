package wire_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"drover/internal/wire"
)

// criteria, abort and createJob are a request with every kind of member.
type criteria struct {
	Action    *string  `json:"action" required:"true" enum:"CANCEL"`
	Threshold *float64 `json:"threshold" range:",100"`
}

type abort struct {
	Criteria []criteria `json:"criteriaList" required:"true" size:"1,"`
}

type paging struct {
	MaxResults *int32 `in:"query" json:"maxResults" range:"1,250"`
}

type createJob struct {
	JobID      string            `in:"label" json:"jobId" len:"1,64" pattern:"[a-zA-Z0-9_-]+"`
	Force      *bool             `in:"query,body" json:"force"`
	Status     *string           `in:"query" json:"status" enum:"QUEUED,IN_PROGRESS"`
	Principal  *string           `in:"header" header:"x-amzn-principal" json:"principal" len:"1,"`
	Targets    []string          `json:"targets" required:"true" size:"1," itemlen:",8" itempattern:"[^\\p{C}]+"`
	Comment    *string           `json:"comment" len:"0,5" pattern:"[\\p{Graph}\\x20]*"`
	Document   string            `json:"document" bytes:",6"`
	Details    map[string]string `json:"statusDetails" size:",2" keylen:",3" keypattern:"[a-z]+" vallen:"1,4"`
	Abort      *abort            `json:"abortConfig"`
	Count      *int64            `json:"count" range:"0,10"`
	Ascending  bool              `in:"query" query:"isAscendingOrder" json:"ascendingOrder"`
	Small      uint8             `json:"small"`
	Data       []byte            `json:"data" bytes:"1,2"`
	Since      *wire.Timestamp   `json:"since"`
	Unfinished json.RawMessage   `json:"unfinished"`
	paging
}

// newService serves CreateJob with a handler that leaves what it gets in the result.
func newService(t testing.TB, cfg wire.Config) (*wire.Service, func() *createJob) {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := wire.NewIoT(cfg)
	var got *createJob
	wire.Handle(s, "CreateJob", func(_ context.Context, in *createJob) (*wire.Empty, error) {
		got = in
		return &wire.Empty{}, nil
	})
	return s, func() *createJob { return got }
}

// answer is what came back, already checked to be JSON with a request id.
type answer struct {
	status  int
	header  http.Header
	message string
	body    string
}

func do(t testing.TB, h http.Handler, method, target, body string) answer {
	t.Helper()
	return serve(t, h, httptest.NewRequest(method, target, strings.NewReader(body)))
}

func serve(t testing.TB, h http.Handler, r *http.Request) answer {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var members map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &members); err != nil {
		t.Fatalf("%s %s: the body %q is no JSON object: %v", r.Method, r.URL, w.Body, err)
	}
	if w.Header().Get("Content-Type") != "application/json" || w.Header().Get("x-amzn-RequestId") == "" {
		t.Errorf("%s %s: header %v", r.Method, r.URL, w.Header())
	}
	if isError := w.Code >= 400; isError != (w.Header().Get("x-amzn-ErrorType") != "") {
		t.Errorf("%s %s: status %d with header %v", r.Method, r.URL, w.Code, w.Header())
	}
	message, _ := members["message"].(string)
	return answer{w.Code, w.Header(), message, w.Body.String()}
}

func TestValidationMessages(t *testing.T) {
	t.Parallel()
	const one = "1 validation error detected: "
	tests := []struct{ name, target, body, want string }{
		{"all_is_well", "/jobs/a", `{"targets":["x"]}`, ""},
		{"label_pattern", "/jobs/a%3Ab", `{"targets":["x"]}`,
			one + "Value 'a:b' at 'jobId' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_-]+"},
		{"pattern_is_anchored", "/jobs/a%0A", `{"targets":["x"]}`,
			one + "Value 'a\n' at 'jobId' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_-]+"},
		{"label_too_long", "/jobs/" + strings.Repeat("a", 65), `{"targets":["x"]}`,
			one + "Value '" + strings.Repeat("a", 65) + "' at 'jobId' failed to satisfy constraint: Member must have length less than or equal to 64"},
		{"empty_label", "/jobs/", `{"targets":["x"]}`,
			"2 validation errors detected: Value '' at 'jobId' failed to satisfy constraint: Member must have length greater than or equal to 1; " +
				"Value '' at 'jobId' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_-]+"},
		{"required_list_absent", "/jobs/a", `{}`, one + "Value null at 'targets' failed to satisfy constraint: Member must not be null"},
		{"required_list_null", "/jobs/a", `{"targets":null}`, one + "Value null at 'targets' failed to satisfy constraint: Member must not be null"},
		{"no_body", "/jobs/a", ``, one + "Value null at 'targets' failed to satisfy constraint: Member must not be null"},
		{"empty_list", "/jobs/a", `{"targets":[]}`, one + "Value '[]' at 'targets' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{"item_length_in_characters", "/jobs/a", `{"targets":["x","ééééééé€","ééééééé€+"]}`,
			one + "Value 'ééééééé€+' at 'targets.3.member' failed to satisfy constraint: Member must have length less than or equal to 8"},
		{"item_pattern", "/jobs/a", `{"targets":["\u0007"]}`,
			one + "Value '\a' at 'targets.1.member' failed to satisfy constraint: Member must satisfy regular expression pattern: [^\\p{C}]+"},
		{"null_character", "/jobs/a", `{"targets":["a\u0000b"]}`,
			one + "Value 'a\x00b' at 'targets.1.member' failed to satisfy constraint: Member must satisfy regular expression pattern: [^\\p{C}]+"},
		{"null_character_in_free_text", "/jobs/a", `{"targets":["a"],"document":"\u0000"}`,
			one + "Value '\x00' at 'document' failed to satisfy constraint: Member must satisfy regular expression pattern: [^\\u0000]*"},
		{"empty_text_is_there", "/jobs/a", `{"targets":["x"],"comment":""}`, ""},
		{"java_class", "/jobs/a", `{"targets":["x"],"comment":"a é"}`,
			one + "Value 'a é' at 'comment' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\p{Graph}\\x20]*"},
		{"bytes", "/jobs/a", `{"targets":["x"],"document":"€€€"}`,
			one + "Value '€€€' at 'document' failed to satisfy constraint: Member must have length less than or equal to 6 bytes"},
		{"blob_bytes", "/jobs/a", `{"targets":["x"],"data":"AAAA"}`,
			one + "Value '<3 bytes>' at 'data' failed to satisfy constraint: Member must have length less than or equal to 2 bytes"},
		{"range_low", "/jobs/a?maxResults=0", `{"targets":["x"]}`,
			one + "Value '0' at 'maxResults' failed to satisfy constraint: Member must have value greater than or equal to 1"},
		{"range_high", "/jobs/a?maxResults=251", `{"targets":["x"]}`,
			one + "Value '251' at 'maxResults' failed to satisfy constraint: Member must have value less than or equal to 250"},
		{"enum", "/jobs/a?status=queued", `{"targets":["x"]}`,
			one + "Value 'queued' at 'status' failed to satisfy constraint: Member must satisfy enum value set: [QUEUED, IN_PROGRESS]"},
		{"map_size", "/jobs/a", `{"targets":["x"],"statusDetails":{"a":"1","c":"3","b":"2"}}`,
			one + "Value '{a=1, b=2, c=3}' at 'statusDetails' failed to satisfy constraint: Member must have length less than or equal to 2"},
		{"map_key_and_value", "/jobs/a", `{"targets":["x"],"statusDetails":{"A":"","b":"2"}}`,
			"2 validation errors detected: Value 'A' at 'statusDetails.key' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-z]+; " +
				"Value '' at 'statusDetails.A.member' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{"nested", "/jobs/a", `{"targets":["x"],"abortConfig":{"criteriaList":[{"action":"STOP"},{"threshold":100.5}]}}`,
			"3 validation errors detected: Value 'STOP' at 'abortConfig.criteriaList.1.member.action' failed to satisfy constraint: Member must satisfy enum value set: [CANCEL]; " +
				"Value null at 'abortConfig.criteriaList.2.member.action' failed to satisfy constraint: Member must not be null; " +
				"Value '100.5' at 'abortConfig.criteriaList.2.member.threshold' failed to satisfy constraint: Member must have value less than or equal to 100"},
		{"nested_required", "/jobs/a", `{"targets":["x"],"abortConfig":{}}`,
			one + "Value null at 'abortConfig.criteriaList' failed to satisfy constraint: Member must not be null"},
		{"long_value_is_cut", "/jobs/a", `{"targets":["x"],"comment":"` + strings.Repeat("é", 300) + `"}`,
			"2 validation errors detected: Value '" + strings.Repeat("é", 200) + "...' at 'comment' failed to satisfy constraint: Member must have length less than or equal to 5; " +
				"Value '" + strings.Repeat("é", 200) + "...' at 'comment' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\p{Graph}\\x20]*"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, got := newService(t, wire.Config{})
			a := do(t, s, "PUT", tt.target, tt.body)
			if a.message != tt.want {
				t.Errorf("message\n got %s\nwant %s", a.message, tt.want)
			}
			wantStatus := http.StatusOK
			if tt.want != "" {
				wantStatus = http.StatusBadRequest
			}
			if a.status != wantStatus || (got() != nil) != (tt.want == "") {
				t.Errorf("status %d, handler called: %t", a.status, got() != nil)
			}
		})
	}
}

func TestManyFailuresAreCountedAndNotAllShown(t *testing.T) {
	t.Parallel()
	s, _ := newService(t, wire.Config{})
	a := do(t, s, "PUT", "/jobs/a", `{"targets":["`+strings.Repeat(`123456789","`, 5000)+`x"]}`)
	if !strings.HasPrefix(a.message, "5000 validation errors detected: ") || !strings.HasSuffix(a.message, "; and 4980 more") {
		t.Errorf("message %.60s ... %s", a.message, a.message[max(0, len(a.message)-60):])
	}
}

func TestValidateForOtherTransports(t *testing.T) {
	t.Parallel()
	err := wire.Validate(&createJob{JobID: "a b", Targets: []string{"x"}})
	e, ok := errors.AsType[*wire.Error](err)
	if !ok || e.Code != "InvalidRequestException" || !strings.Contains(e.Message, "Value 'a b' at 'jobId'") {
		t.Errorf("got %v", err)
	}
	if err := wire.Validate(createJob{JobID: "ab", Targets: []string{"x"}}); err != nil {
		t.Errorf("a valid request: %v", err)
	}
}

func TestBind(t *testing.T) {
	t.Parallel()
	s, got := newService(t, wire.Config{})
	r := httptest.NewRequest("PUT", "/jobs/a-1?force=false&maxResults=7&isAscendingOrder=true&ascendingOrder=false&ignored=%20&status=QUEUED&;x", strings.NewReader(`
		{"targets": ["x", null, "y\"\u00e9"], "comment": "c", "document": "{}]",
		 "force": true, "unknown": {"a": ["}", {"b": "\\\""}], "n": -1.5e3}, "TARGETS": 1, "status": "IN_PROGRESS", "jobId": "other",
		 "statusDetails": {"a": "1", "b": null}, "count": 1e1, "small": 255, "data": "AQI=", "since": 1486687079.743,
		 "abortConfig": {"criteriaList": [{"action": "CANCEL", "threshold": 2.5}]}, "unfinished": [1, {"x": null}]}`))
	r.Header.Set("X-Amzn-Principal", "arn:x")
	if a := serve(t, s, r); a.status != http.StatusOK || a.body != "{}" {
		t.Fatalf("answer %d %s", a.status, a.body)
	}
	want := &createJob{
		JobID: "a-1", Force: new(false), Status: new("QUEUED"), Principal: new("arn:x"), Targets: []string{"x", `y"é`},
		Comment: new("c"), Document: "{}]", Details: map[string]string{"a": "1"},
		Abort: &abort{Criteria: []criteria{{Action: new("CANCEL"), Threshold: new(2.5)}}},
		Count: new(int64(10)), Ascending: true, Small: 255, Data: []byte{1, 2}, Since: &wire.Timestamp{Time: time.UnixMilli(1486687079743).UTC()},
		Unfinished: json.RawMessage(`[1, {"x": null}]`), paging: paging{MaxResults: new(int32(7))},
	}
	if !reflect.DeepEqual(got(), want) {
		g, _ := json.Marshal(got())
		w, _ := json.Marshal(want)
		t.Errorf("bound\n got %s\nwant %s", g, w)
	}

	if a := do(t, s, "PUT", "/jobs/a", `{"force":true,"targets":["x"],"statusDetails":{}}`); a.status != http.StatusOK {
		t.Fatalf("answer %d %s", a.status, a.body)
	}
	if in := got(); in.Force == nil || !*in.Force || in.Details == nil || in.Comment != nil || in.Count != nil {
		t.Errorf("force from the body, empty and absent members: %+v", in)
	}
}

func TestRefusedBindings(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, target, body, want string }{
		{"query_encoding", "/jobs/a?force=%zz", "", "The query string is not percent-encoded correctly at 'force=%zz'"},
		{"query_twice", "/jobs/a?force=true&force=true", "", "The query parameter 'force' is given more than once"},
		{"query_utf8", "/jobs/a?status=%ff", "", "The query parameter 'status' is not UTF-8"},
		{"query_boolean", "/jobs/a?force=True", "", "The query parameter 'force' must be true or false, not 'True'"},
		{"query_integer", "/jobs/a?maxResults=1.0", "", "The query parameter 'maxResults' must be an integer of at most 32 bits, not '1.0'"},
		{"query_plus", "/jobs/a?maxResults=%2B1", "", "The query parameter 'maxResults' must be an integer of at most 32 bits, not '+1'"},
		{"query_empty_integer", "/jobs/a?maxResults=", "", "The query parameter 'maxResults' must be an integer of at most 32 bits, not ''"},
		{"query_overflow", "/jobs/a?maxResults=2147483648", "", "The query parameter 'maxResults' must be an integer of at most 32 bits, not '2147483648'"},
		{"label_utf8", "/jobs/%ff", "", "The label 'jobId' is not UTF-8"},
		{"body_utf8", "/jobs/a", "{\"comment\":\"\xff\"}", "The request body is not UTF-8"},
		{"body_syntax", "/jobs/a", `{"comment":}`, "The request body is not JSON: invalid character '}' looking for beginning of value"},
		{"body_cut", "/jobs/a", `{"comment":"`, "The request body is not JSON: unexpected end of JSON input"},
		{"body_garbage", "/jobs/a", `{} {}`, "The request body is not JSON: invalid character '{' after top-level value"},
		{"body_list", "/jobs/a", ` [1]`, "The request body must be a JSON object, not a list"},
		{"body_null", "/jobs/a", `null`, "The request body must be a JSON object, not null"},
		{"body_deep", "/jobs/a", `{"x":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`, "The request body is nested deeper than 64 levels"},
		{"member_twice", "/jobs/a", `{"comment":"a","comment":"b"}`, "The member 'comment' is given more than once"},
		{"key_twice", "/jobs/a", `{"statusDetails":{"a":"1","a":"2"}}`, "The member 'statusDetails.a.member' is given more than once"},
		{"text", "/jobs/a", `{"comment":1}`, "The member 'comment' must be a string, not a number"},
		{"boolean", "/jobs/a", `{"force":"true"}`, "The member 'force' must be true or false, not a string"},
		{"integer", "/jobs/a", `{"count":"1"}`, "The member 'count' must be an integer, not a string"},
		{"fraction", "/jobs/a", `{"count":1.5}`, "The member 'count' must be an integer of at most 64 bits, not 1.5"},
		{"too_large", "/jobs/a", `{"count":1e30}`, "The member 'count' must be an integer of at most 64 bits, not 1e30"},
		{"unsigned", "/jobs/a", `{"small":-1}`, "The member 'small' must be an integer of 0 or more of at most 8 bits, not -1"},
		{"unsigned_overflow", "/jobs/a", `{"small":2.56e2}`, "The member 'small' must be an integer of 0 or more of at most 8 bits, not 2.56e2"},
		{"float_overflow", "/jobs/a", `{"abortConfig":{"criteriaList":[{"threshold":1e999}]}}`,
			"The member 'abortConfig.criteriaList.1.member.threshold' must be a number, not 1e999"},
		{"list", "/jobs/a", `{"targets":{}}`, "The member 'targets' must be a list, not an object"},
		{"item", "/jobs/a", `{"targets":["a",true]}`, "The member 'targets.2.member' must be a string, not a boolean"},
		{"map_value", "/jobs/a", `{"statusDetails":{"a":1}}`, "The member 'statusDetails.a.member' must be a string, not a number"},
		{"structure", "/jobs/a", `{"abortConfig":[]}`, "The member 'abortConfig' must be an object, not a list"},
		{"base64", "/jobs/a", `{"data":"!"}`, "The member 'data' must be a string in base64"},
		{"timestamp", "/jobs/a", `{"since":"2020-01-01"}`, "The member 'since' is not right: must be a timestamp, a number of seconds since the epoch"},
		{"long_list", "/jobs/a", `{"targets":[` + strings.Repeat(`"",`, 10000) + `""]}`, "The member 'targets' has more than 10000 entries"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, got := newService(t, wire.Config{})
			a := do(t, s, "PUT", tt.target, tt.body)
			if a.status != http.StatusBadRequest || a.message != tt.want || a.header.Get("x-amzn-ErrorType") != "InvalidRequestException" {
				t.Errorf("%d %s: %s\nwant %s", a.status, a.header.Get("x-amzn-ErrorType"), a.message, tt.want)
			}
			if got() != nil {
				t.Error("the handler was called")
			}
		})
	}
}

func TestHeaderGivenTwiceIsRefused(t *testing.T) {
	t.Parallel()
	s, _ := newService(t, wire.Config{})
	r := httptest.NewRequest("PUT", "/jobs/a", strings.NewReader(`{"targets":["x"]}`))
	r.Header["X-Amzn-Principal"] = []string{"a", "b"}
	if a := serve(t, s, r); a.message != "The header 'principal' is given more than once" {
		t.Errorf("%d %s", a.status, a.message)
	}
}

func TestBodyLargerThanAllowed(t *testing.T) {
	t.Parallel()
	s, got := newService(t, wire.Config{MaxBody: 20})
	a := do(t, s, "PUT", "/jobs/a", `{"targets":["x"]}   `)
	if a.status != http.StatusOK || got() == nil {
		t.Errorf("a body of just the size: %d %s", a.status, a.message)
	}
	a = do(t, s, "PUT", "/jobs/a", `{"targets":["x"]}    `)
	if a.status != 413 || a.header.Get("x-amzn-ErrorType") != "RequestEntityTooLargeException" ||
		a.message != "The request body is larger than 20 bytes" {
		t.Errorf("one byte more: %d %s", a.status, a.message)
	}
}

// TestRoutes asks the service by operations that have no handler: the answer names the operation.
func TestRoutes(t *testing.T) {
	t.Parallel()
	iot, jobsData := wire.NewIoT(wire.Config{}), wire.NewJobsData(wire.Config{})
	tests := []struct {
		name, method, target string
		service              *wire.Service
		status               int
		want                 string // part of the message
	}{
		{"literal_before_label", "PUT", "/thing-groups/addThingToThingGroup", iot, 501, "drover does not have the operation AddThingToThingGroup (PUT /thing-groups/addThingToThingGroup) of the service iot"},
		{"label_with_the_name_of_a_literal", "DELETE", "/thing-groups/addThingToThingGroup", iot, 501, "operation DeleteThingGroup "},
		{"back_from_a_literal", "GET", "/thing-groups/addThingToThingGroup/things", iot, 501, "operation ListThingsInThingGroup "},
		{"encoded_slash", "GET", "/things/a%2Fb", iot, 501, "operation DescribeThing "},
		{"greedy", "GET", "/destinations/arn%3Aa/b/c", iot, 501, "operation GetTopicRuleDestination "},
		{"start_next", "PUT", "/things/t/jobs/$next", jobsData, 501, "operation StartNextPendingJobExecution "},
		{"start_next_encoded", "PUT", "/things/t/jobs/%24next", jobsData, 501, "operation StartNextPendingJobExecution "},
		{"describe_next", "GET", "/things/t/jobs/$next", jobsData, 501, "operation DescribeJobExecution "},
		{"describe_next_encoded", "GET", "/things/t/jobs/%24next", jobsData, 501, "operation DescribeJobExecution "},
		{"same_path_other_service", "GET", "/things/t/jobs", jobsData, 501, "operation GetPendingJobExecutions "},
		{"same_path_this_service", "GET", "/things/t/jobs", iot, 501, "operation ListJobExecutionsForThing "},
		{"unknown_path", "GET", "/nothing/of%20that", iot, 404, "The service iot has no operation GET /nothing/of%20that"},
		{"root", "GET", "/", iot, 404, "The service iot has no operation GET /"},
		{"slash_after_literal", "PUT", "/jobs/a/cancel/", iot, 404, "The service iot has no operation PUT /jobs/a/cancel/"},
		{"dots_are_text", "GET", "/things/../jobs/a", iot, 501, "operation DescribeJobExecution "},
		{"method", "PATCH", "/jobs", iot, 405, "The path /jobs allows GET, not PATCH"},
		{"method_twice", "DELETE", "/things/t/jobs/$next", jobsData, 405, "The path /things/t/jobs/$next allows GET, POST, PUT, not DELETE"},
		{"head", "HEAD", "/jobs", iot, 405, "The path /jobs allows GET, not HEAD"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := do(t, tt.service, tt.method, tt.target, "")
			if a.status != tt.status || !strings.Contains(a.message, tt.want) {
				t.Errorf("%d %s", a.status, a.message)
			}
			if allow := a.header.Get("Allow"); (allow != "") != (tt.status == 405) || !strings.Contains(a.message, allow) {
				t.Errorf("Allow: %s", allow)
			}
		})
	}
}

func TestEncodedSlashIsPartOfTheLabel(t *testing.T) {
	t.Parallel()
	type in struct {
		Target string `in:"label" json:"target"`
	}
	type out struct {
		Target string `json:"target"`
	}
	s := wire.NewIoT(wire.Config{})
	wire.Handle(s, "ListAttachedPolicies", func(_ context.Context, in *in) (*out, error) { return &out{in.Target}, nil })
	a := do(t, s, "POST", "/attached-policies/arn%3Aaws%3Aiot%3Athing%2Fa%2Bb+c%20%3C", "ignored")
	if a.body != `{"target":"arn:aws:iot:thing/a+b+c <"}` {
		t.Errorf("%d %s", a.status, a.body)
	}
}

var errSold = errors.New("sold out")

func TestHandlerErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name         string
		err          error
		cancel       bool
		status       int
		code, want   string
		wantInTheLog string
	}{
		{"own_error", fmt.Errorf("x: %w", &wire.Error{Code: "LimitExceededException", Status: 410, Message: "too many"}), false, 410, "LimitExceededException", "too many", ""},
		{"mapped", fmt.Errorf("y: %w", errSold), false, 409, "ConflictException", "mapped", ""},
		{"unmapped", errors.New("secret"), false, 500, "InternalFailureException", "An internal error has occurred", "secret"},
		{"cancelled", fmt.Errorf("query: %w", context.Canceled), true, 503, "ServiceUnavailableException", "The request was cancelled before it was done", ""},
		{"cancelled_by_somebody_else", context.Canceled, false, 500, "InternalFailureException", "An internal error has occurred", "context canceled"},
		{"bad_status", &wire.Error{Code: "X", Message: "m"}, false, 500, "X", "m", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			s := wire.NewIoT(wire.Config{Logger: slog.New(slog.NewTextHandler(&log, nil)), MapError: func(err error) *wire.Error {
				if errors.Is(err, errSold) {
					return &wire.Error{Code: "ConflictException", Status: 409, Message: "mapped"}
				}
				return nil
			}})
			wire.Handle(s, "ListJobs", func(context.Context, *struct{}) (*wire.Empty, error) { return nil, tt.err })
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if tt.cancel {
				cancel()
			}
			a := serve(t, s, httptest.NewRequestWithContext(ctx, "GET", "/jobs", nil))
			if a.status != tt.status || a.header.Get("x-amzn-ErrorType") != tt.code || a.message != tt.want {
				t.Errorf("%d %s %s", a.status, a.header.Get("x-amzn-ErrorType"), a.message)
			}
			if (tt.wantInTheLog == "") != (log.Len() == 0) || !strings.Contains(log.String(), tt.wantInTheLog) {
				t.Errorf("log %q", log.String())
			}
		})
	}
}

func TestPanicBecomesInternalFailure(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	var observed []string
	s := wire.NewIoT(wire.Config{
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
		Observe: func(op string, e *wire.Error, _ time.Duration) {
			status := http.StatusOK
			if e != nil {
				status = e.Status
			}
			observed = append(observed, fmt.Sprint(op, " ", status))
		},
	})
	wire.Handle(s, "ListJobs", func(context.Context, *struct{}) (*wire.Empty, error) { panic("boom") })
	wire.Handle(s, "ListThings", func(context.Context, *struct{}) (*func(), error) { return new(func() {}), nil })
	wire.Handle(s, "ListPolicies", func(context.Context, *struct{}) (*wire.Empty, error) { panic(http.ErrAbortHandler) })

	a := do(t, s, "GET", "/jobs", "")
	if a.status != 500 || a.message != "An internal error has occurred" || !strings.Contains(log.String(), "boom") ||
		!strings.Contains(log.String(), "wire_test.go") {
		t.Errorf("%d %s, log %s", a.status, a.message, &log)
	}
	if a := do(t, s, "GET", "/things", ""); a.status != 500 || !strings.Contains(log.String(), "encode *func()") {
		t.Errorf("an answer that cannot be encoded: %d %s, log %s", a.status, a.message, &log)
	}
	do(t, s, "GET", "/nothing", "")
	if want := []string{"ListJobs 500", "ListThings 500", "Unknown 404"}; !reflect.DeepEqual(observed, want) {
		t.Errorf("observed %q", observed)
	}
	defer func() {
		if p := recover(); p != http.ErrAbortHandler {
			t.Errorf("recovered %v", p)
		}
	}()
	s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/policies", nil))
	t.Error("http.ErrAbortHandler was swallowed")
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	type out struct {
		ID string `json:"id"`
	}
	s := wire.NewIoT(wire.Config{})
	wire.Handle(s, "ListJobs", func(ctx context.Context, _ *struct{}) (*out, error) { return &out{wire.RequestID(ctx)}, nil })
	first, second := do(t, s, "GET", "/jobs", ""), do(t, s, "GET", "/jobs", "")
	if id := first.header.Get("x-amzn-RequestId"); first.body != `{"id":"`+id+`"}` || id == second.header.Get("x-amzn-RequestId") {
		t.Errorf("ids %s, %s; body %s", id, second.header.Get("x-amzn-RequestId"), first.body)
	}
	w := httptest.NewRecorder()
	w.Header().Set("x-amzn-RequestId", "outer")
	s.ServeHTTP(w, httptest.NewRequest("GET", "/jobs", nil))
	if w.Body.String() != `{"id":"outer"}` || len(w.Header()["X-Amzn-Requestid"]) != 1 {
		t.Errorf("an id set before: %s, header %v", w.Body, w.Header())
	}
	if id := wire.RequestID(t.Context()); id != "" {
		t.Errorf("outside of a request: %q", id)
	}
}

func TestStatusOfTheSameErrorDiffersBetweenServices(t *testing.T) {
	t.Parallel()
	iot, jobsData := wire.NewIoT(wire.Config{}), wire.NewJobsData(wire.Config{})
	for _, tt := range []struct {
		s      *wire.Service
		code   string
		status int
	}{
		{iot, "ThrottlingException", 400}, {jobsData, "ThrottlingException", 429}, {iot, "LimitExceededException", 410},
		{jobsData, "TerminalStateException", 410}, {iot, "InvalidSignatureException", 403}, {jobsData, "UnknownOperationException", 404},
	} {
		if e := tt.s.NewError(tt.code, "m"); e.Status != tt.status || e.Error() != tt.code+": m" {
			t.Errorf("%s %s: %d %v", tt.s.Name(), tt.code, e.Status, e)
		}
	}
	mustPanic(t, "has no error", func() { _ = jobsData.NewError("LimitExceededException", "") })
}

func mustPanic(t *testing.T, want string, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if p, _ := recover().(string); !strings.Contains(p, want) {
			t.Errorf("panic %q, want %q", p, want)
		}
	}()
	f()
}

// declare gives ListJobs a request of type In.
func declare[In any]() {
	wire.Handle(wire.NewIoT(wire.Config{}), "ListJobs", func(context.Context, *In) (*wire.Empty, error) { return nil, nil })
}

// malformed validates a struct of texts with tags that go vet would not let through.
func malformed(tags ...reflect.StructTag) func() {
	return func() {
		var fields []reflect.StructField
		for i, tag := range tags {
			fields = append(fields, reflect.StructField{Name: string(rune('A' + i)), Type: reflect.TypeFor[string](), Tag: tag})
		}
		if err := wire.Validate(reflect.New(reflect.StructOf(fields)).Interface()); err != nil {
			panic("an error instead of a panic: " + err.Error())
		}
	}
}

func TestMalformedDeclarationsPanic(t *testing.T) {
	t.Parallel()
	type nested struct {
		A *string `json:"a"`
	}
	for _, tt := range []struct {
		want    string
		declare func()
	}{
		{"not a struct", declare[int]},
		{"no json name", declare[struct{ A *string }]},
		{`unknown or repeated tag "lenn"`, declare[struct {
			A *string `json:"a" lenn:"1,2"`
		}]},
		{"malformed tag", malformed(`json:"a" len`)},
		{"malformed tag", malformed(`json:"a" len:1`)},
		{`in:"path"`, declare[struct {
			A *string `json:"a" in:"path"`
		}]},
		{`required:"yes"`, declare[struct {
			A *string `json:"a" required:"yes"`
		}]},
		{"len does not fit the type *int32", declare[struct {
			A *int32 `json:"a" len:"1,2"`
		}]},
		{"keylen does not fit", declare[struct {
			A []string `json:"a" keylen:"1,2"`
		}]},
		{`"5" is not "min,max"`, declare[struct {
			A *string `json:"a" len:"5"`
		}]},
		{"wrong way round", declare[struct {
			A *string `json:"a" len:"5,1"`
		}]},
		{"len: strconv", declare[struct {
			A *string `json:"a" len:"x,"`
		}]},
		{"itempattern: error parsing regexp", declare[struct {
			A []string `json:"a" itempattern:"["`
		}]},
		{"an empty value", declare[struct {
			A *string `json:"a" enum:"A,,B"`
		}]},
		{"only scalars", declare[struct {
			A []string `json:"a" in:"query"`
		}]},
		{"a header tag", declare[struct {
			A *string `json:"a" header:"x"`
		}]},
		{"a query tag", declare[struct {
			A *string `json:"a" query:"x"`
		}]},
		{"a nested struct is a pointer", declare[struct {
			A nested `json:"a"`
		}]},
		{"absent and 0", declare[struct {
			A int32 `json:"a" range:"1,"`
		}]},
		{"absent and 0", declare[struct {
			A bool `json:"a" required:"true"`
		}]},
		{"absent and zero", declare[struct {
			A wire.Timestamp `json:"a" required:"true"`
		}]},
		{"cannot be read", declare[struct {
			A any `json:"a"`
		}]},
		{`declares "a" twice`, malformed(`json:"a"`, `json:"a" in:"query"`)},
		{`has the labels ["a"], the operation ListJobs []`, declare[struct {
			A string `json:"a" in:"label"`
		}]},
		{"needs no pointer", declare[struct {
			A *string `json:"a" in:"label"`
		}]},
	} {
		mustPanic(t, tt.want, tt.declare)
	}
	s := wire.NewIoT(wire.Config{})
	mustPanic(t, `no operation "Nothing"`, func() {
		wire.Handle(s, "Nothing", func(context.Context, *struct{}) (*wire.Empty, error) { return nil, nil })
	})
	list := func() {
		wire.Handle(s, "ListJobs", func(context.Context, *struct{}) (*wire.Empty, error) { return nil, nil })
	}
	list()
	mustPanic(t, "two handlers", list)
}

func TestTypesThatContainThemselves(t *testing.T) {
	t.Parallel()
	type tree struct {
		Name     *string `json:"name" len:",3"`
		Children []tree  `json:"children"`
	}
	s := wire.NewIoT(wire.Config{})
	wire.Handle(s, "CreateKeysAndCertificate", func(context.Context, *tree) (*wire.Empty, error) { return nil, nil })
	a := do(t, s, "POST", "/keys-and-certificate", `{"children":[{},{"children":[{"name":"long"}]}]}`)
	if !strings.Contains(a.message, "'children.2.member.children.1.member.name'") {
		t.Errorf("%d %s", a.status, a.message)
	}
}

func TestTimestamp(t *testing.T) {
	t.Parallel()
	type holder struct {
		At wire.Timestamp `json:"at,omitzero"`
	}
	for ms, want := range map[int64]string{
		1486687079743: `{"at":1486687079.743}`, 1486687079000: `{"at":1486687079}`, 1486687079500: `{"at":1486687079.5}`,
		1486687079005: `{"at":1486687079.005}`, 0: `{"at":0}`, -1500: `{"at":-1.5}`, -5: `{"at":-0.005}`,
	} {
		data, err := json.Marshal(holder{wire.Timestamp{Time: time.UnixMilli(ms)}})
		if err != nil || string(data) != want {
			t.Errorf("%d: %s, %v, want %s", ms, data, err, want)
		}
		var back holder
		if err := json.Unmarshal(data, &back); err != nil || back.At.UnixMilli() != ms {
			t.Errorf("%s back: %v, %v", data, back.At, err)
		}
	}
	if data, err := json.Marshal(holder{}); err != nil || string(data) != `{}` {
		t.Errorf("zero: %s, %v", data, err)
	}
	if data, err := json.Marshal(wire.Timestamp{}); err != nil || string(data) != `null` {
		t.Errorf("zero alone: %s, %v", data, err)
	}
	for _, bad := range []string{`"1"`, `true`, `1e300`, `253402300800`} {
		if err := new(wire.Timestamp).UnmarshalJSON([]byte(bad)); err == nil {
			t.Errorf("%s was read", bad)
		}
	}
}

func FuzzBind(f *testing.F) {
	f.Add("PUT", "/jobs/a", "force=true&maxResults=1", `{"targets":["x"],"statusDetails":{"a":"b"},"since":1.5}`)
	f.Add("PUT", "/jobs/%24next", "force=%zz", `{"abortConfig":{"criteriaList":[{"action":"STOP"},null]}}`)
	f.Add("GET", "/destinations/a//b", ";", `{"\ud800":"\ud800"}`)
	f.Add("DELETE", "/thing-groups/addThingToThingGroup", "=&=", "\xff")
	f.Fuzz(func(t *testing.T, method, path, query, body string) {
		u := &url.URL{Path: path, RawQuery: query}
		if decoded, err := url.PathUnescape(path); err == nil {
			u.Path, u.RawPath = decoded, path
		}
		s, got := newService(t, wire.Config{})
		r := &http.Request{Method: method, URL: u, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
		a := serve(t, s, r)
		if a.status == 500 {
			t.Errorf("%s %q %q %q: a request made the server fail", method, path, query, body)
		}
		if in := got(); in != nil {
			if err := wire.Validate(in); err != nil {
				t.Errorf("the handler got an invalid request: %v", err)
			}
		}
	})
}

func BenchmarkCreateJob(b *testing.B) {
	s, _ := newService(b, wire.Config{})
	body := `{"targets":["x","y","z"],"comment":"c","document":"{}","statusDetails":{"a":"1","b":"2"},` +
		`"abortConfig":{"criteriaList":[{"action":"CANCEL","threshold":2.5}]},"count":3}`
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("PUT", "/jobs/a-1?force=true", strings.NewReader(body)))
		if w.Code != http.StatusOK {
			b.Fatal(w.Body)
		}
	}
}
