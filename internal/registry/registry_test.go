package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"drover/internal/iot"
	"drover/internal/store"
	"drover/internal/store/sqlstore"
)

var realm = iot.Realm{Account: "123456789012", Region: "us-east-1"}

// fixture is a registry on a database of its own, with a clock that stands still.
type fixture struct {
	*Registry
	t     testing.TB
	store *sqlstore.DB
	jobs  *jobLog
	clock time.Time
	seen  int64 // position in the journal
}

func newFixture(t testing.TB, limits Limits) *fixture {
	t.Helper()
	db, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: filepath.Join(t.TempDir(), "drover.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	f := &fixture{t: t, store: db, jobs: &jobLog{}, clock: time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)}
	f.Registry = New(Config{Store: db, Jobs: f.jobs, Realm: realm, Limits: limits, Now: func() time.Time { return f.clock }})
	return f
}

// on returns f for a subtest.
func (f *fixture) on(t testing.TB) *fixture {
	sub := *f
	sub.t = t
	return &sub
}

// must fails the test if err is not nil.
func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// refused fails the test unless err is a refusal with the code and its message holds the texts.
func (f *fixture) refused(err error, code iot.Code, texts ...string) {
	f.t.Helper()
	var e *iot.Error
	if !errors.As(err, &e) || e.Code != code {
		f.t.Fatalf("got %v, want %s", err, code)
	}
	for _, text := range texts {
		if !strings.Contains(e.Message, text) {
			f.t.Fatalf("message is %q, want it to hold %q", e.Message, text)
		}
	}
}

func (f *fixture) thing(name iot.ThingName, attributes ...string) *iot.Thing {
	f.t.Helper()
	t, err := f.CreateThing(f.t.Context(), iot.NewThing{Name: name, Attributes: pairs(attributes), Actor: "test"})
	f.must(err)
	return t
}

func (f *fixture) group(name, parent iot.GroupName) *iot.Group {
	f.t.Helper()
	g, err := f.CreateGroup(f.t.Context(), iot.NewGroup{Name: name, Parent: parent, Actor: "test"})
	f.must(err)
	return g
}

func (f *fixture) thingType(name string) *iot.ThingType {
	f.t.Helper()
	t, err := f.CreateThingType(f.t.Context(), iot.NewThingType{Name: name, Actor: "test"})
	f.must(err)
	return t
}

func (f *fixture) deprecate(name string) {
	f.t.Helper()
	f.must(f.DeprecateThingType(f.t.Context(), iot.ThingTypeDeprecation{Name: name, Actor: "test"}))
}

func (f *fixture) join(thing iot.ThingName, groups ...iot.GroupName) error {
	return f.ChangeGroups(f.t.Context(), iot.MembershipChange{Thing: thing, Add: groups, Actor: "test"})
}

func (f *fixture) leave(thing iot.ThingName, groups ...iot.GroupName) error {
	return f.ChangeGroups(f.t.Context(), iot.MembershipChange{Thing: thing, Remove: groups, Actor: "test"})
}

func (f *fixture) groupsOf(thing iot.ThingName) []iot.GroupName {
	f.t.Helper()
	groups, next, err := f.GroupsOfThing(f.t.Context(), thing, iot.Page{Limit: 250})
	f.must(err)
	if next != "" {
		f.t.Fatalf("next page after %d groups", len(groups))
	}
	return groupNames(groups)
}

func groupNames(groups []*iot.Group) []iot.GroupName {
	var names []iot.GroupName
	for _, g := range groups {
		names = append(names, g.Name)
	}
	return names
}

// news returns the records since the last call: kind, name of what changed, and version or
// second name.
func (f *fixture) news() []string {
	f.t.Helper()
	var news []string
	for _, rec := range f.records() {
		var d struct {
			Name    string
			Version int64
			Thing   string
			Type    string
			Group   iot.GroupRef
			Parent  iot.GroupRef
			Child   iot.GroupRef
		}
		f.must(json.Unmarshal(rec.Data, &d))
		text := string(rec.Kind)
		switch {
		case d.Group.Name != "":
			text += fmt.Sprintf(" %s in %s", d.Thing, d.Group.Name)
		case d.Parent.Name != "":
			text += fmt.Sprintf(" %s of %s", d.Child.Name, d.Parent.Name)
		case d.Thing != "":
			text += fmt.Sprintf(" %s is %s", d.Thing, d.Type)
		case d.Version != 0:
			text += fmt.Sprintf(" %s v%d", d.Name, d.Version)
		default:
			text += " " + d.Name
		}
		news = append(news, text)
	}
	return news
}

// records returns the records since the last call of records or news.
func (f *fixture) records() (records []iot.Record) {
	f.t.Helper()
	f.must(f.store.View(f.t.Context(), func(rd store.Reader) (err error) {
		records, err = rd.Records(0, f.seen, 100_000)
		return err
	}))
	if n := len(records); n > 0 {
		f.seen = records[n-1].ID
	}
	for _, rec := range records {
		if rec.Actor != "test" || rec.At != iot.At(f.clock) {
			f.t.Errorf("record %s is of %q at %d, want of \"test\" at %d", rec.Kind, rec.Actor, rec.At, iot.At(f.clock))
		}
	}
	return records
}

func (f *fixture) wantNews(want ...string) {
	f.t.Helper()
	if got := f.news(); !slices.Equal(got, want) {
		f.t.Fatalf("records:\n%q\nwant:\n%q", got, want)
	}
}

// jobLog is a Jobs that notes what it is called for, and what it can see then.
type jobLog struct {
	calls []string
	err   error // to be returned by every method
}

func (l *jobLog) note(format string, args ...any) error {
	l.calls = append(l.calls, fmt.Sprintf(format, args...))
	return l.err
}

// take returns the calls since the last take.
func (l *jobLog) take() []string {
	calls := l.calls
	l.calls = nil
	return calls
}

func (l *jobLog) Joined(tx store.Tx, _ iot.Time, members []iot.Member, _ string) error {
	for _, m := range members {
		stored, err := tx.Member(m.GroupID, m.ThingID)
		if err != nil {
			return err
		}
		if err := l.note("joined %s %v", m.Thing, stored == m); err != nil {
			return err
		}
	}
	return nil
}

func (l *jobLog) Leaving(tx store.Tx, _ iot.Time, thing *iot.Thing, group *iot.Group, _ string) error {
	if _, err := tx.Member(group.ID, thing.ID); err != nil {
		return err
	}
	return l.note("leaving %s %s", thing.Name, group.Name)
}

func (l *jobLog) Left(tx store.Tx, _ iot.Time, thing *iot.Thing, _ string) error {
	groups, err := tx.GroupsOfThing(thing.ID)
	if err != nil {
		return err
	}
	return l.note("left %s, now in %v", thing.Name, groupNames(groups))
}

func (l *jobLog) ThingDeleted(tx store.Tx, _ iot.Time, thing *iot.Thing, _ string) error {
	groups, err := tx.GroupsOfThing(thing.ID)
	if err != nil {
		return err
	}
	return l.note("deleted %s, in %v", thing.Name, groupNames(groups))
}

// pairs makes a map of names and values that alternate.
func pairs(list []string) map[string]string {
	if len(list) == 0 {
		return nil
	}
	m := make(map[string]string)
	for i := 0; i < len(list); i += 2 {
		m[list[i]] = list[i+1]
	}
	return m
}

// attributes returns n attributes.
func attributes(n int) map[string]string {
	m := make(map[string]string, n)
	for i := range n {
		m[fmt.Sprintf("a%d", i)] = "v"
	}
	return m
}

func ptr[T any](v T) *T { return &v }

func TestChangesAreAllOrNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{})
	f.thing("lamp")
	f.group("hall", "")
	f.news()
	f.jobs.err = errors.New("the engine fails")
	if err := f.join("lamp", "hall"); !errors.Is(err, f.jobs.err) {
		t.Fatalf("got %v", err)
	}
	if groups := f.groupsOf("lamp"); groups != nil {
		t.Fatalf("lamp is in %v", groups)
	}
	f.wantNews()
}

func TestCanceledContext(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.CreateThing(ctx, iot.NewThing{Name: "lamp"}); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}
