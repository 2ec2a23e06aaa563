// Package engine runs jobs: it applies the rules of package iot to what a store keeps,
// one transaction at a time.
//
// A device's request takes this way:
//
//	Submit ─► inbox ─► batch ─► queues loaded, rules applied in order, changes saved
//	                              └─► one commit ─► answers ─► notices and events
//
// Requests that arrive while a commit runs form the next batch, so that a busy server
// pays for one disk flush per some hundred requests and an idle one answers at once. A
// request that its rule refuses gets its error and spoils nobody else's.
//
// Work that concerns many executions (a rollout, the cancellation or deletion of a job)
// is a phase of the job with a due time in the database. A loop takes what is due, in
// bounded chunks with the progress saved in the same transaction; after a crash it goes
// on where it was.
//
// What has to be told is a record in the journal, written in the transaction of what it
// tells. The publisher hands records on in the order of the commits, after the answers
// of the same commit, and saves now and then how far it has come; after a crash the rest
// is told again.
package engine
