package broker

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// goodbye is how long the end of a connection may take: writing what is queued,
// and waiting for the client to hang up, so that it can read the reason.
const goodbye = time.Second

// past is a deadline that has been missed.
var past = time.Unix(1, 0)

// writeBuffer is what a connection gathers packets in; a client that falls behind gets
// greater ones, of its own.
const writeBuffer = 4 << 10

var writeBuffers = sync.Pool{New: func() any { return new([writeBuffer]byte) }}

// outbox is the way out of a connection. Who sends a packet also writes it, as far as
// the socket takes it without waiting; the rest is queued and written by a goroutine
// that lives as long as there is some. While the packets of one read are handled the
// outbox is held, so that all that they cause leaves in one write, which is one TLS
// record. It also holds how the connection ended, because from then on nothing may be
// queued.
type outbox struct {
	owner       *Client // to be woken up at the end
	conn        net.Conn
	raw         syscall.RawConn // nil: not a plain socket, which always takes the goroutine
	maxMessages int
	maxBytes    int

	writer sync.WaitGroup // the writing goroutine

	mu       sync.Mutex
	queue    []byte // packets, the first of which may have been written in part
	messages int    // of queue, about
	leaving  int    // bytes that the writing goroutine has taken from queue
	writing  bool
	held     bool
	owed     int  // answers that are on their way: what there is may wait for them
	welcomed bool // an MQTT 5 CONNACK with success is on its way: DISCONNECT may follow
	ended    bool
	reason   DisconnectReason // once ended
	linger   bool             // the last packet says why: let the client read it
}

var errBehind = errors.New("broker: client reads too slowly")

// send queues a packet. It returns ErrOffline if the connection has ended, and
// ends it with errBehind if the queue is full.
func (o *outbox) send(packet []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sendLocked(packet)
}

func (o *outbox) sendLocked(packet []byte) error {
	switch {
	case o.ended:
		return ErrOffline
	case o.messages >= o.maxMessages, o.messages > 0 && len(o.queue)+len(packet) > o.maxBytes:
		o.abandonLocked()
		return errBehind
	}
	o.push(packet)
	return nil
}

// compose queues a packet that is written right into the queue, if it has at most so many
// bytes; 0: as many as it likes. Errors are those of send, and ErrTooLarge.
func (o *outbox) compose(most int, encode func([]byte) []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.ended:
		return ErrOffline
	case o.messages >= o.maxMessages, len(o.queue) >= o.maxBytes:
		o.abandonLocked()
		return errBehind
	}
	before := o.queue
	if before == nil {
		before = writeBuffers.Get().(*[writeBuffer]byte)[:0]
	}
	o.queue = encode(before)
	if most > 0 && len(o.queue)-len(before) > most {
		o.queue = before
		return ErrTooLarge
	}
	o.messages++
	if !o.gathersLocked() {
		o.flushLocked()
	}
	return nil
}

// gathersLocked reports whether what is queued waits for what comes. For an answer it waits
// only as long as it is little.
func (o *outbox) gathersLocked() bool {
	return o.held || o.owed > 0 && len(o.queue) < writeBuffer
}

func (o *outbox) push(packet []byte) {
	if o.raw != nil && !o.gathersLocked() && !o.writing && len(o.queue) == 0 {
		n, ok := o.try(packet)
		if !ok || n == len(packet) {
			return
		}
		packet = packet[n:]
	}
	if o.queue == nil {
		o.queue = writeBuffers.Get().(*[writeBuffer]byte)[:0]
	}
	if len(o.queue)+len(packet) > cap(o.queue) {
		grown := append(make([]byte, 0, max(2*cap(o.queue), len(o.queue)+len(packet))), o.queue...)
		recycle(o.queue)
		o.queue = grown
	}
	o.queue = append(o.queue, packet...)
	o.messages++
	if !o.gathersLocked() {
		o.flushLocked()
	}
}

// recycle gives a buffer back that nobody uses any more.
func recycle(b []byte) {
	if cap(b) == writeBuffer {
		writeBuffers.Put((*[writeBuffer]byte)(b[:writeBuffer]))
	}
}

// hold gathers what is sent until flush. It returns false if the connection has ended.
func (o *outbox) hold() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.held = !o.ended
	return o.held
}

// flush writes what has gathered.
func (o *outbox) flush() { o.letGo(true) }

// letGo ends hold. What has gathered is written, unless it may wait for an answer and is
// not urgent.
func (o *outbox) letGo(urgent bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.held = false
	if urgent || !o.gathersLocked() {
		o.flushLocked()
	}
}

func (o *outbox) flushLocked() {
	if len(o.queue) == 0 || o.writing {
		return
	}
	if o.raw != nil {
		n, ok := o.try(o.queue)
		if !ok {
			return
		}
		if n == len(o.queue) {
			recycle(o.queue)
			o.queue, o.messages = nil, 0
			return
		}
		o.queue = o.queue[:copy(o.queue, o.queue[n:])]
	}
	o.startLocked()
}

// try writes what the socket takes now. ok is false if the connection is broken.
func (o *outbox) try(b []byte) (n int, ok bool) {
	a := attempts.Get().(*attempt)
	a.b = b
	err := o.raw.Write(a.call)
	n, err = a.n, errors.Join(err, a.err)
	a.b, a.n, a.err = nil, 0, nil
	attempts.Put(a)
	if err != nil {
		o.brokenLocked()
		return 0, false
	}
	return n, true
}

// attempt is a write that does not wait. They are kept because a closure for each would
// be garbage.
type attempt struct {
	b    []byte
	n    int
	err  error
	call func(fd uintptr) bool
}

var attempts = sync.Pool{New: func() any {
	a := new(attempt)
	a.call = func(fd uintptr) bool {
		a.n, a.err = writeSocket(fd, a.b)
		return true // whether or not it was everything
	}
	return a
}}

func (o *outbox) startLocked() {
	if !o.writing {
		o.writing = true
		o.writer.Go(o.write)
	}
}

// write empties the queue.
func (o *outbox) write() {
	for {
		o.mu.Lock()
		batch := o.queue
		o.queue, o.messages, o.leaving = nil, 0, len(batch)
		if len(batch) == 0 {
			o.writing = false
			o.mu.Unlock()
			return
		}
		o.mu.Unlock()
		_, err := o.conn.Write(batch)
		recycle(batch)
		if err != nil {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.writing = false
			o.brokenLocked()
			return
		}
	}
}

// brokenLocked ends a connection that cannot be written to.
func (o *outbox) brokenLocked() {
	o.dropLocked()
	o.linger = false
	o.endLocked(ConnectionLost)
	o.setDeadlines(past, past)
}

func (o *outbox) dropLocked() { o.queue, o.messages = nil, 0 }

// endLocked notes the end and its reason; the first one counts.
func (o *outbox) endLocked(reason DisconnectReason) (first bool) {
	if o.ended {
		return false
	}
	o.ended, o.reason = true, reason
	return true
}

// end ends the connection: what is queued is still written, and a DISCONNECT if
// the client has been welcomed and code is not 0. The goroutine of the
// connection wakes up and cleans up. Only the first call has an effect.
func (o *outbox) end(reason DisconnectReason, code byte) {
	var last []byte
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.welcomed && code != codeSuccess {
		last = encodeDisconnect(code)
	}
	o.endWithLocked(reason, last)
}

// endWith is end with a packet of the caller's, or none.
func (o *outbox) endWith(reason DisconnectReason, last []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.endWithLocked(reason, last)
}

func (o *outbox) endWithLocked(reason DisconnectReason, last []byte) {
	if !o.endLocked(reason) {
		return
	}
	o.setDeadlines(past, time.Now().Add(goodbye))
	if last != nil {
		o.linger = true
		o.push(last)
	}
}

// abandonLocked ends the connection of a client that does not read; there is no
// point in telling it.
func (o *outbox) abandonLocked() {
	if o.endLocked(Throttled) {
		o.dropLocked()
		o.setDeadlines(past, past)
	}
}

// expect lets the client be silent for at most d from now, for ever if d is 0. It
// returns false if the connection has ended.
func (o *outbox) expect(d time.Duration) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return false
	}
	var until time.Time
	if d > 0 {
		until = time.Now().Add(d)
	}
	// A connection that takes no deadline is closed; reading from it says so.
	_ = o.conn.SetReadDeadline(until)
	return true
}

// setDeadlines wakes up who reads or writes.
func (o *outbox) setDeadlines(read, write time.Time) {
	defer o.owner.wake()
	err := errors.Join(o.conn.SetReadDeadline(read), o.conn.SetWriteDeadline(write))
	if err != nil && !errors.Is(err, net.ErrClosed) {
		o.close()
	}
}

// drain waits until what is queued has been written and, if the client has been
// told why its connection ends, until it has hung up: a socket closed with
// unread input would take that packet back from the client.
func (o *outbox) drain() {
	o.flush()
	o.writer.Wait()
	o.mu.Lock()
	linger := o.linger
	o.mu.Unlock()
	half, ok := o.conn.(interface{ CloseWrite() error })
	if !linger || !ok || half.CloseWrite() != nil {
		return
	}
	if o.conn.SetReadDeadline(time.Now().Add(goodbye)) != nil {
		return
	}
	var discard [512]byte
	for {
		if _, err := o.conn.Read(discard[:]); err != nil {
			return
		}
	}
}

// close closes the socket, under TLS without waiting to say so.
func (o *outbox) close() {
	conn := o.conn
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = t.NetConn()
	}
	// Closing twice, or what the client has closed, is no news.
	_ = conn.Close()
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
