package broker

import (
	"net"
	"testing"
	"time"
)

// BenchmarkAnswer is what the broker does for one request that is answered in place, QoS
// 1 both ways: PUBLISH in, PUBACK and answer out, PUBACK in. The answer's text is the
// Handler's.
func BenchmarkAnswer(b *testing.B) {
	for _, keep := range []bool{false, true} {
		name := "clean"
		if keep {
			name = "persistent"
		}
		b.Run(name, func(b *testing.B) {
			server, err := New(Config{Handler: answer{[]byte(`{"execution":{}}`)}})
			if err != nil {
				b.Fatal(err)
			}
			c := newClient(server, nowhere{})
			c.id, c.version, c.receiveMax = "x", 4, 100
			var expiry time.Duration
			if keep {
				expiry = time.Hour
			}
			if _, err := server.open(c, true, expiry); err != nil {
				b.Fatal(err)
			}
			if err := c.session.attach(c, nil, expiry); err != nil {
				b.Fatal(err)
			}
			m := Message{Topic: "$aws/things/x/jobs/start-next", Payload: []byte(`{"clientToken":"1"}`), QoS: 1}
			packet, _ := encodePublish(&m, 4, 1, false, false, 7, time.Time{})
			ask, _, err := parseFrame(packet, 1000)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				c.hold()
				if err := c.handle(ask); err != nil {
					b.Fatal(err)
				}
				id := c.session.lastID
				ack, _, err := parseFrame([]byte{typePuback << 4, 2, byte(id >> 8), byte(id)}, 1000)
				if err != nil {
					b.Fatal(err)
				}
				c.queue, c.messages = c.queue[:0], 0
				if err := c.handle(ack); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

type answer struct{ text []byte }

func (answer) Connected(*Client)                      {}
func (answer) Disconnected(*Client, DisconnectReason) {}
func (answer) Subscribed(*Client, []string)           {}
func (answer) Unsubscribed(*Client, []string)         {}
func (answer) AllowSubscribe(*Client, string) bool    { return true }

func (a answer) Publish(c *Client, m Message) Verdict {
	if c.Deliver(Message{Topic: "$aws/things/x/jobs/start-next/accepted", Payload: a.text, QoS: 1}) != nil {
		return Refuse
	}
	return Handled
}

// nowhere is a connection that takes everything.
type nowhere struct{ net.Conn }

func (nowhere) Write(b []byte) (int, error)      { return len(b), nil }
func (nowhere) SetReadDeadline(time.Time) error  { return nil }
func (nowhere) SetWriteDeadline(time.Time) error { return nil }
