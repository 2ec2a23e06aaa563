package cluster

import (
	"cmp"
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats-server/v2/server/gsl"
	"github.com/nats-io/nats.go"
)

// MaxBody is how many bytes a message may have.
const MaxBody = 1 << 20

const (
	// backlog is how many messages of others may wait to be handled; what comes on top is lost,
	// which counts as missed.
	backlog = 1 << 16
	// writeTimeout bounds how long a server of NATS that does not read keeps anybody waiting.
	writeTimeout = 5 * time.Second
)

// Config says how a node takes part. Name, Handler, and either Listen or URL are required.
type Config struct {
	// Name is that of this node, of letters, digits, "-" and "_": a process has one that no other
	// has, nor has had.
	Name string
	// Cluster is the same for all nodes; clusters of different names can share a NATS. Default "drover".
	Cluster string
	// Others are the names of nodes that are known to be there: out of touch until they are heard.
	Others []string
	Embedded
	External
	Handler Handler
	Logger  *slog.Logger // nil = slog.Default()

	// For tests; the defaults are those of the constants beat, away and forget.
	beat, away, forget time.Duration
}

// Handler is told what other nodes say. All but Missed is called by one goroutine, in order, and
// must not wait for anything.
type Handler interface {
	// Message gets what another node has published or announced. The body is the handler's.
	Message(body []byte)
	// Control gets what another node tells or asks. answer, which may be called at any time, from
	// any goroutine, answers a question; an answer to what was only told goes nowhere.
	Control(from string, body []byte, answer func(body []byte))
	// Missed is called when messages of others may have been lost, and every now and then while
	// they may be. It may take its time: it is not called again meanwhile, but once after it if
	// there was reason to.
	Missed()
}

// Node is this process among the others. Its methods may be called from any goroutine.
type Node struct {
	cfg     Config
	log     *slog.Logger
	server  *server.Server // nil: it is elsewhere
	conn    *nats.Conn
	prefix  string
	inbox   chan *nats.Msg
	stop    chan struct{}
	missed  chan struct{} // there is reason to call Missed
	running sync.WaitGroup
	counts  struct{ sent, received, lost, interruptions atomic.Uint64 }

	sending sync.Mutex // numbers go out in their order
	sender  uint64     // who this node is in what it publishes; another one after each interruption
	number  uint64
	told    uint64 // the last number of what was told

	interest interest
	peers    peers
	fence    fence
}

var names = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// Start connects the node and returns when NATS answers. It does not wait for other nodes.
func Start(ctx context.Context, cfg Config) (_ *Node, err error) {
	cfg.Cluster = cmp.Or(cfg.Cluster, "drover")
	cfg.Logger = cmp.Or(cfg.Logger, slog.Default())
	cfg.beat, cfg.away, cfg.forget = cmp.Or(cfg.beat, beat), cmp.Or(cfg.away, away), cmp.Or(cfg.forget, forget)
	switch {
	case cfg.Handler == nil:
		return nil, errors.New("cluster: no Handler")
	case !names.MatchString(cfg.Name), !names.MatchString(cfg.Cluster):
		return nil, fmt.Errorf("cluster: %q and %q must be of letters, digits, - and _", cfg.Name, cfg.Cluster)
	case (cfg.Listen == "") == (cfg.URL == ""):
		return nil, errors.New("cluster: NATS is either in the process or elsewhere")
	}
	n := &Node{
		cfg: cfg, log: cfg.Logger, prefix: cfg.Cluster, sender: rand.Uint64(),
		inbox: make(chan *nats.Msg, backlog), stop: make(chan struct{}), missed: make(chan struct{}, 1),
	}
	n.interest = interest{subjects: map[string]*wanted{}, own: gsl.NewSimpleSublist()}
	n.peers = peers{known: map[string]*peer{}, asked: map[uint64]*question{}}
	for _, name := range cfg.Others {
		n.peers.known[name] = &peer{heard: time.Now(), away: true}
	}
	defer func() {
		if err != nil {
			n.Close()
		}
	}()
	options := []nats.Option{
		nats.Name("drover " + cfg.Name), nats.NoEcho(), nats.MaxReconnects(-1), nats.ReconnectWait(250 * time.Millisecond),
		nats.RetryOnFailedConnect(false), nats.PingInterval(2 * time.Second), nats.MaxPingsOutstanding(2), nats.FlusherTimeout(writeTimeout),
		nats.DisconnectErrHandler(n.interrupted), nats.ReconnectHandler(n.reconnected), nats.ErrorHandler(n.trouble),
	}
	url := cfg.URL
	if cfg.Listen != "" {
		token := crand.Text()
		if n.server, err = cfg.Embedded.start(ctx, &cfg, token); err != nil {
			return nil, err
		}
		options = append(options, nats.InProcessServer(n.server), nats.Token(token))
	} else {
		options = append(options, cfg.External.options()...)
	}
	if n.conn, err = nats.Connect(url, options...); err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	for _, s := range []string{announceRoot, controlRoot, nodeRoot + cfg.Name} {
		if _, err := n.conn.ChanSubscribe(n.prefix+s, n.inbox); err != nil {
			return nil, fmt.Errorf("subscribe at NATS: %w", err)
		}
	}
	if err := n.conn.FlushTimeout(writeTimeout); err != nil {
		return nil, fmt.Errorf("NATS does not answer: %w", err)
	}
	n.running.Go(n.receive)
	n.running.Go(n.beats)
	n.running.Go(n.misses)
	return n, nil
}

// Name returns the name of the node.
func (n *Node) Name() string { return n.cfg.Name }

// Addr returns where the embedded server listens for those of other nodes, "" if there is none.
func (n *Node) Addr() string {
	if n.server == nil || n.server.ClusterAddr() == nil {
		return ""
	}
	return n.server.ClusterAddr().String()
}

// Publish sends a message to the nodes that want its topic. The body is copied.
func (n *Node) Publish(topic string, body []byte) { n.send(subject(n.prefix, topic), body) }

// Announce sends a message to every node, in order with those that are published.
func (n *Node) Announce(body []byte) { n.send(n.prefix+announceRoot, body) }

func (n *Node) send(subject string, body []byte) {
	n.sending.Lock()
	defer n.sending.Unlock()
	n.number++
	b := make([]byte, 0, 8+binary.MaxVarintLen64+len(body))
	b = binary.LittleEndian.AppendUint64(b, n.sender)
	b = binary.AppendUvarint(b, n.number)
	if err := n.conn.Publish(subject, append(b, body...)); err != nil {
		n.dropped("message", err)
		return
	}
	n.counts.sent.Add(1)
}

// dropped notes something that could not be sent. Whoever should have got it finds out by the
// numbers, or by the silence.
func (n *Node) dropped(what string, err error) {
	if n.counts.lost.Add(1); !errors.Is(err, nats.ErrConnectionClosed) {
		n.log.Debug("not sent to other nodes", "what", what, "err", err)
	}
}

// Stats counts what a node has done since it started.
type Stats struct {
	Sent          uint64 // messages (Publish, Announce), however many nodes want them
	Received      uint64 // messages of other nodes
	Lost          uint64 // what could not be sent, or not be handled in time
	Interruptions uint64 // how often NATS or another node got out of touch
}

// Stats returns the counts of this moment.
func (n *Node) Stats() Stats {
	c := &n.counts
	return Stats{c.sent.Load(), c.received.Load(), c.lost.Load(), c.interruptions.Load()}
}

// interrupted begins another order: what is still on its way through another server of NATS may
// come later than what is sent from now on.
func (n *Node) interrupted(_ *nats.Conn, err error) {
	n.sending.Lock()
	n.sender = rand.Uint64()
	n.sending.Unlock()
	n.interest.unsettle()
	if err != nil {
		n.log.Warn("cut off from NATS", "err", err)
		n.counts.interruptions.Add(1)
		n.miss()
	}
}

func (n *Node) reconnected(c *nats.Conn) {
	n.log.Info("NATS is back", "url", c.ConnectedUrlRedacted())
	n.miss()
}

func (n *Node) trouble(_ *nats.Conn, _ *nats.Subscription, err error) {
	if errors.Is(err, nats.ErrSlowConsumer) {
		n.counts.lost.Add(1)
		n.miss()
		return
	}
	n.log.Warn("NATS complains", "err", err)
}

// receive handles what others send.
func (n *Node) receive() {
	control, own := n.prefix+controlRoot, n.prefix+nodeRoot+n.cfg.Name
	var seen seen
	for {
		select {
		case m := <-n.inbox:
			switch m.Subject {
			case control, own:
				n.hear(m.Data)
			default:
				if body, ok := seen.first(m.Data); ok {
					n.counts.received.Add(1)
					n.cfg.Handler.Message(body)
				}
			}
		case <-n.stop:
			return
		}
	}
}

// seen knows the last message of every sender: one for which a node has several subscriptions
// comes as often.
type seen struct{ last map[uint64]uint64 }

// first returns the body of a message that has not come before.
func (s *seen) first(data []byte) (body []byte, ok bool) {
	if len(data) < 9 {
		return nil, false
	}
	sender := binary.LittleEndian.Uint64(data)
	number, size := binary.Uvarint(data[8:])
	if size <= 0 || number <= s.last[sender] {
		return nil, false
	}
	if len(s.last) > 10_000 || s.last == nil { // nodes have come and gone
		s.last = map[uint64]uint64{}
	}
	s.last[sender] = number
	return data[8+size:], true
}

// miss has Missed called.
func (n *Node) miss() {
	select {
	case n.missed <- struct{}{}:
	default:
	}
}

func (n *Node) misses() {
	for {
		select {
		case <-n.missed:
			n.cfg.Handler.Missed()
		case <-n.stop:
			return
		}
	}
}

// Close says good-bye and ends everything. It returns when no method of the Handler runs any more.
func (n *Node) Close() {
	select {
	case <-n.stop:
		return
	default:
	}
	if n.conn != nil {
		n.tell(kindBye, 0, "", nil)
		_ = n.conn.FlushTimeout(time.Second) // they find out all the same
	}
	close(n.stop)
	if n.conn != nil {
		n.conn.Close()
	}
	n.running.Wait()
	n.peers.answerAll()
	if n.server != nil {
		n.server.Shutdown()
		n.server.WaitForShutdown()
	}
}
