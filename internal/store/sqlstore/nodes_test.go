package sqlstore

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"testing"
	"time"

	"drover/internal/envtest"
	"drover/internal/iot"
	"drover/internal/store"
)

// shortLease makes the tests short.
const shortLease = 500 * time.Millisecond

func openNode(t *testing.T, url string) *DB {
	t.Helper()
	d, err := Open(t.Context(), Config{URL: url, Lease: shortLease, Name: t.Name(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// die ends the signs of life of a node, as those of a process that is paused.
func die(d *DB) {
	d.lease.stop()
	<-d.lease.done
}

func appendOne(tx store.Tx) error { return tx.Append(iot.Record{Kind: iot.ThingCreated}) }

func nodes(t *testing.T, d *DB) (list map[int64]store.Node) {
	t.Helper()
	list = make(map[int64]store.Node)
	err := d.View(context.Background(), func(r store.Reader) error {
		all, err := r.Nodes()
		for _, n := range all {
			list[n.ID] = n
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// until waits for a condition.
func until(t *testing.T, what string, met func() bool) {
	t.Helper()
	tick := time.NewTicker(shortLease / 20)
	defer tick.Stop()
	for deadline := time.After(30 * time.Second); !met(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("waited in vain for: " + what)
		}
	}
}

func takenOver(t *testing.T, d *DB, node int64) (mine bool) {
	t.Helper()
	if err := d.Update(context.Background(), func(tx store.Tx) (err error) {
		mine, err = tx.TakeOver(node)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return mine
}

// TestNodeDies: exactly one of the others takes over from a node that gives no sign of life, and
// what that does afterwards does not count.
func TestNodeDies(t *testing.T) {
	t.Parallel()
	url := envtest.PostgreSQL(t)
	a, b, c := openNode(t, url), openNode(t, url), openNode(t, url)
	if a.Node() == b.Node() || b.Node() == c.Node() || a.Node() <= store.FirstNode {
		t.Fatalf("nodes %d, %d, %d", a.Node(), b.Node(), c.Node())
	}
	if err := a.Update(t.Context(), appendOne); err != nil {
		t.Fatal(err)
	}
	if takenOver(t, b, a.Node()) {
		t.Fatal("a node that lives was taken over")
	}
	die(a)
	until(t, "death", func() bool { return nodes(t, b)[a.Node()].Dead })
	if err := a.Update(t.Context(), appendOne); err != nil {
		t.Errorf("a node that nobody has taken over yet: %v", err)
	}
	if !takenOver(t, b, a.Node()) || takenOver(t, c, a.Node()) || !takenOver(t, b, a.Node()) {
		t.Fatal("not exactly one has taken over")
	}
	select {
	case <-a.Lost():
		t.Error("the node knows it already")
	default:
	}
	for range 2 {
		err := a.Update(t.Context(), func(store.Tx) error { t.Error("a dead node works"); return nil })
		if !errors.Is(err, store.ErrFenced) || iot.ErrorCode(err) != iot.Unavailable {
			t.Errorf("update of a dead node: %v", err)
		}
	}
	<-a.Lost()
	if err := a.Hold(t.Context()); !errors.Is(err, store.ErrFenced) {
		t.Errorf("hold of a dead node: %v", err)
	}
	if n := nodes(t, c)[a.Node()]; n.Owner != b.Node() || n.Name != t.Name() {
		t.Errorf("node %+v", n)
	}

	// Who takes over may die as well.
	die(b)
	until(t, "the heir's death", func() bool { return nodes(t, c)[a.Node()].Dead && nodes(t, c)[b.Node()].Dead })
	if !takenOver(t, c, a.Node()) || !takenOver(t, c, b.Node()) {
		t.Error("nobody takes over from who took over")
	}
	if err := c.Update(t.Context(), func(tx store.Tx) error { return errors.Join(tx.RemoveNode(a.Node()), tx.RemoveNode(b.Node())) }); err != nil {
		t.Fatal(err)
	}
	if list := nodes(t, c); len(list) != 2 || list[c.Node()].Owner != c.Node() { // and number 1, which was never there
		t.Errorf("nodes %v", list)
	}
}

// TestNodeLeaves: who ends in order leaves its row only as long as there is something to publish,
// and then nobody has to wait for its lease.
func TestNodeLeaves(t *testing.T) {
	t.Parallel()
	url := envtest.PostgreSQL(t)
	open := func() *DB {
		d, err := Open(t.Context(), Config{URL: url, Lease: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	witness := openNode(t, url)
	for _, published := range []bool{true, false} {
		d := open()
		err := d.Update(t.Context(), appendOne)
		if err == nil && published {
			err = d.Update(t.Context(), func(tx store.Tx) error { return tx.SetPublished(d.Node(), d.appended) })
		}
		if err := errors.Join(err, d.Close()); err != nil {
			t.Fatal(err)
		}
		n, left := nodes(t, witness)[d.Node()]
		if left == published {
			t.Errorf("published: %t, row left: %t", published, left)
		}
		if left {
			until(t, "death", func() bool { return nodes(t, witness)[n.ID].Dead })
		}
	}
	if n, err := counted(t, witness, `SELECT count(*) FROM commits`); err != nil || n > 2 {
		t.Errorf("%d commits are remembered, %v", n, err)
	}
}

func counted(t *testing.T, d *DB, query string) (n int64, err error) {
	t.Helper()
	err = d.view(t.Context(), func(c *conn) error {
		n, err = c.number(query)
		return err
	})
	return n, err
}

// TestNodesAwayTogether: when the database has been away for longer than a lease, nobody is dead.
func TestNodesAwayTogether(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	a, b := openNode(t, p.url), openNode(t, p.url)
	u, err := url.Parse(p.url)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	query.Set("host", p.target[:len(p.target)-len(socketName)-1])
	u.RawQuery = query.Encode()
	witness := openNode(t, u.String()) // is not cut off
	die(witness)                       // and looks on
	p.set(refuse)
	<-time.After(shortLease) // nothing tells that a lease is over but the time
	ctx, cancel := context.WithTimeout(t.Context(), shortLease/5)
	defer cancel()
	if err := a.Hold(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("hold without a lease: %v", err)
	}
	p.set(pass)
	until(t, "life", func() bool { return a.Hold(t.Context()) == nil && b.Hold(t.Context()) == nil })
	until(t, "the patience of the living", func() bool { return nodes(t, a)[witness.Node()].Dead })
	if nodes(t, a)[b.Node()].Dead || nodes(t, b)[a.Node()].Dead {
		t.Error("dead after the database was away")
	}
	if err := errors.Join(a.Update(t.Context(), appendOne), b.Update(t.Context(), appendOne)); err != nil {
		t.Error(err)
	}
}
