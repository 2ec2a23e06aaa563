package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"drover/internal/iot"
	"drover/internal/store"
)

// publisher hands on answers and records in the order of the commits.
type publisher struct {
	e       *Engine
	publish func(context.Context, []iot.Record) error

	mu      sync.Mutex
	changed sync.Cond // signals items and room
	items   []item
	batch   []*ask    // committed just now: its records follow
	backlog int       // records in items
	handing time.Time // commit of what is handed on now; zero: nothing is
	closed  bool

	// Of the records of this node in the journal; only run and recover use them.
	position, saved int64
	safe            int64           // what saving waits for
	settled         <-chan struct{} // closed when everything up to safe is; nil: ask first
}

// item is what one commit has to tell: first the answers, then the records.
type item struct {
	answers []*ask
	records []iot.Record
	at      time.Time // of the commit
	// The records are those of a dead node.
	foreign   bool
	published chan<- struct{} // closed when they have been published; may be nil
}

const (
	page       = 1000   // records that are read at a time
	maxBacklog = 50_000 // records that may wait before writers do
	savePeriod = time.Second
	// advancePeriod bounds how many records of others lie behind the position of an idle node.
	advancePeriod = time.Minute
	// settlePatience is less than a server has for stopping.
	settlePatience = 5 * time.Second
)

func newPublisher(e *Engine, publish func(context.Context, []iot.Record) error) *publisher {
	p := &publisher{e: e, publish: publish}
	p.changed.L = &p.mu
	return p
}

// committed takes over the records of a commit. It is the store's hook.
func (p *publisher) committed(records []iot.Record) {
	p.mu.Lock()
	defer p.mu.Unlock()
	it := item{answers: p.batch, records: records}
	p.batch = nil
	if len(it.answers) > 0 || len(it.records) > 0 {
		p.putLocked(it)
	}
}

// put adds what is to be handed on besides commits.
func (p *publisher) put(it item) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.putLocked(it)
}

func (p *publisher) putLocked(it item) {
	it.at = time.Now()
	p.items = append(p.items, it)
	p.backlog += len(it.records)
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

// run hands on what is committed until close. What is committed when others may have taken this
// node for dead, and is not sure any more until ctx ends, is left to them; as is, if ctx ends, what
// cannot be told because the database is out of reach.
func (p *publisher) run(ctx context.Context) error {
	last, advanced := time.Now(), time.Now()
	var failed error
	for {
		p.mu.Lock()
		for len(p.items) == 0 && !p.closed {
			p.changed.Wait()
		}
		items, closed := p.items, p.closed
		p.items = nil
		if len(items) > 0 {
			p.handing = items[0].at
		}
		p.mu.Unlock()
		if len(items) == 0 && closed {
			switch {
			case failed == nil:
				return p.save()
			case errors.Is(failed, store.ErrFenced): // which the engine says itself
				return nil
			}
			return fmt.Errorf("records are left to other nodes, or to the next run: %w", failed)
		}
		if failed == nil {
			failed = p.e.store.Hold(ctx)
		}
		failed = p.deliver(ctx, items, failed)
		if failed != nil || time.Since(last) < savePeriod {
			continue
		}
		last = time.Now()
		err := p.saveSettled()
		if err == nil && p.e.shared && last.Sub(advanced) >= advancePeriod && p.position == p.saved {
			advanced = last
			err = p.advance()
		}
		if err != nil {
			// The position only spares repetition after a crash.
			p.e.log.Warn("save the journal's position", "err", err)
		}
	}
}

// look lets run save the position, though nothing is committed.
func (p *publisher) look() { p.put(item{}) }

// deliver hands on items: of each commit the answers first. Records are published unless something
// has failed; it returns what has.
func (p *publisher) deliver(ctx context.Context, items []item, failed error) error {
	for _, it := range items {
		for _, a := range it.answers {
			a.reply(a.answer, a.err)
		}
		p.e.metrics.answered(it.answers)
		failed = p.handOn(ctx, it, failed)
		if len(it.answers) > 0 {
			p.e.told()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handing = time.Time{}
	return failed
}

// behind returns how many records are committed and not handed on, and for how long the oldest
// commit has waited for that.
func (p *publisher) behind() (records int, age time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	oldest := p.handing
	if oldest.IsZero() && len(p.items) > 0 {
		oldest = p.items[0].at
	}
	if !oldest.IsZero() {
		age = time.Since(oldest)
	}
	return p.backlog, age
}

// drain hands on what is there, for an engine that does not run.
func (p *publisher) drain(ctx context.Context) error {
	p.mu.Lock()
	items := p.items
	p.items = nil
	p.mu.Unlock()
	return p.deliver(ctx, items, nil)
}

// handOn publishes the records of a commit, unless something has failed; it returns what has.
func (p *publisher) handOn(ctx context.Context, it item, failed error) error {
	records := it.records
	// What was committed while recover read the journal has been published by it.
	for !it.foreign && len(records) > 0 && records[0].ID <= p.position {
		records = records[1:]
	}
	if len(records) > 0 && failed == nil {
		failed = p.publish(ctx, records)
		if failed == nil && !it.foreign {
			p.position = records[len(records)-1].ID
			p.e.metrics.position.Set(float64(p.position))
		}
	}
	if failed == nil && it.published != nil {
		close(it.published)
	}
	if len(it.records) > 0 {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.backlog -= len(it.records)
		p.changed.Broadcast()
	}
	return failed
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
	err := p.e.store.Update(context.Background(), func(tx store.Tx) error { return tx.SetPublished(p.e.store.Node(), position) })
	if err != nil {
		return fmt.Errorf("save the journal's position: %w", err)
	}
	p.saved = position
	p.e.metrics.saved.Set(float64(position))
	return nil
}

// advance moves the position past the records of other nodes while this one has nothing to publish:
// who takes over from it need not look through them.
func (p *publisher) advance() error {
	return p.e.store.Update(context.Background(), func(tx store.Tx) error {
		last, err := tx.LastRecord()
		if err != nil || !p.empty() {
			return err
		}
		return tx.SetPublished(p.e.store.Node(), last)
	})
}

// empty reports whether everything that was committed has been handed on.
func (p *publisher) empty() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.backlog == 0
}

// recover publishes what a former process did not that was the same node. A device gets at most one notice of
// each kind, with the list as it is now.
func (p *publisher) recover(ctx context.Context) error {
	noticed := make(map[noticeKey]bool)
	for {
		var records []iot.Record
		err := p.e.view(ctx, func(tx store.Reader) (err error) {
			if p.position == 0 {
				if p.position, err = tx.Published(p.e.store.Node()); err != nil {
					return err
				}
				p.saved = p.position
			}
			if records, err = tx.Records(p.e.store.Node(), p.position, page); err != nil {
				return err
			}
			return currentQueues(tx, records, noticed)
		})
		if err != nil {
			return err
		}
		if len(records) > 0 {
			if err := p.publish(ctx, records); err != nil {
				return err
			}
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
