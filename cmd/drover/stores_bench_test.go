package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"drover/internal/envtest"
	"drover/internal/fleetsim"
)

// BenchmarkStores measures durable requests of 2,100 devices on SQLite, and on PostgreSQL with one node and
// with three, one after another; the devices of three nodes are spread over them. PostgreSQL, which flushes as
// it comes, and the devices are on the same machine.
func BenchmarkStores(b *testing.B) {
	program := filepath.Join(b.TempDir(), "drover")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	for _, kind := range []struct {
		name  string
		nodes int // 0: SQLite
	}{{"sqlite", 0}, {"postgres-1-node", 1}, {"postgres-3-nodes", 3}} {
		b.Run(kind.name, func(b *testing.B) {
			for b.Loop() {
				measureStore(b, program, kind.nodes)
			}
		})
	}
}

func measureStore(b *testing.B, program string, nodes int) {
	const devices = 2100
	bn := &bench{benchCmd: benchCmd{For: 8 * time.Second}, ctx: b.Context(), err: os.Stderr, self: program, dir: b.TempDir()}
	var flags []string
	var database *envtest.PostgreSQLServer
	if nodes > 0 {
		database = envtest.StartPostgreSQL(b, "", "-c fsync=on -c synchronous_commit=on -c full_page_writes=on")
		url, err := database.NewDatabase()
		if err != nil {
			b.Fatal(err)
		}
		flags = append(flags, "--store", url, "--keys", b.TempDir())
	}
	if nodes > 1 {
		flags = append(flags, "--cluster-listen", "127.0.0.1:0")
	}
	var servers []*benchServer
	for i := range max(1, nodes) {
		if i > 0 {
			flags = append(flags, "--cluster-peers", strings.TrimPrefix(servers[0].at.Cluster, "nats://"))
		}
		s, err := bn.serve(flags...)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(s.kill)
		servers = append(servers, s)
	}
	each := devices / len(servers)
	for i := range servers {
		if err := servers[0].api.register(b.Context(), fleetsim.Names(fmt.Sprint("device", i), each), benchBusy); err != nil {
			b.Fatal(err)
		}
	}
	stop, err := servers[0].api.feed(b.Context(), 0, devices)
	if err != nil {
		b.Fatal(err)
	}
	figures, cpu := make([]loadFigures, len(servers)), make([]float64, len(servers))
	var g errgroup.Group
	for i, s := range servers {
		g.Go(func() (err error) {
			figures[i], cpu[i], err = bn.load(s.process, []string{"--measure", bn.For.String(), "--things", fmt.Sprint(each), "--prefix", fmt.Sprint("device", i), "--data", s.data,
				"--mqtt-url", s.at.MQTT, "--no-register", "--wait"}, nil)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
	if _, err := stop(); err != nil {
		b.Fatal(err)
	}
	var rate, used, p50, p99 float64
	for i, f := range figures {
		rate += f.Rate
		used += cpu[i]
		p50, p99 = p50+f.Latency.P50/float64(len(figures)), max(p99, f.Latency.P99)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(rate, "requests/s")
	b.ReportMetric(used/rate/figures[0].Seconds*1e6, "drover-us/request")
	b.ReportMetric(p50, "p50-ms")
	b.ReportMetric(p99, "p99-ms")
}
