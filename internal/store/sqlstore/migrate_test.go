package sqlstore

import (
	"encoding/hex"
	"errors"
	"path/filepath"
	"reflect"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"drover/internal/iot"
	"drover/internal/store"
)

// first01 is a database of version 1 as its program left it: a job in its rollout, one that
// has ended, a thing with an execution of each, what version 1 wrote for its queue, and two
// records, the second of which is not published.
const first01 = `
INSERT INTO things (id, name, uuid, type_name, attributes, version, created_at) VALUES (7, 'pump', 'u', '', '{}', 1, 5);
INSERT INTO jobs (id, job_id, status, selection, namespace, description, comment, reason_code, force_canceled,
		presigned, package_versions, created_at, updated_at, completed_at, phase, due_at, rollout_cursor, members) VALUES
	(2, 'rolling', 1, 'SNAPSHOT', 'ns', 'd', 'c', 'r', 0, '{"roleArn":"role","expiresInSec":60}', '["p"]', 5, 6, 0, 'rollout', 9, '{"target":1}', 3),
	(3, 'ended', 3, 'SNAPSHOT', '', '', '', '', 0, '', '', 5, 6, 8, '', 9, '{"target":1}', 3);
INSERT INTO job_documents (job, document) VALUES (2, '{}'), (3, '{}');
INSERT INTO job_targets (job, position, arn, thing_id, group_id) VALUES (2, 0, 'arn:pump', 7, 0), (3, 0, 'arn:pump', 7, 0);
INSERT INTO job_counts (job, queued, succeeded, failed, timed_out, rejected, canceled) VALUES (2, 1, 0, 0, 0, 0, 0), (3, 0, 1, 2, 3, 4, 5);
INSERT INTO executions (job, seq, thing_id, number, retry_attempt, status, version, force_canceled, queued_at, started_at, updated_at, details) VALUES
	(2, 300, 7, 1, 0, 1, 1, 0, 5, 0, 6, x''),
	(3, 200, 7, 1, 0, 3, 2, 0, 5, 6, 7, x'0101610131');
INSERT INTO journal (id, at, kind, actor, job_id, flags, body) VALUES (1, 5, 'job.created', 'key:K', 'rolling', 0, '{}'), (2, 6, 'job.completed', '', 'ended', 0, '');
UPDATE counters SET value = 1 WHERE name = 'published';
`

// oldQueue is the queue of the pump: the execution of the job that is rolling.
const oldQueue = "0101" + "ac0202010001050006" + "01" + "07726f6c6c696e67" + "026e73" + "00"

// TestMigrate opens a database of version 1 and finds everything where it belongs.
func TestMigrate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "drover.db")
	makeFirst(t, path)
	d, err := Open(t.Context(), Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	target := []iot.Target{{ARN: "arn:pump", ThingID: 7}}
	wantJobs := map[int64]*iot.Job{
		2: {
			ID: 2, JobID: "rolling", Status: iot.JobInProgress, Selection: iot.Snapshot, Namespace: "ns", Targets: target,
			Description: "d", Comment: "c", ReasonCode: "r", PackageVersions: []string{"p"},
			Config:    iot.JobConfig{Presigned: &iot.PresignedURLConfig{RoleARN: "role", ExpiresInSec: 60}},
			CreatedAt: 5, UpdatedAt: 6, Phase: iot.PhaseRollout, DueAt: 9, Cursor: iot.Cursor{Target: 1}, Members: 3,
			Counts: iot.Counts{iot.Queued: 1},
		},
		3: {
			ID: 3, JobID: "ended", Status: iot.JobCompleted, Selection: iot.Snapshot, Targets: target,
			CreatedAt: 5, UpdatedAt: 6, CompletedAt: 8, Cursor: iot.Cursor{Target: 1}, Members: 3,
			Counts:   iot.Counts{iot.Succeeded: 1, iot.Failed: 2, iot.TimedOut: 3, iot.Rejected: 4, iot.Canceled: 5},
			Executed: iot.Counts{iot.Succeeded: 1, iot.Failed: 2, iot.TimedOut: 3, iot.Rejected: 4},
		},
	}
	wantExecutions := []iot.Execution{
		{Seq: 300, Job: 2, JobID: "rolling", Namespace: "ns", ThingID: 7, Thing: "pump", Number: 1, Status: iot.Queued, Version: 1, QueuedAt: 5, UpdatedAt: 6},
		{Seq: 200, Job: 3, JobID: "ended", ThingID: 7, Thing: "pump", Number: 1, Status: iot.Succeeded, Version: 2, QueuedAt: 5, StartedAt: 6, UpdatedAt: 7, Details: iot.Details{"a": "1"}},
	}
	err = d.View(t.Context(), func(r store.Reader) error {
		jobs, err := r.JobsByID([]int64{2, 3})
		same(t, jobs, wantJobs)
		executions, e := r.ExecutionsOfThing(7, store.ThingFilter{}, 0, 10)
		same(t, executions, wantExecutions)
		queues, e2 := r.Queues([]iot.ThingName{"pump"})
		same(t, queues[0].Entries, wantExecutions[:1])
		due, e3 := r.DueJobs(1<<40, 10)
		same(t, due, []*iot.Job{wantJobs[2]})
		published, e4 := r.Published(store.FirstNode)
		left, e5 := r.Records(store.FirstNode, published, 10)
		same(t, left, []iot.Record{{ID: 2, At: 6, Kind: "job.completed", JobID: "ended"}})
		return errors.Join(err, e, e2, e3, e4, e5)
	})
	if err != nil {
		t.Fatal(err)
	}
	// What is written now goes on from there.
	err = d.Update(t.Context(), func(tx store.Tx) error {
		e := wantExecutions[0]
		e.To(iot.InProgress, 10)
		e.Deadline = 20
		return errors.Join(
			tx.SaveQueues([]iot.Queue{{ThingID: 7, Thing: "pump", Entries: []iot.Execution{e}}}),
			tx.UpdateExecutions([]iot.Execution{e}))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// makeFirst makes a database of version 1.
func makeFirst(t *testing.T, path string) {
	t.Helper()
	scripts, err := migrations("sqlite")
	if err != nil {
		t.Fatal(err)
	}
	c, err := sqlite.OpenConn(path, sqlite.OpenReadWrite, sqlite.OpenCreate)
	if err != nil {
		t.Fatal(err)
	}
	queue, err := hex.DecodeString(oldQueue)
	err = errors.Join(err,
		step(c, 1, scripts[0]),
		sqlitex.ExecuteScript(c, first01, nil),
		sqlitex.Execute(c, `INSERT INTO queues (thing_id, body) VALUES (7, ?)`, &sqlitex.ExecOptions{Args: []any{queue}}),
		c.Close())
	if err != nil {
		t.Fatal(err)
	}
}

func same(t *testing.T, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
}
