package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

func s3Verifier(now time.Time) *Verifier {
	return &Verifier{Secret: Key{testKey, testSecret}.Secret, Now: func() time.Time { return now }}
}

// exampleVerifier knows the key and the time of the examples in AWS's documentation of S3.
func exampleVerifier() *Verifier {
	return &Verifier{
		Secret: Key{"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}.Secret,
		Now:    func() time.Time { return time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC) },
	}
}

func presignWithSDK(t *testing.T, method, target string, expires string) string {
	t.Helper()
	r, err := http.NewRequest(method, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	q := r.URL.Query()
	q.Set("X-Amz-Expires", expires)
	r.URL.RawQuery = q.Encode()
	signed, _, err := v4.NewSigner().PresignHTTP(context.Background(), aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret},
		r, "UNSIGNED-PAYLOAD", "s3", "us-east-1", testTime, func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// fetch is the request of a client that was given a URL.
func fetch(t *testing.T, method, target string) *http.Request {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	return parseRequest(t, method+" "+u.RequestURI()+" HTTP/1.1\r\nHost: "+u.Host+"\r\n\r\n")
}

func refusedAs(t *testing.T, v *Verifier, r *http.Request, code, message string) {
	t.Helper()
	_, err := v.VerifyS3(r)
	if err == nil {
		_, err = io.Copy(io.Discard, r.Body)
	}
	var refused *Error
	if !errors.As(err, &refused) {
		t.Fatalf("%s %s: got %v, want %s", r.Method, r.URL, err, code)
	}
	if refused.Code != code || !strings.Contains(refused.Message, message) || refused.Status < 400 {
		t.Errorf("%s %s: got %d %v, want %s %q", r.Method, r.URL, refused.Status, err, code, message)
	}
}

func TestPresignedByTheSDK(t *testing.T) {
	t.Parallel()
	for _, target := range []string{
		"http://localhost:8080/firmware/a.bin",
		"http://localhost:8080/firmware/a%20b/%C3%A9%2B%25.bin?versionId=null&x-drover-job=a%2Fb%20c&x-drover-thing=t%3A1",
		"http://localhost:8080/",
	} {
		signed := presignWithSDK(t, "GET", target, "600")
		r := fetch(t, "GET", signed)
		if !IsS3(r) {
			t.Errorf("%s is not taken for S3", signed)
		}
		id, err := s3Verifier(testTime).VerifyS3(r)
		if err != nil || id.Principal.AccessKeyID != testKey || id.Service != "s3" || id.Region != "us-east-1" {
			t.Errorf("%s: %+v, %v", signed, id, err)
		}
	}
}

func TestPresignedURL(t *testing.T) {
	t.Parallel()
	signed := presignWithSDK(t, "GET", "http://localhost:8080/firmware/a.bin?x-drover-job=j", "600")
	replace := func(old, new string) string {
		t.Helper()
		changed := strings.Replace(signed, old, new, 1)
		if changed == signed {
			t.Fatalf("%q is not in %s", old, signed)
		}
		return changed
	}
	for name, c := range map[string]struct {
		method, target string
		at             time.Duration // after it was signed
		code, message  string
	}{
		"good":                      {"GET", signed, 0, "", ""},
		"good to the last second":   {"GET", signed, 600 * time.Second, "", ""},
		"good with a fast clock":    {"GET", signed, -15 * time.Minute, "", ""},
		"expired":                   {"GET", signed, 601 * time.Second, "AccessDenied", "Request has expired"},
		"not yet":                   {"GET", signed, -15*time.Minute - time.Second, "AccessDenied", "not valid yet"},
		"another method":            {"PUT", signed, 0, "SignatureDoesNotMatch", ""},
		"a HEAD":                    {"HEAD", signed, 0, "SignatureDoesNotMatch", ""},
		"another path":              {"GET", replace("a.bin", "b.bin"), 0, "SignatureDoesNotMatch", ""},
		"another host":              {"GET", replace("localhost", "127.0.0.1"), 0, "SignatureDoesNotMatch", ""},
		"another job":               {"GET", replace("x-drover-job=j", "x-drover-job=k"), 0, "SignatureDoesNotMatch", ""},
		"a job less":                {"GET", replace("x-drover-job=j", "x"), 0, "SignatureDoesNotMatch", ""},
		"a parameter more":          {"GET", signed + "&versionId=null", 0, "SignatureDoesNotMatch", ""},
		"longer":                    {"GET", replace("X-Amz-Expires=600", "X-Amz-Expires=6000"), 0, "SignatureDoesNotMatch", ""},
		"another signature":         {"GET", replace("X-Amz-Signature=", "X-Amz-Signature=0"), 0, "SignatureDoesNotMatch", ""},
		"cut off":                   {"GET", signed[:len(signed)-1], 0, "SignatureDoesNotMatch", ""},
		"no signature":              {"GET", signed[:strings.Index(signed, "&X-Amz-Signature")], 0, "AuthorizationQueryParametersError", "parameters"},
		"two dates":                 {"GET", signed + "&X-Amz-Date=20150830T123600Z", 0, "AuthorizationQueryParametersError", "more than one X-Amz-Date"},
		"more than 7 days":          {"GET", replace("X-Amz-Expires=600", "X-Amz-Expires=604801"), 0, "AuthorizationQueryParametersError", "604800"},
		"a time before its time":    {"GET", replace("X-Amz-Expires=600", "X-Amz-Expires=-1"), 0, "AuthorizationQueryParametersError", "X-Amz-Expires"},
		"another day in the scope":  {"GET", replace("20150830%2F", "20150831%2F"), 0, "AuthorizationQueryParametersError", "date"},
		"another service":           {"GET", replace("%2Fs3%2F", "%2Fiot%2F"), 0, "AuthorizationQueryParametersError", "service"},
		"another region":            {"GET", replace("us-east-1", "us-east-2"), 0, "SignatureDoesNotMatch", ""},
		"another key":               {"GET", replace(testKey, "AKIDOTHER"), 0, "SignatureDoesNotMatch", ""},
		"another algorithm":         {"GET", replace("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA512"), 0, "AuthorizationQueryParametersError", "X-Amz-Algorithm"},
		"host not signed":           {"GET", replace("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=date"), 0, "AuthorizationQueryParametersError", "Host"},
		"with a session":            {"GET", signed + "&X-Amz-Security-Token=x", 0, "InvalidToken", "AWS_SESSION_TOKEN"},
		"a signature of version 2":  {"GET", "http://localhost:8080/b/k?AWSAccessKeyId=x&Signature=y&Expires=1", 0, "InvalidRequest", "AWS4-HMAC-SHA256"},
		"not signed":                {"GET", "http://localhost:8080/b/k", 0, "AccessDenied", "Access Denied"},
		"path encoded another way":  {"GET", replace("a.bin", "%61.bin"), 0, "", ""}, // means the same object
		"query in another order":    {"GET", replace("x-drover-job=j&", "") + "&x-drover-job=j", 0, "", ""},
		"empty parameters between":  {"GET", replace("?", "?&"), 0, "", ""},
		"signature of another case": {"GET", signed + "&x-amz-signature=1", 0, "SignatureDoesNotMatch", ""},
	} {
		v := s3Verifier(testTime.Add(c.at))
		r := fetch(t, c.method, c.target)
		if c.code != "" {
			t.Log(name)
			refusedAs(t, v, r, c.code, c.message)
		} else if _, err := v.VerifyS3(r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := fetch(t, "GET", signed)
	r.Header.Set("X-Amz-Copy-Source", "other/secret")
	refusedAs(t, s3Verifier(testTime), r, "AccessDenied", "x-amz-copy-source")
	r = fetch(t, "GET", signed)
	r.Header.Set("Authorization", goodHeader)
	refusedAs(t, s3Verifier(testTime), r, "InvalidArgument", "Only one auth mechanism")
}

func TestS3Header(t *testing.T) {
	t.Parallel()
	good := call{method: "PUT", target: "/bucket/a%20b", body: "data", service: "s3", sendHash: true}
	r := good.received(t)
	if _, err := s3Verifier(testTime).VerifyS3(r); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r.Body); err != nil || string(got) != "data" {
		t.Errorf("%q, %v", got, err)
	}
	for _, skew := range []time.Duration{-15 * time.Minute, 15 * time.Minute} {
		if _, err := s3Verifier(testTime.Add(skew)).VerifyS3(good.received(t)); err != nil {
			t.Errorf("a clock that is off by %s: %v", skew, err)
		}
		off := skew + skew/900
		refusedAs(t, s3Verifier(testTime.Add(off)), good.received(t), "RequestTimeTooSkewed", "15 min")
	}
	change := func(old, new string) *http.Request {
		return parseRequest(t, strings.Replace(good.wire(t), old, new, 1))
	}
	v := s3Verifier(testTime)
	refusedAs(t, v, change("\r\n\r\ndata", "\r\n\r\nDATA"), "XAmzContentSHA256Mismatch", "")
	refusedAs(t, v, change("PUT ", "POST "), "SignatureDoesNotMatch", "")
	refusedAs(t, v, change("/a%20b", "/a%20c"), "SignatureDoesNotMatch", "")
	refusedAs(t, v, change("/a%20b", "/a%20b?acl"), "SignatureDoesNotMatch", "")
	refusedAs(t, v, change("Host:", "X-Amz-Acl: private\r\nHost:"), "AccessDenied", "x-amz-acl")
	refusedAs(t, v, change(testKey, "AKIDOTHER"), "SignatureDoesNotMatch", "")
	refusedAs(t, v, change("/s3/", "/iot/"), "AuthorizationHeaderMalformed", "service")
	refusedAs(t, v, change(testSecretScope, "AWS4-HMAC-SHA256 Nothing"), "AuthorizationHeaderMalformed", "")
	refusedAs(t, v, change("AWS4-HMAC-SHA256", "AWS"), "InvalidRequest", "AWS4-HMAC-SHA256")
	refusedAs(t, v, call{service: "s3"}.received(t), "InvalidRequest", "x-amz-content-sha256")
	refusedAs(t, v, call{service: "s3", header: http.Header{contentHash: {"STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"}}}.received(t), "NotImplemented", "ECDSA")
	refusedAs(t, v, call{service: "s3", header: http.Header{contentHash: {"abc"}}}.received(t), "InvalidArgument", "sha256")
}

const testSecretScope = "AWS4-HMAC-SHA256 Credential"

func TestIsS3(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"GET / HTTP/1.1\r\nHost: h\r\nAuthorization: AWS4-HMAC-SHA256 Credential=A/20150830/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0\r\n\r\n":  true,
		"GET / HTTP/1.1\r\nHost: h\r\nAuthorization: AWS4-HMAC-SHA256 Credential=A/20150830/us-east-1/iot/aws4_request, SignedHeaders=host, Signature=0\r\n\r\n": false,
		"GET / HTTP/1.1\r\nHost: h\r\nAuthorization: AWS A:b\r\n\r\n":                                                                                            true,
		"GET /?X-Amz-Credential=A%2F20150830%2Fus-east-1%2Fs3%2Faws4_request HTTP/1.1\r\nHost: h\r\n\r\n":                                                        true,
		"GET /?X-Amz-Credential=A%2F20150830%2Fus-east-1%2Fiotdata%2Faws4_request HTTP/1.1\r\nHost: h\r\n\r\n":                                                   false,
		"GET /?X-Amz-Signature=1&X-Amz-Credential=A/d/r/iotdata/aws4_request HTTP/1.1\r\nHost: h\r\n\r\n":                                                        false,
		"GET /?X-Amz-Signature=1 HTTP/1.1\r\nHost: h\r\n\r\n":                                                                                                    true,
		"GET /jobs?AWSAccessKeyId=1 HTTP/1.1\r\nHost: h\r\n\r\n":                                                                                                 true,
		"GET /jobs?maxResults=1 HTTP/1.1\r\nHost: h\r\n\r\n":                                                                                                     false,
	} {
		if got := IsS3(parseRequest(t, text)); got != want {
			t.Errorf("%q: %t", text, got)
		}
	}
}

// The examples of AWS's documentation, "Signature Calculations for the Authorization Header:
// Transferring Payload in Multiple Chunks" and "… Including Trailing Headers".
var (
	chunkedExample = "PUT /examplebucket/chunkObject.txt HTTP/1.1\r\nHost: s3.amazonaws.com\r\nx-amz-date: 20130524T000000Z\r\nx-amz-storage-class: REDUCED_REDUNDANCY\r\n" +
		"Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request," +
		"SignedHeaders=content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class," +
		"Signature=4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9\r\n" +
		"x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD\r\nContent-Encoding: aws-chunked\r\nx-amz-decoded-content-length: 66560\r\nContent-Length: 66824\r\n\r\n" +
		"10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n" + strings.Repeat("a", 65536) + "\r\n" +
		"400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n" + strings.Repeat("a", 1024) + "\r\n" +
		"0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n"
	trailerBody = "10000;chunk-signature=b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2\r\n" + strings.Repeat("a", 65536) + "\r\n" +
		"400;chunk-signature=1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7\r\n" + strings.Repeat("a", 1024) + "\r\n" +
		"0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n" +
		"x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n"
	trailerExample = "PUT /examplebucket/chunkObject.txt HTTP/1.1\r\nHost: s3.amazonaws.com\r\nx-amz-date: 20130524T000000Z\r\nx-amz-storage-class: REDUCED_REDUNDANCY\r\n" +
		"Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request," +
		"SignedHeaders=content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;x-amz-trailer," +
		"Signature=106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e\r\n" +
		"x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER\r\nContent-Encoding: aws-chunked\r\nx-amz-decoded-content-length: 66560\r\nx-amz-trailer: x-amz-checksum-crc32c\r\n" +
		fmt.Sprintf("Content-Length: %d\r\n\r\n", len(trailerBody)) + trailerBody
)

func TestChunks(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"chunks": chunkedExample, "with a trailer": trailerExample} {
		for reading, how := range map[string]func(io.Reader) io.Reader{
			"at once": func(r io.Reader) io.Reader { return r }, "by bytes": iotest.OneByteReader,
		} {
			r := parseRequest(t, text)
			r.Body = io.NopCloser(how(r.Body))
			if _, err := exampleVerifier().VerifyS3(r); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			got, err := io.ReadAll(r.Body)
			if err != nil || !bytes.Equal(got, bytes.Repeat([]byte("a"), 66560)) || r.ContentLength != 66560 {
				t.Errorf("%s %s: %d bytes, %v", name, reading, len(got), err)
			}
			if sum := r.Trailer.Get("x-amz-checksum-crc32c"); name == "with a trailer" && sum != "sOO8/Q==" {
				t.Errorf("%s %s: trailer %v", name, reading, r.Trailer)
			}
		}
	}
}

func TestChunksThatWereChanged(t *testing.T) {
	t.Parallel()
	at := func(text, old, new string, code, message string) {
		t.Helper()
		changed := strings.Replace(text, old, new, 1)
		if changed == text {
			t.Fatalf("%q is not there", old)
		}
		refusedAs(t, exampleVerifier(), parseRequest(t, changed), code, message)
	}
	at(chunkedExample, "aaaa\r\n400", "aaab\r\n400", "SignatureDoesNotMatch", "chunk")
	at(chunkedExample, "signature=0055", "signature=0155", "SignatureDoesNotMatch", "chunk")
	at(chunkedExample, "signature=b6c6", "signature=b6c7", "SignatureDoesNotMatch", "chunk")
	at(chunkedExample, "10000;chunk-signature=", "10000;x=", "IncompleteBody", "no signature")
	at(chunkedExample, "10000;chunk", "1zzzz;chunk", "IncompleteBody", "size")
	at(chunkedExample, "10000;chunk", "-1000;chunk", "IncompleteBody", "size")
	at(chunkedExample, "10000;chunk", "fffff;chunk", "IncompleteBody", "longer")
	at(chunkedExample, "a\r\n400;", "ab400;", "IncompleteBody", "")
	at(trailerExample, "sOO8/Q==", "sOO8/R==", "SignatureDoesNotMatch", "trailer")
	at(trailerExample, "crc32c:s", "crc32:s", "IncompleteBody", "announced")
	at(trailerExample, "x-amz-trailer-signature:d81f", "x-amz-trailer-signature:d82f", "SignatureDoesNotMatch", "trailer")

	short := parseRequest(t, strings.Replace(chunkedExample, "Content-Length: 66824", "Content-Length: 66900", 1))
	refusedAs(t, exampleVerifier(), short, "SignatureDoesNotMatch", "") // the length is signed here
	cut := parseRequest(t, trailerExample[:len(trailerExample)-1000])
	refusedAs(t, exampleVerifier(), cut, "IncompleteBody", "")
}

func FuzzChunks(f *testing.F) {
	f.Add([]byte("5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"), int64(5))
	f.Add([]byte("3;ext\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"), int64(5))
	f.Add([]byte("0\r\n\r\n"), int64(0))
	f.Add([]byte("ffffffffffffffff\r\n"), int64(1))
	f.Fuzz(func(t *testing.T, body []byte, length int64) {
		r := &http.Request{Header: http.Header{"X-Amz-Decoded-Content-Length": {fmt.Sprint(length)}, "X-Amz-Trailer": {"x-amz-checksum-crc32"}},
			Body: io.NopCloser(bytes.NewReader(body))}
		if err := openPayload(r, streamingUnsignedTrailer, chunkSigner{}); err != nil {
			return
		}
		got, err := io.ReadAll(r.Body)
		if int64(len(got)) > length || len(got) > len(body) {
			t.Errorf("%d bytes out of %d, at most %d", len(got), len(body), length)
		}
		if err == nil && int64(len(got)) != length {
			t.Errorf("%d bytes, want %d", len(got), length)
		}
		if err == nil && r.Trailer == nil {
			t.Error("no trailer after the end")
		}
		if refused := (*Error)(nil); err != nil && !errors.As(err, &refused) {
			t.Errorf("error of another kind: %v", err)
		}
	})
}

// FuzzPresigned: nothing but what was signed is accepted.
func FuzzPresigned(f *testing.F) {
	const query = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=" + testKey + "%2F20150830%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20150830T123600Z&X-Amz-Expires=600&X-Amz-SignedHeaders=host&X-Amz-Signature=" + emptyHash
	f.Add("/b/k", query)
	f.Add("/", strings.Replace(query, "600", "99999999999999999999", 1))
	f.Add("", strings.Replace(query, "host", "host;x-amz-content-sha256", 1))
	f.Add("/%", "X-Amz-Signature=&X-Amz-Date=%")
	f.Fuzz(func(t *testing.T, path, query string) {
		r := &http.Request{Method: "GET", URL: &url.URL{Path: path, RawQuery: query}, Host: "h", Header: http.Header{}}
		IsS3(r)
		_, err := s3Verifier(testTime).VerifyS3(r)
		var refused *Error
		if !errors.As(err, &refused) || refused.Status < 400 || refused.Message == "" || len(refused.Message) > 1000 {
			t.Errorf("%q: %v", query, err)
		}
	})
}
