package sqlstore

import (
	"drover/internal/iot"
	"drover/internal/store"
)

const selectProvisioning = `SELECT name, description, type, enabled, role_arn, hook, default_version, last_version, created_at, modified_at
	FROM provisioning_templates `

func (r reader) provisioning(query string, values ...any) (list []*iot.ProvisioningTemplate, err error) {
	err = r.c.list(query, func(r *row) error {
		t := &iot.ProvisioningTemplate{
			Name: r.text(), Description: r.text(), Type: iot.ProvisioningType(r.text()), Enabled: r.bool(), RoleARN: r.text(),
		}
		if err := fromJSON(r.text(), &t.Hook); err != nil {
			return err
		}
		t.DefaultVersion, t.LastVersion, t.CreatedAt, t.ModifiedAt = r.int(), r.int(), r.time(), r.time()
		list = append(list, t)
		return nil
	}, values...)
	return list, err
}

// ProvisioningTemplate implements store.ProvisioningReader.
func (r reader) ProvisioningTemplate(name string) (*iot.ProvisioningTemplate, error) {
	list, err := r.provisioning(selectProvisioning+"WHERE name = $1", name)
	if err == nil && len(list) == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

// ProvisioningTemplates implements store.ProvisioningReader.
func (r reader) ProvisioningTemplates(after string, limit int) ([]*iot.ProvisioningTemplate, error) {
	return r.provisioning(selectProvisioning+"WHERE name > $1 ORDER BY name LIMIT $2", after, limit)
}

// ProvisioningVersion implements store.ProvisioningReader.
func (r reader) ProvisioningVersion(template string, id int64) (v iot.ProvisioningVersion, err error) {
	err = r.c.one(`SELECT template, id, body, created_at FROM provisioning_versions WHERE template = $1 AND id = $2`, func(r *row) error {
		v = iot.ProvisioningVersion{Template: r.text(), ID: r.int(), Body: r.text(), CreatedAt: r.time()}
		return nil
	}, template, id)
	return v, err
}

// ProvisioningVersions implements store.ProvisioningReader.
func (r reader) ProvisioningVersions(template string) (list []iot.ProvisioningVersion, err error) {
	err = r.c.list(`SELECT template, id, created_at FROM provisioning_versions WHERE template = $1 ORDER BY id`, func(r *row) error {
		list = append(list, iot.ProvisioningVersion{Template: r.text(), ID: r.int(), CreatedAt: r.time()})
		return nil
	}, template)
	return list, err
}

// Ownership implements store.ProvisioningReader.
func (r reader) Ownership(hash string) (o iot.Ownership, err error) {
	err = r.c.one(`SELECT hash, certificate, expires_at FROM ownerships WHERE hash = $1`, func(r *row) error {
		o = scanOwnership(r)
		return nil
	}, hash)
	return o, err
}

func scanOwnership(r *row) iot.Ownership {
	return iot.Ownership{Hash: r.text(), Certificate: iot.CertificateID(r.text()), Expires: r.time()}
}

// ExpiredOwnerships implements store.ProvisioningReader.
func (r reader) ExpiredOwnerships(now iot.Time, limit int) (list []iot.Ownership, err error) {
	err = r.c.list(`SELECT hash, certificate, expires_at FROM ownerships WHERE expires_at <= $1 ORDER BY expires_at, hash LIMIT $2`, func(r *row) error {
		list = append(list, scanOwnership(r))
		return nil
	}, now, limit)
	return list, err
}

// Claim implements store.ProvisioningReader.
func (r reader) Claim(id iot.CertificateID) (c iot.Claim, err error) {
	err = r.c.one(`SELECT certificate, pem, template, expires_at FROM claims WHERE certificate = $1`, func(r *row) error {
		c = iot.Claim{Certificate: iot.CertificateID(r.text()), PEM: r.text(), Template: r.text(), Expires: r.time()}
		return nil
	}, string(id))
	return c, err
}

// InsertProvisioningTemplate implements store.ProvisioningWriter.
func (t *tx) InsertProvisioningTemplate(p *iot.ProvisioningTemplate) error {
	hook, err := toJSON(p.Hook)
	if err != nil {
		return t.failing(err)
	}
	_, err = t.exec(`INSERT INTO provisioning_templates (name, description, type, enabled, role_arn, hook, default_version, last_version, created_at, modified_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		p.Name, p.Description, string(p.Type), p.Enabled, p.RoleARN, hook, p.DefaultVersion, p.LastVersion, p.CreatedAt, p.ModifiedAt)
	return err
}

// SaveProvisioningTemplate implements store.ProvisioningWriter.
func (t *tx) SaveProvisioningTemplate(p *iot.ProvisioningTemplate) error {
	hook, err := toJSON(p.Hook)
	if err != nil {
		return t.failing(err)
	}
	return t.change(`UPDATE provisioning_templates SET description = $1, enabled = $2, role_arn = $3, hook = $4, default_version = $5,
		last_version = $6, modified_at = $7 WHERE name = $8`,
		p.Description, p.Enabled, p.RoleARN, hook, p.DefaultVersion, p.LastVersion, p.ModifiedAt, p.Name)
}

// DeleteProvisioningTemplate implements store.ProvisioningWriter.
func (t *tx) DeleteProvisioningTemplate(name string) error {
	if _, err := t.exec(`DELETE FROM provisioning_versions WHERE template = $1`, name); err != nil {
		return err
	}
	_, err := t.exec(`DELETE FROM provisioning_templates WHERE name = $1`, name)
	return err
}

// InsertProvisioningVersion implements store.ProvisioningWriter.
func (t *tx) InsertProvisioningVersion(v iot.ProvisioningVersion) error {
	_, err := t.exec(`INSERT INTO provisioning_versions (template, id, body, created_at) VALUES ($1, $2, $3, $4)`, v.Template, v.ID, v.Body, v.CreatedAt)
	return err
}

// DeleteProvisioningVersion implements store.ProvisioningWriter.
func (t *tx) DeleteProvisioningVersion(template string, id int64) error {
	_, err := t.exec(`DELETE FROM provisioning_versions WHERE template = $1 AND id = $2`, template, id)
	return err
}

// InsertOwnership implements store.ProvisioningWriter.
func (t *tx) InsertOwnership(o iot.Ownership) error {
	_, err := t.exec(`INSERT INTO ownerships (hash, certificate, expires_at) VALUES ($1, $2, $3)`, o.Hash, string(o.Certificate), o.Expires)
	return err
}

// DeleteOwnership implements store.ProvisioningWriter.
func (t *tx) DeleteOwnership(hash string) (bool, error) {
	n, err := t.exec(`DELETE FROM ownerships WHERE hash = $1`, hash)
	return n > 0, err
}

// InsertClaim implements store.ProvisioningWriter.
func (t *tx) InsertClaim(c iot.Claim, now iot.Time) error {
	if _, err := t.exec(`DELETE FROM claims WHERE expires_at <= $1`, now); err != nil {
		return err
	}
	_, err := t.exec(`INSERT INTO claims (certificate, pem, template, expires_at) VALUES ($1, $2, $3, $4)`, string(c.Certificate), c.PEM, c.Template, c.Expires)
	return err
}

var (
	_ store.ProvisioningReader = reader{}
	_ store.ProvisioningWriter = (*tx)(nil)
)
