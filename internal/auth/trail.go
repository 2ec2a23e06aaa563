package auth

import "context"

// Trail is what is known of a request when it has been answered: who sent it, and what it asked
// for. It is put into the context empty and filled in by who finds out.
type Trail struct {
	Identity  *Identity // nil: nobody has proved who he is
	Operation string    // "" if nobody found out
	Targets   []string  // ARNs
}

type trailKey struct{}

// WithTrail returns a context in which t is filled in.
func WithTrail(ctx context.Context, t *Trail) context.Context {
	return context.WithValue(ctx, trailKey{}, t)
}

// Note fills in what a request asks for, in the trail of ctx if it has one.
func Note(ctx context.Context, operation string, targets []string) {
	if t, ok := ctx.Value(trailKey{}).(*Trail); ok {
		t.Operation, t.Targets = operation, targets
	}
}
