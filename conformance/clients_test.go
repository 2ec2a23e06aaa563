package conformance

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"drover/internal/envtest"
)

// Clients that are not written in Go: the scripts in scripts/clients.

func TestClientBoto3(t *testing.T) {
	python := envtest.Python(t, "boto3")
	runClient(t, python, "boto3_jobs.py")
}

func TestClientDeviceSDK(t *testing.T) {
	python := envtest.Python(t, "boto3", "awsiot")
	runClient(t, python, "device_sdk.py")
}

func TestClientCLI(t *testing.T) {
	python := envtest.Python(t, "awscli")
	runClient(t, "bash", "aws_cli.sh", "AWS="+python+" -m awscli")
}

func runClient(t *testing.T, interpreter, script string, env ...string) {
	t.Helper()
	f := newFleet(t)
	cmd := exec.CommandContext(f.ctx, interpreter, filepath.Join("..", "scripts", "clients", script))
	cmd.Env = append(f.environment(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// environment is that of a client that finds the server by AWS's own variables.
func (f *fleet) environment() []string {
	return append(os.Environ(),
		"AWS_ACCESS_KEY_ID="+f.key, "AWS_SECRET_ACCESS_KEY="+f.secret, "AWS_SESSION_TOKEN=",
		"AWS_REGION="+f.region, "AWS_DEFAULT_REGION="+f.region, "AWS_ENDPOINT_URL="+f.http, "DROVER_MQTT="+f.mqtt,
		"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_EC2_METADATA_DISABLED=true")
}
