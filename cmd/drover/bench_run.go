package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"drover/internal/auth"
	"drover/internal/console"
	"drover/internal/fleetsim"
	"drover/internal/pki"
)

// process is a server under measurement.
type process struct {
	cmd     *exec.Cmd
	address string
	done    chan struct{} // closed when it has ended
}

func startProcess(cmd *exec.Cmd, address string) (*process, error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, address: address, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // most are killed
		close(p.done)
	}()
	return p, nil
}

// kill ends the process, if it has not ended.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// stat reads a file of /proc about the process.
func (p *process) stat(file string) ([]byte, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.cmd.Process.Pid, file))
	if err != nil {
		return nil, fmt.Errorf("what the server uses can be told on Linux only: %w", err)
	}
	return text, nil
}

// cpu is the processor time that the process has used, in seconds.
func (p *process) cpu() (float64, error) {
	text, err := p.stat("stat")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	return float64(user+system) / 100, errors.Join(err1, err2) // clock ticks are hundredths everywhere
}

// resident is the memory of the process in bytes.
func (p *process) resident() (int64, error) {
	text, err := p.stat("statm")
	if err != nil {
		return 0, err
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// settled is resident once the process has given back what it does not need, which a quiet server does after a while.
func (p *process) settled(ctx context.Context) (least int64, err error) {
	if least, err = p.resident(); err != nil {
		return 0, err
	}
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for range 3 * memoryPeriod / time.Second {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-ticker.C:
		}
		now, err := p.resident()
		if err != nil {
			return 0, err
		}
		least = min(least, now)
	}
	return least, nil
}

// benchServer is a drover in a process of its own.
type benchServer struct {
	*process
	bench *bench
	data  string
	flags []string
	at    endpoints
	api   *api
	jobs  int // on the busy devices so far
}

// serve starts a server on an empty folder, with flags besides those of all.
func (b *bench) serve(flags ...string) (*benchServer, error) {
	data, err := os.MkdirTemp(b.dir, "data-")
	if err != nil {
		return nil, err
	}
	s := &benchServer{bench: b, data: data, flags: flags}
	return s, s.start()
}

// start starts the server on its folder and waits until it is ready.
func (s *benchServer) start() error {
	cmd := exec.CommandContext(s.bench.ctx, s.bench.self, append([]string{"serve", "--data", s.data, "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0",
		"--mqtts", "127.0.0.1:0", "--tls", "--limit-accept-rate", "100000", "--log-level", "error"}, s.flags...)...)
	cmd.Stderr = s.bench.err
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if s.process, err = startProcess(cmd, ""); err != nil {
		return err
	}
	if err := json.NewDecoder(stdout).Decode(&s.at); err != nil {
		return fmt.Errorf("the server did not start: %w", err)
	}
	key, err := auth.LoadKey(cmp.Or(s.at.Keys, s.data))
	s.api = &api{url: s.at.HTTP, mqtt: s.at.MQTT, key: key, region: "us-east-1"}
	return err
}

// stop ends the server in order.
func (s *benchServer) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	<-s.done
	return nil
}

// dial adds the flags of fleet that say where and how devices connect.
func (s *benchServer) dial(transport string, args ...string) ([]string, error) {
	if transport == "plain" {
		return append(args, "--mqtt-url", s.at.MQTT), nil
	}
	pair, err := s.certificate(s.bench.ctx)
	return append(append(args, "--mqtt-url", s.at.MQTTS), pair...), err
}

// certificate makes one for all devices, which may do everything. It returns the flags of
// fleet that name it.
func (s *benchServer) certificate(ctx context.Context) ([]string, error) {
	var made struct {
		ARN  string `json:"certificateArn"`
		PEM  string `json:"certificatePem"`
		Pair struct {
			Private string `json:"PrivateKey"`
		} `json:"keyPair"`
	}
	policy := map[string]any{"policyDocument": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}`}
	err := s.api.call(ctx, http.MethodPost, "/keys-and-certificate?setAsActive=true", nil, &made)
	if err == nil {
		err = s.api.call(ctx, http.MethodPost, "/policies/all", policy, nil)
	}
	if err == nil {
		err = s.api.call(ctx, http.MethodPut, "/target-policies/all", map[string]any{"target": made.ARN}, nil)
	}
	if err != nil {
		return nil, err
	}
	cert, key := filepath.Join(s.data, "device.pem"), filepath.Join(s.data, "device.key")
	return []string{"--cert", cert, "--key", key}, errors.Join(os.WriteFile(cert, []byte(made.PEM), 0o600), os.WriteFile(key, []byte(made.Pair.Private), 0o600))
}

// mosquitto starts the other broker, nil if there is none.
func (b *bench) mosquitto(data string, secure bool) (*process, error) {
	if b.Mosquitto == "none" {
		return nil, nil
	}
	path, err := exec.LookPath(b.Mosquitto)
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/" + b.Mosquitto); err != nil {
			return nil, nil // nothing to compare with
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().(*net.TCPAddr)
	if err := l.Close(); err != nil {
		return nil, err
	}
	text := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nlog_type none\nuser root\nmax_inflight_messages 100\n", addr.Port)
	if secure {
		file := filepath.Join(data, "mosquitto.pem")
		if err := serverFile(file, data); err != nil {
			return nil, err
		}
		text += fmt.Sprintf("certfile %s\nkeyfile %s\n", file, file)
	}
	config := filepath.Join(data, "mosquitto.conf")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(b.ctx, path, "-c", config)
	cmd.Stdout, cmd.Stderr = io.Discard, io.Discard
	p, err := startProcess(cmd, addr.String())
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		conn, err := net.Dial("tcp", p.address)
		if err == nil {
			return p, conn.Close()
		}
		if time.Now().After(deadline) {
			p.kill()
			return nil, fmt.Errorf("mosquitto does not listen: %w", err)
		}
	}
}

// serverFile writes certificates and key for a server on loopback, of the authority of the
// data folder.
func serverFile(name, data string) error {
	pair, err := pki.Open(data).IssueServer([]string{"localhost", "127.0.0.1"}, time.Now())
	if err != nil {
		return err
	}
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
	for _, c := range pair.Certificate {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})...)
	}
	return os.WriteFile(name, text, 0o600)
}

// loadFigures is what `drover fleet --measure` prints.
type loadFigures struct {
	Seconds  float64 `json:"seconds"`
	Answers  int64   `json:"answers"`
	Noticed  int64   `json:"noticed"`
	Rejected int64   `json:"rejected"`
	Rate     float64 `json:"answersPerSecond"`
	CPU      float64 `json:"clientCpuSeconds"`
	Latency  struct {
		P50 float64 `json:"p50Ms"`
		P99 float64 `json:"p99Ms"`
	} `json:"latency"`
}

// requests measures durable requests of n devices at work, whose things are the first ones
// of so many. It also returns the processor seconds that the server has used.
func (s *benchServer) requests(n, of int, args ...string) (r loadFigures, cpu float64, err error) {
	if err := s.api.register(s.bench.ctx, fleetsim.Names("device", of)[:n], benchBusy); err != nil {
		return r, 0, err
	}
	// What a former load has left under way may be carried out after the first request of this one, which then
	// is too late: once for each device.
	late := int64(0)
	if s.jobs > 0 {
		late = int64(n)
	}
	var stop func() (int, error)
	args = append([]string{"--measure", s.bench.For.String(), "--things", fmt.Sprint(n), "--of", fmt.Sprint(of), "--data", s.data, "--no-register", "--wait"}, args...)
	r, cpu, err = s.bench.load(s.process, args, func() (err error) {
		stop, err = s.api.feed(s.bench.ctx, s.jobs, n) // before the first request, so that nobody waits for work
		return err
	})
	if stop != nil {
		var failed error
		s.jobs, failed = stop()
		err = errors.Join(err, failed)
	}
	if err == nil && r.Rejected > late {
		err = fmt.Errorf("%d requests were rejected", r.Rejected)
	}
	return r, cpu, err
}

// load runs the client, and f when all its devices are connected. It also returns the
// processor seconds that the server has used from then on.
func (b *bench) load(server *process, args []string, f func() error) (r loadFigures, cpu float64, err error) {
	cmd := exec.CommandContext(b.ctx, b.self, append([]string{"fleet"}, args...)...)
	cmd.Stderr = b.err
	stdin, err1 := cmd.StdinPipe()
	stdout, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		return r, 0, err
	}
	defer func() { err = errors.Join(err, stdin.Close(), cmd.Wait()) }()
	in := bufio.NewReader(stdout)
	if _, err := in.ReadString('\n'); err != nil {
		return r, 0, fmt.Errorf("the client: %w", err)
	}
	if f != nil {
		if err := f(); err != nil {
			return r, 0, err
		}
	}
	before, err := server.cpu()
	if err != nil {
		return r, 0, err
	}
	if _, err := io.WriteString(stdin, "go\n"); err != nil {
		return r, 0, err
	}
	if err := json.NewDecoder(in).Decode(&r); err != nil {
		return r, 0, fmt.Errorf("the client: %w", err)
	}
	if r.Answers == 0 && r.Noticed == 0 {
		return r, 0, errors.New("nothing was answered while it was counted: --for is too short")
	}
	after, err := server.cpu()
	// The client has warmed up for a fifth of the time that it counted.
	return r, (after - before) / 1.2, err
}

// Groups of things: all of them, and those whose devices are at work.
const (
	benchAll  = "all"
	benchBusy = "busy"
)

// job creates the i-th job on a group.
func (a *api) job(ctx context.Context, group string, i int) error {
	targets := []string{"arn:aws:iot:us-east-1:123456789012:thinggroup/" + group}
	return a.call(ctx, http.MethodPut, fmt.Sprintf("/jobs/%s-%d", group, i), map[string]any{"targets": targets, "document": "{}"}, nil)
}

// waiting returns how many executions of the i-th job of a group are queued, and how many
// have ended.
func (a *api) waiting(ctx context.Context, group string, i int) (queued, ended int, err error) {
	var out struct {
		Job struct {
			Counts struct {
				Queued    int `json:"numberOfQueuedThings"`
				Succeeded int `json:"numberOfSucceededThings"`
			} `json:"jobProcessDetails"`
		} `json:"job"`
	}
	err = a.call(ctx, http.MethodGet, fmt.Sprintf("/jobs/%s-%d", group, i), nil, &out)
	return out.Job.Counts.Queued, out.Job.Counts.Succeeded, err
}

// rolledOut creates the i-th job on a group of n things, and waits until all have their
// execution.
func (a *api) rolledOut(ctx context.Context, group string, i, n int) error {
	if err := a.job(ctx, group, i); err != nil {
		return err
	}
	return a.queued(ctx, group, i, n)
}

func (a *api) queued(ctx context.Context, group string, i, n int) error {
	for {
		queued, _, err := a.waiting(ctx, group, i)
		if err != nil || queued == n {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// feed sees to it that the n busy devices have work, two jobs ahead, until the function that
// it returns is called, which says how many jobs there have been. The first is the first-th.
func (a *api) feed(ctx context.Context, first, n int) (stop func() (jobs int, err error), err error) {
	for i := range 2 {
		if err := a.rolledOut(ctx, benchBusy, first+i, n); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	fed := make(chan error, 1)
	jobs := first + 2
	go func() { fed <- a.keepFeeding(ctx, first, n, &jobs) }()
	return func() (int, error) {
		cancel()
		if err := <-fed; !errors.Is(err, context.Canceled) {
			return jobs, err
		}
		return jobs, nil
	}, nil
}

func (a *api) keepFeeding(ctx context.Context, first, n int, jobs *int) error {
	for i := first; ; {
		queued, ended, err := a.waiting(ctx, benchBusy, i)
		if err != nil {
			return err
		}
		if queued < n/2 && queued+ended > 0 {
			*jobs++ // it may exist even if this is cut short
			if err := a.job(ctx, benchBusy, *jobs-1); err != nil {
				return err
			}
			i++
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// median is what f takes, of so many times.
func median(times int, f func() error) (time.Duration, error) {
	var took []time.Duration
	for range times {
		began := time.Now()
		if err := f(); err != nil {
			return 0, err
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}

// uses returns how much of a processor the process uses, for so long.
func (p *process) uses(d time.Duration) (float64, error) {
	before, err := p.cpu()
	if err != nil {
		return 0, err
	}
	time.Sleep(d)
	after, err := p.cpu()
	return (after - before) / d.Seconds(), err
}

// benchBrowser is somebody who has signed in to the console.
type benchBrowser struct {
	*http.Client
	url string
}

func (s *benchServer) signIn(ctx context.Context) (*benchBrowser, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	b := &benchBrowser{&http.Client{Jar: jar}, s.at.HTTP}
	form := url.Values{"name": {s.api.key.AccessKeyID}, "password": {s.api.key.SecretAccessKey}}
	rq, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url+console.SignIn, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	rq.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	_, err = b.send(rq)
	return b, err
}

func (b *benchBrowser) send(rq *http.Request) ([]byte, error) {
	answer, err := b.Do(rq)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(answer.Body)
	if answer.StatusCode != http.StatusOK {
		err = errors.Join(err, fmt.Errorf("%s: %s", rq.URL, answer.Status))
	}
	return text, errors.Join(err, answer.Body.Close())
}

func (b *benchBrowser) page(ctx context.Context, path string) ([]byte, error) {
	rq, err := http.NewRequestWithContext(ctx, http.MethodGet, b.url+path, nil)
	if err != nil {
		return nil, err
	}
	return b.send(rq)
}

// watch reads what a live page is sent until ctx ends.
func (b *benchBrowser) watch(ctx context.Context, path string) error {
	rq, err := http.NewRequestWithContext(ctx, http.MethodGet, b.url+path, nil)
	if err != nil {
		return err
	}
	answer, err := b.Do(rq)
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, answer.Body) // until ctx ends
		_ = answer.Body.Close()
	}()
	return nil
}

// throughput calls f from so many workers for so long, and returns how often a second.
func throughput(d time.Duration, workers int, f func(worker, i int) error) (float64, error) {
	var count atomic.Int64
	failed := make([]error, workers)
	began := time.Now()
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := 0; time.Since(began) < d && failed[w] == nil; i++ {
				if failed[w] = f(w, i); failed[w] == nil {
					count.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return float64(count.Load()) / time.Since(began).Seconds(), errors.Join(failed...)
}
