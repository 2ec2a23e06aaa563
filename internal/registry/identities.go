package registry

import "drover/internal/iot"

// Identities is who remembers what the holders of certificates are and may do: it learns of a
// change after the commit and before the answer, and must neither block nor call the store.
//
// Every write that makes a difference to somebody passes through one of the methods of change
// below, whatever operation it is part of, so that none can forget to tell.
type Identities interface {
	// CertificateChanged is called when the status of a certificate or what it is attached to
	// changed, and when it was deleted. alive says whether it still authenticates.
	CertificateChanged(id iot.CertificateID, alive bool)
	// ThingsChanged is called when things were created, changed or deleted, or joined or left a group.
	ThingsChanged(names []iot.ThingName)
	// PoliciesChanged is called when a policy, or what one is attached to, changed: that concerns the
	// holder of the certificate, or, if it is "", anybody.
	PoliciesChanged(id iot.CertificateID)
}

// told makes sure that the identities are told after the commit.
func (c *change) told(f func(Identities)) {
	if c.identities != nil {
		c.AfterCommit(func() { f(c.identities) })
	}
}

func (c *change) thingsChanged(names ...iot.ThingName) {
	if len(names) > 0 {
		c.told(func(i Identities) { i.ThingsChanged(names) })
	}
}

func (c *change) policiesChanged(target iot.PolicyTarget) {
	var id iot.CertificateID
	if target.Kind == iot.KindCert {
		id = iot.CertificateID(target.Name)
	}
	c.told(func(i Identities) { i.PoliciesChanged(id) })
}

func (c *change) InsertThings(things []*iot.Thing) error {
	c.thingsChanged(namesOf(things)...)
	return c.Tx.InsertThings(things)
}

func (c *change) SaveThings(things []*iot.Thing) error {
	c.thingsChanged(namesOf(things)...)
	return c.Tx.SaveThings(things)
}

func (c *change) DeleteThing(thing *iot.Thing) error {
	c.thingsChanged(thing.Name)
	return c.Tx.DeleteThing(thing)
}

func (c *change) InsertMembers(members []iot.Member) ([]iot.Member, error) {
	names := make([]iot.ThingName, len(members))
	for i, m := range members {
		names[i] = m.Thing
	}
	c.thingsChanged(names...)
	return c.Tx.InsertMembers(members)
}

// DeleteMember ends the membership of a thing in a group; that of store.Tx knows only numbers.
func (c *change) DeleteMember(group *iot.Group, thing *iot.Thing) (bool, error) {
	c.thingsChanged(thing.Name)
	return c.Tx.DeleteMember(group.ID, thing.ID)
}

func (c *change) DeleteGroup(g *iot.Group) error {
	c.policiesChanged(iot.GroupTarget(g.Name))
	return c.Tx.DeleteGroup(g)
}

func (c *change) SavePolicy(p *iot.Policy) error {
	c.policiesChanged(iot.PolicyTarget{})
	return c.Tx.SavePolicy(p)
}

func (c *change) AttachPolicy(policy int64, target iot.PolicyTarget) (bool, error) {
	c.policiesChanged(target)
	return c.Tx.AttachPolicy(policy, target)
}

func (c *change) DetachPolicy(policy int64, target iot.PolicyTarget) (bool, error) {
	c.policiesChanged(target)
	return c.Tx.DetachPolicy(policy, target)
}

func namesOf(things []*iot.Thing) []iot.ThingName {
	names := make([]iot.ThingName, len(things))
	for i, t := range things {
		names[i] = t.Name
	}
	return names
}
