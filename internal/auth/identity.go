package auth

import (
	"context"
	"net/netip"

	"drover/internal/auth/policy"
	"drover/internal/iot"
)

// Principal is who sends a request: the owner of a key, a user of the console, the holder of a certificate,
// or whom a custom authorizer let in.
type Principal struct {
	AccessKeyID string
	User        string
	Person      *Person
	Certificate iot.CertificateID
	Guest       *Guest
}

// Person is somebody whom a provider of identities vouches for. He may do what his role says.
type Person struct {
	Subject string `json:"s"` // that the provider gave, for good
	Name    string `json:"n"` // to be read by people
	Role    string `json:"r"`
}

// Guest is somebody whom a custom authorizer let in. He may do what its policies say.
type Guest struct {
	Name     string // that the authorizer gave
	Policies []*policy.Policy
}

// Actor names the principal in the journal.
func (p Principal) Actor() string {
	switch {
	case p.Certificate != "":
		return "cert:" + string(p.Certificate)
	case p.Guest != nil:
		return "guest:" + p.Guest.Name
	case p.User != "":
		return "user:" + p.User
	case p.Person != nil:
		return "person:" + p.Person.Name
	}
	return "key:" + p.AccessKeyID
}

// Identity is what a verified signature says: who, for which service, in which region. The
// holder of a certificate signs nothing: service and region are empty then.
type Identity struct {
	Principal Principal
	Service   string     // signing name in the credential scope: iot, execute-api, iot-jobs-data, iotdata
	Region    string     // region in the credential scope
	Source    netip.Addr // of the other end of the connection
	Secure    bool       // it came over TLS
}

// Inside is the Service of identities that the server itself has found out, such as those of people who
// are signed in to the console: their requests come from within the process and are not signed.
const Inside = "console"

type identityKey struct{}

// WithIdentity returns a context that carries id. It is noted in the trail of ctx, if it has one.
func WithIdentity(ctx context.Context, id Identity) context.Context {
	if t, ok := ctx.Value(trailKey{}).(*Trail); ok {
		t.Identity = &id
	}
	return context.WithValue(ctx, identityKey{}, id)
}

// IdentityFrom returns the identity that [WithIdentity] put into ctx, and whether there is one.
func IdentityFrom(ctx context.Context) (Identity, bool) {
	id, ok := ctx.Value(identityKey{}).(Identity)
	return id, ok
}
