package registry

import (
	"context"
	"slices"
	"strconv"

	"github.com/google/uuid"

	"drover/internal/iot"
	"drover/internal/store"
)

// ChangeGroups takes a thing out of groups and then puts it into others, all or nothing;
// so a thing moves inside a hierarchy in one call. What is so already is left alone.
// NotFound for an unknown thing or group; InvalidRequest for a group in both lists, for a
// second group of one hierarchy, for dynamic groups, and for more groups than a thing can be in.
func (r *Registry) ChangeGroups(ctx context.Context, m iot.MembershipChange) error {
	for _, name := range m.Add {
		if slices.Contains(m.Remove, name) {
			return iot.Errorf(iot.InvalidRequest, "Thing group %s is to be added and to be removed", name)
		}
	}
	return r.update(ctx, m.Actor, func(c *change) error {
		thing, err := thingByName(c, m.Thing)
		if err != nil {
			return err
		}
		current, err := c.GroupsOfThing(thing.ID)
		if err != nil {
			return err
		}
		leaving, remaining, err := split(c, current, m.Remove)
		if err != nil {
			return err
		}
		// First in, then out: a thing that moves below a group that a job targets is of that
		// group all the time, and the engine can see it.
		if err := r.join(c, thing, remaining, m.Add, m.Override); err != nil {
			return err
		}
		return r.leave(c, thing, leaving)
	})
}

// split divides the groups that a thing is in into those that are named and the others.
// Names of groups that it is not in must exist, too.
func split(rd store.GroupReader, current []*iot.Group, names []iot.GroupName) (named, others []*iot.Group, err error) {
	others = current
	for _, name := range names {
		g, err := staticByName(rd, name)
		if err != nil {
			return nil, nil, err
		}
		if i := indexOf(others, g); i >= 0 {
			named, others = append(named, others[i]), slices.Delete(others, i, i+1)
		}
	}
	return named, others, nil
}

// leave ends the thing's memberships in groups that it is in.
func (r *Registry) leave(c *change, thing *iot.Thing, groups []*iot.Group) error {
	if len(groups) == 0 {
		return nil
	}
	for _, g := range groups {
		m, err := c.Member(g.ID, thing.ID)
		if err != nil {
			return err
		}
		if err := r.jobs.Leaving(c.Tx, c.now, thing, g, c.actor); err != nil {
			return err
		}
		if _, err := c.DeleteMember(g, thing); err != nil {
			return err
		}
		if err := c.record(iot.MemberGone, memberEvent(g, thing, m.Seq)); err != nil {
			return err
		}
	}
	return r.jobs.Left(c.Tx, c.now, thing, c.actor)
}

// join makes the thing, which is in current, a member of the named groups, too. With override, dynamic
// groups are not in the way: it leaves as many of them as it has to, when the transaction ends.
func (r *Registry) join(c *change, thing *iot.Thing, current []*iot.Group, names []iot.GroupName, override bool) error {
	if len(names) == 0 {
		return nil
	}
	roots := make(map[int64]*iot.Group, len(current)) // of a hierarchy: the group that the thing is in
	for _, g := range current {
		root, err := rootOf(c, g)
		if err != nil {
			return err
		}
		roots[root] = g
	}
	if override {
		current = slices.DeleteFunc(slices.Clone(current), (*iot.Group).Dynamic)
	}
	var added []membership
	for _, name := range names {
		g, err := staticByName(c, name)
		if err != nil {
			return err
		}
		if indexOf(current, g) >= 0 {
			continue
		}
		root, err := rootOf(c, g)
		if err != nil {
			return err
		}
		if err := r.checkJoin(thing.Name, g.Name, len(current), roots[root]); err != nil {
			return err
		}
		current, added, roots[root] = append(current, g), append(added, membership{thing, g}), g
	}
	return r.enter(c, added)
}

// membership is that of a thing in a group.
type membership struct {
	thing *iot.Thing
	group *iot.Group
}

// enter begins memberships.
func (r *Registry) enter(c *change, list []membership) error {
	if len(list) == 0 {
		return nil
	}
	seq, err := c.Sequence(len(list))
	if err != nil {
		return err
	}
	members, records := make([]iot.Member, len(list)), make([]iot.Record, len(list))
	for i, m := range list {
		members[i] = iot.Member{Seq: seq + int64(i), GroupID: m.group.ID, ThingID: m.thing.ID, Thing: m.thing.Name}
		if records[i], err = c.newRecord(iot.MemberAdded, memberEvent(m.group, m.thing, members[i].Seq)); err != nil {
			return err
		}
	}
	if err := c.Append(records...); err != nil {
		return err
	}
	if members, err = c.InsertMembers(members); err != nil {
		return err
	}
	return r.jobs.Joined(c.Tx, c.now, members, c.actor)
}

// checkJoin says whether a thing that is in count groups may join one more, if rival is
// the group of the same hierarchy that it is in, nil if there is none.
func (r *Registry) checkJoin(thing iot.ThingName, group iot.GroupName, count int, rival *iot.Group) error {
	if rival != nil {
		return iot.Errorf(iot.InvalidRequest, "Thing %s cannot join thing group %s: it is a member of %s in the same hierarchy", thing, group, rival.Name)
	}
	if count >= r.limits.GroupsPerThing {
		return iot.Errorf(iot.InvalidRequest, "Thing %s cannot join thing group %s: it is a member of %d groups, which is the limit", thing, group, count)
	}
	return nil
}

// GroupsOfThing lists the groups that a thing is a direct member of, by name. NotFound.
func (r *Registry) GroupsOfThing(ctx context.Context, name iot.ThingName, page iot.Page) ([]*iot.Group, string, error) {
	return list(ctx, r, func(rd store.Reader) ([]*iot.Group, string, error) {
		thing, err := thingByName(rd, name)
		if err != nil {
			return nil, "", err
		}
		groups, err := rd.GroupsOfThing(thing.ID)
		if err != nil {
			return nil, "", err
		}
		groups = slices.DeleteFunc(groups, func(g *iot.Group) bool { return string(g.Name) <= page.Cursor })
		groups, next := cut(groups, page.Limit, func(g *iot.Group) string { return string(g.Name) })
		return groups, next, nil
	})
}

func indexOf(groups []*iot.Group, g *iot.Group) int {
	return slices.IndexFunc(groups, func(o *iot.Group) bool { return o.ID == g.ID })
}

// rootOf returns the id of the root of g's hierarchy.
func rootOf(rd store.GroupReader, g *iot.Group) (int64, error) {
	if g.Parent == 0 {
		return g.ID, nil
	}
	ancestors, err := rd.Ancestors(g.ID)
	if err != nil {
		return 0, err
	}
	return ancestors[len(ancestors)-1].ID, nil
}

// memberEvent tells of the membership that began as number seq. The membershipId is made
// from it, so that the event of its end carries the same one (registry spec §7.2).
func memberEvent(g *iot.Group, thing *iot.Thing, seq int64) iot.MemberEvent {
	id := uuid.NewSHA1(uuid.NameSpaceOID, strconv.AppendInt([]byte(g.UUID+"/"+thing.UUID+"/"), seq, 10))
	return iot.MemberEvent{Group: groupRef(g), Thing: thing.Name, ThingUUID: thing.UUID, MembershipID: id.String()}
}
