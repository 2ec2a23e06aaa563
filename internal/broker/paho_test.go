package broker

import (
	"context"
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// The clients that devices really use agree with the broker.

func TestPaho311(t *testing.T) {
	t.Parallel()
	b, o, _ := serve(t, Config{})
	server, client := testTLS(t)
	l, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	listen(t, b, l)

	got := make(chan mqtt.Message, 10)
	wait := func(token mqtt.Token) {
		t.Helper()
		if !token.WaitTimeout(patience) {
			t.Fatal("no answer")
		}
		if token.Error() != nil {
			t.Fatal(token.Error())
		}
	}
	connect := func() mqtt.Client {
		c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("ssl://" + l.Addr().String()).SetTLSConfig(client).
			SetClientID("paho").SetCleanSession(false).SetAutoReconnect(false).SetProtocolVersion(4).
			SetUsername("?SDK=GoV0&Version=1").SetPassword("ignored").
			SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { got <- m }))
		wait(c.Connect())
		receive(t, o.connected)
		return c
	}
	c := connect()
	granted := c.SubscribeMultiple(map[string]byte{"a/+": 1, "forbidden/x": 1, "low": 2}, nil)
	wait(granted)
	if codes := granted.(*mqtt.SubscribeToken).Result(); codes["a/+"] != 1 || codes["forbidden/x"] != 0x80 || codes["low"] != 1 {
		t.Errorf("granted %v", codes)
	}
	wait(c.Publish("a/b", 1, false, "hello"))
	if m := receive(t, got); m.Topic() != "a/b" || string(m.Payload()) != "hello" || m.Qos() != 1 {
		t.Errorf("got %+v", m)
	}
	wait(c.Publish("x/ask", 1, false, "question"))
	if m := receive(t, got); m.Topic() != "x/ask/accepted" || string(m.Payload()) != "question" {
		t.Errorf("got %+v", m)
	}
	c.Disconnect(100)
	if e := receive(t, o.disconnected); e.reason != ClientInitiated {
		t.Errorf("reason is %s", e.reason)
	}
	b.Publish(Message{Topic: "a/c", Payload: []byte("while away"), QoS: 1})
	c = connect()
	if m := receive(t, got); m.Topic() != "a/c" || string(m.Payload()) != "while away" {
		t.Errorf("got %+v", m)
	}
	wait(c.Unsubscribe("a/+"))
	if b.HasSubscribers("a/b") {
		t.Error("still subscribed")
	}
	c.Disconnect(100)
}

func TestPaho5(t *testing.T) {
	t.Parallel()
	b, o, addr := serve(t, Config{})
	got := make(chan *paho.Publish, 10)
	dismissed := make(chan *paho.Disconnect, 1)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	connect := func() (*paho.Client, *paho.Connack) {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c := paho.NewClient(paho.ClientConfig{
			Conn: conn,
			OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
				got <- p.Packet
				return true, nil
			}},
			OnServerDisconnect: func(d *paho.Disconnect) { dismissed <- d },
		})
		expiry, maximum := uint32(600), uint16(20)
		ack, err := c.Connect(ctx, &paho.Connect{ClientID: "paho", KeepAlive: 10, CleanStart: false,
			Properties: &paho.ConnectProperties{SessionExpiryInterval: &expiry, ReceiveMaximum: &maximum}})
		if err != nil {
			t.Fatal(err)
		}
		receive(t, o.connected)
		return c, ack
	}
	c, ack := connect()
	if *ack.Properties.ServerKeepAlive != 30 || *ack.Properties.MaximumQoS != 1 || *ack.Properties.ReceiveMaximum != 100 ||
		*ack.Properties.TopicAliasMaximum != 8 || ack.Properties.SubIDAvailable || ack.SessionPresent {
		t.Errorf("CONNACK is %+v", ack.Properties)
	}
	if _, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "a/#", QoS: 1}, {Topic: "b", QoS: 0}}}); err != nil {
		t.Fatal(err)
	}
	user := paho.UserProperties{{Key: "k", Value: "1"}, {Key: "k", Value: "2"}}
	if _, err := c.Publish(ctx, &paho.Publish{Topic: "a/b", QoS: 1, Payload: []byte("hello"),
		Properties: &paho.PublishProperties{CorrelationData: []byte("c"), ResponseTopic: "r", ContentType: "text", User: user}}); err != nil {
		t.Fatal(err)
	}
	if m := receive(t, got); m.Topic != "a/b" || string(m.Properties.CorrelationData) != "c" || m.Properties.ResponseTopic != "r" ||
		m.Properties.ContentType != "text" || len(m.Properties.User) != 2 || m.Properties.User[1] != user[1] {
		t.Errorf("got %+v", m)
	}
	if _, err := c.Publish(ctx, &paho.Publish{Topic: "x/ask", QoS: 1, Payload: []byte("question"),
		Properties: &paho.PublishProperties{CorrelationData: []byte("n1")}}); err != nil {
		t.Fatal(err)
	}
	if m := receive(t, got); m.Topic != "x/ask/accepted" || string(m.Properties.CorrelationData) != "n1" {
		t.Errorf("got %+v", m)
	}
	if answer, err := c.Publish(ctx, &paho.Publish{Topic: "forbidden/x", QoS: 1}); err == nil || answer == nil || answer.ReasonCode != codeTopicInvalid {
		t.Errorf("forbidden topic: %+v, %v", answer, err)
	}
	if err := c.Disconnect(&paho.Disconnect{}); err != nil {
		t.Fatal(err)
	}
	receive(t, o.disconnected)
	b.Publish(Message{Topic: "a/c", Payload: []byte("while away"), QoS: 1, Expires: time.Now().Add(time.Minute)})
	b.Publish(Message{Topic: "b", Payload: []byte("lost"), QoS: 1}) // QoS 0 subscription
	_, ack = connect()
	if !ack.SessionPresent {
		t.Error("session is not present")
	}
	if m := receive(t, got); m.Topic != "a/c" || *m.Properties.MessageExpiry > 60 || *m.Properties.MessageExpiry < 50 {
		t.Errorf("got %+v", m)
	}
	connect() // takes over
	if d := receive(t, dismissed); d.ReasonCode != codeTakenOver {
		t.Errorf("dismissed with %#x", d.ReasonCode)
	}
}
