package ota

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"drover/internal/engine"
	"drover/internal/iot"
	"drover/internal/store"
	"drover/internal/store/sqlstore"
)

var realm = iot.Realm{Account: "123456789012", Region: "eu-west-1"}

// shelf is a store of objects, all in one bucket.
type shelf map[string]string

func (s shelf) Stat(_ context.Context, o iot.Object) (iot.ObjectInfo, error) {
	text, ok := s[o.Key]
	if !ok {
		return iot.ObjectInfo{}, iot.Errorf(iot.NotFound, "no %s", o.Key)
	}
	return iot.ObjectInfo{Size: int64(len(text)), ETag: text}, nil
}

func (s shelf) Open(_ context.Context, o iot.Object, info iot.ObjectInfo) (Blob, error) {
	if now, err := s.Stat(context.Background(), o); err != nil || now != info {
		return nil, iot.Errorf(iot.ETagMismatch, "changed")
	}
	return book{bytes.NewReader([]byte(s[o.Key]))}, nil
}

type book struct{ *bytes.Reader }

func (book) Close() error { return nil }

// cutOff lets somebody carry out what is asked of jobs, and then does not answer: what a crash looks like from
// the outside.
type cutOff struct {
	Jobs
	cut bool
}

var errCut = errors.New("cut off")

func (c *cutOff) CreateJob(ctx context.Context, n iot.NewJob) (*iot.Job, error) {
	j, err := c.Jobs.CreateJob(ctx, n)
	if c.cut && err == nil {
		return nil, errCut
	}
	return j, err
}

type rig struct {
	*Service
	t    *testing.T
	jobs *cutOff
	db   store.Store
}

func newRig(t *testing.T, objects Objects) *rig {
	t.Helper()
	db, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: filepath.Join(t.TempDir(), "db"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	e, err := engine.New(engine.Config{Store: db, Realm: realm, Logger: slog.New(slog.DiscardHandler), Objects: iot.ObjectStore{AnyHost: true}, Poll: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(t.Context(), func(tx store.Tx) error {
		return tx.InsertThings([]*iot.Thing{{Name: "t", UUID: "u", Version: 1}})
	})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, jobs: &cutOff{Jobs: e}, db: db}
	r.Service = New(Config{Store: db, Jobs: r.jobs, Realm: realm, Objects: objects, Logger: slog.New(slog.DiscardHandler)})
	return r
}

func (r *rig) create(id string) *iot.OTAUpdate {
	r.t.Helper()
	u, err := r.CreateUpdate(r.t.Context(), iot.NewOTAUpdate{ID: id, OTADefinition: iot.OTADefinition{
		Targets: []string{realm.ARN(iot.KindThing, "t")}, RoleARN: "role", Files: []iot.OTAFile{{Name: "f", Object: &iot.StreamFile{Bucket: "bucket", Key: "k"}}},
	}})
	if err != nil {
		r.t.Fatal(err)
	}
	return u
}

func (r *rig) status(id string, want iot.OTAStatus) *iot.OTAUpdate {
	r.t.Helper()
	u, err := r.Update(r.t.Context(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	if u.Status != want {
		r.t.Fatalf("%s: %s, want %s (%+v)", id, u.Status, want, u.Error)
	}
	return u
}

// A run that ends in the middle is gone on with: nothing is made twice, and nothing is taken for a failure.
func TestUpdatesAreGoneOnWith(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	r := newRig(t, shelf{"k": "content"})
	r.create("u")
	r.status("u", iot.OTACreatePending)
	r.jobs.cut = true
	if err := r.runOnce(ctx); !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	u := r.status("u", iot.OTACreateInProgress)
	if _, err := r.Stream(ctx, u.Stream); err != nil {
		t.Error(err)
	}
	if err := r.runOnce(ctx); err != nil { // the job is there, whoever asks
		t.Fatal(err)
	}
	u = r.status("u", iot.OTACreateComplete)
	if !u.JobMade || u.Files[0].Object.Size != 7 {
		t.Errorf("%+v", u)
	}

	// Deleted before a run came to tell that it has made the job.
	r.create("v")
	if err := r.runOnce(ctx); !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	if err := r.DeleteUpdate(ctx, iot.OTADeletion{ID: "v"}); iot.ErrorCode(err) != iot.InvalidRequest {
		t.Errorf("with an active job: %v", err)
	}
	if err := r.DeleteUpdate(ctx, iot.OTADeletion{ID: "v", ForceJob: true, Stream: true}); err != nil {
		t.Fatal(err)
	}
	if err := r.runOnce(ctx); err != nil {
		t.Fatal(err)
	}
	j, err := r.jobs.Job(ctx, "AFR_OTA-v")
	if err != nil || j.Status != iot.JobDeletionInProgress {
		t.Errorf("%+v, %v", j, err)
	}
	r.status("v", iot.OTADeleteInProgress) // until the job is gone
}

// What the store of objects does not have any more is a failure; that it is not there any more, too.
func TestUpdatesFail(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	objects := shelf{"k": "content"}
	r := newRig(t, objects)
	r.create("u")
	r.create("v")
	delete(objects, "k")
	if err := r.runOnce(ctx); err != nil {
		t.Fatal(err)
	}
	if u := r.status("u", iot.OTACreateFailed); u.Error == nil || u.Error.Code != "ResourceNotFound" {
		t.Errorf("%+v", u.Error)
	}
	r.status("v", iot.OTACreateFailed)

	objects["k"] = "content"
	r.create("w")
	without := New(Config{Store: r.db, Jobs: r.jobs, Realm: realm, Logger: slog.New(slog.DiscardHandler)})
	if err := without.runOnce(ctx); err != nil {
		t.Fatal(err)
	}
	r.status("w", iot.OTACreateFailed)
	if _, err := without.CreateUpdate(ctx, iot.NewOTAUpdate{ID: "x", OTADefinition: iot.OTADefinition{
		Targets: []string{realm.ARN(iot.KindThing, "t")}, RoleARN: "role", Files: []iot.OTAFile{{Name: "f", Object: &iot.StreamFile{Bucket: "bucket", Key: "k"}}},
	}}); iot.ErrorCode(err) != iot.InvalidRequest {
		t.Errorf("without a store: %v", err)
	}
}

// A file that is too large for a stream is refused; one of an object that has grown since, too.
func TestStreamFileSize(t *testing.T) {
	t.Parallel()
	objects := shelf{"k": "content", "l": "contents"}
	r := newRig(t, objects)
	r.fileSize = 7
	file := func(key string) []iot.StreamFile { return []iot.StreamFile{{Bucket: "bucket", Key: key}} }
	s, err := r.CreateStream(t.Context(), iot.NewStream{ID: "s", RoleARN: "role", Files: file("k")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.CreateStream(t.Context(), iot.NewStream{ID: "t", RoleARN: "role", Files: file("l")}); iot.ErrorCode(err) != iot.InvalidRequest {
		t.Error(err)
	}
	b, err := r.Open(t.Context(), s.Files[0])
	if err != nil {
		t.Fatal(err)
	}
	part := make([]byte, 3)
	if _, err := b.ReadAt(part, 1); err != nil || string(part) != "ont" {
		t.Errorf("%q, %v", part, err)
	}
	objects["k"] = "contents"
	if _, err := r.Open(t.Context(), s.Files[0]); iot.ErrorCode(err) != iot.ETagMismatch {
		t.Error(err)
	}
}

// What another node was asked for is left to it, until it seems to be dead.
func TestUpdatesOfOtherNodes(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	r := newRig(t, shelf{"k": "content"})
	u := r.create("u")
	err := r.db.Update(ctx, func(tx store.Tx) error {
		u.Node++
		return tx.SaveOTAUpdate(u)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		after time.Duration
		want  iot.OTAStatus
	}{{29 * time.Second, iot.OTACreatePending}, {31 * time.Second, iot.OTACreateComplete}} {
		r.now = func() time.Time { return u.ModifiedAt.Std().Add(c.after) }
		if err := r.runOnce(ctx); err != nil {
			t.Fatal(err)
		}
		r.status("u", c.want)
	}
}
