package sqlstore

import (
	"cmp"
	"slices"

	"drover/internal/iot"
	"drover/internal/store"
)

const selectPolicies = `SELECT p.id, p.name, p.uuid, p.default_version, p.latest_version, p.created_at, p.modified_at FROM policies p `

func scanPolicy(r *row) *iot.Policy {
	return &iot.Policy{
		ID: r.int(), Name: iot.PolicyName(r.text()), UUID: r.text(), Default: int(r.int()), Latest: int(r.int()),
		CreatedAt: r.time(), ModifiedAt: r.time(),
	}
}

func (r reader) policies(query string, values ...any) (list []*iot.Policy, err error) {
	err = r.c.list(query, func(row *row) error {
		list = append(list, scanPolicy(row))
		return nil
	}, values...)
	return list, err
}

// PolicyByName implements store.PolicyReader.
func (r reader) PolicyByName(name iot.PolicyName) (p *iot.Policy, err error) {
	err = r.c.one(selectPolicies+"WHERE name = $1", func(row *row) error {
		p = scanPolicy(row)
		return nil
	}, string(name))
	return p, err
}

// Policies implements store.PolicyReader.
func (r reader) Policies(ascending bool, after int64, limit int) ([]*iot.Policy, error) {
	if ascending {
		return r.policies(selectPolicies+"WHERE id > $1 ORDER BY id LIMIT $2", after, limit)
	}
	return r.policies(selectPolicies+"WHERE id < $1 ORDER BY id DESC LIMIT $2", cmp.Or(after, maxID), limit)
}

// PolicyVersion implements store.PolicyReader.
func (r reader) PolicyVersion(policy int64, version int) (v *iot.PolicyVersion, err error) {
	err = r.c.one(`SELECT version, document, created_at FROM policy_versions WHERE policy = $1 AND version = $2`, func(row *row) error {
		v = &iot.PolicyVersion{Version: int(row.int()), Document: row.text(), CreatedAt: row.time()}
		return nil
	}, policy, version)
	return v, err
}

// PolicyVersions implements store.PolicyReader.
func (r reader) PolicyVersions(policy int64) (list []*iot.PolicyVersion, err error) {
	err = r.c.list(`SELECT version, created_at FROM policy_versions WHERE policy = $1 ORDER BY version`, func(row *row) error {
		list = append(list, &iot.PolicyVersion{Version: int(row.int()), CreatedAt: row.time()})
		return nil
	}, policy)
	return list, err
}

// AttachedPolicies implements store.PolicyReader.
func (r reader) AttachedPolicies(targets []iot.PolicyTarget) ([]*iot.Policy, error) {
	var all []*iot.Policy
	for _, t := range targets {
		list, err := r.policies(selectPolicies+"JOIN policy_targets t ON t.policy = p.id WHERE t.kind = $1 AND t.name = $2", t.Kind, t.Name)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	slices.SortFunc(all, func(a, b *iot.Policy) int { return cmp.Compare(a.Name, b.Name) })
	return slices.CompactFunc(all, func(a, b *iot.Policy) bool { return a.ID == b.ID }), nil
}

// PolicyTargets implements store.PolicyReader.
func (r reader) PolicyTargets(policy int64, after iot.PolicyTarget, limit int) (list []iot.PolicyTarget, err error) {
	err = r.c.list(`SELECT kind, name FROM policy_targets WHERE policy = $1 AND (kind, name) > ($2, $3) ORDER BY kind, name LIMIT $4`, func(row *row) error {
		list = append(list, iot.PolicyTarget{Kind: row.text(), Name: row.text()})
		return nil
	}, policy, after.Kind, after.Name, limit)
	return list, err
}

// InsertPolicy implements store.PolicyWriter.
func (t *tx) InsertPolicy(p *iot.Policy, v *iot.PolicyVersion) error {
	id, err := t.Sequence(1)
	if err != nil {
		return err
	}
	if _, err := t.exec(`INSERT INTO policies (id, name, uuid, default_version, latest_version, created_at, modified_at) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		id, string(p.Name), p.UUID, p.Default, p.Latest, p.CreatedAt, p.ModifiedAt); err != nil {
		return err
	}
	p.ID = id
	return t.InsertPolicyVersion(id, v)
}

// SavePolicy implements store.PolicyWriter.
func (t *tx) SavePolicy(p *iot.Policy) error {
	return t.change(`UPDATE policies SET default_version = $1, latest_version = $2, modified_at = $3 WHERE id = $4`,
		p.Default, p.Latest, p.ModifiedAt, p.ID)
}

// DeletePolicy implements store.PolicyWriter.
func (t *tx) DeletePolicy(p *iot.Policy) error {
	if _, err := t.exec(`DELETE FROM policy_versions WHERE policy = $1`, p.ID); err != nil {
		return err
	}
	_, err := t.exec(`DELETE FROM policies WHERE id = $1`, p.ID)
	return err
}

// InsertPolicyVersion implements store.PolicyWriter.
func (t *tx) InsertPolicyVersion(policy int64, v *iot.PolicyVersion) error {
	_, err := t.exec(`INSERT INTO policy_versions (policy, version, document, created_at) VALUES ($1, $2, $3, $4)`,
		policy, v.Version, v.Document, v.CreatedAt)
	return err
}

// DeletePolicyVersion implements store.PolicyWriter.
func (t *tx) DeletePolicyVersion(policy int64, version int) error {
	_, err := t.exec(`DELETE FROM policy_versions WHERE policy = $1 AND version = $2`, policy, version)
	return err
}

// AttachPolicy implements store.PolicyWriter.
func (t *tx) AttachPolicy(policy int64, target iot.PolicyTarget) (bool, error) {
	n, err := t.exec(`INSERT INTO policy_targets (kind, name, policy) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, target.Kind, target.Name, policy)
	return n > 0, err
}

// DetachPolicy implements store.PolicyWriter.
func (t *tx) DetachPolicy(policy int64, target iot.PolicyTarget) (bool, error) {
	n, err := t.exec(`DELETE FROM policy_targets WHERE kind = $1 AND name = $2 AND policy = $3`, target.Kind, target.Name, policy)
	return n > 0, err
}

var (
	_ store.PolicyReader = reader{}
	_ store.PolicyWriter = (*tx)(nil)
)
