package sqlstore

import (
	"path/filepath"
	"slices"
	"testing"

	"drover/internal/iot"
	"drover/internal/store"
)

// TestClearKnowsEveryTable: a table that a later migration adds must be thought of.
func TestClearKnowsEveryTable(t *testing.T) {
	t.Parallel()
	db, err := Open(t.Context(), Config{Path: filepath.Join(t.TempDir(), "db")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	var tables []string
	err = db.writer.list("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'", func(r *row) error {
		tables = append(tables, r.text())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := append(slices.Clone(cleared), "counters", "commits", "nodes", "announcements")
	slices.Sort(tables)
	slices.Sort(want)
	if !slices.Equal(tables, want) {
		t.Errorf("tables %q, Clear knows %q", tables, want)
	}
}

func TestClear(t *testing.T) {
	t.Parallel()
	db, err := Open(t.Context(), Config{Path: filepath.Join(t.TempDir(), "db")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	var told []iot.Record
	db.OnCommit(func(r []iot.Record) { told = append(told, r...) })
	var before int64
	err = db.Update(t.Context(), func(tx store.Tx) (err error) {
		if before, err = tx.Sequence(1); err != nil {
			return err
		}
		return tx.InsertThings([]*iot.Thing{{Name: "a", UUID: "u", Version: 1, CreatedAt: 1}})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Clear(t.Context(), iot.Record{At: 1, Kind: iot.EventsConfigured}); err != nil {
		t.Fatal(err)
	}
	if len(told) != 1 || told[0].Kind != iot.EventsConfigured {
		t.Errorf("told %+v", told)
	}
	err = db.Update(t.Context(), func(tx store.Tx) error {
		if _, err := tx.ThingByName("a"); err != store.ErrNotFound {
			t.Errorf("the thing is still there: %v", err)
		}
		after, err := tx.Sequence(1)
		if after <= before {
			t.Errorf("number %d after %d", after, before)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
