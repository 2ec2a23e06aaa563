package conformance

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	mq "drover/internal/mqtttest"

	"drover/internal/envtest"
)

// Test mode: a clock under control. docs/testing-devices.md shows these tests.

// clock asks for the server's time, or moves it.
func (f *fleet) clock(body string) time.Time {
	f.t.Helper()
	method := "POST"
	if body == "" {
		method = "GET"
	}
	code, _, answer := f.call("iot", method, "/_drover/clock", body)
	now, err := time.Parse(time.RFC3339Nano, answer["now"].(string))
	if code != 200 || err != nil {
		f.t.Fatalf("clock: %d %v", code, answer)
	}
	return now
}

func TestModeMovesTheClock(t *testing.T) {
	f := fleetOn(t, ownServer(t, "--test"))
	before := f.clock("")
	if after := f.clock(`{"advance":"72h"}`); after.Sub(before) < 72*time.Hour || after.Sub(before) > 73*time.Hour {
		t.Errorf("from %s to %s", before, after)
	}
	christmas := time.Date(before.Year()+1, 12, 24, 23, 0, 0, 0, time.UTC)
	if now := f.clock(`{"set":"` + christmas.Format(time.RFC3339) + `"}`); now.Before(christmas) || now.After(christmas.Add(time.Minute)) {
		t.Errorf("set to %s", now)
	}
	for _, bad := range []string{`{"advance":"soon"}`, `{"set":"2001-01-01T00:00:00Z"}`, `{}`, `{"advance":"1h","set":"2099-01-01T00:00:00Z"}`, `{"advance":"999999h"}`, `x`} {
		if code, _, answer := f.call("iot", "POST", "/_drover/clock", bad); code != 400 {
			t.Errorf("%s: %d %v", bad, code, answer)
		}
	}
}

// A firmware that survives a maintenance window: it starts in the window, goes on outside
// of it, and reports its end, in well under a second.
func TestFirmwareSurvivesMaintenanceWindow(t *testing.T) {
	f := fleetOn(t, ownServer(t, "--test"))
	pump := f.thing("pump")
	group := f.group("pumps", "", pump)
	id := f.name("update")
	_, err := f.api.CreateJob(f.ctx, &iot.CreateJobInput{JobId: &id, Targets: []string{f.groupARN(group)}, Document: aws.String(document),
		TargetSelection: types.TargetSelectionContinuous,
		SchedulingConfig: &types.SchedulingConfig{MaintenanceWindows: []types.MaintenanceWindow{{
			StartTime: aws.String("cron(0 2 * * ? *)"), DurationInMinutes: aws.Int32(60)}}}})
	f.must(err)
	device := f.connect(pump)
	device.listen("notify-next")
	nextWindow := func(hour int) {
		now := f.clock("")
		at := time.Date(now.Year(), now.Month(), now.Day(), hour, 0, 1, 0, time.UTC)
		if !at.After(now) {
			at = at.AddDate(0, 0, 1)
		}
		f.clock(`{"set":"` + at.Format(time.RFC3339) + `"}`)
	}

	nextWindow(2)
	if m := device.await(0, "notify-next"); path(m.json, "execution", "jobId") != id {
		t.Fatalf("the window opens: %s", m.payload)
	}
	device.accepted("start-next", `{}`)
	f.clock(`{"advance":"2h"}`) // the window closes while the firmware works
	if answer := device.accepted("$next/get", `{}`); answer["execution"] != nil {
		t.Errorf("outside of the window the device sees %v", answer)
	}
	device.accepted(id+"/update", `{"status":"SUCCEEDED"}`)
	f.executionStatus(pump, id, types.JobExecutionStatusSucceeded)
}

func TestModeTimers(t *testing.T) {
	f := fleetOn(t, ownServer(t, "--test"))
	a := f.thing("a")
	id := f.job("job", []string{f.thingARN(a)}, func(in *iot.CreateJobInput) {
		in.TimeoutConfig = &types.TimeoutConfig{InProgressTimeoutInMinutes: aws.Int64(30)}
	}, retries(types.RetryCriteria{FailureType: "TIMED_OUT", NumberOfRetries: aws.Int32(1)}))
	f.startNext(a)
	f.clock(`{"advance":"31m"}`)
	f.executionStatus(a, id, types.JobExecutionStatusQueued) // the retry
	if e := f.execution(a, id, 1); e.Status != types.JobExecutionStatusTimedOut {
		t.Errorf("the first execution is %s", e.Status)
	}
}

func TestModeReset(t *testing.T) {
	f := fleetOn(t, ownServer(t, "--test"))
	a := f.thing("a")
	f.job("job", []string{f.thingARN(a)})
	f.clock(`{"advance":"72h"}`)
	device := f.connect(a)
	device.listen("notify")
	f.client(5, "session", persistent).Leave()
	f.client(5, "will", will("will", "x"), persistent).Publish(mq.Publish{Topic: "retained", Payload: "x", QoS: 1, Retain: true})
	if code, _, answer := f.call("iot", "POST", "/_drover/reset", ""); code != 200 {
		t.Fatalf("reset: %d %v", code, answer)
	}
	if d := time.Since(f.clock("")); d < -time.Minute || d > time.Minute {
		t.Errorf("after a reset the clock is off by %s", d)
	}
	list, err := f.api.ListThings(f.ctx, &iot.ListThingsInput{})
	f.must(err)
	jobs, err := f.api.ListJobs(f.ctx, &iot.ListJobsInput{})
	f.must(err)
	if len(list.Things)+len(jobs.Jobs) != 0 {
		t.Errorf("after a reset there are %d things and %d jobs", len(list.Things), len(jobs.Jobs))
	}
	for _, id := range []string{"session", "will"} {
		if f.client(5, id, persistent).Connack.Present {
			t.Errorf("after a reset there is a session of %s", id)
		}
	}
	reader := f.client(5, "reader")
	reader.Granted(1, "retained", "will")
	reader.Silent()
	f.thing("a")
	f.job("job", []string{f.thingARN(a)})
	f.connect(a).accepted("start-next", `{}`)
}

func TestModeIsOffByDefault(t *testing.T) {
	f := newFleet(t)
	for _, request := range [][2]string{{"GET", "/_drover/clock"}, {"POST", "/_drover/reset"}} {
		if code, _, answer := f.call("iot", request[0], request[1], ""); code != 404 {
			t.Errorf("%s: %d %v", request, code, answer)
		}
	}
}

// TestClientPytest runs the pytest example of docs/testing-devices.md.
func TestClientPytest(t *testing.T) {
	python := envtest.Python(t, "boto3", "pytest")
	f := fleetOn(t, ownServer(t, "--test"))
	cmd := exec.CommandContext(f.ctx, python, "-m", "pytest", "-q", "-p", "no:cacheprovider", filepath.Join("..", "scripts", "clients", "test_firmware.py"))
	cmd.Env = f.environment()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
