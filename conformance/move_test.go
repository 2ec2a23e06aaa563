package conformance

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// A thing that moves from one group to another below the group that a continuous job
// targets is a member all the time: what it has done is not done again, what waits stays.
func TestMoveBelowTargetIsNoRejoin(t *testing.T) {
	f := newFleet(t)
	done, waiting := f.thing("done"), f.thing("waiting")
	top := f.group("top", "")
	here, there := f.group("here", top, done, waiting), f.group("there", top)
	id := f.job("job", []string{f.groupARN(top)}, continuous)
	f.finish(done, id, "SUCCEEDED")
	for _, thing := range []string{done, waiting} {
		_, err := f.api.UpdateThingGroupsForThing(f.ctx, &iot.UpdateThingGroupsForThingInput{
			ThingName: &thing, ThingGroupsToAdd: []string{there}, ThingGroupsToRemove: []string{here}})
		f.must(err)
	}
	f.executionStatus(done, id, types.JobExecutionStatusSucceeded)
	f.executionStatus(waiting, id, types.JobExecutionStatusQueued)
	f.wantExecutions(id, done, waiting)
}
