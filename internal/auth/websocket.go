package auth

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What is signed of a WebSocket's handshake (identity spec §8.2).
const (
	webSocketService = "iotdevicegateway"
	webSocketExpiry  = 24 * time.Hour // of a URL that does not say
)

// IsSigned reports whether a request carries a signature of AWS's, in any place and whether it holds or
// not.
func IsSigned(r *http.Request) bool {
	return IsPresigned(r) || strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-")
}

// IsPresigned reports whether a request carries a signature in its query, or what is left
// of one.
func IsPresigned(r *http.Request) bool { return hasQuerySignature(r.URL.RawQuery) }

// VerifyWebSocket checks the signature of a handshake for MQTT over WebSocket, in the query or, by
// Verify, in the header, and returns whose it is. Session tokens are not looked at, whether they were signed or,
// as AWS's clients do, appended afterwards: there are no temporary credentials. Nobody is
// told which part was wrong: the error is an *[Error] for a 403.
func (v *Verifier) VerifyWebSocket(r *http.Request) (Identity, error) {
	if !IsPresigned(r) {
		return v.Verify(r)
	}
	refused := &Error{Code: CodeAccessDenied, Status: http.StatusForbidden, Message: "Forbidden"}
	values := make(map[string]string)
	for pair := range strings.SplitSeq(r.URL.RawQuery, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if _, twice := values[name]; twice {
			return Identity{}, refused // two readers of it would not agree
		}
		decoded, err := url.QueryUnescape(value)
		if err != nil {
			return Identity{}, refused
		}
		values[name] = decoded
	}
	var a authorization
	signature, err := hex.DecodeString(values["X-Amz-Signature"])
	at, bad := time.Parse(timeFormat, values["X-Amz-Date"])
	if err != nil || bad != nil || values["X-Amz-Algorithm"] != algorithm ||
		a.parseCredential(values["X-Amz-Credential"]) != nil || a.parseSignedHeaders(values["X-Amz-SignedHeaders"]) != nil ||
		!slices.Contains(a.signedHeaders, "host") {
		return Identity{}, refused
	}
	lasts := webSocketExpiry
	if given, ok := values["X-Amz-Expires"]; ok {
		seconds, err := strconv.ParseUint(given, 10, 31)
		if err != nil || seconds < 1 || time.Duration(seconds)*time.Second > maxPresignExpiry {
			return Identity{}, refused
		}
		lasts = time.Duration(seconds) * time.Second
	}
	now := v.now()
	secret, known := v.Secret(a.accessKeyID)
	switch {
	case at.After(now.Add(cmp.Or(v.Skew, defaultSkew))), now.After(at.Add(lasts)):
		return Identity{}, refused
	case a.scope.date != at.Format(dateFormat), v.Region != "" && a.scope.region != v.Region,
		a.scope.service != webSocketService && a.scope.service != "iotdata":
		return Identity{}, refused
	}
	key := deriveKey(secret, a.scope)
	holds := 0
	for _, host := range hostsOf(r.Host) {
		for _, query := range []string{withoutToken(r.URL.RawQuery), r.URL.RawQuery} {
			signed := &http.Request{Method: r.Method, Host: host, Header: r.Header, URL: &url.URL{Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: query}}
			canonical := sha256.Sum256([]byte(canonicalRequest(signed, a.scope.service, a.signedHeaders, emptyHash)))
			expected := sum(key[:], algorithm+"\n"+at.Format(timeFormat)+"\n"+a.scope.String()+"\n"+hex.EncodeToString(canonical[:]))
			holds |= subtle.ConstantTimeCompare(expected[:], signature)
		}
	}
	if !known || holds != 1 {
		return Identity{}, refused
	}
	return Identity{Principal: Principal{AccessKeyID: a.accessKeyID}, Service: a.scope.service, Region: a.scope.region}, nil
}

// hostsOf returns what a client may have signed as its host: clients leave out the port of
// HTTPS, or do not.
func hostsOf(host string) []string {
	if bare, ok := strings.CutSuffix(host, ":443"); ok {
		return []string{host, bare}
	}
	return []string{host, host + ":443"}
}

func withoutToken(query string) string {
	pairs := strings.Split(query, "&")
	return strings.Join(slices.DeleteFunc(pairs, func(pair string) bool {
		return strings.HasPrefix(pair, "X-Amz-Security-Token=")
	}), "&")
}
