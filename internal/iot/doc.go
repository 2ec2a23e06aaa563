// Package iot holds the words and the rules of AWS IoT Jobs. It does no I/O,
// starts no goroutine and reads no clock: values and now go in, decisions come out.
//
// The words:
//
//   - A thing is a device in the registry. Things are members of thing groups,
//     and groups form hierarchies; a group stands for its members and those of
//     all its descendants.
//   - A job is a document to be carried out by its targets (things and groups).
//     A snapshot job is for those who are members when it starts and ends; a
//     continuous job is for everybody who joins later, too.
//   - A document is what a job has to say to its devices. Placeholders in it are links to
//     objects of an S3 store; each delivery to a device has fresh URLs in their place.
//   - An execution is one run of one job on one thing. It is pending while it is
//     QUEUED or IN_PROGRESS; every other status is terminal and never changes.
//   - The queue of a thing is its pending executions. Everything that a device
//     sees is a function of its queue, which is why the queue is the unit of
//     consistency and of storage.
//   - A record is one line of the journal: what changed, when, by whom. Notices to
//     devices and events for applications are made from records.
//
// The life of a job:
//
//	SCHEDULED ◄─► IN_PROGRESS ─► COMPLETED ─┐
//	    └──────────────┴───────► CANCELED ──┴─► DELETION_IN_PROGRESS ─► gone
//
// (with force, deletion comes from anywhere). The life of an execution:
//
//	QUEUED ─► IN_PROGRESS ─► SUCCEEDED │ FAILED │ REJECTED   (by the device)
//	   └──────────┴────────► CANCELED │ REMOVED              (by the service)
//	              └────────► TIMED_OUT                       (by its timers)
//
// After FAILED and TIMED_OUT a retry may follow: a new execution of the same job and thing.
//
// Section numbers in comments, such as "spec §13.2", are those of the behavioural
// specification that docs/compatibility.md summarises.
package iot
