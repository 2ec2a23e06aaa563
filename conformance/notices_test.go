package conformance

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Notices: what a device is told unasked.

// noticed runs a test of a device that gets notices and has no jobs with either version of MQTT.
func noticed(t *testing.T, test func(t *testing.T, f *fleet, d *device)) {
	t.Helper()
	lone(t, func(t *testing.T, f *fleet, d *device) {
		d.listen("notify")
		d.listen("notify-next")
		test(t, f, d)
	})
}

// told checks that the device has been told this, and nothing else, since the last call.
// Notices are written in short:
//
//	notify IN_PROGRESS[a] QUEUED[b c]   the pending list
//	notify                              the empty one
//	next a QUEUED                       the next execution
//	next -                              there is none
//
// A request is answered first, after all notices of what happened before it.
func (d *device) told(want ...string) {
	d.f.t.Helper()
	d.accepted("get", `{}`)
	var got []string
	all := d.all()
	for _, m := range all[d.read:] {
		if text, ok := d.inShort(m); ok {
			got = append(got, text)
		}
	}
	d.read = len(all)
	if !slices.Equal(got, want) {
		d.f.t.Errorf("told %q, want %q", got, want)
	}
}

func (d *device) inShort(m message) (text string, isNotice bool) {
	short := func(id any) string { return strings.TrimPrefix(fmt.Sprint(id), d.f.name("")) }
	switch m.topic {
	case d.topic("notify"):
		text = "notify"
		jobs, _ := m.json["jobs"].(map[string]any)
		if jobs == nil {
			text += " without jobs"
		}
		for _, status := range members(jobs) {
			var ids []string
			for _, e := range asList(jobs[status]) {
				ids = append(ids, short(path(e, "jobId")))
			}
			text += fmt.Sprintf(" %s%v", status, ids)
		}
	case d.topic("notify-next"):
		text = "next -"
		if e := m.json["execution"]; e != nil {
			text = fmt.Sprintf("next %s %v", short(path(e, "jobId")), path(e, "status"))
			if path(e, "jobDocument", "operation") != "reboot" {
				text += " without document"
			}
		} else if got := members(m.json); !slices.Equal(got, []string{"timestamp"}) {
			text += fmt.Sprint(got)
		}
	}
	return text, text != ""
}

// update is an update of the device to status, accepted.
func (d *device) update(id, status string) {
	d.f.t.Helper()
	d.accepted(id+"/update", `{"status":"`+status+`"}`)
}

func TestS186S187NewExecution(t *testing.T) {
	noticed(t, func(t *testing.T, f *fleet, d *device) {
		d.give("a")
		d.told("notify QUEUED[a]", "next a QUEUED")
		d.give("b")
		d.told("notify QUEUED[a b]")
	})
}

func TestS188S194Progress(t *testing.T) {
	noticed(t, func(t *testing.T, f *fleet, d *device) {
		a := d.give("a")
		d.told("notify QUEUED[a]", "next a QUEUED")
		d.update(a, "IN_PROGRESS")
		d.told()
		d.accepted(a+"/update", `{"status":"IN_PROGRESS","statusDetails":{"p":"50"}}`)
		d.told()
	})
}

func TestS189S190FirstEnds(t *testing.T) {
	noticed(t, func(t *testing.T, f *fleet, d *device) {
		a, b := d.give("a"), d.give("b")
		d.told("notify QUEUED[a]", "next a QUEUED", "notify QUEUED[a b]")
		d.update(a, "SUCCEEDED")
		d.told("notify QUEUED[b]", "next b QUEUED")
		d.update(b, "REJECTED")
		d.told("notify", "next -")
	})
}

func TestS191S192OtherBecomesFirst(t *testing.T) {
	noticed(t, func(t *testing.T, f *fleet, d *device) {
		a, b, c := d.give("a"), d.give("b"), d.give("c")
		d.told("notify QUEUED[a]", "next a QUEUED", "notify QUEUED[a b]", "notify QUEUED[a b c]")
		d.update(b, "IN_PROGRESS")
		d.told("next b IN_PROGRESS")
		d.update(a, "IN_PROGRESS") // queued earlier
		d.told("next a IN_PROGRESS")
		d.update(c, "IN_PROGRESS")
		d.told()
	})
}

func TestS193OtherIsCanceled(t *testing.T) {
	noticed(t, func(t *testing.T, f *fleet, d *device) {
		d.give("a")
		b := d.give("b")
		d.told("notify QUEUED[a]", "next a QUEUED", "notify QUEUED[a b]")
		f.must(f.cancelExecution(d.thing, b))
		d.told("notify QUEUED[a]")
	})
}

func TestS195TenAreListed(t *testing.T) {
	lone(t, func(t *testing.T, f *fleet, d *device) {
		var ids []string
		for i := range 11 {
			ids = append(ids, d.give(itoa(i)))
		}
		d.update(ids[10], "IN_PROGRESS")
		d.update(ids[9], "IN_PROGRESS")
		d.listen("notify")
		d.give("last")
		d.told("notify IN_PROGRESS[9 10] QUEUED[0 1 2 3 4 5 6 7]")
	})
}

func TestS196SubscribingIsNoChange(t *testing.T) {
	lone(t, func(t *testing.T, f *fleet, d *device) {
		d.give("a")
		d.listen("notify")
		d.listen("notify-next")
		d.told()
		d.give("b")
		d.told("notify QUEUED[a b]")
	})
}

// The worked trace of the specification, §13.5.
func TestNoticesOfWorkedTrace(t *testing.T) {
	noticed(t, func(t *testing.T, f *fleet, d *device) {
		job1 := d.give("job1")
		d.told("notify QUEUED[job1]", "next job1 QUEUED")
		job2 := d.give("job2")
		d.told("notify QUEUED[job1 job2]")
		d.update(job1, "IN_PROGRESS")
		d.told()
		job3 := d.give("job3")
		d.told("notify IN_PROGRESS[job1] QUEUED[job2 job3]")
		d.update(job1, "SUCCEEDED")
		d.told("notify QUEUED[job2 job3]", "next job2 QUEUED")
		d.update(job3, "IN_PROGRESS")
		d.told("next job3 IN_PROGRESS")
		d.update(job2, "REJECTED")
		d.told("notify IN_PROGRESS[job3]")
		f.must(f.deleteExecution(d.thing, job3, 1, true))
		d.told("notify", "next -")
	})
}

// The answer to a request comes before the notices that the request causes.
func TestAnswerBeforeNotices(t *testing.T) {
	noticed(t, func(t *testing.T, f *fleet, d *device) {
		id := d.give("a")
		d.told("notify QUEUED[a]", "next a QUEUED")
		d.update(id, "SUCCEEDED")
		d.await(1, "notify-next")
		var topics []string
		for _, m := range d.all()[d.read:] {
			topics = append(topics, strings.TrimPrefix(m.topic, d.topic("")))
		}
		if want := []string{id + "/update/accepted", "notify", "notify-next"}; !slices.Equal(topics, want) {
			t.Errorf("received %v, want %v", topics, want)
		}
	})
}
