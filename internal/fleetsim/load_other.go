//go:build !linux

package fleetsim

import "context"

// drive moves the bytes of the devices.
func (l *loadRun) drive(ctx context.Context, askers []*asker) error {
	return l.driveByGoroutines(ctx, askers)
}
