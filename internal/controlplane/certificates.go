package controlplane

import (
	"context"
	"strings"

	"drover/internal/iot"
	"drover/internal/wire"
)

// certificateID reads the id of a certificate, which may have been written in capitals.
func certificateID(text string) iot.CertificateID { return iot.CertificateID(strings.ToLower(text)) }

func (s *Server) certificateARN(id iot.CertificateID) string {
	return s.realm.ARN(iot.KindCert, string(id))
}

// validity is CertificateValidity.
type validity struct {
	NotBefore wire.Timestamp `json:"notBefore"`
	NotAfter  wire.Timestamp `json:"notAfter"`
}

// createKeysAndCertificateRequest is CreateKeysAndCertificateRequest (identity spec §4.3).
type createKeysAndCertificateRequest struct {
	SetAsActive bool `json:"setAsActive" in:"query"`
}

// createKeysAndCertificateResponse is CreateKeysAndCertificateResponse.
type createKeysAndCertificateResponse struct {
	CertificateArn string   `json:"certificateArn"`
	CertificateID  string   `json:"certificateId"`
	CertificatePem string   `json:"certificatePem"`
	KeyPair        *keyPair `json:"keyPair"`
}

// keyPair is KeyPair; its members begin with capitals.
type keyPair struct {
	PublicKey  string `json:"PublicKey"`
	PrivateKey string `json:"PrivateKey"`
}

func (s *Server) createKeysAndCertificate(ctx context.Context, in *createKeysAndCertificateRequest) (*createKeysAndCertificateResponse, error) {
	c, keys, err := s.registry.CreateCertificate(ctx, iot.CertificateRequest{Active: in.SetAsActive, Actor: actor(ctx)})
	if err != nil {
		return nil, err
	}
	return &createKeysAndCertificateResponse{
		CertificateArn: s.certificateARN(c.ID),
		CertificateID:  string(c.ID),
		CertificatePem: c.PEM,
		KeyPair:        &keyPair{PublicKey: keys.Public, PrivateKey: keys.Private},
	}, nil
}

// createCertificateFromCsrRequest is CreateCertificateFromCsrRequest (identity spec §4.4).
type createCertificateFromCsrRequest struct {
	CertificateSigningRequest string `json:"certificateSigningRequest" required:"true" len:"1,4096" pattern:"[\\s\\S]*"`
	SetAsActive               bool   `json:"setAsActive" in:"query"`
}

// createCertificateFromCsrResponse is CreateCertificateFromCsrResponse.
type createCertificateFromCsrResponse struct {
	CertificateArn string `json:"certificateArn"`
	CertificateID  string `json:"certificateId"`
	CertificatePem string `json:"certificatePem"`
}

func (s *Server) createCertificateFromCsr(ctx context.Context, in *createCertificateFromCsrRequest) (*createCertificateFromCsrResponse, error) {
	c, _, err := s.registry.CreateCertificate(ctx, iot.CertificateRequest{
		CSR: in.CertificateSigningRequest, Active: in.SetAsActive, Actor: actor(ctx),
	})
	if err != nil {
		return nil, err
	}
	return &createCertificateFromCsrResponse{CertificateArn: s.certificateARN(c.ID), CertificateID: string(c.ID), CertificatePem: c.PEM}, nil
}

// registerCertificateRequest is RegisterCertificateRequest (identity spec §4.5).
type registerCertificateRequest struct {
	CertificatePem   string  `json:"certificatePem" required:"true" len:"1,65536" pattern:"[\\s\\S]*"`
	CACertificatePem *string `json:"caCertificatePem" len:"1,65536" pattern:"[\\s\\S]*"`
	SetAsActive      *bool   `json:"setAsActive" in:"query"`
	Status           *string `json:"status" enum:"ACTIVE,INACTIVE,REVOKED,PENDING_TRANSFER,REGISTER_INACTIVE,PENDING_ACTIVATION"`
}

// registerCertificateResponse is RegisterCertificateResponse, and that of
// RegisterCertificateWithoutCA.
type registerCertificateResponse struct {
	CertificateArn string `json:"certificateArn"`
	CertificateID  string `json:"certificateId"`
}

func (s *Server) registerCertificate(ctx context.Context, in *registerCertificateRequest) (*registerCertificateResponse, error) {
	return s.register(ctx, iot.CertificateRegistration{
		PEM:    in.CertificatePem,
		CAPEM:  value(in.CACertificatePem),
		Status: iot.CertificateStatus(value(in.Status)),
		Active: value(in.SetAsActive),
	})
}

// registerCertificateWithoutCARequest is RegisterCertificateWithoutCARequest (identity spec §4.6).
type registerCertificateWithoutCARequest struct {
	CertificatePem string  `json:"certificatePem" required:"true" len:"1,65536" pattern:"[\\s\\S]*"`
	Status         *string `json:"status" enum:"ACTIVE,INACTIVE,REVOKED,PENDING_TRANSFER,REGISTER_INACTIVE,PENDING_ACTIVATION"`
}

func (s *Server) registerCertificateWithoutCA(ctx context.Context, in *registerCertificateWithoutCARequest) (*registerCertificateResponse, error) {
	return s.register(ctx, iot.CertificateRegistration{
		PEM:       in.CertificatePem,
		WithoutCA: true,
		Status:    iot.CertificateStatus(value(in.Status)),
	})
}

func (s *Server) register(ctx context.Context, n iot.CertificateRegistration) (*registerCertificateResponse, error) {
	n.Actor = actor(ctx)
	c, err := s.registry.RegisterCertificate(ctx, n)
	if err != nil {
		return nil, err
	}
	return &registerCertificateResponse{CertificateArn: s.certificateARN(c.ID), CertificateID: string(c.ID)}, nil
}

// describeCertificateRequest is DescribeCertificateRequest.
type describeCertificateRequest struct {
	CertificateID string `json:"certificateId" in:"label" len:"64,64" pattern:"(0x)?[a-fA-F0-9]+"`
}

// describeCertificateResponse is DescribeCertificateResponse.
type describeCertificateResponse struct {
	CertificateDescription *certificateDescription `json:"certificateDescription"`
}

// certificateDescription is CertificateDescription.
type certificateDescription struct {
	CertificateArn   string         `json:"certificateArn"`
	CertificateID    string         `json:"certificateId"`
	CACertificateID  string         `json:"caCertificateId,omitempty"`
	Status           string         `json:"status"`
	CertificatePem   string         `json:"certificatePem"`
	OwnedBy          string         `json:"ownedBy"`
	CreationDate     wire.Timestamp `json:"creationDate"`
	LastModifiedDate wire.Timestamp `json:"lastModifiedDate"`
	CustomerVersion  int64          `json:"customerVersion"`
	Validity         *validity      `json:"validity"`
	CertificateMode  string         `json:"certificateMode"`
}

func (s *Server) describeCertificate(ctx context.Context, in *describeCertificateRequest) (*describeCertificateResponse, error) {
	c, err := s.registry.Certificate(ctx, certificateID(in.CertificateID))
	if err != nil {
		return nil, err
	}
	return &describeCertificateResponse{&certificateDescription{
		CertificateArn:   s.certificateARN(c.ID),
		CertificateID:    string(c.ID),
		CACertificateID:  string(c.CA),
		Status:           string(c.Status),
		CertificatePem:   c.PEM,
		OwnedBy:          s.realm.Account,
		CreationDate:     timestamp(c.CreatedAt),
		LastModifiedDate: timestamp(c.ModifiedAt),
		CustomerVersion:  c.Version,
		Validity:         &validity{timestamp(c.NotBefore), timestamp(c.NotAfter)},
		CertificateMode:  string(c.Mode),
	}}, nil
}

// updateCertificateRequest is UpdateCertificateRequest.
type updateCertificateRequest struct {
	CertificateID string `json:"certificateId" in:"label" len:"64,64" pattern:"(0x)?[a-fA-F0-9]+"`
	NewStatus     string `json:"newStatus" in:"query" required:"true" enum:"ACTIVE,INACTIVE,REVOKED,PENDING_TRANSFER,REGISTER_INACTIVE,PENDING_ACTIVATION"`
}

func (s *Server) updateCertificate(ctx context.Context, in *updateCertificateRequest) (*wire.Empty, error) {
	return &wire.Empty{}, s.registry.UpdateCertificate(ctx, iot.CertificateUpdate{
		ID: certificateID(in.CertificateID), Status: iot.CertificateStatus(in.NewStatus), Actor: actor(ctx),
	})
}

// deleteCertificateRequest is DeleteCertificateRequest (identity spec §4.8).
type deleteCertificateRequest struct {
	CertificateID string `json:"certificateId" in:"label" len:"64,64" pattern:"(0x)?[a-fA-F0-9]+"`
	ForceDelete   bool   `json:"forceDelete" in:"query"`
}

func (s *Server) deleteCertificate(ctx context.Context, in *deleteCertificateRequest) (*wire.Empty, error) {
	return &wire.Empty{}, s.registry.DeleteCertificate(ctx, iot.CertificateDeletion{
		ID: certificateID(in.CertificateID), Force: in.ForceDelete, Actor: actor(ctx),
	})
}

// listCertificatesRequest is ListCertificatesRequest (identity spec §4.11).
type listCertificatesRequest struct {
	PageSize       *int32  `json:"pageSize" in:"query" range:"1,250"`
	Marker         *string `json:"marker" in:"query" len:",1024" pattern:"[A-Za-z0-9+/]+={0,2}"`
	AscendingOrder bool    `json:"ascendingOrder" in:"query" query:"isAscendingOrder"`
}

// listCertificatesResponse is ListCertificatesResponse, and that of ListCertificatesByCA.
type listCertificatesResponse struct {
	Certificates []certificate `json:"certificates"`
	NextMarker   *string       `json:"nextMarker,omitempty"`
}

// certificate is Certificate: one in a list.
type certificate struct {
	CertificateArn  string         `json:"certificateArn"`
	CertificateID   string         `json:"certificateId"`
	Status          string         `json:"status"`
	CertificateMode string         `json:"certificateMode"`
	CreationDate    wire.Timestamp `json:"creationDate"`
}

func (s *Server) listCertificates(ctx context.Context, in *listCertificatesRequest) (*listCertificatesResponse, error) {
	return s.certificates(ctx, "ListCertificates", iot.CertificateQuery{Ascending: in.AscendingOrder}, in.Marker, in.PageSize)
}

// listCertificatesByCARequest is ListCertificatesByCARequest.
type listCertificatesByCARequest struct {
	CACertificateID string  `json:"caCertificateId" in:"label" len:"64,64" pattern:"(0x)?[a-fA-F0-9]+"`
	PageSize        *int32  `json:"pageSize" in:"query" range:"1,250"`
	Marker          *string `json:"marker" in:"query" len:",1024" pattern:"[A-Za-z0-9+/]+={0,2}"`
	AscendingOrder  bool    `json:"ascendingOrder" in:"query" query:"isAscendingOrder"`
}

func (s *Server) listCertificatesByCA(ctx context.Context, in *listCertificatesByCARequest) (*listCertificatesResponse, error) {
	query := iot.CertificateQuery{CA: certificateID(in.CACertificateID), Ascending: in.AscendingOrder}
	return s.certificates(ctx, "ListCertificatesByCA", query, in.Marker, in.PageSize)
}

func (s *Server) certificates(ctx context.Context, op string, query iot.CertificateQuery, marker *string, size *int32) (*listCertificatesResponse, error) {
	page, err := s.page(op, query, marker, size, defaultRegistryPage)
	if err != nil {
		return nil, err
	}
	list, next, err := s.registry.Certificates(ctx, query, page)
	if err != nil {
		return nil, err
	}
	out := &listCertificatesResponse{Certificates: make([]certificate, len(list)), NextMarker: s.nextToken(op, query, next)}
	for i, c := range list {
		out.Certificates[i] = certificate{
			CertificateArn:  s.certificateARN(c.ID),
			CertificateID:   string(c.ID),
			Status:          string(c.Status),
			CertificateMode: string(c.Mode),
			CreationDate:    timestamp(c.CreatedAt),
		}
	}
	return out, nil
}
