package broker

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"
)

// BenchmarkRoundTrip is a QoS 1 PUBLISH answered by Deliver, one client, one
// request at a time.
func BenchmarkRoundTrip(b *testing.B) {
	_, _, addr := serve(b, Config{Handler: echo{}})
	w, _ := join(b, addr, connectPacket{version: 4, id: "x"})
	if err := w.conn.SetDeadline(time.Time{}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	m := Message{Topic: "$aws/things/x/jobs/start-next", Payload: []byte(`{"clientToken":"1"}`), QoS: 1}
	for b.Loop() {
		w.publish(m)
		for range 2 { // PUBACK and answer
			f := w.next()
			if f.kind != typePublish {
				continue
			}
			p, err := decodePublish(f, 4, time.Time{})
			if err != nil {
				b.Fatal(err)
			}
			w.send(encodePuback(p.id, 0))
		}
	}
}

type echo struct{ indifferent }

func (echo) Publish(c *Client, m Message) Verdict {
	if c.Deliver(Message{Topic: m.Topic + "/accepted", Payload: bytes.Clone(m.Payload), QoS: m.QoS}) != nil {
		return Refuse
	}
	return Handled
}

// BenchmarkFanOut is one QoS 1 message to many subscribers, until all have it. Half of the
// time is the subscribers', who are in this process.
func BenchmarkFanOut(b *testing.B) {
	const clients = 5000
	broker, _, addr := serve(b, Config{Handler: indifferent{}, AcceptRate: -1})
	var all sync.WaitGroup
	for i := range clients {
		w, _ := join(b, addr, connectPacket{version: 4, id: fmt.Sprint(i)})
		w.subscribe("all")
		if err := w.conn.SetDeadline(time.Time{}); err != nil {
			b.Fatal(err)
		}
		go func() {
			for {
				f, err := readFrame(w.r, 1<<20)
				if err != nil {
					return // the end of the benchmark
				}
				if f.kind == typePublish {
					all.Done()
					_, _ = w.conn.Write(encodePuback(uint16(f.body[5])<<8|uint16(f.body[6]), 0))
				}
			}
		}()
	}
	b.ReportAllocs()
	for b.Loop() {
		all.Add(clients)
		broker.Publish(Message{Topic: "all", Payload: []byte("{}"), QoS: 1})
		all.Wait()
	}
}
