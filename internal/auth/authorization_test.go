package auth

import (
	"slices"
	"strings"
	"testing"
)

const goodHeader = "AWS4-HMAC-SHA256 Credential=AKID/20150830/us-east-1/iot/aws4_request, SignedHeaders=host;x-amz-date, Signature=" + emptyHash

func TestParseAuthorization(t *testing.T) {
	t.Parallel()
	for _, header := range []string{
		goodHeader,
		strings.ReplaceAll(goodHeader, ", ", ","),
		strings.ReplaceAll(goodHeader, ", ", " ,   "),
		"AWS4-HMAC-SHA256 Signature=" + emptyHash + ",SignedHeaders=host;x-amz-date,Credential=AKID/20150830/us-east-1/iot/aws4_request",
	} {
		a, err := parseAuthorization(header)
		if err != nil {
			t.Errorf("%s: %v", header, err)
			continue
		}
		if a.accessKeyID != "AKID" || a.scope != (scope{"20150830", "us-east-1", "iot"}) ||
			!slices.Equal(a.signedHeaders, []string{"host", "x-amz-date"}) || a.signature[0] != 0xe3 {
			t.Errorf("%s: %+v", header, a)
		}
	}
}

func TestParseAuthorizationNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	replace := func(old, new string) string { return strings.Replace(goodHeader, old, new, 1) }
	for header, want := range map[string]string{
		"Bearer x":                              "Unsupported AWS 'algorithm': 'Bearer'",
		"AWS4-HMAC-SHA256":                      "'Credential' parameter. Authorization header requires 'SignedHeaders' parameter. Authorization header requires 'Signature' parameter.",
		"AWS4-HMAC-SHA256 Credential=":          "requires 'Credential'",
		"AWS4-HMAC-SHA256 nothing":              "missing equal-sign",
		"AWS4-HMAC-SHA256 ,":                    "missing equal-sign",
		goodHeader + ",":                        "missing equal-sign",
		goodHeader + ", Extra=1":                "Unknown parameter 'Extra'",
		goodHeader + ", Signature=00":           "more than one 'Signature'",
		replace("Credential=", "X="):            "Unknown parameter 'X'",
		replace("AKID/", ""):                    "exactly 5 slash-delimited elements",
		replace("AKID/", "A/B/"):                "exactly 5 slash-delimited elements",
		replace("AKID/", "/"):                   "exactly 5 slash-delimited elements",
		replace("/us-east-1/", "//"):            "exactly 5 slash-delimited elements",
		replace("host;", "Host;"):               "lower-case header names, got 'Host'",
		replace("host;", "a b;"):                "lower-case header names, got 'a b'",
		replace("host;", ";"):                   "an empty name",
		replace("host;", "host;host;"):          "names 'host' twice",
		replace("Signature=e3", "Signature=zz"): "64 hexadecimal digits",
		replace("Signature=e3", "Signature="):   "64 hexadecimal digits, got 62",
	} {
		a, err := parseAuthorization(header)
		if err == nil {
			t.Errorf("%s: accepted as %+v", header, a)
			continue
		}
		if err.Code != CodeIncomplete || err.Status != 400 || !strings.Contains(err.Message, want) {
			t.Errorf("%s: got %d %v, want %q", header, err.Status, err, want)
		}
	}
}

func FuzzParseAuthorization(f *testing.F) {
	f.Add(goodHeader)
	f.Add("AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request,SignedHeaders=;,Signature=")
	f.Add("AWS4-HMAC-SHA256 =,=,=")
	f.Fuzz(func(t *testing.T, header string) {
		a, err := parseAuthorization(header)
		if err != nil {
			if err.Status < 400 || err.Message == "" || len(err.Message) > 1000 {
				t.Errorf("%q: %d %v", header, err.Status, err)
			}
			return
		}
		if a.accessKeyID == "" || a.scope.date == "" || a.scope.region == "" || a.scope.service == "" || len(a.signedHeaders) == 0 {
			t.Errorf("%q: %+v", header, a)
		}
		if !strings.Contains(header, a.accessKeyID+"/"+a.scope.String()) || !strings.Contains(header, strings.Join(a.signedHeaders, ";")) {
			t.Errorf("%q: %+v is not in it", header, a)
		}
	})
}
