package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestReadiness: whoever asks hears within seconds of everything that is in the way, though a check hangs, and the log
// has the errors, once.
func TestReadiness(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var lines strings.Builder
		failing, hangs := errors.New("secret.example: no route"), false
		r := &readiness{log: slog.New(slog.NewTextHandler(&lines, nil)), why: "starting", checks: []readyCheck{
			{"the first", func(ctx context.Context) error {
				if !hangs {
					return nil
				}
				<-ctx.Done()
				return ctx.Err()
			}},
			{"the second", func(context.Context) error { return failing }},
		}}
		look := func(want ...string) {
			t.Helper()
			asked := time.Now()
			if lacks := r.look(); !slices.Equal(lacks, want) {
				t.Errorf("in the way: %q, want %q", lacks, want)
			}
			if took := time.Since(asked); took > readyPatience {
				t.Errorf("took %s", took)
			}
		}
		look("starting")
		r.set("")
		look("the second")
		look("the second")
		if n := strings.Count(lines.String(), "no route"); n != 1 {
			t.Errorf("the log tells the error %d times: %s", n, &lines)
		}
		hangs = true
		look("the first", "the second")
		synctest.Wait() // the look that was given up has ended
		hangs, failing = false, nil
		look()
		if !strings.Contains(lines.String(), "ready again") {
			t.Errorf("the log does not say that it is ready again: %s", &lines)
		}
		r.set("stopping")
		look("stopping")
	})
}
