package controlplane

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsiot "github.com/aws/aws-sdk-go-v2/service/iot"

	"drover/internal/wire"
)

// wiretap stands in for the network: it keeps the request that the SDK sends and answers it
// with a body.
type wiretap struct {
	request *http.Request
	sent    []byte
	answer  []byte
}

func (w *wiretap) Do(r *http.Request) (*http.Response, error) {
	w.request = r
	if r.Body != nil {
		var err error
		if w.sent, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	return &http.Response{
		StatusCode: http.StatusOK,
		Header:     http.Header{"Content-Type": {"application/json"}},
		Body:       io.NopCloser(bytes.NewReader(w.answer)),
	}, nil
}

// TestRoundTrip: the SDK sends every member that is declared, in the place and under the exact
// name of the declaration, and finds every member of an answer.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, op := range operations() {
		t.Run(op.name, func(t *testing.T) {
			t.Parallel()
			out := reflect.New(op.out)
			fill(out.Elem())
			answer, err := json.Marshal(out.Interface())
			if err != nil {
				t.Fatal(err)
			}
			tap := &wiretap{answer: answer}
			client := awsiot.New(awsiot.Options{Region: "us-east-1", HTTPClient: tap, Credentials: aws.AnonymousCredentials{}})
			call := reflect.ValueOf(client).MethodByName(op.name)
			in := reflect.New(call.Type().In(1).Elem())
			fill(in.Elem())
			results := call.Call([]reflect.Value{reflect.ValueOf(t.Context()), in})
			if err, ok := results[1].Interface().(error); ok {
				t.Fatal(err)
			}

			var body map[string]any
			if len(tap.sent) > 0 {
				unmarshal(t, string(tap.sent), &body)
			}
			for f := range declared(op.in) {
				name := jsonName(f)
				switch place, _, _ := strings.Cut(f.Tag.Get("in"), ","); place {
				case "label":
					// wire.Handle has compared labels with the URI.
				case "query":
					if !tap.request.URL.Query().Has(cmp.Or(f.Tag.Get("query"), name)) {
						t.Errorf("%s is not in the query %s", name, tap.request.URL.RawQuery)
					}
				case "header":
					if h := f.Tag.Get("header"); tap.request.Header.Get(h) == "" {
						t.Errorf("%s is not in the header %s", name, h)
					}
				case "", "body":
					checkSent(t, name, f.Type, body[name])
				default:
					t.Errorf("%s is in %q", name, place)
				}
			}
			checkReceived(t, "answer", op.out, results[0].Elem())
		})
	}
}

// checkSent looks for a member of a declared type in what the SDK sent.
func checkSent(t *testing.T, path string, declaredType reflect.Type, sent any) {
	t.Helper()
	if sent == nil {
		t.Errorf("%s is not in the body", path)
		return
	}
	switch typ := plain(declaredType); typ.Kind() {
	case reflect.Struct:
		object, _ := sent.(map[string]any)
		for f := range declared(typ) {
			checkSent(t, path+"."+jsonName(f), f.Type, object[jsonName(f)])
		}
	case reflect.Slice:
		if typ.Elem().Kind() == reflect.Uint8 {
			return // a blob is text
		}
		if list, _ := sent.([]any); len(list) == 1 {
			checkSent(t, path+"[]", typ.Elem(), list[0])
		} else {
			t.Errorf("%s is sent as %v", path, sent)
		}
	}
}

// checkReceived looks for the members of a declared type in what the SDK decoded.
func checkReceived(t *testing.T, path string, declaredType reflect.Type, got reflect.Value) {
	t.Helper()
	for got.Kind() == reflect.Pointer && !got.IsNil() {
		got = got.Elem()
	}
	if got.IsZero() && declaredType != reflect.TypeFor[wire.Empty]() {
		t.Errorf("%s was not received", path)
		return
	}
	switch typ := plain(declaredType); {
	case typ == reflect.TypeFor[wire.Timestamp]():
		if at, ok := got.Interface().(time.Time); !ok || !at.Equal(instant) {
			t.Errorf("%s is %v, want %v", path, got, instant)
		}
	case typ.Kind() == reflect.Struct:
		for f := range declared(typ) {
			name := jsonName(f)
			field, ok := sdkField(got.Type(), name)
			if !ok {
				t.Errorf("%s.%s: the SDK has no such member", path, name)
				continue
			}
			checkReceived(t, path+"."+name, f.Type, got.FieldByIndex(field.Index))
		}
	case typ.Kind() == reflect.Slice && typ.Elem().Kind() != reflect.Uint8: // a blob is one value
		checkReceived(t, path+"[]", typ.Elem(), got.Index(0))
	}
}

// instant is what every timestamp is set to.
var instant = time.UnixMilli(1486687079743).UTC()

// fill sets everything in v to something that is not zero.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Struct:
		switch v.Type() {
		case reflect.TypeFor[time.Time]():
			v.Set(reflect.ValueOf(instant))
		case reflect.TypeFor[wire.Timestamp]():
			v.Set(reflect.ValueOf(wire.Timestamp{Time: instant}))
		default:
			for i := range v.NumField() {
				if f := v.Field(i); f.CanSet() || v.Type().Field(i).Anonymous {
					fill(f)
				}
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, item := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key)
		fill(item)
		v.SetMapIndex(key, item)
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(1)
	case reflect.Float64:
		v.SetFloat(1.5)
	}
}
