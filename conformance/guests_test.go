package conformance

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	paho3 "github.com/eclipse/paho.mqtt.golang"

	mq "drover/internal/mqtttest"
)

// Who shows neither a certificate nor a signature, and is a custom authorizer's matter, over HTTP.

// guestPolicy lets a guest publish to in/…, retain at in/kept, and hear out/….
const guestPolicy = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"},` +
	`{"Effect":"Allow","Action":["iot:Publish","iot:Receive"],"Resource":["arn:aws:iot:*:*:topic/in/*","arn:aws:iot:*:*:topic/out/*"]},` +
	`{"Effect":"Allow","Action":"iot:RetainPublish","Resource":"arn:aws:iot:*:*:topic/in/kept"},` +
	`{"Effect":"Allow","Action":"iot:Subscribe","Resource":"arn:aws:iot:*:*:topicfilter/out/*"}]}`

// guestAnswer lets somebody in for so many seconds, and wants to be asked again.
func guestAnswer(disconnect, refresh int, policy string) string {
	return fmt.Sprintf(`{"isAuthenticated":true,"principalId":"me","disconnectAfterInSeconds":%d,"refreshAfterInSeconds":%d,"policyDocuments":[%s]}`, disconnect, refresh, policy)
}

// guests is a server with a function and two authorizers: "open" takes any token in X-Token, and
// "signed" those that are signed with sign.
func guests(t *testing.T, flags ...string) (f *fleet, fn *function, sign func(token string) string) {
	t.Helper()
	fn = newFunction(t, guestAnswer(86400, 300, guestPolicy))
	f = fleetOn(t, ownServer(t, slices.Concat([]string{fn.flag()}, tlsFlags, flags)...))
	sign, public := tokenKey(t)
	open := f.openAuthorizer("open")
	open.Status, open.TokenKeyName = types.AuthorizerStatusActive, aws.String("X-Token")
	for _, in := range []*iot.CreateAuthorizerInput{open, {
		AuthorizerName: aws.String("signed"), AuthorizerFunctionArn: aws.String(functionARN), Status: types.AuthorizerStatusActive,
		TokenKeyName: aws.String("token"), TokenSigningPublicKeys: map[string]string{"k": public}, EnableCachingForHttp: aws.Bool(true),
	}} {
		_, err := f.api.CreateAuthorizer(f.ctx, in)
		f.must(err)
	}
	return f, fn, sign
}

// told returns the events so far, and forgets them.
func (f *function) told() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	events := f.events
	f.events = nil
	return events
}

// post publishes without a signature.
func (f *fleet) post(client *http.Client, url string, header ...string) (status int, answer string) {
	f.t.Helper()
	r, err := http.NewRequestWithContext(f.ctx, "POST", url, strings.NewReader("hello"))
	f.must(err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := client.Do(r)
	f.must(err)
	text, err := io.ReadAll(resp.Body)
	f.must(err)
	f.must(resp.Body.Close())
	return resp.StatusCode, string(text)
}

// TestB217B218B220B225PublishOfAGuest: an authorizer decides about a message over HTTPS without a
// signature; its function is told of headers and query, and once for a connection if it says so.
func TestB217B218B220B225PublishOfAGuest(t *testing.T) {
	t.Parallel()
	f, fn, sign := guests(t)
	client := f.httpClient(f.config())
	heard := f.watch("in/#")
	const name = "?x-amz-customauthorizer-name="

	status, answer := f.post(client, f.alpn+"/topics/in/a"+name+"open&a=b%20c", "X-Token", "t")
	if status != 200 {
		t.Fatalf("%d %s", status, answer)
	}
	heard.Receive("in/a", "hello")
	var event struct {
		Token        string
		Protocols    []string
		ProtocolData struct {
			TLS  struct{ ServerName string }
			HTTP struct {
				Headers     map[string]string
				QueryString string
			}
			MQTT any
		}
		ConnectionMetadata struct{ ID string }
	}
	f.must(json.Unmarshal([]byte(fn.told()[0]), &event))
	data := event.ProtocolData
	if event.Token != "t" || fmt.Sprint(event.Protocols) != "[tls http]" || data.TLS.ServerName != serverName || data.HTTP.QueryString != name+"open&a=b%20c" ||
		data.HTTP.Headers["X-Token"] != "t" || data.MQTT != nil || event.ConnectionMetadata.ID == "" {
		t.Errorf("event %+v", event)
	}

	// What the policy does not say, and what a guest can never do.
	for _, path := range []string{"/topics/elsewhere", "/topics/in/a?retain=true", "/topics/$aws/things/x/jobs/get", "/topics/in/" + strings.Repeat("x", 300)} {
		if status, answer := f.post(client, f.alpn+strings.Replace(path+name+"open", "true?", "true&", 1)); status != 403 && status != 400 {
			t.Errorf("%s: %d %s", path, status, answer)
		}
	}
	if status, answer := f.post(client, f.alpn+"/topics/in/kept"+name+"open&retain=true"); status != 200 {
		t.Errorf("retained: %d %s", status, answer)
	}
	heard.Receive("in/kept", "hello")
	fn.told()
	for path, method := range map[string]string{"/retainedMessage/in/kept": "GET", "/connections/x": "DELETE", "/things/x/jobs": "GET", "/things": "GET", "/topics": "POST"} {
		if status := f.send(client, method, f.alpn+path+name+"open", ""); status != 403 {
			t.Errorf("%s %s: %d", method, path, status)
		}
	}
	if status, err := f.pending(client, f.deviceHTTPS, "x"); err == nil {
		t.Errorf("where devices show certificates: %d", status)
	}

	// Who is refused, before anybody is asked, and told nothing.
	token := url.Values{"token": {"t"}, "x-amz-customauthorizer-signature": {sign("t")}}.Encode()
	for what, query := range map[string]string{
		"no authorizer, and no default one": "", "an unknown one": name + "nobody", "no token": name + "signed", "a token that is not signed": name + "signed&token=t",
		"the signature of another": name + "signed&" + strings.Replace(token, "token=t", "token=u", 1),
		"half a signature":         name + "signed&" + token[:len(token)-8],
	} {
		status, answer := f.post(client, f.alpn+"/topics/in/a"+query)
		if status != 403 || !strings.Contains(answer, `"Forbidden"`) {
			t.Errorf("%s: %d %s", what, status, answer)
		}
	}
	if asked := fn.told(); len(asked) != 0 {
		t.Errorf("the function was asked %q", asked)
	}

	// One question for several requests on a connection, if the authorizer says so.
	for range 3 {
		if status, answer := f.post(client, f.alpn+"/topics/in/a"+name+"signed&"+token); status != 200 {
			t.Fatalf("%d %s", status, answer)
		}
		heard.Receive("in/a", "hello")
	}
	if asked := fn.told(); len(asked) != 1 || !strings.Contains(asked[0], `"signatureVerified":true`) {
		t.Errorf("the function was asked %q", asked)
	}
	for range 2 {
		f.post(client, f.alpn+"/topics/in/a"+name+"open")
	}
	client.CloseIdleConnections()
	f.post(client, f.alpn+"/topics/in/a"+name+"signed&"+token)
	if asked := fn.told(); len(asked) != 3 {
		t.Errorf("without caching, and on another connection: the function was asked %d times", len(asked))
	}

	for _, no := range []string{`{"isAuthenticated":false}`, `{}`, `{"isAuthenticated":true,"principalId":"me","policyDocuments":["x"]}`} {
		fn.says(no)
		if status, answer := f.post(client, f.alpn+"/topics/in/a"+name+"open"); status != 403 || !strings.Contains(answer, `"Forbidden"`) {
			t.Errorf("%s: %d %s", no, status, answer)
		}
	}
	// The default one is asked when nobody is named; without TLS, too.
	fn.says(guestAnswer(300, 300, guestPolicy))
	_, err := f.api.SetDefaultAuthorizer(f.ctx, &iot.SetDefaultAuthorizerInput{AuthorizerName: aws.String("open")})
	f.must(err)
	fn.told()
	if status, answer := f.post(http.DefaultClient, f.http+"/topics/in/a"); status != 200 {
		t.Errorf("by the default authorizer: %d %s", status, answer)
	}
	if asked := fn.told(); len(asked) != 1 || !strings.Contains(asked[0], `"protocols":["http"]`) {
		t.Errorf("the function was told %q", asked)
	}
}

// TestB213B217B218HandshakeOfAGuest: what the handshake of a WebSocket says to an authorizer is
// decided before the upgrade, and a CONNECT that says more is decided again.
func TestB213B217B218HandshakeOfAGuest(t *testing.T) {
	t.Parallel()
	f, fn, sign := guests(t)
	cfg := f.config(func(c *tls.Config) { c.ServerName = "" })
	at := strings.Replace(f.alpn, "127.0.0.1", "localhost", 1) + "/mqtt"
	client := f.httpClient(f.config())
	token := url.Values{"token": {"t"}, "x-amz-customauthorizer-signature": {sign("t")}}.Encode()
	const open = "?x-amz-customauthorizer-name=open"
	const signed = "?x-amz-customauthorizer-name=signed"

	works := func(d *device, err error) {
		t.Helper()
		f.must(err)
		f.must(d.publish("in/a", "x", 1))
		if d.subscribe("in/a", 1) == nil {
			t.Error("subscribed to what no policy allows")
		}
		d.disconnect()
	}
	works(f.overWebSocket(at+open, cfg, f.name("a")))
	asked := fn.told()
	if len(asked) != 1 || !strings.Contains(asked[0], `"protocols":["tls","http"]`) || !strings.Contains(asked[0], `"queryString":"`+open) {
		t.Errorf("told %q", asked)
	}
	works(f.overWebSocket(at+signed+"&"+token, cfg, f.name("b"), func(o *paho3.ClientOptions) { o.SetUsername("?SDK=PythonV2&Version=1") }))
	if asked := fn.told(); len(asked) != 1 || !strings.Contains(asked[0], `"signatureVerified":true`) {
		t.Errorf("what an SDK says of itself: told %q", asked)
	}
	works(f.overWebSocket(at, cfg, f.name("c"), func(o *paho3.ClientOptions) {
		o.SetHTTPHeaders(http.Header{"X-Amz-Customauthorizer-Name": {"open"}, "X-Token": {"h"}}).SetUsername("me").SetPassword("pw")
	}))
	if asked := fn.told(); len(asked) != 2 || !strings.Contains(asked[0], `"token":"h"`) || !strings.Contains(asked[1], `"protocols":["tls","http","mqtt"]`) ||
		!strings.Contains(asked[1], `"token":"h"`) || !strings.Contains(asked[1], `"mqtt":{"username":"me","password":"cHc=","clientId":"`) {
		t.Errorf("the CONNECT says more: told %q", asked)
	}
	// Without TLS an authorizer decides, too, if it is named, and the policy that it gives holds.
	works(f.overWebSocket(f.http+"/mqtt"+open, nil, f.name("d")))
	fn.told()

	for what, query := range map[string]string{
		"an unknown one": "?x-amz-customauthorizer-name=nobody", "no token": signed, "a token that is not signed": signed + "&token=t",
		"half a signature": signed + "&" + token[:len(token)-8], "a signature for nobody": "?x-amz-customauthorizer-signature=eA==",
	} {
		for _, address := range []string{f.alpn, f.http} {
			if status := f.upgrade(client, address+"/mqtt"+query); status != 403 {
				t.Errorf("%s, %s: %d", what, address, status)
			}
		}
	}
	if asked := fn.told(); len(asked) != 0 {
		t.Errorf("the function was asked %q", asked)
	}
	fn.says(`{"isAuthenticated":false}`)
	if status := f.upgrade(client, f.alpn+"/mqtt"+open); status != 403 {
		t.Errorf("not authenticated: %d", status)
	}
	// Who says nothing yet comes to his CONNECT.
	if status := f.upgrade(client, f.alpn+"/mqtt"); status != 101 {
		t.Errorf("nothing said: %d", status)
	}
	// The default one looks for its token.
	_, err := f.api.SetDefaultAuthorizer(f.ctx, &iot.SetDefaultAuthorizerInput{AuthorizerName: aws.String("open")})
	f.must(err)
	if status := f.upgrade(client, f.alpn+"/mqtt", "X-Token", "t"); status != 403 {
		t.Errorf("with the token of the default one: %d", status)
	}
}

// TestB140B222B223B257TimesOfConnections: when an authorizer said so it is asked again and the
// connection ends, and one that a signature began ends after a day. The clock of the server shows the
// time.
func TestB140B222B223B257TimesOfConnections(t *testing.T) {
	t.Parallel()
	f, fn, _ := guests(t, "--test")
	events := f.watch("$aws/events/presence/disconnected/#")
	ended := func(d *mq.Client, client, reason string) {
		t.Helper()
		d.Dismissed(0xA0)
		if e := event(t, events); e["clientId"] != client || e["disconnectReason"] != reason || e["clientInitiatedDisconnect"] != false {
			t.Errorf("want the end of %s by %s: %v", client, reason, e)
		}
	}
	guest := func(id string) *mq.Client {
		t.Helper()
		conn, err := f.dialTLS(f.alpn, f.config(protocols("mqtt")))
		f.must(err)
		return mq.On(t, conn).Join(mq.Connect{Version: 5, ID: id, Username: "u?x-amz-customauthorizer-name=open"})
	}

	fn.says(guestAnswer(900, 300, guestPolicy))
	c := guest("a")
	c.Granted(1, "out/x")
	code := c.Publish(mq.Publish{Topic: "in/x", QoS: 1})
	other := strings.ReplaceAll(guestPolicy, "topic/in/", "topic/on/")
	fn.says(guestAnswer(900, 300, other))
	fn.told()
	f.clock(`{"advance":"299s"}`)
	if asked := fn.told(); code != 0 || len(asked) != 0 {
		t.Fatalf("published: %#x, asked again too early: %v", code, asked)
	}
	f.clock(`{"advance":"2s"}`)
	f.eventually("the function is asked again", func() bool { return len(fn.told()) == 1 })
	f.eventually("the new policy holds", func() bool { return c.Publish(mq.Publish{Topic: "in/x", QoS: 1}) == 0x87 })
	if code := c.Publish(mq.Publish{Topic: "on/x", QoS: 1}); code != 0 {
		t.Errorf("what the new policy allows: %#x", code)
	}
	// The time is that of the first answer: asking again does not begin it anew.
	f.clock(`{"advance":"10m"}`)
	ended(c, "a", "CUSTOMAUTH_TTL_EXPIRATION")

	// A no when it is asked again.
	c = guest("b")
	fn.says(`{"isAuthenticated":false}`)
	f.clock(`{"advance":"301s"}`)
	c.Dismissed(0x87)
	if e := event(t, events); e["clientId"] != "b" || e["disconnectReason"] != "AUTH_ERROR" {
		t.Errorf("%v", e)
	}

	// A day of a WebSocket that a key signed, whatever its URL said.
	d, err := f.overWebSocket(f.signedURL(f.http, handshake{}), nil, "d")
	f.must(err)
	f.clock(`{"advance":"23h59m"}`)
	f.must(d.publish("x", "y", 1))
	f.clock(`{"advance":"2m"}`)
	f.awaitGone(d)
	if e := event(t, events); e["clientId"] != "d" || e["disconnectReason"] != "WEBSOCKET_TTL_EXPIRATION" {
		t.Errorf("%v", e)
	}
}
