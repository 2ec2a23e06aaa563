package registry

import (
	"context"
	"crypto/x509"
	"errors"
	"slices"

	"drover/internal/iot"
	"drover/internal/pki"
	"drover/internal/store"
)

// serviceActor is who does what nobody asked for.
const serviceActor = "drover"

// Holder returns what is known of who presents a certificate, which may be a claim. NotFound.
func (r *Registry) Holder(ctx context.Context, id iot.CertificateID) (*iot.Holder, error) {
	return view(ctx, r, func(rd store.Reader) (*iot.Holder, error) {
		c, err := rd.CertificateByID(id)
		if err == nil {
			return &iot.Holder{ID: c.ID, Status: c.Status, NotBefore: c.NotBefore, NotAfter: c.NotAfter}, nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		claim, err := rd.Claim(id)
		if err != nil {
			return nil, store.Absent(err, "Certificate", id)
		}
		return &iot.Holder{ID: id, Status: iot.CertificateActive, NotAfter: claim.Expires, Claim: claim.Template}, nil
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
	cas, err := signers(rd, x)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(cas, func(ca *iot.CACertificate) bool { return ca.Active && ca.AutoRegistration })
	switch {
	case i < 0:
		return nil, iot.Errorf(iot.CertificateState, "the CA certificate %s lets nobody register by connecting", cas[0].ID)
	case now < iot.At(x.NotBefore) || now > iot.At(x.NotAfter):
		return nil, iot.Errorf(iot.CertificateState, "the certificate is not valid at this time")
	}
	// Who holds a revoked certificate can make others of it that differ in a few bits and are as
	// well signed (an ECDSA signature has a twin): they are none that the CA made.
	revoked, err := rd.KeyRevoked(pki.KeyHash(x))
	if err == nil && revoked {
		err = iot.Errorf(iot.CertificateState, "another certificate of the same key was revoked")
	}
	return cas[i], err
}

// Introduce registers a certificate whose holder came by itself and proved to have its key: it
// then waits for its activation, which is told to who can give it. One that waits already is
// told again (identity spec §4.9). If the CA has a template for its devices, that is carried out
// at once (§4.10); what goes wrong there leaves the certificate waiting, is logged, and is tried
// again next time. The connection is over in any case. Errors as of Introducible;
// CertificateState for a registered certificate that does not wait.
func (r *Registry) Introduce(ctx context.Context, x *x509.Certificate) error {
	var cert *iot.Certificate
	var config *iot.RegistrationConfig
	err := r.update(ctx, serviceActor, func(c *change) error {
		ca, err := introducer(c, x, c.now)
		if err != nil {
			return err
		}
		config = ca.Registration
		cert, err = c.CertificateByID(pki.ID(x))
		switch {
		case errors.Is(err, store.ErrNotFound):
			cert = newCertificate(x, iot.CertificatePendingActivation)
			cert.CA, cert.Mode = ca.ID, ca.Mode
			cert.CreatedAt, cert.ModifiedAt = c.now, c.now
			// Who remembers certificates has nothing to forget: that there is none is not remembered,
			// and the connection ends after this.
			if err := c.InsertCertificate(cert); err != nil {
				return err
			}
		case err != nil:
			return err
		case cert.Status != iot.CertificatePendingActivation:
			return iot.Errorf(iot.CertificateState, "certificate %s is %s", cert.ID, cert.Status)
		}
		event := certificateEvent(cert)
		event.RegisteredAt = cert.CreatedAt
		return c.record(iot.CertificateIntroduced, event)
	})
	if err != nil || config == nil {
		return err
	}
	if err := r.provisionIntroduced(ctx, x, cert, *config); err != nil {
		r.log.WarnContext(ctx, "just-in-time provisioning failed", "certificate", cert.ID, "ca", cert.CA, "err", err)
	}
	return nil
}

// provisionIntroduced carries out the template of a CA for one of its certificates, in one
// transaction.
func (r *Registry) provisionIntroduced(ctx context.Context, x *x509.Certificate, cert *iot.Certificate, config iot.RegistrationConfig) error {
	return r.update(ctx, serviceActor, func(c *change) error {
		body := config.TemplateBody
		if config.TemplateName != "" {
			t, version, err := defaultVersion(c, config.TemplateName)
			if err != nil {
				return err
			}
			if !t.Enabled {
				return iot.Errorf(iot.AccessDenied, "provisioning template %s is not enabled", t.Name)
			}
			body = version.Body
		}
		blueprint, err := iot.ParseBlueprint(body, iot.JustInTime)
		if err != nil {
			return err
		}
		parameters := pki.Parameters(x)
		parameters[iot.CertificateIDParameter] = string(cert.ID)
		plan, err := blueprint.Resolve(parameters)
		if err != nil {
			return err
		}
		if plan.Certificate.ID != cert.ID {
			return iot.Errorf(iot.InvalidRequest, "the template names another certificate than the device's")
		}
		cert, err := c.CertificateByID(plan.Certificate.ID)
		if err != nil {
			return err
		}
		if _, err := r.carryOut(c, plan, cert); err != nil {
			return err
		}
		event := iot.ProvisionedEvent{Template: config.TemplateName, Certificate: cert.ID}
		if plan.Thing != nil {
			event.Thing = plan.Thing.Name
		}
		return c.record(iot.Provisioned, event)
	})
}
