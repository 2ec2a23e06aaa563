package auth

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// What is signed of a WebSocket's handshake (identity spec §8.2).
const (
	webSocketService = "iotdevicegateway"
	webSocketExpiry  = 24 * time.Hour // of a URL that does not say
)

// VerifyWebSocket checks the signature of a handshake for MQTT over WebSocket, in the query or, by
// Verify, in the header, and returns whose it is. Session tokens are not looked at, whether they were signed or,
// as AWS's clients do, appended afterwards: there are no temporary credentials. Nobody is
// told which part was wrong: the error is an *[Error] for a 403.
func (v *Verifier) VerifyWebSocket(r *http.Request) (Identity, error) {
	if !IsPresigned(r) {
		return v.Verify(r)
	}
	refused := &Error{Code: CodeAccessDenied, Status: http.StatusForbidden, Message: "Forbidden"}
	p, problem := parsePresigned(r.URL.RawQuery)
	if problem != "" || !slices.Contains(p.signedHeaders, "host") {
		return Identity{}, refused
	}
	if p.expires < 0 {
		p.expires = webSocketExpiry
	}
	a, at, now := p.authorization, p.at, v.now()
	switch {
	case at.After(now.Add(cmp.Or(v.Skew, defaultSkew))), now.After(at.Add(p.expires)):
		return Identity{}, refused
	case a.scope.date != at.Format(dateFormat), v.Region != "" && a.scope.region != v.Region,
		a.scope.service != webSocketService && a.scope.service != "iotdata":
		return Identity{}, refused
	}
	if !v.may(r, a.accessKeyID) {
		return Identity{}, refused
	}
	owner := v.ownerOf(a)
	holds := 0
	for _, host := range hostsOf(r.Host) {
		for _, query := range []string{withoutToken(r.URL.RawQuery), r.URL.RawQuery} {
			signed := &http.Request{Method: r.Method, Host: host, Header: r.Header, URL: &url.URL{Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: query}}
			canonical := sha256.Sum256([]byte(canonicalRequest(signed, a.scope.service, a.signedHeaders, emptyHash)))
			expected := sum(owner.key[:], algorithm+"\n"+at.Format(timeFormat)+"\n"+a.scope.String()+"\n"+hex.EncodeToString(canonical[:]))
			holds |= subtle.ConstantTimeCompare(expected[:], a.signature[:])
		}
	}
	if !v.proved(r, owner, holds == 1) {
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
