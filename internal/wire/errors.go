package wire

import (
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// An Error is an error as the wire shows it. Handlers may return one; [Service.NewError] makes one with the right status.
type Error struct {
	Code    string         // the error's name, as in ResourceNotFoundException
	Status  int            // HTTP status, 400 to 599
	Message string         // shown to the caller
	Members map[string]any // further members of the error's shape, as in resourceId
}

// Error implements error.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Codes that this package answers with by itself.
const (
	codeInternal       = "InternalFailureException"
	codeInvalidRequest = "InvalidRequestException"
	codeMethod         = "MethodNotAllowedException"
	codeNotImplemented = "NotImplementedException"
	codeTooLarge       = "RequestEntityTooLargeException"
	codeUnavailable    = "ServiceUnavailableException"
	codeUnknown        = "UnknownOperationException"
)

// commonStatus has the errors that any service may answer with: those of this package and those of failed
// authentication, which are in no service's model.
var commonStatus = map[string]int{
	codeInternal:       http.StatusInternalServerError,
	codeMethod:         http.StatusMethodNotAllowed,
	codeNotImplemented: http.StatusNotImplemented,
	codeTooLarge:       http.StatusRequestEntityTooLarge,
	codeUnavailable:    http.StatusServiceUnavailable,
	codeUnknown:        http.StatusNotFound,

	"AccessDeniedException":               http.StatusForbidden,
	"ExpiredTokenException":               http.StatusForbidden,
	"ForbiddenException":                  http.StatusForbidden,
	"IncompleteSignatureException":        http.StatusForbidden,
	"InvalidClientTokenId":                http.StatusForbidden,
	"InvalidSignatureException":           http.StatusForbidden,
	"MissingAuthenticationTokenException": http.StatusForbidden,
	"RequestTimeTooSkewed":                http.StatusForbidden,
	"SignatureDoesNotMatch":               http.StatusForbidden,
	"UnrecognizedClientException":         http.StatusForbidden,
}

// iotStatus has the errors of the control plane's model.
var iotStatus = map[string]int{
	"CertificateConflictException":         409,
	"CertificateStateException":            406,
	"CertificateValidationException":       400,
	"ConflictException":                    409,
	"ConflictingResourceUpdateException":   409,
	"DeleteConflictException":              409,
	"IndexNotReadyException":               400,
	"InternalException":                    500,
	"InternalFailureException":             500,
	"InternalServerException":              500,
	"InvalidAggregationException":          400,
	"InvalidQueryException":                400,
	"InvalidRequestException":              400,
	"InvalidResponseException":             400,
	"InvalidStateTransitionException":      409,
	"LimitExceededException":               410,
	"MalformedPolicyException":             400,
	"NotConfiguredException":               404,
	"RegistrationCodeValidationException":  400,
	"ResourceAlreadyExistsException":       409,
	"ResourceNotFoundException":            404,
	"ResourceRegistrationFailureException": 400,
	"ServiceQuotaExceededException":        402,
	"ServiceUnavailableException":          503,
	"SqlParseException":                    400,
	"TaskAlreadyExistsException":           400,
	"ThrottlingException":                  400, // 429 in the data planes
	"TransferAlreadyCompletedException":    410,
	"TransferConflictException":            409,
	"UnauthorizedException":                401,
	"ValidationException":                  400,
	"VersionConflictException":             409,
	"VersionsLimitExceededException":       409,
}

// jobsDataStatus has the errors of the jobs data plane's model.
var jobsDataStatus = map[string]int{
	"CertificateValidationException":  400,
	"ConflictException":               409,
	"InternalServerException":         500,
	"InvalidRequestException":         400,
	"InvalidStateTransitionException": 409,
	"ResourceNotFoundException":       404,
	"ServiceQuotaExceededException":   402,
	"ServiceUnavailableException":     503,
	"TerminalStateException":          410,
	"ThrottlingException":             429, // 400 in the control plane
	"ValidationException":             400,
}

// iotDataStatus has the errors of the data plane's model.
var iotDataStatus = map[string]int{
	"ConflictException":                    409,
	"ForbiddenException":                   403,
	"GatewayTimeoutException":              504,
	"InternalFailureException":             500,
	"InvalidRequestException":              400,
	"MethodNotAllowedException":            405,
	"RequestEntityTooLargeException":       413,
	"ResourceNotFoundException":            404,
	"ServiceUnavailableException":          503,
	"ThrottlingException":                  429,
	"UnauthorizedException":                401,
	"UnsupportedDocumentEncodingException": 415,
}

// NewError makes an error with the status that the service gives to the code: the same code may have another status in
// another service. It panics if the service has no such error.
func (s *Service) NewError(code, message string) *Error {
	status, ok := s.status[code]
	if !ok {
		if status, ok = commonStatus[code]; !ok {
			panic(fmt.Sprintf("wire: the service %s has no error %q", s.name, code))
		}
	}
	return &Error{Code: code, Status: status, Message: message}
}

// newNames are what the operations on commands and packages, which came later, have instead of the older errors.
var newNames = map[string]string{
	codeInternal:                         "InternalServerException",
	codeInvalidRequest:                   "ValidationException",
	"ConflictingResourceUpdateException": "ConflictException",
	"DeleteConflictException":            "ConflictException",
	"LimitExceededException":             "ServiceQuotaExceededException",
	"ResourceAlreadyExistsException":     "ConflictException",
	"VersionConflictException":           "ConflictException",
}

// newer reports whether the errors of the operation have the names of newNames.
func (o *Operation) newer() bool {
	return strings.Contains(o.Name, "Command") || strings.Contains(o.Name, "Package") || strings.Contains(o.Name, "Sbom")
}

// rename gives an error the name that the operation has for it.
func (s *Service) rename(op *operation, e *Error) *Error {
	name, ok := newNames[e.Code]
	if !ok || !op.newer() {
		return e
	}
	renamed := s.NewError(name, e.Message)
	if id, ok := e.Members["resourceId"]; ok {
		renamed.Members = map[string]any{"resourceId": id}
	}
	return renamed
}

// invalid is an InvalidRequestException, which is 400 in every service.
func invalid(format string, args ...any) *Error {
	return &Error{Code: codeInvalidRequest, Status: http.StatusBadRequest, Message: fmt.Sprintf(format, args...)}
}

// WriteError answers with e: its status, x-amzn-ErrorType, x-amzn-RequestId (kept if it is set already) and a JSON body of
// the message and e's members. A status that is not one of an error becomes 500. It panics if a member cannot be encoded.
func WriteError(w http.ResponseWriter, e *Error) {
	body := make(map[string]any, len(e.Members)+1)
	maps.Copy(body, e.Members)
	body["message"] = e.Message
	data, err := encode(body)
	if err != nil {
		panic(fmt.Sprintf("wire: error %s: %v", e.Code, err))
	}
	status := e.Status
	if status < 400 || status > 599 {
		status = http.StatusInternalServerError
	}
	h := w.Header()
	if h.Get(requestIDHeader) == "" {
		h.Set(requestIDHeader, uuid.NewString())
	}
	h.Set("X-Amzn-Errortype", e.Code)
	writeJSON(w, status, data)
}

func writeJSON(w http.ResponseWriter, status int, data []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(data)))
	w.WriteHeader(status)
	_, _ = w.Write(data) // fails only if the caller has gone, and then there is nobody to tell
}
