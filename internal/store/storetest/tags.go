package storetest

import (
	"drover/internal/iot"
	"drover/internal/store"
)

var tags = []testCase{
	{"are kept by resource, by key", func(f *fixture) {
		get := func(arn string) []iot.Tag {
			return read(f, func(r store.Reader) ([]iot.Tag, error) { return r.Tags(arn) })
		}
		f.update(func(tx store.Tx) error {
			f.must(tx.PutTags("one", []iot.Tag{{Key: "b", Value: "1"}, {Key: "a", Value: "ä"}, {Key: "_"}, {Key: "B", Value: "2"}}))
			return tx.PutTags("two", []iot.Tag{{Key: "a", Value: "other"}})
		})
		f.equal(get("one"), []iot.Tag{{Key: "B", Value: "2"}, {Key: "_"}, {Key: "a", Value: "ä"}, {Key: "b", Value: "1"}})
		f.update(func(tx store.Tx) error { return tx.PutTags("one", []iot.Tag{{Key: "a", Value: "new"}}) })
		f.update(func(tx store.Tx) error { return tx.DeleteTags("one", []string{"b", "B", "absent"}) })
		f.update(func(tx store.Tx) error { return tx.DeleteTags("one", []string{}) })
		f.equal(get("one"), []iot.Tag{{Key: "_"}, {Key: "a", Value: "new"}})
		f.update(func(tx store.Tx) error { return tx.DeleteTags("one", nil) })
		f.equal(len(get("one")), 0)
		f.equal(len(get("two")), 1)
	}},
	{"stand beside the event configuration", func(f *fixture) {
		have := read(f, store.Reader.EventConfigurations)
		f.equal(have, iot.EventConfigurations{})
		for _, want := range []iot.EventConfigurations{
			{Enabled: map[iot.EventType]bool{"JOB": true, "THING": false}, CreatedAt: t0, ModifiedAt: t0},
			{Enabled: map[iot.EventType]bool{"JOB_EXECUTION": true}, CreatedAt: t0, ModifiedAt: t0 + 1},
		} {
			f.update(func(tx store.Tx) error { return tx.SaveEventConfigurations(want) })
			f.reopen()
			f.equal(read(f, store.Reader.EventConfigurations), want)
		}
	}},
}
