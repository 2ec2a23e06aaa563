package main

import (
	"net/http"

	"drover/internal/auth"
	"drover/internal/wire"
)

// webSocketPath is where devices speak MQTT over WebSocket, as with AWS.
const webSocketPath = "/mqtt"

// webSocketFront serves handshakes for MQTT over WebSocket (identity spec §1.3). A signature counts
// wherever the client comes from; over TLS a client without one is the custom authorizers' matter,
// which the broker asks; without TLS it must be of this machine, or insecure.
func webSocketFront(verify func(*http.Request) (auth.Identity, error), insecure bool, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		connection, _ := auth.IdentityFrom(r.Context())
		switch {
		case auth.IsPresigned(r):
			id, err := verify(r)
			if err != nil {
				forbidden(w, "Forbidden")
				return
			}
			id.Source, id.Secure = connection.Source, connection.Secure
			r = r.WithContext(auth.WithIdentity(r.Context(), id))
		case !connection.Secure && !insecure && !(connection.Source.Unmap().IsLoopback() && !forwarded(r)):
			forbidden(w, "MQTT over WebSocket without TLS and without a signature is for clients of the same machine, or needs --insecure")
			return
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
