package fleetsim

import (
	"fmt"
	"io"
	"time"

	v5 "github.com/eclipse/paho.golang/packets"
	v4 "github.com/eclipse/paho.mqtt.golang/packets"
)

// packet is what a device reads of an MQTT control packet of either version.
type packet struct {
	kind      byte          // control packet type, the same numbers in both versions
	code      byte          // CONNACK, PUBACK, DISCONNECT: the reason; SUBACK: the worst one
	id        uint16        // PUBLISH of QoS 1, PUBACK, SUBACK
	qos       byte          // PUBLISH
	topic     string        // PUBLISH
	payload   []byte        // PUBLISH
	keepAlive time.Duration // CONNACK: what the server demands instead of what was asked for; 0 if nothing
	reason    string        // MQTT 5: the server's own words, often empty
}

// codec reads and writes the few packets that a device needs. Its
// implementations have no state.
type codec interface {
	// connect asks for a session that is kept for an hour after the connection, if it is to.
	connect(w io.Writer, clientID string, keepAlive uint16, kept bool) error
	subscribe(w io.Writer, id uint16, filters []string) error
	publish(w io.Writer, id uint16, topic string, payload []byte) error
	puback(w io.Writer, id uint16) error
	ping(w io.Writer) error
	disconnect(w io.Writer) error
	read(r io.Reader) (packet, error)
}

// codec4 is MQTT 3.1.1.
type codec4 struct{}

func (codec4) connect(w io.Writer, clientID string, keepAlive uint16, kept bool) error {
	p := v4.NewControlPacket(v4.Connect).(*v4.ConnectPacket)
	p.ProtocolName, p.ProtocolVersion = "MQTT", 4
	p.CleanSession = !kept
	p.ClientIdentifier = clientID
	p.Keepalive = keepAlive
	return p.Write(w)
}

func (codec4) subscribe(w io.Writer, id uint16, filters []string) error {
	p := v4.NewControlPacket(v4.Subscribe).(*v4.SubscribePacket)
	p.MessageID = id
	for _, filter := range filters {
		p.Topics = append(p.Topics, filter)
		p.Qoss = append(p.Qoss, 1)
	}
	return p.Write(w)
}

func (codec4) publish(w io.Writer, id uint16, topic string, payload []byte) error {
	p := v4.NewControlPacket(v4.Publish).(*v4.PublishPacket)
	p.Qos, p.MessageID = 1, id
	p.TopicName, p.Payload = topic, payload
	return p.Write(w)
}

func (codec4) puback(w io.Writer, id uint16) error {
	p := v4.NewControlPacket(v4.Puback).(*v4.PubackPacket)
	p.MessageID = id
	return p.Write(w)
}

func (codec4) ping(w io.Writer) error { return v4.NewControlPacket(v4.Pingreq).Write(w) }

func (codec4) disconnect(w io.Writer) error { return v4.NewControlPacket(v4.Disconnect).Write(w) }

func (codec4) read(r io.Reader) (packet, error) {
	cp, err := v4.ReadPacket(r)
	if err != nil {
		return packet{}, err
	}
	switch p := cp.(type) {
	case *v4.PublishPacket:
		return packet{kind: v5.PUBLISH, id: p.MessageID, qos: p.Qos, topic: p.TopicName, payload: p.Payload}, nil
	case *v4.PubackPacket:
		return packet{kind: v5.PUBACK, id: p.MessageID}, nil
	case *v4.SubackPacket:
		return packet{kind: v5.SUBACK, id: p.MessageID, code: worst(p.ReturnCodes)}, nil
	case *v4.ConnackPacket:
		return packet{kind: v5.CONNACK, code: p.ReturnCode, reason: v4.ConnackReturnCodes[p.ReturnCode]}, nil
	case *v4.PingrespPacket:
		return packet{kind: v5.PINGRESP}, nil
	default:
		return packet{}, fmt.Errorf("unexpected packet: %s", cp)
	}
}

// codec5 is MQTT 5.
type codec5 struct{}

func (codec5) write(w io.Writer, kind byte, fill func(content v5.Packet)) error {
	p := v5.NewControlPacket(kind)
	if fill != nil {
		fill(p.Content)
	}
	_, err := p.WriteTo(w)
	return err
}

func (c codec5) connect(w io.Writer, clientID string, keepAlive uint16, kept bool) error {
	return c.write(w, v5.CONNECT, func(content v5.Packet) {
		p := content.(*v5.Connect)
		if p.CleanStart = !kept; kept {
			expiry := uint32(3600)
			p.Properties.SessionExpiryInterval = &expiry
		}
		p.ClientID = clientID
		p.KeepAlive = keepAlive
	})
}

func (c codec5) subscribe(w io.Writer, id uint16, filters []string) error {
	return c.write(w, v5.SUBSCRIBE, func(content v5.Packet) {
		p := content.(*v5.Subscribe)
		p.PacketID = id
		for _, filter := range filters {
			p.Subscriptions = append(p.Subscriptions, v5.SubOptions{Topic: filter, QoS: 1})
		}
	})
}

func (c codec5) publish(w io.Writer, id uint16, topic string, payload []byte) error {
	return c.write(w, v5.PUBLISH, func(content v5.Packet) {
		p := content.(*v5.Publish)
		p.QoS, p.PacketID = 1, id
		p.Topic, p.Payload = topic, payload
	})
}

func (c codec5) puback(w io.Writer, id uint16) error {
	return c.write(w, v5.PUBACK, func(content v5.Packet) { content.(*v5.Puback).PacketID = id })
}

func (c codec5) ping(w io.Writer) error { return c.write(w, v5.PINGREQ, nil) }

func (c codec5) disconnect(w io.Writer) error { return c.write(w, v5.DISCONNECT, nil) }

func (codec5) read(r io.Reader) (packet, error) {
	cp, err := v5.ReadPacket(r)
	if err != nil {
		return packet{}, err
	}
	switch p := cp.Content.(type) {
	case *v5.Publish:
		return packet{kind: v5.PUBLISH, id: p.PacketID, qos: p.QoS, topic: p.Topic, payload: p.Payload}, nil
	case *v5.Puback:
		return packet{kind: v5.PUBACK, id: p.PacketID, code: p.ReasonCode, reason: words(p.Properties)}, nil
	case *v5.Suback:
		return packet{kind: v5.SUBACK, id: p.PacketID, code: worst(p.Reasons), reason: words(p.Properties)}, nil
	case *v5.Connack:
		out := packet{kind: v5.CONNACK, code: p.ReasonCode, reason: words(p.Properties)}
		if p.Properties != nil && p.Properties.ServerKeepAlive != nil {
			out.keepAlive = time.Duration(*p.Properties.ServerKeepAlive) * time.Second
		}
		return out, nil
	case *v5.Pingresp:
		return packet{kind: v5.PINGRESP}, nil
	case *v5.Disconnect:
		return packet{kind: v5.DISCONNECT, code: p.ReasonCode, reason: words(p.Properties)}, nil
	default:
		return packet{}, fmt.Errorf("unexpected packet: %s", cp.PacketType())
	}
}

func words(p *v5.Properties) string {
	if p == nil {
		return ""
	}
	return p.ReasonString
}

// worst returns the highest code: in both versions failures are 0x80 and above.
func worst(codes []byte) byte {
	var w byte
	for _, c := range codes {
		w = max(w, c)
	}
	return w
}
