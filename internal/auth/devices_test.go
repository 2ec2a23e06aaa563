package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"math/big"
	"testing"
	"time"

	"drover/internal/iot"
	"drover/internal/pki"
)

// shelf is a registry of one certificate.
type shelf struct {
	holder     *iot.Holder
	err        error
	lookups    int
	during     func() // runs while a holder is looked up
	introduced int
	known      error // what Introducible says
}

func (s *shelf) Holder(context.Context, iot.CertificateID) (*iot.Holder, error) {
	s.lookups++
	h, err := s.holder, s.err
	if s.during != nil {
		s.during()
	}
	if h == nil && err == nil {
		err = iot.Errorf(iot.NotFound, "none")
	}
	return h, err
}

func (s *shelf) Introducible(context.Context, *x509.Certificate) error { return s.known }

func (s *shelf) Introduce(context.Context, *x509.Certificate) error {
	if s.known == nil {
		s.introduced++
	}
	return s.known
}

var deviceTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// shown is the state of a connection whose client showed a certificate.
func shown(t *testing.T, options ...func(*x509.Certificate)) tls.ConnectionState {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), BasicConstraintsValid: true}
	for _, o := range options {
		o(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.ConnectionState{PeerCertificates: []*x509.Certificate{c}}
}

func newDevices(s *shelf) *Devices {
	return NewDevices(DevicesConfig{Certificates: s, Now: func() time.Time { return deviceTime }, Logger: slog.New(slog.DiscardHandler)})
}

func TestDevicesAdmit(t *testing.T) {
	t.Parallel()
	state := shown(t)
	id := pki.ID(state.PeerCertificates[0])
	now := iot.At(deviceTime)
	holder := func(change func(*iot.Holder)) *iot.Holder {
		h := &iot.Holder{ID: id, Status: iot.CertificateActive, NotBefore: now - 1, NotAfter: now + 1}
		change(h)
		return h
	}
	refusal := iot.Errorf(iot.CertificateInvalid, "nobody's")
	for name, c := range map[string]struct {
		state      tls.ConnectionState
		shelf      shelf
		checked    bool // Check lets it pass
		admitted   bool
		introduced bool
	}{
		"active":            {state, shelf{holder: holder(func(*iot.Holder) {})}, true, true, false},
		"at its first":      {state, shelf{holder: holder(func(h *iot.Holder) { h.NotBefore = now })}, true, true, false},
		"inactive":          {state, shelf{holder: holder(func(h *iot.Holder) { h.Status = iot.CertificateInactive })}, false, false, false},
		"revoked":           {state, shelf{holder: holder(func(h *iot.Holder) { h.Status = iot.CertificateRevoked })}, false, false, false},
		"expired":           {state, shelf{holder: holder(func(h *iot.Holder) { h.NotAfter = now - 1 })}, false, false, false},
		"not yet valid":     {state, shelf{holder: holder(func(h *iot.Holder) { h.NotBefore = now + 1 })}, false, false, false},
		"waits":             {state, shelf{holder: holder(func(h *iot.Holder) { h.Status = iot.CertificatePendingActivation })}, true, false, true},
		"waits in vain":     {state, shelf{holder: holder(func(h *iot.Holder) { h.Status = iot.CertificatePendingActivation }), known: refusal}, false, false, false},
		"unknown, of a CA":  {state, shelf{}, true, false, true},
		"unknown":           {state, shelf{known: refusal}, false, false, false},
		"none":              {tls.ConnectionState{}, shelf{}, false, false, false},
		"of a server":       {shown(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), shelf{}, false, false, false},
		"of a CA":           {shown(t, func(c *x509.Certificate) { c.IsCA = true }), shelf{}, false, false, false},
		"the store is gone": {state, shelf{err: errors.New("disk")}, false, false, false},
	} {
		d := newDevices(&c.shelf)
		if err := d.Check(t.Context(), c.state); (err == nil) != c.checked || err != nil && err != ErrRefused {
			t.Errorf("%s: Check says %v", name, err)
		}
		if c.shelf.introduced > 0 {
			t.Errorf("%s: introduced before the key was proved", name)
		}
		h, err := d.Admit(t.Context(), c.state)
		if (err == nil) != c.admitted || (h != nil) != c.admitted || (err == ErrIntroduced) != c.introduced || err != nil && err != ErrRefused && !c.introduced {
			t.Errorf("%s: Admit says %v, %v", name, h, err)
		}
		if (c.shelf.introduced > 0) != c.introduced {
			t.Errorf("%s: introduced %d times", name, c.shelf.introduced)
		}
	}
}

func TestDevicesRemember(t *testing.T) {
	t.Parallel()
	s := &shelf{holder: &iot.Holder{ID: "a"}}
	d := newDevices(s)
	var gone []iot.CertificateID
	d.cfg.Gone = func(id iot.CertificateID) { gone = append(gone, id) }
	lookups := func(id iot.CertificateID, want int) {
		t.Helper()
		if _, err := d.Holder(t.Context(), id); err != nil || s.lookups != want {
			t.Errorf("%v; %d lookups, want %d", err, s.lookups, want)
		}
	}
	lookups("a", 1)
	lookups("a", 1)
	d.CertificateChanged("a", true)
	lookups("a", 2)
	lookups("a", 2)
	d.CertificateChanged("a", false)
	if len(gone) != 1 || gone[0] != "a" {
		t.Errorf("gone: %v", gone)
	}

	// What was read before a change is not remembered after it.
	s.during = func() { d.CertificateChanged("a", true) }
	lookups("a", 3)
	s.during = nil
	lookups("a", 4)
	lookups("a", 4)

	// Bounded.
	d.cfg.Remember = 3
	for _, id := range []iot.CertificateID{"b", "c", "d", "e", "f"} {
		if _, err := d.Holder(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if len(d.holders) > 3 {
		t.Errorf("%d holders are remembered", len(d.holders))
	}
}

// Introductions write to the database: there are only so many of them a second.
func TestDevicesIntroduceSlowly(t *testing.T) {
	t.Parallel()
	now := deviceTime
	s := &shelf{}
	d := NewDevices(DevicesConfig{Certificates: s, Introductions: 3, Now: func() time.Time { return now }, Logger: slog.New(slog.DiscardHandler)})
	introduced := func() (n int) {
		for range 10 {
			if _, err := d.Admit(t.Context(), shown(t)); err == ErrIntroduced {
				n++
			} else if err != ErrRefused {
				t.Error(err)
			}
		}
		return n
	}
	if n := introduced(); n != 3 || s.introduced != 3 {
		t.Errorf("%d of 10 were introduced, %d to the registry", n, s.introduced)
	}
	now = now.Add(time.Second)
	if n := introduced(); n != 3 {
		t.Errorf("%d a second later", n)
	}
}
