package fleetsim

import (
	"encoding/json"
	"fmt"
	"math/bits"
	"sync/atomic"
	"time"
)

// subBuckets is the number of buckets for each power of two: a percentile is
// at most 1/32 above the truth.
const subBuckets = 32

// latencies counts how long requests took, in microseconds. Its methods may be
// called at any time from any goroutine.
type latencies struct {
	buckets [(64 - 5 + 1) * subBuckets]atomic.Int64
	longest atomic.Int64
}

func (l *latencies) record(d time.Duration) {
	us := max(d.Microseconds(), 0)
	l.buckets[bucketOf(us)].Add(1)
	for {
		old := l.longest.Load()
		if us <= old || l.longest.CompareAndSwap(old, us) {
			return
		}
	}
}

// bucketOf maps microseconds to a bucket: one each up to subBuckets, then
// subBuckets for each power of two.
func bucketOf(us int64) int {
	exp := max(bits.Len64(uint64(us))-6, 0) // values below 64 have exponent 0
	return exp*subBuckets + int(us>>exp)
}

// bucketTop is the highest value that bucketOf maps to the bucket.
func bucketTop(bucket int) int64 {
	exp := max(bucket/subBuckets-1, 0)
	return (int64(bucket-exp*subBuckets)+1)<<exp - 1
}

func (l *latencies) summary() Latency {
	var counts [len(l.buckets)]int64
	var total int64
	for i := range l.buckets {
		counts[i] = l.buckets[i].Load()
		total += counts[i]
	}
	longest := l.longest.Load()
	// The percentile is the smallest recorded value (rounded up to its bucket's
	// top) that at least that share of the values does not exceed.
	percentile := func(p int64) time.Duration {
		rank := (total*p + 99) / 100
		var seen int64
		for i, n := range counts {
			seen += n
			if n > 0 && seen >= rank {
				return time.Duration(min(bucketTop(i), longest)) * time.Microsecond
			}
		}
		return 0
	}
	return Latency{
		Count: total,
		P50:   percentile(50),
		P90:   percentile(90),
		P99:   percentile(99),
		Max:   time.Duration(longest) * time.Microsecond,
	}
}

// Latency says how long requests took, from the moment they were written to
// the moment their answer was read. Percentiles are at most 1/32 above the
// truth; Max is exact to a microsecond.
type Latency struct {
	Count              int64 // requests that were answered, accepted or rejected
	P50, P90, P99, Max time.Duration
}

// String returns the percentiles for people.
func (l Latency) String() string {
	if l.Count == 0 {
		return "none"
	}
	return fmt.Sprintf("p50 %s, p90 %s, p99 %s, max %s", short(l.P50), short(l.P90), short(l.P99), short(l.Max))
}

// MarshalJSON writes durations as milliseconds.
func (l Latency) MarshalJSON() ([]byte, error) {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return json.Marshal(struct {
		Count int64   `json:"count"`
		P50   float64 `json:"p50Ms"`
		P90   float64 `json:"p90Ms"`
		P99   float64 `json:"p99Ms"`
		Max   float64 `json:"maxMs"`
	}{l.Count, ms(l.P50), ms(l.P90), ms(l.P99), ms(l.Max)})
}

// short rounds a duration to three or four digits.
func short(d time.Duration) time.Duration {
	switch {
	case d < 10*time.Millisecond:
		return d.Round(10 * time.Microsecond)
	case d < time.Second:
		return d.Round(time.Millisecond)
	default:
		return d.Round(10 * time.Millisecond)
	}
}
