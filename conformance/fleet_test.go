package conformance

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/smithy-go"
)

// fleet is what a test works with: a server, its clients, and names of its own.
type fleet struct {
	t *testing.T
	*server
	api    *iot.Client
	ctx    context.Context
	prefix string
}

// newFleet returns a fleet on the shared server.
func newFleet(t *testing.T) *fleet { t.Helper(); t.Parallel(); return fleetOn(t, sharedServer(t)) }

// fleetOn returns a fleet on a server.
func fleetOn(t *testing.T, s *server) *fleet {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return &fleet{t: t, server: s, api: s.client(), ctx: ctx, prefix: strings.ToLower(rand.Text()[:8])}
}

// name makes a name that no other test uses.
func (f *fleet) name(n string) string { return f.prefix + "-" + n }

func (f *fleet) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// thing registers a thing and returns its full name.
func (f *fleet) thing(n string) string {
	f.t.Helper()
	_, err := f.api.CreateThing(f.ctx, &iot.CreateThingInput{ThingName: aws.String(f.name(n))})
	f.must(err)
	return f.name(n)
}

// group creates a thing group with members (full names) and returns its full name.
func (f *fleet) group(n, parent string, members ...string) string {
	f.t.Helper()
	in := &iot.CreateThingGroupInput{ThingGroupName: aws.String(f.name(n))}
	if parent != "" {
		in.ParentGroupName = aws.String(parent)
	}
	_, err := f.api.CreateThingGroup(f.ctx, in)
	f.must(err)
	for _, m := range members {
		f.join(f.name(n), m)
	}
	return f.name(n)
}

func (f *fleet) join(group, thing string) {
	f.t.Helper()
	_, err := f.api.AddThingToThingGroup(f.ctx, &iot.AddThingToThingGroupInput{ThingGroupName: &group, ThingName: &thing})
	f.must(err)
}

func (f *fleet) leave(group, thing string) {
	f.t.Helper()
	_, err := f.api.RemoveThingFromThingGroup(f.ctx, &iot.RemoveThingFromThingGroupInput{ThingGroupName: &group, ThingName: &thing})
	f.must(err)
}

func (f *fleet) thingARN(name string) string { return f.arn("thing", name) }
func (f *fleet) groupARN(name string) string { return f.arn("thinggroup", name) }

const document = `{"operation":"reboot"}`

// job creates a job for targets (ARNs), waits until it is rolled out, and returns its id.
// Options change the request before it is sent.
func (f *fleet) job(n string, targets []string, options ...func(*iot.CreateJobInput)) string {
	f.t.Helper()
	id := f.name(n)
	in := &iot.CreateJobInput{JobId: &id, Targets: targets, Document: aws.String(document)}
	for _, o := range options {
		o(in)
	}
	_, err := f.api.CreateJob(f.ctx, in)
	f.must(err)
	f.eventually("the rollout ends", func() bool { return !aws.ToBool(f.describe(id).IsConcurrent) })
	return id
}

func continuous(in *iot.CreateJobInput) { in.TargetSelection = types.TargetSelectionContinuous }

func (f *fleet) describe(id string) *types.Job {
	f.t.Helper()
	out, err := f.api.DescribeJob(f.ctx, &iot.DescribeJobInput{JobId: &id})
	f.must(err)
	return out.Job
}

// execution describes the latest execution, or the given one.
func (f *fleet) execution(thing, id string, number ...int64) *types.JobExecution {
	f.t.Helper()
	in := &iot.DescribeJobExecutionInput{ThingName: &thing, JobId: &id}
	if len(number) > 0 {
		in.ExecutionNumber = &number[0]
	}
	out, err := f.api.DescribeJobExecution(f.ctx, in)
	f.must(err)
	return out.Execution
}

// eventually waits for a condition by asking again and again.
func (f *fleet) eventually(what string, cond func() bool) {
	f.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline.C:
			f.t.Fatalf("waited in vain: %s", what)
		case <-tick.C:
		}
	}
}

// refused checks that err is an AWS error of that code and HTTP status, and returns its message.
func (f *fleet) refused(err error, code string, status int) (message string) {
	f.t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) {
		f.t.Fatalf("got %v, want %s", err, code)
	}
	var resp interface{ HTTPStatusCode() int }
	if !errors.As(err, &resp) {
		f.t.Fatalf("no HTTP status in %v", err)
	}
	if api.ErrorCode() != code || resp.HTTPStatusCode() != status {
		f.t.Fatalf("got %s %d (%s), want %s %d", api.ErrorCode(), resp.HTTPStatusCode(), api.ErrorMessage(), code, status)
	}
	return api.ErrorMessage()
}

// call makes a plain signed request, for the device plane over HTTPS (service
// "iot-jobs-data") and for what the SDK would not send. The path is sent as it is.
func (f *fleet) call(service, method, path, body string) (status int, header http.Header, answer map[string]any) {
	f.t.Helper()
	r := f.signed(service, method, path, body)
	resp, err := http.DefaultClient.Do(r)
	f.must(err)
	text, err := io.ReadAll(resp.Body)
	f.must(errors.Join(err, resp.Body.Close()))
	if len(text) > 0 {
		if err := json.Unmarshal(text, &answer); err != nil {
			f.t.Fatalf("%s %s: body %q is not JSON: %v", method, path, text, err)
		}
	}
	return resp.StatusCode, resp.Header, answer
}

// signed is a request with a signature.
func (f *fleet) signed(service, method, path, body string) *http.Request {
	f.t.Helper()
	r, err := http.NewRequestWithContext(f.ctx, method, f.http+path, strings.NewReader(body))
	f.must(err)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	hash := sha256.Sum256([]byte(body))
	f.must(v4.NewSigner().SignHTTP(f.ctx, aws.Credentials{AccessKeyID: f.key, SecretAccessKey: f.secret}, r, hex.EncodeToString(hash[:]), service, f.region, f.now()))
	return r
}

// message is what a device received.
type message struct {
	topic   string
	payload string
	json    map[string]any
}

// mailbox keeps what an MQTT client receives, in order.
type mailbox struct {
	gone chan struct{} // closed when the connection is lost

	mu       sync.Mutex
	arrived  chan struct{} // closed and replaced on arrival
	messages []message
	loss     error // why the connection is gone
}

func newMailbox() *mailbox {
	return &mailbox{gone: make(chan struct{}), arrived: make(chan struct{})}
}

// lose tells those who wait that the connection is gone.
func (b *mailbox) lose(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.loss == nil {
		b.loss = fmt.Errorf("connection lost: %w", err)
		close(b.gone)
	}
}

func (b *mailbox) put(topic string, payload []byte) {
	m := message{topic: topic, payload: string(payload)}
	_ = json.Unmarshal(payload, &m.json) // tests that care look at json
	b.mu.Lock()
	defer b.mu.Unlock()
	b.messages = append(b.messages, m)
	close(b.arrived)
	b.arrived = make(chan struct{})
}

// wait returns the n-th message (from 0) that matches, waiting for it as long as there is a
// connection.
func (b *mailbox) wait(n int, match func(message) bool) (message, error) {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		b.mu.Lock()
		seen := 0
		for _, m := range b.messages {
			if match(m) {
				if seen == n {
					b.mu.Unlock()
					return m, nil
				}
				seen++
			}
		}
		arrived, loss := b.arrived, b.loss
		b.mu.Unlock()
		if loss != nil {
			return message{}, loss
		}
		select {
		case <-arrived:
		case <-b.gone:
		case <-deadline.C:
			return message{}, fmt.Errorf("waited in vain for message %d; %d messages of any kind are here: %v", n+1, len(b.all()), b.all())
		}
	}
}

func (b *mailbox) all() []message {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]message(nil), b.messages...)
}

func (b *mailbox) count(match func(message) bool) int {
	n := 0
	for _, m := range b.all() {
		if match(m) {
			n++
		}
	}
	return n
}
