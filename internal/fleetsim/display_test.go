package fleetsim

import (
	"bytes"
	"context"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// show runs a display of a fleet that ends ten executions a second, of which
// total are to come, for so long.
func show(t *testing.T, terminal bool, length time.Duration, total func() int) string {
	t.Helper()
	var out bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		f, err := New(Config{Endpoint: "mqtt://localhost", Things: Names("x", 100)})
		if err != nil {
			t.Fatal(err)
		}
		f.end = func(error) {}
		f.connected.Store(100)
		ctx, cancel := context.WithTimeout(t.Context(), length)
		defer cancel()
		go func() {
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					f.ended(statusSucceeded)
				case <-ctx.Done():
					return
				}
			}
		}()
		NewDisplay(&out, terminal).Run(ctx, f, total)
	})
	return out.String()
}

func TestDisplayLines(t *testing.T) {
	t.Parallel()
	got := strings.Split(strings.TrimSpace(show(t, false, 12500*time.Millisecond, func() int { return 150 })), "\n")
	want := []string{
		`^5s  (49|50)/150 executions, 10/s, 10s left, \d+ ok, 0 failed, 100/100 connected$`,
		`^10s  (99|100)/150 executions, 10/s, 5s left, \d+ ok, 0 failed, 100/100 connected$`,
		`^1[23]s  12\d/150 executions, 10/s, [23]s left, \d+ ok, 0 failed, 100/100 connected$`,
	}
	if len(got) != len(want) {
		t.Fatalf("got %q", got)
	}
	for i := range want {
		if !regexp.MustCompile(want[i]).MatchString(got[i]) {
			t.Errorf("line %q, want %s", got[i], want[i])
		}
	}
}

func TestDisplayBar(t *testing.T) {
	t.Parallel()
	// The total becomes known after a while, is reached, and grows.
	var asked atomic.Int64
	total := func() int {
		switch n := asked.Add(1); {
		case n < 5:
			return 0
		case n < 30:
			return 20
		default:
			return 80
		}
	}
	got := show(t, true, 8*time.Second, total)
	for _, want := range []string{`\|  [12] executions, \d+/s, \d ok`, ` [45]\d% .* 1\d/20 executions`, `100% .* 2\d/20 executions`,
		`100% .* 5\d/20 executions`, ` 9\d% .*/80 executions, \d+/s, .* ok, 0 failed, 100/100 connected`} {
		if !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("no %q in\n%s", want, strings.ReplaceAll(got, "\r", "\n"))
		}
	}
	if strings.Count(got, "\n") != 1 || !strings.HasSuffix(got, "\n") {
		t.Errorf("it is not one line:\n%q", got)
	}
}
