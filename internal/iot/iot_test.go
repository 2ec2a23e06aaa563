package iot

import (
	"strings"
	"testing"
)

func TestDetailsCheck(t *testing.T) {
	eleven := Details{}
	for _, k := range strings.Split("abcdefghijk", "") {
		eleven[k] = "v"
	}
	tests := []struct {
		name    string
		details Details
		want    string // part of the message, "" for none
	}{
		{"nil", nil, ""},
		{"ten pairs", func() Details {
			d := Details{}
			for k, v := range eleven {
				if k != "k" {
					d[k] = v
				}
			}
			return d
		}(), ""},
		{"eleven pairs", eleven, "less than or equal to 10"},
		{"empty key", Details{"": "v"}, "greater than or equal to 1"},
		{"128-character key", Details{strings.Repeat("k", 128): "v"}, ""},
		{"129-character key", Details{strings.Repeat("k", 129): "v"}, "less than or equal to 128"},
		{"key with a space", Details{"a b": "v"}, "[a-zA-Z0-9:_-]+"},
		{"empty value", Details{"k": ""}, "greater than or equal to 1"},
		{"1024 characters of two bytes", Details{"k": strings.Repeat("é", 1024)}, ""},
		{"1025-character value", Details{"k": strings.Repeat("v", 1025)}, "less than or equal to 1024"},
		{"newline, tab", Details{"k": "a\n\tb\r"}, ""},
		{"control character", Details{"k": "a\x00b"}, `[^\p{C}]+`},
	}
	for _, test := range tests {
		err := test.details.Check()
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

func TestParseARN(t *testing.T) {
	realm := Realm{Account: "123456789012", Region: "eu-central-1"}
	kind, name, err := realm.ParseARN(realm.ARN(KindThing, "a:b"))
	if kind != KindThing || name != "a:b" || err != nil {
		t.Errorf("own ARN: %q %q %v", kind, name, err)
	}
	for _, bad := range []string{"", "arn", "a:b", "arn:aws:s3:::bucket", "arn:aws:iot:eu-central-1:999999999999:thing/a",
		"arn:aws:iot:us-east-1:123456789012:thing/a", "arn:aws:iot:eu-central-1:123456789012:thing", "arn:aws:iot:eu-central-1:123456789012:thing/",
		"arn:aws-cn:iot:eu-central-1:123456789012:thing/a"} {
		if _, _, err := realm.ParseARN(bad); ErrorCode(err) != InvalidRequest {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzParseARN(f *testing.F) {
	realm := Realm{Account: "123456789012", Region: "us-east-1"}
	f.Add(realm.ARN(KindJob, "j"))
	f.Add("arn:aws:iot:::/")
	f.Add("arn:::::")
	f.Fuzz(func(t *testing.T, arn string) {
		kind, name, err := realm.ParseARN(arn)
		if err == nil && realm.ARN(kind, name) != arn {
			t.Errorf("%q reads as %q %q", arn, kind, name)
		}
		if err != nil && ErrorCode(err) != InvalidRequest {
			t.Errorf("%q: %v", arn, err)
		}
	})
}

func TestJobCancel(t *testing.T) {
	for _, test := range []struct {
		status JobStatus
		force  bool
		todo   bool
		code   Code
	}{
		{JobInProgress, false, true, ""},
		{JobScheduled, false, true, ""},
		{JobCanceled, false, false, ""},
		{JobCanceled, true, true, ""},
		{JobCompleted, true, false, InvalidRequest},
		{JobDeletionInProgress, false, false, InvalidRequest},
	} {
		j := &Job{JobID: "j", Status: test.status}
		todo, err := j.Cancel(1, test.force, "REASON", "why")
		if todo != test.todo || ErrorCode(err) != test.code {
			t.Errorf("cancel of %s, force %v: %v %v", test.status, test.force, todo, err)
		}
		if todo && (j.Status != JobCanceled || j.Phase != PhaseCancel || j.ReasonCode != "REASON" || j.ForceCanceled != test.force) {
			t.Errorf("cancel of %s, force %v: %+v", test.status, test.force, j)
		}
	}
}

func TestJobDelete(t *testing.T) {
	for _, test := range []struct {
		status JobStatus
		force  bool
		code   Code
	}{
		{JobCompleted, false, ""},
		{JobCanceled, false, ""},
		{JobInProgress, false, InvalidStateTransition},
		{JobScheduled, false, InvalidStateTransition},
		{JobInProgress, true, ""},
		{JobScheduled, true, ""},
		{JobDeletionInProgress, true, InvalidStateTransition},
	} {
		j := &Job{JobID: "j", Status: test.status}
		if err := j.Delete(1, test.force); ErrorCode(err) != test.code {
			t.Errorf("delete of %s, force %v: %v", test.status, test.force, err)
		} else if err == nil && j.Phase != PhaseDelete {
			t.Errorf("delete of %s, force %v: phase %q", test.status, test.force, j.Phase)
		}
	}
}

func TestJobComplete(t *testing.T) {
	pending, ended := Counts{}, Counts{}
	pending[InProgress], ended[Failed] = 1, 3
	for _, test := range []struct {
		name string
		job  Job
		want bool
	}{
		{"all ended", Job{Status: JobInProgress, Selection: Snapshot, Counts: ended}, true},
		{"nothing to do", Job{Status: JobInProgress, Selection: Snapshot}, true},
		{"rolling out", Job{Status: JobInProgress, Selection: Snapshot, Phase: PhaseRollout}, false},
		{"pending", Job{Status: JobInProgress, Selection: Snapshot, Counts: pending}, false},
		{"continuous", Job{Status: JobInProgress, Selection: Continuous, Counts: ended}, false},
		{"canceled", Job{Status: JobCanceled, Selection: Snapshot, Counts: ended}, false},
	} {
		if got := test.job.Complete(5); got != test.want || got && (test.job.Status != JobCompleted || test.job.CompletedAt != 5) {
			t.Errorf("%s: %v, %+v", test.name, got, test.job)
		}
	}
}
