// Package ota keeps streams, whose files devices fetch over MQTT (registry spec §8), and OTA updates
// (registry spec §9).
//
// A stream says which objects of the S3 store it is made of, and what they were when it was made:
// size and ETag are looked up then, outside of the transaction. What devices get is read from the
// store when they ask.
//
// An OTA update is a row, from which Run makes a stream and a job, and which it deletes with them:
//
//	CREATE_PENDING → CREATE_IN_PROGRESS (the stream is made) → CREATE_COMPLETE (the job is)
//	       └────────────────┴──→ CREATE_FAILED
//	any of these → DELETE_IN_PROGRESS (the job goes) → gone, or DELETE_FAILED
//
// After a crash Run goes on where it was: a step finds out what has been done of it.
package ota

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"strconv"
	"time"

	"drover/internal/iot"
	"drover/internal/store"
)

// Objects is the S3 store. Errors are *iot.Error: NotFound, and InvalidRequest for an object that
// cannot be read.
type Objects interface {
	// Stat looks an object up.
	Stat(context.Context, iot.Object) (iot.ObjectInfo, error)
	// Open opens an object that Stat has described; iot.ETagMismatch, also from reading it, if it has
	// changed since.
	Open(context.Context, iot.Object, iot.ObjectInfo) (Blob, error)
}

// Blob is an object that is open for reading.
type Blob interface {
	io.ReaderAt
	io.Closer
}

// Config says what a Service works with. Store, Jobs and Realm are required.
type Config struct {
	Store   store.Store
	Jobs    Jobs
	Realm   iot.Realm
	Objects Objects          // nil: there is no S3 store, and no stream can be made
	Logger  *slog.Logger     // nil = slog.Default()
	Now     func() time.Time // nil = time.Now
	// FileSize is how many bytes a file of a stream can have; 0: 24 MiB, as with AWS.
	FileSize int64
}

// Service keeps the streams and OTA updates of one realm. Its methods may be called concurrently.
type Service struct {
	store    store.Store
	jobs     Jobs
	work     chan struct{} // a hint for Run
	realm    iot.Realm
	objects  Objects
	log      *slog.Logger
	now      func() time.Time
	fileSize int64
}

// New returns a Service. It keeps no state outside of the store.
func New(cfg Config) *Service {
	s := &Service{store: cfg.Store, jobs: cfg.Jobs, work: make(chan struct{}, 1), realm: cfg.Realm, objects: cfg.Objects, log: cmp.Or(cfg.Logger, slog.Default()), now: cfg.Now, fileSize: cmp.Or(cfg.FileSize, 24<<20)}
	if s.now == nil {
		s.now = time.Now
	}
	return s
}

// change is a transaction with what is the same all through it.
type change struct {
	store.Tx
	now   iot.Time
	actor string
}

func (s *Service) update(ctx context.Context, actor string, f func(*change) error) error {
	return s.store.Update(ctx, func(tx store.Tx) error {
		return f(&change{tx, iot.At(s.now()), actor})
	})
}

// record appends a record of what changed.
func (c *change) record(kind iot.Kind, data any) error {
	rec, err := iot.NewRecord(kind, c.now, c.actor, data)
	if err != nil {
		return err
	}
	return c.Append(rec)
}

// exists returns the error for a name that is taken.
func (s *Service) exists(what, kind, name string) error {
	err := iot.Errorf(iot.AlreadyExists, "%s %s already exists", what, name)
	err.ResourceID, err.ResourceARN = name, s.realm.ARN(kind, name)
	return err
}

// list returns a page of what is ordered by a number, which is the cursor.
func list[T any](ctx context.Context, s *Service, page iot.Page, f func(rd store.Reader, after int64, limit int) ([]T, error), seq func(T) int64) (items []T, next string, err error) {
	var after int64
	if page.Cursor != "" {
		if after, err = strconv.ParseInt(page.Cursor, 10, 64); err != nil {
			return nil, "", iot.Errorf(iot.InvalidRequest, "Invalid nextToken")
		}
	}
	err = s.store.View(ctx, func(rd store.Reader) error {
		items, err = f(rd, after, page.Limit+1)
		return err
	})
	if len(items) > page.Limit {
		items = items[:page.Limit]
		next = strconv.FormatInt(seq(items[page.Limit-1]), 10)
	}
	return items, next, err
}
