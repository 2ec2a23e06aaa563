package conformance

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

func TestS154B268Throttling(t *testing.T) {
	f := fleetOn(t, ownServer(t, "--limit-requests", "3", "--limit-device-reads", "3", "--limit-device-writes", "1000"))
	a := f.thing("a")
	id := f.name("job")
	_, err := f.api.CreateJob(f.ctx, &iot.CreateJobInput{JobId: &id, Targets: []string{f.thingARN(a)}, Document: aws.String(document)})
	f.must(err)
	d := f.connect(a)

	// Each plane takes three at once and one more every third of a second: of many that
	// come together some are refused, in the words of the plane.
	const many = 30
	var control, https, mqtt int
	for range many {
		if _, err := f.api.GetJobDocument(f.ctx, &iot.GetJobDocumentInput{JobId: &id}); err != nil {
			f.refused(err, "ThrottlingException", 400)
			control++
		}
		if code, header, _ := f.call("iot-jobs-data", "GET", "/things/"+a+"/jobs", ""); code != 200 {
			if code != 429 || header.Get("x-amzn-ErrorType") != "ThrottlingException" {
				t.Fatalf("%d %s", code, header.Get("x-amzn-ErrorType"))
			}
			https++
		}
		if result, answer := d.request("get", `{}`); result == "rejected" {
			if answer["code"] != "RequestThrottled" {
				t.Fatalf("%v", answer)
			}
			mqtt++
		}
	}
	if control == 0 || https == 0 || mqtt == 0 || control == many {
		t.Errorf("of %d requests each, %d, %d and %d were throttled", many, control, https, mqtt)
	}
	// Writes of devices have a limit of their own, and registry operations none.
	d.accepted("start-next", `{}`)
	f.thing("b")
}

func TestQuotas(t *testing.T) {
	f := fleetOn(t, ownServer(t, "--limit-active-jobs", "2"))
	a := f.thing("a")
	f.job("one", []string{f.thingARN(a)})
	second := f.job("two", []string{f.thingARN(a)})
	create := func() error {
		_, err := f.api.CreateJob(f.ctx, &iot.CreateJobInput{JobId: aws.String(f.name("three")), Targets: []string{f.thingARN(a)}, Document: aws.String(document)})
		return err
	}
	f.refused(create(), "LimitExceededException", 410)
	f.cancel(second)
	f.must(create())
}

// Without a rate of its own a job goes out at the standard rate, if there is one.
func TestS062StandardRate(t *testing.T) {
	f := fleetOn(t, ownServer(t, "--test", "--limit-rollout-rate", "1000"))
	group := f.bulk("g", 2500)
	id := f.name("job")
	_, err := f.api.CreateJob(f.ctx, &iot.CreateJobInput{JobId: &id, Targets: []string{f.groupARN(group)}, Document: aws.String(document)})
	f.must(err)
	f.eventually("the first thousand has it", func() bool { return counters(f.describe(id))[0] == 1000 })
	f.clock(`{"advance":"30s"}`)
	if c := counters(f.describe(id)); c[0] != 1000 {
		t.Errorf("within the minute: %v", c)
	}
	f.clock(`{"advance":"30s"}`)
	if c := counters(f.describe(id)); c[0] != 2000 {
		t.Errorf("after a minute: %v", c)
	}
}

// At the limit of concurrent jobs none can be created, and one that would start is canceled.
func TestConcurrentJobs(t *testing.T) {
	f := fleetOn(t, ownServer(t, "--test", "--limit-concurrent-jobs", "1"))
	group, a := f.bulk("g", 60), f.thing("a")
	slow := f.name("slow")
	_, err := f.api.CreateJob(f.ctx, &iot.CreateJobInput{JobId: &slow, Targets: []string{f.groupARN(group)}, Document: aws.String(document),
		JobExecutionsRolloutConfig: &types.JobExecutionsRolloutConfig{MaximumPerMinute: aws.Int32(1)}})
	f.must(err)
	scheduled := f.job("scheduled", []string{f.thingARN(a)}, scheduling(types.SchedulingConfig{StartTime: aws.String(fromNow("32m"))}))
	create := func() error {
		_, err := f.api.CreateJob(f.ctx, &iot.CreateJobInput{JobId: aws.String(f.name("other")), Targets: []string{f.thingARN(a)}, Document: aws.String(document)})
		return err
	}
	f.refused(create(), "LimitExceededException", 410)
	f.clock(`{"advance":"33m"}`)
	f.jobStatus(scheduled, types.JobStatusCanceled)
	f.wantExecutions(scheduled)
	f.clock(`{"advance":"1h"}`)
	f.must(create())
}
