package engine_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"drover/internal/engine"
	"drover/internal/iot"
	"drover/internal/store"
	"drover/internal/store/sqlstore"
)

// site is an engine on a database with things in one group.
type site struct {
	db     *sqlstore.DB
	engine *engine.Engine
	realm  iot.Realm
}

func newSite(b *testing.B, things int) *site {
	b.Helper()
	ctx := context.Background()
	db, err := sqlstore.Open(ctx, sqlstore.Config{Path: filepath.Join(b.TempDir(), "db")})
	if err != nil {
		b.Fatal(err)
	}
	s := &site{db: db, realm: iot.Realm{Account: "123456789012", Region: "us-east-1"}}
	if s.engine, err = engine.New(engine.Config{Store: db, Realm: s.realm}); err != nil {
		b.Fatal(err)
	}
	run, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- s.engine.Run(run) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	})
	s.populate(b, things)
	return s
}

// populate registers things in one group.
func (s *site) populate(b *testing.B, things int) {
	b.Helper()
	ctx := context.Background()
	group := &iot.Group{Name: "all", UUID: uuid.NewString(), Version: 1}
	if err := s.db.Update(ctx, func(tx store.Tx) error { return tx.InsertGroup(group) }); err != nil {
		b.Fatal(err)
	}
	const chunk = 5000
	for from := 0; from < things; from += chunk {
		err := s.db.Update(ctx, func(tx store.Tx) error {
			n := min(chunk, things-from)
			list := make([]*iot.Thing, n)
			for i := range list {
				list[i] = &iot.Thing{Name: thingName(from + i), UUID: uuid.NewString(), Version: 1}
			}
			if err := tx.InsertThings(list); err != nil {
				return err
			}
			seq, err := tx.Sequence(n)
			if err != nil {
				return err
			}
			members := make([]iot.Member, n)
			for i, t := range list {
				members[i] = iot.Member{Seq: seq + int64(i), GroupID: group.ID, ThingID: t.ID, Thing: t.Name}
			}
			_, err = tx.InsertMembers(members)
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

func thingName(i int) iot.ThingName { return iot.ThingName(fmt.Sprintf("device-%07d", i)) }

// rollOut creates a job for all things and waits until each has its execution.
func (s *site) rollOut(b *testing.B, id iot.JobID) (created time.Duration) {
	ctx := context.Background()
	began := time.Now()
	_, err := s.engine.CreateJob(ctx, iot.NewJob{JobID: id, Document: "{}", Targets: []string{s.realm.ARN(iot.KindGroup, "all")}})
	if err != nil {
		b.Fatal(err)
	}
	created = time.Since(began)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		j, err := s.engine.Job(ctx, id)
		if err != nil {
			b.Fatal(err)
		}
		if !j.Concurrent() {
			break
		}
	}
	return created
}

// BenchmarkRollout measures how fast the executions of a job for a large group are made.
func BenchmarkRollout(b *testing.B) {
	for _, things := range []int{10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(things), func(b *testing.B) {
			if testing.Short() && things > 10_000 {
				b.Skip("-short: the small one only")
			}
			s := newSite(b, things)
			n := 0
			var answer time.Duration
			for b.Loop() {
				n++
				answer += s.rollOut(b, iot.JobID(fmt.Sprint("job-", n)))
			}
			b.ReportMetric(float64(things*n)/b.Elapsed().Seconds(), "executions/s")
			b.ReportMetric(float64(answer.Microseconds())/float64(n)/1000, "ms/CreateJob")
		})
	}
}

// BenchmarkDeviceRequests measures durable requests of devices: start-next, one progress
// report and a terminal update each.
func BenchmarkDeviceRequests(b *testing.B) {
	for _, devices := range []int{1, 64, 512} {
		b.Run(fmt.Sprint(devices, "-devices"), func(b *testing.B) {
			s := newSite(b, 20_000)
			jobs, next := 0, 0
			s.rollOut(b, "job-0")
			requests := 0
			for b.Loop() {
				if next+devices > 20_000 {
					b.StopTimer()
					jobs, next = jobs+1, 0
					s.rollOut(b, iot.JobID(fmt.Sprint("job-", jobs)))
					b.StartTimer()
				}
				var wg sync.WaitGroup
				for i := range devices {
					thing := thingName(next + i)
					id := iot.JobID(fmt.Sprint("job-", jobs))
					wg.Add(1)
					go func() {
						defer wg.Done()
						for _, r := range []*iot.Request{
							{Op: iot.OpStartNext, Thing: thing},
							{Op: iot.OpUpdate, Thing: thing, JobID: id, Status: iot.InProgress, Details: iot.Details{"progress": "50%"}},
							{Op: iot.OpUpdate, Thing: thing, JobID: id, Status: iot.Succeeded},
						} {
							if _, err := s.engine.Do(context.Background(), r); err != nil {
								b.Error(err)
							}
						}
					}()
				}
				wg.Wait()
				next += devices
				requests += 3 * devices
			}
			b.ReportMetric(float64(requests)/b.Elapsed().Seconds(), "requests/s")
		})
	}
}

// BenchmarkGrowth lets a fleet of 10,000 live for two weeks: each day two jobs for all, three requests an
// execution. Jobs are kept for three days and the journal for two; the database must stop growing then,
// because what is deleted is used again.
func BenchmarkGrowth(b *testing.B) {
	const things, days, daily = 10_000, 14, 2
	for b.Loop() {
		s := &site{realm: iot.Realm{Account: "123456789012", Region: "us-east-1"}}
		path := filepath.Join(b.TempDir(), "db")
		db, err := sqlstore.Open(b.Context(), sqlstore.Config{Path: path, Volatile: true})
		if err != nil {
			b.Fatal(err)
		}
		s.db = db
		s.populate(b, things)
		now := time.Date(2030, 1, 7, 0, 0, 0, 0, time.UTC)
		e, err := engine.New(engine.Config{Store: db, Realm: s.realm, Now: func() time.Time { return now }, Retention: 72 * time.Hour, JournalRetention: 48 * time.Hour,
			Publish: func(context.Context, []iot.Record) error { return nil }})
		if err != nil {
			b.Fatal(err)
		}
		var sizes []int64
		for day := range days {
			for job := range daily {
				now = now.Add(24 * time.Hour / daily)
				id := iot.JobID(fmt.Sprintf("day-%d-%d", day, job))
				if _, err := e.CreateJob(b.Context(), iot.NewJob{JobID: id, Document: "{}", Targets: []string{s.realm.ARN(iot.KindGroup, "all")}}); err != nil {
					b.Fatal(err)
				}
				if _, _, err := e.Step(b.Context(), nil); err != nil {
					b.Fatal(err)
				}
				for from := 0; from < things; from += 500 {
					for _, r := range []iot.Request{{Op: iot.OpStartNext}, {Op: iot.OpUpdate, JobID: id, Status: iot.InProgress, Details: iot.Details{"progress": "50%"}}, {Op: iot.OpUpdate, JobID: id, Status: iot.Succeeded}} {
						requests := make([]*iot.Request, 500)
						for i := range requests {
							one := r
							one.Thing = thingName(from + i)
							requests[i] = &one
						}
						replies, _, err := e.Step(b.Context(), requests)
						if err != nil {
							b.Fatal(err)
						}
						for _, reply := range replies {
							if reply.Err != nil {
								b.Fatal(reply.Err)
							}
						}
					}
				}
			}
			if _, _, err := e.Step(b.Context(), nil); err != nil {
				b.Fatal(err)
			}
			// An engine that runs saves how far it has published; only that may be forgotten.
			if err := db.Update(b.Context(), func(tx store.Tx) error {
				last, err := tx.LastRecord()
				if err != nil {
					return err
				}
				return tx.SetPublished(db.Node(), last)
			}); err != nil {
				b.Fatal(err)
			}
			sizes = append(sizes, onDisk(b, path))
		}
		for _, day := range []int{1, 4, 7, 14} {
			b.ReportMetric(float64(sizes[day-1])/1e6, fmt.Sprintf("MB/day-%02d", day))
		}
		if err := db.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// onDisk is what a database takes.
func onDisk(b *testing.B, path string) (bytes int64) {
	b.Helper()
	files, err := filepath.Glob(path + "*")
	if err != nil {
		b.Fatal(err)
	}
	for _, name := range files {
		info, err := os.Stat(name)
		if err != nil {
			b.Fatal(err)
		}
		bytes += info.Size()
	}
	return bytes
}
