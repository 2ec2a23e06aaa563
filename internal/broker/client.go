package broker

import (
	"bufio"
	"encoding/binary"
	"errors"
	"log/slog"
	"math"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	maxClientID     = 128 // bytes (spec §2.3)
	topicAliases    = 8   // that a client may use (spec §2.10)
	readBuffer      = 512 // bytes; larger packets are read past it
	packetOverhead  = 64 << 10
	farewellTimeout = 5 * time.Second
	writeTimeout    = 30 * time.Second
)

// Client is one live connection, and what there is to say of it afterwards.
type Client struct {
	broker  *Broker
	conn    net.Conn
	done    chan struct{} // closed once the next connection of the client id may begin
	session *session

	// Known once CONNECT has been read; not changed after Connected.
	id          string
	version     byte
	connectedAt time.Time
	sessionID   string
	receiveMax  int
	maxPacket   int // largest packet that the client takes
	keepAlive   time.Duration
	expiry      time.Duration // of the session
	will        *Message      // nil if there is none, or none any more
	willDelay   time.Duration
	aliases     map[uint16]string

	mu      sync.Mutex
	queue   [][]byte
	queued  int  // bytes in queue
	writing bool // a goroutine empties the queue
	ending  bool // nothing is queued any more
	reason  DisconnectReason
}

func newClient(b *Broker, conn net.Conn) *Client {
	return &Client{broker: b, conn: conn, done: make(chan struct{}), sessionID: uuid.NewString(), maxPacket: math.MaxInt32}
}

// ID returns the client id.
func (c *Client) ID() string { return c.id }

// ProtocolVersion returns 4 for MQTT 3.1.1 and 5 for MQTT 5.
func (c *Client) ProtocolVersion() byte { return c.version }

// RemoteAddr returns the address of the other side.
func (c *Client) RemoteAddr() net.Addr { return c.conn.RemoteAddr() }

// ConnectedAt returns when the connection was accepted.
func (c *Client) ConnectedAt() time.Time { return c.connectedAt }

// SessionID returns a UUID that no other connection has.
func (c *Client) SessionID() string { return c.sessionID }

// Deliver sends a message to this client alone, subscribed or not, in the order of the
// calls. It never blocks. A QoS 1 message to a persistent session whose client has gone is
// kept for its return. Errors: ErrOffline, ErrQueueFull, ErrTooLarge.
func (c *Client) Deliver(m Message) error {
	return c.session.deliver(&copies{message: &m, now: c.broker.cfg.Now()}, min(m.QoS, 1), false, c)
}

// Disconnect ends the connection, with DISCONNECT 0x98 for MQTT 5.
func (c *Client) Disconnect() { c.end(ServerInitiated, codeAdministrative) }

// send queues a packet and sees to it that somebody writes it.
func (c *Client) send(packet []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending {
		return ErrOffline
	}
	if len(c.queue) >= c.broker.cfg.QueueMessages || c.queued+len(packet) > c.broker.cfg.QueueBytes {
		c.cutOffLocked()
		return ErrQueueFull
	}
	c.queue = append(c.queue, packet)
	c.queued += len(packet)
	if !c.writing {
		c.writing = true
		go c.write()
	}
	return nil
}

// sendMessage queues a PUBLISH.
func (c *Client) sendMessage(packet []byte) error {
	if len(packet) > c.maxPacket {
		c.broker.stats.dropped.Add(1)
		return ErrTooLarge
	}
	if err := c.send(packet); err != nil {
		c.broker.stats.dropped.Add(1)
		return err
	}
	c.broker.stats.out.Add(1)
	return nil
}

// write empties the queue, everything that is there in one write, and ends.
func (c *Client) write() {
	for {
		c.mu.Lock()
		packets := net.Buffers(c.queue)
		c.queue, c.queued = nil, 0
		if len(packets) == 0 {
			c.writing = false
			ending := c.ending
			c.mu.Unlock()
			if ending {
				c.close()
			}
			return
		}
		timeout := writeTimeout
		if c.ending {
			timeout = farewellTimeout
		}
		c.mu.Unlock()
		err := c.conn.SetWriteDeadline(time.Now().Add(timeout))
		if err == nil {
			_, err = packets.WriteTo(c.conn)
		}
		if err != nil {
			// The reader finds the socket closed and does the rest.
			c.close()
		}
	}
}

// cutOff ends the connection of a client that has fallen behind.
func (c *Client) cutOff() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cutOffLocked()
}

func (c *Client) cutOffLocked() {
	if c.ending {
		return
	}
	c.ending, c.reason = true, Throttled
	c.queue, c.queued = nil, 0
	c.broker.stats.cutOff.Add(1)
	c.close()
}

// end ends the connection for a reason: what is queued is still written, and MQTT 5 clients
// are told the code. The first reason stays.
func (c *Client) end(reason DisconnectReason, code byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending {
		return
	}
	c.ending, c.reason = true, reason
	if c.version == 5 && c.session != nil && code != codeSuccess {
		c.queue = append(c.queue, encodeDisconnect(code))
	}
	if !c.writing {
		c.writing = true
		go c.write()
	}
	// Whoever reads stops now.
	if err := c.conn.SetReadDeadline(time.Unix(1, 0)); err != nil {
		c.close()
	}
}

func (c *Client) close() {
	// A socket that does not close is no use to anybody, and there is nobody to tell.
	_ = c.conn.Close()
}

// run serves the connection from CONNECT to its end.
func (c *Client) run() {
	r := bufio.NewReaderSize(c.conn, readBuffer)
	if err := c.handshake(r); err != nil {
		c.broker.stats.refused.Add(1)
		c.broker.log.Debug("connection refused", "remote", c.conn.RemoteAddr(), "client", c.id, "err", err)
		c.close()
		return
	}
	err := c.packets(r)
	c.fail(err)

	over := c.session.detach()
	c.sendWill(over)
	c.mu.Lock()
	reason := c.reason
	c.mu.Unlock()
	c.broker.cfg.Handler.Disconnected(c, reason)
	c.broker.release(c, over)
}

// fail ends the connection for what the reader came upon.
func (c *Client) fail(err error) {
	var broken *protocolError
	switch {
	case errors.As(err, &broken):
		c.broker.log.Debug("client broke the protocol", "client", c.id, "remote", c.conn.RemoteAddr(), "err", err)
		c.end(broken.reason, broken.code)
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.end(KeepAliveTimeout, codeKeepAliveTimeout)
	default:
		c.end(ConnectionLost, codeSuccess)
	}
}

// handshake reads CONNECT and answers it. After an error there is no session, and the
// refusal has been written where MQTT has one.
func (c *Client) handshake(r *bufio.Reader) error {
	if err := c.conn.SetDeadline(time.Now().Add(c.broker.cfg.ConnectTimeout)); err != nil {
		return err
	}
	f, err := readFrame(r, c.broker.cfg.MaxPayload+packetOverhead)
	if err != nil {
		return err
	}
	if f.kind != typeConnect {
		return misuse(codeProtocolError, "first packet is not CONNECT")
	}
	in, err := decodeConnect(f)
	if err == nil {
		err = c.accept(&in)
	}
	if err == nil {
		return nil
	}
	var broken *protocolError
	if errors.As(err, &broken) {
		if refusal := encodeRefusal(in.version, broken.code); refusal != nil {
			if _, failed := c.conn.Write(refusal); failed != nil {
				return errors.Join(err, failed)
			}
		}
	}
	return err
}

// accept makes the client of a well-formed CONNECT.
func (c *Client) accept(in *connect) error {
	cfg := &c.broker.cfg
	assigned, err := c.identify(in)
	if err != nil {
		return err
	}
	if err := c.takeWill(in); err != nil {
		return err
	}
	c.version = in.version
	c.connectedAt = cfg.Now()
	c.keepAlive = cfg.MaxKeepAlive
	if in.keepAlive > 0 {
		c.keepAlive = min(max(time.Duration(in.keepAlive)*time.Second, cfg.MinKeepAlive), cfg.MaxKeepAlive)
	}
	switch {
	case in.version == 5:
		c.expiry = min(time.Duration(in.props.sessionExpiry)*time.Second, cfg.SessionExpiry)
	case !in.clean:
		c.expiry = cfg.SessionExpiry
	}
	c.receiveMax = cfg.MaxInflight
	if in.props.has(propReceiveMaximum) {
		c.receiveMax = min(c.receiveMax, int(in.props.receiveMax))
	}
	if in.props.has(propMaximumPacketSize) {
		c.maxPacket = int(min(in.props.maximumPacket, math.MaxInt32))
	}
	if err := c.broker.claim(c); err != nil {
		return err
	}
	s, present := c.broker.open(c.id, c.version, in.clean)
	c.mu.Lock()
	c.session = s
	c.mu.Unlock()
	if err := c.conn.SetDeadline(time.Time{}); err != nil {
		c.broker.release(c, s.detach())
		return err
	}
	s.attach(c, c.connack(in, present, assigned), c.expiry)
	c.broker.stats.accepted.Add(1)
	cfg.Handler.Connected(c)
	return nil
}

// identify takes the client id, or makes one (spec §2.3).
func (c *Client) identify(in *connect) (assigned bool, err error) {
	c.id = in.id
	switch {
	case in.id == "" && in.version == 4 && !in.clean:
		return false, misuse(codeClientIDInvalid, "a persistent session needs a client id")
	case in.id == "":
		c.id = "$GEN/" + uuid.NewString()
		return true, nil
	case len(in.id) > maxClientID:
		return false, misuse(codeClientIDInvalid, "client id is too long")
	case in.id[0] == '$':
		return false, misuse(codeClientIDInvalid, "client id begins with $")
	}
	return false, nil
}

// takeWill checks the will that a client leaves (spec §2.5).
func (c *Client) takeWill(in *connect) error {
	if in.will == nil {
		return nil
	}
	switch {
	case in.will.QoS == 2:
		return misuse(codeQoSNotSupported, "will has QoS 2")
	case !validTopic(in.will.Topic) || !c.fits(in.will.Topic):
		return misuse(codeTopicInvalid, "will topic is not allowed")
	case len(in.will.Payload) > c.broker.cfg.MaxPayload:
		return misuse(codeTooLarge, "will is too large")
	}
	c.will, c.willDelay = in.will, in.willDelay
	in.willProps.attach(c.will, c.broker.cfg.Now())
	return nil
}

// fits reports whether a topic or filter keeps the limits of length and depth.
func (c *Client) fits(topic string) bool {
	return len(topic) <= c.broker.cfg.MaxTopic && strings.Count(topic, "/") <= c.broker.cfg.MaxSlashes
}

// connack is the CONNACK that welcomes the client (spec §2.10).
func (c *Client) connack(in *connect, present, assigned bool) []byte {
	head := []byte{0, codeSuccess}
	if present {
		head[0] = 1
	}
	if c.version == 4 {
		return appendPacket(nil, typeConnack<<4, head)
	}
	var p []byte
	if in.props.has(propSessionExpiry) {
		p = binary.BigEndian.AppendUint32(append(p, propSessionExpiry), uint32(c.expiry/time.Second))
	}
	p = binary.BigEndian.AppendUint16(append(p, propReceiveMaximum), uint16(c.broker.cfg.MaxInflight))
	p = append(p, propMaximumQoS, 1, propRetainAvailable, 1)
	p = binary.BigEndian.AppendUint32(append(p, propMaximumPacketSize), uint32(c.broker.cfg.MaxPayload+packetOverhead))
	if assigned {
		p = appendString(append(p, propAssignedClientID), c.id)
	}
	p = binary.BigEndian.AppendUint16(append(p, propTopicAliasMaximum), topicAliases)
	p = append(p, propWildcardAvailable, 1, propSubIDAvailable, 0, propSharedAvailable, 0)
	p = binary.BigEndian.AppendUint16(append(p, propServerKeepAlive), uint16(c.keepAlive/time.Second))
	return appendPacket(nil, typeConnack<<4, head, propertyList(p))
}

// errGoodbye ends the reading after a DISCONNECT; the reason has been noted.
var errGoodbye = errors.New("broker: client said good-bye")

// packets reads until the connection ends and says why it did.
func (c *Client) packets(r *bufio.Reader) error {
	for {
		// Half as long again as the client promised (spec §2.11).
		if err := c.conn.SetReadDeadline(time.Now().Add(c.keepAlive + c.keepAlive/2)); err != nil {
			return err
		}
		if c.isEnding() {
			return errGoodbye // its deadline may have been overwritten just now
		}
		f, err := readFrame(r, c.broker.cfg.MaxPayload+packetOverhead)
		if err != nil {
			return err
		}
		if err := c.packet(f); err != nil {
			return err
		}
	}
}

func (c *Client) isEnding() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending
}

// reply queues an answer. That it could not be queued shows at the next read.
func (c *Client) reply(packet []byte) { _ = c.send(packet) }

// packet deals with one packet after CONNECT.
func (c *Client) packet(f frame) error {
	switch f.kind {
	case typePublish:
		return c.publish(f)
	case typePuback:
		id, err := decodePuback(f, c.version)
		if err == nil {
			c.session.acknowledge(id)
		}
		return err
	case typeSubscribe:
		return c.subscribe(f)
	case typeUnsubscribe:
		return c.unsubscribe(f)
	case typePingreq:
		if f.flags != 0 || len(f.body) != 0 {
			return errMalformed
		}
		c.reply([]byte{typePingresp << 4, 0})
		return nil
	case typeDisconnect:
		return c.goodbye(f)
	case typeConnect:
		return misuse(codeProtocolError, "second CONNECT")
	}
	return misuse(codeProtocolError, "unexpected packet")
}

func (c *Client) publish(f frame) error {
	p, err := decodePublish(f, c.version, c.broker.cfg.Now())
	if err != nil {
		return err
	}
	c.broker.stats.in.Add(1)
	m := p.message
	if m.Topic, err = c.alias(m.Topic, &p.props); err != nil {
		return err
	}
	switch {
	case len(m.Payload) > c.broker.cfg.MaxPayload:
		return misuse(codeTooLarge, "payload is too large")
	case !validTopic(m.Topic):
		return misuse(codeTopicInvalid, "topic is not allowed")
	case !c.fits(m.Topic):
		return c.refuse(&p, misuse(codeTopicInvalid, "topic is too long or too deep"))
	}
	switch c.broker.cfg.Handler.Publish(c, m) {
	case Refuse:
		return c.refuse(&p, misuse(codeTopicInvalid, "clients may not publish to "+m.Topic))
	case Deny:
		return c.refuse(&p, &protocolError{codeNotAuthorized, AuthError, "not authorized to publish to " + m.Topic})
	case Route:
		if m.Retain && !c.broker.retain(m) {
			return c.refuse(&p, &protocolError{codeQuotaExceeded, Throttled, "no room for more retained messages"})
		}
		c.broker.route(m, c.id)
	}
	if m.QoS > 0 {
		c.reply(encodePuback(p.id, codeSuccess))
	}
	return nil
}

// refuse answers a PUBLISH that is not allowed: MQTT 5 has a code for it if it is QoS 1,
// everything else ends the connection (spec §2.6).
func (c *Client) refuse(p *publish, why *protocolError) error {
	c.broker.stats.refused.Add(1)
	if c.version == 5 && p.message.QoS > 0 {
		c.broker.log.Debug("publish refused", "client", c.id, "err", why)
		c.reply(encodePuback(p.id, why.code))
		return nil
	}
	return why
}

// alias resolves and learns topic aliases.
func (c *Client) alias(topic string, p *properties) (string, error) {
	if !p.has(propTopicAlias) {
		if topic == "" && c.version == 5 {
			return "", misuse(codeProtocolError, "neither topic nor alias")
		}
		return topic, nil
	}
	if p.topicAlias == 0 || p.topicAlias > topicAliases {
		return "", misuse(codeTopicAliasInvalid, "topic alias out of range")
	}
	if topic != "" {
		if c.aliases == nil {
			c.aliases = make(map[uint16]string)
		}
		c.aliases[p.topicAlias] = topic
		return topic, nil
	}
	known, ok := c.aliases[p.topicAlias]
	if !ok {
		return "", misuse(codeProtocolError, "unknown topic alias")
	}
	return known, nil
}

func (c *Client) subscribe(f frame) error {
	id, filters, err := decodeSubscribe(f, c.version)
	if err != nil {
		return err
	}
	if len(filters) > c.broker.cfg.MaxFilters {
		return misuse(codeQuotaExceeded, "too many filters in one SUBSCRIBE")
	}
	codes := make([]byte, len(filters))
	var granted []string
	var retained []*request
	for i := range filters {
		q := &filters[i]
		if codes[i] = c.allow(q); codes[i] != codeSuccess {
			if c.version == 4 && !validFilter(q.filter) {
				return errMalformed
			}
			continue
		}
		existed, ok := c.session.subscribe(q.filter, q.options, c.broker.cfg.MaxSubscriptions)
		if !ok {
			codes[i] = codeQuotaExceeded
			continue
		}
		codes[i] = q.options.qos
		granted = append(granted, q.filter)
		if !hasWildcard(q.filter) && (q.retainHandling == 0 || q.retainHandling == 1 && !existed) {
			retained = append(retained, q)
		}
	}
	for i, code := range codes {
		if code < codeUnspecified {
			continue
		}
		c.broker.stats.refused.Add(1)
		if c.version == 4 {
			codes[i] = codeUnspecified
		}
	}
	c.reply(encodeAcks(typeSuback, c.version, id, codes))
	if len(granted) > 0 {
		c.broker.cfg.Handler.Subscribed(c, granted)
	}
	for _, q := range retained {
		if m := c.broker.retainedAt(q.filter); m != nil {
			// What the queue could not take has been counted where it happened.
			_ = c.session.deliver(&copies{message: m, now: c.broker.cfg.Now()}, min(m.QoS, q.options.qos), true, c)
		}
	}
	return nil
}

// allow says with which code a filter is refused, 0 if it is not (spec §2.8).
func (c *Client) allow(q *request) byte {
	switch {
	case !validFilter(q.filter) || !c.fits(q.filter):
		return codeFilterInvalid
	case shared(q.filter):
		return codeSharedNotSupported
	case !c.broker.cfg.Handler.AllowSubscribe(c, q.filter):
		return codeNotAuthorized
	}
	return codeSuccess
}

func (c *Client) unsubscribe(f frame) error {
	id, filters, err := decodeUnsubscribe(f, c.version)
	if err != nil {
		return err
	}
	for _, filter := range filters {
		c.session.unsubscribe(filter)
	}
	c.reply(encodeAcks(typeUnsuback, c.version, id, make([]byte, len(filters))))
	c.broker.cfg.Handler.Unsubscribed(c, slices.Compact(filters))
	return nil
}

// goodbye deals with DISCONNECT. The will is for those who do not say it, or ask for it.
func (c *Client) goodbye(f frame) error {
	code, p, err := decodeDisconnect(f, c.version)
	if err != nil {
		return err
	}
	if p.has(propSessionExpiry) {
		if c.expiry == 0 && p.sessionExpiry > 0 {
			return misuse(codeProtocolError, "session expiry for a session that has none")
		}
		c.session.setExpiry(min(time.Duration(p.sessionExpiry)*time.Second, c.broker.cfg.SessionExpiry))
	}
	if code != codeDisconnectWithWill {
		c.will = nil
	}
	c.end(ClientInitiated, codeSuccess)
	return errGoodbye
}

// sendWill publishes the will of a client that has gone without a good-bye. over says
// whether its session ends with the connection; if not, the will waits its delay.
func (c *Client) sendWill(over bool) {
	if c.will == nil || c.broker.closing() {
		return
	}
	publish := func() {
		m := *c.will
		if c.broker.cfg.Handler.Publish(c, m) != Route {
			return
		}
		if m.Retain && !c.broker.retain(m) {
			c.broker.log.Debug("no room to retain a will", "client", c.id)
		}
		c.broker.route(m, c.id)
	}
	delay := min(c.willDelay, c.expiry)
	if over || delay == 0 {
		publish()
		return
	}
	b := c.broker
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wills[c.id] = time.AfterFunc(delay, func() {
		b.mu.Lock()
		_, due := b.wills[c.id]
		delete(b.wills, c.id)
		b.mu.Unlock()
		if due {
			publish()
		}
	})
}

var _ slog.LogValuer = (*Client)(nil)

// LogValue is the client id.
func (c *Client) LogValue() slog.Value { return slog.StringValue(c.id) }
