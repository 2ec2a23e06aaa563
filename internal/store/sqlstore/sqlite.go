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
)

// This file holds what is SQLite's own: how a file is opened and locked, how a
// transaction begins, which errors mean what, and the form of bulk statements. Those are
// loops over a prepared statement: SQLite runs in this process. The tables are in
// migrations.

const (
	begin     = "BEGIN IMMEDIATE" // the write lock first, so that no statement fails for it later
	beginRead = "BEGIN"
	commit    = "COMMIT"
	rollback  = "ROLLBACK"
)

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
	if err = run(c, "PRAGMA journal_mode = MEMORY"); err == nil { // or there is one file more
		err = run(c, "BEGIN EXCLUSIVE")
	}
	switch {
	case err == nil:
		return c, nil
	case sqlite.ErrCode(err).ToPrimary() == sqlite.ResultBusy:
		err = fmt.Errorf("%s is in use by another server", filepath.Dir(path))
	}
	return nil, errors.Join(err, c.Close())
}

// Lock keeps other servers away from a folder that is not the database's, by a file in it,
// until it is closed or the process ends. It fails if another server has the lock.
func Lock(folder string) (io.Closer, error) {
	c, err := lockFolder(filepath.Join(folder, "drover"))
	if err != nil {
		return nil, err
	}
	return c, nil
}

// openWriter opens the one connection that writes.
func openWriter(path string, cacheBytes int, volatile bool) (*conn, error) {
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
func openReader(path string, cacheBytes int) (*conn, error) {
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

func newConn(c *sqlite.Conn) *conn {
	return &conn{driver: c, prepared: make(map[string]*prepared), many: make(map[string]string)}
}

func pragmas(c *sqlite.Conn, settings ...string) error {
	for _, s := range settings {
		if err := run(c, "PRAGMA "+s); err != nil {
			return err
		}
	}
	return nil
}

// run runs one statement that has neither arguments nor a result worth reading.
func run(c *sqlite.Conn, query string) (err error) {
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

// inTransaction reports whether a transaction is open: SQLite ends it by itself after
// some errors, such as a full disk.
func (c *conn) inTransaction() bool { return !c.driver.AutocommitEnabled() }

func (c *conn) close() error { return c.driver.Close() }

// rowsAtOnce is how many rows an insertion in bulk takes with one run of its statement.
const rowsAtOnce = 32

// manyRows returns the insertion of rowsAtOnce rows for that of one.
func (c *conn) manyRows(query string) string {
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
