package storetest

import (
	"drover/internal/iot"
	"drover/internal/store"
)

var otaUpdates = []testCase{
	{"are kept whole and listed", func(f *fixture) {
		all := []*iot.OTAUpdate{
			{ID: "b", Status: iot.OTACreatePending, Stream: "s", CreatedAt: t0, ModifiedAt: t0, OTADefinition: iot.OTADefinition{
				Description: "d", Targets: []string{"t"}, Protocols: []string{"MQTT"}, Selection: iot.Snapshot, RoleARN: "role", Actor: "a",
				Files:      []iot.OTAFile{{Name: "n", StreamFile: 3, Object: &iot.StreamFile{ID: 3, Bucket: "x"}, Signature: &iot.OTASignature{Value: []byte{0, 255}, Hash: "h", Algorithm: "a"}}},
				Parameters: map[string]string{"k": "v"}, Error: &iot.OTAError{Code: "c", Message: "m"},
			}},
			{ID: "a", Status: iot.OTACreateComplete, CreatedAt: t0, ModifiedAt: t0 + 1},
			{ID: "c", Status: iot.OTACreateComplete, CreatedAt: t0, ModifiedAt: t0},
		}
		f.update(func(tx store.Tx) error {
			for _, u := range all {
				f.must(tx.InsertOTAUpdate(u))
			}
			return nil
		})
		f.reopen()
		ids := func(status iot.OTAStatus, before int64, limit int) []string {
			return names(read(f, func(r store.Reader) ([]*iot.OTAUpdate, error) { return r.OTAUpdates(status, before, limit) }), func(u *iot.OTAUpdate) string { return u.ID })
		}
		f.equal(read(f, func(r store.Reader) (*iot.OTAUpdate, error) { return r.OTAUpdateByID("b") }), all[0])
		f.equal(ids("", 0, 2), []string{"c", "a"})
		f.equal(ids("", all[1].Seq, 2), []string{"b"})
		f.equal(ids(iot.OTACreateComplete, 0, 9), []string{"c", "a"})
		f.equal(ids(iot.OTACreateComplete, all[2].Seq, 9), []string{"a"})
		f.refused(store.ErrExists, func(tx store.Tx) error {
			return tx.InsertOTAUpdate(&iot.OTAUpdate{ID: "a", Status: iot.OTACreatePending})
		})
		inUse := func(stream string) bool {
			return read(f, func(r store.Reader) (bool, error) { return r.StreamInUse(stream) })
		}
		if !inUse("s") || inUse("") || inUse("t") {
			f.Error("wrong streams are in use")
		}

		u := all[0]
		u.Status, u.JobMade, u.Error, u.ModifiedAt = iot.OTADeleteFailed, true, nil, t0+9
		f.update(func(tx store.Tx) error { return tx.SaveOTAUpdate(u) })
		f.equal(read(f, func(r store.Reader) (*iot.OTAUpdate, error) { return r.OTAUpdateByID("b") }), u)
		f.update(func(tx store.Tx) error { return tx.DeleteOTAUpdate(u) })
		f.equal(ids("", 0, 9), []string{"c", "a"})
		f.view(func(r store.Reader) error {
			_, err := r.OTAUpdateByID("b")
			f.fails(store.ErrNotFound, err)
			return nil
		})
		f.refused(store.ErrNotFound, func(tx store.Tx) error { return tx.SaveOTAUpdate(u) })
	}},
}
