// Package sqlstore keeps drover's data in a SQL database: SQLite, a file, or PostgreSQL.
//
// Each query's text is written once, in SQL that both take, and so are the tables
// (migrations). What differs is in sqlite.go and postgres.go, behind conn (executor.go),
// through which alone queries reach a driver.
//
// One connection writes, under a lock that is handed on in the order of arrival; some
// more read, each on a snapshot. On PostgreSQL the lock is a row, so that one process
// writes at a time. What a device operation touches is one row of queues by
// primary key, see encoding.go; the row in executions changes only with the status.
package sqlstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"drover/internal/iot"
	"drover/internal/store"
)

// Config says where the database is: Path or URL. The other fields have a sensible meaning
// when they are zero.
type Config struct {
	Path       string       // of the SQLite file; it is created if absent, its folder is not
	URL        string       // of a PostgreSQL database, "postgres://…"
	Logger     *slog.Logger // default slog.Default()
	Name       string       // of this process among the nodes on a PostgreSQL database; default that of the host
	Readers    int          // connections for View, default 4; 8 on PostgreSQL, made when needed
	CacheBytes int          // page cache of all connections to SQLite together, default 64 MiB
	// Volatile trades durability for speed: what is committed survives the process, but not
	// a power cut. For SQLite stores that nobody will miss.
	Volatile bool
	// Lease is for how long a node on PostgreSQL lives that has not said so; default 5 s.
	Lease time.Duration

	moving bool // data is moved: this process is not a node
}

// ErrClosed is returned by every method of a DB that is closed.
var ErrClosed = errors.New("sqlstore: the database is closed")

// DB is a store in a SQL database. At most one DB, in any process, has a SQLite file open; many
// may work on one PostgreSQL database.
type DB struct {
	log   *slog.Logger
	lock  io.Closer // of a file; nil on PostgreSQL
	path  string    // of it
	self  self
	lease *lease // nil on SQLite

	writing   chan struct{} // full while somebody writes; senders queue in order of arrival
	writer    *conn
	hook      func([]iot.Record)
	buf       []byte // for encoding, of the transaction that runs
	state     state  // of the writer
	appended  int64  // the last position that was given to a record of ours
	unsettled *tx    // of which nobody knows whether it was committed
	patience  time.Duration

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

// Open opens the database, creates it if it is a file that is absent, and brings its tables up
// to date. It fails if a newer drover has used it, or if another server has the file open.
func Open(ctx context.Context, cfg Config) (_ *DB, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d := &DB{
		log:      cmp.Or(cfg.Logger, slog.Default()),
		writing:  make(chan struct{}, 1),
		hook:     func([]iot.Record) {},
		self:     self{store.FirstNode, leaseLength},
		patience: settlePatience,
		closed:   make(chan struct{}),
	}
	if cfg.URL != "" {
		err = d.openServer(ctx, cfg)
	} else if err = d.openFile(cfg); err != nil {
		err = fmt.Errorf("open database %s: %w", cfg.Path, err)
	}
	if err == nil {
		err = d.View(ctx, unmoved)
	}
	if err != nil {
		return nil, errors.Join(err, d.closeConnections())
	}
	return d, nil
}

func (d *DB) openFile(cfg Config) (err error) {
	readers := cmp.Or(cfg.Readers, 4)
	cache := cmp.Or(cfg.CacheBytes, 64<<20)
	lock, err := lockFolder(cfg.Path)
	if err != nil {
		return err
	}
	d.lock, d.path = lock, cfg.Path
	if err := createFile(cfg.Path); err != nil {
		return err
	}
	// The writer reads what it changes, the others mostly lists: it gets half.
	writer, err := openWriter(cfg.Path, cache/2, cfg.Volatile)
	if err != nil {
		return err
	}
	d.writer = &conn{writer}
	if err := migrate(writer.driver); err != nil {
		return err
	}
	if d.state, err = readState(d.writer); err != nil {
		return err
	}
	d.readers = make(chan *conn, readers)
	for range readers {
		r, err := openReader(cfg.Path, cache/2/readers)
		if err != nil {
			return err
		}
		d.readers <- &conn{r}
		d.count++
	}
	return nil
}

func (d *DB) openServer(ctx context.Context, cfg Config) error {
	s, err := newServer(cfg.URL, d.log)
	if err != nil {
		return err
	}
	if err := migrateServer(ctx, s); err != nil {
		return fmt.Errorf("open %s: %w", s, err)
	}
	d.count = cmp.Or(cfg.Readers, 8)
	d.writer = &conn{newPostgresConn(s)}
	d.readers = make(chan *conn, d.count)
	for range d.count {
		d.readers <- &conn{newPostgresConn(s)}
	}
	if cfg.moving {
		d.self.id = 0
		return nil
	}
	return d.register(ctx, s, cfg)
}

func readState(c *conn) (s state, err error) {
	if s.sequence, err = c.number(`SELECT value FROM counters WHERE name = 'sequence'`); err != nil {
		return s, err
	}
	last, err := c.number(lastRecord)
	if err != nil {
		return s, err
	}
	published, err := reader{c: c}.Published(store.FirstNode)
	s.journal = max(last, published)
	return s, err
}

// OnCommit implements store.Store.
func (d *DB) OnCommit(hook func([]iot.Record)) { d.hook = hook }

// Ping reports whether the database answers.
func (d *DB) Ping(ctx context.Context) error {
	return d.view(ctx, func(c *conn) error { return c.ping() })
}

// View implements store.Store. It waits for a free connection as long as ctx allows.
func (d *DB) View(ctx context.Context, f func(store.Reader) error) error {
	return d.view(ctx, func(c *conn) error { return f(reader{c, d.self}) })
}

func (d *DB) view(ctx context.Context, f func(*conn) error) (err error) {
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
	if err := c.beginRead(); err != nil {
		return err
	}
	defer func() {
		if e := c.rollback(); e != nil {
			err = errors.Join(err, e)
		}
	}()
	return f(c)
}

const (
	tries = 5 // of a transaction that others are in the way of, or that its connection was lost to
	// settlePatience bounds how long Update tries to find out whether it has committed.
	settlePatience = 10 * time.Second
	settlePause    = 50 * time.Millisecond
)

// keptBuffer is how many bytes for encoding are kept from one transaction to the next.
const keptBuffer = 1 << 20

// Update implements store.Store. Transactions run one at a time, in the order of the
// calls. Once f runs, ctx has no say any more.
func (d *DB) Update(ctx context.Context, f func(store.Tx) error) error {
	if err := d.startWriting(ctx); err != nil {
		return err
	}
	defer func() { <-d.writing }()
	if d.unsettled != nil {
		if err := d.settle(); err != nil {
			return err
		}
	}
	for try := 1; ; try++ {
		t := &tx{reader: reader{d.writer, d.self}, state: d.state, buf: d.buf[:0]}
		err := d.transact(ctx, t, f)
		if d.buf = t.buf; cap(d.buf) > keptBuffer {
			d.buf = nil
		}
		if errors.Is(err, store.ErrUnknown) {
			d.unsettled = t
			err = d.findOut(ctx, err)
		}
		if errors.Is(err, store.ErrFenced) && d.lease != nil {
			d.lease.lose()
		}
		if err == nil {
			d.committed(t)
			return nil
		}
		// Numbers that a failed transaction took stay unused, so that "never taken
		// before" holds even for who remembers them.
		d.state.sequence = t.state.sequence
		if try == tries || errors.Is(err, store.ErrUnknown) || !d.writer.again() {
			return err
		}
	}
}

// committed tells who is to know of a transaction that it has been committed.
func (d *DB) committed(t *tx) {
	d.state = t.state
	d.note(t)
	for _, f := range t.after {
		f()
	}
	d.hook(t.records)
}

// note remembers the last position of ours.
func (d *DB) note(t *tx) {
	if n := len(t.records); n > 0 {
		d.appended = t.records[n-1].ID
	}
}

// findOut waits until it is known whether the unsettled transaction was committed: nil if it was.
// If it takes too long the next Update goes on with it.
func (d *DB) findOut(ctx context.Context, unknown error) error {
	d.log.WarnContext(ctx, "the database did not say whether it has committed, asking", "err", unknown)
	deadline := time.Now().Add(d.patience)
	for {
		done, err := d.writer.committed()
		if err == nil {
			d.unsettled = nil
			if done {
				return nil
			}
			return fmt.Errorf("%w: the transaction was not committed", store.ErrUnavailable)
		}
		if time.Now().After(deadline) || errors.Is(err, store.ErrFenced) {
			return unknown
		}
		select {
		case <-d.closed:
			return unknown
		case <-time.After(settlePause):
		}
	}
}

// settle finds out whether the unsettled transaction was committed. Its records are told if it
// was; its caller has given it up.
func (d *DB) settle() error {
	done, err := d.writer.committed()
	if err != nil {
		return err
	}
	t := d.unsettled
	d.unsettled = nil
	if done && len(t.records) > 0 {
		d.note(t)
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
	if err := d.writer.begin(&t.state); err != nil {
		return err
	}
	before := t.state
	defer func() {
		if e := d.writer.rollback(); e != nil {
			d.log.ErrorContext(ctx, "rollback failed", "err", e)
		}
	}()
	if err := f(t); err != nil {
		return err
	}
	if t.failed != nil {
		return fmt.Errorf("sqlstore: commit after a failed write: %w", t.failed)
	}
	return d.writer.commit(before, t.state)
}

// Close implements store.Store. It waits for running transactions; later calls return
// what the first one returned.
func (d *DB) Close() error {
	d.closeOnce.Do(func() {
		close(d.closed)
		d.writing <- struct{}{}
		if d.lease != nil {
			d.leave(context.Background())
		}
		d.closeErr = d.closeConnections()
		<-d.writing
	})
	return d.closeErr
}

// closeConnections closes what Open has opened, the lock last.
func (d *DB) closeConnections() error {
	var errs []error
	for range d.count {
		errs = append(errs, (<-d.readers).close())
	}
	if d.writer != nil {
		errs = append(errs, d.writer.close())
	}
	if d.lock != nil {
		errs = append(errs, d.lock.Close())
	}
	return errors.Join(errs...)
}

// reader implements store.Reader on a connection in a transaction.
type reader struct {
	c    *conn
	self self
}

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

func (t *tx) bulk(query string, n int, bind func(i int, a *args)) (changed int, err error) {
	changed, err = t.c.bulk(query, n, bind)
	return changed, t.failing(err)
}

func (t *tx) later(query string, n int, bind func(i int, a *args)) error {
	return t.failing(t.c.later(query, n, bind))
}

// insert stores n rows at once, to know whether they exist.
func (t *tx) insert(query string, n int, bind func(i int, a *args)) error {
	if err := t.insertLater(query, n, bind); err != nil {
		return err
	}
	return t.failing(t.c.flush())
}

func (t *tx) insertLater(query string, n int, bind func(i int, a *args)) error {
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

const saveSequence = `UPDATE counters SET value = $1 WHERE name = 'sequence'`

// Sequence implements store.Tx. The counter is saved once, with the commit.
func (t *tx) Sequence(n int) (int64, error) {
	if n < 1 {
		return 0, t.failing(fmt.Errorf("sqlstore: Sequence of %d numbers", n))
	}
	next := t.state.sequence + 1
	t.state.sequence += int64(n)
	return next, nil
}

// AfterCommit implements store.Tx.
func (t *tx) AfterCommit(f func()) { t.after = append(t.after, f) }
