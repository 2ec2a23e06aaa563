package auth

import (
	"encoding/hex"
	"slices"
	"strings"
)

const algorithm = "AWS4-HMAC-SHA256"

// scope is a credential scope: what a signing key is good for.
type scope struct {
	date, region, service string // date is YYYYMMDD
}

func (s scope) String() string {
	return s.date + "/" + s.region + "/" + s.service + "/aws4_request"
}

// authorization is a parsed Authorization header.
type authorization struct {
	accessKeyID   string
	scope         scope
	signedHeaders []string // lower case, in the client's order, unique
	signature     [32]byte
}

// parseAuthorization reads the value of an Authorization header. The error is an
// IncompleteSignatureException that names what is missing or malformed; for a scope with
// a wrong terminator it is an InvalidSignatureException.
func parseAuthorization(value string) (authorization, *Error) {
	var a authorization
	scheme, list, _ := strings.Cut(strings.TrimSpace(value), " ")
	if scheme != algorithm {
		return a, incomplete("Unsupported AWS 'algorithm': '%s'. The Authorization header must begin with %s.", clip(scheme), algorithm)
	}

	parameters, err := splitParameters(list)
	if err != nil {
		return a, err
	}
	var missing []string
	for _, name := range []string{"Credential", "SignedHeaders", "Signature"} {
		if parameters[name] == "" {
			missing = append(missing, "Authorization header requires '"+name+"' parameter.")
		}
	}
	if missing != nil {
		return a, incomplete("%s", strings.Join(missing, " "))
	}

	if err := a.parseCredential(parameters["Credential"]); err != nil {
		return a, err
	}
	if err := a.parseSignedHeaders(parameters["SignedHeaders"]); err != nil {
		return a, err
	}
	signature := parameters["Signature"]
	if len(signature) != hex.EncodedLen(len(a.signature)) {
		return a, incomplete("'Signature' in Authorization header must be 64 hexadecimal digits, got %d characters.", len(signature))
	}
	if _, err := hex.Decode(a.signature[:], []byte(signature)); err != nil {
		return a, incomplete("'Signature' in Authorization header must be 64 hexadecimal digits.")
	}
	return a, nil
}

// splitParameters reads "name=value, name=value"; the space after a comma may be absent.
func splitParameters(list string) (map[string]string, *Error) {
	parameters := make(map[string]string, 3)
	if strings.TrimSpace(list) == "" {
		return parameters, nil
	}
	for pair := range strings.SplitSeq(list, ",") {
		pair = strings.TrimSpace(pair)
		name, value, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, incomplete("Invalid key=value pair (missing equal-sign) in Authorization header: '%s'.", clip(pair))
		}
		switch name {
		case "Credential", "SignedHeaders", "Signature":
		default:
			return nil, incomplete("Unknown parameter '%s' in Authorization header.", clip(name))
		}
		if _, twice := parameters[name]; twice {
			return nil, incomplete("Authorization header has more than one '%s' parameter.", name)
		}
		parameters[name] = value
	}
	return parameters, nil
}

func (a *authorization) parseCredential(credential string) *Error {
	parts := strings.Split(credential, "/")
	if len(parts) != 5 || slices.Contains(parts, "") {
		return incomplete("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '%s'.", clip(credential))
	}
	if parts[4] != "aws4_request" {
		return invalid("Credential should be scoped with a valid terminator: 'aws4_request', not '%s'.", clip(parts[4]))
	}
	a.accessKeyID = parts[0]
	a.scope = scope{date: parts[1], region: parts[2], service: parts[3]}
	return nil
}

func (a *authorization) parseSignedHeaders(list string) *Error {
	a.signedHeaders = strings.Split(list, ";")
	seen := make(map[string]bool, len(a.signedHeaders))
	for _, name := range a.signedHeaders {
		switch {
		case name == "":
			return incomplete("'SignedHeaders' in Authorization header has an empty name.")
		case strings.ContainsFunc(name, notHeaderName):
			return incomplete("'SignedHeaders' in Authorization header must hold lower-case header names, got '%s'.", clip(name))
		case seen[name]:
			return incomplete("'SignedHeaders' in Authorization header names '%s' twice.", clip(name))
		}
		seen[name] = true
	}
	return nil
}

// notHeaderName reports whether r cannot stand in a lower-case header name (RFC 9110 §5.6.2).
func notHeaderName(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
		return false
	}
	return !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}
