package iot

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Authorizer is a custom authorizer: who asks a function of the operator's whether a client may
// connect, and what it may do (identity spec §6).
type Authorizer struct {
	Seq             int64 // order of creation
	Name            string
	Function        string            // ARN, or URL, of what is asked
	TokenKey        string            // name of the header, query or user name parameter with the token; "" for none
	Keys            map[string]string // public keys in PEM by name, any of which verifies a token
	Active          bool
	SigningDisabled bool
	CacheHTTP       bool // an answer holds for further requests on the same connection
	CreatedAt       Time
	ModifiedAt      Time
}

// NewAuthorizer is what CreateAuthorizer asks for.
type NewAuthorizer struct {
	Authorizer
	Tags  []Tag
	Actor string
}

// AuthorizerUpdate is what UpdateAuthorizer asks for; zero fields stay as they are.
type AuthorizerUpdate struct {
	Name      string
	Function  string
	TokenKey  string
	Keys      map[string]string
	Active    *bool
	CacheHTTP *bool
	Actor     string
}

// AuthorizerQuery narrows and orders a list of authorizers; a nil Active does not narrow.
type AuthorizerQuery struct {
	Active    *bool
	Ascending bool // the oldest first
}

// Check returns an InvalidRequest error for a definition that cannot work: signing without a
// token or without keys, a key that is none, a function that is named in no form that is known.
func (a *Authorizer) Check() error {
	if !strings.HasPrefix(a.Function, "arn:") && !strings.HasPrefix(a.Function, "https://") {
		return Invalid("authorizerFunctionArn", a.Function, "Member must be the ARN of a function or a URL that begins with https://")
	}
	if !a.SigningDisabled {
		if a.TokenKey == "" {
			return Invalid("tokenKeyName", nil, "Member must not be null unless signing is disabled")
		}
		if len(a.Keys) == 0 {
			return Invalid("tokenSigningPublicKeys", nil, "Member must not be null or empty unless signing is disabled")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(a.Keys)) {
		if _, err := tokenKey(a.Keys[name]); err != nil {
			return Errorf(InvalidRequest, "tokenSigningPublicKeys.%s: %s", name, err.Error())
		}
	}
	return nil
}

// Verified reports whether one of the authorizer's keys signed the token (identity spec §6.3). The
// signature is in base64.
func (a *Authorizer) Verified(token, signature string) bool {
	sig, err := base64.StdEncoding.DecodeString(signature)
	if err != nil || token == "" {
		return false
	}
	hash := sha256.Sum256([]byte(token))
	for _, text := range a.Keys {
		key, err := tokenKey(text)
		if err != nil {
			continue
		}
		switch key := key.(type) {
		case *rsa.PublicKey:
			if rsa.VerifyPKCS1v15(key, crypto.SHA256, hash[:], sig) == nil {
				return true
			}
		case *ecdsa.PublicKey:
			if ecdsa.VerifyASN1(key, hash[:], sig) {
				return true
			}
		}
	}
	return false
}

// tokenKey reads a public key: RSA of at least 2048 bits, or of an elliptic curve.
func tokenKey(text string) (crypto.PublicKey, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "PUBLIC KEY" || strings.TrimSpace(string(rest)) != "" {
		return nil, Errorf(InvalidRequest, "not one public key in PEM form (BEGIN PUBLIC KEY)")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, Errorf(InvalidRequest, "the public key cannot be read")
	}
	switch key := key.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() < 2048 {
			return nil, Errorf(InvalidRequest, "an RSA key needs at least 2048 bits, this one has %d", key.N.BitLen())
		}
	case *ecdsa.PublicKey:
	default:
		return nil, Errorf(InvalidRequest, "the public key must be of the type RSA or ECDSA")
	}
	return key, nil
}

// AuthorizerEvent is what an authorizer's function is told (identity spec §6.4). What does not
// apply is left out.
type AuthorizerEvent struct {
	Token             string              `json:"token,omitempty"`
	SignatureVerified bool                `json:"signatureVerified"`
	Protocols         []string            `json:"protocols"`
	ProtocolData      *ProtocolData       `json:"protocolData,omitempty"`
	Connection        *ConnectionMetadata `json:"connectionMetadata,omitempty"`
}

// ProtocolData is what a client said on each level of its connection.
type ProtocolData struct {
	TLS  *TLSData  `json:"tls,omitempty"`
	HTTP *HTTPData `json:"http,omitempty"`
	MQTT *MQTTData `json:"mqtt,omitempty"`
}

// TLSData is what a client said in its TLS handshake.
type TLSData struct {
	ServerName     string `json:"serverName,omitempty"`
	CertificatePEM string `json:"x509CertificatePem,omitempty"`
	PrincipalID    string `json:"principalId,omitempty"` // the certificate's id
}

// HTTPData is what a client said in an HTTP request. Query begins with a question mark.
type HTTPData struct {
	Headers map[string]string `json:"headers,omitempty"`
	Query   string            `json:"queryString,omitempty"`
}

// MQTTData is what a client said in its CONNECT. Username is all of it, with its query.
type MQTTData struct {
	Username string `json:"username,omitempty"`
	Password []byte `json:"password,omitempty"` // base64 in JSON
	ClientID string `json:"clientId,omitempty"`
}

// ConnectionMetadata names the connection.
type ConnectionMetadata struct {
	ID string `json:"id"`
}

// AuthorizerAnswer is what an authorizer's function decided (identity spec §6.5).
type AuthorizerAnswer struct {
	Authenticated bool
	Principal     string
	Policies      []string      // documents
	Disconnect    time.Duration // after so long the connection ends; 0 = never
	Refresh       time.Duration // after so long the function is asked again; 0 = never
}

// Limits of an answer (identity spec §6.5).
const (
	maxAnswerPolicies = 10
	maxAnswerPolicy   = 2048 // characters
	maxPrincipal      = 128
	minAnswerSeconds  = 300
	maxAnswerSeconds  = 86400
)

// ParseAuthorizerAnswer reads the answer of a function. certificate is the principalId that the
// function was told, "" for none: then it must be the answer's too. InvalidResponse, which says
// what is wrong, for everything else than an answer in all its parts; members that are not known
// are ignored.
func ParseAuthorizerAnswer(body []byte, certificate string) (AuthorizerAnswer, error) {
	var in struct {
		Authenticated *bool             `json:"isAuthenticated"`
		Principal     string            `json:"principalId"`
		Policies      []json.RawMessage `json:"policyDocuments"`
		Disconnect    *int64            `json:"disconnectAfterInSeconds"`
		Refresh       *int64            `json:"refreshAfterInSeconds"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return AuthorizerAnswer{}, Errorf(InvalidResponse, "The answer of the function is not the JSON that is expected: %s", jsonProblem(err))
	}
	if in.Authenticated == nil {
		return AuthorizerAnswer{}, Errorf(InvalidResponse, "The answer of the function has no isAuthenticated")
	}
	if !*in.Authenticated {
		return AuthorizerAnswer{}, nil
	}
	a := AuthorizerAnswer{Authenticated: true, Principal: in.Principal}
	switch {
	case len(in.Principal) == 0 || len(in.Principal) > maxPrincipal || !spelledWith(in.Principal, ""):
		return a, Errorf(InvalidResponse, "principalId must have 1 to %d characters of [a-zA-Z0-9]", maxPrincipal)
	case certificate != "" && in.Principal != certificate:
		return a, Errorf(InvalidResponse, "principalId is not that of the client's certificate")
	case len(in.Policies) == 0 && certificate == "":
		return a, Errorf(InvalidResponse, "policyDocuments has no document")
	case len(in.Policies) > maxAnswerPolicies:
		return a, Errorf(InvalidResponse, "policyDocuments has %d documents; the limit is %d", len(in.Policies), maxAnswerPolicies)
	}
	for i, raw := range in.Policies {
		document, ok := policyText(raw)
		if !ok {
			return a, Errorf(InvalidResponse, "policyDocuments[%d] is neither an object nor JSON in a string", i)
		}
		if n := utf8.RuneCountInString(document); n > maxAnswerPolicy {
			return a, Errorf(InvalidResponse, "policyDocuments[%d] has %d characters; the limit is %d", i, n, maxAnswerPolicy)
		}
		a.Policies = append(a.Policies, document)
	}
	for _, v := range []struct {
		name  string
		given *int64
		to    *time.Duration
	}{{"disconnectAfterInSeconds", in.Disconnect, &a.Disconnect}, {"refreshAfterInSeconds", in.Refresh, &a.Refresh}} {
		if v.given == nil {
			continue
		}
		if *v.given < minAnswerSeconds || *v.given > maxAnswerSeconds {
			return a, Errorf(InvalidResponse, "%s is %d; it must be %d to %d", v.name, *v.given, minAnswerSeconds, maxAnswerSeconds)
		}
		*v.to = time.Duration(*v.given) * time.Second
	}
	return a, nil
}

// policyText returns a document that came as an object, or as text that holds one.
func policyText(raw json.RawMessage) (string, bool) {
	raw = bytes.TrimSpace(raw)
	if len(raw) > 0 && raw[0] == '{' {
		return string(raw), true
	}
	var text string
	if json.Unmarshal(raw, &text) != nil {
		return "", false
	}
	return text, strings.HasPrefix(strings.TrimSpace(text), "{") && json.Valid([]byte(text))
}

// jsonProblem says what is wrong with JSON, without its text.
func jsonProblem(err error) string {
	if e, ok := err.(*json.UnmarshalTypeError); ok {
		return e.Field + " is a " + e.Value
	}
	return "not valid JSON"
}

// AuthorizerTest is what TestInvokeAuthorizer asks for. Nil parts are not told to the function.
type AuthorizerTest struct {
	Name      string
	Token     string
	Signature string
	TLS       *TLSData
	HTTP      *HTTPData
	MQTT      *MQTTData
}

// AuthorizerEventData is the Data of the records about an authorizer.
type AuthorizerEventData struct {
	Name    string `json:"name"`
	Active  bool   `json:"active"`
	Default bool   `json:"default,omitempty"`
}
