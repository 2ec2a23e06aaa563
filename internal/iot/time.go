package iot

import "time"

// Time is an instant in milliseconds since the Unix epoch, UTC. The zero Time
// means "not yet".
type Time int64

// At returns the Time of t, its parts below a millisecond dropped.
func At(t time.Time) Time { return Time(t.UnixMilli()) }

// Std returns t for the standard library; the zero Time becomes the zero time.Time.
func (t Time) Std() time.Time {
	if t == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(t)).UTC()
}

// Seconds returns whole seconds since the epoch, the form of the device plane (spec §0).
func (t Time) Seconds() int64 { return int64(t) / 1000 }

// Add returns t moved by d.
func (t Time) Add(d time.Duration) Time { return t + Time(d.Milliseconds()) }
