package registry

import (
	"encoding/json"
	"maps"
	"testing"
	"time"

	"drover/internal/iot"
)

func TestEventConfigurations(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{})
	ctx := t.Context()
	cfg, err := f.EventConfigurations(ctx)
	f.must(err)
	if len(cfg.Enabled) != len(iot.EventTypes()) || cfg.CreatedAt != 0 {
		t.Errorf("at first: %+v", cfg)
	}
	for kind, on := range cfg.Enabled {
		if on {
			t.Errorf("%s is on at first", kind)
		}
	}
	first := iot.At(f.clock)
	f.must(f.UpdateEventConfigurations(ctx, iot.EventsUpdate{Enabled: map[iot.EventType]bool{"JOB": true, "THING": true}, Actor: "test"}))
	f.clock = f.clock.Add(time.Hour)
	f.seen = lastRecord(f)
	f.must(f.UpdateEventConfigurations(ctx, iot.EventsUpdate{Enabled: map[iot.EventType]bool{"JOB": false, "JOB_EXECUTION": true}, Actor: "test"}))
	cfg, err = f.EventConfigurations(ctx)
	f.must(err)
	if cfg.CreatedAt != first || cfg.ModifiedAt != iot.At(f.clock) {
		t.Errorf("created at %d, modified at %d", cfg.CreatedAt, cfg.ModifiedAt)
	}
	for kind, on := range cfg.Enabled {
		if want := kind == "THING" || kind == "JOB_EXECUTION"; on != want {
			t.Errorf("%s is %v", kind, on)
		}
	}
	records := f.records()
	if len(records) != 1 || records[0].Kind != iot.EventsConfigured {
		t.Fatalf("got %+v", records)
	}
	var ev iot.EventsEvent
	f.must(json.Unmarshal(records[0].Data, &ev))
	if !maps.Equal(ev.Enabled, cfg.Enabled) {
		t.Errorf("told of %v", ev.Enabled)
	}

	f.refused(f.UpdateEventConfigurations(ctx, iot.EventsUpdate{Enabled: map[iot.EventType]bool{"JOB": true, "LAMP": true}}), iot.InvalidRequest, "LAMP")
	if after, err := f.EventConfigurations(ctx); err != nil || after.Enabled["JOB"] {
		t.Errorf("half done: %+v, %v", after, err)
	}
}
