package policy

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Context is what is known of a request besides action and resource: the values of policy variables
// and condition keys (identity spec §5.7, §5.8). What is absent is undefined: a statement that needs
// it allows nothing.
type Context struct {
	SourceIP netip.Addr
	Secure   bool      // came over TLS
	Now      time.Time // zero = undefined
	Username string    // name of the API key

	// Of MQTT connections. The variables of the thing are undefined unless MQTT.
	MQTT       bool
	ClientID   string
	DomainName string
	Thing      *Thing // nil if the connection has none

	// Of certificates.
	Certificate *Certificate

	// Of iot:Connect: which of PersistentConnect and LastWill are asked for, and the ARN of the
	// will's topic.
	Connect       bool
	Attributes    []string
	LastWillTopic string
}

// Thing is the thing of a connection: the certificate is attached to it.
type Thing struct {
	Name       string
	Type       string // "" for none
	Attributes map[string]string
}

// Certificate is what variables tell of a client certificate. Values are by the name of the variable
// behind iot:Certificate., in lower case: "subject.commonname". Each has at least one value.
type Certificate struct {
	ID     string
	Values map[string][]string
}

// maxValues is how many values of a certificate's variable count.
const maxValues = 5

type keyKind uint8

const (
	keyOther keyKind = iota // nothing that is known here: always undefined
	keyClientID
	keySourceIP
	keySecure
	keyTime
	keyEpoch
	keyUsername
	keyDomain
	keyThingName
	keyThingType
	keyThingAttribute
	keyAttached
	keyCertificateID
	keyCertificate
	keyCertificateNames
	keyConnectAttributes
	keyLastWill
)

// key is the name of a variable or condition key, understood.
type key struct {
	kind  keyKind
	text  string // as written
	name  string // of an attribute, or of a value of the certificate
	index int    // which of several values
	list  bool   // all of them
}

var keyKinds = map[string]keyKind{
	"iot:clientid":                       keyClientID,
	"aws:sourceip":                       keySourceIP,
	"aws:securetransport":                keySecure,
	"aws:currenttime":                    keyTime,
	"aws:epochtime":                      keyEpoch,
	"aws:username":                       keyUsername,
	"iot:domainname":                     keyDomain,
	"iot:connection.thing.thingname":     keyThingName,
	"iot:thing.thingname":                keyThingName,
	"iot:connection.thing.thingtypename": keyThingType,
	"iot:thing.thingtypename":            keyThingType,
	"iot:connection.thing.isattached":    keyAttached,
	"iot:thing.isattached":               keyAttached,
	"iot:certificateid":                  keyCertificateID,
	"iot:certificate.availablekeys":      keyCertificateNames,
	"iot:connectattributes":              keyConnectAttributes,
	"iot:lastwilltopic":                  keyLastWill,
}

// newKey understands a name. The case of names makes no difference, that of attributes does.
func newKey(text string) key {
	k := key{text: text}
	lower := strings.ToLower(text)
	if k.kind = keyKinds[lower]; k.kind != keyOther {
		k.list = k.kind == keyConnectAttributes || k.kind == keyCertificateNames
		return k
	}
	for _, prefix := range []string{"iot:connection.thing.attributes[", "iot:thing.attributes["} {
		if strings.HasPrefix(lower, prefix) && strings.HasSuffix(lower, "]") {
			k.kind, k.name = keyThingAttribute, text[len(prefix):len(text)-1]
			return k
		}
	}
	if name, ok := strings.CutPrefix(lower, "iot:certificate."); ok {
		k.kind, k.name = keyCertificate, name
		if base, ok := strings.CutSuffix(name, ".list"); ok {
			k.name, k.list = base, true
		} else if dot := strings.LastIndexByte(name, '.'); dot >= 0 {
			// .1 is the second value: the first has no number (identity spec A-15).
			if n, err := strconv.Atoi(name[dot+1:]); err == nil && n > 0 && n < maxValues && name[dot+1] != '+' {
				k.name, k.index = name[:dot], n
			}
		}
	}
	return k
}

// value returns the one value of a key, and whether there is one.
func (c *Context) value(k *key) (string, bool) {
	if c == nil {
		return "", false
	}
	switch k.kind {
	case keyClientID:
		return c.ClientID, c.MQTT
	case keySourceIP:
		if !c.SourceIP.IsValid() {
			return "", false
		}
		return c.SourceIP.String(), true
	case keySecure:
		return strconv.FormatBool(c.Secure), true
	case keyTime:
		return c.Now.UTC().Format(time.RFC3339), !c.Now.IsZero()
	case keyEpoch:
		return strconv.FormatInt(c.Now.Unix(), 10), !c.Now.IsZero()
	case keyUsername:
		return c.Username, c.Username != ""
	case keyDomain:
		return c.DomainName, c.DomainName != ""
	case keyAttached:
		return strconv.FormatBool(c.Thing != nil), c.MQTT
	case keyLastWill:
		return c.LastWillTopic, c.LastWillTopic != ""
	case keyCertificateID:
		if c.Certificate != nil {
			return c.Certificate.ID, true
		}
	case keyCertificate:
		if c.Certificate != nil {
			if values := c.Certificate.Values[k.name]; k.index < min(len(values), maxValues) {
				return values[k.index], true
			}
		}
	case keyThingName, keyThingType, keyThingAttribute:
		if c.MQTT && c.Thing != nil {
			return c.Thing.value(k)
		}
	}
	return "", false
}

func (t *Thing) value(k *key) (string, bool) {
	switch k.kind {
	case keyThingName:
		return t.Name, true
	case keyThingType:
		return t.Type, t.Type != ""
	}
	v, ok := t.Attributes[k.name]
	return v, ok
}

// substitute returns what replaces a variable in a pattern. Values of certificates are of a stranger's
// making: those that would be long or look like patterns are not let in (identity spec §5.7).
func (c *Context) substitute(k *key) (string, bool) {
	if k.list {
		return "", false
	}
	v, ok := c.value(k)
	if ok && k.kind == keyCertificate && (len(v) > 1024 || strings.ContainsAny(v, "*$+?#")) {
		return "", false
	}
	return v, ok
}

// values returns all values of a key that has a set of them, otherwise the one, and whether the key
// is there at all.
func (c *Context) values(k key) ([]string, bool) {
	if !k.list {
		v, ok := c.value(&k)
		return []string{v}, ok
	}
	return c.set(&k)
}

func (c *Context) set(k *key) ([]string, bool) {
	switch {
	case c == nil:
		return nil, false
	case k.kind == keyConnectAttributes:
		return c.Attributes, c.Connect
	case c.Certificate == nil:
		return nil, false
	case k.kind == keyCertificateNames:
		names := make([]string, 0, len(c.Certificate.Values))
		for name := range c.Certificate.Values {
			names = append(names, "iot:Certificate."+name)
		}
		slices.Sort(names)
		return names, true
	}
	values, ok := c.Certificate.Values[k.name]
	return values[:min(len(values), maxValues)], ok
}
