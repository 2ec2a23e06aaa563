package dataplane

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestProblems(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	now := time.Unix(1_700_000_000, 0)
	var text bytes.Buffer
	metrics := prometheus.NewRegistry()
	p := NewProblems(ProblemsConfig{
		Now: func() time.Time { now = now.Add(time.Second); return now }, Logger: slog.New(slog.NewTextHandler(&text, nil)), Metrics: metrics,
	})
	r.h.problems, r.h.heard = p, func(topic string) bool { return topic == "heard" }
	c := client{r, "t1"}
	publish := func(topic string, retain bool) {
		r.h.HandlePublish(c, Message{Topic: topic, Retain: retain})
	}
	for range 3 {
		publish("aws/things/t1/jobs/get", false)
	}
	publish("heard", false)
	publish("kept", true)
	publish("dt/nobody", false)
	publish("$aws/things/t1/shadow/update", false)
	publish("$aws/things/t1/jobs/get", false)        // fine
	publish("$aws/things/t2/jobs/get", false)        // a gateway's good right
	publish("$aws/things/t9/jobs/start-next", false) // there is no such thing
	publish("$aws/things/t1/jobs/nonsense", false)   // refused, but its own
	var got []string
	for _, problem := range p.Of("t1") {
		got = append(got, fmt.Sprintf("%s %s %d", problem.Kind, problem.Topic, problem.Count))
		if problem.Hint == "" || problem.Last.Before(problem.First) {
			t.Errorf("%+v", problem)
		}
	}
	want := []string{"other-thing $aws/things/t9/jobs/start-next 1", "reserved-topic $aws/things/t1/shadow/update 1", "unheard dt/nobody 1", "missing-dollar aws/things/t1/jobs/get 3"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %q", got)
	}
	if n := strings.Count(text.String(), "\n"); n != len(want) {
		t.Errorf("%d lines of log:\n%s", n, text.String())
	}
	families, err := metrics.Gather()
	if err != nil || len(families) != 1 || len(families[0].GetMetric()) != 6 {
		t.Errorf("metrics %v, %v", families, err)
	}
	if p.Of("t2") != nil {
		t.Error("another client has problems")
	}
}

// Only so many clients are remembered: those with the latest problems.
func TestProblemsAreBounded(t *testing.T) {
	t.Parallel()
	p := NewProblems(ProblemsConfig{Clients: 160})
	for i := range 10_000 {
		p.Note(fmt.Sprint(i), Unheard, "t")
	}
	known := 0
	for i := range 10_000 {
		if p.Of(fmt.Sprint(i)) != nil {
			known++
		}
	}
	if known > 160 || p.Of("9999") == nil {
		t.Errorf("%d clients are remembered", known)
	}
}

func BenchmarkProblem(b *testing.B) {
	p := NewProblems(ProblemsConfig{})
	b.ReportAllocs()
	for b.Loop() {
		p.Note("client", Unheard, "dt/client/temperature")
	}
}
