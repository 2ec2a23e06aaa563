package access

import (
	"context"
	"fmt"
	"net/http"

	"drover/internal/auth"
	"drover/internal/auth/policy"
	"drover/internal/iot"
)

// Keys says whose an access key is.
type Keys interface {
	Owner(accessKeyID string) (auth.Owner, bool)
}

// Users says what a user of the console may do.
type Users interface {
	Owner(name string) (auth.Owner, bool)
}

// Permit returns nil if who sent a request, as the context says (auth.WithIdentity), may do the action
// on all of the resources, and otherwise an *auth.Error in AWS's words. Certificates may nothing here:
// what they may do is asked of sessions.
func (d *Decider) Permit(ctx context.Context, action string, resources ...string) error {
	id, owner, ok := d.owner(ctx)
	if ok && owner.Root {
		return nil
	}
	about := d.about(id, owner)
	for _, resource := range resources {
		outcome := policy.ImplicitDeny
		if ok {
			outcome = owner.Policy.Decide(&policy.Request{Action: action, Resource: policy.ARN{Prefix: resource}, Context: about}).Outcome
		}
		if outcome != policy.Allowed {
			return d.denied(owner.Name, action, resource, outcome)
		}
	}
	return nil
}

// PermitJobs is Permit for an operation of the jobs data plane on a thing. The action has two names,
// of which one must be allowed and neither denied (identity spec A-27).
func (d *Decider) PermitJobs(ctx context.Context, operation string, thing iot.ThingName) error {
	id, owner, ok := d.owner(ctx)
	switch {
	case ok && owner.Root:
		return nil
	case id.Principal.Certificate != "":
		s := d.Session(Client{Certificate: id.Principal.Certificate, SourceIP: id.Source, Secure: true})
		return d.answer(ctx, s.Jobs(ctx, operation, thing), "iotjobsdata:"+operation, d.thing+string(thing), id)
	}
	s := &Session{d: d, client: Client{SourceIP: id.Source, Secure: id.Secure, Username: owner.Name}}
	s.now.Store(nobody)
	if ok {
		s.client.Policies = []*policy.Policy{owner.Policy}
	}
	if decision := s.Jobs(ctx, operation, thing); !decision.Allowed() {
		return d.denied(owner.Name, "iotjobsdata:"+operation, d.thing+string(thing), decision.Outcome)
	}
	return nil
}

// PermitData is Permit for an action of the data plane, which certificates and guests may do, too:
// without a client id, so that variables of the thing are undefined (identity spec §2.19).
func (d *Decider) PermitData(ctx context.Context, action, resource string) error {
	id, _ := auth.IdentityFrom(ctx)
	client := Client{Certificate: id.Principal.Certificate, SourceIP: id.Source, Secure: id.Secure}
	switch guest := id.Principal.Guest; {
	case guest != nil:
		client.Policies = guest.Policies
	case client.Certificate == "":
		return d.Permit(ctx, action, resource)
	}
	return d.answer(ctx, d.Session(client).Do(ctx, action, resource), action, resource, id)
}

// answer is what the holder of a certificate is told.
func (d *Decider) answer(ctx context.Context, decision Decision, action, resource string, id auth.Identity) error {
	if decision.Err != nil {
		return decision.Err
	}
	if !decision.Allowed() {
		d.log.DebugContext(ctx, "device request denied", "action", action, "resource", resource, "who", id.Principal.Actor(), "why", decision)
		return &auth.Error{Code: "ForbiddenException", Status: http.StatusForbidden, Message: "Forbidden"}
	}
	return nil
}

// owner returns who sent a request, and which user he is or whose key it was signed with, if any.
func (d *Decider) owner(ctx context.Context) (id auth.Identity, owner auth.Owner, ok bool) {
	id, known := auth.IdentityFrom(ctx)
	switch {
	case known && id.Principal.User != "" && d.users != nil:
		owner, ok = d.users.Owner(id.Principal.User)
	case known && id.Principal.Person != nil:
		owner, ok = id.Principal.Person.Owner()
	case known && id.Principal.AccessKeyID != "" && d.keys != nil:
		owner, ok = d.keys.Owner(id.Principal.AccessKeyID)
	}
	return id, owner, ok
}

func (d *Decider) about(id auth.Identity, owner auth.Owner) *policy.Context {
	return &policy.Context{SourceIP: id.Source.Unmap(), Secure: id.Secure, Now: d.now(), Username: owner.Name}
}

// denied says so in AWS's words.
func (d *Decider) denied(user, action, resource string, outcome policy.Outcome) error {
	why := "because no identity-based policy allows the " + action + " action"
	if outcome == policy.ExplicitDeny {
		why = "with an explicit deny in an identity-based policy"
	}
	return &auth.Error{Code: auth.CodeAccessDenied, Status: http.StatusForbidden,
		Message: fmt.Sprintf("User: arn:%s:iam::%s:user/%s is not authorized to perform: %s on resource: %s %s", d.realm.Partition(), d.realm.Account, user, action, resource, why)}
}

// everything is what the key of the data folder may do.
var everything = mustParse(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`)

func mustParse(document string) *policy.Policy {
	p, err := policy.Parse(document, policy.DeviceLimit)
	if err != nil {
		panic(err) // a constant of this package
	}
	return p
}

// Key makes c a client in the name of the key that signed a request, and returns the key's name. It
// reports false if there is no such key any more.
func (d *Decider) Key(id auth.Identity, c *Client) (name string, ok bool) {
	owner, ok := d.keys.Owner(id.Principal.AccessKeyID)
	if !ok {
		return "", false
	}
	c.Username, c.Secure, c.Policies = owner.Name, id.Secure, []*policy.Policy{owner.Policy}
	if owner.Root {
		c.Policies = []*policy.Policy{everything}
	}
	return owner.Name, true
}

// KeyCounts reports whether the key that signed a request has not been revoked since.
func (d *Decider) KeyCounts(id auth.Identity) bool {
	_, ok := d.keys.Owner(id.Principal.AccessKeyID)
	return ok
}
