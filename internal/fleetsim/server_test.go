package fleetsim

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
)

// fault is what befalls a request.
type fault string

const (
	none      fault = ""
	throttle  fault = "RequestThrottled" // rejected with the code, as is
	internal  fault = "InternalError"    // rejected with the code
	withdraw  fault = "withdraw"         // the head of the queue is cancelled first
	remove    fault = "remove"           // the head of the queue is deleted first
	touch     fault = "touch"            // somebody else updates the head first
	loseIt    fault = "lose request"     // the connection is lost before it arrives
	loseReply fault = "lose reply"       // the connection is lost after it was carried out
	mute      fault = "mute"             // it is carried out, never answered
)

// execution is one execution of the broker's jobs.
type execution struct {
	job     string
	status  string
	version int64
	ends    int // terminal updates that were accepted
}

// request is one that the broker got.
type request struct {
	thing, topic string // the topic after "jobs/"
	body         map[string]any
}

func (r request) String() string {
	if status, ok := r.body["status"]; ok {
		return fmt.Sprintf("%s %s", r.topic, status)
	}
	return r.topic
}

// broker is a real MQTT broker with as much of the jobs service as a device
// needs, and with faults. It knows the rules of spec §11.6, §11.8 and §13.3.
type broker struct {
	mqtt.HookBase
	server   *mqtt.Server
	endpoint string

	mu       sync.Mutex
	fault    func(r request) fault
	queues   map[string][]*execution
	all      []*execution
	requests []request
	connects int
	filters  []string
}

// newBroker starts a broker; config is nil for one without TLS.
func newBroker(t *testing.T, config *tls.Config) *broker {
	t.Helper()
	b := &broker{queues: make(map[string][]*execution), fault: func(request) fault { return none }}
	b.server = mqtt.New(&mqtt.Options{InlineClient: true, Logger: slog.New(slog.DiscardHandler)})
	if err := b.server.AddHook(b, nil); err != nil {
		t.Fatal(err)
	}
	listener := listeners.NewTCP(listeners.Config{ID: "t", Address: "127.0.0.1:0", TLSConfig: config})
	if err := b.server.AddListener(listener); err != nil {
		t.Fatal(err)
	}
	if err := b.server.Serve(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.server.Close(); err != nil {
			t.Error(err)
		}
	})
	scheme := "mqtt://"
	if config != nil {
		scheme = "mqtts://"
	}
	b.endpoint = scheme + listener.Address()
	return b
}

// queue adds an execution and announces it if it is the thing's next.
func (b *broker) queue(thing, job string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := &execution{job: job, status: "QUEUED", version: 1}
	b.all = append(b.all, e)
	b.queues[thing] = append(b.queues[thing], e)
	if len(b.queues[thing]) == 1 {
		b.notify(thing)
	}
}

func (b *broker) ID() string { return "jobs" }

func (b *broker) Provides(what byte) bool {
	return bytes.Contains([]byte{mqtt.OnConnectAuthenticate, mqtt.OnACLCheck, mqtt.OnSessionEstablished, mqtt.OnSubscribed, mqtt.OnPublish}, []byte{what})
}

func (b *broker) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }

func (b *broker) OnACLCheck(*mqtt.Client, string, bool) bool { return true }

func (b *broker) OnSessionEstablished(*mqtt.Client, packets.Packet) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.connects++
}

func (b *broker) OnSubscribed(_ *mqtt.Client, pk packets.Packet, _ []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range pk.Filters {
		b.filters = append(b.filters, f.Filter)
	}
}

func (b *broker) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	if cl.Net.Inline {
		return pk, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	rest, _ := strings.CutPrefix(pk.TopicName, "$aws/things/")
	thing, topic, _ := strings.Cut(rest, "/jobs/")
	r := request{thing: thing, topic: topic}
	if err := json.Unmarshal(pk.Payload, &r.body); err != nil {
		return pk, err
	}
	b.requests = append(b.requests, r)

	what := b.fault(r)
	queue := b.queues[thing]
	switch what {
	case throttle, internal:
		b.reply(pk.TopicName+"/rejected", r, map[string]any{"code": string(what), "message": "try later"})
		return pk, packets.CodeSuccessIgnore
	case loseIt:
		cl.Stop(io.ErrUnexpectedEOF)
		return pk, packets.CodeSuccessIgnore
	case withdraw, remove:
		if len(queue) > 0 {
			queue[0].status = map[fault]string{withdraw: "CANCELED", remove: "REMOVED"}[what]
			b.queues[thing] = queue[1:]
			b.notify(thing)
		}
	case touch:
		if len(queue) > 0 {
			queue[0].version += 7
		}
	}
	verdict, answer := b.handle(r)
	switch what {
	case loseReply:
		cl.Stop(io.ErrUnexpectedEOF)
	case mute:
	default:
		b.reply(pk.TopicName+verdict, r, answer)
	}
	if verdict == "/accepted" && terminal(fmt.Sprint(r.body["status"])) && topic != "start-next" {
		b.notify(thing)
	}
	return pk, packets.CodeSuccessIgnore // acknowledged, and passed on to nobody
}

// handle carries a request out.
func (b *broker) handle(r request) (verdict string, answer map[string]any) {
	queue := b.queues[r.thing]
	if r.topic == "start-next" {
		if len(queue) == 0 {
			return "/accepted", map[string]any{}
		}
		if queue[0].status == "QUEUED" {
			queue[0].status = "IN_PROGRESS"
			queue[0].version++
		}
		return "/accepted", map[string]any{"execution": queue[0].wire()}
	}
	job, _ := strings.CutSuffix(r.topic, "/update")
	var e *execution
	for _, one := range b.all {
		if one.job == job {
			e = one
		}
	}
	if e == nil || e.status == "REMOVED" {
		return "/rejected", map[string]any{"code": "ResourceNotFound"}
	}
	state := func() map[string]any { return map[string]any{"status": e.status, "versionNumber": e.version} }
	if terminal(e.status) {
		return "/rejected", map[string]any{"code": "InvalidStateTransition", "executionState": state()}
	}
	if v, ok := r.body["expectedVersion"].(float64); ok && int64(v) != e.version {
		return "/rejected", map[string]any{"code": "VersionMismatch", "executionState": state()}
	}
	e.status = r.body["status"].(string)
	e.version++
	if terminal(e.status) {
		e.ends++
		b.queues[r.thing] = queue[1:]
	}
	answer = map[string]any{}
	if r.body["includeJobExecutionState"] == true {
		answer["executionState"] = state()
	}
	return "/accepted", answer
}

func (e *execution) wire() map[string]any {
	return map[string]any{
		"jobId": e.job, "status": e.status, "versionNumber": e.version, "executionNumber": 1,
		"jobDocument": map[string]any{"operation": "update", "size": strings.Repeat("x", 2000)},
	}
}

// notify tells a thing what its next execution is.
func (b *broker) notify(thing string) {
	answer := map[string]any{"timestamp": 1}
	if queue := b.queues[thing]; len(queue) > 0 {
		answer["execution"] = queue[0].wire()
	}
	b.publish("$aws/things/"+thing+"/jobs/notify-next", answer)
}

func (b *broker) reply(topic string, r request, answer map[string]any) {
	answer["timestamp"] = 1
	answer["clientToken"] = r.body["clientToken"]
	b.publish(topic, answer)
}

func (b *broker) publish(topic string, answer map[string]any) {
	payload, err := json.Marshal(answer)
	if err != nil {
		panic(err)
	}
	if err := b.server.Publish(topic, payload, false, 1); err != nil {
		panic(err)
	}
}

// log returns the requests so far, as text.
func (b *broker) log() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.logLocked()
}

func (b *broker) logLocked() []string {
	var out []string
	for _, r := range b.requests {
		out = append(out, r.String())
	}
	return out
}
