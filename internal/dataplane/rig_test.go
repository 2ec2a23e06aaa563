package dataplane

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"drover/internal/iot"
)

var realm = iot.Realm{Account: "123456789012", Region: "eu-west-1"}

// rig is a handler and a publisher around a small engine: the real rules of a queue, in
// memory, one request at a time. It keeps what is sent in the order of sending.
type rig struct {
	t       testing.TB
	h       *Handler
	p       *Publisher
	metrics *prometheus.Registry

	mu      sync.Mutex
	at      iot.Time
	things  map[iot.ThingName]*iot.Queue
	ended   []iot.Execution
	jobs    map[iot.JobID]int64
	docs    map[int64]string
	numbers map[string]int64
	seq     int64
	fail    error // what the engine answers to everything, if set
	outages int   // how many readings of the publisher are to fail because there is no database
	timeout int64 // minutes that every job gives an execution in progress, 0 for ever
	windows bool  // what is queued now is of jobs with maintenance windows
	enabled map[iot.EventType]bool
	loads   int // of the event configuration

	presigned *iot.PresignedURLConfig // of every job
	urls      int                     // presigned so far
	unsigned  error                   // why none can be presigned

	filters map[string]bool // subscribed to
	sent    []sent
	owed    int // answers that clients are to expect
}

// sent is a message on its way out. A client's answer has its name in to.
type sent struct {
	to, topic, payload string
	qos                byte
}

func (s sent) String() string { return strings.TrimPrefix(s.to+" ", " ") + s.topic + " " + s.payload }

const start = 1700000000

func newRig(t testing.TB) *rig {
	r := &rig{
		t: t, at: start * 1000, things: map[iot.ThingName]*iot.Queue{"t1": {ThingID: 1, Thing: "t1"}, "t2": {ThingID: 2, Thing: "t2"}},
		jobs: map[iot.JobID]int64{}, docs: map[int64]string{}, numbers: map[string]int64{},
		enabled: map[iot.EventType]bool{}, filters: map[string]bool{"#": true}, metrics: prometheus.NewRegistry(),
	}
	clock := func() time.Time { return r.at.Std() }
	r.h = New(Config{Engine: r, Signer: r, Now: clock, Metrics: r.metrics})
	r.p = NewPublisher(PublisherConfig{Broker: r, Documents: r, Events: r, Signer: r, Realm: realm, Now: clock, Metrics: r.metrics})
	return r
}

func (r *rig) Queue(q *iot.Request, reply func(*iot.Answer, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	answer, records, err := r.carryOut(q)
	reply(answer, err)
	r.publish(records)
}

// publish publishes records, which must not fail.
func (r *rig) publish(records []iot.Record) {
	if err := r.p.Publish(r.t.Context(), records); err != nil {
		r.t.Errorf("publish: %v", err)
	}
}

func (r *rig) Flush() {}

func (r *rig) Do(_ context.Context, q *iot.Request) (answer *iot.Answer, err error) {
	r.Queue(q, func(a *iot.Answer, e error) { answer, err = a, e })
	return answer, err
}

func (r *rig) carryOut(q *iot.Request) (*iot.Answer, []iot.Record, error) {
	if r.fail != nil {
		return nil, nil, r.fail
	}
	if err := q.Check(); err != nil {
		return nil, nil, err
	}
	queue := r.things[q.Thing]
	if queue == nil {
		return nil, nil, iot.Errorf(iot.NotFound, "Thing %s cannot be found", q.Thing)
	}
	a := new(iot.Answer)
	switch q.Op {
	case iot.OpGetPending:
		a.InProgress, a.Queued = queue.Pending(q.Namespace)
		return a, nil, nil
	case iot.OpStartNext:
		next, change := queue.StartNext(r.at, q, r.timeout)
		if a.Execution = next; next != nil {
			a.Document = r.deliver(next)
		}
		return a, r.records(change), nil
	case iot.OpDescribe:
		x := queue.Find(q.JobID, q.Number)
		if x != nil && x.Namespace != q.Namespace {
			x = nil
		}
		if q.JobID == iot.NextJob {
			x = queue.Next(q.Namespace)
		}
		if x == nil && q.JobID != iot.NextJob {
			if r.history(q) != nil {
				return nil, nil, iot.Errorf(iot.TerminalState, "Execution of job %s has ended", q.JobID)
			}
			return nil, nil, iot.Errorf(iot.NotFound, "Job %s has no execution on thing %s", q.JobID, q.Thing)
		}
		if x != nil {
			copied := *x
			a.Execution = &copied
			if q.WantDocument {
				a.Document = r.deliver(x)
			}
		}
		return a, nil, nil
	default:
		change, err := queue.Update(r.at, q, r.timeout)
		if err != nil {
			return nil, nil, err
		}
		if change == nil {
			if x := r.history(q); x != nil {
				return nil, nil, x.RefuseUpdate(q)
			}
			return nil, nil, iot.Errorf(iot.NotFound, "Job %s has no execution on thing %s", q.JobID, q.Thing)
		}
		if q.WantState {
			a.State = change.Execution.State()
		}
		if q.WantDocument {
			a.Document = r.deliver(&change.Execution)
		}
		return a, r.records(change), nil
	}
}

func (r *rig) history(q *iot.Request) *iot.Execution {
	for _, x := range slices.Backward(r.ended) {
		if x.Thing == q.Thing && x.JobID == q.JobID && x.Namespace == q.Namespace && (q.Number == 0 || q.Number == x.Number) {
			return &x
		}
	}
	return nil
}

// records makes the records of a change as the engine does: progress is none.
func (r *rig) records(c *iot.Change) []iot.Record {
	if c == nil || !c.Reposition() {
		return nil
	}
	if c.Execution.Status.Terminal() {
		r.ended = append(r.ended, c.Execution)
	}
	e := c.Execution
	return []iot.Record{{At: r.at, Kind: iot.ExecutionChanged, JobID: e.JobID, Execution: &e, List: c.List, Next: c.Next, Queue: c.Queue}}
}

// queue queues an execution of the job on t1 and publishes what follows. The document names
// the job.
func (r *rig) queue(job iot.JobID) { r.queueIn("t1", job, "") }

func (r *rig) queueIn(thing iot.ThingName, job iot.JobID, namespace string) {
	if r.jobs[job] == 0 {
		r.jobs[job] = int64(len(r.jobs) + 1)
		r.docs[r.jobs[job]] = fmt.Sprintf(`{"operation":%q}`, job)
	}
	key := string(thing) + "/" + string(job)
	r.numbers[key]++
	r.seq++
	c := r.things[thing].Add(iot.Execution{
		Seq: r.seq, Job: r.jobs[job], JobID: job, Namespace: namespace, Number: r.numbers[key],
		Status: iot.Queued, Version: 1, QueuedAt: r.at, UpdatedAt: r.at, Windowed: r.windows,
	})
	r.publish(r.records(&c))
}

// move is what the service does to an execution: cancel it, say.
func (r *rig) move(job iot.JobID, to iot.ExecutionStatus) {
	q := r.things["t1"]
	c := q.Move(r.at, q.Find(job, 0).Seq, to, nil, true)
	r.publish(r.records(&c))
}

// drop deletes an execution of t1.
func (r *rig) drop(job iot.JobID) {
	q := r.things["t1"]
	c := q.Drop(q.Find(job, 0).Seq)
	e := c.Execution
	r.publish([]iot.Record{{At: r.at, Kind: iot.ExecutionDeleted, JobID: job, Execution: &e, List: c.List, Next: c.Next, Queue: c.Queue}})
}

func (r *rig) tick() { r.at += 1000 }

// HasSubscribers makes the rig a Broker; "#" stands for everything.
func (r *rig) HasSubscribers(topic string) bool { return r.filters["#"] || r.filters[topic] }

func (r *rig) PublishFor(topic string, payload []byte, contentType string, life time.Duration) {
	r.send(sent{"", topic, fmt.Sprintf("%s %s %s", payload, contentType, life), 1})
}

func (r *rig) Publish(topic string, payload []byte, qos byte) {
	if !r.HasSubscribers(topic) {
		r.t.Errorf("published to nobody: %s", topic)
	}
	r.send(sent{"", topic, string(payload), qos})
}

func (r *rig) send(s sent) {
	if !json.Valid([]byte(s.payload)) {
		r.t.Errorf("not JSON: %s", s)
	}
	r.sent = append(r.sent, s)
}

func (r *rig) Document(x *iot.Execution) (iot.Delivery, error) {
	if err := r.outage(); err != nil {
		return iot.Delivery{}, err
	}
	if _, ok := r.docs[x.Job]; !ok {
		return iot.Delivery{}, iot.Errorf(iot.NotFound, "no job %d", x.Job)
	}
	return r.deliver(x), nil
}

// outage is the error of the next reading.
func (r *rig) outage() error {
	if r.outages == 0 {
		return nil
	}
	r.outages--
	return iot.Errorf(iot.Unavailable, "no database")
}

// deliver returns the document of an execution's job.
func (r *rig) deliver(x *iot.Execution) iot.Delivery {
	doc, err := iot.ParseDocument(r.docs[x.Job], iot.ObjectStore{AnyHost: true})
	if err != nil {
		r.t.Fatal(err)
	}
	return doc.For(x, r.presigned)
}

// Presign implements Signer: every URL is another one.
func (r *rig) Presign(o iot.ObjectURL) (string, error) {
	if r.unsigned != nil {
		return "", r.unsigned
	}
	r.urls++
	return fmt.Sprintf("https://%s/%s?n=%d&thing=%s&job=%s&role=%s&s=%v", o.Bucket, o.Key, r.urls, o.Thing, o.Job, o.RoleARN, o.Expires), nil
}

func (r *rig) EventConfigurations(context.Context) (iot.EventConfigurations, error) {
	if err := r.outage(); err != nil {
		return iot.EventConfigurations{}, err
	}
	r.loads++
	if r.fail != nil {
		return iot.EventConfigurations{}, r.fail
	}
	return iot.EventConfigurations{Enabled: r.enabled}, nil
}

// enable switches event types on and tells the publisher.
func (r *rig) enable(types ...iot.EventType) {
	r.enabled = map[iot.EventType]bool{}
	for _, t := range types {
		r.enabled[t] = true
	}
	r.publish([]iot.Record{{At: r.at, Kind: iot.EventsConfigured}})
}

// client is a connected device.
type client struct {
	r    *rig
	name string
}

func (c client) ID() string { return c.name }

func (c client) Certificate() iot.CertificateID { return "" }

func (c client) Deliver(topic string, payload []byte, qos byte) {
	c.r.send(sent{c.name, topic, string(payload), qos})
}

func (c client) Granted(string) (byte, bool) { return 0, false }
func (c client) Backlog() (int, bool)        { return 0, true }

func (c client) Expect()   { c.r.owed++ }
func (c client) Answered() { c.r.owed-- }

// take returns what was sent since the last call.
func (r *rig) take() []string {
	var list []string
	for _, s := range r.sent {
		list = append(list, strings.ReplaceAll(s.String(), "$aws/things/t1/jobs/", "B/"))
	}
	r.sent = nil
	return list
}

// want checks what was sent since the last look, in order. B/ stands for the topics of t1.
func (r *rig) want(want ...string) {
	r.t.Helper()
	if got := r.take(); !slices.Equal(got, want) {
		r.t.Errorf("sent\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// ask publishes a request of the device c1 for t1 and returns the payload of the answer and
// whether the request was accepted. What else was sent is kept for want.
func (r *rig) ask(topic, payload string) (answer string, accepted bool) {
	r.t.Helper()
	r.sent = nil
	topic = "$aws/things/t1/jobs/" + topic
	if v := r.h.HandlePublish(client{r, "c1"}, Message{Topic: topic, Payload: []byte(payload), QoS: 1}); v != Taken {
		r.t.Fatalf("%s: verdict %d, want it taken", topic, v)
	}
	// What a client is to expect ends when all that comes with the answer has been handed on.
	if owed := r.owed; owed > 1 {
		r.t.Errorf("%s: %d answers expected, want at most one", topic, owed)
	}
	if r.h.Told(); r.owed != 0 {
		r.t.Errorf("%s: still expected: %d", topic, r.owed)
	}
	if len(r.sent) == 0 || r.sent[0].to != "c1" {
		r.t.Fatalf("%s: sent %v, want an answer first", topic, r.sent)
	}
	s := r.sent[0]
	r.sent = r.sent[1:]
	switch s.topic {
	case topic + "/accepted":
		return s.payload, true
	case topic + "/rejected":
		return s.payload, false
	}
	r.t.Fatalf("answer on %s", s.topic)
	return "", false
}

func (r *rig) accept(topic, payload, want string) {
	r.t.Helper()
	if got, ok := r.ask(topic, payload); !ok || got != want {
		r.t.Errorf("%s %s: accepted %v\n got %s\nwant %s", topic, payload, ok, got, want)
	}
}

// reject checks the code of a refusal and returns its payload.
func (r *rig) reject(topic, payload, code string) string {
	r.t.Helper()
	got, ok := r.ask(topic, payload)
	var body struct{ Code, Message string }
	if err := json.Unmarshal([]byte(got), &body); err != nil {
		r.t.Fatal(err)
	}
	if ok || body.Code != code || body.Message == "" {
		r.t.Errorf("%s %s: accepted %v, got %s, want %s with a message", topic, payload, ok, got, code)
	}
	return got
}

var uuidPattern = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`)

// event checks that exactly one event was sent, with ID in place of its UUID.
func (r *rig) event(topic, payload string) {
	r.t.Helper()
	if len(r.sent) == 1 {
		r.sent[0].payload = uuidPattern.ReplaceAllString(r.sent[0].payload, "ID")
		if r.sent[0].qos != 1 {
			r.t.Errorf("%s: QoS %d, want 1", topic, r.sent[0].qos)
		}
	}
	r.want("$aws/events/" + topic + " " + payload)
}
