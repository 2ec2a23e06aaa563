package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"drover/internal/engine"
	"drover/internal/envtest"
	"drover/internal/iot"
	"drover/internal/store"
	"drover/internal/store/sqlstore"
)

// node is an engine on a database that others work on.
type node struct {
	*engine.Engine
	db     *sqlstore.DB
	stop   context.CancelFunc
	result chan error

	mu      sync.Mutex
	records []iot.Record // guarded by mu: what was published
}

// newNode starts an engine. before is called before records are published; it may be nil.
func newNode(t *testing.T, cfg sqlstore.Config, before func()) *node {
	t.Helper()
	db, err := sqlstore.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{db: db, result: make(chan error, 1)}
	n.Engine, err = engine.New(engine.Config{
		Store: db, Realm: iot.Realm{Account: "123456789012", Region: "eu-central-1"}, ChunkSize: 10, BatchSize: 10, Poll: 50 * time.Millisecond,
		Publish: func(_ context.Context, records []iot.Record) error {
			if before != nil {
				before()
			}
			n.mu.Lock()
			defer n.mu.Unlock()
			n.records = append(n.records, records...)
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	n.stop = stop
	go func() { n.result <- n.Run(ctx) }()
	return n
}

// end stops the node as a server does.
func (n *node) end(t *testing.T) {
	t.Helper()
	n.stop()
	if err := errors.Join(<-n.result, n.db.Close()); err != nil {
		t.Error(err)
	}
}

func (n *node) published() []iot.Record {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.records)
}

// fleet registers things in a group and returns their names.
func (n *node) fleet(t *testing.T, size int) (things []iot.ThingName) {
	t.Helper()
	err := n.db.Update(t.Context(), func(tx store.Tx) error {
		things = nil
		g := &iot.Group{Name: "all", UUID: uuid.NewString(), Version: 1, CreatedAt: 1}
		if err := tx.InsertGroup(g); err != nil {
			return err
		}
		var members []iot.Member
		for i := range size {
			th := &iot.Thing{Name: iot.ThingName(fmt.Sprintf("thing%d", i)), UUID: uuid.NewString(), Version: 1, CreatedAt: 1}
			if err := tx.InsertThings([]*iot.Thing{th}); err != nil {
				return err
			}
			seq, err := tx.Sequence(1)
			if err != nil {
				return err
			}
			members = append(members, iot.Member{GroupID: g.ID, ThingID: th.ID, Thing: th.Name, Seq: seq})
			things = append(things, th.Name)
		}
		_, err := tx.InsertMembers(members)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return things
}

func (n *node) create(t *testing.T, id iot.JobID) {
	t.Helper()
	_, err := n.CreateJob(t.Context(), iot.NewJob{JobID: id, Document: `{}`, Actor: "key:test", Targets: []string{"arn:aws:iot:eu-central-1:123456789012:thinggroup/all"}})
	if err != nil {
		t.Fatal(err)
	}
}

func (n *node) job(t *testing.T, id iot.JobID) (j *iot.Job) {
	t.Helper()
	err := n.db.View(t.Context(), func(r store.Reader) (err error) {
		j, err = r.JobByName(id)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func until(t *testing.T, what string, met func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(30 * time.Second); !met(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("waited in vain for: " + what)
		}
	}
}

// TestNodesTogether: devices that come to any of three nodes, one operation here and the next there,
// get through their jobs, and everything is published once, by the node where it was done.
func TestNodesTogether(t *testing.T) {
	t.Parallel()
	url := envtest.PostgreSQL(t)
	var nodes []*node
	for range 3 {
		nodes = append(nodes, newNode(t, sqlstore.Config{URL: url}, nil))
	}
	things := nodes[0].fleet(t, 100)
	nodes[0].create(t, "first")
	nodes[1].create(t, "second")

	var devices sync.WaitGroup
	for _, thing := range things {
		devices.Go(func() {
			for done := 0; done < 2; {
				where := func() *node { return nodes[rand.IntN(len(nodes))] }
				a, err := where().Do(t.Context(), &iot.Request{Op: iot.OpStartNext, Thing: thing})
				if err != nil {
					t.Error(err)
					return
				}
				if a.Execution == nil { // not rolled out yet
					<-time.After(5 * time.Millisecond)
					continue
				}
				x := a.Execution
				_, err = where().Do(t.Context(), &iot.Request{Op: iot.OpUpdate, Thing: thing, JobID: x.JobID, Status: iot.Succeeded, ExpectedVersion: &x.Version})
				if err != nil {
					t.Error(err)
					return
				}
				done++
			}
		})
	}
	devices.Wait()
	for _, id := range []iot.JobID{"first", "second"} {
		until(t, "the end of the job", func() bool { return nodes[2].job(t, id).Status == iot.JobCompleted })
		if c := nodes[2].job(t, id).Counts; c != (iot.Counts{iot.Succeeded: 100}) {
			t.Errorf("counts of %s: %v", id, c)
		}
	}
	var all []iot.Record
	if err := nodes[0].db.View(t.Context(), func(r store.Reader) (err error) {
		all, err = r.Records(0, 0, 10_000)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var told []int64
	working := 0
	for _, n := range nodes {
		n.end(t)
		var own []int64
		for _, r := range n.published() {
			own = append(own, r.ID)
		}
		if !slices.IsSorted(own) {
			t.Error("a node has not published in the order of the commits")
		}
		if len(own) > 0 {
			working++
		}
		told = append(told, own...)
	}
	slices.Sort(told)
	if len(told) != len(all) || len(slices.Compact(told)) != len(all) || working != 3 {
		t.Errorf("%d records, published %d by %d nodes", len(all), len(told), working)
	}
	if len(all) < 100*2*3 {
		t.Errorf("%d records", len(all))
	}
}

// TestNodeDies: what a node has committed and not published is published by one other, with the lists
// of the devices as they are then; the node notices that it is dead and ends.
func TestNodeDies(t *testing.T) {
	t.Parallel()
	url := envtest.PostgreSQL(t)
	hang := make(chan struct{})
	var hanging sync.Once
	b := newNode(t, sqlstore.Config{URL: url, Lease: 500 * time.Millisecond}, nil)
	defer b.end(t)
	c := newNode(t, sqlstore.Config{URL: url, Lease: 500 * time.Millisecond}, nil)
	defer c.end(t)
	things := b.fleet(t, 3)
	for _, id := range []iot.JobID{"job", "next"} {
		b.create(t, id)
		until(t, "the rollout", func() bool { return b.job(t, id).Counts[iot.Queued] == 3 })
	}

	// It is seldom that this one renews its lease.
	a := newNode(t, sqlstore.Config{URL: url, Lease: time.Hour}, func() { hanging.Do(func() { <-hang }) })
	answered := make(chan error, len(things))
	for _, thing := range things { // in one commit: answers wait for what is published before
		a.Queue(&iot.Request{Op: iot.OpUpdate, Thing: thing, JobID: "job", Status: iot.Succeeded}, func(_ *iot.Answer, err error) { answered <- err })
	}
	a.Flush()
	for range things {
		if err := <-answered; err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Do(t.Context(), &iot.Request{Op: iot.OpUpdate, Thing: things[0], JobID: "next", Status: iot.Succeeded}); err != nil {
		t.Fatal(err)
	}
	envtest.Execute(t, url, fmt.Sprintf("UPDATE nodes SET lease_until = 1 WHERE id = %d", a.db.Node()))

	left := func() (list []iot.Record) {
		for _, n := range []*node{b, c} {
			for _, r := range n.published() {
				if r.Execution != nil && r.JobID == "job" && r.Execution.Status == iot.Succeeded {
					list = append(list, r)
				}
			}
		}
		return list
	}
	until(t, "the heir", func() bool { return len(left()) >= 3 })
	for _, r := range left() {
		pending := 1
		if r.Execution.Thing == things[0] {
			pending = 0 // it was done at another node since
		}
		if len(r.Queue) != pending {
			t.Errorf("%s is told of %v", r.Execution.Thing, r.Queue)
		}
	}
	until(t, "that it is forgotten", func() bool {
		var list []store.Node
		if err := b.db.View(t.Context(), func(r store.Reader) (err error) {
			list, err = r.Nodes()
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return len(list) == 2
	})
	if len(left()) != 3 {
		t.Errorf("%d were published, want 3", len(left()))
	}
	_, err := a.Do(t.Context(), &iot.Request{Op: iot.OpUpdate, Thing: things[1], JobID: "next", Status: iot.Succeeded})
	if iot.ErrorCode(err) != iot.Unavailable {
		t.Errorf("a dead node answers %v", err)
	}
	close(hang)
	if err := <-a.result; !errors.Is(err, store.ErrFenced) {
		t.Errorf("a dead node ended with %v", err)
	}
	if err := a.db.Close(); err != nil {
		t.Error(err)
	}
}
