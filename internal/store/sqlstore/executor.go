package sqlstore

import (
	"errors"
	"fmt"
	"strings"

	"zombiezen.com/go/sqlite"

	"drover/internal/iot"
	"drover/internal/store"
)

// conn is what stands between the queries and a database driver: it prepares each query
// once, runs it for a list of arguments, and reads the columns of rows in order. Queries
// are written with $1, $2, … in the order of their first use.
type conn struct {
	driver   *sqlite.Conn
	prepared map[string]*prepared
	many     map[string]string // by the insertion of one row, that of many
}

type prepared struct {
	stmt *sqlite.Stmt
	busy bool
}

// args binds the arguments of a query, one after the other.
type args struct {
	stmt *sqlite.Stmt
	n    int
}

func (a *args) int(v int64) {
	a.n++
	a.stmt.BindInt64(a.n, v)
}

func (a *args) time(v iot.Time) { a.int(int64(v)) }

func (a *args) bool(v bool) {
	a.n++
	a.stmt.BindBool(a.n, v)
}

func (a *args) text(v string) {
	a.n++
	a.stmt.BindText(a.n, v)
}

func (a *args) blob(v []byte) {
	a.n++
	a.stmt.BindBytes(a.n, v)
}

// row reads the columns of a row, one after the other.
type row struct {
	stmt *sqlite.Stmt
	col  int
}

func (r *row) int() int64 {
	r.col++
	return r.stmt.ColumnInt64(r.col - 1)
}

func (r *row) time() iot.Time { return iot.Time(r.int()) }

func (r *row) bool() bool { return r.int() != 0 }

func (r *row) text() string {
	r.col++
	return r.stmt.ColumnText(r.col - 1)
}

// blob returns bytes as a string, "" for NULL: what is decoded from it can share it.
func (r *row) blob() string {
	r.col++
	// ColumnText would make SQLite convert, and so copy, the bytes first.
	rd := r.stmt.ColumnReader(r.col - 1)
	var b strings.Builder
	b.Grow(rd.Len())
	_, _ = rd.WriteTo(&b) // from memory to memory: cannot fail
	return b.String()
}

// errStop ends reading a list early, without an error.
var errStop = errors.New("stop")

// prepare returns the query ready to be bound, and the function that gives it back.
func (c *conn) prepare(query string) (*sqlite.Stmt, func(), error) {
	p := c.prepared[query]
	if p == nil {
		stmt, err := c.driver.Prepare(query)
		if err != nil {
			return nil, nil, failed(query, err)
		}
		// To SQLite $1 is a name, and numbers are given in the order of appearance.
		for i := range stmt.BindParamCount() {
			if stmt.BindParamName(i+1) != fmt.Sprintf("$%d", i+1) {
				panic("sqlstore: parameters out of order: " + query)
			}
		}
		p = &prepared{stmt: stmt}
		c.prepared[query] = p
	}
	if p.busy {
		panic("sqlstore: query started again while its rows are read: " + query)
	}
	p.busy = true
	return p.stmt, func() { p.busy = false }, nil
}

// insert stores n rows. The query is that of one row: VALUES with its parameters in
// order, and perhaps an ON CONFLICT clause behind.
func (c *conn) insert(query string, n int, bind func(i int, a *args)) error {
	many := n / rowsAtOnce
	err := c.write(c.manyRows(query), many, func(i int, a *args) {
		for j := range rowsAtOnce {
			bind(i*rowsAtOnce+j, a)
		}
	}, nil)
	if err != nil {
		return err
	}
	done := many * rowsAtOnce
	return c.write(query, n-done, func(i int, a *args) { bind(done+i, a) }, nil)
}

// write runs a statement n times, each time with the arguments that bind binds. After
// each, affected is told how many rows changed; it may be nil.
func (c *conn) write(query string, n int, bind func(i int, a *args), affected func(i, rows int)) error {
	if n == 0 {
		return nil
	}
	stmt, done, err := c.prepare(query)
	if err != nil {
		return err
	}
	defer done()
	for i := range n {
		bind(i, &args{stmt: stmt})
		_, err := stmt.Step()
		if err == nil {
			err = stmt.Reset()
		}
		if err != nil {
			return failed(query, err)
		}
		if affected != nil {
			affected(i, c.driver.Changes())
		}
	}
	return nil
}

// read runs a query n times, each time with the arguments that bind binds, and gives
// every row to scan. errStop from scan ends the i-th run only.
func (c *conn) read(query string, n int, bind func(i int, a *args), scan func(i int, r *row) error) error {
	if n == 0 {
		return nil
	}
	stmt, done, err := c.prepare(query)
	if err != nil {
		return err
	}
	defer done()
	for i := range n {
		bind(i, &args{stmt: stmt})
		for {
			more, err := stmt.Step()
			if err != nil {
				return failed(query, err)
			}
			if !more {
				break
			}
			if err := scan(i, &row{stmt: stmt}); err == errStop {
				break
			} else if err != nil {
				return errors.Join(err, stmt.Reset())
			}
		}
		if err := stmt.Reset(); err != nil {
			return failed(query, err)
		}
	}
	return nil
}

// exec runs a statement once and returns how many rows changed.
func (c *conn) exec(query string, values ...any) (int, error) {
	rows := 0
	err := c.write(query, 1, bindAll(values), func(_, n int) { rows = n })
	return rows, err
}

// list runs a query once and gives every row to scan, until it returns errStop.
func (c *conn) list(query string, scan func(r *row) error, values ...any) error {
	return c.read(query, 1, bindAll(values), func(_ int, r *row) error { return scan(r) })
}

// one reads the first row of a query. store.ErrNotFound if there is none.
func (c *conn) one(query string, scan func(r *row) error, values ...any) error {
	found := false
	err := c.list(query, func(r *row) error {
		found = true
		if err := scan(r); err != nil {
			return err
		}
		return errStop
	}, values...)
	if err == nil && !found {
		return store.ErrNotFound
	}
	return err
}

// number reads one number, zero if the query finds no row.
func (c *conn) number(query string, values ...any) (int64, error) {
	var n int64
	err := c.list(query, func(r *row) error {
		n = r.int()
		return errStop
	}, values...)
	return n, err
}

func bindAll(values []any) func(int, *args) {
	return func(_ int, a *args) {
		for _, v := range values {
			switch v := v.(type) {
			case int64:
				a.int(v)
			case int:
				a.int(int64(v))
			case iot.Time:
				a.time(v)
			case bool:
				a.bool(v)
			case string:
				a.text(v)
			default:
				panic(fmt.Sprintf("sqlstore: cannot bind a %T", v))
			}
		}
	}
}

// failed says which query an error of the driver is about.
func failed(query string, err error) error {
	if taken(err) {
		return fmt.Errorf("%w: %w", store.ErrExists, err)
	}
	return fmt.Errorf("sqlstore: %w, in %q", err, query)
}
