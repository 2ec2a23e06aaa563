package console

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"drover/internal/iot"
)

// The software package catalog.

const packagesPath = "/packages"

// packageInfo is a package as the API describes it.
type packageInfo struct {
	Name        string  `json:"packageName"`
	ARN         string  `json:"packageArn"`
	Description string  `json:"description"`
	Default     string  `json:"defaultVersionName"`
	Created     seconds `json:"creationDate"`
	Changed     seconds `json:"lastModifiedDate"`
}

// versionInfo is a version of a package as the API describes it.
type versionInfo struct {
	Name        string            `json:"versionName"`
	ARN         string            `json:"packageVersionArn"`
	Status      string            `json:"status"`
	Description string            `json:"description"`
	Attributes  map[string]string `json:"attributes"`
	Artifact    *s3Place          `json:"artifact"`
	SBOM        *s3Place          `json:"sbom"`
	SBOMStatus  string            `json:"sbomValidationStatus"`
	Recipe      string            `json:"recipe"`
	Created     seconds           `json:"creationDate"`
	Changed     seconds           `json:"lastModifiedDate"`
}

type s3Place struct {
	At struct {
		Bucket  string `json:"bucket"`
		Key     string `json:"key"`
		Version string `json:"version,omitempty"`
	} `json:"s3Location"`
}

// cell shows a place, of the object store in the box as a link.
func (p *s3Place) cell(files bool) cell {
	if p == nil {
		return cell{}
	}
	c := plain("s3://" + p.At.Bucket + "/" + p.At.Key)
	if files {
		c.URL = (&url.URL{Path: Path + "objects/" + p.At.Bucket + "/" + p.At.Key}).EscapedPath()
	}
	return c
}

func (r *request) packages() error { return r.showPackages(sheet{}) }

func (r *request) showPackages(s sheet) error {
	s.Title, s.Hint = "Software packages", "What can be installed on things, and which versions of it there are."
	var out struct {
		Packages []packageInfo `json:"packageSummaries"`
		Next     string        `json:"nextToken"`
	}
	if err := r.call(http.MethodGet, packagesPath, r.onPage(&s, 50), nil, &out); err != nil {
		return err
	}
	t := table{Label: "Packages", Head: []string{"Package", "Default version", "Created", "Changed"}, Empty: "There are no packages."}
	for _, p := range out.Packages {
		t.Rows = append(t.Rows, []cell{to(p.Name, "packages/"+url.PathEscape(p.Name)), plain(p.Default), when(p.Created), when(p.Changed)})
	}
	s.Tables, s.Next = []table{t}, out.Next
	if r.can("iot:CreatePackage", r.Realm.ARN(iot.KindPackage, "*")) {
		s.Forms = []form{{Title: "New package", Do: "create", Button: "Create the package", Fields: []field{
			{Label: "Name", Name: "name", Value: r.field("name"), Required: true}, {Label: "Description", Name: "description", Value: r.field("description")},
		}}}
	}
	return r.sheet(s)
}

func (r *request) doPackages() error {
	return r.do(orders{"create": func() (string, error) {
		name, in := url.PathEscape(r.field("name")), map[string]string{}
		if d := r.field("description"); d != "" {
			in["description"] = d
		}
		return Path + "packages/" + name, r.call(http.MethodPut, packagesPath+"/"+name, nil, in, nil)
	}}, r.showPackages)
}

func (r *request) packagePage() error { return r.showPackage(sheet{}) }

const noDefault = "none"

func (r *request) showPackage(s sheet) error {
	name := r.PathValue("name")
	path := packagesPath + "/" + url.PathEscape(name)
	var p packageInfo
	if err := r.call(http.MethodGet, path, nil, nil, &p); err != nil {
		return err
	}
	var out struct {
		Versions []versionInfo `json:"packageVersionSummaries"`
		Next     string        `json:"nextToken"`
	}
	if err := r.call(http.MethodGet, path+"/versions", r.onPage(&s, 100), nil, &out); err != nil {
		return err
	}
	s.Title, s.Next = "Package "+name, out.Next
	s.Facts = facts("Description", plain(p.Description), "Default version", plain(p.Default), "Created", when(p.Created), "Changed", when(p.Changed), "ARN", cell{Text: p.ARN, Code: true})
	t := table{Title: "Versions", Label: "Versions", Head: []string{"Version", "Status", "", "Created", "Changed"}, Empty: "There are no versions."}
	defaults := []string{noDefault}
	for _, v := range out.Versions {
		mark := ""
		if v.Name == p.Default {
			mark = "the default"
		}
		t.Rows = append(t.Rows, []cell{to(v.Name, "packages/"+url.PathEscape(name)+"/"+url.PathEscape(v.Name)), {Pill: v.Status}, plain(mark), when(v.Created), when(v.Changed)})
		if iot.VersionStatus(v.Status).Deployable() {
			defaults = append(defaults, v.Name)
		}
	}
	s.Tables = []table{t}
	arn := r.Realm.ARN(iot.KindPackage, name)
	if r.can("iot:CreatePackageVersion", arn, r.Realm.PackageVersionARN(name, "*")) {
		s.Forms = append(s.Forms, form{Title: "New version", Hint: "It begins as a draft.", Do: "version", Button: "Create the version", Fields: []field{
			{Label: "Version", Name: "version", Value: r.field("version"), Required: true}, {Label: "Description", Name: "description", Value: r.field("description")},
			{Label: "Attributes, one name=value in a line", Name: "attributes", Kind: "area", Value: r.FormValue("attributes")},
			{Label: "Bucket of its artifact", Name: "bucket", Value: r.field("bucket")}, {Label: "Key of its artifact", Name: "key", Value: r.field("key")},
		}})
	}
	if r.can("iot:UpdatePackage", arn) {
		current := p.Default
		if current == "" {
			current = noDefault
		}
		s.Forms = append(s.Forms, form{Title: "Default version", Hint: "Jobs that install $default bring this one from now on.", Do: "default", Button: "Change", Fields: []field{
			{Label: "Version", Name: "version", Kind: "select", Options: defaults, Value: current},
		}})
	}
	if r.can("iot:DeletePackage", arn) {
		s.Forms = append(s.Forms, form{Title: "Delete the package", Do: "delete", Button: "Delete…", Danger: true})
	}
	return r.sheet(s)
}

func (r *request) doPackage() error {
	name := r.PathValue("name")
	path, here := packagesPath+"/"+url.PathEscape(name), Path+"packages/"+url.PathEscape(name)
	return r.do(orders{
		"version": func() (string, error) {
			version := url.PathEscape(r.field("version"))
			in, err := r.versionIn()
			if err != nil {
				return "", err
			}
			return here + "/" + version, r.call(http.MethodPut, path+"/versions/"+version, nil, in, nil)
		},
		"default": func() (string, error) {
			in := map[string]any{"defaultVersionName": r.field("version")}
			if r.field("version") == noDefault {
				in = map[string]any{"unsetDefaultVersion": true}
			}
			return here, r.call(http.MethodPatch, path, nil, in, nil)
		},
		"delete": r.sure("Delete this package?", name, "One that has versions is not deleted. Jobs that are under way stay as they are.", "Delete", Path+"packages",
			func() error { return r.call(http.MethodDelete, path, nil, nil, nil) }),
	}, r.showPackage)
}

// versionIn is what a form says of a version.
func (r *request) versionIn() (map[string]any, error) {
	in := map[string]any{}
	attributes, err := pairs(r.FormValue("attributes"))
	if err != nil {
		return nil, err
	}
	if len(attributes) > 0 || r.FormValue("do") == "change" {
		in["attributes"] = attributes
	}
	if d := r.field("description"); d != "" {
		in["description"] = d
	}
	if bucket, key := r.field("bucket"), r.field("key"); bucket+key != "" {
		in["artifact"] = map[string]any{"s3Location": map[string]string{"bucket": bucket, "key": key}}
	}
	return in, nil
}

func (r *request) versionPage() error { return r.showVersion(sheet{}) }

func (r *request) showVersion(s sheet) error {
	name, version := r.PathValue("name"), r.PathValue("version")
	var v versionInfo
	if err := r.call(http.MethodGet, packagesPath+"/"+url.PathEscape(name)+"/versions/"+url.PathEscape(version), nil, nil, &v); err != nil {
		return err
	}
	s.Title, s.First = name+" "+version, true
	s.Actions = []link{{"All versions", Path + "packages/" + url.PathEscape(name)}}
	s.Facts = facts("Status", cell{Pill: v.Status}, "Description", plain(v.Description), "Artifact", v.Artifact.cell(r.Files), "SBOM", v.SBOM.cell(r.Files),
		"Validation of the SBOM", cell{Pill: v.SBOMStatus}, "Created", when(v.Created), "Changed", when(v.Changed), "ARN", cell{Text: v.ARN, Code: true})
	attributes := table{Title: "Attributes", Label: "Attributes", Head: []string{"Name", "Value", "In a job document"}, Empty: "It has none."}
	var lines []string
	for k, value := range v.Attributes {
		attributes.Rows = append(attributes.Rows, []cell{plain(k), plain(value), {Text: "${aws:iot:package:" + name + ":version:" + version + ":attributes:" + k + "}", Code: true}})
		lines = append(lines, k+"="+value)
	}
	slices.SortFunc(attributes.Rows, func(a, b []cell) int { return strings.Compare(a[0].Text, b[0].Text) })
	slices.Sort(lines)
	s.Tables = []table{attributes}
	if v.Recipe != "" {
		s.Code = []codeBlock{{"Recipe", pretty(v.Recipe)}}
	}
	arn := r.Realm.PackageVersionARN(name, version)
	if r.can("iot:UpdatePackageVersion", arn) {
		switch iot.VersionStatus(v.Status) {
		case iot.VersionDraft:
			change := form{Title: "Change the draft", Do: "change", Button: "Change", Fields: []field{
				{Label: "Description", Name: "description", Value: v.Description}, {Label: "Attributes, one name=value in a line", Name: "attributes", Kind: "area", Value: strings.Join(lines, "\n")},
			}}
			if v.Artifact != nil {
				change.Fields = append(change.Fields, field{Label: "Bucket of its artifact", Name: "bucket", Value: v.Artifact.At.Bucket}, field{Label: "Key of its artifact", Name: "key", Value: v.Artifact.At.Key})
			} else {
				change.Fields = append(change.Fields, field{Label: "Bucket of its artifact", Name: "bucket"}, field{Label: "Key of its artifact", Name: "key"})
			}
			s.Forms = append(s.Forms, change, form{Title: "Publish", Hint: "Jobs can deploy it then. Its attributes and its artifact stay what they are.", Do: "PUBLISH", Button: "Publish"})
		case iot.VersionPublished:
			s.Forms = append(s.Forms, form{Title: "Deprecate", Hint: "There is something better. Jobs can still deploy it.", Do: "DEPRECATE", Button: "Deprecate"})
		case iot.VersionDeprecated:
			s.Forms = append(s.Forms, form{Title: "Publish again", Do: "PUBLISH", Button: "Publish"})
		}
	}
	if r.can("iot:DeletePackageVersion", arn) {
		s.Forms = append(s.Forms, form{Title: "Delete the version", Do: "delete", Button: "Delete…", Danger: true})
	}
	return r.sheet(s)
}

func (r *request) doVersion() error {
	name, version := r.PathValue("name"), r.PathValue("version")
	path := packagesPath + "/" + url.PathEscape(name) + "/versions/" + url.PathEscape(version)
	here := Path + "packages/" + url.PathEscape(name) + "/" + url.PathEscape(version)
	become := func() (string, error) {
		return here, r.call(http.MethodPatch, path, nil, map[string]string{"action": r.FormValue("do")}, nil)
	}
	return r.do(orders{
		"PUBLISH": become, "DEPRECATE": become,
		"change": func() (string, error) {
			in, err := r.versionIn()
			if err != nil {
				return "", err
			}
			return here, r.call(http.MethodPatch, path, nil, in, nil)
		},
		"delete": r.sure("Delete this version?", name+" "+version, "Jobs that are under way stay as they are. What things say of their versions stays, too.", "Delete", Path+"packages/"+url.PathEscape(name),
			func() error { return r.call(http.MethodDelete, path, nil, nil, nil) }),
	}, r.showVersion)
}
