package main

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"drover/internal/auth"
	"drover/internal/wire"
)

// webSocketPath is where devices speak MQTT over WebSocket, as with AWS.
const webSocketPath = "/mqtt"

// webSocketFront serves handshakes for MQTT over WebSocket (identity spec §1.3). A signature counts
// wherever the client comes from, and so does what a handshake says to a custom authorizer; over TLS a
// client that says nothing yet is the authorizers' matter when it says CONNECT; without TLS it must be
// of this machine, or insecure. Who is refused is told so before the upgrade.
func webSocketFront(verify func(*http.Request) (auth.Identity, error), g *guard, insecure bool, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		connection, _ := auth.IdentityFrom(r.Context())
		switch {
		case connection.Principal.Certificate != "":
		case auth.IsSigned(r):
			id, err := verify(r)
			if err != nil {
				forbidden(w, "Forbidden")
				return
			}
			id.Source, id.Secure = connection.Source, connection.Secure
			r = r.WithContext(auth.WithIdentity(r.Context(), id))
		default:
			var admitted bool
			var err error
			if r, admitted, err = g.welcome(r); err != nil {
				g.turnAway(w, r, err)
				return
			}
			if !admitted && !connection.Secure && !insecure && !(connection.Source.Unmap().IsLoopback() && !forwarded(r)) {
				forbidden(w, "MQTT over WebSocket without TLS and without a signature is for clients of the same machine, or needs --insecure")
				return
			}
		}
		next(w, r)
	}
}

// origins are those of pages that may open WebSockets besides the server's own.
type origins []string

// allow reports whether the page that opens a WebSocket may do so. A browser lets any page open one to any
// server, and says which; whom it connects is then decided by what the browser adds by itself: a client
// certificate, a cookie, or nothing but to be on this machine. Who carries his credentials in the URL,
// as AWS's SDK for browsers does, comes from anywhere.
func (o origins) allow(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || slices.Contains(o, origin) {
		return true
	}
	id, _ := auth.IdentityFrom(r.Context())
	if id.Principal.AccessKeyID != "" && auth.IsPresigned(r) {
		return true
	}
	if r.Context().Value(admissionKey{}) != nil && r.Header.Get("Cookie") == "" && r.Header.Get("Authorization") == "" {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil || !strings.EqualFold(u.Host, r.Host) {
		return false
	}
	// Without TLS anybody's name may lead here, for as long as he wants (DNS rebinding).
	host := u.Hostname()
	return id.Secure || host == "localhost" || net.ParseIP(host) != nil
}

// forwarded reports whether a proxy passed the request on: then it is not of this machine, although
// the connection is.
func forwarded(r *http.Request) bool {
	for _, header := range []string{"Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via"} {
		if r.Header.Values(header) != nil {
			return true
		}
	}
	return false
}

func forbidden(w http.ResponseWriter, message string) {
	wire.WriteError(w, &wire.Error{Code: "ForbiddenException", Status: http.StatusForbidden, Message: message})
}
