package engine

import (
	"context"
	"fmt"
	"sync"
	"time"

	"drover/internal/iot"
	"drover/internal/store"
)

// publisher hands on answers and records in the order of the commits.
type publisher struct {
	e       *Engine
	publish func([]iot.Record)

	mu      sync.Mutex
	changed sync.Cond // signals items and room
	items   []item
	batch   []*ask // committed just now: its records follow
	backlog int    // records in items
	closed  bool

	// Of the journal; only run and recover use them.
	position, saved int64
	safe            int64           // what saving waits for
	settled         <-chan struct{} // closed when everything up to safe is; nil: ask first
}

// item is what one commit has to tell: first the answers, then the records.
type item struct {
	answers []*ask
	records []iot.Record
}

const (
	maxBacklog = 50_000 // records that may wait before writers do
	savePeriod = time.Second
	// settlePatience is less than a server has for stopping.
	settlePatience = 5 * time.Second
)

func newPublisher(e *Engine, publish func([]iot.Record)) *publisher {
	p := &publisher{e: e, publish: publish}
	p.changed.L = &p.mu
	return p
}

// committed takes over the records of a commit. It is the store's hook.
func (p *publisher) committed(records []iot.Record) {
	p.mu.Lock()
	defer p.mu.Unlock()
	it := item{p.batch, records}
	p.batch = nil
	if len(it.answers) == 0 && len(it.records) == 0 {
		return
	}
	p.items = append(p.items, it)
	p.backlog += len(records)
	p.changed.Broadcast()
}

// answers takes over the answers of a commit; committed follows.
func (p *publisher) answers(batch []*ask) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.batch = batch
}

// wait blocks a writer while the publisher is far behind.
func (p *publisher) wait(ctx context.Context) error { return p.below(ctx, maxBacklog) }

// below waits until no more than so many records are to be handed on.
func (p *publisher) below(ctx context.Context, records int) error {
	stop := context.AfterFunc(ctx, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.changed.Broadcast()
	})
	defer stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.backlog > records && !p.closed {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		p.changed.Wait()
	}
	return nil
}

// idle waits until everything that was committed has been handed on.
func (p *publisher) idle(ctx context.Context) error { return p.below(ctx, 0) }

// close lets run return once everything is handed on.
func (p *publisher) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.changed.Broadcast()
}

// run hands on what is committed until close.
func (p *publisher) run() error {
	last := time.Now()
	for {
		p.mu.Lock()
		for len(p.items) == 0 && !p.closed {
			p.changed.Wait()
		}
		items, closed := p.items, p.closed
		p.items = nil
		p.mu.Unlock()
		if len(items) == 0 && closed {
			return p.save()
		}
		p.deliver(items)
		if time.Since(last) >= savePeriod {
			last = time.Now()
			if err := p.saveSettled(); err != nil {
				// The position only spares repetition after a crash.
				p.e.log.Warn("save the journal's position", "err", err)
			}
		}
	}
}

// deliver hands on items: of each commit the answers first.
func (p *publisher) deliver(items []item) {
	for _, it := range items {
		for _, a := range it.answers {
			a.reply(a.answer, a.err)
		}
		p.handOn(it.records)
		if len(it.answers) > 0 {
			p.e.told()
		}
	}
}

// drain hands on what is there, for an engine that does not run.
func (p *publisher) drain() {
	p.mu.Lock()
	items := p.items
	p.items = nil
	p.mu.Unlock()
	p.deliver(items)
}

// handOn publishes the records of a commit.
func (p *publisher) handOn(records []iot.Record) {
	n := len(records)
	if n == 0 {
		return
	}
	// What was committed while recover read the journal has been published by it.
	for len(records) > 0 && records[0].ID <= p.position {
		records = records[1:]
	}
	if len(records) > 0 {
		p.publish(records)
		p.position = records[len(records)-1].ID
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.backlog -= n
	p.changed.Broadcast()
}

// save stores how far the journal has been published, once all of that is safe. If that
// takes too long it is left to the next run to publish it again.
func (p *publisher) save() error {
	select {
	case <-p.e.settled():
	case <-time.After(settlePatience):
		p.e.log.Warn("what was published is not safe yet; it will be published again", "position", p.position)
		return nil
	}
	p.settled = nil
	return p.saveUpTo(p.position)
}

// saveSettled stores how far what has been published is safe: who publishes does not
// wait for that, but looks again at the next call.
func (p *publisher) saveSettled() error {
	if p.settled == nil {
		p.safe, p.settled = p.position, p.e.settled()
	}
	select {
	case <-p.settled:
		p.settled = nil
		return p.saveUpTo(p.safe)
	default:
		return nil
	}
}

func (p *publisher) saveUpTo(position int64) error {
	if position == p.saved {
		return nil
	}
	err := p.e.store.Update(context.Background(), func(tx store.Tx) error { return tx.SetPublished(position) })
	if err != nil {
		return fmt.Errorf("save the journal's position: %w", err)
	}
	p.saved = position
	return nil
}

// recover publishes what a former process did not. A device gets at most one notice of
// each kind, with the list as it is now.
func (p *publisher) recover(ctx context.Context) error {
	const page = 1000
	noticed := make(map[noticeKey]bool)
	for {
		var records []iot.Record
		err := p.e.view(ctx, func(tx store.Reader) (err error) {
			if p.position == 0 {
				if p.position, err = tx.Published(); err != nil {
					return err
				}
				p.saved = p.position
			}
			if records, err = tx.Records(p.position, page); err != nil {
				return err
			}
			return currentQueues(tx, records, noticed)
		})
		if err != nil {
			return err
		}
		if len(records) > 0 {
			p.publish(records)
			p.position = records[len(records)-1].ID
			p.e.log.InfoContext(ctx, "published records of a former run", "records", len(records), "position", p.position)
		}
		if len(records) < page {
			return p.save()
		}
	}
}

// noticeKey is what a device can have been told of once.
type noticeKey struct {
	thing     int64
	namespace string
	next      bool
}

// currentQueues fills in the queues that records tell of. Of several notices to one
// device only the first stays: all would tell the same.
func currentQueues(tx store.Reader, records []iot.Record, noticed map[noticeKey]bool) error {
	var ids []int64
	for _, r := range records {
		if r.List || r.Next {
			ids = append(ids, r.Execution.ThingID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	queues, err := tx.QueuesByID(ids)
	if err != nil {
		return err
	}
	n := 0
	for i := range records {
		r := &records[i]
		if !r.List && !r.Next {
			continue
		}
		q := &queues[n]
		n++
		list := noticeKey{r.Execution.ThingID, r.Execution.Namespace, false}
		next := noticeKey{r.Execution.ThingID, r.Execution.Namespace, true}
		r.List = r.List && !noticed[list]
		r.Next = r.Next && !noticed[next]
		noticed[list] = noticed[list] || r.List
		noticed[next] = noticed[next] || r.Next
		r.Queue = q.List(r.Execution.Namespace)
	}
	return nil
}
