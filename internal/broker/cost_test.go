package broker

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// What the broker costs, measured in a process of its own; the clients are in the
// benchmark's. With mosquitto installed the same clients measure it in the same run:
//
//	go test ./internal/broker -run '^$' -bench Cost -benchtime 1x -timeout 20m
//
// Each benchmark is one measurement; a time per operation means nothing here.

const serverProcess = "DROVER_BROKER_BENCH"

func TestMain(m *testing.M) {
	if mode := os.Getenv(serverProcess); mode != "" {
		benchServer(mode)
		return
	}
	os.Exit(m.Run())
}

// benchServer is a broker that answers requests and ends with its standard input.
func benchServer(mode string) {
	b, err := New(Config{Handler: answering{}, AcceptRate: -1, MaxSubscriptions: 50})
	if err == nil {
		var l net.Listener
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err == nil {
			fmt.Println(l.Addr())
			if mode == "tls" {
				server, _ := testTLS(new(testing.B))
				l = tls.NewListener(l, server)
			}
			go func() {
				_, _ = io.Copy(io.Discard, os.Stdin)
				_ = l.Close()
			}()
			err = b.Serve(l)
		}
	}
	if err != nil && !errors.Is(err, net.ErrClosed) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// answering answers what ends in "/ask" and routes the rest.
type answering struct{ echo }

func (a answering) Publish(c *Client, m Message) Verdict {
	if strings.HasSuffix(m.Topic, "/ask") {
		return a.echo.Publish(c, m)
	}
	return Route
}

// process is a server under measurement.
type process struct {
	b    *testing.B
	cmd  *exec.Cmd
	addr string
	tls  bool
}

func startBroker(b *testing.B, mode string) *process {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serverProcess+"="+mode)
	cmd.Stderr = os.Stderr
	stdin, err1 := cmd.StdinPipe()
	stdout, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		b.Fatal(err)
	}
	addr, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := errors.Join(stdin.Close(), cmd.Wait()); err != nil {
			b.Error(err)
		}
	})
	return &process{b, cmd, strings.TrimSpace(addr), mode == "tls"}
}

// startMosquitto skips the benchmark where mosquitto is not installed.
func startMosquitto(b *testing.B) *process {
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/mosquitto"); err != nil {
			b.Skip("mosquitto is not installed")
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	addr := l.Addr().(*net.TCPAddr)
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	config := filepath.Join(b.TempDir(), "mosquitto.conf")
	text := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nlog_type error\nuser root\nmax_inflight_messages 100\n", addr.Port)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(path, "-c", config)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // says that it was killed
	})
	p := &process{b, cmd, addr.String(), false}
	for deadline := time.Now().Add(patience); ; {
		if conn, err := net.Dial("tcp", p.addr); err == nil {
			_ = conn.Close()
			return p
		} else if time.Now().After(deadline) {
			b.Fatal(err)
		}
	}
}

// resident is the memory of the process in bytes.
func (p *process) resident() int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.b.Skip("no /proc: ", err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				p.b.Fatal(err)
			}
			return kb << 10
		}
	}
	p.b.Fatal("no VmRSS")
	return 0
}

// cpu is the processor time that the process has used.
func (p *process) cpu() time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		p.b.Skip("no /proc: ", err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	if err := errors.Join(err1, err2); err != nil {
		p.b.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

// device is a client of the benchmark. It reads with a small buffer.
type device struct {
	conn net.Conn
	r    *bufio.Reader
}

func (d *device) read() (frame, error) { return readFrame(d.r, 1<<20) }

// join connects n devices with five subscriptions each, numbered from first.
func (p *process) join(first, n int) []*device {
	devices := make([]*device, n)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				d, err := p.connect(first + i)
				if err != nil {
					p.b.Error(err)
					return
				}
				devices[i] = d
			}
		})
	}
	wg.Wait()
	if p.b.Failed() {
		p.b.FailNow()
	}
	p.b.Cleanup(func() {
		for _, d := range devices {
			_ = d.conn.Close()
		}
	})
	return devices
}

func topicOf(i int) string { return fmt.Sprintf("aws/things/device-%06d/jobs/", i) }

func (p *process) connect(i int) (*device, error) {
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		return nil, err
	}
	if p.tls {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	base := topicOf(i)
	d := &device{conn, bufio.NewReaderSize(conn, 512)}
	packets := connectPacket{version: 4, id: fmt.Sprintf("device-%06d", i), keepAlive: 1200}.encode()
	packets = append(packets, subscribePacket(4, 1, base+"notify-next", base+"notify", base+"ask/accepted", base+"get/accepted", "fleet/all")...)
	if _, err := conn.Write(packets); err != nil {
		return nil, err
	}
	for _, want := range []byte{typeConnack, typeSuback} {
		if f, err := d.read(); err != nil || f.kind != want {
			return nil, fmt.Errorf("got %+v, %v; want packet type %d", f, err, want)
		}
	}
	return d, nil
}

// ask publishes with QoS 1 and waits for acknowledgement and answer.
func (d *device) ask(packet []byte) error {
	if _, err := d.conn.Write(packet); err != nil {
		return err
	}
	for seen := 0; seen != 3; {
		f, err := d.read()
		switch {
		case err != nil:
			return err
		case f.kind == typePuback:
			seen |= 1
		case f.kind == typePublish:
			seen |= 2
			p, err := decodePublish(f, 4, time.Time{})
			if err != nil {
				return err
			}
			if _, err := d.conn.Write(encodePuback(p.id, 0)); err != nil {
				return err
			}
		}
	}
	return nil
}

// BenchmarkCostIdle: what the process grows by for a connected device with five
// subscriptions.
func BenchmarkCostIdle(b *testing.B) {
	for _, mode := range []string{"plain", "tls"} {
		b.Run(mode, func(b *testing.B) {
			n := 15_000
			if mode == "tls" {
				n = 5_000 // a handshake costs a millisecond on each side
			}
			for range b.N {
				p := startBroker(b, mode)
				p.join(0, 100) // what the first ones cost is no cost of a connection
				before := p.resident()
				start := time.Now()
				p.join(100, n)
				b.ReportMetric(time.Since(start).Seconds(), "s/connects")
				b.ReportMetric(float64(p.resident()-before)/float64(n), "B/connection")
			}
		})
	}
}

// BenchmarkCostFanOut: how long one message takes to 15,000 subscribers.
func BenchmarkCostFanOut(b *testing.B) {
	const n = 15_000
	for range b.N {
		p := startBroker(b, "plain")
		devices := p.join(0, n)
		sender := p.join(n, 1)[0]
		var wg sync.WaitGroup
		for _, d := range devices {
			wg.Go(func() {
				if f, err := d.read(); err != nil || f.kind != typePublish {
					b.Errorf("got %+v, %v", f, err)
				}
			})
		}
		m := Message{Topic: "fleet/all", Payload: bytes.Repeat([]byte("x"), 200)}
		packet, _ := encodePublish(&m, 4, 0, false, false, 0, time.Time{})
		start := time.Now()
		if _, err := sender.conn.Write(packet); err != nil {
			b.Fatal(err)
		}
		wg.Wait()
		b.ReportMetric(float64(time.Since(start).Milliseconds()), "ms/15k")
	}
}

// BenchmarkCostSlowReader: how long 1,000 clients wait for answers while a flood goes to
// nobody, and while it goes to a subscriber that never reads.
func BenchmarkCostSlowReader(b *testing.B) {
	const active, seconds = 1000, 5
	for range b.N {
		p := startBroker(b, "plain")
		devices := p.join(0, active+2)
		slow, flood := devices[active], devices[active+1]
		p99 := func() time.Duration {
			stop := time.Now().Add(seconds * time.Second)
			var mu sync.Mutex
			var all []time.Duration
			var wg sync.WaitGroup
			for i, d := range devices[:active] {
				wg.Go(func() {
					m := Message{Topic: topicOf(i) + "ask", Payload: make([]byte, 200), QoS: 1}
					packet, _ := encodePublish(&m, 4, 1, false, false, 7, time.Time{})
					var mine []time.Duration
					for start := time.Now(); start.Before(stop); start = time.Now() {
						if err := d.ask(packet); err != nil {
							b.Error(err)
							return
						}
						mine = append(mine, time.Since(start))
					}
					mu.Lock()
					defer mu.Unlock()
					all = append(all, mine...)
				})
			}
			wg.Wait()
			slices.Sort(all)
			return all[len(all)*99/100]
		}
		// 16 MB a second in both cases: first for nobody, then for who does not read it.
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			m := Message{Topic: "flood", Payload: make([]byte, 16<<10)}
			packet, _ := encodePublish(&m, 4, 0, false, false, 0, time.Time{})
			ticker := time.NewTicker(time.Millisecond)
			defer ticker.Stop()
			for {
				select {
				case <-stop:
					return
				case <-ticker.C:
					if _, err := flood.conn.Write(packet); err != nil {
						b.Error(err)
						return
					}
				}
			}
		}()
		alone, before := p99(), p.resident()
		if _, err := slow.conn.Write(subscribePacket(4, 0, "flood")); err != nil {
			b.Fatal(err)
		}
		if f, err := slow.read(); err != nil || f.kind != typeSuback {
			b.Fatalf("got %+v, %v", f, err)
		}
		beside := p99()
		close(stop)
		<-done
		b.ReportMetric(float64(alone.Microseconds()), "us-p99-alone")
		b.ReportMetric(float64(beside.Microseconds()), "us-p99-beside")
		b.ReportMetric(float64(p.resident()-before)/1e6, "MB-more")
	}
}
