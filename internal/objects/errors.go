package objects

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"syscall"

	"drover/internal/auth"
)

// Error is a refusal in S3's form.
type Error struct {
	Code    string // S3's
	Status  int    // of HTTP
	Message string
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

func errorf(code string, status int, format string, args ...any) *Error {
	return &Error{code, status, fmt.Sprintf(format, args...)}
}

var (
	errNoSuchKey     = errorf("NoSuchKey", http.StatusNotFound, "The specified key does not exist.")
	errNoSuchVersion = errorf("NoSuchVersion", http.StatusNotFound, "The specified version does not exist.")
	errNoSuchBucket  = errorf("NoSuchBucket", http.StatusNotFound, "The specified bucket does not exist")
	errNoSuchUpload  = errorf("NoSuchUpload", http.StatusNotFound, "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.")
	errPrecondition  = errorf("PreconditionFailed", http.StatusPreconditionFailed, "At least one of the pre-conditions you specified did not hold")
	errNotModified   = errorf("NotModified", http.StatusNotModified, "Not Modified") // has no body
	errMalformedXML  = errorf("MalformedXML", http.StatusBadRequest, "The XML you provided was not well-formed or did not validate against our published schema")
)

func notImplemented(what string) *Error {
	return errorf("NotImplemented", http.StatusNotImplemented, "A header or an operation that you asked for is not implemented here: %s", what)
}

// answerTo turns any error into what the client is told, and says whether it is our fault.
func answerTo(err error) (answer *Error, ours bool) {
	var refused *auth.Error
	var network *net.OpError
	switch {
	case errors.As(err, &answer):
		return answer, false
	case errors.As(err, &refused) && refused.Code == auth.CodeAccessDenied: // S3 has a word of its own
		return &Error{auth.CodeS3AccessDenied, refused.Status, refused.Message}, false
	case errors.As(err, &refused):
		return &Error{refused.Code, refused.Status, refused.Message}, false
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errorf("RequestTimeout", http.StatusBadRequest, "Your socket connection to the server was not read from or written to within the timeout period."), false
	case errors.Is(err, net.ErrClosed): // see transfers
		return errorf("ServiceUnavailable", http.StatusServiceUnavailable, "The server stops. Please try again."), false
	case errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &network):
		return errorf("IncompleteBody", http.StatusBadRequest, "You did not provide the number of bytes specified by the Content-Length HTTP header"), false
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return errorf("InsufficientStorage", http.StatusInsufficientStorage, "The server has no room left for objects."), true
	case errors.Is(err, fs.ErrNotExist): // an object, bucket or upload that went while it was in use
		return errorf("OperationAborted", http.StatusConflict, "A conflicting conditional operation is currently in progress against this resource. Please try again."), false
	}
	return errorf("InternalError", http.StatusInternalServerError, "We encountered an internal error. Please try again."), true
}

// errorHeaders are what may stand in front of an error, in the spelling of net/http; what had
// been said of an object before is not true of the error document. A "not modified" is about
// the object, and has no document.
var (
	errorHeaders       = []string{"Allow", "Content-Range", "Retry-After", "X-Amz-Delete-Marker", "X-Amz-Request-Id", "X-Amz-Version-Id"}
	notModifiedHeaders = []string{"Cache-Control", "Etag", "Expires", "Last-Modified", "X-Amz-Request-Id", "X-Amz-Version-Id"}
)

// writeError answers with S3's error document. Resource and request id are the request's.
func writeError(w http.ResponseWriter, r *http.Request, e *Error) {
	kept := errorHeaders
	if e.Status == http.StatusNotModified {
		kept = notModifiedHeaders
	}
	maps.DeleteFunc(w.Header(), func(name string, _ []string) bool { return !slices.Contains(kept, name) })
	if e.Status == http.StatusNotModified || r.Method == http.MethodHead {
		w.WriteHeader(e.Status)
		return
	}
	writeXML(w, e.Status, struct {
		XMLName                            xml.Name `xml:"Error"`
		Code, Message, Resource, RequestId string
	}{Code: e.Code, Message: e.Message, Resource: r.URL.Path, RequestId: w.Header().Get("X-Amz-Request-Id")})
}

func writeXML(w http.ResponseWriter, status int, v any) {
	text, err := xml.Marshal(v)
	if err != nil { // our own structs
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Content-Length", strconv.Itoa(len(xml.Header)+len(text)))
	w.WriteHeader(status)
	// Whoever asked has gone if this fails.
	_, _ = io.WriteString(w, xml.Header)
	_, _ = w.Write(text)
}
