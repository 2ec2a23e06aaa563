package access

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"

	"drover/internal/auth/policy"
	"drover/internal/iot"
)

// Client is who a session is for: a connection, or a device that asks by HTTPS.
type Client struct {
	Certificate iot.CertificateID // "" for one that has none
	// Policies are in force besides those of the certificate: those that an authorizer gave, or that
	// of an API key.
	Policies []*policy.Policy

	MQTT       bool // false: there is no client id, and variables of the thing are undefined
	ClientID   string
	Username   string // name of the API key
	DomainName string // that the client asked for in its TLS handshake
	SourceIP   netip.Addr
	Secure     bool // by TLS
}

// Connect is what a CONNECT asks for besides the connection itself.
type Connect struct {
	Persistent bool // a session that outlives the connection
	Will       bool
	WillTopic  string
	WillRetain bool
}

// Decision says whether something is allowed, and why. Its text is for logs.
type Decision struct {
	policy.Outcome
	Policy    iot.PolicyName // that decided; "" if none speaks of it, or if it is of an authorizer or a key
	Statement int            // its number in the document, from 1; 0 if none speaks of it
	Err       error          // the policies could not be read: denied
}

// Allowed reports whether it is.
func (d Decision) Allowed() bool { return d.Outcome == policy.Allowed }

func (d Decision) String() string {
	switch {
	case d.Err != nil:
		return fmt.Sprintf("denied: the policies cannot be read: %v", d.Err)
	case d.Statement == 0:
		return "denied: no policy allows it"
	case d.Policy == "":
		return fmt.Sprintf("%s by statement %d", d.Outcome, d.Statement)
	}
	return fmt.Sprintf("%s by policy %s, statement %d", d.Outcome, d.Policy, d.Statement)
}

// Session decides for one client. Its methods may be called concurrently, and allocate nothing
// unless something has changed.
type Session struct {
	d      *Decider
	client Client
	now    atomic.Pointer[remembered]
	// renewed takes the place of client.Policies once it is not nil.
	renewed atomic.Pointer[[]*policy.Policy]
}

// Renew puts other policies in the place of Client.Policies: an authorizer has been asked again.
// The next decision knows of them.
func (s *Session) Renew(policies []*policy.Policy) { s.renewed.Store(&policies) }

func (s *Session) own() []*policy.Policy {
	if p := s.renewed.Load(); p != nil {
		return *p
	}
	return s.client.Policies
}

// nobody is the standing of who has no certificate.
var nobody = new(remembered)

// Session returns the session of a client. It reads nothing yet.
func (d *Decider) Session(c Client) *Session {
	c.SourceIP = c.SourceIP.Unmap()
	s := &Session{d: d, client: c}
	if c.Certificate == "" {
		s.now.Store(nobody)
	}
	return s
}

// ExclusiveThing returns the thing that the certificate is attached to exclusively, "" for none.
func (s *Session) ExclusiveThing(ctx context.Context) (iot.ThingName, error) {
	now, err := s.standing(ctx)
	if err != nil || now.thing == nil || !now.exclusive {
		return "", err
	}
	return iot.ThingName(now.thing.Name), nil
}

// Connect decides about a CONNECT, its will included.
func (s *Session) Connect(ctx context.Context, c Connect) Decision {
	about := policy.Context{Connect: true}
	if c.Persistent {
		about.Attributes = append(about.Attributes, "PersistentConnect")
	}
	if c.Will {
		about.Attributes = append(about.Attributes, "LastWill")
		about.LastWillTopic = s.d.topic + c.WillTopic
	}
	d := s.decide(ctx, "iot:Connect", policy.ARN{Prefix: s.d.client, Name: s.client.ClientID}, about)
	if c.Will && d.Allowed() {
		return s.Publish(ctx, c.WillTopic, c.WillRetain)
	}
	return d
}

// Publish decides about a message to a topic. To retain it takes a permission of its own.
func (s *Session) Publish(ctx context.Context, topic string, retain bool) Decision {
	arn := policy.ARN{Prefix: s.d.topic, Name: topic}
	d := s.ask(ctx, "iot:Publish", arn)
	if retain && d.Allowed() {
		return s.ask(ctx, "iot:RetainPublish", arn)
	}
	return d
}

// Subscribe decides about a filter, the text of which is compared (identity spec §5.6).
func (s *Session) Subscribe(ctx context.Context, filter string) Decision {
	return s.ask(ctx, "iot:Subscribe", policy.ARN{Prefix: s.d.filter, Name: filter})
}

// Receive decides about the delivery of a message.
func (s *Session) Receive(ctx context.Context, topic string) Decision {
	return s.ask(ctx, "iot:Receive", policy.ARN{Prefix: s.d.topic, Name: topic})
}

// Jobs decides about an operation of the jobs data plane over HTTPS, such as
// "DescribeJobExecution", on a thing. The action has two names, of which one must be allowed and
// neither denied (identity spec A-27).
func (s *Session) Jobs(ctx context.Context, operation string, thing iot.ThingName) Decision {
	arn := policy.ARN{Prefix: s.d.thing, Name: string(thing)}
	d := s.ask(ctx, "iotjobsdata:"+operation, arn)
	if former := s.ask(ctx, "iot:"+operation, arn); former.Outcome > d.Outcome {
		return former
	}
	return d
}

// Do decides about any other action on a resource, given by its ARN.
func (s *Session) Do(ctx context.Context, action, resource string) Decision {
	return s.ask(ctx, action, policy.ARN{Prefix: resource})
}

// ask asks the policies.
func (s *Session) ask(ctx context.Context, action string, resource policy.ARN) Decision {
	return s.decide(ctx, action, resource, policy.Context{})
}

// decide asks the policies. about has what is known of the request but not of the client.
func (s *Session) decide(ctx context.Context, action string, resource policy.ARN, about policy.Context) Decision {
	now, err := s.standing(ctx)
	if err != nil {
		return Decision{Outcome: policy.ImplicitDeny, Err: err}
	}
	c := &s.client
	about.SourceIP, about.Secure, about.Now, about.Username = c.SourceIP, c.Secure, s.d.now(), c.Username
	if now.until != 0 && iot.At(about.Now) >= now.until {
		return Decision{Outcome: policy.ImplicitDeny}
	}
	about.MQTT, about.ClientID, about.DomainName = c.MQTT, c.ClientID, c.DomainName
	about.Thing, about.Certificate = now.thing, now.described
	r := policy.Request{Action: action, Resource: resource, Context: &about}
	d := policy.Decide(now.policies, &r)
	decision := Decision{Outcome: d.Outcome, Statement: d.Statement + 1}
	if d.Policy >= 0 {
		decision.Policy = now.names[d.Policy]
	}
	if d.Outcome == policy.ExplicitDeny {
		return decision
	}
	if own := policy.Decide(s.own(), &r); own.Outcome > d.Outcome {
		return Decision{Outcome: own.Outcome, Statement: own.Statement + 1}
	}
	return decision
}

func (s *Session) standing(ctx context.Context) (*remembered, error) {
	now := s.now.Load()
	if now != nil && !now.stale.Load() {
		return now, nil
	}
	w := who{certificate: s.client.Certificate}
	if s.client.MQTT {
		w.clientID = s.client.ClientID
	}
	now, err := s.d.standing(ctx, w)
	if err != nil {
		return nil, err
	}
	s.now.Store(now)
	return now, nil
}
