package authorizer_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"drover/internal/authorizer"
)

// TestB223Watch: the function is asked again after refreshAfterInSeconds, what it says then holds,
// and a no ends the connection.
func TestB223Watch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, nil)
		r := mqtt("u")
		renewed, ended := make(chan authorizer.Decision, 9), make(chan error, 9)
		stop := g.Watch(r, g.allowed(r), func(d authorizer.Decision) { renewed <- d }, func(err error) { ended <- err })
		defer stop()
		after := func(d time.Duration) {
			<-time.After(d)
			synctest.Wait()
		}
		after(299 * time.Second)
		if n := len(g.f.asked()); n != 1 {
			t.Fatalf("asked %d times", n)
		}
		g.f.says(strings.Replace(allow, policy, `{"Version":"2012-10-17"}`, 1))
		after(time.Second)
		if d := <-renewed; d.Policies[0] != `{"Version":"2012-10-17"}` {
			t.Fatalf("renewed %+v", d)
		}
		after(300 * time.Second)
		<-renewed
		if events := g.f.asked(); len(events) != 3 || events[2] != events[0] {
			t.Fatalf("asked %v", events)
		}
		g.f.says(`{"isAuthenticated":false}`)
		after(300 * time.Second)
		if refusal, ok := errors.AsType[*authorizer.Refusal](<-ended); !ok || refusal.Reason != authorizer.Denied {
			t.Fatalf("ended with %v", refusal)
		}
		after(time.Hour)
		if n := len(g.f.asked()); n != 4 || len(renewed) != 0 {
			t.Errorf("asked %d times", n)
		}
	})
}

// A watch that is stopped asks no more, and one without a time to refresh never does.
func TestWatchStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, nil)
		r := mqtt("u")
		d := g.allowed(r)
		never := func(authorizer.Decision) { t.Error("renewed") }
		g.Watch(r, d, never, func(error) { t.Error("ended") })()
		d.Refresh = 0
		g.Watch(r, d, never, func(error) { t.Error("ended") })
		<-time.After(24 * time.Hour)
		synctest.Wait()
		if n := len(g.f.asked()); n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
}
