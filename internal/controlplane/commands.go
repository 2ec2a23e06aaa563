package controlplane

import (
	"context"
	"net/http"
	"time"

	"drover/internal/iot"
	"drover/internal/wire"
)

// Commands is what the operations on commands and their executions ask for. Errors are *iot.Error if the
// caller caused them.
type Commands interface {
	Create(context.Context, iot.NewCommand) (*iot.Command, error)
	Update(context.Context, iot.CommandUpdate) (*iot.Command, error)
	Delete(ctx context.Context, id, actor string) (gone bool, err error)
	Command(ctx context.Context, id string) (*iot.Command, error)
	Commands(context.Context, iot.CommandQuery, iot.Page) (commands []*iot.Command, next string, err error)
	Execution(ctx context.Context, id, target string) (*iot.CommandExecution, error)
	Executions(context.Context, iot.CommandExecutionQuery, iot.Page) (executions []*iot.CommandExecution, next string, err error)
	DeleteExecution(ctx context.Context, id, target, actor string) error
}

// awsIoT is the namespace of commands; that of FleetWise is not here.
const awsIoT = "AWS-IoT"

// checkNamespace refuses the other namespace.
func checkNamespace(namespace string) error {
	return refuse(asked{"namespace", "commands of AWS IoT FleetWise", namespace != "" && namespace != awsIoT})
}

// commandPayload is CommandPayload.
type commandPayload struct {
	Content     []byte  `json:"content,omitempty"`
	ContentType *string `json:"contentType,omitempty" len:"1,"`
}

// commandPreprocessor is CommandPreprocessor.
type commandPreprocessor struct {
	AwsJSONSubstitution *awsJSONSubstitution `json:"awsJsonSubstitution,omitempty"`
}

// awsJSONSubstitution is AwsJsonSubstitutionCommandPreprocessorConfig.
type awsJSONSubstitution struct {
	OutputFormat string `json:"outputFormat" required:"true" enum:"JSON,CBOR"`
}

// commandParameterValue is CommandParameterValue.
type commandParameterValue struct {
	S   *string  `json:"S,omitempty" len:"1,"`
	B   *bool    `json:"B,omitempty"`
	I   *int32   `json:"I,omitempty"`
	L   *int64   `json:"L,omitempty"`
	D   *float64 `json:"D,omitempty"`
	BIN []byte   `json:"BIN,omitempty" bytes:"1,"`
	UL  *string  `json:"UL,omitempty" len:"1,20" pattern:"[0-9]*"`
}

// commandParameter is CommandParameter.
type commandParameter struct {
	Name            string                      `json:"name" required:"true" len:"1,192" pattern:"[.$a-zA-Z0-9_-]+"`
	Value           *commandParameterValue      `json:"value,omitempty"`
	DefaultValue    *commandParameterValue      `json:"defaultValue,omitempty"`
	Description     *string                     `json:"description,omitempty" len:",2028" pattern:"[^\\p{C}]*"`
	Type            string                      `json:"type,omitempty" enum:"STRING,INTEGER,DOUBLE,LONG,UNSIGNEDLONG,BOOLEAN,BINARY"`
	ValueConditions []commandParameterCondition `json:"valueConditions,omitempty"`
}

// commandParameterCondition is CommandParameterValueCondition.
type commandParameterCondition struct {
	ComparisonOperator string                   `json:"comparisonOperator" required:"true" enum:"EQUALS,NOT_EQUALS,LESS_THAN,LESS_THAN_EQUALS,GREATER_THAN,GREATER_THAN_EQUALS,IN_SET,NOT_IN_SET,IN_RANGE,NOT_IN_RANGE"`
	Operand            *commandParameterOperand `json:"operand" required:"true"`
}

// commandParameterOperand is CommandParameterValueComparisonOperand.
type commandParameterOperand struct {
	Number      *string             `json:"number,omitempty"`
	Numbers     []string            `json:"numbers,omitempty"`
	String      *string             `json:"string,omitempty"`
	Strings     []string            `json:"strings,omitempty"`
	NumberRange *commandNumberRange `json:"numberRange,omitempty"`
}

// commandNumberRange is CommandParameterValueNumberRange.
type commandNumberRange struct {
	Min *string `json:"min" required:"true"`
	Max *string `json:"max" required:"true"`
}

func newCommandParameters(in []commandParameter) []iot.CommandParameter {
	var out []iot.CommandParameter
	for _, p := range in {
		n := iot.CommandParameter{Name: p.Name, Type: p.Type, Value: (*iot.CommandValue)(p.Value), Default: (*iot.CommandValue)(p.DefaultValue), Description: value(p.Description)}
		for _, c := range p.ValueConditions {
			k := iot.CommandCondition{Operator: c.ComparisonOperator, Number: c.Operand.Number, Numbers: c.Operand.Numbers, String: c.Operand.String, Strings: c.Operand.Strings}
			if r := c.Operand.NumberRange; r != nil {
				k.Min, k.Max = r.Min, r.Max
			}
			n.Conditions = append(n.Conditions, k)
		}
		out = append(out, n)
	}
	return out
}

func showCommandParameters(in []iot.CommandParameter) []commandParameter {
	var out []commandParameter
	for _, p := range in {
		n := commandParameter{
			Name: p.Name, Type: p.Type, Value: (*commandParameterValue)(p.Value), DefaultValue: (*commandParameterValue)(p.Default), Description: optional(p.Description),
		}
		for _, c := range p.Conditions {
			o := &commandParameterOperand{Number: c.Number, Numbers: c.Numbers, String: c.String, Strings: c.Strings}
			if c.Min != nil {
				o.NumberRange = &commandNumberRange{Min: c.Min, Max: c.Max}
			}
			n.ValueConditions = append(n.ValueConditions, commandParameterCondition{c.Operator, o})
		}
		out = append(out, n)
	}
	return out
}

// createCommandRequest is CreateCommandRequest (registry spec §11.4).
type createCommandRequest struct {
	CommandID           string               `json:"commandId" in:"label" len:"1,64" pattern:"[a-zA-Z0-9_-]+"`
	Namespace           string               `json:"namespace" enum:"AWS-IoT,AWS-IoT-FleetWise"`
	DisplayName         *string              `json:"displayName" len:",64" pattern:"[^\\p{C}]*"`
	Description         *string              `json:"description" len:",2028" pattern:"[^\\p{C}]*"`
	Payload             *commandPayload      `json:"payload"`
	MandatoryParameters []commandParameter   `json:"mandatoryParameters"`
	RoleArn             *string              `json:"roleArn" len:"20,2048"`
	Tags                []tag                `json:"tags"`
	PayloadTemplate     *string              `json:"payloadTemplate"`
	Preprocessor        *commandPreprocessor `json:"preprocessor"`
}

// commandReference is CreateCommandResponse.
type commandReference struct {
	CommandID  string `json:"commandId"`
	CommandArn string `json:"commandArn"`
}

func (s *Server) createCommand(ctx context.Context, in *createCommandRequest) (*commandReference, error) {
	if err := checkNamespace(in.Namespace); err != nil {
		return nil, err
	}
	n := iot.NewCommand{Tags: newTags(in.Tags), Actor: actor(ctx), Command: iot.Command{
		ID: in.CommandID, DisplayName: value(in.DisplayName), Description: value(in.Description), RoleARN: value(in.RoleArn),
		Template: value(in.PayloadTemplate), Parameters: newCommandParameters(in.MandatoryParameters),
	}}
	if p := in.Payload; p != nil {
		if n.Payload, n.ContentType = p.Content, value(p.ContentType); p.Content == nil {
			return nil, iot.Invalid("payload.content", nil, "Member must not be null")
		}
	}
	if n.Template != "" {
		n.Format = iot.CommandJSON
	}
	if p := in.Preprocessor; p != nil && p.AwsJSONSubstitution != nil {
		n.Format = p.AwsJSONSubstitution.OutputFormat
	}
	c, err := s.commands.Create(ctx, n)
	if err != nil {
		return nil, err
	}
	return &commandReference{CommandID: c.ID, CommandArn: s.realm.ARN(iot.KindCommand, c.ID)}, nil
}

// commandRequest is GetCommandRequest and DeleteCommandRequest.
type commandRequest struct {
	CommandID string `json:"commandId" in:"label" len:"1,64" pattern:"[a-zA-Z0-9_-]+"`
}

// getCommandResponse is GetCommandResponse.
type getCommandResponse struct {
	commandSummary
	Namespace           string               `json:"namespace"`
	Description         string               `json:"description,omitempty"`
	MandatoryParameters []commandParameter   `json:"mandatoryParameters,omitempty"`
	Payload             *commandPayload      `json:"payload,omitempty"`
	RoleArn             string               `json:"roleArn,omitempty"`
	PayloadTemplate     string               `json:"payloadTemplate,omitempty"`
	Preprocessor        *commandPreprocessor `json:"preprocessor,omitempty"`
}

func (s *Server) getCommand(ctx context.Context, in *commandRequest) (*getCommandResponse, error) {
	c, err := s.commands.Command(ctx, in.CommandID)
	if err != nil {
		return nil, err
	}
	out := &getCommandResponse{
		commandSummary: s.commandSummary(c), Namespace: awsIoT, Description: c.Description, MandatoryParameters: showCommandParameters(c.Parameters),
		RoleArn: c.RoleARN, PayloadTemplate: c.Template,
	}
	if c.Template == "" {
		out.Payload = &commandPayload{Content: c.Payload, ContentType: &c.ContentType}
	} else {
		out.Preprocessor = &commandPreprocessor{&awsJSONSubstitution{c.Format}}
	}
	return out, nil
}

// updateCommandRequest is UpdateCommandRequest.
type updateCommandRequest struct {
	CommandID   string  `json:"commandId" in:"label" len:"1,64" pattern:"[a-zA-Z0-9_-]+"`
	DisplayName *string `json:"displayName" len:",64" pattern:"[^\\p{C}]*"`
	Description *string `json:"description" len:",2028" pattern:"[^\\p{C}]*"`
	Deprecated  *bool   `json:"deprecated"`
}

// updateCommandResponse is UpdateCommandResponse.
type updateCommandResponse struct {
	CommandID     string         `json:"commandId"`
	DisplayName   string         `json:"displayName,omitempty"`
	Description   string         `json:"description,omitempty"`
	Deprecated    bool           `json:"deprecated"`
	LastUpdatedAt wire.Timestamp `json:"lastUpdatedAt"`
}

func (s *Server) updateCommand(ctx context.Context, in *updateCommandRequest) (*updateCommandResponse, error) {
	c, err := s.commands.Update(ctx, iot.CommandUpdate{ID: in.CommandID, DisplayName: in.DisplayName, Description: in.Description, Deprecated: in.Deprecated, Actor: actor(ctx)})
	if err != nil {
		return nil, err
	}
	return &updateCommandResponse{CommandID: c.ID, DisplayName: c.DisplayName, Description: c.Description, Deprecated: c.DeprecatedAt != 0, LastUpdatedAt: timestamp(c.UpdatedAt)}, nil
}

// deleteCommandResponse is DeleteCommandResponse, whose only member is the HTTP status: 204 if the command is gone, 202
// if it waits for that.
type deleteCommandResponse struct{ gone bool }

// HTTPStatus implements wire.Statuser.
func (r *deleteCommandResponse) HTTPStatus() int {
	if r.gone {
		return http.StatusNoContent
	}
	return http.StatusAccepted
}

func (s *Server) deleteCommand(ctx context.Context, in *commandRequest) (*deleteCommandResponse, error) {
	gone, err := s.commands.Delete(ctx, in.CommandID, actor(ctx))
	if err != nil {
		return nil, err
	}
	return &deleteCommandResponse{gone}, nil
}

// defaultCommandPage is the size of a page of commands or executions that the request does not set.
const defaultCommandPage = 25

const ascending = "ASCENDING"

// listCommandsRequest is ListCommandsRequest.
type listCommandsRequest struct {
	MaxResults           *int32  `json:"maxResults" in:"query" range:"1,100"`
	NextToken            *string `json:"nextToken" in:"query"`
	Namespace            string  `json:"namespace" in:"query" enum:"AWS-IoT,AWS-IoT-FleetWise"`
	CommandParameterName *string `json:"commandParameterName" in:"query" len:"1,192" pattern:"[.$a-zA-Z0-9_-]+"`
	SortOrder            string  `json:"sortOrder" in:"query" enum:"ASCENDING,DESCENDING"`
}

// listCommandsResponse is ListCommandsResponse.
type listCommandsResponse struct {
	Commands  []commandSummary `json:"commands"`
	NextToken *string          `json:"nextToken,omitempty"`
}

// commandSummary is CommandSummary.
type commandSummary struct {
	CommandArn      string         `json:"commandArn"`
	CommandID       string         `json:"commandId"`
	DisplayName     string         `json:"displayName,omitempty"`
	Deprecated      bool           `json:"deprecated"`
	CreatedAt       wire.Timestamp `json:"createdAt"`
	LastUpdatedAt   wire.Timestamp `json:"lastUpdatedAt"`
	PendingDeletion bool           `json:"pendingDeletion"`
}

func (s *Server) commandSummary(c *iot.Command) commandSummary {
	return commandSummary{
		CommandArn: s.realm.ARN(iot.KindCommand, c.ID), CommandID: c.ID, DisplayName: c.DisplayName, Deprecated: c.DeprecatedAt != 0,
		CreatedAt: timestamp(c.CreatedAt), LastUpdatedAt: timestamp(c.UpdatedAt), PendingDeletion: c.Pending(),
	}
}

func (s *Server) listCommands(ctx context.Context, in *listCommandsRequest) (*listCommandsResponse, error) {
	const op = "ListCommands"
	q := iot.CommandQuery{Parameter: value(in.CommandParameterName), Ascending: in.SortOrder == ascending}
	page, err := s.page(op, q, in.NextToken, in.MaxResults, defaultCommandPage)
	if err != nil {
		return nil, err
	}
	out := &listCommandsResponse{Commands: []commandSummary{}}
	if in.Namespace != "" && in.Namespace != awsIoT {
		return out, nil // there are none
	}
	list, next, err := s.commands.Commands(ctx, q, page)
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		out.Commands = append(out.Commands, s.commandSummary(c))
	}
	out.NextToken = s.nextToken(op, q, next)
	return out, nil
}

// getCommandExecutionRequest is GetCommandExecutionRequest.
type getCommandExecutionRequest struct {
	ExecutionID   string `json:"executionId" in:"label" len:"1,64" pattern:"[a-zA-Z0-9_-]+"`
	TargetArn     string `json:"targetArn" in:"query" required:"true" len:",2048"`
	IncludeResult bool   `json:"includeResult" in:"query"`
}

// getCommandExecutionResponse is GetCommandExecutionResponse.
type getCommandExecutionResponse struct {
	commandExecutionSummary
	StatusReason            *statusReason                    `json:"statusReason,omitempty"`
	Result                  map[string]commandResult         `json:"result,omitempty"`
	Parameters              map[string]commandParameterValue `json:"parameters,omitempty"`
	ExecutionTimeoutSeconds int64                            `json:"executionTimeoutSeconds"`
	LastUpdatedAt           wire.Timestamp                   `json:"lastUpdatedAt"`
	TimeToLive              wire.Timestamp                   `json:"timeToLive"`
}

// statusReason is StatusReason.
type statusReason struct {
	ReasonCode        string `json:"reasonCode"`
	ReasonDescription string `json:"reasonDescription,omitempty"`
}

// commandResult is CommandExecutionResult.
type commandResult struct {
	S   *string `json:"S,omitempty"`
	B   *bool   `json:"B,omitempty"`
	BIN []byte  `json:"BIN,omitempty"`
}

func (s *Server) getCommandExecution(ctx context.Context, in *getCommandExecutionRequest) (*getCommandExecutionResponse, error) {
	x, err := s.commands.Execution(ctx, in.ExecutionID, in.TargetArn)
	if err != nil {
		return nil, err
	}
	out := &getCommandExecutionResponse{
		commandExecutionSummary: s.commandExecutionSummary(x), ExecutionTimeoutSeconds: x.TimeoutSeconds,
		LastUpdatedAt: timestamp(x.UpdatedAt), TimeToLive: timestamp(x.CreatedAt.Add(iot.CommandRetention)),
	}
	if x.Reason != nil {
		out.StatusReason = &statusReason{x.Reason.Code, x.Reason.Description}
	}
	if len(x.Parameters) > 0 {
		out.Parameters = make(map[string]commandParameterValue, len(x.Parameters))
		for name, v := range x.Parameters {
			out.Parameters[name] = commandParameterValue(v)
		}
	}
	if in.IncludeResult && len(x.Result) > 0 {
		out.Result = make(map[string]commandResult, len(x.Result))
		for name, v := range x.Result {
			out.Result[name] = commandResult(v)
		}
	}
	return out, nil
}

// listCommandExecutionsRequest is ListCommandExecutionsRequest: a POST whose page is in the query.
type listCommandExecutionsRequest struct {
	MaxResults          *int32      `json:"maxResults" in:"query" range:"1,100"`
	NextToken           *string     `json:"nextToken" in:"query"`
	Namespace           string      `json:"namespace" enum:"AWS-IoT,AWS-IoT-FleetWise"`
	Status              string      `json:"status" enum:"CREATED,IN_PROGRESS,SUCCEEDED,FAILED,REJECTED,TIMED_OUT"`
	SortOrder           string      `json:"sortOrder" enum:"ASCENDING,DESCENDING"`
	StartedTimeFilter   *timeFilter `json:"startedTimeFilter"`
	CompletedTimeFilter *timeFilter `json:"completedTimeFilter"`
	TargetArn           *string     `json:"targetArn" len:",2048"`
	CommandArn          *string     `json:"commandArn"`
}

// timeFilter is TimeFilter.
type timeFilter struct {
	After  *string `json:"after" len:"1,64"`
	Before *string `json:"before" len:"1,64"`
}

// bounds reads times of the form yyyy-MM-ddTHH:mm, in UTC.
func (f *timeFilter) bounds() (after, before iot.Time, err error) {
	for _, m := range []struct {
		name string
		text *string
		into *iot.Time
	}{{"after", f.After, &after}, {"before", f.Before, &before}} {
		if m.text == nil {
			continue
		}
		at, err := time.Parse("2006-01-02T15:04", *m.text)
		if err != nil {
			return 0, 0, iot.Invalid(m.name, *m.text, "Member must have the form yyyy-MM-ddTHH:mm")
		}
		*m.into = iot.At(at)
	}
	return after, before, nil
}

// query returns what a request asks for.
func (in *listCommandExecutionsRequest) query(realm iot.Realm) (q iot.CommandExecutionQuery, err error) {
	switch {
	case (in.CommandArn == nil) == (in.TargetArn == nil):
		return q, iot.Errorf(iot.InvalidRequest, "Give either commandArn or targetArn")
	case (in.StartedTimeFilter == nil) == (in.CompletedTimeFilter == nil):
		return q, iot.Errorf(iot.InvalidRequest, "Give either startedTimeFilter or completedTimeFilter")
	}
	q = iot.CommandExecutionQuery{Target: value(in.TargetArn), Status: iot.CommandStatus(in.Status), Completed: in.CompletedTimeFilter != nil, Ascending: in.SortOrder == ascending}
	filter := in.StartedTimeFilter
	if q.Completed {
		filter = in.CompletedTimeFilter
	}
	if q.After, q.Before, err = filter.bounds(); err != nil {
		return q, err
	}
	arn := q.Target
	if in.CommandArn != nil {
		arn = *in.CommandArn
	}
	kind, name, err := realm.ParseARN(arn)
	switch {
	case err != nil:
		return q, err
	case in.CommandArn != nil && kind != iot.KindCommand:
		return q, iot.Errorf(iot.InvalidRequest, "%s is not the ARN of a command", arn)
	case in.TargetArn != nil && kind != iot.KindThing && kind != iot.KindClient:
		return q, iot.Errorf(iot.InvalidRequest, "%s is the ARN of neither a thing nor a client", arn)
	case in.CommandArn != nil:
		q.Command = name
	}
	return q, nil
}

// listCommandExecutionsResponse is ListCommandExecutionsResponse.
type listCommandExecutionsResponse struct {
	CommandExecutions []commandExecutionSummary `json:"commandExecutions"`
	NextToken         *string                   `json:"nextToken,omitempty"`
}

// commandExecutionSummary is CommandExecutionSummary.
type commandExecutionSummary struct {
	CommandArn  string         `json:"commandArn"`
	ExecutionID string         `json:"executionId"`
	TargetArn   string         `json:"targetArn"`
	Status      string         `json:"status"`
	CreatedAt   wire.Timestamp `json:"createdAt"`
	StartedAt   wire.Timestamp `json:"startedAt"`
	CompletedAt wire.Timestamp `json:"completedAt,omitzero"`
}

func (s *Server) commandExecutionSummary(x *iot.CommandExecution) commandExecutionSummary {
	out := commandExecutionSummary{
		CommandArn: s.realm.ARN(iot.KindCommand, x.Command), ExecutionID: x.ID, TargetArn: x.Target, Status: string(x.Status),
		CreatedAt: timestamp(x.CreatedAt), StartedAt: timestamp(x.StartedAt),
	}
	if x.CompletedAt != 0 {
		out.CompletedAt = timestamp(x.CompletedAt)
	}
	return out
}

func (s *Server) listCommandExecutions(ctx context.Context, in *listCommandExecutionsRequest) (*listCommandExecutionsResponse, error) {
	const op = "ListCommandExecutions"
	q, err := in.query(s.realm)
	if err != nil {
		return nil, err
	}
	page, err := s.page(op, q, in.NextToken, in.MaxResults, defaultCommandPage)
	if err != nil {
		return nil, err
	}
	out := &listCommandExecutionsResponse{CommandExecutions: []commandExecutionSummary{}}
	if in.Namespace != "" && in.Namespace != awsIoT {
		return out, nil // there are none
	}
	list, next, err := s.commands.Executions(ctx, q, page)
	if err != nil {
		return nil, err
	}
	for _, x := range list {
		out.CommandExecutions = append(out.CommandExecutions, s.commandExecutionSummary(x))
	}
	out.NextToken = s.nextToken(op, q, next)
	return out, nil
}

// deleteCommandExecutionRequest is DeleteCommandExecutionRequest.
type deleteCommandExecutionRequest struct {
	ExecutionID string `json:"executionId" in:"label" len:"1,64" pattern:"[a-zA-Z0-9_-]+"`
	TargetArn   string `json:"targetArn" in:"query" required:"true" len:",2048"`
}

func (s *Server) deleteCommandExecution(ctx context.Context, in *deleteCommandExecutionRequest) (*wire.Empty, error) {
	return &wire.Empty{}, s.commands.DeleteExecution(ctx, in.ExecutionID, in.TargetArn, actor(ctx))
}
