package conformance

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/fxamacker/cbor/v2"
)

// Fleet provisioning: templates, and devices that come with a claim.

const (
	roleARN = "arn:aws:iam::123456789012:role/provisioning"

	createJSON    = "$aws/certificates/create/json"
	createCSRJSON = "$aws/certificates/create-from-csr/json"
)

// provisioningBody is a body whose things have the prefix of the test in their names; more are
// further properties of the thing, and override its settings.
func (f *fleet) provisioningBody(more, override string) string {
	return `{"Parameters":{"Serial":{"Type":"String"},"Note":{"Type":"String","Default":"none"}},
		"Resources":{
			"certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":{"Ref":"AWS::IoT::Certificate::Id"},"Status":"Active"}},
			"thing":{"Type":"AWS::IoT::Thing","OverrideSettings":{` + override + `},"Properties":{
				"ThingName":{"Fn::Sub":"` + f.prefix + `-${Serial}"},"AttributePayload":{"note":{"Ref":"Note"}}` + more + `}}},
		"DeviceConfiguration":{"serial":{"Ref":"Serial"}}}`
}

// template creates an enabled provisioning template and returns its full name.
func (f *fleet) template(n, body string, options ...func(*iot.CreateProvisioningTemplateInput)) string {
	f.t.Helper()
	name := f.name(n)
	in := &iot.CreateProvisioningTemplateInput{TemplateName: &name, TemplateBody: &body, ProvisioningRoleArn: aws.String(roleARN), Enabled: aws.Bool(true)}
	for _, o := range options {
		o(in)
	}
	_, err := f.api.CreateProvisioningTemplate(f.ctx, in)
	f.must(err)
	return name
}

// answers makes the device hear the answers of provisioning by a template.
func (d *device) answers(template string) {
	d.f.t.Helper()
	for _, topic := range []string{createJSON, createCSRJSON, provisionTopic(template)} {
		d.f.must(d.subscribe(topic+"/accepted", 1))
		d.f.must(d.subscribe(topic+"/rejected", 1))
	}
}

func provisionTopic(template string) string {
	return "$aws/provisioning-templates/" + template + "/provision/json"
}

// provision publishes a request and returns the answer, which must be of the kind: accepted or rejected.
func (d *device) provision(topic, payload, kind string) map[string]any {
	d.f.t.Helper()
	ours := func(m message) bool { return strings.HasPrefix(m.topic, topic+"/") }
	before := d.count(ours)
	d.f.must(d.publish(topic, payload, 1))
	m, err := d.wait(before, ours)
	d.f.must(err)
	if m.topic != topic+"/"+kind {
		d.f.t.Fatalf("%s %s", m.topic, m.payload)
	}
	return m.json
}

// create gets a certificate and its token.
func (d *device) create() (id, token string) {
	d.f.t.Helper()
	a := d.provision(createJSON, "", "accepted")
	return a["certificateId"].(string), a["certificateOwnershipToken"].(string)
}

// refusedAs asks to be registered and expects a refusal.
func (d *device) refusedAs(template, payload string, status int, code string) {
	d.f.t.Helper()
	a := d.provision(provisionTopic(template), payload, "rejected")
	if a["statusCode"] != float64(status) || a["errorCode"] != code || a["errorMessage"] == "" {
		d.f.t.Errorf("%s: %v, want %d %s", payload, a, status, code)
	}
}

func registration(token, parameters string) string {
	return fmt.Sprintf(`{"certificateOwnershipToken":%q,"parameters":{%s}}`, token, parameters)
}

func (f *fleet) certificateStatus(id string) types.CertificateStatus {
	f.t.Helper()
	out, err := f.api.DescribeCertificate(f.ctx, &iot.DescribeCertificateInput{CertificateId: &id})
	if _, ok := errors.AsType[*types.ResourceNotFoundException](err); ok {
		return "absent"
	}
	f.must(err)
	return out.CertificateDescription.Status
}

func (f *fleet) exists(thing string) bool {
	f.t.Helper()
	_, err := f.api.DescribeThing(f.ctx, &iot.DescribeThingInput{ThingName: &thing})
	if _, ok := errors.AsType[*types.ResourceNotFoundException](err); ok {
		return false
	}
	f.must(err)
	return true
}

// request is a certificate signing request.
func request(t *testing.T) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "device"}}, newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	return toPEM("CERTIFICATE REQUEST", der)
}

// TestB230TemplateLimits: names, bodies and versions have their limits.
func TestB230TemplateLimits(t *testing.T) {
	f := newFleet(t)
	body := f.provisioningBody("", "")
	for name, body := range map[string]string{strings.Repeat("x", 37): body, "a b": body, "long": body + strings.Repeat(" ", 10241-len(body))} {
		_, err := f.api.CreateProvisioningTemplate(f.ctx, &iot.CreateProvisioningTemplateInput{TemplateName: &name, TemplateBody: &body, ProvisioningRoleArn: aws.String(roleARN)})
		if _, ok := errors.AsType[*types.InvalidRequestException](err); !ok {
			t.Errorf("%.40s: %v", name, err)
		}
	}
	name := f.template("t", body)
	version := func(standard bool) (*iot.CreateProvisioningTemplateVersionOutput, error) {
		return f.api.CreateProvisioningTemplateVersion(f.ctx, &iot.CreateProvisioningTemplateVersionInput{TemplateName: &name, TemplateBody: &body, SetAsDefault: standard})
	}
	for i := range int32(4) {
		out, err := version(i == 3)
		f.must(err)
		if *out.VersionId != i+2 || out.IsDefaultVersion != (i == 3) {
			t.Errorf("%+v", out)
		}
	}
	_, err := version(false)
	if _, ok := errors.AsType[*types.VersionsLimitExceededException](err); !ok {
		t.Errorf("the sixth version: %v", err)
	}
	var versions []int32
	for p := iot.NewListProvisioningTemplateVersionsPaginator(f.api, &iot.ListProvisioningTemplateVersionsInput{TemplateName: &name, MaxResults: aws.Int32(2)}); p.HasMorePages(); {
		page, err := p.NextPage(f.ctx)
		f.must(err)
		for _, v := range page.Versions {
			versions = append(versions, *v.VersionId)
		}
	}
	if !slices.Equal(versions, []int32{5, 4, 3, 2, 1}) {
		t.Errorf("versions %v", versions)
	}
	remove := func(id int32) error {
		_, err := f.api.DeleteProvisioningTemplateVersion(f.ctx, &iot.DeleteProvisioningTemplateVersionInput{TemplateName: &name, VersionId: &id})
		return err
	}
	if _, ok := errors.AsType[*types.DeleteConflictException](remove(5)); !ok {
		t.Error("the default version can be deleted")
	}
	_, err = f.api.DeleteProvisioningTemplate(f.ctx, &iot.DeleteProvisioningTemplateInput{TemplateName: &name})
	if _, ok := errors.AsType[*types.DeleteConflictException](err); !ok {
		t.Errorf("with versions: %v", err)
	}
	for id := range int32(4) {
		f.must(remove(id + 1))
	}
	described, err := f.api.DescribeProvisioningTemplate(f.ctx, &iot.DescribeProvisioningTemplateInput{TemplateName: &name})
	f.must(err)
	if *described.DefaultVersionId != 5 || *described.TemplateBody != body || described.Type != types.TemplateTypeFleetProvisioning {
		t.Errorf("%+v", described)
	}
	_, err = f.api.DeleteProvisioningTemplate(f.ctx, &iot.DeleteProvisioningTemplateInput{TemplateName: &name})
	f.must(err)
}

// TestB231ProvisioningClaim: a claim has a certificate with a key, lasts five minutes and is not
// in the list of certificates.
func TestB231ProvisioningClaim(t *testing.T) {
	f := newFleet(t)
	name := f.template("t", f.provisioningBody("", ""))
	out, err := f.api.CreateProvisioningClaim(f.ctx, &iot.CreateProvisioningClaimInput{TemplateName: &name})
	f.must(err)
	if left := time.Until(*out.Expiration); left < 4*time.Minute || left > 5*time.Minute || *out.KeyPair.PrivateKey == "" || !strings.Contains(*out.CertificatePem, "CERTIFICATE") {
		t.Errorf("%s left, %+v", left, out)
	}
	if status := f.certificateStatus(*out.CertificateId); status != "absent" {
		t.Errorf("the claim is a certificate that is %s", status)
	}
	_, err = f.api.UpdateProvisioningTemplate(f.ctx, &iot.UpdateProvisioningTemplateInput{TemplateName: &name, Enabled: aws.Bool(false)})
	f.must(err)
	_, err = f.api.CreateProvisioningClaim(f.ctx, &iot.CreateProvisioningClaimInput{TemplateName: &name})
	if _, ok := errors.AsType[*types.InvalidRequestException](err); !ok {
		t.Errorf("of a disabled template: %v", err)
	}
	_, err = f.api.CreateProvisioningClaim(f.ctx, &iot.CreateProvisioningClaimInput{TemplateName: aws.String(f.name("none"))})
	if _, ok := errors.AsType[*types.ResourceNotFoundException](err); !ok {
		t.Errorf("of no template: %v", err)
	}
}

// claim makes a claim for a template and returns its certificate.
func (f *fleet) claim(template string) identity {
	f.t.Helper()
	out, err := f.api.CreateProvisioningClaim(f.ctx, &iot.CreateProvisioningClaimInput{TemplateName: &template})
	f.must(err)
	return f.identity(*out.CertificateId, *out.CertificatePem, *out.KeyPair.PrivateKey)
}

func (f *fleet) identity(id, pem, key string) identity {
	f.t.Helper()
	c := identity{id: id, pem: pem}
	var err error
	c.tls, err = tls.X509KeyPair([]byte(pem), []byte(key))
	f.must(err)
	return c
}

// TestB231ProvisionByClaim: a device comes with a claim, gets a certificate of its own, and works
// with that one; the claim is over after five minutes.
func TestB231ProvisionByClaim(t *testing.T) {
	t.Parallel()
	f := fleetOn(t, ownServer(t, "--test", "--tls", "--tls-name", serverName, "--mqtts", "127.0.0.1:0"))
	name := f.template("t", f.provisioningBody("", ""))
	claim := f.claim(name)
	d, err := f.overTLS(f.mqtts, f.config(with(claim)), f.name("new"), 5)
	f.must(err)
	d.answers(name)
	a := d.provision(createJSON, "", "accepted")
	own := f.identity(a["certificateId"].(string), a["certificatePem"].(string), a["privateKey"].(string))
	f.shut(f.mqtts, f.config(with(own))) // not before it is registered
	d.provision(provisionTopic(name), registration(a["certificateOwnershipToken"].(string), `"Serial":"17"`), "accepted")
	d.disconnect()
	f.works(f.mqtts, f.config(with(own)))

	f.clock(`{"advance":"5m"}`)
	f.shut(f.mqtts, f.config(with(claim)))
	f.works(f.mqtts, f.config(with(own)))
}

// TestB232ClaimOfAnotherTemplate: a claim provisions by its own template only.
func TestB232ClaimOfAnotherTemplate(t *testing.T) {
	f := tlsFleet(t)
	mine, other := f.template("mine", f.provisioningBody("", "")), f.template("other", f.provisioningBody("", ""))
	d, err := f.overTLS(f.mqtts, f.config(with(f.claim(mine))), f.name("new"), 4)
	f.must(err)
	d.answers(mine)
	_, token := d.create()
	for _, kind := range []string{"accepted", "rejected"} {
		if err := d.subscribe(provisionTopic(other)+"/"+kind, 1); err != nil {
			return // it may not even hear of it
		}
	}
	d.refusedAs(other, registration(token, `"Serial":"1"`), 403, "AccessDenied")
}

// TestB233B234CreateOverMQTT: with a new key or for a request, a certificate that waits for its
// activation, and a token.
func TestB233B234CreateOverMQTT(t *testing.T) {
	f := newFleet(t)
	d := f.connect(f.name("claim"))
	d.answers("none")
	a := d.provision(createJSON, `{}`, "accepted")
	if got := members(a); !slices.Equal(got, []string{"certificateId", "certificateOwnershipToken", "certificatePem", "privateKey"}) {
		t.Errorf("members %v", got)
	}
	if status := f.certificateStatus(a["certificateId"].(string)); status != types.CertificateStatusPendingActivation {
		t.Errorf("status %s", status)
	}
	csr, err := json.Marshal(map[string]string{"certificateSigningRequest": request(t)})
	f.must(err)
	a = d.provision(createCSRJSON, string(csr), "accepted")
	if got := members(a); !slices.Equal(got, []string{"certificateId", "certificateOwnershipToken", "certificatePem"}) {
		t.Errorf("members %v", got)
	}
	for payload, code := range map[string]string{`{`: "InvalidPayload", `{}`: "InvalidCsr", `{"certificateSigningRequest":"no"}`: "InvalidCsr"} {
		if a := d.provision(createCSRJSON, payload, "rejected"); a["errorCode"] != code || a["statusCode"] != 400.0 {
			t.Errorf("%s: %v", payload, a)
		}
	}
}

// TestB235RegisterThing: thing, groups, policies and certificate are there, and the device is told
// its configuration.
func TestB235RegisterThing(t *testing.T) {
	f := newFleet(t)
	group, named := f.group("g", ""), f.name("p")
	_, err := f.api.CreatePolicy(f.ctx, &iot.CreatePolicyInput{PolicyName: &named,
		PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}]}`)})
	f.must(err)
	f.must(f.billingGroup("billed", ""))
	body := strings.Replace(f.provisioningBody(`,"BillingGroup":"`+f.name("billed")+`","ThingGroups":["`+group+`"]`, ""), `"Resources":{`, `"Resources":{
		"named":{"Type":"AWS::IoT::Policy","Properties":{"PolicyName":"`+named+`"}},
		"inline":{"Type":"AWS::IoT::Policy","Properties":{"PolicyDocument":{"Version":"2012-10-17","Statement":[
			{"Effect":"Allow","Action":"iot:Publish","Resource":{"Fn::Sub":"`+f.arn("topic", "dt")+`/${Serial}"}}]}}},`, 1)
	name := f.template("t", body)
	d := f.connect(f.name("claim"))
	d.answers(name)
	id, token := d.create()
	a := d.provision(provisionTopic(name), registration(token, `"Serial":"17","Unknown":"x"`), "accepted")
	thing := f.name("17")
	if a["thingName"] != thing || path(a, "deviceConfiguration", "serial") != "17" {
		t.Errorf("%v", a)
	}
	if got := aws.ToString(f.describeThing(thing).BillingGroupName); got != f.name("billed") {
		t.Errorf("the billing group is %q", got)
	}
	if status := f.certificateStatus(id); status != types.CertificateStatusActive {
		t.Errorf("status %s", status)
	}
	principals, err := f.api.ListThingPrincipals(f.ctx, &iot.ListThingPrincipalsInput{ThingName: &thing})
	f.must(err)
	if want := f.arn("cert", id); len(principals.Principals) != 1 || principals.Principals[0] != want {
		t.Errorf("principals %v", principals.Principals)
	}
	attached, err := f.api.ListAttachedPolicies(f.ctx, &iot.ListAttachedPoliciesInput{Target: aws.String(f.arn("cert", id))})
	f.must(err)
	if len(attached.Policies) != 2 {
		t.Fatalf("attached: %v", attached.Policies)
	}
	for _, p := range attached.Policies {
		if *p.PolicyName == named {
			continue
		}
		document, err := f.api.GetPolicy(f.ctx, &iot.GetPolicyInput{PolicyName: p.PolicyName})
		f.must(err)
		if len(*p.PolicyName) != 40 || !strings.Contains(*document.PolicyDocument, `topic/dt/17"`) {
			t.Errorf("%s: %s", *p.PolicyName, *document.PolicyDocument)
		}
	}
	in, err := f.api.ListThingsInThingGroup(f.ctx, &iot.ListThingsInThingGroupInput{ThingGroupName: &group})
	f.must(err)
	if !slices.Equal(in.Things, []string{thing}) {
		t.Errorf("in the group: %v", in.Things)
	}
}

// TestB236B238Tokens: an empty, a made up and a used token are refused.
func TestB236B238Tokens(t *testing.T) {
	f := newFleet(t)
	name := f.template("t", f.provisioningBody("", ""))
	d := f.connect(f.name("claim"))
	d.answers(name)
	for _, token := range []string{"", "nonsense"} {
		d.refusedAs(name, registration(token, `"Serial":"1"`), 400, "InvalidCertificateOwnershipToken")
	}
	_, token := d.create()
	d.provision(provisionTopic(name), registration(token, `"Serial":"1"`), "accepted")
	d.refusedAs(name, registration(token, `"Serial":"2"`), 400, "InvalidCertificateOwnershipToken")
	if f.exists(f.name("2")) {
		t.Error("the second use made a thing")
	}
}

// TestB237TokenExpires: after an hour the token is refused and the certificate is gone.
func TestB237TokenExpires(t *testing.T) {
	t.Parallel()
	f := fleetOn(t, ownServer(t, "--test"))
	name := f.template("t", f.provisioningBody("", ""))
	d := f.connect(f.name("claim"))
	d.answers(name)
	id, token := d.create()
	other, _ := d.create()
	f.clock(`{"advance":"61m"}`)
	d.refusedAs(name, registration(token, `"Serial":"1"`), 400, "InvalidCertificateOwnershipToken")
	if status := f.certificateStatus(id); status != "absent" {
		t.Errorf("the certificate is %s", status)
	}
	d.create() // sweeps
	if status := f.certificateStatus(other); status != "absent" {
		t.Errorf("the other certificate is %s", status)
	}
}

// TestB239MissingParameter: nothing is made, and the token is still good.
func TestB239MissingParameter(t *testing.T) {
	f := newFleet(t)
	name := f.template("t", f.provisioningBody("", ""))
	d := f.connect(f.name("claim"))
	d.answers(name)
	id, token := d.create()
	d.refusedAs(name, registration(token, `"Note":"x"`), 400, "InvalidParameters")
	d.refusedAs(f.name("none"), registration(token, `"Serial":"1"`), 404, "ResourceNotFound")
	if status := f.certificateStatus(id); status != types.CertificateStatusPendingActivation {
		t.Errorf("status %s", status)
	}
	d.provision(provisionTopic(name), registration(token, `"Serial":"1"`), "accepted")
}

// TestB240PreProvisioningHook: the hook decides, can change parameters, and must answer in time.
func TestB240PreProvisioningHook(t *testing.T) {
	t.Parallel()
	fn := newFunction(t, `{"allowProvisioning":false}`)
	f := fleetOn(t, ownServer(t, fn.flag()))
	name := f.template("t", f.provisioningBody("", ""), func(in *iot.CreateProvisioningTemplateInput) {
		in.PreProvisioningHook = &types.ProvisioningHook{TargetArn: aws.String(functionARN)}
	})
	d := f.connect(f.name("claim"))
	d.answers(name)
	id, token := d.create()
	for _, answer := range []string{`{"allowProvisioning":false}`, `{}`, `{"allowProvisioning":"true"}`, "nonsense", ""} {
		fn.says(answer)
		d.refusedAs(name, registration(token, `"Serial":"1"`), 403, "AccessDenied")
	}
	if f.exists(f.name("1")) {
		t.Error("there is a thing")
	}
	var event struct {
		CertificateID, TemplateArn, ClientID string
		Parameters                           map[string]string
	}
	f.must(json.Unmarshal([]byte(fn.events[0]), &event))
	if event.CertificateID != id || event.TemplateArn != f.arn("provisioningtemplate", name) || event.ClientID != f.name("claim") || event.Parameters["Serial"] != "1" {
		t.Errorf("event %s", fn.events[0])
	}
	fn.says(`{"allowProvisioning":true,"parameterOverrides":{"Serial":"2"}}`)
	if a := d.provision(provisionTopic(name), registration(token, `"Serial":"1"`), "accepted"); a["thingName"] != f.name("2") {
		t.Errorf("%v", a)
	}
}

// TestB241DisabledTemplate: it provisions nobody.
func TestB241DisabledTemplate(t *testing.T) {
	f := newFleet(t)
	name := f.template("t", f.provisioningBody("", ""), func(in *iot.CreateProvisioningTemplateInput) { in.Enabled = aws.Bool(false) })
	d := f.connect(f.name("claim"))
	d.answers(name)
	_, token := d.create()
	d.refusedAs(name, registration(token, `"Serial":"1"`), 403, "AccessDenied")
}

// TestB242AnswersAreForOne: another client that subscribes to the same topics hears nothing.
func TestB242AnswersAreForOne(t *testing.T) {
	f := newFleet(t)
	name := f.template("t", f.provisioningBody("", ""))
	d, other := f.connect(f.name("claim")), f.connect(f.name("other"))
	d.answers(name)
	other.answers(name)
	_, token := d.create()
	d.provision(provisionTopic(name), registration(token, `"Serial":"1"`), "accepted")
	// What is sent to the other one now comes after what it could have heard.
	if a := other.provision(provisionTopic(name), "{", "rejected"); a["errorCode"] != "InvalidPayload" {
		t.Errorf("%v", a)
	}
	if n := other.count(func(message) bool { return true }); n != 1 {
		t.Errorf("the other client got %d messages: %v", n, other.all())
	}
}

// A thing that exists changes as the override settings say.
func TestProvisionAgain(t *testing.T) {
	f := newFleet(t)
	thing := f.name("17")
	for override, want := range map[string]string{
		"":                           "note:new other:o",
		`"AttributePayload":"MERGE"`: "note:new other:o", `"AttributePayload":"REPLACE"`: "note:new", `"ATTRIBUTE_PAYLOAD":"DO_NOTHING"`: "note:old other:o",
		`"AttributePayload":"FAIL"`: "",
	} {
		_, err := f.api.DeleteThing(f.ctx, &iot.DeleteThingInput{ThingName: &thing})
		f.must(err)
		_, err = f.api.CreateThing(f.ctx, &iot.CreateThingInput{ThingName: &thing,
			AttributePayload: &types.AttributePayload{Attributes: map[string]string{"note": "old", "other": "o"}}})
		f.must(err)
		name := f.template(fmt.Sprintf("t%d", len(override)), f.provisioningBody("", override))
		d := f.connect(f.name("claim"))
		d.answers(name)
		id, token := d.create()
		if want == "" {
			d.refusedAs(name, registration(token, `"Serial":"17","Note":"new"`), 409, "ResourceConflict")
			continue
		}
		d.provision(provisionTopic(name), registration(token, `"Serial":"17","Note":"new"`), "accepted")
		out, err := f.api.DescribeThing(f.ctx, &iot.DescribeThingInput{ThingName: &thing})
		f.must(err)
		if got := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprint(out.Attributes), "map["), "]"); got != want {
			t.Errorf("%s: %s", override, got)
		}
		_, err = f.api.DetachThingPrincipal(f.ctx, &iot.DetachThingPrincipalInput{ThingName: &thing, Principal: aws.String(f.arn("cert", id))})
		f.must(err)
		d.disconnect()
	}
}

// TestB246RegisterThingOverHTTPS: with a request, and the ARNs by logical names.
func TestB246RegisterThingOverHTTPS(t *testing.T) {
	f := newFleet(t)
	body := `{"Parameters":{"CSR":{"Type":"String"},"Name":{"Type":"String"}},"Resources":{
		"theThing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"Name"}}},
		"theCertificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateSigningRequest":{"Ref":"CSR"}}}}}`
	thing := f.name("t")
	out, err := f.api.RegisterThing(f.ctx, &iot.RegisterThingInput{TemplateBody: &body, Parameters: map[string]string{"CSR": request(t), "Name": thing}})
	f.must(err)
	arn := out.ResourceArns["theCertificate"]
	if !strings.Contains(*out.CertificatePem, "CERTIFICATE") || out.ResourceArns["theThing"] != f.thingARN(thing) || !strings.HasPrefix(arn, f.arn("cert", "")) || len(out.ResourceArns) != 2 {
		t.Errorf("%v", out.ResourceArns)
	}
	if status := f.certificateStatus(strings.TrimPrefix(arn, f.arn("cert", ""))); status != types.CertificateStatusActive {
		t.Errorf("status %s", status)
	}
	_, err = f.api.RegisterThing(f.ctx, &iot.RegisterThingInput{TemplateBody: &body, Parameters: map[string]string{"Name": thing}})
	if e, ok := errors.AsType[*types.ResourceRegistrationFailureException](err); !ok || !strings.Contains(*e.Message, "The parameter CSR is missing") {
		t.Errorf("%v", err)
	}
	_, err = f.api.RegisterThing(f.ctx, &iot.RegisterThingInput{TemplateBody: aws.String("{}")})
	if _, ok := errors.AsType[*types.InvalidRequestException](err); !ok {
		t.Errorf("%v", err)
	}
}

// TestB247CBOR: the topics of CBOR answer in CBOR.
func TestB247CBOR(t *testing.T) {
	f := newFleet(t)
	name := f.template("t", f.provisioningBody("", ""))
	d := f.connect(f.name("claim"))
	ask := func(topic string, in any, kind string) map[string]any {
		t.Helper()
		f.must(d.subscribe(topic+"/accepted", 1))
		f.must(d.subscribe(topic+"/rejected", 1))
		payload, err := cbor.Marshal(in)
		f.must(err)
		ours := func(m message) bool { return strings.HasPrefix(m.topic, topic+"/") }
		before := d.count(ours)
		f.must(d.publish(topic, string(payload), 1))
		m, err := d.wait(before, ours)
		f.must(err)
		var out map[string]any
		f.must(cbor.Unmarshal([]byte(m.payload), &out))
		if m.topic != topic+"/"+kind {
			t.Fatalf("%s %v", m.topic, out)
		}
		return out
	}
	made := ask("$aws/certificates/create/cbor", map[string]string{}, "accepted")
	topic := "$aws/provisioning-templates/" + name + "/provision/cbor"
	in := map[string]any{"certificateOwnershipToken": made["certificateOwnershipToken"], "parameters": map[string]string{"Serial": "17"}}
	if out := ask(topic, in, "accepted"); out["thingName"] != f.name("17") {
		t.Errorf("%v", out)
	}
	if out := ask(topic, in, "rejected"); out["errorCode"] != "InvalidCertificateOwnershipToken" || out["statusCode"] != uint64(400) {
		t.Errorf("%v", out)
	}
}
