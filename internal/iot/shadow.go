package iot

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"slices"
	"unicode/utf8"
)

// PackageShadow is the name of the one shadow that things have: which versions of which packages are installed
// (registry spec §10.4).
const PackageShadow = "$package"

// Limits of shadows, as AWS IoT has them.
const (
	MaxShadow      = 8 << 10 // bytes of desired and of reported, and of a request
	maxShadowDepth = 8
	maxShadowToken = 64 // bytes
)

// Shadow is the shadow of a thing. The zero value of what is not the thing's is a shadow that has never been.
type Shadow struct {
	ThingID int64     `json:"-"`
	Thing   ThingName `json:"-"`
	// Version grows by one with every change, a deletion included, and never begins again.
	Version int64 `json:"-"`
	// Exists is false after a deletion, of which nothing is left but the version.
	Exists bool `json:"-"`

	Desired  map[string]any `json:"desired,omitempty"`
	Reported map[string]any `json:"reported,omitempty"`
	// When what was changed last, in the form of desired and reported: {"timestamp": seconds} in place of each value.
	DesiredAt  map[string]any `json:"desiredAt,omitempty"`
	ReportedAt map[string]any `json:"reportedAt,omitempty"`
}

// ShadowUpdate is what a request asks of a shadow.
type ShadowUpdate struct {
	Desired, Reported           map[string]any // what changes; null removes
	ClearDesired, ClearReported bool           // the section was null
	Version                     *int64         // that the shadow must have
	Token                       json.RawMessage
	State                       json.RawMessage // as it came
}

// Codes of refusals that only shadows have. The status is that of HTTP, which MQTT tells as well.
const (
	ShadowTooLarge    Code = "ShadowTooLarge"    // 413
	ShadowUnsupported Code = "ShadowUnsupported" // 415: not UTF-8
)

// ParseShadowUpdate reads the payload of an update. Errors have AWS's words: InvalidRequest, ShadowTooLarge,
// ShadowUnsupported.
func ParseShadowUpdate(payload []byte) (u ShadowUpdate, err error) {
	if len(payload) > MaxShadow {
		return u, Errorf(ShadowTooLarge, "The payload exceeds the maximum size allowed")
	}
	var root map[string]json.RawMessage
	if u.Token, err = shadowRequest(payload, &root); err != nil {
		return u, err
	}
	if text, ok := root["version"]; ok && string(text) != "null" {
		if err := json.Unmarshal(text, &u.Version); err != nil || *u.Version < 0 {
			return u, Errorf(InvalidRequest, "Invalid version")
		}
	}
	var state map[string]json.RawMessage
	u.State = root["state"]
	switch {
	case len(u.State) == 0 || string(u.State) == "null":
		return u, Errorf(InvalidRequest, "Missing required node: state")
	case json.Unmarshal(u.State, &state) != nil:
		return u, Errorf(InvalidRequest, "State node must be an object")
	}
	for _, name := range slices.Sorted(maps.Keys(state)) {
		var section map[string]any
		dec := json.NewDecoder(bytes.NewReader(state[name]))
		dec.UseNumber()
		err := dec.Decode(&section)
		switch name {
		case "desired":
			if u.Desired = section; err != nil {
				return u, Errorf(InvalidRequest, "Desired node must be an object")
			}
			u.ClearDesired = section == nil
		case "reported":
			if u.Reported = section; err != nil {
				return u, Errorf(InvalidRequest, "Reported node must be an object")
			}
			u.ClearReported = section == nil
		default:
			return u, Errorf(InvalidRequest, "State contains an invalid node: '%s'", shorten(name))
		}
		if err := checkShadowNode(section, 1); err != nil {
			return u, err
		}
	}
	return u, nil
}

// ParseShadowToken reads the payload of a request that asks for nothing in particular: it may have a clientToken.
func ParseShadowToken(payload []byte) (token json.RawMessage, err error) {
	if len(bytes.TrimSpace(payload)) == 0 {
		return nil, nil
	}
	var root map[string]json.RawMessage
	return shadowRequest(payload, &root)
}

func shadowRequest(payload []byte, root *map[string]json.RawMessage) (token json.RawMessage, err error) {
	switch {
	case !utf8.Valid(payload):
		return nil, Errorf(ShadowUnsupported, "Unsupported documented encoding; supported encoding is UTF-8")
	case !json.Valid(payload) || json.Unmarshal(payload, root) != nil || *root == nil:
		return nil, Errorf(InvalidRequest, "Invalid JSON")
	}
	text, ok := (*root)["clientToken"]
	if !ok || string(text) == "null" {
		return nil, nil
	}
	var s string
	if json.Unmarshal(text, &s) != nil || len(s) > maxShadowToken {
		return nil, Errorf(InvalidRequest, "Invalid clientToken")
	}
	return text, nil
}

// checkShadowNode checks what is in a section: how deep it is, and that arrays have no null, which would mean nothing.
func checkShadowNode(node any, depth int) error {
	switch v := node.(type) {
	case map[string]any:
		if depth > maxShadowDepth {
			return Errorf(InvalidRequest, "JSON contains too many levels of nesting; maximum is %d", maxShadowDepth)
		}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			// What a database cannot keep, and what names nothing.
			if key == "" || bytes.IndexByte([]byte(key), 0) >= 0 {
				return Errorf(InvalidRequest, "State contains an invalid node: '%s'", shorten(key))
			}
			if err := checkShadowNode(v[key], depth+1); err != nil {
				return err
			}
		}
	case []any:
		for _, item := range v {
			if item == nil {
				return Errorf(InvalidRequest, "State contains an invalid node: an array cannot hold null")
			}
			if err := checkShadowNode(item, depth+1); err != nil {
				return err
			}
		}
	case string:
		if bytes.IndexByte([]byte(v), 0) >= 0 {
			return Errorf(InvalidRequest, "State contains an invalid node: the character U+0000")
		}
	}
	return nil
}

// Apply changes s as the request says. updated is when what of the request was changed, in the form of the state.
// VersionMismatch; ShadowTooLarge.
func (s *Shadow) Apply(u ShadowUpdate, now Time) (updated map[string]any, err error) {
	if u.Version != nil && *u.Version != s.Version {
		return nil, Errorf(VersionMismatch, "Version conflict")
	}
	at := map[string]any{"timestamp": int64(now) / 1000}
	updated = make(map[string]any)
	if u.ClearDesired {
		s.Desired, s.DesiredAt = nil, nil
	}
	if u.ClearReported {
		s.Reported, s.ReportedAt = nil, nil
	}
	if u.Desired != nil {
		updated["desired"] = stamps(u.Desired, at)
		s.Desired, s.DesiredAt = merged(s.Desired, s.DesiredAt, u.Desired, at)
	}
	if u.Reported != nil {
		updated["reported"] = stamps(u.Reported, at)
		s.Reported, s.ReportedAt = merged(s.Reported, s.ReportedAt, u.Reported, at)
	}
	for _, section := range []map[string]any{s.Desired, s.Reported} {
		text, err := json.Marshal(section)
		if err != nil {
			return nil, err
		}
		if len(text) > MaxShadow {
			return nil, Errorf(ShadowTooLarge, "The payload exceeds the maximum size allowed")
		}
	}
	s.Version++
	s.Exists = true
	return updated, nil
}

// merged returns a section, and when its values were changed, after a change. The maps that it is given stay as they are.
func merged(have, haveAt, change map[string]any, at any) (now, nowAt map[string]any) {
	now, nowAt = maps.Clone(have), maps.Clone(haveAt)
	if now == nil {
		now, nowAt = make(map[string]any), make(map[string]any)
	}
	if nowAt == nil {
		nowAt = make(map[string]any)
	}
	for key, v := range change {
		inner, isObject := v.(map[string]any)
		switch {
		case v == nil:
			delete(now, key)
			delete(nowAt, key)
		case isObject:
			former, _ := now[key].(map[string]any)
			var formerAt map[string]any
			if former != nil {
				formerAt, _ = nowAt[key].(map[string]any)
			}
			if m, mAt := merged(former, formerAt, inner, at); len(m) > 0 {
				now[key], nowAt[key] = m, mAt
			} else { // an object without members is none
				delete(now, key)
				delete(nowAt, key)
			}
		default:
			now[key], nowAt[key] = v, stamp(v, at)
		}
	}
	if len(now) == 0 {
		return nil, nil
	}
	return now, nowAt
}

// stamp returns when a value was changed, in its form.
func stamp(v, at any) any {
	switch v := v.(type) {
	case map[string]any:
		return stamps(v, at)
	case []any:
		list := make([]any, len(v))
		for i, item := range v {
			list[i] = stamp(item, at)
		}
		return list
	}
	return at
}

func stamps(section map[string]any, at any) map[string]any {
	out := make(map[string]any, len(section))
	for key, v := range section {
		if v != nil {
			out[key] = stamp(v, at)
		}
	}
	return out
}

// Delete forgets the state; the version goes on.
func (s *Shadow) Delete() {
	*s = Shadow{ThingID: s.ThingID, Thing: s.Thing, Version: s.Version + 1}
}

// Delta returns what of desired is not so in reported, and when it was desired; nil if all of it is.
func (s *Shadow) Delta() (state, at map[string]any) {
	return delta(s.Desired, s.DesiredAt, s.Reported)
}

func delta(desired, desiredAt, reported map[string]any) (state, at map[string]any) {
	for key, want := range desired {
		have, there := reported[key]
		if there && reflect.DeepEqual(want, have) {
			continue
		}
		part, partAt := want, desiredAt[key]
		wantObject, ok1 := want.(map[string]any)
		haveObject, ok2 := have.(map[string]any)
		if ok1 && ok2 {
			wantAt, _ := desiredAt[key].(map[string]any)
			inner, innerAt := delta(wantObject, wantAt, haveObject)
			if inner == nil {
				continue
			}
			part, partAt = inner, innerAt
		}
		if state == nil {
			state, at = make(map[string]any), make(map[string]any)
		}
		state[key], at[key] = part, partAt
	}
	return state, at
}

// shadowState is the state of a shadow, or of its metadata, on the wire.
type shadowState struct {
	Desired  map[string]any `json:"desired,omitempty"`
	Reported map[string]any `json:"reported,omitempty"`
	Delta    map[string]any `json:"delta,omitempty"`
}

// shadowDocument is a shadow on the wire.
type shadowDocument struct {
	State    any             `json:"state,omitempty"`
	Metadata any             `json:"metadata,omitempty"`
	Version  int64           `json:"version"`
	At       int64           `json:"timestamp,omitempty"` // seconds
	Token    json.RawMessage `json:"clientToken,omitempty"`
}

func (s *Shadow) document(withDelta bool) shadowDocument {
	d := shadowDocument{Version: s.Version}
	state := shadowState{Desired: s.Desired, Reported: s.Reported}
	if withDelta {
		state.Delta, _ = s.Delta()
	}
	d.State, d.Metadata = state, shadowState{Desired: s.DesiredAt, Reported: s.ReportedAt}
	return d
}

// Answer returns the shadow as a get is answered.
func (s *Shadow) Answer(token json.RawMessage, now Time) ([]byte, error) {
	d := s.document(true)
	d.At, d.Token = int64(now)/1000, token
	return json.Marshal(d)
}

// Indexed returns the shadow as a search shows it.
func (s *Shadow) Indexed() (json.RawMessage, error) {
	delta, _ := s.Delta()
	return json.Marshal(struct {
		shadowState
		Metadata any   `json:"metadata"`
		Version  int64 `json:"version"`
		HasDelta bool  `json:"hasDelta"`
	}{shadowState{Desired: s.Desired, Reported: s.Reported, Delta: delta}, shadowState{Desired: s.DesiredAt, Reported: s.ReportedAt}, s.Version, delta != nil})
}

// ShadowEvent is the Data of the records about a shadow: what is told on its topics.
type ShadowEvent struct {
	Thing    ThingName       `json:"thing"`
	Accepted json.RawMessage `json:"accepted"`            // the answer to who asked
	Delta    json.RawMessage `json:"delta,omitempty"`     // nil if there is none
	Change   json.RawMessage `json:"documents,omitempty"` // nil for a deletion
}

// Event returns what is told of an update: s is the shadow now, former what it was.
func (s *Shadow) Event(former *Shadow, u ShadowUpdate, updated map[string]any, now Time) (ev ShadowEvent, err error) {
	ev.Thing = s.Thing
	at := int64(now) / 1000
	encode := func(into *json.RawMessage, v any) {
		text, failed := json.Marshal(v)
		*into, err = text, errors.Join(err, failed)
	}
	encode(&ev.Accepted, shadowDocument{State: u.State, Metadata: updated, Version: s.Version, At: at, Token: u.Token})
	if state, stamps := s.Delta(); state != nil {
		encode(&ev.Delta, shadowDocument{State: state, Metadata: stamps, Version: s.Version, At: at, Token: u.Token})
	}
	encode(&ev.Change, struct {
		Previous shadowDocument  `json:"previous"`
		Current  shadowDocument  `json:"current"`
		At       int64           `json:"timestamp"`
		Token    json.RawMessage `json:"clientToken,omitempty"`
	}{former.document(false), s.document(false), at, u.Token})
	return ev, err
}

// Deletion returns what is told of a deletion of s.
func (s *Shadow) Deletion(token json.RawMessage, now Time) (ev ShadowEvent, err error) {
	ev.Thing = s.Thing
	ev.Accepted, err = json.Marshal(shadowDocument{Version: s.Version, At: int64(now) / 1000, Token: token})
	return ev, err
}

// Installed is the update that notes in s which versions a job has brought to its thing: nil stands for a package that
// is gone.
func (s *Shadow) Installed(versions map[string]*PackageVersion) (u ShadowUpdate, err error) {
	u.Reported = make(map[string]any, len(versions))
	for name, v := range versions {
		if v == nil {
			u.Reported[name] = nil
			continue
		}
		attributes := make(map[string]any, len(v.Attributes))
		if former, ok := s.Reported[name].(map[string]any); ok { // of the version before, which go
			had, _ := former["attributes"].(map[string]any)
			for key := range had {
				attributes[key] = nil
			}
		}
		for key, value := range v.Attributes {
			attributes[key] = value
		}
		u.Reported[name] = map[string]any{"version": v.Name, "attributes": attributes}
	}
	u.State, err = json.Marshal(shadowState{Reported: u.Reported})
	return u, err
}

// DecodeShadow reads what EncodeShadow has written.
func DecodeShadow(text []byte, s *Shadow) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	return dec.Decode(s)
}

// Flatten gives every value of the shadow that can be found to visit: its path below the shadow, and the text of it.
// Items of an array share its path; arrays that hold objects or arrays, and null, are left out (registry spec §5.4).
func (s *Shadow) Flatten(visit func(path, text string)) {
	deltaState, _ := s.Delta()
	flatten("desired", s.Desired, visit)
	flatten("reported", s.Reported, visit)
	flatten("delta", deltaState, visit)
}

func flatten(path string, node any, visit func(path, text string)) {
	switch v := node.(type) {
	case map[string]any:
		for key, inner := range v {
			flatten(path+"."+key, inner, visit)
		}
	case []any:
		for _, item := range v {
			switch item.(type) {
			case map[string]any, []any:
				return
			}
		}
		for _, item := range v {
			flatten(path, item, visit)
		}
	case string:
		visit(path, v)
	case bool:
		if v {
			visit(path, "true")
		} else {
			visit(path, "false")
		}
	case json.Number:
		visit(path, v.String())
	}
}

// CheckShadowName returns an InvalidRequest error unless things have a shadow of that name: "" is the classic one.
func CheckShadowName(name string) error {
	switch name {
	case PackageShadow:
		return nil
	case "":
		return Errorf(InvalidRequest, "drover does not have classic shadows: the one shadow of a thing is %s", PackageShadow)
	}
	return Errorf(InvalidRequest, "drover does not have the shadow '%s': the one shadow of a thing is %s", shorten(name), PackageShadow)
}
