"""An update over the air and a command, made by boto3 and carried out by a device that is Eclipse Paho for Python (MQTT 5).

The server is found by AWS's own variables (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, …), which
`drover env` prints; DROVER_MQTT is the listener, mqtt://HOST:PORT; its own object store is used. Exits
with 0 if everything is as with AWS.
"""
import base64
import json
import os
import queue
import sys
import time
import uuid
from urllib.parse import urlparse

import boto3
import paho.mqtt.client as mqtt
from botocore.config import Config

TIMEOUT = 20

iot = boto3.client("iot")
starter = boto3.client("iot-jobs-data")
s3 = boto3.client("s3", config=Config(signature_version="s3v4"))

prefix = "boto3-" + uuid.uuid4().hex[:8]
thing, update, bucket, command = prefix + "-thing", prefix, prefix + "-bucket", prefix + "-command"
arn = iot.create_thing(thingName=thing)["thingArn"]
firmware = os.urandom(70_000)
s3.create_bucket(Bucket=bucket)
s3.put_object(Bucket=bucket, Key="fw.bin", Body=firmware)

messages, connected, subscribed = queue.Queue(), queue.Queue(), queue.Queue()
address = urlparse(os.environ["DROVER_MQTT"])
device = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=thing, protocol=mqtt.MQTTv5)
device.on_connect = lambda _c, _u, _f, code, _p: connected.put(code)
device.on_subscribe = lambda _c, _u, _m, codes, _p: subscribed.put(codes)
device.on_message = lambda _c, _u, m: messages.put(m)
device.connect(address.hostname, address.port, keepalive=60)
device.loop_start()
assert not connected.get(timeout=TIMEOUT).is_failure


def subscribe(*filters):
    device.subscribe([(f, mqtt.SubscribeOptions(qos=1)) for f in filters])
    assert all(code.value == 1 for code in subscribed.get(timeout=TIMEOUT))


def ask(topic, **payload):
    device.publish(topic, json.dumps(payload), qos=1).wait_for_publish(TIMEOUT)


def receive(topic):
    m = messages.get(timeout=TIMEOUT)
    assert m.topic == topic, (m.topic, m.payload)
    return m


# An update.
iot.create_ota_update(
    otaUpdateId=update, targets=[arn], roleArn="arn:aws:iam::123456789012:role/ota", protocols=["MQTT"],
    files=[{
        "fileName": "/fw.bin", "fileLocation": {"s3Location": {"bucket": bucket, "key": "fw.bin"}},
        "codeSigning": {"customCodeSigning": {
            "signature": {"inlineDocument": b"\x00\xff signature"}, "certificateChain": {"certificateName": "/sign.crt"},
            "hashAlgorithm": "SHA256", "signatureAlgorithm": "ECDSA"}}}])
deadline = time.monotonic() + TIMEOUT
while (info := iot.get_ota_update(otaUpdateId=update)["otaUpdateInfo"])["otaUpdateStatus"] != "CREATE_COMPLETE":
    assert info["otaUpdateStatus"] in ("CREATE_PENDING", "CREATE_IN_PROGRESS") and time.monotonic() < deadline, info
assert update in [u["otaUpdateId"] for page in iot.get_paginator("list_ota_updates").paginate() for u in page["otaUpdates"]]

jobs = "$aws/things/%s/jobs/" % thing
subscribe(jobs + "+/get/accepted", jobs + "+/update/accepted")
ask(jobs + "$next/get", clientToken="t")
execution = json.loads(receive(jobs + "$next/get/accepted").payload)["execution"]
ota = execution["jobDocument"]["afr_ota"]
file = ota["files"][0]
assert execution["jobId"] == info["awsIotJobId"] and file["filesize"] == len(firmware), execution
assert base64.b64decode(file["sig-sha256-ecdsa"]) == b"\x00\xff signature"
stream = "$aws/things/%s/streams/%s/" % (thing, ota["streamname"])
subscribe(stream + "data/json")
image, blocks = b"", -(-len(firmware) // 4096)
while len(image) < len(firmware):
    first = len(image) // 4096
    wanted = min(8, blocks - first)
    ask(stream + "get/json", c="rdy", f=file["fileid"], l=4096, o=first, n=wanted)
    for i in range(wanted):
        block = json.loads(receive(stream + "data/json").payload)
        assert block["i"] == first + i and block["c"] == "rdy", block
        image += base64.b64decode(block["p"])
assert image == firmware
ask(jobs + execution["jobId"] + "/update", status="SUCCEEDED", statusDetails={"reason": "accepted"})
receive(jobs + execution["jobId"] + "/update/accepted")
while iot.describe_job(jobId=execution["jobId"])["job"]["status"] != "COMPLETED":
    assert time.monotonic() < deadline + TIMEOUT, "the job does not complete"
iot.delete_ota_update(otaUpdateId=update, deleteStream=True)

# A command.
made = iot.create_command(
    commandId=command, payloadTemplate='{"light":"${aws:iot:commandexecution::parameter:light}"}',
    preprocessor={"awsJsonSubstitution": {"outputFormat": "JSON"}}, mandatoryParameters=[{"name": "light", "type": "BOOLEAN"}])
executions = "$aws/commands/things/%s/executions/" % thing
subscribe(executions + "+/request/json", executions + "+/response/accepted/json")
try:
    starter.start_command_execution(commandArn=made["commandArn"], targetArn=arn)
    raise AssertionError("started without its parameter")
except starter.exceptions.ValidationException as error:
    assert "light" in error.response["Error"]["Message"]
started = starter.start_command_execution(commandArn=made["commandArn"], targetArn=arn, parameters={"light": {"B": True}}, executionTimeoutSeconds=60)["executionId"]
request = receive(executions + started + "/request/json")
assert json.loads(request.payload) == {"light": True}
assert request.properties.ContentType == "application/json" and 0 < request.properties.MessageExpiryInterval <= 60, request.properties
ask(executions + started + "/response/json", status="SUCCEEDED", result={"lumen": {"s": "800"}})
receive(executions + started + "/response/accepted/json")
done = iot.get_command_execution(executionId=started, targetArn=arn, includeResult=True)
assert done["status"] == "SUCCEEDED" and done["result"] == {"lumen": {"S": "800"}}, done
iot.delete_command_execution(executionId=started, targetArn=arn)
assert iot.delete_command(commandId=command)["statusCode"] == 202
assert iot.get_command(commandId=command)["pendingDeletion"]
device.disconnect()
print("ok", file=sys.stderr)
