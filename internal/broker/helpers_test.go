package broker

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

const patience = 10 * time.Second

// owner is a Handler that tells what it is called with and answers by topic:
// requests (".../ask") are answered to the asking client alone, topics below
// "forbidden" are refused, those below "denied" denied.
type owner struct {
	connected    chan *Client
	disconnected chan ended
	subscribed   chan []string
	unsubscribed chan []string
	published    chan Message
}

type ended struct {
	client *Client
	reason DisconnectReason
}

func newOwner() *owner {
	return &owner{make(chan *Client, 100), make(chan ended, 100), make(chan []string, 100), make(chan []string, 100), make(chan Message, 1000)}
}

func (o *owner) Connected(c *Client)                        { o.connected <- c }
func (o *owner) Disconnected(c *Client, r DisconnectReason) { o.disconnected <- ended{c, r} }
func (o *owner) Subscribed(_ *Client, f []string)           { o.subscribed <- f }
func (o *owner) Unsubscribed(_ *Client, f []string)         { o.unsubscribed <- f }
func (o *owner) AllowSubscribe(_ *Client, f string) bool    { return !strings.HasPrefix(f, "forbidden/") }

func (o *owner) Publish(c *Client, m Message) Verdict {
	m.Payload = bytes.Clone(m.Payload)
	o.published <- m
	switch {
	case strings.HasPrefix(m.Topic, "forbidden/"):
		return Refuse
	case strings.HasPrefix(m.Topic, "denied/"):
		return Deny
	case strings.HasSuffix(m.Topic, "/ask"):
		answer := Message{Topic: m.Topic + "/accepted", Payload: m.Payload, QoS: m.QoS, Properties: m.Properties}
		if err := c.Deliver(answer); err != nil && !errors.Is(err, ErrOffline) {
			panic(err)
		}
		return Handled
	}
	return Route
}

// readFrame reads one packet of at most limit bytes after its fixed header, the slow and
// obvious way.
func readFrame(r *bufio.Reader, limit int) (frame, error) {
	first, err := r.ReadByte()
	if err != nil {
		return frame{}, err
	}
	size, shift := 0, 0
	for {
		b, err := r.ReadByte()
		if err != nil {
			return frame{}, err
		}
		size |= int(b&0x7f) << shift
		if b < 0x80 {
			break
		}
		if shift += 7; shift > 21 {
			return frame{}, errMalformed
		}
	}
	f := frame{kind: first >> 4, flags: first & 0x0f}
	if size > limit {
		return f, misuse(codeTooLarge, "packet too large")
	}
	if size > 0 {
		f.body = make([]byte, size)
		if _, err := io.ReadFull(r, f.body); err != nil {
			return f, err
		}
	}
	return f, nil
}

// indifferent is a Handler that allows everything.
type indifferent struct{}

func (indifferent) Connected(*Client)                      {}
func (indifferent) Disconnected(*Client, DisconnectReason) {}
func (indifferent) Subscribed(*Client, []string)           {}
func (indifferent) Unsubscribed(*Client, []string)         {}
func (indifferent) AllowSubscribe(*Client, string) bool    { return true }
func (indifferent) Publish(*Client, Message) Verdict       { return Route }

func receive[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

// serve starts a broker on a free port.
func serve(t testing.TB, cfg Config) (b *Broker, o *owner, addr string) {
	t.Helper()
	o = newOwner()
	if cfg.Handler == nil {
		cfg.Handler = o
	}
	b, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen(t, b, l)
	return b, o, l.Addr().String()
}

func listen(t testing.TB, b *Broker, l net.Listener) {
	served := make(chan error, 1)
	go func() { served <- b.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := b.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

// wire is a client that sends and sees raw packets.
type wire struct {
	t       testing.TB
	conn    net.Conn
	r       *bufio.Reader
	version byte
}

func dial(t testing.TB, addr string) *wire {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return newWire(t, conn)
}

func newWire(t testing.TB, conn net.Conn) *wire {
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &wire{t: t, conn: conn, r: bufio.NewReader(conn)}
}

// join connects and returns the client and its CONNACK.
func join(t testing.TB, addr string, p connectPacket) (*wire, frame) {
	t.Helper()
	w := dial(t, addr)
	w.version = p.version
	w.send(p.encode())
	ack := w.next()
	if ack.kind != typeConnack || ack.body[1] != codeSuccess {
		t.Fatalf("CONNACK is %+v", ack)
	}
	return w, ack
}

type connectPacket struct {
	version   byte
	id        string
	keep      bool // not clean
	keepAlive uint16
	props     []byte
	will      *Message
	willProps []byte
	name      string // protocol name, "MQTT" if empty
	username  string // with password, if that is not empty
	password  string
}

func (p connectPacket) encode() []byte {
	if p.name == "" {
		p.name = "MQTT"
	}
	flags := byte(0)
	if !p.keep {
		flags |= 2
	}
	if p.will != nil {
		flags |= 4 | p.will.QoS<<3
		if p.will.Retain {
			flags |= 0x20
		}
	}
	if p.password != "" {
		flags |= 0xC0
	}
	body := appendString(nil, p.name)
	body = append(body, p.version, flags, byte(p.keepAlive>>8), byte(p.keepAlive))
	if p.version == 5 {
		body = append(body, propertyList(p.props)...)
	}
	body = appendString(body, p.id)
	if p.will != nil {
		if p.version == 5 {
			body = append(body, propertyList(p.willProps)...)
		}
		body = appendString(appendString(body, p.will.Topic), string(p.will.Payload))
	}
	if p.password != "" {
		body = appendString(appendString(body, p.username), p.password)
	}
	return appendPacket(nil, typeConnect<<4, body)
}

func (w *wire) send(packet []byte) {
	w.t.Helper()
	if _, err := w.conn.Write(packet); err != nil {
		w.t.Fatal(err)
	}
}

func (w *wire) next() frame {
	w.t.Helper()
	f, err := readFrame(w.r, 1<<20)
	if err != nil {
		w.t.Fatalf("no packet: %v", err)
	}
	return f
}

// closed wants the connection to be closed by the server without a packet.
func (w *wire) closed() {
	w.t.Helper()
	f, err := readFrame(w.r, 1<<20)
	if err == nil {
		w.t.Fatalf("got packet %+v, want a closed connection", f)
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		w.t.Fatal("connection is still open")
	}
}

// dismissed wants a DISCONNECT with a code and a closed connection.
func (w *wire) dismissed(code byte) {
	w.t.Helper()
	f := w.next()
	if f.kind != typeDisconnect || f.body[0] != code {
		w.t.Fatalf("got packet %+v, want DISCONNECT %#x", f, code)
	}
	w.closed()
}

func (w *wire) publish(m Message) {
	w.t.Helper()
	packet, _ := encodePublish(&m, w.version, m.QoS, m.Retain, false, 7, time.Now())
	w.send(packet)
}

// subscribe subscribes at QoS 1 and returns the codes.
func (w *wire) subscribe(filters ...string) []byte {
	w.t.Helper()
	w.send(subscribePacket(w.version, 1, filters...))
	f := w.next()
	if f.kind != typeSuback {
		w.t.Fatalf("got packet %+v, want SUBACK", f)
	}
	if w.version == 5 {
		return f.body[3:]
	}
	return f.body[2:]
}

func subscribePacket(version, options byte, filters ...string) []byte {
	body := []byte{0, 9}
	if version == 5 {
		body = append(body, 0)
	}
	for _, f := range filters {
		body = append(appendString(body, f), options)
	}
	return appendPacket(nil, typeSubscribe<<4|2, body)
}

// message wants a PUBLISH, and acknowledges it.
func (w *wire) message() publish {
	w.t.Helper()
	p := w.unacknowledged()
	if p.message.QoS == 1 {
		w.send(encodePuback(p.id, 0))
	}
	return p
}

func (w *wire) unacknowledged() publish {
	w.t.Helper()
	f := w.next()
	if f.kind != typePublish {
		w.t.Fatalf("got packet %+v, want PUBLISH", f)
	}
	p, err := decodePublish(f, w.version, time.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// quiet wants that nothing else was sent before the answer to a ping.
func (w *wire) quiet() {
	w.t.Helper()
	w.send([]byte{typePingreq << 4, 0})
	if f := w.next(); f.kind != typePingresp {
		w.t.Fatalf("got packet %+v, want nothing", f)
	}
}

func (w *wire) puback(code byte) {
	w.t.Helper()
	f := w.next()
	got := byte(0)
	if len(f.body) > 2 {
		got = f.body[2]
	}
	if f.kind != typePuback || got != code {
		w.t.Fatalf("got packet %+v, want PUBACK %#x", f, code)
	}
}

// discard reads what the server sends until the connection ends.
func (w *wire) discard() { _, _ = io.Copy(io.Discard, w.r) }

func testTLS(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, &tls.Config{RootCAs: roots}
}

func encodePuback(id uint16, code byte) []byte { return appendPuback(nil, id, code) }
