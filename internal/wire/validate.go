package wire

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	maxShown    = 200 // characters of a value or path that a message shows
	maxFailures = 20  // failures that a message spells out
)

// Validate checks a request, a struct or a pointer to one, against the declarations beside its fields, for transports that
// bind requests in another way. The error is an *Error, InvalidRequestException, that names all failures. It panics if the
// declarations are malformed.
func Validate(v any) error {
	rv := reflect.Indirect(reflect.ValueOf(v))
	if !rv.IsValid() {
		panic("wire: Validate of nil")
	}
	if e := objectOf(rv.Type()).validate(rv); e != nil {
		return e
	}
	return nil
}

// validate checks a struct of o. It returns nil if nothing is wrong.
func (o *object) validate(v reflect.Value) *Error {
	var c checker
	c.object(o, v)
	if c.count == 0 {
		return nil
	}
	noun := "errors"
	if c.count == 1 {
		noun = "error"
	}
	message := fmt.Sprintf("%d validation %s detected: %s", c.count, noun, strings.Join(c.failures, "; "))
	if more := c.count - len(c.failures); more > 0 {
		message += fmt.Sprintf("; and %d more", more)
	}
	return invalid("%s", message)
}

// checker collects what is wrong with a request.
type checker struct {
	at       path
	count    int
	failures []string // the first of them
}

// fail notes that the value v, nil if there is none, breaks a constraint.
func (c *checker) fail(v any, constraint string, args ...any) {
	c.count++
	if len(c.failures) == maxFailures {
		return
	}
	shown := "null"
	if v, ok := v.(reflect.Value); ok {
		shown = "'" + show(v) + "'"
	}
	c.failures = append(c.failures, fmt.Sprintf("Value %s at '%s' failed to satisfy constraint: %s",
		shown, &c.at, fmt.Sprintf("Member must "+constraint, args...)))
}

func (c *checker) object(o *object, v reflect.Value) {
	for _, f := range o.fields {
		c.at.push(f.name)
		c.field(f, v.FieldByIndex(f.index))
		c.at.pop()
	}
}

func (c *checker) field(f *field, v reflect.Value) {
	absent := false
	switch {
	case f.pointer || nillable(v.Type()):
		absent = v.IsNil()
	case f.kind == text && f.in != label:
		absent = v.Len() == 0
	}
	switch {
	case absent && f.required:
		c.fail(nil, "not be null")
	case absent:
	default:
		if f.in == label && f.kind == text && v.Len() == 0 && (f.length == nil || f.length.min < 1) {
			c.fail(v, "have length greater than or equal to 1")
		}
		c.value(f.value, v)
	}
}

// value checks a value that is there.
func (c *checker) value(d *value, v reflect.Value) {
	if d.plain {
		return
	}
	if d.pointer {
		if v.IsNil() {
			return // in a list or map of another transport's making
		}
		v = v.Elem()
	}
	if d.length != nil {
		c.bounds(d.length, v, float64(utf8.RuneCountInString(v.String())), "have length %s than or equal to %s")
	}
	if d.bytes != nil {
		c.bounds(d.bytes, v, float64(v.Len()), "have length %s than or equal to %s bytes")
	}
	if d.size != nil {
		c.bounds(d.size, v, float64(v.Len()), "have length %s than or equal to %s")
	}
	if d.limits != nil {
		c.bounds(d.limits, v, asFloat(v), "have value %s than or equal to %s")
	}
	switch {
	case d.pattern != nil && !d.pattern.MatchString(v.String()):
		c.fail(v, "satisfy regular expression pattern: %s", d.patternText)
	case d.kind == text && strings.IndexByte(v.String(), 0) >= 0: // which no text of PostgreSQL can hold
		c.fail(v, `satisfy regular expression pattern: [^\u0000]*`)
	}
	if d.enum != nil && !slices.Contains(d.enum, v.String()) {
		c.fail(v, "satisfy enum value set: [%s]", strings.Join(d.enum, ", "))
	}
	switch d.kind {
	case structure:
		c.object(d.object, v)
	case list:
		if d.item.plain {
			return
		}
		for i := range v.Len() {
			c.at.pushItem(i + 1)
			c.value(d.item, v.Index(i))
			c.at.pop()
		}
	case dict:
		if d.key.plain && d.item.plain {
			return
		}
		for _, key := range sortedKeys(v) {
			c.at.push("key")
			c.value(d.key, key)
			c.at.pop()
			c.at.push(key.String())
			c.at.pushMember()
			c.value(d.item, v.MapIndex(key))
			c.at.pop()
			c.at.pop()
		}
	}
}

func (c *checker) bounds(b *bounds, v reflect.Value, n float64, constraint string) {
	if b.minText != "" && n < b.min {
		c.fail(v, constraint, "greater", b.minText)
	}
	if b.maxText != "" && n > b.max {
		c.fail(v, constraint, "less", b.maxText)
	}
}

func asFloat(v reflect.Value) float64 {
	switch {
	case v.CanInt():
		return float64(v.Int())
	case v.CanUint():
		return float64(v.Uint())
	default:
		return v.Float()
	}
}

func sortedKeys(m reflect.Value) []reflect.Value {
	return slices.SortedFunc(slices.Values(m.MapKeys()), func(a, b reflect.Value) int {
		return strings.Compare(a.String(), b.String())
	})
}

// show writes a value as messages have it: text as it is, [a, b], {k=v}; and no more of it than fits.
func show(v reflect.Value) string {
	var b strings.Builder
	appendShown(&b, v)
	return shorten(b.String())
}

func appendShown(b *strings.Builder, v reflect.Value) {
	const enough = 4 * (maxShown + 1) // bytes of so many characters
	if b.Len() > enough {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			b.WriteString("null")
			return
		}
		appendShown(b, v.Elem())
	case reflect.String:
		b.WriteString(v.String())
	case reflect.Bool:
		b.WriteString(strconv.FormatBool(v.Bool()))
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			b.WriteString("<" + strconv.Itoa(v.Len()) + " bytes>")
			return
		}
		b.WriteByte('[')
		for i := 0; i < v.Len() && b.Len() <= enough; i++ {
			if i > 0 {
				b.WriteString(", ")
			}
			appendShown(b, v.Index(i))
		}
		b.WriteByte(']')
	case reflect.Map:
		b.WriteByte('{')
		for i, key := range sortedKeys(v) {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(key.String() + "=")
			appendShown(b, v.MapIndex(key))
		}
		b.WriteByte('}')
	case reflect.Struct:
		b.WriteString("{...}")
	default:
		b.WriteString(strconv.FormatFloat(asFloat(v), 'f', -1, 64))
	}
}

// shorten cuts a text after maxShown characters.
func shorten(s string) string {
	if len(s) <= maxShown {
		return s
	}
	n := 0
	for i := range s {
		if n == maxShown {
			return s[:i] + "..."
		}
		n++
	}
	return s
}
