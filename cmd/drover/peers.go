package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"drover/internal/broker"
	"drover/internal/cluster"
	"drover/internal/dataplane"
	"drover/internal/engine"
	"drover/internal/iot"
)

// peers is the other nodes as the parts of this server see them, and this server as they do. It
// ties the broker (broker.Peers) and who follows what the registry announces to the nodes of a
// cluster (cluster.Handler).
type peers struct {
	node    *cluster.Node
	log     *slog.Logger
	here    atomic.Pointer[hearing]
	changes atomic.Uint64 // announced here
	stop    chan struct{}
	roamed  chan struct{} // holds one if a session has come from elsewhere
	running sync.WaitGroup

	// Positions in the journal: of the last mark but one and of the last, which are made while all
	// nodes are in touch, and how far it was recalled.
	recalling             sync.Mutex
	old, latest, recalled int64
	marked                bool
}

func newPeers(log *slog.Logger) *peers {
	return &peers{log: log, stop: make(chan struct{}), roamed: make(chan struct{}, 1)}
}

// hearing is who in this server wants to hear of other nodes.
type hearing struct {
	broker   *broker.Broker
	presence func(id string) (clientState, bool) // of a client
	// hurry takes what is to be called when all that other nodes have announced has been heard,
	// until deaf is closed.
	hurry chan<- func()
	deaf  <-chan struct{}
	live  func(context.Context) ([]int64, error) // all nodes
	// What other nodes have put into the journal is told to the clients here when it may not have
	// been heard.
	journal journal
	tell    func(context.Context, []iot.Record) error
}

// journal is what all nodes have committed.
type journal interface {
	LastRecord(context.Context) (int64, error)
	Recall(ctx context.Context, after int64, own bool, publish func(context.Context, []iot.Record) error) (int64, error)
}

var _ journal = (*engine.Engine)(nil)

// The first byte of what is told and asked says who it is for.
const (
	forBroker   = 'b'
	forFollower = 'f'
	forPresence = 'p'
)

// announced lets the other nodes look at once for what this one has announced in the database.
func (p *peers) announced() {
	if p != nil {
		p.changes.Add(1)
		p.node.Tell([]byte{forFollower})
	}
}

func encode(first byte, v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic("what nodes say cannot be encoded: " + err.Error())
	}
	return append([]byte{first}, text...)
}

// clientStates asks the other nodes for what they know of a client.
func (p *peers) clientStates(ctx context.Context, id string) (states []clientState) {
	if p == nil {
		return nil
	}
	answers, _ := p.node.Ask(ctx, encode(forPresence, id))
	for _, a := range answers {
		var s *clientState
		if err := json.Unmarshal(a.Body, &s); err == nil && s != nil {
			states = append(states, *s)
		}
	}
	return states
}

// Message implements cluster.Handler.
func (p *peers) Message(body []byte) {
	if here := p.here.Load(); here != nil {
		here.broker.Receive(body)
	}
}

// Control implements cluster.Handler.
func (p *peers) Control(from string, body []byte, answer func([]byte)) {
	here := p.here.Load()
	if here == nil || len(body) == 0 { // nothing is remembered yet
		answer(nil)
		return
	}
	what, body := body[0], body[1:]
	switch what {
	case forBroker:
		here.broker.Asked(body, answer)
	case forFollower:
		p.running.Go(func() {
			select {
			case here.hurry <- func() { answer(nil) }:
			case <-here.deaf:
				answer(nil)
			case <-p.stop:
			}
		})
	case forPresence:
		var id string
		if err := json.Unmarshal(body, &id); err != nil {
			answer(nil)
			return
		}
		state, known := here.presence(id)
		if !known {
			answer(nil)
			return
		}
		answer(encode(' ', state))
	default:
		answer(nil)
	}
}

// insist does something until it succeeds or the server ends.
func (p *peers) insist(what string, do func(context.Context) error) {
	running, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		select {
		case <-p.stop:
			stop()
		case <-running.Done():
		}
	}()
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		ctx, cancel := context.WithTimeout(running, 10*time.Second)
		err := do(ctx)
		cancel()
		if err == nil || running.Err() != nil {
			return
		}
		p.log.Warn("what another node may have changed is not known yet", "what", what, "err", err, "retry", wait)
		select {
		case <-time.After(wait):
		case <-p.stop:
			return
		}
	}
}

// Missed implements cluster.Handler.
func (p *peers) Missed() {
	here := p.here.Load()
	if here == nil {
		return
	}
	p.insist("retained messages", here.broker.Missed)
	p.insist("journal", p.recall)
}

// recall tells clients here what others have put into the journal and they may not have heard.
func (p *peers) recall(ctx context.Context) error {
	p.recalling.Lock()
	defer p.recalling.Unlock()
	return p.recallAfter(ctx, max(p.old, p.recalled), false)
}

// recallAll is recall for sessions that were nowhere since some node was heard for the last time.
// What this one has told they have not heard either.
func (p *peers) recallAll(ctx context.Context) error {
	p.recalling.Lock()
	defer p.recalling.Unlock()
	return p.recallAfter(ctx, p.old, true)
}

// recallAfter has recalling locked.
func (p *peers) recallAfter(ctx context.Context, after int64, own bool) error {
	if !p.marked {
		return nil // nobody is here yet
	}
	p.node.Fence(ctx) // what is committed from now on is heard
	here := p.here.Load()
	last, err := here.journal.Recall(ctx, after, own, here.tell)
	p.recalled = max(p.recalled, last)
	return err
}

// roam has what is published while the session of a client is on its way told again, soon and for all
// that come at about the same time.
func (p *peers) roam() {
	select {
	case p.roamed <- struct{}{}:
	default: // it is to be done already
	}
}

// welcome tells sessions that have come what they may not have heard.
func (p *peers) welcome() {
	for {
		select {
		case <-p.roamed:
		case <-p.stop:
			return
		}
		p.insist("the journal, for clients from elsewhere", p.recallAll)
		select {
		case <-time.After(roamPeriod):
		case <-p.stop:
			return
		}
	}
}

// adopted is what the broker calls when it has adopted sessions.
func (p *peers) adopted(ctx context.Context) {
	if err := p.recallAll(ctx); err != nil {
		p.log.Warn("sessions of former nodes have not heard all", "err", err)
	}
}

// begin lets the others be heard from now on.
func (p *peers) begin(here hearing) {
	p.here.Store(&here)
	p.running.Go(func() { p.every(lookForOrphans, "sessions of former nodes", here.broker.AdoptOrphans) })
	p.running.Go(func() { p.every(lookForOrphans, "nodes", p.bury) })
	p.running.Go(p.welcome)
	p.running.Go(func() { p.every(lookForOrphans, "sessions", here.broker.ClaimAgain) })
	p.running.Go(func() {
		p.insist("the journal's end", p.mark)
		p.every(markPeriod, "the journal's end", p.mark)
	})
}

// bury forgets nodes that are dead: they are not out of touch.
func (p *peers) bury(ctx context.Context) error {
	if !p.node.Apart() {
		return nil
	}
	live, err := p.here.Load().live(ctx)
	if err == nil {
		p.node.Forget(func(name string) bool {
			return !slices.ContainsFunc(live, func(id int64) bool { return nodeName(id) == name })
		})
	}
	return err
}

// mark notes how far the journal goes, while the others are in touch: what is older than the last
// mark but one has been told, since who falls silent is out of touch within a period.
func (p *peers) mark(ctx context.Context) error {
	last, err := p.here.Load().journal.LastRecord(ctx)
	p.recalling.Lock()
	defer p.recalling.Unlock()
	switch {
	case err != nil:
		return err
	case !p.marked: // what is older was before all clients here
		p.old, p.latest, p.marked = last, last, true
	case !p.node.Apart():
		p.old, p.latest = p.latest, last
	}
	return nil
}

const (
	lookForOrphans = 2 * time.Second // sessions of nodes that are no more
	roamPeriod     = time.Second     // between two times that clients from elsewhere are told what they may have missed
	markPeriod     = 4 * time.Second // longer than cluster.Node takes to find out that another is silent
)

func (p *peers) every(period time.Duration, what string, do func(context.Context) error) {
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-p.stop:
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		if err := do(ctx); err != nil {
			p.log.Warn("the database does not say", "what", what, "err", err)
		}
		cancel()
	}
}

// close ends what runs. The broker has been closed.
func (p *peers) close() {
	close(p.stop)
	p.node.Close()
	p.running.Wait()
}

// peerBrokers is the brokers of the other nodes (broker.Peers).
type peerBrokers struct{ *cluster.Node }

// Self implements broker.Peers.
func (p peerBrokers) Self() string { return p.Name() }

// Tell implements broker.Peers.
func (p peerBrokers) Tell(body []byte) { p.Node.Tell(slices.Concat([]byte{forBroker}, body)) }

// Ask implements broker.Peers.
func (p peerBrokers) Ask(ctx context.Context, body []byte) ([][]byte, bool) {
	answers, all := p.Node.Ask(ctx, slices.Concat([]byte{forBroker}, body))
	return each(answers, func(a cluster.Answer) []byte { return a.Body }), all
}

// after lets the answers to requests that have announced something wait until the other nodes have
// heard it, as far as they are in touch.
func (p *peers) after(next http.Handler) http.Handler {
	if p == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(&afterwards{ResponseWriter: w, ctx: r.Context(), peers: p, before: p.changes.Load()}, r)
	})
}

type afterwards struct {
	http.ResponseWriter
	ctx    context.Context
	peers  *peers
	before uint64
	passed bool
}

func (a *afterwards) pass() {
	if !a.passed && a.peers.changes.Load() != a.before {
		a.peers.node.Ask(a.ctx, []byte{forFollower})
	}
	a.passed = true
}

// WriteHeader implements http.ResponseWriter.
func (a *afterwards) WriteHeader(status int) {
	a.pass()
	a.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (a *afterwards) Write(b []byte) (int, error) {
	a.pass()
	return a.ResponseWriter.Write(b)
}

// localBroker publishes to the clients of this node alone (dataplane.Broker).
type localBroker struct{ *broker.Broker }

// HasSubscribers implements dataplane.Broker.
func (b localBroker) HasSubscribers(topic string) bool { return b.HasSubscribersHere(topic) }

// Publish implements dataplane.Broker.
func (b localBroker) Publish(topic string, payload []byte, qos byte) {
	b.PublishHere(broker.Message{Topic: topic, Payload: payload, QoS: qos})
}

// PublishFor implements dataplane.Broker.
func (b localBroker) PublishFor(topic string, payload []byte, contentType string, life time.Duration) {
	b.PublishHere(messageFor(topic, payload, contentType, life))
}

var _ dataplane.Broker = localBroker{}
