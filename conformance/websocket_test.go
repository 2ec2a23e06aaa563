package conformance

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	paho3 "github.com/eclipse/paho.mqtt.golang"

	mq "drover/internal/mqtttest"
)

// MQTT over WebSocket, and clients without certificates.

// handshake is how a client signs; what is not set is right.
type handshake struct {
	service, region, secret string
	signedToken, lateToken  string
	ago                     time.Duration
	change                  func(query string) string
}

// signedURL presigns the handshake of a WebSocket at a server's address.
func (f *fleet) signedURL(base string, h handshake) string {
	f.t.Helper()
	or := func(s, standard string) string {
		if s == "" {
			return standard
		}
		return s
	}
	r, err := http.NewRequestWithContext(f.ctx, "GET", base+"/mqtt?X-Amz-Expires=60", nil)
	f.must(err)
	key := aws.Credentials{AccessKeyID: f.key, SecretAccessKey: or(h.secret, f.secret), SessionToken: h.signedToken}
	empty := sha256.Sum256(nil)
	signed, _, err := v4.NewSigner().PresignHTTP(f.ctx, key, r, hex.EncodeToString(empty[:]), or(h.service, "iotdevicegateway"), or(h.region, f.region), time.Now().Add(-h.ago))
	f.must(err)
	if h.lateToken != "" {
		signed += "&X-Amz-Security-Token=" + url.QueryEscape(h.lateToken)
	}
	if h.change != nil {
		signed = h.change(signed)
	}
	return signed
}

// upgrade returns how the server answers the handshake of a WebSocket.
func (f *fleet) upgrade(client *http.Client, url string, header ...string) int {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.ctx, patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	f.must(err)
	r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}, "Sec-Websocket-Protocol": {"mqtt"}}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := client.Do(r)
	f.must(err)
	f.must(resp.Body.Close())
	return resp.StatusCode
}

// overWebSocket connects an MQTT 3.1.1 client.
func (f *fleet) overWebSocket(url string, cfg *tls.Config, clientID string, options ...func(*paho3.ClientOptions)) (*device, error) {
	f.t.Helper()
	d := &device{f: f, thing: clientID, mailbox: newMailbox()}
	o := paho3.NewClientOptions().AddBroker(strings.Replace(url, "http", "ws", 1)).SetTLSConfig(cfg).
		SetClientID(clientID).SetProtocolVersion(4).SetAutoReconnect(false).SetConnectRetry(false).SetConnectTimeout(patience).
		SetDefaultPublishHandler(func(_ paho3.Client, m paho3.Message) { d.put(m.Topic(), m.Payload()) }).
		SetConnectionLostHandler(func(_ paho3.Client, err error) { d.lose(err) })
	for _, option := range options {
		option(o)
	}
	c := client3{mailbox: d.mailbox, Client: paho3.NewClient(o)}
	d.mqttClient = c
	if err := c.settled(c.Connect()); err != nil {
		return nil, err
	}
	f.t.Cleanup(d.disconnect)
	return d, nil
}

// awaitGone waits for the end of a device's connection.
func (f *fleet) awaitGone(d *device) {
	f.t.Helper()
	select {
	case <-d.gone:
	case <-time.After(patience):
		f.t.Fatal("still connected")
	}
}

func TestB248ToB253SignedWebSockets(t *testing.T) {
	f := tlsFleet(t)
	for name, h := range map[string]handshake{
		"without a token": {}, "token added": {lateToken: "t+/=="}, "token signed": {signedToken: "t+/=="}, "of iotdata": {service: "iotdata"},
	} {
		for _, base := range []string{f.http, strings.Replace(f.alpn, "127.0.0.1", "localhost", 1)} {
			d, err := f.overWebSocket(f.signedURL(base, h), f.config(func(c *tls.Config) { c.ServerName = "" }), f.name("d"))
			if err != nil {
				t.Errorf("%s at %s: %v", name, base, err)
				continue
			}
			f.must(d.publish(f.topic("up"), "x", 1))
			d.disconnect()
		}
	}
	for name, h := range map[string]handshake{
		"wrong secret": {secret: "wrong"}, "of yesterday": {ago: 25 * time.Hour}, "expired": {ago: 2 * time.Minute}, "of tomorrow": {ago: -time.Hour},
		"other region": {region: "eu-west-9"}, "other service": {service: "iot"},
		"truncated":   {change: func(u string) string { return u[:len(u)-1] }},
		"twice":       {change: func(u string) string { return u + "&X-Amz-Date=20200101T000000Z" }},
		"more":        {change: func(u string) string { return u + "&x=y" }},
		"half of one": {change: func(u string) string { u, _, _ = strings.Cut(u, "&X-Amz-Signature"); return u }},
	} {
		if status := f.upgrade(http.DefaultClient, f.signedURL(f.http, h)); status != 403 {
			t.Errorf("%s: %d", name, status)
		}
	}
}

// In the header a signature is one, too.
func TestWebSocketSignedInTheHeader(t *testing.T) {
	f := tlsFleet(t)
	for name, c := range map[string]struct {
		service string
		want    int
	}{"right": {"iotdevicegateway", 101}, "another service": {"s", 403}} {
		r := f.signed(c.service, "GET", "/mqtt", "")
		if status := f.upgrade(http.DefaultClient, f.http+"/mqtt", "Authorization", r.Header.Get("Authorization"), "X-Amz-Date", r.Header.Get("X-Amz-Date")); status != c.want {
			t.Errorf("%s: %d", name, status)
		}
	}
}

// The policy of a key says what a WebSocket may do that it signed, until it is revoked.
func TestWebSocketOfAKey(t *testing.T) {
	f := tlsFleet(t)
	k := f.newKey("ws", f.say("Allow", "iot:Connect", "client/"+f.name("mine")), f.say("Allow", "iot:Publish", "topic/"+f.topic("up")),
		f.say("Allow", "iot:Subscribe", "topicfilter/"+f.topic("down")), f.say("Allow", "iot:Receive", "topic/"+f.topic("down")))
	if _, err := k.overWebSocket(k.signedURL(f.http, handshake{}), nil, f.name("other")); err == nil {
		t.Error("connected with another client id")
	}
	d, err := k.overWebSocket(k.signedURL(f.http, handshake{}), nil, f.name("mine"))
	f.must(err)
	f.must(d.subscribe(f.topic("down"), 1))
	f.must(d.publish(f.topic("up"), "x", 1))
	if d.subscribe(f.topic("#"), 1) == nil {
		t.Error("subscribed to more")
	}
	if status := f.revoke(f.name("ws")); status != 200 {
		t.Fatal(status)
	}
	f.awaitGone(d)
	if status := f.upgrade(http.DefaultClient, k.signedURL(f.http, handshake{})); status != 403 {
		t.Errorf("with a revoked key: %d", status)
	}
}

// Who is known by a certificate signs nothing; one that is revoked ends the connection.
func TestWebSocketWithACertificate(t *testing.T) {
	f := tlsFleet(t)
	c := f.newCertificate(true)
	at := strings.Replace(f.deviceHTTPS, "127.0.0.1", "localhost", 1) + "/mqtt"
	cfg := f.config(with(c), func(c *tls.Config) { c.ServerName = "" })
	if _, err := f.overWebSocket(at, cfg, f.name("d")); err == nil {
		t.Error("connected without a policy")
	}
	f.must(f.attachPolicy(f.policy("ws", f.say("Allow", "iot:Connect", "client/"+f.name("d")), f.say("Allow", "iot:Publish", "topic/"+f.topic("up"))), f.certARN(c.id)))
	d, err := f.overWebSocket(at, cfg, f.name("d"))
	f.must(err)
	f.must(d.publish(f.topic("up"), "x", 1))
	if d.subscribe(f.topic("up"), 1) == nil {
		t.Error("subscribed")
	}
	_, err = f.api.UpdateCertificate(f.ctx, &iot.UpdateCertificateInput{CertificateId: &c.id, NewStatus: types.CertificateStatusRevoked})
	f.must(err)
	f.awaitGone(d)
}

// Over TLS nobody is let in whom nobody knows, and without TLS nobody from elsewhere.
func TestWebSocketOfAStranger(t *testing.T) {
	f := tlsFleet(t)
	if _, err := f.overWebSocket(strings.Replace(f.alpn, "127.0.0.1", "localhost", 1)+"/mqtt", f.config(func(c *tls.Config) { c.ServerName = "" }), f.name("d")); err == nil {
		t.Error("connected over TLS")
	}
	if status := f.upgrade(http.DefaultClient, f.http+"/mqtt", "X-Forwarded-For", "192.0.2.1"); status != 403 {
		t.Errorf("through a proxy: %d", status)
	}
}

// TestB009B218B220CustomAuthorizerOverMQTT: by ALPN mqtt nobody asks for a certificate; a custom authorizer
// decides, and its policies are enforced.
func TestB009B218B220CustomAuthorizerOverMQTT(t *testing.T) {
	t.Parallel()
	const policies = `[{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"},` +
		`{"Effect":"Allow","Action":["iot:Publish","iot:Receive"],"Resource":"arn:aws:iot:*:*:topic/${iot:ClientId}/*"},{"Effect":"Allow","Action":"iot:Subscribe","Resource":"arn:aws:iot:*:*:topicfilter/${iot:ClientId}/*"}]}]`
	fn := newFunction(t, `{"isAuthenticated":true,"principalId":"me","disconnectAfterInSeconds":300,"refreshAfterInSeconds":300,"policyDocuments":`+policies+`}`)
	f := fleetOn(t, ownServer(t, append([]string{fn.flag()}, tlsFlags...)...))
	in := f.openAuthorizer("a")
	in.Status = types.AuthorizerStatusActive
	_, err := f.api.CreateAuthorizer(f.ctx, in)
	f.must(err)
	dial := func() *mq.Client {
		t.Helper()
		conn, err := f.dialTLS(f.alpn, f.config(protocols("mqtt")))
		f.must(err)
		if got := conn.ConnectionState().NegotiatedProtocol; got != "mqtt" {
			t.Errorf("negotiated %q", got)
		}
		return mq.On(t, conn)
	}
	const user = "u?x-amz-customauthorizer-name=a"
	c := dial().Join(mq.Connect{Version: 5, ID: "d", Username: user})
	c.Granted(1, "d/down")
	if code := c.Publish(mq.Publish{Topic: "d/up", QoS: 1}); code != 0 {
		t.Errorf("publish: %#x", code)
	}
	if code := c.Publish(mq.Publish{Topic: "e/up", QoS: 1}); code != 0x87 {
		t.Errorf("another's topic: %#x", code)
	}
	if ack := c.Subscribe(mq.Filter{Filter: "#"}); ack[0] != 0x87 {
		t.Errorf("subscribe to all: %#x", ack)
	}
	if ack := dial().Hello(mq.Connect{Version: 5, ID: "d2", Username: "u"}); ack.Code == 0 {
		t.Error("let in without an authorizer")
	}
	fn.says(`{"isAuthenticated":false}`)
	if ack := dial().Hello(mq.Connect{Version: 5, ID: "d3", Username: user}); ack.Code != 0x86 {
		t.Errorf("not authenticated: %#x", ack.Code)
	}
	if ack := dial().Hello(mq.Connect{Version: 4, ID: "d4", Username: user}); ack.Code == 0 {
		t.Error("not authenticated, and let in")
	}
}

// send asks for something over HTTPS.
func (f *fleet) send(client *http.Client, method, url, body string) int {
	f.t.Helper()
	r, err := http.NewRequestWithContext(f.ctx, method, url, strings.NewReader(body))
	f.must(err)
	resp, err := client.Do(r)
	f.must(err)
	_, err = io.Copy(io.Discard, resp.Body)
	f.must(errors.Join(err, resp.Body.Close()))
	return resp.StatusCode
}

// TestB010B011PublishOverHTTPS: with a certificate, as its policy says.
func TestB010B011PublishOverHTTPS(t *testing.T) {
	f := tlsFleet(t)
	c := f.newCertificate(true)
	f.must(f.attachPolicy(f.policy("pub", f.say("Allow", "iot:Publish", "topic/"+f.topic("up"))), f.certARN(c.id)))
	heard := f.watch(f.topic("#"))
	for url, client := range map[string]*http.Client{
		f.deviceHTTPS: f.httpClient(f.config(with(c))),
		f.alpn:        f.alpnClient(f.config(with(c), protocols("x-amzn-http-ca"))),
	} {
		if status := f.send(client, "POST", url+"/topics/"+f.topic("up")+"?qos=1", "hello"); status != 200 {
			t.Errorf("%s: %d", url, status)
		}
		heard.Receive(f.topic("up"), "hello")
		for path, method := range map[string]string{
			"/topics/" + f.topic("other") + "?qos=1": "POST", "/topics/" + f.topic("up") + "?retain=true": "POST",
			"/retainedMessage/" + f.topic("up"): "GET", "/retainedMessage": "GET", "/connections/x": "DELETE",
		} {
			if status := f.send(client, method, url+path, ""); status != 403 {
				t.Errorf("%s %s: %d", method, path, status)
			}
		}
	}
}

// TestB120B261B262HTTPPermissions: each operation of the HTTP data plane takes its own.
func TestB120B261B262HTTPPermissions(t *testing.T) {
	f := tlsFleet(t)
	k := f.newKey("data", f.say("Allow", "iot:Publish", "topic/"+f.topic("*")), f.say("Allow", "iot:RetainPublish", "topic/"+f.topic("r")),
		f.say("Allow", "iot:ListRetainedMessages", "topic/*"), f.say("Allow", "iot:GetRetainedMessage", "topic/"+f.topic("r")))
	all := f.newKey("list", `{"Effect":"Allow","Action":"iot:ListRetainedMessages","Resource":"*"}`)
	for _, c := range []struct {
		who          *fleet
		method, path string
		want         int
	}{
		{k, "POST", "/topics/" + f.topic("r") + "?qos=1&retain=true", 200},
		{k, "POST", "/topics/" + f.topic("s") + "?qos=1", 200},
		{k, "POST", "/topics/" + f.topic("s") + "?qos=1&retain=true", 403},
		{k, "POST", "/topics/elsewhere?qos=1", 403},
		{k, "GET", "/retainedMessage/" + f.topic("r"), 200},
		{k, "GET", "/retainedMessage/" + f.topic("s"), 403},
		{k, "GET", "/retainedMessage", 403},
		{all, "GET", "/retainedMessage", 200},
		{k, "GET", "/connections/x", 403},
		{k, "GET", "/connections/x/subscriptions", 403},
		{k, "DELETE", "/connections/x", 403},
		{f, "DELETE", "/connections/" + f.name("x"), 404},
	} {
		if status, _, answer := c.who.call("iotdata", c.method, c.path, "x"); status != c.want {
			t.Errorf("%s %s: %d %v", c.method, c.path, status, answer)
		}
	}
}

// TestWebSocketOfAnotherOrigin: a page may use what the browser adds by itself, to be of this machine or a
// certificate, only where it comes from; with a signature in its URL it may come from anywhere.
func TestWebSocketOfAnotherOrigin(t *testing.T) {
	t.Parallel()
	const friend = "https://console.example.com"
	f := fleetOn(t, ownServer(t, append([]string{"--websocket-origin", friend}, tlsFlags...)...))
	device := f.httpClient(f.config(with(f.newCertificate(true))))
	for _, c := range []struct {
		name, url, origin string
		client            *http.Client
		want              int
	}{
		{"no page", f.http + "/mqtt", "", http.DefaultClient, 101},
		{"its own", f.http + "/mqtt", f.http, http.DefaultClient, 101},
		{"another", f.http + "/mqtt", "https://evil.example.com", http.DefaultClient, 403},
		{"none", f.http + "/mqtt", "null", http.DefaultClient, 403},
		{"one that is named", f.http + "/mqtt", friend, http.DefaultClient, 101},
		{"signed", f.signedURL(f.http, handshake{}), "https://evil.example.com", http.DefaultClient, 101},
		{"with a certificate", f.deviceHTTPS + "/mqtt", "https://evil.example.com", device, 403},
		{"with a certificate, its own", f.deviceHTTPS + "/mqtt", f.deviceHTTPS, device, 101},
	} {
		if status := f.upgrade(c.client, c.url, "Origin", c.origin); status != c.want {
			t.Errorf("%s: %d, want %d", c.name, status, c.want)
		}
	}
	// A name that somebody lets lead to this machine.
	r := f.upgrading(f.http + "/mqtt")
	r.Host = "evil.example.com"
	for name, value := range map[string]string{"Origin": "http://evil.example.com", "Sec-Websocket-Version": "13", "Sec-Websocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-Websocket-Protocol": "mqtt"} {
		r.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(r)
	f.must(err)
	f.must(resp.Body.Close())
	if resp.StatusCode != 403 {
		t.Errorf("a name that leads here: %d", resp.StatusCode)
	}
}

// TestCertificateEndsWhileConnected: what came in with a certificate ends when the certificate does.
func TestCertificateEndsWhileConnected(t *testing.T) {
	t.Parallel()
	f := fleetOn(t, ownServer(t, append([]string{"--test"}, tlsFlags...)...))
	thing := f.thing("t")
	c := selfSigned(t, "x", func(x *x509.Certificate) { x.NotAfter = time.Now().Add(time.Hour) })
	f.registerAlone(c, types.CertificateStatusActive)
	f.allow(c.id)
	events := f.watch("$aws/events/presence/disconnected/#")
	d, err := f.overTLS(f.mqtts, f.config(with(c)), "d", 5)
	f.must(err)
	w, err := f.overWebSocket(strings.Replace(f.deviceHTTPS, "127.0.0.1", "localhost", 1)+"/mqtt", f.config(with(c), func(c *tls.Config) { c.ServerName = "" }), "w")
	f.must(err)
	client := f.httpClient(f.config(with(c)))
	if status, err := f.pending(client, f.deviceHTTPS, thing); err != nil || status != 200 {
		t.Fatalf("%d, %v", status, err)
	}
	f.clock(`{"advance":"59m"}`)
	f.must(d.publish("x", "y", 1))
	f.clock(`{"advance":"2m"}`)
	f.awaitGone(d)
	f.awaitGone(w)
	for range 2 {
		if e := event(t, events); e["disconnectReason"] != "AUTH_ERROR" || e["principalIdentifier"] != c.id {
			t.Errorf("%v", e)
		}
	}
	if status, err := f.pending(client, f.deviceHTTPS, thing); err == nil {
		t.Errorf("HTTPS: %d", status)
	}
	f.shut(f.mqtts, f.config(with(c)))
}
