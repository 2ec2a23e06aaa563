package registry

import (
	"context"
	"crypto/x509"
	"errors"

	"drover/internal/iot"
	"drover/internal/pki"
	"drover/internal/store"
)

// serviceActor is who does what nobody asked for.
const serviceActor = "drover"

// Holder returns what is known of who presents a certificate. NotFound.
func (r *Registry) Holder(ctx context.Context, id iot.CertificateID) (*iot.Holder, error) {
	return view(ctx, r, func(rd store.Reader) (*iot.Holder, error) {
		c, err := certificateByID(rd, id)
		if err != nil {
			return nil, err
		}
		things, err := rd.ThingsOfPrincipal(id, store.PrincipalQuery{}, "", iot.MaxHolderThings)
		if err != nil {
			return nil, err
		}
		return &iot.Holder{
			ID: c.ID, PEM: c.PEM, Status: c.Status, Mode: c.Mode, NotBefore: c.NotBefore, NotAfter: c.NotAfter, Things: things,
		}, nil
	})
}

// Introducible says whether Introduce would register the certificate, as the error that it would
// give: CertificateInvalid if no registered CA signed it, CertificateState if the one that did
// lets nobody in by itself or the certificate is not valid now. Nothing is changed, so that it
// may be asked before somebody has proved to have the key.
func (r *Registry) Introducible(ctx context.Context, x *x509.Certificate) error {
	return r.store.View(ctx, func(rd store.Reader) error {
		_, err := introducer(rd, x, iot.At(r.now()))
		return err
	})
}

// introducer returns the CA that lets the certificate register itself.
func introducer(rd store.CertificateReader, x *x509.Certificate, now iot.Time) (*iot.CACertificate, error) {
	ca, err := signer(rd, x, "")
	switch {
	case err != nil:
		return nil, err
	case !ca.Active || !ca.AutoRegistration:
		return nil, iot.Errorf(iot.CertificateState, "the CA certificate %s lets nobody register by connecting", ca.ID)
	case now < iot.At(x.NotBefore) || now > iot.At(x.NotAfter):
		return nil, iot.Errorf(iot.CertificateState, "the certificate is not valid at this time")
	}
	return ca, nil
}

// Introduce registers a certificate whose holder came by itself and proved to have its key: it
// then waits for its activation, which is told to who can give it. One that waits already is
// told again (identity spec §4.9). The connection is over in any case. Errors as of
// Introducible; CertificateState for a registered certificate that does not wait.
func (r *Registry) Introduce(ctx context.Context, x *x509.Certificate) error {
	return r.update(ctx, serviceActor, func(c *change) error {
		ca, err := introducer(c, x, c.now)
		if err != nil {
			return err
		}
		cert, err := c.CertificateByID(pki.ID(x))
		switch {
		case errors.Is(err, store.ErrNotFound):
			cert = newCertificate(x, iot.CertificatePendingActivation)
			cert.CA, cert.Mode = ca.ID, ca.Mode
			cert.CreatedAt, cert.ModifiedAt = c.now, c.now
			if err := c.InsertCertificate(cert); err != nil {
				return err
			}
			c.changed(cert)
		case err != nil:
			return err
		case cert.Status != iot.CertificatePendingActivation:
			return iot.Errorf(iot.CertificateState, "certificate %s is %s", cert.ID, cert.Status)
		}
		event := certificateEvent(cert)
		event.RegisteredAt = cert.CreatedAt
		return c.record(iot.CertificateIntroduced, event)
	})
}
