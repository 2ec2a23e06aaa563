package broker

import (
	"cmp"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"sync"
	"time"
)

// Errors of Client.Deliver.
var (
	// ErrDenied: the Authorizer does not let the client receive the message.
	ErrDenied = errors.New("broker: client may not receive from the topic")
	// ErrOffline: the connection has ended and no session keeps the message.
	ErrOffline = errors.New("broker: client is not connected")
	// ErrQueueFull: the client is too far behind. The message is lost; a
	// connected client is cut off.
	ErrQueueFull = errors.New("broker: client's queue is full")
	// ErrTooLarge: the message exceeds the client's Maximum Packet Size.
	ErrTooLarge = errors.New("broker: message exceeds the client's maximum packet size")
)

// session is what outlives a connection: subscriptions, and the QoS 1 messages
// that the client has not acknowledged. A session that is not persistent ends
// with its connection.
type session struct {
	broker  *Broker
	id      string
	key     int64 // in the store; 0 if the session was never to outlive a connection
	version byte  // a session does not cross versions (spec §2.1)

	mu       sync.Mutex
	client   *Client          // nil while offline
	ended    bool             // nothing may be kept any more
	full     bool             // messages have been dropped, and it has been said
	expiry   time.Duration    // how long it outlives the connection; 0 = not at all
	expires  time.Time        // while offline
	timer    *time.Timer      // while offline; ends the session
	reason   DisconnectReason // of its last connection, while offline
	replay   *time.Timer      // while what has waited is sent at a pace
	paced    bool             // replay is because of Config.DeliverRate: nothing overtakes what waits
	subs     []subscription
	groups   []*group // of shared subscriptions
	lastID   uint16
	bytes    int        // of waiting
	inflight []outgoing // sent, not acknowledged, oldest first
	waiting  []outgoing // to be sent when inflight has room, oldest first
	// moved, if it is set, takes messages to where the session has gone.
	moved func(m *Message, qos byte, retain bool)
}

// subscription is a filter as its client says it.
type subscription struct {
	filter  string
	options options
}

// outgoing is a QoS 1 message on its way to one client.
type outgoing struct {
	message *Message
	entry   *entry    // what outlives the process; nil if nothing does
	group   *group    // whose copy it is; nil for the session's own
	until   time.Time // when it is worthless; zero: never
	retain  bool
	id      uint16 // packet id, once sent
}

func (o *outgoing) expired(now time.Time) bool { return !o.until.IsZero() && !now.Before(o.until) }

// copies encodes a message once for all the clients that get the same bytes,
// and keeps it once for all the sessions that outlive the process.
type copies struct {
	message *Message
	now     time.Time
	until   time.Time    // when a copy that waits is worthless; zero: never
	made    [2][2][]byte // by version (4, 5) and QoS
	idAt    [2]int

	keeper *keeper // nil: nothing outlives the process
	parcel *parcel // nil as long as nothing has been kept
	done   func()
}

// copiesOf prepares a message for delivery. If it is to be kept, done is called
// once it is safe with all the persistent sessions it goes to (see keeper), after
// finish at the earliest.
func (b *Broker) copiesOf(m *Message, keep bool, done func()) *copies {
	e := &copies{message: m, now: b.cfg.Now(), until: m.Expires, done: done}
	if keep {
		e.keeper = b.keeper
	}
	if oldest := e.now.Add(b.cfg.QueueAge); e.until.IsZero() || oldest.Before(e.until) {
		e.until = oldest
	}
	return e
}

// keep notes that the message must reach an owner, if it has one, even if the
// process ends. sent says that it is on its way. Returns nil if there is no room.
func (e *copies) keep(owner int64, retain, sent bool) *entry {
	return e.keeper.add(e.hold(), owner, retain, e.until, sent)
}

func (e *copies) hold() *parcel {
	if e.parcel == nil {
		e.parcel = e.keeper.begin(e.message, e.done)
	}
	return e.parcel
}

// waiting returns the parcel if somebody waits for it, else nil.
func (e *copies) waiting() *parcel {
	if e.done == nil {
		return nil
	}
	return e.hold()
}

// finish says that all copies have been made.
func (e *copies) finish() {
	switch {
	case e.parcel != nil:
		e.keeper.end(e.parcel)
	case e.done != nil:
		e.done()
	}
}

func (e *copies) packet(version, qos byte, retain bool, id uint16) []byte {
	if retain {
		packet, _ := encodePublish(e.message, version, qos, true, false, id, e.now)
		return packet
	}
	v := version - 4
	if e.made[v][qos] == nil {
		packet, idAt := encodePublish(e.message, version, qos, false, false, id, e.now)
		e.made[v][qos] = packet
		if qos == 1 {
			e.idAt[v] = idAt
		}
		return packet
	}
	if qos == 0 {
		return e.made[v][0]
	}
	packet := append([]byte(nil), e.made[v][1]...)
	binary.BigEndian.PutUint16(packet[e.idAt[v]:], id)
	return packet
}

// deliver sends a message, or keeps it for later if it is QoS 1. A QoS 0
// message with a client named goes to that connection only.
func (s *session) deliver(e *copies, qos byte, retain bool, only *Client) error {
	return s.counted(s.accept(e, qos, retain, only))
}

func (s *session) accept(e *copies, qos byte, retain bool, only *Client) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.client
	if s.moved != nil {
		if qos > 0 {
			s.moved(e.message, qos, retain)
		}
		return nil
	}
	if s.ended || (c == nil && (qos == 0 || s.expiry == 0)) || (only != nil && qos == 0 && c != only) {
		return ErrOffline
	}
	if c != nil && only == nil && !c.may(MayReceive, e.message.Topic) {
		return nil // not for this client, for as long as that is so (spec §5.10)
	}
	if qos == 0 {
		if !c.mayDeliver() {
			return ErrQueueFull
		}
		return c.sendMessage(e.packet(s.version, 0, retain, 0))
	}
	o := outgoing{message: e.message, retain: retain, until: e.until}
	if c != nil && (len(s.waiting) == 0 || s.replay != nil && !s.paced) && len(s.inflight) < c.receiveMax && s.mayDeliver() {
		if s.expiry > 0 && e.keeper != nil {
			// Without room it is not safe from the end of the process, but it is sent.
			o.entry = e.keep(s.key, retain, true)
		}
		o.id = s.nextID()
		return s.sent(o, c.sendMessage(e.packet(s.version, 1, retain, o.id)))
	}
	size := e.message.size()
	full := func() bool {
		return len(s.waiting) >= s.broker.cfg.QueueMessages || s.bytes+size > s.broker.cfg.QueueBytes && len(s.waiting) > 0
	}
	if full() {
		s.sweep(e.now)
	}
	if full() {
		if c != nil {
			c.cutOff()
		}
		s.overflow("its queue is full")
		return ErrQueueFull
	}
	if s.expiry > 0 && e.keeper != nil {
		if o.entry = e.keep(s.key, retain, false); o.entry == nil {
			s.overflow("the queues of all clients are full")
			return ErrQueueFull
		}
	}
	s.waiting = append(s.waiting, o)
	s.bytes += size
	return nil
}

// answer sends a message to the connection that it is for, if that can be done without
// keeping the message: it is then in flight by its id alone, because with the connection
// the session ends.
func (s *session) answer(c *Client, m *Message) (done bool, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.client != c || s.expiry > 0 || len(s.waiting) > 0 || len(s.inflight) >= c.receiveMax {
		return false, nil
	}
	if m.QoS == 0 && !c.mayDeliver() {
		return true, s.counted(ErrQueueFull)
	}
	if m.QoS > 0 && !s.mayDeliver() {
		return false, nil
	}
	if m.QoS == 0 {
		return true, s.counted(c.compose(m, 0, 0))
	}
	id := s.nextID()
	err := c.compose(m, 1, id)
	if err == nil {
		s.inflight = append(s.inflight, outgoing{id: id})
	}
	return true, s.counted(err)
}

// counted notes a message that is lost.
func (s *session) counted(err error) error {
	if err != nil && !errors.Is(err, ErrOffline) {
		s.broker.stats.dropped.Add(1)
	}
	return err
}

// sent notes a message that has been sent, or what became of it.
func (s *session) sent(o outgoing, err error) error {
	if errors.Is(err, ErrTooLarge) || (err != nil && s.expiry == 0 && o.group == nil) {
		s.broker.keeper.drop(o.entry)
		return err // to be forgotten, as if it had been acknowledged
	}
	s.inflight = append(s.inflight, o) // sent again on resume if the connection has just ended
	return nil
}

// overflow says, once until the queue is empty again, that messages are lost.
func (s *session) overflow(why string) {
	if !s.full {
		s.full = true
		s.broker.log.Warn("messages to client dropped", "client", s.id, "cause", why, "waiting", len(s.waiting), "bytes", s.bytes)
	}
}

// offer sends a message of a group if the client is there and has room for it.
func (s *session) offer(e *copies, g *group, owner int64, o options) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.client
	if s.ended || c == nil || !c.may(MayReceive, e.message.Topic) {
		return false
	}
	retain := e.message.Retain && o.retainAsPublished && s.version == 5
	if min(e.message.QoS, o.qos) == 0 {
		return c.mayDeliver() && c.sendMessage(e.packet(s.version, 0, retain, 0)) == nil
	}
	if len(s.waiting) > 0 || len(s.inflight) >= c.receiveMax || !s.mayDeliver() {
		return false
	}
	out := outgoing{message: e.message, retain: retain, group: g, until: e.until, id: s.nextID()}
	if owner != 0 {
		out.entry = e.keep(owner, false, true)
	}
	err := c.sendMessage(e.packet(s.version, 1, retain, out.id))
	if err != nil {
		s.broker.keeper.drop(out.entry)
		return false
	}
	s.inflight = append(s.inflight, out)
	return true
}

// nextID returns a packet id that is not in flight; there are far fewer in
// flight than ids.
func (s *session) nextID() uint16 {
	for {
		s.lastID++
		if s.lastID != 0 && !s.isInflight(s.lastID) {
			return s.lastID
		}
	}
}

func (s *session) isInflight(id uint16) bool {
	for i := range s.inflight {
		if s.inflight[i].id == id {
			return true
		}
	}
	return false
}

// acknowledge forgets a message that the client has, and sends what waited for
// it. Unknown ids are ignored: the message may have expired.
func (s *session) acknowledge(id uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.inflight {
		if s.inflight[i].id == id {
			s.broker.keeper.drop(s.inflight[i].entry)
			s.inflight = slices.Delete(s.inflight, i, i+1)
			break
		}
	}
	s.sendWaiting()
	if len(s.inflight) == 0 && cap(s.inflight) > 1 {
		s.inflight = nil // an idle session holds hardly any memory for it
	}
}

// pull sends what waits, in the session or its groups.
func (s *session) pull() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sendWaiting()
}

// sendWaiting sends waiting messages as far as the client takes them, the
// session's own first.
func (s *session) sendWaiting() {
	if s.replay == nil {
		s.sendSome(math.MaxInt)
	}
}

// resume sends what has waited for the client, at the pace that the broker has.
func (s *session) resume() {
	rate := s.broker.cfg.ReplayRate
	if rate == 0 || len(s.waiting) == 0 {
		s.sendWaiting()
		return
	}
	pace := time.Second / time.Duration(rate)
	s.replay = time.AfterFunc(pace, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.replay == nil {
			return
		}
		if s.sendSome(1); s.client != nil && len(s.waiting) > 0 {
			s.replay.Reset(pace)
			return
		}
		s.replay = nil
		s.sendWaiting()
	})
}

// hasWaiting reports whether something waits, in the session or its groups.
func (s *session) hasWaiting() bool { return len(s.waiting) > 0 || len(s.groups) > 0 }

// mayDeliver is that of the session's client. If it may not have another message now, what
// waits is sent when it may.
func (s *session) mayDeliver() bool {
	if s.client.mayDeliver() {
		return true
	}
	if s.replay == nil {
		s.paced = true
		s.replay = time.AfterFunc(time.Second/time.Duration(cmp.Or(s.broker.cfg.DeliverRate, s.broker.cfg.TotalDeliverRate)), func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.replay != nil && s.paced {
				s.replay, s.paced = nil, false
				s.sendWaiting()
			}
		})
	}
	return false
}

// sendSome sends so many waiting messages if the client takes them.
func (s *session) sendSome(most int) {
	c, now := s.client, s.broker.cfg.Now()
	for ; c != nil && most > 0 && len(s.inflight) < c.receiveMax && s.hasWaiting() && s.mayDeliver(); most-- {
		o, qos, ok := s.nextWaiting(now)
		if !ok {
			return
		}
		if qos == 0 { // of a group whose member wants no more
			packet, _ := encodePublish(o.message, s.version, 0, o.retain, false, 0, now)
			_ = c.sendMessage(packet) // QoS 0: dropped on any failure (spec §2.15)
			s.broker.keeper.drop(o.entry)
			continue
		}
		o.id = s.nextID()
		packet, _ := encodePublish(o.message, s.version, 1, o.retain, false, o.id, now)
		switch err := s.sent(o, c.sendMessage(packet)); {
		case errors.Is(err, ErrTooLarge):
			s.broker.stats.dropped.Add(1)
		case err != nil:
			return
		}
	}
}

func (s *session) nextWaiting(now time.Time) (o outgoing, qos byte, ok bool) {
	for len(s.waiting) > 0 {
		o, s.waiting[0] = s.waiting[0], outgoing{}
		s.waiting = s.waiting[1:]
		s.bytes -= o.message.size()
		if len(s.waiting) == 0 {
			s.waiting, s.full = nil, false
		}
		switch {
		case o.expired(now):
			s.expired(o)
		case !s.client.may(MayReceive, o.message.Topic):
			s.broker.keeper.drop(o.entry)
		default:
			return o, 1, true
		}
	}
	for _, g := range s.groups {
		if o, ok = g.take(s.client, now); ok {
			i := s.subscribed(g.full())
			return o, s.subs[i].options.qos, true
		}
	}
	return outgoing{}, 0, false
}

// sweep drops what has expired in the queue.
func (s *session) sweep(now time.Time) {
	s.waiting = slices.DeleteFunc(s.waiting, func(o outgoing) bool {
		expired := o.expired(now)
		if expired {
			s.bytes -= o.message.size()
			s.expired(o)
		}
		return expired
	})
}

func (s *session) expired(o outgoing) {
	s.broker.stats.expired.Add(1)
	s.broker.keeper.drop(o.entry)
}

// subscribed returns the place of a filter among the session's, or -1.
func (s *session) subscribed(filter string) int {
	return slices.IndexFunc(s.subs, func(sub subscription) bool { return sub.filter == filter })
}

// attach gives the session its connection: the CONNACK first, then what the
// client has not acknowledged, then what waited. It fails if the connection has
// been ended before it began.
func (s *session) attach(c *Client, connack []byte, expiry time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopTimers()
	s.client, s.expiry = c, expiry
	s.save(time.Time{})
	if err := c.welcome(connack); err != nil {
		return err
	}
	now := s.broker.cfg.Now()
	kept := s.inflight[:0]
	for _, o := range s.inflight {
		if o.expired(now) {
			s.expired(o)
			continue
		}
		if !c.may(MayReceive, o.message.Topic) {
			s.broker.keeper.drop(o.entry)
			continue
		}
		packet, _ := encodePublish(o.message, s.version, 1, o.retain, true, o.id, now)
		if err := c.sendMessage(packet); errors.Is(err, ErrTooLarge) {
			s.broker.stats.dropped.Add(1)
			s.broker.keeper.drop(o.entry)
			continue
		}
		kept = append(kept, o)
	}
	clear(s.inflight[len(kept):])
	s.inflight = kept
	s.resume()
	return nil
}

// save brings the session as it is now into the store, if it is to be there.
func (s *session) save(expires time.Time) {
	if s.key == 0 {
		return
	}
	kept := StoredSession{Key: s.key, Client: s.id, Version: s.version, Expiry: s.expiry, Expires: expires}
	for _, sub := range s.subs {
		o := sub.options
		kept.Subscriptions = append(kept.Subscriptions, StoredSubscription{sub.filter, o.qos, o.noLocal, o.retainAsPublished})
	}
	s.broker.keeper.putSession(kept)
}

// detach takes the connection away and reports whether the session is over. What
// the client has not acknowledged of its groups' messages goes back to them.
func (s *session) detach(reason DisconnectReason) (over bool) {
	s.mu.Lock()
	s.client, s.reason = nil, reason
	s.stopTimers()
	var groups []*group
	back := map[*group][]outgoing{}
	s.inflight = slices.DeleteFunc(s.inflight, func(o outgoing) bool {
		if o.group != nil {
			if back[o.group] == nil {
				groups = append(groups, o.group)
			}
			back[o.group] = append(back[o.group], o)
		}
		return o.group != nil
	})
	if over = s.expiry == 0; !over {
		s.await(s.broker.cfg.Now().Add(s.expiry))
		s.save(s.expires)
	}
	s.mu.Unlock()
	for _, g := range groups {
		g.put(back[g], true)
	}
	return over
}

// await ends the session at a time, unless its client has come back by then.
func (s *session) await(expires time.Time) {
	s.expires = expires
	s.timer = time.AfterFunc(expires.Sub(s.broker.cfg.Now()), func() { s.broker.expire(s, expires) })
}

func (s *session) stopTimers() {
	s.paced = false
	for _, timer := range []**time.Timer{&s.timer, &s.replay} {
		if *timer != nil {
			(*timer).Stop()
			*timer = nil
		}
	}
}

// suspend leaves the session to the store, for the end of the process.
func (s *session) suspend() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.stopTimers()
}

// part ends a session whose client has gone to another node; moved takes what is still delivered to it
// until it vanishes. It returns what waits for members of its groups that have none left here.
func (s *session) part(moved func(m *Message, qos byte, retain bool)) (left []parting) {
	s.mu.Lock()
	s.stopTimers()
	s.ended, s.moved = true, moved
	groups := s.groups
	s.groups = nil
	for _, list := range [][]outgoing{s.inflight, s.waiting} {
		for _, o := range list {
			if o.message != nil && o.group == nil && o.entry == nil { // an answer, which is not in the store
				moved(o.message, 1, o.retain)
			}
		}
	}
	s.mu.Unlock()
	for _, g := range groups {
		if queue := s.broker.index.leave(g, s); len(queue) > 0 {
			left = append(left, g.pack(queue))
		}
	}
	return left
}

// vanish takes a session that has parted out of what is delivered to.
func (s *session) vanish() {
	s.mu.Lock()
	subs := s.subs
	s.subs = nil
	s.mu.Unlock()
	for _, sub := range subs {
		if !shared(sub.filter) {
			s.broker.index.remove(sub.filter, s)
		}
	}
}

// release forgets the messages of a session that is another node's now. They stay in the store.
func (s *session) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, list := range [][]outgoing{s.inflight, s.waiting} {
		for _, o := range list {
			s.broker.keeper.release(o.entry)
		}
	}
	s.inflight, s.waiting, s.bytes = nil, nil, 0
}

// finish ends the session: nothing is delivered to it or kept for it any more.
func (s *session) finish() {
	s.mu.Lock()
	s.ended = true
	subs, groups := s.subs, s.groups
	for _, list := range [][]outgoing{s.inflight, s.waiting} {
		for _, o := range list {
			s.broker.keeper.drop(o.entry)
		}
	}
	s.subs, s.groups, s.inflight, s.waiting, s.bytes = nil, nil, nil, nil, 0
	s.stopTimers()
	s.mu.Unlock()
	for _, sub := range subs {
		if !shared(sub.filter) {
			s.broker.index.remove(sub.filter, s)
		}
	}
	for _, g := range groups {
		g.abandon(s.broker.index.leave(g, s))
	}
	if s.key != 0 {
		s.broker.keeper.endSession(s.key, s.id)
	}
}

// subscribe adds a valid filter and reports whether it was there before, and whether other nodes
// do not know of it yet; ok is false when the session, or the group of a shared one, has no room for
// another.
func (s *session) subscribe(filter string, o options, limit int) (existed, news, ok bool) {
	s.mu.Lock()
	i := s.subscribed(filter)
	if i < 0 && len(s.subs) >= limit {
		s.mu.Unlock()
		return false, false, false
	}
	s.mu.Unlock()
	var g *group
	if name, inner, isShared := cutShare(filter); isShared {
		if g, news, ok = s.broker.index.join(name, inner, s, o, s.broker.cfg.MaxShared); !ok {
			return false, false, false
		}
	} else {
		news = s.broker.index.add(filter, s, o)
	}
	s.mu.Lock()
	if i >= 0 {
		s.subs[i].options = o
	} else {
		s.subs = append(s.subs, subscription{filter, o})
		if g != nil {
			s.groups = append(s.groups, g)
		}
	}
	s.save(time.Time{})
	s.mu.Unlock()
	return i >= 0, news, true
}

// keptFor returns how long the session outlives its connection.
func (s *session) keptFor() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.expiry
}

// until returns when the session ends if its client does not come back.
func (s *session) until() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.expires
}

// stale reports whether the session is waiting for its client since the absence
// that was to end at expires.
func (s *session) stale(expires time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.client == nil && s.expires.Equal(expires)
}

func (s *session) unsubscribe(filter string) {
	s.mu.Lock()
	i := s.subscribed(filter)
	if i < 0 {
		s.mu.Unlock()
		return
	}
	s.subs = slices.Delete(s.subs, i, i+1)
	var g *group
	if shared(filter) {
		if j := slices.IndexFunc(s.groups, func(g *group) bool { return g.full() == filter }); j >= 0 {
			g = s.groups[j]
			s.groups = slices.Delete(s.groups, j, j+1)
		}
	}
	s.save(time.Time{})
	s.mu.Unlock()
	if g != nil {
		g.abandon(s.broker.index.leave(g, s))
	} else {
		s.broker.index.remove(filter, s)
	}
}
