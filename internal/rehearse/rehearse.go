// Package rehearse runs a job on a fleet that does not exist: the real engine and the real
// rules on a temporary store, under a clock that jumps from one event to the next. A
// rollout of weeks takes seconds, and the same seed gives the same history.
package rehearse

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"drover/internal/engine"
	"drover/internal/iot"
	"drover/internal/store"
	"drover/internal/store/sqlstore"
)

// Group is the thing group that the simulated things are in.
const Group iot.GroupName = "fleet"

// Fleet says how the simulated things behave.
type Fleet struct {
	Things  int
	Success float64 // probability that an execution SUCCEEDS
	Reject  float64 // … is REJECTED
	Silent  float64 // … is begun and never heard of again; what is left FAILS

	Work    time.Duration // how long an execution takes on average; half to one and a half of it
	Offline float64       // share of things that are offline when the job starts
	Back    time.Duration // they come back evenly spread over this time
}

// Config is what a rehearsal needs.
type Config struct {
	Fleet Fleet
	Seed  uint64
	Start time.Time     // what the clock shows at the beginning
	Limit time.Duration // of simulated time; default 30 days
	Realm iot.Realm
	// Create creates the job through the engine, for the group Group, and returns its id.
	Create func(context.Context, *engine.Engine) (iot.JobID, error)
}

// Point is how things stood at a moment.
type Point struct {
	After      Minutes `json:"afterMinutes"`
	Notified   int64   `json:"notified"` // things that have got the job
	Queued     int64   `json:"queued"`
	InProgress int64   `json:"inProgress"`
	Succeeded  int64   `json:"succeeded"`
	Failed     int64   `json:"failed"`
	Rejected   int64   `json:"rejected"`
	TimedOut   int64   `json:"timedOut"`
	Canceled   int64   `json:"canceled"`
}

// Minutes is a time since the beginning.
type Minutes float64

// Event is something that happened to the job.
type Event struct {
	After Minutes `json:"afterMinutes"`
	What  string  `json:"what"`
}

// Result is what a rehearsal has shown.
type Result struct {
	Job      iot.JobID     `json:"job"`
	Things   int           `json:"things"`
	Seed     uint64        `json:"seed"`
	Status   iot.JobStatus `json:"status"`
	Reason   string        `json:"reason,omitempty"` // of a job that was aborted
	Took     Minutes       `json:"tookMinutes"`      // until nothing happened any more
	Events   []Event       `json:"events"`
	Timeline []Point       `json:"timeline"`
	Final    Point         `json:"final"`
}

// quantum is how long a device may wait for its turn: what falls into it is one batch.
const quantum = time.Second

// Run rehearses a job. Errors are those of the configuration and of the job itself.
func Run(ctx context.Context, cfg Config) (_ *Result, err error) {
	if err := cfg.Fleet.check(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "drover-rehearse-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	db, err := sqlstore.Open(ctx, sqlstore.Config{Path: filepath.Join(dir, "db"), Volatile: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()

	s := &stage{
		cfg: cfg, now: cfg.Start.UTC(), db: db,
		devices: make(map[iot.ThingName]*device, cfg.Fleet.Things), result: &Result{Things: cfg.Fleet.Things, Seed: cfg.Seed},
	}
	s.cfg.Limit = cmp.Or(cfg.Limit, 30*24*time.Hour)
	s.engine, err = engine.New(engine.Config{Store: db, Realm: cfg.Realm, Now: func() time.Time { return s.now }, Publish: func(_ context.Context, records []iot.Record) error { s.hear(records); return nil },
		Objects: iot.ObjectStore{AnyHost: true, UploadBucket: "any"}})
	if err != nil {
		return nil, err
	}
	if err := s.register(ctx); err != nil {
		return nil, fmt.Errorf("register the things: %w", err)
	}
	return s.play(ctx)
}

func (f Fleet) check() error {
	switch {
	case f.Things < 1:
		return errors.New("a fleet has at least one thing")
	case f.Success < 0 || f.Reject < 0 || f.Silent < 0 || f.Success+f.Reject+f.Silent > 1+1e-9:
		return errors.New("the probabilities of success, rejection and silence are between 0 and 1, and so is their sum")
	case f.Offline < 0 || f.Offline > 1:
		return errors.New("the share of things that are offline is between 0 and 1")
	case f.Work < 0 || f.Back < 0:
		return errors.New("durations are not negative")
	}
	return nil
}

// device is a simulated thing.
type device struct {
	thing  iot.ThingName
	online time.Time
	asked  bool // it will ask, or is at work, and need not be woken
}

// act is what a device does at a time.
type act struct {
	at      time.Time
	order   int // of acts of the same time
	device  *device
	request *iot.Request
}

// acts is a heap, the earliest first.
type acts []act

func (a acts) Len() int { return len(a) }
func (a acts) Less(i, j int) bool {
	if !a[i].at.Equal(a[j].at) {
		return a[i].at.Before(a[j].at)
	}
	return a[i].order < a[j].order
}
func (a acts) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *acts) Push(x any)   { *a = append(*a, x.(act)) }
func (a *acts) Pop() any {
	last := (*a)[len(*a)-1]
	*a = (*a)[:len(*a)-1]
	return last
}

// stage is a rehearsal that is going on. Everything on it happens in one goroutine.
type stage struct {
	cfg     Config
	now     time.Time
	db      *sqlstore.DB
	engine  *engine.Engine
	devices map[iot.ThingName]*device
	acts    acts
	order   int

	result *Result
	counts Point
	drawn  time.Time // of the last point of the timeline
	rate   int64     // of the job, as it was last seen
}

// register makes the things and their group, and decides who is offline.
func (s *stage) register(ctx context.Context) error {
	const chunk = 5000
	group := &iot.Group{Name: Group, UUID: uuid.NewString(), Version: 1, CreatedAt: iot.At(s.now)}
	for from := 0; from < s.cfg.Fleet.Things; from += chunk {
		err := s.db.Update(ctx, func(tx store.Tx) error {
			if from == 0 {
				if err := tx.InsertGroup(group); err != nil {
					return err
				}
			}
			things := make([]*iot.Thing, min(chunk, s.cfg.Fleet.Things-from))
			for i := range things {
				things[i] = &iot.Thing{Name: iot.ThingName(fmt.Sprintf("thing-%07d", from+i+1)), UUID: uuid.NewString(), Version: 1, CreatedAt: iot.At(s.now)}
			}
			if err := tx.InsertThings(things); err != nil {
				return err
			}
			seq, err := tx.Sequence(len(things))
			if err != nil {
				return err
			}
			members := make([]iot.Member, len(things))
			for i, t := range things {
				members[i] = iot.Member{Seq: seq + int64(i), GroupID: group.ID, ThingID: t.ID, Thing: t.Name}
				d := &device{thing: t.Name, online: s.now}
				if dice := s.dice(t.Name, 0); dice.Float64() < s.cfg.Fleet.Offline {
					d.online = s.now.Add(time.Duration(dice.Float64() * float64(s.cfg.Fleet.Back)))
				}
				s.devices[t.Name] = d
			}
			_, err = tx.InsertMembers(members)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// play creates the job and lets time go by until nothing happens any more.
func (s *stage) play(ctx context.Context) (*Result, error) {
	id, err := s.cfg.Create(ctx, s.engine)
	if err != nil {
		return nil, err
	}
	s.result.Job = id
	_, next, err := s.engine.Step(ctx, nil)
	if err != nil {
		return nil, err
	}
	last := s.now
	for s.ahead(next) {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		due := s.due()
		requests := make([]*iot.Request, len(due))
		for i, a := range due {
			requests[i] = a.request
		}
		var replies []engine.Reply
		if replies, next, err = s.engine.Step(ctx, requests); err != nil {
			return nil, err
		}
		for i, a := range due {
			s.answered(a, replies[i])
		}
		if s.draw(false) {
			if err := s.watchRate(ctx, id); err != nil {
				return nil, err
			}
		}
		last = s.now
	}
	j, err := s.engine.Job(ctx, id)
	if err != nil {
		return nil, err
	}
	s.now = last
	s.draw(true)
	s.result.Status, s.result.Took, s.result.Final = j.Status, s.after(), s.counts
	if j.ReasonCode == iot.AbortReason {
		s.result.Reason = j.Comment
	}
	return s.result, nil
}

// ahead moves the clock to the next thing that happens, due in the engine or an act of a
// device, and reports whether there is one within the limit.
func (s *stage) ahead(due iot.Time) bool {
	next := due.Std()
	if len(s.acts) > 0 && (due == 0 || s.acts[0].at.Before(next)) {
		next = s.acts[0].at.Truncate(quantum).Add(quantum)
	}
	if next.IsZero() || next.Sub(s.cfg.Start) > s.cfg.Limit {
		return false
	}
	if next.After(s.now) {
		s.now = next
	}
	return true
}

// dice are those of a device for an attempt, 0 for what is before all of them. They depend
// on nothing else: the same devices fail whatever the rate of a rollout, so that two
// configurations of a job can be compared.
func (s *stage) dice(thing iot.ThingName, attempt int64) *rand.Rand {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s/%d", thing, attempt) // a hash never fails
	return rand.New(rand.NewPCG(s.cfg.Seed, h.Sum64()))
}

// due takes the acts whose time has come.
func (s *stage) due() (due []act) {
	for len(s.acts) > 0 && !s.acts[0].at.After(s.now) {
		due = append(due, heap.Pop(&s.acts).(act))
	}
	return due
}

func (s *stage) plan(d *device, at time.Time, r *iot.Request) {
	s.order++
	r.Thing, r.Actor = d.thing, "thing:"+string(d.thing)
	heap.Push(&s.acts, act{at, s.order, d, r})
}

// wake lets a device ask for its next execution, as soon as it is online.
func (s *stage) wake(d *device) {
	if d.asked {
		return
	}
	d.asked = true
	at := s.now
	if d.online.After(at) {
		at = d.online
	}
	// A moment between hearing and asking.
	s.plan(d, at.Add(quantum), &iot.Request{Op: iot.OpStartNext})
}

// answered decides what a device does after an answer.
func (s *stage) answered(a act, r engine.Reply) {
	d := a.device
	if a.request.Op != iot.OpStartNext || r.Err != nil || r.Answer.Execution == nil {
		d.asked = false
		if a.request.Op == iot.OpUpdate {
			s.wake(d) // there may be more
		}
		return
	}
	x := r.Answer.Execution
	f := s.cfg.Fleet
	status := iot.Failed
	dice := s.dice(d.thing, x.Number)
	switch p := dice.Float64(); {
	case p < f.Success:
		status = iot.Succeeded
	case p < f.Success+f.Reject:
		status = iot.Rejected
	case p < f.Success+f.Reject+f.Silent:
		d.asked = false // a retry may wake it
		return
	}
	work := time.Duration((0.5 + dice.Float64()) * float64(f.Work))
	s.plan(d, s.now.Add(work), &iot.Request{Op: iot.OpUpdate, JobID: x.JobID, Number: x.Number, Status: status})
}

// hear is the engine's publisher.
func (s *stage) hear(records []iot.Record) {
	for i := range records {
		r := &records[i]
		switch {
		case r.Kind == iot.ExecutionChanged:
			s.count(r)
		case r.Kind == iot.JobCancelStarted:
			s.event("aborted: executions that wait are canceled")
		case r.Kind == iot.JobDone:
			s.event("completed")
		case r.Kind == iot.JobScheduleMoved:
			s.event("the schedule starts, stops or ends the rollout")
		}
		if (r.List || r.Next) && len(r.Queue) > 0 {
			s.wake(s.devices[r.Execution.Thing])
		}
	}
}

// count keeps the sums of executions by status. An execution that changes leaves the
// status that the rules allow it to come from.
func (s *stage) count(r *iot.Record) {
	x, c := r.Execution, &s.counts
	switch x.Status {
	case iot.Queued:
		if x.Number == 1 {
			c.Notified++
		}
		c.Queued++
		return
	case iot.InProgress:
		c.Queued--
		c.InProgress++
		return
	}
	if x.StartedAt == 0 || x.StartedAt == x.UpdatedAt && x.Version == 2 {
		c.Queued--
	} else {
		c.InProgress--
	}
	switch x.Status {
	case iot.Succeeded:
		c.Succeeded++
	case iot.Failed:
		c.Failed++
	case iot.Rejected:
		c.Rejected++
	case iot.TimedOut:
		c.TimedOut++
	case iot.Canceled:
		c.Canceled++
	}
}

func (s *stage) after() Minutes { return Minutes(s.now.Sub(s.cfg.Start).Minutes()) }

func (s *stage) event(what string) {
	s.result.Events = append(s.result.Events, Event{s.after(), what})
}

// watchRate tells when the job's rollout gets another rate.
func (s *stage) watchRate(ctx context.Context, id iot.JobID) error {
	j, err := s.engine.Job(ctx, id)
	if err != nil {
		return err
	}
	if rate := j.Rate(); rate != s.rate && j.Phase == iot.PhaseRollout {
		s.rate = rate
		s.event(fmt.Sprintf("%d a minute", rate))
	}
	return nil
}

// draw adds a point to the timeline, at most one a minute, and reports whether it did.
func (s *stage) draw(always bool) bool {
	if !always && s.now.Sub(s.drawn) < time.Minute {
		return false
	}
	s.drawn = s.now
	p := s.counts
	p.After = s.after()
	s.counts.After = p.After
	s.result.Timeline = append(s.result.Timeline, p)
	return true
}
