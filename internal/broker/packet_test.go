package broker

import (
	"bufio"
	"bytes"
	"reflect"
	"testing"
	"time"
)

// corpus holds a well-formed packet of every kind a client sends, by version.
func corpus(version byte) [][]byte {
	m := &Message{Topic: "a/b", Payload: []byte("p"), Expires: time.Now().Add(time.Minute),
		Properties: &Properties{UTF8: true, ContentType: "c", ResponseTopic: "r", CorrelationData: []byte("x"), User: []UserProperty{{"k", "v"}, {"k", "w"}}}}
	q0, _ := encodePublish(m, version, 0, true, false, 0, time.Now())
	q1, _ := encodePublish(m, version, 1, false, true, 3, time.Now())
	list := [][]byte{
		connectPacket{version: version, id: "id", keepAlive: 60, will: m,
			props:     []byte{propSessionExpiry, 0, 0, 1, 0, propReceiveMaximum, 0, 9, propUser, 0, 1, 'k', 0, 1, 'v'},
			willProps: []byte{propWillDelay, 0, 0, 0, 1, propPayloadFormat, 1}}.encode(),
		q0, q1,
		encodePuback(3, 0),
		subscribePacket(version, 1, "a/b", "+/#"),
		{typePingreq << 4, 0},
		{typeDisconnect << 4, 0},
	}
	unsubscribe := []byte{0, 4}
	if version == 5 {
		unsubscribe = append(unsubscribe, 0)
		list = append(list, encodePuback(3, codeQuotaExceeded), encodeDisconnect(codeDisconnectWithWill),
			appendPacket(nil, typeDisconnect<<4, []byte{0}, propertyList([]byte{propSessionExpiry, 0, 0, 0, 9, propReasonString, 0, 1, 'x'})))
	}
	return append(list, appendPacket(nil, typeUnsubscribe<<4|2, appendString(unsubscribe, "a/b")))
}

// decode does with a packet what a connection does.
func decode(f frame, version byte) error {
	var err error
	switch f.kind {
	case typeConnect:
		_, err = decodeConnect(f)
	case typePublish:
		_, err = decodePublish(f, version, time.Now())
	case typePuback:
		_, err = decodePuback(f, version)
	case typeSubscribe:
		_, _, err = decodeSubscribe(f, version)
	case typeUnsubscribe:
		_, _, err = decodeUnsubscribe(f, version)
	case typeDisconnect:
		_, _, err = decodeDisconnect(f, version)
	}
	return err
}

func TestDecodeWellFormed(t *testing.T) {
	t.Parallel()
	for _, version := range []byte{4, 5} {
		for _, packet := range corpus(version) {
			f, err := readFrame(bufio.NewReader(bytes.NewReader(packet)), 1000)
			if err == nil {
				err = decode(f, version)
			}
			if err != nil {
				t.Errorf("version %d, packet % x: %v", version, packet, err)
			}
		}
	}
}

func TestPublishKeepsItsProperties(t *testing.T) {
	t.Parallel()
	now := time.Now()
	want := Message{Topic: "t", Payload: []byte("p"), QoS: 1, Retain: true, Expires: now.Add(30 * time.Second),
		Properties: &Properties{UTF8: true, ContentType: "c", ResponseTopic: "r", CorrelationData: []byte{0, 1},
			User: []UserProperty{{"b", "1"}, {"a", "2"}, {"b", "1"}}}}
	packet, _ := encodePublish(&want, 5, 1, true, false, 9, now)
	f, err := readFrame(bufio.NewReader(bytes.NewReader(packet)), 1000)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodePublish(f, 5, now)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.message, want) || got.id != 9 {
		t.Errorf("got %+v, want %+v", got.message, want)
	}
}

func TestMessageLife(t *testing.T) {
	t.Parallel()
	for seconds, want := range map[uint32]time.Duration{0: time.Second, 1: time.Second, 30: 30 * time.Second, 700_000: 604_800 * time.Second} {
		if got := messageLife(seconds); got != want {
			t.Errorf("messageLife(%d) is %v", seconds, got)
		}
	}
}

func FuzzDecode(f *testing.F) {
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
		r := bufio.NewReader(bytes.NewReader(data))
		for {
			fr, err := readFrame(r, 1<<16)
			if err != nil || decode(fr, version) != nil {
				return
			}
			if fr.kind != typePublish {
				continue
			}
			// What is understood can be said again.
			now := time.Now()
			p, err := decodePublish(fr, version, now)
			if err != nil {
				t.Fatal(err)
			}
			packet, _ := encodePublish(&p.message, version, p.message.QoS, p.message.Retain, false, p.id, now)
			again, err := readFrame(bufio.NewReader(bytes.NewReader(packet)), 1<<17)
			if err != nil {
				t.Fatal(err)
			}
			q, err := decodePublish(again, version, now)
			if err != nil {
				t.Fatal(err)
			}
			if len(p.message.Payload)+len(q.message.Payload) == 0 {
				p.message.Payload, q.message.Payload = nil, nil
			}
			if !reflect.DeepEqual(p.message, q.message) || p.id != q.id {
				t.Fatalf("got %+v, want %+v", q.message, p.message)
			}
		}
	})
}
