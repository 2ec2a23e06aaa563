package registry

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"drover/internal/iot"
	"drover/internal/store"
)

// imports runs an import of lines that are numbered from 1.
func (f *fixture) imports(create bool, lines ...iot.ImportLine) iot.ImportResult {
	f.t.Helper()
	for i := range lines {
		lines[i].Number = i + 1
	}
	result, err := f.Import(f.t.Context(), iot.Import{Lines: lines, CreateMissing: create, Actor: "test"})
	f.must(err)
	if n := result.Created + result.Updated + result.Unchanged + len(result.Errors); n != len(lines) {
		f.t.Errorf("%d lines are counted as %d: %+v", len(lines), n, result)
	}
	return result
}

func counts(r iot.ImportResult) string {
	s := fmt.Sprintf("%d created %d updated %d unchanged", r.Created, r.Updated, r.Unchanged)
	for _, e := range r.Errors {
		s += fmt.Sprintf(" !%d", e.Line)
	}
	return s
}

// listen switches on all events, so that an import records everything.
func (f *fixture) listen() {
	f.t.Helper()
	all := make(map[iot.EventType]bool)
	for _, t := range iot.EventTypes() {
		all[t] = true
	}
	f.must(f.UpdateEventConfigurations(f.t.Context(), iot.EventsUpdate{Enabled: all, Actor: "test"}))
	f.records()
}

func TestImport(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{})
	f.listen()
	lines := []iot.ImportLine{
		{Thing: "lamp", Type: "light", Attributes: map[string]string{"color": "red"}, Groups: []iot.GroupName{"hall", "all"}},
		{Thing: "bell", Groups: []iot.GroupName{"hall"}},
	}
	if got := counts(f.imports(false, lines...)); got != "0 created 0 updated 0 unchanged !1 !2" {
		t.Fatal(got)
	}
	f.wantNews()
	if got := counts(f.imports(true, lines...)); got != "2 created 0 updated 0 unchanged" {
		t.Fatal(got)
	}
	f.wantNews("type.created light", "group.created hall v1", "group.created all v1",
		"thing.created lamp v1", "type.associated lamp is light", "thing.created bell v1",
		"member.added lamp in hall", "member.added lamp in all", "member.added bell in hall", "things.imported ")
	if calls := f.jobs.take(); !slices.Equal(calls, []string{"joined lamp true", "joined lamp true", "joined bell true"}) {
		t.Fatal(calls)
	}

	// Again: nothing changes.
	if got := counts(f.imports(true, lines...)); got != "0 created 0 updated 2 unchanged" {
		t.Fatal(got)
	}
	f.wantNews()
	if calls := f.jobs.take(); calls != nil {
		t.Fatal(calls)
	}

	// What a line does not name is left alone; what it names is so afterwards.
	f.group("roof", "")
	f.news()
	got := f.imports(false,
		iot.ImportLine{Thing: "lamp", Attributes: map[string]string{"size": "3"}},
		iot.ImportLine{Thing: "bell", Type: "light", Groups: []iot.GroupName{"roof"}})
	if counts(got) != "0 created 2 updated 0 unchanged" {
		t.Fatal(counts(got))
	}
	f.wantNews("thing.updated lamp v2", "thing.updated bell v2", "type.associated bell is light", "member.added bell in roof", "things.imported ")
	lamp, err := f.Thing(t.Context(), "lamp")
	f.must(err)
	if lamp.Type != "light" || len(lamp.Attributes) != 1 || lamp.Attributes["size"] != "3" {
		t.Errorf("lamp is %+v", lamp)
	}
	if groups := f.groupsOf("lamp"); !slices.Equal(groups, []iot.GroupName{"all", "hall"}) {
		t.Errorf("lamp is in %v", groups)
	}
	if groups := f.groupsOf("bell"); !slices.Equal(groups, []iot.GroupName{"hall", "roof"}) {
		t.Errorf("bell is in %v", groups)
	}
}

func TestImportMembershipAloneLeavesTheVersion(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{})
	f.thing("lamp")
	f.group("hall", "")
	if got := counts(f.imports(false, iot.ImportLine{Thing: "lamp", Groups: []iot.GroupName{"hall"}})); got != "0 created 1 updated 0 unchanged" {
		t.Fatal(got)
	}
	if lamp, err := f.Thing(t.Context(), "lamp"); err != nil || lamp.Version != 1 {
		t.Fatal(lamp, err)
	}
}

func TestImportBadLinesSpoilNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{})
	f.group("root", "")
	f.group("child", "root")
	f.group("other", "root")
	f.thingType("old")
	f.thing("in-root")
	f.must(f.join("in-root", "root"))
	f.deprecate("old")
	f.jobs.take()
	f.listen()
	groups := func(names ...iot.GroupName) []iot.GroupName { return names }
	many := make([]iot.GroupName, 11)
	for i := range many {
		many[i] = iot.GroupName(fmt.Sprintf("g%d", i))
	}
	bad := map[string]iot.ImportLine{
		"no name":                   {},
		"bad name":                  {Thing: "a.b"},
		"bad attribute name":        {Thing: "a", Attributes: map[string]string{"a b": "v"}},
		"bad attribute value":       {Thing: "a", Attributes: map[string]string{"a": "v v"}},
		"empty attribute value":     {Thing: "a", Attributes: map[string]string{"a": ""}},
		"4 attributes without type": {Thing: "a", Attributes: attributes(4), Groups: groups("never")},
		"51 attributes":             {Thing: "a", Type: "never", Attributes: attributes(51)},
		"deprecated type":           {Thing: "a", Type: "old"},
		"deprecated, existing":      {Thing: "in-root", Type: "old"},
		"bad type name":             {Thing: "a", Type: "a.b"},
		"bad group name":            {Thing: "a", Groups: groups("never", "a.b")},
		"two of a hierarchy":        {Thing: "a", Groups: groups("never", "child", "root")},
		"second of a hierarchy":     {Thing: "in-root", Groups: groups("never", "child")},
		"11 groups":                 {Thing: "a", Groups: many},
	}
	var lines []iot.ImportLine
	for _, l := range bad {
		lines = append(lines, l, iot.ImportLine{Thing: iot.ThingName(fmt.Sprintf("good-%d", len(lines)))})
	}
	got := f.imports(true, lines...)
	if got.Created != len(bad) || len(got.Errors) != len(bad) {
		t.Fatalf("got %+v", got)
	}
	for i, e := range got.Errors {
		if e.Line != 2*i+1 || e.Message == "" {
			t.Errorf("error %d is %+v", i, e)
		}
	}
	if n := len(f.records()); n != len(bad)+1 {
		t.Errorf("%d records, want the sum and one for each of the %d good lines: a bad line has left something", n, len(bad))
	}
}

func TestImportLinesCountOneAfterTheOther(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{})
	f.group("hall", "")
	f.group("sub", "hall")
	f.listen()
	got := f.imports(true,
		iot.ImportLine{Thing: "lamp", Type: "light"},
		iot.ImportLine{Thing: "lamp", Type: "light"},
		iot.ImportLine{Thing: "lamp", Type: "bulb", Attributes: map[string]string{"a": "1"}},
		iot.ImportLine{Thing: "lamp", Groups: []iot.GroupName{"sub", "sub"}},
		iot.ImportLine{Thing: "lamp", Groups: []iot.GroupName{"hall"}},
		iot.ImportLine{Thing: "lamp", Groups: []iot.GroupName{"sub"}},
	)
	if counts(got) != "1 created 2 updated 2 unchanged !5" {
		t.Fatal(counts(got))
	}
	f.wantNews("type.created light", "type.created bulb", "thing.created lamp v1", "type.associated lamp is light",
		"thing.updated lamp v2", "type.dissociated lamp is light", "type.associated lamp is bulb", "member.added lamp in sub", "things.imported ")
	lamp, err := f.Thing(t.Context(), "lamp")
	f.must(err)
	if lamp.Version != 2 || lamp.Type != "bulb" || lamp.Attributes["a"] != "1" {
		t.Errorf("lamp is %+v", lamp)
	}
	used, err := f.ThingType(t.Context(), "light")
	f.must(err)
	if used.Name != "light" {
		t.Errorf("got %+v", used)
	}
}

func TestImportRecordsWhatIsListenedTo(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		on   []iot.EventType
		want []string
	}{
		"nothing":     {nil, nil},
		"things":      {[]iot.EventType{"THING"}, []string{"thing.created lamp v1", "thing.updated bell v2"}},
		"types":       {[]iot.EventType{"THING_TYPE_ASSOCIATION"}, []string{"type.associated lamp is light", "type.dissociated bell is light", "type.associated bell is chime"}},
		"memberships": {[]iot.EventType{"THING_GROUP_MEMBERSHIP"}, []string{"member.added lamp in hall"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, Limits{})
			f.group("hall", "")
			f.thingType("light")
			f.thingType("chime")
			f.imports(false, iot.ImportLine{Thing: "bell", Type: "light"})
			on := make(map[iot.EventType]bool)
			for _, e := range c.on {
				on[e] = true
			}
			f.must(f.UpdateEventConfigurations(t.Context(), iot.EventsUpdate{Enabled: on, Actor: "test"}))
			f.seen = lastRecord(f)
			f.imports(false, iot.ImportLine{Thing: "lamp", Type: "light", Groups: []iot.GroupName{"hall"}}, iot.ImportLine{Thing: "bell", Type: "chime"})
			seen := f.seen
			f.wantNews(append(c.want, "things.imported ")...)
			f.seen = seen
			records := f.records()
			if data := string(records[len(records)-1].Data); data != `{"created":1,"updated":1,"joined":1}` {
				t.Errorf("the sum is %s", data)
			}
		})
	}
}

func TestImportTooManyLines(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{})
	_, err := f.Import(t.Context(), iot.Import{Lines: make([]iot.ImportLine, iot.MaxImportLines+1)})
	f.refused(err, iot.InvalidRequest, "5000")
}

// BenchmarkImport reports things per second, each with an attribute and a group.
func BenchmarkImport(b *testing.B) {
	b.ReportAllocs()
	f := newFixture(b, Limits{})
	f.Registry.jobs = noJobs{}
	lines := make([]iot.ImportLine, iot.MaxImportLines)
	n := 0
	fill := func() {
		for i := range lines {
			n++
			lines[i] = iot.ImportLine{
				Number: i + 1, Thing: iot.ThingName(fmt.Sprintf("thing-%07d", n)),
				Attributes: map[string]string{"serial": fmt.Sprint(n)}, Groups: []iot.GroupName{"fleet"},
			}
		}
	}
	var spent time.Duration
	for b.Loop() {
		fill()
		start := time.Now()
		f.imports(true, lines...)
		spent += time.Since(start)
	}
	b.ReportMetric(float64(n)/spent.Seconds(), "things/s")
	again := time.Now()
	if got := f.imports(true, lines...); got.Unchanged != len(lines) {
		b.Fatal(counts(got))
	}
	b.ReportMetric(float64(len(lines))/time.Since(again).Seconds(), "unchanged/s")
}

// noJobs is Jobs when there are no jobs.
type noJobs struct{ Jobs }

func (noJobs) Joined(store.Tx, iot.Time, []iot.Member, string) error { return nil }
