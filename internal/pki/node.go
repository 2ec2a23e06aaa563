package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// nodeName is in the certificates of nodes and in no other that an Authority makes: those of
// devices have no names, and those of servers are good for servers only.
const nodeName = "node.drover.internal"

// Nodes returns how the nodes that have the same Authority talk to each other: both sides show a
// certificate that it has made for a node, whatever their addresses. It goes with rotations.
func (a *Authority) Nodes(now func() time.Time) *tls.Config {
	var mu sync.Mutex
	var current *tls.Certificate
	var root []byte
	certificate := func() (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		s, err := a.load(true, now())
		if err != nil {
			return nil, err
		}
		if current == nil || now().Add(ServerLifetime/2).After(current.Leaf.NotAfter) || !slices.Equal(root, s.roots[0].Raw) {
			if current, err = s.issueNode(now()); err != nil {
				return nil, err
			}
			root = s.roots[0].Raw
		}
		return current, nil
	}
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		ClientAuth:           tls.RequireAnyClientCert,
		GetCertificate:       func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certificate() },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate() },
		// Who the other is says his certificate, not his address, and which roots count may change:
		// all of that is verified here, on both sides.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			s, err := a.load(true, now())
			if err != nil {
				return err
			}
			return s.verifyNode(state.PeerCertificates, now())
		},
	}
}

func (s *state) issueNode(now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{"drover"}, CommonName: "drover node"},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(ServerLifetime),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:              []string{nodeName},
	}
	if template.NotAfter.After(Expiry) {
		template.NotAfter = Expiry
	}
	c, err := create(template, s.roots[0], key.Public(), s.key)
	if err != nil {
		return nil, err
	}
	out := &tls.Certificate{PrivateKey: key, Leaf: c, Certificate: [][]byte{c.Raw}}
	for _, link := range s.cross {
		out.Certificate = append(out.Certificate, link.Raw)
	}
	return out, nil
}

// verifyNode says what is wrong with the certificate of another node.
func (s *state) verifyNode(chain []*x509.Certificate, now time.Time) error {
	if len(chain) == 0 {
		return errors.New("the other node shows no certificate")
	}
	options := x509.VerifyOptions{
		DNSName: nodeName, Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, root := range s.roots {
		options.Roots.AddCert(root)
	}
	for _, link := range chain[1:] {
		options.Intermediates.AddCert(link)
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		if !slices.Contains(chain[0].ExtKeyUsage, usage) {
			return errors.New("that is not the certificate of a node")
		}
	}
	if _, err := chain[0].Verify(options); err != nil {
		return fmt.Errorf("the certificate of the other node: %w", err)
	}
	return nil
}
