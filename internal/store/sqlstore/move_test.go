package sqlstore_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"drover/internal/iot"
	"drover/internal/store"
	"drover/internal/store/sqlstore"
)

// filled makes a database with more rows than are moved at once, of every type, with names in all
// the orders there are, and with numbers and positions that have come apart.
func filled(t *testing.T) (path string, tables map[string]int) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "drover.db")
	d := openConfig(t, sqlstore.Config{Path: path, Volatile: true})
	var things []*iot.Thing
	for i := range 2500 {
		things = append(things, &iot.Thing{Name: iot.ThingName(fmt.Sprintf("%c%d", "aAzZ_-"[i%6], i)), Version: 1, Attributes: map[string]string{"ü": "☃"}})
	}
	err := d.Update(t.Context(), func(w store.Tx) error {
		if _, err := w.Sequence(10_000); err != nil {
			return err
		}
		if err := w.InsertThings(things); err != nil {
			return err
		}
		for range 12_000 {
			if err := w.Append(iot.Record{Kind: iot.ThingCreated, Actor: "drover"}); err != nil {
				return err
			}
		}
		return w.SetPublished(store.FirstNode, 3)
	})
	if err = errors.Join(err, d.Close()); err != nil {
		t.Fatal(err)
	}
	text := `
		INSERT INTO mqtt_retained VALUES ('b', x'00ff00', 1, 0, '', 1), ('B', x'', 0, 0, '', 2), ('Ä', zeroblob(131072), 1, 9223372036854775807, '{}', 3);
		INSERT INTO members (group_id, thing_name, thing_id, seq) VALUES (1, 'b', 1, 1), (1, 'B', 2, 2), (2, '_', 3, 3), (1, 'a:b', 4, 4);
		INSERT INTO queues VALUES (7, x'000102'), (-3, x'ff');
		INSERT INTO tags VALUES ('arn', 'k', ''), ('arn', 'K', 'x');
		INSERT INTO policy_targets VALUES ('cert', 'x', 2), ('cert', 'x', 1), ('thinggroup', 'x', 1);`
	for i := range 40 { // more than fits in one transaction
		text += fmt.Sprintf("INSERT INTO mqtt_messages VALUES (%d, 't', randomblob(131072), 1, 0, 0, '');", i)
	}
	script(t, path, text)
	return path, map[string]int{"things": 2500, "journal": 12_000, "mqtt_retained": 3, "members": 4, "queues": 2, "tags": 2, "policy_targets": 3, "mqtt_messages": 40}
}

// script runs a script on the file of a database that nobody has open.
func script(t *testing.T, path, text string) {
	t.Helper()
	c, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(sqlitex.ExecuteScript(c, text, nil), c.Close()); err != nil {
		t.Fatal(err)
	}
}

// contents is all that is in the tables of a file.
func contents(t *testing.T, path string) map[string]string {
	t.Helper()
	c, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	found, names := map[string]string{}, []string{}
	var rows strings.Builder
	collect := &sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error { names = append(names, s.ColumnText(0)); return nil }}
	err = sqlitex.ExecuteTransient(c, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'", collect)
	for _, name := range names {
		all := &sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error {
			for i := range s.ColumnCount() {
				_, _ = fmt.Fprintf(&rows, "%s %d %s, ", s.ColumnType(i), s.ColumnLen(i), s.ColumnText(i)) // never fails
			}
			return nil
		}}
		rows.Reset()
		err = errors.Join(err, sqlitex.ExecuteTransient(c, "SELECT * FROM "+name+" ORDER BY 1, 2", all))
		found[name] = rows.String()
	}
	if err := errors.Join(err, c.Close()); err != nil {
		t.Fatal(err)
	}
	return found
}

// From SQLite to PostgreSQL and back nothing changes, and work goes on where it was.
func TestMove(t *testing.T) {
	t.Parallel()
	ctx, schemas := t.Context(), newSchemas(t)
	first, want := filled(t)
	url := schemas.url(t, "there")
	there, back := map[string]int{}, map[string]int{}
	collect := func(to map[string]int) func(string, int) {
		return func(table string, n int) {
			if n > 0 {
				to[table] = n
			}
		}
	}
	if err := sqlstore.Move(ctx, sqlstore.Config{Path: first}, sqlstore.Config{URL: url}, collect(there)); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(there) != fmt.Sprint(want) {
		t.Errorf("moved %v, want %v", there, want)
	}
	second := filepath.Join(t.TempDir(), "second.db")
	if err := sqlstore.Move(ctx, sqlstore.Config{URL: url}, sqlstore.Config{Path: second}, collect(back)); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(back) != fmt.Sprint(want) {
		t.Errorf("moved back %v, want %v", back, want)
	}
	if entries, err := os.ReadDir(filepath.Dir(second)); err != nil || len(entries) != 1 {
		t.Errorf("beside the database there is %v %v", entries, err)
	}
	before, after := contents(t, first), contents(t, second)
	for name := range before {
		if name != "counters" && name != "nodes" && before[name] != after[name] {
			t.Errorf("%s is not what it was", name)
		}
	}
	for what, cfg := range map[string]sqlstore.Config{"PostgreSQL": {URL: url}, "SQLite": {Path: second}} {
		d := openConfig(t, cfg)
		err := d.Update(ctx, func(w store.Tx) error {
			n, err := w.Sequence(1)
			if n <= 12_000 {
				t.Errorf("%s: the next number is %d", what, n)
			}
			return errors.Join(err, w.Append(iot.Record{Kind: iot.ThingCreated}))
		})
		if err := errors.Join(err, d.View(ctx, func(r store.Reader) error {
			published, err := r.Published(store.FirstNode)
			records, e := r.Records(0, 11_999, 10)
			if published != 3 || len(records) != 2 || records[1].ID <= 12_000 {
				t.Errorf("%s: published up to %d, last records %v", what, published, records)
			}
			return errors.Join(err, e)
		}), d.Close()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestMoveRefuses(t *testing.T) {
	t.Parallel()
	ctx, schemas := t.Context(), newSchemas(t)
	none := func(string, int) {}
	from, _ := filled(t)
	t.Run("a database with something in it", func(t *testing.T) {
		full := schemas.url(t, "full")
		d := openConfig(t, sqlstore.Config{URL: full})
		err := d.Update(ctx, func(w store.Tx) error { return w.InsertThings([]*iot.Thing{{Name: "mine", Version: 1}}) })
		if err := errors.Join(err, d.Close()); err != nil {
			t.Fatal(err)
		}
		for what, to := range map[string]sqlstore.Config{"table things": {URL: full}, "is there already": {Path: from}} {
			if err := sqlstore.Move(ctx, sqlstore.Config{Path: from}, to, none); err == nil || !strings.Contains(err.Error(), what) {
				t.Errorf("%v, want %q", err, what)
			}
		}
	})
	t.Run("what is not there", func(t *testing.T) {
		dir := t.TempDir()
		if err := sqlstore.Move(ctx, sqlstore.Config{Path: filepath.Join(dir, "a")}, sqlstore.Config{Path: filepath.Join(dir, "b")}, none); !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
			t.Errorf("made %v %v", entries, err)
		}
	})
	t.Run("a server works with it", func(t *testing.T) {
		d := open(t, filepath.Dir(from))
		if err := sqlstore.Move(ctx, sqlstore.Config{Path: from}, sqlstore.Config{URL: schemas.url(t, "busy")}, none); err == nil || !strings.Contains(err.Error(), "in use by another server") {
			t.Error(err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("half of it, later", func(t *testing.T) {
		broken, url, path := filepath.Join(t.TempDir(), "broken.db"), schemas.url(t, "half"), filepath.Join(t.TempDir(), "half.db")
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(broken, text, 0o600); err != nil {
			t.Fatal(err)
		}
		// Text that is none: PostgreSQL does not take it.
		script(t, broken, `INSERT INTO tags VALUES ('x', CAST(x'ff' AS TEXT), '')`)
		if err := sqlstore.Move(ctx, sqlstore.Config{Path: broken}, sqlstore.Config{URL: url}, none); err == nil || !strings.Contains(err.Error(), "table tags") {
			t.Error(err)
		}
		if d, err := sqlstore.Open(ctx, sqlstore.Config{URL: url}); err == nil || !strings.Contains(err.Error(), "interrupted") {
			t.Errorf("opened: %v", err)
			_ = d.Close()
		}
		if err := sqlstore.Move(ctx, sqlstore.Config{Path: from}, sqlstore.Config{URL: url}, none); err == nil || !strings.Contains(err.Error(), "interrupted") {
			t.Error(err)
		}
		script(t, broken, `DELETE FROM tags; PRAGMA writable_schema = 1; UPDATE sqlite_schema SET rootpage = 999999 WHERE name = 'mqtt_messages'`)
		if err := sqlstore.Move(ctx, sqlstore.Config{Path: broken}, sqlstore.Config{Path: path}, none); err == nil {
			t.Error("a broken database was moved")
		}
		if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) > 0 {
			t.Errorf("left %v %v", entries, err)
		}
	})
}
