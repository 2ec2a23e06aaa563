package commands

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/fxamacker/cbor/v2"

	"drover/internal/iot"
)

// Placeholders of templates (registry spec §11.1). A string that is nothing but one becomes the value with its type;
// inside of a longer string it becomes text.
const (
	placeholder      = "${aws:iot:commandexecution::"
	parameterPrefix  = "parameter:"
	timeoutParameter = "executionTimeoutSec"
)

// values are what placeholders stand for, by what is behind the prefix.
type values map[string]iot.CommandValue

// checkTemplate returns an InvalidRequest error unless the template of a command is JSON with at least one placeholder, all
// of parameters that the command has.
func checkTemplate(c *iot.Command) error {
	known := values{timeoutParameter: {L: new(int64)}}
	for _, p := range c.Parameters {
		text := ""
		known[parameterPrefix+p.Name] = iot.CommandValue{S: &text}
	}
	if !strings.Contains(c.Template, placeholder) {
		return iot.Errorf(iot.InvalidRequest, "The payloadTemplate has no placeholder %s…}; a fixed one is a payload", placeholder)
	}
	_, err := fill(c.Template, known, false)
	return err
}

// render makes what a device is sent of a template, and says what that is. InvalidRequest if it is too large.
func render(c *iot.Command, parameters map[string]iot.CommandValue, timeout int64) (payload []byte, contentType string, err error) {
	known := values{timeoutParameter: {L: &timeout}}
	for name, v := range parameters {
		known[parameterPrefix+name] = v
	}
	contentType = "application/json"
	if c.Format == iot.CommandCBOR {
		contentType = "application/cbor"
		var tree any
		if tree, err = fill(c.Template, known, true); err == nil {
			payload, err = cbor.Marshal(tree)
		}
	} else {
		var tree any
		if tree, err = fill(c.Template, known, false); err == nil {
			payload, err = encode(tree)
		}
	}
	if err == nil && len(payload) > iot.MaxCommandPayload {
		err = iot.Errorf(iot.InvalidRequest, "The payload has %d bytes with its parameters; the limit is %d", len(payload), iot.MaxCommandPayload)
	}
	return payload, contentType, err
}

// encode writes a tree as JSON. Members of an object keep their order.
func encode(tree any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(tree); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

// object is a JSON object whose members keep their order.
type object []member

type member struct {
	name  string
	value any
}

// MarshalJSON implements json.Marshaler.
func (o object) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, m := range o {
		if i > 0 {
			b = append(b, ',')
		}
		for j, v := range []any{m.name, m.value} {
			text, err := encode(v)
			if err != nil {
				return nil, err
			}
			b = append(append(b, text...), ":"[j:]...)
		}
	}
	return append(b, '}'), nil
}

// MarshalCBOR implements cbor.Marshaler.
func (o object) MarshalCBOR() ([]byte, error) {
	m := make(map[string]any, len(o))
	for _, v := range o {
		m[v.name] = v.value
	}
	return cbor.Marshal(m)
}

// maxNested is how deep a template can be.
const maxNested = 64

// fill reads a template and replaces its placeholders: for CBOR by numbers and bytes, for JSON by what it has for these.
// InvalidRequest for what is not JSON, and for a placeholder that stands for nothing.
func fill(template string, known values, binary bool) (any, error) {
	d := json.NewDecoder(strings.NewReader(template))
	d.UseNumber()
	f := &filler{d, known, binary}
	tree, err := f.value(0)
	if err == nil {
		if _, e := d.Token(); e != io.EOF {
			err = malformed("there is something behind it")
		}
	}
	return tree, err
}

type filler struct {
	*json.Decoder
	known  values
	binary bool
}

func malformed(why any) error {
	return iot.Errorf(iot.InvalidRequest, "The payloadTemplate is not JSON: %v", why)
}

func (f *filler) value(depth int) (any, error) {
	if depth > maxNested {
		return nil, iot.Errorf(iot.InvalidRequest, "The payloadTemplate is nested deeper than %d levels", maxNested)
	}
	token, err := f.Token()
	if err != nil {
		return nil, malformed(err)
	}
	switch token := token.(type) {
	case string:
		return f.replace(token)
	case json.Number:
		return f.number(token)
	case json.Delim:
		if token == '[' {
			list := []any{}
			for f.More() {
				v, err := f.value(depth + 1)
				if err != nil {
					return nil, err
				}
				list = append(list, v)
			}
			return list, f.end()
		}
		o := object{}
		for f.More() {
			name, err := f.Token()
			if err != nil {
				return nil, malformed(err)
			}
			text, err := f.text(fmt.Sprint(name))
			if err != nil {
				return nil, err
			}
			v, err := f.value(depth + 1)
			if err != nil {
				return nil, err
			}
			o = append(o, member{text, v})
		}
		return o, f.end()
	default:
		return token, nil // true, false, null
	}
}

// end reads the end of a list or object.
func (f *filler) end() error {
	if _, err := f.Token(); err != nil {
		return malformed(err)
	}
	return nil
}

// number is a number of the template: CBOR tells integers from others.
func (f *filler) number(n json.Number) (any, error) {
	if !f.binary {
		return n, nil
	}
	if v, err := n.Int64(); err == nil {
		return v, nil
	}
	if v, err := strconv.ParseUint(string(n), 10, 64); err == nil {
		return v, nil
	}
	v, err := n.Float64()
	if err != nil || math.IsInf(v, 0) {
		return nil, iot.Errorf(iot.InvalidRequest, "The payloadTemplate has a number that CBOR has not: %s", n)
	}
	return v, nil
}

// replace is a string of the template with what its placeholders stand for.
func (f *filler) replace(text string) (any, error) {
	if name, ok := strings.CutPrefix(text, placeholder); ok && strings.IndexByte(name, '}') == len(name)-1 {
		v, err := f.lookUp(name[:len(name)-1])
		if err != nil {
			return nil, err
		}
		return f.typed(&v), nil
	}
	return f.text(text)
}

// text replaces placeholders inside of a string.
func (f *filler) text(text string) (string, error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, placeholder)
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return "", iot.Errorf(iot.InvalidRequest, "The payloadTemplate has a placeholder that is not terminated")
		}
		v, err := f.lookUp(name)
		if err != nil {
			return "", err
		}
		b.WriteString(v.Text())
		text = after
	}
}

func (f *filler) lookUp(name string) (iot.CommandValue, error) {
	v, ok := f.known[name]
	if !ok {
		return v, iot.Errorf(iot.InvalidRequest, "The placeholder %s%s} stands for no parameter of the command", placeholder, name)
	}
	return v, nil
}

// typed is a value as the format has it.
func (f *filler) typed(v *iot.CommandValue) any {
	switch {
	case v.S != nil:
		return *v.S
	case v.B != nil:
		return *v.B
	case v.I != nil:
		return int64(*v.I)
	case v.L != nil:
		return *v.L
	case v.D != nil:
		return *v.D
	case v.UL != nil:
		n, _ := strconv.ParseUint(*v.UL, 10, 64) // it was checked
		return n
	case f.binary:
		return v.BIN
	}
	return base64.StdEncoding.EncodeToString(v.BIN)
}
