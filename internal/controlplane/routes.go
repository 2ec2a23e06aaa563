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
		op("AssociateTargetsWithJob", (*Server).associateTargetsWithJob),
		op("CancelJob", (*Server).cancelJob),
		op("CancelJobExecution", (*Server).cancelJobExecution),
		op("CreateJob", (*Server).createJob),
		op("DeleteJob", (*Server).deleteJob),
		op("DeleteJobExecution", (*Server).deleteJobExecution),
		op("DescribeJob", (*Server).describeJob),
		op("DescribeJobExecution", (*Server).describeJobExecution),
		op("GetJobDocument", (*Server).getJobDocument),
		op("ListJobExecutionsForJob", (*Server).listJobExecutionsForJob),
		op("ListJobExecutionsForThing", (*Server).listJobExecutionsForThing),
		op("ListJobs", (*Server).listJobs),
		op("UpdateJob", (*Server).updateJob),
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
			wire.Handle(s.service, name, func(ctx context.Context, in *In) (*Out, error) { return handle(s, ctx, in) })
		},
	}
}
