package conformance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// depot is a fleet whose server works with an S3 store, and a bucket there.
type depot struct {
	*fleet
	s3     *s3.Client
	store  string // URL
	bucket string
}

// depots runs a test with the store in the box and with one of others.
func depots(t *testing.T, test func(t *testing.T, d *depot)) {
	t.Parallel()
	for name, find := range map[string]func(*testing.T) (*server, s3Store){
		"box": func(t *testing.T) (*server, s3Store) {
			oneServer(t, "the object store in the box")
			s := sharedServer(t)
			return s, s3Store{url: s.http, key: s.key, secret: s.secret, region: s.region}
		},
		"foreign": foreignServer,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, store := find(t)
			d := &depot{fleet: fleetOn(t, server), s3: store.client(), store: store.url}
			d.bucket = d.name("bucket")
			d.makeBucket()
			test(t, d)
		})
	}
}

func (d *depot) makeBucket() {
	d.t.Helper()
	_, err := d.s3.CreateBucket(d.ctx, &s3.CreateBucketInput{Bucket: &d.bucket})
	d.must(err)
}

// put stores an object and returns its version, "" if the bucket has none.
func (d *depot) put(key, content string) string {
	d.t.Helper()
	out, err := d.s3.PutObject(d.ctx, &s3.PutObjectInput{Bucket: &d.bucket, Key: &key, Body: strings.NewReader(content)})
	d.must(err)
	return aws.ToString(out.VersionId)
}

// get reads an object.
func (d *depot) get(key string) string {
	d.t.Helper()
	out, err := d.s3.GetObject(d.ctx, &s3.GetObjectInput{Bucket: &d.bucket, Key: &key})
	d.must(err)
	text, err := io.ReadAll(out.Body)
	d.must(errors.Join(err, out.Body.Close()))
	return string(text)
}

const role = "arn:aws:iam::123456789012:role/presign"

// withDocument gives a job a document that can have placeholders.
func withDocument(document string) func(*iot.CreateJobInput) {
	return func(in *iot.CreateJobInput) {
		in.Document, in.PresignedUrlConfig = &document, &types.PresignedUrlConfig{RoleArn: aws.String(role)}
	}
}

func withSource(source string) func(*iot.CreateJobInput) {
	return func(in *iot.CreateJobInput) { in.Document, in.DocumentSource = nil, &source }
}

// fetch makes a request as a device does, without any key.
func (f *fleet) fetch(method, url, body string) (status int, content string) {
	f.t.Helper()
	r, err := http.NewRequestWithContext(f.ctx, method, url, strings.NewReader(body))
	f.must(err)
	resp, err := http.DefaultClient.Do(r)
	f.must(err)
	text, err := io.ReadAll(resp.Body)
	f.must(errors.Join(err, resp.Body.Close()))
	return resp.StatusCode, string(text)
}

// text returns a member of the job document in an answer to a device.
func text(t *testing.T, answer map[string]any, member string) string {
	t.Helper()
	if execution, ok := answer["execution"].(map[string]any); ok {
		answer = execution
	}
	document, _ := answer["jobDocument"].(map[string]any)
	if over, ok := answer["jobDocument"].(string); ok { // over HTTPS
		if err := json.Unmarshal([]byte(over), &document); err != nil {
			t.Fatal(err)
		}
	}
	s, ok := document[member].(string)
	if !ok || strings.Contains(s, "${aws:iot:") {
		t.Fatalf("no %s in %v", member, answer)
	}
	return s
}

func TestS128DocumentSourceIsReadOnce(t *testing.T) {
	depots(t, func(t *testing.T, d *depot) {
		thing := d.thing("t")
		host := strings.TrimPrefix(d.store, "http://")
		for i, source := range []string{
			"s3://" + d.bucket + "/docs/a%20b.json",
			"http://" + host + "/" + d.bucket + "/docs/a%20b.json",
			"https://s3.amazonaws.com/" + d.bucket + "/docs/a%20b.json",
			"https://s3.eu-west-1.amazonaws.com/" + d.bucket + "/docs/a%20b.json",
			"https://" + d.bucket + ".s3.eu-west-1.amazonaws.com/docs/a%20b.json",
		} {
			first := fmt.Sprintf(`{"operation":"update","version":"%d"}`, i)
			d.put("docs/a b.json", first)
			id := d.job(fmt.Sprintf("job-%d", i), []string{d.thingARN(thing)}, withSource(source))
			d.put("docs/a b.json", `{"operation":"other"}`)
			if got := d.connect(thing).accepted(id+"/get", "{}"); text(t, got, "version") != fmt.Sprint(i) {
				t.Errorf("%s: %v", source, got)
			}
			out, err := d.api.DescribeJob(d.ctx, &iot.DescribeJobInput{JobId: &id})
			d.must(err)
			document, err := d.api.GetJobDocument(d.ctx, &iot.GetJobDocumentInput{JobId: &id})
			d.must(err)
			if aws.ToString(out.DocumentSource) != source || aws.ToString(document.Document) != first {
				t.Errorf("%s: source %q, document %q", source, aws.ToString(out.DocumentSource), aws.ToString(document.Document))
			}
		}
	})
}

func TestTemplateFromDocumentSource(t *testing.T) {
	depots(t, func(t *testing.T, d *depot) {
		d.put("template.json", document)
		name, source := d.name("template"), "s3://"+d.bucket+"/template.json"
		_, err := d.api.CreateJobTemplate(d.ctx, &iot.CreateJobTemplateInput{JobTemplateId: &name, Description: aws.String("d"), DocumentSource: &source})
		d.must(err)
		d.put("template.json", "{}")
		out, err := d.api.DescribeJobTemplate(d.ctx, &iot.DescribeJobTemplateInput{JobTemplateId: &name})
		d.must(err)
		if aws.ToString(out.Document) != document || aws.ToString(out.DocumentSource) != source {
			t.Errorf("%s from %s", aws.ToString(out.Document), aws.ToString(out.DocumentSource))
		}
	})
}

func TestDocumentSourceErrors(t *testing.T) {
	depots(t, func(t *testing.T, d *depot) {
		d.thing("t")
		d.put("bad.json", "{bad")
		d.put("list.json", "[]")
		d.put("large.json", `{"k":"`+strings.Repeat("v", 32768)+`"}`)
		d.put("placeholder.json", `{"u":"${aws:iot:s3-presigned-url:s3://bucket/k}"}`)
		for name, test := range map[string]struct{ source, want string }{
			"missing object":    {"s3://" + d.bucket + "/missing.json", "there is no object"},
			"missing bucket":    {"s3://" + d.name("other") + "/k", "there is no object"},
			"not JSON":          {"s3://" + d.bucket + "/bad.json", "not valid JSON"},
			"not an object":     {"s3://" + d.bucket + "/list.json", "must be a JSON object"},
			"too large":         {"s3://" + d.bucket + "/large.json", "more than 32768 bytes"},
			"no role":           {"s3://" + d.bucket + "/placeholder.json", "roleArn is required"},
			"another host":      {"https://evil.example/" + d.bucket + "/list.json", "neither a host of Amazon S3"},
			"metadata":          {"http://169.254.169.254/latest/meta-data/", "neither a host of Amazon S3"},
			"another port":      {"http://127.0.0.1:1/bucket/k", "neither a host of Amazon S3"},
			"inside by name":    {"http://localhost.localdomain/bucket/k", "neither a host of Amazon S3"},
			"mapped address":    {"http://[::ffff:127.0.0.1]/bucket/k", "neither a host of Amazon S3"},
			"user information":  {"https://s3.amazonaws.com@127.0.0.1/bucket/k", "neither a host of Amazon S3"},
			"not a URL":         {"document.json", "is not the URL of an S3 object"},
			"wrong query":       {"s3://" + d.bucket + "/list.json?x=y", "versionId"},
			"version not there": {"s3://" + d.bucket + "/list.json?versionId=00000000000000000000000000", ""},
		} {
			t.Run(name, func(t *testing.T) {
				f := &fleet{t: t, server: d.server, api: d.api, ctx: d.ctx, prefix: d.prefix}
				if message := f.refused(f.createFails(withSource(test.source)), "InvalidRequestException", 400); !strings.Contains(message, test.want) {
					t.Error(message)
				}
			})
		}
	})
}

func TestS129FreshURLsEachTime(t *testing.T) {
	depots(t, func(t *testing.T, d *depot) {
		d.put("fw/7 ä.bin", "firmware")
		thing := d.thing("t")
		device := d.connect(thing)
		device.listen("notify-next")
		submitted := `{"url":"${aws:iot:s3-presigned-url:https://s3.us-east-1.amazonaws.com/` + d.bucket + `/fw/7 ä.bin}"}`
		id := d.job("job", []string{d.thingARN(thing)}, withDocument(submitted))
		works := func(url string) string {
			t.Helper()
			if status, content := d.fetch("GET", url, ""); status != 200 || content != "firmware" {
				t.Errorf("%s: %d %s", url, status, content)
			}
			return url
		}
		first := works(text(t, device.await(0, "notify-next").json, "url"))
		// Signatures are of whole seconds.
		d.eventually("a URL that is another", func() bool { return works(text(t, device.accepted(id+"/get", "{}"), "url")) != first })
		works(text(t, device.accepted("start-next", "{}"), "url"))
		works(text(t, device.accepted(id+"/update", `{"status":"IN_PROGRESS","includeJobDocument":true}`), "url"))
		_, _, answer := d.https("GET", thing, "/$next", "")
		last := works(text(t, answer, "url"))

		u, err := url.Parse(last)
		d.must(err)
		if got := u.Query().Get("X-Amz-Expires"); got != "3600" {
			t.Errorf("it expires in %s s", got)
		}
		for _, before := range []bool{false, true} {
			out, err := d.api.GetJobDocument(d.ctx, &iot.GetJobDocumentInput{JobId: &id, BeforeSubstitution: before})
			d.must(err)
			if aws.ToString(out.Document) != submitted {
				t.Errorf("GetJobDocument: %s", aws.ToString(out.Document))
			}
		}

		// What is signed cannot be used for anything else.
		if status, _ := d.fetch("PUT", last, "other"); status != 403 {
			t.Errorf("an upload by the URL of a download: %d", status)
		}
		for name, tampered := range map[string]string{
			"another key":   strings.Replace(last, "/fw/7", "/fw/8", 1),
			"longer":        strings.Replace(last, "X-Amz-Expires=3600", "X-Amz-Expires=3601", 1),
			"no signature":  last[:strings.Index(last, "&X-Amz-Signature=")],
			"another one":   last[:len(last)-4] + "0000",
			"one parameter": last + "&response-content-type=text%2Fhtml",
		} {
			if status, content := d.fetch("GET", tampered, ""); status != 403 && status != 400 || strings.Contains(content, "firmware") {
				t.Errorf("%s: %d %s", name, status, content)
			}
		}
	})
}

func TestExpiredURL(t *testing.T) {
	depots(t, func(t *testing.T, d *depot) {
		d.put("k", "content")
		signed, err := s3.NewPresignClient(d.s3).PresignGetObject(d.ctx, &s3.GetObjectInput{Bucket: &d.bucket, Key: aws.String("k")}, func(o *s3.PresignOptions) { o.Expires = 1e9 })
		d.must(err)
		d.eventually("the URL expires", func() bool {
			status, _ := d.fetch("GET", signed.URL, "")
			return status == 403
		})
	})
}

func TestVersionInPlaceholder(t *testing.T) {
	depots(t, func(t *testing.T, d *depot) {
		_, err := d.s3.PutBucketVersioning(d.ctx, &s3.PutBucketVersioningInput{Bucket: &d.bucket,
			VersioningConfiguration: &s3types.VersioningConfiguration{Status: s3types.BucketVersioningStatusEnabled}})
		d.must(err)
		old := d.put("fw/a b.bin", "old")
		d.put("fw/a b.bin", "new")
		thing := d.thing("t")
		id := d.job("job", []string{d.thingARN(thing)}, withDocument(fmt.Sprintf(
			`{"old":"${aws:iot:s3-presigned-url-v2:https://%[1]s.s3.us-east-1.amazonaws.com/fw/a%%20b.bin%%3FversionId%%3D%[2]s}","new":"${aws:iot:s3-presigned-url-v2:https://s3.us-east-1.amazonaws.com/%[1]s/fw/a%%20b.bin}"}`,
			d.bucket, url.PathEscape(old))))
		got := d.connect(thing).accepted(id+"/get", "{}")
		for _, content := range []string{"old", "new"} {
			if status, found := d.fetch("GET", text(t, got, content), ""); status != 200 || found != content {
				t.Errorf("%s: %d %s", content, status, found)
			}
		}
		source := "s3://" + d.bucket + "/doc.json?versionId=" + url.QueryEscape(d.put("doc.json", `{"v":"1"}`))
		d.put("doc.json", `{"v":"2"}`)
		id = d.job("source", []string{d.thingARN(thing)}, withSource(source))
		if v := text(t, d.connect(thing).accepted(id+"/get", "{}"), "v"); v != "1" {
			t.Errorf("the document of a version: %s", v)
		}
	})
}

func TestS130PresignNeedsRole(t *testing.T) {
	oneServer(t, "the object store in the box")
	f := newFleet(t)
	thing := f.thing("t")
	placeholder := `{"u":"${aws:iot:s3-presigned-url:s3://bucket/k}"}`
	for name, config := range map[string]*types.PresignedUrlConfig{"no config": nil, "no role": {ExpiresInSec: aws.Int64(60)}} {
		message := f.refused(f.createFails(func(in *iot.CreateJobInput) { in.Document, in.PresignedUrlConfig = &placeholder, config }), "InvalidRequestException", 400)
		if !strings.Contains(message, "presignedUrlConfig.roleArn is required") {
			t.Errorf("%s: %s", name, message)
		}
	}
	id := f.job("job", []string{f.thingARN(thing)}, withDocument(placeholder))
	device := f.connect(thing)
	if got := text(t, device.accepted(id+"/get", "{}"), "u"); !strings.Contains(got, "X-Amz-Expires=3600&") {
		t.Errorf("before UpdateJob: %s", got)
	}
	_, err := f.api.UpdateJob(f.ctx, &iot.UpdateJobInput{JobId: &id, PresignedUrlConfig: &types.PresignedUrlConfig{ExpiresInSec: aws.Int64(60)}})
	f.refused(err, "InvalidRequestException", 400)
	_, err = f.api.UpdateJob(f.ctx, &iot.UpdateJobInput{JobId: &id, PresignedUrlConfig: &types.PresignedUrlConfig{RoleArn: aws.String(role), ExpiresInSec: aws.Int64(60)}})
	f.must(err)
	if got := text(t, device.accepted(id+"/get", "{}"), "u"); !strings.Contains(got, "X-Amz-Expires=60&") {
		t.Errorf("after UpdateJob: %s", got)
	}
}

// A template may leave the role to the job.
func TestRoleOfJobFromTemplate(t *testing.T) {
	f := newFleet(t)
	thing, template := f.thing("t"), f.name("template")
	out, err := f.api.CreateJobTemplate(f.ctx, &iot.CreateJobTemplateInput{JobTemplateId: &template, Description: aws.String("d"),
		Document: aws.String(`{"u":"${aws:iot:s3-presigned-url:s3://bucket/k}"}`)})
	f.must(err)
	from := func(in *iot.CreateJobInput) { in.Document, in.JobTemplateArn = nil, out.JobTemplateArn }
	if message := f.refused(f.createFails(from), "InvalidRequestException", 400); !strings.Contains(message, "roleArn is required") {
		t.Error(message)
	}
	id := f.job("job", []string{f.thingARN(thing)}, withDocument(""), from)
	if got := text(t, f.connect(thing).accepted(id+"/get", "{}"), "u"); !strings.Contains(got, "/bucket/k?") {
		t.Error(got)
	}
}

// Who moves the clock of a server gets URLs that can be used nevertheless.
func TestURLsAreOfRealTime(t *testing.T) {
	t.Parallel()
	s := ownServer(t, "--test")
	store := s3Store{url: s.http, key: s.key, secret: s.secret, region: s.region}
	d := &depot{fleet: fleetOn(t, s), s3: store.client(), store: store.url}
	d.bucket = d.name("bucket")
	_, err := d.s3.CreateBucket(d.ctx, &s3.CreateBucketInput{Bucket: &d.bucket})
	d.must(err)
	d.put("k", "content")
	thing := d.thing("t")
	id := d.job("job", []string{d.thingARN(thing)}, withDocument(`{"u":"${aws:iot:s3-presigned-url:s3://`+d.bucket+`/k}"}`))
	d.clock(`{"advance":"720h"}`)
	if status, content := d.fetch("GET", text(t, d.connect(thing).accepted(id+"/get", "{}"), "u"), ""); status != 200 || content != "content" {
		t.Errorf("%d %s", status, content)
	}
}

// Without a store, what would be in it is refused.
func TestNoStore(t *testing.T) {
	t.Parallel()
	f := fleetOn(t, ownServer(t, "--no-objects"))
	f.thing("t")
	for _, change := range []func(*iot.CreateJobInput){withSource("s3://bucket/k"), withDocument(`{"u":"${aws:iot:s3-presigned-url:s3://bucket/k}"}`)} {
		if message := f.refused(f.createFails(change), "InvalidRequestException", 400); !strings.Contains(message, "S3 store") {
			t.Error(message)
		}
	}
}

func TestS132UploadKeyOfEachThing(t *testing.T) {
	depots(t, func(t *testing.T, d *depot) {
		things := []string{d.thing("a:1"), d.thing("b_2")}
		id := d.job("job", []string{d.thingARN(things[0]), d.thingARN(things[1])}, withDocument(
			`{"url":"${aws:iot:s3-presigned-url-upload:https://s3.us-east-1.amazonaws.com/`+d.bucket+`/logs/${thingName}/${jobId}-${executionNumber}.log}"}`))
		for _, thing := range things {
			u := text(t, d.connect(thing).accepted("start-next", "{}"), "url")
			if status, _ := d.fetch("GET", u, ""); status != 403 {
				t.Errorf("a download by the URL of an upload: %d", status)
			}
			if status, content := d.fetch("PUT", u, "log of "+thing); status != 200 {
				t.Errorf("%s: %d %s", u, status, content)
			}
		}
		for _, thing := range things {
			if got := d.get("logs/" + thing + "/" + id + "-1.log"); got != "log of "+thing {
				t.Errorf("%s: %q", thing, got)
			}
		}
	})
}

// Each error that AWS's documents mention, by CreateJob and CreateJobTemplate.
func TestPlaceholderErrors(t *testing.T) {
	f := newFleet(t)
	f.thing("t")
	for name, test := range map[string]struct{ value, want string }{
		"undefined local placeholder in an upload":  {"${aws:iot:s3-presigned-url-upload:https://s3.us-east-1.amazonaws.com/bucket/${serial}}", "undefined placeholder"},
		"local placeholder outside of an upload":    {"${thingName}", "can only be used in the key of"},
		"local placeholder in a download":           {"${aws:iot:s3-presigned-url:https://s3.us-east-1.amazonaws.com/bucket/${jobId}}", "can only be used in the key of"},
		"placeholder inside of another":             {"${aws:iot:s3-presigned-url:${aws:iot:package:a:version:1:attributes:x}}", "stands inside of another"},
		"keyword three times":                       {"${aws:iot:s3-presigned-url-upload:s3://bucket/${jobId}${jobId}${jobId}}", "the limit is 2"},
		"placeholder in the name of a bucket":       {"${aws:iot:s3-presigned-url-upload:https://s3.us-east-1.amazonaws.com/${thingName}/k}", "name of a bucket cannot hold"},
		"unterminated placeholder":                  {"${aws:iot:s3-presigned-url:https://s3.us-east-1.amazonaws.com/bucket/k", "not terminated"},
		"eleven placeholders":                       {strings.Repeat("${aws:iot:s3-presigned-url:s3://bucket/k}", 11), "more than 10"},
		"version in the first form":                 {"${aws:iot:s3-presigned-url:s3://bucket/k?versionId=1}", "s3-presigned-url-v2"},
		"attribute of a package":                    {"${aws:iot:package:p:version:1:attributes:a}", "not in destinationPackageVersions"},
		"all attributes of a package":               {"${aws:iot:package:p:version:1:attributes}", "not in destinationPackageVersions"},
		"artifact of a package":                     {"${aws:iot:package::version::artifact-location:s3-presigned-url}", "needs a job with one entry in destinationPackageVersions"},
		"$null version of a package":                {"${aws:iot:package:p:version:$null:attributes:a}", "cannot be about the version $null"},
		"parameter without a managed template":      {"${aws:iot:parameter:path}", "managed template"},
		"unknown placeholder":                       {"${aws:iot:secret:x}", "There is no placeholder"},
		"host that is neither S3 nor the own store": {"${aws:iot:s3-presigned-url:https://evil.example/bucket/k}", "neither a host of Amazon S3"},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fleet{t: t, server: f.server, api: f.api, ctx: f.ctx, prefix: f.prefix}
			document := `{"v":"` + test.value + `"}`
			if message := f.refused(f.createFails(withDocument(document)), "InvalidRequestException", 400); !strings.Contains(message, test.want) {
				t.Error(message)
			}
			_, err := f.api.CreateJobTemplate(f.ctx, &iot.CreateJobTemplateInput{JobTemplateId: aws.String(f.name("bad")), Description: aws.String("d"), Document: &document})
			if message := f.refused(err, "InvalidRequestException", 400); !strings.Contains(message, test.want) {
				t.Errorf("in a template: %s", message)
			}
		})
	}
}

// A parameter of a managed template can be a placeholder, as AWS-Download-File has it.
func TestPlaceholderInManagedTemplate(t *testing.T) {
	depots(t, func(t *testing.T, d *depot) {
		d.put("k", "content")
		thing := d.thing("t")
		arn := "arn:aws:iot:" + d.region + "::jobtemplate/AWS-Download-File:1.0"
		id := d.job("job", []string{d.thingARN(thing)}, withDocument(""), func(in *iot.CreateJobInput) {
			in.Document, in.JobTemplateArn = nil, &arn
			in.DocumentParameters = map[string]string{"downloadUrl": "${aws:iot:s3-presigned-url:s3://" + d.bucket + "/k}", "filePath": "/tmp/k"}
		})
		text, err := json.Marshal(d.connect(thing).accepted(id+"/get", "{}"))
		d.must(err)
		from := bytes.Index(text, []byte("http://"))
		if from < 0 {
			t.Fatalf("%s", text)
		}
		u, _, _ := strings.Cut(string(text[from:]), `"`)
		if status, content := d.fetch("GET", strings.ReplaceAll(u, `\u0026`, "&"), ""); status != 200 || content != "content" {
			t.Errorf("%s: %d %s", u, status, content)
		}
	})
}
