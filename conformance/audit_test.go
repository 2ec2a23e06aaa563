package conformance

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
)

// auditEntry is what drover audit prints of a request.
type auditEntry struct {
	Who, Name, From, Operation, RequestID, Error string
	Targets                                      []string
	Allowed                                      bool
	Status                                       int
}

// audit runs drover audit with flags.
func (f *fleet) audit(flags ...string) []auditEntry {
	f.t.Helper()
	path, err := binary()
	f.must(err)
	out, err := exec.CommandContext(f.ctx, path, append([]string{"audit", "--data", f.data, "--json"}, flags...)...).Output()
	f.must(err)
	var all []auditEntry
	for line := range strings.Lines(string(out)) {
		var e auditEntry
		f.must(json.Unmarshal([]byte(line), &e))
		all = append(all, e)
	}
	return all
}

// Who did what, from where, and what was denied, can be looked up, after a restart too.
func TestAudit(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	s, err := start(data)
	if err != nil {
		t.Fatal(err)
	}
	f := fleetOn(t, s)
	thing := f.thing("pump")
	_, err = f.api.ListThings(f.ctx, &iot.ListThingsInput{})
	f.must(err)
	_, err = f.api.DescribeThing(f.ctx, &iot.DescribeThingInput{ThingName: aws.String("nobody")})
	if err == nil {
		t.Fatal("there is nobody")
	}
	stranger := *s
	stranger.secret = "wrong"
	if _, err := stranger.client().DeleteThing(f.ctx, &iot.DeleteThingInput{ThingName: &thing}); err == nil {
		t.Fatal("a wrong secret deletes")
	}
	f.must(s.terminate())
	if s, err = start(data); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.terminate(); err != nil {
			t.Error(err)
		}
	})
	f = fleetOn(t, s)
	_, err = f.api.DeleteThing(f.ctx, &iot.DeleteThingInput{ThingName: &thing})
	f.must(err)

	all := f.audit()
	var operations []string
	for _, e := range all {
		operations = append(operations, e.Operation)
		if e.From != "127.0.0.1" || e.RequestID == "" && e.Allowed {
			t.Errorf("%+v", e)
		}
	}
	if want := []string{"CreateThing", "ListThings", "DescribeThing", "DeleteThing", "DeleteThing"}; !slices.Equal(operations, want) {
		t.Fatalf("operations %v, want %v", operations, want)
	}
	if e := all[0]; e.Who != "key:"+f.key || !e.Allowed || e.Status != 200 || !strings.Contains(strings.Join(e.Targets, " "), thing) {
		t.Errorf("%+v", e)
	}
	if e := all[2]; !e.Allowed || e.Status != 404 || e.Error != "ResourceNotFoundException" {
		t.Errorf("%+v", e)
	}
	if e := all[3]; e.Who != "anonymous" || e.Allowed || e.Status != 403 || e.Error == "" {
		t.Errorf("%+v", e)
	}
	if denied := f.audit("--denied"); len(denied) != 1 || denied[0].Operation != "DeleteThing" {
		t.Errorf("denied: %+v", denied)
	}
	if made := f.audit("--who", f.key, "--operation", "CreateThing", "--target", thing, "--since", "1h"); len(made) != 1 {
		t.Errorf("made: %+v", made)
	}
	// Who may not is noted with what he wanted.
	reader := f.newKey("reader", `{"Effect":"Allow","Action":"iot:ListThings","Resource":"*"}`)
	if _, err := reader.api.DescribeThing(f.ctx, &iot.DescribeThingInput{ThingName: &thing}); err == nil {
		t.Fatal("a key without the right reads")
	}
	if e := f.audit("--who", f.name("reader")); len(e) != 1 || e[0].Allowed || e[0].Operation != "DescribeThing" || e[0].Name != f.name("reader") ||
		!slices.Equal(e[0].Targets, []string{f.thingARN(thing)}) {
		t.Errorf("denied: %+v", e)
	}
	// One key has looked at the log four times by now.
	if looked := f.audit("--operation", "drover:audit", "--limit", "2"); len(looked) != 2 {
		t.Errorf("looked: %+v", looked)
	}
}
