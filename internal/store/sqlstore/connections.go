package sqlstore

import (
	"drover/internal/iot"
)

const (
	connectionOf   = `SELECT thing_id, node, session, connected, at, reason FROM connections WHERE thing_id = $1`
	connectedTo    = `SELECT thing_id, node, session, connected, at, reason FROM connections WHERE node = $1 AND connected = 1 ORDER BY thing_id LIMIT $2`
	saveConnection = `INSERT INTO connections (thing_id, node, session, connected, at, reason) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (thing_id) DO UPDATE SET node = excluded.node, session = excluded.session, connected = excluded.connected, at = excluded.at, reason = excluded.reason`
)

func scanConnection(r *row) iot.Connection {
	return iot.Connection{ThingID: r.int(), Node: r.int(), Session: r.text(), Connected: r.bool(), At: r.time(), Reason: r.text()}
}

// Connections implements store.IndexReader.
func (r reader) Connections(things []int64) (map[int64]iot.Connection, error) {
	found := make(map[int64]iot.Connection, len(things))
	err := r.c.read(connectionOf, len(things), func(i int, a *args) { a.int(things[i]) }, func(_ int, row *row) error {
		c := scanConnection(row)
		found[c.ThingID] = c
		return nil
	})
	return found, err
}

// ConnectedNodes implements store.IndexReader.
func (r reader) ConnectedNodes() (nodes []int64, err error) {
	for last := int64(0); ; {
		// One look at the index for each node, and not for each connection.
		last, err = r.c.number(`SELECT node FROM connections WHERE connected = 1 AND node > $1 ORDER BY node LIMIT 1`, last)
		if err != nil || last == 0 {
			return nodes, err
		}
		nodes = append(nodes, last)
	}
}

// ConnectedTo implements store.IndexReader.
func (r reader) ConnectedTo(node int64, limit int) (list []iot.Connection, err error) {
	err = r.c.list(connectedTo, func(row *row) error {
		list = append(list, scanConnection(row))
		return nil
	}, node, limit)
	return list, err
}

// SaveConnections implements store.IndexWriter.
func (t *tx) SaveConnections(list []iot.Connection) error {
	return t.insertLater(saveConnection, len(list), func(i int, a *args) {
		c := &list[i]
		a.int(c.ThingID)
		a.int(c.Node)
		a.text(c.Session)
		a.bool(c.Connected)
		a.time(c.At)
		a.text(c.Reason)
	})
}

// DeleteConnections implements store.IndexWriter.
func (t *tx) DeleteConnections(things []int64) error {
	return t.later(`DELETE FROM connections WHERE thing_id = $1`, len(things), func(i int, a *args) { a.int(things[i]) })
}
