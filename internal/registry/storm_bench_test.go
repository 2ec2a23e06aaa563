package registry

import (
	"context"
	"fmt"
	"testing"
	"time"

	"drover/internal/iot"
	"drover/internal/store"
)

// stormSize is how many things change at once.
const stormSize = 100_000

// stormClients knows of nobody but those that it is told of.
type stormClients struct{}

func (stormClients) Present(func(clientID, session string, since iot.Time)) {}
func (stormClients) PresentClient(string) (session string, since iot.Time, ok bool) {
	return "", 0, false
}

// BenchmarkStorm: 100,000 things come into the ten dynamic groups that there are, and leave one, all at the same time.
func BenchmarkStorm(b *testing.B) {
	f := newFixture(b, Limits{})
	ctx := b.Context()
	f.must(f.UpdateIndexing(ctx, iot.IndexUpdate{Things: &iot.IndexConfig{On: true, Connectivity: true}, Actor: "test"}))
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{}, 2)
	go func() { f.BuildIndexes(ctx); done <- struct{}{} }()
	go func() { f.KeepConnections(ctx, stormClients{}); done <- struct{}{} }()
	b.Cleanup(func() { cancel(); <-done; <-done })
	until := func(what string, true func() bool) {
		b.Helper()
		deadline, tick := time.NewTimer(5*time.Minute), time.NewTicker(5*time.Millisecond)
		defer deadline.Stop()
		defer tick.Stop()
		for !true() {
			select {
			case <-deadline.C:
				b.Fatal("waited in vain: ", what)
			case <-tick.C:
			}
		}
	}
	until("the index is there, connections are noted", func() bool {
		state, err := f.Indexing(ctx)
		f.must(err)
		return state.Things.Status == iot.IndexActive && f.connections.on.Load()
	})
	report := func(b *testing.B, began time.Time) {
		b.ReportMetric(stormSize/time.Since(began).Seconds(), "things/s")
		b.ReportMetric(time.Since(began).Seconds(), "s")
	}
	group := func(name iot.GroupName, query string) {
		b.Helper()
		_, err := f.CreateGroup(ctx, iot.NewGroup{Name: name, Query: query, Actor: "test"})
		f.must(err)
	}
	members := func(name iot.GroupName) (n int) {
		g, _, err := f.Group(ctx, name)
		f.must(err)
		f.must(f.store.View(ctx, func(r store.Reader) error {
			for after := iot.ThingName(""); ; {
				page, err := r.Members(g.ID, after, 10_000)
				if err != nil || len(page) == 0 {
					return err
				}
				n, after = n+len(page), page[len(page)-1].Thing
			}
		}))
		return n
	}
	group("online", "connectivity.connected:true")
	for i := range 9 {
		group(iot.GroupName(fmt.Sprintf("size-%d", i)), fmt.Sprintf("attributes.size>=%d", i))
	}
	things := func(visit func(name string)) {
		for i := range stormSize {
			visit(fmt.Sprintf("t-%06d", i))
		}
	}
	run := func(name string, storm func(), over func() bool) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				began := time.Now()
				storm()
				until(name, over)
				report(b, began)
			}
		})
	}
	run("registered", func() {
		var lines []iot.ImportLine
		things(func(name string) {
			lines = append(lines, iot.ImportLine{Thing: iot.ThingName(name), Attributes: map[string]string{"size": "8", "site": name[:4], "line": name[5:]}})
		})
		for len(lines) > 0 {
			n := min(len(lines), iot.MaxImportLines)
			_, err := f.Import(ctx, iot.Import{Lines: lines[:n], Actor: "test"})
			f.must(err)
			lines = lines[n:]
		}
	}, func() bool { return members("size-8") == stormSize })
	run("connected", func() { things(func(name string) { f.ClientConnected(name, "s-"+name) }) }, func() bool { return members("online") == stormSize })
	run("disconnected", func() { things(func(name string) { f.ClientDisconnected(name, "s-"+name, "CONNECTION_LOST") }) }, func() bool { return members("online") == 0 })
	run("another query", func() {
		query := "attributes.line:*"
		_, err := f.UpdateGroup(ctx, iot.GroupUpdate{Name: "online", Dynamic: true, Query: &query, Actor: "test"})
		f.must(err)
	}, func() bool { return members("online") == stormSize })
}
