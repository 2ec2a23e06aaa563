package sqlstore

import (
	"encoding/hex"

	"drover/internal/iot"
	"drover/internal/store"
)

const registrationCode = "registration_code" // in settings

const (
	selectCertificates = `SELECT seq, id, pem, status, mode, ca, key_hash, not_before, not_after, version, created_at, modified_at FROM certificates `

	selectCAs = `SELECT seq, id, pem, subject, active, auto_registration, registration, mode, not_before, not_after, version, created_at, modified_at FROM ca_certificates `

	selectPrincipals  = `SELECT certificate, thing_name, thing_id, exclusive FROM thing_principals `
	principalsOfThing = selectPrincipals + `WHERE thing_id = $1 AND certificate > $2 AND exclusive BETWEEN $3 AND $4 ORDER BY certificate LIMIT $5`
	thingsOfPrincipal = selectPrincipals + `WHERE certificate = $1 AND thing_name > $2 AND exclusive BETWEEN $3 AND $4 ORDER BY thing_name LIMIT $5`
)

// beyond is the condition and the order of a page of a list that goes by seq either way.
// The parameter is the place to go on from.
func beyond(parameter string, after int64, ascending bool) (condition, order string, from int64) {
	if ascending {
		return "seq > " + parameter, " ORDER BY seq", after
	}
	if after == 0 {
		after = 1<<63 - 1
	}
	return "seq < " + parameter, " ORDER BY seq DESC", after
}

func scanCertificate(r *row) *iot.Certificate {
	return &iot.Certificate{
		Seq: r.int(), ID: iot.CertificateID(r.text()), PEM: r.text(), Status: iot.CertificateStatus(r.text()), Mode: iot.CertificateMode(r.text()),
		CA: iot.CertificateID(r.text()), Key: r.text(), NotBefore: r.time(), NotAfter: r.time(), Version: r.int(), CreatedAt: r.time(), ModifiedAt: r.time(),
	}
}

// CertificateByID implements store.CertificateReader.
func (r reader) CertificateByID(id iot.CertificateID) (c *iot.Certificate, err error) {
	err = r.c.one(selectCertificates+"WHERE id = $1", func(row *row) error {
		c = scanCertificate(row)
		return nil
	}, string(id))
	return c, err
}

func (r reader) certificates(query string, values ...any) (list []*iot.Certificate, err error) {
	err = r.c.list(query, func(row *row) error {
		list = append(list, scanCertificate(row))
		return nil
	}, values...)
	return list, err
}

// Certificates implements store.CertificateReader.
func (r reader) Certificates(q store.CertificateQuery, after int64, limit int) ([]*iot.Certificate, error) {
	if q.CA == "" {
		condition, order, from := beyond("$1", after, q.Ascending)
		return r.certificates(selectCertificates+"WHERE "+condition+order+" LIMIT $2", from, limit)
	}
	condition, order, from := beyond("$2", after, q.Ascending)
	return r.certificates(selectCertificates+"WHERE ca <> '' AND ca = $1 AND "+condition+order+" LIMIT $3", string(q.CA), from, limit)
}

// KeyRevoked implements store.CertificateReader.
func (r reader) KeyRevoked(key string) (bool, error) {
	n, err := r.c.number(`SELECT 1 FROM certificates WHERE key_hash = $1 AND status = 'REVOKED' LIMIT 1`, key)
	return n == 1, err
}

func scanCA(r *row) (*iot.CACertificate, error) {
	c := &iot.CACertificate{Seq: r.int(), ID: iot.CertificateID(r.text()), PEM: r.text()}
	var err error
	if c.Subject, err = hex.DecodeString(r.text()); err != nil {
		return nil, err
	}
	c.Active, c.AutoRegistration = r.bool(), r.bool()
	if err := fromJSON(r.text(), &c.Registration); err != nil {
		return nil, err
	}
	c.Mode, c.NotBefore, c.NotAfter = iot.CertificateMode(r.text()), r.time(), r.time()
	c.Version, c.CreatedAt, c.ModifiedAt = r.int(), r.time(), r.time()
	return c, nil
}

func (r reader) cas(query string, values ...any) (list []*iot.CACertificate, err error) {
	err = r.c.list(query, func(row *row) error {
		c, err := scanCA(row)
		list = append(list, c)
		return err
	}, values...)
	return list, err
}

// CACertificateByID implements store.CertificateReader.
func (r reader) CACertificateByID(id iot.CertificateID) (*iot.CACertificate, error) {
	list, err := r.cas(selectCAs+"WHERE id = $1", string(id))
	if err == nil && len(list) == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

// CACertificatesBySubject implements store.CertificateReader.
func (r reader) CACertificatesBySubject(subject []byte) ([]*iot.CACertificate, error) {
	return r.cas(selectCAs+"WHERE subject = $1 ORDER BY seq", hex.EncodeToString(subject))
}

// CACertificates implements store.CertificateReader.
func (r reader) CACertificates(q store.CAQuery, after int64, limit int) ([]*iot.CACertificate, error) {
	if q.TemplateName == "" {
		condition, order, from := beyond("$1", after, q.Ascending)
		return r.cas(selectCAs+"WHERE "+condition+order+" LIMIT $2", from, limit)
	}
	condition, order, from := beyond("$2", after, q.Ascending)
	return r.cas(selectCAs+"WHERE template_name <> '' AND template_name = $1 AND "+condition+order+" LIMIT $3", q.TemplateName, from, limit)
}

// RegistrationCode implements store.CertificateReader.
func (r reader) RegistrationCode() (string, error) { return r.setting(registrationCode) }

// setting reads one of the few texts that there is one of. store.ErrNotFound.
func (r reader) setting(name string) (value string, err error) {
	err = r.c.one(`SELECT value FROM settings WHERE name = $1`, func(row *row) error {
		value = row.text()
		return nil
	}, name)
	return value, err
}

func scanPrincipal(r *row) iot.ThingPrincipal {
	return iot.ThingPrincipal{
		Certificate: iot.CertificateID(r.text()), Thing: iot.ThingName(r.text()), ThingID: r.int(), Exclusive: r.bool(),
	}
}

// ThingPrincipal implements store.CertificateReader.
func (r reader) ThingPrincipal(thing int64, id iot.CertificateID) (p iot.ThingPrincipal, err error) {
	err = r.c.one(selectPrincipals+"WHERE thing_id = $1 AND certificate = $2", func(row *row) error {
		p = scanPrincipal(row)
		return nil
	}, thing, string(id))
	return p, err
}

// principals lists attachments by a query of the arguments owner, after, and what exclusive
// may be.
func (r reader) principals(query string, owner any, q store.PrincipalQuery, after string, limit int) (list []iot.ThingPrincipal, err error) {
	least, most := 0, 1
	if q.Exclusive {
		least = 1
	}
	if q.NonExclusive {
		most = 0
	}
	err = r.c.list(query, func(row *row) error {
		list = append(list, scanPrincipal(row))
		return nil
	}, owner, after, least, most, limit)
	return list, err
}

// PrincipalsOfThing implements store.CertificateReader.
func (r reader) PrincipalsOfThing(thing int64, q store.PrincipalQuery, after iot.CertificateID, limit int) ([]iot.ThingPrincipal, error) {
	return r.principals(principalsOfThing, thing, q, string(after), limit)
}

// ThingsOfPrincipal implements store.CertificateReader.
func (r reader) ThingsOfPrincipal(id iot.CertificateID, q store.PrincipalQuery, after iot.ThingName, limit int) ([]iot.ThingPrincipal, error) {
	return r.principals(thingsOfPrincipal, string(id), q, string(after), limit)
}

// InsertCertificate implements store.CertificateWriter.
func (t *tx) InsertCertificate(c *iot.Certificate) error {
	seq, err := t.Sequence(1)
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO certificates (seq, id, pem, status, mode, ca, key_hash, not_before, not_after, version, created_at, modified_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		seq, string(c.ID), c.PEM, string(c.Status), string(c.Mode), string(c.CA), c.Key, c.NotBefore, c.NotAfter, c.Version, c.CreatedAt, c.ModifiedAt)
	if err == nil {
		c.Seq = seq
	}
	return err
}

// SaveCertificate implements store.CertificateWriter.
func (t *tx) SaveCertificate(c *iot.Certificate) error {
	return t.change(`UPDATE certificates SET status = $1, version = $2, modified_at = $3 WHERE id = $4`,
		string(c.Status), c.Version, c.ModifiedAt, string(c.ID))
}

// DeleteCertificate implements store.CertificateWriter.
func (t *tx) DeleteCertificate(c *iot.Certificate) error {
	_, err := t.exec(`DELETE FROM certificates WHERE id = $1`, string(c.ID))
	return err
}

// registration encodes how the devices of a CA are provisioned.
func registration(c *iot.RegistrationConfig) (text, templateName string, err error) {
	if c == nil {
		return "", "", nil
	}
	text, err = toJSON(c)
	return text, c.TemplateName, err
}

// InsertCACertificate implements store.CertificateWriter.
func (t *tx) InsertCACertificate(c *iot.CACertificate) error {
	config, templateName, err := registration(c.Registration)
	if err != nil {
		return t.failing(err)
	}
	seq, err := t.Sequence(1)
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO ca_certificates (seq, id, pem, subject, active, auto_registration, registration, template_name, mode,
		not_before, not_after, version, created_at, modified_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`,
		seq, string(c.ID), c.PEM, hex.EncodeToString(c.Subject), c.Active, c.AutoRegistration, config, templateName, string(c.Mode),
		c.NotBefore, c.NotAfter, c.Version, c.CreatedAt, c.ModifiedAt)
	if err == nil {
		c.Seq = seq
	}
	return err
}

// SaveCACertificate implements store.CertificateWriter.
func (t *tx) SaveCACertificate(c *iot.CACertificate) error {
	config, templateName, err := registration(c.Registration)
	if err != nil {
		return t.failing(err)
	}
	return t.change(`UPDATE ca_certificates SET active = $1, auto_registration = $2, registration = $3, template_name = $4,
		version = $5, modified_at = $6 WHERE id = $7`,
		c.Active, c.AutoRegistration, config, templateName, c.Version, c.ModifiedAt, string(c.ID))
}

// DeleteCACertificate implements store.CertificateWriter.
func (t *tx) DeleteCACertificate(c *iot.CACertificate) error {
	_, err := t.exec(`DELETE FROM ca_certificates WHERE id = $1`, string(c.ID))
	return err
}

// SaveRegistrationCode implements store.CertificateWriter.
func (t *tx) SaveRegistrationCode(code string) error { return t.saveSetting(registrationCode, code) }

// saveSetting stores a text that there is one of; the empty one takes it away.
func (t *tx) saveSetting(name, value string) error {
	if value == "" {
		_, err := t.exec(`DELETE FROM settings WHERE name = $1`, name)
		return err
	}
	_, err := t.exec(`INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, value)
	return err
}

// InsertThingPrincipal implements store.CertificateWriter.
func (t *tx) InsertThingPrincipal(p iot.ThingPrincipal) error {
	_, err := t.exec(`INSERT INTO thing_principals (certificate, thing_name, thing_id, exclusive) VALUES ($1, $2, $3, $4)`,
		string(p.Certificate), string(p.Thing), p.ThingID, p.Exclusive)
	return err
}

// DeleteThingPrincipal implements store.CertificateWriter.
func (t *tx) DeleteThingPrincipal(thing int64, id iot.CertificateID) (bool, error) {
	n, err := t.exec(`DELETE FROM thing_principals WHERE thing_id = $1 AND certificate = $2`, thing, string(id))
	return n > 0, err
}

var (
	_ store.CertificateReader = reader{}
	_ store.CertificateWriter = (*tx)(nil)
)
