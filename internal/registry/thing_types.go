package registry

import (
	"context"
	"errors"
	"slices"

	"github.com/google/uuid"

	"drover/internal/iot"
	"drover/internal/store"
)

// CreateThingType creates a type. A type that exists with the same properties is returned
// as it is, and gets no tags. InvalidRequest for bad properties or tags; AlreadyExists for
// a name with other properties.
func (r *Registry) CreateThingType(ctx context.Context, n iot.NewThingType) (t *iot.ThingType, err error) {
	if err := checkName("thingTypeName", n.Name); err != nil {
		return nil, err
	}
	if err := r.checkSearchable(n.Searchable); err != nil {
		return nil, err
	}
	if err := r.checkPropagating(n.Propagating); err != nil {
		return nil, err
	}
	if err := iot.CheckNewTags(n.Tags); err != nil {
		return nil, err
	}
	err = r.update(ctx, n.Actor, func(c *change) error {
		t, err = c.ThingTypeByName(n.Name)
		if err == nil {
			if t.Description != n.Description || !sameSet(t.Searchable, n.Searchable) || !slices.Equal(t.Propagating, n.Propagating) {
				return r.exists(iot.KindThingType, n.Name, t.UUID, "Thing Type "+n.Name+" already exists in current account with different properties")
			}
			return nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		t = &iot.ThingType{Name: n.Name, Description: n.Description, Searchable: n.Searchable, Propagating: n.Propagating}
		return r.insertType(c, t, n.Tags)
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// insertType stores a new type and tells of it.
func (r *Registry) insertType(c *change, t *iot.ThingType, tags []iot.Tag) error {
	t.UUID, t.CreatedAt = uuid.NewString(), c.now
	if err := c.InsertThingType(t); err != nil {
		return err
	}
	if len(tags) > 0 {
		if err := c.PutTags(r.realm.ARN(iot.KindThingType, t.Name), tags); err != nil {
			return err
		}
	}
	return c.record(iot.TypeCreated, typeEvent(t))
}

// UpdateThingType replaces the propagating attributes of a type, deprecated or not.
// NotFound; InvalidRequest for bad ones and for another description or other searchable
// attributes than the type has.
func (r *Registry) UpdateThingType(ctx context.Context, u iot.ThingTypeUpdate) error {
	if err := r.checkPropagating(u.Propagating); err != nil {
		return err
	}
	return r.update(ctx, u.Actor, func(c *change) error {
		t, err := typeByName(c, u.Name)
		switch {
		case err != nil:
			return err
		case u.Description != nil && *u.Description != t.Description:
			return iot.Errorf(iot.InvalidRequest, "The thingTypeDescription of thing type %s cannot be changed", u.Name)
		case u.Searchable != nil && !sameSet(u.Searchable, t.Searchable):
			return iot.Errorf(iot.InvalidRequest, "The searchableAttributes of thing type %s cannot be changed", u.Name)
		case u.Propagating == nil || slices.Equal(u.Propagating, t.Propagating):
			return nil
		}
		t.Propagating = u.Propagating
		return c.saveType(t)
	})
}

// DeprecateThingType keeps a type from being given to more things, or allows it again.
// NotFound.
func (r *Registry) DeprecateThingType(ctx context.Context, d iot.ThingTypeDeprecation) error {
	return r.update(ctx, d.Actor, func(c *change) error {
		t, err := typeByName(c, d.Name)
		if err != nil {
			return err
		}
		if deprecated := t.DeprecatedAt != 0; deprecated != d.Undo {
			return nil // as asked for; the date of a deprecation is kept
		}
		t.DeprecatedAt = c.now
		if d.Undo {
			t.DeprecatedAt = 0
		}
		return c.saveType(t)
	})
}

func (c *change) saveType(t *iot.ThingType) error {
	if err := c.SaveThingType(t); err != nil {
		return err
	}
	return c.record(iot.TypeUpdated, typeEvent(t))
}

// DeleteThingType forgets a type. NotFound; InvalidRequest unless the type has been
// deprecated for Limits.TypeDeletionWait and no thing has it.
func (r *Registry) DeleteThingType(ctx context.Context, d iot.ThingTypeDeletion) error {
	return r.update(ctx, d.Actor, func(c *change) error {
		t, err := typeByName(c, d.Name)
		switch {
		case err != nil:
			return err
		case t.DeprecatedAt == 0:
			return iot.Errorf(iot.InvalidRequest, "Cannot delete thing type : %s. Please deprecate it first", d.Name)
		case c.now < t.DeprecatedAt.Add(r.limits.TypeDeletionWait):
			// Infrastructure tools look for this text (registry spec §2.6).
			return iot.Errorf(iot.InvalidRequest, "Cannot delete thing type : %s. Please wait for 5 minutes after deprecation and then retry", d.Name)
		}
		used, err := c.TypeInUse(d.Name)
		if err != nil {
			return err
		}
		if used {
			return iot.Errorf(iot.InvalidRequest, "Cannot delete thing type : %s. There are still things of this type", d.Name)
		}
		if err := c.DeleteThingType(t); err != nil {
			return err
		}
		if err := c.DeleteTags(r.realm.ARN(iot.KindThingType, d.Name), nil); err != nil {
			return err
		}
		return c.record(iot.TypeDeleted, typeEvent(t))
	})
}

// ThingType returns a type. NotFound.
func (r *Registry) ThingType(ctx context.Context, name string) (*iot.ThingType, error) {
	return view(ctx, r, func(rd store.Reader) (*iot.ThingType, error) { return typeByName(rd, name) })
}

// ThingTypes lists types by name: all, or the one that is named, if it exists.
func (r *Registry) ThingTypes(ctx context.Context, name string, page iot.Page) ([]*iot.ThingType, string, error) {
	return list(ctx, r, func(rd store.Reader) ([]*iot.ThingType, string, error) {
		if name == "" {
			types, err := rd.ThingTypes(page.Cursor, page.Limit+1)
			types, next := cut(types, page.Limit, func(t *iot.ThingType) string { return t.Name })
			return types, next, err
		}
		t, err := rd.ThingTypeByName(name)
		if errors.Is(err, store.ErrNotFound) || err == nil && name <= page.Cursor {
			return nil, "", nil
		}
		return []*iot.ThingType{t}, "", err
	})
}

func (r *Registry) checkSearchable(names []string) error {
	const member = "thingTypeProperties.searchableAttributes"
	if len(names) > r.limits.SearchableAttributes {
		return iot.Errorf(iot.InvalidRequest, "A thing type can have at most %d searchableAttributes, not %d", r.limits.SearchableAttributes, len(names))
	}
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return iot.Invalid(member, name, "Member must not have duplicate values")
		}
		if name == "" {
			return iot.Invalid(member, name, "Member must have length greater than or equal to 1")
		}
	}
	return nil
}

func (r *Registry) checkPropagating(attributes []iot.PropagatingAttribute) error {
	const member = "thingTypeProperties.mqtt5Configuration.propagatingAttributes"
	if len(attributes) > r.limits.PropagatingAttributes {
		return iot.Errorf(iot.InvalidRequest, "A thing type can have at most %d propagatingAttributes, not %d", r.limits.PropagatingAttributes, len(attributes))
	}
	for _, a := range attributes {
		switch {
		case a.UserPropertyKey == "":
			return iot.Invalid(member+".userPropertyKey", nil, "Member must not be null")
		case (a.ThingAttribute == "") == (a.ConnectionAttribute == ""):
			return iot.Errorf(iot.InvalidRequest, "The propagating attribute %s must have either a thingAttribute or a connectionAttribute", a.UserPropertyKey)
		case a.ConnectionAttribute != "" && a.ConnectionAttribute != "iot:ClientId" && a.ConnectionAttribute != "iot:Thing.ThingName":
			return iot.Invalid(member+".connectionAttribute", a.ConnectionAttribute, "Member must satisfy enum value set: [iot:ClientId, iot:Thing.ThingName]")
		}
	}
	return nil
}

// sameSet compares two lists without duplicates regardless of their order.
func sameSet(a, b []string) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(s string) bool { return !slices.Contains(b, s) })
}

func typeByName(rd store.ThingReader, name string) (*iot.ThingType, error) {
	t, err := rd.ThingTypeByName(name)
	return t, store.Absent(err, "Thing type", name)
}

// The spelling is the live service's own (registry spec §1.2).
func errDeprecatedForNew(name string) error {
	return iot.Errorf(iot.InvalidRequest, "Can not create new thing with depreated thing type:%s", name)
}

func errDeprecatedForUpdate(name string) error {
	return iot.Errorf(iot.InvalidRequest, "Can not update a thing to use deprecated thing type: %s", name)
}

func typeEvent(t *iot.ThingType) iot.TypeEvent {
	return iot.TypeEvent{Name: t.Name, UUID: t.UUID, Description: t.Description, Searchable: t.Searchable, DeprecatedAt: t.DeprecatedAt}
}
