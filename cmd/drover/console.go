package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"slices"
	"strings"
	"time"

	"drover/internal/auth"
	"drover/internal/broker"
	"drover/internal/console"
	"drover/internal/dataplane"
	"drover/internal/engine"
	"drover/internal/iot"
	"drover/internal/registry"
	"drover/internal/rehearse"
	"drover/internal/store"
)

// openConsole makes the console: pages that ask the engine and the registry, and that change what they
// change through the API, which checks and notes it as if the CLI had asked.
func (s *server) openConsole(things *registry.Registry, publisher *dataplane.Publisher, api *auditor, realm iot.Realm) error {
	seal, err := auth.LoadOrCreateSeal(s.cfg.sealFile())
	if err != nil {
		return err
	}
	provider, err := s.cfg.OIDC.provider()
	if err != nil {
		return err
	}
	s.console, err = console.New(console.Config{
		SSO: provider, PublicURL: s.cfg.OIDC.PublicURL,
		Jobs: s.engine, Registry: things, API: api, Realm: realm, Permit: s.access.Permit, Keys: s.keys, Users: s.users, Failures: s.failures, Secret: seal, Files: s.front.objects != nil,
		Fleet: fleetSide{s.broker, publisher, s.front.ready, s.engine}, Version: version(), Now: s.clock.now, Logger: s.log,
		Rehearse: func(ctx context.Context, r console.Rehearsal) (*console.Outcome, error) {
			return rehearsed(ctx, r, realm)
		},
	})
	if err != nil {
		return err
	}
	s.front.console = s.console
	s.background = append(s.background, s.console.Run)
	return nil
}

// fleetSide is what the console shows of connections and of the server itself.
type fleetSide struct {
	broker    *broker.Broker
	publisher *dataplane.Publisher
	ready     *readiness
	engine    *engine.Engine
}

// Online implements console.Fleet.
func (f fleetSide) Online() int { return f.broker.Clients() }

// Presence implements console.Fleet.
func (f fleetSide) Presence(clientID string) (console.Presence, bool) {
	p, known := f.publisher.Presence(clientID)
	return console.Presence{Connected: p.Connected, Ended: p.Ended}, known
}

// lateAfter is how late a loop may be: rollouts go by the minute.
const lateAfter = 10 * time.Second

// Health implements console.Fleet.
func (f fleetSide) Health(ctx context.Context) (checks []console.Check) {
	for _, lack := range f.ready.look() {
		checks = append(checks, console.Check{Name: "Not ready", Text: lack})
	}
	if len(checks) == 0 {
		checks = append(checks, console.Check{Name: "Ready", Text: "the database takes changes, and what is committed is published", OK: true})
	}
	lags := f.engine.Lags()
	var loops []string
	onTime := true
	for _, loop := range slices.Sorted(maps.Keys(lags)) {
		text := loop
		if lags[loop] >= time.Second {
			text += " " + lags[loop].Round(time.Second).String() + " late"
		}
		loops = append(loops, text)
		onTime = onTime && lags[loop] < lateAfter
	}
	if len(loops) > 0 {
		checks = append(checks, console.Check{Name: map[bool]string{true: "On time", false: "Late"}[onTime], Text: strings.Join(loops, ", "), OK: onTime})
	}
	nodes, err := f.engine.Nodes(ctx)
	if err != nil {
		return append(checks, console.Check{Name: "Nodes", Text: "the database does not say which there are"})
	}
	nodes = slices.DeleteFunc(nodes, func(n store.Node) bool { return n.ID == store.FirstNode }) // which stands for stores without nodes
	if len(nodes) < 2 {
		return checks // alone
	}
	for _, n := range nodes {
		text := map[bool]string{true: "has given no sign of life; another node takes over from it", false: "shares the database"}[n.Dead]
		checks = append(checks, console.Check{Name: fmt.Sprintf("Node %d", n.ID), Text: strings.TrimSpace(n.Name + " " + text), OK: !n.Dead})
	}
	return checks
}

// rehearsed plays a job through on devices that do not exist.
func rehearsed(ctx context.Context, r console.Rehearsal, realm iot.Realm) (*console.Outcome, error) {
	var job map[string]any
	if err := json.Unmarshal(r.Job, &job); err != nil {
		return nil, err
	}
	job["targets"] = []string{realm.ARN(iot.KindGroup, string(rehearse.Group))}
	body, err := json.Marshal(job)
	if err != nil {
		return nil, err
	}
	start := time.Date(2030, 1, 7, 0, 0, 0, 0, time.UTC)
	const id = "rehearsal"
	result, err := rehearse.Run(ctx, rehearse.Config{
		Fleet: rehearse.Fleet{Things: r.Things, Success: r.Success, Work: r.Work}, Seed: 1, Start: start, Realm: realm,
		Create: func(ctx context.Context, e *engine.Engine) (iot.JobID, error) {
			return id, createThrough(ctx, e, realm, start, id, body)
		},
	})
	if err != nil {
		return nil, iot.Errorf(iot.InvalidRequest, "%s", strings.TrimSpace(err.Error()))
	}
	o := &console.Outcome{Status: string(result.Status), Reason: result.Reason, Took: time.Duration(float64(result.Took) * float64(time.Minute))}
	for _, p := range append(result.Timeline, result.Final) {
		at := iot.Time(float64(p.After) * 60_000)
		if n := len(o.Points); n > 0 && o.Points[n-1].At > at {
			continue
		}
		o.Points = append(o.Points, console.Point{At: at, Counts: iot.Counts{
			iot.Queued: p.Queued, iot.InProgress: p.InProgress, iot.Succeeded: p.Succeeded, iot.Failed: p.Failed,
			iot.Rejected: p.Rejected, iot.TimedOut: p.TimedOut, iot.Canceled: p.Canceled,
		}})
	}
	if len(o.Points) == 0 {
		return nil, errors.New("the rehearsal has shown nothing")
	}
	return o, nil
}
