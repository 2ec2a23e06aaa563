package sqlstore

import (
	"strings"

	"drover/internal/iot"
	"drover/internal/store"
)

const selectBilling = `SELECT name, uuid, version, description, created_at FROM billing_groups `

func scanBilling(r *row) *iot.BillingGroup {
	return &iot.BillingGroup{Name: r.text(), UUID: r.text(), Version: r.int(), Description: r.text(), CreatedAt: r.time()}
}

// BillingGroup implements store.BillingReader.
func (r reader) BillingGroup(name string) (g *iot.BillingGroup, err error) {
	err = r.c.one(selectBilling+`WHERE name = $1`, func(r *row) error {
		g = scanBilling(r)
		return nil
	}, name)
	return g, err
}

// BillingGroups implements store.BillingReader.
func (r reader) BillingGroups(prefix, after string, limit int) (list []*iot.BillingGroup, err error) {
	err = r.c.list(selectBilling+`WHERE name > $1 AND name >= $2 ORDER BY name LIMIT $3`, func(r *row) error {
		g := scanBilling(r)
		if !strings.HasPrefix(g.Name, prefix) {
			return errStop
		}
		list = append(list, g)
		return nil
	}, after, prefix, limit)
	return list, err
}

// BillingMembers implements store.BillingReader.
func (r reader) BillingMembers(group string, after iot.ThingName, limit int) (names []iot.ThingName, err error) {
	err = r.c.list(`SELECT name FROM things WHERE billing_group = $1 AND billing_group <> '' AND name > $2 ORDER BY name LIMIT $3`, func(r *row) error {
		names = append(names, iot.ThingName(r.text()))
		return nil
	}, group, string(after), limit)
	return names, err
}

// InsertBillingGroup implements store.BillingWriter.
func (t *tx) InsertBillingGroup(g *iot.BillingGroup) error {
	_, err := t.exec(`INSERT INTO billing_groups (name, uuid, version, description, created_at) VALUES ($1, $2, $3, $4, $5)`,
		g.Name, g.UUID, g.Version, g.Description, g.CreatedAt)
	return err
}

// SaveBillingGroup implements store.BillingWriter.
func (t *tx) SaveBillingGroup(g *iot.BillingGroup) error {
	return t.change(`UPDATE billing_groups SET version = $1, description = $2 WHERE name = $3`, g.Version, g.Description, g.Name)
}

// DeleteBillingGroup implements store.BillingWriter.
func (t *tx) DeleteBillingGroup(name string) error {
	_, err := t.exec(`DELETE FROM billing_groups WHERE name = $1`, name)
	return err
}

// SetBillingGroup implements store.BillingWriter.
func (t *tx) SetBillingGroup(thing int64, group string) error {
	return t.change(`UPDATE things SET billing_group = $1 WHERE id = $2 AND deleted = 0`, group, thing)
}

var (
	_ store.BillingReader = reader{}
	_ store.BillingWriter = (*tx)(nil)
)
