package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"

	"github.com/prometheus/client_golang/prometheus"

	"drover/internal/broker"
	"drover/internal/cluster"
	"drover/internal/gate"
	"drover/internal/pki"
	"drover/internal/store"
)

// clusterFlags say how a server finds the others that work on its database.
type clusterFlags struct {
	Listen      string   `name:"cluster-listen" help:"Address where other nodes find this one, HOST:PORT; port 0 picks a free one. Nodes talk with TLS." placeholder:"ADDR"`
	Peers       []string `name:"cluster-peers" help:"Addresses of other nodes, HOST:PORT; one that is up is enough. The list may be the same on all nodes." placeholder:"ADDR"`
	Advertise   string   `name:"cluster-advertise" help:"Address by which other nodes find this one, if it is not the one they see." placeholder:"ADDR"`
	Name        string   `name:"cluster-name" help:"Name of the cluster; nodes of another name are strangers." default:"drover"`
	Cert        string   `name:"cluster-cert" help:"Certificate for servers and clients that this node shows others, PEM. Without it drover's own authority makes one: then all nodes need the same ca-key.pem, see --keys." type:"path" placeholder:"FILE"`
	Key         string   `name:"cluster-key" help:"Private key of that certificate, PEM." type:"path" placeholder:"FILE"`
	CA          string   `name:"cluster-ca" help:"Roots that the certificates of other nodes, or of NATS, are signed by, PEM." type:"path" placeholder:"FILE"`
	NATS        string   `name:"nats" help:"NATS that runs elsewhere, instead of --cluster-listen: nats://HOST:PORT or tls://HOST:PORT, several with commas." env:"DROVER_NATS" placeholder:"URL"`
	Credentials string   `name:"nats-credentials" help:"File with credentials for that NATS (.creds)." type:"path" placeholder:"FILE"`
}

func (c *clusterFlags) on() bool { return c.Listen != "" || c.NATS != "" }

func (c *clusterFlags) check(postgres bool) error {
	var errs []error
	if c.on() && !postgres {
		errs = append(errs, errors.New("--cluster-listen, --nats: nodes work on one database: --store postgres://…"))
	}
	if c.Listen != "" && c.NATS != "" {
		errs = append(errs, errors.New("--cluster-listen and --nats: NATS is either in the servers or runs elsewhere"))
	}
	if c.Listen == "" && (len(c.Peers) > 0 || c.Advertise != "") {
		errs = append(errs, errors.New("--cluster-peers, --cluster-advertise: need --cluster-listen"))
	}
	if c.NATS == "" && c.Credentials != "" {
		errs = append(errs, errors.New("--nats-credentials: needs --nats"))
	}
	for flag, addr := range map[string]string{"--cluster-listen": c.Listen, "--cluster-advertise": c.Advertise} {
		if addr == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(addr); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", flag, err))
		}
	}
	for _, addr := range c.Peers {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			errs = append(errs, fmt.Errorf("--cluster-peers: %w", err))
		}
	}
	switch {
	case (c.Cert == "") != (c.Key == ""):
		errs = append(errs, errors.New("--cluster-cert and --cluster-key: neither is of use without the other"))
	case c.Listen != "" && (c.Cert == "") != (c.CA == ""):
		errs = append(errs, errors.New("--cluster-cert and --cluster-ca: nodes show certificates, and verify those of others, of one authority"))
	}
	return errors.Join(errs...)
}

// config is how a node takes part.
func (c *clusterFlags) config(node int64, keys string, h cluster.Handler, log *slog.Logger) (cluster.Config, error) {
	cfg := cluster.Config{
		Name: nodeName(node), Cluster: c.Name, Handler: h, Logger: log,
		Embedded: cluster.Embedded{Listen: c.Listen, Peers: c.Peers, Advertise: c.Advertise},
		External: cluster.External{URL: c.NATS, Credentials: c.Credentials},
	}
	files, err := c.files(log)
	if err != nil {
		return cfg, err
	}
	cfg.Embedded.TLS, cfg.External.Trust = files, files
	if files == nil && c.Listen != "" {
		cfg.Embedded.TLS = pki.Open(keys).Nodes(machineTime)
	}
	return cfg, nil
}

// files is how certificates in files are shown and verified, nil if there are none.
func (c *clusterFlags) files(log *slog.Logger) (*tls.Config, error) {
	if c.Cert == "" && c.CA == "" {
		return nil, nil
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12, ClientAuth: tls.RequireAndVerifyClientCert}
	if c.CA != "" {
		text, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("--cluster-ca: %w", err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("--cluster-ca: %s has no certificate", c.CA)
		}
		out.ClientCAs = out.RootCAs
	}
	if c.Cert != "" {
		files, err := gate.LoadFiles(c.Cert, c.Key, log)
		if err != nil {
			return nil, fmt.Errorf("--cluster-cert, --cluster-key: %w", err)
		}
		out.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return files.Certificate() }
		out.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return files.Certificate() }
	}
	return out, nil
}

func nodeName(id int64) string { return fmt.Sprint("n", id) }

// joinCluster lets the server talk to the other nodes, if it is to.
func (s *server) joinCluster(ctx context.Context) error {
	if !s.cfg.Cluster.on() {
		return nil
	}
	p := newPeers(s.log)
	cfg, err := s.cfg.Cluster.config(s.store.Node(), s.cfg.keys(), p, s.log)
	if err != nil {
		return err
	}
	live, err := s.live(ctx)
	if err != nil {
		return err
	}
	for _, id := range live {
		if id != s.store.Node() {
			cfg.Others = append(cfg.Others, nodeName(id))
		}
	}
	if p.node, err = cluster.Start(ctx, cfg); err != nil {
		return err
	}
	s.peers = p
	if addr := p.node.Addr(); addr != "" {
		s.endpoints.Cluster = "nats://" + addr
	}
	return nil
}

// live returns the numbers of all nodes that are alive.
func (s *server) live(ctx context.Context) (live []int64, err error) {
	err = s.store.View(ctx, func(r store.Reader) (err error) {
		live, err = liveNodes(r)
		return err
	})
	return live, err
}

// liveNodes returns the nodes whose sessions nobody may take.
func liveNodes(r store.Reader) ([]int64, error) {
	nodes, err := r.Nodes()
	var live []int64
	for _, n := range nodes {
		if !n.Dead && n.Owner == n.ID {
			live = append(live, n.ID)
		}
	}
	return live, err
}

// shelf returns where the broker keeps things, and the brokers of the other nodes if there can be
// any.
func (s *server) shelf(kept store.Store) (broker.Store, broker.Peers) {
	alone := brokerStore{kept, kept.Node()}
	if s.peers == nil {
		return alone, nil
	}
	return sharedStore{alone, liveNodes}, peerBrokers{s.peers.node}
}

func registerPeersMetrics(reg prometheus.Registerer, n *cluster.Node) {
	gauge := func(name, help string, value func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	counter := func(name, help string, value func(cluster.Stats) uint64) {
		reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(value(n.Stats())) }))
	}
	gauge("drover_cluster_peers", "Other nodes that are in touch.", func() float64 { return float64(len(n.Peers())) })
	gauge("drover_cluster_apart", "1 while another node, or NATS, is out of touch.", func() float64 {
		if n.Apart() {
			return 1
		}
		return 0
	})
	counter("drover_cluster_sent_total", "MQTT messages sent to other nodes.", func(s cluster.Stats) uint64 { return s.Sent })
	counter("drover_cluster_received_total", "MQTT messages received from other nodes.", func(s cluster.Stats) uint64 { return s.Received })
	counter("drover_cluster_lost_total", "Messages between nodes that could not be sent, or came faster than they were handled.", func(s cluster.Stats) uint64 { return s.Lost })
	counter("drover_cluster_interruptions_total", "Times that another node, or NATS, got out of touch.", func(s cluster.Stats) uint64 { return s.Interruptions })
}
