package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"time"

	"drover/internal/controlplane"
	"drover/internal/engine"
	"drover/internal/iot"
	"drover/internal/rehearse"
)

type rehearseCmd struct {
	apiFlags
	Job     string        `arg:"" help:"File with the job, in the form of \"aws iot create-job --cli-input-json\". Its targets are replaced by the fleet." type:"existingfile"`
	Things  int           `help:"How many things. With --group: what the group has." default:"1000"`
	Success float64       `help:"Probability that an execution succeeds." default:"0.97"`
	Reject  float64       `help:"Probability that a device rejects it." default:"0"`
	Silent  float64       `help:"Probability that a device begins and is never heard of again. What is left of 1 fails." default:"0"`
	Minutes float64       `help:"How long an execution takes on average." default:"5"`
	Offline float64       `help:"Share of things that are offline when the job starts." default:"0"`
	Back    time.Duration `help:"Time over which they come back." default:"24h"`
	Seed    uint64        `help:"Seed of everything random." default:"1"`
	At      string        `help:"What the clock shows at the beginning, UTC; default: a Monday, or an hour before the job's startTime." placeholder:"\"2030-01-07 00:00\""`
	Limit   time.Duration `help:"Stop after so much simulated time." default:"720h"`
	Group   string        `help:"Thing group of a live server to take the number of things and the success of past executions from. Nothing is changed there." placeholder:"NAME"`
	SVG     string        `name:"svg" help:"Draw the chart into a file." type:"path" placeholder:"FILE"`
	JSON    bool          `help:"Print everything as JSON."`
}

const scheduleLayout = "2006-01-02 15:04"

func (c *rehearseCmd) Run(ctx context.Context, s *streams) error {
	text, err := os.ReadFile(c.Job)
	if err != nil {
		return err
	}
	var job map[string]any
	if err := json.Unmarshal(text, &job); err != nil {
		return fmt.Errorf("%s: %w", c.Job, err)
	}
	realm := iot.Realm{Account: "123456789012", Region: "us-east-1"}
	job["targets"] = []string{realm.ARN(iot.KindGroup, string(rehearse.Group))}
	id, ok := job["jobId"].(string)
	if !ok || id == "" {
		id = "rehearsal"
	}
	delete(job, "jobId")
	start, err := c.start(job)
	if err != nil {
		return err
	}
	fleet := rehearse.Fleet{
		Things: c.Things, Success: c.Success, Reject: c.Reject, Silent: c.Silent,
		Work: time.Duration(c.Minutes * float64(time.Minute)), Offline: c.Offline, Back: c.Back,
	}
	if c.Group != "" {
		if err := c.learn(ctx, s, &fleet); err != nil {
			return fmt.Errorf("look at group %s: %w", c.Group, err)
		}
	}
	body, err := json.Marshal(job)
	if err != nil {
		return err
	}
	result, err := rehearse.Run(ctx, rehearse.Config{
		Fleet: fleet, Seed: c.Seed, Start: start, Limit: c.Limit, Realm: realm,
		Create: func(ctx context.Context, e *engine.Engine) (iot.JobID, error) {
			return iot.JobID(id), createThrough(ctx, e, realm, start, id, body)
		},
	})
	if err != nil {
		return err
	}
	if c.SVG != "" {
		if err := os.WriteFile(c.SVG, []byte(result.SVG()), 0o644); err != nil {
			return err
		}
	}
	if c.JSON {
		out := json.NewEncoder(s.out)
		out.SetIndent("", "  ")
		return out.Encode(result)
	}
	_, err = fmt.Fprint(s.out, result.Text())
	return err
}

// start finds out when the rehearsal begins.
func (c *rehearseCmd) start(job map[string]any) (time.Time, error) {
	if c.At != "" {
		return time.Parse(scheduleLayout, c.At)
	}
	if schedule, ok := job["schedulingConfig"].(map[string]any); ok {
		if text, ok := schedule["startTime"].(string); ok {
			at, err := iot.ParseScheduleTime(text)
			return at.Std().Add(-time.Hour), err
		}
	}
	return time.Parse(scheduleLayout, "2030-01-07 00:00")
}

// createThrough creates the job as a request of the API would be, with all its checks.
func createThrough(ctx context.Context, e *engine.Engine, realm iot.Realm, start time.Time, id string, body []byte) error {
	api := controlplane.New(controlplane.Config{Jobs: e, Sources: unread{}, Realm: realm, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return start }})
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, "/jobs/"+url.PathEscape(id), bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.RequestURI = r.URL.RequestURI()
	w := httptest.NewRecorder()
	api.ServeHTTP(w, r)
	if w.Code == http.StatusOK {
		return nil
	}
	var refusal struct{ Message string }
	if err := json.Unmarshal(w.Body.Bytes(), &refusal); err != nil {
		return err
	}
	return errors.New(cmp.Or(refusal.Message, http.StatusText(w.Code)))
}

// unread stands for all documents that are in a store: devices that do not exist read none.
type unread struct{}

func (unread) Fetch(context.Context, string) (string, error) { return "{}", nil }

// sample is how many things' histories are looked at.
const sample = 100

// learn takes the number of things in a live group, and how past executions went there. It
// only reads.
func (c *rehearseCmd) learn(ctx context.Context, s *streams, fleet *rehearse.Fleet) error {
	a, err := c.api()
	if err != nil {
		return err
	}
	things, err := a.members(ctx, c.Group)
	if err != nil {
		return err
	}
	if len(things) == 0 {
		return errors.New("the group has no things")
	}
	fleet.Things = len(things)
	random := rand.New(rand.NewPCG(c.Seed, 1))
	var ended, succeeded, rejected int
	var work time.Duration
	for range min(sample, len(things)) {
		history, err := a.history(ctx, things[random.IntN(len(things))])
		if err != nil {
			return err
		}
		for _, x := range history {
			switch x.Status {
			case "SUCCEEDED":
				succeeded++
				work += time.Duration((x.UpdatedAt - x.StartedAt) * float64(time.Second))
			case "REJECTED":
				rejected++
			case "FAILED", "TIMED_OUT":
			default:
				continue
			}
			ended++
		}
	}
	if ended > 0 {
		fleet.Success, fleet.Reject = float64(succeeded)/float64(ended), float64(rejected)/float64(ended)
	}
	if succeeded > 0 {
		fleet.Work = work / time.Duration(succeeded)
	}
	say(s.err, "group %s: %d things; of %d past executions %d succeeded, in %s on average\n", c.Group, len(things), ended, succeeded, fleet.Work.Round(time.Second))
	return nil
}

// members lists the things of a group and of all below it.
func (a *api) members(ctx context.Context, group string) (things []string, err error) {
	for token := ""; ; {
		var out struct {
			Things    []string `json:"things"`
			NextToken string   `json:"nextToken"`
		}
		query := url.Values{"recursive": {"true"}, "maxResults": {strconv.Itoa(250)}}
		if token != "" {
			query.Set("nextToken", token)
		}
		if err := a.call(ctx, http.MethodGet, "/thing-groups/"+url.PathEscape(group)+"/things?"+query.Encode(), nil, &out); err != nil {
			return nil, err
		}
		things = append(things, out.Things...)
		if token = out.NextToken; token == "" {
			return things, nil
		}
	}
}

type pastExecution struct {
	Status    string  `json:"status"`
	StartedAt float64 `json:"startedAt"`
	UpdatedAt float64 `json:"lastUpdatedAt"`
}

// history lists the latest executions of a thing.
func (a *api) history(ctx context.Context, thing string) ([]pastExecution, error) {
	var out struct {
		Summaries []struct {
			Summary pastExecution `json:"jobExecutionSummary"`
		} `json:"executionSummaries"`
	}
	if err := a.call(ctx, http.MethodGet, "/things/"+url.PathEscape(thing)+"/jobs?maxResults=20", nil, &out); err != nil {
		return nil, err
	}
	var history []pastExecution
	for _, e := range out.Summaries {
		history = append(history, e.Summary)
	}
	return history, nil
}
