package iot

// IndexName is the name of one of the two indexes.
type IndexName string

// QueryVersion is the only version of the query language.
const QueryVersion = "2017-09-30"

// The indexes.
const (
	ThingsIndex IndexName = "AWS_Things"
	GroupsIndex IndexName = "AWS_ThingGroups"
)

// IndexState is the configuration of the fleet index and how far its indexes are built.
type IndexState struct {
	Things Index `json:"things,omitzero"`
	Groups Index `json:"groups,omitzero"`
}

// Index says what an index has, and what of it can be aggregated besides the fields that every
// index has (registry spec §5.1).
type Index struct {
	On           bool         `json:"on,omitempty"`
	Connectivity bool         `json:"connectivity,omitempty"` // of things: who is connected
	Packages     bool         `json:"packages,omitempty"`     // of things: the shadow PackageShadow
	CustomFields []IndexField `json:"customFields,omitempty"`
	Status       IndexStatus  `json:"status,omitempty"`
	// Cursor is the last document that has been brought to this configuration, while Status is not
	// IndexActive or IndexNone.
	Cursor int64 `json:"cursor,omitempty"`
}

// IndexStatus is how far an index has been brought to its configuration.
type IndexStatus string

// The states of an index. IndexClearing is one that is off and of which something is left.
const (
	IndexNone       IndexStatus = ""
	IndexBuilding   IndexStatus = "BUILDING"
	IndexRebuilding IndexStatus = "REBUILDING"
	IndexActive     IndexStatus = "ACTIVE"
	IndexClearing   IndexStatus = "CLEARING"
	IndexDeleting   IndexStatus = "DELETING" // of a dynamic group that is being deleted
)

// IndexField is a field that can be aggregated.
type IndexField struct {
	Name string         `json:"name"`
	Type IndexFieldType `json:"type"`
}

// IndexFieldType says what the values of a field are.
type IndexFieldType string

// The types of fields.
const (
	IndexNumber  IndexFieldType = "Number"
	IndexString  IndexFieldType = "String"
	IndexBoolean IndexFieldType = "Boolean"
)

// IndexValue is a value of a field and how many times there is.
type IndexValue struct {
	Value string
	Count int64
}

// ManagedFields returns the fields of an index that can always be aggregated (registry spec §5.2).
func ManagedFields(index IndexName, connectivity, packages bool) []IndexField {
	if index == GroupsIndex {
		return []IndexField{
			{"description", IndexString}, {"parentGroupNames", IndexString}, {"thingGroupId", IndexString}, {"thingGroupName", IndexString}, {"version", IndexNumber},
		}
	}
	fields := []IndexField{
		{"thingId", IndexString}, {"thingName", IndexString}, {"registry.version", IndexNumber},
		{"registry.thingTypeName", IndexString}, {"registry.thingGroupNames", IndexString},
	}
	if connectivity {
		fields = append(fields, IndexField{"connectivity.timestamp", IndexNumber},
			IndexField{"connectivity.connected", IndexBoolean}, IndexField{"connectivity.disconnectReason", IndexString})
	}
	if packages {
		fields = append(fields, IndexField{"shadow.name.*.version", IndexNumber}, IndexField{"shadow.name.*.hasDelta", IndexBoolean})
	}
	return fields
}

// Connection is the last MQTT connection of the client that has the name of a thing.
type Connection struct {
	ThingID   int64
	Node      int64  // that it is, or was, connected to
	Session   string // that no other connection has
	Connected bool
	At        Time   // when it connected or disconnected
	Reason    string // of the end, as lifecycle events have it; "" while connected
}
