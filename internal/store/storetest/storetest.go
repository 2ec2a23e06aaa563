// Package storetest is the suite that every implementation of store.Store passes. It is
// what the seam means: a method without a case here promises nothing.
package storetest

import (
	"fmt"
	"reflect"
	"testing"

	"drover/internal/iot"
	"drover/internal/store"
)

// Open opens the database that is in the folder, and creates it if there is none. The
// suite closes it.
type Open func(t *testing.T, dir string) store.Store

// Run runs the suite.
func Run(t *testing.T, open Open) {
	for _, area := range []struct {
		name  string
		cases []testCase
	}{
		{"Transactions", transactions},
		{"Journal", journal},
		{"Queues", queues},
		{"Executions", executions},
		{"Deadlines", deadlines},
		{"Jobs", jobs},
		{"Schedules", schedules},
		{"Downloads", downloads},
		{"Templates", templates},
		{"Things", things},
		{"Groups", groups},
		{"Certificates", certificates},
		{"Authorizers", authorizers},
		{"Provisioning", provisioning},
		{"Policies", policies},
		{"Billing", billing},
		{"Packages", packages},
		{"Shadows", shadows},
		{"Streams", streams},
		{"OTAUpdates", otaUpdates},
		{"Commands", commands},
		{"Keys", keys},
		{"Users", users},
		{"Tags", tags},
		{"MQTT", mqtt},
		{"Index", index},
	} {
		t.Run(area.name, func(t *testing.T) {
			for _, c := range area.cases {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					dir := t.TempDir()
					f := &fixture{T: t, Store: open(t, dir)}
					f.reopen = func() {
						f.must(f.Close())
						f.Store = open(t, dir)
					}
					t.Cleanup(func() { f.must(f.Close()) })
					c.run(f)
				})
			}
		})
	}
}

type testCase struct {
	name string
	run  func(f *fixture)
}

// fixture is an empty database and what a case does with it.
type fixture struct {
	*testing.T
	store.Store
	reopen func() // closes the database and opens it again
	seq    int64  // of the last execution or membership made
}

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// update runs g in a transaction that must be committed.
func (f *fixture) update(g func(tx store.Tx) error) {
	f.Helper()
	f.must(f.Update(f.Context(), g))
}

// refused runs g in a transaction that must fail with the error.
func (f *fixture) refused(want error, g func(tx store.Tx) error) {
	f.Helper()
	err := f.Update(f.Context(), g)
	f.fails(want, err)
}

// view runs g on a snapshot; it must not fail.
func (f *fixture) view(g func(r store.Reader) error) {
	f.Helper()
	f.must(f.View(f.Context(), g))
}

// equal compares values deeply.
func (f *fixture) equal(got, want any) {
	f.Helper()
	if !reflect.DeepEqual(got, want) {
		f.Fatalf("\n got %+v\nwant %+v", got, want)
	}
}

// read runs a method of the Reader and returns its result.
func read[T any](f *fixture, g func(r store.Reader) (T, error)) (v T) {
	f.Helper()
	f.view(func(r store.Reader) (err error) {
		v, err = g(r)
		return err
	})
	return v
}

// names maps a list to what distinguishes its items.
func names[T any, N any](list []T, name func(T) N) []N {
	all := make([]N, len(list))
	for i, v := range list {
		all[i] = name(v)
	}
	return all
}

// awkward are names in bytewise order that other collations would order otherwise.
var awkward = []string{"-a", "-b", "0", "9", ":x", "A", "B", "Z", "_", "a", "a-b", "a:b", "aB", "a_b", "ab", "b", "z"}

// scattered returns the list in another order, the same one always.
func scattered[T any](list []T) []T {
	var all []T
	for _, start := range []int{2, 0, 1} {
		for i := start; i < len(list); i += 3 {
			all = append(all, list[i])
		}
	}
	return all
}

// numbered makes n names, in order.
func numbered(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("thing-%06d", i)
	}
	return all
}

const t0 iot.Time = 1_700_000_000_000

// things stores things with one attribute each.
func (f *fixture) things(names ...string) []*iot.Thing {
	f.Helper()
	list := make([]*iot.Thing, len(names))
	for i, n := range names {
		list[i] = newThing(n)
	}
	f.update(func(tx store.Tx) error { return tx.InsertThings(list) })
	return list
}

func newThing(name string) *iot.Thing {
	return &iot.Thing{Name: iot.ThingName(name), UUID: "uuid-of-" + name, Attributes: map[string]string{"name": name}, Version: 1, CreatedAt: t0}
}

func (f *fixture) group(name string, parent int64) *iot.Group {
	f.Helper()
	g := &iot.Group{Name: iot.GroupName(name), UUID: "uuid-of-" + name, Parent: parent, Version: 1, CreatedAt: t0}
	f.update(func(tx store.Tx) error { return tx.InsertGroup(g) })
	return g
}

// job stores a snapshot job that has been rolled out.
func (f *fixture) job(name string, targets ...iot.Target) *iot.Job {
	f.Helper()
	j := newJob(name, targets...)
	f.update(func(tx store.Tx) error { return tx.InsertJob(j) })
	return j
}

func newJob(name string, targets ...iot.Target) *iot.Job {
	return &iot.Job{
		JobID: iot.JobID(name), Status: iot.JobInProgress, Selection: iot.Snapshot,
		Targets: targets, CreatedAt: t0, UpdatedAt: t0, Document: `{"of":"` + name + `"}`,
	}
}

// execution makes a queued execution; it is not stored.
func (f *fixture) execution(j *iot.Job, thing *iot.Thing, number int64) iot.Execution {
	f.seq++
	return iot.Execution{
		Seq: f.seq, Job: j.ID, JobID: j.JobID, Namespace: j.Namespace, ThingID: thing.ID, Thing: thing.Name,
		Number: number, Status: iot.Queued, Version: 1, QueuedAt: t0, UpdatedAt: t0,
	}
}

// insert stores executions without queueing them.
func (f *fixture) insert(executions ...iot.Execution) {
	f.Helper()
	f.update(func(tx store.Tx) error { return tx.InsertExecutions(executions) })
}
