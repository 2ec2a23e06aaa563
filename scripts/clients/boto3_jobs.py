"""Both planes of the jobs API through boto3, as a backend developer would use them.

The server is found by AWS's own variables (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, …), which
`drover env` prints. Exits with 0 if everything answers as AWS does.
"""
import json
import sys
import uuid

import boto3

iot = boto3.client("iot")
device = boto3.client("iot-jobs-data")

prefix = "boto3-" + uuid.uuid4().hex[:8]
thing, group, job = prefix + "-thing", prefix + "-group", prefix + "-job"


def refused(code, call, **arguments):
    try:
        call(**arguments)
    except iot.exceptions.ClientError as error:
        got = error.response["Error"]["Code"]
        assert got == code, f"{got}, not {code}"
        return error.response
    raise AssertionError(f"{call.__name__} did not fail with {code}")


arn = iot.create_thing(thingName=thing, attributePayload={"attributes": {"site": "north"}})["thingArn"]
iot.create_thing_group(thingGroupName=group)
iot.add_thing_to_thing_group(thingGroupName=group, thingName=thing)
group_arn = iot.describe_thing_group(thingGroupName=group)["thingGroupArn"]

refused("ResourceNotFoundException", iot.describe_job, jobId=job)
refused("InvalidRequestException", iot.create_job, jobId=job, targets=[arn], document="{bad")
iot.create_job(jobId=job, targets=[group_arn, arn], document=json.dumps({"operation": "update"}), targetSelection="CONTINUOUS")
response = refused("ResourceAlreadyExistsException", iot.create_job, jobId=job, targets=[arn], document="{}")
assert response["resourceId"] == job, response

pending = {"queuedJobs": []}
for _ in range(1000):
    pending = device.get_pending_job_executions(thingName=thing)
    if pending["queuedJobs"]:
        break
assert [e["jobId"] for e in pending["queuedJobs"]] == [job] and not pending["inProgressJobs"], pending

execution = device.start_next_pending_job_execution(thingName=thing, statusDetails={"step": "1"})["execution"]
assert execution["status"] == "IN_PROGRESS" and json.loads(execution["jobDocument"]) == {"operation": "update"}, execution
assert device.describe_job_execution(thingName=thing, jobId="$next")["execution"]["jobId"] == job
state = device.update_job_execution(
    thingName=thing, jobId=job, status="SUCCEEDED", expectedVersion=2, includeJobExecutionState=True)["executionState"]
assert state["status"] == "SUCCEEDED" and state["versionNumber"] == 3, state
try:
    device.describe_job_execution(thingName=thing, jobId=job)
    raise AssertionError("a terminal execution was described")
except device.exceptions.TerminalStateException:
    pass
assert "execution" not in device.start_next_pending_job_execution(thingName=thing)

details = iot.describe_job_execution(thingName=thing, jobId=job)["execution"]
assert details["status"] == "SUCCEEDED" and details["statusDetails"]["detailsMap"] == {"step": "1"}, details
assert iot.describe_job(jobId=job)["job"]["jobProcessDetails"]["numberOfSucceededThings"] == 1
names = [t["thingName"] for page in iot.get_paginator("list_things").paginate(attributeName="site", attributeValue="north") for t in page["things"]]
assert thing in names, names

iot.cancel_job(jobId=job, reasonCode="DONE", comment="the test is over")
iot.delete_job(jobId=job)
iot.delete_thing_group(thingGroupName=group)
iot.delete_thing(thingName=thing)
print("ok", file=sys.stderr)
