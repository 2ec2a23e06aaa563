// Package sso signs people in at a provider of OpenID Connect: an authorization code with PKCE, an ID token that is
// verified, and a claim of it that says which role somebody has.
package sso

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/sync/singleflight"

	"drover/internal/auth"
)

// Config says which provider it is, and what its people may do.
type Config struct {
	Issuer       string // URL
	ClientID     string
	ClientSecret string // "" for a public client
	// RoleClaim is the claim with the groups of somebody, a text or a list of them; dots lead into objects.
	RoleClaim string
	// Roles are the roles of groups. Of several the mightiest counts; who has none does not get in.
	Roles  map[string]string
	Scopes []string         // besides openid
	Roots  *x509.CertPool   // that the provider's certificate is of; nil: the machine's
	Now    func() time.Time // nil = time.Now; it is compared with the provider's
}

// Provider signs people in. It is asked what it can do when the first of them comes: that it cannot be reached stops nobody
// who has another way in.
type Provider struct {
	cfg    Config
	client *http.Client
	mark   string

	found     atomic.Pointer[oidc.Provider]
	discovery singleflight.Group
}

// Flow is what must be remembered, where nobody else can read or change it, while somebody is at the provider.
type Flow struct {
	State, Nonce, Verifier, Callback string
}

// Refusal is why somebody does not get in, in words for him.
type Refusal struct{ Why string }

func (r *Refusal) Error() string { return r.Why }

func refuse(format string, args ...any) error { return &Refusal{fmt.Sprintf(format, args...)} }

// timeout bounds each conversation with the provider.
const timeout = 10 * time.Second

// New returns the provider of cfg, and connects to nothing.
func New(cfg Config) (*Provider, error) {
	u, err := url.Parse(cfg.Issuer)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("%q is not the URL of an issuer", cfg.Issuer)
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return nil, fmt.Errorf("the issuer %s must be https: who can change what comes from it can be anybody here", cfg.Issuer)
	case cfg.ClientID == "":
		return nil, errors.New("a client id is needed, as the provider knows drover by")
	case len(cfg.Roles) == 0:
		return nil, errors.New("no group of the provider's has a role: nobody could sign in")
	}
	for _, group := range slices.Sorted(maps.Keys(cfg.Roles)) {
		if _, ok := auth.RoleNamed(cfg.Roles[group]); !ok {
			return nil, fmt.Errorf("there is no role %q for the group %q; there are viewer, operator and administrator", cfg.Roles[group], group)
		}
	}
	cfg.RoleClaim = cmp.Or(cfg.RoleClaim, "groups")
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	p := &Provider{cfg: cfg, client: &http.Client{Timeout: timeout, Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: cfg.Roots}, MaxIdleConns: 4, IdleConnTimeout: time.Minute,
	}}}
	text, err := json.Marshal([]any{cfg.Issuer, cfg.ClientID, cfg.RoleClaim, cfg.Roles})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	p.mark = base64.RawURLEncoding.EncodeToString(sum[:9])
	return p, nil
}

func loopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// Name is the provider by its host.
func (p *Provider) Name() string {
	u, _ := url.Parse(p.cfg.Issuer) // it was parsed before
	return u.Host
}

// Mark changes when the provider does, or what its people may do.
func (p *Provider) Mark() string { return p.mark }

// discover finds out where the provider has what, once; all who ask meanwhile wait for the same answer.
func (p *Provider) discover(ctx context.Context) (*oidc.Provider, error) {
	if found := p.found.Load(); found != nil {
		return found, nil
	}
	answer := p.discovery.DoChan("", func() (any, error) {
		// It is for others, too, and the keys of the provider are fetched by this context, long after this request.
		found, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), p.client), p.cfg.Issuer)
		if err == nil {
			p.found.Store(found)
		}
		return found, err
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case a := <-answer:
		if a.Err != nil {
			return nil, fmt.Errorf("ask the issuer %s: %w", p.cfg.Issuer, a.Err)
		}
		return a.Val.(*oidc.Provider), nil
	}
}

func (p *Provider) oauth(at *oidc.Provider, callback string) *oauth2.Config {
	return &oauth2.Config{
		ClientID: p.cfg.ClientID, ClientSecret: p.cfg.ClientSecret, Endpoint: at.Endpoint(), RedirectURL: callback,
		Scopes: append([]string{oidc.ScopeOpenID}, p.cfg.Scopes...),
	}
}

// Begin returns where the browser is to go, and what to remember until it comes back to callback.
func (p *Provider) Begin(ctx context.Context, callback string) (to string, f Flow, err error) {
	at, err := p.discover(ctx)
	if err != nil {
		return "", f, err
	}
	f = Flow{State: rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier(), Callback: callback}
	return p.oauth(at, callback).AuthCodeURL(f.State, oidc.Nonce(f.Nonce), oauth2.S256ChallengeOption(f.Verifier)), f, nil
}

// Finish returns who has come back, with the query that the provider has sent him with. A *Refusal is for him; other
// errors are not.
func (p *Provider) Finish(ctx context.Context, f Flow, query url.Values) (who auth.Person, err error) {
	if f.State == "" || subtle.ConstantTimeCompare([]byte(query.Get("state")), []byte(f.State)) != 1 {
		return who, refuse("This sign-in was not begun in this browser, or took too long. Try again.")
	}
	if code := query.Get("error"); code != "" {
		return who, refuse("%s says: %s", p.Name(), clean(cmp.Or(query.Get("error_description"), code)))
	}
	at, err := p.discover(ctx)
	if err != nil {
		return who, err
	}
	ctx = oidc.ClientContext(ctx, p.client)
	oauth := p.oauth(at, f.Callback)
	tokens, err := oauth.Exchange(ctx, query.Get("code"), oauth2.VerifierOption(f.Verifier))
	if refused, ok := errors.AsType[*oauth2.RetrieveError](err); ok && refused.Response.StatusCode < 500 {
		return who, refuse("%s does not accept the code that it has sent: %s", p.Name(), clean(cmp.Or(refused.ErrorDescription, refused.ErrorCode)))
	}
	if err != nil {
		return who, err
	}
	text, ok := tokens.Extra("id_token").(string)
	if !ok {
		return who, refuse("%s has sent no ID token", p.Name())
	}
	token, err := at.VerifierContext(ctx, &oidc.Config{ClientID: p.cfg.ClientID, Now: p.cfg.Now}).Verify(ctx, text)
	if err != nil {
		return who, refuse("The ID token of %s does not hold: %v", p.Name(), err)
	}
	if subtle.ConstantTimeCompare([]byte(token.Nonce), []byte(f.Nonce)) != 1 {
		return who, refuse("The ID token of %s is of another sign-in", p.Name())
	}
	var claims map[string]any
	if err := token.Claims(&claims); err != nil {
		return who, err
	}
	groups := texts(claim(claims, p.cfg.RoleClaim))
	if groups == nil && at.UserInfoEndpoint() != "" {
		// Some say of people only to who asks for it.
		info, err := at.UserInfo(ctx, oauth2.StaticTokenSource(tokens))
		if err != nil {
			return who, err
		}
		var more map[string]any
		if err := info.Claims(&more); err != nil {
			return who, err
		}
		if info.Subject != token.Subject {
			return who, refuse("%s tells of somebody else", p.Name())
		}
		maps.Copy(more, claims)
		claims = more
		groups = texts(claim(claims, p.cfg.RoleClaim))
	}
	who = auth.Person{Subject: token.Subject, Name: name(claims, token.Subject), Role: p.role(groups)}
	if who.Role == "" {
		return who, refuse("You are %s, and none of your groups at %s has a role here. Ask an administrator.", who.Name, p.Name())
	}
	return who, nil
}

// role returns the mightiest role of the groups, "" if none has one.
func (p *Provider) role(groups []string) string {
	for _, r := range slices.Backward(auth.Roles) {
		if slices.ContainsFunc(groups, func(g string) bool { return p.cfg.Roles[g] == r.Name }) {
			return r.Name
		}
	}
	return ""
}

// claim finds a claim by its name, or by names with dots between them that lead to it.
func claim(claims map[string]any, path string) any {
	if v, ok := claims[path]; ok {
		return v
	}
	first, rest, more := strings.Cut(path, ".")
	inner, ok := claims[first].(map[string]any)
	if !more || !ok {
		return nil
	}
	return claim(inner, rest)
}

// texts are the texts of a claim; nil if there is none.
func texts(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		list := []string{}
		for _, item := range v {
			if s, ok := item.(string); ok {
				list = append(list, s)
			}
		}
		return list
	}
	return nil
}

// name is how somebody is called.
func name(claims map[string]any, subject string) string {
	for _, c := range []string{"preferred_username", "email", "name"} {
		if s, ok := claims[c].(string); ok && clean(s) != "" {
			return clean(s)
		}
	}
	return clean(subject)
}

// clean makes a text of a provider fit for a page and the journal.
func clean(s string) string {
	const most = 128 // characters
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?")))
	if utf8.RuneCountInString(s) > most {
		s = string([]rune(s)[:most])
	}
	return s
}
