package conformance

import (
	"context"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// spans is a collector of OpenTelemetry, by HTTP and by gRPC.
type spans struct {
	collector.UnimplementedTraceServiceServer

	mu   sync.Mutex
	all  []*tracepb.Span
	from []string // what the resources say of themselves
	bad  error
}

// ServeHTTP implements http.Handler.
func (s *spans) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var request collector.ExportTraceServiceRequest
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = proto.Unmarshal(body, &request)
	}
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.bad = err
		return
	}
	_, _ = s.Export(r.Context(), &request) // which cannot fail
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// Export implements collector.TraceServiceServer.
func (s *spans) Export(_ context.Context, request *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, resource := range request.GetResourceSpans() {
		s.from = append(s.from, resource.GetResource().String())
		for _, scope := range resource.GetScopeSpans() {
			s.all = append(s.all, scope.GetSpans()...)
		}
	}
	return new(collector.ExportTraceServiceResponse), nil
}

// forget makes it as new.
func (s *spans) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all, s.from, s.bad = nil, nil, nil
}

// everything returns the spans, and of what they are.
func (s *spans) everything() (all []*tracepb.Span, from []string, bad error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all), slices.Clone(s.from), s.bad
}

// named returns the spans of a name.
func named(all []*tracepb.Span, name string) []*tracepb.Span {
	return slices.DeleteFunc(slices.Clone(all), func(x *tracepb.Span) bool { return x.GetName() != name })
}

// childOf reports whether one of the spans is a child of another.
func childOf(all []*tracepb.Span, parent *tracepb.Span) bool {
	return slices.ContainsFunc(all, func(x *tracepb.Span) bool {
		return string(x.GetParentSpanId()) == string(parent.GetSpanId()) && string(x.GetTraceId()) == string(parent.GetTraceId())
	})
}

// TestTracing: a collector hears of requests to the API, as part of the caller's trace, of batches, and of
// the transactions of both; of nothing that is secret; and of nothing unless it is asked for.
func TestTracing(t *testing.T) {
	t.Parallel()
	if *endpointFlag != "" {
		t.Skip("needs a server of its own; not against a foreign endpoint")
	}
	got := new(spans)
	at := httptest.NewServer(got)
	t.Cleanup(at.Close)
	door, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	rpc := grpc.NewServer()
	collector.RegisterTraceServiceServer(rpc, got)
	var serving errgroup.Group
	serving.Go(func() error { return rpc.Serve(door) })
	t.Cleanup(func() {
		rpc.Stop()
		if err := serving.Wait(); err != nil {
			t.Error(err)
		}
	})
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	for name, way := range map[string]struct{ flags, env []string }{
		"flag":     {flags: []string{"--otlp-endpoint", at.URL}},
		"gRPC":     {flags: []string{"--otlp-endpoint", "http://" + door.Addr().String()}, env: []string{"OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}},
		"variable": {env: []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + at.URL, "OTEL_SERVICE_NAME=fleet"}},
	} {
		t.Run(name, func(t *testing.T) {
			got.forget()
			cmd := exec.Command(path)
			cmd.Env, cmd.Stderr = append(os.Environ(), way.env...), os.Stderr
			s, err := launch(cmd, t.TempDir(), way.flags...)
			if err != nil {
				t.Fatal(err)
			}
			f := fleetOn(t, s)
			const trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
			_, err = f.api.CreateThing(f.ctx, &iot.CreateThingInput{ThingName: new("traced")}, traced("00-"+trace+"-"+parent+"-01"))
			f.must(err)
			_, err = f.api.DescribeThing(f.ctx, &iot.DescribeThingInput{ThingName: new("nobody")})
			if err == nil {
				t.Error("nobody is described")
			}
			d := f.connect(f.thing("asks"))
			_, _, err = d.ask("start-next", `{}`)
			f.must(err)
			d.disconnect()
			for range 3 {
				f.fetch("GET", f.http+"/readyz", "")
			}
			f.must(f.terminate()) // which sends the rest

			all, from, bad := got.everything()
			if bad != nil {
				t.Error(bad)
			}
			if want := map[string]string{"flag": "drover", "gRPC": "drover", "variable": "fleet"}[name]; len(from) == 0 || !strings.Contains(from[0], want) {
				t.Errorf("spans are of %q, want %s", from, want)
			}
			created := named(all, "CreateThing")
			i := slices.IndexFunc(created, func(x *tracepb.Span) bool { return hex.EncodeToString(x.GetTraceId()) == trace })
			if i < 0 || hex.EncodeToString(created[i].GetParentSpanId()) != parent {
				t.Fatalf("no span of CreateThing in the trace of its caller, of %d", len(created))
			}
			if !childOf(named(all, "update"), created[i]) {
				t.Error("CreateThing has no transaction")
			}
			failed := named(all, "DescribeThing")
			if len(failed) != 1 || !strings.Contains(failed[0].String(), "ResourceNotFoundException") {
				t.Errorf("DescribeThing has %d spans, or no error: %v", len(failed), failed)
			}
			batches := named(all, "batch")
			if len(batches) == 0 || !childOf(named(all, "update"), batches[0]) {
				t.Errorf("%d batches, or one without its transaction", len(batches))
			}
			for _, x := range all {
				if text := x.String(); strings.Contains(text, "readyz") || strings.Contains(text, s.secret) || strings.Contains(text, "Signature") {
					t.Errorf("a span of what is nobody's business: %s", text)
				}
			}
		})
	}
}

// traced has a request say of which trace it is.
func traced(parent string) func(*iot.Options) {
	return func(o *iot.Options) {
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			return stack.Build.Add(middleware.BuildMiddlewareFunc("traceparent", func(ctx context.Context, in middleware.BuildInput, next middleware.BuildHandler) (middleware.BuildOutput, middleware.Metadata, error) {
				if r, ok := in.Request.(*smithyhttp.Request); ok {
					r.Header.Set("Traceparent", parent)
				}
				return next.HandleBuild(ctx, in)
			}), middleware.After)
		})
	}
}

// TestNoTracing: a collector that is there, but not asked for, hears nothing.
func TestNoTracing(t *testing.T) {
	t.Parallel()
	if *endpointFlag != "" {
		t.Skip("needs a server of its own; not against a foreign endpoint")
	}
	got := new(spans)
	at := httptest.NewServer(got)
	t.Cleanup(at.Close)
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path)
	cmd.Env, cmd.Stderr = append(os.Environ(), "OTEL_EXPORTER_OTLP_ENDPOINT="+at.URL, "OTEL_SDK_DISABLED=true"), os.Stderr
	s, err := launch(cmd, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	f := fleetOn(t, s)
	f.thing("t")
	f.must(f.terminate())
	if all, _, _ := got.everything(); len(all) > 0 {
		t.Errorf("%d spans", len(all))
	}
}
