package dataplane

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"drover/internal/iot"
)

const eventsRoot = "$aws/events/"

// publishEvent publishes the event of a record if its type is switched on (spec §14,
// registry spec §7). It notices changes of the configuration by their records. It fails only while the
// database is out of reach.
func (p *Publisher) publishEvent(ctx context.Context, r *iot.Record) error {
	if r.Kind == iot.EventsConfigured {
		p.current = false
		return nil
	}
	if r.Kind == iot.ShadowUpdated || r.Kind == iot.ShadowDeleted {
		p.publishShadow(r)
		return nil
	}
	k, ok := eventKinds[r.Kind]
	if !ok {
		return nil
	}
	if on, err := p.isEnabled(ctx, k.configuration); err != nil || !on {
		return err
	}
	topic, event, err := k.make(p.realm, r)
	if err != nil {
		p.log.Error("event left out", "kind", r.Kind, "record", r.ID, "err", err)
		return nil
	}
	if event != nil && p.broker.HasSubscribers(eventsRoot+topic) {
		p.send(eventsRoot+topic, event)
	}
	return nil
}

// send publishes an event that is known to have a subscriber.
func (p *Publisher) send(topic string, event any) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(event); err != nil {
		p.log.Error("event left out", "topic", topic, "err", err)
		return
	}
	p.broker.Publish(topic, bytes.TrimSuffix(b.Bytes(), []byte("\n")), 1)
	p.metrics.event.Inc()
}

// isEnabled reports whether events of the type are on. If the configuration cannot be read, for
// another reason than that the database is out of reach, the last one known counts.
func (p *Publisher) isEnabled(ctx context.Context, t iot.EventType) (bool, error) {
	if t == always {
		return true, nil
	}
	if p.stale.Swap(false) || !p.current {
		p.current = false
		var waited time.Duration
		c, err := p.events.EventConfigurations(context.WithoutCancel(ctx))
		for p.pause(ctx, err, &waited) {
			c, err = p.events.EventConfigurations(context.WithoutCancel(ctx))
		}
		switch {
		case iot.ErrorCode(err) == iot.Unavailable:
			return false, err
		case err != nil:
			p.log.Error("read the event configuration", "err", err)
		default:
			p.enabled, p.current = c.Enabled, true
		}
	}
	return p.enabled[t], nil
}

// EventsChanged says that the event configuration was changed without a record being published here.
func (p *Publisher) EventsChanged() { p.stale.Store(true) }

// newID is a new UUID wherever it is encoded, so that an event nobody gets needs none.
type newID struct{}

// MarshalText implements encoding.TextMarshaler.
func (newID) MarshalText() ([]byte, error) { return []byte(uuid.NewString()), nil }

// always is the configuration of events that cannot be switched off.
const always iot.EventType = ""

// eventKind says which switch a kind of record has and how its event is made. The topic is
// what follows $aws/events/; a nil event says that there is none.
type eventKind struct {
	configuration iot.EventType
	make          func(realm iot.Realm, r *iot.Record) (topic string, event any, err error)
}

// eventKinds has every kind of record that can become an event. There is none for the
// creation, the start and the update of a job (spec §14.2).
var eventKinds = map[iot.Kind]eventKind{
	iot.JobCancelStarted:   {"JOB", jobEvent("CANCELLATION_IN_PROGRESS")},
	iot.JobCancelDone:      {"JOB", jobEvent("CANCELED")},
	iot.JobDone:            {"JOB", jobEvent("COMPLETED")},
	iot.JobDeletionStarted: {"JOB", jobEvent("DELETION_IN_PROGRESS")},
	iot.JobDeleted:         {"JOB", jobEvent("DELETED")},

	iot.ExecutionChanged: {"JOB_EXECUTION", executionEvent},
	iot.ExecutionDeleted: {"JOB_EXECUTION", executionEvent},

	iot.ThingCreated: {"THING", registryEvent("CREATED", thingEvent)},
	iot.ThingUpdated: {"THING", registryEvent("UPDATED", thingEvent)},
	iot.ThingDeleted: {"THING", registryEvent("DELETED", thingEvent)},

	iot.TypeCreated: {"THING_TYPE", registryEvent("CREATED", typeEvent)},
	iot.TypeUpdated: {"THING_TYPE", registryEvent("UPDATED", typeEvent)},
	iot.TypeDeleted: {"THING_TYPE", registryEvent("DELETED", typeEvent)},

	iot.TypeAssociated:  {"THING_TYPE_ASSOCIATION", registryEvent("ADDED", associationEvent)},
	iot.TypeDissociated: {"THING_TYPE_ASSOCIATION", registryEvent("REMOVED", associationEvent)},

	iot.GroupCreated: {"THING_GROUP", registryEvent("CREATED", groupEvent)},
	iot.GroupUpdated: {"THING_GROUP", registryEvent("UPDATED", groupEvent)},
	iot.GroupDeleted: {"THING_GROUP", registryEvent("DELETED", groupEvent)},

	iot.ChildAdded:   {"THING_GROUP_HIERARCHY", registryEvent("ADDED", childEvent)},
	iot.ChildRemoved: {"THING_GROUP_HIERARCHY", registryEvent("REMOVED", childEvent)},

	iot.MemberAdded: {"THING_GROUP_MEMBERSHIP", registryEvent("ADDED", memberEvent)},
	iot.MemberGone:  {"THING_GROUP_MEMBERSHIP", registryEvent("REMOVED", memberEvent)},

	iot.CertificateIntroduced: {always, introductionEvent},

	// No key of the configuration is for it (registry spec §11.6, A-39).
	iot.CommandExecutionChanged: {always, commandEvent},
}

// jobDetails is jobProcessDetails as events have it.
type jobDetails struct {
	Canceled  int64 `json:"numberOfCanceledThings"`
	Rejected  int64 `json:"numberOfRejectedThings"`
	Failed    int64 `json:"numberOfFailedThings"`
	Removed   int64 `json:"numberOfRemovedThings"`
	Succeeded int64 `json:"numberOfSucceededThings"`
	TimedOut  int64 `json:"numberOfTimedOutThings"`
}

// jobEvent makes the events of jobs. Timestamp is in seconds, the other times are in
// milliseconds (spec §14.2, A-14).
func jobEvent(status string) func(iot.Realm, *iot.Record) (string, any, error) {
	operation := strings.ToLower(status)
	return func(_ iot.Realm, r *iot.Record) (string, any, error) {
		var j iot.JobEvent
		if err := json.Unmarshal(r.Data, &j); err != nil {
			return "", nil, fmt.Errorf("read the data of a job's record: %w", err)
		}
		event := struct {
			EventType   string        `json:"eventType"`
			EventID     newID         `json:"eventId"`
			Timestamp   int64         `json:"timestamp"`
			Operation   string        `json:"operation"`
			JobID       iot.JobID     `json:"jobId"`
			Status      string        `json:"status"`
			Selection   iot.Selection `json:"targetSelection"`
			Targets     []string      `json:"targets"`
			Description string        `json:"description,omitempty"`
			Comment     *string       `json:"comment,omitempty"`
			CompletedAt iot.Time      `json:"completedAt,omitempty"`
			CreatedAt   iot.Time      `json:"createdAt"`
			UpdatedAt   iot.Time      `json:"lastUpdatedAt"`
			Details     *jobDetails   `json:"jobProcessDetails,omitempty"`
		}{
			"JOB", newID{}, r.At.Seconds(), operation, j.JobID, status, j.Selection, orEmpty(j.Targets),
			j.Description, nil, 0, j.CreatedAt, j.UpdatedAt, nil,
		}
		switch r.Kind {
		case iot.JobDone, iot.JobCancelDone:
			c := j.Counts
			event.Details = &jobDetails{
				Canceled: c[iot.Canceled], Rejected: c[iot.Rejected], Failed: c[iot.Failed],
				Removed: c[iot.Removed], Succeeded: c[iot.Succeeded], TimedOut: c[iot.TimedOut],
			}
		default:
			event.Comment = &j.Comment
		}
		if r.Kind == iot.JobDone {
			event.CompletedAt = j.CompletedAt
		}
		return "job/" + string(j.JobID) + "/" + operation, event, nil
	}
}

// commandEvent makes the event of a command execution (registry spec §11.6). Timestamp is in milliseconds.
func commandEvent(realm iot.Realm, r *iot.Record) (string, any, error) {
	var x iot.CommandExecutionEvent
	if err := json.Unmarshal(r.Data, &x); err != nil {
		return "", nil, fmt.Errorf("read the data of a command execution's record: %w", err)
	}
	type statusReason struct {
		Code        string `json:"reasonCode"`
		Description string `json:"reasonDescription,omitempty"`
	}
	event := struct {
		EventType  string            `json:"eventType"`
		EventID    newID             `json:"eventId"`
		Timestamp  iot.Time          `json:"timestamp"`
		Execution  string            `json:"executionId"`
		Status     iot.CommandStatus `json:"status"`
		Reason     *statusReason     `json:"statusReason,omitempty"`
		CommandARN string            `json:"commandArn"`
		TargetARN  string            `json:"targetArn"`
	}{"COMMAND_EXECUTION", newID{}, r.At, x.ID, x.Status, (*statusReason)(x.Reason), realm.ARN(iot.KindCommand, x.Command), x.Target}
	return "commandExecution/" + x.Command + "/" + string(x.Status), event, nil
}

// executionEvent makes the event of an execution that has ended or was deleted (spec §14.3).
func executionEvent(realm iot.Realm, r *iot.Record) (string, any, error) {
	e := r.Execution
	status := e.Status.String()
	if r.Kind == iot.ExecutionDeleted {
		status = "DELETED"
	} else if !e.Status.Terminal() {
		return "", nil, nil
	}
	operation := strings.ToLower(status)
	return "jobExecution/" + string(e.JobID) + "/" + operation, struct {
		EventType string      `json:"eventType"`
		EventID   newID       `json:"eventId"`
		Timestamp int64       `json:"timestamp"`
		Operation string      `json:"operation"`
		JobID     iot.JobID   `json:"jobId"`
		ThingARN  string      `json:"thingArn"`
		Status    string      `json:"status"`
		Details   iot.Details `json:"statusDetails,omitempty"`
	}{
		"JOB_EXECUTION", newID{}, r.At.Seconds(), operation, e.JobID,
		realm.ARN(iot.KindThing, string(e.Thing)), status, e.Details,
	}, nil
}

// header is what events of the registry begin with.
type header struct {
	EventType string   `json:"eventType"`
	EventID   newID    `json:"eventId"`
	Timestamp iot.Time `json:"timestamp"` // milliseconds
	Operation string   `json:"operation"`
	Account   string   `json:"accountId"`
}

// registryEvent makes the events of the registry: it reads a record's data as a T and lets
// f make the event and its topic, to which the operation is appended.
func registryEvent[T any](operation string, f func(iot.Realm, header, T) (string, any)) func(iot.Realm, *iot.Record) (string, any, error) {
	return func(realm iot.Realm, r *iot.Record) (string, any, error) {
		var data T
		if err := json.Unmarshal(r.Data, &data); err != nil {
			return "", nil, fmt.Errorf("read the data of a registry record: %w", err)
		}
		topic, event := f(realm, header{"", newID{}, r.At, operation, realm.Account}, data)
		return topic + "/" + strings.ToLower(operation), event, nil
	}
}

func (h header) of(eventType string) header {
	h.EventType = eventType
	return h
}

func thingEvent(_ iot.Realm, h header, t iot.ThingEvent) (string, any) {
	return "thing/" + string(t.Name), struct {
		header
		UUID       string            `json:"thingId"`
		Name       iot.ThingName     `json:"thingName"`
		Version    int64             `json:"versionNumber"`
		Type       *string           `json:"thingTypeName"`
		Attributes map[string]string `json:"attributes"`
	}{h.of("THING_EVENT"), t.UUID, t.Name, t.Version, orNull(t.Type), orEmptyMap(t.Attributes)}
}

func typeEvent(_ iot.Realm, h header, t iot.TypeEvent) (string, any) {
	return "thingType/" + t.Name, struct {
		header
		UUID         string    `json:"thingTypeId"`
		Name         string    `json:"thingTypeName"`
		Deprecated   bool      `json:"isDeprecated"`
		DeprecatedAt *iot.Time `json:"deprecationDate"` // milliseconds
		Searchable   []string  `json:"searchableAttributes"`
		Description  *string   `json:"description"`
	}{h.of("THING_TYPE_EVENT"), t.UUID, t.Name, t.DeprecatedAt != 0, orNull(t.DeprecatedAt), orEmpty(t.Searchable), orNull(t.Description)}
}

func associationEvent(_ iot.Realm, h header, a iot.TypeAssociationEvent) (string, any) {
	return "thingTypeAssociation/thing/" + string(a.Thing) + "/thingType/" + a.Type, struct {
		EventID   newID         `json:"eventId"`
		EventType string        `json:"eventType"`
		Operation string        `json:"operation"`
		ThingUUID string        `json:"thingId"`
		Thing     iot.ThingName `json:"thingName"`
		Type      string        `json:"thingTypeName"`
		Timestamp iot.Time      `json:"timestamp"`
	}{h.EventID, "THING_TYPE_ASSOCIATION_EVENT", h.Operation, a.ThingUUID, a.Thing, a.Type, h.Timestamp}
}

func groupEvent(realm iot.Realm, h header, g iot.GroupEvent) (string, any) {
	type ancestor struct {
		ARN  string `json:"groupArn"`
		UUID string `json:"groupId"`
	}
	ancestors := make([]ancestor, len(g.Ancestors))
	for i, a := range g.Ancestors {
		ancestors[i] = ancestor{realm.ARN(iot.KindGroup, string(a.Name)), a.UUID}
	}
	var parent iot.GroupRef
	if n := len(g.Ancestors); n > 0 {
		parent = g.Ancestors[n-1]
	}
	return "thingGroup/" + string(g.Name), struct {
		header
		UUID        string            `json:"thingGroupId"`
		Name        iot.GroupName     `json:"thingGroupName"`
		Version     int64             `json:"versionNumber"`
		ParentName  *iot.GroupName    `json:"parentGroupName"`
		ParentUUID  *string           `json:"parentGroupId"`
		Description *string           `json:"description"`
		Ancestors   []ancestor        `json:"rootToParentThingGroups"`
		Attributes  map[string]string `json:"attributes"`
		Dynamic     *string           `json:"dynamicGroupMappingId"` // null: groups are static
	}{
		h.of("THING_GROUP_EVENT"), g.UUID, g.Name, g.Version, orNull(parent.Name), orNull(parent.UUID),
		orNull(g.Description), ancestors, orEmptyMap(g.Attributes), nil,
	}
}

func childEvent(_ iot.Realm, h header, c iot.ChildEvent) (string, any) {
	return "thingGroupHierarchy/thingGroup/" + string(c.Parent.Name) + "/childThingGroup/" + string(c.Child.Name), struct {
		header
		UUID      string        `json:"thingGroupId"`
		Name      iot.GroupName `json:"thingGroupName"`
		ChildUUID string        `json:"childGroupId"`
		ChildName iot.GroupName `json:"childGroupName"`
	}{h.of("THING_GROUP_HIERARCHY_EVENT"), c.Parent.UUID, c.Parent.Name, c.Child.UUID, c.Child.Name}
}

func memberEvent(realm iot.Realm, h header, m iot.MemberEvent) (string, any) {
	return "thingGroupMembership/thingGroup/" + string(m.Group.Name) + "/thing/" + string(m.Thing), struct {
		header
		GroupARN     string `json:"groupArn"`
		GroupUUID    string `json:"groupId"`
		ThingARN     string `json:"thingArn"`
		ThingUUID    string `json:"thingId"`
		MembershipID string `json:"membershipId"`
	}{
		h.of("THING_GROUP_MEMBERSHIP_EVENT"), realm.ARN(iot.KindGroup, string(m.Group.Name)), m.Group.UUID,
		realm.ARN(iot.KindThing, string(m.Thing)), m.ThingUUID, m.MembershipID,
	}
}

// orNull is null for the zero value.
func orNull[T comparable](v T) *T {
	if v == *new(T) {
		return nil
	}
	return &v
}

// orEmpty is [] for nil.
func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// orEmptyMap is {} for nil.
func orEmptyMap[M ~map[string]string](m M) M {
	if m == nil {
		return M{}
	}
	return m
}

// introductionEvent makes the event of a certificate that came by itself and waits for its
// activation (identity spec §4.9). One of the two times is text.
func introductionEvent(realm iot.Realm, r *iot.Record) (string, any, error) {
	var c iot.CertificateEvent
	if err := json.Unmarshal(r.Data, &c); err != nil {
		return "", nil, fmt.Errorf("read the data of a certificate's record: %w", err)
	}
	return "certificates/registered/" + string(c.CA), struct {
		ID           iot.CertificateID     `json:"certificateId"`
		CA           iot.CertificateID     `json:"caCertificateId"`
		Timestamp    iot.Time              `json:"timestamp"`
		Status       iot.CertificateStatus `json:"certificateStatus"`
		Account      string                `json:"awsAccountId"`
		RegisteredAt iot.Time              `json:"certificateRegistrationTimestamp,string"`
	}{c.ID, c.CA, r.At, c.Status, realm.Account, c.RegisteredAt}, nil
}
