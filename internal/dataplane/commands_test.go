package dataplane

import (
	"testing"

	"drover/internal/iot"
)

func TestParseCommand(t *testing.T) {
	t.Parallel()
	for topic, want := range map[string]string{
		"$aws/commands/things/t/executions/x/response/json":          "thing t x json",
		"$aws/commands/clients/a:b/executions/x/response/cbor":       "client a:b x cbor",
		"$aws/commands/things/t/executions/x/response/xml":           "thing t x xml",
		"$aws/commands/things/t/executions/x/response":               "",
		"$aws/commands/things/t/executions/x/response/":              "",
		"$aws/commands/things/t/executions/x/response/accepted":      "",
		"$aws/commands/things/t/executions/x/response/rejected":      "",
		"$aws/commands/things/t/executions/x/response/accepted/json": "",
		"$aws/commands/things/t/executions/x/request/json":           "",
		"$aws/commands/groups/t/executions/x/response/json":          "",
		"$aws/commands/things//executions/x/response/json":           "",
		"$aws/commands/things/t/executions//response/json":           "",
		"$aws/commands/things/t/jobs/x/response/json":                "",
		"$aws/things/t/commands/executions/x/response/json":          "",
	} {
		got := ""
		if c, ok := parseCommand(topic); ok {
			got = c.kind + " " + c.name + " " + c.execution + " " + c.format
		}
		if got != want {
			t.Errorf("%s: %q, want %q", topic, got, want)
		}
	}
}

// Whatever a device reports is refused, or is a report within all bounds.
func FuzzReport(f *testing.F) {
	f.Add(false, []byte(`{"status":"SUCCEEDED","statusReason":{"reasonCode":"OK"},"result":{"k":{"s":"x"},"l":{"b":true},"m":{"bin":"AP8="}}}`))
	f.Add(false, []byte(`{"status":1,"result":{"k":{"S":"x"}}}`))
	f.Add(true, encodeCBOR(f, map[string]any{"status": "FAILED", "result": map[string]any{"k": map[string]any{"bin": []byte{1}}}}))
	f.Add(true, encodeCBOR(f, map[any]any{1: 2}))
	f.Fuzz(func(t *testing.T, binary bool, payload []byte) {
		r, err := decodeReport(map[bool]string{false: "json", true: "cbor"}[binary], payload)
		if err == nil {
			err = r.Check()
		}
		if err != nil {
			if code := iot.ErrorCode(err); code != iot.InvalidRequest && code != invalidJSON {
				t.Error(err)
			}
			return
		}
		for key, v := range r.Result {
			set := 0
			for _, is := range []bool{v.S != nil, v.B != nil, v.BIN != nil} {
				if is {
					set++
				}
			}
			if set != 1 {
				t.Errorf("entry %q has %d members", key, set)
			}
		}
	})
}
