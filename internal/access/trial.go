package access

import (
	"context"
	"errors"
	"slices"

	"drover/internal/auth/policy"
	"drover/internal/iot"
	"drover/internal/store"
)

// EffectivePolicies returns the policies that are attached to the principal, the ARN of a
// certificate, and those of the groups of the thing and of all groups above them, by name; either
// may be "". NotFound for both; InvalidRequest if both are "" and for a principal of another kind
// (identity spec §5.12).
func (d *Decider) EffectivePolicies(ctx context.Context, principal string, thing iot.ThingName) (list []iot.EffectivePolicy, err error) {
	if principal == "" && thing == "" {
		return nil, iot.Errorf(iot.InvalidRequest, "One of principal and thingName is required")
	}
	err = d.store.View(ctx, func(rd store.Reader) error {
		list = nil
		var targets []iot.PolicyTarget
		if principal != "" {
			cert, err := d.certificate(rd, principal)
			if err != nil {
				return err
			}
			targets = append(targets, iot.CertificateTarget(cert.ID))
		}
		if thing != "" {
			t, err := rd.ThingByName(thing)
			if err != nil {
				return absent(err, "Thing", string(thing))
			}
			groups, err := groupTargets(rd, t)
			if err != nil {
				return err
			}
			targets = append(targets, groups...)
		}
		attached, err := rd.AttachedPolicies(targets)
		if err != nil {
			return err
		}
		for _, p := range attached {
			v, err := rd.PolicyVersion(p.ID, p.Default)
			if err != nil {
				return err
			}
			list = append(list, iot.EffectivePolicy{Policy: p, Document: v.Document})
		}
		return nil
	})
	return list, err
}

// Test says what would become of requests. The status of the certificate makes no difference.
// NotFound for the principal and for a policy to add or to skip; InvalidRequest for a principal
// that is no certificate (identity spec §5.11).
func (d *Decider) Test(ctx context.Context, t iot.AuthorizationTest) ([]iot.AuthorizationResult, error) {
	if t.ClientID != nil {
		if err := iot.CheckClientID("clientId", *t.ClientID); err != nil {
			return nil, err
		}
	}
	var s standing
	err := d.store.View(ctx, func(rd store.Reader) (err error) {
		s = standing{}
		if t.Principal != "" {
			cert, err := d.certificate(rd, t.Principal)
			if err != nil {
				return err
			}
			w := who{certificate: cert.ID}
			if t.ClientID != nil {
				w.clientID = *t.ClientID
			}
			thing, _, err := thingOf(rd, w)
			if err != nil {
				return err
			}
			if s, err = d.inquire(rd, cert, thing); err != nil {
				return err
			}
		}
		return d.vary(rd, &s, t.Add, t.Skip)
	})
	if err != nil {
		return nil, err
	}
	about := policy.Context{Now: d.now(), Thing: s.thing, Certificate: s.described}
	if t.ClientID != nil {
		about.MQTT, about.ClientID = true, *t.ClientID
	}
	results := make([]iot.AuthorizationResult, len(t.Requests))
	for i, r := range t.Requests {
		about.Connect = r.Action == "iot:Connect"
		results[i] = s.try(r, &about)
	}
	return results, nil
}

// vary adds policies to those of s, as if they were attached, and takes others away.
func (d *Decider) vary(rd store.PolicyReader, s *standing, add, skip []iot.PolicyName) error {
	for _, name := range slices.Concat(add, skip) {
		p, err := rd.PolicyByName(name)
		if err != nil {
			return absent(err, "Policy", string(name))
		}
		at, found := slices.BinarySearch(s.names, name)
		switch {
		case slices.Contains(skip, name):
			if found {
				s.names, s.policies = slices.Delete(s.names, at, at+1), slices.Delete(s.policies, at, at+1)
			}
		case !found:
			compiled, err := d.document(rd, p)
			if err != nil {
				return err
			}
			s.names, s.policies = slices.Insert(s.names, at, name), slices.Insert(s.policies, at, compiled)
		}
	}
	return nil
}

// try asks the policies of s about all resources of a request.
func (s *standing) try(r iot.AuthorizationRequest, about *policy.Context) (result iot.AuthorizationResult) {
	decision := policy.Allowed
	if len(r.Resources) == 0 {
		decision = policy.ImplicitDeny
	}
	outcomes := make([]policy.Outcome, len(s.policies))
	for _, resource := range r.Resources {
		request := &policy.Request{Action: r.Action, Resource: policy.ARN{Prefix: resource}, Context: about}
		switch outcome := policy.Decide(s.policies, request).Outcome; {
		case outcome == policy.ExplicitDeny:
			decision = outcome
		case outcome == policy.ImplicitDeny && decision == policy.Allowed:
			decision = outcome
		}
		for i, p := range s.policies {
			outcomes[i] = max(outcomes[i], p.Decide(request).Outcome)
			for _, name := range p.Missing(request) {
				if !slices.Contains(result.Missing, name) {
					result.Missing = append(result.Missing, name)
				}
			}
		}
	}
	result.Decision = decision.String()
	for i, outcome := range outcomes {
		list := &result.ImplicitDeny
		switch outcome {
		case policy.Allowed:
			list = &result.Allowed
		case policy.ExplicitDeny:
			list = &result.ExplicitDeny
		}
		*list = append(*list, s.names[i])
	}
	return result
}

// certificate finds the certificate that a principal is.
func (d *Decider) certificate(rd store.CertificateReader, principal string) (*iot.Certificate, error) {
	kind, name, err := d.realm.ParseARN(principal)
	if err != nil {
		return nil, err
	}
	id := iot.CertificateID(name)
	if kind != iot.KindCert || !id.Valid() {
		return nil, iot.Errorf(iot.InvalidRequest, "The principal %q is not the ARN of a certificate", principal)
	}
	c, err := rd.CertificateByID(id)
	return c, absent(err, "Certificate", name)
}

// absent turns store.ErrNotFound into a NotFound error and leaves other errors alone.
func absent(err error, what, name string) error {
	if errors.Is(err, store.ErrNotFound) {
		return iot.Errorf(iot.NotFound, "%s %s cannot be found.", what, name)
	}
	return err
}
