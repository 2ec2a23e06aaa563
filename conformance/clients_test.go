package conformance

import (
	"crypto/x509"
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
	oneServer(t, "the object store in the box")
	python := envtest.Python(t, "boto3")
	runClient(t, python, "boto3_artifacts.py")
}

func TestClientBoto3OTA(t *testing.T) {
	oneServer(t, "the object store in the box")
	python := envtest.Python(t, "boto3", "paho.mqtt")
	runClient(t, python, "boto3_ota.py")
}

func TestClientBoto3Packages(t *testing.T) {
	python := envtest.Python(t, "boto3")
	f := fleetOn(t, ownServer(t)) // whose package configuration is its own
	f.run(python, "boto3_packages.py")
}

func TestClientDeviceSDK(t *testing.T) {
	t.Parallel()
	python := envtest.Python(t, "boto3", "awsiot")
	versions(t, func(t *testing.T, version int) {
		env := fmt.Sprint("DROVER_VERSION=", version)
		f := newFleet(t)
		f.run(python, "device_sdk.py", env)
		if f.data == "" {
			return // whose roots are not known
		}
		for _, url := range []string{
			"mqtts://" + strings.Replace(address(f.mqtts), "127.0.0.1", "localhost", 1),
			"alpn://" + strings.Replace(address(f.alpn), "127.0.0.1", "localhost", 1),
			"wss://" + strings.Replace(address(f.alpn), "127.0.0.1", "localhost", 1),
		} {
			f.run(python, "device_sdk.py", env, "DROVER_MQTT="+url, "DROVER_ROOTS="+filepath.Join(f.data, "ca.pem"))
		}
	})
}

// AWS's device SDK for JavaScript, over everything that carries MQTT with TLS; and a device that
// provisions itself by claim with it.
func TestClientDeviceSDKNode(t *testing.T) {
	t.Parallel()
	node, modules := envtest.Node(t, "aws-iot-device-sdk-v2")
	versions(t, func(t *testing.T, version int) {
		f := tlsFleet(t)
		local := func(scheme, url string) string {
			return scheme + "://" + strings.Replace(address(url), "127.0.0.1", "localhost", 1)
		}
		env := []string{modules, fmt.Sprint("DROVER_VERSION=", version), "DROVER_ROOTS=" + filepath.Join(f.data, "ca.pem")}
		for _, url := range []string{local("mqtts", f.mqtts), local("alpn", f.alpn), local("wss", f.alpn)} {
			thing := f.thing("sdk-" + url[:3])
			job := f.job("job-"+url[:3], []string{f.thingARN(thing)})
			c := f.newCertificate(true)
			f.allow(c.id)
			f.run(node, "device_sdk.cjs", append(env, append(f.files(c), "DROVER_MQTT="+url, "DROVER_THING="+thing, "DROVER_JOB="+job)...)...)
			if got := f.describe(job).Status; got != types.JobStatusCompleted {
				t.Errorf("%s: the job is %s", url, got)
			}
		}
		claim := f.newCertificate(true)
		f.allow(claim.id)
		policy := f.policy("device", `{"Effect":"Allow","Action":"iot:*","Resource":"*"}`)
		template := f.template("claim", `{"Parameters":{"Serial":{"Type":"String"}},"Resources":{
			"certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":{"Ref":"AWS::IoT::Certificate::Id"},"Status":"Active"}},
			"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Fn::Sub":"`+f.prefix+`-${Serial}"}}},
			"policy":{"Type":"AWS::IoT::Policy","Properties":{"PolicyName":"`+policy+`"}}}}`)
		f.run(node, "device_sdk.cjs", append(env, append(f.files(claim), "DROVER_MQTT="+local("mqtts", f.mqtts), "DROVER_TEMPLATE="+template)...)...)
	})
}

// files writes a certificate and its key and returns the variables that name them to scripts.
func (f *fleet) files(c identity) []string {
	f.t.Helper()
	cert, private := filepath.Join(f.t.TempDir(), "cert.pem"), filepath.Join(f.t.TempDir(), "key.pem")
	key, err := x509.MarshalPKCS8PrivateKey(c.tls.PrivateKey)
	f.must(err)
	f.must(os.WriteFile(cert, []byte(c.pem), 0o600))
	f.must(os.WriteFile(private, []byte(toPEM("PRIVATE KEY", key)), 0o600))
	return []string{"DROVER_CERT=" + cert, "DROVER_KEY=" + private}
}

// A device that provisions itself by claim.
func TestClientDeviceSDKProvisions(t *testing.T) {
	python := envtest.Python(t, "boto3", "awsiot")
	f := tlsFleet(t)
	url := "mqtts://" + strings.Replace(address(f.mqtts), "127.0.0.1", "localhost", 1)
	f.run(python, "provision.py", "DROVER_MQTT="+url, "DROVER_ROOTS="+filepath.Join(f.data, "ca.pem"))
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

// TestOpenSSL: another implementation of TLS agrees with ours, with and without ALPN, and learns
// nothing when it is refused.
func TestOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("needs openssl")
	}
	f := tlsFleet(t)
	c := f.newCertificate(true)
	files := f.files(c)
	cert, key := strings.TrimPrefix(files[0], "DROVER_CERT="), strings.TrimPrefix(files[1], "DROVER_KEY=")
	run := func(url string, more ...string) string {
		t.Helper()
		args := append([]string{"s_client", "-connect", address(url), "-servername", serverName, "-verify_hostname", serverName,
			"-CAfile", filepath.Join(f.data, "ca.pem"), "-verify_return_error",
			"-cert", cert, "-key", key}, more...)
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
