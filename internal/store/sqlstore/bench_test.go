package sqlstore_test

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"drover/internal/envtest"
	"drover/internal/iot"
	"drover/internal/store"
	"drover/internal/store/sqlstore"
)

// fleetSize is how many things the benchmarks register: the default is quick, numbers in
// documents name them.
var (
	fleetSize = flag.Int("things", 20_000, "things in the benchmarks")
	stored    = flag.Int("stored", 100_000, "executions of the past in BenchmarkStored")
)

const (
	batch = 256 // device operations in a transaction
	start = iot.Time(1_700_000_000_000)
)

// fleet is a database with things that are members of one group.
type fleet struct {
	b      *testing.B
	dir    string
	db     *sqlstore.DB
	group  *iot.Group
	things []*iot.Thing
	jobs   int
	server string // URL of the PostgreSQL server, "" for SQLite
}

func newFleet(b *testing.B, size int) *fleet {
	dir := b.TempDir()
	return newFleetOn(b, dir, open(b, dir), size)
}

func newFleetOn(b *testing.B, dir string, db *sqlstore.DB, size int) *fleet {
	f := &fleet{b: b, dir: dir, db: db}
	b.Cleanup(func() { f.must(f.db.Close()) })
	f.group = &iot.Group{Name: "g", UUID: "g", Version: 1}
	f.update(func(tx store.Tx) error { return tx.InsertGroup(f.group) })
	for len(f.things) < size {
		f.register(min(5000, size-len(f.things)))
	}
	return f
}

func (f *fleet) must(err error) {
	f.b.Helper()
	if err != nil {
		f.b.Fatal(err)
	}
}

func (f *fleet) update(g func(tx store.Tx) error) {
	f.b.Helper()
	f.must(f.db.Update(f.b.Context(), g))
}

// register adds n things to the registry and to the group, in one transaction.
func (f *fleet) register(n int) {
	f.b.Helper()
	things := make([]*iot.Thing, n)
	for i := range things {
		no := len(f.things) + i
		things[i] = &iot.Thing{
			Name: iot.ThingName(fmt.Sprintf("pump-%08d", no)), UUID: fmt.Sprintf("00000000-0000-4000-8000-%012d", no),
			Type: "pump", Attributes: map[string]string{"site": "hamburg", "serial": fmt.Sprint(no)}, Version: 1, CreatedAt: start,
		}
	}
	f.update(func(tx store.Tx) error {
		if err := tx.InsertThings(things); err != nil {
			return err
		}
		seq, err := tx.Sequence(n)
		if err != nil {
			return err
		}
		members := make([]iot.Member, n)
		for i, t := range things {
			members[i] = iot.Member{Seq: seq + int64(i), GroupID: f.group.ID, ThingID: t.ID, Thing: t.Name}
		}
		_, err = tx.InsertMembers(members)
		return err
	})
	f.things = append(f.things, things...)
}

// job adds a job.
func (f *fleet) job() *iot.Job {
	f.b.Helper()
	f.jobs++
	j := &iot.Job{
		JobID: iot.JobID(fmt.Sprintf("update-%04d", f.jobs)), Status: iot.JobInProgress, Selection: iot.Continuous,
		Targets: []iot.Target{{ARN: "g", GroupID: f.group.ID}}, CreatedAt: start, Document: "{}",
	}
	f.update(func(tx store.Tx) error { return tx.InsertJob(j) })
	return j
}

// enqueue queues an execution of the job on each of the things, in one transaction.
func (f *fleet) enqueue(j *iot.Job, things []*iot.Thing) {
	f.b.Helper()
	ids := make([]int64, len(things))
	names := make([]iot.ThingName, len(things))
	for i, t := range things {
		ids[i], names[i] = t.ID, t.Name
	}
	f.update(func(tx store.Tx) error {
		if _, err := tx.LatestExecutions(j.ID, ids); err != nil {
			return err
		}
		queues, err := tx.Queues(names)
		if err != nil {
			return err
		}
		seq, err := tx.Sequence(len(things))
		if err != nil {
			return err
		}
		w := &work{deltas: make(map[int64]*iot.Counts)}
		for i := range queues {
			e := iot.Execution{Seq: seq + int64(i), Job: j.ID, JobID: j.JobID, Number: 1, Status: iot.Queued, Version: 1, QueuedAt: start, UpdatedAt: start}
			w.apply(queues[i].Add(e), "drover")
		}
		return w.save(tx, queues)
	})
}

// fill queues executions of a new job on all things.
func (f *fleet) fill() {
	f.b.Helper()
	j := f.job()
	for from := 0; from < len(f.things); from += 2000 {
		f.enqueue(j, f.things[from:min(from+2000, len(f.things))])
	}
}

// work collects what a transaction changes, as the engine does.
type work struct {
	inserts, updates []iot.Execution
	records          []iot.Record
	deltas           map[int64]*iot.Counts
}

func (w *work) apply(c iot.Change, actor string) {
	e := c.Execution
	d := w.deltas[e.Job]
	if d == nil {
		d = new(iot.Counts)
		w.deltas[e.Job] = d
	}
	switch c.From {
	case iot.NoStatus:
		w.inserts = append(w.inserts, e)
		d[e.Status]++
	case e.Status:
	default:
		w.updates = append(w.updates, e)
		d[c.From]--
		d[e.Status]++
	}
	w.records = append(w.records, iot.Record{
		At: e.UpdatedAt, Kind: iot.ExecutionChanged, Actor: actor, JobID: e.JobID, Execution: &e, List: c.List, Next: c.Next,
	})
}

func (w *work) save(tx store.Tx, queues []iot.Queue) error {
	if err := tx.SaveQueues(queues); err != nil {
		return err
	}
	if err := tx.InsertExecutions(w.inserts); err != nil {
		return err
	}
	if err := tx.UpdateExecutions(w.updates); err != nil {
		return err
	}
	var deltas []store.CountDelta
	for job, d := range w.deltas {
		deltas = append(deltas, store.CountDelta{Job: job, Delta: *d})
	}
	if _, err := tx.AddCounts(deltas); err != nil {
		return err
	}
	return tx.Append(w.records...)
}

// An operation is what a device does to its queue.
type operation struct {
	status  iot.ExecutionStatus
	details iot.Details
}

var (
	startNext = operation{status: iot.InProgress}
	progress  = operation{iot.InProgress, iot.Details{"progress": "50", "step": "flashing"}}
	finish    = operation{iot.Succeeded, iot.Details{"progress": "100"}}
)

// operate carries out one operation on the head of each thing's queue, in one transaction.
func (f *fleet) operate(op operation, things []*iot.Thing) {
	f.b.Helper()
	names := make([]iot.ThingName, len(things))
	for i, t := range things {
		names[i] = t.Name
	}
	f.update(func(tx store.Tx) error {
		queues, err := tx.Queues(names)
		if err != nil {
			return err
		}
		w := &work{deltas: make(map[int64]*iot.Counts)}
		for i := range queues {
			next := queues[i].Next("")
			w.apply(queues[i].Move(start+1, next.Seq, op.status, op.details, false), "thing:"+string(names[i]))
		}
		return w.save(tx, queues)
	})
}

// shuffled returns the things in a random order, the same one in every run.
func (f *fleet) shuffled() []*iot.Thing {
	things := make([]*iot.Thing, len(f.things))
	for i, p := range rand.New(rand.NewPCG(1, 2)).Perm(len(things)) {
		things[i] = f.things[p]
	}
	return things
}

// cpu returns the processor time of this process and of the database server so far.
func (f *fleet) cpu() time.Duration {
	f.b.Helper()
	var own syscall.Rusage
	f.must(syscall.Getrusage(syscall.RUSAGE_SELF, &own))
	sum := time.Duration(own.Utime.Nano() + own.Stime.Nano())
	if f.server == "" {
		return sum
	}
	u, err := url.Parse(f.server)
	f.must(err)
	file, err := os.ReadFile(filepath.Join(u.Query().Get("host"), "data", "postmaster.pid"))
	f.must(err)
	server, _, _ := strings.Cut(string(file), "\n")
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	f.must(err)
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		_, text, _ = bytes.Cut(text, []byte(") ")) // behind the name: state, parent, …
		if fields := strings.Fields(string(text)); fields[1] == server {
			for _, ticks := range fields[11:13] { // of 10 ms, in the process and in the kernel
				n, err := strconv.Atoi(ticks)
				f.must(err)
				sum += time.Duration(n) * 10 * time.Millisecond
			}
		}
	}
	return sum
}

// BenchmarkHotPath is durable device operations in batches of 256: read the queues by
// name, save them, the changed executions, the counts and a record of each. "mixed" is
// start, progress and finish in equal parts; "progress" is progress alone.
func BenchmarkHotPath(b *testing.B) {
	hotPath(b, func(b *testing.B) *fleet { return newFleet(b, *fleetSize) })
}

// BenchmarkHotPathPostgreSQL is BenchmarkHotPath on PostgreSQL, both processes on this machine.
// cpu-µs/op counts them together, allocations are only ours.
func BenchmarkHotPathPostgreSQL(b *testing.B) {
	hotPath(b, func(b *testing.B) *fleet {
		base := envtest.PostgreSQL(b)
		f := newFleetOn(b, "", openConfig(b, sqlstore.Config{URL: base}), *fleetSize)
		f.server = base
		return f
	})
}

func hotPath(b *testing.B, newFleet func(b *testing.B) *fleet) {
	b.Run("mixed", func(b *testing.B) {
		f := newFleet(b)
		cycle(b, f.shuffled(), f.fill, f.operate, f.cpu)
	})
	b.Run("progress", func(b *testing.B) {
		f := newFleet(b)
		f.fill()
		things := f.shuffled()
		for from := 0; from < len(things); from += batch {
			f.operate(startNext, things[from:min(from+batch, len(things))])
		}
		cycle(b, things, func() {}, func(_ operation, things []*iot.Thing) { f.operate(progress, things) }, f.cpu)
	})
}

// cycle takes batch after batch of things through start, progress and finish; fill gives
// all of them a new execution when all are through.
// cpu tells the time that processors have worked for it so far; it may be nil.
func cycle[T any](b *testing.B, things []T, fill func(), operate func(op operation, things []T), cpu func() time.Duration) {
	if cpu == nil {
		cpu = func() time.Duration { return 0 }
	}
	b.ReportAllocs()
	worked, since := time.Duration(0), cpu()
	operations := [...]operation{startNext, progress, finish}
	from, next := len(things), 0
	var latencies []time.Duration
	for b.Loop() {
		if from+batch > len(things) {
			b.StopTimer()
			worked += cpu() - since
			fill()
			from = 0
			since = cpu()
			b.StartTimer()
		}
		began := time.Now()
		operate(operations[next], things[from:from+batch])
		latencies = append(latencies, time.Since(began))
		if next = (next + 1) % len(operations); next == 0 {
			from += batch
		}
	}
	b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "ops/s")
	if worked += cpu() - since; worked > 0 {
		b.ReportMetric(float64(worked.Nanoseconds())/1000/float64(b.N*batch), "cpu-µs/op")
	}
	slices.Sort(latencies)
	for name, at := range map[string]float64{"p50-ms": 0.5, "p99-ms": 0.99, "worst-ms": 1} {
		b.ReportMetric(latencies[int(at*float64(len(latencies)-1))].Seconds()*1000, name)
	}
}

// BenchmarkStored shows that a device operation costs the same however many executions of
// the past are stored.
func BenchmarkStored(b *testing.B) {
	for _, size := range []int{0, *stored} {
		b.Run(fmt.Sprintf("past=%d", size), func(b *testing.B) {
			f := newFleet(b, 10_000)
			for range size / len(f.things) {
				f.past()
			}
			cycle(b, f.shuffled(), f.fill, f.operate, nil)
		})
	}
}

// past stores an execution on each thing that has succeeded long ago.
func (f *fleet) past() {
	f.b.Helper()
	j := f.job()
	f.update(func(tx store.Tx) error {
		seq, err := tx.Sequence(len(f.things))
		if err != nil {
			return err
		}
		executions := make([]iot.Execution, len(f.things))
		for i, t := range f.things {
			executions[i] = iot.Execution{
				Seq: seq + int64(i), Job: j.ID, ThingID: t.ID, Number: 1, Status: iot.Succeeded, Version: 3,
				Details: finish.details, QueuedAt: start, StartedAt: start, UpdatedAt: start,
			}
		}
		return tx.InsertExecutions(executions)
	})
}

// BenchmarkRollout queues executions in chunks of 2,000, as the rollout of a job to a
// group does. An iteration is one chunk.
func BenchmarkRollout(b *testing.B) {
	const chunk = 2000
	f := newFleet(b, max(chunk, *fleetSize))
	j := f.job()
	b.ReportAllocs()
	from := 0
	for b.Loop() {
		if from+chunk > len(f.things) {
			j, from = f.job(), 0
		}
		f.enqueue(j, f.things[from:from+chunk])
		from += chunk
	}
	b.ReportMetric(float64(b.N*chunk)/b.Elapsed().Seconds(), "executions/s")
}

// BenchmarkRegister registers things in chunks of 5,000, members of a group from the
// start. An iteration is one chunk.
func BenchmarkRegister(b *testing.B) {
	const chunk = 5000
	f := newFleet(b, 0)
	b.ReportAllocs()
	for b.Loop() {
		f.register(chunk)
	}
	b.ReportMetric(float64(b.N*chunk)/b.Elapsed().Seconds(), "things/s")
}

// BenchmarkOpen opens a database in which every thing has a pending execution.
func BenchmarkOpen(b *testing.B) {
	f := newFleet(b, *fleetSize)
	f.fill()
	var opening time.Duration
	for b.Loop() {
		f.must(f.db.Close())
		t := time.Now()
		f.db = open(b, f.dir)
		opening += time.Since(t)
	}
	b.ReportMetric(float64(opening.Milliseconds())/float64(b.N), "ms/open")
}
