package dataplane

import (
	"errors"

	"drover/internal/iot"
)

// Codes that only MQTT has.
const (
	invalidTopic iot.Code = "InvalidTopic"
	invalidJSON  iot.Code = "InvalidJson"
)

// rendering is how the two transports call a kind of refusal.
type rendering struct {
	mqtt  string // code of the rejected payload (spec §11.10)
	https string // exception (spec §12.3)
	state bool   // executionState is part of it
}

// renderings has a row for every code: the only place where one is translated. Devices try
// again after RequestThrottled and InternalError, over HTTPS after 429 and 503.
var renderings = map[iot.Code]rendering{
	invalidTopic:               {mqtt: "InvalidTopic", https: "InvalidRequestException"},
	invalidJSON:                {mqtt: "InvalidJson", https: "InvalidRequestException"},
	iot.InvalidRequest:         {mqtt: "InvalidRequest", https: "InvalidRequestException"},
	iot.NotFound:               {mqtt: "ResourceNotFound", https: "ResourceNotFoundException"},
	iot.InvalidStateTransition: {mqtt: "InvalidStateTransition", https: "InvalidStateTransitionException", state: true},
	// The model of the HTTPS plane has no error for it (spec §12.4).
	iot.VersionMismatch: {mqtt: "VersionMismatch", https: "InvalidStateTransitionException", state: true},
	iot.TerminalState:   {mqtt: "TerminalStateReached", https: "TerminalStateException"},
	iot.Throttled:       {mqtt: "RequestThrottled", https: "ThrottlingException"},
	iot.LimitExceeded:   {mqtt: "RequestThrottled", https: "ThrottlingException"},
	iot.Unavailable:     {mqtt: "InternalError", https: "ServiceUnavailableException"},
	iot.Internal:        {mqtt: "InternalError", https: "ServiceUnavailableException"},
	// Devices create nothing, and deal with certificates and policies by other topics than these, if at all.
	iot.AlreadyExists:       {mqtt: "InternalError", https: "ServiceUnavailableException"},
	iot.DeleteConflict:      {mqtt: "InternalError", https: "ServiceUnavailableException"},
	iot.CertificateState:    {mqtt: "InternalError", https: "ServiceUnavailableException"},
	iot.CertificateInvalid:  {mqtt: "InternalError", https: "ServiceUnavailableException"},
	iot.CertificateConflict: {mqtt: "InternalError", https: "ServiceUnavailableException"},
	iot.AccessDenied:        {mqtt: "InternalError", https: "ServiceUnavailableException"},
	iot.InvalidToken:        {mqtt: "InternalError", https: "ServiceUnavailableException"},
	iot.VersionsLimit:       {mqtt: "InternalError", https: "ServiceUnavailableException"},
	iot.InvalidResponse:     {mqtt: "InternalError", https: "ServiceUnavailableException"},
	iot.RegistrationFailure: {mqtt: "InternalError", https: "ServiceUnavailableException"},
	iot.ResourceConflict:    {mqtt: "InternalError", https: "ConflictException"}, // of a token that starts a command
	iot.RegistrationCode:    {mqtt: "InternalError", https: "ServiceUnavailableException"},
	iot.MalformedPolicy:     {mqtt: "InternalError", https: "ServiceUnavailableException"},
	iot.IndexNotReady:       {mqtt: "InternalError", https: "ServiceUnavailableException"},
	iot.InvalidQuery:        {mqtt: "InternalError", https: "ServiceUnavailableException"},
	iot.InvalidAggregation:  {mqtt: "InternalError", https: "ServiceUnavailableException"},
}

// errInternal stands for every error that is not a device's business.
var errInternal = iot.Errorf(iot.Internal, "The request could not be carried out")

// refusal returns err as something a device can be told, and how. Errors that are no
// *iot.Error keep their text to themselves.
func refusal(err error) (*iot.Error, rendering) {
	var e *iot.Error
	if errors.As(err, &e) {
		if r, ok := renderings[e.Code]; ok {
			return e, r
		}
	}
	return errInternal, renderings[iot.Internal]
}
