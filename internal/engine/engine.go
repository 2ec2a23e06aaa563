package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"drover/internal/iot"
	"drover/internal/store"
)

// Config is what an Engine needs. Store and Realm are required.
type Config struct {
	Store store.Store
	Realm iot.Realm
	// Publish hands records on to whoever is connected, in the order of the commits. It is
	// called from one goroutine at a time. An error says that not all of them could be handed on
	// before ctx ended, and stops publishing: they are published by the next process, or by another node.
	Publish func(ctx context.Context, records []iot.Record) error
	// Told is called when the answers of a batch, and the records of its commit, have been
	// handed on. Default: nothing.
	Told func()
	// Installed is called after a commit that has left installs in the store (store.Install), for whoever
	// takes care of them. Default: nothing.
	Installed func()
	// Settled returns a channel that is closed when all that has been published so far is
	// safe with those who are to have it; only then is it noted as published, and not
	// published again after a crash. Default: at once.
	Settled func() <-chan struct{}
	Now     func() time.Time // default time.Now
	Logger  *slog.Logger
	Metrics prometheus.Registerer // nil: none
	Tracer  trace.Tracer          // of batches; nil: none

	BatchSize int // requests per commit, at most; default 512
	InboxSize int // requests waiting before Submit blocks; default 16,384
	ChunkSize int // executions per transaction of a background loop; default 2,000
	// Poll is how often the loops look for due work that nobody woke them for; default 1 s.
	Poll   time.Duration
	Limits Limits
	// Objects says which objects the placeholders of documents can name; none with
	// the zero value.
	Objects iot.ObjectStore
	// Retention is how long jobs are kept after they have ended, with all their executions;
	// default 730 days (spec §15.1).
	Retention time.Duration
	// JournalRetention is how long the journal keeps what has been published; default 90 days.
	JournalRetention time.Duration
}

// Limits are quotas of the service; zero fields do not limit (spec §15.1).
type Limits struct {
	ActiveJobs     int   // jobs IN_PROGRESS or SCHEDULED
	ConcurrentJobs int   // jobs whose executions are being created or canceled
	RolloutRate    int64 // executions a minute of a job that names no rate
}

// Engine runs jobs. Its methods may be called from many goroutines, once Run runs.
type Engine struct {
	store   store.Store
	realm   iot.Realm
	clock   func() time.Time
	log     *slog.Logger
	metrics *metrics
	tracer  trace.Tracer // nil: none
	told    func()
	settled func() <-chan struct{}

	shared    bool // other processes work on the database
	chunk     int
	poll      time.Duration
	retain    time.Duration
	remember  time.Duration // of the journal
	limits    Limits
	wake      chan struct{} // a hint that a job is due; the table is the truth
	started   chan struct{} // closed when Run works
	timers    chan struct{} // a hint that an execution times out at another time than before
	totalsAt  time.Time     // when jobs are counted next
	latest    iot.Time      // when the jobs' loop last looked
	inbox     *inbox
	publisher *publisher
	documents documents

	installing installing
	installed  func()
}

// New returns an Engine that does nothing before Run. It sets the store's commit hook.
func New(cfg Config) (*Engine, error) {
	if cfg.Store == nil {
		return nil, errors.New("engine: no store")
	}
	if err := cfg.Realm.Check(); err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	if cfg.Publish == nil {
		cfg.Publish = func(context.Context, []iot.Record) error { return nil }
	}
	if cfg.Settled == nil {
		closed := make(chan struct{})
		close(closed)
		cfg.Settled = func() <-chan struct{} { return closed }
	}
	if cfg.Told == nil {
		cfg.Told = func() {}
	}
	if cfg.Installed == nil {
		cfg.Installed = func() {}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	e := &Engine{
		store:     cfg.Store,
		realm:     cfg.Realm,
		clock:     cfg.Now,
		log:       cfg.Logger,
		metrics:   newMetrics(cfg.Metrics),
		tracer:    cfg.Tracer,
		told:      cfg.Told,
		settled:   cfg.Settled,
		installed: cfg.Installed,
		chunk:     cmp.Or(cfg.ChunkSize, 2000),
		poll:      cmp.Or(cfg.Poll, time.Second),
		wake:      make(chan struct{}, 1),
		timers:    make(chan struct{}, 1),
		started:   make(chan struct{}),
		retain:    cmp.Or(cfg.Retention, 730*24*time.Hour),
		remember:  cmp.Or(cfg.JournalRetention, 90*24*time.Hour),
		limits:    cfg.Limits,
		documents: documents{objects: cfg.Objects, now: cfg.Now},
		latest:    math.MaxInt64,
		inbox:     newInbox(cmp.Or(cfg.BatchSize, 512), cmp.Or(cfg.InboxSize, 16384)),
	}
	if e.shared = e.store.Node() != store.FirstNode; e.shared {
		e.documents.life = e.poll
	}
	e.publisher = newPublisher(e, cfg.Publish)
	e.metrics.watch(cfg.Metrics, e)
	e.store.OnCommit(e.publisher.committed)
	return e, nil
}

// Run publishes what a former process committed and did not publish, then works until
// ctx ends. It returns when every request that was submitted has its answer, every
// record is published and the journal's position is saved. If other nodes declare this one
// dead it ends by itself, with store.ErrFenced.
func (e *Engine) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	if err := e.publisher.recover(ctx); err != nil {
		return fmt.Errorf("publish what is left of the journal: %w", err)
	}
	var work errgroup.Group
	work.Go(func() error {
		select {
		case <-e.store.Lost():
			stop(store.ErrFenced)
			return store.ErrFenced
		case <-ctx.Done():
			return nil
		}
	})
	close(e.started)
	work.Go(func() error { return e.runNodes(ctx) })
	work.Go(func() error { return e.runBatches(ctx) })
	loops := []loop{
		{name: "jobs", once: e.jobsOnce, next: store.Reader.NextDue, wake: e.wake, rest: e.poll},
		{name: "timeouts", once: e.timeoutsOnce, next: store.Reader.NextDueExecution, wake: e.timers, rest: e.poll},
		{name: "retention", once: e.retentionOnce, rest: max(e.poll, retentionPeriod)},
	}
	if e.metrics.shown {
		loops = append(loops, loop{name: "totals", once: e.totalsOnce, rest: totalsPeriod})
	}
	for _, l := range loops {
		work.Go(func() error { return l.run(ctx, e) })
	}
	published := make(chan error, 1)
	go func() { published <- e.publisher.run(ctx) }()

	err := work.Wait()
	// Only now is everything committed that will be.
	e.publisher.close()
	return errors.Join(err, <-published)
}

// Started is closed when Run has published what a former process left, and works.
func (e *Engine) Started() <-chan struct{} { return e.started }

// Unpublished returns how many records are committed and not published, and for how long the oldest
// commit has waited for that, or for its answers.
func (e *Engine) Unpublished() (records int, age time.Duration) { return e.publisher.behind() }

func (e *Engine) now() iot.Time { return iot.At(e.clock()) }

// wakeUp tells the job loop that something is due.
func (e *Engine) wakeUp() { hint(e.wake) }

// hint wakes whoever waits on c, now or when it next looks.
func hint(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// update runs f in a transaction with one reading of the clock. It first lets the
// publisher catch up, so that a fast writer does not fill the memory with records.
func (e *Engine) update(ctx context.Context, actor string, f func(*work) error) error {
	if err := e.publisher.wait(ctx); err != nil {
		return err
	}
	return e.store.Update(ctx, func(tx store.Tx) error {
		w := e.work(tx, e.now(), actor)
		if err := f(w); err != nil {
			return err
		}
		return w.flush()
	})
}

// view runs f on a snapshot.
func (e *Engine) view(ctx context.Context, f func(store.Reader) error) error {
	return e.store.View(ctx, f)
}

// job finds the job, or says in the user's words that there is none; what cannot name a job names
// none, and no database is asked for it.
func job(tx store.Reader, id iot.JobID) (*iot.Job, error) {
	if !id.Valid() {
		return nil, noJob(id)
	}
	j, err := tx.JobByName(id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, noJob(id)
	}
	return j, err
}

// jobIn finds the job in a namespace; nil is any.
func jobIn(tx store.Reader, id iot.JobID, namespace *string) (*iot.Job, error) {
	j, err := job(tx, id)
	if err == nil && namespace != nil && *namespace != j.Namespace {
		return nil, noJob(id)
	}
	return j, err
}

func noJob(id iot.JobID) error {
	return iot.Errorf(iot.NotFound, "Job %s cannot be found", id)
}

func thing(tx store.Reader, name iot.ThingName) (*iot.Thing, error) {
	t, err := tx.ThingByName(name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, noThing(name)
	}
	return t, err
}

func noThing(name iot.ThingName) error {
	return iot.Errorf(iot.NotFound, "Thing %s cannot be found", name)
}

func noExecution(thing iot.ThingName, id iot.JobID, number int64) error {
	if number == 0 {
		return iot.Errorf(iot.NotFound, "Job %s has no execution on thing %s", id, thing)
	}
	return iot.Errorf(iot.NotFound, "Job %s has no execution %d on thing %s", id, number, thing)
}
