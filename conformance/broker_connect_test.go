package conformance

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"

	mq "drover/internal/mqtttest"
)

func TestB022ProtocolLevels(t *testing.T) {
	f := newFleet(t)
	for name, c := range map[string]struct {
		protocol string
		level    byte
		want     []byte
	}{
		"3.1":              {"MQIsdp", 3, []byte{0x20, 2, 0, 1}},
		"3 by 4's name":    {"MQTT", 3, []byte{0x20, 2, 0, 1}},
		"0":                {"MQTT", 0, []byte{0x20, 2, 0, 1}},
		"6":                {"MQTT", 6, []byte{0x20, 3, 0, 0x84, 0}},
		"another's name":   {"AMQP", 4, nil},
		"in small letters": {"mqtt", 4, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := f.dial()
			w.T = t
			w.Send(mq.Frame(0x10, mq.String(c.protocol), []byte{c.level, 2, 0, 60}, mq.String(f.name("old"))))
			var got []byte
			for _, p := range w.Closed() {
				got = append(got, mq.Frame(p.Type<<4|p.Flags, p.Body)...)
			}
			if c.want != nil && !bytes.Equal(got, c.want) {
				t.Errorf("got % x, want % x", got, c.want)
			}
			if c.want == nil && len(got) > 0 && !bytes.HasPrefix(got, []byte{0x20}) {
				t.Errorf("got % x", got)
			}
		})
	}
}

func TestB023FirstPacketIsNoConnect(t *testing.T) {
	f := newFleet(t)
	for name, packet := range map[string][]byte{
		"PINGREQ":    mq.Pingreq,
		"PUBLISH":    mq.Publish{Topic: f.topic("a"), Payload: "x", QoS: 1, ID: 1}.Encode(4),
		"SUBSCRIBE":  mq.Subscribe(4, 1, nil, mq.Filter{Filter: f.topic("a")}),
		"DISCONNECT": mq.Disconnect(4, 0, nil),
		"CONNACK":    mq.Frame(0x20, []byte{0, 0}),
		"AUTH":       mq.Frame(0xF0),
	} {
		w := f.dial()
		w.Send(packet)
		if got := w.Closed(); len(got) > 0 {
			t.Errorf("%s: answered %v", name, got)
		}
	}
}

func TestB024SecondConnect(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		events := f.watch("$aws/events/presence/disconnected/" + f.name("twice"))
		w := f.client(v, "twice")
		w.Send(mq.Connect{Version: v, ID: f.name("twice")}.Encode())
		w.Dismissed(0x82)
		if e := event(f.t, events); e["disconnectReason"] != "CLIENT_ERROR" || e["clientInitiatedDisconnect"] != false {
			f.t.Errorf("%v", e)
		}
	})
}

func TestB025LengthOfClientID(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		id := f.prefix + strings.Repeat("é", 60)
		if len(id) != 128 {
			f.t.Fatalf("%d bytes", len(id))
		}
		f.dial().Join(mq.Connect{Version: v, ID: id}).Silent()
		w := f.dial()
		if ack := w.Hello(mq.Connect{Version: v, ID: id + "x"}); ack.Code != code(v, 0x85, 2) || ack.Present {
			f.t.Errorf("129 bytes: %+v", ack)
		}
		w.Closed()
	})
}

func TestB026ReservedClientID(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		w := f.dial()
		if ack := w.Hello(mq.Connect{Version: v, ID: "$" + f.name("x")}); ack.Code != code(v, 0x85, 2) {
			f.t.Errorf("%+v", ack)
		}
		w.Closed()
	})
}

func TestB027B028B029EmptyClientID(t *testing.T) {
	t.Parallel()
	t.Run("3.1.1", func(t *testing.T) {
		f := newFleet(t)
		f.dial().Join(mq.Connect{Version: 4}).Silent()
		w := f.dial()
		if ack := w.Hello(mq.Connect{Version: 4, Persistent: true}); ack.Code != 2 {
			t.Errorf("cleanSession 0: %+v", ack)
		}
		w.Closed()
	})
	t.Run("5", func(t *testing.T) {
		f := newFleet(t)
		var ids []string
		for _, keep := range []bool{false, false, true} {
			ids = append(ids, f.dial().Join(mq.Connect{Version: 5, Persistent: keep}).Connack.Props.Text(mq.AssignedClientID))
		}
		if slices.Contains(ids, "") || ids[0] == ids[1] || ids[1] == ids[2] {
			t.Errorf("assigned %q", ids)
		}
		if ack := f.client(5, "named").Connack; ack.Props.Text(mq.AssignedClientID) != "" {
			t.Errorf("assigned another id: %+v", ack)
		}
	})
}

// What SDKs say of themselves in the user name is no credential. That it is none beside a
// certificate comes with identity.
func TestB030UsernameOfSDKs(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		for _, name := range []string{"?SDK=PythonV2&Version=1", "?SDK=IoTDeviceSDK/Go&Platform=x&Metadata=(a=b;c=d)", "user?x=%zz", "?"} {
			w := f.client(v, "sdk", func(p *mq.Connect) { p.Username = name })
			w.Silent()
			w.Leave()
		}
	})
}

func TestB031B032B033KeepAliveInRange(t *testing.T) {
	f := newFleet(t)
	for asked, want := range map[int]int{0: 1200, 1: 30, 10: 30, 29: 30, 30: 30, 31: 31, 1200: 1200, 1201: 1200, 5000: 1200, 65535: 1200} {
		ack := f.client(5, "alive", func(p *mq.Connect) { p.KeepAlive = asked }).Connack
		if got := ack.Props.Int(mq.ServerKeepAlive); got != want && !(got == -1 && asked == want) {
			t.Errorf("asked for %d: %d, want %d", asked, got, want)
		}
	}
}

func TestB036Announced(t *testing.T) {
	f := newFleet(t)
	props := f.client(5, "a").Connack.Props
	for name, c := range map[string]struct {
		id   byte
		want []int // -1: absent
	}{
		"Maximum QoS":                       {mq.MaximumQoS, []int{1}},
		"Retain Available":                  {mq.RetainAvailable, []int{1, -1}},
		"Receive Maximum":                   {mq.ReceiveMaximum, []int{100}},
		"Topic Alias Maximum":               {mq.TopicAliasMaximum, []int{8}},
		"Subscription Identifier Available": {mq.SubIDAvailable, []int{0}},
		"Wildcard Subscription Available":   {mq.WildcardAvailable, []int{1, -1}},
		"Shared Subscription Available":     {mq.SharedAvailable, []int{1, -1}},
		"Maximum Packet Size":               {mq.MaximumPacketSize, []int{149_504}}, // for a payload of 131,072
		"Response Information":              {0x1A, []int{-1}},
	} {
		if got := props.Int(c.id); !slices.Contains(c.want, got) {
			t.Errorf("%s is %d, want %v", name, got, c.want)
		}
	}
}

func TestB037B038SessionExpiryIsLimited(t *testing.T) {
	f := newFleet(t)
	for asked, want := range map[int]int{86400: 3600, 0xFFFFFFFF: 3600, 3601: 3600, 60: 60, 0: 0} {
		ack := f.client(5, "long", func(p *mq.Connect) { p.Props = mq.Prop(mq.SessionExpiry, asked) }).Connack
		if got := ack.Props.Int(mq.SessionExpiry); got != want && !(got == -1 && asked == want) {
			t.Errorf("asked for %d: %d, want %d", asked, got, want)
		}
	}
}

func TestB039EnhancedAuthentication(t *testing.T) {
	f := newFleet(t)
	w := f.dial()
	ack := w.Hello(mq.Connect{Version: 5, ID: f.name("a"), Props: mq.Prop(mq.AuthMethod, "SCRAM-SHA-1")})
	if ack.Code != 0x8C {
		t.Errorf("%+v", ack)
	}
	w.Closed()
	w = f.client(5, "b")
	w.Send(mq.Frame(0xF0, []byte{0x18, 0}))
	w.Dismissed(0x82)
}

func TestB057B058B059DuplicateClientID(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		seen := f.watch(f.topic("will"))
		events := f.watch("$aws/events/presence/disconnected/" + f.name("twin"))
		first := f.client(v, "twin", will(f.topic("will"), "displaced"))
		for _, other := range []byte{9 - v, v} {
			second := f.client(other, "twin", will(f.topic("will"), "displaced"))
			first.Dismissed(0x8E)
			second.Silent()
			seen.Receive(f.topic("will"), "displaced")
			if e := event(f.t, events); e["disconnectReason"] != "DUPLICATE_CLIENTID" {
				f.t.Errorf("%v", e)
			}
			first = second
		}
	})
}

// A first packet is waited for, but not for ever; nothing that is announced is waited for
// with memory in hand.
func TestBadConnects(t *testing.T) {
	f := newFleet(t)
	good := mq.Connect{Version: 5, ID: f.name("x")}.Encode()
	change := func(at int, to byte) []byte { b := bytes.Clone(good); b[at] = to; return b }
	for name, packet := range map[string][]byte{
		"reserved flag":             change(9, 3),
		"will QoS without will":     change(9, 2|8),
		"will retain without will":  change(9, 2|0x20),
		"flags of the fixed header": change(0, 0x11),
		"length of five bytes":      {0x10, 0xFF, 0xFF, 0xFF, 0xFF, 1},
		"length of five bytes, 0":   {0x10, 0x80, 0x80, 0x80, 0x80, 0},
		"more than it says":         mq.Frame(0x10, good[2:], []byte{0}),
		"bad UTF-8 in the id":       mq.Connect{Version: 5, ID: "a\xff"}.Encode(),
		"surrogate in the id":       mq.Connect{Version: 5, ID: "a\xed\xa0\x80"}.Encode(),
		"overlong NUL in the id":    mq.Connect{Version: 5, ID: "a\xc0\x80"}.Encode(),
		"NUL in the id":             mq.Connect{Version: 5, ID: "a\x00b"}.Encode(),
		"NUL in the user name":      mq.Connect{Version: 5, ID: f.name("x"), Username: "a\x00"}.Encode(),
		"NUL in the will topic":     mq.Connect{Version: 5, ID: f.name("x"), Will: &mq.Publish{Topic: "a\x00"}}.Encode(),
		"unknown property":          mq.Connect{Version: 5, ID: f.name("x"), Props: []byte{0x7E, 0}}.Encode(),
		"property of PUBLISH":       mq.Connect{Version: 5, ID: f.name("x"), Props: mq.Prop(mq.TopicAlias, 1)}.Encode(),
		"property twice":            mq.Connect{Version: 5, ID: f.name("x"), Props: append(mq.Prop(mq.SessionExpiry, 1), mq.Prop(mq.SessionExpiry, 1)...)}.Encode(),
		"Receive Maximum 0":         mq.Connect{Version: 5, ID: f.name("x"), Props: mq.Prop(mq.ReceiveMaximum, 0)}.Encode(),
		"Maximum Packet Size 0":     mq.Connect{Version: 5, ID: f.name("x"), Props: mq.Prop(mq.MaximumPacketSize, 0)}.Encode(),
		"Request Problem Info 2":    mq.Connect{Version: 5, ID: f.name("x"), Props: mq.Prop(mq.RequestProblemInfo, 2)}.Encode(),
		"data without a method":     mq.Connect{Version: 5, ID: f.name("x"), Props: mq.Prop(mq.AuthData, "x")}.Encode(),
		"properties cut":            mq.Connect{Version: 5, ID: f.name("x"), Props: []byte{mq.SessionExpiry, 0}}.Encode(),
		"length of properties cut":  mq.Frame(0x10, mq.String("MQTT"), []byte{5, 2, 0, 0, 0x80}),
	} {
		w := f.dial()
		w.Send(packet)
		for _, p := range w.Closed() {
			if ack, err := p.Connack(5); err != nil || !slices.Contains([]byte{0x80, 0x81, 0x82, 0x85, 0x87, 0x8C, 0x90}, ack.Code) {
				t.Errorf("%s: %v", name, p)
			}
		}
	}
	// 3.1.1 has no words for it.
	for name, packet := range map[string][]byte{
		"reserved flag":       mq.Frame(0x10, mq.String("MQTT"), []byte{4, 3, 0, 0}, mq.String(f.name("x"))),
		"bad UTF-8 in the id": mq.Connect{Version: 4, ID: "a\xff"}.Encode(),
		"password alone":      mq.Frame(0x10, mq.String("MQTT"), []byte{4, 0x42, 0, 0}, mq.String(f.name("x")), mq.String("secret")),
	} {
		w := f.dial()
		w.Send(packet)
		if got := w.Closed(); len(got) > 0 {
			t.Errorf("3.1.1, %s: %v", name, got)
		}
	}
	f.client(4, "after").Silent()
}

// Announcing much is not sending it: the answer does not wait for the rest.
func TestBadLengths(t *testing.T) {
	onBroker(t, func(f *fleet, v byte) {
		for _, first := range []byte{0x30, 0x32, 0x82, 0xA2, 0x40, 0xE0} {
			w := f.client(v, "bomb")
			w.Send([]byte{first, 0xFF, 0xFF, 0xFF, 0x7F, 0, 1})
			began := time.Now()
			w.Dismissed(0x95)
			if took := time.Since(began); took > patience/2 {
				f.t.Errorf("%#x: took %s", first, took)
			}
		}
		w := f.dial()
		w.Send([]byte{0x10, 0xFF, 0xFF, 0xFF, 0x7F, 0, 4, 'M', 'Q'})
		for _, p := range w.Closed() {
			if p.Type != mq.CONNACK {
				f.t.Errorf("%v", p)
			}
		}
		w = f.client(v, "overlong") // the length of a PINGREQ in two bytes and in five
		w.Send([]byte{0xC0, 0x80, 0x80, 0x80, 0x80, 0})
		w.Dismissed(0x81)
	})
}

func TestB001ToB005DescribeEndpoint(t *testing.T) {
	f := newFleet(t)
	address := func(kind *string) string {
		t.Helper()
		out, err := f.api.DescribeEndpoint(f.ctx, &iot.DescribeEndpointInput{EndpointType: kind})
		f.must(err)
		if *out.EndpointAddress == "" || strings.Contains(*out.EndpointAddress, "/") {
			t.Errorf("%q", *out.EndpointAddress)
		}
		return *out.EndpointAddress
	}
	data := address(aws.String("iot:Data-ATS"))
	for range 2 {
		if got := address(nil); got != address(aws.String("iot:Data")) || got != data {
			t.Errorf("%q, then %q", data, got)
		}
	}
	address(aws.String("iot:Jobs"))
	_, err := f.api.DescribeEndpoint(f.ctx, &iot.DescribeEndpointInput{EndpointType: aws.String("iot:Nothing")})
	f.refused(err, "InvalidRequestException", 400)
}
