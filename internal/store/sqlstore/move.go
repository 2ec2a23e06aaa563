package sqlstore

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"zombiezen.com/go/sqlite"

	"drover/internal/store"
)

// About how much is moved in one transaction.
const (
	moveRows  = 100 // at first
	moveBytes = 4 << 20
)

// moving is a setting of a database that is being filled by Move; no server opens it.
const moving = "moving"

// Move copies all data of a database, which no server may be working with, into one that is empty.
// It reads both again at the end, and fails if they are not the same. report is told how many
// rows each table has, when it has been copied.
//
// A SQLite file appears when it is complete. A PostgreSQL database that was left half filled is
// refused by Open and by Move, until it is emptied.
func Move(ctx context.Context, from, to Config, report func(table string, rows int)) (err error) {
	tables, err := describe()
	if err != nil {
		return err
	}
	if from.Path != "" {
		if _, err := os.Stat(from.Path); err != nil { // or it would be made
			return err
		}
	}
	from.moving, to.moving = true, true
	src, err := Open(ctx, from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()

	path := to.Path
	if path != "" {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return cmp.Or(err, fmt.Errorf("%s is there already", path))
		}
		to.Path += ".moving"
		to.Volatile = true // it is flushed at the end
		defer func() {
			for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
				if e := os.Remove(to.Path + suffix); e != nil && !errors.Is(e, fs.ErrNotExist) {
					err = errors.Join(err, e)
				}
			}
		}()
	}
	dst, err := Open(ctx, to)
	if err != nil {
		return err
	}
	if err := errors.Join(move(ctx, src, dst, tables, report), dst.Close()); err != nil {
		return err
	}
	if path == "" {
		return nil
	}
	if err := syncFile(to.Path); err != nil {
		return err
	}
	return os.Rename(to.Path, path)
}

func move(ctx context.Context, src, dst *DB, tables []table, report func(string, int)) error {
	for _, t := range tables {
		if rows, err := t.page(ctx, dst, nil, 1); err != nil {
			return err
		} else if len(rows) > 0 {
			return fmt.Errorf("the database to fill is not empty: there is something in the table %s", t.name)
		}
	}
	err := dst.update(ctx, func(t *tx) error {
		_, err := t.exec(`INSERT INTO settings (name, value) VALUES ($1, $2)`, moving, "")
		return err
	})
	if err != nil {
		return err
	}
	for _, t := range tables {
		n, err := t.copy(ctx, src, dst)
		if err != nil {
			return fmt.Errorf("table %s: %w", t.name, err)
		}
		report(t.name, n)
	}
	for _, t := range tables {
		want, err := t.digest(ctx, src)
		if err != nil {
			return err
		}
		if got, err := t.digest(ctx, dst); err != nil {
			return err
		} else if got != want {
			return fmt.Errorf("table %s: the copy is not the original; does a server work with one of the databases?", t.name)
		}
	}
	// What former nodes have not published is published by the next one.
	var sequence int64
	var nodes []store.Node
	err = src.View(ctx, func(r store.Reader) (err error) {
		c := r.(reader).c
		if sequence, err = c.number(`SELECT value FROM counters WHERE name = 'sequence'`); err != nil {
			return err
		}
		nodes, err = r.Nodes()
		return err
	})
	if err != nil {
		return err
	}
	return dst.update(ctx, func(t *tx) error {
		t.state.sequence = max(t.state.sequence, sequence)
		for _, n := range nodes {
			t.state.sequence = max(t.state.sequence, n.ID)
			if _, err := t.exec(addDead, n.ID, n.Name, n.ID, n.Published); err != nil {
				return err
			}
		}
		_, err := t.exec(`DELETE FROM settings WHERE name = $1`, moving)
		return err
	})
}

const addDead = `INSERT INTO nodes (id, name, owner, lease_until, since, published) VALUES ($1, $2, $3, 0, 0, $4)
	ON CONFLICT (id) DO UPDATE SET published = excluded.published`

// update is Update for who knows what a transaction is here.
func (d *DB) update(ctx context.Context, f func(*tx) error) error {
	return d.Update(ctx, func(w store.Tx) error { return f(w.(*tx)) })
}

// unmoved returns an error for a database that was left half filled.
func unmoved(r store.Reader) error {
	n, err := r.(reader).c.number(`SELECT count(*) FROM settings WHERE name = $1`, moving)
	if err == nil && n > 0 {
		err = errors.New("moving data into this database was interrupted: empty it, and start again")
	}
	return err
}

// table is one with data of users.
type table struct {
	name    string
	columns []field
	key     []int // of columns: unique, and what rows are in order of
}

type field struct{ name, kind string }

// describe returns the tables as they are in this version, by making an empty database.
func describe() (_ []table, err error) {
	c, err := sqlite.OpenConn(":memory:", sqlite.OpenReadWrite)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := migrate(c); err != nil {
		return nil, err
	}
	conn := &conn{newConn(c)}
	var tables []table
	for _, name := range cleared {
		t := table{name: name}
		order := map[int64]int{}
		err := conn.list(`SELECT name, type, pk FROM pragma_table_info($1) ORDER BY cid`, func(r *row) error {
			t.columns = append(t.columns, field{r.text(), r.text()})
			if n := r.int(); n > 0 {
				order[n] = len(t.columns) - 1
			}
			return nil
		}, name)
		if err != nil {
			return nil, err
		}
		for i := range int64(len(order)) {
			t.key = append(t.key, order[i+1])
		}
		if len(t.key) == 0 {
			// The first index over a unique column.
			err := conn.list(`SELECT i.name FROM pragma_index_list($1) l, pragma_index_info(l.name) i WHERE l."unique" = 1 AND l.partial = 0 ORDER BY l.seq, i.seqno LIMIT 1`, func(r *row) error {
				key := r.text()
				t.key = append(t.key, slices.IndexFunc(t.columns, func(c field) bool { return c.name == key }))
				return nil
			}, name)
			if err != nil {
				return nil, err
			}
		}
		if len(t.key) == 0 {
			return nil, fmt.Errorf("sqlstore: table %s has no key", name)
		}
		tables = append(tables, t)
	}
	return tables, nil
}

// value is that of one column: text is also bytes.
type value struct {
	number int64
	text   string
}

func (t *table) bind(a *args, column int, v value) {
	switch t.columns[column].kind {
	case "INTEGER":
		a.int(v.number)
	case "BLOB":
		a.blob([]byte(v.text))
	default:
		a.text(v.text)
	}
}

func (t *table) names(columns []int) string {
	var names []string
	for _, i := range columns {
		names = append(names, t.columns[i].name)
	}
	return strings.Join(names, ", ")
}

// page reads the next rows after one, nil for the first.
func (t *table) page(ctx context.Context, d *DB, after []value, limit int) (rows [][]value, err error) {
	var all, params []string
	for i, c := range t.columns {
		all = append(all, c.name)
		if after != nil && i < len(t.key) {
			params = append(params, fmt.Sprintf("$%d", i+1))
		}
	}
	query := "SELECT " + strings.Join(all, ", ") + " FROM " + t.name
	if after != nil {
		query += " WHERE (" + t.names(t.key) + ") > (" + strings.Join(params, ", ") + ")"
	}
	query += " ORDER BY " + t.names(t.key) + fmt.Sprintf(" LIMIT $%d", len(params)+1)
	bind := func(_ int, a *args) {
		if after != nil {
			for _, i := range t.key {
				t.bind(a, i, after[i])
			}
		}
		a.int(int64(limit))
	}
	err = d.View(ctx, func(r store.Reader) error {
		rows = nil
		return r.(reader).c.read(query, 1, bind, func(_ int, r *row) error {
			values := make([]value, len(t.columns))
			for i, c := range t.columns {
				switch c.kind {
				case "INTEGER":
					values[i].number = r.int()
				case "BLOB":
					values[i].text = r.blob()
				default:
					values[i].text = r.text()
				}
			}
			rows = append(rows, values)
			return nil
		})
	})
	return rows, err
}

// each gives all rows to f, some at a time, in the order of the key.
func (t *table) each(ctx context.Context, d *DB, f func(rows [][]value) error) error {
	var after []value
	for limit := moveRows; ; {
		rows, err := t.page(ctx, d, after, limit)
		if err != nil {
			return err
		}
		more := len(rows) == limit
		if more {
			after = rows[len(rows)-1]
			size := 1
			for _, row := range rows {
				for _, v := range row {
					size += 8 + len(v.text)
				}
			}
			limit = min(max(limit*moveBytes/size, 10), 2*limit)
		}
		if t.name == "settings" {
			rows = slices.DeleteFunc(rows, func(r []value) bool { return r[t.key[0]].text == moving })
		}
		if err := f(rows); err != nil || !more {
			return err
		}
	}
}

func (t *table) copy(ctx context.Context, src, dst *DB) (n int, err error) {
	var all, params []string
	for i, c := range t.columns {
		all, params = append(all, c.name), append(params, fmt.Sprintf("$%d", i+1))
	}
	insert := "INSERT INTO " + t.name + " (" + strings.Join(all, ", ") + ") VALUES (" + strings.Join(params, ", ") + ")"
	err = t.each(ctx, src, func(rows [][]value) error {
		n += len(rows)
		return dst.update(ctx, func(w *tx) error {
			return w.insert(insert, len(rows), func(i int, a *args) {
				for c, v := range rows[i] {
					t.bind(a, c, v)
				}
			})
		})
	})
	return n, err
}

// digest is the SHA-256 of all rows, in order.
func (t *table) digest(ctx context.Context, d *DB) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	var b []byte
	err = t.each(ctx, d, func(rows [][]value) error {
		for _, r := range rows {
			b = b[:0]
			for _, v := range r {
				b = binary.AppendVarint(b, v.number)
				b = binary.AppendUvarint(b, uint64(len(v.text)))
				b = append(b, v.text...)
			}
			h.Write(b) // never fails
		}
		return nil
	})
	copy(sum[:], h.Sum(nil))
	return sum, err
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
