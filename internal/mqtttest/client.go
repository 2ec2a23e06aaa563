package mqtttest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// Patience bounds every wait. It is long because machines are busy; nothing waits that long
// when all is well.
const Patience = 20 * time.Second

// Client is one end of a connection. Its methods fail the test when what happens is not what
// they are for; they belong to the goroutine of the test.
type Client struct {
	T       testing.TB
	Conn    net.Conn
	Version byte
	Connack Connack

	r     *bufio.Reader
	id    int      // packet identifier used last
	early []Packet // messages that came while something else was waited for
}

// Dial opens a connection to host:port and sends nothing.
func Dial(t testing.TB, addr string) *Client {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, Patience)
	if err != nil {
		t.Fatal(err)
	}
	return On(t, conn)
}

// On is a client on a connection, which is closed with the test.
func On(t testing.TB, conn net.Conn) *Client {
	t.Cleanup(func() { _ = conn.Close() })
	c := New(conn)
	c.T = t
	return c
}

// New is a client that belongs to no test: only the methods whose names begin with Try work.
func New(conn net.Conn) *Client {
	return &Client{Conn: conn, r: bufio.NewReaderSize(conn, 512), Version: 5}
}

// Join connects as the packet says and fails unless it is accepted.
func (c *Client) Join(p Connect) *Client {
	c.T.Helper()
	if ack := c.Hello(p); ack.Code != 0 {
		c.T.Fatalf("CONNACK %#x to %+v", ack.Code, p)
	}
	return c
}

// Hello sends a CONNECT and returns the answer.
func (c *Client) Hello(p Connect) Connack {
	c.T.Helper()
	c.Version = p.Version
	c.Send(p.Encode())
	ack, err := c.Next().Connack(p.Version)
	c.must(err)
	c.Connack = ack
	return ack
}

func (c *Client) must(err error) {
	c.T.Helper()
	if err != nil {
		c.T.Fatal(err)
	}
}

// Send writes packets, in one piece.
func (c *Client) Send(packets ...[]byte) {
	c.T.Helper()
	c.must(c.TrySend(packets...))
}

// TrySend writes packets, in one piece.
func (c *Client) TrySend(packets ...[]byte) error {
	var all []byte
	for _, p := range packets {
		all = append(all, p...)
	}
	if err := c.Conn.SetWriteDeadline(time.Now().Add(Patience)); err != nil {
		return err
	}
	_, err := c.Conn.Write(all)
	return err
}

// Next returns the packet that comes next.
func (c *Client) Next() Packet {
	c.T.Helper()
	if len(c.early) > 0 {
		p := c.early[0]
		c.early = c.early[1:]
		return p
	}
	p, err := c.TryNext(Patience)
	c.must(err)
	return p
}

// TryNext returns the packet that comes next. It waits no longer than the time given for its
// first byte; an error before that leaves the connection as it was.
func (c *Client) TryNext(within time.Duration) (p Packet, err error) {
	if err := c.Conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		return p, err
	}
	first, err := c.r.ReadByte()
	if err != nil {
		return p, err
	}
	if err := c.Conn.SetReadDeadline(time.Now().Add(Patience)); err != nil {
		return p, err
	}
	p = Packet{Type: first >> 4, Flags: first & 15}
	length := 0
	for shift := 0; ; shift += 7 {
		digit, err := c.r.ReadByte()
		if err != nil {
			return p, fmt.Errorf("in the length of a packet: %w", noEOF(err))
		}
		if length |= int(digit&0x7F) << shift; digit < 0x80 {
			break
		}
		if shift == 21 {
			return p, errors.New("a length of five bytes")
		}
	}
	p.Body = make([]byte, length)
	_, err = io.ReadFull(c.r, p.Body)
	return p, noEOF(err)
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Closed waits for the end of the connection and returns the packets before it.
func (c *Client) Closed() (before []Packet) {
	c.T.Helper()
	for {
		p, err := c.TryNext(Patience)
		if err != nil {
			if !Gone(err) {
				c.T.Fatalf("the connection did not end: %v", err)
			}
			return before
		}
		before = append(before, p)
	}
}

// Gone reports whether an error is the other end's closing.
func Gone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// Dismissed waits for the end of the connection; MQTT 5 must be told the code first, 3.1.1
// nothing.
func (c *Client) Dismissed(code byte) {
	c.T.Helper()
	before := c.Closed()
	if c.Version != 5 {
		if len(before) > 0 {
			c.T.Fatalf("before the end: %v", before)
		}
		return
	}
	if len(before) == 0 {
		c.T.Fatalf("closed without DISCONNECT %#x", code)
	}
	last := before[len(before)-1]
	if ack, err := last.Ack(5); last.Type != DISCONNECT || err != nil || ack.Codes[0] != code {
		c.T.Fatalf("the last packet is %v, want DISCONNECT %#x", last, code)
	}
}

// Settle returns what the server had sent when it answered a PINGREQ that is sent now.
func (c *Client) Settle() (messages []Packet) {
	c.T.Helper()
	c.Send(Pingreq)
	for { // what came early is the first of it
		p := c.Next()
		if p.Type == PINGRESP {
			return messages
		}
		messages = append(messages, p)
	}
}

// Silent fails if the server had sent anything.
func (c *Client) Silent() {
	c.T.Helper()
	if got := c.Settle(); len(got) > 0 {
		c.T.Fatalf("came unasked: %v", got)
	}
}

// NextID returns a packet identifier that was not used yet.
func (c *Client) NextID() int { c.id++; return c.id }

// Subscribe subscribes and returns the codes.
func (c *Client) Subscribe(filters ...Filter) []byte {
	c.T.Helper()
	id := c.NextID()
	c.Send(Subscribe(c.Version, id, nil, filters...))
	return c.Acked(SUBACK, id).Codes
}

// Granted subscribes to filters with a QoS and fails unless each is granted so.
func (c *Client) Granted(qos byte, filters ...string) {
	c.T.Helper()
	for _, f := range filters {
		if got := c.Subscribe(Filter{f, qos}); len(got) != 1 || got[0] != qos {
			c.T.Fatalf("SUBACK % x to %s", got, f)
		}
	}
}

// Unsubscribe unsubscribes and returns the codes, of which 3.1.1 has none.
func (c *Client) Unsubscribe(filters ...string) []byte {
	c.T.Helper()
	id := c.NextID()
	c.Send(Unsubscribe(c.Version, id, nil, filters...))
	return c.Acked(UNSUBACK, id).Codes
}

// Acked is the next packet that is no message, which must be of the type and about the
// identifier. Messages in front of it are kept for Next.
func (c *Client) Acked(kind byte, id int) Ack {
	c.T.Helper()
	p, err := c.TryNext(Patience)
	for ; err == nil && p.Type == PUBLISH; p, err = c.TryNext(Patience) {
		c.early = append(c.early, p)
	}
	c.must(err)
	if p.Type != kind {
		c.T.Fatalf("got %v, want packet %d", p, kind)
	}
	ack, err := p.Ack(c.Version)
	c.must(err)
	if ack.ID != id {
		c.T.Fatalf("packet %d is about %d, want %d", kind, ack.ID, id)
	}
	return ack
}

// Publish publishes; with QoS 1 it returns the code of the PUBACK.
func (c *Client) Publish(m Publish) byte {
	c.T.Helper()
	if m.QoS > 0 && m.ID == 0 {
		m.ID = c.NextID()
	}
	c.Send(m.Encode(c.Version))
	if m.QoS != 1 {
		return 0
	}
	return c.Acked(PUBACK, m.ID).Codes[0]
}

// Message is the next packet, which must be a PUBLISH. One of QoS 1 is acknowledged.
func (c *Client) Message() (Publish, Props) {
	c.T.Helper()
	m, props := c.Unacked()
	if m.QoS == 1 {
		c.Send(Puback(m.ID))
	}
	return m, props
}

// Unacked is Message without the acknowledgement.
func (c *Client) Unacked() (Publish, Props) {
	c.T.Helper()
	m, props, err := c.Next().Publish(c.Version)
	c.must(err)
	return m, props
}

// Receive is Message where only topic and payload count.
func (c *Client) Receive(topic, payload string) Publish {
	c.T.Helper()
	m, _ := c.Message()
	if m.Topic != topic || m.Payload != payload {
		c.T.Fatalf("got %.60q on %q, want %.60q on %q", m.Payload, m.Topic, payload, topic)
	}
	return m
}

// Leave says goodbye and waits for the end.
func (c *Client) Leave() {
	c.T.Helper()
	c.Send(Disconnect(c.Version, 0, nil))
	c.Closed()
}

// Cut ends the connection without a word.
func (c *Client) Cut() {
	c.T.Helper()
	if err := c.Conn.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		c.T.Fatal(err)
	}
}
