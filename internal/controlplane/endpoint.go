package controlplane

import (
	"context"

	"drover/internal/iot"
)

// Endpoints are the addresses that devices are told. AWS answers with host names alone,
// because its ports are known; ours are not, so an address that is not on a standard port is
// host:port.
type Endpoints struct {
	Data string // where devices speak MQTT
	Jobs string // where devices speak HTTPS
}

// describeEndpointRequest is DescribeEndpointRequest (identity spec §1.2).
type describeEndpointRequest struct {
	EndpointType *string `json:"endpointType" in:"query" len:",128" pattern:"[\\s\\S]*"`
}

// describeEndpointResponse is DescribeEndpointResponse.
type describeEndpointResponse struct {
	EndpointAddress string `json:"endpointAddress"`
}

func (s *Server) describeEndpoint(_ context.Context, in *describeEndpointRequest) (*describeEndpointResponse, error) {
	address := ""
	switch kind := value(in.EndpointType); kind {
	case "", "iot:Data", "iot:Data-ATS":
		address = s.endpoints.Data
	case "iot:Jobs":
		address = s.endpoints.Jobs
	case "iot:CredentialProvider":
		return nil, iot.Errorf(iot.InvalidRequest, "drover has no credential provider and so no endpoint of the type iot:CredentialProvider")
	default:
		return nil, iot.Invalid("endpointType", kind, "Member must satisfy enum value set: [iot:Data, iot:Data-ATS, iot:Jobs, iot:CredentialProvider]")
	}
	if address == "" {
		return nil, iot.Errorf(iot.InvalidRequest, "This server has no listener for endpoints of the type %s", value(in.EndpointType))
	}
	return &describeEndpointResponse{EndpointAddress: address}, nil
}
