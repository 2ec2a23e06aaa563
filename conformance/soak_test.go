package conformance

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mq "drover/internal/mqtttest"
)

var (
	soakFlag     = flag.Duration("soak", 4*time.Second, "how long TestSoak goes on")
	devicesFlag  = flag.Int("devices", 200, "how many devices TestSoak has")
	intervalFlag = flag.Duration("interval", 500*time.Millisecond, "about how often a device of TestSoak publishes; it is connected for some six of them and away for one")
	soakSeedFlag = flag.Uint64("soak-seed", 1, "seed of TestSoak")
)

// A fleet that connects, publishes, subscribes, leaves, is cut off, is displaced and comes back,
// at random. Every message of QoS 1 reaches every persistent session that is subscribed, at
// least once, in the order of its publisher; and when all have gone the server is as it was.
//
// Devices are in groups that hear each other on soak/GROUP/MEMBER. What a device publishes is
// numbered, and sent again after a return until it is acknowledged.
func TestSoak(t *testing.T) {
	t.Parallel()
	f := fleetOn(t, ownServer(t))
	f.client(5, "first").Leave() // what is made once is there
	goroutines, files := f.gauge(t, "go_goroutines"), f.gauge(t, "process_open_fds")

	ctx, stop := context.WithCancelCause(context.Background())
	defer stop(nil)
	s := &soak{
		addr: strings.TrimPrefix(f.mqtt, "mqtt://"), ctx: ctx, stop: stop,
		until: time.Now().Add(*soakFlag), told: make(chan struct{}), dials: make(chan struct{}, 100),
	}
	for n := range *devicesFlag / groupSize * groupSize {
		s.devices = append(s.devices, &soakDevice{
			soak: s, n: n, version: byte(4 + n/groupSize%2), persistent: n%groupSize != 0,
			random: rand.New(rand.NewPCG(*soakSeedFlag, uint64(n))),
		})
	}
	var all sync.WaitGroup
	s.subscribed.Add(len(s.devices))
	for _, d := range s.devices {
		all.Go(func() {
			if err := d.run(); err != nil && ctx.Err() == nil {
				stop(fmt.Errorf("device %d: %w", d.n, err))
			}
		})
	}

	// The server's memory, to see whether it grows.
	var resident []float64
	tick := time.NewTicker(max(*soakFlag/60, 100*time.Millisecond))
	defer tick.Stop()
	for time.Now().Before(s.until) && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			resident = append(resident, f.gauge(t, "process_resident_memory_bytes")/(1<<20))
			if len(resident)%10 == 0 {
				t.Logf("%s: %d connects, %d published, %d received (%d again), %d resident MiB, %.0f goroutines", time.Until(s.until).Round(time.Second),
					s.connects.Load(), s.published.Load(), s.received.Load(), s.again.Load(), int(resident[len(resident)-1]), f.gauge(t, "go_goroutines"))
			}
		}
	}
	// Everybody has come back and is rid of what it has to say; then everybody has heard it.
	late := time.NewTimer(time.Minute + 10**intervalFlag)
	defer late.Stop()
	for missing := 1; missing > 0 && ctx.Err() == nil; {
		missing = s.missing()
		select {
		case <-ctx.Done():
		case <-late.C:
			stop(fmt.Errorf("%d devices lack messages: %s", missing, s.lacks()))
		case <-tick.C:
		}
	}
	close(s.told)
	all.Wait()
	if err := context.Cause(ctx); err != nil {
		t.Fatalf("seed %d: %v", *soakSeedFlag, err)
	}
	t.Logf("%d devices, %s: %d connects, ends: %d cleanly, %d cut, %d displaced; %d published, %d received, %d of them again; resident MiB %.0f", len(s.devices), *soakFlag,
		s.connects.Load(), s.left.Load(), s.cut.Load(), s.displaced.Load(), s.published.Load(), s.received.Load(), s.again.Load(), resident)
	nothingLeft(f, goroutines, files)
	for _, name := range []string{"drover_mqtt_connections", "drover_mqtt_sessions", "drover_mqtt_subscriptions", "drover_mqtt_dropped_total", "drover_mqtt_cut_off_total"} {
		if got := f.gauge(t, name); got != 0 {
			t.Errorf("%s is %.0f at the end", name, got)
		}
	}
	if third := len(resident) / 3; *soakFlag >= 5*time.Minute {
		// Once the fleet is there, memory stays where it is.
		before, after := median(resident[third:2*third]), median(resident[2*third:])
		t.Logf("memory: %.1f MiB in the second third, %.1f in the last", before, after)
		if after > before*1.05+8 {
			t.Errorf("memory grows from %.1f to %.1f MiB", before, after)
		}
	}
}

func median(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

// groupSize is how many devices hear each other. The first of each has a clean session.
const groupSize = 5

type soak struct {
	addr       string
	ctx        context.Context
	stop       context.CancelCauseFunc
	until      time.Time
	told       chan struct{} // closed when all has been heard
	dials      chan struct{} // as many as may connect at once
	subscribed sync.WaitGroup
	devices    []*soakDevice

	connects, left, cut, displaced, published, received, again atomic.Int64
}

// missing counts the devices that have not said or heard everything.
func (s *soak) missing() (n int) {
	for _, d := range s.devices {
		if !d.complete() {
			n++
		}
	}
	return n
}

// lacks describes some of them.
func (s *soak) lacks() (text string) {
	for _, d := range s.devices {
		if !d.complete() && len(text) < 1000 {
			text += fmt.Sprintf("device %d (settled %v) has", d.n, d.settled.Load())
			for m, peer := range d.peers() {
				text += fmt.Sprintf(" %d/%d", d.heard[m].Load(), peer.sent.Load())
			}
			text += "; "
		}
	}
	return text
}

type soakDevice struct {
	*soak
	n          int
	version    byte
	persistent bool
	random     *rand.Rand

	client  *mq.Client
	forget  func() bool     // its connection does not end with the context
	old     net.Conn        // one that is about to be displaced
	fresh   [groupSize]bool // of a clean session: nothing heard on this connection
	unacked []int           // numbers on their way, in order
	noise   bool            // subscribed to noise

	sent    atomic.Int64            // the last number that was acknowledged
	settled atomic.Bool             // has come back for good and has nothing unacknowledged
	heard   [groupSize]atomic.Int64 // the last number of each peer
}

func (d *soakDevice) peers() []*soakDevice {
	first := d.n / groupSize * groupSize
	return d.devices[first : first+groupSize]
}

func (d *soakDevice) complete() bool {
	if !d.settled.Load() {
		return false
	}
	for m, peer := range d.peers() {
		if !peer.settled.Load() || d.persistent && d.heard[m].Load() < peer.sent.Load() {
			return false
		}
	}
	return true
}

// about returns a random time around d.
func (d *soakDevice) about(t time.Duration) time.Duration {
	return t/2 + time.Duration(d.random.Int64N(int64(t)))
}

// run is the life of a device.
func (d *soakDevice) run() error {
	defer func() {
		if d.client != nil {
			_ = d.client.Conn.Close() // what it was worth is known
		}
	}()
	// All subscribe before anybody speaks.
	err := errors.Join(d.connect(), d.subscribe())
	d.subscribed.Done()
	if err != nil {
		return err
	}
	d.subscribed.Wait()

	for time.Now().Before(d.until) {
		online := time.Now().Add(d.about(6 * *intervalFlag))
		if online.After(d.until) {
			online = d.until
		}
		for time.Now().Before(online) {
			at := time.Now().Add(d.about(*intervalFlag))
			if err := d.listen(min(time.Until(at), time.Until(online))); err != nil {
				return err
			}
			if time.Now().Before(at) {
				continue
			}
			if err := d.act(); err != nil {
				return err
			}
		}
		if err := d.leave(); err != nil {
			return err
		}
		if err := d.connect(); err != nil {
			return err
		}
		if !d.persistent {
			if err := d.subscribe(); err != nil {
				return err
			}
		}
		if err := d.repeat(); err != nil {
			return err
		}
	}
	for {
		d.settled.Store(len(d.unacked) == 0)
		select {
		case <-d.told:
			return d.vanish()
		case <-d.ctx.Done():
			return nil
		default:
		}
		if err := d.listen(time.Second); err != nil {
			return err
		}
	}
}

// connect opens a connection and waits for the CONNACK.
func (d *soakDevice) connect() error {
	d.dials <- struct{}{}
	defer func() { <-d.dials }()
	// More addresses than one, because each has no more than 28,000 ports.
	dialer := net.Dialer{Timeout: time.Minute, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+d.n%8))}}
	conn, err := dialer.DialContext(d.ctx, "tcp", d.addr)
	if err != nil {
		return err
	}
	d.client = mq.New(conn)
	if d.forget != nil {
		d.forget()
	}
	d.forget = context.AfterFunc(d.ctx, func() { _ = conn.Close() }) // a failure ends all
	p := mq.Connect{Version: d.version, ID: fmt.Sprint("soak", d.n), Persistent: d.persistent, KeepAlive: 600}
	if d.version == 5 && d.persistent {
		p.Props = mq.Prop(mq.SessionExpiry, 3600)
	}
	if d.n%3 == 0 {
		p.Will = &mq.Publish{Topic: "soak/wills", Payload: "x"}
	}
	if err := d.client.TrySend(p.Encode()); err != nil {
		return err
	}
	d.client.Version = d.version
	answer, err := d.client.TryNext(time.Minute)
	if err != nil {
		return fmt.Errorf("CONNACK: %w", err)
	}
	ack, err := answer.Connack(d.version)
	if err != nil {
		return err
	}
	d.connects.Add(1)
	if ack.Code != 0 || d.persistent && d.sent.Load() > 0 && !ack.Present {
		return fmt.Errorf("CONNACK %+v", ack)
	}
	for m := range d.fresh {
		d.fresh[m] = true
	}
	if d.old != nil {
		err, d.old = d.old.Close(), nil
	}
	d.noise = d.noise && d.persistent
	return err
}

func (d *soakDevice) topic(member int) string {
	return fmt.Sprintf("soak/%d/%d", d.n/groupSize, member)
}

// subscribe subscribes to the group, half of the devices by a wildcard.
func (d *soakDevice) subscribe() error {
	filters := []mq.Filter{{Filter: fmt.Sprintf("soak/%d/+", d.n/groupSize), Options: 1}}
	if d.n%2 == 0 {
		filters = filters[:0]
		for m := range groupSize {
			filters = append(filters, mq.Filter{Filter: d.topic(m), Options: 1})
		}
	}
	if err := d.client.TrySend(mq.Subscribe(d.version, 65_000, nil, filters...)); err != nil {
		return err
	}
	for {
		p, err := d.client.TryNext(time.Minute)
		if err != nil {
			return fmt.Errorf("SUBACK: %w", err)
		}
		if p.Type == mq.SUBACK {
			ack, err := p.Ack(d.version)
			if err == nil && slices.Max(ack.Codes) > 1 {
				err = fmt.Errorf("SUBACK %v", ack)
			}
			return err
		}
		if err := d.handle(p); err != nil {
			return err
		}
	}
}

// listen handles what comes within a time.
func (d *soakDevice) listen(within time.Duration) error {
	for until := time.Now().Add(within); ; {
		p, err := d.client.TryNext(time.Until(until))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := d.handle(p); err != nil {
			return err
		}
	}
}

// handle looks at what has come.
func (d *soakDevice) handle(p mq.Packet) error {
	switch p.Type {
	case mq.PUBACK:
		ack, err := p.Ack(d.version)
		if err != nil || ack.Codes[0] != 0 || len(d.unacked) == 0 || ack.ID != packetID(d.unacked[0]) {
			return fmt.Errorf("PUBACK %v %v while %v are on their way", ack, err, d.unacked)
		}
		d.sent.Store(int64(d.unacked[0]))
		d.unacked = d.unacked[1:]
		d.published.Add(1)
	case mq.PUBLISH:
		m, _, err := p.Publish(d.version)
		if err != nil {
			return err
		}
		if strings.HasPrefix(m.Topic, "soak/") {
			if err := d.hear(m); err != nil {
				return err
			}
		}
		if m.QoS == 1 {
			return d.client.TrySend(mq.Puback(m.ID))
		}
	case mq.SUBACK, mq.UNSUBACK, mq.PINGRESP:
	default:
		return fmt.Errorf("got %v", p)
	}
	return nil
}

// hear checks the number of a message: the next of its publisher, or one that was there.
func (d *soakDevice) hear(m mq.Publish) error {
	member, err := strconv.Atoi(m.Topic[strings.LastIndexByte(m.Topic, '/')+1:])
	if err != nil || m.Topic != d.topic(member) || m.QoS != 1 {
		return fmt.Errorf("got %+v", m)
	}
	number, err := strconv.ParseInt(m.Payload, 10, 64)
	if err != nil {
		return err
	}
	d.received.Add(1)
	last := d.heard[member].Load()
	switch {
	case number == last+1, number > last && !d.persistent && d.fresh[member]:
		d.heard[member].Store(number)
	case number <= last:
		d.again.Add(1)
	default:
		return fmt.Errorf("number %d of %s after %d (persistent: %v)", number, m.Topic, last, d.persistent)
	}
	d.fresh[member] = false
	return nil
}

func packetID(number int) int { return number%60_000 + 1 }

// act publishes, or does something else.
func (d *soakDevice) act() error {
	switch d.random.IntN(12) {
	case 0:
		d.noise = !d.noise
		topic := fmt.Sprint("noise/", d.n%50)
		if d.noise {
			return d.client.TrySend(mq.Subscribe(d.version, 64_000, nil, mq.Filter{Filter: topic, Options: byte(d.n % 2)}))
		}
		return d.client.TrySend(mq.Unsubscribe(d.version, 64_001, nil, topic))
	case 1:
		return d.client.TrySend(mq.Publish{Topic: fmt.Sprint("noise/", d.random.IntN(50)), Payload: strings.Repeat("x", d.random.IntN(2000)), Retain: d.random.IntN(2) == 0}.Encode(d.version))
	case 2:
		return d.client.TrySend(mq.Pingreq)
	}
	var packets [][]byte
	next := int(d.sent.Load()) + len(d.unacked) + 1
	for range 1 + d.random.IntN(3) {
		d.unacked = append(d.unacked, next)
		packets = append(packets, d.numbered(next))
		next++
	}
	return d.client.TrySend(packets...)
}

func (d *soakDevice) numbered(n int) []byte {
	return mq.Publish{Topic: d.topic(d.n % groupSize), Payload: strconv.Itoa(n), QoS: 1, ID: packetID(n)}.Encode(d.version)
}

// repeat sends again what was not acknowledged.
func (d *soakDevice) repeat() error {
	var packets [][]byte
	for _, n := range d.unacked {
		packets = append(packets, d.numbered(n))
	}
	return d.client.TrySend(packets...)
}

// leave ends the connection, one way or another, and stays away for a while.
func (d *soakDevice) leave() error {
	switch d.random.IntN(4) {
	case 0:
		d.left.Add(1)
		if err := d.client.TrySend(mq.Disconnect(d.version, 0, nil)); err != nil {
			return err
		}
	case 1: // with something on its way
		if err := d.act(); err != nil {
			return err
		}
		d.cut.Add(1)
	case 2:
		d.cut.Add(1)
		if err := d.client.Conn.(*net.TCPConn).SetLinger(0); err != nil { // RST
			return err
		}
	case 3: // the next connection comes before this one's end
		d.displaced.Add(1)
		d.old = d.client.Conn
		return nil
	}
	if err := d.client.Conn.Close(); err != nil {
		return err
	}
	away := time.NewTimer(d.about(*intervalFlag))
	defer away.Stop()
	select {
	case <-away.C:
	case <-d.ctx.Done():
	}
	return nil
}

// vanish leaves nothing of the device on the server.
func (d *soakDevice) vanish() error {
	if err := d.client.Conn.Close(); err != nil {
		return err
	}
	d.persistent = false
	if err := d.connect(); err != nil {
		return err
	}
	return errors.Join(d.client.TrySend(mq.Disconnect(d.version, 0, nil)), d.client.Conn.Close())
}
