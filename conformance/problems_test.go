package conformance

import (
	"encoding/json"
	"os/exec"
	"testing"
)

// What a client does in vain can be asked for.
func TestClientProblems(t *testing.T) {
	f := newFleet(t)
	thing := f.thing("pump")
	d := f.connect(thing)
	f.must(d.publish("aws/things/"+thing+"/jobs/get", "{}", 1))
	f.must(d.publish("dt/"+f.name("nobody"), "1", 1))
	if d.subscribe("$SYS/#", 1) == nil {
		t.Error("$SYS is granted")
	}
	path, err := binary()
	f.must(err)
	out, err := exec.CommandContext(f.ctx, path, "client", thing, "--data", f.data, "--json").Output()
	f.must(err)
	var state struct {
		Connected bool
		Problems  []struct {
			Kind, Topic string
			Count       int
		}
	}
	f.must(json.Unmarshal(out, &state))
	kinds := map[string]string{}
	for _, p := range state.Problems {
		kinds[p.Kind] = p.Topic
	}
	if !state.Connected || len(kinds) != 3 || kinds["missing-dollar"] != "aws/things/"+thing+"/jobs/get" || kinds["unheard"] == "" || kinds["subscribe-refused"] != "$SYS/#" {
		t.Errorf("%s", out)
	}
	if code, _, _ := f.call("iot", "GET", "/_drover/clients/"+f.name("nobody"), ""); code != 404 {
		t.Errorf("a client that nobody has seen: %d", code)
	}
}
