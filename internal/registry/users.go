package registry

import (
	"context"

	"drover/internal/iot"
	"drover/internal/store"
)

// Users returns the users of the console by name.
func (r *Registry) Users(ctx context.Context) ([]iot.User, error) {
	return view(ctx, r, store.Reader.Users)
}

// InsertUser stores a new user and returns it as it is stored. InvalidRequest for the name;
// AlreadyExists; LimitExceeded.
func (r *Registry) InsertUser(ctx context.Context, u iot.User, actor string) (iot.User, error) {
	if !iot.ValidUserName(u.Name) {
		return u, iot.Invalid("name", u.Name, "Member must satisfy regular expression pattern: [a-zA-Z0-9_+=,.@-]+, have a length of 1 to 64 and not begin with AKIA")
	}
	err := r.update(ctx, actor, func(c *change) error {
		users, err := c.Users()
		if err != nil {
			return err
		}
		if len(users) >= r.limits.Users {
			return iot.Errorf(iot.LimitExceeded, "There are %d users, which is the limit", len(users))
		}
		for _, other := range users {
			if other.Name == u.Name {
				return iot.Errorf(iot.AlreadyExists, "There is a user %s already", u.Name)
			}
		}
		u.CreatedAt = c.now
		if err := c.told(news{Keys: true}); err != nil {
			return err
		}
		if err := c.InsertUser(u); err != nil {
			return err
		}
		return c.record(iot.UserCreated, iot.UserEvent{Name: u.Name})
	})
	return u, err
}

// ChangeUser changes a user, and returns what is stored then. what is for the journal: password, role or
// totp. NotFound.
func (r *Registry) ChangeUser(ctx context.Context, name, what, actor string, edit func(*iot.User)) (u iot.User, err error) {
	err = r.update(ctx, actor, func(c *change) error {
		if u, err = c.user(name); err != nil {
			return err
		}
		edit(&u)
		if err := c.told(news{Keys: true}); err != nil {
			return err
		}
		if err := c.SaveUser(u); err != nil {
			return err
		}
		return c.record(iot.UserChanged, iot.UserEvent{Name: name, Change: what})
	})
	return u, err
}

// SpendCode notes that a user has used the one-time code of a step, and reports false if that or a later
// one has been used before. NotFound.
func (r *Registry) SpendCode(ctx context.Context, name string, step int64) (fresh bool, err error) {
	err = r.update(ctx, "user:"+name, func(c *change) error {
		u, err := c.user(name)
		if fresh = err == nil && step > u.CodeStep; !fresh {
			return err
		}
		u.CodeStep = step
		return c.SaveUser(u) // others need not be told: they ask, too
	})
	return fresh, err
}

// DeleteUser forgets a user. NotFound.
func (r *Registry) DeleteUser(ctx context.Context, name, actor string) error {
	return r.update(ctx, actor, func(c *change) error {
		if err := c.told(news{Keys: true}); err != nil {
			return err
		}
		had, err := c.Tx.DeleteUser(name)
		if err != nil {
			return err
		}
		if !had {
			return noUser(name)
		}
		return c.record(iot.UserRemoved, iot.UserEvent{Name: name})
	})
}

func (c *change) user(name string) (iot.User, error) {
	users, err := c.Users()
	if err != nil {
		return iot.User{}, err
	}
	for _, u := range users {
		if u.Name == name {
			return u, nil
		}
	}
	return iot.User{}, noUser(name)
}

func noUser(name string) error { return iot.Errorf(iot.NotFound, "There is no user %s", name) }
