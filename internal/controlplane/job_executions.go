package controlplane

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"

	"drover/internal/iot"
	"drover/internal/wire"
)

// listJobExecutionsForJobRequest is ListJobExecutionsForJobRequest (spec §10.9).
type listJobExecutionsForJobRequest struct {
	JobID      string  `json:"jobId" in:"label" len:"1,64" pattern:"[a-zA-Z0-9_-]+"`
	Status     string  `json:"status" in:"query" enum:"QUEUED,IN_PROGRESS,SUCCEEDED,FAILED,TIMED_OUT,REJECTED,REMOVED,CANCELED"`
	MaxResults *int32  `json:"maxResults" in:"query" range:"1,250"`
	NextToken  *string `json:"nextToken" in:"query"`
}

// listJobExecutionsForJobResponse is ListJobExecutionsForJobResponse.
type listJobExecutionsForJobResponse struct {
	ExecutionSummaries []executionOfJob `json:"executionSummaries"`
	NextToken          *string          `json:"nextToken,omitempty"`
}

// executionOfJob is JobExecutionSummaryForJob.
type executionOfJob struct {
	ThingArn            string           `json:"thingArn"`
	JobExecutionSummary executionSummary `json:"jobExecutionSummary"`
}

// executionSummary is JobExecutionSummary.
type executionSummary struct {
	Status          string         `json:"status"`
	QueuedAt        wire.Timestamp `json:"queuedAt"`
	StartedAt       wire.Timestamp `json:"startedAt,omitzero"`
	LastUpdatedAt   wire.Timestamp `json:"lastUpdatedAt"`
	ExecutionNumber int64          `json:"executionNumber"`
	RetryAttempt    int64          `json:"retryAttempt"`
}

func summarize(e *iot.Execution) executionSummary {
	return executionSummary{
		Status:          e.Status.String(),
		QueuedAt:        timestamp(e.QueuedAt),
		StartedAt:       timestamp(e.StartedAt),
		LastUpdatedAt:   timestamp(e.UpdatedAt),
		ExecutionNumber: e.Number,
		RetryAttempt:    e.RetryAttempt,
	}
}

func (s *Server) listJobExecutionsForJob(ctx context.Context, in *listJobExecutionsForJobRequest) (*listJobExecutionsForJobResponse, error) {
	filters := []string{in.JobID, in.Status}
	page, err := s.page("ListJobExecutionsForJob", filters, in.NextToken, in.MaxResults, defaultJobPage)
	if err != nil {
		return nil, err
	}
	executions, next, err := s.jobs.JobExecutions(ctx, iot.JobID(in.JobID), iot.ParseExecutionStatus(in.Status), page)
	if err != nil {
		return nil, err
	}
	out := &listJobExecutionsForJobResponse{
		ExecutionSummaries: make([]executionOfJob, len(executions)),
		NextToken:          s.nextToken("ListJobExecutionsForJob", filters, next),
	}
	for i := range executions {
		e := &executions[i]
		out.ExecutionSummaries[i] = executionOfJob{
			ThingArn:            s.realm.ARN(iot.KindThing, string(e.Thing)),
			JobExecutionSummary: summarize(e),
		}
	}
	return out, nil
}

// listJobExecutionsForThingRequest is ListJobExecutionsForThingRequest (spec §10.10).
type listJobExecutionsForThingRequest struct {
	ThingName   string  `json:"thingName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	Status      string  `json:"status" in:"query" enum:"QUEUED,IN_PROGRESS,SUCCEEDED,FAILED,TIMED_OUT,REJECTED,REMOVED,CANCELED"`
	NamespaceID *string `json:"namespaceId" in:"query" pattern:"[a-zA-Z0-9_-]+"`
	JobID       *string `json:"jobId" in:"query" len:"1,64" pattern:"[a-zA-Z0-9_-]+"`
	MaxResults  *int32  `json:"maxResults" in:"query" range:"1,250"`
	NextToken   *string `json:"nextToken" in:"query"`
}

// listJobExecutionsForThingResponse is ListJobExecutionsForThingResponse.
type listJobExecutionsForThingResponse struct {
	ExecutionSummaries []executionOfThing `json:"executionSummaries"`
	NextToken          *string            `json:"nextToken,omitempty"`
}

// executionOfThing is JobExecutionSummaryForThing.
type executionOfThing struct {
	JobID               string           `json:"jobId"`
	JobExecutionSummary executionSummary `json:"jobExecutionSummary"`
}

func (s *Server) listJobExecutionsForThing(ctx context.Context, in *listJobExecutionsForThingRequest) (*listJobExecutionsForThingResponse, error) {
	query := iot.ExecutionQuery{
		Status:    iot.ParseExecutionStatus(in.Status),
		JobID:     iot.JobID(value(in.JobID)),
		Namespace: in.NamespaceID,
	}
	filters := []any{in.ThingName, query}
	page, err := s.page("ListJobExecutionsForThing", filters, in.NextToken, in.MaxResults, defaultJobPage)
	if err != nil {
		return nil, err
	}
	executions, next, err := s.jobs.ThingExecutions(ctx, iot.ThingName(in.ThingName), query, page)
	if err != nil {
		return nil, err
	}
	out := &listJobExecutionsForThingResponse{
		ExecutionSummaries: make([]executionOfThing, len(executions)),
		NextToken:          s.nextToken("ListJobExecutionsForThing", filters, next),
	}
	for i := range executions {
		e := &executions[i]
		out.ExecutionSummaries[i] = executionOfThing{JobID: string(e.JobID), JobExecutionSummary: summarize(e)}
	}
	return out, nil
}

// describeJobExecutionRequest is DescribeJobExecutionRequest (spec §10.11).
type describeJobExecutionRequest struct {
	ThingName       string `json:"thingName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	JobID           string `json:"jobId" in:"label" len:"1,64" pattern:"[a-zA-Z0-9_-]+"`
	ExecutionNumber *int64 `json:"executionNumber" in:"query"` // absent = the latest
}

// describeJobExecutionResponse is DescribeJobExecutionResponse.
type describeJobExecutionResponse struct {
	Execution executionShape `json:"execution"`
}

// executionShape is JobExecution.
type executionShape struct {
	JobID           string         `json:"jobId"`
	Status          string         `json:"status"`
	ForceCanceled   bool           `json:"forceCanceled"`
	StatusDetails   *statusDetails `json:"statusDetails,omitempty"`
	ThingArn        string         `json:"thingArn"`
	QueuedAt        wire.Timestamp `json:"queuedAt"`
	StartedAt       wire.Timestamp `json:"startedAt,omitzero"`
	LastUpdatedAt   wire.Timestamp `json:"lastUpdatedAt"`
	ExecutionNumber int64          `json:"executionNumber"`
	VersionNumber   int64          `json:"versionNumber"`
	// Only for one in progress that has a timer (spec §6.5).
	ApproximateSecondsBeforeTimedOut *int64 `json:"approximateSecondsBeforeTimedOut,omitempty"`
}

// statusDetails is JobExecutionStatusDetails: on this plane the pairs are one level deeper
// than on the devices'.
type statusDetails struct {
	DetailsMap iot.Details `json:"detailsMap"`
}

func (s *Server) describeJobExecution(ctx context.Context, in *describeJobExecutionRequest) (*describeJobExecutionResponse, error) {
	// Numbers start at 1, and 0 stands for the latest in the engine: no caller means that.
	if n := in.ExecutionNumber; n != nil && *n < 1 {
		return nil, iot.Errorf(iot.NotFound, "Job execution %d of job %s on thing %s does not exist", *n, in.JobID, in.ThingName)
	}
	e, err := s.jobs.Execution(ctx, iot.ThingName(in.ThingName), iot.JobID(in.JobID), value(in.ExecutionNumber))
	if err != nil {
		return nil, err
	}
	out := &describeJobExecutionResponse{Execution: executionShape{
		JobID:           string(e.JobID),
		Status:          e.Status.String(),
		ForceCanceled:   e.ForceCanceled,
		ThingArn:        s.realm.ARN(iot.KindThing, string(e.Thing)),
		QueuedAt:        timestamp(e.QueuedAt),
		StartedAt:       timestamp(e.StartedAt),
		LastUpdatedAt:   timestamp(e.UpdatedAt),
		ExecutionNumber: e.Number,
		VersionNumber:   e.Version,
	}}
	if seconds, ok := e.Remaining(iot.At(s.now())); ok {
		out.Execution.ApproximateSecondsBeforeTimedOut = &seconds
	}
	if len(e.Details) > 0 {
		out.Execution.StatusDetails = &statusDetails{DetailsMap: e.Details}
	}
	return out, nil
}

// cancelJobExecutionRequest is CancelJobExecutionRequest (spec §10.12). The model has force in
// the query, the guide in the body; the query wins (spec A-20).
type cancelJobExecutionRequest struct {
	ThingName       string      `json:"thingName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	JobID           string      `json:"jobId" in:"label" len:"1,64" pattern:"[a-zA-Z0-9_-]+"`
	Force           bool        `json:"force" in:"query,body"`
	ExpectedVersion *version    `json:"expectedVersion"`
	StatusDetails   iot.Details `json:"statusDetails"` // absent = unchanged
}

// version is an expectedVersion: a JSON integer or, as some clients have it, a decimal string (spec §3.3).
type version int64

// UnmarshalJSON implements json.Unmarshaler.
func (v *version) UnmarshalJSON(data []byte) error {
	text := string(data)
	if data[0] == '"' {
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return errors.New("must be an integer")
	}
	*v = version(n)
	return nil
}

func (s *Server) cancelJobExecution(ctx context.Context, in *cancelJobExecutionRequest) (*wire.Empty, error) {
	return &wire.Empty{}, s.jobs.CancelExecution(ctx, iot.ExecutionCancellation{
		Thing:           iot.ThingName(in.ThingName),
		JobID:           iot.JobID(in.JobID),
		Force:           in.Force,
		ExpectedVersion: (*int64)(in.ExpectedVersion),
		Details:         in.StatusDetails,
		Actor:           actor(ctx),
	})
}

// deleteJobExecutionRequest is DeleteJobExecutionRequest (spec §10.13).
type deleteJobExecutionRequest struct {
	ThingName       string  `json:"thingName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	JobID           string  `json:"jobId" in:"label" len:"1,64" pattern:"[a-zA-Z0-9_-]+"`
	ExecutionNumber int64   `json:"executionNumber" in:"label"`
	Force           bool    `json:"force" in:"query"`
	NamespaceID     *string `json:"namespaceId" in:"query" pattern:"[a-zA-Z0-9_-]+"`
}

func (s *Server) deleteJobExecution(ctx context.Context, in *deleteJobExecutionRequest) (*wire.Empty, error) {
	return &wire.Empty{}, s.jobs.DeleteExecution(ctx, iot.ExecutionDeletion{
		Thing:     iot.ThingName(in.ThingName),
		JobID:     iot.JobID(in.JobID),
		Number:    in.ExecutionNumber,
		Namespace: in.NamespaceID,
		Force:     in.Force,
		Actor:     actor(ctx),
	})
}
