package query

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"drover/internal/iot"
)

// Limits bound a query. Zero fields stand for AWS's own numbers (registry spec §0.2).
type Limits struct {
	Terms int // 12
}

const (
	maxBytes        = 1000
	maxStars        = 2
	maxQuestions    = 5
	maxLeading      = 100 // characters of a query with a word that begins with a wildcard
	maxNesting      = 50
	defaultMaxTerms = 12
)

// Error says what is wrong with a query.
type Error struct {
	At  int // the character, the first one is 1
	Why string
}

func (e *Error) Error() string { return fmt.Sprintf("Invalid query, character %d: %s", e.At, e.Why) }

// Parse reads a query for an index. An error is an *Error.
func Parse(text string, index iot.IndexName, sources Sources, limits Limits) (q *Query, err error) {
	p := &parser{text: []rune(text), index: index, sources: sources, maxTerms: limits.Terms, leading: -1}
	if p.maxTerms == 0 {
		p.maxTerms = defaultMaxTerms
	}
	defer func() {
		if r := recover(); r != nil {
			bad, ok := r.(*Error)
			if !ok {
				panic(r)
			}
			q, err = nil, bad
		}
	}()
	if !utf8.ValidString(text) {
		p.fail(0, "it is not UTF-8")
	}
	if len(text) > maxBytes {
		p.fail(0, "it is longer than %d bytes", maxBytes)
	}
	p.space()
	if p.end() {
		p.fail(0, "it is blank")
	}
	root := p.or(p.operand)
	if !p.end() {
		p.unexpected()
	}
	if p.leading >= 0 && len(p.text) > maxLeading {
		p.fail(p.leading, "a word may begin with a wildcard in queries of at most %d characters", maxLeading)
	}
	return &Query{Text: text, Root: root}, nil
}

// parser reads a query from left to right. A mistake leaves it as a panic with an *Error, which
// Parse turns into an error.
type parser struct {
	text     []rune
	at       int
	index    iot.IndexName
	sources  Sources
	maxTerms int
	terms    int
	leading  int // where a word begins with a wildcard, or -1
	depth    int
}

func (p *parser) fail(at int, format string, args ...any) {
	panic(&Error{At: at + 1, Why: fmt.Sprintf(format, args...)})
}

func (p *parser) unexpected() {
	if p.end() {
		p.fail(p.at, "it ends where something has to follow")
	}
	p.fail(p.at, "%q is not expected here", string(p.text[p.at]))
}

func (p *parser) end() bool { return p.at >= len(p.text) }

// peek returns the next character, 0 at the end.
func (p *parser) peek() rune {
	if p.end() {
		return 0
	}
	return p.text[p.at]
}

// space skips white space and reports whether there was some.
func (p *parser) space() bool {
	from := p.at
	for !p.end() && unicode.IsSpace(p.text[p.at]) {
		p.at++
	}
	return p.at > from
}

// take reads a character if it is the next one.
func (p *parser) take(r rune) bool {
	if p.end() || p.text[p.at] != r {
		return false
	}
	p.at++
	return true
}

// keyword reads a word in capitals, if it is the next one and a whole word.
func (p *parser) keyword(word string) bool {
	end := p.at + len(word)
	if end > len(p.text) || string(p.text[p.at:end]) != word {
		return false
	}
	if end < len(p.text) && !unicode.IsSpace(p.text[end]) && p.text[end] != '(' && p.text[end] != ')' {
		return false
	}
	p.at = end
	return true
}

// term counts a term.
func (p *parser) term(at int) {
	if p.terms++; p.terms > p.maxTerms {
		p.fail(at, "there are more than %d terms", p.maxTerms)
	}
}

// or reads alternatives of what operand reads.
func (p *parser) or(operand func() Node) Node {
	if p.depth++; p.depth > maxNesting {
		p.fail(p.at, "there are more than %d parentheses in each other", maxNesting)
	}
	defer func() { p.depth-- }()
	list := Or{p.and(operand)}
	for p.keyword("OR") {
		p.space()
		list = append(list, p.and(operand))
	}
	if len(list) == 1 {
		return list[0]
	}
	return list
}

// and reads what has to hold together; white space alone means AND.
func (p *parser) and(operand func() Node) Node {
	list := And{p.not(operand)}
	for {
		apart := p.space()
		from := p.at
		if p.end() || p.peek() == ')' {
			break
		}
		if p.keyword("OR") {
			p.at = from
			break
		}
		if p.keyword("AND") {
			p.space()
		} else if !apart && p.text[p.at-1] != ')' {
			p.unexpected()
		}
		list = append(list, p.not(operand))
	}
	if len(list) == 1 {
		return list[0]
	}
	return list
}

// not reads an operand, perhaps a negated one.
func (p *parser) not(operand func() Node) Node {
	switch at := p.at; {
	case p.keyword("NOT"):
		p.space()
	case p.peek() == '-' || p.peek() == '–':
		p.at++
		if p.end() || unicode.IsSpace(p.peek()) {
			p.fail(at, "what is to be excluded has to follow the hyphen directly")
		}
	case p.keyword("AND"), p.keyword("OR"), p.keyword("TO"):
		p.fail(at, "a word for something to search for is missing before this one; put it in quotes if you mean the word")
	default:
		return operand()
	}
	if p.peek() == '-' || p.peek() == '–' {
		p.fail(p.at, "this has been negated already")
	}
	return Not{operand()}
}

// operand reads parentheses or a clause.
func (p *parser) operand() Node {
	if p.take('(') {
		p.space()
		n := p.or(p.operand)
		p.close()
		return n
	}
	from := p.at
	if p.peek() == '"' {
		p.term(from)
		return p.clause("", p.phrase())
	}
	w := p.word()
	after := p.at
	p.space()
	switch p.peek() {
	case ':':
		p.at++
		p.space()
		return p.body(p.field(w, from))
	case '<', '>', '=':
		return p.compare(p.field(w, from))
	}
	p.at = after
	p.term(from)
	return p.clause("", p.value(w, from))
}

func (p *parser) close() {
	p.space()
	if !p.take(')') {
		if p.end() {
			p.fail(p.at, "a closing parenthesis is missing")
		}
		p.unexpected()
	}
}

// clause makes a clause; a word that is "*" alone in no field is everything.
func (p *parser) clause(field string, t Test) Node {
	if _, ok := t.(Exists); ok && field == "" {
		return All{}
	}
	return Clause{field, t}
}

// body reads what follows a field and a colon.
func (p *parser) body(field string) Node {
	if p.take('(') {
		p.space()
		n := p.or(func() Node { return p.member(field) })
		p.close()
		return n
	}
	return p.simple(field)
}

// member reads a value among several for a field.
func (p *parser) member(field string) Node {
	if p.take('(') {
		p.space()
		n := p.or(func() Node { return p.member(field) })
		p.close()
		return n
	}
	return p.simple(field)
}

// simple reads a range or a value for a field.
func (p *parser) simple(field string) Node {
	from := p.at
	p.term(from)
	switch p.peek() {
	case '[', '{':
		return p.clause(field, p.interval(field))
	case '"':
		return p.clause(field, p.phrase())
	}
	return p.clause(field, p.value(p.word(), from))
}

// field checks the name of a field, which was read as a word.
func (p *parser) field(w word, from int) string {
	name := w.text()
	for i, c := range w {
		if !(c.escaped || unicode.IsLetter(c.r) || unicode.IsDigit(c.r) || strings.ContainsRune("_-$.", c.r) ||
			c.r == '*' && (i == 0 || w[i-1].r == '.') && (i == len(w)-1 || w[i+1].r == '.')) {
			p.fail(from+i, "%q cannot be in the name of a field", string(c.r))
		}
	}
	if strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".") || strings.Contains(name, "..") {
		p.fail(from, "the name of a field has an empty part")
	}
	canonical, refusal := field(name, p.index, p.sources)
	if refusal != "" {
		p.fail(from, "%s", refusal)
	}
	return canonical
}

// compare reads a comparison with a field.
func (p *parser) compare(field string) Node {
	from := p.at
	op := string(p.peek())
	p.at++
	if op != "=" && p.take('=') {
		op += "="
	}
	p.space()
	at := p.at
	p.term(at)
	if op == "=" {
		if p.peek() == '"' {
			return p.clause(field, p.phrase())
		}
		return p.clause(field, p.value(p.word(), at))
	}
	if ofPackage(field) {
		p.fail(from, "versions of packages have no order")
	}
	n, ok := number(p.word().text())
	if !ok {
		p.fail(at, "%s needs a number", op)
	}
	r := Numbers{From: n, HasFrom: true, OpenFrom: op == ">"}
	if op[0] == '<' {
		r = Numbers{To: n, HasTo: true, OpenTo: op == "<"}
	}
	return Clause{field, r}
}

// bound is an end of a range: a text, a number as well, or nothing at all.
type bound struct {
	open    bool
	text    string
	number  float64
	numeric bool
}

// interval reads a range.
func (p *parser) interval(field string) Test {
	if ofPackage(field) {
		p.fail(p.at, "versions of packages have no order")
	}
	openFrom := p.peek() == '{'
	p.at++
	p.space()
	a := p.bound()
	if !p.space() || !p.keyword("TO") || !p.space() {
		p.fail(p.at, "TO is missing between the bounds of a range")
	}
	b := p.bound()
	p.space()
	openTo := p.peek() == '}'
	if !p.take(']') && !p.take('}') {
		p.fail(p.at, "the range has to be closed by ] or }")
	}
	if (a.open || a.numeric) && (b.open || b.numeric) {
		return Numbers{From: a.number, HasFrom: !a.open, OpenFrom: openFrom, To: b.number, HasTo: !b.open, OpenTo: openTo}
	}
	return Texts{From: a.text, HasFrom: !a.open, OpenFrom: openFrom, To: b.text, HasTo: !b.open, OpenTo: openTo}
}

func (p *parser) bound() bound {
	if p.peek() == '"' {
		return bound{text: fold(p.quoted())}
	}
	w := p.word()
	if w.star() {
		return bound{open: true}
	}
	for _, c := range w {
		if !c.escaped && (c.r == '*' || c.r == '?') {
			p.fail(p.at-1, "a bound of a range cannot have wildcards")
		}
	}
	b := bound{text: fold(w.text())}
	b.number, b.numeric = number(w.text())
	return b
}

// char is a character of a word.
type char struct {
	r       rune
	escaped bool
}

type word []char

func (w word) text() string {
	var b strings.Builder
	for _, c := range w {
		b.WriteRune(c.r)
	}
	return b.String()
}

// star reports whether the word is a wildcard alone.
func (w word) star() bool { return len(w) == 1 && w[0].r == '*' && !w[0].escaped }

const (
	delimiters  = "()[]{}:\"<>="
	unsupported = "`@#%/';,^~"
)

// word reads a word, of one character at least.
func (p *parser) word() word {
	var w word
	for !p.end() {
		r := p.peek()
		switch {
		case unicode.IsSpace(r), strings.ContainsRune(delimiters, r):
		case strings.ContainsRune(unsupported, r):
			p.fail(p.at, "%q is not supported; put it in quotes or a backslash before it if you mean the character", string(r))
		case r == '\\':
			if p.at++; p.end() {
				p.fail(p.at-1, "a character has to follow the backslash")
			}
			w = append(w, char{p.text[p.at], true})
			p.at++
			continue
		default:
			w = append(w, char{r, false})
			p.at++
			continue
		}
		break
	}
	if len(w) == 0 {
		p.unexpected()
	}
	return w
}

// quoted reads a text in quotes.
func (p *parser) quoted() string {
	from := p.at
	p.at++
	var b strings.Builder
	for !p.end() {
		r := p.text[p.at]
		p.at++
		switch {
		case r == '"':
			return b.String()
		case r == '\\' && !p.end():
			r = p.text[p.at]
			p.at++
		}
		b.WriteRune(r)
	}
	p.fail(from, "the quotes are not closed")
	return ""
}

// phrase reads words in quotes.
func (p *parser) phrase() Test {
	from := p.at
	text := p.quoted()
	words := split(text)
	switch len(words) {
	case 0:
		p.fail(from, "there is nothing in the quotes")
	case 1:
		return equal(words[0])
	}
	return Phrase(words)
}

func equal(text string) Word {
	w := Word{Text: fold(text)}
	w.Number, w.Numeric = number(text)
	return w
}

// value makes a test of a word.
func (p *parser) value(w word, from int) Test {
	if w.star() {
		return Exists{}
	}
	var (
		pattern          Pattern
		text             strings.Builder
		stars, questions int
	)
	flush := func() {
		if text.Len() > 0 {
			pattern = append(pattern, Part{Text: fold(text.String())})
			text.Reset()
		}
	}
	for _, c := range w {
		switch {
		case c.r == '*' && !c.escaped:
			stars++
			flush()
			pattern = append(pattern, Part{Any: true})
		case c.r == '?' && !c.escaped:
			questions++
			flush()
			pattern = append(pattern, Part{One: true})
		default:
			text.WriteRune(c.r)
		}
	}
	flush()
	if stars+questions == 0 {
		if words := split(w.text()); len(words) != 1 || words[0] != fold(w.text()) { // escaped white space
			if len(words) == 0 {
				p.fail(from, "a word of white space matches nothing")
			}
			return Phrase(words)
		}
		return equal(w.text())
	}
	switch {
	case stars > maxStars:
		p.fail(from, "a word can have %d times * at most", maxStars)
	case questions > maxQuestions:
		p.fail(from, "a word can have %d times ? at most", maxQuestions)
	}
	if pattern[0].Any || pattern[0].One {
		if p.leading >= 0 {
			p.fail(from, "only one word of a query may begin with a wildcard")
		}
		p.leading = from
	}
	return pattern
}
