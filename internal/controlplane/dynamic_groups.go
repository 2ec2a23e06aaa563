package controlplane

import (
	"context"

	"drover/internal/iot"
	"drover/internal/wire"
)

// createDynamicThingGroupRequest is CreateDynamicThingGroupRequest (registry spec §4.3).
type createDynamicThingGroupRequest struct {
	ThingGroupName       string                `json:"thingGroupName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	ThingGroupProperties *thingGroupProperties `json:"thingGroupProperties"`
	IndexName            *string               `json:"indexName" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	QueryString          string                `json:"queryString" required:"true" len:"1,"`
	QueryVersion         *string               `json:"queryVersion"`
	Tags                 []tag                 `json:"tags"`
}

// createDynamicThingGroupResponse is CreateDynamicThingGroupResponse.
type createDynamicThingGroupResponse struct {
	ThingGroupName string `json:"thingGroupName"`
	ThingGroupArn  string `json:"thingGroupArn"`
	ThingGroupID   string `json:"thingGroupId"`
	IndexName      string `json:"indexName"`
	QueryString    string `json:"queryString"`
	QueryVersion   string `json:"queryVersion"`
}

func (s *Server) createDynamicThingGroup(ctx context.Context, in *createDynamicThingGroupRequest) (*createDynamicThingGroupResponse, error) {
	if err := checkMembersQuery(in.IndexName, in.QueryVersion); err != nil {
		return nil, err
	}
	n := iot.NewGroup{Name: iot.GroupName(in.ThingGroupName), Query: in.QueryString, Tags: newTags(in.Tags), Actor: actor(ctx)}
	if p := in.ThingGroupProperties; p != nil {
		n.Description, n.Attributes = value(p.ThingGroupDescription), p.AttributePayload.attributes()
	}
	g, err := s.registry.CreateGroup(ctx, n)
	if err != nil {
		return nil, err
	}
	return &createDynamicThingGroupResponse{
		ThingGroupName: string(g.Name), ThingGroupArn: s.groupARN(g), ThingGroupID: g.UUID,
		IndexName: string(iot.ThingsIndex), QueryString: g.Query, QueryVersion: iot.QueryVersion,
	}, nil
}

// checkMembersQuery checks what a query of a dynamic group is of.
func checkMembersQuery(index, version *string) error {
	switch {
	case index != nil && *index != string(iot.ThingsIndex):
		return iot.Errorf(iot.InvalidRequest, "The index of a dynamic thing group is %s, not '%s'", iot.ThingsIndex, *index)
	case version != nil && *version != iot.QueryVersion:
		return iot.Errorf(iot.InvalidRequest, "Query version '%s' is not supported: it is %s", *version, iot.QueryVersion)
	}
	return nil
}

// updateDynamicThingGroupRequest is UpdateDynamicThingGroupRequest (registry spec §4.4).
type updateDynamicThingGroupRequest struct {
	ThingGroupName       string                `json:"thingGroupName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	ThingGroupProperties *thingGroupProperties `json:"thingGroupProperties" required:"true"`
	ExpectedVersion      *int64                `json:"expectedVersion"`
	IndexName            *string               `json:"indexName" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	QueryString          *string               `json:"queryString" len:"1,"`
	QueryVersion         *string               `json:"queryVersion"`
}

func (s *Server) updateDynamicThingGroup(ctx context.Context, in *updateDynamicThingGroupRequest) (*updateThingGroupResponse, error) {
	if err := checkMembersQuery(in.IndexName, in.QueryVersion); err != nil {
		return nil, err
	}
	version, err := s.registry.UpdateGroup(ctx, iot.GroupUpdate{
		Name:            iot.GroupName(in.ThingGroupName),
		Description:     in.ThingGroupProperties.ThingGroupDescription,
		Attributes:      in.ThingGroupProperties.AttributePayload.update(),
		Dynamic:         true,
		Query:           in.QueryString,
		ExpectedVersion: in.ExpectedVersion,
		Actor:           actor(ctx),
	})
	if err != nil {
		return nil, err
	}
	return &updateThingGroupResponse{Version: version}, nil
}

// deleteDynamicThingGroupRequest is DeleteDynamicThingGroupRequest (registry spec §4.5).
type deleteDynamicThingGroupRequest struct {
	ThingGroupName  string `json:"thingGroupName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	ExpectedVersion *int64 `json:"expectedVersion" in:"query"`
}

func (s *Server) deleteDynamicThingGroup(ctx context.Context, in *deleteDynamicThingGroupRequest) (*wire.Empty, error) {
	return &wire.Empty{}, s.registry.DeleteGroup(ctx, iot.GroupDeletion{
		Name:            iot.GroupName(in.ThingGroupName),
		Dynamic:         true,
		ExpectedVersion: in.ExpectedVersion,
		Actor:           actor(ctx),
	})
}
