package engine_test

import (
	"context"
	"fmt"
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
	group := &iot.Group{Name: "all", UUID: uuid.NewString(), Version: 1}
	if err := db.Update(ctx, func(tx store.Tx) error { return tx.InsertGroup(group) }); err != nil {
		b.Fatal(err)
	}
	const chunk = 5000
	for from := 0; from < things; from += chunk {
		err := db.Update(ctx, func(tx store.Tx) error {
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
	return s
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
