package iot

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
)

// versionRef is what a placeholder for a package version names (spec §9.2).
type versionRef struct {
	Destination        // both parts "": the one destination of the job
	attribute   string // "" for all attributes, as an object
	artifact    bool   // a presigned URL of the artifact, no attribute
}

// Parts of placeholders for package versions.
const (
	attributesPart = "attributes"
	noPackage      = "The placeholder %s%s} needs a package and a version, or neither"
)

// parseVersion reads the target of a placeholder ${aws:iot:package:TARGET}:
// PACKAGE:version:VERSION:attributes[:NAME], or with artifact-location:s3-presigned-url at the end.
func (l *link) parseVersion(text, body, target string) error {
	parts := strings.SplitN(target, ":", 4)
	if len(parts) != 4 || parts[1] != "version" {
		return Errorf(InvalidRequest, "The placeholder %s%s} is not of the form package:NAME:version:NAME:attributes[:NAME]", placeholder, shorten(body))
	}
	ref := &versionRef{Destination: Destination{parts[0], parts[2]}}
	switch {
	case (ref.Package == "") != (ref.Version == ""):
		return Errorf(InvalidRequest, noPackage, placeholder, shorten(body))
	case ref.Version == NoVersion:
		return Errorf(InvalidRequest, "The placeholder %s%s} cannot be about the version %s", placeholder, shorten(body), NoVersion)
	case ref.Package != "" && !ValidPackageName(ref.Package), ref.Version != "" && ref.Version != DefaultVersion && !ValidVersionName(ref.Version):
		return Errorf(InvalidRequest, "The placeholder %s%s} names no package version", placeholder, shorten(body))
	}
	what, name, named := strings.Cut(parts[3], ":")
	switch {
	case what == attributesPart && named && attributeNames.MatchString(name):
		ref.attribute = name
	case what == attributesPart && !named:
		// It is replaced with its quotes.
		l.from--
		l.to++
		if l.to > len(text) || text[l.from] != '"' || text[l.to-1] != '"' || strings.HasPrefix(strings.TrimLeft(text[l.to:], " \t\r\n"), ":") {
			return Errorf(InvalidRequest, "The placeholder %s%s} must be a value of the document, and all of it", placeholder, shorten(body))
		}
	case (what == "artifact-location" || what == "artifact") && name == "s3-presigned-url":
		ref.artifact = true
	default:
		return Errorf(InvalidRequest, "There is no placeholder %s%s}", placeholder, shorten(body))
	}
	l.ref = ref
	return nil
}

// Versioned reports whether the document has placeholders for package versions, which must be filled in before
// devices get it.
func (d *Document) Versioned() bool {
	return slices.ContainsFunc(d.links, func(l link) bool { return l.ref != nil })
}

// CheckDestinations returns an InvalidRequest error unless a job with the destinations can have the document: what its
// placeholders name must be among them, $default as $default.
func (d *Document) CheckDestinations(list []Destination) error {
	for _, l := range d.links {
		if l.ref != nil {
			if _, err := l.ref.in(list); err != nil {
				return err
			}
		}
	}
	return nil
}

// in finds the destination that r is about.
func (r *versionRef) in(list []Destination) (Destination, error) {
	if r.Package == "" {
		if len(list) != 1 || list[0].Version == NoVersion {
			return Destination{}, Errorf(InvalidRequest, "A placeholder without package and version needs a job with one entry in destinationPackageVersions, which has a version; this one has %d", len(list))
		}
		return list[0], nil
	}
	if !slices.Contains(list, r.Destination) {
		return Destination{}, Errorf(InvalidRequest, "The document has a placeholder for version %s of package %s, which is not in destinationPackageVersions", r.Version, r.Package)
	}
	return r.Destination, nil
}

// Resolve returns the document with the placeholders for package versions filled in. Those for presigned URLs stay,
// and artifacts become such. versions has those of the destinations. InvalidRequest for an attribute or an artifact that is
// not there.
func (d *Document) Resolve(list []Destination, versions map[Destination]*PackageVersion) (string, error) {
	var b strings.Builder
	at := 0
	for _, l := range d.links {
		if l.ref == nil {
			continue
		}
		to, err := l.ref.in(list)
		if err != nil {
			return "", err
		}
		text, err := l.ref.text(versions[to])
		if err != nil {
			return "", err
		}
		b.WriteString(d.text[at:l.from])
		b.WriteString(text)
		at = l.to
	}
	b.WriteString(d.text[at:])
	return b.String(), nil
}

// text returns what stands in the document for the placeholder.
func (r *versionRef) text(v *PackageVersion) (string, error) {
	if r.artifact {
		if v.Artifact == nil {
			return "", Errorf(InvalidRequest, "Version %s of package %s has no artifact, which the document has a placeholder for", v.Name, v.Package)
		}
		return placeholder + "s3-presigned-url-v2:" + v.Artifact.url() + "}", nil
	}
	if r.attribute == "" {
		attributes := v.Attributes
		if attributes == nil {
			attributes = map[string]string{}
		}
		text, err := json.Marshal(attributes)
		return string(text), err
	}
	value, ok := v.Attributes[r.attribute]
	if !ok {
		return "", Errorf(InvalidRequest, "Version %s of package %s has no attribute %s, which the document has a placeholder for", v.Name, v.Package, r.attribute)
	}
	text, err := json.Marshal(value)
	if err != nil {
		return "", err
	}
	return string(text[1 : len(text)-1]), nil
}

// url returns a URL that names the place and can stand in a document.
func (l S3Location) url() string {
	u := "s3://" + l.Bucket + "/" + url.PathEscape(l.Key)
	if l.Version != "" {
		u += url.PathEscape(versionMark) + url.PathEscape(l.Version)
	}
	return u
}
