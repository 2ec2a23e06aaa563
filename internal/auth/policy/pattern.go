package policy

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// pattern is a text with wildcards and variables, in pieces.
type pattern []token

type tokenKind uint8

const (
	literal  tokenKind = iota
	wild               // *: any text, also none; crosses /
	one                // ?: one character
	variable           // ${name}: the value, every character of which stands for itself
)

type token struct {
	kind tokenKind
	text string // of a literal
	key  key    // of a variable
}

// newPattern splits text. Without wildcards, * and ? stand for themselves. The error says that a
// variable does not end.
func newPattern(text string, wildcards bool) (pattern, error) {
	var p pattern
	var plain strings.Builder
	add := func(t token) {
		if plain.Len() > 0 {
			p = append(p, token{kind: literal, text: plain.String()})
			plain.Reset()
		}
		p = append(p, t)
	}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '*' && wildcards:
			if plain.Len() > 0 || len(p) == 0 || p[len(p)-1].kind != wild { // ** says no more than *
				add(token{kind: wild})
			}
		case c == '?' && wildcards:
			add(token{kind: one})
		case c == '$' && strings.HasPrefix(text[i:], "${"):
			name, _, ok := strings.Cut(text[i+2:], "}")
			if !ok {
				return nil, fmt.Errorf("the policy variable %q does not end with }", clip(text[i:]))
			}
			i += 2 + len(name)
			switch name {
			case "*", "?", "$":
				plain.WriteString(name)
			default:
				add(token{kind: variable, key: newKey(name)})
			}
		default:
			plain.WriteByte(c)
		}
	}
	if plain.Len() > 0 {
		p = append(p, token{kind: literal, text: plain.String()})
	}
	return p, nil
}

// variables reports whether p has any.
func (p pattern) variables() bool {
	for i := range p {
		if p[i].kind == variable {
			return true
		}
	}
	return false
}

// resolved reports whether every variable of p has a value.
func (p pattern) resolved(c *Context) bool {
	for i := range p {
		if p[i].kind != variable {
			continue
		}
		if _, ok := c.substitute(&p[i].key); !ok {
			return false
		}
	}
	return true
}

// match reports whether p, with its variables replaced, is the whole of s. A variable without a
// value matches nothing. With fold, p is in lower case and the case of ASCII letters in s is ignored.
//
// On a mismatch the text behind the last * is tried one character further on; that the stars
// before it could have taken more need not be tried. So s is passed over once for
// each piece between two stars at most, whatever the pattern.
func match[S string | []byte](p pattern, s S, c *Context, fold bool) bool {
	if len(p) == 1 && p[0].kind == literal { // most actions
		return len(s) == len(p[0].text) && equal(s, p[0].text, fold)
	}
	i, from := 0, 0         // in p and in s
	star, starFrom := -1, 0 // behind the last *, and where in s its piece is tried
	for {
		for i < len(p) {
			t := &p[i]
			if t.kind == wild {
				i++
				if i == len(p) {
					return true
				}
				if from = ahead(p, i, s, from, fold); from < 0 {
					return false
				}
				star, starFrom = i, from
				continue
			}
			n, ok := at(t, s, from, c, fold)
			if !ok {
				break
			}
			from += n
			i++
		}
		if i == len(p) && from == len(s) {
			return true
		}
		if star < 0 || starFrom >= len(s) {
			return false
		}
		if starFrom = ahead(p, star, s, starFrom+width(s, starFrom), fold); starFrom < 0 {
			return false
		}
		i, from = star, starFrom
	}
}

// ahead returns where the i-th piece of p can begin, from a place in s on; -1 if nowhere.
func ahead[S string | []byte](p pattern, i int, s S, from int, fold bool) int {
	if p[i].kind != literal || fold {
		return from
	}
	text := p[i].text
	for last := len(s) - len(text); from <= last; from++ {
		if s[from] == text[0] && string(s[from:from+len(text)]) == text {
			return from
		}
	}
	return -1
}

// at compares a token with s from a place on, and returns how many bytes it takes.
func at[S string | []byte](t *token, s S, from int, c *Context, fold bool) (int, bool) {
	text := t.text
	switch t.kind {
	case one:
		if from == len(s) {
			return 0, false
		}
		return width(s, from), true
	case variable:
		var ok bool
		if text, ok = c.substitute(&t.key); !ok {
			return 0, false
		}
	}
	n := len(text)
	return n, from+n <= len(s) && equal(s[from:from+n], text, fold)
}

// width returns how many bytes the character at a place has.
func width[S string | []byte](s S, at int) int {
	n := 1
	for at+n < len(s) && !utf8.RuneStart(s[at+n]) {
		n++
	}
	return n
}

func equal[S string | []byte](s S, text string, fold bool) bool {
	if !fold {
		return string(s) == text
	}
	for i := range len(text) {
		b := s[i]
		if 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		if b != text[i] {
			return false
		}
	}
	return true
}

// clip bounds what a message repeats of a document.
func clip(s string) string {
	const limit = 60
	if len(s) <= limit {
		return s
	}
	return s[:limit] + "..."
}
