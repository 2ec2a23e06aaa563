package conformance

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// Events, which are switched on and off for all: every test has a server of its own.

// observed runs a test of a device with a job, with events of the types on. The device's
// client receives the events of jobs and executions, too.
func observed(t *testing.T, on []types.EventType, test func(t *testing.T, f *fleet, d *device, id string)) {
	t.Helper()
	t.Parallel()
	f := fleetOn(t, ownServer(t))
	if len(on) > 0 {
		f.must(f.events(true, on...))
	}
	thing := f.thing("t")
	versions(t, func(t *testing.T, version int) {
		f := fleetOn(t, f.server)
		thing := f.thing("t")
		d := f.connectAs(thing, thing, version)
		f.must(d.subscribe("$aws/events/job/#", 1))
		f.must(d.subscribe("$aws/events/jobExecution/#", 1))
		test(t, f, d, d.give("job"))
	})
	// Nobody else's device, and none that asks for events, is told of any.
	bystander := f.connect(thing)
	bystander.received("notify")
	if n := bystander.count(func(m message) bool { return strings.HasPrefix(m.topic, "$aws/events/") }); n > 0 {
		t.Errorf("a client without a subscription received events: %v", bystander.all())
	}
}

func (f *fleet) events(on bool, kinds ...types.EventType) error {
	in := &iot.UpdateEventConfigurationsInput{EventConfigurations: map[string]types.Configuration{}}
	for _, k := range kinds {
		in.EventConfigurations[string(k)] = types.Configuration{Enabled: on}
	}
	_, err := f.api.UpdateEventConfigurations(f.ctx, in)
	return err
}

// happened checks that these events, and no others, have been published, in this order:
// topics without $aws/events/, with the job's id as {job}. It returns their payloads.
func (d *device) happened(id string, want ...string) []map[string]any {
	d.f.t.Helper()
	d.accepted("get", `{}`)
	var topics []string
	var events []map[string]any
	ids := map[any]bool{}
	for _, m := range d.all() {
		if topic, ok := strings.CutPrefix(m.topic, "$aws/events/"); ok {
			topics = append(topics, strings.ReplaceAll(topic, id, "{job}"))
			events = append(events, m.json)
			ids[m.json["eventId"]] = true
			if m.json["eventId"] == "" || m.json["jobId"] != id || m.json["operation"] != topic[strings.LastIndexByte(topic, '/')+1:] {
				d.f.t.Errorf("%s: %s", m.topic, m.payload)
			}
			if at, _ := m.json["timestamp"].(float64); at < 1e9 || at >= 1e11 {
				d.f.t.Errorf("timestamp %v is not in seconds", m.json["timestamp"])
			}
		}
	}
	if !slices.Equal(topics, want) {
		d.f.t.Fatalf("events %v, want %v", topics, want)
	}
	if len(ids) != len(want) {
		d.f.t.Errorf("event ids are not unique: %v", ids)
	}
	return events
}

func TestS197EventsAreOffByDefault(t *testing.T) {
	observed(t, nil, func(t *testing.T, f *fleet, d *device, id string) {
		d.update(id, "SUCCEEDED")
		f.jobStatus(id, types.JobStatusCompleted)
		d.happened(id)
	})
}

func TestS198JobCompleted(t *testing.T) {
	observed(t, []types.EventType{types.EventTypeJob}, func(t *testing.T, f *fleet, d *device, id string) {
		d.update(id, "SUCCEEDED")
		e := d.happened(id, "job/{job}/completed")[0]
		if e["eventType"] != "JOB" || e["status"] != "COMPLETED" || e["targetSelection"] != "SNAPSHOT" || path(e, "targets", 0) != f.thingARN(d.thing) {
			t.Errorf("%v", e)
		}
		if n := path(e, "jobProcessDetails", "numberOfSucceededThings"); n != 1.0 {
			t.Errorf("jobProcessDetails %v", e["jobProcessDetails"])
		}
		for _, name := range []string{"createdAt", "lastUpdatedAt", "completedAt"} {
			if at, _ := e[name].(float64); at < 1e12 {
				t.Errorf("%s %v is not in milliseconds", name, e[name])
			}
		}
	})
}

func TestS199JobCanceled(t *testing.T) {
	observed(t, []types.EventType{types.EventTypeJob}, func(t *testing.T, f *fleet, d *device, id string) {
		f.cancel(id, func(in *iot.CancelJobInput) { in.Comment = aws.String("why") })
		events := d.happened(id, "job/{job}/cancellation_in_progress", "job/{job}/canceled")
		if events[0]["status"] != "CANCELLATION_IN_PROGRESS" || events[0]["comment"] != "why" || events[1]["status"] != "CANCELED" {
			t.Errorf("%v", events)
		}
	})
}

func TestS200JobDeleted(t *testing.T) {
	observed(t, []types.EventType{types.EventTypeJob}, func(t *testing.T, f *fleet, d *device, id string) {
		f.must(f.deleteJob(id, true))
		f.eventually("the job is gone", func() bool { return f.gone(id) })
		events := d.happened(id, "job/{job}/deletion_in_progress", "job/{job}/deleted")
		if events[0]["status"] != "DELETION_IN_PROGRESS" || events[1]["status"] != "DELETED" {
			t.Errorf("%v", events)
		}
	})
}

func TestS201S202S204ExecutionSucceeded(t *testing.T) {
	observed(t, []types.EventType{types.EventTypeJobExecution}, func(t *testing.T, f *fleet, d *device, id string) {
		d.accepted("start-next", `{}`)
		d.update(id, "IN_PROGRESS")
		d.happened(id)
		d.accepted(id+"/update", `{"status":"SUCCEEDED","statusDetails":{"a":"1"}}`)
		f.jobStatus(id, types.JobStatusCompleted) // of which there is no event
		e := d.happened(id, "jobExecution/{job}/succeeded")[0]
		if e["eventType"] != "JOB_EXECUTION" || e["status"] != "SUCCEEDED" || e["thingArn"] != f.thingARN(d.thing) || path(e, "statusDetails", "a") != "1" {
			t.Errorf("%v", e)
		}
	})
}

func TestS203ExecutionDeleted(t *testing.T) {
	observed(t, []types.EventType{types.EventTypeJobExecution}, func(t *testing.T, f *fleet, d *device, id string) {
		f.must(f.deleteExecution(d.thing, id, 1, false))
		d.happened(id, "jobExecution/{job}/deleted")
	})
}

func TestS205EventTypesAreSetOneByOne(t *testing.T) {
	t.Parallel()
	f := fleetOn(t, ownServer(t))
	configured := func() map[string]types.Configuration {
		out, err := f.api.DescribeEventConfigurations(f.ctx, &iot.DescribeEventConfigurationsInput{})
		f.must(err)
		return out.EventConfigurations
	}
	f.must(f.events(true, types.EventTypeThing, types.EventTypeJobExecution))
	before := configured()
	f.must(f.events(true, types.EventTypeJob))
	f.must(f.events(false, types.EventTypeJobExecution))
	after := configured()
	for kind := range before {
		want := before[kind].Enabled
		switch types.EventType(kind) {
		case types.EventTypeJob:
			want = true
		case types.EventTypeJobExecution:
			want = false
		}
		if after[kind].Enabled != want {
			t.Errorf("%s is %v, want %v", kind, after[kind].Enabled, want)
		}
	}
	if !after[string(types.EventTypeThing)].Enabled || len(after) != 11 {
		t.Errorf("%v", after)
	}
}

func TestS206DescribeEndpoint(t *testing.T) {
	oneServer(t, "an address")
	f := newFleet(t)
	plain := fleetOn(t, ownServer(t))
	for _, c := range []struct {
		f                *fleet
		kind, url, named string
	}{
		{plain, "iot:Jobs", plain.http, ""},
		{plain, "iot:Data-ATS", plain.mqtt, ""},
		// With TLS it is the listener for certificates, by the name of the server.
		{f, "iot:Jobs", f.deviceHTTPS, serverName},
		{f, "iot:Data-ATS", f.mqtts, serverName},
	} {
		out, err := c.f.api.DescribeEndpoint(f.ctx, &iot.DescribeEndpointInput{EndpointType: &c.kind})
		f.must(err)
		want := address(c.url)
		if _, port, _ := strings.Cut(want, ":"); c.named != "" {
			want = c.named + ":" + port
		}
		if *endpointFlag == "" && aws.ToString(out.EndpointAddress) != want {
			t.Errorf("%s: %s, want %s", c.kind, aws.ToString(out.EndpointAddress), want)
		}
	}
	thing := f.thing("t")
	if status, _, _ := f.https("GET", thing, "", ""); status != http.StatusOK {
		t.Errorf("the endpoint does not serve devices: %d", status)
	}
}
