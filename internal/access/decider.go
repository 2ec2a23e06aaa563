package access

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"drover/internal/auth/policy"
	"drover/internal/iot"
	"drover/internal/store"
)

// Config says what a Decider works with. Store and Realm are required.
type Config struct {
	Store  store.Store
	Realm  iot.Realm
	Keys   Keys             // nil: there are no keys
	Users  Users            // nil: there are no users
	Logger *slog.Logger     // nil = slog.Default()
	Now    func() time.Time // nil = time.Now
	// MaxStandings is how many pairs of a certificate and a client id are remembered; 0 = 100,000.
	// One takes about a kilobyte.
	MaxStandings int
}

// Decider decides for all devices. Its methods may be called concurrently.
type Decider struct {
	store store.Store
	realm iot.Realm
	keys  Keys
	users Users
	log   *slog.Logger
	now   func() time.Time
	max   int

	// Fronts of ARNs.
	client, topic, filter, thing string

	mu        sync.Mutex
	standings map[who]*remembered
	index     map[subject]map[*remembered]struct{} // which are stale when the subject changes
	compiled  map[document]*policy.Policy
}

// who is the key of what is remembered.
type who struct {
	certificate iot.CertificateID
	clientID    string
}

// subject is something whose change concerns a standing: a certificate or a thing.
type subject struct{ kind, name string }

// document is a version of a policy; it never changes.
type document struct {
	policy  int64
	version int
}

// maxCompiled bounds how many documents are kept ready. Above that, all are forgotten.
const maxCompiled = 10_000

// standing is what is known of somebody, and the policies that are in force for him.
type standing struct {
	thing     *policy.Thing // nil for none
	exclusive bool          // the certificate is attached to the thing and to no other
	described *policy.Certificate
	names     []iot.PolicyName
	policies  []*policy.Policy
	until     iot.Time // from then on nothing is allowed; 0 = never
}

// remembered is a standing in the cache. It is complete once ready is closed and does not change
// after that, except that it becomes stale.
type remembered struct {
	standing
	who
	err      error // of reading the store: nothing is known
	ready    chan struct{}
	stale    atomic.Bool
	subjects []subject // under which it is in the index; guarded by Decider.mu
}

// New returns a Decider.
func New(cfg Config) *Decider {
	d := &Decider{
		store: cfg.Store, realm: cfg.Realm, keys: cfg.Keys, users: cfg.Users, log: cmp.Or(cfg.Logger, slog.Default()), now: cfg.Now, max: cmp.Or(cfg.MaxStandings, 100_000),
		client: cfg.Realm.ARN("client", ""), topic: cfg.Realm.ARN("topic", ""),
		filter: cfg.Realm.ARN("topicfilter", ""), thing: cfg.Realm.ARN(iot.KindThing, ""),
		standings: make(map[who]*remembered), index: make(map[subject]map[*remembered]struct{}), compiled: make(map[document]*policy.Policy),
	}
	if d.now == nil {
		d.now = time.Now
	}
	return d
}

// CertificateChanged implements registry.Identities.
func (d *Decider) CertificateChanged(id iot.CertificateID, _ bool) {
	d.changed(subject{iot.KindCert, string(id)})
}

// ThingsChanged implements registry.Identities.
func (d *Decider) ThingsChanged(names []iot.ThingName) {
	subjects := make([]subject, len(names))
	for i, name := range names {
		subjects[i] = subject{iot.KindThing, string(name)}
	}
	d.changed(subjects...)
}

// PoliciesChanged implements registry.Identities.
func (d *Decider) PoliciesChanged(id iot.CertificateID) {
	if id != "" {
		d.CertificateChanged(id, true)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.standings {
		s.stale.Store(true)
		s.subjects = nil
	}
	clear(d.standings)
	clear(d.index)
}

func (d *Decider) changed(subjects ...subject) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, subject := range subjects {
		for s := range d.index[subject] {
			d.forget(s)
		}
	}
}

// forget makes a standing stale and takes it out of the cache. d.mu is held.
func (d *Decider) forget(s *remembered) {
	s.stale.Store(true)
	if d.standings[s.who] == s {
		delete(d.standings, s.who)
	}
	for _, subject := range s.subjects {
		delete(d.index[subject], s)
		if len(d.index[subject]) == 0 {
			delete(d.index, subject)
		}
	}
	s.subjects = nil
}

func (d *Decider) depend(s *remembered, subject subject) {
	if slices.Contains(s.subjects, subject) {
		return
	}
	s.subjects = append(s.subjects, subject)
	if d.index[subject] == nil {
		d.index[subject] = make(map[*remembered]struct{})
	}
	d.index[subject][s] = struct{}{}
}

// standing returns what is known of somebody, and finds it out if need be. It waits for another
// goroutine that does so already.
func (d *Decider) standing(ctx context.Context, w who) (*remembered, error) {
	d.mu.Lock()
	s := d.standings[w]
	if s == nil {
		s = &remembered{who: w, ready: make(chan struct{})}
		for _, old := range d.standings {
			if len(d.standings) < d.max {
				break
			}
			d.forget(old)
		}
		d.standings[w] = s
		// Before the store is read: a change from now on makes it stale.
		d.depend(s, subject{iot.KindCert, string(w.certificate)})
		d.depend(s, subject{iot.KindThing, w.clientID})
		d.mu.Unlock()
		// The one who waits least must not decide about the others.
		s.err = d.load(context.WithoutCancel(ctx), s)
		if s.err != nil {
			d.mu.Lock()
			d.forget(s)
			d.mu.Unlock()
		}
		close(s.ready)
		return s, s.err
	}
	d.mu.Unlock()
	select {
	case <-s.ready:
		return s, s.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// load finds out about s.
func (d *Decider) load(ctx context.Context, s *remembered) error {
	for again := true; again; {
		err := d.store.View(ctx, func(rd store.Reader) error {
			again = false
			cert, err := rd.CertificateByID(s.who.certificate)
			if errors.Is(err, store.ErrNotFound) {
				s.standing, err = d.claim(rd, s.who.certificate)
				return err
			}
			if err == nil && cert.Status != iot.CertificateActive {
				return nil // may nothing
			}
			if err != nil {
				return err
			}
			thing, exclusive, err := thingOf(rd, s.who)
			if err != nil {
				return err
			}
			if thing != nil {
				// An exclusive thing is only known now. If it may have changed since this snapshot
				// without anybody knowing whom that concerns, another one is taken.
				if again = d.concern(s, subject{iot.KindThing, string(thing.Name)}); again {
					return nil
				}
			}
			s.standing, err = d.inquire(rd, cert, thing)
			s.exclusive = exclusive
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// concern notes that s depends on the subject, and reports whether that was news. For a stale
// standing, which nobody will remember, it is not.
func (d *Decider) concern(s *remembered, subject subject) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s.stale.Load() || slices.Contains(s.subjects, subject) {
		return false
	}
	d.depend(s, subject)
	return true
}

// inquire reads the policies that are in force for a certificate and the thing of its connection,
// which may be nil.
func (d *Decider) inquire(rd store.Reader, cert *iot.Certificate, thing *iot.Thing) (s standing, err error) {
	if s.described, err = describe(cert); err != nil {
		return s, err
	}
	targets := []iot.PolicyTarget{iot.CertificateTarget(cert.ID)}
	if thing != nil {
		s.thing = &policy.Thing{Name: string(thing.Name), Type: thing.Type, Attributes: thing.Attributes}
		groups, err := groupTargets(rd, thing)
		if err != nil {
			return s, err
		}
		targets = append(targets, groups...)
	}
	attached, err := rd.AttachedPolicies(targets)
	if err != nil {
		return s, err
	}
	for _, p := range attached {
		compiled, err := d.document(rd, p)
		if err != nil {
			return s, err
		}
		s.names, s.policies = append(s.names, p.Name), append(s.policies, compiled)
	}
	return s, nil
}

// thingOf returns the thing of a connection, nil for none (identity spec §5.7): what the certificate
// is exclusively attached to, or else the thing with the name of the client id, if it is attached to that.
func thingOf(rd store.Reader, w who) (thing *iot.Thing, isExclusive bool, err error) {
	exclusive, err := rd.ThingsOfPrincipal(w.certificate, store.PrincipalQuery{Exclusive: true}, "", 1)
	if err != nil {
		return nil, false, err
	}
	name := iot.ThingName(w.clientID)
	if len(exclusive) > 0 {
		name = exclusive[0].Thing
	}
	thing, err = rd.ThingByName(name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil || len(exclusive) > 0 {
		return thing, len(exclusive) > 0, err
	}
	_, err = rd.ThingPrincipal(thing.ID, w.certificate)
	if errors.Is(err, store.ErrNotFound) {
		return nil, false, nil
	}
	return thing, len(exclusive) > 0, err
}

// groupTargets returns the groups of a thing and everything above them.
func groupTargets(rd store.GroupReader, thing *iot.Thing) ([]iot.PolicyTarget, error) {
	groups, err := rd.GroupsOfThing(thing.ID)
	if err != nil {
		return nil, err
	}
	var targets []iot.PolicyTarget
	for _, g := range groups {
		ancestors, err := rd.Ancestors(g.ID)
		if err != nil {
			return nil, err
		}
		targets = append(targets, iot.GroupTarget(g.Name))
		for _, a := range ancestors {
			targets = append(targets, iot.GroupTarget(a.Name))
		}
	}
	return targets, nil
}

// document returns the version of p that is in force, ready to be asked.
func (d *Decider) document(rd store.PolicyReader, p *iot.Policy) (*policy.Policy, error) {
	key := document{p.ID, p.Default}
	d.mu.Lock()
	compiled := d.compiled[key]
	d.mu.Unlock()
	if compiled != nil {
		return compiled, nil
	}
	v, err := rd.PolicyVersion(p.ID, p.Default)
	if err != nil {
		return nil, err
	}
	// It was checked when it was stored. One that is refused now is a fault of ours, and must not
	// be passed over: it may say Deny.
	if compiled, err = policy.Parse(v.Document, policy.DeviceLimit); err != nil {
		d.log.Error("stored policy cannot be read", "policy", p.Name, "version", p.Default, "err", err)
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.compiled) >= maxCompiled {
		clear(d.compiled)
	}
	d.compiled[key] = compiled
	return compiled, nil
}
