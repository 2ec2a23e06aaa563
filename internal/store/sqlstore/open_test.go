package sqlstore_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"drover/internal/iot"
	"drover/internal/store"
	"drover/internal/store/sqlstore"
)

// writerDir names the folder in whose database this binary, run again by TestCrash,
// commits until it is killed.
const writerDir = "DROVER_TEST_WRITER_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(writerDir); dir != "" {
		fmt.Fprintln(os.Stderr, commitForever(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// commitForever registers one thing after the other, with a record each, and writes the
// thing's number once the commit has been acknowledged.
func commitForever(dir string) error {
	ctx := context.Background()
	d, err := sqlstore.Open(ctx, sqlstore.Config{Path: filepath.Join(dir, "drover.db")})
	if err != nil {
		return err
	}
	for {
		var n int64
		err := d.Update(ctx, func(tx store.Tx) (err error) {
			if n, err = tx.Sequence(1); err != nil {
				return err
			}
			name := iot.ThingName(fmt.Sprint("thing-", n))
			if err := tx.InsertThings([]*iot.Thing{{Name: name, Version: 1}}); err != nil {
				return err
			}
			return tx.Append(iot.Record{Kind: iot.ThingCreated, Actor: string(name)})
		})
		if err != nil {
			return err
		}
		if _, err := fmt.Println(n); err != nil {
			return err
		}
	}
}

// TestCrash kills a process that commits, several times over the same database: what it
// has acknowledged is there, nothing is there by half, and no number comes again.
func TestCrash(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	acknowledged := make(map[string]bool)
	for round := range 4 {
		for _, n := range runAndKill(t, dir, 100+50*round) {
			if acknowledged[n] {
				t.Fatalf("number %s was given twice", n)
			}
			acknowledged[n] = true
		}
		d := open(t, dir)
		err := d.View(t.Context(), func(r store.Reader) error {
			records, err := r.Records(0, 0, 1<<20)
			if err != nil {
				return err
			}
			recorded := make(map[string]bool)
			for _, rec := range records {
				recorded[rec.Actor] = true
			}
			if len(recorded) != len(records) || len(records) < len(acknowledged) {
				t.Errorf("%d records of %d things, %d acknowledged", len(records), len(recorded), len(acknowledged))
			}
			for n := range acknowledged {
				if !recorded["thing-"+n] {
					t.Errorf("thing-%s was acknowledged and has no record", n)
				}
			}
			things, _, _, err := r.Things(store.ThingQuery{}, "", 1<<20)
			for _, thing := range things {
				if !recorded[string(thing.Name)] {
					t.Errorf("%s is there without its record", thing.Name)
				}
			}
			if len(things) != len(records) {
				t.Errorf("%d things, %d records", len(things), len(records))
			}
			return err
		})
		if err := errors.Join(err, d.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// runAndKill lets a child commit until it has acknowledged at least n things, kills it,
// and returns all that it has acknowledged. Meanwhile the database is the child's alone.
func runAndKill(t *testing.T, dir string, n int) (acknowledged []string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), writerDir+"="+dir)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		acknowledged = append(acknowledged, lines.Text())
		switch len(acknowledged) {
		case 1:
			d, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: filepath.Join(dir, "drover.db")})
			if err == nil {
				t.Error("two processes have the database open")
				err = d.Close()
			} else if strings.Contains(err.Error(), "in use by another server") {
				err = nil
			}
			if err != nil {
				t.Error(err)
			}
		case n:
			if err := cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
		}
	}
	if err := lines.Err(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil || len(acknowledged) < n {
		t.Fatalf("the child ended by itself after %d commits: %s", len(acknowledged), stderr.String())
	}
	return acknowledged
}

func TestOpen(t *testing.T) {
	t.Parallel()
	refused := func(t *testing.T, path, because string) {
		t.Helper()
		d, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: path})
		if err == nil {
			t.Fatal("opened", d.Close())
		}
		if !strings.Contains(err.Error(), because) || !strings.Contains(err.Error(), path) {
			t.Fatalf("got %q", err)
		}
	}
	run := func(t *testing.T, path, script string) {
		t.Helper()
		c, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenCreate)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(sqlitex.ExecuteScript(c, script, nil), c.Close()); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("files are the owner's alone", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		d := open(t, dir)
		if err := d.Ping(t.Context()); err != nil {
			t.Error(err)
		}
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, f := range files {
			names = append(names, f.Name())
			info, err := f.Info()
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode() != 0o600 {
				t.Errorf("%s has mode %v", f.Name(), info.Mode())
			}
		}
		if got := strings.Join(names, " "); got != "drover.db drover.db-shm drover.db-wal drover.db.lock" {
			t.Errorf("files: %s", got)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if err := d.Ping(t.Context()); !errors.Is(err, sqlstore.ErrClosed) {
			t.Errorf("Ping after Close: %v", err)
		}
	})
	t.Run("twice in one process is refused, and harms nobody", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		d := open(t, dir)
		path := filepath.Join(dir, "drover.db")
		refused(t, path, "in use by another server")
		refused(t, path, "in use by another server")
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if err := open(t, dir).Close(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a newer database is refused and left alone", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		path := filepath.Join(dir, "drover.db")
		if err := open(t, dir).Close(); err != nil {
			t.Fatal(err)
		}
		run(t, path, "PRAGMA user_version = 999")
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		refused(t, path, "newer drover")
		after, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(after, before) {
			t.Fatalf("the file has changed, or %v", err)
		}
	})
	t.Run("another program's database is refused", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "drover.db")
		run(t, path, "CREATE TABLE letters (id INTEGER)")
		refused(t, path, "not a database of drover")
	})
	t.Run("what is no database is refused", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "drover.db")
		if err := os.WriteFile(path, []byte(strings.Repeat("Dear diary\n", 1000)), 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, path, "not a database")
	})
	t.Run("a folder that is not there is not made", func(t *testing.T) {
		t.Parallel()
		refused(t, filepath.Join(t.TempDir(), "no", "drover.db"), "no such file or directory")
	})
	t.Run("a canceled context opens nothing", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := sqlstore.Open(ctx, sqlstore.Config{Path: filepath.Join(dir, "drover.db")}); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
		if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
			t.Fatalf("files: %v, %v", files, err)
		}
	})
}
