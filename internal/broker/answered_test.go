package broker

import (
	"bytes"
	"runtime"
	"testing"
	"time"
)

// What a client gets while an answer is expected leaves together with the answer and what
// comes with it, and in the order of its making; what is urgent, and what is much, leaves
// at once.
func TestExpectedAnswerGathers(t *testing.T) {
	t.Parallel()
	o := newSlowAnswers()
	_, _, addr := serve(t, Config{Handler: o})
	w, _ := join(t, addr, connectPacket{version: 4, id: "c"})
	w.subscribe("other")
	other, _ := join(t, addr, connectPacket{version: 4, id: "other"})

	ask := Message{Topic: "x/ask", Payload: []byte("q"), QoS: 1}
	w.publish(ask)
	c := receive(t, o.asked)
	gathered(t, c, 1)
	other.publish(Message{Topic: "other", Payload: []byte("1"), QoS: 1})
	other.puback(0)
	gathered(t, c, 2)
	if err := c.Deliver(Message{Topic: "answer", Payload: []byte("a")}); err != nil {
		t.Fatal(err)
	}
	gathered(t, c, 3)
	c.Answered()
	w.puback(0)
	for _, topic := range []string{"other", "answer"} {
		if m := w.unacknowledged(); m.message.Topic != topic {
			t.Fatalf("got %s, want %s", m.message.Topic, topic)
		}
	}

	w.publish(ask)
	c = receive(t, o.asked)
	w.send([]byte{typePingreq << 4, 0})
	w.puback(0)
	if f := w.next(); f.kind != typePingresp {
		t.Fatalf("got packet type %d", f.kind)
	}
	c.Answered()

	w.publish(ask)
	c = receive(t, o.asked)
	gathered(t, c, 1)
	other.publish(Message{Topic: "other", Payload: make([]byte, writeBuffer), QoS: 1})
	w.puback(0)
	if m := w.unacknowledged(); !bytes.Equal(m.message.Payload, make([]byte, writeBuffer)) {
		t.Fatalf("got %d bytes", len(m.message.Payload))
	}
	c.Answered()
	w.quiet()
}

// gathered waits until so many packets for the client wait, and no more.
func gathered(t *testing.T, c *Client, want int) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		c.mu.Lock()
		got, held := c.messages, c.held
		c.mu.Unlock()
		if !held && got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d packets wait, want %d", got, want)
		}
		runtime.Gosched()
	}
}

// slowAnswers leaves requests to the test.
type slowAnswers struct {
	indifferent
	asked chan *Client
}

func newSlowAnswers() slowAnswers { return slowAnswers{asked: make(chan *Client, 10)} }

func (s slowAnswers) Publish(c *Client, m Message) Verdict {
	if m.Topic != "x/ask" {
		return Route
	}
	c.Expect()
	s.asked <- c
	return Handled
}
