package broker

import (
	"encoding/binary"
	"errors"
	"sync"
	"time"
)

// Errors of Client.Deliver.
var (
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
	version byte // a session does not cross versions (spec §2.1)

	mu       sync.Mutex
	client   *Client       // nil while offline
	ended    bool          // nothing may be kept any more
	expiry   time.Duration // how long it outlives the connection; 0 = not at all
	expires  time.Time     // while offline
	timer    *time.Timer   // while offline; ends the session
	filters  []string
	lastID   uint16
	inflight []outgoing // sent, not acknowledged, oldest first
	waiting  []outgoing // to be sent when inflight has room, oldest first
}

// outgoing is a QoS 1 message on its way to one client.
type outgoing struct {
	message *Message
	retain  bool
	id      uint16 // packet id, once sent
}

// copies encodes a message once for all the clients that get the same bytes.
type copies struct {
	message *Message
	now     time.Time
	made    [2][2][]byte // by version (4, 5) and QoS
	idAt    [2]int
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
	err := s.accept(e, qos, retain, only)
	if err != nil && !errors.Is(err, ErrOffline) {
		s.broker.stats.dropped.Add(1)
	}
	return err
}

func (s *session) accept(e *copies, qos byte, retain bool, only *Client) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.client
	if s.ended || (c == nil && (qos == 0 || s.expiry == 0)) || (only != nil && qos == 0 && c != only) {
		return ErrOffline
	}
	if qos == 0 {
		return c.sendMessage(e.packet(s.version, 0, retain, 0))
	}
	if c != nil && len(s.waiting) == 0 && len(s.inflight) < c.receiveMax {
		id := s.nextID()
		err := c.sendMessage(e.packet(s.version, 1, retain, id))
		if errors.Is(err, ErrTooLarge) || (err != nil && s.expiry == 0) {
			return err // to be forgotten, as if it had been acknowledged
		}
		s.inflight = append(s.inflight, outgoing{e.message, retain, id})
		return nil
	}
	if len(s.waiting) >= s.broker.cfg.QueueMessages {
		if c != nil {
			c.cutOff()
		}
		return ErrQueueFull
	}
	s.waiting = append(s.waiting, outgoing{message: e.message, retain: retain})
	return nil
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
			s.inflight = append(s.inflight[:i], s.inflight[i+1:]...)
			break
		}
	}
	if len(s.inflight) == 0 {
		s.inflight = nil // an idle session holds no memory for it
	}
	s.sendWaiting()
}

// sendWaiting sends waiting messages as far as the client takes them.
func (s *session) sendWaiting() {
	c, now := s.client, s.broker.cfg.Now()
	for c != nil && len(s.waiting) > 0 && len(s.inflight) < c.receiveMax {
		o := s.waiting[0]
		s.waiting[0] = outgoing{}
		s.waiting = s.waiting[1:]
		if o.message.expired(now) {
			continue
		}
		o.id = s.nextID()
		packet, _ := encodePublish(o.message, s.version, 1, o.retain, false, o.id, now)
		if err := c.sendMessage(packet); errors.Is(err, ErrTooLarge) {
			s.broker.stats.dropped.Add(1)
			continue
		}
		s.inflight = append(s.inflight, o) // sent again on resume if the connection has just ended
	}
	if len(s.waiting) == 0 {
		s.waiting = nil
	}
}

// attach gives the session its connection: the CONNACK first, then what the
// client has not acknowledged, then what waited. It fails if the connection has
// been ended before it began.
func (s *session) attach(c *Client, connack []byte, expiry time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	s.client, s.expiry = c, expiry
	if err := c.welcome(connack); err != nil {
		return err
	}
	now := s.broker.cfg.Now()
	kept := s.inflight[:0]
	for _, o := range s.inflight {
		if o.message.expired(now) {
			continue
		}
		packet, _ := encodePublish(o.message, s.version, 1, o.retain, true, o.id, now)
		if err := c.sendMessage(packet); errors.Is(err, ErrTooLarge) {
			s.broker.stats.dropped.Add(1)
			continue
		}
		kept = append(kept, o)
	}
	clear(s.inflight[len(kept):])
	s.inflight = kept
	s.sendWaiting()
	return nil
}

// detach takes the connection away and reports whether the session is over.
func (s *session) detach() (over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.client = nil
	if s.expiry == 0 {
		return true
	}
	expires := s.broker.cfg.Now().Add(s.expiry)
	s.expires = expires
	s.timer = time.AfterFunc(s.expiry, func() { s.broker.expire(s, expires) })
	return false
}

// finish ends the session: nothing is delivered to it or kept for it any more.
func (s *session) finish() {
	s.mu.Lock()
	s.ended = true
	filters := s.filters
	s.filters, s.inflight, s.waiting = nil, nil, nil
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	s.mu.Unlock()
	for _, filter := range filters {
		s.broker.index.remove(filter, s)
	}
}

// subscribe adds a filter and reports whether it was there before; ok is false
// when the session has no room for another one.
func (s *session) subscribe(filter string, o options, limit int) (existed, ok bool) {
	s.mu.Lock()
	for _, have := range s.filters {
		existed = existed || have == filter
	}
	if !existed {
		if len(s.filters) >= limit {
			s.mu.Unlock()
			return false, false
		}
		s.filters = append(s.filters, filter)
	}
	s.mu.Unlock()
	s.broker.index.add(filter, s, o)
	return existed, true
}

// keptFor returns how long the session outlives its connection.
func (s *session) keptFor() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.expiry
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
	for i, have := range s.filters {
		if have == filter {
			s.filters = append(s.filters[:i], s.filters[i+1:]...)
			break
		}
	}
	s.mu.Unlock()
	s.broker.index.remove(filter, s)
}
