package conformance

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

const functionARN = "arn:aws:lambda:us-east-1:123456789012:function:decide"

// function is a function of the operator: an HTTP server that keeps what it is told.
type function struct {
	*httptest.Server
	mu     sync.Mutex
	events []string
	answer func(event string) string // "" is no answer before the caller gives up
}

func newFunction(t *testing.T, answer string) *function {
	t.Helper()
	f := &function{answer: func(string) string { return answer }}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		event, err := io.ReadAll(r.Body)
		if err != nil || !strings.HasPrefix(r.Header.Get("X-Signature"), "t=") {
			t.Errorf("%v %v", r.Header, err)
		}
		f.mu.Lock()
		f.events = append(f.events, string(event))
		answer := f.answer(string(event))
		f.mu.Unlock()
		if answer == "" {
			<-r.Context().Done()
			return
		}
		_, _ = io.WriteString(w, answer) // who does not get it complains
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *function) says(answer string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = func(string) string { return answer }
}

// flag is the flag of a server that knows the function.
func (f *function) flag() string { return "--function=" + functionARN + "=" + f.URL }

const letIn = `{"isAuthenticated":true,"principalId":"me","refreshAfterInSeconds":300,"disconnectAfterInSeconds":86400,"policyDocuments":[
	{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]},
	"{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":\"iot:*\",\"Resource\":\"*\"}]}"]}`

// tokenKey is a key for tokens, with its public half in PEM form.
func tokenKey(t *testing.T) (sign func(token string) string, public string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return func(token string) string {
		hash := sha256.Sum256([]byte(token))
		sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, hash[:])
		if err != nil {
			t.Fatal(err)
		}
		return base64.StdEncoding.EncodeToString(sig)
	}, toPEM("PUBLIC KEY", der)
}

// openAuthorizer is an authorizer whose tokens are not signed.
func (f *fleet) openAuthorizer(name string) *iot.CreateAuthorizerInput {
	return &iot.CreateAuthorizerInput{AuthorizerName: &name, AuthorizerFunctionArn: aws.String(functionARN), SigningDisabled: aws.Bool(true)}
}

// TestB211SigningNeedsKeyAndToken: signing on without key or tokenKeyName is refused.
func TestB211SigningNeedsKeyAndToken(t *testing.T) {
	f := newFleet(t)
	_, public := tokenKey(t)
	for _, change := range []func(*iot.CreateAuthorizerInput){
		func(in *iot.CreateAuthorizerInput) { in.TokenKeyName = nil },
		func(in *iot.CreateAuthorizerInput) { in.TokenSigningPublicKeys = nil },
		func(in *iot.CreateAuthorizerInput) { in.TokenSigningPublicKeys = map[string]string{"k": "no key"} },
		func(in *iot.CreateAuthorizerInput) { in.AuthorizerFunctionArn = aws.String("http://example.com") },
	} {
		in := &iot.CreateAuthorizerInput{AuthorizerName: aws.String(f.name("a")), AuthorizerFunctionArn: aws.String(functionARN),
			TokenKeyName: aws.String("token"), TokenSigningPublicKeys: map[string]string{"k": public}}
		change(in)
		_, err := f.api.CreateAuthorizer(f.ctx, in)
		if _, ok := errors.AsType[*types.InvalidRequestException](err); !ok {
			t.Errorf("%v", err)
		}
	}
}

// TestB226TestInvokeAuthorizer: policies come as strings, whatever the function answered; what a
// function must not answer is InvalidResponseException.
func TestB226TestInvokeAuthorizer(t *testing.T) {
	t.Parallel()
	fn := newFunction(t, letIn)
	f := fleetOn(t, ownServer(t, fn.flag()))
	sign, public := tokenKey(t)
	_, err := f.api.CreateAuthorizer(f.ctx, &iot.CreateAuthorizerInput{AuthorizerName: aws.String("a"), AuthorizerFunctionArn: aws.String(functionARN),
		TokenKeyName: aws.String("token"), TokenSigningPublicKeys: map[string]string{"k": public}})
	f.must(err)
	in := &iot.TestInvokeAuthorizerInput{AuthorizerName: aws.String("a"), Token: aws.String("secret"), TokenSignature: aws.String(sign("secret")),
		HttpContext: &types.HttpContext{Headers: map[string]string{"h": "v"}, QueryString: aws.String("?a=b")},
		MqttContext: &types.MqttContext{Username: aws.String("u"), Password: []byte("pw"), ClientId: aws.String("c")},
		TlsContext:  &types.TlsContext{ServerName: aws.String("host")}}
	out, err := f.api.TestInvokeAuthorizer(f.ctx, in)
	f.must(err)
	if !*out.IsAuthenticated || *out.PrincipalId != "me" || len(out.PolicyDocuments) != 2 || out.PolicyDocuments[0] != out.PolicyDocuments[1] ||
		*out.RefreshAfterInSeconds != 300 || *out.DisconnectAfterInSeconds != 86400 {
		t.Errorf("%+v", out)
	}
	want := `{"token":"secret","signatureVerified":true,"protocols":["tls","http","mqtt"],"protocolData":{"tls":{"serverName":"host"},` +
		`"http":{"headers":{"h":"v"},"queryString":"?a=b"},"mqtt":{"username":"u","password":"cHc=","clientId":"c"}}}`
	if fn.events[0] != want {
		t.Errorf("event %s\nwant  %s", fn.events[0], want)
	}

	fn.says(`{"isAuthenticated":false}`)
	out, err = f.api.TestInvokeAuthorizer(f.ctx, in)
	f.must(err)
	if *out.IsAuthenticated || out.PrincipalId != nil || out.PolicyDocuments != nil {
		t.Errorf("%+v", out)
	}
	fn.says(`{"isAuthenticated":true,"principalId":"me","disconnectAfterInSeconds":60,"policyDocuments":[{}]}`)
	_, err = f.api.TestInvokeAuthorizer(f.ctx, in)
	if e, ok := errors.AsType[*types.InvalidResponseException](err); !ok || !strings.Contains(*e.Message, "disconnectAfterInSeconds is 60") {
		t.Errorf("%v", err)
	}

	asked := len(fn.events)
	in.TokenSignature = aws.String(sign("other"))
	_, err = f.api.TestInvokeAuthorizer(f.ctx, in)
	if _, ok := errors.AsType[*types.InvalidRequestException](err); !ok || len(fn.events) != asked {
		t.Errorf("a wrong signature: %v, asked %v", err, len(fn.events) > asked)
	}
}

// TestB228DeleteAuthorizer: an active authorizer and the default one cannot be deleted.
func TestB228DeleteAuthorizer(t *testing.T) {
	t.Parallel()
	f := fleetOn(t, ownServer(t))
	in := f.openAuthorizer("a")
	in.Status = types.AuthorizerStatusActive
	made, err := f.api.CreateAuthorizer(f.ctx, in)
	f.must(err)
	if want := f.arn("authorizer", "a"); *made.AuthorizerArn != want {
		t.Errorf("%s, want %s", *made.AuthorizerArn, want)
	}
	conflict := func() {
		t.Helper()
		_, err := f.api.DeleteAuthorizer(f.ctx, &iot.DeleteAuthorizerInput{AuthorizerName: aws.String("a")})
		if _, ok := errors.AsType[*types.DeleteConflictException](err); !ok {
			t.Errorf("%v", err)
		}
	}
	conflict()
	_, err = f.api.SetDefaultAuthorizer(f.ctx, &iot.SetDefaultAuthorizerInput{AuthorizerName: aws.String("a")})
	f.must(err)
	_, err = f.api.UpdateAuthorizer(f.ctx, &iot.UpdateAuthorizerInput{AuthorizerName: aws.String("a"), Status: types.AuthorizerStatusInactive})
	f.must(err)
	conflict()

	_, err = f.api.CreateAuthorizer(f.ctx, f.openAuthorizer("b"))
	f.must(err)
	_, err = f.api.SetDefaultAuthorizer(f.ctx, &iot.SetDefaultAuthorizerInput{AuthorizerName: aws.String("b")})
	if _, ok := errors.AsType[*types.ResourceAlreadyExistsException](err); !ok {
		t.Errorf("a second default: %v", err)
	}
	standard, err := f.api.DescribeDefaultAuthorizer(f.ctx, &iot.DescribeDefaultAuthorizerInput{})
	f.must(err)
	if *standard.AuthorizerDescription.AuthorizerName != "a" {
		t.Errorf("%+v", standard.AuthorizerDescription)
	}
	_, err = f.api.ClearDefaultAuthorizer(f.ctx, &iot.ClearDefaultAuthorizerInput{})
	f.must(err)
	_, err = f.api.DescribeDefaultAuthorizer(f.ctx, &iot.DescribeDefaultAuthorizerInput{})
	if _, ok := errors.AsType[*types.ResourceNotFoundException](err); !ok {
		t.Errorf("no default: %v", err)
	}
	_, err = f.api.DeleteAuthorizer(f.ctx, &iot.DeleteAuthorizerInput{AuthorizerName: aws.String("a")})
	f.must(err)
	_, err = f.api.DescribeAuthorizer(f.ctx, &iot.DescribeAuthorizerInput{AuthorizerName: aws.String("a")})
	if _, ok := errors.AsType[*types.ResourceNotFoundException](err); !ok {
		t.Errorf("deleted: %v", err)
	}
}

// TestB229SigningIsForGood: an update keeps it, and everything else that it does not name.
func TestB229SigningIsForGood(t *testing.T) {
	f := newFleet(t)
	name := f.name("a")
	_, public := tokenKey(t)
	_, err := f.api.CreateAuthorizer(f.ctx, &iot.CreateAuthorizerInput{AuthorizerName: &name, AuthorizerFunctionArn: aws.String(functionARN),
		TokenKeyName: aws.String("token"), TokenSigningPublicKeys: map[string]string{"k": public}, EnableCachingForHttp: aws.Bool(true)})
	f.must(err)
	// The SDK has no member for it; who sends one all the same changes nothing.
	code, _, answer := f.call("iot", "PUT", "/authorizer/"+name, `{"signingDisabled":true,"authorizerFunctionArn":"https://example.com/f"}`)
	if code != 200 {
		t.Fatalf("%d %v", code, answer)
	}
	out, err := f.api.DescribeAuthorizer(f.ctx, &iot.DescribeAuthorizerInput{AuthorizerName: &name})
	f.must(err)
	d := out.AuthorizerDescription
	if *d.SigningDisabled || *d.AuthorizerFunctionArn != "https://example.com/f" || *d.TokenKeyName != "token" || d.TokenSigningPublicKeys["k"] != public ||
		!*d.EnableCachingForHttp || d.Status != types.AuthorizerStatusInactive {
		t.Errorf("%+v", d)
	}
}

// Authorizers are listed by when they were made, and there can be ten.
func TestListAuthorizers(t *testing.T) {
	t.Parallel()
	f := fleetOn(t, ownServer(t))
	var names []string
	for i := range 10 {
		in := f.openAuthorizer(string(rune('j' - i)))
		if i%2 == 0 {
			in.Status = types.AuthorizerStatusActive
		}
		_, err := f.api.CreateAuthorizer(f.ctx, in)
		f.must(err)
		names = append(names, *in.AuthorizerName)
	}
	_, err := f.api.CreateAuthorizer(f.ctx, f.openAuthorizer("one-more"))
	if _, ok := errors.AsType[*types.LimitExceededException](err); !ok {
		t.Errorf("the eleventh: %v", err)
	}
	list := func(in *iot.ListAuthorizersInput) string {
		var all []string
		for p := iot.NewListAuthorizersPaginator(f.api, in); p.HasMorePages(); {
			page, err := p.NextPage(f.ctx)
			f.must(err)
			for _, a := range page.Authorizers {
				all = append(all, *a.AuthorizerName)
			}
		}
		return strings.Join(all, "")
	}
	if got := list(&iot.ListAuthorizersInput{AscendingOrder: true, PageSize: aws.Int32(3)}); got != strings.Join(names, "") {
		t.Errorf("ascending %s", got)
	}
	if got := list(&iot.ListAuthorizersInput{PageSize: aws.Int32(4)}); got != "abcdefghij" {
		t.Errorf("descending %s", got)
	}
	if got := list(&iot.ListAuthorizersInput{AscendingOrder: true, Status: types.AuthorizerStatusActive}); got != "jhfdb" {
		t.Errorf("active %s", got)
	}
}
