package conformance

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	mq "drover/internal/mqtttest"
)

// What the broker does with what policies say.

// holder is the owner of a certificate with one policy of its own.
type holder struct {
	f      *fleet
	cert   identity
	policy string
}

func (f *fleet) holder(n string, statements ...string) *holder {
	f.t.Helper()
	h := &holder{f: f, cert: f.newCertificate(true), policy: f.policy(n, statements...)}
	f.must(f.attachPolicy(h.policy, f.certARN(h.cert.id)))
	return h
}

// may changes the policy to other statements.
func (h *holder) may(statements ...string) {
	h.f.t.Helper()
	_, err := h.f.version(h.policy, true, statements...)
	h.f.must(err)
}

func (h *holder) dial() *mq.Client {
	h.f.t.Helper()
	conn, err := h.f.dialTLS(h.f.mqtts, h.f.config(with(h.cert)))
	h.f.must(err)
	return mq.On(h.f.t, conn)
}

const allowAll = `{"Effect":"Allow","Action":"iot:*","Resource":"*"}`

// refusedTo returns what a CONNACK says of lack of permission.
func refusedTo(version byte) byte {
	if version == 5 {
		return 0x87
	}
	return 5
}

func TestB040B041B043B060ConnectDenied(t *testing.T) {
	f := tlsFleet(t)
	none := &holder{f: f, cert: f.newCertificate(true)}
	h := f.holder("c", f.say("Allow", "iot:Connect", "client/"+f.name("mine")))
	id := f.name("other")
	owner := f.client(5, "other") // of the id, who must not be disturbed
	watcher := f.watch("$aws/events/presence/connect_failed/" + id)
	for _, version := range []byte{4, 5} {
		for _, who := range []*holder{none, h} {
			c := who.dial()
			if ack := c.Hello(mq.Connect{Version: version, ID: id}); ack.Code != refusedTo(version) {
				t.Errorf("version %d: CONNACK %#x", version, ack.Code)
			}
			c.Closed()
			e := event(t, watcher)
			if e["eventType"] != "connect_failed" || e["connectFailureReason"] != "AUTHORIZATION_FAILED" || e["clientId"] != id ||
				e["principalIdentifier"] != who.cert.id || e["ipAddress"] != "127.0.0.1" || e["sessionIdentifier"] == "" {
				t.Errorf("%v", e)
			}
		}
		h.dial().Join(mq.Connect{Version: version, ID: f.name("mine")})
	}
	owner.Settle()
}

func TestB065B066WillDenied(t *testing.T) {
	f := tlsFleet(t)
	h := f.holder("w", `{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}`, f.say("Allow", "iot:Publish", "topic/"+f.topic("will")))
	id := f.name("w")
	watcher := f.watch("$aws/events/presence/connect_failed/" + id)
	for _, version := range []byte{4, 5} {
		for _, will := range []mq.Publish{{Topic: f.topic("other")}, {Topic: f.topic("will"), Retain: true}} {
			if ack := h.dial().Hello(mq.Connect{Version: version, ID: id, Will: &will}); ack.Code != refusedTo(version) {
				t.Errorf("version %d, will %+v: CONNACK %#x", version, will, ack.Code)
			}
			event(t, watcher)
		}
		h.dial().Join(mq.Connect{Version: version, ID: id, Will: &mq.Publish{Topic: f.topic("will")}})
	}
	// The right to it can be lost later.
	heard := f.watch(f.topic("will"))
	c := h.dial().Join(mq.Connect{Version: 5, ID: id, Will: &mq.Publish{Topic: f.topic("will"), Payload: "gone"}})
	heard.Settle()
	h.may(`{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}`)
	gone := f.watch("$aws/events/presence/disconnected/" + id)
	c.Cut()
	event(t, gone)
	heard.Silent()
}

func TestB081B082B083B117PublishDenied(t *testing.T) {
	f := tlsFleet(t)
	h := f.holder("p", `{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}`, f.say("Allow", "iot:Publish", "topic/"+f.topic("up")))
	up, other := f.topic("up"), f.topic("other")
	five := h.dial().Join(mq.Connect{Version: 5, ID: f.name("five")})
	for _, m := range []mq.Publish{{Topic: other, QoS: 1}, {Topic: up, QoS: 1, Retain: true}} {
		if code := five.Publish(m); code != 0x87 {
			t.Errorf("%+v: PUBACK %#x", m, code)
		}
	}
	if code := five.Publish(mq.Publish{Topic: up, QoS: 1}); code != 0 {
		t.Errorf("PUBACK %#x to what is allowed", code)
	}
	five.Send(mq.Publish{Topic: other}.Encode(5))
	five.Dismissed(0x87)
	for _, m := range []mq.Publish{{Topic: other}, {Topic: other, QoS: 1, ID: 1}, {Topic: up, Retain: true}, {Topic: up, QoS: 1, ID: 1, Retain: true}} {
		four := h.dial().Join(mq.Connect{Version: 4, ID: f.name("four")})
		four.Send(m.Encode(4))
		if before := four.Closed(); len(before) != 0 {
			t.Errorf("%+v: %v before the end", m, before)
		}
	}
}

// A decision is taken back before the change is answered.
func TestDetachedPolicyCountsAtOnce(t *testing.T) {
	f := tlsFleet(t)
	h := f.holder("p", allowAll)
	c := h.dial().Join(mq.Connect{Version: 5, ID: f.name("d")})
	m := mq.Publish{Topic: f.topic("up"), QoS: 1}
	for range 3 {
		if code := c.Publish(m); code != 0 {
			t.Fatalf("PUBACK %#x", code)
		}
		_, err := f.api.DetachPolicy(f.ctx, &iot.DetachPolicyInput{PolicyName: &h.policy, Target: aws.String(f.certARN(h.cert.id))})
		f.must(err)
		if code := c.Publish(m); code != 0x87 {
			t.Fatalf("PUBACK %#x without a policy", code)
		}
		f.must(f.attachPolicy(h.policy, f.certARN(h.cert.id)))
	}
}

func TestB103B131SubscribeDenied(t *testing.T) {
	f := tlsFleet(t)
	h := f.holder("s", `{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}`,
		f.say("Allow", "iot:Subscribe", "topicfilter/"+f.topic("a"), "topicfilter/$share/g/"+f.topic("b")))
	for version, denied := range map[byte]byte{4: 0x80, 5: 0x87} {
		c := h.dial().Join(mq.Connect{Version: version, ID: f.name("s")})
		codes := c.Subscribe(mq.Filter{Filter: f.topic("a")}, mq.Filter{Filter: f.topic("b")}, mq.Filter{Filter: "$share/g/" + f.topic("b")}, mq.Filter{Filter: "$share/g/" + f.topic("a")})
		if want := []byte{0, denied, 0, denied}; string(codes) != string(want) {
			t.Errorf("version %d: %#x, want %#x", version, codes, want)
		}
	}
}

func TestB105B106ReceiveDenied(t *testing.T) {
	f := tlsFleet(t)
	topic := f.topic("down")
	rest := []string{`{"Effect":"Allow","Action":["iot:Connect","iot:Subscribe"],"Resource":"*"}`}
	receive := append(rest, f.say("Allow", "iot:Receive", "topic/"+topic))
	h := f.holder("r", receive...)
	c := h.dial().Join(mq.Connect{Version: 5, ID: f.name("r")})
	c.Granted(1, topic)
	sender := f.client(5, "sender")
	send := func(payload string) {
		t.Helper()
		if code := sender.Publish(mq.Publish{Topic: topic, Payload: payload, QoS: 1}); code != 0 {
			t.Fatalf("PUBACK %#x", code)
		}
	}
	send("one")
	c.Receive(topic, "one")
	h.may(rest...)
	send("two")
	h.may(receive...)
	send("three")
	c.Receive(topic, "three")
}

// TestB054ReceiveDeniedAtTheReturn: what waited is dropped if it may not be received any more.
func TestB054ReceiveDeniedAtTheReturn(t *testing.T) {
	f := tlsFleet(t)
	rest := []string{`{"Effect":"Allow","Action":["iot:Connect","iot:Subscribe"],"Resource":"*"}`, f.say("Allow", "iot:Receive", "topic/"+f.topic("b"))}
	h := f.holder("r", append(rest, f.say("Allow", "iot:Receive", "topic/"+f.topic("a")))...)
	hello := mq.Connect{Version: 4, ID: f.name("r"), Persistent: true}
	c := h.dial().Join(hello)
	c.Granted(1, f.topic("a"), f.topic("b"))
	c.Leave()
	sender := f.client(5, "sender")
	for _, n := range []string{"a", "b"} {
		if code := sender.Publish(mq.Publish{Topic: f.topic(n), Payload: n, QoS: 1}); code != 0 {
			t.Fatalf("PUBACK %#x", code)
		}
	}
	h.may(rest...)
	c = h.dial().Join(hello)
	if !c.Connack.Present {
		t.Error("no session")
	}
	c.Receive(f.topic("b"), "b")
	for _, p := range c.Settle() {
		t.Errorf("also %v", p)
	}
}

func TestB133B142Events(t *testing.T) {
	f := tlsFleet(t)
	for exclusive, kind := range map[bool]types.ThingPrincipalType{true: types.ThingPrincipalTypeExclusiveThing, false: types.ThingPrincipalTypeNonExclusiveThing} {
		h := f.holder("e"+string(kind), allowAll)
		thing := f.thing("t" + string(kind))
		f.must(f.attach(thing, h.cert.id, kind))
		id := f.name("e" + string(kind))
		watcher := f.watch("$aws/events/presence/+/" + id)
		c := h.dial().Join(mq.Connect{Version: 5, ID: id})
		c.Leave()
		for _, what := range []string{"connected", "disconnected"} {
			e := event(t, watcher)
			if e["principalIdentifier"] != h.cert.id {
				t.Errorf("%s: %v", what, e)
			}
			if name, ok := e["thingName"]; ok != exclusive || ok && name != thing {
				t.Errorf("exclusive %v, %s: %v", exclusive, what, e)
			}
		}
	}
}

// TestB200ToB203Conditions: of a CONNECT, over the wire.
func TestB200ToB203Conditions(t *testing.T) {
	f := tlsFleet(t)
	connect := func(condition string) string {
		return `{"Effect":"Allow","Action":"iot:Connect","Resource":"*","Condition":` + condition + `}`
	}
	publish := `{"Effect":"Allow","Action":"iot:Publish","Resource":"*"}`
	will := func(n string) *mq.Publish { return &mq.Publish{Topic: f.topic(n)} }
	for name, c := range map[string]struct {
		condition string
		allowed   []mq.Connect
		denied    []mq.Connect
	}{
		"B200":           {`{"ForAllValues:StringEquals":{"iot:ConnectAttributes":[]}}`, []mq.Connect{{}}, []mq.Connect{{Persistent: true}, {Will: will("w")}}},
		"B201":           {`{"ForAnyValue:StringEquals":{"iot:ConnectAttributes":["PersistentConnect"]}}`, []mq.Connect{{Persistent: true}}, []mq.Connect{{}, {Will: will("w")}}},
		"B202":           {`{"ArnEquals":{"iot:LastWillTopic":"` + f.arn("topic", f.topic("w")) + `"}}`, []mq.Connect{{Will: will("w")}}, []mq.Connect{{Will: will("v")}}},
		"B203":           {`{"IpAddress":{"aws:SourceIp":"127.0.0.0/8"}}`, []mq.Connect{{}}, nil},
		"B203 elsewhere": {`{"IpAddress":{"aws:SourceIp":"192.0.2.0/24"}}`, nil, []mq.Connect{{}}},
	} {
		h := f.holder(strings.ReplaceAll(name, " ", "-"), connect(c.condition), publish)
		for want, list := range map[byte][]mq.Connect{0: c.allowed, 5: c.denied} {
			for _, hello := range list {
				hello.Version, hello.ID = 4, f.name("c")
				if ack := h.dial().Hello(hello); ack.Code != want {
					t.Errorf("%s %+v: CONNACK %#x", name, hello, ack.Code)
				}
			}
		}
	}
}

// TestB030UsernameWithACertificate: it makes nobody else of the client, and no authorizer is asked.
func TestB030UsernameWithACertificate(t *testing.T) {
	f := tlsFleet(t)
	h := f.holder("u", allowAll)
	for _, name := range []string{"?SDK=PythonV2&Version=1", "u?x-amz-customauthorizer-name=none"} {
		h.dial().Join(mq.Connect{Version: 5, ID: f.name("u"), Username: name}).Settle()
	}
}

func TestB166DeleteCertificateWithPolicy(t *testing.T) {
	f := tlsFleet(t)
	h := f.holder("d", allowAll)
	_, err := f.api.UpdateCertificate(f.ctx, &iot.UpdateCertificateInput{CertificateId: &h.cert.id, NewStatus: types.CertificateStatusInactive})
	f.must(err)
	f.refused(f.deleteCertificate(h.cert.id, false), "DeleteConflictException", 409)
	f.must(f.deleteCertificate(h.cert.id, true))
}
