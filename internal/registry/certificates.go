package registry

import (
	"context"
	"crypto/x509"
	"errors"
	"strconv"
	"time"

	"drover/internal/iot"
	"drover/internal/pki"
	"drover/internal/store"
)

// CreateCertificate makes and registers a certificate: for the key of the request's CSR, or for
// a new key, which it returns and nobody keeps. InvalidRequest for a CSR that is not accepted.
func (r *Registry) CreateCertificate(ctx context.Context, n iot.CertificateRequest) (*iot.Certificate, iot.KeyPair, error) {
	if r.authority == nil {
		return nil, iot.KeyPair{}, iot.Errorf(iot.Unavailable, "This server has no certificate authority")
	}
	// The work with keys is done outside of the transaction: it takes long.
	issued, keys, err := r.issue(n.CSR, r.now())
	if err != nil {
		return nil, iot.KeyPair{}, err
	}
	status, err := iot.InitialStatus("", n.Active)
	if err != nil {
		return nil, iot.KeyPair{}, err
	}
	c := newCertificate(issued.Certificate, status)
	c.CA = issued.Root
	err = r.update(ctx, n.Actor, func(tx *change) error { return tx.insertCertificate(r, c) })
	return c, keys, err
}

func (r *Registry) issue(csr string, now time.Time) (pki.Issued, iot.KeyPair, error) {
	if csr == "" {
		return r.authority.IssueDevice(now)
	}
	request, err := pki.ParseRequest(csr)
	if err != nil {
		return pki.Issued{}, iot.KeyPair{}, err
	}
	issued, err := r.authority.SignDevice(request, now)
	return issued, iot.KeyPair{}, err
}

func newCertificate(x *x509.Certificate, status iot.CertificateStatus) *iot.Certificate {
	return &iot.Certificate{
		ID: pki.ID(x), PEM: pki.Encode(x), Status: status, Mode: iot.ModeDefault, Key: pki.KeyHash(x),
		NotBefore: iot.At(x.NotBefore), NotAfter: iot.At(x.NotAfter), Version: 1,
	}
}

// insertCertificate stores a new certificate and records it. AlreadyExists.
func (c *change) insertCertificate(r *Registry, cert *iot.Certificate) error {
	if _, err := c.CertificateByID(cert.ID); err == nil {
		return r.exists(iot.KindCert, string(cert.ID), string(cert.ID), "The certificate is already registered")
	} else if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	cert.CreatedAt, cert.ModifiedAt = c.now, c.now
	if err := c.InsertCertificate(cert); err != nil {
		return err
	}
	if err := c.changed(cert); err != nil { // it may have been refused, and that remembered
		return err
	}
	return c.record(iot.CertificateCreated, certificateEvent(cert))
}

// changed tells who remembers certificates.
func (c *change) changed(cert *iot.Certificate) error {
	return c.told(news{Certificate: cert.ID, Alive: cert.Status == iot.CertificateActive})
}

// RegisterCertificate registers a certificate that somebody else made. CertificateInvalid for
// one that cannot be read, or that no registered CA signed; CertificateState for one of an
// inactive CA; CertificateConflict if several CAs could be meant; AlreadyExists.
func (r *Registry) RegisterCertificate(ctx context.Context, n iot.CertificateRegistration) (*iot.Certificate, error) {
	status, err := iot.InitialStatus(n.Status, n.Active)
	if err != nil {
		return nil, err
	}
	x, err := pki.Parse(n.PEM)
	if err != nil {
		return nil, err
	}
	var caID iot.CertificateID
	if n.CAPEM != "" {
		ca, err := pki.Parse(n.CAPEM)
		if err != nil {
			return nil, err
		}
		caID = pki.ID(ca)
	}
	cert := newCertificate(x, status)
	err = r.update(ctx, n.Actor, func(c *change) error {
		if n.WithoutCA {
			cert.Mode = iot.ModeSNIOnly
			return c.insertCertificate(r, cert)
		}
		ca, err := signer(c, x, caID)
		if err != nil {
			return err
		}
		if !ca.Active {
			return iot.Errorf(iot.CertificateState, "The CA certificate %s is not active", ca.ID)
		}
		cert.CA, cert.Mode = ca.ID, ca.Mode
		return c.insertCertificate(r, cert)
	})
	if err != nil {
		return nil, err
	}
	return cert, nil
}

// signers returns the registered CAs whose key signed the certificate. There can be several with
// one key, as after a renewal.
func signers(rd store.CertificateReader, x *x509.Certificate) (found []*iot.CACertificate, err error) {
	cas, err := rd.CACertificatesBySubject(x.RawIssuer)
	if err != nil {
		return nil, err
	}
	for _, ca := range cas {
		parent, err := pki.Parse(ca.PEM)
		if err != nil {
			return nil, err
		}
		if pki.SignedBy(x, parent) {
			found = append(found, ca)
		}
	}
	if len(found) == 0 {
		return nil, iot.Errorf(iot.CertificateInvalid, "The certificate was not signed by a registered CA certificate")
	}
	return found, nil
}

// signer returns the one registered CA that signed the certificate, or among several the one with
// the id. CertificateInvalid if there is none, CertificateConflict if it could be several.
func signer(rd store.CertificateReader, x *x509.Certificate, id iot.CertificateID) (*iot.CACertificate, error) {
	found, err := signers(rd, x)
	if err != nil {
		return nil, err
	}
	if id == "" && len(found) > 1 {
		return nil, iot.Errorf(iot.CertificateConflict, "The certificate was signed by more than one registered CA; name one of them with caCertificatePem")
	}
	for _, ca := range found {
		if id == "" || ca.ID == id {
			return ca, nil
		}
	}
	return nil, iot.Errorf(iot.CertificateInvalid, "The certificate was not signed by the CA certificate that is named")
}

// Certificate returns a certificate. NotFound.
func (r *Registry) Certificate(ctx context.Context, id iot.CertificateID) (*iot.Certificate, error) {
	return view(ctx, r, func(rd store.Reader) (*iot.Certificate, error) { return certificateByID(rd, id) })
}

// Certificates lists certificates by when they were registered.
func (r *Registry) Certificates(ctx context.Context, q iot.CertificateQuery, page iot.Page) ([]*iot.Certificate, string, error) {
	return bySeq(ctx, r, page, func(rd store.Reader, after int64, limit int) ([]*iot.Certificate, error) {
		return rd.Certificates(store.CertificateQuery{CA: q.CA, Ascending: q.Ascending}, after, limit)
	}, func(c *iot.Certificate) int64 { return c.Seq })
}

// bySeq is list for what is ordered by a number, which is the cursor.
func bySeq[T any](ctx context.Context, r *Registry, page iot.Page, f func(rd store.Reader, after int64, limit int) ([]T, error), seq func(T) int64) ([]T, string, error) {
	var after int64
	if page.Cursor != "" {
		var err error
		if after, err = strconv.ParseInt(page.Cursor, 10, 64); err != nil {
			return nil, "", iot.Errorf(iot.InvalidRequest, "Invalid marker")
		}
	}
	return list(ctx, r, func(rd store.Reader) ([]T, string, error) {
		items, err := f(rd, after, page.Limit+1)
		if err != nil {
			return nil, "", err
		}
		items, next := cut(items, page.Limit, func(v T) string { return strconv.FormatInt(seq(v), 10) })
		return items, next, nil
	})
}

// UpdateCertificate changes the status of a certificate. What is connected with it is cut off
// unless it is active. NotFound; otherwise as iot.Certificate.ChangeStatus.
func (r *Registry) UpdateCertificate(ctx context.Context, u iot.CertificateUpdate) error {
	return r.update(ctx, u.Actor, func(c *change) error {
		cert, err := certificateByID(c, u.ID)
		if err != nil {
			return err
		}
		changed, err := cert.ChangeStatus(u.Status, c.now)
		if err != nil || !changed {
			return err
		}
		if err := c.SaveCertificate(cert); err != nil {
			return err
		}
		if err := c.changed(cert); err != nil {
			return err
		}
		return c.record(iot.CertificateUpdated, certificateEvent(cert))
	})
}

// DeleteCertificate forgets a certificate. NotFound; CertificateState for an active one;
// DeleteConflict as long as a thing is attached, or a policy without Force (identity spec §4.8).
func (r *Registry) DeleteCertificate(ctx context.Context, d iot.CertificateDeletion) error {
	return r.update(ctx, d.Actor, func(c *change) error {
		cert, err := certificateByID(c, d.ID)
		if err != nil {
			return err
		}
		if cert.Status == iot.CertificateActive {
			return iot.Errorf(iot.CertificateState, "Certificate must be deactivated (not ACTIVE) before deletion: %s", d.ID)
		}
		things, err := c.ThingsOfPrincipal(d.ID, store.PrincipalQuery{}, "", 1)
		if err != nil {
			return err
		}
		if len(things) > 0 {
			return iot.Errorf(iot.DeleteConflict, "Things must be detached before deletion: %s is attached to thing %s", d.ID, things[0].Thing)
		}
		if !d.Force {
			policies, err := c.AttachedPolicies([]iot.PolicyTarget{iot.CertificateTarget(d.ID)})
			if err != nil {
				return err
			}
			if len(policies) > 0 {
				return iot.Errorf(iot.DeleteConflict, "Certificate policies must be detached before deletion: policy %s is attached to %s", policies[0].Name, d.ID)
			}
		}
		if err := r.detachAll(c, iot.CertificateTarget(d.ID)); err != nil {
			return err
		}
		if err := c.DeleteCertificate(cert); err != nil {
			return err
		}
		if err := c.changed(cert); err != nil {
			return err
		}
		return c.record(iot.CertificateDeleted, certificateEvent(cert))
	})
}

// Attach attaches a certificate to a thing; doing so again changes nothing. NotFound for either;
// InvalidRequest for a principal that is no certificate, and for what exclusive attachments
// forbid: a second thing for the certificate, or the other type (identity spec §4.8, A-12).
func (r *Registry) Attach(ctx context.Context, a iot.Attachment) error {
	id, err := r.principalID(a.Principal)
	if err != nil {
		return err
	}
	return r.update(ctx, a.Actor, func(c *change) error {
		thing, cert, err := c.pair(a.Thing, id)
		if err != nil {
			return err
		}
		return r.attach(c, thing, cert, a.Exclusive)
	})
}

// attach attaches a certificate to a thing. Errors as of Attach.
func (r *Registry) attach(c *change, thing *iot.Thing, cert *iot.Certificate, exclusive bool) error {
	have, err := c.ThingPrincipal(thing.ID, cert.ID)
	switch {
	case err == nil && have.Exclusive == exclusive:
		return nil
	case err == nil:
		return iot.Errorf(iot.InvalidRequest, "The principal is attached to thing %s as the other thingPrincipalType; detach it first", thing.Name)
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	others, err := c.ThingsOfPrincipal(cert.ID, store.PrincipalQuery{Exclusive: !exclusive}, "", 1)
	if err != nil {
		return err
	}
	if len(others) > 0 {
		return iot.Errorf(iot.InvalidRequest, "The principal is attached to thing %s; an EXCLUSIVE_THING must be its only thing", others[0].Thing)
	}
	p := iot.ThingPrincipal{Thing: thing.Name, ThingID: thing.ID, Certificate: cert.ID, Exclusive: exclusive}
	if err := c.InsertThingPrincipal(p); err != nil {
		return err
	}
	if err := c.changed(cert); err != nil {
		return err
	}
	return c.record(iot.PrincipalAttached, iot.PrincipalEvent{Thing: thing.Name, Certificate: cert.ID, Exclusive: exclusive})
}

// Detach ends an attachment; one that is not there is no error. NotFound for the thing or the
// certificate; InvalidRequest for a principal that is no certificate.
func (r *Registry) Detach(ctx context.Context, a iot.Attachment) error {
	id, err := r.principalID(a.Principal)
	if err != nil {
		return err
	}
	return r.update(ctx, a.Actor, func(c *change) error {
		thing, cert, err := c.pair(a.Thing, id)
		if err != nil {
			return err
		}
		if gone, err := c.DeleteThingPrincipal(thing.ID, id); err != nil || !gone {
			return err
		}
		if err := c.changed(cert); err != nil {
			return err
		}
		return c.record(iot.PrincipalDetached, iot.PrincipalEvent{Thing: thing.Name, Certificate: id})
	})
}

// pair finds what shall be attached or detached.
func (c *change) pair(name iot.ThingName, id iot.CertificateID) (*iot.Thing, *iot.Certificate, error) {
	thing, err := thingByName(c, name)
	if err != nil {
		return nil, nil, err
	}
	cert, err := certificateByID(c, id)
	return thing, cert, err
}

// principalID reads the ARN of a certificate, the only kind of principal that things have here.
func (r *Registry) principalID(arn string) (iot.CertificateID, error) {
	kind, name, err := r.realm.ParseARN(arn)
	if err != nil {
		return "", err
	}
	if kind != iot.KindCert || !iot.CertificateID(name).Valid() {
		return "", iot.Errorf(iot.InvalidRequest, "The principal %q is not the ARN of a certificate", arn)
	}
	return iot.CertificateID(name), nil
}

// PrincipalsOfThing lists the attachments of a thing by certificate. NotFound.
func (r *Registry) PrincipalsOfThing(ctx context.Context, name iot.ThingName, q iot.AttachmentQuery, page iot.Page) ([]iot.ThingPrincipal, string, error) {
	return list(ctx, r, func(rd store.Reader) ([]iot.ThingPrincipal, string, error) {
		thing, err := thingByName(rd, name)
		if err != nil {
			return nil, "", err
		}
		items, err := rd.PrincipalsOfThing(thing.ID, attachments(q), iot.CertificateID(page.Cursor), page.Limit+1)
		if err != nil {
			return nil, "", err
		}
		items, next := cut(items, page.Limit, func(p iot.ThingPrincipal) string { return string(p.Certificate) })
		return items, next, nil
	})
}

// ThingsOfPrincipal lists the attachments of a certificate, given by its ARN, by thing. NotFound;
// InvalidRequest for a principal that is no certificate.
func (r *Registry) ThingsOfPrincipal(ctx context.Context, arn string, q iot.AttachmentQuery, page iot.Page) ([]iot.ThingPrincipal, string, error) {
	id, err := r.principalID(arn)
	if err != nil {
		return nil, "", err
	}
	return list(ctx, r, func(rd store.Reader) ([]iot.ThingPrincipal, string, error) {
		if _, err := certificateByID(rd, id); err != nil {
			return nil, "", err
		}
		items, err := rd.ThingsOfPrincipal(id, attachments(q), iot.ThingName(page.Cursor), page.Limit+1)
		if err != nil {
			return nil, "", err
		}
		items, next := cut(items, page.Limit, func(p iot.ThingPrincipal) string { return string(p.Thing) })
		return items, next, nil
	})
}

func attachments(q iot.AttachmentQuery) store.PrincipalQuery {
	if q.Exclusive == nil {
		return store.PrincipalQuery{}
	}
	return store.PrincipalQuery{Exclusive: *q.Exclusive, NonExclusive: !*q.Exclusive}
}

func certificateByID(rd store.CertificateReader, id iot.CertificateID) (*iot.Certificate, error) {
	c, err := rd.CertificateByID(id)
	return c, store.Absent(err, "Certificate", id)
}

func certificateEvent(c *iot.Certificate) iot.CertificateEvent {
	return iot.CertificateEvent{ID: c.ID, CA: c.CA, Status: c.Status}
}
