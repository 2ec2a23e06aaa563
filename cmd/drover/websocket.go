package main

import (
	"net/http"
	"net/netip"

	"drover/internal/wire"
)

// webSocketPath is where devices speak MQTT over WebSocket, as with AWS.
const webSocketPath = "/mqtt"

// onLoopback lets only clients of this machine through, unless insecure: devices over
// WebSocket are not authenticated yet.
func onLoopback(insecure bool, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		from, err := netip.ParseAddrPort(r.RemoteAddr)
		if !insecure && (err != nil || !from.Addr().Unmap().IsLoopback()) {
			wire.WriteError(w, &wire.Error{Code: "ForbiddenException", Status: http.StatusForbidden,
				Message: "MQTT over WebSocket does not authenticate devices yet: it is for clients of the same machine, or needs --insecure"})
			return
		}
		next(w, r)
	}
}
