package access

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"drover/internal/iot"
	"drover/internal/pki"
	"drover/internal/registry"
	"drover/internal/store"
	"drover/internal/store/sqlstore"
)

var realm = iot.Realm{Account: "123456789012", Region: "us-east-1"}

// fixture is a Decider that a real registry keeps up to date.
type fixture struct {
	*Decider
	*registry.Registry
	t  testing.TB
	db *sqlstore.DB
}

// noJobs is a job engine without jobs.
type noJobs struct{}

func (noJobs) Joined(store.Tx, iot.Time, []iot.Member, string) error            { return nil }
func (noJobs) Leaving(store.Tx, iot.Time, *iot.Thing, *iot.Group, string) error { return nil }
func (noJobs) Left(store.Tx, iot.Time, *iot.Thing, string) error                { return nil }
func (noJobs) ThingDeleted(store.Tx, iot.Time, *iot.Thing, string) error        { return nil }

func newFixture(t testing.TB) *fixture {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	db, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: filepath.Join(t.TempDir(), "drover.db"), Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	f := &fixture{t: t, db: db}
	f.Decider = New(Config{Store: db, Realm: realm, Logger: log})
	f.Registry = registry.New(registry.Config{Store: db, Jobs: noJobs{}, Realm: realm, Identities: f.Decider})
	return f
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// holder registers a certificate that is active, with policies.
func (f *fixture) holder(policies ...string) iot.CertificateID {
	f.t.Helper()
	c, err := f.RegisterCertificate(f.t.Context(), iot.CertificateRegistration{PEM: newCertificate(f.t), WithoutCA: true, Active: true})
	f.must(err)
	for _, name := range policies {
		f.attach(name, realm.ARN(iot.KindCert, string(c.ID)))
	}
	return c.ID
}

// policy creates a policy of statements, written as "Effect action resource", where the resource
// stands behind the ARN's account.
func (f *fixture) policy(name string, statements ...string) {
	f.t.Helper()
	_, err := f.CreatePolicy(f.t.Context(), iot.NewPolicy{Name: iot.PolicyName(name), Document: newDocument(statements...)})
	f.must(err)
}

func newDocument(statements ...string) string {
	var list []string
	for _, s := range statements {
		part := strings.Fields(s)
		list = append(list, fmt.Sprintf(`{"Effect":%q,"Action":%q,"Resource":%q}`, part[0], part[1], realm.ARN(part[2], "")[:len(realm.ARN(part[2], ""))-1]))
	}
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(list, ",") + `]}`
}

func (f *fixture) attach(name, target string) {
	f.t.Helper()
	f.must(f.AttachPolicy(f.t.Context(), iot.PolicyAttachment{Name: iot.PolicyName(name), Target: target}))
}

func (f *fixture) thing(name iot.ThingName, c iot.CertificateID, exclusive bool) {
	f.t.Helper()
	_, err := f.CreateThing(f.t.Context(), iot.NewThing{Name: name})
	f.must(err)
	if c != "" {
		f.must(f.Attach(f.t.Context(), iot.Attachment{Thing: name, Principal: realm.ARN(iot.KindCert, string(c)), Exclusive: exclusive}))
	}
}

func (f *fixture) group(name, parent iot.GroupName) {
	f.t.Helper()
	_, err := f.CreateGroup(f.t.Context(), iot.NewGroup{Name: name, Parent: parent})
	f.must(err)
}

// connect returns the session of an MQTT connection.
func (f *fixture) connect(c iot.CertificateID, clientID string) *Session {
	return f.Session(Client{Certificate: c, MQTT: true, ClientID: clientID, Secure: true, SourceIP: netip.MustParseAddr("::ffff:192.0.2.7")})
}

func (f *fixture) publishes(s *Session, topic string, want bool) {
	f.t.Helper()
	if d := s.Publish(f.t.Context(), topic, false); d.Allowed() != want {
		f.t.Errorf("publish to %s: %v", topic, d)
	}
}

func newCertificate(t testing.TB) string {
	t.Helper()
	issued, _, err := pki.Open(t.TempDir()).IssueDevice(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return pki.Encode(issued.Certificate)
}

func TestDecisions(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	f.policy("p", "Allow iot:Connect client/${iot:ClientId}", "Allow iot:Publish topic/a/*", "Deny iot:Publish topic/a/secret",
		"Allow iot:RetainPublish topic/a/kept", "Allow iot:Subscribe topicfilter/a/*", "Allow iot:Receive topic/a/b", "Allow iotjobsdata:GetPendingJobExecutions thing/lamp",
		"Allow iot:UpdateJobExecution thing/lamp", "Deny iotjobsdata:UpdateJobExecution thing/lamp", "Allow iot:DescribeJobExecution thing/lamp")
	c := f.holder("p")
	s := f.connect(c, "lamp")
	for _, try := range []struct {
		name string
		got  Decision
		want string
	}{
		{"connect", s.Connect(ctx, Connect{Persistent: true}), "ALLOWED by policy p, statement 1"},
		{"connect with a will", s.Connect(ctx, Connect{Will: true, WillTopic: "a/x"}), "ALLOWED by policy p, statement 2"},
		{"connect with a will elsewhere", s.Connect(ctx, Connect{Will: true, WillTopic: "b"}), "denied: no policy allows it"},
		{"connect with a will to be retained", s.Connect(ctx, Connect{Will: true, WillTopic: "a/x", WillRetain: true}), "denied: no policy allows it"},
		{"publish", s.Publish(ctx, "a/b", false), "ALLOWED by policy p, statement 2"},
		{"publish what is denied", s.Publish(ctx, "a/secret", false), "EXPLICIT_DENY by policy p, statement 3"},
		{"retain", s.Publish(ctx, "a/b", true), "denied: no policy allows it"},
		{"retain where it may", s.Publish(ctx, "a/kept", true), "ALLOWED by policy p, statement 4"},
		{"subscribe", s.Subscribe(ctx, "a/#"), "ALLOWED by policy p, statement 5"},
		{"subscribe to all", s.Subscribe(ctx, "#"), "denied: no policy allows it"},
		{"receive", s.Receive(ctx, "a/b"), "ALLOWED by policy p, statement 6"},
		{"receive another", s.Receive(ctx, "a/c"), "denied: no policy allows it"},
		{"jobs", s.Jobs(ctx, "GetPendingJobExecutions", "lamp"), "ALLOWED by policy p, statement 7"},
		{"jobs of another", s.Jobs(ctx, "GetPendingJobExecutions", "door"), "denied: no policy allows it"},
		{"jobs by the former name", s.Jobs(ctx, "DescribeJobExecution", "lamp"), "ALLOWED by policy p, statement 10"},
		{"jobs denied by one name", s.Jobs(ctx, "UpdateJobExecution", "lamp"), "EXPLICIT_DENY by policy p, statement 9"},
		{"who has no certificate", f.Session(Client{MQTT: true, ClientID: "lamp"}).Connect(ctx, Connect{}), "denied: no policy allows it"},
		{"a certificate that nobody knows", f.connect("ff", "lamp").Connect(ctx, Connect{}), "denied: no policy allows it"},
		{"a certificate without policies", f.connect(f.holder(), "lamp").Connect(ctx, Connect{}), "denied: no policy allows it"},
		{"over HTTPS there is no client id", f.Session(Client{Certificate: c, ClientID: "lamp"}).Connect(ctx, Connect{}), "denied: no policy allows it"},
	} {
		if try.got.String() != try.want {
			t.Errorf("%s: %v, want %s", try.name, try.got, try.want)
		}
	}
}

// TestConnectionsThing is identity spec §5.7: which thing a connection has, and what that gives it.
func TestConnectionsThing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.policy("own", "Allow iot:Publish topic/${iot:Connection.Thing.ThingName}")
	attached, exclusive, loose := f.holder("own"), f.holder("own"), f.holder("own")
	f.thing("lamp", attached, false)
	f.thing("door", exclusive, true)
	f.publishes(f.connect(attached, "lamp"), "lamp", true)
	f.publishes(f.connect(attached, "door"), "door", false)
	f.publishes(f.connect(attached, "other"), "other", false)
	f.publishes(f.connect(loose, "lamp"), "lamp", false)
	f.publishes(f.connect(exclusive, "whoever"), "door", true)
	f.publishes(f.connect(exclusive, "lamp"), "lamp", false)
	f.publishes(f.Session(Client{Certificate: exclusive}), "door", false) // not over HTTPS
}

// TestChangesCount: the first decision after the answer to a change knows of it.
func TestChangesCount(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	f.policy("direct", "Allow iot:Publish topic/direct")
	f.policy("grouped", "Allow iot:Publish topic/grouped")
	f.policy("above", "Allow iot:Publish topic/above")
	f.policy("typed", "Allow iot:Publish topic/${iot:Connection.Thing.ThingTypeName}/${iot:Connection.Thing.Attributes[room]}")
	f.group("house", "")
	f.group("floor", "house")
	f.attach("grouped", realm.ARN(iot.KindGroup, "floor"))
	f.attach("above", realm.ARN(iot.KindGroup, "house"))
	for _, exclusive := range []bool{false, true} {
		name := iot.ThingName(fmt.Sprintf("lamp-%v", exclusive))
		c := f.holder("typed")
		arn := realm.ARN(iot.KindCert, string(c))
		client := string(name)
		if exclusive {
			client = "anything"
		}
		s := f.connect(c, client)
		f.publishes(s, "direct", false)
		f.attach("direct", arn)
		f.publishes(s, "direct", true)

		f.publishes(s, "grouped", false)
		f.thing(name, c, exclusive)
		f.publishes(s, "grouped", false)
		f.must(f.ChangeGroups(ctx, iot.MembershipChange{Thing: name, Add: []iot.GroupName{"floor"}}))
		f.publishes(s, "grouped", true)
		f.publishes(s, "above", true)
		f.must(f.DetachPolicy(ctx, iot.PolicyAttachment{Name: "above", Target: realm.ARN(iot.KindGroup, "house")}))
		f.publishes(s, "above", false)
		f.attach("above", realm.ARN(iot.KindGroup, "house"))
		f.publishes(s, "above", true)
		f.must(f.ChangeGroups(ctx, iot.MembershipChange{Thing: name, Remove: []iot.GroupName{"floor"}}))
		f.publishes(s, "above", false)

		f.publishes(s, "light/hall", false)
		if !exclusive {
			_, err := f.CreateThingType(ctx, iot.NewThingType{Name: "light"})
			f.must(err)
		}
		f.must(f.UpdateThing(ctx, iot.ThingUpdate{Name: name, Type: "light", Attributes: &iot.AttributeUpdate{Values: map[string]string{"room": "hall"}}}))
		f.publishes(s, "light/hall", true)

		_, _, err := f.CreatePolicyVersion(ctx, iot.NewPolicyVersion{Name: "direct", Document: newDocument("Allow iot:Publish topic/other"), Default: true})
		f.must(err)
		f.publishes(s, "direct", false)
		f.publishes(s, "other", true)
		f.must(f.SetDefaultPolicyVersion(ctx, iot.PolicyVersionChange{Name: "direct", Version: 1}))
		f.publishes(s, "direct", true)

		f.must(f.Detach(ctx, iot.Attachment{Thing: name, Principal: arn}))
		f.publishes(s, "light/hall", false)
		f.must(f.UpdateCertificate(ctx, iot.CertificateUpdate{ID: c, Status: iot.CertificateInactive}))
		f.publishes(s, "direct", false)
		f.must(f.UpdateCertificate(ctx, iot.CertificateUpdate{ID: c, Status: iot.CertificateActive}))
		f.publishes(s, "direct", true)
		f.must(f.DetachPolicy(ctx, iot.PolicyAttachment{Name: "direct", Target: arn}))
		f.publishes(s, "direct", false)
	}
}

// TestGroupDeletionEndsItsPolicies: neither the members nor a group that gets the same name later
// have what was attached to a group.
func TestGroupDeletionEndsItsPolicies(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.policy("grouped", "Allow iot:Publish topic/grouped")
	f.group("g", "")
	f.attach("grouped", realm.ARN(iot.KindGroup, "g"))
	c := f.holder()
	f.thing("lamp", c, false)
	s := f.connect(c, "lamp")
	join := iot.MembershipChange{Thing: "lamp", Add: []iot.GroupName{"g"}}
	f.must(f.ChangeGroups(t.Context(), join))
	f.publishes(s, "grouped", true)
	f.must(f.DeleteGroup(t.Context(), iot.GroupDeletion{Name: "g"}))
	f.publishes(s, "grouped", false)
	f.group("g", "")
	f.must(f.ChangeGroups(t.Context(), join))
	f.publishes(s, "grouped", false)
}

// TestConcurrentChanges: whatever happens meanwhile, what a session decides after an answer is
// what the answer says.
func TestConcurrentChanges(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.policy("p", "Allow iot:Publish topic/a")
	c := f.holder()
	target := realm.ARN(iot.KindCert, string(c))
	ctx, stop := context.WithCancel(t.Context())
	var others sync.WaitGroup
	for range 2 {
		s := f.connect(c, "x")
		others.Go(func() {
			for ctx.Err() == nil {
				s.Publish(context.Background(), "a", false)
			}
		})
	}
	others.Go(func() {
		for ctx.Err() == nil {
			f.ThingsChanged([]iot.ThingName{"x"})
		}
	})
	s := f.connect(c, "x")
	for range 50 {
		f.attach("p", target)
		f.publishes(s, "a", true)
		f.must(f.DetachPolicy(ctx, iot.PolicyAttachment{Name: "p", Target: target}))
		f.publishes(s, "a", false)
	}
	stop()
	others.Wait()
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.max = 10
	f.policy("p", "Allow iot:Publish topic/a")
	c := f.holder("p")
	var sessions []*Session
	for i := range 30 {
		sessions = append(sessions, f.connect(c, fmt.Sprint(i)))
		f.publishes(sessions[i], "a", true)
	}
	f.mu.Lock()
	standings, subjects := len(f.standings), len(f.index)
	f.mu.Unlock()
	if standings != 10 || subjects != 11 {
		t.Errorf("%d standings under %d subjects", standings, subjects)
	}
	f.must(f.DetachPolicy(t.Context(), iot.PolicyAttachment{Name: "p", Target: realm.ARN(iot.KindCert, string(c))}))
	for _, s := range sessions {
		f.publishes(s, "a", false)
	}
}

func TestEffectivePolicies(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	for _, name := range []string{"direct", "grouped", "above", "other"} {
		f.policy(name, "Allow iot:Publish topic/"+name)
	}
	f.group("house", "")
	f.group("floor", "house")
	f.attach("grouped", realm.ARN(iot.KindGroup, "floor"))
	f.attach("above", realm.ARN(iot.KindGroup, "house"))
	c := f.holder("direct")
	arn := realm.ARN(iot.KindCert, string(c))
	f.thing("lamp", "", false)
	f.must(f.ChangeGroups(ctx, iot.MembershipChange{Thing: "lamp", Add: []iot.GroupName{"floor"}}))
	for _, try := range []struct {
		principal string
		thing     iot.ThingName
		want      []string
	}{
		{arn, "", []string{"direct"}},
		{"", "lamp", []string{"above", "grouped"}},
		{arn, "lamp", []string{"above", "direct", "grouped"}},
	} {
		list, err := f.EffectivePolicies(ctx, try.principal, try.thing)
		f.must(err)
		var names []string
		for _, p := range list {
			names = append(names, string(p.Name))
			if p.Document != newDocument("Allow iot:Publish topic/"+string(p.Name)) {
				t.Errorf("document of %s: %s", p.Name, p.Document)
			}
		}
		if !slices.Equal(names, try.want) {
			t.Errorf("%+v: %v", try, names)
		}
	}
	for _, try := range []struct {
		principal string
		thing     iot.ThingName
		want      iot.Code
	}{
		{"", "", iot.InvalidRequest},
		{"us-east-1:7d5e", "", iot.InvalidRequest},
		{realm.ARN(iot.KindThing, "lamp"), "", iot.InvalidRequest},
		{realm.ARN(iot.KindCert, strings.Repeat("a", 64)), "", iot.NotFound},
		{arn, "none", iot.NotFound},
	} {
		if _, err := f.EffectivePolicies(ctx, try.principal, try.thing); iot.ErrorCode(err) != try.want {
			t.Errorf("%+v: %v", try, err)
		}
	}
}

func TestTest(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	f.policy("allow", "Allow iot:Publish topic/${iot:Connection.Thing.ThingName}/*", "Allow iot:Connect client/*")
	f.policy("deny", "Deny iot:Publish topic/lamp/secret")
	f.policy("extra", "Allow iot:Subscribe topicfilter/*")
	c := f.holder("allow", "deny")
	f.thing("lamp", c, false)
	arn := realm.ARN(iot.KindCert, string(c))
	topic := func(names ...string) (arns []string) {
		for _, n := range names {
			arns = append(arns, realm.ARN("topic", n))
		}
		return arns
	}
	lamp := "lamp"
	requests := []iot.AuthorizationRequest{
		{Action: "iot:Publish", Resources: topic("lamp/x")},
		{Action: "iot:Publish", Resources: topic("lamp/x", "lamp/secret")},
		{Action: "iot:Publish", Resources: topic("lamp/x", "door/x")},
		{Action: "iot:Subscribe", Resources: []string{realm.ARN("topicfilter", "#")}},
		{Action: "iot:Connect", Resources: []string{realm.ARN("client", "lamp")}},
	}
	check := func(name string, test iot.AuthorizationTest, want ...string) {
		t.Helper()
		results, err := f.Test(ctx, test)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for i, r := range results {
			if got := fmt.Sprint(r.Decision, r.Allowed, r.ExplicitDeny, r.ImplicitDeny, r.Missing); got != want[i] {
				t.Errorf("%s, request %d: %s, want %s", name, i, got, want[i])
			}
		}
	}
	check("as it is", iot.AuthorizationTest{Principal: arn, ClientID: &lamp, Requests: requests},
		"ALLOWED[allow] [] [deny] []", "EXPLICIT_DENY[allow] [deny] [] []", "IMPLICIT_DENY[allow] [] [deny] []",
		"IMPLICIT_DENY[] [] [allow deny] []", "ALLOWED[allow] [] [deny] []")
	check("with one more and one less", iot.AuthorizationTest{Principal: arn, ClientID: &lamp, Requests: requests, Add: []iot.PolicyName{"extra", "allow"}, Skip: []iot.PolicyName{"deny"}},
		"ALLOWED[allow] [] [extra] []", "ALLOWED[allow] [] [extra] []", "IMPLICIT_DENY[allow] [] [extra] []",
		"ALLOWED[extra] [] [allow] []", "ALLOWED[allow] [] [extra] []")
	check("without a client id", iot.AuthorizationTest{Principal: arn, Requests: requests[:1]},
		"IMPLICIT_DENY[] [] [allow deny] [iot:Connection.Thing.ThingName]")
	check("without a principal", iot.AuthorizationTest{Requests: requests[3:4], Add: []iot.PolicyName{"extra"}}, "ALLOWED[extra] [] [] []")
	for _, test := range []iot.AuthorizationTest{
		{Principal: realm.ARN(iot.KindCert, strings.Repeat("a", 64))},
		{Principal: arn, Add: []iot.PolicyName{"none"}},
		{Principal: arn, Skip: []iot.PolicyName{"none"}},
	} {
		if _, err := f.Test(ctx, test); iot.ErrorCode(err) != iot.NotFound {
			t.Errorf("%+v: %v", test, err)
		}
	}
}

func TestSessionDoesNotAllocate(t *testing.T) {
	f := newFixture(t)
	f.policy("p", "Allow iot:Publish topic/${iot:Connection.Thing.ThingName}/*")
	c := f.holder("p")
	f.thing("lamp", c, false)
	s := f.connect(c, "lamp")
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() { s.Publish(ctx, "lamp/state", false) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkPublish(b *testing.B) {
	f := newFixture(b)
	for i := range 5 {
		var statements []string
		for j := range 20 {
			statements = append(statements, fmt.Sprintf("Allow iot:%s topic/s%d/${iot:ClientId}/%d/*", []string{"Publish", "Receive"}[j%2], i, j))
		}
		document := strings.ReplaceAll(newDocument(statements...), "us-east-1:123456789012", "*:*")
		_, err := f.CreatePolicy(b.Context(), iot.NewPolicy{Name: iot.PolicyName(fmt.Sprint(i)), Document: document})
		f.must(err)
	}
	c := f.holder("0", "1", "2", "3", "4")
	s := f.connect(c, "lamp")
	ctx := b.Context()
	b.Run("known", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if d := s.Publish(ctx, "s4/lamp/18/x", false); !d.Allowed() {
				b.Fatal(d)
			}
		}
	})
	b.Run("changed", func(b *testing.B) {
		for b.Loop() {
			f.CertificateChanged(c, true)
			if d := s.Publish(ctx, "s4/lamp/18/x", false); !d.Allowed() {
				b.Fatal(d)
			}
		}
	})
}
