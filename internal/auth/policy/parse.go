package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of documents, in characters other than white space.
const (
	// DeviceLimit is that of the policies of AWS IoT (identity spec §5.2).
	DeviceLimit = 2048
	// KeyLimit is that of the policies of API keys: IAM's for a managed policy.
	KeyLimit = 6144

	maxRaw   = 404_600 // characters in all
	maxDepth = 8       // of what is nested; a document needs 6
)

// Parse reads a document of at most limit characters, not counting white space. The error says what
// is wrong with it and where, in words for who wrote it; it repeats the document only in short.
func Parse(text string, limit int) (*Policy, error) {
	if !utf8.ValidString(text) {
		return nil, errors.New("the document is not UTF-8")
	}
	if n := utf8.RuneCountInString(text); n > maxRaw {
		return nil, fmt.Errorf("the document has %d characters; the limit is %d", n, maxRaw)
	}
	if n := countBlack(text); n > limit {
		return nil, fmt.Errorf("the document has %d characters that are not white space; the limit is %d", n, limit)
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	value, err := decode(decoder, maxDepth)
	if err == nil {
		if _, err = decoder.Token(); err == io.EOF {
			err = nil
		} else if err == nil {
			err = errors.New("there is something behind the end of the document")
		}
	}
	if err != nil {
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			err = errors.New("the document ends too early")
		}
		return nil, fmt.Errorf("not valid JSON: %w", err)
	}
	return parseDocument(value)
}

func countBlack(s string) (n int) {
	for _, r := range s {
		if !unicode.IsSpace(r) {
			n++
		}
	}
	return n
}

// object is a JSON object in the order in which it is written.
type object []member

type member struct {
	name  string
	value any // object, []any, string, json.Number, bool or nil
}

// decode reads a JSON value. Unlike encoding/json it refuses an object that has a name twice: which
// of the two would count is a trap.
func decode(d *json.Decoder, depth int) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	delim, ok := token.(json.Delim)
	if !ok {
		return token, nil
	}
	if depth == 0 {
		return nil, errors.New("too many levels of objects and lists")
	}
	if delim == '[' {
		list := []any{}
		for d.More() {
			v, err := decode(d, depth-1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := d.Token()
		return list, err
	}
	o := object{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, ok := token.(string)
		if !ok {
			return nil, fmt.Errorf("%v is not a name", token)
		}
		if slices.ContainsFunc(o, func(m member) bool { return m.name == name }) {
			return nil, fmt.Errorf("%q is there twice", clip(name))
		}
		v, err := decode(d, depth-1)
		if err != nil {
			return nil, err
		}
		o = append(o, member{name, v})
	}
	_, err = d.Token()
	return o, err
}

func parseDocument(value any) (*Policy, error) {
	o, ok := value.(object)
	if !ok {
		return nil, errors.New("the document is not an object")
	}
	var statements []any
	for _, m := range o {
		switch m.name {
		case "Version":
			if m.value != "2012-10-17" && m.value != "2008-10-17" {
				return nil, errors.New(`element Version must be "2012-10-17" or "2008-10-17"`)
			}
		case "Id":
			if _, ok := m.value.(string); !ok {
				return nil, errors.New("element Id must be a string")
			}
		case "Statement":
			if list, ok := m.value.([]any); ok {
				statements = list
			} else {
				statements = []any{m.value}
			}
		default:
			return nil, fmt.Errorf("unknown element %q", clip(m.name))
		}
	}
	if len(statements) == 0 {
		return nil, errors.New("element Statement is missing or empty")
	}
	p := &Policy{statements: make([]statement, len(statements))}
	for i, value := range statements {
		if err := p.statements[i].parse(value); err != nil {
			return nil, fmt.Errorf("statement %d: %w", i+1, err)
		}
	}
	return p, nil
}

func (s *statement) parse(value any) error {
	o, ok := value.(object)
	if !ok {
		return errors.New("must be an object")
	}
	has := make(map[string]bool)
	for _, m := range o {
		has[m.name] = true
		var err error
		switch m.name {
		case "Sid":
			if _, ok := m.value.(string); !ok {
				err = errors.New("element Sid must be a string")
			}
		case "Effect":
			if m.value != "Allow" && m.value != "Deny" {
				err = errors.New(`element Effect must be "Allow" or "Deny"`)
			}
			s.deny = m.value == "Deny"
		case "Action", "NotAction":
			s.notAction = m.name == "NotAction"
			s.actions, err = patterns(m, checkAction, strings.ToLower)
		case "Resource", "NotResource":
			s.notResource = m.name == "NotResource"
			s.resources, err = patterns(m, checkResource, func(s string) string { return s })
			s.resourceVars = slices.ContainsFunc(s.resources, pattern.variables)
		case "Condition":
			err = s.parseConditions(m.value)
		default:
			err = fmt.Errorf("unknown element %q", clip(m.name))
		}
		if err != nil {
			return err
		}
	}
	switch {
	case !has["Effect"]:
		return errors.New("element Effect is missing")
	case has["Action"] == has["NotAction"]:
		return errors.New("needs one of Action and NotAction")
	case has["Resource"] == has["NotResource"]:
		return errors.New("needs one of Resource and NotResource")
	}
	return nil
}

// patterns reads a string or a list of them.
func patterns(m member, check func(string) error, spell func(string) string) ([]pattern, error) {
	texts, err := list(m.value, false)
	if err == nil && len(texts) == 0 {
		err = errors.New("must not be empty")
	}
	if err != nil {
		return nil, fmt.Errorf("%s %w", m.name, err)
	}
	all := make([]pattern, len(texts))
	for i, text := range texts {
		err := check(text)
		if err == nil {
			all[i], err = newPattern(spell(text), true)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return all, nil
}

func checkAction(text string) error {
	if service, name, ok := strings.Cut(text, ":"); text != "*" && (!ok || service == "" || name == "") {
		return fmt.Errorf("%q is not an action such as iot:Publish", clip(text))
	}
	return nil
}

func checkResource(text string) error {
	if text != "*" && !strings.HasPrefix(text, "arn:") {
		return fmt.Errorf(`%q is neither an ARN nor "*"`, clip(text))
	}
	return nil
}

func (s *statement) parseConditions(value any) error {
	operators, ok := value.(object)
	if !ok {
		return errors.New("element Condition must be an object")
	}
	for _, operator := range operators {
		keys, ok := operator.value.(object)
		if !ok {
			return fmt.Errorf("condition: %q must be an object", clip(operator.name))
		}
		for _, k := range keys {
			values, err := list(k.value, true)
			if err != nil {
				return fmt.Errorf("condition: %s of %q %w", clip(operator.name), clip(k.name), err)
			}
			c, err := newCondition(operator.name, k.name, values)
			if err != nil {
				return fmt.Errorf("condition: %w", err)
			}
			s.conditions = append(s.conditions, c)
		}
	}
	return nil
}

// list reads a string or a list of strings. Numbers and booleans may be written as what they are if
// scalars says so.
func list(value any, scalars bool) ([]string, error) {
	values, ok := value.([]any)
	if !ok {
		values = []any{value}
	}
	texts := make([]string, len(values))
	for i, v := range values {
		switch v := v.(type) {
		case string:
			texts[i] = v
			continue
		case json.Number:
			if scalars {
				texts[i] = v.String()
				continue
			}
		case bool:
			if scalars {
				texts[i] = fmt.Sprint(v)
				continue
			}
		}
		return nil, errors.New("must be a string or a list of strings")
	}
	return texts, nil
}
