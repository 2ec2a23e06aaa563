package sqlstore

import (
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"drover/internal/iot"
	"drover/internal/store"
	"drover/internal/store/storetest"
)

type storeTx = store.Tx

func openInternal(t *testing.T) *DB {
	t.Helper()
	d, err := Open(t.Context(), Config{Path: filepath.Join(t.TempDir(), "drover.db")})
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

func insertThings(things []*iot.Thing) func(store.Tx) error {
	return func(tx store.Tx) error { return tx.InsertThings(things) }
}

// The numbers of job statuses are in databases: the list may grow at its end only.
func TestRank(t *testing.T) {
	t.Parallel()
	for status, want := range map[iot.JobStatus]int64{
		iot.JobInProgress: 1, iot.JobScheduled: 2, iot.JobCompleted: 3, iot.JobCanceled: 4, iot.JobDeletionInProgress: 5, "": 0,
	} {
		if got := rank(status); got != want {
			t.Errorf("rank(%q) = %d, want %d", status, got, want)
		}
	}
}

// collector remembers the queries that were run on a DB when it is closed.
type collector struct {
	*DB
	mu      *sync.Mutex
	queries map[string]bool
}

func (c collector) Close() error {
	select {
	case <-c.closed:
		return c.DB.Close()
	default:
	}
	c.writing <- struct{}{}
	c.collect(c.writer)
	<-c.writing
	r := <-c.readers
	c.collect(r)
	c.readers <- r
	return c.DB.Close()
}

func (c collector) collect(from *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for query := range from.driver.(*sqliteConn).prepared {
		c.queries[query] = true
	}
}

// TestPlans asks SQLite how it carries out every query that the suite runs: each must find
// its rows by a key and in order, so that its cost does not grow with the tables.
func TestPlans(t *testing.T) {
	t.Parallel()
	collected := collector{mu: new(sync.Mutex), queries: make(map[string]bool)}
	t.Run("suite", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T, dir string) store.Store {
			d, err := Open(t.Context(), Config{Path: filepath.Join(dir, "drover.db"), Readers: 1})
			if err != nil {
				t.Fatal(err)
			}
			return collector{d, collected.mu, collected.queries}
		})
	})
	if len(collected.queries) < 80 {
		t.Errorf("only %d queries were collected", len(collected.queries))
	}
	d := openInternal(t)
	for query := range collected.queries {
		err := d.writer.list("EXPLAIN QUERY PLAN "+query, func(r *row) error {
			r.col = 3
			if step := r.text(); !fine(query, step) {
				t.Errorf("%s\n\tin %s", step, query)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// fine reports whether a step of the plan of a query costs no more than its result.
func fine(query, step string) bool {
	switch {
	case strings.HasPrefix(step, "SCAN"):
		return step == "SCAN CONSTANT ROW" || strings.HasSuffix(step, "-ROW VALUES CLAUSE") ||
			query == descendants && (step == "SCAN b" || step == "SCAN below") || // what has been found so far
			query == groups || // in the order of the index, with a limit
			query == countTemplates || // a hundred at most
			query == allAuthorizers || // ten at most
			query == allKeys || // a thousand at most, at the start of a server
			strings.HasPrefix(step, "SCAN mqtt_") && !strings.Contains(query, "WHERE") || // the broker's start reads it all
			strings.Contains(step, "jobs_by_due") || // the first of the index
			strings.Contains(step, "ghosts_by_name") // is there any?
	case strings.Contains(step, "TEMP B-TREE"):
		return query == executionsOfThing || // as many as the thing has had jobs
			query == groupsOfThing || // as many as the thing is in
			query == descendants
	}
	return true
}
