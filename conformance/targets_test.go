package conformance

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// Targets, and what a request to create a job may hold.

func itoa(n int) string { return fmt.Sprint(n) }

func asList(v any) []any {
	l, _ := v.([]any)
	return l
}

// executions lists the things of a job's executions, in order.
func (f *fleet) executions(id string) (things []string) {
	f.t.Helper()
	pages := iot.NewListJobExecutionsForJobPaginator(f.api, &iot.ListJobExecutionsForJobInput{JobId: &id})
	for pages.HasMorePages() {
		page, err := pages.NextPage(f.ctx)
		f.must(err)
		for _, e := range page.ExecutionSummaries {
			_, name, _ := strings.Cut(aws.ToString(e.ThingArn), ":thing/")
			things = append(things, name)
		}
	}
	return things
}

func (f *fleet) wantExecutions(id string, want ...string) {
	f.t.Helper()
	if got := f.executions(id); fmt.Sprint(got) != fmt.Sprint(want) {
		f.t.Errorf("executions on %v, want %v", got, want)
	}
}

func TestS055ThingInSeveralTargets(t *testing.T) {
	f := newFleet(t)
	a, b := f.thing("a"), f.thing("b")
	g := f.group("g", "", a, b)
	id := f.job("job", []string{f.groupARN(g), f.thingARN(b), f.thingARN(a)})
	f.wantExecutions(id, a, b)
	id = f.job("direct-first", []string{f.thingARN(b), f.groupARN(g)})
	f.wantExecutions(id, b, a)
}

func TestS056ChildGroups(t *testing.T) {
	f := newFleet(t)
	a, b, c := f.thing("a"), f.thing("b"), f.thing("c")
	top := f.group("top", "", a)
	middle := f.group("middle", top, b)
	f.group("bottom", middle, c)
	f.wantExecutions(f.job("job", []string{f.groupARN(top)}), a, b, c)
	f.wantExecutions(f.job("job2", []string{f.groupARN(middle)}), b, c)
}

func TestS057SnapshotIgnoresLaterMembers(t *testing.T) {
	f := newFleet(t)
	a, b := f.thing("a"), f.thing("b")
	g := f.group("g", "", a)
	id := f.job("job", []string{f.groupARN(g)})
	f.join(g, b)
	f.wantExecutions(id, a)
}

func TestS058S059S060ContinuousMembership(t *testing.T) {
	f := newFleet(t)
	a := f.thing("a")
	top := f.group("top", "")
	child := f.group("child", top)
	id := f.job("job", []string{f.groupARN(top)}, continuous)
	f.wantExecutions(id)

	f.join(child, a)
	f.eventually("the new member has its execution", func() bool { return len(f.executions(id)) == 1 })
	f.executionStatus(a, id, types.JobExecutionStatusQueued)

	f.leave(child, a)
	f.eventually("the execution is removed", func() bool { return f.execution(a, id).Status == types.JobExecutionStatusRemoved })
	if c := counters(f.describe(id)); c != [8]int32{7: 1} {
		t.Errorf("counters %v", c)
	}

	f.join(child, a)
	f.eventually("there is a new execution", func() bool { return aws.ToInt64(f.execution(a, id).ExecutionNumber) == 2 })
	f.executionStatus(a, id, types.JobExecutionStatusQueued)
	if c := counters(f.describe(id)); c != [8]int32{1} {
		t.Errorf("counters %v", c)
	}
}

// createFails sends a request that differs from a good one and returns the error.
func (f *fleet) createFails(change func(*iot.CreateJobInput)) error {
	f.t.Helper()
	in := &iot.CreateJobInput{JobId: aws.String(f.name("bad")), Document: aws.String(document), Targets: []string{f.thingARN(f.name("t"))}}
	change(in)
	_, err := f.api.CreateJob(f.ctx, in)
	return err
}

func TestS070ToS073BadTargets(t *testing.T) {
	f := newFleet(t)
	f.thing("t")
	many := make([]string, 101)
	for i := range many {
		many[i] = f.thingARN(f.thing("many-" + itoa(i)))
	}
	f.refused(f.createFails(func(in *iot.CreateJobInput) { in.Targets = many }), "LimitExceededException", 410)
	f.refused(f.createFails(func(in *iot.CreateJobInput) { in.Targets = []string{} }), "InvalidRequestException", 400)
	f.refused(f.createFails(func(in *iot.CreateJobInput) {
		in.Targets = []string{"arn:aws:iot:" + f.region + ":999999999999:thing/" + f.name("t")}
	}), "InvalidRequestException", 400)
	f.refused(f.createFails(func(in *iot.CreateJobInput) { in.Targets = []string{"not-an-arn"} }), "InvalidRequestException", 400)
	f.refused(f.createFails(func(in *iot.CreateJobInput) { in.Targets = []string{f.arn("policy", "p")} }), "InvalidRequestException", 400)
	f.refused(f.createFails(func(in *iot.CreateJobInput) { in.Targets = []string{f.thingARN(f.name("nobody"))} }), "ResourceNotFoundException", 404)
	f.refused(f.createFails(func(in *iot.CreateJobInput) { in.Targets = []string{f.groupARN(f.name("nobody"))} }), "ResourceNotFoundException", 404)
	if !f.gone(f.name("bad")) {
		t.Error("a refused job exists")
	}
}

func TestS074Counters(t *testing.T) {
	f := newFleet(t)
	var arns, things []string
	for i := range 7 {
		things = append(things, f.thing("t"+itoa(i)))
		arns = append(arns, f.thingARN(things[i]))
	}
	id := f.job("job", arns)
	f.startNext(things[1])
	f.finish(things[2], id, "SUCCEEDED")
	f.finish(things[3], id, "FAILED")
	f.finish(things[4], id, "REJECTED")
	f.must(f.cancelExecution(things[5], id))
	_, err := f.api.DeleteThing(f.ctx, &iot.DeleteThingInput{ThingName: &things[6]})
	f.must(err)
	if c := counters(f.describe(id)); c != [8]int32{1, 1, 1, 1, 1, 0, 1, 1} {
		t.Errorf("counters %v", c)
	}
	f.must(f.deleteExecution(things[3], id, 1, false))
	if c := counters(f.describe(id)); c != [8]int32{1, 1, 1, 0, 1, 0, 1, 1} {
		t.Errorf("after a deletion: counters %v", c)
	}
}

func TestS125S126S127Document(t *testing.T) {
	f := newFleet(t)
	f.thing("t")
	long := `{"k":"` + strings.Repeat("v", 32768) + `"}`
	for name, change := range map[string]func(*iot.CreateJobInput){
		"32769 bytes":    func(in *iot.CreateJobInput) { in.Document = aws.String(long[:32769-2] + `"}`) },
		"not JSON":       func(in *iot.CreateJobInput) { in.Document = aws.String("{bad") },
		"both sources":   func(in *iot.CreateJobInput) { in.DocumentSource = aws.String("https://s3.amazonaws.com/b/k") },
		"neither source": func(in *iot.CreateJobInput) { in.Document = nil },
	} {
		f.refused(f.createFails(change), "InvalidRequestException", 400)
		if !f.gone(f.name("bad")) {
			t.Errorf("%s: the job exists", name)
		}
	}
	fits := long[:32768-2] + `"}`
	id := f.job("fits", []string{f.thingARN(f.name("t"))}, func(in *iot.CreateJobInput) { in.Document = &fits })
	out, err := f.api.GetJobDocument(f.ctx, &iot.GetJobDocumentInput{JobId: &id})
	f.must(err)
	if aws.ToString(out.Document) != fits {
		t.Errorf("the document came back with %d bytes", len(aws.ToString(out.Document)))
	}
}

func TestS131ExpiresInSec(t *testing.T) {
	f := newFleet(t)
	f.thing("t")
	for _, seconds := range []int64{59, 3601} {
		f.refused(f.createFails(func(in *iot.CreateJobInput) {
			in.PresignedUrlConfig = &types.PresignedUrlConfig{ExpiresInSec: &seconds}
		}), "InvalidRequestException", 400)
	}
}

func TestS133DocumentParametersWithoutManagedTemplate(t *testing.T) {
	f := newFleet(t)
	f.thing("t")
	f.refused(f.createFails(func(in *iot.CreateJobInput) { in.DocumentParameters = map[string]string{"k": "v"} }), "InvalidRequestException", 400)
}

func TestS135DocumentIsKeptByteForByte(t *testing.T) {
	f := newFleet(t)
	odd := "{ \"b\" : 1.50,\n\t\"a\": \"\\u00e9é\", \"b\": [ \"${aws:iot:s3-presigned-url:s3://bucket\\/k}\" ] }  "
	id := f.job("job", []string{f.thingARN(f.thing("t"))}, withDocument(odd))
	for _, before := range []bool{true, false} {
		out, err := f.api.GetJobDocument(f.ctx, &iot.GetJobDocumentInput{JobId: &id, BeforeSubstitution: before})
		f.must(err)
		if aws.ToString(out.Document) != odd {
			t.Errorf("beforeSubstitution=%v: %q", before, aws.ToString(out.Document))
		}
	}
}
