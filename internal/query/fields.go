package query

import (
	"slices"
	"strings"

	"drover/internal/iot"
)

// The fields of a thing. Its version, like that of a group, can be aggregated and not searched for (§5.2).
const (
	ThingName        = "thingName"
	ThingID          = "thingId"
	ThingType        = "thingTypeName"
	ThingGroups      = "thingGroupNames"
	Connected        = "connectivity.connected"
	ConnectivityTime = "connectivity.timestamp" // milliseconds
	DisconnectReason = "connectivity.disconnectReason"
	ThingVersion     = "registry.version"
)

// The fields of a group.
const (
	GroupName    = "thingGroupName"
	GroupID      = "thingGroupId"
	Description  = "description"
	Parents      = "parentGroupNames" // all that are above it
	GroupVersion = "version"
)

// Package returns the field of a path in the shadow $package.
func Package(path string) string { return packages + path }

// Attribute returns the field of an attribute, of a thing or a group.
func Attribute(name string) string { return attributes + name }

const (
	attributes   = "attributes."
	connectivity = "connectivity."
	packages     = "shadow.name.$package."
)

// Sources are the data that an index of things has besides the registry.
type Sources struct {
	Connectivity bool
	Packages     bool // the shadow $package
}

// aliases are other names of fields.
var aliases = map[iot.IndexName]map[string]string{
	iot.ThingsIndex: {"registry.thingTypeName": ThingType, "registry.thingGroupNames": ThingGroups},
	iot.GroupsIndex: {"thingGroupNames": GroupName, "thingGroupDescription": Description},
}

// plain are the fields that are not in a family such as that of attributes.
var plain = map[iot.IndexName][]string{
	iot.ThingsIndex: {ThingName, ThingID, ThingType, ThingGroups, Connected, ConnectivityTime, DisconnectReason},
	iot.GroupsIndex: {GroupName, GroupID, Description, Parents},
}

// versions are the fields that cannot be searched for.
var versions = []string{ThingVersion, "shadow.version", "deviceDefender.version", GroupVersion}

// field returns the canonical name of a field, or says why it cannot be searched for. A segment of a
// path may be "*".
func field(name string, index iot.IndexName, sources Sources) (canonical, refusal string) {
	name = Canonical(name, index)
	first, rest, _ := strings.Cut(name, ".")
	switch {
	case slices.Contains(versions, name), strings.HasPrefix(name, "shadow.name.") && strings.HasSuffix(name, ".version") && strings.Count(name, ".") == 3:
		return "", "the field " + name + " can be aggregated, but not searched for"
	case first == "connectivity" && index == iot.ThingsIndex && !sources.Connectivity:
		return "", "the connectivity of things is not indexed"
	case slices.Contains(plain[index], name):
		return name, ""
	case first == "attributes" && rest != "":
		return name, ""
	case index == iot.GroupsIndex:
		return "", "there is no field " + name
	case strings.HasPrefix(name, packages) && len(name) > len(packages):
		if !sources.Packages {
			return "", "the shadow $package is not indexed"
		}
		return name, ""
	case first == "shadow":
		return "", "shadows other than $package are not indexed"
	case first == "deviceDefender":
		return "", "violations of Device Defender are not indexed"
	}
	return "", "there is no field " + name
}

// numeric reports whether values of a field that spell a number are numbers as well: names are texts (§5.6),
// and so are versions of packages (§5.4).
func numeric(field string) bool {
	switch field {
	case ThingName, ThingID, ThingType, ThingGroups, DisconnectReason, GroupName, GroupID, Parents:
		return false
	}
	return !ofPackage(field)
}

// ofPackage reports whether a field is the version of a package, which is no number and has no order.
func ofPackage(field string) bool {
	return strings.HasPrefix(field, packages) && strings.HasSuffix(field, ".version")
}

// Anywhere reports whether a word without a field is looked for in a field (§5.5).
func Anywhere(field string) bool {
	return !strings.HasPrefix(field, connectivity) && !slices.Contains(versions, field)
}

// Canonical returns the name that a field of an index is kept under.
func Canonical(name string, index iot.IndexName) string {
	if other, ok := aliases[index][name]; ok {
		return other
	}
	return name
}

// Covers reports whether a path, of which segments may be "*", leads to a field.
func Covers(path, field string) bool {
	for {
		p, morePath, more := strings.Cut(path, ".")
		f, moreField, moreF := strings.Cut(field, ".")
		switch {
		case p != "*" && p != f, more != moreF:
			return false
		case !more:
			return true
		}
		path, field = morePath, moreField
	}
}
