package controlplane

import (
	"context"
	"time"

	"drover/internal/iot"
	"drover/internal/wire"
)

// createAuthorizerRequest is CreateAuthorizerRequest (identity spec §6.1).
type createAuthorizerRequest struct {
	AuthorizerName         string            `json:"authorizerName" in:"label" len:"1,128" pattern:"[\\w=,@-]+"`
	AuthorizerFunctionArn  string            `json:"authorizerFunctionArn" required:"true" len:",2048"`
	TokenKeyName           *string           `json:"tokenKeyName" len:"1,128" pattern:"[a-zA-Z0-9_-]+"`
	TokenSigningPublicKeys map[string]string `json:"tokenSigningPublicKeys" keylen:"1,128" keypattern:"[a-zA-Z0-9:_-]+" vallen:",5120"`
	Status                 *string           `json:"status" enum:"ACTIVE,INACTIVE"`
	Tags                   []tag             `json:"tags"`
	SigningDisabled        *bool             `json:"signingDisabled"`
	EnableCachingForHTTP   *bool             `json:"enableCachingForHttp"`
}

// authorizerReference is CreateAuthorizerResponse, UpdateAuthorizerResponse,
// SetDefaultAuthorizerResponse and AuthorizerSummary.
type authorizerReference struct {
	AuthorizerName string `json:"authorizerName"`
	AuthorizerArn  string `json:"authorizerArn"`
}

func (s *Server) createAuthorizer(ctx context.Context, in *createAuthorizerRequest) (*authorizerReference, error) {
	a, err := s.registry.CreateAuthorizer(ctx, iot.NewAuthorizer{
		Authorizer: iot.Authorizer{
			Name: in.AuthorizerName, Function: in.AuthorizerFunctionArn, TokenKey: value(in.TokenKeyName), Keys: in.TokenSigningPublicKeys,
			Active: value(in.Status) == active, SigningDisabled: value(in.SigningDisabled), CacheHTTP: value(in.EnableCachingForHTTP),
		},
		Tags: newTags(in.Tags), Actor: actor(ctx),
	})
	return s.authorizerReference(a, err)
}

// active is the status of what is in use; otherwise it is inactive.
const (
	active   = "ACTIVE"
	inactive = "INACTIVE"
)

func (s *Server) authorizerReference(a *iot.Authorizer, err error) (*authorizerReference, error) {
	if err != nil {
		return nil, err
	}
	return &authorizerReference{AuthorizerName: a.Name, AuthorizerArn: s.authorizerARN(a)}, nil
}

func (s *Server) authorizerARN(a *iot.Authorizer) string {
	return s.realm.ARN(iot.KindAuthorizer, a.Name)
}

// updateAuthorizerRequest is UpdateAuthorizerRequest. It cannot say whether tokens are signed.
type updateAuthorizerRequest struct {
	AuthorizerName         string            `json:"authorizerName" in:"label" len:"1,128" pattern:"[\\w=,@-]+"`
	AuthorizerFunctionArn  *string           `json:"authorizerFunctionArn" len:",2048"`
	TokenKeyName           *string           `json:"tokenKeyName" len:"1,128" pattern:"[a-zA-Z0-9_-]+"`
	TokenSigningPublicKeys map[string]string `json:"tokenSigningPublicKeys" keylen:"1,128" keypattern:"[a-zA-Z0-9:_-]+" vallen:",5120"`
	Status                 *string           `json:"status" enum:"ACTIVE,INACTIVE"`
	EnableCachingForHTTP   *bool             `json:"enableCachingForHttp"`
}

func (s *Server) updateAuthorizer(ctx context.Context, in *updateAuthorizerRequest) (*authorizerReference, error) {
	u := iot.AuthorizerUpdate{
		Name: in.AuthorizerName, Function: value(in.AuthorizerFunctionArn), TokenKey: value(in.TokenKeyName), Keys: in.TokenSigningPublicKeys,
		Active: isActive(in.Status), CacheHTTP: in.EnableCachingForHTTP, Actor: actor(ctx),
	}
	return s.authorizerReference(s.registry.UpdateAuthorizer(ctx, u))
}

// isActive says whether a status is the active one, nil if there is none.
func isActive(status *string) *bool {
	if status == nil {
		return nil
	}
	is := *status == active
	return &is
}

// authorizerRequest is DescribeAuthorizerRequest and DeleteAuthorizerRequest.
type authorizerRequest struct {
	AuthorizerName string `json:"authorizerName" in:"label" len:"1,128" pattern:"[\\w=,@-]+"`
}

// describeAuthorizerResponse is DescribeAuthorizerResponse and DescribeDefaultAuthorizerResponse.
type describeAuthorizerResponse struct {
	AuthorizerDescription *authorizerDescription `json:"authorizerDescription"`
}

// authorizerDescription is AuthorizerDescription.
type authorizerDescription struct {
	AuthorizerName         string            `json:"authorizerName"`
	AuthorizerArn          string            `json:"authorizerArn"`
	AuthorizerFunctionArn  string            `json:"authorizerFunctionArn"`
	TokenKeyName           string            `json:"tokenKeyName,omitempty"`
	TokenSigningPublicKeys map[string]string `json:"tokenSigningPublicKeys,omitempty"`
	Status                 string            `json:"status"`
	CreationDate           wire.Timestamp    `json:"creationDate"`
	LastModifiedDate       wire.Timestamp    `json:"lastModifiedDate"`
	SigningDisabled        bool              `json:"signingDisabled"`
	EnableCachingForHTTP   bool              `json:"enableCachingForHttp"`
}

func (s *Server) describeAuthorizer(ctx context.Context, in *authorizerRequest) (*describeAuthorizerResponse, error) {
	return s.authorizerDescription(s.registry.Authorizer(ctx, in.AuthorizerName))
}

func (s *Server) authorizerDescription(a *iot.Authorizer, err error) (*describeAuthorizerResponse, error) {
	if err != nil {
		return nil, err
	}
	d := &authorizerDescription{
		AuthorizerName: a.Name, AuthorizerArn: s.authorizerARN(a), AuthorizerFunctionArn: a.Function, TokenKeyName: a.TokenKey,
		TokenSigningPublicKeys: a.Keys, Status: inactive, CreationDate: timestamp(a.CreatedAt), LastModifiedDate: timestamp(a.ModifiedAt),
		SigningDisabled: a.SigningDisabled, EnableCachingForHTTP: a.CacheHTTP,
	}
	if a.Active {
		d.Status = active
	}
	return &describeAuthorizerResponse{AuthorizerDescription: d}, nil
}

func (s *Server) deleteAuthorizer(ctx context.Context, in *authorizerRequest) (*wire.Empty, error) {
	return &wire.Empty{}, s.registry.DeleteAuthorizer(ctx, in.AuthorizerName, actor(ctx))
}

// listAuthorizersRequest is ListAuthorizersRequest.
type listAuthorizersRequest struct {
	PageSize       *int32  `json:"pageSize" in:"query" range:"1,250"`
	Marker         *string `json:"marker" in:"query" len:",1024" pattern:"[A-Za-z0-9+/]+={0,2}"`
	AscendingOrder bool    `json:"ascendingOrder" in:"query" query:"isAscendingOrder"`
	Status         *string `json:"status" in:"query" enum:"ACTIVE,INACTIVE"`
}

// listAuthorizersResponse is ListAuthorizersResponse.
type listAuthorizersResponse struct {
	Authorizers []authorizerReference `json:"authorizers"`
	NextMarker  *string               `json:"nextMarker,omitempty"`
}

func (s *Server) listAuthorizers(ctx context.Context, in *listAuthorizersRequest) (*listAuthorizersResponse, error) {
	query := iot.AuthorizerQuery{Active: isActive(in.Status), Ascending: in.AscendingOrder}
	page, err := s.page("ListAuthorizers", query, in.Marker, in.PageSize, defaultRegistryPage)
	if err != nil {
		return nil, err
	}
	list, next, err := s.registry.Authorizers(ctx, query, page)
	if err != nil {
		return nil, err
	}
	out := &listAuthorizersResponse{Authorizers: make([]authorizerReference, len(list)), NextMarker: s.nextToken("ListAuthorizers", query, next)}
	for i, a := range list {
		out.Authorizers[i] = authorizerReference{AuthorizerName: a.Name, AuthorizerArn: s.authorizerARN(a)}
	}
	return out, nil
}

// setDefaultAuthorizerRequest is SetDefaultAuthorizerRequest.
type setDefaultAuthorizerRequest struct {
	AuthorizerName string `json:"authorizerName" required:"true" len:"1,128" pattern:"[\\w=,@-]+"`
}

func (s *Server) setDefaultAuthorizer(ctx context.Context, in *setDefaultAuthorizerRequest) (*authorizerReference, error) {
	return s.authorizerReference(s.registry.SetDefaultAuthorizer(ctx, in.AuthorizerName, actor(ctx)))
}

func (s *Server) describeDefaultAuthorizer(ctx context.Context, _ *wire.Empty) (*describeAuthorizerResponse, error) {
	return s.authorizerDescription(s.registry.DefaultAuthorizer(ctx))
}

func (s *Server) clearDefaultAuthorizer(ctx context.Context, _ *wire.Empty) (*wire.Empty, error) {
	return &wire.Empty{}, s.registry.ClearDefaultAuthorizer(ctx, actor(ctx))
}

// testInvokeAuthorizerRequest is TestInvokeAuthorizerRequest (identity spec §6.7).
type testInvokeAuthorizerRequest struct {
	AuthorizerName string       `json:"authorizerName" in:"label" len:"1,128" pattern:"[\\w=,@-]+"`
	Token          *string      `json:"token" len:"1,6144"`
	TokenSignature *string      `json:"tokenSignature" len:"1,2560" pattern:"[A-Za-z0-9+/]+={0,2}"`
	HTTPContext    *httpContext `json:"httpContext"`
	MqttContext    *mqttContext `json:"mqttContext"`
	TLSContext     *tlsContext  `json:"tlsContext"`
}

// httpContext is HttpContext.
type httpContext struct {
	Headers     map[string]string `json:"headers" keylen:"1,8192" vallen:"1,8192"`
	QueryString *string           `json:"queryString" len:"1,4096"`
}

// mqttContext is MqttContext.
type mqttContext struct {
	Username *string `json:"username" len:"1,65535"`
	Password []byte  `json:"password" bytes:"1,65535"`
	ClientID *string `json:"clientId" len:"1,65535"`
}

// tlsContext is TlsContext.
type tlsContext struct {
	ServerName *string `json:"serverName" len:"1,253"`
}

// testInvokeAuthorizerResponse is TestInvokeAuthorizerResponse.
type testInvokeAuthorizerResponse struct {
	IsAuthenticated          bool     `json:"isAuthenticated"`
	PrincipalID              string   `json:"principalId,omitempty"`
	PolicyDocuments          []string `json:"policyDocuments,omitempty"`
	RefreshAfterInSeconds    *int32   `json:"refreshAfterInSeconds,omitempty"`
	DisconnectAfterInSeconds *int32   `json:"disconnectAfterInSeconds,omitempty"`
}

func (s *Server) testInvokeAuthorizer(ctx context.Context, in *testInvokeAuthorizerRequest) (*testInvokeAuthorizerResponse, error) {
	if s.asks == nil {
		return nil, iot.Errorf(iot.Unavailable, "This server asks no authorizers")
	}
	t := iot.AuthorizerTest{Name: in.AuthorizerName, Token: value(in.Token), Signature: value(in.TokenSignature)}
	if c := in.HTTPContext; c != nil {
		t.HTTP = &iot.HTTPData{Headers: c.Headers, Query: value(c.QueryString)}
	}
	if c := in.MqttContext; c != nil {
		t.MQTT = &iot.MQTTData{Username: value(c.Username), Password: c.Password, ClientID: value(c.ClientID)}
	}
	if c := in.TLSContext; c != nil {
		t.TLS = &iot.TLSData{ServerName: value(c.ServerName)}
	}
	a, err := s.asks.TestInvoke(ctx, t)
	if err != nil {
		return nil, err
	}
	return &testInvokeAuthorizerResponse{
		IsAuthenticated: a.Authenticated, PrincipalID: a.Principal, PolicyDocuments: a.Policies,
		RefreshAfterInSeconds: seconds(a.Refresh), DisconnectAfterInSeconds: seconds(a.Disconnect),
	}, nil
}

// seconds returns whole seconds, nil for none.
func seconds(d time.Duration) *int32 { return optional(int32(d / time.Second)) }
