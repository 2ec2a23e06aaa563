package registry

import (
	"context"
	"errors"

	"drover/internal/iot"
	"drover/internal/store"
)

// Tag adds tags to a job, job template, thing group, thing type or CA certificate; a key that exists gets the new value.
// InvalidRequest for an ARN that is malformed or of something that cannot have tags, and
// for bad tags; NotFound for a resource that does not exist; LimitExceeded, and no tag
// added, for more than the resource can have.
func (r *Registry) Tag(ctx context.Context, t iot.Tagging) error {
	if err := iot.CheckTags(t.Tags); err != nil {
		return err
	}
	return r.update(ctx, t.Actor, func(c *change) error {
		if err := r.checkTaggable(c, t.ARN); err != nil {
			return err
		}
		tags, err := c.Tags(t.ARN)
		if err != nil {
			return err
		}
		keys := make(map[string]bool, len(tags)+len(t.Tags))
		for _, tag := range append(tags, t.Tags...) {
			keys[tag.Key] = true
		}
		if len(keys) > r.limits.Tags {
			return iot.Errorf(iot.LimitExceeded, "The resource would have %d tags; the limit is %d", len(keys), r.limits.Tags)
		}
		return c.PutTags(t.ARN, t.Tags)
	})
}

// Untag removes tags; keys that do not exist are ignored. InvalidRequest and NotFound as
// for Tag.
func (r *Registry) Untag(ctx context.Context, t iot.Untagging) error {
	return r.update(ctx, t.Actor, func(c *change) error {
		if err := r.checkTaggable(c, t.ARN); err != nil {
			return err
		}
		if len(t.Keys) == 0 {
			return nil // the store takes no keys for all keys
		}
		return c.DeleteTags(t.ARN, t.Keys)
	})
}

// Tags lists the tags of a resource by key. InvalidRequest and NotFound as for Tag.
func (r *Registry) Tags(ctx context.Context, arn string, page iot.Page) ([]iot.Tag, string, error) {
	return list(ctx, r, func(rd store.Reader) ([]iot.Tag, string, error) {
		if err := r.checkTaggable(rd, arn); err != nil {
			return nil, "", err
		}
		all, err := rd.Tags(arn)
		if err != nil {
			return nil, "", err
		}
		var tags []iot.Tag
		for _, t := range all {
			if t.Key > page.Cursor && len(tags) <= page.Limit {
				tags = append(tags, t)
			}
		}
		tags, next := cut(tags, page.Limit, func(t iot.Tag) string { return t.Key })
		return tags, next, nil
	})
}

// checkTaggable checks that arn names something that exists and can have tags.
func (r *Registry) checkTaggable(rd store.Reader, arn string) error {
	kind, name, err := r.realm.ParseARN(arn)
	if err != nil {
		return err
	}
	switch kind {
	case iot.KindJob:
		_, err = rd.JobByName(iot.JobID(name))
		return store.Absent(err, "Job", name)
	case iot.KindGroup:
		_, err = groupByName(rd, iot.GroupName(name))
		return err
	case iot.KindThingType:
		_, err = typeByName(rd, name)
		return err
	case iot.KindTemplate:
		_, err = rd.TemplateByID(name)
		return store.Absent(err, "Job template", name)
	case iot.KindCACert:
		_, err = caByID(rd, iot.CertificateID(name))
		return err
	case iot.KindAuthorizer:
		_, err = authorizerByName(rd, name)
		return err
	case iot.KindProvisioning:
		_, err = provisioningByName(rd, name)
		return err
	case iot.KindPolicy:
		_, err = policyByName(rd, iot.PolicyName(name))
		return err
	case iot.KindStream:
		_, err = rd.StreamByID(name)
		return store.Absent(err, "Stream", name)
	case iot.KindOTAUpdate:
		_, err = rd.OTAUpdateByID(name)
		return store.Absent(err, "OTA update", name)
	case iot.KindCommand:
		_, err = rd.CommandByID(name)
		return store.Absent(err, "Command", name)
	case iot.KindBillingGroup:
		_, err = billingGroup(rd, name)
		return err
	case iot.KindPackage:
		if _, err := rd.Package(name); !errors.Is(err, store.ErrNotFound) {
			return err
		}
		d, err := r.realm.ParseDestination(arn)
		if err == nil {
			_, err = rd.PackageVersion(d.Package, d.Version)
		}
		if err != nil {
			return iot.Errorf(iot.NotFound, "Package %s cannot be found.", name)
		}
		return nil
	case "fleetmetric", "rule", "securityprofile", "scheduledaudit":
		// Resources of the service that can have tags, none of which exist here.
		return iot.Errorf(iot.NotFound, "Resource %s cannot be found.", arn)
	}
	return iot.Errorf(iot.InvalidRequest, "A resource of the kind %q cannot have tags", kind)
}
