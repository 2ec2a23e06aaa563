package controlplane

import (
	"context"

	"drover/internal/iot"
	"drover/internal/wire"
)

func (s *Server) caARN(id iot.CertificateID) string { return s.realm.ARN(iot.KindCACert, string(id)) }

// getRegistrationCodeRequest is GetRegistrationCodeRequest.
type getRegistrationCodeRequest struct{}

// getRegistrationCodeResponse is GetRegistrationCodeResponse.
type getRegistrationCodeResponse struct {
	RegistrationCode string `json:"registrationCode"`
}

func (s *Server) getRegistrationCode(ctx context.Context, _ *getRegistrationCodeRequest) (*getRegistrationCodeResponse, error) {
	code, err := s.registry.RegistrationCode(ctx, actor(ctx))
	if err != nil {
		return nil, err
	}
	return &getRegistrationCodeResponse{code}, nil
}

// deleteRegistrationCodeRequest is DeleteRegistrationCodeRequest.
type deleteRegistrationCodeRequest struct{}

func (s *Server) deleteRegistrationCode(ctx context.Context, _ *deleteRegistrationCodeRequest) (*wire.Empty, error) {
	return &wire.Empty{}, s.registry.DeleteRegistrationCode(ctx, actor(ctx))
}

// registrationConfig is RegistrationConfig.
type registrationConfig struct {
	TemplateBody *string `json:"templateBody,omitempty" len:",10240" pattern:"[\\s\\S]*"`
	RoleArn      *string `json:"roleArn,omitempty" len:"20,2048"`
	TemplateName *string `json:"templateName,omitempty" len:"1,36" pattern:"[0-9A-Za-z_-]+"`
}

func (c *registrationConfig) config() *iot.RegistrationConfig {
	if c == nil {
		return nil
	}
	return &iot.RegistrationConfig{TemplateBody: value(c.TemplateBody), TemplateName: value(c.TemplateName), RoleARN: value(c.RoleArn)}
}

func newRegistrationConfig(c *iot.RegistrationConfig) *registrationConfig {
	if c == nil {
		return nil
	}
	return &registrationConfig{TemplateBody: optional(c.TemplateBody), TemplateName: optional(c.TemplateName), RoleArn: optional(c.RoleARN)}
}

// registerCACertificateRequest is RegisterCACertificateRequest (identity spec §4.7).
type registerCACertificateRequest struct {
	CACertificate           string              `json:"caCertificate" required:"true" len:"1,65536" pattern:"[\\s\\S]*"`
	VerificationCertificate *string             `json:"verificationCertificate" len:"1,65536" pattern:"[\\s\\S]*"`
	SetAsActive             bool                `json:"setAsActive" in:"query"`
	AllowAutoRegistration   bool                `json:"allowAutoRegistration" in:"query"`
	RegistrationConfig      *registrationConfig `json:"registrationConfig"`
	Tags                    []tag               `json:"tags"`
	CertificateMode         *string             `json:"certificateMode" enum:"DEFAULT,SNI_ONLY"`
}

// registerCACertificateResponse is RegisterCACertificateResponse.
type registerCACertificateResponse struct {
	CertificateArn string `json:"certificateArn"`
	CertificateID  string `json:"certificateId"`
}

func (s *Server) registerCACertificate(ctx context.Context, in *registerCACertificateRequest) (*registerCACertificateResponse, error) {
	c, err := s.registry.RegisterCA(ctx, iot.CARegistration{
		PEM:              in.CACertificate,
		Verification:     value(in.VerificationCertificate),
		Active:           in.SetAsActive,
		AutoRegistration: in.AllowAutoRegistration,
		Registration:     in.RegistrationConfig.config(),
		Mode:             iot.CertificateMode(value(in.CertificateMode)),
		Tags:             newTags(in.Tags),
		Actor:            actor(ctx),
	})
	if err != nil {
		return nil, err
	}
	return &registerCACertificateResponse{CertificateArn: s.caARN(c.ID), CertificateID: string(c.ID)}, nil
}

// describeCACertificateRequest is DescribeCACertificateRequest.
type describeCACertificateRequest struct {
	CertificateID string `json:"certificateId" in:"label" len:"64,64" pattern:"(0x)?[a-fA-F0-9]+"`
}

// describeCACertificateResponse is DescribeCACertificateResponse.
type describeCACertificateResponse struct {
	CertificateDescription *caCertificateDescription `json:"certificateDescription"`
	RegistrationConfig     *registrationConfig       `json:"registrationConfig,omitempty"`
}

// caCertificateDescription is CACertificateDescription.
type caCertificateDescription struct {
	CertificateArn         string         `json:"certificateArn"`
	CertificateID          string         `json:"certificateId"`
	Status                 string         `json:"status"`
	CertificatePem         string         `json:"certificatePem"`
	OwnedBy                string         `json:"ownedBy"`
	CreationDate           wire.Timestamp `json:"creationDate"`
	AutoRegistrationStatus string         `json:"autoRegistrationStatus"`
	LastModifiedDate       wire.Timestamp `json:"lastModifiedDate"`
	CustomerVersion        int64          `json:"customerVersion"`
	Validity               *validity      `json:"validity"`
	CertificateMode        string         `json:"certificateMode"`
}

func (s *Server) describeCACertificate(ctx context.Context, in *describeCACertificateRequest) (*describeCACertificateResponse, error) {
	c, err := s.registry.CA(ctx, certificateID(in.CertificateID))
	if err != nil {
		return nil, err
	}
	auto := "DISABLE"
	if c.AutoRegistration {
		auto = "ENABLE"
	}
	return &describeCACertificateResponse{
		CertificateDescription: &caCertificateDescription{
			CertificateArn:         s.caARN(c.ID),
			CertificateID:          string(c.ID),
			Status:                 caStatus(c),
			CertificatePem:         c.PEM,
			OwnedBy:                s.realm.Account,
			CreationDate:           timestamp(c.CreatedAt),
			AutoRegistrationStatus: auto,
			LastModifiedDate:       timestamp(c.ModifiedAt),
			CustomerVersion:        c.Version,
			Validity:               &validity{timestamp(c.NotBefore), timestamp(c.NotAfter)},
			CertificateMode:        string(c.Mode),
		},
		RegistrationConfig: newRegistrationConfig(c.Registration),
	}, nil
}

func caStatus(c *iot.CACertificate) string {
	if c.Active {
		return string(iot.CertificateActive)
	}
	return string(iot.CertificateInactive)
}

// updateCACertificateRequest is UpdateCACertificateRequest (identity spec §4.7).
type updateCACertificateRequest struct {
	CertificateID             string              `json:"certificateId" in:"label" len:"64,64" pattern:"(0x)?[a-fA-F0-9]+"`
	NewStatus                 *string             `json:"newStatus" in:"query" enum:"ACTIVE,INACTIVE"`
	NewAutoRegistrationStatus *string             `json:"newAutoRegistrationStatus" in:"query" enum:"ENABLE,DISABLE"`
	RegistrationConfig        *registrationConfig `json:"registrationConfig"`
	RemoveAutoRegistration    bool                `json:"removeAutoRegistration"`
}

func (s *Server) updateCACertificate(ctx context.Context, in *updateCACertificateRequest) (*wire.Empty, error) {
	is := func(text *string, on string) *bool {
		if text == nil {
			return nil
		}
		yes := *text == on
		return &yes
	}
	return &wire.Empty{}, s.registry.UpdateCA(ctx, iot.CAUpdate{
		ID:                     certificateID(in.CertificateID),
		Active:                 is(in.NewStatus, "ACTIVE"),
		AutoRegistration:       is(in.NewAutoRegistrationStatus, "ENABLE"),
		Registration:           in.RegistrationConfig.config(),
		RemoveAutoRegistration: in.RemoveAutoRegistration,
		Actor:                  actor(ctx),
	})
}

// deleteCACertificateRequest is DeleteCACertificateRequest.
type deleteCACertificateRequest struct {
	CertificateID string `json:"certificateId" in:"label" len:"64,64" pattern:"(0x)?[a-fA-F0-9]+"`
}

func (s *Server) deleteCACertificate(ctx context.Context, in *deleteCACertificateRequest) (*wire.Empty, error) {
	return &wire.Empty{}, s.registry.DeleteCA(ctx, iot.CertificateDeletion{ID: certificateID(in.CertificateID), Actor: actor(ctx)})
}

// listCACertificatesRequest is ListCACertificatesRequest (identity spec §4.11).
type listCACertificatesRequest struct {
	PageSize       *int32  `json:"pageSize" in:"query" range:"1,250"`
	Marker         *string `json:"marker" in:"query" len:",1024" pattern:"[A-Za-z0-9+/]+={0,2}"`
	AscendingOrder bool    `json:"ascendingOrder" in:"query" query:"isAscendingOrder"`
	TemplateName   *string `json:"templateName" in:"query" len:"1,36" pattern:"[0-9A-Za-z_-]+"`
}

// listCACertificatesResponse is ListCACertificatesResponse.
type listCACertificatesResponse struct {
	Certificates []caCertificate `json:"certificates"`
	NextMarker   *string         `json:"nextMarker,omitempty"`
}

// caCertificate is CACertificate: one in a list.
type caCertificate struct {
	CertificateArn string         `json:"certificateArn"`
	CertificateID  string         `json:"certificateId"`
	Status         string         `json:"status"`
	CreationDate   wire.Timestamp `json:"creationDate"`
}

func (s *Server) listCACertificates(ctx context.Context, in *listCACertificatesRequest) (*listCACertificatesResponse, error) {
	query := iot.CAQuery{TemplateName: value(in.TemplateName), Ascending: in.AscendingOrder}
	page, err := s.page("ListCACertificates", query, in.Marker, in.PageSize, defaultRegistryPage)
	if err != nil {
		return nil, err
	}
	list, next, err := s.registry.CAs(ctx, query, page)
	if err != nil {
		return nil, err
	}
	out := &listCACertificatesResponse{Certificates: make([]caCertificate, len(list)), NextMarker: s.nextToken("ListCACertificates", query, next)}
	for i, c := range list {
		out.Certificates[i] = caCertificate{
			CertificateArn: s.caARN(c.ID),
			CertificateID:  string(c.ID),
			Status:         caStatus(c),
			CreationDate:   timestamp(c.CreatedAt),
		}
	}
	return out, nil
}
