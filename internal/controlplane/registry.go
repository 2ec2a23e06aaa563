package controlplane

import (
	"context"

	"drover/internal/iot"
)

// Registry is what the operations on things, types, groups, tags and events ask for. Errors
// are *iot.Error if the caller caused them.
type Registry interface {
	CreateThing(context.Context, iot.NewThing) (*iot.Thing, error)
	UpdateThing(context.Context, iot.ThingUpdate) error
	DeleteThing(context.Context, iot.ThingDeletion) error
	Thing(context.Context, iot.ThingName) (*iot.Thing, error)
	Things(context.Context, iot.ThingQuery, iot.Page) (things []*iot.Thing, next string, err error)

	CreateThingType(context.Context, iot.NewThingType) (*iot.ThingType, error)
	UpdateThingType(context.Context, iot.ThingTypeUpdate) error
	DeprecateThingType(context.Context, iot.ThingTypeDeprecation) error
	DeleteThingType(context.Context, iot.ThingTypeDeletion) error
	ThingType(ctx context.Context, name string) (*iot.ThingType, error)
	ThingTypes(ctx context.Context, name string, page iot.Page) (types []*iot.ThingType, next string, err error)

	CreateGroup(context.Context, iot.NewGroup) (*iot.Group, error)
	UpdateGroup(context.Context, iot.GroupUpdate) (version int64, err error)
	DeleteGroup(context.Context, iot.GroupDeletion) error
	Group(context.Context, iot.GroupName) (group *iot.Group, ancestors []*iot.Group, err error) // ancestors from the root
	Groups(context.Context, iot.GroupQuery, iot.Page) (groups []*iot.Group, next string, err error)

	ChangeGroups(context.Context, iot.MembershipChange) error
	GroupsOfThing(context.Context, iot.ThingName, iot.Page) (groups []*iot.Group, next string, err error)
	Members(ctx context.Context, group iot.GroupName, recursive bool, page iot.Page) (things []iot.ThingName, next string, err error)

	Tag(context.Context, iot.Tagging) error
	Untag(context.Context, iot.Untagging) error
	Tags(ctx context.Context, arn string, page iot.Page) (tags []iot.Tag, next string, err error)

	EventConfigurations(context.Context) (iot.EventConfigurations, error)
	UpdateEventConfigurations(context.Context, iot.EventsUpdate) error

	Import(context.Context, iot.Import) (iot.ImportResult, error)
}

// defaultRegistryPage is the size of a page of things, types or groups that the request does
// not set (registry spec §0.3).
const defaultRegistryPage = 25
