package dataplane

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"drover/internal/iot"
)

// Shadows keeps the shadow $package of things. Payloads are those of AWS IoT's shadow service, and so are the answers;
// that of an update and of a deletion is told on the thing's topics when it is durable.
type Shadows interface {
	Shadow(ctx context.Context, thing iot.ThingName, payload []byte) (answer []byte, err error)
	UpdateShadow(ctx context.Context, thing iot.ThingName, payload []byte, actor string) (answer []byte, err error)
	DeleteShadow(ctx context.Context, thing iot.ThingName, payload []byte, actor string) (answer []byte, err error)
}

const (
	shadowPart = "/shadow/"
	namedPart  = "name/"

	// shadowsAtOnce is how many requests are worked on at a time, and shadowsWaiting how many wait for that; more are
	// told to come again.
	shadowsAtOnce  = 64
	shadowsWaiting = 1024
	shadowTimeout  = 30 * time.Second
)

// shadowTopic is what the topic of a request says.
type shadowTopic struct {
	thing iot.ThingName
	name  string // "" for the classic shadow
	verb  string // get, update or delete
}

// parseShadow tells whether topic is one that devices publish requests about shadows to,
// $aws/things/{thing}/shadow/{verb} or $aws/things/{thing}/shadow/name/{name}/{verb}, and which.
func parseShadow(topic string) (t shadowTopic, ok bool) {
	rest, ok := strings.CutPrefix(topic, thingsRoot)
	if !ok {
		return t, false
	}
	thing, rest, _ := strings.Cut(rest, "/")
	if rest, ok = strings.CutPrefix("/"+rest, shadowPart); !ok {
		return t, false
	}
	t.thing, t.verb = iot.ThingName(thing), rest
	if named, ok := strings.CutPrefix(rest, namedPart); ok {
		if t.name, t.verb, ok = strings.Cut(named, "/"); !ok || t.name == "" {
			return t, false
		}
	}
	return t, thing != "" && (t.verb == "get" || t.verb == "update" || t.verb == "delete")
}

// shadows answers requests about shadows, those about one thing in the order in which they came. They wait for the database
// in goroutines of their own.
type shadows struct {
	keeper  Shadows // may be nil
	slots   chan struct{}
	running sync.WaitGroup

	mu      sync.Mutex
	waiting int
	todo    map[iot.ThingName][]func() // of things that a goroutine is at work for
}

// queue has work done after all that there is for the thing, and reports false if there is too much for all things.
func (s *shadows) queue(thing iot.ThingName, work func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting >= shadowsWaiting {
		return false
	}
	s.waiting++
	list, busy := s.todo[thing]
	if s.todo == nil {
		s.todo = make(map[iot.ThingName][]func())
	}
	s.todo[thing] = append(list, work)
	if !busy {
		s.running.Go(func() { s.work(thing) })
	}
	return true
}

// work does what there is for a thing.
func (s *shadows) work(thing iot.ThingName) {
	for {
		s.mu.Lock()
		list := s.todo[thing]
		if len(list) == 0 {
			delete(s.todo, thing)
			s.mu.Unlock()
			return
		}
		s.todo[thing] = list[1:]
		s.mu.Unlock()
		s.slots <- struct{}{}
		list[0]()
		<-s.slots
		s.mu.Lock()
		s.waiting--
		s.mu.Unlock()
	}
}

// shadow takes a request that c published. What is accepted is told by the publisher, to whoever has subscribed; what is
// refused, and what a get finds, goes to c alone.
func (h *Handler) shadow(c Client, m Message, t shadowTopic) {
	s := &h.shadows
	payload := append([]byte(nil), m.Payload...)
	answer := func(text []byte, err error) {
		suffix, result := accepted, resultAccepted
		if err != nil {
			var status int
			if status, text = h.shadowError(payload, err); status == http.StatusInternalServerError {
				h.log.Error("request about a shadow failed", "topic", m.Topic, "client", c.ID(), "err", err)
			}
			suffix, result = rejected, http.StatusText(status)
		}
		h.metrics.requests.WithLabelValues("mqtt", shadowOperations[t.verb], result).Inc()
		if err != nil || t.verb == "get" {
			c.Deliver(m.Topic+suffix, text, min(m.QoS, 1))
		}
	}
	if err := iot.CheckShadowName(t.name); err != nil {
		answer(nil, err)
		return
	}
	queued := s.queue(t.thing, func() {
		ctx, cancel := context.WithTimeout(context.Background(), shadowTimeout)
		defer cancel()
		answer(h.shadowDo(ctx, t, payload, "thing:"+string(t.thing)))
	})
	if !queued {
		answer(nil, iot.Errorf(iot.Throttled, "Too many requests about shadows are waiting"))
	}
}

func (h *Handler) shadowDo(ctx context.Context, t shadowTopic, payload []byte, actor string) ([]byte, error) {
	switch t.verb {
	case "get":
		return h.shadows.keeper.Shadow(ctx, t.thing, payload)
	case "delete":
		return h.shadows.keeper.DeleteShadow(ctx, t.thing, payload, actor)
	}
	return h.shadows.keeper.UpdateShadow(ctx, t.thing, payload, actor)
}

var shadowOperations = map[string]string{"get": "GetThingShadow", "update": "UpdateThingShadow", "delete": "DeleteThingShadow"}

// shadowRejected is the payload of a refusal, in AWS's form.
type shadowRejected struct {
	Code    int             `json:"code"`
	Message string          `json:"message"`
	At      int64           `json:"timestamp"` // seconds
	Token   json.RawMessage `json:"clientToken,omitempty"`
}

// shadowStatus are the codes that shadows know, which are those of HTTP.
var shadowStatus = map[iot.Code]int{
	iot.InvalidRequest: http.StatusBadRequest, iot.NotFound: http.StatusNotFound, iot.VersionMismatch: http.StatusConflict,
	iot.ShadowTooLarge: http.StatusRequestEntityTooLarge, iot.ShadowUnsupported: http.StatusUnsupportedMediaType, iot.Throttled: http.StatusTooManyRequests,
}

func (h *Handler) shadowError(payload []byte, err error) (status int, text []byte) {
	out := shadowRejected{Code: http.StatusInternalServerError, Message: "Internal service failure", At: int64(h.now()) / 1000}
	if e, ok := errors.AsType[*iot.Error](err); ok && shadowStatus[e.Code] != 0 {
		out.Code, out.Message = shadowStatus[e.Code], e.Message
	}
	if token, err := iot.ParseShadowToken(payload); err == nil { // or there is none that could be told
		out.Token = token
	}
	text, failed := json.Marshal(out)
	if failed != nil {
		h.log.Error("answer to a device cannot be written", "err", failed)
	}
	return out.Code, text
}

// publishShadow tells of a change of a shadow.
func (p *Publisher) publishShadow(r *iot.Record) {
	var ev iot.ShadowEvent
	if err := json.Unmarshal(r.Data, &ev); err != nil {
		p.log.Error("change of a shadow left out", "record", r.ID, "err", err)
		return
	}
	root := thingsRoot + string(ev.Thing) + shadowPart + namedPart + iot.PackageShadow + "/"
	tell := func(topic string, text json.RawMessage) {
		if text != nil && p.broker.HasSubscribers(root+topic) {
			p.broker.Publish(root+topic, text, 1)
			p.metrics.shadow.Inc()
		}
	}
	if r.Kind == iot.ShadowDeleted {
		tell("delete"+accepted, ev.Accepted)
		return
	}
	tell("update"+accepted, ev.Accepted)
	tell("update/delta", ev.Delta)
	tell("update/documents", ev.Change)
}
