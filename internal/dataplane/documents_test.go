package dataplane

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"drover/internal/iot"
)

// presignedJob queues a job whose document has a download and an upload.
func (r *rig) presignedJob(job iot.JobID) {
	r.jobs[job] = int64(len(r.jobs) + 1)
	r.docs[r.jobs[job]] = `{"get":"${aws:iot:s3-presigned-url:s3://fw.bin/v1}","put":"${aws:iot:s3-presigned-url-upload:s3://logs/${thingName}}"}`
	r.presigned = &iot.PresignedURLConfig{RoleARN: "role", ExpiresInSec: 60}
	r.queue(job)
}

// document is what the device gets, with the numbers of the two URLs in it.
func document(first, second int) string {
	return fmt.Sprintf(`{"get":"https://fw.bin/v1?n=%d&thing=t1&job=j1&role=role&s=1m0s","put":"https://logs/t1?n=%d&thing=t1&job=j1&role=role&s=1m0s"}`, first, second)
}

// Each way in which a document reaches a device has URLs of its own (spec §9.3).
func TestFreshURLsEachTime(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.presignedJob("j1") // notify-next takes 1 and 2
	if got := r.sent[len(r.sent)-1]; !strings.HasSuffix(got.topic, "/notify-next") || !strings.Contains(got.payload, `"jobDocument":`+document(1, 2)) {
		t.Errorf("notify-next: %s", got)
	}
	for i, ask := range []struct{ operation, payload string }{
		{"$next/get", ``},
		{"j1/get", `{"executionNumber":1}`},
		{"start-next", ``},
		{"j1/update", `{"status":"IN_PROGRESS","includeJobDocument":true}`},
	} {
		if got, ok := r.ask(ask.operation, ask.payload); !ok || !strings.Contains(got, `"jobDocument":`+document(3+2*i, 4+2*i)) {
			t.Errorf("%s: %s", ask.operation, got)
		}
	}
	for i, ask := range []struct{ method, path, body string }{
		{"GET", "/things/t1/jobs/$next", ``},
		{"PUT", "/things/t1/jobs/$next", `{}`},
		{"POST", "/things/t1/jobs/j1", `{"status":"IN_PROGRESS","includeJobDocument":true}`},
	} {
		if status, _, got := r.do(ask.method, ask.path, ask.body); status != http.StatusOK || !strings.Contains(strings.ReplaceAll(got, `\`, ""), document(11+2*i, 12+2*i)) {
			t.Errorf("%s: %d %s", ask.path, status, got)
		}
	}
	before := r.urls
	if got, ok := r.ask("j1/get", `{"includeJobDocument":false}`); !ok || strings.Contains(got, "jobDocument") || r.urls != before {
		t.Errorf("no document was asked for: %s", got)
	}
}

// A document that cannot be completed is not sent: the device is told to try again, and a
// notice is left out.
func TestNoDocumentWithoutURLs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.unsigned = errors.New("the credentials are secret")
	r.presignedJob("j1")
	for _, s := range r.sent {
		if strings.HasSuffix(s.topic, "notify-next") || strings.Contains(s.payload, "aws:iot") {
			t.Errorf("sent: %s", s)
		}
	}
	for operation, payload := range map[string]string{"start-next": ``, "j1/get": ``, "j1/update": `{"status":"IN_PROGRESS","includeJobDocument":true}`} {
		got, ok := r.ask(operation, payload)
		if ok || !strings.Contains(got, `"code":"InternalError"`) || strings.Contains(got, "secret") || strings.Contains(got, "aws:iot") {
			t.Errorf("%s: %s", operation, got)
		}
	}
	if status, _, got := r.do("GET", "/things/t1/jobs/$next", ""); status != http.StatusServiceUnavailable || strings.Contains(got, "secret") || strings.Contains(got, "aws:iot") {
		t.Errorf("HTTPS: %d %s", status, got)
	}
	r.unsigned = nil
	if got, ok := r.ask("start-next", ``); !ok || !strings.Contains(got, document(1, 2)) {
		t.Errorf("once there are credentials: %s", got)
	}
}
