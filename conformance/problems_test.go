package conformance

import (
	"encoding/json"
	"os/exec"
	"testing"
)

// problems runs drover client, and returns whether it is connected and its problems, by kind, with
// their topics.
func (f *fleet) problems(client string) (connected bool, kinds map[string]string) {
	f.t.Helper()
	path, err := binary()
	f.must(err)
	out, err := exec.CommandContext(f.ctx, path, "client", client, "--data", f.data, "--json").Output()
	f.must(err)
	var state struct {
		Connected bool
		Problems  []struct{ Kind, Topic string }
	}
	f.must(json.Unmarshal(out, &state))
	kinds = map[string]string{}
	for _, p := range state.Problems {
		kinds[p.Kind] = p.Topic
	}
	return state.Connected, kinds
}

// What the policies of a client deny is among it.
func TestClientDenied(t *testing.T) {
	f := tlsFleet(t)
	c := f.newCertificate(true)
	f.must(f.attachPolicy(f.policy("connect", `{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}`), f.arn("cert", c.id)))
	d, err := f.overTLS(f.mqtts, f.config(with(c)), f.name("denied"), 5)
	f.must(err)
	if d.subscribe("dt/a", 1) == nil || d.publish("dt/b", "1", 1) == nil {
		t.Error("it may")
	}
	if _, kinds := f.problems(f.name("denied")); len(kinds) != 2 || kinds["subscribe-refused"] != "dt/a" || kinds["publish-denied"] != "dt/b" {
		t.Errorf("%v", kinds)
	}
}

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
	connected, kinds := f.problems(thing)
	if !connected || len(kinds) != 3 || kinds["missing-dollar"] != "aws/things/"+thing+"/jobs/get" || kinds["unheard"] == "" || kinds["subscribe-refused"] != "$SYS/#" {
		t.Errorf("connected %v, %v", connected, kinds)
	}
	if code, _, _ := f.call("iot", "GET", "/_drover/clients/"+f.name("nobody"), ""); code != 404 {
		t.Errorf("a client that nobody has seen: %d", code)
	}
}
