// Package fleetsim plays a fleet of devices: over MQTT it does what the agents
// on real devices do, against any server that speaks AWS IoT Jobs.
//
// One device, from its connection to its idleness (spec §11.13 "Get next" and
// "Reconnect"):
//
//	connect ──► subscribe ──► start-next ◄────────────────────────────┐
//	   ▲                        │     │                               │
//	   │ lost: back off,        │     └─ nothing ──► idle ─ notify-next┤
//	   │ keep what is           ▼                                     │
//	   │ being worked on      work: update IN_PROGRESS, a few times    │
//	   └────────────────────    └──► update SUCCEEDED or FAILED ───────┘
//
// A device keeps the execution in its hands over a lost connection: it goes on
// where it was if start-next hands it out again, and reports a result that it
// could not deliver before it asks for more. So every execution that was handed
// out ends once, whatever happens to the connection.
//
// A device is one goroutine. It waits for the server and for its own clock in
// one place, the read deadline of its connection; see conn.
//
// [Register] and [Import] put things into a registry over signed HTTPS, so that
// there is a fleet to play.
package fleetsim
