package storetest

import (
	"drover/internal/iot"
	"drover/internal/store"
)

var users = []testCase{
	{"of the console are kept, changed, listed and forgotten", func(f *fixture) {
		b := iot.User{Name: "b", Role: "viewer", Password: "$x", CreatedAt: t0}
		a := iot.User{Name: "a", Policy: "{ }", Password: "$y", TOTP: []byte{0, 255, 1}, CodeStep: 7, CreatedAt: t0 + 1}
		f.update(func(tx store.Tx) error {
			f.must(tx.InsertUser(b))
			return tx.InsertUser(a)
		})
		f.reopen()
		list := func() []iot.User { return read(f, store.Reader.Users) }
		f.equal(list(), []iot.User{a, b})
		f.refused(store.ErrExists, func(tx store.Tx) error { return tx.InsertUser(iot.User{Name: "a"}) })
		f.refused(store.ErrNotFound, func(tx store.Tx) error { return tx.SaveUser(iot.User{Name: "c"}) })
		b.Role, b.Policy, b.Password, b.TOTP, b.CodeStep = "", "{}", "$z", []byte("k"), 9
		a.TOTP = nil
		f.update(func(tx store.Tx) error {
			f.must(tx.SaveUser(b))
			return tx.SaveUser(a)
		})
		f.equal(list(), []iot.User{a, b})
		for _, want := range []bool{true, false} {
			f.update(func(tx store.Tx) error {
				had, err := tx.DeleteUser("a")
				f.equal(had, want)
				return err
			})
		}
		f.equal(list(), []iot.User{b})
	}},
}
