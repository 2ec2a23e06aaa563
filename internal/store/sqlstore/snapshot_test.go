package sqlstore_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"drover/internal/iot"
	"drover/internal/store"
	"drover/internal/store/sqlstore"
)

// A copy is of one moment, has what was committed before, and keeps no writer waiting.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	path := filepath.Join(dir, "a.db")
	d, err := sqlstore.Open(ctx, sqlstore.Config{Path: path, Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}()
	// Each transaction adds two records: a copy has all pairs whole.
	add := func() (last int64, err error) {
		err = d.Update(ctx, func(w store.Tx) error {
			records := []iot.Record{{Kind: iot.ThingCreated}, {Kind: iot.ThingUpdated}}
			return w.Append(records...)
		})
		if err != nil {
			return 0, err
		}
		err = d.View(ctx, func(r store.Reader) error {
			records, err := r.Records(0, 0, 1<<20)
			last = records[len(records)-1].ID
			return err
		})
		return last, err
	}
	for range 20 {
		if _, err := add(); err != nil {
			t.Fatal(err)
		}
	}
	stop, writing := make(chan struct{}), sync.WaitGroup{}
	var added, failed error
	writing.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if _, added = add(); added != nil {
					return
				}
			}
		}
	})
	for i := range 5 {
		var before int64
		if before, failed = add(); failed != nil {
			break
		}
		to := filepath.Join(dir, string(rune('b'+i))+".db")
		if failed = errors.Join(sqlstore.Snapshot(ctx, path, to), sqlstore.Check(to)); failed != nil {
			break
		}
		info, err := os.Stat(to)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v %v", info.Mode(), err)
		}
		c, err := sqlstore.Open(ctx, sqlstore.Config{Path: to})
		if err != nil {
			t.Error(err)
			break
		}
		err = c.View(ctx, func(r store.Reader) error {
			records, err := r.Records(0, 0, 1<<20)
			if n := len(records); n%2 != 0 || records[n-1].ID < before {
				t.Errorf("%d records up to %d, answered up to %d", n, records[n-1].ID, before)
			}
			return err
		})
		if err := errors.Join(err, c.Close()); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	writing.Wait()
	if err := errors.Join(added, failed); err != nil {
		t.Error(err)
	}

	t.Run("of nothing", func(t *testing.T) {
		t.Parallel()
		to := filepath.Join(t.TempDir(), "x.db")
		if err := sqlstore.Snapshot(ctx, filepath.Join(t.TempDir(), "none.db"), to); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		if err := sqlstore.Check(to); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	})
	t.Run("not over a file", func(t *testing.T) {
		if err := sqlstore.Snapshot(ctx, path, path); err == nil {
			t.Error("copied over itself")
		}
	})
	t.Run("until told otherwise", func(t *testing.T) {
		stopped, stop := context.WithCancel(ctx)
		stop()
		if err := sqlstore.Snapshot(stopped, path, filepath.Join(dir, "stopped.db")); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestCheck(t *testing.T) {
	t.Parallel()
	make := func(t *testing.T, script string) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), "a%20?b.db")
		d, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: path})
		if err == nil {
			err = d.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		c, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(sqlitex.ExecuteScript(c, script, nil), c.Close()); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if err := sqlstore.Check(make(t, "")); err != nil {
		t.Error(err)
	}
	if err := sqlstore.Check(make(t, "PRAGMA user_version = 9999")); err == nil || !strings.Contains(err.Error(), "newer drover") {
		t.Error(err)
	}
	if err := sqlstore.Check(make(t, "PRAGMA application_id = 7")); err == nil || !strings.Contains(err.Error(), "not a database of drover") {
		t.Error(err)
	}
	damaged := make(t, "")
	text, err := os.ReadFile(damaged)
	if err != nil {
		t.Fatal(err)
	}
	for i := 3 * 2048; i < len(text); i++ {
		text[i] ^= 0x55
	}
	if err := os.WriteFile(damaged, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := sqlstore.Check(damaged); err == nil {
		t.Error("a damaged file was found good")
	}
}
