// Package mqtttest is MQTT 3.1.1 and 5 for tests, byte by byte. Packets are built from their
// parts, right or wrong, and what a server answers is taken apart without being judged. It
// shares no code with what it tests.
package mqtttest

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// Types of packets, the upper half of the first byte.
const (
	CONNECT     = 1
	CONNACK     = 2
	PUBLISH     = 3
	PUBACK      = 4
	PUBREC      = 5
	PUBREL      = 6
	PUBCOMP     = 7
	SUBSCRIBE   = 8
	SUBACK      = 9
	UNSUBSCRIBE = 10
	UNSUBACK    = 11
	PINGREQ     = 12
	PINGRESP    = 13
	DISCONNECT  = 14
	AUTH        = 15
)

// Properties of MQTT 5.
const (
	PayloadFormat      = 0x01
	MessageExpiry      = 0x02
	ContentType        = 0x03
	ResponseTopic      = 0x08
	CorrelationData    = 0x09
	SubscriptionID     = 0x0B
	SessionExpiry      = 0x11
	AssignedClientID   = 0x12
	ServerKeepAlive    = 0x13
	AuthMethod         = 0x15
	AuthData           = 0x16
	RequestProblemInfo = 0x17
	WillDelay          = 0x18
	RequestResponse    = 0x19
	ReasonString       = 0x1F
	ReceiveMaximum     = 0x21
	TopicAliasMaximum  = 0x22
	TopicAlias         = 0x23
	MaximumQoS         = 0x24
	RetainAvailable    = 0x25
	UserProperty       = 0x26
	MaximumPacketSize  = 0x27
	WildcardAvailable  = 0x28
	SubIDAvailable     = 0x29
	SharedAvailable    = 0x2A
)

// Each kind of property value, by the properties that have it.
var (
	bytes1 = []byte{PayloadFormat, RequestProblemInfo, RequestResponse, MaximumQoS, RetainAvailable, WildcardAvailable, SubIDAvailable, SharedAvailable}
	bytes2 = []byte{ServerKeepAlive, ReceiveMaximum, TopicAliasMaximum, TopicAlias}
	bytes4 = []byte{MessageExpiry, SessionExpiry, WillDelay, MaximumPacketSize}
	texts  = []byte{ContentType, ResponseTopic, CorrelationData, AssignedClientID, AuthMethod, AuthData, ReasonString}
)

// Packet is a packet as it was received.
type Packet struct {
	Type, Flags byte
	Body        []byte // what follows the remaining length
}

func (p Packet) String() string {
	return fmt.Sprintf("packet %d flags %x body % x", p.Type, p.Flags, p.Body)
}

// Frame is a packet with the parts as its body and their length in front.
func Frame(first byte, parts ...[]byte) []byte {
	body := slices.Concat(parts...)
	return slices.Concat([]byte{first}, Length(len(body)), body)
}

// Length is a variable byte integer.
func Length(n int) (b []byte) {
	for {
		digit := byte(n & 0x7F)
		if n >>= 7; n > 0 {
			b = append(b, digit|0x80)
			continue
		}
		return append(b, digit)
	}
}

// String is a text, or binary data, with its length in front.
func String(s string) []byte { return append(Two(len(s)), s...) }

// Two is an integer of two bytes.
func Two(n int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(n)) }

// Four is an integer of four bytes.
func Four(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }

// Prop is a property: value is the number or the string that its kind takes.
func Prop(id byte, value any) []byte {
	switch v := value.(type) {
	case string:
		return append([]byte{id}, String(v)...)
	case int:
		switch {
		case slices.Contains(bytes1, id):
			return []byte{id, byte(v)}
		case slices.Contains(bytes2, id):
			return append([]byte{id}, Two(v)...)
		case slices.Contains(bytes4, id):
			return append([]byte{id}, Four(v)...)
		}
		return append([]byte{id}, Length(v)...)
	}
	panic(fmt.Sprintf("mqtttest: a property of type %T", value))
}

// User is a user property.
func User(key, value string) []byte {
	return slices.Concat([]byte{UserProperty}, String(key), String(value))
}

// Connect is a CONNECT packet.
type Connect struct {
	Version    byte // 4 for MQTT 3.1.1, 5
	ID         string
	Persistent bool // cleanSession 0, Clean Start 0
	KeepAlive  int  // seconds
	Username   string
	Props      []byte
	Will       *Publish // its properties are those of the will
}

// Encode returns the packet.
func (c Connect) Encode() []byte {
	flags := byte(2)
	if c.Persistent {
		flags = 0
	}
	if c.Will != nil {
		flags |= 4 | c.Will.QoS<<3
		if c.Will.Retain {
			flags |= 0x20
		}
	}
	if c.Username != "" {
		flags |= 0x80
	}
	body := slices.Concat(String("MQTT"), []byte{c.Version, flags}, Two(c.KeepAlive), props(c.Version, c.Props), String(c.ID))
	if c.Will != nil {
		body = slices.Concat(body, props(c.Version, c.Will.Props), String(c.Will.Topic), String(c.Will.Payload))
	}
	if c.Username != "" {
		body = append(body, String(c.Username)...)
	}
	return Frame(CONNECT<<4, body)
}

func props(version byte, list []byte) []byte {
	if version != 5 {
		return nil
	}
	return append(Length(len(list)), list...)
}

// Publish is a PUBLISH packet, sent or received.
type Publish struct {
	Topic, Payload string
	QoS            byte
	Retain, Dup    bool
	ID             int // packet identifier, for a QoS above 0
	Props          []byte
}

// Encode returns the packet for a version.
func (p Publish) Encode(version byte) []byte {
	first := byte(PUBLISH<<4) | p.QoS<<1
	if p.Retain {
		first |= 1
	}
	if p.Dup {
		first |= 8
	}
	var id []byte
	if p.QoS > 0 {
		id = Two(p.ID)
	}
	return Frame(first, String(p.Topic), id, props(version, p.Props), []byte(p.Payload))
}

// Filter is a subscription in a SUBSCRIBE.
type Filter struct {
	Filter  string
	Options byte // the QoS, and in MQTT 5 No Local (4), Retain As Published (8), Retain Handling (16, 32)
}

// Subscribe returns a SUBSCRIBE packet.
func Subscribe(version byte, id int, list []byte, filters ...Filter) []byte {
	body := append(Two(id), props(version, list)...)
	for _, f := range filters {
		body = append(append(body, String(f.Filter)...), f.Options)
	}
	return Frame(SUBSCRIBE<<4|2, body)
}

// Unsubscribe returns an UNSUBSCRIBE packet.
func Unsubscribe(version byte, id int, list []byte, filters ...string) []byte {
	body := append(Two(id), props(version, list)...)
	for _, f := range filters {
		body = append(body, String(f)...)
	}
	return Frame(UNSUBSCRIBE<<4|2, body)
}

// Puback returns a PUBACK packet of success.
func Puback(id int) []byte { return Frame(PUBACK<<4, Two(id)) }

// Disconnect returns a DISCONNECT packet.
func Disconnect(version, code byte, list []byte) []byte {
	if version != 5 {
		return Frame(DISCONNECT << 4)
	}
	return Frame(DISCONNECT<<4, []byte{code}, props(version, list))
}

// Pingreq is a PINGREQ packet.
var Pingreq = Frame(PINGREQ << 4)

// reader takes a body apart. Once something is missing all that follows is zero.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) take(n int) []byte {
	if n > len(r.rest) {
		r.err = fmt.Errorf("%d bytes where %d should be", len(r.rest), n)
		r.rest = nil
		return make([]byte, n)
	}
	var b []byte
	b, r.rest = r.rest[:n], r.rest[n:]
	return b
}

func (r *reader) two() int     { return int(binary.BigEndian.Uint16(r.take(2))) }
func (r *reader) text() string { return string(r.take(r.two())) }
func (r *reader) length() (n int) {
	for shift := 0; shift < 28; shift += 7 {
		digit := r.take(1)[0]
		n |= int(digit&0x7F) << shift
		if digit < 0x80 {
			break
		}
	}
	return n
}

// Props are the properties of a packet that was received, by identifier. Numbers are int,
// user properties [2]string.
type Props map[byte][]any

// Int returns a number, and -1 if the property is absent.
func (p Props) Int(id byte) int {
	if len(p[id]) == 0 {
		return -1
	}
	return p[id][0].(int)
}

// Text returns a string, and "" if the property is absent.
func (p Props) Text(id byte) string {
	if len(p[id]) == 0 {
		return ""
	}
	return p[id][0].(string)
}

func (r *reader) props(version byte) Props {
	if version != 5 || len(r.rest) == 0 {
		return nil
	}
	in := reader{rest: r.take(r.length())}
	all := Props{}
	for len(in.rest) > 0 {
		id := in.take(1)[0]
		var v any
		switch {
		case slices.Contains(bytes1, id):
			v = int(in.take(1)[0])
		case slices.Contains(bytes2, id):
			v = in.two()
		case slices.Contains(bytes4, id):
			v = int(binary.BigEndian.Uint32(in.take(4)))
		case slices.Contains(texts, id):
			v = in.text()
		case id == UserProperty:
			v = [2]string{in.text(), in.text()}
		case id == SubscriptionID:
			v = in.length()
		default:
			in.err = fmt.Errorf("unknown property %#x", id)
			in.rest = nil
		}
		all[id] = append(all[id], v)
	}
	if in.err != nil {
		r.err = in.err
	}
	return all
}

// Connack is a CONNACK that was received.
type Connack struct {
	Present bool
	Code    byte
	Props   Props
}

// Connack takes a CONNACK apart.
func (p Packet) Connack(version byte) (c Connack, err error) {
	if p.Type != CONNACK {
		return c, fmt.Errorf("%v is no CONNACK", p)
	}
	r := reader{rest: p.Body}
	head := r.take(2)
	c = Connack{Present: head[0] == 1, Code: head[1], Props: r.props(version)}
	return c, r.done()
}

func (r *reader) done() error {
	if r.err == nil && len(r.rest) > 0 {
		return fmt.Errorf("%d bytes too many", len(r.rest))
	}
	return r.err
}

// Publish takes a PUBLISH apart; its properties come apart from it.
func (p Packet) Publish(version byte) (m Publish, props Props, err error) {
	if p.Type != PUBLISH {
		return m, nil, fmt.Errorf("%v is no PUBLISH", p)
	}
	r := reader{rest: p.Body}
	m = Publish{Topic: r.text(), QoS: p.Flags >> 1 & 3, Retain: p.Flags&1 != 0, Dup: p.Flags&8 != 0}
	if m.QoS > 0 {
		m.ID = r.two()
	}
	props = r.props(version)
	m.Payload, r.rest = string(r.rest), nil
	return m, props, r.done()
}

// Ack is a PUBACK, SUBACK, UNSUBACK or DISCONNECT that was received.
type Ack struct {
	ID    int    // 0 of a DISCONNECT
	Codes []byte // one a filter; one of success for a PUBACK or DISCONNECT that leaves it out
	Props Props
}

// Ack takes a PUBACK, SUBACK, UNSUBACK or DISCONNECT apart.
func (p Packet) Ack(version byte) (a Ack, err error) {
	r := reader{rest: p.Body}
	if p.Type != DISCONNECT {
		a.ID = r.two()
	}
	switch p.Type {
	case PUBACK, DISCONNECT:
		a.Codes = []byte{0}
		if len(r.rest) > 0 {
			a.Codes = r.take(1)
		}
		a.Props = r.props(version)
	case SUBACK, UNSUBACK:
		a.Props = r.props(version)
		a.Codes = r.take(len(r.rest))
	default:
		return a, fmt.Errorf("%v acknowledges nothing", p)
	}
	return a, r.done()
}
