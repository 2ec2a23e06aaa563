package store

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"drover/internal/iot"
)

// Observe returns a Store that counts and measures what is done to s, for reg.
func Observe(s Store, reg prometheus.Registerer) Store {
	buckets := prometheus.ExponentialBuckets(0.0001, 2.5, 13) // to 6 s
	vec := func(name, help string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, []string{"kind"})
	}
	wait := vec("drover_store_wait_seconds", "Time that transactions waited for their turn or a connection, by kind: update, view.")
	run := vec("drover_store_transaction_seconds", "Time from their beginning to their end, commit included, by kind.")
	waiting := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "drover_store_waiting", Help: "Transactions that wait for their turn or a connection, by kind.",
	}, []string{"kind"})
	failures := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "drover_store_failures_total", Help: "Transactions that the database failed, by reason: unavailable, unknown (whether committed), fenced (the node is dead to the others), other.",
	}, []string{"reason"})
	o := &observed{
		Store:  s,
		update: transactions{wait.WithLabelValues("update"), run.WithLabelValues("update"), waiting.WithLabelValues("update")},
		view:   transactions{wait.WithLabelValues("view"), run.WithLabelValues("view"), waiting.WithLabelValues("view")},
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "drover_store_commit_seconds", Help: "Time that commits took, with the flush to disk.", Buckets: buckets,
		}),
		repeated: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "drover_store_repeated_total", Help: "Transactions that were run once more, because another process was in the way or the connection was lost.",
		}),
		unavailable: failures.WithLabelValues("unavailable"), unknown: failures.WithLabelValues("unknown"), fenced: failures.WithLabelValues("fenced"), other: failures.WithLabelValues("other"),
	}
	reg.MustRegister(wait, run, waiting, failures, o.commit, o.repeated)
	return o
}

type observed struct {
	Store
	update, view                        transactions
	commit                              prometheus.Histogram
	repeated                            prometheus.Counter
	unavailable, unknown, fenced, other prometheus.Counter
}

// transactions measures those of one kind.
type transactions struct {
	wait, run prometheus.Observer
	waiting   prometheus.Gauge
}

// Update implements Store.
func (o *observed) Update(ctx context.Context, f func(Tx) error) error {
	asked := time.Now()
	var began, ran time.Time
	var refused error
	o.update.waiting.Inc()
	err := o.Store.Update(ctx, func(tx Tx) error {
		if began.IsZero() {
			began = time.Now()
			o.update.waiting.Dec()
			o.update.wait.Observe(began.Sub(asked).Seconds())
		} else {
			o.repeated.Inc()
		}
		refused = f(tx)
		ran = time.Now()
		return refused
	})
	if began.IsZero() {
		o.update.waiting.Dec()
	} else {
		ended := time.Now()
		o.update.run.Observe(ended.Sub(began).Seconds())
		if err == nil {
			o.commit.Observe(ended.Sub(ran).Seconds())
		}
	}
	o.failed(ctx, err, refused)
	return err
}

// View implements Store.
func (o *observed) View(ctx context.Context, f func(Reader) error) error {
	asked := time.Now()
	var began time.Time
	var refused error
	o.view.waiting.Inc()
	err := o.Store.View(ctx, func(r Reader) error {
		began = time.Now()
		o.view.waiting.Dec()
		o.view.wait.Observe(began.Sub(asked).Seconds())
		refused = f(r)
		return refused
	})
	if began.IsZero() {
		o.view.waiting.Dec()
	} else {
		o.view.run.Observe(time.Since(began).Seconds())
	}
	o.failed(ctx, err, refused)
	return err
}

// failed counts what is the database's fault: neither refusals by what ran in the transaction, nor
// that somebody did not want to wait any longer.
func (o *observed) failed(ctx context.Context, err, refused error) {
	switch {
	case err == nil:
	case errors.Is(err, ErrUnknown):
		o.unknown.Inc()
	case errors.Is(err, ErrFenced):
		o.fenced.Inc()
	case errors.Is(err, ErrUnavailable):
		o.unavailable.Inc()
	case ctx.Err() != nil, errors.Is(err, ErrNotFound), errors.Is(err, ErrExists):
	case refused == nil, iot.ErrorCode(refused) == iot.Internal:
		o.other.Inc()
	}
}
