package registry

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"

	"drover/internal/iot"
	"drover/internal/pki"
	"drover/internal/store"
)

// RegistrationCode returns the code that the verification certificate of a CA has to name. It is
// made when it is first asked for (identity spec §4.7).
func (r *Registry) RegistrationCode(ctx context.Context, actor string) (code string, err error) {
	code, err = view(ctx, r, store.Reader.RegistrationCode)
	if !errors.Is(err, store.ErrNotFound) {
		return code, err
	}
	err = r.update(ctx, actor, func(c *change) error {
		if code, err = c.RegistrationCode(); !errors.Is(err, store.ErrNotFound) {
			return err
		}
		var random [32]byte
		rand.Read(random[:]) // never fails: it ends the program instead
		code = hex.EncodeToString(random[:])
		return c.SaveRegistrationCode(code)
	})
	return code, err
}

// DeleteRegistrationCode forgets the code. NotFound if there is none.
func (r *Registry) DeleteRegistrationCode(ctx context.Context, actor string) error {
	return r.update(ctx, actor, func(c *change) error {
		if _, err := c.RegistrationCode(); err != nil {
			return store.Absent(err, "Registration code", "of this account")
		}
		return c.SaveRegistrationCode("")
	})
}

// RegisterCA registers a CA certificate. CertificateInvalid for one that is none, has expired or
// did not sign the verification certificate; RegistrationCode for a verification certificate
// with another code; InvalidRequest for one that is missing, or given with SNI_ONLY, and for a
// registration config that is not whole; LimitExceeded for too many of one subject;
// AlreadyExists (identity spec §4.7).
func (r *Registry) RegisterCA(ctx context.Context, n iot.CARegistration) (*iot.CACertificate, error) {
	if n.Mode == "" {
		n.Mode = iot.ModeDefault
	}
	if (n.Mode == iot.ModeSNIOnly) == (n.Verification != "") {
		return nil, iot.Errorf(iot.InvalidRequest, "A verificationCertificate must be given for certificateMode DEFAULT and must not be given for SNI_ONLY")
	}
	if err := iot.CheckNewTags(n.Tags); err != nil {
		return nil, err
	}
	x, err := pki.Parse(n.PEM)
	if err != nil {
		return nil, err
	}
	if err := pki.CheckAuthority(x); err != nil {
		return nil, err
	}
	ca := &iot.CACertificate{
		ID: pki.ID(x), PEM: pki.Encode(x), Subject: x.RawSubject, Active: n.Active, AutoRegistration: n.AutoRegistration,
		Registration: n.Registration, Mode: n.Mode, NotBefore: iot.At(x.NotBefore), NotAfter: iot.At(x.NotAfter), Version: 1,
	}
	err = r.update(ctx, n.Actor, func(c *change) error {
		if err := checkRegistration(c, n.Registration); err != nil {
			return err
		}
		if c.now > ca.NotAfter {
			return iot.Errorf(iot.CertificateInvalid, "The CA certificate has expired")
		}
		if n.Mode == iot.ModeDefault {
			if err := verifyPossession(c, n.Verification, n.PEM); err != nil {
				return err
			}
		}
		if _, err := c.CACertificateByID(ca.ID); err == nil {
			return r.exists(iot.KindCACert, string(ca.ID), string(ca.ID), "The CA certificate is already registered")
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		same, err := c.CACertificatesBySubject(ca.Subject)
		if err != nil {
			return err
		}
		if len(same) >= r.limits.CAsPerSubject {
			return iot.Errorf(iot.LimitExceeded, "%d CA certificates with this subject are registered; the limit is %d", len(same), r.limits.CAsPerSubject)
		}
		ca.CreatedAt, ca.ModifiedAt = c.now, c.now
		if err := c.InsertCACertificate(ca); err != nil {
			return err
		}
		if err := c.PutTags(r.realm.ARN(iot.KindCACert, string(ca.ID)), n.Tags); err != nil {
			return err
		}
		return c.record(iot.CACreated, caEvent(ca))
	})
	if err != nil {
		return nil, err
	}
	return ca, nil
}

// verifyPossession checks that who registers a CA certificate has its key: it signed a
// certificate whose common name is the registration code.
func verifyPossession(rd store.CertificateReader, verification, caPEM string) error {
	v, err := pki.Parse(verification)
	if err != nil {
		return err
	}
	ca, err := pki.Parse(caPEM)
	if err != nil {
		return err
	}
	if !pki.SignedBy(v, ca) {
		return iot.Errorf(iot.CertificateInvalid, "The verification certificate was not signed by the CA certificate")
	}
	code, err := rd.RegistrationCode()
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if code == "" || v.Subject.CommonName != code {
		return iot.Errorf(iot.RegistrationCode, "The common name of the verification certificate is not the registration code of this account")
	}
	return nil
}

// checkRegistration says what is wrong with a registration config: InvalidRequest if it has not
// one template, a body without a role, a body that iot.ParseBlueprint refuses, or the name of a
// template that is not there or not for devices that come by themselves.
func checkRegistration(rd store.ProvisioningReader, c *iot.RegistrationConfig) error {
	switch {
	case c == nil:
		return nil
	case (c.TemplateBody == "") == (c.TemplateName == ""):
		return iot.Errorf(iot.InvalidRequest, "registrationConfig must have either a templateBody or a templateName")
	case c.TemplateName != "":
		t, err := rd.ProvisioningTemplate(c.TemplateName)
		if errors.Is(err, store.ErrNotFound) {
			return iot.Errorf(iot.InvalidRequest, "Provisioning template %s cannot be found", c.TemplateName)
		}
		if err == nil && t.Type != iot.JustInTime {
			err = iot.Errorf(iot.InvalidRequest, "Provisioning template %s is of the type %s; a CA certificate needs one of the type %s", t.Name, t.Type, iot.JustInTime)
		}
		return err
	case c.RoleARN == "":
		return iot.Errorf(iot.InvalidRequest, "registrationConfig must have a roleArn with its templateBody")
	}
	_, err := iot.ParseBlueprint(c.TemplateBody, iot.JustInTime)
	return err
}

// CA returns a CA certificate. NotFound.
func (r *Registry) CA(ctx context.Context, id iot.CertificateID) (*iot.CACertificate, error) {
	return view(ctx, r, func(rd store.Reader) (*iot.CACertificate, error) { return caByID(rd, id) })
}

// CAs lists CA certificates by when they were registered.
func (r *Registry) CAs(ctx context.Context, q iot.CAQuery, page iot.Page) ([]*iot.CACertificate, string, error) {
	return bySeq(ctx, r, page, func(rd store.Reader, after int64, limit int) ([]*iot.CACertificate, error) {
		return rd.CACertificates(store.CAQuery{TemplateName: q.TemplateName, Ascending: q.Ascending}, after, limit)
	}, func(c *iot.CACertificate) int64 { return c.Seq })
}

// UpdateCA changes a CA certificate. The certificates that it signed are not concerned: only new
// registrations ask for its status. NotFound; InvalidRequest for a registration config that is
// not whole, or that is to be set and removed at once.
func (r *Registry) UpdateCA(ctx context.Context, u iot.CAUpdate) error {
	if u.RemoveAutoRegistration && (u.Registration != nil || u.AutoRegistration != nil && *u.AutoRegistration) {
		return iot.Errorf(iot.InvalidRequest, "removeAutoRegistration cannot be combined with a registrationConfig or newAutoRegistrationStatus ENABLE")
	}
	return r.update(ctx, u.Actor, func(c *change) error {
		if err := checkRegistration(c, u.Registration); err != nil {
			return err
		}
		ca, err := caByID(c, u.ID)
		if err != nil {
			return err
		}
		if u.Active != nil {
			ca.Active = *u.Active
		}
		if u.AutoRegistration != nil {
			ca.AutoRegistration = *u.AutoRegistration
		}
		if u.Registration != nil {
			ca.Registration = u.Registration
		}
		if u.RemoveAutoRegistration {
			ca.AutoRegistration, ca.Registration = false, nil
		}
		ca.Version++
		ca.ModifiedAt = c.now
		if err := c.SaveCACertificate(ca); err != nil {
			return err
		}
		return c.record(iot.CAUpdated, caEvent(ca))
	})
}

// DeleteCA forgets a CA certificate; what it signed stays. NotFound; CertificateState for an
// active one.
func (r *Registry) DeleteCA(ctx context.Context, d iot.CertificateDeletion) error {
	return r.update(ctx, d.Actor, func(c *change) error {
		ca, err := caByID(c, d.ID)
		if err != nil {
			return err
		}
		if ca.Active {
			return iot.Errorf(iot.CertificateState, "CA certificate must be deactivated (not ACTIVE) before deletion: %s", d.ID)
		}
		if err := c.DeleteCACertificate(ca); err != nil {
			return err
		}
		if err := c.DeleteTags(r.realm.ARN(iot.KindCACert, string(ca.ID)), nil); err != nil {
			return err
		}
		return c.record(iot.CADeleted, caEvent(ca))
	})
}

func caByID(rd store.CertificateReader, id iot.CertificateID) (*iot.CACertificate, error) {
	c, err := rd.CACertificateByID(id)
	return c, store.Absent(err, "CA certificate", id)
}

func caEvent(c *iot.CACertificate) iot.CAEvent {
	return iot.CAEvent{ID: c.ID, Active: c.Active, AutoRegistration: c.AutoRegistration, Mode: c.Mode}
}
