package iot

import (
	"slices"
	"strings"
)

// CertificateID is the name of a certificate: the SHA-256 of its DER form, 64 lower-case
// hexadecimal digits (identity spec §4.1).
type CertificateID string

// Valid reports whether id can name a certificate.
func (id CertificateID) Valid() bool {
	return len(id) == 64 && strings.Trim(string(id), "0123456789abcdef") == ""
}

// CertificateStatus is the status of a client certificate. Only an active one authenticates.
type CertificateStatus string

// The statuses (identity spec §4.2). The text is stored.
const (
	CertificateActive            CertificateStatus = "ACTIVE"
	CertificateInactive          CertificateStatus = "INACTIVE"
	CertificateRevoked           CertificateStatus = "REVOKED"
	CertificatePendingActivation CertificateStatus = "PENDING_ACTIVATION" // registered by its first connection, or with an ownership token
)

// certificateRegisterInactive is the deprecated spelling of INACTIVE at a registration. There
// is no PENDING_TRANSFER here: nobody to transfer a certificate to.
const certificateRegisterInactive CertificateStatus = "REGISTER_INACTIVE"

// CertificateMode says how a device that has the certificate must connect.
type CertificateMode string

// The modes (identity spec §4.1). The text is stored.
const (
	ModeDefault CertificateMode = "DEFAULT"  // signed by drover, or by a registered CA of this mode
	ModeSNIOnly CertificateMode = "SNI_ONLY" // the device must name the server that it wants
)

// Certificate is a registered client certificate.
type Certificate struct {
	Seq        int64 // order of registration
	ID         CertificateID
	PEM        string
	Status     CertificateStatus
	Mode       CertificateMode
	CA         CertificateID // that it was registered under; "" for none
	Key        string        // SHA-256 of the public key, hexadecimal
	NotBefore  Time
	NotAfter   Time
	Version    int64 // customerVersion: 1 at registration, +1 per change
	CreatedAt  Time
	ModifiedAt Time
}

// ChangeStatus sets the status of a registered certificate, and reports whether it is another
// one than before. InvalidRequest for a status that nobody can ask for; CertificateState
// for a revoked certificate: that is for good (identity spec §4.2, A-11).
func (c *Certificate) ChangeStatus(to CertificateStatus, now Time) (changed bool, err error) {
	switch {
	case to == c.Status:
		return false, nil
	case !to.settable():
		return false, Invalid("newStatus", to, "Member must satisfy enum value set: [ACTIVE, INACTIVE, REVOKED]")
	case c.Status == CertificateRevoked:
		return false, Errorf(CertificateState, "Certificate %s has been revoked and cannot become %s", c.ID, to)
	}
	c.Status = to
	c.Version++
	c.ModifiedAt = now
	return true, nil
}

func (s CertificateStatus) settable() bool {
	return slices.Contains([]CertificateStatus{CertificateActive, CertificateInactive, CertificateRevoked}, s)
}

// InitialStatus returns the status of a certificate that is registered with the status, or
// with setAsActive, that the request has: INACTIVE if neither says anything. InvalidRequest for
// the statuses that only the service gives.
func InitialStatus(status CertificateStatus, active bool) (CertificateStatus, error) {
	switch {
	case status == "" && active:
		return CertificateActive, nil
	case status == "", status == certificateRegisterInactive:
		return CertificateInactive, nil
	case !status.settable():
		return "", Invalid("status", status, "Member must satisfy enum value set: [ACTIVE, INACTIVE, REVOKED]")
	}
	return status, nil
}

// CACertificate is a registered CA certificate: who holds one of its key's certificates may be
// let in, once that is registered too.
type CACertificate struct {
	Seq              int64
	ID               CertificateID
	PEM              string
	Subject          []byte // DER; what the certificates that it signs name as their issuer
	Active           bool
	AutoRegistration bool
	Registration     *RegistrationConfig // nil for none
	Mode             CertificateMode
	NotBefore        Time
	NotAfter         Time
	Version          int64
	CreatedAt        Time
	ModifiedAt       Time
}

// RegistrationConfig says how a device is provisioned when it comes with an unknown certificate
// of a CA (identity spec §4.7): by a template of its own, or by the named one.
type RegistrationConfig struct {
	TemplateBody string `json:"templateBody,omitempty"`
	TemplateName string `json:"templateName,omitempty"`
	RoleARN      string `json:"roleArn,omitempty"`
}

// ThingPrincipal is the attachment of a certificate to a thing.
type ThingPrincipal struct {
	Thing       ThingName
	ThingID     int64
	Certificate CertificateID
	Exclusive   bool // EXCLUSIVE_THING: the certificate may have no other thing
}

// KeyPair is a new key in PEM form, for the one answer in which it is shown.
type KeyPair struct{ Public, Private string }

// CertificateRequest is what CreateKeysAndCertificate and CreateCertificateFromCsr ask for.
type CertificateRequest struct {
	CSR    string // PEM; "" for a new key
	Active bool
	Actor  string
}

// CertificateRegistration is what RegisterCertificate and RegisterCertificateWithoutCA ask for.
type CertificateRegistration struct {
	PEM       string
	CAPEM     string // the CA among several of the same subject; "" to look for it
	WithoutCA bool
	Status    CertificateStatus // "" = as Active says
	Active    bool
	Actor     string
}

// CertificateUpdate is what UpdateCertificate asks for.
type CertificateUpdate struct {
	ID     CertificateID
	Status CertificateStatus
	Actor  string
}

// CertificateDeletion is what DeleteCertificate and DeleteCACertificate ask for.
type CertificateDeletion struct {
	ID    CertificateID
	Force bool // also if policies are attached
	Actor string
}

// CertificateQuery narrows and orders a list of certificates; zero fields do not narrow.
type CertificateQuery struct {
	CA        CertificateID
	Ascending bool // the oldest first
}

// CAQuery narrows and orders a list of CA certificates; zero fields do not narrow.
type CAQuery struct {
	TemplateName string
	Ascending    bool
}

// CARegistration is what RegisterCACertificate asks for.
type CARegistration struct {
	PEM              string
	Verification     string // PEM; signed by the CA, named by the registration code; "" for SNI_ONLY
	Active           bool
	AutoRegistration bool
	Registration     *RegistrationConfig
	Mode             CertificateMode // "" for DEFAULT
	Tags             []Tag
	Actor            string
}

// CAUpdate is what UpdateCACertificate asks for; nil members stay as they are.
type CAUpdate struct {
	ID                     CertificateID
	Active                 *bool
	AutoRegistration       *bool
	Registration           *RegistrationConfig
	RemoveAutoRegistration bool // also takes Registration away
	Actor                  string
}

// Attachment is what AttachThingPrincipal and DetachThingPrincipal ask for. The principal is
// the ARN of a certificate.
type Attachment struct {
	Thing     ThingName
	Principal string
	Exclusive bool
	Actor     string
}

// AttachmentQuery narrows a list of attachments; a nil Exclusive does not.
type AttachmentQuery struct{ Exclusive *bool }

// CertificateEvent is the Data of the records about a certificate.
type CertificateEvent struct {
	ID     CertificateID     `json:"id"`
	CA     CertificateID     `json:"ca,omitempty"`
	Status CertificateStatus `json:"status"`
	// RegisteredAt is when the first connection registered the certificate, in the records
	// that tell of one that waits for its activation (identity spec §4.9).
	RegisteredAt Time `json:"registeredAt,omitempty"`
}

// CAEvent is the Data of the records about a CA certificate.
type CAEvent struct {
	ID               CertificateID   `json:"id"`
	Active           bool            `json:"active"`
	AutoRegistration bool            `json:"autoRegistration"`
	Mode             CertificateMode `json:"mode"`
}

// PrincipalEvent is the Data of the records about an attachment.
type PrincipalEvent struct {
	Thing       ThingName     `json:"thing"`
	Certificate CertificateID `json:"certificate"`
	Exclusive   bool          `json:"exclusive,omitempty"`
}

// Holder is what is known of who presents a registered certificate, or a claim.
type Holder struct {
	ID        CertificateID
	Status    CertificateStatus
	NotBefore Time
	NotAfter  Time
	Claim     string // the provisioning template for which alone it is good, "" for any certificate but a claim
}

// Admissible says why the holder cannot connect at a time, nil if it can.
func (h *Holder) Admissible(now Time) error {
	switch {
	case h.Status != CertificateActive:
		return Errorf(CertificateState, "certificate %s is %s", h.ID, h.Status)
	case now < h.NotBefore:
		return Errorf(CertificateState, "certificate %s is not yet valid", h.ID)
	case now > h.NotAfter:
		return Errorf(CertificateState, "certificate %s has expired", h.ID)
	}
	return nil
}
