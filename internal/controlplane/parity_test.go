package controlplane

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	awsiot "github.com/aws/aws-sdk-go-v2/service/iot"

	"drover/internal/wire"
)

// notDeclared lists members that the SDK has and drover does not, with the reason, by shape
// and member. Members of requests do not belong here: what drover does not have is declared and
// refused.
var notDeclared = map[string]string{
	"CreatePackageVersionOutput.ErrorReason":           "creation does not fail later",
	"GetPackageVersionOutput.ErrorReason":              "creation does not fail later",
	"DeleteCommandOutput.StatusCode":                   "it is the HTTP status",
	"DocumentParameter.Regex":                          "drover's managed templates have no patterns",
	"CertificateDescription.GenerationId":              "no generations",
	"CertificateDescription.PreviousOwnedBy":           "no transfers",
	"CertificateDescription.TransferData":              "no transfers",
	"CACertificateDescription.GenerationId":            "no generations",
	"GetThingConnectivityDataOutput.CleanSession":      "what a connection asked for is not indexed",
	"GetThingConnectivityDataOutput.ClientId":          "it is the name of the thing",
	"GetThingConnectivityDataOutput.KeepAliveDuration": "what a connection asked for is not indexed",
	"GetThingConnectivityDataOutput.SessionExpiry":     "what a connection asked for is not indexed",
	"GetThingConnectivityDataOutput.SourceIp":          "sockets are not indexed",
	"GetThingConnectivityDataOutput.SourcePort":        "sockets are not indexed",
	"GetThingConnectivityDataOutput.TargetIp":          "sockets are not indexed",
	"GetThingConnectivityDataOutput.TargetPort":        "sockets are not indexed",
	"GetThingConnectivityDataOutput.VpcEndpointId":     "sockets are not indexed",
	"ThingConnectivity.CleanSession":                   "what a connection asked for is not indexed",
	"ThingConnectivity.ClientId":                       "it is the name of the thing",
	"ThingConnectivity.KeepAliveDuration":              "what a connection asked for is not indexed",
	"ThingConnectivity.SessionExpiry":                  "what a connection asked for is not indexed",
	"ThingDocument.DeviceDefender":                     "no Device Defender",
}

// parity compares the declarations of this package with those of the SDK.
type parity struct {
	t      *testing.T
	unused map[string]bool // entries of notDeclared that nothing needed
}

// TestParity holds every operation in the list against the AWS SDK for Go: the same members,
// of the same types, with the same enum values.
func TestParity(t *testing.T) {
	t.Parallel()
	p := &parity{t: t, unused: make(map[string]bool)}
	for name := range notDeclared {
		p.unused[name] = true
	}
	for _, op := range operations() {
		method, ok := reflect.TypeFor[*awsiot.Client]().MethodByName(op.name)
		if !ok {
			t.Errorf("%s is no operation of the service", op.name)
			continue
		}
		p.shape(op.name+" request", op.in, method.Type.In(2).Elem(), true)
		p.shape(op.name+" response", op.out, method.Type.Out(0).Elem(), false)
	}
	if len(p.unused) > 0 {
		t.Errorf("notDeclared has entries that nothing needs: %q", slices.Sorted(maps.Keys(p.unused)))
	}
}

// shape compares two structs.
func (p *parity) shape(path string, ours, theirs reflect.Type, request bool) {
	members := make(map[string]bool)
	for f := range declared(ours) {
		name := jsonName(f)
		field, ok := sdkField(theirs, name)
		if !ok {
			p.t.Errorf("%s: the SDK's %s has no member %s", path, theirs.Name(), name)
			continue
		}
		members[field.Name] = true
		p.value(path+"."+name, f.Type, field.Type, f.Tag, "", request)
	}
	for i := range theirs.NumField() {
		f := theirs.Field(i)
		if !f.IsExported() || f.Name == "ResultMetadata" || members[f.Name] {
			continue
		}
		name := strings.TrimSuffix(theirs.Name(), "Request") + "." + f.Name
		if notDeclared[name] == "" {
			p.t.Errorf("%s: the SDK's %s is not declared", path, name)
		}
		delete(p.unused, name)
	}
}

// sdkField finds what the SDK calls a member; some names are not free there.
func sdkField(theirs reflect.Type, name string) (reflect.StructField, bool) {
	name = strings.ToUpper(name[:1]) + name[1:]
	if f, ok := theirs.FieldByName(name); ok {
		return f, true
	}
	return theirs.FieldByName(name + "_")
}

// value compares the types of two members, and the enum in tag whose key has the prefix.
func (p *parity) value(path string, ours, theirs reflect.Type, tag reflect.StructTag, prefix string, request bool) {
	ours, theirs = plain(ours), plain(theirs)
	switch {
	case theirs == reflect.TypeFor[time.Time]():
		if ours != reflect.TypeFor[wire.Timestamp]() {
			p.t.Errorf("%s is %v, want wire.Timestamp", path, ours)
		}
		return
	case class(ours) != class(theirs):
		p.t.Errorf("%s is %v, in the SDK it is %v", path, ours, theirs)
		return
	}
	switch theirs.Kind() {
	case reflect.Struct:
		p.shape(path, ours, theirs, request)
	case reflect.Slice:
		p.value(path+"[]", ours.Elem(), theirs.Elem(), tag, "item", request)
	case reflect.Map:
		p.value(path+" key", ours.Key(), theirs.Key(), tag, "key", request)
		p.value(path+" value", ours.Elem(), theirs.Elem(), tag, "val", request)
	case reflect.String:
		if !request {
			return // answers need no constraints
		}
		if prefix == "key" && theirs == reflect.TypeFor[string]() {
			return // the SDK has no types for the keys of maps
		}
		have, want := enumTag(tag, prefix), enumValues(theirs)
		if !slices.Equal(have, want) {
			p.t.Errorf("%s has the values %q, in the SDK they are %q", path, have, want)
		}
	}
}

// declared yields the fields of a struct, those of embedded ones in their place.
func declared(t reflect.Type) iter.Seq[reflect.StructField] {
	return func(yield func(reflect.StructField) bool) {
		for _, f := range reflect.VisibleFields(t) {
			if (f.Anonymous && f.Tag.Get("json") == "") || !f.IsExported() {
				continue
			}
			if t == reflect.TypeFor[exponentialRolloutRate]() && f.Name == "MaximumPerMinute" {
				continue // an alias that AWS's guide has and its model has not
			}
			if !yield(f) {
				return
			}
		}
	}
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

func plain(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// class maps a type to what it is in JSON.
func class(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Int, reflect.Int32, reflect.Int64:
		return "integer"
	case reflect.Float32, reflect.Float64:
		return "double"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "blob"
		}
	}
	return t.Kind().String()
}

func enumTag(tag reflect.StructTag, prefix string) []string {
	text := tag.Get(prefix + "enum")
	if text == "" {
		return nil
	}
	return slices.Sorted(strings.SplitSeq(text, ","))
}

// enumValues returns what the SDK's enum type lists, nil for a type that is no enum.
func enumValues(t reflect.Type) []string {
	values := reflect.Zero(t).MethodByName("Values")
	if !values.IsValid() {
		return nil
	}
	list := values.Call(nil)[0]
	var texts []string
	for i := range list.Len() {
		texts = append(texts, list.Index(i).String())
	}
	slices.Sort(texts)
	return texts
}

// TestRequired compares what is required with what the SDK checks before it sends.
func TestRequired(t *testing.T) {
	t.Parallel()
	client := awsiot.New(awsiot.Options{Region: "us-east-1"})
	for _, op := range operations() {
		call := reflect.ValueOf(client).MethodByName(op.name)
		if !call.IsValid() {
			continue // TestParity tells
		}
		want := make(map[string]bool)
		for depth := range 5 {
			in := reflect.New(call.Type().In(1).Elem())
			fillStructs(in.Elem(), depth)
			// A deadline in the past: a request without required members is never sent.
			ctx, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
			out := call.Call([]reflect.Value{reflect.ValueOf(ctx), in})
			cancel()
			for _, m := range missing.FindAllStringSubmatch(fmt.Sprint(out[1].Interface()), -1) {
				want[lowerPath(m[1])] = true
			}
		}
		have := make(map[string]bool)
		requiredMembers(op.in, "", have)
		for _, name := range defaulted[op.name] {
			delete(have, name)
		}
		if !maps.Equal(have, want) {
			t.Errorf("%s: required are %q, in the SDK %q", op.name, slices.Sorted(maps.Keys(have)), slices.Sorted(maps.Keys(want)))
		}
	}
}

// defaulted are members that are required and have a default in the model, so that the SDK always sends them.
var defaulted = map[string][]string{
	"CreateOTAUpdate": {"awsjobexecutionsrolloutconfig.exponentialrate.incrementfactor"},
}

// missing finds the paths in the SDK's text for an input that lacks something.
var missing = regexp.MustCompile(`missing required field, \w+\.([^\s]+)\.(?:\n|$)`)

// lowerPath turns AbortConfig.CriteriaList[0].Action into abortconfig.criterialist.action.
func lowerPath(path string) string { return strings.ToLower(strings.ReplaceAll(path, "[0]", "")) }

// fillStructs gives v its structs, and lists of structs one item, to the given depth: the SDK
// looks for what is missing only in what is there.
func fillStructs(v reflect.Value, depth int) {
	if depth == 0 {
		return
	}
	for i := range v.NumField() {
		f := v.Field(i)
		switch {
		case !f.CanSet():
		case f.Kind() == reflect.Pointer && f.Type().Elem().Kind() == reflect.Struct && f.Type().Elem() != reflect.TypeFor[time.Time]():
			f.Set(reflect.New(f.Type().Elem()))
			fillStructs(f.Elem(), depth-1)
		case f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Struct:
			f.Set(reflect.MakeSlice(f.Type(), 1, 1))
			fillStructs(f.Index(0), depth-1)
		}
	}
}

func requiredMembers(t reflect.Type, path string, found map[string]bool) {
	for f := range declared(t) {
		name := path + strings.ToLower(jsonName(f))
		if f.Tag.Get("required") == "true" || f.Tag.Get("in") == "label" {
			found[name] = true
		}
		item := plain(f.Type)
		if item.Kind() == reflect.Slice {
			item = plain(item.Elem())
		}
		if item.Kind() == reflect.Struct && item != reflect.TypeFor[wire.Timestamp]() {
			requiredMembers(item, name+".", found)
		}
	}
}
