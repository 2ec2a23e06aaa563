// Package store is the seam between drover and its database: what the engine and the
// registry need kept, and nothing about how. storetest is the suite that every
// implementation passes; sqlstore is the implementation.
//
// A change is one transaction: Update. What is written in it is durable when Update
// returns nil. What must be told to the world is a journal record, appended in the same
// transaction; after the commit the records are handed to the Committed hook, in the
// order of the commits. Nothing else leaves a transaction.
//
// Several processes may work on one database at a time, if the implementation says so. Each is a
// node: it has a number, which is in the records that it appends, and a lease that it renews. Times
// of leases are of the database's clock.
//
// All lists are pages: at most limit items after a key, in an order that the method
// states; a page shorter than limit is the last. Text is ordered bytewise everywhere.
package store

import (
	"context"
	"errors"

	"drover/internal/iot"
)

// ErrNotFound is returned by methods that look for one thing and find none.
var ErrNotFound = errors.New("store: not found")

// Absent turns ErrNotFound into a NotFound error about something by its name, and leaves other errors alone.
func Absent(err error, what string, name any) error {
	if errors.Is(err, ErrNotFound) {
		return iot.Errorf(iot.NotFound, "%s %v cannot be found.", what, name)
	}
	return err
}

// ErrExists is returned by methods that insert a name that is taken.
var ErrExists = errors.New("store: exists")

// ErrUnavailable is wrapped by the error of an Update that has certainly not been committed, and
// of a View, because the database cannot be reached or does not work now: later it may.
var ErrUnavailable error = iot.Errorf(iot.Unavailable, "The database is not available")

// ErrUnknown is wrapped by the error of an Update of which nobody knows whether it has been
// committed: the answer got lost, and the database could not be asked for a while. If it has, its
// records are handed to the Committed hook as soon as that is known, before any later ones.
var ErrUnknown error = iot.Errorf(iot.Unavailable, "The database has not said whether the change was made")

// ErrFenced is returned by every Update of a process that has been declared dead (Nodes): nothing that
// it does counts any more.
var ErrFenced error = iot.Errorf(iot.Unavailable, "This server is no node of the database any more")

// FirstNode is the number of the only node of a database that one process at a time works on.
const FirstNode = 1

// Store is a database.
type Store interface {
	// Update runs f in a transaction that reads its own writes, and commits it unless f
	// fails. Two Updates that touch the same rows never run at the same time. The records
	// that f appended are handed to the Committed hook before Update returns.
	//
	// f may run more than once, each time in a transaction of its own of which nothing is left
	// but the last: if another process was in the way, or the connection was lost. So what f
	// leaves outside of the transaction it sets anew each time, and does not add to.
	//
	// After a writing method has failed, ErrExists and ErrNotFound included, a part of it
	// may have been done: the transaction can only be given up, and is not committed even
	// if f succeeds. An error of f is returned as it is. ctx counts until f starts.
	//
	// ErrUnavailable, ErrUnknown and ErrFenced, where the database is another process.
	Update(ctx context.Context, f func(Tx) error) error
	// View runs f on a snapshot of what is committed.
	View(ctx context.Context, f func(Reader) error) error
	// OnCommit sets the hook that receives the records of every commit, also if there are
	// none, in the order of the commits, with IDs set. It is called with the commit order locked and must not
	// block for long, nor call the store. Set it before the first Update.
	OnCommit(hook func([]iot.Record))
	// Node returns the number of this process among the nodes. No other process has it or has had
	// it, unless it is FirstNode.
	Node() int64
	// Hold waits until no other process can have taken this one for dead, which is nearly always
	// so at once. ErrFenced, and that of ctx.
	Hold(ctx context.Context) error
	// Lost is closed when this process has been declared dead: it should end.
	Lost() <-chan struct{}
	// Close ends all work; running transactions are finished first.
	Close() error
}

// Reader is what a transaction can read.
type Reader interface {
	QueueReader
	ExecutionReader
	JobReader
	DownloadReader
	TemplateReader
	ThingReader
	GroupReader
	CertificateReader
	AuthorizerReader
	ProvisioningReader
	PolicyReader
	BillingReader
	StreamReader
	OTAReader
	CommandReader
	PackageReader
	ShadowReader
	KeyReader
	UserReader
	TagReader
	JournalReader
	NodeReader
	MQTTReader
	IndexReader
}

// Tx is what a transaction can read and change.
type Tx interface {
	Reader
	QueueWriter
	ExecutionWriter
	JobWriter
	DownloadWriter
	TemplateWriter
	ThingWriter
	GroupWriter
	CertificateWriter
	AuthorizerWriter
	ProvisioningWriter
	PolicyWriter
	BillingWriter
	StreamWriter
	OTAWriter
	CommandWriter
	PackageWriter
	ShadowWriter
	KeyWriter
	UserWriter
	TagWriter
	JournalWriter
	NodeWriter
	MQTTWriter
	IndexWriter

	// Sequence takes n numbers that have never been taken before and returns the first;
	// later transactions get higher ones.
	Sequence(n int) (int64, error)
	// AfterCommit runs f after the commit and before the Committed hook, under the same
	// rules as the hook. It is how answers leave before the notices they cause.
	AfterCommit(f func())
}

// QueueReader reads the queues of things.
type QueueReader interface {
	// Queues returns the queues of the named things, in the order asked for. The ThingID
	// of a name that is not registered is zero. Names may repeat.
	Queues(things []iot.ThingName) ([]iot.Queue, error)
	// QueuesByID returns the queues of things, deleted ones included, in the order asked for.
	QueuesByID(things []int64) ([]iot.Queue, error)
	// QueuesOf returns the queues of things whose ids and names the caller has from this transaction.
	QueuesOf(members []iot.Member) ([]iot.Queue, error)
}

// QueueWriter changes queues.
type QueueWriter interface {
	// SaveQueues stores the queues as they are now.
	SaveQueues(queues []iot.Queue) error
}

// ExecutionKey is the key of an execution in the store.
type ExecutionKey struct{ Job, Seq int64 }

// ExecutionReader reads executions, pending and ended. What a pending execution's queue
// knows better (version, details, last update, deadlines) is merged in by every method.
type ExecutionReader interface {
	// Execution finds the execution of the job on the thing by number, or the latest one
	// if number is zero. ErrNotFound.
	Execution(job, thing, number int64) (iot.Execution, error)
	// LatestExecutions returns the latest execution of the job on each of the things that
	// has one, by thing.
	LatestExecutions(job int64, things []int64) (map[int64]iot.Execution, error)
	// ExecutionsOfJob lists by Seq, ascending, those after the given one; status NoStatus = all.
	ExecutionsOfJob(job int64, status iot.ExecutionStatus, after int64, limit int) ([]iot.Execution, error)
	// ExecutionsOfThing lists by Seq, descending, those before the given one (0 = from the
	// newest).
	ExecutionsOfThing(thing int64, f ThingFilter, before int64, limit int) ([]iot.Execution, error)
	// HasExecutions reports whether any execution of the thing is kept.
	HasExecutions(thing int64) (bool, error)
	// DueExecutions returns executions that time out not after now, the longest due first:
	// those that were stored with a DueAt of at most now. Others cost nothing.
	DueExecutions(now iot.Time, limit int) ([]iot.Execution, error)
	// NextDueExecution returns the earliest DueAt of an execution, zero if none has any.
	NextDueExecution() (iot.Time, error)
}

// ThingFilter narrows ExecutionsOfThing; zero fields do not.
type ThingFilter struct {
	Status    iot.ExecutionStatus
	Job       int64
	Namespace *string
}

// ExecutionWriter changes executions.
type ExecutionWriter interface {
	// InsertExecutions stores new executions. ErrExists if one of the numbers is taken.
	InsertExecutions(executions []iot.Execution) error
	// UpdateExecutions stores the executions' status and all that changes with it. Progress
	// of a pending execution lives in its queue and needs no call, unless DueAt changes:
	// the deadlines live in the queue, too, but what is due is found by what is stored here.
	// ErrNotFound.
	UpdateExecutions(executions []iot.Execution) error
	// DeleteExecutions forgets executions. Absent ones are ignored.
	DeleteExecutions(keys []ExecutionKey) error
}

// JobFilter narrows Jobs; zero fields do not.
type JobFilter struct {
	Status    iot.JobStatus
	Selection iot.Selection
	Group     int64 // jobs that have the group as a target
	Namespace *string
}

// JobKey is the place of a job in the list of jobs: by status as iot.JobStatuses has
// them, inside one status the newest first. The zero JobKey is before the first.
type JobKey struct {
	Status iot.JobStatus
	ID     int64
}

// JobReader reads jobs. Documents are read by JobDocument only.
type JobReader interface {
	// JobByName finds a job by the name that its user gave it. ErrNotFound.
	JobByName(id iot.JobID) (*iot.Job, error)
	// JobsByID returns the jobs that exist, by internal id.
	JobsByID(ids []int64) (map[int64]*iot.Job, error)
	// JobDocument returns the document of a job. ErrNotFound.
	JobDocument(job int64) (string, error)
	// Jobs lists the jobs after a key.
	Jobs(f JobFilter, after JobKey, limit int) ([]*iot.Job, error)
	// CountJobs returns how many jobs have the status.
	CountJobs(status iot.JobStatus) (int, error)
	// CountActive returns how many jobs are IN_PROGRESS or SCHEDULED.
	CountActive() (int, error)
	// CountConcurrent returns how many jobs have executions created or canceled just now.
	CountConcurrent() (int, error)
	// DueJobs returns jobs, in a phase or not, whose DueAt is not zero and not after now, the
	// longest due first.
	DueJobs(now iot.Time, limit int) ([]*iot.Job, error)
	// NextDue returns the earliest DueAt of a job, zero if none has any.
	NextDue() (iot.Time, error)
	// EndedJobs returns jobs that are COMPLETED or CANCELED, have nothing left to do and were
	// last updated before a time, the longest ago first.
	EndedJobs(before iot.Time, limit int) ([]*iot.Job, error)
	// ContinuousJobs returns the continuous jobs IN_PROGRESS that have one of the groups
	// as a target, by ID.
	ContinuousJobs(groups []int64) ([]*iot.Job, error)
	// JobTotals lists the statuses and counts of the jobs after an ID, by ID.
	JobTotals(after int64, limit int) ([]JobTotal, error)
	// SnapshotRollouts returns the snapshot jobs in PhaseRollout that have one of the
	// groups as a target, by ID.
	SnapshotRollouts(groups []int64) ([]*iot.Job, error)
}

// CountDelta changes the counts of a job.
type CountDelta struct {
	Job      int64
	Delta    iot.Counts // of Job.Counts
	Executed iot.Counts // of Job.Executed, which is kept of statuses that are Executed only
}

// JobTotal is how far a job is.
type JobTotal struct {
	ID     int64
	Status iot.JobStatus
	Counts iot.Counts
}

// JobCounts is the counts of a job.
type JobCounts struct{ Counts, Executed iot.Counts }

// JobWriter changes jobs.
type JobWriter interface {
	// InsertJob stores a new job with its targets and document, and sets its ID. ErrExists.
	InsertJob(job *iot.Job) error
	// SaveJob stores everything that can change in a job, except Counts and Executed;
	// namespace, schedule, package versions, template and parameters never do; targets can only
	// be appended. ErrNotFound.
	SaveJob(job *iot.Job) error
	// AddCounts applies the deltas, one per job, and returns the counts after each. That of
	// NoStatus is not kept; none may fall below zero. ErrNotFound.
	AddCounts(deltas []CountDelta) ([]JobCounts, error)
	// HastenJobs sets DueAt of all jobs in a phase that are due later than now to now.
	HastenJobs(now iot.Time) error
	// DeleteJob forgets a job that has no executions left, with targets and document.
	DeleteJob(job *iot.Job) error
}

// DownloadReader reads what devices have fetched.
type DownloadReader interface {
	// Downloads returns what has been fetched for a job, zero if nothing.
	Downloads(job int64) (iot.Downloads, error)
}

// DownloadWriter changes what devices have fetched.
type DownloadWriter interface {
	// AddDownloads adds what was fetched for a job, whatever the Job of the list says. A thing
	// may be in the list once; it is counted once, unless all it got was refused.
	AddDownloads(job int64, list []iot.Download) error
	// DeleteDownloads forgets what was fetched for a job, in steps: the sums, and which of its
	// things are counted, at most limit of them. It returns how many of these.
	DeleteDownloads(job int64, limit int) (int, error)
}

// TemplateReader reads the job templates of users.
type TemplateReader interface {
	// TemplateByID finds a template by the name that its user gave it. ErrNotFound.
	TemplateByID(id string) (*iot.Template, error)
	// Templates lists by ID, descending, those before the given one (0 = from the newest),
	// without their documents.
	Templates(before int64, limit int) ([]*iot.Template, error)
	// CountTemplates returns how many there are.
	CountTemplates() (int, error)
}

// TemplateWriter changes the job templates of users.
type TemplateWriter interface {
	// InsertTemplate stores a new template and sets its ID. ErrExists.
	InsertTemplate(t *iot.Template) error
	// DeleteTemplate forgets a template.
	DeleteTemplate(t *iot.Template) error
}

// ThingQuery narrows Things; zero fields do not.
type ThingQuery struct {
	Type           string
	AttributeName  string
	AttributeValue *string
	Prefix         bool // AttributeValue is a prefix
}

// ThingReader reads things and thing types. Deleted things are not seen.
type ThingReader interface {
	// ThingByName finds a thing. ErrNotFound.
	ThingByName(name iot.ThingName) (*iot.Thing, error)
	// ThingID returns the internal id of a name, also of a deleted thing whose executions
	// are kept. ErrNotFound.
	ThingID(name iot.ThingName) (int64, error)
	// ThingsByName returns the things that exist among the names.
	ThingsByName(names []iot.ThingName) (map[iot.ThingName]*iot.Thing, error)
	// Things lists by name. A filter by attribute looks at a bounded number of things per
	// page: the page may then be short, even empty, and more tells whether to go on after
	// next.
	Things(q ThingQuery, after iot.ThingName, limit int) (things []*iot.Thing, next iot.ThingName, more bool, err error)
	// ThingTypeByName finds a type. ErrNotFound.
	ThingTypeByName(name string) (*iot.ThingType, error)
	// ThingTypes lists by name.
	ThingTypes(after string, limit int) ([]*iot.ThingType, error)
	// TypeInUse reports whether a thing has the type.
	TypeInUse(name string) (bool, error)
}

// ThingWriter changes things and thing types.
type ThingWriter interface {
	// InsertThings stores new things and sets their IDs: a name that existed before gets
	// its former ID. ErrExists if one of the names exists.
	InsertThings(things []*iot.Thing) error
	// SaveThings stores type, attributes and version of things. ErrNotFound.
	SaveThings(things []*iot.Thing) error
	// DeleteThing forgets a thing and its memberships; its name stays bound to its ID as
	// long as executions of it are kept. ErrNotFound.
	DeleteThing(thing *iot.Thing) error
	// InsertThingType stores a new type and sets its ID. ErrExists.
	InsertThingType(t *iot.ThingType) error
	// SaveThingType stores what can change in a type. ErrNotFound.
	SaveThingType(t *iot.ThingType) error
	// DeleteThingType forgets a type.
	DeleteThingType(t *iot.ThingType) error
}

// GroupQuery narrows Groups; zero fields do not.
type GroupQuery struct {
	Prefix string
	Within []int64 // only these groups; nil = all
	Roots  bool    // only groups without a parent
}

// GroupReader reads groups and memberships.
type GroupReader interface {
	// GroupByName finds a group. ErrNotFound.
	GroupByName(name iot.GroupName) (*iot.Group, error)
	// GroupByUUID finds a group by its thingGroupId. ErrNotFound.
	GroupByUUID(uuid string) (*iot.Group, error)
	// GroupsByID returns the groups that exist, by ID.
	GroupsByID(ids []int64) (map[int64]*iot.Group, error)
	// Groups lists by name.
	Groups(q GroupQuery, after iot.GroupName, limit int) ([]*iot.Group, error)
	// DynamicGroups returns all dynamic groups, the oldest first.
	DynamicGroups() ([]*iot.Group, error)
	// Ancestors returns the chain of parents from the group's own parent to the root.
	Ancestors(group int64) ([]*iot.Group, error)
	// Descendants returns the group itself and everything below it, ordered by ID.
	Descendants(group int64) ([]int64, error)
	// Children returns the direct children, ordered by name.
	Children(group int64) ([]*iot.Group, error)
	// GroupsOfThing returns the groups that the thing is a direct member of, by name.
	GroupsOfThing(thing int64) ([]*iot.Group, error)
	// Member returns one membership. ErrNotFound.
	Member(group, thing int64) (iot.Member, error)
	// Members lists the direct members of a group by thing name.
	Members(group int64, after iot.ThingName, limit int) ([]iot.Member, error)
}

// GroupWriter changes groups and memberships.
type GroupWriter interface {
	// InsertGroup stores a new group and sets its ID. ErrExists.
	InsertGroup(g *iot.Group) error
	// SaveGroup stores what can change in a group. ErrNotFound.
	SaveGroup(g *iot.Group) error
	// DeleteGroup forgets a group without children and its memberships.
	DeleteGroup(g *iot.Group) error
	// InsertMembers stores memberships, with Seq as given; those that exist are ignored.
	// It returns the ones that are new.
	InsertMembers(members []iot.Member) ([]iot.Member, error)
	// DeleteMember ends a membership and reports whether there was one.
	DeleteMember(group, thing int64) (bool, error)
}

// CertificateQuery narrows Certificates; zero fields do not.
type CertificateQuery struct {
	CA        iot.CertificateID // registered under this one
	Ascending bool              // the oldest first; otherwise the newest
}

// CAQuery narrows CACertificates; zero fields do not.
type CAQuery struct {
	TemplateName string // those whose devices are provisioned by the template
	Ascending    bool
}

// PrincipalQuery narrows the lists of attachments; zero fields do not.
type PrincipalQuery struct {
	Exclusive    bool // only exclusive ones
	NonExclusive bool // only others
}

// CertificateReader reads certificates, CA certificates and their attachments to things.
type CertificateReader interface {
	// CertificateByID finds a client certificate. ErrNotFound.
	CertificateByID(id iot.CertificateID) (*iot.Certificate, error)
	// Certificates lists by Seq those beyond the given one (0 = from the first or the newest).
	Certificates(q CertificateQuery, after int64, limit int) ([]*iot.Certificate, error)
	// KeyRevoked reports whether a certificate with the key is REVOKED.
	KeyRevoked(key string) (bool, error)
	// CACertificateByID finds a CA certificate. ErrNotFound.
	CACertificateByID(id iot.CertificateID) (*iot.CACertificate, error)
	// CACertificatesBySubject returns those that have the subject, by Seq.
	CACertificatesBySubject(subject []byte) ([]*iot.CACertificate, error)
	// CACertificates lists by Seq those beyond the given one (0 = from the first or the newest).
	CACertificates(q CAQuery, after int64, limit int) ([]*iot.CACertificate, error)
	// RegistrationCode returns what SaveRegistrationCode stored. ErrNotFound.
	RegistrationCode() (string, error)
	// ThingPrincipal returns one attachment. ErrNotFound.
	ThingPrincipal(thing int64, id iot.CertificateID) (iot.ThingPrincipal, error)
	// PrincipalsOfThing lists what is attached to the thing, by certificate.
	PrincipalsOfThing(thing int64, q PrincipalQuery, after iot.CertificateID, limit int) ([]iot.ThingPrincipal, error)
	// ThingsOfPrincipal lists what the certificate is attached to, by the name of the thing.
	ThingsOfPrincipal(id iot.CertificateID, q PrincipalQuery, after iot.ThingName, limit int) ([]iot.ThingPrincipal, error)
}

// CertificateWriter changes certificates, CA certificates and their attachments.
type CertificateWriter interface {
	// InsertCertificate stores a new certificate and sets its Seq. ErrExists.
	InsertCertificate(c *iot.Certificate) error
	// SaveCertificate stores status, version and when it was modified. ErrNotFound.
	SaveCertificate(c *iot.Certificate) error
	// DeleteCertificate forgets a certificate that is attached to nothing.
	DeleteCertificate(c *iot.Certificate) error
	// InsertCACertificate stores a new CA certificate and sets its Seq. ErrExists.
	InsertCACertificate(c *iot.CACertificate) error
	// SaveCACertificate stores what can change in a CA certificate. ErrNotFound.
	SaveCACertificate(c *iot.CACertificate) error
	// DeleteCACertificate forgets a CA certificate; what it signed stays.
	DeleteCACertificate(c *iot.CACertificate) error
	// SaveRegistrationCode stores the code of the account, "" for none.
	SaveRegistrationCode(code string) error
	// InsertThingPrincipal stores an attachment. ErrExists if the two are attached.
	InsertThingPrincipal(p iot.ThingPrincipal) error
	// DeleteThingPrincipal ends an attachment and reports whether there was one.
	DeleteThingPrincipal(thing int64, id iot.CertificateID) (bool, error)
}

// AuthorizerReader reads custom authorizers, of which there are few.
type AuthorizerReader interface {
	// AuthorizerByName finds an authorizer. ErrNotFound.
	AuthorizerByName(name string) (*iot.Authorizer, error)
	// Authorizers returns all of them, by Seq.
	Authorizers() ([]*iot.Authorizer, error)
	// DefaultAuthorizer returns the name of the default one. ErrNotFound.
	DefaultAuthorizer() (string, error)
}

// AuthorizerWriter changes custom authorizers.
type AuthorizerWriter interface {
	// InsertAuthorizer stores a new authorizer and sets its Seq. ErrExists.
	InsertAuthorizer(a *iot.Authorizer) error
	// SaveAuthorizer stores what can change in an authorizer. ErrNotFound.
	SaveAuthorizer(a *iot.Authorizer) error
	// DeleteAuthorizer forgets an authorizer.
	DeleteAuthorizer(a *iot.Authorizer) error
	// SaveDefaultAuthorizer stores the name of the default one, "" for none.
	SaveDefaultAuthorizer(name string) error
}

// ProvisioningReader reads provisioning templates, and what is known of devices that are being
// provisioned.
type ProvisioningReader interface {
	// ProvisioningTemplate finds a template. ErrNotFound.
	ProvisioningTemplate(name string) (*iot.ProvisioningTemplate, error)
	// ProvisioningTemplates lists by name.
	ProvisioningTemplates(after string, limit int) ([]*iot.ProvisioningTemplate, error)
	// ProvisioningVersion finds a version of a template. ErrNotFound.
	ProvisioningVersion(template string, id int64) (iot.ProvisioningVersion, error)
	// ProvisioningVersions returns the few versions of a template, by ID, without their bodies.
	ProvisioningVersions(template string) ([]iot.ProvisioningVersion, error)
	// Ownership finds what a token proves, by its hash. ErrNotFound.
	Ownership(hash string) (iot.Ownership, error)
	// ExpiredOwnerships returns some that expired not after now, the first to expire first.
	ExpiredOwnerships(now iot.Time, limit int) ([]iot.Ownership, error)
	// Claim finds the claim that a certificate is. ErrNotFound.
	Claim(id iot.CertificateID) (iot.Claim, error)
}

// ProvisioningWriter changes provisioning templates and the like.
type ProvisioningWriter interface {
	// InsertProvisioningTemplate stores a new template. ErrExists.
	InsertProvisioningTemplate(t *iot.ProvisioningTemplate) error
	// SaveProvisioningTemplate stores what can change in a template. ErrNotFound.
	SaveProvisioningTemplate(t *iot.ProvisioningTemplate) error
	// DeleteProvisioningTemplate forgets a template and its versions.
	DeleteProvisioningTemplate(name string) error
	// InsertProvisioningVersion stores a new version. ErrExists.
	InsertProvisioningVersion(v iot.ProvisioningVersion) error
	// DeleteProvisioningVersion forgets a version.
	DeleteProvisioningVersion(template string, id int64) error
	// InsertOwnership stores what a token proves.
	InsertOwnership(o iot.Ownership) error
	// DeleteOwnership forgets a token and reports whether it was known.
	DeleteOwnership(hash string) (bool, error)
	// InsertClaim stores a claim, and forgets those that expired before it was made.
	InsertClaim(c iot.Claim, now iot.Time) error
}

// PolicyReader reads policies, their versions and what they are attached to.
type PolicyReader interface {
	// PolicyByName finds a policy. ErrNotFound.
	PolicyByName(name iot.PolicyName) (*iot.Policy, error)
	// Policies lists by ID those beyond the given one (0 = from the first or the newest).
	Policies(ascending bool, after int64, limit int) ([]*iot.Policy, error)
	// PolicyVersion returns a version of a policy. ErrNotFound.
	PolicyVersion(policy int64, version int) (*iot.PolicyVersion, error)
	// PolicyVersions lists the versions of a policy, without their documents.
	PolicyVersions(policy int64) ([]*iot.PolicyVersion, error)
	// AttachedPolicies returns what is attached to at least one of the targets, by name.
	AttachedPolicies(targets []iot.PolicyTarget) ([]*iot.Policy, error)
	// PolicyTargets lists what the policy is attached to, by kind and name.
	PolicyTargets(policy int64, after iot.PolicyTarget, limit int) ([]iot.PolicyTarget, error)
}

// PolicyWriter changes policies.
type PolicyWriter interface {
	// InsertPolicy stores a new policy with its first version and sets its ID. ErrExists.
	InsertPolicy(p *iot.Policy, v *iot.PolicyVersion) error
	// SavePolicy stores Default, Latest and ModifiedAt. ErrNotFound.
	SavePolicy(p *iot.Policy) error
	// DeletePolicy forgets a policy that is attached to nothing, with all versions.
	DeletePolicy(p *iot.Policy) error
	// InsertPolicyVersion stores a version. ErrExists.
	InsertPolicyVersion(policy int64, v *iot.PolicyVersion) error
	// DeletePolicyVersion forgets a version.
	DeletePolicyVersion(policy int64, version int) error
	// AttachPolicy attaches a policy and reports whether it was not before.
	AttachPolicy(policy int64, target iot.PolicyTarget) (bool, error)
	// DetachPolicy ends an attachment and reports whether there was one.
	DetachPolicy(policy int64, target iot.PolicyTarget) (bool, error)
}

// BillingReader reads billing groups; which one a thing is in stands in iot.Thing.
type BillingReader interface {
	// BillingGroup finds a group. ErrNotFound.
	BillingGroup(name string) (*iot.BillingGroup, error)
	// BillingGroups lists by name those that have a prefix.
	BillingGroups(prefix, after string, limit int) ([]*iot.BillingGroup, error)
	// BillingMembers lists the things of a group by name.
	BillingMembers(group string, after iot.ThingName, limit int) ([]iot.ThingName, error)
}

// BillingWriter changes billing groups.
type BillingWriter interface {
	// InsertBillingGroup stores a new group. ErrExists.
	InsertBillingGroup(g *iot.BillingGroup) error
	// SaveBillingGroup stores version and description. ErrNotFound.
	SaveBillingGroup(g *iot.BillingGroup) error
	// DeleteBillingGroup forgets a group without members.
	DeleteBillingGroup(name string) error
	// SetBillingGroup puts a thing into a group, "" for none. ErrNotFound.
	SetBillingGroup(thing int64, group string) error
}

// StreamReader reads streams.
type StreamReader interface {
	// StreamByID finds a stream by the name that its user gave it. ErrNotFound.
	StreamByID(id string) (*iot.Stream, error)
	// Streams lists by Seq those beyond the given one (0 = from the first or the newest).
	Streams(ascending bool, after int64, limit int) ([]*iot.Stream, error)
}

// StreamWriter changes streams.
type StreamWriter interface {
	// InsertStream stores a new stream and sets its Seq. ErrExists.
	InsertStream(s *iot.Stream) error
	// SaveStream stores what can change in a stream. ErrNotFound.
	SaveStream(s *iot.Stream) error
	// DeleteStream forgets a stream.
	DeleteStream(s *iot.Stream) error
}

// OTAReader reads OTA updates.
type OTAReader interface {
	// OTAUpdateByID finds an update by the name that its user gave it. ErrNotFound.
	OTAUpdateByID(id string) (*iot.OTAUpdate, error)
	// OTAUpdates lists by Seq, descending, those before the given one (0 = from the newest); status
	// "" = all.
	OTAUpdates(status iot.OTAStatus, before int64, limit int) ([]*iot.OTAUpdate, error)
	// StreamInUse reports whether an update has its files in the stream.
	StreamInUse(stream string) (bool, error)
}

// OTAWriter changes OTA updates.
type OTAWriter interface {
	// InsertOTAUpdate stores a new update and sets its Seq. ErrExists.
	InsertOTAUpdate(u *iot.OTAUpdate) error
	// SaveOTAUpdate stores everything that can change in an update, which its stream cannot. ErrNotFound.
	SaveOTAUpdate(u *iot.OTAUpdate) error
	// DeleteOTAUpdate forgets an update.
	DeleteOTAUpdate(u *iot.OTAUpdate) error
}

// CommandKey is the place of an execution in a list that is sorted by a time.
type CommandKey struct {
	At  iot.Time
	Seq int64
}

// CommandReader reads commands and their executions.
type CommandReader interface {
	// CommandByID finds a command by the name that its user gave it. ErrNotFound.
	CommandByID(id string) (*iot.Command, error)
	// Commands lists by Seq those beyond the given one (0 = from the first or the newest), without their payloads,
	// and without those that wait for their deletion.
	Commands(ascending bool, after int64, limit int) ([]*iot.Command, error)
	// CommandsToDelete returns commands whose DeleteAt is not after now, without their payloads, the longest due first.
	CommandsToDelete(now iot.Time, limit int) ([]*iot.Command, error)
	// NextDueCommand returns the earliest DueAt of an execution or DeleteAt of a command, zero if there is none.
	NextDueCommand() (iot.Time, error)
	// CommandExecution finds an execution. ErrNotFound.
	CommandExecution(id string) (*iot.CommandExecution, error)
	// CommandExecutionByToken finds the execution that was started with a token. ErrNotFound.
	CommandExecutionByToken(token string) (*iot.CommandExecution, error)
	// CommandExecutions lists by the time that the query is about those beyond a key (zero: from the first).
	CommandExecutions(q iot.CommandExecutionQuery, after CommandKey, limit int) ([]*iot.CommandExecution, error)
	// RunningCommands returns how many executions of a target have a timer.
	RunningCommands(target string) (int, error)
	// DueCommandExecutions returns executions whose DueAt is not after now, the longest due first.
	DueCommandExecutions(now iot.Time, limit int) ([]*iot.CommandExecution, error)
}

// CommandWriter changes commands and their executions.
type CommandWriter interface {
	// InsertCommand stores a new command and sets its Seq. ErrExists.
	InsertCommand(c *iot.Command) error
	// SaveCommand stores what can change in a command, which its payload cannot. ErrNotFound.
	SaveCommand(c *iot.Command) error
	// DeleteCommand forgets a command; its executions stay.
	DeleteCommand(c *iot.Command) error
	// InsertCommandExecution stores a new execution and sets its Seq. ErrExists.
	InsertCommandExecution(x *iot.CommandExecution) error
	// SaveCommandExecution stores what can change in an execution. ErrNotFound.
	SaveCommandExecution(x *iot.CommandExecution) error
	// DeleteCommandExecution forgets an execution.
	DeleteCommandExecution(x *iot.CommandExecution) error
	// TrimCommandExecutions forgets executions that were created before a time, the oldest, at most limit of them. It
	// returns how many.
	TrimCommandExecutions(before iot.Time, limit int) (int, error)
}

// ClientToken is a request that has been carried out, by the token that its caller gave it.
type ClientToken struct {
	Token     string
	Request   string // what it asked for, as a hash
	Answer    string // JSON
	ExpiresAt iot.Time
}

// PackageReader reads the software package catalog, and what jobs do with it.
type PackageReader interface {
	// Package finds a package. ErrNotFound.
	Package(name string) (*iot.Package, error)
	// Packages lists by name.
	Packages(after string, limit int) ([]*iot.Package, error)
	// PackageVersion finds a version of a package. ErrNotFound.
	PackageVersion(pkg, version string) (*iot.PackageVersion, error)
	// PackageVersions lists by name the versions of a package; status "" = all.
	PackageVersions(pkg string, status iot.VersionStatus, after string, limit int) ([]*iot.PackageVersion, error)
	// PendingSBOMs returns versions whose SBOM is to be validated, the longest waiting first: those behind the
	// association given.
	PendingSBOMs(after int64, limit int) ([]*iot.PackageVersion, error)
	// PackageConfiguration returns what SavePackageConfiguration has saved last, the zero value before.
	PackageConfiguration() (iot.PackageConfiguration, error)
	// Deployment returns what a job with destinations came to when it started. ErrNotFound.
	Deployment(job int64) (iot.Deployment, error)
	// ClientToken finds a token that has not expired. ErrNotFound.
	ClientToken(token string, now iot.Time) (ClientToken, error)
}

// PackageWriter changes the software package catalog.
type PackageWriter interface {
	// InsertPackage stores a new package. ErrExists.
	InsertPackage(p *iot.Package) error
	// SavePackage stores what can change in a package. ErrNotFound.
	SavePackage(p *iot.Package) error
	// DeletePackage forgets a package without versions.
	DeletePackage(name string) error
	// InsertPackageVersion stores a new version. ErrExists.
	InsertPackageVersion(v *iot.PackageVersion) error
	// SavePackageVersion stores what can change in a version. ErrNotFound.
	SavePackageVersion(v *iot.PackageVersion) error
	// DeletePackageVersion forgets a version.
	DeletePackageVersion(pkg, version string) error
	// SavePackageConfiguration stores the configuration as a whole.
	SavePackageConfiguration(c iot.PackageConfiguration) error
	// SaveDeployment stores what a job came to. It goes with the job.
	SaveDeployment(job int64, d iot.Deployment) error
	// SaveClientToken stores a token, and forgets those that have expired.
	SaveClientToken(k ClientToken, now iot.Time) error
}

// Install says that a job has brought its package versions to a thing, whose shadow does not have them yet.
type Install struct {
	Seq        int64 // order, set by the store
	Thing, Job int64
}

// ShadowReader reads the shadows of things.
type ShadowReader interface {
	// Shadows returns the shadows of those of the things that have, or had, one. The names of the things are not in them.
	Shadows(things []int64) (map[int64]*iot.Shadow, error)
	// Installs returns those that are still to be done, in the order in which they were added.
	Installs(limit int) ([]Install, error)
}

// ShadowWriter changes the shadows of things. They go with the things.
type ShadowWriter interface {
	// SaveShadows stores shadows as they are now.
	SaveShadows(list []*iot.Shadow) error
	// AddInstalls stores what is to be done.
	AddInstalls(list []Install) error
	// DeleteInstalls forgets what has been done.
	DeleteInstalls(list []Install) error
}

// KeyReader reads API keys, of which there are few.
type KeyReader interface {
	// APIKeys returns all of them, by name.
	APIKeys() ([]iot.APIKey, error)
}

// KeyWriter changes API keys.
type KeyWriter interface {
	// InsertAPIKey stores a key. ErrExists if its id or its name is taken.
	InsertAPIKey(k iot.APIKey) error
	// DeleteAPIKey forgets a key and reports whether there was one.
	DeleteAPIKey(id string) (bool, error)
}

// UserReader reads the users of the console, of which there are few.
type UserReader interface {
	// Users returns all of them, by name.
	Users() ([]iot.User, error)
}

// UserWriter changes users of the console.
type UserWriter interface {
	// InsertUser stores a user. ErrExists if the name is taken.
	InsertUser(u iot.User) error
	// SaveUser stores what can change in a user, which the name cannot. ErrNotFound.
	SaveUser(u iot.User) error
	// DeleteUser forgets a user and reports whether there was one.
	DeleteUser(name string) (bool, error)
}

// TagReader reads tags and the event configuration.
type TagReader interface {
	// Tags returns the tags of a resource by key.
	Tags(arn string) ([]iot.Tag, error)
	// EventConfigurations returns which events are on; a type that is absent is off.
	EventConfigurations() (iot.EventConfigurations, error)
}

// TagWriter changes tags and the event configuration.
type TagWriter interface {
	// PutTags adds tags to a resource; a key that exists gets the new value.
	PutTags(arn string, tags []iot.Tag) error
	// DeleteTags removes tags; nil = all. Absent keys are ignored.
	DeleteTags(arn string, keys []string) error
	// SaveEventConfigurations stores the configuration as a whole.
	SaveEventConfigurations(c iot.EventConfigurations) error
}

// JournalReader reads the journal.
type JournalReader interface {
	// Records lists the records of a node after a position; those of all nodes if it is zero.
	Records(node, after int64, limit int) ([]iot.Record, error)
	// LastRecord returns the position of the last record, zero if there is none.
	LastRecord() (int64, error)
	// Published returns the position up to which all records of a node have been published.
	Published(node int64) (int64, error)
}

// JournalWriter appends to the journal.
type JournalWriter interface {
	// Append adds records of this node; their IDs are set when the transaction commits.
	Append(records ...iot.Record) error
	// SetPublished saves the position up to which all records of a node have been published.
	// ErrNotFound if there is no such node.
	SetPublished(node, position int64) error
	// TrimJournal forgets the oldest records, at most limit of them, as far as they are older than
	// a time and have been published. The latest of all stays. It returns how many.
	TrimJournal(before iot.Time, limit int) (int, error)
}

// Node is a process that works on the database, or that did and has left records to publish.
type Node struct {
	ID        int64
	Name      string
	Owner     int64 // the node that takes care of what it leaves: its own ID, unless it is dead
	Published int64
	Dead      bool // it has given no sign of life for so long that another may take over
}

// Announcement is what a node has told the others.
type Announcement struct {
	ID, Node int64
	Text     string
}

// NodeReader reads who works on the database.
type NodeReader interface {
	// Nodes returns all nodes, by ID.
	Nodes() ([]Node, error)
	// Announcements lists what nodes have announced after an ID, in the order of the commits. Those
	// that are made after this node has begun have IDs above its number.
	Announcements(after int64, limit int) ([]Announcement, error)
	// Agreement returns what nodes have to have in common, as it was saved. ErrNotFound.
	Agreement() (string, error)
}

// NodeWriter takes care of what dead nodes have left.
type NodeWriter interface {
	// SaveAgreement stores what nodes have to have in common.
	SaveAgreement(text string) error
	// TakeOver makes this process the owner of a node, and reports whether it is: only of one that
	// is dead can it become so, and it does not stay so if it dies itself. What the node has not
	// committed by then it cannot commit any more: ErrFenced.
	TakeOver(node int64) (bool, error)
	// RemoveNode forgets a node that this process is the owner of.
	RemoveNode(node int64) error
	// Announce tells all other nodes a text, when the transaction is committed.
	Announce(text string) error
	// ForgetAnnouncements forgets what was announced so long ago that all nodes have heard it.
	ForgetAnnouncements() error
}
