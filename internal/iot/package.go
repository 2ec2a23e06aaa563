package iot

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Package is an entry of the software package catalog (registry spec §10.1).
type Package struct {
	Name           string
	Description    string
	DefaultVersion string // "" if none
	CreatedAt      Time
	ModifiedAt     Time
}

// VersionStatus is the state of a package version in AWS's own words.
type VersionStatus string

// The states: a version begins as a draft, and never becomes one again.
const (
	VersionDraft      VersionStatus = "DRAFT"
	VersionPublished  VersionStatus = "PUBLISHED"
	VersionDeprecated VersionStatus = "DEPRECATED"
)

// Deployable reports whether jobs can deploy a version in the state.
func (s VersionStatus) Deployable() bool { return s == VersionPublished || s == VersionDeprecated }

// VersionAction is what UpdatePackageVersion does to the state.
type VersionAction string

// The actions.
const (
	PublishVersion   VersionAction = "PUBLISH"
	DeprecateVersion VersionAction = "DEPRECATE"
)

// PackageVersion is a version of a package. Which package, which name and which state are not part of its JSON.
type PackageVersion struct {
	Package string        `json:"-"`
	Name    string        `json:"-"`
	Status  VersionStatus `json:"-"`

	Description string            `json:"description,omitempty"`
	Attributes  map[string]string `json:"attributes,omitempty"`
	Artifact    *S3Location       `json:"artifact,omitempty"`
	Recipe      string            `json:"recipe,omitempty"`
	SBOM        *SBOM             `json:"sbom,omitempty"`
	CreatedAt   Time              `json:"createdAt"`
	ModifiedAt  Time              `json:"modifiedAt"`
}

// S3Location says where an object is.
type S3Location struct {
	Bucket  string `json:"bucket"`
	Key     string `json:"key"`
	Version string `json:"version,omitempty"` // "" for the latest
}

// Object is the object at the place.
func (l S3Location) Object() Object { return Object{Bucket: l.Bucket, Key: l.Key, Version: l.Version} }

// Check returns an InvalidRequest error unless l can name an object.
func (l S3Location) Check() error {
	if strings.Contains(l.Key, versionMark) {
		return Errorf(InvalidRequest, "The key of an object cannot hold %q here", versionMark)
	}
	return l.Object().check()
}

// Limits of the catalog (registry spec §0.2).
const (
	maxPackageName       = 128
	maxVersionName       = 64
	MaxVersionAttributes = 3 << 10 // bytes of names and values together
	MaxPackageVersions   = 25      // destinations of a job
)

// What can stand for the name of a version.
const (
	DefaultVersion = "$default" // the default version of the package
	NoVersion      = "$null"    // in a destination: the package is taken away
)

var (
	catalogName    = regexp.MustCompile(`^[a-zA-Z0-9_.-]+$`)
	attributeNames = regexp.MustCompile(`^[a-zA-Z0-9:_-]+$`)
)

// ValidPackageName reports whether s can name a package.
func ValidPackageName(s string) bool { return len(s) <= maxPackageName && catalogName.MatchString(s) }

// ValidVersionName reports whether s can name a version of a package.
func ValidVersionName(s string) bool { return len(s) <= maxVersionName && catalogName.MatchString(s) }

// CheckVersionAttributes returns an InvalidRequest error unless a version can have the attributes.
func CheckVersionAttributes(attributes map[string]string) error {
	size := 0
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		value := attributes[name]
		size += len(name) + len(value)
		switch {
		case !attributeNames.MatchString(name):
			return Invalid("attributes", name, `Map keys must satisfy constraint: [Member must satisfy regular expression pattern: [a-zA-Z0-9:_-]+]`)
		case value == "" || !utf8.ValidString(value) || strings.ContainsFunc(value, func(r rune) bool { return unicode.In(r, unicode.C) }):
			return Invalid("attributes."+name, value, `Member must satisfy regular expression pattern: [^\p{C}]+`)
		}
	}
	if size > MaxVersionAttributes {
		return Errorf(InvalidRequest, "The attributes have %d bytes together; the limit is %d", size, MaxVersionAttributes)
	}
	return nil
}

// NewPackage is what CreatePackage asks for.
type NewPackage struct {
	Name        string
	Description string
	Tags        []Tag
	Actor       string
}

// PackageUpdate is what UpdatePackage asks for; nil members stay as they are.
type PackageUpdate struct {
	Name           string
	Description    *string
	DefaultVersion *string
	UnsetDefault   bool
	Actor          string
}

// Apply changes p and reports whether that changed anything. version is the one that is to become the default,
// nil if there is no such version. InvalidRequest; NotFound.
func (u PackageUpdate) Apply(p *Package, version *PackageVersion, now Time) (changed bool, err error) {
	was := *p
	if u.Description != nil {
		p.Description = *u.Description
	}
	if u.UnsetDefault {
		p.DefaultVersion = ""
	}
	if u.DefaultVersion != nil {
		switch {
		case u.UnsetDefault:
			return false, Errorf(InvalidRequest, "defaultVersionName cannot be given together with unsetDefaultVersion")
		case version == nil:
			return false, Errorf(NotFound, "Version %s of package %s cannot be found.", *u.DefaultVersion, p.Name)
		case !version.Status.Deployable():
			return false, Errorf(InvalidRequest, "Version %s of package %s is %s: the default version must be PUBLISHED or DEPRECATED", version.Name, p.Name, version.Status)
		}
		p.DefaultVersion = version.Name
	}
	if *p == was {
		return false, nil
	}
	p.ModifiedAt = now
	return true, nil
}

// NewPackageVersion is what CreatePackageVersion asks for.
type NewPackageVersion struct {
	Package     string
	Name        string
	Description string
	Attributes  map[string]string
	Artifact    *S3Location
	Recipe      string
	Tags        []Tag
	Actor       string
}

// Check returns an InvalidRequest error unless there can be such a version.
func (n NewPackageVersion) Check() error {
	if err := CheckVersionAttributes(n.Attributes); err != nil {
		return err
	}
	if n.Artifact != nil {
		return n.Artifact.Check()
	}
	return nil
}

// PackageVersionUpdate is what UpdatePackageVersion asks for; nil members stay as they are.
type PackageVersionUpdate struct {
	Package     string
	Name        string
	Description *string
	Attributes  map[string]string
	Artifact    *S3Location
	Recipe      *string
	Action      VersionAction // "" for none
	Actor       string
}

// Apply changes v as a whole, the members before the state, and reports whether that changed anything. InvalidRequest;
// ResourceConflict for what the state of v does not allow.
func (u PackageVersionUpdate) Apply(v *PackageVersion, now Time) (changed bool, err error) {
	if v.Status != VersionDraft && (u.Attributes != nil && !maps.Equal(u.Attributes, v.Attributes) || u.Artifact != nil && (v.Artifact == nil || *u.Artifact != *v.Artifact)) {
		return false, Errorf(ResourceConflict, "Version %s of package %s is %s: attributes and artifact can only be changed while it is DRAFT", v.Name, v.Package, v.Status)
	}
	if u.Attributes != nil && !maps.Equal(u.Attributes, v.Attributes) {
		if err := CheckVersionAttributes(u.Attributes); err != nil {
			return false, err
		}
		v.Attributes, changed = u.Attributes, true
	}
	if u.Artifact != nil && (v.Artifact == nil || *u.Artifact != *v.Artifact) {
		if err := u.Artifact.Check(); err != nil {
			return false, err
		}
		v.Artifact, changed = u.Artifact, true
	}
	if u.Description != nil && *u.Description != v.Description {
		v.Description, changed = *u.Description, true
	}
	if u.Recipe != nil && *u.Recipe != v.Recipe {
		v.Recipe, changed = *u.Recipe, true
	}
	was := v.Status
	switch u.Action {
	case PublishVersion:
		v.Status = VersionPublished
	case DeprecateVersion:
		if v.Status == VersionDraft {
			return false, Errorf(ResourceConflict, "Version %s of package %s is DRAFT: only a version that is PUBLISHED can be deprecated", v.Name, v.Package)
		}
		v.Status = VersionDeprecated
	}
	if changed = changed || v.Status != was; changed {
		v.ModifiedAt = now
	}
	return changed, nil
}

// PackageEvent is the Data of the records about a package, and about a version of one.
type PackageEvent struct {
	Package string        `json:"package"`
	Version string        `json:"version,omitempty"`
	Status  VersionStatus `json:"status,omitempty"`
}

// PackageConfiguration says what jobs do about installed versions (registry spec §10.5).
type PackageConfiguration struct {
	Enabled bool   `json:"enabled"` // a job that succeeds on a thing notes its versions in the shadow $package
	RoleARN string `json:"roleArn,omitempty"`
}

// PackageConfigurationUpdate is what UpdatePackageConfiguration asks for; nil members stay as they are.
type PackageConfigurationUpdate struct {
	Enabled *bool
	RoleARN *string
	Actor   string
}

// Destination is a version that a job brings to its things, or that it takes away.
type Destination struct {
	Package string
	Version string // the name of a version, DefaultVersion or NoVersion
}

// versionPart is in the ARN of a version: …:package/NAME/version/NAME.
const versionPart = "/version/"

// PackageVersionARN returns the ARN of a version.
func (r Realm) PackageVersionARN(pkg, version string) string {
	return r.ARN(KindPackage, pkg+versionPart+version)
}

// ParseDestination reads an ARN of destinationPackageVersions. InvalidRequest.
func (r Realm) ParseDestination(arn string) (Destination, error) {
	kind, name, err := r.ParseARN(arn)
	if err != nil {
		return Destination{}, err
	}
	pkg, version, ok := strings.Cut(name, versionPart)
	if kind != KindPackage || !ok || !ValidPackageName(pkg) || version != DefaultVersion && version != NoVersion && !ValidVersionName(version) {
		return Destination{}, Errorf(InvalidRequest, "%q is not the ARN of a package version, which ends with :package/NAME/version/NAME", shorten(arn))
	}
	return Destination{pkg, version}, nil
}

// ParseDestinations reads destinationPackageVersions. InvalidRequest for one that is none, and for a package that is
// in it twice.
func (r Realm) ParseDestinations(arns []string) ([]Destination, error) {
	list := make([]Destination, 0, len(arns))
	for _, arn := range arns {
		d, err := r.ParseDestination(arn)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(list, func(o Destination) bool { return o.Package == d.Package }) {
			return nil, Errorf(InvalidRequest, "destinationPackageVersions has more than one version of the package %s", d.Package)
		}
		list = append(list, d)
	}
	return list, nil
}

// Deployment is what a job with destinations came to when it started: it stays as it was then.
type Deployment struct {
	Versions []string // ARNs, DefaultVersion resolved
	Document string   // what devices get, but for presigned URLs; "": the document of the job
}
