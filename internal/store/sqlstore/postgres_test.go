package sqlstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"drover/internal/envtest"
	"drover/internal/iot"
	"drover/internal/store"
	"drover/internal/store/sqlstore"
)

// with returns the URL with other parts.
func with(t *testing.T, base string, change func(u *url.URL)) string {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	change(u)
	return u.String()
}

// TestOpenPostgreSQL: what is wrong with a database is said in one line, without the password.
func TestOpenPostgreSQL(t *testing.T) {
	t.Parallel()
	base := envtest.PostgreSQL(t)
	refused := func(t *testing.T, url, because string) {
		t.Helper()
		d, err := sqlstore.Open(t.Context(), sqlstore.Config{URL: url})
		if err == nil {
			t.Fatal("opened", d.Close())
		}
		text := err.Error()
		if !strings.Contains(text, because) || strings.Contains(text, "\n") {
			t.Errorf("got %q, want %q", text, because)
		}
		for _, part := range []string{"hidden", "ss/word", "ss%2Fword"} {
			if strings.Contains(text, part) {
				t.Errorf("%q has the password", text)
			}
		}
	}
	for name, c := range map[string]struct{ url, because string }{
		"wrong password": {with(t, base, func(u *url.URL) { u.User = url.UserPassword("drover", "hidden") }), `password authentication failed for user "drover"`},
		"wrong database": {with(t, base, func(u *url.URL) { u.Path = "/nothing" }), `database "nothing" does not exist`},
		"nobody there":   {"postgres://u:hidden@127.0.0.1:1/x", "connection refused"},
		"no such host":   {"postgres://u:hidden@nowhere.invalid/x", "nowhere.invalid"},
		"no such socket": {with(t, base, func(u *url.URL) { u.RawQuery = "host=/nowhere" }), "no such file or directory"},
		"bad mode":       {"postgres://u:hidden@h/x?sslmode=perhaps", "sslmode"},
		"at in password": {"postgres://u:hid@den/hidden@h/x", "percent-encoded"},
		"hash":           {"postgres://u:x#hidden@h/x", "percent-encoded"},
		"question mark":  {"postgres://u:1?hidden@h/x", "percent-encoded"},
		"slash":          {"postgres://u:hidden/x@h/x", "percent-encoded"},
		"no host":        {"postgres:///x", "percent-encoded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refused(t, c.url, c.because)
		})
	}
	t.Run("another program's", func(t *testing.T) {
		t.Parallel()
		url := envtest.PostgreSQL(t)
		execute(t, url, "CREATE TABLE letters (id BIGINT)")
		refused(t, url, "not a database of drover")
	})
	t.Run("of a newer drover", func(t *testing.T) {
		t.Parallel()
		url := envtest.PostgreSQL(t)
		if err := openConfig(t, sqlstore.Config{URL: url}).Close(); err != nil {
			t.Fatal(err)
		}
		execute(t, url, "UPDATE schema_version SET version = 999")
		refused(t, url, "newer drover")
	})
	t.Run("not UTF-8", func(t *testing.T) {
		t.Parallel()
		url := envtest.PostgreSQL(t)
		execute(t, url, "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' LOCALE_PROVIDER libc TEMPLATE template0")
		refused(t, latin(t, url), "must be UTF8")
	})
	t.Run("canceled", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := sqlstore.Open(ctx, sqlstore.Config{URL: base}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

func latin(t *testing.T, base string) string {
	t.Helper()
	return with(t, base, func(u *url.URL) { u.Path = "/latin" })
}

// TestMigrateTogether: of several servers that start on an empty database one makes the tables.
func TestMigrateTogether(t *testing.T) {
	t.Parallel()
	url := envtest.PostgreSQL(t)
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			d, err := sqlstore.Open(t.Context(), sqlstore.Config{URL: url})
			if err == nil {
				err = errors.Join(d.Ping(t.Context()), d.Close())
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// TestOldProgram: a server notices that a newer one has changed the tables, says so once, and goes on, also with the
// statements that its connections have prepared.
func TestOldProgram(t *testing.T) {
	t.Parallel()
	url := envtest.PostgreSQL(t)
	var out bytes.Buffer
	d := openConfig(t, sqlstore.Config{URL: url, Readers: 1, Logger: slog.New(slog.NewTextHandler(&out, nil))})
	defer func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := d.Ping(t.Context()); err != nil || out.Len() > 0 {
		t.Fatalf("%v, %s", err, out.String())
	}
	work := func(thing iot.ThingName) {
		t.Helper()
		if err := d.Update(t.Context(), func(tx store.Tx) error {
			return tx.InsertThings([]*iot.Thing{{Name: thing, Version: 1}})
		}); err != nil {
			t.Fatal(err)
		}
		if err := d.View(t.Context(), func(r store.Reader) error {
			things, err := r.ThingsByName([]iot.ThingName{thing})
			if err == nil && things[thing] == nil {
				t.Errorf("there is no %s", thing)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	work("before")
	for table := range postgresColumns(t, url) {
		execute(t, url, "ALTER TABLE "+table+" ADD COLUMN novelty BIGINT NOT NULL DEFAULT 7")
	}
	execute(t, url, "UPDATE schema_version SET version = 999")
	for _, thing := range []iot.ThingName{"between", "after"} {
		work(thing)
		if err := d.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if strings.Count(out.String(), "newer drover") != 1 {
		t.Errorf("logged %s", out.String())
	}
}

// TestSameTables: both databases have the same tables, with the same columns in the same order.
func TestSameTables(t *testing.T) {
	t.Parallel()
	dir, url := t.TempDir(), envtest.PostgreSQL(t)
	if err := errors.Join(open(t, dir).Close(), openConfig(t, sqlstore.Config{URL: url}).Close()); err != nil {
		t.Fatal(err)
	}
	have, want := postgresColumns(t, url), sqliteColumns(t, filepath.Join(dir, "drover.db"))
	for table, columns := range want {
		if have[table] != columns {
			t.Errorf("%s is\n%s on PostgreSQL, and\n%s on SQLite", table, have[table], columns)
		}
		delete(have, table)
	}
	delete(have, "schema_version")
	for table := range have {
		t.Errorf("%s is only on PostgreSQL", table)
	}
	if len(want) < 30 {
		t.Errorf("%d tables", len(want))
	}
}

func sqliteColumns(t *testing.T, path string) map[string]string {
	t.Helper()
	c, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	columns := make(map[string]string)
	err = sqlitex.Execute(c, `SELECT m.name, c.name, c.type, c.pk > 0 FROM sqlite_schema m JOIN pragma_table_info(m.name) c
		WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' ORDER BY m.name, c.cid`, &sqlitex.ExecOptions{
		ResultFunc: func(s *sqlite.Stmt) error {
			columns[s.ColumnText(0)] += fmt.Sprintf("\t%s %s key=%t\n", s.ColumnText(1), s.ColumnText(2), s.ColumnBool(3))
			return nil
		},
	})
	if err := errors.Join(err, c.Close()); err != nil {
		t.Fatal(err)
	}
	return columns
}

func postgresColumns(t *testing.T, url string) map[string]string {
	t.Helper()
	c, err := pgconn.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	types := map[string]string{"bigint": "INTEGER", "text C": "TEXT", "bytea": "BLOB"}
	columns := make(map[string]string)
	results, err := c.Exec(t.Context(), `SELECT c.table_name, c.column_name, c.data_type || CASE WHEN c.collation_name IS NULL THEN '' ELSE ' ' || c.collation_name END,
			EXISTS (SELECT 1 FROM information_schema.table_constraints p JOIN information_schema.key_column_usage k ON k.constraint_name = p.constraint_name
				AND k.constraint_schema = p.constraint_schema
				WHERE p.constraint_type = 'PRIMARY KEY' AND k.table_name = c.table_name AND k.column_name = c.column_name), c.is_nullable
		FROM information_schema.columns c WHERE c.table_schema = current_schema() ORDER BY c.table_name, c.ordinal_position`).ReadAll()
	if err := errors.Join(err, c.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	for _, r := range results[0].Rows {
		if string(r[4]) != "NO" {
			t.Errorf("%s.%s can be NULL", r[0], r[1])
		}
		columns[string(r[0])] += fmt.Sprintf("\t%s %s key=%t\n", r[1], types[string(r[2])], string(r[3]) == "t")
	}
	return columns
}
