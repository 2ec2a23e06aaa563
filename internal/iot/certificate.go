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

// Deletable returns why the certificate cannot be deleted, as CertificateState: it is in use.
func (c *Certificate) Deletable() error {
	if c.Status == CertificateActive {
		return Errorf(CertificateState, "Certificate must be deactivated (not ACTIVE) before deletion. Certificate %s is %s", c.ID, c.Status)
	}
	return nil
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
