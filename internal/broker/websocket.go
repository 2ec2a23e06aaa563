package broker

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// subprotocol is what a client must offer that wants to speak MQTT.
const subprotocol = "mqtt"

// newUpgrader returns what answers handshakes. Pages of other origins are refused unless the owner
// knows better, because a browser would let any page that a person visits talk to a broker on this
// person's machine.
func newUpgrader(origin func(*http.Request) bool) *websocket.Upgrader {
	return &websocket.Upgrader{
		HandshakeTimeout: 10 * time.Second,
		Subprotocols:     []string{subprotocol},
		ReadBufferSize:   512, // stays with the connection; what is greater is read past it
		WriteBufferPool:  new(sync.Pool),
		CheckOrigin:      origin,
	}
}

// ServeWebSocket is an [http.HandlerFunc] that serves MQTT over WebSocket: binary messages,
// which may cut the packets anywhere. Like AWS it takes a client's close frame for its
// DISCONNECT: no will is sent (spec §3.3). It returns when the connection has begun; Close
// ends it.
func (b *Broker) ServeWebSocket(w http.ResponseWriter, r *http.Request) {
	if websocket.IsWebSocketUpgrade(r) && !slices.Contains(websocket.Subprotocols(r), subprotocol) {
		http.Error(w, "WebSocket without the subprotocol "+subprotocol, http.StatusBadRequest)
		return
	}
	if !b.pause(b.handshakes.Reserve().Delay()) {
		http.Error(w, "closing", http.StatusServiceUnavailable)
		return
	}
	ws, err := b.upgrader.Upgrade(w, r, nil)
	if err != nil {
		b.log.Debug("no WebSocket", "addr", r.RemoteAddr, "err", err) // the client has been told
		return
	}
	go b.ServeConn(newWebSocket(ws, r))
}

// webSocket is a WebSocket as the stream of bytes that its binary messages are. The library
// reads; writing is done here, because its deadlines for that are not to be changed while
// somebody writes.
type webSocket struct {
	net.Conn // below
	ws       *websocket.Conn
	request  *http.Request // of the handshake, until the client has been authenticated
	message  io.Reader     // the message that is being read; nil between messages
	failed   bool          // reading has; what still comes is of no use

	mu     sync.Mutex // held while writing
	closed bool       // the last frame has been sent
}

func newWebSocket(ws *websocket.Conn, r *http.Request) *webSocket {
	c := &webSocket{Conn: ws.NetConn(), ws: ws, request: r}
	ws.SetPingHandler(func(data string) error { return c.writeFrame(websocket.PongMessage, []byte(data)) })
	ws.SetCloseHandler(func(int, string) error { return nil }) // CloseWrite and Close answer
	return c
}

// errText ends a connection over which a text frame has come (MQTT 5 §6.0).
var errText = misuse(codeMalformed, "WebSocket message is not binary")

// errHungUp is a client's close frame.
var errHungUp = errors.New("client closed the WebSocket")

// Read returns errHungUp when the client has sent a close frame. After an error it returns
// what is on the wire, for those who only wait for its end.
func (c *webSocket) Read(p []byte) (n int, err error) {
	if c.failed {
		return c.Conn.Read(p)
	}
	for n == 0 && err == nil {
		if c.message == nil {
			var kind int
			if kind, c.message, err = c.ws.NextReader(); err == nil && kind != websocket.BinaryMessage {
				err = errText
			}
			if err != nil {
				break
			}
		}
		if n, err = c.message.Read(p); errors.Is(err, io.EOF) {
			c.message, err = nil, nil
		}
	}
	c.failed = err != nil
	return n, readError(err)
}

func readError(err error) error {
	var closed *websocket.CloseError
	var network net.Error
	switch {
	case errors.As(err, &closed) && closed.Code != websocket.CloseAbnormalClosure: // which is no frame
		return errHungUp
	case errors.As(err, &network) && network.Timeout():
		return os.ErrDeadlineExceeded // the library hides it
	}
	return err
}

// Write sends p as one message.
func (c *webSocket) Write(p []byte) (int, error) {
	if err := c.writeFrame(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// writeFrame sends a message, or a control message, of one frame.
func (c *webSocket) writeFrame(kind byte, p []byte) error {
	const final = 0x80
	frame := make([]byte, 0, 10+len(p))
	switch n := len(p); {
	case n < 126:
		frame = append(frame, final|kind, byte(n))
	case n <= 0xffff:
		frame = binary.BigEndian.AppendUint16(append(frame, final|kind, 126), uint16(n))
	default:
		frame = binary.BigEndian.AppendUint64(append(frame, final|kind, 127), uint64(n))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.closed = kind == websocket.CloseMessage
	_, err := c.Conn.Write(append(frame, p...))
	return err
}

// CloseWrite says that nothing more will come.
func (c *webSocket) CloseWrite() error {
	return c.writeFrame(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""))
}

// Close closes, after a close frame if the socket takes it at once.
func (c *webSocket) Close() error {
	// First, so that somebody who is writing makes way.
	if err := c.SetWriteDeadline(time.Now().Add(10 * time.Millisecond)); err == nil {
		_ = c.CloseWrite() // a courtesy
	}
	if t, ok := c.Conn.(interface{ NetConn() net.Conn }); ok {
		return t.NetConn().Close() // TLS would wait to say so
	}
	return c.Conn.Close()
}
