package access

import (
	"strings"
	"testing"
	"time"

	"drover/internal/auth/policy"
	"drover/internal/iot"
	"drover/internal/store"
)

// A claim may provision by its template, and nothing else, until it expires.
func TestClaim(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	now := time.Unix(1_700_000_000, 0)
	f.now = func() time.Time { return now }
	claim := iot.Claim{Certificate: iot.CertificateID(strings.Repeat("c", 64)), Template: "mine", Expires: iot.At(now.Add(time.Minute))}
	f.must(f.db.Update(t.Context(), func(tx store.Tx) error { return tx.InsertClaim(claim, iot.At(now)) }))
	s := f.Session(Client{Certificate: claim.Certificate, MQTT: true, ClientID: "any"})
	want := func(allowed bool, decisions ...Decision) {
		t.Helper()
		for i, d := range decisions {
			if d.Allowed() != allowed {
				t.Errorf("decision %d: %s", i, d)
			}
		}
	}
	ctx := t.Context()
	requests := func() []Decision {
		return []Decision{
			s.Connect(ctx, Connect{}),
			s.Publish(ctx, "$aws/certificates/create/json", false),
			s.Publish(ctx, "$aws/certificates/create-from-csr/cbor", false),
			s.Publish(ctx, "$aws/provisioning-templates/mine/provision/json", false),
			s.Subscribe(ctx, "$aws/certificates/create/json/accepted"),
			s.Subscribe(ctx, "$aws/provisioning-templates/mine/provision/json/+"),
			s.Receive(ctx, "$aws/provisioning-templates/mine/provision/json/rejected"),
		}
	}
	want(true, requests()...)
	want(false,
		s.Connect(ctx, Connect{Persistent: true, Will: true, WillTopic: "t"}),
		s.Publish(ctx, "$aws/provisioning-templates/other/provision/json", false),
		s.Publish(ctx, "$aws/things/any/jobs/get", false),
		s.Publish(ctx, "t", false),
		s.Subscribe(ctx, "#"),
		s.Subscribe(ctx, "$aws/provisioning-templates/#"),
		s.Jobs(ctx, "DescribeJobExecution", "any"),
	)
	now = now.Add(time.Minute)
	want(false, requests()...)
}

// TestB220PoliciesOfAnAuthorizer: what an authorizer returned is enforced for a client without a
// certificate, and what it returned when it was asked again, from then on.
func TestB220PoliciesOfAnAuthorizer(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	parse := func(statements ...string) []*policy.Policy {
		t.Helper()
		p, err := policy.Parse(newDocument(statements...), policy.DeviceLimit)
		f.must(err)
		return []*policy.Policy{p}
	}
	s := f.Session(Client{MQTT: true, ClientID: "c", Policies: parse("Allow iot:Connect client/c", "Allow iot:Publish topic/a", "Allow iot:Subscribe topicfilter/a")})
	check := func(allowed string) {
		t.Helper()
		got := ""
		for name, d := range map[string]Decision{"a": s.Publish(t.Context(), "a", false), "b": s.Publish(t.Context(), "b", false)} {
			if d.Allowed() {
				got += name
			}
		}
		if got != allowed {
			t.Errorf("may publish to %q, want %q", got, allowed)
		}
	}
	check("a")
	if !s.Connect(t.Context(), Connect{}).Allowed() || !s.Subscribe(t.Context(), "a").Allowed() || s.Subscribe(t.Context(), "b").Allowed() {
		t.Error("connect and subscribe")
	}
	s.Renew(parse("Allow iot:Publish topic/b"))
	check("b")
}
