package dataplane

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"

	"drover/internal/iot"
	"drover/internal/wire"
)

// submit is an Engine made of a function that replies before it returns.
type submit func(*iot.Request, func(*iot.Answer, error))

func (s submit) Queue(r *iot.Request, reply func(*iot.Answer, error)) { s(r, reply) }
func (submit) Flush()                                                 {}

func (s submit) Do(_ context.Context, r *iot.Request) (answer *iot.Answer, err error) {
	s(r, func(a *iot.Answer, e error) { answer, err = a, e })
	return answer, err
}

// codes reads the constants of type iot.Code from the source.
func codes(t *testing.T) []iot.Code {
	file, err := parser.ParseFile(token.NewFileSet(), "../iot/errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var list []iot.Code
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
			list = append(list, iot.Code(text))
		}
		return true
	})
	return list
}

func TestEveryCodeHasARendering(t *testing.T) {
	t.Parallel()
	list := codes(t)
	if len(list) < 9 {
		t.Fatalf("found only %v", list)
	}
	service := wire.NewJobsData(wire.Config{})
	for _, code := range append(list, invalidJSON, invalidTopic) {
		r, ok := renderings[code]
		if !ok || r.mqtt == "" {
			t.Errorf("%s: no rendering", code)
			continue
		}
		if e := service.NewError(r.https, "x"); e.Status < 400 { // panics if the service has no such error
			t.Errorf("%s: %s has status %d", code, r.https, e.Status)
		}
	}
	if want := len(list) + 2; len(renderings) != want {
		t.Errorf("%d renderings, want %d", len(renderings), want)
	}
}
