package engine

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what an operator asks about. No label holds the name of a job or thing.
type metrics struct {
	size    prometheus.Histogram
	seconds prometheus.Histogram
	loops   *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		size: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "drover_batch_requests", Help: "Requests of devices per commit.", Buckets: prometheus.ExponentialBuckets(1, 2, 11),
		}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "drover_batch_seconds", Help: "Time from taking a batch to its commit.", Buckets: prometheus.ExponentialBuckets(0.0002, 2, 14),
		}),
		loops: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "drover_executions_total", Help: "Executions that background loops created, canceled or deleted.",
		}, []string{"loop"}),
	}
	if reg != nil {
		reg.MustRegister(m.size, m.seconds, m.loops)
	}
	return m
}

func (m *metrics) batch(requests int, took time.Duration) {
	m.size.Observe(float64(requests))
	m.seconds.Observe(took.Seconds())
}
