package controlplane_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsiot "github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"drover/internal/access"
	"drover/internal/controlplane"
	"drover/internal/engine"
	"drover/internal/iot"
	"drover/internal/registry"
	"drover/internal/store/sqlstore"
)

// fleet is a control plane over a real engine, registry and database, and the AWS SDK's
// client for it.
type fleet struct {
	*awsiot.Client
	engine   *engine.Engine
	registry *registry.Registry
	url      string
}

var testRealm = iot.Realm{Account: "123456789012", Region: "eu-west-1"}

func newFleet(t testing.TB) *fleet { return newFleetAt(t, time.Now) }

// newFleetAt returns a fleet in which it is always as late as now says.
func newFleetAt(t testing.TB, now func() time.Time) *fleet {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	db, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: filepath.Join(t.TempDir(), "drover.db"), Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	f := &fleet{}
	if f.engine, err = engine.New(engine.Config{Store: db, Realm: testRealm, Logger: log, Now: now, Poll: 10 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.engine.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("engine: %v", err)
		}
	})
	decider := access.New(access.Config{Store: db, Realm: testRealm, Logger: log, Now: now})
	f.registry = registry.New(registry.Config{Store: db, Jobs: f.engine, Realm: testRealm, Identities: decider, Now: now})

	server := httptest.NewServer(controlplane.New(controlplane.Config{Jobs: f.engine, Registry: f.registry, Permissions: decider, Realm: testRealm, Now: now, Logger: log}))
	t.Cleanup(server.Close)
	f.url = server.URL
	f.Client = awsiot.New(awsiot.Options{
		Region:           testRealm.Region,
		BaseEndpoint:     &server.URL,
		RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKIATEST", SecretAccessKey: "secret"}, nil
		}),
	})
	return f
}

// thing registers a thing and returns its ARN.
func (f *fleet) thing(t testing.TB, name string) string {
	t.Helper()
	if _, err := f.registry.CreateThing(t.Context(), iot.NewThing{Name: iot.ThingName(name)}); err != nil {
		t.Fatal(err)
	}
	return testRealm.ARN(iot.KindThing, name)
}

// group creates a group with new things as members, and returns its ARN.
func (f *fleet) group(t testing.TB, name string, members ...string) string {
	t.Helper()
	if _, err := f.registry.CreateGroup(t.Context(), iot.NewGroup{Name: iot.GroupName(name)}); err != nil {
		t.Fatal(err)
	}
	for _, m := range members {
		f.thing(t, m)
		f.join(t, m, name)
	}
	return testRealm.ARN(iot.KindGroup, name)
}

func (f *fleet) join(t testing.TB, thing, group string) {
	t.Helper()
	change := iot.MembershipChange{Thing: iot.ThingName(thing), Add: []iot.GroupName{iot.GroupName(group)}}
	if err := f.registry.ChangeGroups(t.Context(), change); err != nil {
		t.Fatal(err)
	}
}

// job creates a job and waits until it is rolled out.
func (f *fleet) job(t testing.TB, id string, selection types.TargetSelection, targets ...string) {
	t.Helper()
	_, err := f.CreateJob(t.Context(), &awsiot.CreateJobInput{JobId: &id, Targets: targets, Document: aws.String(`{"v":1}`), TargetSelection: selection})
	if err != nil {
		t.Fatal(err)
	}
	f.eventually(t, "job "+id+" is rolled out", func() bool { return !*f.describe(t, id).IsConcurrent })
}

func (f *fleet) describe(t testing.TB, id string) *types.Job {
	t.Helper()
	out, err := f.DescribeJob(t.Context(), &awsiot.DescribeJobInput{JobId: &id})
	if err != nil {
		t.Fatal(err)
	}
	return out.Job
}

func (f *fleet) execution(t testing.TB, thing, job string) *types.JobExecution {
	t.Helper()
	out, err := f.DescribeJobExecution(t.Context(), &awsiot.DescribeJobExecutionInput{ThingName: &thing, JobId: &job})
	if err != nil {
		t.Fatal(err)
	}
	return out.Execution
}

// report is what the device says of its execution.
func (f *fleet) report(t testing.TB, thing, job string, status iot.ExecutionStatus) {
	t.Helper()
	_, err := f.engine.Do(t.Context(), &iot.Request{Op: iot.OpUpdate, Thing: iot.ThingName(thing), JobID: iot.JobID(job), Status: status})
	if err != nil {
		t.Fatalf("%s reports %s: %v", thing, status, err)
	}
}

// eventually waits until ok says so.
func (f *fleet) eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// wantError checks that err came from the server with the exception and status.
func wantError(t testing.TB, err error, exception string, status int) {
	t.Helper()
	var coded interface{ ErrorCode() string }
	var response interface{ HTTPStatusCode() int }
	if !errors.As(err, &coded) || !errors.As(err, &response) {
		t.Fatalf("got %v, want %s", err, exception)
	}
	if coded.ErrorCode() != exception || response.HTTPStatusCode() != status {
		t.Errorf("got %d %s, want %d %s: %v", response.HTTPStatusCode(), coded.ErrorCode(), status, exception, err)
	}
}

func TestJobLifecycle(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	ctx := t.Context()
	const document = "{\n  \"v\": \"<1> & \\u00e9\"\n}"

	t.Run("a created job is described as it was created", func(t *testing.T) {
		t.Parallel()
		target := f.thing(t, "created")
		out, err := f.CreateJob(ctx, &awsiot.CreateJobInput{
			JobId: aws.String("created"), Targets: []string{target}, Document: aws.String(document), Description: aws.String("ä 1"),
			NamespaceId:                aws.String("ns"),
			PresignedUrlConfig:         &types.PresignedUrlConfig{RoleArn: aws.String("arn:aws:iam::123456789012:role/r"), ExpiresInSec: aws.Int64(90)},
			DestinationPackageVersions: []string{"arn:aws:iot:eu-west-1:123456789012:package/p/version/$null"},
			Tags:                       []types.Tag{{Key: aws.String("k"), Value: aws.String("v")}},
		})
		if err != nil {
			t.Fatal(err)
		}
		arn := testRealm.ARN(iot.KindJob, "created")
		if *out.JobArn != arn || *out.JobId != "created" || *out.Description != "ä 1" {
			t.Errorf("CreateJob answered %s %s %s", *out.JobArn, *out.JobId, *out.Description)
		}
		f.eventually(t, "it is rolled out", func() bool { return !*f.describe(t, "created").IsConcurrent })
		j := f.describe(t, "created")
		if *j.JobArn != arn || j.Status != types.JobStatusInProgress || j.TargetSelection != types.TargetSelectionSnapshot || *j.ForceCanceled ||
			!slices.Equal(j.Targets, []string{target}) || *j.Description != "ä 1" || *j.NamespaceId != "ns" ||
			*j.PresignedUrlConfig.ExpiresInSec != 90 || len(j.DestinationPackageVersions) != 1 {
			t.Errorf("DescribeJob answered %+v", j)
		}
		if j.CompletedAt != nil || j.ReasonCode != nil || j.Comment != nil || j.JobProcessDetails.ProcessingTargets != nil {
			t.Errorf("members that have no value are there: %+v", j)
		}
		if since := time.Since(*j.CreatedAt); since < 0 || since > time.Hour {
			t.Errorf("createdAt is %v", j.CreatedAt)
		}
		doc, err := f.GetJobDocument(ctx, &awsiot.GetJobDocumentInput{JobId: aws.String("created"), BeforeSubstitution: true})
		if err != nil || *doc.Document != document {
			t.Errorf("GetJobDocument answered %v, %v, want %q", doc, err, document)
		}
		x := f.execution(t, "created", "created")
		if x.Status != types.JobExecutionStatusQueued || x.VersionNumber != 1 || *x.ExecutionNumber != 1 || x.StartedAt != nil || *x.ForceCanceled ||
			*x.ThingArn != target || x.StatusDetails != nil {
			t.Errorf("DescribeJobExecution answered %+v", x)
		}
	})
	t.Run("a snapshot job is COMPLETED when all its executions have ended", func(t *testing.T) {
		t.Parallel()
		f.job(t, "ends", types.TargetSelectionSnapshot, f.group(t, "ends", "ends-1", "ends-2", "ends-3"))
		f.report(t, "ends-1", "ends", iot.Succeeded)
		f.report(t, "ends-2", "ends", iot.Failed)
		if j := f.describe(t, "ends"); j.Status != types.JobStatusInProgress {
			t.Errorf("with one execution left the job is %s", j.Status)
		}
		if _, err := f.CancelJobExecution(ctx, &awsiot.CancelJobExecutionInput{JobId: aws.String("ends"), ThingName: aws.String("ends-3")}); err != nil {
			t.Fatal(err)
		}
		j := f.describe(t, "ends")
		if d := j.JobProcessDetails; j.Status != types.JobStatusCompleted || j.CompletedAt == nil ||
			*d.NumberOfSucceededThings != 1 || *d.NumberOfFailedThings != 1 || *d.NumberOfCanceledThings != 1 || *d.NumberOfQueuedThings != 0 {
			t.Errorf("at the end it is %s %v %+v", j.Status, j.CompletedAt, d)
		}
		_, err := f.CancelJob(ctx, &awsiot.CancelJobInput{JobId: aws.String("ends")})
		wantError(t, err, "InvalidRequestException", 400)
		_, err = f.UpdateJob(ctx, &awsiot.UpdateJobInput{JobId: aws.String("ends"), Description: aws.String("d")})
		wantError(t, err, "InvalidRequestException", 400)
		if _, err := f.DeleteJob(ctx, &awsiot.DeleteJobInput{JobId: aws.String("ends")}); err != nil {
			t.Errorf("delete of a completed job: %v", err)
		}
	})
	t.Run("an empty snapshot job is COMPLETED with all counters 0", func(t *testing.T) {
		t.Parallel()
		f.job(t, "empty", types.TargetSelectionSnapshot, f.group(t, "empty"))
		f.eventually(t, "it is COMPLETED", func() bool { return f.describe(t, "empty").Status == types.JobStatusCompleted })
		d := f.describe(t, "empty").JobProcessDetails
		for i, n := range []*int32{d.NumberOfCanceledThings, d.NumberOfFailedThings, d.NumberOfInProgressThings, d.NumberOfQueuedThings,
			d.NumberOfRejectedThings, d.NumberOfRemovedThings, d.NumberOfSucceededThings, d.NumberOfTimedOutThings} {
			if n == nil || *n != 0 {
				t.Errorf("counter %d is %v, want 0", i, n)
			}
		}
	})
	t.Run("a continuous job stays IN_PROGRESS", func(t *testing.T) {
		t.Parallel()
		f.job(t, "on", types.TargetSelectionContinuous, f.group(t, "on", "on-1"))
		f.report(t, "on-1", "on", iot.Succeeded)
		if j := f.describe(t, "on"); j.Status != types.JobStatusInProgress || *j.JobProcessDetails.NumberOfSucceededThings != 1 {
			t.Errorf("it is %s with %+v", j.Status, j.JobProcessDetails)
		}
		f.thing(t, "on-2")
		f.join(t, "on-2", "on")
		if x := f.execution(t, "on-2", "on"); x.Status != types.JobExecutionStatusQueued {
			t.Errorf("who joined has %s", x.Status)
		}
	})
	t.Run("cancel spares what is in progress, cancel with force does not", func(t *testing.T) {
		t.Parallel()
		f.job(t, "stop", types.TargetSelectionContinuous, f.group(t, "stop", "stop-1", "stop-2", "stop-3"))
		f.report(t, "stop-2", "stop", iot.InProgress)
		f.report(t, "stop-3", "stop", iot.Succeeded)
		out, err := f.CancelJob(ctx, &awsiot.CancelJobInput{JobId: aws.String("stop"), ReasonCode: aws.String("R_1"), Comment: aws.String("why")})
		if err != nil || *out.JobId != "stop" || *out.JobArn != testRealm.ARN(iot.KindJob, "stop") {
			t.Fatalf("CancelJob answered %+v, %v", out, err)
		}
		f.eventually(t, "it is canceled", func() bool { return !*f.describe(t, "stop").IsConcurrent })
		j := f.describe(t, "stop")
		if d := j.JobProcessDetails; j.Status != types.JobStatusCanceled || *j.ForceCanceled || *j.ReasonCode != "R_1" || *j.Comment != "why" ||
			*d.NumberOfCanceledThings != 1 || *d.NumberOfInProgressThings != 1 || *d.NumberOfSucceededThings != 1 {
			t.Errorf("it is %+v with %+v", j, d)
		}
		if _, err := f.CancelJob(ctx, &awsiot.CancelJobInput{JobId: aws.String("stop"), Force: true}); err != nil {
			t.Fatal(err)
		}
		f.eventually(t, "it is canceled by force", func() bool { return !*f.describe(t, "stop").IsConcurrent })
		if j := f.describe(t, "stop"); !*j.ForceCanceled || *j.JobProcessDetails.NumberOfCanceledThings != 2 {
			t.Errorf("it is %+v with %+v", j, j.JobProcessDetails)
		}
		if x := f.execution(t, "stop-2", "stop"); x.Status != types.JobExecutionStatusCanceled || !*x.ForceCanceled {
			t.Errorf("what was in progress is %s, forced: %t", x.Status, *x.ForceCanceled)
		}
	})
	t.Run("an active job is deleted by force only, and its id can be used again", func(t *testing.T) {
		t.Parallel()
		target := f.thing(t, "again")
		f.job(t, "again", types.TargetSelectionSnapshot, target)
		_, err := f.DeleteJob(ctx, &awsiot.DeleteJobInput{JobId: aws.String("again")})
		wantError(t, err, "InvalidStateTransitionException", 409)
		if _, err := f.DeleteJob(ctx, &awsiot.DeleteJobInput{JobId: aws.String("again"), Force: true}); err != nil {
			t.Fatal(err)
		}
		f.eventually(t, "it is gone", func() bool {
			_, err := f.DescribeJob(ctx, &awsiot.DescribeJobInput{JobId: aws.String("again")})
			var gone *types.ResourceNotFoundException
			return errors.As(err, &gone)
		})
		f.job(t, "again", types.TargetSelectionSnapshot, target)
	})
	t.Run("an existing job id is refused with the job", func(t *testing.T) {
		t.Parallel()
		target := f.thing(t, "twice")
		f.job(t, "twice", types.TargetSelectionSnapshot, target)
		_, err := f.CreateJob(ctx, &awsiot.CreateJobInput{JobId: aws.String("twice"), Targets: []string{target}, Document: aws.String("{}")})
		wantError(t, err, "ResourceAlreadyExistsException", 409)
		var exists *types.ResourceAlreadyExistsException
		if !errors.As(err, &exists) || *exists.ResourceId != "twice" || *exists.ResourceArn != testRealm.ARN(iot.KindJob, "twice") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("an update replaces what it names", func(t *testing.T) {
		t.Parallel()
		f.job(t, "update", types.TargetSelectionSnapshot, f.thing(t, "update"))
		for _, in := range []awsiot.UpdateJobInput{
			{Description: aws.String("new")},
			{PresignedUrlConfig: &types.PresignedUrlConfig{ExpiresInSec: aws.Int64(60)}},
		} {
			in.JobId = aws.String("update")
			if _, err := f.UpdateJob(ctx, &in); err != nil {
				t.Fatal(err)
			}
		}
		if j := f.describe(t, "update"); *j.Description != "new" || *j.PresignedUrlConfig.ExpiresInSec != 60 || j.LastUpdatedAt.Before(*j.CreatedAt) {
			t.Errorf("it is %+v", j)
		}
	})
	t.Run("groups can be added to a continuous job", func(t *testing.T) {
		t.Parallel()
		f.job(t, "more", types.TargetSelectionContinuous, f.group(t, "more-1", "more-a"))
		second := f.group(t, "more-2", "more-b")
		if _, err := f.AssociateTargetsWithJob(ctx, &awsiot.AssociateTargetsWithJobInput{JobId: aws.String("more"), Targets: []string{second}, Comment: aws.String("c")}); err != nil {
			t.Fatal(err)
		}
		f.eventually(t, "it is rolled out", func() bool { return !*f.describe(t, "more").IsConcurrent })
		if j := f.describe(t, "more"); len(j.Targets) != 2 || *j.Comment != "c" {
			t.Errorf("it is %+v", j)
		}
		if x := f.execution(t, "more-b", "more"); x.Status != types.JobExecutionStatusQueued {
			t.Errorf("the member of the new group has %s", x.Status)
		}
		var many []string
		for i := range 99 {
			many = append(many, f.group(t, fmt.Sprintf("more-many-%d", i)))
		}
		_, err := f.AssociateTargetsWithJob(ctx, &awsiot.AssociateTargetsWithJobInput{JobId: aws.String("more"), Targets: many})
		wantError(t, err, "LimitExceededException", 410)

		f.job(t, "more-not", types.TargetSelectionSnapshot, f.thing(t, "more-not"))
		_, err = f.AssociateTargetsWithJob(ctx, &awsiot.AssociateTargetsWithJobInput{JobId: aws.String("more-not"), Targets: []string{second}})
		wantError(t, err, "InvalidRequestException", 400)
	})
}

func TestCreateJobErrors(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	target := f.thing(t, "t")
	for _, c := range []struct {
		name, exception string
		status          int
		change          func(*awsiot.CreateJobInput)
	}{
		{"thing that does not exist", "ResourceNotFoundException", 404, func(in *awsiot.CreateJobInput) { in.Targets = []string{target + "-not"} }},
		{"group that does not exist", "ResourceNotFoundException", 404, func(in *awsiot.CreateJobInput) { in.Targets = []string{testRealm.ARN(iot.KindGroup, "not")} }},
		{"target of another account", "InvalidRequestException", 400, func(in *awsiot.CreateJobInput) {
			in.Targets = []string{"arn:aws:iot:eu-west-1:999999999999:thing/t"}
		}},
		{"target that is no ARN", "InvalidRequestException", 400, func(in *awsiot.CreateJobInput) { in.Targets = []string{"t"} }},
		{"no targets", "InvalidRequestException", 400, func(in *awsiot.CreateJobInput) { in.Targets = []string{} }},
		{"101 targets", "LimitExceededException", 410, func(in *awsiot.CreateJobInput) {
			for i := range 100 {
				in.Targets = append(in.Targets, f.group(t, fmt.Sprintf("g-%d", i)))
			}
		}},
		{"document that is not JSON", "InvalidRequestException", 400, func(in *awsiot.CreateJobInput) { in.Document = aws.String("{") }},
		{"empty document", "InvalidRequestException", 400, func(in *awsiot.CreateJobInput) { in.Document = aws.String("") }},
		{"document that is no object", "InvalidRequestException", 400, func(in *awsiot.CreateJobInput) { in.Document = aws.String("[]") }},
		{"document with a placeholder", "InvalidRequestException", 400, func(in *awsiot.CreateJobInput) {
			in.Document = aws.String(`{"u":"${aws:iot:s3-presigned-url:https://s3.amazonaws.com/b/k}"}`)
		}},
		{"document with too many bytes", "InvalidRequestException", 400, func(in *awsiot.CreateJobInput) {
			in.Document = aws.String(`{"k":"` + string(slices.Repeat([]byte("é"), 16384)) + `"}`)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			in := &awsiot.CreateJobInput{JobId: aws.String("j"), Targets: []string{target}, Document: aws.String("{}")}
			c.change(in)
			_, err := f.CreateJob(t.Context(), in)
			wantError(t, err, c.exception, c.status)
		})
	}
}

func TestExecutionLifecycle(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	ctx := t.Context()
	cancel := func(thing string, change func(*awsiot.CancelJobExecutionInput)) error {
		in := &awsiot.CancelJobExecutionInput{JobId: aws.String("j"), ThingName: &thing}
		if change != nil {
			change(in)
		}
		_, err := f.CancelJobExecution(ctx, in)
		return err
	}
	force := func(in *awsiot.CancelJobExecutionInput) { in.Force = true }
	remove := func(thing string, number int64, force bool) error {
		_, err := f.DeleteJobExecution(ctx, &awsiot.DeleteJobExecutionInput{JobId: aws.String("j"), ThingName: &thing, ExecutionNumber: &number, Force: force})
		return err
	}
	things := []string{"queued", "running", "forced", "ended", "version", "details", "delete-queued", "delete-running", "delete-ended"}
	f.job(t, "j", types.TargetSelectionContinuous, f.group(t, "g", things...))

	t.Run("cancel what is QUEUED", func(t *testing.T) {
		t.Parallel()
		if err := cancel("queued", nil); err != nil {
			t.Fatal(err)
		}
		if x := f.execution(t, "queued", "j"); x.Status != types.JobExecutionStatusCanceled || x.VersionNumber != 2 || *x.ForceCanceled || x.StartedAt != nil {
			t.Errorf("it is %+v", x)
		}
	})
	t.Run("cancel what is IN_PROGRESS", func(t *testing.T) {
		t.Parallel()
		f.report(t, "running", "j", iot.InProgress)
		wantError(t, cancel("running", nil), "InvalidStateTransitionException", 409)
		if err := cancel("running", force); err != nil {
			t.Fatal(err)
		}
		if x := f.execution(t, "running", "j"); x.Status != types.JobExecutionStatusCanceled || !*x.ForceCanceled || x.StartedAt == nil {
			t.Errorf("it is %+v", x)
		}
		_, err := f.engine.Do(ctx, &iot.Request{Op: iot.OpUpdate, Thing: "running", JobID: "j", Status: iot.Succeeded})
		if iot.ErrorCode(err) != iot.InvalidStateTransition {
			t.Errorf("the device is told %v", err)
		}
	})
	t.Run("cancel what has ended", func(t *testing.T) {
		t.Parallel()
		f.report(t, "ended", "j", iot.Succeeded)
		wantError(t, cancel("ended", force), "InvalidStateTransitionException", 409)
	})
	t.Run("cancel with the wrong version", func(t *testing.T) {
		t.Parallel()
		f.report(t, "version", "j", iot.InProgress)
		err := cancel("version", func(in *awsiot.CancelJobExecutionInput) { in.Force, in.ExpectedVersion = true, aws.Int64(1) })
		wantError(t, err, "VersionConflictException", 409)
	})
	t.Run("cancel with details", func(t *testing.T) {
		t.Parallel()
		bad := cancel("details", func(in *awsiot.CancelJobExecutionInput) { in.StatusDetails = map[string]string{"a b": "v"} })
		wantError(t, bad, "InvalidRequestException", 400)
		err := cancel("details", func(in *awsiot.CancelJobExecutionInput) { in.StatusDetails = map[string]string{"k": "v\n"} })
		if err != nil {
			t.Fatal(err)
		}
		if d := f.execution(t, "details", "j").StatusDetails; d == nil || len(d.DetailsMap) != 1 || d.DetailsMap["k"] != "v\n" {
			t.Errorf("they are %+v", d)
		}
	})
	t.Run("delete", func(t *testing.T) {
		t.Parallel()
		f.report(t, "delete-running", "j", iot.InProgress)
		f.report(t, "delete-ended", "j", iot.Rejected)
		wantError(t, remove("delete-queued", 2, false), "ResourceNotFoundException", 404)
		wantError(t, remove("delete-queued", 0, true), "ResourceNotFoundException", 404)
		wantError(t, remove("delete-running", 1, false), "InvalidStateTransitionException", 409)
		for thing, force := range map[string]bool{"delete-queued": false, "delete-running": true, "delete-ended": false} {
			if err := remove(thing, 1, force); err != nil {
				t.Errorf("%s: %v", thing, err)
			}
			_, err := f.DescribeJobExecution(ctx, &awsiot.DescribeJobExecutionInput{JobId: aws.String("j"), ThingName: &thing})
			wantError(t, err, "ResourceNotFoundException", 404)
		}
	})
	t.Run("a deleted thing's execution is REMOVED", func(t *testing.T) {
		t.Parallel()
		f.job(t, "removed", types.TargetSelectionSnapshot, f.thing(t, "removed"))
		if err := f.registry.DeleteThing(ctx, iot.ThingDeletion{Name: "removed"}); err != nil {
			t.Fatal(err)
		}
		if d := f.describe(t, "removed").JobProcessDetails; *d.NumberOfRemovedThings != 1 || *d.NumberOfQueuedThings != 0 {
			t.Errorf("counters are %+v", d)
		}
		if x := f.execution(t, "removed", "removed"); x.Status != types.JobExecutionStatusRemoved {
			t.Errorf("it is %s", x.Status)
		}
	})
}

func TestLists(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	ctx := t.Context()
	group := f.group(t, "g", "a", "b", "c")
	alone := testRealm.ARN(iot.KindThing, "a")
	f.job(t, "one", types.TargetSelectionSnapshot, alone)
	f.job(t, "two", types.TargetSelectionContinuous, group)
	f.job(t, "three", types.TargetSelectionSnapshot, alone)
	if _, err := f.CancelJob(ctx, &awsiot.CancelJobInput{JobId: aws.String("three")}); err != nil {
		t.Fatal(err)
	}
	f.report(t, "a", "two", iot.Succeeded)
	g, _, err := f.registry.Group(ctx, "g")
	if err != nil {
		t.Fatal(err)
	}

	jobs := func(in *awsiot.ListJobsInput) (ids []string, pages int) {
		t.Helper()
		p := awsiot.NewListJobsPaginator(f.Client, in)
		for p.HasMorePages() {
			page, err := p.NextPage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			pages++
			for _, j := range page.Jobs {
				ids = append(ids, *j.JobId)
			}
		}
		return ids, pages
	}
	for _, c := range []struct {
		name  string
		in    awsiot.ListJobsInput
		want  []string
		pages int
	}{
		{"all, by status, then newest first", awsiot.ListJobsInput{}, []string{"two", "one", "three"}, 1},
		{"in pages of two", awsiot.ListJobsInput{MaxResults: aws.Int32(2)}, []string{"two", "one", "three"}, 2},
		{"in pages of one", awsiot.ListJobsInput{MaxResults: aws.Int32(1)}, []string{"two", "one", "three"}, 3},
		{"by status", awsiot.ListJobsInput{Status: types.JobStatusCanceled}, []string{"three"}, 1},
		{"by selection", awsiot.ListJobsInput{TargetSelection: types.TargetSelectionSnapshot}, []string{"one", "three"}, 1},
		{"by name of a group", awsiot.ListJobsInput{ThingGroupName: aws.String("g")}, []string{"two"}, 1},
		{"by id of a group", awsiot.ListJobsInput{ThingGroupId: &g.UUID}, []string{"two"}, 1},
		{"by namespace", awsiot.ListJobsInput{NamespaceId: aws.String("ns")}, nil, 1},
	} {
		t.Run("jobs/"+c.name, func(t *testing.T) {
			if got, pages := jobs(&c.in); !slices.Equal(got, c.want) || pages != c.pages {
				t.Errorf("got %q in %d pages, want %q in %d", got, pages, c.want, c.pages)
			}
		})
	}
	t.Run("jobs/of a group have the group's id", func(t *testing.T) {
		for _, in := range []*awsiot.ListJobsInput{{ThingGroupName: aws.String("g")}, {ThingGroupId: &g.UUID}} {
			out, err := f.ListJobs(ctx, in)
			if err != nil || len(out.Jobs) != 1 || aws.ToString(out.Jobs[0].ThingGroupId) != g.UUID {
				t.Errorf("%+v, %v; want the id %s", out, err, g.UUID)
			}
		}
		out, err := f.ListJobs(ctx, &awsiot.ListJobsInput{})
		if err != nil || slices.ContainsFunc(out.Jobs, func(j types.JobSummary) bool { return j.ThingGroupId != nil }) {
			t.Errorf("without the filter: %+v, %v", out, err)
		}
	})
	t.Run("jobs/of a group that does not exist", func(t *testing.T) {
		_, err := f.ListJobs(ctx, &awsiot.ListJobsInput{ThingGroupName: aws.String("not")})
		wantError(t, err, "ResourceNotFoundException", 404)
	})
	t.Run("jobs/the token of another list", func(t *testing.T) {
		first, err := f.ListJobs(ctx, &awsiot.ListJobsInput{MaxResults: aws.Int32(1)})
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.ListJobs(ctx, &awsiot.ListJobsInput{Status: types.JobStatusCanceled, NextToken: first.NextToken})
		wantError(t, err, "InvalidRequestException", 400)
	})
	t.Run("executions of a job", func(t *testing.T) {
		var got []string
		p := awsiot.NewListJobExecutionsForJobPaginator(f.Client, &awsiot.ListJobExecutionsForJobInput{JobId: aws.String("two"), MaxResults: aws.Int32(2)})
		for p.HasMorePages() {
			page, err := p.NextPage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range page.ExecutionSummaries {
				got = append(got, fmt.Sprint(*x.ThingArn, " ", x.JobExecutionSummary.Status))
			}
		}
		slices.Sort(got)
		want := []string{testRealm.ARN(iot.KindThing, "a") + " SUCCEEDED", testRealm.ARN(iot.KindThing, "b") + " QUEUED", testRealm.ARN(iot.KindThing, "c") + " QUEUED"}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		out, err := f.ListJobExecutionsForJob(ctx, &awsiot.ListJobExecutionsForJobInput{JobId: aws.String("two"), Status: types.JobExecutionStatusSucceeded})
		if err != nil || len(out.ExecutionSummaries) != 1 || out.NextToken != nil {
			t.Errorf("by status: %+v, %v", out, err)
		}
		_, err = f.ListJobExecutionsForJob(ctx, &awsiot.ListJobExecutionsForJobInput{JobId: aws.String("not")})
		wantError(t, err, "ResourceNotFoundException", 404)
	})
	t.Run("executions on a thing", func(t *testing.T) {
		list := func(in *awsiot.ListJobExecutionsForThingInput) (got []string) {
			in.ThingName = aws.String("a")
			out, err := f.ListJobExecutionsForThing(ctx, in)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range out.ExecutionSummaries {
				if s := x.JobExecutionSummary; s.QueuedAt == nil || s.LastUpdatedAt == nil || *s.ExecutionNumber != 1 || *s.RetryAttempt != 0 {
					t.Errorf("summary %+v", s)
				}
				got = append(got, *x.JobId)
			}
			return got
		}
		for _, c := range []struct {
			name string
			in   awsiot.ListJobExecutionsForThingInput
			want []string
		}{
			{"newest first", awsiot.ListJobExecutionsForThingInput{}, []string{"three", "two", "one"}},
			{"by job", awsiot.ListJobExecutionsForThingInput{JobId: aws.String("two")}, []string{"two"}},
			{"by a job that does not exist", awsiot.ListJobExecutionsForThingInput{JobId: aws.String("not")}, nil},
			{"by status", awsiot.ListJobExecutionsForThingInput{Status: types.JobExecutionStatusCanceled}, []string{"three"}},
		} {
			if got := list(&c.in); !slices.Equal(got, c.want) {
				t.Errorf("%s: got %q, want %q", c.name, got, c.want)
			}
		}
		_, err := f.ListJobExecutionsForThing(ctx, &awsiot.ListJobExecutionsForThingInput{ThingName: aws.String("not")})
		wantError(t, err, "ResourceNotFoundException", 404)
	})
	t.Run("an execution by a number that it has not", func(t *testing.T) {
		for _, n := range []int64{0, 2, math.MaxInt64} {
			_, err := f.DescribeJobExecution(ctx, &awsiot.DescribeJobExecutionInput{ThingName: aws.String("a"), JobId: aws.String("one"), ExecutionNumber: &n})
			wantError(t, err, "ResourceNotFoundException", 404)
		}
	})
}
