"""The software package catalog and the shadow $package by boto3: versions, a job that brings one, and what a thing says of it.

The server is found by AWS's own variables (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, …), which `drover env` prints. It switches
the package configuration on. Exits with 0 if everything is as with AWS.
"""
import io
import json
import time
import uuid
import zipfile

import boto3
from botocore.config import Config

TIMEOUT = 20

iot = boto3.client("iot")
data = boto3.client("iot-data")
jobs = boto3.client("iot-jobs-data")
s3 = boto3.client("s3", config=Config(signature_version="s3v4"))

prefix = "boto3-" + uuid.uuid4().hex[:8]
thing, package, bucket = prefix + "-thing", prefix + ".pkg", prefix + "-bucket"
target = iot.create_thing(thingName=thing)["thingArn"]


def until(what, condition):
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "waited in vain: " + what
        time.sleep(0.02)


def fails(code, call, **kwargs):
    try:
        call(**kwargs)
    except iot.exceptions.ClientError as e:
        assert e.response["Error"]["Code"] == code, e
        return e
    raise AssertionError(f"{code} expected")


arn = iot.create_package(packageName=package, description="what talks to us", tags={"team": "fleet"})["packageArn"]
assert iot.list_tags_for_resource(resourceArn=arn)["tags"] == [{"Key": "team", "Value": "fleet"}]
fails("ConflictException", iot.create_package, packageName=package)
for name in ("1.0", "2.0"):
    made = iot.create_package_version(packageName=package, versionName=name, attributes={"size": name + " MB", "only-" + name[0]: "x"})
    assert made["status"] == "DRAFT"
draft = made["packageVersionArn"]
fails("InvalidRequestException", iot.create_job, jobId=prefix + "-no", targets=[target], document="{}", destinationPackageVersions=[draft])
for name in ("1.0", "2.0"):
    iot.update_package_version(packageName=package, versionName=name, action="PUBLISH")
fails("ConflictException", iot.update_package_version, packageName=package, versionName="1.0", attributes={"size": "0"})
iot.update_package(packageName=package, defaultVersionName="1.0")
assert [p["defaultVersionName"] for p in iot.get_paginator("list_packages").paginate().search("packageSummaries[]") if p["packageName"] == package] == ["1.0"]
assert len(list(iot.get_paginator("list_package_versions").paginate(packageName=package, PaginationConfig={"PageSize": 1}).search("packageVersionSummaries[]"))) == 2

s3.create_bucket(Bucket=bucket)
archive = io.BytesIO()
with zipfile.ZipFile(archive, "w") as z:
    z.writestr("bom.json", json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.6"}))
s3.put_object(Bucket=bucket, Key="sbom.zip", Body=archive.getvalue())
iot.associate_sbom_with_package_version(packageName=package, versionName="1.0", sbom={"s3Location": {"bucket": bucket, "key": "sbom.zip"}})
until("the SBOM is valid", lambda: iot.get_package_version(packageName=package, versionName="1.0")["sbomValidationStatus"] == "SUCCEEDED")
assert iot.list_sbom_validation_results(packageName=package, versionName="1.0")["validationResultSummaries"][0]["fileName"] == "bom.json"

iot.update_package_configuration(versionUpdateByJobsConfig={"enabled": True})
assert iot.get_package_configuration()["versionUpdateByJobsConfig"]["enabled"]


def shadow():
    try:
        return json.load(data.get_thing_shadow(thingName=thing, shadowName="$package")["payload"])
    except data.exceptions.ResourceNotFoundException:
        return None


def brings(job, version):
    iot.create_job(jobId=job, targets=[target], destinationPackageVersions=[f"{arn}/version/{version}"],
                   document=json.dumps({"size": "${aws:iot:package::version::attributes:size}"} if version != "$null" else {}))
    until("the job is there", lambda: jobs.get_pending_job_executions(thingName=thing)["queuedJobs"])
    execution = jobs.start_next_pending_job_execution(thingName=thing)["execution"]
    jobs.update_job_execution(jobId=job, thingName=thing, status="SUCCEEDED")
    return json.loads(execution["jobDocument"])


assert shadow() is None
assert brings(prefix + "-1", "$default") == {"size": "1.0 MB"}
until("version 1.0 is noted", lambda: (shadow() or {"state": {}})["state"].get("reported", {}).get(package, {}).get("version") == "1.0")
iot.update_package(packageName=package, defaultVersionName="2.0")
assert iot.describe_job(jobId=prefix + "-1")["job"]["destinationPackageVersions"] == [f"{arn}/version/1.0"]
assert iot.describe_job(jobId=prefix + "-1", beforeSubstitution=True)["job"]["destinationPackageVersions"] == [f"{arn}/version/$default"]
assert brings(prefix + "-2", "$default") == {"size": "2.0 MB"}
until("version 2.0 is noted", lambda: shadow()["state"]["reported"][package] == {"version": "2.0", "attributes": {"size": "2.0 MB", "only-2": "x"}})
brings(prefix + "-3", "$null")
until("it is gone", lambda: package not in shadow()["state"].get("reported", {}))

version = shadow()["version"]
answer = json.load(data.update_thing_shadow(thingName=thing, shadowName="$package", payload=json.dumps({"state": {"desired": {package: {"version": "3"}}}, "version": version}))["payload"])
assert answer["version"] == version + 1
assert shadow()["state"]["delta"] == {package: {"version": "3"}}
fails("ConflictException", data.update_thing_shadow, thingName=thing, shadowName="$package", payload=json.dumps({"state": {}, "version": version}))
assert data.list_named_shadows_for_thing(thingName=thing)["results"] == ["$package"]
data.delete_thing_shadow(thingName=thing, shadowName="$package")
assert shadow() is None

fails("ValidationException", iot.delete_package_version, packageName=package, versionName="2.0")
iot.update_package(packageName=package, unsetDefaultVersion=True)
fails("ValidationException", iot.delete_package, packageName=package)
for name in ("1.0", "2.0"):
    iot.delete_package_version(packageName=package, versionName=name)
iot.delete_package(packageName=package)
fails("ResourceNotFoundException", iot.get_package, packageName=package)
