package registry

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"

	"drover/internal/iot"
	"drover/internal/pki"
	"drover/internal/store"
)

// told is an Identities that writes down what it is told about certificates.
type told struct{ certificates []string }

func (l *told) CertificateChanged(id iot.CertificateID, alive bool) {
	l.certificates = append(l.certificates, fmt.Sprintf("%.4s %v", id, alive))
}
func (l *told) ThingsChanged([]iot.ThingName)     {}
func (l *told) PoliciesChanged(iot.CertificateID) {}

// certified is a fixture with an authority, whose Identities write down.
func certified(t *testing.T) (*fixture, *told) {
	t.Helper()
	f, log := newFixture(t, Limits{}), &told{}
	f.Registry = New(Config{
		Store: f.store, Jobs: f.jobs, Realm: realm, Authority: pki.Open(t.TempDir()), Identities: log, Now: func() time.Time { return f.clock },
	})
	return f, log
}

// signedBy makes a certificate: parent and signer nil for one of its own.
func (f *fixture) signedBy(parent *x509.Certificate, signer *ecdsa.PrivateKey, change func(*x509.Certificate)) (*x509.Certificate, *ecdsa.PrivateKey) {
	f.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	f.must(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotBefore: f.clock.Add(-time.Hour), NotAfter: f.clock.Add(time.Hour),
		BasicConstraintsValid: true,
	}
	if change != nil {
		change(template)
	}
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	f.must(err)
	c, err := x509.ParseCertificate(der)
	f.must(err)
	return c, key
}

// ca registers an active CA; options change the request.
func (f *fixture) ca(options ...func(*iot.CARegistration)) (*iot.CACertificate, *x509.Certificate, *ecdsa.PrivateKey) {
	f.t.Helper()
	c, key := f.signedBy(nil, nil, func(c *x509.Certificate) { c.IsCA = true })
	n := iot.CARegistration{PEM: pki.Encode(c), Mode: iot.ModeSNIOnly, Active: true, Actor: "test"}
	for _, o := range options {
		o(&n)
	}
	ca, err := f.RegisterCA(f.t.Context(), n)
	f.must(err)
	return ca, c, key
}

func automatic(n *iot.CARegistration) { n.AutoRegistration = true }

func TestCertificateChangesAreTold(t *testing.T) {
	t.Parallel()
	f, log := certified(t)
	f.thing("pump")
	want := func(lines ...string) {
		t.Helper()
		if !slices.Equal(log.certificates, lines) {
			t.Errorf("told %q, want %q", log.certificates, lines)
		}
		log.certificates = nil
	}
	cert, keys, err := f.CreateCertificate(t.Context(), iot.CertificateRequest{Active: true, Actor: "test"})
	f.must(err)
	if keys.Private == "" {
		t.Error("no key")
	}
	id := string(cert.ID[:4])
	want(id + " true")
	update := func(status iot.CertificateStatus) error {
		return f.UpdateCertificate(t.Context(), iot.CertificateUpdate{ID: cert.ID, Status: status, Actor: "test"})
	}
	f.must(update(iot.CertificateActive))
	want()
	f.must(update(iot.CertificateInactive))
	want(id + " false")
	f.refused(update(iot.CertificatePendingActivation), iot.InvalidRequest, "newStatus")
	want()
	attachment := iot.Attachment{Thing: "pump", Principal: realm.ARN(iot.KindCert, string(cert.ID)), Actor: "test"}
	f.must(f.Attach(t.Context(), attachment))
	f.must(f.Attach(t.Context(), attachment))
	want(id + " false")
	deletion := iot.CertificateDeletion{ID: cert.ID, Actor: "test"}
	f.refused(f.DeleteCertificate(t.Context(), deletion), iot.DeleteConflict, "pump")
	want()
	f.must(f.Detach(t.Context(), attachment))
	f.must(f.Detach(t.Context(), attachment))
	want(id + " false")
	f.must(f.DeleteCertificate(t.Context(), deletion))
	want(id + " false")
}

func TestIntroduce(t *testing.T) {
	t.Parallel()
	f, log := certified(t)
	ca, caCert, caKey := f.ca(automatic)
	_, manualCert, manualKey := f.ca()
	introduced := func() (events []iot.CertificateEvent) {
		t.Helper()
		f.must(f.store.View(t.Context(), func(rd store.Reader) error {
			records, err := rd.Records(0, 0, 1000)
			for _, r := range records {
				if r.Kind == iot.CertificateIntroduced {
					var e iot.CertificateEvent
					f.must(json.Unmarshal(r.Data, &e))
					events = append(events, e)
				}
			}
			return err
		}))
		return events
	}
	refused := func(c *x509.Certificate, code iot.Code, text string) {
		t.Helper()
		f.refused(f.Introducible(t.Context(), c), code, text)
		f.refused(f.Introduce(t.Context(), c), code, text)
		if _, err := f.Certificate(t.Context(), pki.ID(c)); iot.ErrorCode(err) != iot.NotFound {
			t.Errorf("registered all the same: %v", err)
		}
	}
	stranger, _ := f.signedBy(nil, nil, nil)
	refused(stranger, iot.CertificateInvalid, "not signed by a registered CA")
	manual, _ := f.signedBy(manualCert, manualKey, nil)
	refused(manual, iot.CertificateState, "lets nobody register")
	expired, _ := f.signedBy(caCert, caKey, func(c *x509.Certificate) { c.NotAfter = f.clock.Add(-time.Minute) })
	refused(expired, iot.CertificateState, "not valid at this time")
	if got := introduced(); len(got) != 0 {
		t.Errorf("events %v", got)
	}

	log.certificates = nil
	c, _ := f.signedBy(caCert, caKey, nil)
	id, first := pki.ID(c), iot.At(f.clock)
	f.must(f.Introducible(t.Context(), c))
	f.must(f.Introduce(t.Context(), c))
	f.clock = f.clock.Add(time.Minute)
	f.must(f.Introduce(t.Context(), c))
	want := iot.CertificateEvent{ID: id, CA: ca.ID, Status: iot.CertificatePendingActivation, RegisteredAt: first}
	if got := introduced(); len(got) != 2 || got[0] != want || got[1] != want {
		t.Errorf("events %+v, want twice %+v", got, want)
	}
	if got, err := f.Certificate(t.Context(), id); err != nil || got.Status != iot.CertificatePendingActivation || got.Mode != iot.ModeSNIOnly {
		t.Errorf("%+v, %v", got, err)
	}
	if len(log.certificates) != 0 {
		t.Errorf("the connection that brought it is ended before its end: %v", log.certificates)
	}
	f.must(f.UpdateCertificate(t.Context(), iot.CertificateUpdate{ID: id, Status: iot.CertificateActive, Actor: "test"}))
	f.refused(f.Introduce(t.Context(), c), iot.CertificateState, "ACTIVE")
}

func TestHolder(t *testing.T) {
	t.Parallel()
	f, _ := certified(t)
	cert, _, err := f.CreateCertificate(t.Context(), iot.CertificateRequest{Active: true, Actor: "test"})
	f.must(err)
	h, err := f.Holder(t.Context(), cert.ID)
	f.must(err)
	f.must(h.Admissible(iot.At(f.clock)))
	f.refused(h.Admissible(h.NotAfter+1), iot.CertificateState, "expired")
	f.refused(h.Admissible(h.NotBefore-1), iot.CertificateState, "not yet valid")
	_, err = f.Holder(t.Context(), "0")
	f.refused(err, iot.NotFound)
}

// TestSigner: a CA certificate that was renewed with its key is the same signer twice, and the
// caller has to say which is meant.
func TestSigner(t *testing.T) {
	t.Parallel()
	f, _ := certified(t)
	_, one, key := f.ca()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: one.Subject, NotBefore: f.clock, NotAfter: f.clock.Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}, one, key.Public(), key)
	f.must(err)
	two, err := x509.ParseCertificate(der)
	f.must(err)
	_, err = f.RegisterCA(t.Context(), iot.CARegistration{PEM: pki.Encode(two), Mode: iot.ModeSNIOnly, Active: true, Actor: "test"})
	f.must(err)
	c, _ := f.signedBy(one, key, nil)
	// Who comes by itself names none: it is enough that one of them lets it.
	f.refused(f.Introducible(t.Context(), c), iot.CertificateState)
	on := true
	f.must(f.UpdateCA(t.Context(), iot.CAUpdate{ID: pki.ID(two), AutoRegistration: &on, Actor: "test"}))
	f.must(f.Introducible(t.Context(), c))
	_, err = f.RegisterCertificate(t.Context(), iot.CertificateRegistration{PEM: pki.Encode(c), Actor: "test"})
	f.refused(err, iot.CertificateConflict, "caCertificatePem")
	got, err := f.RegisterCertificate(t.Context(), iot.CertificateRegistration{PEM: pki.Encode(c), CAPEM: pki.Encode(two), Actor: "test"})
	f.must(err)
	if got.CA != pki.ID(two) {
		t.Errorf("registered under %s", got.CA)
	}
}
