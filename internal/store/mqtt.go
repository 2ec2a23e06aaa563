package store

import (
	"time"

	"drover/internal/iot"
)

// MQTTReader reads what the MQTT broker keeps.
type MQTTReader interface {
	// MQTT returns everything: entries by Seq, the rest in any order.
	MQTT() (*MQTTKept, error)
	// MQTTRetained returns all retained messages, in any order.
	MQTTRetained() ([]MQTTRetained, error)
	// MQTTNodes returns the nodes that sessions, groups and wills belong to, in order; among them 0,
	// to which what has been released belongs.
	MQTTNodes() ([]int64, error)
	// MQTTElsewhere reports whether there is a session or a will of the client that belongs to another
	// node than the given one.
	MQTTElsewhere(node int64, client string) (bool, error)
}

// MQTTWriter changes what the MQTT broker keeps.
type MQTTWriter interface {
	// SaveMQTT deletes what has ended; absent rows are ignored. Then it stores the rest:
	// messages and entries are new, or there already, because the same changes were saved by an
	// Update of which nobody could tell; the others take the place of what had the same key, or
	// topic. ErrExists if they cannot, as two sessions of one client. Sessions and wills that belong
	// to another node than c.Node, and retained messages that are newer, stay as they are.
	SaveMQTT(c *MQTTChanges) error
	// AdoptMQTT makes the session and the wills of a client that are not the node's its own, and
	// returns them with the messages of the session.
	AdoptMQTT(node int64, client string) (*MQTTKept, error)
	// ReleaseMQTT makes all sessions, groups and wills of a node nobody's.
	ReleaseMQTT(node int64) error
	// AdoptMQTTOf makes the sessions, groups and wills of a node another's, and returns them with
	// their messages.
	AdoptMQTTOf(node, former int64) (*MQTTKept, error)
}

// MQTTKept is what the MQTT broker keeps. Keys are its own, and never used twice.
type MQTTKept struct {
	Sessions []MQTTSession
	Groups   []MQTTGroup
	Messages []MQTTMessage
	Entries  []MQTTEntry
	Retained []MQTTRetained
	Wills    []MQTTWill
}

// MQTTChanges is a change of what the MQTT broker of a node keeps.
type MQTTChanges struct {
	Node                                                                int64   // FirstNode, or one of those that work on the database
	EndedSessions, EndedGroups, EndedEntries, EndedMessages, EndedWills []int64 // keys
	EndedRetained                                                       []string
	// Released are sessions and wills that belong to no node any more, after the rest has been done.
	ReleasedSessions, ReleasedWills []int64

	MQTTKept
}

// MQTTSession is a persistent session of a client.
type MQTTSession struct {
	Key           int64
	Client        string
	Version       byte          // 4 or 5
	Expiry        time.Duration // whole milliseconds, as all durations here
	Expires       iot.Time      // 0 while the client is connected
	Subscriptions []MQTTSubscription
}

// MQTTSubscription is one filter of a session.
type MQTTSubscription struct {
	Filter            string
	QoS               byte // 0 or 1
	NoLocal           bool
	RetainAsPublished bool
}

// MQTTGroup is a shared subscription.
type MQTTGroup struct {
	Key    int64
	Filter string
}

// MQTTMessage is a message.
type MQTTMessage struct {
	Key        int64 // 0 for one that is part of something else
	Topic      string
	Payload    []byte // nil if it is empty
	QoS        byte
	Retain     bool
	Expires    iot.Time // 0: never
	Properties string   // those of MQTT 5, in a form of the broker's
}

// MQTTEntry is a message in the queue of a session or a group.
type MQTTEntry struct {
	Seq, Owner, Message int64 // Seq is the key
	Retain              bool
	Until               iot.Time // 0: for ever
}

// MQTTRetained is the retained message of its topic.
type MQTTRetained struct {
	Message  MQTTMessage
	Modified iot.Time
}

// MQTTWill is the will of a connection.
type MQTTWill struct {
	Key         int64
	Client      string
	Message     MQTTMessage
	Life, Delay time.Duration
	Due         iot.Time // 0 until the connection has ended
}
