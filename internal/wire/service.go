package wire

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// requestIDHeader is x-amzn-RequestId in the form that net/http gives to names of headers.
const requestIDHeader = "X-Amzn-Requestid"

// Config is what a service needs from the program around it.
type Config struct {
	// MapError turns a handler's error into the one to show. For nil, or if MapError is nil, the caller is told of an
	// internal error and the text goes to the log. A handler's own *Error is not passed to it.
	MapError func(error) *Error

	Logger  *slog.Logger // default slog.Default()
	MaxBody int64        // largest body in bytes, default 1 MiB

	// Observe is called once for each request that has been answered, with the operation's name ("Unknown" if no
	// operation fits) and the error that it was answered with, nil for none. It may be nil.
	Observe func(operation string, e *Error, d time.Duration)
}

// Service is one AWS service: its operations, its errors and their handlers. Declare all handlers with [Handle] before it
// serves; after that it may be used by many goroutines.
type Service struct {
	name   string
	cfg    Config
	status map[string]int // error → HTTP status
	routes node
	byName map[string]*operation
}

// operation is an Operation with what it takes to serve it.
type operation struct {
	Operation
	labels []string // names of the labels in their order in the URI
	input  *object
	handle func(context.Context, *request) (any, error) // nil if there is no handler
}

// NewIoT returns the control plane, signing name "iot", with all of its operations and no handlers.
func NewIoT(cfg Config) *Service { return newService("iot", cfg, iotOperations, iotStatus) }

// NewJobsData returns the jobs data plane, signing name "iot-jobs-data", with all of its operations and no handlers.
func NewJobsData(cfg Config) *Service {
	return newService("iot-jobs-data", cfg, jobsDataOperations, jobsDataStatus)
}

// NewIoTData returns the data plane, signing name "iotdata", with all of its operations and no handlers.
func NewIoTData(cfg Config) *Service {
	return newService("iotdata", cfg, iotDataOperations, iotDataStatus)
}

func newService(name string, cfg Config, operations []Operation, status map[string]int) *Service {
	cfg.Logger = cmp.Or(cfg.Logger, slog.Default())
	cfg.MaxBody = cmp.Or(cfg.MaxBody, 1<<20)
	s := &Service{name: name, cfg: cfg, status: status, byName: make(map[string]*operation, len(operations))}
	for _, o := range operations {
		op := &operation{Operation: o}
		s.byName[o.Name] = op
		s.routes.add(op)
	}
	return s
}

// Name returns the service's signing name.
func (s *Service) Name() string { return s.name }

// Operations returns all operations of the service in alphabetical order.
func (s *Service) Operations() []Operation {
	list := make([]Operation, 0, len(s.byName))
	for _, op := range s.byName {
		o := op.Operation
		o.Served = op.handle != nil
		list = append(list, o)
	}
	slices.SortFunc(list, func(a, b Operation) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Lookup returns the name of the operation that a request with the method and the escaped path is for, "" if there is none.
func (s *Service) Lookup(method, path string) string {
	if op, _, _, _ := s.route(method, path); op != nil {
		return op.Name
	}
	return ""
}

// Empty is the output of operations that have no output members; it is written as {}.
type Empty struct{}

// Handle declares the handler of an operation. It panics if the service has no such operation, if the operation has a
// handler already, if In's declarations are malformed, or if In's labels are not those of the operation's URI.
func Handle[In, Out any](s *Service, operation string, h func(ctx context.Context, in *In) (*Out, error)) {
	op := s.byName[operation]
	if op == nil {
		panic(fmt.Sprintf("wire: the service %s has no operation %q", s.name, operation))
	}
	if op.handle != nil {
		panic(fmt.Sprintf("wire: two handlers for %s", operation))
	}
	op.input = objectOf(reflect.TypeFor[In]())
	op.input.checkLabels(op)
	op.handle = func(ctx context.Context, r *request) (any, error) {
		in := new(In)
		v := reflect.ValueOf(in).Elem()
		if e := op.bind(v, r); e != nil {
			return nil, e
		}
		if e := op.input.validate(v); e != nil {
			return nil, e
		}
		out, err := h(ctx, in)
		if err != nil {
			return nil, err
		}
		if out == nil {
			return Empty{}, nil
		}
		return out, nil
	}
}

type requestIDKey struct{}

// RequestID returns the id of the request that ctx belongs to, a UUID, or "" outside of one.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// Identify gives a request an id, unless it has one: in its context and in the header of its answer. Handlers around a
// service call it to know the id, too.
func Identify(w http.ResponseWriter, r *http.Request) *http.Request {
	if RequestID(r.Context()) != "" {
		return r
	}
	return r.WithContext(identify(r.Context(), w))
}

func identify(ctx context.Context, w http.ResponseWriter) context.Context {
	if RequestID(ctx) != "" {
		return ctx
	}
	id := w.Header().Get(requestIDHeader)
	if id == "" {
		id = uuid.NewString()
		w.Header().Set(requestIDHeader, id)
	}
	return context.WithValue(ctx, requestIDKey{}, id)
}

// NameSpan gives the span of ctx, if it has one, the name of the operation that was carried out, and the code of its
// error.
func NameSpan(ctx context.Context, operation string, e *Error) {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	span.SetName(operation)
	span.SetAttributes(attribute.String("rpc.method", operation), attribute.String("drover.request", RequestID(ctx)))
	if e != nil {
		span.SetAttributes(attribute.String("error.type", e.Code))
	}
}

// ServeHTTP implements http.Handler.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	ctx := identify(r.Context(), w)

	op, labels, allowed, e := s.route(r.Method, r.URL.EscapedPath())
	name := "Unknown"
	if op != nil {
		name = op.Name
	}
	if len(allowed) > 0 {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
	}
	var body []byte
	status := http.StatusOK
	if e == nil {
		if status, body, e = s.answer(ctx, op, &request{w: w, r: r, labels: labels, maxBody: s.cfg.MaxBody}); e != nil {
			e = s.rename(op, e)
		}
	}
	switch {
	case e != nil:
		WriteError(w, e)
	case status == http.StatusNoContent:
		w.WriteHeader(status)
	default:
		writeJSON(w, status, body)
	}
	NameSpan(ctx, name, e)
	if s.cfg.Observe != nil {
		s.cfg.Observe(name, e, time.Since(start))
	}
}

// Statuser is an output that says its HTTP status, where that is not 200.
type Statuser interface{ HTTPStatus() int }

// answer runs the operation and returns status and body of its answer. It does not panic, but for http.ErrAbortHandler.
func (s *Service) answer(ctx context.Context, op *operation, r *request) (status int, body []byte, e *Error) {
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p)
			}
			s.cfg.Logger.ErrorContext(ctx, "panic while serving", "op", op.Name,
				"panic", p, "stack", string(debug.Stack()))
			status, body, e = 0, nil, s.internal()
		}
	}()
	if op.handle == nil {
		return 0, nil, s.NewError(codeNotImplemented, fmt.Sprintf("drover does not have the operation %s (%s %s) of the service %s",
			op.Name, op.Method, op.URI, s.name))
	}
	out, err := op.handle(ctx, r)
	if err == nil {
		body, err = encode(out)
	}
	if err != nil {
		return 0, nil, s.explain(ctx, op, err)
	}
	if out, ok := out.(Statuser); ok {
		return out.HTTPStatus(), body, nil
	}
	return http.StatusOK, body, nil
}

// explain turns a handler's error into the one to show.
func (s *Service) explain(ctx context.Context, op *operation, err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if s.cfg.MapError != nil {
		if e := s.cfg.MapError(err); e != nil {
			return e
		}
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		// The caller has gone or the server stops; if somebody still reads this, they may try again.
		s.cfg.Logger.DebugContext(ctx, "request cancelled", "op", op.Name, "err", err)
		return s.NewError(codeUnavailable, "The request was cancelled before it was done")
	}
	s.cfg.Logger.ErrorContext(ctx, "request failed", "op", op.Name, "err", err)
	return s.internal()
}

func (s *Service) internal() *Error {
	return s.NewError(codeInternal, "An internal error has occurred")
}

// encode writes v as JSON, with <, > and & as they are.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
