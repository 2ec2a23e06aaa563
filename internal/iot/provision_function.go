package iot

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// maxProvisioningText bounds the text that functions of a template can make, in bytes: nested
// substitutions could otherwise double it as often as they like.
const maxProvisioningText = 64 << 10

// expression is a value in a blueprint: it yields text, a list of texts, or in a policy document
// any JSON value.
type expression func(*resolver) any

// resolver evaluates expressions; the first failure counts, and what is evaluated after it has
// no meaning.
type resolver struct {
	b          *Blueprint
	parameters map[string]string
	inPolicy   bool
	err        error
}

func (r *resolver) fail(format string, args ...any) {
	if r.err == nil {
		r.err = Errorf(InvalidRequest, format, args...)
	}
}

// text evaluates an expression that parsed as text; nil is "".
func (r *resolver) text(e expression) string {
	if e == nil || r.err != nil {
		return ""
	}
	s, ok := e(r).(string)
	if !ok {
		r.fail("A list stands where text is expected")
	}
	if len(s) > maxProvisioningText {
		r.fail("The functions of the template make a text of more than %d bytes", maxProvisioningText)
		return ""
	}
	return s
}

func (r *resolver) texts(of map[string]expression) map[string]string {
	texts := make(map[string]string, len(of))
	for _, name := range slices.Sorted(maps.Keys(of)) {
		texts[name] = r.text(of[name])
	}
	return texts
}

// object evaluates the members of an object.
func (r *resolver) object(members map[string]expression) map[string]any {
	object := make(map[string]any, len(members))
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if r.err == nil {
			object[name] = members[name](r)
		}
	}
	return object
}

// list evaluates an expression that is a list; nil is none.
func (r *resolver) list(e expression) []string {
	if e == nil || r.err != nil {
		return nil
	}
	switch v := e(r).(type) {
	case []string:
		return v
	case []any:
		texts := make([]string, len(v))
		for i, item := range v {
			s, ok := item.(string)
			if !ok {
				r.fail("A list of texts has an item that is no text")
				return nil
			}
			texts[i] = s
		}
		return texts
	}
	r.fail("Text stands where a list is expected")
	return nil
}

// document evaluates a policy document: text as it is, or an object.
func (r *resolver) document(e expression) string {
	if r.err != nil {
		return ""
	}
	r.inPolicy = true
	defer func() { r.inPolicy = false }()
	v := e(r)
	if text, ok := v.(string); ok {
		if len(text) > maxProvisioningText {
			r.fail("The functions of the template make a policy document of more than %d bytes", maxProvisioningText)
		}
		return text
	}
	text, err := encodeDocument(v)
	if err != nil {
		r.fail("The policy document cannot be written: %v", err)
	}
	return text
}

// parameter returns the value of a parameter. In a policy document it must not mean more than
// itself: a device that calls itself * gets no right to the topics of all.
func (r *resolver) parameter(name string) string {
	value, ok := r.parameters[name]
	if !ok {
		standard := r.b.parameters[name]
		if standard == nil {
			r.fail("The parameter %s is missing", name)
			return ""
		}
		value = *standard
	}
	if r.inPolicy && strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || strings.ContainsRune(`*?$"\`, c) }) {
		r.fail("The parameter %s is part of a policy and cannot have the value %q: it has one of the characters * ? $ \" \\", name, shorten(value))
		return ""
	}
	return value
}

// call parses the call of a function.
func (p *blueprintParser) call(at, name string, argument any) expression {
	at += "." + name
	switch name {
	case "Ref":
		return p.ref(at, argument)
	case "Fn::Join":
		return p.join(at, argument)
	case "Fn::Select":
		return p.choose(at, argument)
	case "Fn::Split":
		return p.split(at, argument)
	case "Fn::Sub":
		return p.substitute(at, argument)
	case "Fn::FindInMap":
		return p.findInMap(at, argument)
	}
	p.fail(at, "there is no such function")
	return nil
}

// function returns the name of the function that an object calls, "" if it is just an object.
func function(o map[string]any) string {
	if len(o) != 1 {
		return ""
	}
	for name := range o {
		if name == "Ref" || strings.HasPrefix(name, "Fn::") {
			return name
		}
	}
	return ""
}

// expression parses a value of any kind.
func (p *blueprintParser) expression(at string, v any) expression {
	switch v := v.(type) {
	case map[string]any:
		if name := function(v); name != "" {
			return p.call(at, name, v[name])
		}
		members := make(map[string]expression, len(v))
		for name, member := range v {
			members[name] = p.expression(at+"."+name, member)
		}
		return func(r *resolver) any { return r.object(members) }
	case []any:
		items := make([]expression, len(v))
		for i, item := range v {
			items[i] = p.expression(at+"["+strconv.Itoa(i)+"]", item)
		}
		return func(r *resolver) any {
			list := make([]any, len(items))
			for i, e := range items {
				list[i] = e(r)
			}
			return list
		}
	default: // text, numbers, true, false, null
		return func(*resolver) any { return v }
	}
}

// text parses a value that is text or a function.
func (p *blueprintParser) text(at string, v any) expression {
	if o, ok := v.(map[string]any); ok && function(o) != "" {
		return p.expression(at, v)
	}
	if _, ok := v.(string); !ok {
		p.fail(at, "must be text or a function")
	}
	return p.expression(at, v)
}

// list parses a value that is a list of texts, or a function that makes one.
func (p *blueprintParser) list(at string, v any) expression {
	if o, ok := v.(map[string]any); ok && function(o) != "" {
		return p.expression(at, v)
	}
	items, ok := v.([]any)
	if !ok {
		p.fail(at, "must be a list or a function")
	}
	for i, item := range items {
		p.text(at+"["+strconv.Itoa(i)+"]", item)
	}
	return p.expression(at, v)
}

// arguments returns the n arguments of a function.
func (p *blueprintParser) arguments(at string, v any, n int) []any {
	list, ok := v.([]any)
	if !ok || len(list) != n {
		p.fail(at, "must be a list of %d arguments", n)
		return make([]any, n)
	}
	return list
}

func (p *blueprintParser) ref(at string, argument any) expression {
	name, ok := argument.(string)
	if !ok {
		p.fail(at, "must be the name of a parameter")
	}
	p.declared(at, name)
	return func(r *resolver) any { return r.parameter(name) }
}

// declared complains about a parameter that nobody will ever give.
func (p *blueprintParser) declared(at, name string) {
	if _, ok := p.b.parameters[name]; !ok && !strings.HasPrefix(name, certificateParameters) {
		p.fail(at, "the parameter %q is not declared", shorten(name))
	}
}

func (p *blueprintParser) join(at string, argument any) expression {
	a := p.arguments(at, argument, 2)
	delimiter, ok := a[0].(string)
	if !ok {
		p.fail(at, "the delimiter must be text")
	}
	values := p.list(at, a[1])
	return func(r *resolver) any {
		list := r.list(values)
		size := 0
		for _, s := range list {
			size += len(s) + len(delimiter)
		}
		if size > maxProvisioningText {
			r.fail("The functions of the template make a text of more than %d bytes", maxProvisioningText)
			return ""
		}
		return strings.Join(list, delimiter)
	}
}

func (p *blueprintParser) choose(at string, argument any) expression {
	a := p.arguments(at, argument, 2)
	var index expression
	if n, ok := a[0].(json.Number); ok {
		index = func(*resolver) any { return n.String() }
	} else {
		index = p.text(at, a[0])
	}
	values := p.list(at, a[1])
	return func(r *resolver) any {
		n, err := strconv.Atoi(r.text(index))
		list := r.list(values)
		if r.err == nil && (err != nil || n < 0 || n >= len(list)) {
			r.fail("Fn::Select: the index is not one of the %d items", len(list))
		}
		if r.err != nil {
			return ""
		}
		return list[n]
	}
}

func (p *blueprintParser) split(at string, argument any) expression {
	a := p.arguments(at, argument, 2)
	delimiter, ok := a[0].(string)
	if !ok || delimiter == "" {
		p.fail(at, "the delimiter must be a text that is not empty")
	}
	value := p.text(at, a[1])
	return func(r *resolver) any { return strings.Split(r.text(value), delimiter) }
}

func (p *blueprintParser) findInMap(at string, argument any) expression {
	a := p.arguments(at, argument, 3)
	name, first, second := p.text(at, a[0]), p.text(at, a[1]), p.text(at, a[2])
	return func(r *resolver) any {
		m, a, b := r.text(name), r.text(first), r.text(second)
		value, ok := r.b.mappings[m][a][b]
		if !ok {
			r.fail("Fn::FindInMap: there is no %s", shorten(fmt.Sprintf("%s.%s.%s", m, a, b)))
		}
		return value
	}
}

// substitute parses "text with ${name}", alone or with the values of names that are not
// parameters. ${!name} stands for ${name} as it is written.
func (p *blueprintParser) substitute(at string, argument any) expression {
	text, ok := argument.(string)
	values := map[string]expression{}
	if !ok {
		a := p.arguments(at, argument, 2)
		if text, ok = a[0].(string); !ok {
			p.fail(at, "must be text, or text and an object of values")
		}
		for name, v := range p.object(at, a[1]) {
			values[name] = p.text(at+"."+name, v)
		}
	}
	var parts []part
	for {
		before, rest, found := strings.Cut(text, "${")
		parts = append(parts, part{literal: before})
		if !found {
			break
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			p.fail(at, "${ without }")
			break
		}
		text = after
		if verbatim, ok := strings.CutPrefix(name, "!"); ok {
			parts = append(parts, part{literal: "${" + verbatim + "}"})
			continue
		}
		if _, ok := values[name]; !ok {
			p.declared(at, name)
			values[name] = func(r *resolver) any { return r.parameter(name) }
		}
		parts = append(parts, part{name: name})
	}
	return func(r *resolver) any {
		// Each value once, however often it occurs: nested, it would be exponential.
		made := r.texts(values)
		var b strings.Builder
		for _, part := range parts {
			s := part.literal
			if part.name != "" {
				s = made[part.name]
			}
			if b.Len()+len(s) > maxProvisioningText {
				r.fail("The functions of the template make a text of more than %d bytes", maxProvisioningText)
			}
			if r.err != nil {
				return ""
			}
			b.WriteString(s)
		}
		return b.String()
	}
}

// part is a piece of a text with names in it: one or the other.
type part struct{ literal, name string }
