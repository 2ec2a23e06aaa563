package dataplane

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	"drover/internal/iot"
)

// Tests called TestS… show the statement of that number in the checklist of the
// specification (spec §17).

func TestS155_StartNextWithNothingPending(t *testing.T) {
	t.Parallel()
	newRig(t).accept("start-next", `{"clientToken":"c"}`, `{"timestamp":1700000000,"clientToken":"c"}`)
}

func TestS156_EmptyPayloadStartsNext(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.queue("j1")
	r.accept("start-next", ``, `{"execution":{"jobId":"j1","thingName":"t1","status":"IN_PROGRESS",`+
		`"queuedAt":1700000000,"startedAt":1700000000,"lastUpdatedAt":1700000000,"versionNumber":2,"executionNumber":1,`+
		`"jobDocument":{"operation":"j1"}},"timestamp":1700000000}`)
}

func TestS157_InvalidJson(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, payload := range []string{`{bad`, `{"clientToken":"c"`, "{\"clientToken\":\"c\",\"x\":\"\xff\"}"} {
		want := `{"code":"InvalidJson","message":"The payload is not valid JSON in UTF-8","timestamp":1700000000}`
		if got := r.reject("start-next", payload, "InvalidJson"); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestS158_PayloadIsNoObject(t *testing.T) {
	t.Parallel()
	newRig(t).reject("start-next", `[1]`, "InvalidRequest")
}

func TestS159_MissingStatus(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.queue("j1")
	got := r.reject("j1/update", `{"clientToken":"c"}`, "InvalidRequest")
	for _, part := range []string{`Value null at 'status' failed to satisfy constraint: Member must not be null`, `"clientToken":"c"`} {
		if !strings.Contains(got, part) {
			t.Errorf("%s lacks %s", got, part)
		}
	}
	r.reject("j1/update", ``, "InvalidRequest")
}

func TestS160_InvalidTopic(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.refuse("foo", `{"clientToken":"c"}`, `{"code":"InvalidTopic",`+
		`"message":"The topic $aws/things/t1/jobs/foo is that of no jobs operation","clientToken":"c","timestamp":1700000000}`)
	r.refuse("foo", `{bad`, `{"code":"InvalidTopic",`+
		`"message":"The topic $aws/things/t1/jobs/foo is that of no jobs operation","timestamp":1700000000}`)
}

func (r *rig) refuse(topic, payload, want string) {
	r.t.Helper()
	if got, ok := r.ask(topic, payload); ok || got != want {
		r.t.Errorf("%s %s: accepted %v\n got %s\nwant %s", topic, payload, ok, got, want)
	}
}

func TestS161_DescribeNextAnswersOnTheTopicAsked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.queue("j1")
	r.accept("$next/get", `{"clientToken":"c"}`, `{"execution":{"jobId":"j1","thingName":"t1","status":"QUEUED",`+
		`"queuedAt":1700000000,"lastUpdatedAt":1700000000,"versionNumber":1,"executionNumber":1,"jobDocument":{"operation":"j1"}},`+
		`"timestamp":1700000000,"clientToken":"c"}`)
}

func TestDescribeNextWithNothingPending(t *testing.T) {
	t.Parallel()
	newRig(t).accept("$next/get", ``, `{"timestamp":1700000000}`)
}

func TestS162_DescribeNextChangesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.queue("j1")
	before := r.things["t1"].Entries[0]
	r.ask("$next/get", ``)
	r.want()
	if after := r.things["t1"].Entries[0]; after.Status != iot.Queued || after.Version != before.Version {
		t.Errorf("execution is %+v", after)
	}
}

func TestS163_IncludeJobDocument(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.queue("j1")
	for payload, want := range map[string]bool{``: true, `{"includeJobDocument":true}`: true, `{"includeJobDocument":false}`: false} {
		for _, topic := range []string{"j1/get", "$next/get"} {
			if got, ok := r.ask(topic, payload); !ok || strings.Contains(got, `"jobDocument":{"operation":"j1"}`) != want {
				t.Errorf("%s %s: %s", topic, payload, got)
			}
		}
	}
}

func TestS164_DescribeOfATerminalExecution(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.queue("j1")
	r.accept("j1/update", `{"status":"SUCCEEDED"}`, `{"timestamp":1700000000}`)
	if got := r.reject("j1/get", `{"clientToken":"c"}`, "TerminalStateReached"); strings.Contains(got, "executionState") {
		t.Errorf("%s has an executionState", got)
	}
}

func TestS165_DescribeOfAnUnknownJob(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.reject("nope/get", ``, "ResourceNotFound")
	r.reject("nope/update", `{"status":"SUCCEEDED"}`, "ResourceNotFound")
}

func TestS166_UpdateWithState(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.queue("j1")
	r.accept("j1/update", `{"status":"IN_PROGRESS","includeJobExecutionState":true,"statusDetails":{"b":"2","a":"1"},"clientToken":"c"}`,
		`{"timestamp":1700000000,"clientToken":"c","executionState":{"status":"IN_PROGRESS","statusDetails":{"a":"1","b":"2"},"versionNumber":2}}`)
	r.accept("j1/update", `{"status":"SUCCEEDED","includeJobExecutionState":true,"statusDetails":{}}`,
		`{"timestamp":1700000000,"executionState":{"status":"SUCCEEDED","statusDetails":{},"versionNumber":3}}`)
}

func TestS167_UpdateWithDocument(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.queue("j1")
	r.accept("j1/update", `{"status":"IN_PROGRESS","includeJobDocument":true}`, `{"timestamp":1700000000,"jobDocument":{"operation":"j1"}}`)
}

func TestS168_PlainUpdate(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.queue("j1")
	r.accept("j1/update", `{"status":"IN_PROGRESS"}`, `{"timestamp":1700000000}`)
	r.accept("j1/update", `{"status":"IN_PROGRESS","clientToken":"c"}`, `{"timestamp":1700000000,"clientToken":"c"}`)
}

func TestS169_StatusDetailsBeyondTheLimits(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.queue("j1")
	eleven := map[string]string{}
	for i := range 11 {
		eleven[fmt.Sprint("k", i)] = "v"
	}
	for name, details := range map[string]any{
		"11 pairs":   eleven,
		"long key":   map[string]string{strings.Repeat("k", 129): "v"},
		"long value": map[string]string{"k": strings.Repeat("v", 1025)},
		"number":     map[string]any{"k": 1},
		"empty key":  map[string]string{"": "v"},
		"control":    map[string]string{"k": "\x01"},
	} {
		t.Run(name, func(t *testing.T) {
			payload, err := json.Marshal(map[string]any{"status": "IN_PROGRESS", "statusDetails": details, "clientToken": "c"})
			if err != nil {
				t.Fatal(err)
			}
			for _, topic := range []string{"j1/update", "start-next"} {
				if got := r.reject(topic, string(payload), "InvalidRequest"); !strings.Contains(got, `"clientToken":"c"`) {
					t.Errorf("%s lacks the clientToken", got)
				}
			}
		})
	}
}

func TestS170_StatusDetailsStayOrAreReplaced(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.queue("j1")
	for _, step := range []struct{ payload, want string }{
		{`{"status":"IN_PROGRESS","includeJobExecutionState":true,"statusDetails":{"a":"1"}}`, `{"a":"1"}`},
		{`{"status":"IN_PROGRESS","includeJobExecutionState":true}`, `{"a":"1"}`},
		{`{"status":"IN_PROGRESS","includeJobExecutionState":true,"statusDetails":{"b":"2"}}`, `{"b":"2"}`},
		{`{"status":"IN_PROGRESS","includeJobExecutionState":true,"statusDetails":{}}`, `{}`},
	} {
		if got, ok := r.ask("j1/update", step.payload); !ok || !strings.Contains(got, `"statusDetails":`+step.want+`,`) {
			t.Errorf("%s: %s, want details %s", step.payload, got, step.want)
		}
	}
}

func TestS171_StartNextOfARunningExecutionKeepsItsDetails(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.queue("j1")
	r.ask("start-next", `{"statusDetails":{"step":"1"}}`)
	want := `{"execution":{"jobId":"j1","thingName":"t1","status":"IN_PROGRESS","statusDetails":{"step":"1"},` +
		`"queuedAt":1700000000,"startedAt":1700000000,"lastUpdatedAt":1700000000,"versionNumber":2,"executionNumber":1,` +
		`"jobDocument":{"operation":"j1"}},"timestamp":1700000001}`
	r.tick()
	r.accept("start-next", `{"statusDetails":{"step":"2"}}`, want)
	r.want()
}

func TestS172_RunningComesBeforeQueued(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.queue("a")
	r.tick()
	r.queue("b")
	r.ask("b/update", `{"status":"IN_PROGRESS"}`)
	if got, _ := r.ask("start-next", ``); !strings.Contains(got, `"jobId":"b"`) {
		t.Errorf("started %s, want b", got)
	}
}

func TestS173_EarlierQueuedComesFirst(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.queue("a") // in the same millisecond
	r.queue("b")
	if got, _ := r.ask("start-next", ``); !strings.Contains(got, `"jobId":"a"`) {
		t.Errorf("started %s, want a", got)
	}
}

func TestS174_AnswersGoToTheRequesterOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.filters = map[string]bool{"$aws/things/t1/jobs/get/accepted": true} // somebody else's
	r.h.HandlePublish(client{r, "c1"}, Message{Topic: "$aws/things/t1/jobs/get"})
	r.want(`c1 B/get/accepted {"inProgressJobs":[],"queuedJobs":[],"timestamp":1700000000}`)
}

func TestS175_SubscribedRequesterGetsOneCopy(t *testing.T) {
	t.Parallel()
	r := newRig(t) // everything is subscribed to
	r.h.HandlePublish(client{r, "c1"}, Message{Topic: "$aws/things/t1/jobs/start-next"})
	r.want(`c1 B/start-next/accepted {"timestamp":1700000000}`)
}

func TestS176_GetPendingWithNothingPending(t *testing.T) {
	t.Parallel()
	newRig(t).accept("get", `{"clientToken":"c"}`, `{"inProgressJobs":[],"queuedJobs":[],"timestamp":1700000000,"clientToken":"c"}`)
}

func TestGetPending(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.queue("j1")
	r.queue("j2")
	r.queue("j3")
	r.tick()
	r.ask("j2/update", `{"status":"IN_PROGRESS","statusDetails":{"not":"shown"}}`)
	r.accept("get", ``, `{"inProgressJobs":[{"jobId":"j2","queuedAt":1700000000,"startedAt":1700000001,"lastUpdatedAt":1700000001,"versionNumber":2,"executionNumber":1}],`+
		`"queuedJobs":[{"jobId":"j1","queuedAt":1700000000,"lastUpdatedAt":1700000000,"versionNumber":1,"executionNumber":1},`+
		`{"jobId":"j3","queuedAt":1700000000,"lastUpdatedAt":1700000000,"versionNumber":1,"executionNumber":1}],"timestamp":1700000001}`)
}

func TestS177_GetPendingShowsTen(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for i := range 12 {
		r.queue(iot.JobID(fmt.Sprint("j", i)))
	}
	r.ask("j11/update", `{"status":"IN_PROGRESS"}`)
	got, _ := r.ask("get", ``)
	var body struct{ InProgressJobs, QueuedJobs []struct{ JobID string } }
	if err := json.Unmarshal([]byte(got), &body); err != nil {
		t.Fatal(err)
	}
	if len(body.InProgressJobs) != 1 || body.InProgressJobs[0].JobID != "j11" || len(body.QueuedJobs) != 9 || body.QueuedJobs[8].JobID != "j8" {
		t.Errorf("pending: %s", got)
	}
}

func TestS178_TimesAreWholeSeconds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.at += 987
	r.queue("j1")
	r.ask("start-next", ``)
	r.ask("j1/update", `{"status":"IN_PROGRESS"}`)
	answers := []string{}
	for _, topic := range []string{"get", "$next/get", "j1/get", "start-next", "foo"} {
		answer, _ := r.ask(topic, ``)
		answers = append(answers, answer)
	}
	r.sent = nil
	r.queue("j2")
	r.drop("j1")
	for _, s := range r.sent {
		answers = append(answers, s.payload)
	}
	if len(answers) != 8 {
		t.Fatalf("%d payloads: %v", len(answers), answers)
	}
	var check func(any)
	check = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, m := range v {
				if n, ok := m.(json.Number); ok && (strings.HasSuffix(name, "At") || name == "timestamp") && n.String() != "1700000000" {
					t.Errorf("%s is %s", name, n)
				}
				check(m)
			}
		case []any:
			for _, e := range v {
				check(e)
			}
		}
	}
	for _, a := range answers {
		d := json.NewDecoder(strings.NewReader(a))
		d.UseNumber()
		var v any
		if err := d.Decode(&v); err != nil {
			t.Fatal(err)
		}
		check(v)
	}
}

func TestRefusedUpdatesTellTheState(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.queue("j1")
	r.refuse("j1/update", `{"status":"IN_PROGRESS","expectedVersion":"5","clientToken":"c"}`,
		`{"code":"VersionMismatch","message":"Expected version 5 but the execution has version 1","clientToken":"c","timestamp":1700000000,`+
			`"executionState":{"status":"QUEUED","statusDetails":{},"versionNumber":1}}`)
	r.ask("j1/update", `{"status":"SUCCEEDED","statusDetails":{"k":"v"},"expectedVersion":1}`)
	r.refuse("j1/update", `{"status":"FAILED"}`,
		`{"code":"InvalidStateTransition","message":"Execution 1 of job j1 has ended as SUCCEEDED and cannot become FAILED","timestamp":1700000000,`+
			`"executionState":{"status":"SUCCEEDED","statusDetails":{"k":"v"},"versionNumber":2}}`)
	r.reject("j1/update", `{"status":"FAILED","expectedVersion":1}`, "VersionMismatch") // before the state (spec A-13)
}

func TestNamesAreChecked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.reject("$next/update", `{"status":"SUCCEEDED"}`, "InvalidRequest")
	r.reject("a:b/get", ``, "InvalidRequest")
	r.reject(strings.Repeat("j", 65)+"/get", ``, "InvalidRequest")
	for thing, code := range map[string]string{"bad thing": "InvalidRequest", "nobody": "ResourceNotFound"} {
		r.sent = nil
		topic := "$aws/things/" + thing + "/jobs/get"
		if v := r.h.HandlePublish(client{r, "c1"}, Message{Topic: topic}); v != Taken {
			t.Errorf("verdict %d", v)
		}
		if len(r.sent) != 1 || r.sent[0].topic != topic+"/rejected" || !strings.Contains(r.sent[0].payload, code) {
			t.Errorf("%s: %v, want %s", thing, r.sent, code)
		}
	}
}

func TestNamespacesAreApart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.queueIn("t1", "gg", "aws-gg-deployment")
	r.want(`B/notify-namespace-aws-gg-deployment {"timestamp":1700000000,"jobs":{"QUEUED":[{"jobId":"gg","queuedAt":1700000000,"lastUpdatedAt":1700000000,"versionNumber":1,"executionNumber":1}]}}`,
		`B/notify-next-namespace-aws-gg-deployment {"timestamp":1700000000,"execution":{"jobId":"gg","status":"QUEUED","queuedAt":1700000000,"lastUpdatedAt":1700000000,"versionNumber":1,"executionNumber":1,"jobDocument":{"operation":"gg"}}}`)
	r.accept("start-next", ``, `{"timestamp":1700000000}`)
	r.reject("gg/get", ``, "ResourceNotFound")
	r.reject("gg/update", `{"status":"SUCCEEDED"}`, "ResourceNotFound")
	for _, topic := range []string{"$next/namespace-aws-gg-deployment/get", "gg/namespace-aws-gg-deployment/get", "namespace-aws-gg-deployment/start-next", "namespace-aws-gg-deployment/get"} {
		if got, ok := r.ask(topic, ``); !ok || !strings.Contains(got, `"jobId":"gg"`) {
			t.Errorf("%s: %s", topic, got)
		}
	}
	r.accept("gg/namespace-aws-gg-deployment/update", `{"status":"SUCCEEDED"}`, `{"timestamp":1700000000}`)
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, c := range []struct {
		topic  string
		retain bool
		want   Verdict
	}{
		{"a/b", true, Route},
		{"$aws/things/t1/jobs/get", true, Refuse},
		{"$aws/things/t1/jobs/foo", true, Refuse},
		{"$aws/things/t1/jobs/notify-next", false, Refuse},
		{"$aws/things/t1/jobs/get/accepted", false, Refuse},
		{"$aws/events/job/j/completed", false, Refuse},
		{"$SYS/x", false, Refuse},
	} {
		if got := r.h.HandlePublish(client{r, "c1"}, Message{Topic: c.topic, Retain: c.retain}); got != c.want {
			t.Errorf("%s: %d, want %d", c.topic, got, c.want)
		}
	}
	r.want()
}

func TestAnswerHasTheQoSOfTheRequest(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for qos, want := range []byte{0, 1, 1} {
		for _, topic := range []string{"get", "foo"} {
			r.sent = nil
			r.h.HandlePublish(client{r, "c1"}, Message{Topic: "$aws/things/t1/jobs/" + topic, QoS: byte(qos)})
			if len(r.sent) != 1 || r.sent[0].qos != want {
				t.Errorf("%s with QoS %d: %+v", topic, qos, r.sent)
			}
		}
	}
}

func TestInnerErrorsStayInside(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var log strings.Builder
	r.h.log = slog.New(slog.NewTextHandler(&log, nil))
	r.fail = errors.New("disk /var/lib/drover is full")
	want := `{"code":"InternalError","message":"The request could not be carried out","clientToken":"c","timestamp":1700000000}`
	r.refuse("get", `{"clientToken":"c"}`, want)
	if !strings.Contains(log.String(), "disk /var/lib/drover is full") {
		t.Errorf("the log has no trace of it: %q", &log)
	}
	log.Reset()
	r.fail = iot.Errorf(iot.Internal, "The request could not be carried out") // as the engine has it after logging
	r.refuse("get", `{"clientToken":"c"}`, want)
	if log.Len() > 0 {
		t.Errorf("logged again: %s", &log)
	}
}

func TestRequestsAreCounted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.queue("j1")
	r.ask("start-next", ``)
	r.ask("start-next", ``)
	r.ask("j2/update", `{"status":"SUCCEEDED"}`)
	r.ask("foo", ``)
	families, err := r.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue()
		}
	}
	want := map[string]float64{
		"drover_device_requests_total StartNextPendingJobExecution accepted mqtt": 2,
		"drover_device_requests_total Unknown InvalidTopic mqtt":                  1,
		"drover_device_requests_total UpdateJobExecution ResourceNotFound mqtt":   1,
		"drover_published_total event":                                            0,
		"drover_published_total command":                                          0,
		"drover_published_total notify":                                           1,
		"drover_published_total notify-next":                                      1,
		"drover_published_total shadow":                                           0,
	}
	if !maps.Equal(got, want) {
		t.Errorf("metrics %v, want %v", got, want)
	}
}

func TestAcceptedComesBeforeItsNotices(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.queue("j1")
	r.sent = nil
	r.h.HandlePublish(client{r, "c1"}, Message{Topic: "$aws/things/t1/jobs/j1/update", Payload: []byte(`{"status":"SUCCEEDED"}`)})
	r.want(`c1 B/j1/update/accepted {"timestamp":1700000000}`, `B/notify {"timestamp":1700000000,"jobs":{}}`, `B/notify-next {"timestamp":1700000000}`)
}

func TestAnsweredAfterTold(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := client{r, "c1"}
	r.h.HandlePublish(c, Message{Topic: "$aws/things/t1/jobs/get", Payload: []byte("{")}) // answered at once
	if r.owed != 0 {
		t.Errorf("%d expected", r.owed)
	}
	r.h.HandlePublish(c, Message{Topic: "$aws/things/t1/jobs/get"})
	r.h.HandlePublish(c, Message{Topic: "$aws/things/t1/jobs/start-next"})
	if r.owed != 2 {
		t.Errorf("%d expected before what comes with the answers, want 2", r.owed)
	}
	if r.h.Told(); r.owed != 0 {
		t.Errorf("%d expected after it", r.owed)
	}
}

func TestTheActorIsTheThing(t *testing.T) {
	t.Parallel()
	var actors []string
	h := New(Config{Engine: submit(func(q *iot.Request, reply func(*iot.Answer, error)) {
		actors = append(actors, q.Actor)
		reply(new(iot.Answer), nil)
	})})
	h.HandlePublish(client{newRig(t), "c1"}, Message{Topic: "$aws/things/t1/jobs/start-next"})
	if !slices.Equal(actors, []string{"thing:t1"}) {
		t.Errorf("actors %v", actors)
	}
}
