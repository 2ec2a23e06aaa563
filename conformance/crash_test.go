package conformance

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/smithy-go"
)

// The end of the process, by a power cut and by an operator.

var (
	seedFlag   = flag.Uint64("seed", 0, "seed of TestPowerCut; 0: a new one")
	roundsFlag = flag.Int("rounds", 5, "power cuts of TestPowerCut")
)

// A server is killed again and again while devices, an operator and a rollout keep it busy.
// Whatever it has answered must be there afterwards, once; whatever it has not may be.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-seed %d", seed)
	c := newChaos(t, rand.New(rand.NewPCG(seed, 0)))
	for round := range *roundsFlag {
		c.round(round)
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	// What is left is still good for work.
	acks := make(chan struct{})
	go func() { defer close(acks); c.play(acks) }()
	for range acks {
	}
	for _, w := range c.tasks {
		if w.acked.status != "SUCCEEDED" || w.asked != nil {
			t.Errorf("%s on %s ended as %+v, asked %+v", w.job, w.thing, w.acked, w.asked)
		}
	}
	c.check()
	t.Logf("%d updates and %d requests of the operator answered; killed in %d rollouts, %d cancellations", c.updates, c.answers, c.unfinished["IN_PROGRESS"], c.unfinished["CANCELED"])
}

const (
	players   = 12
	taskSteps = 20     // at most
	rollout   = 10_000 // things
)

// chaos is a server under load, and what must be true of it.
type chaos struct {
	*fleet
	rand    *rand.Rand
	things  []string // of players
	tasks   []*task
	orders  []*order
	rolls   []*order // of round 0, 1, …
	group   string   // all things of a rollout
	shops   []string // things of the operator's orders
	updates int      // answered ones of devices

	answers    int // to the operator
	unfinished map[types.JobStatus]int
}

// task is what a player knows of one execution. Tasks of a thing are in the order of its queue.
type task struct {
	thing, job string
	steps      int    // progress updates before the end
	acked      state  // after the last answered request
	asked      *state // after the request that was not answered, if there is one
}

// state is what requests of a device change in an execution; step is in statusDetails.
type state struct {
	version int64
	status  string
	step    int
}

// order is a job of the operator and what was answered. A request that was not answered may
// have been obeyed.
type order struct {
	id       string
	targets  []string // ARNs
	things   int      // how many executions there must be
	created  bool     // answered
	canceled answered
}

type answered int

const (
	notAsked answered = iota
	asked
	yes
)

func newChaos(t *testing.T, r *rand.Rand) *chaos {
	t.Helper()
	c := &chaos{fleet: fleetOn(t, ownServer(t)), rand: r, unfinished: map[types.JobStatus]int{}}
	c.ctx = t.Context() // as long as -timeout allows for -rounds
	for i := range players {
		c.things = append(c.things, c.thing("player-"+itoa(i)))
		c.shops = append(c.shops, c.thing("shop-"+itoa(i)))
	}
	c.group = c.bulk("roll", rollout)
	return c
}

// round loads the server, kills it at a random moment, starts it again and checks it.
func (c *chaos) round(n int) {
	c.t.Helper()
	var targets []string
	for _, thing := range c.things {
		targets = append(targets, c.thingARN(thing))
	}
	for i := range 3 {
		id := c.job(fmt.Sprintf("task-%d-%d", n, i), targets)
		for _, thing := range c.things {
			c.tasks = append(c.tasks, &task{thing: thing, job: id, steps: 1 + c.rand.IntN(taskSteps), acked: state{1, "QUEUED", 0}})
		}
	}
	roll := &order{id: c.name("roll-" + itoa(n)), targets: []string{c.groupARN(c.group)}, things: rollout}
	c.rolls = append(c.rolls, roll)

	// Moments are numbers of answered updates: they come as fast as the server is.
	rollAt := 20 + c.rand.IntN(200)
	killAt := rollAt + 1 + c.rand.IntN(60)
	acks := make(chan struct{})
	var load sync.WaitGroup
	load.Go(func() { defer close(acks); c.play(acks) })
	load.Go(func() { c.operate(n) })
	killed := false
	for n := 0; ; n++ {
		if n == rollAt {
			load.Go(func() { c.create(roll) })
			if n := len(c.rolls); n > 1 && c.rolls[n-2].created {
				load.Go(func() { c.cancelOrder(c.rolls[n-2]) })
			}
		}
		if n == killAt {
			c.kill(c.t)
			killed = true
		}
		if _, more := <-acks; !more {
			break
		}
		c.updates++
	}
	if !killed { // all tasks were done before
		c.kill(c.t)
	}
	load.Wait()

	s, err := start(c.data)
	c.must(err)
	c.t.Cleanup(func() {
		if s.process.ProcessState == nil {
			if err := s.terminate(); err != nil {
				c.t.Errorf("stop the server: %v", err)
			}
		}
	})
	c.server, c.api = s, s.client()
	for _, o := range c.rolls {
		if j, err := c.api.DescribeJob(c.ctx, &iot.DescribeJobInput{JobId: &o.id}); err == nil && aws.ToBool(j.Job.IsConcurrent) {
			c.unfinished[j.Job.Status]++
		}
	}
	c.check()
}

// play lets all devices work, until they have nothing to do or the server is gone. It sends
// to acks for every answer.
func (c *chaos) play(acks chan<- struct{}) {
	var all sync.WaitGroup
	for i, thing := range c.things {
		d := c.connectAs(thing, thing, 4+i%2)
		tasks := slices.DeleteFunc(slices.Clone(c.tasks), func(w *task) bool { return w.thing != thing || w.acked.status == "SUCCEEDED" })
		all.Go(func() {
			for _, w := range tasks {
				for w.acked.status != "SUCCEEDED" {
					if !c.step(d, w) {
						return
					}
					acks <- struct{}{}
				}
			}
		})
	}
	all.Wait()
}

// step makes the next request of a task and reports whether it was answered as it must be.
func (c *chaos) step(d *device, w *task) bool {
	next := state{w.acked.version + 1, "IN_PROGRESS", w.acked.step + 1}
	rest := w.job + "/update"
	switch {
	case w.acked.status == "QUEUED":
		rest = "start-next"
	case next.step > w.steps:
		next.status = "SUCCEEDED"
	}
	payload := fmt.Sprintf(`{"status":%q,"statusDetails":{"step":"%d"},"includeJobExecutionState":true}`, next.status, next.step)
	w.asked = &next
	result, answer, err := d.ask(rest, payload)
	if err != nil {
		return false
	}
	after := answer["executionState"]
	if rest == "start-next" {
		after = answer["execution"]
		if path(after, "jobId") != w.job {
			c.t.Errorf("%s started %v, want %s", d.thing, after, w.job)
		}
	}
	got := state{status: fmt.Sprint(path(after, "status"))}
	if v, ok := path(after, "versionNumber").(float64); ok {
		got.version = int64(v)
	}
	got.step, _ = strconv.Atoi(fmt.Sprint(path(after, "statusDetails", "step")))
	if result != "accepted" || got != next {
		c.t.Errorf("%s on %s: %s %v, want %+v", w.job, w.thing, result, answer, next)
		return false
	}
	w.acked, w.asked = next, nil
	return true
}

// operate creates jobs and cancels every other one until the server is gone.
func (c *chaos) operate(round int) {
	for i := 0; ; i++ {
		thing := c.shops[i%len(c.shops)]
		o := &order{id: c.name(fmt.Sprintf("order-%d-%d", round, i)), targets: []string{c.thingARN(thing)}, things: 1}
		c.orders = append(c.orders, o)
		if !c.create(o) || i%2 == 1 && !c.cancelOrder(o) {
			return
		}
	}
}

func (c *chaos) create(o *order) bool {
	_, err := c.api.CreateJob(c.ctx, &iot.CreateJobInput{JobId: &o.id, Document: aws.String(document), Targets: o.targets})
	o.created = c.answered("create "+o.id, err)
	return o.created
}

func (c *chaos) cancelOrder(o *order) bool {
	o.canceled = asked
	_, err := c.api.CancelJob(c.ctx, &iot.CancelJobInput{JobId: &o.id, Force: true})
	if !c.answered("cancel "+o.id, err) {
		return false
	}
	o.canceled = yes
	return true
}

// answered reports whether a request was answered; an answer must be good.
func (c *chaos) answered(what string, err error) bool {
	var refusal smithy.APIError
	if errors.As(err, &refusal) {
		c.t.Errorf("%s: %v", what, err)
	}
	return err == nil
}

// check compares what the server has with what it has answered. From then on the answers
// that got lost are known.
func (c *chaos) check() {
	c.t.Helper()
	jobs := map[string]bool{}
	for _, w := range c.tasks {
		jobs[w.job] = true
		e := c.execution(w.thing, w.job)
		got := state{version: e.VersionNumber, status: string(e.Status)}
		if e.StatusDetails != nil {
			got.step, _ = strconv.Atoi(e.StatusDetails.DetailsMap["step"])
		}
		if got != w.acked && (w.asked == nil || got != *w.asked) {
			c.t.Errorf("%s on %s is %+v, answered %+v, asked %+v", w.job, w.thing, got, w.acked, w.asked)
		}
		w.acked, w.asked = got, nil
	}
	for id := range jobs {
		c.checkCounters(id, players)
	}
	for _, o := range c.orders {
		c.checkOrder(o)
	}
	for _, o := range c.rolls {
		c.checkOrder(o)
	}
	c.answers += len(c.orders)
	c.orders = nil // checked once, they stay
}

func (c *chaos) checkOrder(o *order) {
	c.t.Helper()
	if !o.created && c.gone(o.id) {
		return // neither answered nor obeyed
	}
	want := []types.JobStatus{types.JobStatusInProgress, types.JobStatusCanceled}
	switch o.canceled {
	case notAsked:
		want = want[:1]
	case yes:
		want = want[1:]
	}
	status := c.describe(o.id).Status
	if !slices.Contains(want, status) {
		c.t.Errorf("%s is %s, want one of %v", o.id, status, want)
	}
	o.created, o.canceled = true, notAsked
	counts := c.checkCounters(o.id, o.things)
	left := types.JobExecutionStatusQueued
	if status == types.JobStatusCanceled {
		o.canceled, left = yes, types.JobExecutionStatusCanceled
	}
	// Canceled before its rollout had ended, a job has fewer executions.
	if counts[left] != o.things && (status == types.JobStatusInProgress || len(counts) > 1) {
		c.t.Errorf("executions of %s, which is %s: %v", o.id, status, counts)
	}
}

// checkCounters waits until the server is done with a job. Then no thing may have two
// executions, there must not be more than there are things, and the counters must say
// what the list says.
func (c *chaos) checkCounters(id string, things int) map[types.JobExecutionStatus]int {
	c.t.Helper()
	c.eventually("work on "+id+" ends", func() bool { return !aws.ToBool(c.describe(id).IsConcurrent) })
	counts := map[types.JobExecutionStatus]int{}
	seen := map[string]bool{}
	pages := iot.NewListJobExecutionsForJobPaginator(c.api, &iot.ListJobExecutionsForJobInput{JobId: &id, MaxResults: aws.Int32(250)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(c.ctx)
		c.must(err)
		for _, e := range page.ExecutionSummaries {
			if thing := aws.ToString(e.ThingArn); seen[thing] || aws.ToInt64(e.JobExecutionSummary.ExecutionNumber) != 1 {
				c.t.Errorf("%s has %s twice", thing, id)
			} else {
				seen[thing] = true
			}
			counts[e.JobExecutionSummary.Status]++
		}
	}
	if len(seen) > things {
		c.t.Errorf("%s has %d executions for %d things", id, len(seen), things)
	}
	want := [8]int32{}
	for i, s := range []types.JobExecutionStatus{types.JobExecutionStatusQueued, types.JobExecutionStatusInProgress, types.JobExecutionStatusSucceeded} {
		want[i] = int32(counts[s])
	}
	want[6] = int32(counts[types.JobExecutionStatusCanceled])
	if got := counters(c.describe(id)); got != want {
		c.t.Errorf("counters of %s are %v, its executions %v", id, got, maps.Clone(counts))
	}
	return counts
}

// An operator's SIGTERM: what runs is answered, and what was answered is all that was done.
func TestTerminate(t *testing.T) {
	t.Parallel()
	f := fleetOn(t, ownServer(t))
	var devices []*device
	var targets []string
	for i := range 8 {
		thing := f.thing("t" + itoa(i))
		devices, targets = append(devices, f.connectAs(thing, thing, 4+i%2)), append(targets, f.thingARN(thing))
	}
	id := f.job("job", targets)

	// A request in the middle of its body. It is being served once the server asks for more.
	var lines strings.Builder
	for i := range 100 {
		lines.WriteString(`{"thingName":"` + f.name(itoa(i)) + `"}` + "\n")
	}
	serving := make(chan struct{})
	trace := &httptrace.ClientTrace{Got100Continue: func() { close(serving) }}
	body, rest := io.Pipe()
	r := f.signed("iot", "POST", "/_drover/import", lines.String())
	r = r.WithContext(httptrace.WithClientTrace(f.ctx, trace))
	r.Body, r.GetBody = body, nil
	r.Header.Set("Expect", "100-continue")
	imported := make(chan error, 1)
	go func() {
		resp, err := (&http.Transport{ExpectContinueTimeout: patience}).RoundTrip(r)
		if err == nil {
			text, readErr := io.ReadAll(resp.Body)
			err = errors.Join(readErr, resp.Body.Close())
			if resp.StatusCode != http.StatusOK || !strings.Contains(string(text), `"created":100`) {
				err = fmt.Errorf("%d %s %w", resp.StatusCode, text, err)
			}
		}
		imported <- err
	}()
	select {
	case <-serving:
	case err := <-imported:
		t.Fatalf("import: %v", err)
	}

	// Devices that ask until they are cut off.
	accepted := make([]int, len(devices))
	acks := make(chan struct{}, 100)
	var asking sync.WaitGroup
	for i, d := range devices {
		asking.Go(func() {
			for {
				switch result, _, err := d.ask(id+"/update", `{"status":"IN_PROGRESS"}`); {
				case err != nil:
					return
				case result == "accepted":
					accepted[i]++
				}
				select {
				case acks <- struct{}{}:
				default:
				}
			}
		})
	}
	for range cap(acks) {
		<-acks
	}

	ended := make(chan error, 1)
	go func() { ended <- f.terminate() }()
	f.eventually("new connections are refused", func() bool { return !f.reachable() })
	if _, err := io.WriteString(rest, lines.String()); err != nil {
		t.Errorf("the rest of the import: %v", err)
	}
	f.must(rest.Close())
	if err := <-imported; err != nil {
		t.Errorf("import: %v", err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the process ended: %v", err)
	}
	if _, err := os.Stat(filepath.Join(f.data, "endpoints.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("endpoints.json is still there: %v", err)
	}
	asking.Wait()

	s, err := start(f.data)
	f.must(err)
	f.server, f.api = s, s.client()
	for i, d := range devices {
		if e := f.execution(d.thing, id); int(e.VersionNumber) != 1+accepted[i] {
			t.Errorf("%s: version %d after %d accepted updates", d.thing, e.VersionNumber, accepted[i])
		}
	}
	if _, err := f.api.DescribeThing(f.ctx, &iot.DescribeThingInput{ThingName: aws.String(f.name("99"))}); err != nil {
		t.Errorf("an imported thing: %v", err)
	}
	if err := s.terminate(); err != nil {
		t.Errorf("the second time: %v", err)
	}
}

func (f *fleet) reachable() bool {
	ctx, cancel := context.WithTimeout(f.ctx, time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", strings.TrimPrefix(f.http, "http://"))
	if err != nil {
		return false
	}
	_ = conn.Close() // nothing was said
	return true
}
