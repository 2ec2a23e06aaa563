package controlplane

import (
	"golang.org/x/time/rate"

	"drover/internal/iot"
)

// throttled lists the operations that have a rate of their own (spec §15.2).
var throttled = []string{
	"CreateJob", "CreateJobTemplate", "AssociateTargetsWithJob", "CancelJob", "CancelJobExecution", "DeleteJob",
	"DeleteJobExecution", "DeleteJobTemplate", "DescribeJob", "DescribeJobExecution", "DescribeJobTemplate",
	"GetJobDocument", "ListJobExecutionsForJob", "ListJobExecutionsForThing", "ListJobTemplates", "ListJobs", "UpdateJob",
}

func newThrottles(perSecond int) map[string]*rate.Limiter {
	limiters := make(map[string]*rate.Limiter)
	if perSecond > 0 {
		for _, name := range throttled {
			limiters[name] = rate.NewLimiter(rate.Limit(perSecond), perSecond)
		}
	}
	return limiters
}

// admit refuses a request that comes too fast.
func (s *Server) admit(operation string) error {
	if l := s.throttles[operation]; l != nil && !l.AllowN(s.now(), 1) {
		return iot.Errorf(iot.Throttled, "%s: more than %g requests a second", operation, float64(l.Limit()))
	}
	return nil
}
