//go:build !faults

package main

import "time"

// machineTime is the time of the machine, whatever a clock for tests of devices shows.
func machineTime() time.Time { return time.Now() }
