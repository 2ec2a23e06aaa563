package iot

import "unicode/utf8"

// PolicyName is the name of a policy: 1 to 128 of [a-zA-Z0-9_+=,.@-].
type PolicyName string

// Valid reports whether n can name a policy.
func (n PolicyName) Valid() bool {
	return len(n) >= 1 && len(n) <= 128 && spelledWith(string(n), "_+=,.@-")
}

// MaxPolicyVersions is how many versions of a policy there can be at a time (identity spec §5.2).
const MaxPolicyVersions = 5

// Policy is a policy of devices. Its documents are in its versions, one of which is in force.
type Policy struct {
	ID         int64 // order of creation; never used again
	Name       PolicyName
	UUID       string // generationId
	Default    int    // the version in force
	Latest     int    // the highest version that there ever was: no number is used again
	CreatedAt  Time
	ModifiedAt Time
}

// PolicyVersion is a version of a policy. It never changes.
type PolicyVersion struct {
	Version   int
	Document  string // as it was given
	CreatedAt Time
}

// PolicyTarget is what a policy is attached to: a certificate (KindCert) or a thing group
// (KindGroup), by its name.
type PolicyTarget struct{ Kind, Name string }

// CertificateTarget is the certificate as a target.
func CertificateTarget(id CertificateID) PolicyTarget { return PolicyTarget{KindCert, string(id)} }

// GroupTarget is the group as a target.
func GroupTarget(name GroupName) PolicyTarget { return PolicyTarget{KindGroup, string(name)} }

// NewPolicy is what CreatePolicy asks for.
type NewPolicy struct {
	Name     PolicyName
	Document string
	Tags     []Tag
	Actor    string
}

// NewPolicyVersion is what CreatePolicyVersion asks for.
type NewPolicyVersion struct {
	Name     PolicyName
	Document string
	Default  bool // becomes the one in force
	Actor    string
}

// PolicyVersionChange is what SetDefaultPolicyVersion and DeletePolicyVersion ask for.
type PolicyVersionChange struct {
	Name    PolicyName
	Version int
	Actor   string
}

// PolicyDeletion is what DeletePolicy asks for.
type PolicyDeletion struct {
	Name  PolicyName
	Actor string
}

// PolicyAttachment is what AttachPolicy and DetachPolicy ask for. The target is an ARN.
type PolicyAttachment struct {
	Name   PolicyName
	Target string
	Actor  string
}

// PolicyEvent is the Data of the records about a policy.
type PolicyEvent struct {
	Name    PolicyName `json:"name"`
	Version int        `json:"version,omitempty"` // that was created, deleted or put into force
	Target  string     `json:"target,omitempty"`  // ARN
}

// EffectivePolicy is a policy that is in force for somebody.
type EffectivePolicy struct {
	*Policy
	Document string
}

// AuthorizationTest is what TestAuthorization asks for.
type AuthorizationTest struct {
	Principal string // ARN of a certificate
	ClientID  *string
	Requests  []AuthorizationRequest
	Add, Skip []PolicyName
}

// AuthorizationRequest is one of the requests that are tried out: all of the resources, which are
// ARNs, have to be allowed.
type AuthorizationRequest struct {
	Action    string // "iot:Publish"
	Resources []string
}

// AuthorizationResult is what became of one of them. Each of the policies that were asked is in one
// of the lists, in the order of the names.
type AuthorizationResult struct {
	Decision     string // ALLOWED, EXPLICIT_DENY, IMPLICIT_DENY
	Allowed      []PolicyName
	ExplicitDeny []PolicyName
	ImplicitDeny []PolicyName // say nothing about it
	Missing      []string     // variables and condition keys without a value
}

// CheckClientID returns an InvalidRequest error for text that no MQTT client can have as its id.
func CheckClientID(member, id string) error {
	if id == "" || len(id) > 128 || !utf8.ValidString(id) {
		return Invalid(member, id, "Member must be an MQTT client id of 1 to 128 bytes")
	}
	return nil
}
