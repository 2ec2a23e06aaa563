package audit

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// rig is a Log with a clock.
type rig struct {
	*testing.T
	*Log
	now time.Time
}

func newRig(t *testing.T, cfg Config) *rig {
	t.Helper()
	r := &rig{T: t, now: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)}
	cfg.Dir, cfg.Now = filepath.Join(t.TempDir(), "audit"), func() time.Time { return r.now }
	var err error
	if r.Log, err = Open(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) add(e Entry) bool {
	r.Helper()
	written, err := r.Add(e)
	if err != nil {
		r.Fatal(err)
	}
	return written
}

// operations is what a query finds, in short.
func (r *rig) operations(q Query) string {
	r.Helper()
	found, err := r.Read(q)
	if err != nil {
		r.Fatal(err)
	}
	var names []string
	for _, e := range found {
		names = append(names, e.Operation)
	}
	return strings.Join(names, " ")
}

func TestRead(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{})
	start := r.now
	for i, e := range []Entry{
		{Operation: "CreateJob", Who: "key:A", Targets: []string{"arn:job/one", "arn:thing/pump"}, Allowed: true},
		{Operation: "DeleteJob", Who: "key:B", Targets: []string{"arn:job/one"}},
		{Operation: "ListJobs", Who: Anonymous},
		{Operation: "CreateJob", Who: "key:B", Targets: []string{"arn:job/two"}, Allowed: true},
	} {
		r.now = start.Add(time.Duration(i) * 24 * time.Hour) // a file each
		r.add(e)
	}
	yes, no := true, false
	for _, tt := range []struct {
		q    Query
		want string
	}{
		{Query{}, "CreateJob DeleteJob ListJobs CreateJob"},
		{Query{Limit: 2}, "ListJobs CreateJob"},
		{Query{Who: "key:B"}, "DeleteJob CreateJob"},
		{Query{Operation: "createjob"}, "CreateJob CreateJob"},
		{Query{Target: "pump"}, "CreateJob"},
		{Query{Target: "job/one"}, "CreateJob DeleteJob"},
		{Query{Allowed: &yes}, "CreateJob CreateJob"},
		{Query{Allowed: &no}, "DeleteJob ListJobs"},
		{Query{Since: start.Add(24 * time.Hour), Until: start.Add(72 * time.Hour)}, "DeleteJob ListJobs"},
	} {
		if got := r.operations(tt.q); got != tt.want {
			t.Errorf("%+v: %s", tt.q, got)
		}
	}
}

// A crash may leave half a line; what is whole is read, and writing goes on.
func TestHalfALine(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{})
	r.add(Entry{Operation: "one"})
	if _, err := r.file.WriteString(`{"operation":"tw`); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r.now = r.now.Add(time.Second)
	r.add(Entry{Operation: "three"})
	if got := r.operations(Query{}); got != "one three" {
		t.Error(got)
	}
	info, err := os.Stat(r.file.Name())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// What is too old goes, and so does what is too much.
func TestBounds(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{Retention: 48 * time.Hour, MaxBytes: 16 << 10})
	r.add(Entry{Operation: "old"})
	r.now = r.now.Add(24 * time.Hour)
	r.add(Entry{Operation: "new"})
	r.now = r.now.Add(47 * time.Hour)
	r.add(Entry{Operation: "newer"})
	if got := r.operations(Query{}); got != "old new newer" {
		t.Error(got)
	}
	r.now = r.now.Add(24 * time.Hour)
	r.add(Entry{Operation: "newest"})
	if got := r.operations(Query{}); got != "new newer newest" {
		t.Errorf("after the retention: %s", got)
	}
	for i := range 1000 {
		r.now = r.now.Add(time.Second)
		r.add(Entry{Operation: fmt.Sprint(i), Targets: []string{strings.Repeat("x", 100)}})
	}
	names, err := r.names()
	if err != nil {
		t.Fatal(err)
	}
	total := int64(0)
	for _, name := range names {
		info, err := os.Stat(filepath.Join(r.cfg.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	if total > r.cfg.MaxBytes || total < r.cfg.MaxBytes/2 {
		t.Errorf("%d bytes in %d files", total, len(names))
	}
	if got := r.operations(Query{Limit: 2}); got != "998 999" {
		t.Error(got)
	}
}

// Who shows no key cannot fill the disk.
func TestAnonymous(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{AnonymousPerSecond: 1})
	written := 0
	for range 100 {
		if r.add(Entry{Who: Anonymous, Operation: "x"}) {
			written++
		}
		if !r.add(Entry{Who: "key:A", Operation: "y"}) {
			t.Fatal("somebody who is known is left out")
		}
	}
	r.now = r.now.Add(time.Second)
	r.add(Entry{Who: Anonymous, Operation: "last"})
	found, err := r.Read(Query{Operation: "last"})
	if err != nil || written != 10 || len(found) != 1 || found[0].Skipped != 90 {
		t.Errorf("%d written, %+v, %v", written, found, err)
	}
}

func BenchmarkAdd(b *testing.B) {
	l, err := Open(Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Add(Entry{Who: "key:A", From: "127.0.0.1", Operation: "CreateJob", Targets: []string{"arn:aws:iot:us-east-1:123456789012:job/one"}, Allowed: true}); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
}
