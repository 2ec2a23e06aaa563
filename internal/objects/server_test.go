package objects_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"github.com/prometheus/client_golang/prometheus"

	"drover/internal/auth"
	"drover/internal/iot"
	"drover/internal/objects"
)

var testKey = auth.Key{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "secret"}

// fixture is a server, and a client that we did not write.
type fixture struct {
	*s3.Client
	t       *testing.T
	dir     string
	url     string
	server  *objects.Server
	store   *objects.Store
	fetched chan []iot.Download
	refused sync.Map // of Permit: "ACTION RESOURCE"
}

// RecordDownloads implements objects.Recorder.
func (f *fixture) RecordDownloads(_ context.Context, list []iot.Download) error {
	f.fetched <- slices.Clone(list)
	return nil
}

// permit is a Permit that refuses what is in refused.
func (f *fixture) permit(ctx context.Context, action string, resources ...string) error {
	asked := action + " " + strings.Join(resources, " ")
	if id, ok := auth.IdentityFrom(ctx); !ok || id.Principal.AccessKeyID != testKey.AccessKeyID || id.Service != "s3" {
		return fmt.Errorf("%s by %+v", asked, id)
	}
	if _, refused := f.refused.Load(asked); refused {
		return &auth.Error{Code: auth.CodeAccessDenied, Status: 403, Message: "not for you"}
	}
	return nil
}

func newFixture(t *testing.T, limits objects.Limits) *fixture {
	t.Helper()
	f := &fixture{t: t, dir: filepath.Join(t.TempDir(), "objects"), fetched: make(chan []iot.Download, 100)}
	var err error
	if f.store, err = objects.OpenStore(f.dir, time.Now); err != nil {
		t.Fatal(err)
	}
	f.server = objects.New(objects.Config{
		Store: f.store, Verify: &auth.Verifier{Secret: testKey.Secret}, Region: "us-east-1", Recorder: f, Limits: limits, Permit: f.permit,
		Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.server.Run(ctx) }()
	web := httptest.NewServer(f.server)
	t.Cleanup(func() {
		f.server.Cut()
		web.Close()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	f.url = web.URL
	f.Client = s3.New(s3.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(f.url), UsePathStyle: true, RetryMaxAttempts: 1,
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenSupported, ResponseChecksumValidation: aws.ResponseChecksumValidationWhenSupported,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: testKey.AccessKeyID, SecretAccessKey: testKey.SecretAccessKey}, nil
		}),
	})
	return f
}

// call makes a call that must go well.
func call[In, Out any](t *testing.T, f func(context.Context, In, ...func(*s3.Options)) (Out, error), in In) Out {
	t.Helper()
	out, err := f(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// fails checks the code of S3's error.
func fails(t *testing.T, err error, code string) {
	t.Helper()
	var e smithy.APIError
	if !errors.As(err, &e) || e.ErrorCode() != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

func (f *fixture) bucket() *string {
	f.t.Helper()
	call(f.t, f.CreateBucket, &s3.CreateBucketInput{Bucket: aws.String("firmware")})
	return aws.String("firmware")
}

func (f *fixture) put(key, body string) *s3.PutObjectOutput {
	f.t.Helper()
	return call(f.t, f.PutObject, &s3.PutObjectInput{Bucket: aws.String("firmware"), Key: &key, Body: strings.NewReader(body)})
}

func (f *fixture) get(in *s3.GetObjectInput) (string, *s3.GetObjectOutput) {
	f.t.Helper()
	if in.Bucket == nil {
		in.Bucket = aws.String("firmware")
	}
	out := call(f.t, f.GetObject, in)
	body, err := io.ReadAll(out.Body)
	if err := errors.Join(err, out.Body.Close()); err != nil {
		f.t.Fatal(err)
	}
	return string(body), out
}

// presigned is a URL that is good for ten minutes; parameters are name=value.
func (f *fixture) presigned(method, path string, parameters ...string) string {
	f.t.Helper()
	r, err := http.NewRequest(method, f.url+path, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	r.URL.RawQuery = strings.Join(append(parameters, "X-Amz-Expires=600"), "&")
	signed, _, err := v4.NewSigner().PresignHTTP(f.t.Context(), aws.Credentials{AccessKeyID: testKey.AccessKeyID, SecretAccessKey: testKey.SecretAccessKey}, r,
		"UNSIGNED-PAYLOAD", "s3", "us-east-1", time.Now(), func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	if err != nil {
		f.t.Fatal(err)
	}
	return signed
}

// do makes a request without the SDK.
func (f *fixture) do(method, url, body string, headers ...string) (int, string, http.Header) {
	f.t.Helper()
	r, err := http.NewRequestWithContext(f.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		f.t.Fatal(err)
	}
	text, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		f.t.Fatal(err)
	}
	return res.StatusCode, string(text), res.Header
}

// leftovers are what lies in tmp and uploads when nothing is going on.
func (f *fixture) leftovers() []string {
	f.t.Helper()
	var all []string
	for _, sub := range []string{"tmp", "uploads"} {
		entries, err := os.ReadDir(filepath.Join(f.dir, sub))
		if err != nil {
			f.t.Fatal(err)
		}
		for _, e := range entries {
			all = append(all, sub+"/"+e.Name())
		}
	}
	return all
}

func TestBuckets(t *testing.T) {
	t.Parallel()
	f := newFixture(t, objects.Limits{})
	b := f.bucket()
	_, err := f.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: b})
	fails(t, err, "BucketAlreadyOwnedByYou")
	_, err = f.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("Firmware")})
	fails(t, err, "InvalidBucketName")
	call(t, f.CreateBucket, &s3.CreateBucketInput{Bucket: aws.String("a.b-c"),
		CreateBucketConfiguration: &types.CreateBucketConfiguration{LocationConstraint: "eu-central-1"}})
	list := call(t, f.ListBuckets, &s3.ListBucketsInput{})
	if len(list.Buckets) != 2 || *list.Buckets[0].Name != "a.b-c" || *list.Buckets[1].Name != "firmware" || list.Buckets[0].CreationDate.IsZero() {
		t.Errorf("%+v", list.Buckets)
	}
	if out := call(t, f.GetBucketLocation, &s3.GetBucketLocationInput{Bucket: b}); out.LocationConstraint != "" {
		t.Errorf("location %q", out.LocationConstraint)
	}
	call(t, f.HeadBucket, &s3.HeadBucketInput{Bucket: b})
	f.put("k", "v")
	_, err = f.DeleteBucket(t.Context(), &s3.DeleteBucketInput{Bucket: b})
	fails(t, err, "BucketNotEmpty")
	call(t, f.DeleteObject, &s3.DeleteObjectInput{Bucket: b, Key: aws.String("k")})
	call(t, f.CreateMultipartUpload, &s3.CreateMultipartUploadInput{Bucket: b, Key: aws.String("k")})
	call(t, f.DeleteBucket, &s3.DeleteBucketInput{Bucket: b})
	_, err = f.DeleteBucket(t.Context(), &s3.DeleteBucketInput{Bucket: b})
	fails(t, err, "NoSuchBucket")
	_, err = f.HeadBucket(t.Context(), &s3.HeadBucketInput{Bucket: b})
	fails(t, err, "NotFound")
	_, err = f.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: b})
	fails(t, err, "NoSuchBucket")
	_, err = f.GetObject(t.Context(), &s3.GetObjectInput{Bucket: b, Key: aws.String("k")})
	fails(t, err, "NoSuchBucket")
	_, err = f.PutObject(t.Context(), &s3.PutObjectInput{Bucket: b, Key: aws.String("k"), Body: strings.NewReader("x")})
	fails(t, err, "NoSuchBucket")
	if left := f.leftovers(); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

func TestObject(t *testing.T) {
	t.Parallel()
	f := newFixture(t, objects.Limits{})
	b := f.bucket()
	key := aws.String("pump/7 é+.bin")
	before := time.Now().Add(-time.Second)
	put := call(t, f.PutObject, &s3.PutObjectInput{Bucket: b, Key: key, Body: strings.NewReader("hello"), ContentType: aws.String("text/x"),
		CacheControl: aws.String("no-store"), ContentDisposition: aws.String("inline"), ContentEncoding: aws.String("gzip"), ContentLanguage: aws.String("de"),
		Metadata: map[string]string{"version": "7", "note": "a b"}})
	const etag = `"5d41402abc4b2a76b9719d911017c592"`
	if *put.ETag != etag || put.VersionId != nil || put.ChecksumCRC32 == nil || put.ChecksumType != types.ChecksumTypeFullObject {
		t.Errorf("%+v", put)
	}
	body, got := f.get(&s3.GetObjectInput{Key: key, ChecksumMode: types.ChecksumModeEnabled})
	if body != "hello" || *got.ETag != etag || *got.ContentType != "text/x" || *got.CacheControl != "no-store" || *got.ContentDisposition != "inline" ||
		*got.ContentEncoding != "gzip" || *got.ContentLanguage != "de" || got.Metadata["version"] != "7" || got.Metadata["note"] != "a b" ||
		*got.ContentLength != 5 || got.LastModified.Before(before.Truncate(time.Second)) || *got.ChecksumCRC32 != *put.ChecksumCRC32 || *got.AcceptRanges != "bytes" {
		t.Errorf("%q, %+v", body, got)
	}
	head := call(t, f.HeadObject, &s3.HeadObjectInput{Bucket: b, Key: key})
	if *head.ContentLength != 5 || *head.ETag != etag || head.Metadata["version"] != "7" {
		t.Errorf("%+v", head)
	}
	for header, want := range map[string]string{"bytes=1-3": "ell", "bytes=-2": "lo", "bytes=3-": "lo", "bytes=0-99": "hello"} {
		body, got := f.get(&s3.GetObjectInput{Key: key, Range: &header})
		if body != want || got.ContentRange == nil || !strings.HasSuffix(*got.ContentRange, "/5") {
			t.Errorf("%s: %q, %+v", header, body, got.ContentRange)
		}
	}
	if body, got := f.get(&s3.GetObjectInput{Key: key, Range: aws.String("bytes=0-1,3-4")}); body != "hello" || got.ContentRange != nil {
		t.Errorf("several ranges: %q, %v", body, got.ContentRange)
	}
	_, err := f.GetObject(t.Context(), &s3.GetObjectInput{Bucket: b, Key: key, Range: aws.String("bytes=5-")})
	fails(t, err, "InvalidRange")
	_, err = f.GetObject(t.Context(), &s3.GetObjectInput{Bucket: b, Key: key, IfNoneMatch: aws.String(etag)})
	fails(t, err, "NotModified")
	_, err = f.GetObject(t.Context(), &s3.GetObjectInput{Bucket: b, Key: key, IfMatch: aws.String(`"x"`)})
	fails(t, err, "PreconditionFailed")
	_, err = f.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: b, Key: aws.String("absent")})
	fails(t, err, "NotFound")
	_, err = f.GetObject(t.Context(), &s3.GetObjectInput{Bucket: b, Key: aws.String("absent")})
	fails(t, err, "NoSuchKey")
	if _, got := f.get(&s3.GetObjectInput{Key: key, ResponseContentType: aws.String("a/b"), ResponseContentDisposition: aws.String("attachment")}); *got.ContentType != "a/b" || *got.ContentDisposition != "attachment" {
		t.Errorf("%+v", got)
	}

	// What is said of an object is not said of an error.
	for _, header := range []string{`If-Match: "x"`, "Range: bytes=9-"} {
		status, text, h := f.do("GET", f.presigned("GET", "/firmware/pump/7%20%C3%A9%2B.bin"), "", header)
		if status/100 != 4 || !strings.Contains(text, "<Error>") || h.Get("Content-Type") != "application/xml" ||
			h.Get("Content-Encoding")+h.Get("Cache-Control")+h.Get("Etag")+h.Get("X-Amz-Meta-Note") != "" {
			t.Errorf("%s: %d %q %v", header, status, text, h)
		}
	}
	status, text, h := f.do("GET", f.presigned("GET", "/firmware/pump/7%20%C3%A9%2B.bin"), "", "If-None-Match: "+etag)
	if status != 304 || text != "" || h.Get("Etag") != etag || h.Get("Cache-Control") != "no-store" || h.Get("Content-Encoding") != "" {
		t.Errorf("not modified: %d %q %v", status, text, h)
	}

	if put := f.put("empty", ""); *put.ETag != `"d41d8cd98f00b204e9800998ecf8427e"` {
		t.Errorf("%+v", put)
	}
	if body, got := f.get(&s3.GetObjectInput{Key: aws.String("empty")}); body != "" || *got.ContentLength != 0 || *got.ContentType != "application/octet-stream" {
		t.Errorf("%q, %d, %s", body, *got.ContentLength, *got.ContentType)
	}
	call(t, f.DeleteObject, &s3.DeleteObjectInput{Bucket: b, Key: key})
	call(t, f.DeleteObject, &s3.DeleteObjectInput{Bucket: b, Key: key}) // and again
	_, err = f.GetObject(t.Context(), &s3.GetObjectInput{Bucket: b, Key: key})
	fails(t, err, "NoSuchKey")
	if left := f.leftovers(); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

func TestConditionalWrites(t *testing.T) {
	t.Parallel()
	f := newFixture(t, objects.Limits{})
	b, key := f.bucket(), aws.String("k")
	_, err := f.PutObject(t.Context(), &s3.PutObjectInput{Bucket: b, Key: key, Body: strings.NewReader("x"), IfMatch: aws.String(`"x"`)})
	fails(t, err, "NoSuchKey")
	first := call(t, f.PutObject, &s3.PutObjectInput{Bucket: b, Key: key, Body: strings.NewReader("one"), IfNoneMatch: aws.String("*")})
	_, err = f.PutObject(t.Context(), &s3.PutObjectInput{Bucket: b, Key: key, Body: strings.NewReader("two"), IfNoneMatch: aws.String("*")})
	fails(t, err, "PreconditionFailed")
	_, err = f.PutObject(t.Context(), &s3.PutObjectInput{Bucket: b, Key: key, Body: strings.NewReader("two"), IfMatch: aws.String(`"x"`)})
	fails(t, err, "PreconditionFailed")
	if body, _ := f.get(&s3.GetObjectInput{Key: key}); body != "one" {
		t.Errorf("%q", body)
	}
	call(t, f.PutObject, &s3.PutObjectInput{Bucket: b, Key: key, Body: strings.NewReader("two"), IfMatch: first.ETag})
	if body, _ := f.get(&s3.GetObjectInput{Key: key}); body != "two" {
		t.Errorf("%q", body)
	}
}

// Uploads leave some of the disk free; what is there can be read and deleted.
func TestReserve(t *testing.T) {
	t.Parallel()
	f := newFixture(t, objects.Limits{})
	b := f.bucket()
	f.put("k", "v")
	f.store.Reserve = math.MaxInt64
	_, err := f.PutObject(t.Context(), &s3.PutObjectInput{Bucket: b, Key: aws.String("more"), Body: strings.NewReader("x")})
	fails(t, err, "InsufficientStorage")
	if body, _ := f.get(&s3.GetObjectInput{Key: aws.String("k")}); body != "v" {
		t.Errorf("%q", body)
	}
	call(t, f.DeleteObject, &s3.DeleteObjectInput{Bucket: b, Key: aws.String("k")})
	if left, err := os.ReadDir(filepath.Join(f.dir, "tmp")); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

// A page that somebody uploaded has no rights of this server's where a browser shows it.
func TestPagesAreHarmless(t *testing.T) {
	t.Parallel()
	f := newFixture(t, objects.Limits{})
	b := f.bucket()
	call(t, f.PutObject, &s3.PutObjectInput{Bucket: b, Key: aws.String("page"), Body: strings.NewReader("<script>alert(1)</script>"), ContentType: aws.String("text/html")})
	status, _, header := f.do("GET", f.presigned("GET", "/"+*b+"/page"), "")
	if status != 200 || header.Get("Content-Security-Policy") != "sandbox" || header.Get("X-Content-Type-Options") != "nosniff" || header.Get("Content-Type") != "text/html" {
		t.Errorf("%d %v", status, header)
	}
}

func TestAwkwardKeys(t *testing.T) {
	t.Parallel()
	f := newFixture(t, objects.Limits{})
	b := f.bucket()
	keys := []string{"a", "A", "a/b", "a//b", "/a", "../x", "../../../../etc/passwd", "a/../b", "a/./b", "..%2f", "%2e%2e/x", "a+b", "a b", "a%20b", "a?b", "a#b", "a&b=c",
		"<a>", "é", "e\u0301", "日本語/😀", strings.Repeat("x", 125), strings.Repeat("x", 126), strings.Repeat("x", 250), strings.Repeat("y", 1024)}
	for i, key := range keys {
		f.put(key, fmt.Sprint(i))
	}
	for i, key := range keys {
		if body, _ := f.get(&s3.GetObjectInput{Key: &key}); body != fmt.Sprint(i) {
			t.Errorf("%q holds %q, want %d", key, body, i)
		}
	}
	var listed []string
	pages := s3.NewListObjectsV2Paginator(f, &s3.ListObjectsV2Input{Bucket: b, MaxKeys: aws.Int32(3)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Contents {
			listed = append(listed, *o.Key)
		}
	}
	slices.Sort(keys)
	if !slices.Equal(listed, keys) {
		t.Errorf("\n got %q\nwant %q", listed, keys)
	}
	// Nothing has left the folder.
	err := filepath.WalkDir(filepath.Dir(f.dir), func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.HasPrefix(path, filepath.Join(f.dir, "buckets", "firmware")+"/") {
			t.Errorf("%s is there", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("y", 1025)
	_, err = f.PutObject(t.Context(), &s3.PutObjectInput{Bucket: b, Key: &long, Body: strings.NewReader("x")})
	fails(t, err, "KeyTooLongError")
	for _, path := range []string{"/firmware/a%00b", "/firmware/%FF"} {
		if status, text, _ := f.do("PUT", f.presigned("PUT", path), "x"); status != 400 || !strings.Contains(text, "<Code>InvalidURI</Code>") {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	// A bucket is a name of a folder: none leads out.
	for _, path := range []string{"/../x", "/..%2f..%2fx/y", "/./x", "/%2e%2e/x", "/firmware%2f../x"} {
		status, text, _ := f.do("PUT", f.presigned("PUT", path), "x")
		if status/100 != 4 && !strings.HasPrefix(path, "/firmware") {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
}

func TestListings(t *testing.T) {
	t.Parallel()
	f := newFixture(t, objects.Limits{})
	b := f.bucket()
	for _, key := range []string{"a", "logs/1", "logs/2", "logs/deep/3", "logs2", "z/1", "zz"} {
		f.put(key, key)
	}
	type result struct{ keys, prefixes []string }
	list := func(in *s3.ListObjectsV2Input) (r result) {
		t.Helper()
		in.Bucket = b
		pages := s3.NewListObjectsV2Paginator(f, in)
		for pages.HasMorePages() {
			page, err := pages.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if in.MaxKeys != nil && *page.KeyCount > *in.MaxKeys || int(*page.KeyCount) != len(page.Contents)+len(page.CommonPrefixes) {
				t.Errorf("%d keys", *page.KeyCount)
			}
			for _, o := range page.Contents {
				r.keys = append(r.keys, *o.Key)
				if *o.Size != int64(len(*o.Key)) || *o.ETag == "" || o.StorageClass != "STANDARD" {
					t.Errorf("%+v", o)
				}
			}
			for _, p := range page.CommonPrefixes {
				r.prefixes = append(r.prefixes, *p.Prefix)
			}
		}
		return r
	}
	s := aws.String
	for name, c := range map[string]struct {
		in   s3.ListObjectsV2Input
		want result
	}{
		"all":              {s3.ListObjectsV2Input{}, result{[]string{"a", "logs/1", "logs/2", "logs/deep/3", "logs2", "z/1", "zz"}, nil}},
		"prefix":           {s3.ListObjectsV2Input{Prefix: s("logs/")}, result{[]string{"logs/1", "logs/2", "logs/deep/3"}, nil}},
		"prefix of none":   {s3.ListObjectsV2Input{Prefix: s("m")}, result{}},
		"delimiter":        {s3.ListObjectsV2Input{Delimiter: s("/")}, result{[]string{"a", "logs2", "zz"}, []string{"logs/", "z/"}}},
		"both":             {s3.ListObjectsV2Input{Delimiter: s("/"), Prefix: s("logs/")}, result{[]string{"logs/1", "logs/2"}, []string{"logs/deep/"}}},
		"start after":      {s3.ListObjectsV2Input{StartAfter: s("logs/2")}, result{[]string{"logs/deep/3", "logs2", "z/1", "zz"}, nil}},
		"long delimiter":   {s3.ListObjectsV2Input{Delimiter: s("/d")}, result{[]string{"a", "logs/1", "logs/2", "logs2", "z/1", "zz"}, []string{"logs/d"}}},
		"after the prefix": {s3.ListObjectsV2Input{Prefix: s("logs/"), StartAfter: s("z")}, result{}},
	} {
		for _, size := range []int32{0, 1, 2} {
			in := c.in
			if size > 0 {
				in.MaxKeys = &size
			}
			if got := list(&in); !slices.Equal(got.keys, c.want.keys) || !slices.Equal(got.prefixes, c.want.prefixes) {
				t.Errorf("%s by %d: %q, want %q", name, size, got, c.want)
			}
		}
	}
	if out := call(t, f.ListObjectsV2, &s3.ListObjectsV2Input{Bucket: b, MaxKeys: aws.Int32(0)}); len(out.Contents) > 0 || *out.IsTruncated {
		t.Errorf("%+v", out)
	}
	_, err := f.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: b, ContinuationToken: s("!")})
	fails(t, err, "InvalidArgument")
	// Clients of old.
	var keys []string
	in := &s3.ListObjectsInput{Bucket: b, Delimiter: s("/"), MaxKeys: aws.Int32(2)}
	for {
		out := call(t, f.ListObjects, in)
		for _, o := range out.Contents {
			keys = append(keys, *o.Key)
		}
		for _, p := range out.CommonPrefixes {
			keys = append(keys, *p.Prefix)
		}
		if !*out.IsTruncated {
			break
		}
		in.Marker = out.NextMarker
	}
	if want := []string{"a", "logs/", "logs2", "z/", "zz"}; !slices.Equal(keys, want) {
		t.Errorf("%q", keys)
	}
}

func TestDeleteObjects(t *testing.T) {
	t.Parallel()
	f := newFixture(t, objects.Limits{})
	b := f.bucket()
	f.put("a", "1")
	f.put("b", "2")
	ids := func(keys ...string) (list []types.ObjectIdentifier) {
		for _, k := range keys {
			list = append(list, types.ObjectIdentifier{Key: &k})
		}
		return list
	}
	out := call(t, f.DeleteObjects, &s3.DeleteObjectsInput{Bucket: b, Delete: &types.Delete{Objects: ids("a", "absent", strings.Repeat("x", 1025))}})
	if len(out.Deleted) != 2 || *out.Deleted[0].Key != "a" || len(out.Errors) != 1 || *out.Errors[0].Code != "KeyTooLongError" {
		t.Errorf("%+v", out)
	}
	out = call(t, f.DeleteObjects, &s3.DeleteObjectsInput{Bucket: b, Delete: &types.Delete{Objects: ids("b"), Quiet: aws.Bool(true)}})
	if len(out.Deleted) != 0 || len(out.Errors) != 0 {
		t.Errorf("%+v", out)
	}
	if out := call(t, f.ListObjectsV2, &s3.ListObjectsV2Input{Bucket: b}); len(out.Contents) != 0 {
		t.Errorf("%+v", out.Contents)
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	f := newFixture(t, objects.Limits{})
	b, key := f.bucket(), aws.String("k")
	versioning := func(s types.BucketVersioningStatus) {
		t.Helper()
		call(t, f.PutBucketVersioning, &s3.PutBucketVersioningInput{Bucket: b, VersioningConfiguration: &types.VersioningConfiguration{Status: s}})
		if out := call(t, f.GetBucketVersioning, &s3.GetBucketVersioningInput{Bucket: b}); out.Status != s {
			t.Errorf("versioning is %q", out.Status)
		}
	}
	// all lists what there is of the key, the newest first: bodies, and markers as "-".
	all := func() (list []string) {
		t.Helper()
		in := &s3.ListObjectVersionsInput{Bucket: b, MaxKeys: aws.Int32(1)}
		for {
			out := call(t, f.ListObjectVersions, in)
			for _, v := range out.Versions {
				body, _ := f.get(&s3.GetObjectInput{Key: v.Key, VersionId: v.VersionId})
				if *v.IsLatest {
					body = "*" + body
				}
				list = append(list, body)
			}
			for range out.DeleteMarkers {
				list = append(list, "-")
			}
			if !*out.IsTruncated {
				return list
			}
			in.KeyMarker, in.VersionIdMarker = out.NextKeyMarker, out.NextVersionIdMarker
		}
	}
	is := func(want ...string) {
		t.Helper()
		if got := all(); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if out := call(t, f.GetBucketVersioning, &s3.GetBucketVersioningInput{Bucket: b}); out.Status != "" {
		t.Errorf("at first %q", out.Status)
	}
	f.put("k", "old")
	f.put("k", "zero") // versioning was never on: it replaces
	is("*zero")
	versioning(types.BucketVersioningStatusEnabled)
	one, two := f.put("k", "one"), f.put("k", "two")
	if one.VersionId == nil || two.VersionId == nil || *one.VersionId == *two.VersionId {
		t.Fatalf("%v, %v", one.VersionId, two.VersionId)
	}
	is("*two", "one", "zero")
	if body, out := f.get(&s3.GetObjectInput{Key: key, VersionId: one.VersionId}); body != "one" || *out.VersionId != *one.VersionId {
		t.Errorf("%q", body)
	}
	if body, _ := f.get(&s3.GetObjectInput{Key: key, VersionId: aws.String("null")}); body != "zero" {
		t.Errorf("%q", body)
	}
	marker := call(t, f.DeleteObject, &s3.DeleteObjectInput{Bucket: b, Key: key})
	if !*marker.DeleteMarker || marker.VersionId == nil {
		t.Errorf("%+v", marker)
	}
	_, err := f.GetObject(t.Context(), &s3.GetObjectInput{Bucket: b, Key: key})
	fails(t, err, "NoSuchKey")
	_, err = f.GetObject(t.Context(), &s3.GetObjectInput{Bucket: b, Key: key, VersionId: marker.VersionId})
	fails(t, err, "MethodNotAllowed")
	if out := call(t, f.ListObjectsV2, &s3.ListObjectsV2Input{Bucket: b}); len(out.Contents) != 0 {
		t.Errorf("%+v", out.Contents)
	}
	is("-", "two", "one", "zero")
	call(t, f.DeleteObject, &s3.DeleteObjectInput{Bucket: b, Key: key, VersionId: marker.VersionId})
	is("*two", "one", "zero")
	call(t, f.DeleteObject, &s3.DeleteObjectInput{Bucket: b, Key: key, VersionId: two.VersionId})
	is("*one", "zero")
	versioning(types.BucketVersioningStatusSuspended)
	f.put("k", "null1")
	is("*null1", "one")
	f.put("k", "null2")
	is("*null2", "one")
	call(t, f.DeleteObject, &s3.DeleteObjectInput{Bucket: b, Key: key}) // a marker in the place of the null version
	is("-", "one")
	_, err = f.DeleteBucket(t.Context(), &s3.DeleteBucketInput{Bucket: b})
	fails(t, err, "BucketNotEmpty")
	_, err = f.GetObject(t.Context(), &s3.GetObjectInput{Bucket: b, Key: key, VersionId: two.VersionId})
	fails(t, err, "NoSuchVersion")
	_, err = f.GetObject(t.Context(), &s3.GetObjectInput{Bucket: b, Key: key, VersionId: aws.String("../../bucket.json")})
	fails(t, err, "InvalidArgument")
	call(t, f.DeleteObject, &s3.DeleteObjectInput{Bucket: b, Key: key, VersionId: aws.String("null")})
	call(t, f.DeleteObject, &s3.DeleteObjectInput{Bucket: b, Key: key, VersionId: one.VersionId})
	is()
	call(t, f.DeleteBucket, &s3.DeleteBucketInput{Bucket: b})
}

func TestCopy(t *testing.T) {
	t.Parallel()
	f := newFixture(t, objects.Limits{})
	b := f.bucket()
	call(t, f.PutObject, &s3.PutObjectInput{Bucket: b, Key: aws.String("a é"), Body: strings.NewReader("hello"), Metadata: map[string]string{"m": "1"}})
	out := call(t, f.CopyObject, &s3.CopyObjectInput{Bucket: b, Key: aws.String("b"), CopySource: aws.String("firmware/a%20%C3%A9")})
	if *out.CopyObjectResult.ETag != `"5d41402abc4b2a76b9719d911017c592"` {
		t.Errorf("%+v", out.CopyObjectResult)
	}
	if body, got := f.get(&s3.GetObjectInput{Key: aws.String("b")}); body != "hello" || got.Metadata["m"] != "1" {
		t.Errorf("%q, %v", body, got.Metadata)
	}
	_, err := f.CopyObject(t.Context(), &s3.CopyObjectInput{Bucket: b, Key: aws.String("b"), CopySource: aws.String("firmware/b")})
	fails(t, err, "InvalidRequest")
	call(t, f.CopyObject, &s3.CopyObjectInput{Bucket: b, Key: aws.String("b"), CopySource: aws.String("firmware/b"),
		MetadataDirective: types.MetadataDirectiveReplace, Metadata: map[string]string{"n": "2"}})
	if body, got := f.get(&s3.GetObjectInput{Key: aws.String("b")}); body != "hello" || got.Metadata["n"] != "2" || got.Metadata["m"] != "" {
		t.Errorf("%q, %v", body, got.Metadata)
	}
	_, err = f.CopyObject(t.Context(), &s3.CopyObjectInput{Bucket: b, Key: aws.String("c"), CopySource: aws.String("firmware/absent")})
	fails(t, err, "NoSuchKey")
	_, err = f.CopyObject(t.Context(), &s3.CopyObjectInput{Bucket: b, Key: aws.String("c"), CopySource: aws.String("firmware/b"), CopySourceIfMatch: aws.String(`"x"`)})
	fails(t, err, "PreconditionFailed")
	_, err = f.CopyObject(t.Context(), &s3.CopyObjectInput{Bucket: b, Key: aws.String("c"), CopySource: aws.String("../../x/y")})
	fails(t, err, "NoSuchBucket")
}

func TestMultipart(t *testing.T) {
	t.Parallel()
	f := newFixture(t, objects.Limits{})
	b, key := f.bucket(), aws.String("big")
	part := bytes.Repeat([]byte("0123456789abcdef"), 5<<20/16)
	for _, algorithm := range []types.ChecksumAlgorithm{"", "CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"} {
		created := call(t, f.CreateMultipartUpload, &s3.CreateMultipartUploadInput{Bucket: b, Key: key, ChecksumAlgorithm: algorithm, Metadata: map[string]string{"m": "1"}})
		var done []types.CompletedPart
		sums := md5.New()
		for i, body := range [][]byte{part, part, []byte("end")} {
			out := call(t, f.UploadPart, &s3.UploadPartInput{Bucket: b, Key: key, UploadId: created.UploadId, PartNumber: aws.Int32(int32(i*2 + 1)), Body: bytes.NewReader(body), ChecksumAlgorithm: algorithm})
			sum := md5.Sum(body)
			sums.Write(sum[:])
			done = append(done, types.CompletedPart{ETag: out.ETag, PartNumber: aws.Int32(int32(i*2 + 1)), ChecksumCRC32: out.ChecksumCRC32,
				ChecksumCRC32C: out.ChecksumCRC32C, ChecksumCRC64NVME: out.ChecksumCRC64NVME, ChecksumSHA1: out.ChecksumSHA1, ChecksumSHA256: out.ChecksumSHA256})
		}
		parts := call(t, f.ListParts, &s3.ListPartsInput{Bucket: b, Key: key, UploadId: created.UploadId, MaxParts: aws.Int32(2)})
		if len(parts.Parts) != 2 || !*parts.IsTruncated || *parts.NextPartNumberMarker != "3" || *parts.Parts[1].Size != 5<<20 {
			t.Errorf("%+v", parts)
		}
		uploads := call(t, f.ListMultipartUploads, &s3.ListMultipartUploadsInput{Bucket: b, Prefix: aws.String("b")})
		if len(uploads.Uploads) != 1 || *uploads.Uploads[0].UploadId != *created.UploadId {
			t.Errorf("%+v", uploads.Uploads)
		}
		out := call(t, f.CompleteMultipartUpload, &s3.CompleteMultipartUploadInput{Bucket: b, Key: key, UploadId: created.UploadId,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: done}})
		if want := `"` + hex.EncodeToString(sums.Sum(nil)) + `-3"`; *out.ETag != want {
			t.Errorf("%s, want %s", *out.ETag, want)
		}
		if algorithm == "CRC64NVME" && (out.ChecksumCRC64NVME == nil || out.ChecksumType != types.ChecksumTypeFullObject) ||
			algorithm == "SHA256" && (out.ChecksumSHA256 == nil || !strings.HasSuffix(*out.ChecksumSHA256, "-3")) {
			t.Errorf("%s: %+v", algorithm, out)
		}
		// A client that did not hear it asks again.
		call(t, f.CompleteMultipartUpload, &s3.CompleteMultipartUploadInput{Bucket: b, Key: key, UploadId: created.UploadId,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: done}})
		body, got := f.get(&s3.GetObjectInput{Key: key, ChecksumMode: types.ChecksumModeEnabled}) // the SDK verifies a full checksum
		if want := string(part) + string(part) + "end"; body != want || got.Metadata["m"] != "1" {
			t.Errorf("%s: %d bytes, want %d, %v", algorithm, len(body), len(want), got.Metadata)
		}
		if body, got := f.get(&s3.GetObjectInput{Key: key, PartNumber: aws.Int32(3)}); body != "end" || *got.PartsCount != 3 {
			t.Errorf("%q, %+v", body, got.PartsCount)
		}
	}
	if left := f.leftovers(); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}

	created := call(t, f.CreateMultipartUpload, &s3.CreateMultipartUploadInput{Bucket: b, Key: key})
	complete := func(parts ...types.CompletedPart) error {
		_, err := f.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{Bucket: b, Key: key, UploadId: created.UploadId,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}})
		return err
	}
	up := func(n int32, body string) types.CompletedPart {
		out := call(t, f.UploadPart, &s3.UploadPartInput{Bucket: b, Key: key, UploadId: created.UploadId, PartNumber: &n, Body: strings.NewReader(body)})
		return types.CompletedPart{ETag: out.ETag, PartNumber: &n}
	}
	one, two := up(1, "small"), up(2, "small too")
	fails(t, complete(one, two), "EntityTooSmall")
	fails(t, complete(two, one), "InvalidPartOrder")
	fails(t, complete(one, one), "InvalidPartOrder")
	fails(t, complete(types.CompletedPart{ETag: one.ETag, PartNumber: aws.Int32(3)}), "InvalidPart")
	fails(t, complete(types.CompletedPart{ETag: two.ETag, PartNumber: aws.Int32(1)}), "InvalidPart")
	copied := call(t, f.UploadPartCopy, &s3.UploadPartCopyInput{Bucket: b, Key: key, UploadId: created.UploadId, PartNumber: aws.Int32(1),
		CopySource: aws.String("firmware/big"), CopySourceRange: aws.String("bytes=10485760-10485762")})
	if err := complete(types.CompletedPart{ETag: copied.CopyPartResult.ETag, PartNumber: aws.Int32(1)}); err != nil {
		t.Fatal(err)
	}
	if body, _ := f.get(&s3.GetObjectInput{Key: key}); body != "end" {
		t.Errorf("%q", body)
	}
	created = call(t, f.CreateMultipartUpload, &s3.CreateMultipartUploadInput{Bucket: b, Key: key})
	up(1, "x")
	call(t, f.AbortMultipartUpload, &s3.AbortMultipartUploadInput{Bucket: b, Key: key, UploadId: created.UploadId})
	_, err := f.UploadPart(t.Context(), &s3.UploadPartInput{Bucket: b, Key: key, UploadId: created.UploadId, PartNumber: aws.Int32(1), Body: strings.NewReader("x")})
	fails(t, err, "NoSuchUpload")
	_, err = f.ListParts(t.Context(), &s3.ListPartsInput{Bucket: b, Key: key, UploadId: aws.String("../../buckets/firmware/xxxxxx")})
	fails(t, err, "NoSuchUpload")
	if left := f.leftovers(); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

func TestWrongChecksumsKeepNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, objects.Limits{})
	b := f.bucket()
	put := func(in *s3.PutObjectInput) error {
		in.Bucket, in.Key, in.Body = b, aws.String("k"), strings.NewReader("hello")
		_, err := f.PutObject(t.Context(), in)
		return err
	}
	fails(t, put(&s3.PutObjectInput{ContentMD5: aws.String("AAAAAAAAAAAAAAAAAAAAAA==")}), "BadDigest")
	fails(t, put(&s3.PutObjectInput{ContentMD5: aws.String("x")}), "InvalidDigest")
	fails(t, put(&s3.PutObjectInput{ChecksumCRC32: aws.String("AAAAAA==")}), "BadDigest")
	fails(t, put(&s3.PutObjectInput{ChecksumSHA256: aws.String("AAAAAA==")}), "InvalidRequest")
	_, err := f.GetObject(t.Context(), &s3.GetObjectInput{Bucket: b, Key: aws.String("k")})
	fails(t, err, "NoSuchKey")
	if left := f.leftovers(); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

func TestWhatIsNotHereSaysSo(t *testing.T) {
	t.Parallel()
	f := newFixture(t, objects.Limits{})
	b := f.bucket()
	f.put("k", "v")
	_, err := f.GetBucketPolicy(t.Context(), &s3.GetBucketPolicyInput{Bucket: b})
	fails(t, err, "NotImplemented")
	if !strings.Contains(err.Error(), "GetBucketPolicy") {
		t.Error(err)
	}
	_, err = f.GetObjectAcl(t.Context(), &s3.GetObjectAclInput{Bucket: b, Key: aws.String("k")})
	fails(t, err, "NotImplemented")
	if tags := call(t, f.GetObjectTagging, &s3.GetObjectTaggingInput{Bucket: b, Key: aws.String("k")}); len(tags.TagSet) > 0 {
		t.Errorf("%+v", tags.TagSet)
	}
	_, err = f.PutObject(t.Context(), &s3.PutObjectInput{Bucket: b, Key: aws.String("k"), Body: strings.NewReader("x"), ServerSideEncryption: types.ServerSideEncryptionAwsKms})
	fails(t, err, "NotImplemented")
	_, err = f.PutObject(t.Context(), &s3.PutObjectInput{Bucket: b, Key: aws.String("k"), Body: strings.NewReader("x"), ACL: types.ObjectCannedACLPublicRead})
	fails(t, err, "NotImplemented")
	if body, _ := f.get(&s3.GetObjectInput{Key: aws.String("k")}); body != "v" {
		t.Errorf("%q", body)
	}
	status, text, header := f.do("GET", f.url+"/firmware/k", "")
	if status != 403 || !strings.Contains(text, "<Code>AccessDenied</Code>") || !strings.Contains(text, "<Resource>/firmware/k</Resource>") ||
		!strings.Contains(text, "<RequestId>"+header.Get("X-Amz-Request-Id")+"</RequestId>") || header.Get("Content-Type") != "application/xml" {
		t.Errorf("%d %s", status, text)
	}
}

func TestPermissions(t *testing.T) {
	t.Parallel()
	f := newFixture(t, objects.Limits{})
	b := f.bucket()
	f.put("k", "v")
	f.put("other", "v")
	k := aws.String("k")
	for asked, try := range map[string]func() error{
		"s3:ListAllMyBuckets *":                func() error { _, err := f.ListBuckets(t.Context(), &s3.ListBucketsInput{}); return err },
		"s3:ListBucket arn:aws:s3:::firmware":  func() error { _, err := f.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: b}); return err },
		"s3:GetObject arn:aws:s3:::firmware/k": func() error { _, err := f.GetObject(t.Context(), &s3.GetObjectInput{Bucket: b, Key: k}); return err },
		"s3:GetObjectVersion arn:aws:s3:::firmware/k": func() error {
			_, err := f.GetObject(t.Context(), &s3.GetObjectInput{Bucket: b, Key: k, VersionId: aws.String("null")})
			return err
		},
		"s3:GetObject arn:aws:s3:::firmware/other": func() error {
			_, err := f.CopyObject(t.Context(), &s3.CopyObjectInput{Bucket: b, Key: k, CopySource: aws.String("firmware/other")})
			return err
		},
		"s3:PutObject arn:aws:s3:::firmware/k": func() error {
			_, err := f.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: b, Key: k})
			return err
		},
		"s3:DeleteObject arn:aws:s3:::firmware/k": func() error {
			_, err := f.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: b, Key: k})
			return err
		},
		"s3:PutBucketVersioning arn:aws:s3:::firmware": func() error {
			_, err := f.PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{Bucket: b, VersioningConfiguration: &types.VersioningConfiguration{Status: "Suspended"}})
			return err
		},
	} {
		f.refused.Store(asked, true)
		fails(t, try(), "AccessDenied")
		f.refused.Delete(asked)
	}
	f.refused.Store("s3:DeleteObject arn:aws:s3:::firmware/k", true)
	out := call(t, f.DeleteObjects, &s3.DeleteObjectsInput{Bucket: b, Delete: &types.Delete{Objects: []types.ObjectIdentifier{{Key: k}, {Key: aws.String("other")}}}})
	if len(out.Errors) != 1 || *out.Errors[0].Code != "AccessDenied" || len(out.Deleted) != 1 {
		t.Errorf("%+v", out)
	}
	if body, _ := f.get(&s3.GetObjectInput{Key: k}); body != "v" {
		t.Errorf("%q", body)
	}
}

func TestDownloadsAreCounted(t *testing.T) {
	t.Parallel()
	f := newFixture(t, objects.Limits{})
	f.bucket()
	f.put("k", "0123456789")
	first := f.presigned("GET", "/firmware/k", "x-drover-job=j", "x-drover-thing=pump-1")
	if status, text, _ := f.do("GET", first, "", "Range: bytes=0-3"); status != 206 || text != "0123" {
		t.Errorf("%d %q", status, text)
	}
	if status, text, _ := f.do("GET", first, "", "Range: bytes=4-"); status != 206 || text != "456789" {
		t.Errorf("%d %q", status, text)
	}
	second := f.presigned("GET", "/firmware/k", "x-drover-job=j", "x-drover-thing=pump-2")
	if status, text, _ := f.do("GET", second, "", "Range: bytes=0-3"); status != 206 || text != "0123" {
		t.Errorf("%d %q", status, text)
	}
	if status, text, _ := f.do("GET", f.presigned("GET", "/firmware/k"), ""); status != 200 || text != "0123456789" {
		t.Errorf("%d %q", status, text)
	}
	got := map[iot.ThingName]*iot.Download{}
	for deadline := time.After(20 * time.Second); got["pump-1"] == nil || got["pump-2"] == nil || !got["pump-1"].Completed || got["pump-1"].Requests < 2; {
		select {
		case list := <-f.fetched:
			for _, d := range list {
				if got[d.Thing] == nil {
					got[d.Thing] = &iot.Download{Job: d.Job, Thing: d.Thing}
				}
				got[d.Thing].Add(d)
			}
		case <-deadline:
			t.Fatalf("recorded only %v", got)
		}
	}
	if *got["pump-1"] != (iot.Download{Job: "j", Thing: "pump-1", Bytes: 10, Requests: 2, Completed: true}) ||
		*got["pump-2"] != (iot.Download{Job: "j", Thing: "pump-2", Bytes: 4, Requests: 1}) || len(got) != 2 {
		t.Errorf("%+v %+v", got["pump-1"], got["pump-2"])
	}
}

// TestLimits lets one download through, which is held up, and refuses the other.
func TestTooManyDownloads(t *testing.T) {
	t.Parallel()
	f := newFixture(t, objects.Limits{Downloads: 1, Rate: 64 << 10})
	f.bucket()
	f.put("k", strings.Repeat("x", 1<<20))
	url := f.presigned("GET", "/firmware/k", "x-drover-job=j", "x-drover-thing=t")
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	status, text, header := f.do("GET", url, "")
	if status != 503 || !strings.Contains(text, "<Code>SlowDown</Code>") || header.Get("Retry-After") == "" || header.Get("Etag") != "" {
		t.Errorf("%d %s %v", status, text, header)
	}
	if err := res.Body.Close(); err != nil {
		t.Fatal(err)
	}
	for range 200 { // until the server has seen that the first has gone
		if status, _, _ = f.do("GET", url, "", "Range: bytes=0-9"); status == 206 {
			break
		}
		<-time.After(20 * time.Millisecond)
	}
	if status != 206 {
		t.Errorf("%d after the first has gone", status)
	}
	call := <-f.fetched
	if len(call) == 0 || call[0].Refused == 0 {
		t.Errorf("%+v", call)
	}
}

func TestRates(t *testing.T) {
	t.Parallel()
	for _, limits := range []objects.Limits{{Rate: 200_000}, {DeviceRate: 200_000}} {
		f := newFixture(t, limits)
		f.bucket()
		f.put("k", strings.Repeat("x", 100_000))
		url := f.presigned("GET", "/firmware/k", "x-drover-thing=t")
		began := time.Now()
		if status, text, _ := f.do("GET", url, ""); status != 200 || len(text) != 100_000 {
			t.Errorf("%d, %d bytes", status, len(text))
		}
		if took := time.Since(began); took < 350*time.Millisecond { // half a second, less what may go at once
			t.Errorf("%+v: took %s", limits, took)
		}
	}
}

func TestCutDownloadsEnd(t *testing.T) {
	t.Parallel()
	f := newFixture(t, objects.Limits{Rate: 64 << 10})
	f.bucket()
	f.put("k", strings.Repeat("x", 1<<20))
	res, err := http.Get(f.presigned("GET", "/firmware/k"))
	if err != nil {
		t.Fatal(err)
	}
	f.server.Cut()
	n, err := io.Copy(io.Discard, res.Body)
	if err == nil || n == 1<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
	if err := res.Body.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestPresignedUpload(t *testing.T) {
	t.Parallel()
	f := newFixture(t, objects.Limits{})
	f.bucket()
	url := f.presigned("PUT", "/firmware/logs/pump-1")
	if status, text, header := f.do("PUT", url, "log"); status != 200 || header.Get("Etag") == "" {
		t.Errorf("%d %s", status, text)
	}
	if body, _ := f.get(&s3.GetObjectInput{Key: aws.String("logs/pump-1")}); body != "log" {
		t.Errorf("%q", body)
	}
	if status, text, _ := f.do("GET", url, ""); status != 403 || !strings.Contains(text, "SignatureDoesNotMatch") {
		t.Errorf("%d %s", status, text)
	}
	if status, text, _ := f.do("PUT", strings.Replace(url, "pump-1", "pump-2", 1), "log"); status != 403 || !strings.Contains(text, "SignatureDoesNotMatch") {
		t.Errorf("%d %s", status, text)
	}
	if status, text, _ := f.do("PUT", url+"&partNumber=1", "log"); status != 403 || !strings.Contains(text, "SignatureDoesNotMatch") {
		t.Errorf("%d %s", status, text)
	}
}
