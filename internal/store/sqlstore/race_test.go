//go:build race

package sqlstore

// raced says that the tests run under the race detector.
const raced = true
