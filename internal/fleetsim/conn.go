package fleetsim

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// keepAlive is the interval, in seconds, after which a server may hold a silent
// device for lost: the longest that AWS IoT grants.
const keepAlive = 1200

// The ways in which a connection fails a device. codeOf names
// them for [Summary.Codes].
var (
	errDial      = errors.New("connect failed")
	errRefused   = errors.New("connection refused")
	errSubscribe = errors.New("subscription refused")
	errPublish   = errors.New("request refused")
	errLost      = errors.New("connection lost")
	errSilent    = errors.New("no answer")
	errAnswer    = errors.New("answer not understood")
)

// errElapsed is returned by [conn.receive] when nothing came in time.
var errElapsed = errors.New("nothing received in time")

// conn is an MQTT connection used by one goroutine, which is also the only one
// it has. What is written is collected and leaves when the goroutine next waits,
// so that an acknowledgement and the request that follows it share one system
// call.
type conn struct {
	net       net.Conn
	in        *bufio.Reader
	out       bytes.Buffer
	codec     codec
	timeout   time.Duration // for a write, for the rest of a packet, for the answer to a ping
	keepAlive time.Duration
	lastID    uint16
	written   time.Time // when something last left
	pinged    time.Time // when the unanswered ping left; zero without one
	stop      func() bool
}

// dialConn connects as clientID and subscribes to filters, in one round trip
// each. When ctx ends, the connection's waits end with ctx's error.
func dialConn(ctx context.Context, dial func(context.Context) (net.Conn, error), version int, timeout time.Duration,
	clientID string, filters []string) (*conn, error) {
	dialing, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	nc, err := dial(dialing)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDial, err)
	}
	c := &conn{
		net:       nc,
		in:        bufio.NewReaderSize(nc, 512), // larger packets are read past it
		codec:     codec4{},
		timeout:   timeout,
		keepAlive: keepAlive * time.Second,
	}
	if version == 5 {
		c.codec = codec5{}
	}
	// A wait that begins after this runs sees ctx's error, one that began
	// before is ended by the deadline: see receivePacket.
	c.stop = context.AfterFunc(ctx, func() { _ = nc.SetReadDeadline(time.Unix(1, 0)) })
	if err := c.open(ctx, clientID, filters); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *conn) open(ctx context.Context, clientID string, filters []string) error {
	if err := c.codec.connect(&c.out, clientID, keepAlive, false); err != nil {
		return fmt.Errorf("%w: write CONNECT: %w", errLost, err)
	}
	p, err := c.await(ctx, packets.CONNACK)
	if err != nil {
		return err
	}
	if p.code != 0 {
		return fmt.Errorf("%w (code 0x%02x) %s", errRefused, p.code, p.reason)
	}
	if p.keepAlive > 0 {
		c.keepAlive = p.keepAlive
	}
	if err := c.codec.subscribe(&c.out, c.nextID(), filters); err != nil {
		return fmt.Errorf("%w: write SUBSCRIBE: %w", errLost, err)
	}
	p, err = c.await(ctx, packets.SUBACK)
	if err != nil {
		return err
	}
	if p.code >= 0x80 {
		return fmt.Errorf("%w (code 0x%02x) %s", errSubscribe, p.code, p.reason)
	}
	return nil
}

// await returns the first packet of a kind; no message can be due before it.
func (c *conn) await(ctx context.Context, kind byte) (packet, error) {
	until := time.Now().Add(c.timeout)
	for {
		p, err := c.receivePacket(ctx, until)
		if errors.Is(err, errElapsed) {
			return packet{}, fmt.Errorf("%w to CONNECT or SUBSCRIBE", errSilent)
		}
		if err != nil || p.kind == kind {
			return p, err
		}
	}
}

// publish sends a message with QoS 1 when the device next waits.
func (c *conn) publish(topic string, payload []byte) error {
	if err := c.codec.publish(&c.out, c.nextID(), topic, payload); err != nil {
		return fmt.Errorf("%w: write PUBLISH: %w", errLost, err)
	}
	return nil
}

// receive returns the next message that the server publishes, acknowledged, or
// errElapsed at until (zero: never), or ctx's error. After any other error the
// connection is of no more use.
func (c *conn) receive(ctx context.Context, until time.Time) (packet, error) {
	for {
		p, err := c.receivePacket(ctx, until)
		if err != nil {
			return packet{}, err
		}
		switch p.kind {
		case packets.PUBLISH:
			if p.qos > 0 {
				if err := c.codec.puback(&c.out, p.id); err != nil {
					return packet{}, fmt.Errorf("%w: write PUBACK: %w", errLost, err)
				}
			}
			return p, nil
		case packets.PUBACK:
			if p.code >= 0x80 {
				return packet{}, fmt.Errorf("%w (code 0x%02x) %s", errPublish, p.code, p.reason)
			}
		}
	}
}

// receivePacket sends what is collected and waits for a packet, sending pings
// as the keep-alive demands.
func (c *conn) receivePacket(ctx context.Context, until time.Time) (packet, error) {
	for {
		if c.in.Buffered() == 0 {
			if err := c.flush(); err != nil {
				return packet{}, err
			}
		}
		deadline := c.written.Add(c.keepAlive * 3 / 4)
		if !c.pinged.IsZero() {
			deadline = c.pinged.Add(c.timeout)
		}
		if !until.IsZero() && until.Before(deadline) {
			deadline = until
		}
		if err := c.deadline(ctx, deadline); err != nil {
			return packet{}, err
		}
		_, err := c.in.Peek(1)
		switch {
		case err == nil:
			return c.readPacket(ctx)
		case ctx.Err() != nil:
			return packet{}, ctx.Err()
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return packet{}, fmt.Errorf("%w: %w", errLost, err)
		case !until.IsZero() && !time.Now().Before(until):
			return packet{}, errElapsed
		case !c.pinged.IsZero():
			return packet{}, fmt.Errorf("%w to a ping", errSilent)
		}
		if err := c.codec.ping(&c.out); err != nil {
			return packet{}, fmt.Errorf("%w: write PINGREQ: %w", errLost, err)
		}
		c.pinged = time.Now()
	}
}

// readPacket reads a packet whose first byte is there.
func (c *conn) readPacket(ctx context.Context) (packet, error) {
	if err := c.deadline(ctx, time.Now().Add(c.timeout)); err != nil {
		return packet{}, err
	}
	p, err := c.codec.read(c.in)
	if err != nil {
		if ctx.Err() != nil {
			return packet{}, ctx.Err()
		}
		return packet{}, fmt.Errorf("%w: read a packet: %w", errLost, err)
	}
	switch p.kind {
	case packets.PINGRESP:
		c.pinged = time.Time{}
	case packets.DISCONNECT:
		return packet{}, fmt.Errorf("%w: the server said so (code 0x%02x) %s", errLost, p.code, p.reason)
	}
	return p, nil
}

// deadline sets the read deadline unless ctx has ended. In this order, the
// deadline that the end of ctx sets is never overwritten unnoticed.
func (c *conn) deadline(ctx context.Context, t time.Time) error {
	if err := c.net.SetReadDeadline(t); err != nil {
		return fmt.Errorf("%w: %w", errLost, err)
	}
	return ctx.Err()
}

func (c *conn) flush() error {
	if c.out.Len() == 0 {
		return nil
	}
	c.written = time.Now()
	if err := c.net.SetWriteDeadline(c.written.Add(c.timeout)); err != nil {
		return fmt.Errorf("%w: %w", errLost, err)
	}
	if _, err := c.out.WriteTo(c.net); err != nil {
		return fmt.Errorf("%w: %w", errLost, err)
	}
	return nil
}

// bye tells the server that the device leaves. It is a courtesy: a server that
// cannot be told finds out.
func (c *conn) bye() {
	if err := c.codec.disconnect(&c.out); err == nil {
		_ = c.flush()
	}
}

func (c *conn) close() {
	c.stop()
	_ = c.net.Close()
}

func (c *conn) nextID() uint16 {
	c.lastID++
	if c.lastID == 0 { // zero is no packet id
		c.lastID = 1
	}
	return c.lastID
}
