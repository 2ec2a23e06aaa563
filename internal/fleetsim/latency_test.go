package fleetsim

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestLatencyPercentiles(t *testing.T) {
	t.Parallel()
	var l latencies
	for i := 1; i <= 1000; i++ {
		l.record(time.Duration(i) * time.Millisecond)
	}
	got := l.summary()
	if got.Count != 1000 || got.Max != time.Second {
		t.Errorf("count %d, max %s", got.Count, got.Max)
	}
	for _, p := range []struct{ got, want time.Duration }{
		{got.P50, 500 * time.Millisecond}, {got.P90, 900 * time.Millisecond}, {got.P99, 990 * time.Millisecond},
	} {
		if p.got < p.want || p.got > p.want+p.want/subBuckets {
			t.Errorf("got %s, want at most 1/%d above %s", p.got, subBuckets, p.want)
		}
	}
	if empty := new(latencies).summary(); empty != (Latency{}) {
		t.Errorf("of nothing: %+v", empty)
	}
}

// TestLatencyError: a percentile is never below the exact one and never more
// than 1/32 above it.
func TestLatencyError(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Int64Range(0, 1<<50), 1, 300).Draw(t, "microseconds")
		var l latencies
		for _, us := range values {
			l.record(time.Duration(us) * time.Microsecond)
		}
		slices.Sort(values)
		got := l.summary()
		for p, d := range map[int]time.Duration{50: got.P50, 90: got.P90, 99: got.P99} {
			exact := values[(len(values)*p+99)/100-1]
			if us := d.Microseconds(); us < exact || us > exact+exact/subBuckets {
				t.Fatalf("p%d of %d values: got %d µs, exact is %d", p, len(values), us, exact)
			}
		}
		if last := values[len(values)-1]; got.Max.Microseconds() != last {
			t.Fatalf("max %s, exact is %d µs", got.Max, last)
		}
	})
}

func TestBuckets(t *testing.T) {
	t.Parallel()
	for bucket := range 1888 { // the bucket of the largest int64 is 1887
		top := bucketTop(bucket)
		if got := bucketOf(top); got != bucket {
			t.Fatalf("top %d of bucket %d is in bucket %d", top, bucket, got)
		}
		if bucket < 1887 && bucketOf(top+1) != bucket+1 {
			t.Fatalf("%d is not in bucket %d", top+1, bucket+1)
		}
	}
}
