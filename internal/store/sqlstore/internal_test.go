package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"drover/internal/envtest"
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
	if raced {
		return // plans are the same, and the suite runs under the race detector anyway
	}
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

// betweenNodes are queries that nobody asks SQLite.
var betweenNodes = append([]string{sessionsOfNode, groupsOfNode, willsOfNode, willsElsewhere, entriesOf, messagesOf}, releaseNode...)

// fine reports whether a step of the plan of a query costs no more than its result.
func fine(query, step string) bool {
	switch {
	case strings.HasPrefix(step, "SCAN"):
		return step == "SCAN CONSTANT ROW" || strings.HasSuffix(step, "-ROW VALUES CLAUSE") ||
			query == descendants && (step == "SCAN b" || step == "SCAN below") || // what has been found so far
			query == groups || // in the order of the index, with a limit
			query == countTemplates || // a hundred at most
			query == allAuthorizers || // ten at most
			strings.HasPrefix(query, "SELECT n.id") || // nodes: as many as processes
			query == allKeys || // a thousand at most, at the start of a server
			query == allUsers || // a thousand at most
			strings.HasPrefix(step, "SCAN mqtt_") && !strings.Contains(query, "WHERE") || // the broker's start reads it all
			slices.Contains(betweenNodes, query) || // there is one
			strings.Contains(step, "jobs_by_due") || // the first of the index
			strings.Contains(step, "ghosts_by_name") // is there any?
	case strings.Contains(step, "TEMP B-TREE"):
		return query == mqttNodes || // a node at its start and when another is gone
			query == executionsOfThing || // as many as the thing has had jobs
			query == groupsOfThing || // as many as the thing is in
			query == descendants
	}
	return true
}

// planner asks PostgreSQL how it carries out the queries that were run on a DB when it is closed.
type planner struct {
	*DB
	t     *testing.T
	asked *sync.Map // by query
}

func (p planner) Close() error {
	select {
	case <-p.closed:
		return p.DB.Close()
	default:
	}
	p.writing <- struct{}{}
	p.ask(p.writer)
	<-p.writing
	r := <-p.readers
	p.ask(r)
	p.readers <- r
	return p.DB.Close()
}

func (p planner) ask(from *conn) {
	c := from.driver.(*postgresConn)
	for query, statement := range c.statements {
		verb, _, _ := strings.Cut(query, " ")
		if !slices.Contains([]string{"SELECT", "INSERT", "UPDATE", "DELETE"}, verb) {
			continue
		}
		if _, known := p.asked.LoadOrStore(query, true); known {
			continue
		}
		values := strings.TrimSuffix(strings.Repeat("NULL, ", len(statement.ParamOIDs)), ", ")
		if values != "" {
			values = "(" + values + ")"
		}
		results, err := c.c.Exec(context.Background(), "EXPLAIN EXECUTE "+statement.Name+values).ReadAll()
		if err != nil {
			p.t.Error(err)
			continue
		}
		for i, line := range results[0].Rows {
			step, next := string(line[0]), ""
			if i+1 < len(results[0].Rows) {
				next = string(results[0].Rows[i+1][0])
			}
			if !finePostgres(query, step, next) {
				p.t.Errorf("%s\n\tin %s", step, query)
			}
		}
	}
}

// finePostgres reports whether a step of the plan of a query, before the next line, costs no more
// than its result.
func finePostgres(query, step, next string) bool {
	switch {
	case !strings.Contains(step, " Scan"), strings.Contains(step, "Function Scan"), strings.Contains(step, "Subquery Scan"), strings.Contains(next, "Index Cond"),
		strings.Contains(step, " on nodes n"),                                                 // see fine
		strings.Contains(step, "schema_version"),                                              // one row
		query == countTemplates, query == allAuthorizers, query == allKeys, query == allUsers, // see fine
		strings.Contains(step, "jobs_by_due"), strings.Contains(step, "executions_by_due"), strings.Contains(step, "commands_by_due"), strings.Contains(step, "ghosts_by_name"),
		strings.Contains(step, " on mqtt_") && !strings.Contains(query, "WHERE"):
		return true
	}
	return false
}

// TestPlansPostgreSQL is TestPlans on the other database, which has queries also in the form for
// many rows: whatever is scanned is scanned by a condition on an index.
func TestPlansPostgreSQL(t *testing.T) {
	if raced {
		return // plans are the same, and the suite runs under the race detector anyway
	}
	t.Parallel()
	asked := new(sync.Map)
	t.Run("suite", func(t *testing.T) {
		url := envtest.PostgreSQL(t)
		var schemas sync.Map
		next := atomic.Int64{}
		storetest.Run(t, func(t *testing.T, dir string) store.Store {
			name, known := schemas.LoadOrStore(dir, fmt.Sprintf("schema%d", next.Add(1)))
			s, err := newServer(url, slog.Default())
			if err != nil {
				t.Fatal(err)
			}
			if !known {
				c, err := s.connect(t.Context())
				if err == nil {
					err = errors.Join(run(t.Context(), c, "CREATE SCHEMA "+name.(string)), c.Close(t.Context()))
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			d, err := Open(t.Context(), Config{URL: url + "&search_path=" + name.(string), Readers: 1})
			if err != nil {
				t.Fatal(err)
			}
			return planner{d, t, asked}
		})
	})
	n := 0
	asked.Range(func(any, any) bool { n++; return true })
	if n < 120 {
		t.Errorf("only %d queries were asked about", n)
	}
}
