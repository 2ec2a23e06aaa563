package iot

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestPackageVersionStates(t *testing.T) {
	text := func(s string) *string { return &s }
	place := &S3Location{Bucket: "bucket", Key: "k"}
	for _, test := range []struct {
		name   string
		status VersionStatus
		update PackageVersionUpdate
		want   VersionStatus
		change bool
		code   Code
	}{
		{"publish", VersionDraft, PackageVersionUpdate{Action: PublishVersion}, VersionPublished, true, ""},
		{"publish again", VersionPublished, PackageVersionUpdate{Action: PublishVersion}, VersionPublished, false, ""},
		{"deprecate", VersionPublished, PackageVersionUpdate{Action: DeprecateVersion}, VersionDeprecated, true, ""},
		{"deprecate again", VersionDeprecated, PackageVersionUpdate{Action: DeprecateVersion}, VersionDeprecated, false, ""},
		{"back again", VersionDeprecated, PackageVersionUpdate{Action: PublishVersion}, VersionPublished, true, ""},
		{"deprecate a draft", VersionDraft, PackageVersionUpdate{Action: DeprecateVersion}, VersionDraft, false, ResourceConflict},
		{"change and publish", VersionDraft, PackageVersionUpdate{Attributes: map[string]string{"a": "2"}, Artifact: place, Action: PublishVersion}, VersionPublished, true, ""},
		{"attributes later", VersionPublished, PackageVersionUpdate{Attributes: map[string]string{"a": "2"}}, VersionPublished, false, ResourceConflict},
		{"the same attributes later", VersionPublished, PackageVersionUpdate{Attributes: map[string]string{"a": "1"}}, VersionPublished, false, ""},
		{"artifact later", VersionDeprecated, PackageVersionUpdate{Artifact: place}, VersionDeprecated, false, ResourceConflict},
		{"description later", VersionDeprecated, PackageVersionUpdate{Description: text("x"), Recipe: text("{}")}, VersionDeprecated, true, ""},
		{"nothing", VersionDraft, PackageVersionUpdate{Description: text("d")}, VersionDraft, false, ""},
		{"attributes too large", VersionDraft, PackageVersionUpdate{Attributes: map[string]string{"a": strings.Repeat("x", MaxVersionAttributes)}, Action: PublishVersion}, VersionDraft, false, InvalidRequest},
		{"artifact nowhere", VersionDraft, PackageVersionUpdate{Artifact: &S3Location{Bucket: "b", Key: "k"}}, VersionDraft, false, InvalidRequest},
	} {
		v := &PackageVersion{Package: "p", Name: "1", Status: test.status, Description: "d", Attributes: map[string]string{"a": "1"}, ModifiedAt: 1}
		changed, err := test.update.Apply(v, 2)
		if changed != test.change || ErrorCode(err) != test.code {
			t.Errorf("%s: %v, %v", test.name, changed, err)
		}
		if v.Status != test.want {
			t.Errorf("%s: %s, want %s", test.name, v.Status, test.want)
		}
		if err == nil && (v.ModifiedAt == 2) != test.change {
			t.Errorf("%s: modified at %d", test.name, v.ModifiedAt)
		}
	}
}

func TestPackageDefault(t *testing.T) {
	name := "1"
	for _, test := range []struct {
		update  PackageUpdate
		version *PackageVersion
		code    Code
		want    string
	}{
		{PackageUpdate{DefaultVersion: &name}, &PackageVersion{Name: name, Status: VersionPublished}, "", "1"},
		{PackageUpdate{DefaultVersion: &name}, &PackageVersion{Name: name, Status: VersionDeprecated}, "", "1"},
		{PackageUpdate{DefaultVersion: &name}, &PackageVersion{Name: name, Status: VersionDraft}, InvalidRequest, ""},
		{PackageUpdate{DefaultVersion: &name}, nil, NotFound, ""},
		{PackageUpdate{DefaultVersion: &name, UnsetDefault: true}, &PackageVersion{Name: name, Status: VersionPublished}, InvalidRequest, ""},
		{PackageUpdate{UnsetDefault: true}, nil, "", ""},
	} {
		p := &Package{Name: "p", DefaultVersion: "0"}
		_, err := test.update.Apply(p, test.version, 2)
		if ErrorCode(err) != test.code || err == nil && p.DefaultVersion != test.want {
			t.Errorf("%+v: %v, %q", test.update, err, p.DefaultVersion)
		}
	}
}

func TestDestinations(t *testing.T) {
	r := Realm{Account: "123456789012", Region: "us-east-1"}
	list, err := r.ParseDestinations([]string{r.PackageVersionARN("a", "1.0"), r.PackageVersionARN("b", DefaultVersion), r.PackageVersionARN("c", NoVersion)})
	if want := []Destination{{"a", "1.0"}, {"b", DefaultVersion}, {"c", NoVersion}}; err != nil || !slices.Equal(list, want) {
		t.Errorf("%v, %v", list, err)
	}
	for _, arn := range []string{"x", r.ARN(KindThing, "t"), r.ARN(KindPackage, "p"), r.PackageVersionARN("p", ""), r.PackageVersionARN("p", "$x"), r.PackageVersionARN("p q", "1"), r.PackageVersionARN("p", "1/2")} {
		if _, err := r.ParseDestinations([]string{arn}); ErrorCode(err) != InvalidRequest {
			t.Errorf("%s: %v", arn, err)
		}
	}
	if _, err := r.ParseDestinations([]string{r.PackageVersionARN("a", "1.0"), r.PackageVersionARN("a", "2.0")}); ErrorCode(err) != InvalidRequest {
		t.Errorf("two versions of a package: %v", err)
	}
}

func TestResolve(t *testing.T) {
	app, lib := Destination{"app", "1.0"}, Destination{"lib", DefaultVersion}
	versions := map[Destination]*PackageVersion{
		app: {Package: "app", Name: "1.0", Attributes: map[string]string{"size": "7", "say": `"hi" <ä>\`}, Artifact: &S3Location{Bucket: "bucket", Key: `a b/ü"}?.bin`, Version: "v 1"}},
		lib: {Package: "lib", Name: "3"},
	}
	for _, test := range []struct {
		name, document, want string
		list                 []Destination
		err                  string
	}{
		{"an attribute", `{"v":"is ${aws:iot:package:app:version:1.0:attributes:size}."}`, `{"v":"is 7."}`, []Destination{app, lib}, ""},
		{"escapes", `{"v":"${aws:iot:package:app:version:1.0:attributes:say}"}`, `{"v":"\"hi\" \u003cä\u003e\\"}`, []Destination{app}, ""},
		{"all attributes", `{"v": "${aws:iot:package:app:version:1.0:attributes}" }`, `{"v": {"say":"\"hi\" \u003cä\u003e\\","size":"7"} }`, []Destination{app}, ""},
		{"no attributes", `{"v":["${aws:iot:package:lib:version:$default:attributes}"]}`, `{"v":[{}]}`, []Destination{lib}, ""},
		{"the one", `{"v":"${aws:iot:package::version::attributes:size}"}`, `{"v":"7"}`, []Destination{app}, ""},
		{"the one of two", `{"v":"${aws:iot:package::version::attributes:size}"}`, "", []Destination{app, lib}, "needs a job with one entry in destinationPackageVersions, which has a version; this one has 2"},
		{"the one that goes", `{"v":"${aws:iot:package::version::attributes:size}"}`, "", []Destination{{"app", NoVersion}}, "which has a version"},
		{"another", `{"v":"${aws:iot:package:app:version:2.0:attributes:size}"}`, "", []Destination{app}, "version 2.0 of package app, which is not in destinationPackageVersions"},
		{"not the default", `{"v":"${aws:iot:package:lib:version:3:attributes}"}`, "", []Destination{lib}, "not in destinationPackageVersions"},
		{"no such attribute", `{"v":"${aws:iot:package:app:version:1.0:attributes:color}"}`, "", []Destination{app}, "has no attribute color"},
		{"no artifact", `{"v":"${aws:iot:package:lib:version:$default:artifact:s3-presigned-url}"}`, "", []Destination{lib}, "has no artifact"},
		{"an upload stays", `{"v":"${aws:iot:package:app:version:1.0:attributes:size}","u":"${aws:iot:s3-presigned-url:s3://bucket/k}"}`, `{"v":"7","u":"${aws:iot:s3-presigned-url:s3://bucket/k}"}`, []Destination{app}, ""},
	} {
		d, err := ParseDocument(test.document, testStore)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if !d.Versioned() {
			t.Errorf("%s: no placeholder for a version", test.name)
		}
		got, err := d.Resolve(test.list, versions)
		if test.err != "" {
			if ErrorCode(err) != InvalidRequest || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: %v", test.name, err)
			}
			continue
		}
		if err != nil || got != test.want {
			t.Errorf("%s: %s, %v", test.name, got, err)
		}
		if err := d.CheckDestinations(test.list); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if _, err := d.For(&Execution{}, nil).Render(nil); err == nil {
			t.Errorf("%s: a device gets what has not been filled in", test.name)
		}
	}

	// An artifact becomes a placeholder for the URL of its object.
	d, err := ParseDocument(`{"u":"${aws:iot:package:app:version:1.0:artifact-location:s3-presigned-url}"}`, testStore)
	if err != nil || !d.Presigned() {
		t.Fatalf("%v, presigned %v", err, d.Presigned())
	}
	text, err := d.Resolve([]Destination{app}, versions)
	if err != nil {
		t.Fatal(err)
	}
	resolved, err := ParseDocument(text, testStore)
	if err != nil || len(resolved.links) != 1 || resolved.Versioned() {
		t.Fatalf("%s: %v", text, err)
	}
	if got, want := resolved.links[0].object, versions[app].Artifact.Object(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestResolveAnything: whatever the attributes hold, the document stays JSON in which they are what they were.
func TestResolveAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		to := Destination{"p", "1"}
		attributes := rapid.MapOfN(rapid.StringMatching(`[a-zA-Z0-9:_-]{1,8}`), rapid.StringMatching(`[^\pC$]{1,20}`), 1, 5).Draw(t, "attributes")
		name := slices.Sorted(maps.Keys(attributes))[0]
		d, err := ParseDocument(`{"all":"${aws:iot:package::version::attributes}","one":"<${aws:iot:package:p:version:1:attributes:`+name+`}>"}`, testStore)
		if err != nil {
			t.Fatal(err)
		}
		text, err := d.Resolve([]Destination{to}, map[Destination]*PackageVersion{to: {Attributes: attributes}})
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			All map[string]string
			One string
		}
		if err := json.Unmarshal([]byte(text), &got); err != nil || !maps.Equal(got.All, attributes) || got.One != "<"+attributes[name]+">" {
			t.Fatalf("%s: %v", text, err)
		}
	})
}

func TestCheckSBOM(t *testing.T) {
	for text, valid := range map[string]bool{
		`{"bomFormat":"CycloneDX","specVersion":"1.6","components":[]}`:                 true,
		`{"bomFormat":"CycloneDX"}`:                                                     false,
		`{"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-DOCUMENT"}`:                        true,
		`{"spdxVersion":"SPDX-2.3"}`:                                                    false,
		`{"@context":"https://spdx.org/rdf/3.0.1/spdx-context.jsonld","@graph":[{}]}`:   true,
		`{"@context":"https://spdx.org/rdf/3.0.1/spdx-context.jsonld"}`:                 false,
		`{"@context":["https://spdx.org/rdf/3.0.1/spdx-context.jsonld"],"@graph":[{}]}`: true,
		`{}`:             false,
		`[]`:             false,
		`SPDXVersion: x`: false,
	} {
		r := CheckSBOM("f", []byte(text))
		if (r.Status == SBOMSucceeded) != valid || (r.Error == "") != valid || r.File != "f" {
			t.Errorf("%s: %+v", text, r)
		}
	}
}
