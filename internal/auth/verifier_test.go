package auth

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	testKey    = "AKIDEXAMPLE"
	testSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
)

var testTime = time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)

func newVerifier() *Verifier {
	return &Verifier{
		Secret:   Key{testKey, testSecret}.Secret,
		Region:   "us-east-1",
		Services: []string{"iot", "execute-api", "iot-jobs-data"},
		Now:      func() time.Time { return testTime },
	}
}

// call is a request that a client is about to sign.
type call struct {
	method, target string // target: path and query as on the request line
	header         http.Header
	body           string
	service        string // "": iot
	region         string // "": us-east-1
	secret         string // "": testSecret
	at             time.Time
	sendHash       bool // X-Amz-Content-Sha256, as the JavaScript SDK does
	chunked        bool
}

// sign signs with the SDK's own signer.
func (c call) sign(t testing.TB) *http.Request {
	t.Helper()
	u, err := url.Parse("http://drover.local:8080" + c.target)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequest(orElse(c.method, "GET"), u.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.URL = u
	r.Header = c.header.Clone()
	if r.Header == nil {
		r.Header = http.Header{}
	}
	if c.body != "" {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(c.body)), int64(len(c.body))
	}
	if c.chunked {
		r.ContentLength = -1
	}
	hash := hexHash(c.body)
	if c.sendHash {
		r.Header.Set(contentHash, hash)
	}
	if values := r.Header[contentHash]; len(values) == 1 {
		hash = values[0]
	}
	at := c.at
	if at.IsZero() {
		at = testTime
	}
	credentials := aws.Credentials{AccessKeyID: testKey, SecretAccessKey: orElse(c.secret, testSecret)}
	service := orElse(c.service, "iot")
	err = v4.NewSigner().SignHTTP(context.Background(), credentials, r, hash, service, orElse(c.region, "us-east-1"), at,
		func(o *v4.SignerOptions) { o.DisableURIPathEscaping = service == "s3" })
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// wire is the request as its bytes on the connection, without headers that nobody signed.
func (c call) wire(t testing.TB) string {
	t.Helper()
	r := c.sign(t)
	r.Header["User-Agent"] = []string{""} // keeps net/http from adding one
	var b bytes.Buffer
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// received is the request as the server sees it.
func (c call) received(t testing.TB) *http.Request { return parseRequest(t, c.wire(t)) }

func parseRequest(t testing.TB, text string) *http.Request {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return r
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func hexHash(body string) string {
	hash := sha256.Sum256([]byte(body))
	return hex.EncodeToString(hash[:])
}

func accept(t testing.TB, v *Verifier, r *http.Request) Identity {
	t.Helper()
	id, err := v.Verify(r)
	if err != nil {
		t.Fatalf("%s %s refused: %v", r.Method, r.URL, err)
	}
	return id
}

// refuse wants an *Error of the code and status whose message holds every part.
func refuse(t testing.TB, v *Verifier, r *http.Request, code string, status int, parts ...string) {
	t.Helper()
	id, err := v.Verify(r)
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, %v; want %s", id, err, code)
	}
	if id != (Identity{}) {
		t.Errorf("refused, yet the identity is %v", id)
	}
	if e.Code != code || e.Status != status {
		t.Errorf("got %d %v; want %d %s", e.Status, e, status, code)
	}
	for _, part := range parts {
		if !strings.Contains(e.Message, part) {
			t.Errorf("message %q does not hold %q", e.Message, part)
		}
	}
	if strings.Contains(e.Message, testSecret) {
		t.Errorf("message %q holds the secret", e.Message)
	}
}

func TestVerifyAcceptsWhatTheSDKSigns(t *testing.T) {
	t.Parallel()
	targets := []string{
		"/", "/jobs", "/jobs/", "/jobs/job-1", "/things/a%3Ab/jobs/$next", "/things/a%3Ab/jobs/%24next",
		"/things/thing:1", "/attached-policies/arn%3Aaws%3Aiot%2Fname", "/a%20b/%E1%88%B4/%25/~-._",
		"/things//jobs", "/a/./b/../c", "/é", "/!$&'()*+,;=:@", "/%7e",
		"/jobs?", "/jobs?maxResults=10&nextToken=a%2Fb%3D%3D", "/jobs?nextToken=x&maxResults=1", "/jobs?b=2&a=1&a=0&a=00",
		"/jobs?k=a%2Fb&k=a-b", "/jobs?name=a%20b", "/jobs?name=a+b", "/jobs?name=a%2Bb", "/jobs?flag", "/jobs?flag=&other", "/jobs?x=a=b",
		"/jobs?%C3%A9=1&a=2", "/jobs?=x", "/jobs?a=1&&b=2", "/jobs?maxResults=%7E-._",
	}
	bodies := []string{"", "{}", `{"targets":["arn:aws:iot:us-east-1:1:thing/é"]}`, strings.Repeat("x", 100_000)}
	headers := []http.Header{
		nil,
		{"Content-Type": {"application/json"}, "X-Amzn-Principal": {"arn:aws:iot:x"}},
		{"X-Amz-Meta": {"  a   b  c "}, "My-Header": {"v2", "v1", " v0 "}, "Empty": {""}, "Tab": {"a\tb"}},
		{"Amz-Sdk-Invocation-Id": {"f1a0"}, "Amz-Sdk-Request": {"attempt=1; max=3"}, "Content-Type": {"application/json; charset=utf-8"}},
	}
	v := newVerifier()
	n := 0
	for _, target := range targets {
		for _, body := range bodies {
			for _, header := range headers {
				n++
				c := call{method: "GET", target: target, header: header, body: body, sendHash: n%2 == 0}
				if body != "" {
					c.method = []string{"POST", "PUT", "PATCH", "DELETE"}[n%4]
				}
				c.service = v.Services[n%3]
				r := c.received(t)
				id := accept(t, v, r)
				if want := (Identity{Principal: Principal{AccessKeyID: testKey}, Service: c.service, Region: "us-east-1"}); id != want {
					t.Fatalf("got %v, want %v", id, want)
				}
				if got, err := io.ReadAll(r.Body); err != nil || string(got) != body {
					t.Fatalf("handler reads %d bytes, %v; want %d", len(got), err, len(body))
				}
			}
		}
	}
}

func TestVerifyThroughAServer(t *testing.T) {
	t.Parallel()
	v := newVerifier()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, err := v.Verify(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		got, ok := IdentityFrom(WithIdentity(r.Context(), id))
		_, _ = fmt.Fprintf(w, "%s %v %s", got.Principal.AccessKeyID, ok, body)
	}))
	t.Cleanup(server.Close)

	for name, c := range map[string]call{
		"with length": {method: "PUT", target: "/things/a%3Ab/jobs/$next?x=1", body: `{"a":1}`},
		"chunked":     {method: "PUT", target: "/things/a%3Ab/jobs/$next?x=1", body: `{"a":1}`, chunked: true},
	} {
		r := c.sign(t)
		u, err := url.Parse(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		r.Host, r.URL.Host = "drover.local:8080", u.Host
		response, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		if err != nil || response.Body.Close() != nil {
			t.Fatal(err)
		}
		if want := testKey + ` true {"a":1}`; response.StatusCode != 200 || string(text) != want {
			t.Errorf("%s: got %d %q, want %q", name, response.StatusCode, text, want)
		}
	}
	if _, ok := IdentityFrom(context.Background()); ok {
		t.Error("an empty context has an identity")
	}
}

// TestVerifyPublishedVectors holds cases of AWS's Signature Version 4 test suite. Its cases
// of paths that are normalised are left out: SDKs disagree on them, and here they are not.
func TestVerifyPublishedVectors(t *testing.T) {
	t.Parallel()
	const form = "application/x-www-form-urlencoded"
	for name, c := range map[string]struct {
		method, target, headers, body, signed, signature string
	}{
		"get-vanilla": {signature: "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
		"get-vanilla-query-order-key-case": {target: "/?Param2=value2&Param1=value1",
			signature: "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
		"get-vanilla-empty-query-key": {target: "/?Param1=value1",
			signature: "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"},
		"get-utf8": {target: "/ሴ", signature: "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"},
		"get-unreserved": {target: "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
			signature: "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"},
		"get-header-value-trim": {headers: "My-Header1: value1\r\nMy-Header2: \"a   b   c\"\r\n", signed: "host;my-header1;my-header2;x-amz-date",
			signature: "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"},
		"get-header-key-duplicate": {headers: "My-Header1: value2\r\nMy-Header1: value2\r\nMy-Header1: value1\r\n", signed: "host;my-header1;x-amz-date",
			signature: "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea"},
		"post-vanilla": {method: "POST", signature: "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
		"post-vanilla-query": {method: "POST", target: "/?Param1=value1",
			signature: "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"},
		"post-x-www-form-urlencoded": {method: "POST", headers: "Content-Type: " + form + "\r\n", body: "Param1=value1", signed: "content-type;host;x-amz-date",
			signature: "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: example.amazonaws.com\r\n%sX-Amz-Date: 20150830T123600Z\r\nContent-Length: %d\r\n"+
				"Authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=%s, Signature=%s\r\n\r\n%s",
				orElse(c.method, "GET"), orElse(c.target, "/"), c.headers, len(c.body), orElse(c.signed, "host;x-amz-date"), c.signature, c.body)
			v := newVerifier()
			v.Services = []string{"service"}
			accept(t, v, parseRequest(t, text))
		})
	}
}

// TestVerifyEveryByteCounts changes each visible byte of a signed request in turn.
func TestVerifyEveryByteCounts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]call{
		"hash not sent": {method: "POST", target: "/things/a%3Ab/jobs/$next?b=2&a=x%20y", body: `{"status":"SUCCEEDED"}`,
			header: http.Header{"Content-Type": {"application/json"}, "X-Amz-Meta": {"a b"}}},
		"hash sent": {method: "PUT", target: "/jobs/j?a=1", body: "hello", sendHash: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := c.wire(t)
			v := newVerifier()
			accept(t, v, parseRequest(t, text))
			version := strings.Index(text, "HTTP/1.1") // not part of what is signed
			tried := 0
			for i := range len(text) {
				if text[i] <= ' ' || i >= version && i < version+len("HTTP/1.1") {
					continue
				}
				for _, flip := range []byte{1, 2, 16} {
					b := []byte(text)
					b[i] ^= flip
					r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
					if err != nil {
						continue
					}
					tried++
					if id, err := v.Verify(r); err == nil {
						t.Errorf("byte %d: %q for %q is accepted as %v\n%s", i, b[i], text[i], id, b)
					}
				}
			}
			if tried < len(text) {
				t.Errorf("only %d changes of %d bytes came to a verdict", tried, len(text))
			}
		})
	}
}

func TestVerifyRefusesOtherRequestsUnderTheSameSignature(t *testing.T) {
	t.Parallel()
	base := call{method: "POST", target: "/jobs/a?x=1", body: "{}", header: http.Header{"X-Amz-Meta": {"1"}}}
	for name, alter := range map[string]func(*http.Request){
		"another method":      func(r *http.Request) { r.Method = "PUT" },
		"another host":        func(r *http.Request) { r.Host = "drover.local:8081" },
		"host without port":   func(r *http.Request) { r.Host = "drover.local" },
		"trailing slash":      func(r *http.Request) { r.URL.Path += "/" },
		"encoded path":        func(r *http.Request) { r.URL.Path, r.URL.RawPath = "/jobs/a", "/jobs/%61" },
		"another parameter":   func(r *http.Request) { r.URL.RawQuery += "&y=2" },
		"parameter twice":     func(r *http.Request) { r.URL.RawQuery += "&x=1" },
		"no query":            func(r *http.Request) { r.URL.RawQuery = "" },
		"header value twice":  func(r *http.Request) { r.Header.Add("X-Amz-Meta", "1") },
		"another body":        func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("[]")) },
		"no body":             func(r *http.Request) { r.Body = http.NoBody },
		"another second":      func(r *http.Request) { r.Header.Set("X-Amz-Date", "20150830T123601Z") },
		"another scope":       func(r *http.Request) { replaceAuthorization(r, "/iot/", "/execute-api/") },
		"fewer headers":       func(r *http.Request) { replaceAuthorization(r, "content-length;", "") },
		"headers in an order": func(r *http.Request) { replaceAuthorization(r, "content-length;host;", "host;content-length;") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := base.received(t)
			alter(r)
			refuse(t, newVerifier(), r, CodeInvalidSignature, 403, "does not match the signature you provided")
		})
	}
	t.Run("another secret", func(t *testing.T) {
		t.Parallel()
		c := base
		c.secret = "wrong"
		refuse(t, newVerifier(), c.received(t), CodeInvalidSignature, 403, "does not match the signature you provided")
	})
}

func replaceAuthorization(r *http.Request, old, new string) {
	r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), old, new, 1))
}

func TestVerifyRefusals(t *testing.T) {
	t.Parallel()
	signed := call{method: "GET", target: "/jobs"}
	for name, c := range map[string]struct {
		call   call
		alter  func(*http.Request)
		code   string
		status int
		parts  []string
	}{
		"no signature": {signed, func(r *http.Request) { r.Header.Del("Authorization") },
			CodeMissingToken, 403, []string{"Missing Authentication Token"}},
		"empty signature": {signed, func(r *http.Request) { r.Header.Set("Authorization", "") },
			CodeMissingToken, 403, []string{"Missing Authentication Token"}},
		"two signatures": {signed, func(r *http.Request) { r.Header.Add("Authorization", r.Header.Get("Authorization")) },
			CodeIncomplete, 400, []string{"2 Authorization headers"}},
		"presigned": {signed, func(r *http.Request) { r.URL.RawQuery = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=00" },
			CodeIncomplete, 400, []string{"presigned", "Authorization header"}},
		"session token": {call{target: "/jobs", header: http.Header{"X-Amz-Security-Token": {"t"}}}, nil,
			CodeUnrecognizedClient, 403, []string{"temporary credentials", "AWS_SESSION_TOKEN"}},
		"unknown key": {signed, func(r *http.Request) { replaceAuthorization(r, testKey, "AKIDOTHER") },
			CodeInvalidSignature, 403, []string{"does not match the signature you provided", "Access Key Id"}},
		"no date": {signed, func(r *http.Request) { r.Header.Del("X-Amz-Date") },
			CodeIncomplete, 400, []string{"'X-Amz-Date'", "'Date'"}},
		"two dates": {signed, func(r *http.Request) { r.Header.Add("X-Amz-Date", "20150830T123600Z") },
			CodeIncomplete, 400, []string{"2 'X-Amz-Date'"}},
		"bad date": {signed, func(r *http.Request) { r.Header.Set("X-Amz-Date", "yesterday") },
			CodeIncomplete, 400, []string{"ISO-8601", "'yesterday'"}},
		"fraction of a second": {signed, func(r *http.Request) { r.Header.Set("X-Amz-Date", "20150830T123600.5Z") },
			CodeIncomplete, 400, []string{"ISO-8601"}},
		"date of another day": {signed, func(r *http.Request) { r.Header.Set("X-Amz-Date", "20150831T000000Z") },
			CodeInvalidSignature, 403, []string{"'20150830' != '20150831', from '20150831T000000Z'"}},
		"region": {call{target: "/jobs", region: "eu-west-1"}, nil,
			CodeInvalidSignature, 403, []string{"valid region, not 'eu-west-1'", "'us-east-1'"}},
		"service": {call{target: "/jobs", service: "s3"}, nil,
			CodeInvalidSignature, 403, []string{"Credential should be scoped to correct service: 'iot'"}},
		"terminator": {signed, func(r *http.Request) { replaceAuthorization(r, "aws4_request", "aws5_request") },
			CodeInvalidSignature, 403, []string{"valid terminator: 'aws4_request', not 'aws5_request'"}},
		"host not signed": {signed, func(r *http.Request) { replaceAuthorization(r, "host;", "") },
			CodeInvalidSignature, 403, []string{"'Host' or ':authority' must be a 'SignedHeader'"}},
		"signed header absent": {signed, func(r *http.Request) { replaceAuthorization(r, "host;", "host;my-header;") },
			CodeInvalidSignature, 403, []string{"'my-header'"}},
		"amz header not signed": {signed, func(r *http.Request) { r.Header.Set("X-Amz-Target", "x"); r.Header.Set("X-Amz-Acl", "x") },
			CodeAccessDenied, 403, []string{"not signed: x-amz-acl, x-amz-target"}},
		"amz date not signed": {signed, func(r *http.Request) { replaceAuthorization(r, ";x-amz-date", "") },
			CodeAccessDenied, 403, []string{"not signed: x-amz-date"}},
		"unsigned payload": {call{method: "PUT", target: "/jobs", body: "x", header: http.Header{contentHash: {unsignedPayload}}}, nil,
			CodeInvalidSignature, 403, []string{"UNSIGNED-PAYLOAD"}},
		"streaming payload": {call{method: "PUT", target: "/jobs", body: "x", header: http.Header{contentHash: {"STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}}}, nil,
			CodeInvalidSignature, 403, []string{"64 lower-case hexadecimal digits", "STREAMING"}},
		"two hashes": {call{target: "/jobs", header: http.Header{contentHash: {emptyHash, emptyHash}}}, nil,
			CodeIncomplete, 400, []string{"2 'x-amz-content-sha256'"}},
		"hash of another body": {call{method: "PUT", target: "/jobs", body: "x", header: http.Header{contentHash: {emptyHash}}}, nil,
			CodeInvalidSignature, 403, []string{"'x-amz-content-sha256' header does not match"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := c.call.received(t)
			if c.alter != nil {
				c.alter(r)
			}
			refuse(t, newVerifier(), r, c.code, c.status, c.parts...)
		})
	}
}

func TestVerifyDateHeader(t *testing.T) {
	t.Parallel()
	for _, date := range []string{"Sun, 30 Aug 2015 12:36:00 GMT", "20150830T123600Z"} {
		r := call{target: "/"}.received(t)
		r.Header.Del("X-Amz-Date")
		r.Header.Set("Date", date)
		signed := []string{"date", "host"}
		canonical := canonicalRequest(r, "iot", signed, emptyHash)
		s := scope{"20150830", "us-east-1", "iot"}
		key := deriveKey(testSecret, s)
		mac := sum(key[:], algorithm+"\n20150830T123600Z\n"+s.String()+"\n"+hexHash(canonical))
		r.Header.Set("Authorization", fmt.Sprintf("%s Credential=%s/%s,SignedHeaders=date;host,Signature=%x", algorithm, testKey, s, mac))
		accept(t, newVerifier(), r)
	}
}

func TestVerifySkew(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		skew    time.Duration // of the Verifier
		off     time.Duration // the client's clock
		message string        // "": accepted
	}{
		{0, 0, ""},
		{0, 5 * time.Minute, ""},
		{0, -5 * time.Minute, ""},
		{0, -5*time.Minute - time.Second, "Signature expired: 20150830T123059Z is now earlier than 20150830T123100Z (20150830T123600Z - 5 min.)"},
		{0, 5*time.Minute + time.Second, "Signature not yet current: 20150830T124101Z is still later than 20150830T124100Z (20150830T123600Z + 5 min.)"},
		{0, -12 * time.Hour, "Signature expired"},
		{0, 365 * 24 * time.Hour, "Signature not yet current"},
		{10 * time.Second, 10 * time.Second, ""},
		{10 * time.Second, -11 * time.Second, "(20150830T123600Z - 10s.)"},
	} {
		for _, fraction := range []time.Duration{0, 999 * time.Millisecond} {
			v := newVerifier()
			v.Skew = c.skew
			v.Now = func() time.Time { return testTime.Add(fraction).In(time.FixedZone("", 3600)) }
			r := call{target: "/jobs", at: testTime.Add(c.off)}.received(t)
			if c.message == "" {
				accept(t, v, r)
			} else {
				refuse(t, v, r, CodeInvalidSignature, 403, c.message)
			}
		}
	}
	v := newVerifier()
	v.Now = nil
	accept(t, v, call{target: "/jobs", at: time.Now()}.received(t))
}

func TestVerifyBodyLimit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		max  int64
		size int
		ok   bool
	}{{10, 10, true}, {10, 11, false}, {0, 1 << 20, true}, {0, 1<<20 + 1, false}} {
		for _, chunked := range []bool{false, true} {
			for _, sendHash := range []bool{false, true} {
				v := newVerifier()
				v.MaxBody = c.max
				r := call{method: "PUT", target: "/", body: strings.Repeat("x", c.size), chunked: chunked, sendHash: sendHash}.received(t)
				if c.ok {
					accept(t, v, r)
				} else {
					refuse(t, v, r, CodeEntityTooLarge, 413, fmt.Sprint(c.size-1))
				}
			}
		}
	}

	r := call{method: "PUT", target: "/", body: "12345678901", chunked: true}.received(t)
	r.Body = http.MaxBytesReader(httptest.NewRecorder(), r.Body, 5) // a limit of the server around ours
	refuse(t, newVerifier(), r, CodeEntityTooLarge, 413)

	text := call{method: "PUT", target: "/", body: "1234567890"}.wire(t)
	refuse(t, newVerifier(), parseRequest(t, text[:len(text)-1]), CodeIncompleteBody, 400, "to its end")
}

// untouchable is a body that must not be read.
type untouchable struct{ t *testing.T }

func (u untouchable) Read([]byte) (int, error) { u.t.Error("the body is read"); return 0, io.EOF }
func (u untouchable) Close() error             { return nil }

func TestVerifyReadsNoBodyOfStrangers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]call{
		"wrong signature, hash sent": {method: "PUT", target: "/", body: "x", sendHash: true, secret: "wrong"},
		"expired":                    {method: "PUT", target: "/", body: "x", at: testTime.Add(-time.Hour)},
		"wrong region":               {method: "PUT", target: "/", body: "x", region: "eu-west-1"},
	} {
		r := c.received(t)
		r.Body = untouchable{t}
		if _, err := newVerifier().Verify(r); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestVerifyUnsignedPayload(t *testing.T) {
	t.Parallel()
	v := newVerifier()
	v.AllowUnsignedPayload = true
	v.MaxBody = 1
	r := call{method: "PUT", target: "/", body: "any length", header: http.Header{contentHash: {unsignedPayload}}}.received(t)
	accept(t, v, r)
	if got, err := io.ReadAll(r.Body); err != nil || string(got) != "any length" {
		t.Errorf("handler reads %q, %v", got, err)
	}
}

func TestVerifyS3EncodesThePathOnce(t *testing.T) {
	t.Parallel()
	v := newVerifier()
	v.Services = []string{"s3"}
	accept(t, v, call{target: "/bucket/a%20b/%24x", service: "s3"}.received(t))
	refuse(t, v, call{target: "/bucket/a%20b", service: "iot"}.received(t), CodeInvalidSignature, 403, "correct service: 's3'")
}

func TestVerifyAnyRegion(t *testing.T) {
	t.Parallel()
	v := newVerifier()
	v.Region = ""
	if id := accept(t, v, call{target: "/", region: "mars-1"}.received(t)); id.Region != "mars-1" {
		t.Errorf("region is %q", id.Region)
	}
}

func TestVerifyZeroValueRefuses(t *testing.T) {
	t.Parallel()
	refuse(t, &Verifier{}, call{target: "/", at: time.Now()}.received(t), CodeInvalidSignature, 403, "correct service")
	v := newVerifier()
	v.Secret = nil
	refuse(t, v, call{target: "/"}.received(t), CodeInvalidSignature, 403)
	v.Secret = Key{}.Secret
	refuse(t, v, call{target: "/"}.received(t), CodeInvalidSignature, 403)
}

func TestSigningKeys(t *testing.T) {
	t.Parallel()
	t.Run("a replaced secret is not found in the cache", func(t *testing.T) {
		t.Parallel()
		v := newVerifier()
		secret := testSecret
		v.Secret = func(string) (string, bool) { return secret, true }
		accept(t, v, call{target: "/"}.received(t))
		secret = "another"
		refuse(t, v, call{target: "/"}.received(t), CodeInvalidSignature, 403)
		accept(t, v, call{target: "/", secret: "another"}.received(t))
	})
	t.Run("the cache is bounded", func(t *testing.T) {
		t.Parallel()
		v := newVerifier()
		v.Region = ""
		for i := range maxSigningKeys + 10 {
			accept(t, v, call{target: "/", region: fmt.Sprint("r", i)}.received(t))
			if len(v.keys) > maxSigningKeys {
				t.Fatalf("%d keys", len(v.keys))
			}
		}
	})
	t.Run("a wrong signature leaves nothing", func(t *testing.T) {
		t.Parallel()
		v := newVerifier()
		v.Region = ""
		refuse(t, v, call{target: "/", region: "x", secret: "wrong"}.received(t), CodeInvalidSignature, 403)
		if len(v.keys) != 0 {
			t.Errorf("%d keys", len(v.keys))
		}
	})
	t.Run("concurrent use", func(t *testing.T) {
		t.Parallel()
		v := newVerifier()
		v.Region = ""
		var group sync.WaitGroup
		for i := range 8 {
			group.Go(func() {
				for j := range 20 {
					if _, err := v.Verify(call{target: "/", region: fmt.Sprint("r", i*j%7)}.received(t)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		group.Wait()
	})
}

// FuzzVerify signs what the fuzzer makes with the SDK's signer, which must be accepted, and
// then replaces the header by the fuzzer's own, which must be refused in AWS's words.
func FuzzVerify(f *testing.F) {
	f.Add("GET", "/jobs/a%3Ab/$next", "b=2&a=x+y", "x-amz-meta", " a  b ", "{}", "AWS4-HMAC-SHA256 Credential=")
	f.Add("PUT", "//../é%2F", "%zz&;=&&a", "content-type", "\t", "", "Basic Zm9vOmJhcg==")
	f.Add("POST", "/", "a=%2F&a=-", "date", "x", "body", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iot/aws4_request, SignedHeaders=host;x-amz-date, Signature="+emptyHash)
	f.Fuzz(func(t *testing.T, method, path, query, name, value, body, authorization string) {
		r, err := http.NewRequest(method, "http://drover.local/", strings.NewReader(body))
		if err != nil {
			return // not a method
		}
		r.URL.Path, r.URL.RawPath, r.URL.RawQuery = "/"+path, "", query
		if hasQuerySignature(query) {
			return // presigned
		}
		if _, err := url.ParseQuery(query); err != nil {
			r.URL.RawQuery = "" // the signer drops what does not parse, and the server must not
		}
		r.Header.Set(name, value)
		r.Header.Del("X-Amz-Security-Token")
		r.Header.Del(contentHash)
		credentials := aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}
		if err := v4.NewSigner().SignHTTP(t.Context(), credentials, r, hexHash(body), "iot", "us-east-1", testTime); err != nil {
			t.Fatal(err)
		}
		var text bytes.Buffer
		if err := r.Write(&text); err != nil {
			return // net/http does not send it
		}
		received, err := http.ReadRequest(bufio.NewReader(&text))
		if err != nil {
			return // net/http does not receive it
		}
		signature := received.Header.Get("Authorization")
		v := newVerifier()
		if signable(name) && !strings.ContainsAny(value, "\r\n") {
			accept(t, v, received)
		} else {
			_, _ = v.Verify(received) // must not panic
		}

		received.Header.Set("Authorization", authorization)
		_, err = v.Verify(received)
		var e *Error
		if authorization != signature && (!errors.As(err, &e) || e.Code == "" || e.Status < 400 || e.Message == "") {
			t.Fatalf("%q: %v", authorization, err)
		}
	})
}

// signable reports whether a header reaches the server as it was signed: net/http writes
// some headers by itself, and sends no name that is not one.
func signable(name string) bool {
	switch strings.ToLower(name) {
	case "host", "content-length", "transfer-encoding", "trailer", "user-agent", "authorization", "connection", "x-amz-date":
		return false
	}
	return name != "" && !strings.ContainsFunc(strings.ToLower(name), notHeaderName)
}

func BenchmarkVerify(b *testing.B) {
	text := call{method: "POST", target: "/things/thing-1/jobs/job-1?namespaceId=x", body: `{"status":"SUCCEEDED","statusDetails":{"step":"9"}}`,
		header: http.Header{"Content-Type": {"application/json"}, "Amz-Sdk-Request": {"attempt=1; max=3"}}}.wire(b)
	r := parseRequest(b, text)
	v := newVerifier()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(r); err != nil {
			b.Fatal(err)
		}
		r.Body = io.NopCloser(strings.NewReader(`{"status":"SUCCEEDED","statusDetails":{"step":"9"}}`))
	}
}
