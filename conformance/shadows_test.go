package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane"
	"github.com/aws/smithy-go"

	mq "drover/internal/mqtttest"
)

// The shadow $package (registry spec §10.4): its operations, its index, and what jobs write into it.

const packageShadow = "$package"

// reported is the reported state of a thing's shadow as JSON, "none" if it has no shadow.
func (f *fleet) reported(thing string) string {
	f.t.Helper()
	out, err := f.messages().GetThingShadow(f.ctx, &iotdataplane.GetThingShadowInput{ThingName: &thing, ShadowName: aws.String(packageShadow)})
	if failure(err) == notFound {
		return "none"
	}
	f.must(err)
	var doc struct {
		State struct{ Reported json.RawMessage }
	}
	f.must(json.Unmarshal(out.Payload, &doc))
	return string(doc.State.Reported)
}

func (f *fleet) updateShadow(thing, payload string) (string, error) {
	out, err := f.messages().UpdateThingShadow(f.ctx, &iotdataplane.UpdateThingShadowInput{ThingName: &thing, ShadowName: aws.String(packageShadow), Payload: []byte(payload)})
	if err != nil {
		return "", err
	}
	return string(out.Payload), nil
}

func TestShadowsOverHTTP(t *testing.T) {
	f := newFleet(t)
	api, thing, name := f.messages(), f.thing("t"), aws.String(packageShadow)
	list := func() string {
		t.Helper()
		out, err := api.ListNamedShadowsForThing(f.ctx, &iotdataplane.ListNamedShadowsForThingInput{ThingName: &thing})
		f.must(err)
		return fmt.Sprint(out.Results)
	}
	if got := f.reported(thing) + list(); got != "none[]" {
		t.Error(got)
	}
	answer, err := f.updateShadow(thing, `{"state":{"reported":{"agent":{"version":"1.0"}}},"clientToken":"x"}`)
	f.must(err)
	if !strings.HasPrefix(answer, `{"state":{"reported":{"agent":{"version":"1.0"}}},"metadata":{"reported":{"agent":{"version":{"timestamp":`) || !strings.HasSuffix(answer, `"clientToken":"x"}`) {
		t.Error(answer)
	}
	if got := f.reported(thing) + list(); got != `{"agent":{"version":"1.0"}}[$package]` {
		t.Error(got)
	}
	for payload, want := range map[string]string{
		`{"state":{"reported":{}},"version":7}`: "ConflictException 409", `{}`: "InvalidRequestException 400", "{\"state\":{\"reported\":{\"a\":\"\xff\"}}}": "UnsupportedDocumentEncodingException 415",
		`{"state":{"reported":{"a":"` + strings.Repeat("x", 9000) + `"}}}`: "RequestEntityTooLargeException 413",
	} {
		_, err := f.updateShadow(thing, payload)
		var status interface{ HTTPStatusCode() int }
		if !errors.As(err, &status) || fmt.Sprint(failure(err), " ", status.HTTPStatusCode()) != want {
			t.Errorf("%.60s: %v, want %s", payload, err, want)
		}
	}
	for _, other := range []*string{nil, aws.String("config")} {
		_, err := api.GetThingShadow(f.ctx, &iotdataplane.GetThingShadowInput{ThingName: &thing, ShadowName: other})
		var refused smithy.APIError
		if !errors.As(err, &refused) || refused.ErrorCode() != invalid || !strings.Contains(refused.ErrorMessage(), packageShadow) {
			t.Errorf("another shadow: %v", err)
		}
	}
	_, err = f.updateShadow(f.name("missing"), `{"state":{}}`)
	if failure(err) != notFound {
		t.Error(err)
	}
	out, err := api.DeleteThingShadow(f.ctx, &iotdataplane.DeleteThingShadowInput{ThingName: &thing, ShadowName: name})
	f.must(err)
	if !strings.HasPrefix(string(out.Payload), `{"version":1,"timestamp":`) {
		t.Errorf("%s", out.Payload)
	}
	_, err = api.DeleteThingShadow(f.ctx, &iotdataplane.DeleteThingShadowInput{ThingName: &thing, ShadowName: name})
	if failure(err) != notFound || f.reported(thing)+list() != "none[]" {
		t.Error(err)
	}
	// The version goes on.
	if answer, err = f.updateShadow(thing, `{"state":{"reported":{"a":1}}}`); err != nil || !strings.Contains(answer, `"version":3`) {
		t.Errorf("%s, %v", answer, err)
	}
}

func TestShadowsOverMQTT(t *testing.T) {
	versions(t, func(t *testing.T, version int) {
		f := newFleet(t)
		thing := f.thing("t")
		root := "$aws/things/" + thing + "/shadow/name/$package/"
		watcher := f.watch(root + "#")
		device := f.client(byte(version), "device")
		device.Granted(1, root+"+/accepted", root+"+/rejected", root+"update/delta")
		say := func(topic, payload string) { device.Publish(mq.Publish{QoS: 1, Topic: topic, Payload: payload}) }
		hears := func(c *mq.Client, topic string, parts ...string) {
			t.Helper()
			m, _ := c.Message()
			for _, part := range parts {
				if m.Topic != topic || !strings.Contains(m.Payload, part) {
					t.Errorf("on %s: %s\nwant on %s %s", m.Topic, m.Payload, topic, part)
				}
			}
		}
		say(root+"get", "")
		hears(device, root+"get/rejected", `{"code":404,"message":"No shadow exists with name: '$package'","timestamp":`)
		say(root+"update", `{"state":{"desired":{"agent":{"version":"2"}},"reported":{"agent":{"version":"1"}}},"clientToken":"c"}`)
		hears(device, root+"update/accepted", `"version":1,`, `"clientToken":"c"`)
		hears(device, root+"update/delta", `{"state":{"agent":{"version":"2"}},"metadata":{"agent":{"version":{"timestamp":`)
		hears(watcher, root+"update/accepted", `"version":1,`)
		hears(watcher, root+"update/delta", `"version":1,`)
		hears(watcher, root+"update/documents", `{"previous":{"state":{},`, `"current":{"state":{"desired":{"agent":{"version":"2"}},"reported":{"agent":{"version":"1"}}},`)
		for i := range 20 { // one after the other, in this order
			say(root+"update", fmt.Sprintf(`{"state":{"desired":null,"reported":{"n":%d}},"version":%d}`, i, i+1))
		}
		for i := range 20 {
			hears(device, root+"update/accepted", fmt.Sprintf(`{"state":{"desired":null,"reported":{"n":%d}},`, i))
		}
		say(root+"get", `{"clientToken":"g"}`)
		hears(device, root+"get/accepted", `{"state":{"reported":{"agent":{"version":"1"},"n":19}},`, `"version":21,`, `"clientToken":"g"`)
		say(root+"update", `{"state":{"reported":{"n":0}},"version":3,"clientToken":"old"}`)
		hears(device, root+"update/rejected", `{"code":409,"message":"Version conflict",`, `"clientToken":"old"`)
		say(root+"update", `x`)
		hears(device, root+"update/rejected", `{"code":400,"message":"Invalid JSON",`)
		say(root+"delete", "")
		hears(device, root+"delete/accepted", `{"version":21,"timestamp":`)
		classic := "$aws/things/" + thing + "/shadow/"
		device.Granted(1, classic+"update/rejected")
		say(classic+"update", `{"state":{}}`)
		hears(device, classic+"update/rejected", `{"code":400,"message":"drover does not have classic shadows`)
	})
}

func TestR093R097R117ToR121R123R129ShadowsInTheIndex(t *testing.T) {
	f := fleetOn(t, ownServer(t))
	const a, b, c = "a", "b", "c"
	for _, name := range []string{a, b, c} {
		f.typed(name, nil)
	}
	for thing, reported := range map[string]string{
		a: `{"agent":{"version":"1.0.0","attributes":{"packageID":"1600","tags":["x","y"]}},"lib":{"version":"2"}}`,
		b: `{"agent":{"version":"1.0.0","attributes":{"packageID":"1500"}}}`,
		c: `{"odd":{"nested":{"path":7},"list":[{"item":"deep"}],"mixed":["m",[1]],"gone":null},"odd2.nested.path":7,"odd2":{"list":[3,true,"Two words"]}}`,
	} {
		_, err := f.updateShadow(thing, `{"state":{"reported":`+reported+`}}`)
		f.must(err)
	}
	configure := func(names ...string) error {
		_, err := f.api.UpdateIndexingConfiguration(f.ctx, &iot.UpdateIndexingConfigurationInput{ThingIndexingConfiguration: &types.ThingIndexingConfiguration{
			ThingIndexingMode: types.ThingIndexingModeRegistry, NamedShadowIndexingMode: types.NamedShadowIndexingModeOn, Filter: &types.IndexingFilter{NamedShadowNames: names},
			CustomFields: []types.Field{{Name: aws.String("shadow.name.$package.reported.agent.attributes.packageID"), Type: types.FieldTypeNumber}},
		}})
		return err
	}
	if err := configure("other"); failure(err) != invalid {
		t.Error(err)
	}
	if err := configure(strings.Split("abcdefghijk", "")...); failure(err) != invalid {
		t.Error(err)
	}
	f.must(configure(packageShadow))
	f.eventually("the index is built", func() bool {
		index, err := f.api.DescribeIndex(f.ctx, &iot.DescribeIndexInput{IndexName: aws.String("AWS_Things")})
		f.must(err)
		return index.IndexStatus == types.IndexStatusActive && aws.ToString(index.Schema) == "MULTI_INDEXING_MODE"
	})
	for query, want := range map[string]string{
		"shadow.name.$package.reported.agent.version:1.0.0":                                                     "a b",
		"shadow.name.$package.reported.agent.version:1.0.0 AND NOT shadow.name.$package.reported.lib.version:*": "b",
		"shadow.name.$package.reported.*.attributes.packageID>1500":                                             "a",
		"shadow.name.$package.reported.agent.attributes.tags:y":                                                 "a",
		// Items of lists, but not of lists of objects or of lists; nested paths, and names with dots.
		"shadow.name.$package.reported.odd2.list:true":      c,
		"shadow.name.$package.reported.odd2.list>2":         c,
		"shadow.name.$package.reported.odd2.list:WORDS":     c,
		"shadow.name.$package.reported.odd.list.item:*":     "",
		"shadow.name.$package.reported.odd.list:*":          "",
		"shadow.name.$package.reported.odd.mixed:*":         "",
		"shadow.name.$package.reported.odd.nested.path:7":   c,
		"shadow.name.$package.reported.odd2.nested.path:7":  c,
		"shadow.name.$package.reported.odd.gone:*":          "",
		"shadow.name.$package.reported.totalCount:3":        c,
		"shadow.name.$package.reported.totalCount:2":        "a",
		"shadow.name.$package.hasDelta:false":               "a b c",
		"NOT shadow.name.$package.reported.agent.version:*": "c",
		"shadow.name.$package.desired.agent.version:*":      "",
	} {
		if got := f.found(query); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	// Before its thing is registered there is no shadow, and one that is not indexed cannot be asked for.
	if _, err := f.updateShadow("unregistered", `{"state":{"reported":{"agent":{"version":"1.0.0"}}}}`); failure(err) != notFound {
		t.Error(err)
	}
	_, err := f.api.SearchIndex(f.ctx, &iot.SearchIndexInput{QueryString: aws.String("shadow.name.other.reported.agent.version:1")})
	if failure(err) != "InvalidQueryException" {
		t.Error(err)
	}
	_, err = f.api.SearchIndex(f.ctx, &iot.SearchIndexInput{QueryString: aws.String("shadow.name.$package.reported.agent.version>1")})
	if failure(err) != "InvalidQueryException" {
		t.Error(err)
	}
	out, err := f.api.SearchIndex(f.ctx, &iot.SearchIndexInput{QueryString: aws.String("thingName:" + b)})
	f.must(err)
	var shadow struct {
		Name map[string]struct {
			Reported map[string]struct{ Version string }
			Version  int
			HasDelta bool
		}
	}
	if err := json.Unmarshal([]byte(aws.ToString(out.Things[0].Shadow)), &shadow); err != nil || shadow.Name[packageShadow].Reported["agent"].Version != "1.0.0" || shadow.Name[packageShadow].Version != 1 {
		t.Errorf("%s: %v", aws.ToString(out.Things[0].Shadow), err)
	}
	stats, err := f.api.GetStatistics(f.ctx, &iot.GetStatisticsInput{QueryString: aws.String("*"), AggregationField: aws.String("shadow.name.$package.reported.agent.attributes.packageID")})
	f.must(err)
	if stats.Statistics.Count != 2 || aws.ToFloat64(stats.Statistics.Sum) != 3100 {
		t.Errorf("%+v", stats.Statistics)
	}
	// A group follows.
	f.must(f.dynamic("old", "shadow.name.$package.reported.agent.version:1.0.0"))
	f.filled("old")
	if got := f.members("old"); got != "a b" {
		t.Errorf("members %q", got)
	}
	_, err = f.updateShadow(a, `{"state":{"reported":{"agent":{"version":"1.1.0"}}}}`)
	f.must(err)
	_, err = f.updateShadow(c, `{"state":{"reported":{"agent":{"version":"1.0.0"}}}}`)
	f.must(err)
	if got := f.members("old"); got != "b c" {
		t.Errorf("members %q", got)
	}
	cfg, err := f.api.GetIndexingConfiguration(f.ctx, &iot.GetIndexingConfigurationInput{})
	f.must(err)
	if g := cfg.ThingIndexingConfiguration; g.NamedShadowIndexingMode != types.NamedShadowIndexingModeOn || len(g.Filter.NamedShadowNames) != 1 || len(g.ManagedFields) != 7 {
		t.Errorf("%+v", g)
	}
	_, err = f.api.UpdateIndexingConfiguration(f.ctx, &iot.UpdateIndexingConfigurationInput{ThingIndexingConfiguration: cfg.ThingIndexingConfiguration})
	f.must(err)
}

func TestR187JobsWriteThePackageShadow(t *testing.T) {
	f := fleetOn(t, ownServer(t))
	p, q, thing := f.pkg("p"), f.pkg("q"), f.thing("t")
	enable := func(on bool) {
		t.Helper()
		_, err := f.api.UpdatePackageConfiguration(f.ctx, &iot.UpdatePackageConfigurationInput{VersionUpdateByJobsConfig: &types.VersionUpdateByJobsConfig{Enabled: &on}})
		f.must(err)
	}
	succeeds := func(n string, arns ...string) {
		t.Helper()
		job := f.job(n, []string{f.thingARN(thing)}, deploys("", arns...))
		d := f.connect(thing)
		d.accepted("start-next", `{}`)
		d.accepted(job+"/update", `{"status":"SUCCEEDED"}`)
	}
	becomes := func(want string) {
		t.Helper()
		f.eventually("the shadow says "+want, func() bool { return f.reported(thing) == want })
	}
	one := f.published(p, "1", versionAttributes(map[string]string{"size": "7", "old": "x"}))
	two := f.published(p, "2", versionAttributes(map[string]string{"size": "8"}))
	lib := f.published(q, "1")
	root := "$aws/things/" + thing + "/shadow/name/$package/"

	enable(true)
	watcher := f.watch(root + "update/documents")
	succeeds("first", one, lib)
	becomes(`{"` + p + `":{"attributes":{"old":"x","size":"7"},"version":"1"},"` + q + `":{"version":"1"}}`)
	if m, _ := watcher.Message(); m.Topic != root+"update/documents" || !strings.Contains(m.Payload, `"size":"7"`) {
		t.Errorf("%+v", m)
	}
	succeeds("second", two, f.arn("package", q+"/version/$null"))
	becomes(`{"` + p + `":{"attributes":{"size":"8"},"version":"2"}}`)

	// Nothing is written of a job that succeeds while that is not asked for.
	enable(false)
	succeeds("silent", one)
	enable(true)
	succeeds("later", lib)
	becomes(`{"` + p + `":{"attributes":{"size":"8"},"version":"2"},"` + q + `":{"version":"1"}}`)

	// A version that is gone by then is left out, and the job has succeeded all the same.
	job := f.job("gone", []string{f.thingARN(thing)}, deploys("", one, f.arn("package", q+"/version/$null")))
	_, err := f.api.DeletePackageVersion(f.ctx, &iot.DeletePackageVersionInput{PackageName: &p, VersionName: aws.String("1")})
	f.must(err)
	d := f.connect(thing)
	d.accepted("start-next", `{}`)
	d.accepted(job+"/update", `{"status":"SUCCEEDED"}`)
	becomes(`{"` + p + `":{"attributes":{"size":"8"},"version":"2"}}`)
	f.executionStatus(thing, job, types.JobExecutionStatusSucceeded)
}
