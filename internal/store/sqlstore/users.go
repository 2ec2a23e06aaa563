package sqlstore

import (
	"encoding/hex"

	"drover/internal/iot"
	"drover/internal/store"
)

const allUsers = `SELECT name, role, policy, password, totp, code_step, created_at FROM console_users ORDER BY name`

// Users implements store.UserReader.
func (r reader) Users() (list []iot.User, err error) {
	err = r.c.list(allUsers, func(row *row) error {
		u := iot.User{Name: row.text(), Role: row.text(), Policy: row.text(), Password: row.text()}
		if totp := row.text(); totp != "" {
			var err error
			if u.TOTP, err = hex.DecodeString(totp); err != nil {
				return err
			}
		}
		u.CodeStep, u.CreatedAt = row.int(), row.time()
		list = append(list, u)
		return nil
	})
	return list, err
}

// InsertUser implements store.UserWriter.
func (t *tx) InsertUser(u iot.User) error {
	_, err := t.exec(`INSERT INTO console_users (name, role, policy, password, totp, code_step, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		u.Name, u.Role, u.Policy, u.Password, hex.EncodeToString(u.TOTP), u.CodeStep, u.CreatedAt)
	return err
}

// SaveUser implements store.UserWriter.
func (t *tx) SaveUser(u iot.User) error {
	n, err := t.exec(`UPDATE console_users SET role = $1, policy = $2, password = $3, totp = $4, code_step = $5 WHERE name = $6`,
		u.Role, u.Policy, u.Password, hex.EncodeToString(u.TOTP), u.CodeStep, u.Name)
	if err == nil && n == 0 {
		return store.ErrNotFound
	}
	return err
}

// DeleteUser implements store.UserWriter.
func (t *tx) DeleteUser(name string) (bool, error) {
	n, err := t.exec(`DELETE FROM console_users WHERE name = $1`, name)
	return n > 0, err
}

var (
	_ store.UserReader = reader{}
	_ store.UserWriter = (*tx)(nil)
)
