package auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"drover/internal/iot"
	"drover/internal/pki"
)

var (
	// ErrRefused is all that the holder of a certificate is told: the log says why.
	ErrRefused = errors.New("certificate refused")
	// ErrIntroduced: it is refused this time, because it has been registered just now or waits for its
	// activation.
	ErrIntroduced = errors.New("certificate waits for its activation")
)

// Certificates is what Devices asks of the registry.
type Certificates interface {
	// Holder returns what is known of who presents a certificate. NotFound.
	Holder(ctx context.Context, id iot.CertificateID) (*iot.Holder, error)
	// Introducible says why the certificate cannot be registered by connecting with it.
	Introducible(ctx context.Context, x *x509.Certificate) error
	// Introduce registers a certificate that waits for its activation, or tells again of one
	// that does.
	Introduce(ctx context.Context, x *x509.Certificate) error
}

// Devices decides who may connect with a client certificate. What was looked up is remembered,
// and forgotten as soon as it has changed. Its methods may be called concurrently.
type Devices struct {
	cfg           DevicesConfig
	introductions *rate.Limiter // nil: not limited

	mu      sync.Mutex
	holders map[iot.CertificateID]*iot.Holder
	changes uint64 // how many there were; what was looked up before one is not remembered after it
}

// DevicesConfig says what Devices works with. Certificates is required.
type DevicesConfig struct {
	Certificates Certificates
	Remember     int // how many holders are remembered; default 50,000
	// Introductions is how many certificates a second are introduced, or told of again; more are
	// refused. 0: any.
	Introductions int
	Now           func() time.Time // nil = time.Now
	Logger        *slog.Logger     // nil = slog.Default()
	// Gone is called, after the change and before it is answered, with a certificate that no
	// longer authenticates. It must not block. It may be nil.
	Gone func(iot.CertificateID)
}

// NewDevices returns a Devices.
func NewDevices(cfg DevicesConfig) *Devices {
	if cfg.Remember == 0 {
		cfg.Remember = 50_000
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	d := &Devices{cfg: cfg, holders: make(map[iot.CertificateID]*iot.Holder)}
	if n := cfg.Introductions; n > 0 {
		d.introductions = rate.NewLimiter(rate.Limit(n), n)
	}
	return d
}

// Holder returns what is known of a certificate. The result is shared and must not be changed.
// NotFound.
func (d *Devices) Holder(ctx context.Context, id iot.CertificateID) (*iot.Holder, error) {
	d.mu.Lock()
	h, before := d.holders[id], d.changes
	d.mu.Unlock()
	if h != nil {
		return h, nil
	}
	h, err := d.cfg.Certificates.Holder(ctx, id)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.changes == before {
		if len(d.holders) >= d.cfg.Remember {
			for old := range d.holders { // any: which one costs least to lose is not known
				delete(d.holders, old)
				break
			}
		}
		d.holders[id] = h
	}
	return h, nil
}

// CertificateChanged forgets what was known of a certificate. It implements
// registry.Identities.
func (d *Devices) CertificateChanged(id iot.CertificateID, alive bool) {
	d.mu.Lock()
	d.changes++
	delete(d.holders, id)
	d.mu.Unlock()
	if !alive && d.cfg.Gone != nil {
		d.cfg.Gone(id)
	}
}

// Forget forgets everything that was looked up.
func (d *Devices) Forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.changes++
	clear(d.holders)
}

// Check refuses, in the middle of a handshake, who could not be admitted at its end: it saves
// the rest of the work. The key has not been proved yet, so that nothing is changed.
func (d *Devices) Check(ctx context.Context, state tls.ConnectionState) error {
	x, h, err := d.identify(ctx, state)
	switch {
	case err != nil:
	case h == nil || h.Status == iot.CertificatePendingActivation:
		err = d.cfg.Certificates.Introducible(ctx, x)
	default:
		err = h.Admissible(iot.At(d.cfg.Now()))
	}
	return d.refuse(ctx, err)
}

// Admit returns who is at the other end of a connection after the handshake. A certificate that
// nobody knows and that a registered CA vouches for is introduced, and refused this time with
// ErrIntroduced.
func (d *Devices) Admit(ctx context.Context, state tls.ConnectionState) (*iot.Holder, error) {
	x, h, err := d.identify(ctx, state)
	switch {
	case err != nil:
	case h == nil || h.Status == iot.CertificatePendingActivation:
		if d.introductions != nil && !d.introductions.AllowN(d.cfg.Now(), 1) {
			err = iot.Errorf(iot.Throttled, "more than %d unknown certificates a second", d.cfg.Introductions)
		} else if err = d.cfg.Certificates.Introduce(ctx, x); err == nil {
			d.cfg.Logger.DebugContext(ctx, "client certificate waits for its activation", "certificate", pki.ID(x))
			return nil, ErrIntroduced
		}
	default:
		err = h.Admissible(iot.At(d.cfg.Now()))
	}
	if err != nil {
		return nil, d.refuse(ctx, err)
	}
	return h, nil
}

// identify returns the certificate of the other end, and what is known of it: nil if nothing.
func (d *Devices) identify(ctx context.Context, state tls.ConnectionState) (*x509.Certificate, *iot.Holder, error) {
	if len(state.PeerCertificates) == 0 {
		return nil, nil, iot.Errorf(iot.CertificateInvalid, "no client certificate")
	}
	x := state.PeerCertificates[0]
	if !pki.ForClients(x) {
		return nil, nil, iot.Errorf(iot.CertificateInvalid, "the certificate is not for clients")
	}
	h, err := d.Holder(ctx, pki.ID(x))
	if iot.ErrorCode(err) == iot.NotFound {
		return x, nil, nil
	}
	return x, h, err
}

// refuse logs why, and keeps it there.
func (d *Devices) refuse(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	level := slog.LevelDebug
	if iot.ErrorCode(err) == iot.Internal {
		level = slog.LevelError // ours, not that of the client
	}
	d.cfg.Logger.Log(ctx, level, "client certificate refused", "err", err)
	return ErrRefused
}
