package console

import (
	"strings"
	"testing"

	"drover/internal/iot"
)

// TestSealer: what was sealed is opened, and nothing else is.
func TestSealer(t *testing.T) {
	t.Parallel()
	s, err := newSealer(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	text, err := s.seal(asSession, session{Who: "AKIA", Mark: "m", Ends: 7})
	if err != nil {
		t.Fatal(err)
	}
	var got session
	if !s.open(asSession, text, &got) || got.Who != "AKIA" || got.Ends != 7 {
		t.Errorf("%+v", got)
	}
	other, err := newSealer([]byte(strings.Repeat("x", 32)))
	if err != nil {
		t.Fatal(err)
	}
	for i := range text {
		changed := text[:i] + string(rune(text[i]^1)) + text[i+1:]
		if s.open(asSession, changed, &got) && changed != text {
			t.Errorf("opened with character %d changed", i)
		}
	}
	if s.open(asHalf, text, &got) || other.open(asSession, text, &got) || s.open(asSession, "", &got) || s.open(asSession, "AAAA", &got) {
		t.Error("opened what this server has not sealed")
	}
}

// TestLocal: who signs in goes on where he wanted to go in the console, and nowhere else.
func TestLocal(t *testing.T) {
	t.Parallel()
	for next, want := range map[string]string{
		"/console/jobs?status=CANCELED": "/console/jobs?status=CANCELED", "": Path, "/console/": Path, "/jobs": Path, "//evil.example/console/": Path,
		"https://evil.example/console/": Path, `/console/\..\evil`: Path, "javascript:alert(1)": Path, "/consolex": Path,
	} {
		if got := local(next); got != want {
			t.Errorf("%q leads to %q", next, got)
		}
	}
}

// TestHighlight: a document is shown as it is, with nothing in it that a browser would run.
func TestHighlight(t *testing.T) {
	t.Parallel()
	got := string(highlight(`{"a<b": "<script>\"x\"", "n": -1.5e3, "t": true}`))
	want := `{<span class="j-key">&#34;a&lt;b&#34;:</span> <span class="j-text">&#34;&lt;script&gt;\&#34;x\&#34;&#34;</span>, ` +
		`<span class="j-key">&#34;n&#34;:</span> -<span class="j-word">1.5e3</span>, <span class="j-key">&#34;t&#34;:</span> <span class="j-word">true</span>}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestWords: configurations read as sentences.
func TestWords(t *testing.T) {
	t.Parallel()
	got := strings.Join(inWords(iot.JobConfig{
		Rollout:        &iot.RolloutConfig{MaximumPerMinute: 1000, Exponential: &iot.ExponentialRate{BasePerMinute: 50, FactorTenths: 20, SucceededThings: 1000}},
		Abort:          []iot.AbortCriterion{{Failure: iot.FailureFailed, ThresholdHundredths: 2000, MinExecuted: 100}},
		TimeoutMinutes: 120,
	}, nil, iot.Continuous), " ")
	want := "50 devices a minute get it at first, doubling after each 1\u202f000 that succeeded, up to 1\u202f000 a minute. It stops when 20 % of at least 100 fail. " +
		"A device has 2 hours to finish after it began. Devices that join its groups later get it, too."
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestSeries: a long history keeps its shape in few points.
func TestSeries(t *testing.T) {
	t.Parallel()
	s := &series{}
	for i := range 100_000 {
		s.add(Point{At: iot.Time(i * 2000), Counts: iot.Counts{iot.Succeeded: int64(i)}})
	}
	if n := len(s.points); n < maxPoints/3 || n > maxPoints {
		t.Errorf("%d points", n)
	}
	last := s.points[len(s.points)-1]
	if s.points[0].At != 0 || last.Counts[iot.Succeeded] != 99_999 {
		t.Errorf("from %v to %v", s.points[0], last)
	}
	if rate := perMinute(s.points, last.At); rate < 29 || rate > 31 {
		t.Errorf("%v a minute, want 30", rate)
	}
	drawn := string(areaChart(s.points, 0, wide, `<"title">`))
	if strings.Contains(drawn, `<"title">`) || !strings.Contains(drawn, "s-succeeded") {
		t.Errorf("%.300s", drawn)
	}
}
