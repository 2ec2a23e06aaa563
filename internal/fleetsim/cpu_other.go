//go:build !unix

package fleetsim

import "time"

// processorTime is not known here.
func processorTime() time.Duration { return 0 }
