package conformance

import (
	"strings"
	"testing"

	mq "drover/internal/mqtttest"
)

// The statements about the broker, TestBnnn…: what a client sees on its wire.

// onBroker runs a test with either version of MQTT, on the shared server.
func onBroker(t *testing.T, test func(f *fleet, version byte)) {
	t.Helper()
	t.Parallel()
	versions(t, func(t *testing.T, version int) { test(newFleet(t), byte(version)) })
}

// dial opens a connection for devices and sends nothing.
func (f *fleet) dial() *mq.Client {
	f.t.Helper()
	return mq.Dial(f.t, strings.TrimPrefix(f.mqtt, "mqtt://"))
}

// client connects a client with a clean session and an id of this test.
func (f *fleet) client(version byte, n string, options ...func(*mq.Connect)) *mq.Client {
	f.t.Helper()
	p := mq.Connect{Version: version, ID: f.name(n)}
	for _, o := range options {
		o(&p)
	}
	return f.dial().Join(p)
}

// persistent makes a session outlive its connection.
func persistent(p *mq.Connect) {
	p.Persistent = true
	if p.Version == 5 {
		p.Props = append(p.Props, mq.Prop(mq.SessionExpiry, 600)...)
	}
}

func will(topic, payload string, options ...func(*mq.Publish)) func(*mq.Connect) {
	return func(p *mq.Connect) {
		p.Will = &mq.Publish{Topic: topic, Payload: payload, QoS: 1}
		for _, o := range options {
			o(p.Will)
		}
	}
}

// topic makes a topic or filter that no other test uses.
func (f *fleet) topic(n string) string { return f.prefix + "/" + n }

// watch is a client that hears everything on the filters.
func (f *fleet) watch(filters ...string) *mq.Client {
	f.t.Helper()
	c := f.dial().Join(mq.Connect{Version: 5})
	c.Granted(1, filters...)
	return c
}

// code is a reason code: that of MQTT 5, or what 3.1.1 says instead.
func code(version, five, old byte) byte {
	if version == 5 {
		return five
	}
	return old
}
