package auth

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// canonicalRequest is the text whose hash is signed, for the headers in the order given.
// Every name in signedHeaders must be present in r.
func canonicalRequest(r *http.Request, service string, signedHeaders []string, bodyHash string) string {
	var b strings.Builder
	b.Grow(512)
	b.WriteString(r.Method)
	b.WriteByte('\n')
	b.WriteString(canonicalPath(r.URL, service))
	b.WriteByte('\n')
	b.WriteString(canonicalQuery(r.URL.RawQuery))
	b.WriteByte('\n')
	for _, name := range signedHeaders {
		b.WriteString(name)
		b.WriteByte(':')
		values, _ := headerValues(r, name)
		for i, v := range values {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(collapseSpaces(v))
		}
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	b.WriteString(strings.Join(signedHeaders, ";"))
	b.WriteByte('\n')
	b.WriteString(bodyHash)
	return b.String()
}

// canonicalPath is the path as received, which is encoded already, encoded once more: %3A
// becomes %253A and a literal $ becomes %24. Of S3 alone it is the path decoded and encoded
// in the one way that AWS allows, because there the decoded path is what a request means.
func canonicalPath(u *url.URL, service string) string {
	if service == s3Service {
		return cmp.Or(escape(u.Path, '/'), "/")
	}
	path := u.EscapedPath()
	if raw, err := url.PathUnescape(u.RawPath); err == nil && u.RawPath != "" && raw == u.Path {
		path = u.RawPath // EscapedPath encodes what a client should have encoded, such as é
	}
	if path == "" {
		return "/"
	}
	return escape(path, '/')
}

// canonicalQuery decodes the parameters, encodes them in the one way that AWS allows and
// sorts them by name, then by value. What cannot be decoded stands for itself.
func canonicalQuery(raw string) string {
	if raw == "" {
		return ""
	}
	type parameter struct{ name, value string }
	var list []parameter
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		if name == "X-Amz-Signature" { // a signature does not sign itself
			continue
		}
		list = append(list, parameter{reescape(name), reescape(value)})
	}
	slices.SortFunc(list, func(a, b parameter) int {
		return cmp.Or(strings.Compare(a.name, b.name), strings.Compare(a.value, b.value))
	})
	var b strings.Builder
	for i, p := range list {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(p.name)
		b.WriteByte('=')
		b.WriteString(p.value)
	}
	return b.String()
}

func reescape(s string) string {
	if decoded, err := url.QueryUnescape(s); err == nil {
		s = decoded
	}
	return escape(s, 0)
}

// escape percent-encodes every byte of s but the unreserved ones of RFC 3986 and keep.
func escape(s string, keep byte) string {
	const digits = "0123456789ABCDEF"
	plain := func(c byte) bool {
		return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
			c == '-' || c == '.' || c == '_' || c == '~' || c == keep && keep != 0
	}
	extra := 0
	for i := range len(s) {
		if !plain(s[i]) {
			extra += 2
		}
	}
	if extra == 0 {
		return s
	}
	b := make([]byte, 0, len(s)+extra)
	for i := range len(s) {
		if c := s[i]; plain(c) {
			b = append(b, c)
		} else {
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return string(b)
}

// headerValues returns the values of the header with the lower-case name, and whether the
// request has it. net/http keeps some headers outside of the map.
func headerValues(r *http.Request, name string) ([]string, bool) {
	if name == "host" {
		return []string{r.Host}, r.Host != ""
	}
	if values := r.Header.Values(name); len(values) > 0 {
		return values, true
	}
	switch {
	case name == "content-length" && r.ContentLength >= 0:
		return []string{strconv.FormatInt(r.ContentLength, 10)}, true
	case name == "transfer-encoding" && len(r.TransferEncoding) > 0:
		return r.TransferEncoding, true
	}
	return nil, false
}

// collapseSpaces trims s and makes every run of spaces one space.
func collapseSpaces(s string) string {
	s = strings.Trim(s, " \t")
	if !strings.Contains(s, "  ") {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := range len(s) {
		if s[i] == ' ' && s[i-1] == ' ' { // s does not begin with a space
			continue
		}
		b = append(b, s[i])
	}
	return string(b)
}
