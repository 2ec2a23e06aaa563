package conformance

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/smithy-go"
)

// The fleet index (registry spec §5, statements 89 to 141). A configuration is of the whole server, so
// each of these has one of its own.

// indexed switches the indexes on, and waits until they can be asked.
func (f *fleet) indexed(fields ...types.Field) {
	f.t.Helper()
	_, err := f.api.UpdateIndexingConfiguration(f.ctx, &iot.UpdateIndexingConfigurationInput{
		ThingIndexingConfiguration:      &types.ThingIndexingConfiguration{ThingIndexingMode: types.ThingIndexingModeRegistry, CustomFields: fields},
		ThingGroupIndexingConfiguration: &types.ThingGroupIndexingConfiguration{ThingGroupIndexingMode: types.ThingGroupIndexingModeOn},
	})
	f.must(err)
	for _, name := range []string{"AWS_Things", "AWS_ThingGroups"} {
		f.eventually("index is built", func() bool {
			index, err := f.api.DescribeIndex(f.ctx, &iot.DescribeIndexInput{IndexName: &name})
			f.must(err)
			return index.IndexStatus == types.IndexStatusActive
		})
	}
}

// found returns the names of the things that match, sorted.
func (f *fleet) found(query string) string {
	f.t.Helper()
	out, err := f.api.SearchIndex(f.ctx, &iot.SearchIndexInput{QueryString: &query})
	if err != nil {
		f.t.Fatalf("%s: %v", query, err)
	}
	var names []string
	for _, t := range out.Things {
		names = append(names, aws.ToString(t.ThingName))
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func failure(err error) string {
	var failed smithy.APIError
	if errors.As(err, &failed) {
		return failed.ErrorCode()
	}
	return fmt.Sprint(err)
}

// typed makes a thing with attributes, of which without a type there are only three.
func (f *fleet) typed(name string, attributes map[string]string) {
	f.t.Helper()
	_, err := f.api.CreateThing(f.ctx, &iot.CreateThingInput{ThingName: &name, AttributePayload: &types.AttributePayload{Attributes: attributes}})
	f.must(err)
}

// TestR089R090R098Indexes: indexes come and go.
func TestR089R090R098Indexes(t *testing.T) {
	f := fleetOn(t, ownServer(t))
	cfg, err := f.api.GetIndexingConfiguration(f.ctx, &iot.GetIndexingConfigurationInput{})
	f.must(err)
	if c := cfg.ThingIndexingConfiguration; c.ThingIndexingMode != "OFF" || c.ThingConnectivityIndexingMode != "OFF" || cfg.ThingGroupIndexingConfiguration.ThingGroupIndexingMode != "OFF" {
		t.Errorf("%+v", cfg)
	}
	for _, name := range []string{"AWS_Things", "AWS_ThingGroups", "other"} {
		_, err := f.api.DescribeIndex(f.ctx, &iot.DescribeIndexInput{IndexName: &name})
		_, search := f.api.SearchIndex(f.ctx, &iot.SearchIndexInput{IndexName: &name, QueryString: aws.String("*")})
		if failure(err) != "ResourceNotFoundException" || failure(search) != "ResourceNotFoundException" {
			t.Errorf("%s: %v, %v", name, err, search)
		}
	}
	list := func() string {
		out, err := f.api.ListIndices(f.ctx, &iot.ListIndicesInput{})
		f.must(err)
		return fmt.Sprint(out.IndexNames)
	}
	if got := list(); got != "[]" {
		t.Error(got)
	}
	_, err = f.api.UpdateIndexingConfiguration(f.ctx, &iot.UpdateIndexingConfigurationInput{
		ThingIndexingConfiguration: &types.ThingIndexingConfiguration{ThingIndexingMode: types.ThingIndexingModeRegistry},
	})
	f.must(err)
	if got := list(); got != "[AWS_Things]" {
		t.Error(got)
	}
	index, err := f.api.DescribeIndex(f.ctx, &iot.DescribeIndexInput{IndexName: aws.String("AWS_Things")})
	f.must(err)
	if aws.ToString(index.Schema) != "REGISTRY" {
		t.Errorf("%+v", index)
	}
	f.indexed()
	if got := list(); got != "[AWS_ThingGroups AWS_Things]" {
		t.Error(got)
	}
	f.typed("a", nil)
	_, err = f.api.UpdateIndexingConfiguration(f.ctx, &iot.UpdateIndexingConfigurationInput{
		ThingIndexingConfiguration: &types.ThingIndexingConfiguration{ThingIndexingMode: types.ThingIndexingModeOff},
	})
	f.must(err)
	if got := list(); got != "[AWS_ThingGroups]" {
		t.Error(got)
	}
	f.indexed()
	if got := f.found("*"); got != "a" {
		t.Errorf("found %q after it was off", got)
	}
}

// TestR094R095R096CustomFields: what can be aggregated.
func TestR094R095R096CustomFields(t *testing.T) {
	f := fleetOn(t, ownServer(t))
	set := func(names ...string) error {
		var fields []types.Field
		for _, n := range names {
			fields = append(fields, types.Field{Name: &n, Type: types.FieldTypeNumber})
		}
		_, err := f.api.UpdateIndexingConfiguration(f.ctx, &iot.UpdateIndexingConfigurationInput{
			ThingIndexingConfiguration: &types.ThingIndexingConfiguration{ThingIndexingMode: types.ThingIndexingModeRegistry, CustomFields: fields},
		})
		return err
	}
	f.must(set("attributes.a", "attributes.b"))
	for _, names := range [][]string{{"shadow.reported.x"}, {"registry.version"}, {"thingName"}, {"attributes.a b"}, {"attributes."}, {"attributes.a", "attributes.a"},
		{"attributes.a", "attributes.b", "attributes.c", "attributes.d", "attributes.e", "attributes.f"}} {
		if err := set(names...); failure(err) != "InvalidRequestException" {
			t.Errorf("%v: %v", names, err)
		}
	}
	f.must(set("attributes.c"))
	cfg, err := f.api.GetIndexingConfiguration(f.ctx, &iot.GetIndexingConfigurationInput{})
	f.must(err)
	if got := cfg.ThingIndexingConfiguration.CustomFields; len(got) != 1 || aws.ToString(got[0].Name) != "attributes.c" || len(cfg.ThingIndexingConfiguration.ManagedFields) != 5 {
		t.Errorf("%+v", cfg.ThingIndexingConfiguration)
	}
	// What was read can be written.
	_, err = f.api.UpdateIndexingConfiguration(f.ctx, &iot.UpdateIndexingConfigurationInput{
		ThingIndexingConfiguration: cfg.ThingIndexingConfiguration, ThingGroupIndexingConfiguration: cfg.ThingGroupIndexingConfiguration,
	})
	f.must(err)
}

// TestR100ToR127Queries: over the wire; package query has more. What the registry changes counts at once.
func TestR100ToR127Queries(t *testing.T) {
	f := fleetOn(t, ownServer(t))
	f.typed("before", map[string]string{"model": "Legacy"})
	_, err := f.api.CreateThingType(f.ctx, &iot.CreateThingTypeInput{ThingTypeName: aws.String("Pump")})
	f.must(err)
	f.indexed()
	f.typed("pump-1", map[string]string{"wattage": "75", "color": "Red"})
	f.typed("pump-2", map[string]string{"wattage": "80.5", "color": "blue", "note": "a:b"})
	f.typed("valve", map[string]string{"wattage": "abc"})
	_, err = f.api.UpdateThing(f.ctx, &iot.UpdateThingInput{ThingName: aws.String("pump-1"), ThingTypeName: aws.String("Pump")})
	f.must(err)
	top := f.group("top", "")
	g := f.group("inner", top, "pump-2")
	check := func(want map[string]string) {
		t.Helper()
		for _, query := range slices.Sorted(maps.Keys(want)) {
			if got := f.found(query); got != want[query] {
				t.Errorf("%s: %q, want %q", query, got, want[query])
			}
		}
	}
	check(map[string]string{
		"*":                                 "before pump-1 pump-2 valve",
		"attributes.color:RED":              "pump-1",
		"attributes.Color:red":              "",
		"thingTypeName:pump":                "pump-1",
		"thingName:pump* -blue":             "pump-1",
		"thingName:pump-?":                  "pump-1 pump-2",
		"thingName:*mp-2":                   "pump-2",
		"NOT attributes.color:*":            "before valve",
		"thingGroupNames:" + g:              "pump-2",
		"thingGroupNames:" + top:            "",
		"attributes.wattage:[75 TO 80]":     "pump-1",
		"attributes.wattage:{75 TO *]":      "pump-2",
		"attributes.wattage>=75":            "pump-1 pump-2",
		"attributes.wattage : abc":          "valve",
		`attributes.wattage:["ab" TO "ac"]`: "valve",
		`attributes.note:a\:b`:              "pump-2",
		"attributes.color:(red OR blue) attributes.wattage > 76": "pump-2",
		"legacy": "before",
	})
	_, err = f.api.UpdateThing(f.ctx, &iot.UpdateThingInput{ThingName: aws.String("pump-1"), AttributePayload: &types.AttributePayload{Merge: true, Attributes: map[string]string{"color": "green"}}})
	f.must(err)
	_, err = f.api.RemoveThingFromThingGroup(f.ctx, &iot.RemoveThingFromThingGroupInput{ThingName: aws.String("pump-2"), ThingGroupName: &g})
	f.must(err)
	_, err = f.api.DeleteThing(f.ctx, &iot.DeleteThingInput{ThingName: aws.String("valve")})
	f.must(err)
	check(map[string]string{"*": "before pump-1 pump-2", "red": "", "green": "pump-1", "thingGroupNames:*": "", "abc": ""})

	for query, want := range map[string]string{
		"a*b*c*d": "2 times", "a??????": "5 times", "*a OR *b": "only one word", "*" + strings.Repeat("a", 100): "at most 100 characters",
		"a b c d e f g h i j k l m": "12 terms", "registry.version:1": "aggregated", "(a": "parenthesis", "a AND": "character 6", "attributes.a:[1 2]": "TO",
		"shadow.reported.a:1": "shadows", "connectivity.connected:true": "connectivity",
	} {
		_, err := f.api.SearchIndex(f.ctx, &iot.SearchIndexInput{QueryString: &query})
		if failure(err) != "InvalidQueryException" || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", query, err)
		}
	}
	if _, err := f.api.SearchIndex(f.ctx, &iot.SearchIndexInput{QueryString: aws.String("*"), QueryVersion: aws.String("2016-03-23")}); failure(err) != "InvalidRequestException" {
		t.Error(err)
	}
}

// TestR128R131R132Search: pages, and what documents have.
func TestR128R131R132Search(t *testing.T) {
	f := fleetOn(t, ownServer(t))
	f.indexed()
	var names []string
	for i := range 5 {
		name := fmt.Sprint("t", i)
		f.typed(name, map[string]string{"n": itoa(i)})
		names = append(names, name)
	}
	top := f.group("top", "")
	middle := f.group("middle", top)
	bottom := f.group("bottom", middle, "t0")
	var got []string
	in := &iot.SearchIndexInput{QueryString: aws.String("thingName:t*"), MaxResults: aws.Int32(2)}
	for pages := 1; ; pages++ {
		out, err := f.api.SearchIndex(f.ctx, in)
		f.must(err)
		for _, thing := range out.Things {
			got = append(got, aws.ToString(thing.ThingName))
			if aws.ToString(thing.ThingId) == "" || thing.Attributes["n"] == "" {
				t.Errorf("%+v", thing)
			}
			if aws.ToString(thing.ThingName) == "t0" && fmt.Sprint(thing.ThingGroupNames) != fmt.Sprint([]string{bottom}) {
				t.Errorf("in %v", thing.ThingGroupNames)
			}
		}
		if in.NextToken = out.NextToken; in.NextToken == nil {
			if pages != 3 {
				t.Errorf("%d pages", pages)
			}
			break
		}
	}
	if slices.Sort(got); !slices.Equal(got, names) {
		t.Errorf("%v", got)
	}
	out, err := f.api.SearchIndex(f.ctx, &iot.SearchIndexInput{IndexName: aws.String("AWS_ThingGroups"), QueryString: aws.String("thingGroupName:" + bottom + " AND parentGroupNames:" + top)})
	f.must(err)
	if len(out.ThingGroups) != 1 || fmt.Sprint(out.ThingGroups[0].ParentGroupNames) != fmt.Sprint([]string{top, middle}) {
		t.Errorf("%+v", out.ThingGroups)
	}
}

// TestR133ToR141Aggregations.
func TestR133ToR141Aggregations(t *testing.T) {
	f := fleetOn(t, ownServer(t))
	f.indexed(types.Field{Name: aws.String("attributes.n"), Type: types.FieldTypeNumber}, types.Field{Name: aws.String("attributes.on"), Type: types.FieldTypeBoolean},
		types.Field{Name: aws.String("attributes.color"), Type: types.FieldTypeString}, types.Field{Name: aws.String("attributes.r"), Type: types.FieldTypeNumber})
	for i, n := range []string{"-125", "75", "150"} {
		f.typed(fmt.Sprint("t", i), map[string]string{"n": n, "on": fmt.Sprint(i > 0), "color": []string{"Red", "blue", "Red"}[i]})
	}
	f.typed("none", map[string]string{"n": "many"})
	for i, n := range []string{"1", "1", "1", "2", "2", "2", "3", "3", "3"} {
		f.typed(fmt.Sprint("r", i), map[string]string{"r": n})
	}
	statistics := func(query, field string) *types.Statistics {
		t.Helper()
		in := &iot.GetStatisticsInput{QueryString: &query}
		if field != "" {
			in.AggregationField = &field
		}
		out, err := f.api.GetStatistics(f.ctx, in)
		f.must(err)
		return out.Statistics
	}
	st := statistics("*", "attributes.n")
	if st.Count != 3 || *st.Sum != 100 || *st.SumOfSquares != 43750 || *st.Minimum != -125 || *st.Maximum != 150 ||
		math.Abs(*st.Variance-13472.222) > 0.001 || math.Abs(*st.StdDeviation-116.07) > 0.01 || math.Abs(*st.Average-33.333) > 0.001 {
		t.Errorf("%+v", st)
	}
	if st := statistics("thingName:t*", ""); st.Count != 3 || *st.Average != 1 {
		t.Errorf("registry.version: %+v", st)
	}
	if st := statistics("*", "attributes.color"); st.Count != 3 || st.Sum != nil {
		t.Errorf("a text: %+v", st)
	}
	if st := statistics("thingName:t*", "attributes.on"); st.Count != 3 || math.Abs(*st.Average-2./3) > 1e-9 {
		t.Errorf("a boolean: %+v", st)
	}
	if st := statistics("thingName:nobody", "attributes.n"); st.Count != 0 || st.Sum != nil {
		t.Errorf("nothing: %+v", st)
	}

	cardinality := func(query, field string) int32 {
		t.Helper()
		out, err := f.api.GetCardinality(f.ctx, &iot.GetCardinalityInput{QueryString: &query, AggregationField: &field})
		f.must(err)
		return out.Cardinality
	}
	for _, c := range []struct {
		query, field string
		want         int32
	}{{"*", "attributes.color", 2}, {"*", "attributes.n", 3}, {"*", "attributes.on", 2}, {"*", "thingName", 13}, {"nobody", "attributes.n", 0}} {
		if got := cardinality(c.query, c.field); got != c.want {
			t.Errorf("%s %s: %d, want %d", c.query, c.field, got, c.want)
		}
	}

	percentiles := func(query, field string, percents ...float64) string {
		t.Helper()
		out, err := f.api.GetPercentiles(f.ctx, &iot.GetPercentilesInput{QueryString: &query, AggregationField: &field, Percents: percents})
		f.must(err)
		var list []string
		for _, p := range out.Percentiles {
			list = append(list, fmt.Sprintf("%g:%.4g", p.Percent, p.Value))
		}
		return strings.Join(list, " ")
	}
	if got := percentiles("*", "attributes.r", 70, 30, 0, 100); got != "0:1 30:1.4 70:2.6 100:3" {
		t.Error(got)
	}
	if got := percentiles("*", "attributes.r"); strings.Count(got, ":") != 7 {
		t.Error(got)
	}
	if got := percentiles("nobody", "attributes.r"); got != "" {
		t.Error(got)
	}

	buckets := func(query, field string, limit *int32) (string, error) {
		t.Helper()
		out, err := f.api.GetBucketsAggregation(f.ctx, &iot.GetBucketsAggregationInput{QueryString: &query, AggregationField: &field,
			BucketsAggregationType: &types.BucketsAggregationType{TermsAggregation: &types.TermsAggregation{MaxBuckets: limit}}})
		if err != nil {
			return "", err
		}
		list := []string{itoa(int(out.TotalCount))}
		for _, b := range out.Buckets {
			list = append(list, fmt.Sprintf("%s:%d", aws.ToString(b.KeyValue), b.Count))
		}
		return strings.Join(list, " "), nil
	}
	for _, c := range []struct{ query, field, want string }{
		{"*", "attributes.color", "13 Red:2 blue:1"}, {"*", "attributes.r", "13 1:3 2:3 3:3"}, {"thingName:t*", "attributes.on", "3 true:2 false:1"},
		{"nobody", "attributes.color", "0"},
	} {
		if got, err := buckets(c.query, c.field, aws.Int32(10)); err != nil || got != c.want {
			t.Errorf("%s %s: %q, want %q (%v)", c.query, c.field, got, c.want, err)
		}
	}
	if _, err := buckets("*", "attributes.color", aws.Int32(10_001)); failure(err) != "InvalidRequestException" {
		t.Error(err)
	}
	if _, err := buckets("*", "attributes.other", aws.Int32(1)); failure(err) != "InvalidAggregationException" {
		t.Error(err)
	}
	if _, err := f.api.GetPercentiles(f.ctx, &iot.GetPercentilesInput{QueryString: aws.String("*"), AggregationField: aws.String("attributes.color")}); failure(err) != "InvalidAggregationException" {
		t.Error(err)
	}
}

// TestR091R122R130Connectivity: of clients that have the names of things, whether they are connected, since
// when, and why not; dynamic groups follow.
func TestR091R122R130Connectivity(t *testing.T) {
	f := fleetOn(t, ownServer(t))
	configure := func(mode types.ThingIndexingMode) error {
		_, err := f.api.UpdateIndexingConfiguration(f.ctx, &iot.UpdateIndexingConfigurationInput{
			ThingIndexingConfiguration: &types.ThingIndexingConfiguration{ThingIndexingMode: mode, ThingConnectivityIndexingMode: types.ThingConnectivityIndexingModeStatus},
		})
		return err
	}
	if err := configure(types.ThingIndexingModeOff); failure(err) != "InvalidRequestException" {
		t.Error(err)
	}
	f.typed("a", nil)
	f.typed("never", nil)
	early := f.connectAs("a", "a", 5)
	f.must(configure(types.ThingIndexingModeRegistry))
	index := func() *iot.DescribeIndexOutput {
		out, err := f.api.DescribeIndex(f.ctx, &iot.DescribeIndexInput{IndexName: aws.String("AWS_Things")})
		f.must(err)
		return out
	}
	f.eventually("index is built", func() bool { return index().IndexStatus == types.IndexStatusActive })
	if got := aws.ToString(index().Schema); got != "REGISTRY_AND_CONNECTIVITY_STATUS" {
		t.Error(got)
	}
	f.must(f.dynamic("online", "connectivity.connected:true"))
	is := func(query, want string) {
		t.Helper()
		f.eventually(query+" finds "+want, func() bool { return f.found(query) == want })
	}
	is("connectivity.connected:true", "a")
	is("connectivity.connected:false", "never")
	is("connectivity.timestamp:*", "a")
	f.connect("somebody-else")
	f.connect("late")
	f.typed("late", nil) // while its client is connected
	is("connectivity.connected:true", "a late")
	f.eventually("they are members", func() bool { return f.members("online") == "a late" })
	before := time.Now().UnixMilli()
	early.disconnect()
	is("connectivity.disconnectReason:client_initiated_disconnect", "a")
	is("connectivity.connected:true AND NOT connectivity.disconnectReason:*", "late")
	out, err := f.api.SearchIndex(f.ctx, &iot.SearchIndexInput{QueryString: aws.String("thingName:a")})
	f.must(err)
	if c := out.Things[0].Connectivity; c == nil || aws.ToBool(c.Connected) || aws.ToInt64(c.Timestamp) < before-1000 || aws.ToString(c.DisconnectReason) != "CLIENT_INITIATED_DISCONNECT" {
		t.Errorf("%+v", c)
	}
	for name, want := range map[string]string{"a": "false CLIENT_INITIATED_DISCONNECT", "late": "true ", "never": "false "} {
		out, err := f.api.GetThingConnectivityData(f.ctx, &iot.GetThingConnectivityDataInput{ThingName: &name})
		f.must(err)
		if got := fmt.Sprint(aws.ToBool(out.Connected), " ", out.DisconnectReason); got != want || aws.ToString(out.ThingName) != name || (out.Timestamp == nil) != (name == "never") {
			t.Errorf("%s: %s, %v", name, got, out.Timestamp)
		}
	}
	if _, err := f.api.GetThingConnectivityData(f.ctx, &iot.GetThingConnectivityDataInput{ThingName: aws.String("nobody")}); failure(err) != "ResourceNotFoundException" {
		t.Error(err)
	}
	f.eventually("it has left", func() bool { return f.members("online") == "late" })
}
