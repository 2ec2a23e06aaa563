package storetest

import (
	"drover/internal/iot"
	"drover/internal/store"
)

var packages = []testCase{
	{"packages are kept whole and listed", func(f *fixture) {
		all := []*iot.Package{{Name: "a", Description: "d", DefaultVersion: "1", CreatedAt: t0, ModifiedAt: t0 + 1}, {Name: "b", CreatedAt: t0, ModifiedAt: t0}, {Name: "c", CreatedAt: t0, ModifiedAt: t0}}
		f.update(func(tx store.Tx) error {
			for _, p := range all {
				f.must(tx.InsertPackage(p))
			}
			return nil
		})
		f.reopen()
		f.equal(read(f, func(r store.Reader) (*iot.Package, error) { return r.Package("a") }), all[0])
		f.equal(read(f, func(r store.Reader) ([]*iot.Package, error) { return r.Packages("", 9) }), all)
		f.equal(read(f, func(r store.Reader) ([]*iot.Package, error) { return r.Packages("a", 1) }), all[1:2])
		f.refused(store.ErrExists, func(tx store.Tx) error { return tx.InsertPackage(all[0]) })
		changed := *all[0]
		changed.Description, changed.DefaultVersion, changed.ModifiedAt = "", "2", t0+5
		f.update(func(tx store.Tx) error { return tx.SavePackage(&changed) })
		f.equal(read(f, func(r store.Reader) (*iot.Package, error) { return r.Package("a") }), &changed)
		f.update(func(tx store.Tx) error { return tx.DeletePackage("a") })
		f.view(func(r store.Reader) error {
			_, err := r.Package("a")
			f.fails(store.ErrNotFound, err)
			return nil
		})
		f.refused(store.ErrNotFound, func(tx store.Tx) error { return tx.SavePackage(&changed) })
	}},
	{"versions are kept whole, listed, and found while their SBOM waits", func(f *fixture) {
		all := []*iot.PackageVersion{
			{
				Package: "p", Name: "1", Status: iot.VersionDraft, Description: "d", Attributes: map[string]string{"k": "v"}, Artifact: &iot.S3Location{Bucket: "bucket", Key: "k", Version: "v"},
				Recipe: "{}", SBOM: &iot.SBOM{Location: iot.S3Location{Bucket: "bucket", Key: "s"}, Status: iot.SBOMInProgress, Association: 7}, CreatedAt: t0, ModifiedAt: t0 + 1,
			},
			{Package: "p", Name: "2", Status: iot.VersionPublished, CreatedAt: t0, ModifiedAt: t0},
			{Package: "p", Name: "3", Status: iot.VersionPublished, SBOM: &iot.SBOM{Status: iot.SBOMInProgress, Association: 3}, CreatedAt: t0, ModifiedAt: t0},
			{Package: "q", Name: "1", Status: iot.VersionDeprecated, CreatedAt: t0, ModifiedAt: t0},
		}
		f.update(func(tx store.Tx) error {
			for _, v := range all {
				f.must(tx.InsertPackageVersion(v))
			}
			return nil
		})
		f.reopen()
		for _, v := range all {
			f.equal(read(f, func(r store.Reader) (*iot.PackageVersion, error) { return r.PackageVersion(v.Package, v.Name) }), v)
		}
		list := func(pkg string, status iot.VersionStatus, after string, limit int) []string {
			return names(read(f, func(r store.Reader) ([]*iot.PackageVersion, error) {
				return r.PackageVersions(pkg, status, after, limit)
			}), func(v *iot.PackageVersion) string { return v.Name })
		}
		f.equal(list("p", "", "", 9), []string{"1", "2", "3"})
		f.equal(list("p", "", "1", 1), []string{"2"})
		f.equal(list("p", iot.VersionPublished, "", 9), []string{"2", "3"})
		f.equal(list("missing", "", "", 9), []string{})
		pending := func(after int64, limit int) []string {
			return names(read(f, func(r store.Reader) ([]*iot.PackageVersion, error) { return r.PendingSBOMs(after, limit) }), func(v *iot.PackageVersion) string { return v.Name })
		}
		f.equal(pending(0, 9), []string{"3", "1"})
		f.equal(pending(0, 1), []string{"3"})
		f.equal(pending(3, 9), []string{"1"})
		f.refused(store.ErrExists, func(tx store.Tx) error { return tx.InsertPackageVersion(all[0]) })
		v := *all[2]
		v.Status, v.SBOM = iot.VersionDeprecated, &iot.SBOM{Status: iot.SBOMFailed, Association: 3, Results: []iot.SBOMResult{{File: "f", Status: iot.SBOMFailed, Error: "e", Message: "m"}}}
		f.update(func(tx store.Tx) error { return tx.SavePackageVersion(&v) })
		f.equal(read(f, func(r store.Reader) (*iot.PackageVersion, error) { return r.PackageVersion("p", "3") }), &v)
		f.equal(pending(0, 9), []string{"1"})
		f.update(func(tx store.Tx) error { return tx.DeletePackageVersion("p", "1") })
		f.equal(list("p", "", "", 9), []string{"2", "3"})
		f.refused(store.ErrNotFound, func(tx store.Tx) error { return tx.SavePackageVersion(all[0]) })
	}},
	{"configuration, deployments and tokens", func(f *fixture) {
		configured := func() iot.PackageConfiguration { return read(f, store.Reader.PackageConfiguration) }
		f.equal(configured(), iot.PackageConfiguration{})
		for _, c := range []iot.PackageConfiguration{{Enabled: true, RoleARN: "r"}, {RoleARN: "r"}} {
			f.update(func(tx store.Tx) error { return tx.SavePackageConfiguration(c) })
			f.equal(configured(), c)
		}
		missing := func(job int64) {
			f.view(func(r store.Reader) error {
				_, err := r.Deployment(job)
				f.fails(store.ErrNotFound, err)
				return nil
			})
		}
		j := f.job("j")
		missing(j.ID)
		for _, d := range []iot.Deployment{{Versions: []string{"a", "b"}, Document: "{}"}, {Versions: []string{"c"}}} {
			f.update(func(tx store.Tx) error { return tx.SaveDeployment(j.ID, d) })
			f.equal(read(f, func(r store.Reader) (iot.Deployment, error) { return r.Deployment(j.ID) }), d)
		}
		f.update(func(tx store.Tx) error { return tx.DeleteJob(j) })
		missing(j.ID)

		token := func(name string, now iot.Time) (k store.ClientToken, err error) {
			f.view(func(r store.Reader) error {
				k, err = r.ClientToken(name, now)
				return nil
			})
			return k, err
		}
		one := store.ClientToken{Token: "t", Request: "r", Answer: "a", ExpiresAt: t0 + 10}
		f.update(func(tx store.Tx) error { return tx.SaveClientToken(one, t0) })
		k, err := token("t", t0+9)
		f.must(err)
		f.equal(k, one)
		_, err = token("t", t0+10)
		f.fails(store.ErrNotFound, err)
		f.refused(store.ErrExists, func(tx store.Tx) error { return tx.SaveClientToken(one, t0+9) })
		one.Request, one.ExpiresAt = "other", t0+20
		f.update(func(tx store.Tx) error { return tx.SaveClientToken(one, t0+10) })
		k, err = token("t", t0+11)
		f.must(err)
		f.equal(k, one)
	}},
}
