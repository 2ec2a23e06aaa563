package wire

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// request is an HTTP request with what the router found out about it.
type request struct {
	w       http.ResponseWriter
	r       *http.Request
	labels  []string // values, in their order in the URI
	maxBody int64
}

// bind fills in, a struct of the operation's input, from the request.
func (op *operation) bind(in reflect.Value, r *request) *Error {
	if op.input.hasBody {
		data, e := r.body()
		if e != nil {
			return e
		}
		if e := decodeBody(data, op.input, in); e != nil {
			return e
		}
	}
	params, e := r.query()
	if e != nil {
		return e
	}
	for _, f := range op.input.fields {
		var given []string
		var what string
		switch {
		case f.in == payload:
			data, e := r.body()
			if e != nil {
				return e
			}
			in.FieldByIndex(f.index).SetBytes(data)
			continue
		case f.in == label:
			given, what = []string{r.label(op, f.name)}, "label"
		case f.in&query != 0:
			given, what = params[f.param], "query parameter"
		case f.in == header:
			given, what = r.r.Header.Values(f.header), "header"
		}
		switch {
		case len(given) == 0:
			continue
		case len(given) > 1:
			return invalid("The %s '%s' is given more than once", what, f.name)
		case !utf8.ValidString(given[0]):
			return invalid("The %s '%s' is not UTF-8", what, f.name)
		}
		if err := f.setText(settle(in.FieldByIndex(f.index), f.value), given[0]); err != nil {
			return invalid("The %s '%s' must be %s, not '%s'", what, f.name, err, shorten(given[0]))
		}
	}
	return nil
}

func (r *request) label(op *operation, name string) string {
	for i, l := range op.labels {
		if l == name {
			return r.labels[i]
		}
	}
	return "" // not reached: Handle has compared the labels
}

// body reads the whole body.
func (r *request) body() ([]byte, *Error) {
	data, err := io.ReadAll(http.MaxBytesReader(r.w, r.r.Body, r.maxBody))
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, &Error{Code: codeTooLarge, Status: http.StatusRequestEntityTooLarge,
			Message: fmt.Sprintf("The request body is larger than %d bytes", tooLarge.Limit)}
	}
	if err != nil {
		return nil, invalid("The request body cannot be read")
	}
	return data, nil
}

// query splits the query string. url.ParseQuery is of no use here: it takes a semicolon for an error.
func (r *request) query() (map[string][]string, *Error) {
	if r.r.URL.RawQuery == "" {
		return nil, nil
	}
	params := make(map[string][]string)
	for pair := range strings.SplitSeq(r.r.URL.RawQuery, "&") {
		rawKey, rawValue, _ := strings.Cut(pair, "=")
		key, keyErr := url.QueryUnescape(rawKey)
		val, valErr := url.QueryUnescape(rawValue)
		if keyErr != nil || valErr != nil {
			return nil, invalid("The query string is not percent-encoded correctly at '%s'", shorten(pair))
		}
		if pair != "" {
			params[key] = append(params[key], val)
		}
	}
	return params, nil
}

// settle returns where to put a value: v, or what v points to, newly made.
func settle(v reflect.Value, d *value) reflect.Value {
	if !d.pointer {
		return v
	}
	p := reflect.New(d.typ)
	v.Set(p)
	return p.Elem()
}

// A mismatch says what a value should have been.
type mismatch string

func (m mismatch) Error() string { return string(m) }

// setText sets a scalar from its text in a label, a query or a header.
func (d *value) setText(v reflect.Value, s string) error {
	switch d.kind {
	case text:
		v.SetString(s)
		return nil
	case boolean:
		if s != "true" && s != "false" {
			return mismatch(wanted[boolean])
		}
		v.SetBool(s == "true")
		return nil
	default:
		return d.setNumber(v, s, false)
	}
}

// setNumber sets a number of any kind. Whole numbers may be written as 1.0 or 1e3 if the text is JSON; in a query they are
// plain decimal digits.
func (d *value) setNumber(v reflect.Value, s string, isJSON bool) error {
	bits := d.typ.Bits()
	switch d.kind {
	case integer:
		n, err := strconv.ParseInt(s, 10, bits)
		if f, ok := whole(s); err != nil && isJSON && ok {
			n, err = int64(f), nil
		}
		if err != nil || s[0] == '+' || v.OverflowInt(n) {
			return d.outOf(bits)
		}
		v.SetInt(n)
	case unsigned:
		n, err := strconv.ParseUint(s, 10, bits)
		if f, ok := whole(s); err != nil && isJSON && ok && f >= 0 {
			n, err = uint64(f), nil
		}
		if err != nil || v.OverflowUint(n) {
			return d.outOf(bits)
		}
		v.SetUint(n)
	default:
		f, err := strconv.ParseFloat(s, bits)
		if err != nil || f-f != 0 || strings.ContainsAny(s, "xX_") { // f-f is not 0 for NaN and infinities
			return mismatch(wanted[number])
		}
		v.SetFloat(f)
	}
	return nil
}

// outOf names the integers that fit in so many bits.
func (d *value) outOf(bits int) error {
	return mismatch(fmt.Sprintf("%s of at most %d bits", wanted[d.kind], bits))
}

// whole reads a number with a point or an exponent that is an integer all the same. Beyond 2⁵³ such a text is not exact.
func whole(s string) (float64, bool) {
	const exact = 1 << 53
	if !strings.ContainsAny(s, ".eE") {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil && f == math.Trunc(f) && math.Abs(f) <= exact
}
