package main

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"drover/internal/fleetsim"
)

// cutting forwards connections to an address that is known later, and cuts each of the first
// ones when so many bytes have come back.
type cutting struct {
	net.Listener
	to    func() string
	after int64

	mu   sync.Mutex
	cuts int // still to be made
}

func (c *cutting) run() {
	for {
		in, err := c.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = in.Close() }()
			out, err := net.Dial("tcp", c.to())
			if err != nil {
				return
			}
			defer func() { _ = out.Close() }()
			go func() {
				_, _ = io.Copy(out, in) // either may be gone
				_ = out.Close()
			}()
			c.mu.Lock()
			cut := c.cuts > 0
			c.cuts--
			c.mu.Unlock()
			if cut {
				_, _ = io.CopyN(in, out, c.after)
				return
			}
			_, _ = io.Copy(in, out)
		}()
	}
}

// TestFleetDownloads: on the way from the box to devices connections break; every device
// gets the file nevertheless.
func TestFleetDownloads(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const devices, cuts = 6, 3
	cfg := serveConfig{Data: filepath.Join(t.TempDir(), "data"), HTTP: "127.0.0.1:0", MQTT: "127.0.0.1:0", Store: "sqlite", Objects: true,
		Account: "123456789012", Region: "us-east-1", LogLevel: "error", Retention: time.Hour, JournalRetention: time.Hour,
		S3: s3Flags{S3: s3Box, S3PublicURL: "http://" + listener.Addr().String()}}
	srv, err := startServer(t.Context(), cfg, cfg.logger(os.Stderr))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := srv.stop(); err != nil {
			t.Error(err)
		}
	}()
	_, addr, _ := cutURL(srv.endpoints.HTTP)
	path := &cutting{Listener: listener, to: func() string { return addr }, after: 300_000, cuts: cuts}
	go path.run()
	defer func() { _ = listener.Close() }()

	a := api{url: srv.endpoints.HTTP, mqtt: srv.endpoints.MQTT, key: srv.key, region: cfg.Region}
	document, err := a.uploadFirmware(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	names := fleetsim.Names("device", devices)
	if err := a.register(t.Context(), names, "g"); err != nil {
		t.Fatal(err)
	}
	if err := a.call(t.Context(), http.MethodPut, "/jobs/"+demoJob, map[string]any{
		"targets": []string{"arn:aws:iot:us-east-1:123456789012:thinggroup/g"}, "document": document,
		"presignedUrlConfig": map[string]any{"roleArn": "arn:aws:iam::123456789012:role/r"},
	}, nil); err != nil {
		t.Fatal(err)
	}
	fleet, err := fleetsim.New(fleetsim.Config{Endpoint: a.mqtt, Things: names, Duration: -1, Steps: -1, Executions: devices, Backoff: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	summary, err := fleet.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d := summary.Downloads
	if summary.Succeeded != devices || d.Files != devices || d.Failed != 0 || d.Resumed < 1 || d.Resumed > cuts {
		t.Errorf("%s", summary)
	}
}
