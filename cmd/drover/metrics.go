package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"drover/internal/broker"
	"drover/internal/store/sqlstore"
	"drover/internal/wire"
)

// Every metric is described in docs/operations.md, and a test of the conformance suite compares the
// two. No label holds the name of a thing, a job or a client.

// newMetrics returns the registry of /metrics with what is known of the program.
func newMetrics() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "drover_build_info", Help: "1, with the version of drover and of Go as labels.",
		ConstLabels: prometheus.Labels{"version": release(), "go": runtime.Version()},
	})
	build.Set(1)
	registry.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// frontMetrics counts what comes in by HTTP and who is not let in.
type frontMetrics struct {
	requests    *prometheus.CounterVec
	seconds     *prometheus.HistogramVec
	refused     *prometheus.CounterVec
	connections prometheus.Gauge
}

func newFrontMetrics(reg prometheus.Registerer) *frontMetrics {
	m := &frontMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "drover_api_requests_total", Help: "Requests to the API that were let in, by operation and error code; no code if it went well.",
		}, []string{"operation", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "drover_api_request_seconds", Help: "Time from the request to its answer, by operation.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"operation"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "drover_refused_total", Help: "Who was not let in, by plane (api, device, mqtt) and reason.",
		}, []string{"plane", "reason"}),
		connections: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "drover_http_connections", Help: "Open connections over which HTTP is spoken; WebSockets are not among them.",
		}),
	}
	reg.MustRegister(m.requests, m.seconds, m.refused, m.connections)
	return m
}

// observe counts a request that has been answered.
func (m *frontMetrics) observe(operation string, e *wire.Error, took time.Duration) {
	code := ""
	if e != nil {
		code = e.Code
	}
	m.requests.WithLabelValues(operation, code).Inc()
	m.seconds.WithLabelValues(operation).Observe(took.Seconds())
}

// own counts the requests of an operation of drover's own.
func (m *frontMetrics) own(operation string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began, answer := time.Now(), &recorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(answer, r)
		var e *wire.Error
		if answer.status >= http.StatusBadRequest {
			e = &wire.Error{Code: answer.Header().Get("X-Amzn-Errortype"), Status: answer.status}
		}
		m.observe(operation, e, time.Since(began))
		wire.NameSpan(r.Context(), operation, e)
	})
}

// The planes of drover_refused_total.
const (
	planeAPI    = "api"
	planeDevice = "device"
	planeMQTT   = "mqtt"
)

func (m *frontMetrics) refuse(plane, reason string) { m.refused.WithLabelValues(plane, reason).Inc() }

// connState counts connections, for http.Server.
func (m *frontMetrics) connState(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		m.connections.Inc()
	case http.StateClosed, http.StateHijacked:
		m.connections.Dec()
	}
}

// doorkeeper counts whom the guard does not let in.
type doorkeeper struct {
	*guard
	metrics *frontMetrics
}

// Authenticate implements broker.Authenticator.
func (d doorkeeper) Authenticate(ctx context.Context, l broker.Login) (broker.Identity, error) {
	id, err := d.guard.Authenticate(ctx, l)
	switch {
	case err == nil:
	case errors.Is(err, broker.ErrBadCredentials):
		d.metrics.refuse(planeMQTT, "bad_credentials")
	case errors.Is(err, broker.ErrUnavailable):
		d.metrics.refuse(planeMQTT, "unavailable")
	default:
		d.metrics.refuse(planeMQTT, "not_authorized")
	}
	return id, err
}

// brokerMetrics shows the broker's own counters, all as of one moment.
type brokerMetrics struct {
	broker *broker.Broker
	values []brokerMetric
}

type brokerMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(broker.Stats) float64
}

func newBrokerMetrics(b *broker.Broker) *brokerMetrics {
	m := &brokerMetrics{broker: b}
	gauge := func(name, help string, value func(broker.Stats) int) {
		m.values = append(m.values, brokerMetric{prometheus.NewDesc(name, help, nil, nil), prometheus.GaugeValue, func(s broker.Stats) float64 { return float64(value(s)) }})
	}
	counter := func(name, help string, value func(broker.Stats) uint64) {
		m.values = append(m.values, brokerMetric{prometheus.NewDesc(name, help, nil, nil), prometheus.CounterValue, func(s broker.Stats) float64 { return float64(value(s)) }})
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
	return m
}

// Describe implements prometheus.Collector.
func (m *brokerMetrics) Describe(descs chan<- *prometheus.Desc) {
	for _, v := range m.values {
		descs <- v.desc
	}
}

// Collect implements prometheus.Collector.
func (m *brokerMetrics) Collect(metrics chan<- prometheus.Metric) {
	stats := m.broker.Stats()
	for _, v := range m.values {
		metrics <- prometheus.MustNewConstMetric(v.desc, v.kind, v.value(stats))
	}
}

// newDisconnects counts connections that have ended, by why.
func newDisconnects(reg prometheus.Registerer) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "drover_mqtt_disconnects_total", Help: "MQTT connections that have ended, by reason, in the words of lifecycle events.",
	}, []string{"reason"})
	reg.MustRegister(v)
	return v
}

// registerStoreStats shows what the database takes up.
func registerStoreStats(reg prometheus.Registerer, db *sqlstore.DB) {
	gauge := func(name, help string, value func(sqlstore.Stats) int64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(value(db.Stats())) }))
	}
	gauge("drover_store_bytes", "Size of the SQLite file; 0 on PostgreSQL.", func(s sqlstore.Stats) int64 { return s.Bytes })
	gauge("drover_store_wal_bytes", "Size of its write-ahead log; 0 on PostgreSQL.", func(s sqlstore.Stats) int64 { return s.WALBytes })
	gauge("drover_store_readers", "Connections to the database for reading, at most.", func(s sqlstore.Stats) int64 { return int64(s.Readers) })
	gauge("drover_store_readers_busy", "Those of them that somebody reads with.", func(s sqlstore.Stats) int64 { return int64(s.Busy) })
}
