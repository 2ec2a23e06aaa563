package storetest

import (
	"strings"

	"drover/internal/iot"
	"drover/internal/store"
)

var authorizers = []testCase{
	{"are kept whole and listed", func(f *fixture) {
		all := []*iot.Authorizer{
			{Name: "b", Function: "arn:f", TokenKey: "k", Keys: map[string]string{"one": "pem"}, Active: true, CacheHTTP: true, CreatedAt: t0, ModifiedAt: t0},
			{Name: "a", Function: "https://f", SigningDisabled: true, CreatedAt: t0, ModifiedAt: t0 + 1},
		}
		f.update(func(tx store.Tx) error {
			for _, a := range all {
				f.must(tx.InsertAuthorizer(a))
			}
			return nil
		})
		f.reopen()
		f.equal(read(f, store.Reader.Authorizers), all)
		f.refused(store.ErrExists, func(tx store.Tx) error { return tx.InsertAuthorizer(&iot.Authorizer{Name: "a"}) })

		a := all[1]
		a.Function, a.TokenKey, a.Keys, a.Active, a.CacheHTTP, a.ModifiedAt = "arn:g", "t", map[string]string{"x": "y"}, true, true, t0+2
		f.update(func(tx store.Tx) error { return tx.SaveAuthorizer(a) })
		f.equal(read(f, func(r store.Reader) (*iot.Authorizer, error) { return r.AuthorizerByName("a") }), a)
		f.update(func(tx store.Tx) error { return tx.DeleteAuthorizer(a) })
		f.equal(read(f, store.Reader.Authorizers), all[:1])
		f.view(func(r store.Reader) error {
			_, err := r.AuthorizerByName("a")
			f.fails(store.ErrNotFound, err)
			return nil
		})
		f.refused(store.ErrNotFound, func(tx store.Tx) error { return tx.SaveAuthorizer(a) })
	}},
	{"have a default beside them", func(f *fixture) {
		absent := func() {
			f.view(func(r store.Reader) error {
				_, err := r.DefaultAuthorizer()
				f.fails(store.ErrNotFound, err)
				return nil
			})
		}
		absent()
		for _, name := range []string{"one", "two"} {
			f.update(func(tx store.Tx) error { return tx.SaveDefaultAuthorizer(name) })
			f.equal(read(f, store.Reader.DefaultAuthorizer), name)
		}
		f.update(func(tx store.Tx) error { return tx.SaveDefaultAuthorizer("") })
		absent()
	}},
}

var provisioning = []testCase{
	{"templates are kept whole, with versions", func(f *fixture) {
		t := &iot.ProvisioningTemplate{
			Name: "b", Description: "d", Type: iot.FleetProvisioning, Enabled: true, RoleARN: "role",
			Hook: &iot.ProvisioningHook{PayloadVersion: "2020-04-01", Target: "arn:f"}, DefaultVersion: 1, LastVersion: 1, CreatedAt: t0, ModifiedAt: t0,
		}
		first := iot.ProvisioningVersion{Template: "b", ID: 1, Body: "{}", CreatedAt: t0}
		f.update(func(tx store.Tx) error {
			f.must(tx.InsertProvisioningTemplate(t))
			return tx.InsertProvisioningVersion(first)
		})
		get := func() *iot.ProvisioningTemplate {
			return read(f, func(r store.Reader) (*iot.ProvisioningTemplate, error) { return r.ProvisioningTemplate("b") })
		}
		f.reopen()
		f.equal(get(), t)
		f.refused(store.ErrExists, func(tx store.Tx) error { return tx.InsertProvisioningTemplate(t) })
		f.refused(store.ErrExists, func(tx store.Tx) error { return tx.InsertProvisioningVersion(first) })

		second := iot.ProvisioningVersion{Template: "b", ID: 2, Body: `{"a":1}`, CreatedAt: t0 + 1}
		t.Description, t.Enabled, t.RoleARN, t.Hook, t.DefaultVersion, t.LastVersion, t.ModifiedAt = "e", false, "other", nil, 2, 2, t0+1
		f.update(func(tx store.Tx) error {
			f.must(tx.SaveProvisioningTemplate(t))
			return tx.InsertProvisioningVersion(second)
		})
		f.equal(get(), t)
		versions := func() []int64 {
			list := read(f, func(r store.Reader) ([]iot.ProvisioningVersion, error) { return r.ProvisioningVersions("b") })
			return names(list, func(v iot.ProvisioningVersion) int64 { return v.ID })
		}
		f.equal(versions(), []int64{1, 2})
		f.equal(read(f, func(r store.Reader) (iot.ProvisioningVersion, error) { return r.ProvisioningVersion("b", 2) }), second)
		f.update(func(tx store.Tx) error { return tx.DeleteProvisioningVersion("b", 1) })
		f.equal(versions(), []int64{2})

		f.update(func(tx store.Tx) error { return tx.DeleteProvisioningTemplate("b") })
		f.equal(versions(), []int64{})
		f.view(func(r store.Reader) error {
			_, err := r.ProvisioningTemplate("b")
			f.fails(store.ErrNotFound, err)
			_, err = r.ProvisioningVersion("b", 2)
			f.fails(store.ErrNotFound, err)
			return nil
		})
		f.refused(store.ErrNotFound, func(tx store.Tx) error { return tx.SaveProvisioningTemplate(t) })
	}},
	{"templates are listed by name", func(f *fixture) {
		f.update(func(tx store.Tx) error {
			for _, name := range scattered(awkward) {
				f.must(tx.InsertProvisioningTemplate(&iot.ProvisioningTemplate{Name: name, Type: iot.JustInTime, DefaultVersion: 1, LastVersion: 1}))
			}
			return nil
		})
		page := func(after string, limit int) []string {
			list := read(f, func(r store.Reader) ([]*iot.ProvisioningTemplate, error) {
				return r.ProvisioningTemplates(after, limit)
			})
			return names(list, func(t *iot.ProvisioningTemplate) string { return t.Name })
		}
		f.equal(page("", 100), awkward)
		f.equal(page(awkward[2], 3), awkward[3:6])
	}},
	{"tokens and claims come and go", func(f *fixture) {
		hash := func(c string) string { return strings.Repeat(c, 64) }
		a := iot.Ownership{Hash: hash("a"), Certificate: certificateID("1"), Expires: t0 + 2}
		b := iot.Ownership{Hash: hash("b"), Certificate: certificateID("2"), Expires: t0 + 1}
		f.update(func(tx store.Tx) error {
			f.must(tx.InsertOwnership(a))
			return tx.InsertOwnership(b)
		})
		expired := func(now iot.Time, limit int) []iot.Ownership {
			return read(f, func(r store.Reader) ([]iot.Ownership, error) { return r.ExpiredOwnerships(now, limit) })
		}
		f.equal(len(expired(t0, 5)), 0)
		f.equal(expired(t0+1, 5), []iot.Ownership{b})
		f.equal(expired(t0+2, 5), []iot.Ownership{b, a})
		f.equal(expired(t0+2, 1), []iot.Ownership{b})
		f.equal(read(f, func(r store.Reader) (iot.Ownership, error) { return r.Ownership(a.Hash) }), a)
		for _, known := range []bool{true, false} {
			f.update(func(tx store.Tx) error {
				got, err := tx.DeleteOwnership(a.Hash)
				f.equal(got, known)
				return err
			})
		}
		f.view(func(r store.Reader) error {
			_, err := r.Ownership(a.Hash)
			f.fails(store.ErrNotFound, err)
			return nil
		})

		first := iot.Claim{Certificate: certificateID("1"), PEM: "pem", Template: "t", Expires: t0 + 10}
		f.update(func(tx store.Tx) error { return tx.InsertClaim(first, t0) })
		f.equal(read(f, func(r store.Reader) (iot.Claim, error) { return r.Claim(first.Certificate) }), first)
		f.update(func(tx store.Tx) error {
			return tx.InsertClaim(iot.Claim{Certificate: certificateID("2"), Template: "t", Expires: t0 + 20}, t0+10)
		})
		f.view(func(r store.Reader) error {
			_, err := r.Claim(first.Certificate)
			f.fails(store.ErrNotFound, err)
			return nil
		})
	}},
}
