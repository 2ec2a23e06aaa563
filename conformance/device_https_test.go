package conformance

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// Devices over HTTPS.

// https makes a request on the device plane about the thing's jobs.
func (f *fleet) https(method, thing, rest, body string) (status int, errorType string, answer map[string]any) {
	f.t.Helper()
	status, header, answer := f.call("iot-jobs-data", method, "/things/"+thing+"/jobs"+rest, body)
	return status, header.Get("X-Amzn-ErrorType"), answer
}

func TestS179TwoPlanesOnOnePath(t *testing.T) {
	f := newFleet(t)
	thing := f.thing("t")
	id := f.job("job", []string{f.thingARN(thing)})
	status, _, answer := f.https("GET", thing, "", "")
	if status != 200 || path(answer, "queuedJobs", 0, "jobId") != id || answer["inProgressJobs"] == nil || answer["executionSummaries"] != nil {
		t.Errorf("device plane: %d %v", status, answer)
	}
	status, _, answer = f.call("iot", "GET", "/things/"+thing+"/jobs", "")
	if status != 200 || path(answer, "executionSummaries", 0, "jobId") != id || answer["queuedJobs"] != nil {
		t.Errorf("control plane: %d %v", status, answer)
	}
}

func TestS180NextWithPercent(t *testing.T) {
	f := newFleet(t)
	for i, next := range []string{"/$next", "/%24next"} {
		thing := f.thing("t" + itoa(i))
		id := f.job("job"+itoa(i), []string{f.thingARN(thing)})
		status, _, answer := f.https("PUT", thing, next, `{"statusDetails":{"a":"1"}}`)
		if status != 200 || path(answer, "execution", "jobId") != id || path(answer, "execution", "versionNumber") != 2.0 || path(answer, "execution", "statusDetails", "a") != "1" {
			t.Errorf("PUT %s: %d %v", next, status, answer)
		}
		status, _, answer = f.https("GET", thing, next, "")
		if status != 200 || path(answer, "execution", "jobId") != id {
			t.Errorf("GET %s: %d %v", next, status, answer)
		}
	}
}

func TestS181DocumentIsText(t *testing.T) {
	f := newFleet(t)
	thing := f.thing("t")
	id := f.job("job", []string{f.thingARN(thing)})
	for _, rest := range []string{"/" + id, "/" + id + "?includeJobDocument=true", "/$next"} {
		_, _, answer := f.https("GET", thing, rest, "")
		text, _ := path(answer, "execution", "jobDocument").(string)
		if text != document || !json.Valid([]byte(text)) {
			t.Errorf("%s: %v", rest, answer)
		}
		for _, time := range []string{"queuedAt", "lastUpdatedAt"} {
			if at, _ := path(answer, "execution", time).(float64); at < 1e9 || at >= 1e11 || at != float64(int64(at)) {
				t.Errorf("%s: %s is %v", rest, time, at)
			}
		}
		if answer["timestamp"] != nil || answer["clientToken"] != nil {
			t.Errorf("%s: %v", rest, answer)
		}
	}
	if _, _, answer := f.https("GET", thing, "/"+id+"?includeJobDocument=false", ""); path(answer, "execution", "jobId") != id || path(answer, "execution", "jobDocument") != nil {
		t.Errorf("%v", answer)
	}
}

func TestS182S183EndedExecution(t *testing.T) {
	f := newFleet(t)
	thing := f.thing("t")
	id := f.job("job", []string{f.thingARN(thing)})
	f.finish(thing, id, "SUCCEEDED")
	if status, kind, answer := f.https("GET", thing, "/"+id, ""); status != 410 || kind != "TerminalStateException" {
		t.Errorf("describe: %d %s %v", status, kind, answer)
	}
	status, kind, answer := f.https("POST", thing, "/"+id, `{"status":"FAILED"}`)
	if status != 409 || kind != "InvalidStateTransitionException" || path(answer, "executionState", "status") != "SUCCEEDED" {
		t.Errorf("update: %d %s %v", status, kind, answer)
	}
	f.executionStatus(thing, id, types.JobExecutionStatusSucceeded)
}

// Statements 34 and 37 over HTTPS, whose model has no exception for a wrong version.
func TestVersionMismatchOverHTTPS(t *testing.T) {
	f := newFleet(t)
	thing := f.thing("t")
	id := f.job("job", []string{f.thingARN(thing)})
	for version, want := range map[string]struct {
		status int
		kind   string
	}{`7`: {409, "InvalidStateTransitionException"}, `"x"`: {400, "InvalidRequestException"}} {
		status, kind, answer := f.https("POST", thing, "/"+id, `{"status":"IN_PROGRESS","expectedVersion":`+version+`}`)
		if status != want.status || kind != want.kind {
			t.Errorf("expectedVersion %s: %d %s %v", version, status, kind, answer)
		}
		if status == 409 && (!strings.HasPrefix(fmt.Sprint(answer["message"]), "VersionMismatch") || path(answer, "executionState", "versionNumber") != 1.0) {
			t.Errorf("%v", answer)
		}
	}
	status, _, answer := f.https("POST", thing, "/"+id, `{"status":"IN_PROGRESS","expectedVersion":"1","includeJobExecutionState":true}`)
	if status != 200 || path(answer, "executionState", "versionNumber") != 2.0 {
		t.Errorf("%d %v", status, answer)
	}
}

func TestS184NoticesOfUpdatesOverHTTPS(t *testing.T) {
	noticed(t, func(t *testing.T, f *fleet, d *device) {
		id := d.give("a")
		d.told("notify QUEUED[a]", "next a QUEUED")
		f.finish(d.thing, id, "SUCCEEDED")
		d.told("notify", "next -")
	})
}

func TestS185StartNextWithNothingPending(t *testing.T) {
	f := newFleet(t)
	thing := f.thing("t")
	for _, method := range []string{"PUT", "GET"} {
		if status, _, answer := f.https(method, thing, "/$next", ""); status != 200 || answer == nil || len(answer) != 0 {
			t.Errorf("%s: %d %v", method, status, answer)
		}
	}
}
