package broker

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// goodbye is how long the end of a connection may take: writing what is queued,
// and waiting for the client to hang up, so that it can read the reason.
const goodbye = time.Second

// past is a deadline that has been missed.
var past = time.Unix(1, 0)

// outbox is the way out of a connection: packets are queued by anybody and
// written by a goroutine that lives as long as there are some. It also holds
// how the connection ended, because from then on nothing may be queued.
type outbox struct {
	conn        net.Conn
	maxMessages int
	maxBytes    int

	writer sync.WaitGroup // the writing goroutine

	mu       sync.Mutex
	queue    [][]byte
	bytes    int // of queue
	writing  bool
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
	case len(o.queue) >= o.maxMessages, o.bytes+len(packet) > o.maxBytes && len(o.queue) > 0:
		o.abandonLocked()
		return errBehind
	}
	o.push(packet)
	return nil
}

func (o *outbox) push(packet []byte) {
	o.queue = append(o.queue, packet)
	o.bytes += len(packet)
	if !o.writing {
		o.writing = true
		o.writer.Go(o.write)
	}
}

// write empties the queue. Small packets that have gathered leave in one write,
// which is one TLS record.
func (o *outbox) write() {
	const joined = 16 << 10
	var buf []byte
	for {
		o.mu.Lock()
		batch := o.queue
		o.queue, o.bytes = nil, 0
		if len(batch) == 0 {
			o.writing = false
			o.mu.Unlock()
			return
		}
		o.mu.Unlock()
		for len(batch) > 0 {
			next := batch[0]
			batch = batch[1:]
			if len(batch) > 0 && len(next)+len(batch[0]) <= joined {
				buf = append(buf[:0], next...)
				for len(batch) > 0 && len(buf)+len(batch[0]) <= joined {
					buf = append(buf, batch[0]...)
					batch = batch[1:]
				}
				next = buf
			}
			if _, err := o.conn.Write(next); err != nil {
				o.broken()
				return
			}
		}
	}
}

// broken ends a connection that cannot be written to.
func (o *outbox) broken() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writing = false
	o.queue, o.bytes = nil, 0
	o.linger = false
	o.endLocked(ConnectionLost)
	o.setDeadlines(past, past)
}

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
		o.queue, o.bytes = nil, 0
		o.setDeadlines(past, past)
	}
}

// expect lets the client be silent for at most d from now. It returns false if
// the connection has ended.
func (o *outbox) expect(d time.Duration) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return false
	}
	// A connection that takes no deadline is closed; reading from it says so.
	_ = o.conn.SetReadDeadline(time.Now().Add(d))
	return true
}

// setDeadlines wakes up who reads or writes.
func (o *outbox) setDeadlines(read, write time.Time) {
	err := errors.Join(o.conn.SetReadDeadline(read), o.conn.SetWriteDeadline(write))
	if err != nil && !errors.Is(err, net.ErrClosed) {
		o.close()
	}
}

// drain waits until what is queued has been written and, if the client has been
// told why its connection ends, until it has hung up: a socket closed with
// unread input would take that packet back from the client.
func (o *outbox) drain() {
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
