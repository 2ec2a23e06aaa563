package sqlstore

import (
	"encoding/hex"

	"drover/internal/iot"
	"drover/internal/store"
)

const allKeys = `SELECT id, name, policy, sealed, created_at FROM api_keys ORDER BY name`

// APIKeys implements store.KeyReader.
func (r reader) APIKeys() (list []iot.APIKey, err error) {
	err = r.c.list(allKeys, func(row *row) error {
		k := iot.APIKey{ID: row.text(), Name: row.text(), Policy: row.text()}
		var err error
		if k.Sealed, err = hex.DecodeString(row.text()); err != nil {
			return err
		}
		k.CreatedAt = row.time()
		list = append(list, k)
		return nil
	})
	return list, err
}

// InsertAPIKey implements store.KeyWriter.
func (t *tx) InsertAPIKey(k iot.APIKey) error {
	_, err := t.exec(`INSERT INTO api_keys (id, name, policy, sealed, created_at) VALUES ($1, $2, $3, $4, $5)`,
		k.ID, k.Name, k.Policy, hex.EncodeToString(k.Sealed), k.CreatedAt)
	return err
}

// DeleteAPIKey implements store.KeyWriter.
func (t *tx) DeleteAPIKey(id string) (bool, error) {
	n, err := t.exec(`DELETE FROM api_keys WHERE id = $1`, id)
	return n > 0, err
}

var (
	_ store.KeyReader = reader{}
	_ store.KeyWriter = (*tx)(nil)
)
