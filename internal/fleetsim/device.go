package fleetsim

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Statuses of an execution, and codes of a rejected request, that a device acts
// upon (spec §3.1, §11.10).
const (
	statusQueued     = "QUEUED"
	statusInProgress = "IN_PROGRESS"
	statusSucceeded  = "SUCCEEDED"
	statusFailed     = "FAILED"

	codeVersionMismatch = "VersionMismatch"
	codeInvalidState    = "InvalidStateTransition"
	codeNotFound        = "ResourceNotFound"
)

// unanswered is the number of requests in a row that may stay without an answer
// before a device gives up the connection.
const unanswered = 3

// What a device says that it does and why it failed.
var (
	phases  = [...]string{"downloading", "verifying", "installing", "restarting"}
	reasons = [...]string{"installation failed", "not enough space", "image does not start", "battery too low"}
)

// answer is what a device reads of an accepted or rejected response or of a
// notify-next (spec §11.4, §11.10, §13.3).
type answer struct {
	accepted    bool
	ClientToken string `json:"clientToken"`
	Code        string `json:"code"`
	Message     string `json:"message"`
	Execution   *struct {
		JobID           string          `json:"jobId"`
		ExecutionNumber int64           `json:"executionNumber"`
		VersionNumber   int64           `json:"versionNumber"`
		JobDocument     json.RawMessage `json:"jobDocument"`
	} `json:"execution"`
	ExecutionState *struct {
		Status        string `json:"status"`
		VersionNumber int64  `json:"versionNumber"`
	} `json:"executionState"`
}

// startRequest is the payload of start-next (spec §11.6).
type startRequest struct {
	ClientToken string `json:"clientToken"`
}

// updateRequest is the payload of update (spec §11.8).
type updateRequest struct {
	Status                string  `json:"status"`
	StatusDetails         details `json:"statusDetails"`
	ExpectedVersion       int64   `json:"expectedVersion,omitempty"`
	ExecutionNumber       int64   `json:"executionNumber,omitempty"`
	IncludeExecutionState bool    `json:"includeJobExecutionState,omitempty"`
	ClientToken           string  `json:"clientToken"`
}

type details struct {
	Progress string `json:"progress"`
	Step     string `json:"step"`
	Reason   string `json:"reason,omitempty"`
}

// task is an execution in a device's hands.
type task struct {
	job     string
	number  int64
	version int64
	steps   int           // progress reports to make
	done    int           // progress reports made
	pause   time.Duration // before each report and before the end
	result  string        // the terminal status to come
	worked  bool          // nothing is left but to report the result
	files   []file        // to download before anything else
	loading *loading      // while they are downloaded
	loaded  bool          // they have been, or failed
	renewed int           // how often other URLs were asked for
	reason  string        // why it fails, if it is not drawn
}

// device plays one thing. It is used by one goroutine.
type device struct {
	fleet     *Fleet
	thing     string
	topics    string // what all its topics begin with, "$aws/things/{thing}/jobs/"
	rand      *rand.Rand
	requests  uint64 // numbers the client tokens
	failures  int    // connections without an answered request since the last answered one
	conn      *conn
	task      *task // nil when there is nothing to do
	announced bool  // a notify-next named an execution after the last start-next left
}

func newDevice(f *Fleet, thing string, index uint64) *device {
	return &device{
		fleet:  f,
		thing:  thing,
		topics: "$aws/things/" + thing + "/jobs/",
		rand:   rand.New(rand.NewPCG(f.cfg.Seed, index)),
	}
}

// run connects, and connects again after each loss, until ctx ends.
func (d *device) run(ctx context.Context) {
	defer d.stopLoading()
	for {
		if err := d.fleet.pace.wait(ctx); err != nil {
			return
		}
		err := d.session(ctx)
		if ctx.Err() != nil {
			return
		}
		d.fleet.trouble(ctx, d.thing, err)
		if err := pause(ctx, d.backoff(d.failures)); err != nil {
			return
		}
		d.failures++
	}
}

// session lasts as long as a connection, and returns why it ended.
func (d *device) session(ctx context.Context) error {
	cfg := &d.fleet.cfg
	c, err := dialConn(ctx, cfg.Dial, cfg.ProtocolVersion, cfg.RequestTimeout, d.thing, []string{
		d.topics + "notify-next",
		d.topics + "start-next/accepted",
		d.topics + "start-next/rejected",
		d.topics + "+/update/accepted",
		d.topics + "+/update/rejected",
	})
	if err != nil {
		return err
	}
	defer c.close()
	d.conn = c
	d.fleet.connected.Add(1)
	defer d.fleet.connected.Add(-1)
	err = d.live(ctx)
	if ctx.Err() != nil {
		c.bye()
	}
	return err
}

// live works off what is pending, waits for more, and so on. A result that could
// not be delivered over the last connection goes first.
func (d *device) live(ctx context.Context) error {
	if d.task != nil && d.task.worked {
		if err := d.work(ctx); err != nil {
			return err
		}
	}
	for {
		if err := d.startNext(ctx); err != nil {
			return err
		}
		var err error
		switch {
		case d.task != nil:
			err = d.work(ctx)
		case !d.announced:
			err = d.rest(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// rest waits until an execution is announced.
func (d *device) rest(ctx context.Context) error {
	d.fleet.becameIdle()
	defer d.fleet.becameBusy()
	for !d.announced {
		p, err := d.conn.receive(ctx, time.Time{})
		if err != nil {
			return err
		}
		if err := d.notice(p); err != nil {
			return err
		}
	}
	return nil
}

// startNext asks for the next execution and takes it in hand. The one already
// there is kept if it is handed out again, and was withdrawn if not.
func (d *device) startNext(ctx context.Context) error {
	a, err := d.call(ctx, &d.fleet.startNext, "start-next", func(token string) any {
		d.announced = false
		return startRequest{ClientToken: token}
	})
	if err != nil {
		return err
	}
	if !a.accepted {
		return fmt.Errorf("%w: start-next: %s", errAnswer, a.Code) // call has repeated everything else
	}
	e := a.Execution
	if d.task != nil && (e == nil || e.JobID != d.task.job || e.ExecutionNumber != d.task.number) {
		d.finished("")
	}
	switch {
	case e == nil:
	case d.task != nil:
		d.task.version, d.task.files = e.VersionNumber, files(e.JobDocument)
	default:
		d.fleet.working.Add(1)
		d.task = d.plan(e.JobID, e.ExecutionNumber, e.VersionNumber)
		d.task.files = files(e.JobDocument)
	}
	return nil
}

// plan draws how the work on an execution will go.
func (d *device) plan(job string, number, version int64) *task {
	cfg := &d.fleet.cfg
	t := &task{job: job, number: number, version: version, steps: max(cfg.Steps, 0), result: statusFailed}
	if cfg.Steps == 0 {
		t.steps = 2 + d.rand.IntN(3)
	}
	if d.rand.Float64() < cfg.Success {
		t.result = statusSucceeded
	}
	length := float64(max(cfg.Duration, 0)) * (0.8 + 0.4*d.rand.Float64())
	t.pause = time.Duration(length / float64(t.steps+1))
	return t
}

// work goes on with the task in hand until it has ended.
func (d *device) work(ctx context.Context) error {
	t := d.task
	if err := d.download(ctx); err != nil {
		return err
	}
	for d.task == t {
		if !t.worked {
			if err := d.listen(ctx, t.pause); err != nil {
				return err
			}
		}
		var err error
		if t.done < t.steps {
			err = d.report(ctx, statusInProgress, details{
				Progress: fmt.Sprintf("%d%%", 100*(t.done+1)/(t.steps+1)),
				Step:     phases[t.done%len(phases)],
			})
			if err == nil {
				t.done++
			}
		} else {
			t.worked = true
			final := details{Progress: "100%", Step: "done"}
			if t.result == statusFailed {
				final = details{
					Progress: fmt.Sprintf("%d%%", 100*t.steps/(t.steps+1)),
					Step:     phases[t.steps%len(phases)],
					Reason:   cmp.Or(t.reason, reasons[d.rand.IntN(len(reasons))]),
				}
			}
			err = d.report(ctx, t.result, final)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// whileLoading is how often a device that downloads looks whether it is through; all the
// while it takes what comes over its connection.
const whileLoading = 20 * time.Millisecond

// renewals is how often a device asks for URLs in place of some that have expired.
const renewals = 3

// download fetches the files of the task. It goes on over a lost connection, and ends when
// the task does. Where a URL is refused, the document is asked for once more: it may have
// expired. A task whose files cannot be had, or are others, fails.
func (d *device) download(ctx context.Context) error {
	t := d.task
	if t.loaded || len(t.files) == 0 {
		return nil
	}
	if t.loading == nil {
		t.loading = d.fleet.downloads.start(ctx, t.files)
		if err := d.report(ctx, statusInProgress, details{Progress: "0%", Step: phases[0]}); err != nil {
			return err
		}
	}
	for d.task == t {
		select {
		case <-t.loading.done:
			err := t.loading.err
			t.loading = nil
			if errors.Is(err, errNoFile) && t.renewed < renewals {
				t.renewed++
				if err := d.startNext(ctx); err != nil {
					return err
				}
				if d.task != t {
					return nil
				}
				return d.download(ctx)
			}
			if err != nil {
				t.result, t.reason, t.steps = statusFailed, reasonOf(err), 0
			}
			t.loaded = true
			return nil
		default:
		}
		if err := d.listen(ctx, whileLoading); err != nil {
			return err
		}
	}
	return nil
}

// reasonOf makes an error fit for statusDetails (spec §1.4), without the URL, which is a
// secret as long as it can be used.
func reasonOf(err error) string {
	if failed, ok := errors.AsType[*url.Error](err); ok {
		err = failed.Err
	}
	text := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, err.Error())
	if r := []rune(text); len(r) > 200 {
		text = string(r[:200])
	}
	return cmp.Or(text, "download failed")
}

func (d *device) stopLoading() {
	if d.task != nil && d.task.loading != nil {
		d.task.loading.stop()
	}
}

// report sends an update of the task until the server takes it or says that the
// execution has ended. One in four names the version that it expects.
func (d *device) report(ctx context.Context, status string, what details) error {
	t := d.task
	r := updateRequest{
		Status:                status,
		StatusDetails:         what,
		ExecutionNumber:       t.number,
		IncludeExecutionState: d.rand.IntN(8) == 0,
	}
	careful := d.rand.IntN(4) == 0
	for {
		a, err := d.call(ctx, &d.fleet.update, t.job+"/update", func(token string) any {
			r.ClientToken = token
			if careful {
				r.ExpectedVersion = t.version
			}
			return r
		})
		if err != nil {
			return err
		}
		t.version++
		state := a.ExecutionState
		if state != nil {
			t.version = state.VersionNumber
		}
		switch {
		case a.accepted:
			if status != statusInProgress {
				d.finished(status)
			}
			return nil
		case a.Code == codeVersionMismatch && careful && (state == nil || !terminal(state.Status)):
			// Somebody else has updated it, or our update was taken and only its
			// answer lost. The device knows best: once more, whatever the version.
			careful = false
			r.ExpectedVersion = 0
		case state != nil && terminal(state.Status):
			// Withdrawn, or it is our own result whose answer was lost: then it
			// counts as what we wanted it to be.
			d.finished(state.Status)
			return nil
		default:
			// Gone, or in a state that we know nothing of: start-next will tell.
			d.finished("")
			return nil
		}
	}
}

// terminal reports whether an execution with the status has ended (spec §3.1).
func terminal(status string) bool { return status != statusInProgress && status != statusQueued }

// finished puts the task aside; status is what its execution ended as, empty if
// unknown.
func (d *device) finished(status string) {
	d.stopLoading()
	d.task = nil
	d.fleet.ended(status)
}

// listen takes messages for a while.
func (d *device) listen(ctx context.Context, while time.Duration) error {
	if while <= 0 {
		return ctx.Err()
	}
	for until := time.Now().Add(while); ; {
		p, err := d.conn.receive(ctx, until)
		if errors.Is(err, errElapsed) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := d.notice(p); err != nil {
			return err
		}
	}
}

// notice takes note of a message that is not the answer to a request. Only a
// notify-next that names an execution means anything; late answers do not.
func (d *device) notice(p packet) error {
	if p.topic != d.topics+"notify-next" {
		return nil
	}
	a, err := parse(p)
	if err != nil {
		return err
	}
	d.announced = a.Execution != nil
	return nil
}

// call sends a request until it gets an answer that settles it: accepted, or
// rejected for a reason that lies in the execution. Otherwise it pauses, longer
// each time, and repeats the request, as AWS's own agent does after
// RequestThrottled and InternalError (spec §11.10). A request left unanswered is
// repeated too, but not for long: then the connection is given up.
func (d *device) call(ctx context.Context, took *latencies, operation string, body func(token string) any) (answer, error) {
	var silent int
	for attempt := 0; ; attempt++ {
		d.requests++
		token := strconv.FormatUint(d.requests, 36)
		a, err := d.ask(ctx, took, operation, token, body(token))
		switch {
		case errors.Is(err, errElapsed):
			silent++
			err = fmt.Errorf("%w to %s", errSilent, operation)
			if silent == unanswered {
				return answer{}, err
			}
			d.fleet.trouble(ctx, d.thing, err)
		case err != nil:
			return answer{}, err
		case a.accepted:
			d.failures = 0
			return a, nil
		default:
			d.failures, silent = 0, 0
			d.fleet.refused(ctx, d.thing, a)
			if operation != "start-next" {
				switch a.Code {
				case codeVersionMismatch, codeInvalidState, codeNotFound:
					return a, nil
				}
			}
		}
		if err := d.listen(ctx, d.backoff(attempt)); err != nil {
			return answer{}, err
		}
	}
}

// ask sends a request once and waits for its answer. Other messages are noticed
// meanwhile.
func (d *device) ask(ctx context.Context, took *latencies, operation, token string, body any) (answer, error) {
	payload, err := json.Marshal(body)
	if err != nil {
		return answer{}, fmt.Errorf("encode %s: %w", operation, err)
	}
	topic := d.topics + operation
	if err := d.conn.publish(topic, payload); err != nil {
		return answer{}, err
	}
	d.fleet.requests.Add(1)
	sent := d.fleet.cfg.Now()
	until := time.Now().Add(d.fleet.cfg.RequestTimeout)
	for {
		p, err := d.conn.receive(ctx, until)
		if err != nil {
			return answer{}, err
		}
		verdict, ok := strings.CutPrefix(p.topic, topic)
		if !ok || verdict != "/accepted" && verdict != "/rejected" {
			if err := d.notice(p); err != nil {
				return answer{}, err
			}
			continue
		}
		a, err := parse(p)
		if err != nil {
			return answer{}, err
		}
		// Without a token it can only be ours if the server could not read the
		// request (spec §11.10, InvalidJson); another token is of a request given up.
		if a.ClientToken != token && (a.ClientToken != "" || verdict == "/accepted") {
			continue
		}
		a.accepted = verdict == "/accepted"
		took.record(d.fleet.cfg.Now().Sub(sent))
		return a, nil
	}
}

func parse(p packet) (answer, error) {
	var a answer
	if err := json.Unmarshal(p.payload, &a); err != nil {
		return answer{}, fmt.Errorf("%w: %s: %w", errAnswer, p.topic, err)
	}
	return a, nil
}

// backoff returns the pause after the n-th failure in a row, counted from zero.
func (d *device) backoff(n int) time.Duration {
	full := d.fleet.cfg.Backoff << min(n, 6)
	return time.Duration(float64(full) * (0.5 + d.rand.Float64()))
}
