package conformance

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/iot"

	"drover/internal/envtest"
	"drover/internal/faulttest"
)

// What goes wrong where several servers work on one database.

// nodes are three of them.
type nodes struct {
	t        *testing.T
	url      string
	sites    []*site
	database []*faulttest.Proxy   // between each and the database
	links    [][]*faulttest.Proxy // from each to each other
}

// newNodes starts servers that find each other. They end with the test. tune, which may be nil,
// changes each site before.
func newNodes(t *testing.T, tune func(i int, s *site)) *nodes {
	t.Helper()
	const size = 3
	postgres := envtest.StartPostgreSQL(t, "", "")
	n := &nodes{t: t}
	var err error
	n.url, err = postgres.NewDatabase()
	must(t, err)
	for range size {
		var links []*faulttest.Proxy
		for range size {
			links = append(links, faulttest.NewProxy(t, "tcp", ""))
		}
		n.links = append(n.links, links)
		n.database = append(n.database, faulttest.NewProxy(t, "unix", postgres.Socket))
	}
	for i := range size {
		through, err := envtest.Through(n.url, n.database[i].Addr)
		must(t, err)
		var peers []string
		for j, link := range n.links[i] {
			if j != i {
				peers = append(peers, link.Addr)
			}
		}
		s := &site{data: filepath.Join(t.TempDir(), "data")}
		s.flags = []string{"--store", through, "--cluster-listen", "127.0.0.1:0", "--cluster-peers", strings.Join(peers, ","),
			"--cluster-advertise", "127.0.0.1:1", // nobody is there: nodes go by the links alone
			// Who hears everything has much waiting after some seconds.
			"--mqtt-queue-messages", "50000", "--mqtt-queue-bytes", "64000000"}
		s.ready = func(now *server) {
			for _, links := range n.links {
				links[i].Target(strings.TrimPrefix(now.cluster, "nats://"))
			}
		}
		if i > 0 {
			n.shareSecrets(s.data)
		}
		if tune != nil {
			tune(i, s)
		}
		n.sites = append(n.sites, openSite(t, s))
		if i == 0 { // the first certificate makes the authority, which signs those of nodes, too
			f := fleetOn(t, s.at.Load())
			_, err := f.api.CreateKeysAndCertificate(f.ctx, &iot.CreateKeysAndCertificateInput{})
			f.must(err)
		}
	}
	return n
}

// shareSecrets gives a data folder what all nodes have in common.
func (n *nodes) shareSecrets(data string) {
	n.t.Helper()
	must(n.t, os.MkdirAll(data, 0o700))
	for _, name := range []string{"credentials", "secrets.key", "ca-key.pem", "ca.pem", "function-secret"} {
		text, err := os.ReadFile(filepath.Join(n.sites[0].data, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		must(n.t, err)
		must(n.t, os.WriteFile(filepath.Join(data, name), text, 0o600))
	}
}

// cut cuts one node off from the others, or lets it back.
func (n *nodes) cut(i int, apart bool) {
	for _, p := range n.linksOf(i) {
		p.Down(apart)
	}
}

// silence lets nothing through between one node and the others, or does again.
func (n *nodes) silence(i int, apart bool) {
	for _, p := range n.linksOf(i) {
		p.Silence(apart)
	}
}

func (n *nodes) linksOf(i int) (list []*faulttest.Proxy) {
	for j := range n.links {
		if j != i {
			list = append(list, n.links[i][j], n.links[j][i])
		}
	}
	return list
}

// inDoubt does something during which what devices publish, other than requests, may not come to
// clients of other nodes although it was acknowledged: nodes pass it on once, and do not wait.
func (l *load) inDoubt(do ...func()) {
	l.t.Helper()
	l.doubt.Store(true)
	l.busy(loadDevices)
	for _, f := range do {
		f()
	}
	l.busy(enough() / 5) // clients are back, and nodes know where
	l.doubt.Store(false)
}

// outOfTouch waits until a node says that it does not hear another.
func (l *load) outOfTouch(s *site) {
	l.t.Helper()
	before, err := os.ReadFile(s.log.Name())
	must(l.t, err)
	l.until("the nodes notice", patience, func() bool {
		now, err := os.ReadFile(s.log.Name())
		must(l.t, err)
		return strings.Contains(string(now[len(before):]), "out of touch")
	})
}

// takenOver waits until one node alone has been declared dead by the others, and nothing of it is left.
func (l *load) takenOver(n *nodes) {
	l.t.Helper()
	began := time.Now()
	l.until("a node is taken over", patience, func() bool {
		return envtest.Execute(l.t, n.url, "SELECT count(*) FROM nodes") == fmt.Sprint(len(n.sites)-1)
	})
	l.t.Logf("taken over after %s", time.Since(began).Round(100*time.Millisecond))
}

// A node is killed, and later started again; and then another.
func nodeKilled(t *testing.T) {
	n := newNodes(t, nil)
	l := newLoad(t, n.url, n.sites...)
	kills := 1
	if *faultsFlag {
		kills = 2
	}
	for i := range kills {
		l.busy(enough())
		l.inDoubt(func() {
			n.sites[i].kill(t)
			l.takenOver(n)
			l.busy(enough())
			n.sites[i].start(t)
		})
	}
	l.busy(enough())
	l.settle()
}

// A node stands still, as a virtual machine that is moved, until others have taken over, and goes on.
// It has to find out that it is dead, and to end.
func nodeFrozen(t *testing.T) {
	n := newNodes(t, nil)
	l := newLoad(t, n.url, n.sites...)
	l.busy(enough())
	frozen := n.sites[1].at.Load().process
	l.inDoubt(func() {
		must(t, frozen.Process.Signal(syscall.SIGSTOP))
		defer func() { must(t, frozen.Process.Signal(syscall.SIGCONT)) }()
		l.takenOver(n)
	}, func() {
		l.ended(n.sites[1])
		n.sites[1].start(t)
	})
	l.busy(enough())
	l.settle()
}

// ended waits until a server has ended by itself.
func (l *load) ended(s *site) {
	l.t.Helper()
	var ended atomic.Bool
	process := s.at.Load().process
	go func() { _ = process.Wait(); ended.Store(true) }() // how it ended is in its log
	l.until("the node has ended", patience, ended.Load)
}

// A node does not reach the database, which the others do.
func nodeWithoutDatabase(t *testing.T) {
	n := newNodes(t, nil)
	l := newLoad(t, n.url, n.sites...)
	l.busy(enough())
	l.inDoubt(func() {
		n.database[2].Down(true)
		l.takenOver(n)
	}, func() {
		n.database[2].Down(false)
		l.ended(n.sites[2])
		n.sites[2].start(t)
	})
	l.busy(enough())
	l.settle()
}

// A node and the others do not hear each other, and do again: it is cut off, and once more without
// noticing. What they have to tell each other's devices is late meanwhile.
func nodeApart(t *testing.T) {
	n := newNodes(t, nil)
	l := newLoad(t, n.url, n.sites...)
	l.busy(enough())
	for i, part := range []func(i int, apart bool){n.cut, n.silence} {
		l.inDoubt(func() {
			part(i, true)
			l.outOfTouch(n.sites[2])
			l.busy(enough() / 15)
			part(i, false)
			l.busy(enough())
		})
		l.busy(enough())
	}
	l.settle()
}

// The clock of one node is set an hour ahead, back, an hour behind, and right.
func nodeClockStepped(t *testing.T) {
	clock := filepath.Join(t.TempDir(), "clock")
	right := filepath.Join(t.TempDir(), "right")
	set := func(wrong time.Duration) { must(t, replace(clock, wrong.String())) }
	set(0)
	must(t, replace(right, "0s"))
	n := newNodes(t, func(i int, s *site) {
		s.build, s.env = steppedBinary, []string{"DROVER_FAULT_CLOCK=" + right}
		if i == 1 {
			s.env = []string{"DROVER_FAULT_CLOCK=" + clock}
		}
	})
	l := newLoad(t, n.url, n.sites...)
	for _, wrong := range []time.Duration{time.Hour, 0, -time.Hour, 0} {
		l.busy(enough())
		n.sites[1].at.Load().skew.Store(int64(wrong))
		set(wrong)
	}
	l.busy(enough())
	l.settle()
}

// All nodes are stopped and started again, one after another, as for an upgrade. Operators notice
// nothing.
func rollingRestart(t *testing.T) {
	n := newNodes(t, nil)
	l := newLoadBy(t, n.url, n.balanced(), n.sites...)
	reading, enoughRead := context.WithCancel(t.Context())
	defer enoughRead()
	var read, failed atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for api := n.balanced()(); reading.Err() == nil; {
			if _, err := api.ListJobs(t.Context(), &iot.ListJobsInput{}); err != nil {
				t.Errorf("list jobs: %v", err)
				failed.Add(1)
			}
			read.Add(1)
		}
	}()
	for _, s := range n.sites {
		l.busy(enough())
		l.inDoubt(func() {
			began := time.Now()
			must(t, s.at.Load().terminate())
			t.Logf("stopped in %s", time.Since(began).Round(time.Millisecond))
			s.start(t)
		})
	}
	l.busy(enough())
	enoughRead()
	<-done
	l.settle()
	for _, o := range l.history.Orders {
		if o.Created != faulttest.Done || o.Asked && o.Canceled == faulttest.Unanswered {
			t.Errorf("the operator noticed: %+v", o)
		}
	}
	t.Logf("%d lists, of which failed: %d", read.Load(), failed.Load())
}

// balanced returns what makes clients of the AWS SDK as it comes, behind a load balancer: connections
// go to any node that takes them.
func (n *nodes) balanced() func() *iot.Client {
	dial := func(ctx context.Context, _, _ string) (conn net.Conn, err error) {
		sites := slices.Clone(n.sites)
		rand.Shuffle(len(sites), func(i, j int) { sites[i], sites[j] = sites[j], sites[i] })
		for _, s := range sites {
			if conn, err = new(net.Dialer).DialContext(ctx, "tcp", strings.TrimPrefix(s.at.Load().http, "http://")); err == nil {
				return conn, nil
			}
		}
		return nil, err
	}
	options := n.sites[0].at.Load().client().Options()
	options.HTTPClient = &http.Client{Transport: &http.Transport{DialContext: dial}}
	options.Retryer, options.RetryMaxAttempts = retry.NewStandard(), 0
	return func() *iot.Client { return iot.New(options) }
}
