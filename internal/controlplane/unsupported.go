package controlplane

import "drover/internal/iot"

// Members of requests that drover does not have yet. They are declared with all their
// constraints, so that a request that is wrong anyway is told so; a request that is right is
// refused by name instead of being half obeyed. Structures that ask for nothing are accepted.

// asked is a member of a request that may not be served yet.
type asked struct {
	member  string
	feature string // what it needs, in the plural
	given   bool   // the request asks for it
}

// refuse returns an InvalidRequest error for the first member that the request asks for.
func refuse(members ...asked) error {
	for _, m := range members {
		if m.given {
			return iot.Errorf(iot.InvalidRequest, "drover does not have %s yet (member '%s')", m.feature, m.member)
		}
	}
	return nil
}
