package sqlstore

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"drover/internal/store"
)

// This file holds what several processes on one PostgreSQL database are to each other: each is a
// node, with a row in the table nodes that it keeps alive by renewing a lease. All times are of the
// database's clock (driver.now), since those of hosts may differ, and jump.
//
// A node whose row belongs to another has been declared dead. Every transaction that writes looks
// at that row when it has the write lock, and a row changes hands under the write lock only: what a
// node has not committed by then, it never will.

const (
	// leaseLength is how long a node lives without a sign of life.
	leaseLength = 5 * time.Second
	// renewals is how often a lease is renewed while it lasts.
	renewals = 5
)

// self is this process as a node.
type self struct {
	id    int64 // 0: none, as while data is moved
	lease time.Duration
}

// grace is for how long the lease of a node must have been over for another to take over. When the
// database has been away and comes back all leases are over: whoever is first has to wait for the
// others, which takes as long as a lease (since).
func (s self) grace() time.Duration { return 2 * s.lease / renewals }

// Node implements store.Store.
func (d *DB) Node() int64 { return d.self.id }

// Lost implements store.Store.
func (d *DB) Lost() <-chan struct{} {
	if d.lease == nil {
		return nil
	}
	return d.lease.lost
}

// Hold implements store.Store.
func (d *DB) Hold(ctx context.Context) error {
	if d.lease == nil {
		return nil
	}
	return d.lease.hold(ctx)
}

// lease keeps this process a node.
type lease struct {
	self
	conn *postgresConn
	log  *slog.Logger

	mu      sync.Mutex
	renewed time.Time     // when the last renewal that succeeded began
	again   chan struct{} // closed by the next renewal

	lost chan struct{} // closed when the node has been declared dead
	lose func()
	stop context.CancelFunc
	done chan struct{}
}

const now = "NOW" // in queries: the clock of the database, in milliseconds

const (
	addNode = `INSERT INTO nodes (id, name, owner, lease_until, since, published) VALUES ($1, $2, $3, NOW + $4, NOW, $5)`
	// Who has been without a lease starts anew to count since when it has none.
	renewLease = `UPDATE nodes SET lease_until = NOW + $1, since = CASE WHEN lease_until < NOW THEN NOW ELSE since END WHERE owner = $2 RETURNING id`
	// Whose lease is over for longer than $2, as seen by $1, which has had its own for as long as a lease is.
	listNodes = `SELECT n.id, n.name, n.owner, n.published, CASE WHEN n.id <> $1 AND n.lease_until + $2 < NOW
		AND EXISTS (SELECT 1 FROM nodes m WHERE m.id = $1 AND m.since + $3 < NOW) THEN 1 ELSE 0 END FROM nodes n ORDER BY n.id`
	takeOver = `UPDATE nodes AS n SET owner = $1, lease_until = NOW + $2 WHERE n.id = $3 AND n.id <> $1
		AND (n.owner = $1 OR n.lease_until + $4 < NOW AND EXISTS (SELECT 1 FROM nodes m WHERE m.id = $1 AND m.since + $2 < NOW))`
	announce            = `INSERT INTO announcements (id, node, at, text) VALUES ($1, $2, NOW, $3)`
	listAnnouncements   = `SELECT id, node, text FROM announcements WHERE id > $1 ORDER BY id LIMIT $2`
	forgetAnnouncements = `DELETE FROM announcements WHERE at < NOW - $1`
	removeNode          = `DELETE FROM nodes WHERE id = $1 AND owner = $2`
	leave               = `DELETE FROM nodes WHERE id = $1 AND published >= $2`
	endLeases           = `UPDATE nodes SET lease_until = 0 WHERE owner = $1`
	forget              = `DELETE FROM commits WHERE process = $1`
)

// timed puts the clock of the database into a query.
func (c *conn) timed(query string) string { return strings.ReplaceAll(query, now, c.now()) }

// register makes this process a node, with a number from the sequence.
func (d *DB) register(ctx context.Context, s *server, cfg Config) error {
	name := cfg.Name
	if name == "" {
		var err error
		if name, err = os.Hostname(); err != nil {
			return err
		}
	}
	id, length := int64(0), cmp.Or(cfg.Lease, leaseLength)
	began := time.Now()
	t := &tx{reader: reader{d.writer, d.self}}
	err := d.transact(ctx, t, func(store.Tx) error {
		id = max(t.state.sequence, store.FirstNode) + 1
		t.state.sequence = id
		_, err := t.exec(t.c.timed(addNode), id, name, id, length.Milliseconds(), t.state.journal)
		return err
	})
	if err != nil {
		return fmt.Errorf("register as a node: %w", err)
	}
	d.self = self{id, length}
	s.node = id
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	l := &lease{self: d.self, conn: newPostgresConn(s), log: d.log, renewed: began, again: make(chan struct{}), lost: make(chan struct{}), stop: stop, done: make(chan struct{})}
	l.lose = sync.OnceFunc(func() {
		l.log.Error("this server has been declared dead by another, and ends", "node", l.id)
		close(l.lost)
	})
	d.lease = l
	go l.run(ctx)
	return nil
}

// run renews the lease until ctx ends or the node is dead.
func (l *lease) run(ctx context.Context) {
	defer close(l.done)
	ticker := time.NewTicker(l.lease / renewals)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.lost:
			return
		case <-ticker.C:
		}
		began := time.Now()
		own, err := l.renew()
		switch {
		case err != nil:
			l.log.Debug("renew the lease of this node", "node", l.id, "err", err)
		case !own:
			l.lose()
		default:
			l.mu.Lock()
			l.renewed = began
			close(l.again)
			l.again = make(chan struct{})
			l.mu.Unlock()
		}
	}
}

// renew prolongs the leases of all nodes that this one answers for, and reports whether it is one of them.
func (l *lease) renew() (own bool, err error) {
	query := (&conn{l.conn}).timed(renewLease)
	err = l.conn.start(l.lease/2, func() error {
		own = false
		return l.conn.sendOne(query, 0, bindAll([]any{l.lease.Milliseconds(), l.id}), command{scan: func(_ int, r *row) error {
			own = own || r.int() == l.id
			return nil
		}})
	})
	return own, err
}

// hold waits for a lease that is not over.
func (l *lease) hold(ctx context.Context) error {
	for {
		l.mu.Lock()
		held, again := time.Since(l.renewed) < l.lease, l.again
		l.mu.Unlock()
		select {
		case <-l.lost:
			return store.ErrFenced
		default:
		}
		if held {
			return nil
		}
		select {
		case <-l.lost:
		case <-again:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// leave ends being a node, after the last transaction. What is not published is left to others, who
// need not wait for the lease to end.
func (d *DB) leave(ctx context.Context) {
	l := d.lease
	l.stop()
	<-l.done
	if err := l.conn.close(); err != nil {
		d.log.DebugContext(ctx, "close the connection of the lease", "err", err)
	}
	select {
	case <-l.lost:
		return
	default:
	}
	err := d.transact(ctx, &tx{reader: reader{d.writer, d.self}, state: d.state}, func(w store.Tx) error {
		t := w.(*tx)
		gone, err := t.exec(leave, l.id, d.appended)
		if err == nil && gone > 0 {
			_, err = t.exec(forget, l.id)
			t.c.driver.(*postgresConn).node = 0 // and is not written down again
		}
		if err == nil {
			_, err = t.exec(endLeases, l.id)
		}
		return err
	})
	if err != nil {
		d.log.WarnContext(ctx, "this node could not say that it ends: others will notice", "node", l.id, "err", err)
	}
}

// Nodes implements store.NodeReader.
func (r reader) Nodes() (list []store.Node, err error) {
	err = r.c.list(r.c.timed(listNodes), func(row *row) error {
		list = append(list, store.Node{ID: row.int(), Name: row.text(), Owner: row.int(), Published: row.int(), Dead: row.bool()})
		return nil
	}, r.self.id, r.self.grace().Milliseconds(), r.self.lease.Milliseconds())
	return list, err
}

// TakeOver implements store.NodeWriter.
func (t *tx) TakeOver(node int64) (bool, error) {
	n, err := t.exec(t.c.timed(takeOver), t.self.id, t.self.lease.Milliseconds(), node, t.self.grace().Milliseconds())
	return n > 0, err
}

// RemoveNode implements store.NodeWriter.
func (t *tx) RemoveNode(node int64) error {
	n, err := t.exec(removeNode, node, t.self.id)
	if err != nil || n == 0 {
		return err
	}
	_, err = t.exec(forget, node)
	return err
}

// announcementLife is longer than a node lives that does not hear of anything.
const announcementLife = 10 * time.Minute

// Announcements implements store.NodeReader.
func (r reader) Announcements(after int64, limit int) (list []store.Announcement, err error) {
	err = r.c.list(listAnnouncements, func(row *row) error {
		list = append(list, store.Announcement{ID: row.int(), Node: row.int(), Text: row.text()})
		return nil
	}, after, limit)
	return list, err
}

// Announce implements store.NodeWriter.
func (t *tx) Announce(text string) error {
	if t.self.id == store.FirstNode {
		return nil
	}
	id, err := t.Sequence(1)
	if err != nil {
		return err
	}
	return t.later(t.c.timed(announce), 1, bindAll([]any{id, t.self.id, text}))
}

// ForgetAnnouncements implements store.NodeWriter.
func (t *tx) ForgetAnnouncements() error {
	_, err := t.exec(t.c.timed(forgetAnnouncements), announcementLife.Milliseconds())
	return err
}

const agreement = "agreement" // in settings

// Agreement implements store.NodeReader.
func (r reader) Agreement() (string, error) { return r.setting(agreement) }

// SaveAgreement implements store.NodeWriter.
func (t *tx) SaveAgreement(text string) error { return t.saveSetting(agreement, text) }
