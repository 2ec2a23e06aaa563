package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"drover/internal/broker"
	"drover/internal/iot"
	"drover/internal/store"
)

// brokerStore keeps in the database what the broker wants kept: the same things in the
// words of both.
type brokerStore struct {
	store store.Store
	node  int64
}

// Load implements broker.Store.
func (s brokerStore) Load(ctx context.Context) (*broker.Kept, error) {
	var k *store.MQTTKept
	err := s.store.View(ctx, func(r store.Reader) (err error) {
		k, err = r.MQTT()
		return err
	})
	if err != nil {
		return nil, err
	}
	return fromKept(k)
}

func fromKept(k *store.MQTTKept) (*broker.Kept, error) {
	kept := &broker.Kept{
		Sessions: each(k.Sessions, func(v store.MQTTSession) broker.StoredSession {
			return broker.StoredSession{
				Key: v.Key, Client: v.Client, Version: v.Version, Expiry: v.Expiry, Expires: moment(v.Expires),
				Subscriptions: each(v.Subscriptions, func(s store.MQTTSubscription) broker.StoredSubscription {
					return broker.StoredSubscription(s)
				}),
			}
		}),
		Groups: each(k.Groups, func(v store.MQTTGroup) broker.StoredGroup { return broker.StoredGroup(v) }),
		Entries: each(k.Entries, func(v store.MQTTEntry) broker.StoredEntry {
			return broker.StoredEntry{Seq: v.Seq, Owner: v.Owner, Message: v.Message, Retain: v.Retain, Until: moment(v.Until)}
		}),
	}
	var bad error
	message := func(v store.MQTTMessage) broker.Message {
		m, err := fromStore(v)
		if err != nil && bad == nil {
			bad = err
		}
		return m
	}
	kept.Messages = each(k.Messages, func(v store.MQTTMessage) broker.StoredMessage {
		return broker.StoredMessage{Key: v.Key, Message: message(v)}
	})
	kept.Retained = each(k.Retained, func(v store.MQTTRetained) broker.StoredRetained {
		return broker.StoredRetained{Message: message(v.Message), Modified: moment(v.Modified)}
	})
	kept.Wills = each(k.Wills, func(v store.MQTTWill) broker.StoredWill {
		return broker.StoredWill{Key: v.Key, Client: v.Client, Message: message(v.Message), Life: v.Life, Delay: v.Delay, Due: moment(v.Due)}
	})
	return kept, bad
}

// Save implements broker.Store.
func (s brokerStore) Save(ctx context.Context, c *broker.Changes) error {
	changes := &store.MQTTChanges{
		Node: s.node, ReleasedSessions: c.ReleasedSessions, ReleasedWills: c.ReleasedWills,
		EndedSessions: c.EndedSessions, EndedGroups: c.EndedGroups, EndedEntries: c.EndedEntries,
		EndedMessages: c.EndedMessages, EndedWills: c.EndedWills, EndedRetained: c.EndedRetained,
	}
	changes.Sessions = each(c.Sessions, func(v broker.StoredSession) store.MQTTSession {
		return store.MQTTSession{
			Key: v.Key, Client: v.Client, Version: v.Version, Expiry: v.Expiry, Expires: instant(v.Expires),
			Subscriptions: each(v.Subscriptions, func(s broker.StoredSubscription) store.MQTTSubscription {
				return store.MQTTSubscription(s)
			}),
		}
	})
	changes.Groups = each(c.Groups, func(v broker.StoredGroup) store.MQTTGroup { return store.MQTTGroup(v) })
	changes.Entries = each(c.Entries, func(v broker.StoredEntry) store.MQTTEntry {
		return store.MQTTEntry{Seq: v.Seq, Owner: v.Owner, Message: v.Message, Retain: v.Retain, Until: instant(v.Until)}
	})
	changes.Messages = each(c.Messages, func(v broker.StoredMessage) store.MQTTMessage {
		m := toStore(v.Message)
		m.Key = v.Key
		return m
	})
	changes.Retained = each(c.Retained, func(v broker.StoredRetained) store.MQTTRetained {
		return store.MQTTRetained{Message: toStore(v.Message), Modified: instant(v.Modified)}
	})
	changes.Wills = each(c.Wills, func(v broker.StoredWill) store.MQTTWill {
		return store.MQTTWill{Key: v.Key, Client: v.Client, Message: toStore(v.Message), Life: v.Life, Delay: v.Delay, Due: instant(v.Due)}
	})
	return s.store.Update(ctx, func(tx store.Tx) error { return tx.SaveMQTT(changes) })
}

// sharedStore is the brokerStore of a node among others.
type sharedStore struct {
	brokerStore
	live func(store.Reader) ([]int64, error) // the numbers of all nodes that are alive
}

// Node implements broker.SharedStore.
func (s sharedStore) Node() int64 { return s.node }

// Load implements broker.Store.
func (s sharedStore) Load(ctx context.Context) (*broker.Kept, error) {
	kept, err := s.Orphans(ctx)
	if err != nil {
		return nil, err
	}
	kept.Retained, err = s.Retained(ctx)
	return kept, err
}

// Retained implements broker.SharedStore.
func (s sharedStore) Retained(ctx context.Context) ([]broker.StoredRetained, error) {
	k := new(store.MQTTKept)
	err := s.store.View(ctx, func(r store.Reader) (err error) {
		k.Retained, err = r.MQTTRetained()
		return err
	})
	if err != nil {
		return nil, err
	}
	kept, err := fromKept(k)
	return kept.Retained, err
}

// Adopt implements broker.SharedStore. Nearly always there is nothing, which a look finds out.
func (s sharedStore) Adopt(ctx context.Context, client string) (*broker.Kept, error) {
	there := false
	err := s.store.View(ctx, func(r store.Reader) (err error) {
		there, err = r.MQTTElsewhere(s.node, client)
		return err
	})
	if err != nil || !there {
		return new(broker.Kept), err
	}
	k := new(store.MQTTKept)
	err = s.store.Update(ctx, func(tx store.Tx) (err error) {
		k, err = tx.AdoptMQTT(s.node, client)
		return err
	})
	if err != nil {
		return nil, err
	}
	return fromKept(k)
}

// Release implements broker.SharedStore.
func (s sharedStore) Release(ctx context.Context) error {
	return s.store.Update(ctx, func(tx store.Tx) error { return tx.ReleaseMQTT(s.node) })
}

// Orphans implements broker.SharedStore.
func (s sharedStore) Orphans(ctx context.Context) (*broker.Kept, error) {
	var orphans []int64
	orphaned := func(r store.Reader) error {
		owners, err := r.MQTTNodes()
		if err != nil {
			return err
		}
		live, err := s.live(r)
		orphans = slices.DeleteFunc(owners, func(node int64) bool { return node == s.node || slices.Contains(live, node) })
		return err
	}
	if err := s.store.View(ctx, orphaned); err != nil || len(orphans) == 0 {
		return new(broker.Kept), err
	}
	all := new(store.MQTTKept)
	err := s.store.Update(ctx, func(tx store.Tx) error {
		*all = store.MQTTKept{}
		if err := orphaned(tx); err != nil { // another node may have been quicker
			return err
		}
		for _, node := range orphans {
			k, err := tx.AdoptMQTTOf(s.node, node)
			if err != nil {
				return err
			}
			all.Sessions, all.Groups, all.Wills = append(all.Sessions, k.Sessions...), append(all.Groups, k.Groups...), append(all.Wills, k.Wills...)
			all.Entries, all.Messages = append(all.Entries, k.Entries...), append(all.Messages, k.Messages...)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return fromKept(all)
}

// each maps a list to what f makes of its items; nil stays nil.
func each[A, B any](list []A, f func(A) B) []B {
	if list == nil {
		return nil
	}
	mapped := make([]B, len(list))
	for i, v := range list {
		mapped[i] = f(v)
	}
	return mapped
}

// moment and instant translate times of which zero says that there is none.
func moment(t iot.Time) time.Time {
	if t == 0 {
		return time.Time{}
	}
	return t.Std()
}

func instant(t time.Time) iot.Time {
	if t.IsZero() {
		return 0
	}
	return iot.At(t)
}

func toStore(m broker.Message) store.MQTTMessage {
	s := store.MQTTMessage{Topic: m.Topic, Payload: m.Payload, QoS: min(m.QoS, 1), Retain: m.Retain, Expires: instant(m.Expires)}
	if m.Properties != nil {
		text, err := json.Marshal(m.Properties)
		if err != nil {
			panic(fmt.Sprintf("properties of a message cannot be encoded: %v", err)) // text and bytes
		}
		s.Properties = string(text)
	}
	return s
}

func fromStore(s store.MQTTMessage) (broker.Message, error) {
	m := broker.Message{Topic: s.Topic, Payload: s.Payload, QoS: s.QoS, Retain: s.Retain, Expires: moment(s.Expires)}
	if s.Properties == "" {
		return m, nil
	}
	m.Properties = new(broker.Properties)
	if err := json.Unmarshal([]byte(s.Properties), m.Properties); err != nil {
		return m, fmt.Errorf("properties of the stored message on %s: %w", s.Topic, err)
	}
	return m, nil
}
