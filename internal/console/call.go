package console

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"

	"drover/internal/auth"
	"drover/internal/iot"
)

// call sends a request to the API in the name of who is signed in, and decodes its answer into out
// unless that is nil. A refusal is an *iot.Error or, if it is about permissions, an *auth.Error.
func (r *request) call(method, path string, query url.Values, in, out any, header ...string) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	rq, err := http.NewRequestWithContext(r.Context(), method, path, body)
	if err != nil {
		return err
	}
	rq.RequestURI, rq.Host, rq.RemoteAddr = rq.URL.RequestURI(), r.Host, r.RemoteAddr
	for i := 0; i+1 < len(header); i += 2 {
		rq.Header.Set(header[i], header[i+1])
	}
	w := &answer{header: http.Header{}, status: http.StatusOK}
	r.API.ServeHTTP(w, rq)
	if w.status < 300 {
		if out == nil {
			return nil
		}
		return json.Unmarshal(w.body.Bytes(), out)
	}
	var refusal struct{ Message string }
	if err := json.Unmarshal(w.body.Bytes(), &refusal); err != nil || refusal.Message == "" {
		refusal.Message = http.StatusText(w.status)
	}
	switch {
	case w.status == http.StatusForbidden:
		return &auth.Error{Code: auth.CodeAccessDenied, Status: w.status, Message: refusal.Message}
	case w.status == http.StatusNotFound:
		return iot.Errorf(iot.NotFound, "%s", refusal.Message)
	case w.status == http.StatusConflict:
		return iot.Errorf(iot.AlreadyExists, "%s", refusal.Message)
	case w.status == http.StatusServiceUnavailable || w.status == http.StatusTooManyRequests:
		return iot.Errorf(iot.Unavailable, "%s", refusal.Message)
	case w.status >= 500:
		return iot.Errorf(iot.Internal, "%s", refusal.Message)
	}
	return iot.Errorf(iot.InvalidRequest, "%s", refusal.Message)
}

// answer is an answer of the API.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }
