package controlplane

import (
	"context"

	"drover/internal/iot"
)

// Registry is what the operations on things, types, groups, certificates, tags and events ask for. Errors
// are *iot.Error if the caller caused them.
type Registry interface {
	CreateThing(context.Context, iot.NewThing) (*iot.Thing, error)
	UpdateThing(context.Context, iot.ThingUpdate) error
	DeleteThing(context.Context, iot.ThingDeletion) error
	Thing(context.Context, iot.ThingName) (*iot.Thing, error)
	Things(context.Context, iot.ThingQuery, iot.Page) (things []*iot.Thing, next string, err error)

	CreateThingType(context.Context, iot.NewThingType) (*iot.ThingType, error)
	UpdateThingType(context.Context, iot.ThingTypeUpdate) error
	DeprecateThingType(context.Context, iot.ThingTypeDeprecation) error
	DeleteThingType(context.Context, iot.ThingTypeDeletion) error
	ThingType(ctx context.Context, name string) (*iot.ThingType, error)
	ThingTypes(ctx context.Context, name string, page iot.Page) (types []*iot.ThingType, next string, err error)

	CreateGroup(context.Context, iot.NewGroup) (*iot.Group, error)
	UpdateGroup(context.Context, iot.GroupUpdate) (version int64, err error)
	DeleteGroup(context.Context, iot.GroupDeletion) error
	Group(context.Context, iot.GroupName) (group *iot.Group, ancestors []*iot.Group, err error) // ancestors from the root
	Groups(context.Context, iot.GroupQuery, iot.Page) (groups []*iot.Group, next string, err error)

	ChangeGroups(context.Context, iot.MembershipChange) error
	GroupsOfThing(context.Context, iot.ThingName, iot.Page) (groups []*iot.Group, next string, err error)
	Members(ctx context.Context, group iot.GroupName, recursive bool, page iot.Page) (things []iot.ThingName, next string, err error)

	CreateAuthorizer(context.Context, iot.NewAuthorizer) (*iot.Authorizer, error)
	UpdateAuthorizer(context.Context, iot.AuthorizerUpdate) (*iot.Authorizer, error)
	DeleteAuthorizer(ctx context.Context, name, actor string) error
	Authorizer(ctx context.Context, name string) (*iot.Authorizer, error)
	Authorizers(context.Context, iot.AuthorizerQuery, iot.Page) (authorizers []*iot.Authorizer, next string, err error)
	DefaultAuthorizer(context.Context) (*iot.Authorizer, error)
	SetDefaultAuthorizer(ctx context.Context, name, actor string) (*iot.Authorizer, error)
	ClearDefaultAuthorizer(ctx context.Context, actor string) error

	CreateProvisioningTemplate(context.Context, iot.NewProvisioningTemplate) (*iot.ProvisioningTemplate, error)
	ProvisioningTemplate(ctx context.Context, name string) (*iot.ProvisioningTemplate, iot.ProvisioningVersion, error)
	ProvisioningTemplates(context.Context, iot.Page) (templates []*iot.ProvisioningTemplate, next string, err error)
	UpdateProvisioningTemplate(context.Context, iot.ProvisioningTemplateUpdate) error
	DeleteProvisioningTemplate(ctx context.Context, name, actor string) error
	CreateProvisioningVersion(ctx context.Context, name, body string, asDefault bool, actor string) (iot.ProvisioningVersion, error)
	ProvisioningVersion(ctx context.Context, name string, id int64) (v iot.ProvisioningVersion, standard bool, err error)
	ProvisioningVersions(ctx context.Context, name string) (versions []iot.ProvisioningVersion, standard int64, err error)
	DeleteProvisioningVersion(ctx context.Context, name string, id int64, actor string) error
	CreateClaim(ctx context.Context, template, actor string) (iot.Claim, iot.KeyPair, error)
	RegisterThing(context.Context, iot.BodyRegistration) (iot.Registered, error)

	CreateBillingGroup(context.Context, iot.NewBillingGroup) (*iot.BillingGroup, error)
	UpdateBillingGroup(context.Context, iot.BillingGroupUpdate) (version int64, err error)
	DeleteBillingGroup(context.Context, iot.BillingGroupDeletion) error
	BillingGroup(ctx context.Context, name string) (*iot.BillingGroup, error)
	BillingGroups(ctx context.Context, prefix string, page iot.Page) (groups []*iot.BillingGroup, next string, err error)
	BillingMembers(ctx context.Context, name string, page iot.Page) (things []iot.ThingName, next string, err error)
	JoinBillingGroup(ctx context.Context, thing iot.ThingName, group, actor string) error
	LeaveBillingGroup(ctx context.Context, thing iot.ThingName, group, actor string) error

	Tag(context.Context, iot.Tagging) error
	Untag(context.Context, iot.Untagging) error
	Tags(ctx context.Context, arn string, page iot.Page) (tags []iot.Tag, next string, err error)

	CreateCertificate(context.Context, iot.CertificateRequest) (*iot.Certificate, iot.KeyPair, error)
	RegisterCertificate(context.Context, iot.CertificateRegistration) (*iot.Certificate, error)
	UpdateCertificate(context.Context, iot.CertificateUpdate) error
	DeleteCertificate(context.Context, iot.CertificateDeletion) error
	Certificate(context.Context, iot.CertificateID) (*iot.Certificate, error)
	Certificates(context.Context, iot.CertificateQuery, iot.Page) (certificates []*iot.Certificate, next string, err error)

	RegistrationCode(ctx context.Context, actor string) (string, error)
	DeleteRegistrationCode(ctx context.Context, actor string) error
	RegisterCA(context.Context, iot.CARegistration) (*iot.CACertificate, error)
	UpdateCA(context.Context, iot.CAUpdate) error
	DeleteCA(context.Context, iot.CertificateDeletion) error
	CA(context.Context, iot.CertificateID) (*iot.CACertificate, error)
	CAs(context.Context, iot.CAQuery, iot.Page) (certificates []*iot.CACertificate, next string, err error)

	Attach(context.Context, iot.Attachment) error
	Detach(context.Context, iot.Attachment) error
	PrincipalsOfThing(context.Context, iot.ThingName, iot.AttachmentQuery, iot.Page) (principals []iot.ThingPrincipal, next string, err error)
	ThingsOfPrincipal(ctx context.Context, arn string, q iot.AttachmentQuery, page iot.Page) (things []iot.ThingPrincipal, next string, err error)

	CreatePolicy(context.Context, iot.NewPolicy) (*iot.Policy, error)
	DeletePolicy(context.Context, iot.PolicyDeletion) error
	Policy(context.Context, iot.PolicyName) (*iot.Policy, *iot.PolicyVersion, error) // the version in force
	Policies(ctx context.Context, ascending bool, page iot.Page) (policies []*iot.Policy, next string, err error)
	CreatePolicyVersion(context.Context, iot.NewPolicyVersion) (*iot.Policy, *iot.PolicyVersion, error)
	DeletePolicyVersion(context.Context, iot.PolicyVersionChange) error
	SetDefaultPolicyVersion(context.Context, iot.PolicyVersionChange) error
	PolicyVersion(ctx context.Context, name iot.PolicyName, version int) (*iot.Policy, *iot.PolicyVersion, error)
	PolicyVersions(context.Context, iot.PolicyName) (*iot.Policy, []*iot.PolicyVersion, error) // without documents

	AttachPolicy(context.Context, iot.PolicyAttachment) error
	DetachPolicy(context.Context, iot.PolicyAttachment) error
	AttachedPolicies(ctx context.Context, target string, recursive bool, page iot.Page) (policies []*iot.Policy, next string, err error)
	PolicyTargets(context.Context, iot.PolicyName, iot.Page) (targets []iot.PolicyTarget, next string, err error)

	Connection(ctx context.Context, thing iot.ThingName) (last iot.Connection, ever bool, err error)
	Indexing(context.Context) (iot.IndexState, error)
	UpdateIndexing(context.Context, iot.IndexUpdate) error
	Search(context.Context, iot.Search, iot.Page) (things []iot.FoundThing, groups []iot.FoundGroup, next string, err error)
	Statistics(ctx context.Context, s iot.Search, field string) (iot.Statistics, error)
	Cardinality(ctx context.Context, s iot.Search, field string) (int64, error)
	Percentiles(ctx context.Context, s iot.Search, field string, percents []float64) ([]iot.Percentile, error)
	Buckets(ctx context.Context, s iot.Search, field string, limit int) (total int64, values []iot.IndexValue, err error)

	EventConfigurations(context.Context) (iot.EventConfigurations, error)
	UpdateEventConfigurations(context.Context, iot.EventsUpdate) error

	Import(context.Context, iot.Import) (iot.ImportResult, error)
}

// Authorizers asks custom authorizers.
type Authorizers interface {
	TestInvoke(context.Context, iot.AuthorizerTest) (iot.AuthorizerAnswer, error)
}

// defaultRegistryPage is the size of a page of things, types or groups that the request does
// not set (registry spec §0.3).
const defaultRegistryPage = 25
