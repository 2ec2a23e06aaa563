package wire_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane"

	"drover/internal/wire"
)

func newClient(t *testing.T, s *wire.Service) *iot.Client {
	t.Helper()
	server := listen(t, s)
	return iot.New(iot.Options{
		Region: "eu-west-1", BaseEndpoint: aws.String(server.URL), Credentials: aws.AnonymousCredentials{}, RetryMaxAttempts: 1,
		HTTPClient: server.Client(),
	})
}

func newDataClient(t *testing.T, s *wire.Service) *iotdataplane.Client {
	t.Helper()
	server := listen(t, s)
	return iotdataplane.New(iotdataplane.Options{
		Region: "eu-west-1", BaseEndpoint: aws.String(server.URL), Credentials: aws.AnonymousCredentials{}, RetryMaxAttempts: 1,
		HTTPClient: server.Client(),
	})
}

func listen(t *testing.T, s *wire.Service) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return server
}

// sdkOperations are the operations of an SDK's client: its methods that take (ctx, *XInput, ...func(*Options)).
func sdkOperations(client any) map[string]reflect.Type {
	ops := make(map[string]reflect.Type)
	for m := range reflect.TypeOf(client).Methods() {
		if m.Type.NumIn() == 4 && m.Type.In(2).Kind() == reflect.Pointer && m.Type.In(2).Elem().Name() == m.Name+"Input" {
			ops[m.Name] = m.Type.In(2).Elem()
		}
	}
	return ops
}

// TestOperationsAreTheSDKs sends every operation of the SDK's clients: the answer must name that operation, with its method
// and URI found in our table, and the table must have no others.
func TestOperationsAreTheSDKs(t *testing.T) {
	t.Parallel()
	control, data := wire.NewIoT(wire.Config{}), wire.NewIoTData(wire.Config{})
	operationsAreTheSDKs(t, control, newClient(t, control), 272)
	operationsAreTheSDKs(t, data, newDataClient(t, data), 11)
}

func operationsAreTheSDKs(t *testing.T, s *wire.Service, sdk any, count int) {
	client, ops := reflect.ValueOf(sdk), sdkOperations(sdk)
	for name, inputType := range ops {
		in := reflect.New(inputType)
		fill(in.Elem(), 0)
		out := client.MethodByName(name).Call([]reflect.Value{reflect.ValueOf(t.Context()), in})
		err, _ := out[1].Interface().(error)
		if err == nil || !strings.Contains(err.Error(), "drover does not have the operation "+name+" (") {
			t.Errorf("%s: %v", name, err)
		}
	}
	var have []string
	for _, op := range s.Operations() {
		have = append(have, op.Name)
		if ops[op.Name] == nil {
			t.Errorf("%s is not the SDK's", op.Name)
		}
	}
	if len(have) != len(ops) || len(have) != count || !slices.IsSorted(have) {
		t.Errorf("%d operations, the SDK has %d", len(have), len(ops))
	}
}

// fill gives every member that it can a value, so that the client finds nothing missing.
func fill(v reflect.Value, depth int) {
	if depth > 20 || v.Type() == reflect.TypeFor[time.Time]() {
		return
	}
	switch v.Kind() {
	case reflect.Interface:
		if v.Type() == reflect.TypeFor[types.AssetPropertyVariant]() { // the one union that is required
			v.Set(reflect.ValueOf(&types.AssetPropertyVariantMemberStringValue{Value: "x"}))
		}
	case reflect.String:
		v.SetString("x")
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), depth+1)
	case reflect.Struct:
		for _, f := range v.Fields() {
			if f.CanSet() {
				fill(f, depth+1)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), depth+1)
	case reflect.Map:
		item := reflect.New(v.Type().Elem()).Elem()
		fill(item, depth+1)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("x").Convert(v.Type().Key()), item)
	}
}

func TestSDKDecodesErrors(t *testing.T) {
	t.Parallel()
	type in struct {
		JobID string `in:"label" json:"jobId" len:"1,64" pattern:"[a-z]+"`
	}
	s := wire.NewIoT(wire.Config{})
	wire.Handle(s, "CreateJob", func(_ context.Context, in *in) (*wire.Empty, error) {
		switch in.JobID {
		case "missing":
			return nil, s.NewError("ResourceNotFoundException", "no such job")
		case "exists":
			e := s.NewError("ResourceAlreadyExistsException", "there is one")
			e.Members = map[string]any{"resourceId": "exists", "resourceArn": "arn:x"}
			return nil, e
		default:
			return nil, s.NewError("LimitExceededException", "too many <jobs>")
		}
	})
	client := newClient(t, s)
	create := func(id string) (int, error) {
		_, err := client.CreateJob(t.Context(), &iot.CreateJobInput{JobId: &id, Targets: []string{"t"}})
		var response interface{ HTTPStatusCode() int }
		if !errors.As(err, &response) {
			t.Fatalf("%s: %v", id, err)
		}
		return response.HTTPStatusCode(), err
	}

	status, err := create("missing")
	if e, ok := errors.AsType[*types.ResourceNotFoundException](err); !ok || status != 404 || e.ErrorMessage() != "no such job" {
		t.Errorf("%d %v", status, err)
	}
	status, err = create("exists")
	if e, ok := errors.AsType[*types.ResourceAlreadyExistsException](err); !ok || status != 409 ||
		aws.ToString(e.ResourceId) != "exists" || aws.ToString(e.ResourceArn) != "arn:x" {
		t.Errorf("%d %v", status, err)
	}
	status, err = create("many")
	if e, ok := errors.AsType[*types.LimitExceededException](err); !ok || status != 410 || e.ErrorMessage() != "too many <jobs>" {
		t.Errorf("%d %v", status, err)
	}
	status, err = create("a:b/c")
	if e, ok := errors.AsType[*types.InvalidRequestException](err); !ok || status != 400 ||
		!strings.Contains(e.ErrorMessage(), "Value 'a:b/c' at 'jobId' failed") {
		t.Errorf("%d %v", status, err)
	}
	var id interface{ ServiceRequestID() string }
	if !errors.As(err, &id) || id.ServiceRequestID() == "" {
		t.Errorf("no request id in %v", err)
	}
}

func TestSDKDecodesTimestamps(t *testing.T) {
	t.Parallel()
	type in struct {
		JobID string `in:"label" json:"jobId"`
	}
	type job struct {
		JobID     string         `json:"jobId"`
		CreatedAt wire.Timestamp `json:"createdAt"`
		Completed wire.Timestamp `json:"completedAt,omitzero"`
	}
	type out struct {
		Job job `json:"job"`
	}
	created := time.UnixMilli(1486687079743)
	s := wire.NewIoT(wire.Config{})
	wire.Handle(s, "DescribeJob", func(_ context.Context, in *in) (*out, error) {
		return &out{job{JobID: in.JobID, CreatedAt: wire.Timestamp{Time: created}}}, nil
	})
	got, err := newClient(t, s).DescribeJob(t.Context(), &iot.DescribeJobInput{JobId: aws.String("$next")})
	if err != nil {
		t.Fatal(err)
	}
	if j := got.Job; aws.ToString(j.JobId) != "$next" || !j.CreatedAt.Equal(created) || j.CompletedAt != nil {
		t.Errorf("job %q created %v completed %v", aws.ToString(j.JobId), j.CreatedAt, j.CompletedAt)
	}
}

// TestNoRedirects goes through a real server: net/http must not see the paths in a mux.
func TestNoRedirects(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(wire.NewIoT(wire.Config{}))
	t.Cleanup(server.Close)
	client := server.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for path, want := range map[string]int{"/jobs/": 501, "/things//principals": 501, "/things/./jobs": 501, "/../jobs": 404} {
		resp, err := client.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != want || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
}
