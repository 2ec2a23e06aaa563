package main

import (
	"net"
	"net/http"

	"drover/internal/wire"
)

// webSocketPath is where devices speak MQTT over WebSocket, as with AWS.
const webSocketPath = "/mqtt"

// onLoopback lets only clients of this machine through, unless insecure: devices over
// WebSocket are not authenticated yet.
func onLoopback(insecure bool, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		addr, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		if tcp, ok := addr.(*net.TCPAddr); !insecure && (!ok || !tcp.IP.IsLoopback()) {
			wire.WriteError(w, &wire.Error{Code: "ForbiddenException", Status: http.StatusForbidden,
				Message: "MQTT over WebSocket does not authenticate devices yet: it needs a loopback address, or --insecure"})
			return
		}
		next(w, r)
	}
}
