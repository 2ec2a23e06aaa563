package registry

import (
	"encoding/json"
	"fmt"

	"drover/internal/iot"
)

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

// news is what has changed, as nodes tell each other.
type news struct {
	Certificate iot.CertificateID  `json:"certificate,omitempty"`
	Alive       bool               `json:"alive,omitempty"`
	Things      []iot.ThingName    `json:"things,omitempty"`
	Policies    *iot.CertificateID `json:"policies,omitempty"`
	Keys        bool               `json:"keys,omitempty"`
	Events      bool               `json:"events,omitempty"`
}

// told makes sure that the identities are told after the commit, here and on other nodes.
func (c *change) told(n news) error {
	if c.identities != nil {
		c.AfterCommit(func() { n.tell(c.identities) })
	}
	if !c.shared {
		return nil
	}
	text, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("encode what other nodes are told: %w", err)
	}
	if c.announced != nil { // once
		c.AfterCommit(c.announced)
		c.announced = nil
	}
	return c.Announce(string(text))
}

func (n *news) tell(i Identities) {
	if n.Certificate != "" {
		i.CertificateChanged(n.Certificate, n.Alive)
	}
	if len(n.Things) > 0 {
		i.ThingsChanged(n.Things)
	}
	if n.Policies != nil {
		i.PoliciesChanged(*n.Policies)
	}
}

func (c *change) thingsChanged(names ...iot.ThingName) error {
	if len(names) == 0 {
		return nil
	}
	c.touched.things = append(c.touched.things, names...)
	return c.told(news{Things: names})
}

func (c *change) policiesChanged(target iot.PolicyTarget) error {
	var id iot.CertificateID
	if target.Kind == iot.KindCert {
		id = iot.CertificateID(target.Name)
	}
	return c.told(news{Policies: &id})
}

func (c *change) InsertThings(things []*iot.Thing) error {
	if err := c.thingsChanged(namesOf(things)...); err != nil {
		return err
	}
	return c.Tx.InsertThings(things)
}

func (c *change) SaveThings(things []*iot.Thing) error {
	if err := c.thingsChanged(namesOf(things)...); err != nil {
		return err
	}
	return c.Tx.SaveThings(things)
}

func (c *change) DeleteThing(thing *iot.Thing) error {
	if err := c.thingsChanged(thing.Name); err != nil {
		return err
	}
	c.touched.goneThings = append(c.touched.goneThings, thing.ID)
	return c.Tx.DeleteThing(thing)
}

func (c *change) InsertMembers(members []iot.Member) ([]iot.Member, error) {
	names := make([]iot.ThingName, len(members))
	for i, m := range members {
		names[i] = m.Thing
	}
	if err := c.thingsChanged(names...); err != nil {
		return nil, err
	}
	return c.Tx.InsertMembers(members)
}

// DeleteMember ends the membership of a thing in a group; that of store.Tx knows only numbers.
func (c *change) DeleteMember(group *iot.Group, thing *iot.Thing) (bool, error) {
	if err := c.thingsChanged(thing.Name); err != nil {
		return false, err
	}
	return c.Tx.DeleteMember(group.ID, thing.ID)
}

func (c *change) InsertGroup(g *iot.Group) error {
	err := c.Tx.InsertGroup(g)
	c.touched.groups = append(c.touched.groups, g.ID)
	return err
}

func (c *change) SaveGroup(g *iot.Group) error {
	c.touched.groups = append(c.touched.groups, g.ID)
	return c.Tx.SaveGroup(g)
}

func (c *change) DeleteGroup(g *iot.Group) error {
	c.touched.goneGroups = append(c.touched.goneGroups, g.ID)
	if err := c.policiesChanged(iot.GroupTarget(g.Name)); err != nil {
		return err
	}
	return c.Tx.DeleteGroup(g)
}

func (c *change) SavePolicy(p *iot.Policy) error {
	if err := c.policiesChanged(iot.PolicyTarget{}); err != nil {
		return err
	}
	return c.Tx.SavePolicy(p)
}

func (c *change) AttachPolicy(policy int64, target iot.PolicyTarget) (bool, error) {
	if err := c.policiesChanged(target); err != nil {
		return false, err
	}
	return c.Tx.AttachPolicy(policy, target)
}

func (c *change) DetachPolicy(policy int64, target iot.PolicyTarget) (bool, error) {
	if err := c.policiesChanged(target); err != nil {
		return false, err
	}
	return c.Tx.DetachPolicy(policy, target)
}

func (c *change) InsertAPIKey(k iot.APIKey) error {
	if err := c.told(news{Keys: true}); err != nil {
		return err
	}
	return c.Tx.InsertAPIKey(k)
}

func (c *change) DeleteAPIKey(id string) (bool, error) {
	if err := c.told(news{Keys: true}); err != nil {
		return false, err
	}
	return c.Tx.DeleteAPIKey(id)
}

func (c *change) SaveEventConfigurations(e iot.EventConfigurations) error {
	if err := c.told(news{Events: true}); err != nil {
		return err
	}
	return c.Tx.SaveEventConfigurations(e)
}

func namesOf(things []*iot.Thing) []iot.ThingName {
	names := make([]iot.ThingName, len(things))
	for i, t := range things {
		names[i] = t.Name
	}
	return names
}
