"""A job whose document lies in S3 and points to a file there, through boto3 from end to end.

The server is found by AWS's own variables (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, …), which
`drover env` prints; its own object store is used. Exits with 0 if everything is as with AWS.
"""
import hashlib
import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid

import boto3
from botocore.config import Config

iot = boto3.client("iot")
device = boto3.client("iot-jobs-data")
s3 = boto3.client("s3", config=Config(signature_version="s3v4"))

prefix = "boto3-" + uuid.uuid4().hex[:8]
thing, job, bucket = prefix + "-thing", prefix + "-job", prefix + "-bucket"
role = "arn:aws:iam::123456789012:role/presign"


def refused(call, **arguments):
    try:
        call(**arguments)
    except iot.exceptions.InvalidRequestException as error:
        return error.response["Error"]["Message"]
    raise AssertionError("it was not refused: %s" % arguments)


def http(method, url, body=None, headers={}):
    """What a device does with a URL: it has no key."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method, data=body, headers=headers)) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


firmware = os.urandom(300_000)
s3.create_bucket(Bucket=bucket)
s3.put_object(Bucket=bucket, Key="fw/7 final.bin", Body=firmware)
arn = iot.create_thing(thingName=thing)["thingArn"]

# The document is an object, too, and is read once.
document = {
    "operation": "update",
    "files": [{
        "url": "${aws:iot:s3-presigned-url-v2:https://%s.s3.us-east-1.amazonaws.com/fw/7%%20final.bin}" % bucket,
        "sha256": hashlib.sha256(firmware).hexdigest(),
    }],
    "log": "${aws:iot:s3-presigned-url-upload:https://s3.us-east-1.amazonaws.com/%s/logs/${thingName}.txt}" % bucket,
}
s3.put_object(Bucket=bucket, Key="job.json", Body=json.dumps(document))
source = "https://s3.us-east-1.amazonaws.com/%s/job.json" % bucket
arguments = dict(jobId=job, targets=[arn], documentSource=source)

assert "roleArn is required" in refused(iot.create_job, **arguments)
assert "there is no object" in refused(iot.create_job, **dict(arguments, documentSource=source + "x"))
assert "neither a host of Amazon S3" in refused(iot.create_job, **dict(arguments, documentSource="http://169.254.169.254/latest/meta-data/"))
iot.create_job(presignedUrlConfig={"roleArn": role, "expiresInSec": 300}, **arguments)
s3.put_object(Bucket=bucket, Key="job.json", Body="{}")
assert iot.describe_job(jobId=job)["documentSource"] == source
assert json.loads(iot.get_job_document(jobId=job)["document"]) == document

execution = {}
for _ in range(1000):
    execution = device.start_next_pending_job_execution(thingName=thing).get("execution", {})
    if execution:
        break
delivered = json.loads(execution["jobDocument"])
url = delivered["files"][0]["url"]
assert "X-Amz-Expires=300" in url and bucket in url, url

status, body = http("GET", url)
assert status == 200 and hashlib.sha256(body).hexdigest() == delivered["files"][0]["sha256"], status
status, body = http("GET", url, headers={"Range": "bytes=299990-"})
assert status == 206 and body == firmware[299990:], status
status, _ = http("PUT", delivered["log"], b"it is installed")
assert status == 200, status
assert s3.get_object(Bucket=bucket, Key="logs/%s.txt" % thing)["Body"].read() == b"it is installed"

# Neither another object nor another time nor another method can be had with it.
for tampered in (url.replace("7%20final", "8%20final"), url.replace("X-Amz-Expires=300", "X-Amz-Expires=3000"), url[:-4] + "0000"):
    assert http("GET", tampered)[0] == 403, tampered
assert http("PUT", url, b"x")[0] == 403
assert http("GET", delivered["log"])[0] == 403

short = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "fw/7 final.bin"}, ExpiresIn=1)
deadline = time.monotonic() + 20
while http("GET", short)[0] != 403:
    assert time.monotonic() < deadline, "the URL does not expire"

iot.cancel_job(jobId=job, force=True)
iot.delete_job(jobId=job, force=True)
iot.delete_thing(thingName=thing)
for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]:
    s3.delete_object(Bucket=bucket, Key=entry["Key"])
s3.delete_bucket(Bucket=bucket)
print("ok", file=sys.stderr)
