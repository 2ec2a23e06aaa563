package main

import (
	"cmp"
	"context"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"drover/internal/broker"
	"drover/internal/dataplane"
	"drover/internal/iot"
	"drover/internal/ota"
	"drover/internal/registry"
)

// The data plane and the broker do not know each other; here each is shown to the other
// in the words it has for it.

// brokerHandler is the data plane as the broker sees it.
type brokerHandler struct {
	handler   *dataplane.Handler
	publisher *dataplane.Publisher
	things    *registry.Registry
	guard     *guard
	ended     *prometheus.CounterVec // connections, by reason
}

func (h *brokerHandler) Connected(c *broker.Client) {
	h.guard.connected(c)
	h.publisher.Connected(connection(c))
	h.things.ClientConnected(c.ID(), c.SessionID())
}

func (h *brokerHandler) Disconnected(c *broker.Client, reason broker.DisconnectReason) {
	h.ended.WithLabelValues(string(reason)).Inc()
	h.guard.disconnected(c)
	h.publisher.Disconnected(connection(c), string(reason))
	h.things.ClientDisconnected(c.ID(), c.SessionID(), string(reason))
}

func (h *brokerHandler) AllowSubscribe(c *broker.Client, filter string) bool {
	allowed := dataplane.AllowSubscribe(filter)
	if !allowed {
		h.guard.problems.Note(c.ID(), dataplane.SubscribeRefused, filter)
	}
	return allowed
}

func (h *brokerHandler) Publish(c *broker.Client, m broker.Message) broker.Verdict {
	verdict := h.handler.HandlePublish(client{c}, dataplane.Message{Topic: m.Topic, Payload: m.Payload, QoS: m.QoS, Retain: m.Retain})
	switch verdict {
	case dataplane.Route:
		return broker.Route
	case dataplane.Taken:
		return broker.Handled
	}
	h.guard.problems.Note(c.ID(), dataplane.ReservedTopic, m.Topic)
	return broker.Refuse
}

func (h *brokerHandler) EndBatch() { h.handler.Flush() }

func (h *brokerHandler) Subscribed(c *broker.Client, filters []string) {
	h.publisher.Subscribed(connection(c), filters)
}

func (h *brokerHandler) Unsubscribed(c *broker.Client, filters []string) {
	h.publisher.Unsubscribed(connection(c), filters)
}

// client is a connection as the data plane sees it.
type client struct{ *broker.Client }

// Certificate implements dataplane.Client.
func (c client) Certificate() iot.CertificateID { return certificateOf(c.Client) }

// deviceStreams are the streams as the data plane sees them.
type deviceStreams struct{ *ota.Service }

// Open implements dataplane.Streams.
func (s deviceStreams) Open(ctx context.Context, f iot.StreamFile) (dataplane.Blob, error) {
	return s.Service.Open(ctx, f)
}

// certificateOf returns the certificate that a client showed, "" for none.
func certificateOf(c *broker.Client) iot.CertificateID {
	if v := visitorOf(c); v != nil && v.conn != nil {
		return v.conn.CertificateID()
	}
	return ""
}

func (c client) Deliver(topic string, payload []byte, qos byte) {
	// A client that has gone does not get its answer; the broker counts it.
	_ = c.Client.Deliver(broker.Message{Topic: topic, Payload: payload, QoS: qos})
}

func connection(c *broker.Client) dataplane.Connection {
	address := c.RemoteAddr().String()
	if host, _, err := net.SplitHostPort(address); err == nil {
		address = host
	}
	// Without a certificate the client id is all there is to say of a device.
	principal := cmp.Or(c.Identity().Principal, c.ID())
	known := dataplane.Connection{ClientID: c.ID(), Session: c.SessionID(), Principal: principal, Address: address}
	if v := visitorOf(c); v != nil {
		known.Thing = string(v.thing)
	}
	return known
}

// brokerSide is the broker as the data plane sees it.
type brokerSide struct{ broker *broker.Broker }

func (b brokerSide) HasSubscribers(topic string) bool { return b.broker.HasSubscribers(topic) }

func (b brokerSide) Publish(topic string, payload []byte, qos byte) {
	b.broker.Publish(broker.Message{Topic: topic, Payload: payload, QoS: qos})
}

func (b brokerSide) PublishFor(topic string, payload []byte, contentType string, life time.Duration) {
	b.broker.Publish(messageFor(topic, payload, contentType, life))
}

func messageFor(topic string, payload []byte, contentType string, life time.Duration) broker.Message {
	return broker.Message{Topic: topic, Payload: payload, QoS: 1, Expires: machineTime().Add(life), Properties: &broker.Properties{ContentType: contentType}}
}
