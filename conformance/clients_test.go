package conformance

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"drover/internal/envtest"
)

// Clients that are not written in Go: the scripts in scripts/clients.

func TestClientBoto3(t *testing.T) {
	python := envtest.Python(t, "boto3")
	runClient(t, python, "boto3_jobs.py")
}

func TestClientBoto3Artifacts(t *testing.T) {
	python := envtest.Python(t, "boto3")
	runClient(t, python, "boto3_artifacts.py")
}

func TestClientDeviceSDK(t *testing.T) {
	t.Parallel()
	python := envtest.Python(t, "boto3", "awsiot")
	versions(t, func(t *testing.T, version int) {
		runClient(t, python, "device_sdk.py", fmt.Sprint("DROVER_VERSION=", version))
	})
}

func TestClientCLI(t *testing.T) {
	python := envtest.Python(t, "awscli")
	runClient(t, "bash", "aws_cli.sh", "AWS="+python+" -m awscli")
}

func TestClientMosquitto(t *testing.T) {
	envtest.Command(t, "mosquitto_pub")
	envtest.Command(t, "mosquitto_sub")
	runClient(t, "bash", "mosquitto.sh")
}

func TestClientPahoPython(t *testing.T) {
	t.Parallel()
	python := envtest.Python(t, "paho.mqtt")
	onTransports(t, func(f *fleet, env []string) { f.run(python, "paho_client.py", env...) })
}

func TestClientMQTTjs(t *testing.T) {
	t.Parallel()
	node, modules := envtest.Node(t, "mqtt")
	onTransports(t, func(f *fleet, env []string) { f.run(node, "mqttjs.cjs", append(env, modules)...) })
}

// webSocket is the URL of MQTT over WebSocket.
func (s *server) webSocket() string { return strings.Replace(s.http, "http", "ws", 1) + "/mqtt" }

// onTransports runs a client over everything that carries MQTT, in either version, as a thing
// that has a job, which it must carry out.
func onTransports(t *testing.T, run func(f *fleet, env []string)) {
	t.Helper()
	s := sharedServer(t)
	for scheme, url := range map[string]string{"tcp": s.mqtt, "ws": s.webSocket()} {
		versions(t, func(t *testing.T, version int) {
			t.Run(scheme, func(t *testing.T) {
				f := newFleet(t)
				thing := f.thing("client")
				job := f.job("job", []string{f.thingARN(thing)})
				run(f, []string{"DROVER_MQTT=" + url, fmt.Sprint("DROVER_VERSION=", version), "DROVER_THING=" + thing, "DROVER_JOB=" + job})
				if got := f.describe(job).Status; got != types.JobStatusCompleted {
					t.Errorf("the job is %s", got)
				}
			})
		})
	}
}

func runClient(t *testing.T, interpreter, script string, env ...string) {
	t.Helper()
	newFleet(t).run(interpreter, script, env...)
}

// run runs a script of scripts/clients, which must succeed.
func (f *fleet) run(interpreter, script string, env ...string) {
	f.t.Helper()
	cmd := exec.CommandContext(f.ctx, interpreter, filepath.Join("..", "scripts", "clients", script))
	cmd.Env = append(f.environment(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		f.t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// environment is that of a client that finds the server by AWS's own variables.
func (f *fleet) environment() []string {
	return append(os.Environ(),
		"AWS_ACCESS_KEY_ID="+f.key, "AWS_SECRET_ACCESS_KEY="+f.secret, "AWS_SESSION_TOKEN=",
		"AWS_REGION="+f.region, "AWS_DEFAULT_REGION="+f.region, "AWS_ENDPOINT_URL="+f.http, "DROVER_MQTT="+f.mqtt,
		"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_EC2_METADATA_DISABLED=true")
}
