package conformance

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	mq "drover/internal/mqtttest"
)

// looks checks pages for everybody, and on a phone.
func (b *browser) looks(paths ...string) {
	b.t.Helper()
	for _, path := range paths {
		b.accessible(path)
		b.fits(path)
	}
}

// TestConsolePackages: somebody makes a package and versions, publishes one, makes it the default, and deletes it all again.
func TestConsolePackages(t *testing.T) {
	f := fleetOn(t, ownServer(t))
	b := signedIn(f)
	b.click("More")
	b.click("Software packages")
	b.sees("There are no packages")
	b.fill("name", "a b")
	b.click("Create the package")
	b.sees("a b")
	b.fill("name", "agent", "description", "what talks to us")
	b.click("Create the package")
	b.sees("There are no versions")
	b.fill("version", "1.0", "attributes", "size=7\nbroken")
	b.click("Create the version")
	b.sees(`"broken" is not name=value`)
	b.fill("attributes", "size=7\nsite = north ")
	b.click("Create the version")
	b.sees("${aws:iot:package:agent:version:1.0:attributes:site}")
	b.fill("attributes", "size=8", "bucket", "firmware", "key", "agent-1.0.bin")
	b.click("Change")
	b.sees("s3://firmware/agent-1.0.bin")
	v := f.versionOf("agent", "1.0")
	if len(v.Attributes) != 1 || v.Attributes["size"] != "8" || aws.ToString(v.Artifact.S3Location.Key) != "agent-1.0.bin" {
		t.Errorf("%+v", v)
	}
	b.looks("/console/packages/agent/1.0")
	b.click("Publish")
	b.sees("There is something better")
	b.picture("package-version")
	b.open("/console/packages/agent")
	evaluated[bool](b, `document.querySelector("select").value = "1.0"; true`)
	evaluated[bool](b, `document.querySelector("select").closest("form").id = "it"; true`)
	b.leaving(`document.querySelector("#it button").click()`)
	b.sees("the default")
	b.picture("package")
	b.looks("/console/packages", "/console/packages/agent", "/console/more")
	b.open("/console/packages/agent/1.0")
	b.click("Deprecate")
	b.sees("Publish again")
	b.click("Delete…")
	b.click("Delete")
	b.sees("is the default version of package agent")
	b.open("/console/packages/agent")
	evaluated[bool](b, `document.querySelector("select").value = "none"; document.querySelector("select").closest("form").id = "it"; true`)
	b.leaving(`document.querySelector("#it button").click()`)
	b.click("Delete…")
	b.click("Delete")
	b.sees("has versions")
	b.open("/console/packages/agent/1.0")
	b.click("Delete…")
	b.click("Delete")
	b.sees("There are no versions")
	b.click("Delete…")
	b.click("Delete")
	b.sees("There are no packages")

	// What is installed on a thing stands on its page.
	f.typed("pump", nil)
	_, err := f.updateShadow("pump", `{"state":{"reported":{"agent":{"version":"1.0","attributes":{"size":"8"}}}}}`)
	f.must(err)
	b.open("/console/things/pump")
	b.sees("Installed")
	b.sees("agent")
	b.looks("/console/things/pump")

	// A job brings the default version.
	f.pkg("tool")
	f.published(f.name("tool"), "2.0", versionAttributes(map[string]string{"size": "9"}))
	_, err = f.api.UpdatePackage(f.ctx, &iot.UpdatePackageInput{PackageName: aws.String(f.name("tool")), DefaultVersionName: aws.String("2.0")})
	f.must(err)
	b.open("/console/new-job")
	b.fill("id", "tool-2", "targets", "pump", "document", `{"size":"${aws:iot:package::version::attributes:size}"}`, "packages", f.name("tool")+" $default")
	b.click("Check")
	b.click("Create the job")
	b.sees("The job tool-2 was created")
	out, err := f.api.DescribeJob(f.ctx, &iot.DescribeJobInput{JobId: aws.String("tool-2")})
	f.must(err)
	if got := fmt.Sprint(out.Job.DestinationPackageVersions); got != "["+f.arn("package", f.name("tool")+"/version/2.0")+"]" {
		t.Error(got)
	}
}

// TestConsoleCommands: somebody makes a command, sends it to a device, and sees what the device says.
func TestConsoleCommands(t *testing.T) {
	f := fleetOn(t, ownServer(t))
	b := signedIn(f)
	f.typed("lamp", nil)
	device := f.client(5, "lamp")
	root := "$aws/commands/things/lamp/executions/"
	device.Granted(1, root+"+/request/json")
	b.open("/console/commands")
	b.fill("id", "blink", "name", "Blink", "payload", `{"times":3}`)
	b.click("Create the command")
	b.sees(`"times": 3`)
	b.sees("It has not been sent")
	b.fill("thing", "nobody", "timeout", "30")
	b.click("Send")
	b.sees("nobody")
	b.fill("thing", "lamp", "timeout", "30")
	b.click("Send")
	b.sees("created")
	m, _ := device.Message()
	if m.Payload != `{"times":3}` {
		t.Errorf("%+v", m)
	}
	id := strings.Split(m.Topic, "/")[5]
	device.Publish(mq.Publish{QoS: 1, Topic: root + id + "/response/json", Payload: `{"status":"SUCCEEDED","result":{"light":{"s":"on"}}}`})
	f.eventually("the command has succeeded", func() bool {
		return f.commandExecution(id, f.thingARN("lamp")).Status == types.CommandExecutionStatusSucceeded
	})
	b.click("Look again")
	b.sees("succeeded")
	b.sees(`"light"`)
	b.picture("command-execution")
	b.click("The command")
	b.sees("lamp")
	b.looks("/console/commands", "/console/commands/blink")
	b.click("Delete…")
	b.click("Delete")
	b.sees("There are no commands")
}

// TestConsoleUsersPage: an administrator keeps the users.
func TestConsoleUsersPage(t *testing.T) {
	f := fleetOn(t, ownServer(t))
	b := signedIn(f)
	b.open("/console/users")
	b.sees("There are no users")
	b.fill("name", "olga", "password", "short", "role", "operator")
	b.click("Create the user")
	b.sees("12")
	b.fill("name", "olga", "password", "correct horse battery", "role", "operator")
	b.click("Create the user")
	b.sees("User olga")
	b.looks("/console/users", "/console/users/olga")
	b.fill("role", "viewer")
	b.click("Change the role")
	b.sees("The role was changed")
	b.fill("password", "another horse battery")
	b.click("Set the password")
	b.sees("The password was set")
	b.picture("user")

	other := newBrowser(f)
	other.open("/console/users")
	other.fill("name", "olga", "password", "another horse battery")
	other.click("Sign in")
	other.sees("You may not do this")
	other.open("/console/more")
	if strings.Contains(evaluated[string](other, "document.body.innerText"), "people who sign in here with a password") {
		t.Error("a viewer is shown the users")
	}
	b.click("Remove…")
	b.click("Remove")
	b.sees("There are no users")
	other.open("/console/jobs")
	other.sees("Sign in with an API key")
}

// TestConsoleBillingGroupsStreamsUpdates: what is seldom looked at can be.
func TestConsoleBillingGroupsStreamsUpdates(t *testing.T) {
	oneServer(t, "the object store in the box")
	f := fleetOn(t, ownServer(t))
	d := &depot{fleet: f, s3: s3Store{url: f.http, key: f.key, secret: f.secret, region: f.region}.client(), store: f.http, bucket: f.name("bucket")}
	d.makeBucket()
	d.put("fw.bin", "firmware")
	b := signedIn(f)
	f.typed("pump", nil)
	b.open("/console/billing-groups")
	b.fill("name", "payer", "description", "who pays")
	b.click("Create the group")
	b.sees("It has none")
	b.fill("thing", "nothing")
	b.click("Add")
	b.sees("nothing cannot be found")
	b.fill("thing", "pump")
	b.click("Add")
	b.sees("Take a thing out")
	b.looks("/console/billing-groups", "/console/billing-groups/payer")
	b.click("Delete…")
	b.click("Delete")
	b.sees("There are no billing groups")

	stream := d.stream("s", "fw.bin")
	update := d.update("u", "pump", []types.OTAUpdateFile{d.otaFile("fw.bin", []byte("signature"))})
	d.created(update)
	b.open("/console/streams/" + stream)
	b.sees("fw.bin")
	b.looks("/console/streams", "/console/streams/"+stream, "/console/updates", "/console/updates/"+update)
	b.open("/console/updates/" + update)
	b.sees("create complete")
	b.sees("AFR_OTA-" + update)
	b.picture("update")
	b.click("Delete…")
	b.click("Delete")
	f.eventually("the update is gone", func() bool {
		_, err := f.api.GetOTAUpdate(f.ctx, &iot.GetOTAUpdateInput{OtaUpdateId: &update})
		return failure(err) == notFound
	})
	b.open("/console/streams/" + stream)
	b.click("Delete…")
	b.click("Delete")
	b.sees("Streams")
	b.open("/console/streams/" + stream)
	b.sees("Not found")
}
