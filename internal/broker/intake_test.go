package broker

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// Packets come out whole and unchanged however the stream is cut, through a socket, which
// is asked by its descriptor, and through any other connection.
func TestIntakeTakesAnyCut(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	ends := map[string]func(t *rapid.T) (server, client net.Conn){
		"socket": func(t *rapid.T) (net.Conn, net.Conn) {
			client, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			server, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			return server, client
		},
		"other": func(*rapid.T) (net.Conn, net.Conn) { return net.Pipe() },
	}
	for name, connect := range ends {
		t.Run(name, rapid.MakeCheck(func(t *rapid.T) {
			server, client := connect(t)
			defer func() { _ = server.Close() }()
			defer func() { _ = client.Close() }()
			bodies := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 10_000), 1, 8).Draw(t, "bodies")
			var stream []byte
			for _, body := range bodies {
				stream = appendPacket(stream, typePublish<<4, body)
			}
			cuts := rapid.SliceOfN(rapid.IntRange(1, 6000), 1, 20).Draw(t, "cuts")
			go func() {
				defer func() { _ = client.Close() }()
				for i := 0; len(stream) > 0; i++ {
					n := min(cuts[i%len(cuts)], len(stream))
					if _, err := client.Write(stream[:n]); err != nil {
						return // the reader has failed and says why
					}
					stream = stream[n:]
				}
			}()
			var in intake
			in.init(server, 10_003)
			for _, body := range bodies {
				f, ok, err := in.take()
				for ; !ok && err == nil; f, ok, err = in.take() {
					if err := in.fill(); err != nil {
						t.Fatal(err)
					}
				}
				if err != nil || !bytes.Equal(f.body, body) || f.kind != typePublish {
					t.Fatalf("got %d bytes, %v, want %d", len(f.body), err, len(body))
				}
			}
			if err := in.fill(); !errors.Is(err, io.EOF) {
				t.Errorf("at the end: %v", err)
			}
			if in.buf != nil {
				t.Error("an idle connection holds a buffer")
			}
		}))
	}
}

// What has been announced and does not come costs what has come.
func TestIntakeGrowsByWhatComes(t *testing.T) {
	server, client := net.Pipe()
	defer func() { _ = server.Close() }()
	go func() {
		defer func() { _ = client.Close() }()
		_, _ = client.Write(append(appendLength([]byte{typePublish << 4}, 100_000), make([]byte, 5000)...))
	}()
	var in intake
	in.init(server, 1<<20)
	var err error
	for err == nil {
		_, _, err = in.take()
		err = errors.Join(err, in.fill())
	}
	if len(in.buf) > 2*readBuffer {
		t.Errorf("%d bytes for 5,003", len(in.buf))
	}
}

// A packet that begins and does not end does not keep its connection, whatever the
// keep-alive.
func TestPacketTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := New(Config{Handler: indifferent{}, PacketTimeout: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		server, client := net.Pipe()
		go b.ServeConn(server)
		defer func() {
			if err := b.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}()
		w := newWire(t, client)
		if err := client.SetDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		w.send(connectPacket{version: 4, id: "slow"}.encode())
		if f := w.next(); f.kind != typeConnack {
			t.Fatalf("%+v", f)
		}
		w.send([]byte{typePublish << 4, 100, 0})
		start := time.Now()
		for range 3 { // a byte now and then does not help
			<-time.After(time.Second)
			w.send([]byte{1})
		}
		w.closed()
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("closed after %v", took)
		}
	})
}
