package broker

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/gorilla/websocket"
	"pgregory.net/rapid"
)

// serveWeb starts a broker behind an HTTP server and returns the URL of its WebSockets.
func serveWeb(t *testing.T, cfg Config, config *tls.Config) (b *Broker, o *owner, url string) {
	t.Helper()
	b, o, _ = serve(t, cfg)
	s := httptest.NewUnstartedServer(http.HandlerFunc(b.ServeWebSocket))
	if config == nil {
		s.Start()
	} else {
		s.TLS = config
		s.StartTLS()
	}
	t.Cleanup(s.Close)
	return b, o, "ws" + strings.TrimPrefix(s.URL, "http")
}

// webWire is a client that sends and sees raw packets, one message each unless told
// otherwise, and its WebSocket.
func webWire(t *testing.T, url string, version byte) (*wire, *websocket.Conn) {
	t.Helper()
	ws, _, err := (&websocket.Dialer{Subprotocols: []string{"mqtt"}}).Dial(url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if ws.Subprotocol() != "mqtt" {
		t.Errorf("subprotocol is %q", ws.Subprotocol())
	}
	conn := &clientSide{Conn: ws.NetConn(), ws: ws}
	w := newWire(t, conn)
	w.version = version
	return w, ws
}

type clientSide struct {
	net.Conn
	ws *websocket.Conn
	r  io.Reader
}

func (c *clientSide) Write(p []byte) (int, error) {
	return len(p), c.ws.WriteMessage(websocket.BinaryMessage, p)
}

func (c *clientSide) Read(p []byte) (int, error) {
	for {
		if c.r == nil {
			kind, r, err := c.ws.NextReader()
			if err != nil {
				return 0, err
			}
			if kind != websocket.BinaryMessage {
				return 0, errors.New("message is not binary")
			}
			c.r = r
		}
		n, err := c.r.Read(p)
		if errors.Is(err, io.EOF) {
			c.r, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// However the stream is cut into messages, and messages into frames, it is the same.
func TestB256WebSocketTakesAnyCut(t *testing.T) {
	_, o, url := serveWeb(t, Config{AcceptRate: -1}, nil)
	rapid.Check(t, func(rt *rapid.T) {
		ws, _, err := (&websocket.Dialer{Subprotocols: []string{"mqtt"}, WriteBufferSize: rapid.IntRange(20, 300).Draw(rt, "frame")}).Dial(url, nil)
		if err != nil {
			rt.Fatal(err)
		}
		defer func() { _ = ws.Close() }()
		if err := ws.SetReadDeadline(time.Now().Add(patience)); err != nil {
			rt.Fatal(err)
		}
		stream := connectPacket{version: 4}.encode()
		payload := bytes.Repeat([]byte("x"), rapid.IntRange(0, 10_000).Draw(rt, "payload"))
		for range 3 {
			m := Message{Topic: "x/ask", Payload: payload, QoS: 1}
			packet, _ := encodePublish(&m, 4, 1, false, false, 7, time.Now())
			stream = append(stream, packet...)
		}
		for len(stream) > 0 {
			n := min(rapid.IntRange(1, 20_000).Draw(rt, "message"), len(stream))
			if err := ws.WriteMessage(websocket.BinaryMessage, stream[:n]); err != nil {
				rt.Fatal(err)
			}
			stream = stream[n:]
		}
		r := bufio.NewReader(&clientSide{Conn: ws.NetConn(), ws: ws})
		kinds := map[byte]int{}
		for range 7 {
			f, err := readFrame(r, 1<<20)
			if err != nil {
				rt.Fatal(err)
			}
			kinds[f.kind]++
			if p, err := decodePublish(f, 4, time.Now()); f.kind == typePublish && (err != nil || !bytes.Equal(p.message.Payload, payload)) {
				rt.Fatalf("answer %+v, %v", p, err)
			}
		}
		if kinds[typeConnack] != 1 || kinds[typePuback] != 3 || kinds[typePublish] != 3 {
			rt.Fatalf("got %v", kinds)
		}
		for range 3 {
			<-o.published
		}
		<-o.connected
		if err := ws.WriteMessage(websocket.CloseMessage, nil); err != nil {
			rt.Fatal(err)
		}
		<-o.disconnected
	})
}

// A close frame is a farewell, a connection that breaks is not (spec §3.3).
func TestB063B255WebSocketEnds(t *testing.T) {
	t.Parallel()
	will := &Message{Topic: "will", Payload: []byte("gone")}
	for name, c := range map[string]struct {
		end    func(w *wire, ws *websocket.Conn)
		reason DisconnectReason
		will   bool
	}{
		"close frame": {func(w *wire, ws *websocket.Conn) {
			w.t.Helper()
			if err := ws.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseGoingAway, "")); err != nil {
				w.t.Fatal(err)
			}
			if _, err := readFrame(w.r, 1); !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
				w.t.Errorf("got %v, want a close frame", err)
			}
		}, ClientInitiated, false},
		"cut": {func(w *wire, ws *websocket.Conn) { _ = ws.Close() }, ConnectionLost, true},
		"text": {func(w *wire, ws *websocket.Conn) {
			w.t.Helper()
			if err := ws.WriteMessage(websocket.TextMessage, []byte{typePingreq << 4, 0}); err != nil {
				w.t.Fatal(err)
			}
			w.dismissed(codeMalformed)
		}, ClientError, true},
		"DISCONNECT": {func(w *wire, ws *websocket.Conn) { w.send([]byte{typeDisconnect << 4, 0}) }, ClientInitiated, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, o, url := serveWeb(t, Config{}, nil)
			watcher, _ := webWire(t, url, 4)
			watcher.send(connectPacket{version: 4, id: "watcher"}.encode())
			watcher.next()
			watcher.subscribe("will")
			w, ws := webWire(t, url, 5)
			w.send(connectPacket{version: 5, id: "w", will: will}.encode())
			w.next()
			c.end(w, ws)
			if e := receive(t, o.disconnected); e.reason != c.reason {
				t.Errorf("reason is %s, want %s", e.reason, c.reason)
			}
			if c.will {
				if m := watcher.message(); string(m.message.Payload) != "gone" {
					t.Errorf("got %+v", m)
				}
			}
			watcher.quiet()
		})
	}
}

func TestWebSocketPing(t *testing.T) {
	t.Parallel()
	_, _, url := serveWeb(t, Config{}, nil)
	w, ws := webWire(t, url, 4)
	pong := make(chan string, 1)
	ws.SetPongHandler(func(data string) error { pong <- data; return nil })
	if err := ws.WriteMessage(websocket.PingMessage, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	w.send(connectPacket{version: 4, id: "w"}.encode())
	w.next()
	if got := receive(t, pong); got != "hello" {
		t.Errorf("pong %q", got)
	}
}

func TestB254WebSocketHandshake(t *testing.T) {
	t.Parallel()
	_, _, url := serveWeb(t, Config{}, nil)
	for name, c := range map[string]struct {
		protocols []string
		header    http.Header
		status    int
	}{
		"no subprotocol":      {nil, nil, http.StatusBadRequest},
		"another subprotocol": {[]string{"chat"}, nil, http.StatusBadRequest},
		"another origin":      {[]string{"mqtt"}, http.Header{"Origin": {"http://example.com"}}, http.StatusForbidden},
	} {
		_, answer, err := (&websocket.Dialer{Subprotocols: c.protocols}).Dial(url, c.header)
		if err == nil || answer == nil || answer.StatusCode != c.status {
			t.Errorf("%s: %v, %v", name, answer, err)
		}
	}
	webWire(t, url, 4) // wants the subprotocol back
	answer, err := http.Get("http" + strings.TrimPrefix(url, "ws"))
	if err != nil {
		t.Fatal(err)
	}
	if err := answer.Body.Close(); err != nil || answer.StatusCode != http.StatusBadRequest {
		t.Errorf("plain HTTP: %v, %v", answer.Status, err)
	}
}

// The reason reaches the client although it was reading.
func TestWebSocketDismissed(t *testing.T) {
	t.Parallel()
	_, o, url := serveWeb(t, Config{}, nil)
	w, _ := webWire(t, url, 5)
	w.send(connectPacket{version: 5, id: "w"}.encode())
	w.next()
	receive(t, o.connected).Disconnect()
	w.dismissed(codeAdministrative)
}

func TestPahoOverWebSocketAndTLS(t *testing.T) {
	t.Parallel()
	server, client := testTLS(t)
	_, o, url := serveWeb(t, Config{}, server)
	got := make(chan mqtt.Message, 1)
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(url + "/mqtt").SetTLSConfig(client).SetClientID("paho").SetAutoReconnect(false).
		SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { got <- m }))
	for _, step := range []func() mqtt.Token{
		c.Connect,
		func() mqtt.Token { return c.Publish("x/ask", 1, false, strings.Repeat("x", 100_000)) },
	} {
		if token := step(); !token.WaitTimeout(patience) || token.Error() != nil {
			t.Fatal("no answer: ", token.Error())
		}
	}
	if m := receive(t, got); len(m.Payload()) != 100_000 {
		t.Errorf("got %d bytes", len(m.Payload()))
	}
	c.Disconnect(100)
	if e := receive(t, o.disconnected); e.reason != ClientInitiated {
		t.Errorf("reason is %s", e.reason)
	}
}

// byQuery lets in who knows the word.
type byQuery struct{}

func (byQuery) Authenticate(_ context.Context, l Login) (Identity, error) {
	if l.Request == nil || l.Request.URL.Query().Get("word") != "sesame" || l.Request.TLS == nil {
		return Identity{}, errors.New("not the word")
	}
	return Identity{Principal: "ali"}, nil
}

// What the handshake says is there for who authenticates.
func TestWebSocketRequest(t *testing.T) {
	t.Parallel()
	server, client := testTLS(t)
	_, _, url := serveWeb(t, Config{Authenticator: byQuery{}}, server)
	for word, code := range map[string]byte{"sesame": codeSuccess, "barley": codeNotAuthorized} {
		ws, _, err := (&websocket.Dialer{Subprotocols: []string{"mqtt"}, TLSClientConfig: client}).Dial(url+"/?word="+word, nil)
		if err != nil {
			t.Fatal(err)
		}
		w := newWire(t, &clientSide{Conn: ws.NetConn(), ws: ws})
		w.send(connectPacket{version: 5, id: word}.encode())
		if f := w.next(); f.kind != typeConnack || f.body[1] != code {
			t.Errorf("%s: got %+v, want %#x", word, f, code)
		}
	}
}
