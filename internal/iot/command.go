package iot

import (
	"encoding/base64"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Command is something that devices can be told to do (registry spec §11.1). What they are sent is its payload, or
// made of its template.
type Command struct {
	Seq         int64 // order of creation, set by the store
	ID          string
	DisplayName string
	Description string
	RoleARN     string // kept and returned; nobody assumes it
	ContentType string // of Payload
	Payload     []byte // nil if there is a template
	Template    string // JSON text with placeholders; "" if there is a payload
	Format      string // JSON or CBOR: what the template becomes
	Parameters  []CommandParameter

	DeprecatedAt Time // zero: it can be started
	DeleteAt     Time // when it goes; zero: it stays
	CreatedAt    Time
	UpdatedAt    Time
}

// NewCommand is what CreateCommand asks for.
type NewCommand struct {
	Command
	Tags  []Tag
	Actor string
}

// CommandUpdate is what UpdateCommand asks for; nil members stay as they are.
type CommandUpdate struct {
	ID          string
	DisplayName *string
	Description *string
	Deprecated  *bool
	Actor       string
}

// CommandQuery narrows a list of commands; zero fields do not.
type CommandQuery struct {
	Parameter string // those that have one of the name
	Ascending bool   // the oldest first; otherwise the newest
}

// CommandEvent is the Data of the records about a command.
type CommandEvent struct {
	ID string `json:"id"`
}

// Formats of what templates become.
const (
	CommandJSON = "JSON"
	CommandCBOR = "CBOR"
)

// DefaultContentType is what a payload is whose command does not say.
const DefaultContentType = "application/octet-stream"

// Limits of commands (registry spec §0.2, §11).
const (
	MaxCommandPayload     = 32 << 10 // bytes, of a template too
	maxCommandSet         = 10       // items of a condition
	DefaultCommandTimeout = 10 * time.Second
	maxCommandTimeout     = 12 * time.Hour
	// CommandDeletionWait is how long a command must have been deprecated before it can be deleted at once.
	CommandDeletionWait = 12 * time.Hour
	// CommandRetention is how long executions are kept: about six months.
	CommandRetention = 180 * 24 * time.Hour
)

var (
	commandIDPattern   = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)
	contentTypePattern = regexp.MustCompile(`^[ -~]{1,128}$`) // goes into a header of MQTT
)

// Check fills in what is not said and returns an InvalidRequest error for a command that cannot be.
func (c *Command) Check() error {
	switch {
	case !commandIDPattern.MatchString(c.ID):
		return Invalid("commandId", c.ID, "Member must satisfy regular expression pattern: [a-zA-Z0-9_-]+ and have a length of 1 to 64")
	case c.Payload == nil && c.Template == "":
		return Errorf(InvalidRequest, "A command needs a payload or a payloadTemplate")
	case c.Payload != nil && c.Template != "":
		return Errorf(InvalidRequest, "A command can have a payload or a payloadTemplate, not both")
	case max(len(c.Payload), len(c.Template)) > MaxCommandPayload:
		return Errorf(InvalidRequest, "The payload has %d bytes; the limit is %d", max(len(c.Payload), len(c.Template)), MaxCommandPayload)
	case c.Payload != nil && c.Format != "":
		return Errorf(InvalidRequest, "The preprocessor needs a payloadTemplate")
	}
	if c.Payload != nil {
		if c.ContentType == "" {
			c.ContentType = DefaultContentType
		}
		if !contentTypePattern.MatchString(c.ContentType) {
			return Invalid("payload.contentType", c.ContentType, "Member must be a media type in ASCII of at most 128 characters")
		}
	}
	for i := range c.Parameters {
		p := &c.Parameters[i]
		if slices.ContainsFunc(c.Parameters[:i], func(q CommandParameter) bool { return q.Name == p.Name }) {
			return Errorf(InvalidRequest, "Two parameters are called %q", p.Name)
		}
		if err := p.check(); err != nil {
			return err
		}
	}
	return nil
}

// Pending reports whether the command waits for its deletion.
func (c *Command) Pending() bool { return c.DeleteAt != 0 }

// Update changes the command. ResourceConflict for one that waits for its deletion and is to be restored.
func (c *Command) Update(u CommandUpdate, now Time) error {
	if u.Deprecated != nil {
		switch {
		case !*u.Deprecated && c.Pending():
			return Errorf(ResourceConflict, "Command %s waits for its deletion and cannot be restored", c.ID)
		case !*u.Deprecated:
			c.DeprecatedAt = 0
		case c.DeprecatedAt == 0:
			c.DeprecatedAt = now
		}
	}
	if u.DisplayName != nil {
		c.DisplayName = *u.DisplayName
	}
	if u.Description != nil {
		c.Description = *u.Description
	}
	c.UpdatedAt = now
	return nil
}

// Delete reports whether the command can go at once. Otherwise it waits for that from now on.
func (c *Command) Delete(now Time) (gone bool) {
	if c.DeprecatedAt != 0 && now > c.DeprecatedAt.Add(CommandDeletionWait) {
		return true
	}
	if c.DeleteAt == 0 {
		c.DeleteAt, c.UpdatedAt = now.Add(CommandDeletionWait), now
	}
	return false
}

// Startable returns an InvalidRequest error for a command that is deprecated or waits for its deletion.
func (c *Command) Startable() error {
	switch {
	case c.Pending():
		return Errorf(InvalidRequest, "Command %s waits for its deletion", c.ID)
	case c.DeprecatedAt != 0:
		return Errorf(InvalidRequest, "Command %s is deprecated", c.ID)
	}
	return nil
}

// CommandValue is a value of a parameter: one member is set. The names of members are AWS's own.
type CommandValue struct {
	S   *string  `json:"S,omitempty"`
	B   *bool    `json:"B,omitempty"`
	I   *int32   `json:"I,omitempty"`
	L   *int64   `json:"L,omitempty"`
	D   *float64 `json:"D,omitempty"`
	BIN []byte   `json:"BIN,omitempty"`
	UL  *string  `json:"UL,omitempty"` // decimal, below 2^64
}

// Kind is the type of the value as parameters have it, "" unless one member is set.
func (v *CommandValue) Kind() string {
	kind := ""
	for name, set := range map[string]bool{
		"STRING": v.S != nil, "BOOLEAN": v.B != nil, "INTEGER": v.I != nil, "LONG": v.L != nil, "DOUBLE": v.D != nil, "BINARY": v.BIN != nil, "UNSIGNEDLONG": v.UL != nil,
	} {
		if set {
			if kind != "" {
				return ""
			}
			kind = name
		}
	}
	return kind
}

// check returns an InvalidRequest error unless the value is one of the type, "" for any.
func (v *CommandValue) check(name, kind string) error {
	have := v.Kind()
	switch {
	case have == "":
		return Errorf(InvalidRequest, "The value of the parameter %q must have one member", name)
	case kind != "" && have != kind:
		return Errorf(InvalidRequest, "The parameter %q is of type %s, and its value of type %s", name, kind, have)
	case v.UL != nil:
		if _, err := strconv.ParseUint(*v.UL, 10, 64); err != nil {
			return Errorf(InvalidRequest, "The value of the parameter %q is no number below 2^64: %q", name, shorten(*v.UL))
		}
	}
	return nil
}

// Text is the value as it stands in a longer text.
func (v *CommandValue) Text() string {
	switch {
	case v.S != nil:
		return *v.S
	case v.B != nil:
		return strconv.FormatBool(*v.B)
	case v.I != nil:
		return strconv.FormatInt(int64(*v.I), 10)
	case v.L != nil:
		return strconv.FormatInt(*v.L, 10)
	case v.D != nil:
		return strconv.FormatFloat(*v.D, 'g', -1, 64)
	case v.UL != nil:
		return *v.UL
	}
	return base64.StdEncoding.EncodeToString(v.BIN)
}

// number is the value if it is one.
func (v *CommandValue) number() (*big.Rat, bool) {
	if v.D != nil {
		return new(big.Rat).SetFloat64(*v.D), true // JSON has no infinities
	}
	if v.I == nil && v.L == nil && v.UL == nil {
		return nil, false
	}
	return new(big.Rat).SetString(v.Text())
}

// CommandParameter is what a command has to be told when it is started.
type CommandParameter struct {
	Name        string             `json:"name"`
	Type        string             `json:"type,omitempty"` // "" for any
	Value       *CommandValue      `json:"value,omitempty"`
	Default     *CommandValue      `json:"default,omitempty"`
	Description string             `json:"description,omitempty"`
	Conditions  []CommandCondition `json:"conditions,omitempty"`
}

// CommandCondition is what a value must satisfy. Numbers are text, as they come.
type CommandCondition struct {
	Operator string   `json:"operator"`
	Number   *string  `json:"number,omitempty"`
	Numbers  []string `json:"numbers,omitempty"`
	String   *string  `json:"string,omitempty"`
	Strings  []string `json:"strings,omitempty"`
	Min      *string  `json:"min,omitempty"`
	Max      *string  `json:"max,omitempty"`
}

func (p *CommandParameter) check() error {
	for _, v := range []*CommandValue{p.Value, p.Default} {
		if v != nil {
			if err := v.check(p.Name, p.Type); err != nil {
				return err
			}
		}
	}
	for i := range p.Conditions {
		if err := p.Conditions[i].check(p); err != nil {
			return err
		}
	}
	return nil
}

// numberPattern keeps numbers of conditions small enough to compute with.
var numberPattern = regexp.MustCompile(`^[+-]?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?$`)

// check returns an InvalidRequest error unless the condition can be one of the parameter.
func (c *CommandCondition) check(p *CommandParameter) error {
	if p.Type == "BOOLEAN" || p.Type == "BINARY" {
		return Errorf(InvalidRequest, "The parameter %q is of type %s, which has no conditions", p.Name, p.Type)
	}
	set := strings.HasSuffix(c.Operator, "IN_SET")
	ranged := strings.HasSuffix(c.Operator, "IN_RANGE")
	equal := c.Operator == "EQUALS" || c.Operator == "NOT_EQUALS"
	text := p.Type == "STRING"
	operands := 0
	for _, given := range []bool{c.Number != nil, c.Numbers != nil, c.String != nil, c.Strings != nil, c.Min != nil || c.Max != nil} {
		if given {
			operands++
		}
	}
	fits := false
	switch {
	case operands != 1:
	case set:
		fits = c.Numbers != nil && !text || c.Strings != nil && (text || p.Type == "")
	case ranged:
		fits = c.Min != nil && c.Max != nil && !text
	case equal:
		fits = c.Number != nil && !text || c.String != nil && (text || p.Type == "")
	default: // LESS_THAN and the like
		fits = c.Number != nil && !text
	}
	if !fits {
		return Errorf(InvalidRequest, "The operand of the condition %s does not fit the operator or the type of the parameter %q", c.Operator, p.Name)
	}
	if max(len(c.Numbers), len(c.Strings)) > maxCommandSet || set && len(c.Numbers)+len(c.Strings) == 0 {
		return Errorf(InvalidRequest, "The condition %s of the parameter %q must have 1 to %d items", c.Operator, p.Name, maxCommandSet)
	}
	for _, n := range append([]*string{c.Number, c.Min, c.Max}, pointers(c.Numbers)...) {
		if n != nil && !numberPattern.MatchString(*n) {
			return Errorf(InvalidRequest, "The condition %s of the parameter %q needs numbers, and %q is none", c.Operator, p.Name, shorten(*n))
		}
	}
	return nil
}

func pointers(list []string) (out []*string) {
	for i := range list {
		out = append(out, &list[i])
	}
	return out
}

// holds reports whether a value satisfies the condition. A value that is no number satisfies none of numbers.
func (c *CommandCondition) holds(v *CommandValue) bool {
	if c.String != nil || c.Strings != nil {
		if v.S == nil {
			return false
		}
		in := c.String != nil && *v.S == *c.String || slices.Contains(c.Strings, *v.S)
		return in != strings.HasPrefix(c.Operator, "NOT_")
	}
	n, ok := v.number()
	if !ok {
		return false
	}
	compare := func(operand string) int {
		r, _ := new(big.Rat).SetString(operand) // it was checked
		return n.Cmp(r)
	}
	switch c.Operator {
	case "EQUALS":
		return compare(*c.Number) == 0
	case "NOT_EQUALS":
		return compare(*c.Number) != 0
	case "LESS_THAN":
		return compare(*c.Number) < 0
	case "LESS_THAN_EQUALS":
		return compare(*c.Number) <= 0
	case "GREATER_THAN":
		return compare(*c.Number) > 0
	case "GREATER_THAN_EQUALS":
		return compare(*c.Number) >= 0
	case "IN_RANGE", "NOT_IN_RANGE":
		return (compare(*c.Min) >= 0 && compare(*c.Max) <= 0) == (c.Operator == "IN_RANGE")
	}
	in := slices.ContainsFunc(c.Numbers, func(operand string) bool { return compare(operand) == 0 })
	return in == (c.Operator == "IN_SET")
}

// Resolve returns the values of all parameters for a start that gives some: what is given, else what the command says.
// InvalidRequest for one that is nowhere said, one that the command does not have, one of another type, and one that
// does not satisfy its conditions (registry spec §11.1).
func (c *Command) Resolve(given map[string]CommandValue) (map[string]CommandValue, error) {
	values := make(map[string]CommandValue, len(c.Parameters))
	for i := range c.Parameters {
		p := &c.Parameters[i]
		v, ok := given[p.Name]
		switch {
		case ok:
		case p.Value != nil:
			v = *p.Value
		case p.Default != nil:
			v = *p.Default
		default:
			return nil, Errorf(InvalidRequest, "The parameter %q of command %s has no value", p.Name, c.ID)
		}
		if err := v.check(p.Name, p.Type); err != nil {
			return nil, err
		}
		for j := range p.Conditions {
			if !p.Conditions[j].holds(&v) {
				return nil, Errorf(InvalidRequest, "The value %q of the parameter %q does not satisfy its condition %s", shorten(v.Text()), p.Name, p.Conditions[j].Operator)
			}
		}
		values[p.Name] = v
	}
	for name := range given {
		if _, ok := values[name]; !ok {
			return nil, Errorf(InvalidRequest, "Command %s has no parameter %q", c.ID, shorten(name))
		}
	}
	return values, nil
}

// CommandStatus is the state of a command execution in AWS's own words.
type CommandStatus string

// The statuses.
const (
	CommandCreated    CommandStatus = "CREATED"
	CommandInProgress CommandStatus = "IN_PROGRESS"
	CommandSucceeded  CommandStatus = "SUCCEEDED"
	CommandFailed     CommandStatus = "FAILED"
	CommandRejected   CommandStatus = "REJECTED"
	CommandTimedOut   CommandStatus = "TIMED_OUT"
)

// NoResponse is the reason of an execution whose device has not reported in time.
const NoResponse = "$NO_RESPONSE_FROM_DEVICE"

// CommandExecution is a command that a device was told to carry out:
//
//	CREATED → IN_PROGRESS → SUCCEEDED, FAILED, REJECTED, TIMED_OUT   as the device reports
//	   └───────────┴──→ TIMED_OUT → SUCCEEDED, FAILED, …             when the time is over
//
// What the device reports at the end stays; that the time is over does not (registry spec §11.3).
type CommandExecution struct {
	Seq     int64 // order of creation, set by the store
	ID      string
	Command string // name of the command
	Target  string // ARN of a thing, or of a client by its id
	Token   string // clientToken of the start
	Status  CommandStatus
	CommandDetail
	CreatedAt   Time
	StartedAt   Time // when the device said so first, until then CreatedAt
	UpdatedAt   Time
	CompletedAt Time // when the device reported its end
	DueAt       Time // when the time is over; zero: it is, or does not matter any more
}

// CommandDetail is the rest of an execution.
type CommandDetail struct {
	Reason         *CommandReason           `json:"reason,omitempty"`
	Result         map[string]CommandResult `json:"result,omitempty"`
	Parameters     map[string]CommandValue  `json:"parameters,omitempty"`
	TimeoutSeconds int64                    `json:"timeoutSeconds"`
}

// CommandReason is why an execution has its status.
type CommandReason struct {
	Code        string `json:"code"`
	Description string `json:"description,omitempty"`
}

// CommandResult is a value that a device reports: one member is set.
type CommandResult struct {
	S   *string `json:"s,omitempty"`
	B   *bool   `json:"b,omitempty"`
	BIN []byte  `json:"bin,omitempty"`
}

// CommandStart is what StartCommandExecution asks for.
type CommandStart struct {
	Command        string // ARN
	Target         string // ARN
	Parameters     map[string]CommandValue
	TimeoutSeconds int64 // 0: 10
	Token          string
	Actor          string
}

// CommandReport is what a device reports.
type CommandReport struct {
	Execution string
	Target    string // ARN
	Status    CommandStatus
	Reason    *CommandReason
	Result    map[string]CommandResult
	Actor     string
}

// CommandExecutionQuery narrows a list of executions. One of Command and Target is set; times are of the start or, with
// Completed, of the end.
type CommandExecutionQuery struct {
	Command   string // name
	Target    string // ARN
	Status    CommandStatus
	Completed bool
	After     Time // from then on
	Before    Time // zero: without end
	Ascending bool
}

// CommandExecutionEvent is the Data of the records about a command execution.
type CommandExecutionEvent struct {
	ID      string         `json:"id"`
	Command string         `json:"command"`
	Target  string         `json:"target"`
	Status  CommandStatus  `json:"status"`
	Reason  *CommandReason `json:"reason,omitempty"`
}

// Check returns an InvalidRequest error for a time that cannot be.
func (s *CommandStart) Check() error {
	if s.TimeoutSeconds == 0 {
		s.TimeoutSeconds = int64(DefaultCommandTimeout / time.Second)
	}
	if s.TimeoutSeconds < 1 || s.TimeoutSeconds > int64(maxCommandTimeout/time.Second) {
		return Invalid("executionTimeoutSeconds", s.TimeoutSeconds, fmt.Sprintf("Member must have value between 1 and %d", int64(maxCommandTimeout/time.Second)))
	}
	return nil
}

var (
	reasonCodePattern = regexp.MustCompile(`^[A-Z0-9_-]{1,64}$`)
	resultKeyPattern  = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,32}$`)
	controlPattern    = regexp.MustCompile(`\p{C}`)
)

const maxReason = 1024 // characters

// Check returns an InvalidRequest error for a report that no execution could take.
func (r *CommandReport) Check() error {
	switch r.Status {
	case CommandInProgress, CommandSucceeded, CommandFailed, CommandRejected, CommandTimedOut:
	default:
		return Invalid("status", r.Status, "Member must satisfy enum value set: [IN_PROGRESS, SUCCEEDED, FAILED, REJECTED, TIMED_OUT]")
	}
	if r.Reason != nil {
		switch d := r.Reason.Description; {
		case !reasonCodePattern.MatchString(r.Reason.Code):
			return Invalid("statusReason.reasonCode", r.Reason.Code, "Member must satisfy regular expression pattern: [A-Z0-9_-]+ and have a length of 1 to 64")
		case utf8.RuneCountInString(d) > maxReason || controlPattern.MatchString(d):
			return Invalid("statusReason.reasonDescription", d, "Member must satisfy regular expression pattern: [^\\p{C}]* and have a length of at most 1024")
		}
	}
	if r.Result != nil && len(r.Result) == 0 {
		return Errorf(InvalidRequest, "The result must have at least one entry")
	}
	for key := range r.Result {
		if !resultKeyPattern.MatchString(key) {
			return Invalid("result", key, "Map keys must satisfy regular expression pattern: [a-zA-Z0-9_-]+ and have a length of 1 to 32")
		}
	}
	return nil
}

// Terminal reports whether the execution has ended for good.
func (x *CommandExecution) Terminal() bool { return x.CompletedAt != 0 }

// Report takes what the device reports. TerminalState for an execution that has ended for good; InvalidStateTransition
// for one whose time is over and that is to go on.
func (x *CommandExecution) Report(r *CommandReport, now Time) error {
	switch {
	case x.Terminal():
		return Errorf(TerminalState, "The execution has ended as %s", x.Status)
	case x.Status == CommandTimedOut && r.Status == CommandInProgress:
		return Errorf(InvalidStateTransition, "The time of the execution is over: it cannot be IN_PROGRESS any more")
	}
	if x.Status == CommandCreated && r.Status == CommandInProgress {
		x.StartedAt = now
	}
	x.Status, x.Reason, x.UpdatedAt = r.Status, r.Reason, now
	if r.Result != nil {
		x.Result = r.Result
	}
	if r.Status != CommandInProgress {
		x.CompletedAt, x.DueAt = now, 0
	}
	return nil
}

// TimeOut notes that the time is over.
func (x *CommandExecution) TimeOut(now Time) {
	x.Status, x.Reason, x.UpdatedAt, x.DueAt = CommandTimedOut, &CommandReason{Code: NoResponse}, now, 0
}

// Deletable reports whether the execution can be deleted: it has ended, or its time is over.
func (x *CommandExecution) Deletable() bool { return x.Terminal() || x.Status == CommandTimedOut }
