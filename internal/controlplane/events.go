package controlplane

import (
	"context"

	"drover/internal/iot"
	"drover/internal/wire"
)

// configuration is Configuration; its member, unlike most others, begins with a capital.
type configuration struct {
	Enabled bool `json:"Enabled"`
}

// describeEventConfigurationsResponse is DescribeEventConfigurationsResponse (registry spec §7.1).
type describeEventConfigurationsResponse struct {
	EventConfigurations map[string]configuration `json:"eventConfigurations"` // every type
	CreationDate        wire.Timestamp           `json:"creationDate,omitzero"`
	LastModifiedDate    wire.Timestamp           `json:"lastModifiedDate,omitzero"`
}

func (s *Server) describeEventConfigurations(ctx context.Context, _ *wire.Empty) (*describeEventConfigurationsResponse, error) {
	cfg, err := s.registry.EventConfigurations(ctx)
	if err != nil {
		return nil, err
	}
	out := &describeEventConfigurationsResponse{
		EventConfigurations: make(map[string]configuration, len(cfg.Enabled)),
		CreationDate:        timestamp(cfg.CreatedAt),
		LastModifiedDate:    timestamp(cfg.ModifiedAt),
	}
	for t, on := range cfg.Enabled {
		out.EventConfigurations[string(t)] = configuration{Enabled: on}
	}
	return out, nil
}

// updateEventConfigurationsRequest is UpdateEventConfigurationsRequest: types that are not
// named stay as they are.
type updateEventConfigurationsRequest struct {
	EventConfigurations map[string]configuration `json:"eventConfigurations" keyenum:"THING,THING_GROUP,THING_TYPE,THING_GROUP_MEMBERSHIP,THING_GROUP_HIERARCHY,THING_TYPE_ASSOCIATION,JOB,JOB_EXECUTION,POLICY,CERTIFICATE,CA_CERTIFICATE"`
}

func (s *Server) updateEventConfigurations(ctx context.Context, in *updateEventConfigurationsRequest) (*wire.Empty, error) {
	u := iot.EventsUpdate{Enabled: make(map[iot.EventType]bool, len(in.EventConfigurations)), Actor: actor(ctx)}
	for t, c := range in.EventConfigurations {
		u.Enabled[iot.EventType(t)] = c.Enabled
	}
	return &wire.Empty{}, s.registry.UpdateEventConfigurations(ctx, u)
}
