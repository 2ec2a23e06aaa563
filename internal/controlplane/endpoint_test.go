package controlplane_test

import (
	"context"
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsiot "github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"drover/internal/controlplane"
)

// TestDescribeEndpoint needs neither jobs nor a registry.
func TestDescribeEndpoint(t *testing.T) {
	t.Parallel()
	client := func(endpoints controlplane.Endpoints) *awsiot.Client {
		server := httptest.NewServer(controlplane.New(controlplane.Config{Realm: testRealm, Endpoints: endpoints}))
		t.Cleanup(server.Close)
		return awsiot.New(awsiot.Options{
			Region: testRealm.Region, BaseEndpoint: &server.URL, RetryMaxAttempts: 1,
			Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
				return aws.Credentials{AccessKeyID: "AKIATEST", SecretAccessKey: "secret"}, nil
			}),
		})
	}
	c := client(controlplane.Endpoints{Data: "mqtt.example:41883", Jobs: "https.example:48443"})
	for kind, want := range map[string]string{
		"": "mqtt.example:41883", "iot:Data": "mqtt.example:41883", "iot:Data-ATS": "mqtt.example:41883", "iot:Jobs": "https.example:48443",
	} {
		in := &awsiot.DescribeEndpointInput{}
		if kind != "" {
			in.EndpointType = &kind
		}
		out := call(t, c.DescribeEndpoint, in)
		if *out.EndpointAddress != want {
			t.Errorf("%q: got %s, want %s", kind, *out.EndpointAddress, want)
		}
	}
	for kind, text := range map[string]string{
		"iot:CredentialProvider": "drover has no credential provider", "iot:DeviceAdvisor": "endpointType", "lamp": "'lamp' at 'endpointType'",
	} {
		_, err := c.DescribeEndpoint(t.Context(), &awsiot.DescribeEndpointInput{EndpointType: &kind})
		wantRefusal[*types.InvalidRequestException](t, err, text)
	}
	_, err := client(controlplane.Endpoints{}).DescribeEndpoint(t.Context(), &awsiot.DescribeEndpointInput{EndpointType: aws.String("iot:Jobs")})
	wantRefusal[*types.InvalidRequestException](t, err, "no listener")
}
