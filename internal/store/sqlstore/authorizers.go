package sqlstore

import (
	"drover/internal/iot"
	"drover/internal/store"
)

const defaultAuthorizer = "default_authorizer" // in settings

const (
	selectAuthorizers = `SELECT seq, name, function, token_key, keys, active, signing_disabled, cache_http, created_at, modified_at FROM authorizers `
	allAuthorizers    = selectAuthorizers + "ORDER BY seq"
)

func (r reader) authorizers(query string, values ...any) (list []*iot.Authorizer, err error) {
	err = r.c.list(query, func(r *row) error {
		a := &iot.Authorizer{Seq: r.int(), Name: r.text(), Function: r.text(), TokenKey: r.text()}
		if err := fromJSON(r.text(), &a.Keys); err != nil {
			return err
		}
		a.Active, a.SigningDisabled, a.CacheHTTP, a.CreatedAt, a.ModifiedAt = r.bool(), r.bool(), r.bool(), r.time(), r.time()
		list = append(list, a)
		return nil
	}, values...)
	return list, err
}

// AuthorizerByName implements store.AuthorizerReader.
func (r reader) AuthorizerByName(name string) (*iot.Authorizer, error) {
	list, err := r.authorizers(selectAuthorizers+"WHERE name = $1", name)
	if err == nil && len(list) == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

// Authorizers implements store.AuthorizerReader.
func (r reader) Authorizers() ([]*iot.Authorizer, error) {
	return r.authorizers(allAuthorizers)
}

// DefaultAuthorizer implements store.AuthorizerReader.
func (r reader) DefaultAuthorizer() (string, error) { return r.setting(defaultAuthorizer) }

// InsertAuthorizer implements store.AuthorizerWriter.
func (t *tx) InsertAuthorizer(a *iot.Authorizer) error {
	keys, err := toJSON(a.Keys)
	if err != nil {
		return t.failing(err)
	}
	seq, err := t.Sequence(1)
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO authorizers (seq, name, function, token_key, keys, active, signing_disabled, cache_http, created_at, modified_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		seq, a.Name, a.Function, a.TokenKey, keys, a.Active, a.SigningDisabled, a.CacheHTTP, a.CreatedAt, a.ModifiedAt)
	if err == nil {
		a.Seq = seq
	}
	return err
}

// SaveAuthorizer implements store.AuthorizerWriter.
func (t *tx) SaveAuthorizer(a *iot.Authorizer) error {
	keys, err := toJSON(a.Keys)
	if err != nil {
		return t.failing(err)
	}
	return t.change(`UPDATE authorizers SET function = $1, token_key = $2, keys = $3, active = $4, cache_http = $5, modified_at = $6 WHERE name = $7`,
		a.Function, a.TokenKey, keys, a.Active, a.CacheHTTP, a.ModifiedAt, a.Name)
}

// DeleteAuthorizer implements store.AuthorizerWriter.
func (t *tx) DeleteAuthorizer(a *iot.Authorizer) error {
	_, err := t.exec(`DELETE FROM authorizers WHERE name = $1`, a.Name)
	return err
}

// SaveDefaultAuthorizer implements store.AuthorizerWriter.
func (t *tx) SaveDefaultAuthorizer(name string) error { return t.saveSetting(defaultAuthorizer, name) }

var (
	_ store.AuthorizerReader = reader{}
	_ store.AuthorizerWriter = (*tx)(nil)
)
