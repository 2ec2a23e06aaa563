package sqlstore

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"drover/internal/iot"
	"drover/internal/query"
	"drover/internal/store"
)

const indexState = "fleet_index" // in settings

// IndexState implements store.IndexReader.
func (r reader) IndexState() (s iot.IndexState, err error) {
	err = r.c.one(`SELECT value FROM settings WHERE name = $1`, func(row *row) error {
		return fromJSON(row.text(), &s)
	}, indexState)
	if errors.Is(err, store.ErrNotFound) {
		return s, nil
	}
	return s, err
}

// SaveIndexState implements store.IndexWriter.
func (t *tx) SaveIndexState(s iot.IndexState) error {
	text, err := toJSON(s)
	if err != nil {
		return t.failing(err)
	}
	_, err = t.exec(`INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, indexState, text)
	return err
}

// The kinds of a row of index_terms.
const (
	kindInner  = 1 << iota // no value begins with it
	kindNumber             // it is a number
)

// termRow is a row of index_terms.
type termRow struct {
	document, field int64
	word            string
	kind            int64
	value           string
	number          int64
}

const (
	termsOf     = `SELECT field, word, kind, value, number FROM index_terms WHERE document = $1`
	insertTerm  = `INSERT INTO index_terms (document, field, word, kind, value, number) VALUES ($1, $2, $3, $4, $5, $6)`
	deleteTerm  = `DELETE FROM index_terms WHERE document = $1 AND field = $2 AND word = $3 AND kind = $4 AND value = $5`
	fieldByName = `SELECT id FROM index_fields WHERE index_name = $1 AND name = $2`
	insertField = `INSERT INTO index_fields (id, index_name, name) VALUES ($1, $2, $3)`
)

// SaveTerms implements store.IndexWriter. What stays the same is not touched.
func (t *tx) SaveTerms(index iot.IndexName, documents []store.IndexDocument) error {
	ids := make([]int64, len(documents))
	var names []string
	for i, d := range documents {
		ids[i] = d.ID
		for _, term := range d.Terms {
			names = append(names, term.Field)
		}
	}
	slices.Sort(names)
	fields, err := t.indexFields(index, slices.Compact(names))
	if err != nil {
		return err
	}
	gone := make(map[termRow]bool)
	err = t.c.read(termsOf, len(ids), func(i int, a *args) { a.int(ids[i]) }, func(i int, row *row) error {
		gone[termRow{ids[i], row.int(), row.text(), row.int(), row.text(), row.int()}] = true
		return nil
	})
	if err != nil {
		return err
	}
	var added []termRow
	for _, d := range documents {
		for _, term := range d.Terms {
			r := termRow{document: d.ID, field: fields[term.Field], word: term.Word, value: term.Value}
			if term.Phrase {
				r.field = -r.field
			}
			if term.Inner {
				r.kind |= kindInner
			}
			if term.Numeric {
				r.kind |= kindNumber
				r.number = orderedNumber(term.Number)
			}
			if gone[r] {
				delete(gone, r)
			} else {
				added = append(added, r)
			}
		}
	}
	old := make([]termRow, 0, len(gone))
	for r := range gone {
		old = append(old, r)
	}
	err = t.later(deleteTerm, len(old), func(i int, a *args) {
		r := &old[i]
		a.int(r.document)
		a.int(r.field)
		a.text(r.word)
		a.int(r.kind)
		a.text(r.value)
	})
	if err != nil {
		return err
	}
	return t.insertLater(insertTerm, len(added), func(i int, a *args) {
		r := &added[i]
		a.int(r.document)
		a.int(r.field)
		a.text(r.word)
		a.int(r.kind)
		a.text(r.value)
		a.int(r.number)
	})
}

// indexFields returns the numbers of fields, and gives some to those that have none.
func (t *tx) indexFields(index iot.IndexName, names []string) (map[string]int64, error) {
	fields, err := t.fieldsByName(index, names)
	if err != nil {
		return nil, err
	}
	fresh := slices.DeleteFunc(names, func(n string) bool { return fields[n] != 0 })
	if len(fresh) == 0 {
		return fields, nil
	}
	first, err := t.Sequence(len(fresh))
	if err != nil {
		return nil, err
	}
	for i, n := range fresh {
		fields[n] = first + int64(i)
	}
	return fields, t.insertLater(insertField, len(fresh), func(i int, a *args) {
		a.int(fields[fresh[i]])
		a.text(string(index))
		a.text(fresh[i])
	})
}

func (r reader) fieldsByName(index iot.IndexName, names []string) (map[string]int64, error) {
	fields := make(map[string]int64, len(names))
	err := r.c.read(fieldByName, len(names),
		func(i int, a *args) {
			a.text(string(index))
			a.text(names[i])
		},
		func(i int, row *row) error {
			fields[names[i]] = row.int()
			return nil
		})
	return fields, err
}

// orderedNumber encodes a number so that the order of the integers is that of the numbers.
func orderedNumber(n float64) int64 {
	if n == 0 {
		n = 0 // not -0
	}
	bits := int64(math.Float64bits(n))
	if bits < 0 {
		bits ^= math.MaxInt64
	}
	return bits
}

// plainNumber is the inverse of orderedNumber.
func plainNumber(bits int64) float64 {
	if bits < 0 {
		bits ^= math.MaxInt64
	}
	return math.Float64frombits(uint64(bits))
}

// fewDocuments is how many documents are looked at one by one, and put in order, rather than walking
// through all documents in their order and asking for each.
const fewDocuments = 5000

// search turns a query into SQL.
type search struct {
	r      reader
	index  iot.IndexName
	fields map[string]int64 // all of the index, once they are needed
	// known says that the document of a part is known: numbers are not to be looked up by their index then,
	// which planners like too much.
	known  bool
	sql    strings.Builder
	values []any
}

func (s *search) write(format string, a ...any) { fmt.Fprintf(&s.sql, format, a...) }

// arg adds an argument and returns the parameter.
func (s *search) arg(v any) string {
	s.values = append(s.values, v)
	return fmt.Sprintf("$%d", len(s.values))
}

// Search implements store.IndexReader.
func (r reader) Search(index iot.IndexName, node query.Node, after int64, limit int) (ids []int64, err error) {
	s := &search{r: r, index: index}
	if err := s.matching(node, after); err != nil {
		return nil, err
	}
	s.write(" ORDER BY id LIMIT %s", s.arg(limit))
	err = s.run(func(row *row) error {
		ids = append(ids, row.int())
		return nil
	})
	return ids, err
}

// CountMatches implements store.IndexReader.
func (r reader) CountMatches(index iot.IndexName, node query.Node) (n int64, err error) {
	s := &search{r: r, index: index}
	s.write("SELECT count(*) FROM (")
	if err := s.matching(node, 0); err != nil {
		return 0, err
	}
	s.write(") m")
	err = s.run(func(row *row) error {
		n = row.int()
		return nil
	})
	return n, err
}

// IndexNumbers implements store.IndexReader.
func (r reader) IndexNumbers(index iot.IndexName, node query.Node, field string, visit func(n float64, count int64) error) error {
	s := &search{r: r, index: index}
	s.write("SELECT v.number, count(*) FROM index_terms v WHERE v.kind >= %d AND v.field = ", kindNumber)
	if known, err := s.ofField(node, field); !known {
		return err
	}
	s.write(" GROUP BY v.number ORDER BY v.number")
	return s.run(func(row *row) error { return visit(plainNumber(row.int()), row.int()) })
}

// IndexValues implements store.IndexReader.
func (r reader) IndexValues(index iot.IndexName, node query.Node, field string, limit int) (list []iot.IndexValue, err error) {
	s := &search{r: r, index: index}
	s.write("SELECT b.value, b.n FROM (SELECT CASE WHEN v.value = '' THEN v.word ELSE v.value END AS value, count(*) AS n FROM index_terms v WHERE v.kind IN (0, %d) AND v.field = ", kindNumber)
	if known, err := s.ofField(node, field); !known {
		return nil, err
	}
	s.write(" GROUP BY 1) b ORDER BY b.n DESC, b.value LIMIT %s", s.arg(limit))
	err = s.run(func(row *row) error {
		list = append(list, iot.IndexValue{Value: row.text(), Count: row.int()})
		return nil
	})
	return list, err
}

// CountValues implements store.IndexReader.
func (r reader) CountValues(index iot.IndexName, node query.Node, field string) (documents, distinct int64, err error) {
	s := &search{r: r, index: index}
	s.write("SELECT count(DISTINCT v.document), count(DISTINCT CASE WHEN v.value = '' THEN v.word ELSE v.value END) FROM index_terms v WHERE v.kind IN (0, %d) AND v.field = ", kindNumber)
	if known, err := s.ofField(node, field); !known {
		return 0, 0, err
	}
	err = s.run(func(row *row) error {
		documents, distinct = row.int(), row.int()
		return nil
	})
	return documents, distinct, err
}

// ofField writes the number of a field, and that the document of v matches. It reports false if no
// document has the field.
func (s *search) ofField(node query.Node, field string) (bool, error) {
	ids, err := s.r.fieldsByName(s.index, []string{field})
	if err != nil || ids[field] == 0 {
		return false, err
	}
	s.write("%d", ids[field])
	if _, all := node.(query.All); all {
		return true, nil
	}
	s.write(" AND v.document IN (")
	if err := s.matching(node, 0); err != nil {
		return false, err
	}
	s.write(")")
	return true, nil
}

func (s *search) run(scan func(*row) error) error {
	return s.r.c.search(s.sql.String(), s.values, scan)
}

// matching writes the selection of the matching documents behind one, as the column id. It begins
// with the rarest of what a document must have, so that what few match is found without looking at
// the others.
func (s *search) matching(node query.Node, after int64) error {
	parts, n, err := s.cover(node)
	if err != nil {
		return err
	}
	document := "d.id"
	switch {
	case len(parts) == 1 && parts[0].ordered:
		document = "t.document"
		s.write("SELECT DISTINCT t.document AS id FROM index_terms t WHERE t.document > %s AND ", s.arg(after))
		parts[0].write(s, "t")
		s.write(" AND ")
	case parts != nil && n < fewDocuments:
		s.write("SELECT d.id FROM (SELECT 0 AS id WHERE 0 = 1")
		for _, p := range parts {
			s.write(" UNION SELECT x.document FROM index_terms x WHERE x.document > %s AND ", s.arg(after))
			p.write(s, "x")
		}
		s.write(") d WHERE ")
	case s.index == iot.GroupsIndex:
		s.write("SELECT d.id FROM thing_groups d WHERE d.id > %s AND ", s.arg(after))
	default:
		s.write("SELECT d.id FROM things d WHERE d.id > %s AND d.deleted = 0 AND ", s.arg(after))
	}
	return s.condition(node, document)
}

// condition writes that a document matches.
func (s *search) condition(node query.Node, document string) error {
	list := func(nodes []query.Node, between string) error {
		s.write("(")
		for i, n := range nodes {
			if i > 0 {
				s.write("%s", between)
			}
			if err := s.condition(n, document); err != nil {
				return err
			}
		}
		s.write(")")
		return nil
	}
	switch n := node.(type) {
	case query.All:
		s.write("1 = 1")
	case query.And:
		return list(n, " AND ")
	case query.Or:
		return list(n, " OR ")
	case query.Not:
		s.write("NOT ")
		return list([]query.Node{n.Node}, "")
	case query.Clause:
		parts, err := s.parts(n)
		if err != nil {
			return err
		}
		s.write("(0 = 1")
		for _, p := range parts {
			s.write(" OR EXISTS (SELECT 1 FROM index_terms x WHERE x.document = %s AND ", document)
			s.known = true
			p.write(s, "x")
			s.known = false
			s.write(")")
		}
		s.write(")")
	default:
		return fmt.Errorf("sqlstore: a query with a %T", node)
	}
	return nil
}

// cover returns parts of which every document that matches has one, and how many rows they have,
// fewDocuments at most each; nil if there are no such parts.
func (s *search) cover(node query.Node) (parts []part, rows int64, err error) {
	switch n := node.(type) {
	case query.And:
		for _, child := range n {
			p, r, err := s.cover(child)
			if err != nil {
				return nil, 0, err
			}
			if p != nil && (parts == nil || r < rows) {
				parts, rows = p, r
			}
		}
		return parts, rows, nil
	case query.Or:
		parts = []part{}
		for _, child := range n {
			p, r, err := s.cover(child)
			if err != nil || p == nil {
				return nil, 0, err
			}
			parts, rows = append(parts, p...), rows+r
		}
		return parts, rows, nil
	case query.Clause:
		if parts, err = s.parts(n); err != nil {
			return nil, 0, err
		}
		for _, p := range parts {
			e := &search{r: s.r}
			e.write("SELECT count(*) FROM (SELECT 1 FROM index_terms x WHERE ")
			p.write(e, "x")
			e.write(" LIMIT %d) e", fewDocuments)
			if err := e.run(func(row *row) error { rows += row.int(); return nil }); err != nil {
				return nil, 0, err
			}
		}
		return parts, rows, nil
	}
	return nil, 0, nil
}

// part is a condition on a row of index_terms, for which there is an index.
type part struct {
	fields  []int64
	ordered bool // the rows are in the order of the documents
	test    func(s *search, x string)
}

func (p part) write(s *search, x string) {
	s.write("%s.field ", x)
	if len(p.fields) == 1 {
		s.write("= %d", p.fields[0])
	} else {
		s.write("IN (%s)", strings.ReplaceAll(strings.Trim(fmt.Sprint(p.fields), "[]"), " ", ", "))
	}
	p.test(s, x)
}

// parts returns conditions of which a document that passes the clause has a row with one.
func (s *search) parts(c query.Clause) ([]part, error) {
	fields, err := s.fieldsOf(c.Field)
	if err != nil {
		return nil, err
	}
	parts := []part{}
	if len(fields) == 0 {
		return parts, nil
	}
	add := func(test func(s *search, x string)) { parts = append(parts, part{fields: fields, test: test}) }
	switch t := c.Test.(type) {
	case query.Exists:
		add(func(*search, string) {})
	case query.Word:
		add(func(s *search, x string) { s.write(" AND %s.word = %s", x, s.arg(t.Text)) })
		if t.Numeric {
			add(func(s *search, x string) {
				s.number(x)
				s.write(" AND %s.number = %s", x, s.arg(orderedNumber(t.Number)))
			})
		}
		parts[0].ordered = len(fields) == 1
	case query.Phrase:
		for i := range fields {
			fields[i] = -fields[i]
		}
		text := strings.Join(t, " ")
		add(func(s *search, x string) { s.write(" AND %s.word = %s", x, s.arg(text)) })
		add(func(s *search, x string) {
			s.write(" AND %s.word >= %s AND %s.word < %s", x, s.arg(text+" "), x, s.arg(text+"!"))
		})
	case query.Pattern:
		add(func(s *search, x string) { s.like(t, x) })
	case query.Numbers:
		add(func(s *search, x string) {
			s.number(x)
			if t.HasFrom {
				s.bound(x, "number", ">", t.OpenFrom, orderedNumber(t.From))
			}
			if t.HasTo {
				s.bound(x, "number", "<", t.OpenTo, orderedNumber(t.To))
			}
		})
	case query.Texts:
		add(func(s *search, x string) {
			if t.HasFrom {
				s.bound(x, "word", ">", t.OpenFrom, t.From)
			}
			if t.HasTo {
				s.bound(x, "word", "<", t.OpenTo, t.To)
			}
		})
	default:
		return nil, fmt.Errorf("sqlstore: a query with a %T", t)
	}
	return parts, nil
}

// number writes that a row is a number, in the words of the index of numbers or in others.
func (s *search) number(x string) {
	plus := ""
	if s.known {
		plus = "+"
	}
	s.write(" AND %s%s.kind >= %d", plus, x, kindNumber)
}

func (s *search) bound(x, column, than string, open bool, value any) {
	if !open {
		than += "="
	}
	s.write(" AND %s.%s %s %s", x, column, than, s.arg(value))
}

// like writes that a word matches a pattern; what it begins with is looked up.
func (s *search) like(p query.Pattern, x string) {
	var like strings.Builder
	for _, part := range p {
		switch {
		case part.Any:
			like.WriteByte('%')
		case part.One:
			like.WriteByte('_')
		default:
			like.WriteString(strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(part.Text))
		}
	}
	if prefix := p[0].Text; prefix != "" {
		s.write(" AND %s.word >= %s AND %s.word < %s", x, s.arg(prefix), x, s.arg(prefix+"\U0010ffff"))
	}
	s.write(" AND %s.word LIKE %s ESCAPE '\\'", x, s.arg(like.String()))
}

// fieldsOf returns the numbers of the fields that a clause is about.
func (s *search) fieldsOf(path string) (ids []int64, err error) {
	if path != "" && !strings.Contains(path, "*") {
		fields, err := s.r.fieldsByName(s.index, []string{path})
		if id := fields[path]; id != 0 {
			ids = append(ids, id)
		}
		return ids, err
	}
	if s.fields == nil {
		s.fields = make(map[string]int64)
		err = s.r.c.list(`SELECT name, id FROM index_fields WHERE index_name = $1`, func(row *row) error {
			s.fields[row.text()] = row.int()
			return nil
		}, string(s.index))
	}
	for name, id := range s.fields {
		if path == "" && query.Anywhere(name) || path != "" && query.Covers(path, name) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, err
}
