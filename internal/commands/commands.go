// Package commands keeps commands and tells devices to carry them out (registry spec §11).
//
// What one caller asks for waits for the transaction that runs, and shares the next one with all that have come by then:
// a start, or what a device reports, costs a flush to disk with up to 255 others. A device is told after the
// commit: if the process ends in between it is not, and the time of the execution runs out. What changes is
// in the journal, from which events are published.
package commands

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"drover/internal/iot"
	"drover/internal/store"
)

// Config says what a Service works with. Store, Realm and Tell are required.
type Config struct {
	Store store.Store
	Realm iot.Realm
	// Tell sends a device what it is to do. It is called after the commit, by one goroutine at a time, and must not
	// block for long.
	Tell   func(Request)
	Logger *slog.Logger     // nil = slog.Default()
	Now    func() time.Time // nil = time.Now
	// Running is how many executions of a target may run at a time; 0: any number.
	Running int
	Poll    time.Duration // how often is looked for what is due; default 1 s
}

// Request is what a device is sent.
type Request struct {
	Execution   string
	Target      string // ARN of a thing or client
	ContentType string
	Payload     []byte
	Timeout     time.Duration // the request is worthless when it is over
}

// Service keeps the commands of one realm. Its methods may be called concurrently. Executions are started, reported
// on and timed out while Run runs.
type Service struct {
	store   store.Store
	realm   iot.Realm
	tell    func(Request)
	log     *slog.Logger
	now     func() time.Time
	running int
	poll    time.Duration

	asked chan *task
	ended chan struct{} // closed when Run has ended
	once  sync.Mutex    // of Settle: one at a time
}

// Bounds of batches.
const (
	maxBatch   = 256
	maxWaiting = 4096 // tasks; more are told to come again
	dueAtOnce  = 1000 // executions that time out in one transaction

	maxClientID = 128 // bytes
)

// New returns a Service. It keeps no state outside of the store.
func New(cfg Config) *Service {
	s := &Service{
		store: cfg.Store, realm: cfg.Realm, tell: cfg.Tell, log: cmp.Or(cfg.Logger, slog.Default()), now: cfg.Now, running: cfg.Running, poll: cmp.Or(cfg.Poll, time.Second),
		asked: make(chan *task, maxWaiting), ended: make(chan struct{}),
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s
}

// change is a transaction with what is the same all through it.
type change struct {
	store.Tx
	now iot.Time
}

func (s *Service) update(ctx context.Context, f func(*change) error) error {
	return s.store.Update(ctx, func(tx store.Tx) error { return f(&change{tx, iot.At(s.now())}) })
}

// record appends a record of what changed.
func (c *change) record(kind iot.Kind, actor string, data any) error {
	rec, err := iot.NewRecord(kind, c.now, actor, data)
	if err != nil {
		return err
	}
	return c.Append(rec)
}

// changed appends the record of an execution that has come to its status.
func (c *change) changed(x *iot.CommandExecution, actor string) error {
	return c.record(iot.CommandExecutionChanged, actor, iot.CommandExecutionEvent{ID: x.ID, Command: x.Command, Target: x.Target, Status: x.Status, Reason: x.Reason})
}

func commandByID(rd store.Reader, id string) (*iot.Command, error) {
	c, err := rd.CommandByID(id)
	return c, store.Absent(err, "Command", id)
}

// Create stores a command. InvalidRequest for one that cannot be, and bad tags; ResourceConflict for a name that is taken.
func (s *Service) Create(ctx context.Context, n iot.NewCommand) (*iot.Command, error) {
	made := n.Command
	if err := made.Check(); err != nil {
		return nil, err
	}
	if made.Template != "" {
		if err := checkTemplate(&made); err != nil {
			return nil, err
		}
	}
	if err := iot.CheckNewTags(n.Tags); err != nil {
		return nil, err
	}
	err := s.update(ctx, func(c *change) error {
		switch _, err := c.CommandByID(made.ID); {
		case err == nil:
			return s.conflict("Command %s already exists", made.ID)
		case !errors.Is(err, store.ErrNotFound):
			return err
		}
		made.CreatedAt, made.UpdatedAt = c.now, c.now
		if err := c.InsertCommand(&made); err != nil {
			return err
		}
		if err := c.PutTags(s.realm.ARN(iot.KindCommand, made.ID), n.Tags); err != nil {
			return err
		}
		return c.record(iot.CommandMade, n.Actor, iot.CommandEvent{ID: made.ID})
	})
	if err != nil {
		return nil, err
	}
	return &made, nil
}

func (s *Service) conflict(format, id string) error {
	err := iot.Errorf(iot.ResourceConflict, format, id)
	err.ResourceID = id
	return err
}

// Update changes a command. NotFound; ResourceConflict as iot.Command.Update.
func (s *Service) Update(ctx context.Context, u iot.CommandUpdate) (cmd *iot.Command, err error) {
	err = s.update(ctx, func(c *change) error {
		if cmd, err = commandByID(c, u.ID); err != nil {
			return err
		}
		if err := cmd.Update(u, c.now); err != nil {
			return err
		}
		if err := c.SaveCommand(cmd); err != nil {
			return err
		}
		return c.record(iot.CommandUpdated, u.Actor, iot.CommandEvent{ID: cmd.ID})
	})
	if err != nil {
		return nil, err
	}
	return cmd, nil
}

// Delete forgets a command, at once or later, and reports whether it is gone. That there is none is no error.
func (s *Service) Delete(ctx context.Context, id, actor string) (gone bool, err error) {
	err = s.update(ctx, func(c *change) error {
		cmd, err := c.CommandByID(id)
		if gone = errors.Is(err, store.ErrNotFound); gone {
			return nil
		}
		if err != nil {
			return err
		}
		if gone = cmd.Delete(c.now); gone {
			return s.remove(c, cmd, actor)
		}
		if err := c.SaveCommand(cmd); err != nil {
			return err
		}
		return c.record(iot.CommandUpdated, actor, iot.CommandEvent{ID: cmd.ID})
	})
	return gone, err
}

func (s *Service) remove(c *change, cmd *iot.Command, actor string) error {
	if err := c.DeleteCommand(cmd); err != nil {
		return err
	}
	if err := c.DeleteTags(s.realm.ARN(iot.KindCommand, cmd.ID), nil); err != nil {
		return err
	}
	return c.record(iot.CommandDeleted, actor, iot.CommandEvent{ID: cmd.ID})
}

// Command returns a command. NotFound.
func (s *Service) Command(ctx context.Context, id string) (cmd *iot.Command, err error) {
	err = s.store.View(ctx, func(rd store.Reader) error {
		cmd, err = commandByID(rd, id)
		return err
	})
	return cmd, err
}

// Commands lists commands, without their payloads, but for those that wait for their deletion.
func (s *Service) Commands(ctx context.Context, q iot.CommandQuery, page iot.Page) (list []*iot.Command, next string, err error) {
	after, err := cursor(page.Cursor)
	if err != nil {
		return nil, "", err
	}
	err = s.store.View(ctx, func(rd store.Reader) error {
		list, next = nil, ""
		for at := after.Seq; ; {
			some, err := rd.Commands(q.Ascending, at, page.Limit+1)
			if err != nil {
				return err
			}
			for _, c := range some {
				at = c.Seq
				if q.Parameter != "" && !hasParameter(c, q.Parameter) {
					continue
				}
				if len(list) == page.Limit {
					next = strconv.FormatInt(list[page.Limit-1].Seq, 10)
					return nil
				}
				list = append(list, c)
			}
			if len(some) <= page.Limit {
				return nil
			}
		}
	})
	return list, next, err
}

func hasParameter(c *iot.Command, name string) bool {
	for _, p := range c.Parameters {
		if p.Name == name {
			return true
		}
	}
	return false
}

// cursor reads where a list goes on: SEQ, or TIME,SEQ.
func cursor(text string) (k store.CommandKey, err error) {
	if text == "" {
		return k, nil
	}
	bad := iot.Errorf(iot.InvalidRequest, "Invalid nextToken")
	if at, seq, both := strings.Cut(text, ","); both {
		n, err := strconv.ParseInt(at, 10, 64)
		if err != nil {
			return k, bad
		}
		k.At, text = iot.Time(n), seq
	}
	if k.Seq, err = strconv.ParseInt(text, 10, 64); err != nil {
		return k, bad
	}
	return k, nil
}

// Execution returns an execution of a target. NotFound.
func (s *Service) Execution(ctx context.Context, id, target string) (x *iot.CommandExecution, err error) {
	err = s.store.View(ctx, func(rd store.Reader) error {
		x, err = executionOf(rd, id, target)
		return err
	})
	return x, err
}

func executionOf(rd store.Reader, id, target string) (*iot.CommandExecution, error) {
	x, err := rd.CommandExecution(id)
	if err == nil && x.Target != target {
		err = store.ErrNotFound
	}
	return x, store.Absent(err, "Command execution", id)
}

// Executions lists executions by the time that the query is about.
func (s *Service) Executions(ctx context.Context, q iot.CommandExecutionQuery, page iot.Page) (list []*iot.CommandExecution, next string, err error) {
	after, err := cursor(page.Cursor)
	if err != nil {
		return nil, "", err
	}
	err = s.store.View(ctx, func(rd store.Reader) error {
		list, err = rd.CommandExecutions(q, after, page.Limit+1)
		return err
	})
	if len(list) > page.Limit {
		list = list[:page.Limit]
		last := list[page.Limit-1]
		at := last.StartedAt
		if q.Completed {
			at = last.CompletedAt
		}
		next = fmt.Sprintf("%d,%d", at, last.Seq)
	}
	return list, next, err
}

// DeleteExecution forgets an execution of a target. NotFound; ResourceConflict for one that runs.
func (s *Service) DeleteExecution(ctx context.Context, id, target, actor string) error {
	return s.update(ctx, func(c *change) error {
		x, err := executionOf(c, id, target)
		if err != nil {
			return err
		}
		if !x.Deletable() {
			return s.conflict("Command execution %s has not ended", x.ID)
		}
		if err := c.DeleteCommandExecution(x); err != nil {
			return err
		}
		return c.record(iot.CommandExecutionDeleted, actor, iot.CommandExecutionEvent{ID: x.ID, Command: x.Command, Target: x.Target, Status: x.Status})
	})
}

// Start tells a device to carry a command out, whether or not it is connected. InvalidRequest for a command that is deprecated,
// parameters that do not fit, and a target that is neither a thing nor a client; NotFound for a command or thing
// that does not exist; ResourceConflict for a token that was used for something else; LimitExceeded if the target has too much to do;
// Throttled if the server has.
func (s *Service) Start(ctx context.Context, in iot.CommandStart) (id string, err error) {
	if err := in.Check(); err != nil {
		return "", err
	}
	kind, name, err := s.realm.ParseARN(in.Command)
	if err != nil {
		return "", err
	}
	if kind != iot.KindCommand {
		return "", iot.Errorf(iot.InvalidRequest, "%s is not the ARN of a command", in.Command)
	}
	thing, err := s.Target(in.Target)
	if err != nil {
		return "", err
	}
	var x *iot.CommandExecution
	var request *Request
	err = s.do(ctx, &task{
		run: func(c *change) (err error) {
			x, request, err = s.start(c, &in, name, thing)
			return err
		},
		told: func() {
			if request != nil {
				s.tell(*request)
			}
		},
	})
	if err != nil {
		return "", err
	}
	return x.ID, nil
}

// Target returns the name of the thing that an ARN names, "" for that of a client. InvalidRequest for other ARNs.
func (s *Service) Target(arn string) (thing iot.ThingName, err error) {
	kind, name, err := s.realm.ParseARN(arn)
	switch {
	case err != nil:
		return "", err
	case kind == iot.KindThing && iot.ThingName(name).Valid():
		return iot.ThingName(name), nil
	case kind == iot.KindClient && len(name) <= maxClientID && !strings.ContainsAny(name, "/+#"):
		return "", nil
	case kind == iot.KindThing || kind == iot.KindClient:
		return "", iot.Errorf(iot.InvalidRequest, "Target %s has a name that cannot stand in the topics of commands", arn)
	}
	return "", iot.Errorf(iot.InvalidRequest, "Target %s is neither a thing nor a client", arn)
}

// start makes an execution. request is nil if there is one with the token already, which x then is.
func (s *Service) start(c *change, in *iot.CommandStart, name string, thing iot.ThingName) (x *iot.CommandExecution, request *Request, err error) {
	if in.Token != "" {
		x, err := c.CommandExecutionByToken(in.Token)
		if err == nil {
			return x, nil, s.same(x, in, name)
		}
		if !errors.Is(err, store.ErrNotFound) {
			return nil, nil, err
		}
	}
	cmd, err := commandByID(c, name)
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Startable(); err != nil {
		return nil, nil, err
	}
	values, err := cmd.Resolve(in.Parameters)
	if err != nil {
		return nil, nil, err
	}
	if thing != "" {
		if _, err := c.ThingByName(thing); err != nil {
			return nil, nil, store.Absent(err, "Thing", string(thing))
		}
	}
	if s.running > 0 {
		n, err := c.RunningCommands(in.Target)
		if err != nil {
			return nil, nil, err
		}
		if n >= s.running {
			return nil, nil, iot.Errorf(iot.LimitExceeded, "%d executions of %s are running, which is the limit", n, in.Target)
		}
	}
	timeout := time.Duration(in.TimeoutSeconds) * time.Second
	request = &Request{Target: in.Target, ContentType: cmd.ContentType, Payload: cmd.Payload, Timeout: timeout}
	if cmd.Template != "" {
		if request.Payload, request.ContentType, err = render(cmd, values, in.TimeoutSeconds); err != nil {
			return nil, nil, err
		}
	}
	x = &iot.CommandExecution{
		ID: uuid.NewString(), Command: name, Target: in.Target, Token: in.Token, Status: iot.CommandCreated,
		CommandDetail: iot.CommandDetail{Parameters: in.Parameters, TimeoutSeconds: in.TimeoutSeconds},
		CreatedAt:     c.now, StartedAt: c.now, UpdatedAt: c.now, DueAt: c.now.Add(timeout),
	}
	request.Execution = x.ID
	if err := c.InsertCommandExecution(x); err != nil {
		return nil, nil, err
	}
	return x, request, c.changed(x, in.Actor)
}

// same returns ResourceConflict unless a start with a token that was used asks for what was asked for then.
func (s *Service) same(x *iot.CommandExecution, in *iot.CommandStart, name string) error {
	was, err := json.Marshal(x.Parameters)
	if err != nil {
		return err
	}
	is, err := json.Marshal(in.Parameters)
	if err != nil {
		return err
	}
	if x.Command != name || x.Target != in.Target || x.TimeoutSeconds != in.TimeoutSeconds || string(was) != string(is) && len(x.Parameters)+len(in.Parameters) > 0 {
		return s.conflict("The clientToken was used for the execution %s, which is another one", x.ID)
	}
	return nil
}

// Report takes what a device reports, and calls reply when it is durable, or refused: InvalidRequest for a report that cannot be;
// NotFound; TerminalState and InvalidStateTransition as iot.CommandExecution.Report; Throttled. It does not block.
func (s *Service) Report(r iot.CommandReport, reply func(error)) {
	if err := r.Check(); err != nil {
		reply(err)
		return
	}
	s.submit(&task{
		run: func(c *change) error {
			x, err := executionOf(c, r.Execution, r.Target)
			if err != nil {
				return err
			}
			if err := x.Report(&r, c.now); err != nil {
				return err
			}
			if err := c.SaveCommandExecution(x); err != nil {
				return err
			}
			return c.changed(x, r.Actor)
		},
		reply: reply,
	})
}
