package broker

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func binaryHeader(command, family byte, body ...byte) []byte {
	b := append([]byte(proxySignature), command, family)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(body))), body...)
}

var (
	four = []byte{203, 0, 113, 7, 10, 0, 0, 1, 0x30, 0x39, 0x07, 0x5b}
	six  = append(append(append([]byte{0x20, 1, 0x0d, 0xb8}, make([]byte, 11)...), 7), append(make([]byte, 16), 0x30, 0x39, 0x07, 0x5b)...)
)

var proxyHeaders = map[string]struct {
	header []byte
	want   string // "": that of the connection; "bad": refused
}{
	"1 TCP4":            {[]byte("PROXY TCP4 203.0.113.7 10.0.0.1 12345 1883\r\n"), "203.0.113.7:12345"},
	"1 TCP6":            {[]byte("PROXY TCP6 2001:db8::7 ::1 12345 1883\r\n"), "[2001:db8::7]:12345"},
	"1 UNKNOWN":         {[]byte("PROXY UNKNOWN\r\n"), ""},
	"1 UNKNOWN, more":   {[]byte("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"), ""},
	"1 no CR":           {[]byte("PROXY TCP4 203.0.113.7 10.0.0.1 12345 1883\n"), "bad"},
	"1 other family":    {[]byte("PROXY TCP4 2001:db8::7 ::1 12345 1883\r\n"), "bad"},
	"1 port":            {[]byte("PROXY TCP4 203.0.113.7 10.0.0.1 123456 1883\r\n"), "bad"},
	"1 UDP":             {[]byte("PROXY UDP4 203.0.113.7 10.0.0.1 12345 1883\r\n"), "bad"},
	"1 endless":         {[]byte("PROXY " + strings.Repeat("x", 200) + "\r\n"), "bad"},
	"2 TCP4":            {binaryHeader(0x21, 0x11, four...), "203.0.113.7:12345"},
	"2 TCP6":            {binaryHeader(0x21, 0x21, six...), "[2001:db8::7]:12345"},
	"2 TCP4 and more":   {binaryHeader(0x21, 0x11, append(bytes.Clone(four), 4, 0, 1, 0)...), "203.0.113.7:12345"},
	"2 LOCAL":           {binaryHeader(0x20, 0), ""},
	"2 of a Unix proxy": {binaryHeader(0x21, 0x31, make([]byte, 216)...), ""},
	"2 cut off":         {binaryHeader(0x21, 0x21, four...), "bad"},
	"2 command":         {binaryHeader(0x22, 0x11, four...), "bad"},
	"none":              {connectPacket{version: 4, id: "nobody"}.encode(), "bad"},
}

// serveProxied starts a broker that trusts proxies on this machine.
func serveProxied(t *testing.T, trusted string, config *tls.Config) (o *owner, addr string) {
	t.Helper()
	b, o, _ := serve(t, Config{AcceptRate: -1})
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := ProxyListener(inner, []netip.Prefix{netip.MustParsePrefix(trusted)})
	if config != nil {
		l = tls.NewListener(l, config)
	}
	listen(t, b, l)
	return o, inner.Addr().String()
}

func TestProxyHeaders(t *testing.T) {
	t.Parallel()
	o, addr := serveProxied(t, "127.0.0.0/8", nil)
	hello := connectPacket{version: 4, id: "x"}.encode()
	for name, c := range proxyHeaders {
		for _, cut := range []int{1, len(c.header) + 3} {
			w := dial(t, addr)
			w.version = 4
			stream := append(bytes.Clone(c.header), hello...)
			if cut == 1 { // byte by byte
				for i := range c.header {
					if _, err := w.conn.Write(stream[i : i+1]); err != nil {
						break // refused already
					}
				}
				stream = stream[len(c.header):]
			}
			_, err := w.conn.Write(stream)
			if c.want == "bad" {
				if f, err := readFrame(w.r, 1000); err == nil {
					t.Errorf("%s: got %+v", name, f)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if f := w.next(); f.kind != typeConnack || f.body[1] != 0 {
				t.Fatalf("%s: got %+v", name, f)
			}
			client := receive(t, o.connected)
			want := c.want
			if want == "" {
				want = w.conn.LocalAddr().String()
			} else if client.in.raw == nil {
				t.Errorf("%s: the socket is not asked itself", name)
			}
			if got := client.RemoteAddr().String(); got != want {
				t.Errorf("%s: the client is %s, want %s", name, got, want)
			}
			w.publish(Message{Topic: "x/ask", QoS: 1, Payload: []byte("?")})
			for range 2 {
				w.next()
			}
			if err := w.conn.Close(); err != nil {
				t.Fatal(err)
			}
			receive(t, o.disconnected)
			receive(t, o.published)
		}
	}
}

// Who is not trusted says nothing about itself, and is served as it is.
func TestProxyNotTrusted(t *testing.T) {
	t.Parallel()
	o, addr := serveProxied(t, "192.0.2.0/24", nil)
	w := dial(t, addr)
	w.send(append([]byte("PROXY TCP4 203.0.113.7 10.0.0.1 12345 1883\r\n"), connectPacket{version: 4, id: strings.Repeat("liar", 10)}.encode()...))
	w.closed()
	join(t, addr, connectPacket{version: 4, id: "honest"})
	if c := receive(t, o.connected); c.ID() != "honest" || !strings.HasPrefix(c.RemoteAddr().String(), "127.0.0.1:") {
		t.Errorf("%s is %v", c.ID(), c.RemoteAddr())
	}
}

// The reason of the end is read although the client was sending, as without a proxy.
func TestProxyAndTLS(t *testing.T) {
	t.Parallel()
	server, client := testTLS(t)
	o, addr := serveProxied(t, "127.0.0.1/32", server)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(proxyHeaders["2 TCP4"].header); err != nil {
		t.Fatal(err)
	}
	config := client.Clone()
	config.ServerName = "127.0.0.1"
	w := newWire(t, tls.Client(conn, config))
	w.version = 5
	w.send(connectPacket{version: 5, id: "x"}.encode())
	w.next()
	c := receive(t, o.connected)
	if got := c.RemoteAddr().String(); got != "203.0.113.7:12345" {
		t.Errorf("the client is %s", got)
	}
	c.Disconnect()
	w.dismissed(codeAdministrative)
}

func TestProxyAndHTTP(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RemoteAddr) }))
	s.Listener = ProxyListener(s.Listener, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
	s.Start()
	t.Cleanup(s.Close)
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("PROXY TCP4 203.0.113.7 10.0.0.1 12345 80\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(answer.Body)
	if err != nil || string(text) != "203.0.113.7:12345" {
		t.Errorf("%q, %v", text, err)
	}
}

func FuzzProxyHeader(f *testing.F) {
	for _, c := range proxyHeaders {
		f.Add(c.header)
	}
	f.Fuzz(func(t *testing.T, header []byte) {
		rest := []byte("rest")
		r := bytes.NewReader(append(bytes.Clone(header), rest...))
		if _, err := readProxyHeader(r); err == nil && r.Len() < len(rest) && len(header) > 0 {
			// Only a header that is not whole reaches beyond itself.
			if _, err := readProxyHeader(bytes.NewReader(header)); err == nil {
				t.Errorf("%q: read too much", header)
			}
		}
	})
}
