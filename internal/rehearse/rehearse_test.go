package rehearse

import (
	"context"
	"reflect"
	"strings"
	"testing"
	"time"

	"drover/internal/engine"
	"drover/internal/iot"
)

var realm = iot.Realm{Account: "123456789012", Region: "us-east-1"}

func rehearsal(t *testing.T, fleet Fleet, seed uint64, job iot.NewJob) *Result {
	t.Helper()
	r, err := Run(t.Context(), Config{
		Fleet: fleet, Seed: seed, Start: time.Date(2030, 1, 7, 0, 0, 0, 0, time.UTC), Realm: realm,
		Create: func(ctx context.Context, e *engine.Engine) (iot.JobID, error) {
			job.JobID, job.Document, job.Targets = "j", "{}", []string{realm.ARN(iot.KindGroup, string(Group))}
			_, err := e.CreateJob(ctx, job)
			return job.JobID, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var cautious = iot.NewJob{Config: iot.JobConfig{
	Rollout:        &iot.RolloutConfig{Exponential: &iot.ExponentialRate{BasePerMinute: 5, FactorTenths: 20, NotifiedThings: 20}},
	Abort:          []iot.AbortCriterion{{Failure: iot.FailureAll, ThresholdHundredths: 2000, MinExecuted: 20}},
	TimeoutMinutes: 30,
	Retry:          []iot.RetryCriterion{{Failure: iot.FailureAll, Retries: 2}},
}}

func TestSameSeedSameHistory(t *testing.T) {
	t.Parallel()
	fleet := Fleet{Things: 300, Success: 0.9, Silent: 0.03, Work: 5 * time.Minute, Offline: 0.2, Back: 6 * time.Hour}
	first, again, other := rehearsal(t, fleet, 7, cautious), rehearsal(t, fleet, 7, cautious), rehearsal(t, fleet, 8, cautious)
	if !reflect.DeepEqual(first, again) || first.Text() != again.Text() || first.SVG() != again.SVG() {
		t.Error("the same seed gave two histories")
	}
	if reflect.DeepEqual(first.Timeline, other.Timeline) {
		t.Error("another seed gave the same history")
	}
	f := first.Final
	if first.Status != iot.JobCompleted || f.Notified != 300 || f.Queued != 0 || f.InProgress != 0 || f.Succeeded < 290 || f.TimedOut == 0 {
		t.Errorf("%s %+v", first.Status, f)
	}
	for i, p := range first.Timeline {
		if p.Queued < 0 || p.InProgress < 0 || p.Notified > 300 || i > 0 && p.After < first.Timeline[i-1].After {
			t.Fatalf("point %d: %+v", i, p)
		}
	}
}

// TestAbortProtectsTheFleet: a bad update stops while few devices have it.
func TestAbortProtectsTheFleet(t *testing.T) {
	t.Parallel()
	r := rehearsal(t, Fleet{Things: 2000, Success: 0.3, Work: 2 * time.Minute}, 1, cautious)
	if r.Status != iot.JobCanceled || r.Reason == "" || r.Final.Notified > 200 {
		t.Errorf("%s %q %+v", r.Status, r.Reason, r.Final)
	}
	if n := len(r.Events); n < 2 || r.Events[0].What != "5 a minute" || !strings.Contains(r.Events[n-1].What, "aborted") {
		t.Errorf("events %+v", r.Events)
	}
	if text := r.Text(); !strings.Contains(text, "CANCELED after") || !strings.Contains(text, "aborted") {
		t.Errorf("%s", text)
	}
}

// TestWindows: a continuous job with windows goes on from night to night.
func TestWindows(t *testing.T) {
	t.Parallel()
	job := iot.NewJob{Selection: iot.Continuous, Schedule: &iot.Schedule{
		End: "2030-02-01 00:00", Windows: []iot.Window{{Cron: "cron(0 2 * * ? *)", Minutes: 60}}}}
	job.Config.Rollout = &iot.RolloutConfig{MaximumPerMinute: 1}
	r := rehearsal(t, Fleet{Things: 100, Success: 1, Work: time.Minute}, 1, job)
	if r.Status != iot.JobCompleted || r.Final.Succeeded != 100 {
		t.Errorf("%s %+v", r.Status, r.Final)
	}
	for _, p := range r.Timeline {
		if p.After < 2*60 && p.Notified > 0 {
			t.Fatalf("before the first window: %+v", p)
		}
		if p.After > 3*60+5 && p.After < 26*60 && p.Notified > 61 {
			t.Fatalf("between two windows: %+v", p)
		}
	}
}

func TestFleetCheck(t *testing.T) {
	t.Parallel()
	for _, bad := range []Fleet{{}, {Things: 1, Success: 1.1}, {Things: 1, Success: 0.9, Reject: 0.2}, {Things: 1, Silent: -1}, {Things: 1, Offline: 2}, {Things: 1, Work: -1}} {
		if _, err := Run(t.Context(), Config{Fleet: bad}); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}

func TestMinutes(t *testing.T) {
	t.Parallel()
	for m, want := range map[Minutes]string{0: "0s", 8.7: "8m42s", 90: "1h30m", 24*60 + 5: "24h5m", 3*24*60 + 61: "3d1h"} {
		if got := m.String(); got != want {
			t.Errorf("%v: %s, want %s", float64(m), got, want)
		}
	}
}
