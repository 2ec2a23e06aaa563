package fleetsim

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v5 "github.com/eclipse/paho.golang/packets"
	v4 "github.com/eclipse/paho.mqtt.golang/packets"
)

// peer plays the server's side of one MQTT 3.1.1 connection, word by word.
type peer struct {
	t    *testing.T
	conn net.Conn
}

func (p peer) read() v4.ControlPacket {
	cp, err := v4.ReadPacket(p.conn)
	if err != nil {
		p.t.Errorf("peer: read: %v", err)
		return v4.NewControlPacket(v4.Disconnect)
	}
	return cp
}

func (p peer) write(cp v4.ControlPacket) {
	if err := cp.Write(p.conn); err != nil {
		p.t.Errorf("peer: write: %v", err)
	}
}

// open reads CONNECT and SUBSCRIBE and answers both.
func (p peer) open() *v4.ConnectPacket {
	connect, ok := p.read().(*v4.ConnectPacket)
	if !ok {
		p.t.Error("peer: the first packet is no CONNECT")
	}
	p.write(v4.NewControlPacket(v4.Connack))
	subscribe := p.read().(*v4.SubscribePacket)
	suback := v4.NewControlPacket(v4.Suback).(*v4.SubackPacket)
	suback.MessageID = subscribe.MessageID
	suback.ReturnCodes = []byte{1}
	p.write(suback)
	return connect
}

// dialPeer connects to a peer that says what talk says.
func dialPeer(t *testing.T, ctx context.Context, talk func(p peer)) (*conn, error) {
	near, far := net.Pipe()
	t.Cleanup(func() { _ = far.Close() })
	go talk(peer{t, far})
	dial := func(context.Context) (net.Conn, error) { return near, nil }
	return dialConn(ctx, dial, 4, 10*time.Second, "device", []string{"topic"})
}

func TestKeepAlive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		started := time.Now()
		pings := make(chan time.Duration, 2)
		c, err := dialPeer(t, t.Context(), func(p peer) {
			if connect := p.open(); connect.Keepalive != keepAlive || connect.ClientIdentifier != "device" || !connect.CleanSession {
				t.Errorf("CONNECT: %s", connect)
			}
			for answer := range 2 {
				if cp, ok := p.read().(*v4.PingreqPacket); !ok {
					t.Errorf("got %s, want a ping", cp)
				}
				pings <- time.Since(started)
				if answer == 0 {
					p.write(v4.NewControlPacket(v4.Pingresp))
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		defer c.close()
		if _, err := c.receive(t.Context(), time.Time{}); !errors.Is(err, errSilent) {
			t.Errorf("the second ping stays unanswered: error %v, want %v", err, errSilent)
		}
		if first, second := <-pings, <-pings; first != 900*time.Second || second != 1800*time.Second {
			t.Errorf("pings after %s and %s", first, second)
		}
		if got := time.Since(started); got != 1810*time.Second {
			t.Errorf("given up after %s", got)
		}
	})
}

func TestReceiveEndsInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c, err := dialPeer(t, ctx, func(p peer) { p.open() })
		if err != nil {
			t.Fatal(err)
		}
		defer c.close()
		started := time.Now()
		if _, err := c.receive(ctx, started.Add(3*time.Second)); !errors.Is(err, errElapsed) || time.Since(started) != 3*time.Second {
			t.Errorf("error %v after %s, want %v after 3s", err, time.Since(started), errElapsed)
		}
		time.AfterFunc(time.Minute, cancel)
		if _, err := c.receive(ctx, time.Time{}); !errors.Is(err, context.Canceled) || time.Since(started) != 63*time.Second {
			t.Errorf("error %v after %s, want %v after 1m3s", err, time.Since(started), context.Canceled)
		}
	})
}

// TestSlowPacket: a packet that arrives in pieces around the end of a wait is
// read whole, one that stays incomplete ends the connection.
func TestSlowPacket(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		more := make(chan struct{})
		c, err := dialPeer(t, t.Context(), func(p peer) {
			p.open()
			text := "\x30\x07\x00\x02abxyz" // PUBLISH, QoS 0, topic ab, payload xyz
			for _, piece := range []string{text[:1], text[1:4], text[4:], text[:3]} {
				<-more
				if _, err := io.WriteString(p.conn, piece); err != nil {
					t.Error(err)
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		defer c.close()
		go func() {
			for range 4 {
				<-time.After(4 * time.Second)
				more <- struct{}{}
			}
		}()
		p, err := c.receive(t.Context(), time.Now().Add(5*time.Second))
		if err != nil || p.topic != "ab" || string(p.payload) != "xyz" {
			t.Fatalf("got %+v, %v", p, err)
		}
		if _, err := c.receive(t.Context(), time.Time{}); !errors.Is(err, errLost) {
			t.Errorf("incomplete packet: error %v, want %v", err, errLost)
		}
	})
}

func TestConnectionRefused(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		talk func(p peer)
		want error
	}{
		{"by CONNACK", func(p peer) {
			p.read()
			no := v4.NewControlPacket(v4.Connack).(*v4.ConnackPacket)
			no.ReturnCode = v4.ErrRefusedNotAuthorised
			p.write(no)
		}, errRefused},
		{"by SUBACK", func(p peer) {
			p.read()
			p.write(v4.NewControlPacket(v4.Connack))
			no := v4.NewControlPacket(v4.Suback).(*v4.SubackPacket)
			no.MessageID = p.read().(*v4.SubscribePacket).MessageID
			no.ReturnCodes = []byte{1, 0x80}
			p.write(no)
		}, errSubscribe},
		{"by closing", func(p peer) {
			p.read()
			_ = p.conn.Close()
		}, errLost},
		{"by silence", func(p peer) { p.read() }, errSilent},
		{"by nonsense", func(p peer) {
			p.read()
			p.write(v4.NewControlPacket(v4.Pubrec))
		}, errLost},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, err := dialPeer(t, t.Context(), test.talk)
				if !errors.Is(err, test.want) {
					t.Errorf("error %v, want %v", err, test.want)
				}
				if err == nil {
					c.close()
				}
			})
		})
	}
}

// TestLateAnswer: the answer to a request that was given up is not taken for
// the answer to the next one.
func TestLateAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer func() { _ = far.Close() }()
		done := make(chan struct{})
		go func() {
			defer close(done)
			p := peer{t, far}
			p.open()
			first := p.read().(*v4.PublishPacket)
			second := p.read().(*v4.PublishPacket) // after the first was given up
			for _, request := range []*v4.PublishPacket{first, second} {
				answer := v4.NewControlPacket(v4.Publish).(*v4.PublishPacket)
				answer.TopicName = request.TopicName + "/accepted"
				answer.Payload = request.Payload // with its clientToken
				p.write(answer)
			}
			if cp, ok := p.read().(*v4.DisconnectPacket); !ok {
				t.Errorf("got %s, want DISCONNECT", cp)
			}
		}()
		f, err := New(Config{
			Endpoint: "mqtt://device.invalid",
			Things:   []string{"device"},
			Idle:     time.Minute,
			Dial:     func(context.Context) (net.Conn, error) { return near, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		s, err := f.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		<-done
		if s.Requests != 2 || s.StartNext.Count != 1 || s.Codes["Timeout"] != 1 || s.Ended() != 0 {
			t.Errorf("summary:\n%s", s)
		}
	})
}

// TestPacer: connections are spread, and one that waits can be called off.
func TestPacer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := pacer{interval: time.Second}
		started := time.Now()
		for range 3 {
			if err := p.wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if got := time.Since(started); got != 2*time.Second {
			t.Errorf("three turns took %s, want 2s", got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.wait(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
}

// TestCodec5 reads what an MQTT 5 server may say about its reasons.
func TestCodec5(t *testing.T) {
	t.Parallel()
	interval := uint16(60)
	tests := []struct {
		name    string
		content v5.Packet
		want    packet
	}{
		{"CONNACK with a keep-alive", &v5.Connack{Properties: &v5.Properties{ServerKeepAlive: &interval}},
			packet{kind: v5.CONNACK, keepAlive: time.Minute}},
		{"PUBACK refused", &v5.Puback{PacketID: 3, ReasonCode: 0x87, Properties: &v5.Properties{ReasonString: "no"}},
			packet{kind: v5.PUBACK, id: 3, code: 0x87, reason: "no"}},
		{"DISCONNECT", &v5.Disconnect{ReasonCode: 0x8e, Properties: &v5.Properties{}},
			packet{kind: v5.DISCONNECT, code: 0x8e}},
		{"SUBACK", &v5.Suback{PacketID: 1, Reasons: []byte{1, 0x87, 0}, Properties: &v5.Properties{}},
			packet{kind: v5.SUBACK, id: 1, code: 0x87}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var wire strings.Builder
			if _, err := test.content.WriteTo(&wire); err != nil {
				t.Fatal(err)
			}
			got, err := codec5{}.read(strings.NewReader(wire.String()))
			if err != nil {
				t.Fatal(err)
			}
			if got.kind != test.want.kind || got.code != test.want.code || got.id != test.want.id ||
				got.keepAlive != test.want.keepAlive || got.reason != test.want.reason {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}
