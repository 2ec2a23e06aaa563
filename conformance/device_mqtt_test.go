package conformance

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// Devices over MQTT.

// lone runs a test of a device without jobs with either version of MQTT.
func lone(t *testing.T, test func(t *testing.T, f *fleet, d *device)) {
	t.Helper()
	t.Parallel()
	versions(t, func(t *testing.T, version int) {
		f := newFleet(t)
		thing := f.thing("t")
		test(t, f, f.connectAs(thing, thing, version))
	})
}

// give creates a job for the device alone and returns its id.
func (d *device) give(n string) string {
	d.f.t.Helper()
	return d.f.job(n, []string{d.f.thingARN(d.thing)})
}

// send publishes a payload as it is.
func (d *device) send(rest, payload string) {
	d.f.t.Helper()
	d.f.must(d.publish(d.topic(rest), payload, 1))
}

// members returns the names of a JSON object's members, sorted.
func members(object map[string]any) []string { return slices.Sorted(maps.Keys(object)) }

func TestS093StepTimeoutOutOfRange(t *testing.T) {
	both(t, func(t *testing.T, f *fleet, d *device, id string) {
		for _, minutes := range []string{"0", "-2", "10081"} {
			d.rejected("start-next", `{"stepTimeoutInMinutes":`+minutes+`}`, "InvalidRequest")
			d.rejected(id+"/update", `{"status":"IN_PROGRESS","stepTimeoutInMinutes":`+minutes+`}`, "InvalidRequest")
		}
		f.executionStatus(d.thing, id, types.JobExecutionStatusQueued)
	})
}

func TestS155StartNextWithNothingPending(t *testing.T) {
	lone(t, func(t *testing.T, f *fleet, d *device) {
		answer := d.accepted("start-next", `{}`)
		if got := members(answer); !slices.Equal(got, []string{"clientToken", "timestamp"}) {
			t.Errorf("members %v", got)
		}
	})
}

func TestS156EmptyPayload(t *testing.T) {
	both(t, func(t *testing.T, f *fleet, d *device, id string) {
		d.send("start-next", "")
		answer := d.await(0, "start-next/accepted").json
		if path(answer, "execution", "jobId") != id || answer["clientToken"] != nil {
			t.Errorf("%v", answer)
		}
	})
}

func TestS157S158NoObject(t *testing.T) {
	both(t, func(t *testing.T, f *fleet, d *device, id string) {
		for i, c := range []struct{ payload, code string }{
			{`{bad`, "InvalidJson"},
			{`{"clientToken":"c"`, "InvalidJson"},
			{"{\"clientToken\":\"\xff\"}", "InvalidJson"},
			{`[1]`, "InvalidRequest"},
			{`"text"`, "InvalidRequest"},
		} {
			d.send("start-next", c.payload)
			answer := d.await(i, "start-next/rejected").json
			if got := members(answer); answer["code"] != c.code || !slices.Equal(got, []string{"code", "message", "timestamp"}) {
				t.Errorf("%q: %v", c.payload, answer)
			}
		}
		f.executionStatus(d.thing, id, types.JobExecutionStatusQueued)
	})
}

func TestS159UpdateWithoutStatus(t *testing.T) {
	both(t, func(t *testing.T, f *fleet, d *device, id string) {
		answer := d.rejected(id+"/update", `{"statusDetails":{"a":"b"}}`, "InvalidRequest") // finds the answer by its clientToken
		if message, _ := answer["message"].(string); !strings.Contains(message, "'status'") {
			t.Errorf("the message does not name the member: %q", message)
		}
	})
}

func TestS160UnknownTopic(t *testing.T) {
	lone(t, func(t *testing.T, f *fleet, d *device) {
		for _, rest := range []string{"foo", "a/b/c/get", "job/start-next", "GET"} {
			answer := d.rejected(rest, `{}`, "InvalidTopic")
			if answer["executionState"] != nil {
				t.Errorf("%v", answer)
			}
		}
	})
}

func TestS161S162DescribeNext(t *testing.T) {
	both(t, func(t *testing.T, f *fleet, d *device, id string) {
		answer := d.accepted("$next/get", `{}`) // answered on $next/get/accepted
		if path(answer, "execution", "jobId") != id || path(answer, "execution", "status") != "QUEUED" || path(answer, "execution", "versionNumber") != 1.0 {
			t.Errorf("%v", answer)
		}
		if e := f.executionStatus(d.thing, id, types.JobExecutionStatusQueued); e.VersionNumber != 1 {
			t.Errorf("version %d", e.VersionNumber)
		}
	})
}

func TestS163IncludeJobDocument(t *testing.T) {
	both(t, func(t *testing.T, f *fleet, d *device, id string) {
		for _, what := range []string{id, "$next"} {
			for payload, want := range map[string]any{`{}`: "reboot", `{"includeJobDocument":true}`: "reboot", `{"includeJobDocument":false}`: nil} {
				answer := d.accepted(what+"/get", payload)
				document, there := path(answer, "execution").(map[string]any)["jobDocument"]
				if there != (want != nil) || path(document, "operation") != want {
					t.Errorf("%s %s: %v", what, payload, answer)
				}
			}
		}
	})
}

func TestS164S165DescribeWhatIsNotPending(t *testing.T) {
	both(t, func(t *testing.T, f *fleet, d *device, id string) {
		d.accepted(id+"/update", `{"status":"SUCCEEDED"}`)
		d.rejected(id+"/get", `{}`, "TerminalStateReached")
		d.rejected(f.name("nobody")+"/get", `{}`, "ResourceNotFound")
		if answer := d.accepted("$next/get", `{}`); answer["execution"] != nil {
			t.Errorf("%v", answer)
		}
	})
}

func TestS166S167S168AnswerToUpdate(t *testing.T) {
	both(t, func(t *testing.T, f *fleet, d *device, id string) {
		answer := d.accepted(id+"/update", `{"status":"IN_PROGRESS","statusDetails":{"a":"1"}}`)
		if got := members(answer); !slices.Equal(got, []string{"clientToken", "timestamp"}) {
			t.Errorf("members %v", got)
		}
		answer = d.accepted(id+"/update", `{"status":"IN_PROGRESS","includeJobExecutionState":true}`)
		state := path(answer, "executionState")
		if path(state, "status") != "IN_PROGRESS" || path(state, "versionNumber") != 3.0 || path(state, "statusDetails", "a") != "1" || answer["jobDocument"] != nil {
			t.Errorf("%v", answer)
		}
		answer = d.accepted(id+"/update", `{"status":"SUCCEEDED","includeJobDocument":true}`)
		if path(answer, "jobDocument", "operation") != "reboot" || answer["executionState"] != nil {
			t.Errorf("%v", answer)
		}
	})
}

func TestS169BadStatusDetails(t *testing.T) {
	both(t, func(t *testing.T, f *fleet, d *device, id string) {
		pairs := func(n int) string {
			list := make([]string, n)
			for i := range list {
				list[i] = fmt.Sprintf(`"k%d":"v"`, i)
			}
			return "{" + strings.Join(list, ",") + "}"
		}
		pair := func(key, value int) string {
			return `{"` + strings.Repeat("k", key) + `":"` + strings.Repeat("v", value) + `"}`
		}
		for _, details := range []string{pairs(11), pair(129, 1), pair(1, 1025), `{"k":1}`, `{"k":{}}`, `[]`} {
			d.rejected(id+"/update", `{"status":"IN_PROGRESS","statusDetails":`+details+`}`, "InvalidRequest")
			d.rejected("start-next", `{"statusDetails":`+details+`}`, "InvalidRequest")
		}
		f.executionStatus(d.thing, id, types.JobExecutionStatusQueued)
		for _, details := range []string{pairs(10), pair(128, 1), pair(1, 1024)} {
			d.accepted(id+"/update", `{"status":"IN_PROGRESS","statusDetails":`+details+`}`)
		}
	})
}

func TestS170S171StoredStatusDetails(t *testing.T) {
	both(t, func(t *testing.T, f *fleet, d *device, id string) {
		want := func(details map[string]string) {
			t.Helper()
			if got := f.execution(d.thing, id).StatusDetails.DetailsMap; !maps.Equal(got, details) {
				t.Errorf("details %v, want %v", got, details)
			}
		}
		d.accepted("start-next", `{"statusDetails":{"a":"1","b":"1"}}`)
		want(map[string]string{"a": "1", "b": "1"})
		d.accepted(id+"/update", `{"status":"IN_PROGRESS"}`)
		want(map[string]string{"a": "1", "b": "1"})
		d.accepted(id+"/update", `{"status":"IN_PROGRESS","statusDetails":{"b":"2"}}`)
		want(map[string]string{"b": "2"})

		answer := d.accepted("start-next", `{"statusDetails":{"c":"3"}}`)
		if path(answer, "execution", "versionNumber") != 4.0 || path(answer, "execution", "statusDetails", "b") != "2" {
			t.Errorf("%v", answer)
		}
		want(map[string]string{"b": "2"})
	})
}

func TestS172S173OrderOfStartNext(t *testing.T) {
	lone(t, func(t *testing.T, f *fleet, d *device) {
		a, b := d.give("a"), d.give("b")
		if answer := d.accepted("$next/get", `{}`); path(answer, "execution", "jobId") != a {
			t.Errorf("not the earlier of two queued: %v", answer)
		}
		d.accepted(b+"/update", `{"status":"IN_PROGRESS"}`)
		if answer := d.accepted("start-next", `{}`); path(answer, "execution", "jobId") != b {
			t.Errorf("not the one in progress: %v", answer)
		}
		d.accepted(b+"/update", `{"status":"SUCCEEDED"}`)
		if answer := d.accepted("start-next", `{}`); path(answer, "execution", "jobId") != a {
			t.Errorf("not the one that is left: %v", answer)
		}
	})
}

func TestS174AnswersGoToTheRequesterAlone(t *testing.T) {
	both(t, func(t *testing.T, f *fleet, d *device, id string) {
		for _, version := range []int{4, 5} {
			other := f.connectAs(d.thing, fmt.Sprintf("%s-other-%d", d.thing, version), version)
			other.listen("+/accepted")
			other.listen("+/rejected")
			other.listen("+/update/+")
			d.accepted("start-next", `{}`) // without a subscription
			d.rejected("start-next", `{"statusDetails":1}`, "InvalidRequest")
			d.accepted(id+"/update", `{"status":"IN_PROGRESS"}`)
			other.accepted(id+"/get", `{}`)
			if got := other.count(func(m message) bool { return m.topic != other.topic(id+"/get/accepted") }); got != 0 {
				t.Errorf("another client received %v", other.all())
			}
		}
	})
}

func TestS175OneCopyForTheSubscribedRequester(t *testing.T) {
	both(t, func(t *testing.T, f *fleet, d *device, id string) {
		d.listen("#")
		d.listen("start-next/accepted")
		d.accepted("start-next", `{}`)
		if n := d.received("start-next/accepted"); n != 1 {
			t.Errorf("%d copies", n)
		}
	})
}

func TestS176NothingPending(t *testing.T) {
	lone(t, func(t *testing.T, f *fleet, d *device) {
		d.send("get", "")
		m := d.await(0, "get/accepted")
		if !strings.Contains(m.payload, `"inProgressJobs":[]`) || !strings.Contains(m.payload, `"queuedJobs":[]`) {
			t.Errorf("%s", m.payload)
		}
	})
}

func TestS177TenPendingAreListed(t *testing.T) {
	lone(t, func(t *testing.T, f *fleet, d *device) {
		var ids []string
		for i := range 12 {
			ids = append(ids, d.give(itoa(i)))
		}
		d.accepted(ids[11]+"/update", `{"status":"IN_PROGRESS"}`)
		answer := d.accepted("get", `{}`)
		var got []string
		for _, list := range []string{"inProgressJobs", "queuedJobs"} {
			for _, e := range asList(answer[list]) {
				got = append(got, path(e, "jobId").(string))
			}
		}
		if want := append([]string{ids[11]}, ids[:9]...); !slices.Equal(got, want) || len(asList(answer["inProgressJobs"])) != 1 {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestS178TimesAreWholeSeconds(t *testing.T) {
	lone(t, func(t *testing.T, f *fleet, d *device) {
		d.listen("#")
		id := d.give("a")
		d.give("b")
		d.accepted("start-next", `{}`)
		d.accepted(id+"/get", `{}`)
		d.accepted(id+"/update", `{"status":"SUCCEEDED","includeJobExecutionState":true}`)
		d.rejected(id+"/update", `{"status":"SUCCEEDED"}`, "InvalidStateTransition")
		d.accepted("get", `{}`)

		seen := map[string]int{}
		var check func(topic, name string, v any)
		check = func(topic, name string, v any) {
			switch v := v.(type) {
			case map[string]any:
				for name, v := range v {
					check(topic, name, v)
				}
			case []any:
				for _, v := range v {
					check(topic, name, v)
				}
			case json.Number:
				if name == "timestamp" || strings.HasSuffix(name, "At") {
					seen[name]++
					if n, err := v.Int64(); err != nil || n < 1e9 || n >= 1e11 {
						t.Errorf("%s: %s is %s", topic, name, v)
					}
				}
			}
		}
		for _, m := range d.all() {
			var v map[string]any
			decoder := json.NewDecoder(strings.NewReader(m.payload))
			decoder.UseNumber()
			f.must(decoder.Decode(&v))
			if v["timestamp"] == nil {
				t.Errorf("%s without timestamp: %s", m.topic, m.payload)
			}
			check(m.topic, "", v)
		}
		for _, name := range []string{"timestamp", "queuedAt", "startedAt", "lastUpdatedAt"} {
			if seen[name] == 0 {
				t.Errorf("no %s anywhere", name)
			}
		}
	})
}
