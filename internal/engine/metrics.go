package engine

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"drover/internal/iot"
)

// metrics counts what an operator asks about. No label holds the name of a job or thing.
type metrics struct {
	requests *prometheus.CounterVec
	size     prometheus.Histogram
	seconds  prometheus.Histogram
	loops    *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "drover_device_requests_total", Help: "Requests of devices by operation and result code (OK or an error code).",
		}, []string{"operation", "code"}),
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
		reg.MustRegister(m.requests, m.size, m.seconds, m.loops)
	}
	return m
}

var opNames = map[iot.Op]string{
	iot.OpGetPending: "GetPendingJobExecutions", iot.OpStartNext: "StartNextPendingJobExecution",
	iot.OpDescribe: "DescribeJobExecution", iot.OpUpdate: "UpdateJobExecution",
}

func (m *metrics) batch(batch []*ask, d time.Duration) {
	m.size.Observe(float64(len(batch)))
	m.seconds.Observe(d.Seconds())
	for _, a := range batch {
		code := string(iot.ErrorCode(a.err))
		if code == "" {
			code = "OK"
		}
		m.requests.WithLabelValues(opNames[a.Op], code).Inc()
	}
}
