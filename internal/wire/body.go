package wire

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	maxDepth   = 64    // levels of lists and objects in a body
	maxEntries = 10000 // entries of one list or map in a body
)

// decodeBody fills v, a struct of o, from a request body. No body is an empty object.
func decodeBody(data []byte, o *object, v reflect.Value) *Error {
	c := cursor{data: data}
	c.space()
	if c.pos == len(data) {
		return nil
	}
	// From here on the cursor can trust the syntax.
	switch {
	case !utf8.Valid(data):
		return invalid("The request body is not UTF-8")
	case depth(data) > maxDepth:
		return invalid("The request body is nested deeper than %d levels", maxDepth)
	case !json.Valid(data):
		var ignored json.RawMessage
		return invalid("The request body is not JSON: %v", json.Unmarshal(data, &ignored))
	case c.next() != '{':
		return invalid("The request body must be a JSON object, not %s", c.what())
	}
	var at path
	return c.object(o, v, &at)
}

// depth returns how deep data is nested, which is right for all that is JSON.
func depth(data []byte) int {
	deepest, now, inText := 0, 0, false
	for i := 0; i < len(data); i++ {
		switch b := data[i]; {
		case inText && b == '\\':
			i++
		case b == '"':
			inText = !inText
		case inText:
		case b == '{' || b == '[':
			now++
			deepest = max(deepest, now)
		case b == '}' || b == ']':
			now--
		}
	}
	return deepest
}

// cursor walks over valid JSON.
type cursor struct {
	data []byte
	pos  int
}

func (c *cursor) space() {
	for c.pos < len(c.data) {
		switch c.data[c.pos] {
		case ' ', '\t', '\r', '\n':
			c.pos++
		default:
			return
		}
	}
}

// next returns the first byte of what comes next, without reading it.
func (c *cursor) next() byte {
	c.space()
	return c.data[c.pos]
}

// entries calls each before every entry of the list or object that comes next, and reads the punctuation.
func (c *cursor) entries(each func() *Error) *Error {
	c.next()
	c.pos++ // [ or {
	for {
		switch c.next() {
		case ']', '}':
			c.pos++
			return nil
		case ',':
			c.pos++
		default:
			if e := each(); e != nil {
				return e
			}
		}
	}
}

// key reads the name of a member and its colon.
func (c *cursor) key() string {
	name := c.text()
	c.next()
	c.pos++
	return name
}

// raw reads one value of any kind.
func (c *cursor) raw() []byte {
	c.space()
	start, depth := c.pos, 0
	for c.pos < len(c.data) {
		switch c.data[c.pos] {
		case '"':
			c.pos++
			for c.data[c.pos] != '"' {
				if c.data[c.pos] == '\\' {
					c.pos++
				}
				c.pos++
			}
			c.pos++
		case '{', '[':
			depth++
			c.pos++
		case '}', ']':
			if depth == 0 {
				return c.data[start:c.pos] // a number or word before the end of its list or object
			}
			depth--
			c.pos++
		case ',', ' ', '\t', '\r', '\n', ':':
			if depth == 0 {
				return c.data[start:c.pos]
			}
			c.pos++
			continue
		default:
			c.pos++
			continue
		}
		if depth == 0 {
			break
		}
	}
	return c.data[start:c.pos]
}

// text reads a string.
func (c *cursor) text() string {
	raw := c.raw()
	for _, b := range raw {
		if b == '\\' {
			var s string
			if err := json.Unmarshal(raw, &s); err != nil {
				panic(fmt.Sprintf("wire: valid JSON has the string %q: %v", raw, err))
			}
			return s
		}
	}
	return string(raw[1 : len(raw)-1])
}

// null reads null, if that comes next.
func (c *cursor) null() bool {
	if c.next() != 'n' {
		return false
	}
	c.raw()
	return true
}

// what names what comes next.
func (c *cursor) what() string {
	switch c.next() {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	default:
		return "a number"
	}
}

// object reads the members of a struct.
func (c *cursor) object(o *object, v reflect.Value, at *path) *Error {
	seen := make([]bool, len(o.fields))
	return c.entries(func() *Error {
		i, known := o.byName[c.key()]
		if !known {
			c.next()
			c.raw()
			return nil
		}
		f := o.fields[i]
		at.push(f.name)
		defer at.pop()
		if seen[i] {
			return invalid("The member '%s' is given more than once", at)
		}
		seen[i] = true
		if c.null() {
			return nil
		}
		return c.value(f.value, v.FieldByIndex(f.index), at)
	})
}

// value reads a value that is not null.
func (c *cursor) value(d *value, v reflect.Value, at *path) *Error {
	v = settle(v, d)
	first := c.next()
	var fits bool
	switch d.kind {
	case custom:
		if err := v.Addr().Interface().(json.Unmarshaler).UnmarshalJSON(c.raw()); err != nil {
			return invalid("The member '%s' is not right: %v", at, err)
		}
		return nil
	case text, blob:
		fits = first == '"'
	case boolean:
		fits = first == 't' || first == 'f'
	case integer, unsigned, number:
		fits = first == '-' || '0' <= first && first <= '9'
	case list:
		fits = first == '['
	case dict, structure:
		fits = first == '{'
	}
	if !fits {
		return invalid("The member '%s' must be %s, not %s", at, wanted[d.kind], c.what())
	}
	switch d.kind {
	case text:
		v.SetString(c.text())
	case blob:
		data, err := base64.StdEncoding.DecodeString(c.text())
		if err != nil {
			return invalid("The member '%s' must be %s", at, wanted[blob])
		}
		v.SetBytes(data)
	case boolean:
		v.SetBool(first == 't')
		c.raw()
	case list:
		return c.list(d, v, at)
	case dict:
		return c.dict(d, v, at)
	case structure:
		return c.object(d.object, v, at)
	default:
		raw := string(c.raw())
		if err := d.setNumber(v, raw, true); err != nil {
			return invalid("The member '%s' must be %v, not %s", at, err, shorten(raw))
		}
	}
	return nil
}

func (c *cursor) list(d *value, v reflect.Value, at *path) *Error {
	v.Set(reflect.MakeSlice(d.typ, 0, 0)) // [] is not absent
	n := 0
	return c.entries(func() *Error {
		if n++; n > maxEntries {
			return invalid("The member '%s' has more than %d entries", at, maxEntries)
		}
		if c.null() {
			return nil
		}
		v.Set(reflect.Append(v, reflect.Zero(d.typ.Elem())))
		at.pushItem(v.Len())
		defer at.pop()
		return c.value(d.item, v.Index(v.Len()-1), at)
	})
}

func (c *cursor) dict(d *value, v reflect.Value, at *path) *Error {
	m := reflect.MakeMap(d.typ)
	v.Set(m)
	n := 0
	return c.entries(func() *Error {
		if n++; n > maxEntries {
			return invalid("The member '%s' has more than %d entries", at, maxEntries)
		}
		name := c.key()
		if c.null() {
			return nil
		}
		at.push(name)
		defer at.pop()
		at.pushMember()
		defer at.pop()
		key := reflect.ValueOf(name).Convert(d.typ.Key())
		if m.MapIndex(key).IsValid() {
			return invalid("The member '%s' is given more than once", at)
		}
		entry := reflect.New(d.typ.Elem()).Elem()
		if e := c.value(d.item, entry, at); e != nil {
			return e
		}
		m.SetMapIndex(key, entry)
		return nil
	})
}

// path is where in a request a value is, in AWS's form: abortConfig.criteriaList.1.member.action.
type path []step

// step is a member's name, or if that is empty the number of an item, from 1.
type step struct {
	name string
	item int
}

func (p *path) push(name string) { *p = append(*p, step{name: name}) }
func (p *path) pushItem(n int)   { *p = append(*p, step{item: n}) }
func (p *path) pushMember()      { p.push("member") }
func (p *path) pop()             { *p = (*p)[:len(*p)-1] }

// String implements fmt.Stringer.
func (p *path) String() string {
	var b strings.Builder
	for i, s := range *p {
		if i > 0 {
			b.WriteByte('.')
		}
		if s.item > 0 {
			b.WriteString(strconv.Itoa(s.item) + ".member")
		} else {
			b.WriteString(shorten(s.name))
		}
	}
	return b.String()
}
