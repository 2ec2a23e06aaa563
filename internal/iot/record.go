package iot

import (
	"encoding/json"
	"fmt"
)

// Kind says what a record is about. The text is stored: never rename one.
type Kind string

// The kinds of records. Those of an execution carry the status it came to.
const (
	JobCreated         Kind = "job.created"
	JobUpdated         Kind = "job.updated"
	JobTargetsAdded    Kind = "job.targets_added"
	JobCancelStarted   Kind = "job.cancellation_in_progress"
	JobCancelDone      Kind = "job.canceled"
	JobDone            Kind = "job.completed"
	JobDeletionStarted Kind = "job.deletion_in_progress"
	JobDeleted         Kind = "job.deleted"
	JobScheduleMoved   Kind = "job.schedule" // it starts, waits for its next window, goes on, or comes to its end

	ExecutionChanged Kind = "execution.changed" // Execution.Status says to what
	ExecutionDeleted Kind = "execution.deleted"
	ExecutionWindow  Kind = "execution.window" // it is shown or hidden because a window opens or closes

	ThingCreated Kind = "thing.created"
	ThingUpdated Kind = "thing.updated"
	ThingDeleted Kind = "thing.deleted"

	// ThingsImported sums up an import. The things, types associated and members added in
	// it have records of their own only if events of their kind were switched on.
	ThingsImported Kind = "things.imported"

	TypeCreated     Kind = "type.created"
	TypeUpdated     Kind = "type.updated"
	TypeDeleted     Kind = "type.deleted"
	TypeAssociated  Kind = "type.associated"
	TypeDissociated Kind = "type.dissociated"

	GroupCreated Kind = "group.created"
	GroupUpdated Kind = "group.updated"
	GroupDeleted Kind = "group.deleted"
	ChildAdded   Kind = "group.child_added"
	ChildRemoved Kind = "group.child_removed"
	MemberAdded  Kind = "member.added"
	MemberGone   Kind = "member.removed"

	EventsConfigured Kind = "events.configured"

	CertificateCreated    Kind = "certificate.created" // or registered by its owner
	CertificateUpdated    Kind = "certificate.updated"
	CertificateDeleted    Kind = "certificate.deleted"
	CertificateIntroduced Kind = "certificate.introduced" // it came with a connection, and waits for its activation
	CACreated             Kind = "ca.created"
	CAUpdated             Kind = "ca.updated"
	CADeleted             Kind = "ca.deleted"
	PrincipalAttached     Kind = "principal.attached"
	PrincipalDetached     Kind = "principal.detached"

	AuthorizerCreated Kind = "authorizer.created"
	AuthorizerUpdated Kind = "authorizer.updated" // or made the default, or not any more
	AuthorizerDeleted Kind = "authorizer.deleted"

	ProvisioningCreated Kind = "provisioningtemplate.created"
	ProvisioningUpdated Kind = "provisioningtemplate.updated" // its versions, too
	ProvisioningDeleted Kind = "provisioningtemplate.deleted"
	ClaimCreated        Kind = "claim.created"
	Provisioned         Kind = "device.provisioned"

	PolicyCreated        Kind = "policy.created"
	PolicyDeleted        Kind = "policy.deleted"
	PolicyVersionCreated Kind = "policyVersion.created"
	PolicyVersionDeleted Kind = "policyVersion.deleted"
	PolicyVersionInForce Kind = "policyVersion.inForce"
	PolicyAttached       Kind = "policy.attached"
	PolicyDetached       Kind = "policy.detached"

	BillingCreated Kind = "billinggroup.created"
	BillingUpdated Kind = "billinggroup.updated"
	BillingDeleted Kind = "billinggroup.deleted"
	BillingJoined  Kind = "billinggroup.joined" // by a thing
	BillingLeft    Kind = "billinggroup.left"

	StreamCreated Kind = "stream.created"
	StreamUpdated Kind = "stream.updated"
	StreamDeleted Kind = "stream.deleted"

	OTACreated Kind = "otaupdate.created"
	OTAChanged Kind = "otaupdate.changed" // the status of its creation or deletion
	OTADeleted Kind = "otaupdate.deleted"

	CommandMade    Kind = "command.created"
	CommandUpdated Kind = "command.updated" // or it waits for its deletion
	CommandDeleted Kind = "command.deleted"

	CommandExecutionChanged Kind = "commandExecution.changed" // its status
	CommandExecutionDeleted Kind = "commandExecution.deleted"

	PackageCreated        Kind = "package.created"
	PackageUpdated        Kind = "package.updated"
	PackageDeleted        Kind = "package.deleted"
	PackageVersionCreated Kind = "packageVersion.created"
	PackageVersionUpdated Kind = "packageVersion.updated" // its SBOM, too
	PackageVersionDeleted Kind = "packageVersion.deleted"
	PackagesConfigured    Kind = "packages.configured"

	ShadowUpdated Kind = "shadow.updated"
	ShadowDeleted Kind = "shadow.deleted"

	KeyCreated Kind = "key.created"
	KeyRevoked Kind = "key.revoked"

	// People who sign in to the console, with a UserEvent.
	UserCreated Kind = "user.created"
	UserChanged Kind = "user.changed"
	UserRemoved Kind = "user.removed"
)

// Record is one line of the journal: a transition of a job or an execution, or a change
// of the registry. It is written in the transaction of what it tells, and is the history
// that users see, the audit trail, and the source of every notice and event.
type Record struct {
	ID    int64 // position in the journal, set by the store
	At    Time
	Kind  Kind
	Actor string // who did it: "thing:NAME", "key:AKIA…", "cert:ID", or "drover" for the service itself

	// Execution is set for the two kinds of an execution: as it is after the change, or
	// as it was before its deletion.
	Execution *Execution
	// List and Next say which notices the device of Execution gets.
	List, Next bool
	// Queue is the pending list of Execution's thing and namespace after the change, if
	// List or Next. It is not stored: after a crash the list of that moment is told.
	Queue []Execution

	// JobID is set for the kinds of a job and of an execution.
	JobID JobID
	// Data is what the other kinds have to tell: the object that changed, as JSON. For a
	// job it is a JobEvent, for the registry one of the ...Event types.
	Data json.RawMessage
}

// JobEvent is the Data of a record about a job: what `$aws/events/job/…` tells (spec §14.2).
type JobEvent struct {
	JobID       JobID     `json:"jobId"`
	Status      JobStatus `json:"status"`
	Selection   Selection `json:"selection"`
	Targets     []string  `json:"targets,omitempty"`
	Description string    `json:"description,omitempty"`
	Comment     string    `json:"comment,omitempty"`
	CreatedAt   Time      `json:"createdAt"`
	UpdatedAt   Time      `json:"updatedAt"`
	CompletedAt Time      `json:"completedAt,omitempty"`
	Counts      Counts    `json:"counts"`
}

// NewJobRecord makes the record that tells of j.
func NewJobRecord(kind Kind, j *Job, now Time, actor string) (Record, error) {
	ev := JobEvent{
		JobID: j.JobID, Status: j.Status, Selection: j.Selection, Description: j.Description, Comment: j.Comment,
		CreatedAt: j.CreatedAt, UpdatedAt: j.UpdatedAt, CompletedAt: j.CompletedAt, Counts: j.Counts,
	}
	for _, t := range j.Targets {
		ev.Targets = append(ev.Targets, t.ARN)
	}
	data, err := json.Marshal(ev)
	return Record{At: now, Kind: kind, Actor: actor, JobID: j.JobID, Data: data}, err
}

// NewRecord makes a record of the registry: what changed, as JSON.
func NewRecord(kind Kind, now Time, actor string, what any) (Record, error) {
	data, err := json.Marshal(what)
	if err != nil {
		return Record{}, fmt.Errorf("encode record %s: %w", kind, err)
	}
	return Record{At: now, Kind: kind, Actor: actor, Data: data}, nil
}

// ThingEvent is the Data of the records about a thing (registry spec §7.2).
type ThingEvent struct {
	Name       ThingName         `json:"name"`
	UUID       string            `json:"uuid"`
	Version    int64             `json:"version"`
	Type       string            `json:"type,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
}

// TypeEvent is the Data of the records about a thing type.
type TypeEvent struct {
	Name         string   `json:"name"`
	UUID         string   `json:"uuid"`
	Description  string   `json:"description,omitempty"`
	Searchable   []string `json:"searchable,omitempty"`
	DeprecatedAt Time     `json:"deprecatedAt,omitempty"`
}

// TypeAssociationEvent is the Data of the records about a thing getting or losing its type.
type TypeAssociationEvent struct {
	Thing     ThingName `json:"thing"`
	ThingUUID string    `json:"thingUuid"`
	Type      string    `json:"type"`
}

// GroupRef names a group.
type GroupRef struct {
	Name GroupName `json:"name"`
	UUID string    `json:"uuid"`
}

// GroupEvent is the Data of the records about a group.
type GroupEvent struct {
	GroupRef
	Version     int64             `json:"version"`
	Description string            `json:"description,omitempty"`
	Attributes  map[string]string `json:"attributes,omitempty"`
	Ancestors   []GroupRef        `json:"ancestors,omitempty"` // from the root to the direct parent
}

// ChildEvent is the Data of the records about a group getting or losing a child.
type ChildEvent struct {
	Parent GroupRef `json:"parent"`
	Child  GroupRef `json:"child"`
}

// MemberEvent is the Data of the records about a thing joining or leaving a group.
type MemberEvent struct {
	Group        GroupRef  `json:"group"`
	Thing        ThingName `json:"thing"`
	ThingUUID    string    `json:"thingUuid"`
	MembershipID string    `json:"membershipId"`
}

// EventType is a key of the event configuration (spec §14.1).
type EventType string

// EventTypes lists the keys that exist. All are off until switched on.
func EventTypes() []EventType {
	return []EventType{"THING", "THING_GROUP", "THING_TYPE", "THING_GROUP_MEMBERSHIP", "THING_GROUP_HIERARCHY",
		"THING_TYPE_ASSOCIATION", "JOB", "JOB_EXECUTION", "POLICY", "CERTIFICATE", "CA_CERTIFICATE"}
}

// EventConfigurations says which events are published, and since when that is so.
type EventConfigurations struct {
	Enabled    map[EventType]bool
	CreatedAt  Time
	ModifiedAt Time
}
