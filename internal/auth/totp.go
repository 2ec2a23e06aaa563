package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// One-time codes are those of RFC 6238 as all authenticators take them: HMAC-SHA-1, six digits, 30 s.
const (
	codePeriod = 30 // seconds
	codeDigits = 6
	codeWindow = 1 // steps before and after, for clocks that differ
	totpKey    = 20
)

// NewTOTP makes a key of one-time codes.
func NewTOTP() []byte {
	key := make([]byte, totpKey)
	rand.Read(key)
	return key
}

// TOTPSecret is a key as people type it into an authenticator.
func TOTPSecret(key []byte) string {
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(key)
}

// TOTPURL is a key as authenticators read it.
func TOTPURL(key []byte, user string) string {
	u := url.URL{Scheme: "otpauth", Host: "totp", Path: "/drover:" + user, RawQuery: url.Values{"secret": {TOTPSecret(key)}, "issuer": {"drover"}}.Encode()}
	return u.String()
}

// codeOf is the code of a step.
func codeOf(key []byte, step int64) string {
	mac := hmac.New(sha1.New, key)
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(step)))
	sum := mac.Sum(nil)
	at := sum[len(sum)-1] & 15
	n := binary.BigEndian.Uint32(sum[at:]) & 0x7fffffff
	return fmt.Sprintf("%0*d", codeDigits, n%1_000_000)
}

// stepOf returns the step whose code it is, if that is now or nearly. Spaces between digits are as people type.
func stepOf(key []byte, code string, now time.Time) (step int64, ok bool) {
	code = strings.ReplaceAll(strings.TrimSpace(code), " ", "")
	current := now.Unix() / codePeriod
	for s := current - codeWindow; s <= current+codeWindow; s++ {
		if subtle.ConstantTimeCompare([]byte(codeOf(key, s)), []byte(code)) == 1 {
			step, ok = s, true
		}
	}
	return step, ok
}
