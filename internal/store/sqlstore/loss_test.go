package sqlstore

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"drover/internal/envtest"
	"drover/internal/iot"
	"drover/internal/store"
)

// proxy is between a DB and its PostgreSQL, and can take away what a network can.
type proxy struct {
	t      *testing.T
	listen net.Listener
	target string // socket of the server
	url    string

	mu    sync.Mutex
	mode  mode
	then  mode // after something was lost
	conns map[net.Conn]bool
}

type mode int

const (
	pass       mode = iota
	loseAnswer      // what the server says next is lost, and the connection with it
	loseAll         // what the client says next is lost, and the connection with it
	refuse          // nobody gets through, and who was through is cut off
)

const socketName = ".s.PGSQL.5432"

func newProxy(t *testing.T) *proxy {
	t.Helper()
	u, err := url.Parse(envtest.PostgreSQL(t))
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	p := &proxy{t: t, target: filepath.Join(query.Get("host"), socketName), conns: make(map[net.Conn]bool)}
	dir := t.TempDir()
	query.Set("host", dir)
	u.RawQuery = query.Encode()
	p.url = u.String()
	if p.listen, err = net.Listen("unix", filepath.Join(dir, socketName)); err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := p.listen.Accept()
			if err != nil {
				return
			}
			running.Go(func() { p.serve(client) })
		}
	})
	t.Cleanup(func() {
		p.set(refuse)
		if err := p.listen.Close(); err != nil {
			t.Error(err)
		}
		running.Wait()
	})
	return p
}

func (p *proxy) serve(client net.Conn) {
	server, err := net.Dial("unix", p.target)
	if err != nil {
		p.t.Error(err)
		return
	}
	closeBoth := func() { _, _ = client.Close(), server.Close() } // the other side may have done so
	defer closeBoth()
	p.mu.Lock()
	p.conns[client] = true
	refused := p.mode == refuse
	p.mu.Unlock()
	if refused {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { defer closeBoth(); p.copy(server, client, loseAll) })
	both.Go(func() { defer closeBoth(); p.copy(client, server, loseAnswer) })
	both.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, client)
}

// copy passes on what from says until it ends, or until the proxy is to lose it.
func (p *proxy) copy(to io.Writer, from io.Reader, lose mode) {
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		p.mu.Lock()
		lost := p.mode == lose
		if lost {
			p.mode = p.then
		}
		p.mu.Unlock()
		if lost {
			return
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

func (p *proxy) set(m mode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode = m
	if m == refuse {
		p.cutLocked()
	}
}

// cut ends all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutLocked()
}

func (p *proxy) cutLocked() {
	for c := range p.conns {
		_ = c.Close() // it may be gone
	}
}

// lossy is a DB behind a proxy, and what it told.
type lossy struct {
	*testing.T
	*proxy
	db   *DB
	told []string
}

func newLossy(t *testing.T) *lossy {
	t.Parallel()
	l := &lossy{T: t, proxy: newProxy(t)}
	db, err := Open(t.Context(), Config{URL: l.url, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.set(pass)
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	l.db = db
	db.OnCommit(func(records []iot.Record) {
		for _, r := range records {
			l.told = append(l.told, r.Actor)
		}
	})
	// All that a registration needs is prepared: what is sent after f is the commit.
	l.must(l.register("first", nil))
	l.told = nil
	return l
}

func (l *lossy) must(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

// register stores a thing and a record of it. before runs just before the commit, each time.
func (l *lossy) register(name string, before func(run int)) error {
	runs := 0
	return l.db.Update(l.Context(), func(tx store.Tx) error {
		runs++
		if err := tx.InsertThings([]*iot.Thing{{Name: iot.ThingName(name), Version: 1}}); err != nil {
			return err
		}
		if err := tx.Append(iot.Record{Kind: iot.ThingCreated, Actor: name}); err != nil {
			return err
		}
		if before != nil {
			before(runs)
		}
		return nil
	})
}

// holds checks that these things are stored besides the first, and that of each there is one
// record, told once, in this order.
func (l *lossy) holds(names ...string) {
	l.Helper()
	l.must(l.db.View(l.Context(), func(r store.Reader) error {
		things, _, _, err := r.Things(store.ThingQuery{}, "", 100)
		if len(things) != len(names)+1 {
			l.Errorf("%d things", len(things))
		}
		if err != nil {
			return err
		}
		for _, n := range names {
			if _, err := r.ThingByName(iot.ThingName(n)); err != nil {
				l.Errorf("thing %s: %v", n, err)
			}
		}
		records, err := r.Records(0, 0, 100)
		if len(records) != len(names)+1 {
			l.Errorf("%d records", len(records))
		}
		for i, rec := range records[1:] {
			if rec.Actor != names[i] {
				l.Errorf("record %d is of %s", i, rec.Actor)
			}
		}
		return err
	}))
	if !slices.Equal(l.told, names) {
		l.Errorf("told of %q, want %q", l.told, names)
	}
}

func TestLossOfIdleConnections(t *testing.T) {
	l := newLossy(t)
	l.must(l.db.Ping(t.Context()))
	l.cut()
	l.must(l.register("a", nil))
	l.cut()
	l.holds("a")
}

func TestLossInside(t *testing.T) {
	l := newLossy(t)
	l.must(l.register("a", func(run int) {
		if run == 1 {
			l.cut()
		}
	}))
	l.holds("a")
}

// A read that fails is not taken for an answer, even if f does.
func TestLossIgnored(t *testing.T) {
	l := newLossy(t)
	runs := 0
	l.must(l.db.Update(t.Context(), func(tx store.Tx) error {
		if runs++; runs == 1 {
			l.cut()
		}
		_, err := tx.ThingByName("first")
		if runs > 1 && err != nil {
			return err
		}
		return nil
	}))
	if runs != 2 {
		t.Errorf("f ran %d times", runs)
	}
}

func TestLossOfTheAnswer(t *testing.T) {
	l := newLossy(t)
	runs := 0
	l.must(l.register("a", func(run int) {
		runs = run
		l.set(loseAnswer)
	}))
	if runs != 1 {
		t.Errorf("f ran %d times, though its first run was committed", runs)
	}
	l.holds("a")
}

func TestLossOfTheCommit(t *testing.T) {
	l := newLossy(t)
	runs := 0
	l.must(l.register("a", func(run int) {
		if runs = run; run == 1 {
			l.set(loseAll)
		}
	}))
	if runs != 2 {
		t.Errorf("f ran %d times", runs)
	}
	l.holds("a")
}

// Nobody can say whether it was committed; later it turns out.
func TestLossForLong(t *testing.T) {
	for name, lose := range map[string]mode{"of the answer": loseAnswer, "of the commit": loseAll} {
		t.Run(name, func(t *testing.T) {
			l := newLossy(t)
			l.db.patience = 0
			l.then = refuse
			err := l.register("a", func(int) { l.set(lose) })
			if !errors.Is(err, store.ErrUnknown) || iot.ErrorCode(err) != iot.Unavailable {
				t.Fatalf("got %v", err)
			}
			if err := l.register("b", nil); !errors.Is(err, store.ErrUnavailable) {
				t.Fatalf("while the database is away: %v", err)
			}
			l.set(pass)
			l.must(l.register("c", nil))
			if lose == loseAnswer {
				l.holds("a", "c")
			} else {
				l.holds("c")
			}
		})
	}
}

func TestDatabaseAway(t *testing.T) {
	l := newLossy(t)
	l.set(refuse)
	for name, err := range map[string]error{
		"Update": l.register("a", nil),
		"View":   l.db.View(t.Context(), func(store.Reader) error { panic("started") }),
		"Ping":   l.db.Ping(t.Context()),
	} {
		if !errors.Is(err, store.ErrUnavailable) || iot.ErrorCode(err) != iot.Unavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
	l.set(pass)
	l.must(l.db.Ping(t.Context()))
	l.must(l.register("b", nil))
	l.holds("b")
}

// The server ends a transaction that does nothing; its process finds out and starts again.
func TestBackendKilled(t *testing.T) {
	l := newLossy(t)
	l.must(l.register("a", func(run int) {
		if run > 1 {
			return
		}
		pid := l.db.writer.driver.(*postgresConn).c.PID()
		l.must(l.db.View(t.Context(), func(r store.Reader) error {
			_, err := r.(reader).c.number("SELECT 1 FROM pg_terminate_backend($1::int)", int64(pid))
			return err
		}))
	}))
	l.holds("a")
}

// Two processes that write wait for each other, and no number is given twice.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	url := envtest.PostgreSQL(t)
	var all sync.Map
	var wg sync.WaitGroup
	for range 3 {
		db, err := Open(t.Context(), Config{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		last := int64(0)
		db.OnCommit(func(records []iot.Record) {
			for _, r := range records {
				if _, twice := all.LoadOrStore(r.ID, true); twice || r.ID <= last {
					t.Errorf("position %d after %d, or given twice", r.ID, last)
				}
				last = r.ID
			}
		})
		wg.Go(func() {
			for range 50 {
				err := db.Update(t.Context(), func(tx store.Tx) error {
					n, err := tx.Sequence(2)
					if err != nil {
						return err
					}
					for i := range int64(2) {
						if _, twice := all.LoadOrStore([1]int64{n + i}, true); twice {
							t.Errorf("number %d was given twice", n+i)
						}
					}
					return tx.Append(iot.Record{Kind: iot.ThingCreated})
				})
				if err != nil {
					t.Error(err)
				}
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
