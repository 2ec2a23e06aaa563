package sqlstore

import (
	"fmt"

	"drover/internal/iot"
)

const (
	queueByName = `SELECT t.id, q.body FROM things t LEFT JOIN queues q ON q.thing_id = t.id WHERE t.name = $1 AND t.deleted = 0`
	queueByID   = `SELECT t.name, q.body FROM things t LEFT JOIN queues q ON q.thing_id = t.id WHERE t.id = $1`
	queueOf     = `SELECT body FROM queues WHERE thing_id = $1`
	saveQueue   = `INSERT INTO queues (thing_id, body) VALUES ($1, $2) ON CONFLICT (thing_id) DO UPDATE SET body = excluded.body`
	deleteQueue = `DELETE FROM queues WHERE thing_id = $1`
)

// neighbours is how many queues at once are a rollout's and not a batch of devices'.
const neighbours = 1000

// Queues implements store.QueueReader.
func (r reader) Queues(things []iot.ThingName) ([]iot.Queue, error) {
	queues := make([]iot.Queue, len(things))
	err := r.c.read(queueByName, len(things),
		func(i int, a *args) { a.text(string(things[i])) },
		func(i int, row *row) (err error) {
			queues[i].ThingID = row.int()
			queues[i].Entries, err = queueBody(row.blob(), queues[i].ThingID, things[i])
			return err
		})
	for i := range queues {
		queues[i].Thing = things[i]
	}
	return queues, err
}

// QueuesByID implements store.QueueReader. An id that no thing has or had gives an empty
// queue without a name.
func (r reader) QueuesByID(things []int64) ([]iot.Queue, error) {
	queues := make([]iot.Queue, len(things))
	err := r.c.read(queueByID, len(things),
		func(i int, a *args) { a.int(things[i]) },
		func(i int, row *row) (err error) {
			queues[i].Thing = iot.ThingName(row.text())
			queues[i].Entries, err = queueBody(row.blob(), things[i], queues[i].Thing)
			return err
		})
	for i := range queues {
		queues[i].ThingID = things[i]
	}
	return queues, err
}

// QueuesOf implements store.QueueReader. A rollout reads as many queues as it creates executions, most
// of them empty, and looking their things up again by name was a tenth of its time.
func (r reader) QueuesOf(members []iot.Member) ([]iot.Queue, error) {
	queues := make([]iot.Queue, len(members))
	for i, m := range members {
		queues[i].ThingID, queues[i].Thing = m.ThingID, m.Thing
	}
	return queues, r.c.read(queueOf, len(members),
		func(i int, a *args) { a.int(members[i].ThingID) },
		func(i int, row *row) (err error) {
			queues[i].Entries, err = queueBody(row.blob(), members[i].ThingID, members[i].Thing)
			return err
		})
}

// queueBody decodes the body of a row of queues; "" stands for no row.
func queueBody(body string, id int64, thing iot.ThingName) ([]iot.Execution, error) {
	if body == "" {
		return nil, nil
	}
	entries, err := decodeQueue(body, id, thing)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: queue of thing %s (%d): %w", thing, id, err)
	}
	return entries, nil
}

// SaveQueues implements store.QueueWriter.
func (t *tx) SaveQueues(queues []iot.Queue) error {
	var empty, full []*iot.Queue
	bodies := make([]int, 0, len(queues)+1) // where each body starts in t.buf
	t.buf = t.buf[:0]
	for i := range queues {
		q := &queues[i]
		if q.ThingID == 0 {
			return t.failing(fmt.Errorf("sqlstore: save the queue of thing %q, which is not registered", q.Thing))
		}
		if len(q.Entries) == 0 {
			empty = append(empty, q)
			continue
		}
		bodies = append(bodies, len(t.buf))
		full = append(full, q)
		var err error
		if t.buf, err = appendQueue(t.buf, q.Entries); err != nil {
			return t.failing(fmt.Errorf("queue of thing %s: %w", q.Thing, err))
		}
	}
	bodies = append(bodies, len(t.buf))
	bind := func(i int, a *args) {
		a.int(full[i].ThingID)
		a.blob(t.buf[bodies[i]:bodies[i+1]])
	}
	// For a statement of many rows SQLite keeps a copy of every page it touches, in case it
	// fails. That pays where rows share pages, as those of a rollout do; devices are anywhere.
	var err error
	if len(full) < neighbours {
		err = t.later(saveQueue, len(full), bind)
	} else {
		err = t.insertLater(saveQueue, len(full), bind)
	}
	if err != nil {
		return err
	}
	return t.later(deleteQueue, len(empty), func(i int, a *args) { a.int(empty[i].ThingID) })
}
