//go:build !linux

package broker

// Elsewhere every connection is waited for by a goroutine of its own.
type poller struct{}

func newPoller() (*poller, error) { return nil, nil }

func (*poller) run() error        { return nil }
func (*poller) add(*Client) error { return nil }
func (*poller) remove(*Client)    {}
func (*poller) close() error      { return nil }
