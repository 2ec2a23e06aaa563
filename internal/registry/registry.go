// Package registry keeps the things, thing types, thing groups, memberships, certificates,
// tags, the event configuration and the fleet index.
//
// A method is one transaction with one reading of the clock (DeleteGroup of a large group
// and recursive lists say what they do instead). Every change of a thing, type, group or
// membership appends a record to the journal, from which events are published; a request
// that changes nothing appends nothing. What a change means for jobs is decided by the
// job engine, inside the same transaction: see Jobs.
//
// Refusals are *iot.Error; the codes are named at each method. Names and texts are taken
// to have been checked against the wire's constraints where that is cheap to rely on, and
// are checked again where a wrong one could be stored.
package registry

import (
	"cmp"
	"context"
	"crypto/x509"
	"log/slog"
	"time"

	"drover/internal/iot"
	"drover/internal/pki"
	"drover/internal/store"
)

// Jobs is what jobs do when the registry changes. The methods are called inside the
// transaction of the change.
type Jobs interface {
	// Joined is called after the memberships began.
	Joined(tx store.Tx, now iot.Time, members []iot.Member, actor string) error
	// Leaving is called before a membership ends, unless the group or the thing ends with it.
	Leaving(tx store.Tx, now iot.Time, thing *iot.Thing, group *iot.Group, actor string) error
	// Left is called once after one or more memberships of the thing ended, and after
	// those that began in the same transaction.
	Left(tx store.Tx, now iot.Time, thing *iot.Thing, actor string) error
	// ThingDeleted is called before the thing is deleted, while it still has its memberships.
	ThingDeleted(tx store.Tx, now iot.Time, thing *iot.Thing, actor string) error
}

// Limits are the quotas of registry spec §0.2. A zero field stands for AWS's own number.
// The total size of a thing's attributes needs no quota: what the others allow is less.
type Limits struct {
	UntypedAttributes      int // of a thing without a type: 3
	TypedAttributes        int // of a thing with a type: 50
	GroupAttributes        int // of a group: 50
	SearchableAttributes   int // of a type: 3
	PropagatingAttributes  int // of a type: 20
	GroupsPerThing         int // direct memberships: 10
	Depth                  int // levels of a hierarchy, the root counted: 7
	Children               int // direct, of a group: 100
	Tags                   int // of a resource: 50
	PoliciesPerCertificate int // attached to it: 10
	PoliciesPerGroup       int // attached to it: 2
	Keys                   int // API keys: 1,000; all are held in memory
	Users                  int // of the console: 1,000; all are held in memory
	CAsPerSubject          int // CA certificates that have one subject: 10
	Authorizers            int // custom authorizers: 10
	QueryTerms             int // of a query of the fleet index: 12
	DynamicGroups          int // 100

	// TypeDeletionWait is how long a thing type must have been deprecated before it can be
	// deleted: 5 minutes. A negative duration is no wait.
	TypeDeletionWait time.Duration
}

func (l Limits) withDefaults() Limits {
	return Limits{
		UntypedAttributes:      cmp.Or(l.UntypedAttributes, 3),
		TypedAttributes:        cmp.Or(l.TypedAttributes, 50),
		GroupAttributes:        cmp.Or(l.GroupAttributes, 50),
		SearchableAttributes:   cmp.Or(l.SearchableAttributes, 3),
		PropagatingAttributes:  cmp.Or(l.PropagatingAttributes, 20),
		GroupsPerThing:         cmp.Or(l.GroupsPerThing, 10),
		Depth:                  cmp.Or(l.Depth, 7),
		Children:               cmp.Or(l.Children, 100),
		Tags:                   cmp.Or(l.Tags, iot.MaxTags),
		PoliciesPerCertificate: cmp.Or(l.PoliciesPerCertificate, 10),
		PoliciesPerGroup:       cmp.Or(l.PoliciesPerGroup, 2),
		Keys:                   cmp.Or(l.Keys, 1000),
		Users:                  cmp.Or(l.Users, 1000),
		CAsPerSubject:          cmp.Or(l.CAsPerSubject, 10),
		Authorizers:            cmp.Or(l.Authorizers, 10),
		QueryTerms:             cmp.Or(l.QueryTerms, 12),
		DynamicGroups:          cmp.Or(l.DynamicGroups, 100),
		TypeDeletionWait:       cmp.Or(l.TypeDeletionWait, 5*time.Minute),
	}
}

// Authority makes certificates for devices.
type Authority interface {
	// IssueDevice makes a key and a certificate for it.
	IssueDevice(now time.Time) (pki.Issued, iot.KeyPair, error)
	// SignDevice makes a certificate for the key of a request that pki.ParseRequest accepted.
	SignDevice(csr *x509.CertificateRequest, now time.Time) (pki.Issued, error)
}

// Functions calls functions of the operator: see package webhook.
type Functions interface {
	Call(ctx context.Context, function string, event any) ([]byte, error)
}

// Config says what a Registry works with. Store, Jobs and Realm are required.
type Config struct {
	Store      store.Store
	Jobs       Jobs
	Realm      iot.Realm
	Authority  Authority        // nil: no certificates can be made
	Identities Identities       // nil: nobody remembers
	Announced  func()           // called after a commit of what Follow tells other nodes; nil: nobody hurries
	Functions  Functions        // nil: pre-provisioning hooks refuse
	Logger     *slog.Logger     // nil = slog.Default()
	Now        func() time.Time // nil = time.Now
	Limits     Limits
}

// Registry is the registry of one realm. Its methods may be called concurrently.
type Registry struct {
	store      store.Store
	jobs       Jobs
	realm      iot.Realm
	authority  Authority
	identities Identities
	announced  func() // may be nil
	shared     bool   // with other nodes
	functions  Functions
	log        *slog.Logger
	now        func() time.Time
	limits     Limits
	building   chan struct{} // a hint that an index is to be built
	installing chan struct{} // a hint that jobs have brought versions to things

	connections connections
}

// New returns a Registry. It keeps no state outside of the store.
func New(cfg Config) *Registry {
	now := cfg.Now
	if now == nil {
		now = time.Now
	}
	return &Registry{
		store: cfg.Store, jobs: cfg.Jobs, realm: cfg.Realm, authority: cfg.Authority, identities: cfg.Identities, announced: cfg.Announced, shared: cfg.Store.Node() != store.FirstNode,
		functions: cfg.Functions, log: cmp.Or(cfg.Logger, slog.Default()), now: now, limits: cfg.Limits.withDefaults(),
		building: make(chan struct{}, 1), installing: make(chan struct{}, 1), connections: connections{hint: make(chan struct{}, 1)},
	}
}

// change is a transaction with what is the same all through it.
type change struct {
	store.Tx
	now        iot.Time
	actor      string
	identities Identities // may be nil
	announced  func()     // may be nil, and is once it has been taken care of
	shared     bool       // there may be other nodes
	touched    touched
}

// update runs f in a transaction.
func (r *Registry) update(ctx context.Context, actor string, f func(*change) error) error {
	return r.store.Update(ctx, func(tx store.Tx) error {
		c := &change{Tx: tx, now: iot.At(r.now()), actor: actor, identities: r.identities, announced: r.announced, shared: r.shared}
		if err := f(c); err != nil {
			return err
		}
		return r.index(c)
	})
}

// record appends a record of what changed.
func (c *change) record(kind iot.Kind, data any) error {
	rec, err := c.newRecord(kind, data)
	if err != nil {
		return err
	}
	return c.Append(rec)
}

func (c *change) newRecord(kind iot.Kind, data any) (iot.Record, error) {
	return iot.NewRecord(kind, c.now, c.actor, data)
}

// view returns what f finds in a snapshot of the store.
func view[T any](ctx context.Context, r *Registry, f func(store.Reader) (T, error)) (found T, err error) {
	err = r.store.View(ctx, func(rd store.Reader) error {
		found, err = f(rd)
		return err
	})
	return found, err
}

// list is view for a page: it returns the items and the cursor of the next page.
func list[T any](ctx context.Context, r *Registry, f func(store.Reader) ([]T, string, error)) (items []T, next string, err error) {
	err = r.store.View(ctx, func(rd store.Reader) error {
		items, next, err = f(rd)
		return err
	})
	return items, next, err
}

// cut makes a page of items, of which one more than the limit was asked for: the surplus
// one says that another page exists. The cursor is the key of the last item.
func cut[T any](items []T, limit int, key func(T) string) ([]T, string) {
	if len(items) <= limit {
		return items, ""
	}
	return items[:limit], key(items[limit-1])
}

// expect checks the version that a caller has in mind.
func expect(want *int64, have int64, what string, name any) error {
	if want != nil && *want != have {
		return iot.Errorf(iot.VersionMismatch, "The version for %s %v does not match the expected version.", what, name)
	}
	return nil
}

// exists returns the error for a name that is taken by something of another definition.
func (r *Registry) exists(kind, name, uuid, message string) error {
	err := iot.Errorf(iot.AlreadyExists, "%s", message)
	err.ResourceID, err.ResourceARN = uuid, r.realm.ARN(kind, name)
	return err
}

const nameConstraint = "Member must satisfy regular expression pattern: [a-zA-Z0-9:_-]+ and have a length of 1 to 128"

// checkName checks the name of a thing, type or group: they are spelled alike.
func checkName(member, name string) error {
	if !iot.ThingName(name).Valid() {
		return iot.Invalid(member, name, nameConstraint)
	}
	return nil
}
