package sqlstore_test

import (
	"fmt"
	"strconv"
	"testing"

	"drover/internal/iot"
	"drover/internal/query"
	"drover/internal/store"
)

// BenchmarkSearch asks an index of -things things, of ten attributes each. An iteration is a page of 100.
func BenchmarkSearch(b *testing.B) {
	const chunk = 2000
	f := newFleet(b, 0)
	for n := 0; n < *fleetSize; n += chunk {
		things := make([]*iot.Thing, chunk)
		for i := range things {
			things[i] = &iot.Thing{Name: iot.ThingName(fmt.Sprintf("pump-%07d", n+i)), UUID: fmt.Sprintf("uuid-%07d", n+i), Version: 1, CreatedAt: start}
		}
		f.update(func(tx store.Tx) error {
			if err := tx.InsertThings(things); err != nil {
				return err
			}
			documents := make([]store.IndexDocument, chunk)
			for i, t := range things {
				at := n + i
				d := query.Document{query.ThingName: {string(t.Name)}, query.ThingID: {t.UUID}, query.ThingType: {"pump"}, query.ThingVersion: {"1"}}
				for name, value := range map[string]int{"serial": at, "site": at % 1000, "line": at % 50, "wattage": at % 5000, "color": at % 5,
					"model": at % 20, "year": 2000 + at%25, "batch": at / 100, "owner": at % 10_000, "state": at % 3} {
					d.Set(query.Attribute(name), strconv.Itoa(value))
				}
				documents[i] = store.IndexDocument{ID: t.ID, Terms: query.Terms(d)}
			}
			return tx.SaveTerms(iot.ThingsIndex, documents)
		})
	}
	last := strconv.Itoa(*fleetSize - 1)
	for _, c := range []struct{ name, text string }{
		{"one", "attributes.serial:" + last},
		{"hundred", "attributes.owner:77"},
		{"thousand", "attributes.site:7"},
		{"range of few", "attributes.serial>=" + strconv.Itoa(*fleetSize-50)},
		{"two of many", "attributes.site:7 AND attributes.color:2"},
		{"either", "attributes.serial:1 OR attributes.serial:" + last},
		{"but not", "attributes.site:7 NOT attributes.color:2"},
		{"prefix", "thingName:pump-00001*"},
		{"anywhere", "uuid-0000077"},
		{"most", "attributes.year:[2001 TO *]"},
		{"fifth", "attributes.color:2"},
		{"all", "*"},
		{"none have", "NOT attributes.color:*"},
	} {
		q, err := query.Parse(c.text, iot.ThingsIndex, query.Sources{}, query.Limits{})
		f.must(err)
		b.Run(c.name, func(b *testing.B) {
			found := 0
			for b.Loop() {
				f.must(f.db.View(b.Context(), func(r store.Reader) error {
					ids, err := r.Search(iot.ThingsIndex, q.Root, 0, 100)
					found = len(ids)
					return err
				}))
			}
			b.ReportMetric(float64(found), "found")
		})
	}
	all, err := query.Parse("*", iot.ThingsIndex, query.Sources{}, query.Limits{})
	f.must(err)
	b.Run("buckets of all", func(b *testing.B) {
		for b.Loop() {
			f.must(f.db.View(b.Context(), func(r store.Reader) error {
				_, err := r.IndexValues(iot.ThingsIndex, all.Root, "attributes.color", 10)
				return err
			}))
		}
	})
}
