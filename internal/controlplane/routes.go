package controlplane

import (
	"context"
	"reflect"

	"drover/internal/wire"
)

// operations lists all operations that are served. The others of the service are answered by
// package wire with an error that names them.
func operations() []operation {
	return []operation{
		op("AddThingToThingGroup", (*Server).addThingToThingGroup),
		op("AssociateTargetsWithJob", (*Server).associateTargetsWithJob),
		op("CancelJob", (*Server).cancelJob),
		op("CancelJobExecution", (*Server).cancelJobExecution),
		op("CreateJob", (*Server).createJob),
		op("CreateJobTemplate", (*Server).createJobTemplate),
		op("CreateThing", (*Server).createThing),
		op("CreateThingGroup", (*Server).createThingGroup),
		op("CreateThingType", (*Server).createThingType),
		op("DeleteJob", (*Server).deleteJob),
		op("DeleteJobExecution", (*Server).deleteJobExecution),
		op("DeleteJobTemplate", (*Server).deleteJobTemplate),
		op("DeleteThing", (*Server).deleteThing),
		op("DeleteThingGroup", (*Server).deleteThingGroup),
		op("DeleteThingType", (*Server).deleteThingType),
		op("DeprecateThingType", (*Server).deprecateThingType),
		op("DescribeEndpoint", (*Server).describeEndpoint),
		op("DescribeEventConfigurations", (*Server).describeEventConfigurations),
		op("DescribeJob", (*Server).describeJob),
		op("DescribeJobExecution", (*Server).describeJobExecution),
		op("DescribeJobTemplate", (*Server).describeJobTemplate),
		op("DescribeManagedJobTemplate", (*Server).describeManagedJobTemplate),
		op("DescribeThing", (*Server).describeThing),
		op("DescribeThingGroup", (*Server).describeThingGroup),
		op("DescribeThingType", (*Server).describeThingType),
		op("GetJobDocument", (*Server).getJobDocument),
		op("ListJobExecutionsForJob", (*Server).listJobExecutionsForJob),
		op("ListJobExecutionsForThing", (*Server).listJobExecutionsForThing),
		op("ListJobTemplates", (*Server).listJobTemplates),
		op("ListJobs", (*Server).listJobs),
		op("ListManagedJobTemplates", (*Server).listManagedJobTemplates),
		op("ListTagsForResource", (*Server).listTagsForResource),
		op("ListThingGroups", (*Server).listThingGroups),
		op("ListThingGroupsForThing", (*Server).listThingGroupsForThing),
		op("ListThingTypes", (*Server).listThingTypes),
		op("ListThings", (*Server).listThings),
		op("ListThingsInThingGroup", (*Server).listThingsInThingGroup),
		op("RemoveThingFromThingGroup", (*Server).removeThingFromThingGroup),
		op("TagResource", (*Server).tagResource),
		op("UntagResource", (*Server).untagResource),
		op("UpdateEventConfigurations", (*Server).updateEventConfigurations),
		op("UpdateJob", (*Server).updateJob),
		op("UpdateThing", (*Server).updateThing),
		op("UpdateThingGroup", (*Server).updateThingGroup),
		op("UpdateThingGroupsForThing", (*Server).updateThingGroupsForThing),
		op("UpdateThingType", (*Server).updateThingType),
	}
}

// operation is one operation and what it takes and gives.
type operation struct {
	name     string
	in, out  reflect.Type // structs
	register func(*Server)
}

// op makes the entry of an operation. The name is that of the service's model.
func op[In, Out any](name string, handle func(*Server, context.Context, *In) (*Out, error)) operation {
	return operation{
		name: name,
		in:   reflect.TypeFor[In](),
		out:  reflect.TypeFor[Out](),
		register: func(s *Server) {
			wire.Handle(s.service, name, func(ctx context.Context, in *In) (*Out, error) {
				if err := s.admit(name); err != nil {
					return nil, err
				}
				return handle(s, ctx, in)
			})
		},
	}
}
