package iot

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"
)

var testStore = ObjectStore{Hosts: []string{"127.0.0.1:8080", "s3.plant.example"}, UploadBucket: "uploads"}

func TestParseDocument(t *testing.T) {
	fits := `{"k":"` + strings.Repeat("v", MaxDocument-8) + `"}`
	const notJSON, notObject = "The job document is not valid JSON", "The job document must be a JSON object"
	for _, test := range []struct{ name, doc, want string }{
		{"object", " \t\r\n{\"a\":1}\n", ""},
		{"32768 bytes", fits, ""},
		{"32769 bytes", fits + " ", "The job document has 32769 bytes; the limit is 32768"},
		{"empty", "", notJSON},
		{"blank", " ", notJSON},
		{"not JSON", "{bad", notJSON},
		{"two values", "{}{}", notJSON},
		{"array", "[1]", notObject},
		{"string", `"x"`, notObject},
		{"number", " 1", notObject},
		{"not UTF-8", "{\"a\":\"\xff\"}", "The job document is not valid UTF-8"},
		{"text with a dollar", `{"u":"${HOME} ${aws:s3:x} $"}`, ""},
	} {
		_, err := ParseDocument(test.doc, testStore)
		checkError(t, test.name, err, test.want)
	}
}

// What AWS's documents say of placeholders that cannot be (spec §9.2, §9.4).
func TestPlaceholderErrors(t *testing.T) {
	for _, test := range []struct{ name, value, want string }{
		{"undefined local placeholder in an upload", `${aws:iot:s3-presigned-url-upload:https://s3.us-east-1.amazonaws.com/b/${serial}}`,
			`The key of an upload holds an undefined placeholder: "${serial}"; defined are ${thingName}, ${jobId}, ${executionNumber}`},
		{"local placeholder outside of an upload", `${thingName}`,
			"The placeholder ${thingName} can only be used in the key of ${aws:iot:s3-presigned-url-upload:…}"},
		{"local placeholder behind an upload", `${aws:iot:s3-presigned-url-upload:https://s3.amazonaws.com/bucket/k} ${jobId}`,
			"The placeholder ${jobId} can only be used in the key of ${aws:iot:s3-presigned-url-upload:…}"},
		{"local placeholder in a download", `${aws:iot:s3-presigned-url:https://s3.us-east-1.amazonaws.com/b/${executionNumber}}`,
			"The placeholder ${executionNumber} can only be used in the key of ${aws:iot:s3-presigned-url-upload:…}"},
		{"placeholder inside of another", `${aws:iot:s3-presigned-url:https://s3.amazonaws.com/b/${aws:iot:x}}`,
			`The placeholder "${aws:iot:x}}\"}" stands inside of another one`},
		{"any placeholder inside of another", `${aws:iot:s3-presigned-url:https://s3.amazonaws.com/b/${x}}`,
			`The placeholder "${x}" stands inside of another one`},
		{"local keyword three times", `${aws:iot:s3-presigned-url-upload:https://s3.amazonaws.com/b/${jobId}/${jobId}/${jobId}}`,
			"The placeholder ${jobId} is used 3 times in an upload; the limit is 2"},
		{"placeholder in the bucket of a path", `${aws:iot:s3-presigned-url-upload:https://s3.amazonaws.com/${thingName}/k}`,
			`The name of a bucket cannot hold a placeholder: "${thingName}"`},
		{"placeholder in the bucket of a host", `${aws:iot:s3-presigned-url-upload:https://b-${thingName}.s3.us-east-1.amazonaws.com/k}`,
			`The name of a bucket cannot hold a placeholder: "b-${thingname}"`},
		{"unterminated", `${aws:iot:s3-presigned-url:https://s3.amazonaws.com/bucket/k`,
			`The placeholder "${aws:iot:s3-presigned-url:https://s3.amazonaws.com/bucket/k" is not terminated`},
		{"unterminated around another", `${aws:iot:s3-presigned-url-upload:https://s3.amazonaws.com/b/${jobId}`,
			`The placeholder "${aws:iot:s3-presigned-url-upload:https://s3.amazonaws.com/b/${jobId}" is not terminated`},
		{"version in the first form", `${aws:iot:s3-presigned-url:https://s3.amazonaws.com/b/k?versionId=1}`,
			"A URL with a versionId needs the placeholder ${aws:iot:s3-presigned-url-v2:…}"},
		{"package without a version", `${aws:iot:package:app:version::attributes:size}`,
			"The placeholder ${aws:iot:package:app:version::attributes:size} needs a package and a version, or neither"},
		{"package and nothing of it", `${aws:iot:package:app:version:1.0}`,
			"The placeholder ${aws:iot:package:app:version:1.0} is not of the form package:NAME:version:NAME:attributes[:NAME]"},
		{"package that is none", `${aws:iot:package:a b:version:1.0:attributes:size}`, "The placeholder ${aws:iot:package:a b:version:1.0:attributes:size} names no package version"},
		{"package and no version", `${aws:iot:package:app:version:$null:attributes:size}`, "The placeholder ${aws:iot:package:app:version:$null:attributes:size} cannot be about the version $null"},
		{"something else of a package", `${aws:iot:package:app:version:1.0:recipe}`, "There is no placeholder ${aws:iot:package:app:version:1.0:recipe}"},
		{"all attributes and more", `${aws:iot:package:app:version:1.0:attributes} and more`,
			"The placeholder ${aws:iot:package:app:version:1.0:attributes} must be a value of the document, and all of it"},
		{"all attributes as a name", `x","${aws:iot:package:app:version:1.0:attributes}" : "y`,
			"The placeholder ${aws:iot:package:app:version:1.0:attributes} must be a value of the document, and all of it"},
		{"parameter without a managed template", `${aws:iot:parameter:path}`,
			"The placeholder ${aws:iot:parameter:path} can only be used in the document of a managed template"},
		{"unknown", `${aws:iot:secret:x}`, "There is no placeholder ${aws:iot:secret:x}"},
		{"no URL", `${aws:iot:s3-presigned-url}`, "There is no placeholder ${aws:iot:s3-presigned-url}"},
		{"another host", `${aws:iot:s3-presigned-url:https://evil.example/b/k}`,
			`"evil.example" is neither a host of Amazon S3 nor of the S3 store that this server works with`},
		{"no bucket", `${aws:iot:s3-presigned-url:https://s3.amazonaws.com/}`, `"" is not the name of a bucket`},
		{"no key", `${aws:iot:s3-presigned-url:https://s3.amazonaws.com/bucket}`, "The URL names the bucket bucket and no object in it"},
		{"version of an upload", `${aws:iot:s3-presigned-url-upload:s3://bucket/k?versionId=1}`,
			`The URL of an upload cannot name a version: "s3://bucket/k?versionId=1"`},
		{"wrong encoding", `${aws:iot:s3-presigned-url-v2:https://s3.amazonaws.com/bucket/%zz}`, `The URL of an S3 object is wrongly encoded: "%zz"`},
		{"zero byte", `${aws:iot:s3-presigned-url-v2:s3://bucket/a%00}`, "The key of an object cannot hold a zero byte"},
		{"eleven placeholders", strings.Repeat(`${aws:iot:s3-presigned-url:https://s3.amazonaws.com/bucket/k}`, 11), "The job document has more than 10 placeholders for presigned URLs"},
		{"ten", strings.Repeat(`${aws:iot:s3-presigned-url:https://s3.amazonaws.com/bucket/k}`, 10), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := ParseDocument(`{"v":"`+test.value+`"}`, testStore)
			checkError(t, test.name, err, test.want)
		})
	}
	_, err := ParseDocument(`{"v":"${aws:iot:s3-presigned-url-upload}"}`, ObjectStore{Hosts: []string{"s3.amazonaws.com"}})
	checkError(t, "nowhere to upload to", err, "The upload ${aws:iot:s3-presigned-url-upload:} names no bucket, and this server has none for uploads")
}

func TestNoStore(t *testing.T) {
	_, err := ParseDocument(`{"u":"${aws:iot:s3-presigned-url:s3://bucket/k}"}`, ObjectStore{})
	checkError(t, "placeholder", err, `This server works with no S3 store, which "s3://bucket/k" would be in`)
	_, err = ObjectStore{}.Parse("https://s3.amazonaws.com/bucket/k")
	checkError(t, "source", err, `This server works with no S3 store, which "https://s3.amazonaws.com/bucket/k" would be in`)
}

// A presigned URL needs a role (spec §9.3).
func TestPresignedNeedsRole(t *testing.T) {
	const want = "The job document has placeholders for presigned URLs: presignedUrlConfig.roleArn is required"
	doc := mustParse(t, `{"u":"${aws:iot:s3-presigned-url:https://s3.amazonaws.com/bucket/k}"}`)
	checkError(t, "no config", doc.CheckPresigned(nil), want)
	checkError(t, "no role", doc.CheckPresigned(&PresignedURLConfig{ExpiresInSec: 60}), want)
	checkError(t, "role", doc.CheckPresigned(&PresignedURLConfig{RoleARN: "arn:aws:iam::1:role/r"}), "")
	checkError(t, "no placeholder", mustParse(t, `{}`).CheckPresigned(nil), "")
}

func mustParse(t testing.TB, doc string) *Document {
	t.Helper()
	d, err := ParseDocument(doc, testStore)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// show writes what a URL was asked for in place of a URL.
func show(o ObjectURL) (string, error) {
	method := "GET"
	if o.Upload {
		method = "PUT"
	}
	s := fmt.Sprintf("%s|%s|%s", method, o.Bucket, strings.NewReplacer(" ", "_", `"`, "'").Replace(o.Key))
	if o.Version != "" {
		s += "|v=" + o.Version
	}
	if o.Region != "" {
		s += "|" + o.Region
	}
	return s, nil
}

func TestRender(t *testing.T) {
	x := &Execution{JobID: "job-1", Thing: "pump:1", Number: 3}
	for _, test := range []struct{ value, want string }{
		{"nothing ${HOME}", "nothing ${HOME}"},
		{"${aws:iot:s3-presigned-url:https://s3.amazonaws.com/bucket/a/b.bin}", "GET|bucket|a/b.bin"},
		{"${aws:iot:s3-presigned-url-v1:https://s3.eu-west-1.amazonaws.com/bucket/a%20b c+d?e}", "GET|bucket|a%20b_c+d?e|eu-west-1"},
		{"${aws:iot:s3-presigned-url:https://s3-eu-west-1.amazonaws.com/bucket/k}", "GET|bucket|k|eu-west-1"},
		{"${aws:iot:s3-presigned-url:https://My.Bucket.s3.eu-west-1.amazonaws.com/k}", "GET|my.bucket|k|eu-west-1"},
		{"${aws:iot:s3-presigned-url:https://bucket.s3.amazonaws.com/k}", "GET|bucket|k"},
		{"${aws:iot:s3-presigned-url:https://s3.dualstack.us-east-2.amazonaws.com/bucket/k}", "GET|bucket|k|us-east-2"},
		{"${aws:iot:s3-presigned-url:https://bucket.s3.cn-north-1.amazonaws.com.cn/k}", "GET|bucket|k|cn-north-1"},
		{"${aws:iot:s3-presigned-url:s3://bucket/a/b}", "GET|bucket|a/b"},
		{"${aws:iot:s3-presigned-url:http://127.0.0.1:8080/bucket/a/b}", "GET|bucket|a/b"},
		{"${aws:iot:s3-presigned-url:https://S3.Plant.example:443/bucket/k}", "GET|bucket|k"},
		{"${aws:iot:s3-presigned-url:https://bucket.s3.plant.example/k}", "GET|bucket|k"},
		{`${aws:iot:s3-presigned-url:s3://bucket/\u0061\"\u007d}`, "GET|bucket|a'}"},
		{"${aws:iot:s3-presigned-url-v2:https://bucket.s3.us-east-1.amazonaws.com/a%20b%2Bc+d%3FversionId%3Dx.y_z}", "GET|bucket|a_b+c+d|v=x.y_z|us-east-1"},
		{"${aws:iot:s3-presigned-url-v2:https://s3.us-east-1.amazonaws.com/bucket/k?versionId=7}", "GET|bucket|k|v=7|us-east-1"},
		{"${aws:iot:s3-presigned-url-upload:https://s3.us-east-1.amazonaws.com/bucket/${thingName}/${jobId}-${executionNumber}.log}", "PUT|bucket|pump:1/job-1-3.log|us-east-1"},
		{"${aws:iot:s3-presigned-url-upload:s3://bucket/${jobId}${jobId}}", "PUT|bucket|job-1job-1"},
		{"${aws:iot:s3-presigned-url-upload:https://s3.us-east-1.amazonaws.com/bucket/}", "PUT|bucket|pump:1/job-1/3|us-east-1"},
		{"${aws:iot:s3-presigned-url-upload:https://s3.us-east-1.amazonaws.com}", "PUT|uploads|pump:1/job-1/3|us-east-1"},
		{"${aws:iot:s3-presigned-url-upload}", "PUT|uploads|pump:1/job-1/3"},
		{"a ${aws:iot:s3-presigned-url:s3://bucket/1} b ${aws:iot:s3-presigned-url:s3://bucket/2}", "a GET|bucket|1 b GET|bucket|2"},
	} {
		doc := mustParse(t, `{"v":"`+test.value+`"}`)
		got, err := doc.For(x, nil).Render(show)
		if want := `{"v":"` + test.want + `"}`; err != nil || got != want {
			t.Errorf("%s\n got %s, %v\nwant %s", test.value, got, err, want)
		}
		if doc.String() != `{"v":"`+test.value+`"}` {
			t.Errorf("%s: the document has changed: %s", test.value, doc)
		}
	}
}

func TestRenderAsksForWhatTheJobSays(t *testing.T) {
	doc := mustParse(t, `{"u":"${aws:iot:s3-presigned-url-v2:s3://bucket/k%3FversionId%3D5}"}`)
	x := &Execution{JobID: "j", Thing: "t", Number: 1}
	for _, test := range []struct {
		config *PresignedURLConfig
		role   string
		want   time.Duration
	}{
		{nil, "", time.Hour},
		{&PresignedURLConfig{RoleARN: "role"}, "role", time.Hour},
		{&PresignedURLConfig{RoleARN: "role", ExpiresInSec: 60}, "role", time.Minute},
	} {
		_, err := doc.For(x, test.config).Render(func(got ObjectURL) (string, error) {
			want := ObjectURL{Object: Object{Bucket: "bucket", Key: "k", Version: "5"}, Expires: test.want, RoleARN: test.role, Job: "j", Thing: "t"}
			if got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
			return "https://x", nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	refused := errors.New("no credentials")
	if text, err := doc.For(x, nil).Render(func(ObjectURL) (string, error) { return "", refused }); !errors.Is(err, refused) || text != "" {
		t.Errorf("without a URL: %q, %v", text, err)
	}
	if text, err := doc.For(x, nil).Render(func(ObjectURL) (string, error) { return `https://x/"`, nil }); err == nil || text != "" {
		t.Errorf("with what is not a URL: %q", text)
	}
	if text, err := (Delivery{}).Render(nil); err != nil || text != "" {
		t.Errorf("no document: %q, %v", text, err)
	}
}

// The store of a server can change under jobs that exist.
func TestLoadDocumentAfterMovingTheStore(t *testing.T) {
	const text = `{"u":"${aws:iot:s3-presigned-url:https://s3.plant.example/bucket/k}"}`
	if _, err := LoadDocument(text, testStore); err != nil {
		t.Error(err)
	}
	for _, elsewhere := range []ObjectStore{{}, {Hosts: []string{"s3.amazonaws.com"}}} {
		if _, err := LoadDocument(text, elsewhere); err == nil {
			t.Error("a link to nowhere was loaded")
		}
	}
	// Accepted before there were placeholders.
	if d, err := LoadDocument(`{"u":"${thingName}"}`, ObjectStore{}); err != nil || d.Presigned() {
		t.Errorf("%v %v", d, err)
	}
}

func TestParseObjectURL(t *testing.T) {
	for _, test := range []struct {
		url  string
		want Object
		fail string
	}{
		{"https://s3.amazonaws.com/bucket/a%2Fb/c", Object{Bucket: "bucket", Key: "a/b/c"}, ""},
		{"https://bucket.s3.eu-central-1.amazonaws.com/k?versionId=a%2Bb", Object{Bucket: "bucket", Key: "k", Version: "a+b", Region: "eu-central-1"}, ""},
		{"s3://bucket/k", Object{Bucket: "bucket", Key: "k"}, ""},
		{"http://127.0.0.1:8080/bucket/k", Object{Bucket: "bucket", Key: "k"}, ""},
		{"http://127.0.0.1:8081/bucket/k", Object{}, `"127.0.0.1:8081" is neither`},
		{"http://127.0.0.1/bucket/k", Object{}, `"127.0.0.1" is neither`},
		{"http://[::ffff:127.0.0.1]:8080/bucket/k", Object{}, `is neither`},
		{"http://169.254.169.254/latest/meta-data", Object{}, `is neither`},
		{"https://s3.amazonaws.com@evil.example/bucket/k", Object{}, `is neither`},
		{"https://s3.amazonaws.com:8080/bucket/k", Object{}, `is neither`},
		{"https://evil.example/?x=.s3.amazonaws.com/bucket/k", Object{}, `is neither`},
		{"https://evil.example#.s3.amazonaws.com/bucket/k", Object{}, `is not the name of a bucket`},
		{`https://evil.example\.s3.amazonaws.com/k`, Object{}, `is not the name of a bucket`},
		{"https://u:p@bucket.s3.amazonaws.com/k", Object{}, `is not the name of a bucket`},
		{"https://s3.us-east-1.amazonaws.com.evil.example/bucket/k", Object{}, `is neither`},
		{"https://evils3.us-east-1.amazonaws.com/bucket/k", Object{}, `is neither`},
		{"https://ſ3.amazonaws.com/bucket/k", Object{}, `is neither`},
		{"https://s3.amazonaws.com/bucket/k?versionId=1&x=2", Object{}, `can have the query versionId=ID and no other`},
		{"https://s3.amazonaws.com/bucket/k?X-Amz-Signature=1", Object{}, `can have the query versionId=ID and no other`},
		{"file:///etc/passwd", Object{}, `is not the URL of an S3 object`},
		{"ftp://s3.amazonaws.com/bucket/k", Object{}, `is not the URL of an S3 object`},
		{"/bucket/k", Object{}, `is not the URL of an S3 object`},
		{"s3://../k", Object{}, `is not the name of a bucket`},
		{"s3://bucket/" + strings.Repeat("k", 1025), Object{}, `at most 1024 bytes`},
	} {
		got, err := testStore.Parse(test.url)
		switch {
		case test.fail == "" && (err != nil || got != test.want):
			t.Errorf("%s: %+v, %v", test.url, got, err)
		case test.fail != "" && (ErrorCode(err) != InvalidRequest || !strings.Contains(err.Error(), test.fail)):
			t.Errorf("%s: %+v, %v; want %q", test.url, got, err, test.fail)
		}
	}
}

// Whatever is accepted is sent as JSON and without a placeholder, and costs nothing without one.
func checkDocument(t interface {
	Errorf(string, ...any)
}, text string) {
	d, err := ParseDocument(text, testStore)
	if err != nil {
		if ErrorCode(err) != InvalidRequest {
			t.Errorf("%q: %v", text, err)
		}
		return
	}
	urls := 0
	out, err := d.For(&Execution{JobID: "j", Thing: "t:1", Number: 9}, nil).Render(func(o ObjectURL) (string, error) {
		urls++
		if err := o.check(); err != nil || !utf8.ValidString(o.Key) || o.Upload && strings.Contains(o.Key, "${") {
			t.Errorf("%q asks for %+v: %v", text, o, err)
		}
		return "https://host/k?a=b&c=d", nil
	})
	if err != nil || !json.Valid([]byte(out)) || strings.Contains(out, placeholder) || d.String() != text {
		t.Errorf("%q becomes %q, %v", text, out, err)
	}
	if d.Presigned() != (urls > 0) || urls == 0 && out != text {
		t.Errorf("%q has %d placeholders and becomes %q", text, urls, out)
	}
	if again, err := LoadDocument(text, testStore); err != nil || len(again.links) != len(d.links) {
		t.Errorf("%q cannot be loaded: %v", text, err)
	}
}

func FuzzParseDocument(f *testing.F) {
	for _, value := range []string{
		"x", "${thingName}", "${aws:iot:s3-presigned-url:https://s3.amazonaws.com/bucket/k}", "${aws:iot:s3-presigned-url-upload}",
		"${aws:iot:s3-presigned-url-upload:s3://bucket/${thingName}\\u007d}", "${aws:iot:s3-presigned-url-v2:s3://bucket/%3FversionId%3D1}",
	} {
		f.Add(`{"a":"` + value + `"}`)
	}
	f.Fuzz(func(t *testing.T, text string) { checkDocument(t, text) })
}

func TestDocumentProperty(t *testing.T) {
	piece := rapid.SampledFrom([]string{
		"${", "}", "aws:iot:", "${aws:iot:", "s3-presigned-url", "-v2", "-upload", ":", "https://", "s3.amazonaws.com", "s3://", "bucket", "/", "key",
		"${thingName}", "${jobId}", "%20", "?versionId=", "%3FversionId%3D", "1", `\"`, `\\`, `\u007d`, " ", "ä", "package", "parameter", "$", "x",
		"${aws:iot:s3-presigned-url:s3://bucket/", "${aws:iot:s3-presigned-url-upload:s3://bucket/", "${aws:iot:s3-presigned-url-v2:https://bucket.s3.amazonaws.com/",
	})
	rapid.Check(t, func(t *rapid.T) {
		checkDocument(t, `{"a":"`+strings.Join(rapid.SliceOfN(piece, 0, 12).Draw(t, "pieces"), "")+`","b":["${aws:iot:s3-presigned-url:s3://bucket/k}"]}`)
	})
}

func BenchmarkRender(b *testing.B) {
	x := &Execution{JobID: "j", Thing: "t", Number: 1}
	for name, doc := range map[string]string{"plain": `{"operation":"update"}`, "presigned": `{"u":"${aws:iot:s3-presigned-url:s3://bucket/k}"}`} {
		b.Run(name, func(b *testing.B) {
			d := mustParse(b, doc)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.For(x, nil).Render(func(ObjectURL) (string, error) { return "https://host/bucket/k", nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
