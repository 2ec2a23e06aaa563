package fleetsim

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"

	"github.com/gorilla/websocket"
)

// dialWebSocket returns how to open MQTT over WebSocket to a ws or wss URL.
func dialWebSocket(url string, plain *net.Dialer, config *tls.Config) func(context.Context) (net.Conn, error) {
	dialer := &websocket.Dialer{NetDialContext: plain.DialContext, TLSClientConfig: config, Subprotocols: []string{"mqtt"},
		ReadBufferSize: 512, WriteBufferSize: 512}
	return func(ctx context.Context) (net.Conn, error) {
		ws, answer, err := dialer.DialContext(ctx, url, nil)
		if errors.Is(err, websocket.ErrBadHandshake) {
			return nil, errors.New("WebSocket refused: " + answer.Status)
		}
		if err != nil {
			return nil, err
		}
		return throughPipe(ws), nil
	}
}

// throughPipe makes a stream of a WebSocket. A device waits with deadlines, and after one a
// WebSocket can be read no more; a pipe can.
func throughPipe(ws *websocket.Conn) net.Conn {
	near, far := net.Pipe()
	end := func() { _, _ = ws.Close(), far.Close() } // whoever ends first ends both
	go func() {
		defer end()
		for {
			kind, message, err := ws.NextReader()
			if err != nil || kind != websocket.BinaryMessage {
				return
			}
			if _, err := io.Copy(far, message); err != nil {
				return
			}
		}
	}()
	go func() {
		defer end()
		buf := make([]byte, 1024)
		for {
			n, err := far.Read(buf)
			if err != nil {
				// The device has left; the server need not wonder.
				_ = ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Second))
				return
			}
			if err := ws.WriteMessage(websocket.BinaryMessage, buf[:n]); err != nil {
				return
			}
		}
	}()
	return near
}
