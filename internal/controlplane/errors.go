package controlplane

import (
	"errors"

	"drover/internal/auth"
	"drover/internal/iot"
	"drover/internal/wire"
)

// internalFailure is what the caller sees of a mistake of ours: its name and nothing else.
const internalFailure = "InternalFailureException"

// exceptions says how the control plane calls each kind of refusal (spec §10.0). TerminalState
// is for devices: if it comes up here, that is a mistake of ours.
var exceptions = map[iot.Code]string{
	iot.InvalidRequest:         "InvalidRequestException",
	iot.NotFound:               "ResourceNotFoundException",
	iot.AlreadyExists:          "ResourceAlreadyExistsException",
	iot.InvalidStateTransition: "InvalidStateTransitionException",
	iot.VersionMismatch:        "VersionConflictException",
	iot.LimitExceeded:          "LimitExceededException",
	iot.DeleteConflict:         "DeleteConflictException",
	iot.CertificateState:       "CertificateStateException",
	iot.CertificateInvalid:     "CertificateValidationException",
	iot.CertificateConflict:    "CertificateConflictException",
	iot.AccessDenied:           "UnauthorizedException",
	iot.InvalidToken:           "InvalidRequestException",
	iot.VersionsLimit:          "VersionsLimitExceededException",
	iot.InvalidResponse:        "InvalidResponseException",
	iot.RegistrationFailure:    "ResourceRegistrationFailureException",
	iot.ResourceConflict:       "ConflictingResourceUpdateException",
	iot.RegistrationCode:       "RegistrationCodeValidationException",
	iot.MalformedPolicy:        "MalformedPolicyException",
	iot.IndexNotReady:          "IndexNotReadyException",
	iot.InvalidQuery:           "InvalidQueryException",
	iot.InvalidAggregation:     "InvalidAggregationException",
	iot.Throttled:              "ThrottlingException",
	iot.Unavailable:            "ServiceUnavailableException",
	iot.TerminalState:          internalFailure,
	iot.Internal:               internalFailure,
}

// mapError renders a refusal. It returns nil for what is no refusal but a failure: package
// wire writes its text to the log and shows the caller none of it.
func (s *Server) mapError(err error) *wire.Error {
	if denied, ok := errors.AsType[*auth.Error](err); ok {
		return &wire.Error{Code: denied.Code, Status: denied.Status, Message: denied.Message}
	}
	refusal, ok := errors.AsType[*iot.Error](err)
	if !ok {
		return nil
	}
	name, ok := exceptions[refusal.Code]
	if !ok || name == internalFailure {
		return nil
	}
	e := s.service.NewError(name, refusal.Message)
	if refusal.Code == iot.AlreadyExists {
		e.Members = map[string]any{"resourceId": refusal.ResourceID, "resourceArn": refusal.ResourceARN}
	} else if refusal.ResourceID != "" {
		e.Members = map[string]any{"resourceId": refusal.ResourceID}
	}
	return e
}

// conflict renders err for CreateJobTemplate, the one operation that has a name of its own for
// what exists already (spec §10.14). Other errors stay as they are.
func (s *Server) conflict(err error) error {
	refusal, ok := errors.AsType[*iot.Error](err)
	if !ok || refusal.Code != iot.AlreadyExists {
		return err
	}
	e := s.service.NewError("ConflictException", refusal.Message)
	e.Members = map[string]any{"resourceId": refusal.ResourceID}
	return e
}
