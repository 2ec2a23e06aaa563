package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"drover/internal/auth/policy"
	"drover/internal/iot"
	"drover/internal/store"
)

// checkDocument checks a policy document of devices. MalformedPolicy.
func checkDocument(text string) error {
	if _, err := policy.Parse(text, policy.DeviceLimit); err != nil {
		return iot.Errorf(iot.MalformedPolicy, "The policy document is malformed: %v", err)
	}
	return nil
}

// CreatePolicy creates a policy, the first version of which is in force. InvalidRequest for a bad
// name and bad tags; MalformedPolicy; AlreadyExists, whatever the document.
func (r *Registry) CreatePolicy(ctx context.Context, n iot.NewPolicy) (*iot.Policy, error) {
	if !n.Name.Valid() {
		return nil, iot.Invalid("policyName", n.Name, `Member must satisfy regular expression pattern: [\w+=,.@-]+ and have a length of 1 to 128`)
	}
	if err := iot.CheckNewTags(n.Tags); err != nil {
		return nil, err
	}
	if err := checkDocument(n.Document); err != nil {
		return nil, err
	}
	var p *iot.Policy
	err := r.update(ctx, n.Actor, func(c *change) error {
		have, err := c.PolicyByName(n.Name)
		if err == nil {
			return r.exists(iot.KindPolicy, string(n.Name), have.UUID, "Policy cannot be created - name already exists (name="+string(n.Name)+")")
		}
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if p, err = c.insertPolicy(n.Name, n.Document); err != nil || len(n.Tags) == 0 {
			return err
		}
		return c.PutTags(r.realm.ARN(iot.KindPolicy, string(n.Name)), n.Tags)
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// insertPolicy stores a new policy of a document that has been checked.
func (c *change) insertPolicy(name iot.PolicyName, document string) (*iot.Policy, error) {
	p := &iot.Policy{Name: name, UUID: uuid.NewString(), Default: 1, Latest: 1, CreatedAt: c.now, ModifiedAt: c.now}
	if err := c.InsertPolicy(p, &iot.PolicyVersion{Version: 1, Document: document, CreatedAt: c.now}); err != nil {
		return nil, err
	}
	return p, c.record(iot.PolicyCreated, iot.PolicyEvent{Name: name, Version: 1})
}

// Policy returns a policy and the version that is in force. NotFound.
func (r *Registry) Policy(ctx context.Context, name iot.PolicyName) (*iot.Policy, *iot.PolicyVersion, error) {
	return r.PolicyVersion(ctx, name, 0)
}

// PolicyVersion returns a policy and a version of it; 0 is the one that is in force. NotFound.
func (r *Registry) PolicyVersion(ctx context.Context, name iot.PolicyName, version int) (p *iot.Policy, v *iot.PolicyVersion, err error) {
	err = r.store.View(ctx, func(rd store.Reader) error {
		if p, err = policyByName(rd, name); err != nil {
			return err
		}
		v, err = policyVersion(rd, p, version)
		return err
	})
	return p, v, err
}

// Policies lists policies by when they were created.
func (r *Registry) Policies(ctx context.Context, ascending bool, page iot.Page) ([]*iot.Policy, string, error) {
	return bySeq(ctx, r, page, func(rd store.Reader, after int64, limit int) ([]*iot.Policy, error) {
		return rd.Policies(ascending, after, limit)
	}, func(p *iot.Policy) int64 { return p.ID })
}

// PolicyVersions returns a policy and its versions, without their documents. NotFound.
func (r *Registry) PolicyVersions(ctx context.Context, name iot.PolicyName) (p *iot.Policy, versions []*iot.PolicyVersion, err error) {
	err = r.store.View(ctx, func(rd store.Reader) error {
		if p, err = policyByName(rd, name); err != nil {
			return err
		}
		versions, err = rd.PolicyVersions(p.ID)
		return err
	})
	return p, versions, err
}

// DeletePolicy forgets a policy. NotFound; DeleteConflict as long as it is attached to something or
// has a version that is not in force.
func (r *Registry) DeletePolicy(ctx context.Context, d iot.PolicyDeletion) error {
	return r.update(ctx, d.Actor, func(c *change) error {
		p, err := policyByName(c, d.Name)
		if err != nil {
			return err
		}
		targets, err := c.PolicyTargets(p.ID, iot.PolicyTarget{}, 1)
		if err != nil {
			return err
		}
		if len(targets) > 0 {
			return iot.Errorf(iot.DeleteConflict, "The policy cannot be deleted as the policy is attached to one or more principals (name=%s)", p.Name)
		}
		versions, err := c.PolicyVersions(p.ID)
		if err != nil {
			return err
		}
		if len(versions) > 1 {
			return iot.Errorf(iot.DeleteConflict, "Cannot delete the policy because it has one or more policy versions attached to it (name=%s)", p.Name)
		}
		if err := c.DeletePolicy(p); err != nil {
			return err
		}
		if err := c.DeleteTags(r.realm.ARN(iot.KindPolicy, string(p.Name)), nil); err != nil {
			return err
		}
		return c.record(iot.PolicyDeleted, iot.PolicyEvent{Name: p.Name})
	})
}

// CreatePolicyVersion adds a version to a policy and, if asked to, puts it into force. NotFound;
// MalformedPolicy; VersionsLimit for more versions than a policy can have.
func (r *Registry) CreatePolicyVersion(ctx context.Context, n iot.NewPolicyVersion) (p *iot.Policy, v *iot.PolicyVersion, err error) {
	if err := checkDocument(n.Document); err != nil {
		return nil, nil, err
	}
	err = r.update(ctx, n.Actor, func(c *change) error {
		if p, err = policyByName(c, n.Name); err != nil {
			return err
		}
		versions, err := c.PolicyVersions(p.ID)
		if err != nil {
			return err
		}
		if len(versions) >= iot.MaxPolicyVersions {
			return iot.Errorf(iot.VersionsLimit, "The policy %s already has the maximum number of versions (%d)", p.Name, iot.MaxPolicyVersions)
		}
		p.Latest++
		p.ModifiedAt = c.now
		if n.Default {
			p.Default = p.Latest
		}
		v = &iot.PolicyVersion{Version: p.Latest, Document: n.Document, CreatedAt: c.now}
		if err := c.InsertPolicyVersion(p.ID, v); err != nil {
			return err
		}
		if err := c.SavePolicy(p); err != nil {
			return err
		}
		if err := c.record(iot.PolicyVersionCreated, iot.PolicyEvent{Name: p.Name, Version: v.Version}); err != nil || !n.Default {
			return err
		}
		return c.record(iot.PolicyVersionInForce, iot.PolicyEvent{Name: p.Name, Version: v.Version})
	})
	return p, v, err
}

// SetDefaultPolicyVersion puts a version of a policy into force. NotFound.
func (r *Registry) SetDefaultPolicyVersion(ctx context.Context, u iot.PolicyVersionChange) error {
	return r.update(ctx, u.Actor, func(c *change) error {
		p, err := policyByName(c, u.Name)
		if err != nil {
			return err
		}
		if _, err := policyVersion(c, p, u.Version); err != nil || p.Default == u.Version {
			return err
		}
		p.Default, p.ModifiedAt = u.Version, c.now
		if err := c.SavePolicy(p); err != nil {
			return err
		}
		return c.record(iot.PolicyVersionInForce, iot.PolicyEvent{Name: p.Name, Version: u.Version})
	})
}

// DeletePolicyVersion forgets a version of a policy. NotFound; DeleteConflict for the one that is in
// force (identity spec A-28).
func (r *Registry) DeletePolicyVersion(ctx context.Context, d iot.PolicyVersionChange) error {
	return r.update(ctx, d.Actor, func(c *change) error {
		p, err := policyByName(c, d.Name)
		if err != nil {
			return err
		}
		if _, err := policyVersion(c, p, d.Version); err != nil {
			return err
		}
		if p.Default == d.Version {
			return iot.Errorf(iot.DeleteConflict, "Cannot delete the default version of a policy (name=%s, version=%d)", p.Name, d.Version)
		}
		if err := c.DeletePolicyVersion(p.ID, d.Version); err != nil {
			return err
		}
		p.ModifiedAt = c.now
		if err := c.SavePolicy(p); err != nil {
			return err
		}
		return c.record(iot.PolicyVersionDeleted, iot.PolicyEvent{Name: p.Name, Version: d.Version})
	})
}

// AttachPolicy attaches a policy to a certificate or a thing group; doing so again changes nothing.
// NotFound for either; InvalidRequest for a target of another kind; LimitExceeded for more policies
// than the target can have.
func (r *Registry) AttachPolicy(ctx context.Context, a iot.PolicyAttachment) error {
	target, err := r.policyTarget(a.Target)
	if err != nil {
		return err
	}
	return r.update(ctx, a.Actor, func(c *change) error {
		p, err := policyByName(c, a.Name)
		if err != nil {
			return err
		}
		if err := checkTarget(c, target); err != nil {
			return err
		}
		if target.Kind == iot.KindGroup {
			if _, err := staticByName(c, iot.GroupName(target.Name)); err != nil {
				return err
			}
		}
		return r.attachPolicy(c, p, target)
	})
}

// attachPolicy attaches a policy to a target that exists. LimitExceeded.
func (r *Registry) attachPolicy(c *change, p *iot.Policy, target iot.PolicyTarget) error {
	isNew, err := c.AttachPolicy(p.ID, target)
	if err != nil || !isNew {
		return err
	}
	attached, err := c.AttachedPolicies([]iot.PolicyTarget{target})
	if err != nil {
		return err
	}
	limit := r.limits.PoliciesPerCertificate
	if target.Kind == iot.KindGroup {
		limit = r.limits.PoliciesPerGroup
	}
	arn := r.realm.ARN(target.Kind, target.Name)
	if len(attached) > limit {
		return iot.Errorf(iot.LimitExceeded, "The maximum number of policies attached to %s has been reached: the limit is %d", arn, limit)
	}
	return c.record(iot.PolicyAttached, iot.PolicyEvent{Name: p.Name, Target: arn})
}

// DetachPolicy ends an attachment. What is not attached, or not there at all, is no error; neither
// has the service one for it. InvalidRequest for a target that nothing can be attached to.
func (r *Registry) DetachPolicy(ctx context.Context, a iot.PolicyAttachment) error {
	target, err := r.policyTarget(a.Target)
	if err != nil {
		return err
	}
	return r.update(ctx, a.Actor, func(c *change) error {
		p, err := c.PolicyByName(a.Name)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		return r.detach(c, p, target)
	})
}

// detach ends one attachment, if it is there.
func (r *Registry) detach(c *change, p *iot.Policy, target iot.PolicyTarget) error {
	had, err := c.DetachPolicy(p.ID, target)
	if err != nil || !had {
		return err
	}
	return c.record(iot.PolicyDetached, iot.PolicyEvent{Name: p.Name, Target: r.realm.ARN(target.Kind, target.Name)})
}

// detachAll ends every attachment to a target that is about to be deleted.
func (r *Registry) detachAll(c *change, target iot.PolicyTarget) error {
	attached, err := c.AttachedPolicies([]iot.PolicyTarget{target})
	if err != nil {
		return err
	}
	for _, p := range attached {
		if err := r.detach(c, p, target); err != nil {
			return err
		}
	}
	return nil
}

// AttachedPolicies lists what is attached to a target, given by its ARN, by name; with recursive
// also what is attached to the ancestors of a group. NotFound; InvalidRequest for a target that
// nothing can be attached to.
func (r *Registry) AttachedPolicies(ctx context.Context, arn string, recursive bool, page iot.Page) ([]*iot.Policy, string, error) {
	target, err := r.policyTarget(arn)
	if err != nil {
		return nil, "", err
	}
	return list(ctx, r, func(rd store.Reader) ([]*iot.Policy, string, error) {
		if err := checkTarget(rd, target); err != nil {
			return nil, "", err
		}
		targets := []iot.PolicyTarget{target}
		if recursive && target.Kind == iot.KindGroup {
			g, err := rd.GroupByName(iot.GroupName(target.Name))
			if err != nil {
				return nil, "", err
			}
			ancestors, err := rd.Ancestors(g.ID)
			if err != nil {
				return nil, "", err
			}
			for _, a := range ancestors {
				targets = append(targets, iot.GroupTarget(a.Name))
			}
		}
		policies, err := rd.AttachedPolicies(targets)
		if err != nil {
			return nil, "", err
		}
		policies = slices.DeleteFunc(policies, func(p *iot.Policy) bool { return string(p.Name) <= page.Cursor })
		policies, next := cut(policies, page.Limit, func(p *iot.Policy) string { return string(p.Name) })
		return policies, next, nil
	})
}

// PolicyTargets lists what a policy is attached to. NotFound.
func (r *Registry) PolicyTargets(ctx context.Context, name iot.PolicyName, page iot.Page) ([]iot.PolicyTarget, string, error) {
	return list(ctx, r, func(rd store.Reader) ([]iot.PolicyTarget, string, error) {
		p, err := policyByName(rd, name)
		if err != nil {
			return nil, "", err
		}
		var after iot.PolicyTarget
		after.Kind, after.Name, _ = strings.Cut(page.Cursor, "/")
		targets, err := rd.PolicyTargets(p.ID, after, page.Limit+1)
		if err != nil {
			return nil, "", err
		}
		targets, next := cut(targets, page.Limit, func(t iot.PolicyTarget) string { return t.Kind + "/" + t.Name })
		return targets, next, nil
	})
}

// policyTarget reads the ARN of something that policies can be attached to.
func (r *Registry) policyTarget(arn string) (iot.PolicyTarget, error) {
	kind, name, err := r.realm.ParseARN(arn)
	if err != nil {
		return iot.PolicyTarget{}, err
	}
	if kind != iot.KindGroup && (kind != iot.KindCert || !iot.CertificateID(name).Valid()) {
		return iot.PolicyTarget{}, iot.Errorf(iot.InvalidRequest, "The target %q is the ARN of neither a certificate nor a thing group", arn)
	}
	return iot.PolicyTarget{Kind: kind, Name: name}, nil
}

// checkTarget checks that a target exists.
func checkTarget(rd store.Reader, t iot.PolicyTarget) error {
	var err error
	switch t.Kind {
	case iot.KindCert:
		_, err = certificateByID(rd, iot.CertificateID(t.Name))
	case iot.KindGroup:
		_, err = groupByName(rd, iot.GroupName(t.Name))
	default:
		err = fmt.Errorf("policy target of the kind %q", t.Kind)
	}
	return err
}

func policyByName(rd store.PolicyReader, name iot.PolicyName) (*iot.Policy, error) {
	p, err := rd.PolicyByName(name)
	return p, store.Absent(err, "Policy", name)
}

// policyVersion returns a version of p; 0 is the one that is in force.
func policyVersion(rd store.PolicyReader, p *iot.Policy, version int) (*iot.PolicyVersion, error) {
	if version == 0 {
		version = p.Default
	}
	v, err := rd.PolicyVersion(p.ID, version)
	return v, store.Absent(err, "Policy version", fmt.Sprintf("%s/%d", p.Name, version))
}
