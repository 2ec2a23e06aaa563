package broker

import "testing"

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
