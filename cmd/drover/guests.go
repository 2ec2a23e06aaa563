package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/google/uuid"

	"drover/internal/auth"
	"drover/internal/auth/policy"
	"drover/internal/authorizer"
	"drover/internal/broker"
	"drover/internal/gate"
	"drover/internal/iot"
	"drover/internal/wire"
)

// admission is that a custom authorizer has let somebody in.
type admission struct {
	request  authorizer.Request
	decision authorizer.Decision
	policies []*policy.Policy
	at       time.Time
}

// left is how much of the time is left that the authorizer gave to the connection; 0 if there is
// no end.
func (a *admission) left(now time.Time) time.Duration {
	if a.decision.Disconnect == 0 {
		return 0
	}
	return max(a.at.Add(a.decision.Disconnect).Sub(now), 1)
}

// question is what an authorizer is told of a request, or of the handshake of a WebSocket.
func question(r *http.Request) authorizer.Request {
	q := authorizer.Request{Connection: uuid.NewString(), Header: r.Header, Query: r.URL.RawQuery}
	if c, ok := r.Context().Value(httpConnKey{}).(*httpConn); ok {
		q.TLS, q.Cache = tlsData(c.tls), &c.decisions
	}
	return q
}

// tlsData is what an authorizer is told of TLS, nil if that is not spoken.
func tlsData(c *gate.Conn) *iot.TLSData {
	if c == nil {
		return nil
	}
	return &iot.TLSData{ServerName: c.TLS().ServerName}
}

// admit has a custom authorizer decide about somebody from an address. The errors are those of a
// broker.Authenticator: he is not told which part of what he showed was wrong.
func (g *guard) admit(ctx context.Context, q authorizer.Request, from netip.Addr) (*admission, error) {
	shown := credential(q)
	if !g.failures.May(auth.ByFunction, from, shown) {
		return nil, fmt.Errorf("%w: too many failures from %s", broker.ErrUnavailable, from)
	}
	d, err := g.authorizers.Authorize(ctx, q)
	var refused *authorizer.Refusal
	switch {
	case err == nil:
		g.failures.Succeeded(auth.ByFunction, from, shown)
	case !errors.As(err, &refused), refused.Reason == authorizer.Busy:
		return nil, fmt.Errorf("%w: %w", broker.ErrUnavailable, err)
	default:
		if refused.Reason != authorizer.Failed { // which is not his fault
			g.failures.Failed(auth.ByFunction, from)
		}
		return nil, fmt.Errorf("%w: %w", broker.ErrBadCredentials, err)
	}
	policies, err := parsePolicies(d.Policies)
	return &admission{request: q, decision: d, policies: policies, at: g.now()}, err
}

// credential is a hash of all that can show to an authorizer who a client is: who has not got it
// cannot make it.
func credential(q authorizer.Request) string {
	h := sha256.New()
	header := q.Header.Clone()
	header.Del("Sec-Websocket-Key") // another one each time
	header.Del("Content-Length")
	// Writing to a hash never fails.
	_ = header.Write(h)
	_, _ = fmt.Fprintf(h, "%q", q.Query)
	if m := q.MQTT; m != nil {
		_, _ = fmt.Fprintf(h, "%q%q%q", m.ClientID, m.Username, m.Password)
	}
	return string(h.Sum(nil))
}

// isGuests reports whether a request is one that an authorizer decides about: publishing a message
// without a signature (identity spec §6.6).
func isGuests(r *http.Request) bool {
	return r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/topics/") && !auth.IsSigned(r)
}

// guest finds out who sent a request without a signature, and returns it with his identity.
func (g *guard) guest(r *http.Request) (*http.Request, error) {
	id, _ := auth.IdentityFrom(r.Context())
	a, err := g.admit(r.Context(), question(r), id.Source)
	if err != nil {
		return r, err
	}
	id.Principal.Guest = &auth.Guest{Name: a.decision.Principal, Policies: a.policies}
	return r.WithContext(auth.WithIdentity(r.Context(), id)), nil
}

// turnAway answers somebody whom no authorizer let in. He is not told why.
func (g *guard) turnAway(w http.ResponseWriter, r *http.Request, err error) {
	g.log.DebugContext(r.Context(), "guest refused", "path", r.URL.Path, "remote", r.RemoteAddr, "err", err)
	if errors.Is(err, broker.ErrUnavailable) {
		wire.WriteError(w, &wire.Error{Code: "ServiceUnavailableException", Status: http.StatusServiceUnavailable, Message: "Try again later"})
		return
	}
	forbidden(w, "Forbidden")
}

type admissionKey struct{}

// welcome decides about the handshake of a WebSocket that carries what an authorizer needs, and
// returns it with the admission. A handshake that carries nothing comes back as it is, not admitted:
// its client can still say it in the CONNECT.
func (g *guard) welcome(r *http.Request) (_ *http.Request, admitted bool, err error) {
	q := question(r)
	asked, err := g.authorizers.Asked(r.Context(), q)
	if err != nil {
		return r, false, fmt.Errorf("%w: %w", broker.ErrUnavailable, err)
	}
	if !asked {
		return r, false, nil
	}
	id, _ := auth.IdentityFrom(r.Context())
	a, err := g.admit(r.Context(), q, id.Source)
	if err != nil {
		return r, false, err
	}
	return r.WithContext(context.WithValue(r.Context(), admissionKey{}, a)), true, nil
}

// admission returns how a client was let in by an authorizer, which is asked unless it has
// decided about the handshake already and the CONNECT says nothing more.
func (g *guard) admission(ctx context.Context, l broker.Login, conn *gate.Conn, from netip.Addr) (*admission, error) {
	q := authorizer.Request{Connection: uuid.NewString(), TLS: tlsData(conn)}
	if r := l.Request; r != nil {
		q = question(r)
		if a, ok := r.Context().Value(admissionKey{}).(*admission); ok {
			name, query, _ := strings.Cut(l.Username, "?")
			if name == "" && l.Password == nil && !strings.Contains(query, "x-amz-customauthorizer-") {
				return a, nil // a query alone is what SDKs say of themselves
			}
			q.Connection = a.request.Connection
		}
	}
	q.MQTT = &iot.MQTTData{Username: l.Username, Password: l.Password, ClientID: l.ClientID}
	return g.admit(ctx, q, from)
}
