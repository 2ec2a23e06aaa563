// Package packages is the software package catalog: packages, their versions and what these consist of (registry
// spec §10). What jobs do with versions is the engine's.
//
// A method is one transaction. A request with a client token is carried out once, however often it is sent within
// eight hours; what it was answered is answered again.
package packages

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"drover/internal/iot"
	"drover/internal/store"
)

// Config says what a Catalog works with. Store and Realm are required.
type Config struct {
	Store   store.Store
	Realm   iot.Realm
	Objects Objects          // nil: there is no store that an SBOM could be in
	Logger  *slog.Logger     // nil = slog.Default()
	Now     func() time.Time // nil = time.Now
	Poll    time.Duration    // how often is looked for an SBOM that another node left; default 5 s
}

// Catalog is the software package catalog of one realm. Its methods may be called concurrently. SBOMs are validated
// while Run runs.
type Catalog struct {
	store   store.Store
	realm   iot.Realm
	objects Objects
	log     *slog.Logger
	now     func() time.Time
	poll    time.Duration
	hint    chan struct{} // an SBOM is to be validated
}

// New returns a Catalog. It keeps no state outside of the store.
func New(cfg Config) *Catalog {
	c := &Catalog{
		store: cfg.Store, realm: cfg.Realm, objects: cfg.Objects, log: cmp.Or(cfg.Logger, slog.Default()), now: cfg.Now, poll: cmp.Or(cfg.Poll, 5*time.Second),
		hint: make(chan struct{}, 1),
	}
	if c.now == nil {
		c.now = time.Now
	}
	return c
}

// tokenLife is how long client tokens are remembered.
const tokenLife = 8 * time.Hour

// change is a transaction with what is the same all through it.
type change struct {
	store.Tx
	now   iot.Time
	actor string
}

func (c *change) record(kind iot.Kind, data any) error {
	rec, err := iot.NewRecord(kind, c.now, c.actor, data)
	if err != nil {
		return err
	}
	return c.Append(rec)
}

// once carries out f in a transaction, unless the same request was carried out with the same token: then it returns what
// f returned at that time. ResourceConflict for a token of another request. Errors of f are not remembered.
func once[T any](ctx context.Context, s *Catalog, token, operation string, request any, actor string, f func(*change) (T, error)) (answer T, err error) {
	err = s.store.Update(ctx, func(tx store.Tx) error {
		c := &change{tx, iot.At(s.now()), actor}
		if token == "" {
			answer, err = f(c)
			return err
		}
		text, err := json.Marshal([]any{operation, request})
		if err != nil {
			return err
		}
		sum := sha256.Sum256(text)
		k := store.ClientToken{Token: token, Request: hex.EncodeToString(sum[:]), ExpiresAt: iot.At(s.now().Add(tokenLife))}
		switch before, err := tx.ClientToken(token, c.now); {
		case err == nil && before.Request != k.Request:
			return iot.Errorf(iot.ResourceConflict, "The clientToken was used for another request")
		case err == nil:
			var zero T
			answer = zero
			return json.Unmarshal([]byte(before.Answer), &answer)
		case !errors.Is(err, store.ErrNotFound):
			return err
		}
		if answer, err = f(c); err != nil {
			return err
		}
		if text, err = json.Marshal(answer); err != nil {
			return err
		}
		k.Answer = string(text)
		return tx.SaveClientToken(k, c.now)
	})
	return answer, err
}

// nothing is the answer of requests that have none.
type nothing struct{}

// view returns what f finds in a snapshot of the store.
func view[T any](ctx context.Context, s *Catalog, f func(store.Reader) (T, error)) (found T, err error) {
	err = s.store.View(ctx, func(rd store.Reader) error {
		found, err = f(rd)
		return err
	})
	return found, err
}

// cut makes a page of items, of which one more than the limit was asked for.
func cut[T any](items []T, limit int, name func(T) string) ([]T, string) {
	if len(items) <= limit {
		return items, ""
	}
	return items[:limit], name(items[limit-1])
}

func findPackage(rd store.Reader, name string) (*iot.Package, error) {
	p, err := rd.Package(name)
	return p, store.Absent(err, "Package", name)
}

func findVersion(rd store.Reader, pkg, version string) (*iot.PackageVersion, error) {
	v, err := rd.PackageVersion(pkg, version)
	return v, store.Absent(err, "Package version", pkg+"/"+version)
}

// exists is the error for a name that is taken.
func exists(what, name string) error {
	err := iot.Errorf(iot.ResourceConflict, "%s %s already exists", what, name)
	err.ResourceID = name
	return err
}

// CreatePackage stores a package. InvalidRequest for bad tags; ResourceConflict for a name that is taken.
func (s *Catalog) CreatePackage(ctx context.Context, n iot.NewPackage, token string) (iot.Package, error) {
	if err := iot.CheckNewTags(n.Tags); err != nil {
		return iot.Package{}, err
	}
	return once(ctx, s, token, "CreatePackage", n, n.Actor, func(c *change) (p iot.Package, err error) {
		switch _, err := c.Package(n.Name); {
		case err == nil:
			return p, exists("Package", n.Name)
		case !errors.Is(err, store.ErrNotFound):
			return p, err
		}
		p = iot.Package{Name: n.Name, Description: n.Description, CreatedAt: c.now, ModifiedAt: c.now}
		if err := c.InsertPackage(&p); err != nil {
			return p, err
		}
		if err := c.PutTags(s.realm.ARN(iot.KindPackage, n.Name), n.Tags); err != nil {
			return p, err
		}
		return p, c.record(iot.PackageCreated, iot.PackageEvent{Package: n.Name})
	})
}

// UpdatePackage changes a package. NotFound for the package, and for a version that is to become the default; InvalidRequest.
func (s *Catalog) UpdatePackage(ctx context.Context, u iot.PackageUpdate, token string) error {
	_, err := once(ctx, s, token, "UpdatePackage", u, u.Actor, func(c *change) (done nothing, err error) {
		p, err := findPackage(c, u.Name)
		if err != nil {
			return done, err
		}
		var version *iot.PackageVersion
		if u.DefaultVersion != nil {
			if version, err = c.PackageVersion(u.Name, *u.DefaultVersion); err != nil && !errors.Is(err, store.ErrNotFound) {
				return done, err
			}
		}
		changed, err := u.Apply(p, version, c.now)
		if err != nil || !changed {
			return done, err
		}
		if err := c.SavePackage(p); err != nil {
			return done, err
		}
		return done, c.record(iot.PackageUpdated, iot.PackageEvent{Package: p.Name, Version: p.DefaultVersion})
	})
	return err
}

// DeletePackage forgets a package; that there is none is no error. InvalidRequest for one that has versions.
func (s *Catalog) DeletePackage(ctx context.Context, name, actor, token string) error {
	_, err := once(ctx, s, token, "DeletePackage", name, actor, func(c *change) (done nothing, err error) {
		switch _, err := c.Package(name); {
		case errors.Is(err, store.ErrNotFound):
			return done, nil
		case err != nil:
			return done, err
		}
		versions, err := c.PackageVersions(name, "", "", 1)
		if err != nil {
			return done, err
		}
		if len(versions) > 0 {
			return done, iot.Errorf(iot.InvalidRequest, "Package %s has versions, such as %s: delete them first", name, versions[0].Name)
		}
		if err := c.Tx.DeletePackage(name); err != nil {
			return done, err
		}
		if err := c.DeleteTags(s.realm.ARN(iot.KindPackage, name), nil); err != nil {
			return done, err
		}
		return done, c.record(iot.PackageDeleted, iot.PackageEvent{Package: name})
	})
	return err
}

// Package returns a package. NotFound.
func (s *Catalog) Package(ctx context.Context, name string) (*iot.Package, error) {
	return view(ctx, s, func(rd store.Reader) (*iot.Package, error) { return findPackage(rd, name) })
}

// Packages lists packages by name.
func (s *Catalog) Packages(ctx context.Context, page iot.Page) (list []*iot.Package, next string, err error) {
	err = s.store.View(ctx, func(rd store.Reader) error {
		list, err = rd.Packages(page.Cursor, page.Limit+1)
		list, next = cut(list, page.Limit, func(p *iot.Package) string { return p.Name })
		return err
	})
	return list, next, err
}

// CreateVersion stores a version, as a draft. InvalidRequest; NotFound for the package; ResourceConflict for a name that is taken.
func (s *Catalog) CreateVersion(ctx context.Context, n iot.NewPackageVersion, token string) (*iot.PackageVersion, error) {
	if err := n.Check(); err != nil {
		return nil, err
	}
	if err := iot.CheckNewTags(n.Tags); err != nil {
		return nil, err
	}
	v, err := once(ctx, s, token, "CreatePackageVersion", n, n.Actor, func(c *change) (v *iot.PackageVersion, err error) {
		if _, err := findPackage(c, n.Package); err != nil {
			return nil, err
		}
		switch _, err := c.PackageVersion(n.Package, n.Name); {
		case err == nil:
			return nil, exists("Package version", n.Name)
		case !errors.Is(err, store.ErrNotFound):
			return nil, err
		}
		v = &iot.PackageVersion{
			Package: n.Package, Name: n.Name, Status: iot.VersionDraft, Description: n.Description, Attributes: n.Attributes, Artifact: n.Artifact,
			Recipe: n.Recipe, CreatedAt: c.now, ModifiedAt: c.now,
		}
		if err := c.InsertPackageVersion(v); err != nil {
			return nil, err
		}
		if err := c.PutTags(s.realm.PackageVersionARN(n.Package, n.Name), n.Tags); err != nil {
			return nil, err
		}
		return v, c.tell(iot.PackageVersionCreated, v)
	})
	if err != nil {
		return nil, err
	}
	v.Package, v.Name, v.Status = n.Package, n.Name, iot.VersionDraft // which an answer that was remembered does not say
	return v, nil
}

// tell appends a record about a version.
func (c *change) tell(kind iot.Kind, v *iot.PackageVersion) error {
	return c.record(kind, iot.PackageEvent{Package: v.Package, Version: v.Name, Status: v.Status})
}

// UpdateVersion changes a version. NotFound; InvalidRequest; ResourceConflict for what its state does not allow.
func (s *Catalog) UpdateVersion(ctx context.Context, u iot.PackageVersionUpdate, token string) error {
	_, err := once(ctx, s, token, "UpdatePackageVersion", u, u.Actor, func(c *change) (done nothing, err error) {
		v, err := findVersion(c, u.Package, u.Name)
		if err != nil {
			return done, err
		}
		changed, err := u.Apply(v, c.now)
		if err != nil || !changed {
			return done, err
		}
		if err := c.SavePackageVersion(v); err != nil {
			return done, err
		}
		return done, c.tell(iot.PackageVersionUpdated, v)
	})
	return err
}

// DeleteVersion forgets a version; that there is none is no error. InvalidRequest for the default version of its package.
func (s *Catalog) DeleteVersion(ctx context.Context, pkg, version, actor, token string) error {
	_, err := once(ctx, s, token, "DeletePackageVersion", []string{pkg, version}, actor, func(c *change) (done nothing, err error) {
		v, err := c.PackageVersion(pkg, version)
		if errors.Is(err, store.ErrNotFound) {
			return done, nil
		}
		if err != nil {
			return done, err
		}
		p, err := c.Package(pkg)
		if err != nil {
			return done, fmt.Errorf("package %s of version %s: %w", pkg, version, err)
		}
		if p.DefaultVersion == version {
			return done, iot.Errorf(iot.InvalidRequest, "Version %s is the default version of package %s: make another one the default, or none, first", version, pkg)
		}
		if err := c.DeletePackageVersion(pkg, version); err != nil {
			return done, err
		}
		if err := c.DeleteTags(s.realm.PackageVersionARN(pkg, version), nil); err != nil {
			return done, err
		}
		return done, c.tell(iot.PackageVersionDeleted, v)
	})
	return err
}

// Version returns a version. NotFound.
func (s *Catalog) Version(ctx context.Context, pkg, version string) (*iot.PackageVersion, error) {
	return view(ctx, s, func(rd store.Reader) (*iot.PackageVersion, error) { return findVersion(rd, pkg, version) })
}

// Versions lists the versions of a package by name; status "" = all. A package that does not exist has none.
func (s *Catalog) Versions(ctx context.Context, pkg string, status iot.VersionStatus, page iot.Page) (list []*iot.PackageVersion, next string, err error) {
	err = s.store.View(ctx, func(rd store.Reader) error {
		list, err = rd.PackageVersions(pkg, status, page.Cursor, page.Limit+1)
		list, next = cut(list, page.Limit, func(v *iot.PackageVersion) string { return v.Name })
		return err
	})
	return list, next, err
}

// Configuration returns what jobs do about installed versions.
func (s *Catalog) Configuration(ctx context.Context) (iot.PackageConfiguration, error) {
	return view(ctx, s, store.Reader.PackageConfiguration)
}

// Configure changes what jobs do about installed versions.
func (s *Catalog) Configure(ctx context.Context, u iot.PackageConfigurationUpdate, token string) error {
	_, err := once(ctx, s, token, "UpdatePackageConfiguration", u, u.Actor, func(c *change) (done nothing, err error) {
		cfg, err := c.PackageConfiguration()
		if err != nil {
			return done, err
		}
		was := cfg
		if u.Enabled != nil {
			cfg.Enabled = *u.Enabled
		}
		if u.RoleARN != nil {
			cfg.RoleARN = *u.RoleARN
		}
		if cfg == was {
			return done, nil
		}
		if err := c.SavePackageConfiguration(cfg); err != nil {
			return done, err
		}
		return done, c.record(iot.PackagesConfigured, cfg)
	})
	return err
}
