package controlplane

import (
	"context"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"

	"drover/internal/auth"
	"drover/internal/iot"
)

// TestResources: no operation without the resources that it needs permission for.
func TestResources(t *testing.T) {
	t.Parallel()
	for _, op := range operations() {
		if len(op.resources) == 0 {
			t.Errorf("%s declares no resources", op.name)
		}
		for _, text := range op.resources {
			// Every member can be read, and an absent one names nothing, but for the index that is asked by default.
			arns := newResource(op.in, text).arns(realm, reflect.New(op.in).Elem())
			if want := text == "*" || text == "index/{indexName}"; want != (len(arns) == 1) {
				t.Errorf("%s: %s of nothing is %q", op.name, text, arns)
			}
		}
	}
}

func TestResourceARNs(t *testing.T) {
	t.Parallel()
	name, arn := "g", "arn:aws:iot:eu-west-1:123456789012:thing/t"
	membership := reflect.ValueOf(addThingToThingGroupRequest{membershipRequest: membershipRequest{ThingGroupName: &name, ThingArn: &arn}})
	certificate := reflect.ValueOf(describeCertificateRequest{CertificateID: strings.Repeat("AB", 32)})
	groups := reflect.ValueOf(updateThingGroupsForThingRequest{ThingGroupsToAdd: []string{"a", "b"}})
	for _, c := range []struct {
		in   reflect.Value
		text string
		want []string
	}{
		{membership, "*", []string{"*"}},
		{membership, "thinggroup/{thingGroupName}", []string{realm.ARN(iot.KindGroup, "g")}},
		{membership, "{thingArn}", []string{arn}},
		{membership, "thing/{thingName}", nil},
		{certificate, "cert/{certificateId}", []string{realm.ARN(iot.KindCert, strings.Repeat("ab", 32))}},
		{groups, "thinggroup/{thingGroupsToAdd}", []string{realm.ARN(iot.KindGroup, "a"), realm.ARN(iot.KindGroup, "b")}},
	} {
		if got := newResource(c.in.Type(), c.text).arns(realm, c.in); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.text, got, c.want)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a member that is not there is accepted")
		}
	}()
	newResource(membership.Type(), "job/{jobId}")
}

// TestPermission: the caller is asked for before anything is done, and told in AWS's words.
func TestPermission(t *testing.T) {
	t.Parallel()
	jobs := &engine{}
	var asked []string
	s := New(Config{Jobs: jobs, Realm: realm, Permit: func(_ context.Context, action string, resources ...string) error {
		asked = append([]string{action}, resources...)
		return &auth.Error{Code: auth.CodeAccessDenied, Status: 403, Message: "no"}
	}})
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/jobs/j", nil))
	if w.Code != 403 || w.Header().Get("X-Amzn-Errortype") != "AccessDeniedException" || !strings.Contains(w.Body.String(), `"message":"no"`) {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	if want := []string{"iot:DescribeJob", realm.ARN(iot.KindJob, "j")}; !slices.Equal(asked, want) || jobs.asked != nil {
		t.Errorf("asked for %q, and %v", asked, jobs.asked)
	}
}
