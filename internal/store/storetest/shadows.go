package storetest

import (
	"encoding/json"

	"drover/internal/iot"
	"drover/internal/store"
)

var shadows = []testCase{
	{"shadows are kept whole, and go with their things", func(f *fixture) {
		things := f.things("a", "b", "c")
		at := map[string]any{"timestamp": json.Number("7")}
		all := []*iot.Shadow{
			{
				ThingID: things[0].ID, Version: 3, Exists: true, Desired: map[string]any{"x": json.Number("1.50")}, Reported: map[string]any{"p": map[string]any{"version": "1", "l": []any{true, "ä"}}},
				DesiredAt: map[string]any{"x": at}, ReportedAt: map[string]any{"p": map[string]any{"version": at, "l": []any{at, at}}},
			},
			{ThingID: things[1].ID, Version: 1},
		}
		f.update(func(tx store.Tx) error { return tx.SaveShadows(all) })
		f.reopen()
		ids := []int64{things[2].ID, things[1].ID, things[0].ID, 999}
		f.equal(read(f, func(r store.Reader) (map[int64]*iot.Shadow, error) { return r.Shadows(ids) }), map[int64]*iot.Shadow{things[0].ID: all[0], things[1].ID: all[1]})
		all[1].Version, all[1].Exists, all[1].Reported = 2, true, map[string]any{"y": false}
		f.update(func(tx store.Tx) error { return tx.SaveShadows(all[1:]) })
		f.equal(read(f, func(r store.Reader) (map[int64]*iot.Shadow, error) { return r.Shadows(ids[1:2]) }), map[int64]*iot.Shadow{things[1].ID: all[1]})
		f.update(func(tx store.Tx) error { return tx.DeleteThing(things[1]) })
		f.equal(read(f, func(r store.Reader) (map[int64]*iot.Shadow, error) { return r.Shadows(ids) }), map[int64]*iot.Shadow{things[0].ID: all[0]})
	}},
	{"what jobs have installed waits in order", func(f *fixture) {
		add := func(list ...store.Install) {
			f.update(func(tx store.Tx) error { return tx.AddInstalls(list) })
		}
		installs := func(limit int) []store.Install {
			return read(f, func(r store.Reader) ([]store.Install, error) { return r.Installs(limit) })
		}
		add(store.Install{Thing: 5, Job: 1}, store.Install{Thing: 4, Job: 1})
		add(store.Install{Thing: 5, Job: 2})
		f.reopen()
		list := installs(9)
		f.equal(names(list, func(i store.Install) [2]int64 { return [2]int64{i.Thing, i.Job} }), [][2]int64{{5, 1}, {4, 1}, {5, 2}})
		f.equal(installs(2), list[:2])
		f.update(func(tx store.Tx) error { return tx.DeleteInstalls(list[:2]) })
		f.equal(installs(9), list[2:])
	}},
}
