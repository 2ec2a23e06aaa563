package console

import (
	"fmt"
	"html/template"
	"regexp"
	"strings"
	"time"

	"drover/internal/iot"
)

// inWords says the configuration of a job in sentences.
func inWords(c iot.JobConfig, s *iot.Schedule, selection iot.Selection) (lines []string) {
	lines = append(lines, rolloutInWords(c.Rollout))
	for _, a := range c.Abort {
		lines = append(lines, abortInWords(a))
	}
	if len(c.Abort) == 0 {
		lines = append(lines, "Nothing stops it when devices fail.")
	}
	if c.TimeoutMinutes > 0 {
		lines = append(lines, fmt.Sprintf("A device has %s to finish after it began.", minutesInWords(c.TimeoutMinutes)))
	} else {
		lines = append(lines, "A device may take as long as it wants.")
	}
	for _, r := range c.Retry {
		if r.Retries > 0 {
			lines = append(lines, fmt.Sprintf("A device that %s tries again, up to %s.", failsAs(r.Failure, "or"), times(r.Retries)))
		}
	}
	if selection == iot.Continuous {
		lines = append(lines, "Devices that join its groups later get it, too.")
	}
	if s == nil {
		return lines
	}
	if s.StartAt != 0 {
		lines = append(lines, "It starts at "+s.StartAt.Std().Format(timeLayout)+".")
	}
	for _, w := range s.Windows {
		lines = append(lines, fmt.Sprintf("It goes on only in windows of %s, by %s.", minutesInWords(w.Minutes), w.Cron))
	}
	if s.EndAt != 0 {
		then := map[iot.EndBehavior]string{iot.StopRollout: "no further device gets it", iot.EndCancel: "what has not begun is canceled", iot.ForceCancel: "everything that has not ended is canceled"}[s.EndBehavior]
		lines = append(lines, fmt.Sprintf("At %s it ends: %s.", s.EndAt.Std().Format(timeLayout), then))
	}
	return lines
}

func rolloutInWords(r *iot.RolloutConfig) string {
	if r == nil {
		return "All devices get it at once."
	}
	most := int64(iot.MaxRate)
	if r.MaximumPerMinute > 0 {
		most = r.MaximumPerMinute
	}
	e := r.Exponential
	if e == nil {
		return fmt.Sprintf("At most %s devices a minute get it.", grouped(most))
	}
	var when []string
	if e.NotifiedThings > 0 {
		when = append(when, grouped(e.NotifiedThings)+" that got it")
	}
	if e.SucceededThings > 0 {
		when = append(when, grouped(e.SucceededThings)+" that succeeded")
	}
	return fmt.Sprintf("%s devices a minute get it at first, %s after each %s, up to %s a minute.",
		grouped(e.BasePerMinute), factorInWords(e.FactorTenths), strings.Join(when, " or each "), grouped(most))
}

// rateInWords says how fast a job is rolled out now, and what is to happen before it goes faster.
func rateInWords(j *iot.Job) string {
	rate := j.Rate()
	if rate == 0 {
		return ""
	}
	now := fmt.Sprintf("It is given to at most %s devices a minute now, and was to %s so far.", grouped(rate), grouped(j.Pace.Notified))
	e := j.Config.Rollout.Exponential
	most := j.Config.Rollout.MaximumPerMinute
	if most == 0 {
		most = iot.MaxRate
	}
	if e == nil || rate >= most {
		return now
	}
	next := (j.Pace.Step + 1)
	var when []string
	if e.NotifiedThings > 0 {
		when = append(when, fmt.Sprintf("%s have got it", grouped(next*e.NotifiedThings)))
	}
	if e.SucceededThings > 0 {
		when = append(when, fmt.Sprintf("%s have succeeded (%s have)", grouped(next*e.SucceededThings), grouped(j.Counts[iot.Succeeded])))
	}
	return now + " It goes faster when " + strings.Join(when, " or ") + "."
}

func factorInWords(tenths int64) string {
	switch tenths {
	case 20:
		return "doubling"
	case 30:
		return "tripling"
	}
	return fmt.Sprintf("%g times as many", float64(tenths)/10)
}

func abortInWords(a iot.AbortCriterion) string {
	return fmt.Sprintf("It stops when %g %% of at least %s %s.", float64(a.ThresholdHundredths)/100, grouped(a.MinExecuted), plural(failsAs(a.Failure, "or")))
}

// failsAs is what a device does, in the singular.
func failsAs(f iot.FailureType, or string) string {
	switch f {
	case iot.FailureFailed:
		return "fails"
	case iot.FailureRejected:
		return "rejects it"
	case iot.FailureTimedOut:
		return "times out"
	}
	return "fails in any way"
}

func plural(does string) string {
	verb, rest, _ := strings.Cut(does, " ")
	return strings.TrimSpace(strings.TrimSuffix(verb, "s") + " " + rest)
}

func times(n int64) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

func minutesInWords(n int64) string {
	switch {
	case n == 1:
		return "a minute"
	case n%1440 == 0 && n > 1440:
		return fmt.Sprintf("%d days", n/1440)
	case n%60 == 0 && n > 60:
		return fmt.Sprintf("%d hours", n/60)
	}
	return fmt.Sprintf("%d minutes", n)
}

const timeLayout = "2006-01-02 15:04 UTC"

// span is a duration as people say it.
func span(d time.Duration) string {
	switch {
	case d < 0:
		return "now"
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()+0.5))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24+0.5))
}

// moment is a time as an element that says it exactly, too.
func (c *Console) moment(t iot.Time) template.HTML {
	if t == 0 {
		return "–"
	}
	ago := time.Duration(c.now()-t) * time.Millisecond
	text := span(ago) + " ago"
	switch {
	case ago < -time.Second:
		text = "in " + span(-ago)
	case ago < time.Second:
		text = "now"
	}
	return template.HTML(fmt.Sprintf(`<time datetime="%s" title="%s">%s</time>`, t.Std().Format(time.RFC3339), t.Std().Format("2006-01-02 15:04:05 UTC"), text))
}

// size is a number of bytes as people say it.
func size(n int64) string {
	f := float64(n)
	for _, unit := range []string{"B", "KB", "MB", "GB"} {
		if f < 1000 {
			return strings.TrimSuffix(fmt.Sprintf("%.1f", f), ".0") + " " + unit
		}
		f /= 1000
	}
	return fmt.Sprintf("%.1f TB", f)
}

func (c *Console) funcs() template.FuncMap {
	return template.FuncMap{
		"asset": func(name string) (string, error) {
			a, ok := c.assets[name]
			if !ok {
				return "", fmt.Errorf("no asset %s", name)
			}
			return a.url, nil
		},
		"pill": func(v any) template.HTML { return pill(fmt.Sprint(v)) }, "bar": bar, "gauge": gauge, "grouped": grouped, "moment": c.moment, "span": span, "size": size, "statusName": statusName,
		"counted": counted, "details": detailsText[map[string]string], "highlight": highlight, "deviceCount": deviceCount,
		"grouped64": func(n int) string { return grouped(int64(n)) }, "jobStatuses": func() []iot.JobStatus { return jobStatuses },
		"millis":  func(t time.Time) iot.Time { return iot.At(t) },
		"lower":   strings.ToLower,
		"class":   func(v any) string { return statusClass(fmt.Sprint(v)) },
		"shorten": func(id any) string { return shortened(fmt.Sprint(id)) },
		"map":     dictionary,
		"pretty":  pretty,
		"files":   func(d download) []download { return []download{d} },
	}
}

// shortened is the beginning of what nobody reads to the end.
func shortened(id string) string {
	if len(id) > 16 {
		return id[:12] + "…"
	}
	return id
}

// dictionary hands several values to a template.
func dictionary(pairs ...any) (map[string]any, error) {
	m := make(map[string]any, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		key, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("key %v is no text", pairs[i])
		}
		m[key] = pairs[i+1]
	}
	return m, nil
}

// deviceCount says on how many devices something has not ended.
func deviceCount(c iot.Counts) string {
	switch n := c.Pending(); n {
	case 0:
		return "It has ended on all devices."
	case 1:
		return "It has not ended on one device."
	default:
		return "It has not ended on " + grouped(n) + " devices."
	}
}

// tokens of JSON: texts, with the colon behind those that are keys, and words.
var tokens = regexp.MustCompile(`("(?:[^"\\]|\\.)*")(\s*:)?|\b(true|false|null|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\b`)

// highlight marks what is what in a document.
func highlight(text string) template.HTML {
	var b strings.Builder
	at := 0
	for _, m := range tokens.FindAllStringSubmatchIndex(text, -1) {
		b.WriteString(template.HTMLEscapeString(text[at:m[0]]))
		class := "j-word"
		switch {
		case m[4] >= 0:
			class = "j-key"
		case m[2] >= 0:
			class = "j-text"
		}
		b.WriteString(`<span class="` + class + `">` + template.HTMLEscapeString(text[m[0]:m[1]]) + "</span>")
		at = m[1]
	}
	b.WriteString(template.HTMLEscapeString(text[at:]))
	return template.HTML(b.String())
}
