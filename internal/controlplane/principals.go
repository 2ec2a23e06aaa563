package controlplane

import (
	"context"

	"drover/internal/iot"
	"drover/internal/wire"
)

// exclusiveThing is the type of an attachment that is the only one of its certificate.
const exclusiveThing = "EXCLUSIVE_THING"

func principalType(exclusive bool) string {
	if exclusive {
		return exclusiveThing
	}
	return "NON_EXCLUSIVE_THING"
}

// attachments returns the filter of a list; nil is none.
func attachments(principalType *string) iot.AttachmentQuery {
	if principalType == nil {
		return iot.AttachmentQuery{}
	}
	exclusive := *principalType == exclusiveThing
	return iot.AttachmentQuery{Exclusive: &exclusive}
}

// attachThingPrincipalRequest is AttachThingPrincipalRequest (identity spec §4.8).
type attachThingPrincipalRequest struct {
	ThingName          string  `json:"thingName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	Principal          string  `json:"principal" in:"header" header:"x-amzn-principal" required:"true"`
	ThingPrincipalType *string `json:"thingPrincipalType" in:"query" enum:"EXCLUSIVE_THING,NON_EXCLUSIVE_THING"`
}

func (s *Server) attachThingPrincipal(ctx context.Context, in *attachThingPrincipalRequest) (*wire.Empty, error) {
	return &wire.Empty{}, s.registry.Attach(ctx, iot.Attachment{
		Thing: iot.ThingName(in.ThingName), Principal: in.Principal,
		Exclusive: value(in.ThingPrincipalType) == exclusiveThing, Actor: actor(ctx),
	})
}

// detachThingPrincipalRequest is DetachThingPrincipalRequest.
type detachThingPrincipalRequest struct {
	ThingName string `json:"thingName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	Principal string `json:"principal" in:"header" header:"x-amzn-principal" required:"true"`
}

func (s *Server) detachThingPrincipal(ctx context.Context, in *detachThingPrincipalRequest) (*wire.Empty, error) {
	return &wire.Empty{}, s.registry.Detach(ctx, iot.Attachment{
		Thing: iot.ThingName(in.ThingName), Principal: in.Principal, Actor: actor(ctx),
	})
}

// listThingPrincipalsRequest is ListThingPrincipalsRequest.
type listThingPrincipalsRequest struct {
	NextToken  *string `json:"nextToken" in:"query"`
	MaxResults *int32  `json:"maxResults" in:"query" range:"1,250"`
	ThingName  string  `json:"thingName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
}

// listThingPrincipalsResponse is ListThingPrincipalsResponse.
type listThingPrincipalsResponse struct {
	Principals []string `json:"principals"`
	NextToken  *string  `json:"nextToken,omitempty"`
}

func (s *Server) listThingPrincipals(ctx context.Context, in *listThingPrincipalsRequest) (*listThingPrincipalsResponse, error) {
	list, next, err := s.principalsOf(ctx, "ListThingPrincipals", in.ThingName, nil, in.NextToken, in.MaxResults)
	if err != nil {
		return nil, err
	}
	out := &listThingPrincipalsResponse{Principals: make([]string, len(list)), NextToken: next}
	for i, p := range list {
		out.Principals[i] = s.certificateARN(p.Certificate)
	}
	return out, nil
}

// listThingPrincipalsV2Request is ListThingPrincipalsV2Request.
type listThingPrincipalsV2Request struct {
	NextToken          *string `json:"nextToken" in:"query"`
	MaxResults         *int32  `json:"maxResults" in:"query" range:"1,250"`
	ThingName          string  `json:"thingName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	ThingPrincipalType *string `json:"thingPrincipalType" in:"query" enum:"EXCLUSIVE_THING,NON_EXCLUSIVE_THING"`
}

// listThingPrincipalsV2Response is ListThingPrincipalsV2Response.
type listThingPrincipalsV2Response struct {
	ThingPrincipalObjects []thingPrincipalObject `json:"thingPrincipalObjects"`
	NextToken             *string                `json:"nextToken,omitempty"`
}

// thingPrincipalObject is ThingPrincipalObject.
type thingPrincipalObject struct {
	Principal          string `json:"principal"`
	ThingPrincipalType string `json:"thingPrincipalType"`
}

func (s *Server) listThingPrincipalsV2(ctx context.Context, in *listThingPrincipalsV2Request) (*listThingPrincipalsV2Response, error) {
	list, next, err := s.principalsOf(ctx, "ListThingPrincipalsV2", in.ThingName, in.ThingPrincipalType, in.NextToken, in.MaxResults)
	if err != nil {
		return nil, err
	}
	out := &listThingPrincipalsV2Response{ThingPrincipalObjects: make([]thingPrincipalObject, len(list)), NextToken: next}
	for i, p := range list {
		out.ThingPrincipalObjects[i] = thingPrincipalObject{s.certificateARN(p.Certificate), principalType(p.Exclusive)}
	}
	return out, nil
}

// principalsOf reads a page of what is attached to a thing, and the token of the next one.
func (s *Server) principalsOf(ctx context.Context, op, thing string, ofType, token *string, maxResults *int32) ([]iot.ThingPrincipal, *string, error) {
	filters := []any{thing, ofType}
	page, err := s.page(op, filters, token, maxResults, defaultRegistryPage)
	if err != nil {
		return nil, nil, err
	}
	list, next, err := s.registry.PrincipalsOfThing(ctx, iot.ThingName(thing), attachments(ofType), page)
	return list, s.nextToken(op, filters, next), err
}

// listPrincipalThingsRequest is ListPrincipalThingsRequest.
type listPrincipalThingsRequest struct {
	NextToken  *string `json:"nextToken" in:"query"`
	MaxResults *int32  `json:"maxResults" in:"query" range:"1,250"`
	Principal  string  `json:"principal" in:"header" header:"x-amzn-principal" required:"true"`
}

// listPrincipalThingsResponse is ListPrincipalThingsResponse.
type listPrincipalThingsResponse struct {
	Things    []string `json:"things"`
	NextToken *string  `json:"nextToken,omitempty"`
}

func (s *Server) listPrincipalThings(ctx context.Context, in *listPrincipalThingsRequest) (*listPrincipalThingsResponse, error) {
	list, next, err := s.thingsOf(ctx, "ListPrincipalThings", in.Principal, nil, in.NextToken, in.MaxResults)
	if err != nil {
		return nil, err
	}
	out := &listPrincipalThingsResponse{Things: make([]string, len(list)), NextToken: next}
	for i, p := range list {
		out.Things[i] = string(p.Thing)
	}
	return out, nil
}

// listPrincipalThingsV2Request is ListPrincipalThingsV2Request.
type listPrincipalThingsV2Request struct {
	NextToken          *string `json:"nextToken" in:"query"`
	MaxResults         *int32  `json:"maxResults" in:"query" range:"1,250"`
	Principal          string  `json:"principal" in:"header" header:"x-amzn-principal" required:"true"`
	ThingPrincipalType *string `json:"thingPrincipalType" in:"query" enum:"EXCLUSIVE_THING,NON_EXCLUSIVE_THING"`
}

// listPrincipalThingsV2Response is ListPrincipalThingsV2Response.
type listPrincipalThingsV2Response struct {
	PrincipalThingObjects []principalThingObject `json:"principalThingObjects"`
	NextToken             *string                `json:"nextToken,omitempty"`
}

// principalThingObject is PrincipalThingObject.
type principalThingObject struct {
	ThingName          string `json:"thingName"`
	ThingPrincipalType string `json:"thingPrincipalType"`
}

func (s *Server) listPrincipalThingsV2(ctx context.Context, in *listPrincipalThingsV2Request) (*listPrincipalThingsV2Response, error) {
	list, next, err := s.thingsOf(ctx, "ListPrincipalThingsV2", in.Principal, in.ThingPrincipalType, in.NextToken, in.MaxResults)
	if err != nil {
		return nil, err
	}
	out := &listPrincipalThingsV2Response{PrincipalThingObjects: make([]principalThingObject, len(list)), NextToken: next}
	for i, p := range list {
		out.PrincipalThingObjects[i] = principalThingObject{string(p.Thing), principalType(p.Exclusive)}
	}
	return out, nil
}

// thingsOf reads a page of what a principal is attached to, and the token of the next one.
func (s *Server) thingsOf(ctx context.Context, op, principal string, ofType, token *string, maxResults *int32) ([]iot.ThingPrincipal, *string, error) {
	filters := []any{principal, ofType}
	page, err := s.page(op, filters, token, maxResults, defaultRegistryPage)
	if err != nil {
		return nil, nil, err
	}
	list, next, err := s.registry.ThingsOfPrincipal(ctx, principal, attachments(ofType), page)
	return list, s.nextToken(op, filters, next), err
}
