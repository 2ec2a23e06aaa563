package sqlstore

import (
	"errors"
	"fmt"
	"strings"

	"zombiezen.com/go/sqlite"

	"drover/internal/iot"
	"drover/internal/store"
)

// conn is what stands between the queries and a database: it runs each query for a list of
// arguments, and reads the columns of rows in order. Queries are written with $1, $2, … in
// the order of their first use, in SQL that both databases take; how many of them are run is
// the driver's.
type conn struct{ driver }

// driver is a connection to a database. It prepares each query once. A query is run for n
// lists of arguments, each of which is bound by a call of bind.
type driver interface {
	// read gives every row to scan. The rows of one run come in their order, those of different
	// runs in any. errStop from scan ends the i-th run only. scan does not use the connection.
	read(query string, n int, bind func(i int, a *args), scan func(i int, r *row) error) error
	// once is read for a query that is not likely to come again, and is not kept prepared.
	once(query string, bind func(i int, a *args), scan func(i int, r *row) error) error
	// write runs a statement n times, one after the other. affected is told how many rows each
	// has changed; it may be nil.
	write(query string, n int, bind func(i int, a *args), affected func(i, rows int)) error
	// bulk is write for runs of which no two touch the same row, in any order. It returns how
	// many rows they have changed together.
	bulk(query string, n int, bind func(i int, a *args)) (rows int, err error)
	// later is bulk that may be put off until something else is run, or commit, which then find
	// its error.
	later(query string, n int, bind func(i int, a *args)) error
	// insert is later for the insertion of one row: VALUES with its parameters in order, and
	// perhaps an ON CONFLICT clause behind.
	insert(query string, n int, bind func(i int, a *args)) error
	// flush carries out what has been put off.
	flush() error

	// begin starts the one transaction that writes, when no other does, and brings s up to date
	// if another process may have changed what it says. store.ErrFenced.
	begin(s *state) error
	// beginRead starts a transaction on a snapshot.
	beginRead() error
	// commit ends what begin has started, and saves after, which was before when it began.
	// store.ErrUnknown if nobody can tell whether it has.
	commit(before, after state) error
	// rollback ends a transaction that has not ended yet.
	rollback() error
	// again reports whether the transaction that has just failed has left no trace, and may
	// succeed if it is carried out once more.
	again() bool
	// committed finds out whether the last transaction was, of which commit could not tell.
	committed() (bool, error)
	// now is the clock of the database in SQL, in milliseconds.
	now() string
	// ping reports whether the database answers, in a transaction.
	ping() error
	close() error
}

// args binds the arguments of a query, one after the other.
type args struct {
	stmt *sqlite.Stmt
	n    int
	list *parameters // instead of stmt, on PostgreSQL
}

func (a *args) int(v int64) {
	a.n++
	if a.stmt == nil {
		a.list.int(a.n, v)
		return
	}
	a.stmt.BindInt64(a.n, v)
}

func (a *args) time(v iot.Time) { a.int(int64(v)) }

// bool binds 0 or 1: columns are numbers.
func (a *args) bool(v bool) {
	n := int64(0)
	if v {
		n = 1
	}
	a.int(n)
}

func (a *args) text(v string) {
	a.n++
	if a.stmt == nil {
		a.list.text(a.n, v)
		return
	}
	a.stmt.BindText(a.n, v)
}

func (a *args) blob(v []byte) {
	a.n++
	if a.stmt == nil {
		a.list.blob(a.n, v)
		return
	}
	a.stmt.BindBytes(a.n, v)
}

// row reads the columns of a row, one after the other.
type row struct {
	stmt   *sqlite.Stmt
	col    int
	values [][]byte // instead of stmt, on PostgreSQL
}

func (r *row) int() int64 {
	r.col++
	if r.stmt == nil {
		return number(r.values[r.col-1])
	}
	return r.stmt.ColumnInt64(r.col - 1)
}

func (r *row) time() iot.Time { return iot.Time(r.int()) }

func (r *row) bool() bool { return r.int() != 0 }

func (r *row) text() string {
	r.col++
	if r.stmt == nil {
		return string(r.values[r.col-1])
	}
	return r.stmt.ColumnText(r.col - 1)
}

// blob returns bytes as a string, "" for NULL: what is decoded from it can share it.
func (r *row) blob() string {
	r.col++
	if r.stmt == nil {
		return string(r.values[r.col-1])
	}
	// ColumnText would make SQLite convert, and so copy, the bytes first.
	rd := r.stmt.ColumnReader(r.col - 1)
	var b strings.Builder
	b.Grow(rd.Len())
	_, _ = rd.WriteTo(&b) // from memory to memory: cannot fail
	return b.String()
}

// errStop ends reading a list early, without an error.
var errStop = errors.New("stop")

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

// search is list for a query that was made for this one time.
func (c *conn) search(query string, values []any, scan func(r *row) error) error {
	return c.once(query, bindAll(values), func(_ int, r *row) error { return scan(r) })
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
