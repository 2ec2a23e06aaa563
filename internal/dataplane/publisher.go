package dataplane

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"drover/internal/iot"
)

// Broker carries messages to whoever has subscribed.
type Broker interface {
	// HasSubscribers reports whether a message on topic would reach anybody, sessions that
	// wait for their client included.
	HasSubscribers(topic string) bool
	// Publish sends a message, not retained, and keeps payload. It does not block for long.
	Publish(topic string, payload []byte, qos byte)
	// PublishFor is Publish with QoS 1 of a message of a content type, which is worthless after its life.
	PublishFor(topic string, payload []byte, contentType string, life time.Duration)
}

// Documents finds job documents.
type Documents interface {
	// Document returns the document of the job of x for the device of x.
	Document(x *iot.Execution) (iot.Delivery, error)
}

// EventConfigurations finds out which events are on.
type EventConfigurations interface {
	EventConfigurations(ctx context.Context) (iot.EventConfigurations, error)
}

// PublisherConfig is what a Publisher needs. The interfaces and Realm are required, Signer if
// there are documents with placeholders.
type PublisherConfig struct {
	Broker    Broker
	Documents Documents
	Events    EventConfigurations
	Signer    Signer
	Realm     iot.Realm             // of the ARNs and the accountId in events
	Now       func() time.Time      // default time.Now
	Logger    *slog.Logger          // nil: none
	Metrics   prometheus.Registerer // nil: none
}

// Publisher tells subscribers what has happened. Everything is published with QoS 1, so
// that persistent sessions keep it, and without retain (spec §11.2).
type Publisher struct {
	broker    Broker
	documents Documents
	events    EventConfigurations
	signer    Signer
	realm     iot.Realm
	clock     func() time.Time
	log       *slog.Logger
	metrics   publishMetrics
	presence  presence

	// Used by Publish only, which has one caller at a time.
	enabled map[iot.EventType]bool
	current bool        // enabled is what the configuration says
	stale   atomic.Bool // or was, before it was changed elsewhere
}

// NewPublisher returns a Publisher for cfg.
func NewPublisher(cfg PublisherConfig) *Publisher {
	p := &Publisher{
		broker:    cfg.Broker,
		documents: cfg.Documents,
		events:    cfg.Events,
		signer:    cfg.Signer,
		realm:     cfg.Realm,
		clock:     cfg.Now,
		log:       cfg.Logger,
		metrics:   newPublishMetrics(cfg.Metrics),
	}
	if p.clock == nil {
		p.clock = time.Now
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	return p
}

func (p *Publisher) now() iot.Time { return iot.At(p.clock()) }

// Publish tells devices and applications of the records, which come in the order of the
// commits; it has one caller at a time. For each record notify goes before notify-next, and
// both before the event (spec §13.4). Nothing is made that nobody would get.
//
// What messages are made of may have to be read: while the database is out of reach everything waits
// for it. If ctx ends meanwhile the error says so, and what is left has not been told.
func (p *Publisher) Publish(ctx context.Context, records []iot.Record) error {
	for i := range records {
		r := &records[i]
		if r.List {
			p.publishList(r)
		}
		if r.Next {
			if err := p.publishNext(ctx, r); err != nil {
				return err
			}
		}
		if err := p.publishEvent(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// pause waits if err says that the database is out of reach, longer each time, and reports whether it
// is worth trying again: as long as ctx has not ended.
func (p *Publisher) pause(ctx context.Context, err error, waited *time.Duration) bool {
	const first, most = 10 * time.Millisecond, time.Second
	if iot.ErrorCode(err) != iot.Unavailable {
		return false
	}
	if *waited == 0 {
		p.log.Warn("messages wait for the database", "err", err)
	}
	*waited = max(first, min(2**waited, most))
	select {
	case <-time.After(*waited):
		return true
	case <-ctx.Done():
		return false
	}
}

func (p *Publisher) publishList(r *iot.Record) {
	topic := noticeTopic(r.Execution.Thing, notify, r.Execution.Namespace)
	if !p.broker.HasSubscribers(topic) {
		return
	}
	size := 64 + 160*min(len(r.Queue), iot.MaxPendingWindowed)
	p.broker.Publish(topic, appendList(make([]byte, 0, size), r.Queue, p.now()), 1)
	p.metrics.notify.Inc()
}

// publishNext fails only while the database is out of reach.
func (p *Publisher) publishNext(ctx context.Context, r *iot.Record) error {
	topic := noticeTopic(r.Execution.Thing, notifyNext, r.Execution.Namespace)
	if !p.broker.HasSubscribers(topic) {
		return nil
	}
	var next *iot.Execution
	var document string
	if len(r.Queue) > 0 {
		next = &r.Queue[0]
		var waited time.Duration
		delivery, err := p.documents.Document(next)
		for p.pause(ctx, err, &waited) {
			delivery, err = p.documents.Document(next)
		}
		if iot.ErrorCode(err) == iot.Unavailable {
			return err
		}
		if err == nil {
			document, err = render(delivery, p.signer)
		}
		if err != nil {
			// A notice without its document would be worse than none. Most likely the job has
			// been deleted meanwhile, and the notice of that is on its way.
			p.log.Warn("notify-next left out: no document", "thing", next.Thing, "job", next.JobID, "err", err)
			return nil
		}
	}
	p.broker.Publish(topic, appendNext(make([]byte, 0, 384+len(document)), next, document, p.now()), 1)
	p.metrics.notifyNext.Inc()
	return nil
}
