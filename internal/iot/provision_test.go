package iot

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// fleetBody is a template as people write them: a thing, the certificate, an inline policy and a
// policy that exists, with every function.
const fleetBody = `{
	"Parameters": {
		"SerialNumber": {"Type": "String"},
		"Model": {"Type": "String", "Default": "pump:v2"},
		"AWS::IoT::Certificate::Id": {"Type": "String"}
	},
	"Mappings": {"Places": {"pump": {"group": "cellar"}, "lamp": {"group": "roof"}}},
	"Resources": {
		"certificate": {"Type": "AWS::IoT::Certificate",
			"Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"}},
		"thing": {"Type": "AWS::IoT::Thing",
			"Properties": {
				"ThingName": {"Fn::Join": ["-", ["dev", {"Ref": "SerialNumber"}]]},
				"ThingTypeName": {"Fn::Select": [0, {"Fn::Split": [":", {"Ref": "Model"}]}]},
				"AttributePayload": {"version": {"Fn::Select": ["1", {"Fn::Split": [":", {"Ref": "Model"}]}]}, "serial": {"Ref": "SerialNumber"}},
				"ThingGroups": ["all", {"Fn::FindInMap": ["Places", {"Fn::Select": [0, {"Fn::Split": [":", {"Ref": "Model"}]}]}, "group"]}]
			},
			"OverrideSettings": {"AttributePayload": "REPLACE", "THING_TYPE_NAME": "FAIL"}},
		"named": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "standard"}},
		"inline": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument": {
			"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["iot:Publish"],
				"Resource": {"Fn::Sub": ["arn:aws:iot:us-east-1:123456789012:topic/${root}/${SerialNumber}/${!iot:ClientId}", {"root": "dt"}]}}]}}}
	},
	"DeviceConfiguration": {"url": {"Fn::Sub": "https://example.com/${SerialNumber}"}, "period": 60}
}`

func TestBlueprint(t *testing.T) {
	t.Parallel()
	b, err := ParseBlueprint(fleetBody, FleetProvisioning)
	if err != nil {
		t.Fatal(err)
	}
	id := strings.Repeat("a", 64)
	plan, err := b.Resolve(map[string]string{"SerialNumber": "17", CertificateIDParameter: id, "Unknown": "ignored"})
	if err != nil {
		t.Fatal(err)
	}
	document := `{"Statement":[{"Action":["iot:Publish"],"Effect":"Allow","Resource":"arn:aws:iot:us-east-1:123456789012:topic/dt/17/${iot:ClientId}"}],"Version":"2012-10-17"}`
	want := &ProvisioningPlan{
		Thing: &ThingPlan{
			Logical: "thing", Name: "dev-17", Type: "pump", Attributes: map[string]string{"version": "v2", "serial": "17"},
			Groups: []GroupName{"all", "cellar"}, OnAttributes: Replace, OnType: Fail, OnGroups: DoNothing,
		},
		Certificate: &CertificatePlan{Logical: "certificate", ID: CertificateID(id), Status: CertificateActive, OnStatus: Replace},
		Policies: []PolicyPlan{
			{Logical: "inline", Name: PolicyHash(document), Document: document},
			{Logical: "named", Name: "standard"},
		},
	}
	if got := fmt.Sprint(plan.Device); got != "map[period:60 url:https://example.com/17]" {
		t.Errorf("device configuration %s", got)
	}
	plan.Device = nil
	if !reflect.DeepEqual(plan, want) {
		t.Errorf("got  %+v %+v %+v\nwant %+v %+v %+v", plan.Thing, plan.Certificate, plan.Policies, want.Thing, want.Certificate, want.Policies)
	}
	if len(plan.Policies[0].Name) != 40 || plan.Policies[0].Name != strings.ToUpper(plan.Policies[0].Name) {
		t.Errorf("name of the inline policy: %s", plan.Policies[0].Name)
	}
}

// thingBody is a template with a thing and its certificate, whose name is an expression.
func thingBody(name string) string {
	return `{"Parameters":{"P":{"Type":"String"},"D":{"Type":"String","Default":"d"}},"Mappings":{"M":{"a":{"b":"found"}}},"Resources":{
		"c":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":{"Ref":"AWS::IoT::Certificate::Id"}}},
		"t":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":` + name + `}}}}`
}

// TestB243ProvisioningFunctions: Ref, Fn::Join, Fn::Select, Fn::Split, Fn::Sub and Fn::FindInMap
// evaluate; what cannot be evaluated fails.
func TestB243ProvisioningFunctions(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, want string }{
		{`"plain"`, "plain"},
		{`{"Ref":"P"}`, "x_y"},
		{`{"Ref":"D"}`, "d"},
		{`{"Fn::Join":["",["a",{"Ref":"P"}]]}`, "ax_y"},
		{`{"Fn::Join":["-",{"Fn::Split":["_",{"Ref":"P"}]}]}`, "x-y"},
		{`{"Fn::Select":[1,["a","b"]]}`, "b"},
		{`{"Fn::Select":["0",{"Fn::Split":["_",{"Ref":"P"}]}]}`, "x"},
		{`{"Fn::Sub":"${D}-${P}"}`, "d-x_y"},
		{`{"Fn::Sub":["${v}${v}-${D}",{"v":{"Ref":"P"}}]}`, "x_yx_y-d"},
		{`{"Fn::FindInMap":["M","a","b"]}`, "found"},
		{`{"Fn::FindInMap":["M",{"Fn::Select":[0,["a"]]},"b"]}`, "found"},

		{`{"Fn::Select":[2,["a","b"]]}`, "error: Fn::Select: the index is not one of the 2 items"},
		{`{"Fn::Select":[-1,["a","b"]]}`, "error: Fn::Select: the index is not one of the 2 items"},
		{`{"Fn::FindInMap":["M","a","c"]}`, "error: Fn::FindInMap: there is no M.a.c"},
		{`{"Fn::Split":["_",{"Ref":"P"}]}`, "error: A list stands where text is expected"},
		{`{"Fn::Join":["-",{"Ref":"P"}]}`, "error: Text stands where a list is expected"},
		{`{"Fn::Sub":"${D}/x"}`, `error: ThingName "d/x" must match [a-zA-Z0-9:_-]+ and have 1 to 128 characters`},

		{`{"Ref":"Q"}`, `error: Invalid template body at Resources.t.Properties.ThingName.Ref: the parameter "Q" is not declared`},
		{`{"Ref":1}`, "error: Invalid template body at Resources.t.Properties.ThingName.Ref: must be the name of a parameter"},
		{`{"Fn::Join":["-"]}`, "error: Invalid template body at Resources.t.Properties.ThingName.Fn::Join: must be a list of 2 arguments"},
		{`{"Fn::Select":[null,["a"]]}`, "error: Invalid template body at Resources.t.Properties.ThingName.Fn::Select: must be text or a function"},
		{`{"Fn::Split":["","a"]}`, "error: Invalid template body at Resources.t.Properties.ThingName.Fn::Split: the delimiter must be a text that is not empty"},
		{`{"Fn::Sub":"${P"}`, "error: Invalid template body at Resources.t.Properties.ThingName.Fn::Sub: ${ without }"},
		{`{"Fn::Sub":"${Q}"}`, `error: Invalid template body at Resources.t.Properties.ThingName.Fn::Sub: the parameter "Q" is not declared`},
		{`{"Fn::If":["a","b","c"]}`, "error: Invalid template body at Resources.t.Properties.ThingName.Fn::If: there is no such function"},
		{`["a"]`, "error: Invalid template body at Resources.t.Properties.ThingName: must be text or a function"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := ""
			b, err := ParseBlueprint(thingBody(tt.name), FleetProvisioning)
			if err == nil {
				var plan *ProvisioningPlan
				if plan, err = b.Resolve(map[string]string{"P": "x_y", CertificateIDParameter: "c"}); err == nil {
					got = string(plan.Thing.Name)
				}
			}
			if err != nil {
				if ErrorCode(err) != InvalidRequest {
					t.Errorf("code %s", ErrorCode(err))
				}
				got = "error: " + strings.TrimPrefix(err.Error(), "InvalidRequest: ")
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// What a template must not have is refused when it is made, with the place in the body.
func TestBlueprintRefused(t *testing.T) {
	t.Parallel()
	const cert = `"c":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":{"Ref":"AWS::IoT::Certificate::Id"}}}`
	for _, tt := range []struct {
		body string
		kind ProvisioningType
		want string
	}{
		{`{`, "", "The template body is not a JSON object"},
		{`{} {}`, "", "The template body is not a JSON object"},
		{`null`, "", "The template body is not a JSON object"},
		{`{"Resources":{}}`, "", "Invalid template body at Resources: at least one resource is required"},
		{`{"Resources":1}`, "", "Invalid template body at Resources: must be an object"},
		{`{"Outputs":{}}`, "", "Invalid template body at Outputs: there is no such section"},
		{`{"Mappings":{},"Resources":{` + cert + `}}`, JustInTime, "Invalid template body at Mappings: templates of the type JITP do not have this section"},
		{`{"Resources":{"t":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":"t"}}}}`, FleetProvisioning, "Invalid template body at Resources: a resource of the type AWS::IoT::Certificate is required"},
		{`{"Resources":{"t":{"Type":"AWS::IoT::Thing","Properties":{}}}}`, "", "Invalid template body at Resources.t.Properties.ThingName: is required"},
		{`{"Resources":{"t":{"Type":"AWS::IoT::Thing","Properties":{"Name":"t"}}}}`, "", "Invalid template body at Resources.t.Properties.Name: there is no such property"},
		{`{"Resources":{"t":{"Type":"AWS::S3::Bucket"}}}`, "", "Invalid template body at Resources.t.Type: must be AWS::IoT::Thing, AWS::IoT::Certificate or AWS::IoT::Policy"},
		{`{"Resources":{` + cert + `,"d":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":"x"}}}}`, "", "Invalid template body at Resources.d: a template has at most one certificate"},
		{`{"Resources":{"c":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateSigningRequest":"x"}}}}`, FleetProvisioning, "Invalid template body at Resources.c.Properties: CertificateId is required, and no other certificate"},
		{`{"Resources":{"c":{"Type":"AWS::IoT::Certificate","Properties":{}}}}`, "", "Invalid template body at Resources.c.Properties: one of CertificateId, CertificateSigningRequest and CertificatePem is required"},
		{`{"Resources":{"p":{"Type":"AWS::IoT::Policy","Properties":{}}}}`, "", "Invalid template body at Resources.p.Properties: either PolicyName or PolicyDocument is required"},
		{`{"Resources":{"t":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":"t"},"OverrideSettings":{"ThingTypeName":"MERGE"}}}}`, "", "Invalid template body at Resources.t.OverrideSettings.ThingTypeName: must be one of [DO_NOTHING REPLACE FAIL]"},
		{`{"Parameters":{"P":{"Type":"Number"}},"Resources":{` + cert + `}}`, "", `Invalid template body at Parameters.P.Type: must be "String"`},
	} {
		_, err := ParseBlueprint(tt.body, tt.kind)
		if err == nil || err.Error() != "InvalidRequest: "+tt.want {
			t.Errorf("%s\ngot  %v\nwant %s", tt.body, err, tt.want)
		}
	}
}

// TestB245DeviceConfigurationIsFlat: nested device configuration is refused.
func TestB245DeviceConfigurationIsFlat(t *testing.T) {
	t.Parallel()
	for _, nested := range []string{`{"b":"c"}`, `["b"]`} {
		body := `{"Resources":{"c":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":"x"}}},"DeviceConfiguration":{"a":` + nested + `}}`
		_, err := ParseBlueprint(body, FleetProvisioning)
		if want := "InvalidRequest: Invalid template body at DeviceConfiguration.a: the device configuration is flat: no objects or lists in it"; err == nil || err.Error() != want {
			t.Errorf("%s: %v", nested, err)
		}
	}
}

// A parameter that is missing fails; a device cannot widen its policy by what it calls itself.
func TestBlueprintParameters(t *testing.T) {
	t.Parallel()
	b, err := ParseBlueprint(fleetBody, FleetProvisioning)
	if err != nil {
		t.Fatal(err)
	}
	for serial, want := range map[string]string{
		"":     "",
		"*":    `ThingName "dev-*" must match`,
		"17":   "",
		`a"b`:  "ThingName",
		"none": "The parameter SerialNumber is missing",
	} {
		parameters := map[string]string{"SerialNumber": serial, CertificateIDParameter: "c"}
		if serial == "none" {
			delete(parameters, "SerialNumber")
		}
		if serial == "" {
			continue // an empty attribute is refused as such
		}
		_, err := b.Resolve(parameters)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v", serial, err)
		}
	}
	for _, document := range []string{`{"Fn::Sub":"{\"Resource\":\"${P}\"}"}`, `{"Resource":{"Ref":"P"}}`} {
		body := `{"Parameters":{"P":{"Type":"String"}},"Resources":{"c":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":"x"}},
			"p":{"Type":"AWS::IoT::Policy","Properties":{"PolicyDocument":` + document + `}}}}`
		b, err := ParseBlueprint(body, FleetProvisioning)
		if err != nil {
			t.Fatal(err)
		}
		for _, value := range []string{"*", "a?", "${iot:ClientId}", `","Action":"iot:*`, `\`, "\n"} {
			if _, err := b.Resolve(map[string]string{"P": value}); err == nil || !strings.Contains(err.Error(), "The parameter P is part of a policy") {
				t.Errorf("%s with %q: %v", document, value, err)
			}
		}
		if plan, err := b.Resolve(map[string]string{"P": "pump-1"}); err != nil || plan.Policies[0].Document != `{"Resource":"pump-1"}` {
			t.Errorf("%s: %v", document, err)
		}
	}
}

// Nested functions cannot be made to take long, or much memory.
func TestBlueprintBomb(t *testing.T) {
	t.Parallel()
	value := `"${D}"`
	for range 150 {
		value = `{"Fn::Sub":["${a}${a}",{"a":` + value + `}]}`
	}
	for _, core := range []string{`"${D}"`, `""`} {
		b, err := ParseBlueprint(thingBody(strings.Replace(value, `"${D}"`, core, 1)), FleetProvisioning)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := b.Resolve(map[string]string{"D": "0123456789"}); err == nil {
			t.Errorf("%s: it has a name", core)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("%s: took %s", core, took)
		}
	}
}

// TestB244Override: an existing thing changes as the settings say.
func TestB244Override(t *testing.T) {
	t.Parallel()
	have := &Thing{Name: "t", Type: "old", Attributes: map[string]string{"a": "1", "b": "2"}}
	groups := []GroupName{"x", "y"}
	for _, tt := range []struct {
		on         Override
		attributes map[string]string
		typ        string
		join       []GroupName
		leave      []GroupName
	}{
		{DoNothing, have.Attributes, "old", nil, nil},
		{Merge, map[string]string{"a": "1", "b": "3", "c": "4"}, "old", []GroupName{"z"}, nil},
		{Replace, map[string]string{"b": "3", "c": "4"}, "new", []GroupName{"z"}, []GroupName{"x"}},
	} {
		p := &ThingPlan{Name: "t", Type: "new", Attributes: map[string]string{"b": "3", "c": "4"}, Groups: []GroupName{"y", "z"},
			OnAttributes: tt.on, OnType: tt.on, OnGroups: tt.on}
		c, err := p.Over(have, groups)
		if err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(c.Attributes, tt.attributes) || c.Type != tt.typ || !slices.Equal(c.Join, tt.join) || !slices.Equal(c.Leave, tt.leave) {
			t.Errorf("%s: %+v", tt.on, c)
		}
	}
	for _, p := range []*ThingPlan{
		{Attributes: map[string]string{"a": "9"}, OnAttributes: Fail},
		{Type: "new", OnType: Fail},
		{Groups: []GroupName{"x"}, OnGroups: Fail},
	} {
		if _, err := p.Over(have, groups); ErrorCode(err) != ResourceConflict {
			t.Errorf("%+v: %v", p, err)
		}
	}
	same := &ThingPlan{Type: "old", Attributes: have.Attributes, Groups: groups, OnAttributes: Fail, OnType: Fail, OnGroups: Fail}
	if c, err := same.Over(have, groups); err != nil || c.Join != nil || c.Leave != nil {
		t.Errorf("nothing changes: %+v, %v", c, err)
	}
}

func FuzzBlueprint(f *testing.F) {
	f.Add(fleetBody, "17")
	f.Add(thingBody(`{"Fn::Sub":["${a}",{"a":{"Ref":"P"}}]}`), "x")
	f.Fuzz(func(t *testing.T, body, value string) {
		for _, kind := range []ProvisioningType{"", FleetProvisioning, JustInTime} {
			b, err := ParseBlueprint(body, kind)
			if err != nil {
				if ErrorCode(err) != InvalidRequest {
					t.Fatal(err)
				}
				continue
			}
			plan, err := b.Resolve(map[string]string{"SerialNumber": value, "P": value, CertificateIDParameter: "c"})
			if err == nil && plan.Thing != nil && !plan.Thing.Name.Valid() {
				t.Fatalf("thing %q", plan.Thing.Name)
			}
		}
	})
}
