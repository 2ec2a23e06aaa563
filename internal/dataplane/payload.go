package dataplane

import (
	"bytes"
	"encoding/json"
	"iter"
	"strconv"
	"unicode/utf8"

	"drover/internal/iot"
)

// decode reads the payload of an MQTT request into r, whose Op is set, and returns the
// clientToken as the JSON text in which it came, "" if there was none (spec §11.3). A token
// is returned beside an error, too, wherever it could be read.
//
// Errors: InvalidJson for what is not JSON in UTF-8 or is nested deeper than encoding/json
// allows (10,000 levels), InvalidRequest for members of the wrong type. Names of members are
// case-sensitive, of one that is given twice the last counts, unknown ones and null are as if
// absent.
func decode(payload []byte, r *iot.Request) (token string, err error) {
	r.WantDocument = r.Op == iot.OpDescribe || r.Op == iot.OpStartNext
	if len(payload) == 0 {
		return "", nil
	}
	if !utf8.Valid(payload) || !json.Valid(payload) {
		return "", iot.Errorf(invalidJSON, "The payload is not valid JSON in UTF-8")
	}
	if payload = bytes.TrimLeft(payload, space); payload[0] != '{' {
		return "", iot.Errorf(iot.InvalidRequest, "The payload must be a JSON object")
	}
	for name, value := range members(payload) {
		if value[0] == 'n' { // null
			continue
		}
		if string(name) == "clientToken" {
			if token = ""; value[0] == '"' {
				token = string(value)
				continue
			}
		}
		// The first error is told, but the token may still come.
		if e := decodeMember(r, name, value); e != nil && err == nil {
			err = e
		}
	}
	return token, err
}

// decodeMember puts the member into r if r's operation has it.
func decodeMember(r *iot.Request, name, value []byte) error {
	starts, describes, updates := r.Op == iot.OpStartNext, r.Op == iot.OpDescribe, r.Op == iot.OpUpdate
	var ok bool
	switch string(name) {
	case "clientToken":
		return wrongType("clientToken", value, "a string")
	case "statusDetails":
		if starts || updates {
			details, err := decodeDetails(value)
			if err != nil {
				return err
			}
			r.Details = details
		}
	case "stepTimeoutInMinutes":
		if starts || updates {
			n, ok := integer(value)
			if !ok {
				return wrongType("stepTimeoutInMinutes", value, "an integer")
			}
			r.StepTimeout = &n
			return iot.CheckStepTimeout(n)
		}
	case "executionNumber":
		if describes || updates {
			if r.Number, ok = integer(value); !ok {
				return wrongType("executionNumber", value, "an integer")
			}
			return checkNumber(r.Number)
		}
	case "includeJobDocument":
		if describes || updates {
			if r.WantDocument, ok = boolean(value); !ok {
				return wrongType("includeJobDocument", value, "a boolean")
			}
		}
	case "includeJobExecutionState":
		if updates {
			if r.WantState, ok = boolean(value); !ok {
				return wrongType("includeJobExecutionState", value, "a boolean")
			}
		}
	case "expectedVersion":
		if updates {
			n, ok := version(value)
			if !ok {
				return wrongType("expectedVersion", value, "an integer or a string of decimal digits")
			}
			r.ExpectedVersion = &n
		}
	case "status":
		if updates {
			if value[0] != '"' {
				return wrongType("status", value, "a string")
			}
			return setStatus(r, unquote(value))
		}
	}
	return nil
}

// setStatus puts the status that a device reports into r. InvalidRequest for a text that is
// no status a device can set.
func setStatus(r *iot.Request, text string) error {
	if r.Status = iot.ParseExecutionStatus(text); !r.Status.SetByDevice() {
		return iot.Invalid("status", text, "Member must satisfy enum value set: [IN_PROGRESS, SUCCEEDED, FAILED, REJECTED]")
	}
	return nil
}

// checkNumber returns an InvalidRequest error for an executionNumber that no execution can have.
func checkNumber(n int64) error {
	if n < 1 {
		return iot.Invalid("executionNumber", n, "Member must have value greater than or equal to 1")
	}
	return nil
}

func decodeDetails(value []byte) (iot.Details, error) {
	if value[0] != '{' {
		return nil, wrongType("statusDetails", value, "an object")
	}
	details := iot.Details{}
	for name, v := range members(value) {
		switch v[0] {
		case '"':
			details[string(name)] = unquote(v)
		case 'n': // null
			delete(details, string(name))
		default:
			return nil, wrongType("statusDetails."+string(name), v, "a string")
		}
	}
	return details, nil
}

func wrongType(member string, value []byte, want string) error {
	return iot.Invalid(member, string(value), "Member must be "+want)
}

// version reads a version number, which may come as a string (spec §3.3).
func version(value []byte) (int64, bool) {
	if value[0] == '"' {
		n, err := strconv.ParseInt(unquote(value), 10, 64)
		return n, err == nil
	}
	return integer(value)
}

// integer reads a JSON number without a fraction: 1, and 1.0 and 1e0 as well.
func integer(value []byte) (int64, bool) {
	if n, err := strconv.ParseInt(string(value), 10, 64); err == nil {
		return n, true
	}
	const exact = 1 << 53
	f, err := strconv.ParseFloat(string(value), 64)
	n := int64(f)
	return n, err == nil && -exact < f && f < exact && float64(n) == f
}

func boolean(value []byte) (b, ok bool) {
	return string(value) == "true", value[0] == 't' || value[0] == 'f'
}

// unquote returns the text of a JSON string. Half a surrogate pair becomes U+FFFD.
func unquote(value []byte) string {
	if bytes.IndexByte(value, '\\') < 0 {
		return string(value[1 : len(value)-1])
	}
	var s string
	_ = json.Unmarshal(value, &s) // it is a valid string
	return s
}

const space = " \t\r\n"

// members walks through the members of a JSON object that is known to be valid: names
// unquoted, values as they stand.
func members(object []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		rest := bytes.TrimLeft(object[1:], space)
		for rest[0] == '"' {
			n := valueLen(rest)
			name := rest[1 : n-1]
			if bytes.IndexByte(name, '\\') >= 0 {
				name = []byte(unquote(rest[:n]))
			}
			rest = bytes.TrimLeft(rest[n:], space)
			rest = bytes.TrimLeft(rest[len(":"):], space)
			n = valueLen(rest)
			if !yield(name, rest[:n]) {
				return
			}
			if rest = bytes.TrimLeft(rest[n:], space); rest[0] == ',' {
				rest = bytes.TrimLeft(rest[1:], space)
			}
		}
	}
}

// valueLen returns the length of the JSON value at the beginning of b.
func valueLen(b []byte) int {
	for i, depth := 0, 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
			continue
		case '}', ']':
			if depth == 0 { // the end of what is around a number or a word
				return i
			}
			depth--
		case ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return i
			}
			continue
		default:
			continue
		}
		if depth == 0 {
			return i + 1
		}
	}
	return len(b)
}
