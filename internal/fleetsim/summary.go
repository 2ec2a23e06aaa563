package fleetsim

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Progress is how far a fleet is, read while it runs. The counts are each exact
// but not of one instant.
type Progress struct {
	Devices   int // in the fleet
	Connected int // connected and subscribed
	Idle      int // connected and told that nothing is pending
	Working   int // with an execution in hand, connected or not

	Succeeded int64 // executions ended as SUCCEEDED
	Failed    int64 // executions ended as FAILED
	Withdrawn int64 // executions that something else ended while the device worked: cancelled, timed out, deleted

	Requests int64 // requests sent
	Rejected int64 // requests answered on a rejected topic
	Errors   int64 // connections refused or lost, requests not answered
}

// Ended returns the number of executions that have ended in any way.
func (p Progress) Ended() int64 { return p.Succeeded + p.Failed + p.Withdrawn }

// Summary is what a fleet has done when [Fleet.Run] returns.
type Summary struct {
	Progress
	Seed      uint64        // what Config.Seed must be to draw the same again
	Duration  time.Duration // of Run
	StartNext Latency       // of start-next requests
	Update    Latency       // of update requests
	Downloads Downloads     // of what documents point to

	// Codes counts what went wrong: the codes of rejected requests as the server
	// wrote them, and ConnectFailed, ConnectionRefused, SubscriptionRefused,
	// RequestRefused, ConnectionLost, Timeout and BadAnswer.
	Codes map[string]int64
}

// String returns the summary as a few lines for people, without a final newline.
func (s Summary) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d devices, seed %d, %s\n", s.Devices, s.Seed, s.Duration.Round(10*time.Millisecond))
	fmt.Fprintf(&b, "executions  %d ended: %d succeeded, %d failed, %d withdrawn", s.Ended(), s.Succeeded, s.Failed, s.Withdrawn)
	if seconds := s.Duration.Seconds(); seconds > 0 {
		fmt.Fprintf(&b, " (%.1f/s)", float64(s.Ended())/seconds)
	}
	fmt.Fprintf(&b, "\nrequests    %d sent, %d rejected\n", s.Requests, s.Rejected)
	fmt.Fprintf(&b, "start-next  %s\n", s.StartNext)
	fmt.Fprintf(&b, "update      %s", s.Update)
	if s.Downloads != (Downloads{}) {
		fmt.Fprintf(&b, "\ndownloads   %s", s.Downloads)
	}
	for _, code := range slices.Sorted(maps.Keys(s.Codes)) {
		fmt.Fprintf(&b, "\n            %s: %d", code, s.Codes[code])
	}
	return b.String()
}

// MarshalJSON writes durations as seconds and milliseconds, with the unit in
// the member's name.
func (s Summary) MarshalJSON() ([]byte, error) {
	codes := s.Codes
	if codes == nil {
		codes = map[string]int64{}
	}
	return json.Marshal(struct {
		Devices    int              `json:"devices"`
		Seed       uint64           `json:"seed"`
		Seconds    float64          `json:"seconds"`
		Executions map[string]int64 `json:"executions"`
		Requests   int64            `json:"requests"`
		Rejected   int64            `json:"rejected"`
		Errors     int64            `json:"errors"`
		Codes      map[string]int64 `json:"codes"`
		StartNext  Latency          `json:"startNext"`
		Update     Latency          `json:"update"`
		Downloads  map[string]any   `json:"downloads"`
	}{
		Devices: s.Devices,
		Seed:    s.Seed,
		Seconds: s.Duration.Seconds(),
		Executions: map[string]int64{
			"ended": s.Ended(), "succeeded": s.Succeeded, "failed": s.Failed, "withdrawn": s.Withdrawn,
		},
		Requests:  s.Requests,
		Rejected:  s.Rejected,
		Errors:    s.Errors,
		Codes:     codes,
		StartNext: s.StartNext,
		Update:    s.Update,
		Downloads: map[string]any{
			"files": s.Downloads.Files, "failed": s.Downloads.Failed, "bytes": s.Downloads.Bytes,
			"resumed": s.Downloads.Resumed, "waited": s.Downloads.Waited, "seconds": s.Downloads.Took.Seconds(),
		},
	})
}
