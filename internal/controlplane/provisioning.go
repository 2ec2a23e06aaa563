package controlplane

import (
	"context"
	"math"
	"strconv"

	"drover/internal/iot"
	"drover/internal/wire"
)

// provisioningHook is ProvisioningHook.
type provisioningHook struct {
	PayloadVersion *string `json:"payloadVersion,omitempty" len:"10,32" pattern:"[0-9-]+"`
	TargetArn      *string `json:"targetArn" required:"true" len:",2048"`
}

func (h *provisioningHook) hook() *iot.ProvisioningHook {
	if h == nil {
		return nil
	}
	return &iot.ProvisioningHook{PayloadVersion: value(h.PayloadVersion), Target: value(h.TargetArn)}
}

func newProvisioningHook(h *iot.ProvisioningHook) *provisioningHook {
	if h == nil {
		return nil
	}
	return &provisioningHook{PayloadVersion: optional(h.PayloadVersion), TargetArn: &h.Target}
}

// createProvisioningTemplateRequest is CreateProvisioningTemplateRequest (identity spec §7.1).
type createProvisioningTemplateRequest struct {
	TemplateName        string            `json:"templateName" required:"true" len:"1,36" pattern:"[0-9A-Za-z_-]+"`
	Description         *string           `json:"description" len:",500" pattern:"[^\\p{C}]*"`
	TemplateBody        *string           `json:"templateBody" required:"true" len:",10240"`
	Enabled             *bool             `json:"enabled"`
	ProvisioningRoleArn string            `json:"provisioningRoleArn" required:"true" len:"20,2048"`
	PreProvisioningHook *provisioningHook `json:"preProvisioningHook"`
	Tags                []tag             `json:"tags"`
	Type                *string           `json:"type" enum:"FLEET_PROVISIONING,JITP"`
}

// createProvisioningTemplateResponse is CreateProvisioningTemplateResponse.
type createProvisioningTemplateResponse struct {
	TemplateArn      string `json:"templateArn"`
	TemplateName     string `json:"templateName"`
	DefaultVersionID int32  `json:"defaultVersionId"`
}

func (s *Server) createProvisioningTemplate(ctx context.Context, in *createProvisioningTemplateRequest) (*createProvisioningTemplateResponse, error) {
	t, err := s.registry.CreateProvisioningTemplate(ctx, iot.NewProvisioningTemplate{
		Name: in.TemplateName, Description: value(in.Description), Type: iot.ProvisioningType(value(in.Type)), Body: value(in.TemplateBody),
		Enabled: value(in.Enabled), RoleARN: in.ProvisioningRoleArn, Hook: in.PreProvisioningHook.hook(), Tags: newTags(in.Tags), Actor: actor(ctx),
	})
	if err != nil {
		return nil, err
	}
	return &createProvisioningTemplateResponse{
		TemplateArn: s.provisioningARN(t.Name), TemplateName: t.Name, DefaultVersionID: int32(t.DefaultVersion),
	}, nil
}

func (s *Server) provisioningARN(name string) string { return s.realm.ARN(iot.KindProvisioning, name) }

// provisioningTemplateRequest is DescribeProvisioningTemplateRequest,
// DeleteProvisioningTemplateRequest and CreateProvisioningClaimRequest.
type provisioningTemplateRequest struct {
	TemplateName string `json:"templateName" in:"label" len:"1,36" pattern:"[0-9A-Za-z_-]+"`
}

// describeProvisioningTemplateResponse is DescribeProvisioningTemplateResponse.
type describeProvisioningTemplateResponse struct {
	TemplateArn         string            `json:"templateArn"`
	TemplateName        string            `json:"templateName"`
	Description         string            `json:"description,omitempty"`
	CreationDate        wire.Timestamp    `json:"creationDate"`
	LastModifiedDate    wire.Timestamp    `json:"lastModifiedDate"`
	DefaultVersionID    int32             `json:"defaultVersionId"`
	TemplateBody        string            `json:"templateBody"`
	Enabled             bool              `json:"enabled"`
	ProvisioningRoleArn string            `json:"provisioningRoleArn"`
	PreProvisioningHook *provisioningHook `json:"preProvisioningHook,omitempty"`
	Type                string            `json:"type"`
}

func (s *Server) describeProvisioningTemplate(ctx context.Context, in *provisioningTemplateRequest) (*describeProvisioningTemplateResponse, error) {
	t, v, err := s.registry.ProvisioningTemplate(ctx, in.TemplateName)
	if err != nil {
		return nil, err
	}
	return &describeProvisioningTemplateResponse{
		TemplateArn: s.provisioningARN(t.Name), TemplateName: t.Name, Description: t.Description, CreationDate: timestamp(t.CreatedAt),
		LastModifiedDate: timestamp(t.ModifiedAt), DefaultVersionID: int32(t.DefaultVersion), TemplateBody: v.Body, Enabled: t.Enabled,
		ProvisioningRoleArn: t.RoleARN, PreProvisioningHook: newProvisioningHook(t.Hook), Type: string(t.Type),
	}, nil
}

// listProvisioningTemplatesRequest is ListProvisioningTemplatesRequest.
type listProvisioningTemplatesRequest struct {
	MaxResults *int32  `json:"maxResults" in:"query" range:"1,250"`
	NextToken  *string `json:"nextToken" in:"query"`
}

// listProvisioningTemplatesResponse is ListProvisioningTemplatesResponse.
type listProvisioningTemplatesResponse struct {
	Templates []provisioningTemplateSummary `json:"templates"`
	NextToken *string                       `json:"nextToken,omitempty"`
}

// provisioningTemplateSummary is ProvisioningTemplateSummary.
type provisioningTemplateSummary struct {
	TemplateArn      string         `json:"templateArn"`
	TemplateName     string         `json:"templateName"`
	Description      string         `json:"description,omitempty"`
	CreationDate     wire.Timestamp `json:"creationDate"`
	LastModifiedDate wire.Timestamp `json:"lastModifiedDate"`
	Enabled          bool           `json:"enabled"`
	Type             string         `json:"type"`
}

func (s *Server) listProvisioningTemplates(ctx context.Context, in *listProvisioningTemplatesRequest) (*listProvisioningTemplatesResponse, error) {
	page, err := s.page("ListProvisioningTemplates", nil, in.NextToken, in.MaxResults, defaultRegistryPage)
	if err != nil {
		return nil, err
	}
	list, next, err := s.registry.ProvisioningTemplates(ctx, page)
	if err != nil {
		return nil, err
	}
	out := &listProvisioningTemplatesResponse{
		Templates: make([]provisioningTemplateSummary, len(list)), NextToken: s.nextToken("ListProvisioningTemplates", nil, next),
	}
	for i, t := range list {
		out.Templates[i] = provisioningTemplateSummary{
			TemplateArn: s.provisioningARN(t.Name), TemplateName: t.Name, Description: t.Description, CreationDate: timestamp(t.CreatedAt),
			LastModifiedDate: timestamp(t.ModifiedAt), Enabled: t.Enabled, Type: string(t.Type),
		}
	}
	return out, nil
}

// updateProvisioningTemplateRequest is UpdateProvisioningTemplateRequest.
type updateProvisioningTemplateRequest struct {
	TemplateName              string            `json:"templateName" in:"label" len:"1,36" pattern:"[0-9A-Za-z_-]+"`
	Description               *string           `json:"description" len:",500" pattern:"[^\\p{C}]*"`
	Enabled                   *bool             `json:"enabled"`
	DefaultVersionID          *int32            `json:"defaultVersionId"`
	ProvisioningRoleArn       *string           `json:"provisioningRoleArn" len:"20,2048"`
	PreProvisioningHook       *provisioningHook `json:"preProvisioningHook"`
	RemovePreProvisioningHook *bool             `json:"removePreProvisioningHook"`
}

func (s *Server) updateProvisioningTemplate(ctx context.Context, in *updateProvisioningTemplateRequest) (*wire.Empty, error) {
	u := iot.ProvisioningTemplateUpdate{
		Name: in.TemplateName, Description: in.Description, Enabled: in.Enabled, RoleARN: in.ProvisioningRoleArn,
		Hook: in.PreProvisioningHook.hook(), RemoveHook: value(in.RemovePreProvisioningHook), Actor: actor(ctx),
	}
	if in.DefaultVersionID != nil {
		u.DefaultVersion = optional(int64(*in.DefaultVersionID))
	}
	return &wire.Empty{}, s.registry.UpdateProvisioningTemplate(ctx, u)
}

func (s *Server) deleteProvisioningTemplate(ctx context.Context, in *provisioningTemplateRequest) (*wire.Empty, error) {
	return &wire.Empty{}, s.registry.DeleteProvisioningTemplate(ctx, in.TemplateName, actor(ctx))
}

// createProvisioningTemplateVersionRequest is CreateProvisioningTemplateVersionRequest.
type createProvisioningTemplateVersionRequest struct {
	TemplateName string  `json:"templateName" in:"label" len:"1,36" pattern:"[0-9A-Za-z_-]+"`
	TemplateBody *string `json:"templateBody" required:"true" len:",10240"`
	SetAsDefault bool    `json:"setAsDefault" in:"query"`
}

// createProvisioningTemplateVersionResponse is CreateProvisioningTemplateVersionResponse.
type createProvisioningTemplateVersionResponse struct {
	TemplateArn      string `json:"templateArn"`
	TemplateName     string `json:"templateName"`
	VersionID        int32  `json:"versionId"`
	IsDefaultVersion bool   `json:"isDefaultVersion"`
}

func (s *Server) createProvisioningTemplateVersion(ctx context.Context, in *createProvisioningTemplateVersionRequest) (*createProvisioningTemplateVersionResponse, error) {
	v, err := s.registry.CreateProvisioningVersion(ctx, in.TemplateName, value(in.TemplateBody), in.SetAsDefault, actor(ctx))
	if err != nil {
		return nil, err
	}
	return &createProvisioningTemplateVersionResponse{
		TemplateArn: s.provisioningARN(v.Template), TemplateName: v.Template, VersionID: int32(v.ID), IsDefaultVersion: in.SetAsDefault,
	}, nil
}

// provisioningTemplateVersionRequest is DescribeProvisioningTemplateVersionRequest and
// DeleteProvisioningTemplateVersionRequest.
type provisioningTemplateVersionRequest struct {
	TemplateName string `json:"templateName" in:"label" len:"1,36" pattern:"[0-9A-Za-z_-]+"`
	VersionID    int32  `json:"versionId" in:"label"`
}

// describeProvisioningTemplateVersionResponse is DescribeProvisioningTemplateVersionResponse.
type describeProvisioningTemplateVersionResponse struct {
	VersionID        int32          `json:"versionId"`
	CreationDate     wire.Timestamp `json:"creationDate"`
	TemplateBody     string         `json:"templateBody"`
	IsDefaultVersion bool           `json:"isDefaultVersion"`
}

func (s *Server) describeProvisioningTemplateVersion(ctx context.Context, in *provisioningTemplateVersionRequest) (*describeProvisioningTemplateVersionResponse, error) {
	v, standard, err := s.registry.ProvisioningVersion(ctx, in.TemplateName, int64(in.VersionID))
	if err != nil {
		return nil, err
	}
	return &describeProvisioningTemplateVersionResponse{
		VersionID: int32(v.ID), CreationDate: timestamp(v.CreatedAt), TemplateBody: v.Body, IsDefaultVersion: standard,
	}, nil
}

func (s *Server) deleteProvisioningTemplateVersion(ctx context.Context, in *provisioningTemplateVersionRequest) (*wire.Empty, error) {
	return &wire.Empty{}, s.registry.DeleteProvisioningVersion(ctx, in.TemplateName, int64(in.VersionID), actor(ctx))
}

// listProvisioningTemplateVersionsRequest is ListProvisioningTemplateVersionsRequest.
type listProvisioningTemplateVersionsRequest struct {
	TemplateName string  `json:"templateName" in:"label" len:"1,36" pattern:"[0-9A-Za-z_-]+"`
	MaxResults   *int32  `json:"maxResults" in:"query" range:"1,250"`
	NextToken    *string `json:"nextToken" in:"query"`
}

// listProvisioningTemplateVersionsResponse is ListProvisioningTemplateVersionsResponse.
type listProvisioningTemplateVersionsResponse struct {
	Versions  []provisioningTemplateVersionSummary `json:"versions"`
	NextToken *string                              `json:"nextToken,omitempty"`
}

// provisioningTemplateVersionSummary is ProvisioningTemplateVersionSummary.
type provisioningTemplateVersionSummary struct {
	VersionID        int32          `json:"versionId"`
	CreationDate     wire.Timestamp `json:"creationDate"`
	IsDefaultVersion bool           `json:"isDefaultVersion"`
}

func (s *Server) listProvisioningTemplateVersions(ctx context.Context, in *listProvisioningTemplateVersionsRequest) (*listProvisioningTemplateVersionsResponse, error) {
	const op = "ListProvisioningTemplateVersions"
	page, err := s.page(op, in.TemplateName, in.NextToken, in.MaxResults, defaultRegistryPage)
	if err != nil {
		return nil, err
	}
	versions, standard, err := s.registry.ProvisioningVersions(ctx, in.TemplateName)
	if err != nil {
		return nil, err
	}
	out := &listProvisioningTemplateVersionsResponse{Versions: []provisioningTemplateVersionSummary{}}
	last := int64(math.MaxInt64)
	if page.Cursor != "" {
		if last, err = strconv.ParseInt(page.Cursor, 10, 64); err != nil {
			return nil, errToken
		}
	}
	for _, v := range versions { // the newest first
		if v.ID >= last {
			continue
		}
		if len(out.Versions) == page.Limit {
			out.NextToken = s.nextToken(op, in.TemplateName, strconv.Itoa(int(out.Versions[page.Limit-1].VersionID)))
			break
		}
		out.Versions = append(out.Versions, provisioningTemplateVersionSummary{
			VersionID: int32(v.ID), CreationDate: timestamp(v.CreatedAt), IsDefaultVersion: v.ID == standard,
		})
	}
	return out, nil
}

// createProvisioningClaimResponse is CreateProvisioningClaimResponse (identity spec §7.5).
type createProvisioningClaimResponse struct {
	CertificateID  string         `json:"certificateId"`
	CertificatePem string         `json:"certificatePem"`
	KeyPair        *keyPair       `json:"keyPair"`
	Expiration     wire.Timestamp `json:"expiration"`
}

func (s *Server) createProvisioningClaim(ctx context.Context, in *provisioningTemplateRequest) (*createProvisioningClaimResponse, error) {
	c, keys, err := s.registry.CreateClaim(ctx, in.TemplateName, actor(ctx))
	if err != nil {
		return nil, err
	}
	return &createProvisioningClaimResponse{
		CertificateID: string(c.Certificate), CertificatePem: c.PEM, KeyPair: &keyPair{PublicKey: keys.Public, PrivateKey: keys.Private},
		Expiration: timestamp(c.Expires),
	}, nil
}

// registerThingRequest is RegisterThingRequest (identity spec §7.8).
type registerThingRequest struct {
	TemplateBody *string           `json:"templateBody" required:"true" len:",10240"`
	Parameters   map[string]string `json:"parameters" keylen:",2048" vallen:",4096"`
}

// registerThingResponse is RegisterThingResponse.
type registerThingResponse struct {
	CertificatePem string            `json:"certificatePem,omitempty"`
	ResourceArns   map[string]string `json:"resourceArns"`
}

func (s *Server) registerThing(ctx context.Context, in *registerThingRequest) (*registerThingResponse, error) {
	done, err := s.registry.RegisterThing(ctx, iot.BodyRegistration{Body: value(in.TemplateBody), Parameters: in.Parameters, Actor: actor(ctx)})
	if err != nil {
		return nil, err
	}
	out := &registerThingResponse{ResourceArns: done.ARNs}
	if done.Certificate != nil {
		out.CertificatePem = done.Certificate.PEM
	}
	return out, nil
}
