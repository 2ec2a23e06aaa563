package conformance

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	mq "drover/internal/mqtttest"
)

// gauge reads a metric of the server that has no labels.
func (s *server) gauge(t testing.TB, name string) float64 {
	t.Helper()
	resp, err := http.Get(s.http + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			v, err := strconv.ParseFloat(text, 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	t.Fatalf("no metric %s: %v", name, lines.Err())
	return 0
}

// every is one packet of each type that a client may send, and those that it may not, each with
// all that it can hold.
func every(f *fleet, v byte) map[string][]byte {
	message := slices.Concat(mq.Prop(mq.PayloadFormat, 1), mq.Prop(mq.MessageExpiry, 60), mq.Prop(mq.ContentType, "text/plain"), mq.Prop(mq.ResponseTopic, "r"), mq.Prop(mq.CorrelationData, "c"), mq.User("k", "v"))
	return map[string][]byte{
		"CONNECT": mq.Connect{Version: v, ID: f.name("cut"), KeepAlive: 60, Username: "user",
			Props: slices.Concat(mq.Prop(mq.SessionExpiry, 10), mq.Prop(mq.ReceiveMaximum, 9), mq.Prop(mq.MaximumPacketSize, 9999), mq.Prop(mq.TopicAliasMaximum, 3), mq.Prop(mq.RequestResponse, 1), mq.Prop(mq.RequestProblemInfo, 1), mq.User("k", "v")),
			Will:  &mq.Publish{Topic: f.topic("will"), Payload: "will", QoS: 1, Props: slices.Concat(mq.Prop(mq.WillDelay, 5), message)}}.Encode(),
		"PUBLISH 0":   mq.Publish{Topic: f.topic("a/0"), Payload: "payload", Props: slices.Concat(mq.Prop(mq.TopicAlias, 1), message)}.Encode(v),
		"PUBLISH 1":   mq.Publish{Topic: f.topic("a/1"), Payload: "payload", QoS: 1, ID: 300, Dup: true, Props: message}.Encode(v),
		"PUBACK":      mq.Frame(0x40, mq.Two(5), v5(v, slices.Concat([]byte{0}, mq.Length(5), mq.User("", "")))),
		"PUBREC":      mq.Frame(0x50, mq.Two(5)),
		"PUBREL":      mq.Frame(0x62, mq.Two(5)),
		"PUBCOMP":     mq.Frame(0x70, mq.Two(5)),
		"SUBSCRIBE":   mq.Subscribe(v, 7, mq.User("k", "v"), mq.Filter{Filter: f.topic("b/+"), Options: 1}, mq.Filter{Filter: f.topic("c/#")}),
		"UNSUBSCRIBE": mq.Unsubscribe(v, 8, mq.User("k", "v"), f.topic("b/+"), f.topic("c/#")),
		"PINGREQ":     mq.Pingreq,
		"DISCONNECT":  mq.Disconnect(v, 0, slices.Concat(mq.Prop(mq.ReasonString, "bye"), mq.User("k", "v"))),
		"AUTH":        mq.Frame(0xF0, v5(v, slices.Concat([]byte{0x18}, mq.Length(4), mq.Prop(mq.AuthMethod, "m")))),
	}
}

// v5 is what only MQTT 5 has.
func v5(version byte, b []byte) []byte {
	if version == 5 {
		return b
	}
	return nil
}

// Every packet, cut at every byte: as a connection that is lost in the packet, and as a packet
// that says it is so short. Nobody else notices, and nothing is left of it.
func TestBadCuts(t *testing.T) {
	t.Parallel()
	f := fleetOn(t, ownServer(t))
	seen := f.watch(f.prefix + "/a/#")
	bystander := f.client(4, "bystander")
	bystander.Granted(1, f.topic("by"))
	goroutines, files := f.gauge(t, "go_goroutines"), f.gauge(t, "process_open_fds")

	cuts := 0
	for _, v := range []byte{4, 5} {
		for name, packet := range every(f, v) {
			head := 2 // of packets below 128 bytes
			if packet[1] >= 0x80 {
				head = 3
			}
			for at := 1; at < len(packet); at++ {
				cuts++
				w := f.dial()
				if name != "CONNECT" {
					w.Join(mq.Connect{Version: v, ID: f.name("cut")})
				}
				w.Version = v
				w.Send(packet[:at])
				if err := w.Conn.(*net.TCPConn).CloseWrite(); err != nil {
					t.Fatal(err)
				}
				if got := w.Closed(); len(got) > 0 {
					t.Fatalf("%s of %d, cut at %d: %v", name, v, at, got)
				}

				if at < head {
					continue
				}
				w = f.dial()
				if name != "CONNECT" {
					w.Join(mq.Connect{Version: v, ID: f.name("cut")})
				}
				w.Version = v
				w.Send(mq.Frame(packet[0], packet[head:at]), mq.Pingreq)
				if err := w.Conn.(*net.TCPConn).CloseWrite(); err != nil {
					t.Fatal(err)
				}
				for _, p := range w.Closed() {
					if p.Type != mq.DISCONNECT && p.Type != mq.CONNACK {
						continue // what was cut may be whole still
					}
					code := p.Body[len(p.Body)-1]
					if p.Type == mq.DISCONNECT {
						code = p.Body[0]
					} else if len(p.Body) > 1 {
						code = p.Body[1]
					}
					if v == 5 && code != 0x81 && code != 0x82 && !(name == "CONNECT" && code == 0) {
						t.Errorf("%s of %d, shortened to %d: %v", name, v, at, p)
					}
				}
				w.Cut()
			}
		}
		bystander.Publish(mq.Publish{Topic: f.topic("by"), Payload: "still here", QoS: 1})
		bystander.Receive(f.topic("by"), "still here")
	}
	t.Logf("%d cuts", cuts)
	for _, p := range seen.Settle() { // nothing but what is whole when it is shortened: a payload
		if m, _, err := p.Publish(5); err != nil || !strings.HasPrefix("payload", m.Payload) {
			t.Errorf("%+v %v", m, err)
		}
	}
	nothingLeft(f, goroutines, files)
}

// nothingLeft waits until the server has as few goroutines and descriptors as it had.
func nothingLeft(f *fleet, goroutines, files float64) {
	f.t.Helper()
	var have, open float64
	f.t.Cleanup(func() {
		if f.t.Failed() {
			f.t.Logf("goroutines: %.0f, were %.0f; descriptors: %.0f, were %.0f", have, goroutines, open, files)
		}
	})
	f.eventually("goroutines and descriptors are gone", func() bool {
		have, open = f.gauge(f.t, "go_goroutines"), f.gauge(f.t, "process_open_fds")
		// A few of them are the server's own, made when they are first needed.
		return have <= goroutines+10 && open <= files+4
	})
}

// Connections that are given up in every state leave nothing, and memory does not grow with
// them.
func TestBadFloodLeavesNothing(t *testing.T) {
	t.Parallel()
	f := fleetOn(t, ownServer(t))
	bystander := f.client(5, "bystander")
	goroutines, files := f.gauge(t, "go_goroutines"), f.gauge(t, "process_open_fds")
	var resident []float64
	for round := range 4 {
		t.Run(fmt.Sprint(round), func(t *testing.T) { // whose connections end with it
			f := fleetOn(t, f.server)
			for n := range 400 {
				v, w := byte(4+n%2), f.dial()
				join := func() { w.Join(mq.Connect{Version: v, ID: fmt.Sprint("flood", n)}) }
				switch n % 5 {
				case 0: // nothing at all
				case 1:
					w.Send([]byte{0x10})
				case 2: // displaces another
					w.Join(mq.Connect{Version: v, ID: fmt.Sprint("flood", n-2)})
				case 3: // reads no answer, and stays for now
					join()
					w.Send(mq.Subscribe(v, 1, nil, mq.Filter{Filter: "flood/#", Options: 1}))
					w.Send(mq.Publish{Topic: "flood/x", Payload: strings.Repeat("x", 10_000), QoS: 1, ID: 1}.Encode(v))
					continue
				case 4: // half of a large packet
					join()
					w.Send([]byte{0x30}, mq.Length(131_000), make([]byte, 65_000))
				}
				w.Cut()
			}
		})
		bystander.Silent()
		nothingLeft(f, goroutines, files)
		resident = append(resident, f.gauge(t, "process_resident_memory_bytes"))
	}
	t.Logf("resident: %.0f", resident)
	if last := resident[len(resident)-1]; last > resident[0]+64<<20 {
		t.Errorf("memory grows: %.0f", resident)
	}
}

// Who never reads costs no more than its queue, is cut off, and keeps nobody waiting.
func TestBadReader(t *testing.T) {
	t.Parallel()
	f := fleetOn(t, ownServer(t))
	from, bystander := f.client(5, "from"), f.client(4, "bystander")
	bystander.Granted(1, f.topic("by"))
	before := f.gauge(t, "process_resident_memory_bytes")
	readers := 0
	for _, v := range []byte{4, 5} {
		for _, qos := range []byte{0, 1} {
			readers++
			w := f.client(v, fmt.Sprint("reader", v, qos))
			if err := w.Conn.(*net.TCPConn).SetReadBuffer(4096); err != nil {
				t.Fatal(err)
			}
			w.Granted(qos, f.topic("flood"))
		}
	}
	payload := strings.Repeat("x", 100_000)
	for n := range 300 { // of which a reader has room for some
		if got := from.Publish(mq.Publish{Topic: f.topic("flood"), Payload: payload, QoS: 1}); got != 0 {
			t.Fatalf("PUBACK %#x", got)
		}
		if n%30 == 0 {
			bystander.Publish(mq.Publish{Topic: f.topic("by"), Payload: "x", QoS: 1})
			bystander.Receive(f.topic("by"), "x")
		}
	}
	f.eventually("all that do not read are cut off", func() bool { return f.gauge(t, "drover_mqtt_connections") <= 2 })
	if got := f.gauge(t, "drover_mqtt_cut_off_total"); got < float64(readers) {
		t.Errorf("%.0f were cut off, want %d", got, readers)
	}
	if after := f.gauge(t, "process_resident_memory_bytes"); after > before+100<<20 {
		t.Errorf("memory grew from %.0f to %.0f", before, after)
	}
	bystander.Silent()
	from.Silent()
}
