package objects

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"drover/internal/auth"
)

// rig is a server whose net/http gives up on a request after a tenth of a second, and has
// an object.
type rig struct {
	*Server
	t    testing.TB
	base string
	key  auth.Key
}

func newRig(t testing.TB, patience time.Duration, limits Limits, content []byte) *rig {
	t.Helper()
	store, err := OpenStore(t.TempDir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, key: auth.Key{AccessKeyID: "AKID", SecretAccessKey: "secret"}}
	r.Server = New(Config{Store: store, Verify: &auth.Verifier{Secret: r.key.Secret}, Limits: limits, Logger: slog.New(slog.DiscardHandler)})
	r.transfer.patience = patience
	web := httptest.NewUnstartedServer(r.Server)
	web.Config.ReadTimeout = 100 * time.Millisecond
	web.Start()
	t.Cleanup(func() {
		r.Cut()
		web.Close()
	})
	r.base = web.URL
	if err := store.CreateBucket("bucket"); err != nil {
		t.Fatal(err)
	}
	got, err := store.receive(bytes.NewReader(content), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.commit("bucket", "key", got, Meta{}, nil); err != nil {
		t.Fatal(err)
	}
	return r
}

// presigned is a URL of the object.
func (r *rig) presigned(method string) *url.URL {
	r.t.Helper()
	req, err := http.NewRequest(method, r.base+"/bucket/key?X-Amz-Expires=600", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	text, _, err := v4.NewSigner().PresignHTTP(context.Background(), aws.Credentials{AccessKeyID: r.key.AccessKeyID, SecretAccessKey: r.key.SecretAccessKey}, req,
		"UNSIGNED-PAYLOAD", "s3", "us-east-1", time.Now(), func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	if err != nil {
		r.t.Fatal(err)
	}
	u, err := url.Parse(text)
	if err != nil {
		r.t.Fatal(err)
	}
	return u
}

// dial sends the head of a request and what there is of its body.
func (r *rig) dial(method string, length int, body string) net.Conn {
	r.t.Helper()
	u := r.presigned(method)
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if err := conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			r.t.Error(err)
		}
	})
	if _, err := fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", method, u.RequestURI(), u.Host, length, body); err != nil {
		r.t.Fatal(err)
	}
	return conn
}

func (r *rig) await(what string, cond func() bool) {
	r.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(20 * time.Second); !cond(); {
		select {
		case <-tick.C:
		case <-deadline:
			r.t.Fatalf("not in time: %s", what)
		}
	}
}

// pieces is a body that comes in pieces, with a pause before each.
type pieces struct{ left int }

func (p *pieces) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	<-time.After(50 * time.Millisecond)
	p.left--
	return copy(b, "piece"), nil
}

func TestTransfersMayTakeTheirTime(t *testing.T) {
	t.Parallel()
	r := newRig(t, 10*time.Second, Limits{DeviceRate: 200_000}, make([]byte, 100_000))
	res, err := http.Get(r.presigned("GET").String())
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil || n != 100_000 {
		t.Errorf("a download of half a second: %d bytes, %v", n, err)
	}
	put, err := http.NewRequest("PUT", r.presigned("PUT").String(), &pieces{8})
	if err != nil {
		t.Fatal(err)
	}
	put.ContentLength = 40
	if res, err = http.DefaultClient.Do(put); err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil || res.StatusCode != 200 {
		t.Errorf("an upload of half a second: %d, %v", res.StatusCode, err)
	}
}

func TestStalledUploadEnds(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, Limits{}, nil)
	conn := r.dial("PUT", 1000, "the beginning")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 400 || !bytes.Contains(text, []byte("<Code>RequestTimeout</Code>")) {
		t.Errorf("%d %s, %v", res.StatusCode, text, err)
	}
	r.await("nothing is left over", func() bool {
		entries, err := os.ReadDir(r.store.path("tmp"))
		return err == nil && len(entries) == 0
	})
}

func TestStalledDownloadEnds(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, Limits{}, make([]byte, 64<<20))
	r.dial("GET", 0, "")
	r.await("the download begins", func() bool { return r.traffic.active.Load() == 1 })
	r.await("the download ends, of which nothing is read", func() bool { return r.traffic.active.Load() == 0 })
}

// watched is a listener whose connections say what they are given to send.
type watched struct {
	net.Listener
	given chan string
}

func (l watched) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return watchedConn{conn.(*net.TCPConn), l.given}, nil
}

type watchedConn struct {
	*net.TCPConn
	given chan string
}

func (c watchedConn) ReadFrom(src io.Reader) (int64, error) {
	what := fmt.Sprintf("%T", src)
	if l, ok := src.(*io.LimitedReader); ok {
		what += fmt.Sprintf(" of %T", l.R)
	}
	select {
	case c.given <- what:
	default:
	}
	return c.TCPConn.ReadFrom(src)
}

// TestKernelSends: the connection gets the file in a form for which net uses sendfile.
func TestKernelSends(t *testing.T) {
	t.Parallel()
	r := newRig(t, time.Minute, Limits{}, make([]byte, 1<<20))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	given := make(chan string, 1)
	web := &http.Server{Handler: r.Server, ReadHeaderTimeout: time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- web.Serve(watched{l, given}) }()
	r.base = "http://" + l.Addr().String()
	res, err := http.Get(r.presigned("GET").String())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, res.Body); err != nil || n != 1<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
	if got := <-given; got != "*io.LimitedReader of *os.File" {
		t.Errorf("the connection was given a %s", got)
	}
	if err := errors.Join(res.Body.Close(), web.Close()); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}

// BenchmarkPut is an upload of 16 MiB by HTTP, flushed to the disk.
func BenchmarkPut(b *testing.B) {
	r := newRig(b, time.Minute, Limits{}, nil)
	u := r.presigned("PUT").String()
	body := make([]byte, 16<<20)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		req, err := http.NewRequest("PUT", u, bytes.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		if err := res.Body.Close(); err != nil || res.StatusCode != 200 {
			b.Fatal(res.StatusCode, err)
		}
	}
}

// BenchmarkGet is a download of 16 MiB by HTTP.
func BenchmarkGet(b *testing.B) {
	r := newRig(b, time.Minute, Limits{}, make([]byte, 16<<20))
	benchmarkGet(b, r)
}

// BenchmarkGetSmall is a download of 1 KiB: what a request costs.
func BenchmarkGetSmall(b *testing.B) {
	benchmarkGet(b, newRig(b, time.Minute, Limits{}, make([]byte, 1<<10)))
}

func benchmarkGet(b *testing.B, r *rig) {
	u := r.presigned("GET").String()
	b.ReportAllocs()
	for b.Loop() {
		res, err := http.Get(u)
		if err != nil {
			b.Fatal(err)
		}
		n, err := io.Copy(io.Discard, res.Body)
		if err := errors.Join(err, res.Body.Close()); err != nil || res.StatusCode != 200 {
			b.Fatal(res.StatusCode, err)
		}
		b.SetBytes(n)
	}
}
