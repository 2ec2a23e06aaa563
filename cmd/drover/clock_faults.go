//go:build faults

package main

import (
	"os"
	"strings"
	"time"
)

// machineTime is the time of a machine whose clock is wrong by the duration in the file that
// DROVER_FAULT_CLOCK names: the tests of faults step it while the server runs. Timers go on as they
// do when a clock is set. This file is in no build but theirs.
func machineTime() time.Time {
	now := time.Now().Round(0)
	text, err := os.ReadFile(os.Getenv("DROVER_FAULT_CLOCK"))
	if err != nil {
		panic(err) // a test that sets no clock tests nothing
	}
	wrong, err := time.ParseDuration(strings.TrimSpace(string(text)))
	if err != nil {
		panic(err)
	}
	return now.Add(wrong)
}
