package registry

import (
	"context"
	"errors"
	"maps"

	"github.com/google/uuid"

	"drover/internal/iot"
	"drover/internal/store"
)

// CreateThing registers a thing. A thing that exists with the same type and attributes is
// returned as it is. InvalidRequest for a deprecated type, bad or too many attributes;
// NotFound for an unknown type or billing group; AlreadyExists for a name with another definition.
func (r *Registry) CreateThing(ctx context.Context, n iot.NewThing) (thing *iot.Thing, err error) {
	if err := checkName("thingName", string(n.Name)); err != nil {
		return nil, err
	}
	if err := iot.CheckAttributes(n.Attributes, false); err != nil {
		return nil, err
	}
	err = r.update(ctx, n.Actor, func(c *change) error {
		thing, err = c.ThingByName(n.Name)
		if err == nil {
			if thing.Type != n.Type || !maps.Equal(thing.Attributes, n.Attributes) || thing.BillingGroup != n.BillingGroup {
				return r.exists(iot.KindThing, string(n.Name), thing.UUID, "Thing "+string(n.Name)+" already exists in account with different attributes")
			}
			return nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if thing, err = r.insertThing(c, n); err != nil || n.BillingGroup == "" {
			return err
		}
		thing.BillingGroup = n.BillingGroup
		return r.bill(c, n.Name, n.BillingGroup)
	})
	if err != nil {
		return nil, err
	}
	return thing, nil
}

// insertThing stores a thing that does not exist. Errors as of CreateThing.
func (r *Registry) insertThing(c *change, n iot.NewThing) (*iot.Thing, error) {
	if n.Type != "" {
		t, err := typeByName(c, n.Type)
		if err != nil {
			return nil, err
		}
		if t.DeprecatedAt != 0 {
			return nil, errDeprecatedForNew(n.Type)
		}
	}
	if err := r.checkThingAttributes(n.Name, n.Type, n.Attributes); err != nil {
		return nil, err
	}
	thing := &iot.Thing{Name: n.Name, UUID: uuid.NewString(), Type: n.Type, Attributes: n.Attributes, Version: 1, CreatedAt: c.now}
	if err := c.InsertThings([]*iot.Thing{thing}); err != nil {
		return nil, err
	}
	if err := c.record(iot.ThingCreated, thingEvent(thing)); err != nil {
		return nil, err
	}
	return thing, c.recordAssociation(thing, "", thing.Type)
}

// UpdateThing changes the type and the attributes of a thing and raises its version, even
// if nothing is different afterwards. NotFound for an unknown thing or type;
// VersionMismatch; InvalidRequest for a deprecated type other than the thing's own, for a
// type to set and to remove at once, and for bad or too many attributes.
func (r *Registry) UpdateThing(ctx context.Context, u iot.ThingUpdate) error {
	return r.update(ctx, u.Actor, func(c *change) error {
		thing, err := thingByName(c, u.Name)
		if err != nil {
			return err
		}
		if err := expect(u.ExpectedVersion, thing.Version, "thing", u.Name); err != nil {
			return err
		}
		former := thing.Type
		switch {
		case u.RemoveType && u.Type != "":
			return iot.Errorf(iot.InvalidRequest, "Can not set thingTypeName and removeThingType at the same time")
		case u.RemoveType:
			thing.Type = ""
		case u.Type != "" && u.Type != former:
			t, err := typeByName(c, u.Type)
			if err != nil {
				return err
			}
			if t.DeprecatedAt != 0 {
				return errDeprecatedForUpdate(u.Type)
			}
			thing.Type = u.Type
		}
		if u.Attributes != nil {
			if err := iot.CheckAttributes(u.Attributes.Values, true); err != nil {
				return err
			}
			thing.Attributes = u.Attributes.Apply(thing.Attributes)
		}
		return r.saveThing(c, thing, former)
	})
}

// saveThing stores a thing that has changed, which had the former type.
func (r *Registry) saveThing(c *change, thing *iot.Thing, former string) error {
	if err := r.checkThingAttributes(thing.Name, thing.Type, thing.Attributes); err != nil {
		return err
	}
	thing.Version++
	if err := c.SaveThings([]*iot.Thing{thing}); err != nil {
		return err
	}
	if err := c.record(iot.ThingUpdated, thingEvent(thing)); err != nil {
		return err
	}
	return c.recordAssociation(thing, former, thing.Type)
}

// DeleteThing forgets a thing; its pending executions and its memberships end. Deleting
// what does not exist is no error. VersionMismatch; InvalidRequest as long as a principal is
// attached.
func (r *Registry) DeleteThing(ctx context.Context, d iot.ThingDeletion) error {
	return r.update(ctx, d.Actor, func(c *change) error {
		thing, err := c.ThingByName(d.Name)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := expect(d.ExpectedVersion, thing.Version, "thing", d.Name); err != nil {
			return err
		}
		attached, err := c.PrincipalsOfThing(thing.ID, store.PrincipalQuery{}, "", 1)
		if err != nil {
			return err
		}
		if len(attached) > 0 {
			return iot.Errorf(iot.InvalidRequest, "Cannot delete. Thing %s is still attached to one or more principals", d.Name)
		}
		if err := r.jobs.ThingDeleted(c.Tx, c.now, thing, c.actor); err != nil {
			return err
		}
		groups, err := c.GroupsOfThing(thing.ID)
		if err != nil {
			return err
		}
		for _, g := range groups {
			m, err := c.Member(g.ID, thing.ID)
			if err != nil {
				return err
			}
			if err := c.record(iot.MemberGone, memberEvent(g, thing, m.Seq)); err != nil {
				return err
			}
		}
		if err := c.recordAssociation(thing, thing.Type, ""); err != nil {
			return err
		}
		if err := c.DeleteThing(thing); err != nil {
			return err
		}
		return c.record(iot.ThingDeleted, thingEvent(thing))
	})
}

// Thing returns a thing. NotFound.
func (r *Registry) Thing(ctx context.Context, name iot.ThingName) (*iot.Thing, error) {
	return view(ctx, r, func(rd store.Reader) (*iot.Thing, error) { return thingByName(rd, name) })
}

// Things lists things by name. A page may be short, even empty, while there is a next one.
// InvalidRequest for the name of an attribute without a value.
func (r *Registry) Things(ctx context.Context, q iot.ThingQuery, page iot.Page) ([]*iot.Thing, string, error) {
	filter := store.ThingQuery{Type: q.Type}
	switch {
	case q.AttributeName != "" && q.AttributeValue == nil:
		return nil, "", iot.Invalid("attributeValue", nil, "Member must not be null when attributeName is given")
	case q.AttributeName == "" && q.AttributeValue != nil:
		return nil, "", iot.Invalid("attributeName", nil, "Member must not be null when attributeValue is given")
	case q.AttributeName != "":
		filter.AttributeName, filter.AttributeValue, filter.Prefix = q.AttributeName, q.AttributeValue, q.Prefix
	}
	return list(ctx, r, func(rd store.Reader) ([]*iot.Thing, string, error) {
		things, next, more, err := rd.Things(filter, iot.ThingName(page.Cursor), page.Limit)
		if err != nil || !more {
			return things, "", err
		}
		return things, string(next), nil
	})
}

// checkThingAttributes checks the number of attributes that a thing of a type may have.
func (r *Registry) checkThingAttributes(name iot.ThingName, typeName string, attributes map[string]string) error {
	if typeName == "" && len(attributes) > r.limits.UntypedAttributes {
		return iot.Errorf(iot.InvalidRequest, "Thing %s has %d attributes; without a thing type the limit is %d", name, len(attributes), r.limits.UntypedAttributes)
	}
	if len(attributes) > r.limits.TypedAttributes {
		return iot.Errorf(iot.InvalidRequest, "Thing %s has %d attributes; the limit is %d", name, len(attributes), r.limits.TypedAttributes)
	}
	return nil
}

// recordAssociation tells that the thing's type is not from any more but to.
func (c *change) recordAssociation(thing *iot.Thing, from, to string) error {
	if from == to {
		return nil
	}
	if from != "" {
		if err := c.record(iot.TypeDissociated, typeAssociationEvent(thing, from)); err != nil {
			return err
		}
	}
	if to != "" {
		return c.record(iot.TypeAssociated, typeAssociationEvent(thing, to))
	}
	return nil
}

func thingByName(rd store.ThingReader, name iot.ThingName) (*iot.Thing, error) {
	thing, err := rd.ThingByName(name)
	return thing, store.Absent(err, "Thing", name)
}

func thingEvent(t *iot.Thing) iot.ThingEvent {
	return iot.ThingEvent{Name: t.Name, UUID: t.UUID, Version: t.Version, Type: t.Type, Attributes: t.Attributes}
}

func typeAssociationEvent(t *iot.Thing, typeName string) iot.TypeAssociationEvent {
	return iot.TypeAssociationEvent{Thing: t.Name, ThingUUID: t.UUID, Type: typeName}
}
