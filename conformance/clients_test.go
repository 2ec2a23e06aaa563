package conformance

import (
	"crypto/x509"
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
	runClient(newFleet(t), python, "boto3_jobs.py")
}

func TestClientDeviceSDK(t *testing.T) {
	python := envtest.Python(t, "boto3", "awsiot")
	f := newFleet(t)
	runClient(f, python, "device_sdk.py")
	if f.data == "" {
		return // whose roots are not known
	}
	for _, url := range []string{
		"mqtts://" + strings.Replace(address(f.mqtts), "127.0.0.1", "localhost", 1),
		"alpn://" + strings.Replace(address(f.alpn), "127.0.0.1", "localhost", 1),
	} {
		runClient(f, python, "device_sdk.py", "DROVER_MQTT="+url, "DROVER_ROOTS="+filepath.Join(f.data, "ca.pem"))
	}
}

// A device that provisions itself by claim.
func TestClientDeviceSDKProvisions(t *testing.T) {
	python := envtest.Python(t, "boto3", "awsiot")
	f := tlsFleet(t)
	url := "mqtts://" + strings.Replace(address(f.mqtts), "127.0.0.1", "localhost", 1)
	runClient(f, python, "provision.py", "DROVER_MQTT="+url, "DROVER_ROOTS="+filepath.Join(f.data, "ca.pem"))
}

func TestClientCLI(t *testing.T) {
	python := envtest.Python(t, "awscli")
	runClient(newFleet(t), "bash", "aws_cli.sh", "AWS="+python+" -m awscli")
}

func runClient(f *fleet, interpreter, script string, env ...string) {
	f.t.Helper()
	cmd := exec.CommandContext(f.ctx, interpreter, filepath.Join("..", "scripts", "clients", script))
	cmd.Env = append(f.environment(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		f.t.Fatalf("%s %v: %v\n%s", script, env, err, out)
	}
}

// TestOpenSSL: another implementation of TLS agrees with ours, with and without ALPN, and learns
// nothing when it is refused.
func TestOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("needs openssl")
	}
	f := tlsFleet(t)
	c := f.newCertificate(true)
	dir := t.TempDir()
	key, err := x509.MarshalPKCS8PrivateKey(c.tls.PrivateKey)
	f.must(err)
	f.must(os.WriteFile(filepath.Join(dir, "cert.pem"), []byte(c.pem), 0o600))
	f.must(os.WriteFile(filepath.Join(dir, "key.pem"), []byte(toPEM("PRIVATE KEY", key)), 0o600))
	run := func(url string, more ...string) string {
		t.Helper()
		args := append([]string{"s_client", "-connect", address(url), "-servername", serverName, "-verify_hostname", serverName,
			"-CAfile", filepath.Join(f.data, "ca.pem"), "-verify_return_error",
			"-cert", filepath.Join(dir, "cert.pem"), "-key", filepath.Join(dir, "key.pem")}, more...)
		cmd := exec.CommandContext(f.ctx, openssl, args...)
		out, _ := cmd.CombinedOutput() // the exit code says how the connection ended, which the text tells better
		return string(out)
	}
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		if out := run(f.mqtts, version); !strings.Contains(out, "Verify return code: 0 (ok)") || !strings.Contains(out, "Verification: OK") {
			t.Errorf("%s: %s", version, out)
		}
		if out := run(f.alpn, version, "-alpn", "x-amzn-mqtt-ca"); !strings.Contains(out, "ALPN protocol: x-amzn-mqtt-ca") {
			t.Errorf("%s: %s", version, out)
		}
	}
	if out := run(f.alpn, "-alpn", "nobody"); !strings.Contains(out, "no application protocol") {
		t.Errorf("an unknown protocol: %s", out)
	}
	f.must(f.setStatus(c.id, types.CertificateStatusInactive))
	if out := run(f.mqtts, "-tls1_2"); !strings.Contains(out, "bad certificate") {
		t.Errorf("an inactive certificate: %s", out)
	}
}

// environment is that of a client that finds the server by AWS's own variables.
func (f *fleet) environment() []string {
	return append(os.Environ(),
		"AWS_ACCESS_KEY_ID="+f.key, "AWS_SECRET_ACCESS_KEY="+f.secret, "AWS_SESSION_TOKEN=",
		"AWS_REGION="+f.region, "AWS_DEFAULT_REGION="+f.region, "AWS_ENDPOINT_URL="+f.http, "DROVER_MQTT="+f.mqtt,
		"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_EC2_METADATA_DISABLED=true")
}
