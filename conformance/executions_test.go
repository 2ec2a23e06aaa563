package conformance

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// Execution lifecycle. Devices speak MQTT here, in both versions.

// one sets up a thing with a job, and its device.
func one(t *testing.T, version int) (f *fleet, d *device, id string) {
	t.Helper()
	f = newFleet(t)
	thing := f.thing("t")
	return f, f.connectAs(thing, thing, version), f.job("job", []string{f.thingARN(thing)})
}

// both runs a test of one execution with either version of MQTT.
func both(t *testing.T, test func(t *testing.T, f *fleet, d *device, id string)) {
	t.Helper()
	t.Parallel()
	versions(t, func(t *testing.T, version int) {
		f, d, id := one(t, version)
		test(t, f, d, id)
	})
}

func TestS024NewExecution(t *testing.T) {
	both(t, func(t *testing.T, f *fleet, d *device, id string) {
		e := f.execution(d.thing, id)
		if e.Status != types.JobExecutionStatusQueued || e.VersionNumber != 1 || aws.ToInt64(e.ExecutionNumber) != 1 || e.StartedAt != nil {
			t.Errorf("%+v", e)
		}
		if e.QueuedAt == nil || aws.ToString(e.ThingArn) != f.thingARN(d.thing) {
			t.Errorf("%+v", e)
		}
	})
}

func TestS025StartNext(t *testing.T) {
	both(t, func(t *testing.T, f *fleet, d *device, id string) {
		x := path(d.accepted("start-next", `{}`), "execution")
		if path(x, "jobId") != id || path(x, "status") != "IN_PROGRESS" || path(x, "versionNumber") != 2.0 {
			t.Errorf("%v", x)
		}
		if s := path(x, "startedAt"); s == nil || s != path(x, "lastUpdatedAt") {
			t.Errorf("startedAt %v, lastUpdatedAt %v", s, path(x, "lastUpdatedAt"))
		}
	})
}

func TestS026Progress(t *testing.T) {
	both(t, func(t *testing.T, f *fleet, d *device, id string) {
		d.accepted("start-next", `{}`)
		started := f.execution(d.thing, id).StartedAt
		d.accepted(id+"/update", `{"status":"IN_PROGRESS","statusDetails":{"step":"2"}}`)
		e := f.execution(d.thing, id)
		if e.VersionNumber != 3 || !e.StartedAt.Equal(*started) || e.StatusDetails.DetailsMap["step"] != "2" {
			t.Errorf("%+v", e)
		}
	})
}

func TestS027Succeeded(t *testing.T) {
	both(t, func(t *testing.T, f *fleet, d *device, id string) {
		d.accepted("start-next", `{}`)
		d.accepted(id+"/update", `{"status":"SUCCEEDED"}`)
		if e := f.executionStatus(d.thing, id, types.JobExecutionStatusSucceeded); e.VersionNumber != 3 {
			t.Errorf("version %d", e.VersionNumber)
		}
	})
}

func TestS028FailedDirectly(t *testing.T) {
	both(t, func(t *testing.T, f *fleet, d *device, id string) {
		d.accepted(id+"/update", `{"status":"FAILED"}`)
		if e := f.executionStatus(d.thing, id, types.JobExecutionStatusFailed); e.VersionNumber != 2 || e.StartedAt == nil {
			t.Errorf("%+v", e)
		}
	})
}

func TestS029Rejected(t *testing.T) {
	both(t, func(t *testing.T, f *fleet, d *device, id string) {
		d.accepted(id+"/update", `{"status":"REJECTED"}`)
		f.executionStatus(d.thing, id, types.JobExecutionStatusRejected)
	})
}

func TestS030S031TerminalNeverChanges(t *testing.T) {
	both(t, func(t *testing.T, f *fleet, d *device, id string) {
		d.accepted(id+"/update", `{"status":"SUCCEEDED"}`)
		for _, status := range []string{"IN_PROGRESS", "SUCCEEDED"} {
			answer := d.rejected(id+"/update", `{"status":"`+status+`"}`, "InvalidStateTransition")
			if path(answer, "executionState", "status") != "SUCCEEDED" || path(answer, "executionState", "versionNumber") != 2.0 {
				t.Errorf("executionState %v", answer["executionState"])
			}
		}
		if e := f.executionStatus(d.thing, id, types.JobExecutionStatusSucceeded); e.VersionNumber != 2 {
			t.Errorf("version %d", e.VersionNumber)
		}
	})
}

func TestS032S033StatusOfTheService(t *testing.T) {
	both(t, func(t *testing.T, f *fleet, d *device, id string) {
		for _, status := range []string{"CANCELED", "QUEUED", "TIMED_OUT", "REMOVED", "DONE"} {
			d.rejected(id+"/update", `{"status":"`+status+`"}`, "InvalidRequest")
		}
		if e := f.executionStatus(d.thing, id, types.JobExecutionStatusQueued); e.VersionNumber != 1 {
			t.Errorf("version %d", e.VersionNumber)
		}
	})
}

func TestS034ToS037ExpectedVersion(t *testing.T) {
	both(t, func(t *testing.T, f *fleet, d *device, id string) {
		d.accepted("start-next", `{}`)
		d.accepted(id+"/update", `{"status":"IN_PROGRESS"}`)
		answer := d.rejected(id+"/update", `{"status":"IN_PROGRESS","expectedVersion":2}`, "VersionMismatch")
		if path(answer, "executionState", "versionNumber") != 3.0 {
			t.Errorf("executionState %v", answer["executionState"])
		}
		d.rejected(id+"/update", `{"status":"IN_PROGRESS","expectedVersion":"x"}`, "InvalidRequest")
		if e := f.execution(d.thing, id); e.VersionNumber != 3 {
			t.Errorf("a refused update changed the version to %d", e.VersionNumber)
		}
		d.accepted(id+"/update", `{"status":"IN_PROGRESS","expectedVersion":"3"}`)
		d.accepted(id+"/update", `{"status":"IN_PROGRESS","expectedVersion":4}`)
		d.accepted(id+"/update", `{"status":"IN_PROGRESS"}`)
	})
}

func (f *fleet) cancelExecution(thing, id string, options ...func(*iot.CancelJobExecutionInput)) error {
	in := &iot.CancelJobExecutionInput{ThingName: &thing, JobId: &id}
	for _, o := range options {
		o(in)
	}
	_, err := f.api.CancelJobExecution(f.ctx, in)
	return err
}

func forcedExecution(in *iot.CancelJobExecutionInput) { in.Force = true }

func TestS038CancelQueuedExecution(t *testing.T) {
	both(t, func(t *testing.T, f *fleet, d *device, id string) {
		f.must(f.cancelExecution(d.thing, id))
		f.executionStatus(d.thing, id, types.JobExecutionStatusCanceled)
	})
}

func TestS039ToS041CancelExecutionInProgress(t *testing.T) {
	both(t, func(t *testing.T, f *fleet, d *device, id string) {
		d.accepted("start-next", `{}`)
		f.refused(f.cancelExecution(d.thing, id), "InvalidStateTransitionException", 409)
		f.must(f.cancelExecution(d.thing, id, forcedExecution))
		if e := f.executionStatus(d.thing, id, types.JobExecutionStatusCanceled); !aws.ToBool(e.ForceCanceled) {
			t.Error("not forceCanceled")
		}
		f.refused(f.cancelExecution(d.thing, id, forcedExecution), "InvalidStateTransitionException", 409)
	})
}

func TestS042CancelExecutionExpectedVersion(t *testing.T) {
	both(t, func(t *testing.T, f *fleet, d *device, id string) {
		d.accepted("start-next", `{}`)
		err := f.cancelExecution(d.thing, id, forcedExecution, func(in *iot.CancelJobExecutionInput) { in.ExpectedVersion = aws.Int64(1) })
		f.refused(err, "VersionConflictException", 409)
		f.executionStatus(d.thing, id, types.JobExecutionStatusInProgress)
		f.must(f.cancelExecution(d.thing, id, forcedExecution, func(in *iot.CancelJobExecutionInput) { in.ExpectedVersion = aws.Int64(2) }))
	})
}

func TestS043CancelExecutionDetails(t *testing.T) {
	both(t, func(t *testing.T, f *fleet, d *device, id string) {
		f.must(f.cancelExecution(d.thing, id, func(in *iot.CancelJobExecutionInput) { in.StatusDetails = map[string]string{"why": "because"} }))
		if e := f.execution(d.thing, id); len(e.StatusDetails.DetailsMap) != 1 || e.StatusDetails.DetailsMap["why"] != "because" {
			t.Errorf("details %v", e.StatusDetails)
		}
	})
}

func TestS044UpdateAfterForcedCancel(t *testing.T) {
	both(t, func(t *testing.T, f *fleet, d *device, id string) {
		d.accepted("start-next", `{}`)
		f.must(f.cancelExecution(d.thing, id, forcedExecution))
		answer := d.rejected(id+"/update", `{"status":"SUCCEEDED"}`, "InvalidStateTransition")
		if path(answer, "executionState", "status") != "CANCELED" {
			t.Errorf("executionState %v", answer["executionState"])
		}
	})
}

func (f *fleet) deleteExecution(thing, id string, number int64, force bool) error {
	_, err := f.api.DeleteJobExecution(f.ctx, &iot.DeleteJobExecutionInput{ThingName: &thing, JobId: &id, ExecutionNumber: &number, Force: force})
	return err
}

func (f *fleet) noExecution(thing, id string) {
	f.t.Helper()
	_, err := f.api.DescribeJobExecution(f.ctx, &iot.DescribeJobExecutionInput{ThingName: &thing, JobId: &id})
	f.refused(err, "ResourceNotFoundException", 404)
}

func TestS045S046DeleteExecutionInProgress(t *testing.T) {
	both(t, func(t *testing.T, f *fleet, d *device, id string) {
		d.accepted("start-next", `{}`)
		f.refused(f.deleteExecution(d.thing, id, 1, false), "InvalidStateTransitionException", 409)
		f.must(f.deleteExecution(d.thing, id, 1, true))
		f.noExecution(d.thing, id)
		d.rejected(id+"/update", `{"status":"SUCCEEDED"}`, "ResourceNotFound")
	})
}

func TestS047DeleteQueuedExecution(t *testing.T) {
	both(t, func(t *testing.T, f *fleet, d *device, id string) {
		f.must(f.deleteExecution(d.thing, id, 1, false))
		f.noExecution(d.thing, id)
	})
}

// Statement 48 speaks of TIMED_OUT, which needs timers; every other end is shown here.
func TestS048DeleteEndedExecution(t *testing.T) {
	for _, status := range []string{"SUCCEEDED", "FAILED", "REJECTED"} {
		t.Run(status, func(t *testing.T) {
			both(t, func(t *testing.T, f *fleet, d *device, id string) {
				d.accepted(id+"/update", `{"status":"`+status+`"}`)
				f.must(f.deleteExecution(d.thing, id, 1, false))
				f.noExecution(d.thing, id)
			})
		})
	}
}

func TestS049DeleteExecutionWrongNumber(t *testing.T) {
	both(t, func(t *testing.T, f *fleet, d *device, id string) {
		f.refused(f.deleteExecution(d.thing, id, 2, true), "ResourceNotFoundException", 404)
		f.executionStatus(d.thing, id, types.JobExecutionStatusQueued)
	})
}

// three sets up a job with executions QUEUED, IN_PROGRESS and SUCCEEDED.
func three(t *testing.T) (f *fleet, things [3]string, id string) {
	t.Helper()
	f = newFleet(t)
	var arns []string
	for i := range things {
		things[i] = f.thing("t" + itoa(i))
		arns = append(arns, f.thingARN(things[i]))
	}
	id = f.job("job", arns)
	f.startNext(things[1])
	f.finish(things[2], id, "SUCCEEDED")
	return f, things, id
}

func TestS050CancelJobWithoutForce(t *testing.T) {
	f, things, id := three(t)
	f.cancel(id)
	f.executionStatus(things[0], id, types.JobExecutionStatusCanceled)
	f.executionStatus(things[1], id, types.JobExecutionStatusInProgress)
	f.executionStatus(things[2], id, types.JobExecutionStatusSucceeded)
}

func TestS051CancelJobWithForce(t *testing.T) {
	f, things, id := three(t)
	f.cancel(id, forced)
	f.executionStatus(things[0], id, types.JobExecutionStatusCanceled)
	f.executionStatus(things[1], id, types.JobExecutionStatusCanceled)
	f.executionStatus(things[2], id, types.JobExecutionStatusSucceeded)
}

func TestS052DeviceFinishesCanceledJob(t *testing.T) {
	f, things, id := three(t)
	f.cancel(id)
	f.finish(things[1], id, "SUCCEEDED")
	f.executionStatus(things[1], id, types.JobExecutionStatusSucceeded)
}

func TestS053ThingDeleted(t *testing.T) {
	both(t, func(t *testing.T, f *fleet, d *device, id string) {
		_, err := f.api.DeleteThing(f.ctx, &iot.DeleteThingInput{ThingName: &d.thing})
		f.must(err)
		f.executionStatus(d.thing, id, types.JobExecutionStatusRemoved)
		if c := counters(f.jobStatus(id, types.JobStatusCompleted)); c != [8]int32{7: 1} {
			t.Errorf("counters %v", c)
		}
	})
}
