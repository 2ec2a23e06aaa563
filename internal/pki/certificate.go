package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"drover/internal/iot"
)

const (
	certificateBlock = "CERTIFICATE"
	minRSA           = 2048 // bits
	maxRSA           = 8192 // bits: a greater one is only there to cost us time
)

// ID returns the id of a certificate: the SHA-256 of its DER form.
func ID(c *x509.Certificate) iot.CertificateID {
	sum := sha256.Sum256(c.Raw)
	return iot.CertificateID(hex.EncodeToString(sum[:]))
}

// KeyHash returns the SHA-256 of the public key of a certificate, hexadecimal. Unlike the ID it is
// the same for all certificates of a key.
func KeyHash(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// Encode returns the PEM form of a certificate.
func Encode(c *x509.Certificate) string { return encode(certificateBlock, c.Raw) }

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// Parse reads the first certificate of a PEM text. CertificateInvalid if there is none, or if
// its key or its signature is of a kind that is not accepted.
func Parse(text string) (*x509.Certificate, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != certificateBlock {
		return nil, iot.Errorf(iot.CertificateInvalid, "The certificate is not in PEM format")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, iot.Errorf(iot.CertificateInvalid, "The certificate cannot be read: %s", reason(err))
	}
	if err := checkKey(c.PublicKey); err != nil {
		return nil, iot.Errorf(iot.CertificateInvalid, "The key of the certificate is not accepted: %s", err)
	}
	if !slices.Contains(signatures, c.SignatureAlgorithm) {
		return nil, iot.Errorf(iot.CertificateInvalid, "The signature algorithm %s of the certificate is not accepted", c.SignatureAlgorithm)
	}
	return c, nil
}

// signatures are the algorithms that a certificate may be signed with (identity spec §1.7).
var signatures = []x509.SignatureAlgorithm{
	x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
	x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
	x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512,
}

// checkKey says why a public key is not accepted: RSA of 2048 bits or more, and the NIST curves
// P-256, P-384 and P-521 are (identity spec §4.4).
func checkKey(key crypto.PublicKey) error {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSA || bits > maxRSA {
			return fmt.Errorf("RSA keys have %d to %d bits, this one has %d", minRSA, maxRSA, bits)
		}
		return nil
	case *ecdsa.PublicKey:
		if name := k.Curve.Params().Name; name != "P-256" && name != "P-384" && name != "P-521" {
			return fmt.Errorf("the curve %s is none of P-256, P-384 and P-521", name)
		}
		return nil
	}
	return errors.New("it is neither RSA nor ECDSA")
}

// CheckAuthority says why a certificate cannot be that of a CA, as CertificateInvalid.
func CheckAuthority(c *x509.Certificate) error {
	if !c.BasicConstraintsValid || !c.IsCA {
		return iot.Errorf(iot.CertificateInvalid, "The certificate is not that of a CA: its basic constraints do not say CA:TRUE")
	}
	if c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0 {
		return iot.Errorf(iot.CertificateInvalid, "The certificate is not that of a CA: its key usage does not have keyCertSign")
	}
	return nil
}

// SignedBy reports whether the CA signed the certificate.
func SignedBy(c, ca *x509.Certificate) bool { return c.CheckSignatureFrom(ca) == nil }

// ForClients reports whether a certificate may stand for a client: it is none of a CA, and if
// it says what it is for, being a client is among it.
func ForClients(c *x509.Certificate) bool {
	if c.IsCA {
		return false
	}
	if len(c.ExtKeyUsage) == 0 && len(c.UnknownExtKeyUsage) == 0 {
		return true
	}
	return slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth) || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny)
}

// Parameters returns what provisioning templates can know of the subject of a certificate, by
// the names that parameters have there (identity spec §4.10). What the subject does not have is
// not in it.
func Parameters(c *x509.Certificate) map[string]string {
	names := map[string]string{
		"2.5.4.6": "Country", "2.5.4.10": "Organization", "2.5.4.11": "OrganizationalUnit", "2.5.4.46": "DistinguishedNameQualifier",
		"2.5.4.8": "StateName", "2.5.4.3": "CommonName", "2.5.4.5": "SerialNumber",
	}
	parameters := make(map[string]string)
	for _, part := range c.Subject.Names {
		value, isText := part.Value.(string)
		name := names[part.Type.String()]
		if !isText || name == "" || value == "" {
			continue
		}
		name = "AWS::IoT::Certificate::" + name
		if _, have := parameters[name]; !have { // the first of several
			parameters[name] = value
		}
	}
	return parameters
}

// ParseRequest reads a certificate signing request in PEM form. InvalidRequest if it is none,
// if its signature does not hold, if its key is not accepted, or if it asks for the certificate
// of a CA.
func ParseRequest(text string) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" {
		return nil, badRequest("it is not in PEM format")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, badRequest(reason(err))
	}
	if err := checkKey(csr.PublicKey); err != nil { // before work is done with the key
		return nil, badRequest("its key is not accepted: " + err.Error())
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, badRequest("its signature does not hold")
	}
	for _, e := range csr.Extensions {
		if err := checkExtension(e.Id, e.Value); err != nil {
			return nil, badRequest(err.Error())
		}
	}
	return csr, nil
}

func badRequest(why string) error {
	return iot.Errorf(iot.InvalidRequest, "The certificate signing request is invalid: %s", why)
}

var (
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
)

// checkExtension refuses what nobody may ask for: to be a CA. Other extensions are not carried
// over, so that they need no opinion.
func checkExtension(id asn1.ObjectIdentifier, value []byte) error {
	switch {
	case id.Equal(oidBasicConstraints):
		var constraints struct {
			IsCA bool `asn1:"optional"`
			Path int  `asn1:"optional,default:-1"`
		}
		if rest, err := asn1.Unmarshal(value, &constraints); err != nil || len(rest) > 0 || constraints.IsCA {
			return errors.New("it asks for the certificate of a CA")
		}
	case id.Equal(oidKeyUsage):
		var usage asn1.BitString
		const keyCertSign, crlSign = 5, 6
		if rest, err := asn1.Unmarshal(value, &usage); err != nil || len(rest) > 0 || usage.At(keyCertSign) == 1 || usage.At(crlSign) == 1 {
			return errors.New("it asks for the key usage of a CA")
		}
	}
	return nil
}

// reason is what an error of crypto/x509 says, without its package's name.
func reason(err error) string { return strings.TrimPrefix(err.Error(), "x509: ") }
