package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"drover/internal/console"
	"drover/internal/sso"
)

// oidcFlags say who signs people in besides drover itself.
type oidcFlags struct {
	Issuer    string            `help:"URL of a provider of OpenID Connect, such as https://login.example.com/realms/fleet, whose people may sign in to the console." placeholder:"URL"`
	ClientID  string            `name:"client-id" help:"What the provider calls drover." placeholder:"ID"`
	Secret    string            `name:"client-secret" env:"DROVER_OIDC_CLIENT_SECRET" help:"What drover shows the provider; better given as DROVER_OIDC_CLIENT_SECRET or in the file of --config than here. None for a public client." placeholder:"SECRET"`
	RoleClaim string            `name:"role-claim" help:"Claim with the groups of somebody; dots lead into objects, as in realm_access.roles." default:"groups" placeholder:"CLAIM"`
	Roles     map[string]string `name:"role" help:"Role of a group: viewer, operator or administrator. Can be given many times; who has none does not get in." placeholder:"GROUP=ROLE"`
	Scopes    []string          `name:"scope" help:"What to ask for besides openid." default:"profile,email" placeholder:"SCOPE"`
	CA        string            `name:"ca" help:"Certificates that the provider's is to be of, PEM, if not of the machine's." type:"path" placeholder:"FILE"`
	PublicURL string            `name:"public-url" help:"How browsers reach the console, such as https://drover.example.com, as the provider is told; default: as they say." placeholder:"URL"`
}

// provider returns who signs people in, nil if nobody does.
func (f *oidcFlags) provider() (console.SSO, error) {
	if f.Issuer == "" {
		if f.ClientID != "" || len(f.Roles) > 0 {
			return nil, errors.New("--oidc-issuer is missing")
		}
		return nil, nil
	}
	if f.PublicURL != "" {
		u, err := url.Parse(f.PublicURL)
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || strings.Trim(u.Path, "/") != "" {
			return nil, fmt.Errorf("--oidc-public-url: %q is not https:// and a host", f.PublicURL)
		}
		f.PublicURL = strings.TrimRight(f.PublicURL, "/")
	}
	cfg := sso.Config{Issuer: f.Issuer, ClientID: f.ClientID, ClientSecret: f.Secret, RoleClaim: f.RoleClaim, Roles: f.Roles, Scopes: f.Scopes}
	if f.CA != "" {
		text, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, fmt.Errorf("--oidc-ca: %w", err)
		}
		if cfg.Roots = x509.NewCertPool(); !cfg.Roots.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("--oidc-ca: %s has no certificate in PEM", f.CA)
		}
	}
	p, err := sso.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("--oidc-issuer: %w", err)
	}
	return p, nil
}
