package iot

import (
	"errors"
	"fmt"
)

// Code says what kind of refusal an Error is. Each transport renders it in its own words.
type Code string

// The codes. What they look like on the wire is decided once per transport.
const (
	InvalidRequest         Code = "InvalidRequest"         // a member breaks a constraint
	NotFound               Code = "ResourceNotFound"       // job, execution, thing, group or type absent
	AlreadyExists          Code = "ResourceAlreadyExists"  // same name, other definition; Resource fields are set
	InvalidStateTransition Code = "InvalidStateTransition" // legal request, wrong state; State is set for device requests
	VersionMismatch        Code = "VersionMismatch"        // expectedVersion differs; State is set for device requests
	TerminalState          Code = "TerminalStateReached"   // describe of an execution that has ended
	LimitExceeded          Code = "LimitExceeded"          // a quota
	Throttled              Code = "RequestThrottled"       // too many requests: try again
	DeleteConflict         Code = "DeleteConflict"         // something that is attached is in the way of a deletion
	CertificateState       Code = "CertificateState"       // legal request, wrong status of the certificate
	CertificateInvalid     Code = "CertificateValidation"  // a certificate that does not hold
	CertificateConflict    Code = "CertificateConflict"    // several CAs could have signed it
	VersionsLimit          Code = "VersionsLimitExceeded"  // a resource has as many versions as it can have
	InvalidResponse        Code = "InvalidResponse"        // a function of the operator's answered what it must not
	RegistrationFailure    Code = "RegistrationFailure"    // a template cannot be carried out
	AccessDenied           Code = "AccessDenied"           // not for this caller
	InvalidToken           Code = "InvalidToken"           // an ownership token that proves nothing
	ResourceConflict       Code = "ResourceConflict"       // something exists otherwise than it would be made
	RegistrationCode       Code = "RegistrationCode"       // a verification certificate with another code
	MalformedPolicy        Code = "MalformedPolicy"        // a policy document that cannot be read
	IndexNotReady          Code = "IndexNotReady"          // an index that is still built
	InvalidQuery           Code = "InvalidQuery"           // a query that cannot be read
	InvalidAggregation     Code = "InvalidAggregation"     // a field that cannot be aggregated so
	Unavailable            Code = "ServiceUnavailable"     // shutting down or overloaded: try again
	Internal               Code = "InternalError"          // our fault; details are in the log only
)

// Error is a refusal with a meaning. Every error that a user caused is one.
type Error struct {
	Code    Code
	Message string

	State       *ExecutionState // of the execution in question, for device requests
	ResourceID  string          // what exists already
	ResourceARN string
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Errorf makes an Error of the code.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Invalid returns an InvalidRequest error in AWS's form for a constraint that a value at
// a member does not satisfy. A nil value stands for an absent member.
func Invalid(member string, value any, constraint string) *Error {
	v := "null"
	if value != nil {
		v = fmt.Sprintf("'%s'", shorten(fmt.Sprint(value)))
	}
	return Errorf(InvalidRequest, "1 validation error detected: Value %s at '%s' failed to satisfy constraint: %s", v, member, constraint)
}

// ErrorCode returns the code of err: Internal for an error that is not an *Error, "" for nil.
func ErrorCode(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Internal
}

// shorten keeps messages readable when the offending value is huge.
func shorten(s string) string {
	const limit = 200
	r := []rune(s)
	if len(r) <= limit {
		return s
	}
	return string(r[:limit]) + "…"
}
