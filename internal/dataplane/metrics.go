package dataplane

import (
	"github.com/prometheus/client_golang/prometheus"

	"drover/internal/iot"
)

// requestMetrics counts what devices ask for, by transport (mqtt, https), operation and
// result (accepted, or the code of the refusal, which over HTTPS is the status).
type requestMetrics struct{ requests *prometheus.CounterVec }

func newRequestMetrics(reg prometheus.Registerer) requestMetrics {
	m := requestMetrics{prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "drover_device_requests_total",
		Help: "Requests of devices, by transport, operation and result.",
	}, []string{"transport", "operation", "result"})}
	if reg != nil {
		reg.MustRegister(m.requests)
	}
	return m
}

const resultAccepted = "accepted"

func (m requestMetrics) countMQTT(op iot.Op, err error) {
	result := resultAccepted
	if err != nil {
		_, r := refusal(err)
		result = r.mqtt
	}
	m.requests.WithLabelValues("mqtt", op.String(), result).Inc()
}

// publishMetrics counts what is published, by kind: notify, notify-next, event, command, shadow.
type publishMetrics struct{ notify, notifyNext, event, command, shadow prometheus.Counter }

func newPublishMetrics(reg prometheus.Registerer) publishMetrics {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "drover_published_total",
		Help: "Messages that the server published to at least one subscriber, by kind.",
	}, []string{"kind"})
	if reg != nil {
		reg.MustRegister(v)
	}
	return publishMetrics{
		notify:     v.WithLabelValues("notify"),
		notifyNext: v.WithLabelValues("notify-next"),
		event:      v.WithLabelValues("event"),
		command:    v.WithLabelValues("command"),
		shadow:     v.WithLabelValues("shadow"),
	}
}
