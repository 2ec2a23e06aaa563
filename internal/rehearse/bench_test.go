package rehearse

import (
	"context"
	"testing"
	"time"

	"drover/internal/engine"
	"drover/internal/iot"
)

// BenchmarkWeek is a rollout to 100,000 things of which a third comes back over a week.
func BenchmarkWeek(b *testing.B) {
	for b.Loop() {
		_, err := Run(b.Context(), Config{
			Fleet: Fleet{Things: 100_000, Success: 0.98, Work: 5 * time.Minute, Offline: 0.3, Back: 7 * 24 * time.Hour},
			Seed:  1, Start: time.Date(2030, 1, 7, 0, 0, 0, 0, time.UTC), Realm: realm,
			Create: func(ctx context.Context, e *engine.Engine) (iot.JobID, error) {
				_, err := e.CreateJob(ctx, iot.NewJob{JobID: "j", Document: "{}", Targets: []string{realm.ARN(iot.KindGroup, string(Group))},
					Config: iot.JobConfig{Rollout: &iot.RolloutConfig{}, Retry: []iot.RetryCriterion{{Failure: iot.FailureAll, Retries: 1}}}})
				return "j", err
			},
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
