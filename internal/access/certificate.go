package access

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"strings"

	"drover/internal/auth/policy"
	"drover/internal/iot"
)

// distinguished are the parts of a subject's or an issuer's name that policies can ask for, by the
// last parts of their object identifiers, which begin with 2.5.4 (identity spec §5.7).
var distinguished = map[int]string{
	46: "distinguishednamequalifier", 6: "country", 10: "organization", 11: "organizationalunit", 8: "state", 3: "commonname",
	5: "serialnumber", 12: "title", 4: "surname", 42: "givenname", 43: "initials", 65: "pseudonym", 44: "generationqualifier",
}

// escape puts a backslash before what has a meaning in the text of a distinguished name.
var escape = strings.NewReplacer(`,`, `\,`, `"`, `\"`, `\`, `\\`, `+`, `\+`, `=`, `\=`, `<`, `\<`, `>`, `\>`, `;`, `\;`)

// describe returns what policies can ask of a registered certificate.
func describe(c *iot.Certificate) (*policy.Certificate, error) {
	block, _ := pem.Decode([]byte(c.PEM))
	if block == nil {
		return nil, errors.New("certificate " + string(c.ID) + " is not stored as PEM")
	}
	x, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	values := map[string][]string{"serialnumber": {x.SerialNumber.String()}}
	add := func(name string, list ...string) {
		for _, v := range list {
			if v != "" {
				values[name] = append(values[name], v)
			}
		}
	}
	for prefix, name := range map[string]pkix.Name{"subject.": x.Subject, "issuer.": x.Issuer} {
		for _, part := range name.Names {
			if len(part.Type) != 4 || part.Type[0] != 2 || part.Type[1] != 5 || part.Type[2] != 4 {
				continue
			}
			if text, ok := part.Value.(string); ok && distinguished[part.Type[3]] != "" {
				add(prefix+distinguished[part.Type[3]], escape.Replace(text))
			}
		}
	}
	const alternative = "subject.alternativename."
	add(alternative+"rfc822name", x.EmailAddresses...)
	add(alternative+"dnsname", x.DNSNames...)
	for _, u := range x.URIs {
		add(alternative+"uniformresourceidentifier", u.String())
	}
	for _, ip := range x.IPAddresses {
		add(alternative+"ipaddress", ip.String())
	}
	return &policy.Certificate{ID: string(c.ID), Values: values}, nil
}
