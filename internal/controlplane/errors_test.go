package controlplane

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"drover/internal/iot"
)

// codes reads the codes that package iot declares from its source.
func codes(t *testing.T) []iot.Code {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../iot/errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var found []iot.Code
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); ok && typ.Name == "Code" {
			text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, iot.Code(text))
		}
		return true
	})
	if len(found) == 0 {
		t.Fatal("package iot declares no codes")
	}
	return found
}

// TestErrors: every code that package iot has is answered with an exception that the service
// has, under the service's status; what is our mistake says nothing about itself.
func TestErrors(t *testing.T) {
	t.Parallel()
	status := map[iot.Code]int{
		iot.InvalidRequest:         400,
		iot.NotFound:               404,
		iot.AlreadyExists:          409,
		iot.InvalidStateTransition: 409,
		iot.VersionMismatch:        409,
		iot.LimitExceeded:          410,
		iot.DeleteConflict:         409,
		iot.CertificateState:       406,
		iot.CertificateInvalid:     400,
		iot.CertificateConflict:    409,
		iot.AccessDenied:           401,
		iot.InvalidToken:           400,
		iot.VersionsLimit:          409,
		iot.InvalidResponse:        400,
		iot.RegistrationFailure:    400,
		iot.ResourceConflict:       409,
		iot.RegistrationCode:       400,
		iot.MalformedPolicy:        400,
		iot.IndexNotReady:          400,
		iot.InvalidQuery:           400,
		iot.InvalidAggregation:     400,
		iot.Throttled:              400,
		iot.Unavailable:            503,
		iot.TerminalState:          500,
		iot.Internal:               500,
	}
	for _, code := range codes(t) {
		t.Run(string(code), func(t *testing.T) {
			t.Parallel()
			name, ok := exceptions[code]
			if !ok {
				t.Fatalf("no row for %s", code)
			}
			// Wrapped, as errors of the engine may be.
			got := send(t, newServer(&engine{err: fmt.Errorf("doing it: %w", iot.Errorf(code, "the <message>"))}), "DELETE /jobs/j", "")
			if got.Status != status[code] || got.Error != name {
				t.Errorf("%+v, want %d %s", got, status[code], name)
			}
			if shown := strings.Contains(got.Body, "the <message>"); shown == (name == internalFailure) {
				t.Errorf("message shown: %t: %s", shown, got.Body)
			}
		})
	}
	t.Run("failure without a code", func(t *testing.T) {
		t.Parallel()
		got := send(t, newServer(&engine{err: errors.New("disk on fire")}), "GET /jobs/j", "")
		if got.Status != http.StatusInternalServerError || got.Error != internalFailure || strings.Contains(got.Body, "disk") {
			t.Errorf("%+v", got)
		}
	})
	t.Run("what exists already is named", func(t *testing.T) {
		t.Parallel()
		err := iot.Errorf(iot.AlreadyExists, "m")
		err.ResourceID, err.ResourceARN = "j", "arn"
		got := send(t, newServer(&engine{err: err}), "PUT /jobs/j", withMember(`"description":"d"`))
		sameJSON(t, got.Body, `{"message":"m","resourceId":"j","resourceArn":"arn"}`)
	})
}
