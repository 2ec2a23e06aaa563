package storetest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"drover/internal/iot"
	"drover/internal/query"
	"drover/internal/store"
)

// sources of the documents of these tests.
var sources = query.Sources{Connectivity: true, Packages: true}

// fleet makes things, and documents for them.
func fleet(f *fixture, documents ...query.Document) map[int64]query.Document {
	f.Helper()
	list := make([]*iot.Thing, len(documents))
	for i := range list {
		list[i] = &iot.Thing{Name: iot.ThingName(fmt.Sprint("t", i)), UUID: fmt.Sprint("u", i), Version: 1, CreatedAt: t0}
	}
	f.update(func(tx store.Tx) error { return tx.InsertThings(list) })
	byID := make(map[int64]query.Document, len(documents))
	for i, d := range documents {
		byID[list[i].ID] = d
	}
	saveDocuments(f, byID)
	return byID
}

func saveDocuments(f *fixture, documents map[int64]query.Document) {
	f.Helper()
	var list []store.IndexDocument
	for _, id := range slices.Sorted(maps.Keys(documents)) {
		list = append(list, store.IndexDocument{ID: id, Terms: query.Terms(documents[id])})
	}
	f.update(func(tx store.Tx) error { return tx.SaveTerms(iot.ThingsIndex, list) })
}

func parsed(f *fixture, text string) query.Node {
	f.Helper()
	q, err := query.Parse(text, iot.ThingsIndex, sources, query.Limits{Terms: 100})
	if err != nil {
		f.Fatalf("%s: %v", text, err)
	}
	return q.Root
}

// found reads all pages.
func found(f *fixture, text string, limit int) (ids []int64) {
	f.Helper()
	ids = []int64{}
	node := parsed(f, text)
	for after := int64(0); ; {
		page := read(f, func(r store.Reader) ([]int64, error) { return r.Search(iot.ThingsIndex, node, after, limit) })
		ids = append(ids, page...)
		if len(page) < limit {
			return ids
		}
		after = page[len(page)-1]
	}
}

// matching is what found has to find.
func matching(f *fixture, documents map[int64]query.Document, text string) []int64 {
	f.Helper()
	node, ids := &query.Query{Root: parsed(f, text)}, []int64{}
	for _, id := range slices.Sorted(maps.Keys(documents)) {
		if node.Matches(documents[id]) {
			ids = append(ids, id)
		}
	}
	return ids
}

// generator makes documents and queries of few words, so that they meet.
type generator struct{ *rand.Rand }

func pick[T any](g generator, list ...T) T { return list[g.IntN(len(list))] }

func (g generator) field() string {
	return pick(g, "thingName", "thingTypeName", "attributes.a", "attributes.b", "attributes.c", "connectivity.connected", "connectivity.timestamp",
		"shadow.name.$package.reported.p.version", "shadow.name.$package.reported.p.attributes.x", "shadow.name.$package.reported.q.attributes.x")
}

func (g generator) word() string {
	return pick(g, "a", "ab", "abc", "Ab_c", "b%c", "ä", "1", "1.0", "-2", "2e1", "20", "true", "zz", "x-1", "a*b", "0", "-0", "1e300", `b\c`)
}

func (g generator) document() query.Document {
	d := query.Document{}
	for range g.IntN(8) {
		values := make([]string, 1+g.IntN(2))
		for i := range values {
			words := make([]string, 1+g.IntN(3)*g.IntN(2))
			for j := range words {
				words[j] = g.word()
			}
			values[i] = strings.Join(words, pick(g, " ", "  ", "\t"))
		}
		d.Set(g.field(), values...)
	}
	return d
}

var escape = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `%`, `\%`, `-`, `\-`)

func (g generator) value(comparable bool) string {
	w := g.word()
	switch g.IntN(7) {
	case 0:
		return "*"
	case 1:
		return escape.Replace(string([]rune(w)[:1])) + "*"
	case 2:
		return escape.Replace(string([]rune(w)[:1])) + pick(g, "?", "*", "?*") + pick(g, "", "b", "c")
	case 3:
		return strconv.Quote(w + " " + g.word())
	case 4:
		if comparable {
			return pick(g, "[", "{") + g.bound() + " TO " + g.bound() + pick(g, "]", "}")
		}
	}
	return escape.Replace(w)
}

func (g generator) bound() string {
	return pick(g, "*", "-2", "0", "1", "20", `"a"`, "ab", `"1"`, "zz")
}

func (g generator) query(depth int) string {
	switch n := g.IntN(8); {
	case depth > 0 && n < 2:
		return "(" + g.query(depth-1) + pick(g, " AND ", " OR ", " ") + g.query(depth-1) + ")"
	case depth > 0 && n == 2:
		return "NOT (" + g.query(depth-1) + ")"
	case depth > 0 && n == 3:
		field := g.field()
		c := !strings.HasSuffix(field, ".version")
		return field + ":(" + g.value(c) + pick(g, " AND ", " OR ", " ") + pick(g, "", "-", "NOT ") + g.value(c) + ")"
	case n == 4:
		return g.value(false)
	case n == 5:
		return "shadow.name.$package.reported.*.attributes.x:" + g.value(true)
	case n == 6:
		field := pick(g, "attributes.a", "attributes.b", "connectivity.timestamp")
		return field + pick(g, "<", "<=", ">", ">=", "=") + pick(g, "-2", "0", "1", "20", "1e300")
	}
	field := g.field()
	return field + ":" + g.value(!strings.HasSuffix(field, ".version"))
}

var index = []testCase{
	{"finds what an obvious evaluation finds", func(f *fixture) {
		g := generator{rand.New(rand.NewPCG(1, 2))}
		documents := make([]query.Document, 150)
		for i := range documents {
			documents[i] = g.document()
		}
		byID := fleet(f, documents...)
		check := func(n int) {
			f.Helper()
			for range n {
				text := g.query(3)
				want := matching(f, byID, text)
				if got := found(f, text, pick(g, 7, 1000)); !slices.Equal(got, want) {
					f.Errorf("%s\nfound %v\nwant  %v", text, got, want)
				}
				node := parsed(f, text)
				if n := read(f, func(r store.Reader) (int64, error) { return r.CountMatches(iot.ThingsIndex, node) }); n != int64(len(want)) {
					f.Errorf("%s: %d counted, want %d", text, n, len(want))
				}
			}
		}
		check(300)
		for _, id := range slices.Sorted(maps.Keys(byID)) { // everybody changes
			byID[id] = g.document()
		}
		saveDocuments(f, byID)
		check(100)
	}},
	{"counts what fields have", func(f *fixture) {
		fleet(f,
			query.Document{"attributes.n": {"-125"}, "attributes.color": {"Red"}},
			query.Document{"attributes.n": {"75"}, "attributes.color": {"Red"}, "attributes.text": {"Two Words"}},
			query.Document{"attributes.n": {"150"}, "attributes.color": {"blue"}},
			query.Document{"attributes.n": {"none", "75.0"}, "attributes.text": {"two words", "Two"}},
			query.Document{})
		values := func(text, field string, limit int) []iot.IndexValue {
			node := parsed(f, text)
			return read(f, func(r store.Reader) ([]iot.IndexValue, error) {
				return r.IndexValues(iot.ThingsIndex, node, field, limit)
			})
		}
		f.equal(values("*", "attributes.color", 10), []iot.IndexValue{{Value: "Red", Count: 2}, {Value: "blue", Count: 1}})
		f.equal(values("*", "attributes.color", 1), []iot.IndexValue{{Value: "Red", Count: 2}})
		f.equal(values("attributes.n>100", "attributes.color", 10), []iot.IndexValue{{Value: "blue", Count: 1}})
		f.equal(values("*", "attributes.text", 10), []iot.IndexValue{{Value: "Two", Count: 1}, {Value: "Two Words", Count: 1}, {Value: "two words", Count: 1}})
		if none := values("*", "attributes.never", 10); len(none) > 0 {
			f.Errorf("%v", none)
		}
		numbers := func(text string) (list []float64) {
			node := parsed(f, text)
			f.view(func(r store.Reader) error {
				return r.IndexNumbers(iot.ThingsIndex, node, "attributes.n", func(n float64, count int64) error {
					list = append(list, n, float64(count))
					return nil
				})
			})
			return list
		}
		f.equal(numbers("*"), []float64{-125, 1, 75, 2, 150, 1})
		f.equal(numbers("attributes.color:red"), []float64{-125, 1, 75, 1})
		count := func(text, field string) (counts [2]int64) {
			node := parsed(f, text)
			f.view(func(r store.Reader) (err error) {
				counts[0], counts[1], err = r.CountValues(iot.ThingsIndex, node, field)
				return err
			})
			return counts
		}
		f.equal(count("*", "attributes.color"), [2]int64{3, 2})
		f.equal(count("attributes.color:red", "attributes.color"), [2]int64{2, 1})
		f.equal(count("*", "attributes.text"), [2]int64{2, 3})
	}},
	{"forgets, and knows its state", func(f *fixture) {
		byID := fleet(f, query.Document{"attributes.a": {"x"}}, query.Document{"attributes.a": {"x"}})
		ids := slices.Sorted(maps.Keys(byID))
		f.equal(found(f, "x", 10), ids)
		f.equal(found(f, "*", 10), ids)
		f.update(func(tx store.Tx) error { return tx.SaveTerms(iot.ThingsIndex, []store.IndexDocument{{ID: ids[0]}}) })
		f.equal(found(f, "x", 10), ids[1:])
		f.equal(found(f, "NOT x", 10), ids[:1])
		things := read(f, func(r store.Reader) (map[int64]*iot.Thing, error) { return r.ThingsByID(append(ids, 1e9)) })
		if len(things) != 2 || things[ids[1]].Name != "t1" {
			f.Errorf("%v", things)
		}
		f.equal(read(f, store.Reader.IndexState), iot.IndexState{})
		state := iot.IndexState{Things: iot.Index{On: true, CustomFields: []iot.IndexField{{Name: "attributes.a", Type: iot.IndexNumber}}, Status: iot.IndexBuilding, Cursor: 7}}
		f.update(func(tx store.Tx) error { return tx.SaveIndexState(state) })
		f.update(func(tx store.Tx) error { return tx.SaveIndexState(state) })
		f.reopen()
		f.equal(read(f, store.Reader.IndexState), state)
	}},
	{"knows who is connected", func(f *fixture) {
		a := iot.Connection{ThingID: 1, Node: 3, Session: "s1", Connected: true, At: t0}
		b := iot.Connection{ThingID: 2, Node: 3, Session: "s2", Connected: true, At: t0 + 1}
		c := iot.Connection{ThingID: 3, Node: 7, Session: "s3", At: t0 + 2, Reason: "CONNECTION_LOST"}
		f.update(func(tx store.Tx) error { return tx.SaveConnections([]iot.Connection{a, b, c}) })
		of := func(things ...int64) map[int64]iot.Connection {
			return read(f, func(r store.Reader) (map[int64]iot.Connection, error) { return r.Connections(things) })
		}
		to := func(node int64, limit int) []iot.Connection {
			return read(f, func(r store.Reader) ([]iot.Connection, error) { return r.ConnectedTo(node, limit) })
		}
		f.equal(of(1, 3, 9), map[int64]iot.Connection{1: a, 3: c})
		f.equal(read(f, store.Reader.ConnectedNodes), []int64{3})
		f.equal(to(3, 10), []iot.Connection{a, b})
		f.equal(to(3, 1), []iot.Connection{a})
		c.Connected, c.Reason, b.Connected = true, "", false
		f.update(func(tx store.Tx) error { return tx.SaveConnections([]iot.Connection{b, c}) })
		f.equal(read(f, store.Reader.ConnectedNodes), []int64{3, 7})
		f.equal(to(3, 10), []iot.Connection{a})
		f.update(func(tx store.Tx) error { return tx.DeleteConnections([]int64{1, 2}) })
		f.equal(of(1, 2, 3), map[int64]iot.Connection{3: c})
	}},
}
