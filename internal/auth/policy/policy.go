// Package policy is the language of AWS IoT and IAM policies: it parses a document, and decides
// what it says of a request (identity spec §5). It does no I/O and reads no clock; whose policies
// they are, and what they are attached to, is none of its business.
//
// A [Policy] is parsed once and then only read: any number of goroutines may decide by it, each
// with a [Request] of its own. A decision allocates nothing, unless a policy compares a time or an
// address as text. It takes a time that is bounded by the product of what was written and the
// length of what is compared with it: no pattern makes it go back more than to its last `*`.
package policy

// Policy is a parsed document.
type Policy struct {
	statements []statement
}

type statement struct {
	deny         bool
	notAction    bool
	actions      []pattern // in lower case
	notResource  bool
	resources    []pattern
	resourceVars bool // a resource has a variable
	conditions   []condition
}

// ARN is the resource of a request in two parts: nothing has to be put together, and so be
// allocated, to ask about a topic below one and the same prefix.
type ARN struct {
	Prefix string // "arn:aws:iot:us-east-1:123456789012:topic/"
	Name   string // the topic, the filter, the client id; or "" if all is in Prefix
}

func (a ARN) String() string { return a.Prefix + a.Name }

// Request is what somebody wants to do.
type Request struct {
	Action   string // "iot:Publish"; case is ignored
	Resource ARN
	Context  *Context // nil = nothing is known
}

// Outcome is what one or more policies say of a request.
type Outcome uint8

// The outcomes (identity spec §5.5). What no statement speaks of is denied.
const (
	ImplicitDeny Outcome = iota
	Allowed
	ExplicitDeny
)

// String returns the name in the API of AWS IoT.
func (o Outcome) String() string {
	switch o {
	case Allowed:
		return "ALLOWED"
	case ExplicitDeny:
		return "EXPLICIT_DENY"
	}
	return "IMPLICIT_DENY"
}

// Decision is an outcome and what brought it about.
type Decision struct {
	Outcome
	Policy    int // index of the policy that decided; -1 for an implicit deny
	Statement int // index of the statement in it; -1 for an implicit deny
}

// Decide returns what the policies say together: one matching Deny is enough for an explicit
// deny; otherwise one matching Allow allows. The order of policies and statements matters only
// for which of several that say the same is named: the first.
func Decide(policies []*Policy, r *Request) Decision {
	d := Decision{ImplicitDeny, -1, -1}
	var buffer [512]byte
	arn := append(append(buffer[:0], r.Resource.Prefix...), r.Resource.Name...)
	for i, p := range policies {
		outcome, statement := p.decide(r, arn)
		if outcome > d.Outcome {
			d = Decision{outcome, i, statement}
		}
		if outcome == ExplicitDeny {
			break
		}
	}
	return d
}

// Decide returns what the policy alone says, and the statement that says it.
func (p *Policy) Decide(r *Request) Decision {
	return Decide([]*Policy{p}, r)
}

func (p *Policy) decide(r *Request, arn []byte) (Outcome, int) {
	outcome, by := ImplicitDeny, -1
	for i := range p.statements {
		s := &p.statements[i]
		if outcome == Allowed && !s.deny || !s.applies(r, arn) {
			continue
		}
		if s.deny {
			return ExplicitDeny, i
		}
		outcome, by = Allowed, i
	}
	return outcome, by
}

// applies reports whether the statement is about the request.
func (s *statement) applies(r *Request, arn []byte) bool {
	if s.action(r.Action) == s.notAction {
		return false
	}
	if s.resource(arn, r.Context) == s.notResource {
		return false
	}
	// Whoever cannot be asked for a value that an Allow builds upon is allowed nothing by it
	// (identity spec §5.7). Of a Deny only the pattern itself comes to nothing.
	if s.resourceVars && !s.deny && !s.resolved(r.Context) {
		return false
	}
	for i := range s.conditions {
		if !s.conditions[i].holds(r.Context, s.deny) {
			return false
		}
	}
	return true
}

func (s *statement) action(action string) bool {
	for _, p := range s.actions {
		if match(p, action, nil, true) {
			return true
		}
	}
	return false
}

func (s *statement) resource(arn []byte, c *Context) bool {
	for _, p := range s.resources {
		if match(p, arn, c, false) {
			return true
		}
	}
	return false
}

func (s *statement) resolved(c *Context) bool {
	for _, p := range s.resources {
		if !p.resolved(c) {
			return false
		}
	}
	return true
}

// Missing returns the names of the variables and condition keys for which the request has no value,
// in statements about its action: what a caller who only tries out a policy may have forgotten to
// say. Each is named once, in the order of the document.
func (p *Policy) Missing(r *Request) []string {
	var names []string
	seen := make(map[string]bool)
	add := func(k key) {
		if _, known := r.Context.values(k); !known && !seen[k.text] {
			seen[k.text] = true
			names = append(names, k.text)
		}
	}
	vars := func(p pattern) {
		for _, t := range p {
			if t.kind == variable {
				add(t.key)
			}
		}
	}
	for i := range p.statements {
		s := &p.statements[i]
		if s.action(r.Action) == s.notAction {
			continue
		}
		for _, p := range s.resources {
			vars(p)
		}
		for _, c := range s.conditions {
			if c.test != testNull { // which asks for just that
				add(c.key)
			}
			for _, v := range c.texts {
				vars(v)
			}
		}
	}
	return names
}
