package broker

import (
	"bytes"
	"testing"
	"time"
)

// A client whose poller has seen the end of the stream is not parked before it has seen it,
// too: nobody would tell it again. That it had nothing to read just before says nothing.
func TestEndOfStreamIsNotForgotten(t *testing.T) {
	t.Parallel()
	c := &Client{}
	c.rest.hungUp.Store(true) // of another socket with the same descriptor
	if c.park() {
		t.Fatal("parked with something to read")
	}
	c.rest.hungUp.Store(true) // while the client reads, and finds nothing yet
	c.rest.toEnd = false
	if c.park() {
		t.Fatal("parked with the end to read")
	}
	c.rest.toEnd = false
	if !c.park() {
		t.Fatal("not parked with nothing to read")
	}
}

// A busy client's packets fill the read buffer exactly, and exceed it.
func TestBusyClientFillsTheBuffer(t *testing.T) {
	t.Parallel()
	_, _, addr := serve(t, Config{})
	w, _ := join(t, addr, connectPacket{version: 4, id: "busy"})
	ping := func() {
		t.Helper()
		w.send([]byte{typePingreq << 4, 0})
		if f := w.next(); f.kind != typePingresp {
			t.Fatalf("got packet type %d", f.kind)
		}
	}
	for range 2 * busyWakes {
		ping()
	}
	m := Message{Topic: "t", Payload: make([]byte, readBuffer/4-6)}
	packet, _ := encodePublish(&m, 4, 0, false, false, 0, time.Time{})
	if 4*len(packet) != readBuffer {
		t.Fatalf("a packet of %d bytes", len(packet))
	}
	for range 5 {
		w.send(bytes.Repeat(packet, 4))
		ping()
		large, _ := encodePublish(&Message{Topic: "t", Payload: make([]byte, 3*readBuffer)}, 4, 0, false, false, 0, time.Time{})
		w.send(append(large, packet...))
		w.send(bytes.Repeat(packet, 12))
		ping()
	}
}
