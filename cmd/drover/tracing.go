package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"
)

// tracing sends spans to a collector by OTLP: of requests by HTTP, of batches of devices' requests, and of
// the transactions that these take. nil does nothing.
type tracing struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

const (
	tracerName = "drover"
	// tracePatience is how long a server that stops tries to get rid of its last spans.
	tracePatience = 3 * time.Second
)

// newTracing is tracing as --otlp-endpoint or the standard variables of OpenTelemetry want it, nil if
// neither names an endpoint.
func (c *serveConfig) newTracing(ctx context.Context, log *slog.Logger) (*tracing, error) {
	if !c.traces() {
		return nil, nil
	}
	client, err := c.traceClient()
	if err != nil {
		return nil, err
	}
	exporter, err := otlptrace.New(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	// What the environment says comes last, and counts.
	about, err := resource.New(ctx, resource.WithHost(), resource.WithTelemetrySDK(),
		resource.WithAttributes(semconv.ServiceName("drover"), semconv.ServiceVersion(release())), resource.WithFromEnv())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("tracing: %w", err), exporter.Shutdown(ctx))
	}
	// How many are sampled is said by OTEL_TRACES_SAMPLER, how they are put together by OTEL_BSP_….
	p := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))
	otel.SetErrorHandler(&traceErrors{log: log})
	return &tracing{provider: p, tracer: p.Tracer(tracerName)}, nil
}

// traces reports whether anybody wants spans.
func (c *serveConfig) traces() bool {
	if c.OTLPEndpoint != "" {
		return true
	}
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") || os.Getenv("OTEL_TRACES_EXPORTER") == "none" {
		return false
	}
	return os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
}

// The protocols of OTEL_EXPORTER_OTLP_PROTOCOL that the exporters speak.
const (
	otlpHTTP = "http/protobuf"
	otlpGRPC = "grpc"
)

func (c *serveConfig) traceClient() (otlptrace.Client, error) {
	protocol := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"), otlpHTTP)
	switch protocol {
	case otlpHTTP:
		var options []otlptracehttp.Option
		if c.OTLPEndpoint != "" {
			at, err := url.Parse(c.OTLPEndpoint)
			if err != nil {
				return nil, err
			}
			if strings.Trim(at.Path, "/") == "" { // as of OTEL_EXPORTER_OTLP_ENDPOINT
				at.Path = "/v1/traces"
			}
			options = append(options, otlptracehttp.WithEndpointURL(at.String()))
		}
		return otlptracehttp.NewClient(options...), nil
	case otlpGRPC:
		var options []otlptracegrpc.Option
		if c.OTLPEndpoint != "" {
			options = append(options, otlptracegrpc.WithEndpointURL(c.OTLPEndpoint))
		}
		return otlptracegrpc.NewClient(options...), nil
	}
	return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL: %q is neither %s nor %s", protocol, otlpHTTP, otlpGRPC)
}

// checkOTLP says what is wrong with --otlp-endpoint.
func checkOTLP(endpoint string) error {
	at, err := url.Parse(endpoint)
	if err != nil || at.Host == "" || !slices.Contains([]string{"http", "https"}, at.Scheme) {
		return fmt.Errorf("--otlp-endpoint: %q is not a URL such as http://127.0.0.1:4318", endpoint)
	}
	return nil
}

// start is the tracer for those who begin spans of their own; nil if nobody wants them.
func (t *tracing) start() trace.Tracer {
	if t == nil {
		return nil
	}
	return t.tracer
}

// handler adds a span to each request, a child of its caller's. Whoever asks how the server is, and
// WebSockets, which take hours, get none.
func (t *tracing) handler(next http.Handler) http.Handler {
	if t == nil {
		return next
	}
	return otelhttp.NewHandler(next, "",
		otelhttp.WithTracerProvider(t.provider), otelhttp.WithPropagators(propagation.TraceContext{}),
		otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string { return r.Method }), // until the operation is known
		otelhttp.WithFilter(func(r *http.Request) bool {
			return !slices.Contains([]string{"/healthz", "/readyz", "/metrics", webSocketPath}, r.URL.Path)
		}))
}

// close sends what has not been sent. Spans that nobody takes are no reason to stop badly.
func (t *tracing) close(log *slog.Logger) {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), tracePatience)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		log.Warn("the last spans were not sent", "err", err)
	}
}

// traceErrors says that spans are not sent, once a minute.
type traceErrors struct {
	log *slog.Logger

	mu   sync.Mutex
	said time.Time
}

// Handle implements otel.ErrorHandler.
func (e *traceErrors) Handle(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if time.Since(e.said) < time.Minute {
		return
	}
	e.said = time.Now()
	e.log.Warn("spans are not sent", "err", err)
}
