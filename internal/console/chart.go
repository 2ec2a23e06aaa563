package console

import (
	"fmt"
	"html/template"
	"math"
	"strings"
	"time"

	"drover/internal/iot"
)

// stacked is the order of statuses in charts, from the bottom: what is done at the bottom, what went
// wrong above it, what waits on top.
var stacked = []iot.ExecutionStatus{iot.Succeeded, iot.Failed, iot.TimedOut, iot.Rejected, iot.Canceled, iot.Removed, iot.InProgress, iot.Queued}

// statusName is how a status reads, and its class in the stylesheet.
func statusName(s iot.ExecutionStatus) string {
	return strings.ReplaceAll(strings.ToLower(s.String()), "_", " ")
}

func statusClass(text string) string {
	return "s-" + strings.ReplaceAll(strings.ToLower(text), "_", "-")
}

// patterns are what statuses differ by for who does not see their colours. The classes of the
// stylesheet say in which colour they are drawn.
const patterns = `<defs>` +
	`<pattern id="p-failed" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="6" height="6" class="f s-failed"/><rect width="2" height="6" class="f ink"/></pattern>` +
	`<pattern id="p-timed-out" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(-45)"><rect width="6" height="6" class="f s-timed-out"/><rect width="1.5" height="6" class="f ink"/></pattern>` +
	`<pattern id="p-rejected" width="6" height="6" patternUnits="userSpaceOnUse"><rect width="6" height="6" class="f s-rejected"/><circle cx="3" cy="3" r="1.3" class="f ink"/></pattern>` +
	`<pattern id="p-in-progress" width="8" height="8" patternUnits="userSpaceOnUse"><rect width="8" height="8" class="f s-in-progress"/><rect width="8" height="1.5" class="f ink"/></pattern>` +
	`</defs>`

func fill(s iot.ExecutionStatus) string {
	switch s {
	case iot.Failed, iot.TimedOut, iot.Rejected, iot.InProgress:
		return fmt.Sprintf(`fill="url(#p-%s)"`, strings.TrimPrefix(statusClass(s.String()), "s-"))
	}
	return fmt.Sprintf(`class="f %s"`, statusClass(s.String()))
}

// chartSize is what charts are drawn for; they are scaled to the page.
type chartSize struct{ width, height float64 }

var wide = chartSize{960, 280}

// areaChart draws the points as areas on top of each other, with a line at total if that is more than
// there is: the things that are still to come.
func areaChart(points []Point, total int64, size chartSize, title string) template.HTML {
	const left, right, top, bottom = 48, 8, 10, 24
	if len(points) == 0 {
		points = []Point{{}}
	}
	first, last := points[0].At, points[len(points)-1].At
	if last-first < 1000 {
		last = first + 1000
	}
	peak := total
	for _, p := range points {
		peak = max(peak, p.Counts.Ended()+p.Counts.Pending())
	}
	ceiling, step := niceScale(peak)
	x := func(t iot.Time) float64 { return left + (size.width-left-right)*float64(t-first)/float64(last-first) }
	y := func(n int64) float64 {
		return size.height - bottom - (size.height-top-bottom)*float64(n)/float64(ceiling)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="chart" viewBox="0 0 %g %g" role="img" aria-label="%s">`, size.width, size.height, template.HTMLEscapeString(title))
	b.WriteString(patterns)
	for n := int64(0); n <= ceiling; n += step {
		fmt.Fprintf(&b, `<path class="grid" d="M%d %.1fH%g"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`, left, y(n), size.width-right, left-6, y(n)+4, short(n))
	}
	ticks := timeTicks(first, last, int(size.width/120))
	for _, t := range ticks {
		fmt.Fprintf(&b, `<path class="grid" d="M%.1f %gv4"/><text x="%.1f" y="%g" text-anchor="middle">%s</text>`, x(t.at), size.height-bottom, x(t.at), size.height-6, t.text)
	}
	base := make([]int64, len(points))
	for _, s := range stacked {
		any := false
		for _, p := range points {
			any = any || p.Counts[s] > 0
		}
		if !any {
			continue
		}
		var up, down strings.Builder
		for i, p := range points {
			n := base[i] + max(0, p.Counts[s])
			if i == 0 {
				fmt.Fprintf(&up, "M%.1f %.1f", x(p.At), y(n))
			} else {
				fmt.Fprintf(&up, "L%.1f %.1f", x(p.At), y(n))
			}
		}
		for i := len(points) - 1; i >= 0; i-- {
			fmt.Fprintf(&down, "L%.1f %.1f", x(points[i].At), y(base[i]))
			base[i] += max(0, points[i].Counts[s])
		}
		fmt.Fprintf(&b, `<path %s d="%s%sZ"/>`, fill(s), up.String(), down.String())
	}
	if total > 0 {
		fmt.Fprintf(&b, `<path class="target" d="M%d %.1fH%g"/>`, left, y(total), size.width-right)
	}
	// What stood when, for the pointer.
	columns := min(len(points), 80)
	for i := range columns {
		p := points[i*len(points)/columns]
		width := (size.width - left - right) / float64(columns)
		fmt.Fprintf(&b, `<rect class="probe" x="%.1f" y="%d" width="%.1f" height="%g"><title>%s</title></rect>`, x(p.At)-width/2, top, width, size.height-top-bottom, describe(p))
	}
	b.WriteString("</svg>")
	return template.HTML(b.String())
}

// describe says a point in words.
func describe(p Point) string {
	parts := []string{p.At.Std().Format("15:04:05")}
	for _, s := range stacked {
		if n := p.Counts[s]; n > 0 {
			parts = append(parts, grouped(n)+" "+statusName(s))
		}
	}
	return strings.Join(parts, " · ")
}

// niceScale returns a round number not below peak, and the step of the grid.
func niceScale(peak int64) (ceiling, step int64) {
	if peak <= 4 {
		return max(peak, 1), 1
	}
	raw := float64(peak) / 4
	magnitude := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, m := range []float64{1, 2, 2.5, 5, 10} {
		if s := m * magnitude; s >= raw && s == math.Trunc(s) {
			step = int64(s)
			break
		}
	}
	return (peak + step - 1) / step * step, step
}

type tick struct {
	at   iot.Time
	text string
}

// timeTicks returns about n round times between two.
func timeTicks(first, last iot.Time, n int) (ticks []tick) {
	span := time.Duration(last-first) * time.Millisecond
	every := 30 * 24 * time.Hour
	for _, d := range []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute,
		10 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour, 48 * time.Hour, 7 * 24 * time.Hour} {
		if span/d <= time.Duration(max(n, 1)) {
			every = d
			break
		}
	}
	layout := "15:04"
	switch {
	case every < time.Minute:
		layout = "15:04:05"
	case every >= 24*time.Hour:
		layout = "2 Jan"
	}
	margin := iot.Time(span.Milliseconds() / 40)
	for t := first.Std().Truncate(every); ; t = t.Add(every) {
		at := iot.At(t)
		if at > last-margin {
			return ticks
		}
		if at >= first+margin {
			ticks = append(ticks, tick{at, t.Format(layout)})
		}
	}
}

// bar draws counts as one bar, which the caption beside it says in words.
func bar(c iot.Counts, total int64) template.HTML {
	total = max(total, c.Ended()+c.Pending(), 1)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="bar" viewBox="0 0 200 10" preserveAspectRatio="none" role="img" aria-label="%s"><rect class="rest" width="200" height="10"/>`, counted(c))
	at := 0.0
	for _, s := range stacked {
		if c[s] <= 0 || s == iot.Queued {
			continue
		}
		width := max(200*float64(c[s])/float64(total), 1.5) // something is something
		fmt.Fprintf(&b, `<rect x="%.2f" width="%.2f" height="10" class="f %s"/>`, at, width, statusClass(s.String()))
		at += width
	}
	b.WriteString("</svg>")
	return template.HTML(b.String())
}

// counted says counts in words.
func counted(c iot.Counts) string {
	var parts []string
	for _, s := range stacked {
		if c[s] > 0 {
			parts = append(parts, grouped(c[s])+" "+statusName(s))
		}
	}
	if len(parts) == 0 {
		return "nothing yet"
	}
	return strings.Join(parts, ", ")
}

// rateChart draws what ended in all jobs, and how much of it failed, as columns.
func rateChart(rates []rateOf) template.HTML {
	const width, height, columns = 960.0, 96.0, 60
	var sums [columns]rateOf
	var peak int64 = 1
	for i, r := range rates {
		// The newest is on the right; five periods a column.
		at := columns - 1 - (len(rates)-1-i)/5
		if at < 0 {
			continue
		}
		sums[at].Ended += r.Ended
		sums[at].Failed += r.Failed
		peak = max(peak, sums[at].Ended)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="spark" viewBox="0 0 %g %g" role="img" aria-label="Executions that ended in the last ten minutes, at most %d in ten seconds">%s`, width, height, peak, patterns)
	fmt.Fprintf(&b, `<path class="grid" d="M0 %gH%g"/>`, height-0.5, width)
	const w = width / columns
	for i, s := range sums {
		h := (height - 8) * float64(s.Ended) / float64(peak)
		f := (height - 8) * float64(s.Failed) / float64(peak)
		if h > 0 {
			fmt.Fprintf(&b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" class="f s-succeeded"/>`, float64(i)*w+1, height-h, w-2, h-f)
		}
		if f > 0 {
			fmt.Fprintf(&b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="url(#p-failed)"/>`, float64(i)*w+1, height-f, w-2, f)
		}
	}
	b.WriteString("</svg>")
	return template.HTML(b.String())
}

// gauge draws how far a value is on its way to a threshold.
func gauge(value, threshold float64) template.HTML {
	// The threshold is at two thirds, so that beyond it is visible, too.
	const width, at = 200.0, 150.0
	x := 0.0
	if threshold > 0 {
		x = min(width, at*value/threshold)
	}
	class := "ok"
	switch {
	case value >= threshold:
		class = "over"
	case value >= threshold*0.7:
		class = "near"
	}
	return template.HTML(fmt.Sprintf(`<svg class="gauge %s" viewBox="0 0 %g 16" preserveAspectRatio="none" aria-hidden="true"><rect class="rest" y="4" width="%g" height="8" rx="4"/><rect class="value" y="4" width="%.1f" height="8" rx="4"/><rect class="mark" x="%g" width="2" height="16"/></svg>`, class, width, width, x, at))
}

// icons are shapes for statuses, 16 by 16.
var icons = map[string]string{
	"succeeded":   `<path d="M3 8.5l3.2 3.2L13 5" class="stroke"/>`,
	"failed":      `<path d="M4 4l8 8M12 4l-8 8" class="stroke"/>`,
	"timed-out":   `<circle cx="8" cy="8" r="5.5" class="stroke"/><path d="M8 5v3.2l2.2 1.6" class="stroke"/>`,
	"rejected":    `<circle cx="8" cy="8" r="5.5" class="stroke"/><path d="M4.2 11.8l7.6-7.6" class="stroke"/>`,
	"canceled":    `<path d="M4 8h8" class="stroke"/>`,
	"removed":     `<path d="M5 4h6M6 6v6h4V6" class="stroke"/>`,
	"in-progress": `<path d="M5 3.5l7 4.5-7 4.5z" class="solid"/>`,
	"queued":      `<path d="M5.5 4v8M10.5 4v8" class="stroke"/>`,
	"scheduled":   `<rect x="3" y="4" width="10" height="9" rx="1" class="stroke"/><path d="M3 7h10M6 2.5v3M10 2.5v3" class="stroke"/>`,
	"completed":   `<path d="M3 8.5l3.2 3.2L13 5" class="stroke"/>`,

	"deletion-in-progress": `<path d="M4 5h8M6 5V3.5h4V5M5.5 5l.5 8h4l.5-8" class="stroke"/>`,

	"active": `<circle cx="8" cy="8" r="4" class="solid"/>`, "inactive": `<circle cx="8" cy="8" r="4" class="stroke"/>`,
	"revoked": `<path d="M4 4l8 8M12 4l-8 8" class="stroke"/>`, "pending-activation": `<path d="M5.5 4v8M10.5 4v8" class="stroke"/>`,
	"connected": `<circle cx="8" cy="8" r="4" class="solid"/>`, "disconnected": `<circle cx="8" cy="8" r="4" class="stroke"/>`,
	"published": `<path d="M3 8.5l3.2 3.2L13 5" class="stroke"/>`, "draft": `<path d="M4 12l1-3 6-6 2 2-6 6z" class="stroke"/>`, "deprecated": `<path d="M8 3.5v9M4.5 9l3.5 3.5L11.5 9" class="stroke"/>`,
	"create-complete": `<path d="M3 8.5l3.2 3.2L13 5" class="stroke"/>`, "create-failed": `<path d="M4 4l8 8M12 4l-8 8" class="stroke"/>`, "created": `<path d="M5.5 4v8M10.5 4v8" class="stroke"/>`,
	"ok": `<path d="M3 8.5l3.2 3.2L13 5" class="stroke"/>`, "bad": `<path d="M8 3v6M8 11.5v1.5" class="stroke"/>`,
}

// pill is a status as colour, shape and text.
func pill(status string) template.HTML {
	class := strings.TrimPrefix(statusClass(status), "s-")
	return template.HTML(fmt.Sprintf(`<span class="pill s-%s"><svg viewBox="0 0 16 16" aria-hidden="true">%s</svg>%s</span>`,
		template.HTMLEscapeString(class), icons[class], template.HTMLEscapeString(strings.ReplaceAll(strings.ToLower(status), "_", " "))))
}

// grouped writes a number with thin spaces between thousands.
func grouped(n int64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "\u202f" + text[i:]
	}
	return text
}

// short writes a number for an axis.
func short(n int64) string {
	switch {
	case n >= 1_000_000:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(n)/1e6), ".0") + "M"
	case n >= 10_000:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(n)/1e3), ".0") + "k"
	}
	return fmt.Sprint(n)
}
