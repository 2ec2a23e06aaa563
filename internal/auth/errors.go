package auth

import (
	"fmt"
	"net/http"
)

// The codes of an [Error], in AWS's words. They are in no service model: every AWS
// service answers them, and the SDKs know several by name.
const (
	CodeMissingToken       = "MissingAuthenticationTokenException" // no Authorization header
	CodeIncomplete         = "IncompleteSignatureException"        // the header or what belongs to it is malformed
	CodeUnrecognizedClient = "UnrecognizedClientException"         // a session token: there are none
	CodeInvalidSignature   = "InvalidSignatureException"           // well-formed, and does not hold: key, signature, scope, time
	CodeAccessDenied       = "AccessDeniedException"               // a header that must be signed is not
	CodeEntityTooLarge     = "RequestEntityTooLargeException"      // the body is longer than the Verifier reads
	CodeIncompleteBody     = "IncompleteBody"                      // the body could not be read to its end
	CodeThrottling         = "ThrottlingException"                 // too many failures from where it comes
)

const tooManyFailures = "Too many signatures from your address did not hold. Try again later"

// Error is a refusal, ready to be put on the wire. The message holds nothing secret.
type Error struct {
	Code    string // one of the Code constants
	Status  int    // HTTP status
	Message string
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

func incomplete(format string, args ...any) *Error {
	return &Error{CodeIncomplete, http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) *Error {
	return &Error{CodeInvalidSignature, http.StatusForbidden, fmt.Sprintf(format, args...)}
}

// clip bounds what a message repeats of the client's own text.
func clip(s string) string {
	const limit = 100
	if len(s) <= limit {
		return s
	}
	return s[:limit] + "..."
}
