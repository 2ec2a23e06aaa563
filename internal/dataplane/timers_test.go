package dataplane

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"drover/internal/iot"
)

// left returns approximateSecondsBeforeTimedOut of the execution in a payload, of an answer
// or of a notice, and -1 if it has none.
func left(t *testing.T, payload string) int64 {
	t.Helper()
	var body struct {
		Execution struct {
			JobID                            string
			ApproximateSecondsBeforeTimedOut *int64
		}
	}
	if err := json.Unmarshal([]byte(payload), &body); err != nil {
		t.Fatal(err)
	}
	if body.Execution.JobID == "" {
		t.Fatalf("no execution in %s", payload)
	}
	if s := body.Execution.ApproximateSecondsBeforeTimedOut; s != nil {
		return *s
	}
	return -1
}

// wantLeft compares what the execution of j1 has left with what a device is told, over MQTT
// and HTTPS.
func (r *rig) wantLeft(t *testing.T, seconds int64) {
	t.Helper()
	for _, topic := range []string{"j1/get", "$next/get"} {
		if got, ok := r.ask(topic, ``); !ok || left(t, got) != seconds {
			t.Errorf("%s: %s, want %d seconds", topic, got, seconds)
		}
	}
	for _, path := range []string{"/things/t1/jobs/j1", "/things/t1/jobs/%24next"} {
		if status, _, got := r.do("GET", path, ""); status != http.StatusOK || left(t, got) != seconds {
			t.Errorf("%s: %d %s, want %d seconds", path, status, got, seconds)
		}
	}
}

// pass lets time go by.
func (r *rig) pass(d time.Duration) { r.at = r.at.Add(d) }

func TestS093_StepTimeoutBeyondTheLimits(t *testing.T) {
	t.Parallel()
	for _, minutes := range []string{"0", "10081", "-2", "1.5", `"5"`, "1e300"} {
		t.Run(minutes, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.queue("j1")
			member := `"stepTimeoutInMinutes":` + minutes
			for _, request := range []struct{ topic, method, path, body string }{
				{"start-next", "PUT", "/things/t1/jobs/$next", `{` + member + `}`},
				{"j1/update", "POST", "/things/t1/jobs/j1", `{"status":"IN_PROGRESS",` + member + `}`},
				{"j1/update", "POST", "/things/t1/jobs/j1", `{"status":"SUCCEEDED",` + member + `}`}, // checked, then without meaning
			} {
				if got := r.reject(request.topic, request.body, "InvalidRequest"); !strings.Contains(got, "stepTimeoutInMinutes") {
					t.Errorf("%s says nothing of the member", got)
				}
				r.fails(request.method, request.path, request.body, http.StatusBadRequest, "InvalidRequestException", "stepTimeoutInMinutes")
			}
			if e := r.things["t1"].Entries[0]; e.Status != iot.Queued || e.Version != 1 {
				t.Errorf("the execution is %+v", e)
			}
		})
	}
}

func TestS095_SecondsBeforeTimedOut(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.timeout = 20
	r.queue("j1")
	r.wantLeft(t, -1) // it does not run yet
	r.accept("start-next", ``, `{"execution":{"jobId":"j1","thingName":"t1","status":"IN_PROGRESS",`+
		`"queuedAt":1700000000,"startedAt":1700000000,"lastUpdatedAt":1700000000,"approximateSecondsBeforeTimedOut":1200,`+
		`"versionNumber":2,"executionNumber":1,"jobDocument":{"operation":"j1"}},"timestamp":1700000000}`)
	r.pass(90*time.Second + time.Millisecond)
	r.wantLeft(t, 1109) // whole seconds, rounded down
	if got, ok := r.ask("get", ``); !ok || strings.Contains(got, "approximateSeconds") {
		t.Errorf("a list shows it: %s", got)
	}
	r.pass(time.Hour)
	r.wantLeft(t, 0) // its end has come but has not been told
}

func TestSecondsBeforeTimedOutOverHTTPS(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.queue("j1")
	if _, _, got := r.do("PUT", "/things/t1/jobs/$next", `{"stepTimeoutInMinutes":3}`); left(t, got) != 180 {
		t.Errorf("started %s", got)
	}
}

func TestSecondsBeforeTimedOutInNotifyNext(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.timeout = 10
	r.queue("j1")
	r.queue("j2")
	r.ask("j2/update", `{"status":"IN_PROGRESS","stepTimeoutInMinutes":2}`)
	want := strings.Replace(nextNotice(0, "j2", "IN_PROGRESS", 0, 0, 2), `,"versionNumber"`, `,"approximateSecondsBeforeTimedOut":120,"versionNumber"`, 1)
	r.want(want)
	r.ask("j2/update", `{"status":"FAILED"}`)
	r.want(listNotice(0, `"QUEUED":[`+pending("j1", 0, -1, 1)+`]`), nextNotice(0, "j1", "QUEUED", 0, -1, 1))
}

// TestStepTimer: a step timer is set, replaced, kept and discarded by the reports of the
// device, and never reaches beyond the timeout of the job (spec §6.2, §6.3).
func TestStepTimer(t *testing.T) {
	t.Parallel()
	const minute = 60
	r := newRig(t)
	r.timeout = 20
	r.queue("j1")
	for i, step := range []struct {
		after   time.Duration
		topic   string
		payload string
		left    int64
	}{
		{0, "start-next", `{}`, 20 * minute},
		{5 * time.Minute, "j1/update", `{"status":"IN_PROGRESS","stepTimeoutInMinutes":7}`, 7 * minute},
		{2 * time.Minute, "j1/update", `{"status":"IN_PROGRESS","statusDetails":{"k":"v"}}`, 5 * minute},
		{0, "j1/update", `{"status":"IN_PROGRESS","stepTimeoutInMinutes":8}`, 8 * minute},
		{time.Minute, "start-next", `{"stepTimeoutInMinutes":1,"statusDetails":{"not":"taken"}}`, minute},
		{0, "j1/update", `{"status":"IN_PROGRESS","stepTimeoutInMinutes":-1}`, 12 * minute},
		{0, "j1/update", `{"status":"IN_PROGRESS","stepTimeoutInMinutes":-1}`, 12 * minute}, // there is none
		{0, "j1/update", `{"status":"IN_PROGRESS","stepTimeoutInMinutes":10080}`, 12 * minute},
	} {
		r.pass(step.after)
		if got, ok := r.ask(step.topic, step.payload); !ok {
			t.Errorf("step %d: %s", i, got)
		}
		r.want() // progress is no news
		r.wantLeft(t, step.left)
	}
	if d := r.things["t1"].Entries[0].Details; len(d) != 1 || d["k"] != "v" {
		t.Errorf("details are %v", d)
	}
	r.accept("j1/update", `{"status":"SUCCEEDED","stepTimeoutInMinutes":5}`, fmt.Sprintf(`{"timestamp":%d}`, r.at.Seconds()))
	if e := r.ended[0]; e.DueAt() != 0 {
		t.Errorf("at its end it has a timer: %+v", e)
	}
}

// TestFifteenWithWindows: a device is shown up to 15 executions if some are of jobs with
// maintenance windows, 10 otherwise (spec §13.2).
func TestFifteenWithWindows(t *testing.T) {
	t.Parallel()
	for windows, most := range map[bool]int{true: 15, false: 10} {
		t.Run(fmt.Sprint(windows), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			for i := range 20 {
				r.windows = windows && i == 3
				r.take()
				r.queue(iot.JobID(fmt.Sprintf("j%02d", i)))
			}
			var want []string
			for i := range most {
				want = append(want, pending(fmt.Sprintf("j%02d", i), 0, -1, 1))
			}
			shown := `[` + strings.Join(want, ",") + `]`
			r.want(listNotice(0, `"QUEUED":`+shown))
			r.accept("get", ``, `{"inProgressJobs":[],"queuedJobs":`+shown+`,"timestamp":1700000000}`)
			r.ok("GET", "/things/t1/jobs", "", `{"inProgressJobs":[],"queuedJobs":`+shown+`}`)
		})
	}
}

// TestHiddenByAWindow: outside of its maintenance windows a job is not in any list; by its id
// it can be described, and not be started (spec §8.4).
func TestHiddenByAWindow(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.windows = true
	r.queue("j1")
	r.windows = false
	r.things["t1"].Hidden = map[int64]bool{r.jobs["j1"]: true}
	r.take()
	r.accept("get", ``, `{"inProgressJobs":[],"queuedJobs":[],"timestamp":1700000000}`)
	r.accept("$next/get", ``, `{"timestamp":1700000000}`)
	r.accept("start-next", ``, `{"timestamp":1700000000}`)
	if got, ok := r.ask("j1/get", ``); !ok || !strings.Contains(got, `"status":"QUEUED"`) {
		t.Errorf("described by its id: %s", got)
	}
	got := r.reject("j1/update", `{"status":"IN_PROGRESS"}`, "InvalidStateTransition")
	if !strings.Contains(got, `"executionState":{"status":"QUEUED","statusDetails":{},"versionNumber":1}`) {
		t.Errorf("the refusal does not tell the state: %s", got)
	}
	r.fails("POST", "/things/t1/jobs/j1", `{"status":"IN_PROGRESS"}`, http.StatusConflict, "InvalidStateTransitionException", "maintenance windows")
	r.queue("j2")
	r.want(listNotice(0, `"QUEUED":[`+pending("j2", 0, -1, 1)+`]`), nextNotice(0, "j2", "QUEUED", 0, -1, 1))
}
