package broker

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/time/rate"
)

const (
	headerAllowance = 18 << 10 // bytes of a packet besides its payload; with that of AWS 149,504 in all
	maxClientID     = 128      // bytes (spec §2.3)
	generatedID     = "$GEN/"  // what ids that clients did not give begin with
	maxTopicAlias   = 8        // of a client (spec §2.17)
)

// Client is one live connection, from Connected to Disconnected. Methods may be
// called from any goroutine, and after the end of the connection too.
type Client struct {
	outbox
	in     intake
	spoke  spoke
	rest   rest
	broker *Broker
	done   chan struct{} // closed when the client id is free for the next connection

	// Set before Connected, constant from then on.
	id          string
	version     byte
	keepAlive   time.Duration
	receiveMax  int // unacknowledged QoS 1 messages that the client takes
	maxPacket   int // bytes that the client takes; 0 = any
	connectedAt time.Time
	uuid        uuid.UUID
	session     *session
	stamp       int64 // when it claimed its client id; orders claims of several nodes
	identity    Identity

	deliveries  *rate.Limiter // of messages to the client, of the session's lock; nil until the first, and if they are not limited
	permissions permissions

	// Of the connection's goroutine.
	batch     bool        // the Handler has taken messages and has not been told that these are all
	urgent    bool        // what is gathered must not wait for an answer
	will      *StoredWill // nil if the client has none
	aliases   []string    // topics by alias - 1; nil until the client uses one
	allowance allowance

	claiming  bool        // other nodes are still being asked for the client id; under the broker's lock
	contested bool        // a node that could not be asked may have it, too; under the broker's lock
	noWill    atomic.Bool // the will is not to be sent, whatever ends the connection
}

func newClient(b *Broker, conn net.Conn) *Client {
	c := &Client{broker: b, done: make(chan struct{})}
	c.in.init(conn, b.cfg.MaxPayload+headerAllowance)
	c.outbox = outbox{owner: c, conn: conn, raw: c.in.raw, maxMessages: b.cfg.QueueMessages, maxBytes: b.cfg.QueueBytes}
	return c
}

// ID returns the client id, as given by the client or generated.
func (c *Client) ID() string { return c.id }

// ProtocolVersion returns 4 for MQTT 3.1.1 and 5 for MQTT 5.
func (c *Client) ProtocolVersion() byte { return c.version }

// RemoteAddr returns the client's network address.
func (c *Client) RemoteAddr() net.Addr { return c.conn.RemoteAddr() }

// Conn returns the connection that the listener accepted, to ask for its TLS
// state; it must not be read, written or closed.
func (c *Client) Conn() net.Conn { return c.conn }

// ConnectedAt returns when the client was accepted.
func (c *Client) ConnectedAt() time.Time { return c.connectedAt }

// SessionID returns a UUID that no other connection has.
func (c *Client) SessionID() string { return c.uuid.String() }

// LogValue is the client id.
func (c *Client) LogValue() slog.Value { return slog.StringValue(c.id) }

// Deliver sends a message to this client alone: once, whether or not it is
// subscribed, and unseen by every subscriber (spec §11.2). It never waits.
//
// QoS 0 goes to this connection or nowhere. QoS 1 goes to the client's session:
// if the connection has ended and the session is persistent, it is kept for the
// client's return, but not beyond the end of the process. Returns ErrOffline,
// ErrQueueFull or ErrTooLarge if the message is lost.
func (c *Client) Deliver(m Message) error {
	if !c.may(MayReceive, m.Topic) {
		return ErrDenied
	}
	if done, err := c.session.answer(c, &m); done {
		return err
	}
	return c.keep(m)
}

// keep is Deliver for a message that must outlive this call.
func (c *Client) keep(m Message) error {
	e := c.broker.copiesOf(&m, false, nil)
	return c.session.deliver(e, min(m.QoS, 1), false, c)
}

// Granted returns the QoS with which the client gets messages on topic because it has subscribed, and
// false if it has not, not counting shared subscriptions.
func (c *Client) Granted(topic string) (qos byte, subscribed bool) {
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sub := range s.subs {
		if !shared(sub.filter) && covers(sub.filter, topic) {
			qos, subscribed = max(qos, sub.options.qos), true
		}
	}
	return qos, subscribed
}

// Backlog returns how many bytes the client has been sent that are not on their way yet, or that
// wait until it has acknowledged others, and false if its connection has ended.
func (c *Client) Backlog() (bytes int, connected bool) {
	s := c.session
	s.mu.Lock()
	if s.client == c {
		bytes = s.bytes
	}
	s.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes + len(c.queue) + c.leaving, !c.ended
}

// Expect says that an answer to this client is on its way. Until Answered, which must
// follow soon, what the client gets, the acknowledgement of its request first, gathers to
// leave in one write. Only who handles a message of the client may call it.
func (c *Client) Expect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.owed++
}

// Answered says that an answer that was expected has been delivered, or never will be, and
// so has what comes with it.
func (c *Client) Answered() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.owed--
	if !c.held {
		c.flushLocked()
	}
}

// Disconnect ends the connection by decision of the server, which an MQTT 5
// client learns as DISCONNECT 0x98. It does not wait.
func (c *Client) Disconnect() { c.end(ServerInitiated, codeAdministrative) }

// welcome queues the CONNACK.
func (c *Client) welcome(connack []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.welcomed = c.version == 5
	return c.sendLocked(connack)
}

// sendMessage queues a PUBLISH. It returns ErrOffline, ErrQueueFull
// or ErrTooLarge.
func (c *Client) sendMessage(packet []byte) error {
	if c.maxPacket > 0 && len(packet) > c.maxPacket {
		return ErrTooLarge
	}
	switch err := c.send(packet); {
	case errors.Is(err, errBehind):
		c.broker.stats.cutOff.Add(1)
		return ErrQueueFull
	case err != nil:
		return err
	}
	c.broker.stats.out.Add(1)
	return nil
}

// compose queues a PUBLISH that nobody else gets. Errors are those of sendMessage.
func (c *Client) compose(m *Message, qos byte, id uint16) error {
	now := c.broker.cfg.Now()
	err := c.outbox.compose(c.maxPacket, func(b []byte) []byte {
		b, _ = appendPublish(b, m, c.version, qos, false, false, id, now)
		return b
	})
	switch {
	case errors.Is(err, errBehind):
		c.broker.stats.cutOff.Add(1)
		return ErrQueueFull
	case err == nil:
		c.broker.stats.out.Add(1)
	}
	return err
}

// cutOff ends the connection of a client that does not acknowledge.
func (c *Client) cutOff() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		c.broker.stats.cutOff.Add(1)
	}
	c.abandonLocked()
}

// run is the connection, from its first packet on. It returns when the connection has
// ended, or has been parked.
func (c *Client) run() {
	if c.begin() {
		if c.in.raw == nil {
			// The handshake of TLS has made this stack larger than waiting ever needs.
			go c.resume()
			return
		}
		c.resume()
	} else {
		c.leave()
	}
}

// resume hears the client out, and cleans up if that was all.
func (c *Client) resume() {
	if c.in.polled {
		c.woken()
	}
	if !c.work() {
		c.goodbye()
		c.leave()
	}
}

// leave closes the connection, when what it has to say has been written.
func (c *Client) leave() {
	c.in.release()
	c.drain()
	if c.in.polled {
		c.broker.poller.remove(c)
	}
	c.close()
	c.broker.forget(c)
}

// read returns the next packet, whose body is valid until the following call. Once its
// beginning is there, all of it must come within a time, if that is not 0.
func (c *Client) read(within time.Duration) (frame, error) {
	f, ok, err := c.in.take()
	for limited := false; !ok && err == nil; f, ok, err = c.in.take() {
		if c.in.partial() && within > 0 && !limited {
			limited = true
			if !c.expect(within) {
				return f, ErrOffline
			}
			defer c.relax()
		}
		if err := c.in.fill(); err != nil {
			return f, err
		}
	}
	return f, err
}

// direct has the socket itself asked from now on, if there is one.
func (c *Client) direct() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in.init(c.conn, c.in.limit)
	c.raw = c.in.raw
}

// hello reads a CONNECT and takes from it what makes the client.
func (c *Client) hello() (hello connect, err error) {
	if !c.expect(c.broker.cfg.ConnectTimeout) {
		return hello, ErrOffline
	}
	if p, ok := c.conn.(*proxied); ok {
		if err := p.header(); err != nil {
			return hello, err
		}
		c.direct()
	}
	f, err := c.read(0)
	if err != nil {
		return hello, err
	}
	if f.kind != typeConnect {
		return hello, misuse(codeProtocolError, "first packet is not CONNECT")
	}
	if hello, err = decodeConnect(f); err != nil {
		return hello, err
	}
	cfg := &c.broker.cfg
	c.id, c.version = hello.id, hello.version
	switch {
	case len(f.body) > cfg.MaxPayload:
		return hello, misuse(codeTooLarge, "CONNECT too large")
	case c.id == "" && (hello.version == 5 || hello.clean):
		c.id = generatedID + uuid.NewString()
	case c.id == "", len(c.id) > maxClientID, reserved(c.id):
		return hello, misuse(codeClientIDInvalid, "client id not allowed")
	}
	if w := hello.will; w != nil {
		switch {
		case w.QoS > 1:
			return hello, misuse(codeQoSNotSupported, "QoS of the will is not supported")
		case !validTopic(w.Topic), reserved(w.Topic), !withinLimits(w.Topic, cfg.MaxTopic, cfg.MaxSlashes):
			return hello, misuse(codeTopicInvalid, "topic of the will not allowed")
		}
		c.will = newWill(c.id, &hello)
	}
	// Too long a silence, and none at all, become the longest (spec §2.11).
	c.keepAlive = time.Duration(hello.keepAlive) * time.Second
	if c.keepAlive == 0 || c.keepAlive > cfg.MaxKeepAlive {
		c.keepAlive = cfg.MaxKeepAlive
	}
	c.keepAlive = max(c.keepAlive, cfg.MinKeepAlive)
	c.receiveMax = cfg.MaxInflight
	if hello.props.has(propReceiveMaximum) {
		c.receiveMax = min(c.receiveMax, int(hello.props.receiveMax))
	}
	c.maxPacket = int(min(hello.props.maximumPacket, 1<<30))
	return hello, c.broker.turnstile.admit(c.id, time.Now())
}

// refuse answers a CONNECT that is not accepted, in the words of its version,
// or by closing the socket where there are none.
func (c *Client) refuse(version byte, err error) {
	var fault *protocolError
	if !errors.As(err, &fault) {
		c.endWith(ConnectionLost, nil)
		return
	}
	c.broker.stats.refused.Add(1)
	c.broker.log.Debug("connection refused", "client", c.id, "addr", c.RemoteAddr(), "err", err)
	c.endWith(fault.reason, encodeRefusal(version, fault.code))
}

// begin takes the client in, or refuses it.
func (c *Client) begin() bool {
	hello, err := c.hello()
	if err == nil {
		err = c.authenticate(&hello)
	}
	if err == nil {
		err = c.broker.claim(c)
	}
	if err != nil {
		c.refuse(hello.version, err)
		return false
	}
	return c.accept(&hello)
}

// accept is the client's way to CONNACK, once it has its client id.
func (c *Client) accept(hello *connect) bool {
	b := c.broker
	c.uuid = uuid.New()
	c.connectedAt = b.cfg.Now()
	expiry := time.Duration(0)
	switch {
	case c.version == 5:
		expiry = min(time.Duration(hello.props.sessionExpiry)*time.Second, b.cfg.SessionExpiry)
	case !hello.clean:
		expiry = b.cfg.SessionExpiry
	}
	present, err := b.open(c, hello.clean, expiry)
	if err != nil {
		c.refuse(c.version, err)
		b.release(c, false)
		return false
	}
	c.keepWill()
	if err := c.session.attach(c, c.connack(hello, present, expiry), expiry); err != nil {
		// A newer connection, or Close, was quicker than the CONNACK: this one has
		// never been.
		c.forgetWill()
		b.release(c, c.session.detach(ConnectionLost))
		return false
	}
	b.stats.accepted.Add(1)
	c.session.tellGroups()
	b.cfg.Handler.Connected(c)
	b.wheel.add(c, c.keepAlive+c.keepAlive/2)
	c.expect(0) // the wheel looks after it from here on
	c.watch()
	return true
}

// goodbye is the end of a client that was accepted.
func (c *Client) goodbye() {
	b := c.broker
	b.wheel.remove(c)
	c.flush()
	c.mu.Lock()
	reason := c.reason
	c.mu.Unlock()
	over := c.session.detach(reason)
	c.session.tellGroups()
	c.sendWill(over)
	b.log.Debug("client disconnected", "client", c.id, "addr", c.RemoteAddr(), "reason", reason)
	b.cfg.Handler.Disconnected(c, reason)
	b.release(c, over)
}

// work handles what the client sends, until it is quiet and has been parked, or until the
// connection has ended, when it returns false. What the packets of one read cause leaves
// together.
func (c *Client) work() (parked bool) {
	for {
		if c.in.polled && c.in.drained && !c.in.partial() && c.park() {
			return true
		}
		if c.rest.busy && !c.in.partial() && !c.attend() {
			return false
		}
		f, err := c.read(c.broker.cfg.PacketTimeout)
		if errors.Is(err, errDrained) {
			c.rest.toEnd = false // that was somebody else with the same descriptor
			continue
		}
		if c.rest.busy && isTimeout(err) && !c.in.partial() && c.calm() {
			continue
		}
		if !c.serve(f, err) {
			return false
		}
	}
}

// attend is work for a busy client as long as whole packets come, or none for a while.
// Packets are handled within the call that waits for them: a new one would have to begin
// with a reading in vain. It returns false if the connection has ended.
func (c *Client) attend() bool {
	going := true
	c.in.release()
	// What makes the waiting end is found by who reads next.
	_ = c.in.raw.Read(func(fd uintptr) bool {
		for c.in.readDescriptor(fd) {
			f, ok, err := c.in.take()
			if !ok && err == nil { // a part of a packet, or the end
				return true
			}
			if going = c.serve(f, err); !going || c.in.partial() {
				return true
			}
			c.in.release()
			if c.in.drained {
				break
			}
		}
		return false
	})
	return going
}

// serve handles a packet and those that have come with it. It returns false if the
// connection has ended; err is what reading the packet came to.
func (c *Client) serve(f frame, err error) bool {
	if !c.hold() {
		return false
	}
	c.broker.wheel.heard(c)
	for ok := err == nil; ok && err == nil; {
		if err = c.handle(f); err == nil {
			f, ok, err = c.in.take()
		}
	}
	c.endBatch()
	if err != nil {
		c.fail(err)
		return false
	}
	c.letGo(c.urgent)
	c.urgent = false
	return true
}

// endBatch tells the Handler that no more messages come together with those it has taken.
func (c *Client) endBatch() {
	if !c.batch {
		return
	}
	c.batch = false
	if h, ok := c.broker.cfg.Handler.(Batcher); ok {
		h.EndBatch()
	}
}

// connack encodes the CONNACK that accepts the client (spec §2.10).
func (c *Client) connack(hello *connect, present bool, expiry time.Duration) []byte {
	head := []byte{0, codeSuccess}
	if present {
		head[0] = 1
	}
	if c.version == 4 {
		return appendPacket(nil, typeConnack<<4, head)
	}
	cfg, be := &c.broker.cfg, binary.BigEndian
	var p []byte
	if hello.props.has(propSessionExpiry) {
		p = be.AppendUint32(append(p, propSessionExpiry), uint32(expiry/time.Second))
	}
	if hello.id == "" {
		p = appendString(append(p, propAssignedClientID), c.id)
	}
	p = be.AppendUint16(append(p, propServerKeepAlive), uint16(c.keepAlive/time.Second))
	p = be.AppendUint16(append(p, propReceiveMaximum), uint16(cfg.MaxInflight))
	p = be.AppendUint32(append(p, propMaximumPacketSize), uint32(cfg.MaxPayload+headerAllowance))
	p = be.AppendUint16(append(p, propTopicAliasMaximum), maxTopicAlias)
	p = append(p, propMaximumQoS, 1, propRetainAvailable, 1,
		propWildcardAvailable, 1, propSubIDAvailable, 0, propSharedAvailable, 1)
	return appendPacket(nil, typeConnack<<4, head, propertyList(p))
}

// errGoodbye is a client's DISCONNECT.
var errGoodbye = errors.New("client disconnected")

// fail ends the connection for what reading or handling a packet came to.
func (c *Client) fail(err error) {
	var fault *protocolError
	switch {
	case errors.As(err, &fault):
		c.broker.log.Debug("client misbehaved", "client", c.id, "addr", c.RemoteAddr(), "err", err)
		c.end(fault.reason, fault.code)
	case errors.Is(err, errHungUp):
		c.noWill.Store(true)
		c.end(ClientInitiated, codeSuccess)
	case errors.Is(err, errGoodbye):
		c.end(ClientInitiated, codeSuccess)
	case isTimeout(err): // or woken up by end, whose reason counts
		c.end(KeepAliveTimeout, codeKeepAliveTimeout)
	default:
		c.end(ConnectionLost, codeSuccess)
	}
}

// handle does what a packet asks for. An error ends the connection.
func (c *Client) handle(f frame) error {
	if f.kind != typePublish {
		c.endBatch()
		c.urgent = c.urgent || f.kind != typePuback
	}
	if f.padded && c.version == 5 {
		return errMalformed
	}
	switch f.kind {
	case typePublish:
		return c.publish(f)
	case typePuback:
		id, err := decodePuback(f, c.version)
		if err != nil {
			return err
		}
		c.session.acknowledge(id)
		return nil
	case typeSubscribe:
		return c.subscribe(f)
	case typeUnsubscribe:
		return c.unsubscribe(f)
	case typePingreq:
		if f.flags != 0 || len(f.body) > 0 {
			return errMalformed
		}
		return c.answer([]byte{typePingresp << 4, 0})
	case typeDisconnect:
		return c.disconnect(f)
	case typeConnect:
		return misuse(codeProtocolError, "second CONNECT")
	}
	return misuse(codeProtocolError, "unexpected packet type")
}

// answer queues a packet that is no PUBLISH. That the connection has ended is
// found out by who reads next.
func (c *Client) answer(packet []byte) error {
	if err := c.send(packet); errors.Is(err, errBehind) {
		c.broker.stats.cutOff.Add(1)
	}
	return nil
}

// puback is answer for a PUBACK.
func (c *Client) puback(id uint16, code byte) error {
	err := c.outbox.compose(0, func(b []byte) []byte { return appendPuback(b, id, code) })
	if errors.Is(err, errBehind) {
		c.broker.stats.cutOff.Add(1)
	}
	return nil
}

func (c *Client) publish(f frame) error {
	cfg := &c.broker.cfg
	if err := c.slowDown(len(f.body)); err != nil {
		return err
	}
	p, err := decodePublish(f, c.version, cfg.Now())
	if err != nil {
		return err
	}
	c.broker.stats.in.Add(1)
	m := p.message
	if m.Topic != "" && !validTopic(m.Topic) {
		return misuse(codeTopicInvalid, "topic name invalid")
	}
	if m.Topic, err = c.resolve(m.Topic, p.props); err != nil {
		return err
	}
	switch {
	case !withinLimits(m.Topic, cfg.MaxTopic, cfg.MaxSlashes):
		return c.refusePublish(p, misuse(codeTopicInvalid, "topic too long or too deep"))
	case len(m.Payload) > cfg.MaxPayload:
		return misuse(codeTooLarge, "payload too large")
	case !c.mayPublish():
		return c.throttle(&p)
	case !c.maySend(&m):
		return c.refusePublish(p, &protocolError{codeNotAuthorized, AuthError, "publish denied"})
	}
	switch cfg.Handler.Publish(c, m) {
	case Refuse:
		return c.refusePublish(p, misuse(codeTopicInvalid, "topic not allowed"))
	case Deny:
		return c.refusePublish(p, &protocolError{codeNotAuthorized, AuthError, "publish denied"})
	case Handled:
		c.batch = true
	case Route:
		c.urgent = true
		m.Payload = bytes.Clone(m.Payload) // out of the connection's buffer
		return c.route(m, p.id)
	}
	if m.QoS == 1 {
		return c.acknowledge(p.id, codeSuccess)
	}
	return nil
}

// route sends a message to its subscribers, and acknowledges it once it is safe
// with those whose sessions are persistent.
func (c *Client) route(m Message, id uint16) error {
	if m.QoS == 0 {
		if !c.broker.publish(m, c.id, nil) {
			c.broker.stats.refused.Add(1)
		}
		return nil
	}
	number, err := c.beginMessage(id)
	if err != nil {
		return err
	}
	pending := c.allowance.pending
	if !c.broker.publish(m, c.id, func() { pending.end(c, number, codeSuccess) }) {
		c.broker.stats.refused.Add(1)
		pending.end(c, number, codeQuotaExceeded)
	}
	return nil
}

// resolve returns the topic of a PUBLISH, which may be said by an alias.
func (c *Client) resolve(topic string, p properties) (string, error) {
	if !p.has(propTopicAlias) {
		if topic == "" {
			return "", misuse(codeProtocolError, "no topic")
		}
		return topic, nil
	}
	alias := int(p.topicAlias)
	if alias < 1 || alias > maxTopicAlias {
		return "", misuse(codeTopicAliasInvalid, "topic alias out of range")
	}
	if c.aliases == nil {
		c.aliases = make([]string, maxTopicAlias)
	}
	if topic != "" {
		c.aliases[alias-1] = topic
	} else if topic = c.aliases[alias-1]; topic == "" {
		return "", misuse(codeProtocolError, "unknown topic alias")
	}
	return topic, nil
}

// refusePublish refuses a PUBLISH in the way that its version and QoS allow
// (spec §2.6).
func (c *Client) refusePublish(p publish, fault *protocolError) error {
	c.broker.stats.refused.Add(1)
	if c.version == 5 && p.message.QoS == 1 {
		return c.acknowledge(p.id, fault.code)
	}
	return fault
}

func (c *Client) subscribe(f frame) error {
	b, cfg := c.broker, &c.broker.cfg
	id, requests, err := decodeSubscribe(f, c.version)
	if err != nil {
		return err
	}
	if len(requests) > cfg.MaxFilters {
		return misuse(codeQuotaExceeded, "too many filters in one SUBSCRIBE")
	}
	for _, r := range requests {
		switch {
		case c.version == 4 && !validFilter(r.filter):
			return misuse(codeFilterInvalid, "filter malformed")
		case r.options.noLocal && shared(r.filter):
			return misuse(codeProtocolError, "no local on a shared subscription")
		}
	}
	var granted []string
	var retained []request
	news := false // for other nodes
	codes := make([]byte, len(requests))
	for i, r := range requests {
		codes[i] = r.options.qos
		switch {
		case !validFilter(r.filter):
			codes[i] = codeFilterInvalid
		case shared(r.filter) && !validShare(r.filter):
			codes[i] = codeFilterInvalid
		case !withinLimits(r.filter, cfg.MaxTopic, cfg.MaxSlashes):
			codes[i] = codeFilterInvalid
		case !cfg.Handler.AllowSubscribe(c, r.filter), !c.may(MaySubscribe, r.filter):
			codes[i] = codeNotAuthorized
		default:
			existed, fresh, ok := c.session.subscribe(r.filter, r.options, cfg.MaxSubscriptions)
			if !ok {
				codes[i] = codeQuotaExceeded
				break
			}
			news = news || fresh
			granted = append(granted, r.filter)
			if !shared(r.filter) && (r.retainHandling == 0 || r.retainHandling == 1 && !existed) {
				retained = append(retained, r)
			}
		}
		if codes[i] >= codeUnspecified {
			b.stats.refused.Add(1)
			if c.version == 4 {
				codes[i] = codeUnspecified
			}
		}
	}
	if len(granted) > 0 {
		c.durable()
	}
	if news {
		c.flush() // what others send does not wait
		b.cfg.Peers.Fence(context.Background())
		c.hold()
	}
	if err := c.answer(encodeAcks(typeSuback, c.version, id, codes)); err != nil {
		return err
	}
	for _, r := range retained {
		// Only a filter that is the topic itself brings the retained message
		// (spec §2.2, difference 6); no topic has the text of a wildcard filter.
		if m := b.retainedAt(r.filter); m != nil && c.may(MayReceive, r.filter) {
			e := b.copiesOf(m.message, true, nil)
			_ = c.session.deliver(e, min(m.message.QoS, r.options.qos, 1), true, c) // counted where it fails
			e.finish()
		}
	}
	if len(granted) > 0 {
		c.session.pull() // what waits in the groups that it has joined
		cfg.Handler.Subscribed(c, granted)
	}
	return nil
}

// durable returns when the session's subscriptions are safe, if they are to be.
func (c *Client) durable() {
	if c.session.key == 0 || c.broker.keeper.store == nil {
		return
	}
	c.flush() // what others send does not wait
	c.broker.keeper.sync(c.broker.closed)
	c.hold()
}

func (c *Client) unsubscribe(f frame) error {
	id, filters, err := decodeUnsubscribe(f, c.version)
	if err != nil {
		return err
	}
	for _, filter := range filters {
		c.session.unsubscribe(filter)
	}
	c.durable()
	if err := c.answer(encodeAcks(typeUnsuback, c.version, id, make([]byte, len(filters)))); err != nil {
		return err
	}
	c.broker.cfg.Handler.Unsubscribed(c, filters)
	return nil
}

// disconnect takes a client's leave: it may change how long its session is kept
// (spec §2.4) and ask for its will.
func (c *Client) disconnect(f frame) error {
	code, p, err := decodeDisconnect(f, c.version)
	if err != nil {
		return err
	}
	if p.has(propSessionExpiry) {
		s := c.session
		s.mu.Lock()
		raised := s.expiry == 0 && p.sessionExpiry > 0
		if !raised {
			s.expiry = min(time.Duration(p.sessionExpiry)*time.Second, c.broker.cfg.SessionExpiry)
		}
		s.mu.Unlock()
		if raised {
			return misuse(codeProtocolError, "session expiry raised from 0")
		}
	}
	if code != codeDisconnectWithWill {
		c.noWill.Store(true)
	}
	return errGoodbye
}
