// Package sqlstore keeps drover's data in a SQL database; today that is SQLite.
//
// Each query's text is written once, in SQL that PostgreSQL takes, too; what differs is
// in dialect.go and in the migrations. Queries reach the driver through conn
// (executor.go) only.
//
// One connection writes, under a lock that is handed on in the order of arrival; some
// more read, each on a snapshot. What a device operation touches is one row of queues by
// primary key, see encoding.go; the row in executions changes only with the status.
package sqlstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"zombiezen.com/go/sqlite"

	"drover/internal/iot"
	"drover/internal/store"
)

// Config says where the database is. Zero fields but Path have a sensible meaning.
type Config struct {
	Path       string       // the database file; it is created if absent, its folder is not
	Logger     *slog.Logger // default slog.Default()
	Readers    int          // connections for View, default 4
	CacheBytes int          // page cache of all connections together, default 64 MiB
	// Volatile trades durability for speed: what is committed survives the process, but not
	// a power cut. For stores that nobody will miss.
	Volatile bool
}

// ErrClosed is returned by every method of a DB that is closed.
var ErrClosed = errors.New("sqlstore: the database is closed")

// DB is a store in one SQLite file. At most one DB, in any process, has a file open.
type DB struct {
	log  *slog.Logger
	lock *sqlite.Conn

	writing chan struct{} // full while somebody writes; senders queue in order of arrival
	writer  *conn
	hook    func([]iot.Record)
	state   state // of the writer

	readers chan *conn
	count   int // of readers

	closeOnce sync.Once
	closed    chan struct{}
	closeErr  error
}

var _ store.Store = (*DB)(nil)

// state is what the writer knows of the counters in the database.
type state struct {
	sequence int64 // the last number that was taken
	journal  int64 // the last position that was given
}

// Open opens the database, creates it if it is absent, and brings its tables up to date.
// It fails if another server has it open or if a newer drover has used it.
func Open(ctx context.Context, cfg Config) (_ *DB, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("open database %s: %w", cfg.Path, err)
		}
	}()
	d := &DB{
		log:     cmp.Or(cfg.Logger, slog.Default()),
		writing: make(chan struct{}, 1),
		hook:    func([]iot.Record) {},
		count:   cmp.Or(cfg.Readers, 4),
		closed:  make(chan struct{}),
	}
	cache := cmp.Or(cfg.CacheBytes, 64<<20)
	if d.lock, err = lockFolder(cfg.Path); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.closeConnections())
		}
	}()
	if err := createFile(cfg.Path); err != nil {
		return nil, err
	}
	// The writer reads what it changes, the others mostly lists: it gets half.
	if d.writer, err = openWriter(cfg.Path, cache/2, cfg.Volatile); err != nil {
		return nil, err
	}
	if err := migrate(d.writer.driver); err != nil {
		return nil, err
	}
	if d.state, err = readState(d.writer); err != nil {
		return nil, err
	}
	d.readers = make(chan *conn, d.count)
	for range d.count {
		r, err := openReader(cfg.Path, cache/2/d.count)
		if err != nil {
			return nil, err
		}
		d.readers <- r
	}
	return d, nil
}

func readState(c *conn) (s state, err error) {
	if s.sequence, err = c.number(`SELECT value FROM counters WHERE name = 'sequence'`); err != nil {
		return s, err
	}
	last, err := c.number(`SELECT max(id) FROM journal`)
	if err != nil {
		return s, err
	}
	published, err := reader{c}.Published()
	s.journal = max(last, published)
	return s, err
}

// OnCommit implements store.Store.
func (d *DB) OnCommit(hook func([]iot.Record)) { d.hook = hook }

// Ping reports whether the database answers.
func (d *DB) Ping(ctx context.Context) error {
	return d.View(ctx, func(r store.Reader) error {
		_, err := r.Published()
		return err
	})
}

// View implements store.Store. It waits for a free connection as long as ctx allows.
func (d *DB) View(ctx context.Context, f func(store.Reader) error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	var c *conn
	select {
	case c = <-d.readers:
	case <-d.closed:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { d.readers <- c }()
	if _, err := c.exec(beginRead); err != nil {
		return err
	}
	defer func() {
		if _, e := c.exec(rollback); e != nil {
			err = errors.Join(err, e)
		}
	}()
	return f(reader{c})
}

// Update implements store.Store. Transactions run one at a time, in the order of the
// calls. Once f runs, ctx has no say any more.
func (d *DB) Update(ctx context.Context, f func(store.Tx) error) error {
	if err := d.startWriting(ctx); err != nil {
		return err
	}
	defer func() { <-d.writing }()

	t := &tx{reader: reader{d.writer}, state: d.state}
	if err := d.transact(ctx, t, f); err != nil {
		// Numbers that a failed transaction took stay unused, so that "never taken
		// before" holds even for who remembers them.
		d.state.sequence = t.state.sequence
		return err
	}
	d.state = t.state
	for _, f := range t.after {
		f()
	}
	if len(t.records) > 0 {
		d.hook(t.records)
	}
	return nil
}

func (d *DB) startWriting(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case d.writing <- struct{}{}:
	case <-d.closed:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-d.closed: // Close won the race
		<-d.writing
		return ErrClosed
	default:
		return nil
	}
}

// transact runs f in a transaction of the writer, which is rolled back if f fails, panics
// or ends its goroutine.
func (d *DB) transact(ctx context.Context, t *tx, f func(store.Tx) error) (err error) {
	if _, err := d.writer.exec(begin); err != nil {
		return err
	}
	defer func() {
		if d.writer.inTransaction() {
			if _, e := d.writer.exec(rollback); e != nil {
				d.log.ErrorContext(ctx, "rollback failed", "error", e)
			}
		}
	}()
	if err := f(t); err != nil {
		return err
	}
	if t.failed != nil {
		return fmt.Errorf("sqlstore: commit after a failed write: %w", t.failed)
	}
	if err := t.saveSequence(d.state.sequence); err != nil {
		return err
	}
	_, err = d.writer.exec(commit)
	return err
}

// Close implements store.Store. It waits for running transactions; later calls return
// what the first one returned.
func (d *DB) Close() error {
	d.closeOnce.Do(func() {
		close(d.closed)
		d.writing <- struct{}{}
		d.closeErr = d.closeConnections()
		<-d.writing
	})
	return d.closeErr
}

// closeConnections closes what Open has opened, the lock last.
func (d *DB) closeConnections() error {
	var errs []error
	if d.readers != nil {
		for range d.count {
			errs = append(errs, (<-d.readers).close())
		}
	}
	if d.writer != nil {
		errs = append(errs, d.writer.close())
	}
	return errors.Join(append(errs, d.lock.Close())...)
}

// reader implements store.Reader on a connection in a transaction.
type reader struct{ c *conn }

// tx implements store.Tx on the writer.
type tx struct {
	reader
	state   state
	failed  error // of the first write that failed
	records []iot.Record
	after   []func()
	buf     []byte // for encoding
}

// failing remembers the failure of a write. A part of it may have been done, and some
// databases refuse all further work: the transaction can only be given up.
func (t *tx) failing(err error) error {
	if err != nil && t.failed == nil {
		t.failed = err
	}
	return err
}

func (t *tx) write(query string, n int, bind func(i int, a *args), affected func(i, rows int)) error {
	return t.failing(t.c.write(query, n, bind, affected))
}

func (t *tx) insert(query string, n int, bind func(i int, a *args)) error {
	return t.failing(t.c.insert(query, n, bind))
}

func (t *tx) exec(query string, values ...any) (int, error) {
	n, err := t.c.exec(query, values...)
	return n, t.failing(err)
}

// change runs a statement that must find its one row. store.ErrNotFound if it does not.
func (t *tx) change(query string, values ...any) error {
	n, err := t.exec(query, values...)
	if err == nil && n == 0 {
		err = t.failing(store.ErrNotFound)
	}
	return err
}

// Sequence implements store.Tx. The counter is saved once, with the commit.
func (t *tx) Sequence(n int) (int64, error) {
	if n < 1 {
		return 0, t.failing(fmt.Errorf("sqlstore: Sequence of %d numbers", n))
	}
	next := t.state.sequence + 1
	t.state.sequence += int64(n)
	return next, nil
}

func (t *tx) saveSequence(saved int64) error {
	if t.state.sequence == saved {
		return nil
	}
	return t.change(`UPDATE counters SET value = $1 WHERE name = 'sequence'`, t.state.sequence)
}

// AfterCommit implements store.Tx.
func (t *tx) AfterCommit(f func()) { t.after = append(t.after, f) }
