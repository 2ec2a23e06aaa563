package registry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"

	"drover/internal/iot"
	"drover/internal/store"
)

// Import creates things, or brings those that exist to the state that the lines ask for,
// in one transaction. Lines count one after the other; a bad one has no effect, is told of
// in the result and spoils nobody else's. A line that asks for what is so already changes
// nothing, so an import can be repeated. InvalidRequest for more than iot.MaxImportLines.
//
// The journal gets one record of the whole (iot.ThingsImported). What happened to each
// thing is recorded only where somebody has switched the events on: the records of a
// million imported things that nobody listens to would be most of the database, and a
// third of the time.
func (r *Registry) Import(ctx context.Context, req iot.Import) (result iot.ImportResult, err error) {
	if len(req.Lines) > iot.MaxImportLines {
		return result, iot.Errorf(iot.InvalidRequest, "An import takes at most %d lines at a time, not %d", iot.MaxImportLines, len(req.Lines))
	}
	err = r.update(ctx, req.Actor, func(c *change) error {
		im := &importer{
			change: c, registry: r, createMissing: req.CreateMissing,
			things: make(map[iot.ThingName]*imported, len(req.Lines)),
			types:  make(map[string]*iot.ThingType),
			groups: make(map[iot.GroupName]*importedGroup),
		}
		if im.events, err = eventConfigurations(c); err != nil {
			return err
		}
		if err := im.load(req.Lines); err != nil {
			return err
		}
		for i := range req.Lines {
			if err := im.line(&req.Lines[i]); err != nil {
				return err
			}
		}
		if err := im.save(); err != nil {
			return err
		}
		result = im.result
		return nil
	})
	return result, err
}

// importer is the state of one Import: things and memberships are changed in memory, line
// by line, and stored in bulk at the end.
type importer struct {
	*change
	registry      *Registry
	createMissing bool
	events        iot.EventConfigurations

	things map[iot.ThingName]*imported
	types  map[string]*iot.ThingType        // nil = does not exist
	groups map[iot.GroupName]*importedGroup // nil = does not exist

	created, changed []*imported
	joined           []join
	records          []iot.Record
	result           iot.ImportResult
}

// imported is a thing as it is after the lines so far.
type imported struct {
	*iot.Thing
	isNew, isChanged bool
	groups           []*importedGroup // nil until loaded, for a thing that existed
}

// importedGroup is a group and the root of its hierarchy.
type importedGroup struct {
	*iot.Group
	root int64
}

// join is a membership that begins.
type join struct {
	thing *imported
	group *importedGroup
}

// load reads the things that exist among those named.
func (im *importer) load(lines []iot.ImportLine) error {
	names := make([]iot.ThingName, 0, len(lines))
	for i := range lines {
		if lines[i].Thing.Valid() {
			names = append(names, lines[i].Thing)
		}
	}
	things, err := im.ThingsByName(names)
	if err != nil {
		return err
	}
	for name, t := range things {
		im.things[name] = &imported{Thing: t}
	}
	return nil
}

// line carries out one line and counts it. It fails only if the store does.
func (im *importer) line(l *iot.ImportLine) error {
	err := im.apply(l)
	var refused *iot.Error
	if errors.As(err, &refused) {
		im.result.Errors = append(im.result.Errors, iot.ImportError{Line: l.Number, Message: refused.Message})
		return nil
	}
	return err
}

// apply checks a line whole before it changes anything.
func (im *importer) apply(l *iot.ImportLine) error {
	if err := checkName("thingName", string(l.Thing)); err != nil {
		return err
	}
	if err := iot.CheckAttributes(l.Attributes, false); err != nil {
		return err
	}
	thing := im.things[l.Thing]
	isNew := thing == nil
	if isNew {
		thing = &imported{Thing: &iot.Thing{Name: l.Thing, UUID: uuid.NewString(), CreatedAt: im.now}, isNew: true}
	}
	typeName := thing.Type
	if l.Type != "" && l.Type != thing.Type {
		if err := im.checkType(l.Type, isNew); err != nil {
			return err
		}
		typeName = l.Type
	}
	attributes := thing.Attributes
	if l.Attributes != nil {
		attributes = l.Attributes
	}
	if err := im.registry.checkThingAttributes(l.Thing, typeName, attributes); err != nil {
		return err
	}
	joins, err := im.checkGroups(thing, l.Groups)
	if err != nil {
		return err
	}

	if typeName != thing.Type {
		if err := im.ensureType(typeName); err != nil {
			return err
		}
	}
	former := thing.Type
	different := typeName != thing.Type || !maps.Equal(attributes, thing.Attributes)
	thing.Type, thing.Attributes = typeName, attributes
	switch {
	case isNew:
		im.things[l.Thing] = thing
		im.created = append(im.created, thing)
		im.result.Created++
	case different || len(joins) > 0:
		im.result.Updated++
	default:
		im.result.Unchanged++
	}
	if isNew || different {
		if err := im.changedThing(thing, former, isNew); err != nil {
			return err
		}
	}
	for _, name := range joins {
		if err := im.join(thing, name); err != nil {
			return err
		}
	}
	return nil
}

// changedThing raises the version of a thing that is new or different and tells of it.
func (im *importer) changedThing(thing *imported, formerType string, isNew bool) error {
	thing.Version++
	kind := iot.ThingCreated
	if !isNew {
		kind = iot.ThingUpdated
		if !thing.isNew && !thing.isChanged {
			thing.isChanged = true
			im.changed = append(im.changed, thing)
		}
	}
	if err := im.tell(kind, thingEvent(thing.Thing)); err != nil {
		return err
	}
	if formerType != "" && formerType != thing.Type {
		if err := im.tell(iot.TypeDissociated, typeAssociationEvent(thing.Thing, formerType)); err != nil {
			return err
		}
	}
	if thing.Type != "" && formerType != thing.Type {
		return im.tell(iot.TypeAssociated, typeAssociationEvent(thing.Thing, thing.Type))
	}
	return nil
}

// checkType checks that things can be given the type.
func (im *importer) checkType(name string, isNew bool) error {
	t, known := im.types[name]
	if !known {
		var err error
		t, err = im.ThingTypeByName(name)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err != nil {
			t = nil
		}
		im.types[name] = t
	}
	switch {
	case t == nil && !im.createMissing:
		return iot.Errorf(iot.NotFound, "Thing type %s cannot be found.", name)
	case t == nil:
		return checkName("thingTypeName", name)
	case t.DeprecatedAt != 0 && isNew:
		return errDeprecatedForNew(name)
	case t.DeprecatedAt != 0:
		return errDeprecatedForUpdate(name)
	}
	return nil
}

// ensureType creates the type if checkType found none.
func (im *importer) ensureType(name string) error {
	if im.types[name] != nil {
		return nil
	}
	t := &iot.ThingType{Name: name}
	im.types[name] = t
	return im.registry.insertType(im.change, t, nil)
}

// checkGroups checks that the thing can join the named groups, and returns the names of
// those that it is not in. Groups that do not exist are roots to be.
func (im *importer) checkGroups(thing *imported, names []iot.GroupName) ([]iot.GroupName, error) {
	if len(names) == 0 {
		return nil, nil
	}
	if err := im.loadGroups(thing); err != nil {
		return nil, err
	}
	var joins []iot.GroupName
	var roots []int64 // of the groups in joins that exist
	for _, name := range names {
		g, err := im.group(name)
		switch {
		case err != nil:
			return nil, err
		case slices.Contains(joins, name), g != nil && slices.Contains(thing.groups, g):
			continue
		case g == nil && !im.createMissing:
			return nil, iot.Errorf(iot.NotFound, "Thing group %s cannot be found.", name)
		}
		var rival *iot.Group
		if g == nil {
			if err := checkName("thingGroupName", string(name)); err != nil {
				return nil, err
			}
		} else {
			if err := checkKind(g.Group, false); err != nil {
				return nil, err
			}
			if i := slices.IndexFunc(thing.groups, func(o *importedGroup) bool { return o.root == g.root }); i >= 0 {
				rival = thing.groups[i].Group
			} else if slices.Contains(roots, g.root) {
				return nil, iot.Errorf(iot.InvalidRequest, "Thing %s cannot join two thing groups of the hierarchy of %s", thing.Name, name)
			}
			roots = append(roots, g.root)
		}
		if err := im.registry.checkJoin(thing.Name, name, len(thing.groups)+len(joins), rival); err != nil {
			return nil, err
		}
		joins = append(joins, name)
	}
	return joins, nil
}

// loadGroups reads the groups that a thing is in, unless that is known.
func (im *importer) loadGroups(thing *imported) error {
	if thing.isNew || thing.groups != nil {
		return nil
	}
	groups, err := im.GroupsOfThing(thing.ID)
	if err != nil {
		return err
	}
	thing.groups = make([]*importedGroup, len(groups))
	for i, g := range groups {
		if thing.groups[i], err = im.remember(g); err != nil {
			return err
		}
	}
	return nil
}

// group returns the named group, nil if it does not exist.
func (im *importer) group(name iot.GroupName) (*importedGroup, error) {
	if g, known := im.groups[name]; known {
		return g, nil
	}
	g, err := im.GroupByName(name)
	if errors.Is(err, store.ErrNotFound) {
		im.groups[name] = nil
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return im.remember(g)
}

// remember returns the one importedGroup of a group.
func (im *importer) remember(g *iot.Group) (*importedGroup, error) {
	if known := im.groups[g.Name]; known != nil {
		return known, nil
	}
	root, err := rootOf(im, g)
	if err != nil {
		return nil, err
	}
	known := &importedGroup{Group: g, root: root}
	im.groups[g.Name] = known
	return known, nil
}

// join puts the thing into a group, which is created if checkGroups found none.
func (im *importer) join(thing *imported, name iot.GroupName) error {
	g := im.groups[name]
	if g == nil {
		created := &iot.Group{Name: name}
		if err := im.registry.insertGroup(im.change, created, nil, nil); err != nil {
			return err
		}
		g = &importedGroup{Group: created, root: created.ID}
		im.groups[name] = g
	}
	thing.groups = append(thing.groups, g)
	im.joined = append(im.joined, join{thing, g})
	return nil
}

// save stores what the lines changed.
func (im *importer) save() error {
	if err := im.InsertThings(stored(im.created)); err != nil {
		return err
	}
	if err := im.SaveThings(stored(im.changed)); err != nil {
		return err
	}
	var members []iot.Member
	if len(im.joined) > 0 {
		seq, err := im.Sequence(len(im.joined))
		if err != nil {
			return err
		}
		members = make([]iot.Member, len(im.joined))
		for i, j := range im.joined {
			members[i] = iot.Member{Seq: seq + int64(i), GroupID: j.group.ID, ThingID: j.thing.ID, Thing: j.thing.Name}
			if !im.told(iot.MemberAdded) {
				continue // the membershipId is not for free
			}
			if err := im.tell(iot.MemberAdded, memberEvent(j.group.Group, j.thing.Thing, members[i].Seq)); err != nil {
				return err
			}
		}
	}
	if im.result.Created+im.result.Updated > 0 {
		sum := iot.ImportEvent{Created: im.result.Created, Updated: im.result.Updated, Joined: len(im.joined)}
		rec, err := im.newRecord(iot.ThingsImported, sum)
		if err != nil {
			return err
		}
		if err := im.Append(append(im.records, rec)...); err != nil {
			return err
		}
	}
	if len(members) == 0 {
		return nil
	}
	members, err := im.InsertMembers(members)
	if err != nil {
		return fmt.Errorf("insert members: %w", err)
	}
	return im.registry.jobs.Joined(im.Tx, im.now, members, im.actor)
}

func stored(things []*imported) []*iot.Thing {
	list := make([]*iot.Thing, len(things))
	for i, t := range things {
		list[i] = t.Thing
	}
	return list
}

// eventTypes says which events the records of an import are the source of.
var eventTypes = map[iot.Kind]iot.EventType{
	iot.ThingCreated:    "THING",
	iot.ThingUpdated:    "THING",
	iot.TypeAssociated:  "THING_TYPE_ASSOCIATION",
	iot.TypeDissociated: "THING_TYPE_ASSOCIATION",
	iot.MemberAdded:     "THING_GROUP_MEMBERSHIP",
}

// told reports whether records of the kind are wanted.
func (im *importer) told(kind iot.Kind) bool { return im.events.Enabled[eventTypes[kind]] }

// tell adds a record to those that are appended in the end, if it is wanted.
func (im *importer) tell(kind iot.Kind, data any) error {
	if !im.told(kind) {
		return nil
	}
	rec, err := im.newRecord(kind, data)
	im.records = append(im.records, rec)
	return err
}
