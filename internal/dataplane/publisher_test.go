package dataplane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"drover/internal/iot"
)

// pending is a JobExecutionSummary as of the test's clock: started says when, in seconds
// after start, or -1.
func pending(job string, queued, started, version int) string {
	updated, s := queued, ""
	if started >= 0 {
		updated, s = started, fmt.Sprintf(`"startedAt":%d,`, start+started)
	}
	return fmt.Sprintf(`{"jobId":%q,"queuedAt":%d,%s"lastUpdatedAt":%d,"versionNumber":%d,"executionNumber":1}`, job, start+queued, s, start+updated, version)
}

func listNotice(now int, jobs string) string {
	return fmt.Sprintf(`B/notify {"timestamp":%d,"jobs":{%s}}`, start+now, jobs)
}

func nextNotice(now int, job, status string, queued, started, version int) string {
	members := strings.TrimPrefix(pending(job, queued, started, version), fmt.Sprintf(`{"jobId":%q,`, job))
	return fmt.Sprintf(`B/notify-next {"timestamp":%d,"execution":{"jobId":%q,"status":%q,%s,"jobDocument":{"operation":%q}}}`,
		start+now, job, status, strings.TrimSuffix(members, "}"), job)
}

// TestWorkedTrace is the trace of spec §13.5.
func TestWorkedTrace(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var (
		q1 = pending("job1", 0, -1, 1)
		q2 = pending("job2", 1, -1, 1)
		p1 = pending("job1", 0, 2, 2)
		q3 = pending("job3", 3, -1, 1)
		p3 = pending("job3", 3, 5, 2)
	)
	r.queue("job1")
	r.want(listNotice(0, `"QUEUED":[`+q1+`]`), nextNotice(0, "job1", "QUEUED", 0, -1, 1))
	r.tick()
	r.queue("job2")
	r.want(listNotice(1, `"QUEUED":[`+q1+`,`+q2+`]`))
	r.tick()
	r.ask("start-next", ``)
	r.want()
	r.tick()
	r.queue("job3")
	r.want(listNotice(3, `"IN_PROGRESS":[`+p1+`],"QUEUED":[`+q2+`,`+q3+`]`))
	r.tick()
	r.ask("job1/update", `{"status":"SUCCEEDED"}`)
	r.want(listNotice(4, `"QUEUED":[`+q2+`,`+q3+`]`), nextNotice(4, "job2", "QUEUED", 1, -1, 1))
	r.tick()
	r.ask("job3/update", `{"status":"IN_PROGRESS"}`)
	r.want(nextNotice(5, "job3", "IN_PROGRESS", 3, 5, 2))
	r.tick()
	r.ask("job2/update", `{"status":"REJECTED"}`)
	r.want(listNotice(6, `"IN_PROGRESS":[`+p3+`]`))
	r.tick()
	r.drop("job3")
	r.want(listNotice(7, ``), `B/notify-next {"timestamp":1700000007}`)
}

func TestS186_FirstJobQueued(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.queue("j1")
	for _, s := range r.sent {
		if s.qos != 1 {
			t.Errorf("%s has QoS %d, want 1", s, s.qos)
		}
	}
	r.want(listNotice(0, `"QUEUED":[`+pending("j1", 0, -1, 1)+`]`), nextNotice(0, "j1", "QUEUED", 0, -1, 1))
}

func TestS187_SecondJobQueued(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.queue("j1")
	r.take()
	r.queue("j2")
	r.want(listNotice(0, `"QUEUED":[`+pending("j1", 0, -1, 1)+`,`+pending("j2", 0, -1, 1)+`]`))
}

func TestS188_FirstExecutionStarts(t *testing.T) {
	t.Parallel()
	for _, topic := range []string{"start-next", "j1/update"} {
		r := newRig(t)
		r.queue("j1")
		r.ask(topic, `{"status":"IN_PROGRESS"}`)
		r.want()
	}
}

func TestS189_FirstExecutionEndsWithOneLeft(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.queue("j1")
	r.queue("j2")
	r.ask("j1/update", `{"status":"SUCCEEDED"}`)
	r.want(listNotice(0, `"QUEUED":[`+pending("j2", 0, -1, 1)+`]`), nextNotice(0, "j2", "QUEUED", 0, -1, 1))
}

func TestS190_LastExecutionEnds(t *testing.T) {
	t.Parallel()
	for _, status := range []string{"SUCCEEDED", "FAILED", "REJECTED"} {
		r := newRig(t)
		r.queue("j1")
		r.ask("j1/update", `{"status":"`+status+`"}`)
		r.want(`B/notify {"timestamp":1700000000,"jobs":{}}`, `B/notify-next {"timestamp":1700000000}`)
	}
}

func TestS191_SecondExecutionOvertakes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.queue("j1")
	r.queue("j2")
	r.ask("j2/update", `{"status":"IN_PROGRESS","statusDetails":{"k":"v"}}`)
	want := strings.Replace(nextNotice(0, "j2", "IN_PROGRESS", 0, 0, 2), `,"jobDocument"`, `,"statusDetails":{"k":"v"},"jobDocument"`, 1)
	r.want(want)
}

func TestS192_LaterQueuedStaysBehind(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, job := range []iot.JobID{"a", "b", "c"} {
		r.queue(job)
		r.tick()
	}
	r.ask("a/update", `{"status":"IN_PROGRESS"}`)
	r.ask("b/update", `{"status":"IN_PROGRESS"}`)
	r.want()
	r.ask("c/update", `{"status":"IN_PROGRESS"}`)
	r.want()
}

func TestS193_OtherExecutionIsCanceled(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.queue("j1")
	r.queue("j2")
	r.take()
	r.move("j2", iot.Canceled)
	r.want(listNotice(0, `"QUEUED":[`+pending("j1", 0, -1, 1)+`]`))
}

func TestS194_Progress(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.queue("j1")
	r.ask("start-next", ``)
	r.ask("j1/update", `{"status":"IN_PROGRESS","statusDetails":{"k":"v"}}`)
	r.want()
}

func TestS195_NotifyListsTen(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var queued []string
	for i := range 12 {
		r.take()
		r.queue(iot.JobID(fmt.Sprint("j", i)))
		if i > 0 && i < 10 {
			queued = append(queued, pending(fmt.Sprint("j", i), 0, -1, 1))
		}
	}
	r.ask("j11/update", `{"status":"IN_PROGRESS"}`)
	r.ask("j0/update", `{"status":"SUCCEEDED"}`)
	r.want(listNotice(0, `"IN_PROGRESS":[`+pending("j11", 0, 0, 2)+`],"QUEUED":[`+strings.Join(queued, ",")+`]`))
}

func TestS196_NothingIsSentToThoseWhoArriveLater(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.filters = map[string]bool{}
	r.queue("j1")
	r.queue("j2")
	r.want()
	r.filters["$aws/things/t1/jobs/notify"] = true
	r.p.Subscribed(Connection{ClientID: "c1"}, []string{"$aws/things/t1/jobs/notify"})
	r.want()
	r.queue("j3")
	r.want(listNotice(0, `"QUEUED":[`+pending("j1", 0, -1, 1)+`,`+pending("j2", 0, -1, 1)+`,`+pending("j3", 0, -1, 1)+`]`))
}

func TestNextIsLeftOutWithoutItsDocument(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.queue("j1")
	r.queue("j2")
	delete(r.docs, r.jobs["j2"])
	r.ask("j1/update", `{"status":"SUCCEEDED"}`)
	r.want(listNotice(0, `"QUEUED":[`+pending("j2", 0, -1, 1)+`]`))
}

// What has happened is told, if not at once, though what the message is made of cannot be read for a while.
func TestMessagesWaitForTheDatabase(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.outages = 10
		r.queue("j1")
		r.want(listNotice(0, `"QUEUED":[`+pending("j1", 0, -1, 1)+`]`), nextNotice(0, "j1", "QUEUED", 0, -1, 1))
		r.enable("JOB_EXECUTION")
		r.outages = 10
		r.move("j1", iot.Canceled)
		if sent := r.take(); len(sent) != 3 || !strings.HasPrefix(sent[2], "$aws/events/jobExecution/") {
			t.Errorf("sent %v, want two notices and an event", sent)
		}

		// Unless there is no time to wait: then the caller knows.
		r.outages = 1
		r.enable("JOB_EXECUTION")
		ctx, stop := context.WithCancel(t.Context())
		stop()
		if err := r.p.Publish(ctx, []iot.Record{{Kind: iot.JobDone}}); iot.ErrorCode(err) != iot.Unavailable {
			t.Errorf("published: %v", err)
		}
		r.want()
	})
}

func TestS197_EventsAreOffByDefault(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.queue("j1")
	r.ask("j1/update", `{"status":"SUCCEEDED"}`)
	r.take()
	r.publishJob(iot.JobDone, iot.Job{JobID: "j1"})
	r.want()
}

// publishJob publishes a record of a job.
func (r *rig) publishJob(kind iot.Kind, j iot.Job) {
	r.t.Helper()
	record, err := iot.NewJobRecord(kind, &j, r.at, "drover")
	if err != nil {
		r.t.Fatal(err)
	}
	r.publish([]iot.Record{record})
}

// job is a job with something in every member that events show.
func (r *rig) job() iot.Job {
	j := iot.Job{
		JobID: "j1", Status: iot.JobCompleted, Selection: iot.Snapshot, Description: "<d>", Comment: "why",
		Targets:   []iot.Target{{ARN: realm.ARN(iot.KindThing, "t1")}, {ARN: realm.ARN(iot.KindGroup, "g")}},
		CreatedAt: start*1000 - 877, UpdatedAt: start*1000 + 1, CompletedAt: start*1000 + 2,
	}
	j.Counts[iot.Succeeded], j.Counts[iot.Failed], j.Counts[iot.TimedOut] = 3, 2, 1
	j.Counts[iot.Canceled], j.Counts[iot.Rejected], j.Counts[iot.Removed] = 4, 5, 6
	return j
}

const (
	jobMembers = `"jobId":"j1"`
	jobTail    = `"targetSelection":"SNAPSHOT","targets":["arn:aws:iot:eu-west-1:123456789012:thing/t1","arn:aws:iot:eu-west-1:123456789012:thinggroup/g"],"description":"<d>"`
	jobTimes   = `"createdAt":1699999999123,"lastUpdatedAt":1700000000001`
	jobCounts  = `"jobProcessDetails":{"numberOfCanceledThings":4,"numberOfRejectedThings":5,"numberOfFailedThings":2,"numberOfRemovedThings":6,"numberOfSucceededThings":3,"numberOfTimedOutThings":1}`
)

func TestS198_JobCompleted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.enable("JOB")
	r.publishJob(iot.JobDone, r.job())
	r.event("job/j1/completed", `{"eventType":"JOB","eventId":"ID","timestamp":1700000000,"operation":"completed",`+jobMembers+
		`,"status":"COMPLETED",`+jobTail+`,"completedAt":1700000000002,`+jobTimes+`,`+jobCounts+`}`)
}

func TestS199_JobCanceled(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.enable("JOB")
	r.publishJob(iot.JobCancelStarted, r.job())
	r.event("job/j1/cancellation_in_progress", `{"eventType":"JOB","eventId":"ID","timestamp":1700000000,"operation":"cancellation_in_progress",`+jobMembers+
		`,"status":"CANCELLATION_IN_PROGRESS",`+jobTail+`,"comment":"why",`+jobTimes+`}`)
	r.publishJob(iot.JobCancelDone, r.job())
	r.event("job/j1/canceled", `{"eventType":"JOB","eventId":"ID","timestamp":1700000000,"operation":"canceled",`+jobMembers+
		`,"status":"CANCELED",`+jobTail+`,`+jobTimes+`,`+jobCounts+`}`)
}

func TestS200_JobDeleted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.enable("JOB")
	bare := iot.Job{JobID: "j1", Selection: iot.Continuous, CreatedAt: 1, UpdatedAt: 2}
	for kind, status := range map[iot.Kind]string{iot.JobDeletionStarted: "DELETION_IN_PROGRESS", iot.JobDeleted: "DELETED"} {
		r.publishJob(kind, bare)
		op := strings.ToLower(status)
		r.event("job/j1/"+op, `{"eventType":"JOB","eventId":"ID","timestamp":1700000000,"operation":"`+op+`","jobId":"j1",`+
			`"status":"`+status+`","targetSelection":"CONTINUOUS","targets":[],"comment":"","createdAt":1,"lastUpdatedAt":2}`)
	}
}

func TestNoEventForOtherChangesOfAJob(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.enable("JOB", "JOB_EXECUTION")
	for _, kind := range []iot.Kind{iot.JobCreated, iot.JobUpdated, iot.JobTargetsAdded} {
		r.publishJob(kind, r.job())
	}
	r.want()
}

func TestS201_ExecutionSucceeded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.enable("JOB_EXECUTION")
	r.queue("j1")
	r.ask("j1/update", `{"status":"SUCCEEDED","statusDetails":{"k":"<v>"}}`)
	r.sent = r.sent[2:] // the notices
	r.event("jobExecution/j1/succeeded", `{"eventType":"JOB_EXECUTION","eventId":"ID","timestamp":1700000000,"operation":"succeeded",`+
		`"jobId":"j1","thingArn":"arn:aws:iot:eu-west-1:123456789012:thing/t1","status":"SUCCEEDED","statusDetails":{"k":"<v>"}}`)
}

func TestExecutionEventsForEveryTerminalStatus(t *testing.T) {
	t.Parallel()
	for _, status := range []iot.ExecutionStatus{iot.Succeeded, iot.Failed, iot.Rejected, iot.Canceled, iot.TimedOut, iot.Removed} {
		r := newRig(t)
		r.enable("JOB_EXECUTION")
		r.queue("j1")
		r.take()
		r.move("j1", status)
		r.sent = r.sent[2:]
		op := strings.ToLower(status.String())
		r.event("jobExecution/j1/"+op, `{"eventType":"JOB_EXECUTION","eventId":"ID","timestamp":1700000000,"operation":"`+op+`",`+
			`"jobId":"j1","thingArn":"arn:aws:iot:eu-west-1:123456789012:thing/t1","status":"`+status.String()+`"}`)
	}
}

func TestS202_NoEventForAStart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.enable("JOB_EXECUTION")
	r.filters = map[string]bool{"$aws/events/jobExecution/j1/in_progress": true, "$aws/events/jobExecution/j1/queued": true}
	r.queue("j1")
	r.ask("start-next", ``)
	r.want()
}

func TestS203_ExecutionDeleted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.enable("JOB_EXECUTION")
	r.queue("j1")
	r.take()
	r.drop("j1")
	r.sent = r.sent[2:]
	r.event("jobExecution/j1/deleted", `{"eventType":"JOB_EXECUTION","eventId":"ID","timestamp":1700000000,"operation":"deleted",`+
		`"jobId":"j1","thingArn":"arn:aws:iot:eu-west-1:123456789012:thing/t1","status":"DELETED"}`)
}

func TestS204_OnlyWhatIsEnabledIsPublished(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.enable("JOB_EXECUTION")
	r.publishJob(iot.JobDone, r.job())
	r.want()
	r.queue("j1")
	r.ask("j1/update", `{"status":"SUCCEEDED"}`)
	if got := r.take(); len(got) != 3 || !strings.HasPrefix(got[2], "$aws/events/jobExecution/j1/succeeded ") {
		t.Errorf("sent %v", got)
	}
}

func TestEventsFollowTheConfiguration(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	deleted := func() int {
		r.publishJob(iot.JobDeleted, r.job())
		return len(r.take())
	}
	if n := deleted(); n != 0 {
		t.Errorf("%d events while off", n)
	}
	r.enabled = map[iot.EventType]bool{"JOB": true}
	if n := deleted(); n != 0 {
		t.Errorf("%d events before the change was told", n)
	}
	r.enable("JOB")
	if n := deleted() + deleted(); n != 2 {
		t.Errorf("%d events, want 2", n)
	}
	if r.loads != 2 {
		t.Errorf("the configuration was read %d times, want 2", r.loads)
	}
	// What cannot be read stays as it was, and is read again.
	r.fail = errors.New("no store")
	r.enable("THING")
	if n := deleted(); n != 1 {
		t.Errorf("%d events with the configuration out of reach, want 1", n)
	}
	r.fail = nil
	if n := deleted(); n != 0 {
		t.Errorf("%d events after JOB was switched off", n)
	}
}

func TestNothingIsMadeWithoutSubscribers(t *testing.T) {
	r := newRig(t)
	r.enable(iot.EventTypes()...)
	r.filters = map[string]bool{}
	r.queue("j1")
	r.move("j1", iot.Canceled)
	r.publishJob(iot.JobDone, r.job())
	r.publish([]iot.Record{{At: r.at, Kind: iot.ThingCreated, Data: []byte(`{"name":"t1"}`)}})
	r.p.Connected(Connection{ClientID: "c1"})
	r.want()
}

func TestBrokenRecordsAreLeftOut(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.enable(iot.EventTypes()...)
	for _, kind := range []iot.Kind{iot.JobDone, iot.ThingCreated} {
		r.publish([]iot.Record{{At: r.at, Kind: kind, Data: []byte(`{`)}})
	}
	r.want()
}

func TestRegistryEvents(t *testing.T) {
	t.Parallel()
	const (
		head   = `"eventId":"ID","timestamp":1700000000000,"operation":`
		acct   = `,"accountId":"123456789012",`
		gARN   = `"arn:aws:iot:eu-west-1:123456789012:thinggroup/`
		thingU = `"11111111-1111-1111-1111-111111111111"` // not a version 4, so that ID does not take its place
	)
	for _, c := range []struct {
		configuration iot.EventType
		kind          iot.Kind
		data          string
		topic         string
		want          string
	}{
		{"THING", iot.ThingCreated, `{"name":"t1","uuid":` + thingU + `,"version":1}`, "thing/t1/created",
			`{"eventType":"THING_EVENT",` + head + `"CREATED"` + acct + `"thingId":` + thingU + `,"thingName":"t1","versionNumber":1,"thingTypeName":null,"attributes":{}}`},
		{"THING", iot.ThingUpdated, `{"name":"t1","uuid":"u","version":2,"type":"pump","attributes":{"a":"<1>"}}`, "thing/t1/updated",
			`{"eventType":"THING_EVENT",` + head + `"UPDATED"` + acct + `"thingId":"u","thingName":"t1","versionNumber":2,"thingTypeName":"pump","attributes":{"a":"<1>"}}`},
		{"THING", iot.ThingDeleted, `{"name":"t1","uuid":"u","version":2}`, "thing/t1/deleted",
			`{"eventType":"THING_EVENT",` + head + `"DELETED"` + acct + `"thingId":"u","thingName":"t1","versionNumber":2,"thingTypeName":null,"attributes":{}}`},

		{"THING_TYPE", iot.TypeCreated, `{"name":"pump","uuid":"u","description":"d","searchable":["a"]}`, "thingType/pump/created",
			`{"eventType":"THING_TYPE_EVENT",` + head + `"CREATED"` + acct + `"thingTypeId":"u","thingTypeName":"pump","isDeprecated":false,"deprecationDate":null,"searchableAttributes":["a"],"description":"d"}`},
		{"THING_TYPE", iot.TypeUpdated, `{"name":"pump","uuid":"u","deprecatedAt":1700000000123}`, "thingType/pump/updated",
			`{"eventType":"THING_TYPE_EVENT",` + head + `"UPDATED"` + acct + `"thingTypeId":"u","thingTypeName":"pump","isDeprecated":true,"deprecationDate":1700000000123,"searchableAttributes":[],"description":null}`},
		{"THING_TYPE", iot.TypeDeleted, `{"name":"pump","uuid":"u"}`, "thingType/pump/deleted",
			`{"eventType":"THING_TYPE_EVENT",` + head + `"DELETED"` + acct + `"thingTypeId":"u","thingTypeName":"pump","isDeprecated":false,"deprecationDate":null,"searchableAttributes":[],"description":null}`},

		{"THING_TYPE_ASSOCIATION", iot.TypeAssociated, `{"thing":"t1","thingUuid":"u","type":"pump"}`, "thingTypeAssociation/thing/t1/thingType/pump/added",
			`{"eventId":"ID","eventType":"THING_TYPE_ASSOCIATION_EVENT","operation":"ADDED","thingId":"u","thingName":"t1","thingTypeName":"pump","timestamp":1700000000000}`},
		{"THING_TYPE_ASSOCIATION", iot.TypeDissociated, `{"thing":"t1","thingUuid":"u","type":"pump"}`, "thingTypeAssociation/thing/t1/thingType/pump/removed",
			`{"eventId":"ID","eventType":"THING_TYPE_ASSOCIATION_EVENT","operation":"REMOVED","thingId":"u","thingName":"t1","thingTypeName":"pump","timestamp":1700000000000}`},

		{"THING_GROUP", iot.GroupCreated, `{"name":"g","uuid":"u","version":1}`, "thingGroup/g/created",
			`{"eventType":"THING_GROUP_EVENT",` + head + `"CREATED"` + acct + `"thingGroupId":"u","thingGroupName":"g","versionNumber":1,"parentGroupName":null,"parentGroupId":null,` +
				`"description":null,"rootToParentThingGroups":[],"attributes":{},"dynamicGroupMappingId":null}`},
		{"THING_GROUP", iot.GroupUpdated, `{"name":"g","uuid":"u","version":2,"description":"d","attributes":{"a":"1"},"ancestors":[{"name":"root","uuid":"ru"},{"name":"p","uuid":"pu"}]}`, "thingGroup/g/updated",
			`{"eventType":"THING_GROUP_EVENT",` + head + `"UPDATED"` + acct + `"thingGroupId":"u","thingGroupName":"g","versionNumber":2,"parentGroupName":"p","parentGroupId":"pu",` +
				`"description":"d","rootToParentThingGroups":[{"groupArn":` + gARN + `root","groupId":"ru"},{"groupArn":` + gARN + `p","groupId":"pu"}],"attributes":{"a":"1"},"dynamicGroupMappingId":null}`},
		{"THING_GROUP", iot.GroupDeleted, `{"name":"g","uuid":"u","version":2}`, "thingGroup/g/deleted",
			`{"eventType":"THING_GROUP_EVENT",` + head + `"DELETED"` + acct + `"thingGroupId":"u","thingGroupName":"g","versionNumber":2,"parentGroupName":null,"parentGroupId":null,` +
				`"description":null,"rootToParentThingGroups":[],"attributes":{},"dynamicGroupMappingId":null}`},

		{"THING_GROUP_HIERARCHY", iot.ChildAdded, `{"parent":{"name":"p","uuid":"pu"},"child":{"name":"c","uuid":"cu"}}`, "thingGroupHierarchy/thingGroup/p/childThingGroup/c/added",
			`{"eventType":"THING_GROUP_HIERARCHY_EVENT",` + head + `"ADDED"` + acct + `"thingGroupId":"pu","thingGroupName":"p","childGroupId":"cu","childGroupName":"c"}`},
		{"THING_GROUP_HIERARCHY", iot.ChildRemoved, `{"parent":{"name":"p","uuid":"pu"},"child":{"name":"c","uuid":"cu"}}`, "thingGroupHierarchy/thingGroup/p/childThingGroup/c/removed",
			`{"eventType":"THING_GROUP_HIERARCHY_EVENT",` + head + `"REMOVED"` + acct + `"thingGroupId":"pu","thingGroupName":"p","childGroupId":"cu","childGroupName":"c"}`},

		{"THING_GROUP_MEMBERSHIP", iot.MemberAdded, `{"group":{"name":"g","uuid":"gu"},"thing":"t1","thingUuid":"tu","membershipId":"m"}`, "thingGroupMembership/thingGroup/g/thing/t1/added",
			`{"eventType":"THING_GROUP_MEMBERSHIP_EVENT",` + head + `"ADDED"` + acct + `"groupArn":` + gARN + `g","groupId":"gu","thingArn":"arn:aws:iot:eu-west-1:123456789012:thing/t1","thingId":"tu","membershipId":"m"}`},
		{"THING_GROUP_MEMBERSHIP", iot.MemberGone, `{"group":{"name":"g","uuid":"gu"},"thing":"t1","thingUuid":"tu","membershipId":"m"}`, "thingGroupMembership/thingGroup/g/thing/t1/removed",
			`{"eventType":"THING_GROUP_MEMBERSHIP_EVENT",` + head + `"REMOVED"` + acct + `"groupArn":` + gARN + `g","groupId":"gu","thingArn":"arn:aws:iot:eu-west-1:123456789012:thing/t1","thingId":"tu","membershipId":"m"}`},
	} {
		t.Run(string(c.kind), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			record := iot.Record{At: r.at, Kind: c.kind, Data: []byte(c.data)}
			others := slices.DeleteFunc(iot.EventTypes(), func(e iot.EventType) bool { return e == c.configuration })
			r.enable(others...)
			r.publish([]iot.Record{record})
			r.want()
			r.enable(c.configuration)
			r.publish([]iot.Record{record})
			r.event(c.topic, c.want)
		})
	}
}

func TestEveryEventHasAnExistingSwitch(t *testing.T) {
	t.Parallel()
	for kind, k := range eventKinds {
		if k.configuration != always && !slices.Contains(iot.EventTypes(), k.configuration) {
			t.Errorf("%s: no event type %s", kind, k.configuration)
		}
	}
}
