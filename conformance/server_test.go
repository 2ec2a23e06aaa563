package conformance

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/iot"

	"drover/internal/envtest"
)

var (
	endpointFlag = flag.String("endpoint", "", "URL of the API of the server to test; default: a drover of this checkout")
	mqttFlag     = flag.String("mqtt", "", "URL of the MQTT listener of the server to test, mqtt://HOST:PORT")
	regionFlag   = flag.String("region", "us-east-1", "AWS region of the server to test")
	storeFlag    = flag.String("store", os.Getenv("DROVER_TEST_STORE"), "store of the servers that are started: sqlite, or postgres; default: what DROVER_TEST_STORE says, or sqlite")
	accountFlag  = flag.String("account", "123456789012", "AWS account of the server to test")
)

// patience bounds every wait. It is long because machines are busy; nothing waits that
// long when all is well.
const patience = 20 * time.Second

// server is a server under test.
type server struct {
	http, mqtt      string
	mqtts           string // with client certificates
	deviceHTTPS     string // with client certificates
	alpn            string // everything, by ALPN
	cluster         string // for other nodes
	account, region string
	key, secret     string
	data            string // data folder of a drover of ours, "" of a foreign server
	keys            string // folder of its keys; the data folder unless it is told another
	process         *exec.Cmd
	skew            *atomic.Int64 // of its clock, nanoseconds; nil for none
}

// What the tests share, made when it is first needed and gone when all have ended.
var (
	temporary = sync.OnceValues(func() (string, error) { made = true; return os.MkdirTemp("", "drover-conformance-") })
	made      bool    // the folder
	running   *server // of ours, shared
)

// binary is the drover under test, built once.
var binary = sync.OnceValues(func() (string, error) { return build("drover", "") })

func build(name, tags string) (string, error) {
	dir, err := temporary()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	out, err := exec.Command("go", "build", "-tags", tags, "-o", path, "drover/cmd/drover").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
}

// tlsFlags are what the shared server speaks TLS with.
var tlsFlags = []string{"--tls", "--tls-name", serverName, "--mqtts", "127.0.0.1:0", "--device-https", "127.0.0.1:0", "--alpn", "127.0.0.1:0"}

// serverName is a name that the certificate of the shared server has.
const serverName = "drover.test"

// shared is the server of all tests that do not mind each other.
var shared = sync.OnceValues(func() (*server, error) {
	if *endpointFlag != "" {
		return &server{http: *endpointFlag, mqtt: *mqttFlag, account: *accountFlag, region: *regionFlag,
			key: os.Getenv("AWS_ACCESS_KEY_ID"), secret: os.Getenv("AWS_SECRET_ACCESS_KEY")}, nil
	}
	dir, err := temporary()
	if err != nil {
		return nil, err
	}
	if *nodesFlag > 1 {
		var stop func() error
		running, stop, err = startBalanced(*nodesFlag, filepath.Join(dir, "data"), tlsFlags...)
		foreign.stop = append(foreign.stop, stop)
		return running, err
	}
	running, err = start(filepath.Join(dir, "data"), tlsFlags...)
	return running, err
})

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if err := cleanUp(); err != nil {
		fmt.Fprintln(os.Stderr, "clean up:", err)
		code = 1
	}
	os.Exit(code)
}

// cleanUp stops the shared server and removes what the tests share.
func cleanUp() error {
	var errs []error
	if running != nil {
		errs = append(errs, running.terminate())
	}
	for _, stop := range slices.Backward(foreign.stop) {
		errs = append(errs, stop())
	}
	if made {
		dir, err := temporary()
		errs = append(errs, err, os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}

// start runs drover on a data folder and returns when it is ready.
func start(data string, flags ...string) (*server, error) {
	path, err := binary()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path)
	cmd.Stderr = os.Stderr
	return launch(cmd, data, flags...)
}

// launch is start with a command that lacks nothing but arguments.
func launch(cmd *exec.Cmd, data string, flags ...string) (*server, error) {
	cmd.Args = append(cmd.Args, "serve", "--data", data, "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--log-level", "warn")
	cmd.Args = append(cmd.Args, flags...)
	if *storeFlag == "postgres" && !slices.Contains(flags, "--test") {
		database, err := databaseOf(data)
		if err != nil {
			return nil, err
		}
		cmd.Env = append(cmd.Environ(), "DROVER_STORE="+database)
	}
	// No server outlives a test binary that is killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the server did not get ready: %w", err), cmd.Wait())
	}
	var at struct{ HTTP, MQTT, MQTTS, DeviceHTTPS, ALPN, Cluster, Keys string }
	if err := json.Unmarshal([]byte(line), &at); err != nil {
		return nil, fmt.Errorf("first line %q: %w", line, err)
	}
	s := &server{
		http: at.HTTP, mqtt: at.MQTT, mqtts: at.MQTTS, deviceHTTPS: at.DeviceHTTPS, alpn: at.ALPN, cluster: at.Cluster,
		account: "123456789012", region: "us-east-1", data: data, process: cmd, skew: new(atomic.Int64),
	}
	if *storeFlag == "postgres" {
		// It connects to its database when it first has to: what a test counts shall not grow by that.
		for range 16 {
			if resp, err := http.Get(s.http + "/readyz"); err != nil {
				return nil, errors.Join(err, s.terminate())
			} else if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
				return nil, errors.Join(fmt.Errorf("/readyz: %s", resp.Status), err, s.terminate())
			}
		}
	}
	s.keys = cmp.Or(at.Keys, data)
	s.key, s.secret, err = readKey(filepath.Join(s.keys, "credentials"))
	return s, err
}

// databases are the PostgreSQL databases of data folders.
var databases = struct {
	sync.Mutex
	urls map[string]string
}{urls: make(map[string]string)}

// databaseOf returns the URL of the database that goes with the data folder.
func databaseOf(data string) (string, error) {
	databases.Lock()
	defer databases.Unlock()
	if databases.urls[data] == "" {
		url, err := envtest.NewPostgreSQL()
		if err != nil {
			return "", err
		}
		databases.urls[data] = url
	}
	return databases.urls[data], nil
}

func readKey(path string) (key, secret string, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", "", err
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, "=")
		switch strings.TrimSpace(name) {
		case "aws_access_key_id":
			key = strings.TrimSpace(value)
		case "aws_secret_access_key":
			secret = strings.TrimSpace(value)
		}
	}
	if key == "" || secret == "" {
		return "", "", fmt.Errorf("%s holds no key", path)
	}
	return key, secret, nil
}

// terminate stops the server as an operator would, and fails if it does not stop well.
func (s *server) terminate() error {
	if err := s.process.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return s.process.Wait()
}

// kill ends the server as a power cut would.
func (s *server) kill(t *testing.T) {
	t.Helper()
	if err := s.process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = s.process.Wait() // says "killed"
}

// sharedServer returns the server of all tests that do not mind each other.
func sharedServer(t *testing.T) *server {
	t.Helper()
	s, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ownServer starts a server for a test that changes what is global: the event
// configuration, the number of deletions, the process itself.
func ownServer(t *testing.T, flags ...string) *server {
	t.Helper()
	if *endpointFlag != "" {
		t.Skip("needs a server of its own; not against a foreign endpoint")
	}
	s, err := start(t.TempDir(), flags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.process.ProcessState == nil {
			if err := s.terminate(); err != nil {
				t.Errorf("stop the server: %v", err)
			}
		}
	})
	return s
}

// client is the AWS SDK's client of the control plane.
func (s *server) client() *iot.Client {
	return iot.New(iot.Options{
		Region:       s.region,
		BaseEndpoint: aws.String(s.http),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: s.key, SecretAccessKey: s.secret}, nil
		}),
		RetryMaxAttempts: 1,
		HTTPSignerV4:     signer{v4.NewSigner(), s},
	})
}

// signer signs by the clock of the server.
type signer struct {
	*v4.Signer
	s *server
}

func (g signer) SignHTTP(ctx context.Context, key aws.Credentials, r *http.Request, hash, service, region string, _ time.Time, options ...func(*v4.SignerOptions)) error {
	return g.Signer.SignHTTP(ctx, key, r, hash, service, region, g.s.now(), options...)
}

// now is the time of the server's clock.
func (s *server) now() time.Time {
	if s.skew == nil {
		return time.Now()
	}
	return time.Now().Add(time.Duration(s.skew.Load()))
}

func (s *server) arn(kind, name string) string {
	return "arn:aws:iot:" + s.region + ":" + s.account + ":" + kind + "/" + name
}
