package artifacts

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"drover/internal/iot"
)

// shop is another store: objects by path, as they are at the moment.
type shop struct {
	mu      sync.Mutex
	objects map[string]string
	reads   atomic.Int64 // of data
}

func (s *shop) put(path, content string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[path] = content
}

func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	content, ok := s.objects[r.URL.Path]
	s.mu.Unlock()
	switch {
	case strings.HasPrefix(r.URL.Path, "/private/"):
		w.WriteHeader(http.StatusForbidden)
		return
	case !ok:
		w.WriteHeader(http.StatusNotFound)
		return
	case r.Method == http.MethodGet:
		s.reads.Add(1)
	}
	w.Header().Set("ETag", fmt.Sprintf(`"%d-%x"`, len(content), content[:1])) // what is the same has the same
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
}

func random(size int) string {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b) // never fails
	return string(b)
}

// An object of another store is read in chunks, each once for all devices, as long as it is what it was.
func TestBlobOfAnotherStore(t *testing.T) {
	t.Parallel()
	content := random(2*chunkSize + 1000)
	shop := &shop{objects: map[string]string{"/b/k": content}}
	s := newStore(t, Config{Endpoint: serve(t, shop.ServeHTTP)})
	o := iot.Object{Bucket: "b", Key: "k"}
	info, err := s.Stat(t.Context(), o)
	if err != nil || info.Size != int64(len(content)) || info.ETag == "" {
		t.Fatalf("%+v, %v", info, err)
	}
	if n := shop.reads.Load(); n != 0 {
		t.Errorf("it was read %d times to look it up", n)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			f, err := s.Blob(t.Context(), o, info)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = f.Close() }()
			for at := 0; at < len(content); at += 300_000 {
				part := make([]byte, min(300_000, len(content)-at))
				if _, err := f.ReadAt(part, int64(at)); err != nil || !bytes.Equal(part, []byte(content[at:at+len(part)])) {
					t.Errorf("at %d: %v", at, err)
				}
			}
			if n, err := f.ReadAt(make([]byte, 10), info.Size-4); n != 4 || err != io.EOF {
				t.Errorf("at the end: %d, %v", n, err)
			}
		})
	}
	all.Wait()
	if n := shop.reads.Load(); n != 3 {
		t.Errorf("3 chunks were read %d times", n)
	}

	// What is not kept any more is read again, and found to be another.
	for i := range keptChunks {
		s.chunks.keep(chunkKey{number: int64(i)}, nil)
	}
	shop.put("/b/k", "other")
	fails := func(want iot.Code) {
		t.Helper()
		f, err := s.Blob(t.Context(), o, info)
		if err == nil {
			_, err = f.ReadAt(make([]byte, 10), 0)
		}
		if iot.ErrorCode(err) != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	fails(iot.ETagMismatch)
	shop.put("/b/k", strings.Repeat("x", len(content)))
	fails(iot.ETagMismatch)
	o.Key = "gone"
	fails(iot.NotFound)
	o.Bucket = "private"
	fails(iot.InvalidRequest)
	if _, err := s.Stat(t.Context(), o); iot.ErrorCode(err) != iot.InvalidRequest || !strings.Contains(err.Error(), "forbids") {
		t.Error(err)
	}
}

func TestBlobOfTheBox(t *testing.T) {
	t.Parallel()
	shelf := box{"b k ": "content"}
	s := newStore(t, Config{Endpoint: canary(t), Box: shelf})
	o := iot.Object{Bucket: "b", Key: "k"}
	info, err := s.Stat(t.Context(), o)
	if err != nil || info.Size != 7 {
		t.Fatalf("%+v, %v", info, err)
	}
	f, err := s.Blob(t.Context(), o, info)
	if err != nil {
		t.Fatal(err)
	}
	part := make([]byte, 3)
	if _, err := f.ReadAt(part, 4); err != nil || string(part) != "ent" {
		t.Errorf("%q, %v", part, err)
	}
	shelf["b k "] = "other"
	if _, err := s.Blob(t.Context(), o, info); iot.ErrorCode(err) != iot.ETagMismatch {
		t.Error(err)
	}
	delete(shelf, "b k ")
	if _, err := s.Blob(t.Context(), o, info); iot.ErrorCode(err) != iot.NotFound {
		t.Error(err)
	}
}
