package dataplane

import (
	"testing"
	"time"

	"drover/internal/iot"
)

// discard is a client that throws its answers away.
type discard struct{ Client }

func (discard) Deliver(string, []byte, byte) {}
func (discard) Expect()                      {}
func (discard) Answered()                    {}

// BenchmarkMQTT measures a request from its PUBLISH to its answer, engine excluded.
func BenchmarkMQTT(b *testing.B) {
	x := iot.Execution{
		Job: 1, JobID: "firmware-2026-11", Thing: "pump-0001", Number: 1, Status: iot.InProgress, Version: 2,
		QueuedAt: start * 1000, StartedAt: start * 1000, UpdatedAt: start * 1000,
	}
	document, err := iot.ParseDocument(`{"operation":"install","files":[{"fileName":"firmware.bin","url":"https://example.com/firmware.bin"}]}`, iot.ObjectStore{})
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name, topic, payload string
		answer               iot.Answer
	}{
		{"start-next", "$aws/things/pump-0001/jobs/start-next", `{"clientToken":"0123456789"}`, iot.Answer{Execution: &x, Document: document.For(&x, nil)}},
		{"update", "$aws/things/pump-0001/jobs/firmware-2026-11/update",
			`{"status":"IN_PROGRESS","statusDetails":{"progress":"50","step":"download"},"expectedVersion":"2","clientToken":"0123456789"}`, iot.Answer{}},
		{"get", "$aws/things/pump-0001/jobs/get", ``, iot.Answer{Queued: []iot.Execution{x, x, x}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			h := New(Config{Engine: submit(func(_ *iot.Request, reply func(*iot.Answer, error)) { reply(&c.answer, nil) })})
			m := Message{Topic: c.topic, Payload: []byte(c.payload), QoS: 1}
			b.ReportAllocs()
			for b.Loop() {
				h.HandlePublish(discard{}, m)
			}
		})
	}
}

// audience is a broker with a subscriber to everything or to nothing.
type audience bool

func (a audience) HasSubscribers(string) bool { return bool(a) }

func (audience) Publish(string, []byte, byte)                     {}
func (audience) PublishFor(string, []byte, string, time.Duration) {}

func BenchmarkPublish(b *testing.B) {
	for name, listens := range map[string]audience{"subscribed": true, "nobody": false} {
		b.Run(name, func(b *testing.B) {
			r := newRig(b)
			p := NewPublisher(PublisherConfig{Broker: listens, Documents: r, Events: r, Realm: realm})
			r.queue("j1")
			list := r.things["t1"].List("")
			records := []iot.Record{{Kind: iot.ExecutionChanged, Execution: &list[0], List: true, Next: true, Queue: list}}
			b.ReportAllocs()
			for b.Loop() {
				if err := p.Publish(b.Context(), records); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// taken is a device that takes 32 blocks and then says so.
type taken struct {
	discard
	left chan struct{}
}

func (t taken) ID() string                   { return "pump-0001" }
func (taken) Granted(string) (byte, bool)    { return 0, true }
func (taken) Backlog() (int, bool)           { return 0, true }
func (t taken) Deliver(string, []byte, byte) { t.left <- struct{}{} }

// BenchmarkFiles measures a request for 32 blocks of 4 KB, from its PUBLISH to the last block, store and broker excluded.
func BenchmarkFiles(b *testing.B) {
	for format, payload := range map[string][]byte{
		"json": []byte(`{"c":"rdy","f":0,"l":4096,"o":64,"n":32}`),
		"cbor": encodeCBOR(b, map[string]any{"c": "rdy", "f": 0, "l": 4096, "o": 64, "n": 32}),
	} {
		b.Run(format, func(b *testing.B) {
			h := New(Config{Streams: shelf{size: 1 << 20}})
			c := taken{left: make(chan struct{}, 32)}
			m := Message{Topic: "$aws/things/pump-0001/streams/s/get/" + format, Payload: payload}
			b.SetBytes(32 * 4096)
			b.ReportAllocs()
			for b.Loop() {
				h.HandlePublish(c, m)
				for range 32 {
					<-c.left
				}
			}
		})
	}
}
