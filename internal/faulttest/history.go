// Package faulttest proves, after something has gone wrong, that nothing else did.
//
// Clients of a server, or of several on one database, write down what they asked for and what they
// were told: the History. When all is quiet again everything is read back: the State. Check
// compares the two, and says what is missing, what was done twice, and what does not add up.
// Plant spoils a history and a state in every way that Check is there to find.
//
// A Proxy stands between a server and what it depends on, and slows down or cuts what passes.
package faulttest

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// Outcome is what a client knows of a request.
type Outcome int

// The outcomes of requests.
const (
	Unanswered Outcome = iota // or answered with an error that does not say whether it was done
	Done
	Refused
)

// Op is a request of a device about an execution.
type Op struct {
	Thing, Job string // Job is "" for a start-next that was not answered
	// Step is a number that the device uses once, in statusDetails: a transition is recognised by it.
	Step    int
	Status  string // asked for, and reached if Done
	Outcome Outcome
	// Of the answer, if Done.
	Version int64
	// Found says that the answer is about what an earlier request has done, in Step: a start-next
	// finds what is in progress.
	Found bool
}

// Order is a request of the operator about a job.
type Order struct {
	Job     string
	Things  []string // that get it, if it was created
	Created Outcome
	// Canceled is Done only if the cancellation was answered; Asked if it was sent.
	Canceled Outcome
	Asked    bool
}

// Event is a message on $aws/events/…: about a job if Thing is "".
type Event struct{ Job, Thing, Status string }

// Message is one that a client publishes to all receivers, with QoS 1.
type Message struct {
	From string
	N    int // which of its messages
}

// History is what clients have seen. Its methods may be called concurrently.
type History struct {
	mu     sync.Mutex
	Ops    []Op // in the order in which each device sent them
	Orders []Order
	Events map[Event]int // how often each came
	// Told is the list of pending jobs in the last notice that each device got.
	Told map[string][]string
	told map[string]time.Time // when
	// Overtaken says that notices to one device may swap places: several nodes send them.
	Overtaken bool
	// Published says of each message whether it was acknowledged, Received by which of the receivers,
	// who have persistent sessions, each came.
	Published map[Message]bool
	Received  map[string]map[Message]bool
}

// NewHistory returns an empty one.
func NewHistory() *History {
	return &History{Events: map[Event]int{}, Told: map[string][]string{}, told: map[string]time.Time{}, Published: map[Message]bool{}, Received: map[string]map[Message]bool{}}
}

// Ask notes that a device sends a request, and returns what notes the answer.
func (h *History) Ask(op Op) (answered func(Op)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := len(h.Ops)
	h.Ops = append(h.Ops, op)
	return func(op Op) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.Ops[i] = op
	}
}

// Order notes that the operator creates a job, and returns what changes the note.
func (h *History) Order(o Order) (change func(func(*Order))) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := len(h.Orders)
	h.Orders = append(h.Orders, o)
	return func(f func(*Order)) {
		h.mu.Lock()
		defer h.mu.Unlock()
		f(&h.Orders[i])
	}
}

// Heard notes an event.
func (h *History) Heard(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Events[e]++
}

// Notice notes the list of pending jobs that a device was told.
func (h *History) Notice(thing string, pending []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Told[thing], h.told[thing] = pending, time.Now()
}

// LastNotice returns the list of pending jobs in the last notice that the device got, and when.
func (h *History) LastNotice(thing string) (pending []string, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.Told[thing], h.told[thing]
}

// Publish notes that a message is published, and returns what notes the acknowledgement.
func (h *History) Publish(m Message) (acknowledged func()) {
	note := func(acknowledged bool) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.Published[m] = acknowledged
	}
	note(false)
	return func() { note(true) }
}

// Receiver notes that from now on a client is to receive all messages.
func (h *History) Receiver(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Received[id] = map[Message]bool{}
}

// Receive notes that a message has come to a receiver.
func (h *History) Receive(id string, m Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Received[id][m] = true
}

// Answered counts the requests of devices that were answered.
func (h *History) Answered() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, op := range h.Ops {
		if op.Outcome != Unanswered {
			n++
		}
	}
	return n
}

// Orphaned is how many requests of the operator to create a job got no answer.
func (h *History) Orphaned() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range h.Orders {
		if o.Created == Unanswered {
			n++
		}
	}
	return n
}

// Unanswered counts those that were not, or not yet.
func (h *History) Unanswered() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, op := range h.Ops {
		if op.Outcome == Unanswered {
			n++
		}
	}
	return n
}

// Jobs returns the ids of all jobs that may be there.
func (h *History) Jobs() (ids []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range h.Orders {
		ids = append(ids, o.Job)
	}
	return ids
}

// Has reports whether an event was heard.
func (h *History) Has(e Event) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.Events[e] > 0
}

// TellsNothing reports whether the last notice of the device says that nothing is pending; one that
// never got a notice was told nothing either.
func (h *History) TellsNothing(thing string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.Told[thing]) == 0
}

func (h *History) clone() *History {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := &History{Overtaken: h.Overtaken, Ops: slices.Clone(h.Ops), Orders: slices.Clone(h.Orders), Events: maps.Clone(h.Events), Told: maps.Clone(h.Told),
		Published: maps.Clone(h.Published), Received: maps.Clone(h.Received)}
	for id, got := range c.Received {
		c.Received[id] = maps.Clone(got)
	}
	for i := range c.Orders {
		c.Orders[i].Things = slices.Clone(c.Orders[i].Things)
	}
	return c
}

// State is what is there in the end.
type State struct {
	Jobs       []Job
	Executions []Execution
	// Pending is what each device that is online still has to do.
	Pending map[string][]string
	Journal []Row
}

// Job is a job as DescribeJob has it.
type Job struct {
	ID, Status string
	Counts     map[string]int // by status, without zeros
}

// Execution is one as the API has it. Version is 0 if nobody looked.
type Execution struct {
	Job, Thing string
	Number     int64
	Status     string
	Version    int64
	Step       int
}

// Row is a row of the journal about a job, or about an execution if it has a Thing.
type Row struct {
	ID     int64
	Kind   string
	Job    string
	Thing  string
	Number int64
	// Of the execution after the transition.
	Status  string
	Version int64
	Step    int
}

func (s *State) clone() *State {
	c := &State{Jobs: slices.Clone(s.Jobs), Executions: slices.Clone(s.Executions), Pending: maps.Clone(s.Pending), Journal: slices.Clone(s.Journal)}
	for i := range c.Jobs {
		c.Jobs[i].Counts = maps.Clone(c.Jobs[i].Counts)
	}
	return c
}
