package sqlstore_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"

	_ "modernc.org/sqlite"

	"drover/internal/iot"
)

// BenchmarkPlainSQL is what BenchmarkHotPath is measured against: the same operations,
// equally durable, in batches of the same size and on the same SQLite, but as one would
// write it first: through database/sql with prepared statements, one indexed row per
// execution, the queue read by a SELECT.
func BenchmarkPlainSQL(b *testing.B) {
	p := newPlain(b, *fleetSize)
	cycle(b, p.names, p.fill, p.operate, nil)
}

type plain struct {
	b                                     *testing.B
	db                                    *sql.DB
	selectQueue, update, count, appending *sql.Stmt
	names                                 []string
	job                                   int
}

func newPlain(b *testing.B, size int) *plain {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(b.TempDir(), "plain.db")+
		"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=cache_size(-65536)&_txlock=immediate")
	p := &plain{b: b, db: db}
	p.must(err)
	b.Cleanup(func() { p.must(db.Close()) })
	db.SetMaxOpenConns(1)
	_, err = db.Exec(`
		CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
		CREATE TABLE executions (
			id INTEGER PRIMARY KEY, job TEXT NOT NULL, thing_id INTEGER NOT NULL, number INTEGER NOT NULL, status TEXT NOT NULL,
			version INTEGER NOT NULL, details TEXT NOT NULL, queued_at INTEGER NOT NULL, started_at INTEGER NOT NULL,
			updated_at INTEGER NOT NULL, UNIQUE (thing_id, job, number));
		CREATE INDEX executions_by_thing ON executions (thing_id, status, queued_at);
		CREATE INDEX executions_by_job ON executions (job, status);
		CREATE TABLE job_counts (job TEXT NOT NULL, status TEXT NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (job, status));
		CREATE TABLE journal (
			id INTEGER PRIMARY KEY, at INTEGER NOT NULL, kind TEXT NOT NULL, actor TEXT NOT NULL, job TEXT NOT NULL,
			thing TEXT NOT NULL, status TEXT NOT NULL, version INTEGER NOT NULL, details TEXT NOT NULL)`)
	p.must(err)
	p.selectQueue = p.prepare(`SELECT e.id, e.job, e.number, e.status, e.version, e.details, e.queued_at, e.started_at, e.updated_at
		FROM executions e JOIN things t ON t.id = e.thing_id WHERE t.name = ? AND e.status IN ('QUEUED', 'IN_PROGRESS')
		ORDER BY e.status, e.queued_at, e.id`)
	p.update = p.prepare(`UPDATE executions SET status = ?, version = ?, details = ?, started_at = ?, updated_at = ? WHERE id = ?`)
	p.count = p.prepare(`INSERT INTO job_counts (job, status, n) VALUES (?, ?, ?) ON CONFLICT (job, status) DO UPDATE SET n = n + excluded.n`)
	p.appending = p.prepare(`INSERT INTO journal (at, kind, actor, job, thing, status, version, details) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`)
	for range size {
		p.names = append(p.names, fmt.Sprintf("pump-%08d", len(p.names)))
	}
	p.transact(func(tx *sql.Tx) {
		insert, err := tx.Prepare(`INSERT INTO things (name) VALUES (?)`)
		p.must(err)
		for _, n := range p.names {
			_, err := insert.Exec(n)
			p.must(err)
		}
	})
	return p
}

func (p *plain) must(err error) {
	p.b.Helper()
	if err != nil {
		p.b.Fatal(err)
	}
}

func (p *plain) prepare(query string) *sql.Stmt {
	s, err := p.db.Prepare(query)
	p.must(err)
	p.b.Cleanup(func() { p.must(s.Close()) })
	return s
}

func (p *plain) transact(f func(tx *sql.Tx)) {
	tx, err := p.db.Begin()
	p.must(err)
	f(tx)
	p.must(tx.Commit())
}

func (p *plain) fill() {
	p.job++
	p.transact(func(tx *sql.Tx) {
		_, err := tx.Exec(`INSERT INTO executions (job, thing_id, number, status, version, details, queued_at, started_at, updated_at)
			SELECT ?, id, 1, 'QUEUED', 1, '', ?, 0, ? FROM things`, fmt.Sprintf("update-%04d", p.job), int64(start), int64(start))
		p.must(err)
	})
}

// operate carries out one operation on the head of each thing's queue, in one transaction.
func (p *plain) operate(op operation, names []string) {
	p.transact(func(tx *sql.Tx) {
		selectQueue, update, count, appending := tx.Stmt(p.selectQueue), tx.Stmt(p.update), tx.Stmt(p.count), tx.Stmt(p.appending)
		type key struct {
			job    string
			status string
		}
		deltas := make(map[key]int)
		for _, name := range names {
			var id int64
			var e iot.Execution
			var job, status, details string
			row := selectQueue.QueryRow(name)
			p.must(row.Scan(&id, &job, &e.Number, &status, &e.Version, &details, &e.QueuedAt, &e.StartedAt, &e.UpdatedAt))
			e.Status = iot.ParseExecutionStatus(status)
			if details != "" {
				p.must(json.Unmarshal([]byte(details), &e.Details))
			}
			e.To(op.status, start+1)
			if op.details != nil {
				e.Details = op.details
			}
			text := []byte{}
			if e.Details != nil {
				var err error
				text, err = json.Marshal(e.Details)
				p.must(err)
			}
			now := e.Status.String()
			_, err := update.Exec(now, e.Version, string(text), int64(e.StartedAt), int64(e.UpdatedAt), id)
			p.must(err)
			if now != status {
				deltas[key{job, status}]--
				deltas[key{job, now}]++
			}
			_, err = appending.Exec(int64(e.UpdatedAt), "execution.changed", "thing:"+name, job, name, now, e.Version, string(text))
			p.must(err)
		}
		for k, n := range deltas {
			_, err := count.Exec(k.job, k.status, n)
			p.must(err)
		}
	})
}
