package auth

import "context"

// Principal is who signed a request.
type Principal struct {
	AccessKeyID string
}

// Identity is what a verified signature says: who, for which service, in which region.
type Identity struct {
	Principal Principal
	Service   string // signing name in the credential scope: iot, execute-api, iot-jobs-data, iotdata
	Region    string // region in the credential scope
}

type identityKey struct{}

// WithIdentity returns a context that carries id.
func WithIdentity(ctx context.Context, id Identity) context.Context {
	return context.WithValue(ctx, identityKey{}, id)
}

// IdentityFrom returns the identity that [WithIdentity] put into ctx, and whether there is one.
func IdentityFrom(ctx context.Context) (Identity, bool) {
	id, ok := ctx.Value(identityKey{}).(Identity)
	return id, ok
}
