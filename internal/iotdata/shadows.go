package iotdata

import (
	"context"
	"encoding/json"

	"drover/internal/auth"
	"drover/internal/iot"
)

// Shadows keeps the shadow $package of things. Payloads and answers are those of AWS IoT's shadow service.
type Shadows interface {
	Shadow(ctx context.Context, thing iot.ThingName, payload []byte) (answer []byte, err error)
	UpdateShadow(ctx context.Context, thing iot.ThingName, payload []byte, actor string) (answer []byte, err error)
	DeleteShadow(ctx context.Context, thing iot.ThingName, payload []byte, actor string) (answer []byte, err error)
	HasShadow(ctx context.Context, thing iot.ThingName) (bool, error)
}

// shadowExceptions says how the refusals of shadows are called here.
var shadowExceptions = map[iot.Code]string{
	iot.InvalidRequest:    "InvalidRequestException",
	iot.NotFound:          "ResourceNotFoundException",
	iot.VersionMismatch:   "ConflictException",
	iot.ShadowTooLarge:    "RequestEntityTooLargeException",
	iot.ShadowUnsupported: "UnsupportedDocumentEncodingException",
	iot.Throttled:         "ThrottlingException",
	iot.Unavailable:       "ServiceUnavailableException",
}

type shadowRequest struct {
	Thing string `json:"thingName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	Name  string `json:"shadowName" in:"query" query:"name" len:"1,64" pattern:"[$a-zA-Z0-9:_-]+"`
}

// check says whether the caller may do the action, and whether there is such a shadow.
func (s *Server) check(ctx context.Context, action string, in *shadowRequest) error {
	resource := in.Thing
	if in.Name != "" {
		resource += "/" + in.Name
	}
	if err := s.permit(ctx, action, iot.KindThing, resource); err != nil {
		return err
	}
	return iot.CheckShadowName(in.Name)
}

func actor(ctx context.Context) string {
	if id, ok := auth.IdentityFrom(ctx); ok {
		return id.Principal.Actor()
	}
	return "anonymous"
}

func (s *Server) getShadow(ctx context.Context, in *shadowRequest) (*json.RawMessage, error) {
	if err := s.check(ctx, "iot:GetThingShadow", in); err != nil {
		return nil, err
	}
	answer, err := s.shadows.Shadow(ctx, iot.ThingName(in.Thing), nil)
	return (*json.RawMessage)(&answer), err
}

type updateShadowRequest struct {
	shadowRequest
	Payload []byte `json:"payload" in:"payload" required:"true"`
}

func (s *Server) updateShadow(ctx context.Context, in *updateShadowRequest) (*json.RawMessage, error) {
	if err := s.check(ctx, "iot:UpdateThingShadow", &in.shadowRequest); err != nil {
		return nil, err
	}
	answer, err := s.shadows.UpdateShadow(ctx, iot.ThingName(in.Thing), in.Payload, actor(ctx))
	return (*json.RawMessage)(&answer), err
}

func (s *Server) deleteShadow(ctx context.Context, in *shadowRequest) (*json.RawMessage, error) {
	if err := s.check(ctx, "iot:DeleteThingShadow", in); err != nil {
		return nil, err
	}
	answer, err := s.shadows.DeleteShadow(ctx, iot.ThingName(in.Thing), nil, actor(ctx))
	return (*json.RawMessage)(&answer), err
}

type listShadowsRequest struct {
	Thing     string  `json:"thingName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	NextToken *string `json:"nextToken" in:"query"`
	PageSize  *int32  `json:"pageSize" in:"query" range:"1,100"`
}

type listShadowsResponse struct {
	Results   []string `json:"results"`
	Timestamp int64    `json:"timestamp"` // seconds
}

func (s *Server) listShadows(ctx context.Context, in *listShadowsRequest) (*listShadowsResponse, error) {
	if err := s.permit(ctx, "iot:ListNamedShadowsForThing", "", ""); err != nil {
		return nil, err
	}
	if in.NextToken != nil {
		return nil, s.invalid("nextToken is not one of this operation: all shadows of a thing fit on a page")
	}
	out := &listShadowsResponse{Results: []string{}, Timestamp: s.now().Unix()}
	has, err := s.shadows.HasShadow(ctx, iot.ThingName(in.Thing))
	if err != nil {
		return nil, err
	}
	if has {
		out.Results = append(out.Results, iot.PackageShadow)
	}
	return out, nil
}
