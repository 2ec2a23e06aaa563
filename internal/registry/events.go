package registry

import (
	"context"

	"drover/internal/iot"
	"drover/internal/store"
)

// EventConfigurations returns for every type of event whether it is published.
func (r *Registry) EventConfigurations(ctx context.Context) (iot.EventConfigurations, error) {
	return view(ctx, r, func(rd store.Reader) (iot.EventConfigurations, error) { return eventConfigurations(rd) })
}

// UpdateEventConfigurations switches events on and off. InvalidRequest for an unknown type.
func (r *Registry) UpdateEventConfigurations(ctx context.Context, u iot.EventsUpdate) error {
	for t := range u.Enabled {
		if !t.Valid() {
			return iot.Invalid("eventConfigurations", t, "Map keys must satisfy constraint: [Member must satisfy enum value set]")
		}
	}
	return r.update(ctx, u.Actor, func(c *change) error {
		cfg, err := eventConfigurations(c)
		if err != nil {
			return err
		}
		for t, on := range u.Enabled {
			cfg.Enabled[t] = on
		}
		if cfg.CreatedAt == 0 {
			cfg.CreatedAt = c.now
		}
		cfg.ModifiedAt = c.now
		if err := c.SaveEventConfigurations(cfg); err != nil {
			return err
		}
		return c.record(iot.EventsConfigured, iot.EventsEvent{Enabled: cfg.Enabled})
	})
}

func eventConfigurations(rd store.TagReader) (iot.EventConfigurations, error) {
	cfg, err := rd.EventConfigurations()
	enabled := make(map[iot.EventType]bool)
	for _, t := range iot.EventTypes() {
		enabled[t] = cfg.Enabled[t]
	}
	cfg.Enabled = enabled
	return cfg, err
}
