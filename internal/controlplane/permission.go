package controlplane

import (
	"context"
	"fmt"
	"reflect"
	"strings"

	"drover/internal/auth"
	"drover/internal/iot"
)

// resource says which resources a request is about.
type resource struct {
	kind   string // "" for a member that is an ARN, or has several
	member []int  // of the request; nil for "*", any resource
}

// newResource reads the declaration of a resource of a request of type in: "*" for an operation
// that is about no resource or about all of them, "job/{jobId}" for the one that the member names,
// "{target}" for one that is given by its ARN. A member may be absent, and may be a list. It panics
// if there is no such member.
func newResource(in reflect.Type, text string) resource {
	if text == "*" {
		return resource{}
	}
	kind, rest, ok := strings.Cut(text, "{")
	name, _, closed := strings.Cut(rest, "}")
	for _, f := range reflect.VisibleFields(in) {
		if jsonName, _, _ := strings.Cut(f.Tag.Get("json"), ","); ok && closed && jsonName == name {
			return resource{strings.TrimSuffix(kind, "/"), f.Index}
		}
	}
	panic(fmt.Sprintf("controlplane: %s has no member for the resource %q", in, text))
}

// arns returns the ARNs of the resource in a request.
func (r resource) arns(realm iot.Realm, in reflect.Value) []string {
	if r.member == nil {
		return []string{"*"}
	}
	var names []string
	switch v := in.FieldByIndex(r.member).Interface().(type) {
	case string:
		names = []string{v}
	case *string:
		names = []string{value(v)}
	case []string:
		names = v
	default:
		panic(fmt.Sprintf("controlplane: a resource cannot be a %T", v))
	}
	var arns []string
	for _, name := range names {
		switch {
		case name == "" && r.kind == iot.KindIndex:
			name = string(iot.ThingsIndex) // that is what they ask who do not say
		case name == "":
			continue
		case r.kind == iot.KindCert || r.kind == iot.KindCACert:
			name = string(certificateID(name)) // of which there are two spellings
		}
		if r.kind != "" {
			name = realm.ARN(r.kind, name)
		}
		arns = append(arns, name)
	}
	return arns
}

// permitOperation returns an *auth.Error unless the caller may do the operation on all resources
// that the request names; if it names none, on any. What was asked for is noted in any case.
func (s *Server) permitOperation(ctx context.Context, name string, resources []resource, in reflect.Value) error {
	var arns []string
	for _, r := range resources {
		arns = append(arns, r.arns(s.realm, in)...)
	}
	if len(arns) == 0 {
		arns = []string{"*"}
	}
	auth.Note(ctx, name, arns)
	if s.permit == nil {
		return nil
	}
	return s.permit(ctx, "iot:"+name, arns...)
}
