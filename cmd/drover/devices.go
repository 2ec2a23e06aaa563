package main

import (
	"cmp"
	"net"

	"github.com/prometheus/client_golang/prometheus"

	"drover/internal/broker"
	"drover/internal/dataplane"
	"drover/internal/iot"
)

// The data plane and the broker do not know each other; here each is shown to the other
// in the words it has for it.

// brokerHandler is the data plane as the broker sees it.
type brokerHandler struct {
	handler   *dataplane.Handler
	publisher *dataplane.Publisher
	guard     *guard
}

func (h *brokerHandler) Connected(c *broker.Client) {
	h.guard.connected(c)
	h.publisher.Connected(connection(c))
}

func (h *brokerHandler) Disconnected(c *broker.Client, reason broker.DisconnectReason) {
	h.guard.disconnected(c)
	h.publisher.Disconnected(connection(c), string(reason))
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
	return dataplane.Connection{ClientID: c.ID(), Session: c.SessionID(), Principal: principal, Address: address}
}

// brokerSide is the broker as the data plane sees it.
type brokerSide struct{ broker *broker.Broker }

func (b brokerSide) HasSubscribers(topic string) bool { return b.broker.HasSubscribers(topic) }

func (b brokerSide) Publish(topic string, payload []byte, qos byte) {
	b.broker.Publish(broker.Message{Topic: topic, Payload: payload, QoS: qos})
}

// registerBrokerMetrics exposes the broker's own counters.
func registerBrokerMetrics(reg prometheus.Registerer, b *broker.Broker) {
	gauge := func(name, help string, value func(broker.Stats) int) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(value(b.Stats())) }))
	}
	counter := func(name, help string, value func(broker.Stats) uint64) {
		reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(value(b.Stats())) }))
	}
	gauge("drover_mqtt_connections", "Devices that are connected.", func(s broker.Stats) int { return s.Connections })
	gauge("drover_mqtt_sessions", "MQTT sessions, live and stored.", func(s broker.Stats) int { return s.Sessions })
	gauge("drover_mqtt_subscriptions", "Subscriptions of all sessions.", func(s broker.Stats) int { return s.Subscriptions })
	gauge("drover_mqtt_queued_messages", "QoS 1 messages held for clients with persistent sessions.", func(s broker.Stats) int { return s.Queued })
	gauge("drover_mqtt_queued_bytes", "Topics and payloads of these messages; one for many clients counts once.", func(s broker.Stats) int { return s.QueuedBytes })
	gauge("drover_mqtt_retained_messages", "Topics that have a retained message.", func(s broker.Stats) int { return s.Retained })
	gauge("drover_mqtt_retained_bytes", "Topics and payloads of retained messages.", func(s broker.Stats) int { return s.RetainedBytes })
	counter("drover_mqtt_accepted_total", "Connections that were accepted.", func(s broker.Stats) uint64 { return s.Accepted })
	counter("drover_mqtt_refused_total", "CONNECTs, PUBLISHes and filters that were refused.", func(s broker.Stats) uint64 { return s.Refused })
	counter("drover_mqtt_messages_in_total", "Messages received from clients.", func(s broker.Stats) uint64 { return s.MessagesIn })
	counter("drover_mqtt_messages_out_total", "Messages queued to clients.", func(s broker.Stats) uint64 { return s.MessagesOut })
	counter("drover_mqtt_dropped_total", "Messages lost because a queue was full, or greater than their client takes.", func(s broker.Stats) uint64 { return s.Dropped })
	counter("drover_mqtt_expired_total", "Messages that waited for their client until they were worthless.", func(s broker.Stats) uint64 { return s.Expired })
	counter("drover_mqtt_stored_total", "Messages written to the store for clients with persistent sessions.", func(s broker.Stats) uint64 { return s.Stored })
	counter("drover_mqtt_store_failures_total", "Attempts to write sessions and messages that failed, and were repeated.", func(s broker.Stats) uint64 { return s.StoreFails })
	counter("drover_mqtt_cut_off_total", "Connections ended because the client fell behind.", func(s broker.Stats) uint64 { return s.CutOff })
}
