package conformance

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// Policies. What they decide is asked of TestAuthorization, which asks the same evaluator as the
// doors of the devices.

// say is a statement of a policy; resources stand behind the account of an ARN.
func (f *fleet) say(effect, action string, resources ...string) string {
	for i, r := range resources {
		resources[i] = fmt.Sprintf("%q", f.arn(r[:strings.Index(r, "/")], r[strings.Index(r, "/")+1:]))
	}
	return fmt.Sprintf(`{"Effect":%q,"Action":%q,"Resource":[%s]}`, effect, action, strings.Join(resources, ","))
}

func policyDocument(statements ...string) string {
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
}

// policy creates a policy and returns its full name.
func (f *fleet) policy(n string, statements ...string) string {
	f.t.Helper()
	_, err := f.api.CreatePolicy(f.ctx, &iot.CreatePolicyInput{PolicyName: aws.String(f.name(n)), PolicyDocument: aws.String(policyDocument(statements...))})
	f.must(err)
	return f.name(n)
}

func (f *fleet) attachPolicy(policy, target string) error {
	_, err := f.api.AttachPolicy(f.ctx, &iot.AttachPolicyInput{PolicyName: &policy, Target: &target})
	return err
}

func (f *fleet) version(policy string, asDefault bool, statements ...string) (*iot.CreatePolicyVersionOutput, error) {
	return f.api.CreatePolicyVersion(f.ctx, &iot.CreatePolicyVersionInput{
		PolicyName: &policy, PolicyDocument: aws.String(policyDocument(statements...)), SetAsDefault: asDefault,
	})
}

// decides checks what becomes of a request of the holder of a certificate with a policy of its own.
func (f *fleet) decides(name string, statements []string, kind types.ActionType, resource, clientID string, want types.AuthDecision) {
	f.t.Helper()
	policy := f.policy(name, statements...)
	f.decidesFor("", clientID, kind, resource, want, policy)
}

// decidesFor checks what becomes of a request of a principal, with policies besides its own.
func (f *fleet) decidesFor(principal, clientID string, kind types.ActionType, resource string, want types.AuthDecision, more ...string) {
	f.t.Helper()
	in := &iot.TestAuthorizationInput{PolicyNamesToAdd: more}
	if principal != "" {
		in.Principal = &principal
	}
	if clientID != "" {
		in.ClientId = &clientID
	}
	area, rest, _ := strings.Cut(resource, "/")
	in.AuthInfos = []types.AuthInfo{{ActionType: kind, Resources: []string{f.arn(area, rest)}}}
	out, err := f.api.TestAuthorization(f.ctx, in)
	f.must(err)
	if got := out.AuthResults[0].AuthDecision; got != want {
		f.t.Errorf("%s %s: %s, want %s (missing %q)", kind, resource, got, want, out.AuthResults[0].MissingContextValues)
	}
}

const (
	allowed = types.AuthDecisionAllowed
	denied  = types.AuthDecisionExplicitDeny
	nothing = types.AuthDecisionImplicitDeny
)

func TestB179B182PolicyVersions(t *testing.T) {
	f := newFleet(t)
	text := "{ \"Version\": \"2012-10-17\",\n\"Statement\": {\"Effect\": \"Allow\", \"Action\": \"iot:*\", \"Resource\": \"*\"} }"
	name := f.name("p")
	out, err := f.api.CreatePolicy(f.ctx, &iot.CreatePolicyInput{PolicyName: &name, PolicyDocument: &text, Tags: []types.Tag{{Key: aws.String("k"), Value: aws.String("v")}}})
	f.must(err)
	if *out.PolicyVersionId != "1" || *out.PolicyArn != f.arn("policy", name) || *out.PolicyDocument != text {
		t.Errorf("created %+v", out)
	}
	tags, err := f.api.ListTagsForResource(f.ctx, &iot.ListTagsForResourceInput{ResourceArn: out.PolicyArn})
	f.must(err)
	if len(tags.Tags) != 1 || *tags.Tags[0].Value != "v" {
		t.Errorf("tags %+v", tags.Tags)
	}
	_, err = f.api.CreatePolicy(f.ctx, &iot.CreatePolicyInput{PolicyName: &name, PolicyDocument: &text})
	f.refused(err, "ResourceAlreadyExistsException", 409)

	second, err := f.version(name, false, f.say("Allow", "iot:Publish", "topic/a"))
	f.must(err)
	if *second.PolicyVersionId != "2" || second.IsDefaultVersion {
		t.Errorf("second version %+v", second)
	}
	p, err := f.api.GetPolicy(f.ctx, &iot.GetPolicyInput{PolicyName: &name})
	f.must(err)
	if *p.DefaultVersionId != "1" || *p.PolicyDocument != text || *p.GenerationId == "" || p.CreationDate.IsZero() {
		t.Errorf("policy %+v", p)
	}
	third, err := f.version(name, true, f.say("Allow", "iot:Publish", "topic/b"))
	f.must(err)
	if *third.PolicyVersionId != "3" || !third.IsDefaultVersion {
		t.Errorf("third version %+v", third)
	}
	list, err := f.api.ListPolicyVersions(f.ctx, &iot.ListPolicyVersionsInput{PolicyName: &name})
	f.must(err)
	var versions []string
	for _, v := range list.PolicyVersions {
		versions = append(versions, fmt.Sprint(*v.VersionId, " ", v.IsDefaultVersion))
	}
	if !slices.Equal(versions, []string{"1 false", "2 false", "3 true"}) {
		t.Errorf("versions %q", versions)
	}
	_, err = f.api.SetDefaultPolicyVersion(f.ctx, &iot.SetDefaultPolicyVersionInput{PolicyName: &name, PolicyVersionId: aws.String("2")})
	f.must(err)
	v, err := f.api.GetPolicyVersion(f.ctx, &iot.GetPolicyVersionInput{PolicyName: &name, PolicyVersionId: aws.String("2")})
	f.must(err)
	if !v.IsDefaultVersion || *v.PolicyDocument != *second.PolicyDocument || *v.GenerationId != *p.GenerationId {
		t.Errorf("version 2 %+v", v)
	}
	for _, version := range []string{"0", "4", strings.Repeat("9", 40)} {
		_, err = f.api.GetPolicyVersion(f.ctx, &iot.GetPolicyVersionInput{PolicyName: &name, PolicyVersionId: &version})
		f.refused(err, "ResourceNotFoundException", 404)
	}
}

func TestB180DocumentSize(t *testing.T) {
	f := newFleet(t)
	create := func(n string, size int, space string) error {
		text := strings.Replace(policyDocument(`{"Effect":"Allow","Action":"iot:Publish","Resource":"arn:#"}`), "#", "#"+space, 1)
		black := len(text) - len(space)
		text = strings.Replace(text, "#", strings.Repeat("x", size-black+1), 1)
		_, err := f.api.CreatePolicy(f.ctx, &iot.CreatePolicyInput{PolicyName: aws.String(f.name(n)), PolicyDocument: &text})
		return err
	}
	f.must(create("full", 2048, ""))
	f.must(create("airy", 2048, strings.Repeat(" ", 3000)))
	f.refused(create("over", 2049, ""), "MalformedPolicyException", 400)
}

func TestB181SixthVersion(t *testing.T) {
	f := newFleet(t)
	name := f.policy("p", f.say("Allow", "iot:Publish", "topic/a"))
	for range 4 {
		_, err := f.version(name, false, f.say("Allow", "iot:Publish", "topic/a"))
		f.must(err)
	}
	_, err := f.version(name, false, f.say("Allow", "iot:Publish", "topic/a"))
	f.refused(err, "VersionsLimitExceededException", 409)
	_, err = f.api.DeletePolicyVersion(f.ctx, &iot.DeletePolicyVersionInput{PolicyName: &name, PolicyVersionId: aws.String("5")})
	f.must(err)
	next, err := f.version(name, false, f.say("Allow", "iot:Publish", "topic/a"))
	f.must(err)
	if *next.PolicyVersionId != "6" {
		t.Errorf("the number %s was used again", *next.PolicyVersionId)
	}
}

func TestB183PolicyInUse(t *testing.T) {
	f := newFleet(t)
	name := f.policy("p", f.say("Allow", "iot:Publish", "topic/a"))
	remove := func() error {
		_, err := f.api.DeletePolicy(f.ctx, &iot.DeletePolicyInput{PolicyName: &name})
		return err
	}
	_, err := f.api.DeletePolicyVersion(f.ctx, &iot.DeletePolicyVersionInput{PolicyName: &name, PolicyVersionId: aws.String("1")})
	f.refused(err, "DeleteConflictException", 409)
	_, err = f.version(name, false, f.say("Allow", "iot:Publish", "topic/a"))
	f.must(err)
	f.refused(remove(), "DeleteConflictException", 409)
	_, err = f.api.DeletePolicyVersion(f.ctx, &iot.DeletePolicyVersionInput{PolicyName: &name, PolicyVersionId: aws.String("2")})
	f.must(err)
	target := f.groupARN(f.group("g", ""))
	f.must(f.attachPolicy(name, target))
	f.refused(remove(), "DeleteConflictException", 409)
	for range 2 {
		_, err = f.api.DetachPolicy(f.ctx, &iot.DetachPolicyInput{PolicyName: &name, Target: &target})
		f.must(err)
	}
	f.must(remove())
	f.refused(remove(), "ResourceNotFoundException", 404)
}

func TestB184PoliciesPerTarget(t *testing.T) {
	f := newFleet(t)
	c := f.newCertificate(true)
	group := f.groupARN(f.group("g", ""))
	for i := range 11 {
		name := f.policy(fmt.Sprint(i), f.say("Allow", "iot:Publish", "topic/a"))
		for target, limit := range map[string]int{f.certARN(c.id): 10, group: 2} {
			err := f.attachPolicy(name, target)
			if i >= limit {
				f.refused(err, "LimitExceededException", 410)
				continue
			}
			f.must(err)
			f.must(f.attachPolicy(name, target)) // again
		}
	}
	// The lists, in pages.
	var names []string
	in := &iot.ListAttachedPoliciesInput{Target: aws.String(f.certARN(c.id)), PageSize: aws.Int32(4)}
	for {
		out, err := f.api.ListAttachedPolicies(f.ctx, in)
		f.must(err)
		for _, p := range out.Policies {
			names = append(names, *p.PolicyName)
		}
		if in.Marker = out.NextMarker; in.Marker == nil {
			break
		}
	}
	if len(names) != 10 || !slices.IsSorted(names) {
		t.Errorf("attached are %q", names)
	}
	targets, err := f.api.ListTargetsForPolicy(f.ctx, &iot.ListTargetsForPolicyInput{PolicyName: aws.String(f.name("0"))})
	f.must(err)
	if !slices.Equal(targets.Targets, []string{f.certARN(c.id), group}) {
		t.Errorf("targets are %q", targets.Targets)
	}
	// By the names of yesterday.
	//lint:ignore SA1019 deprecated, and served
	old, err := f.api.ListPrincipalPolicies(f.ctx, &iot.ListPrincipalPoliciesInput{Principal: aws.String(f.certARN(c.id))})
	f.must(err)
	//lint:ignore SA1019 deprecated, and served
	principals, err := f.api.ListPolicyPrincipals(f.ctx, &iot.ListPolicyPrincipalsInput{PolicyName: aws.String(f.name("9"))})
	f.must(err)
	if len(old.Policies) != 10 || !slices.Equal(principals.Principals, []string{f.certARN(c.id)}) {
		t.Errorf("%d policies, principals %q", len(old.Policies), principals.Principals)
	}
	// What nothing can be attached to.
	f.refused(f.attachPolicy(f.name("0"), f.thingARN(f.thing("t"))), "InvalidRequestException", 400)
	f.refused(f.attachPolicy(f.name("0"), "us-east-1:7d5e0b52-0000-4000-8000-000000000000"), "InvalidRequestException", 400)
	f.refused(f.attachPolicy(f.name("0"), f.groupARN("no-such-group")), "ResourceNotFoundException", 404)
	f.refused(f.attachPolicy("no-such-policy", group), "ResourceNotFoundException", 404)
	// A certificate with policies goes with force only.
	f.must(f.setStatus(c.id, types.CertificateStatusInactive))
	f.refused(f.deleteCertificate(c.id, false), "DeleteConflictException", 409)
	f.must(f.deleteCertificate(c.id, true))
}

func TestB185B186Evaluation(t *testing.T) {
	f := newFleet(t)
	allow := f.policy("allow", f.say("Allow", "iot:Publish", "topic/*"))
	deny := f.policy("deny", f.say("Deny", "iot:Publish", "topic/secret"))
	f.decidesFor("", "", types.ActionTypePublish, "topic/secret", denied, allow, deny)
	f.decidesFor("", "", types.ActionTypePublish, "topic/open", allowed, allow, deny)
	f.decidesFor("", "", types.ActionTypeReceive, "topic/open", nothing, allow, deny)
	f.decidesFor("", "", types.ActionTypePublish, "topic/open", nothing)
}

func TestB187ToB192Wildcards(t *testing.T) {
	f := newFleet(t)
	for i, c := range []struct {
		statement string
		kind      types.ActionType
		resource  string
		want      types.AuthDecision
	}{
		{f.say("Allow", "iot:Subscribe", "topicfilter/some/+/topic"), types.ActionTypeSubscribe, "topicfilter/some/+/topic", allowed},
		{f.say("Allow", "iot:Subscribe", "topicfilter/some/+/topic"), types.ActionTypeSubscribe, "topicfilter/some/a/topic", nothing},
		{f.say("Allow", "iot:Subscribe", "topicfilter/some/*/topic"), types.ActionTypeSubscribe, "topicfilter/some/a/b/topic", allowed},
		{f.say("Allow", "iot:Publish", "topic/a?c"), types.ActionTypePublish, "topic/abc", allowed},
		{f.say("Allow", "iot:Publish", "topic/a?c"), types.ActionTypePublish, "topic/abbc", nothing},
		{f.say("Allow", "iot:Publish", "topic/a/#"), types.ActionTypePublish, "topic/a/b", nothing},
		{f.say("Allow", "iot:Subscribe", "topicfilter/*") + "," + f.say("Deny", "iot:Subscribe", "topicfilter/a/restricted/*"),
			types.ActionTypeSubscribe, "topicfilter/a/#", allowed},
		{strings.Replace(f.say("Allow", "iot:Receive", "topic/a/restricted/*"), "Resource", "NotResource", 1), types.ActionTypeReceive, "topic/a/restricted/x", nothing},
		{strings.Replace(f.say("Allow", "iot:Receive", "topic/a/restricted/*"), "Resource", "NotResource", 1), types.ActionTypeReceive, "topic/a/x", allowed},
	} {
		f.decides(fmt.Sprint(i), []string{c.statement}, c.kind, c.resource, "", c.want)
	}
}

func TestB193ToB199Variables(t *testing.T) {
	f := newFleet(t)
	c := newAuthority(t, "ca")
	identity := c.sign("first")
	f.mustCA(c)
	_, err := f.api.RegisterCertificate(f.ctx, &iot.RegisterCertificateInput{CertificatePem: &identity.pem, Status: types.CertificateStatusActive})
	f.must(err)
	principal := f.certARN(identity.id)
	lamp, door := f.thing("lamp"), f.thing("door")
	own := f.policy("own", f.say("Allow", "iot:Publish", "topic/${iot:Connection.Thing.ThingName}/x"))
	client := f.policy("client", f.say("Allow", "iot:Publish", "topic/${iot:ClientId}/x"))
	attribute := f.policy("attribute", f.say("Allow", "iot:Publish", "topic/${iot:Connection.Thing.Attributes[room]}/x"))
	name := f.policy("name", f.say("Allow", "iot:Publish", "topic/${iot:Certificate.Subject.CommonName}/x"))
	attached := f.policy("attached", strings.TrimSuffix(f.say("Allow", "iot:Connect", "client/*"), "}")+`,"Condition":{"Bool":{"iot:Connection.Thing.IsAttached":"true"}}}`)
	publish := func(clientID, topic string, want types.AuthDecision, policy string) {
		t.Helper()
		f.decidesFor(principal, clientID, types.ActionTypePublish, "topic/"+topic, want, policy)
	}
	publish("c1", "c1/x", allowed, client)
	publish("c1", "c2/x", nothing, client)
	publish("", "c1/x", nothing, client)
	publish(lamp, lamp+"/x", nothing, own) // not attached
	f.decidesFor(principal, lamp, types.ActionTypeConnect, "client/"+lamp, nothing, attached)
	f.must(f.attach(lamp, identity.id, ""))
	publish(lamp, lamp+"/x", allowed, own)
	f.decidesFor(principal, lamp, types.ActionTypeConnect, "client/"+lamp, allowed, attached)
	publish("other", lamp+"/x", nothing, own)
	publish(lamp, "hall/x", nothing, attribute)
	_, err = f.api.UpdateThing(f.ctx, &iot.UpdateThingInput{ThingName: &lamp, AttributePayload: &types.AttributePayload{Attributes: map[string]string{"room": "hall"}}})
	f.must(err)
	publish(lamp, "hall/x", allowed, attribute)
	publish(lamp, "first/x", allowed, name)

	f.must(f.detach(lamp, identity.id))
	f.must(f.attach(door, identity.id, types.ThingPrincipalTypeExclusiveThing))
	publish("whatever", door+"/x", allowed, own)

	star := c.sign("a*b")
	_, err = f.api.RegisterCertificate(f.ctx, &iot.RegisterCertificateInput{CertificatePem: &star.pem, Status: types.CertificateStatusActive})
	f.must(err)
	for _, topic := range []string{"topic/a*b/x", "topic/axb/x"} {
		f.decidesFor(f.certARN(star.id), "c", types.ActionTypePublish, topic, nothing, name)
	}
}

func TestB204B205B208GroupPolicies(t *testing.T) {
	f := newFleet(t)
	c := f.newCertificate(true)
	lamp := f.thing("lamp")
	f.must(f.attach(lamp, c.id, ""))
	house := f.group("house", "")
	floor := f.group("floor", house, lamp)
	onFloor := f.policy("floor", f.say("Allow", "iot:Publish", "topic/floor"))
	inHouse := f.policy("house", f.say("Allow", "iot:Publish", "topic/house"))
	f.must(f.attachPolicy(onFloor, f.groupARN(floor)))
	f.must(f.attachPolicy(inHouse, f.groupARN(house)))
	publish := func(want types.AuthDecision) {
		t.Helper()
		for _, topic := range []string{"topic/floor", "topic/house"} {
			f.decidesFor(f.certARN(c.id), lamp, types.ActionTypePublish, topic, want)
		}
	}
	publish(allowed)
	out, err := f.api.GetEffectivePolicies(f.ctx, &iot.GetEffectivePoliciesInput{ThingName: &lamp})
	f.must(err)
	if len(out.EffectivePolicies) != 2 || *out.EffectivePolicies[0].PolicyName != onFloor || *out.EffectivePolicies[1].PolicyName != inHouse ||
		*out.EffectivePolicies[0].PolicyDocument != policyDocument(f.say("Allow", "iot:Publish", "topic/floor")) {
		t.Errorf("effective are %+v", out.EffectivePolicies)
	}
	list, err := f.api.ListAttachedPolicies(f.ctx, &iot.ListAttachedPoliciesInput{Target: aws.String(f.groupARN(floor)), Recursive: true})
	f.must(err)
	if len(list.Policies) != 2 {
		t.Errorf("attached are %+v", list.Policies)
	}
	f.leave(floor, lamp)
	publish(nothing)
	_, err = f.api.GetEffectivePolicies(f.ctx, &iot.GetEffectivePoliciesInput{})
	f.refused(err, "InvalidRequestException", 400)
}

func TestB206B207TestAuthorization(t *testing.T) {
	f := newFleet(t)
	c := f.newCertificate(true)
	allow := f.policy("allow", f.say("Allow", "iot:Publish", "topic/*"))
	deny := f.policy("deny", f.say("Deny", "iot:Publish", "topic/secret"))
	f.must(f.attachPolicy(allow, f.certARN(c.id)))
	in := &iot.TestAuthorizationInput{
		Principal: aws.String(f.certARN(c.id)), PolicyNamesToAdd: []string{deny},
		AuthInfos: []types.AuthInfo{
			{ActionType: types.ActionTypePublish, Resources: []string{f.arn("topic", "a")}},
			{ActionType: types.ActionTypePublish, Resources: []string{f.arn("topic", "secret")}},
			{ActionType: types.ActionTypeSubscribe, Resources: []string{f.arn("topicfilter", "a")}},
		},
	}
	names := func(list []types.Policy) (names []string) {
		for _, p := range list {
			names = append(names, *p.PolicyName)
		}
		return names
	}
	test := func(want ...string) {
		t.Helper()
		out, err := f.api.TestAuthorization(f.ctx, in)
		f.must(err)
		for i, r := range out.AuthResults {
			got := fmt.Sprint(r.AuthDecision, " ", names(r.Allowed.Policies), names(r.Denied.ExplicitDeny.Policies), names(r.Denied.ImplicitDeny.Policies))
			if got != want[i] || r.AuthInfo.ActionType != in.AuthInfos[i].ActionType || r.AuthInfo.Resources[0] != in.AuthInfos[i].Resources[0] {
				t.Errorf("request %d: %s for %+v, want %s", i, got, r.AuthInfo, want[i])
			}
		}
	}
	test(fmt.Sprintf("ALLOWED [%s] [] [%s]", allow, deny), fmt.Sprintf("EXPLICIT_DENY [%s] [%s] []", allow, deny),
		fmt.Sprintf("IMPLICIT_DENY [] [] [%s %s]", allow, deny))
	in.PolicyNamesToAdd, in.PolicyNamesToSkip = nil, []string{allow}
	test("IMPLICIT_DENY [] [] []", "IMPLICIT_DENY [] [] []", "IMPLICIT_DENY [] [] []")
	in.PolicyNamesToSkip = []string{"no-such-policy"}
	_, err := f.api.TestAuthorization(f.ctx, in)
	f.refused(err, "ResourceNotFoundException", 404)
}

func TestB209JobsOverHTTPS(t *testing.T) {
	f := tlsFleet(t)
	mine, other := f.thing("mine"), f.thing("other")
	c := f.newCertificate(true)
	client := f.httpClient(f.config(with(c)))
	check := func(what, thing string, want int) {
		t.Helper()
		if status, err := f.pending(client, f.deviceHTTPS, thing); err != nil || status != want {
			t.Errorf("%s: %d, %v, want %d", what, status, err, want)
		}
	}
	check("without a policy", mine, 403)
	for name, statements := range map[string][]string{
		"today":      {f.say("Allow", "iotjobsdata:GetPendingJobExecutions", "thing/"+mine)},
		"yesterday":  {f.say("Allow", "iot:GetPendingJobExecutions", "thing/"+mine)},
		"irrelevant": {f.say("Allow", "iot:*", "topic/*"), f.say("Allow", "iotjobsdata:UpdateJobExecution", "thing/*")},
		"denied":     {f.say("Allow", "*", "thing/*"), f.say("Deny", "iot:GetPendingJobExecutions", "thing/"+mine)},
	} {
		policy := f.policy(name, statements...)
		target := f.certARN(c.id)
		f.must(f.attachPolicy(policy, target))
		want := 403
		if name == "today" || name == "yesterday" {
			want = 200
			check("another thing, by "+name, other, 403)
		}
		check(name, mine, want)
		_, err := f.api.DetachPolicy(f.ctx, &iot.DetachPolicyInput{PolicyName: &policy, Target: &target})
		f.must(err)
		check("detached "+name, mine, 403)
	}
}

func TestB210MalformedPolicy(t *testing.T) {
	f := newFleet(t)
	for _, text := range []string{
		"x", "{}", `{"Statement":[]}`, `{"Version":"2012-10-17","Version":"2012-10-17","Statement":[` + f.say("Allow", "iot:Publish", "topic/a") + `]}`,
		policyDocument(`{"Effect":"Allow","Action":"iot:Publish","Resource":"*","Principal":"*"}`), policyDocument(`{"Effect":"Perhaps","Action":"iot:Publish","Resource":"*"}`),
	} {
		_, err := f.api.CreatePolicy(f.ctx, &iot.CreatePolicyInput{PolicyName: aws.String(f.name("p")), PolicyDocument: &text})
		f.refused(err, "MalformedPolicyException", 400)
	}
	name := f.policy("q", f.say("Allow", "iot:Publish", "topic/a"))
	_, err := f.api.CreatePolicyVersion(f.ctx, &iot.CreatePolicyVersionInput{PolicyName: &name, PolicyDocument: aws.String("[]")})
	f.refused(err, "MalformedPolicyException", 400)
}
