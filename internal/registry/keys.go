package registry

import (
	"context"

	"drover/internal/auth/policy"
	"drover/internal/iot"
	"drover/internal/store"
)

// CheckKey checks name and policy of a new API key. InvalidRequest for the name; MalformedPolicy.
func CheckKey(name, document string) error {
	if !iot.ValidKeyName(name) {
		return iot.Invalid("name", name, "Member must satisfy regular expression pattern: [a-zA-Z0-9_+=,.@-]+ and have a length of 1 to 64")
	}
	if _, err := policy.Parse(document, policy.KeyLimit); err != nil {
		return iot.Errorf(iot.MalformedPolicy, "The policy document is malformed: %v", err)
	}
	return nil
}

// Keys returns the API keys by name.
func (r *Registry) Keys(ctx context.Context) ([]iot.APIKey, error) {
	return view(ctx, r, store.Reader.APIKeys)
}

// InsertKey stores a new API key and returns it as it is stored. AlreadyExists for a name that is
// taken; LimitExceeded; otherwise as CheckKey.
func (r *Registry) InsertKey(ctx context.Context, k iot.APIKey, actor string) (iot.APIKey, error) {
	if err := CheckKey(k.Name, k.Policy); err != nil {
		return k, err
	}
	err := r.update(ctx, actor, func(c *change) error {
		keys, err := c.APIKeys()
		if err != nil {
			return err
		}
		if len(keys) >= r.limits.Keys {
			return iot.Errorf(iot.LimitExceeded, "There are %d API keys, which is the limit", len(keys))
		}
		for _, other := range keys {
			if other.Name == k.Name {
				return iot.Errorf(iot.AlreadyExists, "There is an API key %s already, %s", k.Name, other.ID)
			}
		}
		k.CreatedAt = c.now
		if err := c.InsertAPIKey(k); err != nil {
			return err
		}
		return c.record(iot.KeyCreated, iot.KeyEvent{ID: k.ID, Name: k.Name})
	})
	return k, err
}

// DeleteKey forgets the API key of the id or the name, and returns its id. NotFound.
func (r *Registry) DeleteKey(ctx context.Context, idOrName, actor string) (id string, err error) {
	err = r.update(ctx, actor, func(c *change) error {
		keys, err := c.APIKeys()
		if err != nil {
			return err
		}
		for _, k := range keys {
			if k.ID != idOrName && k.Name != idOrName {
				continue
			}
			id = k.ID
			if _, err := c.DeleteAPIKey(id); err != nil {
				return err
			}
			return c.record(iot.KeyRevoked, iot.KeyEvent{ID: k.ID, Name: k.Name})
		}
		return iot.Errorf(iot.NotFound, "There is no API key %s", idOrName)
	})
	return id, err
}
