package controlplane_test

import (
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsiot "github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

func TestTags(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	ctx := t.Context()
	arn, thing := f.group(t, "hall"), f.thing(t, "lamp")
	put := func(arn string, keys ...string) error {
		tags := make([]types.Tag, len(keys))
		for i := range keys {
			tags[i] = types.Tag{Key: &keys[i], Value: aws.String("v-" + keys[i])}
		}
		_, err := f.TagResource(ctx, &awsiot.TagResourceInput{ResourceArn: &arn, Tags: tags})
		return err
	}
	keys := func() (keys string) {
		t.Helper()
		for p := awsiot.NewListTagsForResourcePaginator(f, &awsiot.ListTagsForResourceInput{ResourceArn: &arn}); p.HasMorePages(); {
			for _, tag := range next(t, p.NextPage).Tags {
				keys += *tag.Key + "=" + *tag.Value + " "
			}
		}
		return keys
	}
	if err := put(arn, "b", "a", "ä b/c"); err != nil {
		t.Fatal(err)
	}
	if got := keys(); got != "a=v-a b=v-b ä b/c=v-ä b/c " {
		t.Errorf("got %q", got)
	}
	_, err := f.UntagResource(ctx, &awsiot.UntagResourceInput{ResourceArn: &arn, TagKeys: []string{"b", "ä b/c", "none"}})
	if err != nil {
		t.Fatal(err)
	}
	many := make([]string, 50)
	for i := range many {
		many[i] = fmt.Sprint(i)
	}
	wantRefusal[*types.LimitExceededException](t, put(arn, many...), "51")
	wantRefusal[*types.InvalidRequestException](t, put(arn, "aws:x"), "aws:")
	wantRefusal[*types.InvalidRequestException](t, put(arn, "x", "x"), "twice")
	wantRefusal[*types.InvalidRequestException](t, put(arn, "a!"), "tags")
	wantRefusal[*types.InvalidRequestException](t, put(thing, "x"), "thing")
	wantRefusal[*types.ResourceNotFoundException](t, put(testRealm.ARN("thinggroup", "none"), "x"), "none")
	if got := keys(); got != "a=v-a " {
		t.Errorf("got %q", got)
	}
}

func TestTagsOfJob(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	ctx := t.Context()
	arn := testRealm.ARN("job", "update")
	_, err := f.TagResource(ctx, &awsiot.TagResourceInput{ResourceArn: &arn, Tags: []types.Tag{{Key: aws.String("a"), Value: aws.String("1")}}})
	wantRefusal[*types.ResourceNotFoundException](t, err, "update")
	call(t, f.CreateJob, &awsiot.CreateJobInput{
		JobId: aws.String("update"), Targets: []string{f.thing(t, "lamp")}, Document: aws.String("{}"), Tags: []types.Tag{{Key: aws.String("a"), Value: aws.String("1")}},
	})
	list := call(t, f.ListTagsForResource, &awsiot.ListTagsForResourceInput{ResourceArn: &arn})
	if len(list.Tags) != 1 || *list.Tags[0].Key != "a" || *list.Tags[0].Value != "1" {
		t.Errorf("got %+v", list.Tags)
	}
}
