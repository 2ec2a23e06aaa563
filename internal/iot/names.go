package iot

import (
	"fmt"
	"regexp"
	"strings"
)

// ThingName is the name of a device in the registry: 1 to 128 of [a-zA-Z0-9:_-].
type ThingName string

// JobID is the name that a user gives to a job: 1 to 64 of [a-zA-Z0-9_-].
type JobID string

// GroupName is the name of a thing group: 1 to 128 of [a-zA-Z0-9:_-].
type GroupName string

// NextJob stands in place of a job id for the head of the pending list (spec §11.7).
const NextJob JobID = "$next"

const (
	maxThingName = 128
	maxJobID     = 64
)

// Valid reports whether n can name a thing.
func (n ThingName) Valid() bool {
	return len(n) >= 1 && len(n) <= maxThingName && nameChars(string(n), true)
}

// Valid reports whether id can name a job.
func (id JobID) Valid() bool {
	return len(id) >= 1 && len(id) <= maxJobID && nameChars(string(id), false)
}

// Valid reports whether n can name a thing group.
func (n GroupName) Valid() bool { return ThingName(n).Valid() }

// ValidNamespace reports whether ns can be a namespaceId; the empty one is the default namespace.
func ValidNamespace(ns string) bool { return len(ns) <= maxJobID && nameChars(ns, false) }

func nameChars(s string, colon bool) bool {
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || colon && c == ':' {
			continue
		}
		return false
	}
	return true
}

// Realm is the account and region that a server plays; ARNs are made and read with it.
type Realm struct {
	Account string // twelve digits
	Region  string
}

var (
	accountPattern = regexp.MustCompile(`^[0-9]{12}$`)
	regionPattern  = regexp.MustCompile(`^[a-z]{2,}(-[a-z]+)+-[0-9]+$`)
)

// Check returns an error that names the part of r which no AWS client would accept.
func (r Realm) Check() error {
	if !accountPattern.MatchString(r.Account) {
		return fmt.Errorf("account %q: must be twelve digits", r.Account)
	}
	if !regionPattern.MatchString(r.Region) {
		return fmt.Errorf("region %q: must look like us-east-1", r.Region)
	}
	return nil
}

// Kinds of resources, as the first part of an ARN's tail.
const (
	KindThing     = "thing"
	KindGroup     = "thinggroup"
	KindThingType = "thingtype"
	KindJob       = "job"
	KindTemplate  = "jobtemplate"
	KindCert      = "cert"   // named by a CertificateID
	KindCACert    = "cacert" // named by a CertificateID
	KindIndex     = "index"
	KindPolicy    = "policy"

	KindAuthorizer   = "authorizer"
	KindProvisioning = "provisioningtemplate"
	KindBillingGroup = "billinggroup"
	KindStream       = "stream"
	KindOTAUpdate    = "otaupdate"
	KindCommand      = "command"
	KindClient       = "client" // an MQTT client by its id
	KindPackage      = "package"
)

// ARN returns the ARN of the named resource.
func (r Realm) ARN(kind, name string) string {
	return "arn:" + r.Partition() + ":iot:" + r.Region + ":" + r.Account + ":" + kind + "/" + name
}

// Partition is the second part of every ARN: "aws", or that of regions apart from the others.
func (r Realm) Partition() string {
	switch {
	case strings.HasPrefix(r.Region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(r.Region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}

// ParseARN splits an ARN of this realm into kind and name. It returns an InvalidRequest
// error for text that is no ARN and for ARNs of another service, region or account.
func (r Realm) ParseARN(arn string) (kind, name string, err error) {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" || parts[1] == "" {
		return "", "", Errorf(InvalidRequest, "Invalid ARN: %q", shorten(arn))
	}
	switch {
	case parts[1] != r.Partition() || parts[2] != "iot":
		return "", "", Errorf(InvalidRequest, "ARN %q is not one of AWS IoT (arn:%s:iot:…)", shorten(arn), r.Partition())
	case parts[3] != r.Region:
		return "", "", Errorf(InvalidRequest, "ARN %q is of region %q; this server is %s", shorten(arn), shorten(parts[3]), r.Region)
	case parts[4] != r.Account:
		return "", "", Errorf(InvalidRequest, "ARN %q is of account %q; this server is %s", shorten(arn), shorten(parts[4]), r.Account)
	}
	kind, name, ok := strings.Cut(parts[5], "/")
	if !ok || kind == "" || name == "" {
		return "", "", Errorf(InvalidRequest, "ARN %q names no resource", shorten(arn))
	}
	return kind, name, nil
}
