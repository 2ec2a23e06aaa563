// Package broker is an MQTT server for devices: MQTT 3.1.1 and 5 over any
// net.Listener, any net.Conn, and WebSocket. It keeps sessions and subscriptions, delivers messages, and
// asks its owner, a Handler, who may do what. It knows no job.
//
// # The life of a connection
//
//	accept ── CONNECT ── older connection of the same client id ended ── CONNACK
//	                                                                        │
//	                                                             Handler.Connected
//	                                                                        │
//	  packets: Handler.AllowSubscribe, Subscribed, Publish, Unsubscribed ◄──┤
//	                                                                        │
//	  DISCONNECT, error, silence, take-over, Client.Disconnect, Close ──────┘
//	        │
//	      will ── Handler.Disconnected ── the next connection of the client id
//
// Calls for one client id never overlap: Disconnected of a connection has
// returned before Connected of the next begins.
//
// # The way in
//
// A fleet is quiet most of the time, and a connection that is costs neither a buffer nor,
// on a plain socket, a goroutine: one poller waits for all of them (quiet.go). Packets are
// decoded in the buffer that they were read into, and all that one read brought is handled
// before anything is written. Silence is noticed by one wheel for all connections, not by
// a timer each.
//
// # The way out
//
// Nothing that sends ever waits for a client. Who sends a packet writes it, as far as the
// socket takes it at once; what it does not take is queued, within bounds, and written by
// a goroutine that lives as long as there is some. What the packets of one read cause
// leaves in one write. A client that falls behind by more than the queue is cut off and
// counted, never waited for and never sent a stream with silent holes.
// Messages to one client leave in the order of the Publish and Deliver calls
// within a QoS. QoS 1 messages above the client's receive maximum wait for its
// acknowledgements, and those of a persistent session for its return.
//
// # What outlives the process
//
// With a Store: persistent sessions, the QoS 1 messages that their clients do not have,
// retained messages, and wills (keeper.go). Everything is in memory, too; the store is read
// by New and written in groups. A PUBLISH is acknowledged when its message is stored, or
// acknowledged, for every persistent session that it goes to; a SUBSCRIBE of such a
// session when it is stored. Nothing else waits, and clean sessions write nothing.
//
// # What differs from the MQTT standard
//
// What AWS IoT Core does (broker spec §2.2): QoS 0 and 1 only; "a/#" does not
// match "a"; retained messages are sent for filters without wildcards only; the
// newest connection of a client id wins. Shared subscriptions work in 3.1.1, too.
package broker
