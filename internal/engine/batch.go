package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"drover/internal/iot"
	"drover/internal/store"
)

// ask is a device's request on its way.
type ask struct {
	*iot.Request
	arrived time.Time
	reply   func(*iot.Answer, error)
	answer  *iot.Answer
	err     error
}

// inbox is where requests wait for the next batch.
type inbox struct {
	batch, size int

	mu      sync.Mutex
	room    sync.Cond
	arrived sync.Cond
	waiting []*ask
	closed  bool
	asked   bool // since used was called
}

func newInbox(batch, size int) *inbox {
	b := &inbox{batch: batch, size: size}
	b.room.L, b.arrived.L = &b.mu, &b.mu
	return b
}

// put adds a request, waiting for room. If more are to come at once, the next batch need
// not begin before ring. It reports false once the inbox is closed.
func (b *inbox) put(a *ask, more bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.waiting) >= b.size && !b.closed {
		b.arrived.Signal()
		b.room.Wait()
	}
	if b.closed {
		return false
	}
	b.asked = true
	b.waiting = append(b.waiting, a)
	if !more {
		b.arrived.Signal()
	}
	return true
}

// ring begins the next batch.
func (b *inbox) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.arrived.Signal()
}

// take waits for requests and returns the next batch in order of arrival; nil once the
// inbox is closed and empty.
func (b *inbox) take() []*ask {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.waiting) == 0 && !b.closed {
		b.arrived.Wait()
	}
	n := min(len(b.waiting), b.batch)
	if n == 0 {
		return nil
	}
	batch := slices.Clone(b.waiting[:n])
	rest := copy(b.waiting, b.waiting[n:])
	clear(b.waiting[rest:])
	b.waiting = b.waiting[:rest]
	b.room.Broadcast()
	return batch
}

// depth returns how many requests wait.
func (b *inbox) depth() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting)
}

// used reports whether there have been requests since the last call.
func (b *inbox) used() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer func() { b.asked = false }()
	return b.asked
}

func (b *inbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.room.Broadcast()
	b.arrived.Broadcast()
}

var errStopping = iot.Errorf(iot.Unavailable, "The server is shutting down")

// Submit joins a device's request to the next batch. reply is called exactly once, from
// another goroutine, after what the answer says is durable; it must not block, and
// Config.Told follows. Submit itself blocks while more requests wait than the configuration
// allows.
//
// Errors: InvalidRequest; ResourceNotFound for an unregistered thing or an execution
// that does not exist; InvalidStateTransition and VersionMismatch with the execution's
// state; TerminalState; Unavailable when the server stops; Internal.
func (e *Engine) Submit(r *iot.Request, reply func(*iot.Answer, error)) {
	e.submit(r, reply, false)
}

// Queue is Submit for requests that come together: the batch that they join need not
// begin before Flush, which must follow soon.
func (e *Engine) Queue(r *iot.Request, reply func(*iot.Answer, error)) {
	e.submit(r, reply, true)
}

// Flush begins a batch of what has been queued.
func (e *Engine) Flush() { e.inbox.ring() }

func (e *Engine) submit(r *iot.Request, reply func(*iot.Answer, error), more bool) {
	err := r.Check()
	if err == nil && !e.inbox.put(&ask{Request: r, arrived: time.Now(), reply: reply}, more) {
		err = errStopping
	}
	if err != nil {
		reply(nil, err)
		e.told()
	}
}

// Do is Submit for callers that wait. If ctx ends first, the request may or may not
// have been carried out.
func (e *Engine) Do(ctx context.Context, r *iot.Request) (*iot.Answer, error) {
	type result struct {
		answer *iot.Answer
		err    error
	}
	done := make(chan result, 1)
	e.Submit(r, func(a *iot.Answer, err error) { done <- result{a, err} })
	select {
	case res := <-done:
		return res.answer, res.err
	case <-ctx.Done():
		return nil, iot.Errorf(iot.Unavailable, "The request was given up: %v", context.Cause(ctx))
	}
}

// runBatches carries out batches until ctx ends and the inbox is empty.
func (e *Engine) runBatches(ctx context.Context) error {
	stop := context.AfterFunc(ctx, e.inbox.close)
	defer stop()
	for {
		batch := e.inbox.take()
		if batch == nil {
			return nil
		}
		// A batch that was taken is finished, whatever happens to ctx.
		e.batchOnce(context.WithoutCancel(ctx), batch)
	}
}

// batchOnce carries out a batch in one transaction and sees to it that each request is
// answered once.
func (e *Engine) batchOnce(ctx context.Context, batch []*ask) {
	began := time.Now()
	if e.tracer != nil {
		var span trace.Span
		ctx, span = e.tracer.Start(ctx, "batch", trace.WithAttributes(
			attribute.Int("drover.requests", len(batch)),
			attribute.Float64("drover.waited", began.Sub(batch[0].arrived).Seconds())))
		defer span.End()
	}
	err := e.publisher.wait(ctx)
	if err == nil {
		err = e.store.Update(ctx, func(tx store.Tx) error {
			w := e.work(tx, e.now(), "").expecting(len(batch))
			if err := e.carryOut(w, batch); err != nil {
				return err
			}
			if err := w.flush(); err != nil {
				return err
			}
			tx.AfterCommit(func() { e.publisher.answers(batch) })
			return nil
		})
	}
	if err != nil {
		trace.SpanFromContext(ctx).SetStatus(codes.Error, err.Error())
		e.log.ErrorContext(ctx, "batch failed", "requests", len(batch), "err", err)
		failed := iot.Errorf(iot.Internal, "The request could not be carried out")
		if iot.ErrorCode(err) == iot.Unavailable {
			failed = iot.Errorf(iot.Unavailable, "The request could not be carried out now")
		}
		for _, a := range batch {
			a.answer, a.err = nil, failed
			a.reply(nil, failed)
		}
		e.metrics.answered(batch)
		e.told()
	}
	e.metrics.batch(len(batch), time.Since(began), err)
}

// carryOut applies the rules to the requests in order of arrival.
func (e *Engine) carryOut(w *work, batch []*ask) error {
	names := make([]iot.ThingName, 0, len(batch))
	index := make(map[iot.ThingName]int, len(batch))
	for _, a := range batch {
		if _, ok := index[a.Thing]; !ok {
			index[a.Thing] = len(names)
			names = append(names, a.Thing)
		}
	}
	queues, err := w.tx.Queues(names)
	if err != nil {
		return fmt.Errorf("load queues: %w", err)
	}
	if err := w.hide(queues); err != nil {
		return err
	}
	for _, a := range batch {
		q := &queues[index[a.Thing]]
		if q.ThingID == 0 {
			a.answer, a.err = nil, noThing(a.Thing)
			continue
		}
		a.answer, a.err = e.request(w, q, a.Request)
		// What is not a refusal is a broken store: nothing of this batch can be trusted.
		if code := iot.ErrorCode(a.err); code == iot.Internal || code == iot.Unavailable {
			return a.err
		}
	}
	return nil
}

// request carries out one request on its thing's queue.
func (e *Engine) request(w *work, q *iot.Queue, r *iot.Request) (*iot.Answer, error) {
	answer := new(iot.Answer)
	switch r.Op {
	case iot.OpGetPending:
		answer.InProgress, answer.Queued = q.Pending(r.Namespace)
		return answer, nil

	case iot.OpStartNext:
		timeout, err := w.timeout(q.Next(r.Namespace))
		if err != nil {
			return nil, err
		}
		next, change := q.StartNext(w.now, r, timeout)
		switch {
		case change == nil:
		case change.Reposition():
			w.apply(q, *change, r.Actor)
		default: // a step timer alone is nothing to tell
			w.touch(q)
			w.update(change.Execution)
		}
		return e.withDocument(w, answer, next, true)

	case iot.OpDescribe:
		if r.JobID == iot.NextJob {
			next := q.Next(r.Namespace)
			if next == nil {
				return answer, nil
			}
			found := *next
			return e.withDocument(w, answer, &found, r.WantDocument)
		}
		if found := q.Find(r.JobID, r.Number); found != nil && found.Namespace == r.Namespace {
			copied := *found
			return e.withDocument(w, answer, &copied, r.WantDocument)
		}
		ended, err := e.history(w, q, r)
		if err != nil {
			return nil, err
		}
		return nil, iot.Errorf(iot.TerminalState, "Execution %d of job %s has ended as %s", ended.Number, ended.JobID, ended.Status)

	case iot.OpUpdate:
		timeout, err := w.timeout(q.Find(r.JobID, r.Number))
		if err != nil {
			return nil, err
		}
		change, err := q.Update(w.now, r, timeout)
		if err != nil {
			return nil, err
		}
		if change == nil {
			ended, err := e.history(w, q, r)
			if err != nil {
				return nil, err
			}
			return nil, ended.RefuseUpdate(r)
		}
		if err := w.end(q, *change, r.Actor); err != nil {
			return nil, err
		}
		if r.WantState {
			answer.State = change.Execution.State()
		}
		answer, err = e.withDocument(w, answer, &change.Execution, r.WantDocument)
		if answer != nil {
			answer.Execution = nil // an update is answered with the state only
		}
		return answer, err
	}
	return nil, fmt.Errorf("engine: unknown operation %d", r.Op)
}

// withDocument completes an answer with an execution and the document of its job.
func (e *Engine) withDocument(w *work, answer *iot.Answer, x *iot.Execution, want bool) (*iot.Answer, error) {
	answer.Execution = x
	if x == nil || !want {
		return answer, nil
	}
	var err error
	if answer.Document, err = e.documents.delivery(w.tx, x); err != nil {
		return nil, fmt.Errorf("load the document of job %s: %w", x.JobID, err)
	}
	return answer, nil
}

// history finds an execution that is not pending any more. ResourceNotFound if there is
// none in the request's namespace.
func (e *Engine) history(w *work, q *iot.Queue, r *iot.Request) (*iot.Execution, error) {
	absent := noExecution(r.Thing, r.JobID, r.Number)
	if x := w.ended(q.ThingID, r.JobID, r.Number); x != nil && x.Namespace == r.Namespace {
		return x, nil
	}
	j, err := job(w.tx, r.JobID)
	if err != nil {
		if iot.ErrorCode(err) == iot.NotFound {
			return nil, absent
		}
		return nil, err
	}
	x, err := w.tx.Execution(j.ID, q.ThingID, r.Number)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, absent
	case err != nil:
		return nil, err
	case x.Namespace != r.Namespace || x.Status.Pending():
		return nil, absent
	}
	return &x, nil
}

func sortedKeys[V any](m map[int64]V) []int64 { return slices.Sorted(maps.Keys(m)) }
