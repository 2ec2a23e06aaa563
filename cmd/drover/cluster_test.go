package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"testing"
	"time"

	"drover/internal/cluster"
	"drover/internal/mqtttest"
)

// certified writes an authority of the test's own and a certificate that it has signed for this
// machine, and returns the flags that name them.
func certified(t *testing.T) clusterFlags {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	sign := func(template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) (*x509.Certificate, string) {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
		must(err)
		c, err := x509.ParseCertificate(der)
		must(err)
		return c, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	root, rootText := sign(root, root, key, key)
	_, text := sign(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "node"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, root, key, key)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)
	return clusterFlags{
		Listen: "127.0.0.1:0", Name: "drover",
		Cert: file(t, text), CA: file(t, rootText), Key: file(t, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))),
	}
}

// TestClusterWithCertificatesOfYourOwn: nodes that show certificates of one authority find each other,
// and nobody else.
func TestClusterWithCertificatesOfYourOwn(t *testing.T) {
	t.Parallel()
	start := func(id int64, flags clusterFlags, peer *cluster.Node) *cluster.Node {
		t.Helper()
		if peer != nil {
			flags.Peers = []string{peer.Addr()}
		}
		if err := flags.check(true); err != nil {
			t.Fatal(err)
		}
		log := slog.New(slog.DiscardHandler)
		cfg, err := flags.config(id, t.TempDir(), &peers{log: log}, log)
		if err != nil {
			t.Fatal(err)
		}
		n, err := cluster.Start(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(n.Close)
		return n
	}
	ours := certified(t)
	a := start(1, ours, nil)
	stranger := start(2, certified(t), a)
	b := start(3, ours, a)
	for _, n := range []*cluster.Node{a, b} {
		until(t, "the other node is there", func() bool { return len(n.Peers()) == 1 })
	}
	if got := stranger.Peers(); len(got) != 0 {
		t.Errorf("a stranger sees %q", got)
	}
	if got := a.Peers(); got[0] != "n3" {
		t.Errorf("nodes see %q", got)
	}
}

// until waits for a condition.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(mqtttest.Patience)
	for tick := time.NewTicker(5 * time.Millisecond); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("it never came that %s", what)
		}
	}
}
