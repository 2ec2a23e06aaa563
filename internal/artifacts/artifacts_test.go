package artifacts

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"drover/internal/iot"
)

var key = credentials.NewStaticCredentialsProvider("AKIAEXAMPLE", "secret", "")

func newStore(t *testing.T, cfg Config) *Store {
	t.Helper()
	if cfg.Region == "" {
		cfg.Region = "us-east-1"
	}
	if cfg.Credentials == nil {
		cfg.Credentials = key
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// serve starts a server on loopback and returns its URL.
func serve(t *testing.T, answer http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	return s.URL
}

// canary is a server that must not be reached.
func canary(t *testing.T) string {
	t.Helper()
	return serve(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("reached: %s %s", r.Host, r.URL) })
}

// fails checks that a source is refused, and how.
func fails(t *testing.T, s *Store, source, want string) {
	t.Helper()
	text, err := s.Fetch(t.Context(), source)
	if iot.ErrorCode(err) != iot.InvalidRequest || !strings.Contains(err.Error(), want) || text != "" {
		t.Errorf("%s: %q, %v; want an InvalidRequest error with %q", source, text, err, want)
	}
}

// What a store can answer, and what becomes of it.
func TestFetch(t *testing.T) {
	t.Parallel()
	elsewhere := canary(t)
	at := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/") {
			t.Errorf("not signed: %v", r.Header)
		}
		switch r.URL.EscapedPath() {
		case "/docs/a/b%20c.json":
			_, _ = io.WriteString(w, `{"v":"`+r.URL.Query().Get("versionId")+`"}`)
		case "/docs/fits":
			_, _ = io.WriteString(w, strings.Repeat(" ", iot.MaxDocument))
		case "/docs/large":
			_, _ = io.WriteString(w, strings.Repeat(" ", iot.MaxDocument+1))
		case "/docs/endless":
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		case "/docs/empty":
		case "/docs/forbidden":
			w.WriteHeader(http.StatusForbidden)
		case "/docs/broken":
			w.WriteHeader(http.StatusInternalServerError)
		case "/docs/cut":
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "{")
		case "/docs/moved":
			http.Redirect(w, r, elsewhere+"/docs/k", http.StatusMovedPermanently)
		case "/docs/temporarily":
			http.Redirect(w, r, elsewhere+"/docs/k", http.StatusTemporaryRedirect)
		default:
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, "<Error><Code>NoSuchKey</Code></Error>")
		}
	})
	s := newStore(t, Config{Endpoint: at})
	for source, want := range map[string]string{
		"s3://docs/a/b%20c.json":                                               `{"v":""}`,
		at + "/docs/a/b%20c.json?versionId=7":                                  `{"v":"7"}`,
		"https://s3.eu-west-1.amazonaws.com/docs/a/b%20c.json":                 `{"v":""}`,
		"https://docs.s3.eu-west-1.amazonaws.com/a/b%20c.json%3FversionId%3D7": `{"v":"7"}`,
		"https://s3.amazonaws.com/docs/fits":                                   strings.Repeat(" ", iot.MaxDocument),
	} {
		if text, err := s.Fetch(t.Context(), source); err != nil || text != want {
			t.Errorf("%s: %.40q, %v", source, text, err)
		}
	}
	for source, want := range map[string]string{
		"s3://docs/missing":              "there is no object docs/missing",
		"s3://docs/missing?versionId=3":  "there is no object docs/missing, version 3",
		"s3://docs/forbidden":            "the store forbids this server to read docs/forbidden",
		"s3://docs/large":                "it has more than 32768 bytes",
		"s3://docs/endless":              "it has more than 32768 bytes",
		"s3://docs/empty":                "it is empty",
		"s3://docs/broken":               "the store answers 500 Internal Server Error",
		"s3://docs/cut":                  "the store broke off",
		"s3://docs/moved":                "the store redirects, which is not followed",
		"s3://docs/temporarily":          "the store redirects, which is not followed",
		elsewhere + "/docs/k":            "is neither a host of Amazon S3 nor of the S3 store",
		"http://169.254.169.254/latest/": "is neither a host of Amazon S3 nor of the S3 store",
	} {
		fails(t, s, source, want)
	}
}

func TestFetchFromNowhere(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := "http://" + l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	fails(t, newStore(t, Config{Endpoint: at}), "s3://docs/k", "the store cannot be reached: ")

	silent := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := newStore(t, Config{Endpoint: silent}).Fetch(ctx, "s3://docs/k"); err == nil || !strings.Contains(err.Error(), "the store does not answer in time") {
		t.Error(err)
	}

	noKey := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, errors.New("no key") })
	fails(t, newStore(t, Config{Endpoint: canary(t), Credentials: noKey}), "s3://docs/k", "no key")
}

// box is a store in the box.
type box map[string]string

func (b box) Open(bucket, key, version string) (*File, error) {
	text, ok := b[strings.Join([]string{bucket, key, version}, " ")]
	if !ok {
		return nil, fs.ErrNotExist
	}
	r := strings.NewReader(text)
	return &File{r, io.NopCloser(r), iot.ObjectInfo{Size: r.Size(), ETag: "e" + text[:1]}}, nil
}

func TestFetchFromTheBox(t *testing.T) {
	t.Parallel()
	s := newStore(t, Config{Endpoint: canary(t), Box: box{"docs k ": "{}", "docs k 2": `{"v":2}`, "docs large ": strings.Repeat(" ", iot.MaxDocument+1)}})
	for source, want := range map[string]string{"s3://docs/k": "{}", "s3://docs/k?versionId=2": `{"v":2}`} {
		if text, err := s.Fetch(t.Context(), source); err != nil || text != want {
			t.Errorf("%s: %q, %v", source, text, err)
		}
	}
	fails(t, s, "s3://docs/missing", "there is no object docs/missing")
	fails(t, s, "s3://docs/large", "it has more than 32768 bytes")
}

// resolver answers every question with addr, and counts.
func resolver(t *testing.T, addr string) (*net.Resolver, *atomic.Int64) {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pc.Close() })
	questions := new(atomic.Int64)
	ip := netip.MustParseAddr(addr)
	go func() {
		q := make([]byte, 512)
		for {
			n, from, err := pc.ReadFrom(q)
			if err != nil {
				return
			}
			questions.Add(1)
			end := 12
			for q[end] != 0 {
				end += int(q[end]) + 1
			}
			kind := binary.BigEndian.Uint16(q[end+1:])
			a := append([]byte{}, q[:end+5]...)
			a[2], a[3] = 0x81, 0x80
			binary.BigEndian.PutUint16(a[6:], 0)
			binary.BigEndian.PutUint32(a[8:], 0)
			if data := ip.AsSlice(); kind == 1 && ip.Is4() || kind == 28 && ip.Is6() {
				a[7] = 1
				a = append(a, 0xc0, 12, 0, byte(kind), 0, 1, 0, 0, 0, 1, 0, byte(len(data)))
				a = append(a, data...)
			}
			_ = n
			if _, err := pc.WriteTo(a, from); err != nil {
				return
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", pc.LocalAddr().String())
	}}, questions
}

// Names of AWS that resolve inwards, as whoever answers for them might want, lead nowhere.
func TestNamesThatResolveInwards(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "::1", "::ffff:127.0.0.1", "fd00:ec2::254", "fe80::1", "64:ff9b::7f00:1"} {
		s := newStore(t, Config{})
		var questions *atomic.Int64
		s.resolver, questions = resolver(t, addr)
		fails(t, s, "https://docs.s3.us-east-1.amazonaws.com/k", "which is not an address of the store")
		if questions.Load() == 0 {
			t.Errorf("%s: nobody has asked for it", addr)
		}
	}
}

// The name of a store that an operator has given may be inside, but not where machines of
// clouds keep their credentials.
func TestStoreOfANameInside(t *testing.T) {
	t.Parallel()
	at, err := url.Parse(serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }))
	if err != nil {
		t.Fatal(err)
	}
	s := newStore(t, Config{Endpoint: "http://minio.plant.example:" + at.Port()})
	s.resolver, _ = resolver(t, "127.0.0.1")
	if text, err := s.Fetch(t.Context(), "http://minio.plant.example:"+at.Port()+"/docs/k"); err != nil || text != "{}" {
		t.Errorf("%q, %v", text, err)
	}
	fails(t, s, "http://other.plant.example:"+at.Port()+"/docs/k", "is neither")
	for _, addr := range []string{"169.254.169.254", "fd00:ec2::254"} {
		s := newStore(t, Config{Endpoint: "http://minio.plant.example:" + at.Port()})
		s.resolver, _ = resolver(t, addr)
		fails(t, s, "s3://docs/k", "which is not an address of the store")
	}
	// A bucket in front of the name leads to the same server, whatever it resolves to.
	v := newStore(t, Config{Endpoint: at.String(), VirtualHosts: true})
	if text, err := v.Fetch(t.Context(), "s3://docs/k"); err != nil || text != "{}" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestPresign(t *testing.T) {
	t.Parallel()
	object := iot.Object{Bucket: "fw", Key: "a b/ä+:.bin"}
	for _, test := range []struct {
		name string
		cfg  Config
		o    iot.ObjectURL
		want string // scheme, host and path
		has  []string
	}{
		{"path", Config{Endpoint: "http://127.0.0.1:9000"}, iot.ObjectURL{Object: object, Expires: time.Minute},
			"http://127.0.0.1:9000/fw/a%20b/%C3%A4%2B%3A.bin", []string{"X-Amz-Expires=60", "X-Amz-SignedHeaders=host", "%2Fus-east-1%2Fs3%2Faws4_request"}},
		{"version", Config{Endpoint: "http://127.0.0.1:9000"}, iot.ObjectURL{Object: iot.Object{Bucket: "fw", Key: "k", Version: "v=1"}, Expires: time.Hour},
			"http://127.0.0.1:9000/fw/k", []string{"versionId=v%3D1", "X-Amz-Expires=3600"}},
		{"public", Config{Endpoint: "http://minio:9000", Public: "https://files.plant.example", VirtualHosts: true}, iot.ObjectURL{Object: object},
			"https://fw.files.plant.example/a%20b/%C3%A4%2B%3A.bin", nil},
		{"bucket with dots", Config{Endpoint: "https://files.plant.example", VirtualHosts: true}, iot.ObjectURL{Object: iot.Object{Bucket: "f.w", Key: "k"}},
			"https://files.plant.example/f.w/k", nil},
		{"AWS", Config{}, iot.ObjectURL{Object: iot.Object{Bucket: "fw", Key: "k"}}, "https://fw.s3.us-east-1.amazonaws.com/k", []string{"%2Fus-east-1%2Fs3"}},
		{"AWS elsewhere", Config{}, iot.ObjectURL{Object: iot.Object{Bucket: "f.w", Key: "k", Region: "cn-north-1"}}, "https://s3.cn-north-1.amazonaws.com.cn/f.w/k", []string{"%2Fcn-north-1%2Fs3"}},
		{"regions of AWS at another store", Config{Endpoint: "http://127.0.0.1:9000"}, iot.ObjectURL{Object: iot.Object{Bucket: "fw", Key: "k", Region: "eu-west-1"}}, "http://127.0.0.1:9000/fw/k", []string{"%2Fus-east-1%2Fs3"}},
		{"box", Config{Endpoint: "http://127.0.0.1:8080", Box: box{}}, iot.ObjectURL{Object: iot.Object{Bucket: "fw", Key: "k"}, Job: "job-1", Thing: "a:b"}, "http://127.0.0.1:8080/fw/k", []string{"x-drover-job=job-1", "x-drover-thing=a%3Ab"}},
		{"role", Config{Endpoint: "http://127.0.0.1:9000", Roles: map[string]aws.CredentialsProvider{"arn:r": credentials.NewStaticCredentialsProvider("AKIAROLE", "s", "token")}},
			iot.ObjectURL{Object: iot.Object{Bucket: "fw", Key: "k"}, RoleARN: "arn:r"}, "http://127.0.0.1:9000/fw/k", []string{"Credential=AKIAROLE%2F", "X-Amz-Security-Token=token"}},
		{"other role", Config{Endpoint: "http://127.0.0.1:9000"}, iot.ObjectURL{Object: iot.Object{Bucket: "fw", Key: "k"}, RoleARN: "arn:q"}, "http://127.0.0.1:9000/fw/k", []string{"Credential=AKIAEXAMPLE%2F"}},
	} {
		got, err := newStore(t, test.cfg).Presign(test.o)
		address, query, _ := strings.Cut(got, "?")
		if err != nil || address != test.want {
			t.Errorf("%s: %s, %v", test.name, got, err)
		}
		for _, part := range append(test.has, "X-Amz-Signature=") {
			if !strings.Contains(query, part) {
				t.Errorf("%s: %s has no %s", test.name, query, part)
			}
		}
		if test.cfg.Box == nil && strings.Contains(query, "drover") {
			t.Errorf("%s: %s", test.name, query)
		}
	}
	s := newStore(t, Config{Endpoint: "http://127.0.0.1:9000"})
	put, err := s.Presign(iot.ObjectURL{Object: object, Upload: true})
	if err != nil {
		t.Fatal(err)
	}
	get, err := s.Presign(iot.ObjectURL{Object: object})
	if err != nil || get[len(get)-64:] == put[len(put)-64:] {
		t.Errorf("a download and an upload have one signature: %v", err)
	}
	noKey := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, errors.New("no key") })
	if u, err := newStore(t, Config{Credentials: noKey}).Presign(iot.ObjectURL{Object: object}); err == nil || u != "" {
		t.Errorf("without a key: %q", u)
	}
}

// Credentials that cannot be had are not asked for again by every device.
func TestCredentialsThatFail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		failing := errors.New("no key")
		s := newStore(t, Config{Credentials: aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
			if asked++; asked == 1 {
				<-ctx.Done() // whoever has them does not answer
				return aws.Credentials{}, failing
			}
			return key.Retrieve(ctx)
		})})
		began := time.Now()
		for range 3 {
			if _, err := s.Presign(iot.ObjectURL{Object: iot.Object{Bucket: "fw", Key: "k"}}); !errors.Is(err, failing) {
				t.Errorf("got %v", err)
			}
		}
		if took := time.Since(began); asked != 1 || took != keysTimeout {
			t.Errorf("asked %d times in %s", asked, took)
		}
		<-time.After(keysPause)
		if _, err := s.Presign(iot.ObjectURL{Object: iot.Object{Bucket: "fw", Key: "k"}}); err != nil || asked != 2 {
			t.Errorf("afterwards: %v, asked %d times", err, asked)
		}
	})
}

func TestParseEndpoint(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"http://127.0.0.1:9000": "http://127.0.0.1:9000", "https://Files.example:443/": "https://files.example", "http://h:80": "http://h",
		"minio:9000": "", "ftp://h": "", "https://h/path": "", "https://u@h": "", "https://": "", "https://h?x": "", "": "",
	} {
		u, err := ParseEndpoint(text)
		if (err == nil) != (want != "") || err == nil && u.String() != want {
			t.Errorf("%q: %v, %v", text, u, err)
		}
	}
}

func BenchmarkPresign(b *testing.B) {
	s, err := New(Config{Endpoint: "http://127.0.0.1:8080", Region: "us-east-1", Credentials: key})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Presign(iot.ObjectURL{Object: iot.Object{Bucket: "fw", Key: "7.bin"}, Expires: time.Hour}); err != nil {
			b.Fatal(err)
		}
	}
}
