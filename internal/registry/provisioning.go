package registry

import (
	"context"
	"errors"
	"slices"

	"drover/internal/iot"
	"drover/internal/store"
)

// maxProvisioningVersions is how many versions of a template there can be at a time (identity
// spec §7.1).
const maxProvisioningVersions = 5

// CreateProvisioningTemplate stores a template with its first version. InvalidRequest for a body
// that iot.ParseBlueprint refuses, a hook that cannot be, and bad tags; AlreadyExists.
func (r *Registry) CreateProvisioningTemplate(ctx context.Context, n iot.NewProvisioningTemplate) (*iot.ProvisioningTemplate, error) {
	t := &iot.ProvisioningTemplate{
		Name: n.Name, Description: n.Description, Type: n.Type, Enabled: n.Enabled, RoleARN: n.RoleARN, Hook: n.Hook, DefaultVersion: 1, LastVersion: 1,
	}
	if t.Type == "" {
		t.Type = iot.FleetProvisioning
	}
	if _, err := iot.ParseBlueprint(n.Body, t.Type); err != nil {
		return nil, err
	}
	if err := iot.CheckHook(t.Hook, t.Type); err != nil {
		return nil, err
	}
	if err := iot.CheckNewTags(n.Tags); err != nil {
		return nil, err
	}
	err := r.update(ctx, n.Actor, func(c *change) error {
		if _, err := c.ProvisioningTemplate(n.Name); err == nil {
			return r.exists(iot.KindProvisioning, n.Name, n.Name, "Provisioning template "+n.Name+" already exists")
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		t.CreatedAt, t.ModifiedAt = c.now, c.now
		if err := c.InsertProvisioningTemplate(t); err != nil {
			return err
		}
		if err := c.InsertProvisioningVersion(iot.ProvisioningVersion{Template: t.Name, ID: 1, Body: n.Body, CreatedAt: c.now}); err != nil {
			return err
		}
		if err := c.PutTags(r.realm.ARN(iot.KindProvisioning, t.Name), n.Tags); err != nil {
			return err
		}
		return c.record(iot.ProvisioningCreated, provisioningEvent(t))
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// ProvisioningTemplate returns a template and its default version. NotFound.
func (r *Registry) ProvisioningTemplate(ctx context.Context, name string) (t *iot.ProvisioningTemplate, v iot.ProvisioningVersion, err error) {
	err = r.store.View(ctx, func(rd store.Reader) error {
		t, v, err = defaultVersion(rd, name)
		return err
	})
	return t, v, err
}

func defaultVersion(rd store.ProvisioningReader, name string) (*iot.ProvisioningTemplate, iot.ProvisioningVersion, error) {
	t, err := provisioningByName(rd, name)
	if err != nil {
		return nil, iot.ProvisioningVersion{}, err
	}
	v, err := rd.ProvisioningVersion(name, t.DefaultVersion)
	return t, v, err
}

// ProvisioningTemplates lists templates by name.
func (r *Registry) ProvisioningTemplates(ctx context.Context, page iot.Page) ([]*iot.ProvisioningTemplate, string, error) {
	return list(ctx, r, func(rd store.Reader) ([]*iot.ProvisioningTemplate, string, error) {
		items, err := rd.ProvisioningTemplates(page.Cursor, page.Limit+1)
		if err != nil {
			return nil, "", err
		}
		items, next := cut(items, page.Limit, func(t *iot.ProvisioningTemplate) string { return t.Name })
		return items, next, nil
	})
}

// UpdateProvisioningTemplate changes a template; its body changes by new versions only. NotFound
// for it and for the version that shall be the default; InvalidRequest for a hook that cannot be,
// or that is to be set and removed at once.
func (r *Registry) UpdateProvisioningTemplate(ctx context.Context, u iot.ProvisioningTemplateUpdate) error {
	if u.Hook != nil && u.RemoveHook {
		return iot.Errorf(iot.InvalidRequest, "Can not set preProvisioningHook and removePreProvisioningHook at the same time")
	}
	return r.update(ctx, u.Actor, func(c *change) error {
		t, err := provisioningByName(c, u.Name)
		if err != nil {
			return err
		}
		if u.Description != nil {
			t.Description = *u.Description
		}
		if u.Enabled != nil {
			t.Enabled = *u.Enabled
		}
		if u.RoleARN != nil {
			t.RoleARN = *u.RoleARN
		}
		if u.Hook != nil {
			if err := iot.CheckHook(u.Hook, t.Type); err != nil {
				return err
			}
			t.Hook = u.Hook
		}
		if u.RemoveHook {
			t.Hook = nil
		}
		if u.DefaultVersion != nil {
			if _, err := provisioningVersion(c, t.Name, *u.DefaultVersion); err != nil {
				return err
			}
			t.DefaultVersion = *u.DefaultVersion
		}
		return c.saveProvisioning(t)
	})
}

// DeleteProvisioningTemplate forgets a template. NotFound; DeleteConflict as long as it has more
// versions than one.
func (r *Registry) DeleteProvisioningTemplate(ctx context.Context, name, actor string) error {
	return r.update(ctx, actor, func(c *change) error {
		t, err := provisioningByName(c, name)
		if err != nil {
			return err
		}
		versions, err := c.ProvisioningVersions(name)
		if err != nil {
			return err
		}
		if len(versions) > 1 {
			return iot.Errorf(iot.DeleteConflict, "Provisioning template %s has %d versions; delete those that are not the default first", name, len(versions))
		}
		if err := c.DeleteProvisioningTemplate(name); err != nil {
			return err
		}
		if err := c.DeleteTags(r.realm.ARN(iot.KindProvisioning, name), nil); err != nil {
			return err
		}
		return c.record(iot.ProvisioningDeleted, provisioningEvent(t))
	})
}

// CreateProvisioningVersion stores a new version of a template and makes it the default if asked
// to. NotFound; InvalidRequest for a body that iot.ParseBlueprint refuses; VersionsLimit.
func (r *Registry) CreateProvisioningVersion(ctx context.Context, name, body string, asDefault bool, actor string) (v iot.ProvisioningVersion, err error) {
	err = r.update(ctx, actor, func(c *change) error {
		t, err := provisioningByName(c, name)
		if err != nil {
			return err
		}
		if _, err := iot.ParseBlueprint(body, t.Type); err != nil {
			return err
		}
		versions, err := c.ProvisioningVersions(name)
		if err != nil {
			return err
		}
		if len(versions) >= maxProvisioningVersions {
			return iot.Errorf(iot.VersionsLimit, "Provisioning template %s has %d versions, which is the limit", name, len(versions))
		}
		t.LastVersion++
		if asDefault {
			t.DefaultVersion = t.LastVersion
		}
		v = iot.ProvisioningVersion{Template: name, ID: t.LastVersion, Body: body, CreatedAt: c.now}
		if err := c.InsertProvisioningVersion(v); err != nil {
			return err
		}
		return c.saveProvisioning(t)
	})
	return v, err
}

// ProvisioningVersion returns a version of a template, and whether it is the default. NotFound.
func (r *Registry) ProvisioningVersion(ctx context.Context, name string, id int64) (v iot.ProvisioningVersion, standard bool, err error) {
	err = r.store.View(ctx, func(rd store.Reader) error {
		t, err := provisioningByName(rd, name)
		if err != nil {
			return err
		}
		standard = t.DefaultVersion == id
		v, err = provisioningVersion(rd, name, id)
		return err
	})
	return v, standard, err
}

// ProvisioningVersions returns the versions of a template without their bodies, the newest first,
// and which of them is the default. NotFound.
func (r *Registry) ProvisioningVersions(ctx context.Context, name string) (versions []iot.ProvisioningVersion, standard int64, err error) {
	err = r.store.View(ctx, func(rd store.Reader) error {
		t, err := provisioningByName(rd, name)
		if err != nil {
			return err
		}
		standard = t.DefaultVersion
		versions, err = rd.ProvisioningVersions(name)
		return err
	})
	slices.Reverse(versions)
	return versions, standard, err
}

// DeleteProvisioningVersion forgets a version of a template. NotFound; DeleteConflict for the
// default one.
func (r *Registry) DeleteProvisioningVersion(ctx context.Context, name string, id int64, actor string) error {
	return r.update(ctx, actor, func(c *change) error {
		t, err := provisioningByName(c, name)
		if err != nil {
			return err
		}
		if _, err := provisioningVersion(c, name, id); err != nil {
			return err
		}
		if t.DefaultVersion == id {
			return iot.Errorf(iot.DeleteConflict, "Version %d is the default of provisioning template %s", id, name)
		}
		if err := c.DeleteProvisioningVersion(name, id); err != nil {
			return err
		}
		return c.saveProvisioning(t)
	})
}

func (c *change) saveProvisioning(t *iot.ProvisioningTemplate) error {
	t.ModifiedAt = c.now
	if err := c.SaveProvisioningTemplate(t); err != nil {
		return err
	}
	return c.record(iot.ProvisioningUpdated, provisioningEvent(t))
}

func provisioningByName(rd store.ProvisioningReader, name string) (*iot.ProvisioningTemplate, error) {
	t, err := rd.ProvisioningTemplate(name)
	return t, store.Absent(err, "Provisioning template", name)
}

func provisioningVersion(rd store.ProvisioningReader, name string, id int64) (iot.ProvisioningVersion, error) {
	v, err := rd.ProvisioningVersion(name, id)
	return v, store.Absent(err, "Provisioning template "+name+", version", id)
}

func provisioningEvent(t *iot.ProvisioningTemplate) iot.ProvisioningTemplateEvent {
	return iot.ProvisioningTemplateEvent{Name: t.Name, Type: t.Type, Enabled: t.Enabled, Version: t.DefaultVersion}
}
