// Package dataplane is what devices speak: the jobs topics of MQTT (spec §11), the jobs data
// plane over HTTPS (spec §12), the topics of fleet provisioning (identity spec §7.6), and
// everything that the server tells on its own: notify and notify-next (spec §13), the events
// under $aws/events (spec §14, registry spec §7). It remembers what clients do in vain.
//
// It translates and decides nothing: requests become iot.Requests for the engine, answers,
// refusals and journal records become JSON.
//
//	publish ──► parseTopic ──► decode ──► Engine.Submit ──► encode ──► Client.Deliver
//	        └─► parseProvisioning ──► Provisioner ───────────► Client.Deliver
//	HTTPS ────► wire ─────────────────► Engine.Do ───────► wire
//	journal ──► Publisher.Publish ──► Broker.Publish
//
// Answers go to the client that asked and to nobody else; notices and events are ordinary
// messages. A client publishes to the request topics only: everything else below $ belongs
// to the server.
package dataplane
