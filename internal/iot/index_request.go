package iot

// IndexUpdate is what UpdateIndexingConfiguration asks for; nil members stay as they are.
type IndexUpdate struct {
	Things *IndexConfig
	Groups *IndexConfig
	Actor  string
}

// IndexConfig is the part of an Index that is configured.
type IndexConfig struct {
	On           bool
	Connectivity bool
	Packages     bool
	CustomFields []IndexField
}

// Search asks the fleet index.
type Search struct {
	Index   IndexName // "" is ThingsIndex
	Query   string
	Version string // "" is the only one there is
}

// FoundThing is a thing that a search has found.
type FoundThing struct {
	*Thing
	Groups []GroupName
	// Connection is the last one, the zero value if there was none; nil if connections are not indexed.
	Connection *Connection
	Shadow     *Shadow // nil: there is none, or it is not indexed
}

// FoundGroup is a group that a search has found.
type FoundGroup struct {
	*Group
	Parents []GroupName // all above it, from the root
}

// Statistics are figures of the values of a field. Only Count is there for texts, and nothing else if
// there are no values.
type Statistics struct {
	Count                                int64
	HasNumbers                           bool
	Sum, SumOfSquares, Minimum, Maximum  float64
	Average, Variance, StandardDeviation float64
}

// Percentile is the value that a percentage of all values does not exceed.
type Percentile struct{ Percent, Value float64 }
