"""A device's firmware test that survives a maintenance window in a second.

Needs a server in test mode, found by AWS's own variables:

    drover serve --test &
    eval "$(drover env)"
    pytest test_firmware.py
"""
import datetime
import json
import os
import urllib.request

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

iot = boto3.client("iot")
jobs = boto3.client("iot-jobs-data")


def drover(method, path, body=None):
    """A signed request to drover itself."""
    request = AWSRequest(method, os.environ["AWS_ENDPOINT_URL"] + path, data=json.dumps(body).encode() if body else b"")
    session = boto3.Session()
    SigV4Auth(session.get_credentials(), "iot", session.region_name).add_auth(request)
    prepared = request.prepare()
    with urllib.request.urlopen(urllib.request.Request(prepared.url, prepared.body or None, dict(prepared.headers), method=method)) as answer:
        return json.load(answer)


def go_to(hour):
    """Moves the server's clock to the next such hour; what is due until then is done."""
    now = datetime.datetime.fromisoformat(drover("GET", "/_drover/clock")["now"][:19])
    at = now.replace(hour=hour, minute=0, second=1)
    if at <= now:
        at += datetime.timedelta(days=1)
    drover("POST", "/_drover/clock", {"set": at.isoformat() + "Z"})


@pytest.fixture
def pump():
    """A pump whose update may be installed from two to three in the morning."""
    drover("POST", "/_drover/reset")
    iot.create_thing(thingName="pump")
    group = iot.create_thing_group(thingGroupName="pumps")["thingGroupArn"]
    iot.add_thing_to_thing_group(thingGroupName="pumps", thingName="pump")
    iot.create_job(
        jobId="update", targets=[group], document='{"version":"7"}', targetSelection="CONTINUOUS",
        schedulingConfig={"maintenanceWindows": [{"startTime": "cron(0 2 * * ? *)", "durationInMinutes": 60}]},
        timeoutConfig={"inProgressTimeoutInMinutes": 240})
    go_to(1)
    return "pump"


def test_nothing_to_do_outside_of_the_window(pump):
    assert "execution" not in jobs.start_next_pending_job_execution(thingName=pump)


def test_update_that_outlasts_its_window(pump):
    go_to(2)
    execution = jobs.start_next_pending_job_execution(thingName=pump)["execution"]
    assert json.loads(execution["jobDocument"]) == {"version": "7"}
    drover("POST", "/_drover/clock", {"advance": "2h"})  # the window has closed
    jobs.update_job_execution(thingName=pump, jobId="update", status="SUCCEEDED")
    assert iot.describe_job_execution(thingName=pump, jobId="update")["execution"]["status"] == "SUCCEEDED"


def test_firmware_that_hangs_is_timed_out(pump):
    go_to(2)
    jobs.start_next_pending_job_execution(thingName=pump)
    drover("POST", "/_drover/clock", {"advance": "241m"})
    assert iot.describe_job_execution(thingName=pump, jobId="update")["execution"]["status"] == "TIMED_OUT"
