package engine_test

import (
	"context"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"drover/internal/engine"
	"drover/internal/iot"
	"drover/internal/store"
	"drover/internal/store/sqlstore"
)

// TestJournalIsTrimmed: what is older than the retention goes while the engine runs, in chunks, and
// what is younger stays.
func TestJournalIsTrimmed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: filepath.Join(t.TempDir(), "db"), Volatile: true})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		}()
		published := 0
		e, err := engine.New(engine.Config{Store: db, Realm: iot.Realm{Account: "123456789012", Region: "us-east-1"}, ChunkSize: 3,
			JournalRetention: 24 * time.Hour, Poll: time.Hour, Publish: func(_ context.Context, records []iot.Record) error { published += len(records); return nil }})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- e.Run(ctx) }()
		const records = 10
		tell := func() {
			if err := db.Update(ctx, func(tx store.Tx) error {
				for range records {
					if err := tx.Append(iot.Record{At: iot.At(time.Now()), Kind: iot.ThingCreated}); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		kept := func() (n int) {
			if err := db.View(ctx, func(r store.Reader) error {
				list, err := r.Records(0, 0, 100)
				n = len(list)
				return err
			}); err != nil {
				t.Fatal(err)
			}
			return n
		}
		tell()
		<-time.After(20 * time.Hour)
		tell()
		if n := kept(); n != 2*records {
			t.Errorf("%d records after 20 hours, want all %d", n, 2*records)
		}
		<-time.After(5*time.Hour + 30*time.Minute)
		if n := kept(); n != records {
			t.Errorf("%d records after 25 hours, want %d", n, records)
		}
		<-time.After(20 * time.Hour)
		if n := kept(); n != 1 {
			t.Errorf("%d records after 45 hours, want the latest", n)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if published != 2*records {
			t.Errorf("%d were published, want %d", published, 2*records)
		}
	})
}
