package auth

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// The codes of an [Error] of [Verifier.VerifyS3], in S3's words, which are others than
// those of the rest of AWS.
const (
	CodeS3AccessDenied      = "AccessDenied"                      // not signed, expired, or an x-amz-… header that is not signed
	CodeS3HeaderMalformed   = "AuthorizationHeaderMalformed"      // the Authorization header, or its scope
	CodeS3QueryMalformed    = "AuthorizationQueryParametersError" // the X-Amz-… parameters
	CodeS3InvalidToken      = "InvalidToken"                      // there are no session tokens
	CodeS3InvalidRequest    = "InvalidRequest"                    // a form of signature that is not spoken here
	CodeS3InvalidArgument   = "InvalidArgument"                   // two signatures, or a header that cannot be
	CodeS3SignatureMismatch = "SignatureDoesNotMatch"             // of the request, a chunk or the trailer; also for want of the key
	CodeS3SlowDown          = "SlowDown"                          // too many failures from where it comes
	CodeS3TimeTooSkewed     = "RequestTimeTooSkewed"              // the clocks differ by more than 15 minutes
	CodeS3ContentMismatch   = "XAmzContentSHA256Mismatch"         // the body is not what was signed
	CodeS3IncompleteBody    = "IncompleteBody"                    // the body ended early, or is no aws-chunked one
	CodeS3MissingLength     = "MissingContentLength"              // an aws-chunked body that does not say how long it is
)

const (
	s3Service                = "s3"
	defaultS3Skew            = 15 * time.Minute
	streamingUnsignedTrailer = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
	streamingSigned          = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	streamingSignedTrailer   = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
)

func s3Error(code string, status int, format string, args ...any) *Error {
	return &Error{code, status, fmt.Sprintf(format, args...)}
}

// IsS3 reports whether r is signed for S3: in its header or its query, in any version of
// AWS's signatures. It verifies nothing.
func IsS3(r *http.Request) bool {
	if h := r.Header.Get("Authorization"); h != "" {
		if strings.HasPrefix(h, "AWS ") { // version 2, which S3 alone has known
			return true
		}
		_, credential, _ := strings.Cut(h, "Credential=")
		credential, _, _ = strings.Cut(credential, ",")
		return ofS3(strings.TrimSpace(credential))
	}
	signed := false
	for pair := range strings.SplitSeq(r.URL.RawQuery, "&") {
		name, value, _ := strings.Cut(pair, "=")
		switch name {
		case "X-Amz-Credential":
			credential, err := url.QueryUnescape(value)
			return err != nil || ofS3(credential)
		case "X-Amz-Algorithm", "X-Amz-Signature", "AWSAccessKeyId":
			signed = true // what is left of a URL that was cut off is S3's, too
		}
	}
	return signed
}

func ofS3(credential string) bool {
	parts := strings.Split(credential, "/")
	return len(parts) >= 2 && parts[len(parts)-2] == s3Service
}

// VerifyS3 checks the signature of a request for S3 and returns whose it is. It takes the
// header form and the query form (a presigned URL), and accepts no other service.
//
// The body is left unread. On success r.Body gives the payload, decoded if it came as
// aws-chunked, and r.ContentLength is its length. It ends with an *[Error] instead of
// [io.EOF] if the payload is not what was signed: hash, signatures of chunks, signature of
// the trailer, length. So whoever keeps the payload keeps it only after io.EOF. Then
// r.Trailer holds what an aws-chunked body had behind it, and nothing before.
//
// The error is always an *[Error] with one of the CodeS3 constants. Skew, unless it is
// set, is 15 minutes for both forms; a presigned URL is good for at most 7 days.
func (v *Verifier) VerifyS3(r *http.Request) (Identity, error) {
	id, refusal := v.verifyS3(r)
	if refusal != nil {
		return Identity{}, refusal
	}
	return id, nil
}

func (v *Verifier) verifyS3(r *http.Request) (Identity, *Error) {
	query := hasQuerySignature(r.URL.RawQuery)
	header := r.Header.Get("Authorization") != ""
	var a authorization
	var signedAt time.Time
	var err *Error
	switch {
	case query && header:
		return Identity{}, s3Error(CodeS3InvalidArgument, http.StatusBadRequest,
			"Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter or the Authorization header should be specified")
	case query:
		a, signedAt, err = v.s3Query(r)
	case header:
		a, signedAt, err = v.s3Header(r)
	case hasParameter(r.URL.RawQuery, "AWSAccessKeyId"):
		err = unsupportedVersion()
	default:
		err = s3Error(CodeS3AccessDenied, http.StatusForbidden, "Access Denied")
	}
	if err != nil {
		return Identity{}, err
	}
	if r.Header.Get("X-Amz-Security-Token") != "" || hasParameter(r.URL.RawQuery, "X-Amz-Security-Token") {
		return Identity{}, s3Error(CodeS3InvalidToken, http.StatusBadRequest,
			"The provided token is malformed or otherwise invalid: there are no temporary credentials here. "+
				"Use an access key without a session token (unset AWS_SESSION_TOKEN).")
	}
	if err := checkSignedHeaders(r, a.signedHeaders); err != nil {
		if err.Code == CodeAccessDenied {
			return Identity{}, s3Error(CodeS3AccessDenied, http.StatusForbidden, "%s", err.Message)
		}
		return Identity{}, s3Error(malformed(query), http.StatusBadRequest, "%s", err.Message)
	}
	content, err := s3Content(r, query)
	if err != nil {
		return Identity{}, err
	}

	if !v.may(r, a.accessKeyID) {
		return Identity{}, s3Error(CodeS3SlowDown, http.StatusServiceUnavailable, tooManyFailures)
	}
	owner := v.ownerOf(a)
	signer := chunkSigner{key: owner.key, at: signedAt.Format(timeFormat), scope: a.scope.String()}
	canonical := sha256.Sum256([]byte(canonicalRequest(r, s3Service, a.signedHeaders, content)))
	expected := signer.sign(algorithm, hex.EncodeToString(canonical[:]))
	holds := subtle.ConstantTimeCompare(expected[:], a.signature[:]) == 1
	if !v.proved(r, owner, holds) {
		return Identity{}, mismatch("request")
	}
	signer.previous = hex.EncodeToString(a.signature[:])
	if err := openPayload(r, content, signer); err != nil {
		return Identity{}, err
	}
	return Identity{Principal: Principal{AccessKeyID: a.accessKeyID}, Service: s3Service, Region: a.scope.region}, nil
}

func mismatch(of string) *Error {
	return s3Error(CodeS3SignatureMismatch, http.StatusForbidden,
		"The %s signature we calculated does not match the signature you provided. Check your key and signing method.", of)
}

func unsupportedVersion() *Error {
	return s3Error(CodeS3InvalidRequest, http.StatusBadRequest,
		"The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.")
}

func malformed(query bool) string {
	if query {
		return CodeS3QueryMalformed
	}
	return CodeS3HeaderMalformed
}

// s3Header reads the header form.
func (v *Verifier) s3Header(r *http.Request) (a authorization, signedAt time.Time, err *Error) {
	values := r.Header.Values("Authorization")
	if len(values) > 1 {
		return a, signedAt, s3Error(CodeS3InvalidArgument, http.StatusBadRequest, "The request has %d Authorization headers.", len(values))
	}
	if !strings.HasPrefix(strings.TrimSpace(values[0]), algorithm) {
		return a, signedAt, unsupportedVersion()
	}
	if a, err = parseAuthorization(values[0]); err != nil {
		return a, signedAt, s3Error(CodeS3HeaderMalformed, http.StatusBadRequest, "The authorization header is malformed; %s", err.Message)
	}
	if signedAt, err = requestTime(r); err != nil {
		return a, signedAt, s3Error(CodeS3AccessDenied, http.StatusForbidden, "AWS authentication requires a valid Date or x-amz-date header")
	}
	if err := v.s3Scope(a.scope, signedAt, false); err != nil {
		return a, signedAt, err
	}
	now := v.now()
	if skew := cmp.Or(v.Skew, defaultS3Skew); signedAt.Before(now.Add(-skew)) || signedAt.After(now.Add(skew)) {
		return a, signedAt, s3Error(CodeS3TimeTooSkewed, http.StatusForbidden,
			"The difference between the request time and the current time is too large: %s, here it is %s, at most %s apart.",
			signedAt.Format(timeFormat), now.Format(timeFormat), minutes(skew))
	}
	return a, signedAt, nil
}

// s3Query reads the query form.
func (v *Verifier) s3Query(r *http.Request) (a authorization, signedAt time.Time, err *Error) {
	p, problem := parsePresigned(r.URL.RawQuery)
	if problem == "" && p.expires < 0 {
		problem = "X-Amz-Expires is missing"
	}
	if problem != "" {
		return a, signedAt, s3Error(CodeS3QueryMalformed, http.StatusBadRequest, "%s", problem)
	}
	if err := v.s3Scope(p.scope, p.at, true); err != nil {
		return a, signedAt, err
	}
	now := v.now()
	if p.at.After(now.Add(cmp.Or(v.Skew, defaultS3Skew))) {
		return a, signedAt, s3Error(CodeS3AccessDenied, http.StatusForbidden, "Request is not valid yet: it begins at %s, here it is %s",
			p.at.Format(timeFormat), now.Format(timeFormat))
	}
	if until := p.at.Add(p.expires); now.After(until) {
		return a, signedAt, s3Error(CodeS3AccessDenied, http.StatusForbidden, "Request has expired: it was good until %s, here it is %s",
			until.Format(timeFormat), now.Format(timeFormat))
	}
	return p.authorization, p.at, nil
}

func (v *Verifier) s3Scope(s scope, signedAt time.Time, query bool) *Error {
	switch {
	case s.date != signedAt.Format(dateFormat):
		return s3Error(malformed(query), http.StatusBadRequest, "Invalid credential date %q: it is not that of the request, %s", clip(s.date), signedAt.Format(dateFormat))
	case v.Region != "" && s.region != v.Region:
		return s3Error(malformed(query), http.StatusBadRequest, "The credential is malformed; the region '%s' is wrong; expecting '%s'", clip(s.region), v.Region)
	case s.service != s3Service:
		return s3Error(malformed(query), http.StatusBadRequest, "The credential is malformed; incorrect service %q. This endpoint belongs to %q.", clip(s.service), s3Service)
	}
	return nil
}

func hasParameter(raw, wanted string) bool {
	for pair := range strings.SplitSeq(raw, "&") {
		if name, _, _ := strings.Cut(pair, "="); name == wanted {
			return true
		}
	}
	return false
}

// s3Content returns what the request says of its payload, as it is signed: a hash or one of
// the words that stand for one.
func s3Content(r *http.Request, query bool) (string, *Error) {
	values := r.Header.Values(contentHash)
	switch {
	case len(values) > 1:
		return "", s3Error(CodeS3InvalidArgument, http.StatusBadRequest, "The request has %d x-amz-content-sha256 headers.", len(values))
	case len(values) == 0 && query:
		return unsignedPayload, nil
	case len(values) == 0:
		return "", s3Error(CodeS3InvalidRequest, http.StatusBadRequest, "Missing required header for this request: x-amz-content-sha256")
	}
	switch content := values[0]; {
	case content == unsignedPayload, content == streamingUnsignedTrailer, content == streamingSigned, content == streamingSignedTrailer:
		return content, nil
	case len(content) == sha256.Size*2 && strings.Trim(content, "0123456789abcdef") == "":
		return content, nil
	case strings.HasPrefix(content, "STREAMING-"):
		return "", s3Error("NotImplemented", http.StatusNotImplemented, "x-amz-content-sha256: %s is not implemented", clip(content))
	}
	return "", s3Error(CodeS3InvalidArgument, http.StatusBadRequest,
		"x-amz-content-sha256 must be %s, %s, %s, %s or a valid sha256 value.", unsignedPayload, streamingUnsignedTrailer, streamingSigned, streamingSignedTrailer)
}
