package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// command runs drover in this process and returns what it wrote.
func command(t *testing.T, args ...string) (exit int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	errs, err := os.Create(filepath.Join(t.TempDir(), "err"))
	if err != nil {
		t.Fatal(err)
	}
	exit = run(ctx, args, out, errs)
	return exit, contents(t, out), contents(t, errs)
}

func contents(t *testing.T, f *os.File) string {
	t.Helper()
	text, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestHelp(t *testing.T) {
	exit, out, _ := command(t, "--help")
	for _, name := range []string{"serve", "demo", "fleet", "rehearse", "import", "env", "version"} {
		if !strings.Contains(out, "\n  "+name) {
			t.Errorf("the help does not show %s:\n%s", name, out)
		}
		if exit, out, _ := command(t, name, "--help"); exit != 0 || !strings.Contains(out, "Usage: drover "+name) {
			t.Errorf("%s --help: %d\n%s", name, exit, out)
		}
	}
	if exit != 0 {
		t.Errorf("exit code %d", exit)
	}
}

func TestVersion(t *testing.T) {
	if exit, out, _ := command(t, "version"); exit != 0 || !strings.HasPrefix(out, "drover ") || !strings.Contains(out, "go1.") {
		t.Errorf("%d %q", exit, out)
	}
}

// TestServeRefuses: what is wrong with the flags is said before anything is made.
func TestServeRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"open address":  {[]string{"--http", "0.0.0.0:0"}, "--insecure"},
		"open MQTT":     {[]string{"--mqtt", ":1883"}, "--mqtt"},
		"account":       {[]string{"--account", "12"}, "twelve digits"},
		"region":        {[]string{"--region", "Mars"}, "us-east-1"},
		"postgres URL":  {[]string{"--store", "postgres://u:hid@den/x:y@h/x"}, "percent-encoded"},
		"postgres test": {[]string{"--store", "postgres://localhost/x", "--test"}, "temporary folder"},
		"store":         {[]string{"--store", "files"}, "neither sqlite nor"},
		"TLS":           {[]string{"--https", "127.0.0.1:0"}, "--tls-cert"},
		"two ways":      {[]string{"--tls", "--tls-cert", "x", "--tls-key", "y"}, "either made or given"},
		"half a pair":   {[]string{"--https", "127.0.0.1:0", "--tls-cert", "x"}, "without the other"},
		"no address":    {[]string{"--http", ""}, "needs an address"},
		"S3 URL":        {[]string{"--s3", "minio:9000"}, "--s3: box, aws or a URL"},
		"S3 path":       {[]string{"--s3-public-url", "http://h/path"}, "--s3-public-url"},
		"S3 key of box": {[]string{"--s3-access-key", "a", "--s3-secret-key", "b"}, "the store in the box has the key"},
		"S3 half a key": {[]string{"--s3", "aws", "--s3-access-key", "a"}, "one needs the other"},
		"retention":     {[]string{"--retention", "1s"}, "--retention"},
		"open profiles": {[]string{"--pprof", ":0", "--insecure"}, "--pprof: :0 is not a loopback address"},
		"collector":     {[]string{"--otlp-endpoint", "localhost:4317"}, "--otlp-endpoint"},
		"no delay":      {[]string{"--shutdown-delay", "-1s"}, "--shutdown-delay"},
		"log format":    {[]string{"--log-format", "xml"}, "text"},
		"nodes, SQLite": {[]string{"--cluster-listen", "127.0.0.1:0"}, "one database"},
		"two of NATS":   {[]string{"--store", "postgres://h/x", "--cluster-listen", ":6222", "--nats", "nats://h"}, "either in the servers"},
		"only peers":    {[]string{"--store", "postgres://h/x", "--cluster-peers", "h:6222"}, "need --cluster-listen"},
		"no port":       {[]string{"--store", "postgres://h/x", "--cluster-listen", ":6222", "--cluster-peers", "h"}, "--cluster-peers"},
		"no NATS":       {[]string{"--nats-credentials", "x.creds"}, "needs --nats"},
		"no roots":      {[]string{"--store", "postgres://h/x", "--cluster-listen", ":6222", "--cluster-cert", "x", "--cluster-key", "y"}, "of one authority"},
		"address":       {[]string{"--http", "nonsense"}, "--http"},
		"unknown flag":  {[]string{"--nonsense"}, "nonsense"},
		"unknown key":   {[]string{"--config", file(t, "htpp: 127.0.0.1:0\n")}, `"htpp" is not a flag`},
		"no YAML":       {[]string{"--config", file(t, "- a\n- b\n")}, "YAML"},
		"value by file": {[]string{"--config", file(t, "account: \"77\"\n")}, "twelve digits"},
	} {
		data := filepath.Join(t.TempDir(), "data")
		exit, _, errs := command(t, append([]string{"serve", "--data", data}, test.args...)...)
		if exit == 0 || !strings.Contains(errs, test.want) {
			t.Errorf("%s: exit %d, %q does not hold %q", name, exit, errs, test.want)
		}
		if _, err := os.Stat(data); err == nil {
			t.Errorf("%s: the data folder was made", name)
		}
	}
}

func TestCA(t *testing.T) {
	data := t.TempDir()
	if exit, _, errs := command(t, "ca", "--data", data); exit == 0 || !strings.Contains(errs, "no certificate authority") {
		t.Errorf("an empty folder: %d %q", exit, errs)
	}
	if exit, _, errs := command(t, "ca", "rotate", "--data", filepath.Join(data, "typing-error")); exit == 0 || !strings.Contains(errs, "--data") {
		t.Errorf("no folder: %d %q", exit, errs)
	}
	for n := range 2 {
		if exit, _, errs := command(t, "ca", "rotate", "--data", data); exit != 0 {
			t.Fatalf("rotate: %d %q", exit, errs)
		}
		exit, out, errs := command(t, "ca", "--data", data)
		kept, err := os.ReadFile(filepath.Join(data, "ca.pem"))
		// The first rotation makes a root, and then another.
		if exit != 0 || err != nil || strings.Count(out, "BEGIN CERTIFICATE") != n+2 || out != string(kept) {
			t.Errorf("%d: %d %q %q, ca.pem has %q (%v)", n, exit, out, errs, kept, err)
		}
	}

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"hook.test"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr := file(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})))
	exit, out, errs := command(t, "ca", "sign", "--server", "--data", data, csr)
	block, links := pem.Decode([]byte(out))
	if exit != 0 || block == nil {
		t.Fatalf("sign: %d %q %q", exit, out, errs)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil || c.VerifyHostname("hook.test") != nil || strings.Count(string(links), "BEGIN CERTIFICATE") != 2 {
		t.Errorf("signed %v (%v), behind it %q", c, err, links)
	}
	if exit, _, errs := command(t, "ca", "sign", "--data", data, csr); exit == 0 || !strings.Contains(errs, "no server runs") {
		t.Errorf("sign for a device without a server: %d %q", exit, errs)
	}
}

// TestPublicAddress: what devices are told has a name that they can use, and a port only if they
// do not expect it.
func TestPublicAddress(t *testing.T) {
	side := &tlsSide{name: "drover.test"}
	for name, c := range map[string]struct {
		side       *tlsSide
		names      []string
		at         endpoints
		data, jobs string
	}{
		"plain":      {nil, nil, endpoints{HTTP: "http://127.0.0.1:8080", MQTT: "mqtt://127.0.0.1:1883"}, "127.0.0.1:1883", "127.0.0.1:8080"},
		"AWS's own":  {side, nil, endpoints{MQTTS: "mqtts://[::]:8883", DeviceHTTPS: "https://[::]:8443"}, "drover.test", "drover.test"},
		"one port":   {side, nil, endpoints{ALPN: "https://0.0.0.0:443"}, "drover.test", "drover.test"},
		"others":     {side, nil, endpoints{MQTTS: "mqtts://[::]:18883", ALPN: "https://[::]:1443"}, "drover.test:18883", "drover.test:1443"},
		"an address": {side, nil, endpoints{MQTTS: "mqtts://192.0.2.1:8883"}, "192.0.2.1", ""},
		"a name":     {side, []string{"drover.test"}, endpoints{MQTTS: "mqtts://192.0.2.1:8883"}, "drover.test", ""},
	} {
		s := &server{cfg: serveConfig{TLSName: c.names}, endpoints: c.at, tls: c.side}
		if got := s.addresses(); got.Data != c.data || got.Jobs != c.jobs {
			t.Errorf("%s: %q and %q, want %q and %q", name, got.Data, got.Jobs, c.data, c.jobs)
		}
	}
}

func TestEnvironmentWinsOverFile(t *testing.T) {
	t.Setenv("DROVER_ACCOUNT", "99")
	_, _, errs := command(t, "serve", "--data", filepath.Join(t.TempDir(), "d"), "--config", file(t, "account: \"123456789012\"\n"))
	if !strings.Contains(errs, `account "99"`) {
		t.Errorf("%q", errs)
	}
}

func TestEnvWithoutServer(t *testing.T) {
	if exit, _, errs := command(t, "env", "--data", t.TempDir()); exit == 0 || !strings.Contains(errs, "drover serve --data") {
		t.Errorf("%d %q", exit, errs)
	}
}

func TestQuote(t *testing.T) {
	if got := quote(`a'b c`); got != `'a'\''b c'` {
		t.Error(got)
	}
}

// TestDemo: the devices of the demonstration download a file from the box by presigned URLs.
func TestDemo(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()) // the demonstration leaves its data for people to look at
	exit, out, errs := command(t, "demo", "--things", "3", "--success", "1")
	if exit != 0 || !strings.Contains(out, "downloads   3 files, 3.1 MB") || !strings.Contains(out, "is COMPLETED: 3 succeeded, 0 failed") {
		t.Errorf("%d\n%s\n%s", exit, out, errs)
	}
}

const rehearsalJob = `{"jobId":"update","document":"{}","targets":["ignored"],
	"jobExecutionsRolloutConfig":{"maximumPerMinute":20},
	"abortConfig":{"criteriaList":[{"failureType":"ALL","action":"CANCEL","thresholdPercentage":30,"minNumberOfExecutedThings":10}]}}`

func TestRehearse(t *testing.T) {
	job := file(t, rehearsalJob)
	svg := filepath.Join(t.TempDir(), "chart.svg")
	exit, first, errs := command(t, "rehearse", job, "--things", "100", "--json", "--svg", svg)
	if exit != 0 {
		t.Fatalf("%d %s", exit, errs)
	}
	if _, again, _ := command(t, "rehearse", job, "--things", "100", "--json"); again != first {
		t.Error("the same seed gave another output")
	}
	var result struct {
		Status string
		Final  struct{ Notified, Succeeded int }
	}
	if err := json.Unmarshal([]byte(first), &result); err != nil || result.Status != "COMPLETED" || result.Final.Notified != 100 {
		t.Errorf("%v %+v", err, result)
	}
	if picture, err := os.ReadFile(svg); err != nil || !strings.HasPrefix(string(picture), "<svg ") {
		t.Errorf("%v %.40s", err, picture)
	}
	if _, out, _ := command(t, "rehearse", job, "--things", "100", "--success", "0.4"); !strings.Contains(out, "CANCELED after") || !strings.Contains(out, "aborted") {
		t.Errorf("%s", out)
	}
	for _, job := range []string{
		`{"documentSource":"s3://jobs/update.json"}`,
		`{"document":"{\"u\":\"${aws:iot:s3-presigned-url:http://drover.plant:8080/firmware/7.bin}\"}","presignedUrlConfig":{"roleArn":"arn:aws:iam::123456789012:role/r"}}`,
	} {
		if exit, _, errs := command(t, "rehearse", file(t, job), "--things", "10"); exit != 0 {
			t.Errorf("%s: %d %s", job, exit, errs)
		}
	}
	if exit, _, errs := command(t, "rehearse", file(t, `{"document":"{bad"}`)); exit == 0 || !strings.Contains(errs, "not valid JSON") {
		t.Errorf("%d %q", exit, errs)
	}
}

// TestRehearseLearns: a dry run against a live group reads and changes nothing.
func TestRehearseLearns(t *testing.T) {
	cfg := serveConfig{Data: filepath.Join(t.TempDir(), "data"), HTTP: "127.0.0.1:0", MQTT: "127.0.0.1:0", Store: "sqlite",
		Account: "123456789012", Region: "us-east-1", LogLevel: "error", Retention: time.Hour, JournalRetention: time.Hour}
	srv, err := startServer(t.Context(), cfg, cfg.logger(os.Stderr))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := srv.stop(); err != nil {
			t.Error(err)
		}
	}()
	things := file(t, `{"thingName":"a","groups":["g"]}`+"\n"+`{"thingName":"b","groups":["g"]}`+"\n"+`{"thingName":"c"}`+"\n")
	if exit, out, errs := command(t, "import", "--data", cfg.Data, "--create-missing", things); exit != 0 || !strings.Contains(out, "3 created") {
		t.Fatalf("%d %s %s", exit, out, errs)
	}
	exit, out, errs := command(t, "rehearse", file(t, rehearsalJob), "--data", cfg.Data, "--group", "g")
	if exit != 0 || !strings.Contains(out, "on 2 things") || !strings.Contains(errs, "group g: 2 things") {
		t.Errorf("%d %s %s", exit, out, errs)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", srv.key.AccessKeyID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", srv.key.SecretAccessKey)
	if exit, out, errs := command(t, "rehearse", file(t, rehearsalJob), "--endpoint", srv.endpoints.HTTP, "--group", "g"); exit != 0 || !strings.Contains(out, "on 2 things") {
		t.Errorf("%d %s %s", exit, out, errs)
	}
	if exit, out, errs := command(t, "import", "--data", cfg.Data, file(t, "{}\n"+`{"thingName":"d"}`+"\nnonsense\n")); exit == 0 || !strings.Contains(errs, ":1: ") || !strings.Contains(errs, ":3: ") || !strings.Contains(out, "1 created") {
		t.Errorf("%d %s %s", exit, out, errs)
	}
	if exit, out, _ := command(t, "env", "--data", cfg.Data); exit != 0 || !strings.Contains(out, "AWS_ENDPOINT_URL='"+srv.endpoints.HTTP+"'") {
		t.Errorf("%d %s", exit, out)
	}
}
