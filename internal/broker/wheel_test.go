package broker

import (
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// Whatever comes and goes: nobody is ended who has been heard of within its limit, and
// everybody else is ended within two seconds after it.
func TestWheel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWheel()
		type watched struct {
			*Client
			heard, limit int64
		}
		var all []*watched
		for now := int64(0); now < 9000; {
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				limit := rapid.SampledFrom([]int64{1, 45, 1800, 5000}).Draw(t, "limit")
				c := &watched{&Client{}, now, limit}
				w.add(c.Client, time.Duration(limit)*time.Second)
				all = append(all, c)
			case 1:
				if len(all) > 0 {
					c := all[rapid.IntRange(0, len(all)-1).Draw(t, "who")]
					if !c.ended {
						w.heard(c.Client)
						c.heard = now
					}
				}
			case 2:
				if len(all) > 0 {
					i := rapid.IntRange(0, len(all)-1).Draw(t, "who")
					w.remove(all[i].Client)
					all = append(all[:i], all[i+1:]...)
				}
			case 3:
				now += rapid.SampledFrom([]int64{1, 2, 50, 700, 3000}).Draw(t, "seconds")
				for tick := w.tick.Load() + 1; tick <= now; tick++ {
					w.tick.Store(tick)
					for _, c := range w.silent(tick) {
						c.ended = true
					}
				}
			}
			for _, c := range all {
				if early := now-c.heard <= c.limit; early == c.ended && (early || now-c.heard > c.limit+2) {
					t.Fatalf("at %d: heard at %d, limit %d, ended %v", now, c.heard, c.limit, c.ended)
				}
			}
		}
	})
}

// One timer serves all connections, and ends with the broker.
func TestWheelEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop, done := make(chan struct{}), make(chan struct{})
		w := newWheel()
		go func() {
			w.run(stop)
			close(done)
		}()
		<-time.After(time.Hour)
		synctest.Wait()
		if got := w.tick.Load(); got != 3600 {
			t.Errorf("%d ticks in an hour", got)
		}
		close(stop)
		<-done
	})
}
