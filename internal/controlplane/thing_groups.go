package controlplane

import (
	"context"

	"drover/internal/iot"
	"drover/internal/wire"
)

// thingGroupProperties is ThingGroupProperties (registry spec §3.1).
type thingGroupProperties struct {
	ThingGroupDescription *string           `json:"thingGroupDescription,omitempty" len:",2028" pattern:"[\\p{Graph}\\x20]*"`
	AttributePayload      *attributePayload `json:"attributePayload,omitempty"`
}

// groupNameAndArn is GroupNameAndArn.
type groupNameAndArn struct {
	GroupName string `json:"groupName"`
	GroupArn  string `json:"groupArn"`
}

func (s *Server) groupNamesAndArns(groups []*iot.Group) []groupNameAndArn {
	list := make([]groupNameAndArn, len(groups))
	for i, g := range groups {
		list[i] = groupNameAndArn{GroupName: string(g.Name), GroupArn: s.groupARN(g)}
	}
	return list
}

func (s *Server) groupARN(g *iot.Group) string { return s.realm.ARN(iot.KindGroup, string(g.Name)) }

// createThingGroupRequest is CreateThingGroupRequest (registry spec §3.3).
type createThingGroupRequest struct {
	ThingGroupName       string                `json:"thingGroupName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	ParentGroupName      *string               `json:"parentGroupName" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	ThingGroupProperties *thingGroupProperties `json:"thingGroupProperties"`
	Tags                 []tag                 `json:"tags"`
}

// createThingGroupResponse is CreateThingGroupResponse.
type createThingGroupResponse struct {
	ThingGroupName string `json:"thingGroupName"`
	ThingGroupArn  string `json:"thingGroupArn"`
	ThingGroupID   string `json:"thingGroupId"`
}

func (s *Server) createThingGroup(ctx context.Context, in *createThingGroupRequest) (*createThingGroupResponse, error) {
	n := iot.NewGroup{
		Name:   iot.GroupName(in.ThingGroupName),
		Parent: iot.GroupName(value(in.ParentGroupName)),
		Tags:   newTags(in.Tags),
		Actor:  actor(ctx),
	}
	if p := in.ThingGroupProperties; p != nil {
		n.Description, n.Attributes = value(p.ThingGroupDescription), p.AttributePayload.attributes()
	}
	g, err := s.registry.CreateGroup(ctx, n)
	if err != nil {
		return nil, err
	}
	return &createThingGroupResponse{ThingGroupName: string(g.Name), ThingGroupArn: s.groupARN(g), ThingGroupID: g.UUID}, nil
}

// describeThingGroupRequest is DescribeThingGroupRequest.
type describeThingGroupRequest struct {
	ThingGroupName string `json:"thingGroupName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
}

// describeThingGroupResponse is DescribeThingGroupResponse; the last members are those of a dynamic group.
type describeThingGroupResponse struct {
	ThingGroupName       string                `json:"thingGroupName"`
	ThingGroupID         string                `json:"thingGroupId"`
	ThingGroupArn        string                `json:"thingGroupArn"`
	Version              int64                 `json:"version"`
	ThingGroupProperties *thingGroupProperties `json:"thingGroupProperties"`
	ThingGroupMetadata   *thingGroupMetadata   `json:"thingGroupMetadata"`
	IndexName            string                `json:"indexName,omitempty"`
	QueryString          string                `json:"queryString,omitempty"`
	QueryVersion         string                `json:"queryVersion,omitempty"`
	Status               string                `json:"status,omitempty"`
}

// thingGroupMetadata is ThingGroupMetadata.
type thingGroupMetadata struct {
	ParentGroupName         string            `json:"parentGroupName,omitempty"`
	RootToParentThingGroups []groupNameAndArn `json:"rootToParentThingGroups,omitempty"`
	CreationDate            wire.Timestamp    `json:"creationDate"`
}

func (s *Server) describeThingGroup(ctx context.Context, in *describeThingGroupRequest) (*describeThingGroupResponse, error) {
	g, ancestors, err := s.registry.Group(ctx, iot.GroupName(in.ThingGroupName))
	if err != nil {
		return nil, err
	}
	metadata := &thingGroupMetadata{
		RootToParentThingGroups: s.groupNamesAndArns(ancestors),
		CreationDate:            timestamp(g.CreatedAt),
	}
	if len(ancestors) > 0 {
		metadata.ParentGroupName = string(ancestors[len(ancestors)-1].Name)
	}
	out := &describeThingGroupResponse{
		ThingGroupName: string(g.Name),
		ThingGroupID:   g.UUID,
		ThingGroupArn:  s.groupARN(g),
		Version:        g.Version,
		ThingGroupProperties: &thingGroupProperties{
			ThingGroupDescription: optional(g.Description),
			AttributePayload:      &attributePayload{Attributes: given(g.Attributes)},
		},
		ThingGroupMetadata: metadata,
	}
	if g.Dynamic() {
		out.IndexName, out.QueryString, out.QueryVersion, out.Status = string(iot.ThingsIndex), g.Query, iot.QueryVersion, string(g.Status)
		if g.Status == iot.IndexDeleting {
			out.Status = string(iot.IndexRebuilding) // there is no word for it
		}
	}
	return out, nil
}

// updateThingGroupRequest is UpdateThingGroupRequest (registry spec §3.4).
type updateThingGroupRequest struct {
	ThingGroupName       string                `json:"thingGroupName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	ThingGroupProperties *thingGroupProperties `json:"thingGroupProperties" required:"true"`
	ExpectedVersion      *int64                `json:"expectedVersion"`
}

// updateThingGroupResponse is UpdateThingGroupResponse.
type updateThingGroupResponse struct {
	Version int64 `json:"version"`
}

func (s *Server) updateThingGroup(ctx context.Context, in *updateThingGroupRequest) (*updateThingGroupResponse, error) {
	version, err := s.registry.UpdateGroup(ctx, iot.GroupUpdate{
		Name:            iot.GroupName(in.ThingGroupName),
		Description:     in.ThingGroupProperties.ThingGroupDescription,
		Attributes:      in.ThingGroupProperties.AttributePayload.update(),
		ExpectedVersion: in.ExpectedVersion,
		Actor:           actor(ctx),
	})
	if err != nil {
		return nil, err
	}
	return &updateThingGroupResponse{Version: version}, nil
}

// deleteThingGroupRequest is DeleteThingGroupRequest (registry spec §3.5).
type deleteThingGroupRequest struct {
	ThingGroupName  string `json:"thingGroupName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	ExpectedVersion *int64 `json:"expectedVersion" in:"query"`
}

func (s *Server) deleteThingGroup(ctx context.Context, in *deleteThingGroupRequest) (*wire.Empty, error) {
	return &wire.Empty{}, s.registry.DeleteGroup(ctx, iot.GroupDeletion{
		Name:            iot.GroupName(in.ThingGroupName),
		ExpectedVersion: in.ExpectedVersion,
		Actor:           actor(ctx),
	})
}

// listThingGroupsRequest is ListThingGroupsRequest (registry spec §3.8).
type listThingGroupsRequest struct {
	NextToken        *string `json:"nextToken" in:"query"`
	MaxResults       *int32  `json:"maxResults" in:"query" range:"1,250"`
	ParentGroup      *string `json:"parentGroup" in:"query" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	NamePrefixFilter *string `json:"namePrefixFilter" in:"query" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	Recursive        *bool   `json:"recursive" in:"query"`
}

// listThingGroupsResponse is ListThingGroupsResponse and ListThingGroupsForThingResponse.
type listThingGroupsResponse struct {
	ThingGroups []groupNameAndArn `json:"thingGroups"`
	NextToken   *string           `json:"nextToken,omitempty"`
}

func (s *Server) listThingGroups(ctx context.Context, in *listThingGroupsRequest) (*listThingGroupsResponse, error) {
	query := iot.GroupQuery{
		Parent:    iot.GroupName(value(in.ParentGroup)),
		Recursive: in.Recursive,
		Prefix:    value(in.NamePrefixFilter),
	}
	page, err := s.page("ListThingGroups", query, in.NextToken, in.MaxResults, defaultRegistryPage)
	if err != nil {
		return nil, err
	}
	groups, next, err := s.registry.Groups(ctx, query, page)
	if err != nil {
		return nil, err
	}
	return &listThingGroupsResponse{
		ThingGroups: s.groupNamesAndArns(groups),
		NextToken:   s.nextToken("ListThingGroups", query, next),
	}, nil
}

// listThingGroupsForThingRequest is ListThingGroupsForThingRequest.
type listThingGroupsForThingRequest struct {
	ThingName  string  `json:"thingName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	NextToken  *string `json:"nextToken" in:"query"`
	MaxResults *int32  `json:"maxResults" in:"query" range:"1,250"`
}

func (s *Server) listThingGroupsForThing(ctx context.Context, in *listThingGroupsForThingRequest) (*listThingGroupsResponse, error) {
	page, err := s.page("ListThingGroupsForThing", in.ThingName, in.NextToken, in.MaxResults, defaultRegistryPage)
	if err != nil {
		return nil, err
	}
	groups, next, err := s.registry.GroupsOfThing(ctx, iot.ThingName(in.ThingName), page)
	if err != nil {
		return nil, err
	}
	return &listThingGroupsResponse{
		ThingGroups: s.groupNamesAndArns(groups),
		NextToken:   s.nextToken("ListThingGroupsForThing", in.ThingName, next),
	}, nil
}

// listThingsInThingGroupRequest is ListThingsInThingGroupRequest.
type listThingsInThingGroupRequest struct {
	ThingGroupName string  `json:"thingGroupName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	Recursive      bool    `json:"recursive" in:"query"`
	NextToken      *string `json:"nextToken" in:"query"`
	MaxResults     *int32  `json:"maxResults" in:"query" range:"1,250"`
}

// listThingsInThingGroupResponse is ListThingsInThingGroupResponse.
type listThingsInThingGroupResponse struct {
	Things    []string `json:"things"`
	NextToken *string  `json:"nextToken,omitempty"`
}

func (s *Server) listThingsInThingGroup(ctx context.Context, in *listThingsInThingGroupRequest) (*listThingsInThingGroupResponse, error) {
	filters := []any{in.ThingGroupName, in.Recursive}
	page, err := s.page("ListThingsInThingGroup", filters, in.NextToken, in.MaxResults, defaultRegistryPage)
	if err != nil {
		return nil, err
	}
	things, next, err := s.registry.Members(ctx, iot.GroupName(in.ThingGroupName), in.Recursive, page)
	if err != nil {
		return nil, err
	}
	out := &listThingsInThingGroupResponse{
		Things:    make([]string, len(things)),
		NextToken: s.nextToken("ListThingsInThingGroup", filters, next),
	}
	for i, name := range things {
		out.Things[i] = string(name)
	}
	return out, nil
}

// membershipRequest is what the requests that put a thing into one group or take it out of
// one have in common: names or ARNs (registry spec §3.6).
type membershipRequest struct {
	ThingGroupName *string `json:"thingGroupName" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	ThingGroupArn  *string `json:"thingGroupArn"`
	ThingName      *string `json:"thingName" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	ThingArn       *string `json:"thingArn"`
}

// addThingToThingGroupRequest is AddThingToThingGroupRequest.
type addThingToThingGroupRequest struct {
	membershipRequest
	OverrideDynamicGroups bool `json:"overrideDynamicGroups"`
}

func (s *Server) addThingToThingGroup(ctx context.Context, in *addThingToThingGroupRequest) (*wire.Empty, error) {
	thing, group, err := s.membership(&in.membershipRequest)
	if err != nil {
		return nil, err
	}
	return &wire.Empty{}, s.registry.ChangeGroups(ctx, iot.MembershipChange{Thing: thing, Add: []iot.GroupName{group}, Override: in.OverrideDynamicGroups, Actor: actor(ctx)})
}

// removeThingFromThingGroupRequest is RemoveThingFromThingGroupRequest.
type removeThingFromThingGroupRequest struct{ membershipRequest }

func (s *Server) removeThingFromThingGroup(ctx context.Context, in *removeThingFromThingGroupRequest) (*wire.Empty, error) {
	thing, group, err := s.membership(&in.membershipRequest)
	if err != nil {
		return nil, err
	}
	return &wire.Empty{}, s.registry.ChangeGroups(ctx, iot.MembershipChange{Thing: thing, Remove: []iot.GroupName{group}, Actor: actor(ctx)})
}

// membership returns the thing and the group that a request is about.
func (s *Server) membership(in *membershipRequest) (iot.ThingName, iot.GroupName, error) {
	group, err := s.named(iot.KindGroup, "thingGroup", in.ThingGroupName, in.ThingGroupArn)
	if err != nil {
		return "", "", err
	}
	thing, err := s.named(iot.KindThing, "thing", in.ThingName, in.ThingArn)
	return iot.ThingName(thing), iot.GroupName(group), err
}

// named returns the name of a resource that is given by name, by ARN or by both. Returns
// InvalidRequest if by neither, if they disagree, and for an ARN of another kind or realm.
func (s *Server) named(kind, member string, name, arn *string) (string, error) {
	switch {
	case value(name) == "" && value(arn) == "":
		return "", iot.Errorf(iot.InvalidRequest, "Both %[1]sArn and %[1]sName are empty. Need to specify at least one of them", member)
	case value(arn) == "":
		return *name, nil
	}
	k, n, err := s.realm.ParseARN(*arn)
	switch {
	case err != nil:
		return "", err
	case k != kind:
		return "", iot.Errorf(iot.InvalidRequest, "%sArn %s is not the ARN of a %s", member, *arn, kind)
	case value(name) != "" && *name != n:
		return "", iot.Errorf(iot.InvalidRequest, "%[1]sName %[2]s and %[1]sArn %[3]s do not name the same", member, *name, *arn)
	}
	return n, nil
}

// updateThingGroupsForThingRequest is UpdateThingGroupsForThingRequest (registry spec §3.7).
type updateThingGroupsForThingRequest struct {
	ThingName             *string  `json:"thingName" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	ThingGroupsToAdd      []string `json:"thingGroupsToAdd" itemlen:"1,128" itempattern:"[a-zA-Z0-9:_-]+"`
	ThingGroupsToRemove   []string `json:"thingGroupsToRemove" itemlen:"1,128" itempattern:"[a-zA-Z0-9:_-]+"`
	OverrideDynamicGroups bool     `json:"overrideDynamicGroups"`
}

func (s *Server) updateThingGroupsForThing(ctx context.Context, in *updateThingGroupsForThingRequest) (*wire.Empty, error) {
	if in.ThingName == nil { // the model does not say that it is required
		return nil, iot.Invalid("thingName", nil, "Member must not be null")
	}
	return &wire.Empty{}, s.registry.ChangeGroups(ctx, iot.MembershipChange{
		Thing:    iot.ThingName(*in.ThingName),
		Add:      groupNames(in.ThingGroupsToAdd),
		Remove:   groupNames(in.ThingGroupsToRemove),
		Override: in.OverrideDynamicGroups,
		Actor:    actor(ctx),
	})
}

func groupNames(names []string) []iot.GroupName {
	list := make([]iot.GroupName, len(names))
	for i, n := range names {
		list[i] = iot.GroupName(n)
	}
	return list
}
