package fleetsim

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Load is a fleet that measures a server: its devices do not think, they ask again as
// soon as they have their answer, and cost as little as they can. Endpoint and Things are
// required.
//
// A device starts the next execution, reports progress, ends it, and so on; each is a
// request whose answer is counted. One with nothing pending waits for a notify-next.
type Load struct {
	Endpoint        string      // as in Config
	TLS             *tls.Config // as in Config
	Things          []string    // the devices
	Active          int         // so many of them ask, the first ones; the others are only connected and subscribed; 0: all
	ProtocolVersion int         // of MQTT: 4 (the default) or 5
	QoS             byte        // of requests and subscriptions: 0 or 1
	Reports         int         // of progress for each execution; 0 means 2, negative none
	// Echo is for a broker that knows no jobs: every device is subscribed to what it
	// publishes, which has the size of a progress report, and is answered by that.
	Echo bool
	// Notices: nobody asks, and it is over when every device has been told of a job.
	Notices bool
	Kept    bool // sessions are persistent
	// Interval is between two requests of a device, from answer to request, on average; 0: none.
	Interval time.Duration
	Warmup   time.Duration // before it counts; default a fifth of Duration
	Duration time.Duration // that it counts; default 5 s
	// Connected is called when all devices are connected and subscribed, before the first
	// request.
	Connected func() error
}

// LoadResult is what a Load has seen.
type LoadResult struct {
	Connects   time.Duration // until all were connected and subscribed
	Duration   time.Duration // that was counted
	Answers    int64         // in it
	Executions int64         // that were ended in it
	Noticed    int64         // devices that were told of a job
	Rejected   int64         // of the answers
	Latency    Latency
	CPU        time.Duration // that this process has used in it; 0 where it cannot be told
}

// Rate is the number of answers in a second.
func (r LoadResult) Rate() float64 { return float64(r.Answers) / r.Duration.Seconds() }

// MarshalJSON writes durations as seconds.
func (r LoadResult) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Connects   float64 `json:"connectSeconds"`
		Duration   float64 `json:"seconds"`
		Answers    int64   `json:"answers"`
		Executions int64   `json:"executions"`
		Noticed    int64   `json:"noticed"`
		Rejected   int64   `json:"rejected"`
		Rate       float64 `json:"answersPerSecond"`
		Latency    Latency `json:"latency"`
		CPU        float64 `json:"clientCpuSeconds"`
	}{r.Connects.Seconds(), r.Duration.Seconds(), r.Answers, r.Executions, r.Noticed, r.Rejected, r.Rate(), r.Latency, r.CPU.Seconds()})
}

// Run connects the devices and has them ask until the time is over.
func (l Load) Run(ctx context.Context) (result LoadResult, err error) {
	l.ProtocolVersion = cmp.Or(l.ProtocolVersion, 4)
	l.Duration = cmp.Or(l.Duration, 5*time.Second)
	l.Warmup = cmp.Or(l.Warmup, l.Duration/5)
	l.Reports = max(0, cmp.Or(l.Reports, 2))
	if l.Active <= 0 || l.Active > len(l.Things) {
		l.Active = len(l.Things)
	}
	switch {
	case len(l.Things) == 0:
		return result, errors.New("fleetsim: no things to play")
	case l.QoS > 1:
		return result, fmt.Errorf("fleetsim: QoS must be 0 or 1, not %d", l.QoS)
	}
	dial, err := dialer(l.Endpoint, l.TLS)
	if err != nil {
		return result, err
	}
	run := &loadRun{Load: l}
	began := time.Now()
	askers, err := run.connect(ctx, dial)
	defer func() {
		for _, a := range askers {
			if a != nil {
				_ = a.conn.Close() // that is how they leave
			}
		}
	}()
	if err != nil {
		return result, err
	}
	result.Connects = time.Since(began)
	if l.Connected != nil {
		if err := l.Connected(); err != nil {
			return result, err
		}
	}
	run.from = time.Now().Add(l.Warmup)
	run.until = run.from.Add(l.Duration)
	ctx, cancel := context.WithDeadline(ctx, run.until)
	defer cancel()
	ctx, run.stop = context.WithCancelCause(ctx)
	defer run.stop(nil)
	cpu := make(chan time.Duration, 1)
	go func() {
		defer close(cpu)
		if pause(ctx, l.Warmup) == nil {
			cpu <- processorTime()
		}
	}()
	err = run.drive(ctx, askers)
	result.Duration = l.Duration
	if before, ok := <-cpu; ok {
		result.CPU = processorTime() - before
	}
	result.Noticed = run.noticed.Load()
	result.Answers, result.Executions, result.Rejected = run.answers.Load(), run.executions.Load(), run.rejected.Load()
	result.Latency = run.latency.summary()
	return result, err
}

// loadRun is a Load while it runs.
type loadRun struct {
	Load
	from, until                   time.Time // what counts
	answers, executions, rejected atomic.Int64
	noticed                       atomic.Int64 // devices
	stop                          context.CancelCauseFunc
	latency                       latencies
}

// connects is how many devices connect at the same time.
const connects = 64

// connect connects all devices. It returns those that are, also with an error.
func (l *loadRun) connect(ctx context.Context, dial func(context.Context) (net.Conn, error)) ([]*asker, error) {
	askers := make([]*asker, len(l.Things))
	var next atomic.Int64
	var wg sync.WaitGroup
	failed := make([]error, connects)
	for worker := range connects {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(l.Things) && failed[worker] == nil; i = int(next.Add(1)) - 1 {
				conn, err := dial(ctx)
				if err != nil {
					failed[worker] = err
					return
				}
				askers[i] = newAsker(l, conn, l.Things[i], i < l.Active && !l.Notices)
				failed[worker] = askers[i].open()
			}
		})
	}
	wg.Wait()
	return askers, errors.Join(failed...)
}

// asker is a device of a Load. It reads and writes bytes that somebody else moves.
type asker struct {
	run    *loadRun
	conn   net.Conn
	thing  string
	active bool
	topics []byte // what all its topics begin with

	in, out []byte // what has come and not been understood yet; what is to leave

	job       []byte // in hand
	step      int    // the request that is to be answered: 0 start-next, then the reports, then the end
	missing   int    // of its answer: 1 the acknowledgement, 2 the answer
	asked     time.Time
	packetID  uint16
	announced bool // something is pending since the last start-next
	idle      bool // nothing is
}

const (
	missingAck = 1 << iota
	missingAnswer
)

func newAsker(l *loadRun, conn net.Conn, thing string, active bool) *asker {
	a := &asker{run: l, conn: conn, thing: thing, active: active}
	if l.Echo {
		a.topics = []byte("echo/things/" + thing + "/jobs/")
	} else {
		a.topics = []byte("$aws/things/" + thing + "/jobs/")
	}
	return a
}

// open connects and subscribes.
func (a *asker) open() error {
	if err := a.conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	var b bytes.Buffer
	var c codec = codec4{}
	if a.run.ProtocolVersion == 5 {
		c = codec5{}
	}
	base := string(a.topics)
	filters := []string{base + "notify-next", base + "start-next/accepted", base + "start-next/rejected", base + "+/update/accepted", base + "+/update/rejected"}
	if err := errors.Join(c.connect(&b, a.thing, keepAlive, a.run.Kept), c.subscribe(&b, 1, filters)); err != nil {
		return err
	}
	if _, err := a.conn.Write(b.Bytes()); err != nil {
		return err
	}
	in := bufio.NewReaderSize(a.conn, 256)
	for {
		p, err := c.read(in)
		switch {
		case err != nil:
			return err
		case p.code != 0 && (p.kind == typeConnack || p.code >= 0x80):
			return fmt.Errorf("%w (code 0x%02x) %s", errRefused, p.code, p.reason)
		case p.kind == typeSuback:
			a.in, _ = in.Peek(in.Buffered())
			a.in = bytes.Clone(a.in)
			return a.conn.SetDeadline(time.Time{})
		}
	}
}

const (
	typeConnack = 2
	typePublish = 3
	typePuback  = 4
	typeSuback  = 9
)

// progress is what a device reports.
const progress = `{"status":"IN_PROGRESS","statusDetails":{"progress":"50%","step":"installing"}}`

// ask puts the next request into out, as far as the device is to ask.
func (a *asker) ask(now time.Time) {
	if !a.active || a.idle {
		return
	}
	a.asked = now
	a.missing = missingAnswer
	var topic [64]byte
	name, payload := topic[:0], ""
	switch {
	case a.run.Echo:
		name, payload = append(name, "echo-0000/update/accepted"...), progress
	case a.step == 0:
		a.announced = false
		name, payload = append(name, "start-next"...), `{"clientToken":"1"}`
	case a.step <= a.run.Reports:
		name, payload = append(append(name, a.job...), "/update"...), progress
	default:
		name, payload = append(append(name, a.job...), "/update"...), `{"status":"SUCCEEDED","statusDetails":{"progress":"100%","step":"done"}}`
	}
	size := 2 + len(a.topics) + len(name) + len(payload)
	if a.run.QoS == 1 {
		a.missing |= missingAck
		size += 2
	}
	if a.run.ProtocolVersion == 5 {
		size++
	}
	b := append(a.out, typePublish<<4|a.run.QoS<<1)
	b = binary.AppendUvarint(b, uint64(size)) // MQTT's lengths are the same
	b = binary.BigEndian.AppendUint16(b, uint16(len(a.topics)+len(name)))
	b = append(append(b, a.topics...), name...)
	if a.run.QoS == 1 {
		if a.packetID++; a.packetID == 0 {
			a.packetID = 1
		}
		b = binary.BigEndian.AppendUint16(b, a.packetID)
	}
	if a.run.ProtocolVersion == 5 {
		b = append(b, 0)
	}
	a.out = append(b, payload...)
}

// hear understands what has come, counts answers, and puts what is to be said to it into
// out. It reports whether a request is due.
func (a *asker) hear(now time.Time) (due bool, err error) {
	rest := a.in
	for {
		if len(rest) < 2 {
			break
		}
		length, n := binary.Uvarint(rest[1:])
		if n < 0 || length > math.MaxInt32 {
			return false, fmt.Errorf("%w: a packet's length", errAnswer)
		}
		if n == 0 || len(rest) < 1+n+int(length) {
			break
		}
		head, body := rest[0], rest[1+n:1+n+int(length)]
		rest = rest[1+n+int(length):]
		switch head >> 4 {
		case typePuback:
			a.missing &^= missingAck
			if len(body) > 2 && body[2] >= 0x80 {
				return false, fmt.Errorf("%w (code 0x%02x)", errPublish, body[2])
			}
		case typePublish:
			if err := a.message(head>>1&3, body); err != nil {
				return false, err
			}
		default:
			return false, fmt.Errorf("%w: packet type %d", errAnswer, head>>4)
		}
		if a.missing == 0 && !a.asked.IsZero() {
			a.run.answered(a, now)
			a.asked = time.Time{}
			due = true
		}
	}
	a.in = a.in[:copy(a.in, rest)]
	return due, nil
}

// message takes a PUBLISH.
func (a *asker) message(qos byte, body []byte) error {
	malformed := fmt.Errorf("%w: a PUBLISH", errAnswer)
	if len(body) < 2 {
		return malformed
	}
	n := 2 + int(binary.BigEndian.Uint16(body))
	if len(body) < n {
		return malformed
	}
	topic, body := body[2:n], body[n:]
	if qos > 0 {
		if len(body) < 2 {
			return malformed
		}
		a.out = append(a.out, typePuback<<4, 2, body[0], body[1])
		body = body[2:]
	}
	if a.run.ProtocolVersion == 5 {
		length, n := binary.Uvarint(body)
		if n <= 0 || len(body) < n+int(length) {
			return malformed
		}
		body = body[n+int(length):]
	}
	name, ok := bytes.CutPrefix(topic, a.topics)
	switch {
	case !ok:
		return fmt.Errorf("%w: topic %q", errAnswer, topic)
	case bytes.Equal(name, []byte("notify-next")):
		if job := jobIn(body); job != nil {
			if a.run.Notices && !a.announced && a.run.noticed.Add(1) == int64(len(a.run.Things)) {
				a.run.stop(errOver)
			}
			a.announced = true
			if a.idle {
				a.idle = false
				a.asked = time.Time{}
				a.missing = 0
				a.step = 0
				a.ask(time.Now())
			}
		}
	case bytes.HasSuffix(name, []byte("/rejected")):
		a.run.rejected.Add(1)
		a.missing &^= missingAnswer
		a.step = -1 // the execution is somebody else's by now
	case a.missing&missingAnswer == 0: // an answer that has been given up
	default:
		a.missing &^= missingAnswer
		if a.step == 0 && !a.run.Echo {
			if a.job = append(a.job[:0], jobIn(body)...); len(a.job) == 0 {
				a.idle = !a.announced
				a.step = -1
			}
		}
	}
	return nil
}

// jobIn returns the id of the job that a payload is about.
func jobIn(payload []byte) []byte {
	const member = `"jobId":"`
	i := bytes.Index(payload, []byte(member))
	if i < 0 {
		return nil
	}
	job := payload[i+len(member):]
	if i = bytes.IndexByte(job, '"'); i < 0 {
		return nil
	}
	return job[:i]
}

// answered notes an answer, and what is to be asked next.
func (l *loadRun) answered(a *asker, now time.Time) {
	last := a.step == l.Reports+1
	counts := !now.Before(l.from) && now.Before(l.until) && a.step >= 0
	a.step++
	if last || l.Echo {
		a.step = 0
	}
	if !counts {
		return
	}
	l.answers.Add(1)
	l.latency.record(now.Sub(a.asked))
	if last {
		l.executions.Add(1)
	}
}

// think is how long a device pauses before its next request: Interval on average, and distributed as if nobody knew of
// the others. With pauses that are all the same, requests that once were answered together would come together for ever.
func (l *loadRun) think() time.Duration {
	return time.Duration(rand.ExpFloat64() * float64(l.Interval))
}

// driveByGoroutines moves the bytes of each device in a goroutine of its own.
func (l *loadRun) driveByGoroutines(ctx context.Context, askers []*asker) error {
	failed := make([]error, len(askers))
	var wg sync.WaitGroup
	for i, a := range askers {
		wg.Go(func() {
			stop := context.AfterFunc(ctx, func() { _ = a.conn.SetReadDeadline(time.Unix(1, 0)) })
			defer stop()
			failed[i] = a.talk(ctx)
		})
	}
	wg.Wait()
	return errors.Join(failed...)
}

func (a *asker) talk(ctx context.Context) error {
	in := make([]byte, 4<<10)
	if _, err := a.hear(time.Now()); err != nil { // what came with the SUBACK
		return err
	}
	if pause(ctx, a.run.think()) != nil {
		return nil
	}
	a.ask(time.Now())
	for {
		if len(a.out) > 0 {
			if _, err := a.conn.Write(a.out); err != nil {
				return ended(ctx, err)
			}
			a.out = a.out[:0]
		}
		n, err := a.conn.Read(in)
		if err != nil {
			return ended(ctx, err)
		}
		a.in = append(a.in, in[:n]...)
		due, err := a.hear(time.Now())
		if err != nil {
			return err
		}
		if due {
			if pause(ctx, a.run.think()) != nil {
				return nil
			}
			a.ask(time.Now())
		}
	}
}

// errOver is why a run ends that has seen what it was to see.
var errOver = errors.New("fleetsim: seen")

// ended is what it means that a connection is over: nothing if the time is.
func ended(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, context.DeadlineExceeded) || errors.Is(cause, errOver) {
		return nil
	}
	if errors.Is(err, io.EOF) || strings.Contains(err.Error(), "reset") {
		return fmt.Errorf("%w: %w", errLost, err)
	}
	return cmp.Or(ctx.Err(), err)
}
