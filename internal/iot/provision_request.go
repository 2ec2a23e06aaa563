package iot

import "strings"

// ProvisioningTemplate says how devices are provisioned (identity spec §7.1).
type ProvisioningTemplate struct {
	Name           string
	Description    string
	Type           ProvisioningType
	Enabled        bool
	RoleARN        string // kept and shown; it has no meaning here
	Hook           *ProvisioningHook
	DefaultVersion int64
	LastVersion    int64 // that was ever made: ids are not used again
	CreatedAt      Time
	ModifiedAt     Time
}

// ProvisioningHook is a function that is asked before a device is provisioned.
type ProvisioningHook struct {
	PayloadVersion string `json:"payloadVersion,omitempty"`
	Target         string `json:"targetArn"`
}

// ProvisioningVersion is a version of a template.
type ProvisioningVersion struct {
	Template  string
	ID        int64
	Body      string
	CreatedAt Time
}

// NewProvisioningTemplate is what CreateProvisioningTemplate asks for.
type NewProvisioningTemplate struct {
	Name        string
	Description string
	Type        ProvisioningType // "" for FleetProvisioning
	Body        string
	Enabled     bool
	RoleARN     string
	Hook        *ProvisioningHook
	Tags        []Tag
	Actor       string
}

// ProvisioningTemplateUpdate is what UpdateProvisioningTemplate asks for; nil members stay as
// they are.
type ProvisioningTemplateUpdate struct {
	Name           string
	Description    *string
	Enabled        *bool
	DefaultVersion *int64
	RoleARN        *string
	Hook           *ProvisioningHook
	RemoveHook     bool
	Actor          string
}

// hookPayload is the one form in which a hook is told what is to be provisioned.
const hookPayload = "2020-04-01"

// CheckHook returns an InvalidRequest error for a hook that cannot be called. Templates for
// just-in-time provisioning have none (identity spec §7.1).
func CheckHook(h *ProvisioningHook, t ProvisioningType) error {
	switch {
	case h == nil:
		return nil
	case t == JustInTime:
		return Errorf(InvalidRequest, "A template of the type %s cannot have a preProvisioningHook", JustInTime)
	case h.PayloadVersion != "" && h.PayloadVersion != hookPayload:
		return Invalid("preProvisioningHook.payloadVersion", h.PayloadVersion, "Member must be "+hookPayload)
	case !strings.HasPrefix(h.Target, "arn:") && !strings.HasPrefix(h.Target, "https://"):
		return Invalid("preProvisioningHook.targetArn", h.Target, "Member must be the ARN of a function or a URL that begins with https://")
	}
	return nil
}

// HookEvent is what a pre-provisioning hook is told (identity spec §7.7).
type HookEvent struct {
	ClaimCertificateID CertificateID     `json:"claimCertificateId"`
	CertificateID      CertificateID     `json:"certificateId"`
	CertificatePEM     string            `json:"certificatePem"`
	TemplateARN        string            `json:"templateArn"`
	ClientID           string            `json:"clientId"`
	Parameters         map[string]string `json:"parameters"`
}

// HookAnswer is what a pre-provisioning hook decided.
type HookAnswer struct {
	Allow     bool              `json:"allowProvisioning"`
	Overrides map[string]string `json:"parameterOverrides"`
}

// Ownership is the proof that a device has got a certificate which it has not registered yet. Of
// the token only the hash is kept: who reads the database cannot provision with it.
type Ownership struct {
	Hash        string // SHA-256 of the token, hexadecimal
	Certificate CertificateID
	Expires     Time
}

// Claim is a certificate that a trusted person made for one device, good for nothing but to
// provision by one template, and that soon (identity spec §7.5).
type Claim struct {
	Certificate CertificateID
	PEM         string
	Template    string
	Expires     Time
}

// Registration is what a device asks for by its ownership token (identity spec §7.6), or a
// person by RegisterThing (§7.8).
type Registration struct {
	Template   string
	Token      string
	Parameters map[string]string
	ClientID   string
	// Claim is the certificate with which the device is connected, "" if with none.
	Claim CertificateID
	Actor string
}

// BodyRegistration is what RegisterThing asks for.
type BodyRegistration struct {
	Body       string
	Parameters map[string]string
	Actor      string
}

// Registered is what was provisioned.
type Registered struct {
	Thing       ThingName      // "" for none
	Device      map[string]any // its configuration
	Certificate *Certificate   // nil for none
	ARNs        map[string]string
}

// ProvisioningTemplateEvent is the Data of the records about a provisioning template.
type ProvisioningTemplateEvent struct {
	Name    string           `json:"name"`
	Type    ProvisioningType `json:"type"`
	Enabled bool             `json:"enabled"`
	Version int64            `json:"defaultVersion"`
}

// ProvisionedEvent is the Data of the records about a device that was provisioned.
type ProvisionedEvent struct {
	Template    string        `json:"template,omitempty"`
	Thing       ThingName     `json:"thing,omitempty"`
	Certificate CertificateID `json:"certificate,omitempty"`
	Claim       CertificateID `json:"claim,omitempty"`
	ClientID    string        `json:"clientId,omitempty"`
}
