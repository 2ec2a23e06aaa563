package registry

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"drover/internal/iot"
	"drover/internal/store"
)

// deletionChunk is how many memberships one transaction of DeleteGroup ends.
const deletionChunk = 1000

// groupsPerPage is how many groups of a hierarchy are looked at for one page of members:
// a hierarchy of empty groups must not keep a request busy.
const groupsPerPage = 1000

// CreateGroup creates a static group, or a dynamic one, which is filled in the background. A group
// that exists with the same parent, query and properties is returned as it is, and gets no tags.
// InvalidRequest for bad or too many attributes, bad tags, for more levels or siblings than a
// hierarchy can have, and for a dynamic group while things are not indexed; NotFound for an unknown
// parent; AlreadyExists for a name with another definition; InvalidQuery; LimitExceeded for more
// dynamic groups than there can be.
func (r *Registry) CreateGroup(ctx context.Context, n iot.NewGroup) (g *iot.Group, err error) {
	if err := checkName("thingGroupName", string(n.Name)); err != nil {
		return nil, err
	}
	if err := iot.CheckAttributes(n.Attributes, false); err != nil {
		return nil, err
	}
	if err := r.checkGroupAttributes(n.Name, n.Attributes); err != nil {
		return nil, err
	}
	if err := iot.CheckNewTags(n.Tags); err != nil {
		return nil, err
	}
	err = r.update(ctx, n.Actor, func(c *change) error {
		g, err = c.GroupByName(n.Name)
		if err == nil {
			return r.checkSameGroup(c, g, n)
		}
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		var ancestors []*iot.Group // from the parent to the root
		if n.Parent != "" {
			if ancestors, err = r.adopt(c, n.Parent); err != nil {
				return err
			}
		}
		g = &iot.Group{Name: n.Name, Description: n.Description, Attributes: n.Attributes}
		if n.Query != "" {
			if err := r.checkDynamic(c, n.Query, true); err != nil {
				return err
			}
			g.Query, g.Status = n.Query, iot.IndexBuilding
		}
		return r.insertGroup(c, g, ancestors, n.Tags)
	})
	if err != nil {
		return nil, err
	}
	if g.Dynamic() {
		r.build()
	}
	return g, nil
}

// checkSameGroup returns an AlreadyExists error unless g is what n asks for.
func (r *Registry) checkSameGroup(rd store.GroupReader, g *iot.Group, n iot.NewGroup) error {
	same := g.Description == n.Description && g.Query == n.Query && maps.Equal(g.Attributes, n.Attributes) && (g.Parent == 0) == (n.Parent == "")
	if same && g.Parent != 0 {
		parents, err := rd.GroupsByID([]int64{g.Parent})
		if err != nil {
			return err
		}
		same = parents[g.Parent].Name == n.Parent
	}
	if !same {
		return r.exists(iot.KindGroup, string(n.Name), g.UUID, "Thing Group "+string(n.Name)+" already exists in current account with different properties")
	}
	return nil
}

// adopt checks that the parent can have one more child, and returns it and its ancestors
// up to the root.
func (r *Registry) adopt(c *change, parent iot.GroupName) ([]*iot.Group, error) {
	p, err := groupByName(c, parent)
	if err != nil {
		return nil, err
	}
	if p.Dynamic() {
		return nil, iot.Errorf(iot.InvalidRequest, "Thing group %s is dynamic and cannot have child groups", parent)
	}
	above, err := c.Ancestors(p.ID)
	if err != nil {
		return nil, err
	}
	ancestors := append([]*iot.Group{p}, above...)
	if len(ancestors) >= r.limits.Depth {
		return nil, iot.Errorf(iot.InvalidRequest, "Thing group %s is on level %d of its hierarchy, which is the last", parent, len(ancestors))
	}
	children, err := c.Children(p.ID)
	if err != nil {
		return nil, err
	}
	if len(children) >= r.limits.Children {
		return nil, iot.Errorf(iot.InvalidRequest, "Thing group %s has %d child groups, which is the limit", parent, len(children))
	}
	return ancestors, nil
}

// insertGroup stores a new group below the first of ancestors and tells of it.
func (r *Registry) insertGroup(c *change, g *iot.Group, ancestors []*iot.Group, tags []iot.Tag) error {
	g.UUID, g.Version, g.CreatedAt = uuid.NewString(), 1, c.now
	if len(ancestors) > 0 {
		g.Parent = ancestors[0].ID
	}
	if err := c.InsertGroup(g); err != nil {
		return err
	}
	if len(tags) > 0 {
		if err := c.PutTags(r.realm.ARN(iot.KindGroup, string(g.Name)), tags); err != nil {
			return err
		}
	}
	if err := c.record(iot.GroupCreated, groupEvent(g, ancestors)); err != nil {
		return err
	}
	if len(ancestors) > 0 {
		return c.record(iot.ChildAdded, iot.ChildEvent{Parent: groupRef(ancestors[0]), Child: groupRef(g)})
	}
	return nil
}

// UpdateGroup changes description, attributes and query of a group, raises its version even if
// nothing is different afterwards, and returns the version. NotFound; VersionMismatch;
// InvalidRequest for bad or too many attributes, and for a group of the other kind; InvalidQuery.
func (r *Registry) UpdateGroup(ctx context.Context, u iot.GroupUpdate) (version int64, err error) {
	err = r.update(ctx, u.Actor, func(c *change) error {
		g, err := groupByName(c, u.Name)
		if err != nil {
			return err
		}
		if err := checkKind(g, u.Dynamic); err != nil {
			return err
		}
		if err := expect(u.ExpectedVersion, g.Version, "thing group", u.Name); err != nil {
			return err
		}
		if u.Query != nil && *u.Query != g.Query {
			if err := r.checkDynamic(c, *u.Query, false); err != nil {
				return err
			}
			g.Query, g.Status = *u.Query, iot.IndexRebuilding
			defer r.build()
		}
		if u.Description != nil {
			g.Description = *u.Description
		}
		if u.Attributes != nil {
			if err := iot.CheckAttributes(u.Attributes.Values, true); err != nil {
				return err
			}
			g.Attributes = u.Attributes.Apply(g.Attributes)
		}
		if err := r.checkGroupAttributes(g.Name, g.Attributes); err != nil {
			return err
		}
		g.Version++
		version = g.Version
		if err := c.SaveGroup(g); err != nil {
			return err
		}
		ancestors, err := c.Ancestors(g.ID)
		if err != nil {
			return err
		}
		return c.record(iot.GroupUpdated, groupEvent(g, ancestors))
	})
	return version, err
}

// DeleteGroup forgets a group that has no children; memberships in it end. Deleting what
// does not exist is no error. VersionMismatch; InvalidRequest for a group with children, or of
// the other kind.
//
// Memberships end in transactions of at most 1,000, the last of which deletes the group,
// so that a group of a million things costs neither memory nor the devices' patience.
// Until then the group is there with the members that are left, and if the request is cut
// short it stays so: the caller may ask again. The version is compared once, at the start.
func (r *Registry) DeleteGroup(ctx context.Context, d iot.GroupDeletion) error {
	for id := int64(0); ; {
		var done bool
		first := id == 0
		err := r.update(ctx, d.Actor, func(c *change) error {
			g, err := c.GroupByName(d.Name)
			if errors.Is(err, store.ErrNotFound) || err == nil && !first && g.ID != id {
				done = true // by someone else, between two of our transactions
				return nil
			}
			if err != nil {
				return err
			}
			if first {
				if err := checkKind(g, d.Dynamic); err != nil {
					return err
				}
				if err := expect(d.ExpectedVersion, g.Version, "thing group", d.Name); err != nil {
					return err
				}
				if id = g.ID; g.Dynamic() { // nobody joins any more
					g.Status = iot.IndexDeleting
					if err := c.SaveGroup(g); err != nil {
						return err
					}
				}
			}
			done, err = r.dissolve(c, g)
			return err
		})
		if err != nil || done {
			return err
		}
	}
}

// dissolve ends a chunk of the memberships in g. If that was the rest, it deletes g and
// reports true.
func (r *Registry) dissolve(c *change, g *iot.Group) (bool, error) {
	children, err := c.Children(g.ID)
	if err != nil {
		return false, err
	}
	if len(children) > 0 {
		return false, iot.Errorf(iot.InvalidRequest, "Cannot delete thing group : %s when there are still child groups attached to it.", g.Name)
	}
	members, err := c.Members(g.ID, "", deletionChunk)
	if err != nil {
		return false, err
	}
	names := make([]iot.ThingName, len(members))
	for i, m := range members {
		names[i] = m.Thing
	}
	things, err := c.ThingsByName(names)
	if err != nil {
		return false, err
	}
	var records []iot.Record
	tell := func(kind iot.Kind, data any) error {
		rec, err := c.newRecord(kind, data)
		records = append(records, rec)
		return err
	}
	last := len(members) < deletionChunk
	var ancestors []*iot.Group
	if last {
		if ancestors, err = c.Ancestors(g.ID); err != nil {
			return false, err
		}
		if len(ancestors) > 0 {
			if err := tell(iot.ChildRemoved, iot.ChildEvent{Parent: groupRef(ancestors[0]), Child: groupRef(g)}); err != nil {
				return false, err
			}
		}
	}
	for _, m := range members {
		if err := tell(iot.MemberGone, memberEvent(g, things[m.Thing], m.Seq)); err != nil {
			return false, err
		}
		if last {
			c.touched.things = append(c.touched.things, m.Thing)
			continue // they end with the group
		}
		if _, err := c.DeleteMember(g, things[m.Thing]); err != nil {
			return false, err
		}
	}
	if last {
		if err := r.detachAll(c, iot.GroupTarget(g.Name)); err != nil {
			return false, err
		}
		if err := c.DeleteGroup(g); err != nil {
			return false, err
		}
		if err := c.DeleteTags(r.realm.ARN(iot.KindGroup, string(g.Name)), nil); err != nil {
			return false, err
		}
		if err := tell(iot.GroupDeleted, groupEvent(g, ancestors)); err != nil {
			return false, err
		}
	}
	if err := c.Append(records...); err != nil {
		return false, err
	}
	for _, m := range members {
		if err := r.jobs.Left(c.Tx, c.now, things[m.Thing], c.actor); err != nil {
			return false, err
		}
	}
	return last, nil
}

// Group returns a group and its ancestors from the root to its parent. NotFound.
func (r *Registry) Group(ctx context.Context, name iot.GroupName) (g *iot.Group, ancestors []*iot.Group, err error) {
	err = r.store.View(ctx, func(rd store.Reader) error {
		if g, err = groupByName(rd, name); err != nil {
			return err
		}
		ancestors, err = rd.Ancestors(g.ID)
		return err
	})
	slices.Reverse(ancestors)
	return g, ancestors, err
}

// Groups lists groups by name. NotFound for an unknown parent.
func (r *Registry) Groups(ctx context.Context, q iot.GroupQuery, page iot.Page) ([]*iot.Group, string, error) {
	return list(ctx, r, func(rd store.Reader) ([]*iot.Group, string, error) {
		filter := store.GroupQuery{Prefix: q.Prefix}
		if q.Parent == "" {
			filter.Roots = q.Recursive != nil && !*q.Recursive
		} else {
			below, err := below(rd, q.Parent, q.Recursive != nil && *q.Recursive)
			if err != nil || len(below) == 0 {
				return nil, "", err
			}
			filter.Within = below
		}
		groups, err := rd.Groups(filter, iot.GroupName(page.Cursor), page.Limit+1)
		groups, next := cut(groups, page.Limit, func(g *iot.Group) string { return string(g.Name) })
		return groups, next, err
	})
}

// below returns the ids of a group's children, or of all its descendants.
func below(rd store.GroupReader, parent iot.GroupName, recursive bool) ([]int64, error) {
	p, err := groupByName(rd, parent)
	if err != nil {
		return nil, err
	}
	if recursive {
		ids, err := rd.Descendants(p.ID)
		return slices.DeleteFunc(ids, func(id int64) bool { return id == p.ID }), err
	}
	children, err := rd.Children(p.ID)
	ids := make([]int64, len(children))
	for i, g := range children {
		ids[i] = g.ID
	}
	return ids, err
}

// Members lists the things in a group by name, or with recursive those in it and in all
// its descendants, group by group: a thing is in no more than one group of a hierarchy.
// A page may be short while there is a next one. NotFound; InvalidRequest for a cursor
// that no page returned.
func (r *Registry) Members(ctx context.Context, name iot.GroupName, recursive bool, page iot.Page) ([]iot.ThingName, string, error) {
	return list(ctx, r, func(rd store.Reader) ([]iot.ThingName, string, error) {
		g, err := groupByName(rd, name)
		if err != nil {
			return nil, "", err
		}
		groups, at, err := []int64{g.ID}, memberCursor{group: g.ID, after: iot.ThingName(page.Cursor)}, error(nil)
		if recursive {
			if at, err = parseMemberCursor(page.Cursor); err != nil {
				return nil, "", err
			}
			if groups, err = rd.Descendants(g.ID); err != nil {
				return nil, "", err
			}
			from, _ := slices.BinarySearch(groups, at.group)
			groups = groups[from:]
		}
		things, at, more, err := membersOf(rd, groups, at, page.Limit)
		switch {
		case err != nil || !more:
			return things, "", err
		case recursive:
			return things, at.String(), nil
		}
		return things, string(at.after), nil
	})
}

// membersOf lists members of groups, which are ordered by id, after a place. It returns
// the place that it came to and whether there is more to see.
func membersOf(rd store.GroupReader, groups []int64, at memberCursor, limit int) (things []iot.ThingName, end memberCursor, more bool, err error) {
	for i, id := range groups {
		if i == groupsPerPage {
			return things, at, true, nil
		}
		if id != at.group {
			at = memberCursor{group: id}
		}
		members, err := rd.Members(id, at.after, limit-len(things)+1)
		if err != nil {
			return nil, at, false, err
		}
		for _, m := range members {
			if len(things) == limit {
				return things, at, true, nil
			}
			things, at.after = append(things, m.Thing), m.Thing
		}
	}
	return things, at, false, nil
}

// memberCursor is a place in the list of the members of a hierarchy.
type memberCursor struct {
	group int64
	after iot.ThingName
}

func (m memberCursor) String() string {
	return strconv.FormatInt(m.group, 10) + "/" + string(m.after)
}

// parseMemberCursor reads what String wrote; "" is the place before all members.
func parseMemberCursor(s string) (memberCursor, error) {
	if s == "" {
		return memberCursor{}, nil
	}
	id, after, ok := strings.Cut(s, "/")
	group, err := strconv.ParseInt(id, 10, 64)
	if !ok || err != nil {
		return memberCursor{}, iot.Errorf(iot.InvalidRequest, "The nextToken is not one of this list")
	}
	return memberCursor{group: group, after: iot.ThingName(after)}, nil
}

func (r *Registry) checkGroupAttributes(name iot.GroupName, attributes map[string]string) error {
	if len(attributes) > r.limits.GroupAttributes {
		return iot.Errorf(iot.InvalidRequest, "Thing group %s has %d attributes; the limit is %d", name, len(attributes), r.limits.GroupAttributes)
	}
	return nil
}

func groupByName(rd store.GroupReader, name iot.GroupName) (*iot.Group, error) {
	g, err := rd.GroupByName(name)
	return g, store.Absent(err, "Thing group", name)
}

func groupRef(g *iot.Group) iot.GroupRef { return iot.GroupRef{Name: g.Name, UUID: g.UUID} }

// groupEvent tells of g, whose ancestors are given from its parent to the root.
func groupEvent(g *iot.Group, ancestors []*iot.Group) iot.GroupEvent {
	ev := iot.GroupEvent{GroupRef: groupRef(g), Version: g.Version, Description: g.Description, Attributes: g.Attributes}
	for _, a := range slices.Backward(ancestors) {
		ev.Ancestors = append(ev.Ancestors, groupRef(a))
	}
	return ev
}
