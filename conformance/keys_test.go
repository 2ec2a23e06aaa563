package conformance

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
)

// API keys: people and programs that may do what a policy says.

// newKey makes an API key of statements and returns the fleet as its owner sees it.
func (f *fleet) newKey(n string, statements ...string) *fleet {
	f.t.Helper()
	body, err := json.Marshal(map[string]string{"name": f.name(n), "policy": policyDocument(statements...)})
	f.must(err)
	status, header, answer := f.call("iot", "POST", "/_drover/keys", string(body))
	if status != 200 || header.Get("Cache-Control") != "no-store" {
		f.t.Fatalf("create the key: %d %v", status, answer)
	}
	owner, s := *f, *f.server
	s.key, s.secret = answer["accessKeyId"].(string), answer["secretAccessKey"].(string)
	owner.server, owner.api = &s, s.client()
	return &owner
}

func (f *fleet) revoke(idOrName string) int {
	f.t.Helper()
	status, _, _ := f.call("iot", "DELETE", "/_drover/keys?key="+url.QueryEscape(idOrName), "")
	return status
}

func TestKeyMayDoWhatItsPolicySays(t *testing.T) {
	f := newFleet(t)
	thing := f.thing("t")
	id := f.job("job", []string{f.thingARN(thing)})
	other := f.job("other", []string{f.thingARN(thing)})
	k := f.newKey("reader", f.say("Allow", "iot:Describe*", "job/"+id), f.say("Deny", "iot:DescribeJob", "job/"+other),
		`{"Effect":"Allow","Action":"iot:ListJobs","Resource":"*"}`, f.say("Allow", "iotjobsdata:GetPendingJobExecutions", "thing/"+thing))
	describe := func(id string) error {
		_, err := k.api.DescribeJob(f.ctx, &iot.DescribeJobInput{JobId: &id})
		return err
	}
	f.must(describe(id))
	user := "User: arn:aws:iam::" + f.account + ":user/" + f.name("reader") + " is not authorized to perform: "
	for what, c := range map[string]struct {
		err  error
		want string
	}{
		"denied":  {describe(other), user + "iot:DescribeJob on resource: " + f.arn("job", other) + " with an explicit deny in an identity-based policy"},
		"another": {describe("none"), user + "iot:DescribeJob on resource: " + f.arn("job", "none") + " because no identity-based policy allows the iot:DescribeJob action"},
	} {
		if message := f.refused(c.err, "AccessDeniedException", 403); message != c.want {
			t.Errorf("%s: %s", what, message)
		}
	}
	_, err := k.api.ListJobs(f.ctx, &iot.ListJobsInput{})
	f.must(err)
	_, err = k.api.ListThings(f.ctx, &iot.ListThingsInput{})
	f.refused(err, "AccessDeniedException", 403)
	_, err = k.api.CreateThing(f.ctx, &iot.CreateThingInput{ThingName: aws.String(f.name("u"))})
	f.refused(err, "AccessDeniedException", 403)

	// The planes and operations that are not the control plane's.
	if status, code, _ := k.https("GET", thing, "", ""); status != 200 {
		t.Errorf("pending jobs: %d %s", status, code)
	}
	if status, code, answer := k.https("PUT", thing, "/$next", "{}"); status != 403 || code != "AccessDeniedException" ||
		!strings.Contains(answer["message"].(string), "iotjobsdata:StartNextPendingJobExecution on resource: "+f.thingARN(thing)) {
		t.Errorf("start next: %d %s %v", status, code, answer)
	}
	for method, path := range map[string]string{"POST": "/_drover/import", "GET": "/_drover/keys"} {
		if status, header, answer := k.call("iot", method, path, ""); status != 403 || header.Get("X-Amzn-ErrorType") != "AccessDeniedException" {
			t.Errorf("%s: %d %v", path, status, answer)
		}
	}
}

// TestKeyOnSeveralResources: an operation on several resources needs permission for each.
func TestKeyOnSeveralResources(t *testing.T) {
	f := newFleet(t)
	mine, other := f.thing("mine"), f.thing("other")
	k := f.newKey("k", f.say("Allow", "iot:CreateJob", "job/*", "thing/"+mine))
	create := func(n string, things ...string) error {
		in := &iot.CreateJobInput{JobId: aws.String(f.name(n)), Document: aws.String("{}")}
		for _, thing := range things {
			in.Targets = append(in.Targets, f.thingARN(thing))
		}
		_, err := k.api.CreateJob(f.ctx, in)
		return err
	}
	f.must(create("a", mine))
	f.refused(create("b", mine, other), "AccessDeniedException", 403)
	if _, err := f.api.DescribeJob(f.ctx, &iot.DescribeJobInput{JobId: aws.String(f.name("b"))}); err == nil {
		t.Error("the job was created")
	}
}

func TestKeyRevoked(t *testing.T) {
	f := newFleet(t)
	k := f.newKey("k", `{"Effect":"Allow","Action":"iot:*","Resource":"*"}`)
	_, err := k.api.ListJobs(f.ctx, &iot.ListJobsInput{})
	f.must(err)
	if status := f.revoke(k.key); status != 200 {
		t.Fatalf("revoke: %d", status)
	}
	_, err = k.api.ListJobs(f.ctx, &iot.ListJobsInput{})
	f.refused(err, "InvalidSignatureException", 403)
	if status := f.revoke(k.key); status != 404 {
		t.Errorf("revoke again: %d", status)
	}
	if status := f.revoke(f.key); status != 404 {
		t.Errorf("revoke the root key: %d", status)
	}
}

func TestBadKeys(t *testing.T) {
	f := newFleet(t)
	f.newKey("taken", `{"Effect":"Allow","Action":"iot:*","Resource":"*"}`)
	good := policyDocument(`{"Effect":"Allow","Action":"iot:*","Resource":"*"}`)
	for name, c := range map[string]struct {
		body   any
		status int
		code   string
	}{
		"no JSON":     {"x", 400, "InvalidRequestException"},
		"no name":     {map[string]string{"policy": good}, 400, "InvalidRequestException"},
		"odd name":    {map[string]string{"name": "a b", "policy": good}, 400, "InvalidRequestException"},
		"no policy":   {map[string]string{"name": "x"}, 400, "MalformedPolicyException"},
		"taken":       {map[string]string{"name": f.name("taken"), "policy": good}, 409, "ResourceAlreadyExistsException"},
		"long policy": {map[string]string{"name": "x", "policy": strings.Replace(good, "iot:*", "iot:"+strings.Repeat("x", 6144), 1)}, 400, "MalformedPolicyException"},
	} {
		body, err := json.Marshal(c.body)
		f.must(err)
		if status, header, answer := f.call("iot", "POST", "/_drover/keys", string(body)); status != c.status || header.Get("X-Amzn-ErrorType") != c.code {
			t.Errorf("%s: %d %v %v", name, status, header.Get("X-Amzn-ErrorType"), answer)
		}
	}
	if status, _, _ := f.call("iot", "PUT", "/_drover/keys", ""); status != http.StatusMethodNotAllowed {
		t.Errorf("PUT: %d", status)
	}
}

// TestKeysOutliveTheServer: and their secrets are in no file of the data folder that is a database.
func TestKeysOutliveTheServer(t *testing.T) {
	t.Parallel()
	if *endpointFlag != "" {
		t.Skip("needs a server of its own")
	}
	data := t.TempDir()
	policy := filepath.Join(t.TempDir(), "policy.json")
	if err := os.WriteFile(policy, []byte(policyDocument(`{"Effect":"Allow","Action":"iot:ListJobs","Resource":"*"}`)), 0o600); err != nil {
		t.Fatal(err)
	}
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	drover := func(args ...string) string {
		t.Helper()
		var stderr bytes.Buffer
		cmd := exec.Command(path, append([]string{"keys"}, args...)...)
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("drover keys %q: %v: %s", args, err, stderr.String())
		}
		return string(out)
	}
	run := func(use func(*fleet), flags ...string) {
		t.Helper()
		s, err := start(data, flags...)
		if err != nil {
			t.Fatal(err)
		}
		use(fleetOn(t, s))
		if err := s.terminate(); err != nil {
			t.Fatal(err)
		}
	}
	var key, secret string
	list := func(f *fleet) error {
		s := *f.server
		s.key, s.secret = key, secret
		_, err := s.client().ListJobs(f.ctx, &iot.ListJobsInput{})
		return err
	}
	run(func(f *fleet) {
		credentials := filepath.Join(t.TempDir(), "credentials")
		if err := os.WriteFile(credentials, []byte(drover("create", "ci", "--policy", policy, "--data", data)), 0o600); err != nil {
			t.Fatal(err)
		}
		var err error
		key, secret, err = readKey(credentials)
		f.must(err)
		f.must(list(f))
		if text := drover("list", "--data", data); !strings.Contains(text, "ci") || !strings.Contains(text, key) || strings.Contains(text, secret) {
			t.Errorf("list prints %q", text)
		}
	})
	run(func(f *fleet) { f.must(list(f)) })
	err = filepath.WalkDir(data, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(file)
		if bytes.Contains(text, []byte(secret)) {
			t.Errorf("%s holds the secret", file)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(data, "secrets.key")); err != nil || info.Mode() != 0o600 {
		t.Errorf("the key that seals: %v, %v", info, err)
	}
	// With another key to open them they are of no use, and can be revoked.
	run(func(f *fleet) {
		f.refused(list(f), "InvalidSignatureException", 403)
		drover("revoke", "ci", "--data", data)
	}, "--key-file", filepath.Join(t.TempDir(), "other.key"), "--log-level", "error")
}
