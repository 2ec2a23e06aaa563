package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/term"

	"drover/internal/auth"
	"drover/internal/fleetsim"
	"drover/internal/pki"
)

// apiFlags say which server a tool talks to: any by URL and the usual AWS variables, or
// the one of a data folder on this machine.
type apiFlags struct {
	Data        string `help:"Data folder of a server on this machine, for its addresses and key." default:"./drover-data" type:"path" placeholder:"DIR"`
	EndpointURL string `name:"endpoint-url" aliases:"endpoint" help:"URL of the API of another server; the key is taken from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY then. Without it, and without a server on the data folder, AWS_ENDPOINT_URL is used." placeholder:"URL"`
	Region      string `help:"AWS region to sign for, with an endpoint URL." env:"DROVER_REGION,AWS_REGION" default:"us-east-1"`
}

// api is a server as a client sees it.
type api struct {
	url, mqtt string // mqtt may be unknown, ""
	key       auth.Key
	region    string
}

func (f *apiFlags) api() (api, error) {
	a := api{url: f.EndpointURL, region: f.Region}
	if a.url == "" {
		at, err := readEndpoints(f.Data)
		if err == nil {
			return f.local(at)
		}
		if a.url = os.Getenv("AWS_ENDPOINT_URL"); a.url == "" {
			return a, err
		}
	}
	a.key = auth.Key{AccessKeyID: os.Getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: os.Getenv("AWS_SECRET_ACCESS_KEY")}
	if a.key.AccessKeyID == "" || a.key.SecretAccessKey == "" {
		return a, fmt.Errorf("%s needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment", a.url)
	}
	return a, nil
}

// local is the server that runs on the data folder.
func (f *apiFlags) local(at endpoints) (a api, err error) {
	a.url, a.mqtt = at.api(), cmp.Or(at.MQTT, at.MQTTS)
	if a.region, err = readRegion(f.Data); err != nil {
		return a, err
	}
	a.key, err = auth.LoadKey(cmp.Or(at.Keys, f.Data))
	return a, err
}

// devices returns the URL where devices connect, asking the server if need be.
func (a *api) devices(ctx context.Context) (string, error) {
	if a.mqtt != "" {
		return a.mqtt, nil
	}
	var out struct {
		Address string `json:"endpointAddress"`
	}
	if err := a.call(ctx, http.MethodGet, "/endpoint?endpointType=iot%3AData-ATS", nil, &out); err != nil {
		return "", fmt.Errorf("ask where devices connect (or say --mqtt-url): %w", err)
	}
	scheme := "mqtts://"
	if strings.HasPrefix(a.url, "http://") {
		scheme = "mqtt://"
	}
	return scheme + out.Address, nil
}

type importCmd struct {
	apiFlags
	File          string `arg:"" help:"File with one JSON object a line: thingName, thingTypeName, attributes, groups. \"-\" reads standard input."`
	CreateMissing bool   `name:"create-missing" help:"Create thing types and (root) groups that lines name and that do not exist."`
}

func (c *importCmd) Run(ctx context.Context, s *streams) error {
	a, err := c.api()
	if err != nil {
		return err
	}
	in := io.Reader(os.Stdin)
	if c.File != "-" {
		file, err := os.Open(c.File)
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }() // it was only read
		in = file
	}
	began := time.Now()
	meter := newMeter(s.err, "things")
	result, err := fleetsim.Import(ctx, fleetsim.ImportConfig{
		Endpoint: a.url, AccessKeyID: a.key.AccessKeyID, SecretAccessKey: a.key.SecretAccessKey, Region: a.region,
		CreateMissing: c.CreateMissing, Progress: meter.set,
	}, in)
	meter.done()
	for _, e := range result.Errors {
		say(s.err, "%s:%d: %s\n", c.File, e.Line, e.Message)
	}
	if n := result.Failed - int64(len(result.Errors)); n > 0 {
		say(s.err, "and %d more errors\n", n)
	}
	if err != nil {
		return fmt.Errorf("import stopped after %d lines: %w", result.Lines, err)
	}
	took := time.Since(began)
	say(s.out, "%d lines in %s (%.0f/s): %d created, %d updated, %d unchanged, %d errors\n", result.Lines,
		took.Round(time.Millisecond), float64(result.Lines)/took.Seconds(), result.Created, result.Updated, result.Unchanged, result.Failed)
	if result.Failed > 0 {
		return fmt.Errorf("%d lines were refused", result.Failed)
	}
	return nil
}

type fleetCmd struct {
	apiFlags
	MQTTURL    string        `name:"mqtt-url" help:"Where the devices connect, mqtt://HOST:PORT or mqtts://HOST:PORT, or ws://HOST:PORT/mqtt or wss://…; default: where the server says." placeholder:"URL"`
	Protocol   string        `help:"How the devices connect unless --mqtt-url says: mqtt, or ws for MQTT over WebSocket at the address of the API." enum:"mqtt,ws" default:"mqtt"`
	Roots      string        `help:"File with the roots to trust for mqtts, PEM; default: those of the data folder, or of the system." type:"path" placeholder:"FILE"`
	Cert       string        `help:"Certificate that all devices show, PEM." type:"path" placeholder:"FILE"`
	Key        string        `help:"Private key of the certificate, PEM." type:"path" placeholder:"FILE"`
	Things     int           `help:"How many devices." default:"100"`
	Prefix     string        `help:"First part of the devices' names." default:"device"`
	Group      string        `help:"Group to register the devices in." default:"fleet"`
	Register   bool          `help:"Register the devices first, in bulk." default:"true" negatable:""`
	Success    float64       `help:"Probability that a device carries out a job with success." default:"1"`
	Duration   time.Duration `help:"How long a device works on a job, more or less." default:"2s"`
	MQTT       string        `name:"mqtt-version" help:"MQTT version: 3.1.1 or 5." enum:"3.1.1,5" default:"3.1.1"`
	Executions int           `help:"Stop when so many executions have ended; 0 goes on until interrupted." default:"0"`
	Idle       time.Duration `help:"Stop when there was nothing to do for so long; 0 goes on until interrupted." default:"0s"`
	Seed       uint64        `help:"Seed of everything random; 0 draws one." default:"0"`
	JSON       bool          `help:"Print the summary as JSON."`

	Measure  time.Duration `help:"Measure the server for so long instead of playing: devices ask again as soon as they are answered. Prints JSON." group:"Measuring" default:"0s"`
	Active   int           `help:"How many of the devices ask; 0: all." group:"Measuring" default:"0"`
	QoS      byte          `name:"qos" help:"QoS of requests and subscriptions: 0 or 1." group:"Measuring" enum:"0,1" default:"1"`
	Interval time.Duration `help:"Pause of a device between an answer and its next request, on average." group:"Measuring" default:"0s"`
	Echo     bool          `help:"The server is a broker that knows no jobs: devices are answered by what they publish themselves." group:"Measuring"`
	Notices  bool          `help:"Nobody asks; ends when every device has been told of a job." group:"Measuring"`
	Kept     bool          `name:"persistent" help:"Devices have persistent sessions." group:"Measuring"`
	Of       int           `help:"The devices are the first ones of a fleet of so many, and named so." group:"Measuring" hidden:"" default:"0"`
	Wait     bool          `help:"When all are connected, print a line and wait for one on standard input." group:"Measuring" hidden:""`
}

func (c *fleetCmd) Run(ctx context.Context, s *streams) error {
	if c.Echo {
		if c.Measure == 0 || c.MQTTURL == "" {
			return errors.New("--echo needs --measure and --mqtt-url")
		}
		return c.measure(ctx, s, c.MQTTURL)
	}
	a, err := c.api()
	if err != nil {
		return err
	}
	if c.MQTTURL != "" {
		a.mqtt = c.MQTTURL
	}
	if c.Things < 1 {
		return errors.New("--things: at least one")
	}
	if c.Success < 0 || c.Success > 1 {
		return errors.New("--success: a probability is between 0 and 1")
	}
	names := fleetsim.Names(c.Prefix, c.Things)
	if c.Register {
		say(s.err, "registering %d things in group %s\n", len(names), c.Group)
		if err := a.register(ctx, names, c.Group); err != nil {
			return fmt.Errorf("register the devices: %w", err)
		}
	}
	if c.Protocol == "ws" && c.MQTTURL == "" {
		a.mqtt = "ws" + strings.TrimPrefix(a.url, "http") + webSocketPath
	}
	devices, err := a.devices(ctx)
	if err != nil {
		return err
	}
	if c.Measure > 0 {
		return c.measure(ctx, s, devices)
	}
	cfg := fleetsim.Config{
		Endpoint: devices, Things: names, Duration: c.Duration, Executions: c.Executions, Idle: c.Idle, Seed: c.Seed,
		Success: c.Success, ProtocolVersion: 4,
		Logger: slog.New(slog.NewTextHandler(s.err, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	if strings.HasPrefix(devices, "mqtts://") {
		if cfg.TLS, err = c.tlsConfig(); err != nil {
			return err
		}
	}
	if c.MQTT == "5" {
		cfg.ProtocolVersion = 5
	}
	if c.Success == 0 {
		cfg.Success = -1 // never
	}
	fleet, err := fleetsim.New(cfg)
	if err != nil {
		return err
	}
	// An interrupted fleet has done something, too: the summary comes in any case.
	summary, err := show(ctx, s, fleet, c.Executions)
	text := []byte(strings.TrimRight(summary.String(), "\n"))
	if c.JSON {
		var failed error
		if text, failed = summary.MarshalJSON(); failed != nil {
			return errors.Join(err, failed)
		}
	}
	_, failed := fmt.Fprintf(s.out, "%s\n", text)
	return errors.Join(err, failed)
}

// measure has the devices ask as fast as they are answered.
func (c *fleetCmd) measure(ctx context.Context, s *streams, url string) (err error) {
	load := fleetsim.Load{
		Endpoint: url, Things: fleetsim.Names(c.Prefix, max(c.Of, c.Things))[:c.Things], ProtocolVersion: 4,
		Active: c.Active, QoS: c.QoS, Echo: c.Echo, Notices: c.Notices, Kept: c.Kept, Interval: c.Interval, Duration: c.Measure,
	}
	if c.MQTT == "5" {
		load.ProtocolVersion = 5
	}
	if strings.HasPrefix(url, "mqtts://") {
		if load.TLS, err = c.tlsConfig(); err != nil {
			return err
		}
	}
	if c.Wait {
		load.Connected = func() error {
			if _, err := fmt.Fprintln(s.out, "connected"); err != nil {
				return err
			}
			_, err := bufio.NewReader(os.Stdin).ReadString('\n')
			return err
		}
	}
	result, err := load.Run(ctx)
	if err != nil {
		return err
	}
	return json.NewEncoder(s.out).Encode(result)
}

// tlsConfig is how the devices connect with TLS.
func (c *fleetCmd) tlsConfig() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	roots := c.Roots
	if roots == "" {
		roots = filepath.Join(c.Data, pki.RootsFile)
	}
	text, err := os.ReadFile(roots)
	switch {
	case errors.Is(err, os.ErrNotExist) && c.Roots == "": // another server's: the roots of the system
	case err != nil:
		return nil, fmt.Errorf("--roots: %w", err)
	default:
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("--roots: %s has no certificate", roots)
		}
	}
	if c.Cert != "" || c.Key != "" {
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, fmt.Errorf("--cert, --key: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

func (a *api) register(ctx context.Context, names []string, group string) error {
	return fleetsim.Register(ctx, fleetsim.RegisterConfig{
		Endpoint: a.url, AccessKeyID: a.key.AccessKeyID, SecretAccessKey: a.key.SecretAccessKey, Region: a.region,
		Things: names, Group: group,
	})
}

// show runs a fleet with its live display on the error stream.
func show(ctx context.Context, s *streams, fleet *fleetsim.Fleet, total int) (fleetsim.Summary, error) {
	watch, stop := context.WithCancel(ctx)
	shown := make(chan struct{})
	display := fleetsim.NewDisplay(s.err, isTerminal(s.err))
	go func() {
		defer close(shown)
		display.Run(watch, fleet, func() int { return total })
	}()
	summary, err := fleet.Run(ctx)
	stop()
	<-shown
	return summary, err
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// meter shows a growing number: in place on a terminal, a line now and then elsewhere.
type meter struct {
	w        *os.File
	what     string
	terminal bool
	began    time.Time
	last     time.Time
	n        int64
}

func newMeter(w *os.File, what string) *meter {
	now := time.Now()
	return &meter{w: w, what: what, terminal: isTerminal(w), began: now, last: now}
}

func (m *meter) set(n int64) {
	m.n = n
	pause := 5 * time.Second
	if m.terminal {
		pause = 100 * time.Millisecond
	}
	if time.Since(m.last) < pause {
		return
	}
	m.last = time.Now()
	text := fmt.Sprintf("%d %s, %.0f/s", n, m.what, float64(n)/time.Since(m.began).Seconds())
	if m.terminal {
		say(m.w, "\r\x1b[K%s", text)
	} else {
		say(m.w, "%s\n", text)
	}
}

func (m *meter) done() {
	if m.terminal {
		say(m.w, "\r\x1b[K")
	}
}
