package iot

// Thing is a device in the registry.
type Thing struct {
	ID         int64 // internal; bound to the name for ever
	Name       ThingName
	UUID       string // thingId; new when a deleted name is created again
	Type       string // name of its thing type, "" for none
	Attributes map[string]string
	Version    int64 // 1 at creation, +1 per update
	CreatedAt  Time

	BillingGroup string // "" for none
}

// ThingType is a class of things.
type ThingType struct {
	ID           int64
	Name         string
	UUID         string
	Description  string
	Searchable   []string // searchableAttributes
	Propagating  []PropagatingAttribute
	CreatedAt    Time
	DeprecatedAt Time // zero unless deprecated
}

// PropagatingAttribute is kept and echoed.
type PropagatingAttribute struct {
	UserPropertyKey     string `json:"userPropertyKey,omitempty"`
	ThingAttribute      string `json:"thingAttribute,omitempty"`
	ConnectionAttribute string `json:"connectionAttribute,omitempty"`
}

// Group is a static thing group.
type Group struct {
	ID          int64
	Name        GroupName
	UUID        string
	Parent      int64 // internal id, zero for a root
	Description string
	Attributes  map[string]string
	Version     int64
	CreatedAt   Time
	Query       string      // of a dynamic group: its members are the things that match
	Status      IndexStatus // of a dynamic group: how far its members are
}

// Dynamic reports whether the group's members are what a query finds.
func (g *Group) Dynamic() bool { return g.Query != "" }

// Member is the membership of a thing in a group, seen from the group.
type Member struct {
	Seq     int64 // order of joining over all groups; what a snapshot is measured by
	GroupID int64
	ThingID int64
	Thing   ThingName
}

// Tag is a key and a value at a resource.
type Tag struct{ Key, Value string }
