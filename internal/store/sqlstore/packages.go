package sqlstore

import (
	"errors"

	"drover/internal/iot"
	"drover/internal/store"
)

const packageConfiguration = "package_configuration" // in settings

const (
	selectPackages = `SELECT name, description, default_version, created_at, modified_at FROM packages `
	selectVersions = `SELECT package, name, status, body FROM package_versions `
)

func scanPackage(r *row) *iot.Package {
	return &iot.Package{Name: r.text(), Description: r.text(), DefaultVersion: r.text(), CreatedAt: r.time(), ModifiedAt: r.time()}
}

// Package implements store.PackageReader.
func (r reader) Package(name string) (p *iot.Package, err error) {
	err = r.c.one(selectPackages+`WHERE name = $1`, func(r *row) error {
		p = scanPackage(r)
		return nil
	}, name)
	return p, err
}

// Packages implements store.PackageReader.
func (r reader) Packages(after string, limit int) (list []*iot.Package, err error) {
	err = r.c.list(selectPackages+`WHERE name > $1 ORDER BY name LIMIT $2`, func(r *row) error {
		list = append(list, scanPackage(r))
		return nil
	}, after, limit)
	return list, err
}

func (r reader) packageVersions(query string, values ...any) (list []*iot.PackageVersion, err error) {
	err = r.c.list(query, func(r *row) error {
		v := &iot.PackageVersion{Package: r.text(), Name: r.text(), Status: iot.VersionStatus(r.text())}
		list = append(list, v)
		return fromJSON(r.text(), v)
	}, values...)
	return list, err
}

// PackageVersion implements store.PackageReader.
func (r reader) PackageVersion(pkg, version string) (*iot.PackageVersion, error) {
	list, err := r.packageVersions(selectVersions+`WHERE package = $1 AND name = $2`, pkg, version)
	if err == nil && len(list) == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

// PackageVersions implements store.PackageReader.
func (r reader) PackageVersions(pkg string, status iot.VersionStatus, after string, limit int) ([]*iot.PackageVersion, error) {
	return r.packageVersions(selectVersions+`WHERE package = $1 AND name > $2 AND ($3 = '' OR status = $3) ORDER BY name LIMIT $4`,
		pkg, after, string(status), limit)
}

// PendingSBOMs implements store.PackageReader.
func (r reader) PendingSBOMs(after int64, limit int) ([]*iot.PackageVersion, error) {
	return r.packageVersions(selectVersions+`WHERE sbom_pending > 0 AND sbom_pending > $1 ORDER BY sbom_pending LIMIT $2`, after, limit)
}

// PackageConfiguration implements store.PackageReader.
func (r reader) PackageConfiguration() (c iot.PackageConfiguration, err error) {
	err = r.c.one(`SELECT value FROM settings WHERE name = $1`, func(row *row) error {
		return fromJSON(row.text(), &c)
	}, packageConfiguration)
	if errors.Is(err, store.ErrNotFound) {
		return c, nil
	}
	return c, err
}

// Deployment implements store.PackageReader.
func (r reader) Deployment(job int64) (d iot.Deployment, err error) {
	err = r.c.one(`SELECT versions, document FROM deployments WHERE job = $1`, func(row *row) error {
		err := fromJSON(row.text(), &d.Versions)
		d.Document = row.text()
		return err
	}, job)
	return d, err
}

// ClientToken implements store.PackageReader.
func (r reader) ClientToken(token string, now iot.Time) (k store.ClientToken, err error) {
	err = r.c.one(`SELECT request, answer, expires_at FROM client_tokens WHERE token = $1 AND expires_at > $2`, func(row *row) error {
		k = store.ClientToken{Token: token, Request: row.text(), Answer: row.text(), ExpiresAt: row.time()}
		return nil
	}, token, now)
	return k, err
}

// InsertPackage implements store.PackageWriter.
func (t *tx) InsertPackage(p *iot.Package) error {
	_, err := t.exec(`INSERT INTO packages (name, description, default_version, created_at, modified_at) VALUES ($1, $2, $3, $4, $5)`,
		p.Name, p.Description, p.DefaultVersion, p.CreatedAt, p.ModifiedAt)
	return err
}

// SavePackage implements store.PackageWriter.
func (t *tx) SavePackage(p *iot.Package) error {
	return t.change(`UPDATE packages SET description = $1, default_version = $2, modified_at = $3 WHERE name = $4`,
		p.Description, p.DefaultVersion, p.ModifiedAt, p.Name)
}

// DeletePackage implements store.PackageWriter.
func (t *tx) DeletePackage(name string) error {
	_, err := t.exec(`DELETE FROM packages WHERE name = $1`, name)
	return err
}

func sbomPending(v *iot.PackageVersion) int64 {
	if v.SBOM == nil || v.SBOM.Status != iot.SBOMInProgress {
		return 0
	}
	return v.SBOM.Association
}

// InsertPackageVersion implements store.PackageWriter.
func (t *tx) InsertPackageVersion(v *iot.PackageVersion) error {
	body, err := toJSON(v)
	if err != nil {
		return t.failing(err)
	}
	_, err = t.exec(`INSERT INTO package_versions (package, name, status, sbom_pending, body) VALUES ($1, $2, $3, $4, $5)`,
		v.Package, v.Name, string(v.Status), sbomPending(v), body)
	return err
}

// SavePackageVersion implements store.PackageWriter.
func (t *tx) SavePackageVersion(v *iot.PackageVersion) error {
	body, err := toJSON(v)
	if err != nil {
		return t.failing(err)
	}
	return t.change(`UPDATE package_versions SET status = $1, sbom_pending = $2, body = $3 WHERE package = $4 AND name = $5`,
		string(v.Status), sbomPending(v), body, v.Package, v.Name)
}

// DeletePackageVersion implements store.PackageWriter.
func (t *tx) DeletePackageVersion(pkg, version string) error {
	_, err := t.exec(`DELETE FROM package_versions WHERE package = $1 AND name = $2`, pkg, version)
	return err
}

// SavePackageConfiguration implements store.PackageWriter.
func (t *tx) SavePackageConfiguration(c iot.PackageConfiguration) error {
	text, err := toJSON(c)
	if err != nil {
		return t.failing(err)
	}
	_, err = t.exec(`INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, packageConfiguration, text)
	return err
}

// SaveDeployment implements store.PackageWriter.
func (t *tx) SaveDeployment(job int64, d iot.Deployment) error {
	versions, err := toJSON(d.Versions)
	if err != nil {
		return t.failing(err)
	}
	_, err = t.exec(`INSERT INTO deployments (job, versions, document) VALUES ($1, $2, $3)
		ON CONFLICT (job) DO UPDATE SET versions = excluded.versions, document = excluded.document`, job, versions, d.Document)
	return err
}

// SaveClientToken implements store.PackageWriter.
func (t *tx) SaveClientToken(k store.ClientToken, now iot.Time) error {
	if _, err := t.exec(`DELETE FROM client_tokens WHERE expires_at <= $1`, now); err != nil {
		return err
	}
	_, err := t.exec(`INSERT INTO client_tokens (token, request, answer, expires_at) VALUES ($1, $2, $3, $4)`, k.Token, k.Request, k.Answer, k.ExpiresAt)
	return err
}

var (
	_ store.PackageReader = reader{}
	_ store.PackageWriter = (*tx)(nil)
)
