package engine

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"drover/internal/iot"
	"drover/internal/store"
)

// metrics counts what an operator asks about. No label holds the name of a job or thing.
type metrics struct {
	shown    bool // to somebody
	size     prometheus.Histogram
	seconds  prometheus.Histogram
	failed   prometheus.Counter
	requests map[iot.Op]prometheus.Observer

	loops     *prometheus.CounterVec
	lag       *prometheus.GaugeVec
	lags      sync.Map // loop to time.Duration
	succeeded *prometheus.GaugeVec
	failures  *prometheus.CounterVec

	position, saved prometheus.Gauge

	jobs, executions *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	gauge := func(name, help, label string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{label})
	}
	m := &metrics{
		shown:    reg != nil,
		requests: make(map[iot.Op]prometheus.Observer),
		size: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "drover_batch_requests", Help: "Requests of devices per commit.", Buckets: prometheus.ExponentialBuckets(1, 2, 11),
		}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "drover_batch_seconds", Help: "Time from taking a batch to its commit.", Buckets: prometheus.ExponentialBuckets(0.0002, 2, 14),
		}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "drover_batch_failures_total", Help: "Batches that were not committed; each of their requests was refused.",
		}),
		loops: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "drover_executions_total", Help: "Executions that background loops created, canceled, timed out or deleted, by the loop or phase.",
		}, []string{"loop"}),
		lag:       gauge("drover_loop_lag_seconds", "For how long the longest due job or execution had been due when the loop last looked.", "loop"),
		succeeded: gauge("drover_loop_success_timestamp_seconds", "When the loop last did a round without an error.", "loop"),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "drover_loop_failures_total", Help: "Rounds of a background loop that failed, and are tried again.",
		}, []string{"loop"}),
		position:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "drover_journal_position", Help: "The last record of the journal that was published."}),
		saved:      prometheus.NewGauge(prometheus.GaugeOpts{Name: "drover_journal_saved_position", Help: "The last record that would not be published again after a crash."}),
		jobs:       gauge("drover_jobs", "Jobs that are kept, by status, as of the last count.", "status"),
		executions: gauge("drover_executions", "Executions that are kept, by status, as of the last count.", "status"),
	}
	latency := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "drover_device_request_seconds", Help: "Time from the arrival of a request of a device to its answer, by operation.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
	}, []string{"operation"})
	for _, op := range iot.Ops() {
		m.requests[op] = latency.WithLabelValues(op.String())
	}
	for _, l := range []string{"jobs", "timeouts", "retention", "totals"} {
		m.failures.WithLabelValues(l)
	}
	for _, p := range []iot.Phase{iot.PhaseRollout, iot.PhaseCancel, iot.PhaseEnd, iot.PhaseWindow, iot.PhaseDelete} {
		m.loops.WithLabelValues(string(p))
	}
	m.loops.WithLabelValues("timeout")
	if reg != nil {
		reg.MustRegister(m.size, m.seconds, m.failed, latency, m.loops, m.lag, m.succeeded, m.failures, m.position, m.saved, m.jobs, m.executions)
	}
	return m
}

// watch registers what is looked up when it is asked for.
func (m *metrics) watch(reg prometheus.Registerer, e *Engine) {
	if reg == nil {
		return
	}
	gauge := func(name, help string, value func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	gauge("drover_inbox_requests", "Requests of devices that wait for the next batch.", func() float64 { return float64(e.inbox.depth()) })
	gauge("drover_journal_unpublished_records", "Records that are committed and not handed to those who are told.", func() float64 {
		records, _ := e.publisher.behind()
		return float64(records)
	})
	gauge("drover_journal_unpublished_seconds", "For how long the oldest commit has waited for that, its answers included.", func() float64 {
		_, age := e.publisher.behind()
		return age.Seconds()
	})
}

func (m *metrics) batch(requests int, took time.Duration, err error) {
	m.size.Observe(float64(requests))
	m.seconds.Observe(took.Seconds())
	if err != nil {
		m.failed.Inc()
	}
}

// answered measures requests that have just been answered.
func (m *metrics) answered(batch []*ask) {
	if len(batch) == 0 {
		return
	}
	now := time.Now()
	for _, a := range batch {
		m.requests[a.Op].Observe(now.Sub(a.arrived).Seconds())
	}
}

// late notes since when something has been due for a loop, zero for nothing.
func (m *metrics) late(loop string, now, due iot.Time) {
	if due == 0 {
		due = now
	}
	lag := time.Duration(max(0, now-due)) * time.Millisecond
	m.lag.WithLabelValues(loop).Set(lag.Seconds())
	m.lags.Store(loop, lag)
}

// Lags returns for how long the longest due work of each loop had been due when the loop last looked.
func (e *Engine) Lags() map[string]time.Duration {
	lags := make(map[string]time.Duration)
	e.metrics.lags.Range(func(loop, lag any) bool {
		lags[loop.(string)] = lag.(time.Duration)
		return true
	})
	return lags
}

// How often jobs and executions are counted: what that costs stays below a hundredth of the time.
const (
	totalsPeriod = 10 * time.Second
	totalsShare  = 100
	totalsPage   = 2000 // jobs
)

// totalsOnce sums up the counts that are kept of each job.
func (e *Engine) totalsOnce(ctx context.Context) (bool, error) {
	if time.Now().Before(e.totalsAt) {
		return false, nil
	}
	began := time.Now()
	jobs := make(map[iot.JobStatus]int)
	var executions iot.Counts
	for after := int64(0); ; {
		var page []store.JobTotal
		err := e.view(ctx, func(tx store.Reader) (err error) {
			page, err = tx.JobTotals(after, totalsPage)
			return err
		})
		if err != nil {
			return false, fmt.Errorf("count jobs and executions: %w", err)
		}
		for _, j := range page {
			jobs[j.Status]++
			for s, n := range j.Counts {
				executions[s] += n
			}
			after = j.ID
		}
		if len(page) < totalsPage {
			break
		}
	}
	for _, s := range iot.JobStatuses() {
		e.metrics.jobs.WithLabelValues(string(s)).Set(float64(jobs[s]))
	}
	for s, n := range executions {
		if s := iot.ExecutionStatus(s); s != iot.NoStatus {
			e.metrics.executions.WithLabelValues(s.String()).Set(float64(n))
		}
	}
	e.totalsAt = time.Now().Add(totalsShare * time.Since(began))
	return false, nil
}
