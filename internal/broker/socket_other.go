//go:build !unix

package broker

import (
	"errors"
	"net"
	"syscall"
)

// Without descriptors that can be asked, every connection is read and written the way
// that works for all.
func socket(net.Conn) syscall.RawConn { return nil }

func readSocket(uintptr, []byte) (int, bool, error) { return 0, false, errors.ErrUnsupported }

func writeSocket(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }
