package registry

import (
	"context"
	"slices"

	"drover/internal/iot"
	"drover/internal/query"
	"drover/internal/store"
)

// Dynamic groups (registry spec §4): their members are the things that a query finds. A thing that a
// transaction has touched is a member of what it matches before the transaction ends. A group that
// is new, or has got another query, is filled in the background.

// keeper is the actor of what happens in the background.
const keeper = "drover"

// checkDynamic checks that a dynamic group can have a query.
func (r *Registry) checkDynamic(c *change, text string, isNew bool) error {
	state, err := c.IndexState()
	if err != nil {
		return err
	}
	if !state.Things.On || state.Things.Status == iot.IndexBuilding {
		return iot.Errorf(iot.InvalidRequest, "Dynamic thing groups need the index %s, which is off or still being built", iot.ThingsIndex)
	}
	if _, err := r.membersQuery(sources(state.Things), text); err != nil {
		return iot.Errorf(iot.InvalidQuery, "%s", err)
	}
	if !isNew {
		return nil
	}
	groups, err := c.DynamicGroups()
	if err == nil && len(groups) >= r.limits.DynamicGroups {
		return iot.Errorf(iot.LimitExceeded, "There are %d dynamic thing groups, which is the limit", len(groups))
	}
	return err
}

func (r *Registry) membersQuery(from query.Sources, text string) (*query.Query, error) {
	return query.Parse(text, iot.ThingsIndex, from, query.Limits{Terms: r.limits.QueryTerms})
}

// everything is what the queries of groups that exist may be about: what is not indexed any more nothing has.
var everything = query.Sources{Connectivity: true, Packages: true}

// checkKind refuses a group of the other kind.
func checkKind(g *iot.Group, dynamic bool) error {
	switch {
	case g.Dynamic() && !dynamic:
		return iot.Errorf(iot.InvalidRequest, "Thing group %s is dynamic", g.Name)
	case !g.Dynamic() && dynamic:
		return iot.Errorf(iot.InvalidRequest, "Thing group %s is not dynamic", g.Name)
	}
	return nil
}

// staticByName returns a group that things are put into by name.
func staticByName(rd store.GroupReader, name iot.GroupName) (*iot.Group, error) {
	g, err := groupByName(rd, name)
	if err == nil {
		err = checkKind(g, false)
	}
	return g, err
}

// regroup makes things members of the dynamic groups that they match, and of no others, and returns the
// groups that each of them is in. Of more groups than it can be in, a thing is in the oldest.
func (r *Registry) regroup(c *change, state iot.IndexState, things []*iot.Thing, connections map[int64]iot.Connection, shadows map[int64]*iot.Shadow) (map[int64][]*iot.Group, error) {
	dynamic, err := c.DynamicGroups()
	if err != nil {
		return nil, err
	}
	dynamic = slices.DeleteFunc(dynamic, func(g *iot.Group) bool { return g.Status == iot.IndexDeleting })
	queries := make([]*query.Query, len(dynamic))
	for i, g := range dynamic {
		if queries[i], err = r.membersQuery(everything, g.Query); err != nil {
			return nil, err // it was checked
		}
	}
	groupsOf := make(map[int64][]*iot.Group, len(things))
	var joins []membership
	leaves := make(map[int64][]*iot.Group)
	for _, thing := range things {
		current, err := c.GroupsOfThing(thing.ID)
		if err != nil {
			return nil, err
		}
		groupsOf[thing.ID] = current
		if len(dynamic) == 0 {
			continue
		}
		others := slices.DeleteFunc(slices.Clone(current), func(g *iot.Group) bool { return indexOf(dynamic, g) >= 0 })
		static := slices.DeleteFunc(slices.Clone(others), (*iot.Group).Dynamic)
		doc := thingDocument(thing, static, connections, shadows[thing.ID]) // so that groups do not depend on each other
		var matching []*iot.Group
		for i, g := range dynamic {
			if queries[i].Matches(doc) {
				matching = append(matching, g)
			}
		}
		if room := max(r.limits.GroupsPerThing-len(others), 0); len(matching) > room {
			names := make([]iot.GroupName, 0, len(matching))
			for _, g := range matching[room:] {
				names = append(names, g.Name)
			}
			r.log.Info("AddThingToDynamicThingGroupsFailed", "thing", thing.Name, "groups", names, "reason", "the thing is in as many groups as it can be")
			matching = matching[:room]
		}
		for _, g := range matching {
			if indexOf(current, g) < 0 {
				joins = append(joins, membership{thing, g})
			}
		}
		for _, g := range current {
			if indexOf(others, g) < 0 && indexOf(matching, g) < 0 {
				leaves[thing.ID] = append(leaves[thing.ID], g)
			}
		}
		groupsOf[thing.ID] = append(others, matching...)
	}
	if err := r.enter(c, joins); err != nil {
		return nil, err
	}
	for _, thing := range things {
		if err := r.leave(c, thing, leaves[thing.ID]); err != nil {
			return nil, err
		}
	}
	return groupsOf, nil
}

// fillGroups fills the dynamic groups that are new or have got another query.
func (r *Registry) fillGroups(ctx context.Context) error {
	groups, err := view(ctx, r, func(rd store.Reader) ([]*iot.Group, error) { return rd.DynamicGroups() })
	if err != nil {
		return err
	}
	for _, g := range groups {
		if g.Status == iot.IndexBuilding || g.Status == iot.IndexRebuilding {
			if err := r.fill(ctx, g); err != nil {
				return err
			}
		}
	}
	return nil
}

// fill looks at the things that match the query of a group, and at its members. To look at one is to
// touch it, some of them in a transaction.
func (r *Registry) fill(ctx context.Context, g *iot.Group) error {
	for after, more := int64(0), true; more; {
		err := r.update(ctx, keeper, func(c *change) error {
			q, err := r.membersQuery(everything, g.Query)
			if err != nil {
				return err
			}
			root := q.Root
			if query.Mentions(root, query.ThingGroups) { // in the index with the dynamic ones
				root = query.All{}
			}
			ids, err := c.Search(iot.ThingsIndex, root, after, buildChunk)
			if err != nil {
				return err
			}
			things, err := c.ThingsByID(ids)
			if err != nil {
				return err
			}
			for _, t := range things {
				c.touched.things = append(c.touched.things, t.Name)
			}
			if more = len(ids) == buildChunk; more {
				after = ids[len(ids)-1]
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for after, more := iot.ThingName(""), true; more; {
		err := r.update(ctx, keeper, func(c *change) error {
			members, err := c.Members(g.ID, after, buildChunk)
			if err != nil {
				return err
			}
			for _, m := range members {
				c.touched.things = append(c.touched.things, m.Thing)
				after = m.Thing
			}
			more = len(members) == buildChunk
			return nil
		})
		if err != nil {
			return err
		}
	}
	return r.update(ctx, keeper, func(c *change) error {
		now, err := c.GroupsByID([]int64{g.ID})
		if err != nil {
			return err
		}
		filled := now[g.ID]
		if filled == nil || filled.Query != g.Query || filled.Status == iot.IndexDeleting {
			return nil // there is something else to do
		}
		filled.Status = iot.IndexActive
		return c.SaveGroup(filled)
	})
}
