package broker

import (
	"context"
	"time"
)

// Store keeps what must outlive the process: persistent sessions, the QoS 1
// messages that their clients do not have yet, retained messages, and wills.
// Keys and sequence numbers are the broker's, greater than zero, and never used
// twice.
type Store interface {
	// Load returns everything that is kept: entries by Seq, the rest in any order.
	Load(ctx context.Context) (*Kept, error)
	// Save makes all the changes, or none if it fails, and returns when they are
	// durable. It is called by one goroutine at a time.
	Save(ctx context.Context, c *Changes) error
}

// Kept is what a Store holds.
type Kept struct {
	Sessions []StoredSession
	Groups   []StoredGroup
	Messages []StoredMessage
	Entries  []StoredEntry
	Retained []StoredRetained
	Wills    []StoredWill
}

// Changes are what one Save does: first what has ended is deleted, then the rest
// is stored, in place of what had the same key, client id or topic.
type Changes struct {
	EndedSessions []int64
	EndedGroups   []int64
	EndedEntries  []int64 // Seq
	EndedMessages []int64
	EndedRetained []string
	EndedWills    []int64

	// Released are sessions and wills that belong to no node any more, after all else has been
	// done; only of a SharedStore.
	ReleasedSessions []int64
	ReleasedWills    []int64

	Sessions []StoredSession
	Groups   []StoredGroup
	Messages []StoredMessage // new
	Entries  []StoredEntry   // new
	Retained []StoredRetained
	Wills    []StoredWill
}

// StoredSession is a persistent session.
type StoredSession struct {
	Key           int64
	Client        string
	Version       byte
	Expiry        time.Duration // how long it outlives its connection
	Expires       time.Time     // zero while the client is connected
	Subscriptions []StoredSubscription
}

// StoredSubscription is one filter of a session.
type StoredSubscription struct {
	Filter            string
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
}

// StoredGroup is a shared subscription that has had messages to keep.
type StoredGroup struct {
	Key    int64
	Filter string // "$share/NAME/FILTER"
}

// StoredMessage is a message that at least one entry refers to.
type StoredMessage struct {
	Key     int64
	Message Message
}

// StoredEntry is a message in the queue of a session or a group.
type StoredEntry struct {
	Seq     int64 // queues are in its order; no two entries have the same
	Owner   int64 // key of the session or group
	Message int64 // key
	Retain  bool
	Until   time.Time // when it is dropped; zero: never
}

// StoredRetained is the retained message of its topic.
type StoredRetained struct {
	Message  Message
	Modified time.Time
}

// StoredWill is the will of a connection.
type StoredWill struct {
	Key     int64
	Client  string
	Message Message       // without Expires: it counts from the end of the connection
	Life    time.Duration // of the message; 0: it does not expire
	Delay   time.Duration // after the end of the connection
	Due     time.Time     // zero until the connection has ended
}
