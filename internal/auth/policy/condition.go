package policy

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// test is what a condition does with a value, without prefix, suffix and negation.
type test uint8

const (
	testString test = iota
	testStringFold
	testLike // also of strings that are ARNs but not written as six parts
	testARN
	testNumber
	testDate
	testBool
	testIP
	testNull
)

// order says how a number or a date must compare with what is written: less than, equal to or
// greater than it.
type order struct{ less, equal, greater bool }

type operator struct {
	test
	not bool
	order
}

var operators = func() map[string]operator {
	m := map[string]operator{
		"StringEquals":              {test: testString},
		"StringNotEquals":           {test: testString, not: true},
		"StringEqualsIgnoreCase":    {test: testStringFold},
		"StringNotEqualsIgnoreCase": {test: testStringFold, not: true},
		"StringLike":                {test: testLike},
		"StringNotLike":             {test: testLike, not: true},
		"ArnEquals":                 {test: testARN}, // the same as ArnLike, as in IAM
		"ArnLike":                   {test: testARN},
		"ArnNotEquals":              {test: testARN, not: true},
		"ArnNotLike":                {test: testARN, not: true},
		"Bool":                      {test: testBool},
		"IpAddress":                 {test: testIP},
		"NotIpAddress":              {test: testIP, not: true},
		"Null":                      {test: testNull},
	}
	for suffix, o := range map[string]operator{
		"Equals":            {order: order{equal: true}},
		"NotEquals":         {order: order{equal: true}, not: true},
		"LessThan":          {order: order{less: true}},
		"LessThanEquals":    {order: order{less: true, equal: true}},
		"GreaterThan":       {order: order{greater: true}},
		"GreaterThanEquals": {order: order{greater: true, equal: true}},
	} {
		o.test = testNumber
		m["Numeric"+suffix] = o
		o.test = testDate
		m["Date"+suffix] = o
	}
	return m
}()

// condition is one key of one operator.
type condition struct {
	operator
	ifExists bool
	forAll   bool // ForAllValues:
	forAny   bool // ForAnyValue:
	key      key

	// What is written, by test; any of them.
	texts    []pattern // string tests; of testARN the whole, with parts beside it
	arns     [][]pattern
	numbers  []float64
	dates    []time.Time
	bools    []bool // also of testNull
	networks []netip.Prefix
}

// newCondition understands a condition. The error says what is wrong with it.
func newCondition(name, keyName string, values []string) (condition, error) {
	var c condition
	base := name
	if rest, ok := strings.CutPrefix(base, "ForAllValues:"); ok {
		base, c.forAll = rest, true
	} else if rest, ok := strings.CutPrefix(base, "ForAnyValue:"); ok {
		base, c.forAny = rest, true
	}
	if rest, ok := strings.CutSuffix(base, "IfExists"); ok {
		base, c.ifExists = rest, true
	}
	var ok bool
	if c.operator, ok = operators[base]; !ok || c.test == testNull && c.ifExists {
		return c, fmt.Errorf("unknown condition operator %q", clip(name))
	}
	if keyName == "" {
		return c, fmt.Errorf("%s has a key without a name", name)
	}
	c.key = newKey(keyName)
	for _, v := range values {
		if err := c.add(v); err != nil {
			return c, fmt.Errorf("%s of %q: %w", name, clip(keyName), err)
		}
	}
	return c, nil
}

func (c *condition) add(value string) error {
	switch c.test {
	case testNumber:
		n, err := strconv.ParseFloat(value, 64)
		if err != nil || math.IsNaN(n) {
			return fmt.Errorf("%q is not a number", clip(value))
		}
		c.numbers = append(c.numbers, n)
	case testDate:
		t, ok := parseDate(value)
		if !ok {
			return fmt.Errorf("%q is not a date such as 2026-01-31T12:00:00Z", clip(value))
		}
		c.dates = append(c.dates, t)
	case testBool, testNull:
		b := strings.EqualFold(value, "true")
		if !b && !strings.EqualFold(value, "false") {
			return fmt.Errorf("%q is neither true nor false", clip(value))
		}
		c.bools = append(c.bools, b)
	case testIP:
		n, ok := parseNetwork(value)
		if !ok {
			return fmt.Errorf("%q is not an IP address or a range such as 192.0.2.0/24", clip(value))
		}
		c.networks = append(c.networks, n)
	default:
		p, err := newPattern(value, c.test == testLike || c.test == testARN)
		if err != nil {
			return err
		}
		c.texts = append(c.texts, p)
		if c.test != testARN {
			return nil
		}
		var parts []pattern
		if text := strings.SplitN(value, ":", arnParts); len(text) == arnParts && !strings.Contains(strings.Join(text[:arnParts-1], ""), "${") {
			for _, part := range text {
				p, err := newPattern(part, true)
				if err != nil {
					return err
				}
				parts = append(parts, p)
			}
		}
		c.arns = append(c.arns, parts)
	}
	return nil
}

// arnParts is how many parts an ARN has. A wildcard does not cross from one into the next, unless
// it is not written as an ARN at all, as "*" is not.
const arnParts = 6

// parseDate reads the forms that IAM takes: ISO 8601 and seconds since 1970.
func parseDate(s string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z07:00", "2006-01-02"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return time.Unix(n, 0), err == nil
}

func parseNetwork(s string) (netip.Prefix, bool) {
	if n, err := netip.ParsePrefix(s); err == nil {
		return n.Masked(), true
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, a.BitLen()), true
}

// holds reports whether the condition is true of a request. deny says in whose statement it stands.
func (c *condition) holds(ctx *Context, deny bool) bool {
	if c.test != testNull && !deny {
		// An Allow that compares with a variable without a value allows nothing.
		for _, p := range c.texts {
			if !p.resolved(ctx) {
				return false
			}
		}
	}
	if c.key.list || c.forAll || c.forAny {
		return c.holdsForSet(ctx)
	}
	// The keys with a type of their own are compared as what they are.
	known, fits := false, false
	switch {
	case ctx == nil:
	case c.key.kind == keySourceIP && c.test == testIP:
		if known = ctx.SourceIP.IsValid(); known {
			fits = c.inNetworks(ctx.SourceIP)
		}
	case (c.key.kind == keyTime || c.key.kind == keyEpoch) && c.test == testDate:
		if known = !ctx.Now.IsZero(); known {
			fits = c.onDates(ctx.Now)
		}
	default:
		var v string
		if v, known = ctx.value(&c.key); known && c.test != testNull {
			fits = c.fits(v, ctx)
		}
	}
	switch {
	case c.test == testNull:
		return c.null(!known)
	case !known:
		return c.not || c.ifExists
	}
	return fits != c.not
}

// holdsForSet is holds for a key with a set of values, or for one that is treated as if it had one.
func (c *condition) holdsForSet(ctx *Context) bool {
	values, known := ctx.values(c.key)
	switch {
	case c.test == testNull:
		return c.null(!known)
	case !known:
		return c.forAll || !c.forAny && c.not || c.ifExists
	}
	for _, v := range values {
		fits := c.fits(v, ctx) != c.not
		switch {
		case c.forAll || !c.forAny && c.not: // every value has to
			if !fits {
				return false
			}
		case fits:
			return true
		}
	}
	return c.forAll || !c.forAny && c.not
}

func (c *condition) null(absent bool) bool {
	for _, b := range c.bools {
		if b == absent {
			return true
		}
	}
	return false
}

// fits reports whether a value is one of what is written.
func (c *condition) fits(v string, ctx *Context) bool {
	switch c.test {
	case testNumber:
		n, err := strconv.ParseFloat(v, 64)
		if err != nil {
			return false
		}
		for _, want := range c.numbers {
			if c.less && n < want || c.equal && n == want || c.greater && n > want {
				return true
			}
		}
	case testDate:
		t, ok := parseDate(v)
		return ok && c.onDates(t)
	case testBool:
		for _, want := range c.bools {
			if strings.EqualFold(v, strconv.FormatBool(want)) {
				return true
			}
		}
	case testIP:
		a, err := netip.ParseAddr(v)
		return err == nil && c.inNetworks(a)
	case testStringFold:
		for _, p := range c.texts {
			if equalFold(p, v, ctx) {
				return true
			}
		}
	case testARN:
		for i, p := range c.texts {
			if c.arns[i] == nil && match(p, v, ctx, false) || c.arns[i] != nil && matchARN(c.arns[i], v, ctx) {
				return true
			}
		}
	default:
		for _, p := range c.texts {
			if match(p, v, ctx, false) {
				return true
			}
		}
	}
	return false
}

func (c *condition) onDates(t time.Time) bool {
	for _, want := range c.dates {
		switch n := t.Compare(want); {
		case n < 0 && c.less, n == 0 && c.equal, n > 0 && c.greater:
			return true
		}
	}
	return false
}

func (c *condition) inNetworks(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, n := range c.networks {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

func matchARN(parts []pattern, v string, ctx *Context) bool {
	for i, p := range parts {
		part := v
		if i < len(parts)-1 {
			var ok bool
			if part, v, ok = strings.Cut(v, ":"); !ok {
				return false
			}
		}
		if !match(p, part, ctx, false) {
			return false
		}
	}
	return true
}

// equalFold compares a text without wildcards, ignoring case.
func equalFold(p pattern, v string, ctx *Context) bool {
	var b strings.Builder
	for i := range p {
		text := p[i].text
		if p[i].kind == variable {
			var ok bool
			if text, ok = ctx.substitute(&p[i].key); !ok {
				return false
			}
		}
		b.WriteString(text)
	}
	return strings.EqualFold(b.String(), v)
}
