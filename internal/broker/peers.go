package broker

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"net"
	"slices"
	"time"
)

// Peers are the brokers of the other nodes of a cluster, as one of them sees them. Everything
// that it sends is handled by another in the order in which it was sent (Broker.Receive,
// Broker.Asked).
type Peers interface {
	// Want says that somebody here wants what filter matches, and Unwant takes it back; calls are
	// counted. news reports that the others do not know yet: after a Fence they do.
	Want(filter string) (news bool)
	Unwant(filter string)
	// Wanted reports whether another may want messages on topic.
	Wanted(topic string) bool
	// Fence returns when the others have had all that was sent before, or after a limited time.
	Fence(ctx context.Context)
	// Publish sends to those that want topic, Announce to all. Neither keeps the body.
	Publish(topic string, body []byte)
	Announce(body []byte)
	// Tell tells all, and Ask asks them. all says that there are no others, and nobody has taken
	// too long.
	Tell(body []byte)
	Ask(ctx context.Context, body []byte) (answers [][]byte, all bool)
	// Self is the name of this node.
	Self() string
}

// SharedStore is a Store that the brokers of all nodes work with. What Load returns of sessions,
// groups and wills belonged to no node, and is this node's from then on; so is what Save stores.
// Save leaves alone what has become another node's.
type SharedStore interface {
	Store
	// Node is the number of this node.
	Node() int64
	// Adopt makes the session and the wills of a client this node's, whosever they were, and
	// returns them with the session's messages.
	Adopt(ctx context.Context, client string) (*Kept, error)
	// Orphans makes this node's what belonged to nodes that are no more.
	Orphans(ctx context.Context) (*Kept, error)
	// Release gives up all that is this node's, for others to adopt.
	Release(ctx context.Context) error
	// Retained returns all retained messages.
	Retained(ctx context.Context) ([]StoredRetained, error)
}

// A message to the brokers of other nodes:
//
//	flags, [expires], [modified], publisher, topic, groups, [properties], payload
const (
	relayQoS byte = 1 << iota
	relayRetain
	relayExpires
	relayProperties
	relayModified // it is to be retained, since then
)

// relayed is a message of another node.
type relayed struct {
	message  Message
	from     string // client id of the publisher, "" if it was a server
	modified time.Time
	groups   []place // which member nodes of shared subscriptions get it
}

// place says that a shared subscription's message goes to a node.
type place struct{ filter, node string }

func (r *relayed) encode() []byte {
	m := &r.message
	flags := m.QoS & relayQoS
	b := make([]byte, 1, 64+len(r.from)+len(m.Topic)+len(m.Payload))
	if m.Retain {
		flags |= relayRetain
	}
	if !m.Expires.IsZero() {
		flags |= relayExpires
		b = binary.BigEndian.AppendUint64(b, uint64(m.Expires.UnixMilli()))
	}
	if !r.modified.IsZero() {
		flags |= relayModified
		b = binary.BigEndian.AppendUint64(b, uint64(r.modified.UnixMilli()))
	}
	b = appendString(appendString(b, r.from), m.Topic)
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.groups)))
	for _, g := range r.groups {
		b = appendString(appendString(b, g.filter), g.node)
	}
	if p := m.Properties; p != nil {
		flags |= relayProperties
		form := byte(0)
		if p.UTF8 {
			form = 1
		}
		if p.CorrelationData != nil {
			form |= 2
		}
		b = appendString(appendString(append(b, form), p.ContentType), p.ResponseTopic)
		b = appendString(b, string(p.CorrelationData))
		b = binary.BigEndian.AppendUint16(b, uint16(len(p.User)))
		for _, u := range p.User {
			b = appendString(appendString(b, u.Key), u.Value)
		}
	}
	b[0] = flags
	return append(b, m.Payload...)
}

func (d *decoder) text() string { return string(d.bytes()) }

func (d *decoder) milliseconds() time.Time {
	if p := d.take(8); p != nil {
		return time.UnixMilli(int64(binary.BigEndian.Uint64(p)))
	}
	return time.Time{}
}

func decodeRelayed(body []byte) (r relayed, ok bool) {
	d := decoder{b: body}
	flags := d.byte()
	m := &r.message
	m.QoS, m.Retain = flags&relayQoS, flags&relayRetain != 0
	if flags&relayExpires != 0 {
		m.Expires = d.milliseconds()
	}
	if flags&relayModified != 0 {
		r.modified = d.milliseconds()
	}
	r.from, m.Topic = d.text(), d.text()
	for n := d.uint16(); n > 0 && !d.bad; n-- {
		r.groups = append(r.groups, place{d.text(), d.text()})
	}
	if flags&relayProperties != 0 {
		form := d.byte()
		p := &Properties{UTF8: form&1 != 0, ContentType: d.text(), ResponseTopic: d.text()}
		if data := d.bytes(); form&2 != 0 {
			p.CorrelationData = append([]byte{}, data...)
		}
		for n := d.uint16(); n > 0 && !d.bad; n-- {
			p.User = append(p.User, UserProperty{d.text(), d.text()})
		}
		m.Properties = p
	}
	m.Payload = d.b
	return r, !d.bad && validTopic(m.Topic)
}

// relay sends a message to the other nodes that want it, or to all if it is to be retained, if there
// may be any.
func (b *Broker) relay(m *Message, from string, modified time.Time, groups []place) (sent bool) {
	r := relayed{message: *m, from: from, modified: modified, groups: groups}
	if !modified.IsZero() {
		b.cfg.Peers.Announce(r.encode())
	} else if len(groups) > 0 || b.cfg.Peers.Wanted(m.Topic) {
		b.cfg.Peers.Publish(m.Topic, r.encode())
	} else {
		return false
	}
	return true
}

// Receive delivers a message that another node has relayed. It does not wait.
func (b *Broker) Receive(body []byte) {
	r, ok := decodeRelayed(body)
	if !ok {
		b.log.Warn("a message of another node is not understood", "bytes", len(body))
		return
	}
	var done func()
	if r.message.QoS > 0 {
		done = b.arrivals.begin()
	}
	b.route(&r.message, r.from, &r, done)
}

// word is what the brokers of nodes tell and ask each other besides messages. One member is set.
type word struct {
	Take  []takeWord `json:"take,omitempty"` // Answer: takeAnswer
	Group *groupWord `json:"group,omitempty"`
	Which bool       `json:"which,omitempty"` // which groups have members there? Answer: []groupWord
	State *string    `json:"state,omitempty"` // what is known of the client? Answer: *peerState
	End   *endWord   `json:"end,omitempty"`   // Answer: whether there was something to end
	Late  *lateWord  `json:"late,omitempty"`  // what came to a session that has gone
	Came  string     `json:"came,omitempty"`  // a client whose session has come, and hears everything by itself. Answer: that this is known
	Safe  bool       `json:"safe,omitempty"`  // are the messages so far, wherever they have to be? Answer: when they are
	Leave *leaveWord `json:"leave,omitempty"` // the node ends
}

// takeWord asks for a client id: who has its connection ends that, and hands its session over.
type takeWord struct {
	Client string `json:"client"`
	// Of claims at the same time the later one stands, by this and then by the name of the node.
	Stamp int64  `json:"stamp"`
	Node  string `json:"node"`
}

type takeAnswer struct {
	Refused []string  `json:"refused,omitempty"` // of which a later claim is made here
	Groups  []parting `json:"groups,omitempty"`
	Parted  bool      `json:"parted,omitempty"` // a session comes from here, where what comes late for it is passed on
}

// parting is what waited for members of a shared subscription that has none left there.
type parting struct {
	Filter   string   `json:"filter"`
	Messages [][]byte `json:"messages"`
}

// groupWord says how many members a shared subscription has at a node.
type groupWord struct {
	Node    string `json:"node"`
	Filter  string `json:"filter"` // "$share/NAME/FILTER"
	Members int    `json:"members"`
	Online  int    `json:"online"` // members that are connected
}

// lateWord is a message that came to a session which had gone to another node already.
type lateWord struct {
	Client  string `json:"client"`
	QoS     byte   `json:"qos"`
	Retain  bool   `json:"retain,omitempty"`
	Message []byte `json:"message"` // relayed
}

type endWord struct {
	Client  string     `json:"client"`
	Options EndOptions `json:"options"`
}

type leaveWord struct {
	Node string `json:"node"`
}

func (w *word) encode() []byte {
	text, err := json.Marshal(w)
	if err != nil {
		panic("broker: text and numbers cannot be encoded: " + err.Error())
	}
	return text
}

func encodeAnswer(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic("broker: text and numbers cannot be encoded: " + err.Error())
	}
	return text
}

// Asked handles what the broker of another node tells or asks. It does not wait: answer may be
// called later.
func (b *Broker) Asked(body []byte, answer func([]byte)) {
	var w word
	if err := json.Unmarshal(body, &w); err != nil {
		b.log.Warn("another node asks what is not understood", "err", err)
		return
	}
	switch {
	case w.Take != nil:
		go func() {
			var a takeAnswer
			for _, t := range w.Take {
				b.yield(t, &a)
			}
			answer(encodeAnswer(a))
		}()
	case w.Late != nil:
		b.late(*w.Late)
	case w.Came != "":
		b.vanish(w.Came, nil)
		answer(nil)
	case w.Group != nil:
		b.hear(*w.Group)
	case w.Leave != nil:
		b.index.forgetPeers(b, func(node string) bool { return node == w.Leave.Node })
		go func() {
			if err := b.AdoptOrphans(context.Background()); err != nil {
				b.log.Warn("sessions of a node that has left are not taken over yet", "node", w.Leave.Node, "err", err)
			}
		}()
	case w.Which:
		answer(encodeAnswer(b.index.memberships(b.cfg.Peers.Self())))
	case w.State != nil:
		var state *peerState
		if s, ok := b.client(*w.State); ok {
			state = newPeerState(s)
		}
		answer(encodeAnswer(state))
	case w.End != nil:
		go func() { answer(encodeAnswer(b.end(w.End.Client, w.End.Options))) }()
	case w.Safe:
		b.arrivals.settled(func() { answer(nil) })
	}
}

// What the other nodes send to a session while it moves must not be lost: where it was it goes on to
// get messages and passes them on, until the node to which it has gone says that all nodes know of it.
// There they wait until the session has come.

// lingering is for how long a session passes messages on at most.
const lingering = 10 * time.Second

// linger lets a session that has parted pass messages on for a while.
func (b *Broker) linger(client string, s *session) {
	b.mu.Lock()
	former := b.parted[client]
	b.parted[client] = s
	b.mu.Unlock()
	if former != nil {
		former.vanish()
	}
	time.AfterFunc(lingering, func() { b.vanish(client, s) })
}

// vanish ends the session of a client that has parted: the given one, nil for any.
func (b *Broker) vanish(client string, s *session) {
	b.mu.Lock()
	there := b.parted[client]
	if there == nil || s != nil && s != there {
		b.mu.Unlock()
		return
	}
	delete(b.parted, client)
	b.mu.Unlock()
	there.vanish()
}

// awaiting keeps what comes late for a client whose session is on its way here, until it is to be
// delivered.
func (b *Broker) awaiting(client string) (deliver func()) {
	list := new([]lateWord)
	b.mu.Lock()
	b.awaited[client] = list
	b.mu.Unlock()
	return func() {
		b.mu.Lock()
		mine := b.awaited[client] == list
		if mine {
			delete(b.awaited, client)
		}
		b.mu.Unlock()
		for _, w := range *list {
			b.late(w)
		}
	}
}

// late delivers what came to a session where it was.
func (b *Broker) late(w lateWord) {
	b.mu.Lock()
	if list := b.awaited[w.Client]; list != nil {
		if len(*list) < b.cfg.QueueMessages {
			*list = append(*list, w)
		} else {
			b.stats.dropped.Add(1)
		}
		b.mu.Unlock()
		return
	}
	s := b.sessions[w.Client]
	b.mu.Unlock()
	r, ok := decodeRelayed(w.Message)
	if s == nil || !ok {
		return // it is not here
	}
	e := b.copiesOf(&r.message, true, nil)
	_ = s.deliver(e, w.QoS, w.Retain, nil) // what the queue could not take has been counted
	e.finish()
}

// hear notes how many members a group has at another node, which may get what waits here.
func (b *Broker) hear(w groupWord) {
	b.index.peer(b, w)
	if name, inner, ok := cutShare(w.Filter); ok && w.Online > 0 {
		if g := b.index.group(name, inner); g != nil {
			g.handOver()
		}
	}
}

// ask asks the other nodes and reads their answers as Ts; null and what is not understood is left out.
func ask[T any](ctx context.Context, b *Broker, w word) (answers []T, all bool) {
	texts, all := b.cfg.Peers.Ask(ctx, w.encode())
	for _, text := range texts {
		var v *T
		if err := json.Unmarshal(text, &v); err == nil && v != nil {
			answers = append(answers, *v)
		}
	}
	return answers, all
}

// takeOver makes c, which has its client id here, the only connection of it in the cluster, and
// takes the client's session over from wherever it is. It fails if a later connection was quicker.
func (b *Broker) takeOver(c *Client) error {
	if b.cfg.Peers == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), b.cfg.ConnectTimeout)
	defer cancel()
	defer b.awaiting(c.id)()
	answers, all := ask[takeAnswer](ctx, b, word{Take: []takeWord{{c.id, c.stamp, b.cfg.Peers.Self()}}})
	for _, a := range answers {
		if len(a.Refused) > 0 {
			return &protocolError{codeTakenOver, DuplicateClientID, "another connection of the client was later"}
		}
	}
	if shared := b.shared(); shared != nil {
		kept, err := shared.Adopt(ctx, c.id)
		if err != nil {
			b.log.Error("session of a client cannot be read", "client", c.id, "err", err)
			return &protocolError{codeUnavailable, ServerInitiated, "its session cannot be read"}
		}
		b.adopt(kept)
		b.vanish(c.id, nil) // what is left from when it was here before
		if len(kept.Sessions) > 0 {
			b.cfg.Peers.Fence(ctx) // from now on all nodes know what it wants
			// Where it was nothing is passed on any more: the client would get what comes now twice. Who does not
			// answer passes on for a while, and twice is better than never.
			b.cfg.Peers.Ask(ctx, (&word{Came: c.id}).encode())
			if b.cfg.Roamed != nil && !slices.ContainsFunc(answers, func(a takeAnswer) bool { return a.Parted }) {
				b.cfg.Roamed()
			}
		}
	}
	b.mu.Lock()
	c.claiming, c.contested = false, !all
	b.mu.Unlock()
	if !all {
		b.contested.Store(true)
	}
	for _, a := range answers {
		b.inherit(a.Groups)
	}
	return nil
}

// ClaimAgain makes claims of client ids of which not all nodes could hear before: of two connections
// of a client one is left. It is to be called every now and then.
func (b *Broker) ClaimAgain(ctx context.Context) error {
	for b.contested.Swap(false) {
		settled, err := b.claimAgain(ctx)
		if !settled || err != nil {
			b.contested.Store(true)
			return err
		}
	}
	return nil
}

// claimAgain is ClaimAgain for some. settled says that nobody was out of touch.
func (b *Broker) claimAgain(ctx context.Context) (settled bool, err error) {
	const most = 1000 // in one question
	var claims []takeWord
	contested := map[string]*Client{}
	b.mu.Lock()
	for id, c := range b.clients {
		if c.contested && len(claims) < most {
			contested[id], claims = c, append(claims, takeWord{id, c.stamp, b.cfg.Peers.Self()})
		}
	}
	b.mu.Unlock()
	if len(claims) == 0 {
		return true, nil
	}
	answers, all := ask[takeAnswer](ctx, b, word{Take: claims})
	for _, a := range answers {
		for _, id := range a.Refused {
			if c := contested[id]; c != nil {
				c.end(DuplicateClientID, codeTakenOver)
				delete(contested, id)
			}
		}
		b.inherit(a.Groups)
	}
	if !all {
		return false, nil
	}
	for id, c := range contested {
		if err := b.keepAgain(ctx, id); err != nil {
			return false, err
		}
		b.mu.Lock()
		c.contested = false
		b.mu.Unlock()
	}
	b.contested.Store(true) // there may be more
	return true, nil
}

// keepAgain brings the session of a client into the store, which may have another for it that was
// another node's.
func (b *Broker) keepAgain(ctx context.Context, id string) error {
	shared := b.shared()
	b.mu.Lock()
	s := b.sessions[id]
	b.mu.Unlock()
	if shared == nil || s == nil || s.key == 0 {
		return nil
	}
	kept, err := shared.Adopt(ctx, id)
	if err != nil {
		return err
	}
	b.adopt(kept)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended:
	case s.client != nil:
		s.save(time.Time{})
	default:
		s.save(s.expires)
	}
	return nil
}

// yield gives a client id to another node, unless there is a later claim here. It returns when the
// connection here has ended and all that is to be known of the session is in the store.
func (b *Broker) yield(w takeWord, a *takeAnswer) {
	b.adopted()
	for {
		b.mu.Lock()
		c := b.clients[w.Client]
		if c == nil {
			break
		}
		if (c.claiming || c.contested) && (c.stamp > w.Stamp || c.stamp == w.Stamp && b.cfg.Peers.Self() > w.Node) {
			b.mu.Unlock()
			a.Refused = append(a.Refused, w.Client)
			return
		}
		b.mu.Unlock()
		c.end(DuplicateClientID, codeTakenOver)
		<-c.done
	}
	s := b.sessions[w.Client]
	delete(b.sessions, w.Client)
	will := b.takeWill(w.Client)
	b.mu.Unlock()
	if s == nil && will == nil {
		// Who found a will in the store that has been published would publish it again.
		if told := b.keeper.tells(w.Client); told != nil {
			select {
			case <-told:
			case <-b.closed:
			}
		}
		// And who found a session that has ended would go on with it.
		if b.keeper.behind(w.Client) {
			b.keeper.sync(b.closed)
		}
		return
	}
	if s != nil {
		a.Groups = append(a.Groups, s.part(func(m *Message, qos byte, retain bool) {
			r := relayed{message: *m}
			b.cfg.Peers.Tell((&word{Late: &lateWord{w.Client, qos, retain, r.encode()}}).encode())
		})...)
		b.linger(w.Client, s)
		a.Parted = true
	}
	// What is on its way to the store must be there before another reads it.
	<-b.keeper.settled()
	if s != nil {
		s.release()
		b.keeper.releaseSession(s.key)
	}
	if will != nil {
		b.keeper.releaseWill(will.Key)
	}
	b.keeper.sync(b.closed)
}

// inherit takes what waited for members of shared subscriptions that have come over.
func (b *Broker) inherit(groups []parting) {
	for _, p := range groups {
		name, inner, ok := cutShare(p.Filter)
		if !ok {
			continue
		}
		g := b.index.group(name, inner)
		for _, body := range p.Messages {
			r, ok := decodeRelayed(body)
			if !ok || g == nil {
				b.stats.dropped.Add(1)
				continue
			}
			e := b.copiesOf(&r.message, true, nil)
			g.deliver(e, &r.message)
			e.finish()
		}
	}
}

// shared returns the store if it is one of several nodes, else nil.
func (b *Broker) shared() SharedStore {
	if b.cfg.Peers == nil {
		return nil
	}
	shared, _ := b.cfg.Store.(SharedStore)
	return shared
}

// Missed brings up to date what this broker knows of the others, after messages between the nodes
// may have been lost. It asks the Store and the other nodes.
func (b *Broker) Missed(ctx context.Context) error {
	b.Reconsider()
	if b.cfg.Peers == nil {
		return nil
	}
	for _, g := range b.index.memberships(b.cfg.Peers.Self()) {
		b.cfg.Peers.Tell((&word{Group: &g}).encode())
	}
	there := map[string]bool{}
	lists, _ := ask[[]groupWord](ctx, b, word{Which: true})
	for _, list := range lists {
		for _, g := range list {
			there[g.Node] = true
			b.hear(g)
		}
	}
	b.index.forgetPeers(b, func(node string) bool { return !there[node] })
	if shared := b.shared(); shared != nil {
		return b.reloadRetained(ctx, shared)
	}
	return nil
}

// AdoptOrphans takes over the sessions, groups and wills of nodes that are no more. Nobody else gets
// them before Config.Adopted has returned.
func (b *Broker) AdoptOrphans(ctx context.Context) error {
	shared := b.shared()
	if shared == nil {
		return nil
	}
	b.adopting.Lock()
	defer b.adopting.Unlock()
	kept, err := shared.Orphans(ctx)
	if err != nil {
		return err
	}
	b.adopt(kept)
	if b.cfg.Adopted != nil && len(kept.Sessions) > 0 {
		b.cfg.Adopted(ctx)
	}
	return nil
}

// adopted returns when what comes from the store at this moment has come.
func (b *Broker) adopted() {
	b.adopting.Lock()
	defer b.adopting.Unlock()
}

// peerState is a ClientState on its way between nodes.
type peerState struct {
	ClientState
	RemoteAddr, LocalAddr string
}

// peerAddr is an address that another node has told of.
type peerAddr string

func (peerAddr) Network() string  { return "tcp" }
func (a peerAddr) String() string { return string(a) }

func newPeerState(s ClientState) *peerState {
	p := &peerState{ClientState: s}
	if s.Connected {
		p.RemoteAddr, p.LocalAddr = s.RemoteAddr.String(), s.LocalAddr.String()
	}
	p.ClientState.RemoteAddr, p.ClientState.LocalAddr = nil, nil
	return p
}

func (p *peerState) state() ClientState {
	s := p.ClientState
	if s.Connected {
		s.RemoteAddr, s.LocalAddr = net.Addr(peerAddr(p.RemoteAddr)), net.Addr(peerAddr(p.LocalAddr))
	}
	return s
}

// newer reports whether x says more about a client than y: a connection more than an absence, and
// of those the last.
func newer(x, y ClientState) bool {
	if x.Connected != y.Connected {
		return x.Connected
	}
	return cmp.Compare(x.Since.UnixNano(), y.Since.UnixNano()) > 0
}
