package sqlstore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"zombiezen.com/go/sqlite"

	"drover/internal/store"
)

// This file holds what is SQLite's own: how a file is opened and locked, how a
// transaction begins, which errors mean what, and the form of bulk statements. Those are
// loops over a prepared statement: SQLite runs in this process.

const (
	// Operations of devices touch rows all over the tables: with the smaller page they
	// write a quarter less than with SQLite's 4096; below, the trees get deep.
	pageSize = 2048
	// How far the log grows before its pages are moved into the database. A page that
	// changed many times is moved once: a third more operations than with SQLite's 4 MB.
	walBytes = 64 << 20
)

// taken reports whether err says that a unique key exists already.
func taken(err error) bool {
	code := sqlite.ErrCode(err)
	return code == sqlite.ResultConstraintUnique || code == sqlite.ResultConstraintPrimaryKey
}

// createFile makes sure that the file exists, and only its owner may read it: there are
// job documents in it. SQLite gives its other files the same mode. An existing file is
// not opened: closing it would drop the locks that this process has on it.
func createFile(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// lockFolder takes the lock that keeps a second server away from the database: an
// exclusive transaction, for as long as the connection is open, on an empty database
// beside it. The operating system releases it if the process dies.
func lockFolder(path string) (_ *sqlite.Conn, err error) {
	name := path + ".lock"
	if err := createFile(name); err != nil {
		return nil, err
	}
	c, err := sqlite.OpenConn(name, sqlite.OpenReadWrite)
	if err != nil {
		return nil, err
	}
	c.SetBusyTimeout(0)
	if err = pragma(c, "PRAGMA journal_mode = MEMORY"); err == nil { // or there is one file more
		err = pragma(c, "BEGIN EXCLUSIVE")
	}
	switch {
	case err == nil:
		return c, nil
	case sqlite.ErrCode(err).ToPrimary() == sqlite.ResultBusy:
		err = fmt.Errorf("%s is in use by another server", filepath.Dir(path))
	}
	return nil, errors.Join(err, c.Close())
}

// Lock keeps other servers away from the folder that path is in, as a database of that path
// does, until it is closed or the process ends. It fails if another server has the lock.
func Lock(path string) (io.Closer, error) {
	c, err := lockFolder(path)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// openWriter opens the one connection that writes.
func openWriter(path string, cacheBytes int, volatile bool) (*sqliteConn, error) {
	c, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		return nil, err
	}
	synchronous := "synchronous = FULL" // a commit is on the disk, not on its way
	if volatile {
		synchronous = "synchronous = OFF"
	}
	err = pragmas(c,
		fmt.Sprintf("page_size = %d", pageSize), // of a new database
		"journal_mode = WAL",                    // readers do not wait for the writer, nor it for them
		synchronous,
		fmt.Sprintf("wal_autocheckpoint = %d", walBytes/pageSize),
		fmt.Sprintf("cache_size = -%d", cacheBytes/1024),
		"temp_store = MEMORY",
	)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return newConn(c), nil
}

// openReader opens a connection that only reads.
func openReader(path string, cacheBytes int) (*sqliteConn, error) {
	c, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		return nil, err
	}
	err = pragmas(c,
		"query_only = ON",
		fmt.Sprintf("cache_size = -%d", cacheBytes/1024),
		"temp_store = MEMORY",
	)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return newConn(c), nil
}

// sqliteConn is a connection to a SQLite database.
type sqliteConn struct {
	driver   *sqlite.Conn
	prepared map[string]*prepared
	many     map[string]string // by the insertion of one row, that of many
}

type prepared struct {
	stmt *sqlite.Stmt
	busy bool
}

func newConn(c *sqlite.Conn) *sqliteConn {
	return &sqliteConn{driver: c, prepared: make(map[string]*prepared), many: make(map[string]string)}
}

func pragmas(c *sqlite.Conn, settings ...string) error {
	for _, s := range settings {
		if err := pragma(c, "PRAGMA "+s); err != nil {
			return err
		}
	}
	return nil
}

// pragma runs one statement that has neither arguments nor a result worth reading.
func pragma(c *sqlite.Conn, query string) (err error) {
	_, err = first(c, query)
	return err
}

// first runs one statement and returns the first column of its first row as a number.
func first(c *sqlite.Conn, query string) (n int64, err error) {
	stmt, _, err := c.PrepareTransient(query)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, stmt.Finalize()) }()
	row, err := stmt.Step()
	if row {
		n = stmt.ColumnInt64(0)
	}
	return n, err
}

// begin takes the write lock first, so that no statement fails for it later. What is known of
// the counters stays true: nobody else writes.
func (c *sqliteConn) begin(*state) error { return c.exec("BEGIN IMMEDIATE") }

func (c *sqliteConn) beginRead() error { return c.exec("BEGIN") }

func (c *sqliteConn) commit(before, after state) error {
	if after.sequence != before.sequence {
		if err := c.write(saveSequence, 1, bindAll([]any{after.sequence}), nil); err != nil {
			return err
		}
	}
	return c.exec("COMMIT")
}

// rollback does nothing where SQLite has ended the transaction by itself, as after some errors,
// such as a full disk.
func (c *sqliteConn) rollback() error {
	if c.driver.AutocommitEnabled() {
		return nil
	}
	return c.exec("ROLLBACK")
}

// again implements driver: nothing fails here that would not again.
func (c *sqliteConn) again() bool { return false }

// committed implements driver: commit can always tell.
func (c *sqliteConn) committed() (bool, error) { return false, nil }

// now implements driver.
func (c *sqliteConn) now() string { return "CAST(unixepoch('subsec') * 1000 AS INTEGER)" }

func (c *sqliteConn) ping() error {
	_, err := first(c.driver, "PRAGMA user_version")
	return err
}

func (c *sqliteConn) close() error { return c.driver.Close() }

// exec runs one statement that has neither arguments nor a result.
func (c *sqliteConn) exec(query string) error { return c.write(query, 1, func(int, *args) {}, nil) }

// rowsAtOnce is how many rows an insertion in bulk takes with one run of its statement.
const rowsAtOnce = 32

// manyRows returns the insertion of rowsAtOnce rows for that of one.
func (c *sqliteConn) manyRows(query string) string {
	if many := c.many[query]; many != "" {
		return many
	}
	head, tail, _ := strings.Cut(query, "VALUES (")
	row, tail, _ := strings.Cut(tail, ")")
	columns := strings.Count(row, "$")
	rows := make([]string, rowsAtOnce)
	for i := range rows {
		params := make([]string, columns)
		for j := range params {
			params[j] = "$" + strconv.Itoa(i*columns+j+1)
		}
		rows[i] = "(" + strings.Join(params, ", ") + ")"
	}
	c.many[query] = head + "VALUES " + strings.Join(rows, ", ") + tail
	return c.many[query]
}

// prepare returns the query ready to be bound, and the function that gives it back.
func (c *sqliteConn) prepare(query string) (*sqlite.Stmt, func(), error) {
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

// bulk implements driver.
func (c *sqliteConn) bulk(query string, n int, bind func(i int, a *args)) (changed int, err error) {
	err = c.write(query, n, bind, func(_, rows int) { changed += rows })
	return changed, err
}

// flush implements driver: nothing is put off here.
func (c *sqliteConn) flush() error { return nil }

// later implements driver.
func (c *sqliteConn) later(query string, n int, bind func(i int, a *args)) error {
	return c.write(query, n, bind, nil)
}

// insert implements driver.
func (c *sqliteConn) insert(query string, n int, bind func(i int, a *args)) error {
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

// write implements driver.
func (c *sqliteConn) write(query string, n int, bind func(i int, a *args), affected func(i, rows int)) error {
	if n == 0 {
		return nil
	}
	stmt, done, err := c.prepare(query)
	if err != nil {
		return err
	}
	defer done()
	a := &args{stmt: stmt}
	for i := range n {
		a.n = 0
		bind(i, a)
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

// read implements driver.
func (c *sqliteConn) read(query string, n int, bind func(i int, a *args), scan func(i int, r *row) error) error {
	if n == 0 {
		return nil
	}
	stmt, done, err := c.prepare(query)
	if err != nil {
		return err
	}
	defer done()
	return rows(stmt, query, n, bind, scan)
}

// once implements driver.
func (c *sqliteConn) once(query string, bind func(i int, a *args), scan func(i int, r *row) error) (err error) {
	stmt, _, err := c.driver.PrepareTransient(query)
	if err != nil {
		return failed(query, err)
	}
	defer func() { err = errors.Join(err, stmt.Finalize()) }()
	return rows(stmt, query, 1, bind, scan)
}

// rows runs a statement n times and gives what it finds to scan.
func rows(stmt *sqlite.Stmt, query string, n int, bind func(i int, a *args), scan func(i int, r *row) error) error {
	a, r := &args{stmt: stmt}, &row{stmt: stmt}
	for i := range n {
		a.n = 0
		bind(i, a)
		for {
			more, err := stmt.Step()
			if err != nil {
				return failed(query, err)
			}
			if !more {
				break
			}
			r.col = 0
			if err := scan(i, r); err == errStop {
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

// failed says which query an error of the driver is about.
func failed(query string, err error) error {
	if taken(err) {
		return fmt.Errorf("%w: %w", store.ErrExists, err)
	}
	return fmt.Errorf("sqlstore: %w, in %q", err, query)
}
