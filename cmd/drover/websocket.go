package main

import (
	"net/http"

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
