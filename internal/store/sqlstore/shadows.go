package sqlstore

import (
	"drover/internal/iot"
	"drover/internal/store"
)

const (
	shadowOf   = `SELECT thing_id, version, present, body FROM shadows WHERE thing_id = $1`
	saveShadow = `INSERT INTO shadows (thing_id, version, present, body) VALUES ($1, $2, $3, $4)
		ON CONFLICT (thing_id) DO UPDATE SET version = excluded.version, present = excluded.present, body = excluded.body`
	insertInstall = `INSERT INTO installs (seq, thing_id, job) VALUES ($1, $2, $3)`
)

// Shadows implements store.ShadowReader.
func (r reader) Shadows(things []int64) (map[int64]*iot.Shadow, error) {
	found := make(map[int64]*iot.Shadow)
	err := r.c.read(shadowOf, len(things), func(i int, a *args) { a.int(things[i]) }, func(_ int, row *row) error {
		s := &iot.Shadow{ThingID: row.int(), Version: row.int(), Exists: row.bool()}
		found[s.ThingID] = s
		return iot.DecodeShadow([]byte(row.text()), s)
	})
	return found, err
}

// Installs implements store.ShadowReader.
func (r reader) Installs(limit int) (list []store.Install, err error) {
	err = r.c.list(`SELECT seq, thing_id, job FROM installs WHERE seq > $1 ORDER BY seq LIMIT $2`, func(row *row) error {
		list = append(list, store.Install{Seq: row.int(), Thing: row.int(), Job: row.int()})
		return nil
	}, 0, limit)
	return list, err
}

// SaveShadows implements store.ShadowWriter.
func (t *tx) SaveShadows(list []*iot.Shadow) error {
	bodies := make([]string, len(list))
	for i, s := range list {
		var err error
		if bodies[i], err = toJSON(s); err != nil {
			return t.failing(err)
		}
	}
	return t.insertLater(saveShadow, len(list), func(i int, a *args) {
		a.int(list[i].ThingID)
		a.int(list[i].Version)
		a.bool(list[i].Exists)
		a.text(bodies[i])
	})
}

// AddInstalls implements store.ShadowWriter.
func (t *tx) AddInstalls(list []store.Install) error {
	first, err := t.Sequence(len(list))
	if err != nil {
		return err
	}
	return t.insertLater(insertInstall, len(list), func(i int, a *args) {
		a.int(first + int64(i))
		a.int(list[i].Thing)
		a.int(list[i].Job)
	})
}

// DeleteInstalls implements store.ShadowWriter.
func (t *tx) DeleteInstalls(list []store.Install) error {
	return t.later(`DELETE FROM installs WHERE seq = $1`, len(list), func(i int, a *args) { a.int(list[i].Seq) })
}

var (
	_ store.ShadowReader = reader{}
	_ store.ShadowWriter = (*tx)(nil)
)
