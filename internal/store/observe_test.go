package store_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"drover/internal/iot"
	"drover/internal/store"
	"drover/internal/store/sqlstore"
)

// TestObserve does this and that with a database and looks at what was counted.
func TestObserve(t *testing.T) {
	t.Parallel()
	db, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: filepath.Join(t.TempDir(), "db")})
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	s := store.Observe(db, reg, nil)
	nothing := func(store.Tx) error { return nil }
	for range 3 {
		if err := s.Update(t.Context(), nothing); err != nil {
			t.Error(err)
		}
	}
	if err := s.View(t.Context(), func(store.Reader) error { return nil }); err != nil {
		t.Error(err)
	}
	refusals := []error{iot.Errorf(iot.NotFound, "nothing there"), store.ErrNotFound, context.Canceled}
	for _, refused := range refusals[:2] {
		if err := s.Update(t.Context(), func(store.Tx) error { return refused }); !errors.Is(err, refused) {
			t.Errorf("%v instead of %v", err, refused)
		}
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Update(over, nothing); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	broken := errors.New("the disk is full")
	if err := s.Update(t.Context(), func(store.Tx) error { return broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
	if err := s.Update(t.Context(), func(store.Tx) error { return store.ErrUnavailable }); !errors.Is(err, store.ErrUnavailable) {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.View(t.Context(), func(store.Reader) error { return nil }); err == nil {
		t.Error("a closed database answers")
	}
	have := values(t, reg)
	for name, want := range map[string]float64{
		"drover_store_transaction_seconds{kind=update}":   7, // begun
		"drover_store_transaction_seconds{kind=view}":     1,
		"drover_store_wait_seconds{kind=update}":          7,
		"drover_store_commit_seconds":                     3,
		"drover_store_waiting{kind=update}":               0,
		"drover_store_waiting{kind=view}":                 0,
		"drover_store_failures_total{reason=other}":       2, // the disk, and closed
		"drover_store_failures_total{reason=unavailable}": 1,
		"drover_store_failures_total{reason=unknown}":     0,
		"drover_store_repeated_total":                     0,
	} {
		if v, ok := have[name]; !ok || v != want {
			t.Errorf("%s is %v, want %v", name, v, want)
		}
	}
}

// values returns what a registry holds, by name and label; of histograms how much they have seen.
func values(t *testing.T, reg prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += "{" + l.GetName() + "=" + l.GetValue() + "}"
			}
			all[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return all
}
