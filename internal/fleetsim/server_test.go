package fleetsim

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	v5 "github.com/eclipse/paho.golang/packets"
	v4 "github.com/eclipse/paho.mqtt.golang/packets"
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

// broker is the server's side of the fleet's connections: MQTT 3.1.1 and 5, each
// packet in its plainest form, and as much of the jobs service as a device needs,
// with faults. It knows the rules of spec §11.2, §11.6, §11.8 and §13.3.
type broker struct {
	t        *testing.T
	endpoint string
	serving  sync.WaitGroup

	mu       sync.Mutex // also held while writing
	fault    func(r request) fault
	document any // of every job
	queues   map[string][]*execution
	all      []*execution
	requests []request
	sessions map[string]*session // by client id, the latest
	connects int
	filters  []string
	unacked  int // messages that were sent and not acknowledged
	goodbyes int // sessions that ended with DISCONNECT
}

// session is one connection to the broker.
type session struct {
	conn  net.Conn
	in    *bufio.Reader
	codec codec
	thing string // its client id
	hears bool   // notify-next is subscribed to
	sent  uint16 // id of the last message
}

// newBroker starts a broker; config is nil for one without TLS.
func newBroker(t *testing.T, config *tls.Config) *broker {
	t.Helper()
	b := &broker{
		t:        t,
		fault:    func(request) fault { return none },
		document: map[string]any{"operation": "update", "size": strings.Repeat("x", 2000)},
		queues:   make(map[string][]*execution),
		sessions: make(map[string]*session),
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.endpoint = "mqtt://" + listener.Addr().String()
	if config != nil {
		b.endpoint = "mqtts://" + listener.Addr().String()
		listener = tls.NewListener(listener, config)
	}
	b.serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed
			}
			b.serving.Go(func() { b.serve(&session{conn: conn, in: bufio.NewReader(conn), codec: codec4{}}) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		b.serving.Wait()
	})
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

// serve reads a connection until it ends.
func (b *broker) serve(s *session) {
	defer func() { _ = s.conn.Close() }()
	// Fixed header of two bytes, name of six, then the version.
	head, err := s.in.Peek(9)
	if err != nil {
		return // it was only opened
	}
	if head[8] == 5 {
		s.codec = codec5{}
	}
	for {
		if err := b.packet(s); err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				b.t.Logf("broker: %s: %v", s.thing, err)
			}
			return
		}
	}
}

// packet reads a packet and does what it says. It returns io.EOF at the end.
func (b *broker) packet(s *session) error {
	var topic string
	var payload []byte
	var id uint16
	var answer interface {
		WriteTo(io.Writer) (int64, error)
	}
	if _, five := s.codec.(codec5); five {
		cp, err := v5.ReadPacket(s.in)
		if err != nil {
			return err
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		switch p := cp.Content.(type) {
		case *v5.Connect:
			b.connected(s, p.ClientID)
			answer = &v5.Connack{Properties: &v5.Properties{}}
		case *v5.Subscribe:
			for _, one := range p.Subscriptions {
				b.subscribed(s, one.Topic)
			}
			answer = &v5.Suback{PacketID: p.PacketID, Reasons: bytes.Repeat([]byte{1}, len(p.Subscriptions)), Properties: &v5.Properties{}}
		case *v5.Publish:
			topic, payload, id = p.Topic, p.Payload, p.PacketID
		case *v5.Puback:
			b.unacked--
		case *v5.Disconnect:
			b.goodbyes++
			return io.EOF
		default:
			return fmt.Errorf("unexpected %s", cp)
		}
	} else {
		cp, err := v4.ReadPacket(s.in)
		if err != nil {
			return err
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		switch p := cp.(type) {
		case *v4.ConnectPacket:
			b.connected(s, p.ClientIdentifier)
			answer = packet4{v4.NewControlPacket(v4.Connack)}
		case *v4.SubscribePacket:
			for _, one := range p.Topics {
				b.subscribed(s, one)
			}
			suback := v4.NewControlPacket(v4.Suback).(*v4.SubackPacket)
			suback.MessageID, suback.ReturnCodes = p.MessageID, bytes.Repeat([]byte{1}, len(p.Topics))
			answer = packet4{suback}
		case *v4.PublishPacket:
			topic, payload, id = p.TopicName, p.Payload, p.MessageID
		case *v4.PubackPacket:
			b.unacked--
		case *v4.DisconnectPacket:
			b.goodbyes++
			return io.EOF
		default:
			return fmt.Errorf("unexpected %s", cp)
		}
	}
	if answer != nil {
		_, err := answer.WriteTo(s.conn)
		return err
	}
	if topic == "" {
		return nil
	}
	if err := s.codec.puback(s.conn, id); err != nil {
		return err
	}
	return b.published(s, topic, payload)
}

// packet4 lets a packet of MQTT 3.1.1 be written as one of MQTT 5 is.
type packet4 struct{ v4.ControlPacket }

func (p packet4) WriteTo(w io.Writer) (int64, error) { return 0, p.Write(w) }

func (b *broker) connected(s *session, clientID string) {
	b.connects++
	s.thing = clientID
	b.sessions[clientID] = s
}

func (b *broker) subscribed(s *session, filter string) {
	b.filters = append(b.filters, filter)
	s.hears = s.hears || filter == "$aws/things/"+s.thing+"/jobs/notify-next"
}

// published carries out a request, or does to it what the fault says.
func (b *broker) published(s *session, topic string, payload []byte) error {
	rest, _ := strings.CutPrefix(topic, "$aws/things/")
	thing, operation, _ := strings.Cut(rest, "/jobs/")
	r := request{thing: thing, topic: operation}
	if err := json.Unmarshal(payload, &r.body); err != nil {
		return err
	}
	b.requests = append(b.requests, r)

	what := b.fault(r)
	queue := b.queues[thing]
	switch what {
	case throttle, internal:
		return b.reply(s, topic+"/rejected", r, map[string]any{"code": string(what), "message": "try later"})
	case loseIt:
		return io.EOF
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
		return io.EOF
	case mute:
	default:
		if err := b.reply(s, topic+verdict, r, answer); err != nil {
			return err
		}
	}
	if verdict == "/accepted" && operation != "start-next" && terminal(fmt.Sprint(r.body["status"])) {
		b.notify(thing)
	}
	return nil
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
		return "/accepted", map[string]any{"execution": b.wire(queue[0])}
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

func (b *broker) wire(e *execution) map[string]any {
	return map[string]any{
		"jobId": e.job, "status": e.status, "versionNumber": e.version, "executionNumber": 1,
		"jobDocument": b.document,
	}
}

// notify tells a thing what its next execution is, if it listens.
func (b *broker) notify(thing string) {
	s := b.sessions[thing]
	if s == nil || !s.hears {
		return
	}
	answer := map[string]any{"timestamp": 1}
	if queue := b.queues[thing]; len(queue) > 0 {
		answer["execution"] = b.wire(queue[0])
	}
	// A connection that has ended meanwhile misses it, as on a real server.
	_ = b.publish(s, "$aws/things/"+thing+"/jobs/notify-next", answer)
}

func (b *broker) reply(s *session, topic string, r request, answer map[string]any) error {
	answer["timestamp"] = 1
	answer["clientToken"] = r.body["clientToken"]
	return b.publish(s, topic, answer)
}

func (b *broker) publish(s *session, topic string, answer map[string]any) error {
	payload, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	s.sent++
	b.unacked++
	return s.codec.publish(s.conn, s.sent, topic, payload)
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
