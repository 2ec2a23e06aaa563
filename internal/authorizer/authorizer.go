// Package authorizer decides about clients by custom authorizers: it finds the authorizer that a
// client wants or that is the default, checks the client's token, asks the authorizer's function
// and checks its answer (identity spec §6).
//
//	request ── which authorizer? ── token signed? ── function ── answer in order? ── Decision
//	                 │ none, unknown,     │ no           │ fails,       │ no, or
//	                 │ inactive           │              │ too late     │ not authenticated
//	                 └────────────────────┴───── Refusal ┴──────────────┘
//
// The function is not called before the token has been verified, so that who cannot sign costs
// it nothing.
package authorizer

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"drover/internal/iot"
	"drover/internal/webhook"
)

// Registry knows the authorizers. Both methods return an *iot.Error of the code NotFound for one
// that there is not.
type Registry interface {
	Authorizer(ctx context.Context, name string) (*iot.Authorizer, error)
	DefaultAuthorizer(ctx context.Context) (*iot.Authorizer, error)
}

// Functions calls functions.
type Functions interface {
	Call(ctx context.Context, function string, event any) ([]byte, error)
}

// Config says what an Authenticator works with. Registry and Functions are required.
type Config struct {
	Registry  Registry
	Functions Functions
	// AfterFunc is time.AfterFunc of the clock that Now shows; nil: that of the machine.
	AfterFunc func(time.Duration, func()) (stop func() bool)
	// CheckPolicy returns what is wrong with a policy document; nil: nothing ever is.
	CheckPolicy func(document string) error
	// DefaultOnly refuses clients that ask for another authorizer than the default one.
	DefaultOnly bool
	Logger      *slog.Logger
	Now         func() time.Time
}

// Authenticator decides about clients. Its methods may be called concurrently.
type Authenticator struct {
	cfg Config
	log *slog.Logger
	now func() time.Time
}

// New returns an Authenticator.
func New(cfg Config) *Authenticator {
	a := &Authenticator{cfg: cfg, log: cmp.Or(cfg.Logger, slog.Default()), now: cfg.Now}
	if a.now == nil {
		a.now = time.Now
	}
	if a.cfg.AfterFunc == nil {
		a.cfg.AfterFunc = func(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop }
	}
	return a
}

// Request is what a client said. Nil parts were not spoken.
type Request struct {
	Connection string // id of the connection
	TLS        *iot.TLSData
	// Header and Query are those of an HTTP request, or of the upgrade to WebSocket.
	Header http.Header
	Query  string // raw, without the question mark
	MQTT   *iot.MQTTData
	// Cache is that of the HTTP connection on which the request came, if there is one.
	Cache *Cache
}

// Decision says who a client is and what it may do.
type Decision struct {
	Authorizer string
	iot.AuthorizerAnswer
}

// A Refusal says why a client is not let in. The text is for the log: who is refused is told
// nothing of it.
type Refusal struct {
	Reason Reason
	Text   string
}

func (r *Refusal) Error() string { return string(r.Reason) + ": " + r.Text }

// Reason is a kind of refusal.
type Reason string

// The reasons.
const (
	NoAuthorizer Reason = "no authorizer"     // none asked for and no default one, or not one that may be asked for
	BadToken     Reason = "bad token"         // missing, or not signed by a key of the authorizer
	Denied       Reason = "not authenticated" // the function says so
	Failed       Reason = "function failed"   // no answer, or one that is not in order
	Busy         Reason = "busy"              // try again later
)

// Names of what a client gives to its authorizer (identity spec §6.3).
const (
	nameKey      = "x-amz-customauthorizer-name"
	signatureKey = "x-amz-customauthorizer-signature"
)

// Authorize decides about a client. The error is a *Refusal unless the registry fails. Whoever
// keeps a connection open asks again, with the same request, when Decision.Refresh has passed:
// then the new decision holds.
func (a *Authenticator) Authorize(ctx context.Context, r Request) (Decision, error) {
	given := r.parameters()
	auth, err := a.find(ctx, given(nameKey))
	if err != nil {
		return Decision{}, err
	}
	event := iot.AuthorizerEvent{Protocols: []string{}, ProtocolData: r.data()}
	for _, p := range []struct {
		name   string
		spoken bool
	}{{"tls", r.TLS != nil}, {"http", r.Header != nil}, {"mqtt", r.MQTT != nil}} {
		if p.spoken {
			event.Protocols = append(event.Protocols, p.name)
		}
	}
	if r.Connection != "" {
		event.Connection = &iot.ConnectionMetadata{ID: r.Connection}
	}
	if auth.TokenKey != "" {
		event.Token = given(auth.TokenKey)
	}
	signature := given(signatureKey)
	if !auth.SigningDisabled {
		if !auth.Verified(event.Token, signature) {
			return Decision{}, a.refuse(ctx, auth, BadToken, "no key of the authorizer signed the token")
		}
		event.SignatureVerified = true
	}
	key := cacheKey(auth, &r, event.Token, signature)
	if auth.CacheHTTP && r.MQTT == nil {
		if d, ok := r.Cache.find(key, a.now()); ok {
			return d, nil
		}
	}
	answer, err := a.ask(ctx, auth, event)
	if err != nil {
		return Decision{}, err
	}
	d := Decision{Authorizer: auth.Name, AuthorizerAnswer: answer}
	if auth.CacheHTTP && r.MQTT == nil && d.Refresh > 0 {
		r.Cache.keep(key, d, a.now().Add(d.Refresh))
	}
	return d, nil
}

// Asked reports whether a request says by itself what an authorizer needs: which one, or a token that
// the default one looks for. Who says nothing in the handshake of a WebSocket may say it in his CONNECT
// (identity spec §6.6).
func (a *Authenticator) Asked(ctx context.Context, r Request) (bool, error) {
	given := r.parameters()
	if given(nameKey) != "" || given(signatureKey) != "" {
		return true, nil
	}
	standard, err := a.cfg.Registry.DefaultAuthorizer(ctx)
	if iot.ErrorCode(err) == iot.NotFound {
		return false, nil
	}
	return err == nil && standard.TokenKey != "" && given(standard.TokenKey) != "", err
}

// find returns the authorizer that decides: the one of the name, or the default one.
func (a *Authenticator) find(ctx context.Context, name string) (*iot.Authorizer, error) {
	var auth *iot.Authorizer
	var err error
	if name == "" || a.cfg.DefaultOnly {
		auth, err = a.cfg.Registry.DefaultAuthorizer(ctx)
	} else {
		auth, err = a.cfg.Registry.Authorizer(ctx, name)
	}
	switch {
	case iot.ErrorCode(err) == iot.NotFound:
		return nil, a.refuse(ctx, &iot.Authorizer{Name: name}, NoAuthorizer, "there is no such authorizer, or no default one")
	case err != nil:
		return nil, err
	case name != "" && name != auth.Name:
		return nil, a.refuse(ctx, &iot.Authorizer{Name: name}, NoAuthorizer, "clients may not choose their authorizer")
	case !auth.Active:
		return nil, a.refuse(ctx, auth, NoAuthorizer, "the authorizer is INACTIVE")
	}
	return auth, nil
}

// ask calls the function and reads its answer.
func (a *Authenticator) ask(ctx context.Context, auth *iot.Authorizer, event iot.AuthorizerEvent) (iot.AuthorizerAnswer, error) {
	body, err := a.cfg.Functions.Call(ctx, auth.Function, event)
	if errors.Is(err, webhook.ErrBusy) {
		return iot.AuthorizerAnswer{}, a.refuse(ctx, auth, Busy, err.Error())
	}
	if err != nil {
		return iot.AuthorizerAnswer{}, a.refuse(ctx, auth, Failed, err.Error())
	}
	answer, err := a.parse(body, event)
	if err != nil {
		return answer, a.refuse(ctx, auth, Failed, err.Error())
	}
	if !answer.Authenticated {
		return answer, a.refuse(ctx, auth, Denied, "the function answered isAuthenticated false")
	}
	return answer, nil
}

func (a *Authenticator) parse(body []byte, event iot.AuthorizerEvent) (iot.AuthorizerAnswer, error) {
	certificate := ""
	if event.ProtocolData != nil && event.ProtocolData.TLS != nil {
		certificate = event.ProtocolData.TLS.PrincipalID
	}
	answer, err := iot.ParseAuthorizerAnswer(body, certificate)
	if err != nil || a.cfg.CheckPolicy == nil {
		return answer, err
	}
	for i, document := range answer.Policies {
		if err := a.cfg.CheckPolicy(document); err != nil {
			return answer, iot.Errorf(iot.InvalidResponse, "policyDocuments[%d] is not a policy: %v", i, err)
		}
	}
	return answer, nil
}

// refuse makes a refusal and tells the operator of it.
func (a *Authenticator) refuse(ctx context.Context, auth *iot.Authorizer, reason Reason, text string) *Refusal {
	level := slog.LevelInfo
	if reason == Failed || reason == Busy {
		level = slog.LevelWarn
	}
	a.log.Log(ctx, level, "custom authorizer refused a client", "authorizer", auth.Name, "function", auth.Function, "reason", string(reason), "err", text)
	return &Refusal{Reason: reason, Text: text}
}

// TestInvoke asks the function of an authorizer as it would be asked for a client that said what
// the test has; the authorizer may be inactive. NotFound; InvalidRequest for a token that no key
// signed; InvalidResponse for no answer, or one that is not in order (identity spec §6.7).
func (a *Authenticator) TestInvoke(ctx context.Context, t iot.AuthorizerTest) (iot.AuthorizerAnswer, error) {
	auth, err := a.cfg.Registry.Authorizer(ctx, t.Name)
	if err != nil {
		return iot.AuthorizerAnswer{}, err
	}
	event := iot.AuthorizerEvent{Token: t.Token, Protocols: []string{}}
	for _, p := range []struct {
		name   string
		spoken bool
	}{{"tls", t.TLS != nil}, {"http", t.HTTP != nil}, {"mqtt", t.MQTT != nil}} {
		if p.spoken {
			event.Protocols = append(event.Protocols, p.name)
			event.ProtocolData = &iot.ProtocolData{TLS: t.TLS, HTTP: t.HTTP, MQTT: t.MQTT}
		}
	}
	if !auth.SigningDisabled {
		if !auth.Verified(t.Token, t.Signature) {
			return iot.AuthorizerAnswer{}, iot.Errorf(iot.InvalidRequest, "tokenSignature is not that of the token by a key of authorizer %s", t.Name)
		}
		event.SignatureVerified = true
	}
	body, err := a.cfg.Functions.Call(ctx, auth.Function, event)
	if errors.Is(err, webhook.ErrBusy) {
		return iot.AuthorizerAnswer{}, iot.Errorf(iot.Unavailable, "%s", err.Error())
	}
	if err != nil {
		return iot.AuthorizerAnswer{}, iot.Errorf(iot.InvalidResponse, "%s", err.Error())
	}
	return a.parse(body, event)
}

// parameters returns what finds a value that the client gave, anywhere: in a header before the
// query before the query of the user name (identity spec §10, A-31).
func (r *Request) parameters() func(key string) string {
	query := pairs(r.Query)
	username := map[string]string{}
	if r.MQTT != nil {
		_, q, _ := strings.Cut(r.MQTT.Username, "?")
		username = pairs(q)
	}
	return func(key string) string {
		header := r.Header.Get(key)
		if strings.EqualFold(key, signatureKey) && strings.Contains(header, "%") {
			header = unescape(header) // some clients escape it here, too
		}
		return cmp.Or(header, query[strings.ToLower(key)], username[strings.ToLower(key)])
	}
}

// pairs reads a query. A plus sign is itself: signatures in base64 have some, and not every
// client escapes them (identity spec §6.3). Names are without case.
func pairs(query string) map[string]string {
	m := map[string]string{}
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		m[strings.ToLower(unescape(name))] = unescape(value)
	}
	return m
}

// unescape decodes %XX; text that is escaped wrongly stands as it is.
func unescape(s string) string {
	if u, err := url.PathUnescape(s); err == nil {
		return u
	}
	return s
}

// data is what the function is told of the request.
func (r *Request) data() *iot.ProtocolData {
	d := &iot.ProtocolData{TLS: r.TLS, MQTT: r.MQTT}
	if r.Header != nil {
		d.HTTP = &iot.HTTPData{Headers: make(map[string]string, len(r.Header))}
		for name, values := range r.Header {
			d.HTTP.Headers[name] = strings.Join(values, ",")
		}
		if r.Query != "" {
			d.HTTP.Query = "?" + r.Query
		}
	}
	return d
}

// Cache keeps decisions for the requests of one HTTP connection. The zero Cache is empty; a nil
// one keeps nothing.
type Cache struct {
	mu   sync.Mutex
	kept []cached // few: a connection is one client's
}

type cached struct {
	key     [sha256.Size]byte
	until   time.Time
	decided Decision
}

// maxCached is how many decisions one connection can have: a proxy has several clients.
const maxCached = 16

func (c *Cache) find(key [sha256.Size]byte, now time.Time) (Decision, bool) {
	if c == nil {
		return Decision{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.kept {
		if k.key == key && now.Before(k.until) {
			return k.decided, true
		}
	}
	return Decision{}, false
}

func (c *Cache) keep(key [sha256.Size]byte, d Decision, until time.Time) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kept = slices.DeleteFunc(c.kept, func(k cached) bool { return k.key == key })
	if len(c.kept) == maxCached {
		c.kept = c.kept[1:]
	}
	c.kept = append(c.kept, cached{key, until, d})
}

// cacheKey covers all by which a client shows who it is, and the state of the authorizer.
func cacheKey(auth *iot.Authorizer, r *Request, token, signature string) [sha256.Size]byte {
	text, err := json.Marshal([]any{auth.Name, auth.ModifiedAt, token, signature, r.Query, r.Header["Authorization"], r.Header["Cookie"], r.TLS})
	if err != nil {
		panic("authorizer: text and numbers that cannot be JSON: " + err.Error())
	}
	return sha256.Sum256(text)
}
