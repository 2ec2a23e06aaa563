package commands

import (
	"context"
	"errors"
	"time"

	"drover/internal/iot"
	"drover/internal/store"
)

// task is a part of a batch.
type task struct {
	// run does it in a transaction. An *iot.Error refuses the task, before anything is written, and leaves the others
	// alone; another error is one of the batch.
	run   func(*change) error
	told  func()      // what follows the commit, before reply; may be nil
	reply func(error) // is called once
	err   error
}

var errStopping = iot.Errorf(iot.Unavailable, "The server is stopping")

// submit lets a task join the next batch.
func (s *Service) submit(t *task) {
	select {
	case <-s.ended:
		t.reply(errStopping)
		return
	default:
	}
	select {
	case s.asked <- t:
	default:
		t.reply(iot.Errorf(iot.Throttled, "%d requests about commands are waiting", maxWaiting))
		return
	}
	// If Run has ended meanwhile, nobody else looks.
	select {
	case <-s.ended:
		s.refuseAll()
	default:
	}
}

// do is submit for callers that wait.
func (s *Service) do(ctx context.Context, t *task) error {
	done := make(chan error, 1)
	t.reply = func(err error) { done <- err }
	s.submit(t)
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Service) refuseAll() {
	for {
		select {
		case t := <-s.asked:
			t.reply(errStopping)
		default:
			return
		}
	}
}

// Run carries out what is asked for and what is due until ctx ends. What waits then is refused.
func (s *Service) Run(ctx context.Context) {
	timed := make(chan struct{})
	go func() {
		defer close(timed)
		s.keepTime(ctx)
	}()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case t := <-s.asked:
			batch := []*task{t}
			for more := true; more && len(batch) < maxBatch; {
				select {
				case t := <-s.asked:
					batch = append(batch, t)
				default:
					more = false
				}
			}
			s.carryOut(ctx, batch)
		}
	}
	close(s.ended)
	s.refuseAll()
	<-timed
}

// carryOut runs a batch in one transaction.
func (s *Service) carryOut(ctx context.Context, batch []*task) {
	err := s.update(context.WithoutCancel(ctx), func(c *change) error {
		for _, t := range batch {
			t.err = t.run(c)
			if _, refused := errors.AsType[*iot.Error](t.err); t.err != nil && (!refused || iot.ErrorCode(t.err) == iot.Unavailable) {
				return t.err
			}
		}
		return nil
	})
	for _, t := range batch {
		if err != nil {
			t.err = err
		}
		if t.err == nil && t.told != nil {
			t.told()
		}
		t.reply(t.err)
	}
}

// trimEvery is how often executions that are old enough are forgotten.
const trimEvery = time.Hour

// keepTime times executions out and deletes commands that have waited for it.
func (s *Service) keepTime(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	trim := time.NewTicker(trimEvery)
	defer trim.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-trim.C:
			if err := s.trim(ctx); err != nil && ctx.Err() == nil {
				s.log.WarnContext(ctx, "old command executions are not forgotten", "err", err)
			}
		}
		pause := s.poll
		err := s.Settle(ctx)
		if err == nil {
			var due iot.Time
			if due, err = s.NextDue(ctx); due != 0 {
				pause = max(0, min(pause, due.Std().Sub(s.now())))
			}
		}
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "timers of commands have to wait", "err", err)
			pause = s.poll
		}
		timer.Reset(pause)
	}
}

// NextDue returns when something is due, zero for never.
func (s *Service) NextDue(ctx context.Context) (due iot.Time, err error) {
	err = s.store.View(ctx, func(rd store.Reader) error {
		due, err = rd.NextDueCommand()
		return err
	})
	return due, err
}

// Settle carries out what is due, and returns when it has been.
func (s *Service) Settle(ctx context.Context) error {
	s.once.Lock()
	defer s.once.Unlock()
	for {
		due, err := s.NextDue(ctx)
		if err != nil || due == 0 || due > iot.At(s.now()) {
			return err
		}
		if err := s.dueOnce(ctx); err != nil {
			return err
		}
	}
}

// dueOnce carries out some of what is due, in one transaction.
func (s *Service) dueOnce(ctx context.Context) error {
	return s.update(ctx, func(c *change) error {
		late, err := c.DueCommandExecutions(c.now, dueAtOnce)
		if err != nil {
			return err
		}
		for _, x := range late {
			x.TimeOut(c.now)
			if err := c.SaveCommandExecution(x); err != nil {
				return err
			}
			if err := c.changed(x, actor); err != nil {
				return err
			}
		}
		gone, err := c.CommandsToDelete(c.now, dueAtOnce)
		if err != nil {
			return err
		}
		for _, cmd := range gone {
			if err := s.remove(c, cmd, actor); err != nil {
				return err
			}
		}
		return nil
	})
}

// actor is who lets time pass.
const actor = "drover"

// trim forgets executions that are old enough.
func (s *Service) trim(ctx context.Context) error {
	for n := dueAtOnce; n == dueAtOnce && ctx.Err() == nil; {
		err := s.update(ctx, func(c *change) (err error) {
			n, err = c.TrimCommandExecutions(c.now.Add(-iot.CommandRetention), dueAtOnce)
			return err
		})
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}
