package conformance

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	mq "drover/internal/mqtttest"
)

// Who fails to show who he is: slowly, cheaply, and without being told why. The clients come from
// elsewhere, which a load balancer on this machine says.

const proxyAddress = "127.0.0.2"

// from dials as a load balancer does for a client of an address.
func (f *fleet) from(client string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(proxyAddress)}}).DialContext(ctx, network, addr)
		if err == nil {
			_, err = fmt.Fprintf(conn, "PROXY TCP4 %s %s 4711 443\r\n", client, proxyAddress)
		}
		return conn, err
	}
}

// clientFrom is an HTTP client of an address.
func (f *fleet) clientFrom(address string) *http.Client {
	transport := &http.Transport{DialContext: f.from(address), TLSClientConfig: f.config()}
	f.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

// answers returns how often which status came with which type of error.
func (f *fleet) answers(client *http.Client, n int, request func() *http.Request) map[string]int {
	f.t.Helper()
	found := map[string]int{}
	for range n {
		resp, err := client.Do(request())
		f.must(err)
		text, err := io.ReadAll(resp.Body)
		f.must(err)
		f.must(resp.Body.Close())
		kind := resp.Header.Get("X-Amzn-Errortype")
		if _, rest, ok := strings.Cut(string(text), "<Code>"); ok {
			kind, _, _ = strings.Cut(rest, "<")
		}
		found[fmt.Sprint(resp.StatusCode, " ", kind)]++
	}
	return found
}

// TestFailuresAreSlow: at every door that asks who somebody is, a source can fail a hundred times at
// once and ten times a second after that. Others are not concerned, nor is what has been shown from
// there before, and the source itself is not shut out for good.
func TestFailuresAreSlow(t *testing.T) {
	t.Parallel()
	f, fn, _ := guests(t, "--proxy-protocol", proxyAddress+"/32")
	fresh, known := f.newKey("new", `{"Effect":"Allow","Action":"iot:*","Resource":"*"}`), f.newKey("old", `{"Effect":"Allow","Action":"iot:*","Resource":"*"}`)
	bucket := f.newBucket()
	f.putObject(bucket, "k", []byte("x"))
	wrong := &fleet{t: t, server: &server{http: f.http, alpn: f.alpn, key: f.key, secret: "wrong", region: f.region}, ctx: f.ctx}
	nobody := &fleet{t: t, server: &server{http: f.http, alpn: f.alpn, key: "AKIDNOBODY0000000000", secret: "wrong", region: f.region}, ctx: f.ctx}

	for i, door := range []struct {
		name    string
		wrong   func(as *fleet) *http.Request
		refused string
		away    string
		good    func(as *fleet) *http.Request // nil: as of the API
		ok      string
	}{
		{"API", func(as *fleet) *http.Request { return as.signed("iot", "GET", "/jobs", "") }, "403 InvalidSignatureException", "400 ThrottlingException",
			func(as *fleet) *http.Request { return as.signed("iot", "GET", "/jobs", "") }, "200 "},
		{"jobs of devices", func(as *fleet) *http.Request { return as.signed("iot-jobs-data", "GET", "/things/x/jobs", "") }, "403 InvalidSignatureException", "429 ThrottlingException", nil, ""},
		{"messages", func(as *fleet) *http.Request { return as.signed("iotdata", "POST", "/topics/x", "") }, "403 InvalidSignatureException", "429 ThrottlingException", nil, ""},
		{"drover's own", func(as *fleet) *http.Request { return as.signed("iot", "GET", "/_drover/keys", "") }, "403 InvalidSignatureException", "400 ThrottlingException", nil, ""},
		{"objects", func(as *fleet) *http.Request { return f.get(as.presign("GET", "/"+bucket+"/k", time.Now())) }, "403 SignatureDoesNotMatch", "503 SlowDown", nil, ""},
		{"handshakes", func(as *fleet) *http.Request { return f.upgrading(as.signedURL(f.http, handshake{})) }, "403 ForbiddenException", "403 ForbiddenException", nil, ""},
		{"guests", func(*fleet) *http.Request { return f.publish("?x-amz-customauthorizer-name=none") }, "403 ForbiddenException", "503 ServiceUnavailableException",
			func(*fleet) *http.Request { return f.publish("?x-amz-customauthorizer-name=open") }, "200 "},
	} {
		address := fmt.Sprintf("192.0.2.%d", 10+i)
		client := f.clientFrom(address)
		if door.good != nil {
			if got := f.answers(client, 1, func() *http.Request { return door.good(known) }); got[door.ok] != 1 {
				t.Fatalf("%s, before: %v", door.name, got)
			}
		}
		began := time.Now()
		got := f.answers(client, 150, func() *http.Request { return door.wrong(wrong) })
		most := 100 + 10*int(time.Since(began)/time.Second+1)
		if door.refused != door.away && (got[door.refused] < 100 || got[door.refused] > most || got[door.refused]+got[door.away] != 150) {
			t.Errorf("%s: %v, at most %d were to be looked at", door.name, got, most)
		}
		if got := f.answers(f.clientFrom("198.51.100.1"), 1, func() *http.Request { return door.wrong(nobody) }); got[door.refused] != 1 {
			t.Errorf("%s, an unknown key from elsewhere: %v", door.name, got)
		}
		if door.good == nil {
			continue
		}
		f.answers(client, 20, func() *http.Request { return door.wrong(wrong) })
		if got := f.answers(client, 1, func() *http.Request { return door.good(known) }); got[door.ok] != 1 {
			t.Errorf("%s, what was shown before: %v", door.name, got)
		}
		f.eventually(door.name+": the source is heard again", func() bool {
			return f.answers(client, 1, func() *http.Request { return door.good(fresh) })[door.ok] == 1
		})
	}

	// MQTT with a user name: the function is not asked for more than there is credit.
	fn.says(`{"isAuthenticated":false}`)
	fn.told()
	codes := map[byte]int{}
	began := time.Now()
	for range 150 {
		conn, err := f.from("192.0.2.50")(f.ctx, "tcp", address(f.alpn))
		f.must(err)
		w := mq.On(t, tls.Client(conn, f.config(protocols("mqtt"))))
		codes[w.Hello(mq.Connect{Version: 5, ID: "d", Username: "u?x-amz-customauthorizer-name=open"}).Code]++
		w.Cut()
	}
	if most := 100 + 10*int(time.Since(began)/time.Second+1); codes[0x86] < 100 || codes[0x86] > most || codes[0x86]+codes[0x88] != 150 || len(fn.told()) != codes[0x86] {
		t.Errorf("MQTT: %v, at most %d were to be looked at", codes, most)
	}

	// Certificates: the handshake does not begin.
	revoked := f.newCertificate(true)
	f.must(f.setStatus(revoked.id, types.CertificateStatusRevoked))
	alerts := 0
	began = time.Now()
	for range 150 {
		conn, err := f.from("192.0.2.51")(f.ctx, "tcp", address(f.mqtts))
		f.must(err)
		c := tls.Client(conn, f.config(with(revoked), func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }))
		if err := c.HandshakeContext(f.ctx); err == nil {
			t.Fatal("let in")
		} else if strings.Contains(err.Error(), "bad certificate") {
			alerts++
		}
		f.must(conn.Close())
	}
	if most := 100 + 10*int(time.Since(began)/time.Second+1); alerts < 100 || alerts > most {
		t.Errorf("certificates: %d of 150 were looked at, at most %d", alerts, most)
	}
}

func (f *fleet) get(url string) *http.Request {
	f.t.Helper()
	r, err := http.NewRequestWithContext(f.ctx, "GET", url, nil)
	f.must(err)
	return r
}

// upgrading is the handshake of a WebSocket.
func (f *fleet) upgrading(url string) *http.Request {
	r := f.get(url)
	r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}}
	return r
}

// publish is a message of somebody who signs nothing.
func (f *fleet) publish(query string) *http.Request {
	f.t.Helper()
	r, err := http.NewRequestWithContext(f.ctx, "POST", f.alpn+"/topics/in/a"+query, strings.NewReader("x"))
	f.must(err)
	return r
}
