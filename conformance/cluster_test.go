package conformance

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"drover/internal/envtest"
	mq "drover/internal/mqtttest"
)

// Three servers on one database, which talk to each other.

// newCluster starts servers on a database of PostgreSQL that find each other.
func newCluster(t *testing.T, n int) []*site {
	t.Helper()
	if *endpointFlag != "" {
		t.Skip("not against a foreign endpoint")
	}
	flags := append([]string{"--store", envtest.PostgreSQL(t), "--keys", filepath.Join(t.TempDir(), "keys"), "--cluster-listen", "127.0.0.1:0"}, tlsFlags...)
	nodes := []*site{newSite(t, flags...)}
	flags = append(flags, "--cluster-peers", address(nodes[0].at.Load().cluster))
	for range n - 1 {
		nodes = append(nodes, newSite(t, flags...))
	}
	return nodes
}

// at returns the fleet as it sees a node.
func (f *fleet) at(s *site) *fleet {
	other := *f
	other.server = s.at.Load()
	other.api = other.server.client()
	return &other
}

func TestCluster(t *testing.T) {
	t.Parallel()
	nodes := newCluster(t, 3)
	a := fleetOn(t, nodes[0].at.Load())
	b, c := a.at(nodes[1]), a.at(nodes[2])

	// Messages, to who wants them.
	here, there := b.watch(a.topic("#")), c.watch(a.topic("x"), a.topic("kept"))
	from := a.client(5, "from")
	from.Publish(mq.Publish{Topic: a.topic("x"), Payload: "1", QoS: 1})
	here.Receive(a.topic("x"), "1")
	there.Receive(a.topic("x"), "1")

	// A job, made at one node, done at another, seen at the third.
	a.must(a.events(true, types.EventTypeJobExecution))
	thing := a.thing("t")
	d := b.connectAs(thing, thing, 5)
	d.listen("notify-next")
	events := c.connectAs("watcher", a.name("watcher"), 4)
	a.must(events.subscribe("$aws/events/jobExecution/#", 1))
	id := a.job("job", []string{a.thingARN(thing)})
	if m := d.await(0, "notify-next"); path(m.json, "execution", "jobId") != id {
		t.Errorf("notify-next: %s", m.payload)
	}
	if answer := d.accepted("start-next", "{}"); path(answer, "execution", "jobId") != id {
		t.Errorf("start-next: %v", answer)
	}
	d.update(id, "SUCCEEDED")
	if _, err := events.wait(0, func(m message) bool { return m.topic == "$aws/events/jobExecution/"+id+"/succeeded" }); err != nil {
		t.Error(err)
	}
	if got := c.execution(thing, id).Status; got != types.JobExecutionStatusSucceeded {
		t.Errorf("the execution is %s", got)
	}

	// A command, likewise.
	command := a.command("c", "text/plain", "do")
	servant := b.servant("thing", a.thing("servant"), 5)
	a.must(events.subscribe("$aws/events/commandExecution/#", 1))
	execution := a.start(command, servant.target)
	if m := servant.request(execution); m.payload != "do" {
		t.Errorf("%+v", m)
	}
	servant.reports(execution, `{"status":"SUCCEEDED"}`, "accepted")
	if _, err := events.wait(0, func(m message) bool {
		return strings.HasSuffix(m.topic, "/SUCCEEDED") && m.json["executionId"] == execution
	}); err != nil {
		t.Error(err)
	}
	if x := c.commandExecution(execution, servant.target); x.Status != types.CommandExecutionStatusSucceeded {
		t.Errorf("%+v", x)
	}
	late := c.start(command, servant.target, `"executionTimeoutSeconds":1`)
	a.eventually("the time is over", func() bool {
		return b.commandExecution(late, servant.target).Status == types.CommandExecutionStatusTimedOut
	})

	// A client that connects elsewhere takes its session along.
	x := a.client(5, "x", persistent)
	x.Granted(1, a.topic("of x"))
	again := b.client(5, "x", persistent)
	x.Dismissed(0x8e)
	if !again.Connack.Present {
		t.Error("the session did not come along")
	}
	from.Publish(mq.Publish{Topic: a.topic("of x"), Payload: "2", QoS: 1})
	again.Receive(a.topic("of x"), "2")

	// A certificate that is revoked at one node is no good at the others when that is answered.
	certificate := a.newCertificate(true)
	a.allow(certificate.id)
	device, err := b.overTLS(b.mqtts, b.config(with(certificate)), a.name("device"), 5)
	a.must(err)
	a.must(a.setStatus(certificate.id, types.CertificateStatusRevoked))
	select {
	case <-device.gone:
	case <-time.After(patience):
		t.Error("still connected with a revoked certificate")
	}
	c.shut(c.mqtts, c.config(with(certificate)))
	// So is a key, and a new one is good everywhere at once.
	k := a.newKey("reader", `{"Effect":"Allow","Action":"iot:*","Resource":"*"}`)
	reader := *c.server
	reader.key, reader.secret = k.key, k.secret
	list := func() error { _, err := reader.client().ListThings(a.ctx, &iot.ListThingsInput{}); return err }
	a.must(list())
	if status := a.revoke(a.name("reader")); status != 200 {
		t.Fatalf("revoke: %d", status)
	}
	a.refused(list(), "InvalidSignatureException", 403)

	// Retained messages are everywhere.
	from.Publish(mq.Publish{Topic: a.topic("kept"), Payload: "3", QoS: 1, Retain: true})
	there.Receive(a.topic("kept"), "3")
	if m := c.watch(a.topic("kept")).Receive(a.topic("kept"), "3"); !m.Retain {
		t.Error("it is not retained at another node")
	}

	found := scrape(t, b)
	asDocumented(t, found, func(name string) bool { return strings.HasPrefix(name, clusterMetrics) })
	if peers, got := found["drover_cluster_peers"].values[""], found["drover_cluster_received_total"].values[""]; peers != 2 || got == 0 {
		t.Errorf("%v nodes are in touch, and have sent %v messages", peers, got)
	}

	// A node dies. What waits for its clients they find at others, and their wills are published.
	away := c.client(5, "away", persistent)
	away.Granted(1, a.topic("of away"))
	away.Cut()
	wills := b.watch(a.topic("will"))
	dying := c.client(5, "dying", persistent, will(a.topic("will"), "gone"))
	dying.Granted(1, a.topic("of dying"))
	from.Publish(mq.Publish{Topic: a.topic("of away"), Payload: "4", QoS: 1})
	from.Publish(mq.Publish{Topic: a.topic("of dying"), Payload: "5", QoS: 1})
	if m, _ := dying.Unacked(); m.Payload != "5" {
		t.Errorf("got %+v", m)
	}
	nodes[2].kill(t)
	back := a.client(5, "dying", persistent)
	if !back.Connack.Present {
		t.Error("the session died with the node")
	}
	back.Receive(a.topic("of dying"), "5")
	wills.Receive(a.topic("will"), "gone")
	back = b.client(5, "away", persistent)
	if !back.Connack.Present {
		t.Error("the session died with the node")
	}
	back.Receive(a.topic("of away"), "4")
}

// TestNodesMustAgree: a server with another account, region or keys than those that work on a database does
// not begin, and says why; one that is alone may.
func TestNodesMustAgree(t *testing.T) {
	t.Parallel()
	if *endpointFlag != "" {
		t.Skip("not against a foreign endpoint")
	}
	keys := filepath.Join(t.TempDir(), "keys")
	database := []string{"--store", envtest.PostgreSQL(t)}
	first := newSite(t, append(database, "--keys", keys)...)
	path, err := binary()
	must(t, err)
	for wrong, flags := range map[string][]string{
		"--region is eu-central-1 here and us-east-1 there":       {"--keys", keys, "--region", "eu-central-1"},
		"--account is 999999999999 here and 123456789012 there":   {"--keys", keys, "--account", "999999999999"},
		"secrets.key is another; give all the same --keys folder": {"--keys", filepath.Join(t.TempDir(), "keys")},
	} {
		args := append([]string{"serve", "--data", t.TempDir(), "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"}, append(database, flags...)...)
		out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), wrong) || !strings.Contains(string(out), "cannot work on one database") {
			t.Errorf("%s: %v\n%s", wrong, err, out)
		}
	}
	must(t, first.at.Load().terminate())
	other := newSite(t, append(database, "--region", "eu-central-1")...)
	must(t, other.at.Load().terminate())
}
