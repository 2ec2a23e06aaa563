package controlplane

import (
	"context"

	"drover/internal/iot"
	"drover/internal/wire"
)

// thingTypeProperties is ThingTypeProperties (registry spec §2.1).
type thingTypeProperties struct {
	ThingTypeDescription *string             `json:"thingTypeDescription,omitempty" len:",2028" pattern:"[\\p{Graph}\\x20]*"`
	SearchableAttributes []string            `json:"searchableAttributes" itemlen:",128" itempattern:"[a-zA-Z0-9_.,@/:#-]+"`
	Mqtt5Configuration   *mqtt5Configuration `json:"mqtt5Configuration,omitempty"`
}

// mqtt5Configuration is Mqtt5Configuration: kept and echoed.
type mqtt5Configuration struct {
	PropagatingAttributes []propagatingAttribute `json:"propagatingAttributes"`
}

// propagatingAttribute is PropagatingAttribute (registry spec §2.3).
type propagatingAttribute struct {
	UserPropertyKey     *string `json:"userPropertyKey,omitempty" len:",128" pattern:"[a-zA-Z0-9:$.]+"`
	ThingAttribute      *string `json:"thingAttribute,omitempty" len:",128" pattern:"[a-zA-Z0-9_.,@/:#-]+"`
	ConnectionAttribute *string `json:"connectionAttribute,omitempty" len:",128" pattern:"[a-zA-Z0-9:.]+"`
}

// propagating returns what p says about MQTT 5: nil if nothing.
func (p *thingTypeProperties) propagating() []iot.PropagatingAttribute {
	if p.Mqtt5Configuration == nil {
		return nil
	}
	list := make([]iot.PropagatingAttribute, len(p.Mqtt5Configuration.PropagatingAttributes))
	for i, a := range p.Mqtt5Configuration.PropagatingAttributes {
		list[i] = iot.PropagatingAttribute{
			UserPropertyKey:     value(a.UserPropertyKey),
			ThingAttribute:      value(a.ThingAttribute),
			ConnectionAttribute: value(a.ConnectionAttribute),
		}
	}
	return list
}

func newThingTypeProperties(t *iot.ThingType) *thingTypeProperties {
	p := &thingTypeProperties{ThingTypeDescription: optional(t.Description), SearchableAttributes: t.Searchable}
	if p.SearchableAttributes == nil {
		p.SearchableAttributes = []string{}
	}
	if len(t.Propagating) == 0 {
		return p
	}
	p.Mqtt5Configuration = &mqtt5Configuration{}
	for _, a := range t.Propagating {
		p.Mqtt5Configuration.PropagatingAttributes = append(p.Mqtt5Configuration.PropagatingAttributes, propagatingAttribute{
			UserPropertyKey:     optional(a.UserPropertyKey),
			ThingAttribute:      optional(a.ThingAttribute),
			ConnectionAttribute: optional(a.ConnectionAttribute),
		})
	}
	return p
}

// thingTypeMetadata is ThingTypeMetadata.
type thingTypeMetadata struct {
	Deprecated      bool           `json:"deprecated"`
	DeprecationDate wire.Timestamp `json:"deprecationDate,omitzero"`
	CreationDate    wire.Timestamp `json:"creationDate"`
}

func newThingTypeMetadata(t *iot.ThingType) *thingTypeMetadata {
	return &thingTypeMetadata{
		Deprecated:      t.DeprecatedAt != 0,
		DeprecationDate: timestamp(t.DeprecatedAt),
		CreationDate:    timestamp(t.CreatedAt),
	}
}

// createThingTypeRequest is CreateThingTypeRequest (registry spec §2.2).
type createThingTypeRequest struct {
	ThingTypeName       string               `json:"thingTypeName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	ThingTypeProperties *thingTypeProperties `json:"thingTypeProperties"`
	Tags                []tag                `json:"tags"`
}

// createThingTypeResponse is CreateThingTypeResponse.
type createThingTypeResponse struct {
	ThingTypeName string `json:"thingTypeName"`
	ThingTypeArn  string `json:"thingTypeArn"`
	ThingTypeID   string `json:"thingTypeId"`
}

func (s *Server) createThingType(ctx context.Context, in *createThingTypeRequest) (*createThingTypeResponse, error) {
	n := iot.NewThingType{Name: in.ThingTypeName, Tags: newTags(in.Tags), Actor: actor(ctx)}
	if p := in.ThingTypeProperties; p != nil {
		n.Description, n.Searchable, n.Propagating = value(p.ThingTypeDescription), p.SearchableAttributes, p.propagating()
	}
	t, err := s.registry.CreateThingType(ctx, n)
	if err != nil {
		return nil, err
	}
	return &createThingTypeResponse{ThingTypeName: t.Name, ThingTypeArn: s.thingTypeARN(t), ThingTypeID: t.UUID}, nil
}

func (s *Server) thingTypeARN(t *iot.ThingType) string { return s.realm.ARN(iot.KindThingType, t.Name) }

// describeThingTypeRequest is DescribeThingTypeRequest.
type describeThingTypeRequest struct {
	ThingTypeName string `json:"thingTypeName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
}

// describeThingTypeResponse is DescribeThingTypeResponse.
type describeThingTypeResponse struct {
	ThingTypeName       string               `json:"thingTypeName"`
	ThingTypeID         string               `json:"thingTypeId"`
	ThingTypeArn        string               `json:"thingTypeArn"`
	ThingTypeProperties *thingTypeProperties `json:"thingTypeProperties"`
	ThingTypeMetadata   *thingTypeMetadata   `json:"thingTypeMetadata"`
}

func (s *Server) describeThingType(ctx context.Context, in *describeThingTypeRequest) (*describeThingTypeResponse, error) {
	t, err := s.registry.ThingType(ctx, in.ThingTypeName)
	if err != nil {
		return nil, err
	}
	return &describeThingTypeResponse{
		ThingTypeName:       t.Name,
		ThingTypeID:         t.UUID,
		ThingTypeArn:        s.thingTypeARN(t),
		ThingTypeProperties: newThingTypeProperties(t),
		ThingTypeMetadata:   newThingTypeMetadata(t),
	}, nil
}

// listThingTypesRequest is ListThingTypesRequest (registry spec §2.7).
type listThingTypesRequest struct {
	NextToken     *string `json:"nextToken" in:"query"`
	MaxResults    *int32  `json:"maxResults" in:"query" range:"1,250"`
	ThingTypeName *string `json:"thingTypeName" in:"query" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
}

// listThingTypesResponse is ListThingTypesResponse.
type listThingTypesResponse struct {
	ThingTypes []thingTypeDefinition `json:"thingTypes"`
	NextToken  *string               `json:"nextToken,omitempty"`
}

// thingTypeDefinition is ThingTypeDefinition: a type in a list, which has no id.
type thingTypeDefinition struct {
	ThingTypeName       string               `json:"thingTypeName"`
	ThingTypeArn        string               `json:"thingTypeArn"`
	ThingTypeProperties *thingTypeProperties `json:"thingTypeProperties"`
	ThingTypeMetadata   *thingTypeMetadata   `json:"thingTypeMetadata"`
}

func (s *Server) listThingTypes(ctx context.Context, in *listThingTypesRequest) (*listThingTypesResponse, error) {
	name := value(in.ThingTypeName)
	page, err := s.page("ListThingTypes", name, in.NextToken, in.MaxResults, defaultRegistryPage)
	if err != nil {
		return nil, err
	}
	types, next, err := s.registry.ThingTypes(ctx, name, page)
	if err != nil {
		return nil, err
	}
	out := &listThingTypesResponse{
		ThingTypes: make([]thingTypeDefinition, len(types)),
		NextToken:  s.nextToken("ListThingTypes", name, next),
	}
	for i, t := range types {
		out.ThingTypes[i] = thingTypeDefinition{
			ThingTypeName:       t.Name,
			ThingTypeArn:        s.thingTypeARN(t),
			ThingTypeProperties: newThingTypeProperties(t),
			ThingTypeMetadata:   newThingTypeMetadata(t),
		}
	}
	return out, nil
}

// updateThingTypeRequest is UpdateThingTypeRequest (registry spec §2.4).
type updateThingTypeRequest struct {
	ThingTypeName       string               `json:"thingTypeName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	ThingTypeProperties *thingTypeProperties `json:"thingTypeProperties"`
}

func (s *Server) updateThingType(ctx context.Context, in *updateThingTypeRequest) (*wire.Empty, error) {
	u := iot.ThingTypeUpdate{Name: in.ThingTypeName, Actor: actor(ctx)}
	if p := in.ThingTypeProperties; p != nil {
		u.Description, u.Searchable, u.Propagating = p.ThingTypeDescription, p.SearchableAttributes, p.propagating()
	}
	return &wire.Empty{}, s.registry.UpdateThingType(ctx, u)
}

// deprecateThingTypeRequest is DeprecateThingTypeRequest (registry spec §2.5).
type deprecateThingTypeRequest struct {
	ThingTypeName string `json:"thingTypeName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	UndoDeprecate bool   `json:"undoDeprecate"`
}

func (s *Server) deprecateThingType(ctx context.Context, in *deprecateThingTypeRequest) (*wire.Empty, error) {
	return &wire.Empty{}, s.registry.DeprecateThingType(ctx, iot.ThingTypeDeprecation{
		Name: in.ThingTypeName, Undo: in.UndoDeprecate, Actor: actor(ctx),
	})
}

// deleteThingTypeRequest is DeleteThingTypeRequest (registry spec §2.6).
type deleteThingTypeRequest struct {
	ThingTypeName string `json:"thingTypeName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
}

func (s *Server) deleteThingType(ctx context.Context, in *deleteThingTypeRequest) (*wire.Empty, error) {
	return &wire.Empty{}, s.registry.DeleteThingType(ctx, iot.ThingTypeDeletion{Name: in.ThingTypeName, Actor: actor(ctx)})
}
