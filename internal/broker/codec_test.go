package broker

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	v5 "github.com/eclipse/paho.golang/packets"
	v4 "github.com/eclipse/paho.mqtt.golang/packets"
	"pgregory.net/rapid"
)

// The codec against Eclipse Paho's, which we have not written: what either takes in, the
// other reads in the same way.

// said is what a packet of a client says, in a form that both codecs can be brought into.
type said struct {
	kind    byte
	id      uint16
	code    byte
	client  string
	clean   bool
	alive   uint16
	qos     byte
	retain  bool
	topic   string
	payload string
	filters string
	props   string
	will    string
}

// props is what our properties say, theirProps what Paho's do.
func props(p *properties) string {
	return propText(p.message.UTF8, p.messageExpiry, p.message.ContentType, p.message.ResponseTopic, p.message.CorrelationData,
		p.sessionExpiry, p.willDelay, p.maximumPacket, p.receiveMax, p.topicAlias, p.message.User)
}

func theirProps(p *v5.Properties) string {
	if p == nil {
		p = new(v5.Properties)
	}
	var user []UserProperty
	for _, u := range p.User {
		user = append(user, UserProperty(u))
	}
	return propText(value(p.PayloadFormat) == 1, value(p.MessageExpiry), p.ContentType, p.ResponseTopic, p.CorrelationData,
		value(p.SessionExpiryInterval), value(p.WillDelayInterval), value(p.MaximumPacketSize), value(p.ReceiveMaximum), value(p.TopicAlias), user)
}

func propText(utf8 bool, life uint32, content, response string, correlation []byte, session, delay, size uint32, receive, alias uint16, user []UserProperty) string {
	return fmt.Sprintf("%t %d %q %q %x %d %d %d %d %d %q", utf8, life, content, response, correlation, session, delay, size, receive, alias, user)
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// ourView decodes a packet as a connection does.
func ourView(f frame, version byte) (s said, err error) {
	if f.padded && version == 5 {
		return s, errMalformed
	}
	s.kind = f.kind
	switch f.kind {
	case typeConnect:
		c, err := decodeConnect(f)
		if err != nil {
			return s, err
		}
		s.client, s.clean, s.alive, s.props = c.id, c.clean, c.keepAlive, props(&c.props)
		if c.will != nil {
			s.will = fmt.Sprintf("%s %q %d %t %s", c.will.Topic, c.will.Payload, c.will.QoS, c.will.Retain, props(&c.willProps))
		}
	case typePublish:
		p, err := decodePublish(f, version, time.Time{})
		if err != nil {
			return s, err
		}
		m := p.message
		s.id, s.qos, s.retain, s.topic, s.payload, s.props = p.id, m.QoS, m.Retain, m.Topic, string(m.Payload), props(&p.props)
	case typePuback:
		s.id, err = decodePuback(f, version)
	case typeSubscribe:
		var list []request
		s.id, list, err = decodeSubscribe(f, version)
		for _, r := range list {
			s.filters += fmt.Sprintf("%q %d %t %t %d,", r.filter, r.options.qos, r.options.noLocal, r.options.retainAsPublished, r.retainHandling)
		}
	case typeUnsubscribe:
		var list []string
		s.id, list, err = decodeUnsubscribe(f, version)
		s.filters = fmt.Sprintf("%q", list)
	case typePingreq:
		if f.flags != 0 || len(f.body) > 0 {
			err = errMalformed
		}
	case typeDisconnect:
		var p properties
		if s.code, p, err = decodeDisconnect(f, version); version == 5 {
			s.props = props(&p)
		}
	default:
		err = errMalformed
	}
	return s, err
}

func theirView(packet []byte, version byte) (said, error) {
	if version == 5 {
		return theirView5(packet)
	}
	p, err := v4.ReadPacket(bytes.NewReader(packet))
	if err != nil {
		return said{}, err
	}
	none := props(new(properties))
	switch p := p.(type) {
	case *v4.ConnectPacket:
		s := said{kind: typeConnect, client: p.ClientIdentifier, clean: p.CleanSession, alive: p.Keepalive, props: none}
		if p.WillFlag {
			s.will = fmt.Sprintf("%s %q %d %t %s", p.WillTopic, p.WillMessage, p.WillQos, p.WillRetain, none)
		}
		return s, nil
	case *v4.PublishPacket:
		return said{kind: typePublish, id: p.MessageID, qos: p.Qos, retain: p.Retain, topic: p.TopicName, payload: string(p.Payload), props: none}, nil
	case *v4.PubackPacket:
		return said{kind: typePuback, id: p.MessageID}, nil
	case *v4.SubscribePacket:
		s := said{kind: typeSubscribe, id: p.MessageID}
		for i, topic := range p.Topics {
			s.filters += fmt.Sprintf("%q %d false false 0,", topic, min(p.Qoss[i], 1))
		}
		return s, nil
	case *v4.UnsubscribePacket:
		return said{kind: typeUnsubscribe, id: p.MessageID, filters: fmt.Sprintf("%q", p.Topics)}, nil
	case *v4.PingreqPacket:
		return said{kind: typePingreq}, nil
	case *v4.DisconnectPacket:
		return said{kind: typeDisconnect}, nil
	}
	return said{}, fmt.Errorf("not of a client: %v", p)
}

func theirView5(packet []byte) (said, error) {
	if bytes.Equal(packet, []byte{typeDisconnect << 4, 0}) { // allowed (MQTT 5 §3.14.2.1), and unknown to Paho
		return said{kind: typeDisconnect, props: theirProps(nil)}, nil
	}
	p, err := v5.ReadPacket(bytes.NewReader(packet))
	if err != nil {
		return said{}, err
	}
	switch p := p.Content.(type) {
	case *v5.Connect:
		s := said{kind: typeConnect, client: p.ClientID, clean: p.CleanStart, alive: p.KeepAlive, props: theirProps(p.Properties)}
		if p.WillFlag {
			s.will = fmt.Sprintf("%s %q %d %t %s", p.WillTopic, p.WillMessage, p.WillQOS, p.WillRetain, theirProps(p.WillProperties))
		}
		return s, nil
	case *v5.Publish:
		return said{kind: typePublish, id: p.PacketID, qos: p.QoS, retain: p.Retain, topic: p.Topic, payload: string(p.Payload), props: theirProps(p.Properties)}, nil
	case *v5.Puback:
		return said{kind: typePuback, id: p.PacketID}, nil
	case *v5.Subscribe:
		s := said{kind: typeSubscribe, id: p.PacketID}
		for _, o := range p.Subscriptions {
			s.filters += fmt.Sprintf("%q %d %t %t %d,", o.Topic, min(o.QoS, 1), o.NoLocal, o.RetainAsPublished, o.RetainHandling)
		}
		return s, nil
	case *v5.Unsubscribe:
		return said{kind: typeUnsubscribe, id: p.PacketID, filters: fmt.Sprintf("%q", p.Topics)}, nil
	case *v5.Pingreq:
		return said{kind: typePingreq}, nil
	case *v5.Disconnect:
		return said{kind: typeDisconnect, code: p.ReasonCode, props: theirProps(p.Properties)}, nil
	}
	return said{}, fmt.Errorf("not of a client: %v", p)
}

// FuzzCodec: what we take in, Paho reads in the same way.
func FuzzCodec(f *testing.F) {
	for _, version := range []byte{4, 5} {
		for _, packet := range corpus(version) {
			f.Add(packet, version == 5)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, five bool) {
		version := byte(4)
		if five {
			version = 5
		}
		fr, size, err := parseFrame(data, 1<<16)
		if err != nil || size == 0 || size > len(data) {
			return
		}
		if fr.kind == typeConnect {
			if c, err := decodeConnect(fr); err == nil {
				version = c.version
			}
		}
		ours, err := ourView(fr, version)
		if err != nil || strings.Contains(ours.filters, `""`) { // which is refused later, and the end of the list for Paho
			return
		}
		theirs, err := theirView(data[:size], version)
		if err != nil {
			t.Fatalf("we read % x as %+v, Paho: %v", data[:size], ours, err)
		}
		if ours != theirs {
			t.Fatalf("% x is\n%+v, for Paho\n%+v", data[:size], ours, theirs)
		}
	})
}

// What Paho's clients can say, we understand.
func TestCodecUnderstandsPaho(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		packet, version := drawPacket(t)
		f, err := readFrame(bufio.NewReader(bytes.NewReader(packet)), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		ours, err := ourView(f, version)
		if err != nil {
			t.Fatalf("% x: %v", packet, err)
		}
		theirs, err := theirView(packet, version)
		if err != nil || ours != theirs {
			t.Fatalf("% x is\n%+v, for Paho\n%+v, %v", packet, ours, theirs, err)
		}
	})
}

// drawPacket returns a packet of a client, encoded by Paho.
func drawPacket(t *rapid.T) (packet []byte, version byte) {
	var b bytes.Buffer
	text := rapid.StringMatching(`[a-zA-Z0-9 äß本]{0,20}`)
	topic := rapid.StringMatching(`[a-z/ä]{1,20}`)
	bytesOf := rapid.SliceOfN(rapid.Byte(), 0, 200)
	id := rapid.Uint16Range(1, 65_535)
	qos := rapid.ByteRange(0, 1).Draw(t, "qos")
	if version = rapid.SampledFrom([]byte{4, 5}).Draw(t, "version"); version == 4 {
		kind := rapid.SampledFrom([]byte{v4.Connect, v4.Publish, v4.Puback, v4.Subscribe, v4.Unsubscribe, v4.Pingreq, v4.Disconnect}).Draw(t, "kind")
		p := v4.NewControlPacket(kind)
		switch p := p.(type) {
		case *v4.ConnectPacket:
			p.ProtocolName, p.ProtocolVersion = "MQTT", 4
			p.CleanSession, p.Keepalive, p.ClientIdentifier = rapid.Bool().Draw(t, "clean"), rapid.Uint16().Draw(t, "alive"), text.Draw(t, "client")
			if p.UsernameFlag = rapid.Bool().Draw(t, "user"); p.UsernameFlag {
				p.Username = text.Draw(t, "name")
				p.PasswordFlag, p.Password = true, bytesOf.Draw(t, "password")
			}
			if p.WillFlag = rapid.Bool().Draw(t, "will"); p.WillFlag {
				p.WillTopic, p.WillMessage, p.WillQos, p.WillRetain = topic.Draw(t, "topic"), bytesOf.Draw(t, "message"), qos, rapid.Bool().Draw(t, "retain")
			}
		case *v4.PublishPacket:
			p.TopicName, p.Payload, p.Qos, p.Retain = topic.Draw(t, "topic"), bytesOf.Draw(t, "payload"), qos, rapid.Bool().Draw(t, "retain")
			if qos > 0 {
				p.MessageID, p.Dup = id.Draw(t, "id"), rapid.Bool().Draw(t, "dup")
			}
		case *v4.PubackPacket:
			p.MessageID = id.Draw(t, "id")
		case *v4.SubscribePacket:
			p.MessageID = id.Draw(t, "id")
			p.Topics = rapid.SliceOfN(topic, 1, 5).Draw(t, "filters")
			p.Qoss = slices.Repeat([]byte{qos}, len(p.Topics))
		case *v4.UnsubscribePacket:
			p.MessageID, p.Topics = id.Draw(t, "id"), rapid.SliceOfN(topic, 1, 5).Draw(t, "filters")
		}
		if err := p.Write(&b); err != nil {
			t.Fatal(err)
		}
		return b.Bytes(), version
	}

	number := rapid.Uint32Range(1, 1<<20)
	drawProps := func(name string, allowed []byte) *v5.Properties {
		p := new(v5.Properties)
		for _, id := range allowed {
			if !rapid.Bool().Draw(t, fmt.Sprint(name, id)) {
				continue
			}
			n := number.Draw(t, "number")
			short, bit := uint16(n%65_535+1), byte(n%2)
			switch id {
			case propPayloadFormat:
				p.PayloadFormat = &bit
			case propMessageExpiry:
				p.MessageExpiry = &n
			case propContentType:
				p.ContentType = text.Draw(t, "content")
			case propResponseTopic:
				p.ResponseTopic = topic.Draw(t, "response")
			case propCorrelationData:
				p.CorrelationData = bytesOf.Draw(t, "correlation")
			case propUser:
				for range 2 {
					p.User = append(p.User, v5.User{Key: text.Draw(t, "key"), Value: text.Draw(t, "value")})
				}
			case propSessionExpiry:
				p.SessionExpiryInterval = &n
			case propWillDelay:
				p.WillDelayInterval = &n
			case propMaximumPacketSize:
				p.MaximumPacketSize = &n
			case propReceiveMaximum:
				p.ReceiveMaximum = &short
			case propTopicAlias:
				p.TopicAlias = &short
			case propTopicAliasMaximum:
				p.TopicAliasMaximum = &short
			case propRequestProblemInfo:
				p.RequestProblemInfo = &bit
			case propRequestResponseInfo:
				p.RequestResponseInfo = &bit
			case propReasonString:
				p.ReasonString = text.Draw(t, "reason")
			}
		}
		return p
	}
	kind := rapid.SampledFrom([]byte{v5.CONNECT, v5.PUBLISH, v5.PUBACK, v5.SUBSCRIBE, v5.UNSUBSCRIBE, v5.PINGREQ, v5.DISCONNECT}).Draw(t, "kind")
	c := v5.NewControlPacket(kind)
	switch p := c.Content.(type) {
	case *v5.Connect:
		p.CleanStart, p.KeepAlive, p.ClientID = rapid.Bool().Draw(t, "clean"), rapid.Uint16().Draw(t, "alive"), text.Draw(t, "client")
		p.Properties = drawProps("p", connectProperties[:len(connectProperties)-2]) // no authentication
		if p.PasswordFlag = rapid.Bool().Draw(t, "password"); p.PasswordFlag {
			p.Password = bytesOf.Draw(t, "password")
		}
		if p.UsernameFlag = rapid.Bool().Draw(t, "user"); p.UsernameFlag {
			p.Username = text.Draw(t, "name")
		}
		if p.WillFlag = rapid.Bool().Draw(t, "will"); p.WillFlag {
			p.WillTopic, p.WillMessage, p.WillQOS, p.WillRetain = topic.Draw(t, "topic"), bytesOf.Draw(t, "message"), qos, rapid.Bool().Draw(t, "retain")
			p.WillProperties = drawProps("w", willProperties)
		}
	case *v5.Publish:
		p.Topic, p.Payload, p.QoS, p.Retain = topic.Draw(t, "topic"), bytesOf.Draw(t, "payload"), qos, rapid.Bool().Draw(t, "retain")
		if qos > 0 {
			p.PacketID, p.Duplicate = id.Draw(t, "id"), rapid.Bool().Draw(t, "dup")
		}
		p.Properties = drawProps("p", publishProperties)
	case *v5.Puback:
		p.PacketID, p.ReasonCode = id.Draw(t, "id"), rapid.SampledFrom(pubackCodes).Draw(t, "code")
		p.Properties = drawProps("p", ackProperties)
	case *v5.Subscribe:
		p.PacketID = id.Draw(t, "id")
		for _, filter := range rapid.SliceOfN(topic, 1, 5).Draw(t, "filters") {
			p.Subscriptions = append(p.Subscriptions, v5.SubOptions{Topic: filter, QoS: qos, NoLocal: rapid.Bool().Draw(t, "local"),
				RetainAsPublished: rapid.Bool().Draw(t, "as"), RetainHandling: rapid.ByteRange(0, 2).Draw(t, "handling")})
		}
	case *v5.Unsubscribe:
		p.PacketID, p.Topics = id.Draw(t, "id"), rapid.SliceOfN(topic, 1, 5).Draw(t, "filters")
	case *v5.Disconnect:
		p.ReasonCode = rapid.SampledFrom(disconnectCodes).Draw(t, "code")
		p.Properties = drawProps("p", disconnectProperties)
	}
	if _, err := c.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), version
}

// A packet that is cut at any byte, with a length that says so, is refused or is another
// packet that Paho reads as we do; one whose rest does not come is not one yet.
func TestCodecCutAtEveryByte(t *testing.T) {
	t.Parallel()
	for _, version := range []byte{4, 5} {
		for _, packet := range corpus(version) {
			f, size, err := parseFrame(packet, 1000)
			if err != nil || size != len(packet) {
				t.Fatalf("% x: %d, %v", packet, size, err)
			}
			for n := range packet {
				if cut, size, err := parseFrame(packet[:n], 1000); err != nil || (size > 0 && size <= n) {
					t.Errorf("% x of % x: %+v, %v", packet[:n], packet, cut, err)
				}
			}
			for n := range f.body {
				cut := f
				cut.body = f.body[:n:n]
				ours, err := ourView(cut, version)
				if err != nil {
					continue
				}
				short := appendPacket(nil, packet[0], f.body[:n])
				if theirs, err := theirView(short, version); err != nil || ours != theirs {
					t.Errorf("% x is\n%+v, for Paho\n%+v, %v", short, ours, theirs, err)
				}
			}
		}
	}
}

// Every violation has its reason code (spec §2, MQTT 5 §4.13).
func TestCodecReasons(t *testing.T) {
	t.Parallel()
	publish := func(flags byte, body ...[]byte) []byte { return appendPacket(nil, typePublish<<4|flags, body...) }
	topic := appendString(nil, "t")
	with := func(list ...byte) []byte { return publish(0, topic, propertyList(list)) }
	bomb := slices.Repeat([]byte{propUser, 0, 0, 0, 0}, 2000)
	connect := func(list ...byte) []byte { return connectPacket{version: 5, id: "x", props: list}.encode() }
	subscribe := func(options byte) []byte { return subscribePacket(5, options, "a") }
	for name, c := range map[string]struct {
		packet []byte
		want   byte
	}{
		"QoS 3":                         {publish(6, topic, []byte{0, 1, 0}), 0x81},
		"QoS 2":                         {publish(4, topic, []byte{0, 1, 0}), 0x9B},
		"QoS 0 and DUP":                 {publish(8, topic, []byte{0}), 0x81},
		"packet id 0":                   {publish(2, topic, []byte{0, 0, 0}), 0x81},
		"topic is not UTF-8":            {publish(0, []byte{0, 1, 0xFF, 0}), 0x81},
		"topic with a surrogate":        {publish(0, []byte{0, 3, 0xED, 0xA0, 0x80, 0}), 0x81},
		"topic with NUL":                {publish(0, []byte{0, 1, 0, 0}), 0x81},
		"unknown property":              {with(0x7F, 1), 0x81},
		"property beyond one byte":      {with(0x81, 1), 0x81},
		"property of CONNECT":           {with(propSessionExpiry, 0, 0, 0, 1), 0x81},
		"subscription identifier":       {with(propSubscriptionID, 1), 0x81},
		"property twice":                {with(propContentType, 0, 1, 'a', propContentType, 0, 1, 'a'), 0x82},
		"property cut":                  {with(propContentType, 0, 9, 'a'), 0x81},
		"properties longer than packet": {publish(0, topic, []byte{9}), 0x81},
		"length of properties padded":   {publish(0, topic, []byte{0x80, 0}), 0x81},
		"length of properties too long": {publish(0, topic, []byte{0xFF, 0xFF, 0xFF, 0xFF, 1}), 0x81},
		"payload format 2":              {with(propPayloadFormat, 2), 0x82},
		"response topic with wildcard":  {with(propResponseTopic, 0, 1, '#'), 0x82},
		"user properties bomb":          {with(bomb...), 0x95},
		"receive maximum 0":             {connect(propReceiveMaximum, 0, 0), 0x82},
		"maximum packet size 0":         {connect(propMaximumPacketSize, 0, 0, 0, 0), 0x82},
		"problem information 2":         {connect(propRequestProblemInfo, 2), 0x82},
		"data without method":           {connect(propAuthData, 0, 1, 'x'), 0x82},
		"authentication":                {connect(propAuthMethod, 0, 1, 'x'), 0x8C},
		"retain handling 3":             {subscribe(0x30), 0x82},
		"subscription QoS 3":            {subscribe(3), 0x82},
		"subscription reserved bit":     {subscribe(0x40), 0x81},
		"SUBSCRIBE flags":               {append([]byte{typeSubscribe << 4}, subscribe(0)[1:]...), 0x81},
		"PUBACK with unknown code":      {[]byte{typePuback << 4, 3, 0, 1, 0x42}, 0x82},
		"PUBACK with id 0":              {[]byte{typePuback << 4, 2, 0, 0}, 0x81},
		"DISCONNECT with server's code": {[]byte{typeDisconnect << 4, 1, codeTakenOver}, 0x82},
		"PINGREQ with body":             {[]byte{typePingreq << 4, 1, 0}, 0x81},
		"padded length":                 {[]byte{typePingreq << 4, 0x80, 0}, 0x81},
	} {
		f, size, err := parseFrame(c.packet, 1<<20)
		if err != nil || size != len(c.packet) {
			t.Errorf("%s: %d, %v", name, size, err)
			continue
		}
		_, err = ourView(f, 5)
		var fault *protocolError
		if !errors.As(err, &fault) || fault.code != c.want {
			t.Errorf("%s: %#v, want %#x", name, err, c.want)
		}
	}
	for name, length := range map[string][]byte{"five bytes": {0xFF, 0xFF, 0xFF, 0xFF, 1}, "too large": {0xFF, 0xFF, 0xFF, 0x7F}} {
		if _, _, err := parseFrame(append([]byte{typePublish << 4}, length...), 1<<20); err == nil {
			t.Errorf("length of %s accepted", name)
		}
	}
}
