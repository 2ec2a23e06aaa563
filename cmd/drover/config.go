package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"

	"drover/internal/auth"
	"drover/internal/iot"
	"drover/internal/store/sqlstore"
)

// serveConfig is everything that can be said about a server.
type serveConfig struct {
	Config           kong.ConfigFlag   `help:"YAML file with flags of serve as keys, such as \"http: 127.0.0.1:8080\"." placeholder:"FILE"`
	Data             string            `help:"Folder for everything that is kept." default:"./drover-data" type:"path" placeholder:"DIR"`
	HTTP             string            `name:"http" help:"Address of the API; port 0 picks a free one; empty for none." default:"127.0.0.1:8080"`
	MQTT             string            `name:"mqtt" help:"Address for devices without TLS; port 0 picks a free one; empty for none." default:"127.0.0.1:1883"`
	HTTPS            string            `name:"https" help:"Address of the API with TLS." placeholder:"ADDR" group:"TLS"`
	MQTTS            string            `name:"mqtts" help:"Address for devices with TLS and client certificates; by --tls: :8883." placeholder:"ADDR" group:"TLS"`
	DeviceHTTPS      string            `name:"device-https" help:"Address of the HTTPS plane of devices, with client certificates; by --tls: :8443." placeholder:"ADDR" group:"TLS"`
	ALPN             string            `name:"alpn" help:"Address for everything with TLS, such as :443: clients say by ALPN what they speak (x-amzn-mqtt-ca, x-amzn-http-ca; the API without)." placeholder:"ADDR" group:"TLS"`
	TLS              bool              `name:"tls" help:"Let drover's own certificate authority make the certificate of the server, for the names of this machine and --tls-name. \"drover ca\" prints what devices have to trust." group:"TLS"`
	TLSName          []string          `name:"tls-name" help:"Name or IP address by which clients know the server; the first is what DescribeEndpoint answers." placeholder:"NAME" group:"TLS"`
	TLSCert          string            `name:"tls-cert" help:"Certificate chain of the server instead, PEM; read again when it changes." type:"path" placeholder:"FILE" group:"TLS"`
	TLSKey           string            `name:"tls-key" help:"Private key of the server, PEM." type:"path" placeholder:"FILE" group:"TLS"`
	KeyFile          string            `name:"key-file" help:"File with the key that seals the secrets of API keys; made if it is not there. Default: secrets.key in the data folder. Elsewhere, a copy of the data folder is of no use to a thief." type:"path" placeholder:"FILE"`
	Keys             string            `help:"Folder with the keys that the nodes of one database share, as \"drover init\" makes it: credentials, secrets.key, function-secret and the certificate authority. Default: the data folder." type:"path" placeholder:"DIR"`
	RequireSNI       bool              `name:"require-sni" help:"Refuse clients that do not name the server in the handshake." group:"TLS"`
	Proxies          []netip.Prefix    `name:"proxy-protocol" help:"Networks of load balancers in front of all addresses, such as 10.0.0.0/24, that say by the PROXY protocol (1 or 2) for whom they speak. From there nothing else is accepted." placeholder:"CIDR"`
	Origins          []string          `name:"websocket-origin" help:"Origin of pages, such as https://console.example.com, that may open WebSockets besides the server's own; of which others need their credentials in the URL." placeholder:"ORIGIN"`
	Insecure         bool              `help:"Allow listeners outside of loopback that do not encrypt or do not authenticate devices."`
	Store            string            `help:"Where to keep things: sqlite, a file in the data folder, or a PostgreSQL database, postgres://USER:PASSWORD@HOST:PORT/DATABASE (better in the environment than on the command line)." default:"sqlite" placeholder:"STORE"`
	Cluster          clusterFlags      `embed:"" group:"Several nodes"`
	Console          bool              `help:"Serve the console, pages for people, at /console/ of the API." default:"true" negatable:""`
	OIDC             oidcFlags         `embed:"" prefix:"oidc-" group:"Sign-in to the console by OpenID Connect"`
	Objects          bool              `help:"Keep objects, too, at the address of the API, for clients of S3." default:"true" negatable:""`
	ObjectDir        string            `name:"objects-dir" help:"Folder for objects; default: objects in the data folder. One server at a time may use it." type:"path" placeholder:"DIR"`
	ObjectReserve    int64             `name:"objects-reserve" help:"Bytes of the disk that uploads leave free, for the database and whatever else is on it." default:"268435456" placeholder:"BYTES"`
	Account          string            `help:"AWS account that the server plays, twelve digits." default:"123456789012"`
	Region           string            `help:"AWS region that the server plays." default:"us-east-1"`
	Retention        time.Duration     `help:"How long jobs are kept after they have ended, with the history of their executions." default:"17520h"`
	JournalRetention time.Duration     `name:"journal-retention" help:"How long the journal is kept: who did what, and what executions went through." default:"2160h"`
	Functions        map[string]string `name:"function" help:"What answers for a function that custom authorizers and pre-provisioning hooks name by an ARN: an HTTP address. Can be given many times." placeholder:"ARN=URL"`
	AuditRetention   time.Duration     `name:"audit-retention" help:"How long the audit log is kept, of which there are 256 MiB at most." default:"2160h"`
	Limits           limitFlags        `embed:"" prefix:"limit-" group:"Limits (0 = none)"`
	Sessions         sessionFlags      `embed:"" prefix:"mqtt-" group:"MQTT sessions and messages"`
	LimitSet         string            `name:"limits" help:"Values of the limits that are not given: none, or aws for the quotas and throttles of AWS IoT." enum:"none,aws" default:"none"`
	S3               s3Flags           `embed:"" group:"Documents and files (S3)"`
	Test             bool              `help:"For tests of devices: jobs and things are kept in a temporary folder; POST /_drover/clock moves the clock, POST /_drover/reset forgets everything."`
	LogLevel         string            `help:"Least severe log lines to write: debug, info, warn, error." enum:"debug,info,warn,error" default:"info"`
	LogFormat        string            `help:"Form of log lines: text or json." enum:"text,json" default:"text"`
	PProf            string            `name:"pprof" help:"Loopback address for profiles of Go (/debug/pprof/), which show what is in memory." placeholder:"ADDR"`
	OTLPEndpoint     string            `name:"otlp-endpoint" help:"URL of a collector of OpenTelemetry for traces, such as http://127.0.0.1:4318; the OTEL_… variables say the rest, and the URL, too." placeholder:"URL"`
	ShutdownDelay    time.Duration     `help:"How long a server that is to stop says so at /readyz before it refuses anything, so that load balancers notice." default:"0s"`
}

// keys is the folder of the keys.
func (c *serveConfig) keys() string { return cmp.Or(c.Keys, c.Data) }

func (c *serveConfig) realm() iot.Realm { return iot.Realm{Account: c.Account, Region: c.Region} }

// sessionFlags bound what is kept for MQTT clients; 0 is the broker's default, which is the
// flag's too.
type sessionFlags struct {
	SessionExpiry    time.Duration `help:"How long a persistent session outlives its connection; the most that an MQTT 5 client gets." default:"1h"`
	Sessions         int           `help:"Sessions; more that are persistent are refused." default:"1000000"`
	QueueMessages    int           `help:"Messages that wait for one client; more are dropped." default:"1024"`
	QueueBytes       int           `help:"Bytes of them." default:"8388608"`
	QueuedMessages   int           `help:"Messages that wait for all clients together." default:"1000000"`
	QueuedBytes      int           `help:"Bytes of them; a message for many clients counts once." default:"268435456"`
	QueueAge         time.Duration `help:"How long a message waits for its client at most." default:"168h"`
	RetainedMessages int           `help:"Topics that have a retained message; more are refused." default:"10000"`
	RetainedBytes    int           `help:"Bytes of them." default:"67108864"`
	SharedMembers    int           `help:"Members of one shared subscription." default:"250"`
}

// sealFile holds the key that seals the secrets of API keys.
func (c *serveConfig) sealFile() string {
	return cmp.Or(c.KeyFile, filepath.Join(c.keys(), auth.SealFile))
}

// maxSessionExpiry is AWS's (spec identity-and-broker §2.4).
const maxSessionExpiry = 7 * 24 * time.Hour

func (s *sessionFlags) check() error {
	var errs []error
	if s.SessionExpiry < 0 || s.SessionExpiry > maxSessionExpiry {
		errs = append(errs, fmt.Errorf("--mqtt-session-expiry: at most %s", maxSessionExpiry))
	}
	if s.QueueAge < 0 {
		errs = append(errs, errors.New("--mqtt-queue-age: cannot be negative"))
	}
	for _, v := range []struct {
		flag  string
		value int
	}{
		{"sessions", s.Sessions}, {"queue-messages", s.QueueMessages}, {"queue-bytes", s.QueueBytes}, {"queued-messages", s.QueuedMessages},
		{"queued-bytes", s.QueuedBytes}, {"retained-messages", s.RetainedMessages}, {"retained-bytes", s.RetainedBytes}, {"shared-members", s.SharedMembers},
	} {
		if v.value < 0 {
			errs = append(errs, fmt.Errorf("--mqtt-%s: cannot be negative", v.flag))
		}
	}
	return errors.Join(errs...)
}

// limitFlags are the quotas and throttles; -1 is what --limits says.
type limitFlags struct {
	Requests       int `help:"Requests a second of each operation on jobs." default:"-1" placeholder:"N"`
	DeviceReads    int `help:"Requests a second of all devices together that read." default:"-1" placeholder:"N"`
	DeviceWrites   int `help:"Requests a second of all devices together that start or report." default:"-1" placeholder:"N"`
	ActiveJobs     int `help:"Jobs that have not ended." default:"-1" placeholder:"N"`
	ConcurrentJobs int `help:"Jobs whose executions are being created or canceled." default:"-1" placeholder:"N"`
	RolloutRate    int `help:"Executions a minute of a job that names no rate." default:"-1" placeholder:"N"`
	Replay         int `help:"Messages a second that a client gets, of those that waited for it." default:"-1" placeholder:"N"`

	ConnectRate       int `help:"MQTT connects a second of all devices together; more are refused." default:"-1" placeholder:"N"`
	ClientConnectRate int `help:"MQTT connects a second of one client id; more are refused." default:"-1" placeholder:"N"`
	PublishRate       int `help:"Messages a second that one MQTT connection publishes; more are discarded." default:"-1" placeholder:"N"`
	ByteRate          int `help:"Bytes a second that one MQTT connection publishes; who sends more is read later." default:"-1" placeholder:"N"`
	TotalPublishRate  int `help:"Messages a second that all MQTT connections together publish; more are discarded." default:"-1" placeholder:"N"`
	DeliverRate       int `help:"Messages a second that one MQTT connection gets; more with QoS 0 are dropped, with QoS 1 they wait." default:"-1" placeholder:"N"`
	TotalDeliverRate  int `help:"Messages a second that all MQTT connections together get." default:"-1" placeholder:"N"`
	AcceptRate        int `help:"Connections a second that each MQTT listener takes; more wait." default:"500" placeholder:"N"`

	AuthFailures  int `help:"Failures a second, of each source for itself, to show who one is; who fails more is turned away. Ten times as many at once." default:"10" placeholder:"N"`
	Registrations int `help:"Certificates a second that devices ask for when they are provisioned, and as many again that are registered by connecting." default:"10" placeholder:"N"`

	Downloads          int `help:"Downloads from the object store at a time; more are told to come again." default:"0" placeholder:"N"`
	DownloadRate       int `help:"Bytes a second of all downloads together." default:"0" placeholder:"N"`
	DeviceCommands     int `help:"Executions of commands that run on a device at a time; 0: any number." default:"0" placeholder:"N"`
	StreamFile         int `help:"Bytes of a file of a stream." default:"25165824" placeholder:"N"`
	DeviceDownloadRate int `help:"Bytes a second of the downloads of one device." default:"0" placeholder:"N"`
}

// limits fills in what is not given (spec §15).
func (c *serveConfig) limits() limitFlags {
	l := c.Limits
	standard := limitFlags{}
	if c.LimitSet == "aws" {
		standard = limitFlags{Requests: 10, DeviceReads: 200, DeviceWrites: 200, ActiveJobs: 100_000, ConcurrentJobs: 500, RolloutRate: iot.MaxRate, Replay: 10,
			ConnectRate: 500, ClientConnectRate: 1, PublishRate: 100, ByteRate: 512 << 10,
			TotalPublishRate: 20_000, DeliverRate: 100, TotalDeliverRate: 20_000}
	}
	for _, v := range []struct {
		given    *int
		standard int
	}{
		{&l.Requests, standard.Requests}, {&l.DeviceReads, standard.DeviceReads}, {&l.DeviceWrites, standard.DeviceWrites},
		{&l.ActiveJobs, standard.ActiveJobs}, {&l.ConcurrentJobs, standard.ConcurrentJobs}, {&l.RolloutRate, standard.RolloutRate}, {&l.Replay, standard.Replay},
		{&l.ConnectRate, standard.ConnectRate}, {&l.ClientConnectRate, standard.ClientConnectRate},
		{&l.PublishRate, standard.PublishRate}, {&l.ByteRate, standard.ByteRate},
		{&l.TotalPublishRate, standard.TotalPublishRate}, {&l.DeliverRate, standard.DeliverRate}, {&l.TotalDeliverRate, standard.TotalDeliverRate},
	} {
		if *v.given < 0 {
			*v.given = v.standard
		}
	}
	return l
}

// check fills in the addresses that --tls alone means, and returns all that is wrong with the
// configuration, each with the flag it is about.
func (c *serveConfig) check() error {
	if c.TLS && !c.overTLS() {
		c.MQTTS, c.DeviceHTTPS = ":8883", ":8443"
	}
	var errs []error
	if err := c.realm().Check(); err != nil {
		errs = append(errs, err)
	}
	switch {
	case c.Store == "sqlite":
	case c.postgres() && c.Test:
		errs = append(errs, errors.New("--store: --test keeps everything in a temporary folder, and not in PostgreSQL"))
	case c.postgres():
		if err := sqlstore.CheckURL(c.Store); err != nil {
			errs = append(errs, fmt.Errorf("--store: %w", err))
		}
	default:
		errs = append(errs, errNoStore)
	}
	if err := c.Cluster.check(c.postgres()); err != nil {
		errs = append(errs, err)
	}
	if err := c.S3.check(); err != nil {
		errs = append(errs, err)
	}
	if err := c.Sessions.check(); err != nil {
		errs = append(errs, err)
	}
	if c.OTLPEndpoint != "" {
		if err := checkOTLP(c.OTLPEndpoint); err != nil {
			errs = append(errs, err)
		}
	}
	if c.ShutdownDelay < 0 {
		errs = append(errs, errors.New("--shutdown-delay: cannot be negative"))
	}
	if c.Retention < time.Hour {
		errs = append(errs, errors.New("--retention: at least an hour"))
	}
	if c.JournalRetention < time.Hour {
		errs = append(errs, errors.New("--journal-retention: at least an hour"))
	}
	if c.AuditRetention != 0 && c.AuditRetention < time.Hour {
		errs = append(errs, errors.New("--audit-retention: at least an hour"))
	}
	if c.HTTP == "" && c.HTTPS == "" && c.ALPN == "" {
		errs = append(errs, errors.New("--http, --https or --alpn: the API needs an address"))
	}
	switch files := c.TLSCert != "" || c.TLSKey != ""; {
	case c.TLS && files:
		errs = append(errs, errors.New("--tls and --tls-cert: the certificate of the server is either made or given"))
	case files && (c.TLSCert == "" || c.TLSKey == ""):
		errs = append(errs, errors.New("--tls-cert and --tls-key: neither is of use without the other"))
	case c.overTLS() && !c.TLS && !files:
		errs = append(errs, errors.New("--https, --mqtts, --device-https, --alpn: need --tls, or --tls-cert and --tls-key"))
	}
	for _, l := range []struct{ flag, addr, lack string }{
		{"--http", c.HTTP, "does not encrypt"},
		{"--mqtt", c.MQTT, "neither encrypts nor authenticates devices"},
		{"--https", c.HTTPS, ""},
		{"--mqtts", c.MQTTS, ""},
		{"--device-https", c.DeviceHTTPS, ""},
		{"--alpn", c.ALPN, ""},
		{"--pprof", c.PProf, ""},
	} {
		if l.addr == "" {
			continue
		}
		host, _, err := net.SplitHostPort(l.addr)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", l.flag, err))
		case l.flag == "--pprof" && !loopback(host):
			errs = append(errs, fmt.Errorf("--pprof: %s is not a loopback address, and profiles show what is in memory", l.addr))
		case l.lack != "" && !c.Insecure && !loopback(host):
			errs = append(errs, fmt.Errorf("%s: %s is not a loopback address, and this listener %s; say --insecure if that is meant", l.flag, l.addr, l.lack))
		}
	}
	return errors.Join(errs...)
}

// postgres reports whether the store is a PostgreSQL database.
func (c *serveConfig) postgres() bool { return isPostgres(c.Store) }

func isPostgres(store string) bool {
	return strings.HasPrefix(store, "postgres://") || strings.HasPrefix(store, "postgresql://")
}

// errNoStore does not repeat what was given, which may be a URL with a password, and a typing
// error in front.
var errNoStore = errors.New("--store: neither sqlite nor a URL that begins with postgres://")

// overTLS reports whether there is a listener that needs a certificate.
func (c *serveConfig) overTLS() bool {
	return c.HTTPS != "" || c.MQTTS != "" || c.DeviceHTTPS != "" || c.ALPN != ""
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// loadConfig reads a --config file: a YAML mapping of flag names to values.
func loadConfig(r io.Reader) (kong.Resolver, error) {
	values := make(map[string]any)
	if err := yaml.NewDecoder(r).Decode(&values); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("not a YAML mapping: %w", err)
	}
	return fileConfig(values), nil
}

type fileConfig map[string]any

// Validate refuses keys that are no flag, so that a typing error is not silence.
func (f fileConfig) Validate(app *kong.Application) error {
	var known []string
	for _, node := range app.Children {
		if node.Name == "serve" {
			for _, flag := range node.Flags {
				known = append(known, flag.Name)
			}
		}
	}
	for key := range f {
		if !slices.Contains(known, key) {
			return fmt.Errorf("config: %q is not a flag of serve", key)
		}
	}
	return nil
}

// Resolve gives the value of a flag that neither the command line nor the environment has.
func (f fileConfig) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if value, ok := f[flag.Name]; ok && !fromEnvironment(flag) {
		return fmt.Sprint(value), nil
	}
	return nil, nil
}

func fromEnvironment(flag *kong.Flag) bool {
	return slices.ContainsFunc(flag.Envs, func(name string) bool { _, ok := os.LookupEnv(name); return ok })
}
