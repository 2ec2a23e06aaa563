package registry

import (
	"context"
	"errors"
	"maps"
	"slices"

	"drover/internal/iot"
	"drover/internal/store"
)

// CreateAuthorizer stores a custom authorizer. InvalidRequest as iot.Authorizer.Check and for bad
// tags; AlreadyExists for a name that is taken, unless everything is as it is; LimitExceeded.
func (r *Registry) CreateAuthorizer(ctx context.Context, n iot.NewAuthorizer) (*iot.Authorizer, error) {
	a := n.Authorizer
	if err := a.Check(); err != nil {
		return nil, err
	}
	if err := iot.CheckNewTags(n.Tags); err != nil {
		return nil, err
	}
	var made *iot.Authorizer
	err := r.update(ctx, n.Actor, func(c *change) error {
		have, err := c.AuthorizerByName(a.Name)
		if err == nil {
			made = have
			if !sameAuthorizer(have, &a) {
				return r.exists(iot.KindAuthorizer, a.Name, a.Name, "Authorizer "+a.Name+" already exists with another definition")
			}
			return nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		all, err := c.Authorizers()
		if err != nil {
			return err
		}
		if len(all) >= r.limits.Authorizers {
			return iot.Errorf(iot.LimitExceeded, "There are %d authorizers; the limit is %d", len(all), r.limits.Authorizers)
		}
		made = &a
		a.CreatedAt, a.ModifiedAt = c.now, c.now
		if err := c.InsertAuthorizer(&a); err != nil {
			return err
		}
		if err := c.PutTags(r.realm.ARN(iot.KindAuthorizer, a.Name), n.Tags); err != nil {
			return err
		}
		return c.record(iot.AuthorizerCreated, authorizerEvent(&a, ""))
	})
	if err != nil {
		return nil, err
	}
	return made, nil
}

func sameAuthorizer(a, b *iot.Authorizer) bool {
	return a.Function == b.Function && a.TokenKey == b.TokenKey && maps.Equal(a.Keys, b.Keys) && a.Active == b.Active &&
		a.SigningDisabled == b.SigningDisabled && a.CacheHTTP == b.CacheHTTP
}

// UpdateAuthorizer changes an authorizer; whether tokens are signed cannot change. NotFound;
// InvalidRequest as iot.Authorizer.Check.
func (r *Registry) UpdateAuthorizer(ctx context.Context, u iot.AuthorizerUpdate) (a *iot.Authorizer, err error) {
	err = r.update(ctx, u.Actor, func(c *change) error {
		if a, err = authorizerByName(c, u.Name); err != nil {
			return err
		}
		if u.Function != "" {
			a.Function = u.Function
		}
		if u.TokenKey != "" {
			a.TokenKey = u.TokenKey
		}
		if u.Keys != nil {
			a.Keys = u.Keys
		}
		if u.Active != nil {
			a.Active = *u.Active
		}
		if u.CacheHTTP != nil {
			a.CacheHTTP = *u.CacheHTTP
		}
		if err := a.Check(); err != nil {
			return err
		}
		a.ModifiedAt = c.now
		if err := c.SaveAuthorizer(a); err != nil {
			return err
		}
		name, err := defaultAuthorizer(c)
		if err != nil {
			return err
		}
		return c.record(iot.AuthorizerUpdated, authorizerEvent(a, name))
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

// DeleteAuthorizer forgets an authorizer. NotFound; DeleteConflict for one that is active or the
// default (identity spec §6.1).
func (r *Registry) DeleteAuthorizer(ctx context.Context, name, actor string) error {
	return r.update(ctx, actor, func(c *change) error {
		a, err := authorizerByName(c, name)
		if err != nil {
			return err
		}
		standard, err := defaultAuthorizer(c)
		switch {
		case err != nil:
			return err
		case standard == name:
			return iot.Errorf(iot.DeleteConflict, "Authorizer %s is the default authorizer; clear that first", name)
		case a.Active:
			return iot.Errorf(iot.DeleteConflict, "Authorizer %s is ACTIVE; make it INACTIVE first", name)
		}
		if err := c.DeleteAuthorizer(a); err != nil {
			return err
		}
		if err := c.DeleteTags(r.realm.ARN(iot.KindAuthorizer, name), nil); err != nil {
			return err
		}
		return c.record(iot.AuthorizerDeleted, authorizerEvent(a, ""))
	})
}

// Authorizer returns an authorizer. NotFound.
func (r *Registry) Authorizer(ctx context.Context, name string) (*iot.Authorizer, error) {
	return view(ctx, r, func(rd store.Reader) (*iot.Authorizer, error) { return authorizerByName(rd, name) })
}

// Authorizers lists authorizers by when they were made.
func (r *Registry) Authorizers(ctx context.Context, q iot.AuthorizerQuery, page iot.Page) ([]*iot.Authorizer, string, error) {
	return bySeq(ctx, r, page, func(rd store.Reader, after int64, limit int) ([]*iot.Authorizer, error) {
		all, err := rd.Authorizers()
		if !q.Ascending {
			slices.Reverse(all)
		}
		all = slices.DeleteFunc(all, func(a *iot.Authorizer) bool {
			before := after != 0 && (q.Ascending && a.Seq <= after || !q.Ascending && a.Seq >= after)
			return before || q.Active != nil && a.Active != *q.Active
		})
		return all[:min(limit, len(all))], err
	}, func(a *iot.Authorizer) int64 { return a.Seq })
}

// DefaultAuthorizer returns the default authorizer. NotFound if there is none.
func (r *Registry) DefaultAuthorizer(ctx context.Context) (*iot.Authorizer, error) {
	return view(ctx, r, func(rd store.Reader) (*iot.Authorizer, error) {
		name, err := defaultAuthorizer(rd)
		if err != nil {
			return nil, err
		}
		if name == "" {
			return nil, errNoDefaultAuthorizer
		}
		return authorizerByName(rd, name)
	})
}

// SetDefaultAuthorizer makes an authorizer the default. NotFound; AlreadyExists if another one is
// the default (identity spec §6.1).
func (r *Registry) SetDefaultAuthorizer(ctx context.Context, name, actor string) (a *iot.Authorizer, err error) {
	err = r.update(ctx, actor, func(c *change) error {
		if a, err = authorizerByName(c, name); err != nil {
			return err
		}
		standard, err := defaultAuthorizer(c)
		switch {
		case err != nil:
			return err
		case standard == name:
			return nil
		case standard != "":
			return r.exists(iot.KindAuthorizer, standard, standard, "Authorizer "+standard+" is the default authorizer; clear that first")
		}
		if err := c.SaveDefaultAuthorizer(name); err != nil {
			return err
		}
		return c.record(iot.AuthorizerUpdated, authorizerEvent(a, name))
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

// ClearDefaultAuthorizer: there is no default authorizer afterwards. NotFound if there was none.
func (r *Registry) ClearDefaultAuthorizer(ctx context.Context, actor string) error {
	return r.update(ctx, actor, func(c *change) error {
		name, err := defaultAuthorizer(c)
		if err != nil {
			return err
		}
		if name == "" {
			return errNoDefaultAuthorizer
		}
		a, err := authorizerByName(c, name)
		if err != nil {
			return err
		}
		if err := c.SaveDefaultAuthorizer(""); err != nil {
			return err
		}
		return c.record(iot.AuthorizerUpdated, authorizerEvent(a, ""))
	})
}

var errNoDefaultAuthorizer = iot.Errorf(iot.NotFound, "There is no default authorizer.")

// defaultAuthorizer returns the name of the default authorizer, "" if there is none.
func defaultAuthorizer(rd store.AuthorizerReader) (string, error) {
	name, err := rd.DefaultAuthorizer()
	if errors.Is(err, store.ErrNotFound) {
		return "", nil
	}
	return name, err
}

func authorizerByName(rd store.AuthorizerReader, name string) (*iot.Authorizer, error) {
	a, err := rd.AuthorizerByName(name)
	return a, store.Absent(err, "Authorizer", name)
}

func authorizerEvent(a *iot.Authorizer, standard string) iot.AuthorizerEventData {
	return iot.AuthorizerEventData{Name: a.Name, Active: a.Active, Default: a.Name == standard}
}
