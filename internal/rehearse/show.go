package rehearse

import (
	"fmt"
	"strings"
	"time"
)

// columns is how wide charts are.
const columns = 64

// Text draws the result for a terminal.
func (r *Result) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s on %d things, seed %d\n\n", r.Job, r.Things, r.Seed)
	lines := r.lines()
	var full int64 // a job that aborts early is worth a close look
	for _, line := range lines {
		full = max(full, line.peak())
	}
	for _, line := range lines {
		if line.peak() > 0 || line.always {
			fmt.Fprintf(&b, "  %-11s %s %d\n", line.name, line.blocks(full), line.last())
		}
	}
	fmt.Fprintf(&b, "  %-11s 0%*s\n\n", "", columns-1, r.Took)
	for _, e := range r.Events {
		fmt.Fprintf(&b, "  %10s  %s\n", e.After, e.What)
	}
	fmt.Fprintf(&b, "\n%s after %s: %d things got the job, %d succeeded, %d failed, %d rejected it, %d timed out, %d were canceled, %d are still at it.\n",
		r.Status, r.Took, r.Final.Notified, r.Final.Succeeded, r.Final.Failed, r.Final.Rejected, r.Final.TimedOut, r.Final.Canceled,
		r.Final.Queued+r.Final.InProgress)
	if r.Reason != "" {
		fmt.Fprintln(&b, r.Reason)
	}
	return b.String()
}

// String is a duration for people: to the second within an hour, to the minute within days.
func (m Minutes) String() string {
	d := time.Duration(float64(m) * float64(time.Minute))
	switch {
	case d < time.Hour:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
	d = d.Round(time.Hour)
	return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// line is one row of a chart: a number at each column's time.
type line struct {
	name   string
	color  string // in SVG
	always bool   // also if it is zero all the time
	values [columns]int64
}

// lines spreads the timeline over the columns.
func (r *Result) lines() []*line {
	lines := []*line{
		{name: "got it", color: "#7f8c8d", always: true}, {name: "in progress", color: "#2980b9"}, {name: "succeeded", color: "#27ae60", always: true},
		{name: "failed", color: "#c0392b"}, {name: "rejected", color: "#8e44ad"}, {name: "timed out", color: "#d35400"}, {name: "canceled", color: "#2c3e50"},
	}
	at := 0
	for column := range columns {
		until := r.Took * Minutes(column+1) / columns
		for at+1 < len(r.Timeline) && r.Timeline[at+1].After <= until {
			at++
		}
		p := Point{}
		if len(r.Timeline) > 0 {
			p = r.Timeline[at]
		}
		for i, v := range []int64{p.Notified, p.InProgress, p.Succeeded, p.Failed, p.Rejected, p.TimedOut, p.Canceled} {
			lines[i].values[column] = v
		}
	}
	return lines
}

func (l *line) last() int64 { return l.values[columns-1] }

func (l *line) peak() (peak int64) {
	for _, v := range l.values {
		peak = max(peak, v)
	}
	return peak
}

// blocks draws the line in eighths of a character.
func (l *line) blocks(full int64) string {
	const steps = " ▁▂▃▄▅▆▇█"
	var b strings.Builder
	for _, v := range l.values {
		step := v * 8 / max(full, 1)
		if v > 0 {
			step = max(step, 1) // something is something
		}
		b.WriteRune([]rune(steps)[min(step, 8)])
	}
	return b.String()
}

// SVG draws the result as a picture.
func (r *Result) SVG() string {
	const width, height, left, top = 860, 380, 70, 40
	const plotWidth, plotHeight = width - left - 150, height - top - 50
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/><text x="%d" y="22" font-size="15">%s on %d things: %s after %s</text>`+"\n",
		width, height, left, r.Job, r.Things, r.Status, r.Took)
	fmt.Fprintf(&b, `<path d="M%d %dV%dH%d" fill="none" stroke="#aaa"/><text x="%d" y="%d" text-anchor="end">%d</text><text x="%d" y="%d" text-anchor="end">0</text><text x="%d" y="%d" text-anchor="end">%s</text>`+"\n",
		left, top, top+plotHeight, left+plotWidth, left-6, top+10, r.Things, left-6, top+plotHeight, left+plotWidth, top+plotHeight+18, r.Took)
	row := 0
	for _, l := range r.lines() {
		if l.peak() == 0 && !l.always {
			continue
		}
		fmt.Fprintf(&b, `<polyline fill="none" stroke="%s" stroke-width="2" points="`, l.color)
		for i, v := range l.values {
			fmt.Fprintf(&b, "%d,%d ", left+plotWidth*(i+1)/columns, top+plotHeight-int(v*plotHeight/int64(max(r.Things, 1))))
		}
		y := top + 16 + row*20
		fmt.Fprintf(&b, `"/><rect x="%d" y="%d" width="12" height="3" fill="%s"/><text x="%d" y="%d">%s %d</text>`+"\n",
			left+plotWidth+16, y-5, l.color, left+plotWidth+34, y, l.name, l.last())
		row++
	}
	for _, e := range r.Events {
		x := left + int(float64(plotWidth)*float64(e.After)/max(float64(r.Took), 1e-9))
		fmt.Fprintf(&b, `<path d="M%d %dV%d" stroke="#bbb" stroke-dasharray="3"><title>%s: %s</title></path>`+"\n", x, top, top+plotHeight, e.After, e.What)
	}
	b.WriteString("</svg>\n")
	return b.String()
}
