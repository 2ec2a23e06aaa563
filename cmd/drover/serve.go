package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"drover/internal/access"
	"drover/internal/audit"
	"drover/internal/auth"
	"drover/internal/authorizer"
	"drover/internal/backup"
	"drover/internal/broker"
	"drover/internal/commands"
	"drover/internal/console"
	"drover/internal/controlplane"
	"drover/internal/dataplane"
	"drover/internal/engine"
	"drover/internal/gate"
	"drover/internal/iot"
	"drover/internal/iotdata"
	"drover/internal/objects"
	"drover/internal/ota"
	"drover/internal/packages"
	"drover/internal/pki"
	"drover/internal/registry"
	"drover/internal/store"
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
	if err := notify("READY=1"); err != nil {
		log.Warn("the service manager was not told", "err", err)
	}
	select {
	case <-ctx.Done():
		return srv.end(nil)
	case err := <-srv.failed:
		return srv.end(err)
	}
}

// end stops the server because of err, or because it is told to if that is nil, and returns within
// stopDeadline after the delay.
func (s *server) end(err error) error {
	s.log.Info("stopping", "delay", s.cfg.ShutdownDelay)
	s.front.ready.set("stopping")
	if e := notify("STOPPING=1"); e != nil {
		s.log.Warn("the service manager was not told", "err", e)
	}
	if err == nil && s.cfg.ShutdownDelay > 0 {
		select {
		case <-time.After(s.cfg.ShutdownDelay):
		case err = <-s.failed:
		}
	}
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	select {
	case e := <-stopped:
		return errors.Join(err, e)
	case <-time.After(stopDeadline):
		return errors.Join(err, fmt.Errorf("not stopped after %s; nothing that was answered is lost, and the next start goes on with the rest", stopDeadline))
	}
}

// endpoints are the addresses in use, as URLs. They are printed once everything is
// ready, and kept in the file endpoints.json of the data folder while the server runs.
type endpoints struct {
	HTTP        string `json:"http,omitempty"`
	HTTPS       string `json:"https,omitempty"`
	MQTT        string `json:"mqtt,omitempty"`
	MQTTS       string `json:"mqtts,omitempty"`
	DeviceHTTPS string `json:"deviceHttps,omitempty"`
	ALPN        string `json:"alpn,omitempty"` // everything, told apart by ALPN
	PProf       string `json:"pprof,omitempty"`
	Cluster     string `json:"cluster,omitempty"` // where other nodes find this one
	Keys        string `json:"keys,omitempty"`    // the folder of --keys
}

const (
	endpointsFile = "endpoints.json"
	configFile    = "config" // in the AWS format: region and endpoint_url
)

const (
	// stopTimeout bounds how long requests that are running may take when the server stops.
	stopTimeout = 15 * time.Second
	// stopDeadline bounds all of it: a database that does not answer is given up after 30 s.
	stopDeadline = 50 * time.Second
)

// server is a running drover.
type server struct {
	cfg       serveConfig
	log       *slog.Logger
	endpoints endpoints
	key       auth.Key

	clock    *clock
	store    *sqlstore.DB
	engine   *engine.Engine
	access   *access.Decider
	failures *auth.Failures
	keys     *auth.Keyring
	users    *auth.Users
	broker   *broker.Broker
	http     *http.Server // the API
	front    *front
	audit    *audit.Log
	tls      *tlsSide     // nil without TLS
	device   *http.Server // for devices with certificates; nil without TLS
	pprof    *http.Server // nil: none
	tracing  *tracing     // nil: none
	plane    *dataplane.Handler
	peers    *peers // nil: this server is alone

	objects     *objects.Server // nil: none
	objectStore *objects.Store
	objectLock  io.Closer // nil if the lock of the data folder is enough

	folderLock io.Closer // of the data folder; nil if the store has it

	temporary   string // folder that goes with the server, "" for none
	listeners   []net.Listener
	stopEngine  context.CancelFunc
	engineDone  chan error
	console     *console.Console
	background  []func(context.Context) // what goes on beside the engine, as long as that does
	working     sync.WaitGroup
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
	s := &server{cfg: cfg, log: log, clock: &clock{movable: cfg.Test}, failed: make(chan error, 8)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()

	// The data folder and its key first: they fail for reasons that a person can mend.
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
		return nil, fmt.Errorf("--data: %w", err)
	}
	if err := backup.Finished(cfg.Data); err != nil {
		return nil, err
	}
	if s.key, err = auth.LoadOrCreateKey(cfg.keys()); err != nil {
		return nil, err
	}
	if cfg.overTLS() {
		if s.tls, err = newTLSSide(&s.cfg, pki.Open(cfg.keys()), log); err != nil {
			return nil, err
		}
	}
	if s.tracing, err = cfg.newTracing(ctx, log); err != nil {
		return nil, err
	}
	// The store before the listeners: a file is also what keeps a second server off the folder.
	folder := cfg.Data
	if cfg.Test {
		if folder, err = os.MkdirTemp("", "drover-test-"); err != nil {
			return nil, err
		}
		s.temporary = folder
	}
	database := sqlstore.Config{Path: filepath.Join(folder, databaseFile), Logger: log}
	if cfg.postgres() {
		if s.folderLock, err = sqlstore.Lock(database.Path); err != nil {
			return nil, err
		}
		database = sqlstore.Config{URL: cfg.Store, Logger: log}
	}
	if s.store, err = sqlstore.Open(ctx, database); err != nil {
		return nil, err
	}
	if cfg.postgres() {
		if err := s.agree(ctx); err != nil {
			return nil, err
		}
	}
	if cfg.Objects {
		if err := s.openObjects(folder); err != nil {
			return nil, err
		}
	}
	// The addresses before anything works, so that a taken port costs nothing.
	doors, err := s.listen()
	if err != nil {
		return nil, err
	}
	if err := s.joinCluster(ctx); err != nil {
		return nil, err
	}
	things, err := s.assemble(ctx)
	if err != nil {
		return nil, err
	}
	if !cfg.Test { // whose registry is empty, and not what the roots were for
		gone, err := retireRoots(ctx, pki.Open(cfg.keys()), things, s.clock.now())
		if readOnly(err) {
			log.Warn("old roots not retired: the folder of keys cannot be changed here", "err", err)
		} else if err != nil {
			return nil, err
		}
		if gone > 0 {
			log.Info("old roots retired", "roots", gone)
		}
	}
	// The engine before the doors open: it first tells what a former run left untold.
	engineCtx, stopEngine := context.WithCancel(context.WithoutCancel(ctx))
	s.stopEngine = stopEngine
	s.engineDone = make(chan error, 1)
	go func() {
		err := s.engine.Run(engineCtx)
		if err != nil && engineCtx.Err() == nil { // without having been asked to end
			s.failed <- err
			err = nil
		}
		s.engineDone <- err
	}()
	for _, work := range s.background {
		s.working.Go(func() { work(engineCtx) })
	}
	if s.objects != nil {
		objectsCtx, stopObjects := context.WithCancel(context.WithoutCancel(ctx))
		s.stopObjects = stopObjects
		s.objectsDone = make(chan error, 1)
		go func() { s.objectsDone <- s.objects.Run(objectsCtx) }()
	}
	s.serve(doors)
	if err := s.listenPProf(); err != nil {
		return nil, err
	}

	if err := s.writeEndpoints(); err != nil {
		return nil, err
	}
	// What a former run has committed is told before anything new.
	select {
	case <-s.engine.Started():
	case err := <-s.failed:
		return nil, err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	s.front.ready.set("")
	log.Info("ready", "http", s.endpoints.HTTP, "https", s.endpoints.HTTPS, "mqtt", s.endpoints.MQTT, "mqtts", s.endpoints.MQTTS,
		"device-https", s.endpoints.DeviceHTTPS, "alpn", s.endpoints.ALPN, "pprof", s.endpoints.PProf,
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
		// The lock of the data folder does not reach there.
		if s.objectLock, err = sqlstore.Lock(filepath.Join(dir, "drover")); err != nil {
			return fmt.Errorf("--objects-dir: %w", err)
		}
	}
	if err := backup.Finished(dir); err != nil {
		return err
	}
	if s.objectStore, err = objects.OpenStore(dir, machineTime); err != nil {
		return err
	}
	s.objectStore.Reserve = s.cfg.ObjectReserve
	return nil
}

// assemble ties the parts together: transport never sees storage.
func (s *server) assemble(ctx context.Context) (things *registry.Registry, err error) {
	realm, limits := s.cfg.realm(), s.cfg.limits()
	metrics := newMetrics()
	counts := newFrontMetrics(metrics)
	registerStoreStats(metrics, s.store)
	kept := store.Observe(s.store, metrics, s.tracing.start())

	files, err := s.newFiles(ctx)
	if err != nil {
		return nil, err
	}
	// What goes up and what comes down meet here: the engine publishes through the data
	// plane, which asks the engine for documents. Nothing runs yet, so late is early enough.
	var publisher *dataplane.Publisher
	var devices *dataplane.Handler
	s.engine, err = engine.New(engine.Config{
		Store: kept, Realm: realm, Logger: s.log, Metrics: metrics, Tracer: s.tracing.start(), Retention: s.cfg.Retention, JournalRetention: s.cfg.JournalRetention, Now: s.clock.now,
		Limits:    engine.Limits{ActiveJobs: limits.ActiveJobs, ConcurrentJobs: limits.ConcurrentJobs, RolloutRate: int64(limits.RolloutRate)},
		Objects:   files.objects,
		Publish:   func(ctx context.Context, records []iot.Record) error { return publisher.Publish(ctx, records) },
		Told:      func() { devices.Told() },
		Installed: func() { things.Installed() },
		Settled:   func() <-chan struct{} { return s.broker.Settled() },
	})
	if err != nil {
		return nil, err
	}
	functions, err := s.functions(metrics)
	if err != nil {
		return nil, err
	}
	// Who holds certificates, and what they may do, is asked of the store, and forgotten when the
	// registry tells what has changed.
	owners, people := new(keyOwners), new(userOwners)
	s.access = access.New(access.Config{Store: kept, Realm: realm, Keys: owners, Users: people, Logger: s.log, Now: s.clock.now})
	known := &identities{Decider: s.access}
	things = registry.New(registry.Config{
		Store: kept, Jobs: s.engine, Realm: realm, Authority: pki.Open(s.cfg.keys()), Functions: functions, Identities: known, Announced: s.peers.announced, Logger: s.log, Now: s.clock.now,
	})
	if err := s.openKeys(ctx, things); err != nil {
		return nil, err
	}
	owners.Keyring, people.Users, known.keys, known.users = s.keys, s.users, s.keys, s.users
	updates := ota.New(ota.Config{Store: kept, Jobs: s.engine, Realm: realm, Objects: files.blobs, Logger: s.log, Now: s.clock.now, FileSize: int64(limits.StreamFile)})
	s.failures = auth.NewFailures(limits.AuthFailures, machineTime, metrics)
	live := gate.NewLive()
	holders := auth.NewDevices(auth.DevicesConfig{Certificates: things, Introductions: limits.Registrations, Now: s.clock.now, Logger: s.log, Gone: live.Drop})
	known.holders = holders
	authorizers := authorizer.New(authorizer.Config{
		Registry: things, Functions: functions, CheckPolicy: checkPolicy, Logger: s.log, Now: s.clock.now, AfterFunc: s.clock.afterFunc,
	})
	catalog := packages.New(packages.Config{Store: kept, Realm: realm, Objects: files.archives, Logger: s.log, Now: s.clock.now})
	orders := commands.New(commands.Config{
		Store: kept, Realm: realm, Logger: s.log, Now: s.clock.now, Running: limits.DeviceCommands,
		Tell: func(r commands.Request) { publisher.PublishCommand(dataplane.CommandRequest(r)) },
	})
	problems := dataplane.NewProblems(dataplane.ProblemsConfig{Now: s.clock.now, Logger: s.log, Metrics: metrics})
	devices = dataplane.New(dataplane.Config{
		Problems: problems, Heard: func(topic string) bool { return s.broker.HasSubscribers(topic) },
		Engine: s.engine, Signer: files.signer, Provisioner: things, Streams: deviceStreams{updates}, Commands: orders, Shadows: things, Realm: realm, Logger: s.log, Metrics: metrics, Now: s.clock.now, Reads: limits.DeviceReads, Writes: limits.DeviceWrites, Registrations: limits.Registrations,
		Permit: s.access.PermitJobs, PermitStart: s.access.Permit,
	})
	s.plane = devices
	guard := &guard{access: s.access, authorizers: authorizers, problems: problems, devices: devices, failures: s.failures, now: s.clock.now, afterFunc: s.clock.afterFunc, log: s.log}
	handler := &brokerHandler{handler: devices, guard: guard, ended: newDisconnects(metrics)}
	sessions := s.cfg.Sessions
	shelf, others := s.shelf(kept)
	s.broker, err = broker.New(broker.Config{
		Handler: handler, Authenticator: doorkeeper{guard, counts}, Authorizer: guard, Logger: s.log, Store: shelf, Peers: others, Adopted: s.peers.adopted, Roamed: s.peers.roam, Origin: origins(s.cfg.Origins).allow, AcceptRate: cmp.Or(limits.AcceptRate, -1),
		ConnectRate: limits.ConnectRate, ClientConnectRate: limits.ClientConnectRate, PublishRate: limits.PublishRate, ByteRate: limits.ByteRate,
		TotalPublishRate: limits.TotalPublishRate, DeliverRate: limits.DeliverRate, TotalDeliverRate: limits.TotalDeliverRate,
		ReplayRate:    limits.Replay,
		SessionExpiry: sessions.SessionExpiry, MaxSessions: sessions.Sessions, MaxShared: sessions.SharedMembers,
		QueueMessages: sessions.QueueMessages, QueueBytes: sessions.QueueBytes, QueueAge: sessions.QueueAge,
		MaxQueued: sessions.QueuedMessages, MaxQueuedBytes: sessions.QueuedBytes,
		MaxRetained: sessions.RetainedMessages, MaxRetainedBytes: sessions.RetainedBytes,
	})
	if err != nil {
		return nil, err
	}
	publisher = dataplane.NewPublisher(dataplane.PublisherConfig{
		Broker: brokerSide{s.broker}, Documents: s.engine, Signer: files.signer, Events: things, Realm: realm, Logger: s.log, Metrics: metrics, Now: s.clock.now,
	})
	handler.publisher, handler.things, guard.publisher = publisher, things, publisher
	known.broker, known.guard, known.publishers = s.broker, guard, []*dataplane.Publisher{publisher}
	metrics.MustRegister(newBrokerMetrics(s.broker))
	clients := &clientService{presence: publisher.Presence, problems: problems, peers: s.peers}
	hurry, deaf := make(chan func()), make(chan struct{})
	if s.peers != nil {
		registerPeersMetrics(metrics, s.peers.node)
		local := dataplane.NewPublisher(dataplane.PublisherConfig{
			Broker: localBroker{s.broker}, Documents: s.engine, Signer: files.signer, Events: things, Realm: realm, Logger: s.log, Now: s.clock.now,
		})
		known.publishers = append(known.publishers, local)
		s.peers.begin(hearing{broker: s.broker, presence: clients.here, hurry: hurry, deaf: deaf, live: s.live, journal: s.engine, tell: local.Publish})
	}
	s.background = []func(context.Context){
		giveMemoryBack,
		func(ctx context.Context) {
			defer close(deaf)
			things.Follow(ctx, known, hurry)
		},
		things.BuildIndexes,
		things.KeepInstalled,
		updates.Run,
		orders.Run,
		catalog.Run,
		func(ctx context.Context) { things.KeepConnections(ctx, publisher) },
	}

	api := controlplane.New(controlplane.Config{
		Jobs: s.engine, Registry: things, Streams: updates, OTAUpdates: updates, Commands: orders, Packages: catalog, Sources: files.sources, Permissions: s.access, Permit: s.access.Permit, Authorizers: authorizers, Realm: realm, Logger: s.log,
		Endpoints: s.addresses(), Now: s.clock.now, Throttle: limits.Requests, Observe: counts.observe,
	})
	messages := iotdata.New(iotdata.Config{
		Broker: s.broker, Shadows: things, Logger: s.log, Now: s.clock.now, Observe: counts.observe,
		Permit: func(ctx context.Context, action, kind, name string) error {
			resource := "*"
			if kind != "" {
				resource = realm.ARN(kind, name)
			}
			return s.access.PermitData(ctx, action, resource)
		},
	})
	s.front = &front{
		control: s.peers.after(api), devices: devices, messages: messages, guard: guard,
		bulk: http.HandlerFunc(api.ServeImport), downloads: http.HandlerFunc(api.ServeDownloads),
		verify: s.verifier(0), verifyBulk: s.verifier(16 << 20),
		keys:  s.peers.after(&keyService{keys: s.keys, revoked: guard.keysChanged, log: s.log}),
		users: s.peers.after(&userService{users: s.users, log: s.log}), permit: s.access.Permit,
		metrics: metrics, counts: counts, ready: newReadiness(kept, s.store.Ping, s.engine, s.log), log: s.log,
	}
	s.front.mqtt = webSocketFront((&auth.Verifier{Secret: s.keys.Secret, Region: s.cfg.Region, Services: []string{"iotdevicegateway", "iotdata"}, Now: machineTime, Failures: s.failures}).VerifyWebSocket, guard, s.cfg.Insecure, s.broker.ServeWebSocket)
	if s.cfg.Objects {
		s.objects = objects.New(objects.Config{
			Store: s.objectStore, Verify: s.verifier(0), Region: s.cfg.Region, Recorder: s.engine, Permit: s.access.Permit, Logger: s.log, Metrics: metrics,
			Limits: objects.Limits{Downloads: limits.Downloads, Rate: limits.DownloadRate, DeviceRate: limits.DeviceDownloadRate},
		})
		s.front.objects = s.objects
	}
	if s.cfg.Test {
		s.front.test = &testMode{clock: s.clock, engine: s.engine, commands: orders, store: s.store, broker: s.broker, objects: s.objectStore, access: s.access, holders: holders, keys: s.keys, users: s.users}
	}
	if s.audit, err = audit.Open(audit.Config{Dir: filepath.Join(cmp.Or(s.temporary, s.cfg.Data), auditFolder), Retention: s.cfg.AuditRetention, Now: s.clock.now}); err != nil {
		return nil, err
	}
	s.front.clients = clients
	s.front.audit = &auditService{entries: s.audit, log: s.log}
	audited := auditor{next: s.front, entries: s.audit, operation: api.Operation, owner: s.keys.Owner, log: s.log, counter: newAuditCounter(metrics)}
	s.http = s.httpServer(counts, &audited)
	if s.cfg.Console {
		if err := s.openConsole(things, publisher, &audited, realm); err != nil {
			return nil, err
		}
		s.http.RegisterOnShutdown(s.console.Close)
	}
	if s.tls != nil {
		s.tls.holders, s.tls.live, s.tls.metrics, s.tls.failures = holders, live, gate.NewMetrics(metrics), s.failures
		s.device = s.httpServer(counts, &deviceFront{counts: counts, devices: devices, messages: messages, mqtt: s.front.mqtt, holders: holders, now: s.clock.now})
	}
	return things, nil
}

func (s *server) httpServer(counts *frontMetrics, handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           s.tracing.handler(withSource(handler)),
		ConnContext:       withConnection,
		ConnState:         counts.connState,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

// identities is everybody who remembers something of the holders of certificates, and of what other
// nodes change.
type identities struct {
	*access.Decider
	holders    *auth.Devices
	broker     *broker.Broker
	keys       *auth.Keyring
	users      *auth.Users
	guard      *guard
	publishers []*dataplane.Publisher
}

// KeysChanged implements registry.Elsewhere.
func (i *identities) KeysChanged(ctx context.Context) error {
	err := errors.Join(i.keys.Reload(ctx), i.users.Reload(ctx))
	i.guard.keysChanged()
	return err
}

// EventsChanged implements registry.Elsewhere.
func (i *identities) EventsChanged() {
	for _, p := range i.publishers {
		p.EventsChanged()
	}
}

// ThingsChanged implements registry.Identities.
func (i *identities) ThingsChanged(names []iot.ThingName) {
	i.Decider.ThingsChanged(names)
	i.broker.Reconsider()
}

// PoliciesChanged implements registry.Identities.
func (i *identities) PoliciesChanged(id iot.CertificateID) {
	i.Decider.PoliciesChanged(id)
	i.broker.Reconsider()
}

// CertificateChanged implements registry.Identities. Who still authenticates comes last: that ends
// connections, and what they would ask until then is answered by what counts now.
func (i *identities) CertificateChanged(id iot.CertificateID, alive bool) {
	i.Decider.CertificateChanged(id, alive)
	i.broker.Reconsider()
	i.holders.CertificateChanged(id, alive)
}

// verifier checks the signatures of API calls. Who has a key may do what its policy says: whatever
// is behind a verifier has to ask access.Permit.
func (s *server) verifier(maxBody int64) *auth.Verifier {
	return &auth.Verifier{
		Secret: s.keys.Secret,
		// Every signing name that a client of ours may use; the front sorts them out.
		Services: []string{"iot", "execute-api", "iot-jobs-data", "iotdata"},
		Now:      machineTime,
		MaxBody:  maxBody,
		Failures: s.failures,
	}
}

// door is a listener and what is spoken there.
type door struct {
	net.Listener
	speaks protocol
}

type protocol int

const (
	plainHTTP protocol = iota
	plainMQTT
	tlsAPI
	tlsMQTT
	tlsDevices
	tlsByALPN
)

// listen opens all addresses of the configuration and notes them as endpoints.
func (s *server) listen() ([]door, error) {
	var doors []door
	for _, l := range []struct {
		flag, addr, scheme string
		url                *string
		speaks             protocol
	}{
		{"--http", s.cfg.HTTP, "http", &s.endpoints.HTTP, plainHTTP},
		{"--https", s.cfg.HTTPS, "https", &s.endpoints.HTTPS, tlsAPI},
		{"--mqtt", s.cfg.MQTT, "mqtt", &s.endpoints.MQTT, plainMQTT},
		{"--mqtts", s.cfg.MQTTS, "mqtts", &s.endpoints.MQTTS, tlsMQTT},
		{"--device-https", s.cfg.DeviceHTTPS, "https", &s.endpoints.DeviceHTTPS, tlsDevices},
		{"--alpn", s.cfg.ALPN, "https", &s.endpoints.ALPN, tlsByALPN},
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
		doors = append(doors, door{listener, l.speaks})
	}
	return doors, nil
}

// addresses is what DescribeEndpoint answers: where devices and their HTTPS find us.
func (s *server) addresses() controlplane.Endpoints {
	e := s.endpoints
	return controlplane.Endpoints{
		Data: s.public(map[string]string{e.MQTTS: "8883", e.ALPN: "443"}, e.MQTTS, e.ALPN, e.MQTT),
		Jobs: s.public(map[string]string{e.DeviceHTTPS: "8443", e.ALPN: "443"}, e.DeviceHTTPS, e.ALPN, e.HTTPS, e.HTTP),
	}
}

// public returns the address of the first URL there is, as clients may use it: with the name of
// the server, if it has one, and without a port that clients expect anyway.
func (s *server) public(standard map[string]string, urls ...string) string {
	for _, u := range urls {
		_, addr, ok := cutURL(u)
		if !ok {
			continue
		}
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return addr
		}
		if ip := net.ParseIP(host); s.tls != nil && (len(s.cfg.TLSName) > 0 || ip != nil && ip.IsUnspecified()) {
			host = s.tls.name
		}
		if standard[u] == port {
			return host
		}
		return net.JoinHostPort(host, port)
	}
	return ""
}

// serve lets the doors be used. TLS ends at gates, behind which are listeners as in front of
// them.
func (s *server) serve(doors []door) {
	run := s.run
	for _, d := range doors {
		switch d.speaks {
		case plainHTTP:
			run(d.Addr(), func() error { return s.http.Serve(d) })
		case plainMQTT:
			run(d.Addr(), func() error { return s.broker.Serve(d) })
		default:
			s.tls.serve(d, run)
		}
	}
	if t := s.tls; t != nil {
		t.stopExpiring = t.expire(s.clock)
		run(t.api.Addr(), func() error { return s.http.Serve(t.api) })
		run(t.mqtt.Addr(), func() error { return s.broker.Serve(t.mqtt) })
		run(t.devices.Addr(), func() error { return s.device.Serve(t.devices) })
	}
}

// run serves a listener; that it ends by itself ends the server.
func (s *server) run(what net.Addr, serve func() error) {
	go func() {
		if err := serve(); err != nil && !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("listener %s: %w", what, err)
		}
	}()
}

// writeEndpoints stores the addresses where tools on this machine look for them: for
// drover's own as endpoints.json, and for AWS's as a config file next to the credentials.
func (s *server) writeEndpoints() error {
	s.endpoints.Keys = s.cfg.Keys
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
func (e endpoints) api() string { return cmp.Or(e.HTTP, e.HTTPS, e.ALPN) }

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
		s.front.ready.set("stopping")
	}
	if s.tls != nil {
		s.tls.close()
	}
	if s.pprof != nil {
		errs = append(errs, s.pprof.Close()) // a profile takes as long as somebody wants
	}
	if s.http != nil {
		if s.objects != nil { // a transfer may take hours, and can be resumed
			cut := time.AfterFunc(stopTimeout/3, s.objects.Cut)
			defer cut.Stop()
		}
		// Waits for the requests that are running; they need the engine.
		errs = append(errs, s.http.Shutdown(ctx))
	}
	if s.device != nil {
		errs = append(errs, s.device.Shutdown(ctx))
	}
	if s.stopObjects != nil {
		s.stopObjects()
		errs = append(errs, <-s.objectsDone)
	}
	if s.stopEngine != nil {
		// Answers what devices have asked, refuses what they ask now, and publishes all.
		s.stopEngine()
		errs = append(errs, <-s.engineDone)
		s.working.Wait()
	}
	if s.broker != nil {
		errs = append(errs, s.broker.Close(ctx))
	}
	if s.peers != nil {
		s.peers.close()
	}
	if s.plane != nil {
		s.plane.Wait()
	}
	for _, l := range s.listeners {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if s.tls != nil {
		s.tls.running.Wait() // handshakes ask the store
	}
	if s.store != nil {
		if err := os.Remove(filepath.Join(s.cfg.Data, endpointsFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
		errs = append(errs, s.store.Close())
	}
	for _, lock := range []io.Closer{s.objectLock, s.folderLock} {
		if lock != nil {
			errs = append(errs, lock.Close())
		}
	}
	if s.audit != nil {
		errs = append(errs, s.audit.Close())
	}
	if s.temporary != "" {
		errs = append(errs, os.RemoveAll(s.temporary))
	}
	s.tracing.close(s.log)
	err := errors.Join(errs...)
	if err == nil {
		s.log.Info("stopped")
	}
	return err
}
