package objects

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func openStore(t *testing.T, dir string, now func() time.Time) *Store {
	t.Helper()
	s, err := OpenStore(dir, now)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *Store) mustPut(t *testing.T, key, content string) Meta {
	t.Helper()
	got, err := s.receive(strings.NewReader(content), "")
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.commit("bucket", key, got, Meta{}, nil)
	if err := errors.Join(err, got.drop()); err != nil {
		t.Fatal(err)
	}
	return m
}

func (s *Store) mustGet(t *testing.T, key, version string) string {
	t.Helper()
	o, err := s.Get("bucket", key, version)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(io.LimitReader(o.File, o.Size))
	if err := errors.Join(err, o.Close()); err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestOpenStoreCleansUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir, time.Now)
	must(t, s.CreateBucket("bucket"))
	s.mustPut(t, "k", "content")
	half, err := s.receive(strings.NewReader("half"), "") // and the process dies
	must(t, err)
	must(t, half.f.Close())
	must(t, os.Mkdir(s.path("tmp", "folder"), 0o700))
	s = openStore(t, dir, time.Now)
	entries, err := os.ReadDir(s.path("tmp"))
	must(t, err)
	if len(entries) > 0 {
		t.Errorf("%d left over", len(entries))
	}
	if got := s.mustGet(t, "k", ""); got != "content" {
		t.Errorf("%q", got)
	}
}

// TestCrashBetweenVersions: the object that is to be replaced is linked already, and then the process dies.
func TestCrashBetweenVersions(t *testing.T) {
	t.Parallel()
	s := openStore(t, t.TempDir(), time.Now)
	must(t, s.CreateBucket("bucket"))
	must(t, s.SetVersioning("bucket", VersioningEnabled))
	one, two := s.mustPut(t, "k", "one"), s.mustPut(t, "k", "two")
	must(t, os.Link(s.current("bucket", "k"), filepath.Join(s.versions("bucket", "k"), two.Version)))
	list := func() (all []string) {
		t.Helper()
		p, err := s.ListVersions("bucket", Query{Limit: 10})
		must(t, err)
		for _, m := range p.Objects {
			all = append(all, m.Version)
		}
		return all
	}
	if got := list(); !slices.Equal(got, []string{two.Version, one.Version}) {
		t.Errorf("%q", got)
	}
	three := s.mustPut(t, "k", "three")
	if got := list(); !slices.Equal(got, []string{three.Version, two.Version, one.Version}) {
		t.Errorf("%q", got)
	}
	for _, v := range []string{three.Version, two.Version} {
		_, err := s.Delete("bucket", "k", v)
		must(t, err)
	}
	if got := s.mustGet(t, "k", ""); got != "one" {
		t.Errorf("%q", got)
	}
}

// TestVersionsKeepTheirOrder, also when the clock does not.
func TestVersionsKeepTheirOrder(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	before := ""
	for _, step := range []time.Duration{0, time.Hour, 0, -2 * time.Hour, time.Nanosecond} {
		at = at.Add(step)
		v := newVersion(at, before)
		if !validVersion(v) || before != "" && v >= before {
			t.Errorf("%s after %s", v, before)
		}
		before = v
	}
}

func TestUploadsExpire(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := openStore(t, t.TempDir(), func() time.Time { return now })
	must(t, s.CreateBucket("bucket"))
	old := &Upload{Bucket: "bucket", Key: "old"}
	must(t, s.CreateUpload(old))
	now = now.Add(uploadExpiry - time.Second)
	young := &Upload{Bucket: "bucket", Key: "young"}
	must(t, s.CreateUpload(young))
	must(t, s.Expire(context.Background()))
	if list, err := s.Uploads(""); err != nil || len(list) != 2 {
		t.Errorf("%v, %v", list, err)
	}
	now = now.Add(time.Second)
	must(t, s.Expire(context.Background()))
	if list, err := s.Uploads(""); err != nil || len(list) != 1 || list[0].ID != young.ID {
		t.Errorf("%v, %v", list, err)
	}
}

func TestClear(t *testing.T) {
	t.Parallel()
	s := openStore(t, t.TempDir(), time.Now)
	must(t, s.CreateBucket("bucket"))
	s.mustPut(t, "k", "content")
	must(t, s.CreateUpload(&Upload{Bucket: "bucket", Key: "k"}))
	must(t, s.Clear())
	for _, sub := range []string{"buckets", "uploads", "tmp"} {
		if entries, err := os.ReadDir(s.path(sub)); err != nil || len(entries) > 0 {
			t.Errorf("%s: %d left, %v", sub, len(entries), err)
		}
	}
	must(t, s.CreateBucket("bucket"))
}

func TestDamagedObject(t *testing.T) {
	t.Parallel()
	s := openStore(t, t.TempDir(), time.Now)
	must(t, s.CreateBucket("bucket"))
	s.mustPut(t, "k", "content")
	must(t, os.Truncate(s.current("bucket", "k"), 20))
	if _, err := s.Get("bucket", "k", ""); !errors.Is(err, errDamaged) {
		t.Errorf("%v", err)
	}
}

func FuzzReadMeta(f *testing.F) {
	tail, err := Meta{Key: "k", Size: 5, ETag: "e"}.tail()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append([]byte("hello"), tail...))
	f.Add([]byte("\xff\xff\xff\xff" + magic))
	f.Add([]byte("{}\x00\x00\x00\x02" + magic))
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "f")
		must(t, os.WriteFile(path, content, 0o600))
		o, err := openObject(path)
		if err != nil {
			return
		}
		if o.Size < 0 || o.Size > int64(len(content)) {
			t.Errorf("%d bytes of %d", o.Size, len(content))
		}
		must(t, o.Close())
	})
}

// TestWalk holds the walk against a list in memory: many keys, long ones among them, from anywhere.
func TestWalk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var keys []string
	for i := range namesAtOnce + 500 {
		keys = append(keys, fmt.Sprintf("k/%d", i*7919%100_003))
	}
	for i := range 300 {
		keys = append(keys, fmt.Sprintf("%s%d", strings.Repeat("x", 120+i%140), i), strings.Repeat("x", i+1))
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	for _, k := range keys {
		path := filepath.Join(dir, encodeKey(k))
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, nil, 0o600))
	}
	must(t, os.WriteFile(filepath.Join(dir, "README"), nil, 0o600)) // nothing of ours
	walk := func(from string, limit int) (all []string) {
		for k, err := range keysFrom(dir, from) {
			if err != nil {
				t.Fatal(err)
			}
			if all = append(all, k); len(all) == limit {
				break
			}
		}
		return all
	}
	if got := walk("", 0); !slices.Equal(got, keys) {
		t.Errorf("%d keys, want %d", len(got), len(keys))
	}
	rapid.Check(t, func(t *rapid.T) {
		from := rapid.OneOf(rapid.SampledFrom(keys), rapid.StringMatching(`[k-y/]{0,3}[0-9]{0,3}|x{100,300}[x-z0]?`)).Draw(t, "from") + rapid.SampledFrom([]string{"", "\x00", "\xff"}).Draw(t, "end")
		at, _ := slices.BinarySearch(keys, from)
		want := keys[at:min(at+5, len(keys))]
		if got := walk(from, 5); !slices.Equal(got, want) {
			t.Errorf("from %q: %q, want %q", from, got, want)
		}
	})
}

// TestReadersKeepWhatTheyOpened: an object that is replaced or deleted while it is read is read to its end.
func TestReadersKeepWhatTheyOpened(t *testing.T) {
	t.Parallel()
	s := openStore(t, t.TempDir(), time.Now)
	must(t, s.CreateBucket("bucket"))
	content := bytes.Repeat([]byte("old"), 1000)
	s.mustPut(t, "k", string(content))
	o, err := s.Get("bucket", "k", "")
	must(t, err)
	s.mustPut(t, "k", "new")
	_, err = s.Delete("bucket", "k", "")
	must(t, err)
	got, err := io.ReadAll(io.LimitReader(o.File, o.Size))
	if err := errors.Join(err, o.Close()); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// TestOneWriterWins: of many who would make the same object, one does, and readers see one or none.
func TestOneWriterWins(t *testing.T) {
	t.Parallel()
	s := openStore(t, t.TempDir(), time.Now)
	must(t, s.CreateBucket("bucket"))
	const writers = 20
	won := make(chan string, writers)
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() {
			content := fmt.Sprint("of writer ", i)
			got, err := s.receive(strings.NewReader(content), "")
			if err != nil {
				t.Error(err)
				return
			}
			_, err = s.commit("bucket", "k", got, Meta{}, func(current *Meta) error {
				if current != nil {
					return errPrecondition
				}
				return nil
			})
			if err == nil {
				won <- content
			} else if !errors.Is(err, errPrecondition) {
				t.Error(err)
			}
			if err := got.drop(); err != nil {
				t.Error(err)
			}
		})
		all.Go(func() {
			o, err := s.Get("bucket", "k", "")
			if err == nil {
				err = o.Close()
			} else if errors.Is(err, errNoSuchKey) {
				err = nil
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(won) != 1 {
		t.Fatalf("%d won", len(won))
	}
	if got, want := s.mustGet(t, "k", ""), <-won; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestCommonPrefixOfMany: more keys below a common prefix than are looked through one by one.
func TestCommonPrefixOfMany(t *testing.T) {
	t.Parallel()
	s := openStore(t, t.TempDir(), time.Now)
	must(t, s.CreateBucket("bucket"))
	s.mustPut(t, "b", "content")
	for i := range namesAtOnce + 100 {
		must(t, os.Link(s.current("bucket", "b"), s.current("bucket", fmt.Sprintf("a/%d", i))))
	}
	p, err := s.List("bucket", Query{Delimiter: "/", Limit: 1})
	must(t, err)
	if len(p.Objects) != 0 || !slices.Equal(p.Prefixes, []string{"a/"}) || !p.More {
		t.Errorf("%+v", p)
	}
	p, err = s.List("bucket", Query{Delimiter: "/", Limit: 1, After: p.Last})
	must(t, err)
	if len(p.Objects) != 1 || p.Objects[0].Key != "b" || len(p.Prefixes) != 0 || p.More {
		t.Errorf("%+v", p)
	}
}
