package sqlstore

import (
	"errors"
	"fmt"
	"strings"

	"drover/internal/iot"
	"drover/internal/store"
)

// scanLimit is how many things a page of a search by attribute looks at: attributes have
// no index, and nobody shall wait long for a page, nor hold a snapshot for long.
const scanLimit = 10_000

const selectThings = `SELECT t.id, t.name, t.uuid, t.type_name, t.attributes, t.version, t.created_at, t.billing_group FROM things t `

const (
	thingByName  = selectThings + `WHERE t.name = $1 AND t.deleted = 0`
	allThings    = selectThings + `WHERE t.deleted = 0 AND t.name > $1 ORDER BY t.name LIMIT $2`
	thingsByType = selectThings + `WHERE t.deleted = 0 AND t.type_name <> '' AND t.type_name = $1 AND t.name > $2 ORDER BY t.name LIMIT $3`

	thingByID = selectThings + `WHERE t.id = $1 AND t.deleted = 0`

	idByName    = `SELECT t.id FROM things t WHERE t.name = $1 AND t.deleted = 0`
	ghostByName = `SELECT t.id FROM things t WHERE t.name = $1 AND t.deleted = 1`
	insertThing = `INSERT INTO things (id, name, uuid, type_name, attributes, version, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)`
	reviveThing = `UPDATE things SET deleted = 0, uuid = $1, type_name = $2, attributes = $3, version = $4, created_at = $5 WHERE id = $6`
	saveThing   = `UPDATE things SET type_name = $1, attributes = $2, version = $3 WHERE id = $4 AND deleted = 0`
)

func scanThing(r *row) (*iot.Thing, error) {
	t := &iot.Thing{ID: r.int(), Name: iot.ThingName(r.text()), UUID: r.text(), Type: r.text()}
	if err := fromJSON(r.text(), &t.Attributes); err != nil {
		return nil, fmt.Errorf("attributes of thing %s: %w", t.Name, err)
	}
	t.Version, t.CreatedAt, t.BillingGroup = r.int(), r.time(), r.text()
	return t, nil
}

// ThingByName implements store.ThingReader.
func (r reader) ThingByName(name iot.ThingName) (*iot.Thing, error) {
	things, err := r.ThingsByName([]iot.ThingName{name})
	if err != nil {
		return nil, err
	}
	if t := things[name]; t != nil {
		return t, nil
	}
	return nil, store.ErrNotFound
}

// ThingID implements store.ThingReader.
func (r reader) ThingID(name iot.ThingName) (id int64, err error) {
	scan := func(row *row) error {
		id = row.int()
		return nil
	}
	if err = r.c.one(idByName, scan, string(name)); errors.Is(err, store.ErrNotFound) {
		err = r.c.one(ghostByName, scan, string(name))
	}
	return id, err
}

// ThingsByName implements store.ThingReader.
func (r reader) ThingsByName(names []iot.ThingName) (map[iot.ThingName]*iot.Thing, error) {
	things := make(map[iot.ThingName]*iot.Thing, len(names))
	err := r.c.read(thingByName, len(names),
		func(i int, a *args) { a.text(string(names[i])) },
		func(i int, row *row) (err error) {
			things[names[i]], err = scanThing(row)
			return err
		})
	return things, err
}

// ThingsByID implements store.IndexReader.
func (r reader) ThingsByID(ids []int64) (map[int64]*iot.Thing, error) {
	things := make(map[int64]*iot.Thing, len(ids))
	err := r.c.read(thingByID, len(ids),
		func(i int, a *args) { a.int(ids[i]) },
		func(i int, row *row) (err error) {
			things[ids[i]], err = scanThing(row)
			return err
		})
	return things, err
}

// Things implements store.ThingReader. A page of a search by attribute looks at no more
// than 10,000 things.
func (r reader) Things(q store.ThingQuery, after iot.ThingName, limit int) (things []*iot.Thing, next iot.ThingName, more bool, err error) {
	look := limit
	if q.AttributeName != "" || q.AttributeValue != nil {
		look = max(limit, scanLimit)
	}
	query, values := allThings, []any{string(after), look + 1}
	if q.Type != "" {
		query, values = thingsByType, []any{q.Type, string(after), look + 1}
	}
	looked := 0
	err = r.c.list(query, func(row *row) error {
		if looked == look || len(things) == limit {
			more = true
			return errStop
		}
		looked++
		t, err := scanThing(row)
		if err != nil {
			return err
		}
		if next = t.Name; matches(q, t) {
			things = append(things, t)
		}
		return nil
	}, values...)
	return things, next, more, err
}

// matches reports whether the thing has the attribute that q asks for.
func matches(q store.ThingQuery, t *iot.Thing) bool {
	if q.AttributeName == "" {
		return true
	}
	value, ok := t.Attributes[q.AttributeName]
	switch {
	case !ok:
		return false
	case q.AttributeValue == nil:
		return true
	case q.Prefix:
		return strings.HasPrefix(value, *q.AttributeValue)
	}
	return value == *q.AttributeValue
}

// InsertThings implements store.ThingWriter.
func (t *tx) InsertThings(things []*iot.Thing) error {
	if len(things) == 0 {
		return nil
	}
	attributes, err := attributesOf(things)
	if err != nil {
		return t.failing(err)
	}
	ids := make([]int64, len(things)) // of ghosts, then of all
	revived := 0
	err = t.c.read(ghostByName, len(things),
		func(i int, a *args) { a.text(string(things[i].Name)) },
		func(i int, row *row) error {
			ids[i] = row.int()
			revived++
			return nil
		})
	if err != nil {
		return err
	}
	var fresh, ghosts []int
	for i, id := range ids {
		if id == 0 {
			fresh = append(fresh, i)
		} else {
			ghosts = append(ghosts, i)
		}
	}
	if len(fresh) > 0 {
		first, err := t.Sequence(len(fresh))
		if err != nil {
			return err
		}
		for n, i := range fresh {
			ids[i] = first + int64(n)
		}
	}
	err = t.insert(insertThing, len(fresh), func(n int, a *args) {
		i := fresh[n]
		a.int(ids[i])
		a.text(string(things[i].Name))
		a.text(things[i].UUID)
		a.text(things[i].Type)
		a.text(attributes[i])
		a.int(things[i].Version)
		a.time(things[i].CreatedAt)
	})
	if err != nil {
		return err
	}
	err = t.later(reviveThing, len(ghosts), func(n int, a *args) {
		i := ghosts[n]
		a.text(things[i].UUID)
		a.text(things[i].Type)
		a.text(attributes[i])
		a.int(things[i].Version)
		a.time(things[i].CreatedAt)
		a.int(ids[i])
	})
	if err != nil {
		return err
	}
	for i := range things {
		things[i].ID = ids[i]
	}
	return nil
}

// attributesOf encodes the attributes of things; none are "".
func attributesOf(things []*iot.Thing) ([]string, error) {
	texts := make([]string, len(things))
	for i, t := range things {
		if len(t.Attributes) == 0 {
			continue
		}
		var err error
		if texts[i], err = toJSON(t.Attributes); err != nil {
			return nil, err
		}
	}
	return texts, nil
}

// SaveThings implements store.ThingWriter. store.ErrNotFound if one is absent.
func (t *tx) SaveThings(things []*iot.Thing) error {
	attributes, err := attributesOf(things)
	if err != nil {
		return t.failing(err)
	}
	changed, err := t.bulk(saveThing, len(things), func(i int, a *args) {
		a.text(things[i].Type)
		a.text(attributes[i])
		a.int(things[i].Version)
		a.int(things[i].ID)
	})
	if err == nil && changed < len(things) {
		err = t.failing(store.ErrNotFound)
	}
	return err
}

// DeleteThing implements store.ThingWriter.
func (t *tx) DeleteThing(thing *iot.Thing) error {
	for _, query := range []string{`DELETE FROM members WHERE thing_id = $1`, `DELETE FROM shadows WHERE thing_id = $1`} {
		if _, err := t.exec(query, thing.ID); err != nil {
			return err
		}
	}
	if err := t.change(`UPDATE things SET deleted = 1, billing_group = '' WHERE id = $1 AND deleted = 0`, thing.ID); err != nil {
		return err
	}
	return t.dropGhosts([]int64{thing.ID})
}

const selectTypes = `SELECT id, name, uuid, description, searchable, propagating, created_at, deprecated_at FROM thing_types `

func scanType(r *row) (*iot.ThingType, error) {
	t := &iot.ThingType{ID: r.int(), Name: r.text(), UUID: r.text(), Description: r.text()}
	if err := fromJSON(r.text(), &t.Searchable); err != nil {
		return nil, err
	}
	if err := fromJSON(r.text(), &t.Propagating); err != nil {
		return nil, err
	}
	t.CreatedAt, t.DeprecatedAt = r.time(), r.time()
	return t, nil
}

// ThingTypeByName implements store.ThingReader.
func (r reader) ThingTypeByName(name string) (t *iot.ThingType, err error) {
	err = r.c.one(selectTypes+`WHERE name = $1`, func(row *row) (err error) {
		t, err = scanType(row)
		return err
	}, name)
	return t, err
}

// ThingTypes implements store.ThingReader.
func (r reader) ThingTypes(after string, limit int) (types []*iot.ThingType, err error) {
	err = r.c.list(selectTypes+`WHERE name > $1 ORDER BY name LIMIT $2`, func(row *row) error {
		t, err := scanType(row)
		types = append(types, t)
		return err
	}, after, limit)
	return types, err
}

// TypeInUse implements store.ThingReader.
func (r reader) TypeInUse(name string) (bool, error) {
	n, err := r.c.number(`SELECT 1 FROM things WHERE type_name = $1 AND type_name <> '' AND deleted = 0 LIMIT 1`, name)
	return n == 1, err
}

// InsertThingType implements store.ThingWriter.
func (t *tx) InsertThingType(typ *iot.ThingType) error {
	searchable, propagating, err := typeJSON(typ)
	if err != nil {
		return t.failing(err)
	}
	id, err := t.Sequence(1)
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO thing_types (id, name, uuid, description, searchable, propagating, created_at, deprecated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		id, typ.Name, typ.UUID, typ.Description, searchable, propagating, typ.CreatedAt, typ.DeprecatedAt)
	if err == nil {
		typ.ID = id
	}
	return err
}

func typeJSON(typ *iot.ThingType) (searchable, propagating string, err error) {
	if searchable, err = toJSON(typ.Searchable); err != nil {
		return
	}
	propagating, err = toJSON(typ.Propagating)
	return
}

// SaveThingType implements store.ThingWriter. store.ErrNotFound if it is absent.
func (t *tx) SaveThingType(typ *iot.ThingType) error {
	searchable, propagating, err := typeJSON(typ)
	if err != nil {
		return t.failing(err)
	}
	return t.change(`UPDATE thing_types SET description = $1, searchable = $2, propagating = $3, deprecated_at = $4 WHERE id = $5`,
		typ.Description, searchable, propagating, typ.DeprecatedAt, typ.ID)
}

// DeleteThingType implements store.ThingWriter.
func (t *tx) DeleteThingType(typ *iot.ThingType) error {
	_, err := t.exec(`DELETE FROM thing_types WHERE id = $1`, typ.ID)
	return err
}
