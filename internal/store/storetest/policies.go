package storetest

import (
	"drover/internal/iot"
	"drover/internal/store"
)

var policies = []testCase{
	{"and their versions are kept whole", func(f *fixture) {
		p, v := newPolicy("a")
		f.update(func(tx store.Tx) error { return tx.InsertPolicy(p, v) })
		if p.ID == 0 {
			f.Fatal("ID is not set")
		}
		second := &iot.PolicyVersion{Version: 2, Document: "{} ", CreatedAt: t0 + 7}
		p.Default, p.Latest, p.ModifiedAt = 2, 2, t0+7
		f.update(func(tx store.Tx) error {
			f.must(tx.InsertPolicyVersion(p.ID, second))
			return tx.SavePolicy(p)
		})
		f.reopen()
		f.equal(read(f, func(r store.Reader) (*iot.Policy, error) { return r.PolicyByName("a") }), p)
		version := func(n int) *iot.PolicyVersion {
			return read(f, func(r store.Reader) (*iot.PolicyVersion, error) { return r.PolicyVersion(p.ID, n) })
		}
		f.equal(version(1), v)
		f.equal(version(2), second)
		f.equal(read(f, func(r store.Reader) ([]*iot.PolicyVersion, error) { return r.PolicyVersions(p.ID) }),
			[]*iot.PolicyVersion{{Version: 1, CreatedAt: v.CreatedAt}, {Version: 2, CreatedAt: second.CreatedAt}})
		f.refused(store.ErrExists, func(tx store.Tx) error { return tx.InsertPolicyVersion(p.ID, second) })
		f.refused(store.ErrExists, func(tx store.Tx) error { return tx.InsertPolicy(newPolicy("a")) })
		f.update(func(tx store.Tx) error { return tx.DeletePolicyVersion(p.ID, 1) })
		f.view(func(r store.Reader) error {
			_, err := r.PolicyVersion(p.ID, 1)
			f.fails(store.ErrNotFound, err)
			_, err = r.PolicyByName("b")
			f.fails(store.ErrNotFound, err)
			return nil
		})
		f.update(func(tx store.Tx) error { return tx.DeletePolicy(p) })
		f.refused(store.ErrNotFound, func(tx store.Tx) error { return tx.SavePolicy(p) })
		again, v := newPolicy("a")
		f.update(func(tx store.Tx) error { return tx.InsertPolicy(again, v) })
		if again.ID == p.ID {
			f.Error("the number was used again")
		}
		f.equal(len(read(f, func(r store.Reader) ([]*iot.PolicyVersion, error) { return r.PolicyVersions(p.ID) })), 0)
	}},
	{"are listed both ways", func(f *fixture) {
		all := insertPolicies(f, "c", "a", "b")
		list := func(ascending bool, after int64, limit int) []*iot.Policy {
			return read(f, func(r store.Reader) ([]*iot.Policy, error) { return r.Policies(ascending, after, limit) })
		}
		f.equal(list(true, 0, 2), all[:2])
		f.equal(list(true, all[1].ID, 2), all[2:])
		f.equal(list(false, 0, 2), []*iot.Policy{all[2], all[1]})
		f.equal(list(false, all[1].ID, 2), all[:1])
	}},
	{"are attached to targets", func(f *fixture) {
		all := insertPolicies(f, "c", "a", "b")
		cert, group := iot.CertificateTarget(certificateID("x")), iot.GroupTarget("g")
		attach := func(p *iot.Policy, t iot.PolicyTarget) (isNew bool) {
			f.update(func(tx store.Tx) (err error) {
				isNew, err = tx.AttachPolicy(p.ID, t)
				return err
			})
			return isNew
		}
		f.equal(attach(all[0], cert), true)
		f.equal(attach(all[0], cert), false)
		f.equal(attach(all[0], group), true)
		f.equal(attach(all[1], cert), true)
		f.equal(attach(all[2], iot.GroupTarget("h")), true)
		attached := func(targets ...iot.PolicyTarget) []*iot.Policy {
			return read(f, func(r store.Reader) ([]*iot.Policy, error) { return r.AttachedPolicies(targets) })
		}
		f.equal(attached(cert), []*iot.Policy{all[1], all[0]})
		f.equal(attached(group, cert), []*iot.Policy{all[1], all[0]})
		f.equal(len(attached()), 0)
		f.equal(len(attached(iot.PolicyTarget{Kind: iot.KindGroup, Name: cert.Name})), 0)
		targets := func(p *iot.Policy, after iot.PolicyTarget, limit int) []iot.PolicyTarget {
			return read(f, func(r store.Reader) ([]iot.PolicyTarget, error) { return r.PolicyTargets(p.ID, after, limit) })
		}
		f.equal(targets(all[0], iot.PolicyTarget{}, 1), []iot.PolicyTarget{cert})
		f.equal(targets(all[0], cert, 5), []iot.PolicyTarget{group})
		for _, want := range []bool{true, false} {
			f.update(func(tx store.Tx) error {
				had, err := tx.DetachPolicy(all[0].ID, cert)
				f.equal(had, want)
				return err
			})
		}
		f.equal(attached(cert), all[1:2])
		f.equal(targets(all[0], iot.PolicyTarget{}, 5), []iot.PolicyTarget{group})
	}},
}

func newPolicy(name iot.PolicyName) (*iot.Policy, *iot.PolicyVersion) {
	return &iot.Policy{Name: name, UUID: "u-" + string(name), Default: 1, Latest: 1, CreatedAt: t0, ModifiedAt: t0 + 1},
		&iot.PolicyVersion{Version: 1, Document: `{"Version": "2012-10-17"}`, CreatedAt: t0}
}

func insertPolicies(f *fixture, names ...iot.PolicyName) (list []*iot.Policy) {
	f.update(func(tx store.Tx) error {
		for _, name := range names {
			p, v := newPolicy(name)
			f.must(tx.InsertPolicy(p, v))
			list = append(list, p)
		}
		return nil
	})
	return list
}
