package storetest

import (
	"drover/internal/iot"
	"drover/internal/store"
)

var billing = []testCase{
	{"groups are kept whole and have members", func(f *fixture) {
		all := []*iot.BillingGroup{
			{Name: "a", UUID: "u", Version: 3, Description: "d", CreatedAt: t0}, {Name: "ab", UUID: "v", Version: 1, CreatedAt: t0}, {Name: "b", UUID: "w", Version: 1, CreatedAt: t0},
		}
		things := []*iot.Thing{{Name: "x", UUID: "1", Version: 1}, {Name: "y", UUID: "2", Version: 1}, {Name: "z", UUID: "3", Version: 1}}
		f.update(func(tx store.Tx) error {
			f.must(tx.InsertThings(things))
			for _, g := range all {
				f.must(tx.InsertBillingGroup(g))
			}
			for _, t := range things {
				f.must(tx.SetBillingGroup(t.ID, "a"))
			}
			return tx.SetBillingGroup(things[2].ID, "b")
		})
		f.reopen()
		f.equal(read(f, func(r store.Reader) (*iot.BillingGroup, error) { return r.BillingGroup("a") }), all[0])
		listed := func(prefix, after string, limit int) []string {
			return names(read(f, func(r store.Reader) ([]*iot.BillingGroup, error) { return r.BillingGroups(prefix, after, limit) }), func(g *iot.BillingGroup) string { return g.Name })
		}
		f.equal(listed("", "", 9), []string{"a", "ab", "b"})
		f.equal(listed("a", "", 9), []string{"a", "ab"})
		f.equal(listed("a", "a", 9), []string{"ab"})
		f.equal(listed("", "", 2), []string{"a", "ab"})
		members := func(group string, after iot.ThingName, limit int) []iot.ThingName {
			return read(f, func(r store.Reader) ([]iot.ThingName, error) { return r.BillingMembers(group, after, limit) })
		}
		f.equal(members("a", "", 9), []iot.ThingName{"x", "y"})
		f.equal(members("a", "x", 1), []iot.ThingName{"y"})
		f.equal(members("", "", 9), []iot.ThingName(nil))
		f.equal(read(f, func(r store.Reader) (*iot.Thing, error) { return r.ThingByName("z") }).BillingGroup, "b")
		f.refused(store.ErrExists, func(tx store.Tx) error { return tx.InsertBillingGroup(all[1]) })

		// What a thing was in goes with it.
		f.update(func(tx store.Tx) error { return tx.DeleteThing(things[0]) })
		f.equal(members("a", "", 9), []iot.ThingName{"y"})
		again := &iot.Thing{Name: "x", UUID: "4", Version: 1}
		f.update(func(tx store.Tx) error { return tx.InsertThings([]*iot.Thing{again}) })
		f.equal(read(f, func(r store.Reader) (*iot.Thing, error) { return r.ThingByName("x") }).BillingGroup, "")

		g := all[0]
		g.Version, g.Description = 4, ""
		f.update(func(tx store.Tx) error { return tx.SaveBillingGroup(g) })
		f.equal(read(f, func(r store.Reader) (*iot.BillingGroup, error) { return r.BillingGroup("a") }), g)
		f.update(func(tx store.Tx) error { return tx.DeleteBillingGroup("a") })
		f.view(func(r store.Reader) error {
			_, err := r.BillingGroup("a")
			f.fails(store.ErrNotFound, err)
			return nil
		})
		f.refused(store.ErrNotFound, func(tx store.Tx) error { return tx.SaveBillingGroup(g) })
		f.refused(store.ErrNotFound, func(tx store.Tx) error { return tx.SetBillingGroup(999, "b") })
	}},
}
