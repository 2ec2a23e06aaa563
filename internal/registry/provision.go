package registry

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"time"

	"drover/internal/iot"
	"drover/internal/pki"
	"drover/internal/store"
)

const (
	// OwnershipLifetime is how long a device has to register what a new certificate is for.
	OwnershipLifetime = time.Hour
	// ClaimLifetime is how long a claim made for a person lets a device in.
	ClaimLifetime = 5 * time.Minute
)

// CreateClaim makes a certificate with which a device can be provisioned by the template, and
// nothing else, until it expires (identity spec §7.5). NotFound; InvalidRequest for a template
// that is not enabled, or that is not for devices that ask.
func (r *Registry) CreateClaim(ctx context.Context, template, actor string) (iot.Claim, iot.KeyPair, error) {
	if r.authority == nil {
		return iot.Claim{}, iot.KeyPair{}, errNoAuthority
	}
	t, _, err := r.ProvisioningTemplate(ctx, template)
	switch {
	case err != nil:
		return iot.Claim{}, iot.KeyPair{}, err
	case t.Type != iot.FleetProvisioning:
		return iot.Claim{}, iot.KeyPair{}, iot.Errorf(iot.InvalidRequest, "Provisioning template %s is of the type %s", template, t.Type)
	case !t.Enabled:
		return iot.Claim{}, iot.KeyPair{}, iot.Errorf(iot.InvalidRequest, "Provisioning template %s is not enabled", template)
	}
	issued, keys, err := r.authority.IssueDevice(r.now())
	if err != nil {
		return iot.Claim{}, iot.KeyPair{}, err
	}
	claim := iot.Claim{Certificate: pki.ID(issued.Certificate), PEM: pki.Encode(issued.Certificate), Template: template}
	err = r.update(ctx, actor, func(c *change) error {
		claim.Expires = c.now.Add(ClaimLifetime)
		if err := c.InsertClaim(claim, c.now); err != nil {
			return err
		}
		return c.record(iot.ClaimCreated, iot.ProvisionedEvent{Template: template, Claim: claim.Certificate})
	})
	return claim, keys, err
}

var errNoAuthority = iot.Errorf(iot.Unavailable, "This server has no certificate authority")

// expiredAtOnce is how many certificates that nobody registered are deleted when a new one is made.
const expiredAtOnce = 20

// CreateOwned makes a certificate for a device that is being provisioned: it waits for its
// activation, by the token that is returned (identity spec §7.6). An empty csr asks for a new key.
// InvalidRequest for a csr that is not accepted. Certificates that were not registered in time are
// deleted on the way.
func (r *Registry) CreateOwned(ctx context.Context, csr, actor string) (cert *iot.Certificate, keys iot.KeyPair, token string, err error) {
	if r.authority == nil {
		return nil, keys, "", errNoAuthority
	}
	issued, keys, err := r.issue(csr, r.now())
	if err != nil {
		return nil, keys, "", err
	}
	cert = newCertificate(issued.Certificate, iot.CertificatePendingActivation)
	cert.CA = issued.Root
	var secret [32]byte
	rand.Read(secret[:]) // never fails: it ends the program instead
	token = base64.RawURLEncoding.EncodeToString(secret[:])
	err = r.update(ctx, actor, func(c *change) error {
		expired, err := c.ExpiredOwnerships(c.now, expiredAtOnce)
		if err != nil {
			return err
		}
		for _, o := range expired {
			if err := r.expire(c, o); err != nil {
				return err
			}
		}
		if err := c.insertCertificate(r, cert); err != nil {
			return err
		}
		return c.InsertOwnership(iot.Ownership{Hash: tokenHash(token), Certificate: cert.ID, Expires: c.now.Add(OwnershipLifetime)})
	})
	if err != nil {
		return nil, iot.KeyPair{}, "", err
	}
	return cert, keys, token, nil
}

func tokenHash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// expire forgets a token that was not used in time, and its certificate unless somebody has done
// something with it.
func (r *Registry) expire(c *change, o iot.Ownership) error {
	if _, err := c.DeleteOwnership(o.Hash); err != nil {
		return err
	}
	cert, err := c.CertificateByID(o.Certificate)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil || cert.Status != iot.CertificatePendingActivation {
		return err
	}
	things, err := c.ThingsOfPrincipal(cert.ID, store.PrincipalQuery{}, "", 1)
	if err != nil || len(things) > 0 {
		return err
	}
	if err := r.detachAll(c, iot.CertificateTarget(cert.ID)); err != nil {
		return err
	}
	if err := c.DeleteCertificate(cert); err != nil {
		return err
	}
	if err := c.changed(cert); err != nil {
		return err
	}
	return c.record(iot.CertificateDeleted, certificateEvent(cert))
}

// Provision registers a device by a template and activates its certificate, in one transaction.
// The template's hook, if it has one, is asked before. NotFound for a template, group, type or
// policy that there is not; AccessDenied for a template that is not enabled or not the claim's, and
// if the hook says no, or nothing; InvalidToken; InvalidRequest as iot.Blueprint.Resolve;
// ResourceConflict where an override is FAIL.
func (r *Registry) Provision(ctx context.Context, g iot.Registration) (iot.Registered, error) {
	t, version, cert, err := r.owned(ctx, g)
	if err != nil {
		return iot.Registered{}, err
	}
	parameters, err := r.askHook(ctx, t, cert, g)
	if err != nil {
		return iot.Registered{}, err
	}
	blueprint, err := iot.ParseBlueprint(version.Body, t.Type)
	if err != nil {
		return iot.Registered{}, err
	}
	parameters[iot.CertificateIDParameter] = string(cert.ID)
	plan, err := blueprint.Resolve(parameters)
	if err != nil {
		return iot.Registered{}, err
	}
	if plan.Certificate.ID != cert.ID {
		return iot.Registered{}, iot.Errorf(iot.InvalidRequest, "The template names another certificate than the device's")
	}
	done := iot.Registered{Device: plan.Device, Certificate: cert}
	err = r.update(ctx, g.Actor, func(c *change) error {
		// Things may have changed while the hook was asked; a token counts once.
		if known, err := c.DeleteOwnership(tokenHash(g.Token)); err != nil || !known {
			return cmp.Or[error](err, errToken)
		}
		cert, err := c.CertificateByID(plan.Certificate.ID)
		if err != nil {
			return store.Absent(err, "Certificate", plan.Certificate.ID)
		}
		done.Certificate = cert
		if done.ARNs, err = r.carryOut(c, plan, cert); err != nil {
			return err
		}
		event := iot.ProvisionedEvent{Template: t.Name, Certificate: cert.ID, Claim: g.Claim, ClientID: g.ClientID}
		if plan.Thing != nil {
			event.Thing, done.Thing = plan.Thing.Name, plan.Thing.Name
		}
		return c.record(iot.Provisioned, event)
	})
	if err != nil {
		return iot.Registered{}, err
	}
	return done, nil
}

var errToken = iot.Errorf(iot.InvalidToken, "The certificateOwnershipToken is not that of a certificate that waits to be registered")

// owned checks what g shows, and returns what it is about. A token that has expired goes, with
// its certificate.
func (r *Registry) owned(ctx context.Context, g iot.Registration) (t *iot.ProvisioningTemplate, v iot.ProvisioningVersion, cert *iot.Certificate, err error) {
	now := iot.At(r.now())
	var expired *iot.Ownership
	err = r.store.View(ctx, func(rd store.Reader) error {
		if t, v, err = defaultVersion(rd, g.Template); err != nil {
			return err
		}
		if !t.Enabled || t.Type != iot.FleetProvisioning {
			return iot.Errorf(iot.AccessDenied, "Provisioning template %s is not enabled", g.Template)
		}
		if g.Claim != "" {
			claim, err := rd.Claim(g.Claim)
			switch {
			case errors.Is(err, store.ErrNotFound): // an ordinary certificate: its policy decides
			case err != nil:
				return err
			case claim.Template != g.Template || claim.Expires <= now:
				return iot.Errorf(iot.AccessDenied, "The claim is not one for provisioning template %s, or has expired", g.Template)
			}
		}
		o, err := rd.Ownership(tokenHash(g.Token))
		if errors.Is(err, store.ErrNotFound) {
			return errToken
		}
		if err != nil {
			return err
		}
		if o.Expires <= now {
			expired = &o
			return errToken
		}
		cert, err = certificateByID(rd, o.Certificate)
		return err
	})
	if expired != nil {
		if e := r.update(ctx, g.Actor, func(c *change) error { return r.expire(c, *expired) }); e != nil {
			return nil, v, nil, e
		}
	}
	return t, v, cert, err
}

// askHook returns the parameters with which a device is provisioned: the hook of the template can
// change them.
func (r *Registry) askHook(ctx context.Context, t *iot.ProvisioningTemplate, cert *iot.Certificate, g iot.Registration) (map[string]string, error) {
	parameters := make(map[string]string, len(g.Parameters)+1)
	maps.Copy(parameters, g.Parameters)
	if t.Hook == nil {
		return parameters, nil
	}
	refused := iot.Errorf(iot.AccessDenied, "The pre-provisioning hook did not allow it")
	if r.functions == nil {
		return nil, refused
	}
	body, err := r.functions.Call(ctx, t.Hook.Target, iot.HookEvent{
		ClaimCertificateID: g.Claim, CertificateID: cert.ID, CertificatePEM: cert.PEM, TemplateARN: r.realm.ARN(iot.KindProvisioning, t.Name),
		ClientID: g.ClientID, Parameters: parameters,
	})
	var answer iot.HookAnswer
	if err == nil {
		err = json.Unmarshal(body, &answer)
	}
	if err != nil {
		r.log.WarnContext(ctx, "pre-provisioning hook failed", "template", t.Name, "function", t.Hook.Target, "err", err)
		return nil, refused
	}
	if !answer.Allow {
		r.log.InfoContext(ctx, "pre-provisioning hook refused a device", "template", t.Name, "client", g.ClientID)
		return nil, refused
	}
	maps.Copy(parameters, answer.Overrides)
	return parameters, nil
}

// RegisterThing provisions by a body that belongs to no template (identity spec §7.8).
// InvalidRequest for the body; RegistrationFailure for what cannot be carried out; ResourceConflict
// where an override is FAIL.
func (r *Registry) RegisterThing(ctx context.Context, g iot.BodyRegistration) (iot.Registered, error) {
	blueprint, err := iot.ParseBlueprint(g.Body, "")
	if err != nil {
		return iot.Registered{}, err
	}
	plan, err := blueprint.Resolve(g.Parameters)
	if err != nil {
		return iot.Registered{}, failedRegistration(err)
	}
	var issued *iot.Certificate // of a request: the work with keys is done outside of the transaction
	if p := plan.Certificate; p != nil && p.CSR != "" {
		if r.authority == nil {
			return iot.Registered{}, errNoAuthority
		}
		made, _, err := r.issue(p.CSR, r.now())
		if err != nil {
			return iot.Registered{}, failedRegistration(err)
		}
		issued = newCertificate(made.Certificate, iot.CertificatePendingActivation)
		issued.CA = made.Root
	}
	var done iot.Registered
	err = r.update(ctx, g.Actor, func(c *change) error {
		cert := issued
		switch p := plan.Certificate; {
		case p == nil:
		case issued != nil:
			if err := c.insertCertificate(r, issued); err != nil {
				return err
			}
		case p.ID != "":
			if cert, err = certificateByID(c, p.ID); err != nil {
				return err
			}
		default:
			if cert, err = r.certificateOfPEM(c, p.PEM, p.CAPEM); err != nil {
				return err
			}
		}
		done.Certificate = cert
		if done.ARNs, err = r.carryOut(c, plan, cert); err != nil {
			return err
		}
		event := iot.ProvisionedEvent{}
		if plan.Thing != nil {
			event.Thing = plan.Thing.Name
		}
		if cert != nil {
			event.Certificate = cert.ID
		}
		return c.record(iot.Provisioned, event)
	})
	if err != nil {
		return iot.Registered{}, failedRegistration(err)
	}
	return done, nil
}

// failedRegistration returns err as RegisterThing has it: the model of the operation knows few
// errors.
func failedRegistration(err error) error {
	var e *iot.Error
	if !errors.As(err, &e) || e.Code == iot.ResourceConflict || e.Code == iot.Unavailable {
		return err
	}
	return iot.Errorf(iot.RegistrationFailure, "%s", e.Message)
}

// certificateOfPEM returns the registered certificate that a PEM text is, and registers it if a
// registered CA signed it.
func (r *Registry) certificateOfPEM(c *change, text, caText string) (*iot.Certificate, error) {
	x, err := pki.Parse(text)
	if err != nil {
		return nil, err
	}
	have, err := c.CertificateByID(pki.ID(x))
	if !errors.Is(err, store.ErrNotFound) {
		return have, err
	}
	var caID iot.CertificateID
	if caText != "" {
		ca, err := pki.Parse(caText)
		if err != nil {
			return nil, err
		}
		caID = pki.ID(ca)
	}
	ca, err := signer(c, x, caID)
	if err != nil {
		return nil, err
	}
	if !ca.Active {
		return nil, iot.Errorf(iot.CertificateState, "The CA certificate %s is not active", ca.ID)
	}
	cert := newCertificate(x, iot.CertificatePendingActivation)
	cert.CA, cert.Mode = ca.ID, ca.Mode
	return cert, c.insertCertificate(r, cert)
}

// carryOut makes what a plan asks for, in the order of identity spec §7.3: the certificate becomes
// what it shall be at last. It returns the ARNs of what there is then, by logical names. cert is
// that of the plan, nil if that has none. Errors as of Provision.
func (r *Registry) carryOut(c *change, plan *iot.ProvisioningPlan, cert *iot.Certificate) (map[string]string, error) {
	arns := make(map[string]string)
	var thing *iot.Thing
	if plan.Thing != nil {
		var err error
		if thing, err = r.carryOutThing(c, plan.Thing); err != nil {
			return nil, err
		}
		arns[plan.Thing.Logical] = r.realm.ARN(iot.KindThing, string(thing.Name))
	}
	if err := r.carryOutPolicies(c, plan.Policies, cert, arns); err != nil {
		return nil, err
	}
	if cert == nil {
		return arns, nil
	}
	arns[plan.Certificate.Logical] = r.realm.ARN(iot.KindCert, string(cert.ID))
	if thing != nil {
		if err := r.attach(c, thing, cert, false); err != nil {
			return nil, err
		}
	}
	return arns, r.carryOutStatus(c, plan.Certificate, cert)
}

// carryOutThing makes the thing, or changes it as the plan's overrides say.
func (r *Registry) carryOutThing(c *change, p *iot.ThingPlan) (*iot.Thing, error) {
	thing, err := c.ThingByName(p.Name)
	if errors.Is(err, store.ErrNotFound) {
		if thing, err = r.insertThing(c, iot.NewThing{Name: p.Name, Type: p.Type, Attributes: p.Attributes}); err != nil {
			return nil, err
		}
		if p.Billing != "" {
			if err := r.bill(c, p.Name, p.Billing); err != nil {
				return nil, err
			}
		}
		return thing, r.join(c, thing, nil, p.Groups, false)
	}
	if err != nil {
		return nil, err
	}
	groups, err := c.GroupsOfThing(thing.ID)
	if err != nil {
		return nil, err
	}
	names := make([]iot.GroupName, len(groups))
	for i, g := range groups {
		names[i] = g.Name
	}
	over, err := p.Over(thing, names)
	if err != nil {
		return nil, err
	}
	if former := thing.Type; over.Type != former || !maps.Equal(over.Attributes, thing.Attributes) {
		if over.Type != former {
			t, err := typeByName(c, over.Type)
			if err != nil {
				return nil, err
			}
			if t.DeprecatedAt != 0 {
				return nil, errDeprecatedForUpdate(over.Type)
			}
		}
		thing.Type, thing.Attributes = over.Type, over.Attributes
		if err := r.saveThing(c, thing, former); err != nil {
			return nil, err
		}
	}
	leaving, remaining, err := split(c, groups, over.Leave)
	if err != nil {
		return nil, err
	}
	if err := r.join(c, thing, remaining, over.Join, false); err != nil {
		return nil, err
	}
	return thing, r.leave(c, thing, leaving)
}

// carryOutStatus gives the certificate the status of the plan. One that waits for its activation
// has none that anybody chose.
func (r *Registry) carryOutStatus(c *change, p *iot.CertificatePlan, cert *iot.Certificate) error {
	if cert.Status != iot.CertificatePendingActivation {
		switch {
		case p.OnStatus == iot.DoNothing || p.Status == cert.Status:
			return nil
		case p.OnStatus == iot.Fail:
			return iot.Errorf(iot.ResourceConflict, "Certificate %s is %s, which the template does not override", cert.ID, cert.Status)
		}
	}
	if changed, err := cert.ChangeStatus(p.Status, c.now); err != nil || !changed {
		return err
	}
	if err := c.SaveCertificate(cert); err != nil {
		return err
	}
	if err := c.changed(cert); err != nil {
		return err
	}
	return c.record(iot.CertificateUpdated, certificateEvent(cert))
}

// carryOutPolicies attaches the policies to the certificate, if there is one, and makes those of
// documents that are not there yet. NotFound for a policy that should be; MalformedPolicy;
// LimitExceeded.
func (r *Registry) carryOutPolicies(c *change, plans []iot.PolicyPlan, cert *iot.Certificate, arns map[string]string) error {
	for _, plan := range plans {
		name := iot.PolicyName(plan.Name)
		p, err := c.PolicyByName(name)
		if errors.Is(err, store.ErrNotFound) && plan.Document != "" {
			if err := checkDocument(plan.Document); err != nil {
				return err
			}
			p, err = c.insertPolicy(name, plan.Document)
		}
		if err != nil {
			return store.Absent(err, "Policy", name)
		}
		if cert != nil {
			if err := r.attachPolicy(c, p, iot.CertificateTarget(cert.ID)); err != nil {
				return err
			}
		}
		arns[plan.Logical] = r.realm.ARN(iot.KindPolicy, plan.Name)
	}
	return nil
}
