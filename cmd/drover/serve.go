package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"drover/internal/auth"
	"drover/internal/broker"
	"drover/internal/controlplane"
	"drover/internal/dataplane"
	"drover/internal/engine"
	"drover/internal/iot"
	"drover/internal/iotdata"
	"drover/internal/objects"
	"drover/internal/registry"
	"drover/internal/store/sqlstore"
)

type serveCmd struct {
	serveConfig
}

func (c *serveCmd) Run(ctx context.Context, s *streams) error {
	log := c.logger(s.err)
	srv, err := startServer(ctx, c.serveConfig, log)
	if err != nil {
		return err
	}
	// The line that scripts wait for: from now on every listener answers.
	if err := json.NewEncoder(s.out).Encode(srv.endpoints); err != nil {
		return errors.Join(err, srv.stop())
	}
	select {
	case <-ctx.Done():
		log.Info("stopping")
		return srv.stop()
	case err := <-srv.failed:
		return errors.Join(err, srv.stop())
	}
}

// endpoints are the addresses in use, as URLs. They are printed once everything is
// ready, and kept in the file endpoints.json of the data folder while the server runs.
type endpoints struct {
	HTTP  string `json:"http,omitempty"`
	HTTPS string `json:"https,omitempty"`
	MQTT  string `json:"mqtt,omitempty"`
	MQTTS string `json:"mqtts,omitempty"`
}

const (
	endpointsFile = "endpoints.json"
	configFile    = "config" // in the AWS format: region and endpoint_url
)

// stopTimeout bounds how long requests that are running may take when the server stops.
const stopTimeout = 15 * time.Second

// server is a running drover.
type server struct {
	cfg       serveConfig
	log       *slog.Logger
	endpoints endpoints
	key       auth.Key

	clock  *clock
	store  *sqlstore.DB
	engine *engine.Engine
	broker *broker.Broker
	http   *http.Server
	front  *front

	objects     *objects.Server // nil: none
	objectStore *objects.Store
	objectLock  io.Closer // nil if the lock of the store is enough

	temporary   string // folder that goes with the server, "" for none
	listeners   []net.Listener
	stopEngine  context.CancelFunc
	engineDone  chan error
	stopObjects context.CancelFunc
	objectsDone chan error
	failed      chan error // what ended by itself
}

// startServer builds the server from the bottom up and returns when it is ready. What
// started is stopped again if a later part fails.
func startServer(ctx context.Context, cfg serveConfig, log *slog.Logger) (_ *server, err error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	s := &server{cfg: cfg, log: log, clock: new(clock), failed: make(chan error, 8)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()

	// The data folder and its key first: they fail for reasons that a person can mend.
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
		return nil, fmt.Errorf("--data: %w", err)
	}
	if s.key, err = auth.LoadOrCreateKey(cfg.Data); err != nil {
		return nil, err
	}
	// The store before the listeners: it is also what keeps a second server off the folder.
	folder := cfg.Data
	if cfg.Test {
		if folder, err = os.MkdirTemp("", "drover-test-"); err != nil {
			return nil, err
		}
		s.temporary = folder
	}
	if s.store, err = sqlstore.Open(ctx, sqlstore.Config{Path: filepath.Join(folder, "drover.db"), Logger: log}); err != nil {
		return nil, err
	}
	if cfg.Objects {
		if err := s.openObjects(folder); err != nil {
			return nil, err
		}
	}
	// The addresses before anything works, so that a taken port costs nothing.
	listeners, err := s.listen()
	if err != nil {
		return nil, err
	}
	if err := s.assemble(ctx); err != nil {
		return nil, err
	}
	// The engine before the doors open: it first tells what a former run left untold.
	engineCtx, stopEngine := context.WithCancel(context.WithoutCancel(ctx))
	s.stopEngine = stopEngine
	s.engineDone = make(chan error, 1)
	go func() { s.engineDone <- s.engine.Run(engineCtx) }()
	if s.objects != nil {
		objectsCtx, stopObjects := context.WithCancel(context.WithoutCancel(ctx))
		s.stopObjects = stopObjects
		s.objectsDone = make(chan error, 1)
		go func() { s.objectsDone <- s.objects.Run(objectsCtx) }()
	}
	s.serve(listeners)

	if err := s.writeEndpoints(); err != nil {
		return nil, err
	}
	s.front.ready.Store(true)
	log.Info("ready", "http", s.endpoints.HTTP, "https", s.endpoints.HTTPS, "mqtt", s.endpoints.MQTT, "mqtts", s.endpoints.MQTTS,
		"data", cfg.Data, "account", cfg.Account, "region", cfg.Region, "version", version())
	return s, nil
}

// openObjects opens the folder of the objects: in the given one, unless there is another for them.
func (s *server) openObjects(folder string) (err error) {
	dir := filepath.Join(folder, "objects")
	if s.cfg.ObjectDir != "" && !s.cfg.Test {
		dir = s.cfg.ObjectDir
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("--objects-dir: %w", err)
		}
		// The lock of the store does not reach there.
		if s.objectLock, err = sqlstore.Lock(dir); err != nil {
			return fmt.Errorf("--objects-dir: %w", err)
		}
	}
	s.objectStore, err = objects.OpenStore(dir, time.Now)
	return err
}

// assemble ties the parts together: transport never sees storage.
func (s *server) assemble(ctx context.Context) (err error) {
	realm, limits := s.cfg.realm(), s.cfg.limits()
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	files, err := s.newFiles(ctx)
	if err != nil {
		return err
	}
	// What goes up and what comes down meet here: the engine publishes through the data
	// plane, which asks the engine for documents. Nothing runs yet, so late is early enough.
	var publisher *dataplane.Publisher
	s.engine, err = engine.New(engine.Config{
		Store: s.store, Realm: realm, Logger: s.log, Metrics: metrics, Retention: s.cfg.Retention, Now: s.clock.now,
		Limits:  engine.Limits{ActiveJobs: limits.ActiveJobs, ConcurrentJobs: limits.ConcurrentJobs, RolloutRate: int64(limits.RolloutRate)},
		Objects: files.objects,
		Publish: func(records []iot.Record) { publisher.Publish(records) },
		Settled: func() <-chan struct{} { return s.broker.Settled() },
	})
	if err != nil {
		return err
	}
	things := registry.New(registry.Config{Store: s.store, Jobs: s.engine, Realm: realm, Now: s.clock.now})
	devices := dataplane.New(dataplane.Config{
		Engine: s.engine, Signer: files.signer, Logger: s.log, Metrics: metrics, Now: s.clock.now, Reads: limits.DeviceReads, Writes: limits.DeviceWrites,
	})
	handler := &brokerHandler{handler: devices}
	kept := s.cfg.Sessions
	s.broker, err = broker.New(broker.Config{
		Handler: handler, Logger: s.log, Store: brokerStore{s.store}, AcceptRate: cmp.Or(limits.AcceptRate, -1),
		ConnectRate: limits.ConnectRate, ClientConnectRate: limits.ClientConnectRate, PublishRate: limits.PublishRate, ByteRate: limits.ByteRate,
		ReplayRate:    limits.Replay,
		SessionExpiry: kept.SessionExpiry, MaxSessions: kept.Sessions, MaxShared: kept.SharedMembers,
		QueueMessages: kept.QueueMessages, QueueBytes: kept.QueueBytes, QueueAge: kept.QueueAge,
		MaxQueued: kept.QueuedMessages, MaxQueuedBytes: kept.QueuedBytes,
		MaxRetained: kept.RetainedMessages, MaxRetainedBytes: kept.RetainedBytes,
	})
	if err != nil {
		return err
	}
	publisher = dataplane.NewPublisher(dataplane.PublisherConfig{
		Broker: brokerSide{s.broker}, Documents: s.engine, Signer: files.signer, Events: things, Realm: realm, Logger: s.log, Metrics: metrics, Now: s.clock.now,
	})
	handler.publisher = publisher
	registerBrokerMetrics(metrics, s.broker)

	api := controlplane.New(controlplane.Config{
		Jobs: s.engine, Registry: things, Sources: files.sources, Realm: realm, Logger: s.log, Endpoints: s.addresses(), Now: s.clock.now, Throttle: limits.Requests,
	})
	s.front = &front{
		control: api, devices: devices, messages: iotdata.New(iotdata.Config{Broker: s.broker, Logger: s.log, Now: s.clock.now}),
		bulk: http.HandlerFunc(api.ServeImport), downloads: http.HandlerFunc(api.ServeDownloads),
		verify: s.verifier(0), verifyBulk: s.verifier(16 << 20),
		metrics: metrics, ping: s.store.Ping, log: s.log,
	}
	s.front.mqtt = onLoopback(s.cfg.Insecure, s.broker.ServeWebSocket)
	if s.cfg.Objects {
		s.objects = objects.New(objects.Config{
			Store: s.objectStore, Verify: s.verifier(0), Region: s.cfg.Region, Recorder: s.engine, Logger: s.log, Metrics: metrics,
			Limits: objects.Limits{Downloads: limits.Downloads, Rate: limits.DownloadRate, DeviceRate: limits.DeviceDownloadRate},
		})
		s.front.objects = s.objects
	}
	if s.cfg.Test {
		s.front.test = &testMode{clock: s.clock, engine: s.engine, store: s.store, broker: s.broker, objects: s.objectStore}
	}
	s.http = &http.Server{
		Handler:           s.front,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	return nil
}

// verifier checks the signatures of API calls against the key of the data folder.
func (s *server) verifier(maxBody int64) *auth.Verifier {
	return &auth.Verifier{
		Secret: s.key.Secret,
		// Every signing name that a client of ours may use; the front sorts them out.
		Services: []string{"iot", "execute-api", "iot-jobs-data", "iotdata"},
		MaxBody:  maxBody,
	}
}

// door is a listener and who answers there.
type door struct {
	net.Listener
	mqtt bool
}

// listen opens all addresses of the configuration and notes them as endpoints.
func (s *server) listen() ([]door, error) {
	var doors []door
	var certs *tls.Config
	if s.cfg.HTTPS != "" || s.cfg.MQTTS != "" {
		cert, err := tls.LoadX509KeyPair(s.cfg.TLSCert, s.cfg.TLSKey)
		if err != nil {
			return nil, fmt.Errorf("--tls-cert, --tls-key: %w", err)
		}
		certs = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	}
	for _, l := range []struct {
		flag, addr, scheme string
		url                *string
		mqtt, tls          bool
	}{
		{"--http", s.cfg.HTTP, "http", &s.endpoints.HTTP, false, false},
		{"--https", s.cfg.HTTPS, "https", &s.endpoints.HTTPS, false, true},
		{"--mqtt", s.cfg.MQTT, "mqtt", &s.endpoints.MQTT, true, false},
		{"--mqtts", s.cfg.MQTTS, "mqtts", &s.endpoints.MQTTS, true, true},
	} {
		if l.addr == "" {
			continue
		}
		listener, err := net.Listen("tcp", l.addr)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.flag, err)
		}
		s.listeners = append(s.listeners, listener)
		*l.url = l.scheme + "://" + listener.Addr().String()
		if len(s.cfg.Proxies) > 0 {
			listener = broker.ProxyListener(listener, s.cfg.Proxies)
		}
		if l.tls {
			listener = tls.NewListener(listener, certs)
		}
		doors = append(doors, door{listener, l.mqtt})
	}
	return doors, nil
}

// addresses is what DescribeEndpoint answers: where devices and their HTTPS find us.
func (s *server) addresses() controlplane.Endpoints {
	hostPort := func(urls ...string) string {
		for _, u := range urls {
			if _, addr, ok := cutURL(u); ok {
				return addr
			}
		}
		return ""
	}
	return controlplane.Endpoints{
		Data: hostPort(s.endpoints.MQTTS, s.endpoints.MQTT),
		Jobs: hostPort(s.endpoints.HTTPS, s.endpoints.HTTP),
	}
}

func (s *server) serve(doors []door) {
	for _, d := range doors {
		go func() {
			var err error
			if d.mqtt {
				err = s.broker.Serve(d)
			} else if err = s.http.Serve(d); errors.Is(err, http.ErrServerClosed) {
				err = nil
			}
			if err != nil {
				s.failed <- fmt.Errorf("listener %s: %w", d.Addr(), err)
			}
		}()
	}
}

// writeEndpoints stores the addresses where tools on this machine look for them: for
// drover's own as endpoints.json, and for AWS's as a config file next to the credentials.
func (s *server) writeEndpoints() error {
	text, err := json.Marshal(s.endpoints)
	if err != nil {
		return err
	}
	// Without the last lines, some tools sign URLs as S3 did before 2012, or put the bucket into
	// the name of the host.
	config := fmt.Sprintf("[default]\nregion = %s\nendpoint_url = %s\ns3 =\n    signature_version = s3v4\n    addressing_style = path\n",
		s.cfg.Region, s.endpoints.api())
	return errors.Join(
		replaceFile(filepath.Join(s.cfg.Data, configFile), []byte(config)),
		replaceFile(filepath.Join(s.cfg.Data, endpointsFile), append(text, '\n')),
	)
}

// api is the URL for clients of the API on this machine.
func (e endpoints) api() string { return cmp.Or(e.HTTP, e.HTTPS) }

// replaceFile writes a file so that nobody ever reads half of it.
func replaceFile(path string, text []byte) error {
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// stop ends everything in the order in which nothing is lost: no new requests, then the
// running ones answered, then the journal, then the store.
func (s *server) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	var errs []error
	if s.front != nil {
		s.front.ready.Store(false)
	}
	if s.http != nil {
		if s.objects != nil { // a transfer may take hours, and can be resumed
			cut := time.AfterFunc(stopTimeout/3, s.objects.Cut)
			defer cut.Stop()
		}
		// Waits for the requests that are running; they need the engine.
		errs = append(errs, s.http.Shutdown(ctx))
	}
	if s.stopObjects != nil {
		s.stopObjects()
		errs = append(errs, <-s.objectsDone)
	}
	if s.stopEngine != nil {
		// Answers what devices have asked, refuses what they ask now, and publishes all.
		s.stopEngine()
		errs = append(errs, <-s.engineDone)
	}
	if s.broker != nil {
		errs = append(errs, s.broker.Close(ctx))
	}
	for _, l := range s.listeners {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if s.store != nil {
		if err := os.Remove(filepath.Join(s.cfg.Data, endpointsFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
		errs = append(errs, s.store.Close())
	}
	if s.objectLock != nil {
		errs = append(errs, s.objectLock.Close())
	}
	if s.temporary != "" {
		errs = append(errs, os.RemoveAll(s.temporary))
	}
	err := errors.Join(errs...)
	if err == nil {
		s.log.Info("stopped")
	}
	return err
}
