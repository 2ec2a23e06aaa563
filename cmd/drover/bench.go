package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"drover/internal/fleetsim"
)

// benchCmd measures drover on this machine: each part in a fresh server, a process of its
// own, beside a client that is another. With mosquitto installed the same client measures
// its echoes, so that figures can be compared as ratios from one run.
type benchCmd struct {
	Only        []string      `help:"Parts to measure: exchange, rollout, notify, lists, start, memory, api, console. Default: all." enum:"exchange,rollout,notify,lists,start,memory,api,console" placeholder:"PART"`
	Connections []int         `help:"How many devices are connected, all of them at work." default:"200,2000,15000" placeholder:"N"`
	For         time.Duration `help:"How long each exchange is counted." default:"5s"`
	QoS         []int         `name:"qos" help:"Qualities of service to measure." default:"0,1" placeholder:"N"`
	MQTT        []string      `name:"mqtt-version" help:"MQTT versions to measure." default:"3.1.1,5" placeholder:"V"`
	Transports  []string      `help:"plain, tls or both." enum:"plain,tls" default:"plain,tls" placeholder:"T"`
	Things      []int         `help:"Sizes of the groups that jobs are rolled out to." default:"1000,10000,100000,1000000" placeholder:"N"`
	Executions  []int         `help:"How many executions are stored when lists are measured; 10000000 takes minutes." default:"10000,1000000" placeholder:"N"`
	Mosquitto   string        `help:"Program of the broker to compare with; none: do not." default:"mosquitto" placeholder:"PATH"`
	JSON        string        `name:"json" help:"Write the figures to a file as well." type:"path" placeholder:"FILE"`
}

// benchRow is one figure.
type benchRow struct {
	Part  string  `json:"part"`
	What  string  `json:"what"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// bench is a benchCmd while it runs.
type bench struct {
	benchCmd
	ctx  context.Context
	out  io.Writer
	err  *os.File
	self string // the program
	dir  string // for everything
	rows []benchRow
}

func (c *benchCmd) Run(ctx context.Context, s *streams) (err error) {
	b := &bench{benchCmd: *c, ctx: ctx, out: s.out, err: s.err}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "drover-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	for _, part := range []struct {
		name string
		run  func() error
	}{{"exchange", b.exchange}, {"rollout", b.rollout}, {"notify", b.notify}, {"lists", b.lists}, {"start", b.start}, {"memory", b.memory}, {"api", b.api}, {"console", b.console}} {
		if len(c.Only) > 0 && !slices.Contains(c.Only, part.name) {
			continue
		}
		if err := part.run(); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return b.report()
}

// add notes a figure.
func (b *bench) add(part, what string, value float64, unit string) {
	b.rows = append(b.rows, benchRow{part, what, value, unit})
	say(b.err, "%s\t%s\t%s %s\n", part, what, digits(value), unit)
}

// digits writes a figure with three digits that count.
func digits(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

func (b *bench) report() error {
	w := tabwriter.NewWriter(b.out, 0, 0, 2, ' ', 0)
	part := ""
	for _, r := range b.rows {
		if r.Part != part {
			part = r.Part
			say(w, "\n%s\n", part)
		}
		say(w, "  %s\t%s\t%s\n", r.What, digits(r.Value), r.Unit)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if b.JSON == "" {
		return nil
	}
	text, err := json.MarshalIndent(struct {
		Version string     `json:"version"`
		Machine string     `json:"machine"`
		Figures []benchRow `json:"figures"`
	}{version(), fmt.Sprintf("%s/%s, %d processors", runtime.GOOS, runtime.GOARCH, runtime.NumCPU()), b.rows}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(b.JSON, append(text, '\n'), 0o644)
}

// exchange: durable requests of devices, and mosquitto's echoes to the same client.
func (b *bench) exchange() error {
	for _, transport := range b.Transports {
		for _, n := range b.Connections {
			for _, version := range b.MQTT {
				for _, qos := range b.QoS {
					if err := b.exchangeOf(transport, n, version, qos); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

func (b *bench) exchangeOf(transport string, n int, version string, qos int) error {
	what := fmt.Sprintf("%d connections, QoS %d, MQTT %s, %s: ", n, qos, version, transport)
	srv, err := b.serve()
	if err != nil {
		return err
	}
	defer srv.kill()
	args, err := srv.dial(transport, "--qos", fmt.Sprint(qos), "--mqtt-version", version)
	if err != nil {
		return err
	}
	ours, cpu, err := srv.requests(n, n, args...)
	if err != nil {
		return fmt.Errorf("%s%w", what, err)
	}
	b.add("exchange", what+"durable start-next and update", ours.Rate, "/s")
	b.add("exchange", what+"p50", ours.Latency.P50, "ms")
	b.add("exchange", what+"p99", ours.Latency.P99, "ms")
	b.add("exchange", what+"processor time of the server", cpu/ours.Rate/ours.Seconds*1e6, "us each")
	b.add("exchange", what+"processor time of the client", ours.CPU/float64(ours.Answers)*1e6, "us each")
	// Half of that rate is a pause of each device, twice as long as it needs for a request.
	pause := time.Duration(2 * float64(n) / ours.Rate * float64(time.Second))
	half, _, err := srv.requests(n, n, append(args, "--interval", pause.String())...)
	if err != nil {
		return fmt.Errorf("%shalf of it: %w", what, err)
	}
	b.add("exchange", what+"p50 at half of it", half.Latency.P50, "ms")
	b.add("exchange", what+"p99 at half of it", half.Latency.P99, "ms")
	other, err := b.mosquitto(srv.data, transport == "tls")
	if err != nil || other == nil {
		return err
	}
	defer other.kill()
	srv.kill()
	scheme := "mqtt://"
	if transport == "tls" {
		scheme = "mqtts://"
	}
	args = append(args, "--mqtt-url", scheme+other.address, "--echo", "--measure", b.For.String(), "--things", fmt.Sprint(n), "--data", srv.data, "--wait")
	theirs, cpu, err := b.load(other, args, nil)
	if err != nil {
		return err
	}
	b.add("exchange", what+"echoes of mosquitto", theirs.Rate, "/s")
	b.add("exchange", what+"processor time of mosquitto", cpu/theirs.Rate/theirs.Seconds*1e6, "us each")
	b.add("exchange", what+"ratio", ours.Rate/theirs.Rate, "x")
	return nil
}

// rollout: how long CreateJob takes, and until all have their execution.
func (b *bench) rollout() error {
	for _, n := range b.Things {
		if err := b.withThings(n, func(srv *benchServer) error {
			before := srv.size()
			began := time.Now()
			if err := srv.api.job(b.ctx, benchAll, 0); err != nil {
				return err
			}
			b.add("rollout", fmt.Sprintf("CreateJob on %d things", n), time.Since(began).Seconds()*1000, "ms")
			if err := srv.api.queued(b.ctx, benchAll, 0, n); err != nil {
				return err
			}
			took := time.Since(began).Seconds()
			b.add("rollout", fmt.Sprintf("%d executions queued", n), took, "s")
			b.add("rollout", fmt.Sprintf("%d executions queued", n), float64(n)/took, "/s")
			if n >= 10_000 {
				b.add("rollout", fmt.Sprintf("on disk, %d executions", n), float64(srv.size()-before)/float64(n), "B each")
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// notify: how long it takes until connected devices have been told of a new job.
func (b *bench) notify() error {
	n := slices.Max(b.Connections)
	return b.withThings(n, func(srv *benchServer) error {
		args := []string{"--mqtt-url", srv.at.MQTT, "--notices", "--measure", "60s", "--things", fmt.Sprint(n), "--data", srv.data, "--no-register", "--wait"}
		var began time.Time
		r, cpu, err := b.load(srv.process, args, func() error {
			began = time.Now()
			return srv.api.job(b.ctx, benchAll, 0)
		})
		took := time.Since(began)
		if err == nil && r.Noticed < int64(n) {
			err = fmt.Errorf("%d of %d devices were told of the job", r.Noticed, n)
		}
		if err != nil {
			return err
		}
		b.add("notify", fmt.Sprintf("%d connected devices told of a new job", n), took.Seconds(), "s")
		b.add("notify", fmt.Sprintf("%d connected devices told of a new job: processor time of the server", n), cpu/float64(n)*1e6, "us each")
		return nil
	})
}

// lists: what reading costs with many executions stored.
func (b *bench) lists() error {
	for _, total := range b.Executions {
		n := min(total, 1_000_000)
		if err := b.withThings(n, func(srv *benchServer) error {
			for i := range total / n {
				if err := srv.api.rolledOut(b.ctx, benchAll, i, n); err != nil {
					return err
				}
			}
			for _, q := range []struct{ name, path string }{
				{"DescribeJob", "/jobs/all-0"},
				{"ListJobs", "/jobs?maxResults=50"},
				{"ListJobExecutionsForJob", "/jobs/all-0/things?maxResults=250"},
				{"ListJobExecutionsForJob, QUEUED", "/jobs/all-0/things?maxResults=250&status=QUEUED"},
				{"ListJobExecutionsForThing", "/things/" + fleetsim.Names("device", n)[n/2] + "/jobs?maxResults=50"},
			} {
				took, err := median(101, func() error { return srv.api.call(b.ctx, http.MethodGet, q.path, nil, nil) })
				if err != nil {
					return err
				}
				b.add("lists", fmt.Sprintf("%s with %d executions stored", q.name, total), took.Seconds()*1000, "ms")
			}
			what := fmt.Sprintf("durable start-next and update with %d executions stored", total)
			r, cpu, err := srv.requests(min(n, 2000), n)
			if err != nil {
				return err
			}
			b.add("lists", what, r.Rate, "/s")
			b.add("lists", what+": processor time of the server", cpu/r.Rate/r.Seconds*1e6, "us each")
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// start: how long it takes until a server with many pending executions answers.
func (b *bench) start() error {
	n := slices.Max(b.Things)
	return b.withThings(n, func(srv *benchServer) error {
		if err := srv.api.rolledOut(b.ctx, benchAll, 0, n); err != nil {
			return err
		}
		for _, how := range []string{"SIGTERM", "kill -9"} {
			if how == "SIGTERM" {
				if err := srv.stop(); err != nil {
					return err
				}
			} else {
				srv.kill()
			}
			began := time.Now()
			if err := srv.start(); err != nil {
				return err
			}
			b.add("start", fmt.Sprintf("ready with %d pending after %s", n, how), time.Since(began).Seconds(), "s")
		}
		return nil
	})
}

// memory: what the server grows by for a device that is connected and quiet.
func (b *bench) memory() error {
	n := slices.Max(b.Connections)
	for _, kind := range []struct{ name, transport, flag string }{{"plain", "plain", ""}, {"plain, persistent sessions", "plain", "--persistent"}, {"tls", "tls", ""}} {
		if !slices.Contains(b.Transports, kind.transport) {
			continue
		}
		n := n
		if kind.transport == "tls" {
			n = min(n, 5000) // a handshake costs a millisecond on each side
		}
		srv, err := b.serve()
		if err != nil {
			return err
		}
		defer func() { srv.kill() }() // whichever process it is by then
		args, err := srv.dial(kind.transport, "--measure", "1s", "--active", "1", "--echo", "--wait", "--data", srv.data)
		if err != nil {
			return err
		}
		if kind.flag != "" {
			args = append(args, kind.flag)
		}
		// What the first ones cost is no cost of a connection.
		if _, _, err := b.load(srv.process, append(args, "--things", "100", "--prefix", "first"), nil); err != nil {
			return err
		}
		before, err := srv.settled(b.ctx)
		if err != nil {
			return err
		}
		began := time.Now()
		_, _, err = b.load(srv.process, append(args, "--things", fmt.Sprint(n)), func() error {
			took := time.Since(began)
			after, err := srv.settled(b.ctx)
			b.add("memory", fmt.Sprintf("%d connections with 5 subscriptions, %s", n, kind.name), float64(after-before)/float64(n), "B each")
			b.add("memory", fmt.Sprintf("%d connections with 5 subscriptions, %s, until all are there", n, kind.name), took.Seconds(), "s")
			return err
		})
		if err != nil {
			return err
		}
		srv.kill()
	}
	return nil
}

// api: signed requests of the control plane.
func (b *bench) api() error {
	return b.withThings(1000, func(srv *benchServer) error {
		if err := srv.api.job(b.ctx, benchAll, 0); err != nil {
			return err
		}
		for _, q := range []struct {
			name string
			call func(worker, i int) error
		}{
			{"DescribeJob", func(int, int) error { return srv.api.call(b.ctx, http.MethodGet, "/jobs/all-0", nil, nil) }},
			{"DescribeThing", func(int, int) error { return srv.api.call(b.ctx, http.MethodGet, "/things/device-0001", nil, nil) }},
			{"CreateThing", func(worker, i int) error {
				return srv.api.call(b.ctx, http.MethodPost, fmt.Sprintf("/things/new-%d-%d", worker, i), map[string]any{}, nil)
			}},
		} {
			rate, err := throughput(b.For, 16, q.call)
			if err != nil {
				return err
			}
			b.add("api", q.name+", signed, 16 at once", rate, "/s")
		}
		return nil
	})
}

// console: pages, and somebody who watches a job, beside a job on all things.
func (b *bench) console() error {
	n := slices.Max(b.Things)
	return b.withThings(n, func(srv *benchServer) error {
		index := map[string]any{"thingIndexingConfiguration": map[string]string{"thingIndexingMode": "REGISTRY"}}
		if err := srv.api.call(b.ctx, http.MethodPost, "/indexing/config", index, nil); err != nil {
			return err
		}
		if err := srv.api.rolledOut(b.ctx, benchAll, 0, n); err != nil {
			return err
		}
		browser, err := srv.signIn(b.ctx)
		if err != nil {
			return err
		}
		thing := fleetsim.Names("device", n)[n/2]
		search := "/console/things?q=" + url.QueryEscape("thingName:"+thing)
		for found := false; !found; { // until the index is built
			text, err := browser.page(b.ctx, search)
			if err != nil {
				return err
			}
			found = bytes.Contains(text, []byte("/console/things/"+thing))
		}
		for _, p := range []struct{ name, path string }{
			{"overview", "/console/"}, {"jobs", "/console/jobs"}, {"the job", "/console/jobs/all-0"}, {"the job, executions that are queued", "/console/jobs/all-0?status=QUEUED"},
			{"things", "/console/things"}, {"search", search}, {"a thing", "/console/things/" + thing}, {"groups", "/console/groups"}, {"the group", "/console/groups/all"},
			{"cancel the job", "/console/jobs/all-0/cancel"}, {"audit", "/console/audit"},
		} {
			took, err := median(21, func() error {
				_, err := browser.page(b.ctx, p.path)
				return err
			})
			if err != nil {
				return err
			}
			b.add("console", fmt.Sprintf("%s, %d things with a job", p.name, n), took.Seconds()*1000, "ms")
		}
		const viewers = 20
		idle, err := srv.uses(b.For)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(b.ctx)
		defer cancel()
		for range viewers {
			if err := browser.watch(ctx, "/console/jobs/all-0/live"); err != nil {
				return err
			}
		}
		busy, err := srv.uses(b.For)
		b.add("console", fmt.Sprintf("somebody who watches a job on %d things", n), max(0, busy-idle)/viewers*100, "% of a core")
		return err
	})
}

// withThings runs f with a server that has n things in one group.
func (b *bench) withThings(n int, f func(*benchServer) error) error {
	srv, err := b.serve()
	if err != nil {
		return err
	}
	defer func() { srv.kill() }() // whichever process it is by then
	if err := srv.api.register(b.ctx, fleetsim.Names("device", n), benchAll); err != nil {
		return err
	}
	return f(srv)
}

// size is what the database has on disk.
func (s *benchServer) size() (bytes int64) {
	files, err := filepath.Glob(filepath.Join(s.data, "drover.db*"))
	if err != nil {
		return 0
	}
	for _, name := range files {
		if info, err := os.Stat(name); err == nil && !strings.HasSuffix(name, ".lock") {
			bytes += info.Size()
		}
	}
	return bytes
}
