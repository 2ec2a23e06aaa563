package storetest

import (
	"strings"

	"drover/internal/iot"
	"drover/internal/store"
)

var certificates = []testCase{
	{"are kept whole", func(f *fixture) {
		c := newCertificate("a", "")
		f.update(func(tx store.Tx) error { return tx.InsertCertificate(c) })
		if c.Seq == 0 {
			f.Fatal("Seq is not set")
		}
		get := func() *iot.Certificate {
			return read(f, func(r store.Reader) (*iot.Certificate, error) { return r.CertificateByID(c.ID) })
		}
		f.equal(get(), c)
		c.Status, c.Version, c.ModifiedAt = iot.CertificateActive, 2, t0+5
		f.update(func(tx store.Tx) error { return tx.SaveCertificate(c) })
		f.reopen()
		f.equal(get(), c)
		f.refused(store.ErrExists, func(tx store.Tx) error { return tx.InsertCertificate(newCertificate("a", "")) })
		f.update(func(tx store.Tx) error { return tx.DeleteCertificate(c) })
		f.view(func(r store.Reader) error {
			_, err := r.CertificateByID(c.ID)
			f.fails(store.ErrNotFound, err)
			return nil
		})
		f.refused(store.ErrNotFound, func(tx store.Tx) error { return tx.SaveCertificate(c) })
	}},
	{"tell of revoked keys", func(f *fixture) {
		first, second := newCertificate("a", ""), newCertificate("b", "")
		second.Key = first.Key
		f.update(func(tx store.Tx) error { f.must(tx.InsertCertificate(first)); return tx.InsertCertificate(second) })
		revoked := func() bool {
			return read(f, func(r store.Reader) (bool, error) { return r.KeyRevoked(first.Key) })
		}
		f.equal(revoked(), false)
		second.Status = iot.CertificateRevoked
		f.update(func(tx store.Tx) error { return tx.SaveCertificate(second) })
		f.equal(revoked(), true)
		f.update(func(tx store.Tx) error { return tx.DeleteCertificate(second) })
		f.equal(revoked(), false)
	}},
	{"are listed both ways and by CA", func(f *fixture) {
		ca := certificateID("ca")
		all := []*iot.Certificate{newCertificate("c", ca), newCertificate("a", ""), newCertificate("b", ca)}
		f.update(func(tx store.Tx) error {
			for _, c := range all {
				f.must(tx.InsertCertificate(c))
			}
			return nil
		})
		list := func(q store.CertificateQuery, after int64, limit int) []*iot.Certificate {
			return read(f, func(r store.Reader) ([]*iot.Certificate, error) { return r.Certificates(q, after, limit) })
		}
		f.equal(list(store.CertificateQuery{Ascending: true}, 0, 2), all[:2])
		f.equal(list(store.CertificateQuery{Ascending: true}, all[1].Seq, 2), all[2:])
		f.equal(list(store.CertificateQuery{}, 0, 2), []*iot.Certificate{all[2], all[1]})
		f.equal(list(store.CertificateQuery{}, all[1].Seq, 2), all[:1])
		f.equal(list(store.CertificateQuery{CA: ca, Ascending: true}, 0, 5), []*iot.Certificate{all[0], all[2]})
		f.equal(list(store.CertificateQuery{CA: ca}, all[2].Seq, 5), all[:1])
		f.equal(len(list(store.CertificateQuery{CA: certificateID("other")}, 0, 5)), 0)
	}},
	{"of authorities are kept, found and listed", func(f *fixture) {
		all := []*iot.CACertificate{newCA("b", "one"), newCA("a", "two"), newCA("c", "one")}
		all[1].Registration = &iot.RegistrationConfig{TemplateName: "t", RoleARN: "r"}
		all[2].Registration = &iot.RegistrationConfig{TemplateBody: "{}", RoleARN: "r"}
		f.update(func(tx store.Tx) error {
			for _, c := range all {
				f.must(tx.InsertCACertificate(c))
			}
			return nil
		})
		list := func(q store.CAQuery, after int64, limit int) []*iot.CACertificate {
			return read(f, func(r store.Reader) ([]*iot.CACertificate, error) { return r.CACertificates(q, after, limit) })
		}
		f.reopen()
		f.equal(list(store.CAQuery{Ascending: true}, 0, 5), all)
		f.equal(list(store.CAQuery{}, all[1].Seq, 5), all[:1])
		f.equal(list(store.CAQuery{TemplateName: "t"}, 0, 5), all[1:2])
		f.equal(len(list(store.CAQuery{TemplateName: "t", Ascending: true}, all[1].Seq, 5)), 0)
		f.equal(read(f, func(r store.Reader) ([]*iot.CACertificate, error) { return r.CACertificatesBySubject([]byte("one")) }),
			[]*iot.CACertificate{all[0], all[2]})
		f.refused(store.ErrExists, func(tx store.Tx) error { return tx.InsertCACertificate(newCA("a", "three")) })

		c := all[1]
		c.Active, c.AutoRegistration, c.Registration, c.Version, c.ModifiedAt = true, true, nil, 2, t0+9
		f.update(func(tx store.Tx) error { return tx.SaveCACertificate(c) })
		f.equal(read(f, func(r store.Reader) (*iot.CACertificate, error) { return r.CACertificateByID(c.ID) }), c)
		f.equal(len(list(store.CAQuery{TemplateName: "t"}, 0, 5)), 0)
		f.update(func(tx store.Tx) error { return tx.DeleteCACertificate(c) })
		f.view(func(r store.Reader) error {
			_, err := r.CACertificateByID(c.ID)
			f.fails(store.ErrNotFound, err)
			return nil
		})
		f.refused(store.ErrNotFound, func(tx store.Tx) error { return tx.SaveCACertificate(c) })
	}},
	{"are attached to things", func(f *fixture) {
		things := f.things(awkward...)
		one, two := certificateID("1"), certificateID("2")
		f.update(func(tx store.Tx) error {
			for _, thing := range scattered(things) {
				f.must(tx.InsertThingPrincipal(iot.ThingPrincipal{Thing: thing.Name, ThingID: thing.ID, Certificate: one}))
			}
			return tx.InsertThingPrincipal(iot.ThingPrincipal{Thing: things[0].Name, ThingID: things[0].ID, Certificate: two, Exclusive: true})
		})
		of := func(q store.PrincipalQuery, after string, limit int) []iot.ThingName {
			return names(read(f, func(r store.Reader) ([]iot.ThingPrincipal, error) {
				return r.ThingsOfPrincipal(one, q, iot.ThingName(after), limit)
			}), func(p iot.ThingPrincipal) iot.ThingName { return p.Thing })
		}
		f.equal(of(store.PrincipalQuery{}, "", 3), []iot.ThingName{"-a", "-b", "0"})
		f.equal(of(store.PrincipalQuery{NonExclusive: true}, "ab", 3), []iot.ThingName{"b", "z"})
		f.equal(of(store.PrincipalQuery{Exclusive: true}, "", 3), []iot.ThingName{})
		at := func(q store.PrincipalQuery, after iot.CertificateID, limit int) []iot.ThingPrincipal {
			return read(f, func(r store.Reader) ([]iot.ThingPrincipal, error) {
				return r.PrincipalsOfThing(things[0].ID, q, after, limit)
			})
		}
		first := iot.ThingPrincipal{Thing: things[0].Name, ThingID: things[0].ID, Certificate: one}
		second := iot.ThingPrincipal{Thing: things[0].Name, ThingID: things[0].ID, Certificate: two, Exclusive: true}
		f.equal(at(store.PrincipalQuery{}, "", 5), []iot.ThingPrincipal{first, second})
		f.equal(at(store.PrincipalQuery{}, one, 5), []iot.ThingPrincipal{second})
		f.equal(at(store.PrincipalQuery{Exclusive: true}, "", 5), []iot.ThingPrincipal{second})
		f.equal(at(store.PrincipalQuery{NonExclusive: true}, "", 5), []iot.ThingPrincipal{first})

		f.equal(read(f, func(r store.Reader) (iot.ThingPrincipal, error) { return r.ThingPrincipal(things[0].ID, two) }), second)
		f.view(func(r store.Reader) error {
			_, err := r.ThingPrincipal(things[1].ID, two)
			f.fails(store.ErrNotFound, err)
			return nil
		})
		f.refused(store.ErrExists, func(tx store.Tx) error { return tx.InsertThingPrincipal(second) })
		f.update(func(tx store.Tx) error {
			gone, err := tx.DeleteThingPrincipal(things[0].ID, two)
			f.equal(gone, true)
			return err
		})
		f.update(func(tx store.Tx) error {
			gone, err := tx.DeleteThingPrincipal(things[0].ID, two)
			f.equal(gone, false)
			return err
		})
		f.equal(at(store.PrincipalQuery{}, "", 5), []iot.ThingPrincipal{first})
	}},
	{"have a registration code beside them", func(f *fixture) {
		absent := func() {
			f.view(func(r store.Reader) error {
				_, err := r.RegistrationCode()
				f.fails(store.ErrNotFound, err)
				return nil
			})
		}
		absent()
		for _, code := range []string{"one", "two"} {
			f.update(func(tx store.Tx) error { return tx.SaveRegistrationCode(code) })
			f.equal(read(f, store.Reader.RegistrationCode), code)
		}
		f.update(func(tx store.Tx) error { return tx.SaveRegistrationCode("") })
		absent()
	}},
}

// certificateID makes the id of a certificate that is not there, which begins with the name.
func certificateID(name string) iot.CertificateID {
	return iot.CertificateID(name + strings.Repeat("0", 64-len(name)))
}

func newCertificate(name string, ca iot.CertificateID) *iot.Certificate {
	return &iot.Certificate{
		ID: certificateID(name), PEM: "pem of " + name, Status: iot.CertificateInactive, Mode: iot.ModeDefault, CA: ca, Key: "key of " + name,
		NotBefore: t0 - 1, NotAfter: t0 + 1, Version: 1, CreatedAt: t0, ModifiedAt: t0,
	}
}

func newCA(name, subject string) *iot.CACertificate {
	return &iot.CACertificate{
		ID: certificateID(name), PEM: "pem of " + name, Subject: []byte(subject), Mode: iot.ModeSNIOnly,
		NotBefore: t0 - 1, NotAfter: t0 + 1, Version: 1, CreatedAt: t0, ModifiedAt: t0,
	}
}
