package sqlstore

import (
	"encoding/hex"
	"math"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"drover/internal/iot"
)

// executionOf draws an execution of a thing, with any numbers and texts that can be stored.
func executionOf(t *rapid.T, least int64, statuses ...iot.ExecutionStatus) iot.Execution {
	number := func(name string, from int64) int64 { return rapid.Int64Range(from, math.MaxInt64).Draw(t, name) }
	e := iot.Execution{
		Seq: number("seq", least), Job: number("job", least), Number: number("number", least),
		RetryAttempt: number("retry", 0), Version: number("version", least),
		JobID: iot.JobID(rapid.String().Draw(t, "job id")), Namespace: rapid.String().Draw(t, "namespace"),
		Status: rapid.SampledFrom(statuses).Draw(t, "status"), ForceCanceled: rapid.Bool().Draw(t, "force"),
		QueuedAt: iot.Time(number("queued", 0)), StartedAt: iot.Time(number("started", 0)), UpdatedAt: iot.Time(number("updated", 0)),
		ThingID: 7, Thing: "pump",
	}
	if rapid.Bool().Draw(t, "timers") {
		e.Deadline, e.StepDeadline = iot.Time(number("deadline", 0)), iot.Time(number("step deadline", 0))
	}
	if rapid.Bool().Draw(t, "retries") {
		e.FailedRetries, e.TimedOutRetries = number("failed retries", 0), number("timed out retries", 0)
		e.Before = rapid.SampledFrom([]iot.ExecutionStatus{iot.NoStatus, iot.Succeeded, iot.Failed, iot.TimedOut, iot.Rejected}).Draw(t, "before")
	}
	e.Windowed = rapid.Bool().Draw(t, "windowed")
	if d := rapid.MapOfN(rapid.String(), rapid.String(), 0, 10).Draw(t, "details"); len(d) > 0 {
		e.Details = d
	}
	return e
}

func TestQueueEncoding(t *testing.T) {
	t.Parallel()
	t.Run("any queue comes back", func(t *testing.T) {
		t.Parallel()
		rapid.Check(t, func(t *rapid.T) {
			entries := make([]iot.Execution, rapid.IntRange(0, 12).Draw(t, "n"))
			for i := range entries {
				entries[i] = executionOf(t, 1, iot.Queued, iot.InProgress)
			}
			body, err := appendQueue(nil, entries)
			if err != nil {
				t.Fatal(err)
			}
			have, err := decodeQueue(string(body), 7, "pump")
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(have, entries) {
				t.Fatalf("\n got %+v\nwant %+v", have, entries)
			}
			again, err := appendQueue(nil, have)
			if err != nil || string(again) != string(body) {
				t.Fatalf("encoded again: %x, %v; was %x", again, err, body)
			}
		})
	})
	t.Run("any recorded execution comes back", func(t *testing.T) {
		t.Parallel()
		rapid.Check(t, func(t *rapid.T) {
			e := executionOf(t, 0, iot.NoStatus, iot.Queued, iot.InProgress, iot.Succeeded, iot.Failed, iot.TimedOut, iot.Rejected, iot.Removed, iot.Canceled)
			body, err := appendRecord(nil, &e)
			if err != nil {
				t.Fatal(err)
			}
			have, err := decodeRecord(string(body), e.JobID)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(have, &e) {
				t.Fatalf("\n got %+v\nwant %+v", have, e)
			}
		})
	})
	// What has been written once must be readable for ever.
	t.Run("version 1", func(t *testing.T) {
		t.Parallel()
		entries := []iot.Execution{
			{Seq: 300, Job: 2, JobID: "job", Namespace: "ns", Number: 1, Status: iot.Queued, Version: 1, QueuedAt: 5, UpdatedAt: 6, ThingID: 7, Thing: "pump"},
			{Seq: 301, Job: 3, JobID: "j", Number: 4, RetryAttempt: 3, Status: iot.InProgress, Version: 2, QueuedAt: 7, StartedAt: 8, UpdatedAt: 9, ForceCanceled: true, Details: iot.Details{"b": "2", "a": "1"}, ThingID: 7, Thing: "pump"},
		}
		const want = "0102" + "ac0202010001050006" + "01" + "036a6f62" + "026e73" + "00" +
			"ad0203040302070809" + "82" + "016a" + "00" + "0201610131" + "01620132"
		body, err := appendQueue(nil, entries)
		if err != nil || hex.EncodeToString(body) != want {
			t.Fatalf("got %x, %v\nwant %s", body, err, want)
		}
	})
	t.Run("version 1 with timers and retries", func(t *testing.T) {
		t.Parallel()
		entries := []iot.Execution{
			{Seq: 300, Job: 2, JobID: "job", Number: 1, Status: iot.InProgress, Version: 2, StartedAt: 5, Deadline: 300, Windowed: true, ThingID: 7, Thing: "pump"},
			{Seq: 301, Job: 3, JobID: "j", Number: 4, Status: iot.Queued, Version: 1, FailedRetries: 2, TimedOutRetries: 1, Before: iot.TimedOut, Details: iot.Details{"a": "1"}, ThingID: 7, Thing: "pump"},
			{Seq: 302, Job: 4, JobID: "k", Number: 1, Status: iot.InProgress, Version: 3, StartedAt: 5, ForceCanceled: true, StepDeadline: 9, Before: iot.Failed, ThingID: 7, Thing: "pump"},
		}
		const want = "0103" + "ac0202010002000500" + "52" + "036a6f62" + "00" + "00" + "ac0200" +
			"ad0203040001000000" + "21" + "016a" + "00" + "0101610131" + "020105" +
			"ae0204010003000500" + "e2" + "016b" + "00" + "00" + "0009" + "000004"
		body, err := appendQueue(nil, entries)
		if err != nil || hex.EncodeToString(body) != want {
			t.Fatalf("got %x, %v\nwant %s", body, err, want)
		}
	})
}

// someQueue is a valid encoding with a bit of everything.
func someQueue(t testing.TB) string {
	body, err := appendQueue(nil, []iot.Execution{
		{Seq: 300, Job: 2, JobID: "job", Namespace: "ns", Number: 1, Status: iot.Queued, Version: 1, QueuedAt: 1_700_000_000_000, UpdatedAt: 1_700_000_000_000},
		{Seq: 301, Job: 2, JobID: "j", Number: 4, Status: iot.InProgress, Version: 2, StartedAt: 8, Details: iot.Details{"b": "2", "a": "1"}},
		{Seq: 302, Job: 3, JobID: "k", Number: 2, Status: iot.InProgress, Version: 2, StartedAt: 8, Deadline: 900, StepDeadline: 90, FailedRetries: 1, Before: iot.Failed, Windowed: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestQueueDecodingIsStrict(t *testing.T) {
	t.Parallel()
	valid := someQueue(t)
	if _, err := decodeQueue(valid, 7, "pump"); err != nil {
		t.Fatal(err)
	}
	for n := range len(valid) {
		if entries, err := decodeQueue(valid[:n], 7, "pump"); err == nil {
			t.Errorf("the first %d of %d bytes decode to %+v", n, len(valid), entries)
		}
	}
	one := "\x01\x01" + "\x01\x01\x01\x00\x01\x00\x00\x00" // one entry, up to its status
	for name, body := range map[string]string{
		"trailing byte":        valid + "\x00",
		"unknown version":      "\x02" + valid[1:],
		"count beyond the end": "\x01\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
		"number of 64 bits":    "\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
		"longer number":        "\x01\x81\x00" + one[2:] + "\x01\x00\x00\x00",
		"ended":                one + "\x03\x00\x00\x00",
		"no status":            one + "\x00\x00\x00\x00",
		"unknown status":       one + "\x7f\x00\x00\x00",
		"text beyond the end":  one + "\x01\x05ab",
		"details out of order": one + "\x01\x00\x00\x02" + "\x01b\x01x" + "\x01a\x01x",
		"details twice":        one + "\x01\x00\x00\x02" + "\x01a\x01x" + "\x01a\x01x",
		"timers of zero":       one + "\x41\x00\x00\x00" + "\x00\x00",
		"no timers":            one + "\x41\x00\x00\x00",
		"retries of zero":      one + "\x21\x00\x00\x00" + "\x00\x00\x00",
		"unknown before":       one + "\x21\x00\x00\x00" + "\x01\x00\x09",
		"version 0":            "\x01\x01" + "\x01\x01\x01\x00\x00\x00\x00\x00" + "\x01\x00\x00\x00",
	} {
		if entries, err := decodeQueue(body, 7, "pump"); err == nil {
			t.Errorf("%s: decodes to %+v", name, entries)
		}
	}
	if _, err := decodeQueue(one+"\x01\x00\x00\x00", 7, "pump"); err != nil {
		t.Errorf("the entry that the cases spoil: %v", err)
	}
}

func TestCorruptQueueNamesItsThing(t *testing.T) {
	t.Parallel()
	d := openInternal(t)
	things := []*iot.Thing{{Name: "pump-17", Version: 1}}
	if err := d.Update(t.Context(), insertThings(things)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.writer.exec(`INSERT INTO queues (thing_id, body) VALUES ($1, 'garbage')`, things[0].ID); err != nil {
		t.Fatal(err)
	}
	err := d.Update(t.Context(), func(tx storeTx) error {
		_, err := tx.Queues([]iot.ThingName{"pump-17"})
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "pump-17") {
		t.Fatalf("got %v", err)
	}
}

// FuzzDecodeQueue checks that no body makes decodeQueue panic, and that what it accepts is
// what appendQueue writes, byte by byte.
func FuzzDecodeQueue(f *testing.F) {
	f.Add(someQueue(f))
	f.Add("\x01\x00")
	f.Add("")
	f.Fuzz(func(t *testing.T, body string) {
		entries, err := decodeQueue(body, 7, "pump")
		if err != nil {
			return
		}
		again, err := appendQueue(nil, entries)
		if err != nil || string(again) != body {
			t.Fatalf("%x decodes to %+v, which encodes to %x, %v", body, entries, again, err)
		}
	})
}
