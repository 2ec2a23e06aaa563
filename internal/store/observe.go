package store

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"drover/internal/iot"
)

// Observe returns a Store that counts and measures what is done to s, for reg. Transactions of those who have a
// span get one, too, unless tracer is nil.
func Observe(s Store, reg prometheus.Registerer, tracer trace.Tracer) *Observed {
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
	o := &Observed{
		Store:  s,
		tracer: tracer,
		start:  time.Now(),
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

// Observed is a Store that is observed.
type Observed struct {
	Store
	tracer           trace.Tracer
	start            time.Time
	written, failing atomic.Int64 // when a change was last committed, and when the database last failed one: time.Duration since start

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
func (o *Observed) Update(ctx context.Context, f func(Tx) error) error {
	ctx, span := o.span(ctx, "update")
	asked := time.Now()
	var began, ran time.Time
	var refused error
	o.update.waiting.Inc()
	err := o.Store.Update(ctx, func(tx Tx) error {
		if began.IsZero() {
			began = time.Now()
			o.update.waiting.Dec()
			o.update.wait.Observe(began.Sub(asked).Seconds())
			span.AddEvent("begun")
		} else {
			o.repeated.Inc()
		}
		refused = f(tx)
		ran = time.Now()
		span.AddEvent("commit")
		return refused
	})
	if began.IsZero() {
		o.update.waiting.Dec()
	} else {
		ended := time.Now()
		o.update.run.Observe(ended.Sub(began).Seconds())
		if err == nil {
			o.commit.Observe(ended.Sub(ran).Seconds())
			o.written.Store(int64(ended.Sub(o.start)))
		}
	}
	if o.failed(ctx, err, refused) {
		o.failing.Store(int64(time.Since(o.start)))
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
	return err
}

// View implements Store.
func (o *Observed) View(ctx context.Context, f func(Reader) error) error {
	ctx, span := o.span(ctx, "view")
	asked := time.Now()
	var began time.Time
	var refused error
	o.view.waiting.Inc()
	err := o.Store.View(ctx, func(r Reader) error {
		began = time.Now()
		o.view.waiting.Dec()
		o.view.wait.Observe(began.Sub(asked).Seconds())
		span.AddEvent("begun")
		refused = f(r)
		return refused
	})
	if began.IsZero() {
		o.view.waiting.Dec()
	} else {
		o.view.run.Observe(time.Since(began).Seconds())
	}
	if o.failed(ctx, err, refused) {
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
	return err
}

// span begins one for a transaction, if it is part of something that has one: those of background loops, which come
// every second, have not.
func (o *Observed) span(ctx context.Context, kind string) (context.Context, trace.Span) {
	span := trace.SpanFromContext(ctx)
	if o.tracer == nil || !span.IsRecording() {
		return ctx, noop.Span{}
	}
	return o.tracer.Start(ctx, kind, trace.WithSpanKind(trace.SpanKindClient))
}

// fresh is for how long a commit shows that the database takes changes.
const fresh = 10 * time.Second

// Writable returns why the database takes no changes now, nil if it does: if none has been committed
// in the last ten seconds, or one has failed since, it tries a small one.
func (o *Observed) Writable(ctx context.Context) error {
	written := o.written.Load()
	if written > o.failing.Load() && time.Since(o.start)-time.Duration(written) < fresh {
		return nil
	}
	return o.Update(ctx, func(tx Tx) error {
		_, err := tx.Sequence(1)
		return err
	})
}

// failed counts what is the database's fault: neither refusals by what ran in the transaction, nor
// that somebody did not want to wait any longer. It reports whether it was.
func (o *Observed) failed(ctx context.Context, err, refused error) bool {
	switch {
	case err == nil:
		return false
	case errors.Is(err, ErrUnknown):
		o.unknown.Inc()
	case errors.Is(err, ErrFenced):
		o.fenced.Inc()
	case errors.Is(err, ErrUnavailable):
		o.unavailable.Inc()
	case ctx.Err() != nil, errors.Is(err, ErrNotFound), errors.Is(err, ErrExists):
		return false
	case refused == nil, iot.ErrorCode(refused) == iot.Internal:
		o.other.Inc()
	default:
		return false
	}
	return true
}
