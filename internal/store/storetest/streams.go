package storetest

import (
	"drover/internal/iot"
	"drover/internal/store"
)

var streams = []testCase{
	{"are kept whole and listed", func(f *fixture) {
		all := []*iot.Stream{
			{ID: "b", Version: 1, Description: "d", RoleARN: "role", CreatedAt: t0, UpdatedAt: t0,
				Files: []iot.StreamFile{{ID: 0, Bucket: "x", Key: "k", ObjectVersion: "v", Size: 1 << 40, ETag: "e"}, {ID: 255, Bucket: "y", Key: "l"}}},
			{ID: "a", Version: 7, Files: []iot.StreamFile{{ID: 1}}, CreatedAt: t0, UpdatedAt: t0 + 1},
			{ID: "c", Version: 1, Files: []iot.StreamFile{{ID: 1}}, CreatedAt: t0, UpdatedAt: t0},
		}
		f.update(func(tx store.Tx) error {
			for _, s := range all {
				f.must(tx.InsertStream(s))
			}
			return nil
		})
		f.reopen()
		ids := func(ascending bool, after int64, limit int) []string {
			return names(read(f, func(r store.Reader) ([]*iot.Stream, error) { return r.Streams(ascending, after, limit) }), func(s *iot.Stream) string { return s.ID })
		}
		f.equal(read(f, func(r store.Reader) ([]*iot.Stream, error) { return r.Streams(true, 0, 9) }), all)
		f.equal(ids(false, 0, 2), []string{"c", "a"})
		f.equal(ids(false, all[1].Seq, 2), []string{"b"})
		f.equal(ids(true, all[0].Seq, 1), []string{"a"})
		f.refused(store.ErrExists, func(tx store.Tx) error { return tx.InsertStream(&iot.Stream{ID: "a", Version: 1}) })

		s := all[0]
		s.Version, s.Description, s.RoleARN, s.Files, s.UpdatedAt = 2, "", "other", all[1].Files, t0+9
		f.update(func(tx store.Tx) error { return tx.SaveStream(s) })
		f.equal(read(f, func(r store.Reader) (*iot.Stream, error) { return r.StreamByID("b") }), s)
		f.update(func(tx store.Tx) error { return tx.DeleteStream(s) })
		f.equal(ids(true, 0, 9), []string{"a", "c"})
		f.view(func(r store.Reader) error {
			_, err := r.StreamByID("b")
			f.fails(store.ErrNotFound, err)
			return nil
		})
		f.refused(store.ErrNotFound, func(tx store.Tx) error { return tx.SaveStream(s) })
	}},
}
