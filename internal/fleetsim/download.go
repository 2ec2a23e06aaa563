package fleetsim

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// file is something that a job document tells a device to download.
type file struct {
	url  string
	sum  string // SHA-256 in hexadecimal, lower case
	size int64  // -1 if the document does not say
}

// files returns what a document tells a device to download: every object in it, at any
// depth, that has a url (http or https) and beside it a sha256, and perhaps a size:
//
//	{"operation":"update","files":[{"url":"https://…","sha256":"9f86d0…","size":1048576}]}
func files(document []byte) (list []file) {
	var root any
	if json.Unmarshal(document, &root) != nil {
		return nil // it is not for us
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, member := range v {
				walk(member)
			}
		case map[string]any:
			u, _ := v["url"].(string)
			sum, _ := v["sha256"].(string)
			if sum != "" && (strings.HasPrefix(u, "http://") || strings.HasPrefix(u, "https://")) {
				f := file{url: u, sum: strings.ToLower(sum), size: -1}
				if size, ok := v["size"].(float64); ok {
					f.size = int64(size)
				}
				list = append(list, f)
			}
			for _, member := range v {
				walk(member)
			}
		}
	}
	walk(root)
	return list
}

// Downloads is what a fleet has downloaded.
type Downloads struct {
	Files   int64 // downloaded whole, with the SHA-256 that the document says
	Failed  int64 // given up, or with another SHA-256
	Bytes   int64 // received, those of failed ones included
	Resumed int64 // continued by a range after the connection was cut
	Waited  int64 // times that a server had no room and was asked again when it said so
	// Took is the time from the beginning of the first to the end of the last.
	Took time.Duration
}

// String returns the downloads as a line for people.
func (d Downloads) String() string {
	s := fmt.Sprintf("%d files, %.1f MB", d.Files, float64(d.Bytes)/1e6)
	if seconds := d.Took.Seconds(); seconds > 0 {
		s += fmt.Sprintf(" in %s (%.1f MB/s)", d.Took.Round(10*time.Millisecond), float64(d.Bytes)/1e6/seconds)
	}
	return s + fmt.Sprintf(", %d failed, %d resumed, %d asked to wait", d.Failed, d.Resumed, d.Waited)
}

// downloader fetches files for all devices of a fleet.
type downloader struct {
	client  *http.Client
	stall   time.Duration // how long a server may send nothing
	backoff time.Duration // first pause after a failure
	now     func() time.Time

	mu          sync.Mutex
	sum         Downloads
	first, last time.Time
}

// Limits of a download.
const (
	maxFailures = 6         // in a row without a byte between them
	maxWaits    = 1000      // that a server may ask for
	maxWait     = time.Hour // at a time
)

var (
	errWrongSum  = errors.New("checksum mismatch")
	errWrongSize = errors.New("wrong size")
	errNoFile    = errors.New("download refused")
)

func newDownloader(cfg *Config) *downloader {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 256
	transport.ResponseHeaderTimeout = 3 * cfg.RequestTimeout
	transport.TLSClientConfig = cfg.TLS.Clone() // it is changed to offer HTTP/2
	transport.DisableCompression = true         // the sum is of what is stored
	return &downloader{client: &http.Client{Transport: transport}, stall: 3 * cfg.RequestTimeout, backoff: cfg.Backoff, now: cfg.Now}
}

// fetch downloads a file and checks it. What was received before a connection was cut is
// kept, and the rest asked for. The error says in a few words why it failed.
func (d *downloader) fetch(ctx context.Context, f file) (err error) {
	d.count(func(s *Downloads) {
		if d.first.IsZero() {
			d.first = d.now()
		}
	})
	defer func() {
		d.count(func(s *Downloads) {
			d.last = d.now()
			if err == nil {
				s.Files++
			} else if ctx.Err() == nil {
				s.Failed++
			}
		})
	}()
	t := &transfer{file: f, d: d, digest: sha256.New()}
	for failures, waits := 0, 0; ; {
		before := t.got
		wait, err := t.attempt(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			return t.check()
		case wait > 0:
			if waits++; waits > maxWaits {
				return err
			}
			d.count(func(s *Downloads) { s.Waited++ })
		case errors.Is(err, errNoFile), errors.Is(err, errWrongSize):
			return err
		default:
			if t.got > before {
				failures = 0
			}
			if failures++; failures > maxFailures {
				return err
			}
			wait = d.backoff << failures / 2
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
}

// transfer is a download that goes on.
type transfer struct {
	file
	d      *downloader
	digest hash.Hash
	got    int64
	etag   string // of what was received so far
}

// attempt asks for what is missing. A wait above zero is what the server asked for.
func (t *transfer) attempt(ctx context.Context) (wait time.Duration, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url, nil)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errNoFile, err)
	}
	if t.got > 0 {
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-", t.got))
		if t.etag != "" { // of another file the rest would be of no use
			r.Header.Set("If-Match", t.etag)
		}
	}
	resp, err := t.d.client.Do(r)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }() // whatever is wrong has been seen by reading
	switch {
	case resp.StatusCode == http.StatusOK:
		if t.got > 0 { // it does not know ranges
			t.got = 0
			t.digest.Reset()
		}
	case resp.StatusCode == http.StatusPartialContent && t.got > 0 && strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", t.got)):
		t.d.count(func(s *Downloads) { s.Resumed++ })
	case resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode == http.StatusServiceUnavailable:
		return retryAfter(resp.Header, t.d.now()), fmt.Errorf("%w: %s", errNoFile, resp.Status)
	case resp.StatusCode >= 500:
		return 0, errors.New(resp.Status)
	default:
		return 0, fmt.Errorf("%w: %s", errNoFile, resp.Status)
	}
	t.etag = resp.Header.Get("ETag")
	stalled := time.AfterFunc(t.d.stall, cancel)
	defer stalled.Stop()
	buffer := make([]byte, 64<<10)
	for {
		n, err := resp.Body.Read(buffer)
		stalled.Reset(t.d.stall)
		t.got += int64(n)
		t.digest.Write(buffer[:n])
		t.d.count(func(s *Downloads) { s.Bytes += int64(n) })
		switch {
		case t.size >= 0 && t.got > t.size:
			return 0, fmt.Errorf("%w: more than %d bytes", errWrongSize, t.size)
		case errors.Is(err, io.EOF):
			return 0, nil
		case err != nil:
			return 0, err
		}
	}
}

// check compares what was received with what the document says.
func (t *transfer) check() error {
	if t.size >= 0 && t.got != t.size {
		return fmt.Errorf("%w: %d bytes instead of %d", errWrongSize, t.got, t.size)
	}
	if got := hex.EncodeToString(t.digest.Sum(nil)); got != t.sum {
		return errWrongSum
	}
	return nil
}

// retryAfter reads the header of that name, which has seconds or a time (RFC 9110 §10.2.3).
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	wait := time.Second
	if seconds, err := strconv.Atoi(text); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		wait = at.Sub(now)
	}
	return min(max(wait, 100*time.Millisecond), maxWait)
}

func (d *downloader) count(change func(*Downloads)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(&d.sum)
}

func (d *downloader) summary() Downloads {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.sum
	if !d.first.IsZero() {
		s.Took = cmp.Or(d.last, d.now()).Sub(d.first)
	}
	return s
}

// loading is the download of all files of a task, beside the device's own goroutine, which
// keeps the connection alive meanwhile.
type loading struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error // once done
}

func (d *downloader) start(ctx context.Context, list []file) *loading {
	ctx, cancel := context.WithCancel(ctx)
	l := &loading{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(l.done)
		for _, f := range list {
			if l.err = d.fetch(ctx, f); l.err != nil {
				return
			}
		}
	}()
	return l
}

// stop ends the download and waits for that.
func (l *loading) stop() {
	l.cancel()
	<-l.done
}
