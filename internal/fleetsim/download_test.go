package fleetsim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestFiles(t *testing.T) {
	t.Parallel()
	got := files([]byte(`{"operation":"update","files":[
		{"url":"https://h/a?X-Amz-Signature=1&x=2","sha256":"AB","size":7,"extra":{"url":"http://h/b","sha256":"cd"}},
		{"url":"ftp://h/c","sha256":"ef"},{"url":"https://h/d"},{"sha256":"01"},{"url":1,"sha256":"01"}],
		"url":"https://h/e","sha256":"ff","size":"large"}`))
	slices.SortFunc(got, func(a, b file) int { return strings.Compare(a.url, b.url) })
	want := []file{{"http://h/b", "cd", -1}, {"https://h/a?X-Amz-Signature=1&x=2", "ab", 7}, {"https://h/e", "ff", -1}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, document := range []string{``, `null`, `[]`, `"text"`, `{"operation":"reboot"}`} {
		if got := files([]byte(document)); got != nil {
			t.Errorf("%s: %v", document, got)
		}
	}
}

// depot serves one file, after the troubles it is given, one for each request.
type depot struct {
	*httptest.Server
	content []byte

	mu       sync.Mutex
	troubles []func(w http.ResponseWriter, r *http.Request) bool // true: answered
	ranges   []string                                            // asked for
}

func newDepot(t *testing.T, size int, troubles ...func(http.ResponseWriter, *http.Request) bool) *depot {
	t.Helper()
	d := &depot{content: bytes.Repeat([]byte("firmware"), size/8), troubles: troubles}
	d.Server = httptest.NewServer(http.HandlerFunc(d.serve))
	t.Cleanup(d.Close)
	return d
}

func (d *depot) serve(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	d.ranges = append(d.ranges, r.Header.Get("Range"))
	var trouble func(http.ResponseWriter, *http.Request) bool
	if len(d.troubles) > 0 {
		trouble, d.troubles = d.troubles[0], d.troubles[1:]
	}
	d.mu.Unlock()
	w.Header().Set("ETag", `"1"`)
	if trouble == nil || !trouble(w, r) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(d.content))
	}
}

func (d *depot) file() file {
	sum := sha256.Sum256(d.content)
	return file{url: d.URL + "/fw?X-Amz-Signature=secret", sum: hex.EncodeToString(sum[:]), size: int64(len(d.content))}
}

// answers is a trouble that is an answer.
func answers(status int, retryAfter string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		w.WriteHeader(status)
		return true
	}
}

// cut sends so many bytes and then breaks the connection.
func (d *depot) cut(n int) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		start := 0
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &start); err == nil {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, len(d.content)-1, len(d.content)))
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(d.content)-start))
		if start > 0 {
			w.WriteHeader(http.StatusPartialContent)
		}
		_, _ = w.Write(d.content[start : start+n])
		if err := http.NewResponseController(w).Flush(); err != nil {
			return true
		}
		panic(http.ErrAbortHandler)
	}
}

func newTestDownloader() *downloader {
	return newDownloader(&Config{RequestTimeout: 5 * time.Second, Backoff: time.Millisecond, Now: time.Now})
}

func TestDownload(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	for name, c := range map[string]struct {
		troubles func(d *depot) []func(http.ResponseWriter, *http.Request) bool
		change   func(f *file)
		want     Downloads // without times
		ranges   []string  // nil: not looked at
		fails    string
	}{
		"in one go": {want: Downloads{Files: 1, Bytes: size}, ranges: []string{""}},
		"resumed after cuts": {
			troubles: func(d *depot) []func(http.ResponseWriter, *http.Request) bool {
				return []func(http.ResponseWriter, *http.Request) bool{d.cut(300_000), d.cut(100_000)}
			},
			want: Downloads{Files: 1, Bytes: size, Resumed: 2}, ranges: []string{"", "bytes=300000-", "bytes=400000-"},
		},
		"the server knows no ranges": {
			troubles: func(d *depot) []func(http.ResponseWriter, *http.Request) bool {
				return []func(http.ResponseWriter, *http.Request) bool{d.cut(1000), func(_ http.ResponseWriter, r *http.Request) bool { r.Header.Del("Range"); return false }}
			},
			want: Downloads{Files: 1, Bytes: size + 1000},
		},
		"no room, come again": {
			troubles: func(*depot) []func(http.ResponseWriter, *http.Request) bool {
				return []func(http.ResponseWriter, *http.Request) bool{answers(503, "0"), answers(429, time.Now().UTC().Format(http.TimeFormat)), answers(503, "")}
			},
			want: Downloads{Files: 1, Bytes: size, Waited: 3},
		},
		"server errors": {
			troubles: func(*depot) []func(http.ResponseWriter, *http.Request) bool {
				return []func(http.ResponseWriter, *http.Request) bool{answers(500, ""), answers(502, "")}
			},
			want: Downloads{Files: 1, Bytes: size},
		},
		"server errors without end": {
			troubles: func(*depot) []func(http.ResponseWriter, *http.Request) bool {
				return slices.Repeat([]func(http.ResponseWriter, *http.Request) bool{answers(500, "")}, maxFailures+1)
			},
			want: Downloads{Failed: 1}, fails: "500",
		},
		"expired": {
			troubles: func(*depot) []func(http.ResponseWriter, *http.Request) bool {
				return []func(http.ResponseWriter, *http.Request) bool{answers(403, "")}
			},
			want: Downloads{Failed: 1}, ranges: []string{""}, fails: "download refused: 403 Forbidden",
		},
		"replaced meanwhile": {
			troubles: func(d *depot) []func(http.ResponseWriter, *http.Request) bool {
				return []func(http.ResponseWriter, *http.Request) bool{d.cut(1000), func(w http.ResponseWriter, _ *http.Request) bool { w.Header().Set("ETag", `"2"`); return false }}
			},
			want: Downloads{Failed: 1, Bytes: 1000}, fails: "download refused: 412",
		},
		"another sum":   {change: func(f *file) { f.sum = strings.Repeat("0", 64) }, want: Downloads{Failed: 1, Bytes: size}, fails: "checksum mismatch"},
		"no size given": {change: func(f *file) { f.size = -1 }, want: Downloads{Files: 1, Bytes: size}},
		"shorter":       {change: func(f *file) { f.size++ }, want: Downloads{Failed: 1, Bytes: size}, fails: "wrong size"},
		"longer":        {change: func(f *file) { f.size = 10 }, want: Downloads{Failed: 1}, fails: "wrong size"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDepot(t, size)
			if c.troubles != nil {
				d.troubles = c.troubles(d)
			}
			f := d.file()
			if c.change != nil {
				c.change(&f)
			}
			loader := newTestDownloader()
			err := loader.fetch(t.Context(), f)
			if c.fails == "" && err != nil || c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
				t.Errorf("got %v, want %q", err, c.fails)
			}
			got := loader.summary()
			got.Took = 0
			if name == "longer" {
				got.Bytes = 0 // as much as came at once
			}
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			if c.ranges != nil && !slices.Equal(d.ranges, c.ranges) {
				t.Errorf("ranges %q, want %q", d.ranges, c.ranges)
			}
		})
	}
}

// A server that stops sending is given up, and what it has sent is kept.
func TestDownloadStalls(t *testing.T) {
	t.Parallel()
	d := newDepot(t, 1<<20)
	d.troubles = []func(http.ResponseWriter, *http.Request) bool{func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Length", fmt.Sprint(len(d.content)))
		_, _ = w.Write(d.content[:500_000])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		return true
	}}
	loader := newTestDownloader()
	loader.stall = 50 * time.Millisecond
	if err := loader.fetch(t.Context(), d.file()); err != nil {
		t.Error(err)
	}
	if got := loader.summary(); got.Files != 1 || got.Resumed != 1 || got.Bytes != 1<<20 {
		t.Errorf("%+v", got)
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": time.Second, "7": 7 * time.Second, "-7": 100 * time.Millisecond, "1000000": maxWait, "soon": time.Second,
		now.Add(time.Minute).Format(http.TimeFormat): time.Minute,
	} {
		if got := retryAfter(http.Header{"Retry-After": {text}}, now); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// Devices download what the document points to, and say why they could not.
func TestDevicesDownload(t *testing.T) {
	t.Parallel()
	good := newDepot(t, 1<<20)
	sum := good.file().sum
	refuse := func(n int) *depot {
		return newDepot(t, 1<<20, slices.Repeat([]func(http.ResponseWriter, *http.Request) bool{answers(403, "")}, n)...)
	}
	expired, refusing := refuse(2), refuse(100)
	for name, c := range map[string]struct {
		url, sum, reason string
		want             Downloads
	}{
		"good":     {good.URL, sum, "", Downloads{Files: 2, Bytes: 2 << 20}},
		"tampered": {good.URL, strings.Repeat("0", 64), "checksum mismatch", Downloads{Failed: 2, Bytes: 2 << 20}},
		"expired":  {expired.URL, sum, "", Downloads{Files: 2, Failed: 2, Bytes: 2 << 20}},
		"refused":  {refusing.URL, sum, "download refused: 403 Forbidden", Downloads{Failed: 2 * (1 + renewals)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBroker(t, nil)
			b.document = map[string]any{"files": []any{map[string]any{"url": c.url + "/fw?X-Amz-Signature=secret", "sha256": c.sum}}}
			b.queue("a", "j1")
			b.queue("b", "j2")
			cfg := quick(b, "a", "b")
			cfg.Executions = 2
			s := play(t, cfg)
			b.mu.Lock()
			defer b.mu.Unlock()
			for _, e := range b.all {
				want := statusSucceeded
				if c.reason != "" {
					want = statusFailed
				}
				if e.status != want || e.ends != 1 {
					t.Errorf("%+v, want %s", e, want)
				}
			}
			for _, r := range b.requests {
				details, _ := r.body["statusDetails"].(map[string]any)
				if r.body["status"] == statusFailed && (details["reason"] != c.reason || details["step"] != "downloading") {
					t.Errorf("failed with %v", details)
				}
			}
			got := s.Downloads
			if got.Took <= 0 || !strings.Contains(s.String(), "\ndownloads   ") {
				t.Errorf("%+v\n%s", got, s)
			}
			if got.Took = 0; got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// While it downloads, a device hears that its execution is withdrawn, and stops; it goes on
// over a lost connection.
func TestDownloadsOfDevicesThatAreInterrupted(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]fault{"withdrawn": withdraw, "connection lost": loseReply} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBroker(t, nil)
			updates := 0
			b.fault = func(r request) fault {
				if strings.HasSuffix(r.topic, "/update") {
					if updates++; updates == 1 {
						return f
					}
				}
				return none
			}
			d := newDepot(t, 1<<20)
			b.document = map[string]any{"url": d.URL, "sha256": d.file().sum}
			b.queue("a", "j1")
			cfg := quick(b, "a")
			cfg.Executions = 1
			s := play(t, cfg)
			switch {
			case f == withdraw && s.Withdrawn != 1, f == loseReply && (s.Succeeded != 1 || s.Downloads.Files != 1):
				t.Errorf("%s", s)
			}
		})
	}
}

// A download ends with the fleet.
func TestDownloadEndsWithTheRun(t *testing.T) {
	t.Parallel()
	b := newBroker(t, nil)
	started := make(chan struct{})
	d := newDepot(t, 1<<20, func(_ http.ResponseWriter, r *http.Request) bool {
		close(started)
		<-r.Context().Done()
		return true
	})
	b.document = map[string]any{"url": d.URL, "sha256": d.file().sum}
	b.queue("a", "j1")
	f, err := New(quick(b, "a"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-started; cancel() }()
	if s, _ := f.Run(ctx); s.Downloads.Files != 0 || s.Downloads.Failed != 0 {
		t.Errorf("%+v", s.Downloads)
	}
}
