package wire

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// kind says how a value is read from the wire.
type kind int

const (
	text kind = iota
	boolean
	integer
	unsigned
	number
	blob      // []byte, base64
	list      // slice
	dict      // map
	structure // struct
	custom    // implements json.Unmarshaler
)

// wanted names the kinds in messages.
var wanted = [...]string{
	text: "a string", boolean: "true or false", integer: "an integer", unsigned: "an integer of 0 or more", number: "a number",
	blob: "a string in base64", list: "a list", dict: "an object", structure: "an object",
}

// source is where in a request a member may be.
type source int

const (
	label source = 1 << iota
	query
	header
	body
	payload // the body as it is
)

// object holds the declarations of a struct.
type object struct {
	typ     reflect.Type
	fields  []*field
	byName  map[string]int // body members, by name → place in fields
	hasBody bool
}

// field is one member of an object.
type field struct {
	index    []int
	name     string
	in       source
	header   string
	param    string // of the query
	required bool
	*value
}

// value holds what is declared of a value: a field, the item of a list, or a key or value of a map.
type value struct {
	typ     reflect.Type // without pointers
	pointer bool
	kind    kind

	length, bytes, size, limits *bounds
	pattern                     *regexp.Regexp
	patternText                 string
	enum                        []string

	key, item *value  // of a dict or list
	object    *object // of a structure
	plain     bool    // nothing in here can fail validation
}

// bounds are two limits, either of which may be missing. The text is as declared.
type bounds struct {
	min, max         float64
	minText, maxText string
}

var (
	tagKeys = []string{"json", "in", "header", "query", "required"}
	// constraintKeys may also have one of prefixes before them.
	constraintKeys = []string{"len", "bytes", "size", "range", "pattern", "enum"}
	prefixes       = []string{"", "item", "key", "val"}

	unmarshaler = reflect.TypeFor[json.Unmarshaler]()
)

// objects keeps what has been compiled: reflect.Type → *object.
var objects sync.Map

// objectOf compiles the declarations of a struct type. It panics if they are malformed.
func objectOf(t reflect.Type) *object {
	if o, ok := objects.Load(t); ok {
		return o.(*object)
	}
	c := compiler{}
	o := c.object(t)
	for t, o := range c {
		objects.LoadOrStore(t, o)
	}
	return o
}

// compiler has the objects that are being compiled: types may contain themselves.
type compiler map[reflect.Type]*object

func (c compiler) object(t reflect.Type) *object {
	if t.Kind() != reflect.Struct {
		panic(fmt.Sprintf("wire: %s is not a struct", t))
	}
	if o := c[t]; o != nil {
		return o
	}
	o := &object{typ: t, byName: make(map[string]int)}
	c[t] = o
	for _, sf := range reflect.VisibleFields(t) {
		switch {
		case sf.Anonymous && sf.Type.Kind() == reflect.Struct && !reflect.PointerTo(sf.Type).Implements(unmarshaler):
			continue // its fields are visited by themselves
		case !sf.IsExported() || sf.Tag.Get("json") == "-":
			continue
		}
		f := c.field(t, sf)
		if slices.ContainsFunc(o.fields, func(g *field) bool { return g.name == f.name }) {
			panic(fmt.Sprintf("wire: %s declares %q twice", t, f.name))
		}
		if f.in&body != 0 {
			o.byName[f.name] = len(o.fields)
			o.hasBody = true
		}
		o.fields = append(o.fields, f)
	}
	return o
}

func (c compiler) field(t reflect.Type, sf reflect.StructField) *field {
	fail := func(format string, args ...any) {
		panic(fmt.Sprintf("wire: %s.%s: %s", t, sf.Name, fmt.Sprintf(format, args...)))
	}
	tags := make(map[string]string)
	if err := parseTag(string(sf.Tag), tags); err != nil {
		fail("%v", err)
	}
	name, _, _ := strings.Cut(tags["json"], ",")
	if name == "" {
		fail("no json name")
	}
	f := &field{index: sf.Index, name: name, header: tags["header"], param: tags["query"]}
	switch in := tags["in"]; in {
	case "", "body":
		f.in = body
	case "label":
		f.in = label
	case "query":
		f.in = query
	case "query,body":
		f.in = query | body
	case "payload":
		f.in = payload
	case "header":
		f.in = header
		if f.header == "" {
			f.header = name
		}
	default:
		fail("in:%q", in)
	}
	if f.header != "" && f.in != header {
		fail("a header tag without in:\"header\"")
	}
	if f.param != "" && f.in&query == 0 {
		fail("a query tag without in:\"query\"")
	}
	f.param = cmp.Or(f.param, name)
	switch required := tags["required"]; required {
	case "", "false":
	case "true":
		f.required = true
	default:
		fail("required:%q", required)
	}
	if f.in == label {
		f.required = true
	}
	v, err := c.value(sf.Type, "", tags)
	if err != nil {
		fail("%v", err)
	}
	f.value = v
	for key := range tags {
		if !slices.Contains(tagKeys, key) {
			fail("%s does not fit the type %s", key, sf.Type)
		}
	}
	scalar := v.kind <= number
	switch {
	case f.in == payload && v.kind != blob:
		fail("only a blob can be the payload")
	case f.in == payload:
	case f.in != body && !scalar:
		fail("only scalars can be outside of the body")
	case f.in == label && v.pointer:
		fail("a label is always there and needs no pointer")
	case f.in != label && !v.pointer && v.kind == structure:
		fail("a nested struct is a pointer")
	case f.in != label && !v.pointer && scalar && v.kind != text && (f.required || v.limits != nil):
		fail("absent and 0 look the same: use a pointer")
	case f.required && v.kind == custom && !v.pointer && !nillable(v.typ):
		fail("absent and zero look the same: use a pointer")
	}
	return f
}

// value compiles the declarations of a value and takes its constraints, which have the prefix, from tags.
func (c compiler) value(t reflect.Type, prefix string, tags map[string]string) (*value, error) {
	v := &value{typ: t}
	if t.Kind() == reflect.Pointer {
		v.pointer, v.typ = true, t.Elem()
	}
	var err error
	switch {
	case reflect.PointerTo(v.typ).Implements(unmarshaler):
		v.kind = custom
	case v.typ.Kind() == reflect.String:
		v.kind = text
	case v.typ.Kind() == reflect.Bool:
		v.kind = boolean
	case v.typ.Kind() >= reflect.Int && v.typ.Kind() <= reflect.Int64:
		v.kind = integer
	case v.typ.Kind() >= reflect.Uint && v.typ.Kind() <= reflect.Uint64:
		v.kind = unsigned
	case v.typ.Kind() == reflect.Float32 || v.typ.Kind() == reflect.Float64:
		v.kind = number
	case v.typ.Kind() == reflect.Slice && v.typ.Elem().Kind() == reflect.Uint8:
		v.kind = blob
	case v.typ.Kind() == reflect.Slice:
		v.kind = list
		if v.item, err = c.value(v.typ.Elem(), "item", tags); err != nil {
			return nil, err
		}
	case v.typ.Kind() == reflect.Map && v.typ.Key().Kind() == reflect.String:
		v.kind = dict
		if v.key, err = c.value(v.typ.Key(), "key", tags); err != nil {
			return nil, err
		}
		if v.item, err = c.value(v.typ.Elem(), "val", tags); err != nil {
			return nil, err
		}
	case v.typ.Kind() == reflect.Struct:
		v.kind = structure
		v.object = c.object(v.typ)
	default:
		return nil, fmt.Errorf("the type %s cannot be read from a request", t)
	}
	if err := v.constrain(prefix, tags); err != nil {
		return nil, err
	}
	v.plain = v.kind != text && v.length == nil && v.bytes == nil && v.size == nil && v.limits == nil && v.pattern == nil && v.enum == nil &&
		v.object == nil && (v.key == nil || v.key.plain) && (v.item == nil || v.item.plain)
	return v, nil
}

// constrain takes those constraints with the prefix that fit the value's kind from tags.
func (v *value) constrain(prefix string, tags map[string]string) error {
	take := func(key string, kinds ...kind) (string, bool) {
		s, ok := tags[prefix+key]
		if !ok || !slices.Contains(kinds, v.kind) {
			return "", false
		}
		delete(tags, prefix+key)
		return s, true
	}
	for key, limit := range map[string]struct {
		to    **bounds
		kinds []kind
	}{
		"len":   {&v.length, []kind{text}},
		"bytes": {&v.bytes, []kind{text, blob}},
		"size":  {&v.size, []kind{list, dict}},
		"range": {&v.limits, []kind{integer, unsigned, number}},
	} {
		if s, ok := take(key, limit.kinds...); ok {
			b, err := parseBounds(s)
			if err != nil {
				return fmt.Errorf("%s%s: %w", prefix, key, err)
			}
			*limit.to = b
		}
	}
	if s, ok := take("pattern", text); ok {
		re, err := regexp.Compile(`\A(?:` + javaClasses.Replace(s) + `)\z`)
		if err != nil {
			return fmt.Errorf("%spattern: %w", prefix, err)
		}
		v.pattern, v.patternText = re, s
	}
	if s, ok := take("enum", text); ok {
		v.enum = strings.Split(s, ",")
		if slices.Contains(v.enum, "") {
			return fmt.Errorf("%senum: an empty value in %q", prefix, s)
		}
	}
	return nil
}

// javaClasses are classes of the published patterns that Go spells otherwise.
var javaClasses = strings.NewReplacer(`\p{Graph}`, `[:graph:]`, `\p{Upper}`, `[:upper:]`, `\p{Digit}`, `[:digit:]`)

func parseBounds(s string) (*bounds, error) {
	minText, maxText, ok := strings.Cut(s, ",")
	if !ok || minText == "" && maxText == "" {
		return nil, fmt.Errorf("%q is not \"min,max\"", s)
	}
	b := &bounds{minText: minText, maxText: maxText}
	var err error
	if minText != "" {
		if b.min, err = strconv.ParseFloat(minText, 64); err != nil {
			return nil, err
		}
	}
	if maxText != "" {
		if b.max, err = strconv.ParseFloat(maxText, 64); err != nil {
			return nil, err
		}
	}
	if minText != "" && maxText != "" && b.min > b.max {
		return nil, fmt.Errorf("%q has its bounds the wrong way round", s)
	}
	return b, nil
}

// parseTag reads all keys of a struct tag, which reflect.StructTag cannot list, and refuses those that are not ours: a
// misspelt constraint would be no constraint.
func parseTag(tag string, into map[string]string) error {
	for tag = strings.TrimLeft(tag, " "); tag != ""; tag = strings.TrimLeft(tag, " ") {
		key, rest, ok := strings.Cut(tag, ":")
		if !ok {
			return fmt.Errorf("malformed tag %q", tag)
		}
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return fmt.Errorf("malformed tag %q", tag)
		}
		text, err := strconv.Unquote(quoted)
		if err != nil {
			return fmt.Errorf("malformed tag %q", tag)
		}
		if _, twice := into[key]; twice || !knownKey(key) {
			return fmt.Errorf("unknown or repeated tag %q", key)
		}
		into[key] = text
		tag = rest[len(quoted):]
	}
	return nil
}

func knownKey(key string) bool {
	if slices.Contains(tagKeys, key) {
		return true
	}
	return slices.ContainsFunc(prefixes, func(prefix string) bool {
		constraint, ok := strings.CutPrefix(key, prefix)
		return ok && slices.Contains(constraintKeys, constraint)
	})
}

func nillable(t reflect.Type) bool {
	return t.Kind() == reflect.Slice || t.Kind() == reflect.Map
}

// checkLabels panics unless the object has the labels of the operation's URI and no others.
func (o *object) checkLabels(op *operation) {
	var have []string
	for _, f := range o.fields {
		if f.in == label {
			have = append(have, f.name)
		}
	}
	want := slices.Clone(op.labels)
	slices.Sort(want)
	slices.Sort(have)
	if !slices.Equal(have, want) {
		panic(fmt.Sprintf("wire: %s has the labels %q, the operation %s %q", o.typ, have, op.Name, want))
	}
}
