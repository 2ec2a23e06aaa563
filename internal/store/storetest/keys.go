package storetest

import (
	"drover/internal/iot"
	"drover/internal/store"
)

var keys = []testCase{
	{"of the API are kept, listed and forgotten", func(f *fixture) {
		b := iot.APIKey{ID: "AKIAB", Name: "b", Policy: "{}", Sealed: []byte{0, 255, 1}, CreatedAt: t0}
		a := iot.APIKey{ID: "AKIAC", Name: "a", Policy: "{ }", Sealed: []byte("x"), CreatedAt: t0 + 1}
		f.update(func(tx store.Tx) error {
			f.must(tx.InsertAPIKey(b))
			return tx.InsertAPIKey(a)
		})
		f.reopen()
		list := func() []iot.APIKey { return read(f, store.Reader.APIKeys) }
		f.equal(list(), []iot.APIKey{a, b})
		f.refused(store.ErrExists, func(tx store.Tx) error { return tx.InsertAPIKey(iot.APIKey{ID: "AKIAD", Name: "a"}) })
		f.refused(store.ErrExists, func(tx store.Tx) error { return tx.InsertAPIKey(iot.APIKey{ID: "AKIAB", Name: "c"}) })
		for _, want := range []bool{true, false} {
			f.update(func(tx store.Tx) error {
				had, err := tx.DeleteAPIKey(a.ID)
				f.equal(had, want)
				return err
			})
		}
		f.equal(list(), []iot.APIKey{b})
	}},
}
