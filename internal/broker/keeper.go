package broker

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
)

const (
	// graceToAcknowledge is how long a message that is on its way to a connected
	// client stays out of the store. Nearly all are acknowledged by then, and
	// those never cost a write.
	graceToAcknowledge = 25 * time.Millisecond
	// batchEntries bounds one Save, so that others who write to the same database
	// get their turns.
	batchEntries = 2000
)

// keeper brings into the store what must outlive the process. Changes that come
// while a Save runs form the next one.
//
// A QoS 1 message to a persistent session is settled when it is durable or when
// the client has acknowledged it, whichever is first; what its publisher is told
// waits for that (see parcel). A message for a client that is away is written at
// once; one that has been sent to a connected client gets a moment to be
// acknowledged.
//
// Its lock is taken last, after those of sessions and groups.
type keeper struct {
	store Store // nil: everything is settled at once and gone with the process
	log   *slog.Logger

	maxEntries, maxBytes int
	node                 int64 // of those that share the store; 0: it is alone

	wake    chan struct{} // there may be something to do
	closing chan struct{}
	ended   chan struct{} // run has returned
	err     error         // of the last Save, once ended

	mu      sync.Mutex
	last    int64 // the last key or sequence number
	entries int   // that are not ended
	bytes   int   // of their messages, each counted once
	fails   uint64
	written uint64 // entries that were

	urgent  []*entry
	later   []delayed // by time
	waiters []func()  // called after the next Save
	next    Changes   // all but sessions, retained and wills, whose last state counts
	session map[int64]StoredSession
	retain  map[string]*StoredRetained // nil: deleted
	wills   map[int64]StoredWill
	ending  int                      // wills that have ended and are still in the store
	parting map[string]int           // sessions that have ended and are still in the store, by client
	parted  []string                 // the clients of next.EndedSessions
	telling map[string]chan struct{} // by client, whose will is published and not safe yet; closed when it is
}

// delayed is an entry that is written if it has not ended by then.
type delayed struct {
	*entry
	due time.Time
}

// parcel is a message on its way to sessions that outlive the process.
type parcel struct {
	message *Message
	done    func() // called once everything has settled; nil if nobody waits

	// Under the keeper's lock.
	key       int64
	bytes     int  // that it counts for; 0 before the first entry
	refs      int  // entries that have not ended, and one while some are added
	unsettled int  // what done waits for, and one while entries are added
	stored    bool // the message is in the store, or in the Save that runs
}

// entry is a parcel's place in one queue.
type entry struct {
	parcel *parcel
	seq    int64
	row    int64 // key of its message in a shared store, which has one for each entry
	owner  int64
	until  time.Time
	retain bool
	state  entryState // under the keeper's lock
}

type entryState byte

const (
	entryNew     entryState = iota // not written yet
	entryWriting                   // in the Save that runs
	entryStored
	entryEnded
)

func newKeeper(store Store, log *slog.Logger, maxEntries, maxBytes int) *keeper {
	k := &keeper{
		store: store, log: log, maxEntries: maxEntries, maxBytes: maxBytes,
		wake: make(chan struct{}, 1), closing: make(chan struct{}), ended: make(chan struct{}),
		session: map[int64]StoredSession{}, retain: map[string]*StoredRetained{}, wills: map[int64]StoredWill{}, parting: map[string]int{},
	}
	return k
}

// key returns a number that has never been used before.
func (k *keeper) key() int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.number()
}

// nodeBits is how many bits of a number in a shared store are of the node that gave it. Two nodes
// at a time that have the same would have to begin exactly so many records of the journal apart,
// and count alike.
const nodeBits = 20

// number returns a number that has never been used before, and is greater than all that this
// process knows of.
func (k *keeper) number() int64 {
	if k.node == 0 {
		k.last++
	} else {
		k.last = (k.last>>nodeBits+1)<<nodeBits | k.node&(1<<nodeBits-1)
	}
	return k.last
}

// pass makes numbers go on after those that the store has.
func (k *keeper) pass(kept *Kept) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, v := range kept.Sessions {
		k.last = max(k.last, v.Key)
	}
	for _, v := range kept.Groups {
		k.last = max(k.last, v.Key)
	}
	for _, v := range kept.Messages {
		k.last = max(k.last, v.Key)
	}
	for _, v := range kept.Entries {
		k.last = max(k.last, v.Seq)
	}
	for _, v := range kept.Wills {
		k.last = max(k.last, v.Key)
	}
}

// adopt takes over the messages that the store has for owners, in their order, and deletes the others.
func (k *keeper) adopt(kept *Kept, owner func(key int64) bool) (list []outgoing) {
	k.mu.Lock()
	defer k.mu.Unlock()
	parcels := make(map[int64]*parcel, len(kept.Messages))
	for i := range kept.Messages {
		v := &kept.Messages[i]
		parcels[v.Key] = &parcel{message: &v.Message, key: v.Key, bytes: v.Message.size(), refs: 1, stored: true}
		k.bytes += v.Message.size()
	}
	for _, v := range kept.Entries {
		p := parcels[v.Message]
		if p == nil || !owner(v.Owner) {
			k.next.EndedEntries = append(k.next.EndedEntries, v.Seq)
			continue
		}
		e := &entry{parcel: p, seq: v.Seq, owner: v.Owner, until: v.Until, retain: v.Retain, state: entryStored}
		switch {
		case k.node == 0:
		case v.Message == v.Seq:
			e.row, p.stored = v.Seq, false // it goes with its entry
		default: // of a time when this store was not shared: written again
			k.next.EndedEntries = append(k.next.EndedEntries, v.Seq)
			e.parcel = &parcel{message: p.message, unsettled: 1}
			e.seq, e.state = k.number(), entryNew
			k.urgent = append(k.urgent, e)
		}
		e.parcel.refs++
		k.entries++
		list = append(list, outgoing{message: p.message, entry: e, until: v.Until, retain: v.Retain})
	}
	for _, p := range parcels {
		k.unref(p) // deletes those that nobody waits for
	}
	k.hurry()
	return list
}

// release forgets an entry that is another node's now, and leaves it in the store. nil is ignored.
func (k *keeper) release(e *entry) {
	if e == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if e.state == entryEnded {
		return
	}
	e.state = entryEnded
	k.entries--
	k.unref(e.parcel)
}

func (k *keeper) hurry() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// begin returns a parcel that entries can be added to until end. done is called
// once the message is durable, or acknowledged, wherever it has to be; it may be
// nil, must not block, and may be called with the locks of sessions held.
func (k *keeper) begin(m *Message, done func()) *parcel {
	return &parcel{message: m, done: done, refs: 1, unsettled: 1}
}

// end says that no more entries will be added.
func (k *keeper) end(p *parcel) {
	k.mu.Lock()
	k.unref(p)
	done := k.settle(p)
	k.mu.Unlock()
	call(done)
}

// add puts the parcel's message into the queue of an owner: at once, or after
// the grace if it is on its way to its client. It returns nil if the bounds of
// all queues together do not allow it.
func (k *keeper) add(p *parcel, owner int64, retain bool, until time.Time, sent bool) *entry {
	k.mu.Lock()
	defer k.mu.Unlock()
	size := 0
	if p.bytes == 0 {
		size = len(p.message.Topic) + len(p.message.Payload)
	}
	if k.entries >= k.maxEntries || k.bytes+size > k.maxBytes {
		return nil
	}
	e := &entry{parcel: p, seq: k.number(), owner: owner, until: until, retain: retain}
	k.entries++
	k.bytes += size
	p.bytes += size
	p.refs++
	if k.store == nil {
		e.state = entryStored
		return e
	}
	p.unsettled++
	if sent {
		k.later = append(k.later, delayed{e, time.Now().Add(graceToAcknowledge)})
		if len(k.later) == 1 {
			k.hurry()
		}
	} else {
		k.urgent = append(k.urgent, e)
		k.hurry()
	}
	return e
}

// drop ends an entry: its client has the message, or never will. nil is ignored.
func (k *keeper) drop(e *entry) {
	if e == nil {
		return
	}
	k.mu.Lock()
	var done func()
	switch e.state {
	case entryNew:
		done = k.settle(e.parcel)
	case entryWriting:
		done = k.settle(e.parcel)
		k.unstore(e)
	case entryStored:
		if k.store != nil {
			k.unstore(e)
		}
	case entryEnded:
		k.mu.Unlock()
		return
	}
	e.state = entryEnded
	k.entries--
	k.unref(e.parcel)
	if len(k.next.EndedEntries) > 0 {
		k.hurry()
	}
	k.mu.Unlock()
	call(done)
}

// unstore deletes an entry in the store, with its message if that is its own.
func (k *keeper) unstore(e *entry) {
	k.next.EndedEntries = append(k.next.EndedEntries, e.seq)
	if e.row != 0 {
		k.next.EndedMessages = append(k.next.EndedMessages, e.row)
	}
}

func (k *keeper) unref(p *parcel) {
	if p.refs--; p.refs > 0 {
		return
	}
	k.bytes -= p.bytes
	if p.stored {
		k.next.EndedMessages = append(k.next.EndedMessages, p.key)
	}
}

func (k *keeper) settle(p *parcel) (done func()) {
	p.unsettled--
	if p.unsettled == 0 {
		return p.done
	}
	return nil
}

func call(f func()) {
	if f != nil {
		f()
	}
}

// onSaved calls f after a Save that has all the changes so far but entries; at
// once if there is no store.
func (k *keeper) onSaved(f func()) {
	if k.store == nil {
		f()
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.waiters = append(k.waiters, f)
	k.hurry()
}

// sync waits for a Save like onSaved, but not longer than until given is closed.
func (k *keeper) sync(given <-chan struct{}) {
	saved := make(chan struct{})
	k.onSaved(func() { close(saved) })
	select {
	case <-saved:
	case <-given:
	}
}

// settled returns a channel that is closed when all entries that there are now
// have settled.
func (k *keeper) settled() <-chan struct{} {
	settled := make(chan struct{})
	if k.store == nil {
		close(settled)
		return settled
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	// An entry without an owner is never stored; it waits behind all others.
	p := &parcel{done: func() { close(settled) }, refs: 1, unsettled: 1}
	k.later = append(k.later, delayed{&entry{parcel: p}, time.Now().Add(graceToAcknowledge)})
	k.hurry()
	return settled
}

func (k *keeper) putSession(s StoredSession) {
	if k.store == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.session[s.Key] = s
	k.hurry()
}

func (k *keeper) endSession(key int64, client string) {
	if k.store == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.session, key)
	k.next.EndedSessions = append(k.next.EndedSessions, key)
	k.parting[client]++
	k.parted = append(k.parted, client)
	k.hurry()
}

// releaseSession leaves a session to whoever adopts it.
func (k *keeper) releaseSession(key int64) {
	if k.store == nil || key == 0 {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.next.ReleasedSessions = append(k.next.ReleasedSessions, key)
	k.hurry()
}

// releaseWill leaves a will to whoever adopts it.
func (k *keeper) releaseWill(key int64) {
	if k.store == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.next.ReleasedWills = append(k.next.ReleasedWills, key)
	k.hurry()
}

func (k *keeper) putGroup(g StoredGroup) {
	if k.store == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.next.Groups = append(k.next.Groups, g)
	k.hurry()
}

func (k *keeper) endGroup(key int64) {
	if k.store == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.next.Groups = slices.DeleteFunc(k.next.Groups, func(g StoredGroup) bool { return g.Key == key })
	k.next.EndedGroups = append(k.next.EndedGroups, key)
	k.hurry()
}

// putRetained stores the retained message of a topic, or deletes it if r is nil.
// With a parcel, that waits for it.
func (k *keeper) putRetained(topic string, r *StoredRetained, p *parcel) {
	if k.store == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.retain[topic] = r
	if p != nil {
		p.unsettled++
		k.waiters = append(k.waiters, func() {
			k.mu.Lock()
			done := k.settle(p)
			k.mu.Unlock()
			call(done)
		})
	}
	k.hurry()
}

func (k *keeper) putWill(w StoredWill) {
	if k.store == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.wills[w.Key] = w
	k.hurry()
}

func (k *keeper) endWill(key int64) {
	if k.store == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.wills, key)
	k.next.EndedWills = append(k.next.EndedWills, key)
	k.ending++
	k.hurry()
}

// tellWill notes that the will of a client is published. end is to be called when it is safe.
func (k *keeper) tellWill(client string, key int64) (end func()) {
	told := make(chan struct{})
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.telling == nil {
		k.telling = map[string]chan struct{}{}
	}
	k.telling[client] = told
	return func() {
		k.endWill(key)
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.telling[client] == told {
			delete(k.telling, client)
		}
		close(told)
	}
}

// tells returns a channel that is closed when the client's will, which is published, is safe; nil if none is.
func (k *keeper) tells(client string) <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	if told := k.telling[client]; told != nil {
		return told
	}
	return nil
}

// behind reports whether the store has what has ended: wills, of whomever, or a session of the client.
func (k *keeper) behind(client string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ending > 0 || k.parting[client] > 0
}

// save is one Save: what it changes and who learns of it.
type save struct {
	changes Changes
	entries []*entry
	waiters []func()
	parted  []string // clients whose sessions end with it
}

// take returns what is to be saved now, nil if nothing is, and when to ask again:
// zero means after a wake-up. all does not wait for the grace of entries.
func (k *keeper) take(all bool) (s *save, again time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	var entries []*entry
	for len(k.urgent) > 0 && len(entries) < batchEntries {
		entries, k.urgent = k.write(entries, k.urgent[0]), k.urgent[1:]
	}
	for len(k.urgent) == 0 && len(k.later) > 0 && len(entries) < batchEntries {
		if head := k.later[0]; head.state == entryNew && !all && head.due.After(now) {
			again = head.due
			break
		}
		entries, k.later = k.write(entries, k.later[0].entry), k.later[1:]
	}
	if len(k.urgent) == 0 {
		k.urgent = nil // an idle keeper holds no memory for them
	}
	if len(k.later) == 0 {
		k.later = nil
	}
	c := &k.next
	for _, v := range k.session {
		c.Sessions = append(c.Sessions, v)
	}
	for topic, v := range k.retain {
		if v == nil {
			c.EndedRetained = append(c.EndedRetained, topic)
		} else {
			c.Retained = append(c.Retained, *v)
		}
	}
	for _, v := range k.wills {
		c.Wills = append(c.Wills, v)
	}
	clear(k.session)
	clear(k.retain)
	clear(k.wills)
	s = &save{changes: *c, entries: entries, waiters: k.waiters, parted: k.parted}
	k.next, k.waiters, k.parted = Changes{}, nil, nil
	if len(s.entries) == 0 && len(s.waiters) == 0 && s.changes.empty() {
		return nil, again
	}
	return s, again
}

// write adds an entry that has not ended to the Save that take makes.
func (k *keeper) write(entries []*entry, e *entry) []*entry {
	if e.state == entryEnded {
		return entries
	}
	e.state = entryWriting
	if e.owner != 0 {
		p, key := e.parcel, int64(0)
		switch {
		case k.node != 0: // sessions go to other nodes one by one, each with its messages
			e.row, key = e.seq, e.seq
			k.next.Messages = append(k.next.Messages, StoredMessage{key, *p.message})
		case !p.stored:
			p.key, p.stored = k.number(), true
			k.next.Messages = append(k.next.Messages, StoredMessage{p.key, *p.message})
			fallthrough
		default:
			key = p.key
		}
		k.next.Entries = append(k.next.Entries, StoredEntry{e.seq, e.owner, key, e.retain, e.until})
	}
	return append(entries, e)
}

func (c *Changes) empty() bool {
	return len(c.ReleasedSessions)+len(c.ReleasedWills)+len(c.EndedSessions)+len(c.EndedGroups)+len(c.EndedEntries)+len(c.EndedMessages)+len(c.EndedRetained)+len(c.EndedWills)+
		len(c.Sessions)+len(c.Groups)+len(c.Messages)+len(c.Entries)+len(c.Retained)+len(c.Wills) == 0
}

// run saves what there is to save until close.
func (k *keeper) run() {
	defer close(k.ended)
	for {
		s, again := k.take(false)
		if s != nil {
			k.commit(s)
			continue
		}
		var timer <-chan time.Time
		if !again.IsZero() {
			timer = time.After(time.Until(again))
		}
		select {
		case <-k.wake:
		case <-timer:
		case <-k.closing:
			for s, _ := k.take(true); s != nil && k.err == nil; s, _ = k.take(true) {
				k.commit(s)
			}
			return
		}
	}
}

// commit saves, again and again until it succeeds or close gives up, and tells
// those who wait.
func (k *keeper) commit(s *save) {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 10*time.Second) {
		if k.err = k.store.Save(context.Background(), &s.changes); k.err == nil {
			break
		}
		k.log.Error("sessions and messages not saved", "err", k.err, "retry", wait)
		k.mu.Lock()
		k.fails++
		k.mu.Unlock()
		select {
		case <-time.After(wait):
		case <-k.closing:
			return
		}
	}
	var done []func()
	k.mu.Lock()
	k.written += uint64(len(s.changes.Entries))
	k.ending -= len(s.changes.EndedWills)
	for _, client := range s.parted {
		if k.parting[client]--; k.parting[client] == 0 {
			delete(k.parting, client)
		}
	}
	for _, e := range s.entries {
		if e.state != entryWriting {
			continue // ended meanwhile
		}
		e.state = entryStored
		if f := k.settle(e.parcel); f != nil {
			done = append(done, f)
		}
	}
	k.mu.Unlock()
	for _, f := range done {
		f()
	}
	for _, f := range s.waiters {
		f()
	}
}

// close saves what there is and returns the error of the last Save.
func (k *keeper) close() error {
	if k.store == nil {
		return nil
	}
	select {
	case <-k.closing:
	default:
		close(k.closing)
	}
	<-k.ended
	return k.err
}
