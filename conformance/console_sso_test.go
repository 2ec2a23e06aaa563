package conformance

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"drover/internal/envtest"
)

// openIDProvider starts a provider of OpenID Connect with these people, and returns its issuer.
func openIDProvider(t *testing.T, people map[string][]string, env ...string) (issuer string) {
	t.Helper()
	modules := os.Getenv(envtest.NodeVar)
	if _, err := os.Stat(filepath.Join(modules, "oidc-provider")); modules == "" || err != nil {
		t.Skipf("needs Node.js with oidc-provider: run scripts/setup-tests.sh, then tests by \"make test\": %v", err)
	}
	text, err := json.Marshal(people)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), envtest.Command(t, "node"), filepath.Join("..", "scripts", "clients", "oidc_provider.mjs"))
	cmd.Stderr = os.Stderr
	cmd.Env = append(os.Environ(), append(env, "NODE_PATH="+modules, "PEOPLE="+string(text))...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close() // which ends it
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the provider says nothing: %v", err)
	}
	return strings.TrimSpace(line)
}

// tourist is a browser without a screen, which follows redirects by hand.
type tourist struct {
	t      *testing.T
	client *http.Client
	at     *url.URL
	status int
	page   string
}

func newTourist(t *testing.T) *tourist {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &tourist{t: t, client: &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// goes sends a request, and follows redirects until one leads to where stop says so, or to a page.
func (b *tourist) goes(method, to string, form url.Values, stop func(*url.URL) bool) {
	b.t.Helper()
	for range 20 {
		u, err := url.Parse(to)
		if err != nil {
			b.t.Fatal(err)
		}
		if b.at != nil {
			u = b.at.ResolveReference(u)
		}
		if stop != nil && stop(u) {
			b.at = u
			return
		}
		r, err := http.NewRequestWithContext(b.t.Context(), method, u.String(), strings.NewReader(form.Encode()))
		if err != nil {
			b.t.Fatal(err)
		}
		if form != nil {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		resp, err := b.client.Do(r)
		if err != nil {
			b.t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			b.t.Fatal(err)
		}
		b.at, b.status, b.page = u, resp.StatusCode, string(body)
		if to = resp.Header.Get("Location"); to == "" || resp.StatusCode < 300 || resp.StatusCode > 399 {
			return
		}
		method, form = http.MethodGet, nil
	}
	b.t.Fatalf("redirected for ever, at last to %s", b.at)
}

var (
	formAction = regexp.MustCompile(`<form[^>]*action="([^"]*)"`)
	formPrompt = regexp.MustCompile(`name="prompt" value="([^"]*)"`)
)

// passes signs in at the provider as name, until stop says that the browser is where it should be, or a page of drover's is.
func (b *tourist) passes(name string, stop func(*url.URL) bool) {
	b.t.Helper()
	for range 5 {
		action, prompt := formAction.FindStringSubmatch(b.page), formPrompt.FindStringSubmatch(b.page)
		if action == nil || prompt == nil {
			return
		}
		b.goes(http.MethodPost, action[1], url.Values{"prompt": prompt[1:], "login": {name}, "password": {"any"}}, stop)
		if stop != nil && stop(b.at) {
			return
		}
	}
}

// TestConsoleSignInAtProvider: who a provider of OpenID Connect knows signs in with the role of his groups.
func TestConsoleSignInAtProvider(t *testing.T) {
	for _, from := range []string{"token", "userinfo"} {
		t.Run(from, func(t *testing.T) {
			issuer := openIDProvider(t, map[string][]string{"ann": {"staff", "drover-admins", "drover-viewers"}, "vic": {"drover-viewers"}, "eve": {"staff"}}, "GROUPS="+from)
			f := fleetOn(t, ownServer(t, "--oidc-issuer", issuer, "--oidc-client-id", "drover", "--oidc-client-secret", "between provider and drover",
				"--oidc-role", "drover-admins=administrator", "--oidc-role", "drover-viewers=viewer"))
			visit := func(name string) *tourist {
				t.Helper()
				b := newTourist(t)
				b.goes(http.MethodGet, f.http+"/console/keys", nil, nil)
				if !strings.Contains(b.page, "Sign in with "+strings.TrimPrefix(issuer, "http://")) || !strings.Contains(b.page, "/console/sign-in/provider?next=%2fconsole%2fkeys") {
					t.Fatalf("%d at %s: %s", b.status, b.at, b.page)
				}
				b.goes(http.MethodGet, "/console/sign-in/provider?next=/console/keys", nil, nil)
				b.passes(name, nil)
				return b
			}
			ann := visit("ann")
			if ann.status != 200 || ann.at.Path != "/console/keys" || !strings.Contains(ann.page, ">ann<") {
				t.Fatalf("%d at %s: %s", ann.status, ann.at, ann.page)
			}
			ann.goes(http.MethodPost, "/console/keys", url.Values{"name": {"made-by-ann"}, "policy": {`{"Version":"2012-10-17","Statement":[]}`}}, nil)
			vic := visit("vic")
			if vic.status != http.StatusForbidden { // keys are not for viewers
				t.Errorf("%d at %s", vic.status, vic.at)
			}
			vic.goes(http.MethodGet, "/console/jobs", nil, nil)
			if vic.status != 200 || !strings.Contains(vic.page, ">vic<") {
				t.Errorf("%d: %s", vic.status, vic.page)
			}
			eve := visit("eve")
			if eve.status != http.StatusForbidden || !strings.Contains(eve.page, "You are eve, and none of your groups") {
				t.Errorf("%d at %s: %s", eve.status, eve.at, eve.page)
			}
			var who []string
			for _, e := range f.audit("--operation", "drover:SignIn") {
				who = append(who, fmt.Sprint(e.Who, " ", e.Allowed))
			}
			for _, want := range []string{"person:ann true", "person:vic true"} {
				if !slices.Contains(who, want) {
					t.Errorf("audit: %q, without %q", who, want)
				}
			}
			if !slices.ContainsFunc(who, func(s string) bool { return strings.HasSuffix(s, " false") }) {
				t.Errorf("audit: %q, without a refusal", who)
			}
			ann.goes(http.MethodPost, "/console/sign-out", url.Values{}, nil)
			ann.goes(http.MethodGet, "/console/jobs", nil, nil)
			if ann.at.Path != "/console/sign-in" {
				t.Errorf("signed out, and at %s", ann.at)
			}
		})
	}
}

// TestConsoleSignInAtProviderForged: what comes back must be what was asked for, by the same browser, once.
func TestConsoleSignInAtProviderForged(t *testing.T) {
	issuer := openIDProvider(t, map[string][]string{"ann": {"ops"}})
	f := fleetOn(t, ownServer(t, "--oidc-issuer", issuer, "--oidc-client-id", "drover", "--oidc-client-secret", "between provider and drover", "--oidc-role", "ops=operator"))
	back := func(u *url.URL) bool { return strings.HasPrefix(u.String(), f.http+"/console/sign-in/callback") }
	visit := func() *tourist {
		b := newTourist(t)
		b.goes(http.MethodGet, f.http+"/console/sign-in/provider", nil, nil)
		b.passes("ann", back)
		if !back(b.at) {
			t.Fatalf("at %s: %s", b.at, b.page)
		}
		return b
	}
	refused := func(b *tourist, to, why string) {
		t.Helper()
		b.goes(http.MethodGet, to, nil, nil)
		if b.status != http.StatusForbidden || !strings.Contains(b.page, why) {
			t.Errorf("%d at %s: %s", b.status, b.at, b.page)
		}
		b.goes(http.MethodGet, f.http+"/console/jobs", nil, nil)
		if b.at.Path != "/console/sign-in" {
			t.Errorf("signed in, at %s", b.at)
		}
	}
	with := func(u *url.URL, name, value string) string {
		changed := *u
		q := changed.Query()
		q.Set(name, value)
		changed.RawQuery = q.Encode()
		return changed.String()
	}
	ann := visit()
	good := ann.at.String()
	refused(newTourist(t), good, "was not begun in this browser") // without the cookie
	refused(visit(), good, "was not begun in this browser")       // with that of another sign-in
	mallory := visit()
	refused(mallory, with(mallory.at, "state", "x"), "was not begun in this browser")
	mallory = visit()
	refused(mallory, with(mallory.at, "code", "x"), "does not accept the code")
	mallory = visit()
	refused(mallory, f.http+"/console/sign-in/callback?error=access_denied&error_description=%3Cb%3Eno&state="+mallory.at.Query().Get("state"), "says: &lt;b&gt;no")

	ann.goes(http.MethodGet, good, nil, nil)
	if ann.status != 200 || ann.at.Path != "/console/" {
		t.Fatalf("%d at %s: %s", ann.status, ann.at, ann.page)
	}
	again := newTourist(t)
	again.client.Jar = ann.client.Jar
	again.goes(http.MethodGet, good, nil, nil) // a code is good once, and the cookie of the flow is gone
	if again.status != http.StatusForbidden {
		t.Errorf("%d at %s", again.status, again.at)
	}
}

// TestConsoleSignInAtProviderThatIsAway: the others sign in as ever.
func TestConsoleSignInAtProviderThatIsAway(t *testing.T) {
	f := fleetOn(t, ownServer(t, "--oidc-issuer", "http://127.0.0.1:9", "--oidc-client-id", "drover", "--oidc-role", "ops=operator"))
	b := newTourist(t)
	b.goes(http.MethodGet, f.http+"/console/sign-in/provider", nil, nil)
	if b.status != http.StatusBadGateway || !strings.Contains(b.page, "cannot talk to 127.0.0.1:9") {
		t.Errorf("%d: %s", b.status, b.page)
	}
	b.goes(http.MethodPost, "/console/sign-in", url.Values{"name": {f.key}, "password": {f.secret}}, nil)
	if b.status != 200 || b.at.Path != "/console/" {
		t.Errorf("%d at %s", b.status, b.at)
	}
}
