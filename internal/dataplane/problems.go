package dataplane

import (
	"cmp"
	"container/list"
	"hash/maphash"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

// ProblemKind is a way for a client to do something that has no effect.
type ProblemKind string

// The kinds.
const (
	MissingDollar    ProblemKind = "missing-dollar"    // published to aws/… instead of $aws/…
	OtherThing       ProblemKind = "other-thing"       // a request for a thing that has not the client's name was refused
	Unheard          ProblemKind = "unheard"           // published to a topic that nobody subscribes to
	ReservedTopic    ProblemKind = "reserved-topic"    // published where only the server does
	PublishDenied    ProblemKind = "publish-denied"    // its policies do not allow the topic
	SubscribeRefused ProblemKind = "subscribe-refused" // it may not have the filter
)

// hints say what to do about a problem.
var hints = map[ProblemKind]string{
	MissingDollar:    "Reserved topics begin with $aws/, not with aws/: the message was taken for an ordinary one.",
	OtherThing:       "The topic names another thing than the client id, and the request was refused. Is the thing name right?",
	Unheard:          "Nobody subscribes to the topic. Is it spelled as the subscriber spells it?",
	ReservedTopic:    "Clients cannot publish to this topic below $. Only the request topics of jobs, streams, commands and provisioning are theirs.",
	PublishDenied:    "No policy of the client allows it to publish to the topic: TestAuthorization says more.",
	SubscribeRefused: "The filter is a reserved one, or no policy of the client allows it: TestAuthorization says more.",
}

// Problem is what one client did in vain, of one kind.
type Problem struct {
	Kind  ProblemKind `json:"kind"`
	Topic string      `json:"topic"` // the last
	Count int         `json:"count"`
	First time.Time   `json:"first"`
	Last  time.Time   `json:"last"`
	Hint  string      `json:"hint"`
}

// ProblemsConfig says what a Problems works with. Zero fields have a sensible meaning.
type ProblemsConfig struct {
	Clients int // how many are remembered; default 10,000: the one whose last problem is longest ago is forgotten
	Now     func() time.Time
	Logger  *slog.Logger
	Metrics prometheus.Registerer
}

// Problems remembers what clients do in vain, so that somebody can ask why a device does not
// get on: a line of the log for each client and kind, and the last of each kind to be looked up. A
// nil Problems remembers nothing. Its methods may be called concurrently.
type Problems struct {
	cfg     ProblemsConfig
	counter *prometheus.CounterVec
	lines   *rate.Limiter
	seed    maphash.Seed
	shards  [16]problemShard // clients do not wait for each other
}

// linesPerSecond is how many lines of the log problems can make; a hundred times as many at once.
const linesPerSecond = 10

type problemShard struct {
	mu      sync.Mutex
	clients map[string]*list.Element
	recent  list.List // of *troubled, the one with the latest problem first
}

// troubled is a client with problems, one of each kind at most.
type troubled struct {
	client   string
	problems []Problem
}

// NewProblems returns a Problems.
func NewProblems(cfg ProblemsConfig) *Problems {
	cfg.Clients = cmp.Or(cfg.Clients, 10_000)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Problems{cfg: cfg, lines: rate.NewLimiter(linesPerSecond, 100*linesPerSecond), seed: maphash.MakeSeed(), counter: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "drover_client_problems_total", Help: "What clients did in vain, by kind.",
	}, []string{"kind"})}
	if cfg.Metrics != nil {
		cfg.Metrics.MustRegister(p.counter)
	}
	for kind := range hints {
		p.counter.WithLabelValues(string(kind))
	}
	for i := range p.shards {
		p.shards[i].clients = make(map[string]*list.Element)
	}
	return p
}

func (p *Problems) shard(client string) *problemShard {
	return &p.shards[maphash.String(p.seed, client)%uint64(len(p.shards))]
}

// Note remembers that the client did something in vain with a topic or filter.
func (p *Problems) Note(client string, kind ProblemKind, topic string) {
	if p == nil {
		return
	}
	p.counter.WithLabelValues(string(kind)).Inc()
	// A fleet that is larger than what is remembered must not fill the log.
	if p.remember(client, kind, topic) && p.lines.Allow() {
		p.cfg.Logger.Info("a client does something in vain", "client", client, "problem", string(kind), "topic", topic, "hint", hints[kind])
	}
}

// remember reports whether the client has the problem for the first time.
func (p *Problems) remember(client string, kind ProblemKind, topic string) bool {
	now := p.cfg.Now()
	s := p.shard(client)
	s.mu.Lock()
	defer s.mu.Unlock()
	element := s.clients[client]
	if element == nil {
		if s.recent.Len() >= max(1, p.cfg.Clients/len(p.shards)) {
			oldest := s.recent.Remove(s.recent.Back()).(*troubled)
			delete(s.clients, oldest.client)
		}
		element = s.recent.PushFront(&troubled{client: strings.Clone(client)})
		s.clients[element.Value.(*troubled).client] = element
	}
	s.recent.MoveToFront(element)
	t := element.Value.(*troubled)
	i := slices.IndexFunc(t.problems, func(have Problem) bool { return have.Kind == kind })
	first := i < 0
	if first {
		i = len(t.problems)
		t.problems = append(t.problems, Problem{Kind: kind, First: now, Hint: hints[kind]})
	}
	have := &t.problems[i]
	have.Count++
	have.Last = now
	if have.Topic != topic {
		have.Topic = strings.Clone(topic) // it may be part of a packet
	}
	return first
}

// Of returns the problems of a client, the latest first.
func (p *Problems) Of(client string) []Problem {
	if p == nil {
		return nil
	}
	s := p.shard(client)
	s.mu.Lock()
	defer s.mu.Unlock()
	element := s.clients[client]
	if element == nil {
		return nil
	}
	problems := slices.Clone(element.Value.(*troubled).problems)
	slices.SortStableFunc(problems, func(a, b Problem) int { return b.Last.Compare(a.Last) })
	return problems
}

// noteOrdinary notes an ordinary message that has no effect, as far as can be seen.
func (h *Handler) noteOrdinary(c Client, m *Message) {
	if h.problems == nil {
		return
	}
	switch {
	case strings.HasPrefix(m.Topic, awsRoot[1:]):
		h.problems.Note(c.ID(), MissingDollar, m.Topic)
	case !m.Retain && h.heard != nil && !h.heard(m.Topic):
		h.problems.Note(c.ID(), Unheard, m.Topic)
	}
}
