package conformance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	paho5 "github.com/eclipse/paho.golang/paho"
	paho3 "github.com/eclipse/paho.mqtt.golang"
)

// mqttClient is a connected MQTT client of either version.
type mqttClient interface {
	subscribe(filter string, qos byte) error
	publish(topic string, payload string, qos byte) error
	disconnect()
}

// device is an MQTT client that plays a thing.
type device struct {
	f *fleet
	mqttClient
	*mailbox
	thing  string
	tokens int
	read   int // messages that told has seen
}

// versions runs a test for both versions of MQTT.
func versions(t *testing.T, test func(t *testing.T, version int)) {
	for _, v := range []int{4, 5} {
		t.Run(map[int]string{4: "3.1.1", 5: "5"}[v], func(t *testing.T) { test(t, v) })
	}
}

// connect connects a device of the thing (a full name) with MQTT 3.1.1.
func (f *fleet) connect(thing string) *device { f.t.Helper(); return f.connectAs(thing, thing, 4) }

// connectAs connects a client with an id and a version (4 = 3.1.1, 5).
func (f *fleet) connectAs(thing, clientID string, version int) *device {
	f.t.Helper()
	d := &device{f: f, thing: thing, mailbox: newMailbox()}
	var err error
	addr := strings.TrimPrefix(f.mqtt, "mqtt://")
	if version == 5 {
		d.mqttClient, err = connect5(f.ctx, addr, clientID, d.mailbox)
	} else {
		d.mqttClient, err = connect3(addr, clientID, d.mailbox)
	}
	f.must(err)
	f.t.Cleanup(d.disconnect)
	return d
}

type client3 struct {
	paho3.Client
	*mailbox
}

func connect3(addr, id string, box *mailbox) (mqttClient, error) {
	return connect3On(func() (net.Conn, error) { return net.DialTimeout("tcp", addr, patience) }, id, box)
}

func connect3On(dial func() (net.Conn, error), id string, box *mailbox) (mqttClient, error) {
	handle := func(_ paho3.Client, m paho3.Message) { box.put(m.Topic(), m.Payload()) }
	c := client3{mailbox: box, Client: paho3.NewClient(paho3.NewClientOptions().AddBroker("tcp://server").
		SetCustomOpenConnectionFn(func(*url.URL, paho3.ClientOptions) (net.Conn, error) { return dial() }).SetClientID(id).SetProtocolVersion(4).
		SetAutoReconnect(false).SetConnectRetry(false).SetConnectTimeout(patience).SetDefaultPublishHandler(handle).
		SetConnectionLostHandler(func(_ paho3.Client, err error) { box.lose(err) }))}
	return c, c.settled(c.Connect())
}

// settled waits for the end of what a token stands for.
func (c client3) settled(token paho3.Token) error {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	select {
	case <-token.Done():
		return token.Error()
	case <-c.gone: // which settles not every token
		return errors.New("connection lost")
	case <-deadline.C:
		return errors.New("no answer of the broker")
	}
}

func (c client3) subscribe(filter string, qos byte) error {
	token := c.Subscribe(filter, qos, nil) // the default handler receives everything
	if err := c.settled(token); err != nil {
		return err
	}
	if granted := token.(*paho3.SubscribeToken).Result()[filter]; granted > 1 {
		return fmt.Errorf("subscription to %s refused: %#x", filter, granted)
	}
	return nil
}

func (c client3) publish(topic, payload string, qos byte) error {
	return c.settled(c.Publish(topic, qos, false, payload))
}

func (c client3) disconnect() { c.Disconnect(0) }

type client5 struct {
	*paho5.Client
	ctx context.Context
}

func connect5(ctx context.Context, addr, id string, box *mailbox) (mqttClient, error) {
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return connect5On(ctx, conn, id, box)
}

func connect5On(ctx context.Context, conn net.Conn, id string, box *mailbox) (mqttClient, error) {
	// Requests that are on their way end with the connection; paho alone does not end them.
	ctx, cancel := context.WithCancel(ctx)
	lost := func(err error) { box.lose(err); cancel() }
	c := client5{ctx: ctx, Client: paho5.NewClient(paho5.ClientConfig{
		// paho writes a packet in pieces, and pings from another goroutine.
		ClientID: id, Conn: packets.NewThreadSafeConn(conn), PacketTimeout: patience,
		OnPublishReceived: []func(paho5.PublishReceived) (bool, error){func(p paho5.PublishReceived) (bool, error) {
			box.put(p.Packet.Topic, p.Packet.Payload)
			return true, nil
		}},
		OnClientError:      lost,
		OnServerDisconnect: func(p *paho5.Disconnect) { lost(fmt.Errorf("disconnected by the server: %#x", p.ReasonCode)) },
	})}
	_, err := c.Connect(ctx, &paho5.Connect{ClientID: id, KeepAlive: 60, CleanStart: true})
	if err != nil {
		lost(err)
	}
	return c, err
}

func (c client5) subscribe(filter string, qos byte) error {
	_, err := c.Subscribe(c.ctx, &paho5.Subscribe{Subscriptions: []paho5.SubscribeOptions{{Topic: filter, QoS: qos}}})
	return err
}

func (c client5) publish(topic, payload string, qos byte) error {
	_, err := c.Publish(c.ctx, &paho5.Publish{Topic: topic, QoS: qos, Payload: []byte(payload)})
	return err
}

func (c client5) disconnect() { _ = c.Disconnect(&paho5.Disconnect{}) } // may be gone already

// topic returns the full topic of the device's jobs.
func (d *device) topic(rest string) string { return "$aws/things/" + d.thing + "/jobs/" + rest }

// listen subscribes to the device's topic, wildcards allowed.
func (d *device) listen(rest string) {
	d.f.t.Helper()
	d.f.must(d.subscribe(d.topic(rest), 1))
}

// request is ask where the connection holds.
func (d *device) request(rest, payload string) (string, map[string]any) {
	d.f.t.Helper()
	result, answer, err := d.ask(rest, payload)
	d.f.must(err)
	return result, answer
}

// ask publishes to the device's topic and returns the answer: "accepted" or
// "rejected" and the payload. The answer is told apart by a clientToken, which is added
// to payloads that end in a brace.
func (d *device) ask(rest, payload string) (result string, answer map[string]any, err error) {
	d.tokens++
	token := fmt.Sprintf("%s-%d", d.f.prefix, d.tokens)
	if body, ok := strings.CutSuffix(payload, "}"); ok {
		if strings.TrimSpace(body) != "{" {
			body += ","
		}
		payload = body + `"clientToken":"` + token + `"}`
	}
	if err := d.publish(d.topic(rest), payload, 1); err != nil {
		return "", nil, err
	}
	m, err := d.wait(0, func(m message) bool {
		return strings.HasPrefix(m.topic, d.topic(rest)+"/") && m.json["clientToken"] == token
	})
	return strings.TrimPrefix(m.topic, d.topic(rest)+"/"), m.json, err
}

// accepted is a request that must be accepted.
func (d *device) accepted(rest, payload string) map[string]any {
	d.f.t.Helper()
	result, answer := d.request(rest, payload)
	if result != "accepted" {
		d.f.t.Fatalf("%s %s: %s %v", rest, payload, result, answer)
	}
	return answer
}

// rejected is a request that must be rejected with the code.
func (d *device) rejected(rest, payload, code string) map[string]any {
	d.f.t.Helper()
	result, answer := d.request(rest, payload)
	if result != "rejected" || answer["code"] != code {
		d.f.t.Fatalf("%s %s: %s %v, want code %s", rest, payload, result, answer, code)
	}
	return answer
}

// await returns the n-th message (from 0) on a topic of the device.
func (d *device) await(n int, rest string) message {
	d.f.t.Helper()
	m, err := d.wait(n, func(m message) bool { return m.topic == d.topic(rest) })
	d.f.must(err)
	return m
}

// received counts the messages on a topic of the device up to now. A request is answered
// first, so that everything that was on its way before it has arrived.
func (d *device) received(rest string) int {
	d.f.t.Helper()
	d.accepted("get", `{}`)
	return d.count(func(m message) bool { return m.topic == d.topic(rest) })
}

// path digs into a JSON value.
func path(v any, keys ...any) any {
	for _, k := range keys {
		switch k := k.(type) {
		case string:
			m, ok := v.(map[string]any)
			if !ok {
				return nil
			}
			v = m[k]
		case int:
			l, ok := v.([]any)
			if !ok || k >= len(l) {
				return nil
			}
			v = l[k]
		}
	}
	return v
}
