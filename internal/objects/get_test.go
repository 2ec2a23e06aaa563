package objects

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestParseRange(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]span{
		"bytes=0-0": {0, 1}, "bytes=0-": {0, 10}, "bytes=3-5": {3, 3}, "bytes=3-99": {3, 7}, "bytes=9-9": {9, 1}, "bytes=-3": {7, 3}, "bytes=-99": {0, 10},
		"bytes=2-99999999999999999999": {2, 8}, "bytes=-99999999999999999999": {0, 10},
	} {
		if got, ok, err := parseRange(header, 10); got != want || !ok || err != nil {
			t.Errorf("%s: %v, %t, %v", header, got, ok, err)
		}
	}
	for _, header := range []string{"", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-3", "bytes=0-1,3-4", "items=0-1", "bytes=+1-2", "bytes=1-+2", "bytes=--1", "bytes=0x1-2", "BYTES=0-1"} {
		if got, ok, err := parseRange(header, 10); ok || err != nil {
			t.Errorf("%s: %v, %t, %v", header, got, ok, err)
		}
	}
	for _, header := range []string{"bytes=10-", "bytes=10-11", "bytes=-0", "bytes=99999999999999999999-"} {
		if got, ok, err := parseRange(header, 10); ok || err == nil {
			t.Errorf("%s: %v, %t, %v", header, got, ok, err)
		}
	}
	for _, header := range []string{"bytes=0-0", "bytes=0-", "bytes=-1"} {
		if got, ok, err := parseRange(header, 0); ok || err == nil {
			t.Errorf("of nothing, %s: %v, %t, %v", header, got, ok, err)
		}
	}
}

func FuzzParseRange(f *testing.F) {
	f.Add("bytes=0-5", int64(10))
	f.Add("bytes=-5", int64(3))
	f.Add("bytes=9223372036854775807-9223372036854775808", int64(1<<62))
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size < 0 {
			return
		}
		s, ok, err := parseRange(header, size)
		if ok && (err != nil || s.start < 0 || s.length <= 0 || s.start > size-s.length) {
			t.Errorf("%q of %d: %+v, %v", header, size, s, err)
		}
	})
}

func TestConditions(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 600e6, time.UTC)
	m := Meta{ETag: "abc", Modified: at}
	same, before, after := httpTime(at), httpTime(at.Add(-time.Second)), httpTime(at.Add(time.Second))
	for text, want := range map[string]error{
		"":                               nil,
		`If-Match: "abc"`:                nil,
		`If-Match: abc`:                  nil, // some clients leave the quotes out
		`If-Match: *`:                    nil,
		`If-Match: "x", "abc"`:           nil,
		`If-Match: "x"`:                  errPrecondition,
		`If-None-Match: "abc"`:           errNotModified,
		`If-None-Match: *`:               errNotModified,
		`If-None-Match: W/"abc"`:         errNotModified,
		`If-None-Match: "x"`:             nil,
		"If-Modified-Since: " + same:     errNotModified,
		"If-Modified-Since: " + after:    errNotModified,
		"If-Modified-Since: " + before:   nil,
		"If-Modified-Since: never":       nil,
		"If-Unmodified-Since: " + same:   nil,
		"If-Unmodified-Since: " + before: errPrecondition,
		// The entity tags have the last word.
		"If-None-Match: \"x\"|If-Modified-Since: " + same:  nil,
		"If-Match: \"abc\"|If-Unmodified-Since: " + before: nil,
		"If-Match: \"abc\"|If-None-Match: \"abc\"":         errNotModified,
	} {
		h := http.Header{}
		for line := range strings.SplitSeq(text, "|") {
			if name, value, ok := strings.Cut(line, ": "); ok {
				h.Set(name, value)
			}
		}
		if got := checkConditions(h, "", m, errNotModified); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}
