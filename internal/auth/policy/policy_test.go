package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

const prefix = "arn:aws:iot:us-east-1:123456789012:"

// parse makes a policy of statements, in which apostrophes stand for quotation marks and @ for the
// front of an ARN.
func parse(t testing.TB, statements ...string) *Policy {
	t.Helper()
	text := `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
	p, err := Parse(strings.NewReplacer("'", `"`, "@", prefix).Replace(text), KeyLimit)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return p
}

// allow is the text of a statement that allows actions at resources.
func allow(action, resource string) string {
	return fmt.Sprintf("{'Effect':'Allow','Action':'%s','Resource':'%s'}", action, resource)
}

func publish(topic string, c *Context) *Request {
	return &Request{"iot:Publish", ARN{prefix + "topic/", topic}, c}
}

func device(clientID string) *Context {
	return &Context{
		MQTT: true, ClientID: clientID, Secure: true, SourceIP: netip.MustParseAddr("192.0.2.7"), Now: time.Unix(1_800_000_000, 0),
		Thing: &Thing{Name: "lamp", Type: "light", Attributes: map[string]string{"Room": "hall"}},
		Certificate: &Certificate{ID: "c0ffee", Values: map[string][]string{
			"subject.commonname":   {"first", "second"},
			"subject.organization": {"a*b"},
			"serialnumber":         {"42"},
		}},
	}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	bare := &Context{MQTT: true, ClientID: "c1"}
	for _, c := range []struct {
		name       string
		statements []string
		request    *Request
		want       Outcome
	}{
		{"nothing said", []string{allow("iot:Connect", "*")}, publish("a", nil), ImplicitDeny},
		{"allowed", []string{allow("iot:Publish", "@topic/a")}, publish("a", nil), Allowed},
		{"deny wins", []string{allow("*", "*"), "{'Effect':'Deny','Action':'iot:Publish','Resource':'@topic/a'}"}, publish("a", nil), ExplicitDeny},
		{"deny of another", []string{allow("*", "*"), "{'Effect':'Deny','Action':'iot:Publish','Resource':'@topic/b'}"}, publish("a", nil), Allowed},
		{"action in another case", []string{allow("IOT:publISH", "*")}, publish("a", nil), Allowed},
		{"action by pattern", []string{allow("iot:P*h", "*")}, publish("a", nil), Allowed},
		{"resources have case", []string{allow("iot:Publish", "@topic/A")}, publish("a", nil), ImplicitDeny},
		{"action of another service", []string{allow("s3:*", "*")}, publish("a", nil), ImplicitDeny},
		{"NotAction", []string{"{'Effect':'Allow','NotAction':['iot:Connect','iot:Sub*'],'Resource':'*'}"}, publish("a", nil), Allowed},
		{"NotAction lists it", []string{"{'Effect':'Allow','NotAction':['iot:Connect','iot:Pub*'],'Resource':'*'}"}, publish("a", nil), ImplicitDeny},
		{"NotResource", []string{"{'Effect':'Allow','Action':'iot:Receive','NotResource':'@topic/a/restricted/*'}"},
			&Request{"iot:Receive", ARN{prefix + "topic/", "a/open"}, nil}, Allowed},
		{"NotResource names it", []string{"{'Effect':'Allow','Action':'iot:Receive','NotResource':'@topic/a/restricted/*'}"},
			&Request{"iot:Receive", ARN{prefix + "topic/", "a/restricted/x"}, nil}, ImplicitDeny},
		{"whole text", []string{allow("*", "@topic/a")}, publish("a/b", nil), ImplicitDeny},
		{"star crosses levels", []string{allow("*", "@topic/a/*/z")}, publish("a/b/c/z", nil), Allowed},
		{"star takes nothing", []string{allow("*", "@topic/a*")}, publish("a", nil), Allowed},
		{"question mark", []string{allow("*", "@topic/a?c")}, publish("a/c", nil), Allowed},
		{"question mark is one", []string{allow("*", "@topic/a?c")}, publish("abbc", nil), ImplicitDeny},
		{"question mark is a character", []string{allow("*", "@topic/a?c")}, publish("aöc", nil), Allowed},
		{"two for two", []string{allow("*", "@topic/*??")}, publish("ö", nil), ImplicitDeny},
		{"escaped star", []string{allow("*", "@topic/a${*}")}, publish("ab", nil), ImplicitDeny},
		{"escaped star is one", []string{allow("*", "@topic/a${*}${?}${$}")}, publish("a*?$", nil), Allowed},
		{"region and account", []string{allow("*", "arn:aws:iot:*:*:topic/a")}, publish("a", nil), Allowed},

		{"client id", []string{allow("*", "@topic/${iot:ClientId}/x")}, publish("c1/x", bare), Allowed},
		{"client id in another case", []string{allow("*", "@topic/${IOT:clientID}/x")}, publish("c1/x", bare), Allowed},
		{"client id of another", []string{allow("*", "@topic/${iot:ClientId}/x")}, publish("c2/x", bare), ImplicitDeny},
		{"wildcards in values are literal", []string{allow("*", "@topic/${iot:ClientId}/x")}, publish("c1/x", &Context{MQTT: true, ClientID: "*"}), ImplicitDeny},
		{"variables in values are text", []string{allow("*", "@topic/${iot:ClientId}")}, publish("c1", &Context{MQTT: true, ClientID: "${iot:ClientId}"}), ImplicitDeny},
		{"no client id over HTTP", []string{allow("*", "@topic/${iot:ClientId}/x")}, publish("/x", new(Context)), ImplicitDeny},
		{"source address", []string{allow("*", "@topic/${aws:SourceIp}")}, publish("192.0.2.7", device("x")), Allowed},
		{"thing", []string{allow("*", "@topic/${iot:Connection.Thing.ThingName}/${iot:Connection.Thing.ThingTypeName}/${iot:Connection.Thing.Attributes[Room]}")},
			publish("lamp/light/hall", device("x")), Allowed},
		{"thing by its old name", []string{allow("*", "@topic/${iot:Thing.ThingName}")}, publish("lamp", device("x")), Allowed},
		{"attributes have case", []string{allow("*", "@topic/${iot:Connection.Thing.Attributes[room]}*")}, publish("hall", device("x")), ImplicitDeny},
		{"no thing", []string{allow("*", "@topic/${iot:Connection.Thing.ThingName}*")}, publish("lamp", bare), ImplicitDeny},
		{"certificate", []string{allow("*", "@topic/${iot:Certificate.Subject.CommonName}/${iot:Certificate.Subject.CommonName.1}/${iot:CertificateId}")},
			publish("first/second/c0ffee", device("x")), Allowed},
		{"value of a certificate that looks like a pattern", []string{allow("*", "@topic/${iot:Certificate.Subject.Organization}")}, publish("a*b", device("x")), ImplicitDeny},
		{"third of two values", []string{allow("*", "@topic/${iot:Certificate.Subject.CommonName.2}*")}, publish("first", device("x")), ImplicitDeny},
		{"an undefined variable takes an Allow with it", []string{"{'Effect':'Allow','Action':'*','Resource':['@topic/a','@topic/${iot:Connection.Thing.ThingName}']}"},
			publish("a", bare), ImplicitDeny},
		{"an undefined variable takes nothing else from a Deny", []string{allow("*", "*"),
			"{'Effect':'Deny','Action':'*','Resource':['@topic/a','@topic/${iot:Connection.Thing.ThingName}']}"}, publish("a", bare), ExplicitDeny},
		{"undefined in NotResource, Allow", []string{"{'Effect':'Allow','Action':'*','NotResource':'@topic/${iot:Connection.Thing.ThingName}'}"}, publish("a", bare), ImplicitDeny},
		{"undefined in NotResource, Deny", []string{allow("*", "*"),
			"{'Effect':'Deny','Action':'*','NotResource':'@topic/${iot:Connection.Thing.ThingName}'}"}, publish("a", bare), ExplicitDeny},
		{"unknown variable", []string{allow("*", "@topic/${nobody:knows}*")}, publish("a", device("x")), ImplicitDeny},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := parse(t, c.statements...).Decide(c.request); got.Outcome != c.want {
				t.Errorf("%s at %s: %v, want %v", c.request.Action, c.request.Resource, got.Outcome, c.want)
			}
		})
	}
}

func TestDecideNamesTheStatement(t *testing.T) {
	t.Parallel()
	a := parse(t, allow("iot:Connect", "*"), allow("iot:Publish", "@topic/a*"))
	b := parse(t, allow("iot:Publish", "@topic/*"), "{'Effect':'Deny','Action':'*','Resource':'@topic/ab'}")
	for topic, want := range map[string]Decision{
		"a":  {Allowed, 0, 1},
		"b":  {Allowed, 1, 0},
		"ab": {ExplicitDeny, 1, 1},
	} {
		if got := Decide([]*Policy{a, b}, publish(topic, nil)); got != want {
			t.Errorf("%s: %+v, want %+v", topic, got, want)
		}
	}
	if got := Decide(nil, publish("a", nil)); got != (Decision{ImplicitDeny, -1, -1}) {
		t.Errorf("without policies: %+v", got)
	}
}

func TestConditions(t *testing.T) {
	t.Parallel()
	full := device("c1")
	bare := &Context{MQTT: true, ClientID: "c1"}
	connect := func(attributes ...string) *Context {
		return &Context{MQTT: true, ClientID: "c1", Connect: true, Attributes: attributes, LastWillTopic: prefix + "topic/will/c1"}
	}
	for _, c := range []struct {
		condition string
		context   *Context
		want      bool
	}{
		{"'StringEquals':{'iot:ClientId':'c1'}", bare, true},
		{"'StringEquals':{'iot:ClientId':['c0','c1']}", bare, true},
		{"'StringEquals':{'iot:ClientId':[]}", bare, false},
		{"'StringEquals':{'iot:ClientId':'c*'}", bare, false},
		{"'StringEquals':{'iot:Connection.Thing.ThingName':'${iot:ClientId}'}", device("lamp"), true},
		{"'StringEquals':{'iot:Connection.Thing.ThingName':'${iot:ClientId}'}", full, false},
		{"'StringEquals':{'iot:ClientId':['c1','${iot:Connection.Thing.ThingName}']}", bare, false}, // undefined in an Allow
		{"'StringNotEquals':{'iot:ClientId':['c0','c1']}", bare, false},
		{"'StringNotEquals':{'iot:ClientId':['c0','c2']}", bare, true},
		{"'StringNotEquals':{'iot:Connection.Thing.ThingName':'x'}", bare, true}, // absent
		{"'StringEquals':{'iot:Connection.Thing.ThingName':'x'}", bare, false},
		{"'StringEqualsIfExists':{'iot:Connection.Thing.ThingName':'x'}", bare, true},
		{"'StringEqualsIfExists':{'iot:Connection.Thing.ThingName':'x'}", full, false},
		{"'StringEqualsIgnoreCase':{'iot:ClientId':'C1'}", bare, true},
		{"'StringNotEqualsIgnoreCase':{'iot:ClientId':'C1'}", bare, false},
		{"'StringLike':{'iot:ClientId':'c?'}", bare, true},
		{"'StringNotLike':{'iot:ClientId':'c?'}", bare, false},
		{"'StringEquals':{'iot:ClientId':'c1','iot:Connection.Thing.ThingTypeName':'light'}", full, true},
		{"'StringEquals':{'iot:ClientId':'c1','iot:Connection.Thing.ThingTypeName':'door'}", full, false},
		{"'StringEquals':{'iot:ClientId':'c1'},'Bool':{'aws:SecureTransport':'false'}", full, false},
		{"'Bool':{'aws:SecureTransport':true}", full, true},
		{"'Bool':{'iot:Connection.Thing.IsAttached':'true'}", full, true},
		{"'Bool':{'iot:Connection.Thing.IsAttached':['true']}", bare, false},
		{"'Bool':{'iot:Connection.Thing.IsAttached':'false'}", bare, true},
		{"'Bool':{'iot:Connection.Thing.IsAttached':'false'}", new(Context), false},
		{"'IpAddress':{'aws:SourceIp':['198.51.100.0/24','192.0.2.0/29']}", full, true},
		{"'IpAddress':{'aws:SourceIp':'192.0.2.8/29'}", full, false},
		{"'IpAddress':{'aws:SourceIp':'192.0.2.7'}", full, true},
		{"'IpAddress':{'aws:SourceIp':'0.0.0.0/0'}", bare, false},
		{"'NotIpAddress':{'aws:SourceIp':'192.0.2.0/24'}", full, false},
		{"'NotIpAddress':{'aws:SourceIp':'192.0.2.0/24'}", bare, true},
		{"'NumericEquals':{'iot:Certificate.SerialNumber':42}", full, true},
		{"'NumericLessThan':{'iot:Certificate.SerialNumber':42}", full, false},
		{"'NumericLessThanEquals':{'iot:Certificate.SerialNumber':'42.0'}", full, true},
		{"'NumericGreaterThan':{'iot:Certificate.SerialNumber':'41'}", full, true},
		{"'NumericGreaterThanEquals':{'iot:Certificate.SerialNumber':'43'}", full, false},
		{"'NumericNotEquals':{'iot:Certificate.SerialNumber':'43'}", full, true},
		{"'NumericEquals':{'iot:ClientId':'1'}", full, false},
		{"'DateGreaterThan':{'aws:CurrentTime':'2027-01-15T07:59:59Z'}", full, true},
		{"'DateLessThan':{'aws:CurrentTime':'2027-01-15T08:00:00Z'}", full, false},
		{"'DateEquals':{'aws:EpochTime':1800000000}", full, true},
		{"'DateNotEquals':{'aws:EpochTime':'1800000000'}", full, false},
		{"'DateLessThan':{'aws:CurrentTime':'2099-01-01'}", bare, false},
		{"'Null':{'iot:Connection.Thing.ThingName':'true'}", bare, true},
		{"'Null':{'iot:Connection.Thing.ThingName':'true'}", full, false},
		{"'Null':{'iot:Connection.Thing.ThingName':false}", full, true},
		{"'ArnEquals':{'iot:LastWillTopic':'@topic/will/${iot:ClientId}'}", connect("LastWill"), true},
		{"'ArnEquals':{'iot:LastWillTopic':'@topic/will/${iot:ClientId}'}", bare, false},
		{"'ArnLike':{'iot:LastWillTopic':'arn:aws:iot:*:*:topic/will/*'}", connect("LastWill"), true},
		{"'ArnLike':{'iot:LastWillTopic':'arn:*:b:c:d:e'}", &Context{LastWillTopic: prefix + "topic/a:b:c:d:e"}, false}, // part by part
		{"'ArnLike':{'iot:LastWillTopic':'*'}", connect("LastWill"), true},
		{"'ArnNotLike':{'iot:LastWillTopic':'@topic/will/*'}", connect("LastWill"), false},
		{"'ForAllValues:StringEquals':{'iot:ConnectAttributes':[]}", connect(), true},
		{"'ForAllValues:StringEquals':{'iot:ConnectAttributes':[]}", connect("PersistentConnect"), false},
		{"'ForAllValues:StringEquals':{'iot:ConnectAttributes':[]}", connect("LastWill"), false},
		{"'ForAllValues:StringEquals':{'iot:ConnectAttributes':['LastWill']}", connect("LastWill"), true},
		{"'ForAllValues:StringEquals':{'iot:ConnectAttributes':['LastWill']}", connect("LastWill", "PersistentConnect"), false},
		{"'ForAllValues:StringEquals':{'iot:ConnectAttributes':[]}", bare, true}, // of another action than Connect
		{"'ForAnyValue:StringEquals':{'iot:ConnectAttributes':['PersistentConnect']}", connect("PersistentConnect", "LastWill"), true},
		{"'ForAnyValue:StringEquals':{'iot:ConnectAttributes':['PersistentConnect']}", connect("LastWill"), false},
		{"'ForAnyValue:StringEquals':{'iot:ConnectAttributes':['PersistentConnect']}", connect(), false},
		{"'ForAnyValue:StringEquals':{'iot:ConnectAttributes':['PersistentConnect']}", bare, false},
		{"'ForAnyValue:StringEquals':{'iot:Certificate.Subject.CommonName.List':['second']}", full, true},
		{"'ForAnyValue:StringNotEquals':{'iot:Certificate.Subject.CommonName.List':['first','second']}", full, false},
		{"'ForAllValues:StringLike':{'iot:Certificate.Subject.CommonName.List':['*']}", full, true},
		{"'ForAllValues:StringLike':{'iot:Certificate.Subject.CommonName.List':['f*']}", full, false},
		{"'ForAnyValue:StringEquals':{'iot:Certificate.AvailableKeys':'iot:Certificate.serialnumber'}", full, true},
	} {
		p := parse(t, "{'Effect':'Allow','Action':'*','Resource':'*','Condition':{"+c.condition+"}}")
		if got := p.Decide(publish("a", c.context)).Outcome == Allowed; got != c.want {
			t.Errorf("%s: %v, want %v", c.condition, got, c.want)
		}
	}
	// A Deny that excepts what is undefined does not let it through.
	p := parse(t, allow("*", "*"), "{'Effect':'Deny','Action':'*','Resource':'*','Condition':{'StringNotEquals':{'iot:ClientId':'${iot:Connection.Thing.ThingName}'}}}")
	if got := p.Decide(publish("a", bare)).Outcome; got != ExplicitDeny {
		t.Errorf("undefined in a Deny: %v", got)
	}
}

func TestMissing(t *testing.T) {
	t.Parallel()
	p := parse(t, allow("iot:Publish", "@topic/${iot:Connection.Thing.ThingName}/${iot:ClientId}"), allow("iot:Connect", "@client/${iot:CertificateId}"),
		"{'Effect':'Deny','Action':'*','Resource':'*','Condition':{'StringEquals':{'aws:SourceIp':'${iot:Connection.Thing.ThingName}'}}}")
	if got := p.Missing(publish("a", &Context{MQTT: true, ClientID: "c"})); !slices.Equal(got, []string{"iot:Connection.Thing.ThingName", "aws:SourceIp"}) {
		t.Errorf("%q", got)
	}
	if got := p.Missing(publish("a", device("c"))); got != nil {
		t.Errorf("%q", got)
	}
}

// TestBomb: what is meant to make a matcher go back and forth for ever does not take long.
func TestBomb(t *testing.T) {
	t.Parallel()
	var resources []string
	for range 8 {
		resources = append(resources, "'arn:"+strings.Repeat("*a", 120)+"*b'")
	}
	p := parse(t, "{'Effect':'Allow','Action':'*','Resource':["+strings.Join(resources, ",")+"]}")
	topic := strings.Repeat("a", 60_000)
	began := time.Now()
	if got := p.Decide(publish(topic, nil)); got.Outcome != ImplicitDeny {
		t.Error(got)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestDecideDoesNotAllocate(t *testing.T) {
	policies := fleetPolicies(t)
	r := publish("dt/lamp/state", device("lamp"))
	if n := testing.AllocsPerRun(100, func() { Decide(policies, r) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// fleetPolicies are five policies of twenty statements, the last of which allows publishing.
func fleetPolicies(t testing.TB) []*Policy {
	var policies []*Policy
	for i := range 5 {
		var statements []string
		for j := range 20 {
			action := []string{"iot:Subscribe", "iot:Publish", "iot:Receive", "iot:Publish"}[j%4]
			statements = append(statements, allow(action, fmt.Sprintf("@topic/s%d/${iot:Connection.Thing.ThingName}/%d/*", i, j)))
		}
		if i == 4 {
			statements[19] = allow("iot:Publish", "@topic/dt/${iot:Connection.Thing.ThingName}/*")
		}
		policies = append(policies, parse(t, statements...))
	}
	return policies
}

func BenchmarkDecide(b *testing.B) {
	policies := fleetPolicies(b)
	for name, c := range map[string]struct {
		topic string
		want  Outcome
	}{"allowed": {"dt/lamp/state", Allowed}, "denied": {"dt/other/state", ImplicitDeny}} {
		b.Run(name, func(b *testing.B) {
			r := publish(c.topic, device("lamp"))
			b.ReportAllocs()
			for b.Loop() {
				if d := Decide(policies, r); d.Outcome != c.want {
					b.Fatal(d)
				}
			}
		})
	}
}
