package conformance

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"drover/internal/envtest"
)

var nodesFlag = flag.Int("nodes", 1, "how many servers on one database of PostgreSQL are the server that tests share, behind a load balancer")

// oneServer skips a test of what each server has for itself.
func oneServer(t *testing.T, what string) {
	t.Helper()
	if *nodesFlag > 1 {
		t.Skipf("not with several servers: %s is of one", what)
	}
}

// balancer lets connections through to several servers in turn, and knows nothing of what they carry.
type balancer struct {
	listener net.Listener
	targets  []string
	next     atomic.Uint64
	running  sync.WaitGroup
}

func newBalancer(targets []string) (*balancer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &balancer{listener: l, targets: targets}
	b.running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			b.running.Go(func() { b.serve(conn) })
		}
	})
	return b, nil
}

func (b *balancer) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }() // one of both ends has ended already
	to, err := net.Dial("tcp", b.targets[b.next.Add(1)%uint64(len(b.targets))])
	if err != nil {
		return // as if the server had refused
	}
	defer func() { _ = to.Close() }()
	var both sync.WaitGroup
	pass := func(to, from net.Conn) {
		_, _ = io.Copy(to, from) // until either end is closed
		_ = to.(*net.TCPConn).CloseWrite()
	}
	both.Go(func() { pass(to, conn) })
	both.Go(func() { pass(conn, to) })
	both.Wait()
}

// startBalanced starts servers on one database, and returns the first of them with the addresses of
// balancers in front of all, and what ends the others.
func startBalanced(n int, data string, flags ...string) (_ *server, stop func() error, err error) {
	database, err := envtest.NewPostgreSQL()
	if err != nil {
		return nil, nil, err
	}
	flags = append(flags, "--store", database, "--keys", data, "--cluster-listen", "127.0.0.1:0")
	var all []*server
	stop = func() error {
		var errs []error
		for _, s := range all[1:] {
			errs = append(errs, s.terminate())
		}
		return errors.Join(errs...)
	}
	for i := range n {
		folder, more := data, flags
		if i > 0 {
			folder, more = fmt.Sprint(data, "-", i), append(flags, "--cluster-peers", address(all[0].cluster))
		}
		s, err := start(folder, more...)
		if err != nil {
			return nil, nil, errors.Join(err, stop())
		}
		all = append(all, s)
	}
	first := *all[0]
	for _, url := range []func(*server) *string{
		func(s *server) *string { return &s.http }, func(s *server) *string { return &s.mqtt }, func(s *server) *string { return &s.mqtts },
		func(s *server) *string { return &s.deviceHTTPS }, func(s *server) *string { return &s.alpn },
	} {
		var targets []string
		for _, s := range all {
			targets = append(targets, address(*url(s)))
		}
		b, err := newBalancer(targets)
		if err != nil {
			return nil, nil, errors.Join(err, stop())
		}
		*url(&first) = strings.Replace(*url(&first), targets[0], b.listener.Addr().String(), 1)
	}
	return &first, stop, nil
}
