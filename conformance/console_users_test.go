package conformance

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	octets "encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
)

// Users of the console: people who sign in with a password.

// droverTool runs a command of drover's on the data folder of a server; input is what it reads.
func droverTool(t *testing.T, input string, args ...string) (stdout string, err error) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Stdin, cmd.Stderr = strings.NewReader(input), &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, stderr.String())
	}
	return string(out), err
}

// usersTool runs drover users.
func (f *fleet) usersTool(input string, args ...string) string {
	f.t.Helper()
	out, err := droverTool(f.t, input, append([]string{"users", args[0], "--data", f.data}, args[1:]...)...)
	f.must(err)
	return out
}

// oneTimeCode is the code of an authenticator (RFC 6238), so many steps from now.
func (f *fleet) oneTimeCode(address string, steps int64) string {
	f.t.Helper()
	u, err := url.Parse(strings.TrimSpace(address))
	f.must(err)
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(u.Query().Get("secret"))
	f.must(err)
	mac := hmac.New(sha1.New, key)
	mac.Write(octets.BigEndian.AppendUint64(nil, uint64(time.Now().Unix()/30+steps)))
	sum := mac.Sum(nil)
	at := sum[19] & 15
	return fmt.Sprintf("%06d", (octets.BigEndian.Uint32(sum[at:at+4])&0x7fffffff)%1_000_000)
}

// visit is a browser without pictures.
type visit struct {
	*fleet
	client *http.Client
}

func newVisit(f *fleet) *visit {
	jar, err := cookiejar.New(nil)
	f.must(err)
	return &visit{f, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// get returns the status of a page, and where it leads.
func (v *visit) get(path string) (int, string) {
	v.t.Helper()
	r, err := v.client.Get(v.http + path)
	v.must(err)
	v.must(r.Body.Close())
	return r.StatusCode, r.Header.Get("Location")
}

func (v *visit) post(path string, fields ...string) (int, string) {
	v.t.Helper()
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	r, err := v.client.PostForm(v.http+path, form)
	v.must(err)
	v.must(r.Body.Close())
	return r.StatusCode, r.Header.Get("Location")
}

const alicesPassword = "correct horse battery"

// TestConsoleUser: a viewer signs in with a code, sees and may not cancel, and looks after his account.
func TestConsoleUser(t *testing.T) {
	f := fleetOn(t, ownServer(t))
	f.usersTool(alicesPassword+"\n", "create", "alice", "--role", "viewer")
	address := f.usersTool("", "totp", "alice")
	thing := f.thing("pump")
	job := f.job("firmware", []string{f.thingARN(thing)})

	b := newBrowser(f)
	b.open("/console/jobs/" + job)
	b.fill("name", "alice", "password", alicesPassword+"!")
	b.click("Sign in")
	b.sees("do not belong together")
	b.fill("name", "alice", "password", alicesPassword)
	b.click("Sign in")
	b.sees("the code that your authenticator shows")
	b.picture("sign-in-code")
	b.fill("code", "1")
	b.click("Sign in")
	b.sees("This code is not right")
	b.fill("code", f.oneTimeCode(address, 0))
	b.click("Sign in")
	b.sees(job) // where she wanted to go
	if evaluated[bool](b, `document.body.innerText.includes("Cancel")`) {
		t.Error("a viewer is offered to cancel")
	}
	for _, what := range []string{"Keys", "Policies of"} {
		if evaluated[bool](b, fmt.Sprintf(`[...document.querySelectorAll("nav a")].some(a => a.innerText === %q)`, what)) {
			t.Errorf("a viewer is offered %s", what)
		}
	}
	b.accessible("/console/account")
	b.fits("/console/account")
	b.open("/console/account")
	b.sees("You are alice, viewer")
	b.picture("account")
	evaluated[bool](b, `document.querySelector("[value=off]").form.querySelector("[name=password]").value = "`+alicesPassword+`"; true`)
	b.click("Switch codes off")
	b.sees("Codes are off")
	evaluated[bool](b, `document.querySelector("[value=on]").form.querySelector("[name=password]").value = "`+alicesPassword+`"; true`)
	b.click("Set codes up")
	b.sees("Add this key to your authenticator")
	b.picture("account-codes")
	address = evaluated[string](b, `document.querySelector("a[href^=otpauth]").href`)
	b.fill("code", "1")
	evaluated[bool](b, `document.querySelector("main form").noValidate = true; true`)
	b.fill("code", f.oneTimeCode(address, 0))
	b.click("Switch codes on")
	b.sees("Codes are on")
	const next = "another horse battery"
	evaluated[bool](b, `(() => { const form = document.querySelector("[value=password]").form;
		form.password.value = "`+alicesPassword+`"; form.new.value = form.again.value = "`+next+`"; return true; })()`)
	b.click("Change the password")
	b.sees("Your password was changed") // and she is still signed in
	f.usersTool("", "remove", "alice")
	b.open("/console/jobs")
	b.sees("Sign in with")
}

// TestUserMayDoWhatHisRoleSays: by the pages and by what they ask of the API; audit log and journal name him.
func TestUserMayDoWhatHisRoleSays(t *testing.T) {
	f := fleetOn(t, ownServer(t))
	f.usersTool(alicesPassword, "create", "alice", "--role", "viewer")
	v := newVisit(f)
	job := f.job("firmware", []string{f.thingARN(f.thing("pump"))})
	signIn := func() {
		t.Helper()
		if status, to := v.post("/console/sign-in", "name", "alice", "password", alicesPassword); status != 303 || to != "/console/" {
			t.Fatalf("sign in: %d %s", status, to)
		}
	}
	signIn()
	cancel := func() int {
		status, _ := v.post("/console/jobs/"+job+"/cancel", "comment", "by alice")
		return status
	}
	if status, _ := v.get("/console/jobs/" + job); status != 200 {
		t.Errorf("a viewer sees a job: %d", status)
	}
	if status := cancel(); status != 403 {
		t.Errorf("a viewer cancels a job: %d", status)
	}
	for _, path := range []string{"/console/keys", "/console/audit"} {
		if status, _ := v.get(path); status != 403 {
			t.Errorf("a viewer sees %s: %d", path, status)
		}
	}
	f.usersTool("", "role", "alice", "operator")
	if status, to := v.get("/console/jobs"); status != 303 || !strings.HasPrefix(to, "/console/sign-in") {
		t.Errorf("the session goes on with another role: %d %s", status, to)
	}
	if text := f.usersTool("", "role", "alice"); !strings.Contains(text, "operator") || !strings.Contains(text, `"iot:CancelJob"`) || strings.Contains(text, "ManageUsers") {
		t.Errorf("the role of alice is %s", text)
	}
	signIn()
	if status := cancel(); status != 303 {
		t.Errorf("an operator cancels a job: %d", status)
	}
	out, err := f.api.DescribeJob(f.ctx, &iot.DescribeJobInput{JobId: &job})
	f.must(err)
	if aws.ToString(out.Job.Comment) != "by alice" {
		t.Errorf("%+v", out.Job)
	}
	status, _, answer := f.call("iot", "GET", "/_drover/audit?who=user:alice&limit=100", "")
	text, err := json.Marshal(answer)
	f.must(err)
	for _, want := range []string{`"drover:SignIn"`, `"CancelJob"`} {
		if status != 200 || !strings.Contains(string(text), want) {
			t.Errorf("%s is not in the audit log: %s", want, text)
		}
	}

	// A policy of his own.
	policy := filepath.Join(t.TempDir(), "policy.json")
	f.must(os.WriteFile(policy, []byte(policyDocument(`{"Effect":"Allow","Action":"iot:ListJobs","Resource":"*"}`)), 0o600))
	f.usersTool("", "role", "alice", "--policy", policy)
	signIn()
	if status, _ := v.get("/console/jobs"); status != 200 {
		t.Errorf("jobs: %d", status)
	}
	if status, _ := v.get("/console/jobs/" + job); status != 403 {
		t.Errorf("a job: %d", status)
	}

	// Whoever manages users must be allowed to.
	k := f.newKey("reader", `{"Effect":"Allow","Action":["iot:*","drover:ManageKeys"],"Resource":"*"}`)
	if status, header, _ := k.call("iot", "GET", "/_drover/users", ""); status != 403 || header.Get("X-Amzn-ErrorType") != "AccessDeniedException" {
		t.Errorf("users are listed: %d", status)
	}
	// A user has no key to sign with.
	s := *f.server
	s.key, s.secret = "alice", alicesPassword
	_, err = s.client().ListJobs(f.ctx, &iot.ListJobsInput{})
	f.refused(err, "InvalidSignatureException", 403)
}

// TestUserSessionsEnd: at once, when the user is removed or the password changes.
func TestUserSessionsEnd(t *testing.T) {
	f := fleetOn(t, ownServer(t))
	for what, end := range map[string]func(name string){
		"removed":  func(name string) { f.usersTool("", "remove", name) },
		"password": func(name string) { f.usersTool("another horse battery", "password", name) },
		"made anew": func(name string) {
			f.usersTool("", "remove", name)
			f.usersTool(alicesPassword, "create", name, "--role", "viewer")
		},
	} {
		name := strings.ReplaceAll(what, " ", "-")
		f.usersTool(alicesPassword, "create", name, "--role", "viewer")
		v := newVisit(f)
		if status, _ := v.post("/console/sign-in", "name", name, "password", alicesPassword); status != 303 {
			t.Fatalf("%s: sign in: %d", what, status)
		}
		if status, _ := v.get("/console/jobs"); status != 200 {
			t.Errorf("%s: %d before", what, status)
		}
		end(name)
		if status, _ := v.get("/console/jobs"); status != 303 {
			t.Errorf("%s: %d after", what, status)
		}
	}
}

// TestUsersOutliveTheServer: and neither passwords nor keys of codes are in a file of the data folder.
func TestUsersOutliveTheServer(t *testing.T) {
	t.Parallel()
	if *endpointFlag != "" {
		t.Skip("needs a server of its own")
	}
	data := t.TempDir()
	var address string
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
	run(func(f *fleet) {
		f.usersTool(alicesPassword, "create", "alice", "--role", "viewer")
		f.usersTool(alicesPassword, "create", "bob", "--role", "operator")
		address = f.usersTool("", "totp", "alice")
		if text := f.usersTool("", "list"); !strings.Contains(text, "alice  viewer    yes") || !strings.Contains(text, "bob    operator  no") {
			t.Errorf("list prints %q", text)
		}
		for what, args := range map[string][]string{
			"taken":      {"create", "alice", "--role", "viewer"},
			"odd name":   {"create", "a b", "--role", "viewer"},
			"like a key": {"create", "AKIAX", "--role", "viewer"},
			"no role":    {"create", "carol"},
			"odd role":   {"create", "carol", "--role", "boss"},
			"nobody":     {"role", "carol", "viewer"},
		} {
			if out, err := droverTool(t, alicesPassword, append([]string{"users", args[0], "--data", data}, args[1:]...)...); err == nil {
				t.Errorf("%s: %s", what, out)
			}
		}
		if out, err := droverTool(t, "short", "users", "create", "carol", "--role", "viewer", "--data", data); err == nil || !strings.Contains(err.Error(), "at least 12") {
			t.Errorf("short password: %s %v", out, err)
		}
	})
	run(func(f *fleet) {
		v := newVisit(f)
		if status, _ := v.post("/console/sign-in", "name", "bob", "password", alicesPassword); status != 303 {
			t.Errorf("sign in: %d", status)
		}
		if status, to := newVisit(f).post("/console/sign-in", "name", "alice", "password", alicesPassword); status != 200 || to != "" {
			t.Errorf("sign in without a code: %d", status)
		}
	})
	u, err := url.Parse(strings.TrimSpace(address))
	if err != nil {
		t.Fatal(err)
	}
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(u.Query().Get("secret"))
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(data, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(file)
		if bytes.Contains(text, []byte(alicesPassword)) || bytes.Contains(text, key) || bytes.Contains(text, []byte(u.Query().Get("secret"))) {
			t.Errorf("%s holds a secret", file)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestUsersOnSeveralNodes: who is made at one node signs in at another; a session is good at all, and ends at
// all before what ends it is answered; a code that was used at one is used at all.
func TestUsersOnSeveralNodes(t *testing.T) {
	t.Parallel()
	nodes := newCluster(t, 2)
	a := fleetOn(t, nodes[0].at.Load())
	b := a.at(nodes[1])
	a.usersTool(alicesPassword, "create", "alice", "--role", "viewer")
	v := newVisit(b)
	if status, _ := v.post("/console/sign-in", "name", "alice", "password", alicesPassword); status != 303 {
		t.Fatalf("sign in at the other node: %d", status)
	}
	everywhere := func(want int) {
		t.Helper()
		for i, f := range []*fleet{a, b} {
			v.fleet = f // cookies do not know ports
			if status, _ := v.get("/console/jobs"); status != want {
				t.Errorf("node %d: %d, not %d", i, status, want)
			}
		}
	}
	everywhere(200)
	a.usersTool("", "role", "alice", "operator")
	everywhere(303)

	address := b.usersTool("", "totp", "alice")
	code := a.oneTimeCode(address, 0)
	for i, f := range []*fleet{a, b} {
		v := newVisit(f)
		r, err := v.client.PostForm(f.http+"/console/sign-in", url.Values{"name": {"alice"}, "password": {alicesPassword}})
		f.must(err)
		page, err := io.ReadAll(r.Body)
		f.must(errors.Join(err, r.Body.Close()))
		half := regexp.MustCompile(`name="half" value="([^"]+)"`).FindSubmatch(page)
		if half == nil {
			t.Fatalf("no code is asked for: %s", page)
		}
		status, _ := v.post("/console/sign-in", "half", string(half[1]), "code", code)
		if want := []int{303, 401}[i]; status != want {
			t.Errorf("the code at node %d: %d, not %d", i, status, want)
		}
	}
}
