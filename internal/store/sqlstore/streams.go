package sqlstore

import (
	"cmp"

	"drover/internal/iot"
	"drover/internal/store"
)

const selectStreams = `SELECT seq, id, version, description, files, role_arn, created_at, updated_at FROM streams `

func (r reader) streams(query string, values ...any) (list []*iot.Stream, err error) {
	err = r.c.list(query, func(r *row) error {
		s := &iot.Stream{Seq: r.int(), ID: r.text(), Version: r.int(), Description: r.text()}
		if err := fromJSON(r.text(), &s.Files); err != nil {
			return err
		}
		s.RoleARN, s.CreatedAt, s.UpdatedAt = r.text(), r.time(), r.time()
		list = append(list, s)
		return nil
	}, values...)
	return list, err
}

// StreamByID implements store.StreamReader.
func (r reader) StreamByID(id string) (*iot.Stream, error) {
	list, err := r.streams(selectStreams+"WHERE id = $1", id)
	if err == nil && len(list) == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

// Streams implements store.StreamReader.
func (r reader) Streams(ascending bool, after int64, limit int) ([]*iot.Stream, error) {
	if ascending {
		return r.streams(selectStreams+"WHERE seq > $1 ORDER BY seq LIMIT $2", after, limit)
	}
	return r.streams(selectStreams+"WHERE seq < $1 ORDER BY seq DESC LIMIT $2", cmp.Or(after, maxID), limit)
}

// InsertStream implements store.StreamWriter.
func (t *tx) InsertStream(s *iot.Stream) error {
	files, err := toJSON(s.Files)
	if err != nil {
		return t.failing(err)
	}
	seq, err := t.Sequence(1)
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO streams (seq, id, version, description, files, role_arn, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		seq, s.ID, s.Version, s.Description, files, s.RoleARN, s.CreatedAt, s.UpdatedAt)
	if err == nil {
		s.Seq = seq
	}
	return err
}

// SaveStream implements store.StreamWriter.
func (t *tx) SaveStream(s *iot.Stream) error {
	files, err := toJSON(s.Files)
	if err != nil {
		return t.failing(err)
	}
	return t.change(`UPDATE streams SET version = $1, description = $2, files = $3, role_arn = $4, updated_at = $5 WHERE seq = $6`,
		s.Version, s.Description, files, s.RoleARN, s.UpdatedAt, s.Seq)
}

// DeleteStream implements store.StreamWriter.
func (t *tx) DeleteStream(s *iot.Stream) error {
	_, err := t.exec(`DELETE FROM streams WHERE seq = $1`, s.Seq)
	return err
}

var (
	_ store.StreamReader = reader{}
	_ store.StreamWriter = (*tx)(nil)
)
