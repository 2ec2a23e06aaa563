package console

import (
	"context"
	"net/url"
	"time"

	"drover/internal/auth"
	"drover/internal/iot"
	"drover/internal/sso"
)

// Jobs is what pages ask of the job engine.
type Jobs interface {
	Job(context.Context, iot.JobID) (*iot.Job, error)
	JobDocument(context.Context, iot.JobID) (string, error)
	Jobs(context.Context, iot.JobQuery, iot.Page) (jobs []*iot.Job, next string, err error)
	JobExecutions(context.Context, iot.JobID, iot.ExecutionStatus, iot.Page) (executions []iot.Execution, next string, err error)
	ThingExecutions(context.Context, iot.ThingName, iot.ExecutionQuery, iot.Page) (executions []iot.Execution, next string, err error)
	Execution(ctx context.Context, thing iot.ThingName, job iot.JobID, number int64) (iot.Execution, error)
}

// Registry is what pages ask of the registry.
type Registry interface {
	Thing(context.Context, iot.ThingName) (*iot.Thing, error)
	Things(context.Context, iot.ThingQuery, iot.Page) (things []*iot.Thing, next string, err error)
	Indexing(context.Context) (iot.IndexState, error)
	Search(context.Context, iot.Search, iot.Page) (things []iot.FoundThing, groups []iot.FoundGroup, next string, err error)
	Group(context.Context, iot.GroupName) (group *iot.Group, ancestors []*iot.Group, err error)
	Groups(context.Context, iot.GroupQuery, iot.Page) (groups []*iot.Group, next string, err error)
	GroupsOfThing(context.Context, iot.ThingName, iot.Page) (groups []*iot.Group, next string, err error)
	Members(ctx context.Context, group iot.GroupName, recursive bool, page iot.Page) (things []iot.ThingName, next string, err error)
	Shadow(ctx context.Context, thing iot.ThingName, payload []byte) (document []byte, err error)
	PrincipalsOfThing(context.Context, iot.ThingName, iot.AttachmentQuery, iot.Page) (principals []iot.ThingPrincipal, next string, err error)
}

// Keys are the API keys, with which people sign in.
type Keys interface {
	Secret(accessKeyID string) (string, bool)
	Owner(accessKeyID string) (auth.Owner, bool)
}

// SSO signs people in at a provider of identities.
type SSO interface {
	// Name is what the provider is called.
	Name() string
	// Mark changes when sessions of its people are to end.
	Mark() string
	// Begin returns where the browser is to go, and what to remember until it comes back to callback.
	Begin(ctx context.Context, callback string) (to string, f sso.Flow, err error)
	// Finish returns who has come back; a *sso.Refusal is for him to read.
	Finish(ctx context.Context, f sso.Flow, query url.Values) (auth.Person, error)
}

// Fleet is what is known of connections and of the server itself.
type Fleet interface {
	Online() int // clients that are connected to this server
	Presence(clientID string) (Presence, bool)
	Health(context.Context) []Check
}

// Presence is whether a client is connected, and since when not.
type Presence struct {
	Connected bool
	Ended     time.Time
}

// Check is the state of a part of the server.
type Check struct {
	Name, Text string
	OK         bool
}

// Rehearsal is a job to be tried out on devices that do not exist.
type Rehearsal struct {
	Job     []byte // the request of CreateJob, JSON
	Things  int
	Success float64       // probability
	Work    time.Duration // of an execution on average
}

// Outcome is how a rehearsal went.
type Outcome struct {
	Status string
	Reason string // why it was aborted
	Took   time.Duration
	Points []Point // At counts from the start
}
