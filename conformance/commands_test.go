package conformance

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/fxamacker/cbor/v2"
)

// Commands (registry spec §11, statements 190 to 206).

// command creates a command with a payload, and returns its ARN.
func (f *fleet) command(n, contentType, payload string) string {
	f.t.Helper()
	out, err := f.api.CreateCommand(f.ctx, &iot.CreateCommandInput{CommandId: aws.String(f.name(n)), Payload: &types.CommandPayload{Content: []byte(payload), ContentType: optionalText(contentType)}})
	f.must(err)
	if aws.ToString(out.CommandArn) != f.arn("command", f.name(n)) {
		f.t.Errorf("%+v", out)
	}
	return *out.CommandArn
}

func optionalText(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// start starts an execution and returns its id.
func (f *fleet) start(command, target string, more ...string) string {
	f.t.Helper()
	status, _, answer := f.tryStart(command, target, more...)
	id, _ := answer["executionId"].(string)
	if status != http.StatusOK || id == "" {
		f.t.Fatalf("start %s: %d %v", command, status, answer)
	}
	return id
}

// tryStart is start with what comes of it. more are members of the request, as JSON.
func (f *fleet) tryStart(command, target string, more ...string) (int, http.Header, map[string]any) {
	f.t.Helper()
	body := fmt.Sprintf(`{"commandArn":%q,"targetArn":%q`, command, target)
	for _, m := range more {
		body += "," + m
	}
	return f.call("iot-jobs-data", http.MethodPost, "/command-executions", body+"}")
}

// notStarted checks that a start is refused.
func (f *fleet) notStarted(code string, command, target string, more ...string) {
	f.t.Helper()
	if status, h, answer := f.tryStart(command, target, more...); status < 400 || h.Get("X-Amzn-Errortype") != code {
		f.t.Errorf("start of %s with %v: %d %s %v, want %s", command, more, status, h.Get("X-Amzn-Errortype"), answer, code)
	}
}

func (f *fleet) commandExecution(id, target string) *iot.GetCommandExecutionOutput {
	f.t.Helper()
	out, err := f.api.GetCommandExecution(f.ctx, &iot.GetCommandExecutionInput{ExecutionId: &id, TargetArn: &target, IncludeResult: aws.Bool(true)})
	f.must(err)
	return out
}

// servant is a device that carries commands out.
type servant struct {
	*device
	root, target string
	answers      int
}

// servant connects a device that listens for commands for a thing, or for its client id.
func (f *fleet) servant(kind, name string, version int) *servant {
	f.t.Helper()
	s := &servant{device: f.connectAs(name, name, version), root: "$aws/commands/" + kind + "s/" + name + "/executions/", target: f.arn(kind, name)}
	for _, rest := range []string{"+/request/+", "+/request", "+/response/accepted", "+/response/accepted/+", "+/response/rejected", "+/response/rejected/+"} {
		f.must(s.subscribe(s.root+rest, 1))
	}
	return s
}

// request waits for the request of an execution.
func (s *servant) request(id string) message {
	s.f.t.Helper()
	m, err := s.wait(0, func(m message) bool { return strings.HasPrefix(m.topic, s.root+id+"/request") })
	s.f.must(err)
	return m
}

// report reports and returns what comes of it: "accepted", or the code of the refusal.
func (s *servant) report(id, format, payload string) string {
	s.f.t.Helper()
	s.f.must(s.publish(s.root+id+"/response/"+format, payload, 1))
	m, err := s.wait(s.answers, func(m message) bool { return strings.Contains(m.topic, "/response/") })
	s.f.must(err)
	s.answers++
	out := m.json
	if format == "cbor" {
		s.f.must(cbor.Unmarshal([]byte(m.payload), &out))
	}
	switch {
	case out["executionId"] != id:
	case m.topic == s.root+id+"/response/accepted/"+format && len(out) == 1:
		return "accepted"
	case m.topic == s.root+id+"/response/rejected/"+format && out["errorMessage"] != "" && len(out) == 3:
		return out["error"].(string)
	}
	s.f.t.Fatalf("%s: %v", m.topic, out)
	return ""
}

func (s *servant) reports(id, payload, want string) {
	s.f.t.Helper()
	if got := s.report(id, "json", payload); got != want {
		s.f.t.Errorf("%s: %s, want %s", payload, got, want)
	}
}

// TestR190R191R204Requests: devices are told the exact bytes, on the topic that says what they are.
func TestR190R191R204Requests(t *testing.T) {
	f := newFleet(t)
	for _, version := range []int{4, 5} {
		for contentType, suffix := range map[string]string{"application/json": "/json", "application/cbor": "/cbor", "text/plain": "", "": ""} {
			payload := "\x00\xff{ \"x\": 1 }"
			arn := f.command(fmt.Sprintf("c%d%s", version, strings.ReplaceAll(contentType, "/", "-")), contentType, payload)
			for _, kind := range []string{"thing", "client"} {
				name := f.name(fmt.Sprintf("%s%d%d", kind, version, len(contentType)))
				if kind == "thing" {
					name = f.thing(fmt.Sprintf("%s%d%d", kind, version, len(contentType)))
				}
				s := f.servant(kind, name, version)
				id := f.start(arn, s.target)
				if m := s.request(id); m.topic != s.root+id+"/request"+suffix || m.payload != payload {
					t.Errorf("%q: %s %q", contentType, m.topic, m.payload)
				}
				if x := f.commandExecution(id, s.target); x.Status != "CREATED" || aws.ToString(x.TargetArn) != s.target || aws.ToString(x.CommandArn) != arn || aws.ToInt64(x.ExecutionTimeoutSeconds) != 10 ||
					x.CompletedAt != nil || x.TimeToLive.Before(time.Now().AddDate(0, 5, 0)) || !x.StartedAt.Equal(*x.CreatedAt) {
					t.Errorf("%+v", x)
				}
				s.reports(id, `{"status":"SUCCEEDED"}`, "accepted")
				if x := f.commandExecution(id, s.target); x.Status != "SUCCEEDED" || x.CompletedAt == nil {
					t.Errorf("%+v", x)
				}
			}
		}
	}
	arn := f.arn("command", f.name("c4"))
	f.notStarted("ResourceNotFoundException", f.arn("command", f.name("missing")), f.thingARN(f.name("thing40")))
	f.notStarted("ResourceNotFoundException", arn, f.thingARN(f.name("nobody")))
	f.notStarted("ValidationException", arn, f.groupARN("g"))
	f.notStarted("ValidationException", f.thingARN("x"), f.thingARN(f.name("thing40")))
	f.notStarted("ValidationException", arn, "x")
	for _, name := range []string{"a/b", "a+", "#", strings.Repeat("x", 129)} {
		f.notStarted("ValidationException", arn, f.arn("client", name))
	}
	f.notStarted("ValidationException", arn, f.thingARN(f.name("thing40")), `"executionTimeoutSeconds":0`)
	f.notStarted("ValidationException", arn, f.thingARN(f.name("thing40")), `"executionTimeoutSeconds":43201`)
	f.notStarted("ValidationException", arn, f.thingARN(f.name("thing40")), `"parameters":{"x":{"S":"y"}}`)

	// A token starts one execution.
	once := f.start(arn, f.thingARN(f.name("thing40")), `"clientToken":"`+f.name("token")+`"`)
	if again := f.start(arn, f.thingARN(f.name("thing40")), `"clientToken":"`+f.name("token")+`"`); again != once {
		t.Errorf("%s and %s", once, again)
	}
	f.notStarted("ConflictException", arn, f.thingARN(f.name("thing40")), `"clientToken":"`+f.name("token")+`"`, `"executionTimeoutSeconds":11`)
}

// TestR192ToR196TimesAndReports: what devices may report when. The time is moved, so that these have a server of their own.
func TestR192ToR196TimesAndReports(t *testing.T) {
	f := fleetOn(t, ownServer(t, "--test", "--limit-device-commands", "1"))
	arn := f.command("c", "", "x")
	s := f.servant("thing", f.thing("t"), 4)
	f.must(s.subscribe("$aws/events/commandExecution/#", 1))
	move := func(d string) {
		t.Helper()
		if status, _, answer := f.call("iot", http.MethodPost, "/_drover/clock", `{"advance":"`+d+`"}`); status != http.StatusOK {
			t.Fatalf("%d %v", status, answer)
		}
	}
	late := f.start(arn, s.target)
	s.reports(late, `{"status":"IN_PROGRESS"}`, "accepted")
	move("9s")
	if x := f.commandExecution(late, s.target); x.Status != "IN_PROGRESS" {
		t.Errorf("%+v", x)
	}
	s.reports(late, `{"status":"IN_PROGRESS","statusReason":{"reasonCode":"HALF_WAY","reasonDescription":"50 %"}}`, "accepted") // does not restart the timer
	move("1s")
	if x := f.commandExecution(late, s.target); x.Status != "TIMED_OUT" || aws.ToString(x.StatusReason.ReasonCode) != "$NO_RESPONSE_FROM_DEVICE" || x.CompletedAt != nil || !x.StartedAt.After(*x.CreatedAt) && !x.StartedAt.Equal(*x.CreatedAt) {
		t.Errorf("%+v", x)
	}
	s.reports(late, `{"status":"IN_PROGRESS"}`, "InvalidStateTransition")
	s.reports(late, `{"status":"SUCCEEDED"}`, "accepted")
	if x := f.commandExecution(late, s.target); x.Status != "SUCCEEDED" || x.CompletedAt == nil || x.StatusReason != nil {
		t.Errorf("%+v", x)
	}
	s.reports(late, `{"status":"IN_PROGRESS"}`, "TerminalStateReached")
	s.reports(late, `{"status":"FAILED"}`, "TerminalStateReached")

	gaveUp := f.start(arn, s.target, `"executionTimeoutSeconds":43200`)
	s.reports(gaveUp, `{"status":"TIMED_OUT","statusReason":{"reasonCode":"NO_ANSWER"}}`, "accepted")
	s.reports(gaveUp, `{"status":"SUCCEEDED"}`, "TerminalStateReached")
	move("13h")
	if x := f.commandExecution(gaveUp, s.target); x.Status != "TIMED_OUT" || aws.ToString(x.StatusReason.ReasonCode) != "NO_ANSWER" || x.CompletedAt == nil {
		t.Errorf("%+v", x)
	}

	long := f.start(arn, s.target, `"executionTimeoutSeconds":43200`)
	if status, h, _ := f.tryStart(arn, s.target); status != http.StatusPaymentRequired || h.Get("X-Amzn-Errortype") != "ServiceQuotaExceededException" {
		t.Errorf("one more than may run: %d %s", status, h.Get("X-Amzn-Errortype"))
	}
	move("11h59m59s")
	if x := f.commandExecution(long, s.target); x.Status != "CREATED" {
		t.Errorf("%+v", x)
	}
	move("1s")
	if x := f.commandExecution(long, s.target); x.Status != "TIMED_OUT" {
		t.Errorf("%+v", x)
	}
	// An event for each status, in its order.
	var events []string
	for i := range 8 {
		m, err := s.wait(i, func(m message) bool { return strings.HasPrefix(m.topic, "$aws/events/") })
		f.must(err)
		events = append(events, strings.TrimPrefix(m.topic, "$aws/events/commandExecution/"+f.name("c")+"/"))
	}
	if want := []string{"CREATED", "IN_PROGRESS", "IN_PROGRESS", "TIMED_OUT", "SUCCEEDED", "CREATED", "TIMED_OUT", "CREATED"}; !slices.Equal(events, want) {
		t.Errorf("%v, want %v", events, want)
	}
}

func TestR197R198R205Results(t *testing.T) {
	f := newFleet(t)
	arn := f.command("c", "", "x")
	for _, version := range []int{4, 5} {
		s := f.servant("thing", f.thing(fmt.Sprint("t", version)), version)
		watch := f.connectAs(f.name("watch"), f.name(fmt.Sprint("watch", version)), version)
		f.must(watch.subscribe("$aws/events/commandExecution/+/SUCCEEDED", 1))
		id := f.start(arn, s.target, `"executionTimeoutSeconds":600`)
		for payload, want := range map[string]string{
			`{"status":"SUCCEEDED","result":{}}`:                               "InvalidRequest",
			`{"status":"SUCCEEDED","result":{"k":{"S":"x"}}}`:                  "InvalidRequest",
			`{"status":"SUCCEEDED","result":{"k":{"s":"x","b":true}}}`:         "InvalidRequest",
			`{"status":"SUCCEEDED","result":{"k":{"s":1}}}`:                    "InvalidRequest",
			`{"status":"SUCCEEDED","result":{"a b":{"s":"x"}}}`:                "InvalidRequest",
			`{"status":"SUCCEEDED","result":{"k":{"bin":"%"}}}`:                "InvalidRequest",
			`{"status":"SUCCEEDED","result":[]}`:                               "InvalidRequest",
			`{"status":"CREATED"}`:                                             "InvalidRequest",
			`{"status":7}`:                                                     "InvalidRequest",
			`{}`:                                                               "InvalidRequest",
			`[]`:                                                               "InvalidRequest",
			`{"status":"FAILED","statusReason":{"reasonCode":"lower"}}`:        "InvalidRequest",
			`{"status":"FAILED","statusReason":{"reasonCode":"$NO_RESPONSE"}}`: "InvalidRequest",
			`{"status":"FAILED","statusReason":{}}`:                            "InvalidRequest",
			`{"status":"SUCCEEDED","statusReason":{"reasonCode":"A` + "\\u0000" + `"}}`: "InvalidRequest",
			`{"status":`: "InvalidJson",
		} {
			s.reports(id, payload, want)
		}
		s.reports("00000000-0000-0000-0000-000000000000", `{"status":"FAILED"}`, "ResourceNotFound")
		other := f.servant("thing", f.thing(fmt.Sprint("other", version)), version)
		other.reports(id, `{"status":"FAILED"}`, "ResourceNotFound")

		payload, err := cbor.Marshal(map[string]any{"status": "SUCCEEDED", "deviceId": "ignored", "statusReason": map[string]any{"reasonCode": "OK", "reasonDescription": "all well"},
			"result": map[string]any{"text": map[string]any{"s": "x"}, "yes": map[string]any{"b": true}, "bytes": map[string]any{"bin": []byte{0, 255}}}})
		f.must(err)
		if got := s.report(id, "cbor", string(payload)); got != "accepted" {
			t.Error(got)
		}
		x := f.commandExecution(id, s.target)
		if r := x.Result; len(r) != 3 || aws.ToString(r["text"].S) != "x" || !aws.ToBool(r["yes"].B) || string(r["bytes"].BIN) != "\x00\xff" || aws.ToString(x.StatusReason.ReasonDescription) != "all well" {
			t.Errorf("%+v", x)
		}
		without, err := f.api.GetCommandExecution(f.ctx, &iot.GetCommandExecutionInput{ExecutionId: &id, TargetArn: &s.target})
		f.must(err)
		if without.Result != nil || without.Status != "SUCCEEDED" {
			t.Errorf("%+v", without)
		}
		m, err := watch.wait(0, func(m message) bool { return m.json["executionId"] == id })
		f.must(err)
		at, _ := m.json["timestamp"].(float64)
		if m.topic != "$aws/events/commandExecution/"+f.name("c")+"/SUCCEEDED" || m.json["eventType"] != "COMMAND_EXECUTION" || m.json["commandArn"] != arn || m.json["targetArn"] != s.target ||
			path(m.json, "statusReason", "reasonCode") != "OK" || time.Since(time.UnixMilli(int64(at))) > time.Hour {
			t.Errorf("%s %v", m.topic, m.json)
		}
		// Not a format, and not for devices.
		f.must(s.publish(s.root+id+"/response/xml", `{"status":"FAILED"}`, 1))
		if m, err := s.wait(s.answers, func(m message) bool { return strings.Contains(m.topic, "/response/") }); err != nil || m.topic != s.root+id+"/response/rejected" || m.json["error"] != "InvalidTopic" {
			t.Errorf("%v, %v", m, err)
		}
		if err := s.publish(s.root+id+"/request/json", `{}`, 1); err == nil && version == 5 {
			t.Error("a device has published a request")
		}
	}
}

func TestR199R200LivesOfCommands(t *testing.T) {
	f := fleetOn(t, ownServer(t, "--test"))
	target := f.thingARN(f.thing("t"))
	arn := f.command("c", "", "x")
	id := f.name("c")
	_, err := f.api.CreateCommand(f.ctx, &iot.CreateCommandInput{CommandId: &id, Payload: &types.CommandPayload{Content: []byte("x")}})
	f.refused(err, "ConflictException", 409)
	deprecate := func(id string, yes bool) error {
		_, err := f.api.UpdateCommand(f.ctx, &iot.UpdateCommandInput{CommandId: &id, Deprecated: &yes})
		return err
	}
	move := func(d string) {
		t.Helper()
		if status, _, answer := f.call("iot", http.MethodPost, "/_drover/clock", `{"advance":"`+d+`"}`); status != http.StatusOK {
			t.Fatalf("%d %v", status, answer)
		}
	}
	remove := func(id string) int {
		t.Helper()
		out, err := f.api.DeleteCommand(f.ctx, &iot.DeleteCommandInput{CommandId: &id})
		f.must(err)
		return int(out.StatusCode)
	}
	listed := func() (ids []string) {
		pages := iot.NewListCommandsPaginator(f.api, &iot.ListCommandsInput{MaxResults: aws.Int32(1), SortOrder: "ASCENDING"})
		for pages.HasMorePages() {
			page, err := pages.NextPage(f.ctx)
			f.must(err)
			for _, c := range page.Commands {
				ids = append(ids, *c.CommandId)
			}
		}
		return ids
	}
	updated, err := f.api.UpdateCommand(f.ctx, &iot.UpdateCommandInput{CommandId: &id, DisplayName: aws.String("name"), Description: aws.String("words")})
	f.must(err)
	if aws.ToString(updated.DisplayName) != "name" || aws.ToString(updated.Description) != "words" || aws.ToBool(updated.Deprecated) {
		t.Errorf("%+v", updated)
	}
	running := f.start(arn, target)
	f.must(deprecate(id, true))
	f.notStarted("ValidationException", arn, target)
	if x := f.commandExecution(running, target); x.Status != "CREATED" {
		t.Errorf("%+v", x)
	}
	f.must(deprecate(id, false))
	f.start(arn, target)
	f.refused(deprecate(f.name("missing"), true), "ResourceNotFoundException", 404)

	if status := remove(id); status != http.StatusAccepted {
		t.Errorf("a fresh command: %d", status)
	}
	got, err := f.api.GetCommand(f.ctx, &iot.GetCommandInput{CommandId: &id})
	f.must(err)
	if !aws.ToBool(got.PendingDeletion) || string(got.Payload.Content) != "x" || aws.ToString(got.Payload.ContentType) != "application/octet-stream" || aws.ToString(got.Description) != "words" || got.Namespace != "AWS-IoT" {
		t.Errorf("%+v", got)
	}
	f.notStarted("ValidationException", arn, target)
	f.refused(deprecate(id, false), "ConflictException", 409)
	old := f.command("old", "", "x")
	f.must(deprecate(f.name("old"), true))
	if ids := listed(); !slices.Equal(ids, []string{f.name("old")}) {
		t.Errorf("%v", ids)
	}
	move("12h0m1s")
	_, err = f.api.GetCommand(f.ctx, &iot.GetCommandInput{CommandId: &id})
	f.refused(err, "ResourceNotFoundException", 404)
	if status := remove(f.name("old")); status != http.StatusNoContent {
		t.Errorf("deprecated for more than 12 h: %d", status)
	}
	f.notStarted("ResourceNotFoundException", old, target)
	if status := remove(f.name("old")); status != http.StatusNoContent {
		t.Errorf("gone: %d", status)
	}
}

func TestR201Templates(t *testing.T) {
	f := newFleet(t)
	s := f.servant("thing", f.thing("t"), 5)
	create := func(n string, format types.OutputFormat, template string, parameters ...types.CommandParameter) (string, error) {
		out, err := f.api.CreateCommand(f.ctx, &iot.CreateCommandInput{
			CommandId: aws.String(f.name(n)), PayloadTemplate: &template, MandatoryParameters: parameters,
			Preprocessor: &types.CommandPreprocessor{AwsJsonSubstitution: &types.AwsJsonSubstitutionCommandPreprocessorConfig{OutputFormat: format}},
		})
		if err != nil {
			return "", err
		}
		return *out.CommandArn, nil
	}
	const p = "${aws:iot:commandexecution::parameter:"
	template := `{"color":"` + p + `color}","level":"` + p + `level}","text":"at ` + p + `level}, ` + p + `color}","list":["` + p + `raw}",1.5,null,true],"timeout":"${aws:iot:commandexecution::executionTimeoutSec}"}`
	parameters := []types.CommandParameter{
		{Name: aws.String("color"), Type: "STRING", DefaultValue: &types.CommandParameterValue{S: aws.String("red \"one\"")}, ValueConditions: []types.CommandParameterValueCondition{
			{ComparisonOperator: "NOT_IN_SET", Operand: &types.CommandParameterValueComparisonOperand{Strings: []string{"black", "white"}}},
		}},
		{Name: aws.String("level"), Type: "INTEGER", ValueConditions: []types.CommandParameterValueCondition{
			{ComparisonOperator: "IN_RANGE", Operand: &types.CommandParameterValueComparisonOperand{NumberRange: &types.CommandParameterValueNumberRange{Min: aws.String("1"), Max: aws.String("5")}}},
			{ComparisonOperator: "NOT_EQUALS", Operand: &types.CommandParameterValueComparisonOperand{Number: aws.String("3")}},
		}},
		{Name: aws.String("raw"), Type: "BINARY", Value: &types.CommandParameterValue{BIN: []byte{0, 255}}},
	}
	arn, err := create("json", "JSON", template, parameters...)
	f.must(err)
	id := f.start(arn, s.target, `"parameters":{"level":{"I":5}}`)
	const want = `{"color":"red \"one\"","level":5,"text":"at 5, red \"one\"","list":["AP8=",1.5,null,true],"timeout":10}`
	if m := s.request(id); m.payload != want || !strings.HasSuffix(m.topic, "/request/json") {
		t.Errorf("%s %s\nwant %s", m.topic, m.payload, want)
	}
	if x := f.commandExecution(id, s.target); len(x.Parameters) != 1 || aws.ToInt32(x.Parameters["level"].I) != 5 {
		t.Errorf("%+v", x.Parameters)
	}
	got, err := f.api.GetCommand(f.ctx, &iot.GetCommandInput{CommandId: aws.String(f.name("json"))})
	f.must(err)
	if aws.ToString(got.PayloadTemplate) != template || got.Preprocessor.AwsJsonSubstitution.OutputFormat != "JSON" || len(got.MandatoryParameters) != 3 || got.Payload != nil ||
		aws.ToString(got.MandatoryParameters[1].ValueConditions[0].Operand.NumberRange.Max) != "5" || string(got.MandatoryParameters[2].Value.BIN) != "\x00\xff" {
		t.Errorf("%+v", got)
	}

	arn, err = create("cbor", "CBOR", template, parameters...)
	f.must(err)
	id = f.start(arn, s.target, `"parameters":{"level":{"I":1},"color":{"S":"blue"}}`, `"executionTimeoutSeconds":60`)
	m := s.request(id)
	var tree map[string]any
	f.must(cbor.Unmarshal([]byte(m.payload), &tree))
	if got := fmt.Sprintf("%v", tree); got != `map[color:blue level:1 list:[[0 255] 1.5 <nil> true] text:at 1, blue timeout:60]` || !strings.HasSuffix(m.topic, "/request/cbor") {
		t.Errorf("%s %s", m.topic, got)
	}

	// Nothing is started that does not satisfy the conditions.
	for _, bad := range []string{
		`"parameters":{"level":{"I":6}}`, `"parameters":{"level":{"I":3}}`, `"parameters":{"level":{"I":0}}`, `"parameters":{"level":{"S":"2"}}`, `"parameters":{"level":{"I":2,"L":2}}`,
		`"parameters":{"level":{"I":2},"color":{"S":"black"}}`, `"parameters":{"level":{"I":2},"other":{"S":"x"}}`, `"parameters":{"color":{"S":"x"}}`,
	} {
		f.notStarted("ValidationException", arn, s.target, bad)
	}
	list, err := f.api.ListCommandExecutions(f.ctx, &iot.ListCommandExecutionsInput{CommandArn: &arn, StartedTimeFilter: &types.TimeFilter{After: aws.String("2020-01-01T00:00")}})
	f.must(err)
	if len(list.CommandExecutions) != 1 {
		t.Errorf("%d executions", len(list.CommandExecutions))
	}

	// What cannot be a command.
	for name, template := range map[string]string{"no JSON": `{"a":"` + p + `color}"`, "no placeholder": `{}`, "not a parameter": `{"a":"` + p + `other}"}`, "not terminated": `{"a":"` + p + `color"}`} {
		if _, err := create("bad", "JSON", template, parameters...); failure(err) != "ValidationException" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, in := range map[string]*iot.CreateCommandInput{
		"neither":             {},
		"both":                {Payload: &types.CommandPayload{Content: []byte("x")}, PayloadTemplate: &template},
		"large":               {Payload: &types.CommandPayload{Content: make([]byte, 32769)}},
		"FleetWise":           {Namespace: "AWS-IoT-FleetWise", Payload: &types.CommandPayload{Content: []byte("x")}},
		"a value of no type":  {Payload: &types.CommandPayload{Content: []byte("x")}, MandatoryParameters: []types.CommandParameter{{Name: aws.String("p"), Type: "LONG", DefaultValue: &types.CommandParameterValue{S: aws.String("x")}}}},
		"a condition of none": {Payload: &types.CommandPayload{Content: []byte("x")}, MandatoryParameters: []types.CommandParameter{{Name: aws.String("p"), Type: "BOOLEAN", ValueConditions: parameters[1].ValueConditions}}},
	} {
		in.CommandId = aws.String(f.name("bad"))
		_, err := f.api.CreateCommand(f.ctx, in)
		f.refused(err, "ValidationException", 400)
		_ = name
	}
}

func TestR202R203R206Executions(t *testing.T) {
	f := newFleet(t)
	arns := []string{f.command("a", "", "x"), f.command("b", "", "x")}
	s := f.servant("thing", f.thing("t"), 4)
	other := f.thingARN(f.thing("other"))
	var ids []string
	for i := range 4 {
		ids = append(ids, f.start(arns[i%2], s.target, `"executionTimeoutSeconds":600`))
	}
	elsewhere := f.start(arns[0], other, `"executionTimeoutSeconds":600`)
	s.reports(ids[2], `{"status":"FAILED"}`, "accepted")
	s.reports(ids[0], `{"status":"SUCCEEDED"}`, "accepted")
	always := &types.TimeFilter{After: aws.String("2020-01-01T00:00")}
	list := func(in iot.ListCommandExecutionsInput) (found []string) {
		t.Helper()
		in.MaxResults = aws.Int32(1)
		pages := iot.NewListCommandExecutionsPaginator(f.api, &in)
		for pages.HasMorePages() {
			page, err := pages.NextPage(f.ctx)
			f.must(err)
			for _, x := range page.CommandExecutions {
				found = append(found, *x.ExecutionId)
			}
		}
		return found
	}
	for _, c := range []struct {
		in   iot.ListCommandExecutionsInput
		want []string
	}{
		{iot.ListCommandExecutionsInput{TargetArn: &s.target, StartedTimeFilter: always}, []string{ids[3], ids[2], ids[1], ids[0]}},
		{iot.ListCommandExecutionsInput{TargetArn: &s.target, StartedTimeFilter: always, SortOrder: "ASCENDING"}, ids},
		{iot.ListCommandExecutionsInput{CommandArn: &arns[0], StartedTimeFilter: always}, []string{elsewhere, ids[2], ids[0]}},
		{iot.ListCommandExecutionsInput{TargetArn: &s.target, CompletedTimeFilter: always}, []string{ids[0], ids[2]}},
		{iot.ListCommandExecutionsInput{TargetArn: &s.target, CompletedTimeFilter: always, Status: "FAILED"}, []string{ids[2]}},
		{iot.ListCommandExecutionsInput{TargetArn: &s.target, StartedTimeFilter: &types.TimeFilter{Before: aws.String("2020-01-01T00:00")}}, nil},
		{iot.ListCommandExecutionsInput{TargetArn: &s.target, StartedTimeFilter: always, Namespace: "AWS-IoT-FleetWise"}, nil},
	} {
		if got := list(c.in); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v, want %v", c.in, got, c.want)
		}
	}
	for name, in := range map[string]*iot.ListCommandExecutionsInput{
		"both": {TargetArn: &s.target, CommandArn: &arns[0], StartedTimeFilter: always}, "neither": {StartedTimeFilter: always}, "no time": {TargetArn: &s.target},
		"two times": {TargetArn: &s.target, StartedTimeFilter: always, CompletedTimeFilter: always}, "a bad time": {TargetArn: &s.target, StartedTimeFilter: &types.TimeFilter{After: aws.String("yesterday")}},
		"a bad ARN": {TargetArn: aws.String("x"), StartedTimeFilter: always}, "a group": {TargetArn: aws.String(f.groupARN("g")), StartedTimeFilter: always},
	} {
		_, err := f.api.ListCommandExecutions(f.ctx, in)
		if failure(err) != "ValidationException" {
			t.Errorf("%s: %v", name, err)
		}
	}
	// One path, two planes.
	status, _, answer := f.call("iot", http.MethodPost, "/command-executions", fmt.Sprintf(`{"targetArn":%q,"startedTimeFilter":{}}`, s.target))
	if all, _ := answer["commandExecutions"].([]any); status != http.StatusOK || len(all) != 4 {
		t.Errorf("%d %v", status, answer)
	}

	remove := func(id, target string) error {
		_, err := f.api.DeleteCommandExecution(f.ctx, &iot.DeleteCommandExecutionInput{ExecutionId: &id, TargetArn: &target})
		return err
	}
	f.refused(remove(ids[1], s.target), "ConflictException", 409)
	s.reports(ids[1], `{"status":"IN_PROGRESS"}`, "accepted")
	f.refused(remove(ids[1], s.target), "ConflictException", 409)
	f.refused(remove(ids[0], other), "ResourceNotFoundException", 404)
	f.must(remove(ids[0], s.target))
	_, err := f.api.GetCommandExecution(f.ctx, &iot.GetCommandExecutionInput{ExecutionId: &ids[0], TargetArn: &s.target})
	f.refused(err, "ResourceNotFoundException", 404)
}

// TestCommandsAreForThoseWhoMay: devices report on their own, and start nothing.
func TestCommandsAreForThoseWhoMay(t *testing.T) {
	f := tlsFleet(t)
	arn := f.command("c", "", "x")
	cert := f.newCertificate(true)
	thing := f.thing("mine")
	f.must(f.attach(thing, cert.id, ""))
	own := "$aws/commands/things/${iot:Connection.Thing.ThingName}/executions/*"
	policy := f.policy("commands", f.say("Allow", "iot:Connect", "client/*"),
		f.say("Allow", "iot:Publish", "topic/"+own), f.say("Allow", "iot:Receive", "topic/"+own), f.say("Allow", "iot:Subscribe", "topicfilter/"+own))
	f.must(f.attachPolicy(policy, f.certARN(cert.id)))
	dev, err := f.overTLS(f.mqtts, f.config(with(cert)), thing, 5)
	f.must(err)
	s := &servant{device: dev, root: "$aws/commands/things/" + thing + "/executions/", target: f.thingARN(thing)}
	f.must(s.subscribe(s.root+"+/request", 1))
	f.must(s.subscribe(s.root+"+/response/accepted/+", 1))
	id := f.start(arn, s.target)
	s.request(id)
	s.reports(id, `{"status":"SUCCEEDED"}`, "accepted")
	if err := s.publish("$aws/commands/things/"+f.name("other")+"/executions/"+id+"/response/json", `{"status":"FAILED"}`, 1); err == nil {
		t.Error("reported for another thing")
	}
	limited := f.newKey("starter", f.say("Allow", "iot:StartCommandExecution", "command/"+f.name("c")), f.say("Allow", "iot:StartCommandExecution", "thing/"+thing))
	limited.start(arn, s.target)
	limited.notStarted("AccessDeniedException", arn, f.thingARN(f.name("other")))
	t.Run("and who does is in the audit log", func(t *testing.T) {
		oneServer(t, "the audit log")
		starts := 0
		for _, e := range f.audit("--operation", "StartCommandExecution") {
			if slices.Contains(e.Targets, arn) && slices.Contains(e.Targets, s.target) && e.Allowed {
				starts++
			}
		}
		if starts != 2 {
			t.Errorf("%d starts are in the audit log", starts)
		}
	})
	body := fmt.Sprintf(`{"commandArn":%q,"targetArn":%q}`, arn, s.target)
	if status := f.send(f.httpClient(f.config(with(cert))), http.MethodPost, f.deviceHTTPS+"/command-executions", body); status != http.StatusForbidden {
		t.Errorf("a device has started a command: %d", status)
	}
}
