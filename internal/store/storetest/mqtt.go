package storetest

import (
	"cmp"
	"slices"
	"time"

	"drover/internal/iot"
	"drover/internal/store"
)

var mqtt = []testCase{
	{"is read as it was saved", func(f *fixture) {
		all := store.MQTTKept{
			Sessions: []store.MQTTSession{
				{Key: 1, Client: "a\n", Version: 4, Expiry: time.Hour, Expires: t0, Subscriptions: []store.MQTTSubscription{
					{Filter: "a/+/ä"}, {Filter: "#", QoS: 1, NoLocal: true}, {Filter: "b", RetainAsPublished: true},
				}},
				{Key: 2, Client: "A", Version: 5, Expiry: 1500 * time.Millisecond},
			},
			Groups: []store.MQTTGroup{{Key: 3, Filter: "$share/g/a"}},
			Messages: []store.MQTTMessage{
				{Key: 4, Topic: "a/b", Payload: []byte{0, 0xff}, QoS: 1, Retain: true, Expires: t0, Properties: "{}"},
				{Key: 5, Topic: "b"},
			},
			Entries: []store.MQTTEntry{{Seq: 1, Owner: 3, Message: 4}, {Seq: 6, Owner: 1, Message: 4, Retain: true, Until: t0}, {Seq: 7, Owner: 1, Message: 5}},
			Retained: []store.MQTTRetained{
				{Message: store.MQTTMessage{Topic: "r", Payload: []byte("x"), QoS: 1, Retain: true, Expires: t0, Properties: "p"}, Modified: t0 + 1},
			},
			Wills: []store.MQTTWill{
				{Key: 8, Client: "a", Message: store.MQTTMessage{Topic: "w", Payload: []byte("x"), QoS: 1, Retain: true, Properties: "p"}, Life: time.Second, Delay: time.Minute, Due: t0},
				{Key: 9, Client: "a", Message: store.MQTTMessage{Topic: "w"}},
			},
		}
		f.update(func(tx store.Tx) error { return tx.SaveMQTT(&store.MQTTChanges{MQTTKept: all}) })
		f.reopen()
		f.equal(*read(f, store.Reader.MQTT), all)
	}},
	{"the last state counts, and what has ended is gone", func(f *fixture) {
		message := store.MQTTMessage{Topic: "t", Payload: []byte("1"), Retain: true}
		f.update(func(tx store.Tx) error {
			return tx.SaveMQTT(&store.MQTTChanges{MQTTKept: store.MQTTKept{
				Sessions: []store.MQTTSession{{Key: 1, Client: "a", Version: 4, Expires: t0}, {Key: 2, Client: "b", Version: 4}},
				Groups:   []store.MQTTGroup{{Key: 3, Filter: "g"}},
				Messages: []store.MQTTMessage{{Key: 4, Topic: "t"}},
				Entries:  []store.MQTTEntry{{Seq: 5, Owner: 2, Message: 4}},
				Retained: []store.MQTTRetained{{Message: message, Modified: t0}},
				Wills:    []store.MQTTWill{{Key: 6, Client: "a"}, {Key: 7, Client: "b"}},
			}})
		})
		message.Payload = []byte("2")
		last := store.MQTTKept{
			Sessions: []store.MQTTSession{
				{Key: 1, Client: "a", Version: 4, Expiry: time.Second, Subscriptions: []store.MQTTSubscription{{Filter: "f"}}},
				{Key: 8, Client: "b", Version: 5}, // in place of one that ends in the same change
			},
			Retained: []store.MQTTRetained{{Message: message, Modified: t0 + 1}},
			Wills:    []store.MQTTWill{{Key: 6, Client: "a", Delay: time.Second, Due: t0}},
		}
		f.update(func(tx store.Tx) error {
			return tx.SaveMQTT(&store.MQTTChanges{
				EndedSessions: []int64{2, 99}, EndedGroups: []int64{3}, EndedMessages: []int64{4}, EndedEntries: []int64{5}, EndedWills: []int64{7},
				EndedRetained: []string{"absent"}, MQTTKept: last,
			})
		})
		f.equal(*read(f, store.Reader.MQTT), last)
		f.update(func(tx store.Tx) error {
			return tx.SaveMQTT(&store.MQTTChanges{EndedSessions: []int64{1, 8}, EndedWills: []int64{6}, EndedRetained: []string{"t"}})
		})
		f.equal(*read(f, store.Reader.MQTT), store.MQTTKept{})
	}},
	{"what belongs to a node is adopted by another", func(f *fixture) {
		message := func(key int64) store.MQTTMessage {
			return store.MQTTMessage{Key: key, Topic: "t", Payload: []byte("x"), QoS: 1}
		}
		theirs := store.MQTTKept{
			Sessions: []store.MQTTSession{{Key: 1, Client: "a", Version: 4}, {Key: 2, Client: "b", Version: 5}},
			Groups:   []store.MQTTGroup{{Key: 3, Filter: "$share/g/t"}},
			Messages: []store.MQTTMessage{message(10), message(11), message(12), message(13)},
			Entries: []store.MQTTEntry{{Seq: 10, Owner: 1, Message: 10}, {Seq: 11, Owner: 2, Message: 11}, {Seq: 12, Owner: 1, Message: 12},
				{Seq: 13, Owner: 3, Message: 13}},
			Wills: []store.MQTTWill{{Key: 4, Client: "a"}, {Key: 5, Client: "c", Due: t0}},
		}
		f.update(func(tx store.Tx) error { return tx.SaveMQTT(&store.MQTTChanges{Node: 7, MQTTKept: theirs}) })
		ours := store.MQTTKept{Sessions: []store.MQTTSession{{Key: 20, Client: "d", Version: 4}}}
		f.update(func(tx store.Tx) error { return tx.SaveMQTT(&store.MQTTChanges{Node: 8, MQTTKept: ours}) })
		elsewhere := func(client string) (found bool) {
			return read(f, func(r store.Reader) (bool, error) { return r.MQTTElsewhere(8, client) })
		}
		f.equal([]bool{elsewhere("a"), elsewhere("c"), elsewhere("d"), elsewhere("nobody")}, []bool{true, true, false, false})
		f.equal(read(f, store.Reader.MQTTNodes), []int64{7, 8})
		adopt := func(want store.MQTTKept, f2 func(tx store.Tx) (*store.MQTTKept, error)) {
			f.Helper()
			var have *store.MQTTKept
			f.update(func(tx store.Tx) (err error) {
				have, err = f2(tx)
				return err
			})
			slices.SortFunc(have.Messages, func(x, y store.MQTTMessage) int { return cmp.Compare(x.Key, y.Key) })
			f.equal(*have, want)
		}
		byClient := func(tx store.Tx) (*store.MQTTKept, error) { return tx.AdoptMQTT(8, "a") }
		adopt(store.MQTTKept{Sessions: theirs.Sessions[:1], Messages: []store.MQTTMessage{message(10), message(12)},
			Entries: []store.MQTTEntry{theirs.Entries[0], theirs.Entries[2]}, Wills: theirs.Wills[:1]}, byClient)
		adopt(store.MQTTKept{}, byClient)
		f.equal(elsewhere("a"), false)
		// The former node does not know yet: what it saves changes nothing.
		f.update(func(tx store.Tx) error {
			return tx.SaveMQTT(&store.MQTTChanges{Node: 7, MQTTKept: store.MQTTKept{
				Sessions: []store.MQTTSession{{Key: 1, Client: "a", Version: 4, Expiry: time.Hour}}, Wills: []store.MQTTWill{{Key: 4, Client: "a", Due: t0}},
			}})
		})
		f.update(func(tx store.Tx) error {
			return tx.SaveMQTT(&store.MQTTChanges{Node: 7, EndedSessions: []int64{1}, EndedWills: []int64{4}, ReleasedSessions: []int64{1}, ReleasedWills: []int64{4}})
		})
		adopt(store.MQTTKept{Sessions: theirs.Sessions[1:], Groups: theirs.Groups, Messages: []store.MQTTMessage{message(11), message(13)},
			Entries: []store.MQTTEntry{theirs.Entries[1], theirs.Entries[3]}, Wills: theirs.Wills[1:]},
			func(tx store.Tx) (*store.MQTTKept, error) { return tx.AdoptMQTTOf(8, 7) })
		f.equal(read(f, store.Reader.MQTTNodes), []int64{8})
		f.update(func(tx store.Tx) error {
			return tx.SaveMQTT(&store.MQTTChanges{Node: 8, ReleasedSessions: []int64{1, 99}, ReleasedWills: []int64{4}})
		})
		f.equal(read(f, store.Reader.MQTTNodes), []int64{0, 8})
		adopt(store.MQTTKept{Sessions: theirs.Sessions[:1], Messages: []store.MQTTMessage{message(10), message(12)},
			Entries: []store.MQTTEntry{theirs.Entries[0], theirs.Entries[2]}, Wills: theirs.Wills[:1]},
			func(tx store.Tx) (*store.MQTTKept, error) { return tx.AdoptMQTTOf(9, 0) })
		f.update(func(tx store.Tx) error { return tx.ReleaseMQTT(8) })
		f.equal(read(f, store.Reader.MQTTNodes), []int64{0, 9})
	}},
	{"of two retained messages the later one stands", func(f *fixture) {
		at := func(modified iot.Time, payload string) {
			m := store.MQTTMessage{Topic: "t", Payload: []byte(payload), Retain: true}
			f.update(func(tx store.Tx) error {
				return tx.SaveMQTT(&store.MQTTChanges{MQTTKept: store.MQTTKept{Retained: []store.MQTTRetained{{Message: m, Modified: modified}}}})
			})
		}
		at(t0+1, "1")
		at(t0, "2")
		f.equal(string(read(f, store.Reader.MQTTRetained)[0].Message.Payload), "1")
		at(t0+1, "3")
		f.equal(string(read(f, store.Reader.MQTTRetained)[0].Message.Payload), "3")
	}},
	{"a client has one session, the first", func(f *fixture) {
		first, second := store.MQTTSession{Key: 1, Client: "a", Version: 4}, store.MQTTSession{Key: 2, Client: "a", Version: 4}
		save := func(c store.MQTTChanges, want ...store.MQTTSession) {
			f.Helper()
			f.update(func(tx store.Tx) error { return tx.SaveMQTT(&c) })
			f.equal(read(f, store.Reader.MQTT).Sessions, want)
		}
		save(store.MQTTChanges{Node: 7, MQTTKept: store.MQTTKept{Sessions: []store.MQTTSession{first}}}, first)
		save(store.MQTTChanges{Node: 8, MQTTKept: store.MQTTKept{Sessions: []store.MQTTSession{second}}}, first)
		save(store.MQTTChanges{Node: 7, EndedSessions: []int64{1}, MQTTKept: store.MQTTKept{Sessions: []store.MQTTSession{second}}}, second)
	}},
	{"many at once", func(f *fixture) {
		var c store.MQTTChanges
		for i := range int64(1000) {
			c.Messages = append(c.Messages, store.MQTTMessage{Key: i + 1, Topic: "t"})
			c.Entries = append(c.Entries, store.MQTTEntry{Seq: i + 1, Owner: 1, Message: i + 1})
			c.EndedEntries = append(c.EndedEntries, i+1)
		}
		f.update(func(tx store.Tx) error { return tx.SaveMQTT(&c) })
		f.update(func(tx store.Tx) error { return tx.SaveMQTT(&store.MQTTChanges{MQTTKept: c.MQTTKept}) }) // the same once more
		have := read(f, store.Reader.MQTT)
		f.equal([]int{len(have.Messages), len(have.Entries)}, []int{1000, 1000})
		f.equal(have.Entries, c.Entries)
	}},
}
