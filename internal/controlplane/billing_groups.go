package controlplane

import (
	"context"

	"drover/internal/iot"
	"drover/internal/wire"
)

// billingGroupProperties is BillingGroupProperties.
type billingGroupProperties struct {
	BillingGroupDescription *string `json:"billingGroupDescription,omitempty" len:",2028" pattern:"[\\p{Graph}\\x20]*"`
}

// createBillingGroupRequest is CreateBillingGroupRequest (registry spec §6.1).
type createBillingGroupRequest struct {
	BillingGroupName       string                  `json:"billingGroupName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	BillingGroupProperties *billingGroupProperties `json:"billingGroupProperties"`
	Tags                   []tag                   `json:"tags"`
}

// billingGroupReference is CreateBillingGroupResponse.
type billingGroupReference struct {
	BillingGroupName string `json:"billingGroupName"`
	BillingGroupArn  string `json:"billingGroupArn"`
	BillingGroupID   string `json:"billingGroupId"`
}

func (s *Server) billingGroupReference(g *iot.BillingGroup) billingGroupReference {
	return billingGroupReference{BillingGroupName: g.Name, BillingGroupArn: s.realm.ARN(iot.KindBillingGroup, g.Name), BillingGroupID: g.UUID}
}

func (s *Server) createBillingGroup(ctx context.Context, in *createBillingGroupRequest) (*billingGroupReference, error) {
	n := iot.NewBillingGroup{Name: in.BillingGroupName, Tags: newTags(in.Tags), Actor: actor(ctx)}
	if p := in.BillingGroupProperties; p != nil {
		n.Description = value(p.BillingGroupDescription)
	}
	g, err := s.registry.CreateBillingGroup(ctx, n)
	if err != nil {
		return nil, err
	}
	out := s.billingGroupReference(g)
	return &out, nil
}

// updateBillingGroupRequest is UpdateBillingGroupRequest.
type updateBillingGroupRequest struct {
	BillingGroupName       string                  `json:"billingGroupName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	BillingGroupProperties *billingGroupProperties `json:"billingGroupProperties" required:"true"`
	ExpectedVersion        *int64                  `json:"expectedVersion"`
}

// updateBillingGroupResponse is UpdateBillingGroupResponse.
type updateBillingGroupResponse struct {
	Version int64 `json:"version"`
}

func (s *Server) updateBillingGroup(ctx context.Context, in *updateBillingGroupRequest) (*updateBillingGroupResponse, error) {
	version, err := s.registry.UpdateBillingGroup(ctx, iot.BillingGroupUpdate{
		Name: in.BillingGroupName, Description: in.BillingGroupProperties.BillingGroupDescription, ExpectedVersion: in.ExpectedVersion, Actor: actor(ctx),
	})
	if err != nil {
		return nil, err
	}
	return &updateBillingGroupResponse{version}, nil
}

// deleteBillingGroupRequest is DeleteBillingGroupRequest.
type deleteBillingGroupRequest struct {
	BillingGroupName string `json:"billingGroupName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	ExpectedVersion  *int64 `json:"expectedVersion" in:"query"`
}

func (s *Server) deleteBillingGroup(ctx context.Context, in *deleteBillingGroupRequest) (*wire.Empty, error) {
	return &wire.Empty{}, s.registry.DeleteBillingGroup(ctx, iot.BillingGroupDeletion{Name: in.BillingGroupName, ExpectedVersion: in.ExpectedVersion, Actor: actor(ctx)})
}

// describeBillingGroupRequest is DescribeBillingGroupRequest.
type describeBillingGroupRequest struct {
	BillingGroupName string `json:"billingGroupName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
}

// describeBillingGroupResponse is DescribeBillingGroupResponse.
type describeBillingGroupResponse struct {
	billingGroupReference
	Version                int64                  `json:"version"`
	BillingGroupProperties billingGroupProperties `json:"billingGroupProperties"`
	BillingGroupMetadata   billingGroupMetadata   `json:"billingGroupMetadata"`
}

// billingGroupMetadata is BillingGroupMetadata.
type billingGroupMetadata struct {
	CreationDate wire.Timestamp `json:"creationDate"`
}

func (s *Server) describeBillingGroup(ctx context.Context, in *describeBillingGroupRequest) (*describeBillingGroupResponse, error) {
	g, err := s.registry.BillingGroup(ctx, in.BillingGroupName)
	if err != nil {
		return nil, err
	}
	return &describeBillingGroupResponse{
		billingGroupReference: s.billingGroupReference(g), Version: g.Version,
		BillingGroupProperties: billingGroupProperties{optional(g.Description)}, BillingGroupMetadata: billingGroupMetadata{timestamp(g.CreatedAt)},
	}, nil
}

// listBillingGroupsRequest is ListBillingGroupsRequest.
type listBillingGroupsRequest struct {
	NextToken        *string `json:"nextToken" in:"query"`
	MaxResults       *int32  `json:"maxResults" in:"query" range:"1,250"`
	NamePrefixFilter *string `json:"namePrefixFilter" in:"query" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
}

// listBillingGroupsResponse is ListBillingGroupsResponse.
type listBillingGroupsResponse struct {
	BillingGroups []groupNameAndArn `json:"billingGroups"`
	NextToken     *string           `json:"nextToken,omitempty"`
}

func (s *Server) listBillingGroups(ctx context.Context, in *listBillingGroupsRequest) (*listBillingGroupsResponse, error) {
	const op = "ListBillingGroups"
	prefix := value(in.NamePrefixFilter)
	page, err := s.page(op, prefix, in.NextToken, in.MaxResults, defaultRegistryPage)
	if err != nil {
		return nil, err
	}
	groups, next, err := s.registry.BillingGroups(ctx, prefix, page)
	if err != nil {
		return nil, err
	}
	out := &listBillingGroupsResponse{BillingGroups: make([]groupNameAndArn, len(groups)), NextToken: s.nextToken(op, prefix, next)}
	for i, g := range groups {
		out.BillingGroups[i] = groupNameAndArn{GroupName: g.Name, GroupArn: s.realm.ARN(iot.KindBillingGroup, g.Name)}
	}
	return out, nil
}

// billingMembershipRequest is AddThingToBillingGroupRequest and RemoveThingFromBillingGroupRequest.
type billingMembershipRequest struct {
	BillingGroupName *string `json:"billingGroupName" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	BillingGroupArn  *string `json:"billingGroupArn"`
	ThingName        *string `json:"thingName" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	ThingArn         *string `json:"thingArn"`
}

// billingMembership returns the thing and the billing group that a request is about.
func (s *Server) billingMembership(in *billingMembershipRequest) (iot.ThingName, string, error) {
	group, err := s.named(iot.KindBillingGroup, "billingGroup", in.BillingGroupName, in.BillingGroupArn)
	if err != nil {
		return "", "", err
	}
	thing, err := s.named(iot.KindThing, "thing", in.ThingName, in.ThingArn)
	return iot.ThingName(thing), group, err
}

func (s *Server) addThingToBillingGroup(ctx context.Context, in *billingMembershipRequest) (*wire.Empty, error) {
	thing, group, err := s.billingMembership(in)
	if err != nil {
		return nil, err
	}
	return &wire.Empty{}, s.registry.JoinBillingGroup(ctx, thing, group, actor(ctx))
}

func (s *Server) removeThingFromBillingGroup(ctx context.Context, in *billingMembershipRequest) (*wire.Empty, error) {
	thing, group, err := s.billingMembership(in)
	if err != nil {
		return nil, err
	}
	return &wire.Empty{}, s.registry.LeaveBillingGroup(ctx, thing, group, actor(ctx))
}

// listThingsInBillingGroupRequest is ListThingsInBillingGroupRequest.
type listThingsInBillingGroupRequest struct {
	BillingGroupName string  `json:"billingGroupName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	NextToken        *string `json:"nextToken" in:"query"`
	MaxResults       *int32  `json:"maxResults" in:"query" range:"1,250"`
}

// listThingsInBillingGroupResponse is ListThingsInBillingGroupResponse.
type listThingsInBillingGroupResponse struct {
	Things    []string `json:"things"`
	NextToken *string  `json:"nextToken,omitempty"`
}

func (s *Server) listThingsInBillingGroup(ctx context.Context, in *listThingsInBillingGroupRequest) (*listThingsInBillingGroupResponse, error) {
	const op = "ListThingsInBillingGroup"
	page, err := s.page(op, in.BillingGroupName, in.NextToken, in.MaxResults, defaultRegistryPage)
	if err != nil {
		return nil, err
	}
	things, next, err := s.registry.BillingMembers(ctx, in.BillingGroupName, page)
	if err != nil {
		return nil, err
	}
	return &listThingsInBillingGroupResponse{Things: texts(things), NextToken: s.nextToken(op, in.BillingGroupName, next)}, nil
}
