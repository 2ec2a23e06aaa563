package sqlstore

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"drover/internal/store"
)

// This file holds what is PostgreSQL's own: how a connection is made and made again, the lock
// of the one transaction that writes, which errors mean what, and the form of bulk statements.
//
// A statement that SQLite runs in a loop is one statement here: its lists of arguments become
// arrays, one for each parameter, and the text is derived from that of the single one (manyRows).
// Statements of which nobody needs the result at once wait for the next that does, or for the
// commit, and go to the server with it: a batch of devices takes five round trips.

const (
	connectTimeout = 5 * time.Second
	// transactionTimeout bounds a transaction, all its statements together, whatever the network
	// and the server do. It is above what the server waits for by itself (settings).
	transactionTimeout = 30 * time.Second
	// waitingBytes is how many bytes of arguments may wait to be sent.
	waitingBytes = 1 << 20
)

// settings are for every connection. A server that does not know one goes without: CockroachDB
// and YugabyteDB have not all of them.
var settings = [][2]string{
	{"application_name", "drover"},
	// Every query finds its rows by a key (TestPlans). Nothing is gained by looking for another
	// plan, and much is lost by one that was made while a table was empty.
	{"plan_cache_mode", "force_generic_plan"},
	{"enable_seqscan", "off"},
	{"enable_hashjoin", "off"},
	{"enable_mergejoin", "off"},
	{"enable_bitmapscan", "off"},
	{"enable_material", "off"},
	{"jit", "off"},
	// A process that hangs, or whose host is gone, does not keep the others from writing.
	{"idle_in_transaction_session_timeout", "5000"},
	{"lock_timeout", "10000"},
	{"statement_timeout", "20000"},
	{"tcp_keepalives_idle", "2"},
	{"tcp_keepalives_interval", "1"},
	{"tcp_keepalives_count", "3"},
	{"tcp_user_timeout", "5000"},
	{"client_min_messages", "warning"},
}

// server is a PostgreSQL database, and this process to it.
type server struct {
	config  *pgconn.Config
	log     *slog.Logger
	version int64 // of the tables that this program knows
	node    int64 // what this process is; 0: none

	newer, away atomic.Bool // as was last noticed
}

// CheckURL says what is wrong with the URL of a database, and never the password in it.
func CheckURL(text string) error {
	_, err := parseURL(text)
	return err
}

func parseURL(text string) (*pgconn.Config, error) {
	// A password that is not encoded makes a URL that may be taken apart anywhere: nothing of it is shown.
	u, err := url.Parse(text)
	if err != nil || u.Host == "" && u.RawQuery == "" || strings.Contains(u.Path+u.RawQuery, "@") || u.Fragment != "" {
		return nil, errors.New("not a URL of the form postgres://USER:PASSWORD@HOST:PORT/DATABASE, where characters like @ : / ? # in the password are percent-encoded")
	}
	config, err := pgconn.ParseConfig(text)
	if err != nil {
		_, reason, _ := strings.Cut(err.Error(), "`: ")
		return nil, fmt.Errorf("the URL of the database: %s", oneLine(cmp.Or(reason, "cannot be parsed")))
	}
	return config, nil
}

func newServer(text string, log *slog.Logger) (*server, error) {
	config, err := parseURL(text)
	if err != nil {
		return nil, err
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 2 * time.Second, Interval: time.Second, Count: 3}}
	config.DialFunc = dialer.DialContext
	return &server{config: config, log: log}, nil
}

// String names the database.
func (s *server) String() string {
	return fmt.Sprintf("%s of PostgreSQL at %s:%d", s.config.Database, s.config.Host, s.config.Port)
}

// connect opens a connection as it is.
func (s *server) connect(ctx context.Context) (*pgconn.PgConn, error) {
	c, err := pgconn.ConnectConfig(ctx, s.config)
	if err != nil {
		if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
			err = errors.New(refused.Message)
		} else if failed, ok := errors.AsType[*pgconn.ConnectError](err); ok {
			err = failed.Unwrap() // what it adds is in String
		}
		return nil, errors.New(oneLine(err.Error()))
	}
	return c, nil
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

const readVersion = "SELECT version FROM schema_version"

// notice looks for a version that a newer program has made. That one sees to it that this one can
// go on, while the servers are replaced one after the other.
func (s *server) notice(version int64) {
	if version > s.version && !s.newer.Swap(true) {
		s.log.Warn("this server is an old program: " + newer(version, s.version).Error())
	}
}

// configure makes a new connection what the others are.
func (s *server) configure(ctx context.Context, c *pgconn.PgConn) error {
	if err := applySettings(ctx, c); err != nil {
		return err
	}
	version, err := ask(ctx, c, readVersion)
	s.notice(version)
	return err
}

// applySettings sends the settings. It asks the server which of them it knows, and if it cannot be
// asked like that, tries one after the other.
func applySettings(ctx context.Context, c *pgconn.PgConn) error {
	var all strings.Builder
	all.WriteString("SELECT set_config(s.name, s.value, false) FROM (VALUES ")
	for i, s := range settings {
		if i > 0 {
			all.WriteString(", ")
		}
		fmt.Fprintf(&all, "('%s', '%s')", s[0], s[1])
	}
	all.WriteString(") AS s (name, value) JOIN pg_settings p ON p.name = s.name")
	if err := run(ctx, c, all.String()); err == nil || c.IsClosed() {
		return err
	}
	for _, s := range settings {
		if err := run(ctx, c, fmt.Sprintf("SET %s = '%s'", s[0], s[1])); err != nil && c.IsClosed() {
			return err
		}
	}
	return nil
}

// run runs a script and forgets its results.
func run(ctx context.Context, c *pgconn.PgConn, script string) error {
	_, err := c.Exec(ctx, script).ReadAll()
	return err
}

// postgresConn is a connection to a PostgreSQL database. It is made when it is first needed, and
// made again if it breaks.
type postgresConn struct {
	*server
	c          *pgconn.PgConn // nil if there is none
	statements map[string]*pgconn.StatementDescription
	many       map[string]string // by the statement for one list of arguments, that for many

	list    parameters
	batch   pgconn.Batch
	waiting []command // what is in batch
	bytes   int       // about how many

	reading bool  // scan is called
	wrote   bool  // in this transaction
	failure error // the first of this transaction, after which the database refuses all others
	retry   bool  // what again reports
	number  int64 // of the last transaction of this node that wrote
}

// command is a statement that was sent, and what is done with its result.
type command struct {
	query string
	run   int // of the query; -1: the first column of the result says which
	once  bool
	scan  func(i int, r *row) error
	done  func(rows int)
}

func newPostgresConn(s *server) *postgresConn {
	return &postgresConn{server: s, many: make(map[string]string)}
}

// open makes the connection if there is none, and reports whether it is new.
func (c *postgresConn) open() (fresh bool, err error) {
	if !c.broken() {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.config.ConnectTimeout)
	defer cancel()
	c.forget()
	if c.c, err = c.connect(ctx); err == nil {
		err = c.configure(ctx, c.c)
	}
	if err != nil {
		if !c.away.Swap(true) {
			c.log.ErrorContext(ctx, "the database is out of reach", "err", err)
		}
		return true, errors.Join(fmt.Errorf("%w: %w", store.ErrUnavailable, err), c.close())
	}
	if c.away.Swap(false) {
		c.log.InfoContext(ctx, "the database is back")
	}
	c.statements = make(map[string]*pgconn.StatementDescription)
	return true, nil
}

// ping implements driver.
func (c *postgresConn) ping() error {
	return c.read(readVersion, 1, bindAll(nil), func(_ int, r *row) error {
		c.notice(r.int())
		return nil
	})
}

// now implements driver.
func (c *postgresConn) now() string {
	return "CAST(EXTRACT(EPOCH FROM statement_timestamp()) * 1000 AS BIGINT)"
}

// broken reports whether there is no connection.
func (c *postgresConn) broken() bool { return c.c == nil || c.c.IsClosed() }

// forget drops what has not been sent.
func (c *postgresConn) forget() {
	c.batch, c.waiting, c.bytes = pgconn.Batch{}, c.waiting[:0], 0
}

// start sends statements, such as those that begin a transaction, over a new connection if the one that was
// there turns out to be broken.
func (c *postgresConn) start(timeout time.Duration, queue func() error) error {
	for {
		fresh, err := c.open()
		if err != nil {
			return err
		}
		if err := c.c.Conn().SetDeadline(time.Now().Add(timeout)); err != nil && fresh {
			return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
		}
		c.forget()
		c.wrote, c.failure = false, nil
		if err = queue(); err == nil {
			err = c.flush()
		}
		if err == nil || fresh || !c.broken() {
			return err
		}
	}
}

// The write lock is the row of the counter that numbers come from: who has it, knows it.
const writeLock = `SELECT value FROM counters WHERE name = 'sequence' FOR UPDATE`

// standing is where the journal ends, and whether a node is what it was.
const standing = `SELECT (SELECT max(id) FROM journal), (SELECT count(*) FROM nodes WHERE id = $1 AND owner = $1)`

// begin implements driver. Each statement sees what was committed when it began, so that what
// comes after the lock sees all that its former holders have done.
func (c *postgresConn) begin(s *state) error {
	alive := false
	err := c.start(transactionTimeout, func() error {
		return errors.Join(c.send("BEGIN ISOLATION LEVEL READ COMMITTED", nil, command{}),
			c.send(writeLock, nil, command{scan: func(_ int, r *row) error {
				s.sequence = max(s.sequence, r.int())
				return nil
			}}),
			c.sendOne(standing, 0, bindAll([]any{c.node}), command{scan: func(_ int, r *row) error {
				s.journal = max(s.journal, r.int())
				alive = r.bool()
				return nil
			}}))
	})
	c.retry = false
	if err == nil && !alive && c.node != 0 {
		err = store.ErrFenced
	}
	if err != nil {
		return errors.Join(err, c.rollback())
	}
	return nil
}

// beginRead implements driver.
func (c *postgresConn) beginRead() error {
	return c.start(transactionTimeout, func() error { return c.send("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY", nil, command{}) })
}

const (
	saveCommit = `INSERT INTO commits (process, number) VALUES ($1, $2) ON CONFLICT (process) DO UPDATE SET number = excluded.number`
	lastCommit = `SELECT number FROM commits WHERE process = $1`
)

// commit implements driver. It also writes down which transaction of this node it was, for
// the case that its answer gets lost.
func (c *postgresConn) commit(before, after state) error {
	if c.failure != nil { // that of a read, say, which was taken for an answer
		return c.failure
	}
	if !c.wrote && after == before {
		return c.rollback() // which spares the server a flush
	}
	if after.sequence != before.sequence {
		if err := c.later(saveSequence, 1, bindAll([]any{after.sequence})); err != nil {
			return err
		}
	}
	if c.number++; c.node != 0 {
		if err := c.later(saveCommit, 1, bindAll([]any{c.node, c.number})); err != nil {
			return err
		}
	}
	if err := c.send("COMMIT", nil, command{}); err != nil {
		return err
	}
	err := c.flush()
	switch {
	case err == nil:
		return nil
	case c.broken(): // before the answer came
		c.retry = false
		return fmt.Errorf("%w: %w", store.ErrUnknown, err)
	}
	return err
}

// committed implements driver. Whoever has the write lock knows that the transaction has ended,
// one way or the other. What is not a node has written nothing down, and never knows.
func (c *postgresConn) committed() (bool, error) {
	if c.node == 0 {
		return false, store.ErrUnknown
	}
	if err := c.begin(new(state)); err != nil {
		return false, err
	}
	last := int64(0)
	err := c.read(lastCommit, 1, bindAll([]any{c.node}), func(_ int, r *row) error {
		last = r.int()
		return nil
	})
	if e := c.rollback(); err == nil {
		err = e
	}
	c.retry = err == nil && last != c.number
	return last == c.number, err
}

func (c *postgresConn) again() bool { return c.retry }

// rollback implements driver. A connection that breaks now has done it, too.
func (c *postgresConn) rollback() error {
	c.forget()
	if c.broken() || c.c.TxStatus() == 'I' {
		return nil
	}
	retry := c.retry
	defer func() { c.retry = retry }()
	err := c.send("ROLLBACK", nil, command{})
	if err == nil {
		err = c.flush()
	}
	if c.broken() {
		return nil
	}
	return err
}

func (c *postgresConn) close() error {
	if c.c == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn := c.c
	c.c = nil
	if conn.IsClosed() {
		return nil
	}
	return conn.Close(ctx)
}

// read implements driver.
func (c *postgresConn) read(query string, n int, bind func(i int, a *args), scan func(i int, r *row) error) error {
	if n > 1 && !strings.Contains(query, "ORDER BY") || n > 1 && strings.HasSuffix(query, "LIMIT 1") {
		if err := c.sendMany(query, n, bind, command{run: -1, scan: scan}); err != nil {
			return err
		}
		return c.flush()
	}
	// The order of the rows of a run would be lost in a join.
	for i := range n {
		if err := c.sendOne(query, i, bind, command{run: i, scan: scan}); err != nil {
			return err
		}
	}
	return c.flush()
}

// once implements driver.
func (c *postgresConn) once(query string, bind func(i int, a *args), scan func(i int, r *row) error) error {
	if err := c.sendOne(query, 0, bind, command{once: true, scan: scan}); err != nil {
		return err
	}
	return c.flush()
}

// write implements driver.
func (c *postgresConn) write(query string, n int, bind func(i int, a *args), affected func(i, rows int)) error {
	c.wrote = c.wrote || n > 0
	for i := range n {
		cmd := command{}
		if affected != nil {
			cmd.done = func(rows int) { affected(i, rows) }
		}
		if err := c.sendOne(query, i, bind, cmd); err != nil {
			return err
		}
		if c.bytes > waitingBytes {
			if err := c.flush(); err != nil {
				return err
			}
		}
	}
	return c.flush()
}

// bulk implements driver.
func (c *postgresConn) bulk(query string, n int, bind func(i int, a *args)) (changed int, err error) {
	if err := c.put(query, n, bind, func(rows int) { changed = rows }); err != nil {
		return 0, err
	}
	return changed, c.flush()
}

// insert implements driver.
func (c *postgresConn) insert(query string, n int, bind func(i int, a *args)) error {
	return c.put(query, n, bind, nil)
}

// later implements driver.
func (c *postgresConn) later(query string, n int, bind func(i int, a *args)) error {
	return c.put(query, n, bind, nil)
}

func (c *postgresConn) put(query string, n int, bind func(i int, a *args), done func(rows int)) (err error) {
	switch n {
	case 0:
		return nil
	case 1:
		err = c.sendOne(query, 0, bind, command{done: done})
	default:
		err = c.sendMany(query, n, bind, command{done: done})
	}
	c.wrote = true
	if err == nil && c.bytes > waitingBytes {
		err = c.flush()
	}
	return err
}

// sendOne sends a statement with the i-th list of arguments.
func (c *postgresConn) sendOne(query string, i int, bind func(i int, a *args), cmd command) error {
	c.list.reset()
	bind(i, &args{list: &c.list})
	return c.send(query, c.list.single(), cmd)
}

// sendMany sends a statement with n lists of arguments as one.
func (c *postgresConn) sendMany(query string, n int, bind func(i int, a *args), cmd command) error {
	c.list.reset()
	a := &args{list: &c.list}
	for i := range n {
		a.n = 0
		bind(i, a)
	}
	many := c.many[query]
	if many == "" {
		many = manyRows(query, c.list.columns)
		c.many[query] = many
	}
	return c.send(many, c.list.arrays(n), cmd)
}

// binary is the format of all arguments and results.
var binaryFormat = []int16{1}

// send puts a statement with its arguments into the batch.
func (c *postgresConn) send(query string, values [][]byte, cmd command) error {
	if c.reading {
		panic("sqlstore: query started while rows are read: " + query)
	}
	if cmd.once || c.list.array && len(values) > 0 && !strings.HasPrefix(query, "SELECT") && !strings.HasPrefix(query, "INSERT") {
		// A join of the arrays with a table, for which a plan of when the table was small would be
		// ruinous, is made anew each time.
		c.batch.ExecParams(query, values, c.list.types(values), binaryFormat, binaryFormat)
	} else {
		statement, err := c.prepare(query, values)
		if err != nil {
			return err
		}
		c.batch.ExecStatement(statement, values, binaryFormat, binaryFormat)
	}
	cmd.query = query
	c.waiting = append(c.waiting, cmd)
	for _, v := range values {
		c.bytes += len(v)
	}
	return nil
}

func (c *postgresConn) prepare(query string, values [][]byte) (*pgconn.StatementDescription, error) {
	if statement := c.statements[query]; statement != nil {
		return statement, nil
	}
	name := fmt.Sprintf("s%d", len(c.statements)+1)
	statement, err := c.c.Prepare(context.Background(), name, query, c.list.types(values))
	if err != nil {
		return nil, c.failed(query, err)
	}
	c.statements[query] = statement
	return statement, nil
}

// flush implements driver: it sends what waits, and does with the results what is to be done.
func (c *postgresConn) flush() (err error) {
	if len(c.waiting) == 0 {
		return nil
	}
	defer c.forget()
	results := c.c.ExecBatch(context.Background(), &c.batch)
	done := 0
	for ; done < len(c.waiting) && results.NextResult(); done++ {
		if e := c.result(&c.waiting[done], results.ResultReader()); e != nil && err == nil {
			err = e
		}
	}
	if e := results.Close(); e != nil {
		return c.failed(c.waiting[min(done, len(c.waiting)-1)].query, e)
	}
	return err
}

// result reads one result. An error is one of scan: those of the server come up when all is read.
func (c *postgresConn) result(cmd *command, result *pgconn.ResultReader) (err error) {
	if cmd.scan != nil {
		stopped := -1 // the run that wants no more rows
		c.reading = true
		defer func() { c.reading = false }()
		r := new(row)
		for err == nil && result.NextRow() {
			r.values, r.col = result.Values(), 0
			i := cmd.run
			if i < 0 {
				i = int(r.int()) - 1
			}
			if i == stopped {
				continue
			}
			if err = cmd.scan(i, r); err == errStop {
				stopped, err = i, nil
			}
		}
	}
	tag, e := result.Close()
	if e == nil && err == nil {
		if cmd.query == "COMMIT" && tag.String() != "COMMIT" {
			return fmt.Errorf("sqlstore: the database answers COMMIT with %s", tag)
		}
		if cmd.done != nil {
			cmd.done(int(tag.RowsAffected()))
		}
	}
	return err
}

// failed says what an error of the driver means, and which query it is about, and remembers it.
func (c *postgresConn) failed(query string, err error) error {
	err = c.meaning(query, err)
	c.failure = cmp.Or(c.failure, err)
	return err
}

func (c *postgresConn) meaning(query string, err error) error {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case !ok:
		// The connection is no more, and the transaction with it. That it may be tried again does
		// not hold for a commit, which knows.
		c.retry = c.broken()
		return fmt.Errorf("%w: %w, in %q", store.ErrUnavailable, err, query)
	case pg.Code == "23505":
		return fmt.Errorf("%w: %w", store.ErrExists, err)
	case pg.Code == "40001", pg.Code == "40P01": // a conflict with another transaction
		c.retry = true
		return fmt.Errorf("%w: %w, in %q", store.ErrUnavailable, err, query)
	case unavailable(pg.Code):
		// What the server says last on a connection; sometimes it says so and goes on.
		if pg.Code == "25006" || strings.HasPrefix(pg.Code, "57P0") || pg.Code == "25P03" {
			c.retry = true
			if e := c.close(); e != nil {
				c.log.Debug("close a connection that was given up", "err", e)
			}
		}
		return fmt.Errorf("%w: %w, in %q", store.ErrUnavailable, err, query)
	}
	if c.newer.Load() {
		return fmt.Errorf("sqlstore: a newer drover has changed the tables: %w, in %q", err, query)
	}
	return fmt.Errorf("sqlstore: %w, in %q", err, query)
}

// unavailable reports whether an error is for a reason that goes away: the server stops or
// starts, has no more room, connections or patience, or has become a standby.
func unavailable(code string) bool {
	for _, class := range []string{"08", "53", "57P0", "57014", "55P03", "25006", "25P03", "25P04"} {
		if strings.HasPrefix(code, class) {
			return true
		}
	}
	return false
}

// The types of arguments, and of arrays of them, by their numbers in PostgreSQL.
const (
	typeInt   = 20
	typeText  = 25
	typeBytes = 17
)

var arrayOf = map[uint32]struct {
	oid  uint32
	name string
}{typeInt: {1016, "bigint[]"}, typeText: {1009, "text[]"}, typeBytes: {1001, "bytea[]"}}

// arrayHeader is how many bytes are before the elements of an array: the number of dimensions,
// whether there are nulls, the type, the number of elements, the index of the first.
const arrayHeader = 20

// parameters collects the arguments of a statement, by parameter: each is encoded as an
// array, of which an only element can be taken out.
type parameters struct {
	columns []column
	values  [][]byte
	oids    []uint32
	array   bool
}

type column struct {
	oid uint32
	b   []byte // header and elements, each behind its length
}

func (p *parameters) reset() { p.columns = p.columns[:0] }

// add begins an element of the n-th parameter, from 1, and returns the array to append it to.
func (p *parameters) add(n int, oid uint32, size int) *column {
	if n > len(p.columns) {
		if n <= cap(p.columns) {
			p.columns = p.columns[:n] // with the memory that it had
		} else {
			p.columns = append(p.columns, column{})
		}
		col := &p.columns[n-1]
		if col.b == nil {
			col.b = make([]byte, arrayHeader, 64)
		}
		col.oid, col.b = oid, col.b[:arrayHeader]
	}
	col := &p.columns[n-1]
	if col.oid != oid {
		panic("sqlstore: arguments of different types for one parameter")
	}
	col.b = binary.BigEndian.AppendUint32(col.b, uint32(size))
	return col
}

func (p *parameters) int(n int, v int64) {
	col := p.add(n, typeInt, 8)
	col.b = binary.BigEndian.AppendUint64(col.b, uint64(v))
}

func (p *parameters) text(n int, v string) {
	col := p.add(n, typeText, len(v))
	col.b = append(col.b, v...)
}

func (p *parameters) blob(n int, v []byte) {
	col := p.add(n, typeBytes, len(v))
	col.b = append(col.b, v...)
}

// single returns the only list of arguments.
func (p *parameters) single() [][]byte {
	p.values, p.array = p.values[:0], false
	for _, col := range p.columns {
		p.values = append(p.values, col.b[arrayHeader+4:])
	}
	return p.values
}

// arrays returns the n lists of arguments as arrays.
func (p *parameters) arrays(n int) [][]byte {
	p.values, p.array = p.values[:0], true
	for _, col := range p.columns {
		for i, v := range [...]uint32{1, 0, col.oid, uint32(n), 1} {
			binary.BigEndian.PutUint32(col.b[4*i:], v)
		}
		p.values = append(p.values, col.b)
	}
	return p.values
}

// types returns the types of what single or arrays has returned; none for no values.
func (p *parameters) types(values [][]byte) []uint32 {
	p.oids = p.oids[:0]
	for i := range values {
		oid := p.columns[i].oid
		if p.array {
			oid = arrayOf[oid].oid
		}
		p.oids = append(p.oids, oid)
	}
	return p.oids
}

// number decodes a number, zero for NULL.
func number(b []byte) int64 {
	switch len(b) {
	case 8:
		return int64(binary.BigEndian.Uint64(b))
	case 4:
		return int64(int32(binary.BigEndian.Uint32(b)))
	}
	return 0
}

var parameter = regexp.MustCompile(`\$(\d+)`)

// manyRows derives, from a statement for one list of arguments, that for arrays of them. Of a
// query the result begins with the number of the list that a row is for, from 1; OFFSET keeps it
// a query for each list, whatever is known of the tables.
func manyRows(query string, columns []column) string {
	arrays, names := make([]string, len(columns)), make([]string, len(columns))
	for i, col := range columns {
		arrays[i] = fmt.Sprintf("$%d::%s", i+1, arrayOf[col.oid].name)
		names[i] = fmt.Sprintf("p%d", i+1)
	}
	from := fmt.Sprintf("unnest(%s)", strings.Join(arrays, ", "))
	as := fmt.Sprintf(" AS v (%s", strings.Join(names, ", "))
	values := func(text string) string { return parameter.ReplaceAllString(text, "v.p$1") }

	verb, _, _ := strings.Cut(query, " ")
	switch verb {
	case "SELECT":
		return "SELECT v.run, q.* FROM " + from + " WITH ORDINALITY" + as + ", run) CROSS JOIN LATERAL (" + values(query) + " OFFSET 0) AS q"
	case "INSERT":
		head, tail, _ := strings.Cut(query, "VALUES (")
		list, tail, _ := strings.Cut(tail, ")")
		return head + "SELECT " + values(list) + " FROM " + from + as + ")" + tail
	case "UPDATE":
		head, where, _ := strings.Cut(query, " WHERE ")
		return values(head) + " FROM " + from + as + ") WHERE " + values(where)
	case "DELETE":
		head, where, _ := strings.Cut(query, " WHERE ")
		return head + " USING " + from + as + ") WHERE " + values(where)
	}
	panic("sqlstore: no form for many rows of " + query)
}
