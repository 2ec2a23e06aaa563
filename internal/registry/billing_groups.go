package registry

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"drover/internal/iot"
	"drover/internal/store"
)

// CreateBillingGroup stores a billing group; one that exists with the same description is returned as it is.
// InvalidRequest for bad tags; AlreadyExists for a name with another definition.
func (r *Registry) CreateBillingGroup(ctx context.Context, n iot.NewBillingGroup) (g *iot.BillingGroup, err error) {
	if err := checkName("billingGroupName", n.Name); err != nil {
		return nil, err
	}
	if err := iot.CheckNewTags(n.Tags); err != nil {
		return nil, err
	}
	err = r.update(ctx, n.Actor, func(c *change) error {
		g, err = c.BillingGroup(n.Name)
		if err == nil {
			if g.Description != n.Description {
				return r.exists(iot.KindBillingGroup, n.Name, g.UUID, "Billing group "+n.Name+" already exists with another definition")
			}
			return nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		g = &iot.BillingGroup{Name: n.Name, UUID: uuid.NewString(), Version: 1, Description: n.Description, CreatedAt: c.now}
		if err := c.InsertBillingGroup(g); err != nil {
			return err
		}
		if err := c.PutTags(r.realm.ARN(iot.KindBillingGroup, n.Name), n.Tags); err != nil {
			return err
		}
		return c.record(iot.BillingCreated, iot.BillingEvent{Name: n.Name})
	})
	if err != nil {
		return nil, err
	}
	return g, nil
}

// UpdateBillingGroup changes a billing group and returns its new version. NotFound; VersionMismatch.
func (r *Registry) UpdateBillingGroup(ctx context.Context, u iot.BillingGroupUpdate) (version int64, err error) {
	err = r.update(ctx, u.Actor, func(c *change) error {
		g, err := billingGroup(c, u.Name)
		if err != nil {
			return err
		}
		if err := expect(u.ExpectedVersion, g.Version, "billing group", u.Name); err != nil {
			return err
		}
		if u.Description != nil {
			g.Description = *u.Description
		}
		g.Version++
		version = g.Version
		if err := c.SaveBillingGroup(g); err != nil {
			return err
		}
		return c.record(iot.BillingUpdated, iot.BillingEvent{Name: u.Name})
	})
	return version, err
}

// billingChunk is how many things leave a billing group in a transaction when it is deleted.
const billingChunk = 1000

// DeleteBillingGroup forgets a billing group; its things leave it, in steps, which all are done when it is gone.
// Deleting what does not exist is no error. VersionMismatch.
func (r *Registry) DeleteBillingGroup(ctx context.Context, d iot.BillingGroupDeletion) error {
	for more := true; more; {
		err := r.update(ctx, d.Actor, func(c *change) error {
			more = false
			g, err := c.BillingGroup(d.Name)
			if errors.Is(err, store.ErrNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			if err := expect(d.ExpectedVersion, g.Version, "billing group", d.Name); err != nil {
				return err
			}
			members, err := c.BillingMembers(d.Name, "", billingChunk)
			if err != nil {
				return err
			}
			for _, name := range members {
				if err := r.bill(c, name, ""); err != nil {
					return err
				}
			}
			if more = len(members) == billingChunk; more {
				return nil
			}
			if err := c.DeleteBillingGroup(d.Name); err != nil {
				return err
			}
			if err := c.DeleteTags(r.realm.ARN(iot.KindBillingGroup, d.Name), nil); err != nil {
				return err
			}
			return c.record(iot.BillingDeleted, iot.BillingEvent{Name: d.Name})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// BillingGroup returns a billing group. NotFound.
func (r *Registry) BillingGroup(ctx context.Context, name string) (*iot.BillingGroup, error) {
	return view(ctx, r, func(rd store.Reader) (*iot.BillingGroup, error) { return billingGroup(rd, name) })
}

// BillingGroups lists billing groups whose names have a prefix, by name.
func (r *Registry) BillingGroups(ctx context.Context, prefix string, page iot.Page) ([]*iot.BillingGroup, string, error) {
	return list(ctx, r, func(rd store.Reader) ([]*iot.BillingGroup, string, error) {
		groups, err := rd.BillingGroups(prefix, page.Cursor, page.Limit+1)
		groups, next := cut(groups, page.Limit, func(g *iot.BillingGroup) string { return g.Name })
		return groups, next, err
	})
}

// BillingMembers lists the things of a billing group by name. NotFound.
func (r *Registry) BillingMembers(ctx context.Context, name string, page iot.Page) ([]iot.ThingName, string, error) {
	return list(ctx, r, func(rd store.Reader) ([]iot.ThingName, string, error) {
		if _, err := billingGroup(rd, name); err != nil {
			return nil, "", err
		}
		things, err := rd.BillingMembers(name, iot.ThingName(page.Cursor), page.Limit+1)
		things, next := cut(things, page.Limit, func(t iot.ThingName) string { return string(t) })
		return things, next, err
	})
}

// JoinBillingGroup adds a thing to a billing group. NotFound; InvalidRequest for a thing that is in another one.
func (r *Registry) JoinBillingGroup(ctx context.Context, thing iot.ThingName, group, actor string) error {
	return r.update(ctx, actor, func(c *change) error { return r.bill(c, thing, group) })
}

// LeaveBillingGroup removes a thing from a billing group; one that is not in it stays as it is. NotFound.
func (r *Registry) LeaveBillingGroup(ctx context.Context, thing iot.ThingName, group, actor string) error {
	return r.update(ctx, actor, func(c *change) error {
		if _, err := billingGroup(c, group); err != nil {
			return err
		}
		t, err := thingByName(c, thing)
		if err != nil || t.BillingGroup != group {
			return err
		}
		return r.bill(c, thing, "")
	})
}

// bill puts a thing into a billing group, or takes it out of its own if group is "". Errors as of
// JoinBillingGroup.
func (r *Registry) bill(c *change, name iot.ThingName, group string) error {
	if group != "" {
		if _, err := billingGroup(c, group); err != nil {
			return err
		}
	}
	t, err := thingByName(c, name)
	switch {
	case err != nil:
		return err
	case t.BillingGroup == group:
		return nil
	case t.BillingGroup != "" && group != "":
		return iot.Errorf(iot.InvalidRequest, "Thing %s is in the billing group %s already; it can be in one", name, t.BillingGroup)
	}
	kind, about := iot.BillingJoined, group
	if group == "" {
		kind, about = iot.BillingLeft, t.BillingGroup
	}
	if err := c.SetBillingGroup(t.ID, group); err != nil {
		return err
	}
	c.touched.things = append(c.touched.things, name)
	return c.record(kind, iot.BillingEvent{Name: about, Thing: name})
}

func billingGroup(rd store.BillingReader, name string) (*iot.BillingGroup, error) {
	g, err := rd.BillingGroup(name)
	return g, store.Absent(err, "Billing group", name)
}
