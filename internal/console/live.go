package console

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"drover/internal/iot"
)

// livePeriod is how often live pages are looked at again.
const livePeriod = 2 * time.Second

// stream sends a fragment of a page as server-sent events, whenever it has become another one, until
// the reader goes, may not see it any more, or done says that nothing will change.
func (r *request) stream(fragment func() (html string, done bool, err error)) error {
	out := http.NewResponseController(r.w)
	r.w.Header().Set("Content-Type", "text/event-stream")
	r.w.Header().Set("X-Accel-Buffering", "no") // of proxies
	send := func(text string) bool {
		// A reader that does not read is gone soon.
		if out.SetWriteDeadline(time.Now().Add(10*time.Second)) != nil {
			return false
		}
		if _, err := r.w.Write([]byte(text)); err != nil {
			return false
		}
		return out.Flush() == nil
	}
	tick := time.NewTicker(livePeriod)
	defer tick.Stop()
	last, quiet := "", 0
	for {
		html, done, err := fragment()
		switch {
		case err != nil || r.expired():
			send("event: end\ndata: \n\n") // the page, asked for again, says why
			return nil
		case html != last:
			last, quiet = html, 0
			if !send("data: " + strings.ReplaceAll(strings.TrimSpace(html), "\n", "\ndata: ") + "\n\n") {
				return nil
			}
		default:
			if quiet++; quiet%8 == 0 && !send(": nothing new\n\n") {
				return nil
			}
		}
		if done {
			send("event: done\ndata: \n\n")
			return nil
		}
		select {
		case <-r.Context().Done():
			return nil
		case <-r.closed:
			return nil
		case <-tick.C:
		}
	}
}

// expired reports whether the session has ended since the request began.
func (r *request) expired() bool {
	return r.now() >= r.session.Ends || r.session.Mark != r.mark(r.session)
}

// until says when about a job will be over, at its rate of late.
func until(pending int64, perMinute float64) string {
	if pending == 0 || perMinute < 0.1 {
		return ""
	}
	left := time.Duration(float64(pending) / perMinute * float64(time.Minute))
	if left < 5*time.Second {
		return "seconds"
	}
	return "about " + span(left)
}

// rateText says a rate per minute.
func rateText(perMinute float64) string {
	if perMinute < 10 {
		return strings.TrimSuffix(fmt.Sprintf("%.1f", perMinute), ".0")
	}
	return grouped(int64(perMinute + 0.5))
}

// isOver reports whether a job has ended, whatever is still to be tidied up.
func isOver(j *iot.Job) bool {
	return j.Status == iot.JobCompleted || j.Status == iot.JobCanceled || j.Status == iot.JobDeletionInProgress
}
