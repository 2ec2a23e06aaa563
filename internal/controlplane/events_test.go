package controlplane_test

import (
	"testing"

	awsiot "github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

func TestEventConfigurations(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	ctx := t.Context()
	update := func(c map[string]types.Configuration) error {
		_, err := f.UpdateEventConfigurations(ctx, &awsiot.UpdateEventConfigurationsInput{EventConfigurations: c})
		return err
	}
	before := call(t, f.DescribeEventConfigurations, &awsiot.DescribeEventConfigurationsInput{})
	if len(before.EventConfigurations) != 11 || before.CreationDate != nil {
		t.Errorf("at first: %+v", before)
	}
	for kind, c := range before.EventConfigurations {
		if c.Enabled {
			t.Errorf("%s is on at first", kind)
		}
	}
	for _, c := range []map[string]types.Configuration{{"JOB": {Enabled: true}, "THING": {Enabled: true}}, {"THING": {}}} {
		if err := update(c); err != nil {
			t.Fatal(err)
		}
	}
	after := call(t, f.DescribeEventConfigurations, &awsiot.DescribeEventConfigurationsInput{})
	for kind, c := range after.EventConfigurations {
		if c.Enabled != (kind == "JOB") {
			t.Errorf("%s is %v", kind, c.Enabled)
		}
	}
	if after.CreationDate == nil || after.LastModifiedDate.Before(*after.CreationDate) {
		t.Errorf("created %v, modified %v", after.CreationDate, after.LastModifiedDate)
	}
	wantRefusal[*types.InvalidRequestException](t, update(map[string]types.Configuration{"LAMP": {}}), "eventConfigurations")
}
