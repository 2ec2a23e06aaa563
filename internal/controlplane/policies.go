package controlplane

import (
	"context"
	"strconv"

	"drover/internal/iot"
	"drover/internal/wire"
)

// Permissions says what is in force, for the operations that try policies out.
type Permissions interface {
	EffectivePolicies(ctx context.Context, principal string, thing iot.ThingName) ([]iot.EffectivePolicy, error)
	Test(context.Context, iot.AuthorizationTest) ([]iot.AuthorizationResult, error)
}

// policy is Policy: one in a list.
type policy struct {
	PolicyName string `json:"policyName"`
	PolicyArn  string `json:"policyArn"`
}

func (s *Server) policyARN(name iot.PolicyName) string {
	return s.realm.ARN(iot.KindPolicy, string(name))
}

func (s *Server) policies(names []iot.PolicyName) []policy {
	list := make([]policy, len(names))
	for i, n := range names {
		list[i] = policy{string(n), s.policyARN(n)}
	}
	return list
}

func policyNames(policies []*iot.Policy) []iot.PolicyName {
	names := make([]iot.PolicyName, len(policies))
	for i, p := range policies {
		names[i] = p.Name
	}
	return names
}

// createPolicyRequest is CreatePolicyRequest (identity spec §5.2).
type createPolicyRequest struct {
	PolicyName     string `json:"policyName" in:"label" len:"1,128" pattern:"[\\w+=,.@-]+"`
	PolicyDocument string `json:"policyDocument" required:"true" len:",404600"`
	Tags           []tag  `json:"tags"`
}

// createPolicyResponse is CreatePolicyResponse.
type createPolicyResponse struct {
	PolicyName      string `json:"policyName"`
	PolicyArn       string `json:"policyArn"`
	PolicyDocument  string `json:"policyDocument"`
	PolicyVersionID string `json:"policyVersionId"`
}

func (s *Server) createPolicy(ctx context.Context, in *createPolicyRequest) (*createPolicyResponse, error) {
	p, err := s.registry.CreatePolicy(ctx, iot.NewPolicy{
		Name: iot.PolicyName(in.PolicyName), Document: in.PolicyDocument, Tags: newTags(in.Tags), Actor: actor(ctx),
	})
	if err != nil {
		return nil, err
	}
	return &createPolicyResponse{
		PolicyName: string(p.Name), PolicyArn: s.policyARN(p.Name), PolicyDocument: in.PolicyDocument, PolicyVersionID: strconv.Itoa(p.Default),
	}, nil
}

// policyRequest is the request of the operations on one policy.
type policyRequest struct {
	PolicyName string `json:"policyName" in:"label" len:"1,128" pattern:"[\\w+=,.@-]+"`
}

// getPolicyResponse is GetPolicyResponse.
type getPolicyResponse struct {
	PolicyName       string         `json:"policyName"`
	PolicyArn        string         `json:"policyArn"`
	PolicyDocument   string         `json:"policyDocument"`
	DefaultVersionID string         `json:"defaultVersionId"`
	CreationDate     wire.Timestamp `json:"creationDate"`
	LastModifiedDate wire.Timestamp `json:"lastModifiedDate"`
	GenerationID     string         `json:"generationId"`
}

func (s *Server) getPolicy(ctx context.Context, in *policyRequest) (*getPolicyResponse, error) {
	p, v, err := s.registry.Policy(ctx, iot.PolicyName(in.PolicyName))
	if err != nil {
		return nil, err
	}
	return &getPolicyResponse{
		PolicyName: string(p.Name), PolicyArn: s.policyARN(p.Name), PolicyDocument: v.Document, DefaultVersionID: strconv.Itoa(p.Default),
		CreationDate: timestamp(p.CreatedAt), LastModifiedDate: timestamp(p.ModifiedAt), GenerationID: p.UUID,
	}, nil
}

func (s *Server) deletePolicy(ctx context.Context, in *policyRequest) (*wire.Empty, error) {
	return &wire.Empty{}, s.registry.DeletePolicy(ctx, iot.PolicyDeletion{Name: iot.PolicyName(in.PolicyName), Actor: actor(ctx)})
}

// listPoliciesRequest is ListPoliciesRequest.
type listPoliciesRequest struct {
	Marker         *string `json:"marker" in:"query" len:",1024" pattern:"[A-Za-z0-9+/]+={0,2}"`
	PageSize       *int32  `json:"pageSize" in:"query" range:"1,250"`
	AscendingOrder bool    `json:"ascendingOrder" in:"query" query:"isAscendingOrder"`
}

// listPoliciesResponse is that of the lists of policies.
type listPoliciesResponse struct {
	Policies   []policy `json:"policies"`
	NextMarker *string  `json:"nextMarker,omitempty"`
}

func (s *Server) listPolicies(ctx context.Context, in *listPoliciesRequest) (*listPoliciesResponse, error) {
	page, err := s.page("ListPolicies", in.AscendingOrder, in.Marker, in.PageSize, defaultRegistryPage)
	if err != nil {
		return nil, err
	}
	list, next, err := s.registry.Policies(ctx, in.AscendingOrder, page)
	if err != nil {
		return nil, err
	}
	return &listPoliciesResponse{s.policies(policyNames(list)), s.nextToken("ListPolicies", in.AscendingOrder, next)}, nil
}

// createPolicyVersionRequest is CreatePolicyVersionRequest.
type createPolicyVersionRequest struct {
	PolicyName     string `json:"policyName" in:"label" len:"1,128" pattern:"[\\w+=,.@-]+"`
	PolicyDocument string `json:"policyDocument" required:"true" len:",404600"`
	SetAsDefault   bool   `json:"setAsDefault" in:"query"`
}

// createPolicyVersionResponse is CreatePolicyVersionResponse.
type createPolicyVersionResponse struct {
	PolicyArn        string `json:"policyArn"`
	PolicyDocument   string `json:"policyDocument"`
	PolicyVersionID  string `json:"policyVersionId"`
	IsDefaultVersion bool   `json:"isDefaultVersion"`
}

func (s *Server) createPolicyVersion(ctx context.Context, in *createPolicyVersionRequest) (*createPolicyVersionResponse, error) {
	p, v, err := s.registry.CreatePolicyVersion(ctx, iot.NewPolicyVersion{
		Name: iot.PolicyName(in.PolicyName), Document: in.PolicyDocument, Default: in.SetAsDefault, Actor: actor(ctx),
	})
	if err != nil {
		return nil, err
	}
	return &createPolicyVersionResponse{
		PolicyArn: s.policyARN(p.Name), PolicyDocument: v.Document, PolicyVersionID: strconv.Itoa(v.Version), IsDefaultVersion: v.Version == p.Default,
	}, nil
}

// policyVersionRequest is the request of the operations on one version of a policy.
type policyVersionRequest struct {
	PolicyName      string `json:"policyName" in:"label" len:"1,128" pattern:"[\\w+=,.@-]+"`
	PolicyVersionID string `json:"policyVersionId" in:"label" pattern:"[0-9]+"`
}

// version returns the number of the version: -1, which no version has, for one that is out of range.
func (in *policyVersionRequest) version() int {
	n, err := strconv.Atoi(in.PolicyVersionID)
	if err != nil || n == 0 {
		return -1
	}
	return n
}

func (in *policyVersionRequest) change(ctx context.Context) iot.PolicyVersionChange {
	return iot.PolicyVersionChange{Name: iot.PolicyName(in.PolicyName), Version: in.version(), Actor: actor(ctx)}
}

// getPolicyVersionResponse is GetPolicyVersionResponse.
type getPolicyVersionResponse struct {
	PolicyArn        string         `json:"policyArn"`
	PolicyName       string         `json:"policyName"`
	PolicyDocument   string         `json:"policyDocument"`
	PolicyVersionID  string         `json:"policyVersionId"`
	IsDefaultVersion bool           `json:"isDefaultVersion"`
	CreationDate     wire.Timestamp `json:"creationDate"`
	LastModifiedDate wire.Timestamp `json:"lastModifiedDate"`
	GenerationID     string         `json:"generationId"`
}

func (s *Server) getPolicyVersion(ctx context.Context, in *policyVersionRequest) (*getPolicyVersionResponse, error) {
	p, v, err := s.registry.PolicyVersion(ctx, iot.PolicyName(in.PolicyName), in.version())
	if err != nil {
		return nil, err
	}
	return &getPolicyVersionResponse{
		PolicyArn: s.policyARN(p.Name), PolicyName: string(p.Name), PolicyDocument: v.Document, PolicyVersionID: strconv.Itoa(v.Version),
		IsDefaultVersion: v.Version == p.Default, GenerationID: p.UUID,
		CreationDate: timestamp(v.CreatedAt), LastModifiedDate: timestamp(v.CreatedAt), // it never changes
	}, nil
}

func (s *Server) deletePolicyVersion(ctx context.Context, in *policyVersionRequest) (*wire.Empty, error) {
	return &wire.Empty{}, s.registry.DeletePolicyVersion(ctx, in.change(ctx))
}

func (s *Server) setDefaultPolicyVersion(ctx context.Context, in *policyVersionRequest) (*wire.Empty, error) {
	return &wire.Empty{}, s.registry.SetDefaultPolicyVersion(ctx, in.change(ctx))
}

// listPolicyVersionsResponse is ListPolicyVersionsResponse.
type listPolicyVersionsResponse struct {
	PolicyVersions []policyVersion `json:"policyVersions"`
}

// policyVersion is PolicyVersion.
type policyVersion struct {
	VersionID        string         `json:"versionId"`
	IsDefaultVersion bool           `json:"isDefaultVersion"`
	CreateDate       wire.Timestamp `json:"createDate"`
}

func (s *Server) listPolicyVersions(ctx context.Context, in *policyRequest) (*listPolicyVersionsResponse, error) {
	p, versions, err := s.registry.PolicyVersions(ctx, iot.PolicyName(in.PolicyName))
	if err != nil {
		return nil, err
	}
	out := &listPolicyVersionsResponse{make([]policyVersion, len(versions))}
	for i, v := range versions {
		out.PolicyVersions[i] = policyVersion{strconv.Itoa(v.Version), v.Version == p.Default, timestamp(v.CreatedAt)}
	}
	return out, nil
}

// policyTargetRequest is the request of AttachPolicy and DetachPolicy (identity spec §5.9).
type policyTargetRequest struct {
	PolicyName string `json:"policyName" in:"label" len:"1,128" pattern:"[\\w+=,.@-]+"`
	Target     string `json:"target" required:"true"`
}

func (s *Server) attachPolicy(ctx context.Context, in *policyTargetRequest) (*wire.Empty, error) {
	return &wire.Empty{}, s.registry.AttachPolicy(ctx, attachment(ctx, in.PolicyName, in.Target))
}

func (s *Server) detachPolicy(ctx context.Context, in *policyTargetRequest) (*wire.Empty, error) {
	return &wire.Empty{}, s.registry.DetachPolicy(ctx, attachment(ctx, in.PolicyName, in.Target))
}

func attachment(ctx context.Context, name, target string) iot.PolicyAttachment {
	return iot.PolicyAttachment{Name: iot.PolicyName(name), Target: target, Actor: actor(ctx)}
}

// principalPolicyRequest is the request of AttachPrincipalPolicy and DetachPrincipalPolicy, which
// AttachPolicy and DetachPolicy have replaced.
type principalPolicyRequest struct {
	PolicyName string `json:"policyName" in:"label" len:"1,128" pattern:"[\\w+=,.@-]+"`
	Principal  string `json:"principal" in:"header" header:"x-amzn-iot-principal" required:"true"`
}

func (s *Server) attachPrincipalPolicy(ctx context.Context, in *principalPolicyRequest) (*wire.Empty, error) {
	return &wire.Empty{}, s.registry.AttachPolicy(ctx, attachment(ctx, in.PolicyName, in.Principal))
}

func (s *Server) detachPrincipalPolicy(ctx context.Context, in *principalPolicyRequest) (*wire.Empty, error) {
	return &wire.Empty{}, s.registry.DetachPolicy(ctx, attachment(ctx, in.PolicyName, in.Principal))
}

// listAttachedPoliciesRequest is ListAttachedPoliciesRequest.
type listAttachedPoliciesRequest struct {
	Target    string  `json:"target" in:"label"`
	Recursive bool    `json:"recursive" in:"query"`
	Marker    *string `json:"marker" in:"query" len:",1024" pattern:"[A-Za-z0-9+/]+={0,2}"`
	PageSize  *int32  `json:"pageSize" in:"query" range:"1,250"`
}

func (s *Server) listAttachedPolicies(ctx context.Context, in *listAttachedPoliciesRequest) (*listPoliciesResponse, error) {
	return s.attachedPolicies(ctx, "ListAttachedPolicies", in.Target, in.Recursive, in.Marker, in.PageSize)
}

// listPrincipalPoliciesRequest is ListPrincipalPoliciesRequest. There are two orders in AWS IoT; of
// what is attached to one certificate there is so little that one page has it all.
type listPrincipalPoliciesRequest struct {
	Principal      string  `json:"principal" in:"header" header:"x-amzn-iot-principal" required:"true"`
	Marker         *string `json:"marker" in:"query" len:",1024" pattern:"[A-Za-z0-9+/]+={0,2}"`
	PageSize       *int32  `json:"pageSize" in:"query" range:"1,250"`
	AscendingOrder bool    `json:"ascendingOrder" in:"query" query:"isAscendingOrder"`
}

func (s *Server) listPrincipalPolicies(ctx context.Context, in *listPrincipalPoliciesRequest) (*listPoliciesResponse, error) {
	return s.attachedPolicies(ctx, "ListPrincipalPolicies", in.Principal, false, in.Marker, in.PageSize)
}

func (s *Server) attachedPolicies(ctx context.Context, op, target string, recursive bool, marker *string, size *int32) (*listPoliciesResponse, error) {
	filters := []any{target, recursive}
	page, err := s.page(op, filters, marker, size, defaultRegistryPage)
	if err != nil {
		return nil, err
	}
	list, next, err := s.registry.AttachedPolicies(ctx, target, recursive, page)
	if err != nil {
		return nil, err
	}
	return &listPoliciesResponse{s.policies(policyNames(list)), s.nextToken(op, filters, next)}, nil
}

// listTargetsForPolicyRequest is ListTargetsForPolicyRequest.
type listTargetsForPolicyRequest struct {
	PolicyName string  `json:"policyName" in:"label" len:"1,128" pattern:"[\\w+=,.@-]+"`
	Marker     *string `json:"marker" in:"query" len:",1024" pattern:"[A-Za-z0-9+/]+={0,2}"`
	PageSize   *int32  `json:"pageSize" in:"query" range:"1,250"`
}

// listTargetsForPolicyResponse is ListTargetsForPolicyResponse.
type listTargetsForPolicyResponse struct {
	Targets    []string `json:"targets"`
	NextMarker *string  `json:"nextMarker,omitempty"`
}

func (s *Server) listTargetsForPolicy(ctx context.Context, in *listTargetsForPolicyRequest) (*listTargetsForPolicyResponse, error) {
	targets, next, err := s.policyTargets(ctx, "ListTargetsForPolicy", in.PolicyName, in.Marker, in.PageSize)
	return &listTargetsForPolicyResponse{targets, next}, err
}

// listPolicyPrincipalsRequest is ListPolicyPrincipalsRequest.
type listPolicyPrincipalsRequest struct {
	PolicyName     string  `json:"policyName" in:"header" header:"x-amzn-iot-policy" required:"true" len:"1,128" pattern:"[\\w+=,.@-]+"`
	Marker         *string `json:"marker" in:"query" len:",1024" pattern:"[A-Za-z0-9+/]+={0,2}"`
	PageSize       *int32  `json:"pageSize" in:"query" range:"1,250"`
	AscendingOrder bool    `json:"ascendingOrder" in:"query" query:"isAscendingOrder"`
}

// listPolicyPrincipalsResponse is ListPolicyPrincipalsResponse.
type listPolicyPrincipalsResponse struct {
	Principals []string `json:"principals"`
	NextMarker *string  `json:"nextMarker,omitempty"`
}

func (s *Server) listPolicyPrincipals(ctx context.Context, in *listPolicyPrincipalsRequest) (*listPolicyPrincipalsResponse, error) {
	principals, next, err := s.policyTargets(ctx, "ListPolicyPrincipals", in.PolicyName, in.Marker, in.PageSize)
	return &listPolicyPrincipalsResponse{principals, next}, err
}

func (s *Server) policyTargets(ctx context.Context, op, name string, marker *string, size *int32) (arns []string, nextMarker *string, err error) {
	page, err := s.page(op, name, marker, size, defaultRegistryPage)
	if err != nil {
		return nil, nil, err
	}
	targets, next, err := s.registry.PolicyTargets(ctx, iot.PolicyName(name), page)
	if err != nil {
		return nil, nil, err
	}
	arns = make([]string, len(targets))
	for i, t := range targets {
		arns[i] = s.realm.ARN(t.Kind, t.Name)
	}
	return arns, s.nextToken(op, name, next), nil
}

// getEffectivePoliciesRequest is GetEffectivePoliciesRequest (identity spec §5.12).
type getEffectivePoliciesRequest struct {
	Principal             *string `json:"principal"`
	CognitoIdentityPoolID *string `json:"cognitoIdentityPoolId"`
	ThingName             *string `json:"thingName" in:"query" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
}

// getEffectivePoliciesResponse is GetEffectivePoliciesResponse.
type getEffectivePoliciesResponse struct {
	EffectivePolicies []effectivePolicy `json:"effectivePolicies"`
}

// effectivePolicy is EffectivePolicy.
type effectivePolicy struct {
	PolicyName     string `json:"policyName"`
	PolicyArn      string `json:"policyArn"`
	PolicyDocument string `json:"policyDocument"`
}

func refuseCognito(pool *string) error {
	return refuse(asked{"cognitoIdentityPoolId", "Amazon Cognito identities", pool != nil})
}

func (s *Server) getEffectivePolicies(ctx context.Context, in *getEffectivePoliciesRequest) (*getEffectivePoliciesResponse, error) {
	if err := refuseCognito(in.CognitoIdentityPoolID); err != nil {
		return nil, err
	}
	list, err := s.permissions.EffectivePolicies(ctx, value(in.Principal), iot.ThingName(value(in.ThingName)))
	if err != nil {
		return nil, err
	}
	out := &getEffectivePoliciesResponse{make([]effectivePolicy, len(list))}
	for i, p := range list {
		out.EffectivePolicies[i] = effectivePolicy{string(p.Name), s.policyARN(p.Name), p.Document}
	}
	return out, nil
}

// testAuthorizationRequest is TestAuthorizationRequest (identity spec §5.11).
type testAuthorizationRequest struct {
	Principal             *string    `json:"principal"`
	CognitoIdentityPoolID *string    `json:"cognitoIdentityPoolId"`
	AuthInfos             []authInfo `json:"authInfos" required:"true" size:"1,10"`
	ClientID              *string    `json:"clientId" in:"query"`
	PolicyNamesToAdd      []string   `json:"policyNamesToAdd" itemlen:"1,128" itempattern:"[\\w+=,.@-]+"`
	PolicyNamesToSkip     []string   `json:"policyNamesToSkip" itemlen:"1,128" itempattern:"[\\w+=,.@-]+"`
}

// authInfo is AuthInfo.
type authInfo struct {
	ActionType *string  `json:"actionType,omitempty" enum:"PUBLISH,SUBSCRIBE,RECEIVE,CONNECT"`
	Resources  []string `json:"resources" required:"true"`
}

var testedActions = map[string]string{
	"PUBLISH": "iot:Publish", "SUBSCRIBE": "iot:Subscribe", "RECEIVE": "iot:Receive", "CONNECT": "iot:Connect",
}

// testAuthorizationResponse is TestAuthorizationResponse.
type testAuthorizationResponse struct {
	AuthResults []authResult `json:"authResults"`
}

// authResult is AuthResult.
type authResult struct {
	AuthInfo             authInfo `json:"authInfo"`
	Allowed              policed  `json:"allowed"`
	Denied               denied   `json:"denied"`
	AuthDecision         string   `json:"authDecision"`
	MissingContextValues []string `json:"missingContextValues"`
}

// denied is Denied.
type denied struct {
	ImplicitDeny policed `json:"implicitDeny"`
	ExplicitDeny policed `json:"explicitDeny"`
}

// policed is Allowed, ImplicitDeny and ExplicitDeny.
type policed struct {
	Policies []policy `json:"policies"`
}

func (s *Server) testAuthorization(ctx context.Context, in *testAuthorizationRequest) (*testAuthorizationResponse, error) {
	if err := refuseCognito(in.CognitoIdentityPoolID); err != nil {
		return nil, err
	}
	test := iot.AuthorizationTest{Principal: value(in.Principal), ClientID: in.ClientID}
	for _, name := range in.PolicyNamesToAdd {
		test.Add = append(test.Add, iot.PolicyName(name))
	}
	for _, name := range in.PolicyNamesToSkip {
		test.Skip = append(test.Skip, iot.PolicyName(name))
	}
	for _, info := range in.AuthInfos {
		if info.ActionType == nil { // the model does not say that it is required
			return nil, iot.Invalid("authInfos.actionType", nil, "Member must not be null")
		}
		test.Requests = append(test.Requests, iot.AuthorizationRequest{Action: testedActions[*info.ActionType], Resources: info.Resources})
	}
	results, err := s.permissions.Test(ctx, test)
	if err != nil {
		return nil, err
	}
	out := &testAuthorizationResponse{make([]authResult, len(results))}
	for i, r := range results {
		out.AuthResults[i] = authResult{
			AuthInfo:             in.AuthInfos[i],
			Allowed:              policed{s.policies(r.Allowed)},
			Denied:               denied{policed{s.policies(r.ImplicitDeny)}, policed{s.policies(r.ExplicitDeny)}},
			AuthDecision:         r.Decision,
			MissingContextValues: append([]string{}, r.Missing...),
		}
	}
	return out, nil
}
