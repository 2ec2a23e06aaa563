package auth

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxPresignExpiry is how long a signature in a query can be good.
const maxPresignExpiry = 7 * 24 * time.Hour

// presigned is a signature in a query.
type presigned struct {
	authorization // without a signature, which no key makes, if that is malformed
	at            time.Time
	expires       time.Duration // after at; negative if the query does not say
}

// presignedParameters are those of a signature. All are required but X-Amz-Expires.
var presignedParameters = []string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Signature", "X-Amz-Expires"}

// parsePresigned reads the signature in a raw query, and says what is wrong with it if it cannot.
func parsePresigned(query string) (p presigned, problem string) {
	values := make(map[string]string, len(presignedParameters))
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if !slices.Contains(presignedParameters, name) {
			continue
		}
		if _, twice := values[name]; twice { // two readers of it would not agree
			return p, "The query has more than one " + name + " parameter."
		}
		decoded, err := url.QueryUnescape(value)
		if err != nil {
			return p, name + " cannot be decoded."
		}
		values[name] = decoded
	}
	for _, name := range presignedParameters[:5] {
		if values[name] == "" {
			return p, "Query-string authentication version 4 requires the " + strings.Join(presignedParameters, ", ") + " parameters."
		}
	}
	if values["X-Amz-Algorithm"] != algorithm {
		return p, fmt.Sprintf("X-Amz-Algorithm only supports %q", algorithm)
	}
	if err := p.parseCredential(values["X-Amz-Credential"]); err != nil {
		return p, "Error parsing the X-Amz-Credential parameter; " + err.Message
	}
	if err := p.parseSignedHeaders(values["X-Amz-SignedHeaders"]); err != nil {
		return p, "Error parsing the X-Amz-SignedHeaders parameter; " + err.Message
	}
	if signature, err := hex.DecodeString(values["X-Amz-Signature"]); err == nil && len(signature) == len(p.signature) {
		p.signature = [32]byte(signature)
	}
	var err error
	if p.at, err = time.Parse(timeFormat, values["X-Amz-Date"]); err != nil || p.at.Format(timeFormat) != values["X-Amz-Date"] {
		return p, "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\""
	}
	p.expires = -1
	if given, ok := values["X-Amz-Expires"]; ok {
		seconds, err := strconv.ParseUint(given, 10, 63)
		switch {
		case err != nil:
			return p, "X-Amz-Expires should be a number of seconds that is not negative"
		case seconds > uint64(maxPresignExpiry/time.Second):
			return p, fmt.Sprintf("X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than %d seconds", maxPresignExpiry/time.Second)
		}
		p.expires = time.Duration(seconds) * time.Second
	}
	return p, ""
}

// IsSigned reports whether a request carries a signature of AWS's, in any place and whether it holds or
// not.
func IsSigned(r *http.Request) bool {
	return IsPresigned(r) || strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-")
}

// IsPresigned reports whether a request carries a signature in its query, or what is left
// of one.
func IsPresigned(r *http.Request) bool { return hasQuerySignature(r.URL.RawQuery) }

func hasQuerySignature(raw string) bool {
	for pair := range strings.SplitSeq(raw, "&") {
		switch name, _, _ := strings.Cut(pair, "="); name {
		case "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature":
			return true
		}
	}
	return false
}
