package iot

import (
	"maps"
	"slices"
	"strings"
)

// NewThing is what CreateThing asks for.
type NewThing struct {
	Name       ThingName
	Type       string // "" for none
	Attributes map[string]string
	Actor      string

	BillingGroup string // "" for none
}

// AttributeUpdate says what becomes of the attributes of a thing or a group.
type AttributeUpdate struct {
	// Values are the attributes as they shall be. One with an empty value is taken away.
	// A nil map asks for no change; an empty one without Merge takes all away.
	Values map[string]string
	// Merge keeps the attributes that Values does not name.
	Merge bool
}

// Apply returns current as u wants it. It changes neither. A nil u wants no change.
func (u *AttributeUpdate) Apply(current map[string]string) map[string]string {
	if u == nil || u.Values == nil {
		return current
	}
	next := make(map[string]string, len(u.Values))
	if u.Merge {
		maps.Copy(next, current)
	}
	for name, value := range u.Values {
		if value == "" {
			delete(next, name)
		} else {
			next[name] = value
		}
	}
	return next
}

// Limits of attributes (registry spec §0.2), in bytes: both patterns are ASCII.
const (
	maxAttributeName  = 128
	maxAttributeValue = 800
)

// The alphabets of attributes (registry spec §1.1) beyond letters and digits.
const (
	attributeNameChars  = "_.,@/:#-"
	attributeValueChars = "_.,@/:#=[]-"
)

// CheckAttributes returns an InvalidRequest error that names the attribute whose name or
// value breaks a length or a pattern. An empty value is right only in an AttributeUpdate.
func CheckAttributes(attributes map[string]string, emptyValues bool) error {
	const member = "attributePayload.attributes"
	for name, value := range attributes {
		switch {
		case name == "" || len(name) > maxAttributeName || !spelledWith(name, attributeNameChars):
			return Invalid(member, name, "Map keys must satisfy constraint: [Member must satisfy regular expression pattern: [a-zA-Z0-9_.,@/:#-]+ and have a length of 1 to 128]")
		case value == "" && !emptyValues:
			return Invalid(member+"."+name, value, "Map value must satisfy constraint: [Member must have length greater than or equal to 1]")
		case len(value) > maxAttributeValue:
			return Invalid(member+"."+name, value, "Map value must satisfy constraint: [Member must have length less than or equal to 800]")
		case !spelledWith(value, attributeValueChars):
			return Invalid(member+"."+name, value, `Map value must satisfy constraint: [Member must satisfy regular expression pattern: [a-zA-Z0-9_.,@/:#=\[\]-]*]`)
		}
	}
	return nil
}

// spelledWith reports whether s holds nothing but ASCII letters, digits and extra.
func spelledWith(s, extra string) bool {
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(extra, c) >= 0 {
			continue
		}
		return false
	}
	return true
}

// ThingUpdate is what UpdateThing asks for.
type ThingUpdate struct {
	Name            ThingName
	Type            string // the new type; "" = as it is
	RemoveType      bool
	Attributes      *AttributeUpdate // nil = unchanged
	ExpectedVersion *int64
	Actor           string
}

// ThingDeletion is what DeleteThing asks for.
type ThingDeletion struct {
	Name            ThingName
	ExpectedVersion *int64
	Actor           string
}

// ThingQuery narrows a list of things; zero fields do not.
type ThingQuery struct {
	Type           string
	AttributeName  string
	AttributeValue *string
	Prefix         bool // AttributeValue is a prefix
}

// NewThingType is what CreateThingType asks for.
type NewThingType struct {
	Name        string
	Description string
	Searchable  []string
	Propagating []PropagatingAttribute
	Tags        []Tag
	Actor       string
}

// ThingTypeUpdate is what UpdateThingType asks for. Description and Searchable cannot
// change: they may only be named again. Nil members stay as they are.
type ThingTypeUpdate struct {
	Name        string
	Description *string
	Searchable  []string
	Propagating []PropagatingAttribute // an empty list takes all away
	Actor       string
}

// ThingTypeDeprecation is what DeprecateThingType asks for.
type ThingTypeDeprecation struct {
	Name  string
	Undo  bool
	Actor string
}

// ThingTypeDeletion is what DeleteThingType asks for.
type ThingTypeDeletion struct {
	Name  string
	Actor string
}

// NewGroup is what CreateThingGroup asks for.
type NewGroup struct {
	Name        GroupName
	Parent      GroupName // "" for a root
	Description string
	Attributes  map[string]string
	Tags        []Tag
	Query       string // of a dynamic group
	Actor       string
}

// GroupUpdate is what UpdateThingGroup and UpdateDynamicThingGroup ask for; nil members stay as they are.
type GroupUpdate struct {
	Name            GroupName
	Description     *string
	Attributes      *AttributeUpdate
	Dynamic         bool // the group has to be so
	Query           *string
	ExpectedVersion *int64
	Actor           string
}

// GroupDeletion is what DeleteThingGroup and DeleteDynamicThingGroup ask for.
type GroupDeletion struct {
	Name            GroupName
	Dynamic         bool // the group has to be so
	ExpectedVersion *int64
	Actor           string
}

// GroupQuery narrows a list of groups; zero fields do not.
type GroupQuery struct {
	Parent    GroupName // groups below this one
	Recursive *bool     // nil: everything without a Parent, direct children with one (registry spec §3.8)
	Prefix    string    // of the name
}

// MembershipChange is what AddThingToThingGroup, RemoveThingFromThingGroup and
// UpdateThingGroupsForThing ask for. Removals come first.
type MembershipChange struct {
	Thing  ThingName
	Add    []GroupName
	Remove []GroupName
	// Override lets the thing leave dynamic groups if it would be in too many.
	Override bool
	Actor    string
}

// Tagging is what TagResource asks for.
type Tagging struct {
	ARN   string
	Tags  []Tag
	Actor string
}

// Untagging is what UntagResource asks for.
type Untagging struct {
	ARN   string
	Keys  []string
	Actor string
}

// MaxTags is how many tags a resource can have.
const MaxTags = 50

// CheckTags returns an InvalidRequest error for a key that occurs twice or is reserved.
// Lengths and patterns are the business of who decodes tags.
func CheckTags(tags []Tag) error {
	keys := make(map[string]bool, len(tags))
	for _, t := range tags {
		switch {
		case keys[t.Key]:
			return Errorf(InvalidRequest, "The tag key %q occurs twice", shorten(t.Key))
		case strings.HasPrefix(t.Key, "aws:"):
			return Errorf(InvalidRequest, "The tag key %q is reserved: keys must not begin with aws:", shorten(t.Key))
		}
		keys[t.Key] = true
	}
	return nil
}

// CheckNewTags is CheckTags for a resource that is being created: more than MaxTags is an
// InvalidRequest error there, because creating operations know no other (registry spec §12).
func CheckNewTags(tags []Tag) error {
	if len(tags) > MaxTags {
		return Invalid("tags", len(tags), "Member must have length less than or equal to 50")
	}
	return CheckTags(tags)
}

// EventsUpdate is what UpdateEventConfigurations asks for. Types that Enabled does not
// name stay as they are.
type EventsUpdate struct {
	Enabled map[EventType]bool
	Actor   string
}

// EventsEvent is the Data of the record EventsConfigured: which events are on from then
// on, every type named.
type EventsEvent struct {
	Enabled map[EventType]bool `json:"enabled"`
}

// Valid reports whether events of the type can be switched on and off.
func (t EventType) Valid() bool { return slices.Contains(EventTypes(), t) }

// MaxImportLines is how many lines one Import takes: so many that the cost of a commit
// does not matter, so few that devices do not notice the pause.
const MaxImportLines = 5000

// ImportLine is one thing as a file for `drover import` has it.
type ImportLine struct {
	Number     int               `json:"-"` // in the request, from 1
	Thing      ThingName         `json:"thingName"`
	Type       string            `json:"thingTypeName"` // "" = as it is
	Attributes map[string]string `json:"attributes"`    // replace what the thing has; nil = as they are
	Groups     []GroupName       `json:"groups"`        // joined; memberships in others stay
}

// Import is a number of things to be created or brought to a state.
type Import struct {
	Lines []ImportLine // at most MaxImportLines
	// CreateMissing creates the thing types, and as roots the groups, that do not exist;
	// otherwise a line that names one is an error.
	CreateMissing bool
	Actor         string
}

// ImportEvent is the Data of the record ThingsImported: how many things were created or
// updated, and how many memberships began.
type ImportEvent struct {
	Created int `json:"created"`
	Updated int `json:"updated"`
	Joined  int `json:"joined"`
}

// ImportResult says what an Import did. Every line is counted once.
type ImportResult struct {
	Created   int           `json:"created"`
	Updated   int           `json:"updated"`   // type or attributes changed, or groups joined
	Unchanged int           `json:"unchanged"` // was so already
	Errors    []ImportError `json:"errors"`    // by line, ascending
}

// ImportError says why a line had no effect.
type ImportError struct {
	Line    int    `json:"line"`
	Message string `json:"message"`
}
