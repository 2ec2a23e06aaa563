package iot

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func updateOf(t testing.TB, text string) ShadowUpdate {
	t.Helper()
	u, err := ParseShadowUpdate([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return u
}

// stateOf is a shadow's state as JSON.
func stateOf(t interface{ Fatal(...any) }, s *Shadow) string {
	state := shadowState{Desired: s.Desired, Reported: s.Reported}
	state.Delta, _ = s.Delta()
	text, err := json.Marshal(state)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestShadowUpdates(t *testing.T) {
	s := &Shadow{Thing: "t"}
	for i, step := range []struct{ update, state, delta string }{
		{`{"state":{"reported":{"a":{"version":"1","attributes":{"k":"v"}}}}}`, `{"reported":{"a":{"attributes":{"k":"v"},"version":"1"}}}`, ""},
		{`{"state":{"reported":{"b":1,"a":{"version":"2"}}}}`, `{"reported":{"a":{"attributes":{"k":"v"},"version":"2"},"b":1}}`, ""},
		{`{"state":{"desired":{"b":2,"l":[1,"x",{"y":true}]}}}`, `{"desired":{"b":2,"l":[1,"x",{"y":true}]},"reported":{"a":{"attributes":{"k":"v"},"version":"2"},"b":1},"delta":{"b":2,"l":[1,"x",{"y":true}]}}`, ""},
		{`{"state":{"reported":{"a":{"attributes":null},"l":[1,"x",{"y":true}]}}}`, `{"desired":{"b":2,"l":[1,"x",{"y":true}]},"reported":{"a":{"version":"2"},"b":1,"l":[1,"x",{"y":true}]},"delta":{"b":2}}`, ""},
		{`{"state":{"desired":null,"reported":{"a":{"version":null},"l":"scalar","b":{"now":{"an":"object"}}}},"version":4}`, `{"reported":{"b":{"now":{"an":"object"}},"l":"scalar"}}`, ""},
		{`{"state":{"reported":{"b":{"now":{}},"l":{"empty":{}}}}}`, `{"reported":{"b":{"now":{"an":"object"}}}}`, ""},
		{`{"state":{"reported":null}}`, `{}`, ""},
	} {
		if _, err := s.Apply(updateOf(t, step.update), Time(1000*(i+1))); err != nil {
			t.Fatalf("%s: %v", step.update, err)
		}
		if got := stateOf(t, s); got != step.state || s.Version != int64(i+1) || !s.Exists {
			t.Errorf("%s: version %d, %s\nwant %s", step.update, s.Version, got, step.state)
		}
	}
	version := s.Version
	if _, err := s.Apply(updateOf(t, `{"state":{},"version":1}`), 0); ErrorCode(err) != VersionMismatch || s.Version != version {
		t.Errorf("%v", err)
	}
	s.Delete()
	if s.Version != version+1 || s.Exists || s.Thing != "t" {
		t.Errorf("%+v", s)
	}
}

// TestShadowTold: what is told of an update, with times in seconds.
func TestShadowTold(t *testing.T) {
	s := &Shadow{Thing: "t"}
	if _, err := s.Apply(updateOf(t, `{"state":{"reported":{"a":"1","b":{"c":true}}}}`), 5_000); err != nil {
		t.Fatal(err)
	}
	former := *s
	u := updateOf(t, `{"state":{"desired":{"a":"2"},"reported":{"b":{"c":null,"d":[1,2]}}},"clientToken":"me"}`)
	updated, err := s.Apply(u, 7_999)
	if err != nil {
		t.Fatal(err)
	}
	ev, err := s.Event(&former, u, updated, 7_999)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := s.Answer(json.RawMessage(`"you"`), 9_000)
	if err != nil {
		t.Fatal(err)
	}
	s.Delete()
	gone, err := s.Deletion(nil, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	const stamp = `{"timestamp":7}`
	for what, texts := range map[string][2]string{
		"accepted":  {string(ev.Accepted), `{"state":{"desired":{"a":"2"},"reported":{"b":{"c":null,"d":[1,2]}}},"metadata":{"desired":{"a":` + stamp + `},"reported":{"b":{"d":[` + stamp + `,` + stamp + `]}}},"version":2,"timestamp":7,"clientToken":"me"}`},
		"delta":     {string(ev.Delta), `{"state":{"a":"2"},"metadata":{"a":` + stamp + `},"version":2,"timestamp":7,"clientToken":"me"}`},
		"documents": {string(ev.Change), `{"previous":{"state":{"reported":{"a":"1","b":{"c":true}}},"metadata":{"reported":{"a":{"timestamp":5},"b":{"c":{"timestamp":5}}}},"version":1},"current":{"state":{"desired":{"a":"2"},"reported":{"a":"1","b":{"d":[1,2]}}},"metadata":{"desired":{"a":` + stamp + `},"reported":{"a":{"timestamp":5},"b":{"d":[` + stamp + `,` + stamp + `]}}},"version":2},"timestamp":7,"clientToken":"me"}`},
		"get":       {string(answer), `{"state":{"desired":{"a":"2"},"reported":{"a":"1","b":{"d":[1,2]}},"delta":{"a":"2"}},"metadata":{"desired":{"a":` + stamp + `},"reported":{"a":{"timestamp":5},"b":{"d":[` + stamp + `,` + stamp + `]}}},"version":2,"timestamp":9,"clientToken":"you"}`},
		"delete":    {string(gone.Accepted), `{"version":3,"timestamp":10}`},
	} {
		if texts[0] != texts[1] {
			t.Errorf("%s: %s\nwant %s", what, texts[0], texts[1])
		}
	}
}

func TestBadShadowUpdates(t *testing.T) {
	deep := func(n int) string {
		return `{"state":{"reported":` + strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) + "}}"
	}
	updateOf(t, deep(8))
	for text, want := range map[string]string{
		"":                             "InvalidRequest: Invalid JSON",
		"x":                            "InvalidRequest: Invalid JSON",
		"[]":                           "InvalidRequest: Invalid JSON",
		"null":                         "InvalidRequest: Invalid JSON",
		"{}":                           "InvalidRequest: Missing required node: state",
		`{"state":null}`:               "InvalidRequest: Missing required node: state",
		`{"state":1}`:                  "InvalidRequest: State node must be an object",
		`{"state":{"desired":1}}`:      "InvalidRequest: Desired node must be an object",
		`{"state":{"reported":[]}}`:    "InvalidRequest: Reported node must be an object",
		`{"state":{"other":{}}}`:       "InvalidRequest: State contains an invalid node: 'other'",
		`{"state":{},"version":"1"}`:   "InvalidRequest: Invalid version",
		`{"state":{},"version":-1}`:    "InvalidRequest: Invalid version",
		`{"state":{},"clientToken":1}`: "InvalidRequest: Invalid clientToken",
		`{"state":{},"clientToken":"` + strings.Repeat("x", 65) + `"}`: "InvalidRequest: Invalid clientToken",
		`{"state":{"reported":{"a":[null]}}}`:                          "InvalidRequest: State contains an invalid node: an array cannot hold null",
		`{"state":{"reported":{"":1}}}`:                                "InvalidRequest: State contains an invalid node: ''",
		`{"state":{"reported":{"a":"\u0000"}}}`:                        "InvalidRequest: State contains an invalid node: the character U+0000",
		deep(9):                                                        "InvalidRequest: JSON contains too many levels of nesting; maximum is 8",
		"{\"state\":\"\xff\"}":                                         "ShadowUnsupported: Unsupported documented encoding; supported encoding is UTF-8",
		`{"state":{"reported":{"a":"` + strings.Repeat("x", MaxShadow) + `"}}}`: "ShadowTooLarge: The payload exceeds the maximum size allowed",
	} {
		if _, err := ParseShadowUpdate([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("%.60s: %v\nwant %s", text, err, want)
		}
	}
	s := &Shadow{}
	for i := 0; ; i++ {
		before := s.Version
		_, err := s.Apply(updateOf(t, fmt.Sprintf(`{"state":{"reported":{"k%d":"%s"}}}`, i, strings.Repeat("x", 4000))), 0)
		if err == nil && i < 2 {
			continue
		}
		if ErrorCode(err) != ShadowTooLarge || i != 2 || s.Version != before {
			t.Errorf("update %d: %v, version %d", i, err, s.Version)
		}
		break
	}
}

func TestInstalledVersionsReplaceWhatWas(t *testing.T) {
	s := &Shadow{}
	install := func(versions map[string]*PackageVersion) {
		t.Helper()
		u, err := s.Installed(versions)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Apply(u, 0); err != nil {
			t.Fatal(err)
		}
	}
	install(map[string]*PackageVersion{"a": {Name: "1", Attributes: map[string]string{"x": "1", "y": "2"}}, "b": {Name: "7"}})
	install(map[string]*PackageVersion{"a": {Name: "2", Attributes: map[string]string{"y": "3", "z": "4"}}, "b": nil, "c": nil})
	if got := stateOf(t, s); got != `{"reported":{"a":{"attributes":{"y":"3","z":"4"},"version":"2"}}}` {
		t.Error(got)
	}
	var paths []string
	s.Flatten(func(path, text string) { paths = append(paths, path+"="+text) })
	slices.Sort(paths)
	if want := []string{"reported.a.attributes.y=3", "reported.a.attributes.z=4", "reported.a.version=2"}; !slices.Equal(paths, want) {
		t.Errorf("%q", paths)
	}
}

// TestShadowMergeProperties: an update leaves what it does not name as it was, and applied twice changes nothing more.
func TestShadowMergeProperties(t *testing.T) {
	leaf := rapid.OneOf(rapid.Just[any](nil), rapid.Just[any]("x"), rapid.Just[any](true), rapid.Just[any](json.Number("1")), rapid.Just[any]([]any{"x"}))
	inner := rapid.MapOfN(rapid.SampledFrom([]string{"a", "b", "c"}), leaf, 0, 3)
	section := rapid.MapOfN(rapid.SampledFrom([]string{"p", "q", "r"}), rapid.OneOf(leaf, rapid.Map(inner, func(m map[string]any) any { return m })), 0, 3)
	rapid.Check(t, func(t *rapid.T) {
		s := &Shadow{}
		for range rapid.IntRange(1, 5).Draw(t, "updates") {
			u := ShadowUpdate{Reported: section.Draw(t, "reported"), Desired: section.Draw(t, "desired")}
			former := *s
			text := stateOf(t, &former)
			if _, err := s.Apply(u, 1); err != nil {
				t.Fatal(err)
			}
			if stateOf(t, &former) != text {
				t.Fatal("the former state has changed")
			}
			for key, v := range former.Reported {
				if _, named := u.Reported[key]; !named && !reflect.DeepEqual(s.Reported[key], v) {
					t.Fatalf("%s was %v and is %v", key, v, s.Reported[key])
				}
			}
			once := stateOf(t, s)
			if _, err := s.Apply(u, 1); err != nil || stateOf(t, s) != once {
				t.Fatalf("twice: %s, %v; once: %s", stateOf(t, s), err, once)
			}
			if !sameForm(s.Reported, s.ReportedAt) || !sameForm(s.Desired, s.DesiredAt) {
				t.Fatalf("metadata of another form: %v, %v", s.ReportedAt, s.DesiredAt)
			}
			body, err := json.Marshal(s)
			read := &Shadow{Version: s.Version, Exists: true}
			if err != nil || DecodeShadow(body, read) != nil || stateOf(t, read) != once {
				t.Fatalf("%s: %v", body, err)
			}
		}
	})
}

func sameForm(state, at map[string]any) bool {
	if len(state) != len(at) {
		return false
	}
	for key, v := range state {
		inner, ok := v.(map[string]any)
		innerAt, okAt := at[key].(map[string]any)
		if at[key] == nil || ok && (!okAt || !sameForm(inner, innerAt)) {
			return false
		}
	}
	return true
}

func FuzzShadowUpdate(f *testing.F) {
	f.Add(`{"state":{"reported":{"a":{"version":"1"}}},"clientToken":"x","version":0}`)
	f.Fuzz(func(t *testing.T, text string) {
		u, err := ParseShadowUpdate([]byte(text))
		if err != nil {
			if ErrorCode(err) == Internal {
				t.Error(err)
			}
			return
		}
		s := &Shadow{}
		updated, err := s.Apply(u, 1)
		if err != nil {
			return
		}
		if _, err := s.Event(&Shadow{}, u, updated, 1); err != nil {
			t.Error(err)
		}
		if _, err := s.Indexed(); err != nil {
			t.Error(err)
		}
	})
}
