package fleetsim

import (
	"context"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
)

// How often a display is renewed, and over which time its rate is smoothed.
const (
	barInterval  = 200 * time.Millisecond
	lineInterval = 5 * time.Second
	rateSpan     = 3 * time.Second
)

// Display shows how far a fleet is: as a bar that is redrawn on a terminal, as
// a line every few seconds elsewhere.
type Display struct {
	w        io.Writer
	terminal bool

	bar     *progressbar.ProgressBar
	total   int
	started time.Time
	moving  time.Time // when the first executions ended, or not long before
	drawn   time.Time // the last time
	ended   int64     // by then
	rate    float64   // executions ended per second, smoothed
}

// NewDisplay returns a display that writes to w. Whether that is a terminal is
// for the caller to find out.
func NewDisplay(w io.Writer, terminal bool) *Display {
	return &Display{w: w, terminal: terminal}
}

// Run shows the fleet's progress until ctx ends, and once more then. total is
// asked for the number of executions to come in all, which may change; 0 if it
// is not known. A display runs once.
func (d *Display) Run(ctx context.Context, f *Fleet, total func() int) {
	interval := lineInterval
	if d.terminal {
		interval = barInterval
	}
	d.started = time.Now()
	d.drawn = d.started
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			d.draw(f.Progress(), total())
		case <-ctx.Done():
			d.draw(f.Progress(), total())
			if d.terminal {
				d.printf("\n")
			}
			return
		}
	}
}

// draw renews the bar or writes a line.
func (d *Display) draw(p Progress, total int) {
	now := time.Now()
	d.measure(p.Ended(), now)
	if !d.terminal {
		d.printf("%s  %s\n", now.Sub(d.started).Round(time.Second), d.line(p, total))
		return
	}
	if d.bar == nil || total != d.total {
		// A bar that was full stays full, so a new total gets a new bar.
		d.total = total
		length := int64(total)
		if total <= 0 {
			length = -1 // a spinner
		}
		d.bar = progressbar.NewOptions64(length,
			progressbar.OptionSetWriter(d.w),
			progressbar.OptionSetWidth(30),
			progressbar.OptionSetPredictTime(false),
			progressbar.OptionSetElapsedTime(false),
			progressbar.OptionShowDescriptionAtLineEnd(),
			progressbar.OptionSetSpinnerChangeInterval(0), // it turns as it is drawn; else a goroutine would outlive it
		)
	}
	d.bar.Describe(d.line(p, total)) // first: a bar that becomes full is drawn a last time
	if total > 0 {
		// Its error says that the number exceeds the total, which it does not.
		_ = d.bar.Set64(min(p.Ended(), int64(total)))
	}
}

// measure renews the rate.
func (d *Display) measure(ended int64, now time.Time) {
	seconds := now.Sub(d.drawn).Seconds()
	if seconds <= 0 {
		return
	}
	current := float64(ended-d.ended) / seconds
	if d.ended == 0 {
		d.moving = d.drawn
	}
	// A plain average until there is enough to smooth.
	weight := max(1-math.Exp(-seconds/rateSpan.Seconds()), seconds/now.Sub(d.moving).Seconds())
	d.rate += weight * (current - d.rate)
	d.drawn, d.ended = now, ended
}

// line says in words how far the fleet is.
func (d *Display) line(p Progress, total int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d", p.Ended())
	if total > 0 {
		fmt.Fprintf(&b, "/%d", total)
	}
	fmt.Fprintf(&b, " executions, %.0f/s", d.rate)
	if left := int64(total) - p.Ended(); left > 0 && d.rate >= 1 {
		fmt.Fprintf(&b, ", %s left", time.Duration(float64(left)/d.rate*float64(time.Second)).Round(time.Second))
	}
	fmt.Fprintf(&b, ", %d ok, %d failed", p.Succeeded, p.Failed)
	if p.Withdrawn > 0 {
		fmt.Fprintf(&b, ", %d withdrawn", p.Withdrawn)
	}
	fmt.Fprintf(&b, ", %d/%d connected", p.Connected, p.Devices)
	if p.Errors > 0 {
		fmt.Fprintf(&b, ", %d errors", p.Errors)
	}
	return b.String()
}

// printf writes to the display's writer. A display that cannot be written to
// has nobody to tell.
func (d *Display) printf(format string, args ...any) { _, _ = fmt.Fprintf(d.w, format, args...) }
