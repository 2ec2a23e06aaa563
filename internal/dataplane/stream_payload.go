package dataplane

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"

	"drover/internal/iot"
)

const invalidCBOR iot.Code = "InvalidCbor"

// Parts of the topics of streams (registry spec §8.2).
const (
	streamsPart = "/streams/"
	describing  = "describe"
	getting     = "get"
)

// streamTopic is what the topic of a request says.
type streamTopic struct {
	root   string // of all topics of the thing and the stream, with a slash behind
	stream string
	verb   string
	format string
}

// parseStream tells whether topic is one that devices publish to, $aws/things/{thing}/streams/{stream}/{verb}/{format},
// and which. The verb may be none that there is, but not one that is for the server alone.
func parseStream(topic string) (t streamTopic, ok bool) {
	rest, ok := strings.CutPrefix(topic, thingsRoot)
	if !ok {
		return t, false
	}
	thing, rest, ok := strings.Cut(rest, "/")
	if !ok || thing == "" || !strings.HasPrefix("/"+rest, streamsPart) {
		return t, false
	}
	parts := strings.Split(rest[len(streamsPart)-1:], "/")
	if len(parts) != 3 || parts[0] == "" || parts[1] == "" {
		return t, false
	}
	t = streamTopic{topic[:len(topic)-len(parts[1])-len("/")-len(parts[2])], parts[0], parts[1], parts[2]}
	switch t.verb {
	case "description", "data", "rejected":
		return t, false
	}
	_, ok = formats[t.format]
	return t, ok
}

// answer is the topic of an answer: description, data or rejected.
func (t streamTopic) answer(kind string) string { return t.root + kind + "/" + t.format }

// Payloads (registry spec §8.3). Both formats go by the json tags.
type (
	// streamFields is a request as it comes: of a type that does not fit there is more to say than
	// that it does not.
	streamFields struct {
		Token   any `json:"c"`
		Version any `json:"s"`
		File    any `json:"f"`
		Size    any `json:"l"`
		Offset  any `json:"o"`
		Count   any `json:"n"`
		Bitmap  any `json:"b"`
	}
	streamDescription struct {
		Token       *string      `json:"c,omitempty"`
		Version     int64        `json:"s"`
		Description string       `json:"d,omitempty"`
		Files       []streamFile `json:"r"`
	}
	streamFile struct {
		ID   int64 `json:"f"`
		Size int64 `json:"z"`
	}
	streamBlock struct {
		Token   *string `json:"c,omitempty"`
		File    int64   `json:"f"`
		Length  int64   `json:"l"`
		ID      int64   `json:"i"`
		Payload []byte  `json:"p"` // base64 in JSON, bytes in CBOR
	}
	streamRejected struct {
		Token   *string  `json:"c,omitempty"`
		Code    iot.Code `json:"o"`
		Message string   `json:"m"`
	}
)

// maxStreamToken is how many bytes a client token can have.
const maxStreamToken = 64

// streamRequest is a request whose payload has been read.
type streamRequest struct {
	to     streamTopic
	token  *string // nil: none, or none that can be
	blocks iot.BlockRequest
}

// decodeStream reads the payload of a request. What it returns beside an error has the token, wherever
// that could be read. InvalidJson and InvalidCbor for what is not in its format; InvalidRequest for
// members of the wrong type, and for missing ones; otherwise as iot.BlockRequest.Check.
func decodeStream(t streamTopic, payload []byte) (*streamRequest, error) {
	r := &streamRequest{to: t}
	var in streamFields
	if len(payload) > 0 {
		if err := t.decode(payload, &in); err != nil {
			return r, err
		}
	}
	switch token := in.Token.(type) {
	case nil:
	case string:
		if len(token) > maxStreamToken {
			return r, iot.Errorf(iot.InvalidRequest, "The client token has %d bytes; the limit is %d", len(token), maxStreamToken)
		}
		r.token = &token
	default:
		return r, iot.Errorf(iot.InvalidRequest, "The client token (c) must be a string")
	}
	if t.verb != getting {
		return r, nil
	}
	b := &r.blocks
	for _, m := range []struct {
		name     string
		value    any
		required bool
		into     *int64
	}{
		{"f", in.File, true, &b.File},
		{"l", in.Size, true, &b.Size},
		{"o", in.Offset, false, &b.Offset},
		{"n", in.Count, false, &b.Count},
	} {
		n, given, err := streamNumber(m.name, m.value)
		if err != nil {
			return r, err
		}
		if m.required && !given {
			return r, iot.Invalid(m.name, nil, "Member must not be null")
		}
		*m.into = n
	}
	version, given, err := streamNumber("s", in.Version)
	if err != nil {
		return r, err
	}
	if given {
		b.Version = &version
	}
	if b.Bitmap, b.Mapped, err = t.bitmap(in.Bitmap); err != nil {
		return r, err
	}
	if err := b.Check(); err != nil {
		return r, err
	}
	if in.Count != nil && b.Count == 0 && !b.Mapped {
		return r, iot.Errorf(iot.InvalidRequest, "No blocks are asked for: n is 0, and there is no bitmap")
	}
	return r, nil
}

// decode reads the members of a payload in the format of the topic.
func (t streamTopic) decode(payload []byte, into *streamFields) error {
	var err error
	var notObject bool
	if t.format == "json" {
		if !utf8.Valid(payload) || !json.Valid(payload) {
			return iot.Errorf(invalidJSON, "The payload is not valid JSON in UTF-8")
		}
		d := json.NewDecoder(bytes.NewReader(payload))
		d.UseNumber() // or large ones lose digits
		err = d.Decode(into)
		_, notObject = errors.AsType[*json.UnmarshalTypeError](err)
	} else {
		err = cbor.Unmarshal(payload, into)
		_, notObject = errors.AsType[*cbor.UnmarshalTypeError](err)
	}
	switch {
	case notObject:
		return iot.Errorf(iot.InvalidRequest, "The payload must be an object")
	case err != nil && t.format == "json":
		return iot.Errorf(invalidJSON, "The payload is not valid JSON: %v", err)
	case err != nil:
		return iot.Errorf(invalidCBOR, "The payload is not valid CBOR: %v", err)
	}
	return nil
}

// streamNumber reads a number of either format.
func streamNumber(name string, v any) (n int64, given bool, err error) {
	ok := true
	switch v := v.(type) {
	case nil:
		return 0, false, nil
	case json.Number:
		n, ok = integer([]byte(v))
	case uint64: // CBOR
		n, ok = int64(v), v < 1<<63
	case int64: // CBOR, negative
		n = v
	default:
		ok = false
	}
	if !ok {
		return 0, true, iot.Errorf(iot.InvalidRequest, "The member '%s' must be an integer", name)
	}
	return n, true, nil
}

// bitmap reads a bitmap: hexadecimal digits in JSON, perhaps with 0x in front, and bytes in CBOR.
func (t streamTopic) bitmap(v any) (bitmap []byte, given bool, err error) {
	switch v := v.(type) {
	case nil:
		return nil, false, nil
	case []byte: // CBOR
		return v, true, nil
	case string:
		if t.format != "json" {
			break
		}
		digits := strings.TrimPrefix(strings.TrimPrefix(v, "0x"), "0X")
		if bitmap, err = hex.DecodeString(digits); err != nil {
			return nil, true, iot.Errorf(iot.InvalidRequest, "The bitmap (b) is not hexadecimal")
		}
		return bitmap, true, nil
	}
	if t.format == "json" {
		return nil, true, iot.Errorf(iot.InvalidRequest, "The bitmap (b) must be a string of hexadecimal digits")
	}
	return nil, true, iot.Errorf(iot.InvalidRequest, "The bitmap (b) must be a byte string")
}
