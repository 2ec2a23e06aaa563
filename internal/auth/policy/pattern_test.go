package policy

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// slowly matches as the rules say, by trying everything.
func slowly(pattern, s string) bool {
	if pattern == "" {
		return s == ""
	}
	_, n := utf8.DecodeRuneInString(s)
	switch pattern[0] {
	case '*':
		return slowly(pattern[1:], s) || s != "" && slowly(pattern, s[n:])
	case '?':
		return s != "" && slowly(pattern[1:], s[n:])
	}
	_, n = utf8.DecodeRuneInString(pattern)
	return strings.HasPrefix(s, pattern[:n]) && slowly(pattern[n:], s[n:])
}

func TestMatchAgreesWithTheRules(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOfN(rapid.RuneFrom([]rune("abö*?")), 0, 12, -1).Draw(t, "pattern")
		s := rapid.StringOfN(rapid.RuneFrom([]rune("abö")), 0, 12, -1).Draw(t, "text")
		p, err := newPattern(text, true)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := match(p, s, nil, false), slowly(text, s); got != want {
			t.Errorf("match(%q, %q) = %v", text, s, got)
		}
		if got, want := match(p, []byte(s), nil, false), slowly(text, s); got != want {
			t.Errorf("match(%q, bytes of %q) = %v", text, s, got)
		}
	})
}

// TestVariablesAreLiteral: a pattern with a variable matches what the same pattern does with the
// value in its place, each character of which stands for itself.
func TestVariablesAreLiteral(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		runes := rapid.StringOfN(rapid.RuneFrom([]rune("ab*?")), 0, 4, -1)
		before, after, id := runes.Draw(t, "before"), runes.Draw(t, "after"), runes.Draw(t, "id")
		s := rapid.StringOfN(rapid.RuneFrom([]rune("ab*?")), 0, 10, -1).Draw(t, "text")
		p, err := newPattern(before+"${iot:ClientId}"+after, true)
		if err != nil {
			t.Fatal(err)
		}
		quoted, err := newPattern(before+strings.NewReplacer("*", "${*}", "?", "${?}").Replace(id)+after, true)
		if err != nil {
			t.Fatal(err)
		}
		c := &Context{MQTT: true, ClientID: id}
		if got, want := match(p, s, c, false), match(quoted, s, nil, false); got != want {
			t.Errorf("%v with the value, %v with it quoted", got, want)
		}
	})
}

func TestFold(t *testing.T) {
	t.Parallel()
	p, err := newPattern("iot:p*?h", true)
	if err != nil {
		t.Fatal(err)
	}
	for s, want := range map[string]bool{"iot:Publish": true, "IOT:PUBLISH": true, "iot:ph": false, "iot:Pubs": false} {
		if match(p, s, nil, true) != want {
			t.Errorf("%s: %v", s, !want)
		}
	}
}
