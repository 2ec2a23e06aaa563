package main

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"drover/internal/access"
	"drover/internal/broker"
	"drover/internal/dataplane"
	"drover/internal/gate"
	"drover/internal/iot"
)

// The data plane and the broker do not know each other; here each is shown to the other
// in the words it has for it.

// brokerHandler is the data plane as the broker sees it.
type brokerHandler struct {
	handler   *dataplane.Handler
	publisher *dataplane.Publisher
	access    *access.Decider
	log       *slog.Logger
	sessions  sync.Map // *broker.Client -> *access.Session, of clients with certificates
	problems  *dataplane.Problems
}

func (h *brokerHandler) Connected(c *broker.Client) {
	if conn, ok := c.Conn().(*gate.Conn); ok {
		conn.OnDrop(c.Expel)
	}
	if id := certificateOf(c); id != "" {
		who := access.Client{Certificate: id, MQTT: true, ClientID: c.ID(), Secure: true}
		if address, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil {
			who.SourceIP = address.Addr()
		}
		h.sessions.Store(c, h.access.Session(who))
	}
	h.publisher.Connected(connection(c))
}

// permitted reports what the policies of a client say. Who has no certificate came by a listener
// that asks nobody who he is, and may do what is not reserved.
func (h *brokerHandler) permitted(c *broker.Client, what, topic string, decide func(*access.Session) access.Decision) bool {
	session, ok := h.sessions.Load(c)
	if !ok {
		return certificateOf(c) == ""
	}
	decision := decide(session.(*access.Session))
	if !decision.Allowed() {
		h.log.Debug("device denied", "client", c, "action", what, "topic", topic, "why", decision)
	}
	return decision.Allowed()
}

func (h *brokerHandler) Disconnected(c *broker.Client, reason broker.DisconnectReason) {
	h.sessions.Delete(c)
	h.publisher.Disconnected(connection(c), string(reason))
}

func (h *brokerHandler) AllowSubscribe(c *broker.Client, filter string) bool {
	allowed := dataplane.AllowSubscribe(filter) && h.permitted(c, "subscribe", filter, func(s *access.Session) access.Decision {
		return s.Subscribe(context.Background(), filter)
	})
	if !allowed {
		h.problems.Note(c.ID(), dataplane.SubscribeRefused, filter)
	}
	return allowed
}

func (h *brokerHandler) Publish(c *broker.Client, m broker.Message) broker.Verdict {
	// What is reserved comes before what is permitted (identity spec A-33).
	if !h.handler.AllowPublish(m.Topic) {
		h.problems.Note(c.ID(), dataplane.ReservedTopic, m.Topic)
		return broker.Refuse
	}
	if !h.permitted(c, "publish", m.Topic, func(s *access.Session) access.Decision {
		return s.Publish(context.Background(), m.Topic, m.Retain)
	}) {
		h.problems.Note(c.ID(), dataplane.PublishDenied, m.Topic)
		return broker.Deny
	}
	verdict := h.handler.HandlePublish(client{c}, dataplane.Message{Topic: m.Topic, Payload: m.Payload, QoS: m.QoS, Retain: m.Retain})
	switch verdict {
	case dataplane.Route:
		return broker.Route
	case dataplane.Taken:
		return broker.Handled
	}
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
	if conn, ok := c.Conn().(*gate.Conn); ok {
		return conn.CertificateID()
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
	principal := cmp.Or(string(certificateOf(c)), c.ID())
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
