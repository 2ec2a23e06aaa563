package controlplane

import (
	"context"

	"drover/internal/iot"
	"drover/internal/wire"
)

// attributePayload is AttributePayload. In answers merge is left out.
type attributePayload struct {
	Attributes map[string]string `json:"attributes" keylen:",128" keypattern:"[a-zA-Z0-9_.,@/:#-]+" vallen:",800" valpattern:"[a-zA-Z0-9_.,@/:#=\\[\\]-]*"`
	Merge      bool              `json:"merge,omitempty"`
}

// attributes returns the attributes of something new.
func (p *attributePayload) attributes() map[string]string {
	if p == nil {
		return nil
	}
	return p.Attributes
}

func (p *attributePayload) update() *iot.AttributeUpdate {
	if p == nil {
		return nil
	}
	return &iot.AttributeUpdate{Values: p.Attributes, Merge: p.Merge}
}

// given returns m, and an empty map for nil: attributes are never left out of an answer.
func given(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// createThingRequest is CreateThingRequest (registry spec §1.2).
type createThingRequest struct {
	ThingName        string            `json:"thingName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	ThingTypeName    *string           `json:"thingTypeName" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	AttributePayload *attributePayload `json:"attributePayload"`
	BillingGroupName *string           `json:"billingGroupName" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
}

// createThingResponse is CreateThingResponse.
type createThingResponse struct {
	ThingName string `json:"thingName"`
	ThingArn  string `json:"thingArn"`
	ThingID   string `json:"thingId"`
}

func (s *Server) createThing(ctx context.Context, in *createThingRequest) (*createThingResponse, error) {
	t, err := s.registry.CreateThing(ctx, iot.NewThing{
		Name:         iot.ThingName(in.ThingName),
		Type:         value(in.ThingTypeName),
		Attributes:   in.AttributePayload.attributes(),
		BillingGroup: value(in.BillingGroupName),
		Actor:        actor(ctx),
	})
	if err != nil {
		return nil, err
	}
	return &createThingResponse{ThingName: string(t.Name), ThingArn: s.thingARN(t), ThingID: t.UUID}, nil
}

func (s *Server) thingARN(t *iot.Thing) string { return s.realm.ARN(iot.KindThing, string(t.Name)) }

// describeThingRequest is DescribeThingRequest (registry spec §1.5).
type describeThingRequest struct {
	ThingName string `json:"thingName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
}

// describeThingResponse is DescribeThingResponse.
type describeThingResponse struct {
	DefaultClientID  string            `json:"defaultClientId"`
	ThingName        string            `json:"thingName"`
	ThingID          string            `json:"thingId"`
	ThingArn         string            `json:"thingArn"`
	ThingTypeName    string            `json:"thingTypeName,omitempty"`
	Attributes       map[string]string `json:"attributes"`
	Version          int64             `json:"version"`
	BillingGroupName string            `json:"billingGroupName,omitempty"`
}

func (s *Server) describeThing(ctx context.Context, in *describeThingRequest) (*describeThingResponse, error) {
	t, err := s.registry.Thing(ctx, iot.ThingName(in.ThingName))
	if err != nil {
		return nil, err
	}
	return &describeThingResponse{
		DefaultClientID:  string(t.Name),
		ThingName:        string(t.Name),
		ThingID:          t.UUID,
		ThingArn:         s.thingARN(t),
		ThingTypeName:    t.Type,
		Attributes:       given(t.Attributes),
		Version:          t.Version,
		BillingGroupName: t.BillingGroup,
	}, nil
}

// updateThingRequest is UpdateThingRequest (registry spec §1.3).
type updateThingRequest struct {
	ThingName        string            `json:"thingName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	ThingTypeName    *string           `json:"thingTypeName" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	AttributePayload *attributePayload `json:"attributePayload"`
	ExpectedVersion  *int64            `json:"expectedVersion"`
	RemoveThingType  bool              `json:"removeThingType"`
}

func (s *Server) updateThing(ctx context.Context, in *updateThingRequest) (*wire.Empty, error) {
	return &wire.Empty{}, s.registry.UpdateThing(ctx, iot.ThingUpdate{
		Name:            iot.ThingName(in.ThingName),
		Type:            value(in.ThingTypeName),
		RemoveType:      in.RemoveThingType,
		Attributes:      in.AttributePayload.update(),
		ExpectedVersion: in.ExpectedVersion,
		Actor:           actor(ctx),
	})
}

// deleteThingRequest is DeleteThingRequest (registry spec §1.4).
type deleteThingRequest struct {
	ThingName       string `json:"thingName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	ExpectedVersion *int64 `json:"expectedVersion" in:"query"`
}

func (s *Server) deleteThing(ctx context.Context, in *deleteThingRequest) (*wire.Empty, error) {
	return &wire.Empty{}, s.registry.DeleteThing(ctx, iot.ThingDeletion{
		Name:            iot.ThingName(in.ThingName),
		ExpectedVersion: in.ExpectedVersion,
		Actor:           actor(ctx),
	})
}

// listThingsRequest is ListThingsRequest (registry spec §1.6).
type listThingsRequest struct {
	NextToken               *string `json:"nextToken" in:"query"`
	MaxResults              *int32  `json:"maxResults" in:"query" range:"1,250"`
	AttributeName           *string `json:"attributeName" in:"query" len:",128" pattern:"[a-zA-Z0-9_.,@/:#-]+"`
	AttributeValue          *string `json:"attributeValue" in:"query" len:",800" pattern:"[a-zA-Z0-9_.,@/:#=\\[\\]-]*"`
	ThingTypeName           *string `json:"thingTypeName" in:"query" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	UsePrefixAttributeValue bool    `json:"usePrefixAttributeValue" in:"query"`
}

// listThingsResponse is ListThingsResponse.
type listThingsResponse struct {
	Things    []thingAttribute `json:"things"`
	NextToken *string          `json:"nextToken,omitempty"`
}

// thingAttribute is ThingAttribute: a thing in a list.
type thingAttribute struct {
	ThingName     string            `json:"thingName"`
	ThingTypeName string            `json:"thingTypeName,omitempty"`
	ThingArn      string            `json:"thingArn"`
	Attributes    map[string]string `json:"attributes"`
	Version       int64             `json:"version"`
}

func (s *Server) listThings(ctx context.Context, in *listThingsRequest) (*listThingsResponse, error) {
	query := iot.ThingQuery{
		Type:           value(in.ThingTypeName),
		AttributeName:  value(in.AttributeName),
		AttributeValue: in.AttributeValue,
		Prefix:         in.UsePrefixAttributeValue,
	}
	page, err := s.page("ListThings", query, in.NextToken, in.MaxResults, defaultRegistryPage)
	if err != nil {
		return nil, err
	}
	things, next, err := s.registry.Things(ctx, query, page)
	if err != nil {
		return nil, err
	}
	out := &listThingsResponse{
		Things:    make([]thingAttribute, len(things)),
		NextToken: s.nextToken("ListThings", query, next),
	}
	for i, t := range things {
		out.Things[i] = thingAttribute{
			ThingName:     string(t.Name),
			ThingTypeName: t.Type,
			ThingArn:      s.thingARN(t),
			Attributes:    given(t.Attributes),
			Version:       t.Version,
		}
	}
	return out, nil
}
