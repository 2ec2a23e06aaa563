package console

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

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
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			rq.Host = header[i+1]
			continue
		}
		rq.Header.Set(header[i], header[i+1])
	}
	text, err := r.ask(rq)
	if err != nil || out == nil {
		return err
	}
	return json.Unmarshal(text, out)
}

// ask has the server answer a request as if it had come over the network.
func (r *request) ask(rq *http.Request) ([]byte, error) {
	r.dress(rq)
	w := &answer{ResponseWriter: r.w, header: http.Header{}, status: http.StatusOK}
	r.API.ServeHTTP(w, rq)
	if w.status < 300 {
		return w.body.Bytes(), nil
	}
	return nil, w.refusal()
}

// dress gives a request what it would have if it had come over the network.
func (r *request) dress(rq *http.Request) {
	rq.RequestURI, rq.RemoteAddr = rq.URL.RequestURI(), r.RemoteAddr
	if rq.Host == "" {
		rq.Host = r.Host
	}
	if rq.Body == nil {
		rq.Body = http.NoBody // as servers have it
	}
}

// answer is an answer of the API. The connection below it is that of who asked.
type answer struct {
	http.ResponseWriter
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// refusal is what the API says, in JSON or, where it is S3's, in XML.
func (a *answer) refusal() error {
	var said struct {
		Message string `json:"message" xml:"Message"`
	}
	if json.Unmarshal(a.body.Bytes(), &said) != nil && xml.Unmarshal(a.body.Bytes(), &said) != nil || said.Message == "" {
		said.Message = http.StatusText(a.status)
	}
	code := iot.InvalidRequest
	switch {
	case a.status == http.StatusForbidden:
		return &auth.Error{Code: auth.CodeAccessDenied, Status: a.status, Message: said.Message}
	case a.status == http.StatusNotFound:
		code = iot.NotFound
	case a.status == http.StatusConflict:
		code = iot.AlreadyExists
	case a.status == http.StatusServiceUnavailable || a.status == http.StatusTooManyRequests:
		code = iot.Unavailable
	case a.status >= 500:
		code = iot.Internal
	}
	return iot.Errorf(code, "%s", said.Message)
}

// s3 is a request to the object store.
func (r *request) s3(ctx context.Context, method, bucket, key string, query url.Values, body io.Reader) (*http.Request, error) {
	u := url.URL{Scheme: "http", Host: "s3.console", Path: "/" + bucket, RawQuery: query.Encode()}
	if key != "" {
		u.Path += "/" + key
	}
	rq, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, iot.Errorf(iot.InvalidRequest, "%s: %v", key, err)
	}
	return rq, nil
}

// seconds is a time as the API writes it.
type seconds float64

// Time is the same time in milliseconds.
func (s seconds) Time() iot.Time { return iot.Time(float64(s) * 1000) }

// text is the message of an error for who caused it, and whether it is one of those.
func told(err error) (text string, ok bool) {
	if refused, ok := errors.AsType[*auth.Error](err); ok {
		return refused.Message, true
	}
	if known, ok := errors.AsType[*iot.Error](err); ok && known.Code != iot.Internal {
		return strings.TrimSpace(known.Message), true
	}
	return "", false
}
