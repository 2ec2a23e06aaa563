package dataplane

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"drover/internal/auth"
	"drover/internal/iot"
	"drover/internal/wire"
)

// The types below are those of the service's public model. All times are in whole seconds.
// namespaceId is a query parameter that the developer guide mentions and the model lacks.

type getPendingRequest struct {
	ThingName string `json:"thingName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	Namespace string `json:"namespaceId" in:"query"`
}

type getPendingResponse struct {
	InProgress []summary `json:"inProgressJobs"`
	Queued     []summary `json:"queuedJobs"`
}

type startNextRequest struct {
	ThingName   string            `json:"thingName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	Namespace   string            `json:"namespaceId" in:"query"`
	Details     map[string]string `json:"statusDetails"`
	StepTimeout *int64            `json:"stepTimeoutInMinutes"`
}

type executionResponse struct {
	Execution *execution `json:"execution,omitempty"`
}

type describeRequest struct {
	ThingName    string `json:"thingName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	JobID        string `json:"jobId" in:"label" pattern:"[a-zA-Z0-9_-]+|\\$next"`
	Namespace    string `json:"namespaceId" in:"query"`
	WantDocument *bool  `json:"includeJobDocument" in:"query"`
	Number       *int64 `json:"executionNumber" in:"query"`
}

type updateRequest struct {
	ThingName       string            `json:"thingName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	JobID           string            `json:"jobId" in:"label" len:"1,64" pattern:"[a-zA-Z0-9_-]+"`
	Namespace       string            `json:"namespaceId" in:"query"`
	Status          *string           `json:"status" required:"true"`
	Details         map[string]string `json:"statusDetails"`
	StepTimeout     *int64            `json:"stepTimeoutInMinutes"`
	ExpectedVersion *expectedVersion  `json:"expectedVersion"`
	WantState       bool              `json:"includeJobExecutionState"`
	WantDocument    bool              `json:"includeJobDocument"`
	Number          *int64            `json:"executionNumber"`
}

type updateResponse struct {
	State    *executionState `json:"executionState,omitempty"`
	Document string          `json:"jobDocument,omitempty"`
}

type summary struct {
	JobID     iot.JobID `json:"jobId"`
	QueuedAt  int64     `json:"queuedAt"`
	StartedAt int64     `json:"startedAt,omitempty"`
	UpdatedAt int64     `json:"lastUpdatedAt"`
	Version   int64     `json:"versionNumber"`
	Number    int64     `json:"executionNumber"`
}

type execution struct {
	JobID     iot.JobID     `json:"jobId"`
	Thing     iot.ThingName `json:"thingName"`
	Status    string        `json:"status"`
	Details   iot.Details   `json:"statusDetails,omitempty"`
	QueuedAt  int64         `json:"queuedAt"`
	StartedAt int64         `json:"startedAt,omitempty"`
	UpdatedAt int64         `json:"lastUpdatedAt"`
	Remaining *int64        `json:"approximateSecondsBeforeTimedOut,omitempty"`
	Version   int64         `json:"versionNumber"`
	Number    int64         `json:"executionNumber"`
	Document  string        `json:"jobDocument,omitempty"` // JSON text (spec §9.6)
}

type executionState struct {
	Status  string      `json:"status"`
	Details iot.Details `json:"statusDetails"`
	Version int64       `json:"versionNumber"`
}

// expectedVersion is a number, or a string of decimal digits.
type expectedVersion int64

// UnmarshalJSON implements json.Unmarshaler.
func (v *expectedVersion) UnmarshalJSON(data []byte) error {
	n, ok := version(data)
	if !ok {
		return wrongType("expectedVersion", data, "an integer or a string of decimal digits")
	}
	*v = expectedVersion(n)
	return nil
}

// newHTTPS returns the service iot-jobs-data.
func (h *Handler) newHTTPS() *wire.Service {
	s := wire.NewJobsData(wire.Config{
		Logger:   h.log,
		MapError: func(err error) *wire.Error { return exception(h.https, err) },
		Observe: func(operation string, e *wire.Error, _ time.Duration) {
			result := resultAccepted
			if e != nil {
				result = strconv.Itoa(e.Status)
			}
			h.metrics.requests.WithLabelValues("https", operation, result).Inc()
		},
	})
	wire.Handle(s, iot.OpGetPending.String(), h.getPending)
	wire.Handle(s, iot.OpStartNext.String(), h.startNext)
	wire.Handle(s, iot.OpDescribe.String(), h.describe)
	wire.Handle(s, iot.OpUpdate.String(), h.update)
	if h.commands != nil {
		wire.Handle(s, "StartCommandExecution", h.startCommand)
	}
	return s
}

// ServeHTTP implements http.Handler with the jobs data plane (spec §12). It expects the
// caller's identity in the context of a request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.https.ServeHTTP(w, r) }

func (h *Handler) getPending(ctx context.Context, in *getPendingRequest) (*getPendingResponse, error) {
	a, _, err := h.do(ctx, &iot.Request{Op: iot.OpGetPending, Thing: iot.ThingName(in.ThingName), Namespace: in.Namespace})
	if err != nil {
		return nil, err
	}
	return &getPendingResponse{InProgress: summaries(a.InProgress), Queued: summaries(a.Queued)}, nil
}

func (h *Handler) startNext(ctx context.Context, in *startNextRequest) (*executionResponse, error) {
	if err := checkOptional(in.StepTimeout, iot.CheckStepTimeout); err != nil {
		return nil, err
	}
	a, document, err := h.do(ctx, &iot.Request{
		Op: iot.OpStartNext, Thing: iot.ThingName(in.ThingName), Namespace: in.Namespace,
		Details: in.Details, StepTimeout: in.StepTimeout, WantDocument: true,
	})
	if err != nil {
		return nil, err
	}
	return h.newExecutionResponse(a, document), nil
}

func (h *Handler) describe(ctx context.Context, in *describeRequest) (*executionResponse, error) {
	if err := checkOptional(in.Number, checkNumber); err != nil {
		return nil, err
	}
	a, document, err := h.do(ctx, &iot.Request{
		Op: iot.OpDescribe, Thing: iot.ThingName(in.ThingName), Namespace: in.Namespace, JobID: iot.JobID(in.JobID),
		Number: value(in.Number), WantDocument: in.WantDocument == nil || *in.WantDocument,
	})
	if err != nil {
		return nil, err
	}
	return h.newExecutionResponse(a, document), nil
}

func (h *Handler) update(ctx context.Context, in *updateRequest) (*updateResponse, error) {
	r := &iot.Request{
		Op: iot.OpUpdate, Thing: iot.ThingName(in.ThingName), Namespace: in.Namespace, JobID: iot.JobID(in.JobID),
		Number: value(in.Number), Details: in.Details, ExpectedVersion: (*int64)(in.ExpectedVersion),
		StepTimeout: in.StepTimeout, WantDocument: in.WantDocument, WantState: in.WantState,
	}
	if err := setStatus(r, *in.Status); err != nil {
		return nil, err
	}
	if err := checkOptional(in.Number, checkNumber); err != nil {
		return nil, err
	}
	if err := checkOptional(in.StepTimeout, iot.CheckStepTimeout); err != nil {
		return nil, err
	}
	a, document, err := h.do(ctx, r)
	if err != nil {
		return nil, err
	}
	return &updateResponse{State: newExecutionState(a.State), Document: document}, nil
}

// do hands r to the engine in the caller's name, and returns the document of the answer as
// the device is to get it.
func (h *Handler) do(ctx context.Context, r *iot.Request) (*iot.Answer, string, error) {
	r.Actor = "thing:" + string(r.Thing)
	if id, ok := auth.IdentityFrom(ctx); ok {
		r.Actor = id.Principal.Actor()
	}
	if h.permit != nil {
		if err := h.permit(ctx, r.Op.String(), r.Thing); err != nil {
			return nil, "", err
		}
	}
	if err := h.admit(r.Op); err != nil {
		return nil, "", err
	}
	a, err := h.engine.Do(ctx, r)
	document := ""
	if err == nil {
		document, err = render(a.Document, h.signer)
	}
	if err != nil {
		h.logFailure(r, err)
	}
	return a, document, err
}

// exception renders err (spec §12.3).
func exception(s *wire.Service, err error) *wire.Error {
	if denied, ok := errors.AsType[*auth.Error](err); ok {
		return &wire.Error{Code: denied.Code, Status: denied.Status, Message: denied.Message}
	}
	e, r := refusal(err)
	message := e.Message
	if e.Code == iot.VersionMismatch {
		// The exception says less than the code (spec §12.4).
		message = r.mqtt + ": " + message
	}
	x := s.NewError(r.https, message)
	if r.state && e.State != nil {
		x.Members = map[string]any{"executionState": newExecutionState(e.State)}
	}
	return x
}

func (h *Handler) newExecutionResponse(a *iot.Answer, document string) *executionResponse {
	e := a.Execution
	if e == nil {
		return &executionResponse{}
	}
	out := &execution{
		JobID: e.JobID, Thing: e.Thing, Status: e.Status.String(), Details: e.Details,
		QueuedAt: e.QueuedAt.Seconds(), StartedAt: e.StartedAt.Seconds(), UpdatedAt: e.UpdatedAt.Seconds(),
		Version: e.Version, Number: e.Number, Document: document,
	}
	if seconds, ok := e.Remaining(h.now()); ok {
		out.Remaining = &seconds
	}
	return &executionResponse{out}
}

func newExecutionState(s *iot.ExecutionState) *executionState {
	if s == nil {
		return nil
	}
	return &executionState{Status: s.Status.String(), Details: orEmptyMap(s.Details), Version: s.Version}
}

func summaries(list []iot.Execution) []summary {
	out := make([]summary, len(list))
	for i := range list {
		e := &list[i]
		out[i] = summary{
			JobID: e.JobID, QueuedAt: e.QueuedAt.Seconds(), StartedAt: e.StartedAt.Seconds(), UpdatedAt: e.UpdatedAt.Seconds(),
			Version: e.Version, Number: e.Number,
		}
	}
	return out
}

// checkOptional checks a member that may be absent.
func checkOptional(n *int64, check func(int64) error) error {
	if n == nil {
		return nil
	}
	return check(*n)
}

// value is 0 for nil.
func value(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}
