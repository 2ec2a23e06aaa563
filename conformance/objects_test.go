package conformance

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	tmtypes "github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager/types"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"

	"drover/internal/envtest"
)

// The object store in the box, by clients that we have not written.

// box is the store of the server.
func (s *server) box() *s3.Client {
	return s3Store{url: s.http, key: s.key, secret: s.secret, region: s.region}.client()
}

// newBucket makes a bucket in the box.
func (f *fleet) newBucket() string {
	f.t.Helper()
	name := f.name("bucket")
	_, err := f.box().CreateBucket(f.ctx, &s3.CreateBucketInput{Bucket: &name})
	f.must(err)
	return name
}

func (f *fleet) putObject(bucket, key string, content []byte) {
	f.t.Helper()
	_, err := f.box().PutObject(f.ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(content)})
	f.must(err)
}

// presign signs a URL at a time, for ten minutes.
func (f *fleet) presign(method, path string, at time.Time) string {
	f.t.Helper()
	r, err := http.NewRequest(method, f.http+path, nil)
	f.must(err)
	q := r.URL.Query()
	q.Set("X-Amz-Expires", "600")
	r.URL.RawQuery = q.Encode()
	signed, _, err := v4.NewSigner().PresignHTTP(f.ctx, aws.Credentials{AccessKeyID: f.key, SecretAccessKey: f.secret}, r, "UNSIGNED-PAYLOAD", "s3", f.region, at,
		func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	f.must(err)
	return signed
}

// memory returns what the server holds now and held at most, in bytes.
func (s *server) memory(t *testing.T) (now, peak int64) {
	t.Helper()
	if s.process == nil {
		t.Skip("the memory of a foreign server cannot be seen")
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.process.Process.Pid))
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("there is no /proc here")
	}
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			continue
		}
		n, err := strconv.ParseInt(fields[1], 10, 64)
		switch fields[0] {
		case "VmRSS:":
			now = n << 10
		case "VmHWM:":
			peak = n << 10
		default:
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return now, peak
}

// TestClientS3CLI: 200 MB into the box and back, and the server grows by less than 32 MB.
func TestClientS3CLI(t *testing.T) {
	oneServer(t, "the object store in the box")
	t.Parallel()
	python := envtest.Python(t, "awscli")
	f := fleetOn(t, ownServer(t))
	before, _ := f.memory(t)
	f.run("bash", "aws_s3.sh", "AWS="+python+" -m awscli", "BUCKET="+f.name("cli"), "DIR="+t.TempDir(), "SIZE=200000000")
	if _, peak := f.memory(t); peak-before >= 32<<20 {
		t.Errorf("the server grew from %d to %d MB", before>>20, peak>>20)
	} else {
		t.Logf("the server grew from %d to %d MB", before>>20, peak>>20)
	}
}

func TestClientS3Boto3(t *testing.T) {
	oneServer(t, "the object store in the box")
	t.Parallel()
	python := envtest.Python(t, "boto3")
	f := fleetOn(t, sharedServer(t))
	f.run(python, "boto3_s3.py", "BUCKET="+f.name("boto3"))
}

// TestDeviceDownload is a download on a bad network: a range, a cut, and on from there.
func TestDeviceDownload(t *testing.T) {
	oneServer(t, "the object store in the box")
	f := newFleet(t)
	bucket := f.newBucket()
	firmware := make([]byte, 4<<20)
	rand.Read(firmware)
	f.putObject(bucket, "fw.bin", firmware)
	signed := f.presign("GET", "/"+bucket+"/fw.bin", time.Now())
	get := func(u string, headers ...string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(f.ctx, "GET", u, nil)
		f.must(err)
		for _, h := range headers {
			name, value, _ := strings.Cut(h, ": ")
			r.Header.Set(name, value)
		}
		res, err := http.DefaultClient.Do(r)
		f.must(err)
		return res
	}
	body := func(res *http.Response) []byte {
		t.Helper()
		text, err := io.ReadAll(res.Body)
		f.must(errors.Join(err, res.Body.Close()))
		return text
	}
	res := get(signed, "Range: bytes=100-199")
	if got := body(res); res.StatusCode != 206 || !bytes.Equal(got, firmware[100:200]) || res.Header.Get("Content-Range") != "bytes 100-199/4194304" {
		t.Errorf("a range: %d, %d bytes, %v", res.StatusCode, len(got), res.Header)
	}
	// The connection ends in the middle; the device goes on from what it has.
	res = get(signed)
	have := make([]byte, 1<<20)
	_, err := io.ReadFull(res.Body, have)
	f.must(errors.Join(err, res.Body.Close()))
	etag := res.Header.Get("Etag")
	res = get(signed, fmt.Sprintf("Range: bytes=%d-", len(have)), "If-Range: "+etag)
	have = append(have, body(res)...)
	if res.StatusCode != 206 || sha256.Sum256(have) != sha256.Sum256(firmware) {
		t.Errorf("on from the cut: %d, %d bytes", res.StatusCode, len(have))
	}
	if res := get(signed, "If-None-Match: "+etag); res.StatusCode != 304 || len(body(res)) != 0 {
		t.Errorf("what it has already: %d", res.StatusCode)
	}
	// What has been replaced meanwhile is sent from its beginning.
	f.putObject(bucket, "fw.bin", firmware[:1000])
	res = get(signed, "Range: bytes=500-", "If-Range: "+etag)
	if got := body(res); res.StatusCode != 200 || !bytes.Equal(got, firmware[:1000]) {
		t.Errorf("on in another file: %d, %d bytes", res.StatusCode, len(got))
	}
	for name, c := range map[string]struct{ url, code string }{
		"expired":         {f.presign("GET", "/"+bucket+"/fw.bin", time.Now().Add(-11*time.Minute)), "<Message>Request has expired"},
		"of another key":  {strings.Replace(signed, "fw.bin", "fx.bin", 1), "<Code>SignatureDoesNotMatch"},
		"for a PUT":       {f.presign("PUT", "/"+bucket+"/fw.bin", time.Now()), "<Code>SignatureDoesNotMatch"},
		"without its end": {signed[:len(signed)-10], "<Code>SignatureDoesNotMatch"},
		"not signed":      {strings.Replace(signed[:strings.Index(signed, "?")], "127.0.0.1", "s3.localhost", 1), "<Code>AccessDenied"},
	} {
		u, err := url.Parse(c.url)
		f.must(err)
		r, err := http.NewRequestWithContext(f.ctx, "GET", c.url, nil)
		f.must(err)
		r.Host = u.Host
		r.URL.Host = strings.TrimPrefix(f.http, "http://") // names are not looked up here
		res, err := http.DefaultClient.Do(r)
		f.must(err)
		if got := body(res); res.StatusCode != 403 || !strings.Contains(string(got), c.code) {
			t.Errorf("%s: %d %s", name, res.StatusCode, got)
		}
	}
}

// TestBucketInHost: clients that put the bucket in front of a host called s3.… or localhost.
func TestBucketInHost(t *testing.T) {
	oneServer(t, "the object store in the box")
	f := newFleet(t)
	bucket := f.newBucket()
	f.putObject(bucket, "metrics", []byte("an object, and not the metrics"))
	for _, host := range []string{bucket + ".s3.localhost:1", bucket + ".s3.us-east-1.amazonaws.com", bucket + ".localhost:8080"} {
		r, err := http.NewRequestWithContext(f.ctx, "GET", "http://"+host+"/metrics", nil)
		f.must(err)
		r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
		f.must(v4.NewSigner().SignHTTP(f.ctx, aws.Credentials{AccessKeyID: f.key, SecretAccessKey: f.secret}, r, "UNSIGNED-PAYLOAD", "s3", f.region, time.Now()))
		r.URL.Host = strings.TrimPrefix(f.http, "http://")
		res, err := http.DefaultClient.Do(r)
		f.must(err)
		text, err := io.ReadAll(res.Body)
		f.must(errors.Join(err, res.Body.Close()))
		if string(text) != "an object, and not the metrics" {
			t.Errorf("%s: %d %s", host, res.StatusCode, text)
		}
	}
	if status, text := f.fetch("GET", f.http+"/metrics", ""); status != 200 || !strings.Contains(text, "drover_object_requests_total{") {
		t.Errorf("the metrics: %d", status)
	}
}

// TestObjectsSurviveAPowerCut: what was answered is there, what was not is not, and nothing is left of it.
func TestObjectsSurviveAPowerCut(t *testing.T) {
	t.Parallel()
	s := ownServer(t)
	f := fleetOn(t, s)
	bucket := f.newBucket()
	old, replaced := bytes.Repeat([]byte("old"), 1<<20), bytes.Repeat([]byte("new"), 1<<20)
	f.putObject(bucket, "k", old)
	created, err := f.box().CreateMultipartUpload(f.ctx, &s3.CreateMultipartUploadInput{Bucket: &bucket, Key: aws.String("multi")})
	f.must(err)
	part, err := f.box().UploadPart(f.ctx, &s3.UploadPartInput{Bucket: &bucket, Key: aws.String("multi"), UploadId: created.UploadId, PartNumber: aws.Int32(1), Body: bytes.NewReader(old)})
	f.must(err)

	// An upload that is under way, half of which the server has on its disk.
	in, out := io.Pipe()
	r, err := http.NewRequestWithContext(f.ctx, "PUT", f.presign("PUT", "/"+bucket+"/k", time.Now()), in)
	f.must(err)
	r.ContentLength = int64(len(replaced))
	ended := make(chan error, 1)
	go func() {
		res, err := http.DefaultClient.Do(r)
		if err == nil {
			err = errors.Join(fmt.Errorf("answered with %d", res.StatusCode), res.Body.Close())
		}
		ended <- err
	}()
	_, err = out.Write(replaced[:len(replaced)/2])
	f.must(err)
	tmp := filepath.Join(s.data, "objects", "tmp")
	f.eventually("the half is in a file", func() bool {
		entries, err := os.ReadDir(tmp)
		f.must(err)
		for _, e := range entries {
			if info, err := e.Info(); err == nil && info.Size() > 1<<20 {
				return true
			}
		}
		return false
	})
	s.kill(t)
	f.must(out.CloseWithError(io.ErrClosedPipe))
	if err := <-ended; err == nil || strings.Contains(err.Error(), "answered") {
		t.Errorf("the upload %v", err)
	}

	s, err = start(s.data)
	f.must(err)
	t.Cleanup(func() { f.must(s.terminate()) })
	f.server = s
	get := func(key string) []byte {
		t.Helper()
		o, err := f.box().GetObject(f.ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
		f.must(err)
		text, err := io.ReadAll(o.Body)
		f.must(errors.Join(err, o.Body.Close()))
		return text
	}
	if got := get("k"); !bytes.Equal(got, old) {
		t.Errorf("%d bytes, that begin with %.10q", len(got), got)
	}
	entries, err := os.ReadDir(tmp)
	f.must(err)
	if len(entries) > 0 {
		t.Errorf("%d files are left over", len(entries))
	}
	_, err = f.box().CompleteMultipartUpload(f.ctx, &s3.CompleteMultipartUploadInput{Bucket: &bucket, Key: aws.String("multi"), UploadId: created.UploadId,
		MultipartUpload: &s3types.CompletedMultipartUpload{Parts: []s3types.CompletedPart{{ETag: part.ETag, PartNumber: aws.Int32(1)}}}})
	f.must(err)
	if got := get("multi"); !bytes.Equal(got, old) {
		t.Errorf("of the parts: %d bytes", len(got))
	}
}

// TestDownloadsOfAJob: what devices fetched by the URLs of a job is counted, and goes with it.
func TestDownloadsOfAJob(t *testing.T) {
	oneServer(t, "the object store in the box")
	f := newFleet(t)
	bucket := f.newBucket()
	f.putObject(bucket, "fw.bin", []byte("0123456789"))
	a, b := f.thing("a"), f.thing("b")
	id := f.job("job", []string{f.thingARN(a), f.thingARN(b)}, withDocument(`{"url":"${aws:iot:s3-presigned-url:s3://`+bucket+`/fw.bin}"}`))
	count := func() (status int, counts map[string]any) {
		t.Helper()
		status, _, counts = f.call("iot", "GET", "/_drover/jobs/"+id+"/downloads", "")
		return status, counts
	}
	if status, counts := count(); status != 200 || fmt.Sprint(counts) != "map[bytes:0 devicesCompleted:0 devicesStarted:0 refused:0 requests:0]" {
		t.Errorf("at first: %d %v", status, counts)
	}
	document := func(thing string) string {
		t.Helper()
		_, _, answer := f.https("GET", thing, "/$next", "")
		return text(t, answer, "url")
	}
	for range 2 {
		if status, content := f.fetch("GET", document(a), ""); status != 200 || content != "0123456789" {
			t.Errorf("%d %s", status, content)
		}
	}
	r, err := http.NewRequestWithContext(f.ctx, "GET", document(b), nil)
	f.must(err)
	r.Header.Set("Range", "bytes=0-4")
	res, err := http.DefaultClient.Do(r)
	f.must(err)
	_, err = io.Copy(io.Discard, res.Body)
	f.must(errors.Join(err, res.Body.Close()))
	f.eventually("the downloads are counted", func() bool {
		_, counts := count()
		return fmt.Sprint(counts) == "map[bytes:25 devicesCompleted:1 devicesStarted:2 refused:0 requests:3]"
	})
	if status, _ := f.fetch("GET", f.http+"/_drover/jobs/"+id+"/downloads", ""); status != 403 {
		t.Errorf("without a signature: %d", status)
	}
	_, err = f.api.DeleteJob(f.ctx, &iot.DeleteJobInput{JobId: &id, Force: true})
	f.must(err)
	f.eventually("they go with the job", func() bool { status, _ := count(); return status == 404 })
}

func TestResetEmptiesTheBox(t *testing.T) {
	t.Parallel()
	f := fleetOn(t, ownServer(t, "--test"))
	f.putObject(f.newBucket(), "k", []byte("x"))
	if code, _, answer := f.call("iot", "POST", "/_drover/reset", ""); code != 200 {
		t.Fatalf("reset: %d %v", code, answer)
	}
	list, err := f.box().ListBuckets(f.ctx, &s3.ListBucketsInput{})
	f.must(err)
	if len(list.Buckets) != 0 {
		t.Errorf("%d buckets are left", len(list.Buckets))
	}
	if _, err := os.Stat(filepath.Join(f.data, "objects")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("objects are in the data folder: %v", err)
	}
}

func TestBoxSwitchedOff(t *testing.T) {
	t.Parallel()
	f := fleetOn(t, ownServer(t, "--no-objects"))
	status, content := f.fetch("GET", f.presign("GET", "/b/k", time.Now()), "")
	var answer struct{ Message string }
	f.must(json.Unmarshal([]byte(content), &answer))
	if status != 501 || !strings.Contains(answer.Message, "--no-objects") {
		t.Errorf("%d %s", status, content)
	}
}

// TestTransferManager: the AWS SDK for Go moves many parts at a time.
func TestTransferManager(t *testing.T) {
	oneServer(t, "the object store in the box")
	f := newFleet(t)
	bucket := f.newBucket()
	manager := transfermanager.New(f.box(), func(o *transfermanager.Options) { o.PartSizeBytes = 5 << 20 })
	content := make([]byte, 23<<20)
	rand.Read(content)
	for _, algorithm := range []tmtypes.ChecksumAlgorithm{tmtypes.ChecksumAlgorithmCrc32, "CRC64NVME", tmtypes.ChecksumAlgorithmSha256} {
		key := string(algorithm)
		// A reader that cannot be wound back: checksums come behind the body.
		_, err := manager.UploadObject(f.ctx, &transfermanager.UploadObjectInput{Bucket: &bucket, Key: &key,
			Body: struct{ io.Reader }{bytes.NewReader(content)}, ChecksumAlgorithm: algorithm})
		f.must(err)
		for _, kind := range []tmtypes.GetObjectType{tmtypes.GetObjectParts, tmtypes.GetObjectRanges} {
			got := make([]byte, len(content))
			_, err := manager.DownloadObject(f.ctx, &transfermanager.DownloadObjectInput{Bucket: &bucket, Key: &key, WriterAt: writerAt(got)},
				func(o *transfermanager.Options) { o.GetObjectType = kind })
			f.must(err)
			if !bytes.Equal(got, content) {
				t.Errorf("%s: what came back by %s is not what was sent", algorithm, kind)
			}
		}
	}
}

type writerAt []byte

func (w writerAt) WriteAt(p []byte, at int64) (int, error) {
	if n := copy(w[at:], p); n < len(p) {
		return n, io.ErrShortWrite
	}
	return len(p), nil
}
