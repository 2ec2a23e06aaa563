package main

import (
	"context"
	"fmt"
	"path/filepath"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"drover/internal/broker"
	"drover/internal/store"
	"drover/internal/store/sqlstore"
)

func openStore(t testing.TB, dir string) brokerStore {
	t.Helper()
	db, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: filepath.Join(dir, "drover.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return brokerStore{db, store.FirstNode}
}

// TestBrokerStore: what the broker wants kept comes back as it was.
func TestBrokerStore(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1_700_000_000_123).UTC()
	message := broker.Message{Topic: "t", Payload: []byte{0, 0xff}, QoS: 1, Retain: true, Properties: &broker.Properties{
		UTF8: true, ContentType: "c", ResponseTopic: "r", CorrelationData: []byte{0xff, 0},
		User: []broker.UserProperty{{Key: "k", Value: "<1>"}, {Key: "k", Value: "2"}},
	}}
	expiring := message
	expiring.Expires = at
	want := broker.Kept{
		Sessions: []broker.StoredSession{{Key: 1, Client: "c", Version: 5, Expiry: time.Hour, Expires: at,
			Subscriptions: []broker.StoredSubscription{{Filter: "f", QoS: 1, NoLocal: true, RetainAsPublished: true}, {Filter: "g"}}}},
		Groups:   []broker.StoredGroup{{Key: 2, Filter: "$share/g/f"}},
		Messages: []broker.StoredMessage{{Key: 3, Message: expiring}, {Key: 4, Message: broker.Message{Topic: "e"}}},
		Entries:  []broker.StoredEntry{{Seq: 5, Owner: 1, Message: 3, Retain: true, Until: at}, {Seq: 6, Owner: 2, Message: 4}},
		Retained: []broker.StoredRetained{{Message: expiring, Modified: at}},
		Wills:    []broker.StoredWill{{Key: 7, Client: "c", Message: message, Life: time.Minute, Delay: time.Second, Due: at}},
	}
	s := openStore(t, t.TempDir())
	err := s.Save(t.Context(), &broker.Changes{
		Sessions: want.Sessions, Groups: want.Groups, Messages: want.Messages, Entries: want.Entries, Retained: want.Retained, Wills: want.Wills,
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(*got, want) {
		t.Errorf("\n got %+v\nwant %+v", *got, want)
	}
	err = s.Save(t.Context(), &broker.Changes{
		EndedSessions: []int64{1}, EndedGroups: []int64{2}, EndedMessages: []int64{3, 4}, EndedEntries: []int64{5, 6},
		EndedRetained: []string{"t"}, EndedWills: []int64{7},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err = s.Load(t.Context()); err != nil || !reflect.DeepEqual(*got, broker.Kept{}) {
		t.Errorf("left over: %+v, %v", got, err)
	}
}

// BenchmarkRestore is the start of a broker whose store holds 100,000 sessions with five
// subscriptions each, a tenth of them with a message.
func BenchmarkRestore(b *testing.B) {
	s := openStore(b, b.TempDir())
	const sessions = 100_000
	var c broker.Changes
	for i := range int64(sessions) {
		base := fmt.Sprintf("$aws/things/device-%06d/jobs/", i)
		var subs []broker.StoredSubscription
		for _, filter := range []string{base + "notify", base + "notify-next", base + "start-next/accepted", base + "+/get/accepted", "all"} {
			subs = append(subs, broker.StoredSubscription{Filter: filter, QoS: 1})
		}
		c.Sessions = append(c.Sessions, broker.StoredSession{Key: i + 1, Client: fmt.Sprintf("device-%06d", i), Version: 4,
			Expiry: time.Hour, Expires: time.Now().Add(time.Hour), Subscriptions: subs})
		if i%10 == 0 {
			c.Messages = append(c.Messages, broker.StoredMessage{Key: sessions + i + 1, Message: broker.Message{Topic: base + "notify", Payload: []byte("{}"), QoS: 1}})
			c.Entries = append(c.Entries, broker.StoredEntry{Seq: 2*sessions + i + 1, Owner: i + 1, Message: sessions + i + 1})
		}
	}
	if err := s.Save(b.Context(), &c); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		mqtt, err := broker.New(broker.Config{Handler: &brokerHandler{}, Store: s})
		if err != nil {
			b.Fatal(err)
		}
		if n := mqtt.Stats(); n.Sessions != sessions || n.Subscriptions != 5*sessions || n.Queued != sessions/10 {
			b.Fatalf("%+v", n)
		}
		if err := mqtt.Close(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStoredPublish is a QoS 1 message to one of a thousand clients that are away, until
// it is durable, from many publishers at a time.
func BenchmarkStoredPublish(b *testing.B) {
	s := openStore(b, b.TempDir())
	const clients = 1000
	var c broker.Changes
	for i := range int64(clients) {
		c.Sessions = append(c.Sessions, broker.StoredSession{Key: i + 1, Client: fmt.Sprint(i), Version: 4, Expiry: time.Hour,
			Subscriptions: []broker.StoredSubscription{{Filter: fmt.Sprint("t/", i), QoS: 1}}})
	}
	if err := s.Save(b.Context(), &c); err != nil {
		b.Fatal(err)
	}
	mqtt, err := broker.New(broker.Config{Handler: &brokerHandler{}, Store: s, QueueMessages: 1 << 30, MaxQueued: 1 << 30, MaxQueuedBytes: 1 << 30, QueueBytes: 1 << 30})
	if err != nil {
		b.Fatal(err)
	}
	payload := []byte(`{"status":"SUCCEEDED"}`)
	var next atomic.Int64
	b.SetParallelism(100)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			topic := fmt.Sprint("t/", next.Add(1)%clients)
			if err := mqtt.Accept(b.Context(), broker.Message{Topic: topic, Payload: payload, QoS: 1}); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.StopTimer()
	if n := mqtt.Stats(); n.Stored != uint64(b.N) || n.Queued != b.N {
		b.Errorf("%+v", n)
	}
	if err := mqtt.Close(context.Background()); err != nil {
		b.Fatal(err)
	}
}
