package sqlstore

import (
	"cmp"

	"drover/internal/iot"
	"drover/internal/store"
)

const selectOTAUpdates = `SELECT seq, id, status, stream, definition, created_at, modified_at FROM ota_updates `

func (r reader) otaUpdates(query string, values ...any) (list []*iot.OTAUpdate, err error) {
	err = r.c.list(query, func(r *row) error {
		u := &iot.OTAUpdate{Seq: r.int(), ID: r.text(), Status: iot.OTAStatus(r.text()), Stream: r.text()}
		if err := fromJSON(r.text(), &u.OTADefinition); err != nil {
			return err
		}
		u.CreatedAt, u.ModifiedAt = r.time(), r.time()
		list = append(list, u)
		return nil
	}, values...)
	return list, err
}

// OTAUpdateByID implements store.OTAReader.
func (r reader) OTAUpdateByID(id string) (*iot.OTAUpdate, error) {
	list, err := r.otaUpdates(selectOTAUpdates+"WHERE id = $1", id)
	if err == nil && len(list) == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

// OTAUpdates implements store.OTAReader.
func (r reader) OTAUpdates(status iot.OTAStatus, before int64, limit int) ([]*iot.OTAUpdate, error) {
	before = cmp.Or(before, maxID)
	if status == "" {
		return r.otaUpdates(selectOTAUpdates+"WHERE seq < $1 ORDER BY seq DESC LIMIT $2", before, limit)
	}
	return r.otaUpdates(selectOTAUpdates+"WHERE status = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3", string(status), before, limit)
}

// StreamInUse implements store.OTAReader.
func (r reader) StreamInUse(stream string) (bool, error) {
	n, err := r.c.number(`SELECT count(*) FROM ota_updates WHERE stream = $1 AND stream <> ''`, stream)
	return n > 0, err
}

// InsertOTAUpdate implements store.OTAWriter.
func (t *tx) InsertOTAUpdate(u *iot.OTAUpdate) error {
	definition, err := toJSON(u.OTADefinition)
	if err != nil {
		return t.failing(err)
	}
	seq, err := t.Sequence(1)
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO ota_updates (seq, id, status, stream, definition, created_at, modified_at) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		seq, u.ID, string(u.Status), u.Stream, definition, u.CreatedAt, u.ModifiedAt)
	if err == nil {
		u.Seq = seq
	}
	return err
}

// SaveOTAUpdate implements store.OTAWriter.
func (t *tx) SaveOTAUpdate(u *iot.OTAUpdate) error {
	definition, err := toJSON(u.OTADefinition)
	if err != nil {
		return t.failing(err)
	}
	return t.change(`UPDATE ota_updates SET status = $1, definition = $2, modified_at = $3 WHERE seq = $4`, string(u.Status), definition, u.ModifiedAt, u.Seq)
}

// DeleteOTAUpdate implements store.OTAWriter.
func (t *tx) DeleteOTAUpdate(u *iot.OTAUpdate) error {
	_, err := t.exec(`DELETE FROM ota_updates WHERE seq = $1`, u.Seq)
	return err
}

var (
	_ store.OTAReader = reader{}
	_ store.OTAWriter = (*tx)(nil)
)
