package iot

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"iter"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// ProvisioningType says who is provisioned by a template. The text is stored.
type ProvisioningType string

// The types. RegisterThing takes bodies that belong to no template: their type is "".
const (
	FleetProvisioning ProvisioningType = "FLEET_PROVISIONING" // devices that ask, over MQTT
	JustInTime        ProvisioningType = "JITP"               // devices that come with an unknown certificate of a known CA
)

// CertificateIDParameter is the parameter that the service supplies: the id of the certificate
// that is being provisioned.
const CertificateIDParameter = certificateParameters + "Id"

// certificateParameters begins the names of the parameters that the service takes from a
// certificate. They need no declaration.
const certificateParameters = "AWS::IoT::Certificate::"

// MaxProvisioningBody is the length of the body of a provisioning template, in characters.
const MaxProvisioningBody = 10240

// Override says what becomes of a property of something that exists already.
type Override string

// The overrides.
const (
	DoNothing Override = "DO_NOTHING"
	Replace   Override = "REPLACE"
	Merge     Override = "MERGE"
	Fail      Override = "FAIL"
)

// Blueprint is the body of a provisioning template: what to make for a device, with functions
// of parameters in it (identity spec §7.2).
type Blueprint struct {
	parameters  map[string]*string // declared → default, nil for none
	mappings    map[string]map[string]map[string]string
	thing       *thingBlueprint
	certificate *certificateBlueprint
	policies    []policyBlueprint // by logical name
	device      map[string]expression
}

type thingBlueprint struct {
	logical                    string
	name, typ, billing         expression // nil if absent
	attributes                 map[string]expression
	groups                     expression
	onAttributes, onType, onGp Override
}

type certificateBlueprint struct {
	logical                  string
	id, csr, pem, ca, status expression
	onStatus                 Override
}

type policyBlueprint struct {
	logical        string
	name, document expression
}

// ProvisioningPlan is what a blueprint asks for, for one device.
type ProvisioningPlan struct {
	Thing       *ThingPlan       // nil for none
	Certificate *CertificatePlan // nil for none, which only RegisterThing can ask for
	Policies    []PolicyPlan
	// Device is the configuration that the device is told.
	Device map[string]any
}

// ThingPlan is the thing to make, or to change as the overrides say if it exists.
type ThingPlan struct {
	Logical    string // name of the resource in the blueprint
	Name       ThingName
	Type       string // "" for none
	Attributes map[string]string
	Billing    string // the billing group of a new thing, "" for none
	Groups     []GroupName

	OnAttributes, OnType, OnGroups Override
}

// CertificatePlan is the certificate to activate. One of ID, CSR and PEM is set.
type CertificatePlan struct {
	Logical  string
	ID       CertificateID
	CSR      string
	PEM      string
	CAPEM    string // of PEM
	Status   CertificateStatus
	OnStatus Override // for a certificate that has a status which somebody chose
}

// PolicyPlan is a policy to attach: one that exists, or one to make of a document.
type PolicyPlan struct {
	Logical  string
	Name     string
	Document string // "" for a policy that must exist
}

// ThingChange says what becomes of a thing that exists when it is provisioned again.
type ThingChange struct {
	Type        string
	Attributes  map[string]string
	Join, Leave []GroupName
}

// Over applies the plan to a thing that exists, which is a direct member of the groups. A
// property that the plan does not have stays as it is, whatever the override. ResourceConflict
// where the override is FAIL and something would change (identity spec §7.2).
func (p *ThingPlan) Over(have *Thing, groups []GroupName) (ThingChange, error) {
	c := ThingChange{Type: have.Type, Attributes: have.Attributes}
	if p.Attributes != nil {
		switch p.OnAttributes {
		case Replace:
			c.Attributes = p.Attributes
		case Merge:
			c.Attributes = (&AttributeUpdate{Values: p.Attributes, Merge: true}).Apply(have.Attributes)
		case Fail:
			if !maps.Equal(p.Attributes, have.Attributes) {
				return c, conflict(have.Name, "AttributePayload")
			}
		}
	}
	if p.Type != "" && p.Type != have.Type {
		switch p.OnType {
		case Replace:
			c.Type = p.Type
		case Fail:
			return c, conflict(have.Name, "ThingTypeName")
		}
	}
	if p.Groups != nil {
		var join, leave []GroupName
		for _, g := range p.Groups {
			if !slices.Contains(groups, g) {
				join = append(join, g)
			}
		}
		for _, g := range groups {
			if !slices.Contains(p.Groups, g) {
				leave = append(leave, g)
			}
		}
		switch p.OnGroups {
		case Replace:
			c.Join, c.Leave = join, leave
		case Merge:
			c.Join = join
		case Fail:
			if len(join)+len(leave) > 0 {
				return c, conflict(have.Name, "ThingGroups")
			}
		}
	}
	return c, nil
}

func conflict(thing ThingName, property string) error {
	return Errorf(ResourceConflict, "Thing %s exists with another %s, which the template does not override", thing, property)
}

// ParseBlueprint reads the body of a template of the type. InvalidRequest, which says where in
// the body, for one that is not JSON, has unknown sections, resources, properties or functions,
// or asks for what the type does not provision.
func ParseBlueprint(body string, kind ProvisioningType) (*Blueprint, error) {
	if utf8.RuneCountInString(body) > MaxProvisioningBody {
		return nil, Errorf(InvalidRequest, "The template body has more than %d characters", MaxProvisioningBody)
	}
	var root map[string]any
	dec := json.NewDecoder(strings.NewReader(body))
	dec.UseNumber()
	if err := dec.Decode(&root); err != nil || root == nil || dec.More() {
		return nil, Errorf(InvalidRequest, "The template body is not a JSON object")
	}
	p := &blueprintParser{b: &Blueprint{}}
	p.sections(root, kind)
	if p.err != nil {
		return nil, p.err
	}
	return p.b, nil
}

// blueprintParser reads a body; its first complaint counts.
type blueprintParser struct {
	b   *Blueprint
	err error
}

func (p *blueprintParser) fail(at, format string, args ...any) {
	if p.err == nil {
		e := Errorf(InvalidRequest, format, args...)
		e.Message = "Invalid template body at " + at + ": " + e.Message
		p.err = e
	}
}

func (p *blueprintParser) sections(root map[string]any, kind ProvisioningType) {
	for name := range inOrder(root) {
		fleetOnly := name == "Mappings" || name == "DeviceConfiguration"
		switch {
		case fleetOnly && kind == JustInTime:
			p.fail(name, "templates of the type %s do not have this section", JustInTime)
		case !fleetOnly && name != "Parameters" && name != "Resources":
			p.fail(name, "there is no such section")
		}
	}
	p.parameters(p.object("Parameters", root["Parameters"]))
	p.maps(p.object("Mappings", root["Mappings"]))
	resources := p.object("Resources", root["Resources"])
	if len(resources) == 0 {
		p.fail("Resources", "at least one resource is required")
	}
	for logical, v := range inOrder(resources) {
		p.resource(logical, v, kind)
	}
	if kind != "" && p.b.certificate == nil {
		p.fail("Resources", "a resource of the type AWS::IoT::Certificate is required")
	}
	if device := p.object("DeviceConfiguration", root["DeviceConfiguration"]); device != nil {
		p.b.device = make(map[string]expression, len(device))
		for name, v := range inOrder(device) {
			at := "DeviceConfiguration." + name
			o, isObject := v.(map[string]any)
			if _, isList := v.([]any); isList || isObject && function(o) == "" {
				p.fail(at, "the device configuration is flat: no objects or lists in it")
			}
			if n, isNumber := v.(json.Number); isNumber {
				v = p.number(at, n)
			}
			p.b.device[name] = p.expression(at, v)
		}
	}
}

// number returns a number as what every encoding has: an integer, or a float.
func (p *blueprintParser) number(at string, n json.Number) any {
	if i, err := n.Int64(); err == nil {
		return i
	}
	f, err := n.Float64()
	if err != nil {
		p.fail(at, "the number is too large")
	}
	return f
}

func (p *blueprintParser) parameters(declared map[string]any) {
	p.b.parameters = make(map[string]*string, len(declared))
	for name, v := range inOrder(declared) {
		at := "Parameters." + name
		o := p.object(at, v)
		if o["Type"] != "String" {
			p.fail(at+".Type", `must be "String"`)
		}
		p.b.parameters[name] = nil
		for key, v := range inOrder(o) {
			switch key {
			case "Type", "Description":
			case "Default":
				text, ok := v.(string)
				if !ok {
					p.fail(at+".Default", "must be text")
				}
				p.b.parameters[name] = &text
			default:
				p.fail(at+"."+key, "there is no such property")
			}
		}
	}
}

func (p *blueprintParser) maps(mappings map[string]any) {
	p.b.mappings = make(map[string]map[string]map[string]string, len(mappings))
	for name, v := range inOrder(mappings) {
		p.b.mappings[name] = make(map[string]map[string]string)
		for first, v := range inOrder(p.object("Mappings."+name, v)) {
			at := "Mappings." + name + "." + first
			p.b.mappings[name][first] = make(map[string]string)
			for second, v := range inOrder(p.object(at, v)) {
				text, ok := v.(string)
				if !ok {
					p.fail(at+"."+second, "must be text")
				}
				p.b.mappings[name][first][second] = text
			}
		}
	}
}

func (p *blueprintParser) resource(logical string, v any, kind ProvisioningType) {
	at := "Resources." + logical
	o := p.object(at, v)
	for key := range inOrder(o) {
		if key != "Type" && key != "Properties" && key != "OverrideSettings" {
			p.fail(at+"."+key, "there is no such property")
		}
	}
	properties := p.object(at+".Properties", o["Properties"])
	overrides := p.object(at+".OverrideSettings", o["OverrideSettings"])
	switch o["Type"] {
	case "AWS::IoT::Thing":
		if p.b.thing != nil {
			p.fail(at, "a template has at most one thing")
		}
		p.thing(at, logical, properties, overrides)
	case "AWS::IoT::Certificate":
		if p.b.certificate != nil {
			p.fail(at, "a template has at most one certificate")
		}
		p.certificate(at, logical, properties, overrides, kind)
	case "AWS::IoT::Policy":
		if overrides != nil {
			p.fail(at+".OverrideSettings", "policies have none")
		}
		policy := policyBlueprint{logical: logical}
		p.properties(at, properties, map[string]*expression{"PolicyName": &policy.name})
		if document, ok := properties["PolicyDocument"]; ok {
			policy.document = p.expression(at+".Properties.PolicyDocument", document)
		}
		if (policy.name == nil) == (policy.document == nil) {
			p.fail(at+".Properties", "either PolicyName or PolicyDocument is required")
		}
		p.b.policies = append(p.b.policies, policy)
	default:
		p.fail(at+".Type", "must be AWS::IoT::Thing, AWS::IoT::Certificate or AWS::IoT::Policy")
	}
}

func (p *blueprintParser) thing(at, logical string, properties, overrides map[string]any) {
	t := &thingBlueprint{logical: logical, onAttributes: Merge, onType: DoNothing, onGp: DoNothing}
	p.b.thing = t
	p.properties(at, properties, map[string]*expression{
		"ThingName": &t.name, "ThingTypeName": &t.typ, "BillingGroup": &t.billing, "ThingGroups": &t.groups,
	})
	if t.name == nil {
		p.fail(at+".Properties.ThingName", "is required")
	}
	if v, ok := properties["AttributePayload"]; ok {
		t.attributes = make(map[string]expression)
		for name, v := range inOrder(p.object(at+".Properties.AttributePayload", v)) {
			t.attributes[name] = p.text(at+".Properties.AttributePayload."+name, v)
		}
	}
	p.overrides(at, overrides, map[string]overriding{
		"attributepayload": {&t.onAttributes, []Override{DoNothing, Replace, Fail, Merge}},
		"thingtypename":    {&t.onType, []Override{DoNothing, Replace, Fail}},
		"thinggroups":      {&t.onGp, []Override{DoNothing, Replace, Fail, Merge}},
	})
}

func (p *blueprintParser) certificate(at, logical string, properties, overrides map[string]any, kind ProvisioningType) {
	c := &certificateBlueprint{logical: logical, onStatus: Replace}
	p.b.certificate = c
	p.properties(at, properties, map[string]*expression{
		"CertificateId": &c.id, "CertificateSigningRequest": &c.csr, "CertificatePem": &c.pem, "CACertificatePem": &c.ca, "Status": &c.status,
	})
	ways := 0
	for _, e := range []expression{c.id, c.csr, c.pem} {
		if e != nil {
			ways++
		}
	}
	switch {
	case kind != "" && c.id == nil, kind != "" && ways != 1:
		p.fail(at+".Properties", "CertificateId is required, and no other certificate")
	case ways != 1:
		p.fail(at+".Properties", "one of CertificateId, CertificateSigningRequest and CertificatePem is required")
	case c.ca != nil && c.pem == nil:
		p.fail(at+".Properties.CACertificatePem", "goes with CertificatePem only")
	}
	p.overrides(at, overrides, map[string]overriding{"status": {&c.onStatus, []Override{DoNothing, Replace, Fail}}})
}

// properties reads those properties whose values are text or lists. AttributePayload and
// PolicyDocument are the two that are objects.
func (p *blueprintParser) properties(at string, have map[string]any, into map[string]*expression) {
	for name, v := range inOrder(have) {
		at := at + ".Properties." + name
		switch to := into[name]; {
		case to != nil && name == "ThingGroups":
			*to = p.expression(at, v)
		case to != nil:
			*to = p.text(at, v)
		case name == "AttributePayload" && into["ThingName"] != nil, name == "PolicyDocument" && into["PolicyName"] != nil:
		default:
			p.fail(at, "there is no such property")
		}
	}
}

type overriding struct {
	to      *Override
	allowed []Override
}

// overrides reads override settings, whose names come in two spellings (identity spec §7.2).
func (p *blueprintParser) overrides(at string, have map[string]any, into map[string]overriding) {
	for name, v := range inOrder(have) {
		at := at + ".OverrideSettings." + name
		o, ok := into[strings.ToLower(strings.ReplaceAll(name, "_", ""))]
		text, _ := v.(string)
		switch {
		case !ok:
			p.fail(at, "there is no such setting")
		case !slices.Contains(o.allowed, Override(text)):
			p.fail(at, "must be one of %v", o.allowed)
		default:
			*o.to = Override(text)
		}
	}
}

// inOrder walks through an object by name, so that of several complaints the same comes first.
func inOrder(o map[string]any) iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		for _, name := range slices.Sorted(maps.Keys(o)) {
			if !yield(name, o[name]) {
				return
			}
		}
	}
}

// object returns a JSON object, nil for an absent one.
func (p *blueprintParser) object(at string, v any) map[string]any {
	o, ok := v.(map[string]any)
	if v != nil && !ok {
		p.fail(at, "must be an object")
	}
	return o
}

// Resolve puts the parameters in. Those that the blueprint does not know are ignored
// (identity spec §7.2). InvalidRequest for one that is missing and has no default, for a function
// that cannot be evaluated, and for values that cannot be what they are for.
func (b *Blueprint) Resolve(parameters map[string]string) (*ProvisioningPlan, error) {
	r := &resolver{b: b, parameters: parameters}
	plan := &ProvisioningPlan{}
	if t := b.thing; t != nil {
		plan.Thing = &ThingPlan{
			Logical: t.logical, Name: ThingName(r.text(t.name)), Type: r.text(t.typ), OnAttributes: t.onAttributes, OnType: t.onType, OnGroups: t.onGp,
		}
		if !plan.Thing.Name.Valid() {
			r.fail("ThingName %q must match [a-zA-Z0-9:_-]+ and have 1 to %d characters", shorten(string(plan.Thing.Name)), maxThingName)
		}
		if t.attributes != nil {
			plan.Thing.Attributes = r.texts(t.attributes)
			if err := CheckAttributes(plan.Thing.Attributes, false); err != nil && r.err == nil {
				r.err = err
			}
		}
		plan.Thing.Billing = r.text(t.billing)
		for _, g := range r.list(t.groups) {
			plan.Thing.Groups = append(plan.Thing.Groups, GroupName(g))
		}
	}
	if c := b.certificate; c != nil {
		plan.Certificate = &CertificatePlan{
			Logical: c.logical, ID: CertificateID(r.text(c.id)), CSR: r.text(c.csr), PEM: r.text(c.pem), CAPEM: r.text(c.ca), OnStatus: c.onStatus,
		}
		plan.Certificate.Status = CertificateStatus(strings.ToUpper(r.text(c.status)))
		switch plan.Certificate.Status {
		case "":
			plan.Certificate.Status = CertificateActive
		case CertificateActive, CertificateInactive:
		default:
			r.fail("certificate Status %q must be ACTIVE or INACTIVE", shorten(string(plan.Certificate.Status)))
		}
	}
	for _, p := range b.policies {
		policy := PolicyPlan{Logical: p.logical, Name: r.text(p.name)}
		if p.document != nil {
			policy.Document = r.document(p.document)
			policy.Name = PolicyHash(policy.Document)
		}
		plan.Policies = append(plan.Policies, policy)
	}
	plan.Device = r.object(b.device)
	for name, v := range plan.Device {
		if _, isList := v.([]string); isList {
			r.fail("DeviceConfiguration.%s is a list", name)
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	return plan, nil
}

// PolicyHash is the name of a policy that is made of a document in a template: 40 upper-case
// hexadecimal digits, so that identical documents are one policy (identity spec §7.2). It is
// nothing that protects: who can choose documents need not go to the trouble of a collision.
func PolicyHash(document string) string {
	sum := sha1.Sum([]byte(document))
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}

// encodeDocument writes a policy document that was given as an object.
func encodeDocument(v any) (string, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return strings.TrimSuffix(b.String(), "\n"), err
}
