package store

import (
	"drover/internal/iot"
	"drover/internal/query"
)

// IndexDocument is what the fleet index has of a thing or a group, by its ID.
type IndexDocument struct {
	ID    int64
	Terms []query.Term
}

// IndexReader searches the fleet index. Things and groups are in the order of their IDs.
type IndexReader interface {
	// IndexState returns what SaveIndexState has saved last, the zero value before.
	IndexState() (iot.IndexState, error)
	// Search returns the IDs of documents that match, behind the one given.
	Search(index iot.IndexName, node query.Node, after int64, limit int) ([]int64, error)
	// CountMatches returns how many documents match.
	CountMatches(index iot.IndexName, node query.Node) (int64, error)
	// CountValues returns how many of the documents that match have a field, and how many different values.
	CountValues(index iot.IndexName, node query.Node, field string) (documents, distinct int64, err error)
	// IndexNumbers gives every number that a field has in documents that match to visit, in ascending
	// order, and how many times it has it.
	IndexNumbers(index iot.IndexName, node query.Node, field string, visit func(n float64, count int64) error) error
	// IndexValues returns the most frequent values that a field has in documents that match, the most
	// frequent first, and by their texts where they are equal.
	IndexValues(index iot.IndexName, node query.Node, field string, limit int) ([]iot.IndexValue, error)
	// Connections returns what SaveConnections has saved of things.
	Connections(things []int64) (map[int64]iot.Connection, error)
	// ConnectedNodes returns the nodes that things are connected to.
	ConnectedNodes() ([]int64, error)
	// ConnectedTo returns things that are connected to a node.
	ConnectedTo(node int64, limit int) ([]iot.Connection, error)
	// ThingsByID returns those of the things that exist.
	ThingsByID(ids []int64) (map[int64]*iot.Thing, error)
}

// IndexWriter changes the fleet index.
type IndexWriter interface {
	// SaveIndexState saves the state of the indexes.
	SaveIndexState(s iot.IndexState) error
	// SaveConnections saves the last connections of things.
	SaveConnections(list []iot.Connection) error
	// DeleteConnections forgets those of things.
	DeleteConnections(things []int64) error
	// SaveTerms replaces what the index has of documents; without terms, nothing is left of one.
	SaveTerms(index iot.IndexName, documents []IndexDocument) error
}
