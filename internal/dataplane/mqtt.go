package dataplane

import (
	"drover/internal/iot"
)

// Message is a message that a client published.
type Message struct {
	Topic   string
	Payload []byte // not used after HandlePublish has returned
	QoS     byte
	Retain  bool
}

// Verdict says what becomes of a published message.
type Verdict uint8

// The verdicts.
const (
	Route  Verdict = iota // not the server's: route it to subscribers
	Taken                 // a request: acknowledge it and tell nobody
	Refuse                // not allowed: the client has broken the rules of reserved topics
)

// AllowPublish reports whether a client may publish to topic, if it has the permission: reserved
// topics are not for clients, except for requests.
func (h *Handler) AllowPublish(topic string) bool {
	_, class := parseTopic(topic)
	return class != reserved || h.taker(topic) != nil
}

// taker returns who takes messages that clients publish to a reserved topic, nil if they may not.
func (h *Handler) taker(topic string) func(Client, Message) {
	if h.provisioning.provisioner != nil {
		if r, ok := parseProvisioning(topic); ok {
			return func(c Client, m Message) { h.provision(c, m, r) }
		}
	}
	if h.files.streams != nil {
		if t, ok := parseStream(topic); ok {
			return func(c Client, m Message) { h.files.take(c, m, t) }
		}
	}
	if h.shadows.keeper != nil {
		if t, ok := parseShadow(topic); ok {
			return func(c Client, m Message) { h.shadow(c, m, t) }
		}
	}
	if h.commands != nil {
		if t, ok := parseCommand(topic); ok {
			return func(c Client, m Message) { h.report(c, m, t) }
		}
	}
	return nil
}

// HandlePublish takes a message that c published. A request is answered to c, as soon as
// what the answer says is durable, on the topic of the request with /accepted or /rejected
// appended and with the QoS of the request, at most 1 (spec §11.2). HandlePublish does not
// wait for that, but may block while the engine has too much to do.
func (h *Handler) HandlePublish(c Client, m Message) Verdict {
	a, class := parseTopic(m.Topic)
	switch {
	case class == ordinary:
		h.noteOrdinary(c, &m)
		return Route
	case class == reserved && !m.Retain:
		if take := h.taker(m.Topic); take != nil {
			take(c, m)
			return Taken
		}
		fallthrough
	case class == reserved || m.Retain:
		h.problems.Note(c.ID(), ReservedTopic, m.Topic)
		return Refuse
	}
	q := &question{h: h, client: c, topic: m.Topic, qos: min(m.QoS, 1)}
	if class == unknown {
		// Whoever asked the wrong thing is to know which of its questions it was (spec §11.3).
		q.token, _ = decode(m.Payload, &q.Request)
		q.reply(nil, iot.Errorf(invalidTopic, "The topic %s is that of no jobs operation", m.Topic))
		return Taken
	}
	q.Op, q.Thing, q.JobID, q.Namespace = a.op, a.thing, a.job, a.namespace
	q.Actor = "thing:" + string(a.thing)
	var err error
	if q.token, err = decode(m.Payload, &q.Request); err != nil {
		q.reply(nil, err)
		return Taken
	}
	if err := h.admit(q.Op); err != nil {
		q.reply(nil, err)
		return Taken
	}
	c.Expect()
	h.engine.Queue(&q.Request, q.answer)
	return Taken
}

// Told follows the answers of a batch, and the notices of what it has changed: all of it may
// leave.
func (h *Handler) Told() {
	h.mu.Lock()
	answered := h.answered
	h.answered = nil
	h.mu.Unlock()
	for _, c := range answered {
		c.Answered()
	}
}

// Flush follows the messages that came together, so that their requests share a batch. It
// must be called soon after HandlePublish has returned Taken.
func (h *Handler) Flush() { h.engine.Flush() }

// question is a request and what is needed to answer it.
type question struct {
	iot.Request
	h      *Handler
	client Client
	topic  string
	token  string // JSON text of the clientToken
	qos    byte
}

// answer is the engine's reply, which Told follows.
func (q *question) answer(a *iot.Answer, err error) {
	q.reply(a, err)
	q.h.mu.Lock()
	defer q.h.mu.Unlock()
	q.h.answered = append(q.h.answered, q.client)
}

func (q *question) reply(a *iot.Answer, err error) {
	document := ""
	if err == nil {
		document, err = render(a.Document, q.h.signer)
	}
	q.h.metrics.countMQTT(q.Op, err)
	now := q.h.now()
	if err != nil {
		q.h.logFailure(&q.Request, err)
		if q.Thing != "" && string(q.Thing) != q.client.ID() {
			q.h.problems.Note(q.client.ID(), OtherThing, q.topic)
		}
		payload := appendRejected(make([]byte, 0, 512), err, now, q.token)
		q.client.Deliver(q.topic+rejected, payload, q.qos)
		return
	}
	size := 256 + len(document) + 160*(len(a.InProgress)+len(a.Queued))
	payload := appendAccepted(make([]byte, 0, size), q.Op, a, document, now, q.token)
	q.client.Deliver(q.topic+accepted, payload, q.qos)
}

// logFailure logs an error whose text no device is told. An iot.Internal error has been
// logged by whoever made it.
func (h *Handler) logFailure(r *iot.Request, err error) {
	if e, _ := refusal(err); e == errInternal {
		h.log.Error("device request failed", "op", r.Op.String(), "thing", r.Thing, "job", r.JobID, "err", err)
	}
}
