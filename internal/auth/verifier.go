package auth

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	timeFormat      = "20060102T150405Z"
	dateFormat      = "20060102"
	unsignedPayload = "UNSIGNED-PAYLOAD"
	contentHash     = "X-Amz-Content-Sha256"

	defaultSkew    = 5 * time.Minute
	defaultMaxBody = 1 << 20

	// maxSigningKeys bounds the cache. A key serves one day, one region and one service,
	// so a server with few access keys never comes near.
	maxSigningKeys = 1024
)

// unknownSecret stands for the secret of a key that does not exist. A signature that is made with
// it is refused all the same.
const unknownSecret = "0000000000000000000000000000000000000000"

// emptyHash is the SHA-256 of no bytes.
const emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// Verifier verifies AWS Signature Version 4: Verify in the Authorization header, for the API,
// and VerifyS3 in header or query, for S3. Its fields must not change after the first call;
// it must not be copied; it is safe for concurrent use.
type Verifier struct {
	// Secret returns the secret access key of an access key, and whether the key is known.
	Secret func(accessKeyID string) (secret string, ok bool)

	Region   string           // the region that a scope must name; "" accepts any
	Services []string         // signing names that are accepted
	Now      func() time.Time // nil: time.Now
	Skew     time.Duration    // how far the client's clock may be off, inclusive; 0: 5 minutes, for S3 15
	MaxBody  int64            // bytes of body that are read to hash them; 0: 1 MiB
	Failures *Failures        // bounds who fails; nil: nobody is bounded

	// AllowUnsignedPayload accepts X-Amz-Content-Sha256: UNSIGNED-PAYLOAD. The signature
	// then says nothing about the body, which Verify leaves unread, whatever its length.
	AllowUnsignedPayload bool

	mu   sync.Mutex
	keys map[signingKeyID]signingKey
}

// Verify checks the signature of r and returns whose it is. On success r.Body holds the
// very bytes that were hashed, in memory. The error is always an *[Error].
func (v *Verifier) Verify(r *http.Request) (Identity, error) {
	id, refusal := v.verify(r)
	if refusal != nil {
		return Identity{}, refusal
	}
	return id, nil
}

func (v *Verifier) verify(r *http.Request) (Identity, *Error) {
	a, err := authorizationOf(r)
	if err != nil {
		return Identity{}, err
	}
	signedAt, err := requestTime(r)
	if err != nil {
		return Identity{}, err
	}
	if err := v.checkScope(a.scope, signedAt); err != nil {
		return Identity{}, err
	}
	if err := v.checkSkew(signedAt); err != nil {
		return Identity{}, err
	}
	if err := checkSignedHeaders(r, a.signedHeaders); err != nil {
		return Identity{}, err
	}
	if !v.may(r, a.accessKeyID) {
		status := http.StatusTooManyRequests
		if a.scope.service != "iotdata" && a.scope.service != "iot-jobs-data" {
			status = http.StatusBadRequest // of the API, as AWS has it
		}
		return Identity{}, &Error{CodeThrottling, status, tooManyFailures}
	}
	owner := v.ownerOf(a)

	// A client that says the hash of its body is checked before the body is read.
	claimed, err := v.claimedHash(r)
	if err != nil {
		return Identity{}, err
	}
	bodyHash := claimed
	if claimed == "" {
		if bodyHash, err = v.hashBody(r); err != nil {
			return Identity{}, err
		}
	}
	canonical := sha256.Sum256([]byte(canonicalRequest(r, a.scope.service, a.signedHeaders, bodyHash)))
	stringToSign := algorithm + "\n" + signedAt.Format(timeFormat) + "\n" + a.scope.String() + "\n" + hex.EncodeToString(canonical[:])
	expected := sum(owner.key[:], stringToSign)
	holds := subtle.ConstantTimeCompare(expected[:], a.signature[:]) == 1
	if !v.proved(r, owner, holds) {
		return Identity{}, invalid("The request signature we calculated does not match the signature you provided. " +
			"Check your AWS Access Key Id, Secret Access Key and signing method. Consult the service documentation for details.")
	}
	if claimed != "" && claimed != unsignedPayload {
		hash, err := v.hashBody(r)
		if err != nil {
			return Identity{}, err
		}
		if hash != claimed {
			return Identity{}, invalid("The provided 'x-amz-content-sha256' header does not match what was computed.")
		}
	}
	return Identity{
		Principal: Principal{AccessKeyID: a.accessKeyID},
		Service:   a.scope.service,
		Region:    a.scope.region,
	}, nil
}

// may reports whether an attempt to prove the ownership of a key is to be looked at.
func (v *Verifier) may(r *http.Request, accessKeyID string) bool {
	return v.Failures.May(BySignature, sourceAddress(r), accessKeyID)
}

// proved takes into account whether a signature held, and reports whether it proves who signed. What
// passes later is the id of the key: it is no secret, but a signature cannot be guessed however often
// somebody tries.
func (v *Verifier) proved(r *http.Request, o owner, holds bool) bool {
	if !o.cached && (holds || !o.known && v.Region != "") {
		v.keep(signingKeyID{o.secret, o.scope}, o.key)
	}
	if !o.known || !holds {
		v.Failures.Failed(BySignature, sourceAddress(r))
		return false
	}
	v.Failures.Succeeded(BySignature, sourceAddress(r), o.accessKeyID)
	return true
}

func sourceAddress(r *http.Request) netip.Addr {
	id, _ := IdentityFrom(r.Context())
	return id.Source
}

// owner is who can have made a signature.
type owner struct {
	accessKeyID string
	scope       scope
	known       bool
	secret      string
	key         signingKey
	cached      bool // it is
}

// ownerOf returns the owner of the access key. If there is no such key, everything is worked out as
// if there were: the answer is the same, and takes as long.
func (v *Verifier) ownerOf(a authorization) owner {
	o := owner{accessKeyID: a.accessKeyID, scope: a.scope}
	if v.Secret != nil {
		o.secret, o.known = v.Secret(a.accessKeyID)
	}
	if !o.known {
		o.secret = unknownSecret
	}
	if o.key, o.cached = v.cachedKey(signingKeyID{o.secret, o.scope}); !o.cached {
		o.key = deriveKey(o.secret, o.scope)
	}
	return o
}

// authorizationOf finds the signature of r and refuses the forms that are not verified here.
func authorizationOf(r *http.Request) (authorization, *Error) {
	if hasQuerySignature(r.URL.RawQuery) {
		return authorization{}, incomplete("Signatures in the query string (presigned URLs) are not accepted here: sign with the Authorization header.")
	}
	values := r.Header.Values("Authorization")
	switch {
	case len(values) == 0 || len(values) == 1 && values[0] == "":
		return authorization{}, &Error{CodeMissingToken, http.StatusForbidden, "Missing Authentication Token"}
	case len(values) > 1:
		return authorization{}, incomplete("The request has %d Authorization headers.", len(values))
	}
	if r.Header.Values("X-Amz-Security-Token") != nil {
		return authorization{}, unrecognized("The security token included in the request is invalid: " +
			"there are no temporary credentials here. Use an access key without a session token (unset AWS_SESSION_TOKEN).")
	}
	return parseAuthorization(values[0])
}

func unrecognized(message string) *Error {
	return &Error{CodeUnrecognizedClient, http.StatusForbidden, message}
}

// requestTime returns when the client says it signed: X-Amz-Date, or else Date.
func requestTime(r *http.Request) (time.Time, *Error) {
	name := "X-Amz-Date"
	values := r.Header.Values(name)
	if values == nil {
		name = "Date"
		values = r.Header.Values(name)
	}
	switch len(values) {
	case 0:
		return time.Time{}, incomplete("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
	case 1:
	default:
		return time.Time{}, incomplete("The request has %d '%s' headers.", len(values), name)
	}
	t, err := time.Parse(timeFormat, values[0])
	if err == nil && t.Format(timeFormat) != values[0] {
		err = errors.New("not whole seconds") // Parse lets a fraction pass; the signed text has none
	}
	if err != nil && name == "Date" {
		t, err = http.ParseTime(values[0])
	}
	if err != nil {
		return time.Time{}, incomplete("Date must be in ISO-8601 'basic format'. Got '%s' in '%s'.", clip(values[0]), name)
	}
	return t.UTC(), nil
}

func (v *Verifier) checkScope(s scope, signedAt time.Time) *Error {
	if date := signedAt.Format(dateFormat); s.date != date {
		return invalid("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%s' != '%s', from '%s'.",
			clip(s.date), date, signedAt.Format(timeFormat))
	}
	if v.Region != "" && s.region != v.Region {
		return invalid("Credential should be scoped to a valid region, not '%s'. The region here is '%s'.", clip(s.region), v.Region)
	}
	if !slices.Contains(v.Services, s.service) {
		return invalid("Credential should be scoped to correct service: '%s'.", strings.Join(v.Services, "', '"))
	}
	return nil
}

// now is the time, UTC.
func (v *Verifier) now() time.Time {
	now := time.Now
	if v.Now != nil {
		now = v.Now
	}
	return now().UTC()
}

func (v *Verifier) checkSkew(signedAt time.Time) *Error {
	skew := cmp.Or(v.Skew, defaultSkew)
	// A signature has whole seconds. Without this, one of just now would lie up to a second in the past.
	at := v.now().Truncate(time.Second)
	if oldest := at.Add(-skew); signedAt.Before(oldest) {
		return invalid("Signature expired: %s is now earlier than %s (%s - %s.)",
			signedAt.Format(timeFormat), oldest.Format(timeFormat), at.Format(timeFormat), minutes(skew))
	}
	if newest := at.Add(skew); signedAt.After(newest) {
		return invalid("Signature not yet current: %s is still later than %s (%s + %s.)",
			signedAt.Format(timeFormat), newest.Format(timeFormat), at.Format(timeFormat), minutes(skew))
	}
	return nil
}

// minutes writes a skew as AWS does: "5 min".
func minutes(d time.Duration) string {
	if d%time.Minute != 0 {
		return d.String()
	}
	return fmt.Sprintf("%d min", d/time.Minute)
}

// checkSignedHeaders makes sure that the request has what is said to be signed, and that
// host and everything that is addressed to AWS (x-amz-*) is signed.
func checkSignedHeaders(r *http.Request, signed []string) *Error {
	if !slices.Contains(signed, "host") {
		return invalid("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
	}
	for _, name := range signed {
		if _, ok := headerValues(r, name); !ok {
			return invalid("The header '%s' is a 'SignedHeader' in the AWS Authorization and not in the request.", clip(name))
		}
	}
	var unsigned []string
	for name := range r.Header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-amz-") && !slices.Contains(signed, name) {
			unsigned = append(unsigned, name)
		}
	}
	if unsigned != nil {
		slices.Sort(unsigned)
		return &Error{CodeAccessDenied, http.StatusForbidden,
			"There were headers present in the request which were not signed: " + clip(strings.Join(unsigned, ", "))}
	}
	return nil
}

// claimedHash returns what X-Amz-Content-Sha256 says, "" if the client does not send it.
func (v *Verifier) claimedHash(r *http.Request) (string, *Error) {
	values := r.Header.Values(contentHash)
	if values == nil {
		return "", nil
	}
	if len(values) > 1 {
		return "", incomplete("The request has %d 'x-amz-content-sha256' headers.", len(values))
	}
	hash := values[0]
	if hash == unsignedPayload {
		if !v.AllowUnsignedPayload {
			return "", invalid("The body must be signed: x-amz-content-sha256 must not be %s.", unsignedPayload)
		}
		return hash, nil
	}
	if len(hash) != sha256.Size*2 || strings.Trim(hash, "0123456789abcdef") != "" {
		return "", invalid("x-amz-content-sha256 must be the SHA-256 of the body as 64 lower-case hexadecimal digits, not '%s'.", clip(hash))
	}
	return hash, nil
}

// hashBody reads the body, puts what it read in its place, and returns its SHA-256.
func (v *Verifier) hashBody(r *http.Request) (string, *Error) {
	if r.Body == nil || r.Body == http.NoBody {
		return emptyHash, nil
	}
	limit := cmp.Or(v.MaxBody, defaultMaxBody)
	tooLarge := &Error{CodeEntityTooLarge, http.StatusRequestEntityTooLarge,
		fmt.Sprintf("The request body must not be longer than %d bytes.", limit)}
	if r.ContentLength > limit {
		return "", tooLarge
	}
	var body bytes.Buffer
	if r.ContentLength > 0 {
		// A length is a claim: what arrives makes room for more than this.
		body.Grow(int(min(r.ContentLength, 64<<10)) + bytes.MinRead) // MinRead: or ReadFrom grows it again to see the end
	}
	_, err := body.ReadFrom(io.LimitReader(r.Body, limit+1))
	if err == nil {
		err = r.Body.Close()
	}
	if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) || int64(body.Len()) > limit {
		return "", tooLarge
	}
	if err != nil {
		return "", &Error{CodeIncompleteBody, http.StatusBadRequest, "The request body could not be read to its end."}
	}
	r.Body = io.NopCloser(bytes.NewReader(body.Bytes()))
	hash := sha256.Sum256(body.Bytes())
	return hex.EncodeToString(hash[:]), nil
}

type signingKey [sha256.Size]byte

// signingKeyID holds the secret itself, so that a secret that was replaced is never found.
type signingKeyID struct {
	secret string
	scope  scope
}

func deriveKey(secret string, s scope) signingKey {
	key := sum([]byte("AWS4"+secret), s.date)
	key = sum(key[:], s.region)
	key = sum(key[:], s.service)
	return sum(key[:], "aws4_request")
}

func sum(key []byte, data string) (mac [sha256.Size]byte) {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(data))
	h.Sum(mac[:0])
	return mac
}

func (v *Verifier) cachedKey(id signingKeyID) (signingKey, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	key, ok := v.keys[id]
	return key, ok
}

// keep remembers a key. Those of signatures that did not hold could fill the cache at will.
func (v *Verifier) keep(id signingKeyID, key signingKey) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.keys == nil || len(v.keys) >= maxSigningKeys {
		v.keys = make(map[signingKeyID]signingKey)
	}
	v.keys[id] = key
}
