package auth

import (
	"context"
	"net/netip"

	"drover/internal/iot"
)

// Principal is who sends a request: the owner of a key, or the holder of a certificate.
type Principal struct {
	AccessKeyID string
	Certificate iot.CertificateID
}

// Actor names the principal in the journal.
func (p Principal) Actor() string {
	if p.Certificate != "" {
		return "cert:" + string(p.Certificate)
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
