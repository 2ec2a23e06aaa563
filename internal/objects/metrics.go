package objects

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests  *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
	sent      prometheus.Counter
	received  prometheus.Counter
	downloads prometheus.Gauge
	refused   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "drover_object_requests_total", Help: "Requests to the object store, by operation and error code; no code if it went well.",
		}, []string{"operation", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "drover_object_request_seconds", Help: "How long requests to the object store took, transfer included.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 10),
		}, []string{"operation"}),
		sent:      prometheus.NewCounter(prometheus.CounterOpts{Name: "drover_object_sent_bytes_total", Help: "Bytes of objects sent."}),
		received:  prometheus.NewCounter(prometheus.CounterOpts{Name: "drover_object_received_bytes_total", Help: "Bytes of objects received."}),
		downloads: prometheus.NewGauge(prometheus.GaugeOpts{Name: "drover_object_downloads", Help: "Downloads that are running."}),
		refused:   prometheus.NewCounter(prometheus.CounterOpts{Name: "drover_object_downloads_refused_total", Help: "Downloads refused because too many were running."}),
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.seconds, m.sent, m.received, m.downloads, m.refused)
	}
	return m
}

// known bounds the values of the label: what is no operation of S3 is one of them.
var known = func() map[string]bool {
	all := map[string]bool{"CopyObject": true, "UploadPartCopy": true}
	for _, op := range operations {
		all[op.name] = true
	}
	return all
}()

func (m *metrics) answered(op, code string, began time.Time) {
	if !known[op] {
		op = "other"
	}
	m.requests.WithLabelValues(op, code).Inc()
	m.seconds.WithLabelValues(op).Observe(time.Since(began).Seconds())
}
