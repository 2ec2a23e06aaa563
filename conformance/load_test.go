package conformance

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/smithy-go"

	"drover/internal/faulttest"
	mq "drover/internal/mqtttest"
)

// A fleet and an operator that keep servers busy whatever happens to these, and write down what they see.

const (
	loadDevices = 24
	maxOpenJobs = 16              // that the operator has at a time
	noAnswer    = 5 * time.Second // after which a device asks again
)

// site is where a server runs, this one or the next.
type site struct {
	data  string // default: a folder of the test
	flags []string
	env   []string
	build func() (path string, err error) // default: binary
	ready func(*server)                   // called whenever it has started; nil for nothing

	log *os.File // of all its servers, shown if the test fails
	at  atomic.Pointer[server]
}

// newSite starts a server that may be killed and started again. It ends with the test.
func newSite(t *testing.T, flags ...string) *site {
	t.Helper()
	return openSite(t, &site{flags: flags})
}

func openSite(t *testing.T, s *site) *site {
	t.Helper()
	dir := t.TempDir()
	s.data = cmp.Or(s.data, filepath.Join(dir, "data"))
	if s.build == nil {
		s.build = binary
	}
	var err error
	s.log, err = os.Create(filepath.Join(dir, "log"))
	must(t, err)
	t.Cleanup(s.showLog(t))
	s.start(t)
	t.Cleanup(func() {
		if now := s.at.Load(); now.process.ProcessState == nil {
			if err := now.terminate(); err != nil {
				t.Errorf("stop the server: %v", err)
			}
		}
	})
	return s
}

func (s *site) start(t *testing.T) {
	t.Helper()
	path, err := s.build()
	must(t, err)
	cmd := exec.Command(path)
	cmd.Stderr, cmd.Env = s.log, append(os.Environ(), s.env...)
	now, err := launch(cmd, s.data, s.flags...)
	must(t, err)
	s.at.Store(now)
	if s.ready != nil {
		s.ready(now)
	}
}

func (s *site) kill(t *testing.T) { t.Helper(); s.at.Load().kill(t) }

// showLog returns what shows the end of the log of a test that has failed.
func (s *site) showLog(t *testing.T) func() {
	return func() {
		text, err := os.ReadFile(s.log.Name())
		if err := errors.Join(err, s.log.Close()); err != nil {
			t.Error(err)
		}
		lines := bytes.SplitAfter(text, []byte("\n"))
		if t.Failed() {
			t.Logf("%d lines of log, the last:\n%s", len(lines), bytes.Join(lines[max(0, len(lines)-30):], nil))
		}
	}
}

// load is what keeps servers busy.
type load struct {
	t       *testing.T
	sites   []*site
	history *faulttest.History
	things  []string
	arn     func(thing string) string
	store   string // URL of the database, "" for SQLite
	began   time.Time

	messages  atomic.Int64 // that devices and the watchers received
	connects  atomic.Int64
	online    [loadDevices]atomic.Bool // connected, and has asked what there is to do
	api       func() *iot.Client       // that the operator asks
	doubt     atomic.Bool              // whether what devices publish comes to clients of other nodes
	operating context.CancelFunc
	operator  sync.WaitGroup
}

// newLoad registers a fleet, connects it, and lets it and an operator work. Servers of several
// sites have one database. It ends with the test.
func newLoad(t *testing.T, store string, sites ...*site) *load {
	t.Helper()
	return newLoadBy(t, store, func() *iot.Client { return sites[rand.IntN(len(sites))].at.Load().client() }, sites...)
}

// newLoadBy is newLoad with what the operator asks.
func newLoadBy(t *testing.T, store string, api func() *iot.Client, sites ...*site) *load {
	t.Helper()
	l := &load{t: t, sites: sites, history: faulttest.NewHistory(), store: store, api: api, began: time.Now()}
	l.history.Overtaken = len(sites) > 1
	f := fleetOn(t, sites[0].at.Load())
	l.arn = f.thingARN
	f.must(f.events(true, types.EventTypeJob, types.EventTypeJobExecution))
	for i := range loadDevices {
		l.things = append(l.things, f.thing("device"+itoa(i)))
	}
	ctx, stop := context.WithCancel(context.Background())
	var clients sync.WaitGroup
	t.Cleanup(func() { stop(); clients.Wait() })
	var watching sync.WaitGroup
	for i := range sites {
		w := &loadClient{load: l, sites: sites, id: f.name("watcher" + itoa(i)), version: byte(4 + i%2), persistent: true, random: rand.New(rand.NewPCG(1, uint64(i)))}
		watching.Add(1)
		clients.Go(func() { w.watch(ctx, watching.Done) })
	}
	watching.Wait()
	for i, thing := range l.things {
		d := &loadClient{load: l, sites: sites, id: thing, version: byte(4 + i%2), random: rand.New(rand.NewPCG(2, uint64(i))), online: &l.online[i]}
		clients.Go(func() { d.work(ctx) })
	}
	operating, enough := context.WithCancel(ctx)
	l.operating = enough
	l.operator.Go(func() { l.operate(operating, f.prefix) })
	return l
}

// until waits for a condition, for a time that no server that is well needs.
func (l *load) until(what string, within time.Duration, cond func() bool) {
	l.t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline.C:
			l.t.Fatalf("waited %s in vain: %s", within, what)
		case <-tick.C:
		}
	}
}

// busy waits until devices have got so many more answers.
func (l *load) busy(answers int) {
	l.t.Helper()
	want := l.history.Answered() + answers
	l.until(fmt.Sprintf("%d more answers", answers), patience, func() bool { return l.history.Answered() >= want })
}

// unanswered waits until so many more requests of devices got no answer. Devices may have done all that
// they had to when it begins, and get nothing more: then many of the operator's have to do.
func (l *load) unanswered(requests int) {
	l.t.Helper()
	want, orders := l.history.Unanswered()+requests, l.history.Orphaned()+20*requests
	l.until(fmt.Sprintf("%d more requests without an answer", requests), patience, func() bool {
		return l.history.Unanswered() >= want || l.history.Orphaned() >= orders
	})
}

// operate creates jobs, and cancels some.
func (l *load) operate(ctx context.Context, prefix string) {
	random := rand.New(rand.NewPCG(3, 0))
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var open []string
	for n := 0; ; n++ {
		for still := open[:0]; ; still = open[:0] {
			for _, id := range open {
				if !l.history.Has(faulttest.Event{Job: id, Status: "COMPLETED"}) && !l.history.Has(faulttest.Event{Job: id, Status: "CANCELED"}) {
					still = append(still, id)
				}
			}
			open = still
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if len(open) < maxOpenJobs {
				break
			}
		}
		order := faulttest.Order{Job: fmt.Sprintf("%s-%d", prefix, n)}
		var targets []string
		for _, i := range random.Perm(len(l.things))[:1+random.IntN(len(l.things)/2)] {
			order.Things, targets = append(order.Things, l.things[i]), append(targets, l.arn(l.things[i]))
		}
		change := l.history.Order(order)
		api := l.api()
		asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*noAnswer)
		in := &iot.CreateJobInput{JobId: &order.Job, Document: aws.String(document), Targets: targets}
		if n%2 == 0 {
			in.TimeoutConfig = &types.TimeoutConfig{InProgressTimeoutInMinutes: aws.Int64(30)} // longer than any load, if the clock is right
		}
		_, err := api.CreateJob(asking, in)
		created := l.outcome("create "+order.Job, err)
		change(func(o *faulttest.Order) { o.Created = created })
		if created == faulttest.Done {
			open = append(open, order.Job)
			if random.IntN(8) == 0 {
				change(func(o *faulttest.Order) { o.Asked = true })
				_, err := api.CancelJob(asking, &iot.CancelJobInput{JobId: &order.Job, Force: true})
				canceled := l.outcome("cancel "+order.Job, err)
				change(func(o *faulttest.Order) { o.Canceled = canceled })
			}
		}
		cancel()
	}
}

// outcome is what the operator knows after a request that was sent once.
func (l *load) outcome(what string, err error) faulttest.Outcome {
	var refusal smithy.APIError
	var answer interface{ HTTPStatusCode() int }
	switch {
	case err == nil:
		return faulttest.Done
	case errors.As(err, &refusal) && errors.As(err, &answer) && answer.HTTPStatusCode() < http.StatusInternalServerError:
		switch refusal.ErrorCode() {
		case "InvalidRequestException", "InvalidStateTransitionException": // it is over already
		case "InvalidSignatureException": // the clock was set meanwhile
		default:
			l.t.Errorf("%s: %v", what, err)
		}
		return faulttest.Refused
	}
	return faulttest.Unanswered
}

// settle ends the operator's work, waits until everything is done and told, and checks it.
func (l *load) settle() {
	l.t.Helper()
	loaded := time.Since(l.began)
	l.operating()
	l.operator.Wait()
	for i := range l.online {
		l.until(l.things[i]+" is online", patience, l.online[i].Load)
	}
	f := fleetOn(l.t, l.sites[0].at.Load())
	finished := false
	l.t.Cleanup(func() {
		if !finished && l.t.Failed() {
			l.showStuck(f)
		}
	})
	l.until("all jobs are over", 2*patience, func() bool {
		for _, id := range l.history.Jobs() {
			if j, err := f.api.DescribeJob(f.ctx, &iot.DescribeJobInput{JobId: &id}); !over(j, err) {
				return false
			}
		}
		return true
	})
	finished = true
	var state *faulttest.State
	var wrong []string
	for deadline := time.Now().Add(patience); ; { // what is to be told may be on its way
		state = l.state(f)
		if wrong = faulttest.Check(l.history, state); len(wrong) == 0 || time.Now().After(deadline) {
			break
		}
	}
	for i, w := range wrong {
		if i == 20 {
			l.t.Errorf("and %d more", len(wrong)-i)
			break
		}
		l.t.Error(w)
	}
	if len(wrong) == 0 {
		faulttest.Plant(l.t, l.history, state, true)
	}
	l.t.Logf("loaded for %s, %s in all; checked: %d requests of devices (%d without an answer), %d of the operator, %d jobs, %d executions, %d journal rows, %d messages received; %d connects",
		loaded.Round(100*time.Millisecond), time.Since(l.began).Round(100*time.Millisecond), len(l.history.Ops), l.history.Unanswered(), len(l.history.Orders),
		len(state.Jobs), len(state.Executions), len(state.Journal), l.messages.Load(), l.connects.Load())
}

// showStuck shows the devices that have something to do.
func (l *load) showStuck(f *fleet) {
	for i, thing := range l.things {
		pending := l.pending(f, thing)
		if len(pending) == 0 {
			continue
		}
		told, last := l.history.LastNotice(thing)
		l.t.Logf("%s has %v to do; told at %s: %v; online: %t", thing, pending, last.Format(time.StampMilli), told, l.online[i].Load())
		for _, id := range pending {
			e := l.execution(f, id, thing, 1)
			x := f.execution(thing, id, 1)
			l.t.Logf("%+v queued at %v", e, x.QueuedAt)
		}
	}
}

// over reports whether a job has ended, or was never there.
func over(j *iot.DescribeJobOutput, err error) bool {
	var gone *types.ResourceNotFoundException
	if err != nil {
		return errors.As(err, &gone)
	}
	return j.Job.Status == types.JobStatusCompleted || j.Job.Status == types.JobStatusCanceled
}

// state reads everything back.
func (l *load) state(f *fleet) *faulttest.State {
	l.t.Helper()
	s := &faulttest.State{Pending: map[string][]string{}}
	for _, id := range l.history.Jobs() {
		out, err := f.api.DescribeJob(f.ctx, &iot.DescribeJobInput{JobId: &id})
		var gone *types.ResourceNotFoundException
		if errors.As(err, &gone) {
			continue
		}
		f.must(err)
		counts := map[string]int{}
		for i, n := range counters(out.Job) {
			if n > 0 {
				counts[[...]string{"QUEUED", "IN_PROGRESS", "SUCCEEDED", "FAILED", "REJECTED", "TIMED_OUT", "CANCELED", "REMOVED"}[i]] = int(n)
			}
		}
		s.Jobs = append(s.Jobs, faulttest.Job{ID: id, Status: string(out.Job.Status), Counts: counts})
		pages := iot.NewListJobExecutionsForJobPaginator(f.api, &iot.ListJobExecutionsForJobInput{JobId: &id})
		for pages.HasMorePages() {
			page, err := pages.NextPage(f.ctx)
			f.must(err)
			for _, e := range page.ExecutionSummaries {
				s.Executions = append(s.Executions, l.execution(f, id, aws.ToString(e.ThingArn), aws.ToInt64(e.JobExecutionSummary.ExecutionNumber)))
			}
		}
	}
	for _, thing := range l.things {
		s.Pending[thing] = l.pending(f, thing)
	}
	var err error
	s.Journal, err = faulttest.ReadJournal(f.ctx, l.store, l.sites[0].data, l.t.TempDir())
	f.must(err)
	return s
}

func (l *load) execution(f *fleet, job, arn string, number int64) faulttest.Execution {
	l.t.Helper()
	thing := arn[strings.LastIndexByte(arn, '/')+1:]
	e := f.execution(thing, job, number)
	seen := faulttest.Execution{Job: job, Thing: thing, Number: number, Status: string(e.Status), Version: e.VersionNumber}
	if e.StatusDetails != nil && e.StatusDetails.DetailsMap["step"] != "" {
		var err error
		seen.Step, err = strconv.Atoi(e.StatusDetails.DetailsMap["step"])
		f.must(err)
	}
	return seen
}

// pending is what the device plane says that a device still has to do.
func (l *load) pending(f *fleet, thing string) []string {
	l.t.Helper()
	status, _, answer := f.call("iot-jobs-data", "GET", "/things/"+thing+"/jobs", "")
	if status != http.StatusOK {
		l.t.Fatalf("jobs of %s: %d %v", thing, status, answer)
	}
	return jobIDs(answer)
}

// jobIDs reads the ids of jobs out of lists by status.
func jobIDs(lists any) (ids []string) {
	byStatus, _ := lists.(map[string]any)
	for _, list := range byStatus {
		jobs, _ := list.([]any)
		for _, j := range jobs {
			ids = append(ids, fmt.Sprint(path(j, "jobId")))
		}
	}
	return ids
}

// loadClient is an MQTT client that comes back whenever it is cut off.
type loadClient struct {
	*load
	sites      []*site // where it may connect
	id         string
	version    byte
	persistent bool
	random     *rand.Rand
	online     *atomic.Bool // of a device

	client  *mq.Client
	silent  int // requests without any answer since there was one
	token   int
	step    int                // used last
	reports int                // published
	hear    func(m mq.Publish) // what has come unasked
	wake    bool               // there is something to do
}

// telemetry is where devices say how many executions they have done: all that they publish but requests.
const telemetry = "telemetry/"

// watch hears all events, and all telemetry.
func (c *loadClient) watch(ctx context.Context, ready func()) {
	told := ready
	ready = sync.OnceFunc(func() { c.history.Receiver(c.id); told() })
	c.hear = func(m mq.Publish) {
		if from, ok := strings.CutPrefix(m.Topic, telemetry); ok {
			n, err := strconv.Atoi(m.Payload)
			if err != nil {
				c.t.Errorf("%s: %q", m.Topic, m.Payload)
			}
			c.history.Receive(c.id, faulttest.Message{From: from, N: n})
			return
		}
		var e struct{ JobID, ThingARN, Status string }
		if err := json.Unmarshal([]byte(m.Payload), &e); err != nil {
			c.t.Errorf("%s: %q: %v", m.Topic, m.Payload, err)
		}
		c.history.Heard(faulttest.Event{Job: e.JobID, Thing: e.ThingARN[strings.LastIndexByte(e.ThingARN, '/')+1:], Status: e.Status})
	}
	c.stay(ctx, func() error {
		if err := c.subscribe("$aws/events/job/#", "$aws/events/jobExecution/#", telemetry+"#"); err != nil {
			return err
		}
		ready()
		return c.listen(ctx, func() error { return nil })
	})
}

// work is the life of a device: it does what it is told of, and asks what that is whenever it comes back.
func (c *loadClient) work(ctx context.Context) {
	byList := c.random.IntN(2) == 0 // it goes by notify, not by notify-next
	c.hear = func(m mq.Publish) {
		switch strings.TrimPrefix(m.Topic, c.topic("")) {
		case "notify":
			pending := c.told(m.Payload)
			c.wake = c.wake || byList && len(pending) > 0
		case "notify-next":
			c.wake = c.wake || !byList && strings.Contains(m.Payload, `"jobId"`)
		}
	}
	c.stay(ctx, func() error {
		defer c.online.Store(false)
		if err := c.subscribe(c.topic("#")); err != nil {
			return err
		}
		c.wake = true
		for !c.online.Load() {
			result, answer, err := c.ask("get", nil)
			if err == nil && result != "accepted" {
				err = c.pause()
			}
			if err != nil {
				return err
			}
			if result == "accepted" {
				c.history.Notice(c.id, jobIDs(map[string]any{"": answer["inProgressJobs"], " ": answer["queuedJobs"]}))
				c.online.Store(true)
			}
		}
		return c.listen(ctx, func() error {
			for c.wake {
				if err := c.next(); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// told notes what a notice says.
func (c *loadClient) told(payload string) (pending []string) {
	var notice map[string]any
	if err := json.Unmarshal([]byte(payload), &notice); err != nil {
		c.t.Errorf("notice %q: %v", payload, err)
	}
	pending = jobIDs(notice["jobs"])
	c.history.Notice(c.id, pending)
	return pending
}

// stay connects again and again until the context ends.
func (c *loadClient) stay(ctx context.Context, online func() error) {
	for ctx.Err() == nil {
		if err := c.connect(ctx); err == nil {
			stop := context.AfterFunc(ctx, func() { _ = c.client.Conn.Close() })
			_ = online() // ends when the connection does
			stop()
			_ = c.client.Conn.Close() // it is of no use any more
		}
		select {
		case <-ctx.Done():
		case <-time.After(20*time.Millisecond + time.Duration(c.random.IntN(200))*time.Millisecond):
		}
	}
}

func (c *loadClient) connect(ctx context.Context) error {
	dialer := net.Dialer{Timeout: noAnswer}
	to := c.sites[c.random.IntN(len(c.sites))].at.Load()
	conn, err := dialer.DialContext(ctx, "tcp", strings.TrimPrefix(to.mqtt, "mqtt://"))
	if err != nil {
		return err
	}
	c.client = mq.New(conn)
	p := mq.Connect{Version: c.version, ID: c.id, Persistent: c.persistent, KeepAlive: 600}
	if c.version == 5 && c.persistent {
		p.Props = mq.Prop(mq.SessionExpiry, 3600)
	}
	if err := c.client.TrySend(p.Encode()); err != nil {
		return errors.Join(err, conn.Close())
	}
	c.client.Version, c.silent = c.version, 0
	answer, err := c.client.TryNext(noAnswer)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	if ack, err := answer.Connack(c.version); err != nil || ack.Code != 0 {
		return errors.Join(fmt.Errorf("CONNACK %#x", ack.Code), err, conn.Close())
	}
	c.connects.Add(1)
	return nil
}

func (c *loadClient) subscribe(filters ...string) error {
	var list []mq.Filter
	for _, f := range filters {
		list = append(list, mq.Filter{Filter: f, Options: 1})
	}
	if err := c.client.TrySend(mq.Subscribe(c.version, 1, nil, list...)); err != nil {
		return err
	}
	return c.receive(noAnswer, func(p mq.Packet, _ *mq.Publish) (bool, error) {
		if p.Type != mq.SUBACK {
			return false, nil
		}
		ack, err := p.Ack(c.version)
		for _, code := range ack.Codes {
			if code > 1 {
				err = fmt.Errorf("SUBACK %#x", code)
			}
		}
		return true, err
	})
}

// listen receives until the connection ends, and calls f after everything that has come.
func (c *loadClient) listen(ctx context.Context, f func() error) error {
	for ctx.Err() == nil {
		if err := f(); err != nil {
			return err
		}
		err := c.receive(time.Minute, func(mq.Packet, *mq.Publish) (bool, error) { return true, nil })
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
	return nil
}

// receive hears what comes until done says so. os.ErrDeadlineExceeded if that takes too long.
func (c *loadClient) receive(within time.Duration, done func(mq.Packet, *mq.Publish) (bool, error)) error {
	for deadline := time.Now().Add(within); ; {
		p, err := c.client.TryNext(time.Until(deadline))
		if err != nil {
			return err
		}
		var m *mq.Publish
		switch p.Type {
		case mq.PUBLISH:
			message, _, err := p.Publish(c.version)
			if err != nil {
				return err
			}
			m = &message
			c.messages.Add(1)
			c.hear(message)
			if m.QoS > 0 {
				if err := c.client.TrySend(mq.Puback(m.ID)); err != nil {
					return err
				}
			}
		case mq.DISCONNECT:
			return fmt.Errorf("disconnected: %v", p)
		}
		if enough, err := done(p, m); enough || err != nil {
			return err
		}
	}
}

func (c *loadClient) topic(rest string) string { return "$aws/things/" + c.id + "/jobs/" + rest }

// ask makes a request and returns the answer; result is "" if there is none in time.
func (c *loadClient) ask(rest string, request map[string]any) (result string, answer map[string]any, err error) {
	c.token++
	token := strconv.Itoa(c.token)
	if request == nil {
		request = map[string]any{}
	}
	request["clientToken"] = token
	payload, err := json.Marshal(request)
	if err != nil {
		return "", nil, err
	}
	m := mq.Publish{Topic: c.topic(rest), Payload: string(payload), QoS: 1, ID: c.client.NextID()%60_000 + 1}
	if err := c.client.TrySend(m.Encode(c.version)); err != nil {
		return "", nil, err
	}
	err = c.receive(noAnswer, func(_ mq.Packet, m *mq.Publish) (bool, error) {
		if m == nil || !strings.HasPrefix(m.Topic, c.topic(rest)+"/") {
			return false, nil
		}
		if err := json.Unmarshal([]byte(m.Payload), &answer); err != nil || answer["clientToken"] != token {
			answer = nil
			return false, err
		}
		result = strings.TrimPrefix(m.Topic, c.topic(rest)+"/")
		return true, nil
	})
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		c.silent = 0
		return result, answer, err
	}
	if c.silent++; c.silent < 2 {
		return result, answer, nil
	}
	return result, answer, errors.New("nobody answers here")
}

// request is ask with the next step, noted in the history. It returns what is known of the execution
// afterwards, and whether it is as asked.
func (c *loadClient) request(rest string, op faulttest.Op, request map[string]any) (after faulttest.Op, done bool, err error) {
	c.step++
	op.Thing, op.Step = c.id, c.step
	request["statusDetails"] = map[string]string{"step": strconv.Itoa(c.step)}
	answered := c.history.Ask(op)
	result, answer, err := c.ask(rest, request)
	switch {
	case result == "rejected" && answer["code"] == "InternalError" || result == "":
	case result == "rejected":
		op.Outcome = faulttest.Refused
	case rest == "start-next" && answer["execution"] == nil:
		op.Outcome = faulttest.Refused // there was nothing to do
	default:
		state := answer["executionState"]
		if rest == "start-next" {
			state = answer["execution"]
			op.Job = fmt.Sprint(path(state, "jobId"))
		}
		version, _ := path(state, "versionNumber").(float64)
		step, _ := strconv.Atoi(fmt.Sprint(path(state, "statusDetails", "step")))
		op.Outcome, op.Status, op.Version = faulttest.Done, fmt.Sprint(path(state, "status")), int64(version)
		op.Found, op.Step = step != op.Step, step
		answered(op)
		return op, true, err
	}
	answered(op)
	if op.Outcome == faulttest.Unanswered && err == nil { // and asks again, not too soon
		err = c.pause()
	}
	return op, false, err
}

// report publishes how much has been done, and waits until that is acknowledged.
func (c *loadClient) report() error {
	c.reports++
	promised := !c.doubt.Load()
	acknowledged := c.history.Publish(faulttest.Message{From: c.id, N: c.reports})
	m := mq.Publish{Topic: telemetry + c.id, Payload: strconv.Itoa(c.reports), QoS: 1, ID: c.client.NextID()%60_000 + 1}
	if err := c.client.TrySend(m.Encode(c.version)); err != nil {
		return err
	}
	err := c.receive(noAnswer, func(p mq.Packet, _ *mq.Publish) (bool, error) {
		if p.Type != mq.PUBACK {
			return false, nil
		}
		ack, err := p.Ack(c.version)
		if err != nil || ack.ID != m.ID {
			return false, err
		}
		if ack.Codes[0] < 0x80 && promised && !c.doubt.Load() {
			acknowledged()
		}
		return true, nil
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil // it may have come, and may not
	}
	return err
}

// pause receives for a moment.
func (c *loadClient) pause() error {
	err := c.receive(time.Duration(50+c.random.IntN(100))*time.Millisecond, func(mq.Packet, *mq.Publish) (bool, error) { return false, nil })
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

// next starts the next execution and brings it to its end, if it is let.
func (c *loadClient) next() error {
	c.wake = false // a notice may overtake the answer of another node
	op, ok, err := c.request("start-next", faulttest.Op{Status: "IN_PROGRESS"}, map[string]any{})
	c.wake = c.wake || op.Outcome != faulttest.Refused
	if !ok || err != nil {
		return err
	}
	for reports := c.random.IntN(4); ; reports-- {
		status := "IN_PROGRESS"
		if reports <= 0 {
			status = [...]string{"SUCCEEDED", "SUCCEEDED", "SUCCEEDED", "FAILED", "REJECTED"}[c.random.IntN(5)]
		}
		request := map[string]any{"status": status, "includeJobExecutionState": true}
		if c.random.IntN(2) == 0 {
			request["expectedVersion"] = op.Version
		}
		if op, ok, err = c.request(op.Job+"/update", faulttest.Op{Job: op.Job, Status: status}, request); !ok || err != nil {
			return err
		}
		if status != "IN_PROGRESS" {
			return c.report()
		}
	}
}
