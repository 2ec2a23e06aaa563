// Package query is the query language of the fleet index (registry spec §5.4 to §5.7): it parses a
// query, says whether a document matches it, and takes documents apart into what an index keeps.
//
// A document is what is known of one thing or one group: fields with values. A value is split at
// white space into words, which are compared without regard to case; the names of fields are
// compared with it. The package does no I/O.
package query

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Document is what is known of one thing or group. A field can have several values.
type Document map[string][]string

// Set gives a field its values; those without a word are none.
func (d Document) Set(field string, values ...string) {
	values = slices.DeleteFunc(slices.Clone(values), func(v string) bool { return strings.TrimSpace(v) == "" })
	if len(values) > 0 {
		d[field] = values
	}
}

// Term is an entry of an index: what a search finds a document by.
type Term struct {
	Field string
	// Word is a word of a value in lower case. In a Phrase it is a word of a value of several words
	// with all that come after it, with single spaces between them.
	Word   string
	Phrase bool
	// Value is the value that begins with Word, as it was given; "" if it is Word itself. Inner says
	// that no value begins here.
	Value string
	Inner bool
	// Number is the value as a number, if Numeric.
	Number  float64
	Numeric bool
}

// Terms takes a document apart, in a fixed order and without duplicates.
func Terms(d Document) []Term {
	var terms []Term
	seen := make(map[Term]bool)
	add := func(t Term) {
		if !seen[t] {
			seen[t] = true
			terms = append(terms, t)
		}
	}
	for _, field := range slices.Sorted(maps.Keys(d)) {
		for _, value := range d[field] {
			words := split(value)
			for i, w := range words {
				t := Term{Field: field, Word: w, Inner: i > 0}
				if i == 0 && value != w {
					t.Value = value
				}
				if n, ok := number(value); ok && len(words) == 1 && numeric(field) {
					t.Number, t.Numeric = n, true
				}
				add(t)
				if len(words) > 1 {
					add(Term{Field: field, Word: strings.Join(words[i:], " "), Phrase: true, Inner: true})
				}
			}
		}
	}
	return terms
}

// split returns the words of a value, in lower case.
func split(value string) []string { return strings.FieldsFunc(fold(value), unicode.IsSpace) }

// fold makes texts that differ in case only the same.
func fold(s string) string { return strings.ToLower(s) }

// number reads a number as JSON spells it.
func number(s string) (float64, bool) {
	rest := strings.TrimPrefix(s, "-")
	digits := func() bool {
		n := 0
		for n < len(rest) && '0' <= rest[n] && rest[n] <= '9' {
			n++
		}
		rest = rest[n:]
		return n > 0
	}
	if !digits() {
		return 0, false
	}
	if after, ok := strings.CutPrefix(rest, "."); ok {
		if rest = after; !digits() {
			return 0, false
		}
	}
	if len(rest) > 0 && (rest[0] == 'e' || rest[0] == 'E') {
		rest = rest[1:]
		if len(rest) > 0 && (rest[0] == '+' || rest[0] == '-') {
			rest = rest[1:]
		}
		if !digits() {
			return 0, false
		}
	}
	if rest != "" {
		return 0, false
	}
	n, err := strconv.ParseFloat(s, 64)
	return n, err == nil // not what is beyond a float64
}
