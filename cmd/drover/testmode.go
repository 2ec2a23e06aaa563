package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"drover/internal/access"
	"drover/internal/auth"
	"drover/internal/broker"
	"drover/internal/commands"
	"drover/internal/engine"
	"drover/internal/iot"
	"drover/internal/objects"
	"drover/internal/store/sqlstore"
	"drover/internal/wire"
)

// clock is the time of a server: that of the machine, moved by an offset in test mode.
type clock struct {
	movable bool // set before it is used

	mu     sync.Mutex
	offset time.Duration
	alarms map[*alarm]struct{} // if movable
}

// alarm is a timer that goes by the clock.
type alarm struct {
	due   time.Time
	timer *time.Timer
}

// afterFunc is time.AfterFunc by the clock: when that is moved past the time, f is called.
func (c *clock) afterFunc(d time.Duration, f func()) (stop func() bool) {
	if !c.movable {
		return time.AfterFunc(d, f).Stop
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	a := &alarm{due: time.Now().Add(c.offset + d)}
	forget := func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, pending := c.alarms[a]
		delete(c.alarms, a)
		return pending
	}
	a.timer = time.AfterFunc(d, func() {
		if forget() {
			f()
		}
	})
	if c.alarms == nil {
		c.alarms = make(map[*alarm]struct{})
	}
	c.alarms[a] = struct{}{}
	return func() bool { a.timer.Stop(); return forget() }
}

// move sets the offset. mu is held.
func (c *clock) move(offset time.Duration) {
	c.offset = offset
	for a := range c.alarms {
		a.timer.Reset(time.Until(a.due) - offset)
	}
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return machineTime().Add(c.offset)
}

// set moves the clock so that it shows t now. It goes on from there.
func (c *clock) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.move(time.Until(t))
}

// back makes it the clock of the machine again.
func (c *clock) back() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.move(0)
}

// testMode lets those who test devices move the clock and start from nothing.
type testMode struct {
	clock    *clock
	engine   *engine.Engine
	commands *commands.Service
	store    *sqlstore.DB
	broker   *broker.Broker
	access   *access.Decider
	holders  *auth.Devices
	keys     *auth.Keyring
	users    *auth.Users
	objects  *objects.Store // nil: none

	moving sync.Mutex // one change at a time
}

func (m *testMode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var err error
	switch r.Method + " " + r.URL.Path {
	case "GET /_drover/clock":
	case "POST /_drover/clock":
		err = m.move(r)
	case "POST /_drover/reset":
		err = m.reset(r.Context())
	default:
		err = &wire.Error{Code: "MethodNotAllowedException", Status: http.StatusMethodNotAllowed, Message: r.Method + " is not for " + r.URL.Path}
	}
	if err != nil {
		refused, ok := errors.AsType[*wire.Error](err)
		if !ok {
			refused = &wire.Error{Code: "InternalFailureException", Status: http.StatusInternalServerError, Message: err.Error()}
		}
		wire.WriteError(w, refused)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	// Whoever asked has gone if this fails.
	_ = json.NewEncoder(w).Encode(map[string]string{"now": m.clock.now().UTC().Format(time.RFC3339Nano)})
}

func invalid(format string, args ...any) error {
	return &wire.Error{Code: "InvalidRequestException", Status: http.StatusBadRequest, Message: fmt.Sprintf(format, args...)}
}

// maxAdvance keeps a slip of the finger from running for hours.
const maxAdvance = 10 * 366 * 24 * time.Hour

// move carries out {"advance":"72h"} or {"set":"2026-12-24T23:00:00Z"}.
func (m *testMode) move(r *http.Request) error {
	var in struct {
		Advance *string `json:"advance"`
		Set     *string `json:"set"`
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return invalid("The body must be a JSON object with advance or set: %v", err)
	}
	m.moving.Lock()
	defer m.moving.Unlock()
	now := m.clock.now()
	var target time.Time
	switch {
	case (in.Advance == nil) == (in.Set == nil):
		return invalid("Give either advance or set")
	case in.Advance != nil:
		d, err := time.ParseDuration(*in.Advance)
		if err != nil {
			return invalid("advance: %v", err)
		}
		target = now.Add(d)
	default:
		if target, err = time.Parse(time.RFC3339, *in.Set); err != nil {
			return invalid("set: %v", err)
		}
	}
	switch {
	case target.Before(now):
		return invalid("The clock shows %s and cannot go back to %s; reset puts it back to the time of the machine", now.UTC().Format(time.RFC3339), target.UTC().Format(time.RFC3339))
	case target.Sub(now) > maxAdvance:
		return invalid("The clock can be moved by at most ten years at a time")
	}
	return m.advance(r.Context(), target)
}

// advance goes to target from one due time to the next, so that what happens in between
// happens in its order and at its time, and returns when all of it is done and told.
func (m *testMode) advance(ctx context.Context, target time.Time) error {
	for {
		if err := m.engine.Settle(ctx); err != nil {
			return err
		}
		if err := m.commands.Settle(ctx); err != nil {
			return err
		}
		due, err := m.engine.NextDue(ctx)
		if err != nil {
			return err
		}
		command, err := m.commands.NextDue(ctx)
		if err != nil {
			return err
		}
		if due == 0 || command != 0 && command < due {
			due = command
		}
		if due == 0 || due > iot.At(target) {
			break
		}
		if due > iot.At(m.clock.now()) {
			m.clock.set(due.Std())
		}
	}
	if target.After(m.clock.now()) {
		m.clock.set(target)
	}
	if err := m.commands.Settle(ctx); err != nil {
		return err
	}
	return m.engine.Settle(ctx)
}

// reset empties the server: nothing is stored, nobody connected, and it is the time of the
// machine again.
func (m *testMode) reset(ctx context.Context) error {
	m.moving.Lock()
	defer m.moving.Unlock()
	if err := m.broker.Reset(ctx); err != nil {
		return err
	}
	m.clock.back()
	if m.objects != nil {
		if err := m.objects.Clear(); err != nil {
			return err
		}
	}
	// The record tells the data plane that no events are on any more.
	if err := m.store.Clear(ctx, iot.Record{At: iot.At(m.clock.now()), Kind: iot.EventsConfigured, Actor: "drover"}); err != nil {
		return err
	}
	m.access.PoliciesChanged("")
	m.holders.Forget()
	if err := errors.Join(m.keys.Reload(ctx), m.users.Reload(ctx)); err != nil {
		return err
	}
	return m.engine.Settle(ctx)
}
