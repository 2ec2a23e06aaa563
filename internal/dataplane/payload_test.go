package dataplane

import (
	"encoding/json"
	"maps"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"drover/internal/iot"
)

func TestDecode(t *testing.T) {
	t.Parallel()
	version := func(n int64) *int64 { return &n }
	for _, c := range []struct {
		op      iot.Op
		payload string
		want    iot.Request // but for Op
		token   string
	}{
		{iot.OpGetPending, ``, iot.Request{}, ``},
		{iot.OpGetPending, ` {} `, iot.Request{}, ``},
		{iot.OpGetPending, `{"clientToken":"c"}`, iot.Request{}, `"c"`},
		{iot.OpGetPending, `{"statusDetails":1,"stepTimeoutInMinutes":"x","executionNumber":[]}`, iot.Request{}, ``}, // not its members
		{iot.OpGetPending, `{"clientToken":""}`, iot.Request{}, `""`},
		{iot.OpGetPending, `{"clientToken":"\ud800\u00e9\/"}`, iot.Request{}, `"\ud800\u00e9\/"`},
		{iot.OpGetPending, `{"clientToken":"a","clientToken":"b"}`, iot.Request{}, `"b"`},
		{iot.OpGetPending, `{"client\u0054oken":"c"}`, iot.Request{}, `"c"`},
		{iot.OpGetPending, `{"ClientToken":"c","clientToken":null}`, iot.Request{}, ``},
		{iot.OpGetPending, `{"x":{"clientToken":"no","y":[{"z":"}]\"{"}]},"clientToken" : "c" , "u":-1.5e+3}`, iot.Request{}, `"c"`},

		{iot.OpStartNext, ``, iot.Request{WantDocument: true}, ``},
		{iot.OpStartNext, `{"statusDetails":{"a":"1","b\n":"\u00e9\"\\\n"},"jobId":"x","includeJobDocument":false}`,
			iot.Request{WantDocument: true, Details: iot.Details{"a": "1", "b\n": "é\"\\\n"}}, ``},
		{iot.OpStartNext, `{"statusDetails":{}}`, iot.Request{WantDocument: true, Details: iot.Details{}}, ``},
		{iot.OpStartNext, `{"statusDetails":{"a":null,"b":"1","b":"2"}}`, iot.Request{WantDocument: true, Details: iot.Details{"b": "2"}}, ``},
		{iot.OpStartNext, `{"statusDetails":null,"stepTimeoutInMinutes":-1}`, iot.Request{WantDocument: true, StepTimeout: stepTimeout(-1)}, ``},

		{iot.OpDescribe, `{}`, iot.Request{WantDocument: true}, ``},
		{iot.OpDescribe, `{"includeJobDocument":true,"executionNumber":1.0}`, iot.Request{WantDocument: true, Number: 1}, ``},
		{iot.OpDescribe, `{"includeJobDocument":false,"executionNumber":12e1}`, iot.Request{Number: 120}, ``},
		{iot.OpDescribe, `{"executionNumber":9223372036854775807}`, iot.Request{WantDocument: true, Number: 1<<63 - 1}, ``},

		{iot.OpUpdate, `{"status":"SUCCEEDED"}`, iot.Request{Status: iot.Succeeded}, ``},
		{iot.OpUpdate, `{"status":null}`, iot.Request{}, ``}, // refused by Request.Check
		{iot.OpUpdate, `{"status":"IN_PROGRESS","statusDetails":{"k":"v"},"expectedVersion":"3","executionNumber":2,` +
			`"includeJobExecutionState":true,"includeJobDocument":true,"stepTimeoutInMinutes":-1,"clientToken":"c"}`,
			iot.Request{Status: iot.InProgress, Details: iot.Details{"k": "v"}, ExpectedVersion: version(3), Number: 2, WantState: true, StepTimeout: stepTimeout(-1), WantDocument: true}, `"c"`},
		{iot.OpUpdate, `{"status":"FAILED","expectedVersion":3}`, iot.Request{Status: iot.Failed, ExpectedVersion: version(3)}, ``},
		{iot.OpUpdate, `{"status":"REJECTED","expectedVersion":null,"executionNumber":null,"includeJobDocument":null}`, iot.Request{Status: iot.Rejected}, ``},
	} {
		r := iot.Request{Op: c.op}
		c.want.Op = c.op
		if token, err := decode([]byte(c.payload), &r); err != nil || token != c.token || !reflect.DeepEqual(r, c.want) {
			t.Errorf("%s\n got %+v, token %s, %v\nwant %+v, token %s", c.payload, r, token, err, c.want, c.token)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	const deep = 20000
	for _, c := range []struct {
		op      iot.Op
		payload string
		code    iot.Code
		part    string // of the message
	}{
		{iot.OpGetPending, `{bad`, invalidJSON, "JSON"},
		{iot.OpGetPending, ` `, invalidJSON, "JSON"},
		{iot.OpGetPending, `{} {}`, invalidJSON, "JSON"},
		{iot.OpGetPending, "{\"clientToken\":\"\xff\"}", invalidJSON, "UTF-8"},
		{iot.OpGetPending, "\ufeff{}", invalidJSON, "JSON"},
		{iot.OpGetPending, strings.Repeat("[", deep) + strings.Repeat("]", deep), invalidJSON, "JSON"},
		{iot.OpGetPending, `{"a":` + strings.Repeat("[", deep) + strings.Repeat("]", deep) + `}`, invalidJSON, "JSON"},
		{iot.OpGetPending, `[1]`, iot.InvalidRequest, "object"},
		{iot.OpGetPending, `null`, iot.InvalidRequest, "object"},
		{iot.OpGetPending, `"x"`, iot.InvalidRequest, "object"},
		{iot.OpGetPending, `1`, iot.InvalidRequest, "object"},
		{iot.OpGetPending, `{"clientToken":1}`, iot.InvalidRequest, "'clientToken'"},

		{iot.OpStartNext, `{"statusDetails":"x"}`, iot.InvalidRequest, "'statusDetails'"},
		{iot.OpStartNext, `{"statusDetails":{"k":1}}`, iot.InvalidRequest, "'statusDetails.k'"},
		{iot.OpStartNext, `{"statusDetails":{"k":{"a":"b"}}}`, iot.InvalidRequest, "'statusDetails.k'"},
		{iot.OpStartNext, `{"stepTimeoutInMinutes":0}`, iot.InvalidRequest, "Value '0' at 'stepTimeoutInMinutes'"},
		{iot.OpStartNext, `{"stepTimeoutInMinutes":-2}`, iot.InvalidRequest, "between 1 and 10080"},
		{iot.OpStartNext, `{"stepTimeoutInMinutes":10081}`, iot.InvalidRequest, "between 1 and 10080"},
		{iot.OpStartNext, `{"stepTimeoutInMinutes":1.5}`, iot.InvalidRequest, "an integer"},

		{iot.OpDescribe, `{"executionNumber":"1"}`, iot.InvalidRequest, "'executionNumber'"},
		{iot.OpDescribe, `{"executionNumber":0}`, iot.InvalidRequest, "'executionNumber'"},
		{iot.OpDescribe, `{"executionNumber":1e300}`, iot.InvalidRequest, "'executionNumber'"},
		{iot.OpDescribe, `{"includeJobDocument":"true"}`, iot.InvalidRequest, "'includeJobDocument'"},
		{iot.OpUpdate, `{"status":"FAILED","includeJobExecutionState":1}`, iot.InvalidRequest, "'includeJobExecutionState'"},
		{iot.OpUpdate, `{"status":"FAILED","expectedVersion":"x"}`, iot.InvalidRequest, "'expectedVersion'"},
		{iot.OpUpdate, `{"status":"FAILED","expectedVersion":1.5}`, iot.InvalidRequest, "'expectedVersion'"},
		{iot.OpUpdate, `{"status":7}`, iot.InvalidRequest, "'status'"},
		{iot.OpUpdate, `{"status":"SUCCESS"}`, iot.InvalidRequest, "Value 'SUCCESS' at 'status'"},
		{iot.OpUpdate, `{"status":"QUEUED"}`, iot.InvalidRequest, "[IN_PROGRESS, SUCCEEDED, FAILED, REJECTED]"},
		{iot.OpUpdate, `{"status":"CANCELED"}`, iot.InvalidRequest, "'status'"},
	} {
		_, err := decode([]byte(c.payload), &iot.Request{Op: c.op})
		if iot.ErrorCode(err) != c.code || !strings.Contains(err.Error(), c.part) {
			t.Errorf("%.80s: %v, want %s with %q", c.payload, err, c.code, c.part)
		}
	}
}

func TestTokenIsReadBesideErrors(t *testing.T) {
	t.Parallel()
	for _, payload := range []string{
		`{"clientToken":"c","status":1}`, `{"status":1,"clientToken":"c"}`,
		`{"status":1,"executionNumber":"x","clientToken":"c"}`, `{"clientToken":"c","stepTimeoutInMinutes":0}`,
	} {
		if token, err := decode([]byte(payload), &iot.Request{Op: iot.OpUpdate}); err == nil || token != `"c"` {
			t.Errorf("%s: token %s, %v", payload, token, err)
		}
	}
}

func TestAppendString(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"":                      `""`,
		"plain":                 `"plain"`,
		"a\"b\\c":               `"a\"b\\c"`,
		"\t\r\n\x00\x1f\x7f":    `"\t\r\n\u0000\u001f` + "\x7f" + `"`,
		"é€😀\u2028":             `"é€😀` + "\u2028" + `"`,
		"a\xffb\xc3":            `"a` + "\ufffd" + `b` + "\ufffd" + `"`,
		"\ufffd":                "\"\ufffd\"",
		"<a href='x'>&amp;</a>": `"<a href='x'>&amp;</a>"`,
	} {
		if got := string(appendString(nil, s)); got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	}
}

func FuzzRequest(f *testing.F) {
	for _, s := range []string{``, `{}`, `{bad`, `[1]`, `{"clientToken":"c","status":"SUCCEEDED","statusDetails":{"k":"v"}}`,
		`{"expectedVersion":"1","status":"IN_PROGRESS","includeJobExecutionState":true,"includeJobDocument":true}`,
		`{"executionNumber":1,"includeJobDocument":false}`, ` { "a\"" : [ { } , "]" ] , "b" : -0.1e-2 } `} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		r := newRig(t)
		r.queue("j")
		for _, topic := range []string{"get", "j/get", "$next/get", "start-next", "j/update"} {
			answer, _ := r.ask(topic, payload) // the rig checks that it is JSON
			if strings.Contains(answer, "InternalError") {
				t.Errorf("%s: %s", topic, answer)
			}
		}
		checkMembers(t, payload)
	})
}

// checkMembers compares members with encoding/json.
func checkMembers(t *testing.T, payload string) {
	var want map[string]json.RawMessage
	if !utf8.ValidString(payload) || json.Unmarshal([]byte(payload), &want) != nil || want == nil {
		return
	}
	got := map[string]string{}
	for name, value := range members([]byte(strings.TrimLeft(payload, space))) {
		got[string(name)] = string(value)
	}
	if !maps.EqualFunc(got, want, func(a string, b json.RawMessage) bool { return a == string(b) }) {
		t.Errorf("%s: members %q, want %q", payload, got, want)
	}
}

func stepTimeout(minutes int64) *int64 { return &minutes }
