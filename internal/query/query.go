package query

import (
	"slices"
	"strings"
)

// Query is a query that has been parsed.
type Query struct {
	Text string
	Root Node
}

// Mentions reports whether it makes a difference what a field has.
func Mentions(n Node, field string) bool {
	switch n := n.(type) {
	case And:
		return slices.ContainsFunc(n, func(n Node) bool { return Mentions(n, field) })
	case Or:
		return slices.ContainsFunc(n, func(n Node) bool { return Mentions(n, field) })
	case Not:
		return Mentions(n.Node, field)
	case Clause:
		return n.Field == "" && Anywhere(field) || Covers(n.Field, field)
	}
	return false
}

// Matches reports whether a document matches.
func (q *Query) Matches(d Document) bool { return q.Root.matches(d) }

// Node is a part of a query: All, And, Or, Not or Clause.
type Node interface{ matches(d Document) bool }

// All matches every document.
type All struct{}

// And matches what all of its parts match, of which there are two at least.
type And []Node

// Or matches what one of its parts matches, of which there are two at least.
type Or []Node

// Not matches what its part does not match.
type Not struct{ Node }

// Clause matches a document with a value that passes the test, in the field or, if it is "", in any
// that is Anywhere. Segments of the field may be "*".
type Clause struct {
	Field string
	Test  Test
}

// Test is what a value has to be: Exists, Word, Phrase, Pattern, Numbers or Texts.
type Test interface {
	passes(field, value string) bool
}

// Exists passes every value.
type Exists struct{}

// Word passes a value with this word, which is in lower case, or that is the number, if Numeric.
type Word struct {
	Text    string
	Number  float64
	Numeric bool
}

// Phrase passes a value with these words, two at least, in this order.
type Phrase []string

// Pattern passes a value with a word that matches its parts, one after the other.
type Pattern []Part

// Part is a text in lower case, or Any characters or none, or One character.
type Part struct {
	Text     string
	Any, One bool
}

// Numbers passes numbers in a range, of which either bound may be open.
type Numbers struct {
	From, To         float64
	HasFrom, HasTo   bool
	OpenFrom, OpenTo bool // the bound is not in the range
}

// Texts passes values with a word in a range, by code points; either bound, in lower case, may be open.
type Texts struct {
	From, To         string
	HasFrom, HasTo   bool
	OpenFrom, OpenTo bool
}

func (All) matches(Document) bool { return true }

func (a And) matches(d Document) bool {
	return !slices.ContainsFunc(a, func(n Node) bool { return !n.matches(d) })
}

func (o Or) matches(d Document) bool {
	return slices.ContainsFunc(o, func(n Node) bool { return n.matches(d) })
}

func (n Not) matches(d Document) bool { return !n.Node.matches(d) }

func (c Clause) matches(d Document) bool {
	passes := func(field string) bool {
		return slices.ContainsFunc(d[field], func(v string) bool { return c.Test.passes(field, v) })
	}
	if c.Field != "" && !strings.Contains(c.Field, "*") {
		return passes(c.Field)
	}
	for field := range d {
		if (c.Field == "" && Anywhere(field) || c.Field != "" && Covers(c.Field, field)) && passes(field) {
			return true
		}
	}
	return false
}

func (Exists) passes(_, value string) bool { return len(split(value)) > 0 }

func (w Word) passes(field, value string) bool {
	if slices.Contains(split(value), w.Text) {
		return true
	}
	n, ok := number(value)
	return ok && w.Numeric && n == w.Number && numeric(field)
}

func (p Phrase) passes(_, value string) bool {
	return strings.Contains(" "+strings.Join(split(value), " ")+" ", " "+strings.Join(p, " ")+" ")
}

func (p Pattern) passes(_, value string) bool {
	return slices.ContainsFunc(split(value), func(w string) bool { return matchWord(p, []rune(w)) })
}

// matchWord takes time in proportion to the product of both lengths at most.
func matchWord(p Pattern, w []rune) bool {
	var tokens []Part // of one character each
	for _, part := range p {
		if part.Any || part.One {
			tokens = append(tokens, part)
		}
		for _, r := range part.Text {
			tokens = append(tokens, Part{Text: string(r)})
		}
	}
	i, j, star, mark := 0, 0, -1, 0
	for j < len(w) {
		switch {
		case i < len(tokens) && tokens[i].Any:
			star, mark = i, j
			i++
		case i < len(tokens) && (tokens[i].One || tokens[i].Text == string(w[j])):
			i, j = i+1, j+1
		case star >= 0: // the last Any takes one more
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	for i < len(tokens) && tokens[i].Any {
		i++
	}
	return i == len(tokens)
}

func (r Numbers) passes(field, value string) bool {
	n, ok := number(value)
	return ok && numeric(field) &&
		(!r.HasFrom || n > r.From || n == r.From && !r.OpenFrom) &&
		(!r.HasTo || n < r.To || n == r.To && !r.OpenTo)
}

func (r Texts) passes(_, value string) bool {
	return slices.ContainsFunc(split(value), func(w string) bool {
		return (!r.HasFrom || w > r.From || w == r.From && !r.OpenFrom) &&
			(!r.HasTo || w < r.To || w == r.To && !r.OpenTo)
	})
}
