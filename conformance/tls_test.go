package conformance

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// TLS, and who comes in with which certificate.

// address of a listener, from its URL.
func address(url string) string { _, addr, _ := strings.Cut(url, "://"); return addr }

// roots are what "drover ca" tells devices to trust.
func (f *fleet) roots() *x509.CertPool {
	f.t.Helper()
	text, err := os.ReadFile(filepath.Join(f.keys, "ca.pem"))
	f.must(err)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		f.t.Fatal("ca.pem has no certificate")
	}
	return pool
}

// tlsFleet returns a fleet on the shared server, which must be ours.
func tlsFleet(t *testing.T) *fleet {
	t.Helper()
	if *endpointFlag != "" {
		t.Skip("needs the data folder of the server; not against a foreign endpoint")
	}
	return newFleet(t)
}

// config is how a device connects that trusts the server; options change it.
func (f *fleet) config(options ...func(*tls.Config)) *tls.Config {
	f.t.Helper()
	c := &tls.Config{RootCAs: f.roots(), ServerName: serverName}
	for _, o := range options {
		o(c)
	}
	return c
}

func with(c identity) func(*tls.Config) {
	return func(cfg *tls.Config) { cfg.Certificates = []tls.Certificate{c.tls} }
}

func protocols(names ...string) func(*tls.Config) {
	return func(cfg *tls.Config) { cfg.NextProtos = names }
}

// noServerName sends no SNI; the server is not verified then.
func noServerName(cfg *tls.Config) { cfg.ServerName, cfg.InsecureSkipVerify = "", true }

func (f *fleet) dialTLS(url string, cfg *tls.Config) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(f.ctx, patience)
	defer cancel()
	conn, err := (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", address(url))
	if err != nil {
		return nil, err
	}
	return conn.(*tls.Conn), nil
}

// overTLS connects an MQTT client of a version (4 = 3.1.1, 5).
func (f *fleet) overTLS(url string, cfg *tls.Config, clientID string, version int) (*device, error) {
	f.t.Helper()
	d := &device{f: f, thing: clientID, mailbox: newMailbox()}
	conn, err := f.dialTLS(url, cfg)
	if err != nil {
		return nil, err
	}
	if version == 5 {
		d.mqttClient, err = connect5On(f.ctx, conn, clientID, d.mailbox)
	} else {
		d.mqttClient, err = connect3On(func() (net.Conn, error) { return conn, nil }, clientID, d.mailbox)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	f.t.Cleanup(d.disconnect)
	return d, nil
}

// allow lets the holder of the certificate do everything.
func (f *fleet) allow(id string) {
	f.t.Helper()
	f.must(f.attachPolicy(f.policy("all-"+id, `{"Effect":"Allow","Action":"iot:*","Resource":"*"}`), f.certARN(id)))
}

// works checks that an MQTT client can connect and is heard, whose certificate, if it is
// registered, is allowed everything.
func (f *fleet) works(url string, cfg *tls.Config) {
	f.t.Helper()
	id := sha256.Sum256(cfg.Certificates[0].Certificate[0])
	arn := f.certARN(hex.EncodeToString(id[:]))
	attached, err := f.api.ListAttachedPolicies(f.ctx, &iot.ListAttachedPoliciesInput{Target: &arn})
	f.must(err)
	if len(attached.Policies) == 0 {
		f.allow(hex.EncodeToString(id[:]))
	}
	for _, version := range []int{4, 5} {
		d, err := f.overTLS(url, cfg, f.name("device"), version)
		if err != nil {
			f.t.Fatalf("version %d: %v", version, err)
		}
		f.must(d.subscribe("$aws/things/"+d.thing+"/jobs/#", 1))
		d.disconnect()
	}
}

// refusal tries to get in, which must fail: in the handshake, or nothing that is said after it is
// answered. It returns what the client learns.
func (f *fleet) refusal(url string, cfg *tls.Config) string {
	f.t.Helper()
	_, err := f.overTLS(url, cfg, f.name("device"), 4)
	if err == nil {
		f.t.Error("connected")
		return ""
	}
	return err.Error()
}

// shut checks that nobody gets in.
func (f *fleet) shut(url string, cfg *tls.Config) {
	f.t.Helper()
	f.refusal(url, cfg)
}

func TestB006MutualTLS(t *testing.T) {
	f := tlsFleet(t)
	f.works(f.mqtts, f.config(with(f.newCertificate(true))))
}

func TestB007B008ByALPN(t *testing.T) {
	f := tlsFleet(t)
	c := f.newCertificate(true)
	cfg := f.config(with(c), protocols("x-amzn-mqtt-ca"))
	f.works(f.alpn, cfg)
	conn, err := f.dialTLS(f.alpn, cfg)
	f.must(err)
	if got := conn.ConnectionState().NegotiatedProtocol; got != "x-amzn-mqtt-ca" {
		t.Errorf("negotiated %q", got)
	}
	f.must(conn.Close())
	// Without the name this is the address of the API.
	for _, cfg := range []*tls.Config{f.config(with(c)), f.config(with(c), protocols("http/1.1"))} {
		conn, err := f.dialTLS(f.alpn, cfg)
		f.must(err)
		_, err = conn.Write([]byte("\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02d1\r\n\r\n"))
		f.must(err)
		answer, err := io.ReadAll(conn)
		f.must(errors.Join(err, conn.Close()))
		if !strings.HasPrefix(string(answer), "HTTP/1.1 400") {
			t.Errorf("answered %q", answer)
		}
	}
	// Names of others are refused.
	if told := f.refusal(f.alpn, f.config(with(c), protocols("x-amzn-other"))); !strings.Contains(told, "no application protocol") {
		t.Errorf("an unknown protocol: %s", told)
	}
}

// client speaks HTTPS over connections of a config.
func (f *fleet) httpClient(cfg *tls.Config) *http.Client {
	transport := &http.Transport{TLSClientConfig: cfg}
	f.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

// pending asks for the pending jobs of a thing over the HTTPS plane of devices.
func (f *fleet) pending(client *http.Client, url, thing string) (int, error) {
	f.t.Helper()
	r, err := http.NewRequestWithContext(f.ctx, "GET", url+"/things/"+thing+"/jobs", nil)
	f.must(err)
	resp, err := client.Do(r)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, errors.Join(err, resp.Body.Close())
}

// alpnClient is an HTTP client that names its protocol, which net/http by itself does not do.
func (f *fleet) alpnClient(cfg *tls.Config) *http.Client {
	transport := &http.Transport{DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&tls.Dialer{Config: cfg}).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return struct{ net.Conn }{conn}, nil
	}}
	f.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

func TestDevicesOverHTTPS(t *testing.T) {
	f := tlsFleet(t)
	thing, c := f.thing("t"), f.newCertificate(true)
	f.must(f.attachPolicy(f.policy("all", f.say("Allow", "iotjobsdata:*", "thing/*")), f.certARN(c.id)))
	if status, err := f.pending(f.httpClient(f.config(with(c))), f.deviceHTTPS, thing); err != nil || status != 200 {
		t.Errorf("%d, %v", status, err)
	}
	if status, err := f.pending(f.alpnClient(f.config(with(c), protocols("x-amzn-http-ca"))), f.alpn, thing); err != nil || status != 200 {
		t.Errorf("by ALPN: %d, %v", status, err)
	}
	if status, err := f.pending(f.httpClient(f.config()), f.deviceHTTPS, thing); err == nil {
		t.Errorf("without a certificate: %d", status)
	}
	// The API is not there, and here no signature is asked for.
	if status, err := f.pending(f.httpClient(f.config(with(c))), f.alpn, thing); err != nil || status != 403 {
		t.Errorf("the API without a signature: %d, %v", status, err)
	}
}

func TestB012B013Versions(t *testing.T) {
	f := tlsFleet(t)
	c := f.newCertificate(true)
	version := func(v uint16) func(*tls.Config) {
		return func(cfg *tls.Config) { cfg.MinVersion, cfg.MaxVersion = v, v }
	}
	for _, url := range []string{f.mqtts, f.deviceHTTPS, f.alpn} {
		for v, good := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
			conn, err := f.dialTLS(url, f.config(with(c), version(v)))
			if good != (err == nil) {
				t.Errorf("%s %s: %v", url, tls.VersionName(v), err)
			}
			if err == nil {
				f.must(conn.Close())
			}
		}
	}
	f.works(f.mqtts, f.config(with(c), version(tls.VersionTLS12)))
	// RSA key exchange and CBC are gone.
	_, err := f.dialTLS(f.mqtts, f.config(with(c), version(tls.VersionTLS12), func(cfg *tls.Config) {
		cfg.CipherSuites = []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
	}))
	if err == nil {
		t.Error("an old cipher suite is accepted")
	}
}

func TestB014B015ServerName(t *testing.T) {
	f := tlsFleet(t)
	c := f.newCertificate(true)
	f.works(f.mqtts, f.config(with(c), noServerName))
	told := f.refusal(f.mqtts, f.config(with(c), func(cfg *tls.Config) { cfg.ServerName, cfg.InsecureSkipVerify = "elsewhere.test", true }))
	if !strings.Contains(told, "unrecognized name") {
		t.Errorf("another name: %s", told)
	}

	strict := fleetOn(t, ownServer(t, "--tls", "--tls-name", serverName, "--mqtts", "127.0.0.1:0", "--require-sni"))
	c = strict.newCertificate(true)
	strict.works(strict.mqtts, strict.config(with(c)))
	strict.shut(strict.mqtts, strict.config(with(c), noServerName))
}

// TestB016B017B018B019Refused: each kind of certificate that must not come in, at every door, in both
// versions of TLS. The client learns the same of all of them.
func TestB016B017B018B019Refused(t *testing.T) {
	f := tlsFleet(t)
	thing := f.thing("t")
	own := func(status types.CertificateStatus) identity {
		c := f.newCertificate(true)
		if status != types.CertificateStatusActive {
			f.must(f.setStatus(c.id, status))
		}
		return c
	}
	alone := func(options ...func(*x509.Certificate)) identity {
		c := selfSigned(t, "x", options...)
		f.registerAlone(c, types.CertificateStatusActive)
		return c
	}
	ca := newAuthority(t, f.name("ca"))
	f.mustCA(ca) // without auto registration
	deleted := own(types.CertificateStatusInactive)
	f.must(f.deleteCertificate(deleted.id, false))
	refused := map[string]identity{
		"of an unknown CA":                      newAuthority(t, "nobody").sign("x"),
		"of a CA with the name of another":      newAuthority(t, f.name("ca")).sign("x"),
		"of a CA without automatic registering": ca.sign("x"),
		"self-signed":                           selfSigned(t, "x"),
		"inactive":                              own(types.CertificateStatusInactive),
		"revoked":                               own(types.CertificateStatusRevoked),
		"deleted":                               deleted,
		"expired": alone(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
		}),
		"not yet valid": alone(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }),
		"of a server":   alone(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }),
		"of a CA":       alone(func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign }),
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		at := func(cfg *tls.Config) { cfg.MinVersion, cfg.MaxVersion = version, version }
		seen := map[string][]string{}
		for name, c := range refused {
			text := f.refusal(f.mqtts, f.config(with(c), at))
			if strings.Contains(text, "bad certificate") || strings.Contains(text, "EOF") || strings.Contains(text, "reset") || strings.Contains(text, "lost") {
				text = "refused"
			}
			seen[text] = append(seen[text], name)
			if status, err := f.pending(f.httpClient(f.config(with(c), at)), f.deviceHTTPS, thing); err == nil {
				t.Errorf("%s: HTTPS answers %d", name, status)
			}
			if status, err := f.pending(f.alpnClient(f.config(with(c), at, protocols("x-amzn-http-ca"))), f.alpn, thing); err == nil {
				t.Errorf("%s: HTTPS by ALPN answers %d", name, status)
			}
		}
		if len(seen) != 1 {
			t.Errorf("%s: refusals can be told apart: %v", tls.VersionName(version), seen)
		}
	}
	f.shut(f.mqtts, f.config())
}

func TestB020WithoutCA(t *testing.T) {
	f := tlsFleet(t)
	c := newAuthority(t, "nobody").sign("x")
	f.registerAlone(c, types.CertificateStatusActive)
	f.works(f.mqtts, f.config(with(c)))
}

func TestB021WithoutTheKey(t *testing.T) {
	f := tlsFleet(t)
	c := f.newCertificate(true)
	stolen := identity{tls: tls.Certificate{Certificate: c.tls.Certificate, PrivateKey: newKey(t)}}
	f.shut(f.mqtts, f.config(with(stolen)))
	// A key of the kind of the certificate's.
	ec := selfSigned(t, "x")
	f.registerAlone(ec, types.CertificateStatusActive)
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	f.must(err)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		f.shut(f.mqtts, f.config(with(identity{tls: tls.Certificate{Certificate: ec.tls.Certificate, PrivateKey: other}}),
			func(cfg *tls.Config) { cfg.MinVersion, cfg.MaxVersion = version, version }))
	}
}

// TestB163Disconnected: a certificate that is no good any more ends what is connected with it,
// before the change is answered or right after.
func TestB163Disconnected(t *testing.T) {
	f := tlsFleet(t)
	thing := f.thing("t")
	for name, change := range map[string]func(id string) error{
		"deactivated": func(id string) error { return f.setStatus(id, types.CertificateStatusInactive) },
		"revoked":     func(id string) error { return f.setStatus(id, types.CertificateStatusRevoked) },
	} {
		for _, version := range []int{4, 5} {
			c, other := f.newCertificate(true), f.newCertificate(true)
			f.allow(c.id)
			f.allow(other.id)
			d, err := f.overTLS(f.mqtts, f.config(with(c)), f.name("d"), version)
			f.must(err)
			bystander, err := f.overTLS(f.mqtts, f.config(with(other)), f.name("b"), version)
			f.must(err)
			watcher := f.connectAs("watcher", f.name(rand.Text()), 4)
			topic := "$aws/events/presence/disconnected/" + f.name("d")
			f.must(watcher.subscribe(topic, 1))
			client := f.httpClient(f.config(with(c)))
			if status, err := f.pending(client, f.deviceHTTPS, thing); err != nil || status != 200 {
				t.Fatalf("%d, %v", status, err)
			}
			f.must(change(c.id))
			select {
			case <-d.gone:
			case <-time.After(patience):
				t.Errorf("%s, version %d: still connected", name, version)
			}
			if version == 5 && !strings.Contains(d.loss.Error(), "0x87") {
				t.Errorf("%s: %v", name, d.loss)
			}
			event, err := watcher.wait(0, func(m message) bool { return m.topic == topic })
			f.must(err)
			if event.json["disconnectReason"] != "AUTH_ERROR" || event.json["principalIdentifier"] != c.id || event.json["clientInitiatedDisconnect"] != false {
				t.Errorf("%s: event %s", name, event.payload)
			}
			watcher.disconnect()
			if status, err := f.pending(client, f.deviceHTTPS, thing); err == nil && status == 200 {
				t.Errorf("%s: HTTPS goes on", name)
			}
			f.shut(f.mqtts, f.config(with(c)))
			f.must(bystander.subscribe("$aws/things/x/jobs/#", 0))
			bystander.disconnect()
		}
	}
}

// automatic registers a CA whose devices register by connecting.
func automatic(in *iot.RegisterCACertificateInput) { in.AllowAutoRegistration = true }

func TestB159InactiveCA(t *testing.T) {
	f := tlsFleet(t)
	a := newAuthority(t, f.name("ca"))
	ca := f.mustCA(a, automatic)
	known := a.sign("known")
	_, err := f.api.RegisterCertificate(f.ctx, &iot.RegisterCertificateInput{CertificatePem: &known.pem, Status: types.CertificateStatusActive})
	f.must(err)
	_, err = f.api.UpdateCACertificate(f.ctx, &iot.UpdateCACertificateInput{CertificateId: &ca, NewStatus: types.CACertificateStatusInactive})
	f.must(err)
	fresh := a.sign("fresh")
	f.shut(f.mqtts, f.config(with(fresh)))
	_, err = f.api.DescribeCertificate(f.ctx, &iot.DescribeCertificateInput{CertificateId: &fresh.id})
	f.refused(err, "ResourceNotFoundException", 404)
	f.works(f.mqtts, f.config(with(known)))
}

func TestB172B173B174B175JustInTimeRegistration(t *testing.T) {
	f := tlsFleet(t)
	a := newAuthority(t, f.name("ca"))
	ca := f.mustCA(a, automatic)
	topic := "$aws/events/certificates/registered/" + ca
	watcher := f.connectAs("watcher", f.name("watcher"), 4)
	f.must(watcher.subscribe(topic, 1))

	c := a.sign("pump-7")
	// Without the key nothing is registered.
	f.shut(f.mqtts, f.config(with(identity{tls: tls.Certificate{Certificate: c.tls.Certificate, PrivateKey: newKey(t)}})))
	_, err := f.api.DescribeCertificate(f.ctx, &iot.DescribeCertificateInput{CertificateId: &c.id})
	f.refused(err, "ResourceNotFoundException", 404)

	registered := ""
	for n := range 2 {
		before := time.Now().Add(-time.Second).UnixMilli()
		f.shut(f.mqtts, f.config(with(c)))
		m, err := watcher.wait(n, func(m message) bool { return m.topic == topic })
		f.must(err)
		var event struct {
			CertificateID, CACertificateID, CertificateStatus, AWSAccountID, CertificateRegistrationTimestamp string
			Timestamp                                                                                         int64
		}
		if err := json.Unmarshal([]byte(m.payload), &event); err != nil { // text in a number's place is an error
			t.Fatalf("%s: %v", m.payload, err)
		}
		if event.CertificateID != c.id || event.CACertificateID != ca || event.CertificateStatus != "PENDING_ACTIVATION" ||
			event.AWSAccountID != f.account || event.Timestamp < before {
			t.Errorf("event %s", m.payload)
		}
		if n == 0 {
			registered = event.CertificateRegistrationTimestamp
		}
		if event.CertificateRegistrationTimestamp != registered || registered == "" || fmt.Sprint(event.Timestamp) < registered {
			t.Errorf("registered at %q, first %q", event.CertificateRegistrationTimestamp, registered)
		}
		if got := f.certificate(c.id); got.Status != types.CertificateStatusPendingActivation || aws.ToString(got.CaCertificateId) != ca ||
			got.CertificateMode != types.CertificateModeDefault {
			t.Errorf("%s %s %s", got.Status, aws.ToString(got.CaCertificateId), got.CertificateMode)
		}
	}
	f.must(f.setStatus(c.id, types.CertificateStatusActive))
	f.must(f.attach(f.thing("pump"), c.id, ""))
	f.works(f.mqtts, f.config(with(c)))
}

// TestTwinOfRevoked: a revoked device cannot come back with a certificate that it made of its own by
// changing the signature into the other one that holds.
func TestTwinOfRevoked(t *testing.T) {
	f := tlsFleet(t)
	a := newAuthority(t, f.name("ca"))
	f.mustCA(a, automatic)
	c := a.sign("pump")
	f.shut(f.mqtts, f.config(with(c)))
	f.must(f.setStatus(c.id, types.CertificateStatusActive))
	f.works(f.mqtts, f.config(with(c)))

	twin := twinOf(t, c)
	if x, err := x509.ParseCertificate(twin.tls.Certificate[0]); err != nil || x.CheckSignatureFrom(a.cert) != nil || twin.id == c.id {
		t.Fatalf("no twin: %v", err)
	}
	f.must(f.setStatus(c.id, types.CertificateStatusRevoked))
	for _, x := range []identity{c, twin} {
		f.shut(f.mqtts, f.config(with(x)))
	}
	_, err := f.api.DescribeCertificate(f.ctx, &iot.DescribeCertificateInput{CertificateId: &twin.id})
	f.refused(err, "ResourceNotFoundException", 404)
}

// twinOf returns the certificate with the other ECDSA signature that holds: (r, n-s) for (r, s).
func twinOf(t *testing.T, c identity) identity {
	t.Helper()
	var outer struct {
		Body, Algorithm asn1.RawValue
		Signature       asn1.BitString
	}
	var signature struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(c.tls.Certificate[0], &outer); err != nil {
		t.Fatal(err)
	}
	if _, err := asn1.Unmarshal(outer.Signature.Bytes, &signature); err != nil {
		t.Fatal(err)
	}
	signature.S.Sub(elliptic.P256().Params().N, signature.S)
	bits, err := asn1.Marshal(signature)
	if err != nil {
		t.Fatal(err)
	}
	outer.Signature = asn1.BitString{Bytes: bits, BitLength: 8 * len(bits)}
	der, err := asn1.Marshal(outer)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	return identity{id: hex.EncodeToString(sum[:]), tls: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: c.tls.PrivateKey}}
}

// jitp is a template for devices that come by themselves: it names the device after its subject.
const jitp = `{
	"Parameters": {
		"AWS::IoT::Certificate::CommonName": {"Type": "String"},
		"AWS::IoT::Certificate::Country": {"Type": "String"},
		"AWS::IoT::Certificate::Id": {"Type": "String"}
	},
	"Resources": {
		"thing": {"Type": "AWS::IoT::Thing", "Properties": {
			"ThingName": {"Fn::Join": ["-", ["%s", {"Ref": "AWS::IoT::Certificate::CommonName"}]]},
			"AttributePayload": {"country": {"Ref": "AWS::IoT::Certificate::Country"}},
			"ThingGroups": ["%s"]
		}},
		"certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "ACTIVE"}},
		"policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument": {"Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]}}}
	}
}`

func TestB176B177JustInTimeProvisioning(t *testing.T) {
	f := tlsFleet(t)
	group := f.group("pumps", "")
	body := fmt.Sprintf(jitp, f.prefix, group)
	template := f.name("jitp")
	_, err := f.api.CreateProvisioningTemplate(f.ctx, &iot.CreateProvisioningTemplateInput{
		TemplateName: &template, TemplateBody: &body, Type: types.TemplateTypeJitp, Enabled: aws.Bool(true),
		ProvisioningRoleArn: aws.String("arn:aws:iam::123456789012:role/x"),
	})
	f.must(err)
	for name, config := range map[string]*types.RegistrationConfig{
		"body":     {TemplateBody: &body, RoleArn: aws.String("arn:aws:iam::123456789012:role/x")},
		"template": {TemplateName: &template},
	} {
		a := newAuthority(t, f.name("ca-of-"+name))
		f.mustCA(a, automatic, func(in *iot.RegisterCACertificateInput) { in.RegistrationConfig = config })
		c := a.sign("by-"+name, func(x *x509.Certificate) { x.Subject.Country = []string{"CH"} })
		f.shut(f.mqtts, f.config(with(c))) // the first connection is dropped all the same
		if got := f.certificate(c.id); got.Status != types.CertificateStatusActive {
			t.Errorf("%s: the certificate is %s", name, got.Status)
		}
		thing, err := f.api.DescribeThing(f.ctx, &iot.DescribeThingInput{ThingName: aws.String(f.name("by-" + name))})
		f.must(err)
		things, err := f.api.ListPrincipalThings(f.ctx, &iot.ListPrincipalThingsInput{Principal: aws.String(f.certARN(c.id))})
		f.must(err)
		groups, err := f.api.ListThingGroupsForThing(f.ctx, &iot.ListThingGroupsForThingInput{ThingName: thing.ThingName})
		f.must(err)
		policies, err := f.api.ListAttachedPolicies(f.ctx, &iot.ListAttachedPoliciesInput{Target: aws.String(f.certARN(c.id))})
		f.must(err)
		if len(policies.Policies) != 1 {
			t.Errorf("%s: policies %v", name, policies.Policies)
		}
		if thing.Attributes["country"] != "CH" || fmt.Sprint(things.Things) != fmt.Sprint([]string{*thing.ThingName}) || len(groups.ThingGroups) != 1 {
			t.Errorf("%s: attributes %v, attached to %v, groups %v", name, thing.Attributes, things.Things, groups.ThingGroups)
		}
		f.works(f.mqtts, f.config(with(c)))

		// A subject without what the template declares.
		poor := a.sign("poor-" + name)
		f.shut(f.mqtts, f.config(with(poor)))
		if got := f.certificate(poor.id); got.Status != types.CertificateStatusPendingActivation {
			t.Errorf("%s: without a country the certificate is %s", name, got.Status)
		}
		_, err = f.api.DescribeThing(f.ctx, &iot.DescribeThingInput{ThingName: aws.String(f.name("poor-" + name))})
		f.refused(err, "ResourceNotFoundException", 404)
		f.shut(f.mqtts, f.config(with(poor)))
	}
}

func TestB178TemplatesOfCAs(t *testing.T) {
	f := tlsFleet(t)
	body := fmt.Sprintf(jitp, f.prefix, "g")
	template := f.name("fleet")
	_, err := f.api.CreateProvisioningTemplate(f.ctx, &iot.CreateProvisioningTemplateInput{
		TemplateName: &template, TemplateBody: &body, Enabled: aws.Bool(true), ProvisioningRoleArn: aws.String("arn:aws:iam::123456789012:role/x"),
	})
	f.must(err)
	role := aws.String("arn:aws:iam::123456789012:role/x")
	ca := f.mustCA(newAuthority(t, f.name("ca")))
	for name, config := range map[string]*types.RegistrationConfig{
		"type":       {TemplateName: &template},
		"unknown":    {TemplateName: aws.String(f.name("nobody"))},
		"both":       {TemplateName: &template, TemplateBody: &body, RoleArn: role},
		"none":       {RoleArn: role},
		"no role":    {TemplateBody: &body},
		"no section": {TemplateBody: aws.String(`{"Nothing": {}}`), RoleArn: role},
		"no JSON":    {TemplateBody: aws.String(`{`), RoleArn: role},
	} {
		_, err := f.registerCA(newAuthority(t, f.name(name)), func(in *iot.RegisterCACertificateInput) { in.RegistrationConfig = config })
		f.refused(err, "InvalidRequestException", 400)
		_, err = f.api.UpdateCACertificate(f.ctx, &iot.UpdateCACertificateInput{CertificateId: &ca, RegistrationConfig: config})
		f.refused(err, "InvalidRequestException", 400)
	}
}

func TestB231ClaimConnects(t *testing.T) {
	f := tlsFleet(t)
	body := fmt.Sprintf(jitp, f.prefix, "g")
	template := f.name("fleet")
	_, err := f.api.CreateProvisioningTemplate(f.ctx, &iot.CreateProvisioningTemplateInput{
		TemplateName: &template, TemplateBody: &body, Enabled: aws.Bool(true), ProvisioningRoleArn: aws.String("arn:aws:iam::123456789012:role/x"),
	})
	f.must(err)
	out, err := f.api.CreateProvisioningClaim(f.ctx, &iot.CreateProvisioningClaimInput{TemplateName: &template})
	f.must(err)
	pair, err := tls.X509KeyPair([]byte(*out.CertificatePem), []byte(*out.KeyPair.PrivateKey))
	f.must(err)
	d, err := f.overTLS(f.mqtts, f.config(with(identity{tls: pair})), f.name("fresh"), 4)
	f.must(err)
	f.must(d.subscribe("$aws/certificates/create/json/accepted", 1))
	_, err = f.api.DescribeCertificate(f.ctx, &iot.DescribeCertificateInput{CertificateId: out.CertificateId})
	f.refused(err, "ResourceNotFoundException", 404)
}

// TestRotation: with a new root, made while the server runs, devices that know either root trust the
// server, and what they hold stays good.
func TestRotation(t *testing.T) {
	f := fleetOn(t, ownServer(t, "--tls", "--tls-name", serverName, "--mqtts", "127.0.0.1:0"))
	drover, err := binary()
	f.must(err)
	run := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(f.ctx, drover, append(args, "--data", f.data)...).Output()
		f.must(err)
		return string(out)
	}
	before, old := f.newCertificate(true), f.config()
	f.allow(before.id)
	run("ca", "rotate")
	if got := run("ca"); strings.Count(got, "BEGIN CERTIFICATE") != 2 {
		t.Errorf("the roots are %s", got)
	}
	newest := f.config()
	newest.RootCAs = x509.NewCertPool()
	first, _ := pem.Decode([]byte(run("ca")))
	root, err := x509.ParseCertificate(first.Bytes)
	f.must(err)
	newest.RootCAs.AddCert(root)
	after := f.newCertificate(true)
	f.allow(after.id)
	f.eventually("the server shows a certificate of the new root", func() bool {
		cfg := newest.Clone()
		with(before)(cfg)
		conn, err := f.dialTLS(f.mqtts, cfg)
		return err == nil && conn.Close() == nil
	})
	for _, cfg := range []*tls.Config{old, newest} {
		for _, c := range []identity{before, after} {
			cfg := cfg.Clone()
			with(c)(cfg)
			f.works(f.mqtts, cfg)
		}
	}
	if one, two := f.certificate(before.id), f.certificate(after.id); aws.ToString(one.CaCertificateId) == aws.ToString(two.CaCertificateId) {
		t.Error("both were signed by one root")
	}

	// The old root goes when nothing that it signed is registered any more.
	restart := func(roots int) {
		t.Helper()
		f.must(f.terminate())
		s, err := start(f.data, "--tls", "--tls-name", serverName, "--mqtts", "127.0.0.1:0")
		f.must(err)
		f.server, f.api = s, s.client()
		if got := run("ca"); strings.Count(got, "BEGIN CERTIFICATE") != roots {
			t.Errorf("want %d roots, have %s", roots, got)
		}
	}
	restart(2)
	f.must(f.setStatus(before.id, types.CertificateStatusInactive))
	f.must(f.deleteCertificate(before.id, true))
	restart(1)
	f.must(f.terminate())
}
