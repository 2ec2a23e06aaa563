package sqlstore

import (
	"encoding/json"
	"fmt"

	"drover/internal/iot"
)

// The flags of a row of journal.
const (
	flagList = 1 << iota
	flagNext
	flagExecution
)

const (
	insertRecord = `INSERT INTO journal (id, at, kind, actor, job_id, flags, body, node) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`
	lastRecord   = `SELECT max(id) FROM journal`
	records      = `SELECT id, at, kind, actor, job_id, flags, body FROM journal WHERE id > $1 ORDER BY id LIMIT $2`
	// Whose node is gone has been published.
	oldestRecords = `SELECT j.id, j.at, CASE WHEN n.published < j.id THEN 0 ELSE 1 END, (SELECT max(id) FROM journal)
		FROM journal j LEFT JOIN nodes n ON n.id = j.node WHERE j.id > 0 ORDER BY j.id LIMIT $1`
	recordsOf = `SELECT id, at, kind, actor, job_id, flags, body FROM journal WHERE id > $1 AND node = $2 ORDER BY id LIMIT $3`
)

// Records implements store.JournalReader.
func (r reader) Records(node, after int64, limit int) (list []iot.Record, err error) {
	query, values := recordsOf, []any{after, node, limit}
	if node == 0 {
		query, values = records, []any{after, limit}
	}
	err = r.c.list(query, func(row *row) error {
		rec := iot.Record{ID: row.int(), At: row.time(), Kind: iot.Kind(row.text()), Actor: row.text(), JobID: iot.JobID(row.text())}
		flags, body := row.int(), row.blob()
		rec.List, rec.Next = flags&flagList != 0, flags&flagNext != 0
		if flags&flagExecution == 0 {
			if body != "" {
				rec.Data = json.RawMessage(body)
			}
		} else if rec.Execution, err = decodeRecord(body, rec.JobID); err != nil {
			return fmt.Errorf("sqlstore: record %d of the journal: %w", rec.ID, err)
		}
		list = append(list, rec)
		return nil
	}, values...)
	return list, err
}

// Append implements store.JournalWriter.
func (t *tx) Append(records ...iot.Record) error {
	var bad error
	first := len(t.records)
	t.records = append(t.records, records...)
	err := t.insertLater(insertRecord, len(records), func(i int, a *args) {
		r := &t.records[first+i]
		t.state.journal++
		r.ID = t.state.journal
		var flags int64
		if r.List {
			flags |= flagList
		}
		if r.Next {
			flags |= flagNext
		}
		body := []byte(r.Data)
		if r.Execution != nil {
			flags |= flagExecution
			var err error
			if t.buf, err = appendRecord(t.buf[:0], r.Execution); err != nil && bad == nil {
				bad = err
			}
			body = t.buf
		}
		a.int(r.ID)
		a.time(r.At)
		a.text(string(r.Kind))
		a.text(r.Actor)
		a.text(string(r.JobID))
		a.int(flags)
		a.blob(body)
		a.int(t.self.id)
	})
	if err == nil {
		err = t.failing(bad)
	}
	return err
}

// TrimJournal implements store.JournalWriter. Records are in the order of their times, but for a clock
// that is set back: the first one that has to stay keeps those behind it.
func (t *tx) TrimJournal(before iot.Time, limit int) (n int, err error) {
	gone, stays := int64(0), false
	err = t.c.list(oldestRecords, func(row *row) error {
		id, at, published, latest := row.int(), row.time(), row.bool(), row.int()
		if stays = stays || at >= before || !published || id == latest; !stays {
			gone = id
			n++
		}
		return nil
	}, limit)
	if err != nil || n == 0 {
		return 0, err
	}
	_, err = t.bulk(`DELETE FROM journal WHERE id <= $1`, 1, func(_ int, a *args) { a.int(gone) })
	return n, err
}

// LastRecord implements store.JournalReader.
func (r reader) LastRecord() (int64, error) { return r.c.number(lastRecord) }

// Published implements store.JournalReader.
func (r reader) Published(node int64) (int64, error) {
	return r.c.number(`SELECT published FROM nodes WHERE id = $1`, node)
}

// SetPublished implements store.JournalWriter.
func (t *tx) SetPublished(node, position int64) error {
	return t.change(`UPDATE nodes SET published = $1 WHERE id = $2`, position, node)
}
