package conformance

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
)

// TestPoliciesOverMQTT: what the policy does not allow is refused, also on a connection that was
// there before the policy changed.
func TestPoliciesOverMQTT(t *testing.T) {
	f := tlsFleet(t)
	for _, version := range []int{4, 5} {
		c := f.newCertificate(true)
		n := itoa(version)
		thing := f.thing("mine" + n)
		f.must(f.attach(thing, c.id, ""))
		// A device's policy, as it stands in docs/security.md.
		own := "$aws/things/${iot:Connection.Thing.ThingName}/jobs/*"
		policy := f.policy("device"+n,
			strings.TrimSuffix(f.say("Allow", "iot:Connect", "client/${iot:Connection.Thing.ThingName}"), "}")+`,"Condition":{"Bool":{"iot:Connection.Thing.IsAttached":"true"}}}`,
			f.say("Allow", "iot:Publish", "topic/"+own), f.say("Allow", "iot:Receive", "topic/"+own), f.say("Allow", "iot:Subscribe", "topicfilter/"+own))
		f.must(f.attachPolicy(policy, f.certARN(c.id)))
		connect := func() *device {
			t.Helper()
			d, err := f.overTLS(f.mqtts, f.config(with(c)), thing, version)
			f.must(err)
			return d
		}
		d := connect()
		d.listen("#")
		d.accepted("get", `{}`)
		for _, filter := range []string{"#", "a/b", "$aws/things/" + f.thing("other"+n) + "/jobs/#", "$aws/events/#"} {
			if err := d.subscribe(filter, 1); err == nil {
				t.Errorf("version %d: subscribed to %s", version, filter)
			}
		}
		// Without the policy the same connection may nothing.
		_, err := f.api.DetachPolicy(f.ctx, &iot.DetachPolicyInput{PolicyName: &policy, Target: aws.String(f.certARN(c.id))})
		f.must(err)
		if err := d.subscribe(d.topic("notify"), 1); err == nil {
			t.Errorf("version %d: subscribed without a policy", version)
		}
		if err := d.publish(d.topic("get"), "{}", 1); err == nil {
			t.Errorf("version %d: published without a policy", version)
		}
		f.must(f.attachPolicy(policy, f.certARN(c.id)))
		if version == 4 { // which can be refused a publish only by the end of the connection
			select {
			case <-d.gone:
			case <-time.After(patience):
				t.Fatal("still connected")
			}
			d = connect()
		}
		d.accepted("get", `{}`)
		if err := d.publish("$aws/things/"+f.name("other"+n)+"/jobs/get", "{}", 1); err == nil {
			t.Errorf("version %d: published to another thing's topic", version)
		}
	}
}
