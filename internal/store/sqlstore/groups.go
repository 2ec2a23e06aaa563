package sqlstore

import (
	"cmp"
	"slices"
	"strings"

	"drover/internal/iot"
	"drover/internal/store"
)

const selectGroups = `SELECT g.id, g.name, g.uuid, g.parent, g.description, g.attributes, g.version, g.created_at, g.query, g.status FROM thing_groups g `

const (
	groupByName = selectGroups + `WHERE g.name = $1`
	groupByUUID = selectGroups + `WHERE g.uuid = $1`
	groupByID   = selectGroups + `WHERE g.id = $1`
	groups      = selectGroups + `WHERE g.name >= $1 AND ($2 = 0 OR g.parent = 0) ORDER BY g.name LIMIT $3`
	children    = selectGroups + `WHERE g.parent = $1 ORDER BY g.name`
	dynamic     = selectGroups + `WHERE g.query <> '' AND g.id > 0 ORDER BY g.id`
	// UNION, not UNION ALL: even a cycle would end.
	descendants = `WITH RECURSIVE below (id) AS (SELECT id FROM thing_groups WHERE id = $1
		UNION SELECT g.id FROM below b JOIN thing_groups g ON g.parent = b.id) SELECT id FROM below ORDER BY id`

	groupsOfThing = selectGroups + `JOIN members m ON m.group_id = g.id WHERE m.thing_id = $1 ORDER BY g.name`
	memberOf      = `SELECT seq, thing_name FROM members WHERE thing_id = $1 AND group_id = $2`
	membersOf     = `SELECT seq, thing_id, thing_name FROM members WHERE group_id = $1 AND thing_name > $2 ORDER BY thing_name LIMIT $3`
	insertMember  = `INSERT INTO members (group_id, thing_name, thing_id, seq) VALUES ($1, $2, $3, $4)
		ON CONFLICT (group_id, thing_name) DO NOTHING`
	deleteMember = `DELETE FROM members WHERE thing_id = $1 AND group_id = $2`
)

func scanGroup(r *row) (*iot.Group, error) {
	g := &iot.Group{ID: r.int(), Name: iot.GroupName(r.text()), UUID: r.text(), Parent: r.int(), Description: r.text()}
	err := fromJSON(r.text(), &g.Attributes)
	g.Version, g.CreatedAt = r.int(), r.time()
	g.Query, g.Status = r.text(), iot.IndexStatus(r.text())
	return g, err
}

// groups reads groups by running a query n times.
func (r reader) groups(query string, n int, bind func(i int, a *args)) (groups []*iot.Group, err error) {
	err = r.c.read(query, n, bind, func(_ int, row *row) error {
		g, err := scanGroup(row)
		groups = append(groups, g)
		return err
	})
	return groups, err
}

// GroupByName implements store.GroupReader.
func (r reader) GroupByName(name iot.GroupName) (*iot.Group, error) {
	return r.group(groupByName, string(name))
}

// GroupByUUID implements store.GroupReader.
func (r reader) GroupByUUID(uuid string) (*iot.Group, error) {
	return r.group(groupByUUID, uuid)
}

func (r reader) group(query, key string) (*iot.Group, error) {
	groups, err := r.groups(query, 1, bindAll([]any{key}))
	if err != nil {
		return nil, err
	}
	if len(groups) == 0 {
		return nil, store.ErrNotFound
	}
	return groups[0], nil
}

// GroupsByID implements store.GroupReader.
func (r reader) GroupsByID(ids []int64) (map[int64]*iot.Group, error) {
	groups, err := r.groups(groupByID, len(ids), func(i int, a *args) { a.int(ids[i]) })
	found := make(map[int64]*iot.Group, len(groups))
	for _, g := range groups {
		found[g.ID] = g
	}
	return found, err
}

// Groups implements store.GroupReader.
func (r reader) Groups(q store.GroupQuery, after iot.GroupName, limit int) ([]*iot.Group, error) {
	if q.Within != nil {
		return r.groupsWithin(q, after, limit)
	}
	var list []*iot.Group
	from := max(string(after), q.Prefix)
	err := r.c.list(groups, func(row *row) error {
		g, err := scanGroup(row)
		switch {
		case err != nil:
			return err
		case g.Name == after:
			return nil
		case len(list) == limit || !strings.HasPrefix(string(g.Name), q.Prefix):
			return errStop
		}
		list = append(list, g)
		return nil
	}, from, q.Roots, limit+1)
	return list, err
}

// groupsWithin is Groups for a given set of groups, which is some hierarchy's.
func (r reader) groupsWithin(q store.GroupQuery, after iot.GroupName, limit int) ([]*iot.Group, error) {
	ids := slices.Clone(q.Within)
	slices.Sort(ids)
	ids = slices.Compact(ids)
	list, err := r.groups(groupByID, len(ids), func(i int, a *args) { a.int(ids[i]) })
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(g *iot.Group) bool {
		return g.Name <= after || !strings.HasPrefix(string(g.Name), q.Prefix) || q.Roots && g.Parent != 0
	})
	slices.SortFunc(list, func(a, b *iot.Group) int { return cmp.Compare(a.Name, b.Name) })
	return list[:min(limit, len(list))], nil
}

// DynamicGroups implements store.GroupReader.
func (r reader) DynamicGroups() ([]*iot.Group, error) {
	return r.groups(dynamic, 1, func(int, *args) {})
}

// Ancestors implements store.GroupReader.
func (r reader) Ancestors(group int64) ([]*iot.Group, error) {
	var chain []*iot.Group
	for id := group; id != 0; {
		groups, err := r.groups(groupByID, 1, bindAll([]any{id}))
		if err != nil {
			return nil, err
		}
		if len(groups) == 0 {
			break
		}
		if id != group {
			chain = append(chain, groups[0])
		}
		id = groups[0].Parent
	}
	return chain, nil
}

// Descendants implements store.GroupReader.
func (r reader) Descendants(group int64) (ids []int64, err error) {
	err = r.c.list(descendants, func(row *row) error {
		ids = append(ids, row.int())
		return nil
	}, group)
	return ids, err
}

// Children implements store.GroupReader.
func (r reader) Children(group int64) ([]*iot.Group, error) {
	return r.groups(children, 1, bindAll([]any{group}))
}

// GroupsOfThing implements store.GroupReader.
func (r reader) GroupsOfThing(thing int64) ([]*iot.Group, error) {
	return r.groups(groupsOfThing, 1, bindAll([]any{thing}))
}

// Member implements store.GroupReader.
func (r reader) Member(group, thing int64) (m iot.Member, err error) {
	err = r.c.one(memberOf, func(row *row) error {
		m = iot.Member{Seq: row.int(), GroupID: group, ThingID: thing, Thing: iot.ThingName(row.text())}
		return nil
	}, thing, group)
	return m, err
}

// Members implements store.GroupReader.
func (r reader) Members(group int64, after iot.ThingName, limit int) (members []iot.Member, err error) {
	err = r.c.list(membersOf, func(row *row) error {
		members = append(members, iot.Member{Seq: row.int(), GroupID: group, ThingID: row.int(), Thing: iot.ThingName(row.text())})
		return nil
	}, group, string(after), limit)
	return members, err
}

// InsertGroup implements store.GroupWriter.
func (t *tx) InsertGroup(g *iot.Group) error {
	attributes, err := toJSON(g.Attributes)
	if err != nil {
		return t.failing(err)
	}
	id, err := t.Sequence(1)
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO thing_groups (id, name, uuid, parent, description, attributes, version, created_at, query, status)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		id, string(g.Name), g.UUID, g.Parent, g.Description, attributes, g.Version, g.CreatedAt, g.Query, string(g.Status))
	if err == nil {
		g.ID = id
	}
	return err
}

// SaveGroup implements store.GroupWriter. store.ErrNotFound if it is absent.
func (t *tx) SaveGroup(g *iot.Group) error {
	attributes, err := toJSON(g.Attributes)
	if err != nil {
		return t.failing(err)
	}
	return t.change(`UPDATE thing_groups SET parent = $1, description = $2, attributes = $3, version = $4, query = $5, status = $6 WHERE id = $7`,
		g.Parent, g.Description, attributes, g.Version, g.Query, string(g.Status), g.ID)
}

// DeleteGroup implements store.GroupWriter.
func (t *tx) DeleteGroup(g *iot.Group) error {
	if _, err := t.exec(`DELETE FROM members WHERE group_id = $1`, g.ID); err != nil {
		return err
	}
	_, err := t.exec(`DELETE FROM thing_groups WHERE id = $1`, g.ID)
	return err
}

// InsertMembers implements store.GroupWriter.
func (t *tx) InsertMembers(members []iot.Member) ([]iot.Member, error) {
	added := make([]iot.Member, 0, len(members))
	err := t.write(insertMember, len(members), func(i int, a *args) {
		a.int(members[i].GroupID)
		a.text(string(members[i].Thing))
		a.int(members[i].ThingID)
		a.int(members[i].Seq)
	}, func(i, rows int) {
		if rows > 0 {
			added = append(added, members[i])
		}
	})
	return added, err
}

// DeleteMember implements store.GroupWriter.
func (t *tx) DeleteMember(group, thing int64) (bool, error) {
	n, err := t.exec(deleteMember, thing, group)
	return n > 0, err
}
