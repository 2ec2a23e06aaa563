package conformance

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/google/uuid"
)

// The software package catalog (registry spec §10, statements 179 to 189).

// pkg creates a package and returns its name.
func (f *fleet) pkg(n string) string {
	f.t.Helper()
	name := f.name(n)
	out, err := f.api.CreatePackage(f.ctx, &iot.CreatePackageInput{PackageName: &name})
	f.must(err)
	if aws.ToString(out.PackageArn) != f.arn("package", name) {
		f.t.Errorf("%+v", out)
	}
	return name
}

// draft creates a version and returns its ARN.
func (f *fleet) draft(pkg, version string, options ...func(*iot.CreatePackageVersionInput)) string {
	f.t.Helper()
	in := &iot.CreatePackageVersionInput{PackageName: &pkg, VersionName: &version}
	for _, o := range options {
		o(in)
	}
	out, err := f.api.CreatePackageVersion(f.ctx, in)
	f.must(err)
	if out.Status != types.PackageVersionStatusDraft || aws.ToString(out.PackageVersionArn) != f.arn("package", pkg+"/version/"+version) {
		f.t.Errorf("%+v", out)
	}
	return *out.PackageVersionArn
}

func versionAttributes(a map[string]string) func(*iot.CreatePackageVersionInput) {
	return func(in *iot.CreatePackageVersionInput) { in.Attributes = a }
}

// act publishes or deprecates a version.
func (f *fleet) act(pkg, version string, action types.PackageVersionAction) error {
	return f.change(pkg, version, func(in *iot.UpdatePackageVersionInput) { in.Action = action })
}

func (f *fleet) change(pkg, version string, how func(*iot.UpdatePackageVersionInput)) error {
	in := &iot.UpdatePackageVersionInput{PackageName: &pkg, VersionName: &version}
	how(in)
	_, err := f.api.UpdatePackageVersion(f.ctx, in)
	return err
}

// published creates a version that can be deployed.
func (f *fleet) published(pkg, version string, options ...func(*iot.CreatePackageVersionInput)) string {
	f.t.Helper()
	arn := f.draft(pkg, version, options...)
	f.must(f.act(pkg, version, types.PackageVersionActionPublish))
	return arn
}

func (f *fleet) versionOf(pkg, version string) *iot.GetPackageVersionOutput {
	f.t.Helper()
	out, err := f.api.GetPackageVersion(f.ctx, &iot.GetPackageVersionInput{PackageName: &pkg, VersionName: &version})
	f.must(err)
	return out
}

// deploys makes a job input bring versions.
func deploys(doc string, arns ...string) func(*iot.CreateJobInput) {
	return func(in *iot.CreateJobInput) {
		in.DestinationPackageVersions = arns
		if doc != "" {
			in.Document = &doc
		}
	}
}

func TestR179ToR181VersionStates(t *testing.T) {
	f := newFleet(t)
	p, thing := f.pkg("p"), f.thing("t")
	arn := f.draft(p, "1.0", versionAttributes(map[string]string{"a": "1"}), func(in *iot.CreatePackageVersionInput) {
		in.Description, in.Recipe, in.Tags = aws.String("words"), aws.String(`{"x":1}`), map[string]string{"k": "v"}
	})
	if v := f.versionOf(p, "1.0"); v.Status != types.PackageVersionStatusDraft || v.Attributes["a"] != "1" || aws.ToString(v.Description) != "words" || aws.ToString(v.Recipe) != `{"x":1}` || v.CreationDate == nil || v.ErrorReason != nil {
		t.Errorf("%+v", v)
	}
	deploy := func(n string) error {
		_, err := f.api.CreateJob(f.ctx, &iot.CreateJobInput{JobId: aws.String(f.name(n)), Targets: []string{f.thingARN(thing)}, Document: aws.String(document), DestinationPackageVersions: []string{arn}})
		return err
	}
	if message := f.refused(deploy("draft"), invalid, 400); !strings.Contains(message, "DRAFT") {
		t.Error(message)
	}
	f.refused(f.act(p, "1.0", types.PackageVersionActionDeprecate), "ConflictException", 409)
	f.must(f.change(p, "1.0", func(in *iot.UpdatePackageVersionInput) {
		in.Attributes, in.Action = map[string]string{"a": "2"}, types.PackageVersionActionPublish
	}))
	if v := f.versionOf(p, "1.0"); v.Status != types.PackageVersionStatusPublished || v.Attributes["a"] != "2" {
		t.Errorf("%+v", v)
	}
	f.must(deploy("published"))
	f.refused(f.change(p, "1.0", func(in *iot.UpdatePackageVersionInput) { in.Attributes = map[string]string{"a": "3"} }), "ConflictException", 409)
	f.refused(f.change(p, "1.0", func(in *iot.UpdatePackageVersionInput) {
		in.Artifact = &types.PackageVersionArtifact{S3Location: &types.S3Location{Bucket: aws.String("bucket"), Key: aws.String("k")}}
	}), "ConflictException", 409)
	f.must(f.change(p, "1.0", func(in *iot.UpdatePackageVersionInput) {
		in.Description, in.Recipe = aws.String("other"), aws.String("{}")
	}))
	f.must(f.act(p, "1.0", types.PackageVersionActionPublish))
	f.must(f.act(p, "1.0", types.PackageVersionActionDeprecate))
	f.must(deploy("deprecated"))
	f.must(f.act(p, "1.0", types.PackageVersionActionPublish))
	if v := f.versionOf(p, "1.0"); v.Status != types.PackageVersionStatusPublished || aws.ToString(v.Description) != "other" {
		t.Errorf("%+v", v)
	}
	tags, err := f.api.ListTagsForResource(f.ctx, &iot.ListTagsForResourceInput{ResourceArn: &arn})
	f.must(err)
	if len(tags.Tags) != 1 || *tags.Tags[0].Key != "k" || *tags.Tags[0].Value != "v" {
		t.Errorf("%+v", tags.Tags)
	}
	_, err = f.api.ListTagsForResource(f.ctx, &iot.ListTagsForResourceInput{ResourceArn: aws.String(arn + "0")})
	f.refused(err, notFound, 404)

	f.draft(p, "2.0")
	list := func(status types.PackageVersionStatus, size int32) (names []string) {
		pages := iot.NewListPackageVersionsPaginator(f.api, &iot.ListPackageVersionsInput{PackageName: &p, Status: status, MaxResults: &size})
		for pages.HasMorePages() {
			page, err := pages.NextPage(f.ctx)
			f.must(err)
			for _, v := range page.PackageVersionSummaries {
				names = append(names, *v.VersionName+" "+string(v.Status))
			}
		}
		return names
	}
	if got := fmt.Sprint(list("", 1), list(types.PackageVersionStatusDraft, 5)); got != "[1.0 PUBLISHED 2.0 DRAFT] [2.0 DRAFT]" {
		t.Error(got)
	}
}

func TestR182ToR184DefaultVersionsAndDeletion(t *testing.T) {
	f := newFleet(t)
	p := f.pkg("p")
	f.published(p, "1")
	f.draft(p, "2")
	update := func(in iot.UpdatePackageInput) error {
		in.PackageName = &p
		_, err := f.api.UpdatePackage(f.ctx, &in)
		return err
	}
	def := func() string {
		t.Helper()
		out, err := f.api.GetPackage(f.ctx, &iot.GetPackageInput{PackageName: &p})
		f.must(err)
		return aws.ToString(out.DefaultVersionName)
	}
	if def() != "" {
		t.Error("the first version has become the default by itself")
	}
	f.refused(update(iot.UpdatePackageInput{DefaultVersionName: aws.String("2")}), "ValidationException", 400)
	f.refused(update(iot.UpdatePackageInput{DefaultVersionName: aws.String("9")}), notFound, 404)
	f.refused(update(iot.UpdatePackageInput{DefaultVersionName: aws.String("1"), UnsetDefaultVersion: aws.Bool(true)}), "ValidationException", 400)
	f.must(update(iot.UpdatePackageInput{DefaultVersionName: aws.String("1")}))
	if def() != "1" {
		t.Error(def())
	}
	remove := func(version string) error {
		_, err := f.api.DeletePackageVersion(f.ctx, &iot.DeletePackageVersionInput{PackageName: &p, VersionName: &version})
		return err
	}
	removePackage := func() error {
		_, err := f.api.DeletePackage(f.ctx, &iot.DeletePackageInput{PackageName: &p})
		return err
	}
	f.refused(remove("1"), "ValidationException", 400)
	f.must(update(iot.UpdatePackageInput{UnsetDefaultVersion: aws.Bool(true)}))
	f.must(remove("1"))
	f.must(remove("1"))
	f.refused(removePackage(), "ValidationException", 400)
	f.must(remove("2"))
	f.must(removePackage())
	f.must(removePackage())
	_, err := f.api.GetPackage(f.ctx, &iot.GetPackageInput{PackageName: &p})
	f.refused(err, notFound, 404)
	_, err = f.api.CreatePackageVersion(f.ctx, &iot.CreatePackageVersionInput{PackageName: &p, VersionName: aws.String("1")})
	if err == nil || !strings.Contains(err.Error(), "ResourceNotFoundException") {
		t.Errorf("a version of no package: %v", err)
	}
}

func TestR185R186AttributesAndTokens(t *testing.T) {
	f := newFleet(t)
	p := f.pkg("p")
	create := func(version string, a map[string]string) error {
		_, err := f.api.CreatePackageVersion(f.ctx, &iot.CreatePackageVersionInput{PackageName: &p, VersionName: &version, Attributes: a})
		return err
	}
	f.must(create("1", map[string]string{"a": strings.Repeat("x", 3071)}))
	f.refused(create("2", map[string]string{"a": strings.Repeat("x", 3072)}), "ValidationException", 400)
	f.refused(create("2", map[string]string{"a b": "x"}), "ValidationException", 400)
	f.refused(create("2", map[string]string{"a": "x\ny"}), "ValidationException", 400)
	if message := f.refused(create("1", nil), "ConflictException", 409); !strings.Contains(message, "1") {
		t.Error(message)
	}

	token := uuid.NewString()
	once := func(description string) (*iot.CreatePackageOutput, error) {
		return f.api.CreatePackage(f.ctx, &iot.CreatePackageInput{PackageName: aws.String(f.name("once")), Description: &description, ClientToken: &token})
	}
	for range 2 {
		out, err := once("words")
		f.must(err)
		if aws.ToString(out.PackageName) != f.name("once") || aws.ToString(out.Description) != "words" {
			t.Errorf("%+v", out)
		}
	}
	_, err := once("other words")
	f.refused(err, "ConflictException", 409)
	version := func() (*iot.CreatePackageVersionOutput, error) {
		return f.api.CreatePackageVersion(f.ctx, &iot.CreatePackageVersionInput{PackageName: &p, VersionName: aws.String("once"), ClientToken: aws.String(token[:35] + "x"), Attributes: map[string]string{"a": "b"}})
	}
	first, err := version()
	f.must(err)
	f.must(f.act(p, "once", types.PackageVersionActionPublish))
	again, err := version()
	f.must(err)
	if *again.PackageVersionArn != *first.PackageVersionArn || again.Status != types.PackageVersionStatusDraft || !maps.Equal(again.Attributes, first.Attributes) {
		t.Errorf("%+v and %+v", first, again)
	}
}

// sent is the document that a device gets for a job.
func (f *fleet) sent(d *device, job string) map[string]any {
	f.t.Helper()
	answer := d.accepted(job+"/get", `{"executionNumber":1}`)
	x, _ := answer["execution"].(map[string]any)
	doc, ok := x["jobDocument"].(map[string]any)
	if !ok {
		f.t.Fatalf("%v", answer)
	}
	return doc
}

// TestR188JobsDeployVersions: what $default means and what stands in the document is decided when the job starts.
func TestR188JobsDeployVersions(t *testing.T) {
	f := newFleet(t)
	p, q, thing := f.pkg("p"), f.pkg("q"), f.thing("t")
	one := f.published(p, "1", versionAttributes(map[string]string{"url": `say "hi"`, "size": "7"}))
	f.published(p, "2", versionAttributes(map[string]string{"size": "8"}))
	def, gone := f.arn("package", p+"/version/$default"), f.arn("package", q+"/version/$null")
	setDefault := func(version string) {
		t.Helper()
		_, err := f.api.UpdatePackage(f.ctx, &iot.UpdatePackageInput{PackageName: &p, DefaultVersionName: &version})
		f.must(err)
	}
	try := func(n string, option func(*iot.CreateJobInput)) error {
		in := &iot.CreateJobInput{JobId: aws.String(f.name(n)), Targets: []string{f.thingARN(thing)}, Document: aws.String(document)}
		option(in)
		_, err := f.api.CreateJob(f.ctx, in)
		return err
	}
	f.refused(try("none", deploys("", def)), invalid, 400) // there is no default yet
	f.refused(try("none", deploys("", f.arn("package", p+"/version/9"))), notFound, 404)
	f.refused(try("none", deploys("", f.arn("package", f.name("missing")+"/version/$default"))), notFound, 404)
	f.refused(try("none", deploys("", f.thingARN(thing))), invalid, 400)
	f.refused(try("none", deploys("", one, def)), invalid, 400)
	f.refused(try("none", deploys(fmt.Sprintf(`{"v":"${aws:iot:package:%s:version:1:attributes:size}"}`, p), gone)), invalid, 400)
	f.refused(try("none", deploys(fmt.Sprintf(`{"v":"${aws:iot:package:%s:version:1:attributes:color}"}`, p), one)), invalid, 400)

	setDefault("1")
	doc := fmt.Sprintf(`{"size":"${aws:iot:package:%[1]s:version:$default:attributes:size}","all":"${aws:iot:package:%[1]s:version:$default:attributes}"}`, p)
	job := f.job("j", []string{f.thingARN(thing)}, deploys(doc, def, gone))
	setDefault("2") // which comes too late for this job
	describe := func(before bool) []string {
		out, err := f.api.DescribeJob(f.ctx, &iot.DescribeJobInput{JobId: &job, BeforeSubstitution: before})
		f.must(err)
		return out.Job.DestinationPackageVersions
	}
	if got := describe(false); fmt.Sprint(got) != fmt.Sprint([]string{one, gone}) {
		t.Error(got)
	}
	if got := describe(true); fmt.Sprint(got) != fmt.Sprint([]string{def, gone}) {
		t.Error(got)
	}
	documentOf := func(before bool) string {
		out, err := f.api.GetJobDocument(f.ctx, &iot.GetJobDocumentInput{JobId: &job, BeforeSubstitution: before})
		f.must(err)
		return *out.Document
	}
	if got := documentOf(true); got != doc {
		t.Error(got)
	}
	if got := documentOf(false); got != `{"size":"7","all":{"size":"7","url":"say \"hi\""}}` {
		t.Error(got)
	}
	got := f.sent(f.connect(thing), job)
	if text, err := json.Marshal(got); err != nil || string(text) != `{"all":{"size":"7","url":"say \"hi\""},"size":"7"}` {
		t.Errorf("%s, %v", text, err)
	}

	// A template keeps the placeholders and what they are about.
	template := f.name("template")
	_, err := f.api.CreateJobTemplate(f.ctx, &iot.CreateJobTemplateInput{JobTemplateId: &template, Description: aws.String("d"), Document: &doc, DestinationPackageVersions: []string{def}})
	f.must(err)
	other := f.job("other", []string{f.thingARN(thing)}, func(in *iot.CreateJobInput) {
		in.Document, in.JobTemplateArn = nil, aws.String(f.arn("jobtemplate", template))
	})
	if got := f.sent(f.connect(thing), other); got["size"] != "8" {
		t.Errorf("%v", got)
	}
	_, err = f.api.CreateJobTemplate(f.ctx, &iot.CreateJobTemplateInput{JobTemplateId: aws.String(f.name("no")), Description: aws.String("d"), Document: &doc})
	f.refused(err, invalid, 400)
}

// TestScheduledJobsDeployWhatIsThenDeployable: a job looks at its versions when it starts, and is canceled if they are not there.
func TestScheduledJobsDeployWhatIsThenDeployable(t *testing.T) {
	f := fleetOn(t, ownServer(t, "--test"))
	p, thing := f.pkg("p"), f.thing("t")
	one, two := f.draft(p, "1", versionAttributes(map[string]string{"size": "7"})), f.draft(p, "2")
	scheduled := func(n, arn string) string {
		doc := `{"size":"${aws:iot:package::version::attributes}"}`
		return f.job(n, []string{f.thingARN(thing)}, deploys(doc, arn), scheduling(types.SchedulingConfig{StartTime: aws.String(fromNow("1h"))}))
	}
	good, bad := scheduled("good", one), scheduled("bad", two)
	f.must(f.act(p, "1", types.PackageVersionActionPublish))
	f.clock(`{"advance":"2h"}`)
	f.jobStatus(good, types.JobStatusInProgress)
	f.jobStatus(bad, types.JobStatusCanceled)
	if j := f.describe(bad); aws.ToString(j.ReasonCode) != "PACKAGE_VERSION_NOT_DEPLOYABLE" || !strings.Contains(aws.ToString(j.Comment), "DRAFT") {
		t.Errorf("%+v", j)
	}
	out, err := f.api.GetJobDocument(f.ctx, &iot.GetJobDocumentInput{JobId: &good})
	f.must(err)
	if *out.Document != `{"size":{"size":"7"}}` {
		t.Error(*out.Document)
	}
}

// TestDevicesFetchArtifacts: the artifact of a version is a presigned URL in the document.
func TestDevicesFetchArtifacts(t *testing.T) {
	depots(t, func(t *testing.T, d *depot) {
		d.put("dir/app ü.bin", "the app")
		p, thing := d.pkg("p"), d.thing("t")
		arn := d.published(p, "1", func(in *iot.CreatePackageVersionInput) {
			in.Artifact = &types.PackageVersionArtifact{S3Location: &types.S3Location{Bucket: &d.bucket, Key: aws.String("dir/app ü.bin")}}
		})
		doc := fmt.Sprintf(`{"url":"${aws:iot:package:%s:version:1:artifact-location:s3-presigned-url}"}`, p)
		_, err := d.api.CreateJob(d.ctx, &iot.CreateJobInput{JobId: aws.String(d.name("no")), Targets: []string{d.thingARN(thing)}, Document: &doc, DestinationPackageVersions: []string{arn}})
		d.refused(err, invalid, 400) // it needs a role
		job := d.job("j", []string{d.thingARN(thing)}, deploys(doc, arn), func(in *iot.CreateJobInput) {
			in.PresignedUrlConfig = &types.PresignedUrlConfig{RoleArn: aws.String(role)}
		})
		url, _ := d.sent(d.connect(thing), job)["url"].(string)
		if status, content := d.fetch("GET", url, ""); status != 200 || content != "the app" {
			t.Errorf("%d %q from %s", status, content, url)
		}
	})
}

func TestR189SBOM(t *testing.T) {
	depots(t, func(t *testing.T, d *depot) {
		archive := func(key string, files ...string) *types.Sbom {
			var b bytes.Buffer
			w := zip.NewWriter(&b)
			for i, text := range files {
				part, err := w.Create(fmt.Sprintf("f%d.json", i))
				d.must(err)
				_, err = part.Write([]byte(text))
				d.must(err)
			}
			d.must(w.Close())
			d.put(key, b.String())
			return &types.Sbom{S3Location: &types.S3Location{Bucket: &d.bucket, Key: &key}}
		}
		const cyclone, spdx = `{"bomFormat":"CycloneDX","specVersion":"1.5"}`, `{"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-DOCUMENT"}`
		p := d.pkg("p")
		d.draft(p, "1")
		version := aws.String("1")
		associate := func(sbom *types.Sbom) {
			t.Helper()
			out, err := d.api.AssociateSbomWithPackageVersion(d.ctx, &iot.AssociateSbomWithPackageVersionInput{PackageName: &p, VersionName: version, Sbom: sbom})
			d.must(err)
			if out.SbomValidationStatus != types.SbomValidationStatusInProgress || *out.Sbom.S3Location.Key != *sbom.S3Location.Key {
				t.Errorf("%+v", out)
			}
		}
		ends := func(want types.SbomValidationStatus) {
			t.Helper()
			d.eventually("the SBOM is validated", func() bool { return d.versionOf(p, "1").SbomValidationStatus == want })
		}
		results := func(filter types.SbomValidationResult) (list []string) {
			t.Helper()
			pages := iot.NewListSbomValidationResultsPaginator(d.api, &iot.ListSbomValidationResultsInput{PackageName: &p, VersionName: version, ValidationResult: filter, MaxResults: aws.Int32(1)})
			for pages.HasMorePages() {
				page, err := pages.NextPage(d.ctx)
				d.must(err)
				for _, r := range page.ValidationResultSummaries {
					list = append(list, *r.FileName+" "+string(r.ValidationResult)+string(r.ErrorCode))
				}
			}
			return list
		}
		associate(archive("good.zip", cyclone, spdx))
		ends(types.SbomValidationStatusSucceeded)
		if got := fmt.Sprint(results("")); got != "[f0.json SUCCEEDED f1.json SUCCEEDED]" {
			t.Error(got)
		}
		associate(archive("bad.zip", cyclone, `{"what":"else"}`))
		ends(types.SbomValidationStatusFailed)
		if got := fmt.Sprint(results(types.SbomValidationResultFailed)); got != "[f1.json FAILEDINCOMPATIBLE_FORMAT]" {
			t.Error(got)
		}
		d.put("none.zip", "no archive")
		associate(&types.Sbom{S3Location: &types.S3Location{Bucket: &d.bucket, Key: aws.String("none.zip")}})
		d.eventually("it is found out that it is no archive", func() bool { return fmt.Sprint(results("")) == "[none.zip FAILEDINCOMPATIBLE_FORMAT]" })
		for range 2 {
			_, err := d.api.DisassociateSbomFromPackageVersion(d.ctx, &iot.DisassociateSbomFromPackageVersionInput{PackageName: &p, VersionName: version})
			d.must(err)
		}
		if v := d.versionOf(p, "1"); v.Sbom != nil || v.SbomValidationStatus != "" || len(results("")) > 0 {
			t.Errorf("%+v", v)
		}
		_, err := d.api.AssociateSbomWithPackageVersion(d.ctx, &iot.AssociateSbomWithPackageVersionInput{PackageName: &p, VersionName: aws.String("9"), Sbom: archive("x.zip", spdx)})
		d.refused(err, notFound, 404)
	})
}

func TestPackageConfiguration(t *testing.T) {
	f := fleetOn(t, ownServer(t))
	get := func() *types.VersionUpdateByJobsConfig {
		t.Helper()
		out, err := f.api.GetPackageConfiguration(f.ctx, &iot.GetPackageConfigurationInput{})
		f.must(err)
		return out.VersionUpdateByJobsConfig
	}
	set := func(c types.VersionUpdateByJobsConfig) {
		t.Helper()
		_, err := f.api.UpdatePackageConfiguration(f.ctx, &iot.UpdatePackageConfigurationInput{VersionUpdateByJobsConfig: &c})
		f.must(err)
	}
	if c := get(); aws.ToBool(c.Enabled) || c.RoleArn != nil {
		t.Errorf("%+v", c)
	}
	set(types.VersionUpdateByJobsConfig{Enabled: aws.Bool(true)})
	set(types.VersionUpdateByJobsConfig{RoleArn: aws.String(role)})
	if c := get(); !aws.ToBool(c.Enabled) || aws.ToString(c.RoleArn) != role {
		t.Errorf("%+v", c)
	}
}
