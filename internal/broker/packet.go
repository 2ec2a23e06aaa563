package broker

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Packet types, the upper half of the first byte.
const (
	typeConnect     = 1
	typeConnack     = 2
	typePublish     = 3
	typePuback      = 4
	typeSubscribe   = 8
	typeSuback      = 9
	typeUnsubscribe = 10
	typeUnsuback    = 11
	typePingreq     = 12
	typePingresp    = 13
	typeDisconnect  = 14
)

// Reason codes of MQTT 5. The broker thinks in them; for 3.1.1 they become a
// CONNACK return code, 0x80 in a SUBACK, or a closed socket.
const (
	codeSuccess              = 0x00
	codeDisconnectWithWill   = 0x04
	codeUnspecified          = 0x80
	codeMalformed            = 0x81
	codeProtocolError        = 0x82
	codeUnsupportedVersion   = 0x84
	codeClientIDInvalid      = 0x85
	codeBadCredentials       = 0x86
	codeNotAuthorized        = 0x87
	codeUnavailable          = 0x88
	codeShuttingDown         = 0x8B
	codeBadAuthMethod        = 0x8C
	codeKeepAliveTimeout     = 0x8D
	codeTakenOver            = 0x8E
	codeFilterInvalid        = 0x8F
	codeTopicInvalid         = 0x90
	codeTopicAliasInvalid    = 0x94
	codeTooLarge             = 0x95
	codeQuotaExceeded        = 0x97
	codeAdministrative       = 0x98
	codeQoSNotSupported      = 0x9B
	codeMaximumTime          = 0xA0
	codeSubIDNotSupported    = 0xA1
	connackUnacceptableLevel = 1 // MQTT 3.1.1
)

// Properties of MQTT 5.
const (
	propPayloadFormat       = 0x01
	propMessageExpiry       = 0x02
	propContentType         = 0x03
	propResponseTopic       = 0x08
	propCorrelationData     = 0x09
	propSubscriptionID      = 0x0B
	propSessionExpiry       = 0x11
	propAssignedClientID    = 0x12
	propServerKeepAlive     = 0x13
	propAuthMethod          = 0x15
	propAuthData            = 0x16
	propRequestProblemInfo  = 0x17
	propWillDelay           = 0x18
	propRequestResponseInfo = 0x19
	propReasonString        = 0x1F
	propReceiveMaximum      = 0x21
	propTopicAliasMaximum   = 0x22
	propTopicAlias          = 0x23
	propMaximumQoS          = 0x24
	propRetainAvailable     = 0x25
	propUser                = 0x26
	propMaximumPacketSize   = 0x27
	propWildcardAvailable   = 0x28
	propSubIDAvailable      = 0x29
	propSharedAvailable     = 0x2A
)

// maxUserProperties is how many bytes the user properties of a packet may have (spec §2.17).
const maxUserProperties = 8 << 10

// maxMessageExpiry is the longest life of a message (spec §2.17), seconds.
const maxMessageExpiry = 604_800

// protocolError ends a connection: a client did what MQTT or a limit forbids.
type protocolError struct {
	code   byte // of the DISCONNECT, or CONNACK, that an MQTT 5 client gets
	reason DisconnectReason
	text   string
}

func (e *protocolError) Error() string { return e.text }

func misuse(code byte, text string) *protocolError {
	return &protocolError{code, ClientError, text}
}

var errMalformed = misuse(codeMalformed, "malformed packet")

// frame is one packet as it came: the first byte, and what follows the length, which is
// part of the buffer that it was read into.
type frame struct {
	kind, flags byte
	padded      bool // the length has more bytes than it needs, which MQTT 5 forbids
	body        []byte
}

// parseFrame takes the packet that b begins with. size is that of the whole packet, 0 as
// long as its length is not there; the frame is only complete if b has as much. The
// error of a packet of more than limit bytes comes before them.
func parseFrame(b []byte, limit int) (f frame, size int, err error) {
	if len(b) < 2 {
		return f, 0, nil
	}
	f = frame{kind: b[0] >> 4, flags: b[0] & 0x0f}
	length, at := 0, 1
	for ; ; at++ {
		if at == len(b) {
			return f, 0, nil
		}
		length |= int(b[at]&0x7f) << (7 * (at - 1))
		if b[at] < 0x80 {
			break
		}
		if at == 4 {
			return f, 0, errMalformed
		}
	}
	f.padded = at > 1 && b[at] == 0
	at++
	if at+length > limit {
		return f, 0, misuse(codeTooLarge, "packet too large")
	}
	if size = at + length; size <= len(b) {
		f.body = b[at:size:size]
	}
	return f, size, nil
}

// decoder takes a body apart. After the first fault every answer is zero and
// bad is set, so that callers look once, at the end.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if d.bad || n > len(d.b) {
		d.bad, d.b = true, nil
		return nil
	}
	p := d.b[:n:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) byte() byte {
	if p := d.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (d *decoder) uint16() uint16 {
	if p := d.take(2); p != nil {
		return binary.BigEndian.Uint16(p)
	}
	return 0
}

func (d *decoder) uint32() uint32 {
	if p := d.take(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

func (d *decoder) varint() int {
	v := 0
	for shift := 0; shift <= 21; shift += 7 {
		b := d.byte()
		v |= int(b&0x7f) << shift
		if b == 0 && shift > 0 { // longer than need be (MQTT 5 §1.5.5)
			break
		}
		if b < 0x80 {
			return v
		}
	}
	d.bad, d.b = true, nil
	return 0
}

func (d *decoder) bytes() []byte { return d.take(int(d.uint16())) }

// string wants UTF-8 without NUL.
func (d *decoder) string() string {
	s := string(d.bytes())
	if !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
		d.bad, d.b = true, nil
		return ""
	}
	return s
}

// properties are those of any packet a client sends; which of them may be
// there is said to decoder.properties.
type properties struct {
	message       Properties
	set           uint64 // bit n: property n was there
	messageExpiry uint32
	sessionExpiry uint32
	willDelay     uint32
	maximumPacket uint32
	receiveMax    uint16
	topicAlias    uint16
}

func (p *properties) has(id byte) bool { return p.set>>id&1 == 1 }

// properties reads a property list in which only the given ones may be, each
// once; user properties may repeat. What does not belong there is malformed, what
// does and makes no sense a protocol error (MQTT 5 §2.2.2.2).
func (d *decoder) properties(allowed ...byte) (p properties, err error) {
	list := decoder{b: d.take(d.varint())}
	user := 0 // bytes of user properties
	for len(list.b) > 0 && !list.bad {
		id := list.byte()
		switch {
		case !contains(allowed, id):
			return p, misuse(codeMalformed, "property not allowed here")
		case p.has(id) && id != propUser:
			return p, misuse(codeProtocolError, "property twice")
		}
		p.set |= 1 << id
		switch id {
		case propPayloadFormat:
			f := list.byte()
			if f > 1 {
				return p, misuse(codeProtocolError, "payload format out of range")
			}
			p.message.UTF8 = f == 1
		case propMessageExpiry:
			p.messageExpiry = list.uint32()
		case propContentType:
			p.message.ContentType = list.string()
		case propResponseTopic:
			p.message.ResponseTopic = list.string()
			if !list.bad && !validTopic(p.message.ResponseTopic) {
				return p, misuse(codeProtocolError, "response topic is not a topic")
			}
		case propCorrelationData:
			p.message.CorrelationData = append([]byte{}, list.bytes()...)
		case propUser:
			before := len(list.b) + 1 // with the identifier
			k, v := list.string(), list.string()
			if user += before - len(list.b); user > maxUserProperties {
				return p, misuse(codeTooLarge, "user properties too large")
			}
			p.message.User = append(p.message.User, UserProperty{k, v})
		case propSubscriptionID:
			list.varint()
		case propSessionExpiry:
			p.sessionExpiry = list.uint32()
		case propWillDelay:
			p.willDelay = list.uint32()
		case propMaximumPacketSize:
			p.maximumPacket = list.uint32()
			if p.maximumPacket == 0 {
				return p, misuse(codeProtocolError, "maximum packet size is 0")
			}
		case propReceiveMaximum:
			p.receiveMax = list.uint16()
			if p.receiveMax == 0 {
				return p, misuse(codeProtocolError, "receive maximum is 0")
			}
		case propTopicAlias:
			p.topicAlias = list.uint16()
		case propTopicAliasMaximum:
			list.uint16()
		case propRequestProblemInfo, propRequestResponseInfo:
			if list.byte() > 1 {
				return p, misuse(codeProtocolError, "property out of range")
			}
		case propAuthMethod, propReasonString:
			list.string()
		case propAuthData:
			list.bytes()
		}
	}
	if d.bad = d.bad || list.bad; d.bad {
		return p, errMalformed
	}
	return p, nil
}

func contains(list []byte, id byte) bool {
	for _, have := range list {
		if have == id {
			return true
		}
	}
	return false
}

// messageProperties are those of a PUBLISH that travel with its message.
var messageProperties = []byte{propPayloadFormat, propMessageExpiry, propContentType,
	propResponseTopic, propCorrelationData, propUser}

var (
	connectProperties = []byte{propSessionExpiry, propReceiveMaximum, propMaximumPacketSize,
		propTopicAliasMaximum, propRequestResponseInfo, propRequestProblemInfo, propUser, propAuthMethod, propAuthData}
	willProperties       = append([]byte{propWillDelay}, messageProperties...)
	publishProperties    = append([]byte{propTopicAlias}, messageProperties...)
	ackProperties        = []byte{propReasonString, propUser}
	subscribeProperties  = []byte{propSubscriptionID, propUser}
	disconnectProperties = []byte{propSessionExpiry, propReasonString, propUser}
)

// What a client may say in a PUBACK, and in a DISCONNECT (MQTT 5 §3.4.2.1, §3.14.2.1).
var (
	pubackCodes     = []byte{0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99}
	disconnectCodes = []byte{0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99}
)

// attach puts what a client said about a message onto it. now is when the life
// of the message begins.
func (p *properties) attach(m *Message, now time.Time) {
	if p.set == 0 {
		return
	}
	if p.has(propPayloadFormat) || p.has(propContentType) || p.has(propResponseTopic) || p.has(propCorrelationData) || p.has(propUser) {
		travelling := p.message // so that only a message that has some costs memory
		m.Properties = &travelling
	}
	if p.has(propMessageExpiry) {
		m.Expires = now.Add(messageLife(p.messageExpiry))
	}
}

// messageLife clamps a Message Expiry Interval (spec §2.17).
func messageLife(seconds uint32) time.Duration {
	return time.Duration(min(max(seconds, 1), maxMessageExpiry)) * time.Second
}

// connect is a CONNECT.
type connect struct {
	version   byte // 4 or 5; 0 as long as it has not been read
	clean     bool // Clean Session, Clean Start
	keepAlive uint16
	id        string
	username  string
	password  []byte   // nil if there is none
	will      *Message // nil if there is none
	willDelay time.Duration
	willProps properties
	props     properties
}

// decodeConnect reads a CONNECT. Of a faulty one it returns the version as far
// as it is known, so that the refusal has the right form.
func decodeConnect(f frame) (c connect, err error) {
	if f.flags != 0 {
		return c, errMalformed
	}
	d := decoder{b: f.body}
	name, level := d.string(), d.byte()
	switch {
	case d.bad:
		return c, errMalformed
	case name == "MQIsdp", name == "MQTT" && level < 4:
		c.version = 4
		return c, misuse(codeUnsupportedVersion, "unsupported protocol level")
	case name == "MQTT" && level > 5:
		c.version = 5
		return c, misuse(codeUnsupportedVersion, "unsupported protocol level")
	case name != "MQTT":
		return c, errMalformed
	}
	c.version = level
	if level == 5 && f.padded {
		return c, errMalformed
	}
	flags := d.byte()
	will, willQoS, willRetain := flags&0x04 != 0, flags>>3&3, flags&0x20 != 0
	password, username := flags&0x40 != 0, flags&0x80 != 0
	if flags&1 != 0 || willQoS == 3 || (!will && (willQoS != 0 || willRetain)) || (level == 4 && password && !username) {
		return c, errMalformed
	}
	c.clean = flags&0x02 != 0
	c.keepAlive = d.uint16()
	if level == 5 {
		if c.props, err = d.properties(connectProperties...); err != nil {
			return c, err
		}
	}
	c.id = d.string()
	if will {
		if level == 5 {
			if c.willProps, err = d.properties(willProperties...); err != nil {
				return c, err
			}
			c.willDelay = time.Duration(c.willProps.willDelay) * time.Second
		}
		c.will = &Message{QoS: willQoS, Retain: willRetain}
		c.will.Topic, c.will.Payload = d.string(), bytes.Clone(d.bytes())
	}
	if username {
		c.username = d.string()
	}
	if password {
		c.password = bytes.Clone(d.bytes())
	}
	if d.bad || len(d.b) > 0 {
		return c, errMalformed
	}
	switch {
	case c.props.has(propAuthData) && !c.props.has(propAuthMethod):
		return c, misuse(codeProtocolError, "authentication data without a method")
	case c.props.has(propAuthMethod):
		return c, misuse(codeBadAuthMethod, "enhanced authentication is not supported")
	}
	return c, nil
}

// publish is a PUBLISH.
type publish struct {
	message Message
	id      uint16
	props   properties
}

func decodePublish(f frame, version byte, now time.Time) (p publish, err error) {
	qos := f.flags >> 1 & 3
	switch {
	case qos == 3, qos == 0 && f.flags&0x08 != 0:
		return p, errMalformed
	case qos == 2:
		return p, misuse(codeQoSNotSupported, "QoS 2 is not supported")
	}
	d := decoder{b: f.body}
	p.message = Message{QoS: qos, Retain: f.flags&1 != 0}
	p.message.Topic = d.string()
	if qos > 0 {
		if p.id = d.uint16(); p.id == 0 {
			return p, errMalformed
		}
	}
	if version == 5 {
		if p.props, err = d.properties(publishProperties...); err != nil {
			return p, err
		}
		p.props.attach(&p.message, now)
	}
	if d.bad {
		return p, errMalformed
	}
	p.message.Payload = d.b
	return p, nil
}

// request is one filter of a SUBSCRIBE.
type request struct {
	filter         string
	options        options
	retainHandling byte
}

func decodeSubscribe(f frame, version byte) (id uint16, filters []request, err error) {
	d := decoder{b: f.body}
	if id = d.uint16(); id == 0 || f.flags != 2 {
		return 0, nil, errMalformed
	}
	if version == 5 {
		p, err := d.properties(subscribeProperties...)
		if err != nil {
			return 0, nil, err
		}
		if p.has(propSubscriptionID) {
			return 0, nil, misuse(codeSubIDNotSupported, "subscription identifiers are not supported")
		}
	}
	for len(d.b) > 0 {
		r := request{filter: d.string()}
		o := d.byte()
		switch {
		case version == 4 && o > 2, o > 0x3f: // reserved bits
			return 0, nil, errMalformed
		case o&3 == 3, o>>4 == 3:
			return 0, nil, misuse(codeProtocolError, "subscription options out of range")
		}
		r.options = options{qos: min(o&3, 1), noLocal: o&0x04 != 0, retainAsPublished: o&0x08 != 0}
		r.retainHandling = o >> 4
		filters = append(filters, r)
	}
	if d.bad {
		return 0, nil, errMalformed
	}
	if len(filters) == 0 {
		return 0, nil, misuse(codeProtocolError, "no filter")
	}
	return id, filters, nil
}

func decodeUnsubscribe(f frame, version byte) (id uint16, filters []string, err error) {
	d := decoder{b: f.body}
	if id = d.uint16(); id == 0 || f.flags != 2 {
		return 0, nil, errMalformed
	}
	if version == 5 {
		if _, err := d.properties(propUser); err != nil {
			return 0, nil, err
		}
	}
	for len(d.b) > 0 {
		filter := d.string()
		if filter == "" { // (MQTT 5 §4.7.3)
			return 0, nil, errMalformed
		}
		filters = append(filters, filter)
	}
	if d.bad {
		return 0, nil, errMalformed
	}
	if len(filters) == 0 {
		return 0, nil, misuse(codeProtocolError, "no filter")
	}
	return id, filters, nil
}

func decodePuback(f frame, version byte) (id uint16, err error) {
	d := decoder{b: f.body}
	id = d.uint16()
	if version == 5 && len(d.b) > 0 {
		// Whatever the client thinks of the message, it has it.
		if code := d.byte(); !contains(pubackCodes, code) {
			return 0, misuse(codeProtocolError, "reason code not allowed here")
		}
		if len(d.b) > 0 {
			if _, err := d.properties(ackProperties...); err != nil {
				return 0, err
			}
		}
	}
	if d.bad || id == 0 || f.flags != 0 || len(d.b) > 0 {
		return 0, errMalformed
	}
	return id, nil
}

func decodeDisconnect(f frame, version byte) (code byte, p properties, err error) {
	d := decoder{b: f.body}
	if version == 5 && len(d.b) > 0 {
		if code = d.byte(); !contains(disconnectCodes, code) {
			return 0, p, misuse(codeProtocolError, "reason code not allowed here")
		}
		if len(d.b) > 0 {
			if p, err = d.properties(disconnectProperties...); err != nil {
				return 0, p, err
			}
		}
	}
	if d.bad || f.flags != 0 || len(d.b) > 0 {
		return 0, p, errMalformed
	}
	return code, p, nil
}

// appendLength appends a variable byte integer.
func appendLength(b []byte, n int) []byte {
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

func lengthSize(n int) int {
	size := 1
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// appendPacket appends a whole packet whose body is at hand.
func appendPacket(b []byte, first byte, body ...[]byte) []byte {
	n := 0
	for _, part := range body {
		n += len(part)
	}
	b = appendLength(append(b, first), n)
	for _, part := range body {
		b = append(b, part...)
	}
	return b
}

// propertyList frames a list of properties with its length.
func propertyList(list []byte) []byte { return append(appendLength(nil, len(list)), list...) }

// encodePublish encodes m at the given QoS. idAt is where the packet id is, for
// copies that differ only in it. expires and now are for MQTT 5, which is told
// how many seconds are left.
func encodePublish(m *Message, version, qos byte, retain, dup bool, id uint16, now time.Time) (packet []byte, idAt int) {
	return appendPublish(nil, m, version, qos, retain, dup, id, now)
}

func appendPublish(b []byte, m *Message, version, qos byte, retain, dup bool, id uint16, now time.Time) (_ []byte, idAt int) {
	var props []byte
	if version == 5 {
		props = messageList(m, now)
	}
	size := 2 + len(m.Topic) + len(m.Payload)
	if qos > 0 {
		size += 2
	}
	if version == 5 {
		size += lengthSize(len(props)) + len(props)
	}
	first := byte(typePublish<<4) | qos<<1
	if retain {
		first |= 1
	}
	if dup {
		first |= 8
	}
	b = slices.Grow(b, 1+lengthSize(size)+size)
	b = appendString(appendLength(append(b, first), size), m.Topic)
	if qos > 0 {
		idAt = len(b)
		b = binary.BigEndian.AppendUint16(b, id)
	}
	if version == 5 {
		b = append(appendLength(b, len(props)), props...)
	}
	return append(b, m.Payload...), idAt
}

func messageList(m *Message, now time.Time) (b []byte) {
	if !m.Expires.IsZero() {
		// Less the whole seconds that it has waited (MQTT 5 3.3.2.3.3): one that goes on at once
		// keeps its interval. Less than a second is 0 (spec §2.17).
		left := m.Expires.Sub(now)
		if left < time.Second {
			left = 0
		}
		left = (left + time.Second - 1) / time.Second
		b = binary.BigEndian.AppendUint32(append(b, propMessageExpiry), uint32(left))
	}
	p := m.Properties
	if p == nil {
		return b
	}
	if p.UTF8 {
		b = append(b, propPayloadFormat, 1)
	}
	if p.ContentType != "" {
		b = appendString(append(b, propContentType), p.ContentType)
	}
	if p.ResponseTopic != "" {
		b = appendString(append(b, propResponseTopic), p.ResponseTopic)
	}
	if p.CorrelationData != nil {
		b = appendString(append(b, propCorrelationData), string(p.CorrelationData))
	}
	for _, u := range p.User {
		b = appendString(appendString(append(b, propUser), u.Key), u.Value)
	}
	return b
}

// appendPuback acknowledges a PUBLISH; a code other than 0 only exists in
// MQTT 5.
func appendPuback(b []byte, id uint16, code byte) []byte {
	if code == codeSuccess {
		return append(b, typePuback<<4, 2, byte(id>>8), byte(id))
	}
	return append(b, typePuback<<4, 3, byte(id>>8), byte(id), code)
}

// encodeAcks encodes a SUBACK or UNSUBACK.
func encodeAcks(kind, version byte, id uint16, codes []byte) []byte {
	head := []byte{byte(id >> 8), byte(id)}
	switch {
	case version == 5:
		return appendPacket(nil, kind<<4, head, []byte{0}, codes)
	case kind == typeUnsuback:
		return appendPacket(nil, kind<<4, head)
	}
	return appendPacket(nil, kind<<4, head, codes)
}

// encodeDisconnect tells an MQTT 5 client why its connection ends.
func encodeDisconnect(code byte) []byte { return []byte{typeDisconnect << 4, 1, code} }

// encodeRefusal is the CONNACK that refuses a connection, or nil where the
// version has no word for it and the socket is closed (spec §2.10).
func encodeRefusal(version, code byte) []byte {
	switch version {
	case 5:
		return appendPacket(nil, typeConnack<<4, []byte{0, code, 0})
	case 4:
		var short byte
		switch code {
		case codeUnsupportedVersion:
			short = connackUnacceptableLevel
		case codeClientIDInvalid:
			short = 2
		case codeShuttingDown, codeQuotaExceeded, codeUnavailable:
			short = 3
		case codeBadCredentials:
			short = 4
		case codeNotAuthorized:
			short = 5
		default:
			return nil
		}
		return []byte{typeConnack << 4, 2, 0, short}
	}
	return nil
}
