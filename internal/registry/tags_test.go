package registry

import (
	"fmt"
	"slices"
	"testing"

	"drover/internal/iot"
	"drover/internal/store"
)

func tagList(n int) []iot.Tag {
	tags := make([]iot.Tag, n)
	for i := range tags {
		tags[i] = iot.Tag{Key: fmt.Sprintf("k%03d", i), Value: "v"}
	}
	return tags
}

func (f *fixture) tags(arn string) []iot.Tag {
	f.t.Helper()
	tags, next, err := f.Tags(f.t.Context(), arn, iot.Page{Limit: 50})
	f.must(err)
	if next != "" {
		f.t.Fatalf("next page after %d tags", len(tags))
	}
	return tags
}

func TestTags(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{})
	ctx := t.Context()
	f.group("hall", "")
	f.thingType("light")
	f.must(f.store.Update(ctx, func(tx store.Tx) error {
		return tx.InsertJob(&iot.Job{JobID: "job", Status: iot.JobCompleted, Selection: iot.Snapshot, CreatedAt: 1, UpdatedAt: 1, CompletedAt: 1})
	}))
	for _, arn := range []string{realm.ARN(iot.KindGroup, "hall"), realm.ARN(iot.KindThingType, "light"), realm.ARN(iot.KindJob, "job")} {
		t.Run(arn, func(t *testing.T) {
			f := f.on(t)
			if tags := f.tags(arn); len(tags) != 0 {
				t.Fatalf("got %v", tags)
			}
			f.must(f.Tag(ctx, iot.Tagging{ARN: arn, Tags: []iot.Tag{{Key: "b", Value: "1"}, {Key: "a", Value: ""}, {Key: "A", Value: "2"}}}))
			f.must(f.Tag(ctx, iot.Tagging{ARN: arn, Tags: []iot.Tag{{Key: "b", Value: "3"}}}))
			if tags := f.tags(arn); !slices.Equal(tags, []iot.Tag{{Key: "A", Value: "2"}, {Key: "a"}, {Key: "b", Value: "3"}}) {
				t.Errorf("got %v", tags)
			}
			f.must(f.Untag(ctx, iot.Untagging{ARN: arn, Keys: []string{"A", "none"}}))
			f.must(f.Untag(ctx, iot.Untagging{ARN: arn}))
			if tags := f.tags(arn); !slices.Equal(tags, []iot.Tag{{Key: "a"}, {Key: "b", Value: "3"}}) {
				t.Errorf("got %v", tags)
			}
			page, next, err := f.Tags(ctx, arn, iot.Page{Limit: 1})
			f.must(err)
			rest, end, err := f.Tags(ctx, arn, iot.Page{Limit: 1, Cursor: next})
			f.must(err)
			if len(page) != 1 || page[0].Key != "a" || len(rest) != 1 || rest[0].Key != "b" || end != "" {
				t.Errorf("in pages: %v %v %q", page, rest, end)
			}
		})
	}
}

func TestTagLimit(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{})
	ctx := t.Context()
	f.group("hall", "")
	arn := realm.ARN(iot.KindGroup, "hall")
	f.must(f.Tag(ctx, iot.Tagging{ARN: arn, Tags: tagList(49)}))
	f.refused(f.Tag(ctx, iot.Tagging{ARN: arn, Tags: []iot.Tag{{Key: "x"}, {Key: "y"}}}), iot.LimitExceeded, "51")
	if tags := f.tags(arn); len(tags) != 49 {
		t.Fatalf("some of too many were added: %d", len(tags))
	}
	f.must(f.Tag(ctx, iot.Tagging{ARN: arn, Tags: append(tagList(49), iot.Tag{Key: "x"})})) // 49 of them exist
}

func TestTagRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Limits{})
	f.group("hall", "")
	f.thing("lamp")
	hall := realm.ARN(iot.KindGroup, "hall")
	for name, c := range map[string]struct {
		arn  string
		tags []iot.Tag
		code iot.Code
	}{
		"reserved":       {hall, []iot.Tag{{Key: "aws:x"}}, iot.InvalidRequest},
		"key twice":      {hall, []iot.Tag{{Key: "x"}, {Key: "x", Value: "1"}}, iot.InvalidRequest},
		"thing":          {realm.ARN(iot.KindThing, "lamp"), tagList(1), iot.InvalidRequest},
		"no ARN":         {"hall", tagList(1), iot.InvalidRequest},
		"other account":  {"arn:aws:iot:us-east-1:000000000000:thinggroup/hall", tagList(1), iot.InvalidRequest},
		"no such group":  {realm.ARN(iot.KindGroup, "none"), tagList(1), iot.NotFound},
		"no such type":   {realm.ARN(iot.KindThingType, "none"), tagList(1), iot.NotFound},
		"no such job":    {realm.ARN(iot.KindJob, "none"), tagList(1), iot.NotFound},
		"billing groups": {realm.ARN("billinggroup", "none"), tagList(1), iot.NotFound},
	} {
		t.Run(name, func(t *testing.T) {
			f := f.on(t)
			f.refused(f.Tag(t.Context(), iot.Tagging{ARN: c.arn, Tags: c.tags}), c.code)
			if c.arn == hall {
				return
			}
			f.refused(f.Untag(t.Context(), iot.Untagging{ARN: c.arn, Keys: []string{"k"}}), c.code)
			_, _, err := f.Tags(t.Context(), c.arn, iot.Page{Limit: 1})
			f.refused(err, c.code)
		})
	}
}
