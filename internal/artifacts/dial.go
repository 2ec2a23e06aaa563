package artifacts

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"drover/internal/iot"
)

// The only addresses that are ever connected to are those of the store (server-side
// request forgery). It is decided by the address that a name has resolved to, when the
// connection is made: what a name resolved to before does not count.

// addressError says that a name led to an address which is not the store's.
type addressError struct{ addr netip.Addr }

func (e *addressError) Error() string {
	return fmt.Sprintf("its host resolves to %s, which is not an address of the store", e.addr)
}

// httpClient returns a client that follows no redirect, knows no proxy, and reaches the
// store alone.
func (s *Store) httpClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:           s.dial,
			TLSHandshakeTimeout:   5 * time.Second,
			ResponseHeaderTimeout: 10 * time.Second,
			IdleConnTimeout:       time.Minute,
			MaxIdleConnsPerHost:   2,
			ForceAttemptHTTP2:     true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// dial connects to the store, whose own host and port are taken whatever a bucket in front
// of them may resolve to.
func (s *Store) dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second, Resolver: s.resolver}
	var named netip.Addr
	if s.endpoint != nil {
		port := s.endpoint.Port()
		if port == "" {
			port = map[string]string{"http": "80", "https": "443"}[s.endpoint.Scheme]
		}
		address = net.JoinHostPort(s.endpoint.Hostname(), port)
		named, _ = netip.ParseAddr(s.endpoint.Hostname()) // invalid for a name, which no address equals
	}
	d.ControlContext = func(_ context.Context, _, resolved string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(resolved)
		if err != nil {
			return err
		}
		addr := at.Addr().Unmap().WithZone("")
		if named.IsValid() && addr == named.Unmap().WithZone("") || s.endpoint != nil && reasonable(addr) || s.endpoint == nil && iot.Public(addr) {
			return nil
		}
		return &addressError{addr}
	}
	return d.DialContext(ctx, network, address)
}

// reasonable reports whether the name of a store that the operator has given may resolve to
// addr: also to this machine and to private networks, and not to where machines of clouds
// find their credentials.
func reasonable(addr netip.Addr) bool {
	return addr.IsLoopback() || addr.IsGlobalUnicast() && addr != metadataIPv6
}

var metadataIPv6 = netip.MustParseAddr("fd00:ec2::254")
