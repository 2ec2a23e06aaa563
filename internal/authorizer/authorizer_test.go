package authorizer_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"drover/internal/authorizer"
	"drover/internal/iot"
	"drover/internal/webhook"
)

// registry is authorizers by name, with a default one.
type registry struct {
	authorizers map[string]*iot.Authorizer
	standard    string
}

func (r registry) Authorizer(_ context.Context, name string) (*iot.Authorizer, error) {
	if a := r.authorizers[name]; a != nil {
		return a, nil
	}
	return nil, iot.Errorf(iot.NotFound, "no authorizer %s", name)
}

func (r registry) DefaultAuthorizer(ctx context.Context) (*iot.Authorizer, error) {
	return r.Authorizer(ctx, r.standard)
}

// function is a function of the operator: it answers the same to everybody and keeps what it is
// told.
type function struct {
	mu     sync.Mutex
	events []string
	answer string
	err    error
}

func (f *function) Call(_ context.Context, _ string, event any) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	text, err := json.Marshal(event)
	f.events = append(f.events, string(text))
	return []byte(f.answer), errors.Join(f.err, err)
}

func (f *function) says(answer string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}

// asked returns the events so far.
func (f *function) asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.events)
}

const policy = `{"Version":"2012-10-17","Statement":[]}`

var allow = `{"isAuthenticated":true,"principalId":"me","disconnectAfterInSeconds":86400,"refreshAfterInSeconds":300,"policyDocuments":[` + policy + `]}`

// signer signs tokens.
type signer struct {
	pem  string
	sign func(token string) string
}

var keys = sync.OnceValue(func() (all [2]signer) {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	e, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	for i, key := range []crypto.Signer{r, e} {
		der, err := x509.MarshalPKIXPublicKey(key.Public())
		must(err)
		all[i].pem = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
		all[i].sign = func(token string) string {
			hash := sha256.Sum256([]byte(token))
			sig, err := key.Sign(rand.Reader, hash[:], crypto.SHA256)
			must(err)
			return base64.StdEncoding.EncodeToString(sig)
		}
	}
	return all
})

// rig is an Authenticator with authorizers: "signed" and "open", "off", which is inactive, and
// "caching".
type rig struct {
	*testing.T
	*authorizer.Authenticator
	f   *function
	now time.Time
}

func newRig(t *testing.T, change func(*authorizer.Config)) *rig {
	t.Helper()
	g := &rig{T: t, f: &function{answer: allow}, now: time.Unix(1_700_000_000, 0)}
	cfg := authorizer.Config{
		Registry: registry{standard: "open", authorizers: map[string]*iot.Authorizer{
			"signed":  {Name: "signed", Function: "f", TokenKey: "tok", Keys: map[string]string{"rsa": keys()[0].pem, "ec": keys()[1].pem}, Active: true},
			"open":    {Name: "open", Function: "f", TokenKey: "tok", SigningDisabled: true, Active: true},
			"off":     {Name: "off", Function: "f", SigningDisabled: true},
			"caching": {Name: "caching", Function: "f", TokenKey: "tok", SigningDisabled: true, Active: true, CacheHTTP: true},
		}},
		Functions: g.f, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return g.now },
	}
	if change != nil {
		change(&cfg)
	}
	g.Authenticator = authorizer.New(cfg)
	return g
}

// refused asks and expects a refusal for the reason, after so many calls of the function.
func (g *rig) refused(r authorizer.Request, reason authorizer.Reason, calls int) {
	g.Helper()
	_, err := g.Authorize(g.Context(), r)
	if refusal, ok := errors.AsType[*authorizer.Refusal](err); !ok || refusal.Reason != reason {
		g.Errorf("got %v, want %s", err, reason)
	}
	if len(g.f.events) != calls {
		g.Errorf("the function was called %d times, want %d", len(g.f.events), calls)
	}
}

func (g *rig) allowed(r authorizer.Request) authorizer.Decision {
	g.Helper()
	d, err := g.Authorize(g.Context(), r)
	if err != nil {
		g.Fatal(err)
	}
	return d
}

func mqtt(username string) authorizer.Request {
	return authorizer.Request{MQTT: &iot.MQTTData{Username: username, Password: []byte("pw"), ClientID: "id"}}
}

// TestB212WrongSignature: refused without the function being asked; any of the keys will do.
func TestB212WrongSignature(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	good := keys()[0].sign("secret")
	for _, username := range []string{
		"u?x-amz-customauthorizer-name=signed&tok=secret",
		"u?x-amz-customauthorizer-name=signed&tok=other&x-amz-customauthorizer-signature=" + url.QueryEscape(good),
		"u?x-amz-customauthorizer-name=signed&x-amz-customauthorizer-signature=" + url.QueryEscape(good),
		"u?x-amz-customauthorizer-name=signed&tok=secret&x-amz-customauthorizer-signature=" + url.QueryEscape(good[4:]),
		"u?x-amz-customauthorizer-name=signed&tok=secret&x-amz-customauthorizer-signature=%%%",
	} {
		g.refused(mqtt(username), authorizer.BadToken, 0)
	}
	for _, k := range keys() {
		sig := k.sign("secret")
		for _, spelled := range []string{sig, url.QueryEscape(sig), url.PathEscape(sig)} { // a plus sign survives
			g.allowed(mqtt("u?x-amz-customauthorizer-name=signed&tok=secret&x-amz-customauthorizer-signature=" + spelled))
		}
	}
	if want := `"token":"secret","signatureVerified":true`; !strings.Contains(g.f.events[0], want) {
		t.Errorf("event %s", g.f.events[0])
	}
}

// TestB213UnknownAuthorizer: an unknown or inactive authorizer refuses.
func TestB213UnknownAuthorizer(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	g.refused(mqtt("u?x-amz-customauthorizer-name=nobody"), authorizer.NoAuthorizer, 0)
	g.refused(mqtt("u?x-amz-customauthorizer-name=off"), authorizer.NoAuthorizer, 0)
}

// TestB214DefaultAuthorizer: who names none gets the default one.
func TestB214DefaultAuthorizer(t *testing.T) {
	t.Parallel()
	if d := newRig(t, nil).allowed(mqtt("u")); d.Authorizer != "open" || d.Principal != "me" {
		t.Errorf("%+v", d)
	}
	g := newRig(t, func(c *authorizer.Config) { c.Registry = registry{} })
	g.refused(mqtt("u"), authorizer.NoAuthorizer, 0)
}

// TestB215DefaultOnly: without override another name is refused.
func TestB215DefaultOnly(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *authorizer.Config) { c.DefaultOnly = true })
	g.refused(mqtt("u?x-amz-customauthorizer-name=caching"), authorizer.NoAuthorizer, 0)
	g.allowed(mqtt("u?x-amz-customauthorizer-name=open"))
	g.allowed(mqtt("u"))
}

// TestB216EventOfMQTT: the password in base64, the user name with its query, the client id.
func TestB216EventOfMQTT(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	r := mqtt("u?tok=t&SDK=x")
	r.TLS = &iot.TLSData{ServerName: "host"}
	r.Connection = "c"
	g.allowed(r)
	want := `{"token":"t","signatureVerified":false,"protocols":["tls","mqtt"],"protocolData":{"tls":{"serverName":"host"},` +
		`"mqtt":{"username":"u?tok=t\u0026SDK=x","password":"cHc=","clientId":"id"}},"connectionMetadata":{"id":"c"}}`
	if g.f.events[0] != want {
		t.Errorf("got  %s\nwant %s", g.f.events[0], want)
	}
}

// TestB217EventOfHTTP: headers, and a query that begins with a question mark; the header is
// stronger than the query.
func TestB217EventOfHTTP(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	g.allowed(authorizer.Request{TLS: &iot.TLSData{}, Header: http.Header{"Tok": {"h"}}, Query: "tok=q&a=b"})
	want := `{"token":"h","signatureVerified":false,"protocols":["tls","http"],"protocolData":{"tls":{},"http":{"headers":{"Tok":"h"},"queryString":"?tok=q\u0026a=b"}}}`
	if g.f.events[0] != want {
		t.Errorf("got  %s\nwant %s", g.f.events[0], want)
	}
	r := mqtt("u")
	r.TLS, r.Header = &iot.TLSData{}, http.Header{}
	g.allowed(r)
	if !strings.Contains(g.f.events[1], `"protocols":["tls","http","mqtt"]`) {
		t.Errorf("over WebSocket: %s", g.f.events[1])
	}
}

// TestB218NotAuthenticated: the function says no.
func TestB218NotAuthenticated(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	g.f.answer = `{"isAuthenticated":false}`
	g.refused(mqtt("u"), authorizer.Denied, 1)
}

// TestB219FunctionFails: what a function cannot answer is a refusal, and so is one call too many.
func TestB219FunctionFails(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	g.f.err = errors.New("no answer within 5s")
	g.refused(mqtt("u"), authorizer.Failed, 1)
	g.f.err = webhook.ErrBusy
	g.refused(mqtt("u"), authorizer.Busy, 2)
}

// TestB221B224AnswersThatAreRefused: eleven policies, seconds out of bounds, and whatever else is
// not in order.
func TestB221B224AnswersThatAreRefused(t *testing.T) {
	t.Parallel()
	eleven := strings.Repeat(policy+",", 10) + policy
	for _, answer := range []string{
		"", "null", "[]", `{}`, `{"isAuthenticated":"yes"}`,
		`{"isAuthenticated":true,"policyDocuments":[` + policy + `]}`,
		`{"isAuthenticated":true,"principalId":"a b","policyDocuments":[` + policy + `]}`,
		`{"isAuthenticated":true,"principalId":"` + strings.Repeat("a", 129) + `","policyDocuments":[` + policy + `]}`,
		`{"isAuthenticated":true,"principalId":"me"}`,
		`{"isAuthenticated":true,"principalId":"me","policyDocuments":["nonsense"]}`,
		`{"isAuthenticated":true,"principalId":"me","policyDocuments":[1]}`,
		`{"isAuthenticated":true,"principalId":"me","policyDocuments":[` + eleven + `]}`,
		`{"isAuthenticated":true,"principalId":"me","policyDocuments":["{\"a\":\"` + strings.Repeat("a", 2048) + `\"}"]}`,
		`{"isAuthenticated":true,"principalId":"me","policyDocuments":[` + policy + `],"disconnectAfterInSeconds":60}`,
		`{"isAuthenticated":true,"principalId":"me","policyDocuments":[` + policy + `],"disconnectAfterInSeconds":86401}`,
		`{"isAuthenticated":true,"principalId":"me","policyDocuments":[` + policy + `],"refreshAfterInSeconds":299}`,
		`{"isAuthenticated":true,"principalId":"me","policyDocuments":[{"bad":1}]}`,
	} {
		g := newRig(t, func(c *authorizer.Config) {
			c.CheckPolicy = func(document string) error {
				if strings.Contains(document, "bad") {
					return errors.New("no policy")
				}
				return nil
			}
		})
		g.f.answer = answer
		g.refused(mqtt("u"), authorizer.Failed, 1)
	}
}

// TestB222B223Times: the answer says when the connection ends and when to ask again.
func TestB222B223Times(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	r := mqtt("u")
	if d := g.allowed(r); d.Refresh != 300*time.Second || d.Disconnect != 24*time.Hour || d.Policies[0] != policy {
		t.Errorf("%+v", d)
	}
	// The same question again, as after the time to refresh, is asked again.
	g.f.answer = `{"isAuthenticated":true,"principalId":"me","policyDocuments":["{\"Statement\": []}"]}`
	if d := g.allowed(r); len(g.f.events) != 2 || d.Policies[0] != `{"Statement": []}` || d.Refresh != 0 || d.Disconnect != 0 {
		t.Errorf("%+v after %d calls", d, len(g.f.events))
	}
}

// TestB225CachingForHTTP: one call for several requests on one connection, if the authorizer says
// so; never for another token, another connection or after the time to refresh.
func TestB225CachingForHTTP(t *testing.T) {
	t.Parallel()
	for name, calls := range map[string]int{"caching": 1, "open": 2} {
		g := newRig(t, nil)
		cache := new(authorizer.Cache)
		request := func(token string, c *authorizer.Cache) authorizer.Request {
			return authorizer.Request{Header: http.Header{"X-Amz-Customauthorizer-Name": {name}, "Tok": {token}}, Cache: c}
		}
		g.allowed(request("a", cache))
		g.allowed(request("a", cache))
		if len(g.f.events) != calls {
			t.Errorf("%s: %d calls", name, len(g.f.events))
		}
		for i, r := range []authorizer.Request{request("b", cache), request("a", new(authorizer.Cache)), request("a", nil)} {
			g.allowed(r)
			if calls++; len(g.f.events) != calls {
				t.Errorf("%s, request %d: %d calls, want %d", name, i, len(g.f.events), calls)
			}
		}
		g.now = g.now.Add(300 * time.Second)
		g.allowed(request("a", cache))
		if len(g.f.events) != calls+1 {
			t.Errorf("%s: an old decision", name)
		}
	}
}

// TestB227CertificateToo: a client with a certificate must be who the certificate says.
func TestB227CertificateToo(t *testing.T) {
	t.Parallel()
	g := newRig(t, nil)
	r := mqtt("u")
	r.TLS = &iot.TLSData{CertificatePEM: "pem", PrincipalID: strings.Repeat("a", 64)}
	g.refused(r, authorizer.Failed, 1)
	if want := `"tls":{"x509CertificatePem":"pem","principalId":"` + r.TLS.PrincipalID + `"}`; !strings.Contains(g.f.events[0], want) {
		t.Errorf("event %s", g.f.events[0])
	}
	g.f.answer = fmt.Sprintf(`{"isAuthenticated":true,"principalId":%q}`, r.TLS.PrincipalID)
	if d := g.allowed(r); len(d.Policies) != 0 {
		t.Errorf("%+v", d)
	}
}
